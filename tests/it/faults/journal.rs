//! Tests that a damaged or missing journal is rebuilt from the records, and that nothing is delivered twice.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use callspan::call::config::{CallRule, RuleAction};
use callspan::call::record::{CallRecord, CallVerdict, DeliveryState, ProblemKind};
use callspan::fake_pyrus::{FakeEndpoint, FakeOptions, FakePyrus};
use callspan::journal::{CallStage, Journal};
use callspan::recording::{FolderLayout, Recorder};
use callspan::service::post_process::PAUSES;
use callspan::service::rerender::rerender;
use callspan::time::Timestamp;

use crate::faults::station::{ALL, FaultSetup, TestRecorder, beside, call, capture, delivered, until};
use crate::support::captures::fixture;

/// Overwrites the pages after the header, as a failing disk does.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).expect("a journal");
    assert!(bytes.len() > 8_192);
    let end = bytes.len();
    bytes[4_096..end].fill(0xA5);
    std::fs::write(file, bytes).expect("written");
    for tail in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{tail}", file.display()));
    }
}

#[test]
fn a_damaged_journal_is_kept_and_delivered_calls_are_not_resent() {
    let place = FaultSetup::new();
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    let before = delivered(&place, &station.journal);
    station.stop();
    assert_eq!(place.sent(), [1, 1, 1]);
    let file = place.config.journal.dir.join("journal.sqlite");
    damage(&file);
    // The same packets are captured again. The call gets the same id, as after a crash before its spool was removed.
    let mut station = TestRecorder::start(&place);
    let alarm = station.alarm.clone().expect("an admin is told");
    assert!(alarm.contains("damaged") && alarm.contains("1 call in"), "{alarm}");
    assert!(place.config.journal.dir.join("journal.sqlite.damaged-1").exists());
    let stored = call(&station.journal).expect("the call is in the new journal");
    assert_eq!((stored.stage, &stored.record.id), (CallStage::Complete, &before.id));
    assert_eq!(
        (stored.record.delivery.state, stored.record.delivery.task_id),
        (DeliveryState::Done, before.delivery.task_id)
    );
    station.hear(ALL);
    station.stop();
    assert_eq!(place.sent(), [1, 1, 1]);
    let record = beside(&place.config.recording.dir, &before.id).expect("its record");
    assert_eq!(record.delivery, before.delivery);
}

#[test]
fn a_call_of_a_rebuilt_journal_can_be_rendered_again() {
    let mut place = FaultSetup::new();
    place.config.recording.keep_pcap = true;
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    let before = delivered(&place, &station.journal);
    let legs = station.journal.legs(&before.id).expect("readable");
    station.stop();
    damage(&place.config.journal.dir.join("journal.sqlite"));
    let station = TestRecorder::start(&place);
    assert_eq!(station.journal.legs(&before.id).expect("readable"), legs, "the record told of them");
    let path = &before.recordings[0].path;
    let sound = std::fs::read(path).expect("the recording");
    std::fs::remove_file(path).expect("removed");
    let recorder = Recorder::new(place.config.recording.clone(), FolderLayout::ByDay, None);
    let again = rerender(&station.journal, &recorder, None, &before.id).expect("its packets are kept");
    assert_eq!(again.recordings, before.recordings);
    assert!(std::fs::read(path).expect("made again") == sound, "the same sound");
    station.stop();
    assert_eq!(place.sent(), [1, 1, 1]);
}

#[test]
fn a_call_excluded_from_pyrus_stays_excluded_when_rendered_again() {
    let mut place = FaultSetup::new();
    place.config.recording.keep_pcap = true;
    place.config.call.rules =
        vec![CallRule { direction: None, number: None, extension: None, header: None, action: RuleAction::NoRegister }];
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    let complete = || call(&station.journal).filter(|c| c.stage == CallStage::Complete);
    crate::faults::station::until("it is rendered and delivery has made up its mind", || {
        complete().is_some() && station.journal.calls_to_announce().expect("readable").is_empty()
    });
    let before = complete().expect("just seen").record;
    let path = Path::new(&before.recordings[0].path);
    std::fs::remove_file(path).expect("removed");
    station.journal.request_render(&before.id).expect("written");
    crate::faults::station::until("it is rendered again", || path.is_file());
    crate::faults::station::until("the service is at rest", || {
        station.journal.calls_to_announce().expect("readable").is_empty()
    });
    station.stop();
    assert_eq!(place.sent(), [0, 0, 0]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the thread needs real time for another rendering")]
fn a_request_that_cannot_be_removed_is_not_rendered_again_at_once() {
    let mut place = FaultSetup::new();
    place.config.recording.keep_pcap = true;
    place.pauses = PAUSES;
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    let before = delivered(&place, &station.journal);
    let full = "CREATE TRIGGER full BEFORE DELETE ON renders BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    let journal = place.config.journal.dir.join("journal.sqlite");
    rusqlite::Connection::open(journal).expect("a journal").execute_batch(full).expect("added");
    let path = Path::new(&before.recordings[0].path);
    std::fs::remove_file(path).expect("removed");
    station.journal.request_render(&before.id).expect("written");
    crate::faults::station::until("it is rendered again", || path.is_file());
    std::fs::remove_file(path).expect("removed");
    std::thread::sleep(Duration::from_secs(6));
    assert!(!path.is_file(), "the next rendering is a minute later");
    station.stop();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the thread needs real time to look for a request")]
fn a_request_is_rendered_soon_after_a_short_failure_of_the_journal() {
    let mut place = FaultSetup::new();
    place.config.recording.keep_pcap = true;
    place.pauses = PAUSES;
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    let before = delivered(&place, &station.journal);
    let path = Path::new(&before.recordings[0].path);
    std::fs::remove_file(path).expect("removed");
    let journal = rusqlite::Connection::open(place.config.journal.dir.join("journal.sqlite")).expect("a journal");
    journal.execute_batch("ALTER TABLE renders RENAME TO away").expect("renamed");
    std::thread::sleep(Duration::from_secs(5));
    journal.execute_batch("ALTER TABLE away RENAME TO renders").expect("renamed");
    station.journal.request_render(&before.id).expect("written");
    let begin = std::time::Instant::now();
    crate::faults::station::until("it is rendered again", || path.is_file());
    assert!(begin.elapsed() < Duration::from_secs(30), "the next look is not a minute later");
    station.stop();
}

#[test]
fn a_missing_journal_is_rebuilt_without_delivery_too() {
    for is_empty in [false, true] {
        let mut place = FaultSetup::new();
        place.config.pyrus.enabled = false;
        let mut station = TestRecorder::start(&place);
        assert!(station.alarm.is_none(), "the first start of all");
        station.hear(ALL);
        let is_complete = |journal: &Journal| call(journal).is_some_and(|c| c.stage == CallStage::Complete);
        crate::faults::station::until("it is rendered", || is_complete(&station.journal));
        let before = call(&station.journal).expect("known").record;
        station.stop();
        std::fs::remove_dir_all(&place.config.journal.dir).expect("removed");
        if is_empty {
            std::fs::create_dir(&place.config.journal.dir).expect("made");
            std::fs::write(place.config.journal.dir.join("journal.sqlite"), "").expect("a file system lost it");
        }
        let station = TestRecorder::start(&place);
        assert!(station.alarm.as_ref().is_some_and(|alarm| alarm.contains("missing")), "{:?}", station.alarm);
        assert_eq!(call(&station.journal).expect("it is there again").record, before);
        assert_eq!(station.journal.recordings().expect("readable").len(), 1, "retention counts it");
        station.stop();
    }
}

#[test]
fn a_journal_lost_during_a_call_costs_no_call_or_task() {
    let place = FaultSetup::new();
    let mut station = TestRecorder::start(&place);
    // The call rings and is answered. It is registered in Pyrus, but only the journal knows this.
    station.hear(500);
    crate::faults::station::until("it is registered", || place.sent()[0] == 1);
    station.stop();
    std::fs::remove_dir_all(&place.config.journal.dir).expect("removed");
    // The test damages the journal; an old copy of the journal would have the same effect.
    std::fs::create_dir(&place.config.journal.dir).expect("made");
    std::fs::write(place.config.journal.dir.join("journal.sqlite"), [0xA5; 8_192]).expect("written");
    let mut station = TestRecorder::start(&place);
    assert!(station.alarm.is_some());
    station.hear(ALL);
    delivered(&place, &station.journal);
    station.stop();
    assert_eq!(place.sent(), [1, 1, 1], "one registration, attached by external_id");
    assert_eq!(place.fake.state().tasks.len(), 1);
}

/// Reacts to a damaged journal like `callspan run`: marks it as damaged, stops, and starts again.
#[test]
fn a_journal_damaged_during_a_call_costs_no_call_or_task() {
    let place = FaultSetup::new();
    let mut station = TestRecorder::start(&place);
    station.hear(500);
    crate::faults::station::until("it is registered", || place.sent()[0] == 1);
    let file = place.config.journal.dir.join("journal.sqlite");
    let beside = Journal::open(&place.config.journal).expect("whole");
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    rusqlite::Connection::open(&file).and_then(|c| c.execute_batch(checkpoint)).expect("all of it in the file");
    beside.hold("x", Timestamp::from_secs(1), None).expect("written");
    let size = std::fs::metadata(&file).expect("there").len();
    let mut disk = std::fs::OpenOptions::new().write(true).open(&file).expect("there");
    disk.seek(SeekFrom::Start(4_096)).expect("a file");
    disk.write_all(&vec![0xA5; usize::try_from(size).expect("small") - 4_096]).expect("written");
    let mut n = 2;
    crate::faults::station::until("somebody meets the damage", || {
        n += 1;
        let _ = beside.hold("x", Timestamp::from_secs(n), None); // a write of another process causes a new read
        station.journal.damage().is_some()
    });
    // The call ends at a time when the journal cannot be written.
    station.hear(ALL);
    Journal::mark_damaged(&place.config.journal, station.journal.damage().expect("just seen")).expect("written");
    station.stop();
    drop(beside);
    let mut station = TestRecorder::start(&place);
    assert!(station.alarm.as_ref().is_some_and(|alarm| alarm.contains("damaged")), "{:?}", station.alarm);
    station.hear_nothing();
    let record = delivered(&place, &station.journal);
    station.stop();
    assert!(!record.recordings.is_empty());
    assert_eq!(place.sent(), [1, 1, 1], "one registration, attached by external_id");
    assert_eq!(place.fake.state().tasks.len(), 1);
}

#[test]
fn a_call_that_ends_during_recovery_is_recorded_once() {
    let place = FaultSetup::new();
    let mut station = TestRecorder::start(&place);
    let record = CallRecord { id: String::from("20261123T070854Z-a"), ..CallRecord::default() };
    station.journal.put_call(&record, CallStage::Live).expect("written");
    station.adopt(&[&record.id]);
    assert_eq!(call(&station.journal).expect("known").stage, CallStage::Live, "its end is on its way to the renderers");
    station.adopt(&[]);
    let complete = || call(&station.journal).filter(|stored| stored.stage == CallStage::Complete);
    until("it has ended", || complete().is_some());
    assert_eq!(complete().expect("just seen").record.verdict, Some(CallVerdict::NotAnswered));
    station.stop();
}

/// Starts a recorder again in a call, whose spool is lost between both runs. Returns the recorder and the call's record
/// before that.
fn restarted_without_spool(place: &FaultSetup) -> (TestRecorder, CallRecord) {
    let mut station = TestRecorder::start(place);
    station.hear(ANSWERED);
    until("it is announced", || call(&station.journal).is_some_and(|stored| stored.record.answered_at.is_some()));
    let before = call(&station.journal).expect("just seen").record;
    station.stop();
    std::fs::remove_dir_all(&place.config.spool.dir).expect("there");
    std::fs::create_dir(&place.config.spool.dir).expect("gone");
    let mut station = TestRecorder::start(place);
    station.skip(ANSWERED);
    (station, before)
}

/// The call goes on after the first restart, with media. At the second restart it has ended, but is not rendered.
#[test]
fn ended_call_that_lost_its_spool_keeps_its_beginning_at_a_restart() {
    let mut place = FaultSetup::new();
    place.captures = vec![fixture("calls/hold_resume_direct/capture.pcap")];
    let (mut station, before) = restarted_without_spool(&place);
    let recordings = &place.config.recording.dir;
    std::fs::remove_dir_all(recordings).expect("there");
    std::fs::write(recordings, "a file in place of the folder").expect("written");
    station.hear(ALL);
    until("it waits for its folder", || place.alarms().contains(&String::from("recording_failed")));
    assert_eq!(call(&station.journal).expect("known").stage, CallStage::Ended);
    station.stop();
    std::fs::remove_file(recordings).expect("there");
    std::fs::create_dir(recordings).expect("made");
    let mut station = TestRecorder::start(&place);
    station.hear_nothing();
    let record = delivered(&place, &station.journal);
    station.stop();
    let beginning = |r: &CallRecord| (r.id.clone(), r.invited_at, r.answered_at, r.from.clone(), r.to.clone());
    assert_eq!(beginning(&record), beginning(&before));
    assert!(!record.recordings.is_empty(), "the re-INVITE announced the media");
}

#[test]
fn live_call_without_its_spool_keeps_its_id_and_task() {
    let place = FaultSetup::new();
    let (mut station, before) = restarted_without_spool(&place);
    assert_eq!(call(&station.journal).expect("known").stage, CallStage::Live, "its messages are waited for");
    station.hear(ALL);
    let record = delivered(&place, &station.journal);
    station.stop();
    assert_eq!((&record.id, record.answered_at), (&before.id, before.answered_at));
    assert_eq!((record.from, record.to, record.direction), (before.from, before.to, before.direction));
    assert!(record.ended_at.is_some() && record.duration_s.is_some(), "the BYE was seen");
    assert!(record.problems.iter().any(|p| p.kind == ProblemKind::RestartGap), "{:?}", record.problems);
    assert_eq!(place.fake.state().calls.len(), 1, "one call in Pyrus");
    assert_eq!(place.fake.state().tasks.len(), 1);
}

fn replay(place: &Path, fake: &FakePyrus, code: i32) -> Output {
    let options = FakeOptions::default();
    let text = format!(
        "[numbers]\nextension_pattern = \"102\"\n[pyrus]\nauth_url = \"{}\"\nlogin = \"{}\"\nsecurity_key = \"{}\"\n\
         account_id = \"{}\"\n",
        fake.auth_url(),
        options.users[0].login,
        options.users[0].security_key,
        options.accounts[0].account_id,
    );
    let config = place.join("callspan.toml");
    std::fs::write(&config, text).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    command.arg("replay").arg("-c").arg(config).arg("--deliver").arg("--out").arg(place.join("calls")).arg(capture());
    command.env_remove("CALLSPAN_LOG").env_remove("CALLSPAN_PYRUS_SECURITY_KEY").env_remove("CREDENTIALS_DIRECTORY");
    let output = command.output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn a_second_replay_with_a_damaged_or_removed_journal_sends_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let fake = FakePyrus::start(FakeOptions::default()).expect("free ports");
    replay(dir.path(), &fake, 0);
    let sent = || [FakeEndpoint::Call, FakeEndpoint::Upload, FakeEndpoint::Attach].map(|e| fake.state().requests(e));
    assert_eq!(sent(), [1, 1, 1]);
    let folder = dir.path().join("calls/.callspan");
    damage(&folder.join("journal.sqlite"));
    let said = String::from_utf8_lossy(&replay(dir.path(), &fake, 0).stderr).into_owned();
    assert!(said.contains("the journal was damaged") && said.contains("damaged-1"), "{said}");
    assert_eq!(sent(), [1, 1, 1]);
    std::fs::remove_dir_all(&folder).expect("removed");
    let said = String::from_utf8_lossy(&replay(dir.path(), &fake, 0).stderr).into_owned();
    assert!(said.contains("the journal was missing"), "{said}");
    assert_eq!(sent(), [1, 1, 1]);
}

/// Number of frames at the beginning of the capture that include the answer but not the BYE.
const ANSWERED: usize = 100;
