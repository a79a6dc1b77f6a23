//! Publishes files: a file gets its final name only when it is complete and synced to disk.
//!
//! The files of one or several calls are published as a group. Each file is synced through the handle that wrote it, if
//! that handle is still open, so that no write error is missed. Then all files are renamed, and each folder is synced
//! once.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::text::hex;

/// Returns the temporary name of a file: its final name with `.part` at the end.
pub(super) fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// A file that still has its temporary name, because it is not complete or not published yet. Dropping this value
/// removes the file.
#[derive(Debug)]
pub(super) struct PartFile {
    /// Final path, which the file gets when it is published.
    path: PathBuf,
    /// Handle by which the file is written; `None` after the file was closed.
    file: Option<Arc<File>>,
    need: SyncNeed,
    is_published: bool,
}

/// Whether a file must be synced before it gets its final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncNeed {
    Synced,
    /// The file is not synced. After a power cut it may be empty.
    Unsynced,
}

impl PartFile {
    /// Creates an empty file under the `.part` name of `path`. Returns the file, and the handle to write to it.
    pub(super) fn create(path: PathBuf, need: SyncNeed) -> io::Result<(Self, Arc<File>)> {
        let file = Arc::new(create_private(&temporary_path(&path))?);
        Ok((Self { path, file: Some(Arc::clone(&file)), need, is_published: false }, file))
    }

    /// Closes the handle of a complete file. The system then begins to write the file to the disk.
    pub(super) fn close(&mut self) {
        self.start_writeback();
        self.file = None;
    }

    /// Returns the final path, which the file gets when it is published.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl PartFile {
    /// Asks the system to begin writing the file to the disk, so that the later sync is short. An error does no harm,
    /// because the sync reports it.
    #[expect(unsafe_code, reason = "sync_file_range(2) has no safe form in std or rustix")]
    fn start_writeback(&self) {
        use std::os::fd::AsRawFd as _;
        if let (Some(file), SyncNeed::Synced) = (&self.file, self.need) {
            // SAFETY: the file is open while the function runs, and the function gets numbers and no pointer.
            let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
        }
    }

    fn sync(&self) -> io::Result<()> {
        match (self.need, &self.file) {
            (SyncNeed::Unsynced, _) => Ok(()),
            (SyncNeed::Synced, Some(file)) => file.sync_all(),
            (SyncNeed::Synced, None) => File::open(temporary_path(&self.path))?.sync_all(),
        }
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.is_published {
            let _ = std::fs::remove_file(temporary_path(&self.path)); // on failure the next start removes it
        }
    }
}

/// Complete files that get their final names together. Dropping the group removes the files.
#[derive(Debug, Default)]
pub(super) struct PublishGroup(Vec<PartFile>);

impl PublishGroup {
    /// Adds a complete file to the group of files that get their final names together.
    pub(super) fn add(&mut self, mut part: PartFile) {
        match part.need {
            SyncNeed::Synced => part.start_writeback(),
            SyncNeed::Unsynced => part.close(),
        }
        self.0.push(part);
    }

    /// Adds the files of another group to this group.
    pub(super) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Returns the number of files of the group that are still open.
    pub(super) fn open_files(&self) -> usize {
        self.0.iter().filter(|part| part.file.is_some()).count()
    }

    /// Gives the files their final names: fsync of each file that needs it, then all renames, then fsync of each
    /// folder.
    ///
    /// # Errors
    /// Fails with the path of the file or folder for which a step failed. No file gets its final name before all files
    /// are synced.
    pub(super) fn publish(mut self) -> Result<(), (PathBuf, io::Error)> {
        for part in &self.0 {
            part.sync().map_err(|error| (part.path.clone(), error))?;
        }
        for part in &mut self.0 {
            std::fs::rename(temporary_path(&part.path), &part.path).map_err(|error| (part.path.clone(), error))?;
            part.is_published = true;
        }
        let folders: BTreeSet<&Path> = self.0.iter().filter_map(|part| part.path.parent()).collect();
        for folder in folders {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| (folder.to_owned(), error))?;
        }
        Ok(())
    }
}

/// Publishes a complete `.part` file under its final name: fsync, rename, fsync of the folder.
///
/// # Errors
/// Fails if one of the steps fails.
pub(super) fn publish(path: &Path) -> io::Result<()> {
    let temporary = temporary_path(path);
    File::open(&temporary)?.sync_all()?;
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Creates a folder and the missing folders above it. They get mode 0700, whatever the umask. A folder that exists is
/// not changed.
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

/// Creates a file that only its owner can read (mode 0600), whatever the umask.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    let create = || OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(path);
    let file = create().or_else(|error| match error.kind() {
        // An existing file, left by an earlier process, would keep its access mode, so it is removed and created again.
        io::ErrorKind::AlreadyExists => std::fs::remove_file(path).and_then(|()| create()),
        _ => Err(error),
    })?;
    give_to_owner_of_folder(path)?;
    Ok(file)
}

/// Gives a file or folder that root created to the owner of its parent folder. The service must be able to read and
/// remove recordings that an administrator rendered again.
pub(crate) fn give_to_owner_of_folder(path: &Path) -> io::Result<()> {
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

/// Writes a small file under its temporary name.
///
/// # Errors
/// Fails if a step fails. Then no `.part` file is left.
pub(super) fn write_part(path: PathBuf, bytes: &[u8], need: SyncNeed) -> io::Result<PartFile> {
    let (part, file) = PartFile::create(path, need)?;
    (&*file).write_all(bytes)?;
    Ok(part)
}

/// Returns the size in bytes and the SHA-256 (lower-case hexadecimal) of a file.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn digest(path: &Path) -> io::Result<(u64, String)> {
    digest_of(&mut File::open(path)?)
}

/// Returns the size in bytes and the SHA-256 (lower-case hexadecimal) of everything that a reader yields.
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
    Ok((bytes, hex(&hash.finalize())))
}
