//! One file of a recording: left the caller, right the callee, in the form that was configured.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::config::Format;
use super::g711::{G711Writer, Law};
use super::ogg_opus::{self, OggOpusWriter};
use super::publish::{digest, part_path, publish};

/// Swaps the channels or not: the leg's caller may be the call's callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channels {
    Same,
    Swapped,
}

/// Writes one file under its `.part` name.
pub(super) struct PartWriter {
    path: PathBuf,
    file: PartFile,
    channels: Channels,
    unpublished: Unpublished,
}

/// A `.part` file: half a recording helps nobody, so it goes with this.
#[derive(Debug)]
struct Unpublished(PathBuf);

/// A file being written.
enum PartFile {
    Pcm(hound::WavWriter<BufWriter<File>>),
    G711(G711Writer<BufWriter<File>>),
    Opus(Box<OggOpusWriter<BufWriter<File>>>),
}

/// What a file is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) format: Format,
    pub(super) sample_rate: u32,
    pub(super) channels: Channels,
}

/// A file that was written to its end and has not its final name yet. Dropped, it is taken away.
#[derive(Debug)]
pub(super) struct WrittenPart {
    path: PathBuf,
    _file: Unpublished,
}

impl PartWriter {
    /// Begins part `number` (1 for the first) of the recording `stem`.
    pub(super) fn new(folder: &Path, (stem, number): (&str, u32), shape: Shape) -> io::Result<Self> {
        let Shape { format, sample_rate, channels } = shape;
        let ending = format.extension();
        let name = if number == 1 { format!("{stem}.{ending}") } else { format!("{stem}.{number}.{ending}") };
        let path = folder.join(name);
        let unpublished = Unpublished(part_path(&path));
        let file = BufWriter::with_capacity(WRITE_BYTES, File::create(&unpublished.0)?);
        let file = PartFile::new(file, format, sample_rate, &format!("{stem}.{number}"))?;
        Ok(Self { path, file, channels, unpublished })
    }

    /// Takes the next samples.
    pub(super) fn write(&mut self, frames: &[[i16; 2]]) -> io::Result<()> {
        match self.channels {
            Channels::Same => self.file.write(frames),
            Channels::Swapped => {
                let swapped: Vec<[i16; 2]> = frames.iter().map(|&[caller, callee]| [callee, caller]).collect();
                self.file.write(&swapped)
            }
        }
    }

    /// Ends the file.
    pub(super) fn finish(self) -> io::Result<WrittenPart> {
        self.file.finish()?;
        Ok(WrittenPart { path: self.path, _file: self.unpublished })
    }
}

impl WrittenPart {
    /// Gives it its name. Gives its path, size and SHA-256.
    pub(super) fn publish(self) -> io::Result<(PathBuf, u64, String)> {
        publish(&self.path)?;
        let (bytes, sha256) = digest(&self.path)?;
        Ok((self.path, bytes, sha256))
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // published, it is not there any more
    }
}

impl PartFile {
    fn new(file: BufWriter<File>, format: Format, sample_rate: u32, name: &str) -> io::Result<Self> {
        Ok(match format {
            Format::Wav => {
                let spec = hound::WavSpec {
                    channels: 2,
                    sample_rate,
                    bits_per_sample: 16,
                    sample_format: hound::SampleFormat::Int,
                };
                Self::Pcm(hound::WavWriter::new(file, spec).map_err(to_io)?)
            }
            Format::WavAlaw => Self::G711(G711Writer::new(file, Law::A, sample_rate)?),
            Format::WavUlaw => Self::G711(G711Writer::new(file, Law::Mu, sample_rate)?),
            Format::OggOpus => Self::Opus(Box::new(OggOpusWriter::new(file, sample_rate, name)?)),
        })
    }

    fn write(&mut self, frames: &[[i16; 2]]) -> io::Result<()> {
        match self {
            Self::Pcm(writer) => {
                let samples = u32::try_from(frames.len() * 2).map_err(io::Error::other)?;
                let mut block = writer.get_i16_writer(samples);
                for &sample in frames.as_flattened() {
                    block.write_sample(sample);
                }
                block.flush().map_err(to_io)
            }
            Self::G711(writer) => writer.write(frames),
            Self::Opus(writer) => writer.write(frames),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Pcm(writer) => writer.finalize().map_err(to_io),
            Self::G711(writer) => writer.finish(),
            Self::Opus(writer) => writer.finish(),
        }
    }
}

/// Seconds that one file may have. Of a call under way nobody knows whether it turns wideband: unless the rate is set,
/// there is room for that.
pub(super) fn part_seconds(format: Format, part_hours: u32, max_bytes: Option<u64>, sample_rate: Option<u32>) -> u64 {
    let rate = u64::from(format.fixed_rate().or(sample_rate).unwrap_or(WIDE_HZ).max(1));
    let by_time = if part_hours == 0 { u64::MAX } else { u64::from(part_hours) * 3_600 };
    let (header, a_second) = match format {
        Format::Wav => (HEADER_BYTES, BYTES_A_SAMPLE * rate),
        Format::WavAlaw | Format::WavUlaw => (HEADER_BYTES, 2 * rate),
        Format::OggOpus => (ogg_opus::HEADER_BYTES, ogg_opus::MAX_BYTES_A_SECOND),
    };
    let by_size = max_bytes.unwrap_or(u64::MAX).min(MAX_WAV_BYTES).saturating_sub(header) / a_second;
    by_time.min(by_size).max(1)
}

fn to_io(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// Sizes in a WAV are 32 bits; hound wraps silently beyond. Some readers take them as signed.
const MAX_WAV_BYTES: u64 = i32::MAX as u64;
/// What stands before the samples of a WAV, at the most.
const HEADER_BYTES: u64 = 58;
/// Two channels of 16 bits.
const BYTES_A_SAMPLE: u64 = 4;
/// Samples a second of a wideband recording.
const WIDE_HZ: u32 = 16_000;
/// Written at once.
const WRITE_BYTES: usize = 64 * 1024;
