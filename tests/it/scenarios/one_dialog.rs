//! Tests of calls with one dialog that passes a proxy. Its hops must count as one leg, as they do without the proxy.

use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallDirection, CallOutcome, CallRecord, Side};

use crate::scenarios::{DID, MUSIC, OUTSIDE, Office, call_of, related};
use crate::support::playback::play;
use crate::support::scenario::{DialogId, Scene, ScenePhone};

const MOBILE: &str = "+79161234567";

/// Adds a dialog over these machines. Returns its hops. The media goes from end to end.
pub(super) fn dialog(scene: &mut Scene, machines: &mut [&mut ScenePhone], numbers: [&str; 2]) -> Vec<DialogId> {
    let mut hops: Vec<DialogId> = Vec::new();
    for n in 1..machines.len() {
        let [mut from, mut to] = [n - 1, n].map(|n| machines[n].clone());
        let hop = scene.leg(&mut from, &mut to, numbers);
        let first = scene.get(*hops.first().unwrap_or(&hop)).clone();
        let ends = [0, machines.len() - 1].map(|end| machines[end].voice);
        let dialog = scene.at(hop);
        (dialog.call_id, dialog.tags, dialog.voices) = (first.call_id, first.tags, ends);
        hops.push(hop);
    }
    let media = [0, machines.len() - 1].map(|end| machines[end].media());
    hops.iter().for_each(|hop| scene.at(*hop).media = media);
    hops
}

/// Adds a dialog between two machines, or over a proxy on host 8 between them.
fn perhaps_over_proxy(
    scene: &mut Scene,
    [from, to]: [&mut ScenePhone; 2],
    numbers: [&str; 2],
    is_proxied: bool,
) -> Vec<DialogId> {
    let mut proxy = ScenePhone::new("", 8);
    match is_proxied {
        true => dialog(scene, &mut [from, &mut proxy, to], numbers),
        false => dialog(scene, &mut [from, to], numbers),
    }
}

pub(super) fn invite(scene: &mut Scene, hops: &[DialogId]) {
    hops.iter().for_each(|hop| scene.invite(*hop));
    hops.iter().rev().for_each(|hop| scene.ring(*hop));
}

pub(super) fn answer(scene: &mut Scene, hops: &[DialogId]) {
    hops.iter().rev().for_each(|hop| _ = scene.answer(*hop));
}

fn facts(record: &CallRecord) -> (CallDirection, CallOutcome, Option<&str>) {
    (record.direction, record.outcome, record.internal.as_deref())
}

/// 200 takes a second caller on the leg of its first call (call waiting). So only the voices show who took this caller.
#[test]
fn a_second_caller_on_the_same_leg_has_the_extension() {
    for is_proxied in [false, true] {
        let mut office = Office { scene: Scene::noisy(), ..Office::new() };
        let (a, b) = office.connected();
        let Office { scene, pbx, .. } = &mut office;
        let mut second = ScenePhone::new("+79990000777", 4);
        let c = perhaps_over_proxy(scene, [&mut second, pbx], ["+79990000777", DID], is_proxied);
        scene.bridge(a, b, 4_000);
        invite(scene, &c);
        scene.bridge(a, b, 1_000);
        scene.hold(b, Side::Callee);
        scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 6_000);
        answer(scene, &c);
        scene.resume(b, Side::Callee);
        let voices = [(4, c[0], Side::Caller), (2, c[0], Side::Callee), (4, b, Side::Caller), (2, b, Side::Callee)];
        scene.sound(&[&voices[..], &[(1, a, Side::Caller), (MUSIC, a, Side::Callee)]].concat(), 8_000);
        scene.bye_all(&c, Side::Caller);
        scene.bridge(a, b, 2_000);
        scene.bye_all(&[a, b], Side::Caller);
        let played = play(scene);
        let [one, two] = [a, c[0]].map(|leg| &call_of(&played, scene, leg).record);
        assert_eq!(facts(two), (CallDirection::Inbound, CallOutcome::Answered, Some("200")), "{is_proxied}");
        assert!(related(one, two), "{is_proxied}");
    }
}

/// The PBX forwards a caller in the office's name. Both calls are answered together, so the outside telephone answered.
#[test]
fn a_call_forwarded_in_the_offices_name_is_answered() {
    for is_proxied in [false, true] {
        let mut office = Office::new();
        let (a, b) = (office.inbound(), office.rings_200());
        let Office { scene, pbx, .. } = &mut office;
        let mut mobile = ScenePhone::new(MOBILE, 4);
        let m = perhaps_over_proxy(scene, [pbx, &mut mobile], [DID, MOBILE], is_proxied);
        scene.ring_through(a, b);
        scene.wait(3_000);
        invite(scene, &m);
        scene.wait(2_000);
        answer(scene, &m);
        scene.answer(a);
        scene.cancel(b);
        scene.sound(&[(1, a, Side::Caller), (4, a, Side::Callee)], 4_000);
        scene.bye(a, Side::Caller);
        scene.bye_all(&m, Side::Caller);
        let played = play(scene);
        let [one, two] = [a, m[0]].map(|leg| &call_of(&played, scene, leg).record);
        assert_eq!(facts(one), (CallDirection::Inbound, CallOutcome::Answered, None), "{is_proxied}");
        let why: Vec<CorrelationRule> = one.relations.iter().map(|relation| relation.why).collect();
        assert_eq!((why, related(one, two)), (vec![CorrelationRule::ForwardedOutside], true), "{is_proxied}");
    }
}

#[test]
fn click_to_call_of_a_telephone_behind_a_proxy_is_one_call() {
    for is_proxied in [false, true] {
        let mut office = Office::new();
        let Office { scene, pbx, e200, outside, .. } = &mut office;
        let a = perhaps_over_proxy(scene, [pbx, e200], ["callback", "200"], is_proxied);
        let b = scene.leg(pbx, outside, [DID, OUTSIDE]);
        invite(scene, &a);
        scene.wait(1_000);
        answer(scene, &a);
        scene.wait(200);
        scene.connect(b);
        scene.sound(&[(2, b, Side::Caller), (1, b, Side::Callee)], 2_000);
        scene.bye(b, Side::Caller);
        scene.bye_all(&a, Side::Caller);
        let played = play(scene);
        let record = &played.only().record;
        assert_eq!(facts(record), (CallDirection::Outbound, CallOutcome::Answered, Some("200")), "{is_proxied}");
    }
}

/// 201 calls out at the same time, so the PBX's call to the outside number may belong to 201.
#[test]
fn a_caller_behind_a_proxy_makes_a_click_to_call_ambiguous() {
    for is_proxied in [false, true] {
        let mut office = Office::new();
        let Office { scene, outside, pbx, e200, e201 } = &mut office;
        let x = perhaps_over_proxy(scene, [e201, pbx], ["201", "5551234"], is_proxied);
        let a = scene.leg(pbx, e200, ["200", "200"]);
        let b = scene.leg(pbx, outside, [DID, OUTSIDE]);
        scene.invite(a);
        scene.answer(a);
        invite(scene, &x);
        scene.invite_and_ring(b);
        scene.wait(1_000);
        scene.answer(b);
        answer(scene, &x);
        scene.wait(1_000);
        scene.bye_all(&[x, vec![b, a]].concat(), Side::Caller);
        let played = play(scene);
        assert_eq!(played.calls.len(), 3, "{is_proxied}");
        let [clicked, outbound] = [a, b].map(|leg| &call_of(&played, scene, leg).record);
        assert!(related(clicked, outbound), "{is_proxied}");
    }
}
