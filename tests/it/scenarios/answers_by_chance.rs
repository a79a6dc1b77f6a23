//! Tests of several callers of one number. The PBX answers one of them by chance when a telephone answers for another.

use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::Side;

use crate::scenarios::{DID, OUTSIDE, Office, call_of, related};
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// Writes the answer of a leg at a moment, ms of the scene.
fn answer_at(scene: &mut Scene, leg: DialogId, ms: i64) {
    scene.set_now(ms);
    scene.answer(leg);
}

/// Asserts that the leg of a telephone is a call of its own, which `ambiguous` relates to the calls of both callers.
fn assert_undecided(played: &PlayedScene, scene: &Scene, telephone: DialogId, callers: [DialogId; 2]) {
    let own = &call_of(played, scene, telephone).record;
    assert_eq!(own.legs.len(), 1);
    for caller in callers {
        let other = &call_of(played, scene, caller).record;
        assert!(related(own, other) && own.relations.iter().all(|r| r.why == CorrelationRule::Ambiguous));
    }
}

/// Asserts that no record has legs of two of these conversations.
fn assert_apart(played: &PlayedScene, scene: &Scene, conversations: &[&[DialogId]]) {
    for call in &played.calls {
        let ids: Vec<&str> = call.record.legs.iter().map(|leg| leg.sip_call_id.as_str()).collect();
        let has = |leg: &DialogId| ids.contains(&scene.get(*leg).call_id.as_str());
        let of = conversations.iter().filter(|legs| legs.iter().any(has)).count();
        assert_eq!(of, 1, "a record is of one conversation: {ids:?}");
    }
}

/// A queue answers its caller a moment before 200 answers another caller. The next INVITE comes before the PBX has
/// answered that other caller.
#[test]
fn a_queue_that_answers_its_caller_beside_a_telephone_takes_no_telephone() {
    let mut office = Office::new();
    let (queued, a, b) = (office.inbound(), office.inbound(), office.rings_200());
    let Office { scene, pbx, .. } = &mut office;
    let next = scene.leg(&mut ScenePhone::new("+79990000777", 4), pbx, ["+79990000777", DID]);
    scene.invite_and_ring(queued);
    scene.wait(1_000);
    scene.invite(a);
    scene.invite(b);
    let answers = scene.now() + 500;
    answer_at(scene, queued, answers - 7);
    answer_at(scene, b, answers);
    scene.set_now(answers + 3);
    scene.invite(next);
    answer_at(scene, a, answers + 20);
    scene.wait(1_000);
    scene.cancel(next);
    scene.bye_all(&[a, b, queued], Side::Caller);
    assert_undecided(&play(scene), scene, b, [queued, a]);
}

/// A queue answers its caller at the moment at which 200 and another caller are answered. So 200 may talk with either,
/// and the first caller may still wait when 201 is rung and a voice menu answers a third caller.
#[test]
fn a_telephone_for_a_waiting_caller_is_none_of_the_menu() {
    let mut office = Office::new();
    let (queued, a, b) = (office.inbound(), office.inbound(), office.rings_200());
    let (in_menu, c) = (office.inbound(), office.rings_201());
    let scene = &mut office.scene;
    scene.invite_and_ring(queued);
    scene.wait(200);
    scene.invite(a);
    scene.invite_and_ring(b);
    let answers = scene.now() + 500;
    answer_at(scene, b, answers);
    answer_at(scene, a, answers + 60);
    answer_at(scene, queued, answers + 135);
    scene.wait(400);
    scene.bye_all(&[b, a], Side::Caller);
    scene.invite_and_ring(in_menu);
    scene.wait(400);
    scene.invite_and_ring(c);
    let answers = scene.now() + 500;
    answer_at(scene, c, answers);
    answer_at(scene, in_menu, answers + 32);
    scene.wait(1_000);
    scene.bye_all(&[c, queued, in_menu], Side::Caller);
    assert_undecided(&play(scene), scene, c, [queued, in_menu]);
}

/// The PBX calls an outside number with the number of the office. Just after the answer, it passes an outside caller of
/// this number on to 201, as a proxy. The mirror may show the leg to 201 before the caller's leg.
#[test]
fn a_call_through_a_proxy_is_no_part_of_an_outbound_call() {
    const STRANGER: &str = "+79990000777";
    for is_late in [false, true] {
        let mut office = Office::new();
        let Office { scene, outside, pbx, e201, .. } = &mut office;
        let out = scene.leg(pbx, outside, [DID, OUTSIDE]);
        let a = scene.leg(&mut ScenePhone::new(STRANGER, 4), pbx, [STRANGER, DID]);
        let b = scene.leg(pbx, e201, [STRANGER, "201"]);
        let caller = scene.get(a).clone();
        let dialog = scene.at(b);
        (dialog.call_id, dialog.tags[0]) = (caller.call_id, caller.tags[0].clone());
        dialog.users[1] = DID.to_owned();
        scene.connect(out);
        scene.wait(100);
        for leg in if is_late { [b, a] } else { [a, b] } {
            scene.invite(leg);
        }
        scene.wait(600);
        scene.answer(b);
        scene.answer(a);
        scene.wait(1_000);
        scene.bye_all(&[a, b, out], Side::Caller);
        assert_apart(&play(scene), scene, &[&[out], &[a, b]]);
    }
}
