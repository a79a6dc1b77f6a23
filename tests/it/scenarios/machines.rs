//! Tests of machines with two addresses, several devices of an extension, and proxies that forward the calls of both
//! telephones and trunk. Some legs must be joined, and similar legs must not.

use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallDirection, CallOutcome, CallRecord, Side};

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::{DID, OUTSIDE, Office, referred_in_vain, related};
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// A PBX with one address towards the provider and another towards the telephones.
pub(super) struct TwoAddresses {
    pub(super) scene: Scene,
    outside: ScenePhone,
    wan: ScenePhone,
    pub(super) lan: ScenePhone,
    e200: ScenePhone,
    pub(super) e201: ScenePhone,
}

impl TwoAddresses {
    pub(super) fn new() -> Self {
        Self {
            scene: Scene::new(),
            outside: ScenePhone::new(OUTSIDE, 1),
            wan: ScenePhone::new(DID, 9),
            lan: ScenePhone::new(DID, 99),
            e200: ScenePhone::new("200", 2),
            e201: ScenePhone::new("201", 3),
        }
    }

    pub(super) fn inbound(&mut self, from: &str) -> DialogId {
        self.scene.leg(&mut self.outside, &mut self.wan, [from, DID])
    }

    pub(super) fn rings_200(&mut self, from: &str) -> DialogId {
        self.scene.leg(&mut self.lan, &mut self.e200, [from, "200"])
    }

    pub(super) fn rings_201(&mut self, from: &str) -> DialogId {
        self.scene.leg(&mut self.lan, &mut self.e201, [from, "201"])
    }
}

/// Checks that two legs belong to two calls which are not related.
#[track_caller]
fn assert_apart(played: &PlayedScene) {
    let calls: Vec<_> = played.calls.iter().map(|c| (c.record.legs.len(), c.record.relations.len())).collect();
    assert_eq!(calls, [(1, 0), (1, 0)], "legs and relations of each call");
}

fn joined_by(record: &CallRecord) -> Vec<Option<CorrelationRule>> {
    record.legs.iter().map(|leg| leg.joined_by).collect()
}

pub(super) fn facts(record: &CallRecord) -> (CallDirection, Option<&str>, CallOutcome) {
    (record.direction, record.internal.as_deref(), record.outcome)
}

/// Answers both legs, lets the parties talk, and ends both legs at the same time.
fn talk(mut site: TwoAddresses, a: DialogId, b: DialogId) -> (PlayedScene, [i64; 2]) {
    site.scene.connect_through(a, b, 2_000);
    let times = site.scene.bridge_until_bye(a, b, 3_000, Side::Caller);
    (play(&site.scene), times)
}

#[test]
fn an_inbound_call_through_two_addresses_is_one_call() {
    let mut site = TwoAddresses::new();
    let (a, b) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE));
    let (played, [talks, ended]) = talk(site, a, b);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered));
    assert_eq!(joined_by(record), [None, Some(CorrelationRule::AgreeingNumbers)]);
    hears(played.only(), (1, 2), talks, ended);
}

/// 200 calls 201 through a PBX that receives calls at an unusual port, and sends them from another address. The
/// telephones are behind a NAT, so they have such a port, too, and there a call ends.
#[test]
fn a_known_pbx_at_an_unusual_port_is_no_telephone() {
    for (is_known, records) in [(true, 1), (false, 2)] {
        let TwoAddresses { mut scene, mut wan, mut lan, mut e200, mut e201, .. } = TwoAddresses::new();
        lan.sip = lan.sip.with_port(15_060);
        (e200.sip, e201.sip) = (e200.sip.with_port(40_000), e201.sip.with_port(41_000));
        if is_known {
            scene.register(&e200, &lan);
        }
        let a = scene.leg(&mut e200, &mut lan, ["200", "201"]);
        let b = scene.leg(&mut wan, &mut e201, ["200", "201"]);
        scene.connect_through(a, b, 1_000);
        scene.bridge(a, b, 400);
        scene.bye_all(&[a, b], Side::Caller);
        let played = play(&scene);
        assert_eq!(played.calls.len(), records, "known: {is_known}");
        assert!(played.calls.iter().all(|call| call.record.direction == CallDirection::Internal));
    }
}

/// Two nodes of a cluster ring the two telephones of one extension (shared line). The second telephone answers.
#[test]
fn two_telephones_of_one_extension_at_two_nodes_are_one_call() {
    let mut site = TwoAddresses::new();
    let (a, b) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE));
    let (mut node, mut telephone) = (ScenePhone::new(DID, 98), ScenePhone::new("200", 4));
    let c = site.scene.leg(&mut node, &mut telephone, [OUTSIDE, "200"]);
    for leg in [a, b, c] {
        site.scene.invite(leg);
    }
    for leg in [b, c, a] {
        site.scene.ring(leg);
    }
    site.scene.wait(2_000);
    site.scene.answer(c);
    site.scene.answer(a);
    site.scene.cancel(b);
    let [talks, ended] = site.scene.bridge_until_bye(a, c, 3_000, Side::Caller);
    let played = play(&site.scene);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered));
    hears(played.only(), (1, 4), talks, ended);
}

/// The second telephone answers for another caller of this number, whose leg the mirror misses.
#[test]
fn a_stranger_at_the_second_telephone_of_an_extension_is_another_call() {
    let mut site = TwoAddresses::new();
    let (a, b) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE));
    let (mut node, mut telephone) = (ScenePhone::new(DID, 98), ScenePhone::new("200", 4));
    let c = site.scene.leg(&mut node, &mut telephone, [OUTSIDE, "200"]);
    for leg in [a, b, c] {
        site.scene.invite(leg);
    }
    site.scene.wait(1_000);
    site.scene.answer(c);
    site.scene.talk(c, 3_000);
    site.scene.answer(b);
    site.scene.answer(a);
    let [talks, ended] = site.scene.bridge_until_bye(a, b, 3_000, Side::Caller);
    site.scene.talk(c, 2_000);
    site.scene.bye(c, Side::Caller);
    let played = play(&site.scene);
    assert_eq!(played.calls.len(), 2);
    let own = played.calls.iter().find(|call| call.record.to.as_deref() == Some(DID)).expect("the caller's call");
    hears(own, (1, 2), talks, ended);
}

/// The provider forks the call to two WAN addresses of the PBX, and cancels one branch after the answer of the other.
#[test]
fn a_call_that_is_forked_to_two_addresses_keeps_its_telephone() {
    for answered_first in [true, false] {
        let mut site = TwoAddresses::new();
        let a = site.inbound(OUTSIDE);
        let other = site.scene.leg(&mut site.outside, &mut ScenePhone::new(DID, 8), [OUTSIDE, DID]);
        let (call_id, tag) = (site.scene.get(a).call_id.clone(), site.scene.get(a).tags[0].clone());
        let fork = site.scene.at(other);
        (fork.call_id, fork.tags[0]) = (call_id, tag);
        let (taken, left) = if answered_first { (a, other) } else { (other, a) };
        let b = site.rings_200(OUTSIDE);
        for leg in [a, other, b] {
            site.scene.invite(leg);
        }
        for leg in [b, a, other] {
            site.scene.ring(leg);
        }
        site.scene.wait(2_000);
        site.scene.answer(b);
        site.scene.answer(taken);
        site.scene.wait(30);
        site.scene.cancel(left);
        let [talks, ended] = site.scene.bridge_until_bye(taken, b, 3_000, Side::Caller);
        let played = play(&site.scene);
        let record = &played.only().record;
        assert_eq!(facts(record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered));
        assert_eq!(record.legs.len(), 3);
        hears(played.only(), (1, 2), talks, ended);
    }
}

#[test]
fn an_outbound_call_through_two_addresses_is_one_call() {
    let mut site = TwoAddresses::new();
    let a = site.scene.leg(&mut site.e200, &mut site.lan, ["200", OUTSIDE]);
    let b = site.scene.leg(&mut site.wan, &mut site.outside, [DID, OUTSIDE]);
    let (played, [talks, ended]) = talk(site, a, b);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Outbound, Some("200"), CallOutcome::Answered));
    hears(played.only(), (2, 1), talks, ended);
}

#[test]
fn an_unanswered_call_through_two_addresses_is_one_call() {
    let mut site = TwoAddresses::new();
    let (a, b) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE));
    site.scene.ring_through(a, b);
    site.scene.wait(4_000);
    site.scene.cancel(a);
    site.scene.cancel(b);
    let played = play(&site.scene);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Inbound, Some("200"), CallOutcome::Cancelled));
}

#[test]
fn a_ring_group_through_two_addresses_is_one_call() {
    let mut site = TwoAddresses::new();
    let (a, b, c) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE), site.rings_201(OUTSIDE));
    site.scene.invite(a);
    site.scene.invite_and_ring(b);
    site.scene.invite_and_ring(c);
    site.scene.wait(3_000);
    site.scene.answer(c);
    site.scene.answer(a);
    site.scene.cancel(b);
    let [talks, ended] = site.scene.bridge_until_bye(a, c, 3_000, Side::Caller);
    let played = play(&site.scene);
    assert_eq!(facts(&played.only().record), (CallDirection::Inbound, Some("201"), CallOutcome::Answered));
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn a_telephone_leg_that_was_captured_first_joins_its_cause() {
    let mut site = TwoAddresses::new();
    let (a, b) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE));
    let begins = site.scene.now();
    site.scene.wait(40);
    site.scene.invite(a);
    site.scene.set_now(begins);
    site.scene.invite_and_ring(b);
    site.scene.wait(2_000);
    site.scene.answer(b);
    site.scene.answer(a);
    let [talks, ended] = site.scene.bridge_until_bye(a, b, 3_000, Side::Caller);
    let played = play(&site.scene);
    assert_eq!(facts(&played.only().record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered));
    hears(played.only(), (1, 2), talks, ended);
}

#[test]
fn two_callers_of_one_number_at_once_are_not_guessed_between() {
    let mut site = TwoAddresses::new();
    let (a, other) = (site.inbound(OUTSIDE), site.inbound(OUTSIDE));
    let b = site.rings_200(OUTSIDE);
    site.scene.invite(a);
    site.scene.invite(other);
    site.scene.invite_and_ring(b);
    site.scene.wait(2_000);
    site.scene.answer(b);
    // Both callers are answered at one moment, so nothing shows for which of them 200 rang.
    site.scene.answer(a);
    site.scene.answer(other);
    let [talks, ended] = site.scene.bridge_until_bye(a, b, 3_000, Side::Caller);
    site.scene.bye(other, Side::Caller);
    let played = play(&site.scene);
    assert_eq!(played.calls.len(), 3);
    let telephone = played.calls.iter().find(|c| c.record.to.as_deref() == Some("200")).expect("the leg's own call");
    for call in played.calls.iter().filter(|c| c.record.id != telephone.record.id) {
        assert!(related(&call.record, &telephone.record));
        let why = telephone.record.relations.iter().find(|r| r.id == call.record.id).expect("related").why;
        assert_eq!(why, CorrelationRule::Ambiguous);
    }
    hears(telephone, (1, 2), talks, ended);
}

#[test]
fn strangers_at_other_hosts_are_calls_of_their_own() {
    let mut site = TwoAddresses::new();
    let (a, b) = (site.inbound(OUTSIDE), site.rings_200("+79990000002"));
    let (played, _) = talk(site, a, b);
    assert_eq!(played.calls.len(), 2);
    assert!(played.calls.iter().all(|c| c.record.related.is_empty()));
}

#[test]
fn withheld_numbers_agree_with_nobody() {
    let mut site = TwoAddresses::new();
    let (a, b) = (site.inbound("anonymous"), site.rings_200("anonymous"));
    let (played, _) = talk(site, a, b);
    assert_apart(&played);
}

#[test]
fn equal_numbers_a_second_apart_are_calls_of_their_own() {
    let mut site = TwoAddresses::new();
    let (a, b) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE));
    site.scene.invite(a);
    site.scene.wait(1_000);
    site.scene.invite_and_ring(b);
    site.scene.cancel(b);
    site.scene.cancel(a);
    assert_apart(&play(&site.scene));
}

#[test]
fn a_leg_that_is_answered_alone_is_split_off_with_its_sound() {
    let mut site = TwoAddresses::new();
    let (a, b) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE));
    site.scene.ring_through(a, b);
    site.scene.wait(1_000);
    site.scene.answer(b);
    site.scene.talk(b, 4_000);
    site.scene.bye(b, Side::Callee);
    site.scene.cancel(a);
    let played = play(&site.scene);
    let [trunk, telephone] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    assert!(related(&trunk.record, &telephone.record));
    assert_eq!(telephone.record.relations[0].why, CorrelationRule::MomentsDisagree);
    assert_eq!(joined_by(&telephone.record), [None]);
    assert!(telephone.sound.is_some() && trunk.sound.is_none());
}

#[test]
fn a_leg_that_ends_alone_is_split_off_with_its_sound() {
    let mut site = TwoAddresses::new();
    let (a, b) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE));
    site.scene.invite(a);
    site.scene.invite_and_ring(b);
    // A voice menu answers the first call, and a person answers the second.
    site.scene.answer(a);
    site.scene.wait(3_000);
    site.scene.answer(b);
    site.scene.bridge(a, b, 3_000);
    site.scene.bye(b, Side::Callee);
    site.scene.talk(a, 6_000);
    site.scene.bye(a, Side::Caller);
    let played = play(&site.scene);
    assert_eq!(played.calls.len(), 2);
    assert!(played.calls.iter().all(|c| c.sound.is_some()));
}

#[test]
fn the_extension_comes_along_with_a_session_id() {
    let mut site = TwoAddresses::new();
    // The PBX changes both numbers, so only the header Session-ID shows that the legs belong together.
    let (a, b) = (site.inbound(OUTSIDE), site.rings_200("+79990000077"));
    for d in [a, b] {
        let header = "Session-ID: 0123456789abcdef0123456789abcdef;remote=00000000000000000000000000000000";
        site.scene.at(d).headers.push(header.to_owned());
    }
    let (played, _) = talk(site, a, b);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered));
    assert_eq!(joined_by(record), [None, Some(CorrelationRule::SessionId)]);
}

/// Plays a call to two devices of 200, which the PBX rings from its other address. A header joins the legs. The second
/// device answers.
fn two_devices_joined_by(identify: impl Fn(&mut Scene, &[DialogId])) -> PlayedScene {
    let mut site = TwoAddresses::new();
    let (a, desk) = (site.inbound(OUTSIDE), site.rings_200("+79990000077"));
    let mobile = site.scene.leg(&mut site.lan, &mut site.e201, ["+79990000077", "200"]);
    let scene = &mut site.scene;
    identify(scene, &[a, desk, mobile]);
    scene.invite(a);
    scene.invite_and_ring(desk);
    scene.invite_and_ring(mobile);
    scene.wait(2_000);
    scene.answer(mobile);
    scene.answer(a);
    scene.cancel(desk);
    scene.bridge_until_bye(a, mobile, 3_000, Side::Caller);
    play(scene)
}

#[test]
fn the_extension_of_two_devices_comes_along_with_a_header() {
    let with_session = |scene: &mut Scene, legs: &[DialogId]| {
        let header = "Session-ID: 0123456789abcdef0123456789abcdef;remote=00000000000000000000000000000000";
        legs.iter().for_each(|leg| scene.at(*leg).headers.push(header.to_owned()));
    };
    let with_call_id = |scene: &mut Scene, legs: &[DialogId]| {
        legs.iter().for_each(|leg| "0123456789abcdef@scene".clone_into(&mut scene.at(*leg).call_id));
    };
    let header = Some(CorrelationRule::SessionId);
    let call_id = Some(CorrelationRule::SameCallId);
    for (played, rule) in
        [(two_devices_joined_by(with_session), header), (two_devices_joined_by(with_call_id), call_id)]
    {
        let record = &played.only().record;
        assert_eq!(facts(record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered), "{rule:?}");
        assert_eq!(joined_by(record), [None, rule, rule]);
    }
}

#[test]
fn a_kept_call_id_brings_the_extension_in_either_order_of_capture() {
    for is_telephone_first in [false, true] {
        let mut site = TwoAddresses::new();
        let (a, b) = (site.inbound(OUTSIDE), site.rings_200("+79990000077"));
        let scene = &mut site.scene;
        [a, b].iter().for_each(|leg| "0123456789abcdef@scene".clone_into(&mut scene.at(*leg).call_id));
        scene.invite(if is_telephone_first { b } else { a });
        scene.wait(20);
        scene.invite(if is_telephone_first { a } else { b });
        scene.ring(b);
        scene.wait(2_000);
        scene.answer(b);
        scene.answer(a);
        scene.bridge_until_bye(a, b, 3_000, Side::Caller);
        let played = play(scene);
        let record = &played.only().record;
        assert_eq!(
            facts(record),
            (CallDirection::Inbound, Some("200"), CallOutcome::Answered),
            "telephone first: {is_telephone_first}"
        );
    }
}

/// Makes an outbound call through a proxy on host 8 and the PBX behind it on host 9. The proxy forwards the calls of
/// both telephones and trunk, so the call passes the proxy twice. Returns the four legs.
fn hairpin(scene: &mut Scene, phone: &mut ScenePhone, outside: &mut ScenePhone) -> [DialogId; 4] {
    let (mut proxy, mut pbx) = (ScenePhone::new("proxy", 8), ScenePhone::new(DID, 9));
    let number = outside.user.clone();
    let user = phone.user.clone();
    let legs = [
        scene.leg(phone, &mut proxy, [&user, &number]),
        scene.leg(&mut proxy, &mut pbx, [&user, &number]),
        scene.leg(&mut pbx, &mut proxy, [DID, &number]),
        scene.leg(&mut proxy, outside, [DID, &number]),
    ];
    for [from, to] in [[0, 1], [2, 3]] {
        let (call_id, tags) = (scene.get(legs[from]).call_id.clone(), scene.get(legs[from]).tags.clone());
        scene.at(legs[to]).call_id = call_id;
        scene.at(legs[to]).tags = tags;
    }
    legs
}

#[test]
fn an_outbound_call_through_a_proxy_before_the_pbx_is_one_call() {
    let mut scene = Scene::mute();
    let (mut phone, mut outside) = (ScenePhone::new("200", 2), ScenePhone::new(OUTSIDE, 1));
    let legs = hairpin(&mut scene, &mut phone, &mut outside);
    for leg in legs {
        scene.invite(leg);
    }
    for leg in legs.into_iter().rev() {
        scene.answer(leg);
    }
    scene.wait(2_000);
    for leg in legs {
        scene.bye(leg, Side::Caller);
    }
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Outbound, Some("200"), CallOutcome::Answered));
    let rules =
        [None, Some(CorrelationRule::SameDialog), Some(CorrelationRule::Hairpin), Some(CorrelationRule::SameDialog)];
    assert_eq!(joined_by(record), rules);
}

#[test]
fn two_calls_to_one_number_through_a_proxy_are_not_guessed_between() {
    let mut scene = Scene::mute();
    let mut outside = ScenePhone::new(OUTSIDE, 1);
    let one = hairpin(&mut scene, &mut ScenePhone::new("200", 2), &mut outside);
    let two = hairpin(&mut scene, &mut ScenePhone::new("201", 3), &mut outside);
    for leg in [one[0], one[1], two[0], two[1], one[2], one[3], two[2], two[3]] {
        scene.invite(leg);
    }
    for leg in [one, two].concat().into_iter().rev() {
        scene.answer(leg);
    }
    scene.wait(2_000);
    for leg in [one, two].concat() {
        scene.bye(leg, Side::Caller);
    }
    let played = play(&scene);
    assert!(played.calls.iter().all(|c| {
        let from_phone = c.record.legs.iter().any(|l| l.sip_call_id == scene.get(one[0]).call_id);
        let of_other = c.record.legs.iter().any(|l| l.sip_call_id == scene.get(two[0]).call_id);
        !(from_phone && of_other)
    }));
    assert_eq!(played.calls.len(), 4, "the PBX's legs could belong to either call");
}

/// Adds the two legs of extension 200 with two devices. The PBX sends an INVITE for each device. Both INVITEs go to the
/// edge proxy of the devices. Returns the legs.
fn two_devices(scene: &mut Scene, from: &str) -> [DialogId; 2] {
    let (mut pbx, mut proxy) = (ScenePhone::new(DID, 9), ScenePhone::new("200", 7));
    let voice = ScenePhone::new("200", 2).voice;
    proxy.voice = voice;
    ["200-desk", "200-mobile"].map(|device| {
        let leg = scene.leg(&mut pbx, &mut proxy, [from, "200"]);
        scene.at(leg).request_user = device.to_owned();
        scene.at(leg).media[0] = pbx.media();
        leg
    })
}

#[test]
fn two_devices_of_one_extension_behind_a_proxy_are_one_call() {
    let mut scene = Scene::new();
    let (mut outside, mut pbx) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(DID, 9));
    let a = scene.leg(&mut outside, &mut pbx, [OUTSIDE, DID]);
    let [desk, mobile] = two_devices(&mut scene, OUTSIDE);
    scene.invite(a);
    scene.invite(desk);
    scene.invite(mobile);
    answer_on_mobile(&mut scene, a, [desk, mobile]);
    let played = play(&scene);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered));
    assert_eq!(joined_by(record)[2], Some(CorrelationRule::AnotherDevice));
}

/// The second of two ringing devices answers after two seconds, and talks for two.
fn answer_on_mobile(scene: &mut Scene, a: DialogId, [desk, mobile]: [DialogId; 2]) {
    scene.wait(2_000);
    scene.answer(mobile);
    scene.answer(a);
    scene.cancel(desk);
    scene.wait(2_000);
    scene.bye_all(&[a, mobile], Side::Caller);
}

/// Plays a call to two devices of 200 whose Request-URIs are equal. Each INVITE has a Route header with the flow of its
/// device. The second device answers.
fn two_devices_by_route(flows: [&str; 2]) -> PlayedScene {
    let mut scene = Scene::new();
    let (mut outside, mut pbx) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(DID, 9));
    let a = scene.leg(&mut outside, &mut pbx, [OUTSIDE, DID]);
    let devices = two_devices(&mut scene, OUTSIDE);
    for (leg, flow) in devices.into_iter().zip(flows) {
        "200".clone_into(&mut scene.at(leg).request_user);
        scene.at(leg).headers = vec![format!("Route: <sip:{flow}@10.0.0.7;lr>")];
    }
    let [desk, mobile] = devices;
    [a, desk, mobile].iter().for_each(|leg| scene.invite(*leg));
    answer_on_mobile(&mut scene, a, [desk, mobile]);
    play(&scene)
}

#[test]
fn two_devices_that_only_the_route_tells_apart_are_one_call() {
    let played = two_devices_by_route(["flow0", "flow1"]);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered));
    assert_eq!(joined_by(record)[2], Some(CorrelationRule::AnotherDevice));
}

#[test]
fn a_second_call_to_the_same_device_is_no_second_device() {
    // Both INVITEs go to one device by one route, so the second is for a caller whom the mirror does not show.
    assert_eq!(two_devices_by_route(["flow0", "flow0"]).calls.len(), 2);
}

#[test]
fn a_further_device_is_not_guessed_between_two_callers() {
    let mut scene = Scene::mute();
    let (mut outside, mut pbx) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(DID, 9));
    let (a, b) = (scene.leg(&mut outside, &mut pbx, [OUTSIDE, DID]), scene.leg(&mut outside, &mut pbx, [OUTSIDE, DID]));
    let [desk, mobile] = two_devices(&mut scene, OUTSIDE);
    scene.invite(a);
    scene.invite(desk);
    scene.invite(b);
    scene.invite(mobile);
    scene.wait(1_000);
    for leg in [desk, mobile, a, b] {
        scene.cancel(leg);
    }
    let played = play(&scene);
    let legs: usize = played.calls.iter().map(|c| c.record.legs.len()).sum();
    assert_eq!(legs, 4, "every INVITE is in a record");
    let rules: Vec<_> = played.calls.iter().flat_map(|c| joined_by(&c.record)).collect();
    assert!(!rules.contains(&Some(CorrelationRule::AnotherDevice)), "{rules:?}");
}

#[test]
fn a_refer_claims_no_later_call_of_another_caller() {
    let mut office = Office::new();
    let [a, b] = referred_in_vain(&mut office);
    let Office { mut scene, mut pbx, mut e201, .. } = office;
    scene.wait(2_000);
    // Of the next call, the mirror shows only the leg from the PBX to the telephone.
    let d = scene.leg(&mut pbx, &mut e201, ["202", "201"]);
    scene.connect(d);
    scene.talk(d, 2_000);
    scene.bye_all(&[d, a, b], Side::Caller);
    let played = play(&scene);
    let [transferred, own] = played.calls.as_slice() else { panic!("two calls, not {}", played.calls.len()) };
    assert_eq!(joined_by(&transferred.record), [None, Some(CorrelationRule::OnwardOne), Some(CorrelationRule::Refer)]);
    assert_eq!((own.record.from.as_deref(), own.record.to.as_deref()), (Some("202"), Some("201")));
    assert!(own.sound.is_some());
}

#[test]
fn the_page_about_correlation_lists_every_rule() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/correlation.md")).expect("the page");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let listed: Vec<String> = rows.iter().map(|row| format!("{} {}", row[0].trim_matches('`'), row[1])).collect();
    let mut rules: Vec<String> =
        CorrelationRule::ALL.iter().map(|rule| format!("{rule} {}", rule.strength().as_str())).collect();
    let mut sorted = listed.clone();
    sorted.sort();
    rules.sort();
    assert_eq!(sorted, rules, "docs/correlation.md has another list of rules than the code");
    let mut tests = String::new();
    for folder in ["tests/it/scenarios", "tests/it/cases"] {
        for file in std::fs::read_dir(root.join(folder)).expect("a folder").flatten() {
            tests.push_str(&std::fs::read_to_string(file.path()).expect("a source file"));
        }
    }
    for row in rows {
        let [.., scenario] = row.as_slice() else { continue };
        assert!(
            *scenario == "–" || tests.contains(&format!("fn {scenario}()")),
            "{} names no test: {scenario}",
            row[0]
        );
    }
}
