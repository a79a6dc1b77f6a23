//! Replaces a small file of the state folder as a whole, so that no reader gets an incomplete file.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Replaces a file by a rename: a reader gets either the old or the new contents. Only the owner can read the file,
/// because it may contain alarms and addresses. After a power cut the new contents may be lost.
///
/// # Errors
/// Fails if the file cannot be written or renamed.
pub(crate) fn replace_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut part = OsString::from(path);
    part.push(".part");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(&part)?.write_all(contents)?;
    std::fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn contents_are_replaced_and_only_the_owner_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        replace_file(&path, b"a long first text").unwrap();
        replace_file(&path, b"short").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no part is left");
    }
}
