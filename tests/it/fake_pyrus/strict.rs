//! Tests with a client that breaks the protocol. The client gets the same reply as from Pyrus, and the fake reports the
//! violation.

use std::io::{Read as _, Write as _};

use callspan::fake_pyrus::{FakeEndpoint, FakePyrus, FaultStep, PyrusFault, WorldChange};
use serde_json::{Value, json};

use crate::fake_pyrus::client::{
    PyrusSession, attach_body, auth, call_body, connect, host, multipart, path, post_json, request, with, without,
};
use crate::fake_pyrus::{fake, no_violation};

/// Checks that the fake has reported exactly one violation, with the words `what`. Removes it from the list.
fn caught(fake: &FakePyrus, what: &str) {
    let found = fake.violations();
    assert!(found.len() == 1 && found[0].contains(what), "expected {what:?}, found {found:?}");
    fake.clear_violations();
}

#[test]
fn wrong_json_members_are_caught() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let cases: [(Value, &str); 10] = [
        (with(call_body("1"), "from", "x".into()), "unknown member \"from\""),
        (with(call_body("2"), "internal_number", Value::Null), "\"internal_number\" is null"),
        (with(call_body("3"), "to_number", 7.into()), "\"to_number\" has the wrong type"),
        (
            with(call_body("4"), "mappings", json!([{"code": "CallDuration", "value": 5}])),
            "\"CallDuration\" is no string",
        ),
        (with(call_body("5"), "mappings", json!([{"code": "Rating", "value": "5", "x": "y"}])), "unknown member \"x\""),
        (with(call_body("6"), "mappings", json!([{"code": "RatingComment", "value": "я".repeat(301)}])), "over 300"),
        (
            with(call_body("7"), "mappings", json!([{"code": "CallEndTime", "value": "2021-12-23T00:11:32.5Z"}])),
            "not YYYY-MM-DDThh:mm:ssZ",
        ),
        (with(call_body("8"), "mappings", json!([7])), "no object"),
        (with(call_body("a"), "mappings", json!([{"code": "CallDuration", "value": "1 min"}])), "is no number"),
        (with(call_body("b"), "mappings", json!([{"code": "RatingDate", "value": "23.11.2026"}])), "not YYYY-MM-DD"),
    ];
    for (body, what) in cases {
        assert_eq!(session.call_with(&body).status, 200, "{what}");
        caught(&fake, what);
    }
    // In the example of the API's documentation, the rating is a number, so numbers are accepted.
    let fits = json!([{"code": "RatingComment", "value": "я".repeat(300)}, {"code": "Rating", "value": 5}]);
    session.call_with(&with(call_body("9"), "mappings", fits));
    no_violation(&fake);
}

#[test]
fn wrong_attach_members_are_caught() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    session.call("a");
    session.attach_with(&with(attach_body("a", &session.guid()), "task_id", 0.into()));
    caught(&fake, "\"task_id\" is 0");
    session.attach_with(&with(attach_body("a", &session.guid()), "task_id", "458732".into()));
    caught(&fake, "\"task_id\" has the wrong type");
    session.attach_with(&without(attach_body("a", &session.guid()), "account_id"));
    caught(&fake, "attach without \"account_id\"");
}

#[test]
fn wrong_methods_and_headers_are_caught() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let url = format!("{}integrations/call", fake.api_url());
    let bearer = format!("Bearer {}", session.token);
    let sent = std::cell::Cell::new(0);
    let send = |method: &str, headers: &[(&str, &str)]| {
        sent.set(sent.get() + 1);
        let body = call_body(&format!("call {}", sent.get())).to_string();
        request(method, &url, headers, body.as_bytes()).expect("a reply").status
    };
    let json = ("Content-Type", "application/json; charset=utf-8");
    assert_eq!(send("PUT", &[json, ("Authorization", &bearer)]), 405);
    caught(&fake, "method PUT");
    assert_eq!(send("POST", &[("Authorization", &bearer)]), 200);
    caught(&fake, "Content-Type");
    assert_eq!(send("POST", &[json]), 401);
    caught(&fake, "no Authorization");
    assert_eq!(send("POST", &[json, ("Authorization", &session.token)]), 401);
    caught(&fake, "no Authorization");
    assert_eq!(send("POST", &[json, ("Authorization", "Bearer of nothing")]), 401);
    caught(&fake, "never issued");
}

#[test]
fn secrets_in_the_wrong_place_are_caught_and_not_logged() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let url = format!("{}integrations/call?access_token={}", fake.api_url(), session.token);
    assert_eq!(post_json(&url, Some(&session.token), &call_body("a")).expect("a reply").status, 200);
    caught(&fake, "in the URL");
    let accounts = fake.auth_url().replace("auth", "integrations/call");
    assert_eq!(post_json(&accounts, Some(&session.token), &call_body("b")).expect("a reply").status, 404);
    caught(&fake, "accounts host");
    let login = json!({"login": "bot@callspan", "security_key": "secret"});
    post_json(&fake.auth_url(), Some(&session.token), &login).expect("a reply");
    assert!(fake.violations().iter().any(|v| v.contains("Authorization on auth")));
    let log = serde_json::to_string(&fake.log()).expect("the log is data");
    assert!(!log.contains(&session.token) && !log.contains("\"secret\""), "{log}");
    let state = serde_json::to_string(&fake.state()).expect("the state is data");
    assert!(!state.contains(&session.token) && !state.contains("\"secret\""));
}

#[test]
fn a_doubled_slash_is_caught() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let url = format!("{}/integrations/call", fake.api_url());
    assert_eq!(post_json(&url, Some(&session.token), &call_body("a")).expect("a reply").status, 404);
    caught(&fake, "// in the path");
}

#[test]
fn wrong_uploads_are_caught() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let bearer = format!("Bearer {}", session.token);
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "multipart/form-data; boundary=xYzZy")];
    let send = |body: &str| request("POST", &session.upload_url(), &headers, body.as_bytes()).expect("a reply").status;
    let good = String::from_utf8(multipart("a.wav", b"abc")).expect("text");
    assert_eq!(send(&good.replace("name=\"file\"", "name=\"x\"")), 200);
    caught(&fake, "part name \"x\"");
    assert_eq!(send(&good.replace("a.wav", "a.mp3")), 200);
    caught(&fake, "does not end with .wav");
    assert_eq!(send(&good.replace("a.wav", "я.wav")), 200);
    caught(&fake, "not ASCII");
    assert_eq!(send(&good.replace("audio/wav", "text/plain")), 200);
    caught(&fake, "odd Content-Type of the part");
    let two = good.replace("--xYzZy--", "--xYzZy\r\nContent-Disposition: form-data; name=\"file\"; filename=\"b.wav\"\r\nContent-Type: audio/wav\r\n\r\nx\r\n--xYzZy--");
    assert_eq!(send(&two), 200);
    caught(&fake, "2 parts");
    assert_eq!(send(&format!("{good}more")), 200);
    caught(&fake, "4 bytes after the closing boundary");
    assert_eq!(send(&good.replace("; filename=\"a.wav\"", "")), 400);
    caught(&fake, "without a file name");
    let chunk = format!("{:x}\r\n{good}\r\n0\r\n\r\n", good.len());
    let chunked = [headers[0], headers[1], ("Transfer-Encoding", "chunked")];
    let reply = request("POST", &session.upload_url(), &chunked, chunk.as_bytes()).expect("a reply");
    assert_eq!((reply.status, reply.json()["md5_hash"].as_str()), (200, Some("900150983cd24fb0d6963f7d28e17f72")));
    caught(&fake, "chunked upload");
}

#[test]
fn bytes_after_the_body_are_caught() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let body = call_body("a").to_string();
    let url = format!("{}integrations/call", fake.api_url());
    let mut stream = connect(&url);
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        path(&url),
        host(&url),
        session.token,
        body.len()
    );
    stream.write_all(format!("{head}{body}rubbish\r\n\r\n").as_bytes()).expect("sent");
    let mut replies = String::new();
    stream.read_to_string(&mut replies).expect("two replies, then the end");
    let heads: Vec<&str> = replies.matches("HTTP/1.1 ").collect();
    assert!(heads.len() == 2 && replies.contains("HTTP/1.1 200") && replies.contains("HTTP/1.1 400"), "{replies}");
    caught(&fake, "bytes after the body");
}

#[test]
fn an_auth_without_a_401_before_is_a_violation() {
    let fake = fake();
    PyrusSession::login(&fake);
    let session = PyrusSession::login(&fake);
    caught(&fake, "auth although the token is good");
    fake.change(WorldChange::DropAllTokens);
    assert_eq!(session.call("a").status, 401);
    PyrusSession::login(&fake);
    no_violation(&fake);
    fake.script(FakeEndpoint::Auth, PyrusFault::NoToken);
    fake.client_restarted();
    auth(&fake).expect("a reply");
    PyrusSession::login(&fake);
    no_violation(&fake); // after a reply without a token, a client may ask again
    fake.client_restarted();
    PyrusSession::login(&fake);
    no_violation(&fake);
}

#[test]
fn two_auths_at_once_are_caught() {
    let fake = fake();
    fake.script(
        FakeEndpoint::Auth,
        FaultStep::after(PyrusFault::HangBeforeHeaders(std::time::Duration::from_millis(400))).times(2),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| auth(&fake));
        scope.spawn(|| auth(&fake));
    });
    caught(&fake, "while another auth");
}

#[test]
fn an_auth_that_its_client_gave_up_is_no_longer_under_way() {
    let fake = fake();
    fake.script(FakeEndpoint::Auth, PyrusFault::HangBeforeHeaders(std::time::Duration::from_secs(60)));
    let body = "{\"login\":\"bot@callspan\",\"security_key\":\"secret\"}";
    let url = fake.auth_url();
    let mut stream = connect(&url);
    let head = format!(
        "POST {} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        path(&url),
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("sent");
    while fake.state().requests(FakeEndpoint::Auth) == 0 {
        std::thread::yield_now();
    }
    drop(stream);
    while fake.log().is_empty() {
        std::thread::yield_now();
    }
    PyrusSession::login(&fake);
    no_violation(&fake);
}

#[test]
fn only_a_repeat_after_a_definite_answer_is_a_violation() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    fake.script(FakeEndpoint::Call, FaultStep::after(PyrusFault::ServerError));
    assert_eq!(session.call("a").status, 500);
    assert_eq!(session.call("a").status, 200);
    no_violation(&fake);
    session.call("a");
    caught(&fake, "repeat of call");
    let bad = session.upload("a.txt", b"x").json()["guid"].as_str().expect("a guid").to_owned();
    fake.clear_violations();
    session.attach("a", &bad);
    session.attach("a", &bad);
    caught(&fake, "repeat of attach");
    fake.change(WorldChange::DisableWebhook);
    session.call("b");
    session.call("b"); // a client may try parked work again
    no_violation(&fake);
}

#[test]
fn a_request_during_the_pause_after_429_is_a_violation() {
    for (reset, retry_after, pause) in [
        (Some("7"), None, 7),
        (None, None, 60),
        (Some("0"), None, 1),
        (Some("-5"), None, 60),
        (Some("abc"), None, 60),
        (Some("9"), Some(3), 3),
    ] {
        let fake = crate::fake_pyrus::fake_with(|o| o.clock = callspan::fake_pyrus::ClockMode::Frozen);
        let session = PyrusSession::login(&fake);
        fake.script(FakeEndpoint::Call, PyrusFault::RateLimited { reset: reset.map(str::to_owned), retry_after });
        let reply = session.call("a");
        assert_eq!((reply.status, reply.header("x-ratelimit-reset")), (429, reset));
        fake.advance(std::time::Duration::from_millis(pause * 1000 - 1));
        session.guid();
        caught(&fake, "before the end of the pause");
        fake.advance(std::time::Duration::from_millis(1));
        assert_eq!(session.call("a").status, 200);
        no_violation(&fake);
    }
}
