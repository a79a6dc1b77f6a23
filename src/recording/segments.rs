//! Writes the file of a segment in the configured format: the caller on the left channel, the callee on the right.

use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::config::RecordingFormat;
use super::g711::{self, G711Writer};
use super::hashed::{FileHash, HashedFile};
use super::ogg_opus::{self, OggOpusWriter};
use super::pcm::{self, PcmWriter};
use super::publish::{create_private, digest, publish, temporary_path};
use crate::codec::CompandingLaw;

/// Whether to swap the channels, because the leg's caller is the call's callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelOrder {
    Same,
    Swapped,
}

/// Writes a segment's file under its `.part` name.
pub(super) struct SegmentWriter {
    path: PathBuf,
    file: SegmentFile,
    channels: ChannelOrder,
    unpublished: UnpublishedFile,
    hash: FileHash,
}

/// A `.part` file. Dropping it removes the file, because an incomplete recording is of no use.
#[derive(Debug)]
struct UnpublishedFile(PathBuf);

/// A file in progress, by format.
enum SegmentFile {
    Pcm(PcmWriter<BufWriter<HashedFile>>),
    G711(G711Writer<BufWriter<HashedFile>>),
    Opus(Box<OggOpusWriter<BufWriter<HashedFile>>>),
}

/// Properties of a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentSpec {
    pub(super) format: RecordingFormat,
    pub(super) sample_rate: u32,
    pub(super) channels: ChannelOrder,
    /// Expected samples per channel.
    pub(super) samples: u64,
}

/// A complete file that has no final name yet. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct WrittenSegment {
    path: PathBuf,
    hash: FileHash,
    _file: UnpublishedFile,
}

impl SegmentWriter {
    /// Starts the file of segment `number` (from 1) of the recording `stem`.
    pub(super) fn new(folder: &Path, stem: &str, number: u32, spec: SegmentSpec) -> io::Result<Self> {
        let ending = spec.format.extension();
        let name = if number == 1 { format!("{stem}.{ending}") } else { format!("{stem}.{number}.{ending}") };
        let path = folder.join(name);
        let unpublished = UnpublishedFile(temporary_path(&path));
        let (file, hash) = HashedFile::new(create_private(&unpublished.0)?, spec.head());
        let file = BufWriter::with_capacity(WRITE_BYTES, file);
        let file = SegmentFile::new(file, spec, &format!("{stem}.{number}"))?;
        Ok(Self { path, file, channels: spec.channels, unpublished, hash })
    }

    /// Writes samples.
    pub(super) fn write(&mut self, frames: &[[i16; 2]]) -> io::Result<()> {
        match self.channels {
            ChannelOrder::Same => self.file.write(frames),
            ChannelOrder::Swapped => {
                let swapped: Vec<[i16; 2]> = frames.iter().map(|&[caller, callee]| [callee, caller]).collect();
                self.file.write(&swapped)
            }
        }
    }

    /// Completes the file.
    pub(super) fn finish(self) -> io::Result<WrittenSegment> {
        self.file.finish()?;
        Ok(WrittenSegment { path: self.path, hash: self.hash, _file: self.unpublished })
    }
}

impl WrittenSegment {
    /// Renames the file to its final name. Returns its path, size and SHA-256.
    pub(super) fn publish(self) -> io::Result<(PathBuf, u64, String)> {
        publish(&self.path)?;
        let (bytes, sha256) = match self.hash.finish() {
            Some(known) => known,
            None => digest(&self.path)?,
        };
        Ok((self.path, bytes, sha256))
    }
}

impl Drop for UnpublishedFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // fails after the file was published
    }
}

impl SegmentSpec {
    /// Returns the expected final header, if the format writes its header again at the end; else nothing.
    fn head(self) -> Vec<u8> {
        let laws = |law| u32::try_from(self.samples).map(|samples| g711::header(law, self.sample_rate, samples));
        match self.format {
            RecordingFormat::Wav => pcm::header(self.sample_rate, self.samples).unwrap_or_default(),
            RecordingFormat::WavAlaw => laws(CompandingLaw::A).unwrap_or_default(),
            RecordingFormat::WavUlaw => laws(CompandingLaw::Mu).unwrap_or_default(),
            RecordingFormat::OggOpus => Vec::new(),
        }
    }
}

impl SegmentFile {
    fn new(file: BufWriter<HashedFile>, spec: SegmentSpec, name: &str) -> io::Result<Self> {
        let SegmentSpec { format, sample_rate, .. } = spec;
        Ok(match format {
            RecordingFormat::Wav => Self::Pcm(PcmWriter::new(file, sample_rate, spec.samples)?),
            RecordingFormat::WavAlaw => Self::G711(G711Writer::new(file, CompandingLaw::A, sample_rate)?),
            RecordingFormat::WavUlaw => Self::G711(G711Writer::new(file, CompandingLaw::Mu, sample_rate)?),
            RecordingFormat::OggOpus => Self::Opus(Box::new(OggOpusWriter::new(file, sample_rate, name)?)),
        })
    }

    fn write(&mut self, frames: &[[i16; 2]]) -> io::Result<()> {
        match self {
            Self::Pcm(writer) => writer.write(frames),
            Self::G711(writer) => writer.write(frames),
            Self::Opus(writer) => writer.write(frames),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Pcm(writer) => writer.finish(),
            Self::G711(writer) => writer.finish(),
            Self::Opus(writer) => writer.finish(),
        }
    }
}

/// Returns the longest duration of a segment, s. If the sample rate is not set, assumes wideband, because a call may
/// change to a wideband codec at any time.
pub(super) fn segment_seconds(
    format: RecordingFormat,
    part_hours: u32,
    max_bytes: Option<u64>,
    sample_rate: Option<u32>,
) -> u64 {
    let rate = u64::from(format.fixed_rate().or(sample_rate).unwrap_or(WIDEBAND_HZ).max(1));
    let by_time = if part_hours == 0 { u64::MAX } else { u64::from(part_hours) * 3_600 };
    let (header, bytes_per_second) = match format {
        RecordingFormat::Wav => (HEADER_BYTES, pcm::BYTES_A_SAMPLE * rate),
        RecordingFormat::WavAlaw | RecordingFormat::WavUlaw => (HEADER_BYTES, 2 * rate),
        RecordingFormat::OggOpus => (ogg_opus::HEADER_BYTES, ogg_opus::MAX_BYTES_A_SECOND),
    };
    let by_size = max_bytes.unwrap_or(u64::MAX).min(MAX_WAV_BYTES).saturating_sub(header) / bytes_per_second;
    by_time.min(by_size).max(1)
}

/// Largest WAV file, bytes. Its size fields have 32 bits, which some readers take as signed.
const MAX_WAV_BYTES: u64 = i32::MAX as u64;
/// Most bytes of a WAV header.
const HEADER_BYTES: u64 = 58;
/// Sample rate of a wideband recording, Hz.
const WIDEBAND_HZ: u32 = 16_000;
/// Bytes written at once.
const WRITE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_of_each_format_is_known_without_reading_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        for format in
            [RecordingFormat::Wav, RecordingFormat::WavAlaw, RecordingFormat::WavUlaw, RecordingFormat::OggOpus]
        {
            // Less than a second; more than is written at once; no samples.
            for samples in [5_000_u64, 40_000, 0] {
                let spec = SegmentSpec { format, sample_rate: 8_000, channels: ChannelOrder::Same, samples };
                let mut writer = SegmentWriter::new(dir.path(), "call", 1, spec).expect("made");
                let frames: Vec<[i16; 2]> = (0..samples).map(|n| [n as i16, !(n as i16)]).collect();
                frames.chunks(8_000).for_each(|piece| writer.write(piece).expect("written"));
                let written = writer.finish().expect("ended");
                let read = digest(&temporary_path(&written.path)).expect("readable");
                assert_eq!(written.hash.finish(), Some(read), "{format:?} {samples}");
            }
        }
    }

    #[test]
    fn file_shorter_than_expected_is_read_for_its_hash() {
        let dir = tempfile::tempdir().expect("a folder");
        let spec = SegmentSpec {
            format: RecordingFormat::Wav,
            sample_rate: 8_000,
            channels: ChannelOrder::Same,
            samples: 100,
        };
        let mut writer = SegmentWriter::new(dir.path(), "call", 1, spec).expect("made");
        writer.write(&[[1, 2]; 99]).expect("written");
        let written = writer.finish().expect("ended");
        assert_eq!(written.hash.finish(), None);
        let (path, bytes, sha256) = written.publish().expect("published");
        assert_eq!(digest(&path).expect("readable"), (bytes, sha256));
    }
}
