//! Tests of calls during which the recorder is killed: path, extension and outcome must be those of a recorder that was
//! never killed.

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::decision::{Decision, MissingParts};
use callspan::call::engine::EngineLimits;
use callspan::call::event::{DiscardReason, KeptBytes, LegId, LegSink};
use callspan::call::record::{CallDirection, CallOutcome, CallRecord, Side};
use callspan::decode::UdpDatagram;
use callspan::time::Timestamp;

use crate::scenarios::restarts::same_after_kills;
use crate::scenarios::{DID, MUSIC, OUTSIDE, Office, outside_and_200};
use crate::support::playback::NullSink;
use crate::support::restart::{ended_records, records_with_limits, records_with_outage};
use crate::support::scenario::{Scene, ScenePhone, at};

/// Time after the end of an unanswered leg until its call goes on, ms. An unanswered leg was forgotten within this time.
const LATER_MS: i64 = 20_000;

fn outcome_of(records: &[CallRecord]) -> (CallOutcome, Option<&str>) {
    let [record] = records else { panic!("one call, not {}", records.len()) };
    (record.outcome, record.internal.as_deref())
}

/// Two telephones ring, and one of them declines.
#[test]
fn a_telephone_that_declined_is_known_after_a_kill() {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene = &mut office.scene;
    [a, b, c].into_iter().for_each(|leg| scene.invite_and_ring(leg));
    scene.wait(1_000);
    scene.refuse(c, 486, &[]);
    scene.wait(LATER_MS);
    let killed = scene.now();
    scene.wait(1_000);
    scene.cancel(a);
    scene.cancel(b);
    let records = same_after_kills(scene, &[killed]);
    assert_eq!(outcome_of(&records), (CallOutcome::Cancelled, None), "two telephones rang");
}

/// Makes an answered call that the caller's telephone repeats with the same Call-ID after a refusal. Returns the scene
/// and a moment of the talk, ms.
fn tried_again() -> (Scene, i64) {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let (refused, call) = (scene.dialog(&mut outside, &mut ours), scene.dialog(&mut outside, &mut ours));
    "tried-again@scene".clone_into(&mut scene.at(refused).call_id);
    "tried-again@scene".clone_into(&mut scene.at(call).call_id);
    scene.invite(refused);
    scene.refuse(refused, 488, &[]);
    scene.connect(call);
    scene.talk(call, 40_000);
    let talks = scene.now();
    scene.talk(call, 1_000);
    scene.bye(call, Side::Caller);
    (scene, talks)
}

#[test]
fn a_call_that_was_tried_again_stays_answered_after_a_kill() {
    let (scene, killed) = tried_again();
    let records = same_after_kills(&scene, &[killed]);
    assert_eq!(outcome_of(&records), (CallOutcome::Answered, Some("200")));
}

/// The first trunk refuses the call, and the second takes it.
#[test]
fn a_trunk_that_refused_is_on_the_path_after_a_kill() {
    let mut office = Office::new();
    let Office { scene, pbx, e200, outside, .. } = &mut office;
    let a = scene.leg(e200, pbx, ["200", OUTSIDE]);
    let b = scene.leg(pbx, &mut ScenePhone::new(OUTSIDE, 40), [DID, OUTSIDE]);
    let c = scene.leg(pbx, outside, [DID, OUTSIDE]);
    scene.invite(a);
    scene.invite(b);
    scene.refuse(b, 503, &[]);
    scene.invite_and_ring(c);
    scene.wait(LATER_MS);
    let rings = scene.now();
    scene.wait(1_000);
    scene.answer(c);
    scene.answer(a);
    scene.bridge(a, c, 3_000);
    let talks = scene.now();
    scene.bridge_until_bye(a, c, 1_000, Side::Caller);
    let records = same_after_kills(scene, &[rings, talks]);
    assert_eq!(outcome_of(&records), (CallOutcome::Answered, Some("200")));
}

/// The caller talks with the voice mail, because nobody answered. An earlier call has shown that the host is a PBX.
#[test]
fn a_call_in_the_voice_mail_is_abandoned_after_a_kill() {
    for rings in [true, false] {
        let mut office = Office::new();
        office.plain_call();
        office.scene.wait(120_000);
        let a = office.inbound();
        let b = office.rings_200();
        let scene = &mut office.scene;
        scene.invite_and_ring(a);
        if rings {
            scene.invite_and_ring(b);
            scene.wait(2_000);
            scene.cancel(b);
        }
        scene.answer(a);
        scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], LATER_MS);
        let killed = scene.now();
        scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], 1_000);
        scene.bye(a, Side::Caller);
        let records = same_after_kills(scene, &[killed]);
        assert_eq!(records.last().map(|record| record.outcome), Some(CallOutcome::Abandoned), "rings: {rings}");
    }
}

/// Only a REGISTER shows that the user `alice` is an extension.
#[test]
fn a_registered_user_is_an_extension_after_a_kill() {
    let mut scene = Scene::new();
    let (mut outside, mut phone) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new("alice", 2));
    scene.register(&phone, &ScenePhone::new("", 9));
    scene.wait(60_000);
    let call = scene.dialog(&mut outside, &mut phone);
    scene.invite_and_ring(call);
    scene.wait(1_000);
    let rings = scene.now();
    scene.wait(1_000);
    scene.answer(call);
    scene.talk(call, 2_000);
    let talks = scene.now();
    scene.talk(call, 1_000);
    scene.bye(call, Side::Caller);
    let records = same_after_kills(&scene, &[rings, talks]);
    assert_eq!(outcome_of(&records), (CallOutcome::Answered, Some("alice")));
}

/// 200 transfers the caller to 201, which declines, and then to 202.
#[test]
fn the_path_of_a_transfer_is_the_same_after_a_kill() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let c = office.rings_201();
    let mut e202 = ScenePhone::new("202", 6);
    let d = office.scene.leg(&mut office.pbx, &mut e202, [OUTSIDE, "202"]);
    let scene = &mut office.scene;
    scene.bridge(a, b, 2_000);
    scene.refer(b, Side::Callee, "<sip:201@10.0.0.9>");
    scene.invite(c);
    scene.refuse(c, 486, &[]);
    scene.bridge(a, b, LATER_MS);
    let talks = scene.now();
    scene.refer(b, Side::Callee, "<sip:202@10.0.0.9>");
    scene.invite_and_ring(d);
    scene.wait(1_000);
    let rings = scene.now();
    scene.wait(1_000);
    scene.answer(d);
    scene.bye(b, Side::Caller);
    scene.bridge(a, d, 3_000);
    let transferred = scene.now();
    scene.bridge_until_bye(a, d, 1_000, Side::Caller);
    let records = same_after_kills(scene, &[talks, rings, transferred]);
    assert_eq!(outcome_of(&records), (CallOutcome::Answered, Some("202")));
}

/// The recorder does not run while the call is answered. Afterwards only the BYE is captured.
#[test]
fn a_call_answered_during_an_outage_is_answered() {
    for by in [Side::Caller, Side::Callee] {
        let mut office = Office::new();
        let (a, b) = (office.inbound(), office.rings_200());
        let scene = &mut office.scene;
        scene.ring_through(a, b);
        scene.wait(2_000);
        let killed = scene.now();
        scene.wait(1_000);
        scene.answer(b);
        scene.answer(a);
        scene.wait(5_000);
        let started = scene.now();
        scene.wait(5_000);
        scene.bye_all(&[a, b], by);
        let times = [killed, started];
        let records = records_with_outage(&scene.packets(), scene.now() + 30_000, times, &Config::default());
        assert_eq!(outcome_of(&records), (CallOutcome::Answered, Some("200")), "{by:?}");
        assert_eq!(records[0].answered_at, Some(at(started)));
    }
}

/// Many telephones refuse calls that go on. The signalling of all of them would take too much memory.
#[test]
fn only_so_many_refused_legs_are_kept_for_a_restart() {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene = &mut office.scene;
    [a, b, c].into_iter().for_each(|leg| scene.invite_and_ring(leg));
    scene.refuse(b, 486, &[]);
    scene.refuse(c, 486, &[]);
    scene.answer(a);
    scene.sound(&[(1, a, Side::Caller), (MUSIC, a, Side::Callee)], LATER_MS);
    for (kept_legs, discarded) in [(2, 0), (1, 1), (0, 2)] {
        let limits = EngineLimits { kept_legs, ..EngineLimits::default() };
        let mut engine = Engine::with_limits(Config::default(), "kept", limits);
        let mut sink = DiscardCounter::default();
        scene.packets().iter().for_each(|packet| engine.handle_datagram(&packet.datagram(), &mut sink));
        assert_eq!(sink.0, discarded, "{kept_legs} kept");
        engine.handle_end_of_capture(&mut sink);
        assert_eq!(sink.0, 2, "the end of the call discards the others");
    }
}

/// The signalling of a refused leg is not kept. The call goes on as if it was kept, also after a kill.
#[test]
fn a_leg_that_is_not_kept_changes_no_call_under_way() {
    let (scene, killed) = tried_again();
    for kept_legs in [1, 0] {
        let limits = EngineLimits { kept_legs, ..EngineLimits::default() };
        let mut engine = Engine::with_limits(Config::default(), "kept", limits);
        scene.packets().iter().for_each(|packet| engine.handle_datagram(&packet.datagram(), &mut NullSink));
        engine.handle_end_of_capture(&mut NullSink);
        let answered = (CallOutcome::Answered, Some("200"));
        assert_eq!(outcome_of(&ended_records(&mut engine)), answered, "{kept_legs} kept");
        let (packets, end) = (scene.packets(), scene.now() + 30_000);
        let records = records_with_limits(&packets, end, [killed, killed], &Config::default(), limits);
        assert_eq!(outcome_of(&records), answered, "{kept_legs} kept, killed");
    }
}

/// An extension calls another one, which declines, and then talks with the voice mail. The leg that declined is not kept.
#[test]
fn a_leg_that_is_not_kept_is_known_after_a_kill() {
    let mut office = Office::new();
    let Office { scene, pbx, e200, e201, .. } = &mut office;
    let (a, b) = (scene.leg(e200, pbx, ["200", "201"]), scene.leg(pbx, e201, ["200", "201"]));
    scene.invite_and_ring(a);
    scene.invite_and_ring(b);
    scene.refuse(b, 486, &[]);
    scene.answer(a);
    scene.sound(&[(2, a, Side::Caller), (MUSIC, a, Side::Callee)], LATER_MS);
    let killed = scene.now();
    scene.sound(&[(2, a, Side::Caller), (MUSIC, a, Side::Callee)], 1_000);
    scene.bye(a, Side::Caller);
    for kept_legs in [1, 0] {
        let limits = EngineLimits { kept_legs, ..EngineLimits::default() };
        let (packets, end) = (scene.packets(), scene.now() + 30_000);
        let records = records_with_limits(&packets, end, [killed, killed], &Config::default(), limits);
        assert_eq!(outcome_of(&records).0, CallOutcome::Abandoned, "{kept_legs} kept");
    }
}

/// A program on the host of the PBX calls an outside number, and the first trunk refuses. The leg of this trunk is not
/// kept, and is no telephone that rang.
#[test]
fn a_trunk_that_is_not_kept_is_no_telephone_after_a_kill() {
    let mut office = Office::new();
    let Office { scene, pbx, outside, .. } = &mut office;
    let mut program = ScenePhone { sip: pbx.sip.with_port(5_070), next_port: 20_000, ..ScenePhone::new(DID, 9) };
    let a = scene.leg(&mut program, pbx, [DID, OUTSIDE]);
    let b = scene.leg(pbx, &mut ScenePhone::new(OUTSIDE, 40), [DID, OUTSIDE]);
    let c = scene.leg(pbx, outside, [DID, OUTSIDE]);
    scene.invite(a);
    scene.invite(b);
    scene.refuse(b, 503, &[]);
    scene.invite_and_ring(c);
    scene.answer(c);
    scene.answer(a);
    scene.bridge(a, c, LATER_MS);
    let killed = scene.now();
    scene.bridge_until_bye(a, c, 1_000, Side::Caller);
    for kept_legs in [1, 0] {
        let limits = EngineLimits { kept_legs, ..EngineLimits::default() };
        let (packets, end) = (scene.packets(), scene.now() + 30_000);
        let records = records_with_limits(&packets, end, [killed, killed], &Config::default(), limits);
        assert_eq!(outcome_of(&records).0, CallOutcome::Answered, "{kept_legs} kept");
        assert_eq!(records[0].direction, CallDirection::Outbound, "{kept_legs} kept");
    }
}

/// The spool of the caller's leg says that the call had a leg, but no telephone rang.
#[test]
fn the_spool_names_a_trunk_that_is_not_kept() {
    let mut office = Office::new();
    let [a, b] = office.outbound();
    let scene = &mut office.scene;
    scene.invite(a);
    scene.invite(b);
    scene.refuse(b, 503, &[]);
    scene.answer(a);
    scene.sound(&[(MUSIC, a, Side::Callee)], LATER_MS);
    let limits = EngineLimits { kept_legs: 0, ..EngineLimits::default() };
    let mut engine = Engine::with_limits(Config::default(), "killed", limits);
    let mut sink = MissingLegs::default();
    scene.packets().iter().for_each(|packet| engine.handle_datagram(&packet.datagram(), &mut sink));
    assert!(sink.0.had_other_legs && sink.0.rang_no_extension, "{:?}", sink.0);
}

/// The state of an older version does not say whether a telephone rang, so one counts as rung.
#[test]
fn a_stored_call_of_an_older_version_is_readable() {
    let missing: MissingParts = serde_json::from_str(r#"{"had_other_legs":true}"#).expect("readable");
    assert_eq!(missing, MissingParts { had_other_legs: true, ..MissingParts::default() });
}

/// A leg sink that stores which parts of the newest call a later process would lack.
#[derive(Default)]
struct MissingLegs(MissingParts);

impl LegSink for MissingLegs {
    fn open(&mut self, _: LegId, _: &str) {}
    fn packet(&mut self, _: LegId, _: &UdpDatagram<'_>, _: KeptBytes) {}
    fn decide(&mut self, _: LegId, _: Timestamp, decision: &Decision) {
        if let Decision::Conversation(state) = decision {
            self.0 = state.missing.clone();
        }
    }
    fn close(&mut self, _: LegId) {}
    fn discard(&mut self, _: LegId, _: DiscardReason) {}
}

/// A leg sink that counts the discarded legs.
#[derive(Default)]
struct DiscardCounter(usize);

impl LegSink for DiscardCounter {
    fn open(&mut self, _: LegId, _: &str) {}
    fn packet(&mut self, _: LegId, _: &UdpDatagram<'_>, _: KeptBytes) {}
    fn decide(&mut self, _: LegId, _: Timestamp, _: &Decision) {}
    fn close(&mut self, _: LegId) {}
    fn discard(&mut self, _: LegId, _: DiscardReason) {
        self.0 += 1;
    }
}

/// A ringing call goes on after the kill: it is offered again as ringing, and the caller gives up with a BYE.
#[test]
fn a_call_that_still_rings_after_an_outage_is_not_answered() {
    let mut office = Office::new();
    let a = office.inbound();
    let scene = &mut office.scene;
    scene.invite_and_ring(a);
    scene.wait(2_000);
    let killed = scene.now();
    scene.wait(5_000);
    let restarted = scene.now();
    scene.wait(1_000);
    scene.ring(a);
    scene.wait(2_000);
    scene.bye(a, Side::Caller);
    let (packets, end) = (scene.packets(), scene.now() + 30_000);
    let records = records_with_outage(&packets, end, [killed, restarted], &Config::default());
    assert_ne!(records[0].outcome, CallOutcome::Answered);
}
