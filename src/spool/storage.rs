//! Marks the folders of a service, so that a missing or exchanged disk is noticed.
//!
//! Each folder has a marker, the file [`FILE_NAME`], with the id of the folder and the ids of the service's other
//! folders. A folder without its marker is used in two cases. Either it is new, or it is on the same file system as
//! before, so somebody emptied it.
//!
//! # Invariants
//! - Nothing is written below the mount point of a file system that is missing.
//! - If a marker cannot be written, the folder is used without this protection: a full disk must not stop the service.
//! - An empty marker means that a person wants this disk to be used from now on.

use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::make_private;

/// A folder of the service: the name of its configuration section, and its path.
pub(crate) type StorageFolder<'a> = (&'static str, &'a Path);

/// A folder is no longer on the file system on which it was before.
#[derive(Debug, thiserror::Error)]
#[error(
    "the {section} folder {} is not on its disk: {why}. Nothing is written there. If this disk is to be used from now on, \
     run as root: truncate -s 0 {}", dir.display(), marker_path(dir).display()
)]
pub(crate) struct StorageMissing {
    section: String,
    dir: PathBuf,
    why: String,
}

/// Contents of a folder's marker file, by which the folder's disk is recognized.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct MarkerFile {
    folder: MarkedFolder,
    /// Ids and file systems of the service's other folders.
    others: Vec<MarkedFolder>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct MarkedFolder {
    section: String,
    dir: PathBuf,
    id: String,
    /// Mount point of the file system that holds the folder.
    mount: PathBuf,
    /// Id of the file system that holds the folder (statvfs(3)).
    file_system: u64,
}

/// State of a folder's marker file, by which the folder's disk is recognized.
#[derive(Debug)]
enum MarkerState {
    /// The folder has no marker file.
    None,
    /// The marker file is empty: a person wants this disk to be used from now on.
    Empty,
    There(MarkerFile),
}

/// Checks that each folder is on the file system that its marker names. Writes nothing.
///
/// # Errors
/// Fails with the first folder that is not on its file system.
pub(crate) fn check_all(folders: &[StorageFolder<'_>]) -> Result<(), StorageMissing> {
    let states: Vec<MarkerState> = folders.iter().map(|(_, dir)| read(dir)).collect();
    for ((section, dir), state) in folders.iter().zip(&states) {
        let missing = |why: String| StorageMissing { section: (*section).to_owned(), dir: (*dir).to_owned(), why };
        if let Some(mount) = unmounted_in(dir, FSTAB) {
            return Err(missing(format!("{} is in /etc/fstab, and nothing is mounted there", mount.display())));
        }
        let known = states.iter().filter_map(|state| match state {
            MarkerState::There(marker) => marker.others.iter().find(|other| other.dir == *dir),
            MarkerState::None | MarkerState::Empty => None,
        });
        for expected in known {
            match state {
                MarkerState::There(found) if found.folder.id != expected.id => {
                    return Err(missing(String::from(
                        "the disk belongs to another recorder, or is an earlier disk of this recorder",
                    )));
                }
                MarkerState::None if file_system(dir) != expected.file_system => {
                    return Err(missing(why_missing(dir, &expected.mount)));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Writes the marker files that are missing or outdated. Call [`check_all`] before, so that no wrong disk gets a
/// marker.
pub(crate) fn mark_all(folders: &[StorageFolder<'_>]) {
    let marked: Vec<MarkedFolder> = folders.iter().map(|(section, dir)| describe(section, dir)).collect();
    for folder in &marked {
        let others = marked.iter().filter(|other| other.dir != folder.dir).cloned().collect();
        let marker = MarkerFile { folder: folder.clone(), others };
        let is_current = matches!(read(&folder.dir), MarkerState::There(found) if found == marker);
        if !is_current && let Err(error) = write(&folder.dir, &marker) {
            tracing::warn!(path = %folder.dir.display(), "the folder cannot be marked: {error}");
        }
    }
}

/// The marker of a folder that callspan writes to. It holds an identity, so that the service notices when another disk
/// or no disk is mounted there.
#[derive(Clone, Debug)]
pub(crate) struct FolderMarker {
    marker: MarkerFile,
    dir: PathBuf,
    device: u64,
}

impl FolderMarker {
    /// Returns the marker that the marker file of a folder contains; `None` if there is no marker file, or if it is
    /// empty.
    pub(crate) fn of(dir: &Path) -> Option<Self> {
        match read(dir) {
            MarkerState::There(marker) => Some(Self { marker, dir: dir.to_owned(), device: device(dir) }),
            MarkerState::None | MarkerState::Empty => None,
        }
    }

    /// Checks that the folder is still on its file system. Creates the folder or its marker file again if somebody
    /// removed it.
    ///
    /// # Errors
    /// Fails if the disk is not mounted, or if another disk is mounted.
    pub(crate) fn check(&self) -> Result<(), StorageMissing> {
        let MarkedFolder { section, id, mount, .. } = &self.marker.folder;
        let missing = |why| StorageMissing { section: section.clone(), dir: self.dir.clone(), why };
        match read(&self.dir) {
            MarkerState::There(found) if found.folder.id == *id => Ok(()),
            MarkerState::There(_) => Err(missing(String::from("another disk with a folder of callspan is there"))),
            MarkerState::Empty => Ok(()),
            MarkerState::None if device(&self.dir) == self.device => {
                if let Err(error) = write(&self.dir, &self.marker) {
                    tracing::warn!(path = %self.dir.display(), "the folder cannot be marked: {error}");
                }
                Ok(())
            }
            MarkerState::None => Err(missing(why_missing(&self.dir, mount))),
        }
    }
}

fn why_missing(dir: &Path, mount: &Path) -> String {
    match mount_point(dir) == mount {
        true => format!("another disk is mounted at {}", mount.display()),
        false => format!("{} is not mounted", mount.display()),
    }
}

fn marker_path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

/// Reads the marker file of a folder. An unreadable marker counts as empty: only a missing marker shows that a disk is
/// missing.
fn read(dir: &Path) -> MarkerState {
    match std::fs::read(marker_path(dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => MarkerState::None,
        Ok(bytes) => serde_json::from_slice(&bytes).map_or(MarkerState::Empty, MarkerState::There),
        Err(_) => MarkerState::Empty,
    }
}

fn write(dir: &Path, marker: &MarkerFile) -> io::Result<()> {
    make_private(dir)?;
    let (path, new) = (marker_path(dir), dir.join(format!("{FILE_NAME}.new")));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    serde_json::to_writer(&mut file, marker)?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

/// Returns the facts about a folder that its marker must contain. The folder keeps its id, or gets a new id if it has
/// no marker.
fn describe(section: &str, dir: &Path) -> MarkedFolder {
    let id = match read(dir) {
        MarkerState::There(marker) => marker.folder.id,
        MarkerState::None | MarkerState::Empty => format!("{:016x}", fastrand::u64(..)),
    };
    let (mount, file_system) = (mount_point(dir), file_system(dir));
    MarkedFolder { section: section.to_owned(), dir: dir.to_owned(), id, mount, file_system }
}

/// Returns a folder, or the nearest folder above it that exists.
fn nearest(dir: &Path) -> &Path {
    dir.ancestors().find(|path| path.exists() && !path.as_os_str().is_empty()).unwrap_or_else(|| Path::new("/"))
}

/// Returns the device number of a folder, or of the nearest existing folder above it.
fn device(dir: &Path) -> u64 {
    std::fs::metadata(nearest(dir)).map_or(0, |found| found.dev())
}

/// Returns the id of the file system that holds a folder or will hold it. Unlike the device number, the id stays the
/// same across restarts of the machine.
fn file_system(dir: &Path) -> u64 {
    rustix::fs::statvfs(nearest(dir)).map_or(0, |found| found.f_fsid)
}

/// Returns the mount point of the file system that holds a folder or will hold it.
fn mount_point(dir: &Path) -> PathBuf {
    let nearest = std::path::absolute(nearest(dir)).unwrap_or_else(|_| PathBuf::from("/"));
    let here = device(&nearest);
    let top = nearest.ancestors().take_while(|path| device(path) == here).last();
    top.unwrap_or(&nearest).to_owned()
}

/// Returns the mount point of a folder according to `fstab`, if nothing is mounted there; `None` otherwise. The mount
/// point is the folder itself or lies above it.
fn unmounted_in(dir: &Path, fstab: &str) -> Option<PathBuf> {
    let dir = std::path::absolute(dir).ok()?;
    let table = std::fs::read_to_string(fstab).ok()?;
    let points = table.lines().filter(|line| !line.trim_start().starts_with('#'));
    let points = points.filter_map(|line| line.split_whitespace().nth(1)).map(|point| point.replace("\\040", " "));
    // Several mount points may be above the folder. The mount point with the longest path is that of the folder's file
    // system.
    let point = points.map(PathBuf::from).filter(|point| dir.starts_with(point)).max_by_key(|p| p.as_os_str().len())?;
    let is_mounted = point == Path::new("/") || point.parent().is_none_or(|above| device(above) != device(&point));
    (!is_mounted).then_some(point)
}

/// Name of the marker file that is written into each folder.
pub(crate) const FILE_NAME: &str = ".callspan-storage";
const FSTAB: &str = "/etc/fstab";

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(dir: &Path) -> [PathBuf; 2] {
        ["spool", "calls"].map(|name| dir.join(name))
    }

    #[test]
    fn marked_folder_that_lost_its_disk_is_reported() {
        let dir = tempfile::tempdir().expect("a folder");
        let [spool, calls] = folders(dir.path());
        let all: [StorageFolder<'_>; 2] = [("spool", &spool), ("recording", &calls)];
        check_all(&all).expect("all is new");
        mark_all(&all);
        check_all(&all).expect("unchanged");
        let marker = FolderMarker::of(&calls).expect("marked");
        marker.check().expect("unchanged");
        // Somebody emptied the folder: its marker is missing, but the file system is the same. So the folder is still
        // used.
        std::fs::remove_dir_all(&calls).expect("removed");
        check_all(&all).expect("emptied");
        marker.check().expect("emptied");
        assert!(marker_path(&calls).is_file(), "made again");
        // The marker in the spool folder names another file system for the recording folder, as if that disk was
        // exchanged. So the recording folder is refused.
        std::fs::remove_file(marker_path(&calls)).expect("removed");
        let MarkerState::There(mut of_spool) = read(&spool) else { panic!("marked") };
        of_spool.others[0].file_system ^= 1;
        of_spool.others[0].mount = PathBuf::from("/srv/calls");
        write(&spool, &of_spool).expect("written");
        let error = check_all(&all).expect_err("another disk").to_string();
        assert!(error.contains("recording folder") && error.contains("/srv/calls is not mounted"), "{error}");
        std::fs::write(marker_path(&calls), "").expect("written");
        check_all(&all).expect("a person wants it");
        mark_all(&all);
        assert!(FolderMarker::of(&calls).is_some());
        check_all(&all).expect("all markers are new");
        marker.check().expect_err("another id");
    }

    #[test]
    fn mount_point_of_fstab_without_a_mount_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let (point, table) = (dir.path().join("my disk"), dir.path().join("fstab"));
        std::fs::create_dir(&point).expect("made");
        let escaped = point.display().to_string().replace(' ', "\\040");
        std::fs::write(&table, format!("# comment\nUUID=1 / ext4\nUUID=2 {escaped} ext4 defaults 0 0\n"))
            .expect("written");
        let table = table.display().to_string();
        assert_eq!(unmounted_in(&point.join("calls"), &table), Some(point));
        assert_eq!(unmounted_in(dir.path(), &table), None, "on the root file system");
        assert_eq!(unmounted_in(dir.path(), "/no/such/table"), None);
    }
}
