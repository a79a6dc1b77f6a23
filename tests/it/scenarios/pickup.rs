//! Tests of calls that reach another telephone without REFER and Replaces: by feature codes, directed pickup, or a
//! re-INVITE by the PBX. Also tests calls that the PBX begins.

use callspan::call::record::{CallDirection, CallOutcome, EndedBy, Side};

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::{ConsultationOnHold, DID, MUSIC, OUTSIDE, Office, call_of, related};
use crate::support::playback::play;
use crate::support::scenario::{DialogId, MessageChange, Scene, ScenePhone, at};

#[test]
fn a_feature_code_transfer_stays_one_call_in_either_order() {
    for invite_first in [false, true] {
        let mut office = Office::new();
        let (a, b) = office.connected();
        let c = office.rings_201();
        let scene = &mut office.scene;
        let talks = scene.now();
        scene.bridge(a, b, 2_000);
        let transferred = scene.now();
        if invite_first {
            scene.invite(c);
            scene.bye(b, Side::Caller);
        } else {
            scene.bye(b, Side::Caller);
            scene.invite(c);
        }
        scene.ring(c);
        scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 1_000);
        scene.answer(c);
        let [taken, ended] = scene.bridge_until_bye(a, c, 2_000, Side::Caller);
        let played = play(scene);
        let record = &played.only().record;
        assert_eq!((record.legs.len(), record.outcome), (3, CallOutcome::Answered), "{invite_first}");
        assert!(record.related.is_empty(), "no call is related to itself");
        hears(played.only(), (1, 2), talks, transferred);
        hears(played.only(), (1, 3), taken, ended);
    }
}

#[test]
fn a_leg_for_a_caller_still_talking_is_a_related_call() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let c = office.rings_201();
    let scene = &mut office.scene;
    scene.bridge(a, b, 1_000);
    scene.invite(c);
    scene.answer(c);
    // In the time that correlation considers, no leg ends. So this leg could also be a second call from the same number
    // with a trunk leg that was not captured.
    let both = [(1, a, Side::Caller), (2, a, Side::Callee), (4, c, Side::Caller), (3, c, Side::Callee)];
    scene.sound(&both, 3_000);
    scene.bye_all(&[c, a], Side::Caller);
    scene.bye(b, Side::Caller);
    let played = play(scene);
    let (one, two) = (call_of(&played, scene, a), call_of(&played, scene, c));
    assert_eq!(one.record.legs.len(), 2);
    assert!(related(&one.record, &two.record));
}

#[test]
fn a_consultation_by_feature_code_is_related_to_its_call() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let Office { scene, pbx, e201, .. } = &mut office;
    scene.bridge(a, b, 2_000);
    // 200 dials a feature code on the same leg. The PBX then calls 201 with the number of 200 as the caller.
    let c = scene.leg(pbx, e201, ["200", "201"]);
    scene.at(c).voices[0] = 2;
    scene.invite_and_ring(c);
    scene.sound(&[(MUSIC, a, Side::Callee), (2, b, Side::Callee)], 1_000);
    scene.answer(c);
    let consults = scene.now();
    scene.sound(&[(2, b, Side::Callee), (3, b, Side::Caller), (2, c, Side::Caller), (3, c, Side::Callee)], 1_000);
    scene.bye(b, Side::Callee);
    let taken = scene.now();
    scene.sound(&[(1, a, Side::Caller), (3, a, Side::Callee), (1, c, Side::Caller), (3, c, Side::Callee)], 8_000);
    let ended = scene.bye_all(&[a, c], Side::Caller);
    let played = play(scene);
    assert_eq!(played.calls.len(), 2);
    let (one, two) = (call_of(&played, scene, a), call_of(&played, scene, c));
    assert!(related(&one.record, &two.record));
    hears(one, (1, 3), taken, ended);
    hears(two, (2, 3), consults, consults + 1_000);
}

#[test]
fn a_transfer_by_reinvite_is_one_call_and_a_consultation() {
    let mut office = Office::new();
    // 200 consults 201 through the PBX and transfers the call by a key of its telephone. There is no REFER, so only the
    // PBX's messages show the transfer.
    let consultation = office.consultation_on_hold();
    let ConsultationOnHold { a, b, c, d, .. } = consultation;
    let scene = &mut office.scene;
    scene.bye(b, Side::Caller);
    scene.bye(c, Side::Callee);
    // The PBX sends a re-INVITE to each side with the other side's address. To the trunk it announces another port of
    // its own.
    let offer = scene.sdp(d, Side::Caller, &[]);
    let identity = format!("P-Asserted-Identity: <sip:{OUTSIDE}@10.0.0.9>");
    scene.request(d, Side::Caller, "INVITE", &[MessageChange::Sdp(offer), MessageChange::Header(&identity)]);
    let answer = scene.sdp(d, Side::Callee, &[]);
    scene.response(d, Side::Callee, (200, "INVITE"), &[MessageChange::Sdp(answer)]);
    scene.request(d, Side::Caller, "ACK", &[]);
    let moved = scene.get(a).media[1];
    scene.at(a).media[1] = moved.with_port(moved.port() + 500);
    scene.renegotiate(a, Side::Callee, "INVITE", (&[], &[]));
    let taken = scene.now();
    scene.sound(&[(1, a, Side::Caller), (3, a, Side::Callee), (1, d, Side::Caller), (3, d, Side::Callee)], 8_000);
    let ended = scene.bye_all(&[a, d], Side::Caller);
    let played = play(scene);
    consultation.assert_transferred(&played, scene, (taken, ended));
}

#[test]
fn an_inbound_call_with_direct_media_is_recorded_to_its_end() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let scene = &mut office.scene;
    let talks = scene.now();
    scene.bridge(a, b, 2_000);
    // The PBX announces the address of each party to the other party.
    let [ours, theirs] = [scene.get(b).media[1], scene.get(a).media[0]];
    scene.at(a).media[1] = ours;
    scene.renegotiate(a, Side::Callee, "INVITE", (&[], &[]));
    scene.at(b).media[0] = theirs;
    scene.renegotiate(b, Side::Caller, "INVITE", (&[], &[]));
    let direct = scene.now();
    scene.rtp(&[(1, (theirs, ours)), (2, (ours, theirs))], 3_000);
    let ended = scene.bye_all(&[a, b], Side::Caller);
    let played = play(scene);
    hears(played.only(), (1, 2), talks, talks + 2_000);
    hears(played.only(), (1, 2), direct, ended);
    assert_eq!(played.only().record.legs.len(), 2);
}

#[test]
fn a_directed_pickup_names_the_answering_extension_and_is_related() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let Office { scene, pbx, e201, .. } = &mut office;
    scene.ring_through(a, b);
    scene.wait(3_000);
    let c = scene.leg(e201, pbx, ["201", "*8200"]);
    scene.invite(c);
    scene.answer(c);
    scene.answer(a);
    scene.request(
        b,
        Side::Caller,
        "CANCEL",
        &[MessageChange::Header("Reason: SIP;cause=200;text=\"Call completed elsewhere\"")],
    );
    scene.response(b, Side::Callee, (200, "CANCEL"), &[]);
    scene.refuse(b, 487, &[]);
    let talks = scene.now();
    scene.sound(&[(1, a, Side::Caller), (3, a, Side::Callee), (3, c, Side::Caller), (1, c, Side::Callee)], 3_000);
    let ended = scene.bye(a, Side::Caller);
    scene.bye(c, Side::Callee);
    let played = play(scene);
    assert_eq!(played.calls.len(), 2);
    let (one, two) = (call_of(&played, scene, a), call_of(&played, scene, c));
    assert_eq!((one.record.internal.as_deref(), one.record.outcome), (Some("201"), CallOutcome::Answered));
    assert_eq!((two.record.direction, two.record.internal.as_deref()), (CallDirection::Internal, Some("201")));
    hears(one, (1, 3), talks, ended);
    assert!(related(&one.record, &two.record));
}

/// Other customers of the hosted PBX have the same extension, at other hosts.
#[test]
fn a_directed_pickup_is_found_beside_many_equal_extensions() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let Office { scene, pbx, e201, .. } = &mut office;
    let (mut other_pbx, mut other_200) = (ScenePhone::new(DID, 40), ScenePhone::new("200", 41));
    let mut ring_others = |scene: &mut Scene| {
        for n in 0..70 {
            let d = scene.leg(&mut other_pbx, &mut other_200, [&format!("+7999000{n:04}"), "200"]);
            scene.invite_and_ring(d);
        }
    };
    ring_others(scene);
    scene.ring_through(a, b);
    ring_others(scene);
    scene.wait(1_000);
    let c = scene.leg(e201, pbx, ["201", "*8200"]);
    scene.invite(c);
    scene.answer(c);
    // Only the code shows whom 201 picks up, because the mirror misses that the caller is answered.
    scene.sound(&[(3, c, Side::Caller), (1, c, Side::Callee)], 6_000);
    scene.bye(c, Side::Caller);
    scene.cancel(b);
    scene.cancel(a);
    let played = play(scene);
    assert!(related(&call_of(&played, scene, a).record, &call_of(&played, scene, c).record));
}

#[test]
fn a_code_that_could_mean_two_ringing_calls_is_related_to_both() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let Office { scene, pbx, e200, e201, .. } = &mut office;
    let mut second = ScenePhone::new("+79990000777", 4);
    let x = scene.leg(&mut second, pbx, ["+79990000777", DID]);
    let y = scene.leg(pbx, e200, ["+79990000777", "200"]);
    for (trunk, phone) in [(a, b), (x, y)] {
        scene.invite(trunk);
        scene.invite_and_ring(phone);
        scene.wait(1_000);
    }
    let c = scene.leg(e201, pbx, ["201", "*8200"]);
    scene.invite(c);
    scene.answer(c);
    scene.wait(1_000);
    scene.bye(c, Side::Caller);
    for leg in [a, b, x, y] {
        scene.cancel(leg);
    }
    let played = play(scene);
    assert_eq!(played.calls.len(), 3);
    let picked = call_of(&played, scene, c);
    for leg in [a, x] {
        assert!(related(&call_of(&played, scene, leg).record, &picked.record));
    }
}

/// Plays a call that rings 200 while 201 dials `code`. The PBX answers 201, and then `after` adds messages. Returns the
/// scene, the three legs, and the ms at which they talk.
fn code_while_it_rings(code: &str, after: fn(&mut Scene, [DialogId; 3])) -> (Scene, [DialogId; 3], i64) {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let Office { mut scene, mut pbx, mut e201, .. } = office;
    for leg in [a, b] {
        scene.invite_and_ring(leg);
    }
    scene.wait(3_000);
    let c = scene.leg(&mut e201, &mut pbx, ["201", code]);
    scene.invite(c);
    scene.answer(c);
    after(&mut scene, [a, b, c]);
    let talks = scene.now();
    scene.sound(&[(1, a, Side::Caller), (3, a, Side::Callee), (3, c, Side::Caller), (1, c, Side::Callee)], 3_000);
    scene.bye(a, Side::Caller);
    scene.bye(c, Side::Callee);
    (scene, [a, b, c], talks)
}

#[test]
fn a_group_pickup_is_related_to_the_call_it_answers() {
    let (scene, [a, _, c], talks) = code_while_it_rings("*8", |scene, [a, b, _]| {
        scene.answer(a);
        scene.cancel(b);
    });
    // Until the pickup there are INVITE, 100 and 180 on two legs, 10 ms each. Then 3 s pass, and INVITE and 100 of the
    // code follow.
    let taken = 6 * 10 + 3_000 + 2 * 10;
    let played = play(&scene);
    assert_eq!(played.calls.len(), 2);
    let (one, two) = (call_of(&played, &scene, a), call_of(&played, &scene, c));
    assert!(related(&one.record, &two.record));
    // The PBX does not tell the telephone of 200 why it must stop ringing.
    assert_eq!((one.record.outcome, one.record.internal.as_deref()), (CallOutcome::Answered, Some("201")));
    assert_eq!(one.record.operator_answered_at, Some(at(taken)));
    hears(one, (1, 3), talks, talks + 3_000);
}

#[test]
fn a_group_pickup_is_related_to_a_queued_call_completed_elsewhere() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let Office { scene, pbx, e201, .. } = &mut office;
    scene.connect(a);
    scene.wait(5_000);
    scene.invite_and_ring(b);
    scene.wait(2_000);
    let c = scene.leg(e201, pbx, ["201", "*8"]);
    scene.invite(c);
    scene.answer(c);
    let elsewhere = MessageChange::Header("Reason: SIP;cause=200;text=\"Call completed elsewhere\"");
    scene.request(b, Side::Caller, "CANCEL", &[elsewhere]);
    scene.response(b, Side::Callee, (200, "CANCEL"), &[]);
    scene.refuse(b, 487, &[]);
    scene.wait(3_000);
    scene.bye(a, Side::Caller);
    scene.bye(c, Side::Callee);
    let played = play(scene);
    assert!(related(&call_of(&played, scene, a).record, &call_of(&played, scene, c).record));
    assert_eq!(call_of(&played, scene, a).record.outcome, CallOutcome::Answered);
}

#[test]
fn a_pickup_code_is_unrelated_to_calls_it_does_not_answer() {
    // The code is that of the mailbox, or of a pickup that came too late.
    let cases: [fn(&mut Scene, [DialogId; 3]); 2] = [
        |scene, [a, b, _]| {
            scene.wait(2_500);
            scene.answer(b);
            scene.answer(a);
        },
        |scene, [a, b, _]| {
            scene.answer(b);
            scene.answer(a);
        },
    ];
    for after in cases {
        let (scene, [a, b, c], _) = code_while_it_rings("*97", after);
        let played = play(&scene);
        let one = &call_of(&played, &scene, a).record;
        assert_eq!((one.internal.as_deref(), one.legs.len()), (Some("200"), 2), "{b:?}");
        assert!(one.related.is_empty() && call_of(&played, &scene, c).record.related.is_empty());
    }
}

#[test]
fn a_group_pickup_takes_the_answered_one_of_two_calls() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let Office { scene, pbx, e201, .. } = &mut office;
    let (mut second, mut e202) = (ScenePhone::new("+79990000777", 4), ScenePhone::new("202", 6));
    let x = scene.leg(&mut second, pbx, ["+79990000777", DID]);
    let y = scene.leg(pbx, &mut e202, ["+79990000777", "202"]);
    for leg in [a, b, x, y] {
        scene.invite_and_ring(leg);
    }
    scene.wait(1_000);
    let c = scene.leg(e201, pbx, ["201", "*8"]);
    scene.invite(c);
    scene.answer(c);
    scene.answer(x);
    scene.cancel(y);
    scene.wait(5_000);
    scene.bye_all(&[x, c], Side::Caller);
    for leg in [b, a] {
        scene.cancel(leg);
    }
    let played = play(scene);
    let [one, two, picked] = [a, x, c].map(|leg| &call_of(&played, scene, leg).record);
    assert!(related(two, picked));
    assert!(one.related.is_empty());
}

#[test]
fn a_slow_feature_code_transfer_is_related_to_the_first_call() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let c = office.rings_201();
    let scene = &mut office.scene;
    let talks = scene.now();
    scene.bridge(a, b, 2_000);
    // The PBX rings 201 with the caller's number. It ends the leg of 200 only after 201 has answered.
    scene.invite_and_ring(c);
    scene.bridge(a, b, 2_000);
    scene.answer(c);
    scene.bye(b, Side::Caller);
    let [taken, ended] = scene.bridge_until_bye(a, c, 8_000, Side::Caller);
    let played = play(scene);
    assert_eq!(played.calls.len(), 2);
    let (one, two) = (call_of(&played, scene, a), call_of(&played, scene, c));
    assert!(related(&one.record, &two.record));
    hears(one, (1, 2), talks, talks + 2_000);
    hears(one, (1, 3), taken, ended);
    hears(two, (1, 3), taken, ended);
}

#[test]
fn an_outside_party_that_was_called_is_transferred_in_the_same_call() {
    let mut office = Office::new();
    let [a, b] = office.outbound();
    let c = office.rings_201();
    let scene = &mut office.scene;
    scene.register(&office.e201, &office.pbx);
    scene.ring_through(a, b);
    scene.wait(500);
    let answered = scene.answer(b);
    scene.answer(a);
    let talks = scene.now();
    scene.bridge(a, b, 2_000);
    let referred = scene.now();
    scene.refer(a, Side::Caller, "<sip:201@10.0.0.9>");
    scene.bye(a, Side::Callee);
    scene.invite_and_ring(c);
    scene.wait(1_000);
    scene.answer(c);
    let taken = scene.now();
    scene.sound(&[(1, b, Side::Callee), (3, b, Side::Caller), (1, c, Side::Caller), (3, c, Side::Callee)], 10_000);
    let ended = scene.bye(b, Side::Callee);
    scene.bye(c, Side::Caller);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!((record.direction, record.internal.as_deref()), (CallDirection::Outbound, Some("200")));
    assert_eq!((record.answered_at, record.operator_answered_at), (Some(at(answered)), Some(at(answered))));
    assert_eq!((record.ended_at, record.ended_by), (Some(at(ended)), Some(EndedBy::Callee)));
    hears(played.only(), (2, 1), talks, referred);
    hears(played.only(), (3, 1), taken, ended);
}

/// Makes a scene of click-to-call. The PBX calls 200 with the caller's number `from`. Then it calls the outside party
/// for 200.
fn click_to_call(from: &str) -> (Scene, [i64; 3]) {
    let mut office = Office::new();
    let Office { scene, outside, pbx, e200, .. } = &mut office;
    let a = scene.leg(pbx, e200, [from, "200"]);
    let b = scene.leg(pbx, outside, [DID, OUTSIDE]);
    scene.invite_and_ring(a);
    scene.wait(2_000);
    scene.answer(a);
    scene.wait(200);
    scene.invite_and_ring(b);
    scene.wait(3_000);
    let answered = scene.answer(b);
    let talks = scene.now();
    let voices = [(1, a, Side::Caller), (2, a, Side::Callee), (2, b, Side::Caller), (1, b, Side::Callee)];
    scene.sound(&voices, 3_000);
    let ended = scene.bye(b, Side::Callee);
    scene.bye(a, Side::Caller);
    (office.scene, [answered, talks, ended])
}

#[test]
fn click_to_call_is_known_whatever_name_the_extension_is_called_under() {
    // The caller's number that 200 sees: the number to be called, the extension itself, or a word.
    for from in [OUTSIDE, "200", "callback"] {
        let (scene, [answered, talks, ended]) = click_to_call(from);
        let played = play(&scene);
        let record = &played.only().record;
        assert_eq!((record.direction, record.outcome), (CallDirection::Outbound, CallOutcome::Answered), "{from}");
        assert_eq!(
            (record.from.as_deref(), record.to.as_deref(), record.internal.as_deref()),
            (Some("200"), Some(OUTSIDE), Some("200"))
        );
        assert_eq!(record.answered_at, Some(at(answered)));
        hears(played.only(), (2, 1), talks, ended);
    }
}

/// 201 was busy before. When it is free, the PBX calls 200 back, and then 201.
#[test]
fn a_callback_between_two_extensions_is_internal() {
    for is_answered in [true, false] {
        let mut office = Office::new();
        let Office { scene, pbx, e200, e201, .. } = &mut office;
        let a = scene.leg(pbx, e200, ["201", "200"]);
        let b = scene.leg(pbx, e201, ["200", "201"]);
        scene.connect(a);
        scene.wait(50);
        scene.invite_and_ring(b);
        scene.sound(&[(MUSIC, a, Side::Caller)], 2_000);
        let wanted = if is_answered { CallOutcome::Answered } else { CallOutcome::Busy };
        if is_answered {
            let answered = scene.answer(b);
            let talks = scene.now();
            let voices = [(3, a, Side::Caller), (2, a, Side::Callee), (2, b, Side::Caller), (3, b, Side::Callee)];
            scene.sound(&voices, 3_000);
            let ended = scene.bye(b, Side::Callee);
            scene.bye(a, Side::Caller);
            let played = play(scene);
            hears(played.only(), (2, 3), talks, ended);
            assert_eq!(played.only().record.operator_answered_at, Some(at(answered)));
        } else {
            scene.refuse(b, 486, &[]);
            scene.bye(a, Side::Caller);
        }
        let played = play(scene);
        let record = &played.only().record;
        assert_eq!((record.direction, record.outcome), (CallDirection::Internal, wanted));
        let numbers = [&record.from, &record.to, &record.internal].map(|number| number.as_deref());
        assert_eq!(numbers, [Some("200"), Some("201"), Some("201")]);
    }
}

#[test]
fn a_click_to_call_whose_far_end_is_busy_was_not_answered() {
    for from in [OUTSIDE, "200", "callback"] {
        let mut office = Office::new();
        let Office { scene, outside, pbx, e200, .. } = &mut office;
        let a = scene.leg(pbx, e200, [from, "200"]);
        let b = scene.leg(pbx, outside, [DID, OUTSIDE]);
        scene.connect(a);
        scene.invite(b);
        scene.refuse(b, 486, &[]);
        scene.bye(a, Side::Caller);
        let played = play(scene);
        assert_eq!(
            (played.only().record.direction, played.only().record.outcome),
            (CallDirection::Outbound, CallOutcome::Busy)
        );
    }
}

#[test]
fn an_anonymous_caller_is_no_click_to_call() {
    // The mirror shows neither the trunk's leg of the first call nor the telephone's leg of the second call.
    let mut office = Office::new();
    let Office { scene, outside, pbx, e200, .. } = &mut office;
    let a = scene.leg(pbx, e200, ["anonymous", "200"]);
    let b = scene.leg(pbx, outside, [DID, OUTSIDE]);
    scene.connect(a);
    scene.connect(b);
    scene.wait(1_000);
    scene.bye_all(&[a, b], Side::Caller);
    let played = play(scene);
    let calls: Vec<_> = played.calls.iter().map(|c| (c.record.legs.len(), c.record.outcome)).collect();
    assert_eq!(calls, [(1, CallOutcome::Answered), (1, CallOutcome::Answered)]);
}

#[test]
fn an_ambiguous_pbx_call_is_not_taken_for_click_to_call() {
    let mut office = Office::new();
    let Office { scene, outside, pbx, e200, e201 } = &mut office;
    // 201 dials a short code, so its leg and the trunk's leg have no number in common.
    let x = scene.leg(e201, pbx, ["201", "5551234"]);
    let a = scene.leg(pbx, e200, ["200", "200"]);
    let b = scene.leg(pbx, outside, [DID, OUTSIDE]);
    scene.invite(a);
    scene.answer(a);
    scene.connect_via(x, b, 1_000);
    scene.wait(1_000);
    scene.bye_all(&[x, b, a], Side::Caller);
    let played = play(scene);
    assert_eq!(played.calls.len(), 3);
    assert!(related(&call_of(&played, scene, a).record, &call_of(&played, scene, b).record));
}
