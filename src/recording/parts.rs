//! Finished files in parts: left the caller, right the callee, in the form that was configured.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::config::Format;
use super::g711::{G711Writer, Law};
use super::ogg_opus::{self, OggOpusWriter};
use super::publish::part_path;

/// Swaps the channels or not: the leg's caller may be the call's callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channels {
    Same,
    Swapped,
}

/// Writes samples into one part after another, each under its `.part` name.
pub(super) struct PartWriter {
    folder: PathBuf,
    stem: String,
    sample_rate: u32,
    channels: Channels,
    /// Samples of each channel in a part.
    part_samples: u64,
    format: Format,
    current: Option<PartFile>,
    in_current: u64,
    parts: Vec<WrittenPart>,
}

/// A file being written.
enum PartFile {
    Pcm(hound::WavWriter<BufWriter<File>>),
    G711(G711Writer<BufWriter<File>>),
    Opus(Box<OggOpusWriter<BufWriter<File>>>),
}

/// What a recording is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) format: Format,
    pub(super) sample_rate: u32,
    pub(super) channels: Channels,
    /// Samples of each channel in a part, see [`part_samples`].
    pub(super) part_samples: u64,
}

/// A part that was written to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrittenPart {
    /// Its final name.
    pub(super) path: PathBuf,
    /// Samples of each channel.
    pub(super) samples: u64,
}

impl PartWriter {
    pub(super) fn new(folder: &Path, stem: &str, shape: Shape) -> Self {
        let Shape { format, sample_rate, channels, part_samples } = shape;
        Self {
            folder: folder.to_owned(),
            stem: stem.to_owned(),
            sample_rate,
            channels,
            part_samples: part_samples.max(1),
            format,
            current: None,
            in_current: 0,
            parts: Vec::new(),
        }
    }

    /// Takes the next samples.
    pub(super) fn write(&mut self, mut frames: &[[i16; 2]]) -> io::Result<()> {
        while !frames.is_empty() {
            if self.in_current == self.part_samples {
                self.end_part()?;
            }
            let room = self.part_samples - self.in_current;
            let count = frames.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let (now, later) = frames.split_at(count);
            let swapped = self.channels == Channels::Swapped;
            let file = self.file()?;
            if swapped {
                let swapped: Vec<[i16; 2]> = now.iter().map(|&[caller, callee]| [callee, caller]).collect();
                file.write(&swapped)?;
            } else {
                file.write(now)?;
            }
            self.in_current += count as u64;
            frames = later;
        }
        Ok(())
    }

    /// Ends the last part. Nothing has its final name yet.
    pub(super) fn finish(&mut self) -> io::Result<Vec<WrittenPart>> {
        self.end_part()?;
        Ok(self.parts.clone())
    }

    /// All parts have their final names: there is nothing to take away any more.
    pub(super) fn published(&mut self) {
        self.parts.clear();
    }

    fn end_part(&mut self) -> io::Result<()> {
        let Some(file) = self.current.take() else { return Ok(()) };
        file.finish()?;
        let path = self.path(self.parts.len() + 1);
        self.parts.push(WrittenPart { path, samples: std::mem::take(&mut self.in_current) });
        Ok(())
    }

    fn file(&mut self) -> io::Result<&mut PartFile> {
        if self.current.is_none() {
            let number = self.parts.len() + 1;
            let file = File::create(part_path(&self.path(number)))?;
            let file = BufWriter::with_capacity(WRITE_BYTES, file);
            let name = format!("{}.{number}", self.stem);
            self.current = Some(PartFile::new(file, self.format, self.sample_rate, &name)?);
        }
        self.current.as_mut().ok_or_else(|| io::Error::other("no part is open"))
    }

    fn path(&self, part: usize) -> PathBuf {
        let (stem, ending) = (&self.stem, self.format.extension());
        let name = if part == 1 { format!("{stem}.{ending}") } else { format!("{stem}.{part}.{ending}") };
        self.folder.join(name)
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

impl Drop for PartWriter {
    fn drop(&mut self) {
        // Given up in the middle: half a recording helps nobody, the spool is still there.
        if let Some(writer) = self.current.take() {
            drop(writer);
            let _ = std::fs::remove_file(part_path(&self.path(self.parts.len() + 1)));
        }
        for part in &self.parts {
            let _ = std::fs::remove_file(part_path(&part.path));
        }
    }
}

/// Samples of each channel that one file may have: whole seconds, so that parts begin at whole microseconds.
pub(super) fn part_samples(format: Format, part_hours: u32, max_bytes: Option<u64>, sample_rate: u32) -> u64 {
    let rate = u64::from(sample_rate.max(1));
    let by_time = if part_hours == 0 { u64::MAX } else { u64::from(part_hours) * 3_600 };
    let (header, a_second) = match format {
        Format::Wav => (HEADER_BYTES, BYTES_A_SAMPLE * rate),
        Format::WavAlaw | Format::WavUlaw => (HEADER_BYTES, 2 * rate),
        Format::OggOpus => (ogg_opus::HEADER_BYTES, ogg_opus::MAX_BYTES_A_SECOND),
    };
    let by_size = max_bytes.unwrap_or(u64::MAX).min(MAX_WAV_BYTES).saturating_sub(header) / a_second;
    by_time.min(by_size).max(1) * rate
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
/// Written at once.
const WRITE_BYTES: usize = 64 * 1024;
