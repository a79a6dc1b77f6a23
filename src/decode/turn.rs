//! Finds media that a TURN server relays (RFC 8656), in ChannelData messages and in Send and Data indications.
//!
//! A client behind a NAT exchanges its media with the TURN server. The client announces a *relayed address* of the
//! server in its SDP. The server forwards media between this address and the peer. The packet that was found gets the
//! relayed address and the peer's address, as if it was captured between server and peer. This needs the allocation and
//! the channel binding. If they were not captured, the packet keeps the addresses of client and server.
//!
//! Over TCP, only messages that lie completely in one segment are read. A client sends each packet of voice at once, so
//! each packet has a segment of its own. Bytes of other protocols can look like ChannelData. So without a known
//! allocation or channel, ChannelData is read only if whole messages fill the segment.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::net::{Endpoint, be16, be32};

/// A packet that a TURN server relayed: source, destination and captured bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RelayedPacket<'a> {
    pub(super) src: Endpoint,
    pub(super) dst: Endpoint,
    pub(super) payload: &'a [u8],
    /// Length of the packet on the wire in bytes.
    pub(super) wire_len: usize,
}

/// The allocations and channel bindings of TURN servers that were captured.
#[derive(Debug, Default)]
pub(super) struct TurnRelays {
    /// Maps the endpoints of client and server to the relayed address of the client.
    relayed: BoundedMap<(Endpoint, Endpoint)>,
    /// Maps the endpoints of client and server and a channel number to the address of the peer.
    peers: BoundedMap<(Endpoint, Endpoint, u16)>,
}

/// Maps keys to addresses, with at most [`MAX_ENTRIES`] entries. A new entry replaces the oldest.
#[derive(Debug)]
struct BoundedMap<K> {
    entries: HashMap<K, Endpoint, foldhash::fast::RandomState>,
    order: VecDeque<K>,
}

impl<K> Default for BoundedMap<K> {
    fn default() -> Self {
        Self { entries: HashMap::default(), order: VecDeque::new() }
    }
}

impl<K: Copy + Eq + Hash> BoundedMap<K> {
    fn insert(&mut self, key: K, value: Endpoint) {
        if self.entries.insert(key, value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_ENTRIES
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    fn get(&self, key: K) -> Option<Endpoint> {
        if self.entries.is_empty() { None } else { self.entries.get(&key).copied() }
    }
}

impl TurnRelays {
    /// Handles a datagram between client and server. Stores an allocation or binding, or returns the relayed RTP or
    /// RTCP packet.
    pub(super) fn handle<'a>(
        &mut self,
        flow: (Endpoint, Endpoint),
        payload: &'a [u8],
        wire_len: usize,
    ) -> Option<RelayedPacket<'a>> {
        match payload.first()? {
            0x40..=0x4f => self.channel_data(flow, payload, wire_len),
            0x00 | 0x01 if be32(payload, 4) == Some(MAGIC_COOKIE) => self.stun(flow, payload, wire_len),
            _ => None,
        }
    }

    /// Unwraps a ChannelData message (RFC 8656 section 12.4). Over UDP, padding to four bytes is optional.
    fn channel_data<'a>(
        &self,
        (src, dst): (Endpoint, Endpoint),
        payload: &'a [u8],
        wire_len: usize,
    ) -> Option<RelayedPacket<'a>> {
        let (channel, length) = (be16(payload, 0)?, usize::from(be16(payload, 2)?));
        let padding = wire_len.checked_sub(4)?.checked_sub(length)?;
        let data = payload.get(4..)?;
        let data = data.get(..length.min(data.len()))?;
        if padding > 3 || !is_media(data) {
            return None;
        }
        let from_client = self.peers.get((src, dst, channel));
        let from_server = self.peers.get((dst, src, channel));
        let (src, dst) = match (from_client, from_server) {
            (Some(peer), _) => (self.client((src, dst)), peer),
            (None, Some(peer)) => (peer, self.client((dst, src))),
            // An endpoint with an allocation is the client; the other endpoint is the server.
            (None, None) => match (self.relayed.get((src, dst)), self.relayed.get((dst, src))) {
                (Some(relayed), _) => (relayed, dst),
                (None, Some(relayed)) => (src, relayed),
                (None, None) => (src, dst),
            },
        };
        Some(RelayedPacket { src, dst, payload: data, wire_len: length })
    }

    /// Handles a STUN message of TURN: stores an allocation or binding, or unwraps a Send or Data indication (RFC 8656
    /// sections 10 and 11).
    fn stun<'a>(
        &mut self,
        (src, dst): (Endpoint, Endpoint),
        payload: &'a [u8],
        wire_len: usize,
    ) -> Option<RelayedPacket<'a>> {
        let kind = be16(payload, 0)?;
        let transaction = payload.get(4..STUN_HEADER_BYTES)?;
        let address = |wanted| xor_address(attribute(payload, wanted)?, transaction);
        match kind {
            ALLOCATE_SUCCESS => self.relayed.insert((dst, src), address(XOR_RELAYED_ADDRESS)?),
            CHANNEL_BIND => {
                let channel = be16(attribute(payload, CHANNEL_NUMBER)?, 0)?;
                self.peers.insert((src, dst, channel), address(XOR_PEER_ADDRESS)?);
            }
            SEND_INDICATION | DATA_INDICATION => {
                let (peer, data) = (address(XOR_PEER_ADDRESS)?, attribute(payload, DATA)?);
                // An incomplete Send or Data indication is not used, because its attribute with the data would be
                // incomplete.
                let is_whole = wire_len == payload.len() && is_media(data);
                let (src, dst) = match kind {
                    SEND_INDICATION => (self.client((src, dst)), peer),
                    _ => (peer, self.client((dst, src))),
                };
                return is_whole.then_some(RelayedPacket { src, dst, payload: data, wire_len: data.len() });
            }
            _ => {}
        }
        None
    }

    /// Returns whether a TCP segment between two endpoints may carry TURN messages. It may if an allocation or a
    /// channel between them was captured, or if whole messages fill the segment.
    pub(super) fn may_relay(&self, (src, dst): (Endpoint, Endpoint), segment: &[u8]) -> bool {
        let Some((message, _)) = split_message(segment) else { return false };
        if !matches!(message.first(), Some(0x40..=0x4f)) {
            return true; // STUN has a magic cookie, so this is no accident
        }
        let channel = be16(message, 0).unwrap_or_default();
        let is_known = |flow: (Endpoint, Endpoint)| {
            self.relayed.get(flow).is_some() || self.peers.get((flow.0, flow.1, channel)).is_some()
        };
        if is_known((src, dst)) || is_known((dst, src)) {
            return true;
        }
        let mut rest = segment;
        while let Some((_, after)) = split_message(rest) {
            rest = after;
        }
        rest.is_empty()
    }

    /// Returns the relayed address of a client at a server, or the client's own address if no allocation was captured.
    fn client(&self, (client, server): (Endpoint, Endpoint)) -> Endpoint {
        self.relayed.get((client, server)).unwrap_or(client)
    }
}

/// Splits the first TURN message off the bytes of a TCP segment. Returns the message and the remaining bytes; `None` if
/// they do not begin with a complete message.
pub(super) fn split_message(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, padded) = match data.first()? {
        0x40..=0x4f => {
            // Over TCP, ChannelData is padded to four bytes (RFC 8656 section 12.5). The next message begins after the
            // padding.
            let length = 4 + usize::from(be16(data, 2)?);
            (length, length.next_multiple_of(4))
        }
        0x00 | 0x01 if be32(data, 4) == Some(MAGIC_COOKIE) => {
            let length = STUN_HEADER_BYTES + usize::from(be16(data, 2)?);
            (length, length)
        }
        _ => return None,
    };
    Some((data.get(..length)?, data.get(padded..).unwrap_or_default()))
}

/// Returns whether the bytes can be RTP or RTCP: the version is 2, and they are not shorter than an RTCP header.
fn is_media(data: &[u8]) -> bool {
    data.len() >= 8 && data.first().is_some_and(|first| first >> 6 == 2)
}

/// Returns the value of a STUN attribute (RFC 8489 section 14).
fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = message.get(STUN_HEADER_BYTES..)?;
    for _ in 0..MAX_ATTRIBUTES {
        let (kind, length) = (be16(rest, 0)?, usize::from(be16(rest, 2)?));
        let value = rest.get(4..4 + length);
        if kind == wanted {
            return value;
        }
        rest = rest.get(4 + length.next_multiple_of(4)..)?;
    }
    None
}

/// Parses an XOR-MAPPED-ADDRESS (RFC 8489 section 14.2). `transaction` is the magic cookie with the transaction id.
fn xor_address(value: &[u8], transaction: &[u8]) -> Option<Endpoint> {
    let port = be16(value, 2)? ^ be16(transaction, 0)?;
    match value.get(1)? {
        1 => {
            let octets = be32(value, 4)? ^ be32(transaction, 0)?;
            Some(Endpoint::v4(octets.to_be_bytes(), port))
        }
        2 => {
            let (address, mask) = (value.get(4..20)?.first_chunk::<16>()?, transaction.first_chunk::<16>()?);
            Some(Endpoint::v6(std::array::from_fn(|i| address[i] ^ mask[i]), port))
        }
        _ => None,
    }
}

const MAGIC_COOKIE: u32 = 0x2112_a442;
/// Length of a STUN header, bytes: type, length, magic cookie and transaction id.
const STUN_HEADER_BYTES: usize = 20;
const ALLOCATE_SUCCESS: u16 = 0x0103;
const CHANNEL_BIND: u16 = 0x0009;
const SEND_INDICATION: u16 = 0x0016;
const DATA_INDICATION: u16 = 0x0017;
const CHANNEL_NUMBER: u16 = 0x000c;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA: u16 = 0x0013;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
/// Maximum number of attributes of a STUN message that are read. Real messages have about ten.
const MAX_ATTRIBUTES: usize = 32;
/// Maximum number of allocations, and maximum number of channel bindings, in memory: a few for each of a thousand
/// calls.
const MAX_ENTRIES: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    const RTP: [u8; 14] = [0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 9, 0x55, 0x55];

    fn endpoint(text: &str) -> Endpoint {
        text.parse().expect("an endpoint")
    }

    fn client() -> Endpoint {
        endpoint("10.1.0.11:40000")
    }

    fn server() -> Endpoint {
        endpoint("203.0.113.9:3478")
    }

    fn channel_data(channel: u16, data: &[u8], padding: usize) -> Vec<u8> {
        let length = u16::try_from(data.len()).expect("a small packet");
        [&channel.to_be_bytes(), &length.to_be_bytes(), data, &vec![0; padding]].concat()
    }

    fn stun(kind: u16, attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend_from_slice(&kind.to_be_bytes());
            body.extend_from_slice(&u16::try_from(value.len()).expect("a small value").to_be_bytes());
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let length = u16::try_from(body.len()).expect("a small message").to_be_bytes();
        [&kind.to_be_bytes()[..], &length, &MAGIC_COOKIE.to_be_bytes(), &[7; 12], &body].concat()
    }

    /// Returns the XOR form of an IPv4 address, as STUN messages contain it.
    fn xor(octets: [u8; 4], port: u16) -> Vec<u8> {
        let address = u32::from_be_bytes(octets) ^ MAGIC_COOKIE;
        [&[0, 1][..], &(port ^ 0x2112).to_be_bytes(), &address.to_be_bytes()].concat()
    }

    fn unwrapped(relays: &mut TurnRelays, flow: (Endpoint, Endpoint), bytes: &[u8]) -> Option<(Endpoint, Endpoint)> {
        let packet = relays.handle(flow, bytes, bytes.len())?;
        assert_eq!((packet.payload, packet.wire_len), (&RTP[..], RTP.len()));
        Some((packet.src, packet.dst))
    }

    #[test]
    fn channel_data_of_an_unknown_channel_keeps_its_ends() {
        let mut relays = TurnRelays::default();
        for padding in [0, 2] {
            let data = channel_data(0x4001, &RTP, padding);
            assert_eq!(unwrapped(&mut relays, (client(), server()), &data), Some((client(), server())));
            assert_eq!(unwrapped(&mut relays, (server(), client()), &data), Some((server(), client())));
        }
        // None of these messages relays media. The first has too many bytes after the data, the second has no media,
        // and the third has a reserved channel number.
        for other in [channel_data(0x4001, &RTP, 4), channel_data(0x4001, &[0; 14], 0), channel_data(0x5001, &RTP, 0)] {
            assert_eq!(relays.handle((client(), server()), &other, other.len()), None);
        }
    }

    #[test]
    fn a_channel_leads_from_the_relayed_address_to_the_peer() {
        let mut relays = TurnRelays::default();
        let (relayed, peer) = (endpoint("203.0.113.9:49160"), endpoint("198.51.100.2:50000"));
        let allocated = stun(ALLOCATE_SUCCESS, &[(XOR_RELAYED_ADDRESS, xor([203, 0, 113, 9], 49_160))]);
        assert_eq!(relays.handle((server(), client()), &allocated, allocated.len()), None);
        let data = channel_data(0x4001, &RTP, 0);
        assert_eq!(unwrapped(&mut relays, (client(), server()), &data), Some((relayed, server())));
        let number = vec![0x40, 0x01, 0, 0];
        let bound = stun(CHANNEL_BIND, &[(CHANNEL_NUMBER, number), (XOR_PEER_ADDRESS, xor([198, 51, 100, 2], 50_000))]);
        assert_eq!(relays.handle((client(), server()), &bound, bound.len()), None);
        assert_eq!(unwrapped(&mut relays, (client(), server()), &data), Some((relayed, peer)));
        assert_eq!(unwrapped(&mut relays, (server(), client()), &data), Some((peer, relayed)));
    }

    #[test]
    fn send_and_data_indications_name_the_peer() {
        let mut relays = TurnRelays::default();
        let attributes = [(XOR_PEER_ADDRESS, xor([198, 51, 100, 2], 50_000)), (DATA, RTP.to_vec())];
        let peer = endpoint("198.51.100.2:50000");
        let (send, data) = (stun(SEND_INDICATION, &attributes), stun(DATA_INDICATION, &attributes));
        assert_eq!(unwrapped(&mut relays, (client(), server()), &send), Some((client(), peer)));
        assert_eq!(unwrapped(&mut relays, (server(), client()), &data), Some((peer, client())));
        for cut in 0..send.len() {
            assert_eq!(relays.handle((client(), server()), &send[..cut], send.len()), None, "{cut} bytes");
        }
    }

    #[test]
    fn messages_of_a_tcp_segment_are_split() {
        let (first, second) = (channel_data(0x4001, &RTP, 2), stun(DATA_INDICATION, &[(DATA, RTP.to_vec())]));
        let segment = [&first[..], &second, &first[..10]].concat();
        let (message, rest) = split_message(&segment).expect("whole");
        assert_eq!(message, channel_data(0x4001, &RTP, 0));
        let (message, rest) = split_message(rest).expect("whole");
        assert_eq!((message, split_message(rest)), (&second[..], None));
        // A ChannelData message without its padding is accepted. Bytes of other protocols on TCP are not.
        assert_eq!(split_message(&first[..18]), Some((&first[..18], &[][..])));
        for other in [&b"INVITE sip:a@b SIP/2.0\r\n"[..], b"GET / HTTP/1.1\r\n", &[0x16, 3, 1, 0, 9], &[0, 1, 0, 0]] {
            assert_eq!(split_message(other), None);
        }
    }

    #[test]
    fn bytes_of_another_protocol_on_tcp_are_no_relayed_media() {
        let mut relays = TurnRelays::default();
        // This segment has unknown endpoints. It begins like ChannelData with RTP but continues with other bytes. So no
        // media is read from it.
        let stranger = [&channel_data(0x4001, &RTP, 2)[..], b"and the rest of a long file"].concat();
        let flow = (client(), server());
        assert!(!relays.may_relay(flow, &stranger));
        assert!(!relays.may_relay(flow, b"GET / HTTP/1.1\r\n"));
        for whole in [channel_data(0x4001, &RTP, 2), channel_data(0x4001, &RTP, 0)] {
            assert!(relays.may_relay(flow, &whole));
        }
        // This segment contains a ChannelData message and the beginning of the next message. It counts as TURN only
        // between endpoints with an allocation.
        let allocated = stun(ALLOCATE_SUCCESS, &[(XOR_RELAYED_ADDRESS, xor([203, 0, 113, 9], 49_160))]);
        assert!(relays.may_relay((server(), client()), &allocated));
        assert_eq!(relays.handle((server(), client()), &allocated, allocated.len()), None);
        let cut = [&channel_data(0x4001, &RTP, 2)[..], &channel_data(0x4001, &RTP, 2)[..9]].concat();
        for (flow, may) in
            [(flow, true), ((server(), client()), true), ((server(), endpoint("10.1.0.12:40000")), false)]
        {
            assert_eq!(relays.may_relay(flow, &cut), may, "{flow:?}");
        }
    }

    #[test]
    fn the_tables_are_bounded() {
        let mut relays = TurnRelays::default();
        for port in 0..u16::try_from(MAX_ENTRIES + 10).expect("fits") {
            let allocated = stun(ALLOCATE_SUCCESS, &[(XOR_RELAYED_ADDRESS, xor([203, 0, 113, 9], port))]);
            relays.handle((server(), client().with_port(port)), &allocated, allocated.len());
        }
        assert_eq!((relays.relayed.entries.len(), relays.relayed.order.len()), (MAX_ENTRIES, MAX_ENTRIES));
    }
}
