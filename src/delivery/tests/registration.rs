//! Tests of the request that registers a call in Pyrus: its time, and the fields of its body.

use super::*;

#[test]
fn registration_waits_for_the_configured_event() {
    let due = |register_at, change: fn(&mut CallRecord), progress| {
        let mut update = call("a", CallProgress::Live, 0);
        update.record.internal = None;
        change(&mut update.record);
        let policy = DeliveryPolicy { register_at, ..policy() };
        policy.is_due(&update.record, progress, DeliveryConsent::ByConfig)
    };
    let nothing: fn(&mut CallRecord) = |_| {};
    let extension: fn(&mut CallRecord) = |r| r.internal = Some("200".into());
    let answered: fn(&mut CallRecord) = |r| {
        r.answered_at = Some(at(0));
        r.outcome = CallOutcome::Answered;
    };
    let by_person: fn(&mut CallRecord) = |r| {
        r.answered_at = Some(at(0));
        r.operator_answered_at = Some(at(0));
    };
    use CallProgress::{Ended, Live};
    use RegisterAt::{Answer, Auto, End, Invite};
    for (register_at, change, progress, expected) in [
        (Auto, nothing, Live, false),
        (Auto, extension, Live, true),
        (Auto, answered, Live, false), // the PBX answered, but no person yet
        (Auto, by_person, Live, true),
        (Auto, nothing, Ended, true),
        (Invite, nothing, Live, true),
        (Answer, extension, Live, false),
        (Answer, answered, Live, true),
        (Answer, nothing, Ended, true),
        (End, by_person, Live, false),
        (End, nothing, Ended, true),
    ] {
        assert_eq!(due(register_at, change, progress), expected, "{register_at:?} {progress:?}");
    }
}

#[test]
fn only_configured_directions_and_outcomes_are_delivered() {
    let owed = |policy: DeliveryPolicy, change: fn(&mut CallUpdate)| {
        let mut update = call("a", CallProgress::Complete, 1);
        change(&mut update);
        let mut m = DeliveryMachine::new(policy, DeliveryTuning::default(), 1);
        m.handle_call(&update);
        m.contains("a")
    };
    let one_way = DeliveryPolicy { directions: vec![CallDirection::Inbound], ..policy() };
    let answered_only = DeliveryPolicy { unanswered: false, ..policy() };
    let with_internal = DeliveryPolicy { directions: vec![CallDirection::Internal], ..policy() };
    assert!(owed(policy(), |_| {}));
    assert!(!owed(policy(), |u| u.record.direction = CallDirection::Internal));
    assert!(owed(with_internal, |u| u.record.direction = CallDirection::Internal));
    assert!(owed(policy(), |u| u.record.direction = CallDirection::Unknown));
    assert!(!owed(one_way.clone(), |u| u.record.direction = CallDirection::Unknown));
    assert!(!owed(one_way, |u| u.record.direction = CallDirection::Outbound));
    assert!(!owed(answered_only.clone(), |u| u.record.answered_at = None));
    assert!(!owed(answered_only, |u| u.record.outcome = CallOutcome::Abandoned));
    assert!(!owed(policy(), |u| u.consent = DeliveryConsent::Forbidden));
}

#[test]
fn call_body_has_whole_second_times_and_rounded_duration() {
    let body = |unit, change: fn(&mut CallUpdate)| {
        let mut update = call("a", CallProgress::Complete, 1);
        change(&mut update);
        let policy = DeliveryPolicy { duration_unit: unit, ..policy() };
        policy.call_body(&DeliveryJob::new(&update.record, update.progress), &std::collections::BTreeSet::new())
    };
    let value = |body: &CallBody, code: &str| {
        body.mappings.iter().find(|m| m.code == code).map(|m| m.value.clone()).unwrap_or_default()
    };
    let inbound = body(DurationUnit::Seconds, |_| {});
    assert_eq!(value(&inbound, "CallStartTime"), "2021-12-23T00:11:32Z");
    assert_eq!(value(&inbound, "CallEndTime"), "2021-12-23T00:12:40Z"); // Unix time 1640218360
    assert_eq!(value(&inbound, "CallDuration"), "60"); // the call lasted 60.4 s
    assert_eq!(value(&body(DurationUnit::Minutes, |_| {}), "CallDuration"), "2"); // 60.4 s, rounded up to minutes
    assert_eq!(value(&inbound, "PhoneNumberTo"), "200", "the operator, not the line");
    let nobody = body(DurationUnit::Seconds, |u| (u.record.from, u.record.to) = (None, None));
    assert_eq!((nobody.from_number.as_str(), nobody.to_number.as_str()), ("unknown", "unknown"));
    assert_eq!(value(&nobody, "PhoneNumberFrom"), "");
    let garbled = body(DurationUnit::Seconds, |u| u.record.from = Some(String::from("\u{1}\u{2}\u{7f}")));
    assert_eq!(garbled.from_number, "unknown", "a caller of control characters only");
    let json = serde_json::to_string(&inbound).unwrap();
    assert!(!json.contains("null"), "{json}");
}
use super::policy::CallBody;

#[test]
fn unanswered_call_has_its_end_a_duration_of_0_and_its_outcome() {
    let policy = DeliveryPolicy { outcome_field: Some("CallOutcome".into()), ..policy() };
    let fields = |progress| {
        let job = DeliveryJob::new(&call("a", progress, 0).record, progress);
        let body = policy.call_body(&job, &std::collections::BTreeSet::new());
        body.mappings.into_iter().map(|m| (m.code, m.value)).collect::<std::collections::BTreeMap<_, _>>()
    };
    let ringing = fields(CallProgress::Live);
    for absent in ["CallEndTime", "CallDuration", "CallOutcome"] {
        assert!(!ringing.contains_key(absent), "{ringing:?}");
    }
    let missed = fields(CallProgress::Complete);
    assert_eq!((missed["CallDuration"].as_str(), missed["CallOutcome"].as_str()), ("0", "no_answer"));
    assert_eq!(missed["CallEndTime"], "2021-12-23T00:12:40Z");
}

#[test]
fn call_that_was_registered_while_it_rang_gets_its_end_once() {
    let end = |m: &mut DeliveryMachine| {
        m.handle_call(&call("a", CallProgress::Live, 0));
        assert_eq!(run(m, at(0)), "call");
        m.handle_call(&call("a", CallProgress::Complete, 0));
        action(m, at(0))
    };
    let mut m = logged_in();
    let told = end(&mut m);
    let PyrusRequest::Attach(body) = &told.request else { panic!("the end, not {:?}", told.request) };
    assert_eq!((body.record_file.as_ref(), body.task_id), (None, Some(7)));
    assert!(body.mappings.iter().any(|f| f.code == "CallEndTime"));
    assert!(body.mappings.iter().any(|f| f.code == "CallDuration" && f.value == "0"));
    assert_eq!(rows(&mut m).last().map(|r| r.stage), Some(JobStage::Attaching));
    m.handle_outcome(at(0), told.id, &good(&told.request));
    assert_eq!(rows(&mut m).last().map(|r| r.stage), Some(JobStage::Done));
    assert_eq!(m.poll_action(at(9_000)), NextAction::Idle);
    // Pyrus refuses the request that sends the end of the call, or the outcome of this request is unknown. In both
    // cases the call counts as delivered, and nothing is repeated.
    for reply in [http(400, r#"{"error_code":"unrecognized_attachment_id"}"#), http(500, "")] {
        let mut m = logged_in();
        let told = end(&mut m);
        m.handle_outcome(at(0), told.id, &reply);
        assert_eq!(rows(&mut m).last().map(|r| r.stage), Some(JobStage::Done));
        assert_eq!(m.poll_action(at(9_000)), NextAction::Idle);
    }
    // The call has a recording, so no separate request sends the end of the call.
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Live, 0));
    run(&mut m, at(0));
    m.handle_call(&call("a", CallProgress::Complete, 1));
    assert_eq!(run(&mut m, at(0)), "upload attach");
}

#[test]
fn ring_group_registers_while_it_rings_if_the_setting_says_so() {
    let mut ringing = call("a", CallProgress::Live, 0).record;
    ringing.internal = None;
    let due = |record: &CallRecord, register_at| {
        let policy = DeliveryPolicy { register_at, ..policy() };
        policy.is_due(record, CallProgress::Live, DeliveryConsent::ByConfig)
    };
    assert!(!due(&ringing, RegisterAt::Ringing), "nothing rings yet");
    ringing.ringing_at = ringing.invited_at;
    assert!(due(&ringing, RegisterAt::Ringing));
    assert!(!due(&ringing, RegisterAt::Auto));
}

#[test]
fn rating_of_a_header_has_the_type_of_the_form_field() {
    let mut update = call("a", CallProgress::Complete, 1);
    update.record.headers.insert("X-Rating".into(), "5".into());
    let mapped = |rating_type| {
        let header_mappings = [("Rating".to_owned(), "X-Rating".to_owned())].into();
        let policy = DeliveryPolicy { rating_type, header_mappings, ..policy() };
        let job = DeliveryJob::new(&update.record, update.progress);
        serde_json::to_string(&policy.call_body(&job, &std::collections::BTreeSet::new())).unwrap()
    };
    assert!(mapped(RatingType::Number).contains(r#"{"code":"Rating","value":5}"#));
    assert!(mapped(RatingType::Text).contains(r#"{"code":"Rating","value":"5"}"#));
}

#[test]
fn operator_is_the_last_speaker_and_the_responsible_person_is_kept() {
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Live, 0));
    let register = action(&mut m, at(0));
    let person = r#"{"user_id":"34231","first_name":"Ilya","last_name":"Laserson","work_phone":"+79338762030"}"#;
    m.handle_outcome(at(0), register.id, &http(200, &format!(r#"{{"task_id":7,"responsible_person":{person}}}"#)));
    let mut transferred = call("a", CallProgress::Complete, 1);
    transferred.record.internal = Some("201".into());
    m.handle_call(&transferred);
    let upload = action(&mut m, at(0));
    m.handle_outcome(at(0), upload.id, &good(&upload.request));
    let PyrusRequest::Attach(body) = action(&mut m, at(0)).request else { panic!("the attach") };
    let operator = body.mappings.iter().find(|f| f.code == "PhoneNumberTo").unwrap();
    assert_eq!(operator.value, "201");
    let row = rows(&mut m).pop().expect("a row");
    assert_eq!(row.to_record().responsible.as_deref(), Some("Ilya Laserson"));
    for empty in ["null", "{}"] {
        let mut m = logged_in();
        m.handle_call(&call("a", CallProgress::Complete, 0));
        let register = action(&mut m, at(0));
        m.handle_outcome(at(0), register.id, &http(200, &format!(r#"{{"task_id":7,"responsible_person":{empty}}}"#)));
        assert_eq!(rows(&mut m).pop().expect("a row").to_record().responsible, None);
    }
}

#[test]
fn numbers_stay_the_same_after_registration() {
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Live, 0));
    run(&mut m, at(0));
    let mut later = call("a", CallProgress::Complete, 1);
    later.record.from = Some("+1".into());
    m.handle_call(&later);
    let upload = action(&mut m, at(0));
    m.handle_outcome(at(0), upload.id, &good(&upload.request));
    let PyrusRequest::Attach(body) = action(&mut m, at(0)).request else { panic!("the attach") };
    let from = body.mappings.iter().find(|f| f.code == "PhoneNumberFrom").unwrap();
    assert_eq!(from.value, "+79774221338");
    assert_eq!(body.task_id, Some(7));
}
