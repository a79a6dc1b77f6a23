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

/// Adds the leg by which the PBX rings extension 202 for the outside caller.
fn rings_202(office: &mut Office) -> DialogId {
    office.scene.leg(&mut office.pbx, &mut ScenePhone::new("202", 6), [OUTSIDE, "202"])
}

/// Makes a call that rings 200, and then a call that a queue answers. The PBX rings 201 for the caller in the queue.
fn ringing_and_queued(office: &mut Office) -> [DialogId; 4] {
    let (a, b, queued, c) = (office.inbound(), office.rings_200(), office.inbound(), office.rings_201());
    let scene = &mut office.scene;
    scene.invite_and_ring(a);
    scene.invite_and_ring(b);
    scene.wait(800);
    scene.invite_and_ring(queued);
    scene.wait(1_000);
    scene.answer(queued);
    scene.wait(600);
    scene.invite_and_ring(c);
    scene.wait(300);
    [a, b, queued, c]
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

/// 201 answers for a caller in a queue. At this moment 202 answers for a caller for whom 200 rang before.
#[test]
fn a_caller_of_another_telephone_takes_none_of_the_queue() {
    let mut office = Office::new();
    let [a, b, queued, c] = ringing_and_queued(&mut office);
    let d = rings_202(&mut office);
    let scene = &mut office.scene;
    scene.cancel(b);
    scene.invite_and_ring(d);
    let answers = scene.now() + 100;
    answer_at(scene, c, answers);
    answer_at(scene, d, answers + 165);
    answer_at(scene, a, answers + 185);
    scene.wait(1_000);
    scene.bye_all(&[c, queued, d, a], Side::Callee);
    let played = play(scene);
    assert_apart(&played, scene, &[&[a, b, d], &[queued, c]]);
    assert_undecided(&played, scene, c, [queued, a]);
}

/// 201 rings for a caller, and seems to ring for the caller in the queue. When 201 answers, the PBX rings 202 for the
/// queue, before it answers the caller.
#[test]
fn a_telephone_rung_just_after_a_doubtful_answer_joins_no_stranger() {
    let mut office = Office::new();
    let [a, b, queued, c] = ringing_and_queued(&mut office);
    let d = rings_202(&mut office);
    let scene = &mut office.scene;
    let answers = scene.now() + 1_000;
    answer_at(scene, c, answers);
    scene.cancel(b);
    scene.set_now(answers + 47);
    scene.invite(d);
    answer_at(scene, a, answers + 75);
    scene.wait(500);
    scene.answer(d);
    scene.wait(1_000);
    scene.bye_all(&[c, a, d, queued], Side::Callee);
    let played = play(scene);
    assert_apart(&played, scene, &[&[a, b, c], &[queued, d]]);
    assert_eq!(call_of(&played, scene, a).record.legs.len(), 3, "b was cancelled when c answered, so c is for a");
}

/// The PBX stops ringing 201 for one caller to ring 202. At this moment 200 answers for another caller.
#[test]
fn a_telephone_given_up_beside_an_answer_joins_no_stranger() {
    let mut office = Office::new();
    let (a, b, hunted, c) = (office.inbound(), office.rings_200(), office.inbound(), office.rings_201());
    let d = rings_202(&mut office);
    let scene = &mut office.scene;
    for leg in [a, b, hunted, c] {
        scene.invite(leg);
    }
    let answers = scene.now() + 800;
    answer_at(scene, b, answers);
    scene.set_now(answers + 5);
    scene.cancel(c);
    answer_at(scene, a, answers + 20);
    scene.set_now(answers + 60);
    scene.invite_and_ring(d);
    scene.wait(1_500);
    scene.answer(d);
    scene.answer(hunted);
    scene.wait(1_000);
    scene.bye_all(&[b, a, d, hunted], Side::Callee);
    assert_apart(&play(scene), scene, &[&[a, b], &[hunted, c, d]]);
}

/// A caller talked with 200, and is transferred to 201. A menu answers another caller when 201 answers.
#[test]
fn a_caller_who_is_transferred_waits_again() {
    let mut office = Office::new();
    let (first, a, b, c, in_menu) =
        (office.inbound(), office.inbound(), office.rings_200(), office.rings_201(), office.inbound());
    let scene = &mut office.scene;
    scene.connect(first);
    scene.wait(500);
    scene.invite(a);
    scene.invite(b);
    scene.answer(b);
    scene.answer(a);
    scene.wait(500);
    scene.bye(b, Side::Caller);
    scene.invite(in_menu);
    scene.invite(c);
    scene.bye(first, Side::Caller);
    let answers = scene.now() + 800;
    answer_at(scene, c, answers);
    answer_at(scene, in_menu, answers + 179);
    scene.wait(1_000);
    scene.bye_all(&[a, c, in_menu], Side::Caller);
    assert_apart(&play(scene), scene, &[&[first], &[a, b, c], &[in_menu]]);
}

/// 200 answers for the first of two callers in a queue, just after the second was answered. Later 201 answers for the
/// second, and a menu answers another caller at this moment.
#[test]
fn a_telephone_of_two_callers_in_a_queue_serves_neither_for_certain() {
    let mut office = Office::new();
    let (first, second, b, in_menu, c) =
        (office.inbound(), office.inbound(), office.rings_200(), office.inbound(), office.rings_201());
    let scene = &mut office.scene;
    scene.connect(first);
    scene.wait(1_000);
    scene.invite_and_ring(second);
    scene.wait(600);
    scene.invite(b);
    let answers = scene.now() + 400;
    answer_at(scene, second, answers - 180);
    answer_at(scene, b, answers);
    scene.wait(400);
    scene.bye_all(&[first, b], Side::Caller);
    scene.invite_and_ring(in_menu);
    scene.wait(400);
    scene.invite(c);
    let answers = scene.now() + 500;
    answer_at(scene, c, answers);
    answer_at(scene, in_menu, answers + 150);
    scene.wait(1_000);
    scene.bye_all(&[second, c, in_menu], Side::Caller);
    assert_apart(&play(scene), scene, &[&[first, b], &[second, c], &[in_menu]]);
}

/// The mirror port shows 201 a moment before the caller for whom it rings. Another caller of the same number rings 200
/// then. The PBX has one address or two.
#[test]
fn a_telephone_captured_before_its_caller_goes_to_the_caller_it_answers() {
    // The provider may assert another number of the caller than the PBX passes on.
    let asserted = "P-Asserted-Identity: <sip:+74951112222@provider.example>";
    for (lan, header) in [(9, None), (99, None), (9, Some(asserted)), (99, Some(asserted))] {
        let mut office = Office::new();
        let mut lan = ScenePhone { next_port: 20_000, ..ScenePhone::new(DID, lan) };
        let (a, c) = (office.inbound(), office.inbound());
        let b = office.scene.leg(&mut lan, &mut office.e200, [OUTSIDE, "200"]);
        let d = office.scene.leg(&mut lan, &mut office.e201, [OUTSIDE, "201"]);
        let scene = &mut office.scene;
        scene.at(c).headers.extend(header.map(str::to_owned));
        scene.invite(a);
        scene.invite(b);
        scene.wait(60);
        scene.invite(d);
        scene.wait(20);
        scene.invite(c);
        for legs in [[b, a], [d, c]] {
            scene.wait(1_000);
            legs.iter().for_each(|leg| _ = scene.answer(*leg));
        }
        scene.sound(&[(1, a, Side::Caller), (2, b, Side::Callee), (1, c, Side::Caller), (3, d, Side::Callee)], 3_000);
        scene.bye_all(&[a, b], Side::Caller);
        scene.wait(1_500);
        scene.bye_all(&[c, d], Side::Caller);
        let played = play(scene);
        assert_eq!(played.calls.len(), 2);
        assert_apart(&played, scene, &[&[a, b], &[c, d]]);
        for call in &played.calls {
            let record = &call.record;
            assert_eq!((record.to.as_deref(), record.legs.len()), (Some(DID), 2), "{record:#?}");
        }
        let rung: Vec<_> = played.calls.iter().map(|call| call.record.internal.as_deref()).collect();
        assert_eq!(rung, [Some("200"), Some("201")]);
    }
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
