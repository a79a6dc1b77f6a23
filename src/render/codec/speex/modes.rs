//! The modes of Speex's narrow band. From libspeex (`modes.c`; BSD-3-Clause, `COPYING` beside this file).

use super::tables::{EXC_5_64, EXC_5_256, EXC_8_128, EXC_10_16, EXC_10_32, EXC_20_32, GAINS, GAINS_LOW};

/// A way to code a narrow band frame.
pub(super) struct Mode {
    /// Bits after its number.
    pub(super) bits: usize,
    pub(super) open_loop_pitch: bool,
    pub(super) forced_pitch: bool,
    pub(super) subframe_gain: SubframeGain,
    /// Shapes are read twice, the second time for what the first left.
    pub(super) twice: bool,
    pub(super) fine_lsp: bool,
    /// `None`: the forced pitch has no taps.
    pub(super) gains: Option<GainBook>,
    /// `None`: noise.
    pub(super) shapes: Option<Shapes>,
    pub(super) comb_gain: f32,
    pub(super) vocoder: bool,
}

/// How the gain of each subframe corrects the frame's.
pub(super) enum SubframeGain {
    None,
    OneBit,
    ThreeBits,
}

/// A codebook of pitch gains.
pub(super) struct GainBook {
    pub(super) table: &'static [i8],
    pub(super) gain_bits: usize,
    pub(super) pitch_bits: usize,
}

/// A codebook of innovation shapes.
pub(super) struct Shapes {
    pub(super) table: &'static [i8],
    /// Samples of a vector; 40 is a multiple of it.
    pub(super) size: usize,
    pub(super) bits: usize,
    pub(super) signed: bool,
}

const fn shapes(table: &'static [i8], size: usize, bits: usize) -> Option<Shapes> {
    Some(Shapes { table, size, bits, signed: false })
}

const fn gain_book(table: &'static [i8], gain_bits: usize, pitch_bits: usize) -> Option<GainBook> {
    Some(GainBook { table, gain_bits, pitch_bits })
}

/// What the modes have in common.
const PLAIN: Mode = Mode {
    bits: 0,
    open_loop_pitch: false,
    forced_pitch: false,
    subframe_gain: SubframeGain::None,
    twice: false,
    fine_lsp: false,
    gains: None,
    shapes: None,
    comb_gain: 0.0,
    vocoder: false,
};

/// Modes 1 to 8 (`modes.c`): 2.15, 5.95, 8, 11, 15, 18.2, 24.6 and 3.95 kbit/s.
pub(super) static MODES: [Mode; 8] = [
    Mode { bits: 43 - 5, open_loop_pitch: true, forced_pitch: true, vocoder: true, ..PLAIN },
    Mode {
        bits: 119 - 5,
        open_loop_pitch: true,
        gains: gain_book(&GAINS_LOW, 5, 0),
        shapes: shapes(&EXC_10_16, 10, 4),
        comb_gain: 0.6,
        ..PLAIN
    },
    Mode {
        bits: 160 - 5,
        subframe_gain: SubframeGain::OneBit,
        gains: gain_book(&GAINS_LOW, 5, 7),
        shapes: shapes(&EXC_10_32, 10, 5),
        comb_gain: 0.55,
        ..PLAIN
    },
    Mode {
        bits: 220 - 5,
        subframe_gain: SubframeGain::OneBit,
        gains: gain_book(&GAINS_LOW, 5, 7),
        shapes: shapes(&EXC_8_128, 8, 7),
        comb_gain: 0.45,
        ..PLAIN
    },
    Mode {
        bits: 300 - 5,
        subframe_gain: SubframeGain::ThreeBits,
        fine_lsp: true,
        gains: gain_book(&GAINS, 7, 7),
        shapes: shapes(&EXC_5_64, 5, 6),
        comb_gain: 0.25,
        ..PLAIN
    },
    Mode {
        bits: 364 - 5,
        subframe_gain: SubframeGain::ThreeBits,
        fine_lsp: true,
        gains: gain_book(&GAINS, 7, 7),
        shapes: shapes(&EXC_5_256, 5, 8),
        comb_gain: 0.15,
        ..PLAIN
    },
    Mode {
        bits: 492 - 5,
        subframe_gain: SubframeGain::ThreeBits,
        twice: true,
        fine_lsp: true,
        gains: gain_book(&GAINS, 7, 7),
        shapes: shapes(&EXC_5_64, 5, 6),
        comb_gain: 0.05,
        ..PLAIN
    },
    Mode {
        bits: 79 - 5,
        open_loop_pitch: true,
        forced_pitch: true,
        shapes: shapes(&EXC_20_32, 20, 5),
        comb_gain: 0.5,
        ..PLAIN
    },
];
