//! Finds the frames and the alignment of AMR and AMR-WB payloads (RFC 4867) from the frame types and the length.

use super::{AmrBand, fmtp};

/// How the fields of an AMR payload lie in its bytes (RFC 4867 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AmrAlignment {
    /// Bandwidth-efficient mode: the fields follow each other bit by bit, without padding between them.
    Bit,
    /// Octet-aligned mode: each field begins at a byte boundary.
    Octet,
}

impl AmrAlignment {
    /// Returns octet-aligned for bandwidth-efficient and the reverse.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Bit => Self::Octet,
            Self::Octet => Self::Bit,
        }
    }
}

/// The announced alignment of payloads, and the parameters to check both alignments.
///
/// Quirk `amr_alignment`: a device omits `octet-align` from an answer or a re-INVITE, but sends octet-aligned payloads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AmrForm {
    band: AmrBand,
    pub(crate) announced: AmrAlignment,
    /// False if the format has frame CRCs or robust sorting: then the alignment is not checked.
    is_plain: bool,
}

/// The frames that a payload has if it is read in one of the two alignments.
#[derive(Clone, Copy, Debug)]
struct AmrContents {
    frames: i64,
    /// Whether the quality bit of a frame marks it as damaged (RFC 4867 section 4.3.2).
    has_damage: bool,
}

impl AmrForm {
    /// Returns the form for the parameters of a `fmtp` line.
    pub(crate) fn new(band: AmrBand, parameters: &str) -> Self {
        let on = |name| fmtp(parameters, name).is_some_and(|value| value != "0");
        let is_plain = !on("crc") && !on("robust-sorting");
        let announced = if on("octet-align") || !is_plain { AmrAlignment::Octet } else { AmrAlignment::Bit };
        Self { band, announced, is_plain }
    }

    /// Returns the alignment that fits the payload's length. If both fit, returns the alignment in which no frame is
    /// marked as damaged. Further ties go to `last`, the alignment of the packet before, and then to the announced
    /// alignment.
    ///
    /// An octet-aligned frame of 4.75 kbit/s fits both: in the bandwidth-efficient reading, its padding looks like a
    /// damaged frame of that mode.
    pub(crate) fn alignment(self, payload: &[u8], last: AmrAlignment) -> AmrAlignment {
        if !self.is_plain {
            return self.announced;
        }
        let fitting = |alignment| Some((alignment, self.contents(payload, alignment)?));
        let found = [last, self.announced, self.announced.other()].into_iter().filter_map(fitting);
        // `min_by_key` keeps the first of equal alignments, so their order above decides ties.
        found.min_by_key(|(_, contents)| contents.has_damage).map_or(self.announced, |(alignment, _)| alignment)
    }

    /// Returns the payload without up to `most` zero bytes that a device appended after its last frame. Returns the
    /// whole payload if its frames include these bytes, or if its frames do not end there.
    pub(crate) fn without_stray_bytes(self, payload: &[u8], most: usize) -> &[u8] {
        let alignments = [self.announced, self.announced.other()];
        let fits = |part: &[u8]| alignments.iter().any(|alignment| self.contents(part, *alignment).is_some());
        let shorter = (0..=most).filter_map(|stray| payload.get(..payload.len().checked_sub(stray)?));
        let is_padded = |part: &&[u8]| payload[part.len()..].iter().all(|byte| *byte == 0);
        shorter.filter(|_| self.is_plain).filter(is_padded).find(|part| fits(part)).unwrap_or(payload)
    }

    /// Returns the frames of a payload in one alignment; `None` unless the frame types in its table add up to exactly
    /// its length.
    fn contents(self, payload: &[u8], alignment: AmrAlignment) -> Option<AmrContents> {
        let bits: &[u16] = match self.band {
            AmrBand::Narrow => &NARROW_BITS,
            AmrBand::Wide => &WIDE_BITS,
        };
        let bit = |at: usize| payload.get(at / 8).map(|byte| usize::from(byte >> (7 - at % 8) & 1));
        let field = |at: usize, count: usize| (at..at + count).try_fold(0, |value, at| Some(value << 1 | bit(at)?));
        // A payload begins with a codec mode request of 4 bits, then table entries of F (1 bit), FT (4 bits) and Q (1
        // bit).
        let (header, entry) = match alignment {
            AmrAlignment::Bit => (4, 6),
            AmrAlignment::Octet => (8, 8),
        };
        let (mut frames, mut speech, mut has_damage) = (0, 0, false);
        loop {
            let at = header + frames * entry;
            let follows = field(at, 1)? == 1;
            let frame_bits = usize::from(*bits.get(field(at + 1, 4)?).filter(|bits| **bits != RESERVED)?);
            let is_octet = alignment == AmrAlignment::Octet;
            if is_octet && field(at + 6, 2)? != 0 {
                return None; // padding of an entry is 0
            }
            has_damage |= field(at + 5, 1)? == 0;
            speech += if is_octet { frame_bits.next_multiple_of(8) } else { frame_bits };
            frames += 1;
            if !follows || frames > MAX_FRAMES {
                break;
            }
        }
        let total = header + frames * entry + speech;
        (total.div_ceil(8) == payload.len()).then_some(AmrContents { frames: i64::try_from(frames).ok()?, has_damage })
    }
}

/// Returns the number of frames in a payload, in the alignment that fits its length; `None` if neither fits.
pub(super) fn frames(band: AmrBand, parameters: &str, payload: &[u8]) -> Option<i64> {
    let form = AmrForm::new(band, parameters);
    if !form.is_plain {
        return None;
    }
    form.contents(payload, form.alignment(payload, form.announced)).map(|contents| contents.frames)
}

/// Entry for a frame type that no sender uses, in the tables of frame sizes.
const RESERVED: u16 = u16::MAX;
/// Number of speech bits in an AMR frame, indexed by the frame type (3GPP TS 26.101 table 1a).
const NARROW_BITS: [u16; 16] = [95, 103, 118, 134, 148, 159, 204, 244, 39, 43, 38, 37, RESERVED, RESERVED, RESERVED, 0];
/// Number of speech bits in an AMR-WB frame, indexed by the frame type (3GPP TS 26.201 table 2).
const WIDE_BITS: [u16; 16] =
    [132, 177, 253, 285, 317, 365, 397, 461, 477, 40, RESERVED, RESERVED, RESERVED, RESERVED, 0, 0];
/// Maximum number of frames in a packet: 32 frames of 20 ms are 640 ms. A longer table of contents is damaged.
const MAX_FRAMES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a payload of one frame of 4.75 kbit/s without a mode request, with `speech` as its bits 0 to 94.
    fn slowest_mode(alignment: AmrAlignment, is_good: bool, speech: u128) -> Vec<u8> {
        let good = u128::from(is_good);
        match alignment {
            // 8 bits of header, an entry of 8 bits, 95 bits of speech and 1 bit of padding.
            AmrAlignment::Octet => (0xF0 << 104 | good << 98 | speech << 1).to_be_bytes()[2..].to_vec(),
            // 4 bits of header, an entry of 6 bits, 95 bits of speech and 7 of padding.
            AmrAlignment::Bit => (0xF << 108 | good << 102 | speech << 7).to_be_bytes()[2..].to_vec(),
        }
    }

    #[test]
    fn octet_aligned_frame_of_the_slowest_mode_is_not_taken_for_a_damaged_one() {
        let speech = 0x3C5A_96E1_4B2D_7788_1234_5678;
        for parameters in ["", "octet-align=1"] {
            let form = AmrForm::new(AmrBand::Narrow, parameters);
            for last in [AmrAlignment::Bit, AmrAlignment::Octet] {
                for sent in [AmrAlignment::Bit, AmrAlignment::Octet] {
                    let payload = slowest_mode(sent, true, speech);
                    assert_eq!(form.alignment(&payload, last), sent, "{parameters:?}, after {last:?}");
                    assert_eq!(frames(AmrBand::Narrow, parameters, &payload), Some(1));
                }
            }
        }
    }

    #[test]
    fn damaged_frame_keeps_the_alignment_of_its_stream() {
        let form = AmrForm::new(AmrBand::Narrow, "octet-align=1");
        let damaged = slowest_mode(AmrAlignment::Bit, false, 0x3C5A_96E1_4B2D_7788_1234_5678);
        assert_eq!(form.alignment(&damaged, AmrAlignment::Bit), AmrAlignment::Bit);
        let octets = slowest_mode(AmrAlignment::Octet, false, 0x3C5A_96E1_4B2D_7788_1234_5678);
        assert_eq!(form.alignment(&octets, AmrAlignment::Octet), AmrAlignment::Octet, "both fit: that before is kept");
    }
}
