//! Tests of short talks after a queue. When a telephone answers, the bytes of its voices must show its caller, although
//! the caller has waited for longer than voices are compared.

use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallRecord, Side};

use crate::scenarios::{DID, MUSIC, Office, call_of, related, two_callers_of_one_number};
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// Seconds for which the callers wait in the queue. Lone legs are compared every 32 s, so not all waits end then.
const WAITS: [i64; 3] = [9, 17, 25];
/// Milliseconds for which the telephone and its caller talk.
const TALK_MS: i64 = 7_000;

/// Returns both sides of a talk through the PBX: the caller (voice `from`) on leg `a`, and the telephone (voice `to`) on
/// leg `b`.
fn talk(a: DialogId, b: DialogId, [from, to]: [u8; 2]) -> [(u8, DialogId, Side); 4] {
    [(from, a, Side::Caller), (to, a, Side::Callee), (from, b, Side::Caller), (to, b, Side::Callee)]
}

/// Asserts that the leg of a telephone is in the record of its caller, or that content relates the two records.
#[track_caller]
fn assert_served(played: &PlayedScene, scene: &Scene, caller: DialogId, telephone: DialogId) {
    let own: &CallRecord = &call_of(played, scene, caller).record;
    let id = &scene.get(telephone).call_id;
    if own.legs.iter().any(|leg| leg.sip_call_id == *id) {
        assert_eq!(own.legs.len(), 2);
        return;
    }
    let other = &call_of(played, scene, telephone).record;
    assert!(related(own, other));
    let by_content = own.relations.iter().filter(|relation| relation.why == CorrelationRule::MediaContent);
    assert_eq!(by_content.map(|relation| &relation.id).collect::<Vec<_>>(), [&other.id]);
}

/// The queue rings its telephone in its own name, at the address that the caller reached or at another one.
#[test]
fn a_telephone_of_a_nameless_queue_is_found_by_its_voices() {
    for (wait, host) in WAITS.into_iter().flat_map(|wait| [(wait, 9), (wait, 10)]) {
        let mut office = Office { scene: Scene::noisy(), ..Office::new() };
        let a = office.inbound();
        let Office { mut scene, mut e200, .. } = office;
        let b = scene.leg(&mut ScenePhone::new(DID, host), &mut e200, ["700", "200"]);
        scene.connect(a);
        let music = [(1, a, Side::Caller), (MUSIC, a, Side::Callee)];
        scene.sound(&music, wait * 1_000);
        scene.invite_and_ring(b);
        scene.sound(&music, 1_000);
        scene.answer(b);
        scene.sound(&talk(a, b, [1, 2]), TALK_MS);
        scene.bye_all(&[a, b], Side::Caller);
        assert_served(&play(&scene), &scene, a, b);
    }
}

/// Two callers of one company number wait when both telephones ring.
#[test]
fn two_waiting_callers_of_one_number_are_told_apart_by_their_voices() {
    for wait in WAITS {
        let mut scene = Scene::noisy();
        let [a, c, b, d] = two_callers_of_one_number(&mut scene);
        scene.connect(a);
        scene.connect(c);
        let music = [(1, a, Side::Caller), (MUSIC, a, Side::Callee), (4, c, Side::Caller), (6, c, Side::Callee)];
        scene.sound(&music, wait * 1_000);
        scene.invite_and_ring(b);
        scene.wait(500);
        scene.invite_and_ring(d);
        scene.sound(&music, 1_000);
        scene.answer(d);
        scene.sound(&[&music[..2], &talk(c, d, [4, 3])].concat(), 1_000);
        scene.answer(b);
        scene.sound(&[talk(a, b, [1, 2]), talk(c, d, [4, 3])].concat(), TALK_MS);
        scene.bye_all(&[a, b, c, d], Side::Caller);
        let played = play(&scene);
        assert_served(&played, &scene, a, b);
        assert_served(&played, &scene, c, d);
    }
}

/// A caller dials an outside number through the PBX (DISA). The PBX calls it in the name of the office.
#[test]
fn an_outside_party_reached_through_the_menu_is_found_by_its_voices() {
    for wait in WAITS {
        let mut office = Office { scene: Scene::noisy(), ..Office::new() };
        let a = office.inbound();
        let Office { mut scene, mut pbx, .. } = office;
        let mut mobile = ScenePhone::new("+79160000009", 4);
        let b = scene.leg(&mut pbx, &mut mobile, [DID, "+79160000009"]);
        scene.connect(a);
        scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], wait * 1_000);
        scene.connect(b);
        scene.sound(&talk(a, b, [1, 4]), TALK_MS);
        scene.bye_all(&[a, b], Side::Caller);
        assert_served(&play(&scene), &scene, a, b);
    }
}
