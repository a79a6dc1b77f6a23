//! Counts the syncs that each promise needs. A sync that is missing is data lost in a power cut; one too many is time.

use std::path::{Path, PathBuf};

use callspan::cmd::replay::{ReplayRequest, replay};
use callspan::journal::CallStage;
use callspan::ops::config::Config;

use crate::faults::failing_files::FileFaults;
use crate::faults::station::{ALL, FaultSetup, TestRecorder, call, capture, until};

/// Syncs of a published call: recording, record, and their folder. Peaks are not synced.
const PUBLISHED: u32 = 3;
/// Syncs of the journal for a call whose setup lasts less than the time in which changes are merged: its first change, its
/// end with its legs, and its completion.
const IN_JOURNAL: u32 = 3;

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

#[test]
fn journal_is_synced_once_for_each_stage_of_a_call() {
    let Some(faults) = FileFaults::of_own_process("faults::syncs::journal_is_synced_once_for_each_stage_of_a_call")
    else {
        return;
    };
    let setup = setup();
    // The journal stays open, so its files are watched from the beginning.
    faults.watch(&setup.config.journal.dir);
    let recorder = TestRecorder::start(&setup);
    faults.count_syncs(&setup.config.journal.dir);
    complete(recorder);
    let syncs = faults.syncs();
    assert!((2..=IN_JOURNAL).contains(&syncs), "{syncs} syncs");
}

#[test]
fn calls_of_a_replay_share_the_sync_of_their_folder() {
    let Some(faults) = FileFaults::of_own_process("faults::syncs::calls_of_a_replay_share_the_sync_of_their_folder")
    else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    for calls in [1, 3] {
        let out = dir.path().join(calls.to_string());
        faults.count_syncs(&out);
        let request = ReplayRequest { files: captures(calls), config: Config::default(), out, deliver: false };
        let outcome = replay(request).expect("replayed");
        let recordings: usize = outcome.records.iter().map(|record| record.recordings.len()).sum();
        let files = u32::try_from(recordings + outcome.records.len()).expect("few");
        assert_eq!(outcome.records.len(), calls);
        // A group for each thread at most.
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let folders = u32::try_from(threads.min(calls)).expect("few");
        let syncs = faults.syncs();
        assert!((files + 1..=files + folders).contains(&syncs), "{syncs} syncs of {files} files");
    }
}

/// A recorder without delivery, whose own rows need further syncs.
fn setup() -> FaultSetup {
    let mut setup = FaultSetup::new();
    setup.config.pyrus.enabled = false;
    setup
}

/// Hears the call and waits until it is complete.
fn complete(mut recorder: TestRecorder) {
    recorder.hear(ALL);
    until("the call is complete", || call(&recorder.journal).is_some_and(|call| call.stage == CallStage::Complete));
    // The recorder is left running: the journal is synced once more when it is closed.
    std::mem::forget(recorder);
}

/// Captures of different calls.
fn captures(calls: usize) -> Vec<PathBuf> {
    let others = ["g711u_direct", "g722_direct"];
    let of = |name: &&str| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls").join(name).join("capture.pcap");
    std::iter::once(capture()).chain(others.iter().map(of)).take(calls).collect()
}
