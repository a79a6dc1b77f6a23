//! Free space of the file systems that callspan writes to.

use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::spool::storage::FolderMarker;

/// Level of the free space of a file system. A worse level compares as greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskLevel {
    /// There is enough free space.
    #[default]
    Fine,
    /// Less than [`LOW_PERCENT`] or [`LOW_BYTES`] is free: a person has time to act.
    Low,
    /// Less than [`CRITICAL_PERCENT`] is free: recording will soon stop.
    Critical,
    /// Nothing can be written: the file system is mounted read-only or cannot be read.
    ReadOnly,
    /// The folder is not on its usual disk, so nothing may be written to the folder.
    Missing,
}

/// Size and free space of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskSpace {
    /// Number of free bytes that this process can use.
    pub(crate) free: u64,
    /// Size of the file system in bytes.
    pub(crate) total: u64,
    /// Whether the file system is mounted read-only.
    pub(crate) is_read_only: bool,
}

/// A folder that the service writes to, and the space of its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FolderSpace {
    /// Name of the folder in metrics and on pages of the console, e.g. `spool`.
    pub(crate) folder: &'static str,
    pub(crate) space: DiskSpace,
}

/// A change of the level of a folder's file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskChange {
    /// Name of the folder's configuration section: `spool`, `state` or `recording`.
    pub section: &'static str,
    /// Path of the folder.
    pub path: PathBuf,
    /// The level that the file system has now.
    pub level: DiskLevel,
    /// Description of the change of free space, for the administrator.
    pub detail: String,
}

/// Checks the file systems of several folders, and reports when their levels change.
#[derive(Debug)]
pub struct DiskWatch {
    folders: Vec<WatchedFolder>,
}

#[derive(Debug)]
struct WatchedFolder {
    section: &'static str,
    path: PathBuf,
    marker: Option<FolderMarker>,
    level: DiskLevel,
}

impl DiskWatch {
    /// Creates a [`DiskWatch`] for several folders, each given with the name of its configuration section.
    pub fn new(folders: impl IntoIterator<Item = (&'static str, PathBuf)>) -> Self {
        let watched = |(section, path): (&'static str, PathBuf)| {
            let marker = FolderMarker::of(&path);
            WatchedFolder { section, path, marker, level: DiskLevel::Fine }
        };
        Self { folders: folders.into_iter().map(watched).collect() }
    }

    /// Checks the file system of every folder. Returns the folders whose level changed since the last check.
    pub fn check(&mut self) -> Vec<DiskChange> {
        let mut changes = Vec::new();
        for WatchedFolder { section, path, marker, level: before } in &mut self.folders {
            let on_disk = marker.as_ref().map_or(Ok(()), FolderMarker::check);
            let (level, detail) = match (on_disk, disk_space(path)) {
                (Err(missing), _) => (DiskLevel::Missing, missing.to_string()),
                (Ok(()), Ok(space)) => (level_of(space), sentence(section, path, space)),
                (Ok(()), Err(error)) => {
                    (DiskLevel::ReadOnly, format!("the {section} folder {} cannot be read: {error}", path.display()))
                }
            };
            if level != *before {
                *before = level;
                changes.push(DiskChange { section, path: path.clone(), level, detail });
            }
        }
        changes
    }
}

/// A function that returns the space of a folder's file system, e.g. [`disk_space`].
pub(crate) type DiskReader = fn(&Path) -> std::io::Result<DiskSpace>;

/// Returns the space of a folder's file system. For a missing folder, it is the file system on which the folder would
/// be created.
///
/// # Errors
/// Fails if the operating system cannot read the file system.
pub(crate) fn disk_space(path: &Path) -> std::io::Result<DiskSpace> {
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or_else(|| Path::new("/"));
    let stat = statvfs(existing)?;
    let block = stat.f_frsize.max(1);
    Ok(DiskSpace {
        free: stat.f_bavail.saturating_mul(block),
        total: stat.f_blocks.saturating_mul(block),
        is_read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// Returns the level of a file system with this size and free space.
pub(crate) fn level_of(space: DiskSpace) -> DiskLevel {
    let percent = |part: u64| u128::from(space.total) * u128::from(part) / 100;
    let free = u128::from(space.free);
    if space.is_read_only {
        DiskLevel::ReadOnly
    } else if free < percent(CRITICAL_PERCENT) || space.free == 0 {
        DiskLevel::Critical
    } else if free < percent(LOW_PERCENT) || space.free < LOW_BYTES {
        DiskLevel::Low
    } else {
        DiskLevel::Fine
    }
}

fn sentence(section: &str, path: &Path, space: DiskSpace) -> String {
    let mib = space.free >> 20;
    let percent = u128::from(space.free) * 100 / u128::from(space.total.max(1));
    let path = path.display();
    match level_of(space) {
        DiskLevel::Fine => format!("the {section} folder {path} has enough free space again: {mib} MiB ({percent} %)"),
        DiskLevel::Low => format!(
            "the {section} folder {path} has {mib} MiB ({percent} %) left: free some space, or set [recording] keep_days or max_disk_gib"
        ),
        DiskLevel::Critical => {
            format!(
                "the {section} folder {path} is full ({mib} MiB left): free some space now; calls are lost once the memory is full too"
            )
        }
        DiskLevel::ReadOnly | DiskLevel::Missing => format!(
            "the {section} folder {path} is read-only. If its disk is mounted read-only, look at `dmesg`, repair the disk and mount it again. If the folder was chosen newly, allow it to the service: systemctl edit callspan, [Service] ReadWritePaths=FOLDER"
        ),
    }
}

/// Free share of a file system, per cent, below which its level is `Low`.
pub(crate) const LOW_PERCENT: u64 = 10;
/// Free space, bytes, below which the level is `Low`, even on a small disk. One hundred simultaneous calls fill this
/// space in a few minutes.
pub(crate) const LOW_BYTES: u64 = 1 << 30;
/// Free share of a file system, per cent, below which its level is `Critical`.
pub(crate) const CRITICAL_PERCENT: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn level(free: u64, total: u64) -> DiskLevel {
        level_of(DiskSpace { free, total, is_read_only: false })
    }

    #[test]
    fn level_depends_on_free_share_and_one_gib() {
        assert_eq!(level(11 * GIB, 100 * GIB), DiskLevel::Fine);
        assert_eq!(level(9 * GIB, 100 * GIB), DiskLevel::Low, "less than 10 %");
        assert_eq!(level(GIB / 2, 4 * GIB), DiskLevel::Low, "more than 10 %, less than 1 GiB");
        assert_eq!(level(GIB, 100 * GIB), DiskLevel::Critical, "less than 2 %");
        assert_eq!(level(0, 0), DiskLevel::Critical);
        assert_eq!(level_of(DiskSpace { free: 99 * GIB, total: 100 * GIB, is_read_only: true }), DiskLevel::ReadOnly);
    }

    #[test]
    fn folder_is_reported_once_for_each_change() {
        let mut watch = DiskWatch::new([("spool", PathBuf::from("/proc/self/no/such"))]);
        let first = watch.check();
        assert!(watch.check().is_empty(), "unchanged since {first:?}");
        assert!(disk_space(Path::new("/")).unwrap().total > 0);
    }
}
