//! Tests of the section `[[rules]]` in the configuration: which calls are recorded, and which are registered in Pyrus.

use std::collections::HashSet;

use callspan::call::Engine;
use callspan::call::config::{CallRule, Config, RuleAction};
use callspan::call::decision::Decision;
use callspan::call::event::{DiscardReason, KeptBytes, LegId, LegSink, RegistrationPolicy};
use callspan::call::record::{CallDirection, CallVerdict, Side};
use callspan::call::test_call::{KEY_BYTES, TEST_CALL_HEADER, TestCallKey, TestCallOrder};
use callspan::decode::UdpDatagram;
use callspan::time::Timestamp;

use crate::scenarios::{OUTSIDE, Office, outside_and_200};
use crate::support::playback::{PlayedScene, play_with};
use crate::support::scenario::{DialogId, Scene, ScenePhone};

fn rule(action: RuleAction) -> CallRule {
    CallRule { direction: None, number: None, extension: None, header: None, action }
}

fn with(rules: Vec<CallRule>) -> Config {
    Config { rules, ..Config::default() }
}

/// Plays a direct inbound call of one second with early media. `rules` are the configured rules.
fn direct(headers: &[&str], rules: Vec<CallRule>) -> PlayedScene {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.at(call).headers = headers.iter().map(|h| (*h).to_owned()).collect();
    scene.invite(call);
    scene.progress(call);
    scene.talk(call, 200);
    scene.answer(call);
    scene.talk(call, 1_000);
    scene.bye(call, Side::Caller);
    play_with(&scene, with(rules))
}

#[test]
fn an_excluded_call_leaves_no_byte_of_media_and_says_why() {
    let by = [
        CallRule { direction: Some(CallDirection::Inbound), ..rule(RuleAction::Exclude) },
        CallRule { number: Some("+7999*".to_owned()), ..rule(RuleAction::Exclude) },
        CallRule { extension: Some("20x".to_owned()), ..rule(RuleAction::Exclude) },
        CallRule { header: Some(("X-Private".to_owned(), "yes*".to_owned())), ..rule(RuleAction::Exclude) },
    ];
    for rule in by {
        let played = direct(&["X-Private: yes please"], vec![rule.clone()]);
        let call = played.only();
        assert_eq!(call.record.verdict, Some(CallVerdict::Excluded), "{rule:?}");
        assert_eq!(
            call.record.verdict_reason.as_deref(),
            Some("Rule 1 of the configuration forbids to record this call.")
        );
        assert_eq!((played.media_bytes, call.ended.legs.len(), call.record.recordings.len()), (0, 0, 0), "{rule:?}");
        assert_eq!(call.ended.registration, RegistrationPolicy::Allowed, "the call may be told, only not heard");
        assert!(call.record.answered_at.is_some() && call.record.duration_s.is_some());
    }
}

#[test]
fn the_first_rule_that_fits_decides() {
    let vip = CallRule { number: Some(OUTSIDE.to_owned()), ..rule(RuleAction::Record) };
    let played = direct(&[], vec![vip, rule(RuleAction::Exclude)]);
    assert_eq!(played.only().record.verdict, Some(CallVerdict::BothSides));
    let other = CallRule { number: Some("+7888*".to_owned()), ..rule(RuleAction::Record) };
    let played = direct(&[], vec![other, rule(RuleAction::Exclude)]);
    assert_eq!(played.only().record.verdict, Some(CallVerdict::Excluded));
}

#[test]
fn a_header_that_is_not_there_fits_no_rule() {
    let by_header = CallRule { header: Some(("X-Private".to_owned(), "*".to_owned())), ..rule(RuleAction::Exclude) };
    assert_eq!(direct(&[], vec![by_header]).only().record.verdict, Some(CallVerdict::BothSides));
}

#[test]
fn a_call_that_must_not_be_registered_is_recorded_all_the_same() {
    let played = direct(&[], vec![rule(RuleAction::NoRegister)]);
    let call = played.only();
    assert_eq!(
        (call.record.verdict, call.ended.registration),
        (Some(CallVerdict::BothSides), RegistrationPolicy::Forbidden)
    );
    assert!(played.announced.iter().all(|(_, live)| live.registration == RegistrationPolicy::Forbidden));
}

/// Plays a direct inbound call with the header of `callspan test-call`, signed with the key number `key`. The recorder
/// has the key number 7.
fn test_call(order: TestCallOrder, key: u8) -> PlayedScene {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    let proof = TestCallKey::new([key; KEY_BYTES]).header_value(order, &scene.get(call).call_id);
    scene.at(call).headers = vec![format!("{TEST_CALL_HEADER}: {proof}")];
    scene.connect(call);
    scene.talk(call, 1_000);
    scene.bye(call, Side::Caller);
    play_with(&scene, Config { test_key: Some(TestCallKey::new([7; KEY_BYTES])), ..Config::default() })
}

#[test]
fn own_test_call_is_recorded_and_registered_only_if_asked() {
    let (record, deliver) = (TestCallOrder::RecordOnly, TestCallOrder::Deliver);
    for (order, key, is_known, registration) in [
        (record, 7, true, RegistrationPolicy::Forbidden),
        (deliver, 7, true, RegistrationPolicy::Allowed),
        (record, 8, false, RegistrationPolicy::Allowed), // otherwise a stranger could avoid registration
    ] {
        let played = test_call(order, key);
        let call = played.only();
        assert_eq!(call.record.verdict, Some(CallVerdict::BothSides));
        assert_eq!((call.record.test_call, call.ended.registration), (is_known, registration), "{order:?} {key}");
        assert!(played.announced.iter().all(|(_, live)| live.registration == registration), "{order:?} {key}");
    }
}

/// Plays a call through the PBX. The caller hears music for 1 s, 200 rings without an answer, and 201 answers.
fn through_pbx(rules: Vec<CallRule>) -> (PlayedScene, [DialogId; 3]) {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let scene: &mut Scene = &mut office.scene;
    scene.connect(a);
    scene.sound(&[(5, a, Side::Callee)], 1_000);
    scene.invite_and_ring(b);
    scene.wait(1_000);
    scene.cancel(b);
    scene.invite_and_ring(c);
    scene.wait(1_000);
    scene.answer(c);
    scene.bridge(a, c, 2_000);
    scene.bye_all(&[a, c], Side::Caller);
    (play_with(scene, with(rules)), [a, b, c])
}

#[test]
fn an_exclusion_known_at_the_answer_deletes_earlier_sound() {
    let of_201 = CallRule { extension: Some("201".to_owned()), ..rule(RuleAction::Exclude) };
    let (played, _) = through_pbx(vec![of_201]);
    let call = played.only();
    assert_eq!(
        (call.record.verdict, call.record.recordings.len(), call.ended.legs.len()),
        (Some(CallVerdict::Excluded), 0, 0)
    );
    // By then the spool had one second of music, 50 packets of 172 bytes. Nothing is added later.
    assert_eq!(played.media_bytes, 50 * 172);
    let reason = call.record.verdict_reason.as_deref().expect("a reason");
    assert!(reason.contains("Rule 1") && reason.contains("deleted"), "{reason}");
}

/// Returns a scene in which 200 talks and transfers the call to 201. The leg of 200 has been closed when 201 answers.
fn transferred_to_201() -> Scene {
    let mut office = Office { scene: Scene::noisy(), ..Office::new() };
    let (a, b) = office.connected();
    let c = office.rings_201();
    let mut scene = office.scene;
    scene.bridge(a, b, 8_000);
    scene.refer(b, Side::Callee, "<sip:201@10.0.0.9>");
    scene.bye(b, Side::Caller);
    scene.invite_and_ring(c);
    scene.sound(&[(5, a, Side::Callee)], 10_000);
    scene.answer(c);
    scene.bridge_until_bye(a, c, 2_000, Side::Caller);
    scene
}

/// A leg sink that knows which legs have a spool.
#[derive(Default)]
struct SpoolList(HashSet<LegId>);

impl LegSink for SpoolList {
    fn open(&mut self, leg: LegId, _: &str) {
        self.0.insert(leg);
    }
    fn packet(&mut self, _: LegId, _: &UdpDatagram<'_>, _: KeptBytes) {}
    fn decide(&mut self, _: LegId, _: Timestamp, _: &Decision) {}
    fn close(&mut self, _: LegId) {}
    fn discard(&mut self, leg: LegId, _: DiscardReason) {
        self.0.remove(&leg);
    }
}

#[test]
fn an_excluded_call_leaves_no_spool_of_legs_that_had_ended() {
    let of_201 = CallRule { extension: Some("201".to_owned()), ..rule(RuleAction::Exclude) };
    for (rules, left) in [(Vec::new(), 3), (vec![of_201], 0)] {
        let mut engine = Engine::new(with(rules), "rules");
        let mut spools = SpoolList::default();
        transferred_to_201().packets().iter().for_each(|p| engine.handle_datagram(&p.datagram(), &mut spools));
        engine.handle_end_of_capture(&mut spools);
        assert_eq!(spools.0.len(), left);
    }
}

#[test]
fn an_excluded_call_has_no_voice_prints_of_legs_that_had_ended() {
    let play_with_rules = |rules| play_with(&transferred_to_201(), Config { has_voice_prints: true, ..with(rules) });
    let of_201 = CallRule { extension: Some("201".to_owned()), ..rule(RuleAction::Exclude) };
    let prints = |played: &PlayedScene| -> usize {
        let legs = &played.only().record.legs;
        legs.iter().map(|leg| leg.voice_prints.caller.len() + leg.voice_prints.callee.len()).sum()
    };
    let recorded = play_with_rules(Vec::new());
    assert!(prints(&recorded) > 0);
    let excluded = play_with_rules(vec![of_201]);
    assert_eq!((excluded.only().record.verdict, prints(&excluded)), (Some(CallVerdict::Excluded), 0));
}

#[test]
fn an_extension_that_only_rang_excludes_nothing() {
    let of_200 = CallRule { extension: Some("200".to_owned()), ..rule(RuleAction::Exclude) };
    let (played, _) = through_pbx(vec![of_200]);
    assert_eq!(played.only().record.verdict, Some(CallVerdict::BothSides));
}

#[test]
fn a_rule_on_the_extension_forbids_registration_through_a_pbx() {
    let of_201 = CallRule { extension: Some("201".to_owned()), ..rule(RuleAction::NoRegister) };
    let (played, _) = through_pbx(vec![of_201]);
    let call = played.only();
    assert_eq!(
        (call.record.verdict, call.ended.registration),
        (Some(CallVerdict::BothSides), RegistrationPolicy::Forbidden)
    );
    let announced: Vec<_> =
        played.announced.iter().filter(|(_, l)| l.record.internal.as_deref() == Some("201")).collect();
    assert!(!announced.is_empty() && announced.iter().all(|(_, l)| l.registration == RegistrationPolicy::Forbidden));
}

#[test]
fn a_rule_by_direction_sees_through_the_pbx() {
    // The PBX's leg alone would be inbound or unknown, but the conversation is outbound.
    let mut office = Office::new();
    let Office { scene, outside, pbx, e200, .. } = &mut office;
    let a = scene.leg(e200, pbx, ["200", OUTSIDE]);
    let b = scene.leg(pbx, outside, [crate::scenarios::DID, OUTSIDE]);
    scene.invite(a);
    scene.invite(b);
    scene.answer(b);
    scene.answer(a);
    scene.bridge(a, b, 1_000);
    scene.bye_all(&[a, b], Side::Caller);
    let outbound = CallRule { direction: Some(CallDirection::Outbound), ..rule(RuleAction::Exclude) };
    let played = play_with(scene, with(vec![outbound]));
    assert_eq!((played.only().record.verdict, played.media_bytes), (Some(CallVerdict::Excluded), 0));
    let _: &ScenePhone = pbx;
}
