//! Tests of telephones that a PBX or a cluster of nodes rings, each from another address. Only a header joins the legs, or
//! the moment at which they stop ringing.

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::decision::Decision;
use callspan::call::event::{DiscardReason, KeptBytes, LegId, LegSink};
use callspan::call::leg_end::LegEndRole;
use callspan::call::record::{CallDirection, CallOutcome, CallRecord, Side};
use callspan::decode::UdpDatagram;
use callspan::net::Endpoint;
use callspan::time::Timestamp;

use crate::scenarios::leg_ends::{PBX, ends};
use crate::scenarios::restarts::same_after_kills;
use crate::scenarios::{DID, OUTSIDE, call_of};
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// The header that all legs of a call have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommonHeader {
    SessionId,
    CallId,
}

/// Makes one call for each order in which the mirror port shows the INVITEs. Each call comes from another number. The
/// second telephone, with the number `second`, answers.
///
/// In a cluster, a gateway passes the call on to one of the nodes. Its two legs are the first and the second.
fn ring_groups(header: CommonHeader, second: &str, orders: &[&[usize]], is_cluster: bool) -> PlayedScene {
    let mut scene = Scene::mute();
    for (n, order) in orders.iter().enumerate() {
        let caller = format!("+7999000001{n}");
        let legs = legs_of_group(&mut scene, [&caller, second], is_cluster);
        for leg in &legs {
            let dialog = scene.at(*leg);
            match header {
                CommonHeader::SessionId => {
                    let session = format!("0123456789abcdef0123456789abcd{n:02}");
                    dialog.headers.push(format!("Session-ID: {session};remote=00000000000000000000000000000000"));
                }
                CommonHeader::CallId => dialog.call_id = format!("0123456789abcdef{n}@scene"),
            }
        }
        for leg in *order {
            scene.invite(legs[*leg]);
            scene.wait(10);
        }
        legs.iter().rev().for_each(|leg| scene.ring(*leg));
        scene.wait(2_000);
        let rung = legs.len() - 2;
        let answered: Vec<DialogId> = legs[..rung].iter().chain(&legs[rung + 1..]).copied().collect();
        answered.iter().rev().for_each(|leg| _ = scene.answer(*leg));
        scene.cancel(legs[rung]);
        scene.wait(3_000);
        scene.bye_all(&answered, Side::Caller);
        scene.wait(60_000);
    }
    play(&scene)
}

fn legs_of_group(scene: &mut Scene, [caller, second]: [&str; 2], is_cluster: bool) -> Vec<DialogId> {
    let mut provider = ScenePhone::new("", 1);
    let (mut e200, mut other) = (ScenePhone::new("200", 2), ScenePhone::new(second, 3));
    let [mut wan, mut lan, mut node, mut other_node] = [9, 99, 98, 97].map(|host| ScenePhone::new(DID, host));
    // The PBX changes the caller's number, so the numbers join no legs.
    let shown = format!("0{}", &caller[1..]);
    let inbound = scene.leg(&mut provider, &mut wan, [caller, DID]);
    let passed_on = is_cluster.then(|| scene.leg(&mut lan, &mut node, [&shown, DID]));
    let first = scene.leg(if is_cluster { &mut node } else { &mut lan }, &mut e200, [&shown, "200"]);
    let last = scene.leg(&mut other_node, &mut other, [&shown, second]);
    [inbound].into_iter().chain(passed_on).chain([first, last]).collect()
}

#[track_caller]
fn assert_each_is_one_inbound_call(played: &PlayedScene, extension: &str, what: &str) {
    for call in &played.calls {
        let record = &call.record;
        let found = (record.direction, record.to.as_deref(), record.internal.as_deref(), record.outcome);
        assert_eq!(found, (CallDirection::Inbound, Some(DID), Some(extension), CallOutcome::Answered), "{what}");
        let provider = record.legs.iter().filter(|leg| {
            leg.caller.as_ref().is_some_and(|end| end.role == LegEndRole::Outside)
                && leg.callee.as_ref().is_some_and(|end| end.role == LegEndRole::Pbx)
        });
        assert_eq!(provider.count(), 1, "{what}: legs with the provider");
    }
    let is_party = |ip: std::net::IpAddr| [1, 2, 3].iter().any(|host| ip == std::net::IpAddr::from([10, 0, 0, *host]));
    let wrong: Vec<_> = played.learnt.iter().filter(|pair| is_party(pair.a) || is_party(pair.b)).collect();
    assert!(wrong.is_empty(), "{what}: a telephone or provider was learnt as the PBX: {wrong:?}");
}

#[test]
fn a_ring_group_over_several_addresses_is_one_call() {
    let orders: [&[usize]; 6] = [&[0, 1, 2], &[0, 2, 1], &[1, 0, 2], &[2, 0, 1], &[1, 2, 0], &[2, 1, 0]];
    for header in [CommonHeader::SessionId, CommonHeader::CallId] {
        for second in ["201", "200"] {
            let what = format!("{header:?} and {second}");
            let played = ring_groups(header, second, &orders, false);
            assert_eq!(played.calls.len(), orders.len(), "{what}: calls");
            assert_each_is_one_inbound_call(&played, second, &what);
        }
    }
}

#[test]
fn a_ring_group_over_the_nodes_of_a_cluster_is_one_call() {
    let orders: [&[usize]; 4] = [&[0, 1, 2, 3], &[0, 1, 3, 2], &[0, 1, 2, 3], &[0, 1, 3, 2]];
    for header in [CommonHeader::SessionId, CommonHeader::CallId] {
        let what = format!("{header:?}");
        let played = ring_groups(header, "201", &orders, true);
        assert_eq!(played.calls.len(), orders.len(), "{what}: calls");
        assert_each_is_one_inbound_call(&played, "201", &what);
    }
}

/// Two callers of one number come at the same time, and the PBX rings a group for one of them. Only the moment of the
/// answer shows for which. Returns the played scene, and the legs of both callers and of both telephones.
fn ring_group_of_one_of_two(pbx_hosts: [u8; 2], order: [usize; 4]) -> (PlayedScene, Scene, [DialogId; 4]) {
    let mut scene = Scene::new();
    let [mut wan, mut lan] = pbx_hosts.map(|host| ScenePhone::new(DID, host));
    let provider = |host| Endpoint::v4([203, 0, 113, host], 5_060);
    let [mut one, mut two] = [1, 4].map(|host| ScenePhone { sip: provider(host), ..ScenePhone::new(OUTSIDE, host) });
    let (mut e200, mut e201) = (ScenePhone::new("200", 2), ScenePhone::new("201", 3));
    let legs = [
        scene.leg(&mut one, &mut wan, [OUTSIDE, DID]),
        scene.leg(&mut two, &mut wan, [OUTSIDE, DID]),
        scene.leg(&mut lan, &mut e200, [OUTSIDE, "200"]),
        scene.leg(&mut lan, &mut e201, [OUTSIDE, "201"]),
    ];
    let [a, c, b, d] = legs;
    order.into_iter().for_each(|leg| scene.invite(legs[leg]));
    legs.into_iter().for_each(|leg| scene.ring(leg));
    scene.wait(2_000);
    scene.answer(d);
    scene.answer(a);
    scene.cancel(b);
    scene.bridge(a, d, 3_000);
    scene.bye_all(&[a, d], Side::Caller);
    scene.cancel(c);
    (play(&scene), scene, legs)
}

#[test]
fn a_ring_group_that_its_outcome_joins_is_an_inbound_call() {
    for hosts in [[9, 9], [9, 99]] {
        for order in [[0, 1, 2, 3], [1, 0, 3, 2], [0, 2, 1, 3]] {
            let (played, scene, [a, c, _, d]) = ring_group_of_one_of_two(hosts, order);
            let what = format!("{hosts:?}, {order:?}");
            let [answered, other] = [a, c].map(|leg| &call_of(&played, &scene, leg).record);
            let facts =
                |record: &CallRecord| (record.direction, record.to.clone(), record.internal.clone(), record.outcome);
            let of_answered =
                (CallDirection::Inbound, Some(DID.to_owned()), Some("201".to_owned()), CallOutcome::Answered);
            assert_eq!(facts(answered), of_answered, "{what}");
            assert_eq!((other.direction, other.outcome), (CallDirection::Inbound, CallOutcome::Cancelled), "{what}");
            let telephone = answered.legs.iter().position(|leg| leg.sip_call_id == scene.get(d).call_id);
            let telephone = telephone.expect("the telephone that answered");
            assert_eq!(answered.legs[telephone].joined_by, Some(CorrelationRule::RingOutcome), "{what}");
            assert_eq!(ends(answered)[telephone], [PBX, (LegEndRole::Extension, Some("201"))], "{what}");
            assert_eq!(ends(answered)[0], [(LegEndRole::Outside, Some(OUTSIDE)), PBX], "{what}");
        }
    }
}

/// Makes a call for which the PBX rings as many telephones as a call can have. Only their REGISTERs show that their users
/// are extensions. Returns the scene and a moment at which all ring, ms.
fn large_group_of_users() -> (Scene, i64) {
    let mut scene = Scene::mute();
    let (mut outside, mut pbx) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(DID, 9));
    let telephone = |n: u8| ScenePhone::new(&format!("telephone-{n}"), 20 + n);
    let mut telephones: Vec<ScenePhone> = (0..TELEPHONES).map(telephone).collect();
    telephones.iter().for_each(|telephone| scene.register(telephone, &pbx));
    let a = scene.leg(&mut outside, &mut pbx, [OUTSIDE, DID]);
    let rung = telephones.iter_mut().map(|telephone| {
        let user = telephone.user.clone();
        scene.leg(&mut pbx, telephone, [OUTSIDE, &user])
    });
    let rung: Vec<DialogId> = rung.collect();
    scene.invite_and_ring(a);
    rung.iter().for_each(|leg| scene.invite(*leg));
    rung.iter().for_each(|leg| scene.ring(*leg));
    scene.wait(1_000);
    let rings = scene.now();
    scene.wait(1_000);
    scene.answer(rung[7]);
    scene.answer(a);
    rung.iter().filter(|leg| **leg != rung[7]).for_each(|leg| scene.cancel(*leg));
    scene.bridge(a, rung[7], 3_000);
    scene.bye_all(&[a, rung[7]], Side::Caller);
    (scene, rings)
}

/// Number of telephones in the largest ring group: a call has at most 64 legs.
const TELEPHONES: u8 = 63;

#[test]
fn the_largest_ring_group_is_the_same_after_a_kill() {
    let (scene, rings) = large_group_of_users();
    let records = same_after_kills(&scene, &[rings]);
    let [record] = records.as_slice() else { panic!("one call, not {}", records.len()) };
    assert_eq!((record.internal.as_deref(), record.legs.len()), (Some("telephone-7"), 64));
}

/// Each leg of a ring group stores what is known of itself. What is known of all would be 64 times as much.
#[test]
fn each_leg_of_the_largest_ring_group_stores_little_state() {
    let (scene, _) = large_group_of_users();
    let (mut engine, mut sink) = (Engine::new(Config::default(), "group"), StateBytes::default());
    scene.packets().iter().for_each(|packet| engine.handle_datagram(&packet.datagram(), &mut sink));
    engine.handle_end_of_capture(&mut sink);
    assert!(sink.0 / 64 < 2_048, "{} bytes a leg", sink.0 / 64);
}

/// A leg sink that counts the bytes of the stored states of calls.
#[derive(Default)]
struct StateBytes(usize);

impl LegSink for StateBytes {
    fn open(&mut self, _: LegId, _: &str) {}
    fn packet(&mut self, _: LegId, _: &UdpDatagram<'_>, _: KeptBytes) {}
    fn decide(&mut self, _: LegId, _: Timestamp, decision: &Decision) {
        if matches!(decision, Decision::Conversation(_)) {
            self.0 += serde_json::to_vec(decision).expect("JSON").len();
        }
    }
    fn close(&mut self, _: LegId) {}
    fn discard(&mut self, _: LegId, _: DiscardReason) {}
}
