//! Tests of offers and answers between the first provisional response and the 2xx (RFC 3262, RFC 3311).

use callspan::call::record::{EventKind, Side};

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::outside_and_200;
use crate::support::playback::play;
use crate::support::scenario::{DialogId, MessageChange, STEP_MS, Scene, at, ip, sdp};

/// A ringing call with a reliable 183.
struct EarlyCall {
    scene: Scene,
    call: DialogId,
}

impl EarlyCall {
    fn new() -> Self {
        let (mut scene, mut outside, mut ours) = outside_and_200();
        let call = scene.dialog(&mut outside, &mut ours);
        scene.invite(call);
        scene.progress(call);
        // From here on, requests have a To tag.
        scene.at(call).confirmed = true;
        scene.request(call, Side::Caller, "PRACK", &[]);
        scene.response(call, Side::Callee, (200, "PRACK"), &[]);
        scene.talk(call, 1_000);
        Self { scene, call }
    }

    /// Moves the callee to another source. Its next description announces it.
    fn move_callee(&mut self) {
        self.scene.at(self.call).media[1] = ip(3, 12_000);
    }

    /// Answers without a session description. Then the new source of the callee sends (voice 3), and the source of the
    /// 183 as well. Asserts that the new source is heard.
    fn hears_new_source(mut self, case: &str) {
        let (scene, call) = (&mut self.scene, self.call);
        scene.response(call, Side::Callee, (200, "INVITE"), &[]);
        scene.request(call, Side::Caller, "ACK", &[]);
        self.talks_from_both(case);
    }

    fn talks_from_both(mut self, case: &str) {
        let (scene, call) = (&mut self.scene, self.call);
        let talks = scene.now();
        let (caller, callee) = (scene.flow(call, Side::Caller), scene.flow(call, Side::Callee));
        let former = (ip(2, 10_000), caller.0);
        assert_ne!(former, callee, "{case}: the callee has moved");
        scene.rtp(&[(1, caller), (3, callee), (2, former)], 2_000);
        let ended = scene.bye(call, Side::Caller);
        hears(play(scene).only(), (1, 3), talks, ended);
    }
}

#[test]
fn answer_to_an_early_offer_replaces_the_description_of_the_183() {
    for (by, method) in [(Side::Caller, "UPDATE"), (Side::Caller, "PRACK"), (Side::Callee, "UPDATE")] {
        let mut early = EarlyCall::new();
        early.move_callee();
        early.scene.renegotiate(early.call, by, method, (&[], &[]));
        early.hears_new_source(&format!("{method} of the {by:?}"));
    }
}

#[test]
fn early_offer_of_the_callee_counts_without_its_response() {
    let mut early = EarlyCall::new();
    early.move_callee();
    let offer = early.scene.sdp(early.call, Side::Callee, &[]);
    early.scene.request(early.call, Side::Callee, "UPDATE", &[MessageChange::Sdp(offer)]);
    early.hears_new_source("no response to the UPDATE");
}

#[test]
fn early_answer_stays_in_force_although_another_branch_rings_later() {
    for by in [Side::Caller, Side::Callee] {
        let mut early = EarlyCall::new();
        early.move_callee();
        early.scene.renegotiate(early.call, by, "UPDATE", (&[], &[]));
        let other = [MessageChange::Branch("other"), MessageChange::Sdp(sdp(ip(4, 10_000), 1, "8 101", &[]))];
        early.scene.response(early.call, Side::Callee, (183, "INVITE"), &other);
        early.hears_new_source(&format!("UPDATE of the {by:?}"));
    }
}

#[test]
fn provisional_response_that_is_captured_after_the_answer_changes_no_media() {
    let mut early = EarlyCall::new();
    early.move_callee();
    early.scene.answer(early.call);
    let late = MessageChange::Sdp(sdp(ip(2, 10_000), 1, "8 101", &[]));
    early.scene.response(early.call, Side::Callee, (183, "INVITE"), &[late]);
    early.talks_from_both("late 183");
}

/// The other branch has described itself. The callee answers without session description, and its 183 is captured later.
#[test]
fn late_provisional_response_counts_if_nothing_else_describes_the_callee() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite(call);
    let other = [MessageChange::Branch("other"), MessageChange::Sdp(sdp(ip(2, 10_000), 1, "8 101", &[]))];
    scene.response(call, Side::Callee, (183, "INVITE"), &other);
    let mut early = EarlyCall { scene, call };
    early.move_callee();
    early.scene.response(call, Side::Callee, (200, "INVITE"), &[]);
    early.scene.progress(call);
    early.scene.at(call).confirmed = true;
    early.scene.request(call, Side::Caller, "ACK", &[]);
    early.talks_from_both("the callee's 183 after its 200");
}

/// The agreed media begins with the callee's 183, so a new address of the callee in a later offer is a move.
#[test]
fn late_provisional_response_is_the_address_from_which_the_callee_moves() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite(call);
    scene.response(call, Side::Callee, (200, "INVITE"), &[]);
    scene.progress(call);
    scene.at(call).confirmed = true;
    scene.request(call, Side::Caller, "ACK", &[]);
    scene.talk(call, 1_000);
    scene.at(call).media[1] = ip(3, 12_000);
    let moved = scene.now() + STEP_MS;
    scene.renegotiate(call, Side::Callee, "INVITE", (&[], &[]));
    scene.talk(call, 1_000);
    scene.bye(call, Side::Caller);
    let played = play(&scene);
    let moves: Vec<_> = played.only().record.events.iter().map(|event| (event.kind, event.side, event.at)).collect();
    assert_eq!(moves, [(EventKind::MediaMove, Some(Side::Callee), at(moved))]);
}

/// The caller answers the early offer of the callee in a provisional response and refuses it afterwards.
#[test]
fn refused_early_offer_leaves_the_description_of_the_183() {
    let mut early = EarlyCall::new();
    let (scene, call) = (&mut early.scene, early.call);
    let telephone = scene.get(call).media[1];
    let refused = ip(3, 12_000);
    scene.at(call).media[1] = refused;
    let [offer, answer] = [Side::Callee, Side::Caller].map(|side| scene.sdp(call, side, &[]));
    scene.request(call, Side::Callee, "INVITE", &[MessageChange::Sdp(offer)]);
    scene.response(call, Side::Caller, (183, "INVITE"), &[MessageChange::Sdp(answer)]);
    scene.response(call, Side::Caller, (488, "INVITE"), &[]);
    scene.request(call, Side::Callee, "ACK", &[]);
    scene.at(call).media[1] = telephone;
    scene.response(call, Side::Callee, (200, "INVITE"), &[]);
    scene.request(call, Side::Caller, "ACK", &[]);
    let talks = scene.now();
    let (caller, callee) = (scene.flow(call, Side::Caller), scene.flow(call, Side::Callee));
    scene.rtp(&[(1, caller), (2, callee), (3, (refused, caller.0))], 2_000);
    let ended = scene.bye(call, Side::Caller);
    hears(play(scene).only(), (1, 2), talks, ended);
}
