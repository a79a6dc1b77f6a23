//! Writes WAV files with G.711 (hound writes PCM only). The formats are WAVE_FORMAT_ALAW and WAVE_FORMAT_MULAW of RFC
//! 2361 sections 7 and 8. They have the `fact` chunk that all formats but PCM need.

use std::io::{self, Seek, SeekFrom, Write};

use crate::codec::CompandingLaw;

/// Encodes a sample in A-law or mu-law: sign, exponent and mantissa of its magnitude (G.711 tables 1a and 2a).
pub(crate) fn encode(law: CompandingLaw, sample: i16) -> u8 {
    match law {
        CompandingLaw::A => a_law(sample),
        CompandingLaw::Mu => mu_law(sample),
    }
}

/// Returns the WAV format tag of a companding law.
const fn wave_format_tag(law: CompandingLaw) -> u16 {
    match law {
        CompandingLaw::A => 6,
        CompandingLaw::Mu => 7,
    }
}

/// Writes a G.711 WAV file. The header is written again at the end, when the length of the sound is known.
pub(super) struct G711Writer<W: Write + Seek> {
    out: W,
    law: CompandingLaw,
    sample_rate: u32,
    samples: u64,
    bytes: Vec<u8>,
}

impl<W: Write + Seek> G711Writer<W> {
    pub(super) fn new(mut out: W, law: CompandingLaw, sample_rate: u32) -> io::Result<Self> {
        out.write_all(&header(law, sample_rate, 0))?;
        Ok(Self { out, law, sample_rate, samples: 0, bytes: Vec::new() })
    }

    pub(super) fn write(&mut self, frames: &[[i16; 2]]) -> io::Result<()> {
        self.bytes.clear();
        self.bytes.extend(frames.as_flattened().iter().map(|&sample| encode(self.law, sample)));
        self.samples += frames.len() as u64;
        self.out.write_all(&self.bytes)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        let samples = u32::try_from(self.samples).map_err(io::Error::other)?;
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header(self.law, self.sample_rate, samples))?;
        self.out.flush()
    }
}

/// Returns the header of a WAV file with `samples` samples per channel.
pub(super) fn header(law: CompandingLaw, sample_rate: u32, samples: u32) -> Vec<u8> {
    let data = samples.saturating_mul(CHANNELS.into());
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend(b"RIFF");
    out.extend(data.saturating_add(HEADER_BYTES as u32 - 8).to_le_bytes());
    out.extend(b"WAVEfmt ");
    out.extend(18_u32.to_le_bytes());
    out.extend(wave_format_tag(law).to_le_bytes());
    out.extend(CHANNELS.to_le_bytes());
    out.extend(sample_rate.to_le_bytes());
    out.extend((sample_rate * u32::from(CHANNELS)).to_le_bytes());
    out.extend(CHANNELS.to_le_bytes()); // bytes per sample of both channels: one byte each
    out.extend(8_u16.to_le_bytes()); // bits per sample
    out.extend(0_u16.to_le_bytes()); // size of the extension
    out.extend(b"fact");
    out.extend(4_u32.to_le_bytes());
    out.extend(samples.to_le_bytes());
    out.extend(b"data");
    out.extend(data.to_le_bytes());
    out
}

fn a_law(sample: i16) -> u8 {
    // A-law encodes 13 bits. The magnitude of a negative value is its one's complement, as in the G.191 tools.
    let (sign, magnitude) = if sample < 0 { (0x00, !sample >> 3) } else { (0x80, sample >> 3) };
    let magnitude = magnitude as u16;
    let code = if magnitude < 32 {
        magnitude >> 1
    } else {
        let exponent = 11 - magnitude.leading_zeros() as u16;
        (exponent << 4) | ((magnitude >> exponent) & 15)
    };
    (sign | code as u8) ^ 0x55
}

fn mu_law(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0x00 };
    let magnitude = sample.unsigned_abs().min(MU_CLIP) + MU_BIAS;
    let exponent = 8 - magnitude.leading_zeros() as u16;
    !(sign | (exponent << 4) as u8 | ((magnitude >> (exponent + 3)) & 15) as u8)
}

const CHANNELS: u16 = 2;
const HEADER_BYTES: usize = 58;
/// Bias that makes the segment boundaries of mu-law powers of two (G.711 section 3).
const MU_BIAS: u16 = 132;
/// The largest magnitude that mu-law can encode.
const MU_CLIP: u16 = 32_635;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::codec;

    fn values(encoding: &str) -> Vec<i16> {
        let format = crate::spool::testkit::format_of(encoding, 8_000);
        let mut out = Vec::new();
        let codes: Vec<u8> = (0..=255).collect();
        codec::decoder_for(&format).expect("G.711").decode(&codes, &mut out).expect("any byte");
        out
    }

    #[test]
    fn every_code_word_survives_and_every_sample_gets_the_nearest_step() {
        for (law, encoding) in [(CompandingLaw::A, "PCMA"), (CompandingLaw::Mu, "PCMU")] {
            let values = values(encoding);
            for (code, &value) in values.iter().enumerate() {
                let again = values[usize::from(encode(law, value))];
                assert_eq!(again, value, "{encoding} {code:#x}");
            }
            for sample in i16::MIN..=i16::MAX {
                let value = values[usize::from(encode(law, sample))];
                let error = (i32::from(value) - i32::from(sample)).abs();
                // Mu-law divides each range from one power of two to the next into 16 steps. The error is at most half
                // a step, i.e. 1/32 of the value. For small values, 16 more are allowed.
                let bound = i32::from(value).abs() / 32 + 16;
                assert!(error <= bound, "{encoding} {sample}: off by {error}");
            }
        }
    }
}
