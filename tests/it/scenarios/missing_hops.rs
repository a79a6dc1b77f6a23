//! Hops that the mirror misses or shows out of order, and calls that begin on the PBX's own host.

use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallDirection, CallOutcome, EventKind, Side};

use crate::scenarios::{DID, OUTSIDE, Office};
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, MessageChange, Scene, ScenePhone};

/// Returns direction, called number and number of legs of each record, sorted by number.
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
fn a_call_through_a_proxy_whose_hop_to_the_pbx_is_missing_is_one_call() {
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

/// A dialler on the PBX's host calls two numbers and shows the office's number. The leg of the second call to the
/// provider is captured before the leg that caused it.
fn campaign() -> (Scene, [DialogId; 4]) {
    let mut scene = Scene::mute();
    let (mut pbx, mut provider) = (ScenePhone::new(DID, 9), ScenePhone::new("", 1));
    let mut dialler = ScenePhone { sip: pbx.sip.with_port(5_080), next_port: 30_000, ..ScenePhone::new(DID, 9) };
    let [one, two] = [OUTSIDE, "+79990000002"].map(|number| {
        [scene.leg(&mut dialler, &mut pbx, [DID, number]), scene.leg(&mut pbx, &mut provider, [DID, number])]
    });
    (scene, [one[0], one[1], two[0], two[1]])
}

#[test]
fn calls_of_a_dialler_on_the_pbx_are_outbound_and_one_record_each() {
    for order in [[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 3], [0, 3, 1, 2]] {
        let (mut scene, legs) = campaign();
        for n in order {
            scene.invite(legs[n]);
        }
        answer_and_end(&mut scene, &legs);
        let outbound = |to: &str| (CallDirection::Outbound, to.to_owned(), 2);
        assert_eq!(called(&play(&scene)), [outbound(OUTSIDE), outbound("+79990000002")], "{order:?}");
    }
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
    // Both devices belong to extension 200, which missed the call.
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
fn a_hop_between_two_nodes_that_is_captured_last_belongs_to_the_call() {
    // The trunk ends at host 9, the telephone is registered at host 98, and the cluster sends the call from 97 to 98.
    let mut scene = Scene::mute();
    let [mut outside, mut trunk, mut inner, mut node, mut phone] =
        [(OUTSIDE, 1), (DID, 9), ("", 97), ("", 98), ("200", 2)].map(|(user, host)| ScenePhone::new(user, host));
    let a = scene.leg(&mut outside, &mut trunk, [OUTSIDE, DID]);
    let middle = scene.leg(&mut inner, &mut node, [OUTSIDE, "200"]);
    let b = scene.leg(&mut node, &mut phone, [OUTSIDE, "200"]);
    for leg in [a, b, middle] {
        scene.invite(leg);
    }
    answer_and_end(&mut scene, &[a, middle, b]);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!((record.direction, record.internal.as_deref()), (CallDirection::Inbound, Some("200")));
    let rules: Vec<_> = record.legs.iter().map(|leg| leg.joined_by).collect();
    assert_eq!(rules, [None, Some(CorrelationRule::AgreeingNumbers), Some(CorrelationRule::LateCause)]);
}
