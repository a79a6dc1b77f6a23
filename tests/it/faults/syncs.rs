//! Counts the syncs to disk that each guarantee needs. A missing sync loses data in a power cut, and an unnecessary
//! sync costs time.

use std::time::Instant;

use callspan::journal::config::Config;
use callspan::journal::{CallStage, Journal};
use callspan::time::Timestamp;

use crate::faults::failing_files::FileFaults;
use crate::faults::station::{ALL, FaultSetup, TestRecorder, call, until};

/// Number of syncs of a published call: recording, record, and their folder. Peaks (waveform data) are not synced.
const PUBLISHED: u32 = 3;

#[test]
fn recording_and_record_are_synced_before_the_call_is_complete() {
    let Some(faults) =
        FileFaults::of_own_process("faults::syncs::recording_and_record_are_synced_before_the_call_is_complete")
    else {
        return;
    };
    let setup = setup();
    let recorder = TestRecorder::start(&setup);
    faults.count_syncs(&setup.config.recording.dir);
    complete(recorder);
    assert_eq!(faults.syncs(), PUBLISHED);
}

/// If a power cut loses the rows of a live call, they can be made again from the spool. The spool is synced every few
/// seconds.
#[test]
fn journal_waits_for_the_disk_once_a_call() {
    let Some(faults) = FileFaults::of_own_process("faults::syncs::journal_waits_for_the_disk_once_a_call") else {
        return;
    };
    let mut setup = setup();
    setup.config.spool.sync_seconds = 3_600;
    faults.watch(&setup.config.journal.dir);
    let recorder = TestRecorder::start(&setup);
    faults.count_syncs(&setup.config.journal.dir);
    complete(recorder);
    assert_eq!(faults.syncs(), 1, "the row of the complete call; INVITE, answer and end need none");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "counts syncs against the time of the spool's thread")]
fn rows_of_a_live_call_are_synced_as_often_as_the_spool() {
    let Some(faults) =
        FileFaults::of_own_process("faults::syncs::rows_of_a_live_call_are_synced_as_often_as_the_spool")
    else {
        return;
    };
    let mut setup = setup();
    setup.config.spool.sync_seconds = 1;
    faults.watch(&setup.config.journal.dir);
    let mut recorder = TestRecorder::start(&setup);
    faults.count_syncs(&setup.config.journal.dir);
    let begin = Instant::now();
    // Each message changes the row of the call.
    for _ in 0..BEGINNING {
        recorder.hear(1);
    }
    until("the call is in the journal", || call(&recorder.journal).is_some());
    until("its row is synced", || faults.syncs() > 0);
    let (syncs, seconds) = (faults.syncs(), begin.elapsed().as_secs());
    assert!(u64::from(syncs) <= seconds + 1, "{syncs} syncs in {seconds} s");
    std::mem::forget(recorder);
}

/// SQLite copies the log into the database from time to time. If the sync of the database fails then, Linux counts the
/// pages as written. So a later sync would succeed, although the pages may be missing on the disk.
#[test]
fn failed_sync_of_the_database_is_mended_by_the_next_write() {
    let Some(faults) =
        FileFaults::of_own_process("faults::syncs::failed_sync_of_the_database_is_mended_by_the_next_write")
    else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let config = Config { dir: dir.path().to_owned() };
    let log_length = || std::fs::metadata(dir.path().join("journal.sqlite-wal")).expect("a log").len();
    faults.watch_syncs_of(&dir.path().join("journal.sqlite"));
    let journal = Journal::open(&config).expect("opened");
    faults.fail(EIO, 0, 1);
    let why = "x".repeat(3_000);
    let hold = |n: i64| journal.hold(&format!("call {n}"), Timestamp::from_secs(n), Some(&why)).expect("written");
    let last = (1..3_000).find(|n| {
        hold(*n);
        faults.failed() > 0
    });
    let last = last.expect("the log was copied into the database");
    let copied = log_length();
    assert!(copied > 4_000_000, "the log still has all rows: {copied} bytes");
    // The next write copies and empties the log before it adds its own row.
    let syncs = faults.syncs();
    hold(last + 1);
    assert!(log_length() < copied, "{} bytes", log_length());
    assert_eq!(faults.syncs(), syncs + 1, "the database is synced again");
    assert!(journal.held(&format!("call {last}")).expect("readable").is_some());
}

/// Returns a setup without delivery, because delivery makes further syncs for its rows.
fn setup() -> FaultSetup {
    let mut setup = FaultSetup::new();
    setup.config.pyrus.enabled = false;
    setup
}

/// Number of frames of the capture up to the answer of the call.
const BEGINNING: usize = 100;

/// Reads the whole call and waits until it is complete.
fn complete(mut recorder: TestRecorder) {
    recorder.hear(ALL);
    until("the call is complete", || call(&recorder.journal).is_some_and(|call| call.stage == CallStage::Complete));
    // The recorder is not stopped, because a stop makes further syncs.
    std::mem::forget(recorder);
}

/// Input/output error.
const EIO: i32 = 5;
