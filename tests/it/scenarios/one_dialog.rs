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

/// The way of a call from the provider to the PBX, on two hops of one dialog.
#[derive(Clone, Copy, Debug)]
enum TwoHops {
    /// A proxy with one address.
    Proxy,
    /// A proxy with one address towards the provider and another towards the PBX.
    TwoAddresses,
    /// A NAT router that is mirrored on both sides. The provider's address is the same on both.
    Nat,
}

impl TwoHops {
    /// Adds an inbound dialog over both hops.
    fn inbound(self, scene: &mut Scene, outside: &ScenePhone, pbx: &ScenePhone) -> Vec<DialogId> {
        let (outer, inner) = (ScenePhone::new("", 8), ScenePhone::new("", 7));
        let sends_inner = match self {
            Self::Proxy => &outer,
            Self::TwoAddresses => &inner,
            Self::Nat => outside,
        };
        let hops = [[outside, &outer], [sends_inner, pbx]].map(|ends| {
            let [mut from, mut to] = ends.map(ScenePhone::clone);
            scene.leg(&mut from, &mut to, [OUTSIDE, DID])
        });
        let first = scene.get(hops[0]).clone();
        let media = [outside, pbx].map(|end| end.clone().media());
        for hop in hops {
            let dialog = scene.at(hop);
            (dialog.call_id, dialog.tags) = (first.call_id.clone(), first.tags.clone());
            (dialog.voices, dialog.media) = ([outside.voice, pbx.voice], media);
        }
        hops.to_vec()
    }
}

/// A voice menu answers, or a queue, for which 200 rings in vain. Then 201 is rung and talks with the caller.
#[test]
fn a_menu_behind_two_hops_connects_its_caller() {
    for (way, rings_first) in
        [TwoHops::Proxy, TwoHops::TwoAddresses, TwoHops::Nat].map(|way| [(way, false), (way, true)]).concat()
    {
        let mut office = Office::new();
        let Office { scene, outside, pbx, e200, e201 } = &mut office;
        let a = way.inbound(scene, outside, pbx);
        let [b, c] = [(&mut *e200, "200"), (&mut *e201, "201")].map(|(to, name)| scene.leg(pbx, to, [OUTSIDE, name]));
        invite(scene, &a);
        answer(scene, &a);
        let menu = [(1, a[1], Side::Caller), (MUSIC, a[1], Side::Callee)];
        scene.sound(&menu, 5_000);
        if rings_first {
            scene.invite_and_ring(b);
            scene.sound(&menu, 4_000);
            scene.cancel(b);
            scene.wait(500);
        }
        scene.invite_and_ring(c);
        scene.sound(&menu, 2_000);
        scene.answer(c);
        scene.bridge(a[1], c, 6_000);
        scene.bye(c, Side::Callee);
        scene.bye_all(&a, Side::Callee);
        let played = play(scene);
        let record = &played.only().record;
        let name = format!("{way:?}, rings first: {rings_first}");
        assert_eq!(facts(record), (CallDirection::Inbound, CallOutcome::Answered, Some("201")), "{name}");
    }
}

/// A proxy forks the call to two telephones, and one of them answers. A leg that the other one sends later is not for
/// this caller, who talks.
#[test]
fn a_caller_who_talks_on_another_branch_does_not_wait() {
    let mut office = Office::new();
    let Office { scene, outside, pbx, e200, e201 } = &mut office;
    let mut proxy = ScenePhone::new("", 8);
    let inbound = scene.leg(outside, &mut proxy, [OUTSIDE, DID]);
    let [a, b] = [&mut *pbx, &mut *e200].map(|to| scene.leg(&mut proxy, to, [OUTSIDE, DID]));
    let first = scene.get(inbound).clone();
    for branch in [a, b] {
        let dialog = scene.at(branch);
        (dialog.call_id, dialog.tags[0]) = (first.call_id.clone(), first.tags[0].clone());
    }
    scene.at(inbound).tags[1] = scene.get(b).tags[1].clone();
    let stranger = scene.leg(pbx, e201, [OUTSIDE, "201"]);
    for leg in [inbound, a, b] {
        scene.invite(leg);
    }
    scene.answer(a);
    scene.answer(b);
    scene.answer(inbound);
    scene.bridge(inbound, b, 3_000);
    scene.invite_and_ring(stranger);
    scene.wait(1_000);
    scene.cancel(stranger);
    scene.bye_all(&[inbound, a, b], Side::Caller);
    let played = play(scene);
    assert_eq!(played.calls.len(), 2);
}
