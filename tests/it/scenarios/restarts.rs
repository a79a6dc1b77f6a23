//! Tests that a kill does not change which legs are one call. The records must be those of a recorder that was never
//! killed.

use callspan::call::Engine;
use callspan::call::config::{Config, RegistrationMoment};
use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::decision::{ConversationState, Decision};
use callspan::call::engine::{EngineLimits, RestoredLeg};
use callspan::call::event::{DiscardReason, KeptBytes, LegId, LegSink};
use callspan::call::leg_end::LegEnd;
use callspan::call::record::{CallDirection, CallOutcome, CallRecord, EventKind, Side};
use callspan::decode::UdpDatagram;
use callspan::net::{Endpoint, Transport};
use callspan::time::Timestamp;

use crate::scenarios::doubtful::{stranger_beside_menu, stranger_until_the_end};
use crate::scenarios::transfers::transfer_without_trunk;
use crate::scenarios::{ConsultationOnHold, DID, OUTSIDE, Office};
use crate::scenarios::{direct, outside_and_200, referred_in_vain, two_callers_of_one_number};
use crate::support::playback::{NullSink, play, play_with};
use crate::support::restart::{ended_records, records_of_both, records_with_kill, records_with_outage};
use crate::support::scenario::{DialogId, STEP_MS, Scene, ScenePhone, at, ip};

/// The parts of a record that correlation decided. A leg has its Call-ID and the rule that joined it.
#[derive(Debug, PartialEq)]
pub(super) struct DecidedFacts {
    id: String,
    direction: CallDirection,
    internal: Option<String>,
    outcome: CallOutcome,
    operator_answered_at: Option<Timestamp>,
    legs: Vec<(String, Option<CorrelationRule>)>,
    ends: Vec<[Option<LegEnd>; 2]>,
    relations: Vec<(String, CorrelationRule)>,
}

fn decided(record: &CallRecord) -> DecidedFacts {
    DecidedFacts {
        id: record.id.clone(),
        direction: record.direction,
        internal: record.internal.clone(),
        outcome: record.outcome,
        operator_answered_at: record.operator_answered_at,
        legs: record.legs.iter().map(|leg| (leg.sip_call_id.clone(), leg.joined_by)).collect(),
        ends: record.legs.iter().map(|leg| [leg.caller.clone(), leg.callee.clone()]).collect(),
        relations: record.relations.iter().map(|relation| (relation.id.clone(), relation.why)).collect(),
    }
}

/// Checks that a kill at each of these times (ms of the scene) gives the same records. Returns the records.
#[track_caller]
pub(super) fn same_after_kills(scene: &Scene, kills_ms: &[i64]) -> Vec<CallRecord> {
    let whole: Vec<CallRecord> = play(scene).calls.into_iter().map(|call| call.record).collect();
    let expected: Vec<DecidedFacts> = whole.iter().map(decided).collect();
    for kill_ms in kills_ms {
        let mut records = records_with_kill(&scene.packets(), scene.now(), *kill_ms);
        records.sort_by_key(|record| (record.invited_at, record.id.clone()));
        assert_eq!(records.iter().map(decided).collect::<Vec<_>>(), expected, "killed at {kill_ms} ms");
    }
    whole
}

/// Makes an inbound call to 200 through a PBX with two addresses. If `rewritten` is true, the PBX changes the numbers,
/// and only the voices show that both legs are one call.
fn two_addresses(scene: &mut Scene, rewritten: bool) -> [DialogId; 2] {
    let public = |host: u8| Endpoint::v4([198, 51, 100, host], 5_060);
    let mut outside = ScenePhone { sip: public(1), ..ScenePhone::new(OUTSIDE, 1) };
    let mut wan = ScenePhone { voice: 5, ..ScenePhone::new(DID, 9) };
    let mut lan = ScenePhone { voice: 5, ..ScenePhone::new(DID, 99) };
    let mut e200 = ScenePhone::new("200", 2);
    let a = scene.leg(&mut outside, &mut wan, [OUTSIDE, DID]);
    let b = scene.leg(&mut lan, &mut e200, [if rewritten { "0451234567" } else { OUTSIDE }, "200"]);
    [a, b]
}

#[test]
fn voices_join_a_call_despite_a_kill_before_their_proof() {
    let mut scene = Scene::noisy();
    let [a, b] = two_addresses(&mut scene, true);
    scene.connect_through(a, b, 2_000);
    let answered = scene.now();
    // Each voice arrives at the PBX before the PBX sends it on.
    let speakers = [(1, a, Side::Caller), (1, b, Side::Caller), (2, b, Side::Callee), (2, a, Side::Callee)];
    scene.sound(&speakers, 8_000);
    scene.bye_all(&[a, b], Side::Caller);
    let records = same_after_kills(&scene, &[answered + 300, answered + 3_000, answered + 6_000]);
    assert_eq!(records.len(), 1);
}

#[test]
fn a_join_by_numbers_that_was_confirmed_stays_confirmed_after_a_kill() {
    let mut scene = Scene::noisy();
    let [a, b] = two_addresses(&mut scene, false);
    scene.connect_through(a, b, 2_000);
    let answered = scene.now();
    scene.bridge_until_bye(a, b, 8_000, Side::Caller);
    let records = same_after_kills(&scene, &[answered - 1_000, answered + 1_000, answered + 5_000]);
    let [record] = records.as_slice() else { panic!("one call, not {}", records.len()) };
    assert_eq!((record.direction, record.internal.as_deref()), (CallDirection::Inbound, Some("200")));
}

/// The telephone goes on from another port without a session description.
#[test]
fn an_event_has_the_same_time_after_a_kill() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    let (caller, callee) = (scene.flow(call, Side::Caller), scene.flow(call, Side::Callee));
    let moved = (callee.0.with_port(10_500), callee.1);
    scene.rtp(&[(1, caller), (2, moved)], 4_000);
    let killed = scene.now();
    scene.rtp(&[(1, caller), (2, moved)], 1_000);
    scene.bye(call, Side::Caller);
    let whole = play(&scene).only().record.clone();
    assert_eq!(whole.events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::MediaMove]);
    let records = records_with_kill(&scene.packets(), scene.now(), killed);
    assert_eq!(records[0].events, whole.events);
}

/// The callee's media moves 50 ms after the 200, and again 50 ms after a session description that announces its new
/// source.
#[test]
fn a_media_move_near_a_session_description_survives_a_restart() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.invite_and_ring(call);
    scene.progress(call);
    scene.talk(call, 1_000);
    let telephone = scene.get(call).media[1];
    scene.at(call).announced[1] = Some(telephone);
    scene.answer(call);
    scene.wait(50);
    scene.at(call).media[1] = ip(3, 12_000);
    let moved = scene.now();
    scene.talk(call, 2_000);
    (scene.at(call).media[1], scene.at(call).announced[1]) = (ip(4, 12_000), None);
    let announced = scene.now() + STEP_MS;
    scene.renegotiate(call, Side::Callee, "INVITE", (&[], &[]));
    scene.wait(50);
    scene.talk(call, 3_000);
    let killed = scene.now() - 1_000;
    let ended = scene.bye(call, Side::Caller) + 60_000;
    let whole = play(&scene).only().record.events.clone();
    let moves: Vec<_> = whole.iter().map(|event| (event.kind, event.at)).collect();
    assert_eq!(moves, [(EventKind::MediaMove, at(moved)), (EventKind::MediaMove, at(announced))]);
    let restarted = records_with_kill(&scene.packets(), ended, killed);
    assert_eq!(restarted[0].events, whole);
}

/// The transfer target refuses, so its leg has no spool. Later the caller's number calls the target again, after the
/// kill.
#[test]
fn a_refer_that_was_used_claims_no_later_leg_after_a_kill() {
    let mut office = Office::new();
    let [a, b] = referred_in_vain(&mut office);
    let Office { mut scene, mut pbx, mut e201, .. } = office;
    scene.talk(b, 4_000);
    let killed = scene.now();
    scene.talk(b, 1_000);
    // Of the next call, the mirror shows only the PBX's leg to the telephone.
    let d = scene.leg(&mut pbx, &mut e201, ["200", "201"]);
    scene.connect(d);
    scene.talk(d, 2_000);
    scene.bye_all(&[d, a, b], Side::Caller);
    same_after_kills(&scene, &[killed]);
}

/// The REFER comes before the kill, and the INVITE that it causes comes after the kill.
#[test]
fn transfer_under_way_at_a_kill_continues_in_the_same_call() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let c = office.rings_201();
    let scene = &mut office.scene;
    scene.bridge(a, b, 2_000);
    scene.refer(b, Side::Callee, "<sip:201@10.0.0.9>");
    scene.wait(500);
    let killed = scene.now();
    scene.wait(500);
    scene.invite_and_ring(c);
    scene.wait(1_000);
    scene.answer(c);
    scene.bye(b, Side::Caller);
    scene.bridge_until_bye(a, c, 3_000, Side::Caller);
    let records = same_after_kills(scene, &[killed, killed + 700]);
    assert_eq!(records.len(), 1);
}

/// Two telephones ring. One of them rings for a call that content evidence later relates to another call.
#[test]
fn relation_survives_the_end_of_the_leg_that_proved_it() {
    let mut office = Office::new();
    let ConsultationOnHold { a, b, c, d, .. } = office.consultation_on_hold();
    let scene = &mut office.scene;
    scene.bye_all(&[c, d], Side::Callee);
    let consulted = scene.now();
    scene.wait(3_000);
    scene.resume(b, Side::Callee);
    scene.bridge_until_bye(a, b, 4_000, Side::Caller);
    let records = same_after_kills(scene, &[consulted - 1_000, consulted + 2_500]);
    assert!(records.iter().all(|record| record.relations.len() == 1));
}

/// Only the sound shows that a stranger talks on the leg of 200.
#[test]
fn a_stranger_stays_apart_whenever_the_recorder_is_killed() {
    let (scene, _, answered) = stranger_beside_menu();
    let kills = [-500, 1_000, 5_000, 8_000, 11_000, 13_000, 14_500].map(|ms| answered + ms);
    let records = same_after_kills(&scene, &kills);
    assert_eq!(records.len(), 2);
}

/// Two callers with the same number wait, and one telephone rings. Only its answer shows for which caller it rang, and
/// the answer comes after the kill.
#[test]
fn ambiguous_leg_of_two_calls_is_resolved_after_a_kill() {
    let mut scene = Scene::new();
    let [a, c, b, d] = two_callers_of_one_number(&mut scene);
    scene.invite(a);
    scene.invite_and_ring(b);
    scene.wait(700);
    scene.invite(c);
    scene.wait(20);
    scene.invite_and_ring(d);
    scene.wait(1_000);
    let killed = scene.now();
    scene.wait(1_000);
    scene.answer(d);
    scene.answer(a);
    scene.bridge(a, d, 3_000);
    scene.cancel(b);
    scene.bye_all(&[a, d], Side::Caller);
    scene.cancel(c);
    same_after_kills(&scene, &[killed]);
}

/// Makes a call to two telephones with early media, through a PBX that changes the numbers. One telephone stops
/// ringing. Seconds later, content evidence shows that the other telephone belongs to the trunk's leg. Returns the
/// scene, and the ms of the first word.
fn forked_and_merged_late() -> (Scene, i64) {
    let mut scene = Scene::noisy();
    let mut outside = ScenePhone { sip: Endpoint::v4([198, 51, 100, 1], 5_060), ..ScenePhone::new(OUTSIDE, 1) };
    let (mut wan, mut lan) = (ScenePhone::new(DID, 9), ScenePhone::new(DID, 99));
    let a = scene.leg(&mut outside, &mut wan, [OUTSIDE, DID]);
    let b = scene.leg(&mut lan, &mut ScenePhone::new("200", 2), ["0451234567", "200"]);
    let c = scene.leg(&mut lan, &mut ScenePhone::new("201", 3), ["0451234567", "201"]);
    let fork = (scene.get(b).call_id.clone(), scene.get(b).tags[0].clone());
    (scene.at(c).call_id, scene.at(c).tags[0]) = fork;
    for d in [a, b, c] {
        scene.invite(d);
    }
    for d in [b, c] {
        scene.progress(d);
    }
    scene.sound(&[(2, b, Side::Callee), (3, c, Side::Callee)], 2_000);
    scene.cancel(c);
    scene.answer(b);
    scene.answer(a);
    // The parties are silent until the leg of the first telephone is closed.
    scene.wait(3_000);
    let talks = scene.now();
    scene.bridge_until_bye(a, b, 8_000, Side::Caller);
    (scene, talks)
}

#[test]
fn closed_leg_stays_in_the_merged_call_after_a_kill() {
    // The call must not be registered early, because a registered call is not merged into another call.
    let config = Config { registered_at: RegistrationMoment::End, ..Config::default() };
    let (scene, talks) = forked_and_merged_late();
    let played = play_with(&scene, config.clone());
    let whole = &played.only().record;
    let legs = |record: &CallRecord| record.legs.iter().map(|leg| leg.callee_addr).collect::<Vec<_>>();
    assert_eq!((whole.legs.len(), whole.from.as_deref()), (3, Some(OUTSIDE)));
    let ended = scene.now();
    for kill_ms in [talks + 3_000, ended - 10, ended + 500, ended + 4_000] {
        let records = records_of_both(&scene.packets(), ended, kill_ms, &config);
        let [record] = records.as_slice() else { panic!("{} calls after a kill at {kill_ms} ms", records.len()) };
        assert_eq!((&record.id, legs(record)), (&whole.id, legs(whole)), "killed at {kill_ms} ms");
    }
}

/// Passes the legs of an earlier process, each with its call's id, and then the scene to an engine.
fn read_back(mut engine: Engine, scene: &Scene, legs: &[(DialogId, String)]) -> Engine {
    let packets = scene.packets();
    for (number, (leg, call)) in legs.iter().map(|(leg, call)| (scene.get(*leg), call)).enumerate() {
        let call_id = leg.call_id.clone();
        let first = packets
            .iter()
            .find(|packet| packet.datagram().payload.windows(call_id.len()).any(|w| w == call_id.as_bytes()));
        engine.handle_restored_leg(RestoredLeg {
            name: format!("leg-{number}"),
            conversation: call.clone(),
            call_id,
            hop: (leg.sip[0], leg.sip[1]),
            begun_at: first.expect("the leg has an INVITE").at,
            first_requester: Side::Caller,
            transport: Transport::Udp,
            wall_offset_ns: 0,
            last_media_at: Some(at(scene.now())),
            joined_by: None,
        });
    }
    for packet in &packets {
        engine.handle_datagram(&packet.datagram(), &mut NullSink);
    }
    engine.handle_timeout(at(scene.now()), &mut NullSink);
    engine
}

fn engine() -> Engine {
    Engine::new(Config::default(), "restored")
}

/// Plays a call of two seconds and the minute after it.
fn short_call(scene: &mut Scene, outside: &mut ScenePhone, pbx: &mut ScenePhone) -> DialogId {
    let leg = scene.leg(outside, pbx, [OUTSIDE, DID]);
    scene.connect(leg);
    scene.talk(leg, 2_000);
    scene.bye(leg, Side::Caller);
    scene.wait(60_000);
    leg
}

#[test]
fn ended_calls_free_their_places_while_spools_are_read_in_order() {
    let mut scene = Scene::new();
    let (mut outside, mut pbx) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(DID, 9));
    let legs: Vec<_> =
        (10..30).map(|n| (short_call(&mut scene, &mut outside, &mut pbx), format!("call-{n}"))).collect();
    let limits = EngineLimits { legs: 8, ..EngineLimits::default() };
    let mut engine = read_back(Engine::with_limits(Config::default(), "restored", limits), &scene, &legs);
    assert_eq!((engine.live_legs(), engine.counters().legs_refused), (4, 0), "half of the limit");
    engine.handle_restart(at(scene.now()), &mut NullSink);
    engine.check();
    let ended: Vec<String> = ended_records(&mut engine).into_iter().map(|record| record.id).collect();
    assert_eq!(ended, legs.into_iter().map(|(_, call)| call).collect::<Vec<_>>());
}

/// Two legs of one call do not overlap, because a leg between them had no spool.
#[test]
fn call_with_successive_legs_ends_once_after_a_restart() {
    let mut scene = Scene::new();
    let (mut outside, mut pbx) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(DID, 9));
    let legs = [0, 1].map(|_| (short_call(&mut scene, &mut outside, &mut pbx), "call".to_owned()));
    let mut engine = read_back(engine(), &scene, &legs);
    engine.handle_restart(at(scene.now()), &mut NullSink);
    engine.check();
    let ended = ended_records(&mut engine);
    assert_eq!(ended.iter().map(|record| (record.id.as_str(), record.legs.len())).collect::<Vec<_>>(), [("call", 2)]);
}

/// Legs are read from spools one after the other. Meanwhile the timer of a leg with ended partner legs is due.
#[test]
fn surviving_leg_stays_in_its_call_until_spools_are_read() {
    let mut scene = Scene::new();
    let (mut outside, mut pbx) = (ScenePhone::new(OUTSIDE, 1), ScenePhone::new(DID, 9));
    let (mut e200, mut e201) = (ScenePhone::new("200", 2), ScenePhone::new("201", 3));
    let a = scene.leg(&mut outside, &mut pbx, [OUTSIDE, DID]);
    let b = scene.leg(&mut pbx, &mut e200, [OUTSIDE, "200"]);
    let c = scene.leg(&mut pbx, &mut e201, [OUTSIDE, "201"]);
    scene.connect_through(a, b, 1_000);
    scene.connect(c);
    scene.bridge(a, b, 1_000);
    scene.bye_all(&[a, b], Side::Caller);
    scene.talk(c, 10_000);
    let mut engine = read_back(engine(), &scene, &[a, b, c].map(|leg| (leg, "call".to_owned())));
    assert_eq!(engine.live_ids().collect::<Vec<_>>(), ["call"]);
    engine.handle_restart(at(scene.now()), &mut NullSink);
    engine.check();
    assert_eq!(engine.live_ids().collect::<Vec<_>>(), ["call"], "nothing is decided at once");
    engine.handle_timeout(at(scene.now() + 6_000), &mut NullSink);
    assert_ne!(engine.live_ids().collect::<Vec<_>>(), ["call"], "the timer decides after the restart");
}

/// A leg sink that keeps the states of calls.
#[derive(Default)]
struct StoredStates(Vec<ConversationState>);

impl LegSink for StoredStates {
    fn open(&mut self, _: LegId, _: &str) {}
    fn packet(&mut self, _: LegId, _: &UdpDatagram<'_>, _: KeptBytes) {}
    fn decide(&mut self, _: LegId, _: Timestamp, decision: &Decision) {
        if let Decision::Conversation(state) = decision {
            self.0.push((**state).clone());
        }
    }
    fn close(&mut self, _: LegId) {}
    fn discard(&mut self, _: LegId, _: DiscardReason) {}
}

/// Restores two related calls of one leg each. The stored state of the first call has `relay`: the names of two legs
/// with the same sound. Returns the relays in the state of the first call at the end of the second call.
fn relays_after_a_kill(relay: [&str; 2]) -> Vec<(String, String)> {
    let mut scene = Scene::new();
    let a = scene.dialog(&mut ScenePhone::new(OUTSIDE, 1), &mut ScenePhone::new(DID, 9));
    let b = scene.dialog(&mut ScenePhone::new("8055", 19), &mut ScenePhone::new("200", 2));
    scene.connect(a);
    scene.connect(b);
    let mut engine = read_back(engine(), &scene, &[a, b].map(|leg| (leg, format!("call-{}", leg.0))));
    let state = ConversationState {
        conversation: "call-0".to_owned(),
        relations: vec![("call-1".to_owned(), CorrelationRule::MediaContent)],
        relays: vec![(relay[0].to_owned(), relay[1].to_owned())],
        ..ConversationState::default()
    };
    let of_b = ConversationState {
        conversation: "call-1".to_owned(),
        relations: vec![("call-0".to_owned(), CorrelationRule::MediaContent)],
        ..ConversationState::default()
    };
    for (leg, state) in [("leg-0", state), ("leg-1", of_b)] {
        let decision = Decision::Conversation(Box::new(state));
        engine.handle_restored_decision(leg, &decision, at(scene.now()), &mut NullSink);
    }
    let mut sink = StoredStates::default();
    engine.handle_restart(at(scene.now()), &mut sink);
    let read = scene.packets().len();
    scene.bye(b, Side::Caller);
    for packet in &scene.packets()[read..] {
        engine.handle_datagram(&packet.datagram(), &mut sink);
    }
    engine.handle_timeout(at(scene.now() + 10_000), &mut sink);
    let last = sink.0.into_iter().rev().find(|state| state.conversation == "call-0");
    last.expect("the state is stored").relays
}

#[test]
fn relay_between_two_calls_is_known_after_a_kill() {
    assert_eq!(relays_after_a_kill(["leg-0", "leg-1"]), [("leg-0".to_owned(), "leg-1".to_owned())]);
    // The other leg belonged to a call that has ended.
    assert_eq!(relays_after_a_kill(["leg-0", ""]), [("leg-0".to_owned(), "leg-0".to_owned())]);
    assert_eq!(relays_after_a_kill(["gone", "leg-0"]), [("leg-0".to_owned(), "leg-0".to_owned())]);
    assert_eq!(relays_after_a_kill(["gone", ""]), []);
}

/// The recorder is killed just after the transfer. The time without a recorder is no silence of the leg.
#[test]
fn a_transferred_leg_outlives_an_outage() {
    let (mut scene, [_, d]) = transfer_without_trunk();
    let transferred = scene.now();
    scene.sound(&[(1, d, Side::Caller), (3, d, Side::Callee)], 60_000);
    let ended = scene.bye(d, Side::Caller);
    for outage_ms in [0, 4_000, 9_000, 26_000] {
        let times = [transferred + 1_000, transferred + 1_000 + outage_ms];
        let records = records_with_outage(&scene.packets(), ended + 30_000, times, &Config::default());
        let has_end = records.iter().any(|record| record.ended_at == Some(at(ended)));
        assert_eq!((records.len(), has_end), (3, true), "{outage_ms} ms without a recorder");
    }
}

#[test]
fn a_stranger_answered_before_an_outage_has_a_record() {
    let (scene, answered) = stranger_until_the_end();
    for outage_ms in [0, 10_000, 25_000] {
        let times = [answered + 2_000, answered + 2_000 + outage_ms];
        let records = records_with_outage(&scene.packets(), scene.now() + 30_000, times, &Config::default());
        assert_eq!(records.len(), 2, "{outage_ms} ms without a recorder");
    }
}
