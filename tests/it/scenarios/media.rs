//! Tests of changes in RTP streams (SSRC, sequence, time), and of media that does not match its SDP.

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::record::{CallVerdict, EndedBy, ProblemKind, Side};

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::{DID, OUTSIDE, Office, direct, outside_and_200};
use crate::support::playback::{NullSink, play, play_packets};
use crate::support::scenario::ExpectedSound::{Outside, Silence, Voice};
use crate::support::scenario::{DialogId, RtpSender, Scene, ip};

/// Plays a call with 2 s of talk, a change, and 2 s of talk. The function `disturb` changes the callee's sender.
fn disturbed(disturb: impl Fn(&mut Scene, crate::support::scenario::DialogId)) {
    let (mut scene, call, _) = direct();
    let talks = scene.now();
    scene.talk(call, 2_000);
    let before = scene.now();
    disturb(&mut scene, call);
    let after = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    hears(played.only(), (1, 2), talks, before);
    hears(played.only(), (1, 2), after, ended);
}

#[test]
fn a_changed_ssrc_is_the_same_voice_at_its_own_time() {
    disturbed(|scene, call| {
        let flow = scene.flow(call, Side::Callee);
        let sender = scene.sender(flow);
        (sender.ssrc, sender.sequence, sender.time) = (0x7777_7777, 4, 99);
    });
}

#[test]
fn a_reset_sequence_and_a_jump_of_the_stamp_move_nothing() {
    disturbed(|scene, call| {
        let flow = scene.flow(call, Side::Callee);
        scene.sender(flow).sequence = 3;
    });
    disturbed(|scene, call| {
        let flow = scene.flow(call, Side::Callee);
        scene.sender(flow).time ^= 0x5555_5555;
    });
    // The jump of 4 s is below 5 s, the jump at which another recorder fails.
    disturbed(|scene, call| {
        let flow = scene.flow(call, Side::Caller);
        let sender = scene.sender(flow);
        sender.time = sender.time.wrapping_add(32_000);
    });
}

#[test]
fn a_jump_during_a_pause_moves_nothing() {
    disturbed(|scene, call| {
        scene.wait(2_500);
        let flow = scene.flow(call, Side::Callee);
        scene.sender(flow).time ^= 0x7000_0000;
    });
}

#[test]
fn two_ssrcs_on_one_port_are_two_streams_of_one_side() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    let now = scene.now();
    let flow = scene.flow(call, Side::Callee);
    let voice = *scene.sender(flow);
    *scene.sender(flow) = crate::support::scenario::RtpSender { ssrc: 0x0bad_cafe, sequence: 9, time: 5, pt: 8 };
    scene.rtp(&[(6, flow)], 1_000);
    *scene.sender(flow) = voice;
    scene.set_now(now);
    scene.talk(call, 1_000);
    let alone = scene.now();
    scene.talk(call, 1_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.sides.caller.streams.len(), record.sides.callee.streams.len()), (1, 2));
    hears(played.only(), (1, 2), alone + 100, ended);
}

#[test]
fn rtp_after_the_bye_is_counted_and_opens_nothing() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    let ended = scene.bye(call, Side::Caller);
    scene.talk(call, 1_000);
    let played = play(&scene);
    let [left, right] = played.only().sound.as_ref().expect("a recording");
    assert_eq!((left.judge(ended + 300), right.judge(ended + 300)), (Outside, Outside));
    // Both sides send for another second. Packets in the first 200 ms count as late, and the others as RTP without a
    // call.
    assert_eq!(played.counters.rtp_after_end + played.counters.rtp_unclaimed, 100);
}

#[test]
fn a_sender_behind_a_nat_is_known_by_where_it_sends() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    // The telephone announces an address of its private network, but its packets come from the router's address.
    scene.at(call).media[0] = callspan::net::Endpoint::v4([192, 168, 1, 5], 7_000);
    scene.connect(call);
    let router = ip(50, 61_234);
    let phone = scene.get(call).media[1];
    let talks = scene.now();
    scene.rtp(&[(1, (router, phone)), (2, (phone, router))], 2_000);
    // The router loses its NAT binding and uses another port from now on.
    let other = ip(50, 61_999);
    let moved = scene.now();
    scene.rtp(&[(1, (other, phone)), (2, (phone, other))], 2_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    hears(played.only(), (1, 2), talks, moved);
    hears(played.only(), (1, 2), moved, ended);
    let kinds: Vec<_> = played.only().record.events.iter().map(|e| (e.kind.as_str(), e.side)).collect();
    assert_eq!(kinds, [("media_move", Some(Side::Caller))]);
}

#[test]
fn ports_reused_by_the_very_next_call_belong_to_it() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let first = scene.dialog(&mut outside, &mut ours);
    let second = scene.dialog(&mut outside, &mut ours);
    scene.at(second).media = scene.get(first).media;
    scene.connect(first);
    scene.talk(first, 2_000);
    let bye = scene.bye(first, Side::Caller);
    // The next call begins 20 ms after the BYE. Packets of the first call still arrive then.
    let begin = scene.now();
    let flow = scene.flow(first, Side::Callee);
    scene.rtp(&[(2, flow)], 100);
    scene.set_now(begin);
    scene.connect(second);
    for side in [Side::Caller, Side::Callee] {
        let flow = scene.flow(second, side);
        scene.sender(flow).ssrc ^= 0x00ff_00ff;
    }
    scene.at(second).voices = [3, 4];
    let talks = scene.now();
    scene.talk(second, 2_000);
    let ended = scene.bye(second, Side::Callee);
    let played = play(&scene);
    let [one, two] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    hears(one, (1, 2), bye - 2_000, bye);
    hears(two, (3, 4), talks, ended);
    assert_eq!(one.record.ended_at, Some(crate::support::scenario::at(bye)));
    // Each side of each call has 2 s of packets of 20 ms. The late packets of the first call count for neither call.
    for call in [one, two] {
        assert_eq!([call.record.sides.caller.packets, call.record.sides.callee.packets], [100, 100]);
        assert!(call.record.related.is_empty());
    }
}

/// A telephone uses its SSRC and its port again in the next call. It goes on with its sequence numbers and RTP times, or
/// begins them again. In the first 200 ms after the BYE, packets would count as late packets of the first call.
#[test]
fn a_reused_ssrc_and_port_belong_to_the_later_call() {
    for (wait_ms, begins_again) in [(200, false), (200, true), (1_000, true), (5_000, false), (60_000, true)] {
        let (mut scene, mut outside, mut ours) = outside_and_200();
        let [first, second] = [0, 1].map(|_| scene.dialog(&mut outside, &mut ours));
        scene.at(second).media = scene.get(first).media;
        scene.at(second).voices = [3, 4];
        let flows = [Side::Caller, Side::Callee].map(|side| scene.flow(first, side));
        scene.connect(first);
        let begun = (scene.now(), flows.map(|flow| *scene.sender(flow)));
        scene.talk(first, 2_000);
        let bye = scene.bye(first, Side::Caller);
        scene.wait(wait_ms);
        scene.invite(second);
        scene.answer(second);
        for (flow, sender) in flows.into_iter().zip(begun.1) {
            let later = ((scene.now() - begun.0) * 8) as u32;
            if begins_again {
                *scene.sender(flow) = RtpSender { time: sender.time.wrapping_sub(later), ..sender };
            }
        }
        let talks = scene.now();
        scene.talk(second, 2_000);
        let ended = scene.bye(second, Side::Callee);
        let played = play(&scene);
        let what = format!("{wait_ms} ms later, begins again: {begins_again}");
        let [one, two] = played.calls.as_slice() else { panic!("two calls, not {}: {what}", played.calls.len()) };
        hears(one, (1, 2), bye - 2_000, bye);
        hears(two, (3, 4), talks, ended);
        for call in [one, two] {
            let packets = [Side::Caller, Side::Callee].map(|side| call.record.sides.get(side).packets);
            assert_eq!((packets, call.record.related.len()), ([100, 100], 0), "{what}");
        }
    }
}

#[test]
fn reused_ports_end_an_old_call_with_a_lost_bye() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let first = scene.dialog(&mut outside, &mut ours);
    let second = scene.dialog(&mut outside, &mut ours);
    scene.at(second).media = scene.get(first).media;
    scene.connect(first);
    scene.talk(first, 2_000);
    let silent = scene.now();
    scene.wait(10_000);
    scene.connect(second);
    for side in [Side::Caller, Side::Callee] {
        let flow = scene.flow(second, side);
        scene.sender(flow).ssrc ^= 0x00ff_00ff;
    }
    let talks = scene.now();
    scene.talk(second, 8_000);
    let ended = scene.bye(second, Side::Callee);
    let played = play(&scene);
    let [one, two] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    assert_eq!(
        (one.record.ended_by, one.record.ended_at),
        (Some(EndedBy::Replaced), Some(crate::support::scenario::at(silent - 20)))
    );
    hears(two, (1, 2), talks, ended);
    assert_eq!(one.record.sides.caller.packets, 100);
}

#[test]
fn one_side_that_is_never_heard_is_said_by_name() {
    let (mut scene, call, _) = direct();
    let talks = scene.now();
    scene.sound(&[(2, call, Side::Callee)], 2_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    assert_eq!(played.only().record.verdict, Some(CallVerdict::CalleeOnly));
    let [left, right] = played.only().sound.as_ref().expect("a recording");
    assert_eq!((left.share(Silence, talks, ended), right.share(Voice(2), talks, ended)), (1.0, 1.0));
}

#[test]
fn rtp_before_the_200_and_before_the_invite_finds_its_call() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    // All signalling is captured 300 ms late, e.g. because its interface is slower.
    let flow = scene.flow(call, Side::Caller);
    scene.rtp(&[(1, flow)], 300);
    scene.invite(call);
    let answered = scene.answer(call);
    let talks = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    hears(played.only(), (1, 2), talks, ended);
    // 15 of the packets came before the INVITE.
    assert_eq!(played.only().record.sides.caller.packets, 115);
    assert_eq!(played.only().record.answered_at, Some(crate::support::scenario::at(answered)));
}

#[test]
fn a_dtmf_digit_is_an_event_and_never_a_byte() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    // Key 7 is pressed for 100 ms. The packet with its end is sent three times, and all packets have one RTP timestamp
    // (RFC 4733 section 2.5).
    let (src, dst) = scene.flow(call, Side::Caller);
    let sender = *scene.sender((src, dst));
    let time = sender.time.wrapping_add((scene.now() * 8) as u32);
    for n in 0..8_u16 {
        let mut packet = vec![0x80, 101 | if n == 0 { 0x80 } else { 0 }];
        packet.extend(sender.sequence.wrapping_add(n).to_be_bytes());
        packet.extend(time.to_be_bytes());
        packet.extend(sender.ssrc.to_be_bytes());
        packet.extend([7, if n > 4 { 0x8a } else { 10 }]);
        packet.extend((n.min(5) * 160 + 160).to_be_bytes());
        scene.raw(src, dst, packet);
        scene.wait(20);
    }
    scene.sender((src, dst)).sequence += 8;
    scene.talk(call, 1_000);
    scene.bye(call, Side::Caller);
    let played = play(&scene);
    let record = &played.only().record;
    let kinds: Vec<_> = record.events.iter().map(|e| (e.kind.as_str(), e.side, e.detail.as_deref())).collect();
    assert_eq!(kinds, [("dtmf", Some(Side::Caller), None)], "one digit is one event");
    // The spool has two seconds of both sides in packets of 172 bytes. Of the eight telephone-events it has only the
    // headers.
    assert_eq!(played.media_bytes, 200 * (12 + 160));
}

/// Makes an outbound call of extension 200 (voice 2) through the PBX to an outside number (voice 1). Returns the leg of
/// 200, then the trunk's leg.
fn outbound() -> (Scene, DialogId, DialogId) {
    let mut office = Office::new();
    let a = office.scene.leg(&mut office.e200, &mut office.pbx, ["200", OUTSIDE]);
    let b = office.scene.leg(&mut office.pbx, &mut office.outside, [DID, OUTSIDE]);
    (office.scene, a, b)
}

#[test]
fn direct_media_is_in_the_recording_of_an_outbound_call() {
    let (mut scene, a, b) = outbound();
    scene.connect_via(a, b, 1_000);
    let talks = scene.now();
    scene.bridge(a, b, 2_000);
    let through = scene.now();
    // The PBX announces the address of each side to the other side.
    let (phone, trunk) = (scene.get(a).media[0], scene.get(b).media[1]);
    scene.at(a).media = [phone, trunk];
    scene.renegotiate(a, Side::Callee, "INVITE", (&[], &[]));
    scene.at(b).media = [phone, trunk];
    scene.renegotiate(b, Side::Caller, "INVITE", (&[], &[]));
    let past = scene.now();
    scene.rtp(&[(2, (phone, trunk)), (1, (trunk, phone))], 3_000);
    let ended = scene.bye_all(&[a, b], Side::Caller);
    let played = play(&scene);
    hears(played.only(), (2, 1), talks, through);
    hears(played.only(), (2, 1), past, ended);
}

#[test]
fn the_outside_leg_has_the_sound_when_media_bypass_the_pbx() {
    let (mut scene, a, b) = outbound();
    let (phone, trunk) = (scene.get(a).media[0], scene.get(b).media[1]);
    scene.at(a).media = [phone, trunk];
    scene.at(b).media = [phone, trunk];
    scene.connect_via(a, b, 1_000);
    let talks = scene.now();
    scene.rtp(&[(2, (phone, trunk)), (1, (trunk, phone))], 3_000);
    let ended = scene.bye_all(&[a, b], Side::Caller);
    let played = play(&scene);
    hears(played.only(), (2, 1), talks, ended);
    let rendered: Vec<&str> =
        played.only().record.legs.iter().filter(|leg| leg.rendered).map(|leg| leg.sip_call_id.as_str()).collect();
    assert_eq!(rendered, [scene.get(b).call_id.as_str()], "the leg to the trunk");
    assert_eq!(played.only().record.verdict_reason.as_deref(), Some("Both sides can be heard."));
}

#[test]
fn media_over_tcp_is_named_in_the_record() {
    for (protocol, is_named) in [("TCP/RTP/AVP", true), ("TCP/TLS/RTP/SAVP", true), ("RTP/AVP", false)] {
        let (mut scene, call, _) = direct();
        scene.wait(3_000);
        scene.bye(call, Side::Caller);
        let mut packets = scene.packets();
        for packet in &mut packets {
            let text = String::from_utf8_lossy(&packet.payload).into_owned();
            let lines = text.split("\r\n").filter(|line| !line.starts_with("Content-Length"));
            packet.payload = lines.collect::<Vec<_>>().join("\r\n").replace("RTP/AVP", protocol).into_bytes();
        }
        let played = play_packets(&packets, scene.now(), Config::default());
        let record = &played.only().record;
        assert_eq!(record.verdict, Some(CallVerdict::NoMedia), "{protocol}");
        assert_eq!(record.problems.iter().any(|p| p.kind == ProblemKind::MediaOverTcp), is_named, "{protocol}");
        let reason = record.verdict_reason.as_deref().expect("a reason");
        assert_eq!(reason.contains("over TCP"), is_named, "{reason}");
        assert_eq!(reason.contains("check that it sees the media path"), !is_named, "{reason}");
    }
}

/// A leg has 64 routes. The packets of a further flow must not search the stored packets each time: if many are stored,
/// a search takes milliseconds. The test sees a search, because it also removes packets that were stored too long ago.
#[test]
fn packets_beyond_the_routes_of_a_leg_search_no_stored_packets() {
    let (mut scene, call, _) = direct();
    let (_, callee) = scene.flow(call, Side::Caller);
    let further = ip(77, 20_064);
    scene.rtp(&[(1, (further, ip(78, 30_000)))], 20);
    (20_000..20_064).for_each(|port| scene.rtp(&[(1, (ip(77, port), callee))], 20));
    scene.wait(6_000);
    scene.rtp(&[(1, (further, callee))], 40);
    let mut engine = Engine::new(Config::default(), "scene");
    scene.packets().iter().for_each(|packet| engine.handle_datagram(&packet.datagram(), &mut NullSink));
    assert_eq!((engine.counters().rtp_packets, engine.counters().rtp_unclaimed), (66, 1));
    assert_eq!(engine.tables().flows, 64);
    assert!(engine.tables().early_bytes > 0, "no search");
}
