//! Tests of a restart during a call: the call must continue, and later sound must be at its position.

use std::path::Path;

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::record::{CallRecord, CallVerdict, Side};
use callspan::decode::{TcpStreamChunk, TcpStreamEvent};
use callspan::journal::{CallStage, Journal, LegRow, SpoolFileState};
use callspan::net::Transport;
use callspan::recording::{FolderLayout, Recorder};
use callspan::service::rerender::rerender;
use callspan::service::resume::{NoEarlierCalls, resume};
use callspan::spool::disk::DiskSpool;

use crate::support::phones::{
    self, MirroredTraffic, RecordedCall, RtpPhone, SentDatagram, at_ms, ended, feed, recorded, voice,
};

/// How the earlier process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessEnd {
    /// By SIGTERM.
    InOrder,
    /// By SIGKILL, a second after its last packet.
    Killed,
}

pub fn start(folder: &Path) -> (DiskSpool, impl Sized + use<>) {
    let config = callspan::spool::config::Config { dir: folder.to_owned(), ..Default::default() };
    DiskSpool::start(&config).expect("a spool")
}

/// Passes packets to a recorder and then stops it. Returns its spool folder.
pub fn leave(
    packets: &[SentDatagram],
    left: ProcessEnd,
    hear: fn(&mut Engine, &[SentDatagram], &mut DiskSpool),
) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut spool, _events) = start(folder.path());
    let mut engine = Engine::new(Config::default(), "made up");
    assert!(resume(&mut engine, &mut spool, &NoEarlierCalls).expect("nothing there").is_empty());
    for packet in packets {
        hear(&mut engine, std::slice::from_ref(packet), &mut spool);
        spool.handle_timeout(packet.at);
    }
    if left == ProcessEnd::InOrder {
        spool.flush();
        spool.shutdown();
        return folder;
    }
    if let Some(last) = packets.last() {
        spool.handle_timeout(last.at + std::time::Duration::from_secs(2));
    }
    spool.flush();
    let copy = tempfile::tempdir().expect("a folder");
    for file in std::fs::read_dir(folder.path()).expect("readable").flatten() {
        std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("copied");
    }
    copy
}

pub fn hear(engine: &mut Engine, packets: &[SentDatagram], spool: &mut DiskSpool) {
    feed(engine, packets, spool);
}

/// Starts a recorder in a folder and passes the remaining packets. Returns the recording.
pub fn go_on(folder: &Path, packets: &[SentDatagram]) -> RecordedCall {
    let (mut spool, _events) = start(folder);
    let mut engine = Engine::new(Config::default(), "made up");
    resume(&mut engine, &mut spool, &NoEarlierCalls).expect("readable");
    feed(&mut engine, packets, &mut spool);
    engine.handle_end_of_capture(&mut spool);
    spool.flush();
    let calls = ended(&mut engine);
    let [call] = calls.as_slice() else { panic!("one call, not {}", calls.len()) };
    recorded(call, &spool.store(), Default::default())
}

pub fn split(packets: &[SentDatagram], ms: f64) -> (Vec<SentDatagram>, Vec<SentDatagram>) {
    packets.iter().cloned().partition(|p| p.at < at_ms(ms))
}

/// Returns a call in which both sides talk from 1 s until the BYE at `ms`.
fn talking(ms: f64) -> MirroredTraffic {
    let mut wire = MirroredTraffic::answered();
    for side in [Side::Caller, Side::Callee] {
        RtpPhone::new(side).talk(&mut wire, 1_000.0, ms);
    }
    wire.bye(ms);
    wire
}

/// Returns by how many samples one second of a channel is late. It is compared with the speech that was sent.
fn lag(frames: &[[i16; 2]], side: Side, from: usize) -> i64 {
    let likeness = |lag: i64| -> f64 {
        let at = |n: usize| f64::from(frames[(n as i64 + lag) as usize][side.channel()]);
        (from..from + 8_000).step_by(3).map(|n| at(n) * f64::from(voice(side, n as u64))).sum()
    };
    (-800..=800).max_by(|a, b| likeness(*a).total_cmp(&likeness(*b))).expect("some lag")
}

#[test]
fn both_sides_keep_their_place_across_a_restart() {
    let packets = talking(21_000.0).sorted();
    for left in [ProcessEnd::InOrder, ProcessEnd::Killed] {
        let (before, rest) = split(&packets, 9_000.0);
        let after = split(&rest, 11_500.0).1;
        let folder = leave(&before, left, hear);
        let recorded = go_on(folder.path(), &after);
        let record = &recorded.record;
        assert_eq!(record.verdict, Some(CallVerdict::BothSides), "{left:?}");
        // The answer is at 1 s and the BYE at 21 s, so the recording has 20 s.
        assert_eq!(recorded.frames.len(), 160_000, "{left:?}");
        for side in [Side::Caller, Side::Callee] {
            for second in [0, 3, 7, 11, 15, 18] {
                let lag = lag(&recorded.frames, side, second * 8_000 + 800);
                // 16 samples are 2 ms.
                assert!(lag.abs() <= 16, "{left:?}: {side:?} lies {lag} samples late at {second} s");
            }
            let of_side = |from_ms: usize, to_ms: usize| {
                let frames = &recorded.frames[(from_ms - 1_000) * 8..(to_ms - 1_000) * 8];
                frames.iter().filter(|f| f[side.channel()] == 0).count()
            };
            // The gap has 2.5 s. At its beginning, lost sound is concealed for some tens of ms.
            assert_eq!(of_side(9_200, 11_480), 2_280 * 8, "{left:?}: {side:?} is silent in the hole");
            assert!(of_side(8_800, 8_990) < 100 && of_side(11_520, 11_700) < 100, "{left:?}: {side:?} around the hole");
        }
        let gap = record
            .problems
            .iter()
            .find(|p| p.kind == callspan::call::record::ProblemKind::RestartGap)
            .expect("it says so");
        // Each side lost 125 packets.
        assert!(gap.ms.is_some_and(|ms| ms >= 2_500) && gap.packets == Some(250), "{left:?}: {gap:?}");
        for side in [&record.sides.caller, &record.sides.callee] {
            assert_eq!((side.packets, side.lost, side.streams.len()), (875, 125, 1), "{left:?}");
            assert_eq!(side.streams[0].first_at, at_ms(1_000.0), "{left:?}");
        }
        assert!(!record.problems.iter().any(|p| p.kind == callspan::call::record::ProblemKind::TornTail));
    }
}

/// Returns a call with all kinds of events that an engine stores in the record.
fn eventful() -> MirroredTraffic {
    let mut wire = MirroredTraffic::default();
    wire.invite(0.0, "");
    wire.answer(4_000.0);
    let mut caller = RtpPhone::new(Side::Caller);
    let mut callee = RtpPhone::new(Side::Callee);
    callee.talk(&mut wire, 2_000.0, 12_000.0); // it rings and then talks
    caller.talk(&mut wire, 4_000.0, 8_000.0);
    caller.press(&mut wire, 8_000.0, 5);
    caller.talk(&mut wire, 8_200.0, 10_000.0);
    caller.press(&mut wire, 10_000.0, 7);
    caller.talk(&mut wire, 10_200.0, 12_000.0);
    wire.reinvite(12_000.0, "sendonly");
    caller.time = caller.time.wrapping_add(5 * 8_000);
    caller.ssrc = 0x7777;
    wire.reinvite(17_000.0, "sendrecv");
    caller.pt = 8;
    caller.talk(&mut wire, 17_100.0, 20_000.0);
    caller.pt = 0;
    caller.talk(&mut wire, 20_000.0, 25_000.0);
    wire.bye(25_000.0);
    wire
}

/// Returns a record without the fields that a restart may change. They are the problem that reports the restart, and
/// the number of duplicates, which are not recognised over a restart.
fn comparable(mut record: CallRecord) -> serde_json::Value {
    record.problems.retain(|p| p.kind != callspan::call::record::ProblemKind::RestartGap);
    record.recordings.clear();
    for side in [Side::Caller, Side::Callee] {
        let side = record.sides.get_mut(side);
        side.max_jitter_ms = None;
        side.streams.iter_mut().for_each(|stream| stream.ptime_ms = None);
    }
    serde_json::to_value(record).expect("JSON")
}

#[test]
fn a_restart_without_lost_packets_leaves_the_same_record() {
    let packets = eventful().sorted();
    let mut stage = phones::EngineWithSpool::new(Config::default());
    stage.play(&packets);
    let whole = stage.finish();
    let expected = comparable(whole.record.clone());
    assert!(expected["events"].as_array().expect("events").len() >= 6, "{}", expected["events"]);
    // The moments are: ringing, early media, talk, after a key, on hold, after the hold, after the change of codecs.
    for ms in [1_000.0, 3_000.0, 4_000.5, 6_000.0, 9_000.0, 11_000.0, 14_000.0, 18_000.0, 20_100.0, 24_000.0] {
        for left in [ProcessEnd::InOrder, ProcessEnd::Killed] {
            let (before, after) = split(&packets, ms);
            let folder = leave(&before, left, hear);
            let recorded = go_on(folder.path(), &after);
            assert!(
                recorded.record.problems.iter().any(|p| p.kind == callspan::call::record::ProblemKind::RestartGap),
                "{left:?} at {ms}"
            );
            assert_eq!(comparable(recorded.record), expected, "{left:?} at {ms}");
            let differ = recorded.frames.iter().zip(&whole.frames).filter(|(a, b)| a != b).count();
            assert!(recorded.frames.len() == whole.frames.len() && differ == 0, "{left:?} at {ms}: {differ} differ");
        }
    }
}

#[test]
fn a_call_is_recognised_after_a_restart_by_its_first_message() {
    let mut wire = MirroredTraffic::default();
    wire.invite(0.0, "");
    // The telephone gets many INFO requests, in total 40 KiB.
    for n in 0..60 {
        wire.info(10.0 + f64::from(n), &format!("X-Filler: {}\r\n", "x".repeat(300)), ("", ""));
    }
    wire.answer(1_000.0);
    for side in [Side::Caller, Side::Callee] {
        RtpPhone::new(side).talk(&mut wire, 1_000.0, 5_000.0);
    }
    wire.bye(5_000.0);
    let packets = wire.sorted();
    let mut stage = phones::EngineWithSpool::new(Config::default());
    stage.play(&packets);
    let id = stage.finish().record.id;
    for ms in [900.0, 3_000.0] {
        let (before, after) = split(&packets, ms);
        let folder = leave(&before, ProcessEnd::Killed, hear);
        let recorded = go_on(folder.path(), &after);
        assert_eq!(recorded.record.id, id, "at {ms}");
        assert_eq!(
            (recorded.record.verdict, recorded.record.invited_at),
            (Some(CallVerdict::BothSides), Some(at_ms(0.0)))
        );
    }
}

#[test]
fn a_call_whose_signalling_travels_over_tcp_still_does_after_a_restart() {
    fn hear_tcp(engine: &mut Engine, packets: &[SentDatagram], spool: &mut DiskSpool) {
        for packet in packets {
            if packet.payload[0] == 0x80 {
                feed(engine, std::slice::from_ref(packet), spool);
                continue;
            }
            let (at, src, dst) = (packet.at, packet.src, packet.dst);
            let event = TcpStreamEvent::Data(&packet.payload);
            engine.handle_stream(&TcpStreamChunk { at, src, dst, event, interface: 0 }, spool);
        }
    }
    let packets = talking(5_000.0).sorted();
    for ms in [500.0, 3_000.0] {
        let (before, after) = split(&packets, ms);
        let folder = leave(&before, ProcessEnd::Killed, hear_tcp);
        let (mut spool, _events) = start(folder.path());
        let mut engine = Engine::new(Config::default(), "made up");
        resume(&mut engine, &mut spool, &NoEarlierCalls).expect("readable");
        hear_tcp(&mut engine, &after, &mut spool);
        engine.handle_end_of_capture(&mut spool);
        let record = ended(&mut engine).pop().expect("a call").record;
        assert_eq!(record.legs.iter().map(|leg| leg.transport).collect::<Vec<_>>(), [Transport::Tcp], "at {ms}");
    }
}

#[test]
fn a_call_interrupted_beyond_the_silence_limit_survives_two_restarts() {
    // The first gap has ten minutes, twice the time after which a silent call ends.
    let mut wire = MirroredTraffic::answered();
    for side in [Side::Caller, Side::Callee] {
        let mut phone = RtpPhone::new(side);
        phone.talk(&mut wire, 1_000.0, 9_000.0);
        phone.time = phone.time.wrapping_add(600 * 8_000);
        phone.sequence = phone.sequence.wrapping_add(30_000);
        phone.talk(&mut wire, 609_000.0, 619_000.0);
    }
    wire.bye(619_000.0);
    let packets = wire.sorted();
    let (first, rest) = split(&packets, 300_000.0);
    let (second, third) = split(&rest, 614_000.0);
    let folder = leave(&first, ProcessEnd::InOrder, hear);
    {
        let (mut spool, _events) = start(folder.path());
        let mut engine = Engine::new(Config::default(), "made up");
        resume(&mut engine, &mut spool, &NoEarlierCalls).expect("readable");
        feed(&mut engine, &second, &mut spool);
        spool.flush();
        spool.shutdown();
    }
    let recorded = go_on(folder.path(), &third);
    assert_eq!(recorded.record.ended_at, Some(at_ms(619_000.0)));
    assert_eq!(recorded.frames.len(), 618 * 8_000);
    let sides = [&recorded.record.sides.caller, &recorded.record.sides.callee];
    assert!(sides.iter().all(|side| (side.packets, side.lost) == (900, 30_000)), "{sides:#?}");
}

#[test]
fn a_call_that_ended_while_it_rang_does_not_come_back() {
    let mut wire = MirroredTraffic::default();
    wire.invite(0.0, "");
    wire.bye(3_000.0);
    let mut packets = wire.sorted();
    // A later packet makes time pass. The leg is closed two seconds after its end, and the journal is on the disk
    // twelve seconds after that.
    packets.push(SentDatagram { at: at_ms(30_000.0), ..packets[0].clone() });
    packets[2].payload = b"nothing".to_vec();
    for left in [ProcessEnd::InOrder, ProcessEnd::Killed] {
        let folder = leave(&packets, left, hear);
        let (mut spool, _events) = start(folder.path());
        let mut engine = Engine::new(Config::default(), "made up");
        assert!(resume(&mut engine, &mut spool, &NoEarlierCalls).expect("readable").is_empty(), "{left:?}");
        assert_eq!(engine.live_calls(), 0);
    }
}

#[test]
fn rendering_again_keeps_the_times_after_a_clock_step() {
    let packets = talking(4_000.0).sorted();
    let folder = tempfile::tempdir().expect("a folder");
    let (mut spool, _events) = start(&folder.path().join("spool"));
    let mut engine = Engine::new(Config::default(), "made up");
    // Until now the wall clock was an hour slow, and now it is corrected.
    engine.handle_clock_step(3_600_000_000_000, &mut spool);
    feed(&mut engine, &packets, &mut spool);
    engine.handle_end_of_capture(&mut spool);
    spool.flush();
    let call = ended(&mut engine).pop().expect("a call");
    let config = callspan::recording::config::Config { dir: folder.path().to_owned(), ..Default::default() };
    let recorder = Recorder::new(config, FolderLayout::Flat, None);
    let first = recorder.record(&call, &spool.store()).expect("written");
    assert_eq!(first.recordings[0].starts_at, at_ms(3_601_000.0));
    let journal = Journal::open(&callspan::journal::config::Config { dir: folder.path().join("state") }).expect("made");
    journal.put_call(&first, CallStage::Complete).expect("written");
    for leg in &call.legs {
        let state = SpoolFileState::Closed;
        let row = LegRow { name: leg.name.clone(), index: 0, same_sides: leg.same_sides, state };
        journal.put_leg(&first.id, &row).expect("written");
    }
    let again = rerender(&journal, &recorder, Some(&spool.store()), &first.id).expect("the packets are there");
    assert_eq!(serde_json::to_value(&again).expect("JSON"), serde_json::to_value(&first).expect("JSON"));
}
