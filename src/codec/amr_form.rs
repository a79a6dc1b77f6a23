//! Finds the frames and the alignment of AMR and AMR-WB payloads (RFC 4867). The frame types must agree with the
//! payload's length.

use super::amr_contents::AmrContents;
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
    /// Returns the other of the two alignments (octet-aligned, bandwidth-efficient).
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Bit => Self::Octet,
            Self::Octet => Self::Bit,
        }
    }
}

/// The alignment that the session description announced, and the parameters to check it against the payloads.
///
/// Quirk `amr_alignment`: a device omits `octet-align` from an SDP answer or a re-INVITE, but sends octet-aligned
/// payloads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AmrForm {
    band: AmrBand,
    pub(crate) announced: AmrAlignment,
    /// Whether the format has neither frame CRCs nor robust sorting. Both exist only with octet-aligned frames (RFC
    /// 4867 section 8.1). So without them the announced alignment may be wrong and is checked.
    is_plain: bool,
}

/// The result of reading one payload: its alignment and its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AmrReading<'a> {
    pub(crate) alignment: AmrAlignment,
    /// The payload without stray bytes behind its last frame.
    pub(crate) frames: &'a [u8],
}

/// Facts about the earlier payloads of a stream. They decide how the next payload is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AmrHistory {
    /// Alignment of the last payload.
    alignment: AmrAlignment,
    /// Alignment of the last payloads with stray bytes, and the number of bits that prove it.
    stray: AlignmentProof,
}

/// An alignment, and the number of bits in the payloads so far that prove it.
#[derive(Clone, Copy, Debug)]
struct AlignmentProof {
    alignment: AmrAlignment,
    bits: u32,
}

impl AmrForm {
    /// Returns the alignment and the other facts that the parameters of a `fmtp` line announce.
    pub(crate) fn new(band: AmrBand, parameters: &str) -> Self {
        let on = |name| fmtp(parameters, name).is_some_and(|value| value != "0");
        let is_plain = !on("crc") && !on("robust-sorting");
        let announced = if on("octet-align") || !is_plain { AmrAlignment::Octet } else { AmrAlignment::Bit };
        Self { band, announced, is_plain }
    }

    /// Returns the history of a stream before its first payload.
    pub(crate) const fn no_history(self) -> AmrHistory {
        let stray = AlignmentProof { alignment: self.announced, bits: 0 };
        AmrHistory { alignment: self.announced, stray }
    }

    /// Returns the frames of the next payload of a stream. If the frame types do not fill the payload, up to
    /// [`MAX_STRAY_BYTES`] bytes at its end are left out. Bytes other than zero are left out only if the frame types of
    /// this and earlier payloads prove that they are stray.
    ///
    /// Quirk `trailing_bytes`: a device appends a byte to good frames, or pads the payload to a multiple of 4 bytes.
    pub(crate) fn reading<'a>(self, payload: &'a [u8], history: &mut AmrHistory) -> AmrReading<'a> {
        let part = self.without_zero_bytes(payload);
        if !self.fits(part)
            && let Some(reading) = self.reading_with_stray_bytes(payload, &mut history.stray)
        {
            return reading;
        }
        history.alignment = self.alignment(part, history.alignment);
        AmrReading { alignment: history.alignment, frames: part }
    }

    /// Returns the frames of a payload that has stray bytes behind its frames. Returns `None` until at least
    /// [`PROVEN_BITS`] bits of this and earlier payloads prove the same alignment.
    fn reading_with_stray_bytes<'a>(self, payload: &'a [u8], history: &mut AlignmentProof) -> Option<AmrReading<'a>> {
        let found = self.near_contents(payload, *history).filter(|_| self.is_plain);
        let Some((alignment, contents, bits)) = found else {
            history.bits = 0;
            return None;
        };
        let so_far = if alignment == history.alignment { history.bits } else { 0 };
        *history = AlignmentProof { alignment, bits: (so_far + bits).min(PROVEN_BITS) };
        (history.bits >= PROVEN_BITS).then(|| AmrReading { alignment, frames: &payload[..contents.bytes] })
    }

    /// Returns the alignment in which the frames fill the payload exactly. If both do, prefers the alignment in which
    /// no frame is marked as damaged. After that, prefers `last` (the alignment of the previous packet), then the
    /// announced alignment.
    ///
    /// An octet-aligned frame of 4.75 kbit/s fills the payload in both alignments. Read as bandwidth-efficient, it
    /// looks like a damaged frame of the same bit rate.
    fn alignment(self, payload: &[u8], last: AmrAlignment) -> AmrAlignment {
        if !self.is_plain {
            return self.announced;
        }
        let fitting = |alignment| Some((alignment, self.exact_contents(payload, alignment)?));
        let found = [last, self.announced, self.announced.other()].into_iter().filter_map(fitting);
        // `min_by_key` returns the first of several equal elements. So an earlier alignment in the list of candidates
        // is preferred.
        found.min_by_key(|(_, contents)| contents.has_damage).map_or(self.announced, |(alignment, _)| alignment)
    }

    /// Returns the payload without up to [`MAX_STRAY_BYTES`] zero bytes at its end, so that frames fill it exactly.
    /// Returns the whole payload if it is full already, or if no number of removed bytes helps.
    fn without_zero_bytes(self, payload: &[u8]) -> &[u8] {
        let shorter = (0..=MAX_STRAY_BYTES).filter_map(|stray| payload.get(..payload.len().checked_sub(stray)?));
        let is_padded = |part: &&[u8]| payload[part.len()..].iter().all(|byte| *byte == 0);
        shorter.filter(|_| self.is_plain).filter(is_padded).find(|part| self.fits(part)).unwrap_or(payload)
    }

    fn fits(self, payload: &[u8]) -> bool {
        [self.announced, self.announced.other()].iter().any(|way| self.exact_contents(payload, *way).is_some())
    }

    /// Reads a payload that is 1 to [`MAX_STRAY_BYTES`] bytes longer than its frames. Returns alignment, frames, and
    /// the number of bits that prove this reading. If both alignments are possible, returns the reading with more such
    /// bits. The bits of earlier payloads count for the alignment that they proved.
    fn near_contents(self, payload: &[u8], earlier: AlignmentProof) -> Option<(AmrAlignment, AmrContents, u32)> {
        let near = |alignment| {
            let contents = AmrContents::of(payload, self.band, alignment)?;
            let is_near = (1..=MAX_STRAY_BYTES).contains(&(payload.len() - contents.bytes));
            Some((alignment, contents, contents.agreeing_bits.filter(|_| is_near)?))
        };
        let weight = |alignment, bits: u32| if alignment == earlier.alignment { bits + earlier.bits } else { bits };
        let found = [earlier.alignment.other(), earlier.alignment].into_iter().filter_map(near);
        found.max_by_key(|(alignment, _, bits)| weight(*alignment, *bits))
    }

    /// Reads a payload in one alignment. Returns `None` if the frames do not fill the payload exactly.
    fn exact_contents(self, payload: &[u8], alignment: AmrAlignment) -> Option<AmrContents> {
        AmrContents::of(payload, self.band, alignment).filter(|contents| contents.bytes == payload.len())
    }
}

/// Returns the number of frames in a payload, in the alignment that fits its length better; `None` if neither fits.
pub(super) fn frames(band: AmrBand, parameters: &str, payload: &[u8]) -> Option<i64> {
    let form = AmrForm::new(band, parameters);
    if !form.is_plain {
        return None;
    }
    let part = form.without_zero_bytes(payload);
    let alignment = match form.fits(part) {
        true => form.alignment(part, form.announced),
        false => form.near_contents(payload, AlignmentProof { alignment: form.announced, bits: 0 })?.0,
    };
    AmrContents::of(part, band, alignment).map(|contents| contents.frames)
}

/// Maximum number of bytes after the last frame that are ignored. Devices pad a payload to a multiple of 2 or 4 bytes.
const MAX_STRAY_BYTES: usize = 3;
/// Number of agreeing bits ([`AmrContents::agreeing_bits`]) that prove that the bytes after the last frame are stray,
/// even if they are not zero. A packet with three frames of one type reaches this number. Of 100,000 payloads of random
/// bytes, e.g. of an unknown encryption, at most 10 reach it.
const PROVEN_BITS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a payload with one frame of 4.75 kbit/s. It has no mode request, and `speech` gives its speech bits 0 to
    /// 94.
    fn slowest_mode(alignment: AmrAlignment, is_good: bool, speech: u128) -> Vec<u8> {
        let good = u128::from(is_good);
        match alignment {
            // The payload has 8 bits of header, an entry of 8 bits, 95 bits of speech and 1 bit of padding.
            AmrAlignment::Octet => (0xF0 << 104 | good << 98 | speech << 1).to_be_bytes()[2..].to_vec(),
            // The payload has 4 bits of header, an entry of 6 bits, 95 bits of speech and 7 bits of padding.
            AmrAlignment::Bit => (0xF << 108 | good << 102 | speech << 7).to_be_bytes()[2..].to_vec(),
        }
    }

    #[test]
    fn octet_aligned_frame_of_the_slowest_mode_is_not_taken_for_damaged() {
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

    /// Number of bits in the frames of the modes of AMR, 4.75 to 12.2 kbit/s.
    const MODES: [usize; 8] = [95, 103, 118, 134, 148, 159, 204, 244];
    const FASTEST: usize = 7;

    /// Returns a payload of `frames` frames of a mode with random speech bits.
    fn good_frames(mode: usize, alignment: AmrAlignment, frames: usize, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bits: Vec<u8> = vec![1; 4];
        let pad = |bits: &mut Vec<u8>| match alignment {
            AmrAlignment::Octet => bits.resize(bits.len().next_multiple_of(8), 0),
            AmrAlignment::Bit => {}
        };
        pad(&mut bits);
        for n in 0..frames {
            let kind = [8, 4, 2, 1].map(|bit| u8::from(mode & bit != 0));
            bits.push(u8::from(n + 1 < frames));
            bits.extend(kind);
            bits.push(1);
            pad(&mut bits);
        }
        for _ in 0..frames {
            bits.extend(std::iter::repeat_with(|| random.u8(0..2)).take(MODES[mode]));
            pad(&mut bits);
        }
        bits.resize(bits.len().next_multiple_of(8), 0);
        bits.chunks(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | bit)).collect()
    }

    #[test]
    fn bytes_behind_frames_are_left_out_after_a_few_packets() {
        let mut random = fastrand::Rng::with_seed(1);
        // Each case: alignment, frames in a packet, and maximum number of packets until the bytes are known to be
        // stray. A longer table of contents proves more. Random speech bits can look like a table of the other
        // alignment.
        let cases = [
            (AmrAlignment::Octet, 1, 1),
            (AmrAlignment::Octet, 3, 0),
            (AmrAlignment::Bit, 1, 5),
            (AmrAlignment::Bit, 2, 1),
            (AmrAlignment::Bit, 3, 0),
        ];
        let of_modes = (0..FASTEST).map(|mode| (mode, (AmrAlignment::Bit, 1, 5)));
        for (mode, (alignment, frames, most)) in cases.map(|case| (FASTEST, case)).into_iter().chain(of_modes) {
            let form = AmrForm::new(AmrBand::Narrow, "octet-align=1");
            let mut history = form.no_history();
            let mut refused = 0;
            for _ in 0..1_000 {
                let good = good_frames(mode, alignment, frames, &mut random);
                let mut padded = good.clone();
                let stray = random.usize(1..4);
                padded.extend(std::iter::repeat_with(|| random.u8(1..)).take(stray));
                let reading = form.reading(&padded, &mut history);
                if reading.frames == padded {
                    refused += 1;
                } else {
                    assert_eq!(reading, AmrReading { alignment, frames: &good });
                }
            }
            assert!(refused <= most, "mode {mode}, {alignment:?}, {frames} frames: {refused} refused");
        }
    }

    #[test]
    fn random_bytes_are_no_frames_with_stray_bytes() {
        let mut random = fastrand::Rng::with_seed(2);
        let mut accepted = 0;
        for parameters in ["", "octet-align=1"] {
            for band in [AmrBand::Narrow, AmrBand::Wide] {
                let form = AmrForm::new(band, parameters);
                let mut history = form.no_history();
                for _ in 0..25_000 {
                    let count = random.usize(10..70);
                    let payload: Vec<u8> = std::iter::repeat_with(|| random.u8(1..)).take(count).collect();
                    accepted += u32::from(form.reading(&payload, &mut history).frames.len() < payload.len());
                }
            }
        }
        assert!(accepted <= 10, "{accepted} of 100,000");
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
