//! Decodes the residual of a frame (RFC 3951 sections 3.5, 3.6, 4.2 to 4.4). The start state comes first, then the rest
//! of the frame in both directions.

use super::frame::{CodebookVector, IlbcFrame, StartStateEnd};
use super::lsf::LpcCoefficients;
use super::tables::{CODEBOOK_FILTER, GAINS_3, STATE_LEVELS, STATE_PEAK};
use super::{ORDER, SUBFRAME};

/// Decodes the residual of a frame. `filters` are the prediction filters of its subframes.
pub(super) fn residual(frame: &IlbcFrame, filters: &[LpcCoefficients]) -> Vec<f32> {
    let mut residual = vec![0.0; filters.len() * SUBFRAME];
    let state = start_state(frame, &filters[frame.start.subframe]);
    let first = frame.start.subframe * SUBFRAME;
    let (mut from, mut to) = match frame.start.end {
        StartStateEnd::First => (first, first + state.len()),
        StartStateEnd::Last => (first + 2 * SUBFRAME - state.len(), first + 2 * SUBFRAME),
    };
    residual[from..to].copy_from_slice(&state);
    let missing = 2 * SUBFRAME - state.len();
    let mut grow = |shape: &CodebookVector, direction: GrowthDirection, memory: usize, length: usize| match direction {
        GrowthDirection::Onward => {
            let known = CodebookMemory::of(residual[from..to].iter().rev(), memory);
            known.vector(shape, &mut residual[to..to + length]);
            to += length;
        }
        GrowthDirection::Back => {
            // The part before the start state is decoded in reversed time, as the encoder coded it.
            let known = CodebookMemory::of(residual[from..to].iter(), memory);
            let before = &mut residual[from - length..from];
            known.vector(shape, before);
            before.reverse();
            from -= length;
        }
    };
    let completing =
        if frame.start.end == StartStateEnd::First { GrowthDirection::Onward } else { GrowthDirection::Back };
    grow(&frame.rest, completing, SHORT_MEMORY, missing);
    let onward = filters.len() - 2 - frame.start.subframe;
    for (i, shape) in frame.subframes.iter().enumerate() {
        grow(shape, if i < onward { GrowthDirection::Onward } else { GrowthDirection::Back }, MEMORY, SUBFRAME);
    }
    residual
}

/// The direction in which the decoded part of the residual grows from the start state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GrowthDirection {
    Onward,
    Back,
}

/// Decodes the start state. A circular all-pass filter, made of the LPC coefficients, disperses the phases of its
/// samples (section 4.2).
fn start_state(frame: &IlbcFrame, filter: &LpcCoefficients) -> Vec<f32> {
    let length = frame.levels.len();
    let peak = 10.0f32.powf(STATE_PEAK[frame.peak % STATE_PEAK.len()]) / 4.5;
    // The filter runs backwards in time. The response after the end of the start state is added to its beginning.
    let quantized = frame.levels.iter().rev().map(|&level| peak * STATE_LEVELS[level % STATE_LEVELS.len()]);
    let input: Vec<f32> = quantized.chain(std::iter::repeat_n(0.0, length)).collect();
    let mut output = vec![0.0; input.len()];
    for n in 0..input.len() {
        let before = |signal: &[f32], lag: usize| if lag <= n { signal[n - lag] } else { 0.0 };
        let mut value = before(&input, ORDER);
        for (i, coefficient) in filter.iter().enumerate() {
            value += coefficient * (before(&input, ORDER - 1 - i) - before(&output, i + 1));
        }
        output[n] = value;
    }
    (0..length).rev().map(|n| output[n] + output[n + length]).collect()
}

/// The adaptive codebook: decoded samples of the residual, directly beside the part that is decoded next, the nearest
/// sample last. Samples that were not decoded yet are 0.
struct CodebookMemory(Vec<f32>);

impl CodebookMemory {
    /// Creates the memory from the `length` nearest samples. The iterator yields the nearest sample first.
    fn of<'a>(nearest_first: impl Iterator<Item = &'a f32>, length: usize) -> Self {
        let mut samples: Vec<f32> = nearest_first.copied().chain(std::iter::repeat(0.0)).take(length).collect();
        samples.reverse();
        Self(samples)
    }

    /// Adds the vectors of the three codebook stages to `out` (section 4.4).
    fn vector(&self, shape: &CodebookVector, out: &mut [f32]) {
        out.fill(0.0);
        for (vector, gain) in shape.vectors.into_iter().zip(gains(shape.gains)) {
            let vector = self.entry(vector, out.len());
            out.iter_mut().zip(vector).for_each(|(sample, value)| *sample += gain * value);
        }
    }

    /// Returns an entry of the adaptive codebook (section 3.6.3). In the lower half of the indices, entries are
    /// segments of the memory and blends of two segments. The upper half has the same entries, made from the filtered
    /// memory.
    fn entry(&self, index: usize, length: usize) -> Vec<f32> {
        let stretches = self.0.len() - length + 1;
        // Entries that blend two segments exist only in codebooks for whole subframes.
        let half = stretches + if length == SUBFRAME { SUBFRAME / 2 } else { 0 };
        if index < half { stretch(&self.0, index, length) } else { stretch(&self.filtered(), index - half, length) }
    }

    fn filtered(&self) -> Vec<f32> {
        let at = |i: usize| i.checked_sub(3).and_then(|i| self.0.get(i)).copied().unwrap_or_default();
        (0..self.0.len()).map(|n| CODEBOOK_FILTER.iter().enumerate().map(|(k, tap)| tap * at(n + k)).sum()).collect()
    }
}

/// Returns the `length` samples that begin `index + length` samples before the end of the memory. The highest indices
/// stand for fewer than `length` samples at the end of the memory. These are repeated, and the seam is blended over 5
/// samples.
fn stretch(memory: &[f32], index: usize, length: usize) -> Vec<f32> {
    let stretches = memory.len() - length + 1;
    let before_end = |lag: usize, n: usize| (memory.len() + n).checked_sub(lag).and_then(|i| memory.get(i)).copied();
    let sample = |lag, n| before_end(lag, n).unwrap_or_default();
    if index < stretches {
        return (0..length).map(|n| sample(index + length, n)).collect();
    }
    let lag = length.div_ceil(2) + index - stretches;
    let blend = |n: usize| {
        let far = ((n + SEAM) as f32 - lag as f32).clamp(0.0, SEAM as f32) / SEAM as f32;
        (1.0 - far) * sample(lag, n) + far * sample(2 * lag, n)
    };
    (0..length).map(blend).collect()
}

/// Decodes the gains of the three stages. Each gain is relative to the previous gain, which counts as at least 0.1
/// (section 3.6.4.2). The gains are multiples of 2^-14, as in the standard's tables.
fn gains([first, second, third]: [usize; 3]) -> [f32; 3] {
    let step = |value: f32| (value * 16_384.0).round() / 16_384.0;
    let first = step(0.0375 * (first + 1) as f32);
    let second = step(0.15 * (second as f32 - 7.0)) * first.abs().max(0.1);
    let third = GAINS_3[third % GAINS_3.len()] * second.abs().max(0.1);
    [first, second, third]
}

/// Number of samples in the codebook memory for a whole subframe (RFC 3951 section 3.6.3).
const MEMORY: usize = 147;
/// Number of samples in the codebook memory for the part of two subframes that the start state does not fill.
const SHORT_MEMORY: usize = 85;
/// Number of samples over which the seam between two repetitions is blended.
const SEAM: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_of_a_code_book_names_a_vector() {
        let ramp: Vec<f32> = (0..240).map(|n| n as f32).collect();
        for (memory, length, indices) in [(MEMORY, 40, 256), (SHORT_MEMORY, 22, 128), (SHORT_MEMORY, 23, 128)] {
            let memory = CodebookMemory::of(ramp.iter().rev(), memory);
            for index in 0..indices {
                assert_eq!(memory.entry(index, length).len(), length, "{index}");
            }
        }
        let memory = CodebookMemory::of(ramp.iter().rev(), MEMORY);
        assert_eq!(memory.entry(0, 40), ramp[200..]);
        assert_eq!(memory.entry(107, 40), ramp[93..133]);
        // The entry is the last 20 samples twice. The last five samples of the first copy are blended with the samples
        // before the second copy.
        let twice = memory.entry(108, 40);
        assert_eq!((twice[0], twice[15], twice[20], twice[39]), (220.0, 235.0, 220.0, 239.0));
        assert!((twice[16] - (236.0 - 0.2 * 20.0)).abs() < 1e-3, "{}", twice[16]);
    }

    #[test]
    fn gains_follow_the_size_of_the_stage_before() {
        // The first gain is 0.0375 * 32 = 1.2. The table's second gain, -0.15 * 7, is multiplied by the first: -1.26.
        // The third is a quarter of the second's magnitude: 0.315.
        let [first, second, third] = gains([31, 0, 4]);
        assert!((first - 1.2).abs() < 1e-4 && (second + 1.26).abs() < 1e-3 && (third - 0.315).abs() < 1e-3);
        assert_eq!(gains([0, 7, 7])[1..], [0.0, 0.1], "a tenth at least");
    }
}
