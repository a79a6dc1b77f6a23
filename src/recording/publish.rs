//! Publishes files: a file gets its final name only when it is complete and synced to disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
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

/// Creates a folder, and those above it, with mode 0700, whatever the umask. A folder that exists is not changed.
pub(crate) fn make_private_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.is_dir()).collect();
    for path in missing.into_iter().rev() {
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => give_to_owner_of_folder(path)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {} // another thread made it
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Creates a file with mode 0600, whatever the umask.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    // A file that an earlier process left keeps its mode, so it is made again.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(path)?;
    give_to_owner_of_folder(path)?;
    Ok(file)
}

/// Gives a new file or folder that root made to the owner of the folder it lies in: the service must be able to read and
/// remove what an administrator rendered again.
fn give_to_owner_of_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = std::fs::metadata(folder)?;
    match (owner.uid(), owner.gid()) {
        (0, 0) => Ok(()),
        (user, group) => std::os::unix::fs::lchown(path, Some(user), Some(group)),
    }
}

/// Writes and publishes a small file.
///
/// # Errors
/// Fails if the operating system refuses one of the steps; then no `.part` file is left.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_path(path);
    let written = create_private(&temporary).and_then(|mut file| file.write_all(bytes));
    written.and_then(|()| publish(path)).inspect_err(|_| {
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
