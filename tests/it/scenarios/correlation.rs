//! Tests of correlation: the dialogs that a PBX makes for one call belong to one conversation.

use callspan::call::config::Config;
use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallDirection, CallOutcome, CallVerdict, EndedBy, Side};

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::{DID, MUSIC, OUTSIDE, Office};
use crate::support::playback::{play, play_packets, play_with};
use crate::support::scenario::{DialogId, MessageChange, Scene, ScenePacket, ScenePhone, at};

#[test]
fn both_legs_of_a_pbx_are_one_call() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let scene = &mut office.scene;
    let [talks, ended] = scene.bridge_until_bye(a, b, 3_000, Side::Caller);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!(
        (record.from.as_deref(), record.to.as_deref(), record.internal.as_deref()),
        (Some(OUTSIDE), Some(DID), Some("200"))
    );
    assert_eq!((record.direction, record.outcome), (CallDirection::Inbound, CallOutcome::Answered));
    assert_eq!((record.ended_by, record.ended_at), (Some(EndedBy::Caller), Some(at(ended))));
    let rendered: Vec<bool> = record.legs.iter().map(|l| l.rendered).collect();
    assert_eq!(rendered, [true, false], "the outside party's leg is the anchor");
    // The PBX answered the caller two steps (200 and ACK) after its extension answered.
    let answers = (record.operator_answered_at.expect("200 took it"), record.answered_at.expect("answered"));
    assert_eq!(answers.1.nanos_since(answers.0), 20_000_000);
    hears(played.only(), (1, 2), talks, ended);
}

#[test]
fn an_outbound_call_has_our_side_on_the_left() {
    let mut office = Office::new();
    let Office { scene, outside, pbx, e200, .. } = &mut office;
    let a = scene.leg(e200, pbx, ["200", OUTSIDE]);
    let b = scene.leg(pbx, outside, [DID, OUTSIDE]);
    scene.connect_via(a, b, 1_000);
    let [talks, ended] = scene.bridge_until_bye(a, b, 2_000, Side::Caller);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!(
        (record.direction, record.from.as_deref(), record.to.as_deref()),
        (CallDirection::Outbound, Some("200"), Some(OUTSIDE))
    );
    assert_eq!(record.internal.as_deref(), Some("200"));
    let rendered: Vec<bool> = record.legs.iter().map(|l| l.rendered).collect();
    assert_eq!(rendered, [false, true], "the anchor is the trunk's leg");
    hears(played.only(), (2, 1), talks, ended);
}

#[test]
fn another_leg_is_rendered_when_the_anchor_has_no_media() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let scene = &mut office.scene;
    let talks = scene.now();
    scene.sound(&[(1, b, Side::Caller), (2, b, Side::Callee)], 3_000);
    let ended = scene.bye_all(&[a, b], Side::Caller);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!(record.legs.iter().map(|l| l.rendered).collect::<Vec<_>>(), [false, true]);
    assert_eq!(record.verdict, Some(CallVerdict::BothSides));
    let reason = record.verdict_reason.as_deref().expect("a reason");
    assert!(reason.contains("another leg"), "{reason}");
    hears(played.only(), (1, 2), talks, ended);
}

#[test]
fn of_a_ring_group_the_extension_that_answers_is_named() {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene = &mut office.scene;
    scene.invite(a);
    scene.invite(b);
    scene.invite(c);
    scene.ring(b);
    scene.ring(c);
    scene.wait(2_000);
    scene.answer(c);
    scene.cancel(b);
    scene.answer(a);
    let talks = scene.now();
    scene.bridge(a, c, 2_000);
    let ended = scene.bye_all(&[c, a], Side::Callee);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!((record.internal.as_deref(), record.outcome), (Some("201"), CallOutcome::Answered));
    assert_eq!(record.legs.len(), 3);
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn a_queue_rings_its_operator_long_after_it_answered_the_caller() {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene = &mut office.scene;
    let answered = scene.connect(a);
    let waits = scene.now();
    scene.sound(&[(MUSIC, a, Side::Callee), (1, a, Side::Caller)], 10_000);
    // Extension 200 rings for three seconds without an answer. Then 201 rings and answers.
    scene.invite_and_ring(b);
    scene.sound(&[(MUSIC, a, Side::Callee), (1, a, Side::Caller)], 3_000);
    scene.cancel(b);
    scene.invite_and_ring(c);
    scene.sound(&[(MUSIC, a, Side::Callee), (1, a, Side::Caller)], 1_000);
    let taken = scene.answer(c);
    let [talks, ended] = scene.bridge_until_bye(a, c, 3_000, Side::Caller);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!(
        (record.internal.as_deref(), record.outcome, record.legs.len()),
        (Some("201"), CallOutcome::Answered, 3)
    );
    assert_eq!((record.answered_at, record.operator_answered_at), (Some(at(answered)), Some(at(taken))));
    // Music that the caller hears while waiting is part of the recording.
    hears(played.only(), (1, MUSIC), waits, waits + 10_000);
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn a_caller_who_gives_up_while_the_queue_rings_is_abandoned() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let scene = &mut office.scene;
    scene.connect(a);
    scene.sound(&[(MUSIC, a, Side::Callee)], 2_000);
    scene.invite_and_ring(b);
    scene.sound(&[(MUSIC, a, Side::Callee)], 2_000);
    scene.bye(a, Side::Caller);
    scene.cancel(b);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!((record.outcome, record.operator_answered_at), (CallOutcome::Abandoned, None));
    assert_eq!((record.direction, record.ended_by), (CallDirection::Inbound, Some(EndedBy::Caller)));
    assert!(record.answered_at.is_some(), "the PBX answered");
}

#[test]
fn two_callers_who_wait_in_one_queue_get_their_own_operators() {
    let mut office = Office::new();
    let mut second = ScenePhone::new("+79990000777", 4);
    let (a, b) = (office.inbound(), office.rings_200());
    let scene = &mut office.scene;
    let x = scene.leg(&mut second, &mut office.pbx, ["+79990000777", DID]);
    let y = scene.leg(&mut office.pbx, &mut office.e201, ["+79990000777", "201"]);
    scene.connect(a);
    scene.connect(x);
    scene.wait(20_000);
    // The second caller reaches an extension first.
    scene.invite(y);
    scene.answer(y);
    scene.invite(b);
    scene.answer(b);
    let talks = scene.now();
    let voices = [(1, a, Side::Caller), (2, a, Side::Callee), (4, x, Side::Caller), (3, x, Side::Callee)];
    scene.sound(&voices, 2_000);
    let ended = scene.now();
    scene.bye_all(&[a, b, x, y], Side::Caller);
    let played = play(scene);
    let [one, two] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    assert_eq!((one.record.internal.as_deref(), two.record.internal.as_deref()), (Some("200"), Some("201")));
    hears(one, (1, 2), talks, ended);
    hears(two, (4, 3), talks, ended);
}

#[test]
fn click_to_call_is_outbound_and_the_extension_is_the_caller() {
    let mut office = Office::new();
    let Office { scene, outside, pbx, e200, .. } = &mut office;
    // The PBX rings the extension first. The caller's number of this leg is the number that the PBX will call next.
    let a = scene.leg(pbx, e200, [OUTSIDE, "200"]);
    let b = scene.leg(pbx, outside, ["200", OUTSIDE]);
    scene.invite_and_ring(a);
    scene.wait(1_500);
    scene.answer(a);
    scene.wait(100);
    scene.invite_and_ring(b);
    scene.wait(2_000);
    let answered = scene.answer(b);
    let talks = scene.now();
    let voices = [(1, a, Side::Caller), (2, a, Side::Callee), (2, b, Side::Caller), (1, b, Side::Callee)];
    scene.sound(&voices, 2_000);
    let ended = scene.bye(b, Side::Callee);
    scene.bye(a, Side::Caller);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!((record.direction, record.outcome), (CallDirection::Outbound, CallOutcome::Answered));
    assert_eq!(
        (record.from.as_deref(), record.to.as_deref(), record.internal.as_deref()),
        (Some("200"), Some(OUTSIDE), Some("200"))
    );
    assert_eq!((record.answered_at, record.ended_by), (Some(at(answered)), Some(EndedBy::Callee)));
    hears(played.only(), (2, 1), talks, ended);
}

/// Plays two simultaneous calls between the same numbers through one PBX. Returns for each call the Call-IDs of its
/// legs, and its extension.
fn parallel(interleaved: bool) -> Vec<(Vec<String>, Option<String>)> {
    let mut office = Office::new();
    let (a1, a2) = (office.inbound(), office.inbound());
    let (b1, b2) = (office.rings_200(), office.rings_200());
    let scene = &mut office.scene;
    let order = if interleaved { [a1, a2, b1, b2] } else { [a1, b1, a2, b2] };
    for leg in order {
        scene.invite(leg);
    }
    for leg in [b1, a1, b2, a2] {
        scene.answer(leg);
    }
    scene.bridge(a1, b1, 1_000);
    scene.bridge(a2, b2, 1_000);
    scene.bye_all(&[a1, b1, a2, b2], Side::Caller);
    let played = play(scene);
    let of = |c: &crate::support::playback::PlayedCall| {
        (c.record.legs.iter().map(|l| l.sip_call_id.clone()).collect(), c.record.internal.clone())
    };
    played.calls.iter().map(of).collect()
}

#[test]
fn simultaneous_calls_between_the_same_numbers_are_never_merged() {
    // Call-IDs in the order in which the legs were created: 0 is a1, 1 is a2, 2 is b1, 3 is b2.
    let calls = parallel(false);
    let legs: Vec<Vec<&str>> = calls.iter().map(|(legs, _)| legs.iter().map(String::as_str).collect()).collect();
    assert_eq!(legs, [["call-0@scene", "call-2@scene"], ["call-1@scene", "call-3@scene"]]);
    // No call may have legs of two callers. So a leg that could belong to either call becomes a call of its own.
    let calls = parallel(true);
    assert_eq!(calls.iter().map(|(legs, _)| legs.len()).sum::<usize>(), 4, "{calls:?}");
    assert_eq!(calls.len(), 4, "{calls:?}");
    for (legs, _) in calls {
        let callers = legs.iter().filter(|id| ["call-0@scene", "call-1@scene"].contains(&id.as_str())).count();
        assert!(callers <= 1, "{legs:?}");
    }
}

#[test]
fn changed_numbers_need_a_correlation_header_or_session_id() {
    for (header, config) in [
        ("X-Call-Key: abc-1", Config { correlation_headers: vec!["X-Call-Key".to_owned()], ..Config::default() }),
        ("Session-ID: ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000", Config::default()),
    ] {
        for with_header in [true, false] {
            let mut office = Office::new();
            let a = office.inbound();
            let b = office.scene.leg(&mut office.pbx, &mut office.e200, ["5551234", "200"]);
            let scene = &mut office.scene;
            if with_header {
                scene.at(a).headers.push(header.to_owned());
                scene.at(b).headers.push(header.to_owned());
            }
            scene.connect_via(a, b, 1_000);
            scene.bridge(a, b, 1_000);
            scene.bye_all(&[a, b], Side::Caller);
            let played = play_with(scene, config.clone());
            if with_header {
                let record = &played.only().record;
                assert_eq!((record.from.as_deref(), record.internal.as_deref()), (Some(OUTSIDE), Some("200")));
            } else {
                assert_eq!(played.calls.len(), 2, "nothing says that they are one call");
            }
        }
    }
}

#[test]
fn unchanged_media_correlates_legs_whatever_the_numbers() {
    let mut office = Office::new();
    let a = office.inbound();
    let b = office.scene.leg(&mut office.pbx, &mut office.e200, ["5551234", "200"]);
    let scene = &mut office.scene;
    // The PBX forwards the session descriptions: both legs announce the addresses of the two telephones.
    let media = [scene.get(a).media[0], scene.get(b).media[1]];
    (scene.at(a).media, scene.at(b).media) = (media, media);
    scene.invite(a);
    scene.invite(b);
    scene.answer(b);
    scene.answer(a);
    let talks = scene.now();
    scene.at(a).voices[1] = 2;
    scene.talk(a, 2_000);
    let ended = scene.bye_all(&[a, b], Side::Caller);
    let played = play(scene);
    let rules: Vec<_> = played.only().record.legs.iter().map(|leg| leg.joined_by).collect();
    assert_eq!(rules, [None, Some(CorrelationRule::MediaAddress)]);
    hears(played.only(), (1, 2), talks, ended);
}

#[test]
fn a_message_seen_at_both_sides_of_a_proxy_is_one_call() {
    let mut scene = Scene::new();
    let (mut a, mut b) = (ScenePhone::new("100", 1), ScenePhone::new("200", 2));
    let call = scene.dialog(&mut a, &mut b);
    let proxy = ScenePhone::new("", 9).sip;
    // The same dialog is captured at a second hop, 5 ms later.
    scene.connect(call);
    let talks = scene.now();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    let mut packets = Vec::new();
    for packet in scene.packets() {
        if packet.payload.starts_with(&[0x80]) {
            packets.push(packet);
            continue;
        }
        let (mut first, mut second) = (packet.clone(), packet);
        first.dst = proxy;
        second.src = proxy;
        second.at = second.at.offset(5_000_000);
        packets.extend([first, second]);
    }
    packets.sort_by_key(|p| p.at);
    let played = play_packets(&packets, scene.now(), Config::default());
    assert_eq!(played.only().record.legs.len(), 2);
    hears(played.only(), (1, 2), talks, ended);
    assert_eq!(played.only().record.ended_at, Some(at(ended)));
}

#[test]
fn a_directed_pick_up_names_the_extension_that_took_the_call() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let Office { scene, pbx, e201, .. } = &mut office;
    scene.ring_through(a, b);
    scene.wait(2_000);
    // 201 replaces the dialog that rings 200 (Replaces with early-only, RFC 3891).
    let c = scene.leg(e201, pbx, ["201", "200"]);
    let [from, to] = scene.get(b).tags.clone();
    let replaces = format!("Replaces: {};to-tag={to};from-tag={from};early-only", scene.get(b).call_id);
    scene.at(c).headers.push(replaces);
    scene.invite(c);
    let taken = scene.answer(c);
    scene.cancel(b);
    scene.answer(a);
    let talks = scene.now();
    scene.sound(&[(1, a, Side::Caller), (3, a, Side::Callee), (3, c, Side::Caller), (1, c, Side::Callee)], 2_000);
    let ended = scene.bye(a, Side::Caller);
    scene.bye(c, Side::Callee);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!((record.internal.as_deref(), record.outcome), (Some("201"), CallOutcome::Answered));
    assert_eq!((record.from.as_deref(), record.direction), (Some(OUTSIDE), CallDirection::Inbound));
    assert_eq!(record.operator_answered_at, Some(at(taken)));
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn a_leg_after_both_calls_were_announced_is_only_related() {
    let mut office = Office::new();
    let Office { scene, outside, pbx, e200, e201 } = &mut office;
    let a = scene.leg(outside, pbx, [OUTSIDE, DID]);
    let b = scene.leg(pbx, e200, ["5551234", "200"]);
    scene.connect(a);
    scene.connect(b);
    scene.wait(1_000);
    // Both calls were announced. Now the PBX connects their media directly: a re-INVITE announces the other telephone's
    // address.
    let phone = scene.get(b).media[1];
    scene.at(a).media[1] = phone;
    scene.renegotiate(a, Side::Callee, "INVITE", (&[], &[]));
    scene.wait(500);
    let _ = e201;
    scene.bye_all(&[a, b], Side::Caller);
    let played = play(scene);
    let [one, two] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    assert_eq!(
        (&one.record.related, &two.record.related),
        (&vec![two.record.id.clone()], &vec![one.record.id.clone()])
    );
}

#[test]
fn with_header_is_a_message_of_its_own() {
    // Tests the scenario builder: a header for one message is not in the next message.
    let mut scene = Scene::new();
    let (mut a, mut b) = (ScenePhone::new("100", 1), ScenePhone::new("200", 2));
    let call = scene.dialog(&mut a, &mut b);
    scene.request(call, Side::Caller, "INVITE", &[MessageChange::Header("X-Once: 1")]);
    scene.ring(call);
    let texts: Vec<String> = scene.packets().iter().map(|p| String::from_utf8_lossy(&p.payload).into_owned()).collect();
    assert!(texts[0].contains("X-Once: 1\r\n") && !texts[1].contains("X-Once"));
}

/// Returns the packets in a changed order: the INVITE of a leg is captured `late_ms` later, but keeps its timestamp.
pub(super) fn with_late_invite(scene: &Scene, leg: DialogId, late_ms: i64) -> Vec<ScenePacket> {
    let call_id = format!("Call-ID: {}\r\n", scene.get(leg).call_id);
    let (there, mut packets) = (scene.get(leg).sip[1], scene.packets());
    let is_it = |p: &ScenePacket| {
        p.payload.starts_with(b"INVITE ") && p.dst == there && String::from_utf8_lossy(&p.payload).contains(&call_id)
    };
    // The sort is stable, so all other packets stay in order. Every packet keeps its timestamp.
    packets.sort_by_key(|p| p.at.offset(if is_it(p) { late_ms * 1_000_000 } else { 0 }));
    packets
}

#[test]
fn a_refused_trunk_leg_seen_before_its_call_belongs_to_it() {
    let mut office = Office::new();
    let [a, first] = office.outbound();
    let mut other = ScenePhone::new(OUTSIDE, 6);
    let second = office.scene.leg(&mut office.pbx, &mut other, [DID, OUTSIDE]);
    let scene = &mut office.scene;
    scene.invite(a);
    scene.invite(first);
    scene.refuse(first, 503, &[]);
    scene.wait(60);
    scene.connect(second);
    scene.answer(a);
    let [talks, ended] = scene.bridge_until_bye(a, second, 1_000, Side::Caller);
    // The INVITE is 75 ms late: after the refusal (at 40 ms) and before the INVITE to the second trunk.
    let played = play_packets(&with_late_invite(scene, a, 75), scene.now(), Config::default());
    assert_eq!(played.only().record.legs.len(), 3);
    hears(played.only(), (2, 6), talks, ended);
}

#[test]
fn an_invite_seen_after_the_answer_elsewhere_belongs_to_the_call() {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene = &mut office.scene;
    for leg in [a, b] {
        scene.invite_and_ring(leg);
    }
    scene.wait(5_000);
    // The responses to the INVITE are late, too.
    scene.invite(c);
    scene.answer(b);
    scene.wait(60);
    scene.cancel(c);
    scene.answer(a);
    let [talks, ended] = scene.bridge_until_bye(a, b, 1_000, Side::Caller);
    let played = play_packets(&with_late_invite(scene, c, 75), scene.now(), Config::default());
    assert_eq!((played.only().record.legs.len(), played.only().record.internal.as_deref()), (3, Some("200")));
    hears(played.only(), (1, 2), talks, ended);
}

#[test]
fn an_answer_before_its_invite_is_not_another_forks_answer() {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene = &mut office.scene;
    // A proxy forks the call, so one dialog has three hops.
    let caller = scene.get(a).clone();
    for leg in [b, c] {
        let dialog = scene.at(leg);
        (dialog.call_id, dialog.tags[0]) = (caller.call_id.clone(), caller.tags[0].clone());
        dialog.request_user = std::mem::replace(&mut dialog.users[1], DID.to_owned());
        dialog.media[0] = caller.media[0];
    }
    let taken = scene.get(c).clone();
    (scene.at(a).media[1], scene.at(a).tags[1]) = (taken.media[1], taken.tags[1].clone());
    scene.at(a).voices[1] = 3;
    for leg in [a, b, c] {
        scene.invite(leg);
    }
    let answered = scene.answer(c);
    scene.answer(a);
    scene.wait(60);
    scene.cancel(b);
    let talks = scene.now();
    scene.talk(a, 1_000);
    let ended = scene.bye_all(&[a, c], Side::Caller);
    let played = play_packets(&with_late_invite(scene, c, 75), scene.now(), Config::default());
    let record = &played.only().record;
    assert_eq!((record.internal.as_deref(), record.operator_answered_at), (Some("201"), Some(at(answered))));
    let answers: Vec<bool> = record.legs.iter().map(|l| l.answered_at.is_some()).collect();
    assert_eq!(answers, [true, false, true], "200 answered nobody");
    hears(played.only(), (1, 3), talks, ended);
}
