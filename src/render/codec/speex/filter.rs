//! Filters that both layers of Speex use. Ported from libspeex (BSD-3-Clause, `COPYING` beside this file).

/// Line spectral frequencies between two frames', kept apart by a margin so that the filter is stable.
pub(super) fn interpolate<const N: usize>(old: &[f32; N], new: &[f32; N], subframe: usize, margin: f32) -> [f32; N] {
    let share = (1.0 + subframe as f32) / 4.0;
    let mut lsp = [0.0; N];
    for i in 0..N {
        lsp[i] = (1.0 - share) * old[i] + share * new[i];
    }
    lsp[0] = lsp[0].max(margin);
    lsp[N - 1] = lsp[N - 1].min(std::f32::consts::PI - margin);
    for i in 1..N - 1 {
        lsp[i] = lsp[i].max(lsp[i - 1] + margin);
        if lsp[i] > lsp[i + 1] - margin {
            lsp[i] = 0.5 * (lsp[i] + lsp[i + 1] - margin);
        }
    }
    lsp
}

/// Line spectral frequencies to coefficients of a linear predictor, through a cascade of second order sections.
pub(super) fn to_predictor<const N: usize>(lsp: &[f32; N]) -> [f32; N] {
    let doubled = lsp.map(|frequency| 2.0 * frequency.cos());
    // Memory of the sections, two and two, and of the last section of each polynomial.
    let (mut memory, mut last) = ([[0.0f32; 4]; N], [0.0f32; 2]);
    let mut predictor = [0.0; N];
    let mut input = [1.0f32; 2];
    for at in 0..=N {
        for section in 0..N / 2 {
            let [a1, a2, b1, b2] = memory[section];
            let output = [input[0] - doubled[2 * section] * a1 + a2, input[1] - doubled[2 * section + 1] * b1 + b2];
            memory[section] = [input[0], a1, input[1], b1];
            input = output;
        }
        if at > 0 {
            predictor[at - 1] = (input[0] + last[0] + input[1] - last[1]) * 0.5;
        }
        last = input;
        input = [0.0; 2];
    }
    predictor
}

/// Makes a predictor's resonances wider.
pub(super) fn widen<const N: usize>(gamma: f32, predictor: &[f32; N]) -> [f32; N] {
    let mut factor = 1.0;
    predictor.map(|coefficient| {
        factor *= gamma;
        coefficient * factor
    })
}

/// Synthesis: the all-pole filter of a predictor, in place.
pub(super) fn synthesize<const N: usize>(predictor: &[f32; N], memory: &mut [f32; N], samples: &mut [f32]) {
    for sample in samples {
        *sample += memory[0];
        for i in 0..N - 1 {
            memory[i] = memory[i + 1] - predictor[i] * *sample;
        }
        memory[N - 1] = -predictor[N - 1] * *sample;
    }
}

/// The high-pass filter of the output, in place.
pub(super) fn high_pass(coefficients: &HighPass, memory: &mut [f32; 2], samples: &mut [f32]) {
    let HighPass { zeros, poles } = coefficients;
    for sample in samples {
        let input = *sample;
        let output = zeros[0] * input + memory[0];
        memory[0] = memory[1] + zeros[1] * input - poles[0] * output;
        memory[1] = zeros[2] * input - poles[1] * output;
        *sample = output;
    }
}

/// A filter of second order.
pub(super) struct HighPass {
    pub(super) zeros: [f32; 3],
    pub(super) poles: [f32; 2],
}

/// Root mean square, never quite 0.
pub(super) fn rms(samples: &[f32]) -> f32 {
    (0.1 + dot(samples, samples) / samples.len() as f32).sqrt()
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Adds the shapes of one subframe from a codebook of vectors of `size`.
pub(super) fn innovation(book: &super::modes::Shapes, bits: &mut super::Bits<'_>, gain: f32, out: &mut [f32; 40]) {
    for vector in out.chunks_exact_mut(book.size) {
        let negative = book.signed && bits.take(1) == 1;
        let at = bits.take(book.bits) * book.size;
        let gain = if negative { -gain } else { gain };
        for (sample, &shape) in vector.iter_mut().zip(&book.table[at..at + book.size]) {
            *sample += gain * 0.031_25 * f32::from(shape);
        }
    }
}
