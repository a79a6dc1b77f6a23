//! The `[recording]` section (`start` lives in [`crate::call::config::Config`]).

use std::path::PathBuf;

/// Form of a finished file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// WAV, 16-bit PCM.
    #[default]
    Wav,
}

/// Whether space may be made at the cost of recordings that Pyrus does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Undelivered {
    /// No: better no new recordings.
    #[default]
    Keep,
    /// Yes, after all others.
    Remove,
}

/// Where finished files go and how long they stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Folder of the recordings; `run` adds `YYYY/MM/DD/`.
    pub dir: PathBuf,
    /// Samples a second; `None`: 8000, or 16000 when a side is wideband.
    pub sample_rate: Option<u32>,
    /// Form of the files.
    pub format: Format,
    /// A longer call is cut into parts of so many hours.
    pub part_hours: u32,
    /// Recordings older than this that are not owed are removed; 0 = never.
    pub keep_days: u32,
    /// Recordings that are not owed are removed, oldest first, above this size; 0 = no limit.
    pub max_disk_gib: u32,
    /// Delivered recordings are removed, oldest first, when less is free on their disk; 0 = never.
    pub min_free_gib: u32,
    /// Whether the two limits above may cost recordings that Pyrus does not have.
    pub undelivered: Undelivered,
    /// Keep the spool (a pcapng that Wireshark opens) of a delivered call.
    pub keep_pcap: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/var/lib/callspan/recordings"),
            sample_rate: None,
            format: Format::Wav,
            part_hours: 4,
            keep_days: 0,
            max_disk_gib: 0,
            min_free_gib: 2,
            undelivered: Undelivered::Keep,
            keep_pcap: false,
        }
    }
}
