//! Decodes one frame layer by layer: link header, VLAN tags, IP, fragments, transport.
//!
//! No memory is allocated for a packet that is not fragmented. Every early return counts its reason.

use std::time::Duration;

use super::counters::{DecodeCounters, UndoneWrapper};
use super::duplicates::{DuplicateCandidate, DuplicateCheck, DuplicateFilter};
use super::fragments::{
    FragmentFamily, FragmentKey, FragmentLimits, FragmentReassembler, IpFragment, ReassembledPayload,
};
use super::output::{DecodedItem, DecodedSink, UdpDatagram};
use super::tcp::{self, TcpFlow, TcpLimits, TcpReassembler, TcpSegment};
use super::tunnels::{self, DetectedTunnel, TunnelKind, TunnelPayload};
use super::turn::{self, TurnRelays};
use crate::capture::{CapturedFrame, LinkPayload, LinkType};
use crate::net::{Endpoint, be16};
use crate::time::Timestamp;

mod link;

/// Limits of the memory that the decoder uses. The defaults suit a mirror of a few thousand calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderLimits {
    /// Maximum memory for fragments of incomplete datagrams, bytes. The default has room for about 500 datagrams of 30
    /// KiB.
    pub fragment_bytes: usize,
    /// Maximum number of datagrams that wait for missing fragments.
    pub fragment_datagrams: usize,
    /// Maximum age of an incomplete datagram. A sender sends the fragments of a datagram together, so a few seconds are
    /// enough. RFC 8200 allows 60 s, but IP ids repeat after 65,536 datagrams. In 60 s, fragments of different
    /// datagrams could be joined.
    pub fragment_age: Duration,
    /// Maximum number of TCP streams with a state, SIP or not; about 150 bytes each. A stream is one direction.
    pub tcp_streams: usize,
    /// Maximum number of buffered TCP bytes. Bytes are buffered if they arrive out of order, or until it is known
    /// whether their stream is SIP.
    pub tcp_bytes: usize,
}

impl Default for DecoderLimits {
    fn default() -> Self {
        Self {
            fragment_bytes: 16 << 20,
            fragment_datagrams: 4096,
            fragment_age: Duration::from_secs(5),
            tcp_streams: 1 << 16,
            tcp_bytes: 32 << 20,
        }
    }
}

/// Decodes frames to UDP datagrams and TCP byte streams.
#[derive(Debug)]
pub struct FrameDecoder {
    counters: DecodeCounters,
    fragments: FragmentReassembler,
    duplicates: DuplicateFilter,
    /// Number of dropped duplicates for each interface. The index is the number of the interface.
    copies: Vec<u64>,
    tcp: TcpReassembler,
    turn: TurnRelays,
    next_expiry: Timestamp,
}

/// Facts about the packet that is being decoded. The decoders of its inner headers need them.
#[derive(Clone, Copy, Debug)]
struct PacketContext {
    at: Timestamp,
    interface: u32,
    /// Number of bytes at the end of the packet that the capture truncated.
    missing: usize,
    /// Number of tunnel headers around the packet.
    depth: u8,
}

impl PacketContext {
    /// Returns the context for the packet inside a tunnel. Bytes that are missing from the tunnel's payload are missing
    /// from the inner packet.
    fn for_tunnel_payload(self, payload: &IpPayload<'_>) -> Self {
        Self { missing: payload.wire_len.saturating_sub(payload.bytes.len()), ..self }
    }
}

/// The payload of an IP packet, and its addresses.
#[derive(Clone, Copy, Debug)]
struct IpPayload<'a> {
    /// Source address of the IP packet, with port 0.
    src: Endpoint,
    dst: Endpoint,
    protocol: u8,
    bytes: &'a [u8],
    /// Length of the payload on the wire in bytes.
    wire_len: usize,
    /// The whole IP packet, by which duplicates are found. Empty after reassembly, because duplicates of the fragments
    /// were dropped before.
    packet: &'a [u8],
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameDecoder {
    /// Creates a decoder with the default limits.
    pub fn new() -> Self {
        Self::with_limits(DecoderLimits::default())
    }

    /// Creates a decoder with the given limits.
    pub fn with_limits(limits: DecoderLimits) -> Self {
        let bounds = FragmentLimits {
            bytes: limits.fragment_bytes,
            datagrams: limits.fragment_datagrams.max(1),
            age: limits.fragment_age,
        };
        Self {
            counters: DecodeCounters::default(),
            fragments: FragmentReassembler::new(bounds),
            duplicates: DuplicateFilter::new(),
            copies: Vec::new(),
            tcp: TcpReassembler::new(TcpLimits { streams: limits.tcp_streams.max(2), bytes: limits.tcp_bytes }),
            turn: TurnRelays::default(),
            next_expiry: Timestamp::EPOCH,
        }
    }

    /// Decodes a frame. Passes each item that this frame completes to `sink`.
    pub fn handle_frame(&mut self, frame: &CapturedFrame<'_>, sink: &mut DecodedSink<'_>) {
        let missing = (frame.orig_len as usize).saturating_sub(frame.data.len());
        self.counters.frames += 1;
        self.counters.cut_frames += u64::from(missing > 0);
        self.counters.longest_frame = self.counters.longest_frame.max(frame.orig_len);
        let until_expiry = self.next_expiry.nanos_since(frame.at);
        // A frame with a wrong timestamp far in the future would postpone the next search for expired state forever. So
        // if the next search is too far away, the search is done now.
        if until_expiry <= 0 || until_expiry > MAX_EXPIRY_AHEAD.as_nanos() as i64 {
            self.handle_timeout(frame.at, sink);
        }
        let context = PacketContext { at: frame.at, interface: frame.interface, missing, depth: 0 };
        match frame.link {
            LinkType::Ethernet => self.link(context, LinkPayload::of_ethernet(frame.data), sink),
            LinkType::LinuxSll => self.link(context, LinkPayload::of_cooked(frame.data), sink),
            LinkType::LinuxSll2 => self.link(context, LinkPayload::of_cooked_v2(frame.data), sink),
            LinkType::RawIp => self.ip(context, frame.data, sink),
            LinkType::Null | LinkType::Loop => self.loopback(context, frame.data, sink),
            LinkType::Other(_) => self.counters.dropped.unknown_link += 1,
        }
    }

    /// Drops fragments and TCP state that have waited too long. [`Self::handle_frame`] calls this method. While no
    /// frames arrive, call it whenever the capture source returns a tick.
    pub fn handle_timeout(&mut self, now: Timestamp, sink: &mut DecodedSink<'_>) {
        self.next_expiry = now + EXPIRY_INTERVAL;
        self.tcp.expire(now, &mut self.counters, sink);
        self.fragments.expire(now, &mut self.counters);
    }

    /// Handles the end of the capture. TCP bytes that wait behind a gap are passed on, because no segment will fill the
    /// gap any more.
    pub fn handle_end(&mut self, sink: &mut DecodedSink<'_>) {
        self.tcp.give_up_all_holes(&mut self.counters, sink);
    }

    /// Returns the counters of the decoder since the start.
    pub const fn counters(&self) -> &DecodeCounters {
        &self.counters
    }

    /// Returns the number of packets of an interface that were dropped as duplicates.
    pub(crate) fn copies_at(&self, interface: u32) -> u64 {
        self.copies.get(interface as usize).copied().unwrap_or(0)
    }

    fn ip(&mut self, context: PacketContext, data: &[u8], sink: &mut DecodedSink<'_>) {
        match data.first().map(|b| b >> 4) {
            Some(4) => self.ipv4(context, data, sink),
            Some(6) => self.ipv6(context, data, sink),
            Some(_) => self.counters.dropped.bad_ip_header += 1,
            None => self.counters.dropped.short += 1,
        }
    }

    /// Decodes an IPv4 header (RFC 791 section 3.1). The checksum is not verified: a capture on the sending host sees
    /// packets before the network card sets it.
    fn ipv4(&mut self, context: PacketContext, data: &[u8], sink: &mut DecodedSink<'_>) {
        self.counters.ipv4 += 1;
        let Some(header) = data.first_chunk::<20>() else {
            self.counters.dropped.short += 1;
            return;
        };
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let total = match usize::from(u16::from_be_bytes([header[2], header[3]])) {
            // The length is 0 if the packet was captured before the sender's network card segmented it (TSO). Then the
            // packet ends with the frame.
            0 => {
                self.counters.zero_length += 1;
                data.len() + context.missing
            }
            total => total,
        };
        if header_len < 20 || total < header_len {
            self.counters.dropped.bad_ip_header += 1;
            return;
        }
        let packet = &data[..total.min(data.len())];
        let Some(bytes) = packet.get(header_len..) else {
            self.counters.dropped.short += 1;
            return;
        };
        let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
        let payload = IpPayload {
            src: Endpoint::v4([s0, s1, s2, s3], 0),
            dst: Endpoint::v4([d0, d1, d2, d3], 0),
            protocol: header[9],
            bytes,
            wire_len: total - header_len,
            packet,
        };
        let flags = u16::from_be_bytes([header[6], header[7]]);
        if flags & 0x3fff == 0 {
            return self.transport(context, &payload, sink);
        }
        let id = u32::from(u16::from_be_bytes([header[4], header[5]]));
        let family = FragmentFamily::V4 { protocol: header[9] };
        let key = FragmentKey { src: payload.src, dst: payload.dst, id, family };
        let fragment =
            IpFragment { offset: u32::from(flags & 0x1fff) * 8, more: flags & 0x2000 != 0, protocol: header[9], bytes };
        self.fragment(context, &payload, key, fragment, sink);
    }

    /// Decodes an IPv6 header (RFC 8200 section 3).
    fn ipv6(&mut self, context: PacketContext, data: &[u8], sink: &mut DecodedSink<'_>) {
        self.counters.ipv6 += 1;
        let Some((header, rest)) = data.split_first_chunk::<40>() else {
            self.counters.dropped.short += 1;
            return;
        };
        let wire_len = match usize::from(u16::from_be_bytes([header[4], header[5]])) {
            // The length is 0 for a jumbogram (RFC 2675), and for a packet that the sender's network card segments
            // later. Then the packet ends with the frame.
            0 => rest.len() + context.missing,
            length => length,
        };
        let bytes = &rest[..wire_len.min(rest.len())];
        let [_, _, _, _, _, _, next, _, addresses @ ..] = *header;
        let (src, dst) = addresses.split_at(16);
        let address = |a: &[u8]| Endpoint::v6(a.first_chunk().copied().unwrap_or_default(), 0);
        let payload = IpPayload {
            src: address(src),
            dst: address(dst),
            protocol: next,
            bytes,
            wire_len,
            packet: &data[..40 + bytes.len()],
        };
        self.extensions(context, payload, sink);
    }

    /// Skips IPv6 extension headers (RFC 8200 section 4) up to the transport header or a fragment header.
    fn extensions(&mut self, context: PacketContext, mut payload: IpPayload<'_>, sink: &mut DecodedSink<'_>) {
        for _ in 0..MAX_EXTENSIONS {
            let bytes = payload.bytes;
            let length = match payload.protocol {
                // Hop-by-hop, routing, destination options, mobility, HIP and shim6 headers: the length field counts
                // units of 8 bytes, without the first 8.
                0 | 43 | 60 | 135 | 139 | 140 => bytes.get(1).map(|n| (usize::from(*n) + 1) * 8),
                // Authentication header: the length field counts units of 4 bytes, without the first 8 (RFC 4302
                // section 2.2).
                51 => bytes.get(1).map(|n| (usize::from(*n) + 2) * 4),
                44 => return self.ipv6_fragment(context, &payload, sink),
                _ => return self.transport(context, &payload, sink),
            };
            let Some((length, rest)) = length.and_then(|n| Some((n, bytes.get(n..)?))) else {
                self.counters.dropped.short += 1;
                return;
            };
            payload.protocol = bytes[0];
            payload.bytes = rest;
            payload.wire_len = payload.wire_len.saturating_sub(length);
        }
        self.counters.dropped.too_deep += 1;
    }

    /// Decodes an IPv6 fragment header (RFC 8200 section 4.5).
    fn ipv6_fragment(&mut self, context: PacketContext, payload: &IpPayload<'_>, sink: &mut DecodedSink<'_>) {
        let Some((header, rest)) = payload.bytes.split_first_chunk::<8>() else {
            self.counters.dropped.short += 1;
            return;
        };
        let flags = u16::from_be_bytes([header[2], header[3]]);
        let mut payload =
            IpPayload { bytes: rest, wire_len: payload.wire_len.saturating_sub(8), protocol: header[0], ..*payload };
        if flags & 0xfff9 == 0 {
            // An atomic fragment is a whole packet (RFC 6946), so it is decoded at once.
            return self.extensions(context, payload, sink);
        }
        let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let fragment =
            IpFragment { offset: u32::from(flags & 0xfff8), more: flags & 1 != 0, protocol: header[0], bytes: rest };
        payload.bytes = rest;
        let key = FragmentKey { src: payload.src, dst: payload.dst, id, family: FragmentFamily::V6 };
        self.fragment(context, &payload, key, fragment, sink);
    }

    fn fragment(
        &mut self,
        context: PacketContext,
        payload: &IpPayload<'_>,
        key: FragmentKey,
        fragment: IpFragment<'_>,
        sink: &mut DecodedSink<'_>,
    ) {
        self.counters.fragments += 1;
        if fragment.bytes.len() < payload.wire_len {
            self.counters.dropped.cut_fragment += 1;
            return;
        }
        let offset = payload.packet.len() - fragment.bytes.len();
        let transport = (fragment.offset == 0).then_some((fragment.protocol, offset));
        if self.is_copy(context, payload.packet, transport) {
            return;
        }
        let Some(whole) = self.fragments.insert(context.at, key, fragment, &mut self.counters) else { return };
        self.handle_reassembled(context, payload, &whole, sink);
        self.fragments.recycle(whole);
    }

    fn handle_reassembled(
        &mut self,
        context: PacketContext,
        last: &IpPayload<'_>,
        whole: &ReassembledPayload,
        sink: &mut DecodedSink<'_>,
    ) {
        let payload = IpPayload {
            protocol: whole.protocol,
            bytes: &whole.bytes,
            wire_len: whole.bytes.len(),
            packet: &[],
            ..*last
        };
        self.extensions(PacketContext { missing: 0, ..context }, payload, sink);
    }

    fn transport(&mut self, context: PacketContext, payload: &IpPayload<'_>, sink: &mut DecodedSink<'_>) {
        match payload.protocol {
            17 => self.udp(context, payload, sink),
            6 => self.tcp(context, payload, sink),
            4 | 41 => self.enter_tunnel(
                context.for_tunnel_payload(payload),
                DetectedTunnel::new(TunnelKind::IpInIp, TunnelPayload::Ip(payload.bytes)),
                sink,
            ),
            47 => match tunnels::gre(payload.bytes) {
                Some(found) => self.enter_tunnel(context.for_tunnel_payload(payload), found, sink),
                None => {
                    self.counters.wrapped.note(UndoneWrapper::IpProtocol(payload.protocol), payload.bytes);
                    self.counters.dropped.unknown_tunnel += 1;
                }
            },
            // IP protocol 137: an MPLS label stack directly in IP (RFC 4023).
            137 => match tunnels::mpls(payload.bytes) {
                Some(found) => self.enter_tunnel(context.for_tunnel_payload(payload), found, sink),
                None => self.counters.dropped.unknown_tunnel += 1,
            },
            115 => match tunnels::l2tp_over_ip(payload.bytes) {
                Some(found) => self.enter_tunnel(context.for_tunnel_payload(payload), found, sink),
                None => self.counters.dropped.unknown_tunnel += 1,
            },
            132 => {
                let ports = [0, 2].map(|at| be16(payload.bytes, at));
                let is_sip = ports.iter().flatten().any(|p| matches!(p, 5060 | 5061)) || sctp_begins_sip(payload.bytes);
                self.counters.dropped.sip_sctp += u64::from(is_sip);
                self.counters.dropped.other_protocol += u64::from(!is_sip);
            }
            50 => self.counters.dropped.esp += 1,
            // ICMP and ICMPv6 quote the packet that they report. A SIP message in this quotation must not be counted as
            // SIP behind an unknown header.
            1 | 58 => self.counters.dropped.other_protocol += 1,
            protocol => {
                self.counters.wrapped.note(UndoneWrapper::IpProtocol(protocol), payload.bytes);
                self.counters.dropped.other_protocol += 1;
            }
        }
    }

    /// Decodes the packet inside a tunnel.
    fn enter_tunnel(&mut self, context: PacketContext, tunnel: DetectedTunnel<'_>, sink: &mut DecodedSink<'_>) {
        *tunnel.kind.counter(&mut self.counters) += 1;
        if context.depth >= MAX_TUNNEL_DEPTH {
            self.counters.dropped.tunnel_depth += 1;
            return;
        }
        let context = PacketContext { depth: context.depth + 1, ..context };
        match tunnel.payload {
            TunnelPayload::Ethernet(data) => self.link(context, LinkPayload::of_ethernet(data), sink),
            TunnelPayload::EtherType(ethertype, data) => self.ethertype(context, ethertype, data, sink),
            TunnelPayload::Ip(data) => self.ip(context, data, sink),
        }
    }

    /// Decodes a UDP header (RFC 768). The checksum is not verified: a capture on the sending host sees packets before
    /// the network card sets it.
    fn udp(&mut self, context: PacketContext, payload: &IpPayload<'_>, sink: &mut DecodedSink<'_>) {
        let Some((header, rest)) = payload.bytes.split_first_chunk::<8>() else {
            self.counters.dropped.short += 1;
            return;
        };
        let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let room = payload.wire_len.saturating_sub(8);
        let wire_len = match usize::from(port(4)).checked_sub(8) {
            Some(declared) if declared <= room => declared,
            _ => {
                // A UDP length of 0 is allowed: a jumbogram, or a packet that the network card segments later. Any
                // other wrong length is counted. In each case the IP length is used.
                self.counters.dropped.bad_udp_length += u64::from(port(4) != 0);
                room
            }
        };
        let body = &rest[..wire_len.min(rest.len())];
        if let Some(found) = tunnels::over_udp(port(0), port(2), body) {
            let context = PacketContext { missing: wire_len - body.len(), ..context };
            return self.enter_tunnel(context, found, sink);
        }
        self.counters.udp += 1;
        let datagram = UdpDatagram {
            at: context.at,
            src: payload.src.with_port(port(0)),
            dst: payload.dst.with_port(port(2)),
            payload: body,
            wire_len: wire_len as u32,
            interface: context.interface,
        };
        if looks_like_rtp(body) {
            return sink(DecodedItem::Datagram(datagram));
        }
        self.no_rtp(context, payload, datagram, sink);
    }

    /// Handles a datagram that is no RTP: drops it if it is a duplicate, and unwraps it if a TURN server relays media
    /// in it.
    fn no_rtp(
        &mut self,
        context: PacketContext,
        payload: &IpPayload<'_>,
        mut datagram: UdpDatagram<'_>,
        sink: &mut DecodedSink<'_>,
    ) {
        let body = datagram.payload;
        let offset = payload.packet.len().saturating_sub(payload.bytes.len());
        if self.is_copy(context, payload.packet, Some((17, offset))) {
            return;
        }
        self.counters.wrapped.note_datagram(datagram.dst.port(), body);
        if let Some(relayed) = self.turn.handle((datagram.src, datagram.dst), body, datagram.wire_len as usize) {
            self.counters.tunnels.turn += 1;
            (datagram.src, datagram.dst) = (relayed.src, relayed.dst);
            (datagram.payload, datagram.wire_len) = (relayed.payload, relayed.wire_len as u32);
        }
        sink(DecodedItem::Datagram(datagram));
    }

    /// Decodes a TCP header (RFC 9293 section 3.1).
    fn tcp(&mut self, context: PacketContext, payload: &IpPayload<'_>, sink: &mut DecodedSink<'_>) {
        self.counters.tcp += 1;
        let Some(header) = payload.bytes.first_chunk::<20>() else {
            self.counters.dropped.short += 1;
            return;
        };
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < 20 || header_len > payload.wire_len {
            self.counters.dropped.bad_tcp_header += 1;
            return;
        }
        let Some(bytes) = payload.bytes.get(header_len..) else {
            self.counters.dropped.short += 1;
            return;
        };
        let [p0, p1, p2, p3, s0, s1, s2, s3, a0, a1, a2, a3, _, flags, ..] = *header;
        let segment = TcpSegment {
            at: context.at,
            interface: context.interface,
            flow: TcpFlow {
                src: payload.src.with_port(u16::from_be_bytes([p0, p1])),
                dst: payload.dst.with_port(u16::from_be_bytes([p2, p3])),
            },
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            ack: (flags & tcp::ACK != 0).then_some(u32::from_be_bytes([a0, a1, a2, a3])),
            flags,
            payload: bytes,
            missing: payload.wire_len - header_len - bytes.len(),
        };
        self.relayed_over_tcp(&segment, sink);
        let offset = payload.packet.len().saturating_sub(payload.bytes.len());
        if self.tcp.is_of_interest(&segment) && self.is_copy(context, payload.packet, Some((6, offset))) {
            return;
        }
        self.tcp.handle(&segment, &mut self.counters, sink);
    }

    /// Finds TURN messages in a segment, and outputs the media in them as datagrams.
    fn relayed_over_tcp(&mut self, segment: &TcpSegment<'_>, sink: &mut DecodedSink<'_>) {
        let TcpFlow { src, dst } = segment.flow;
        if !self.turn.may_relay((src, dst), segment.payload) {
            return;
        }
        let mut rest = segment.payload;
        while let Some((message, after)) = turn::split_message(rest) {
            rest = after;
            if let Some(relayed) = self.turn.handle((src, dst), message, message.len()) {
                self.counters.tunnels.turn += 1;
                sink(DecodedItem::Datagram(UdpDatagram {
                    at: segment.at,
                    src: relayed.src,
                    dst: relayed.dst,
                    payload: relayed.payload,
                    wire_len: relayed.wire_len as u32,
                    interface: segment.interface,
                }));
            }
        }
    }

    /// Returns whether the mirror delivered an equal packet within the last [`WINDOW`](super::duplicates::WINDOW). A
    /// reassembled packet has no bytes to compare, so it never counts as a duplicate.
    fn is_copy(&mut self, context: PacketContext, packet: &[u8], transport: Option<(u8, usize)>) -> bool {
        let copy = !packet.is_empty()
            && self.duplicates.check(context.at, DuplicateCandidate { packet, transport }) == DuplicateCheck::Copy;
        if copy {
            self.counters.duplicates += 1;
            let index = context.interface as usize;
            if index < MAX_COUNTED_INTERFACES {
                self.copies.resize(self.copies.len().max(index + 1), 0);
                self.copies[index] += 1;
            }
        }
        copy
    }
}

/// Returns whether the first chunk of an SCTP packet carries the beginning of a SIP message (RFC 4168, RFC 9260 section
/// 3.3.1).
fn sctp_begins_sip(packet: &[u8]) -> bool {
    packet.get(12) == Some(&SCTP_DATA) && packet.get(28..).is_some_and(tcp::begins_message)
}

/// Returns whether a payload looks like RTP and not like RTCP (RFC 5761 section 4). The duplicate filter skips RTP,
/// because the call engine finds RTP duplicates by sequence number.
fn looks_like_rtp(payload: &[u8]) -> bool {
    matches!(payload, [first, second, ..] if first >> 6 == 2 && !(192..=223).contains(second)) && payload.len() >= 12
}

/// Type of an SCTP chunk with user data.
const SCTP_DATA: u8 = 0;
/// Maximum number of IPv6 extension headers in one packet. RFC 8200 section 4.1 has six types, and destination options
/// may occur twice: seven headers. The eighth is for a type of another RFC, e.g. mobility.
const MAX_EXTENSIONS: usize = 8;
/// Maximum time from a frame to the next search for expired state. If the search is further away, an earlier frame with
/// a wrong timestamp scheduled it, so the search is done now. The timestamps of several interfaces differ by less.
const MAX_EXPIRY_AHEAD: Duration = Duration::from_secs(10);
/// Maximum number of interfaces with a count of duplicates. A file can name any number of interfaces.
const MAX_COUNTED_INTERFACES: usize = 64;
/// Maximum number of tunnels around a packet. Three occur, e.g. a remote mirror over an overlay network over an access
/// tunnel.
const MAX_TUNNEL_DEPTH: u8 = 8;
/// Interval between searches for expired state. A live source returns a tick at the same interval while no frames
/// arrive.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
