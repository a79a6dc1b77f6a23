//! The enhancer (RFC 3951 section 4.6): voiced residual is made more periodic by a mean of neighbouring pitch periods,
//! as far as a bound on the change allows. It looks ahead, so sound comes out later by [`IlbcMode::delay`].

use super::tables::{HALF_BAND, QUARTERS};
use super::{IlbcMode, ResidualSource};

/// The enhancer of one stream.
#[derive(Clone, Debug)]
pub(super) struct Enhancer {
    mode: IlbcMode,
    /// The last residual; its end is the end of what was decoded.
    past: Vec<f32>,
    /// The pitch period of each [`BLOCK`] of it.
    periods: [usize; BLOCKS],
    /// Of the last frame.
    source: ResidualSource,
}

impl Enhancer {
    pub(super) fn new(mode: IlbcMode) -> Self {
        Self { mode, past: vec![0.0; PAST], periods: [FIRST_PERIOD; BLOCKS], source: ResidualSource::Decoded }
    }

    /// Takes the residual of a frame, and gives that of as many samples, later by the delay.
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

    /// Every second sample of the past after a low pass that delays it by 3 samples.
    fn halved(&self) -> Vec<f32> {
        let at = |i: usize| i.checked_sub(HALF_BAND.len() - 1).and_then(|i| self.past.get(i)).copied();
        let filtered =
            |n: usize| HALF_BAND.iter().enumerate().map(|(k, tap)| tap * at(n + k).unwrap_or_default()).sum();
        // Reaching 3 samples on takes the filter's delay out again.
        (0..PAST / 2).map(|n| filtered(2 * n + HALF_BAND.len() / 2)).collect()
    }

    /// One enhanced block.
    fn block(&self, start: usize) -> [f32; BLOCK] {
        let centre: [f32; BLOCK] = std::array::from_fn(|i| self.past[start + i]);
        let mut around = [0.0; BLOCK];
        for direction in [SearchDirection::Back, SearchDirection::Onward] {
            self.gather(start, &centre, direction, &mut around);
        }
        mix(&centre, &around)
    }

    /// Adds up to three pitch periods before or after a block, each weighted less than the nearer one.
    fn gather(&self, start: usize, centre: &[f32; BLOCK], direction: SearchDirection, around: &mut [f32; BLOCK]) {
        let mut from = start as f32;
        // The block whose pitch the next step takes.
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

    /// The stretch near `expected`, to a quarter sample, that is most like the block; and where the next is counted
    /// from. The RFC rounds half a sample down before the search and counts a sample on after it.
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

    /// The end of the past was made up and is not heard yet: it is blended into what, from the pitch of the new frame,
    /// stood before it.
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
        // Backwards from the edge: the first period of the new frame, and before it the made-up sound itself.
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
            // The limit ends within the last samples, so that it makes no step where the new frame begins.
            let limit = factor + (1.0 - factor) * (1.0 - back as f32 / LIMIT_ENDS).max(0.0);
            *place = weight * *place + (1.0 - weight) * limit * sample;
        }
    }
}

/// Where a pitch period is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SearchDirection {
    Back,
    Onward,
}

/// The block brought nearer to the mean of those around it, as far as its energy allows: the difference has at most
/// [`CHANGE`] of the energy.
fn mix(centre: &[f32; BLOCK], around: &[f32; BLOCK]) -> [f32; BLOCK] {
    let product = |a: &[f32; BLOCK], b: &[f32; BLOCK]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let (own, mean, both) = (product(centre, centre), product(around, around).max(1.0), product(centre, around));
    let scale = (own / mean).sqrt();
    let change = own - 2.0 * scale * both + scale * scale * mean;
    if change <= CHANGE * own {
        return around.map(|sample| scale * sample);
    }
    // The point of the plane of both that has the block's energy and lies at the bound.
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

/// The lag, in halved samples, at which half a block is most like what was before it.
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

/// The value of a row of samples at a quarter of their distance, from `reach` samples on either side of it at most;
/// silence around the row.
fn between(samples: &[f32], quarter: isize, reach: isize) -> f32 {
    // The filters are for parts before a sample.
    let (whole, before) = (quarter.div_euclid(4) + isize::from(quarter.rem_euclid(4) > 0), (4 - quarter).rem_euclid(4));
    let at = |i: isize| usize::try_from(i).ok().and_then(|i| samples.get(i)).copied().unwrap_or_default();
    let taps = QUARTERS[before as usize].iter().zip(-TAPS / 2..=TAPS / 2);
    let reached = quarter.div_euclid(4) - reach..=quarter.div_euclid(4) + reach;
    taps.map(|(tap, i)| (tap, whole + i)).filter(|(_, i)| reached.contains(i)).map(|(tap, i)| tap * at(i)).sum()
}

/// The block of which a place is nearest.
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

/// The middle of a block of the past.
fn middle(block: usize) -> f32 {
    (block * BLOCK) as f32 + HALF_BLOCK
}

/// Samples that are enhanced at a time.
const BLOCK: usize = 80;
const HALF_BLOCK: f32 = 40.0;
/// Blocks of residual that are kept: three of a frame and five before it.
const BLOCKS: usize = 8;
const PAST: usize = BLOCKS * BLOCK;
/// Pitch lags in halved samples: 68 to 400 Hz.
const LAGS: (usize, usize) = (10, 59);
/// Before anything was heard.
const FIRST_PERIOD: usize = 40;
/// Taps of the interpolation.
const TAPS: isize = 7;
/// A pitch period is looked for so many samples around where it should be.
const SLOP: usize = 2;
/// Interpolation reaches so far over an edge.
const OVERHANG: f32 = 2.0;
/// A raised cosine over seven periods, from the one beside the middle outward.
const WEIGHTS: [f32; 3] = [0.853_553_4, 0.5, 0.146_446_6];
/// Share of the energy by which a block may change.
const CHANGE: f32 = 0.05;
/// Samples over which the limit of a blend ends.
const LIMIT_ENDS: f32 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn pulses(period: usize, samples: usize) -> Vec<f32> {
        (0..samples).map(|n| if n % period == 0 { 3_000.0 } else { (n % 7) as f32 }).collect()
    }

    #[test]
    fn what_is_periodic_already_stays_and_comes_out_later_by_the_delay() {
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
        // The change is CHANGE of the energy where the bound is reached.
        assert!(error > energy * 0.02 && error <= energy * CHANGE * 1.05, "{}", error / energy);
    }
}
