//! Tests of media with other addresses than the session descriptions announce.

use callspan::call::record::Side;
use callspan::net::Endpoint;
use callspan::time::Timestamp;
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, assert_none, seeds, with_pt};
use super::setting::{CallNetwork, CallSetting};
use crate::support::phones::{at_ms, describe, media, signalling};

/// How the addresses of packets differ from those in the session descriptions.
#[derive(Clone, Copy, Debug)]
enum Deviation {
    /// A side sends from another port than it announced.
    OtherPort,
    /// A side sends from another host than it announced.
    OtherHost,
    /// A side sends from another port than it announced, and the other side sends to that port.
    LatchedPort,
    /// A NAT gives the media of a side another address, and the other side sends to it.
    LatchedHost,
    /// Both sides send from other ports than they announced.
    BothPorts,
    /// After two seconds, the NAT of a side gives its media another port. The other side then sends to this port.
    NewPort,
    /// After two seconds, the NAT of a side gives its media another address. The other side then sends to this address.
    NewHost,
    /// The PBX announces the public address of its NAT. The telephone, which is the side that deviates, announces the
    /// private address in its home network.
    ExternalAddress,
    /// Both sides announce host names.
    HostNames,
    /// Both sides announce a link-local address with a zone.
    Scoped,
    /// Both sides announce the same multicast address.
    Multicast,
    /// A side announces an IPv4 address, but its packets have this address embedded in an IPv6 address (NAT64).
    Nat64,
}

const DEVIATIONS: [Deviation; 12] = [
    Deviation::OtherPort,
    Deviation::OtherHost,
    Deviation::ExternalAddress,
    Deviation::HostNames,
    Deviation::Scoped,
    Deviation::Multicast,
    Deviation::Nat64,
    Deviation::NewPort,
    Deviation::NewHost,
    Deviation::LatchedPort,
    Deviation::LatchedHost,
    Deviation::BothPorts,
];

impl Deviation {
    /// Returns the address in the session description of a side. `deviates` is the side that deviates, if only one does.
    fn announced(self, side: Side, deviates: Side) -> String {
        let ip = format!("IP4 10.0.0.{}", 1 + side.channel());
        match self {
            Self::ExternalAddress if side != deviates => "IP4 203.0.113.9".to_owned(),
            Self::ExternalAddress => "IP4 192.168.178.20".to_owned(),
            Self::HostNames => format!("IP4 media{}.example.com", side.channel()),
            Self::Scoped => format!("IP6 fe80::{}%eth0", 1 + side.channel()),
            Self::Multicast => "IP4 239.1.2.3/32".to_owned(),
            _ => ip,
        }
    }

    fn description(self, side: Side, deviates: Side, audio: &str) -> String {
        let own = format!("IP4 10.0.0.{}", 1 + side.channel());
        describe(side, audio).replace(&own, &self.announced(side, deviates))
    }

    /// Returns source and destination of a packet of `side`. `deviates` is the side that deviates from its session
    /// description, if only one side does.
    fn flow(self, side: Side, at: Timestamp, deviates: Side, port: u16) -> (Endpoint, Endpoint) {
        let (src, dst) = (media(side), media(side.other()));
        let is_it = side == deviates;
        let after = match self {
            Self::NewPort | Self::LatchedPort => media(deviates).with_port(port),
            _ => Endpoint::v4([10, 0, 7, 7], port),
        };
        match self {
            Self::NewPort | Self::NewHost if at < at_ms(3_000.0) => (src, dst),
            Self::NewPort | Self::NewHost | Self::LatchedPort | Self::LatchedHost if is_it => (after, dst),
            Self::NewPort | Self::NewHost | Self::LatchedPort | Self::LatchedHost => (src, after),
            Self::BothPorts => (src.with_port(port + u16::from(is_it)), dst),
            Self::OtherPort if is_it => (src.with_port(port), dst),
            Self::OtherHost if is_it => (Endpoint::v4([10, 0, 7, 7], port), dst),
            // The NAT of the telephone's home changes its address and port.
            Self::ExternalAddress if is_it => (home(port), dst),
            Self::ExternalAddress => (src, home(port)),
            Self::Multicast => (src, Endpoint::v4([239, 1, 2, 3], 4000)),
            Self::Nat64 => (within_nat64(src), within_nat64(dst)),
            Self::Scoped => (link_local(src), link_local(dst)),
            _ => (src, dst),
        }
    }

    /// Returns whether the test can also run with IPv6 addresses instead of IPv4 addresses.
    const fn has_two_versions(self) -> bool {
        !matches!(self, Self::ExternalAddress | Self::Scoped | Self::Multicast | Self::Nat64)
    }
}

/// Returns the public address of the telephone's home network.
fn home(port: u16) -> Endpoint {
    Endpoint::v4([198, 51, 100, 7], port)
}

fn within_nat64(endpoint: Endpoint) -> Endpoint {
    format!("[64:ff9b::a00:{:x}]:{}", last_octet(endpoint), endpoint.port()).parse().unwrap()
}

fn link_local(endpoint: Endpoint) -> Endpoint {
    format!("[fe80::{:x}]:{}", last_octet(endpoint), endpoint.port()).parse().unwrap()
}

fn last_octet(endpoint: Endpoint) -> u8 {
    endpoint.ip().to_string().rsplit('.').next().unwrap().parse().unwrap()
}

#[test]
fn media_on_other_addresses_than_announced_is_heard() {
    let mut wrong = Vec::new();
    for seed in seeds(24) {
        let mut random = Rng::with_seed(seed);
        let deviation = DEVIATIONS[seed as usize % DEVIATIONS.len()];
        let deviates = if random.bool() { Side::Caller } else { Side::Callee };
        let port = random.u16(10_000..60_000);
        let voice = CodedVoice::random(&mut random, &["pcmu", "opus", "g729", "gsm", "amr_octets", "g722"]);
        let fmtp = if voice.rtpmap.starts_with("AMR") { "octet-align=1" } else { "" };
        let audio = format!("RTP/AVP 96\r\n{}", voice.lines(96, fmtp));
        let mut setting = CallSetting::random(&mut random);
        if setting.network == CallNetwork::Ipv6 && !deviation.has_two_versions() {
            setting.network = CallNetwork::Ipv4;
        }
        let descriptions = [Side::Caller, Side::Callee].map(|side| deviation.description(side, deviates, &audio));
        let mut call = FieldCall::described(descriptions).within(setting);
        for datagram in call.wire.packets.iter_mut().filter(|_| matches!(deviation, Deviation::ExternalAddress)) {
            for end in [&mut datagram.src, &mut datagram.dst] {
                *end = if *end == signalling(deviates) { home(end.port()) } else { *end };
            }
        }
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let first = call.wire.packets.len();
            call.send(side, &with_pt(voice.packets(1_050.0, 4, start, &mut random), 96));
            for datagram in &mut call.wire.packets[first..] {
                (datagram.src, datagram.dst) = deviation.flow(side, datagram.at, deviates, port);
            }
        }
        let name = format!("{deviation:?} of {deviates:?}, {}, seed {seed}, {setting:?}", voice.rtpmap);
        wrong.extend(call.faults(&name, 5_200.0, &[]));
    }
    assert_none(&wrong);
}
