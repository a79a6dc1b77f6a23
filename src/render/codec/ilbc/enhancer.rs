//! The enhancer of iLBC (RFC 3951 section 4.6) makes the residual of voiced speech more periodic. It averages
//! neighbouring pitch periods, but never changes more than 5 % of the energy. It looks ahead, so the sound is delayed
//! by [`IlbcMode::delay`].

use super::tables::{HALF_BAND, QUARTERS};
use super::{IlbcMode, ResidualSource};

/// State of the enhancer of one stream.
#[derive(Clone, Debug)]
pub(super) struct Enhancer {
    mode: IlbcMode,
    /// The most recent residual (input of the voice filter), ending with the newest decoded sample.
    past: Vec<f32>,
    /// The pitch period of each [`BLOCK`] of `past`, in samples.
    periods: [usize; BLOCKS],
    /// Whether the last frame was decoded or concealed.
    source: ResidualSource,
}

impl Enhancer {
    pub(super) fn new(mode: IlbcMode) -> Self {
        Self { mode, past: vec![0.0; PAST], periods: [FIRST_PERIOD; BLOCKS], source: ResidualSource::Decoded }
    }

    /// Returns as many enhanced samples as `residual` has, delayed by the look-ahead.
    pub(super) fn enhance(&mut self, residual: &[f32], source: ResidualSource) -> Vec<f32> {
        let new = residual.len() / BLOCK;
        self.past.drain(..residual.len());
        self.past.extend_from_slice(residual);
        self.periods.rotate_left(new);
        let halved = self.halved();
        for block in BLOCKS - new..BLOCKS {
            self.periods[block] = 2 * lag(&halved, block * BLOCK / 2);
        }
        if std::mem::replace(&mut self.source, source) == ResidualSource::Concealed && source == ResidualSource::Decoded
        {
            self.join(residual);
        }
        let first = PAST - residual.len() - self.mode.delay();
        (0..new).flat_map(|block| self.block(first + block * BLOCK)).collect()
    }

    /// Returns every second sample of `past`, after a low-pass filter with a delay of 3 samples.
    fn halved(&self) -> Vec<f32> {
        let at = |i: usize| i.checked_sub(HALF_BAND.len() - 1).and_then(|i| self.past.get(i)).copied();
        let filtered =
            |n: usize| HALF_BAND.iter().enumerate().map(|(k, tap)| tap * at(n + k).unwrap_or_default()).sum();
        // The low-pass filter delays by 3 samples. Reading 3 samples ahead compensates this delay.
        (0..PAST / 2).map(|n| filtered(2 * n + HALF_BAND.len() / 2)).collect()
    }

    /// Returns the enhanced block that begins at sample `start` of `past`, the recent residual.
    fn block(&self, start: usize) -> [f32; BLOCK] {
        let centre: [f32; BLOCK] = std::array::from_fn(|i| self.past[start + i]);
        let mut around = [0.0; BLOCK];
        for direction in [SearchDirection::Back, SearchDirection::Onward] {
            self.gather(start, &centre, direction, &mut around);
        }
        mix(&centre, &around)
    }

    /// Adds up to three pitch periods before or after a block to the sum `around`. Nearer periods have more weight.
    fn gather(&self, start: usize, centre: &[f32; BLOCK], direction: SearchDirection, around: &mut [f32; BLOCK]) {
        let mut from = start as f32;
        // The segments to be averaged are one pitch period apart. The pitch period of the nearest block gives that
        // distance.
        let mut block = nearest(from + (BLOCK - 1) as f32 / 2.0, middle);
        for weight in WEIGHTS {
            let expected = match direction {
                SearchDirection::Back => from - self.periods[block] as f32,
                SearchDirection::Onward => {
                    block = nearest(from + HALF_BLOCK, |i| middle(i) - self.periods[i] as f32);
                    from + self.periods[block] as f32
                }
            };
            if expected < OVERHANG || expected + BLOCK as f32 + OVERHANG >= PAST as f32 {
                return;
            }
            if direction == SearchDirection::Back {
                block = nearest(expected + HALF_BLOCK - self.periods[block] as f32, middle);
            }
            let (found, segment) = self.refine(centre, expected);
            from = found;
            around.iter_mut().zip(segment).for_each(|(sum, sample)| *sum += weight * sample);
        }
    }

    /// Finds the segment near `expected` that is most similar to the block, in steps of a quarter sample. Returns its
    /// position and its samples. As in the RFC, `expected` minus half a sample is rounded down, and the returned
    /// position is one sample higher.
    fn refine(&self, centre: &[f32; BLOCK], expected: f32) -> (f32, [f32; BLOCK]) {
        let rounded = (expected - 0.5) as usize;
        let first = rounded.saturating_sub(SLOP);
        let last = (rounded + SLOP).min(PAST - BLOCK - 1);
        let likeness: Vec<f32> =
            (first..=last).map(|at| centre.iter().zip(&self.past[at..at + BLOCK]).map(|(a, b)| a * b).sum()).collect();
        let (mut best, mut highest) = (0, f32::NEG_INFINITY);
        for quarter in 0..4 * likeness.len() as isize {
            let score = between(&likeness, quarter, likeness.len() as isize / 2);
            if score > highest {
                (best, highest) = (quarter, score);
            }
        }
        let at = 4 * first as isize + best;
        (at as f32 / 4.0 + 1.0, std::array::from_fn(|i| between(&self.past, at + 4 * i as isize, TAPS)))
    }

    /// Improves the transition from a concealed frame to the new frame. Blends the concealed sound that was not output
    /// yet with an extrapolation backwards from the new frame.
    fn join(&mut self, residual: &[f32]) {
        let (edge, length) = (PAST - residual.len(), self.mode.delay());
        let guess = self.periods[BLOCKS - residual.len() / BLOCK];
        let likeness = |lag: usize| {
            let pairs = residual.iter().take(length).zip(residual.iter().skip(lag));
            let (product, energy) = pairs.fold((0.0, 1.0), |(p, e), (a, b)| (p + a * b, e + b * b));
            if product > 0.0 { product * product / energy } else { 0.0 }
        };
        let mut lag = guess - 1;
        for other in guess..=guess + 1 {
            if likeness(other) > likeness(lag) {
                lag = other;
            }
        }
        // Each sample of the extrapolation equals the sample one pitch period later. That sample is in the new frame
        // or, further back, in the concealed sound.
        let before: Vec<f32> = (0..length)
            .map(|back| match lag.checked_sub(back + 1) {
                Some(at) => residual[at],
                None => self.past[edge + lag - back - 1],
            })
            .collect();
        let strength = |samples: &mut dyn Iterator<Item = f32>| samples.map(|s| s * s).sum::<f32>().sqrt();
        let loud = strength(&mut before.iter().copied());
        let allowed = 2.0 * strength(&mut self.past[edge - length..edge].iter().copied());
        let factor = if loud > allowed { allowed / loud } else { 1.0 };
        for (back, sample) in before.into_iter().enumerate() {
            let place = &mut self.past[edge - 1 - back];
            let weight = (back + 1) as f32 / (length + 1) as f32;
            // In the last samples before the new frame, the limit of the gain rises to 1. A jump of the gain at the
            // beginning of the frame would be a click.
            let limit = factor + (1.0 - factor) * (1.0 - back as f32 / LIMIT_ENDS).max(0.0);
            *place = weight * *place + (1.0 - weight) * limit * sample;
        }
    }
}

/// Direction in time in which pitch periods are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SearchDirection {
    Back,
    Onward,
}

/// Moves a block towards the mean of its neighbours without changing its energy. The change has at most [`CHANGE`] of
/// the block's energy.
fn mix(centre: &[f32; BLOCK], around: &[f32; BLOCK]) -> [f32; BLOCK] {
    let product = |a: &[f32; BLOCK], b: &[f32; BLOCK]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let (own, mean, both) = (product(centre, centre), product(around, around).max(1.0), product(centre, around));
    let scale = (own / mean).sqrt();
    let change = own - 2.0 * scale * both + scale * scale * mean;
    if change <= CHANGE * own {
        return around.map(|sample| scale * sample);
    }
    // The full change would exceed [`CHANGE`], so the result combines `around` and `centre`. It has the energy of the
    // block, and differs from the block by exactly [`CHANGE`] of this energy.
    let own = own.max(1.0);
    let spread = (mean * own - both * both) / (own * own);
    let (a, b) = if spread > 1e-4 {
        let a = ((CHANGE - CHANGE * CHANGE / 4.0) / spread).sqrt();
        (a, 1.0 - CHANGE / 2.0 - a * both / own)
    } else {
        (0.0, 1.0)
    };
    std::array::from_fn(|i| a * around[i] + b * centre[i])
}

/// Returns the lag, in samples at half the rate, at which half a block is most similar to the samples before it.
fn lag(halved: &[f32], start: usize) -> usize {
    let now = &halved[start..start + BLOCK / 2];
    let mut best = (LAGS.0, f32::NEG_INFINITY);
    for lag in LAGS.0..=LAGS.1 {
        let then = &halved[start - lag..start - lag + BLOCK / 2];
        let (product, energy) = now.iter().zip(then).fold((0.0, 0.0), |(p, e), (a, b)| (p + a * b, e + b * b));
        let likeness = if product > 0.0 && energy > 0.0 { product * product / energy } else { 0.0 };
        if likeness > best.1 {
            best = (lag, likeness);
        }
    }
    best.0
}

/// Interpolates samples at a position in quarter samples, using up to `reach` samples on each side. Samples beyond the
/// ends count as silence.
fn between(samples: &[f32], quarter: isize, reach: isize) -> f32 {
    // The filters interpolate 0 to 3 quarters *before* a sample. So the position is split into a sample and quarters
    // before it.
    let (whole, before) = (quarter.div_euclid(4) + isize::from(quarter.rem_euclid(4) > 0), (4 - quarter).rem_euclid(4));
    let at = |i: isize| usize::try_from(i).ok().and_then(|i| samples.get(i)).copied().unwrap_or_default();
    let taps = QUARTERS[before as usize].iter().zip(-TAPS / 2..=TAPS / 2);
    let reached = quarter.div_euclid(4) - reach..=quarter.div_euclid(4) + reach;
    taps.map(|(tap, i)| (tap, whole + i)).filter(|(_, i)| reached.contains(i)).map(|(tap, i)| tap * at(i)).sum()
}

/// Returns the index of the block that lies nearest to position `to`. The function `place` returns the position of a
/// block.
fn nearest(to: f32, place: impl Fn(usize) -> f32) -> usize {
    let mut best = (0, f32::INFINITY);
    for block in 0..BLOCKS {
        let away = (place(block) - to).abs();
        if away < best.1 {
            best = (block, away);
        }
    }
    best.0
}

/// Returns the position in `past` (the recent residual) of the middle of the block with this index, in samples.
fn middle(block: usize) -> f32 {
    (block * BLOCK) as f32 + HALF_BLOCK
}

/// Number of samples that are enhanced together.
const BLOCK: usize = 80;
const HALF_BLOCK: f32 = 40.0;
/// Number of blocks in `past`: three of a frame and five before it.
const BLOCKS: usize = 8;
const PAST: usize = BLOCKS * BLOCK;
/// Minimum and maximum pitch lag, in samples at half the sampling rate: 68 to 400 Hz.
const LAGS: (usize, usize) = (10, 59);
/// Pitch period that is assumed before the first frame, in samples at half the sampling rate.
const FIRST_PERIOD: usize = 40;
/// Number of taps of the interpolation filters.
const TAPS: isize = 7;
/// Maximum distance, in samples, between the expected position of a similar segment and the positions that are
/// searched.
const SLOP: usize = 2;
/// Number of samples that interpolation may need beyond each edge of a segment of the residual.
const OVERHANG: f32 = 2.0;
/// Weights of the neighbouring periods: a raised cosine over seven periods, from the middle outward.
const WEIGHTS: [f32; 3] = [0.853_553_4, 0.5, 0.146_446_6];
/// Maximum energy of the difference that enhancement makes in a block, as a share of the block's energy.
const CHANGE: f32 = 0.05;
/// Number of samples at the end of the extrapolation, directly before the new frame, over which the limit of its gain
/// rises to 1.
const LIMIT_ENDS: f32 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn pulses(period: usize, samples: usize) -> Vec<f32> {
        (0..samples).map(|n| if n % period == 0 { 3_000.0 } else { (n % 7) as f32 }).collect()
    }

    #[test]
    fn periodic_input_is_only_delayed() {
        for (mode, frame) in [(IlbcMode::Twenty, 160), (IlbcMode::Thirty, 240)] {
            let mut enhancer = Enhancer::new(mode);
            let input = pulses(56, 12 * frame);
            let output: Vec<f32> =
                input.chunks(frame).flat_map(|frame| enhancer.enhance(frame, ResidualSource::Decoded)).collect();
            let settled = 1_000;
            let error: f32 = (settled..output.len()).map(|n| (output[n] - input[n - mode.delay()]).powi(2)).sum();
            let energy: f32 = output[settled..].iter().map(|s| s * s).sum();
            assert!(error < energy / 1_000.0, "{mode:?}: {error} of {energy}");
        }
    }

    #[test]
    fn noise_changes_by_no_more_than_the_bound() {
        let mut random = fastrand::Rng::with_seed(7);
        let input: Vec<f32> = (0..4_800).map(|_| random.f32() * 2_000.0 - 1_000.0).collect();
        let mut enhancer = Enhancer::new(IlbcMode::Twenty);
        let output: Vec<f32> =
            input.chunks(160).flat_map(|frame| enhancer.enhance(frame, ResidualSource::Decoded)).collect();
        let error: f32 = (1_000..output.len()).map(|n| (output[n] - input[n - 40]).powi(2)).sum();
        let energy: f32 = input[960..].iter().map(|s| s * s).sum();
        // The change reaches its bound, so its energy is CHANGE times that of the block.
        assert!(error > energy * 0.02 && error <= energy * CHANGE * 1.05, "{}", error / energy);
    }
}
