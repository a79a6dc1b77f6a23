//! Reserved disk space: a file that only takes up space. If the journal's disk is full when the service stops, the file
//! is removed, so that the last rows can be written.
//!
//! These rows record what Pyrus has already done. Without them the next start would send the same calls again.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use super::Journal;

impl Journal {
    /// Creates the reserve file, which keeps disk space free for the last rows, if it does not exist. On a full disk
    /// the service starts without a reserve.
    pub(crate) fn make_reserve(&self) {
        let Some(path) = self.reserve_path() else { return };
        if path.metadata().is_ok_and(|found| found.len() == RESERVE_BYTES as u64) {
            return;
        }
        let mut options = std::fs::OpenOptions::new();
        let made = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        // The file is filled with data, because a sparse file would not reserve disk space.
        let made = made.and_then(|mut file| file.write_all(&vec![1; RESERVE_BYTES]).and_then(|()| file.sync_all()));
        if let Err(error) = made {
            tracing::warn!(path = %path.display(), "no space can be reserved for the end of the service: {error}");
        }
    }

    /// Removes the reserve file, so that SQLite can use its disk space. Returns whether the file existed.
    pub(crate) fn free_reserve(&self) -> bool {
        let removed = self.reserve_path().ok_or(io::ErrorKind::NotFound.into()).and_then(std::fs::remove_file);
        removed.is_ok()
    }

    fn reserve_path(&self) -> Option<PathBuf> {
        let connection = self.lock();
        let file = connection.path().filter(|path| !path.is_empty())?;
        Some(PathBuf::from(file).with_file_name(RESERVE_NAME))
    }
}

const RESERVE_NAME: &str = "journal.reserve";
/// Size of the reserve, bytes: enough for some hundred rows of deliveries, and the pages that SQLite needs for its
/// write-ahead log.
const RESERVE_BYTES: usize = 256 * 1024;
