//! Tests of hops that the mirror misses or captures out of order, and of calls that begin on the PBX's own host.

use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallDirection, CallOutcome, EventKind, Side};

use crate::scenarios::{DID, OUTSIDE, Office};
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, MessageChange, Scene, ScenePhone};

/// Returns direction, called number and number of legs of each record. The result is sorted by called number.
fn called(played: &PlayedScene) -> Vec<(CallDirection, String, usize)> {
    let row = |c: &crate::support::playback::PlayedCall| {
        (c.record.direction, c.record.to.clone().unwrap_or_default(), c.record.legs.len())
    };
    let mut rows: Vec<_> = played.calls.iter().map(row).collect();
    rows.sort_by(|a, b| a.1.cmp(&b.1));
    rows
}

fn answer_and_end(scene: &mut Scene, legs: &[DialogId]) {
    for leg in legs.iter().rev() {
        scene.answer(*leg);
    }
    scene.wait(2_000);
    scene.bye_all(legs, Side::Caller);
}

#[test]
fn proxied_call_without_its_hop_to_the_pbx_is_one_call() {
    let mut scene = Scene::mute();
    let (mut proxy, mut pbx) = (ScenePhone::new("proxy", 8), ScenePhone::new(DID, 9));
    let (mut outside, mut phone) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new("200", 2));
    let a = scene.leg(&mut outside, &mut proxy, [OUTSIDE, DID]);
    let b = scene.leg(&mut pbx, &mut proxy, [OUTSIDE, "200"]);
    let c = scene.leg(&mut proxy, &mut phone, [OUTSIDE, "200"]);
    let (call_id, tags) = (scene.get(b).call_id.clone(), scene.get(b).tags.clone());
    (scene.at(c).call_id, scene.at(c).tags) = (call_id, tags);
    let legs = [a, b, c];
    for leg in legs {
        scene.invite(leg);
    }
    answer_and_end(&mut scene, &legs);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.direction, record.internal.as_deref()), (CallDirection::Inbound, Some("200")));
}

/// Makes a scene in which a dialler on the PBX's host calls two numbers. The dialler shows the office's number as the
/// caller.
fn campaign() -> (Scene, [DialogId; 4]) {
    let mut scene = Scene::mute();
    let (mut pbx, mut provider) = (ScenePhone::new(DID, 9), ScenePhone::new("", 1));
    let mut dialler = ScenePhone { sip: pbx.sip.with_port(5_080), next_port: 30_000, ..ScenePhone::new(DID, 9) };
    let [one, two] = [OUTSIDE, "+79990000002"].map(|number| {
        [scene.leg(&mut dialler, &mut pbx, [DID, number]), scene.leg(&mut pbx, &mut provider, [DID, number])]
    });
    (scene, [one[0], one[1], two[0], two[1]])
}

/// Makes a scene in which a PBX behind a border controller calls two numbers. The PBX shows the office's number as the
/// caller.
fn two_calls_through_a_border_controller() -> (Scene, [DialogId; 4]) {
    let mut scene = Scene::mute();
    let [mut pbx, mut border, mut provider] = [9, 98, 1].map(|host| ScenePhone::new(DID, host));
    let [one, two] = [OUTSIDE, "+79990000002"].map(|number| {
        [scene.leg(&mut pbx, &mut border, [DID, number]), scene.leg(&mut border, &mut provider, [DID, number])]
    });
    (scene, [one[0], one[1], two[0], two[1]])
}

/// Returns all orders in which four legs can be captured.
fn orders() -> Vec<[usize; 4]> {
    let all = (0..256_usize).map(|n| [n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6 & 3]);
    all.filter(|order| (0..4).all(|leg| order.contains(&leg))).collect()
}

#[test]
fn calls_of_a_dialler_are_outbound_and_one_record_each() {
    for order in orders() {
        let (mut scene, legs) = campaign();
        order.iter().for_each(|n| scene.invite(legs[*n]));
        answer_and_end(&mut scene, &legs);
        let outbound = |to: &str| (CallDirection::Outbound, to.to_owned(), 2);
        assert_eq!(called(&play(&scene)), [outbound(OUTSIDE), outbound("+79990000002")], "{order:?}");
    }
}

#[test]
fn calls_in_one_name_stay_apart_in_any_leg_order() {
    for order in orders() {
        let (mut scene, legs) = two_calls_through_a_border_controller();
        order.iter().for_each(|n| scene.invite(legs[*n]));
        answer_and_end(&mut scene, &legs);
        let played = called(&play(&scene));
        let calls: Vec<_> = played.iter().map(|(_, to, legs)| (to.as_str(), *legs)).collect();
        assert_eq!(calls, [(OUTSIDE, 2), ("+79990000002", 2)], "{order:?}");
    }
}

#[test]
fn two_extensions_that_call_one_number_at_once_are_two_records() {
    // The mirror misses the leg of the first extension.
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut scene = Scene::mute();
        let [mut second, mut pbx, mut provider] =
            [("202", 3), (DID, 9), ("", 1)].map(|(user, host)| ScenePhone::new(user, host));
        let e = scene.leg(&mut second, &mut pbx, ["202", OUTSIDE]);
        let [a, b] = ["201", "202"].map(|from| scene.leg(&mut pbx, &mut provider, [from, OUTSIDE]));
        let legs = [e, a, b];
        order.iter().for_each(|n| scene.invite(legs[*n]));
        answer_and_end(&mut scene, &legs);
        let played = play(&scene);
        let mut calls: Vec<_> = played.calls.iter().map(|c| (c.record.from.clone(), c.record.legs.len())).collect();
        calls.sort();
        assert_eq!(calls, [(Some("201".to_owned()), 1), (Some("202".to_owned()), 2)], "{order:?}");
    }
}

/// Makes a scene in which a dialler behind a border controller calls two numbers and shows the office's number. The PBX
/// sends these calls back over the same trunk.
fn two_calls_over_a_trunk_in_both_directions() -> (Scene, [DialogId; 4]) {
    let mut scene = Scene::mute();
    let [mut border, mut pbx] = [("", 98), (DID, 9)].map(|(user, host)| ScenePhone::new(user, host));
    let [one, two] = [OUTSIDE, "+79990000002"].map(|number| {
        [scene.leg(&mut border, &mut pbx, [DID, number]), scene.leg(&mut pbx, &mut border, [DID, number])]
    });
    (scene, [one[0], one[1], two[0], two[1]])
}

#[test]
fn trunk_calls_in_both_directions_stay_apart_in_any_leg_order() {
    let is_apart = |order: &[usize; 4]| {
        let (mut scene, legs) = two_calls_over_a_trunk_in_both_directions();
        order.iter().for_each(|n| scene.invite(legs[*n]));
        answer_and_end(&mut scene, &legs);
        let played = called(&play(&scene));
        let calls: Vec<_> = played.iter().map(|(_, to, legs)| (to.as_str(), *legs)).collect();
        calls == [(OUTSIDE, 2), ("+79990000002", 2)]
    };
    let failing: Vec<_> = orders().into_iter().filter(|order| !is_apart(order)).collect();
    assert!(failing.is_empty(), "{failing:?}");
}

#[test]
fn leg_over_a_two_way_trunk_is_released_for_its_cause() {
    // An extension behind a border controller and a branch office call one number at the same time. The mirror misses
    // the leg that the PBX sends for the extension.
    let mut failing = Vec::new();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut scene = Scene::mute();
        let [mut border, mut pbx] = [("", 98), (DID, 9)].map(|(user, host)| ScenePhone::new(user, host));
        let branch = "+79990000003";
        let [extension, cause] = ["200", branch].map(|from| scene.leg(&mut border, &mut pbx, [from, OUTSIDE]));
        let effect = scene.leg(&mut pbx, &mut border, [branch, OUTSIDE]);
        let legs = [extension, cause, effect];
        order.iter().for_each(|n| scene.invite(legs[*n]));
        answer_and_end(&mut scene, &legs);
        let played = play(&scene);
        let mut calls: Vec<_> =
            played.calls.iter().map(|c| (c.record.from.clone().unwrap_or_default(), c.record.legs.len())).collect();
        calls.sort();
        if calls != [(branch.to_owned(), 2), (String::from("200"), 1)] {
            failing.push(format!("{order:?}: {calls:?}"));
        }
    }
    assert!(failing.is_empty(), "{failing:#?}");
}

/// Makes an inbound call with four hops: through a border controller with two addresses, a PBX, and a proxy before the
/// telephone.
fn four_hops() -> (Scene, [DialogId; 4]) {
    let mut scene = Scene::mute();
    let [mut outside, mut wan, mut lan, mut pbx, mut proxy, mut phone] =
        [(OUTSIDE, 1), (DID, 97), ("", 98), (DID, 9), ("", 99), ("200", 2)]
            .map(|(user, host)| ScenePhone::new(user, host));
    let trunk = scene.leg(&mut outside, &mut wan, [OUTSIDE, DID]);
    let inner = scene.leg(&mut lan, &mut pbx, [OUTSIDE, DID]);
    let rings = scene.leg(&mut pbx, &mut proxy, [OUTSIDE, "200"]);
    let last = scene.leg(&mut proxy, &mut phone, [OUTSIDE, "200"]);
    let (call_id, tags) = (scene.get(rings).call_id.clone(), scene.get(rings).tags.clone());
    (scene.at(last).call_id, scene.at(last).tags) = (call_id, tags);
    (scene, [trunk, inner, rings, last])
}

#[test]
fn call_of_four_hops_is_one_record_in_any_leg_order() {
    let is_one_call = |order: &[usize; 4]| {
        let (mut scene, legs) = four_hops();
        order.iter().for_each(|n| scene.invite(legs[*n]));
        answer_and_end(&mut scene, &legs);
        let played = play(&scene);
        let calls: Vec<_> = played.calls.iter().map(|c| (c.record.direction, c.record.internal.as_deref())).collect();
        calls == [(CallDirection::Inbound, Some("200"))]
    };
    // Only orders are kept in which both hops of one dialog are in their true order, because one mirror port shows
    // both.
    let at = |order: &[usize; 4], leg: usize| order.iter().position(|n| *n == leg);
    let in_order = orders().into_iter().filter(|order| at(order, 2) < at(order, 3));
    let failing: Vec<_> = in_order.filter(|order| !is_one_call(order)).collect();
    assert!(failing.is_empty(), "{failing:?}");
}

#[test]
fn leg_without_mirrored_cause_joins_no_call_in_its_name() {
    let mut failing = Vec::new();
    for order in [[0, 1, 3], [0, 3, 1], [1, 0, 3], [1, 3, 0], [3, 0, 1], [3, 1, 0]] {
        let scenes = [campaign(), two_calls_through_a_border_controller(), two_calls_over_a_trunk_in_both_directions()];
        for (n, (mut scene, legs)) in scenes.into_iter().enumerate() {
            order.iter().for_each(|n| scene.invite(legs[*n]));
            answer_and_end(&mut scene, &[legs[0], legs[1], legs[3]]);
            let played = called(&play(&scene));
            let calls: Vec<_> = played.iter().map(|(_, to, legs)| (to.as_str(), *legs)).collect();
            if calls != [(OUTSIDE, 2), ("+79990000002", 1)] {
                failing.push(format!("scene {n}, {order:?}: {calls:?}"));
            }
        }
    }
    assert!(failing.is_empty(), "{failing:#?}");
}

#[test]
fn a_device_that_a_push_message_wakes_belongs_to_the_ringing_call() {
    let mut scene = Scene::mute();
    let (mut outside, mut pbx, mut proxy) =
        (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(DID, 9), ScenePhone::new("200", 7));
    let a = scene.leg(&mut outside, &mut pbx, [OUTSIDE, DID]);
    let [desk, mobile] = ["200-desk", "200-mobile"].map(|device| {
        let leg = scene.leg(&mut pbx, &mut proxy, [OUTSIDE, "200"]);
        scene.at(leg).request_user = device.to_owned();
        leg
    });
    scene.invite(a);
    scene.invite(desk);
    scene.wait(5_000);
    scene.invite(mobile);
    scene.wait(2_000);
    scene.cancel(desk);
    scene.cancel(mobile);
    scene.cancel(a);
    let played = play(&scene);
    let record = &played.only().record;
    // Both devices belong to extension 200, which did not answer the call.
    assert_eq!((record.internal.as_deref(), record.outcome), (Some("200"), CallOutcome::Cancelled));
    assert_eq!(record.legs[2].joined_by, Some(CorrelationRule::AnotherDevice));
}

#[test]
fn an_ice_agent_without_a_candidate_yet_holds_nobody() {
    for (ice, holds) in [("a=ice-ufrag:abcd\r\n", false), ("", true)] {
        let mut office = Office::new();
        let (a, b) = (office.inbound(), office.rings_200());
        let scene = &mut office.scene;
        scene.ring_through(a, b);
        let answer = scene.sdp(b, Side::Callee, &[]).replace("c=IN IP4 10.0.0.2", "c=IN IP4 0.0.0.0");
        scene.response(b, Side::Callee, (200, "INVITE"), &[MessageChange::Sdp(format!("{answer}{ice}"))]);
        scene.at(b).confirmed = true;
        scene.request(b, Side::Caller, "ACK", &[]);
        scene.answer(a);
        scene.bridge(a, b, 400);
        scene.bye_all(&[a, b], Side::Caller);
        let played = play(scene);
        assert_eq!(played.only().record.events.iter().any(|e| e.kind == EventKind::Hold), holds, "{ice:?}");
    }
}

#[test]
fn an_extensions_call_whose_first_hop_is_captured_last_is_outbound() {
    // The mirror misses the hop from the proxy to the PBX.
    let mut scene = Scene::mute();
    let [mut phone, mut proxy, mut pbx, mut provider] =
        [("200", 2), ("", 98), (DID, 9), ("", 1)].map(|(user, host)| ScenePhone::new(user, host));
    let first = scene.leg(&mut phone, &mut proxy, ["200", OUTSIDE]);
    let back = scene.leg(&mut pbx, &mut proxy, [DID, OUTSIDE]);
    let out = scene.leg(&mut proxy, &mut provider, [DID, OUTSIDE]);
    let (call_id, tags) = (scene.get(back).call_id.clone(), scene.get(back).tags.clone());
    (scene.at(out).call_id, scene.at(out).tags) = (call_id, tags);
    for leg in [back, out, first] {
        scene.invite(leg);
    }
    answer_and_end(&mut scene, &[first, back, out]);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.direction, record.internal.as_deref()), (CallDirection::Outbound, Some("200")));
}

#[test]
fn hop_between_two_nodes_belongs_to_the_call_when_captured_last() {
    // A cluster has two nodes. The trunk ends at host 9, and the telephone is registered at host 98. The cluster sends
    // the call from its host 97 to host 98. It may name another number of the caller there.
    for header in [None, Some("P-Asserted-Identity: <sip:+74951112222@cluster>")] {
        let mut scene = Scene::mute();
        let [mut outside, mut trunk, mut inner, mut node, mut phone] =
            [(OUTSIDE, 1), (DID, 9), ("", 97), ("", 98), ("200", 2)].map(|(user, host)| ScenePhone::new(user, host));
        let a = scene.leg(&mut outside, &mut trunk, [OUTSIDE, DID]);
        let middle = scene.leg(&mut inner, &mut node, [OUTSIDE, "200"]);
        scene.at(middle).headers.extend(header.map(str::to_owned));
        let b = scene.leg(&mut node, &mut phone, [OUTSIDE, "200"]);
        for leg in [a, b, middle] {
            scene.invite(leg);
        }
        answer_and_end(&mut scene, &[a, middle, b]);
        let played = play(&scene);
        let record = &played.only().record;
        assert_eq!((record.direction, record.internal.as_deref()), (CallDirection::Inbound, Some("200")));
        let rules: Vec<_> = record.legs.iter().map(|leg| leg.joined_by).collect();
        assert_eq!(
            rules,
            [None, Some(CorrelationRule::AgreeingNumbers), Some(CorrelationRule::LateCause)],
            "{header:?}"
        );
    }
}
