//! Reads the table of contents of AMR and AMR-WB payloads (RFC 4867 section 4). It gives the number, the sizes and the
//! quality of the frames.

use super::AmrBand;
use super::amr_form::AmrAlignment;

/// The frames of a payload, read in one of the two alignments. Bytes may follow the last frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct AmrContents {
    pub(super) frames: i64,
    /// Length of the header and the frames, bytes.
    pub(super) bytes: usize,
    /// Whether the quality bit of a frame marks it as damaged (RFC 4867 section 4.3.2).
    pub(super) has_damage: bool,
    /// Number of bits of this payload that speak for the alignment in which it was read, e.g. padding bits that are 0.
    /// `None` if a padding bit is 1 or a frame is marked as damaged: then the payload proves nothing.
    pub(super) agreeing_bits: Option<u32>,
}

/// The frame types and quality bits at the beginning of a payload, one entry for each frame.
#[derive(Default)]
struct FrameTable {
    /// Sizes of the frames, bits.
    sizes: [u16; MAX_FRAMES],
    count: usize,
    has_damage: bool,
    /// Number of frames that have the same type as the previous frame.
    repeated_types: u32,
}

/// The bits that fill a payload up to whole bytes. A sender sets all of them to 0.
struct PaddingBits<'a> {
    payload: &'a [u8],
    count: u32,
    are_zero: bool,
}

impl AmrContents {
    /// Reads a payload in one alignment. Returns `None` if it has no valid table of contents, or is shorter than its
    /// frames.
    pub(super) fn of(payload: &[u8], band: AmrBand, alignment: AmrAlignment) -> Option<Self> {
        let is_octet = alignment == AmrAlignment::Octet;
        let table = FrameTable::of(payload, band, is_octet)?;
        let mut padding = PaddingBits { payload, count: 0, are_zero: true };
        let mut end = HEADER_BITS + table.count * ENTRY_BITS;
        if is_octet {
            padding.examine(HEADER_BITS, 8)?;
            (end, padding.count) = (8 + 8 * table.count, padding.count + 2 * table.count as u32);
        }
        for size in &table.sizes[..table.count] {
            end += usize::from(*size);
            if is_octet {
                padding.examine(end, end.next_multiple_of(8))?;
                end = end.next_multiple_of(8);
            }
        }
        let whole = end.next_multiple_of(8);
        padding.examine(end, whole)?;
        let bits = padding.count + 2 * table.count as u32 + 4 * table.repeated_types + LENGTH_BITS;
        Some(Self {
            frames: i64::try_from(table.count).ok()?,
            bytes: whole / 8,
            has_damage: table.has_damage,
            agreeing_bits: (padding.are_zero && !table.has_damage).then_some(bits),
        })
    }
}

impl FrameTable {
    fn of(payload: &[u8], band: AmrBand, is_octet: bool) -> Option<Self> {
        let sizes: &[u16] = match band {
            AmrBand::Narrow => &NARROW_BITS,
            AmrBand::Wide => &WIDE_BITS,
        };
        let (header, entry) = if is_octet { (8, 8) } else { (HEADER_BITS, ENTRY_BITS) };
        let (mut table, mut last_kind) = (Self::default(), None);
        loop {
            let at = header + table.count * entry;
            let kind = bits_at(payload, at + 1, 4)?;
            *table.sizes.get_mut(table.count)? = *sizes.get(kind).filter(|size| **size != RESERVED)?;
            table.count += 1;
            table.has_damage |= bits_at(payload, at + 5, 1)? == 0;
            table.repeated_types += u32::from(last_kind.replace(kind) == Some(kind));
            if is_octet && bits_at(payload, at + 6, 2)? != 0 {
                return None; // RFC 4867 section 4.4.2: the padding of an entry is 0
            }
            if bits_at(payload, at, 1)? == 0 {
                return Some(table);
            }
        }
    }
}

impl PaddingBits<'_> {
    fn examine(&mut self, from: usize, to: usize) -> Option<()> {
        self.are_zero &= bits_at(self.payload, from, to - from)? == 0;
        self.count += u32::try_from(to - from).ok()?;
        (to <= self.payload.len() * 8).then_some(())
    }
}

/// Returns `count` bits of a payload from bit `at` on, as a number; `None` beyond the end of the payload.
fn bits_at(payload: &[u8], at: usize, count: usize) -> Option<usize> {
    let bit = |n: usize| payload.get(n / 8).map(|byte| usize::from(byte >> (7 - n % 8) & 1));
    (at..at + count).try_fold(0, |value, n| Some(value << 1 | bit(n)?))
}

/// Length of the codec mode request, bits.
const HEADER_BITS: usize = 4;
/// Length of an entry of the table of contents, bits: F (1), FT (4) and Q (1).
const ENTRY_BITS: usize = 6;
/// Number of bits that a fitting length of the payload adds to [`AmrContents::agreeing_bits`]. One random table of
/// contents in four fits the length by chance, so a fit is worth 2 bits.
const LENGTH_BITS: u32 = 2;
/// Marks a frame type that no sender uses, in the tables of frame sizes.
const RESERVED: u16 = u16::MAX;
/// Number of speech bits in an AMR frame, indexed by the frame type (3GPP TS 26.101 table 1a).
const NARROW_BITS: [u16; 16] = [95, 103, 118, 134, 148, 159, 204, 244, 39, 43, 38, 37, RESERVED, RESERVED, RESERVED, 0];
/// Number of speech bits in an AMR-WB frame, indexed by the frame type (3GPP TS 26.201 table 2).
const WIDE_BITS: [u16; 16] =
    [132, 177, 253, 285, 317, 365, 397, 461, 477, 40, RESERVED, RESERVED, RESERVED, RESERVED, 0, 0];
/// Maximum number of frames in a packet: 32 frames of 20 ms are 640 ms. A longer table of contents is damaged.
const MAX_FRAMES: usize = 32;
