//! The folder of the spool: opens files in it, and notices if its disk is missing or somebody replaced the folder.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::descriptors::DescriptorReserve;
use super::disk::make_private;
use super::storage::FolderMarker;

/// The folder of the spool, with the descriptors that are reserved for its files.
pub(super) struct SpoolFolder {
    path: PathBuf,
    /// The folder, open since the first sync; `None` before it.
    handle: Option<Arc<File>>,
    marker: Option<FolderMarker>,
    reserve: DescriptorReserve,
}

impl SpoolFolder {
    /// Creates the state of a folder, and reserves descriptors for its files.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { marker: FolderMarker::of(&path), path, handle: None, reserve: DescriptorReserve::take() }
    }

    /// Opens a file for appending. Creates the folder again if it is missing, but not if its disk is not mounted.
    pub(super) fn open_to_append(&mut self, file: &Path) -> io::Result<File> {
        let Self { path, marker, reserve, .. } = self;
        reserve.open(|| {
            check_disk(marker.as_ref())?;
            let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(file);
            open().or_else(|error| {
                if error.kind() != io::ErrorKind::NotFound {
                    return Err(error);
                }
                make_private(path)?;
                open()
            })
        })
    }

    /// Opens a file by calling `open`. If the process has no descriptor left, uses a reserved descriptor.
    pub(super) fn open_other<T>(&mut self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        self.check_disk()?;
        self.reserve.open(open)
    }

    /// Returns the open folder. It stays open from one sync to the next. A folder that is opened later gets a write
    /// error from Linux only if no other process has seen the error yet.
    pub(super) fn open(&mut self) -> io::Result<Arc<File>> {
        let Self { path, handle, reserve, .. } = self;
        match handle.take() {
            Some(open) => Ok(Arc::clone(handle.insert(open))),
            None => Ok(Arc::clone(handle.insert(Arc::new(reserve.open(|| File::open(&*path))?)))),
        }
    }

    /// Closes the folder. The next sync opens the folder that has its path then.
    pub(super) fn close(&mut self) {
        self.handle = None;
    }

    /// Opens the reserved descriptors again that were used.
    pub(super) fn refill_reserve(&mut self) {
        self.reserve.refill();
    }

    /// Returns the path of the folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether somebody replaced the open folder, or mounted another disk over it.
    pub(super) fn is_replaced(&self) -> bool {
        self.handle.as_ref().is_some_and(|open| !is_at(open, &self.path))
    }

    /// Checks that the disk of the spool is there. Fails with [`NO_DISK`] if it is not mounted, or if another disk is.
    pub(super) fn check_disk(&self) -> io::Result<()> {
        check_disk(self.marker.as_ref())
    }
}

/// Returns whether an open folder is the folder at this path, i.e. whether nobody has replaced it.
fn is_at(folder: &File, path: &Path) -> bool {
    let id = |found: std::fs::Metadata| (found.dev(), found.ino());
    folder.metadata().is_ok_and(|open| std::fs::metadata(path).is_ok_and(|there| id(open) == id(there)))
}

fn check_disk(marker: Option<&FolderMarker>) -> io::Result<()> {
    match marker.is_some_and(|marker| marker.check().is_err()) {
        true => Err(io::Error::from_raw_os_error(NO_DISK)),
        false => Ok(()),
    }
}

/// Error number (errno) of an attempt to open a file while the disk of the spool is missing.
pub(super) const NO_DISK: i32 = rustix::io::Errno::NODEV.raw_os_error();
