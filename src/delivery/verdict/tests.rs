use super::PyrusEndpoint::{Attach, Auth, Call, Upload};
use super::*;

const BACKOFF: ResponseVerdict = ResponseVerdict::Backoff { effect: RequestEffect::None, limit: None };
const AMBIGUOUS: ResponseVerdict = ResponseVerdict::Backoff { effect: RequestEffect::Possible, limit: None };

fn response(status: u16, body: &str) -> PyrusResponse {
    PyrusResponse { status, rate: RateLimitHeaders::default(), body: body.into(), sent_md5: None }
}

fn verdict(endpoint: PyrusEndpoint, status: u16, body: &str) -> ResponseVerdict {
    assess(endpoint, &RequestOutcome::Response(response(status, body))).verdict
}

fn limited(n: u32, otherwise: VerdictFallback) -> ResponseVerdict {
    ResponseVerdict::Backoff {
        effect: RequestEffect::None,
        limit: Some(RetryLimit { retries: n, fallback: otherwise }),
    }
}

fn done() -> ResponseVerdict {
    ResponseVerdict::Done(ResponseData::default())
}

/// Returns each documented code with its status, its expected verdict, and the endpoint where it can occur. `None`
/// means all endpoints except `auth`.
fn table() -> Vec<(&'static str, u16, Option<PyrusEndpoint>, ResponseVerdict)> {
    use VerdictFallback as Fallback;
    vec![
        ("unrecognized_call_id", 400, Some(Attach), ResponseVerdict::Reregister(2)),
        ("unrecognized_attachment_id", 400, Some(Attach), ResponseVerdict::Reupload),
        ("unsupported_record_file_format", 400, Some(Attach), ResponseVerdict::Dead),
        ("unrecognized_account_id", 400, None, ResponseVerdict::Park),
        ("webhook_is_disabled", 400, None, ResponseVerdict::Park),
        ("required_parameters_not_specified", 400, None, ResponseVerdict::Dead),
        ("invalid_credentials", 401, Some(Auth), ResponseVerdict::Park),
        ("invalid_credentials", 401, None, ResponseVerdict::Park),
        ("authorization_error", 401, None, ResponseVerdict::Reauth(Fallback::Park)),
        ("authorization_error", 401, Some(Auth), ResponseVerdict::Park),
        ("invalid_application_id", 401, None, ResponseVerdict::Reauth(Fallback::Park)),
        ("token_not_specified", 401, None, ResponseVerdict::Reauth(Fallback::Dead)),
        ("token_not_specified", 401, Some(Auth), ResponseVerdict::Park),
        ("expired_token", 401, None, ResponseVerdict::Reauth(Fallback::Backoff)),
        ("invalid_token", 401, None, ResponseVerdict::Reauth(Fallback::Backoff)),
        ("revoked_token", 401, None, ResponseVerdict::Reauth(Fallback::Backoff)),
        ("account_blocked", 401, None, ResponseVerdict::Park),
        ("account_blocked", 401, Some(Auth), ResponseVerdict::Park),
        ("access_denied", 403, None, ResponseVerdict::Park),
        ("access_denied_form", 403, None, ResponseVerdict::Park),
        ("access_denied_task", 403, None, ResponseVerdict::Park),
        ("access_denied_file", 403, None, ResponseVerdict::Park),
        ("access_denied_person", 403, None, ResponseVerdict::Park),
        ("form_is_deleted", 403, None, ResponseVerdict::Park),
        ("task_migrated", 400, None, ResponseVerdict::Park),
        ("option_is_not_supported", 400, None, ResponseVerdict::Park),
        ("conflict", 400, None, limited(3, Fallback::Park)),
        ("unrecognized_task_id", 400, Some(Attach), ResponseVerdict::Reregister(1)),
        ("form_has_no_task", 400, Some(Attach), ResponseVerdict::Reregister(1)),
        ("unrecognized_task_id", 400, Some(Call), ResponseVerdict::Park),
        ("too_many_comments", 400, None, ResponseVerdict::Park),
        ("too_many_attachments", 400, None, ResponseVerdict::Park),
        ("file_limit_exceeded", 400, None, ResponseVerdict::Park),
        ("limit_exceeded", 400, None, ResponseVerdict::Park),
        ("task_limit_exceeded", 400, None, ResponseVerdict::Park),
        ("too_large_request_length", 400, Some(Upload), ResponseVerdict::TooLarge),
        ("attachment_too_big", 400, Some(Upload), ResponseVerdict::TooLarge),
        ("empty_file", 400, Some(Upload), ResponseVerdict::Dead),
        ("no_file_in_request", 400, Some(Upload), limited(1, Fallback::Dead)),
        ("bad_multipart_content", 400, Some(Upload), limited(1, Fallback::Dead)),
        ("max_file_name_length_exceeded", 400, Some(Upload), limited(1, Fallback::Dead)),
        ("invalid_json", 400, None, ResponseVerdict::Dead),
        ("empty_body", 400, None, ResponseVerdict::Dead),
        ("invalid_request", 400, None, ResponseVerdict::Dead),
        ("validation_error", 400, None, ResponseVerdict::Dead),
        ("required_parameter_missing", 400, None, ResponseVerdict::Dead),
        ("invalid_request_encoding", 400, None, ResponseVerdict::Dead),
        ("invalid_input", 400, None, ResponseVerdict::Dead),
        ("value_is_too_long", 400, None, ResponseVerdict::Dead),
        ("invalid_json", 400, Some(Auth), ResponseVerdict::Park), // a bug: a person must act
        ("invalid_value_format", 400, Some(Call), ResponseVerdict::WithoutFields),
        ("invalid_value_format", 400, Some(Attach), ResponseVerdict::WithoutFields),
        ("invalid_value_format", 400, Some(Upload), ResponseVerdict::Dead),
        ("too_many_requests", 429, None, ResponseVerdict::Wait(None)),
        ("too_many_requests", 429, Some(Auth), ResponseVerdict::Wait(None)),
        ("server_error", 500, Some(Call), AMBIGUOUS),
        ("server_error", 500, Some(Attach), AMBIGUOUS),
        ("server_error", 500, Some(Upload), BACKOFF),
        ("server_error", 500, Some(Auth), BACKOFF),
    ]
}

#[test]
fn error_code_decides_the_verdict_whatever_the_status() {
    for (code, status, endpoint, expected) in table() {
        let endpoints = endpoint.map_or(vec![Call, Upload, Attach], |e| vec![e]);
        for endpoint in endpoints {
            // Pyrus may send a documented code with another status than the documented one. The verdict must be the
            // same.
            for status in [status, 200, 400] {
                let body = format!(r#"{{"error":"Ошибка","error_code":"{code}"}}"#);
                assert_eq!(verdict(endpoint, status, &body), expected, "{code} at {endpoint:?} as {status}");
            }
        }
    }
}

#[test]
fn refused_field_codes_count_as_success() {
    let with =
        r#"{"task_id":7,"error_code":"invalid_field_mapping_code","error":"Unacceptable field codes: Foo, Bar"}"#;
    let without = r#"{"error_code":"invalid_field_mapping_code","error":"Unacceptable field codes: Foo, Bar"}"#;
    for status in [200, 400] {
        for (body, task_id) in [(with, Some(7)), (without, None)] {
            let text = Some(String::from("Unacceptable field codes: Foo, Bar"));
            let expected = ResponseVerdict::Done(ResponseData {
                task_id,
                unacceptable_fields: text,
                has_warning: true,
                ..ResponseData::default()
            });
            assert_eq!(verdict(Call, status, body), expected);
            assert_eq!(verdict(Attach, status, body), expected);
        }
    }
    assert_eq!(verdict(Upload, 400, without), ResponseVerdict::Park);
}

#[test]
fn unknown_code_parks_except_with_a_task_or_server_error() {
    let body = r#"{"error_code":"brand_new_error","error":"?"}"#;
    for endpoint in [Call, Upload, Attach] {
        assert_eq!(verdict(endpoint, 400, body), ResponseVerdict::Park);
        assert_eq!(verdict(endpoint, 200, body), ResponseVerdict::Park);
        assert_eq!(verdict(endpoint, 401, body), ResponseVerdict::Reauth(VerdictFallback::Park));
        assert_eq!(verdict(endpoint, 429, body), ResponseVerdict::Wait(None));
    }
    assert_eq!(verdict(Call, 500, body), AMBIGUOUS);
    assert_eq!(verdict(Upload, 500, body), BACKOFF);
    let with_task = r#"{"task_id":"7","error_code":"brand_new_error"}"#;
    assert_eq!(
        verdict(Call, 200, with_task),
        ResponseVerdict::Done(ResponseData { task_id: Some(7), has_warning: true, ..ResponseData::default() })
    );
}

#[test]
fn success_status_without_code_is_assessed_by_its_body() {
    for empty in ["", "  \n", "null", "{}"] {
        assert_eq!(verdict(Attach, 200, empty), done(), "{empty:?}");
        assert_eq!(verdict(Call, 200, empty), done(), "{empty:?}: go on by external_id");
        assert_eq!(verdict(Upload, 200, empty), BACKOFF, "{empty:?}");
        assert_eq!(verdict(Auth, 200, empty), limited(3, VerdictFallback::Park), "{empty:?}");
    }
    let task = ResponseVerdict::Done(ResponseData { task_id: Some(458_732), ..ResponseData::default() });
    for body in [
        r#"{"task_id":458732,"is_new_task":false,"responsible_person":{}}"#,
        r#"{"task_id":"458732","responsible_person":null,"unheard_of":[1]}"#,
        r#"{"task_id":458732,"error":"only a text"}"#,
    ] {
        assert_eq!(verdict(Call, 200, body), task, "{body}");
    }
    assert_eq!(verdict(Call, 200, r#"{"task_id":0}"#), done());
    assert_eq!(verdict(Call, 200, r#"{"error":"only a text"}"#), ResponseVerdict::Park);
    assert_eq!(verdict(Attach, 200, r#"{"error":"only a text"}"#), ResponseVerdict::Park);
    assert_eq!(verdict(Auth, 200, r#"{"access_token":"x"}"#), done());
    assert_eq!(verdict(Auth, 200, r#"{"access_token":""}"#), limited(3, VerdictFallback::Park));
    for endpoint in [Call, Upload, Attach, Auth] {
        for status in [200, 202] {
            assert_eq!(verdict(endpoint, status, r#"{"Message":"No HTTP resource was found"}"#), ResponseVerdict::Park);
        }
    }
}

#[test]
fn invalid_json_is_repeated_five_times_as_ambiguous() {
    for body in ["<html>", "{\"task_id\":", "[1]", "\"x\""] {
        let expected = |effect| ResponseVerdict::Backoff {
            effect,
            limit: Some(RetryLimit { retries: 5, fallback: VerdictFallback::Park }),
        };
        assert_eq!(verdict(Call, 200, body), expected(RequestEffect::Possible), "{body}");
        assert_eq!(verdict(Attach, 200, body), expected(RequestEffect::Possible), "{body}");
        assert_eq!(verdict(Upload, 200, body), expected(RequestEffect::None), "{body}");
    }
    let not_utf8 = PyrusResponse { body: vec![b'{', b'"', 0xff, b'"', b':', b'1', b'}'], ..response(200, "") };
    assert!(matches!(assess(Call, &RequestOutcome::Response(not_utf8)).verdict, ResponseVerdict::Backoff { .. }));
}

#[test]
fn status_without_code_has_its_verdict() {
    for (status, body, expected) in [
        (301, "", ResponseVerdict::Park),
        (302, "<html>", ResponseVerdict::Park),
        (307, "", ResponseVerdict::Park),
        (308, "", ResponseVerdict::Park),
        (400, "<html>", limited(1, VerdictFallback::Dead)),
        (400, r#"{"error":"text"}"#, ResponseVerdict::Park),
        (401, "<html>", ResponseVerdict::Reauth(VerdictFallback::Backoff)),
        (403, "<html>", ResponseVerdict::Park),
        (404, "<html>", ResponseVerdict::Park),
        (404, r#"{"Message":"No HTTP resource"}"#, ResponseVerdict::Park),
        (405, "", ResponseVerdict::Park),
        (408, "", BACKOFF),
        (425, "", BACKOFF),
        (429, "", ResponseVerdict::Wait(None)),
        (500, "", AMBIGUOUS),
        (502, "<html>", AMBIGUOUS),
        (503, "<html>", BACKOFF), // "normally not processed"
        (504, "<html>", AMBIGUOUS),
        (599, "", AMBIGUOUS),
    ] {
        assert_eq!(verdict(Call, status, body), expected, "call {status} {body}");
        assert_eq!(verdict(Attach, status, body), expected, "attach {status} {body}");
        let upload = if expected == AMBIGUOUS { BACKOFF } else { expected }; // uploads may be repeated
        assert_eq!(verdict(Upload, status, body), upload, "upload {status} {body}");
    }
    for (endpoint, expected) in
        [(Upload, ResponseVerdict::TooLarge), (Attach, ResponseVerdict::TooLarge), (Call, ResponseVerdict::Dead)]
    {
        assert_eq!(verdict(endpoint, 413, "<html>"), expected);
    }
    assert_eq!(verdict(Auth, 413, ""), ResponseVerdict::Park);
    assert_eq!(verdict(Auth, 401, ""), limited(3, VerdictFallback::Park));
}

#[test]
fn without_a_response_only_a_sent_request_is_ambiguous() {
    let failed = |endpoint, failure: RequestFailure| assess(endpoint, &RequestOutcome::Failed(failure));
    let words = || String::from("words");
    for endpoint in [Auth, Call, Upload, Attach] {
        let assessment = failed(endpoint, RequestFailure::NotSent(words()));
        assert_eq!((assessment.verdict, assessment.is_unreachable), (BACKOFF, true));
        assert_eq!(failed(endpoint, RequestFailure::Refused(words())).verdict, ResponseVerdict::Park);
    }
    assert_eq!(failed(Call, RequestFailure::Unanswered(words())).verdict, AMBIGUOUS);
    assert_eq!(failed(Attach, RequestFailure::Unanswered(words())).verdict, AMBIGUOUS);
    assert_eq!(failed(Upload, RequestFailure::Unanswered(words())).verdict, BACKOFF);
    assert_eq!(failed(Upload, RequestFailure::NoFile(words())).verdict, ResponseVerdict::Park);
    let unreadable = failed(Upload, RequestFailure::FileError(words()));
    assert_eq!((unreadable.verdict, unreadable.is_unreachable), (limited(12, VerdictFallback::Park), false));
}

#[test]
fn upload_succeeds_only_with_the_md5_of_the_sent_bytes() {
    let assessment = |body: &str, sent: Option<&str>| {
        assess(
            Upload,
            &RequestOutcome::Response(PyrusResponse { sent_md5: sent.map(String::from), ..response(200, body) }),
        )
        .verdict
    };
    let gain = ResponseVerdict::Done(ResponseData {
        guid: Some("g".into()),
        md5: Some("bb36f9".into()),
        ..ResponseData::default()
    });
    assert_eq!(assessment(r#"{"guid":"g","md5_hash":"BB36F9"}"#, Some("bb36f9")), gain); // Pyrus sends upper case, too
    assert_eq!(assessment(r#"{"guid":"g"}"#, Some("bb36f9")), gain);
    assert_eq!(assessment(r#"{"guid":"g","md5_hash":"aaaa"}"#, Some("bb36f9")), BACKOFF);
    assert_eq!(assessment(r#"{"guid":"g","md5_hash":"bb36f9"}"#, None), BACKOFF, "answered before all was sent");
    assert_eq!(assessment(r#"{"md5_hash":"bb36f9"}"#, Some("bb36f9")), BACKOFF, "no guid");
}

#[test]
fn wait_comes_from_retry_after_or_the_reset_header() {
    let waited = |reset: Option<&str>, retry: Option<&str>| {
        let rate =
            RateLimitHeaders { remaining: None, reset: reset.map(String::from), retry_after: retry.map(String::from) };
        assess(Call, &RequestOutcome::Response(PyrusResponse { rate, ..response(429, "") })).verdict
    };
    let secs = |s| ResponseVerdict::Wait(Some(Duration::from_secs(s)));
    assert_eq!(waited(Some("7"), None), secs(7));
    assert_eq!(waited(Some("7"), Some("3")), secs(3));
    assert_eq!(waited(Some("7"), Some("Mon, 23 Nov 2026 07:00:00 GMT")), secs(7)); // a date is not parsed
    assert_eq!(waited(Some("0"), None), secs(1)); // raised to the minimum pause
    assert_eq!(waited(Some("100000"), None), secs(900)); // cut to the maximum pause
    for nothing in [None, Some("-5"), Some("abc"), Some("")] {
        assert_eq!(waited(nothing, None), ResponseVerdict::Wait(None));
    }
}

#[test]
fn reason_names_the_remedy_and_log_code_has_no_free_text() {
    let body = r#"{"error":"number +79774221338\u0000\n is bad","error_code":"invalid_credentials"}"#;
    let assessment = assess(Auth, &RequestOutcome::Response(response(401, body)));
    assert_eq!(assessment.code, "HTTP 401 invalid_credentials");
    assert!(
        assessment.reason.starts_with("Pyrus refuses the login: check login and security_key"),
        "{}",
        assessment.reason
    );
    assert!(assessment.reason.chars().all(|c| !c.is_control()));
    let odd = assess(Call, &RequestOutcome::Response(response(400, r#"{"error_code":"+7977 \n"}"#)));
    assert_eq!(odd.code, "HTTP 400 (odd error_code)");
    let long = format!(r#"{{"error_code":"x","error":"{}"}}"#, "я".repeat(10_000));
    assert!(assess(Call, &RequestOutcome::Response(response(400, &long))).reason.chars().count() <= 600);
}

#[test]
fn random_responses_neither_panic_nor_count_as_an_upload() {
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
            let assessment = verdict(endpoint, status, &body);
            assert!(endpoint != Upload || !matches!(assessment, ResponseVerdict::Done(_)), "{status} {body}");
        }
    }
}

/// Every `error_code` that Pyrus is known to send.
const KNOWN_CODES: [&str; 44] = [
    "unrecognized_call_id",
    "invalid_field_mapping_code",
    "unrecognized_attachment_id",
    "unsupported_record_file_format",
    "unrecognized_account_id",
    "webhook_is_disabled",
    "required_parameters_not_specified",
    "invalid_credentials",
    "authorization_error",
    "invalid_application_id",
    "token_not_specified",
    "expired_token",
    "invalid_token",
    "revoked_token",
    "account_blocked",
    "access_denied",
    "access_denied_form",
    "access_denied_task",
    "form_is_deleted",
    "task_migrated",
    "conflict",
    "option_is_not_supported",
    "unrecognized_task_id",
    "form_has_no_task",
    "too_many_comments",
    "too_many_attachments",
    "file_limit_exceeded",
    "limit_exceeded",
    "task_limit_exceeded",
    "too_large_request_length",
    "attachment_too_big",
    "empty_file",
    "no_file_in_request",
    "bad_multipart_content",
    "max_file_name_length_exceeded",
    "invalid_json",
    "empty_body",
    "invalid_request",
    "validation_error",
    "required_parameter_missing",
    "invalid_value_format",
    "value_is_too_long",
    "too_many_requests",
    "server_error",
];

#[test]
fn every_known_error_code_has_advice_of_its_own() {
    for code in KNOWN_CODES {
        let advice = remedy(Some(code), 400).unwrap_or_else(|| panic!("no advice for {code}"));
        assert!(advice.contains(": "), "{code}: a problem, then what to do: {advice}");
    }
    assert_eq!(remedy(Some("brand_new_error"), 400), None);
}
