//! Checks the bits that a codec fixes in each of its frames. A payload of another codec rarely has them, even if its
//! length fits.

use super::Codec;

impl Codec {
    /// Returns whether all frames of a payload have the bits that this codec fixes. Returns true if it fixes no bits.
    pub(crate) fn has_fixed_bits(self, payload: &[u8]) -> bool {
        self.frames_with_fixed_bits(payload).all(|has_bits| has_bits)
    }

    /// Returns for each frame of a payload whether it has the bits that this codec fixes. Returns nothing if it fixes no
    /// bits.
    pub(crate) fn frames_with_fixed_bits(self, payload: &[u8]) -> impl Iterator<Item = bool> {
        let frame_bytes = match self {
            Self::Gsm => Some(GSM_FRAME_BYTES),
            Self::Ilbc => ILBC_FRAME_BYTES.into_iter().find(|bytes| payload.len().is_multiple_of(*bytes)),
            Self::G729 => Some(G729_FRAME_BYTES),
            _ => None,
        };
        let frames = frame_bytes.into_iter().flat_map(|bytes| payload.chunks_exact(bytes));
        frames.map(move |frame| match self {
            Self::Gsm => frame[0] >> 4 == GSM_SIGNATURE,
            // The last bit is 0, unless the frame is empty (RFC 3951 section 3.8).
            Self::Ilbc => frame[frame.len() - 1] & 1 == 0,
            _ => has_pitch_parity(frame),
        })
    }
}

/// Returns whether the parity bit P0 of a G.729 speech frame is that of its pitch delay P1 (G.729 clause 3.7.2). The bit
/// and the six most significant bits of P1 have an odd sum. RFC 3551 section 4.5.6 has the order of the bits.
const fn has_pitch_parity(frame: &[u8]) -> bool {
    let (pitch, parity) = (frame[2] & 0x3F, frame[3] >> 5 & 1);
    (pitch.count_ones() + parity as u32) % 2 == 1
}

/// Length of a GSM full rate frame, bytes (20 ms).
pub(crate) const GSM_FRAME_BYTES: usize = 33;
/// First four bits of each GSM full rate frame (RFC 3551 section 4.5.8.1).
const GSM_SIGNATURE: u8 = 0xD;
/// Lengths of iLBC frames of 20 ms and of 30 ms, bytes.
pub(crate) const ILBC_FRAME_BYTES: [usize; 2] = [38, 50];
/// Length of a G.729 speech frame, bytes (10 ms).
pub(crate) const G729_FRAME_BYTES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the payloads of a codec fixture. Before each payload is its length.
    fn payloads(packed: &[u8]) -> Vec<&[u8]> {
        let (mut payloads, mut rest) = (Vec::new(), packed);
        while let Some((length, after)) = rest.split_first_chunk() {
            let (payload, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
            payloads.push(payload);
            rest = after;
        }
        payloads
    }

    macro_rules! fixture {
        ($name:literal) => {
            payloads(include_bytes!(concat!("../../fixtures/codecs/", $name, ".rtp")))
        };
    }

    #[test]
    fn each_frame_of_a_codec_has_its_fixed_bits() {
        let coded = [
            (Codec::Gsm, fixture!("gsm")),
            (Codec::Ilbc, fixture!("ilbc_20")),
            (Codec::Ilbc, fixture!("ilbc_30")),
            (Codec::G729, fixture!("g729")),
            (Codec::G729, fixture!("g729b")),
        ];
        for (codec, payloads) in coded {
            assert!(payloads.iter().all(|payload| codec.has_fixed_bits(payload)), "{}", codec.name());
        }
    }

    /// The lengths of these payloads fit: Speex of 38 bytes looks like iLBC, of 20 bytes like two frames of G.729.
    #[test]
    fn payloads_of_another_codec_rarely_have_the_fixed_bits() {
        let (speex, wide) = (fixture!("speex"), fixture!("speex_wb"));
        let others = [
            (Codec::Gsm, speex.iter().filter(|payload| payload.len() == 46).collect::<Vec<_>>()),
            (Codec::Gsm, wide.iter().filter(|payload| payload.len() == 70).collect()),
            (Codec::Ilbc, speex.iter().filter(|payload| payload.len() == 38).collect()),
            (Codec::G729, speex.iter().filter(|payload| payload.len() == 20).collect()),
        ];
        for (codec, payloads) in others {
            let count = payloads.iter().filter(|payload| codec.has_fixed_bits(payload)).count();
            assert!(!payloads.is_empty() && count * 2 < payloads.len(), "{}: {count}", codec.name());
        }
    }
}
