//! The `[spool]` section.

use std::path::PathBuf;

/// Where and how legs are spooled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Folder of the spool (0700).
    pub dir: PathBuf,
    /// Memory for chunks that wait to be written, MiB.
    pub buffer_mib: u32,
    /// Seconds between two syncs of the file system: what a power cut costs.
    pub sync_seconds: u32,
    /// In `replay`: the spool stays in memory up to this size, MiB.
    pub memory_mib: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { dir: PathBuf::from("/var/spool/callspan"), buffer_mib: 64, sync_seconds: 5, memory_mib: 256 }
    }
}
