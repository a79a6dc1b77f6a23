//! Tests of full and read-only disks: they delay work but lose no call.

use std::path::Path;
use std::time::Duration;

use callspan::call::record::CallRecord;
use callspan::fake_pyrus::{FakeEndpoint, FaultStep, PyrusFault};
use callspan::journal::{CallFilter, CallStage, Journal};
use callspan::ops::disk::{DiskLevel, DiskWatch};
use callspan::service::watch;

use crate::faults::station::{ALL, FaultSetup, TestRecorder, TmpfsMount, below, call, delivered, until};
use crate::support::captures::fixture;

/// Size of the recording of the fixture call, bytes: 8.1 s at 8,000 Hz with two channels of 16 bits.
const WAV_BYTES: u64 = 200_000;

/// A capture in which a stranger's leg joins a call by its number and leaves the call later.
const STRANGER: &str = "cases/calls/92b_caller_of_an_unseen_trunk_while_a_colleague_leaves_a_message.pcap.gz";

fn expect_whole(place: &FaultSetup, station: &TestRecorder) {
    let record = delivered(place, &station.journal);
    assert!(record.problems.is_empty(), "{:?}", record.problems);
    let [file] = record.recordings.as_slice() else { panic!("one recording: {:?}", record.recordings) };
    assert!(file.bytes > WAV_BYTES, "{}", file.bytes);
    assert_eq!(std::fs::metadata(&file.path).expect("it is there").len(), file.bytes);
    // The capture has 617 and 616 packets. This includes packets before the answer.
    assert!(record.sides.caller.packets > 390 && record.sides.callee.packets > 390, "{:?}", record.sides);
    assert_eq!(place.sent(), [1, 1, 1]);
    assert!(below(&place.config.spool.dir).iter().all(|p| p.extension().is_none_or(|e| e != "pcapng")));
    let parts = below(&place.config.recording.dir).into_iter().filter(|p| p.extension().is_some_and(|e| e == "part"));
    assert_eq!(parts.count(), 0);
}

#[test]
#[cfg_attr(not(may_mount), ignore = "needs root: mounts a file system")]
fn a_full_recording_folder_makes_the_call_wait() {
    let place = FaultSetup::new();
    // The disk has room for the record but not for the recording.
    let mount = TmpfsMount::new(&place.config.recording.dir, 100);
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    until("an alarm says it", || place.alarms().contains(&String::from("recording_failed")));
    let stored = call(&station.journal).expect("it is in the journal");
    assert_eq!((stored.stage, stored.record.recordings.len()), (CallStage::Ended, 0));
    let [registered, uploaded, attached] = place.sent();
    assert!(registered <= 1 && (uploaded, attached) == (0, 0), "Pyrus is not told that it is complete");
    assert!(!below(&place.config.spool.dir).is_empty(), "the packets are still there");
    mount.remount("size=8m");
    expect_whole(&place, &station);
    station.stop();
}

#[test]
#[cfg_attr(not(may_mount), ignore = "needs root: mounts a file system")]
fn a_read_only_recording_folder_makes_the_call_wait_across_a_restart() {
    let place = FaultSetup::new();
    let mount = TmpfsMount::new(&place.config.recording.dir, 8_192);
    mount.remount("ro");
    let mut disks = watch::disks(&place.config);
    assert!(disks.check().iter().any(|c| c.section == "recording" && c.level == DiskLevel::ReadOnly));
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    until("an alarm says it", || place.alarms().contains(&String::from("recording_failed")));
    station.stop();
    mount.remount("rw");
    let mut station = TestRecorder::start(&place);
    station.hear_nothing();
    expect_whole(&place, &station);
    station.stop();
}

/// A stranger's leg leaves its call when this call ends. By then the spool of the leg is closed and still names this
/// call.
#[test]
#[cfg_attr(not(may_mount), ignore = "needs root: mounts a file system")]
fn legs_that_left_an_ending_call_stay_apart_across_restart() {
    let mut place = FaultSetup::new();
    place.config.call.numbers.extension_pattern = String::from("201");
    place.captures = vec![fixture(STRANGER)];
    let mount = TmpfsMount::new(&place.config.recording.dir, 8_192);
    mount.remount("ro");
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    let stored = |journal: &Journal| journal.calls(&CallFilter::default()).expect("readable");
    let are = |journal: &Journal, stage: CallStage| {
        let calls = stored(journal);
        calls.len() == 2 && calls.iter().all(|call| call.stage == stage)
    };
    until("both calls have ended", || are(&station.journal, CallStage::Ended));
    let before = stored(&station.journal);
    station.stop();
    mount.remount("rw");
    let mut station = TestRecorder::start(&place);
    station.hear_nothing();
    until("both calls are complete", || are(&station.journal, CallStage::Complete));
    for (old, new) in before.iter().zip(stored(&station.journal)) {
        let ids =
            |record: &CallRecord| -> Vec<String> { record.legs.iter().map(|leg| leg.sip_call_id.clone()).collect() };
        assert_eq!((&old.record.id, ids(&old.record)), (&new.record.id, ids(&new.record)));
        assert_eq!(old.record.relations, new.record.relations);
        assert_eq!(old.record.relations.len(), 1, "{:?}", old.record.relations);
        assert_eq!(new.record.legs.first().map(|leg| leg.joined_by), Some(None));
        let heard: f64 = new.record.recordings.iter().map(|part| part.duration_s).sum();
        assert!(
            (heard - new.record.duration_s.expect("answered")).abs() < 0.2,
            "{heard} s of {:?}",
            new.record.duration_s
        );
    }
    station.stop();
}

#[test]
#[cfg_attr(not(may_mount), ignore = "needs root: mounts a file system")]
fn a_full_spool_loses_nothing_while_memory_lasts() {
    let place = FaultSetup::new();
    let mount = TmpfsMount::new(&place.config.spool.dir, 4_096);
    let mut station = TestRecorder::start(&place);
    let filler = mount.fill();
    let mut disks = DiskWatch::new([("spool", place.config.spool.dir.clone())]);
    assert_eq!(disks.check().first().map(|c| c.level), Some(DiskLevel::Critical));
    station.hear(600);
    std::fs::remove_file(filler).expect("removed");
    assert_ne!(disks.check().first().map(|c| c.level), Some(DiskLevel::Critical), "4 MiB are always few");
    station.hear(ALL);
    expect_whole(&place, &station);
    station.stop();
}

#[test]
#[cfg_attr(not(may_mount), ignore = "needs root: mounts a file system")]
fn a_read_only_spool_loses_nothing_while_memory_lasts() {
    let place = FaultSetup::new();
    let mount = TmpfsMount::new(&place.config.spool.dir, 4_096);
    let mut station = TestRecorder::start(&place);
    mount.remount("ro");
    station.hear(ALL);
    mount.remount("rw");
    expect_whole(&place, &station);
    station.stop();
}

/// Writes the marker file by which the service recognizes the disk of the spool folder.
fn mark_spool(folder: &Path, id: &str) {
    let facts = serde_json::json!({"section": "spool", "dir": folder, "id": id, "mount": "/", "file_system": 0});
    let marker = serde_json::json!({"folder": facts, "others": []});
    std::fs::write(folder.join(".callspan-storage"), marker.to_string()).expect("written");
}

/// The open files of the spool stay on the old disk, as after `umount -l`. The call ends before a sync notices that.
#[test]
fn a_call_waits_for_the_disk_of_its_spool() {
    let mut place = FaultSetup::new();
    place.config.spool.sync_seconds = 300;
    let (spool, away) = (place.config.spool.dir.clone(), place.dir.path().join("away"));
    mark_spool(&spool, "ours");
    let mut station = TestRecorder::start(&place);
    station.hear(600);
    until("the legs have files", || below(&spool).iter().any(|path| path.extension().is_some_and(|e| e == "pcapng")));
    std::fs::rename(&spool, &away).expect("renamed");
    std::fs::create_dir(&spool).expect("made");
    mark_spool(&spool, "other");
    station.hear(ALL);
    let is_complete = || call(&station.journal).is_some_and(|c| c.stage == CallStage::Complete);
    until("it is tried", || is_complete() || place.alarms().contains(&String::from("recording_failed")));
    assert!(!is_complete(), "its packets are on the disk that is away");
    std::fs::remove_dir_all(&spool).expect("removed");
    std::fs::rename(&away, &spool).expect("renamed");
    expect_whole(&place, &station);
    station.stop();
}

#[test]
#[cfg_attr(not(may_mount), ignore = "needs root: mounts a file system")]
fn a_full_spool_at_the_end_keeps_its_data_without_hanging() {
    let place = FaultSetup::new();
    let mount = TmpfsMount::new(&place.config.spool.dir, 4_096);
    let mut station = TestRecorder::start(&place);
    station.hear(400);
    until("something is on the disk", || !below(&place.config.spool.dir).is_empty());
    let bytes = || below(&place.config.spool.dir).iter().filter_map(|file| file.metadata().ok()).map(|m| m.len()).sum();
    let written: u64 = bytes();
    let filler = mount.fill();
    station.hear(300);
    station.stop();
    std::fs::remove_file(filler).expect("removed");
    let station = TestRecorder::start(&place);
    // The rest of the call was not captured. If its packets come again, it continues with the same id; otherwise it
    // ends by its timeout.
    until("the call is known", || call(&station.journal).is_some());
    let kept: u64 = bytes();
    assert!(kept >= written, "{kept} bytes in the spool, {written} were on the disk before it was full");
    station.stop();
}

#[test]
#[cfg_attr(not(may_mount), ignore = "needs root: mounts a file system")]
fn a_journal_on_a_full_disk_waits_and_sends_nothing_twice() {
    let place = FaultSetup::new();
    let mount = TmpfsMount::new(&place.config.journal.dir, 2_048);
    let mut station = TestRecorder::start(&place);
    let filler = mount.fill();
    station.hear(ALL);
    until("an alarm says it", || {
        let alarms = place.alarms();
        alarms.iter().any(|a| a == "journal_damaged") && alarms.iter().any(|a| a == "recording_failed")
    });
    assert_eq!(place.sent(), [0, 0, 0], "intent before deed");
    std::fs::remove_file(filler).expect("removed");
    expect_whole(&place, &station);
    station.stop();
}

/// Pyrus has attached the file. When the service stops, the disk has no room for the row that says so.
#[test]
#[cfg_attr(not(may_mount), ignore = "needs root: mounts a file system")]
fn a_state_folder_that_is_full_at_the_stop_attaches_nothing_twice() {
    let place = FaultSetup::new();
    let mount = TmpfsMount::new(&place.config.journal.dir, 4_096);
    let slow = PyrusFault::HangBeforeHeaders(Duration::from_secs(2));
    place.fake.script(FakeEndpoint::Attach, FaultStep::after(slow));
    let attached = || place.fake.state().tasks.iter().map(|task| task.attachments.len()).sum::<usize>();
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    until("Pyrus has the file", || attached() == 1);
    let filler = mount.fill();
    station.stop();
    std::fs::remove_file(filler).expect("removed");
    let mut station = TestRecorder::start(&place);
    station.hear_nothing();
    delivered(&place, &station.journal);
    station.stop();
    assert_eq!(attached(), 1);
}
