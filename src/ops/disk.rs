//! How much room there is where callspan writes.

use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

/// How bad it is; worse is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Room enough.
    #[default]
    Fine,
    /// Less than [`LOW_PERCENT`] or [`LOW_BYTES`]: a person has time to act.
    Low,
    /// Less than [`CRITICAL_PERCENT`]: recording stops in a moment.
    Critical,
    /// Nothing can be written at all: mounted read-only, or not there.
    ReadOnly,
}

/// What a file system says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that we may still write.
    pub free: u64,
    /// Size.
    pub total: u64,
    /// Mounted read-only.
    pub is_read_only: bool,
}

/// A folder whose level has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name of its section: `spool`, `state`, `recording`.
    pub section: &'static str,
    /// The folder.
    pub path: PathBuf,
    /// How bad it is now.
    pub level: Level,
    /// One sentence for an admin.
    pub detail: String,
}

/// Watches folders; says when one gets worse or is well again.
#[derive(Debug)]
pub struct DiskWatch {
    folders: Vec<(&'static str, PathBuf, Level)>,
}

impl DiskWatch {
    /// Watches these folders, by the name of their section.
    pub fn new(folders: impl IntoIterator<Item = (&'static str, PathBuf)>) -> Self {
        Self { folders: folders.into_iter().map(|(section, path)| (section, path, Level::Fine)).collect() }
    }

    /// Looks. A folder is reported when its level is another than at the last look.
    pub fn look(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (section, path, before) in &mut self.folders {
            let (level, detail) = match room(path) {
                Ok(room) => (level_of(room), sentence(section, path, room)),
                Err(error) => {
                    (Level::ReadOnly, format!("the {section} folder {} cannot be read: {error}", path.display()))
                }
            };
            if level != *before {
                *before = level;
                changes.push(Change { section, path: path.clone(), level, detail });
            }
        }
        changes
    }
}

/// The room where a folder is, or would be made.
///
/// # Errors
/// When the system does not say.
pub fn room(path: &Path) -> std::io::Result<Room> {
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or_else(|| Path::new("/"));
    let stat = statvfs(existing)?;
    let block = stat.f_frsize.max(1);
    Ok(Room {
        free: stat.f_bavail.saturating_mul(block),
        total: stat.f_blocks.saturating_mul(block),
        is_read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// How bad this is.
pub fn level_of(room: Room) -> Level {
    let percent = |part: u64| u128::from(room.total) * u128::from(part) / 100;
    let free = u128::from(room.free);
    if room.is_read_only {
        Level::ReadOnly
    } else if free < percent(CRITICAL_PERCENT) || room.free == 0 {
        Level::Critical
    } else if free < percent(LOW_PERCENT) || room.free < LOW_BYTES {
        Level::Low
    } else {
        Level::Fine
    }
}

fn sentence(section: &str, path: &Path, room: Room) -> String {
    let mib = room.free >> 20;
    let percent = u128::from(room.free) * 100 / u128::from(room.total.max(1));
    let path = path.display();
    match level_of(room) {
        Level::Fine => format!("the {section} folder {path} has room again: {mib} MiB ({percent} %)"),
        Level::Low => format!(
            "the {section} folder {path} has {mib} MiB ({percent} %) left: make room, or let [recording] keep_days or max_disk_gib do it"
        ),
        Level::Critical => {
            format!("the {section} folder {path} is full ({mib} MiB left): calls are lost when memory is full, too")
        }
        Level::ReadOnly => format!(
            "the file system of the {section} folder {path} is mounted read-only, as Linux does after a disk error: look at `dmesg`, mend it, mount it again"
        ),
    }
}

/// Below this share it is time to act.
pub const LOW_PERCENT: u64 = 10;
/// Below this it is time to act, however small its share: one hundred calls side by side fill it in three minutes.
pub const LOW_BYTES: u64 = 1 << 30;
/// Below this share recording stops in a moment.
pub const CRITICAL_PERCENT: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn level(free: u64, total: u64) -> Level {
        level_of(Room { free, total, is_read_only: false })
    }

    #[test]
    fn levels_are_shares_and_one_gib() {
        assert_eq!(level(11 * GIB, 100 * GIB), Level::Fine);
        assert_eq!(level(9 * GIB, 100 * GIB), Level::Low, "less than 10 %");
        assert_eq!(level(GIB / 2, 4 * GIB), Level::Low, "more than 10 %, less than 1 GiB");
        assert_eq!(level(GIB, 100 * GIB), Level::Critical, "less than 2 %");
        assert_eq!(level(0, 0), Level::Critical);
        assert_eq!(level_of(Room { free: 99 * GIB, total: 100 * GIB, is_read_only: true }), Level::ReadOnly);
    }

    #[test]
    fn a_folder_is_reported_once_for_each_change() {
        let mut watch = DiskWatch::new([("spool", PathBuf::from("/proc/self/no/such"))]);
        let first = watch.look();
        assert!(watch.look().is_empty(), "unchanged since {first:?}");
        assert!(room(Path::new("/")).unwrap().total > 0);
    }
}
