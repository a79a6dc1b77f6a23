//! Tests of several callers of one number. The PBX answers one of them by chance when a telephone answers for another.

use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::Side;

use crate::scenarios::{DID, Office, call_of, related};
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
