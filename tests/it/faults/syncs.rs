//! Counts the syncs to disk that each guarantee needs. A missing sync loses data in a power cut; a needless one costs
//! time.

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

/// Returns a setup without delivery, because rows of delivery need further syncs.
fn setup() -> FaultSetup {
    let mut setup = FaultSetup::new();
    setup.config.pyrus.enabled = false;
    setup
}

/// Reads the whole call and waits until it is complete.
fn complete(mut recorder: TestRecorder) {
    recorder.hear(ALL);
    until("the call is complete", || call(&recorder.journal).is_some_and(|call| call.stage == CallStage::Complete));
    // The recorder is not stopped, because its end is not part of the call.
    std::mem::forget(recorder);
}
