//! Finds the frames and the alignment of AMR and AMR-WB payloads (RFC 4867) from the frame types and the length.

use super::{AmrBand, fmtp};

/// Alignment of a payload (RFC 4867 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AmrAlignment {
    /// Bandwidth-efficient: the fields are packed without padding between them.
    Bit,
    /// Octet-aligned: each field begins at a byte boundary.
    Octet,
}

impl AmrAlignment {
    /// Returns the other alignment.
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

impl AmrForm {
    /// Returns the form for the parameters of a `fmtp` line.
    pub(crate) fn new(band: AmrBand, parameters: &str) -> Self {
        let on = |name| fmtp(parameters, name).is_some_and(|value| value != "0");
        let is_plain = !on("crc") && !on("robust-sorting");
        let announced = if on("octet-align") || !is_plain { AmrAlignment::Octet } else { AmrAlignment::Bit };
        Self { band, announced, is_plain }
    }

    /// Returns the alignment of a payload. The announced alignment or `last`, that of the packet before, is kept if it
    /// fits the payload length. Otherwise the other alignment is returned if it fits.
    pub(crate) fn alignment(self, payload: &[u8], last: AmrAlignment) -> AmrAlignment {
        let fits = |alignment| self.frames_in(payload, alignment).is_some();
        let candidates = [last, self.announced, self.announced.other()];
        let found = candidates.into_iter().find(|alignment| self.is_plain && fits(*alignment));
        found.unwrap_or(self.announced)
    }

    /// Returns the payload without up to `most` zero bytes after its last frame. Returns the whole payload if its
    /// frames include these bytes, or if no frames fit it.
    pub(crate) fn without_stray_bytes(self, payload: &[u8], most: usize) -> &[u8] {
        let alignments = [self.announced, self.announced.other()];
        let fits = |part: &[u8]| alignments.iter().any(|alignment| self.frames_in(part, *alignment).is_some());
        let shorter = (0..=most).filter_map(|stray| payload.get(..payload.len().checked_sub(stray)?));
        let is_padded = |part: &&[u8]| payload[part.len()..].iter().all(|byte| *byte == 0);
        shorter.filter(|_| self.is_plain).filter(is_padded).find(|part| fits(part)).unwrap_or(payload)
    }

    /// Returns the number of frames if the frame types in a payload add up to exactly its length.
    fn frames_in(self, payload: &[u8], alignment: AmrAlignment) -> Option<i64> {
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
        let (mut frames, mut speech) = (0, 0);
        loop {
            let at = header + frames * entry;
            let follows = field(at, 1)? == 1;
            let frame_bits = usize::from(*bits.get(field(at + 1, 4)?).filter(|bits| **bits != RESERVED)?);
            let is_octet = alignment == AmrAlignment::Octet;
            if is_octet && field(at + 6, 2)? != 0 {
                return None; // padding of an entry is 0
            }
            speech += if is_octet { frame_bits.next_multiple_of(8) } else { frame_bits };
            frames += 1;
            if !follows || frames > MAX_FRAMES {
                break;
            }
        }
        let total = header + frames * entry + speech;
        (total.div_ceil(8) == payload.len()).then_some(i64::try_from(frames).ok()?)
    }
}

/// Returns the number of frames in a payload, in the alignment that fits its length; `None` if neither fits.
pub(super) fn frames(band: AmrBand, parameters: &str, payload: &[u8]) -> Option<i64> {
    let form = AmrForm::new(band, parameters);
    if !form.is_plain {
        return None;
    }
    form.frames_in(payload, form.announced).or_else(|| form.frames_in(payload, form.announced.other()))
}

/// Marks a frame type that no sender uses, in the tables of frame sizes.
const RESERVED: u16 = u16::MAX;
/// Bits of an AMR frame by its type (3GPP TS 26.101 table 1a).
const NARROW_BITS: [u16; 16] = [95, 103, 118, 134, 148, 159, 204, 244, 39, 43, 38, 37, RESERVED, RESERVED, RESERVED, 0];
/// Bits of an AMR-WB frame by its type (3GPP TS 26.201 table 2).
const WIDE_BITS: [u16; 16] =
    [132, 177, 253, 285, 317, 365, 397, 461, 477, 40, RESERVED, RESERVED, RESERVED, RESERVED, 0, 0];
/// Maximum number of frames in a packet: 640 ms. A longer table of contents is damaged.
const MAX_FRAMES: usize = 32;
