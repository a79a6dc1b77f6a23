//! Finds the byte order of linear samples.
//!
//! RFC 3551 section 4.5.11 sends L16 in network byte order. Quirk `byte_order`: some senders send the order of their
//! processor. Sound changes little from sample to sample. In the wrong order it is noise, unless it is quiet, has 8 bits
//! or is overdriven. So a stream is in the order of a processor only if it is noise in network byte order.

/// Votes of payloads for the byte order of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByteOrderJudge {
    /// Number of payloads that are sound in little-endian order, minus the number of those in network byte order.
    votes: i32,
}

impl ByteOrderJudge {
    /// Returns whether the samples of a payload, with `channels` interleaved channels, are in little-endian order.
    pub(super) fn is_little_endian(&mut self, pairs: &[[u8; 2]], channels: usize) -> bool {
        if self.votes.abs() < ENOUGH_VOTES {
            let vote = vote(pairs, channels);
            self.votes += vote;
            if vote != 0 {
                return vote > 0;
            }
        }
        self.votes >= MIN_LEAD
    }

    /// Returns whether the stream is in little-endian order, as far as its payloads show.
    pub(super) const fn is_swapped(self) -> bool {
        self.votes > 0
    }
}

/// Returns 1 if the samples are noise in network byte order and sound in little-endian order. Returns -1 if they are
/// sound in network byte order only, and 0 otherwise.
fn vote(pairs: &[[u8; 2]], channels: usize) -> i32 {
    let roughness = |sample: fn([u8; 2]) -> i16| -> u64 {
        let steps = pairs.iter().zip(pairs.iter().skip(channels));
        steps.map(|(&one, &next)| u64::from(sample(one).abs_diff(sample(next)))).sum()
    };
    let (network, little) = (roughness(i16::from_be_bytes), roughness(i16::from_le_bytes));
    // Samples of 8 bits, or of an overdriven sender, are sound in network byte order, and nearly constant in the other.
    let is_noise = || network > pairs.iter().map(|&pair| u64::from(i16::from_be_bytes(pair).unsigned_abs())).sum();
    match () {
        () if network > MIN_RATIO * little && is_noise() => 1,
        () if little > MIN_RATIO * network => -1,
        () => 0,
    }
}

/// Minimum ratio of the mean steps from sample to sample in both orders. Loud speech has more than 5, noise has 1.
const MIN_RATIO: u64 = 3;
/// Minimum lead of little-endian order, in payloads, by which a payload without a vote is in that order, too.
const MIN_LEAD: i32 = 3;
/// Lead of one order, in payloads, after which no more payloads are examined.
const ENOUGH_VOTES: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(loud: f64) -> Vec<i16> {
        (0..160).map(|n| ((f64::from(n) * 0.2).sin() * loud) as i16).collect()
    }

    #[test]
    fn sound_is_known_in_either_order_whatever_its_level() {
        for loud in [6.0, 100.0, 3_000.0, 20_000.0] {
            let samples = samples(loud);
            let little: Vec<[u8; 2]> = samples.iter().map(|sample| sample.to_le_bytes()).collect();
            let network: Vec<[u8; 2]> = samples.iter().map(|sample| sample.to_be_bytes()).collect();
            // Quiet sound in the wrong order is loud, but still smooth.
            let for_little = i32::from(loud > 200.0);
            assert_eq!((vote(&little, 1), vote(&network, 1)), (for_little, -1), "{loud}");
        }
    }

    #[test]
    fn silence_noise_and_eight_bits_give_no_vote_for_little_endian() {
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<[u8; 2]> = (0..160).map(|_| [random.u8(..), random.u8(..)]).collect();
        let eight_bits: Vec<[u8; 2]> = samples(20_000.0).iter().map(|sample| [sample.to_be_bytes()[0], 0]).collect();
        assert_eq!([vote(&[[0, 0]; 160], 1), vote(&noise, 1)], [0, 0]);
        assert!(vote(&eight_bits, 1) <= 0);
    }

    #[test]
    fn sound_in_network_byte_order_is_never_swapped() {
        let mut random = fastrand::Rng::with_seed(2);
        let eight_bits: Vec<i16> = samples(64.0).iter().map(|sample| sample * 256).collect();
        let mut odd = eight_bits.clone();
        odd[3] += 1;
        let dithered = eight_bits.iter().map(|sample| sample + random.i16(-1..=1)).collect();
        let square = (0..160).map(|n| if n / 10 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let clipped = samples(30.0 * 32_767.0);
        for (name, sound) in [("odd", odd), ("dithered", dithered), ("square", square), ("clipped", clipped)] {
            let network: Vec<[u8; 2]> = sound.iter().map(|sample| sample.to_be_bytes()).collect();
            assert!(vote(&network, 1) <= 0, "{name}");
        }
    }

    #[test]
    fn one_payload_decides_nothing_for_the_payloads_after_it() {
        let little: Vec<[u8; 2]> = samples(20_000.0).iter().map(|sample| sample.to_le_bytes()).collect();
        let mut judge = ByteOrderJudge::default();
        let mut follow = || (judge.is_little_endian(&little, 1), judge.is_little_endian(&[[0, 0]; 160], 1));
        assert_eq!([follow(), follow(), follow()], [(true, false), (true, false), (true, true)]);
    }
}
