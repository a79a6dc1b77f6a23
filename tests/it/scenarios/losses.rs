//! Tests of lost packets and of the reported cause: the network, the recorder, or a step of the wall clock.

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::event::CallEvent;
use callspan::call::record::{CallRecord, CallVerdict, EndedBy, Side};

use crate::scenarios::{DID, Office, direct};
use crate::support::playback::{NullSink, play, play_packets};
use crate::support::scenario::{MessageChange, STEP_MS, ScenePacket, at};

/// Returns a call of 4 s in which ten RTP packets of the callee are missing after 500 ms. Also returns the ms of its
/// end.
fn with_a_hole() -> (Vec<ScenePacket>, i64) {
    let (mut scene, call, _) = direct();
    let talks = scene.now();
    scene.talk(call, 4_000);
    let ended = scene.bye(call, Side::Caller);
    let voice = scene.flow(call, Side::Callee).0;
    let mut packets = scene.packets();
    packets.retain(|p| p.src != voice || p.at < at(talks + 500) || p.at >= at(talks + 700));
    (packets, ended + STEP_MS)
}

/// Returns the kind of each problem and its number of packets.
fn problems(record: &CallRecord) -> Vec<(&str, Option<u64>)> {
    record.problems.iter().map(|p| (p.kind.as_str(), p.packets)).collect()
}

/// Plays packets and calls `tell` in the middle of the call, to report something to the engine. Returns the record.
fn told_in_the_middle(packets: &[ScenePacket], tell: impl Fn(&mut Engine)) -> CallRecord {
    let mut engine = Engine::new(Config::default(), "losses");
    let (before, after) = packets.split_at(packets.len() / 2);
    before.iter().for_each(|p| engine.handle_datagram(&p.datagram(), &mut NullSink));
    tell(&mut engine);
    after.iter().for_each(|p| engine.handle_datagram(&p.datagram(), &mut NullSink));
    engine.handle_end_of_capture(&mut NullSink);
    let mut ended = std::iter::from_fn(|| engine.poll_event()).filter_map(|event| match event {
        CallEvent::Ended(ended) => Some(ended.record),
        _ => None,
    });
    let record = ended.next().expect("one call");
    assert!(ended.next().is_none());
    record
}

#[test]
fn holes_with_nothing_lost_here_are_lost_before_us() {
    let (packets, end) = with_a_hole();
    let played = play_packets(&packets, end, Config::default());
    let record = &played.only().record;
    assert_eq!(problems(record), [("lost_before_us", Some(10))]);
    assert_eq!((record.sides.caller.lost, record.sides.callee.lost), (0, 10));
}

#[test]
fn gaps_are_ours_when_this_machine_lost_frames() {
    let (packets, _) = with_a_hole();
    let record = told_in_the_middle(&packets, Engine::handle_local_loss);
    assert_eq!(problems(&record), [("lost_by_us", Some(10))]);
    // Two reports of the loss are one problem.
    let record = told_in_the_middle(&packets, |engine| {
        engine.handle_local_loss();
        engine.handle_local_loss();
    });
    assert_eq!(problems(&record), [("lost_by_us", Some(10))]);
}

#[test]
fn losses_before_a_call_are_no_problem_of_the_call() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 1_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play_packets(&scene.packets(), ended + STEP_MS, Config::default());
    assert_eq!(problems(&played.only().record), []);
    // Packets that were lost before the call began do not count for it.
    let mut engine = Engine::new(Config::default(), "losses");
    engine.handle_local_loss();
    scene.packets().iter().for_each(|p| engine.handle_datagram(&p.datagram(), &mut NullSink));
    engine.handle_end_of_capture(&mut NullSink);
    let records: Vec<CallRecord> = std::iter::from_fn(|| engine.poll_event())
        .filter_map(|event| match event {
            CallEvent::Ended(ended) => Some(ended.record),
            _ => None,
        })
        .collect();
    assert_eq!(problems(&records[0]), []);
}

#[test]
fn a_clock_step_is_a_problem_and_moves_no_times() {
    let (packets, ended) = with_a_hole();
    let record = told_in_the_middle(&packets, |engine| engine.handle_clock_step(3_600_000_000_000, &mut NullSink));
    assert_eq!(problems(&record), [("clock_step", None), ("lost_before_us", Some(10))]);
    // The BYE and its 200 take two steps. The end of the call is the BYE.
    let end = record.ended_at.expect("ended");
    assert!(at(ended).nanos_since(end).abs() < 100_000_000, "by the clock that held when the call began: {end:?}");
}

/// The recorder was not running when the answer came, and again at the end of the call.
#[test]
fn a_call_with_both_voices_is_answered_without_a_200() {
    let (mut scene, call, _) = direct();
    let talks = scene.now();
    scene.talk(call, 4_000);
    let ended = scene.bye(call, Side::Caller);
    let mut packets = scene.packets();
    let is_text = |p: &ScenePacket, words: &[u8]| p.payload.starts_with(words);
    packets.retain(|p| p.payload[0] & 0xC0 == 0x80 || is_text(p, b"INVITE") || is_text(p, b"SIP/2.0 1"));
    assert!(packets.iter().any(|p| is_text(p, b"SIP/2.0 180")), "it rang");
    // In earlier versions, such a call stayed open for an hour and was then recorded as not answered.
    for (silence_s, later) in [(300, 310_000), (5, 10_000)] {
        let config = Config { silence_s, ..Config::default() };
        let played = play_packets(&packets, ended + later, config);
        let record = &played.only().record;
        assert_eq!((record.ended_by, record.verdict), (Some(EndedBy::Silence), Some(CallVerdict::BothSides)));
        assert!(record.answered_at.is_some_and(|at_| at_ >= at(talks) && at_ < at(talks + 100)), "its first packet");
        assert!(record.ended_at.is_some_and(|at_| at_ <= at(ended)));
        assert_eq!(problems(record)[0].0, "answer_not_seen");
    }
    // Sound from one side only may be the ringing tone of a telephone that rings for an hour, so it proves no answer.
    let voice = scene.flow(call, Side::Callee).0;
    packets.retain(|p| p.payload[0] & 0xC0 != 0x80 || p.src == voice);
    assert!(
        play_packets(&packets, ended + 310_000, Config::default())
            .calls
            .iter()
            .all(|c| { c.record.ended_by == Some(EndedBy::CaptureEnd) && c.record.answered_at.is_none() })
    );
}

/// A proxy rings two telephones for one caller. The mirror loses the 487 of the telephone that did not answer, but
/// shows its ACK. So this telephone is over, and takes no sound of the next call.
#[test]
fn a_cancelled_branch_whose_487_is_lost_is_over() {
    let mut office = Office::new();
    let (a, b, c) = (office.inbound(), office.rings_200(), office.rings_201());
    let (d, e) = (office.inbound(), office.rings_200());
    let caller = office.scene.get(a).clone();
    let taken = office.scene.get(c).clone();
    for leg in [b, c] {
        let dialog = office.scene.at(leg);
        (dialog.call_id, dialog.tags[0]) = (caller.call_id.clone(), caller.tags[0].clone());
        (dialog.users[1], dialog.media[0]) = (DID.to_owned(), caller.media[0]);
    }
    let dialog = office.scene.at(a);
    (dialog.media[1], dialog.tags[1]) = (taken.media[1], taken.tags[1].clone());
    let scene = &mut office.scene;
    for leg in [a, b, c] {
        scene.invite(leg);
    }
    for leg in [b, c, a] {
        scene.ring(leg);
    }
    scene.wait(900);
    scene.answer(c);
    scene.answer(a);
    scene.request(b, Side::Caller, "CANCEL", &[]);
    scene.response(b, Side::Callee, (200, "CANCEL"), &[]);
    let tag = scene.get(b).tags[1].clone();
    scene.request(b, Side::Caller, "ACK", &[MessageChange::Branch(&tag)]);
    scene.talk(a, 600);
    scene.bye_all(&[a, c], Side::Caller);
    scene.wait(2_500);
    // The PBX uses the port that the first caller announced, and the mirror shows the voices before the messages.
    let port = caller.media[0].port();
    scene.at(d).media[1] = scene.get(d).media[1].with_port(port);
    scene.talk(d, 100);
    scene.connect_through(d, e, 200);
    scene.bridge(d, e, 600);
    scene.bye_all(&[d, e], Side::Caller);
    let played = play(scene);
    let of_fork = |record: &CallRecord| record.legs.iter().any(|leg| leg.sip_call_id == caller.call_id);
    let [fork] = played.calls.iter().map(|call| &call.record).filter(|r| of_fork(r)).collect::<Vec<_>>()[..] else {
        panic!("one record of the fork");
    };
    let answered = fork.legs.iter().filter(|leg| leg.answered_at.is_some()).count();
    assert_eq!((played.calls.len(), fork.legs.len(), answered), (2, 3, 2));
}
