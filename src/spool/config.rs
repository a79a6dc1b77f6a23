//! The configuration section `[spool]`.

use std::path::PathBuf;

/// Configuration of the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Folder of the spool files; created with mode 0700.
    pub dir: PathBuf,
    /// Memory for chunks that wait to be written to the disk, MiB.
    pub buffer_mib: u32,
    /// Interval between syncs of the file system, s. A power cut loses at most this much of the calls.
    pub sync_seconds: u32,
    /// In `replay`, the size up to which spools stay in memory, MiB.
    pub memory_mib: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { dir: PathBuf::from("/var/spool/callspan"), buffer_mib: 64, sync_seconds: 5, memory_mib: 48 }
    }
}
