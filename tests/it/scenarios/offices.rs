//! Tests of features of office PBXs. The features are follow-me over the trunk, queues that try again, session border
//! controllers, conferences, voice mail, and trunks that change the form of numbers.

use callspan::call::record::{CallDirection, CallOutcome, EndedBy, Side};

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::{DID, MUSIC, OUTSIDE, Office};
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, ScenePhone, at};

const MOBILE: &str = "+79161234567";

/// Plays a call that rings 200. It also rings the mobile telephone of 200, by the trunk on which the call came, with
/// the caller's number `from`. The mobile telephone answers.
fn follow_me(from: &str) -> (PlayedScene, [i64; 3]) {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let Office { scene, outside, pbx, .. } = &mut office;
    let m = scene.leg(pbx, outside, [from, MOBILE]);
    scene.at(m).voices[1] = 4;
    scene.ring_through(a, b);
    // The pause is longer than 2 s, the time within which legs are joined by their times alone.
    scene.wait(3_000);
    scene.invite_and_ring(m);
    scene.wait(2_000);
    let taken = scene.answer(m);
    scene.answer(a);
    scene.cancel(b);
    let [talks, ended] = scene.bridge_until_bye(a, m, 3_000, Side::Caller);
    (play(scene), [taken, talks, ended])
}

#[test]
fn follow_me_by_the_trunk_under_the_callers_number_is_one_call() {
    let (played, [taken, talks, ended]) = follow_me(OUTSIDE);
    let record = &played.only().record;
    assert_eq!(
        (record.direction, record.outcome, record.internal.as_deref()),
        (CallDirection::Inbound, CallOutcome::Answered, None)
    );
    assert_eq!(record.operator_answered_at, Some(at(taken)));
    hears(played.only(), (1, 4), talks, ended);
}

#[test]
fn follow_me_by_the_trunk_is_related_and_answered_by_a_person() {
    let (played, [taken, talks, ended]) = follow_me(DID);
    let [one, two] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    assert_eq!(
        (&one.record.related, &two.record.related),
        (&vec![two.record.id.clone()], &vec![one.record.id.clone()])
    );
    let record = &one.record;
    assert_eq!(
        (record.direction, record.outcome, record.internal.as_deref()),
        (CallDirection::Inbound, CallOutcome::Answered, None)
    );
    assert_eq!(record.operator_answered_at, Some(at(taken)));
    hears(one, (1, 4), talks, ended);
}

#[test]
fn an_outbound_answer_during_an_inbound_call_is_unrelated() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let Office { scene, pbx, .. } = &mut office;
    let mut customer = ScenePhone::new("+79990000777", 4);
    // A telephone that the mirror does not show makes an outbound call.
    let x = scene.leg(pbx, &mut customer, [DID, "+79990000777"]);
    for leg in [a, b, x] {
        scene.invite_and_ring(leg);
    }
    scene.wait(2_000);
    scene.answer(x);
    scene.answer(b);
    scene.answer(a);
    scene.wait(4_000);
    scene.bye_all(&[a, b, x], Side::Caller);
    let played = play(scene);
    assert_eq!(played.calls.len(), 2);
    assert!(played.calls.iter().all(|c| c.record.related.is_empty()), "200 itself took the call");
    assert_eq!(played.calls[0].record.internal.as_deref(), Some("200"));
}

#[test]
fn trunk_only_calls_answered_together_are_unrelated() {
    let mut office = Office::new();
    let a = office.inbound();
    let Office { scene, pbx, .. } = &mut office;
    let mut customer = ScenePhone::new("+79990000777", 4);
    let x = scene.leg(pbx, &mut customer, [DID, "+79990000777"]);
    for leg in [a, x] {
        scene.invite_and_ring(leg);
    }
    scene.wait(2_000);
    scene.answer(x);
    scene.answer(a);
    scene.wait(4_000);
    scene.bye_all(&[a, x], Side::Caller);
    let played = play(scene);
    assert_eq!(played.calls.len(), 2);
    assert!(played.calls.iter().all(|c| c.record.related.is_empty()));
}

#[test]
fn a_queue_that_rings_all_again_and_again_is_one_call() {
    let mut office = Office::new();
    let a = office.inbound();
    let rounds: Vec<[DialogId; 2]> = (0..3).map(|_| [office.rings_200(), office.rings_201()]).collect();
    let scene = &mut office.scene;
    scene.connect(a);
    for round in &rounds {
        for leg in round {
            scene.invite(*leg);
            scene.ring(*leg);
        }
        scene.sound(&[(MUSIC, a, Side::Callee)], 4_000);
        if round != &rounds[2] {
            // 200 refuses the call when it rings for the second time.
            if round == &rounds[1] {
                scene.refuse(round[0], 486, &[])
            } else {
                scene.cancel(round[0])
            }
            scene.cancel(round[1]);
            scene.sound(&[(MUSIC, a, Side::Callee)], 5_000);
        }
    }
    let [b, c] = rounds[2];
    let taken = scene.answer(c);
    scene.cancel(b);
    let talks = scene.now();
    scene.bridge(a, c, 3_000);
    let ended = scene.bye_all(&[c, a], Side::Callee);
    let played = play(scene);
    let record = &played.only().record;
    assert_eq!(
        (record.legs.len(), record.internal.as_deref(), record.outcome),
        (7, Some("201"), CallOutcome::Answered)
    );
    assert_eq!(record.operator_answered_at, Some(at(taken)));
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn a_border_controller_and_a_pbx_make_one_three_leg_call() {
    for inbound in [true, false] {
        let mut office = Office::new();
        let Office { scene, outside, pbx, e200, .. } = &mut office;
        let mut border = ScenePhone::new(DID, 7);
        // The trunk removes the plus from the numbers.
        let [theirs, did] = [OUTSIDE, DID].map(|n| &n[1..]);
        let legs = if inbound {
            let first = scene.leg(outside, &mut border, [OUTSIDE, DID]);
            let second = scene.leg(&mut border, pbx, [theirs, did]);
            [first, second, scene.leg(pbx, e200, [theirs, "200"])]
        } else {
            let first = scene.leg(e200, pbx, ["200", "89990000001"]);
            let second = scene.leg(pbx, &mut border, [did, "89990000001"]);
            [first, second, scene.leg(&mut border, outside, [DID, OUTSIDE])]
        };
        for leg in legs {
            scene.invite(leg);
        }
        for leg in [legs[2], legs[1], legs[0]] {
            scene.ring(leg);
        }
        scene.wait(2_000);
        for leg in [legs[2], legs[1], legs[0]] {
            scene.answer(leg);
        }
        let talks = scene.now();
        let voices = if inbound { (1, 2) } else { (2, 1) };
        let all = legs.map(|leg| [(voices.0, leg, Side::Caller), (voices.1, leg, Side::Callee)]);
        scene.sound(&all.concat(), 3_000);
        let ended = scene.bye(legs[0], Side::Caller);
        scene.bye(legs[1], Side::Caller);
        scene.bye(legs[2], Side::Caller);
        let played = play(scene);
        let record = &played.only().record;
        let direction = if inbound { CallDirection::Inbound } else { CallDirection::Outbound };
        assert_eq!((record.direction, record.internal.as_deref()), (direction, Some("200")), "{inbound}");
        assert_eq!((record.legs.len(), record.ended_by), (3, Some(EndedBy::Caller)));
        hears(played.only(), voices, talks, ended);
    }
}

#[test]
fn trunks_that_write_the_callers_number_their_own_way_bring_one_call() {
    for (trunk, phone) in [
        ("+79990000001", "89990000001"),
        ("79990000001", "9990000001"),
        ("89990000001", "+79990000001"),
        ("9990000001", "99990000001"),
    ] {
        let mut office = Office::new();
        let Office { scene, outside, pbx, e200, .. } = &mut office;
        // The trunk puts its account in the place of the called number.
        let a = scene.leg(outside, pbx, [trunk, "mango-4711"]);
        let b = scene.leg(pbx, e200, [phone, "200"]);
        scene.invite(a);
        scene.wait(700);
        scene.invite_and_ring(b);
        scene.wait(1_000);
        scene.answer(b);
        scene.answer(a);
        scene.bridge(a, b, 400);
        scene.bye_all(&[a, b], Side::Caller);
        let played = play(scene);
        let record = &played.only().record;
        assert_eq!((record.from.as_deref(), record.internal.as_deref()), (Some(trunk), Some("200")));
        assert_eq!((record.direction, record.outcome), (CallDirection::Inbound, CallOutcome::Answered));
    }
}

#[test]
fn a_call_to_ones_own_mailbox_is_internal_and_nobody_elses() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let Office { scene, pbx, e201, .. } = &mut office;
    let c = scene.leg(e201, pbx, ["201", "*97"]);
    scene.invite(c);
    scene.answer(c);
    let listens = scene.now();
    scene.sound(&[(3, c, Side::Caller), (MUSIC, c, Side::Callee)], 2_000);
    let ended = scene.bye_all(&[c, a], Side::Caller);
    scene.bye(b, Side::Caller);
    let played = play(scene);
    let [call, mailbox] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    assert!(call.record.related.is_empty() && mailbox.record.related.is_empty());
    let record = &mailbox.record;
    assert_eq!(
        (record.direction, record.from.as_deref(), record.to.as_deref()),
        (CallDirection::Internal, Some("201"), Some("*97"))
    );
    assert_eq!(record.internal.as_deref(), Some("201"));
    hears(mailbox, (3, MUSIC), listens, ended);
}

#[test]
fn those_who_dial_in_to_a_conference_are_calls_of_their_own() {
    let mut office = Office::new();
    let Office { scene, outside, pbx, e200, e201 } = &mut office;
    let legs = [
        scene.leg(outside, pbx, [OUTSIDE, DID]),
        scene.leg(e200, pbx, ["200", "800"]),
        scene.leg(e201, pbx, ["201", "800"]),
        // The conference calls a fourth participant.
        scene.leg(pbx, &mut ScenePhone::new("202", 6), ["800", "202"]),
    ];
    for leg in legs {
        scene.invite(leg);
        scene.answer(leg);
        scene.wait(300);
    }
    scene.wait(3_000);
    for leg in legs {
        scene.bye(leg, Side::Caller);
    }
    let played = play(scene);
    assert_eq!(played.calls.len(), 4);
    assert!(played.calls.iter().all(|c| c.record.legs.len() == 1));
}

#[test]
fn two_consultations_in_turn_leave_three_related_calls() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let Office { scene, pbx, e200, e201, .. } = &mut office;
    let mut e202 = ScenePhone::new("202", 6);
    scene.bridge(a, b, 1_000);
    scene.hold(b, Side::Callee);
    let mut asked = Vec::new();
    for other in [e201, &mut e202] {
        let number = other.user.clone();
        let c = scene.leg(e200, pbx, ["200", &number]);
        let d = scene.leg(pbx, other, ["200", &number]);
        scene.invite(c);
        scene.invite_and_ring(d);
        scene.wait(500);
        asked.push((c, d));
        if asked.len() == 1 {
            scene.refuse(d, 486, &[]);
            scene.refuse(c, 486, &[]);
        } else {
            scene.answer(d);
            scene.answer(c);
            scene.bridge(c, d, 1_000);
            scene.bye_all(&[c, d], Side::Caller);
        }
    }
    scene.resume(b, Side::Callee);
    let [again, ended] = scene.bridge_until_bye(a, b, 2_000, Side::Caller);
    let played = play(scene);
    let [call, busy, taken] = played.calls.as_slice() else { panic!("three calls, not {}", played.calls.len()) };
    assert_eq!((busy.record.outcome, busy.record.direction), (CallOutcome::Busy, CallDirection::Internal));
    assert_eq!((taken.record.outcome, taken.record.internal.as_deref()), (CallOutcome::Answered, Some("202")));
    assert_eq!(call.record.related, [busy.record.id.clone(), taken.record.id.clone()]);
    assert_eq!(call.record.internal.as_deref(), Some("200"));
    hears(call, (1, 2), again, ended);
}

#[test]
fn call_waiting_is_a_separate_call_with_its_own_extension() {
    let mut office = Office::new();
    let (a1, b1) = office.connected();
    let Office { scene, pbx, e200, .. } = &mut office;
    let mut second = ScenePhone::new("+79990000777", 4);
    let a2 = scene.leg(&mut second, pbx, ["+79990000777", DID]);
    let b2 = scene.leg(pbx, e200, ["+79990000777", "200"]);
    scene.bridge(a1, b1, 1_000);
    scene.ring_through(a2, b2);
    scene.bridge(a1, b1, 1_000);
    scene.hold(b1, Side::Callee);
    scene.answer(b2);
    scene.answer(a2);
    let [talks, ended] = scene.bridge_until_bye(a2, b2, 2_000, Side::Caller);
    scene.resume(b1, Side::Callee);
    scene.bridge(a1, b1, 1_000);
    scene.bye_all(&[a1, b1], Side::Caller);
    let played = play(scene);
    let [one, two] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    assert!(played.calls.iter().all(|c| c.record.legs.len() == 2 && c.record.internal.as_deref() == Some("200")));
    assert!(one.record.related.is_empty());
    hears(two, (4, 2), talks, ended);
}

#[test]
fn a_caller_sent_to_voice_mail_was_answered_by_nobody() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    let Office { scene, pbx, e201, .. } = &mut office;
    scene.invite(a);
    scene.invite_and_ring(b);
    scene.wait(3_000);
    // When the feature code is answered, the telephone stops ringing.
    scene.cancel(b);
    scene.wait(300);
    let c = scene.leg(e201, pbx, ["201", "*97"]);
    scene.invite(c);
    scene.answer(c);
    scene.answer(a);
    scene.wait(3_000);
    scene.bye_all(&[a, c], Side::Caller);
    let played = play(scene);
    assert_eq!(played.calls[0].record.outcome, CallOutcome::Abandoned);
    assert!(played.calls[0].record.related.is_empty());
}
