//! Converts the sampling rate of one channel without adding delay.
//!
//! The delay of the FFT resampler (rubato) is removed: output sample `n` belongs to the time `n / to_hz` of the input,
//! in seconds. The output is exactly as long as the input.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

/// Converts a stream of samples from one sampling rate to another.
pub struct Resampler {
    from_hz: u32,
    to_hz: u32,
    /// The converter; `None` if both rates are equal.
    converter: Option<FftConverter>,
    /// Number of input samples so far. Times the ratio of the rates, it gives the number of output samples that are
    /// due; `given` counts those already output.
    taken: u64,
    given: u64,
}

struct FftConverter {
    fft: Fft<f32>,
    /// Input samples that do not fill a block yet.
    pending: Vec<f32>,
    block: Vec<f32>,
    /// Number of output samples at the beginning that are still to be dropped, to remove the resampler's delay.
    delay: usize,
}

impl Resampler {
    /// Returns a converter from `from_hz` to `to_hz`. Returns `None` if a rate is 0, or if the ratio of both needs
    /// blocks longer than [`LONGEST_BLOCK`].
    pub fn new(from_hz: u32, to_hz: u32) -> Option<Self> {
        if from_hz == 0 || to_hz == 0 {
            return None;
        }
        let converter = if from_hz == to_hz { None } else { Some(FftConverter::new(from_hz, to_hz)?) };
        Some(Self { from_hz, to_hz, converter, taken: 0, given: 0 })
    }

    /// Converts samples and appends the output that is ready. The output trails the input by up to two blocks
    /// ([`BLOCK_MS`]).
    pub fn push(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        self.taken += samples.len() as u64;
        let at = out.len();
        match &mut self.converter {
            None => out.extend_from_slice(samples),
            Some(converter) => converter.push(samples, out),
        }
        self.given += (out.len() - at) as u64;
    }

    /// Ends the stream and appends the remaining output. The whole output then lasts as long as the whole input, with
    /// an error below one sample. The converter can be used again.
    pub fn finish(&mut self, out: &mut Vec<i16>) {
        let due = self.due();
        if let Some(converter) = &mut self.converter {
            let silence = vec![0; converter.fft.input_frames_max()];
            let mut missing = due.saturating_sub(self.given);
            while missing > 0 {
                let at = out.len();
                converter.push(&silence, out);
                let keep = missing.min((out.len() - at) as u64);
                out.truncate(at + keep as usize);
                missing -= keep;
            }
            converter.reset();
        }
        (self.taken, self.given) = (0, 0);
    }

    /// Returns the number of output samples that have the same duration as all input so far.
    fn due(&self) -> u64 {
        let (from, to) = (u128::from(self.from_hz), u128::from(self.to_hz));
        ((u128::from(self.taken) * to + from / 2) / from) as u64
    }
}

impl FftConverter {
    fn new(from_hz: u32, to_hz: u32) -> Option<Self> {
        // The block length is an even multiple of the reduced ratio of the rates. Otherwise the delay would not be a
        // whole number of samples.
        let smallest = 2 * (from_hz / gcd(from_hz, to_hz)) as usize;
        let wanted = (from_hz as usize * BLOCK_MS / 1000).next_multiple_of(smallest);
        if wanted > LONGEST_BLOCK || wanted as u64 * u64::from(to_hz) / u64::from(from_hz) > LONGEST_BLOCK as u64 {
            return None;
        }
        let window = WindowFunction::BlackmanHarris2;
        let fft = Fft::new_custom(from_hz as usize, to_hz as usize, wanted, 1, 1, window, FixedSync::Both).ok()?;
        let (block, delay) = (vec![0.0; fft.output_frames_max()], fft.output_delay());
        Some(Self { fft, pending: Vec::new(), block, delay })
    }

    fn push(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        self.pending.extend(samples.iter().map(|&sample| f32::from(sample)));
        let need = self.fft.input_frames_next();
        let mut used = 0;
        while let Some(input) = self.pending.get(used..used + need) {
            let given = convert(&mut self.fft, input, &mut self.block);
            used += need;
            let skip = self.delay.min(given);
            self.delay -= skip;
            out.extend(self.block[skip..given].iter().map(|&sample| to_sample(sample)));
        }
        self.pending.drain(..used);
    }

    fn reset(&mut self) {
        self.fft.reset();
        self.pending.clear();
        self.delay = self.fft.output_delay();
    }
}

/// Converts one block. Returns the number of samples written to `block`.
fn convert(fft: &mut Fft<f32>, input: &[f32], block: &mut [f32]) -> usize {
    let frames = (input.len(), block.len());
    let input = InterleavedSlice::new(input, 1, frames.0).expect("one channel as long as its slice");
    let mut output = InterleavedSlice::new_mut(block, 1, frames.1).expect("one channel as long as its slice");
    let (_, given) =
        fft.process_into_buffer(&input, &mut output, None).expect("both blocks have the sizes it asked for");
    given
}

fn to_sample(value: f32) -> i16 {
    value.round() as i16 // a float cast saturates
}

const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Length of a block, ms. With 32 ms, the step from pass band to stop band is about 120 Hz wide.
const BLOCK_MS: usize = 32;

/// Maximum length of a block, samples. Rates with hardly a common factor, e.g. 48001 Hz and 48000 Hz, would need blocks
/// of up to a second. Such a rate is a mistake of the sender, so it is refused.
const LONGEST_BLOCK: usize = 4_800;

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate_hz: u32, hz: f64, seconds: f64) -> Vec<i16> {
        let step = std::f64::consts::TAU * hz / f64::from(rate_hz);
        (0..(f64::from(rate_hz) * seconds) as usize)
            .map(|n| ((n as f64 * step).sin() * 10_000.0).round() as i16)
            .collect()
    }

    fn resampled(from: u32, to: u32, samples: &[i16], piece: usize) -> Vec<i16> {
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut out = Vec::new();
        for piece in samples.chunks(piece) {
            resampler.push(piece, &mut out);
        }
        resampler.finish(&mut out);
        out
    }

    /// Returns the signal-to-noise ratio in dB. The first and last 50 ms are left out, because the tone begins and ends
    /// there.
    fn snr_db(rate_hz: u32, expected: &[i16], got: &[i16]) -> f64 {
        let edge = rate_hz as usize / 20;
        let pairs = || expected.iter().zip(got).skip(edge).take(expected.len() - 2 * edge);
        let signal: f64 = pairs().map(|(&a, _)| f64::from(a).powi(2)).sum();
        let noise: f64 = pairs().map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
        10.0 * (signal / noise.max(1e-9)).log10()
    }

    #[test]
    fn tone_keeps_position_and_level_between_all_call_rates() {
        let rates = [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];
        for from in rates {
            for to in [8_000, 16_000, 48_000] {
                for hz in [100.0, 1_000.0, 3_400.0] {
                    let got = resampled(from, to, &tone(from, hz, 0.4), 160);
                    let expected = tone(to, hz, 0.4);
                    assert_eq!(got.len(), expected.len(), "{from} to {to}");
                    // Even a perfect converter reaches at most 88 dB with this tone, because samples are rounded to 16
                    // bits.
                    let snr = snr_db(to, &expected, &got);
                    assert!(snr > 60.0, "{from} to {to} at {hz} Hz: {snr:.1} dB");
                }
            }
        }
    }

    #[test]
    fn frequencies_above_the_lower_rate_are_removed() {
        for (from, hz) in [(16_000, 4_300.0), (16_000, 7_000.0), (48_000, 5_000.0), (48_000, 20_000.0)] {
            let out = resampled(from, 8_000, &tone(from, hz, 0.5), 320);
            let loudest = out[400..3_600].iter().map(|s| s.unsigned_abs()).max().unwrap();
            assert!(loudest <= 10, "{from} at {hz}: {loudest} of 10000 is left (60 dB below: 10)");
        }
    }

    #[test]
    fn output_length_equals_input_length_for_any_chunk_size() {
        let samples: Vec<i16> = (0..10_007u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 18) as i16).collect();
        for (from, to, length) in [(8_000, 16_000, 20_014), (16_000, 8_000, 5_004), (48_000, 16_000, 3_336)] {
            let whole = resampled(from, to, &samples, samples.len());
            assert_eq!(whole.len(), length, "{from} to {to}");
            for piece in [1, 7, 160, 9_999] {
                assert_eq!(resampled(from, to, &samples, piece), whole, "{from} to {to} by {piece}");
            }
        }
        assert_eq!(resampled(8_000, 8_000, &samples, 100), samples);
        assert!(resampled(8_000, 16_000, &[], 1).is_empty());
    }

    #[test]
    fn resampler_restarts_after_finish() {
        let samples = tone(8_000, 700.0, 0.1);
        let mut resampler = Resampler::new(8_000, 16_000).unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for out in [&mut first, &mut second] {
            resampler.push(&samples, out);
            resampler.finish(out);
        }
        assert_eq!(first, second);
    }

    #[test]
    fn full_scale_input_does_not_overflow() {
        let square: Vec<i16> = (0..4_000).map(|n| if n / 20 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let out = resampled(8_000, 16_000, &square, 160);
        // In the middle of each half wave of 20 samples, the output has the sign of the input. An overflow would change
        // the sign.
        for n in (20..3_980).step_by(20).filter(|n| n % 20 == 0) {
            let (at, sign) = (n + 10, if n / 20 % 2 == 0 { 1 } else { -1 });
            assert!(i32::from(out[2 * at]) * sign > 25_000, "{at}: {}", out[2 * at]);
        }
    }

    #[test]
    fn absurd_rates_are_refused() {
        assert!(Resampler::new(0, 8_000).is_none());
        assert!(Resampler::new(8_000, 0).is_none());
        assert!(Resampler::new(48_001, 8_000).is_none());
    }
}
