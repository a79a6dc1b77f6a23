//! Publishes files: a file gets its final name only when it is complete and synced to disk.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Returns the name of a file until it is complete.
pub(super) fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Publishes a complete `.part` file under its final name: fsync, rename, fsync of the folder.
///
/// # Errors
/// Fails if the operating system refuses one of the steps.
pub(super) fn publish(path: &Path) -> io::Result<()> {
    let temporary = temporary_path(path);
    File::open(&temporary)?.sync_all()?;
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Writes and publishes a small file.
///
/// # Errors
/// Fails if the operating system refuses one of the steps; then no `.part` file is left.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_path(path);
    std::fs::write(&temporary, bytes).and_then(|()| publish(path)).inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary); // a partial file is of no use
    })
}

/// Returns the size and the SHA-256 (lower-case hex) of a file.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn digest(path: &Path) -> io::Result<(u64, String)> {
    digest_of(&mut File::open(path)?)
}

/// Returns the size and the SHA-256 (lower-case hex) of an input.
pub(super) fn digest_of(file: &mut dyn io::Read) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hash.update(&buffer[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((bytes, hex(hash)))
}

/// Returns a hash as lower-case hex.
pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
