//! Writes the file of a segment (one part of a call's recording) in the configured format. The caller is on the left
//! channel, the callee on the right.

use std::io;
use std::path::{Path, PathBuf};

use super::config::RecordingFormat;
use super::g711::{self, G711Writer};
use super::hashed::{FileHash, HashedFile};
use super::ogg_opus::{self, OggOpusWriter};
use super::pcm::{self, PcmWriter};
use super::peaks::{PeakFinder, peaks_path};
use super::publish::{PartFile, PublishGroup, SyncNeed, digest, temporary_path, write_part};
use crate::codec::CompandingLaw;

/// Whether the channels are swapped. They must be swapped if the caller of the leg is the callee of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelOrder {
    Same,
    Swapped,
}

/// Writes one segment, i.e. one part of a call's recording, to a file. The file keeps a temporary name (`.part`) until
/// it is published.
pub(super) struct SegmentWriter {
    file: SegmentFile,
    channels: ChannelOrder,
    part: PartFile,
    hash: FileHash,
    peaks: PeakFinder,
}

/// The open file of a segment (one part of a call's recording), one variant for each format.
enum SegmentFile {
    Pcm(PcmWriter<HashedFile>),
    G711(G711Writer<HashedFile>),
    Opus(Box<OggOpusWriter<HashedFile>>),
}

/// Format and expected length of the file of one segment, i.e. of one part of a call's recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentSpec {
    pub(super) format: RecordingFormat,
    pub(super) sample_rate: u32,
    pub(super) channels: ChannelOrder,
    /// Expected number of samples of each channel in the file.
    pub(super) samples: u64,
}

/// A complete file without its final name. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct WrittenSegment {
    part: PartFile,
    hash: FileHash,
    peaks: PeakFinder,
}

impl SegmentWriter {
    /// Starts the file of segment `number`, 1 for the first. The names of all files of the call begin with `stem`.
    pub(super) fn new(folder: &Path, stem: &str, number: u32, spec: SegmentSpec) -> io::Result<Self> {
        let ending = spec.format.extension();
        let name = if number == 1 { format!("{stem}.{ending}") } else { format!("{stem}.{number}.{ending}") };
        let (part, file) = PartFile::create(folder.join(name), SyncNeed::Synced)?;
        let (file, hash) = HashedFile::new(file, spec.head());
        let file = SegmentFile::new(file, spec, &format!("{stem}.{number}"))?;
        let peaks = PeakFinder::of_recording(spec.samples, spec.sample_rate);
        Ok(Self { file, channels: spec.channels, part, hash, peaks })
    }

    /// Appends samples of both channels to the file.
    pub(super) fn write(&mut self, frames: &[[i16; 2]]) -> io::Result<()> {
        match self.channels {
            ChannelOrder::Same => self.write_in_order(frames),
            ChannelOrder::Swapped => {
                let swapped: Vec<[i16; 2]> = frames.iter().map(|&[caller, callee]| [callee, caller]).collect();
                self.write_in_order(&swapped)
            }
        }
    }

    fn write_in_order(&mut self, frames: &[[i16; 2]]) -> io::Result<()> {
        self.peaks.add(frames);
        self.file.write(frames)
    }

    /// Completes the file, and returns it. It still has no final name.
    pub(super) fn finish(self) -> io::Result<WrittenSegment> {
        self.file.finish()?;
        Ok(WrittenSegment { part: self.part, hash: self.hash, peaks: self.peaks })
    }
}

impl WrittenSegment {
    /// Closes the file handle. A long call has many segments, and the number of open files of a process is limited.
    pub(super) fn close(&mut self) {
        self.part.close();
    }

    /// Adds the file and its peaks (the data of the waveform) to a group of files that get their final names together.
    /// Returns the final path, the size and the SHA-256.
    pub(super) fn add_to(self, group: &mut PublishGroup) -> io::Result<(PathBuf, u64, String)> {
        let path = self.part.path().to_owned();
        let (bytes, sha256) = match self.hash.finish() {
            Some(known) => known,
            None => digest(&temporary_path(&path))?,
        };
        group.add(self.part);
        match write_part(peaks_path(&path), &self.peaks.to_bytes(), SyncNeed::Unsynced) {
            Ok(peaks) => group.add(peaks),
            // The recording itself is complete. Without its peaks, only the waveform on the console page is missing. So
            // the error is logged and not returned.
            Err(error) => tracing::warn!(path = %path.display(), "the peaks cannot be written: {error}"),
        }
        Ok((path, bytes, sha256))
    }
}

impl SegmentSpec {
    /// Returns the expected header of the finished file; no bytes for Ogg Opus, because its writer never changes the
    /// header afterwards.
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
    fn new(file: HashedFile, spec: SegmentSpec, name: &str) -> io::Result<Self> {
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

/// Returns the maximum length of a segment (part of a recording) in seconds, with which its file keeps the size limit.
/// Without a configured sample rate, wideband is assumed, because a call may change to a wideband codec at any time.
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

/// Maximum size of a WAV file, bytes. Its size fields have 32 bits, which some programs read as signed numbers.
const MAX_WAV_BYTES: u64 = i32::MAX as u64;
/// Maximum size of a WAV header, bytes.
const HEADER_BYTES: u64 = 58;
/// Sample rate of a recording with wideband sound, Hz.
const WIDEBAND_HZ: u32 = 16_000;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_of_each_format_is_known_without_reading_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        for format in
            [RecordingFormat::Wav, RecordingFormat::WavAlaw, RecordingFormat::WavUlaw, RecordingFormat::OggOpus]
        {
            // The cases are numbers of samples: a file that is shorter than a second, a file of several writes, and an
            // empty file.
            for samples in [5_000_u64, 40_000, 0] {
                let spec = SegmentSpec { format, sample_rate: 8_000, channels: ChannelOrder::Same, samples };
                let mut writer = SegmentWriter::new(dir.path(), "call", 1, spec).expect("made");
                let frames: Vec<[i16; 2]> = (0..samples).map(|n| [n as i16, !(n as i16)]).collect();
                frames.chunks(8_000).for_each(|piece| writer.write(piece).expect("written"));
                let written = writer.finish().expect("ended");
                let read = digest(&temporary_path(written.part.path())).expect("readable");
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
        let mut group = PublishGroup::default();
        let (path, bytes, sha256) = written.add_to(&mut group).expect("complete");
        group.publish().expect("published");
        assert_eq!(digest(&path).expect("readable"), (bytes, sha256));
    }
}
