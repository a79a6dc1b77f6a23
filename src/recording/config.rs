//! The `[recording]` section (`start` lives in [`crate::call::config::Config`]).

use std::path::PathBuf;

use super::encrypt::AgeRecipient;

/// Form of a finished file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordingFormat {
    /// WAV, 16-bit PCM.
    #[default]
    Wav,
    /// WAV, G.711 A-law, 8 kHz: half the size.
    WavAlaw,
    /// WAV, G.711 mu-law, 8 kHz: half the size.
    WavUlaw,
    /// Opus in Ogg (RFC 7845), two streams of one channel: about a tenth of the size.
    OggOpus,
}

impl RecordingFormat {
    /// All of them, the default first.
    pub const ALL: [Self; 4] = [Self::Wav, Self::WavAlaw, Self::WavUlaw, Self::OggOpus];

    /// The word in configuration and record.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::WavAlaw => "wav-alaw",
            Self::WavUlaw => "wav-ulaw",
            Self::OggOpus => "ogg-opus",
        }
    }

    /// The format of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// How its files' names end.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Wav | Self::WavAlaw | Self::WavUlaw => "wav",
            Self::OggOpus => "ogg",
        }
    }

    /// The only sample rate that it can have, if there is one: G.711 is 8 kHz.
    pub const fn fixed_rate(self) -> Option<u32> {
        match self {
            Self::WavAlaw | Self::WavUlaw => Some(8_000),
            Self::Wav | Self::OggOpus => None,
        }
    }
}

/// Whether space may be made at the cost of recordings that Pyrus does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UndeliveredPolicy {
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
    pub format: RecordingFormat,
    /// A longer call is cut into parts of so many hours.
    pub part_hours: u32,
    /// Recordings older than this that are not owed are removed; 0 = never.
    pub keep_days: u32,
    /// Recordings that are not owed are removed, oldest first, above this size; 0 = no limit.
    pub max_disk_gib: u32,
    /// Delivered recordings are removed, oldest first, when less is free on their disk; 0 = never.
    pub min_free_gib: u32,
    /// Whether the two limits above may cost recordings that Pyrus does not have.
    pub undelivered: UndeliveredPolicy,
    /// Keep the spool (a pcapng that Wireshark opens) of a delivered call.
    pub keep_pcap: bool,
    /// Who may read a recording once it is delivered: it is encrypted to these. Empty: it stays as it is.
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
