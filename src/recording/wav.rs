//! WAV files in parts: 16-bit PCM, left the caller, right the callee.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

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
    current: Option<hound::WavWriter<BufWriter<File>>>,
    in_current: u64,
    parts: Vec<WrittenPart>,
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
    pub(super) fn new(folder: &Path, stem: &str, sample_rate: u32, (channels, part_samples): (Channels, u64)) -> Self {
        Self {
            folder: folder.to_owned(),
            stem: stem.to_owned(),
            sample_rate,
            channels,
            part_samples: part_samples.max(1),
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
            let writer = self.writer()?;
            let samples = u32::try_from(now.len() * 2).map_err(io::Error::other)?;
            let mut block = writer.get_i16_writer(samples);
            for &[caller, callee] in now {
                let (left, right) = if swapped { (callee, caller) } else { (caller, callee) };
                block.write_sample(left);
                block.write_sample(right);
            }
            block.flush().map_err(to_io)?;
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
        let Some(writer) = self.current.take() else { return Ok(()) };
        writer.finalize().map_err(to_io)?;
        let path = self.path(self.parts.len() + 1);
        self.parts.push(WrittenPart { path, samples: std::mem::take(&mut self.in_current) });
        Ok(())
    }

    fn writer(&mut self) -> io::Result<&mut hound::WavWriter<BufWriter<File>>> {
        if self.current.is_none() {
            let path = part_path(&self.path(self.parts.len() + 1));
            let spec = hound::WavSpec {
                channels: 2,
                sample_rate: self.sample_rate,
                bits_per_sample: 16,
                sample_format: hound::SampleFormat::Int,
            };
            let file = BufWriter::with_capacity(WRITE_BYTES, File::create(path)?);
            self.current = Some(hound::WavWriter::new(file, spec).map_err(to_io)?);
        }
        self.current.as_mut().ok_or_else(|| io::Error::other("no part is open"))
    }

    fn path(&self, part: usize) -> PathBuf {
        let name = if part == 1 { format!("{}.wav", self.stem) } else { format!("{}.{part}.wav", self.stem) };
        self.folder.join(name)
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
pub(super) fn part_samples(part_hours: u32, max_bytes: Option<u64>, sample_rate: u32) -> u64 {
    let rate = u64::from(sample_rate.max(1));
    let by_time = if part_hours == 0 { u64::MAX } else { u64::from(part_hours) * 3_600 };
    let by_size =
        max_bytes.unwrap_or(u64::MAX).min(MAX_WAV_BYTES).saturating_sub(HEADER_BYTES) / (BYTES_A_SAMPLE * rate);
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
/// What hound writes before the samples.
const HEADER_BYTES: u64 = 44;
/// Two channels of 16 bits.
const BYTES_A_SAMPLE: u64 = 4;
/// Written at once.
const WRITE_BYTES: usize = 64 * 1024;
