//! Locks a folder for one process at a time. The kernel releases the lock when the process ends, even by a crash.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::recording;

/// A lock on a folder, which lasts until this value is dropped.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

/// The reason why a folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another process holds the lock of the folder.
    #[error(
        "the folder {folder} is in use by another callspan{holder}: stop it, or give each its own [spool] dir and [state] dir"
    )]
    Taken {
        /// Path of the folder that is locked.
        folder: PathBuf,
        /// Text about the process that holds the lock, e.g. ` (process 123)`; empty if unknown.
        holder: String,
    },
    /// The lock file cannot be created. The text says which user needs access.
    #[error(
        "the lock file {path} cannot be created ({source}): the user that runs callspan (number {user}) must own the \
         folder. If root ran callspan here, as root: chown -R callspan: {}. Otherwise set another [spool] dir and \
         [state] dir", path.parent().unwrap_or(path).display()
    )]
    Io {
        /// Path of the lock file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
        /// User id of this process.
        user: u32,
    },
}

/// Locks a folder, and creates the folder if it does not exist. Never waits.
///
/// # Errors
/// Fails if another process holds the lock, or the lock file cannot be created.
pub(crate) fn acquire(folder: &Path) -> Result<FolderLock, LockError> {
    let path = folder.join(FILE_NAME);
    let failed = |source| LockError::Io { path: path.clone(), source, user: rustix::process::geteuid().as_raw() };
    make_private(folder).map_err(failed)?;
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(NO_LINK)
        .open(&path)
        .map_err(failed)?;
    // Root may run a command before the service starts. The service runs as another user and must be able to open the
    // lock file, too. So the file gets the owner of its folder.
    recording::give_to_owner_of_folder(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(LockError::Taken { folder: folder.to_owned(), holder: holder(&mut file) });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // The process id in the file only helps people who read the error. If a full disk prevents the write, the lock
    // still works.
    let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    Ok(FolderLock { _file: file })
}

/// Returns whether a process holds the lock of a folder. Changes nothing.
pub(crate) fn is_held(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(FILE_NAME)) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Returns the time at which a process last locked a folder, i.e. wrote its lock file; `None` if unknown.
pub(crate) fn taken_at(folder: &Path) -> Option<std::time::SystemTime> {
    folder.join(FILE_NAME).metadata().and_then(|found| found.modified()).ok()
}

/// Reads from the lock file the id of the process that holds the lock. Returns it as a text for an error message.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(MAX_HOLDER).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(pid) if read.is_ok() => format!(" (process {pid})"),
        _ => String::new(),
    }
}

/// Creates a folder to which only one user has access, if the folder does not exist. This user is the user of the
/// process; for root, it is the owner of the parent folder.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    recording::make_private_folder(folder)
}

/// Flag that refuses to open a symbolic link. Without it, the owner of the folder could make root write to any file.
const NO_LINK: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
/// Name of the lock file in its folder.
const FILE_NAME: &str = "callspan.lock";
/// Maximum number of bytes that are read from the lock file. It is more than the digits of a process id.
const MAX_HOLDER: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_locked_once_and_free_after_its_holder() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("spool");
        let first = acquire(&folder).expect("nobody holds the lock");
        let error = acquire(&folder).expect_err("the lock is held");
        assert!(matches!(error, LockError::Taken { .. }), "{error}");
        assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
        assert!(is_held(&folder) && taken_at(&folder).is_some());
        drop(first);
        assert!(!is_held(&folder));
        acquire(&folder).expect("the lock was released");
    }
}
