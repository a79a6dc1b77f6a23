//! Tests of legs that only a number ties to their call: the sound decides whether a stranger talks on them.

use callspan::call::config::Config;
use callspan::call::record::Side;

use crate::scenarios::{DID, MUSIC, OUTSIDE, Office, call_of, related};
use crate::support::playback::{play, play_packets};
use crate::support::restart::records_with_kill;
use crate::support::scenario::{DialogId, MessageChange, Scene, ScenePacket, ScenePhone, sdp};

/// Host of the office's PBX.
pub(super) const PBX_HOST: u8 = 9;

/// Returns an office whose PBX changes the bytes of all voices.
pub(super) fn office() -> Office {
    Office { scene: Scene::speaking(), ..Office::new() }
}

/// Plays two conversations for `ms`. The caller of leg `a` listens to the voice menu. A stranger with the same number
/// (voice 4) talks with 200 (voice 2); the mirror shows this talk only on the legs `stranger`.
fn menu_beside_stranger(scene: &mut Scene, a: DialogId, stranger: &[DialogId], ms: i64) {
    let mut speakers = vec![(1, a, Side::Caller), (MUSIC, a, Side::Callee)];
    for d in stranger {
        speakers.extend([(4, *d, Side::Caller), (2, *d, Side::Callee)]);
    }
    scene.sound(&speakers, ms);
}

/// Makes a call in the voice menu. Beside it, a stranger with the same number talks on the leg of 200 for `ms`. Both
/// legs stay open. Returns the scene, both legs, and the ms of the answer by 200.
pub(super) fn menu_and_stranger(ms: i64) -> (Scene, [DialogId; 2], i64) {
    let mut office = office();
    let (a, b) = (office.inbound(), office.rings_200());
    let mut scene = office.scene;
    scene.connect(a);
    scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 3_000);
    let answered = scene.connect(b);
    menu_beside_stranger(&mut scene, a, &[b], ms);
    (scene, [a, b], answered)
}

/// Plays [`menu_and_stranger`] for 14 s, and ends both legs, the leg of 200 first.
pub(super) fn stranger_beside_menu() -> (Scene, [DialogId; 2], i64) {
    let (mut scene, [a, b], answered) = menu_and_stranger(14_000);
    scene.bye(b, Side::Caller);
    scene.wait(1_000);
    scene.bye(a, Side::Caller);
    (scene, [a, b], answered)
}

/// Plays [`menu_and_stranger`] for 60 s, and ends both legs at one moment. Returns the scene and the ms of the answer
/// by 200.
pub(super) fn stranger_until_the_end() -> (Scene, i64) {
    let (mut scene, legs, answered) = menu_and_stranger(60_000);
    scene.bye_all(&legs, Side::Caller);
    (scene, answered)
}

#[test]
fn a_stranger_beside_a_caller_in_the_menu_has_a_record() {
    let (scene, [a, b], _) = stranger_beside_menu();
    let played = play(&scene);
    assert_eq!(played.calls.len(), 2);
    assert!(related(&call_of(&played, &scene, a).record, &call_of(&played, &scene, b).record));
}

/// The mirror loses the answer to the stranger's leg, and perhaps the ACK as well.
#[test]
fn a_stranger_whose_answer_the_mirror_lost_has_a_record() {
    let (scene, [a, b], _) = stranger_beside_menu();
    let header = format!("Call-ID: {}\r\n", scene.get(b).call_id);
    let calls_without = |lost: &[&str]| {
        let is_lost = |packet: &ScenePacket| {
            let text = String::from_utf8_lossy(&packet.payload);
            let is_of_invite = text.contains(" INVITE\r\n") || text.starts_with("ACK");
            text.contains(&header) && is_of_invite && lost.iter().any(|start| text.starts_with(start))
        };
        let packets: Vec<ScenePacket> = scene.packets().into_iter().filter(|packet| !is_lost(packet)).collect();
        assert_eq!(packets.len() + lost.len(), scene.packets().len());
        let played = play_packets(&packets, scene.now(), Config::default());
        let is_apart = related(&call_of(&played, &scene, a).record, &played.calls[played.calls.len() - 1].record);
        (played.calls.len(), is_apart)
    };
    let found = [&["SIP/2.0 200"][..], &["SIP/2.0 200", "ACK"]].map(calls_without);
    assert_eq!(found, [(2, true), (2, true)]);
}

/// The mirror shows half of each of two calls of one number. One half is the leg of a caller in the voice menu. The other
/// half is the leg of 200, which talks with a stranger. The answers are `gap` ms apart, and the legs last so many ms.
///
/// The PBX calls 200 from the host `lan`.
fn halves_answered_together(number: &str, lan: u8, gap: i64, [first, second]: [i64; 2]) -> Scene {
    let mut office = office();
    let a = office.scene.leg(&mut office.outside, &mut office.pbx, [number, DID]);
    let b = office.scene.leg(&mut ScenePhone::new(DID, lan), &mut office.e200, [number, "200"]);
    let scene = &mut office.scene;
    scene.invite_and_ring(a);
    scene.invite_and_ring(b);
    scene.wait(1_000);
    scene.answer(a);
    scene.wait(gap);
    scene.answer(b);
    let both = first.min(second);
    menu_beside_stranger(scene, a, &[b], both);
    let legs = if first < second { [a, b] } else { [b, a] };
    scene.bye(legs[0], Side::Caller);
    let rest = first.max(second) - both;
    match legs[1] == a {
        true => scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], rest),
        false => scene.sound(&[(4, b, Side::Caller), (2, b, Side::Callee)], rest),
    }
    scene.bye(legs[1], Side::Caller);
    office.scene
}

#[test]
fn two_calls_answered_at_one_moment_keep_their_sound() {
    for number in ["anonymous", OUTSIDE] {
        for gap in [0, 50, 150, 250] {
            // Some end together. So only what is heard decides, and it needs six seconds.
            let together = [[9_000, 9_000], [12_000, 12_000], [60_000, 60_000]];
            for lengths in [[15_000, 12_000], [5_000, 4_000], [4_000, 5_500]].into_iter().chain(together) {
                let played = play(&halves_answered_together(number, PBX_HOST, gap, lengths));
                assert_eq!(played.calls.len(), 2, "{number}, {gap} ms apart, {lengths:?} ms");
            }
        }
    }
}

/// The PBX has two addresses. Equal moments confirm a join by numbers, but not against what is heard.
#[test]
fn two_calls_through_two_addresses_keep_their_sound() {
    for gap in [0, 50, 150] {
        for lengths in [[15_000, 12_000], [12_000, 8_000], [9_000, 9_000]] {
            let played = play(&halves_answered_together(OUTSIDE, PBX_HOST + 1, gap, lengths));
            assert_eq!(played.calls.len(), 2, "{gap} ms apart, {lengths:?} ms");
        }
    }
}

#[test]
fn a_call_through_two_addresses_that_change_the_voices_is_one_record() {
    for (ms, late_ms) in [(3_000, 0), (5_000, 600), (12_000, 600), (12_000, 3_000)] {
        let mut office = office();
        let a = office.inbound();
        let lan = &mut ScenePhone { voice: MUSIC, ..ScenePhone::new(DID, PBX_HOST + 1) };
        let b = office.scene.leg(lan, &mut office.e200, [OUTSIDE, "200"]);
        let scene = &mut office.scene;
        scene.connect_through(a, b, 1_000);
        scene.bridge(a, b, ms);
        scene.bye(a, Side::Caller);
        scene.wait(late_ms);
        scene.bye(b, Side::Caller);
        play(scene).only();
    }
}

/// A PBX changes the bytes of the voices, and the mirror loses the BYE of one leg.
#[test]
fn legs_answered_together_stay_one_call_if_one_end_is_late() {
    for ms in [3_000, 5_000, 7_000, 9_000, 14_000, 25_000] {
        let mut office = office();
        let (a, b) = office.connected();
        let scene = &mut office.scene;
        scene.bridge(a, b, ms);
        scene.bye(b, Side::Callee);
        scene.sound(&[(MUSIC, a, Side::Callee)], 3_000);
        scene.bye(a, Side::Caller);
        play(scene).only();
    }
}

/// The stranger's talk is too short to compare outlines. What was compared before the kill, the spool must keep.
#[test]
fn a_short_stranger_has_a_record_after_a_kill() {
    let scene = halves_answered_together(OUTSIDE, PBX_HOST, 50, [5_000, 5_600]);
    let talks = scene.now() - 5_600;
    for kill_ms in [talks + 4_200, talks + 4_800] {
        let records = records_with_kill(&scene.packets(), scene.now() + 30_000, kill_ms);
        assert_eq!(records.len(), 2, "killed at {kill_ms} ms");
    }
}

/// The mirror shows no RTP of the hop by which the PBX sends the stranger's call to a border controller.
#[test]
fn a_doubtful_leg_without_media_vouches_for_no_other_leg() {
    let mut office = office();
    let a = office.inbound();
    let Office { mut scene, mut pbx, mut e200, .. } = office;
    let mut controller = ScenePhone::new("200", 20);
    let d = scene.leg(&mut pbx, &mut controller, [OUTSIDE, "200"]);
    let e = scene.leg(&mut controller, &mut e200, [OUTSIDE, "200"]);
    scene.connect(a);
    scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 3_000);
    scene.connect_through(d, e, 1_000);
    menu_beside_stranger(&mut scene, a, &[e], 12_000);
    scene.bye_all(&[d, e], Side::Caller);
    scene.wait(1_000);
    scene.bye(a, Side::Caller);
    let played = play(&scene);
    let shape: Vec<usize> = played.calls.iter().map(|call| call.record.legs.len()).collect();
    assert_eq!(shape, [1, 2]);
}

#[test]
fn the_caller_who_leaves_the_menu_for_a_telephone_stays_one_call() {
    let mut office = office();
    let (a, b) = (office.inbound(), office.rings_200());
    let scene = &mut office.scene;
    scene.connect(a);
    scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 3_000);
    scene.connect(b);
    scene.bridge(a, b, 12_000);
    scene.bye(b, Side::Callee);
    scene.wait(1_000);
    scene.bye(a, Side::Caller);
    play(scene).only();
}

/// The first agent gives the caller back to the queue. The telephones that ring then, and end, must not push out what
/// was heard of the first agent.
#[test]
fn a_caller_who_waits_again_stays_one_call() {
    let mut office = office();
    let (a, b) = (office.inbound(), office.rings_200());
    office.scene.connect(a);
    let music = [(1, a, Side::Caller), (MUSIC, a, Side::Callee)];
    office.scene.sound(&music, 3_000);
    office.scene.connect(b);
    office.scene.bridge(a, b, 24_000);
    office.scene.bye(b, Side::Callee);
    for _ in 0..7 {
        let rung = office.rings_201();
        office.scene.invite_and_ring(rung);
        office.scene.sound(&music, 14_000);
        office.scene.cancel(rung);
    }
    let c = office.rings_201();
    office.scene.connect(c);
    office.scene.bridge_until_bye(a, c, 24_000, Side::Caller);
    play(&office.scene).only();
}

/// The PBX sends the stranger's call through two border controllers. Their legs are answered together with the PBX's
/// leg, because that leg caused them.
#[test]
fn a_leg_is_not_confirmed_by_the_answers_of_legs_it_caused() {
    for hops in [1, 2] {
        let mut office = office();
        let a = office.inbound();
        let Office { mut scene, mut pbx, mut e200, .. } = office;
        let mut controllers = [ScenePhone::new("200", 20), ScenePhone::new("200", 21)];
        let mut legs = Vec::new();
        let [first, second] = &mut controllers;
        legs.push(scene.leg(&mut pbx, first, [OUTSIDE, "200"]));
        if hops == 2 {
            legs.push(scene.leg(first, second, [OUTSIDE, "200"]));
            legs.push(scene.leg(second, &mut e200, [OUTSIDE, "200"]));
        } else {
            legs.push(scene.leg(first, &mut e200, [OUTSIDE, "200"]));
        }
        scene.connect(a);
        scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 3_000);
        legs.iter().for_each(|d| scene.invite_and_ring(*d));
        scene.wait(1_000);
        legs.iter().rev().for_each(|d| _ = scene.answer(*d));
        menu_beside_stranger(&mut scene, a, &legs, 12_000);
        scene.bye_all(&legs, Side::Caller);
        scene.wait(1_000);
        scene.bye(a, Side::Caller);
        let played = play(&scene);
        let shape: Vec<usize> = played.calls.iter().map(|call| call.record.legs.len()).collect();
        assert_eq!(shape, [1, hops + 1], "{hops} border controllers");
    }
}

/// A border controller sends the sound of a call to a recorder, without names, and lists the callee first.
#[test]
fn a_recording_session_with_swapped_voices_stays_in_its_call() {
    let mut office = office();
    let (a, b) = office.connected();
    let Office { mut scene, mut pbx, .. } = office;
    let session = scene.leg(&mut pbx, &mut ScenePhone::new("recorder", 30), ["src", "recorder"]);
    scene.at(session).headers = vec!["Require: siprec".to_owned()];
    scene.bridge(a, b, 1_000);
    scene.invite(session);
    scene.answer(session);
    let both = |d: DialogId| [(1, d, Side::Caller), (2, d, Side::Callee)];
    scene.sound(&[&both(a)[..], &both(b), &[(2, session, Side::Caller)]].concat(), 12_000);
    scene.bye(session, Side::Caller);
    scene.bridge_until_bye(a, b, 1_000, Side::Caller);
    assert_eq!(play(&scene).only().record.legs.len(), 3);
}

/// Does the same as [`Scene::connect`] with G.722, which is not measured. Nothing of such a leg may be rendered,
/// because the sound of a scene is not encoded in this codec.
pub(super) fn connect_with_g722(scene: &mut Scene, d: DialogId) {
    let media = scene.get(d).media;
    scene.request(d, Side::Caller, "INVITE", &[MessageChange::Sdp(sdp(media[0], 1, "9", &[]))]);
    scene.ring(d);
    scene.wait(1_000);
    scene.response(d, Side::Callee, (200, "INVITE"), &[MessageChange::Sdp(sdp(media[1], 1, "9", &[]))]);
    scene.at(d).confirmed = true;
    scene.request(d, Side::Caller, "ACK", &[]);
    for side in [Side::Caller, Side::Callee] {
        let flow = scene.flow(d, side);
        scene.sender(flow).pt = 9;
    }
}

/// Plays a call that leaves the menu for 200, with a codec that is not measured. After the caller has hung up, the PBX
/// plays a tone to 200 for `tone_ms`. Returns the number of records.
fn records_with_tone_after_the_call(tone_ms: i64) -> usize {
    let mut office = office();
    let (a, b) = (office.inbound(), office.rings_200());
    let scene = &mut office.scene;
    connect_with_g722(scene, a);
    scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 3_000);
    scene.wait(3_000);
    connect_with_g722(scene, b);
    scene.bridge(a, b, 5_000);
    scene.bye(a, Side::Caller);
    scene.sound(&[(MUSIC, b, Side::Caller), (2, b, Side::Callee)], tone_ms);
    scene.bye(b, Side::Callee);
    records_with_kill(&scene.packets(), scene.now() + 30_000, 0).len()
}

#[test]
fn a_short_tone_after_a_call_is_no_call_of_its_own() {
    assert_eq!(records_with_tone_after_the_call(4_000), 1);
    assert_eq!(records_with_tone_after_the_call(12_000), 2);
}
