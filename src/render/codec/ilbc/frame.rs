//! Unpacks the bits of an iLBC frame (RFC 3951 section 3.8). The bits of each parameter are divided into three classes
//! by their sensitivity to errors. The frame contains one class after the other.

use super::IlbcMode;

/// The parameters that one iLBC frame contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IlbcFrame {
    /// Codebook indices of one or two vectors of line spectral frequencies (LSF).
    pub(super) spectra: Vec<[usize; 3]>,
    /// Position of the start state in the frame.
    pub(super) start: StartStatePosition,
    /// Largest sample of the start state, as a 6-bit index into a table.
    pub(super) peak: usize,
    /// Quantized samples of the start state, as 3-bit indices.
    pub(super) levels: Vec<usize>,
    /// Codebook vector for the samples of the two start-state subframes that the start state does not fill.
    pub(super) rest: CodebookVector,
    /// Codebook vectors of the subframes that do not contain the start state. The subframes after the start state come
    /// first, then the subframes before it.
    pub(super) subframes: Vec<CodebookVector>,
}

/// Position of the start state within a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StartStatePosition {
    /// Number of subframes before the two subframes that contain the start state.
    pub(super) subframe: usize,
    pub(super) end: StartStateEnd,
}

/// Position of the start state within its two subframes: at their beginning, or at their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartStateEnd {
    First,
    Last,
}

/// Indices and gains of a vector in the three codebook stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CodebookVector {
    pub(super) vectors: [usize; 3],
    pub(super) gains: [usize; 3],
}

impl IlbcFrame {
    /// Parses a frame. Returns `None` if the last bit marks the frame as lost, or if the start state would lie outside
    /// the frame.
    pub(super) fn parse(mode: IlbcMode, bytes: &[u8]) -> Option<Self> {
        let layout = mode.layout();
        let mut values = [0; MAX_FIELDS];
        let mut bits = IlbcBitReader { bytes, at: 0 };
        for class in 0..3 {
            for (value, widths) in values.iter_mut().zip(layout.fields()) {
                *value = *value << widths[class] | bits.take(widths[class]);
            }
        }
        if bits.take(1) == 1 {
            return None;
        }
        let mut values = values.into_iter();
        let mut next = || values.next().unwrap_or_default();
        let spectra = (0..layout.spectra.len() / 3).map(|_| [next(), next(), next()]).collect();
        let position = next();
        let end = if next() == 1 { StartStateEnd::First } else { StartStateEnd::Last };
        let peak = next();
        let levels = (0..layout.levels).map(|_| next()).collect();
        let mut rest = CodebookVector { vectors: [next(), next(), next()], gains: [0; 3] };
        rest.gains = [next(), next(), next()];
        let mut subframes = vec![CodebookVector::default(); layout.gains.len() / 3];
        subframes.iter_mut().for_each(|shape| shape.vectors = [next(), next(), next()]);
        subframes.iter_mut().for_each(|shape| shape.gains = [next(), next(), next()]);
        if let Some(first) = subframes.first_mut() {
            first.vectors[1..].iter_mut().for_each(|index| *index = widen(*index));
        }
        if position == 0 || position > mode.subframes() - 1 {
            return None;
        }
        Some(Self { spectra, start: StartStatePosition { subframe: position - 1, end }, peak, levels, rest, subframes })
    }
}

/// Expands a 7-bit codebook index to an 8-bit index, for the second and third stage of the first coded subframe. These
/// stages use 128 of the 256 entries: 44 at the beginning, 64 around the middle, 20 at the end.
fn widen(index: usize) -> usize {
    match index {
        0..44 => index,
        44..108 => index + 64,
        _ => index + 128,
    }
}

/// Number of bits that a parameter has in each of the three classes of sensitivity.
type ClassBits = [u8; 3];

/// Numbers of bits of all parameters of a frame, in their order (RFC 3951 table 3.2).
#[derive(Debug)]
pub(super) struct FrameLayout {
    spectra: &'static [ClassBits],
    /// Numbers of bits of the position, the alignment and the peak of the start state.
    start: [ClassBits; 3],
    /// Number of samples that the start state has.
    levels: usize,
    /// Numbers of bits of three codebook vectors and three gains. They fill the part of the two start-state subframes
    /// that the start state leaves open.
    rest: [ClassBits; 6],
    vectors: &'static [ClassBits],
    gains: &'static [ClassBits],
}

impl FrameLayout {
    fn fields(&self) -> impl Iterator<Item = ClassBits> {
        let level = std::iter::repeat_n(LEVEL, self.levels);
        let before = self.spectra.iter().chain(&self.start).copied();
        before.chain(level).chain(self.rest).chain(self.vectors.iter().chain(self.gains).copied())
    }
}

/// Reads bit fields, most significant bit first. Bits beyond the end of the frame are 0.
struct IlbcBitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl IlbcBitReader<'_> {
    fn take(&mut self, width: u8) -> usize {
        let mut value = 0;
        for _ in 0..width {
            let byte = self.bytes.get(self.at / 8).copied().unwrap_or_default();
            value = value << 1 | usize::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        value
    }
}

/// Number of parameters of a 30 ms frame. It has 6 LSF indices, 3 and 58 of the start state, 6 of its remainder, and 6
/// for each of 4 subframes.
const MAX_FIELDS: usize = 97;

const LEVEL: ClassBits = [0, 1, 2];

pub(super) const LAYOUT_20_MS: FrameLayout = FrameLayout {
    spectra: &[[6, 0, 0], [7, 0, 0], [7, 0, 0]],
    start: [[2, 0, 0], [1, 0, 0], [6, 0, 0]],
    levels: 57,
    rest: [[6, 0, 1], [0, 0, 7], [0, 0, 7], [2, 0, 3], [1, 1, 2], [0, 0, 3]],
    vectors: &[[7, 0, 1], [0, 0, 7], [0, 0, 7], [0, 0, 8], [0, 0, 8], [0, 0, 8]],
    gains: &[[1, 2, 2], [1, 1, 2], [0, 0, 3], [1, 1, 3], [0, 2, 2], [0, 0, 3]],
};

pub(super) const LAYOUT_30_MS: FrameLayout = FrameLayout {
    spectra: &[[6, 0, 0], [7, 0, 0], [7, 0, 0], [6, 0, 0], [7, 0, 0], [7, 0, 0]],
    start: [[3, 0, 0], [1, 0, 0], [6, 0, 0]],
    levels: 58,
    rest: [[4, 2, 1], [0, 0, 7], [0, 0, 7], [1, 1, 3], [1, 1, 2], [0, 0, 3]],
    vectors: &[
        [6, 1, 1],
        [0, 0, 7],
        [0, 0, 7],
        [0, 7, 1],
        [0, 0, 8],
        [0, 0, 8],
        [0, 7, 1],
        [0, 0, 8],
        [0, 0, 8],
        [0, 7, 1],
        [0, 0, 8],
        [0, 0, 8],
    ],
    gains: &[
        [1, 2, 2],
        [1, 2, 1],
        [0, 0, 3],
        [0, 2, 3],
        [0, 2, 2],
        [0, 0, 3],
        [0, 1, 4],
        [0, 1, 3],
        [0, 0, 3],
        [0, 1, 4],
        [0, 1, 3],
        [0, 0, 3],
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_fills_the_frame_except_for_the_lost_frame_bit() {
        for mode in [IlbcMode::Twenty, IlbcMode::Thirty] {
            let bits = |class: usize| mode.layout().fields().map(|widths| usize::from(widths[class])).sum::<usize>();
            // RFC 3951 table 3.2: a frame of 304 bits has 48, 64 and 191 bits in the three classes of sensitivity. A
            // frame of 400 bits has 64, 96 and 239. One more bit marks a lost frame.
            let expected = if mode == IlbcMode::Twenty { [48, 64, 191] } else { [64, 96, 239] };
            assert_eq!([bits(0), bits(1), bits(2)], expected);
            assert_eq!(expected.iter().sum::<usize>() + 1, mode.bytes() * 8);
            assert!(mode.layout().fields().count() <= MAX_FIELDS);
        }
    }

    #[test]
    fn frame_marked_lost_or_with_invalid_start_is_rejected() {
        let mut bytes = [0x55; 38];
        bytes[37] = 0;
        assert!(IlbcFrame::parse(IlbcMode::Twenty, &bytes).is_some(), "the start is at the bits 20 and 21: 01");
        bytes[37] = 1;
        assert!(IlbcFrame::parse(IlbcMode::Twenty, &bytes).is_none());
        assert!(IlbcFrame::parse(IlbcMode::Twenty, &[0; 38]).is_none(), "the first position is 1");
        let mut bytes = [0xFF; 50];
        bytes[49] = 0xFE;
        assert!(IlbcFrame::parse(IlbcMode::Thirty, &bytes).is_none(), "position 7 of 5");
    }
}
