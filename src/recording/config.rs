//! The configuration section `[recording]`. Its key `start` is in [`crate::call::config::Config`].

use std::path::PathBuf;

use super::encrypt::AgeRecipient;

/// File format of the recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordingFormat {
    /// WAV files with 16-bit PCM samples.
    #[default]
    Wav,
    /// WAV with G.711 A-law at 8 kHz: half the size of 16-bit PCM.
    WavAlaw,
    /// WAV with G.711 mu-law at 8 kHz: half the size of 16-bit PCM.
    WavUlaw,
    /// Opus in Ogg (RFC 7845), with each channel as a stream of its own: about a tenth of the size of 16-bit PCM.
    OggOpus,
}

impl RecordingFormat {
    /// All file formats of recordings. The first is the default.
    pub const ALL: [Self; 4] = [Self::Wav, Self::WavAlaw, Self::WavUlaw, Self::OggOpus];

    /// Returns the name that the configuration and the call record use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::WavAlaw => "wav-alaw",
            Self::WavUlaw => "wav-ulaw",
            Self::OggOpus => "ogg-opus",
        }
    }

    /// Returns the format with this name; `None` for an unknown name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Returns the file name extension of the format.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Wav | Self::WavAlaw | Self::WavUlaw => "wav",
            Self::OggOpus => "ogg",
        }
    }

    /// Returns the sample rate in Hz if the format allows only one; `None` otherwise. G.711 allows only 8000.
    pub(crate) const fn fixed_rate(self) -> Option<u32> {
        match self {
            Self::WavAlaw | Self::WavUlaw => Some(8_000),
            Self::Wav | Self::OggOpus => None,
        }
    }
}

/// Whether recordings that Pyrus does not have yet may be removed to free disk space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UndeliveredPolicy {
    /// Undelivered recordings are kept. While the disk is full, no new recordings are made.
    #[default]
    Keep,
    /// Undelivered recordings are removed too, but only after all others.
    Remove,
}

/// Configuration of recordings: where they are stored, in which form and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Folder of the recordings. The command `run` adds subfolders `YYYY/MM/DD/`.
    pub dir: PathBuf,
    /// Sample rate of recordings, Hz. `None` means 16,000 if a side has a wideband codec, and 8000 otherwise.
    pub sample_rate: Option<u32>,
    /// File format of new recordings.
    pub format: RecordingFormat,
    /// Length of a segment, hours. A longer call is divided into several files; 0 means no limit.
    pub part_hours: u32,
    /// Age in days after which recordings are removed; 0 means never. Recordings that Pyrus does not have yet are kept.
    pub keep_days: u32,
    /// Total size in GiB above which the oldest recordings are removed; 0 means no limit. [`UndeliveredPolicy`] decides
    /// about recordings that Pyrus does not have yet.
    pub max_disk_gib: u32,
    /// Free disk space in GiB below which the oldest recordings are removed; 0 means never. [`UndeliveredPolicy`]
    /// decides about recordings that Pyrus does not have yet.
    pub min_free_gib: u32,
    /// Whether `max_disk_gib` and `min_free_gib` may remove recordings that Pyrus does not have.
    pub undelivered: UndeliveredPolicy,
    /// Whether the spool (a pcapng file) of a delivered call is kept beside its recording.
    pub keep_pcap: bool,
    /// Public keys to which recordings are encrypted after delivery. If there are none, recordings are not encrypted.
    pub encrypt_to: Vec<AgeRecipient>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/var/lib/callspan/recordings"),
            sample_rate: None,
            format: RecordingFormat::Wav,
            part_hours: 4,
            keep_days: 0,
            max_disk_gib: 0,
            min_free_gib: 2,
            undelivered: UndeliveredPolicy::Keep,
            keep_pcap: false,
            encrypt_to: Vec::new(),
        }
    }
}
