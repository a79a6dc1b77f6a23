//! Decodes G.726, i.e. ADPCM at 16, 24, 32 and 40 kbit/s (ITU-T G.726). Supports both packings, i.e. orders of the code
//! words in a byte (RFC 3551 section 4.5.4).
//!
//! Written from the formulas of the Recommendation's blocks (clause 4.2). Names in capitals are those blocks and
//! signals. Where the Recommendation counts modulo a power of two, two's complement gives the same result.
//!
//! The output is the linear signal SR (14 bits) on the 16-bit scale. The synchronous coding adjustment is left out: it
//! is needed only for several conversions between G.711 and G.726 in a row.

mod packing;

use super::conceal::Concealer;
use super::{DecodeError, SpeechDecoder};
use crate::codec::{G726Packing, G726Rate};

pub(crate) use packing::PackingJudge;

/// Returns the number of bits in a code word, 2 to 5.
const fn code_bits(rate: G726Rate) -> u32 {
    match rate {
        G726Rate::Two => 2,
        G726Rate::Three => 3,
        G726Rate::Four => 4,
        G726Rate::Five => 5,
    }
}

/// Returns the table of the quantizer's values for a bit rate, indexed by the magnitude of the code.
const fn quantizer_levels(rate: G726Rate) -> &'static [QuantizerLevel] {
    match rate {
        G726Rate::Two => &LEVELS_2,
        G726Rate::Three => &LEVELS_3,
        G726Rate::Four => &LEVELS_4,
        G726Rate::Five => &LEVELS_5,
    }
}

/// Decoder of one G.726 stream, with its state.
#[derive(Clone, Debug)]
pub(crate) struct G726Decoder {
    rate: G726Rate,
    packing: G726Packing,
    scale: ScaleFactor,
    speed: SpeedControl,
    predictor: AdaptivePredictor,
    concealer: Concealer,
}

impl G726Decoder {
    /// Returns a decoder in the reset state, which the Recommendation defines.
    pub(crate) fn new(rate: G726Rate, packing: G726Packing) -> Self {
        let (scale, speed, predictor) = (ScaleFactor::RESET, SpeedControl::default(), AdaptivePredictor::default());
        Self { rate, packing, scale, speed, predictor, concealer: Concealer::new(8_000) }
    }

    /// Decodes one code word to a sample of 14 bits (SR).
    fn sample(&mut self, code: usize) -> i16 {
        let levels = quantizer_levels(self.rate);
        // A negative code is the complement of the code of its magnitude.
        let negative = code >= levels.len();
        let level = levels[if negative { 2 * levels.len() - 1 - code } else { code }];
        let scale = self.scale.mixed(&self.speed);
        let magnitude = antilog(level.log + (scale >> 2));
        let breaks = self.predictor.tone && magnitude > self.scale.threshold();
        self.scale.adapt(scale, level.multiplier);
        let signal = self.predictor.take(QuantizedDifference { negative, magnitude }, self.rate, breaks);
        self.speed.adapt(level.speed, scale, self.predictor.tone, breaks);
        signal
    }

    /// Decodes a group of eight code words. With n bits a code word, the group has n octets; the last group of a
    /// payload may be shorter.
    fn group(&mut self, octets: &[u8], out: &mut Vec<i16>) {
        let bits = code_bits(self.rate);
        let held = octets.len() as u32 * 8 / bits;
        let mut word = 0u64;
        for (i, &octet) in octets.iter().enumerate() {
            word |= match self.packing {
                G726Packing::Rfc3551 => u64::from(octet) << (8 * i),
                G726Packing::Aal2 => u64::from(octet) << (56 - 8 * i),
            };
        }
        for i in 0..held {
            let code = match self.packing {
                G726Packing::Rfc3551 => word >> (bits * i),
                G726Packing::Aal2 => word >> (64 - bits * (i + 1)),
            };
            let code = code as usize & ((1 << bits) - 1);
            let sample = i32::from(self.sample(code)) << 2;
            out.push(sample.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16);
        }
    }
}

impl SpeechDecoder for G726Decoder {
    fn sample_rate_hz(&self) -> u32 {
        8_000
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError> {
        if payload.is_empty() {
            return Err(DecodeError::Length);
        }
        let at = out.len();
        for octets in payload.chunks(code_bits(self.rate) as usize) {
            self.group(octets, out);
        }
        self.concealer.note_decoded(&mut out[at..]);
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        self.concealer.conceal(samples, out);
    }
}

/// The logarithmic scale factor of the quantizer.
#[derive(Clone, Copy, Debug)]
struct ScaleFactor {
    /// Fast factor for speech (YU), with 9 fractional bits.
    fast: i32,
    /// Slow factor for data such as modem signals (YL), with 15 fractional bits.
    slow: i32,
}

impl ScaleFactor {
    /// The state of a new decoder: the fast and the slow factor have their lowest value.
    const RESET: Self = Self { fast: 544, slow: 544 << 6 };

    /// Returns the weighted mean of the slow and the fast factor; the speed control gives the weights (LIMA, MIX; Y).
    /// Products are rounded to zero.
    fn mixed(self, speed: &SpeedControl) -> i32 {
        let slow = self.slow >> 6;
        slow + (self.fast - slow) * (speed.control >> 2).min(64) / 64
    }

    /// Adapts the fast and the slow factor to the last code word (FILTD, LIMB, FILTE).
    fn adapt(&mut self, mixed: i32, multiplier: i32) {
        let step = ((multiplier << 5) - mixed) >> 5;
        self.fast = (mixed + step).clamp(544, 5_120);
        self.slow += self.fast + (-self.slow >> 6);
    }

    /// Returns three quarters of the slow factor on the linear scale (TRANS; DQTHR). If a difference exceeds it, the
    /// signal is no longer a modem tone.
    fn threshold(self) -> i32 {
        let (integer, fraction) = (self.slow >> 15, (self.slow >> 10) & 31);
        let whole = if integer <= 9 { (32 + fraction) << integer } else { 31 << 10 };
        (whole + whole / 2) / 2
    }
}

/// The speed at which the scale factor adapts. `control` (AP) is 0 for data and 256 or more for speech. It depends on a
/// short and a long average of the quantizer's output (DMS, DML).
#[derive(Clone, Copy, Debug, Default)]
struct SpeedControl {
    control: i32,
    short: i32,
    long: i32,
}

impl SpeedControl {
    /// Adapts the speed to the last code (FILTA, FILTB, SUBTC, FILTC, TRIGA).
    fn adapt(&mut self, output: i32, scale: i32, tone: bool, breaks: bool) {
        self.short += ((output << 9) - self.short) >> 5;
        self.long += ((output << 11) - self.long) >> 7;
        let apart = (4 * self.short - self.long).abs();
        let steady = scale >= 1_536 && apart < self.long / 8 && !tone;
        let target = if steady { 0 } else { 512 };
        self.control = if breaks { 256 } else { self.control + ((target - self.control) >> 4) };
    }
}

/// A quantized difference between the signal and its prediction (DQ).
#[derive(Clone, Copy, Debug)]
struct QuantizedDifference {
    negative: bool,
    magnitude: i32,
}

/// The predictor, a filter with two poles and six zeros. Arrays have the newest element first.
#[derive(Clone, Copy, Debug, Default)]
struct AdaptivePredictor {
    /// Coefficients of the poles (A1, A2) with 14 fractional bits, and the signals that they weight (SR).
    poles: [i32; 2],
    signals: [ShortFloat; 2],
    /// Coefficients of the zeros (B1 to B6) with 14 fractional bits, and the differences that they weight (DQ).
    zeros: [i32; 6],
    differences: [ShortFloat; 6],
    /// Whether each of the last two partial signals (difference plus the prediction by the zeros) was negative (PK).
    below: [bool; 2],
    /// Whether the signal may be a modem tone (TD).
    tone: bool,
}

impl AdaptivePredictor {
    /// Predicts the next signal (FMULT, ACCUM): the whole prediction (SE) and the zeros' part (SEZ).
    fn predict(&self) -> (i32, i32) {
        let zeros = weighed(&self.zeros, &self.differences);
        let poles = weighed(&self.poles, &self.signals);
        let halved = |sum: i32| i32::from(sum as i16) >> 1;
        (halved(zeros + poles), halved(zeros))
    }

    /// Reconstructs the signal (SR) from a difference (ADDB, ADDC), then adapts the coefficients. If `breaks` is true,
    /// a modem tone has ended, and the coefficients are reset instead.
    fn take(&mut self, difference: QuantizedDifference, rate: G726Rate, breaks: bool) -> i16 {
        let (whole, zeros) = self.predict();
        let value = if difference.negative { -difference.magnitude } else { difference.magnitude };
        let signal = (value + whole) as i16;
        let partial = i32::from((value + zeros) as i16);
        if breaks {
            (self.poles, self.zeros) = Default::default(); // TRIGB: the tone has ended
        } else {
            self.adapt_poles(partial);
            self.adapt_zeros(difference, rate);
        }
        self.tone = self.poles[1] < -11_776; // TONE: may be a modem tone
        self.below = [partial < 0, self.below[0]];
        self.signals = [ShortFloat::new(signal < 0, i32::from(signal).abs() & 0x7FFF), self.signals[0]];
        self.differences.rotate_right(1);
        self.differences[0] = ShortFloat::new(difference.negative, difference.magnitude);
        signal
    }

    /// Adapts the coefficients of the poles (XOR, UPA2, LIMC, UPA1, LIMD).
    fn adapt_poles(&mut self, partial: i32) {
        // The factors `one` and `two` are +1 if the sign equals the sign of one or two samples ago, and -1 if it
        // differs. They are 0 if the signal is 0 (SIGPK).
        let [one, two] = self.below.map(|below| match partial {
            0 => 0,
            _ if (partial < 0) == below => 1,
            _ => -1,
        });
        let [first, second] = self.poles;
        let pull = 16_384 * two - 4 * one * first.clamp(-8_191, 8_191);
        let second = (second + (pull >> 7) - (second >> 7)).clamp(-12_288, 12_288);
        let bound = 15_360 - second;
        self.poles = [(first + 192 * one - (first >> 8)).clamp(-bound, bound), second];
    }

    /// Adapts the coefficients of the zeros (XOR, UPB). They have 16 bits and overflow if the same code repeats for a
    /// second.
    fn adapt_zeros(&mut self, difference: QuantizedDifference, rate: G726Rate) {
        let leak = if rate == G726Rate::Five { 9 } else { 8 };
        let gain = if difference.magnitude == 0 { 0 } else { 128 };
        for (coefficient, past) in self.zeros.iter_mut().zip(&self.differences) {
            let step = if past.negative == difference.negative { gain } else { -gain };
            *coefficient = i32::from((*coefficient + step - (*coefficient >> leak)) as i16);
        }
    }
}

/// Returns the sum of the signals, each multiplied by its coefficient.
fn weighed(coefficients: &[i32], signals: &[ShortFloat]) -> i32 {
    coefficients.iter().zip(signals).map(|(&coefficient, signal)| signal.times(coefficient)).sum()
}

/// A number in the Recommendation's short floating point format: sign, 4 bits of exponent, 6 bits of mantissa.
#[derive(Clone, Copy, Debug)]
struct ShortFloat {
    negative: bool,
    exponent: i32,
    mantissa: i32,
}

impl Default for ShortFloat {
    fn default() -> Self {
        Self::new(false, 0)
    }
}

impl ShortFloat {
    /// Converts a sign and a magnitude to the short format (FLOATA, FLOATB).
    fn new(negative: bool, magnitude: i32) -> Self {
        let exponent = length(magnitude);
        let mantissa = if magnitude == 0 { 32 } else { (magnitude << 6) >> exponent };
        Self { negative, exponent, mantissa }
    }

    /// Multiplies by a coefficient, using 12 of its fractional bits (FMULT).
    fn times(self, coefficient: i32) -> i32 {
        let coefficient = coefficient >> 2;
        let other = Self::new(coefficient < 0, coefficient.abs() & 0x1FFF);
        let exponent = self.exponent + other.exponent;
        let mantissa = ((self.mantissa * other.mantissa + 48) >> 4) << 7;
        let magnitude = match exponent {
            ..=26 => mantissa >> (26 - exponent),
            _ => (mantissa << (exponent - 26)) & 0x7FFF,
        };
        if self.negative == other.negative { magnitude } else { -magnitude }
    }
}

/// Returns the number of significant bits of a magnitude; 0 for 0.
const fn length(magnitude: i32) -> i32 {
    (i32::BITS - magnitude.leading_zeros()) as i32
}

/// Returns 2^x for a logarithm with 7 fractional bits (ADDA, ANTILOG; DQ).
const fn antilog(log: i32) -> i32 {
    if log < 0 {
        return 0;
    }
    let (exponent, mantissa) = ((log >> 7) & 15, 128 + (log & 127));
    (mantissa << 7) >> (14 - exponent)
}

/// The quantizer's values for one magnitude of a code.
#[derive(Clone, Copy, Debug)]
struct QuantizerLevel {
    /// Logarithm of the quantized difference (DQLN), 7 fractional bits.
    log: i32,
    /// Multiplier by which the scale factor is adapted (W).
    multiplier: i32,
    /// Input F of the speed control: how strongly this code speeds up the adaptation.
    speed: i32,
}

const fn levels<const N: usize>(rows: [(i32, i32, i32); N]) -> [QuantizerLevel; N] {
    let mut levels = [QuantizerLevel { log: 0, multiplier: 0, speed: 0 }; N];
    let mut i = 0;
    while i < N {
        let (log, multiplier, speed) = rows[i];
        levels[i] = QuantizerLevel { log, multiplier, speed };
        i += 1;
    }
    levels
}

/// Quantizer (tables 7 to 10), multipliers W (table 11) and F (table 12) of the Recommendation, indexed by the
/// magnitude of the code.
static LEVELS_2: [QuantizerLevel; 2] = levels([(116, -22, 0), (365, 439, 7)]);
static LEVELS_3: [QuantizerLevel; 4] = levels([(-2048, -4, 0), (135, 30, 1), (273, 137, 2), (373, 582, 7)]);
static LEVELS_4: [QuantizerLevel; 8] = levels([
    (-2048, -12, 0),
    (4, 18, 0),
    (135, 41, 0),
    (213, 64, 1),
    (273, 112, 1),
    (323, 198, 1),
    (373, 355, 3),
    (425, 1122, 7),
]);
static LEVELS_5: [QuantizerLevel; 16] = levels([
    (-2048, 14, 0),
    (-66, 14, 0),
    (28, 24, 0),
    (104, 39, 0),
    (169, 40, 0),
    (224, 41, 1),
    (274, 58, 1),
    (318, 100, 1),
    (358, 141, 1),
    (395, 179, 1),
    (429, 219, 2),
    (459, 280, 3),
    (488, 358, 4),
    (514, 440, 5),
    (539, 529, 6),
    (566, 696, 6),
]);

#[cfg(test)]
mod tests;
