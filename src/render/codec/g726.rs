//! G.726: ADPCM at 16, 24, 32 and 40 kbit/s, in both packings (ITU-T G.726; RFC 3551 section 4.5.4).
//!
//! Written from the Recommendation; the names of its blocks (clause 4.2) stand at the functions, and the arithmetic is
//! its own to the bit. The output is the linear signal of FMULT's precision (SR, 14 bits) on the 16-bit scale; the
//! synchronous coding adjustment, which serves only a chain of G.711 and G.726, is left out.

use super::conceal::Concealer;
use super::{Decoder, Undecodable};

/// Bits a code word: the rate over 8 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// 16 kbit/s.
    Two,
    /// 24 kbit/s.
    Three,
    /// 32 kbit/s.
    Four,
    /// 40 kbit/s.
    Five,
}

impl Rate {
    const fn bits(self) -> u32 {
        match self {
            Self::Two => 2,
            Self::Three => 3,
            Self::Four => 4,
            Self::Five => 5,
        }
    }

    /// Quantizer output, scale factor multiplier and speed for the magnitude of a code.
    const fn tables(self) -> &'static [Level] {
        match self {
            Self::Two => &LEVELS_2,
            Self::Three => &LEVELS_3,
            Self::Four => &LEVELS_4,
            Self::Five => &LEVELS_5,
        }
    }
}

/// How code words stand in an octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// The first code word in the least significant bits: `G726-32` (RFC 3551 section 4.5.4).
    Rfc3551,
    /// The first code word in the most significant bits: `AAL2-G726-32` (I.366.2 annex E).
    Aal2,
}

/// Decoder of one G.726 stream.
#[derive(Clone, Debug)]
pub struct G726 {
    rate: Rate,
    packing: Packing,
    adpcm: Adpcm,
    concealer: Concealer,
}

impl G726 {
    /// The state after a reset.
    pub fn new(rate: Rate, packing: Packing) -> Self {
        Self { rate, packing, adpcm: Adpcm::new(), concealer: Concealer::new(8_000) }
    }

    /// Decodes eight code words, which fill as many octets as a code word has bits, or the fewer that `octets` hold.
    fn group(&mut self, octets: &[u8], out: &mut Vec<i16>) {
        let bits = self.rate.bits();
        let held = octets.len() as u32 * 8 / bits;
        let mut word = 0u64;
        for (i, &octet) in octets.iter().enumerate() {
            word |= match self.packing {
                Packing::Rfc3551 => u64::from(octet) << (8 * i),
                Packing::Aal2 => u64::from(octet) << (56 - 8 * i),
            };
        }
        for i in 0..held {
            let code = match self.packing {
                Packing::Rfc3551 => word >> (bits * i),
                Packing::Aal2 => word >> (64 - bits * (i + 1)),
            };
            let code = code as usize & ((1 << bits) - 1);
            let sample = i32::from(self.adpcm.decode(self.rate, code)) << 2;
            out.push(sample.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16);
        }
    }
}

impl Decoder for G726 {
    fn sample_rate_hz(&self) -> u32 {
        8_000
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), Undecodable> {
        if payload.is_empty() {
            return Err(Undecodable::Length);
        }
        let at = out.len();
        for octets in payload.chunks(self.rate.bits() as usize) {
            self.group(octets, out);
        }
        self.concealer.heard(&mut out[at..]);
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        self.concealer.conceal(samples, out);
    }
}

/// The adaptive quantizer and predictor. Names in brackets are the Recommendation's.
#[derive(Clone, Debug)]
struct Adpcm {
    /// Slow and fast logarithmic scale factors (YL, YU).
    slow: i32,
    fast: i32,
    /// Short and long term averages of the quantizer output's size (DMS, DML), speed control (AP).
    short: i32,
    long: i32,
    speed: i32,
    /// Predictor coefficients (A, B).
    poles: [i32; 2],
    zeros: [i32; 6],
    /// Signs of the last two partial signals (PK): true is negative.
    signs: [bool; 2],
    /// Past differences and signals (DQ, SR) in the floating point of FLOATA and FLOATB.
    differences: [Float; 6],
    signals: [Float; 2],
    /// A partial band signal, such as a modem's tone, was detected (TD).
    tone: bool,
}

impl Adpcm {
    fn new() -> Self {
        Self {
            slow: 34_816,
            fast: 544,
            short: 0,
            long: 0,
            speed: 0,
            poles: [0; 2],
            zeros: [0; 6],
            signs: [false; 2],
            differences: [Float::ZERO; 6],
            signals: [Float::ZERO; 2],
            tone: false,
        }
    }

    /// One code word to one sample of 14 bits (SR).
    fn decode(&mut self, rate: Rate, code: usize) -> i16 {
        let prediction = self.predict();
        let scale = self.scale();
        self.step(rate, code, prediction, scale)
    }

    fn step(&mut self, rate: Rate, code: usize, prediction: Prediction, scale: i32) -> i16 {
        let size = rate.tables().len();
        let negative = code >= size;
        // A negative code is the complement of its magnitude's.
        let level = &rate.tables()[if negative { 2 * size - 1 - code } else { code }];
        let magnitude = antilog(level.log + (scale >> 2));
        let difference = if negative { -magnitude } else { magnitude };
        let signal = (prediction.all + difference) as i16;
        let partial = i32::from((difference + prediction.zeros) as i16);
        let transition = self.transition(magnitude);
        self.adapt_scale(scale, level.multiplier);
        self.adapt_predictor(rate, negative, magnitude, partial, transition);
        self.remember(negative, magnitude, signal, partial);
        // TONE and TRIGB.
        self.tone = !transition && self.poles[1] < -11_776;
        self.adapt_speed(level.speed, scale, transition);
        signal
    }

    /// FMULT, ACCUM: the prediction, and the part of it from the zeros.
    fn predict(&self) -> Prediction {
        let zeros: i32 = self.zeros.iter().zip(&self.differences).map(|(&b, &dq)| dq.times(b >> 2)).sum();
        let poles: i32 = self.poles.iter().zip(&self.signals).map(|(&a, &sr)| sr.times(a >> 2)).sum();
        let wrapped = |sum: i32| i32::from(sum as i16) >> 1;
        Prediction { zeros: wrapped(zeros), all: wrapped(zeros + poles) }
    }

    /// LIMA, MIX: the scale factor between the slow and the fast one (Y).
    fn scale(&self) -> i32 {
        if self.speed >= 256 {
            return self.fast;
        }
        let slow = self.slow >> 6;
        let (difference, limited) = (self.fast - slow, self.speed >> 2);
        // Rounding is towards zero.
        slow + if difference < 0 { (difference * limited + 63) >> 6 } else { (difference * limited) >> 6 }
    }

    /// TRANS: the difference is larger than what the slow scale factor lets expect of a tone.
    fn transition(&self, magnitude: i32) -> bool {
        let (whole, fraction) = (self.slow >> 15, (self.slow >> 10) & 31);
        let threshold = if whole > 9 { 31 << 10 } else { (32 + fraction) << whole };
        self.tone && magnitude > (threshold + (threshold >> 1)) >> 1
    }

    /// FILTD, LIMB, FILTE.
    fn adapt_scale(&mut self, scale: i32, multiplier: i32) {
        self.fast = (scale + (((multiplier << 5) - scale) >> 5)).clamp(544, 5_120);
        self.slow += self.fast + ((-self.slow) >> 6);
    }

    /// UPA1, UPA2, UPB, LIMC, LIMD, XOR.
    fn adapt_predictor(&mut self, rate: Rate, negative: bool, magnitude: i32, partial: i32, transition: bool) {
        if transition {
            self.poles = [0; 2];
            self.zeros = [0; 6];
            return;
        }
        let sign = partial < 0;
        let [first, second] = self.poles;
        let mut second = second - (second >> 7);
        let mut first_next = first - (first >> 8);
        if partial != 0 {
            let toward = if sign == self.signs[0] { -first } else { first };
            second += match toward {
                ..=-8_192 => -0x100,
                -8_191..=8_191 => toward >> 5,
                _ => 0xFF,
            };
            second += if sign == self.signs[1] { 0x80 } else { -0x80 };
            first_next += if sign == self.signs[0] { 192 } else { -192 };
        }
        let second = second.clamp(-12_288, 12_288);
        let bound = 15_360 - second;
        self.poles = [first_next.clamp(-bound, bound), second];
        let leak = if rate == Rate::Five { 9 } else { 8 };
        for (coefficient, past) in self.zeros.iter_mut().zip(&self.differences) {
            *coefficient -= *coefficient >> leak;
            if magnitude != 0 {
                *coefficient += if past.negative == negative { 128 } else { -128 };
            }
            // UPB is of 16 bits and wraps: a code repeated for a second gets there.
            *coefficient = i32::from(*coefficient as i16);
        }
    }

    /// FLOATA, FLOATB and the delays.
    fn remember(&mut self, negative: bool, magnitude: i32, signal: i16, partial: i32) {
        self.differences.copy_within(..5, 1);
        self.differences[0] = Float::new(negative, magnitude);
        self.signals = [Float::new(signal < 0, i32::from(signal).abs() & 0x7FFF), self.signals[0]];
        self.signs = [partial < 0, self.signs[0]];
    }

    /// FUNCTF, FILTA, FILTB, SUBTC, FILTC, TRIGA.
    fn adapt_speed(&mut self, speed: i32, scale: i32, transition: bool) {
        self.short += ((speed << 9) - self.short) >> 5;
        self.long += ((speed << 11) - self.long) >> 7;
        let unsteady = scale < 1_536 || self.tone || ((self.short << 2) - self.long).abs() >= self.long >> 3;
        self.speed = match (transition, unsteady) {
            (true, _) => 256,
            (false, true) => self.speed + ((0x200 - self.speed) >> 4),
            (false, false) => self.speed + ((-self.speed) >> 4),
        };
    }
}

/// The prediction of a sample (SE) and its zeros' part (SEZ).
#[derive(Clone, Copy, Debug)]
struct Prediction {
    zeros: i32,
    all: i32,
}

/// The Recommendation's short floating point: sign, 4 bits of exponent, 6 of mantissa.
#[derive(Clone, Copy, Debug)]
struct Float {
    negative: bool,
    exponent: i32,
    mantissa: i32,
}

impl Float {
    const ZERO: Self = Self { negative: false, exponent: 0, mantissa: 32 };

    fn new(negative: bool, magnitude: i32) -> Self {
        if magnitude == 0 {
            return Self { negative, ..Self::ZERO };
        }
        let exponent = length(magnitude);
        Self { negative, exponent, mantissa: (magnitude << 6) >> exponent }
    }

    /// FMULT: times a coefficient.
    fn times(self, coefficient: i32) -> i32 {
        let magnitude = if coefficient > 0 { coefficient } else { -coefficient & 0x1FFF };
        let exponent = length(magnitude) - 6;
        let mantissa = match (magnitude, exponent) {
            (0, _) => 32,
            (_, 0..) => magnitude >> exponent,
            _ => magnitude << -exponent,
        };
        let exponent = exponent + self.exponent - 13;
        let mantissa = (mantissa * self.mantissa + 0x30) >> 4;
        let product = if exponent >= 0 { (mantissa << exponent) & 0x7FFF } else { mantissa >> -exponent };
        if (coefficient < 0) == self.negative { product } else { -product }
    }
}

/// Number of significant bits.
const fn length(magnitude: i32) -> i32 {
    (i32::BITS - magnitude.leading_zeros()) as i32
}

/// ADDA, ANTILOG: 2^x with 7 fractional bits (DQ).
const fn antilog(log: i32) -> i32 {
    if log < 0 {
        return 0;
    }
    let (exponent, mantissa) = ((log >> 7) & 15, 128 + (log & 127));
    (mantissa << 7) >> (14 - exponent)
}

/// What a code's magnitude means.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// Logarithm of the quantized difference (DQLN), 7 fractional bits.
    log: i32,
    /// Scale factor multiplier (W).
    multiplier: i32,
    /// Speed (F).
    speed: i32,
}

const fn levels<const N: usize>(rows: [(i32, i32, i32); N]) -> [Level; N] {
    let mut levels = [Level { log: 0, multiplier: 0, speed: 0 }; N];
    let mut i = 0;
    while i < N {
        let (log, multiplier, speed) = rows[i];
        levels[i] = Level { log, multiplier, speed };
        i += 1;
    }
    levels
}

/// Tables 7 to 10 (quantizer), 11 (W) and 12 (F) of the Recommendation, by magnitude.
static LEVELS_2: [Level; 2] = levels([(116, -22, 0), (365, 439, 7)]);
static LEVELS_3: [Level; 4] = levels([(-2048, -4, 0), (135, 30, 1), (273, 137, 2), (373, 582, 7)]);
static LEVELS_4: [Level; 8] = levels([
    (-2048, -12, 0),
    (4, 18, 0),
    (135, 41, 0),
    (213, 64, 1),
    (273, 112, 1),
    (323, 198, 1),
    (373, 355, 3),
    (425, 1122, 7),
]);
static LEVELS_5: [Level; 16] = levels([
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
