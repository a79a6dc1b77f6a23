//! The configuration section `[spool]`.

use std::path::PathBuf;

/// Settings of the spool (files with the packets of calls), as the configuration file gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Folder of the spool files; created with mode 0700.
    pub dir: PathBuf,
    /// Maximum memory for parts of the spool that wait to be written to the disk, MiB.
    pub buffer_mib: u32,
    /// Interval between syncs of the file system, seconds. A power cut loses at most the media of this time.
    pub sync_seconds: u32,
    /// For the command `replay`: maximum total size of the spools in memory, MiB. Further chunks are written to a file.
    pub memory_mib: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { dir: PathBuf::from("/var/spool/callspan"), buffer_mib: 64, sync_seconds: 5, memory_mib: 48 }
    }
}
