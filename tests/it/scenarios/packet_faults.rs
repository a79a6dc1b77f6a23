//! Tests of unusual senders and networks. In each case another recorder failed, and callspan must record the whole
//! call.

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::event::CallEvent;
use callspan::call::record::{CallOutcome, EndedBy, Side};
use callspan::net::Endpoint;

use crate::scenarios::Office;
use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::direct;
use crate::support::playback::{NullSink, PlayedScene, play, play_packets};
use crate::support::scenario::{DialogId, Scene, ScenePacket, ScenePhone};

/// Plays a call of 4 s. `change` changes its packets. Both voices must be recorded completely.
#[track_caller]
fn heard_through(change: impl Fn(&mut ScenePacket)) -> PlayedScene {
    let (mut scene, call, _) = direct();
    let talks = scene.now();
    scene.talk(call, 4_000);
    let ended = scene.bye(call, Side::Caller);
    let mut packets = scene.packets();
    packets.iter_mut().for_each(change);
    let played = play_packets(&packets, scene.now(), Config::default());
    hears(played.only(), (1, 2), talks, ended);
    played
}

fn is_rtp(packet: &ScenePacket) -> bool {
    packet.payload.first() == Some(&0x80)
}

#[test]
fn a_marker_on_every_packet_marks_nothing() {
    let played = heard_through(|p| {
        if is_rtp(p) {
            p.payload[1] |= 0x80;
        }
    });
    // The call without markers has the same number of samples: 4 s of both sides.
    let plain = heard_through(|_| {});
    let length = |played: &PlayedScene| played.only().sound.as_ref().map(|s| s[0].samples.len());
    assert_eq!(length(&played), length(&plain));
    assert_eq!(
        played.only().sound.as_ref().map(|s| &s[1].samples),
        plain.only().sound.as_ref().map(|s| &s[1].samples),
        "to the sample"
    );
}

#[test]
fn a_jump_of_four_seconds_with_a_marker_moves_nothing() {
    let (mut scene, call, _) = direct();
    let talks = scene.now();
    scene.talk(call, 2_000);
    let before = scene.now();
    let flow = scene.flow(call, Side::Callee);
    let sender = scene.sender(flow);
    sender.time = sender.time.wrapping_add(32_000);
    let jumped = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    let mut packets = scene.packets();
    let first =
        packets.iter_mut().find(|p| p.src == flow.0 && is_rtp(p) && p.at >= crate::support::scenario::at(jumped));
    first.expect("a packet after the jump").payload[1] |= 0x80;
    let played = play_packets(&packets, scene.now(), Config::default());
    hears(played.only(), (1, 2), talks, before);
    hears(played.only(), (1, 2), jumped, ended);
}

#[test]
fn header_extensions_with_an_audio_level_are_no_sound() {
    // A header extension with one-byte headers (RFC 8285): the audio level with id 1 (RFC 6464), and three bytes of
    // padding.
    heard_through(|p| {
        if is_rtp(p) {
            p.payload[0] |= 0x10;
            p.payload.splice(12..12, [0xbe, 0xde, 0, 1, 0x10, 0x2a, 0, 0]);
        }
    });
    // A header extension in the two-byte form, with an id that no session description announced.
    heard_through(|p| {
        if is_rtp(p) {
            p.payload[0] |= 0x10;
            p.payload.splice(12..12, [0x10, 0, 0, 2, 1, 1, 0x2a, 0, 0xc8, 1, 7, 0]);
        }
    });
}

#[test]
fn a_call_id_of_two_hundred_characters_is_a_call_id() {
    let (mut scene, call, _) = {
        let (mut scene, mut outside, mut ours) = crate::scenarios::outside_and_200();
        let call = scene.dialog(&mut outside, &mut ours);
        scene.at(call).call_id = "c".repeat(200);
        let answered = scene.connect(call);
        (scene, call, answered)
    };
    let talks = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Callee);
    let played = play(&scene);
    hears(played.only(), (1, 2), talks, ended);
    assert_eq!(played.only().record.legs[0].sip_call_id, "c".repeat(200));
}

#[test]
fn both_ends_may_be_on_this_machines_own_address() {
    let mut scene = Scene::new();
    let phone = |user: &str, voice, sip, media| ScenePhone {
        sip: Endpoint::v4([127, 0, 0, 1], sip),
        voice,
        next_port: media,
        ..ScenePhone::new(user, voice)
    };
    let (mut a, mut b) = (phone("101", 1, 5060, 10_000), phone("102", 2, 5070, 20_000));
    let call = scene.dialog(&mut a, &mut b);
    scene.connect(call);
    let talks = scene.now();
    scene.talk(call, 3_000);
    scene.renegotiate(call, Side::Callee, "INVITE", (&[], &[]));
    scene.talk(call, 1_000);
    let ended = scene.bye(call, Side::Callee);
    let played = play(&scene);
    hears(played.only(), (1, 2), talks, talks + 3_000);
    assert_eq!(played.only().record.ended_by, Some(EndedBy::Callee));
    assert_eq!(played.only().record.ended_at, Some(crate::support::scenario::at(ended)));
}

#[test]
fn the_same_ssrc_on_both_sides_is_two_voices() {
    let (mut scene, call, _) = direct();
    for side in [Side::Caller, Side::Callee] {
        let flow = scene.flow(call, side);
        let sender = scene.sender(flow);
        (sender.ssrc, sender.sequence) = (0x0011_2233, 1_000);
    }
    let talks = scene.now();
    scene.talk(call, 4_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    hears(played.only(), (1, 2), talks, ended);
    let sides = &played.only().record.sides;
    // 4 s are 200 packets of 20 ms.
    assert_eq!([sides.caller.packets, sides.callee.packets], [200, 200]);
    assert_eq!([sides.caller.duplicates, sides.callee.duplicates], [0, 0]);
}

/// Plays both legs of a PBX that forwards RTP unchanged: SSRC, sequence numbers and timestamps are the same on both
/// legs.
fn passed_on(office: &mut Office, a: DialogId, b: DialogId) {
    for (from, to) in [(a, b), (b, a)] {
        let (source, copy) = if from == a { (Side::Caller, Side::Caller) } else { (Side::Callee, Side::Callee) };
        let (heard, sent) = (office.scene.flow(from, source), office.scene.flow(to, copy));
        let sender = *office.scene.sender(heard);
        *office.scene.sender(sent) = sender;
    }
}

#[test]
fn rtp_on_both_sides_of_a_border_controller_is_no_duplicate() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    passed_on(&mut office, a, b);
    let [talks, ended] = office.scene.bridge_until_bye(a, b, 4_000, Side::Caller);
    let played = play(&office.scene);
    let record = &played.only().record;
    hears(played.only(), (1, 2), talks, ended);
    assert_eq!(record.legs.len(), 2);
    assert_eq!([record.sides.caller.packets, record.sides.callee.packets], [200, 200]);
    assert_eq!([record.sides.caller.duplicates, record.sides.callee.duplicates], [0, 0]);
}

#[test]
fn a_ring_group_that_gets_the_same_early_media_is_heard_once() {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    for d in [a, b, c] {
        office.scene.invite(d);
    }
    for d in [a, b, c] {
        office.scene.progress(d);
    }
    // The PBX sends the same stream to the caller and to both ringing telephones.
    let early = office.scene.now();
    let template = {
        let flow = office.scene.flow(a, Side::Callee);
        *office.scene.sender(flow)
    };
    for d in [b, c] {
        let flow = office.scene.flow(d, Side::Caller);
        *office.scene.sender(flow) = template;
    }
    let flows: Vec<_> = [(a, Side::Callee), (b, Side::Caller), (c, Side::Caller)]
        .map(|(d, side)| (crate::scenarios::MUSIC, office.scene.flow(d, side)))
        .to_vec();
    office.scene.rtp(&flows, 1_000);
    assert_eq!(office.scene.now(), early + 1_000);
    office.scene.answer(b);
    office.scene.cancel(c);
    office.scene.answer(a);
    let [talks, ended] = office.scene.bridge_until_bye(a, b, 2_000, Side::Caller);
    let played = play(&office.scene);
    let record = &played.only().record;
    hears(played.only(), (1, 2), talks, ended);
    assert_eq!((record.internal.as_deref(), record.outcome), (Some("200"), CallOutcome::Answered));
    // The anchor leg is the trunk's leg. It has 1 s of music and 2 s of the operator, and 2 s of the caller.
    assert_eq!([record.sides.caller.packets, record.sides.callee.packets], [100, 150]);
    assert_eq!([record.sides.caller.duplicates, record.sides.callee.duplicates], [0, 0]);
}

#[test]
fn rtcp_stun_and_dtls_on_media_ports_are_ignored() {
    let (mut scene, call, _) = direct();
    let talks = scene.now();
    scene.talk(call, 4_000);
    let ended = scene.bye(call, Side::Caller);
    let mut packets = scene.packets();
    // Other packets on the media ports. They are a sender report of 28 bytes (RFC 5761), a binding request (RFC 8489),
    // and the beginning of a ClientHello (RFC 6347).
    let report = [&[0x80, 200, 0, 6][..], &[7; 24]].concat();
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[9; 12]].concat();
    let hello = [&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 1][..], &[3; 19]].concat();
    for side in [Side::Caller, Side::Callee] {
        let (src, dst) = scene.flow(call, side);
        for (n, payload) in (0..).zip([&report, &binding, &hello].into_iter().cycle().take(30)) {
            packets.push(ScenePacket {
                at: crate::support::scenario::at(talks + 5 + n * 100),
                src,
                dst,
                payload: payload.clone(),
            });
        }
    }
    packets.sort_by_key(|p| p.at);
    let played = play_packets(&packets, scene.now(), Config::default());
    let record = &played.only().record;
    hears(played.only(), (1, 2), talks, ended);
    assert_eq!([record.sides.caller.packets, record.sides.callee.packets], [200, 200]);
    assert_eq!([record.sides.caller.lost, record.sides.callee.lost], [0, 0]);
}

#[test]
fn a_bye_that_nobody_answers_ends_the_call() {
    let (mut scene, call, _) = direct();
    let talks = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.now();
    // The request is not answered, so it is retransmitted as RFC 3261 requires.
    for pause in [0, 500, 1_000, 2_000] {
        scene.wait(pause);
        scene.request(call, Side::Callee, "BYE", &[crate::support::scenario::MessageChange::CSeq(501)]);
    }
    let played = play(&scene);
    let record = &played.only().record;
    hears(played.only(), (1, 2), talks, ended);
    assert_eq!((record.ended_by, record.ended_at), (Some(EndedBy::Callee), Some(crate::support::scenario::at(ended))));
}

#[test]
fn thousands_of_short_calls_leave_nothing_behind() {
    // The long run sets `CALLSPAN_CALLS=100000`.
    let calls: u32 = std::env::var("CALLSPAN_CALLS").ok().and_then(|v| v.parse().ok()).unwrap_or(2_000);
    let mut engine = Engine::new(Config::default(), "short calls");
    let (mut ended, mut heard, mut most) = (0, 0, (0, 0, 0));
    let mut count = |engine: &mut Engine| {
        while let Some(event) = engine.poll_event() {
            if let CallEvent::Ended(call) = event {
                ended += 1;
                let sides = &call.record.sides;
                // Each side sent 60 ms, i.e. 3 packets.
                heard += u32::from(sides.caller.packets == 3 && sides.callee.packets == 3);
            }
        }
    };
    for n in 0..calls {
        let mut scene = Scene::mute();
        scene.set_now(i64::from(n) * 1_500);
        // After a hundred calls, ports are used again, as PBXs do it.
        let port = 10_000 + (n % 100) as u16 * 4;
        let (mut a, mut b) = (ScenePhone::new("101", 1), ScenePhone::new("102", 2));
        (a.next_port, b.next_port) = (port, port);
        let call = scene.dialog(&mut a, &mut b);
        scene.at(call).call_id = format!("short-{n}@scene");
        scene.connect(call);
        scene.talk(call, 60);
        scene.bye(call, Side::Caller);
        for packet in scene.packets() {
            engine.handle_datagram(&packet.datagram(), &mut NullSink);
            count(&mut engine);
        }
        let tables = engine.tables();
        most = (most.0.max(tables.legs), most.1.max(tables.flows), most.2.max(tables.timers));
    }
    engine.handle_end_of_capture(&mut NullSink);
    count(&mut engine);
    assert_eq!((ended, heard), (calls, calls));
    // A leg is kept for some seconds after its BYE. So only a few calls of 1.5 s are in the tables at the same time.
    assert!(most.0 <= 64 && most.1 <= 256 && most.2 <= 256, "{most:?}");
    let tables = engine.tables();
    assert_eq!([tables.legs, tables.conversations, tables.call_ids, tables.media_addresses, tables.flows], [0; 5]);
    assert!(tables.tombstones <= 65_536);
}
