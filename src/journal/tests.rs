use super::*;
use crate::call::record::{CallRecord, DeliveryState, Direction, Recording, Verdict};
use crate::time::Timestamp;

fn record(id: &str, at_s: i64) -> CallRecord {
    CallRecord {
        schema: 1,
        id: id.into(),
        direction: Direction::Inbound,
        from: Some("+79774221338".into()),
        to: Some("+74953009080".into()),
        internal: Some("200".into()),
        invited_at: Some(Timestamp::from_secs(at_s)),
        verdict: Some(Verdict::BothSides),
        recordings: vec![Recording {
            part: 1,
            path: "a.wav".into(),
            format: "wav".into(),
            starts_at: Timestamp::from_secs(at_s),
            ends_at: Timestamp::from_secs(at_s + 1),
            duration_s: 1.0,
            sample_rate: 8000,
            channels: 2,
            bytes: 32_044,
            sha256: "00".into(),
            plain_sha256: None,
        }],
        ..CallRecord::default()
    }
}

fn job(id: &str, stage: &str) -> JobRow {
    JobRow { id: id.into(), stage: stage.into(), task_id: Some(7), body: "{}".into(), ..JobRow::default() }
}

#[test]
fn a_call_comes_back_as_it_was_written_with_its_delivery() {
    let journal = Journal::open_in_memory().unwrap();
    journal.put_call(&record("a", 10), Stage::Ended).unwrap();
    assert_eq!(journal.unfinished_calls().unwrap().len(), 1);
    journal.put_call(&record("a", 10), Stage::Complete).unwrap();
    assert!(journal.unfinished_calls().unwrap().is_empty());
    journal.save_job(&job("a", "done")).unwrap();
    let stored = journal.call("a").unwrap().unwrap();
    assert_eq!(stored.stage, Stage::Complete);
    assert_eq!((stored.record.delivery.state, stored.record.delivery.task_id), (DeliveryState::Done, Some(7)));
    assert_eq!(stored.record.recordings, record("a", 10).recordings);
    assert!(journal.call("b").unwrap().is_none());
}

#[test]
fn filters_are_joined_by_and_and_the_newest_are_kept() {
    let journal = Journal::open_in_memory().unwrap();
    for (id, at) in [("a", 10), ("b", 20), ("c", 30)] {
        journal.put_call(&record(id, at), Stage::Complete).unwrap();
    }
    journal.save_job(&job("b", "parked")).unwrap();
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
    assert!(ids(CallFilter { verdict: Some(Verdict::NoMedia), ..CallFilter::default() }).is_empty());
}

#[test]
fn a_settled_delivery_is_found_by_id_but_not_loaded_at_the_start() {
    let journal = Journal::open_in_memory().unwrap();
    for stage in ["registering", "done", "dead", "parked"] {
        journal.save_job(&job(stage, stage)).unwrap();
    }
    let owed: Vec<String> = journal.load_jobs().unwrap().into_iter().map(|j| j.id).collect();
    assert_eq!(owed, ["parked", "registering"]);
    assert_eq!(journal.job("done").unwrap(), Some(job("done", "done")));
}

#[test]
fn the_file_survives_its_handle_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let config = config::Config { dir: dir.path().join("state") };
    Journal::open(&config).unwrap().save_job(&job("a", "registering")).unwrap();
    let reopened = Journal::open(&config).unwrap();
    assert_eq!(reopened.load_jobs().unwrap(), vec![job("a", "registering")]);
    let mode = std::fs::metadata(config.dir.join(FILE_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
    // Another process looks at it and asks for something while we have it open.
    Journal::open(&config).unwrap().ask_retry("a").unwrap();
    assert_eq!(Journal::open_read_only(&config).unwrap().load_jobs().unwrap().len(), 1);
    assert_eq!(reopened.take_retries().unwrap(), ["a"]);
    assert!(reopened.take_retries().unwrap().is_empty());
}

#[test]
fn a_newer_journal_is_refused_and_a_damaged_one_is_named() {
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
    assert_ne!(Journal::set_aside(&config).unwrap(), aside, "the second does not overwrite the first");
}

#[test]
fn dropped_codes_and_the_alarm_are_kept_until_taken_back() {
    let journal = Journal::open_in_memory().unwrap();
    let code = DroppedCode { code: "CallDuration".into(), at: Timestamp::from_secs(5), reason: "no".into() };
    journal.save(&[Row::Dropped(code.clone()), Row::Alarm(Some("login refused".into()))]).unwrap();
    assert_eq!(journal.dropped_codes().unwrap(), vec![code]);
    assert_eq!(journal.alarm().unwrap().as_deref(), Some("login refused"));
    journal.save(&[Row::Alarm(None)]).unwrap();
    assert_eq!(journal.alarm().unwrap(), None);
    assert_eq!(journal.forget_dropped_codes().unwrap(), 1);
}
