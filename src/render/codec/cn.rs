//! Comfort noise (RFC 3389): a level, and nothing to hear until the next talk spurt.

use super::{DecodeError, SpeechDecoder};

/// Makes the noise that a comfort noise packet describes. Only its level is used: the spectral shape (reflection
/// coefficients) is left out, because at the levels of a quiet line it cannot be told from white noise.
///
/// A packet has no duration (the pause lasts until the next packet), so [`SpeechDecoder::decode`] gives no samples and sets
/// the level of what [`SpeechDecoder::conceal`] gives.
#[derive(Clone, Debug)]
pub struct ComfortNoiseDecoder {
    rate_hz: u32,
    noise: NoiseGenerator,
}

impl ComfortNoiseDecoder {
    /// Silence until the first packet.
    pub fn new(rate_hz: u32) -> Self {
        Self { rate_hz, noise: NoiseGenerator::new() }
    }
}

impl SpeechDecoder for ComfortNoiseDecoder {
    fn sample_rate_hz(&self) -> u32 {
        self.rate_hz
    }

    fn decode(&mut self, payload: &[u8], _out: &mut Vec<i16>) -> Result<(), DecodeError> {
        let &level = payload.first().ok_or(DecodeError::Length)?;
        self.noise.set_level(level & 0x7F); // RFC 3389 section 3.1: the first bit is 0
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        self.noise.fill(samples, out);
    }
}

/// White noise of a level, the same in every run.
#[derive(Clone, Debug)]
pub struct NoiseGenerator {
    /// Largest value; 0 is silence.
    peak: i32,
    state: u32,
}

impl NoiseGenerator {
    /// Silence until a level is set.
    pub const fn new() -> Self {
        Self { peak: 0, state: 1 }
    }

    /// Sets the level in -dBov: 0 is the overload point, 127 silence (RFC 3389 section 3.1). Louder than
    /// [`LOUDEST_DBOV`] is taken as that.
    pub fn set_level(&mut self, minus_dbov: u8) {
        let mut peak = f64::from(i16::MAX) * SQRT_3;
        for _ in 0..minus_dbov.max(LOUDEST_DBOV) {
            peak *= ONE_DB_DOWN;
        }
        self.peak = if minus_dbov >= 127 { 0 } else { peak as i32 };
    }

    /// Appends noise.
    pub fn fill(&mut self, samples: usize, out: &mut Vec<i16>) {
        if self.peak == 0 {
            out.resize(out.len() + samples, 0);
            return;
        }
        out.extend((0..samples).map(|_| self.sample()));
    }

    fn sample(&mut self) -> i16 {
        // Numerical Recipes' linear congruential generator; its high bits are good enough for noise.
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let unit = (self.state >> 16) as i32 - 0x8000;
        ((unit * self.peak) >> 15) as i16
    }
}

impl Default for NoiseGenerator {
    fn default() -> Self {
        Self::new()
    }
}

/// No comfort noise is louder than this in a recording: it is background, and a broken level must not drown speech.
pub const LOUDEST_DBOV: u8 = 30;

/// Peak over root mean square of an even distribution.
const SQRT_3: f64 = 1.732_050_807_568_877_2;

/// Amplitude ratio of -1 dB. Multiplying it out gives the same bits everywhere, which `powf` need not.
const ONE_DB_DOWN: f64 = 0.891_250_938_133_745_5;

#[cfg(test)]
mod tests {
    use super::*;

    fn rms_dbov(samples: &[i16]) -> f64 {
        let energy: f64 = samples.iter().map(|&s| f64::from(s) * f64::from(s)).sum();
        20.0 * ((energy / samples.len() as f64).sqrt() / 32767.0).log10()
    }

    #[test]
    fn noise_has_the_level_that_the_packet_says() {
        let mut decoder = ComfortNoiseDecoder::new(8000);
        let mut out = Vec::new();
        for level in [40, 50, 60] {
            out.clear();
            decoder.decode(&[level, 1, 2, 3], &mut out).unwrap();
            assert!(out.is_empty(), "a comfort noise packet has no length of its own");
            decoder.conceal(8000, None, &mut out);
            assert_eq!(out.len(), 8000);
            // 1 dB: the integers are coarse at -60 dBov (root mean square 33).
            assert!((rms_dbov(&out) + f64::from(level)).abs() < 1.0, "{level}: {}", rms_dbov(&out));
        }
    }

    #[test]
    fn before_the_first_packet_and_at_level_127_it_is_silent() {
        let mut decoder = ComfortNoiseDecoder::new(8000);
        let mut out = Vec::new();
        decoder.conceal(100, None, &mut out);
        decoder.decode(&[127], &mut out).unwrap();
        decoder.conceal(100, None, &mut out);
        assert_eq!(out, [0; 200]);
    }

    #[test]
    fn a_level_of_full_scale_is_held_down_and_an_empty_packet_refused() {
        let mut decoder = ComfortNoiseDecoder::new(8000);
        let mut out = Vec::new();
        decoder.decode(&[0], &mut out).unwrap();
        decoder.conceal(8000, None, &mut out);
        assert!((rms_dbov(&out) + 30.0).abs() < 1.0);
        assert_eq!(decoder.decode(&[], &mut out), Err(DecodeError::Length));
    }
}
