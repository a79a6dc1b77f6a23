//! Tests of a cluster that passes session descriptions on unchanged, so that the parties send their sound past it. Its
//! nodes have other addresses and may change all numbers.

use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallDirection, CallOutcome, Side};
use callspan::net::Endpoint;

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::machines::facts;
use crate::scenarios::{DID, MUSIC, OUTSIDE, call_of, related};
use crate::support::playback::play;
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// A cluster with one node for the trunk and one for the telephones.
struct Cluster {
    scene: Scene,
    border: ScenePhone,
    trunk_node: ScenePhone,
    line_node: ScenePhone,
    e200: ScenePhone,
}

impl Cluster {
    fn new() -> Self {
        Self {
            scene: Scene::new(),
            border: ScenePhone::new(OUTSIDE, 1),
            trunk_node: ScenePhone::new(DID, 92),
            line_node: ScenePhone::new("", 91),
            e200: ScenePhone::new("200", 2),
        }
    }

    /// Adds the legs of a call from outside. The cluster shows `from` to the telephone.
    fn inbound(&mut self, from: &str) -> [DialogId; 2] {
        let a = self.scene.leg(&mut self.border, &mut self.trunk_node, [OUTSIDE, DID]);
        [a, self.scene.leg(&mut self.line_node, &mut self.e200, [from, "200"])]
    }

    /// Makes the two legs announce the parties of the first and the second leg.
    fn share_media(&mut self, [a, b]: [DialogId; 2]) {
        let media = [self.scene.get(a).media[0], self.scene.get(b).media[1]];
        (self.scene.at(a).media, self.scene.at(b).media) = (media, media);
        self.scene.at(a).voices[1] = self.scene.get(b).voices[1];
    }

    fn connect(&mut self, [a, b]: [DialogId; 2], apart_ms: i64) {
        self.scene.ring_through(a, b);
        self.scene.wait(1_000);
        self.scene.answer(b);
        self.scene.wait(apart_ms);
        self.scene.answer(a);
    }
}

#[test]
fn a_cluster_that_leaves_the_media_alone_is_one_call() {
    for from in ["9000", "5550100"] {
        let mut cluster = Cluster::new();
        let [a, b] = cluster.inbound(from);
        cluster.share_media([a, b]);
        cluster.connect([a, b], 0);
        let talks = cluster.scene.now();
        cluster.scene.talk(a, 3_000);
        let ended = cluster.scene.bye_all(&[a, b], Side::Caller);
        let played = play(&cluster.scene);
        let record = &played.only().record;
        assert_eq!(facts(record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered), "from {from}");
        let rules: Vec<_> = record.legs.iter().map(|leg| leg.joined_by.map(CorrelationRule::as_str)).collect();
        assert_eq!((record.from.as_deref(), rules), (Some(OUTSIDE), vec![None, Some("both_media")]));
        hears(played.only(), (1, 2), talks, ended);
    }
}

#[test]
fn an_outbound_call_through_a_cluster_is_one_call() {
    let mut cluster = Cluster::new();
    let a = cluster.scene.leg(&mut cluster.e200, &mut cluster.line_node, ["200", OUTSIDE]);
    let b = cluster.scene.leg(&mut cluster.trunk_node, &mut cluster.border, ["5550100", "9900055501"]);
    cluster.share_media([a, b]);
    cluster.connect([a, b], 0);
    let talks = cluster.scene.now();
    cluster.scene.talk(a, 3_000);
    let ended = cluster.scene.bye_all(&[a, b], Side::Caller);
    let played = play(&cluster.scene);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Outbound, Some("200"), CallOutcome::Answered));
    assert_eq!(record.to.as_deref(), Some(OUTSIDE));
    hears(played.only(), (2, 1), talks, ended);
}

/// Two callers reach 200 and 201 at the same time.
#[test]
fn two_calls_through_a_cluster_are_told_apart_by_their_media() {
    let mut cluster = Cluster::new();
    let mut e201 = ScenePhone::new("201", 3);
    let first = cluster.inbound("9000");
    let second = [
        cluster.scene.leg(&mut cluster.border, &mut cluster.trunk_node, ["+79990000002", DID]),
        cluster.scene.leg(&mut cluster.line_node, &mut e201, ["9000", "201"]),
    ];
    for legs in [first, second] {
        cluster.share_media(legs);
    }
    cluster.scene.ring_through(first[0], first[1]);
    cluster.scene.ring_through(second[0], second[1]);
    cluster.scene.wait(1_000);
    for leg in [first[1], second[1], second[0], first[0]] {
        cluster.scene.answer(leg);
    }
    let talks = cluster.scene.now();
    cluster
        .scene
        .sound(&[(1, first[0], Side::Caller), (2, first[0], Side::Callee), (3, second[0], Side::Callee)], 3_000);
    let ended = cluster.scene.bye_all(&[first[0], first[1], second[0], second[1]], Side::Caller);
    let played = play(&cluster.scene);
    let found: Vec<_> = played.calls.iter().map(|c| (c.record.from.as_deref(), c.record.internal.as_deref())).collect();
    assert_eq!(found, [(Some(OUTSIDE), Some("200")), (Some("+79990000002"), Some("201"))]);
    hears(&played.calls[0], (1, 2), talks, ended);
}

/// Strangers have one of two addresses in common, or the addresses of a call that is over without a BYE. Or their calls
/// were answered at other times.
#[test]
fn strangers_with_common_media_addresses_are_no_call_through_a_cluster() {
    for kind in 0..4 {
        let mut cluster = Cluster::new();
        let [a, b] = cluster.inbound("9000");
        let own = cluster.scene.get(b).media;
        cluster.share_media([a, b]);
        match kind {
            0 => cluster.scene.at(b).media[0] = own[0],
            1 => cluster.scene.at(b).media[1] = own[1].with_port(own[1].port() + 100),
            _ => {}
        }
        if kind == 2 {
            cluster.scene.connect(a);
            cluster.scene.talk(a, 1_000);
            cluster.scene.wait(40_000);
            cluster.scene.connect(b);
        } else {
            cluster.connect([a, b], if kind == 3 { 3_000 } else { 0 });
        }
        cluster.scene.talk(b, 1_000);
        cluster.scene.bye_all(&[b, a], Side::Caller);
        let legs: Vec<_> = play(&cluster.scene).calls.iter().map(|call| call.record.legs.len()).collect();
        assert_eq!(legs, [1, 1], "kind {kind}");
    }
}

/// The mirror shows the leg that the cluster sent before the leg that it received.
#[test]
fn a_cluster_whose_legs_are_shown_in_reverse_is_one_call() {
    for apart_ms in [0, 50, 80] {
        for direction in [CallDirection::Inbound, CallDirection::Outbound] {
            let mut cluster = Cluster::new();
            let [a, b] = if direction == CallDirection::Inbound {
                cluster.inbound("5550100")
            } else {
                let a = cluster.scene.leg(&mut cluster.e200, &mut cluster.line_node, ["200", OUTSIDE]);
                [a, cluster.scene.leg(&mut cluster.trunk_node, &mut cluster.border, ["5550100", "9900055501"])]
            };
            cluster.share_media([a, b]);
            cluster.scene.invite(b);
            cluster.scene.wait(apart_ms);
            cluster.scene.invite(a);
            cluster.scene.ring(b);
            cluster.scene.ring(a);
            cluster.scene.wait(1_000);
            cluster.scene.answer(b);
            cluster.scene.answer(a);
            cluster.scene.talk(a, 3_000);
            cluster.scene.bye_all(&[a, b], Side::Caller);
            let played = play(&cluster.scene);
            let record = &played.only().record;
            assert_eq!(facts(record), (direction, Some("200"), CallOutcome::Answered), "{apart_ms} ms apart");
            let [from, to] = if direction == CallDirection::Inbound { [OUTSIDE, DID] } else { ["200", OUTSIDE] };
            assert_eq!([record.from.as_deref(), record.to.as_deref()], [Some(from), Some(to)], "{apart_ms} ms apart");
        }
    }
}

/// A caller waits in a queue, while 200 talks with another caller. This caller hangs up, and the cluster connects the
/// first caller to the open leg of 200 by a re-INVITE on both legs.
#[test]
fn a_caller_connected_to_an_open_leg_keeps_the_own_call() {
    const OTHER: &str = "+79990000002";
    for shown in [OTHER, "9000"] {
        let mut cluster = Cluster::new();
        // The host of a provider shows that the calls are inbound, so nobody has answered the waiting caller.
        cluster.border.sip = Endpoint::v4([198, 51, 100, 7], 5060);
        let [a, b] = cluster.inbound(shown);
        let Cluster { scene, border, trunk_node, .. } = &mut cluster;
        let c = scene.leg(border, trunk_node, [OTHER, DID]);
        scene.invite_and_ring(a);
        scene.wait(300);
        scene.invite_and_ring(c);
        scene.wait(200);
        scene.invite_and_ring(b);
        scene.wait(1_500);
        scene.answer(a);
        scene.wait(1_000);
        scene.answer(b);
        scene.answer(c);
        let waits = [(1, a, Side::Caller), (MUSIC, a, Side::Callee)];
        let talks = [(3, c, Side::Caller), (2, c, Side::Callee), (3, b, Side::Caller), (2, b, Side::Callee)];
        scene.sound(&[&waits[..], &talks[..]].concat(), 20_000);
        scene.bye(c, Side::Caller);
        let media = [scene.get(a).media[0], scene.get(b).media[1]];
        (scene.at(a).media, scene.at(b).media) = (media, media);
        scene.renegotiate(a, Side::Callee, "INVITE", (&[], &[]));
        scene.renegotiate(b, Side::Caller, "INVITE", (&[], &[]));
        scene.sound(&[(1, a, Side::Caller), (2, a, Side::Callee)], 5_000);
        scene.bye_all(&[a, b], Side::Caller);
        let played = play(scene);
        let record = &call_of(&played, scene, a).record;
        assert_eq!((record.legs.len(), record.from.as_deref()), (1, Some(OUTSIDE)), "shown: {shown}");
        let served = call_of(&played, scene, if shown == OTHER { c } else { b });
        assert!(related(record, &served.record), "shown: {shown}, {:?}", record.relations);
    }
}
