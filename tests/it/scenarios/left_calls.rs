//! Tests of live calls in the journal of a killed process, if the spool has no signalling of them.

use std::time::Duration;

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::event::{CallEvent, EndedCall, RegistrationPolicy};
use callspan::call::record::{CallDirection, CallOutcome, CallRecord, CallVerdict, EventKind, ProblemKind, Side};

use crate::scenarios::Office;
use crate::support::playback::{NullSink, WatchedSink};
use crate::support::scenario::{Scene, at};

/// Passes the packets of a scene between two times to an engine. Returns the records of all live calls, and those of
/// ended calls.
fn hear(engine: &mut Engine, scene: &Scene, (from_ms, to_ms): (i64, i64)) -> (Vec<CallRecord>, Vec<CallRecord>) {
    let mut sink = WatchedSink::new(NullSink);
    for packet in scene.packets().iter().filter(|p| p.at >= at(from_ms) && p.at < at(to_ms)) {
        engine.handle_datagram(&packet.datagram(), &mut sink);
    }
    engine.handle_timeout(at(to_ms), &mut sink);
    records(engine)
}

fn records(engine: &mut Engine) -> (Vec<CallRecord>, Vec<CallRecord>) {
    let (mut live, mut ended) = (Vec::new(), Vec::new());
    while let Some(event) = engine.poll_event() {
        match event {
            CallEvent::Changed(call) => live.push(call.record),
            CallEvent::Ended(call) => ended.push(call.record),
            CallEvent::SegmentsDue(_) | CallEvent::Withdrawn(_) | CallEvent::Absorbed(_) | CallEvent::Learnt(_) => {}
        }
    }
    (live, ended)
}

/// Starts an engine after a kill: the journal has this record, and the spool is empty.
fn restarted(left: &CallRecord, now_ms: i64) -> Engine {
    let mut engine = Engine::new(Config::default(), "restarted");
    let record = CallRecord { verdict: Some(CallVerdict::NotAnswered), ..left.clone() };
    let registration = RegistrationPolicy::Allowed;
    let ended = EndedCall { record, legs: Vec::new(), registration, wall_offset_ns: 0 };
    engine.handle_left_call(ended, at(now_ms));
    engine
}

#[test]
fn ringing_call_without_spool_is_answered_under_its_id() {
    let mut office = Office::new();
    let (a, b) = (office.inbound(), office.rings_200());
    office.scene.invite_and_ring(a);
    office.scene.invite_and_ring(b);
    office.scene.wait(2_000);
    let killed = office.scene.now();
    office.scene.wait(1_000);
    office.scene.answer(b);
    let answered = office.scene.answer(a);
    office.scene.bridge_until_bye(a, b, 2_000, Side::Caller);
    let mut engine = Engine::new(Config::default(), "killed");
    let (live, _) = hear(&mut engine, &office.scene, (0, killed));
    let left = live.last().expect("it was announced");
    let mut engine = restarted(left, killed + 1_000);
    let (live, ended) = hear(&mut engine, &office.scene, (killed + 1, 60_000));
    assert!(live.iter().all(|record| record.id == left.id), "no other call is announced");
    let [record] = ended.as_slice() else { panic!("{} calls", ended.len()) };
    assert_eq!((&record.id, record.legs.len()), (&left.id, 2));
    assert_eq!((&record.from, &record.to, record.invited_at), (&left.from, &left.to, left.invited_at));
    assert_eq!(record.answered_at, Some(at(answered)));
    assert!(record.problems.iter().any(|p| p.kind == ProblemKind::RestartGap), "{:?}", record.problems);
}

#[test]
fn ringing_call_without_spool_and_messages_ends_after_the_longest_setup() {
    let mut office = Office::new();
    let a = office.inbound();
    office.scene.invite_and_ring(a);
    office.scene.wait(2_000);
    let killed = office.scene.now();
    let mut engine = Engine::new(Config::default(), "killed");
    let (live, _) = hear(&mut engine, &office.scene, (0, killed));
    let mut engine = restarted(live.last().expect("it was announced"), killed);
    let mut sink = WatchedSink::new(NullSink);
    engine.handle_timeout(at(200_000), &mut sink);
    assert_eq!(records(&mut engine), (vec![], vec![]), "a proxy waits 3 minutes for an answer");
    engine.handle_timeout(at(200_000) + Duration::from_secs(60), &mut sink);
    let (_, ended) = records(&mut engine);
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].verdict, Some(CallVerdict::NotAnswered));
}

/// 200 transfers the call to 201 before the kill. After it, only the end of the call is captured.
#[test]
fn talking_call_without_spool_keeps_its_outcome_and_path() {
    let mut office = Office::new();
    let (a, b) = office.connected();
    let c = office.rings_201();
    let scene = &mut office.scene;
    scene.bridge(a, b, 1_000);
    scene.refer(b, Side::Callee, "<sip:201@10.0.0.9>");
    scene.invite_and_ring(c);
    scene.answer(c);
    scene.bye(b, Side::Caller);
    scene.bridge(a, c, 2_000);
    let killed = scene.now();
    scene.wait(1_000);
    let ended = scene.bye_all(&[a, c], Side::Caller);
    let mut engine = Engine::new(Config::default(), "killed");
    let (live, _) = hear(&mut engine, &office.scene, (0, killed));
    let left = live.last().expect("it was announced");
    let mut engine = restarted(left, killed);
    let (_, ended_calls) = hear(&mut engine, &office.scene, (killed + 1, ended + 60_000));
    let [record] = ended_calls.as_slice() else { panic!("{} calls", ended_calls.len()) };
    assert_eq!((&record.id, record.outcome, record.answered_at), (&left.id, CallOutcome::Answered, left.answered_at));
    assert_eq!((record.direction, record.internal.as_deref()), (CallDirection::Inbound, Some("201")));
    let mut path: Vec<&str> = record.legs.iter().map(|leg| leg.sip_call_id.as_str()).collect();
    path.sort_unstable();
    assert_eq!(path, [a, b, c].map(|leg| office.scene.get(leg).call_id.as_str()));
    assert!(record.events.iter().any(|event| event.kind == EventKind::Transfer), "{:?}", record.events);
}
