use super::Endpoint::{Attach, Auth, Call, Upload};
use super::*;

const BACKOFF: Verdict = Verdict::Backoff { sent: Sent::No, limit: None };
const AMBIGUOUS: Verdict = Verdict::Backoff { sent: Sent::Perhaps, limit: None };

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, rate: RateHeaders::default(), body: body.into(), sent_md5: None }
}

fn verdict(endpoint: Endpoint, status: u16, body: &str) -> Verdict {
    judge(endpoint, &Reply::Answer(answer(status, body))).verdict
}

fn limited(n: u32, otherwise: Otherwise) -> Verdict {
    Verdict::Backoff { sent: Sent::No, limit: Some((n, otherwise)) }
}

fn done() -> Verdict {
    Verdict::Done(Gain::default())
}

/// Each code of the table, at the request where it can come. `None`: at every request but auth.
fn table() -> Vec<(&'static str, u16, Option<Endpoint>, Verdict)> {
    use Otherwise as Or;
    vec![
        ("unrecognized_call_id", 400, Some(Attach), Verdict::Reregister(2)),
        ("unrecognized_attachment_id", 400, Some(Attach), Verdict::Reupload),
        ("unsupported_record_file_format", 400, Some(Attach), Verdict::Dead),
        ("unrecognized_account_id", 400, None, Verdict::Park),
        ("webhook_is_disabled", 400, None, Verdict::Park),
        ("required_parameters_not_specified", 400, None, Verdict::Dead),
        ("invalid_credentials", 401, Some(Auth), Verdict::Park),
        ("invalid_credentials", 401, None, Verdict::Park),
        ("authorization_error", 401, None, Verdict::Reauth(Or::Park)),
        ("authorization_error", 401, Some(Auth), Verdict::Park),
        ("invalid_application_id", 401, None, Verdict::Reauth(Or::Park)),
        ("token_not_specified", 401, None, Verdict::Reauth(Or::Dead)),
        ("token_not_specified", 401, Some(Auth), Verdict::Park),
        ("expired_token", 401, None, Verdict::Reauth(Or::Backoff)),
        ("invalid_token", 401, None, Verdict::Reauth(Or::Backoff)),
        ("revoked_token", 401, None, Verdict::Reauth(Or::Backoff)),
        ("account_blocked", 401, None, Verdict::Park),
        ("account_blocked", 401, Some(Auth), Verdict::Park),
        ("access_denied", 403, None, Verdict::Park),
        ("access_denied_form", 403, None, Verdict::Park),
        ("access_denied_task", 403, None, Verdict::Park),
        ("access_denied_file", 403, None, Verdict::Park),
        ("access_denied_person", 403, None, Verdict::Park),
        ("form_is_deleted", 403, None, Verdict::Park),
        ("task_migrated", 400, None, Verdict::Park),
        ("option_is_not_supported", 400, None, Verdict::Park),
        ("conflict", 400, None, limited(3, Or::Park)),
        ("unrecognized_task_id", 400, Some(Attach), Verdict::Reregister(1)),
        ("form_has_no_task", 400, Some(Attach), Verdict::Reregister(1)),
        ("unrecognized_task_id", 400, Some(Call), Verdict::Park),
        ("too_many_comments", 400, None, Verdict::Park),
        ("too_many_attachments", 400, None, Verdict::Park),
        ("file_limit_exceeded", 400, None, Verdict::Park),
        ("limit_exceeded", 400, None, Verdict::Park),
        ("task_limit_exceeded", 400, None, Verdict::Park),
        ("too_large_request_length", 400, Some(Upload), Verdict::TooLarge),
        ("attachment_too_big", 400, Some(Upload), Verdict::TooLarge),
        ("empty_file", 400, Some(Upload), Verdict::Dead),
        ("no_file_in_request", 400, Some(Upload), limited(1, Or::Dead)),
        ("bad_multipart_content", 400, Some(Upload), limited(1, Or::Dead)),
        ("max_file_name_length_exceeded", 400, Some(Upload), limited(1, Or::Dead)),
        ("invalid_json", 400, None, Verdict::Dead),
        ("empty_body", 400, None, Verdict::Dead),
        ("invalid_request", 400, None, Verdict::Dead),
        ("validation_error", 400, None, Verdict::Dead),
        ("required_parameter_missing", 400, None, Verdict::Dead),
        ("invalid_request_encoding", 400, None, Verdict::Dead),
        ("invalid_input", 400, None, Verdict::Dead),
        ("value_is_too_long", 400, None, Verdict::Dead),
        ("invalid_json", 400, Some(Auth), Verdict::Park), // the client cannot work at all: a person must look
        ("invalid_value_format", 400, Some(Call), Verdict::WithoutFields),
        ("invalid_value_format", 400, Some(Attach), Verdict::WithoutFields),
        ("invalid_value_format", 400, Some(Upload), Verdict::Dead),
        ("too_many_requests", 429, None, Verdict::Wait(None)),
        ("too_many_requests", 429, Some(Auth), Verdict::Wait(None)),
        ("server_error", 500, Some(Call), AMBIGUOUS),
        ("server_error", 500, Some(Attach), AMBIGUOUS),
        ("server_error", 500, Some(Upload), BACKOFF),
        ("server_error", 500, Some(Auth), BACKOFF),
    ]
}

#[test]
fn each_error_code_has_its_verdict_whatever_the_http_status_says() {
    for (code, status, endpoint, expected) in table() {
        let endpoints = endpoint.map_or(vec![Call, Upload, Attach], |e| vec![e]);
        for endpoint in endpoints {
            // "attempts to return the most appropriate status": the code decides.
            for status in [status, 200, 400] {
                let body = format!(r#"{{"error":"Ошибка","error_code":"{code}"}}"#);
                assert_eq!(verdict(endpoint, status, &body), expected, "{code} at {endpoint:?} as {status}");
            }
        }
    }
}

#[test]
fn unacceptable_field_codes_are_success_with_or_without_a_task() {
    let with =
        r#"{"task_id":7,"error_code":"invalid_field_mapping_code","error":"Unacceptable field codes: Foo, Bar"}"#;
    let without = r#"{"error_code":"invalid_field_mapping_code","error":"Unacceptable field codes: Foo, Bar"}"#;
    for status in [200, 400] {
        for (body, task_id) in [(with, Some(7)), (without, None)] {
            let text = Some(String::from("Unacceptable field codes: Foo, Bar"));
            let expected =
                Verdict::Done(Gain { task_id, unacceptable_fields: text, has_warning: true, ..Gain::default() });
            assert_eq!(verdict(Call, status, body), expected);
            assert_eq!(verdict(Attach, status, body), expected);
        }
    }
    assert_eq!(verdict(Upload, 400, without), Verdict::Park);
}

#[test]
fn an_unknown_code_parks_unless_the_work_is_done_or_the_server_is_ill() {
    let body = r#"{"error_code":"brand_new_error","error":"?"}"#;
    for endpoint in [Call, Upload, Attach] {
        assert_eq!(verdict(endpoint, 400, body), Verdict::Park);
        assert_eq!(verdict(endpoint, 200, body), Verdict::Park);
        assert_eq!(verdict(endpoint, 401, body), Verdict::Reauth(Otherwise::Park));
        assert_eq!(verdict(endpoint, 429, body), Verdict::Wait(None));
    }
    assert_eq!(verdict(Call, 500, body), AMBIGUOUS);
    assert_eq!(verdict(Upload, 500, body), BACKOFF);
    let with_task = r#"{"task_id":"7","error_code":"brand_new_error"}"#;
    assert_eq!(
        verdict(Call, 200, with_task),
        Verdict::Done(Gain { task_id: Some(7), has_warning: true, ..Gain::default() })
    );
}

#[test]
fn a_good_status_without_a_code_is_judged_by_what_is_in_the_body() {
    for empty in ["", "  \n", "null", "{}"] {
        assert_eq!(verdict(Attach, 200, empty), done(), "{empty:?}");
        assert_eq!(verdict(Call, 200, empty), done(), "{empty:?}: go on by external_id");
        assert_eq!(verdict(Upload, 200, empty), BACKOFF, "{empty:?}");
        assert_eq!(verdict(Auth, 200, empty), limited(3, Otherwise::Park), "{empty:?}");
    }
    let task = Verdict::Done(Gain { task_id: Some(458_732), ..Gain::default() });
    for body in [
        r#"{"task_id":458732,"is_new_task":false,"responsible_person":{}}"#,
        r#"{"task_id":"458732","responsible_person":null,"unheard_of":[1]}"#,
        r#"{"task_id":458732,"error":"only a text"}"#,
    ] {
        assert_eq!(verdict(Call, 200, body), task, "{body}");
    }
    assert_eq!(verdict(Call, 200, r#"{"task_id":0}"#), done());
    assert_eq!(verdict(Call, 200, r#"{"error":"only a text"}"#), Verdict::Park);
    assert_eq!(verdict(Attach, 200, r#"{"error":"only a text"}"#), Verdict::Park);
    assert_eq!(verdict(Auth, 200, r#"{"access_token":"x"}"#), done());
    assert_eq!(verdict(Auth, 200, r#"{"access_token":""}"#), limited(3, Otherwise::Park));
    for endpoint in [Call, Upload, Attach, Auth] {
        for status in [200, 202] {
            assert_eq!(verdict(endpoint, status, r#"{"Message":"No HTTP resource was found"}"#), Verdict::Park);
        }
    }
}

#[test]
fn what_is_no_json_is_repeated_five_times_and_may_have_been_done() {
    for body in ["<html>", "{\"task_id\":", "[1]", "\"x\""] {
        let expected = |sent| Verdict::Backoff { sent, limit: Some((5, Otherwise::Park)) };
        assert_eq!(verdict(Call, 200, body), expected(Sent::Perhaps), "{body}");
        assert_eq!(verdict(Attach, 200, body), expected(Sent::Perhaps), "{body}");
        assert_eq!(verdict(Upload, 200, body), expected(Sent::No), "{body}");
    }
    let not_utf8 = Answer { body: vec![b'{', b'"', 0xff, b'"', b':', b'1', b'}'], ..answer(200, "") };
    assert!(matches!(judge(Call, &Reply::Answer(not_utf8)).verdict, Verdict::Backoff { .. }));
}

#[test]
fn a_status_without_a_code_has_its_verdict() {
    for (status, body, expected) in [
        (301, "", Verdict::Park),
        (302, "<html>", Verdict::Park),
        (307, "", Verdict::Park),
        (308, "", Verdict::Park),
        (400, "<html>", limited(1, Otherwise::Dead)),
        (400, r#"{"error":"text"}"#, Verdict::Park),
        (401, "<html>", Verdict::Reauth(Otherwise::Backoff)),
        (403, "<html>", Verdict::Park),
        (404, "<html>", Verdict::Park),
        (404, r#"{"Message":"No HTTP resource"}"#, Verdict::Park),
        (405, "", Verdict::Park),
        (408, "", BACKOFF),
        (425, "", BACKOFF),
        (429, "", Verdict::Wait(None)),
        (500, "", AMBIGUOUS),
        (502, "<html>", AMBIGUOUS),
        (503, "<html>", BACKOFF), // "normally not processed"
        (504, "<html>", AMBIGUOUS),
        (599, "", AMBIGUOUS),
    ] {
        assert_eq!(verdict(Call, status, body), expected, "call {status} {body}");
        assert_eq!(verdict(Attach, status, body), expected, "attach {status} {body}");
        let upload = if expected == AMBIGUOUS { BACKOFF } else { expected }; // an orphan file at most
        assert_eq!(verdict(Upload, status, body), upload, "upload {status} {body}");
    }
    for (endpoint, expected) in [(Upload, Verdict::TooLarge), (Attach, Verdict::TooLarge), (Call, Verdict::Dead)] {
        assert_eq!(verdict(endpoint, 413, "<html>"), expected);
    }
    assert_eq!(verdict(Auth, 413, ""), Verdict::Park);
    assert_eq!(verdict(Auth, 401, ""), limited(3, Otherwise::Park));
}

#[test]
fn without_an_answer_only_a_request_that_was_sent_is_ambiguous() {
    let failed = |endpoint, failure: Failure| judge(endpoint, &Reply::Failed(failure));
    let words = || String::from("words");
    for endpoint in [Auth, Call, Upload, Attach] {
        let judged = failed(endpoint, Failure::NotSent(words()));
        assert_eq!((judged.verdict, judged.away), (BACKOFF, true));
        assert_eq!(failed(endpoint, Failure::Refused(words())).verdict, Verdict::Park);
    }
    assert_eq!(failed(Call, Failure::Unanswered(words())).verdict, AMBIGUOUS);
    assert_eq!(failed(Attach, Failure::Unanswered(words())).verdict, AMBIGUOUS);
    assert_eq!(failed(Upload, Failure::Unanswered(words())).verdict, BACKOFF);
    assert_eq!(failed(Upload, Failure::NoFile(words())).verdict, Verdict::Park);
}

#[test]
fn an_upload_is_done_only_with_the_sum_of_what_was_sent() {
    let judged = |body: &str, sent: Option<&str>| {
        judge(Upload, &Reply::Answer(Answer { sent_md5: sent.map(String::from), ..answer(200, body) })).verdict
    };
    let gain = Verdict::Done(Gain { guid: Some("g".into()), md5: Some("bb36f9".into()), ..Gain::default() });
    assert_eq!(judged(r#"{"guid":"g","md5_hash":"BB36F9"}"#, Some("bb36f9")), gain); // upper case is seen in the wild
    assert_eq!(judged(r#"{"guid":"g"}"#, Some("bb36f9")), gain);
    assert_eq!(judged(r#"{"guid":"g","md5_hash":"aaaa"}"#, Some("bb36f9")), BACKOFF);
    assert_eq!(judged(r#"{"guid":"g","md5_hash":"bb36f9"}"#, None), BACKOFF, "answered before all was sent");
    assert_eq!(judged(r#"{"md5_hash":"bb36f9"}"#, Some("bb36f9")), BACKOFF, "no guid");
}

#[test]
fn a_wait_is_what_retry_after_or_the_reset_says_if_it_says_anything() {
    let waited = |reset: Option<&str>, retry: Option<&str>| {
        let rate =
            RateHeaders { remaining: None, reset: reset.map(String::from), retry_after: retry.map(String::from) };
        judge(Call, &Reply::Answer(Answer { rate, ..answer(429, "") })).verdict
    };
    let secs = |s| Verdict::Wait(Some(Duration::from_secs(s)));
    assert_eq!(waited(Some("7"), None), secs(7));
    assert_eq!(waited(Some("7"), Some("3")), secs(3));
    assert_eq!(waited(Some("7"), Some("Mon, 23 Nov 2026 07:00:00 GMT")), secs(7)); // a date is not read
    assert_eq!(waited(Some("0"), None), secs(1)); // no hot loop
    assert_eq!(waited(Some("100000"), None), secs(900)); // the window is 10 minutes
    for nothing in [None, Some("-5"), Some("abc"), Some("")] {
        assert_eq!(waited(nothing, None), Verdict::Wait(None));
    }
}

#[test]
fn the_reason_names_the_remedy_and_the_log_word_holds_no_free_text() {
    let body = r#"{"error":"number +79774221338\u0000\n is bad","error_code":"invalid_credentials"}"#;
    let judged = judge(Auth, &Reply::Answer(answer(401, body)));
    assert_eq!(judged.code, "HTTP 401 invalid_credentials");
    assert!(judged.why.starts_with("Pyrus refuses the login: check login and security_key"), "{}", judged.why);
    assert!(judged.why.chars().all(|c| !c.is_control()));
    let odd = judge(Call, &Reply::Answer(answer(400, r#"{"error_code":"+7977 \n"}"#)));
    assert_eq!(odd.code, "HTTP 400 (odd error_code)");
    let long = format!(r#"{{"error_code":"x","error":"{}"}}"#, "я".repeat(10_000));
    assert!(judge(Call, &Reply::Answer(answer(400, &long))).why.chars().count() <= 600);
}

#[test]
fn no_answer_of_any_shape_panics_or_counts_as_an_upload() {
    let mut rng = fastrand::Rng::with_seed(1);
    let words = [
        "{",
        "}",
        "\"task_id\"",
        ":",
        "1",
        "\"error_code\"",
        "\"guid\"",
        "\"x\"",
        ",",
        "null",
        "[",
        "]",
        "-1e999",
        "\\u",
    ];
    for _ in 0..20_000 {
        let body: String = (0..rng.usize(..12)).map(|_| words[rng.usize(..words.len())]).collect();
        let status = rng.u16(100..600);
        for endpoint in [Auth, Call, Upload, Attach] {
            let judged = verdict(endpoint, status, &body);
            assert!(endpoint != Upload || !matches!(judged, Verdict::Done(_)), "{status} {body}");
        }
    }
}
