//! Tests of a client with media that a TURN server relays (RFC 8656). The mirror shows only the traffic between client
//! and server.

use std::net::IpAddr;

use callspan::call::record::Side;
use callspan::net::Endpoint;
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, seeds, with_pt};
use super::setting::{CallNetwork, CallSetting, CallStory};
use crate::support::phones::{SentDatagram, at_ms, describe};

/// Magic cookie and transaction id of the STUN messages.
const TRANSACTION: [u8; 16] = [0x21, 0x12, 0xA4, 0x42, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0xAA, 0x55];

/// The trace by which the recorder can recognise that relayed media belongs to the client.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ClientTrace {
    /// The client announces its own address as an ICE candidate.
    HostCandidate,
    /// The client announces its relayed address as an ICE candidate, with its own address as the related address.
    RelatedAddress,
    /// The allocation was captured.
    Allocation,
    /// The binding of the channel was captured.
    Binding,
    /// The allocation and the binding were captured.
    AllocationAndBinding,
}

/// A client and its TURN server.
#[derive(Clone, Copy, Debug)]
struct RelayedClient {
    side: Side,
    /// Whether client and server use IPv6 between them.
    is_path_v6: bool,
    /// Whether the relayed address and the peer's address are IPv6 addresses.
    is_peer_v6: bool,
    server_port: u16,
    trace: ClientTrace,
    /// Number of the channel; `None` means Send and Data indications.
    channel: Option<u16>,
    /// Whether ChannelData is padded to four bytes.
    is_padded: bool,
    /// Whether client and server use TCP between them.
    is_tcp: bool,
}

impl RelayedClient {
    fn random(random: &mut Rng) -> Self {
        let traces = [
            ClientTrace::HostCandidate,
            ClientTrace::RelatedAddress,
            ClientTrace::Allocation,
            ClientTrace::Binding,
            ClientTrace::AllocationAndBinding,
        ];
        Self {
            side: if random.bool() { Side::Caller } else { Side::Callee },
            is_path_v6: random.bool(),
            is_peer_v6: random.bool(),
            server_port: *random.choice(&[3_478, 5_349, 443, 40_001]).unwrap(),
            trace: *random.choice(&traces).unwrap(),
            channel: random.bool().then(|| random.u16(0x4000..0x5000)),
            is_padded: random.bool(),
            is_tcp: false,
        }
    }

    /// Returns a random client that uses TCP to its server, so ChannelData must be padded. It has no candidate over
    /// UDP.
    fn random_over_tcp(random: &mut Rng) -> Self {
        let traces = [ClientTrace::RelatedAddress, ClientTrace::Allocation, ClientTrace::AllocationAndBinding];
        let trace = *random.choice(&traces).unwrap();
        Self { trace, is_path_v6: false, is_padded: true, is_tcp: true, ..Self::random(random) }
    }

    fn client(self) -> Endpoint {
        endpoint(self.is_path_v6, "10.0.0.7", "fd09::7", 40_000)
    }

    fn server(self) -> Endpoint {
        endpoint(self.is_path_v6, "203.0.113.9", "2001:db8::9", self.server_port)
    }

    fn relayed(self) -> Endpoint {
        endpoint(self.is_peer_v6, "203.0.113.9", "2001:db8::9", 49_160)
    }

    fn peer(self) -> Endpoint {
        endpoint(self.is_peer_v6, "198.51.100.2", "2001:db8:1::2", 4_000)
    }

    fn description(self, side: Side, audio: &str) -> String {
        let own = if side == self.side { self.relayed() } else { self.peer() };
        let address =
            |end: Endpoint| if end.ip().is_ipv6() { format!("IP6 {}", end.ip()) } else { format!("IP4 {}", end.ip()) };
        let text = describe(side, audio)
            .replace(&format!("IP4 10.0.0.{}", 1 + side.channel()), &address(own))
            .replace("m=audio 4000", &format!("m=audio {}", own.port()));
        let (client, relayed) = (self.client(), self.relayed());
        match self.trace {
            _ if side != self.side => text,
            ClientTrace::HostCandidate => {
                format!("{text}a=candidate:1 1 UDP 2130706431 {} {} typ host\r\n", client.ip(), client.port())
            }
            ClientTrace::RelatedAddress => format!(
                "{text}a=candidate:2 1 UDP 16777215 {} {} typ relay raddr {} rport {}\r\n",
                relayed.ip(),
                relayed.port(),
                client.ip(),
                client.port()
            ),
            _ => text,
        }
    }

    /// Adds the messages of the allocation and of the binding that are captured.
    fn set_up(self, call: &mut FieldCall, random: &mut Rng) {
        let (client, server) = (self.client(), self.server());
        let mut put = |ms: f64, src: Endpoint, dst: Endpoint, payload: Vec<u8>| {
            call.wire.packets.push(SentDatagram { at: at_ms(ms), src, dst, payload });
        };
        if matches!(self.trace, ClientTrace::Allocation | ClientTrace::AllocationAndBinding) {
            let lifetime = (0x000D, vec![0, 0, 2, 0x58]);
            let mut attributes = vec![(0x0016, xor(self.relayed())), (0x0020, xor(client)), lifetime];
            random.shuffle(&mut attributes);
            put(-200.0, server, client, stun(0x0103, &attributes));
        }
        if matches!(self.trace, ClientTrace::Binding | ClientTrace::AllocationAndBinding) {
            let number = self.channel.unwrap_or(0x4000).to_be_bytes();
            let bound = [(0x000C, vec![number[0], number[1], 0, 0]), (0x0012, xor(self.peer())), (0x0008, vec![7; 20])];
            put(1_010.0, client, server, stun(0x0009, &bound));
        }
    }

    /// Sends packets of a side in the form that they have between client and server.
    fn send(self, call: &mut FieldCall, side: Side, packets: &[FieldPacket], random: &mut Rng) {
        let first = call.wire.packets.len();
        call.send(side, packets);
        let is_from_client = side == self.side;
        for datagram in &mut call.wire.packets[first..] {
            (datagram.src, datagram.dst) =
                if is_from_client { (self.client(), self.server()) } else { (self.server(), self.client()) };
            datagram.payload = match self.channel {
                Some(channel) => self.channel_data(channel, &datagram.payload),
                None => {
                    let mut attributes = vec![(0x0012, xor(self.peer())), (0x0013, datagram.payload.clone())];
                    if is_from_client && random.bool() {
                        attributes.push((0x001A, Vec::new())); // attribute DONT-FRAGMENT
                    }
                    random.shuffle(&mut attributes);
                    stun(if is_from_client { 0x0016 } else { 0x0017 }, &attributes)
                }
            };
        }
    }

    fn channel_data(self, channel: u16, data: &[u8]) -> Vec<u8> {
        let mut out = [channel.to_be_bytes(), (data.len() as u16).to_be_bytes()].concat();
        out.extend(data);
        if self.is_padded {
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }
}

fn endpoint(is_v6: bool, v4: &str, v6: &str, port: u16) -> Endpoint {
    if is_v6 { format!("[{v6}]:{port}") } else { format!("{v4}:{port}") }.parse().unwrap()
}

/// Returns the value of an address attribute (RFC 8489 section 14.2).
fn xor(end: Endpoint) -> Vec<u8> {
    let (family, octets) = match end.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let port = (end.port() ^ 0x2112).to_be_bytes();
    let hidden = octets.iter().zip(TRANSACTION).map(|(octet, mask)| octet ^ mask);
    [0, family, port[0], port[1]].into_iter().chain(hidden).collect()
}

fn stun(kind: u16, attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        body.extend([kind.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    [&kind.to_be_bytes()[..], &(body.len() as u16).to_be_bytes(), &TRANSACTION, &body].concat()
}

#[test]
fn media_on_the_client_side_of_a_turn_server_is_heard() {
    let mut wrong = Vec::new();
    for seed in seeds(14) {
        let mut random = Rng::with_seed(seed);
        let client = match random.u8(0..4) {
            0 => RelayedClient::random_over_tcp(&mut random),
            _ => RelayedClient::random(&mut random),
        };
        let voice = CodedVoice::random(&mut random, &["pcmu", "opus", "g729", "amr_octets", "g722", "gsm"]);
        let fmtp = if voice.rtpmap.starts_with("AMR") { "octet-align=1" } else { "" };
        let audio = format!("RTP/AVP 96\r\n{}", voice.lines(96, fmtp));
        let mut setting = CallSetting::random(&mut random);
        if client.is_tcp {
            setting.network = CallNetwork::TcpAt { port: client.server_port };
        } else if matches!(setting.network, CallNetwork::Datagrams | CallNetwork::Ipv6) {
            // Only frames of a capture file pass through the decoder, which unwraps relayed media.
            setting.network = CallNetwork::Ipv4;
        }
        if matches!(setting.story, CallStory::EarlyMedia) && client.channel.is_some() {
            // The channel is bound at the answer, so there is no early media or hold before.
            setting.story = CallStory::Plain;
        }
        let descriptions = [Side::Caller, Side::Callee].map(|side| client.description(side, &audio));
        let mut call = FieldCall::described(descriptions).within(setting);
        client.set_up(&mut call, &mut random);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let packets = with_pt(voice.packets(1_050.0, 4, start, &mut random), 96);
            client.send(&mut call, side, &packets, &mut random);
        }
        let name = format!("seed {seed}: {client:?}, {} of {} ms, {setting:?}", voice.rtpmap, voice.packet_ms);
        wrong.extend(call.faults(&name, 5_200.0, &[]));
    }
    assert_none(&wrong);
}
