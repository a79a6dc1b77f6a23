//! Tests of the story of a delivery, i.e. the list of its requests, on the page of a call and in the API.

use super::*;
use crate::delivery::story::{AttemptResult, AttemptedStep, DeliveryAttempt, DeliveryStory};
use crate::delivery::{CallProgress, DeliveryJob, DeliveryRow, JobRow, JobStage};

/// Capture time of the call's INVITE, seconds since the Unix epoch.
const INVITED: i64 = 1_795_000_000;

fn attempt(second: i64, step: AttemptedStep, part: Option<u32>, answer: &str) -> DeliveryAttempt {
    let at = Timestamp::from_secs(INVITED + second);
    let is_done = answer == "HTTP 200";
    DeliveryAttempt {
        at,
        answered_at: at + Duration::from_millis(580),
        step,
        part,
        result: if is_done { AttemptResult::Done } else { AttemptResult::Failed },
        answer: answer.to_owned(),
        reason: (!is_done)
            .then(|| String::from("no response (no response within 30 s); the request is repeated automatically")),
        times: if is_done { 1 } else { 9 },
        next_at: (!is_done).then(|| at + Duration::from_secs(34)),
    }
}

#[test]
fn page_and_api_tell_each_request_with_its_time_and_answer() {
    let office = Office::with_calls(&["120"]);
    let journal = Journal::open(&office.config.journal).expect("a journal");
    let mut job = DeliveryJob::new(&call(office.dir.path(), 0, "120"), CallProgress::Complete);
    let register = attempt(-1, AttemptedStep::Register, None, "HTTP 200");
    let upload = attempt(90, AttemptedStep::Upload, Some(1), "no response");
    job.story = DeliveryStory { attempts: vec![register, upload], left_out: 3 };
    let alarm = "Pyrus cannot be reached: check auth_url in [pyrus] and the network; calls are kept and sent as soon as Pyrus answers. The failure: x";
    journal.save(&[DeliveryRow::Job(job.to_row()), DeliveryRow::Alarm(Some(alarm.to_owned()))]).expect("saved");

    let page = office.get(&format!("/calls/{OWN}?lang=en"), "").body;
    let clock = crate::console::text::clock_time;
    let time = |second| clock(Timestamp::from_secs(INVITED + second));
    for text in [
        &*format!("<time>{}</time>", time(-1)),
        "registered",
        "3 requests are not shown",
        &format!("<time>{}</time>", time(90)),
        "upload failed: no response, 9 times until",
        "next try after 34 s",
        "no response within 30 s",
        "Pyrus cannot be reached",
    ] {
        assert!(page.contains(text), "{text}");
    }
    let russian = office.get(&format!("/calls/{OWN}?lang=ru"), "").body;
    for text in [
        "зарегистрирован",
        "запись не загружена: нет ответа, 9 раз до",
        "следующая попытка через 34 с",
        "нет ответа за 30",
    ] {
        assert!(russian.contains(text), "{text}");
    }
    let api = office.get(&format!("/api/v1/calls/{OWN}/delivery"), "").body;
    let api: serde_json::Value = serde_json::from_str(&api).expect("JSON");
    assert_eq!(api["stage"], "new");
    assert_eq!(
        (&api["left_out"], &api["attempts"][0]["step"]),
        (&serde_json::json!(3), &serde_json::json!("register"))
    );
    assert_eq!(
        (&api["attempts"][1]["times"], &api["attempts"][1]["answer"]),
        (&serde_json::json!(9), &serde_json::json!("no response"))
    );
    assert!(api["alarm"].as_str().is_some_and(|text| text.starts_with("Pyrus cannot be reached")), "{api}");
    // A listener sees which requests to Pyrus failed. Only an administrator sees why they failed, and why no call can
    // be delivered.
    assert!(api["attempts"][1]["reason"].is_string());
    office.add("anna", AccountRole::Admin, &[]);
    office.add("boris", AccountRole::Listener, &["1xx"]);
    for (name, is_admin) in [("anna", true), ("boris", false)] {
        let cookie = office.sign_in(name);
        let page = office.get(&format!("/calls/{OWN}?lang=en"), &cookie).body;
        let api = office.get(&format!("/api/v1/calls/{OWN}/delivery"), &cookie).body;
        assert!(page.contains("upload failed: no response, 9 times until") && api.contains("no response"), "{name}");
        for text in ["Pyrus cannot be reached", "no response within 30 s"] {
            assert_eq!((page.contains(text), api.contains(text)), (is_admin, is_admin), "{name}: {text}");
        }
    }
}

#[test]
fn reason_in_the_record_of_a_call_is_for_administrators_alone() {
    let office = Office::with_calls(&["120"]);
    let journal = Journal::open(&office.config.journal).expect("a journal");
    let reason = "no response (no response within 30 s); the request is repeated automatically";
    let job = DeliveryJob::new(&call(office.dir.path(), 0, "120"), CallProgress::Complete).to_row();
    journal.save_job(&JobRow { stage: JobStage::Parked, note: Some(reason.to_owned()), ..job }).expect("saved");
    office.add("anna", AccountRole::Admin, &[]);
    office.add("boris", AccountRole::Listener, &["1xx"]);
    office.add("vera", AccountRole::Auditor, &[]);
    let paths = [
        format!("/calls/{OWN}?lang=en"),
        format!("/calls/{OWN}/record.json"),
        format!("/api/v1/calls/{OWN}"),
        format!("/api/v1/calls/{OWN}/delivery"),
        String::from("/api/v1/calls?day=all"),
        String::from("/api/v1/why?number=120&day=2026-11-18"),
    ];
    for (name, is_admin) in [("anna", true), ("boris", false), ("vera", false)] {
        let cookie = office.sign_in(name);
        for path in &paths {
            let answer = office.get(path, &cookie);
            // The auditor vera may see calls but may not download their records (status 403).
            let is_refused = name == "vera" && path.ends_with("record.json");
            assert_eq!(answer.status, if is_refused { 403 } else { 200 }, "{name}: {path}");
            assert_eq!(answer.body.contains("no response within 30 s"), is_admin, "{name}: {path}");
        }
    }
}

#[test]
fn administrator_tries_all_failed_deliveries_again() {
    let office = Office::with_calls(&["120", "121", "122"]);
    let journal = Journal::open(&office.config.journal).expect("a journal");
    let row = |n: i64, extension: &str, stage: JobStage| {
        let record = call(office.dir.path(), n, extension);
        JobRow { stage, ..DeliveryJob::new(&record, CallProgress::Complete).to_row() }
    };
    let rows = [row(0, "120", JobStage::Parked), row(1, "121", JobStage::Dead), row(2, "122", JobStage::Registered)];
    rows.iter().for_each(|row| journal.save_job(row).expect("saved"));
    assert!(office.get("/health", "").body.contains("Try all again"));
    let asked = office.ask("POST /api/v1/delivery/retry", "", "");
    assert_eq!((asked.status, asked.body.as_str()), (200, r#"{"retried":2}"#));
    let mut ids = journal.take_retry_requests().expect("read");
    ids.sort();
    assert_eq!(ids, [rows[0].id.clone(), rows[1].id.clone()]);
    let page = office.ask("POST /health/retry", "", "");
    assert!(page.status == 303 && page.head.contains("location: /health"), "{}", page.head);
    office.add("boris", AccountRole::Listener, &["1xx"]);
    let cookie = office.sign_in("boris");
    let refused = office.ask("POST /health/retry", &format!("Cookie: {cookie}\r\n"), "");
    assert_eq!(refused.status, 403);
}

#[test]
fn delivered_call_tells_registration_upload_and_attachment() {
    let office = Office::with_replayed_calls();
    let id = office.ids().pop().expect("a call");
    let page = office.get(&format!("/calls/{id}?lang=en"), "").body;
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is missing"));
    let (registered, uploaded, attached) = (place("registered"), place("uploaded, "), place("attached to the task"));
    assert!(registered < uploaded && uploaded < attached);
    assert!(!page.contains("Next try"));
}
