//! Tests of short outside numbers, e.g. of an emergency service or a bank, which look like extensions. The PBX has one
//! address for the provider and another for the telephones, or the mirror shows only the trunk.

use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallDirection, CallRecord, Side};

use crate::scenarios::DID;
use crate::scenarios::variations::{address, phone};
use crate::scenarios::variations_numbers::with_service;
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, MessageChange, Scene, ScenePhone};

/// A PBX with a public address for the provider and a private address for the telephones.
struct Site {
    scene: Scene,
    provider: ScenePhone,
    wan: ScenePhone,
    lan: ScenePhone,
    e201: ScenePhone,
    e202: ScenePhone,
}

impl Site {
    fn new() -> Self {
        Self {
            scene: Scene::mute(),
            provider: phone("", address(false, 1, 200), 1),
            wan: phone(DID, address(false, 1, 10), 7),
            lan: phone(DID, address(false, 2, 10), 7),
            e201: phone("201", address(false, 2, 101), 2),
            e202: phone("202", address(false, 2, 102), 3),
        }
    }

    /// Adds the legs of a call from extension 201 to a short outside number.
    fn calls_out(&mut self, short: &str) -> [DialogId; 2] {
        let a = self.scene.leg(&mut self.e201, &mut self.lan, ["201", short]);
        [a, self.scene.leg(&mut self.wan, &mut self.provider, [DID, short])]
    }

    /// Adds the trunk's leg of a call from a short outside number, and the leg by which the PBX rings 202.
    fn is_called_by(&mut self, short: &str) -> [DialogId; 2] {
        let a = self.scene.leg(&mut self.provider, &mut self.wan, [short, DID]);
        [a, self.rings_202(short)]
    }

    fn rings_202(&mut self, from: &str) -> DialogId {
        self.scene.leg(&mut self.lan, &mut self.e202, [from, "202"])
    }

    /// Plays a talk of two seconds on the legs of one call.
    fn talk(mut self, legs: &[DialogId]) -> PlayedScene {
        legs.iter().for_each(|leg| self.scene.invite(*leg));
        self.scene.wait(1_000);
        legs.iter().rev().for_each(|leg| _ = self.scene.answer(*leg));
        self.scene.wait(2_000);
        self.scene.bye_all(legs, Side::Caller);
        play(&self.scene)
    }
}

fn facts(record: &CallRecord) -> (CallDirection, [Option<&str>; 3]) {
    (record.direction, [&record.from, &record.to, &record.internal].map(|number| number.as_deref()))
}

/// A telephone calls a colleague through a PBX at a public address. Its REGISTER shows that this host is no provider.
#[test]
fn a_call_to_a_colleague_through_a_cloud_pbx_is_internal() {
    let (internal, outbound) = (CallDirection::Internal, CallDirection::Outbound);
    for (is_registered, to, direction, extension) in
        [(true, "202", internal, "202"), (false, "202", outbound, "201"), (false, "112", outbound, "201")]
    {
        let mut site = Site::new();
        if is_registered {
            site.scene.register(&site.e201, &site.provider);
        }
        let a = site.scene.leg(&mut site.e201, &mut site.provider, ["201", to]);
        let played = site.talk(&[a]);
        assert_eq!(facts(&played.only().record), (direction, [Some("201"), Some(to), Some(extension)]));
    }
}

#[test]
fn an_emergency_call_through_two_addresses_is_one_outbound_call() {
    for short in ["112", "103", "0611", "9112"] {
        let mut site = Site::new();
        let legs = site.calls_out(short);
        let played = site.talk(&legs);
        let record = &played.only().record;
        assert_eq!(facts(record), (CallDirection::Outbound, [Some("201"), Some(short), Some("201")]));
        assert_eq!(record.legs[1].joined_by, Some(CorrelationRule::AgreeingNumbers));
    }
}

#[test]
fn a_short_number_that_calls_through_two_addresses_is_one_call() {
    for short in ["900", "0611", "3353"] {
        let mut site = Site::new();
        let legs = site.is_called_by(short);
        let played = site.talk(&legs);
        assert_eq!(facts(&played.only().record), (CallDirection::Inbound, [Some(short), Some(DID), Some("202")]));
    }
}

#[test]
fn a_call_from_a_short_number_rings_a_group_behind_two_addresses() {
    let mut site = Site::new();
    let [a, b] = site.is_called_by("900");
    let c = site.scene.leg(&mut site.lan, &mut site.e201, ["900", "201"]);
    let scene = &mut site.scene;
    [a, b, c].iter().for_each(|leg| scene.invite(*leg));
    scene.wait(1_000);
    [c, a].iter().for_each(|leg| _ = scene.answer(*leg));
    scene.cancel(b);
    scene.wait(2_000);
    scene.bye_all(&[a, c], Side::Caller);
    let played = play(scene);
    assert_eq!(facts(&played.only().record), (CallDirection::Inbound, [Some("900"), Some(DID), Some("201")]));
}

/// Plays a call from 201 that is sent on to 112, as `dialled` by 201. The PBX has one address or two.
fn dials(dialled: &str, has_two_addresses: bool, is_answered: bool) -> PlayedScene {
    let mut site = Site::new();
    if !has_two_addresses {
        site.wan.sip = site.lan.sip;
    }
    let Site { scene, provider, wan, lan, e201, .. } = &mut site;
    let (a, b) = (scene.leg(e201, lan, ["201", dialled]), scene.leg(wan, provider, [DID, "112"]));
    if is_answered {
        return site.talk(&[a, b]);
    }
    [a, b].iter().for_each(|leg| scene.invite(*leg));
    scene.wait(1_000);
    [a, b].iter().for_each(|leg| scene.cancel(*leg));
    play(scene)
}

#[test]
fn an_emergency_call_after_an_outside_prefix_is_one_call() {
    for (has_two_addresses, is_answered) in [(false, true), (false, false), (true, true), (true, false)] {
        let played = dials("9112", has_two_addresses, is_answered);
        assert_eq!(
            facts(&played.only().record),
            (CallDirection::Outbound, [Some("201"), Some("9112"), Some("201")]),
            "two addresses: {has_two_addresses}, answered: {is_answered}"
        );
    }
}

#[test]
fn an_emergency_service_is_called_by_its_number() {
    for has_two_addresses in [false, true] {
        let mut site = Site::new();
        if !has_two_addresses {
            site.wan.sip = site.lan.sip;
        }
        let [a, b] = site.calls_out("112");
        let Site { scene, .. } = &mut site;
        let offer = scene.sdp(a, Side::Caller, &[]);
        scene.request(a, Side::Caller, "INVITE", &[MessageChange::Sdp(offer)]);
        scene.edit_last(|invite| with_service(invite, "112"));
        scene.invite(b);
        scene.wait(1_000);
        [b, a].iter().for_each(|leg| _ = scene.answer(*leg));
        scene.wait(2_000);
        scene.bye_all(&[a, b], Side::Caller);
        let played = play(scene);
        let wanted = (CallDirection::Outbound, [Some("201"), Some("urn:service:sos"), Some("201")]);
        assert_eq!(facts(&played.only().record), wanted, "two addresses: {has_two_addresses}");
    }
}

#[test]
fn a_telephone_whose_number_ends_the_dialled_one_is_no_outside_number() {
    // 201 calls the extension 9112. At this moment the PBX rings the extension 112 for a caller of the office.
    let mut site = Site::new();
    let a = site.scene.leg(&mut site.e201, &mut site.lan, ["201", "9112"]);
    let b = site.scene.leg(&mut site.lan, &mut site.e202, [DID, "112"]);
    let played = site.talk(&[a, b]);
    assert_eq!(played.calls.len(), 2);
}

#[test]
fn an_emergency_call_is_not_guessed_between_two_callers() {
    let mut site = Site::new();
    site.wan.sip = site.lan.sip;
    let a = site.scene.leg(&mut site.e201, &mut site.lan, ["201", "112"]);
    let b = site.scene.leg(&mut site.e202, &mut site.lan, ["202", "9112"]);
    let trunk = site.scene.leg(&mut site.wan, &mut site.provider, [DID, "112"]);
    let played = site.talk(&[a, b, trunk]);
    assert_eq!(played.calls.len(), 3, "{:#?}", played.calls.iter().map(|c| &c.record.legs).collect::<Vec<_>>());
}

/// Plays a call between the private PBX and the provider, of which the mirror shows only this leg.
fn trunk_only(from: &str, to: &str, is_inbound: bool) -> PlayedScene {
    let mut site = Site::new();
    let Site { scene, provider, lan, .. } = &mut site;
    let (caller, callee) = if is_inbound { (provider, lan) } else { (lan, provider) };
    let leg = scene.leg(caller, callee, [from, to]);
    site.talk(&[leg])
}

#[test]
fn a_short_number_on_a_trunk_has_the_direction_of_its_hosts() {
    let (inbound, outbound) = (CallDirection::Inbound, CallDirection::Outbound);
    for (numbers, is_inbound, direction, extension) in [
        ([DID, "112"], false, outbound, None),
        (["201", "112"], false, outbound, Some("201")),
        (["201", "900"], false, outbound, Some("201")),
        (["900", DID], true, inbound, None),
        (["900", "202"], true, inbound, Some("202")),
    ] {
        let played = trunk_only(numbers[0], numbers[1], is_inbound);
        let [from, to] = numbers.map(Some);
        assert_eq!(facts(&played.only().record), (direction, [from, to, extension]));
    }
}

#[test]
fn an_extension_at_home_that_has_registered_is_no_outside_number() {
    let mut site = Site::new();
    let mut home = phone("112", address(false, 1, 150), 4);
    site.scene.register(&home, &site.lan);
    let leg = site.scene.leg(&mut site.lan, &mut home, ["201", "112"]);
    let played = site.talk(&[leg]);
    assert_eq!(facts(&played.only().record), (CallDirection::Internal, [Some("201"), Some("112"), Some("112")]));
}

#[test]
fn an_extension_is_no_stranger_with_its_number() {
    // A bank calls with the number of an extension, while this extension calls a colleague. The mirror shows no leg of
    // the extension, but its REGISTER.
    let mut site = Site::new();
    let mut e900 = phone("900", address(false, 2, 109), 4);
    e900.next_port = 30_000;
    site.scene.register(&e900, &site.lan);
    let [bank, rings] = site.is_called_by("900");
    let played = site.talk(&[bank, rings]);
    assert_eq!(played.calls.len(), 2, "{:#?}", played.calls.iter().map(|c| &c.record.legs).collect::<Vec<_>>());
}

#[test]
fn two_emergency_calls_at_once_are_not_guessed_between() {
    let mut site = Site::new();
    let [a, trunk] = site.calls_out("112");
    let b = site.scene.leg(&mut site.e202, &mut site.lan, ["202", "112"]);
    let other = site.scene.leg(&mut site.wan, &mut site.provider, [DID, "112"]);
    let played = site.talk(&[a, b, trunk, other]);
    assert!(played.calls.iter().all(|call| call.record.legs.len() == 1), "no caller shows a trunk leg to be his");
}

#[test]
fn an_internal_call_does_not_take_an_outbound_call_to_another_number() {
    // 201 calls the extension 112, while the PBX calls a telephone at home with a high port, e.g. behind a NAT.
    let mut site = Site::new();
    site.provider.sip = site.provider.sip.with_port(49_152);
    let legs = site.calls_out("112");
    let played = site.talk(&legs);
    assert_eq!(played.calls.len(), 2);
}
