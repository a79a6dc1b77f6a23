//! Tests of live calls in the journal of a killed process, if the spool has no signalling of them.

use std::time::Duration;

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::event::{CallEvent, EndedCall, LegSink, RegistrationPolicy};
use callspan::call::record::{
    CallDirection, CallOutcome, CallRecord, CallVerdict, EndedBy, EventKind, EventRecord, ProblemKind, Side,
};
use callspan::service::resume::{EarlierCalls, NoEarlierCalls, resume_at};
use callspan::spool::disk::DiskSpool;

use crate::scenarios::{Office, outside_and_200};
use crate::support::playback::{NullSink, WatchedSink};
use crate::support::scenario::{DialogId, Scene, ScenePhone, at};

/// Passes the packets of a scene between two times to an engine. Returns the records of all live calls, and those of
/// ended calls.
fn hear(engine: &mut Engine, scene: &Scene, times: (i64, i64)) -> (Vec<CallRecord>, Vec<CallRecord>) {
    hear_into(engine, scene, times, &mut WatchedSink::new(NullSink))
}

/// Does the same as [`hear`], with a spool.
fn hear_into(
    engine: &mut Engine,
    scene: &Scene,
    (from_ms, to_ms): (i64, i64),
    sink: &mut dyn LegSink,
) -> (Vec<CallRecord>, Vec<CallRecord>) {
    for packet in scene.packets().iter().filter(|p| p.at >= at(from_ms) && p.at < at(to_ms)) {
        engine.handle_datagram(&packet.datagram(), sink);
    }
    engine.handle_timeout(at(to_ms), sink);
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
    adopt(&mut engine, left, now_ms);
    engine
}

/// Passes a live call to an engine, as the journal has it.
fn adopt(engine: &mut Engine, left: &CallRecord, now_ms: i64) {
    let record = CallRecord { verdict: Some(CallVerdict::NotAnswered), ..left.clone() };
    let registration = RegistrationPolicy::Allowed;
    let ended = EndedCall { record, legs: Vec::new(), registration, wall_offset_ns: 0 };
    engine.handle_left_call(ended, at(now_ms));
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

/// Simple telephones use a counter and a private address as Call-ID, so those of two strangers may be the same.
#[test]
fn strangers_with_one_short_call_id_stay_two_calls() {
    for by in [Side::Caller, Side::Callee] {
        for is_answer_known in [true, false] {
            assert_strangers_go_on(by, is_answer_known);
        }
    }
}

/// Lets two telephones with one Call-ID call, and kills the recorder. Asserts that the BYE of a side ends each call under
/// its id. If `is_answer_known` is false, the journal has the calls from before their answer, without To tag.
fn assert_strangers_go_on(by: Side, is_answer_known: bool) {
    let mut scene = Scene::new();
    let legs = [("+79990000001", "200", 1), ("+79990000002", "201", 3)].map(|(number, user, host)| {
        let (mut outside, mut ours) = (ScenePhone::new(number, host), ScenePhone::new(user, host + 1));
        let leg = scene.dialog(&mut ours, &mut outside);
        "17@192.168.1.2".clone_into(&mut scene.at(leg).call_id);
        leg
    });
    legs.iter().for_each(|leg| _ = scene.connect(*leg));
    scene.sound(&legs.map(|leg| (1, leg, Side::Caller)), 2_000);
    let killed = scene.now();
    scene.wait(1_000);
    let ended = scene.bye_all(&legs, by);
    let mut engine = Engine::new(Config::default(), "killed");
    let (live, _) = hear(&mut engine, &scene, (0, killed));
    let mut left: Vec<CallRecord> = live.into_iter().filter(|record| record.answered_at.is_some()).collect();
    left.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(left.len(), 2);
    if !is_answer_known {
        left.iter_mut().flat_map(|record| &mut record.legs).for_each(|leg| leg.to_tag = None);
    }
    let mut engine = Engine::new(Config::default(), "restarted");
    left.iter().for_each(|record| adopt(&mut engine, record, killed));
    let (_, mut ended_calls) = hear(&mut engine, &scene, (killed + 1, ended + 60_000));
    ended_calls.sort_by(|a, b| a.id.cmp(&b.id));
    let facts = |record: &CallRecord| {
        let parties = [&record.from, &record.to, &record.internal].map(Clone::clone);
        (record.id.clone(), parties, record.direction, record.legs.len())
    };
    let [found, expected] = [&ended_calls, &left].map(|records| records.iter().map(facts).collect::<Vec<_>>());
    assert_eq!(found, expected, "BYE of the {by:?}, answer known: {is_answer_known}");
    let ended_by = if by == Side::Caller { EndedBy::Caller } else { EndedBy::Callee };
    assert!(ended_calls.iter().all(|record| record.ended_by == Some(ended_by)), "BYE of the {by:?}");
}

/// The callee sends the first message after the kill, holds the call and resumes the talk.
#[test]
fn a_call_that_the_callee_continues_keeps_its_sides() {
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.connect(call);
    scene.talk(call, 2_000);
    let killed = scene.now();
    scene.wait(1_000);
    scene.renegotiate(call, Side::Callee, "INVITE", (&[], &[]));
    scene.hold(call, Side::Callee);
    scene.resume(call, Side::Callee);
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Callee);
    let mut engine = Engine::new(Config::default(), "killed");
    let (live, _) = hear(&mut engine, &scene, (0, killed));
    let left = live.last().expect("it was announced");
    let mut engine = restarted(left, killed);
    let (_, ended_calls) = hear(&mut engine, &scene, (killed + 1, ended + 60_000));
    let [record] = ended_calls.as_slice() else { panic!("{} calls", ended_calls.len()) };
    assert_eq!((record.direction, record.internal.as_deref()), (CallDirection::Inbound, Some("200")));
    assert_eq!((&record.from, &record.to), (&left.from, &left.to));
    assert_eq!((record.outcome, record.ended_by), (CallOutcome::Answered, Some(EndedBy::Callee)));
    let is_hold = |event: &&EventRecord| matches!(event.kind, EventKind::Hold | EventKind::Resume);
    let holds: Vec<_> = record.events.iter().filter(is_hold).map(|event| (event.kind, event.side)).collect();
    assert_eq!(holds, [(EventKind::Hold, Some(Side::Callee)), (EventKind::Resume, Some(Side::Callee))]);
    let dialog = scene.get(call);
    let senders = [Side::Caller, Side::Callee].map(|side| record.sides.get(side).streams[0].src);
    assert_eq!((senders, record.legs[0].caller_addr), (dialog.media, Some(dialog.sip[0])));
}

/// Makes an inbound call that 200 transfers to 201. Returns the scene, and the legs of the caller, 200 and 201.
fn transferred() -> (Scene, [DialogId; 3]) {
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
    (office.scene, [a, b, c])
}

/// Checks that a record has what was captured before the spool was lost.
#[track_caller]
fn assert_goes_on(record: &CallRecord, left: &CallRecord, (scene, legs): (&Scene, [DialogId; 3])) {
    assert_eq!((&record.id, record.outcome, record.answered_at), (&left.id, CallOutcome::Answered, left.answered_at));
    assert_eq!((record.direction, record.internal.as_deref()), (CallDirection::Inbound, Some("201")));
    let mut path: Vec<&str> = record.legs.iter().map(|leg| leg.sip_call_id.as_str()).collect();
    path.sort_unstable();
    assert_eq!(path, legs.map(|leg| scene.get(leg).call_id.as_str()));
    let transfers = record.events.iter().filter(|event| event.kind == EventKind::Transfer);
    assert_eq!(transfers.count(), 1, "{:?}", record.events);
}

/// 200 transfers the call to 201 before the kill. After it, only the end of the call is captured.
#[test]
fn talking_call_without_spool_keeps_its_outcome_and_path() {
    let (mut scene, [a, b, c]) = transferred();
    let killed = scene.now();
    scene.wait(1_000);
    let ended = scene.bye_all(&[a, c], Side::Caller);
    let mut engine = Engine::new(Config::default(), "killed");
    let (live, _) = hear(&mut engine, &scene, (0, killed));
    let left = live.last().expect("it was announced");
    let mut engine = restarted(left, killed);
    let (_, ended_calls) = hear(&mut engine, &scene, (killed + 1, ended + 60_000));
    let [record] = ended_calls.as_slice() else { panic!("{} calls", ended_calls.len()) };
    assert_goes_on(record, left, (&scene, [a, b, c]));
}

/// A journal with one live call.
struct LiveInJournal(CallRecord);

impl EarlierCalls for LiveInJournal {
    fn is_over(&self, _: &str) -> bool {
        false
    }

    fn owner_of(&self, _: &str) -> Option<CallRecord> {
        None
    }

    fn unrendered_record(&self, id: &str) -> Option<CallRecord> {
        Some(self.0.clone()).filter(|record| record.id == id)
    }
}

fn spool_in(folder: &std::path::Path) -> DiskSpool {
    let config = callspan::spool::config::Config { dir: folder.to_owned(), ..Default::default() };
    DiskSpool::start(&config).expect("a spool").0
}

#[test]
fn a_call_that_lost_its_spool_survives_a_second_restart() {
    [Side::Caller, Side::Callee].into_iter().for_each(assert_survives_second_restart);
}

/// The spool is lost at the first restart. At the second one it has the caller's leg, from the re-INVITE of a side on.
fn assert_survives_second_restart(by: Side) {
    let (mut scene, [a, b, c]) = transferred();
    let first = scene.now();
    scene.wait(1_000);
    scene.renegotiate(a, by, "INVITE", (&[], &[]));
    scene.hold(a, by);
    scene.wait(2_000);
    let second = scene.now();
    scene.wait(1_000);
    let ended = scene.bye_all(&[a, c], Side::Caller);
    let mut engine = Engine::new(Config::default(), "killed");
    let (live, _) = hear(&mut engine, &scene, (0, first));
    let left = live.last().expect("it was announced");
    let folder = tempfile::tempdir().expect("a folder");
    let (mut engine, mut spool) = (Engine::new(Config::default(), "restarted"), spool_in(folder.path()));
    resume_at(&mut engine, &mut spool, &NoEarlierCalls, at(first)).expect("nothing there");
    adopt(&mut engine, left, first);
    let (live, _) = hear_into(&mut engine, &scene, (first + 1, second), &mut spool);
    spool.flush();
    spool.shutdown();
    let journal = LiveInJournal(live.last().expect("it was announced again").clone());
    let (mut engine, mut spool) = (Engine::new(Config::default(), "restarted"), spool_in(folder.path()));
    resume_at(&mut engine, &mut spool, &journal, at(second)).expect("readable");
    let (_, ended_calls) = hear_into(&mut engine, &scene, (second + 1, ended + 60_000), &mut spool);
    let [record] = ended_calls.as_slice() else { panic!("{} calls", ended_calls.len()) };
    assert_goes_on(record, left, (&scene, [a, b, c]));
    let holds: Vec<_> = record.events.iter().filter(|event| event.kind == EventKind::Hold).map(|e| e.side).collect();
    assert_eq!(holds, [Some(by)], "{:?}", record.events);
}
