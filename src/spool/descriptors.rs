//! File descriptors that the spool reserves, so that other parts of the process cannot use up the last ones.
//!
//! The reserve is a few descriptors of `/dev/null`. When the process has no descriptor left, the spool closes a
//! reserved descriptor and opens its own file instead.

use std::fs::File;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// File descriptors that are reserved for the spool: open files of `/dev/null` that can be closed at any time.
#[derive(Debug, Default)]
pub(super) struct DescriptorReserve {
    spares: Vec<File>,
}

impl DescriptorReserve {
    /// Creates the reserve, and opens its descriptors.
    pub(super) fn take() -> Self {
        let mut this = Self::default();
        this.refill();
        this
    }

    /// Opens reserved descriptors in place of those that were closed, as far as the process may open descriptors.
    pub(super) fn refill(&mut self) {
        while self.spares.len() < RESERVED {
            let Ok(spare) = File::open("/dev/null") else { return };
            self.spares.push(spare);
        }
    }

    /// Opens a file by calling `open`. If the process has no descriptor left, closes a reserved descriptor and tries
    /// again.
    ///
    /// # Errors
    /// Fails as `open` does. If [`is_shortage`] holds for the error, the reserve is empty, too.
    pub(super) fn open<T>(&mut self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        loop {
            match open() {
                // Another thread can take the descriptor that was freed, so the loop may close several reserved
                // descriptors.
                Err(error) if is_shortage(&error) && self.spares.pop().is_some() => {}
                other => return other,
            }
        }
    }
}

/// Returns whether an error means that the process or the system has no file descriptor left.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Returns how many spool files may be open at the same time: a quarter of the descriptors that the process may have.
pub(super) fn max_open_files() -> usize {
    let limit =
        getrlimit(Resource::Nofile).current.map_or(MAX_OPEN, |limit| usize::try_from(limit).unwrap_or(MAX_OPEN));
    (limit / 4).clamp(MIN_OPEN, MAX_OPEN)
}

/// Number of reserved descriptors. One descriptor is enough to write all files one after the other. With more
/// descriptors, fewer files must be closed and opened again.
const RESERVED: usize = 8;
/// Maximum number of files kept open: more than the legs of 10,000 calls. With fewer open files, no file is closed to
/// make room for another.
const MAX_OPEN: usize = 16_384;
/// Minimum number of files kept open, for a process with few descriptors.
const MIN_OPEN: usize = 4;
