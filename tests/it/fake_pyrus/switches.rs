//! Tests that each switch of the fake Pyrus has its effect. A switch selects a variant of undocumented behaviour.

use callspan::fake_pyrus::{
    AttachOkBody, ClockMode, IdStyle, PyrusMode, RepeatCall, ResponsibleEmpty, TaskPolicy, TooLargeReply,
    UnknownTaskError, UrlSlash,
};
use serde_json::{Value, json};

use crate::fake_pyrus::client::{PyrusSession, attach_body, auth, call_body, post_json, request, with, without};
use crate::fake_pyrus::{fake, fake_with, no_violation};

#[test]
fn on_premises_all_is_on_one_host_without_urls_in_replies() {
    for mode in [PyrusMode::Onprem, PyrusMode::LegacyOnprem] {
        let fake = fake_with(|o| o.mode = mode);
        let reply = auth(&fake).expect("a reply").json();
        assert_eq!(reply.as_object().map(|o| o.keys().cloned().collect()), Some(vec!["access_token".to_owned()]));
        assert!(fake.api_url().ends_with("/api/v4/"));
        let session = PyrusSession::login(&fake);
        let call = session.call("a");
        if mode == PyrusMode::Onprem {
            assert_eq!(call.status, 200);
            assert_eq!(session.attach("a", &session.guid()).status, 200);
        } else {
            assert_eq!(call.status, 202);
            assert!(call.json()["Message"].as_str().is_some_and(|m| m.starts_with("No HTTP resource")));
            assert!(session.guid().len() == 36, "uploads it has");
            assert!(fake.state().tasks.is_empty());
        }
    }
}

#[test]
fn one_listener_serves_all_when_hosts_are_not_split() {
    let fake = fake_with(|o| o.split_hosts = false);
    let session = PyrusSession::login(&fake);
    session.call("a");
    assert_eq!(session.attach("a", &session.guid()).status, 200);
    assert_eq!(fake.api_url(), format!("{}v4/", fake.files_url()));
    no_violation(&fake);
}

#[test]
fn urls_come_without_a_slash_too() {
    let fake = fake_with(|o| o.url_slash = UrlSlash::None);
    let body = auth(&fake).expect("a reply").json();
    assert_eq!(body["api_url"], fake.api_url().trim_end_matches('/'));
    assert_eq!(body["files_url"], fake.files_url().trim_end_matches('/'));
}

#[test]
fn telephony_errors_have_the_status_of_their_switches() {
    for status in [200, 400] {
        let fake = fake_with(|o| (o.logic_error_status, o.mapping_error_status) = (status, status));
        let session = PyrusSession::login(&fake);
        let reply = session.call_with(&with(call_body("a"), "account_id", "other".into()));
        assert_eq!((reply.status, reply.code().as_str()), (status, "unrecognized_account_id"));
        let bad = with(call_body("a"), "mappings", json!([{"code": "Foo", "value": "1"}]));
        let reply = session.call_with(&bad);
        assert_eq!((reply.status, reply.code().as_str()), (status, "invalid_field_mapping_code"));
        assert_eq!(reply.json()["task_id"], 458_732);
        fake.options(|o| o.mapping_error_task_id = false);
        assert!(session.call_with(&with(bad, "external_id", "b".into())).json().get("task_id").is_none());
    }
}

#[test]
fn a_successful_attach_answers_in_four_ways() {
    let bodies = [
        (AttachOkBody::Object, "{}"),
        (AttachOkBody::Empty, ""),
        (AttachOkBody::Null, "null"),
        (AttachOkBody::TaskId, "{\"task_id\":458732}"),
    ];
    for (body, expected) in bodies {
        let fake = fake_with(|o| o.attach_ok_body = body);
        let session = PyrusSession::login(&fake);
        session.call("a");
        let reply = session.attach("a", &session.guid());
        assert_eq!((reply.status, String::from_utf8_lossy(&reply.body).as_ref()), (200, expected));
    }
}

#[test]
fn ids_are_numbers_or_strings() {
    for (style, task, user) in [
        (IdStyle::Number, json!(458_732), json!(34231)),
        (IdStyle::String, json!("458732"), json!("34231")),
        (IdStyle::Mixed, json!(458_732), json!("34231")),
    ] {
        let fake = fake_with(|o| o.id_style = style);
        let body = PyrusSession::login(&fake).call("a").json();
        assert_eq!((&body["task_id"], &body["responsible_person"]["user_id"]), (&task, &user));
    }
}

#[test]
fn the_same_call_again_comments_or_updates() {
    for (repeat, comments, duplicates) in [(RepeatCall::Comment, 2, 1), (RepeatCall::Update, 1, 0)] {
        let fake = fake_with(|o| o.repeat_call = repeat);
        let session = PyrusSession::login(&fake);
        session.call("a");
        let again =
            session.call_with(&with(call_body("a"), "mappings", json!([{"code": "CallDuration", "value": "9"}])));
        assert_eq!((&again.json()["task_id"], &again.json()["is_new_task"]), (&json!(458_732), &json!(false)));
        let state = fake.state();
        assert_eq!((state.tasks[0].comments.len(), state.duplicates), (comments, duplicates));
        assert_eq!((state.calls.len(), state.calls[0].registered), (1, 2));
        assert_eq!(state.tasks[0].fields["CallDuration"], "9");
    }
}

#[test]
fn account_id_of_an_attach_can_be_optional() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    session.call("a");
    let body = without(attach_body("a", &session.guid()), "account_id");
    assert_eq!(session.attach_with(&body).code(), "required_parameters_not_specified");
    fake.options(|o| o.attach_requires_account = false);
    assert_eq!(session.attach_with(&body).status, 200);
    assert!(fake.violations().iter().any(|v| v.contains("attach without \"account_id\"")));
}

#[test]
fn a_caller_with_an_open_task_gets_it_again_unless_told() {
    for (policy, tasks) in [(TaskPolicy::SameFromOpenTask, 1), (TaskPolicy::AlwaysNew, 2)] {
        let fake = fake_with(|o| o.task_policy = policy);
        let session = PyrusSession::login(&fake);
        session.call("a");
        assert_eq!(session.call("b").json()["is_new_task"], json!(tasks == 2));
        assert_eq!(fake.state().tasks.len(), tasks);
    }
}

#[test]
fn nobody_responsible_is_said_in_three_ways() {
    for (empty, expected) in [
        (ResponsibleEmpty::Absent, None),
        (ResponsibleEmpty::Null, Some(Value::Null)),
        (ResponsibleEmpty::Object, Some(json!({}))),
    ] {
        let fake = fake_with(|o| o.responsible_empty = empty);
        let reply = PyrusSession::login(&fake).call_with(&without(call_body("a"), "internal_number"));
        assert_eq!(reply.json().get("responsible_person").cloned(), expected);
    }
}

#[test]
fn an_unknown_task_has_two_codes() {
    let fake = fake_with(|o| o.unknown_task_error = UnknownTaskError::Call);
    let session = PyrusSession::login(&fake);
    let body = with(attach_body("a", "g"), "task_id", 5.into());
    assert_eq!(session.attach_with(&body).code(), "unrecognized_call_id");
}

#[test]
fn a_too_large_upload_is_refused_early_by_a_proxy() {
    let fake = fake_with(|o| (o.max_upload, o.too_large) = (1000, TooLargeReply::HtmlEarly));
    let session = PyrusSession::login(&fake);
    let reply = session.upload("a.wav", &[0; 2000]);
    assert_eq!(reply.status, 413);
    assert!(reply.body.starts_with(b"<html>"));
    assert_eq!(session.upload("a.wav", &[0; 500]).status, 200);
}

#[test]
fn a_file_of_a_bad_format_may_still_fill_fields() {
    for applies in [false, true] {
        let fake = fake_with(|o| o.bad_format_applies_mappings = applies);
        let session = PyrusSession::login(&fake);
        session.call("a");
        let guid = session.upload("a.txt", b"x").json()["guid"].as_str().expect("a guid").to_owned();
        let body = with(attach_body("a", &guid), "mappings", json!([{"code": "CallDuration", "value": "9"}]));
        assert_eq!(session.attach_with(&body).code(), "unsupported_record_file_format");
        let task = &fake.state().tasks[0];
        assert_eq!((task.fields.contains_key("CallDuration"), task.attachments.len()), (applies, 0));
    }
}

#[test]
fn fields_without_a_file_are_taken_or_refused() {
    for takes in [false, true] {
        let fake = fake_with(|o| o.fields_without_file = takes);
        let session = PyrusSession::login(&fake);
        session.call("a");
        let mut body = with(attach_body("a", "g"), "mappings", json!([{"code": "CallDuration", "value": "0"}]));
        body.as_object_mut().expect("an object").remove("record_file");
        let reply = session.attach_with(&body);
        assert_eq!(reply.status == 200, takes);
        let task = &fake.state().tasks[0];
        assert_eq!((task.fields.contains_key("CallDuration"), task.attachments.len()), (takes, 0));
    }
}

#[test]
fn the_clock_runs_or_stands() {
    let fake = fake_with(|o| o.clock = ClockMode::Frozen);
    let at = fake.now();
    auth(&fake).expect("a reply");
    assert_eq!(fake.now(), at);
    fake.advance(std::time::Duration::from_secs(5));
    assert_eq!((fake.now() - at).as_secs(), 5);
    fake.options(|o| o.clock = ClockMode::Running);
    let before = fake.now();
    while fake.now() == before {
        std::hint::spin_loop();
    }
}

#[test]
fn the_old_telephony_api_answers_only_when_asked_for() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let url = format!("{}calls", fake.api_url());
    let new = json!({"from": "1", "to": "2", "extension": "200", "integration_guid": "uniqueID12345"});
    let post = |url: &str, body: &Value| post_json(url, Some(&session.token), body).expect("a reply");
    assert_eq!(post(&url, &new).status, 404);
    fake.options(|o| o.legacy_calls = true);
    let guid = post(&url, &new).json()["call_guid"].as_str().expect("a guid").to_owned();
    assert_eq!(post(&format!("{url}/{guid}/event"), &json!({"event_type": "show"})).status, 200);
    assert_eq!(post(&format!("{url}/{guid}/event"), &json!({"event_type": "hangup"})).status, 400);
    assert_eq!(post(&format!("{url}/nope/event"), &json!({"event_type": "show"})).code(), "unrecognized_call_guid");
    assert_eq!(post(&url, &with(new, "integration_guid", "x".into())).code(), "unrecognized_integration_guid");
    let bearer = format!("Bearer {}", session.token);
    let put = request("PUT", &format!("{url}/{guid}"), &[("Authorization", &bearer)], b"{\"rating\":5}");
    assert_eq!(put.expect("a reply").status, 200);
}
