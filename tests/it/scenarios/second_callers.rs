//! Tests of a second caller with the same word or number as a first caller. The PBX is just calling a mobile telephone
//! for the first one, over the trunk on which the second one comes.

use callspan::call::record::{CallDirection, CallOutcome, Side};
use callspan::net::Endpoint;

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::{DID, MUSIC, OUTSIDE, Office, call_of};
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, MessageChange, Scene, ScenePhone};

/// Caller of both calls if both callers withhold the number.
const WITHHELD: &str = "anonymous";
const MOBILE: &str = "+79161234567";
/// The number of the office that the second caller dials.
const OTHER_DID: &str = "+74953009081";
/// Host of a second trunk.
const SECOND_TRUNK: u8 = 7;
/// Host of a border controller.
const CONTROLLER: u8 = 8;

/// The legs of a first call, which goes out to a mobile telephone, and of the second call, which rings 202.
struct TwoCallers {
    scene: Scene,
    first: Vec<DialogId>,
    second: Vec<DialogId>,
}

impl TwoCallers {
    /// Adds both calls. The PBX forwards the first one to `trunk`, and the second one comes from there.
    fn forwarded(caller: &str, trunk: u8) -> Self {
        let Office { mut scene, outside, mut pbx, .. } = Office::new();
        let mut brings = outside;
        let a = scene.leg(&mut brings, &mut pbx, [caller, DID]);
        let mut trunk = ScenePhone { voice: 4, next_port: 30_000, ..ScenePhone::new("", trunk) };
        let b = scene.leg(&mut pbx, &mut trunk, [caller, MOBILE]);
        let second = second_call(&mut scene, &mut trunk, &mut pbx, [caller, OTHER_DID]);
        Self { scene, first: vec![a, b], second }
    }

    /// Adds a call of extension 201 to the mobile telephone, in which the trunk's leg has the caller `shown`.
    fn outbound(shown: &str) -> Self {
        let Office { mut scene, outside, mut pbx, mut e201, .. } = Office::new();
        let mut trunk = ScenePhone { voice: 4, ..outside };
        let a = scene.leg(&mut e201, &mut pbx, ["201", MOBILE]);
        let b = scene.leg(&mut pbx, &mut trunk, [shown, MOBILE]);
        let second = second_call(&mut scene, &mut trunk, &mut pbx, [shown, OTHER_DID]);
        Self { scene, first: vec![a, b], second }
    }

    /// Adds both calls of a site with a border controller between trunk and PBX.
    fn behind_controller(caller: &str) -> Self {
        let Office { mut scene, mut outside, mut pbx, .. } = Office::new();
        let mut controller = ScenePhone::new("", CONTROLLER);
        let mut brought = |scene: &mut Scene, number| {
            let outer = scene.leg(&mut outside, &mut controller, [caller, number]);
            [outer, scene.leg(&mut controller, &mut pbx, [caller, number])]
        };
        let [a, b] = brought(&mut scene, DID);
        let [e, f] = brought(&mut scene, OTHER_DID);
        let c = scene.leg(&mut pbx, &mut controller, [caller, MOBILE]);
        let d = scene.leg(&mut controller, &mut outside, [caller, MOBILE]);
        scene.at(d).voices[1] = 4;
        let g = scene.leg(&mut pbx, &mut ScenePhone::new("202", 6), [caller, "202"]);
        Self { scene, first: vec![a, b, c, d], second: vec![e, f, g] }
    }

    /// Invites the second call while the mobile telephone rings for `gap_ms`.
    fn ring_both(&mut self, gap_ms: i64) {
        for legs in [&self.first, &self.second] {
            legs.iter().for_each(|leg| self.scene.invite(*leg));
            legs.iter().rev().for_each(|leg| self.scene.ring(*leg));
            self.scene.wait(gap_ms);
        }
    }

    /// Answers the first call, plays its talk, and ends it. Returns the ms of the talk's begin and end.
    fn talk_first(&mut self) -> [i64; 2] {
        let Self { scene, first, .. } = self;
        first.iter().rev().for_each(|leg| _ = scene.answer(*leg));
        let talks = scene.now();
        let [left, right] = [scene.get(first[0]).voices[0], scene.get(first[first.len() - 1]).voices[1]];
        let voices = first.iter().map(|leg| [(left, *leg, Side::Caller), (right, *leg, Side::Callee)]);
        scene.sound(&voices.collect::<Vec<_>>().concat(), 3_000);
        [talks, scene.bye_all(first, Side::Caller)]
    }

    /// Plays both calls: nobody answers 202, and the second caller gives up.
    fn miss_second(&mut self, gap_ms: i64) {
        self.ring_both(gap_ms);
        self.scene.wait(3_000);
        self.second.iter().for_each(|leg| self.scene.cancel(*leg));
        self.scene.wait(1_000);
        self.talk_first();
    }

    /// Asserts that each call has a record with its own legs.
    #[track_caller]
    fn assert_apart(&self, played: &PlayedScene, case: &str) {
        let ids = |legs: &[DialogId]| legs.iter().map(|d| self.scene.get(*d).call_id.clone()).collect::<Vec<_>>();
        let of_record = |first: DialogId| {
            let legs = &call_of(played, &self.scene, first).record.legs;
            legs.iter().map(|leg| leg.sip_call_id.clone()).collect::<Vec<_>>()
        };
        for legs in [&self.first, &self.second] {
            assert_eq!(of_record(legs[0]), ids(legs), "{case}");
        }
        assert_eq!(played.calls.len(), 2, "{case}");
        let missed = &call_of(played, &self.scene, self.second[0]).record;
        assert_eq!(missed.internal.as_deref(), Some("202"), "{case}");
    }

    /// Asserts that all legs are one record.
    #[track_caller]
    fn assert_whole(&self, case: &str) {
        let played = play(&self.scene);
        assert_eq!(played.only().record.legs.len(), self.first.len() + self.second.len(), "{case}");
    }
}

/// Adds the leg of a caller from the trunk, and the leg by which the PBX rings 202.
fn second_call(scene: &mut Scene, trunk: &mut ScenePhone, pbx: &mut ScenePhone, numbers: [&str; 2]) -> Vec<DialogId> {
    let a = scene.leg(trunk, pbx, numbers);
    scene.at(a).voices[0] = 6;
    vec![a, scene.leg(pbx, &mut ScenePhone::new("202", 6), [numbers[0], "202"])]
}

/// Adds a Diversion header with this number to a leg.
fn divert(scene: &mut Scene, leg: DialogId, number: &str) {
    scene.at(leg).headers.push(format!("Diversion: <sip:{number}@10.0.0.9>;reason=unconditional"));
}

#[test]
fn a_missed_call_beside_a_forwarded_call_has_its_own_record() {
    for (caller, gap_ms) in [(WITHHELD, 500), (WITHHELD, 1_500), (WITHHELD, 10_000), (OUTSIDE, 500), (OUTSIDE, 10_000)]
    {
        for (diversion, trunk) in [(true, 1), (false, 1), (true, SECOND_TRUNK)] {
            let mut calls = TwoCallers::forwarded(caller, trunk);
            if diversion {
                divert(&mut calls.scene, calls.first[1], DID);
            }
            calls.miss_second(gap_ms);
            let played = play(&calls.scene);
            let case = format!("{caller}, {gap_ms} ms, {diversion}, {trunk}");
            calls.assert_apart(&played, &case);
            let [answered, missed] =
                [calls.first[0], calls.second[0]].map(|a| &call_of(&played, &calls.scene, a).record);
            assert_eq!((answered.outcome, missed.outcome), (CallOutcome::Answered, CallOutcome::Cancelled), "{case}");
            assert_eq!((answered.direction, answered.internal.as_deref()), (CallDirection::Inbound, None), "{case}");
        }
    }
}

#[test]
fn a_busy_telephone_beside_a_forwarded_call_has_its_own_record() {
    let mut calls = TwoCallers::forwarded(OUTSIDE, 1);
    calls.ring_both(1_500);
    calls.second.iter().rev().for_each(|leg| calls.scene.refuse(*leg, 486, &[]));
    calls.talk_first();
    calls.assert_apart(&play(&calls.scene), "busy");
}

/// The voice mail answers the second caller while the first caller talks.
#[test]
fn a_message_beside_a_forwarded_call_is_recorded() {
    for (caller, gap_ms) in [(WITHHELD, 1_500), (OUTSIDE, 1_500), (OUTSIDE, 2_500)] {
        let mut calls = TwoCallers::forwarded(caller, 1);
        calls.ring_both(gap_ms);
        let TwoCallers { scene, first, second } = &mut calls;
        first.iter().rev().for_each(|leg| _ = scene.answer(*leg));
        scene.cancel(second[1]);
        scene.answer(second[0]);
        let begins = scene.now();
        let talk = first.iter().map(|leg| [(1, *leg, Side::Caller), (4, *leg, Side::Callee)]);
        let message = [(6, second[0], Side::Caller), (MUSIC, second[0], Side::Callee)];
        scene.sound(&[&talk.collect::<Vec<_>>().concat()[..], &message[..]].concat(), 8_000);
        let ended = scene.now();
        scene.bye_all(&[second[0], first[0], first[1]], Side::Caller);
        let played = play(scene);
        hears(call_of(&played, scene, first[0]), (1, 4), begins, ended);
        hears(call_of(&played, scene, second[0]), (6, MUSIC), begins, ended);
    }
}

#[test]
fn a_missed_call_beside_a_withheld_outbound_call_has_its_own_record() {
    for gap_ms in [500, 5_000] {
        let mut calls = TwoCallers::outbound(WITHHELD);
        calls.miss_second(gap_ms);
        let played = play(&calls.scene);
        calls.assert_apart(&played, &gap_ms.to_string());
        let outbound = &call_of(&played, &calls.scene, calls.first[0]).record;
        assert_eq!((outbound.direction, outbound.internal.as_deref()), (CallDirection::Outbound, Some("201")));
    }
}

/// The mirror does not show the leg of 201, but has shown which host rings the telephones.
#[test]
fn a_missed_call_beside_a_trunks_leg_alone_has_its_own_record() {
    let mut office = Office::new();
    office.outside.sip = Endpoint::v4([203, 0, 113, 5], 5060);
    office.plain_call();
    office.scene.wait(10_000);
    let Office { mut scene, mut outside, mut pbx, .. } = office;
    let lone = scene.leg(&mut pbx, &mut outside, [WITHHELD, MOBILE]);
    let second = second_call(&mut scene, &mut outside, &mut pbx, [WITHHELD, OTHER_DID]);
    let mut calls = TwoCallers { scene, first: vec![lone], second };
    calls.miss_second(5_000);
    let played = play(&calls.scene);
    assert_eq!(played.calls.len(), 3);
    assert_eq!(call_of(&played, &calls.scene, calls.second[0]).record.legs.len(), 2);
}

#[test]
fn a_missed_call_behind_a_border_controller_has_its_own_record() {
    for caller in [WITHHELD, OUTSIDE] {
        let mut calls = TwoCallers::behind_controller(caller);
        calls.miss_second(5_000);
        calls.assert_apart(&play(&calls.scene), caller);
    }
}

/// Three callers have one number and call one number of the office. The telephone of the second one forwards its call, and
/// the voice mail answers the third one.
#[test]
fn a_message_beside_a_call_that_a_telephone_forwards_is_recorded() {
    let mut office = Office::new();
    let (a1, b1) = (office.inbound(), office.rings_200());
    let (a2, b2) = (office.inbound(), office.rings_201());
    let Office { mut scene, mut outside, mut pbx, .. } = office;
    let mobile = scene.leg(&mut pbx, &mut outside, [OUTSIDE, MOBILE]);
    divert(&mut scene, mobile, "201");
    scene.at(mobile).voices[1] = 4;
    let second = second_call(&mut scene, &mut outside, &mut pbx, [OUTSIDE, DID]);
    scene.ring_through(a1, b1);
    scene.wait(1_100);
    scene.invite(a2);
    scene.invite(b2);
    scene.wait(400);
    scene.refuse(b2, 302, &[MessageChange::Header("Contact: <sip:+79161234567@10.0.0.9>")]);
    scene.invite_and_ring(mobile);
    scene.ring(a2);
    scene.wait(1_000);
    scene.ring_through(second[0], second[1]);
    scene.wait(200);
    scene.cancel(a1);
    scene.cancel(b1);
    scene.wait(1_000);
    scene.answer(mobile);
    scene.answer(a2);
    scene.wait(2_000);
    scene.cancel(second[1]);
    scene.answer(second[0]);
    let begins = scene.now();
    let message = [(6, second[0], Side::Caller), (MUSIC, second[0], Side::Callee)];
    let talk = [a2, mobile].map(|leg| [(1, leg, Side::Caller), (4, leg, Side::Callee)]).concat();
    scene.sound(&[&talk[..], &message[..]].concat(), 8_000);
    let ended = scene.now();
    scene.bye_all(&[second[0], a2, mobile], Side::Caller);
    let played = play(&scene);
    hears(call_of(&played, &scene, second[0]), (6, MUSIC), begins, ended);
}

/// The mobile telephone diverts the call to another number of the office, as the Diversion header says.
#[test]
fn a_call_that_a_mobile_telephone_diverts_back_is_one_record() {
    for caller in [WITHHELD, OUTSIDE] {
        let mut calls = TwoCallers::forwarded(caller, 1);
        divert(&mut calls.scene, calls.second[0], MOBILE);
        calls.miss_second(5_000);
        calls.assert_whole(caller);
    }
}

/// A border controller is between trunk and PBX. The PBX sends the call back to it, to a telephone or to a mobile one.
#[test]
fn a_call_sent_back_to_its_border_controller_is_one_record() {
    for caller in [WITHHELD, OUTSIDE] {
        for (called, wait_ms) in [("202", 0), ("202", 10_000), (MOBILE, 0), (MOBILE, 10_000)] {
            let Office { mut scene, mut outside, mut pbx, .. } = Office::new();
            let mut controller = ScenePhone::new("", CONTROLLER);
            let mut last = if called == MOBILE { outside.clone() } else { ScenePhone::new(called, 6) };
            let a = scene.leg(&mut outside, &mut controller, [caller, DID]);
            let b = scene.leg(&mut controller, &mut pbx, [caller, DID]);
            let c = scene.leg(&mut pbx, &mut controller, [caller, called]);
            let d = scene.leg(&mut controller, &mut last, [caller, called]);
            [a, b].iter().for_each(|leg| scene.invite_and_ring(*leg));
            scene.wait(wait_ms);
            [c, d].iter().for_each(|leg| scene.invite_and_ring(*leg));
            scene.wait(1_000);
            let legs = vec![a, b, c, d];
            let mut calls = TwoCallers { scene, first: legs, second: Vec::new() };
            calls.talk_first();
            calls.assert_whole(&format!("{caller}, {called}, {wait_ms} ms"));
        }
    }
}

/// A caller hears ringing, the mobile telephone rings, and then a telephone of the office, too.
#[test]
fn a_telephone_beside_the_mobile_one_rings_for_the_same_caller() {
    for caller in [WITHHELD, OUTSIDE] {
        let mut calls = TwoCallers::forwarded(caller, 1);
        let telephone = calls.second.pop().expect("the leg of 202");
        calls.second = vec![telephone];
        calls.miss_second(3_000);
        calls.assert_whole(caller);
    }
}
