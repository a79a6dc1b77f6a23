//! Tests of HTTP framing: permitted requests, and requests of a broken or hostile client.

use std::io::{Read as _, Write as _};

use callspan::fake_pyrus::FakeEndpoint;

use crate::fake_pyrus::client::{PyrusSession, call_body, connect, host, path, read_reply, request};
use crate::fake_pyrus::{fake, fake_with, no_violation};

#[test]
fn requests_can_follow_each_other_on_one_connection_even_unasked() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let url = format!("{}integrations/call", fake.api_url());
    let mut all = String::new();
    for (n, connection) in [(1, "keep-alive"), (2, "close")] {
        let body = call_body(&format!("call {n}")).to_string();
        all.push_str(&format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            path(&url),
            host(&url),
            session.token,
            body.len()
        ));
    }
    let mut stream = connect(&url);
    stream.write_all(all.as_bytes()).expect("sent");
    let mut replies = String::new();
    stream.read_to_string(&mut replies).expect("two replies, then the end");
    assert_eq!(replies.matches("HTTP/1.1 200 OK").count(), 2);
    no_violation(&fake);
}

#[test]
fn a_request_split_at_every_byte_is_the_same_request() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let url = format!("{}integrations/call", fake.api_url());
    let body = call_body("a").to_string();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        path(&url),
        host(&url),
        session.token,
        body.len()
    );
    let mut stream = connect(&url);
    stream.set_nodelay(true).expect("an option");
    for byte in format!("{head}{body}").bytes() {
        stream.write_all(&[byte]).expect("sent");
    }
    assert_eq!(read_reply(&mut stream).expect("a reply").status, 200);
    no_violation(&fake);
}

#[test]
fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let fake = fake();
    let url = fake.auth_url();
    let body = "{\"login\":\"bot@callspan\",\"security_key\":\"secret\"}";
    let mut stream = connect(&url);
    let head = format!(
        "POST {} HTTP/1.1\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        path(&url),
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).expect("an interim reply");
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).expect("sent");
    assert_eq!(read_reply(&mut stream).expect("a reply").status, 200);
}

#[test]
fn chunked_json_is_read_and_bad_chunks_are_refused() {
    let fake = fake();
    let headers = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")];
    let send = |body: &str| request("POST", &fake.auth_url(), &headers, body.as_bytes()).expect("a reply").status;
    let chunks =
        "18\r\n{\"login\":\"bot@callspan\",\r\n18;x=y\r\n\"security_key\":\"secret\"}\r\n0\r\nTrailer: x\r\n\r\n";
    assert_eq!(send(chunks), 200);
    no_violation(&fake);
    assert_eq!(send("zz\r\n"), 400);
    assert_eq!(fake.violations().len(), 1);
}

#[test]
fn what_is_no_http_is_refused_and_bounded() {
    let fake = fake();
    let answer = |bytes: &[u8]| {
        let mut stream = connect(&fake.auth_url());
        let _ = stream.write_all(bytes); // the fake may close the connection before it has everything
        read_reply(&mut stream).map(|r| r.status).unwrap_or(0)
    };
    assert_eq!(answer(b"\x16\x03\x01\x02\x00\x01\r\n\r\n"), 400);
    assert_eq!(answer(b"GET / HTTP/3\r\n\r\n"), 400);
    assert_eq!(answer(b"GET / HTTP/1.1\r\nno colon\r\n\r\n"), 400);
    assert_eq!(answer(b"POST /api/v4/auth HTTP/1.1\r\nContent-Length: many\r\n\r\n"), 400);
    let endless = [b"GET / HTTP/1.1\r\n".as_slice(), &b"A: b\r\n".repeat(20_000)].concat();
    assert!(matches!(answer(&endless), 400 | 0));
    assert_eq!(fake.state().requests(FakeEndpoint::Auth), 1);
}

#[test]
fn a_json_body_over_1_mib_is_refused_and_not_kept() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let mut body = call_body("a");
    body["from_number"] = "7".repeat(1_100_000).into();
    let reply = session.call_with(&body);
    assert_eq!((reply.status, reply.code().as_str()), (400, "too_large_request_length"));
    assert!(fake.state().tasks.is_empty());
}

#[test]
fn an_upload_that_its_client_abandons_is_no_file_and_no_violation() {
    let fake = fake_with(|o| o.max_upload = 1 << 30);
    let session = PyrusSession::login(&fake);
    let url = session.upload_url();
    let mut stream = connect(&url);
    let head = format!(
        "POST {} HTTP/1.1\r\nAuthorization: Bearer {}\r\nContent-Type: multipart/form-data; boundary=xYzZy\r\nContent-Length: 1000\r\n\r\n--xYzZy\r\n",
        path(&url),
        session.token
    );
    stream.write_all(head.as_bytes()).expect("sent");
    drop(stream);
    while fake.log().len() < 2 {
        std::thread::yield_now();
    }
    let log = fake.log();
    let last = log.last().expect("an entry");
    assert_eq!((last.status, last.outcome.as_str()), (None, "the client left after 9 bytes of the body"));
    assert!(fake.state().files.is_empty());
    no_violation(&fake);
}
