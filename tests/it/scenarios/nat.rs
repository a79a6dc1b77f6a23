//! Tests of media with other addresses than its signalling announces. Causes are NAT on either side, asymmetric
//! senders, host names, NAT64 and multicast. Also tests private or reused addresses that several calls announce at the
//! same time.

use callspan::call::config::Config;
use callspan::call::record::{CallVerdict, EndedBy, ProblemKind, Side};
use callspan::net::Endpoint;

use crate::scenarios::dialog_lifecycle::hears;
use crate::support::playback::{PlayedScene, play, play_packets};
use crate::support::scenario::ExpectedSound::{Silence, Voice};
use crate::support::scenario::MessageChange::Sdp;
use crate::support::scenario::{DialogId, Scene, ScenePhone, ip};

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

/// Returns a phone with this voice. It sends SIP from the endpoint `sip`.
fn phone(user: &str, voice: u8, sip: &str) -> ScenePhone {
    ScenePhone { sip: endpoint(sip), ..ScenePhone::new(user, voice) }
}

/// The addresses of a call: endpoints of the signalling, announced media addresses, and the real flows of the media.
struct NatCall<'a> {
    name: &'a str,
    sip: [&'a str; 2],
    announced: [&'a str; 2],
    sends: [(&'a str, &'a str); 2],
}

impl NatCall<'_> {
    /// Returns the same call with caller and callee exchanged.
    fn reversed(&self) -> Self {
        let ([a, b], [c, d], [e, f]) = (self.sip, self.announced, self.sends);
        NatCall { name: self.name, sip: [b, a], announced: [d, c], sends: [f, e] }
    }

    fn begin(&self, scene: &mut Scene) -> DialogId {
        let mut caller = phone("+79990000001", 1, self.sip[0]);
        let mut callee = phone("200", 2, self.sip[1]);
        let call = scene.dialog(&mut caller, &mut callee);
        scene.at(call).media = self.announced.map(endpoint);
        call
    }

    fn flows(&self) -> [(u8, (Endpoint, Endpoint)); 2] {
        let [a, b] = self.sends.map(|(src, dst)| (endpoint(src), endpoint(dst)));
        [(1, a), (2, b)]
    }
}

/// Calls with media on other addresses than announced.
const NAT_CALLS: [NatCall<'_>; 7] = [
    NatCall {
        name: "PBX with an external address and a media host of its own, telephone behind another NAT",
        sip: ["198.51.100.7:61060", "10.0.0.5:5060"],
        announced: ["192.168.1.5:4000", "203.0.113.1:10000"],
        sends: [("198.51.100.7:61000", "10.0.0.6:10000"), ("10.0.0.6:10000", "198.51.100.7:61000")],
    },
    NatCall {
        name: "PBX with an external address, telephone behind another NAT",
        sip: ["198.51.100.7:61060", "10.0.0.5:5060"],
        announced: ["192.168.1.5:4000", "203.0.113.1:10000"],
        sends: [("198.51.100.7:61000", "10.0.0.5:10000"), ("10.0.0.5:10000", "198.51.100.7:61000")],
    },
    NatCall {
        name: "PBX with an external address, provider that sends from another host",
        sip: ["10.0.0.5:5060", "203.0.113.20:5060"],
        announced: ["203.0.113.1:10000", "203.0.113.20:20000"],
        sends: [("10.0.0.5:10000", "203.0.113.20:20000"), ("203.0.113.21:20000", "10.0.0.5:10000")],
    },
    NatCall {
        name: "asymmetric RTP: both send from other ports than announced",
        sip: ["10.0.0.1:5060", "10.0.0.2:5060"],
        announced: ["10.0.0.1:10000", "10.0.0.2:20000"],
        sends: [("10.0.0.1:10444", "10.0.0.2:20000"), ("10.0.0.2:20444", "10.0.0.1:10000")],
    },
    NatCall {
        name: "NAT64, media host beside the SIP host",
        sip: ["[2001:db8::21]:5060", "[64:ff9b::c633:640a]:5060"],
        announced: ["[2001:db8:9::1]:4000", "198.51.100.20:12000"],
        sends: [
            ("[2001:db8::21]:4000", "[64:ff9b::c633:6414]:12000"),
            ("[64:ff9b::c633:6414]:12000", "[2001:db8::21]:4000"),
        ],
    },
    NatCall {
        name: "private telephone, public PBX, port changed by the NAT",
        sip: ["192.0.2.50:40101", "198.51.100.10:5060"],
        announced: ["192.168.1.2:5004", "198.51.100.10:16000"],
        sends: [("192.0.2.50:51000", "198.51.100.10:16000"), ("198.51.100.10:16000", "192.0.2.50:51000")],
    },
    NatCall {
        name: "carrier's shared address space",
        sip: ["192.0.2.50:40101", "10.0.0.5:5060"],
        announced: ["100.64.0.7:5004", "203.0.113.1:10000"],
        sends: [("192.0.2.50:51000", "10.0.0.5:10000"), ("10.0.0.5:10000", "192.0.2.50:51000")],
    },
];

/// Calls with media whose addresses are not announced. Only the packets of the other direction show where they belong.
const ANSWERING_CALLS: [NatCall<'_>; 2] = [
    NatCall {
        name: "private telephone, public PBX that sends from another port",
        sip: ["192.0.2.50:40101", "198.51.100.10:5060"],
        announced: ["192.168.1.2:5004", "198.51.100.10:16000"],
        sends: [("192.0.2.50:51000", "198.51.100.10:16000"), ("198.51.100.10:16010", "192.0.2.50:51000")],
    },
    NatCall {
        name: "private telephone, public PBX that sends from another host",
        sip: ["192.0.2.50:40101", "198.51.100.10:5060"],
        announced: ["192.168.1.2:5004", "198.51.100.10:16000"],
        sends: [("192.0.2.50:51000", "198.51.100.10:16000"), ("198.51.100.11:16000", "192.0.2.50:51000")],
    },
];

/// Plays a call of 2 s. Both voices must be heard on their sides. If `early` is true, media begins before the 2xx. The
/// second direction begins `apart_ms` before the first.
fn heard_call(call: &NatCall<'_>, early: bool, apart_ms: i64) -> PlayedScene {
    let mut scene = Scene::new();
    let dialog = call.begin(&mut scene);
    scene.invite(dialog);
    if early {
        scene.progress(dialog);
        scene.rtp(&call.flows(), 600);
    }
    scene.answer(dialog);
    let [first, second] = call.flows();
    scene.rtp(&[second], apart_ms);
    let talks = scene.now();
    scene.rtp(&[first, second], 2_000);
    let ended = scene.bye(dialog, Side::Caller);
    let played = play(&scene);
    hears(played.only(), (1, 2), talks, ended);
    played
}

#[test]
fn media_behind_nat_is_heard_on_its_side() {
    for call in NAT_CALLS.iter().flat_map(|call| [call.reversed().reversed(), call.reversed()]) {
        // Media begins with the 2xx, or before it, or each direction begins at another time.
        for (early, apart_ms) in [(false, 0), (true, 0), (false, 400)] {
            let played = heard_call(&call, early, apart_ms);
            assert_eq!(played.counters.rtp_unclaimed, 0, "{}", call.name);
        }
    }
}

#[test]
fn media_to_the_sender_of_a_call_is_heard_from_any_address() {
    for call in ANSWERING_CALLS.iter().flat_map(|call| [call.reversed().reversed(), call.reversed()]) {
        for (early, apart_ms) in [(false, 0), (true, 0), (false, 400)] {
            let played = heard_call(&call, early, apart_ms);
            // Packets that came before a packet of the other direction are part of the call, too.
            let sides = &played.only().record.sides;
            let packets = sides.caller.packets + sides.callee.packets;
            let sent = (2 * 2_000 + if early { 2 * 600 } else { apart_ms }) / 20;
            assert_eq!(packets, sent as u64, "{}", call.name);
        }
    }
}

#[test]
fn a_host_name_or_a_zone_in_the_description_hides_no_media() {
    let plain = [("10.0.0.1", "10.0.0.2"), ("[fe80::21]", "[fe80::22]")];
    let changes: [fn(String) -> String; 2] = [
        |text| {
            text.replace("c=IN IP4 10.0.0.", "c=IN IP4 host").replace("c=IN IP4 host1", "c=IN IP4 host1.example.net")
        },
        |text| {
            text.replace("c=IN IP4 fe80::21", "c=IN IP6 fe80::21%eth0")
                .replace("c=IN IP4 fe80::22", "c=IN IP6 fe80::22%en1")
        },
    ];
    for ((a, b), change) in plain.into_iter().zip(changes) {
        let at = |host: &str, port: u16| endpoint(&format!("{host}:{port}"));
        let mut scene = Scene::new();
        let mut caller = ScenePhone { sip: at(a, 5060), ..ScenePhone::new("201", 1) };
        let mut callee = ScenePhone { sip: at(b, 5060), ..ScenePhone::new("202", 2) };
        let call = scene.dialog(&mut caller, &mut callee);
        scene.connect(call);
        let talks = scene.now();
        scene.talk(call, 2_000);
        let ended = scene.bye(call, Side::Caller);
        let mut packets = scene.packets();
        for packet in &mut packets {
            if let Ok(text) = String::from_utf8(packet.payload.clone()) {
                // The changed body is longer. Without Content-Length, all bytes after the headers are the body.
                let lines = text.split("\r\n").filter(|line| !line.starts_with("Content-Length"));
                packet.payload = change(lines.collect::<Vec<_>>().join("\r\n")).into_bytes();
            }
        }
        let played = play_packets(&packets, scene.now(), Config::default());
        hears(played.only(), (1, 2), talks, ended);
    }
}

#[test]
fn the_sender_tells_the_sides_of_a_multicast_address() {
    let mut scene = Scene::new();
    let (mut caller, mut callee) = (ScenePhone::new("201", 1), ScenePhone::new("*80", 2));
    let call = scene.dialog(&mut caller, &mut callee);
    let group = endpoint("239.0.0.5:5004");
    scene.at(call).media = [group, group];
    scene.connect(call);
    let talks = scene.now();
    scene.rtp(&[(1, (ip(1, 11_000), group)), (2, (ip(2, 11_000), group))], 2_000);
    let ended = scene.bye(call, Side::Caller);
    hears(play(&scene).only(), (1, 2), talks, ended);
}

/// Plays the calls of two tenants. Their telephones announce the same private address. The second call begins
/// `after_ms` after the answer of the first, and ends before the first. `sides` are the sides on which the telephones
/// are.
fn tenants(sides: [Side; 2], after_ms: i64, holds: bool) -> (PlayedScene, [[i64; 2]; 2]) {
    let mut scene = Scene::new();
    let begin = |scene: &mut Scene, n: usize| {
        let mut tenant = phone(&format!("{}01", n + 2), 1 + 2 * n as u8, &format!("192.0.2.5{n}:4010{n}"));
        let mut pbx = phone(&format!("8495300111{n}"), 2 + 2 * n as u8, "198.51.100.10:5060");
        pbx.next_port = 16_000 + 10 * n as u16;
        let private = endpoint("192.168.1.2:5004");
        let call = match sides[n] {
            Side::Caller => scene.dialog(&mut tenant, &mut pbx),
            Side::Callee => scene.dialog(&mut pbx, &mut tenant),
        };
        scene.at(call).media[sides[n].channel()] = private;
        scene.connect(call);
        call
    };
    let flows = |scene: &Scene, call: DialogId, n: usize| {
        let side = sides[n];
        let (pbx, router) = (scene.get(call).media[side.other().channel()], endpoint(&format!("192.0.2.5{n}:5100{n}")));
        let voices = scene.get(call).voices;
        let (own, other) = (voices[side.channel()], voices[side.other().channel()]);
        [(own, (router, pbx)), (other, (pbx, router))]
    };
    let a = begin(&mut scene, 0);
    let a_flows = flows(&scene, a, 0);
    scene.rtp(&a_flows, 1_000.max(after_ms));
    if holds {
        scene.renegotiate(a, sides[0], "INVITE", (&["a=inactive"], &["a=inactive"]));
    }
    let b = begin(&mut scene, 1);
    let b_flows = flows(&scene, b, 1);
    let second = scene.now();
    let both: Vec<_> = if holds { b_flows.to_vec() } else { [a_flows, b_flows].concat() };
    scene.rtp(&both, 2_000);
    let b_ends = scene.bye(b, Side::Caller);
    scene.wait(6_000);
    if holds {
        scene.resume(a, sides[0]);
    }
    let again = scene.now();
    scene.rtp(&a_flows, 2_000);
    let a_ends = scene.bye(a, Side::Caller);
    (play(&scene), [[again, a_ends], [second, b_ends]])
}

#[test]
fn tenants_with_one_private_address_neither_join_nor_end_each_other() {
    for (a, b) in [(Side::Caller, Side::Caller), (Side::Callee, Side::Caller), (Side::Caller, Side::Callee)] {
        for (after_ms, holds) in [(0, false), (3_000, false), (0, true)] {
            let (played, spans) = tenants([a, b], after_ms, holds);
            let [first, second] = played.calls.as_slice() else { panic!("{} calls", played.calls.len()) };
            for (call, span, voices) in [(first, spans[0], [1, 2]), (second, spans[1], [3, 4])] {
                let side = if voices[0] == 1 { a } else { b };
                let [left, right] = if side == Side::Caller { voices } else { [voices[1], voices[0]] };
                hears(call, (left, right), span[0], span[1]);
                assert_eq!((call.record.ended_by, call.record.related.len()), (Some(EndedBy::Caller), 0));
                assert_eq!(call.record.legs.len(), 1);
            }
        }
    }
}

/// Two telephones behind one NAT announce host names with the same port. The PBX announces the address behind its own
/// NAT.
#[test]
fn ambiguous_presumed_addresses_are_resolved_by_the_pbx_or_unused() {
    let mut scene = Scene::new();
    let mut calls = Vec::new();
    for n in 0..2_u16 {
        let mut home = phone(&format!("20{n}"), 1 + 2 * n as u8, &format!("198.51.100.7:6106{n}"));
        let mut pbx = phone(&format!("8495300111{n}"), 2 + 2 * n as u8, "10.0.0.5:5060");
        let call = scene.dialog(&mut home, &mut pbx);
        let announced = [endpoint("192.168.1.5:4000"), endpoint("203.0.113.1:10000").with_port(10_000 + 2 * n)];
        scene.at(call).media = announced;
        scene.connect(call);
        calls.push(call);
    }
    let talks = scene.now();
    let flows: Vec<_> = (0..2_u16)
        .flat_map(|n| {
            let (home, pbx) = (endpoint("198.51.100.7:1").with_port(61_000 + n), ip(5, 10_000 + 2 * n));
            [(1 + 2 * n as u8, (home, pbx)), (2 + 2 * n as u8, (pbx, home))]
        })
        .collect();
    scene.rtp(&flows, 2_000);
    // Nothing shows to which call these packets belong.
    scene.rtp(&[(7, (endpoint("203.0.113.99:9000"), endpoint("198.51.100.7:4000")))], 500);
    let ended = scene.bye_all(&calls, Side::Caller);
    let played = play(&scene);
    let [a, b] = played.calls.as_slice() else { panic!("{} calls", played.calls.len()) };
    hears(a, (1, 2), talks, talks + 2_000);
    hears(b, (3, 4), talks, talks + 2_000);
    for call in [a, b] {
        let [left, right] = call.sound.as_ref().unwrap();
        assert_eq!((left.share(Silence, ended - 400, ended), right.share(Voice(7), ended - 400, ended)), (1.0, 0.0));
    }
}

/// Plays a call without its BYE, and `wait_ms` later another call that uses the same port of the PBX.
fn port_used_again(holds: bool, goes_on: bool) -> PlayedScene {
    let mut scene = Scene::new();
    let mut pbx = ScenePhone::new("84951112233", 9);
    let (mut e201, mut e203) = (ScenePhone::new("201", 1), ScenePhone::new("203", 3));
    let a = scene.dialog(&mut e201, &mut pbx);
    scene.connect(a);
    scene.talk(a, 2_000);
    if holds {
        scene.hold(a, Side::Caller);
    }
    scene.wait(8_000);
    let b = scene.leg(&mut pbx, &mut e203, ["+74957770002", "203"]);
    scene.at(b).media[0] = scene.get(a).media[1];
    scene.connect(b);
    scene.talk(b, 2_000);
    if goes_on {
        scene.talk(a, 2_000);
    }
    scene.wait(6_000);
    scene.talk(b, 1_000);
    scene.bye(b, Side::Caller);
    if goes_on || holds {
        scene.bye(a, Side::Caller);
    }
    play(&scene)
}

#[test]
fn reused_port_ends_only_the_call_that_lost_its_bye() {
    let ended_by = |played: &PlayedScene| {
        let [a, b] = played.calls.as_slice() else { panic!("{} calls", played.calls.len()) };
        assert_eq!((b.record.ended_by, b.record.verdict), (Some(EndedBy::Caller), Some(CallVerdict::BothSides)));
        a.record.ended_by
    };
    assert_eq!(ended_by(&port_used_again(false, false)), Some(EndedBy::Replaced));
    assert_eq!(ended_by(&port_used_again(true, false)), Some(EndedBy::Caller), "an agreed hold is no end");
    assert_eq!(ended_by(&port_used_again(false, true)), Some(EndedBy::Caller), "its media goes on");
}

/// Plays a call in which the PBX sends its signalling from a public address, but its media is behind a NAT. So no
/// packet has an announced media address.
fn unmatched(stranger: bool) -> PlayedScene {
    let mut scene = Scene::new();
    let (mut home, mut pbx) = (phone("201", 1, "198.51.100.7:61060"), phone("84953001111", 2, "203.0.113.5:5060"));
    let call = scene.dialog(&mut home, &mut pbx);
    scene.at(call).media = [endpoint("192.168.1.5:4000"), endpoint("203.0.113.1:10000")];
    scene.connect(call);
    let (near, far) = match stranger {
        false => (endpoint("198.51.100.7:61000"), ip(6, 10_000)),
        true => (endpoint("192.0.2.99:7000"), ip(77, 9_000)),
    };
    scene.rtp(&[(1, (near, far)), (2, (far, near))], 3_000);
    scene.bye(call, Side::Caller);
    scene.wait(3_000);
    play(&scene)
}

#[test]
fn media_that_no_address_matches_is_named_in_a_problem() {
    for (stranger, named) in [(false, true), (true, false)] {
        let played = unmatched(stranger);
        let record = &played.only().record;
        assert_eq!(record.verdict, Some(CallVerdict::NoMedia));
        assert_eq!(
            record.problems.iter().any(|p| p.kind == ProblemKind::MediaBehindNat),
            named,
            "{:?}",
            record.problems
        );
        assert_eq!(record.verdict_reason.as_ref().unwrap().contains("NAT"), named);
    }
}

#[test]
fn the_same_packets_before_and_after_a_nat_are_one_stream() {
    let (mut scene, call, _) = crate::scenarios::direct();
    let talks = scene.now();
    let (from, to) = scene.flow(call, Side::Caller);
    let outside = endpoint("192.0.2.77:40000");
    let copied = *scene.sender((from, to));
    *scene.sender((outside, to)) = copied;
    let callee = scene.flow(call, Side::Callee);
    scene.rtp(&[(1, (from, to)), (1, (outside, to)), (2, callee)], 2_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    hears(played.only(), (1, 2), talks, ended);
    assert_eq!((played.only().record.sides.caller.streams.len(), played.counters.rtp_duplicates), (1, 100));
}

#[test]
fn the_lines_of_a_recording_session_are_its_two_channels() {
    for second_first in [false, true] {
        let mut scene = Scene::new();
        let (mut client, mut server) = (ScenePhone::new("101", 1), ScenePhone::new("102", 2));
        let call = scene.dialog(&mut client, &mut server);
        let lines = |host: u8, direction: &str, port: u16| {
            let line = |port: u16| format!("m=audio {port} RTP/AVP 8\r\na={direction}\r\n");
            format!(
                "v=0\r\no=- 1 1 IN IP4 10.0.0.{host}\r\ns=-\r\nc=IN IP4 10.0.0.{host}\r\nt=0 0\r\n{}{}",
                line(port),
                line(port + 2)
            )
        };
        scene.request(call, Side::Caller, "INVITE", &[Sdp(lines(1, "sendonly", 40_000))]);
        scene.response(call, Side::Callee, (200, "INVITE"), &[Sdp(lines(2, "recvonly", 50_000))]);
        scene.at(call).confirmed = true;
        scene.request(call, Side::Caller, "ACK", &[]);
        let talks = scene.now();
        let mut flows = vec![(3, (ip(1, 40_000), ip(2, 50_000))), (4, (ip(1, 40_002), ip(2, 50_002)))];
        if second_first {
            flows.reverse();
        }
        scene.rtp(&flows, 2_000);
        let ended = scene.bye(call, Side::Caller);
        hears(play(&scene).only(), (3, 4), talks, ended);
    }
}

/// A telephone behind a NAT talks to a PBX, which moves its media to another port. The mirror misses the re-INVITE.
#[test]
fn a_stream_goes_on_after_a_move_that_the_mirror_missed() {
    for is_reversed in [false, true] {
        let mut nat = NAT_CALLS[5].reversed();
        if !is_reversed {
            nat = nat.reversed();
        }
        let mut scene = Scene::new();
        let call = nat.begin(&mut scene);
        scene.connect(call);
        let flows = nat.flows();
        let talks = scene.now();
        scene.rtp(&flows, 2_000);
        let moved = flows.map(|(voice, (src, dst))| (voice, (moved_port(src), moved_port(dst))));
        for ((_, old), (_, new)) in flows.into_iter().zip(moved) {
            *scene.sender(new) = *scene.sender(old);
        }
        scene.rtp(&moved, 2_000);
        let ended = scene.bye(call, Side::Caller);
        let played = play(&scene);
        hears(played.only(), (1, 2), talks, ended);
        assert_eq!(played.counters.rtp_unclaimed, 0);
    }
}

/// Returns the endpoint of the PBX after it moved its media. The endpoint of the telephone stays.
fn moved_port(endpoint: Endpoint) -> Endpoint {
    if endpoint.port() == 16_000 { endpoint.with_port(16_500) } else { endpoint }
}

/// The NAT gives the port of an ended call to another telephone, whose own call the mirror does not show.
#[test]
fn an_unannounced_address_finds_no_stream_with_another_ssrc() {
    let nat = &NAT_CALLS[5];
    let mut scene = Scene::new();
    let call = nat.begin(&mut scene);
    scene.connect(call);
    scene.rtp(&nat.flows(), 1_000);
    let stranger = (endpoint("192.0.2.50:51000"), endpoint("198.51.100.10:17000"));
    scene.rtp(&[nat.flows()[0], nat.flows()[1], (3, stranger)], 1_000);
    scene.bye(call, Side::Caller);
    let played = play(&scene);
    assert_eq!(played.counters.rtp_unclaimed, 50, "the stranger's packets belong to no leg");
}
