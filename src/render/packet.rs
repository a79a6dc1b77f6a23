//! What rendering reads of an RTP packet (RFC 3550 section 5.1), whole or cut after its header.

use crate::rtp;
use crate::spool::reader::PacketEntry;

/// The header fields that place a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Payload type.
    pub(super) pt: u8,
    /// Sequence number.
    pub(super) sequence: u16,
    /// RTP time.
    pub(super) time: u32,
    /// SSRC.
    pub(super) ssrc: u32,
}

/// What there is of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// All of it, padding taken off.
    Whole(&'a [u8]),
    /// Nothing: it was deliberately not kept.
    Withheld,
    /// Not all: the capture cut it, or header and length disagree.
    Damaged,
}

/// The RTP packets of a datagram: mostly itself. The engine takes joined ones (see [`rtp::joined`]) for one, for a search
/// in each would cost the hot path more than they are worth.
pub(super) fn each<'a>(packet: &PacketEntry<'a>) -> impl Iterator<Item = PacketEntry<'a>> {
    let packet = *packet;
    let mut rest = packet.wire_len;
    let mut parts = rtp::joined(packet.payload).peekable();
    std::iter::from_fn(move || {
        let payload = parts.next()?;
        // What the capture cut is missing of the last.
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let wire_len = if parts.peek().is_some() { length.min(rest) } else { rest };
        rest -= wire_len;
        Some(PacketEntry { payload, wire_len, ..packet })
    })
}

/// Reads the fixed header; `None` for what is no RTP.
pub(super) fn head(packet: &PacketEntry<'_>) -> Option<Head> {
    let (fixed, _) = packet.payload.split_first_chunk::<12>()?;
    let pt = fixed[1] & 0x7F;
    // RFC 5761 section 4: 64 to 95 are RTCP on the same port.
    if fixed[0] >> 6 != 2 || (64..=95).contains(&pt) {
        return None;
    }
    Some(Head {
        pt,
        sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
        time: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
    })
}

/// The payload of a packet that has a [`head`].
pub(super) fn body<'a>(packet: &PacketEntry<'a>) -> Body<'a> {
    let cut = (packet.payload.len() as u64) < u64::from(packet.wire_len);
    match (cut, rtp_rs::RtpReader::new(packet.payload)) {
        (false, Ok(reader)) => Body::Whole(reader.payload()),
        (true, Ok(reader)) if reader.payload().is_empty() => Body::Withheld,
        // Padding cannot be told without the last byte: the header alone is what was kept on purpose.
        (true, Err(_)) if header_only(packet.payload) => Body::Withheld,
        _ => Body::Damaged,
    }
}

/// Bytes of the payload as it was on the wire, padding and all; `None` where not even the header is whole.
pub(super) fn payload_bytes(packet: &PacketEntry<'_>) -> Option<u32> {
    let header = u32::try_from(header_bytes(packet.payload)?).ok()?;
    packet.wire_len.checked_sub(header)
}

/// Whether nothing follows header, CSRCs and extension.
fn header_only(bytes: &[u8]) -> bool {
    match (bytes.first(), header_bytes(bytes)) {
        (None, _) => false,
        (_, Some(length)) => bytes.len() <= length,
        // Cut within the header itself: before the extension or in its first word.
        (Some(first), None) => bytes.len() <= 12 + 4 * usize::from(first & 15),
    }
}

/// Bytes of header, CSRCs and extension; `None` where the extension's length was cut off.
fn header_bytes(bytes: &[u8]) -> Option<usize> {
    let first = bytes.first()?;
    let fixed = 12 + 4 * usize::from(first & 15);
    if first & 0x10 == 0 {
        return Some(fixed);
    }
    let words = bytes.get(fixed + 2..fixed + 4)?;
    Some(fixed + 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]])))
}
