//! Distinguishes RTCP from RTP by the length fields (RFC 3550 section 6.1, RFC 5506, RFC 3711 section 3.4).
//!
//! The packet type of RTCP is in the same byte as RTP's marker bit and payload type. An RTCP packet looks like RTP with
//! marker bit and a payload type of 64 to 95. So this byte alone does not decide (RFC 5761 section 4). The length
//! fields of RTCP must fit the datagram; RTP has its sequence number at the position of the length.

/// How well the length fields of a packet fit the rules of RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RtcpForm {
    /// The packet is RTCP: the length fields of one or more RTCP packets add up to the datagram.
    Compound,
    /// The packet may be SRTCP: the bytes after its first RTCP packet have room for the trailer of SRTCP.
    MaybeEncrypted,
    /// The packet is not RTCP: its length fields do not fit the datagram.
    No,
}

impl RtcpForm {
    /// Classifies a packet with `wire_len` bytes on the wire. `payload` is the captured part of it.
    pub(crate) fn of(payload: &[u8], wire_len: u32) -> Self {
        let wire_len = (wire_len as usize).max(payload.len());
        let Some(first) = packet_len(payload) else { return Self::No };
        let mut end = first;
        while end < wire_len {
            match payload.get(end..).and_then(packet_len) {
                Some(next) => end += next,
                None if wire_len - first >= MIN_SRTCP_TRAILER => return Self::MaybeEncrypted,
                None => return Self::No,
            }
        }
        match (end == wire_len, first <= wire_len) {
            (true, _) => Self::Compound,
            (false, true) if wire_len - first >= MIN_SRTCP_TRAILER => Self::MaybeEncrypted,
            _ => Self::No,
        }
    }
}

/// Returns the length in bytes of the RTCP packet at the start of `bytes`. Returns `None` if the version is not 2, or
/// if the packet type is not in use.
fn packet_len(bytes: &[u8]) -> Option<usize> {
    let &[first, kind, high, low, ..] = bytes else { return None };
    let is_in_use = first >> 6 == 2 && PACKET_TYPES.iter().any(|range| range.contains(&kind));
    is_in_use.then(|| 4 * (1 + usize::from(u16::from_be_bytes([high, low]))))
}

/// RTCP packet types in use: FIR, NACK, SMPTE, IJ (192 to 195), and SR to SNM (from 200; IANA registry "RTCP Control
/// Packet Types").
const PACKET_TYPES: [std::ops::RangeInclusive<u8>; 2] = [192..=195, 200..=213];
/// Minimum length of the SRTCP trailer, bytes: the index, and an authentication tag of 32 bits (RFC 3711 section 3.4).
const MIN_SRTCP_TRAILER: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVER_REPORT: [u8; 8] = [0x80, 201, 0, 1, 1, 2, 3, 4];
    const SOURCE_DESCRIPTION: [u8; 12] = [0x81, 202, 0, 2, 1, 2, 3, 4, 1, 0, 0, 0];
    const PICTURE_LOSS: [u8; 12] = [0x81, 206, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];

    fn form(bytes: &[u8]) -> RtcpForm {
        RtcpForm::of(bytes, bytes.len() as u32)
    }

    #[test]
    fn lengths_of_rtcp_fill_the_datagram() {
        assert_eq!(form(&[&RECEIVER_REPORT[..], &SOURCE_DESCRIPTION].concat()), RtcpForm::Compound);
        // Reduced-size RTCP (RFC 5506): a single packet that is no report, in this case a request for a new picture.
        assert_eq!(form(&PICTURE_LOSS), RtcpForm::Compound);
        // The snap length has cut off the end of this RTCP packet, but its length field fits the length on the wire. So
        // it counts as RTCP.
        assert_eq!(RtcpForm::of(&SOURCE_DESCRIPTION[..8], 12), RtcpForm::Compound);
    }

    #[test]
    fn srtcp_has_a_trailer() {
        let encrypted = [&RECEIVER_REPORT[..], &[0xA5; 20], &[0x80, 0, 0, 1], &[9; 10]].concat();
        assert_eq!(form(&encrypted), RtcpForm::MaybeEncrypted);
        assert_eq!(form(&[&RECEIVER_REPORT[..], &[9; 4]].concat()), RtcpForm::No);
    }

    #[test]
    fn rtp_with_marker_and_payload_type_77_does_not_have_the_form() {
        let audio = |sequence: u16| {
            let [high, low] = sequence.to_be_bytes();
            [&[0x80, 77 | 0x80, high, low, 0, 0, 0, 160, 1, 2, 3, 4][..], &[0x55; 160]].concat()
        };
        assert_eq!(form(&audio(12_345)), RtcpForm::No);
        assert_eq!(form(&audio(3)), RtcpForm::MaybeEncrypted);
        // RTCP packet type 221 is not in use, so this packet is not RTCP.
        assert_eq!(form(&[0x80, 93 | 0x80, 0, 1, 0, 0, 0, 0]), RtcpForm::No);
    }
}
