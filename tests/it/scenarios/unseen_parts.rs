//! Tests of calls with a part that the mirror misses, e.g. an INVITE or a trunk. In some, one side rings or stays
//! connected for long.

use callspan::call::config::Config;
use callspan::call::record::{CallDirection, CallOutcome, Side};

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::machines::{TwoAddresses, facts};
use crate::scenarios::{DID, MUSIC, OUTSIDE, Office, call_of};
use crate::support::playback::{PlayedScene, play, play_packets};
use crate::support::scenario::{DialogId, SILENCE, Scene, ScenePhone, at};

/// Plays a scene without the INVITE of a leg.
fn play_without_invite(scene: &Scene, leg: DialogId) -> PlayedScene {
    let call_id = format!("Call-ID: {}\r\n", scene.get(leg).call_id);
    let mut packets = scene.packets();
    packets.retain(|p| !(p.payload.starts_with(b"INVITE ") && String::from_utf8_lossy(&p.payload).contains(&call_id)));
    play_packets(&packets, scene.now(), Config::default())
}

/// Adds the legs of a call to 200 or from 200. The PBX sends its leg from the host 9, or from the host 99.
fn legs(scene: &mut Scene, is_inbound: bool, sends_from: u8) -> [DialogId; 2] {
    let (mut outside, mut e200) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new("200", 2));
    let (mut pbx, mut inside) = (ScenePhone::new(DID, 9), ScenePhone::new(DID, sends_from));
    inside.next_port = 20_000;
    if is_inbound {
        [scene.leg(&mut outside, &mut pbx, [OUTSIDE, DID]), scene.leg(&mut inside, &mut e200, [OUTSIDE, "200"])]
    } else {
        [scene.leg(&mut e200, &mut pbx, ["200", OUTSIDE]), scene.leg(&mut inside, &mut outside, [DID, OUTSIDE])]
    }
}

#[test]
fn a_call_whose_first_invite_is_missed_is_one_call() {
    for (is_inbound, direction, voices) in
        [(true, CallDirection::Inbound, (1, 2)), (false, CallDirection::Outbound, (2, 1))]
    {
        for sends_from in [9, 99] {
            let mut scene = Scene::new();
            let [a, b] = legs(&mut scene, is_inbound, sends_from);
            scene.invite(a);
            scene.invite_and_ring(b);
            scene.wait(300);
            scene.ring(a);
            scene.wait(2_000);
            scene.answer(b);
            scene.answer(a);
            let [talks, ended] = scene.bridge_until_bye(a, b, 2_000, Side::Caller);
            let played = play_without_invite(&scene, a);
            let record = &played.only().record;
            assert_eq!(facts(record), (direction, Some("200"), CallOutcome::Answered), "from host {sends_from}");
            hears(played.only(), voices, talks, ended);
        }
    }
}

/// The mirror misses the INVITE of a caller, and shows the telephone of another caller at that moment.
#[test]
fn a_missed_invite_takes_no_telephone_of_another_caller() {
    for sends_from in [9, 99] {
        let mut scene = Scene::new();
        let [a, _] = legs(&mut scene, true, sends_from);
        let mut inside = ScenePhone { next_port: 30_000, ..ScenePhone::new(DID, sends_from) };
        let b = scene.leg(&mut inside, &mut ScenePhone::new("201", 3), ["+79990000002", "201"]);
        scene.connect_through(a, b, 1_000);
        scene.bridge(a, b, 400);
        scene.bye_all(&[a, b], Side::Caller);
        let legs: Vec<_> = play_without_invite(&scene, a).calls.iter().map(|call| call.record.legs.len()).collect();
        assert_eq!(legs, [1, 1], "from host {sends_from}");
    }
}

/// A caller rings for more than an hour before the answer, or the clock of the capture is set ahead meanwhile.
#[test]
fn a_talk_after_an_hour_of_ringing_is_recorded() {
    for sends_from in [9, 99] {
        let mut scene = Scene::new();
        let [a, b] = legs(&mut scene, true, sends_from);
        scene.ring_through(a, b);
        scene.wait(3_630_000);
        scene.answer(b);
        scene.answer(a);
        let [talks, ended] = scene.bridge_until_bye(a, b, 3_000, Side::Caller);
        let played = play(&scene);
        let answered: Vec<_> = played.calls.iter().filter(|call| call.sound.is_some()).collect();
        assert_eq!(answered.len(), 1, "both legs of the talk are one call");
        hears(answered[0], (1, 2), talks, ended);
    }
}

#[test]
fn a_refusal_after_an_hour_of_ringing_is_no_further_call() {
    let mut office = Office::new();
    let a = office.inbound();
    office.scene.invite_and_ring(a);
    office.scene.wait(3_630_000);
    office.scene.refuse(a, 480, &[]);
    assert_eq!(play(&office.scene).calls.len(), 1);
}

/// Plays an outbound call that the trunk refuses after 300 ms. The PBX answers the telephone `later_ms` after that.
fn answered_after_refusal(later_ms: i64, sends_from: u8) -> (PlayedScene, [i64; 3]) {
    let mut scene = Scene::new();
    let [a, b] = legs(&mut scene, false, sends_from);
    scene.invite(a);
    scene.invite(b);
    scene.wait(300);
    scene.refuse(b, 503, &[]);
    scene.wait(later_ms);
    scene.ring(a);
    let answered = scene.answer(a);
    let talks = scene.now();
    scene.sound(&[(2, a, Side::Caller), (MUSIC, a, Side::Callee)], 3_000);
    let ended = scene.bye(a, Side::Caller);
    (play(&scene), [answered, talks, ended])
}

#[test]
fn a_call_that_is_answered_over_an_unseen_trunk_is_answered() {
    for sends_from in [9, 99] {
        let (played, [answered, talks, ended]) = answered_after_refusal(9_000, sends_from);
        let record = &played.only().record;
        assert_eq!(facts(record), (CallDirection::Outbound, Some("200"), CallOutcome::Answered));
        assert_eq!(record.operator_answered_at, Some(at(answered)));
        hears(played.only(), (2, MUSIC), talks, ended);
    }
}

/// The PBX answers only to announce that the trunk refused the call, or after 5 s because another trunk answered.
#[test]
fn an_announcement_after_a_refused_trunk_is_no_answer() {
    for (later_ms, outcome) in [
        (100, CallOutcome::Abandoned),
        (1_200, CallOutcome::Abandoned),
        (4_900, CallOutcome::Abandoned),
        (5_100, CallOutcome::Answered),
    ] {
        let (played, [answered, ..]) = answered_after_refusal(later_ms, 9);
        let record = &played.only().record;
        let person = (outcome == CallOutcome::Answered).then_some(at(answered));
        assert_eq!((record.outcome, record.operator_answered_at), (outcome, person), "after {later_ms} ms");
    }
}

/// The caller hangs up, and the telephone stays off-hook: the PBX plays silence, or the room is still heard.
#[test]
fn a_telephone_that_stays_off_hook_leaves_its_extension_to_the_call() {
    for sends_from in [9, 99] {
        for (prompt, room) in [(SILENCE, SILENCE), (MUSIC, 2)] {
            let mut scene = Scene::new();
            let [a, b] = legs(&mut scene, true, sends_from);
            scene.connect_through(a, b, 1_000);
            let answered = scene.now();
            let talks = scene.now();
            scene.bridge(a, b, 4_000);
            let ended = scene.bye(a, Side::Caller);
            scene.sound(&[(prompt, b, Side::Caller), (room, b, Side::Callee)], 8_000);
            scene.bye(b, Side::Caller);
            let played = play(&scene);
            let call = call_of(&played, &scene, a);
            let record = &call.record;
            assert_eq!(facts(record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered), "{sends_from}");
            assert!(record.operator_answered_at.is_some_and(|by| by < at(answered)));
            hears(call, (1, 2), talks, ended);
        }
    }
}

/// A dialler calls the customer first, and then 200. The customer hangs up, and the telephone stays off-hook.
#[test]
fn a_dialler_calls_outbound_if_its_telephone_stays_off_hook() {
    for sends_from in [9, 99] {
        let mut scene = Scene::noisy();
        let (mut customer, mut e200) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new("200", 2));
        let (mut trunk, mut inside) = (ScenePhone::new(DID, 9), ScenePhone::new(DID, sends_from));
        inside.next_port = 20_000;
        let a = scene.leg(&mut trunk, &mut customer, [DID, OUTSIDE]);
        let b = scene.leg(&mut inside, &mut e200, [OUTSIDE, "200"]);
        scene.connect(a);
        scene.wait(100);
        scene.invite_and_ring(b);
        scene.wait(300);
        scene.answer(b);
        scene.sound(&[(1, a, Side::Callee), (1, b, Side::Caller), (2, b, Side::Callee), (2, a, Side::Caller)], 10_000);
        scene.bye(a, Side::Callee);
        scene.sound(&[(SILENCE, b, Side::Caller), (2, b, Side::Callee)], 8_000);
        scene.bye(b, Side::Caller);
        let played = play(&scene);
        let record = &call_of(&played, &scene, a).record;
        assert_eq!(facts(record), (CallDirection::Outbound, Some("200"), CallOutcome::Answered), "from {sends_from}");
    }
}

/// A caller waits in a queue. A stranger of the same number, whose leg the mirror misses, talks with 200, and goes on
/// after the caller has given up.
#[test]
fn a_telephone_of_a_stranger_leaves_no_extension_to_the_call() {
    let mut site = TwoAddresses::new();
    let (a, b) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE));
    let scene = &mut site.scene;
    scene.ring_through(a, b);
    scene.wait(1_000);
    scene.answer(a);
    scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 1_000);
    scene.answer(b);
    let speakers = [(1, a, Side::Caller), (MUSIC, a, Side::Callee), (4, b, Side::Caller), (2, b, Side::Callee)];
    scene.sound(&speakers, 4_000);
    scene.bye(a, Side::Caller);
    scene.sound(&speakers[2..], 10_000);
    scene.bye(b, Side::Caller);
    let played = play(scene);
    assert_eq!(call_of(&played, scene, a).record.internal, None);
}
