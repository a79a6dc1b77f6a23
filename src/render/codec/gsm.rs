//! Decodes GSM full rate at 13 kbit/s (GSM 06.10, ETSI EN 300 961; RTP framing of RFC 3551 section 4.5.8).
//!
//! Written from the standard. Its 16-bit arithmetic is normative, so every conforming decoder gives the same samples.
//! Variable names in comments are those of its clause 5.3.

use super::conceal::Concealer;
use super::{DecodeError, MAX_STRAY_BYTES, SpeechDecoder};
use crate::codec::Codec;
use crate::codec::fixed_bits::GSM_FRAME_BYTES as FRAME_BYTES;
use crate::render::report::PayloadQuirk;

/// Decoder of one GSM full rate stream, with its state.
#[derive(Clone, Debug)]
pub(crate) struct GsmDecoder {
    /// The reconstructed residual (drp): 120 past samples, and 40 samples of the current subframe.
    residual: [i16; HISTORY + SUBFRAME],
    /// The last valid lag (nrp), i.e. the pitch period in samples.
    lag: usize,
    /// Log area ratios of the last frame (LARpp), which describe the filter of the voice.
    ratios: [i16; 8],
    /// State of the lattice filter that synthesizes the speech (v).
    lattice: [i16; 9],
    /// State of the filter that undoes the pre-emphasis (msr).
    emphasis: i16,
    concealer: Concealer,
    /// Whether the last payload had stray bytes after its frames.
    has_stray_bytes: bool,
}

impl GsmDecoder {
    /// Returns a decoder in the home state (clause 4.5).
    pub(crate) fn new() -> Self {
        Self {
            residual: [0; HISTORY + SUBFRAME],
            lag: 40,
            ratios: [0; 8],
            lattice: [0; 9],
            emphasis: 0,
            concealer: Concealer::new(8_000),
            has_stray_bytes: false,
        }
    }

    fn frame(&mut self, frame: &[u8; FRAME_BYTES], out: &mut Vec<i16>) {
        let mut bits = GsmBitReader { bytes: frame, at: 4 };
        let codes = LAR_BITS.map(|width| bits.take(width));
        let mut residual = [0; FRAME];
        for subframe in residual.as_chunks_mut::<SUBFRAME>().0 {
            self.excite(&mut bits, subframe);
        }
        self.synthesize(decode_ratios(codes), &residual, out);
    }

    /// Decodes the excitation of one subframe and applies long-term synthesis (clauses 5.3.1 and 5.3.2).
    fn excite(&mut self, bits: &mut GsmBitReader<'_>, out: &mut [i16; SUBFRAME]) {
        let (lag, gain, grid, peak) = (bits.take(7), bits.take(2), bits.take(2), bits.take(6));
        let mut pulses = [0; SUBFRAME];
        let (factor, shift) = block_amplitude(peak);
        for pulse in 0..13 {
            let level = (2 * bits.take(3) - 7) << 12;
            let scaled = mult_r(factor, level).saturating_add(half(shift));
            pulses[grid as usize + 3 * pulse] = scaled >> shift;
        }
        if (40..=120).contains(&lag) {
            self.lag = lag as usize;
        }
        for (at, pulse) in pulses.into_iter().enumerate() {
            let past = mult_r(GAINS[gain as usize], self.residual[HISTORY + at - self.lag]);
            self.residual[HISTORY + at] = pulse.saturating_add(past);
        }
        out.copy_from_slice(&self.residual[HISTORY..]);
        self.residual.copy_within(SUBFRAME.., 0);
    }

    /// Applies the lattice filter and de-emphasis (clauses 5.3.3 and 5.3.4). The filter's coefficients are interpolated
    /// from the last frame to this frame.
    fn synthesize(&mut self, ratios: [i16; 8], residual: &[i16; FRAME], out: &mut Vec<i16>) {
        let last = std::mem::replace(&mut self.ratios, ratios);
        for (range, blend) in SEGMENTS {
            let mut reflection = [0; 8];
            for i in 0..8 {
                reflection[i] = to_reflection(blend(last[i], ratios[i]));
            }
            for &sample in &residual[range.0..range.1] {
                let sample = self.lattice_step(&reflection, sample);
                self.emphasis = sample.saturating_add(mult_r(self.emphasis, 28_180));
                out.push(self.emphasis.saturating_add(self.emphasis) & !7);
            }
        }
    }

    fn lattice_step(&mut self, reflection: &[i16; 8], sample: i16) -> i16 {
        let mut sample = sample;
        for i in (0..8).rev() {
            sample = sample.saturating_sub(mult_r(reflection[i], self.lattice[i]));
            self.lattice[i + 1] = self.lattice[i].saturating_add(mult_r(reflection[i], sample));
        }
        self.lattice[0] = sample;
        sample
    }
}

impl Default for GsmDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl SpeechDecoder for GsmDecoder {
    fn sample_rate_hz(&self) -> u32 {
        8_000
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError> {
        let (frames, rest) = payload.as_chunks::<FRAME_BYTES>();
        if frames.is_empty() || rest.len() > MAX_STRAY_BYTES {
            return Err(DecodeError::Length);
        }
        // RFC 3551 section 4.5.8.1: every frame begins with the signature 0xD. Without it, the payload is refused.
        if !Codec::Gsm.has_fixed_bits(payload) {
            return Err(DecodeError::Content);
        }
        self.has_stray_bytes = !rest.is_empty();
        let at = out.len();
        for frame in frames {
            self.frame(frame, out);
        }
        self.concealer.note_decoded(&mut out[at..]);
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        self.concealer.conceal(samples, out);
    }

    fn quirk(&self) -> Option<PayloadQuirk> {
        self.has_stray_bytes.then_some(PayloadQuirk::TrailingBytes)
    }
}

/// Reads the bit fields of a frame, most significant bit first (RFC 3551 table 3). The decoder reads exactly as many
/// bits as a frame has, so the bits never run out.
struct GsmBitReader<'a> {
    bytes: &'a [u8; FRAME_BYTES],
    at: usize,
}

impl GsmBitReader<'_> {
    fn take(&mut self, width: usize) -> i16 {
        let mut value = 0;
        for at in self.at..self.at + width {
            value = value << 1 | i16::from(self.bytes[at / 8] >> (7 - at % 8) & 1);
        }
        self.at += width;
        value
    }
}

/// Decodes the log area ratios (clause 5.2.8).
fn decode_ratios(codes: [i16; 8]) -> [i16; 8] {
    let mut ratios = [0; 8];
    for (i, code) in codes.into_iter().enumerate() {
        let (offset, smallest, inverse) = LAR_TABLE[i];
        let value = ((code + smallest) << 10).saturating_sub(offset << 1);
        let value = mult_r(inverse, value);
        ratios[i] = value.saturating_add(value);
    }
    ratios
}

/// Converts a log area ratio to a reflection coefficient (clause 5.2.9.2).
fn to_reflection(ratio: i16) -> i16 {
    let size = ratio.saturating_abs();
    let value = match size {
        _ if size < 11_059 => size << 1,
        _ if size < 20_070 => size + 11_059,
        _ => (size >> 2).saturating_add(26_112),
    };
    if ratio < 0 { -value } else { value }
}

/// Decodes the block maximum to a factor and a right shift (clauses 5.2.15 and 5.2.16).
fn block_amplitude(code: i16) -> (i16, u32) {
    let mut exponent = if code > 15 { (code >> 3) - 1 } else { 0 };
    let mut mantissa = code - (exponent << 3);
    if mantissa == 0 {
        (exponent, mantissa) = (-4, 7);
    } else {
        while mantissa <= 7 {
            mantissa = mantissa << 1 | 1;
            exponent -= 1;
        }
        mantissa -= 8;
    }
    (FACTORS[mantissa as usize], (6 - exponent) as u32)
}

/// Returns the value that is added before a right shift to round the result.
fn half(shift: u32) -> i16 {
    if shift == 0 { 0 } else { 1 << (shift - 1) }
}

/// Multiplies two fractions and rounds the product as the standard does.
fn mult_r(a: i16, b: i16) -> i16 {
    if a == i16::MIN && b == i16::MIN {
        return i16::MAX;
    }
    ((i32::from(a) * i32::from(b) + 16_384) >> 15) as i16
}

const FRAME: usize = 160;
const SUBFRAME: usize = 40;
const HISTORY: usize = 120;

/// Number of bits for each of the eight coded log area ratios.
const LAR_BITS: [usize; 8] = [6, 6, 5, 5, 4, 4, 3, 3];

/// Constants B, MIC and INVA of tables 5.1 and 5.2, for the log area ratios.
const LAR_TABLE: [(i16, i16, i16); 8] = [
    (0, -32, 13_107),
    (0, -32, 13_107),
    (2048, -16, 13_107),
    (-2560, -16, 13_107),
    (94, -8, 19_223),
    (-1792, -8, 17_476),
    (-341, -4, 31_454),
    (-1144, -4, 29_708),
];

/// Gains of the long-term predictor (QLB of table 5.3b).
const GAINS: [i16; 4] = [3277, 11_469, 21_299, 32_767];

/// Factors for decoding the block maximum (FAC of table 5.6).
const FACTORS: [i16; 8] = [18_431, 20_479, 22_527, 24_575, 26_623, 28_671, 30_719, 32_767];

/// Interpolates between a log area ratio of the last frame (first argument) and of this frame (second argument).
type LarBlend = fn(i16, i16) -> i16;

/// Clause 5.2.9.1 of GSM 06.10: ranges of samples, each with the interpolation that applies there.
const SEGMENTS: [((usize, usize), LarBlend); 4] = [
    ((0, 13), |last, now| (last >> 2).saturating_add(now >> 2).saturating_add(last >> 1)),
    ((13, 27), |last, now| (last >> 1).saturating_add(now >> 1)),
    ((27, 40), |last, now| (last >> 2).saturating_add(now >> 2).saturating_add(now >> 1)),
    ((40, FRAME), |_, now| now),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_frames_and_frames_without_signature_are_refused() {
        let mut decoder = GsmDecoder::new();
        let mut out = Vec::new();
        assert_eq!(decoder.decode(&[], &mut out), Err(DecodeError::Length));
        assert_eq!(decoder.decode(&[0xD0; 37], &mut out), Err(DecodeError::Length));
        assert_eq!(decoder.decode(&[0x50; 33], &mut out), Err(DecodeError::Content));
        assert!(out.is_empty());
    }

    #[test]
    fn several_frames_in_a_packet_decode_as_single_frames_do() {
        let frames: Vec<u8> = (0..99u8).map(|i| if i % 33 == 0 { 0xD7 } else { i.wrapping_mul(73) }).collect();
        let (mut together, mut apart) = (Vec::new(), Vec::new());
        GsmDecoder::new().decode(&frames, &mut together).unwrap();
        let mut decoder = GsmDecoder::new();
        for frame in frames.chunks(33) {
            decoder.decode(frame, &mut apart).unwrap();
        }
        assert_eq!(together.len(), 480);
        assert_eq!(together, apart);
    }
}
