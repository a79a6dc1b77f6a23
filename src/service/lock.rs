//! One process at a time for a folder: a lock that the system gives back when its holder is gone, however it went.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A folder that is ours until this is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a folder is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "the folder {folder} is in use by another callspan{holder}: stop it, or give each its own [spool] dir and [state] dir"
    )]
    Taken {
        /// The folder.
        folder: PathBuf,
        /// ` (process 123)`, or nothing.
        holder: String,
    },
    /// The lock file cannot be made.
    #[error(
        "the lock {path} cannot be had ({source}): the user of the service (number {user} now) must own its folder; as \
         root: chown -R callspan: FOLDER, or name another [spool] dir and [state] dir"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// Number of the user that asked.
        user: u32,
    },
}

/// Takes a folder, which is made if it is not there. Does not wait.
///
/// # Errors
/// When another process has it, or the lock file cannot be made.
pub fn take(folder: &Path) -> Result<Lock, LockError> {
    let path = folder.join(FILE_NAME);
    let failed = |source| LockError::Io { path: path.clone(), source, user: rustix::process::geteuid().as_raw() };
    make_private(folder).map_err(failed)?;
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(LockError::Taken { folder: folder.to_owned(), holder: holder(&mut file) });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // For people only: on a full disk the lock holds without it.
    let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    Ok(Lock { _file: file })
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(MAX_HOLDER).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(pid) if read.is_ok() => format!(" (process {pid})"),
        _ => String::new(),
    }
}

/// Makes a folder that is there for us alone, if it is not there.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Name of the lock in its folder.
const FILE_NAME: &str = "callspan.lock";
/// Digits of a process id, with room.
const MAX_HOLDER: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_once_and_free_again_when_its_holder_is_gone() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("spool");
        let first = take(&folder).expect("nobody has it");
        let error = take(&folder).expect_err("it is taken");
        assert!(matches!(error, LockError::Taken { .. }), "{error}");
        assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
        drop(first);
        take(&folder).expect("it is free");
    }
}
