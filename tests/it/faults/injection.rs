//! Injects every error of the operating system at every file operation in turn. A temporary error must lose nothing. A
//! lasting error may lose only sound, and the record must say so.
//!
//! `CALLSPAN_FAULT_RUNS` is the number of random runs of the whole recorder, and `CALLSPAN_SEED` determines their
//! faults.

use std::path::Path;
use std::time::Duration;

use callspan::call::decision::{Decision, FORMAT};
use callspan::call::event::{CallEvent, EndedCall, EndedLeg, KeptBytes, LegId, LegSink as _};
use callspan::call::record::{CallRecord, CallVerdict, DeliveryState, Side};
use callspan::decode::UdpDatagram;
use callspan::fake_pyrus::{FakeEndpoint, FaultStep, PyrusFault};
use callspan::journal::CallStage;
use callspan::spool::LegSource;
use callspan::spool::config::Config;
use callspan::spool::disk::DiskSpool;
use callspan::spool::reader::SpoolEntry;
use callspan::time::Timestamp;

use crate::faults::failing_files::FileFaults;
use crate::faults::station::{ALL, FaultSetup, TestRecorder, call, until};
use crate::support::process::is_own_process;

/// Errors that open, write, fsync, rename and unlink can return: EPERM, ENOENT, EIO, ENOMEM, EACCES, EBUSY, ENODEV,
/// ENFILE, EMFILE, EFBIG, ENOSPC, EROFS, ETIMEDOUT, ESTALE, EDQUOT. EINTR is left out, because the standard library
/// retries it.
const ERRORS: [i32; 15] = [1, 2, 5, 12, 13, 16, 19, 23, 24, 27, 28, 30, 110, 116, 122];
const LEGS: u64 = 3;
/// Number of packets of each leg, 20 ms each. A leg then has three chunks in the spool.
const PACKETS: i64 = 60;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn config(dir: &Path) -> Config {
    Config { dir: dir.join("spool"), buffer_mib: 4, sync_seconds: 1, memory_mib: 1 }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_secs(1_795_409_819) + Duration::from_millis(u64::try_from(ms).expect("later"))
}

fn name(leg: u64) -> String {
    format!("leg{leg}")
}

fn packet(spool: &mut DiskSpool, leg: u64, ms: i64, payload: &[u8]) {
    let (src, dst) = ("192.0.2.1:20000".parse().expect("ok"), "192.0.2.2:20000".parse().expect("ok"));
    let wire_len = u32::try_from(payload.len()).expect("short");
    let datagram = UdpDatagram { at: at(ms), src, dst, payload, wire_len, interface: 0 };
    spool.packet(LegId(leg), &datagram, KeptBytes::Whole);
}

fn begin(spool: &mut DiskSpool, leg: u64) {
    spool.open(LegId(leg), &name(leg));
    let begin = Decision::Begin {
        format: FORMAT,
        leg: name(leg),
        conversation: format!("call{leg}"),
        appliance: String::from("test"),
        source: String::from("made up"),
        first_requester: Side::Caller,
        transport: Default::default(),
        wall_offset_ns: 0,
        by: None,
    };
    spool.decide(LegId(leg), at(0), &begin);
    packet(spool, leg, 0, b"INVITE sip:b@192.0.2.2 SIP/2.0\r\n\r\n");
}

fn talk(spool: &mut DiskSpool, legs: u64, packets: std::ops::Range<i64>) {
    for n in packets {
        (0..legs).for_each(|leg| packet(spool, leg, 10 + 20 * n, &[0x80; 172]));
        spool.handle_timeout(at(20 * n));
    }
}

fn end(spool: &mut DiskSpool, leg: u64) {
    spool.close(LegId(leg));
    let legs = vec![EndedLeg { leg: LegId(leg), name: name(leg), index: 0, same_sides: true }];
    let record = CallRecord { id: format!("call{leg}"), ..CallRecord::default() };
    spool.forward(CallEvent::Ended(Box::new(EndedCall {
        record,
        legs,
        registration: Default::default(),
        wall_offset_ns: 0,
    })));
}

/// Records three calls. Returns their records in the order of the calls.
fn record_calls(dir: &Path, mut after: impl FnMut(&mut DiskSpool)) -> Vec<CallRecord> {
    let (mut spool, events) = DiskSpool::start(&config(dir)).expect("nothing fails yet");
    spool.start_rolling_file();
    after(&mut spool);
    (0..LEGS).for_each(|leg| begin(&mut spool, leg));
    spool.handle_timeout(at(0));
    talk(&mut spool, LEGS, 0..PACKETS / 2);
    spool.flush();
    talk(&mut spool, LEGS, PACKETS / 2..PACKETS);
    (0..LEGS).for_each(|leg| end(&mut spool, leg));
    spool.shutdown();
    let mut records: Vec<CallRecord> = events
        .iter()
        .filter_map(|event| if let CallEvent::Ended(ended) = event { Some(ended.record) } else { None })
        .collect();
    records.sort_by(|a, b| a.id.cmp(&b.id));
    records
}

/// Returns the number of media packets in a leg's file. Also returns whether the file begins with the blocks that a
/// restart needs, and ends with a whole block. A missing file has no packets.
fn kept(dir: &Path, leg: u64) -> (i64, bool) {
    let path = dir.join("spool").join(format!("{}.pcapng", name(leg)));
    let Ok(mut reader) = LegSource::File(path).open() else { return (0, false) };
    let (mut packets, mut has_begin) = (0, false);
    while let Ok(Some(entry)) = reader.next_entry() {
        match entry {
            SpoolEntry::Packet(packet) => packets += i64::from(packet.payload.first() == Some(&0x80)),
            SpoolEntry::Decided(decided) => has_begin |= matches!(decided.decision, Decision::Begin { .. }),
        }
    }
    (packets, has_begin && !reader.torn_tail())
}

#[test]
#[cfg_attr(not(has_c_compiler), ignore = "needs cc")]
fn each_error_at_each_operation_of_the_spool_passes() {
    let Some(faults) =
        FileFaults::of_own_process("faults::injection::each_error_at_each_operation_of_the_spool_passes")
    else {
        return;
    };
    let run = |errno: i32, first: u32| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        faults.watch(&dir.path().join("spool"));
        let records = record_calls(dir.path(), |_| faults.fail(errno, first, 1));
        let seen = faults.seen();
        faults.stop();
        assert_eq!(records.len() as u64, LEGS);
        for (leg, record) in (0..).zip(records) {
            let case = format!("error {errno} at operation {first}: {} {:?}", record.id, record.problems);
            assert!(record.problems.is_empty(), "{case}");
            assert_eq!(kept(dir.path(), leg), (PACKETS, true), "{case}");
        }
        seen
    };
    let operations = run(0, 0);
    assert!(operations > 15, "{operations} operations");
    let mut failed = 0;
    for (errno, first) in ERRORS.into_iter().flat_map(|errno| (0..operations).map(move |first| (errno, first))) {
        run(errno, first);
        failed += faults.failed();
    }
    // The writer thread runs in parallel, so runs differ in the number of operations. So the last operations may not
    // occur in a run.
    let (all, len) = (operations * ERRORS.len() as u32, ERRORS.len() as u32);
    assert!(failed + 5 * len >= all, "{failed} of {all} operations failed");
}

#[test]
#[cfg_attr(not(has_c_compiler), ignore = "needs cc")]
fn an_error_of_the_spool_that_stays_is_named_in_the_record() {
    let Some(faults) =
        FileFaults::of_own_process("faults::injection::an_error_of_the_spool_that_stays_is_named_in_the_record")
    else {
        return;
    };
    let mut rng = fastrand::Rng::with_seed(number("CALLSPAN_SEED", 1));
    for errno in ERRORS {
        let first = rng.u32(0..25);
        let dir = tempfile::tempdir().expect("a temporary folder");
        faults.watch(&dir.path().join("spool"));
        let records = record_calls(dir.path(), |_| faults.fail(errno, first, u32::MAX >> 1));
        faults.stop();
        assert_eq!(records.len() as u64, LEGS);
        for (leg, record) in (0..).zip(records) {
            let is_named = record.problems.iter().any(|p| p.errno.is_some_and(|found| found.0 == errno));
            let (packets, _) = kept(dir.path(), leg);
            assert!(is_named || packets == PACKETS, "error {errno} from operation {first}: {packets}, {record:?}");
        }
    }
}

#[test]
fn a_spool_folder_that_was_removed_is_made_again() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (mut spool, events) = DiskSpool::start(&config(dir.path())).expect("a spool");
    begin(&mut spool, 0);
    talk(&mut spool, 1, 0..PACKETS / 2);
    spool.flush();
    std::fs::remove_dir_all(dir.path().join("spool")).expect("removed");
    talk(&mut spool, 1, PACKETS / 2..PACKETS);
    end(&mut spool, 0);
    spool.shutdown();
    let Ok(CallEvent::Ended(ended)) = events.recv() else { panic!("the call ends") };
    let named: Vec<_> =
        ended.record.problems.iter().map(|p| (p.kind.as_str(), p.errno.map(|e| e.to_string()))).collect();
    assert_eq!(named, [("spool_error", Some(String::from("ENOENT")))]);
    let (packets, has_begin) = kept(dir.path(), 0);
    assert!(packets >= PACKETS / 2 && has_begin, "{packets} packets, begin: {has_begin}");
}

#[test]
fn the_spool_writes_when_others_use_up_all_descriptors() {
    if !is_own_process("faults::injection::the_spool_writes_when_others_use_up_all_descriptors") {
        return;
    }
    let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("a lower limit is allowed");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (mut spool, events) = DiskSpool::start(&config(dir.path())).expect("a spool");
    let others: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(others.len() > 20);
    (0..100).for_each(|leg| begin(&mut spool, leg));
    talk(&mut spool, 100, 0..PACKETS);
    (0..100).for_each(|leg| end(&mut spool, leg));
    for _ in 0..100 {
        let Ok(CallEvent::Ended(ended)) = events.recv() else { panic!("every call ends") };
        assert!(ended.record.problems.is_empty(), "{}: {:?}", ended.record.id, ended.record.problems);
    }
    drop(others);
    spool.shutdown();
    assert!((0..100).all(|leg| kept(dir.path(), leg) == (PACKETS, true)));
}

/// Records the fixture call with spool, recordings and journal. A random operation fails with a random error for a
/// random time.
#[test]
#[cfg_attr(not(has_c_compiler), ignore = "needs cc")]
fn an_error_anywhere_in_the_recorder_loses_no_call() {
    let Some(faults) = FileFaults::of_own_process("faults::injection::an_error_anywhere_in_the_recorder_loses_no_call")
    else {
        return;
    };
    let seed = number("CALLSPAN_SEED", 1);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut operations = 0;
    for round in 0..=number("CALLSPAN_FAULT_RUNS", 12) {
        let place = FaultSetup::new();
        faults.watch(place.dir.path());
        let errno = *rng.choice(&ERRORS).expect("some");
        let (first, count) = (rng.u32(0..operations.max(1)), *rng.choice(&[1, 3, 20]).expect("some"));
        // Nothing fails in the first round, which counts the operations.
        let errno = if round == 0 { 0 } else { errno };
        let mut station = TestRecorder::start(&place);
        faults.fail(errno, first, count);
        station.hear(ALL);
        let case = format!("seed {seed}, round {round}: error {errno} at operations {first} to {}", first + count);
        until(&format!("the call is complete, {case}"), || {
            call(&station.journal).is_some_and(|stored| stored.stage == CallStage::Complete)
        });
        if round == 0 {
            operations = faults.seen();
        }
        faults.stop();
        let record = call(&station.journal).expect("just seen").record;
        let is_named = record.problems.iter().any(|p| p.errno.is_some_and(|found| found.0 == errno));
        assert_ne!(record.verdict, Some(CallVerdict::NoMedia), "{case}");
        let is_whole = record.verdict == Some(CallVerdict::BothSides)
            && record.recordings.iter().all(|file| Path::new(&file.path).is_file());
        assert!(is_named || is_whole, "{case}: {record:#?}");
        until(&format!("it is delivered once, {case}"), || place.fake.state().calls.len() == 1);
        station.stop();
    }
}

/// A complete call waits for delivery. Each file operation that reads its recording fails once, one in each round.
#[test]
#[cfg_attr(not(has_c_compiler), ignore = "needs cc")]
fn an_error_while_delivery_reads_a_recording_passes() {
    let Some(faults) =
        FileFaults::of_own_process("faults::injection::an_error_while_delivery_reads_a_recording_passes")
    else {
        return;
    };
    let mut rng = fastrand::Rng::with_seed(number("CALLSPAN_SEED", 1));
    let run = |errno: i32, first: u32| {
        let place = FaultSetup::new();
        let is_uploaded = || place.fake.state().requests(FakeEndpoint::Upload) > 0;
        place.fake.script(FakeEndpoint::Call, FaultStep::new(PyrusFault::empty(503)).forever());
        let mut station = TestRecorder::start(&place);
        station.hear(ALL);
        let case = format!("error {errno} at operation {first}");
        until(&format!("the call is complete, {case}"), || {
            call(&station.journal).is_some_and(|stored| stored.stage == CallStage::Complete)
        });
        let recording = call(&station.journal).expect("just seen").record.recordings.remove(0);
        faults.watch(Path::new(&recording.path));
        faults.fail(errno, first, 1);
        place.fake.clear_script();
        until(&format!("it is delivered, {case}"), || {
            call(&station.journal).is_some_and(|stored| stored.record.delivery.state == DeliveryState::Done)
        });
        faults.stop();
        assert!(is_uploaded(), "{case}");
        let state = place.fake.state();
        assert_eq!((state.calls.len(), state.tasks[0].attachments.len()), (1, 1), "{case}");
        drop(state);
        station.stop();
        faults.seen()
    };
    let operations = run(0, 0);
    assert!(operations >= 3, "{operations} operations: the file is opened, looked at and read");
    for first in 0..operations {
        // The error for a missing file (ENOENT) is left out: only a person can solve it.
        let errors: Vec<i32> = ERRORS.into_iter().filter(|errno| *errno != 2).collect();
        run(*rng.choice(&errors).expect("some"), first);
        assert_eq!(faults.failed(), 1, "operation {first}");
    }
}
