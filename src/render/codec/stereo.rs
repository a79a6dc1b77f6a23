//! Mixes two channels to one.
//!
//! Quirk `opposite_phases`: an audio interface takes the two wires of a balanced line for stereo. So it sends the same
//! voice in both channels with opposite signs. The mean of both would be silent, so one channel is used alone.

use super::mix;

/// Mixes the two channels of a stream. Remembers whether their phases are opposite.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StereoDownmix {
    is_opposite: bool,
}

impl StereoDownmix {
    /// Mixes each pair of samples to its mean and appends it. While the channels have opposite phases, their mean would
    /// be silent, so the left channel is appended alone.
    pub(super) fn extend(&mut self, pairs: impl Iterator<Item = (i16, i16)> + Clone, out: &mut Vec<i16>) {
        self.observe(pairs.clone());
        match self.is_opposite {
            true => out.extend(pairs.map(|(left, _)| left)),
            false => out.extend(pairs.map(|(left, right)| mix(left, right))),
        }
    }

    /// Detects opposite phases: the mean of both channels then has much less energy than the channels. Quiet sound does
    /// not change the result.
    pub(super) fn observe(&mut self, pairs: impl Iterator<Item = (i16, i16)>) {
        let (mut count, mut mean, mut both) = (0_i64, 0_i64, 0_i64);
        for (left, right) in pairs {
            let middle = i64::from(mix(left, right));
            count += 1;
            mean += middle * middle;
            both += (i64::from(left) * i64::from(left) + i64::from(right) * i64::from(right)) / 2;
        }
        if both > QUIET_POWER * count {
            self.is_opposite = mean * OPPOSITE_RATIO < both;
        }
    }

    /// Returns whether the channels had opposite phases in the last sound that was loud enough.
    pub(super) fn is_opposite(&self) -> bool {
        self.is_opposite
    }
}

/// Ratio between the energy of the channels and that of their mean, above which the phases are opposite: 16, i.e. 12
/// dB. Unrelated channels have a ratio of 2.
const OPPOSITE_RATIO: i64 = 16;
/// Minimum mean square (50 squared, -56 dBov) of sound that shows whether the two channels have opposite phases.
const QUIET_POWER: i64 = 50 * 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opposite_channels_do_not_cancel_out() {
        let voice = |n: i16| if n % 4 < 2 { 1_000 } else { -900 };
        let mixed = |right: fn(i16) -> i16| {
            let mut out = Vec::new();
            let pairs = (0..160).map(|n| (voice(n), right(voice(n))));
            StereoDownmix::default().extend(pairs, &mut out);
            out
        };
        let left: Vec<i16> = (0..160).map(voice).collect();
        assert_eq!(mixed(|sample| -sample), left);
        assert_eq!(mixed(|sample| sample), left);
        assert_eq!(mixed(|_| 0)[0], 500);
    }
}
