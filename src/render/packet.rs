//! Reads RTP packets (RFC 3550 section 5.1) from the spool, the file of a leg's packets. They are complete, or
//! truncated after the header.

use crate::net::{PayloadType, SequenceNumber, Ssrc};
use crate::rtp;
use crate::spool::reader::PacketEntry;
use rtp_rs::RtpReaderError;

/// The header fields that decide the playout time of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RtpHeaderFields {
    /// Payload type, 0 to 127.
    pub(super) pt: PayloadType,
    /// Sequence number of the packet.
    pub(super) sequence: SequenceNumber,
    /// RTP timestamp, in ticks of the payload type's clock.
    pub(super) time: u32,
    /// SSRC, which names the source of the stream.
    pub(super) ssrc: Ssrc,
}

/// The payload of a packet, as far as the spool contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CapturedPayload<'a> {
    /// The complete payload, without padding.
    Whole(&'a [u8]),
    /// No payload: the call engine did not keep it, e.g. during a pause.
    Withheld,
    /// The payload is incomplete: the capture truncated it, or header and length contradict each other.
    Damaged,
}

/// Splits a datagram into its RTP packets. Nearly always it has only one, but a network card can join several (see
/// [`rtp::split_merged`]). The call engine counts such a datagram as one packet, because searching every datagram would
/// slow it down.
pub(super) fn split_joined<'a>(packet: &PacketEntry<'a>) -> impl Iterator<Item = PacketEntry<'a>> {
    let packet = *packet;
    let mut rest = packet.wire_len;
    let mut parts = rtp::split_merged(packet.payload).peekable();
    std::iter::from_fn(move || {
        let payload = parts.next()?;
        // If the capture truncated the datagram, the missing bytes belong to the last packet.
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let wire_len = if parts.peek().is_some() { length.min(rest) } else { rest };
        rest -= wire_len;
        Some(PacketEntry { payload, wire_len, ..packet })
    })
}

/// Parses the fixed header. Returns `None` for bytes that are not RTP.
pub(super) fn read_header(packet: &PacketEntry<'_>) -> Option<RtpHeaderFields> {
    let (fixed, _) = packet.payload.split_first_chunk::<12>()?;
    // The second byte of RTCP is 192 to 223. The spool contains no RTCP, so here these values are payload types 64 to
    // 95 with the marker bit.
    if fixed[0] >> 6 != 2 {
        return None;
    }
    Some(RtpHeaderFields {
        pt: PayloadType(fixed[1] & 0x7F),
        sequence: SequenceNumber(u16::from_be_bytes([fixed[2], fixed[3]])),
        time: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        ssrc: Ssrc(u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]])),
    })
}

/// Returns the payload of a packet for which [`read_header`] found a header.
pub(super) fn read_payload<'a>(packet: &PacketEntry<'a>) -> CapturedPayload<'a> {
    let cut = (packet.payload.len() as u64) < u64::from(packet.wire_len);
    match (cut, rtp_rs::RtpReader::new(packet.payload)) {
        (false, Ok(reader)) => CapturedPayload::Whole(reader.payload()),
        // Quirk `bad_padding`: the padding bit is set, but the last byte is no valid padding length. So all bytes are
        // payload.
        (false, Err(RtpReaderError::PaddingLengthInvalid(_))) => {
            let body = header_bytes(packet.payload).and_then(|at| packet.payload.get(at..));
            body.map_or(CapturedPayload::Damaged, CapturedPayload::Whole)
        }
        (true, Ok(reader)) if reader.payload().is_empty() => CapturedPayload::Withheld,
        // Parsing failed because the last byte, the padding length, was not stored. If the stored packet ends after its
        // header, the call engine withheld the payload.
        (true, Err(_)) if header_only(packet.payload) => CapturedPayload::Withheld,
        _ => CapturedPayload::Damaged,
    }
}

/// Returns the complete payload of a packet; `None` if it is incomplete.
pub(super) fn whole_payload<'a>(packet: &PacketEntry<'a>) -> Option<&'a [u8]> {
    if packet.payload.first() == Some(&PLAIN_HEADER) && packet.payload.len() as u64 == u64::from(packet.wire_len) {
        return packet.payload.get(FIXED_HEADER..);
    }
    match read_payload(packet) {
        CapturedPayload::Whole(payload) => Some(payload),
        CapturedPayload::Withheld | CapturedPayload::Damaged => None,
    }
}

/// Returns the length of the payload on the wire, bytes; `None` if the header itself was truncated. Padding is
/// subtracted only if the packet is complete.
pub(super) fn payload_bytes(packet: &PacketEntry<'_>) -> Option<u32> {
    if let CapturedPayload::Whole(payload) = read_payload(packet) {
        return u32::try_from(payload.len()).ok();
    }
    let header = u32::try_from(header_bytes(packet.payload)?).ok()?;
    packet.wire_len.checked_sub(header)
}

/// Returns whether a packet has no payload, i.e. ends directly after its header with CSRCs and extension.
fn header_only(bytes: &[u8]) -> bool {
    match (bytes.first(), header_bytes(bytes)) {
        (None, _) => false,
        (_, Some(length)) => bytes.len() <= length,
        // The header is truncated before its extension, or in the extension's first word. So its length is unknown.
        (Some(first), None) => bytes.len() <= 12 + 4 * usize::from(first & 15),
    }
}

/// Returns the length of header, CSRCs and extension, bytes; `None` if the extension's length was truncated.
fn header_bytes(bytes: &[u8]) -> Option<usize> {
    let first = bytes.first()?;
    let fixed = 12 + 4 * usize::from(first & 15);
    if first & 0x10 == 0 {
        return Some(fixed);
    }
    let words = bytes.get(fixed + 2..fixed + 4)?;
    Some(fixed + 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]])))
}

/// Length of the fixed header, bytes (RFC 3550 section 5.1).
pub(super) const FIXED_HEADER: usize = 12;
/// First byte of a packet of version 2 without padding, extension and contributing sources.
pub(super) const PLAIN_HEADER: u8 = 0x80;
