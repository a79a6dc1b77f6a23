//! Decodes line spectral frequencies and derives the synthesis filters of the subframes (RFC 3951 sections 3.2 and
//! 4.1).

use super::tables::{LSF_HIGH, LSF_LOW, LSF_MEAN, LSF_MIDDLE, LSF_UNIT};
use super::{IlbcMode, ORDER};

/// Line spectral frequencies (LSF) in radians, in ascending order. They describe the filter of the voice.
pub(super) type LsfVector = [f32; ORDER];

/// Coefficients 1 to 10 of a prediction filter. Coefficient 0 is 1.
pub(super) type LpcCoefficients = [f32; ORDER];

/// Returns the line spectral frequencies from which the interpolation starts in the first frame.
pub(super) fn mean() -> LsfVector {
    LSF_MEAN.map(radians)
}

/// Returns the prediction filters of a frame's subframes. They are interpolated from the LSF vector `last` of the
/// previous frame to that of this frame. Then `last` becomes the vector of this frame.
pub(super) fn filters(mode: IlbcMode, spectra: &[[usize; 3]], last: &mut LsfVector) -> Vec<LpcCoefficients> {
    let lines: Vec<LsfVector> = spectra.iter().map(|&indices| settled(look_up(indices))).collect();
    let filter = |(from, to, weight): (&LsfVector, &LsfVector, f32)| {
        to_filter(&std::array::from_fn(|i| weight * from[i] + (1.0 - weight) * to[i]))
    };
    let filters = match (mode, lines.as_slice()) {
        (IlbcMode::Twenty, [now]) => [0.75, 0.5, 0.25, 0.0].map(|weight| filter((last, now, weight))).into(),
        (IlbcMode::Thirty, [first, second]) => {
            let later = [1.0, 2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0].map(|weight| filter((first, second, weight)));
            std::iter::once(filter((last, first, 0.5))).chain(later).collect()
        }
        _ => vec![filter((last, last, 0.0)); mode.subframes()],
    };
    if let Some(now) = lines.last() {
        *last = *now;
    }
    filters
}

/// Looks up an LSF vector by three codebook indices. An index beyond its codebook is clamped.
fn look_up([low, middle, high]: [usize; 3]) -> LsfVector {
    let (low, middle) = (LSF_LOW[low.min(LSF_LOW.len() - 1)], LSF_MIDDLE[middle.min(LSF_MIDDLE.len() - 1)]);
    let high = LSF_HIGH[high.min(LSF_HIGH.len() - 1)];
    let mut lines = [0.0; ORDER];
    lines.iter_mut().zip(low.into_iter().chain(middle).chain(high)).for_each(|(line, code)| *line = radians(code));
    lines
}

fn radians(code: i16) -> f32 {
    f32::from(code) * LSF_UNIT
}

/// Moves frequencies apart that are closer than 50 Hz or in the wrong order, so that the filter is stable (section
/// 3.2.5). The correction runs twice, as in the encoder.
fn settled(mut lines: LsfVector) -> LsfVector {
    for _ in 0..2 {
        for i in 0..ORDER - 1 {
            let (low, high) = (lines[i], lines[i + 1]);
            if high - low < APART {
                let swapped = high < low;
                lines[i] = if swapped { high } else { low } - APART / 2.0;
                lines[i + 1] = if swapped { low } else { high } + APART / 2.0;
            }
            lines[i] = lines[i].clamp(LOWEST, HIGHEST);
        }
    }
    lines
}

/// Converts line spectral frequencies to the prediction filter. The filter is half the sum of two polynomials: that of
/// the odd and that of the even frequencies.
fn to_filter(lines: &LsfVector) -> LpcCoefficients {
    let (mut sum, mut difference) = ([0.0; ORDER / 2 + 1], [0.0; ORDER / 2 + 1]);
    for (polynomial, first) in [(&mut sum, 0), (&mut difference, 1)] {
        let mut whole = [0.0; ORDER + 1];
        whole[0] = 1.0;
        for line in lines.iter().skip(first).step_by(2) {
            let middle = -2.0 * line.cos();
            for i in (1..=ORDER).rev() {
                whole[i] += middle * whole[i - 1] + if i > 1 { whole[i - 2] } else { 0.0 };
            }
        }
        // The polynomial is symmetrical, so half of its coefficients suffice.
        polynomial.copy_from_slice(&whole[..=ORDER / 2]);
    }
    let at = |polynomial: &[f32; ORDER / 2 + 1], i: usize| polynomial[i.min(ORDER - i)];
    // Besides the roots at the line spectral frequencies, the sum polynomial has a root at half the sampling rate. The
    // difference polynomial has one at 0 Hz. They are multiplied in here.
    std::array::from_fn(|i| {
        let i = i + 1;
        let sum = at(&sum, i) + at(&sum, i - 1);
        let difference = at(&difference, i) - at(&difference, i - 1);
        0.5 * (sum + difference)
    })
}

/// Minimum distance of two line spectral frequencies: 50 Hz in radians per sample.
const APART: f32 = 0.039;
const LOWEST: f32 = 0.01;
const HIGHEST: f32 = std::f32::consts::PI - 0.0016;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evenly_spread_lines_are_a_flat_spectrum() {
        // Equally spaced frequencies k * pi / 11 give a filter that changes nothing (all coefficients are 0).
        let lines = std::array::from_fn(|i| (i + 1) as f32 * std::f32::consts::PI / 11.0);
        assert!(to_filter(&lines).iter().all(|c| c.abs() < 1e-5), "{:?}", to_filter(&lines));
    }

    #[test]
    fn crossing_frequencies_are_sorted_and_separated() {
        let mut lines = mean();
        lines.swap(4, 5);
        let settled = settled(lines);
        assert!(settled.windows(2).all(|pair| pair[1] - pair[0] > 0.0), "{settled:?}");
    }

    #[test]
    fn codebook_frequencies_ascend_below_half_the_sampling_rate() {
        // The expected sums are those of tables that were compared with the standard. A value that changes by accident
        // fails the test.
        let sum = |book: &[[i16; 3]]| book.iter().flatten().map(|&code| i64::from(code)).sum::<i64>();
        assert_eq!((sum(&LSF_LOW), sum(&LSF_MIDDLE)), (804_118, 4_029_910));
        assert_eq!(LSF_HIGH.iter().flatten().map(|&code| i64::from(code)).sum::<i64>(), 9_615_462);
        assert!(LSF_LOW.iter().chain(&LSF_MIDDLE).all(|row| row.is_sorted() && row[0] > 0));
        assert!(LSF_HIGH.iter().all(|row| row.is_sorted() && radians(row[3]) < std::f32::consts::PI));
    }
}
