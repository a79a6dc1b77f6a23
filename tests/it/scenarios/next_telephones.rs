//! Tests of a PBX with two addresses that rings one telephone after another for a caller who waits at its other address.

use callspan::call::record::{CallDirection, CallOutcome, Side};

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::machines::{TwoAddresses, facts};
use crate::scenarios::{DID, OUTSIDE};
use crate::support::playback::{PlayedScene, play};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// Plays an inbound call for which the PBX rings one telephone after another. 200 stops ringing after five seconds, and
/// `gap_ms` later the PBX rings 201, who answers.
fn hunt(gap_ms: i64, status: Option<u16>) -> (PlayedScene, [i64; 2]) {
    let mut site = TwoAddresses::new();
    let (a, b, c) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE), site.rings_201(OUTSIDE));
    site.scene.ring_through(a, b);
    site.scene.wait(5_000);
    match status {
        Some(status) => site.scene.refuse(b, status, &[]),
        None => site.scene.cancel(b),
    }
    site.scene.wait(gap_ms);
    let times = take(&mut site.scene, a, c);
    (play(&site.scene), times)
}

/// Rings a telephone on the leg `c`, answers it and the caller's leg `a`, and plays their talk. Returns the ms of the
/// beginning and of the end of the talk.
fn take(scene: &mut Scene, a: DialogId, c: DialogId) -> [i64; 2] {
    scene.invite_and_ring(c);
    scene.wait(2_000);
    scene.answer(c);
    scene.answer(a);
    scene.bridge_until_bye(a, c, 3_000, Side::Caller)
}

#[test]
fn the_next_telephone_behind_two_addresses_belongs_to_the_waiting_caller() {
    for (gap_ms, status) in [(20, None), (20, Some(486)), (20, Some(480)), (1_000, None), (6_000, None)] {
        let (played, [talks, ended]) = hunt(gap_ms, status);
        let record = &played.only().record;
        assert_eq!(facts(record), (CallDirection::Inbound, Some("201"), CallOutcome::Answered), "{gap_ms} {status:?}");
        assert!(record.operator_answered_at.is_some());
        hears(played.only(), (1, 3), talks, ended);
    }
}

/// The PBX names two numbers of the caller to the next telephone, and the provider named only one.
#[test]
fn the_next_telephone_is_found_by_the_second_number_of_its_caller() {
    let mut site = TwoAddresses::new();
    let (a, b, c) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE), site.rings_201(OUTSIDE));
    site.scene.at(c).headers.push(String::from("P-Asserted-Identity: <sip:+74951112222@pbx>"));
    site.scene.ring_through(a, b);
    site.scene.wait(5_000);
    site.scene.cancel(b);
    let [talks, ended] = take(&mut site.scene, a, c);
    let played = play(&site.scene);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Inbound, Some("201"), CallOutcome::Answered));
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn a_device_woken_behind_two_addresses_belongs_to_the_waiting_caller() {
    let mut site = TwoAddresses::new();
    let a = site.inbound(OUTSIDE);
    let mut edge = ScenePhone::new("200", 3);
    let devices = ["200-desk", "200-mobile"].map(|device| {
        let leg = site.scene.leg(&mut site.lan, &mut edge, [OUTSIDE, "200"]);
        device.clone_into(&mut site.scene.at(leg).request_user);
        leg
    });
    site.scene.ring_through(a, devices[0]);
    site.scene.wait(3_000);
    let [talks, ended] = take(&mut site.scene, a, devices[1]);
    let played = play(&site.scene);
    let record = &played.calls[0].record;
    assert_eq!(facts(record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered));
    assert_eq!(played.calls.len(), 1);
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn a_caller_whose_transfer_fails_is_rung_through_behind_two_addresses() {
    let mut site = TwoAddresses::new();
    let (a, b) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE));
    site.scene.connect_through(a, b, 1_000);
    site.scene.bridge(a, b, 2_000);
    site.scene.refer(b, Side::Callee, "<sip:201@10.0.0.99>");
    site.scene.bye(b, Side::Callee);
    let (c, again) = (site.rings_201(OUTSIDE), site.rings_200(OUTSIDE));
    site.scene.invite_and_ring(c);
    site.scene.refuse(c, 486, &[]);
    let [talks, ended] = take(&mut site.scene, a, again);
    let played = play(&site.scene);
    let record = &played.only().record;
    assert_eq!(facts(record), (CallDirection::Inbound, Some("200"), CallOutcome::Answered));
    hears(played.only(), (1, 2), talks, ended);
}

#[test]
fn the_next_telephone_is_not_guessed_between_two_callers_of_one_number() {
    let mut site = TwoAddresses::new();
    let (a, b, c) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE), site.rings_201(OUTSIDE));
    let other = site.inbound(OUTSIDE);
    site.scene.ring_through(a, b);
    site.scene.wait(1_000);
    site.scene.invite_and_ring(other);
    site.scene.wait(4_000);
    site.scene.cancel(b);
    site.scene.invite_and_ring(c);
    site.scene.wait(1_000);
    site.scene.cancel(c);
    site.scene.cancel(other);
    site.scene.wait(2_000);
    site.scene.cancel(a);
    let played = play(&site.scene);
    let telephone = played.calls.iter().find(|call| call.record.to.as_deref() == Some("201"));
    assert!(telephone.is_some_and(|call| call.record.legs.len() == 1), "either caller may be meant");
}

#[test]
fn the_next_telephone_of_another_caller_or_machine_is_another_call() {
    for (from, host) in [("+79990000055", 99), (OUTSIDE, 98)] {
        let mut site = TwoAddresses::new();
        let (a, b) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE));
        let c = site.scene.leg(&mut ScenePhone::new(DID, host), &mut site.e201, [from, "201"]);
        site.scene.ring_through(a, b);
        site.scene.wait(5_000);
        site.scene.cancel(b);
        let [talks, ended] = take(&mut site.scene, a, c);
        let played = play(&site.scene);
        assert_eq!(played.calls.len(), 2, "from {from} by host {host}");
        let telephone = played.calls.iter().find(|call| call.record.to.as_deref() == Some("201")).expect("its call");
        hears(telephone, (1, 3), talks, ended);
    }
}

#[test]
fn a_caller_who_talks_behind_two_addresses_is_not_rung_through() {
    let mut site = TwoAddresses::new();
    let (a, b, c) = (site.inbound(OUTSIDE), site.rings_200(OUTSIDE), site.rings_201(OUTSIDE));
    site.scene.connect_through(a, b, 2_000);
    site.scene.bridge(a, b, 1_000);
    // Another caller of the same number, whose own leg the mirror does not show.
    site.scene.invite_and_ring(c);
    site.scene.answer(c);
    site.scene.wait(2_000);
    site.scene.bye(c, Side::Caller);
    site.scene.bye_all(&[a, b], Side::Caller);
    let played = play(&site.scene);
    assert_eq!(played.calls.len(), 2);
}
