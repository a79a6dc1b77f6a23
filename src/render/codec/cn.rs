//! Decodes comfort noise (RFC 3389).

use super::{DecodeError, SpeechDecoder};

/// Generates the noise that comfort noise packets describe. Only the level is used. The spectral shape (reflection
/// coefficients) is ignored: at the low level of line noise, white noise sounds the same.
///
/// A packet has no duration, because the pause lasts until the next packet. So [`SpeechDecoder::decode`] gives no
/// samples. It sets the level for [`SpeechDecoder::conceal`].
#[derive(Clone, Debug)]
pub(crate) struct ComfortNoiseDecoder {
    rate_hz: u32,
    noise: NoiseGenerator,
}

impl ComfortNoiseDecoder {
    /// Returns a generator that is silent until the first packet sets a level.
    pub(crate) fn new(rate_hz: u32) -> Self {
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

/// Generates white noise. Every run of the program gives the same samples.
#[derive(Clone, Debug)]
pub(crate) struct NoiseGenerator {
    /// Largest magnitude of a sample; 0 means silence.
    peak: i32,
    state: u32,
}

impl NoiseGenerator {
    /// Returns a generator that is silent until a level is set.
    pub(crate) const fn new() -> Self {
        Self { peak: 0, state: 1 }
    }

    /// Sets the level in -dBov: 0 is the overload point, 127 is silence (RFC 3389 section 3.1). Noise louder than
    /// [`LOUDEST_DBOV`] is reduced to it.
    pub(crate) fn set_level(&mut self, minus_dbov: u8) {
        let mut peak = f64::from(i16::MAX) * SQRT_3;
        for _ in 0..minus_dbov.max(LOUDEST_DBOV) {
            peak *= ONE_DB_DOWN;
        }
        self.peak = if minus_dbov >= 127 { 0 } else { peak as i32 };
    }

    /// Appends this number of samples of noise to `out`.
    pub(crate) fn fill(&mut self, samples: usize, out: &mut Vec<i16>) {
        if self.peak == 0 {
            out.resize(out.len() + samples, 0);
            return;
        }
        out.extend((0..samples).map(|_| self.sample()));
    }

    fn sample(&mut self) -> i16 {
        // A linear congruential generator with the constants of Numerical Recipes. Its high bits suffice for noise.
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

/// Level of the loudest comfort noise, -dBov. Comfort noise is background, so a broken level must not drown speech.
pub(crate) const LOUDEST_DBOV: u8 = 30;

/// Square root of 3: ratio of peak to root mean square for evenly distributed values such as this noise.
const SQRT_3: f64 = 1.732_050_807_568_877_2;

/// Factor that lowers an amplitude by 1 dB. Repeated multiplication gives the same bits on every machine; `powf` need
/// not.
const ONE_DB_DOWN: f64 = 0.891_250_938_133_745_5;

#[cfg(test)]
mod tests {
    use super::*;

    fn rms_dbov(samples: &[i16]) -> f64 {
        let energy: f64 = samples.iter().map(|&s| f64::from(s) * f64::from(s)).sum();
        20.0 * ((energy / samples.len() as f64).sqrt() / 32767.0).log10()
    }

    #[test]
    fn noise_has_the_level_of_the_packet() {
        let mut decoder = ComfortNoiseDecoder::new(8000);
        let mut out = Vec::new();
        for level in [40, 50, 60] {
            out.clear();
            decoder.decode(&[level, 1, 2, 3], &mut out).unwrap();
            assert!(out.is_empty(), "a comfort noise packet has no length of its own");
            decoder.conceal(8000, None, &mut out);
            assert_eq!(out.len(), 8000);
            // The test tolerates 1 dB, because integer samples are coarse at -60 dBov (root mean square 33).
            assert!((rms_dbov(&out) + f64::from(level)).abs() < 1.0, "{level}: {}", rms_dbov(&out));
        }
    }

    #[test]
    fn noise_is_silent_before_the_first_packet_and_at_level_127() {
        let mut decoder = ComfortNoiseDecoder::new(8000);
        let mut out = Vec::new();
        decoder.conceal(100, None, &mut out);
        decoder.decode(&[127], &mut out).unwrap();
        decoder.conceal(100, None, &mut out);
        assert_eq!(out, [0; 200]);
    }

    #[test]
    fn full_scale_level_is_limited_and_an_empty_packet_refused() {
        let mut decoder = ComfortNoiseDecoder::new(8000);
        let mut out = Vec::new();
        decoder.decode(&[0], &mut out).unwrap();
        decoder.conceal(8000, None, &mut out);
        assert!((rms_dbov(&out) + 30.0).abs() < 1.0);
        assert_eq!(decoder.decode(&[], &mut out), Err(DecodeError::Length));
    }
}
