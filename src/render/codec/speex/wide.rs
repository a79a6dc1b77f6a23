//! The layer of Speex from 4 to 8 kHz. Ported from libspeex (`sb_celp.c`, `filters.c`; BSD-3-Clause, `COPYING` beside
//! this file).

use super::filter::{innovation, interpolate, rms, synthesize, to_predictor, widen};
use super::modes::Shapes;
use super::narrow::{FRAME, Narrow, SUBFRAME};
use super::tables::{BAND_LSP_1, BAND_LSP_2, HIGH_EXC_8_128, HIGH_EXC_10_32};
use super::{Bits, End, noise};

const ORDER: usize = 8;
const TAPS: usize = 64;

/// The decoder's state.
pub(super) struct Wide {
    low: Narrow,
    first: bool,
    lsp: [f32; ORDER],
    predictor: [f32; ORDER],
    memory: [f32; ORDER],
    /// The last subframe's excitation: synthesis is one subframe late, as in the lower band.
    excitation: [f32; SUBFRAME],
    last_level: f32,
    /// Past samples of the lower and the higher band in the QMF, newest first.
    past: [[f32; TAPS / 2]; 2],
    seed: u32,
}

impl Wide {
    pub(super) fn new() -> Self {
        Self {
            low: Narrow::new(true),
            first: true,
            lsp: [0.0; ORDER],
            predictor: [0.0; ORDER],
            memory: [0.0; ORDER],
            excitation: [0.0; SUBFRAME],
            last_level: 0.0,
            past: [[0.0; TAPS / 2]; 2],
            seed: 1_000,
        }
    }

    pub(super) fn pausing(&self) -> bool {
        self.low.pausing()
    }

    /// One frame; without bits it is concealed, or a pause goes on.
    pub(super) fn frame(&mut self, bits: Option<&mut Bits<'_>>) -> Result<[f32; 2 * FRAME], End> {
        let Some(bits) = bits else {
            let low = self.low.frame(None)?;
            let high = self.without_bits(self.low.pausing());
            return Ok(self.join(&low, &high));
        };
        let low = self.low.frame(Some(bits))?;
        let mode = if bits.left() > 0 && bits.peek(1) == 1 { bits.take(4) & 7 } else { 0 };
        let high = match mode {
            0 if self.low.pausing() => self.without_bits(true),
            0 => self.silence(),
            mode => {
                let mode = MODES.get(mode - 1).ok_or(End::Broken)?;
                if bits.left() < mode.bits {
                    return Err(End::Broken);
                }
                self.speech(mode, bits)
            }
        };
        Ok(self.join(&low, &high))
    }

    fn speech(&mut self, mode: &Mode, bits: &mut Bits<'_>) -> [f32; FRAME] {
        let lsp = read_lsp(bits);
        if self.first {
            self.lsp = lsp;
        }
        let (low_response, low_rms) = (*self.low.response(), self.low.excitation_rms());
        let mut sound = [0.0; FRAME];
        let mut energy = 0.0;
        for (subframe, samples) in sound.as_chunks_mut::<SUBFRAME>().0.iter_mut().enumerate() {
            let predictor = to_predictor(&interpolate(&self.lsp, &lsp, subframe, MARGIN));
            let response = 1.0 + predictor.as_chunks().0.iter().map(|[a, b]| b - a).sum::<f32>();
            // How much stronger the lower band's filter is at 4 kHz, where both must meet.
            let ratio = (low_response[subframe] + 0.01) / (response + 0.01);
            let excitation = self.excite(mode, bits, subframe, ratio, low_rms[subframe]);
            samples.copy_from_slice(&self.excitation);
            synthesize(&self.predictor, &mut self.memory, samples);
            self.excitation = excitation;
            self.predictor = predictor;
            energy += rms(&excitation).powi(2) / 4.0;
        }
        self.last_level = energy.sqrt();
        self.lsp = lsp;
        self.first = false;
        sound
    }

    fn excite(&self, mode: &Mode, bits: &mut Bits<'_>, subframe: usize, ratio: f32, low_rms: f32) -> [f32; SUBFRAME] {
        let mut out = [0.0; SUBFRAME];
        let Some(book) = &mode.shapes else {
            // The lower band's innovation, folded up.
            let gain = (0.125 * (bits.take(5) as f32 - 10.0)).exp() / ratio;
            let low = &self.low.innovation()[subframe * SUBFRAME..(subframe + 1) * SUBFRAME];
            for (i, (out, low)) in out.iter_mut().zip(low).enumerate() {
                *out = if i % 2 == 0 { 0.9 * low * gain } else { -0.9 * low * gain };
            }
            return out;
        };
        let scale = 0.873_60 * GAINS[bits.take(4)] * low_rms / ratio;
        innovation(book, bits, scale, &mut out);
        if mode.twice {
            innovation(book, bits, 0.4 * scale, &mut out);
        }
        out
    }

    /// A frame whose sender says nothing about this layer.
    fn silence(&mut self) -> [f32; FRAME] {
        self.first = true;
        let mut sound = [0.0; FRAME];
        synthesize(&self.predictor, &mut self.memory, &mut sound);
        sound
    }

    /// A lost frame, or one of a pause: noise of the last level.
    fn without_bits(&mut self, pausing: bool) -> [f32; FRAME] {
        if !pausing {
            self.predictor = widen(0.99, &self.predictor);
            self.last_level *= 0.9;
        }
        self.first = true;
        let mut sound: [f32; FRAME] = std::array::from_fn(|_| noise(self.last_level, &mut self.seed));
        synthesize(&self.predictor, &mut self.memory, &mut sound);
        sound
    }

    /// Joins both bands: the synthesis half of a quadrature mirror filter.
    fn join(&mut self, low: &[f32; FRAME], high: &[f32; FRAME]) -> [f32; 2 * FRAME] {
        let mut out = [0.0; 2 * FRAME];
        for ((out, &low), &high) in out.as_chunks_mut::<2>().0.iter_mut().zip(low).zip(high) {
            for (past, new) in self.past.iter_mut().zip([low, high]) {
                past.copy_within(..TAPS / 2 - 1, 1);
                past[0] = new;
            }
            let [low, high] = &self.past;
            for (tap, (low, high)) in low.iter().zip(high).enumerate() {
                out[0] += 2.0 * QMF[tap_of(2 * tap)] * (low - high);
                out[1] += 2.0 * QMF[tap_of(2 * tap + 1)] * (low + high);
            }
        }
        out
    }
}

/// The filter is symmetrical: its second half is the first, backwards.
const fn tap_of(at: usize) -> usize {
    if at < TAPS / 2 { at } else { TAPS - 1 - at }
}

fn read_lsp(bits: &mut Bits<'_>) -> [f32; ORDER] {
    let mut lsp: [f32; ORDER] = std::array::from_fn(|i| 0.312_5 * i as f32 + 0.75);
    for (table, scale) in [(&BAND_LSP_1, 0.003_906_2), (&BAND_LSP_2, 0.001_953_1)] {
        let at = bits.take(6) * ORDER;
        for (value, &step) in lsp.iter_mut().zip(&table[at..at + ORDER]) {
            *value += scale * f32::from(step);
        }
    }
    lsp
}

/// A way to code this layer.
struct Mode {
    /// Bits after its number.
    bits: usize,
    shapes: Option<Shapes>,
    twice: bool,
}

/// Modes 1 to 4 (`modes_wb.c`).
static MODES: [Mode; 4] = [
    Mode { bits: 36 - 4, shapes: None, twice: false },
    Mode {
        bits: 112 - 4,
        shapes: Some(Shapes { table: &HIGH_EXC_10_32, size: 10, bits: 5, signed: false }),
        twice: false,
    },
    Mode {
        bits: 192 - 4,
        shapes: Some(Shapes { table: &HIGH_EXC_8_128, size: 8, bits: 7, signed: true }),
        twice: false,
    },
    Mode {
        bits: 352 - 4,
        shapes: Some(Shapes { table: &HIGH_EXC_8_128, size: 8, bits: 7, signed: true }),
        twice: true,
    },
];

const GAINS: [f32; 16] = [
    0.979_79, 1.283_84, 1.682_23, 2.204_26, 2.888_29, 3.784_58, 4.959_00, 6.497_87, 8.514_28, 11.156_42, 14.618_46,
    19.154_84, 25.098_95, 32.887_61, 43.093_25, 56.465_88,
];

const MARGIN: f32 = 0.05;

/// The first half of the filter.
const QMF: [f32; TAPS / 2] = [
    3.596_189e-5,
    -0.000_112_351_5,
    -0.000_110_458_7,
    0.000_279_027_7,
    0.000_229_843_8,
    -0.000_595_356_3,
    -0.000_382_363_1,
    0.001_138_26,
    0.000_530_853_9,
    -0.001_986_177,
    -0.000_624_372_4,
    0.003_235_877,
    0.000_574_315_9,
    -0.004_989_147,
    -0.000_258_476_7,
    0.007_367_171,
    -0.000_485_793_5,
    -0.010_506_89,
    0.001_894_714,
    0.014_593_96,
    -0.004_313_674,
    -0.019_943_65,
    0.008_287_56,
    0.027_160_55,
    -0.014_853_97,
    -0.037_649_73,
    0.026_447,
    0.055_432_45,
    -0.050_954_87,
    -0.097_790_96,
    0.138_236_3,
    0.460_098_1,
];
