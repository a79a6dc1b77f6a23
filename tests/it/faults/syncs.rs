//! Counts the syncs to disk that each guarantee needs. A missing sync loses data in a power cut, and an unnecessary
//! sync costs time.

use callspan::journal::CallStage;

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
    recorder.hear(BEGINNING);
    until("the call is in the journal", || call(&recorder.journal).is_some());
    until("its row is synced", || faults.syncs() > 0);
    std::mem::forget(recorder);
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
