//! Format of a spool file: pcapng blocks (draft-ietf-opsawg-pcapng), little-endian.
//!
//! A file begins with a section header and one interface. Its link type is raw IP, and timestamps are in ns. A packet
//! is an enhanced packet block; its IP and UDP headers are made from its endpoints. Over IPv4 it has no UDP checksum
//! (RFC 768 allows zero), because summing every payload would take a tenth of the capture thread's time.
//!
//! A decision of the call engine is a custom block with the number [`ENTERPRISE`]. The data of this block is [`MAGIC`],
//! the length of the JSON, and the JSON.

use crate::call::decision::TimedDecision;
use crate::net::{Endpoint, UDP_PROTOCOL};
use crate::time::Timestamp;

/// A packet that is to be written to a spool (pcapng file of a leg).
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpoolPacket<'a> {
    /// Capture time of the packet.
    pub(crate) at: Timestamp,
    /// Endpoint that sent the packet.
    pub(crate) src: Endpoint,
    /// Endpoint to which the packet was sent.
    pub(crate) dst: Endpoint,
    /// The part of the UDP payload that is stored. It is shorter than on the wire if the packet was truncated or its
    /// payload is not kept.
    pub(crate) payload: &'a [u8],
    /// Length of the UDP payload on the wire in bytes.
    pub(crate) wire_len: u32,
}

/// Appends the beginning of a file: a section header block and an interface description block.
pub(crate) fn put_header(out: &mut Vec<u8>) {
    put_u32(out, SECTION);
    put_u32(out, SECTION_LEN);
    put_u32(out, BYTE_ORDER);
    out.extend([1, 0, 0, 0]); // version 1.0
    put_u32(out, u32::MAX);
    put_u32(out, u32::MAX); // section length: not given
    put_u32(out, SECTION_LEN);

    put_u32(out, INTERFACE);
    put_u32(out, INTERFACE_LEN);
    out.extend([LINKTYPE_RAW as u8, 0, 0, 0]);
    put_u32(out, 0); // snap length: no limit
    out.extend([9, 0, 1, 0, NANOSECONDS, 0, 0, 0]); // option if_tsresol: timestamps in ns
    put_u32(out, 0); // end of options
    put_u32(out, INTERFACE_LEN);
}

/// Appends a packet as an enhanced packet block. Allocates only if `out` has to grow. Over IPv4 the UDP checksum is
/// zero until [`fill_checksum`] sets it.
pub(crate) fn put_packet(out: &mut Vec<u8>, packet: &SpoolPacket<'_>) {
    let payload = &packet.payload[..packet.payload.len().min(MAX_PAYLOAD)];
    let wire_len = (packet.wire_len as usize).clamp(payload.len(), MAX_PAYLOAD);
    let ipv4 = packet.src.ipv4_octets().zip(packet.dst.ipv4_octets());
    let ip_len = if ipv4.is_some() { IPV4_LEN } else { IPV6_LEN };
    let captured = ip_len + UDP_LEN + payload.len();
    let total = EPB_OVERHEAD + padded(captured);
    let ticks = packet.at.as_nanos().max(0) as u64;
    out.reserve(total);
    let original = (ip_len + UDP_LEN + wire_len) as u32;
    let interface = 0;
    put_words(
        out,
        [ENHANCED_PACKET, total as u32, interface, (ticks >> 32) as u32, ticks as u32, captured as u32, original],
    );
    let at = out.len();
    match ipv4 {
        Some((src, dst)) => put_ipv4(out, src, dst, UDP_LEN + wire_len),
        None => put_ipv6(out, packet.src.ipv6_octets(), packet.dst.ipv6_octets(), UDP_LEN + wire_len),
    }
    let [s0, s1] = packet.src.port().to_be_bytes();
    let [d0, d1] = packet.dst.port().to_be_bytes();
    let [l0, l1] = ((UDP_LEN + wire_len) as u16).to_be_bytes();
    out.extend_from_slice(&[s0, s1, d0, d1, l0, l1, 0, 0]);
    out.extend_from_slice(payload);
    // RFC 8200 section 8.1: over IPv6 a UDP checksum is required, so it is computed here.
    if ip_len == IPV6_LEN && payload.len() == wire_len {
        put_checksum(&mut out[at..], IPV6_LEN);
    }
    out.extend_from_slice(&[0; 3][..padded(captured) - captured]);
    put_u32(out, total as u32);
}

/// Computes the UDP checksum of a packet in its block. Does nothing if there is a checksum already, or if the payload
/// is not complete.
pub(crate) fn fill_checksum(block: &mut [u8]) {
    let word = |at: usize| block.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (Some(captured), Some(original)) = (word(20), word(24)) else { return };
    let Some(packet) = block.get_mut(28..).and_then(|packet| packet.get_mut(..captured as usize)) else { return };
    let is_ipv4 = packet.first() == Some(&0x45);
    if captured == original && is_ipv4 && packet.get(IPV4_LEN + 6..IPV4_LEN + 8) == Some(&[0, 0]) {
        put_checksum(packet, IPV4_LEN);
    }
}

/// Computes the UDP checksum of a packet with a complete payload and a checksum of zero.
fn put_checksum(packet: &mut [u8], ip_len: usize) {
    let addresses = if ip_len == IPV4_LEN { &packet[12..20] } else { &packet[8..40] };
    let pseudo = words_sum(addresses) + u64::from(UDP_PROTOCOL) + (packet.len() - ip_len) as u64;
    let checksum = checksum_of(pseudo + words_sum(&packet[ip_len..]));
    // RFC 768: a checksum of zero is sent as all ones, because zero means "no checksum".
    let checksum = if checksum == 0 { 0xFFFF } else { checksum };
    packet[ip_len + 6..ip_len + 8].copy_from_slice(&checksum.to_be_bytes());
}

/// Appends a decision of the call engine as a custom block.
pub(crate) fn put_decision(out: &mut Vec<u8>, decided: &TimedDecision) {
    // A decision of the call engine consists of strings, numbers and enums, so its conversion to JSON cannot fail.
    let json = serde_json::to_vec(decided).unwrap_or_default();
    let total = CUSTOM_OVERHEAD + padded(json.len());
    put_u32(out, CUSTOM);
    put_u32(out, total as u32);
    put_u32(out, ENTERPRISE);
    out.extend(MAGIC);
    put_u32(out, json.len() as u32);
    let at = out.len();
    out.extend_from_slice(&json);
    out.resize(at + padded(json.len()), 0);
    put_u32(out, total as u32);
}

fn put_ipv4(out: &mut Vec<u8>, src: [u8; 4], dst: [u8; 4], udp_len: usize) {
    let mut header = [0; IPV4_LEN];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&((IPV4_LEN + udp_len) as u16).to_be_bytes());
    header[6] = 0x40; // do not fragment
    (header[8], header[9]) = (TTL, UDP_PROTOCOL);
    header[12..16].copy_from_slice(&src);
    header[16..20].copy_from_slice(&dst);
    let checksum = checksum_of(words_sum(&header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    out.extend_from_slice(&header);
}

fn put_ipv6(out: &mut Vec<u8>, src: [u8; 16], dst: [u8; 16], udp_len: usize) {
    out.extend([0x60, 0, 0, 0]);
    out.extend((udp_len as u16).to_be_bytes());
    out.extend([UDP_PROTOCOL, TTL]);
    out.extend(src);
    out.extend(dst);
}

/// Returns the sum of the big-endian 16-bit words of at most 64 KiB, folded to 16 bits. The loop adds 32-bit words in
/// the machine's byte order, so that the compiler vectorizes it. The sum's bytes are swapped at the end (RFC 1071
/// section 2).
fn words_sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|&w| u64::from(u32::from_le_bytes(w))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_le_bytes(last));
    fold(total).swap_bytes().into()
}

/// Returns the Internet checksum (RFC 1071) for a sum of 16-bit words.
fn checksum_of(sum: u64) -> u16 {
    !fold(sum)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_words<const N: usize>(out: &mut Vec<u8>, words: [u32; N]) {
    out.extend_from_slice(words.map(u32::to_le_bytes).as_flattened());
}

/// Returns a length in bytes rounded up to a multiple of four, as pcapng pads its blocks.
pub(crate) const fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// Maximum size of a block, bytes. The largest block that the spool writes describes the end of a leg: 350 bytes for
/// each of up to 4,096 streams.
pub(crate) const MAX_BLOCK: usize = 2 * 1024 * 1024;
/// Number that pcapng defines for a section header block.
pub(crate) const SECTION: u32 = 0x0A0D_0D0A;
/// Number that pcapng defines for an interface description block.
pub(crate) const INTERFACE: u32 = 1;
/// Number that pcapng defines for an enhanced packet block.
pub(crate) const ENHANCED_PACKET: u32 = 6;
/// Number that pcapng defines for a custom block that other programs may copy.
pub(crate) const CUSTOM: u32 = 0x0000_0BAD;
/// Number that shows the byte order of a section; these bytes mean little-endian.
pub(crate) const BYTE_ORDER: u32 = 0x1A2B_3C4D;
/// Number of the link type raw IP (LINKTYPE_RAW): a packet begins with its IP header.
pub(crate) const LINKTYPE_RAW: u16 = 101;
/// Private enterprise number for documentation (RFC 5612). callspan has no number of its own.
pub(crate) const ENTERPRISE: u32 = 32473;
/// First bytes of a custom block that contains a decision of the call engine. They distinguish it from blocks of other
/// programs with the same enterprise number.
pub(crate) const MAGIC: [u8; 8] = *b"callspan";
/// Value of the option `if_tsresol` for timestamps in units of 10^-9 s.
pub(crate) const NANOSECONDS: u8 = 9;
/// Length of an IPv4 header without options, bytes.
pub(crate) const IPV4_LEN: usize = 20;
/// Length of an IPv6 header, bytes.
pub(crate) const IPV6_LEN: usize = 40;
/// Length of a UDP header, bytes.
pub(crate) const UDP_LEN: usize = 8;
/// Length of an enhanced packet block in bytes without its packet.
pub(crate) const EPB_OVERHEAD: usize = 32;
/// Length of the custom block of a decision of the call engine, bytes, without its JSON.
pub(crate) const CUSTOM_OVERHEAD: usize = 28;
/// Maximum UDP payload over IPv4, bytes. A longer SIP message, which came over TCP, is truncated to this length.
const MAX_PAYLOAD: usize = 65_507;
const SECTION_LEN: u32 = 28;
const INTERFACE_LEN: u32 = 32;
const TTL: u8 = 64;
