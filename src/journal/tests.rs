use std::sync::atomic::Ordering;

use rusqlite::params;

use super::calls::PAGE;
use super::schema::VERSION;
use super::*;
use crate::call::event::RegistrationPolicy;
use crate::call::record::{CallDirection, CallRecord, CallVerdict, DeliveryState, RecordingFile};
use crate::delivery::row::{DeliveryRow, DroppedCode, JobRow, JobStage};
use crate::time::Timestamp;

fn record(id: &str, at_s: i64) -> CallRecord {
    CallRecord {
        schema: 1,
        id: id.into(),
        direction: CallDirection::Inbound,
        from: Some("+79774221338".into()),
        to: Some("+74953009080".into()),
        internal: Some("200".into()),
        invited_at: Some(Timestamp::from_secs(at_s)),
        verdict: Some(CallVerdict::BothSides),
        recordings: vec![RecordingFile {
            bytes: 32_044,
            sha256: "00".into(),
            ..RecordingFile::sample("a.wav", Timestamp::from_secs(at_s), 1.0)
        }],
        ..CallRecord::default()
    }
}

fn job(id: &str, stage: JobStage) -> JobRow {
    JobRow { id: id.into(), stage, task_id: Some(7), body: "{}".into(), ..JobRow::default() }
}

#[test]
fn stored_call_is_returned_unchanged_with_its_delivery_state() {
    let journal = Journal::open_in_memory().unwrap();
    journal.put_call(&record("a", 10), CallStage::Ended).unwrap();
    assert_eq!(journal.unfinished_calls().unwrap().len(), 1);
    journal.put_call(&record("a", 10), CallStage::Complete).unwrap();
    assert!(journal.unfinished_calls().unwrap().is_empty());
    journal.save_job(&job("a", JobStage::Done)).unwrap();
    let stored_call = journal.call("a").unwrap().unwrap();
    assert_eq!(stored_call.stage, CallStage::Complete);
    assert_eq!(
        (stored_call.record.delivery.state, stored_call.record.delivery.task_id),
        (DeliveryState::Done, Some(7))
    );
    assert_eq!(stored_call.record.recordings, record("a", 10).recordings);
    assert!(journal.call("b").unwrap().is_none());
}

#[test]
fn filter_conditions_are_joined_by_and_and_limit_keeps_the_newest() {
    let journal = Journal::open_in_memory().unwrap();
    for (id, at) in [("a", 10), ("b", 20), ("c", 30)] {
        journal.put_call(&record(id, at), CallStage::Complete).unwrap();
    }
    journal.save_job(&job("b", JobStage::Parked)).unwrap();
    let ids = |filter: CallFilter| -> Vec<String> {
        journal.calls(&filter).unwrap().into_iter().map(|c| c.record.id).collect()
    };
    assert_eq!(ids(CallFilter::default()), ["a", "b", "c"]);
    assert_eq!(ids(CallFilter { limit: Some(2), ..CallFilter::default() }), ["b", "c"]);
    assert_eq!(ids(CallFilter { since: Some(Timestamp::from_secs(20)), ..CallFilter::default() }), ["b", "c"]);
    assert_eq!(ids(CallFilter { delivery: Some(DeliveryState::Parked), ..CallFilter::default() }), ["b"]);
    assert_eq!(ids(CallFilter { delivery: Some(DeliveryState::None), ..CallFilter::default() }), ["a", "c"]);
    let number = Some("4221".into());
    assert_eq!(ids(CallFilter { number, until: Some(Timestamp::from_secs(20)), ..CallFilter::default() }), ["a"]);
    assert!(ids(CallFilter { extension: Some("20".into()), ..CallFilter::default() }).is_empty());
    assert!(ids(CallFilter { verdicts: vec![CallVerdict::NoMedia], ..CallFilter::default() }).is_empty());
}

#[test]
fn settled_delivery_is_found_by_id_but_not_loaded_at_start() {
    let journal = Journal::open_in_memory().unwrap();
    for stage in [JobStage::Registering, JobStage::Done, JobStage::Dead, JobStage::Parked] {
        journal.save_job(&job(stage.as_str(), stage)).unwrap();
    }
    let owed: Vec<String> = journal.load_jobs().unwrap().into_iter().map(|j| j.id).collect();
    assert_eq!(owed, ["parked", "registering"]);
    assert_eq!(journal.job("done").unwrap(), Some(job("done", JobStage::Done)));
}

#[test]
fn every_stage_is_read_back_and_an_unknown_stage_is_an_error() {
    let journal = Journal::open_in_memory().unwrap();
    for stage in JobStage::ALL {
        journal.save_job(&job("a", stage)).unwrap();
        assert_eq!(journal.job("a").unwrap().map(|job| job.stage), Some(stage));
    }
    journal.execute("UPDATE deliveries SET stage = 'lost'", &[]).unwrap();
    assert!(journal.job("a").unwrap_err().to_string().contains("unknown stage"));
}

#[test]
fn journal_file_is_private_and_can_be_reopened() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let config = config::Config { dir: dir.path().join("state") };
    Journal::open(&config).unwrap().save_job(&job("a", JobStage::Registering)).unwrap();
    let reopened = Journal::open(&config).unwrap();
    assert_eq!(reopened.load_jobs().unwrap(), vec![job("a", JobStage::Registering)]);
    let mode = std::fs::metadata(config.dir.join(FILE_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
    // While this process has the journal open, another process can open it and add a request.
    Journal::open(&config).unwrap().request_retry("a").unwrap();
    assert_eq!(Journal::open_read_only(&config).unwrap().load_jobs().unwrap().len(), 1);
    assert_eq!(reopened.take_retry_requests().unwrap(), ["a"]);
    assert!(reopened.take_retry_requests().unwrap().is_empty());
}

#[test]
fn newer_journal_is_refused_and_damaged_journal_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let config = config::Config { dir: dir.path().to_owned() };
    let path = config.dir.join(FILE_NAME);
    drop(Journal::open(&config).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
    assert!(matches!(Journal::open(&config), Err(Error::Newer { .. })));
    std::fs::write(&path, [0x5a; 8192]).unwrap();
    assert!(matches!(Journal::open(&config), Err(Error::Damaged { .. })));
    let aside = Journal::set_aside(&config).unwrap();
    assert_eq!(std::fs::read(&aside).unwrap(), [0x5a; 8192]);
    assert!(Journal::open(&config).unwrap().load_jobs().unwrap().is_empty());
    assert_ne!(Journal::set_aside(&config).unwrap(), aside, "the second file does not overwrite the first");
}

#[test]
fn dropped_codes_are_kept_and_the_alarm_until_it_is_cleared() {
    let journal = Journal::open_in_memory().unwrap();
    let code = DroppedCode { code: "CallDuration".into(), at: Timestamp::from_secs(5), reason: "no".into() };
    journal.save(&[DeliveryRow::Dropped(code.clone()), DeliveryRow::Alarm(Some("login refused".into()))]).unwrap();
    assert_eq!(journal.dropped_codes().unwrap(), vec![code]);
    assert_eq!(journal.alarm().unwrap().as_deref(), Some("login refused"));
    journal.save(&[DeliveryRow::Alarm(None)]).unwrap();
    assert_eq!(journal.alarm().unwrap(), None);
}

#[test]
fn damage_found_by_any_statement_is_reported_by_every_handle() {
    let dir = tempfile::tempdir().unwrap();
    let config = config::Config { dir: dir.path().to_owned() };
    let path = config.dir.join(FILE_NAME);
    let journal = Journal::open(&config).unwrap();
    for n in 0..200 {
        journal.put_call(&record(&format!("call-{n}"), n), CallStage::Complete).unwrap();
    }
    let other = journal.clone();
    assert!(journal.job("unknown").unwrap().is_none());
    assert_eq!(other.damage(), None);
    journal.lock().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let mut damaged = bytes.clone();
    damaged[4_096..].fill(0xA5);
    std::fs::write(&path, damaged).unwrap();
    journal.lock().execute_batch("PRAGMA shrink_memory").unwrap(); // empties the cache, so that the file is read
    journal.call("call-1").unwrap_err();
    assert!(other.damage().unwrap().contains("malformed"), "{:?}", other.damage());
    // A journal that was marked as damaged is renamed, even if its file is intact again.
    std::fs::write(&path, bytes).unwrap();
    Journal::mark_damaged(&config, other.damage().unwrap()).unwrap();
    assert!(Journal::damage_mark(&config).unwrap().contains("malformed"));
    Journal::set_aside(&config).unwrap();
    assert_eq!(Journal::damage_mark(&config), None);
}

#[test]
fn only_settled_calls_with_a_current_sidecar_record_are_encrypted() {
    let journal = Journal::open_in_memory().unwrap();
    for id in ["done", "dead", "parked", "registering", "no delivery", "untold", "live", "behind", "stored encrypted"] {
        journal.put_call(&record(id, 10), CallStage::Complete).unwrap();
    }
    journal.put_call(&record("live", 10), CallStage::Live).unwrap();
    for stage in [JobStage::Done, JobStage::Dead, JobStage::Parked, JobStage::Registering] {
        journal.save_job(&job(stage.as_str(), stage)).unwrap();
    }
    let stale = journal.stale_records("", 10).unwrap();
    journal.records_refreshed(&stale).unwrap();
    journal.save_job(&job("behind", JobStage::Done)).unwrap();
    journal.put_call_for_delivery(&record("untold", 10), CallStage::Complete, RegistrationPolicy::Allowed).unwrap();
    journal.mark_encrypted("stored encrypted").unwrap();
    assert_eq!(journal.calls_to_encrypt("", 10).unwrap(), ["done", "no delivery"]);
    assert_eq!(journal.calls_to_encrypt("done", 10).unwrap(), ["no delivery"]);
    // The call was encrypted. Then its recording is made again, and the new file is not encrypted. So the call is again
    // among the calls to encrypt.
    journal.put_call(&record("stored encrypted", 10), CallStage::Complete).unwrap();
    assert_eq!(journal.calls_to_encrypt("no delivery", 10).unwrap(), ["stored encrypted"]);
}

#[test]
fn a_live_call_that_another_absorbed_leaves_no_row() {
    let journal = Journal::open_in_memory().unwrap();
    for (id, stage) in [("lone", CallStage::Live), ("told", CallStage::Live), ("over", CallStage::Complete)] {
        journal.put_call_for_delivery(&record(id, 10), stage, RegistrationPolicy::Allowed).unwrap();
    }
    journal.save_job(&job("told", JobStage::Registered)).unwrap();
    for id in ["lone", "told", "over", "unknown"] {
        journal.forget_live_call(id).unwrap();
    }
    let left = ["lone", "told", "over"].map(|id| journal.call(id).unwrap().is_some());
    assert_eq!(left, [false, true, true], "Pyrus knows the second, and the third is over");
    let untold = journal.calls_to_announce().unwrap();
    assert!(untold.iter().all(|(call, _)| call.record.id != "lone"));
    // A new call that gets the id of the removed call is stored.
    journal.put_call(&record("lone", 20), CallStage::Live).unwrap();
    assert!(journal.call("lone").unwrap().is_some());
}

#[test]
fn renamed_recording_makes_its_old_path_a_leftover() {
    let journal = Journal::open_in_memory().unwrap();
    journal.put_call(&record("a", 10), CallStage::Complete).unwrap();
    assert!(journal.leftovers(10).unwrap().is_empty());
    let mut other = record("a", 10);
    other.recordings[0].path = "a.ogg".into();
    journal.put_call(&other, CallStage::Complete).unwrap();
    assert_eq!(journal.leftovers(10).unwrap(), ["a.wav"]);
    // The recording is made again at the path of the old file, which was not removed yet. So this path must leave the
    // list of leftovers (files to be removed).
    journal.put_call(&record("a", 10), CallStage::Complete).unwrap();
    assert_eq!(journal.leftovers(10).unwrap(), ["a.ogg"]);
}

#[test]
fn pages_list_all_recordings_oldest_first_and_unknown_start_last() {
    let journal = Journal::open_in_memory().unwrap();
    for (id, at) in [("c", 30), ("a", 10), ("b", 20), ("b2", 20)] {
        let mut call = record(id, at);
        call.recordings.push(RecordingFile { part: 2, ..call.recordings[0].clone() });
        journal.put_call(&call, CallStage::Complete).unwrap();
    }
    let unknown = CallRecord { invited_at: None, ..record("0", 0) };
    journal.put_call(&unknown, CallStage::Complete).unwrap();
    let mut rows: Vec<RecordingRow> = Vec::new();
    loop {
        let page = journal.recordings_after(rows.last(), 3).unwrap();
        if page.is_empty() {
            break;
        }
        rows.extend(page);
    }
    let seen: Vec<(&str, u32)> = rows.iter().map(|r| (r.call_id.as_str(), r.part)).collect();
    assert_eq!(seen, [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b2", 1), ("b2", 2), ("c", 1), ("c", 2), ("0", 1)]);
    assert_eq!(rows[8].at, None);
    assert_eq!(journal.recordings().unwrap(), rows);
    assert_eq!(journal.kept_bytes().unwrap(), 9 * 32_044);
    let why: &str = "age";
    journal.mark_removed(&[("a".into(), why), ("c".into(), why)], Timestamp::from_secs(99)).unwrap();
    assert_eq!(journal.recordings().unwrap().len(), 5);
    assert_eq!(journal.removed("a").unwrap(), Some((Timestamp::from_secs(99), why.into())));
}

#[test]
fn journal_of_each_older_version_is_migrated_with_its_calls() {
    for version in 1..VERSION {
        let dir = tempfile::tempdir().unwrap();
        let config = config::Config { dir: dir.path().to_owned() };
        let mut old = Connection::open(dir.path().join(FILE_NAME)).unwrap();
        schema::migrate_to(&mut old, version).unwrap();
        let json = serde_json::to_string(&record("a", 10)).unwrap();
        old.execute(
            "INSERT INTO calls (id, stage, invited_at, direction, outcome, record) VALUES ('a', 'complete', 10000000,
            'inbound', 'answered', ?1)",
            params![json],
        )
        .unwrap();
        // From schema version 4 on, a row of `recordings` has the column `at` with the start of the call. In older
        // versions the test must leave it out.
        let (column, at) = if version < 4 { ("", "") } else { (", at", ", 10000000") };
        old.execute_batch(&format!(
            "INSERT INTO recordings (call_id, part, path, bytes, sha256, state{column})
            VALUES ('a', 1, 'a.wav', 7, '00', 'present'{at})"
        ))
        .unwrap();
        drop(old);
        assert!(
            matches!(Journal::open_read_only(&config), Err(Error::Older { .. })),
            "opening read-only does not migrate"
        );
        let journal = Journal::open(&config).unwrap();
        let recordings = journal.recordings().unwrap();
        assert_eq!((recordings.len(), recordings[0].at), (1, Some(Timestamp::from_secs(10))), "version {version}");
        assert_eq!(journal.calls_to_encrypt("", 10).unwrap(), ["a"], "recordings of older versions are encrypted, too");
        assert_eq!(journal.calls(&CallFilter::default()).unwrap().len(), 1);
    }
}

#[test]
fn call_pages_list_all_calls_by_time_even_without_an_invite() {
    let journal = Journal::open_in_memory().unwrap();
    let call_pages = 2 * PAGE as usize + 7;
    for n in 0..call_pages {
        // Two calls start in each second, so their ids decide which comes first.
        let at = 10 + (n / 2) as i64;
        journal.put_call(&record(&format!("{:05}", call_pages - n), at), CallStage::Complete).unwrap();
    }
    let joined = CallRecord {
        invited_at: None,
        answered_at: None,
        ended_at: Some(Timestamp::from_secs(12)),
        ..record("joined", 0)
    };
    journal.put_call(&joined, CallStage::Complete).unwrap();
    let nothing = CallRecord { invited_at: None, answered_at: None, ended_at: None, ..record("nothing", 0) };
    journal.put_call(&nothing, CallStage::Live).unwrap();
    let begin = |c: &StoredCall| {
        let r = &c.record;
        (r.invited_at.or(r.answered_at).or(r.ended_at).unwrap_or(Timestamp::EPOCH), r.id.clone())
    };
    let all = journal.calls(&CallFilter::default()).unwrap();
    let mut sorted = all.clone();
    sorted.sort_by_key(begin);
    assert_eq!(all.len(), call_pages + 2);
    assert!(all == sorted && all[0].record.id == "nothing");
    let sizes: Vec<usize> =
        journal.call_pages(&CallFilter::default(), None).unwrap().map(|page| page.unwrap().len()).collect();
    assert_eq!(sizes, [PAGE as usize, PAGE as usize, 9]);
    for limit in [0, 1, 7, PAGE, PAGE + 1, 10_000] {
        let newest = journal.calls(&CallFilter { limit: Some(limit), ..CallFilter::default() }).unwrap();
        assert_eq!(newest, all[all.len().saturating_sub(limit as usize)..], "{limit}");
    }
    let [since, until] = [11, 13].map(Timestamp::from_secs);
    let filter = CallFilter { since: Some(since), until: Some(until), ..CallFilter::default() };
    let some: Vec<String> = journal.calls(&filter).unwrap().into_iter().map(|c| c.record.id).collect();
    assert_eq!(some.len(), 5, "two in each second, and the call that has only an end: {some:?}");
    assert!(some.contains(&String::from("joined")));
}

#[test]
fn calls_are_found_by_a_number_however_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&config::Config { dir: dir.path().to_owned() }).unwrap();
    for (id, second, from, to) in
        [("a", 10, "+74951234567", "200"), ("b", 20, "201", "+77019999978"), ("c", 30, "sales", "202")]
    {
        let record = CallRecord { from: Some(from.into()), to: Some(to.into()), ..record(id, second) };
        journal.put_call(&record, CallStage::Live).unwrap();
    }
    for (written, wanted) in [
        ("8 (495) 123-45-67", "a"),
        ("+7 495 123 45 67", "a"),
        ("0074951234567", "a"),
        ("123-45-67", "a"),
        ("4951234567", "a"),
        ("1234", "a"),
        ("20", "abc"),
        ("8 701 999 99 78", "b"),
        ("SALES", "c"),
        ("1234568", ""),
        ("%", "abc"),
        ("' OR 1", ""),
    ] {
        let filter = CallFilter { number: Some(written.into()), ..CallFilter::default() };
        let found: String = journal.calls(&filter).unwrap().into_iter().map(|c| c.record.id).collect();
        assert_eq!(found, wanted, "{written}");
    }
    // The caller's number becomes known after the call was first stored. So a search must find the call by the new
    // number.
    let later = CallRecord { from: Some("+74957654321".into()), ..record("a", 10) };
    journal.put_call(&later, CallStage::Complete).unwrap();
    let find = |number: &str| {
        journal.calls(&CallFilter { number: Some(number.into()), ..CallFilter::default() }).unwrap().len()
    };
    assert_eq!((find("123-45-67"), find("765-43-21")), (0, 1));
}

/// Opens a new journal, writes the row of a live call, and makes the next sync of the write-ahead log fail. Returns the
/// journal and the bytes of this log. Linux then counts these bytes as written although they may be lost.
fn journal_after_failed_sync(dir: &Path, stage: CallStage) -> (Journal, Vec<u8>) {
    let journal = Journal::open(&config::Config { dir: dir.to_owned() }).unwrap();
    journal.put_call(&record("a", 10), stage).unwrap();
    journal.request_render("a").unwrap();
    journal.sync_states().unwrap();
    journal.lock().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let other = record("other", 20);
    let live = CallToStore { record: &other, stage: CallStage::Live, legs: Vec::new(), announce_as: None };
    journal.put_calls_with_segments(&[live]).unwrap();
    let device = std::fs::File::open("/dev/null").unwrap(); // a device that cannot be synced (fsync(2), EINVAL)
    let log = journal.log_sync().log.replace(device);
    assert!(journal.sync_states().is_err());
    journal.log_sync().log = log;
    let unsynced = std::fs::read(&journal.log_path).unwrap();
    (journal, unsynced)
}

/// Returns the journal as it is after a power cut, with its folder. Pages that were lost by a failed sync are missing,
/// unless they were written again later.
fn after_power_cut(dir: &Path, lost: &[u8]) -> (tempfile::TempDir, Journal) {
    let after = tempfile::tempdir().unwrap();
    std::fs::copy(dir.join(FILE_NAME), after.path().join(FILE_NAME)).unwrap();
    let log_name = format!("{FILE_NAME}-wal");
    let mut log = std::fs::read(dir.join(&log_name)).unwrap();
    let is_same_log = log.get(..LOG_HEADER) == lost.get(..LOG_HEADER);
    let pages = log.chunks_mut(4_096).zip(lost.chunks(4_096)).filter(|(now, then)| is_same_log && now == then);
    pages.for_each(|(page, _)| page.fill(0));
    std::fs::write(after.path().join(&log_name), log).unwrap();
    let journal = Journal::open(&config::Config { dir: after.path().to_owned() }).unwrap();
    (after, journal)
}

/// Length of the header of a write-ahead log, bytes. SQLite writes another header after the log was emptied.
const LOG_HEADER: usize = 32;

#[test]
fn rows_are_in_the_database_after_a_failed_sync_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = journal_after_failed_sync(dir.path(), CallStage::Ended);
    // From here on Linux would confirm a sync of the write-ahead log, although pages that it could not write are
    // missing on the disk.
    journal.sync_states().unwrap();
    let log_length = std::fs::metadata(&journal.log_path).unwrap().len();
    assert_eq!(log_length, 0, "no later row follows a page that may be missing");
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(dir.path().join(FILE_NAME), copy.path().join(FILE_NAME)).unwrap();
    let copy = Journal::open(&config::Config { dir: copy.path().to_owned() }).unwrap();
    assert_eq!(copy.call("other").unwrap().unwrap().stage, CallStage::Live);
    // A sync that fails inside SQLite can lose rows of earlier commits, too. So the write-ahead log must be emptied
    // before the next commit.
    let failed = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
    let guard = journal.lock();
    let _: Error = rusqlite::Error::SqliteFailure(failed, None).into();
    drop(guard);
    assert!(journal.log_sync().must_renew());
    journal.sync_states().unwrap();
    assert!(!journal.log_sync().must_renew());
}

#[test]
fn confirmed_rows_survive_a_log_page_that_a_failed_sync_lost() {
    type JournalWrite = fn(&Journal);
    let confirmed: [(&str, JournalWrite); 6] = [
        ("complete", |journal| journal.put_complete_call(&record("a", 11), &[], None).unwrap()),
        ("delivery", |journal| journal.save_job(&job("a", JobStage::Registering)).unwrap()),
        ("hold", |journal| journal.hold("a", Timestamp::from_secs(20), None).unwrap()),
        ("removed", |journal| drop(journal.mark_removed(&[("a".into(), "age")], Timestamp::from_secs(9)).unwrap())),
        ("render", |journal| journal.request_render("b").unwrap()),
        ("archive", |journal| journal.set_archive(true, true).unwrap()),
    ];
    for (name, write) in confirmed {
        let dir = tempfile::tempdir().unwrap();
        let (journal, lost) = journal_after_failed_sync(dir.path(), CallStage::Ended);
        let before = contents(&journal);
        write(&journal);
        let expected = contents(&journal);
        assert_ne!(expected, before, "{name}");
        let (_dir, after) = after_power_cut(dir.path(), &lost);
        assert_eq!(contents(&after), expected, "{name}");
    }
}

#[test]
fn request_of_another_process_survives_a_page_that_the_service_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (_service, lost) = journal_after_failed_sync(dir.path(), CallStage::Complete);
    let command = Journal::open_for_requests(&config::Config { dir: dir.path().to_owned() }).unwrap();
    command.hold("a", Timestamp::from_secs(20), Some("court")).unwrap();
    let (_dir, after) = after_power_cut(dir.path(), &lost);
    assert!(after.held("a").unwrap().is_some());
}

#[test]
fn write_that_cannot_renew_the_log_changes_nothing_and_can_be_repeated() {
    type JournalWrite = fn(&Journal) -> JournalResult<usize>;
    let writes: [(&str, JournalWrite); 3] = [
        ("removed", |journal| Ok(journal.mark_removed(&[("a".into(), "age")], Timestamp::from_secs(9))?.len())),
        ("withdrawn", |journal| {
            Ok(journal.withdraw_segments("a", Timestamp::from_secs(9), "rule")?.map_or(0, |r| r.recordings.len()))
        }),
        ("request", |journal| journal.remove_render_request("a")),
    ];
    for (name, write) in writes {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = journal_after_failed_sync(dir.path(), CallStage::Live);
        let before = contents(&journal);
        journal.lock().busy_timeout(std::time::Duration::ZERO).unwrap();
        // While another process reads, the write-ahead log cannot be emptied. So the write fails, and it changes
        // nothing.
        let reader = Connection::open(dir.path().join(FILE_NAME)).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM calls;").unwrap();
        assert!(write(&journal).is_err(), "{name}");
        assert_eq!(contents(&journal), before, "{name}");
        reader.execute_batch("COMMIT").unwrap();
        assert_eq!(write(&journal).unwrap(), 1, "{name}: the paths and requests are not lost");
    }
}

#[test]
fn long_log_is_copied_into_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&config::Config { dir: dir.path().to_owned() }).unwrap();
    let reason = "x".repeat(2_000);
    let code = |n: u32| DroppedCode { code: format!("code {n}"), at: Timestamp::from_secs(5), reason: reason.clone() };
    let rows: Vec<DeliveryRow> = (0..3 * LOG_PAGES.unsigned_abs()).map(|n| DeliveryRow::Dropped(code(n))).collect();
    journal.save(&rows).unwrap();
    let length = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().len();
    assert!(length > 4_000_000, "{length} bytes");
}

/// Returns the contents of all tables that the test changes, as a text.
fn contents(journal: &Journal) -> String {
    let meta: u32 = journal.lock().query_row("SELECT count(*) FROM meta", [], |row| row.get(0)).unwrap();
    let renders: u32 = journal.lock().query_row("SELECT count(*) FROM renders", [], |row| row.get(0)).unwrap();
    let (call, job, hold) = (journal.call("a").unwrap(), journal.job("a").unwrap(), journal.held("a").unwrap());
    format!("{meta} {renders} {call:?} {job:?} {hold:?} {:?}", journal.removed("a").unwrap())
}

#[test]
fn a_commit_without_a_change_leaves_live_rows_to_be_synced() {
    let journal = Journal::open_in_memory().unwrap();
    let record = record("a", 10);
    let live = CallToStore { record: &record, stage: CallStage::Live, legs: Vec::new(), announce_as: None };
    journal.put_calls_with_segments(&[live]).unwrap();
    journal.forget_live_call("unknown").unwrap();
    assert!(journal.has_unsynced.load(Ordering::Acquire), "nothing was written, so nothing was synced");
    journal.save_job(&job("a", JobStage::Registered)).unwrap();
    assert!(!journal.has_unsynced.load(Ordering::Acquire), "the sync of a later row includes the log before it");
}
