//! Decodes G.722 at 64 kbit/s: two sub-bands of ADPCM, 16 kHz (ITU-T G.722; RFC 3551 section 4.5.2).
//!
//! Written from the Recommendation and bit-exact with it. Names in capitals are the blocks of its clause 6.2 (`INVQBL`,
//! `UPPOL2`, …). The RTP clock is 8000 Hz although the sound has 16000 samples a second. RFC 3551 section 4.5.2 keeps
//! this historical error.

use super::conceal::Concealer;
use super::{DecodeError, SpeechDecoder};

/// Decoder of one G.722 stream in mode 1: six bits for the lower sub-band, two for the higher.
#[derive(Clone, Debug)]
pub(crate) struct G722Decoder {
    low: SubBandDecoder,
    high: SubBandDecoder,
    /// The last inputs of the filter that combines both sub-bands (receive QMF).
    qmf: [i32; 24],
    concealer: Concealer,
}

impl G722Decoder {
    /// Returns a decoder in the reset state (clause 6.2).
    pub(crate) fn new() -> Self {
        Self {
            low: SubBandDecoder { scale: 32, ..SubBandDecoder::default() },
            high: SubBandDecoder { scale: 8, ..SubBandDecoder::default() },
            qmf: [0; 24],
            concealer: Concealer::new(RATE_HZ),
        }
    }

    /// Decodes one code word to two samples, in order of time.
    fn octet(&mut self, code: u8) -> [i16; 2] {
        let low = self.low.decode_low(usize::from(code & 63));
        let high = self.high.decode_high(usize::from(code >> 6));
        self.synthesize(low, high)
    }

    /// Combines the sub-bands by the receive quadrature mirror filter (clause 4.4; figure 22).
    fn synthesize(&mut self, low: i32, high: i32) -> [i16; 2] {
        self.qmf.copy_within(2.., 0);
        self.qmf[22] = low + high;
        self.qmf[23] = low - high;
        let (mut even, mut odd) = (0, 0);
        for (tap, pair) in self.qmf.as_chunks::<2>().0.iter().enumerate() {
            odd += pair[0] * QMF[tap];
            even += pair[1] * QMF[11 - tap];
        }
        [saturate(even >> 11) as i16, saturate(odd >> 11) as i16]
    }
}

impl Default for G722Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl SpeechDecoder for G722Decoder {
    fn sample_rate_hz(&self) -> u32 {
        RATE_HZ
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError> {
        if payload.is_empty() {
            return Err(DecodeError::Length);
        }
        let at = out.len();
        out.reserve(payload.len() * 2);
        for &code in payload {
            out.extend(self.octet(code));
        }
        self.concealer.note_decoded(&mut out[at..]);
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        self.concealer.conceal(samples, out);
    }
}

/// The adaptive predictor and quantizer of one sub-band.
#[derive(Clone, Debug, Default)]
struct SubBandDecoder {
    /// Logarithm of the scale factor of the quantizer (NBL or NBH).
    log_scale: i32,
    /// Scale factor of the quantizer (DETL or DETH).
    scale: i32,
    /// Predicted signal (SL or SH), and the part of it that the zeros predict (SZ).
    predicted: i32,
    zeros: i32,
    /// The last two reconstructed signals (RLT) and the last two partially reconstructed signals (PLT).
    recon: [i32; 2],
    partial: [i32; 2],
    /// Coefficients of the predictor: two of its poles (A1, A2), and six of its zeros (B1 to B6).
    poles: [i32; 2],
    zero: [i32; 6],
    /// The last six quantized differences between signal and prediction (DLT).
    diff: [i32; 6],
}

impl SubBandDecoder {
    /// Decodes a six-bit code to the lower sub-band's signal (INVQBL, RECONS, LIMIT, INVQAL, LOGSCL, SCALEL).
    fn decode_low(&mut self, code: usize) -> i32 {
        let signal = limit(self.predicted + ((self.scale * QM6[code]) >> 15));
        let coarse = code >> 2;
        let diff = (self.scale * QM4[coarse]) >> 15;
        self.log_scale = (((self.log_scale * 127) >> 7) + WL[coarse]).clamp(0, 18_432);
        self.scale = linear_scale(self.log_scale, 8);
        self.adapt(diff);
        signal
    }

    /// Decodes a two-bit code to the higher sub-band's signal (INVQAH, RECONS, LIMIT, LOGSCH, SCALEH).
    fn decode_high(&mut self, code: usize) -> i32 {
        let diff = (self.scale * QM2[code]) >> 15;
        let signal = limit(self.predicted + diff);
        self.log_scale = (((self.log_scale * 127) >> 7) + WH[code]).clamp(0, 22_528);
        self.scale = linear_scale(self.log_scale, 10);
        self.adapt(diff);
        signal
    }

    /// Adapts the predictor to a quantized difference and predicts the next sample (block 4).
    fn adapt(&mut self, diff: i32) {
        let recon = saturate(self.predicted + diff);
        let partial = saturate(self.zeros + diff);
        self.adapt_poles(partial);
        self.adapt_zeros(diff);
        self.recon = [recon, self.recon[0]];
        self.partial = [partial, self.partial[0]];
        self.diff.copy_within(..5, 1);
        self.diff[0] = diff;
        self.predict();
    }

    /// Adapts the coefficients of the predictor's poles (UPPOL2, UPPOL1).
    fn adapt_poles(&mut self, partial: i32) {
        let same = [(partial ^ self.partial[0]) >= 0, (partial ^ self.partial[1]) >= 0];
        let quadrupled = saturate(self.poles[0] << 2);
        let toward = if same[0] { saturate(-quadrupled) } else { quadrupled };
        let nudge = if same[1] { 128 } else { -128 };
        let second = (nudge + (toward >> 7) + ((self.poles[1] * 32_512) >> 15)).clamp(-12_288, 12_288);
        let nudge = if same[0] { 192 } else { -192 };
        let bound = saturate(15_360 - second);
        let first = saturate(nudge + ((self.poles[0] * 32_640) >> 15)).clamp(-bound, bound);
        self.poles = [first, second];
    }

    /// Adapts the coefficients of the predictor's zeros (UPZERO).
    fn adapt_zeros(&mut self, diff: i32) {
        let nudge = if diff == 0 { 0 } else { 128 };
        for (coefficient, &past) in self.zero.iter_mut().zip(&self.diff) {
            let toward = if (diff ^ past) >= 0 { nudge } else { -nudge };
            *coefficient = saturate(toward + ((*coefficient * 32_640) >> 15));
        }
    }

    /// Predicts the next sample from the last samples (FILTEP, FILTEZ, PREDIC).
    fn predict(&mut self) {
        let poles: i32 = self.poles.iter().zip(&self.recon).map(|(&a, &r)| (a * saturate(r + r)) >> 15).sum();
        let zeros: i32 = self.zero.iter().zip(&self.diff).map(|(&b, &d)| (b * saturate(d + d)) >> 15).sum();
        self.zeros = saturate(zeros);
        self.predicted = saturate(saturate(poles) + self.zeros);
    }
}

/// Converts a logarithm (base 2, 11 fractional bits) to the scale factor (SCALEL, SCALEH).
fn linear_scale(log: i32, exponent: i32) -> i32 {
    let mantissa = ILB[(log >> 6) as usize & 31];
    let shift = exponent - (log >> 11);
    (if shift < 0 { mantissa << -shift } else { mantissa >> shift }) << 2
}

/// Limits a value to the range of 16 bits.
fn saturate(value: i32) -> i32 {
    value.clamp(i32::from(i16::MIN), i32::from(i16::MAX))
}

/// Limits a value to the range of 15 bits (LIMIT).
fn limit(value: i32) -> i32 {
    value.clamp(-16_384, 16_383)
}

const RATE_HZ: u32 = 16_000;

/// Every second coefficient of the QMF filter (table 11). The other coefficients are the same numbers in reverse order,
/// because the filter is symmetrical.
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

/// Powers of two for the scale factors: 2048 * 2^(i/32) for i = 0 to 31 (tables 14 and 17).
const ILB: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, //
    2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

/// Multipliers of the logarithmic scale factor for each four-bit code of the lower sub-band (WL indexed by RL42).
const WL: [i32; 16] = [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];

/// Multipliers for the two-bit codes of the higher sub-band (WH indexed by RH2).
const WH: [i32; 4] = [798, -214, 798, -214];

/// Output values of the inverse quantizers, indexed by code.
const QM2: [i32; 4] = [-7408, -1616, 7408, 1616];
const QM4: [i32; 16] =
    [0, -20_456, -12_896, -8968, -6288, -4240, -2584, -1200, 20_456, 12_896, 8968, 6288, 4240, 2584, 1200, 0];
const QM6: [i32; 64] = [
    -136, -136, -136, -136, -24_808, -21_904, -19_008, -16_704, -14_984, -13_512, -12_280, -11_192, -10_232, -9360,
    -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688, -1360,
    -1040, -728, 24_808, 21_904, 19_008, 16_704, 14_984, 13_512, 12_280, 11_192, 10_232, 9360, 8576, 7856, 7192, 6576,
    6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
