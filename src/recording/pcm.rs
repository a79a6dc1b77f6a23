//! Writes WAV files with 16-bit PCM. The crate hound makes the header. This module writes the samples, many at a time,
//! which is faster.

use std::io::{self, Seek, SeekFrom, Write};

/// Writes a PCM WAV file. The expected length is given in advance; if the real length differs, the header is written
/// again at the end.
pub(super) struct PcmWriter<W: Write + Seek> {
    out: W,
    sample_rate: u32,
    /// Number of samples per channel that the header states.
    expected: u64,
    samples: u64,
    bytes: Vec<u8>,
}

impl<W: Write + Seek> PcmWriter<W> {
    pub(super) fn new(mut out: W, sample_rate: u32, samples: u64) -> io::Result<Self> {
        out.write_all(&header(sample_rate, samples)?)?;
        Ok(Self { out, sample_rate, expected: samples, samples: 0, bytes: Vec::new() })
    }

    pub(super) fn write(&mut self, frames: &[[i16; 2]]) -> io::Result<()> {
        let samples = frames.as_flattened();
        self.bytes.resize(2 * samples.len(), 0);
        // Arrays of a fixed length allow the compiler to vectorize the loop.
        for (bytes, sample) in self.bytes.as_chunks_mut().0.iter_mut().zip(samples) {
            *bytes = sample.to_le_bytes();
        }
        self.samples += frames.len() as u64;
        self.out.write_all(&self.bytes)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.samples != self.expected {
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(&header(self.sample_rate, self.samples)?)?;
        }
        self.out.flush()
    }
}

/// Returns the header of a file with this many samples per channel.
///
/// # Errors
/// Fails if the size of the samples does not fit into 32 bits.
pub(super) fn header(sample_rate: u32, samples: u64) -> io::Result<Vec<u8>> {
    let spec =
        hound::WavSpec { channels: 2, sample_rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut out = io::Cursor::new(Vec::new());
    hound::WavWriter::new(&mut out, spec).and_then(hound::WavWriter::finalize).map_err(io::Error::other)?;
    let mut header = out.into_inner();
    let data = u32::try_from(samples.saturating_mul(BYTES_A_SAMPLE)).map_err(io::Error::other)?;
    let rest = u32::try_from(header.len()).map_err(io::Error::other)?.saturating_sub(8);
    let riff = data.checked_add(rest).ok_or(io::ErrorKind::FileTooLarge)?;
    // The lengths of the finished file are written into the header. The bytes 4 to 7 are the RIFF length, and the last
    // four bytes are the length of the samples.
    if let Some(first) = header.get_mut(4..8) {
        first.copy_from_slice(&riff.to_le_bytes());
    }
    if let Some(last) = header.last_chunk_mut() {
        *last = data.to_le_bytes();
    }
    Ok(header)
}

/// Number of bytes that one sample of both channels takes: two 16-bit values.
pub(super) const BYTES_A_SAMPLE: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_equals_that_of_hound_whatever_length_was_expected() {
        let frames: Vec<[i16; 2]> = (0..20_001_u32).map(|n| [(n * 7) as i16, (n * 31) as i16]).collect();
        let mut by_hound = io::Cursor::new(Vec::new());
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::new(&mut by_hound, spec).expect("a header");
        frames.as_flattened().iter().for_each(|&sample| writer.write_sample(sample).expect("written"));
        writer.finalize().expect("ended");
        for said in [20_001, 0, 30_000] {
            let mut ours = io::Cursor::new(Vec::new());
            let mut writer = PcmWriter::new(&mut ours, 16_000, said).expect("a header");
            frames.chunks(8_000).for_each(|piece| writer.write(piece).expect("written"));
            writer.finish().expect("ended");
            assert_eq!(ours.get_ref(), by_hound.get_ref(), "{said}");
        }
    }
}
