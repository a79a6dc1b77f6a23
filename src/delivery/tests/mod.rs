//! Tests of the state machine of delivery with a virtual clock.

use std::time::Duration;

use super::job::{FormFieldMode, JobStatus, PartState, PyrusRegistration};
use super::*;
use crate::call::record::{CallDirection, CallOutcome, CallRecord, RecordingFile};
use crate::delivery::row::{DeliveryRow, JobRow, JobStage};
use crate::time::Timestamp;

mod limits;
mod model;
mod outage;
mod registration;
mod story;

pub(super) fn policy() -> DeliveryPolicy {
    DeliveryPolicy {
        account_id: "account".into(),
        register_at: RegisterAt::Auto,
        directions: vec![CallDirection::Inbound, CallDirection::Outbound],
        unanswered: true,
        send_mappings: ["CallStartTime", "CallEndTime", "CallDuration", "PhoneNumberFrom", "PhoneNumberTo"]
            .map(String::from)
            .to_vec(),
        header_mappings: std::collections::BTreeMap::new(),
        duration_unit: DurationUnit::Seconds,
        outcome_field: None,
        rating_type: RatingType::Number,
        max_upload_bytes: 1_000_000,
    }
}

fn machine() -> DeliveryMachine {
    DeliveryMachine::new(policy(), DeliveryTuning::default(), 1)
}

/// Returns the virtual time `s` seconds after the start of the test.
fn at(s: i64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + s)
}

pub(super) fn call(id: &str, progress: CallProgress, parts: u32) -> CallUpdate {
    let recordings = (1..=parts)
        .map(|part| RecordingFile {
            part,
            bytes: 1000,
            ..RecordingFile::sample(&format!("/r/{id}-{part}.wav"), Timestamp::from_secs(0), 60.0)
        })
        .collect();
    let answered = parts > 0;
    let record = CallRecord {
        id: id.into(),
        direction: CallDirection::Inbound,
        from: Some("+79774221338".into()),
        to: Some("+74953009080".into()),
        internal: Some("200".into()),
        invited_at: Some(Timestamp::from_secs(1_640_218_292)),
        answered_at: answered.then(|| Timestamp::from_secs(1_640_218_300)),
        ended_at: (progress != CallProgress::Live).then(|| Timestamp::from_secs(1_640_218_360)),
        duration_s: (answered && progress != CallProgress::Live).then_some(60.4),
        outcome: if answered { CallOutcome::Answered } else { CallOutcome::NoAnswer },
        recordings,
        ..CallRecord::default()
    };
    CallUpdate { record, progress, consent: DeliveryConsent::ByConfig }
}

pub(super) fn http(status: u16, body: &str) -> RequestOutcome {
    RequestOutcome::Response(PyrusResponse {
        status,
        rate: RateLimitHeaders::default(),
        body: body.into(),
        sent_md5: Some("00".into()),
    })
}

pub(super) fn good(request: &PyrusRequest) -> RequestOutcome {
    match request {
        PyrusRequest::Auth => http(200, r#"{"access_token":"t"}"#),
        PyrusRequest::Register(_) => http(200, r#"{"task_id":7}"#),
        PyrusRequest::Upload { .. } => http(200, r#"{"guid":"g","md5_hash":"00"}"#),
        PyrusRequest::Attach(_) => http(200, "{}"),
    }
}

fn action(machine: &mut DeliveryMachine, now: Timestamp) -> DeliveryAction {
    match machine.poll_action(now) {
        NextAction::Send(action) => action,
        other => panic!("an action, not {other:?}"),
    }
}

/// Executes all requests that are due, each with success. Returns the names of their endpoints.
fn run(machine: &mut DeliveryMachine, now: Timestamp) -> String {
    let mut names = Vec::new();
    while let NextAction::Send(action) = machine.poll_action(now) {
        names.push(name(&action.request));
        machine.handle_outcome(now, action.id, &good(&action.request));
    }
    names.join(" ")
}

fn name(request: &PyrusRequest) -> &'static str {
    match request {
        PyrusRequest::Auth => "auth",
        PyrusRequest::Register(_) => "call",
        PyrusRequest::Upload { .. } => "upload",
        PyrusRequest::Attach(_) => "attach",
    }
}

fn rows(machine: &mut DeliveryMachine) -> Vec<JobRow> {
    let mut rows = Vec::new();
    while let Some(row) = machine.poll_row() {
        if let DeliveryRow::Job(job) = row {
            rows.push(job);
        }
    }
    rows
}

fn job(machine: &DeliveryMachine) -> &DeliveryJob {
    machine.jobs().next().expect("a job")
}

/// Creates a state machine that already has a token, so that its next action is the request of a call.
fn logged_in() -> DeliveryMachine {
    let mut m = machine();
    m.handle_call(&call("z", CallProgress::Complete, 0));
    assert_eq!(run(&mut m, at(0)), "auth call");
    rows(&mut m);
    m
}

#[test]
fn requests_come_in_order_and_a_settled_call_leaves_memory() {
    let mut m = machine();
    m.handle_call(&call("a", CallProgress::Complete, 2));
    assert_eq!(run(&mut m, at(0)), "auth call upload attach upload attach");
    assert_eq!(rows(&mut m).last().map(|r| r.stage), Some(JobStage::Done));
    assert!(!m.contains("a") && m.is_settled());
    assert_eq!(m.summary().done, 1);
}

#[test]
fn the_row_announces_a_request_before_it_is_sent() {
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Complete, 1));
    for (stage, request) in
        [(JobStage::Registering, "call"), (JobStage::Uploading, "upload"), (JobStage::Attaching, "attach")]
    {
        let next = action(&mut m, at(0));
        assert_eq!(name(&next.request), request);
        assert_eq!(rows(&mut m)[0].stage, stage);
        m.handle_outcome(at(0), next.id, &good(&next.request));
    }
    assert_eq!(rows(&mut m)[0].stage, JobStage::Done);
}

#[test]
fn attach_by_external_id_resolves_an_ambiguous_registration() {
    for known in [true, false] {
        let mut m = logged_in();
        m.handle_call(&call("a", CallProgress::Live, 0));
        let register = action(&mut m, at(0));
        m.handle_outcome(at(0), register.id, &http(500, r#"{"error_code":"server_error"}"#));
        assert_eq!(m.poll_action(at(1000)), NextAction::Idle, "not repeated while a recording may come");
        assert_eq!(job(&m).stage(), JobStage::Unsure);
        m.handle_call(&call("a", CallProgress::Complete, 1));
        let upload = action(&mut m, at(1000));
        assert_eq!(name(&upload.request), "upload");
        m.handle_outcome(at(1000), upload.id, &good(&upload.request));
        let attach = action(&mut m, at(1000));
        let PyrusRequest::Attach(body) = &attach.request else { panic!("the attach") };
        assert_eq!((body.task_id, body.external_id.as_str()), (None, "a"));
        if known {
            m.handle_outcome(at(1000), attach.id, &http(200, ""));
            assert_eq!(run(&mut m, at(1000)), "");
        } else {
            m.handle_outcome(at(1000), attach.id, &http(400, r#"{"error_code":"unrecognized_call_id"}"#));
            assert_eq!(run(&mut m, at(1000)), "call attach", "the same file, no second upload");
        }
        assert_eq!(rows(&mut m).last().unwrap().stage, JobStage::Done);
        assert_eq!(m.summary().possible_duplicates, 0);
    }
}

#[test]
fn restart_during_a_request_counts_as_no_response() {
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Complete, 1));
    let mut states = Vec::new();
    while let NextAction::Send(next) = m.poll_action(at(0)) {
        let row = rows(&mut m).pop().unwrap();
        states.push((row.stage, DeliveryJob::from_row(&row).unwrap().after_restart(at(9))));
        m.handle_outcome(at(0), next.id, &good(&next.request));
    }
    let [registering, uploading, attaching] = &states[..] else { panic!("three requests") };
    assert_eq!((registering.0, &registering.1.registration), (JobStage::Registering, &PyrusRegistration::Unsure));
    assert_eq!((uploading.0, &uploading.1.parts[0].state), (JobStage::Uploading, &PartState::Waiting));
    assert!(matches!(&attaching.1.parts[0].state, PartState::Uploaded(u) if u.guid == "g"));
    assert_eq!(attaching.1.possible_duplicates, 1);
}

#[test]
fn pauses_grow_to_five_minutes_with_full_jitter() {
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Complete, 1));
    let register = action(&mut m, at(0));
    m.handle_outcome(at(0), register.id, &good(&register.request));
    let mut now = at(0);
    let mut longest = Duration::ZERO;
    for n in 0..200_u32 {
        let upload = action(&mut m, now);
        m.handle_outcome(now, upload.id, &http(500, ""));
        let NextAction::WaitUntil(then) = m.poll_action(now) else { panic!("a pause") };
        let pause = then.since(now);
        let top = Duration::from_secs(1u64 << n.min(9)).min(Duration::from_secs(300));
        assert!(pause <= top, "after {n} failures {pause:?}");
        longest = longest.max(pause);
        now = then;
    }
    assert!(longest > Duration::from_secs(250), "the cap is reached: {longest:?}");
}

#[test]
fn parked_call_is_retried_after_15_30_then_every_60_minutes() {
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Complete, 0));
    let mut now = at(0);
    for minutes in [15, 30, 60, 60] {
        let register = action(&mut m, now);
        m.handle_outcome(now, register.id, &http(400, r#"{"error_code":"webhook_is_disabled"}"#));
        assert_eq!(rows(&mut m).pop().unwrap().stage, JobStage::Parked);
        assert!(m.is_settled(), "only a person can help");
        let then = now + Duration::from_secs(minutes * 60);
        assert_eq!(m.poll_action(now), NextAction::WaitUntil(then));
        now = then;
    }
    assert_eq!(run(&mut m, now), "call");
    // A parked call waits for the administrator. A restart ends the pause before its next try, because the
    // administrator may have fixed the problem.
    let mut m = logged_in();
    m.handle_call(&call("b", CallProgress::Complete, 0));
    let register = action(&mut m, at(0));
    m.handle_outcome(at(0), register.id, &http(400, r#"{"error_code":"webhook_is_disabled"}"#));
    let row = rows(&mut m).pop().unwrap();
    assert_eq!(row.stage, JobStage::Parked);
    assert!(row.note.as_ref().is_some_and(|n| n.contains("switched off")));
    let mut m = machine();
    assert!(m.load(at(1), [row]).is_empty());
    assert_eq!(run(&mut m, at(1)), "auth call");
}

#[test]
fn call_that_pyrus_keeps_forgetting_creates_few_tasks() {
    for (code, registrations) in [("unrecognized_call_id", 3), ("unrecognized_task_id", 2)] {
        let mut m = logged_in();
        m.handle_call(&call("a", CallProgress::Complete, 1));
        let (mut now, mut registered, mut attaches) = (at(0), 0, 0);
        while now < at(86_400) {
            match m.poll_action(now) {
                NextAction::WaitUntil(then) => now = then,
                NextAction::Idle => panic!("it is tried for ever"),
                NextAction::Send(action) => {
                    registered += u32::from(matches!(action.request, PyrusRequest::Register(_)));
                    let reply = match &action.request {
                        PyrusRequest::Attach(body) => {
                            attaches += 1;
                            assert!(registered < registrations || attaches <= registrations || body.task_id.is_none());
                            http(400, &format!(r#"{{"error_code":"{code}"}}"#))
                        }
                        other => good(other),
                    };
                    m.handle_outcome(now, action.id, &reply);
                    rows(&mut m);
                }
            }
        }
        assert_eq!(registered, registrations, "{code}");
        assert!((24..40).contains(&attaches), "it is looked for each hour: {attaches}");
        // The administrator has fixed the problem and asks for a retry.
        m.handle_retry("a");
        assert_eq!(m.summary().parked.len(), 0);
    }
}

#[test]
fn a_late_no_register_rule_ends_the_delivery() {
    let forbidden = |progress, parts| CallUpdate { consent: DeliveryConsent::Forbidden, ..call("a", progress, parts) };
    // The call was registered in Pyrus while it rang, and a `no_register` rule applies later. Its task stays, the
    // recording is not sent, and the job ends.
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Live, 0));
    assert_eq!(run(&mut m, at(0)), "call");
    m.handle_call(&forbidden(CallProgress::Ended, 0));
    m.handle_call(&forbidden(CallProgress::Complete, 1));
    assert_eq!(m.poll_action(at(1)), NextAction::Idle);
    let row = rows(&mut m).pop().unwrap();
    assert_eq!((row.stage, m.jobs().count()), (JobStage::Done, 0));
    // After a `no_register` rule has kept the call out of Pyrus, nothing is sent. That holds even if its recording is
    // made again or the administrator requests a retry.
    assert!(m.load(at(2), [row]).is_empty());
    m.handle_call(&call("a", CallProgress::Complete, 1));
    m.handle_retry("a");
    assert_eq!(m.poll_action(at(2)), NextAction::Idle);
    // The `no_register` rule applies before the call was registered in Pyrus. Nothing is sent, and the reason is
    // stored.
    for is_unsure in [false, true] {
        let mut m = logged_in();
        m.handle_call(&call("a", CallProgress::Live, 0));
        if is_unsure {
            let register = action(&mut m, at(0));
            m.handle_outcome(at(0), register.id, &http(500, ""));
        }
        m.handle_call(&forbidden(CallProgress::Complete, 1));
        assert_eq!(m.poll_action(at(600)), NextAction::Idle);
        let row = rows(&mut m).pop().unwrap();
        assert_eq!((row.stage, m.summary().dead.len()), (JobStage::Dead, 1));
        assert!(row.note.unwrap().contains("no_register"));
    }
}

#[test]
fn recording_that_was_too_large_is_sent_after_a_smaller_rendering() {
    let mut m = logged_in();
    let mut update = call("a", CallProgress::Complete, 1);
    update.record.recordings[0].bytes = 2_000_000; // `policy` allows one million
    m.handle_call(&update);
    assert_eq!(run(&mut m, at(0)), "call");
    let dead = rows(&mut m).pop().unwrap();
    assert_eq!(dead.stage, JobStage::Dead);
    // The recording is made again in another format. Its new file has another name and is small enough, so it is
    // uploaded.
    assert!(m.load(at(1), [dead]).is_empty());
    update.record.recordings[0].path = "/r/a.ogg".into();
    update.record.recordings[0].bytes = 100_000;
    m.handle_call(&update);
    m.handle_retry("a");
    let upload = action(&mut m, at(1));
    assert!(matches!(&upload.request, PyrusRequest::Upload { path, .. } if path == "/r/a.ogg"), "{upload:?}");
}

#[test]
fn manual_retry_sends_a_dead_call_at_once() {
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Complete, 0));
    let register = action(&mut m, at(0));
    m.handle_outcome(at(0), register.id, &http(400, r#"{"error_code":"validation_error"}"#));
    assert!(matches!(job(&m).status, JobStatus::Dead { .. }));
    let row = rows(&mut m).pop().unwrap();
    assert_eq!((row.stage, m.summary().dead.len()), (JobStage::Dead, 1));
    m.load(at(1), [row]);
    m.handle_retry("a");
    assert_eq!(run(&mut m, at(1)), "call");
}

#[test]
fn call_records_alone_prevent_duplicate_deliveries() {
    use crate::call::record::{DeliveryRecord, DeliveryState};
    let rebuilt = |state, task_id, parts| {
        let mut update = call("a", CallProgress::Complete, parts);
        update.record.delivery = DeliveryRecord { state, task_id, ..DeliveryRecord::default() };
        let mut m = logged_in();
        let row = DeliveryJob::from_record(&update.record).map(|job| job.to_row());
        m.load(at(0), row);
        run(&mut m, at(0))
    };
    assert_eq!(rebuilt(DeliveryState::Done, Some(7), 2), "");
    assert_eq!(rebuilt(DeliveryState::Dead, None, 1), "");
    assert_eq!(rebuilt(DeliveryState::None, None, 1), "");
    assert_eq!(rebuilt(DeliveryState::Owed, None, 1), "upload attach", "by external_id alone; no registration");
    assert_eq!(rebuilt(DeliveryState::Parked, Some(7), 1), "upload attach");
}

#[test]
fn ringing_call_does_not_wait_behind_the_backlog() {
    let mut m = logged_in();
    for n in 0..10 {
        m.handle_call(&call(&format!("a{n}"), CallProgress::Complete, 0));
    }
    let backlog: Vec<DeliveryAction> = (0..4).map(|_| action(&mut m, at(0))).collect();
    assert_eq!(m.poll_action(at(0)), NextAction::Idle, "four side by side");
    m.handle_call(&call("zz", CallProgress::Live, 0));
    let PyrusRequest::Register(body) = action(&mut m, at(0)).request else { panic!("a registration") };
    assert_eq!(body.external_id, "zz");
    drop(backlog);
}

#[test]
fn all_calls_share_one_token_and_replace_it_once() {
    let mut m = machine();
    for n in 0..4 {
        m.handle_call(&call(&format!("c{n}"), CallProgress::Complete, 0));
    }
    let auth = action(&mut m, at(0));
    assert_eq!((name(&auth.request), m.poll_action(at(0))), ("auth", NextAction::Idle));
    m.handle_outcome(at(0), auth.id, &good(&auth.request));
    let flying: Vec<DeliveryAction> = (0..4).map(|_| action(&mut m, at(0))).collect();
    m.handle_outcome(at(0), flying[0].id, &good(&flying[0].request)); // Pyrus accepted the token
    for late in &flying[1..] {
        m.handle_outcome(at(1), late.id, &http(401, r#"{"error_code":"revoked_token"}"#));
    }
    assert_eq!(run(&mut m, at(1)), "auth call call call");
}

#[test]
fn login_is_checked_before_the_first_call() {
    let mut m = machine();
    assert_eq!(m.poll_action(at(0)), NextAction::Idle, "without the check there is nothing to do");
    m.check_login();
    let login = action(&mut m, at(0));
    assert_eq!((name(&login.request), m.poll_action(at(0))), ("auth", NextAction::Idle));
    assert!(!m.is_login_answered());
    m.handle_outcome(at(0), login.id, &http(403, r#"{"error_code":"invalid_credentials"}"#));
    assert!(m.summary().alarm.is_some_and(|alarm| alarm.contains("login")), "a wrong key is told at once");
    let NextAction::WaitUntil(next) = m.poll_action(at(1)) else { panic!("a pause") };
    let login = action(&mut m, next);
    m.handle_outcome(next, login.id, &good(&login.request));
    assert_eq!((m.summary().alarm, m.is_logged_in(), m.is_login_answered()), (None, true, true));
    assert_eq!(m.poll_action(next), NextAction::Idle, "the check is made once");
}

#[test]
fn new_credentials_are_used_by_the_next_request() {
    let mut m = logged_in();
    m.handle_new_credentials();
    m.handle_call(&call("a", CallProgress::Complete, 0));
    let next = action(&mut m, at(0));
    assert_eq!((name(&next.request), m.is_login_answered()), ("auth", false));
    m.handle_outcome(at(0), next.id, &http(403, r#"{"error_code":"invalid_credentials"}"#));
    assert!(m.is_login_answered(), "a refusal is an answer");
    assert!(matches!(m.poll_action(at(1)), NextAction::WaitUntil(_)), "the wrong key stops delivery");
}

#[test]
fn outcome_of_a_login_is_ignored_if_the_key_was_replaced_meanwhile() {
    for old_key_is_right in [true, false] {
        let mut m = machine();
        m.handle_call(&call("a", CallProgress::Complete, 0));
        let old = action(&mut m, at(0));
        m.handle_new_credentials();
        assert_eq!(m.poll_action(at(0)), NextAction::Idle, "two logins at once would replace each other's token");
        let refused = http(403, r#"{"error_code":"invalid_credentials"}"#);
        m.handle_outcome(at(1), old.id, &if old_key_is_right { good(&old.request) } else { refused });
        assert_eq!(m.summary().alarm, None, "the old key causes no alarm");
        assert_eq!(run(&mut m, at(1)), "auth call", "the new key is tried at once");
    }
}

#[test]
fn new_credentials_and_a_retry_end_the_pause_after_a_failed_login() {
    let end_pause: [fn(&mut DeliveryMachine); 2] = [|m| m.handle_new_credentials(), |m| m.handle_retry("a")];
    for end in end_pause {
        let mut m = machine();
        m.handle_call(&call("a", CallProgress::Complete, 0));
        let mut now = at(0);
        for _ in 0..3 {
            let login = action(&mut m, now);
            m.handle_outcome(now, login.id, &http(500, r#"{"error_code":"server_error"}"#));
            let NextAction::WaitUntil(next) = m.poll_action(now) else { panic!("a pause") };
            now = next;
        }
        let just_before = Timestamp::from_micros(now.as_micros() - 1);
        assert!(matches!(m.poll_action(just_before), NextAction::WaitUntil(_)));
        end(&mut m);
        assert_eq!(run(&mut m, just_before), "auth call");
    }
}

#[test]
fn unreadable_row_is_returned_and_others_are_loaded() {
    let mut m = machine();
    let bad = JobRow { id: "x".into(), stage: JobStage::New, body: "{".into(), ..JobRow::default() };
    m.handle_call(&call("a", CallProgress::Complete, 0));
    let good = rows(&mut m).pop().unwrap();
    let mut m = machine();
    assert_eq!(m.load(at(0), [bad.clone(), good]), vec![bad]);
    assert_eq!(run(&mut m, at(0)), "auth call");
}

#[test]
fn encrypted_recording_is_not_sent_and_the_reason_is_stored() {
    let mut update = call("a", CallProgress::Complete, 1);
    update.record.recordings[0].path.push_str(".age");
    update.record.recordings[0].plain_sha256 = Some("00".into());
    let mut machine = machine();
    machine.handle_call(&update);
    assert_eq!(run(&mut machine, at(0)), "auth call");
    let row = rows(&mut machine).pop().expect("a row");
    assert_eq!(row.stage, JobStage::Dead);
    assert!(row.note.expect("why").contains("age -d"));
}

#[test]
fn stored_job_keeps_its_json_keys() {
    let mut job = DeliveryJob {
        form_fields: FormFieldMode::Omitted,
        ..DeliveryJob::new(&call("a", CallProgress::Complete, 1).record, CallProgress::Complete)
    };
    job.status = JobStatus::Parked { reason: "r".into(), retry_at: at(0), times: 1 };
    job.parts[0].slice = Some(WavSlice { part_number: 1, offset_bytes: 4, bytes: 8 });
    job.parts[0].state = PartState::Dead { reason: "r".into() };
    let json: serde_json::Value = serde_json::from_str(&job.to_row().body).unwrap();
    assert_eq!((&json["standing"]["is"], &json["standing"]["why"]), (&"parked".into(), &"r".into()));
    assert_eq!((&json["fields"], &json["tries"]["attempts"]), (&"left_out".into(), &0.into()));
    assert_eq!(json["parts"][0]["cut"], serde_json::json!({"of": 1, "from": 4, "bytes": 8}));
    assert_eq!(json["parts"][0]["state"], serde_json::json!({"is": "dead", "why": "r"}));
    job.status = JobStatus::Active { not_before: None };
    let json: serde_json::Value = serde_json::from_str(&job.to_row().body).unwrap();
    assert_eq!(json["standing"]["is"], "going");
}
