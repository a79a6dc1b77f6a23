//! A kill changes no decision about which legs are one call: the records are those of a recorder that was never killed.

use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallDirection, CallRecord, Side};
use callspan::net::Endpoint;

use crate::scenarios::{DID, OUTSIDE, Office};
use crate::support::playback::play;
use crate::support::restart::records_with_kill;
use crate::support::scenario::{Scene, ScenePhone};

/// The facts of a record that correlation decided: id, direction, extension, the legs with their rules, the relations.
type DecidedFacts =
    (String, CallDirection, Option<String>, Vec<(String, Option<CorrelationRule>)>, Vec<(String, CorrelationRule)>);

fn decided(record: &CallRecord) -> DecidedFacts {
    // A leg that nobody answered leaves no spool.
    let answered = record.legs.iter().filter(|leg| leg.answered_at.is_some());
    let legs = answered.map(|leg| (leg.sip_call_id.clone(), leg.joined_by)).collect();
    let relations = record.relations.iter().map(|relation| (relation.id.clone(), relation.why)).collect();
    (record.id.clone(), record.direction, record.internal.clone(), legs, relations)
}

/// Asserts that a kill at each of these milliseconds of the scene leads to the same records. Returns the records.
#[track_caller]
fn same_after_kills(scene: &Scene, kills_ms: &[i64]) -> Vec<CallRecord> {
    let whole: Vec<CallRecord> = play(scene).calls.into_iter().map(|call| call.record).collect();
    let expected: Vec<DecidedFacts> = whole.iter().map(decided).collect();
    for kill_ms in kills_ms {
        let mut records = records_with_kill(&scene.packets(), scene.now(), *kill_ms);
        records.sort_by_key(|record| (record.invited_at, record.id.clone()));
        assert_eq!(records.iter().map(decided).collect::<Vec<_>>(), expected, "killed at {kill_ms} ms");
    }
    whole
}

/// A PBX with two addresses, in an inbound call to 200. With `rewritten` numbers only the voices show that both legs are
/// one call.
fn two_addresses(scene: &mut Scene, rewritten: bool) -> [crate::support::scenario::DialogId; 2] {
    let public = |host: u8| Endpoint::v4([198, 51, 100, host], 5_060);
    let mut outside = ScenePhone { sip: public(1), ..ScenePhone::new(OUTSIDE, 1) };
    let mut wan = ScenePhone { voice: 5, ..ScenePhone::new(DID, 9) };
    let mut lan = ScenePhone { voice: 5, ..ScenePhone::new(DID, 99) };
    let mut e200 = ScenePhone::new("200", 2);
    let a = scene.leg(&mut outside, &mut wan, [OUTSIDE, DID]);
    let b = scene.leg(&mut lan, &mut e200, [if rewritten { "0451234567" } else { OUTSIDE }, "200"]);
    [a, b]
}

#[test]
fn a_call_whose_voices_prove_the_join_is_one_record_despite_a_kill_before_the_proof() {
    let mut scene = Scene::noisy();
    let [a, b] = two_addresses(&mut scene, true);
    scene.connect_through(a, b, 2_000);
    let answered = scene.now();
    scene.bridge_until_bye(a, b, 8_000, Side::Caller);
    let records = same_after_kills(&scene, &[answered + 300, answered + 3_000, answered + 6_000]);
    assert_eq!(records.len(), 1);
}

#[test]
fn a_join_by_numbers_that_was_confirmed_stays_confirmed_after_a_kill() {
    let mut scene = Scene::noisy();
    let [a, b] = two_addresses(&mut scene, false);
    scene.connect_through(a, b, 2_000);
    let answered = scene.now();
    scene.bridge_until_bye(a, b, 8_000, Side::Caller);
    let records = same_after_kills(&scene, &[answered - 1_000, answered + 1_000, answered + 5_000]);
    let [record] = records.as_slice() else { panic!("one call, not {}", records.len()) };
    assert_eq!((record.direction, record.internal.as_deref()), (CallDirection::Inbound, Some("200")));
}

/// The target declines, so its leg leaves no spool. Later the caller's number calls the target again.
#[test]
fn a_refer_that_was_used_claims_no_later_leg_after_a_kill() {
    let mut scene = Scene::new();
    let (mut outside, mut pbx) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(DID, 9));
    let (mut e200, mut e201) = (ScenePhone::new("200", 2), ScenePhone::new("201", 3));
    let a = scene.leg(&mut outside, &mut pbx, [OUTSIDE, DID]);
    let b = scene.leg(&mut pbx, &mut e200, [OUTSIDE, "200"]);
    scene.connect_through(a, b, 1_000);
    scene.refer(b, Side::Callee, "<sip:201@10.0.0.9>");
    let c = scene.leg(&mut pbx, &mut e201, [OUTSIDE, "201"]);
    scene.invite_and_ring(c);
    scene.refuse(c, 486, &[]);
    scene.talk(b, 4_000);
    let killed = scene.now();
    scene.talk(b, 1_000);
    // Only the PBX's leg of the next call is mirrored.
    let d = scene.leg(&mut pbx, &mut e201, ["200", "201"]);
    scene.connect(d);
    scene.talk(d, 2_000);
    scene.bye_all(&[d, a, b], Side::Caller);
    same_after_kills(&scene, &[killed]);
}

/// A REFER before the kill, its INVITE after the kill.
#[test]
fn a_transfer_that_is_under_way_at_a_kill_goes_on_in_the_same_call() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let c = office.rings_201();
    let scene = &mut office.scene;
    scene.bridge(a, b, 2_000);
    scene.refer(b, Side::Callee, "<sip:201@10.0.0.9>");
    scene.wait(500);
    let killed = scene.now();
    scene.wait(500);
    scene.invite_and_ring(c);
    scene.wait(1_000);
    scene.answer(c);
    scene.bye(b, Side::Caller);
    scene.bridge_until_bye(a, c, 3_000, Side::Caller);
    let records = same_after_kills(scene, &[killed, killed + 700]);
    assert_eq!(records.len(), 1);
}

/// Two telephones ring, one of them for a call that content relates to another one later.
#[test]
fn a_relation_survives_the_end_of_the_leg_at_which_it_was_found() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    office.scene.bridge(a, b, 2_000);
    office.scene.hold(b, Side::Callee);
    let (c, d, _) = office.consult(a, 2_000);
    let scene = &mut office.scene;
    scene.bye_all(&[c, d], Side::Callee);
    let consulted = scene.now();
    scene.wait(3_000);
    scene.resume(b, Side::Callee);
    scene.bridge_until_bye(a, b, 4_000, Side::Caller);
    let records = same_after_kills(scene, &[consulted - 1_000, consulted + 2_500]);
    assert!(records.iter().all(|record| record.relations.len() == 1));
}

/// Two callers of one number wait, and one telephone rings. Who it was for shows when it is answered, after the kill.
#[test]
fn a_leg_that_could_belong_to_two_calls_is_resolved_after_a_kill() {
    let mut scene = Scene::new();
    let (mut one, mut two) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(OUTSIDE, 4));
    let mut pbx = ScenePhone { voice: 5, ..ScenePhone::new(DID, 9) };
    let (mut e200, mut e201) = (ScenePhone::new("200", 2), ScenePhone::new("201", 3));
    let a = scene.leg(&mut one, &mut pbx, [OUTSIDE, DID]);
    let c = scene.leg(&mut two, &mut pbx, [OUTSIDE, DID]);
    let b = scene.leg(&mut pbx, &mut e200, [OUTSIDE, "200"]);
    let d = scene.leg(&mut pbx, &mut e201, [OUTSIDE, "201"]);
    scene.invite(a);
    scene.invite_and_ring(b);
    scene.wait(700);
    scene.invite(c);
    scene.wait(20);
    scene.invite_and_ring(d);
    scene.wait(1_000);
    let killed = scene.now();
    scene.wait(1_000);
    scene.answer(d);
    scene.answer(a);
    scene.bridge(a, d, 3_000);
    scene.cancel(b);
    scene.bye_all(&[a, d], Side::Caller);
    scene.cancel(c);
    same_after_kills(&scene, &[killed]);
}
