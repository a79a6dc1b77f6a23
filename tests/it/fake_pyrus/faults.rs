//! Tests of each fault that the fake Pyrus can simulate: the bytes on the wire, and whether the request takes effect.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use callspan::fake_pyrus::{FakeEndpoint, FakePyrus, FaultStep, FaultTiming, PyrusFault, ScriptedBody, WorldChange};
use serde_json::json;

use crate::fake_pyrus::client::{HttpReply, PyrusSession, auth, connect, get, host, multipart, path};
use crate::fake_pyrus::{fake, no_violation};

/// Sends the registration of a call under a fault. Returns the reply, and whether the fake has registered the call.
fn call(
    fake: &FakePyrus,
    session: &PyrusSession<'_>,
    step: impl Into<FaultStep>,
) -> (std::io::Result<HttpReply>, bool) {
    let known = fake.state().calls.len();
    fake.script(FakeEndpoint::Call, step);
    let reply = session.try_call(&crate::fake_pyrus::client::call_body(&format!("call {known}")));
    (reply, fake.state().calls.len() > known)
}

#[test]
fn a_fault_before_does_no_work_and_a_fault_after_does() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    for (fault, status) in [
        (PyrusFault::ServerError, 500),
        (PyrusFault::BadGateway, 502),
        (PyrusFault::Unavailable, 503),
        (PyrusFault::GatewayTimeout, 504),
        (PyrusFault::unauthorized("revoked_token"), 401),
        (PyrusFault::Unauthorized { code: "revoked_token".into(), status: 403 }, 403),
        (PyrusFault::Unauthorized { code: "revoked_token".into(), status: 200 }, 200),
        (PyrusFault::error(400, "brand_new_error"), 400),
        (PyrusFault::empty(200), 200),
        (PyrusFault::Message202, 202),
        (PyrusFault::Redirect("http://127.0.0.1:9/".into()), 307),
        (PyrusFault::InvalidJson, 200),
        (PyrusFault::InvalidUtf8, 200),
        (PyrusFault::HugeBody(1000), 200),
    ] {
        for when in [FaultTiming::Before, FaultTiming::After] {
            let step = FaultStep { fault: fault.clone(), when: Some(when), times: 1 };
            let (reply, worked) = call(&fake, &session, step);
            let reply = reply.expect("a reply");
            assert_eq!((reply.status, worked), (status, when == FaultTiming::After), "{fault:?} {when:?}");
        }
    }
    no_violation(&fake);
}

#[test]
fn scripted_replies_have_the_bodies_they_should() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let reply = |fault: PyrusFault| call(&fake, &session, fault).0.expect("a reply");
    let html = reply(PyrusFault::BadGateway);
    assert!(
        html.body.starts_with(b"<html>") && html.header("content-type").is_some_and(|t| t.starts_with("text/html"))
    );
    assert_eq!(reply(PyrusFault::ServerError).code(), "server_error");
    assert_eq!(reply(PyrusFault::unauthorized("expired_token")).code(), "expired_token");
    assert_eq!(reply(PyrusFault::empty(500)).body, b"");
    assert_eq!(reply(PyrusFault::json(200, json!(null))).body, b"null");
    let raw = PyrusFault::Status {
        code: 418,
        body: ScriptedBody::Raw("tea".into()),
        headers: vec![("X-A".into(), "b\r\nX-C: d".into())],
    };
    let raw = reply(raw);
    assert_eq!(
        (raw.status, raw.body.as_slice(), raw.header("x-a"), raw.header("x-c")),
        (418, &b"tea"[..], Some("b  X-C: d"), None)
    );
    assert_eq!(reply(PyrusFault::Redirect("http://a/b".into())).header("location"), Some("http://a/b"));
    assert!(serde_json::from_slice::<serde_json::Value>(&reply(PyrusFault::InvalidJson).body).is_err());
    assert!(std::str::from_utf8(&reply(PyrusFault::InvalidUtf8).body).is_err());
    let huge = reply(PyrusFault::HugeBody(3_000_000));
    assert_eq!((huge.body.len(), huge.json().is_object()), (3_000_000, true));
    let limited = reply(PyrusFault::RateLimited { reset: Some("7".into()), retry_after: Some(3) });
    assert_eq!((limited.header("x-ratelimit-reset"), limited.header("retry-after")), (Some("7"), Some("3")));
    assert!(reply(PyrusFault::Message202).json()["Message"].is_string());
    let wrong = reply(PyrusFault::WrongContentType);
    assert_eq!((wrong.status, wrong.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(wrong.json()["task_id"].is_u64());
}

#[test]
fn connections_that_break_break_where_they_should() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    for when in [FaultTiming::Before, FaultTiming::After] {
        let step = |fault| FaultStep { fault, when: Some(when), times: 1 };
        let worked = when == FaultTiming::After;
        let (reply, did) = call(&fake, &session, step(PyrusFault::ResetAfterRequest));
        assert_eq!((reply.expect_err("reset").kind(), did), (ErrorKind::ConnectionReset, worked));
        let (reply, did) = call(&fake, &session, step(PyrusFault::CloseWithoutReply));
        assert_eq!((reply.expect_err("closed").kind(), did), (ErrorKind::UnexpectedEof, worked));
        let (reply, did) = call(&fake, &session, step(PyrusFault::TruncatedBody));
        let reply = reply.expect("a head");
        assert!(reply.status == 200 && reply.short && did == worked && reply.json().is_null());
        let (reply, did) = call(&fake, &session, step(PyrusFault::BadChunk));
        let reply = reply.expect("a head");
        assert_eq!((reply.header("transfer-encoding"), reply.header("content-length")), (Some("chunked"), None));
        assert!(String::from_utf8_lossy(&reply.body).contains("\r\nzz\r\n") && did == worked);
    }
    no_violation(&fake);
}

#[test]
fn hangs_and_drips_take_their_time() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let wait = Duration::from_millis(300);
    let timed = |step: FaultStep| {
        let began = fake.now();
        let (reply, did) = call(&fake, &session, step);
        (reply, did, fake.now() - began)
    };
    let (reply, did, took) = timed(FaultStep::after(PyrusFault::HangBeforeHeaders(wait)));
    assert!(reply.expect("a reply").status == 200 && did && took >= wait);
    let (reply, did, took) = timed(FaultStep::before(PyrusFault::HangBeforeHeaders(wait)));
    assert!(reply.is_err() && !did && took >= wait);
    let (reply, did, took) = timed(FaultStep::after(PyrusFault::HangAfterHeaders(wait)));
    assert!(reply.expect("a reply").json()["task_id"].is_u64() && did && took >= wait);
    let (reply, did, took) = timed(FaultStep::before(PyrusFault::HangAfterHeaders(wait)));
    let reply = reply.expect("a head");
    assert!(reply.status == 200 && reply.body.is_empty() && reply.short && !did && took >= wait);
    // The reply to the registration of a call has about 140 bytes.
    let (reply, did, took) = timed(FaultStep::new(PyrusFault::Drip(400)));
    assert!(
        reply.expect("a reply").json()["task_id"].is_u64() && did && took >= Duration::from_millis(200),
        "{took:?}"
    );
    let (reply, did, _) = timed(FaultStep::before(PyrusFault::Drip(10_000)));
    assert!(reply.expect("a reply").status == 500 && !did);
}

#[test]
fn an_upload_can_be_cut_stalled_or_read_slowly() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    fake.script(FakeEndpoint::Upload, PyrusFault::ResetAfterUploadBytes(1000));
    assert!(session.try_upload("a.wav", &[1; 4_000_000]).is_err());
    assert!(fake.state().files.is_empty());
    fake.script(FakeEndpoint::Upload, PyrusFault::SlowRead(100_000));
    let began = fake.now();
    assert_eq!(session.upload("a.wav", &[1; 40_000]).status, 200);
    assert!(fake.now() - began >= Duration::from_millis(380));
    fake.script(FakeEndpoint::Upload, PyrusFault::StallUploadAfter(10));
    let mut stream = start_upload(&session, 64 * 1024 * 1024);
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a time-out can be set");
    let piece = vec![0; 1 << 20];
    let written = (0..64).take_while(|_| stream.write_all(&piece).is_ok()).count();
    assert!(written < 64, "the socket's buffers do not hold 64 MiB");
    assert_eq!(fake.state().files.len(), 1);
    no_violation(&fake);
}

/// Sends the head of an upload of `size` bytes, and the header of its first part.
fn start_upload(session: &PyrusSession<'_>, size: usize) -> TcpStream {
    let url = session.upload_url();
    let mut stream = connect(&url);
    let frame = multipart("a.wav", b"");
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: multipart/form-data; boundary=xYzZy\r\nContent-Length: {}\r\n\r\n",
        path(&url),
        host(&url),
        session.token,
        frame.len() + size
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let split = frame.windows(4).position(|w| w == b"\r\n\r\n").expect("a part header") + 4;
    stream.write_all(&frame[..split]).expect("sent");
    stream
}

#[test]
fn early_refusals_come_before_the_body() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    for (fault, status) in [(PyrusFault::UnauthorizedEarly, 401), (PyrusFault::TooLargeEarly, 413)] {
        fake.script(FakeEndpoint::Upload, fault);
        let mut stream = start_upload(&session, 50_000_000);
        let reply =
            crate::fake_pyrus::client::read_reply(&mut stream).expect("a reply although nothing of the body was sent");
        assert_eq!((reply.status, reply.header("connection")), (status, Some("close")));
        let piece = vec![0; 1 << 20];
        let broke = (0..50).any(|_| stream.write_all(&piece).is_err());
        assert!(broke, "the connection ends while the client writes");
    }
    assert_eq!(session.upload("a.wav", b"x").status, 200);
    no_violation(&fake);
}

#[test]
fn replies_of_upload_and_auth_lose_or_change_a_detail() {
    let fake = fake();
    fake.script(FakeEndpoint::Auth, PyrusFault::NoToken);
    assert!(auth(&fake).expect("a reply").json().get("access_token").is_none());
    let foreign = PyrusFault::HttpApiUrl { api_url: "http://pyrus.example/v4/".into(), files_url: None };
    fake.script(FakeEndpoint::Auth, foreign);
    let body = auth(&fake).expect("a reply").json();
    assert_eq!(
        (body["api_url"].as_str(), body["files_url"].as_str()),
        (Some("http://pyrus.example/v4/"), Some(fake.files_url().as_str()))
    );
    fake.change(WorldChange::DropAllTokens);
    fake.client_restarted();
    let session = PyrusSession::login(&fake);
    fake.script(FakeEndpoint::Upload, PyrusFault::WrongMd5);
    let wrong = session.upload("a.wav", b"abc").json();
    assert!(wrong["guid"].is_string() && wrong["md5_hash"] != "900150983cd24fb0d6963f7d28e17f72");
    fake.script(FakeEndpoint::Upload, PyrusFault::NoGuid);
    let none = session.upload("a.wav", b"abc").json();
    assert!(none.get("guid").is_none() && none["md5_hash"] == "900150983cd24fb0d6963f7d28e17f72");
    assert_eq!(fake.state().files.len(), 2);
    no_violation(&fake);
}

#[test]
fn the_world_changes_before_or_after_a_request() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    fake.script(FakeEndpoint::Call, FaultStep::after(PyrusFault::Change(WorldChange::DisableWebhook)));
    assert_eq!(session.call("a").status, 200);
    assert_eq!(session.call("b").code(), "webhook_is_disabled");
    fake.script(FakeEndpoint::Call, PyrusFault::Change(WorldChange::EnableWebhook));
    assert_eq!(session.call("b").status, 200);
    let guid = session.guid();
    fake.script(FakeEndpoint::Attach, PyrusFault::Change(WorldChange::DeleteFile(None)));
    assert_eq!(session.attach("a", &guid).code(), "unrecognized_attachment_id");
    fake.script(FakeEndpoint::Upload, PyrusFault::Change(WorldChange::ClockAdvance(Duration::from_secs(3600))));
    assert_eq!(session.upload("a.wav", b"x").code(), "expired_token");
    let session = PyrusSession::login(&fake);
    fake.script(FakeEndpoint::Call, PyrusFault::Change(WorldChange::DropAllTokens));
    assert_eq!(session.call("c").code(), "revoked_token");
    no_violation(&fake);
}

#[test]
fn steps_are_taken_in_order_each_by_its_endpoint_for_their_times() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    fake.script(FakeEndpoint::Call, FaultStep::new(PyrusFault::ServerError).times(2));
    fake.script(FakeEndpoint::Call, PyrusFault::Unavailable);
    session.guid();
    let statuses: Vec<u16> = (0..4).map(|_| session.call("a").status).collect();
    assert_eq!(statuses, [500, 500, 503, 200]);
    fake.script(FakeEndpoint::Upload, FaultStep::new(PyrusFault::BadGateway).forever());
    assert!((0..20).all(|_| session.upload("a.wav", b"x").status == 502));
    fake.clear_script();
    assert_eq!(session.upload("a.wav", b"x").status, 200);
    fake.script(FakeEndpoint::Other, PyrusFault::ServerError);
    assert_eq!(get(&fake.files_url()).status, 500);
}

#[test]
fn a_closed_listener_refuses_and_comes_back_on_its_port() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let mut idle = connect(&fake.api_url());
    let began = fake.now();
    fake.script(FakeEndpoint::Call, PyrusFault::RefuseConnections(Duration::from_millis(1500)));
    assert!(crate::fake_pyrus::client::read_reply(&mut idle).is_err(), "kept-alive connections are closed too");
    let refused = TcpStream::connect(host(&fake.api_url())).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(get(&fake.auth_url()).status, 405, "other hosts listen");
    let mut reply = None;
    while reply.is_none() && fake.now() - began < Duration::from_secs(20) {
        reply = TcpStream::connect(host(&fake.api_url())).ok();
    }
    assert!(reply.is_some() && fake.now() - began >= Duration::from_millis(1500));
    assert_eq!(session.call("a").status, 200);
    assert_eq!((fake.state().requests(FakeEndpoint::Call), fake.state().steps_left), (1, 0));
}

#[test]
fn a_dropped_fake_no_longer_listens_and_ends_what_hangs() {
    let fake = fake();
    let address = host(&fake.auth_url()).to_owned();
    fake.script(FakeEndpoint::Upload, PyrusFault::StallUploadAfter(0));
    let mut hanging = start_upload(&PyrusSession::login(&fake), 10);
    while fake.state().requests(FakeEndpoint::Upload) == 0 {
        std::thread::yield_now();
    }
    drop(fake);
    assert!(TcpStream::connect(address).is_err());
    assert!(crate::fake_pyrus::client::read_reply(&mut hanging).is_err());
}
