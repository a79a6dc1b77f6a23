//! The test tone of each side, and the measurement of the tones in a recording.

use std::f64::consts::TAU;
use std::path::Path;

use super::script::PTIME_MS;
use crate::call::record::Side;
use crate::codec::CompandingLaw;
use crate::recording::g711;
use crate::recording::verify::{VerifyError, decode};

/// For each channel, the share of its energy (0 to 1) that is at the frequency of each side's tone: `[channel][side]`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ToneShares {
    shares: [[f64; 2]; 2],
    /// Number of samples that were measured in each channel.
    pub(super) samples: u64,
}

/// Returns the payload of one RTP packet with the tone of a side. `number` counts the packets of the side from 0.
pub(super) fn tone_packet(side: Side, number: u32) -> Vec<u8> {
    let length = u64::from(PTIME_MS) * RATE / 1_000;
    let first = u64::from(number) * length;
    (first..first + length)
        .map(|n| {
            let sample = LEVEL * (TAU * frequency(side) * n as f64 / RATE as f64).sin();
            g711::encode(CompandingLaw::A, sample as i16)
        })
        .collect()
}

/// Measures the tones in a recording.
///
/// # Errors
/// Fails if the file cannot be read or decoded.
pub(super) fn measure(path: &Path, sample_rate: u32) -> Result<ToneShares, VerifyError> {
    let mut channels = [Vec::new(), Vec::new()];
    decode(path, sample_rate, &mut |frames| {
        for frame in frames {
            channels.iter_mut().zip(frame).for_each(|(channel, sample)| channel.push(f64::from(*sample)));
        }
    })?;
    let samples = channels[0].len() as u64;
    let shares = channels.map(|channel| {
        [Side::Caller, Side::Callee].map(|side| share(&channel, frequency(side) / f64::from(sample_rate)))
    });
    Ok(ToneShares { shares, samples })
}

impl ToneShares {
    /// Returns whether the left channel contains only the caller's tone, and the right channel only the callee's.
    pub(super) fn is_right(&self) -> bool {
        let [left, right] = self.shares;
        left[0] > MOST && right[1] > MOST && left[1] < LITTLE && right[0] < LITTLE
    }

    /// Returns whether the channels are swapped, i.e. each channel contains the tone of the other side.
    pub(super) fn is_swapped(&self) -> bool {
        let [left, right] = self.shares;
        left[1] > MOST && right[0] > MOST
    }

    /// Returns the sides with a tone that is missing in their own channel.
    pub(super) fn missing(&self) -> Vec<Side> {
        [Side::Caller, Side::Callee]
            .into_iter()
            .filter(|side| self.shares[side.channel()][side.channel()] <= MOST)
            .collect()
    }
}

/// Returns the share of the energy at a frequency (in cycles per sample), by Goertzel's algorithm. It is computed in
/// short windows, so that a gap in the sound affects only one window.
fn share(samples: &[f64], frequency: f64) -> f64 {
    let coefficient = 2.0 * (TAU * frequency).cos();
    let (mut tone, mut all) = (0.0, 0.0);
    for window in samples.chunks_exact(WINDOW) {
        let (mut s1, mut s2) = (0.0, 0.0);
        for sample in window {
            (s1, s2) = (sample + coefficient * s1 - s2, s1);
            all += sample * sample;
        }
        tone += (s1 * s1 + s2 * s2 - coefficient * s1 * s2) * 2.0 / WINDOW as f64;
    }
    if all > 0.0 { tone / all } else { 0.0 }
}

/// Returns the frequency of a side's tone, Hz. The two frequencies are far apart. They are not harmonics of each other
/// and not DTMF frequencies.
const fn frequency(side: Side) -> f64 {
    match side {
        Side::Caller => 500.0,
        Side::Callee => 1_100.0,
    }
}

/// Sampling rate of G.711, Hz.
const RATE: u64 = 8_000;
/// Amplitude of the tones in units of 16-bit samples: 10 dB below full scale.
const LEVEL: f64 = 10_000.0;
/// Number of samples in a window: 100 ms at 8 kHz, 50 ms at 16 kHz. Both tones have a whole number of periods in it.
const WINDOW: usize = 800;
/// Minimum share of energy with which a side's tone counts as present in its channel. Silence at the beginning does not
/// lower the share, because it has no energy.
const MOST: f64 = 0.8;
/// Maximum share of energy with which the other side's tone counts as absent, i.e. -20 dB.
const LITTLE: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(side: Side) -> Vec<f64> {
        let codes = (0..50).flat_map(|n| tone_packet(side, n));
        codes.map(|code| f64::from(crate::codec::g711::linear_values(CompandingLaw::A)[usize::from(code)])).collect()
    }

    fn shares(left: &[f64], right: &[f64]) -> ToneShares {
        let of = |samples: &[f64]| [500.0, 1_100.0].map(|hz| share(samples, hz / 8_000.0));
        ToneShares { shares: [of(left), of(right)], samples: left.len() as u64 }
    }

    #[test]
    fn tones_are_told_apart_swapped_mixed_and_missing() {
        let (caller, callee) = (channel(Side::Caller), channel(Side::Callee));
        let silence = vec![0.0; caller.len()];
        let right = shares(&caller, &callee);
        assert!(right.is_right() && !right.is_swapped() && right.missing().is_empty(), "{right:?}");
        let swapped = shares(&callee, &caller);
        assert!(swapped.is_swapped() && !swapped.is_right(), "{swapped:?}");
        let mixed: Vec<f64> = caller.iter().zip(&callee).map(|(a, b)| a + b / 2.0).collect();
        assert!(!shares(&mixed, &callee).is_right());
        assert_eq!(shares(&silence, &callee).missing(), [Side::Caller]);
        assert_eq!(shares(&caller, &silence).missing(), [Side::Callee]);
    }
}
