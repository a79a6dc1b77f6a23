//! Attacks on the console, one test for each kind.

use std::io::{Read as _, Write as _};

use super::{FOREIGN, OWN, Office, call};
use crate::console::accounts::AccountRole;
use crate::journal::{CallStage, Journal};

#[test]
fn session_of_an_attacker_is_not_taken_over_at_sign_in() {
    let office = Office::with_calls(&["120"]);
    office.add("anna", AccountRole::Admin, &[]);
    // Session fixation: an attacker sets a cookie in the victim's browser. The sign-in creates a new cookie, and the
    // attacker's cookie gives no access.
    let planted = format!("callspan={}", "a".repeat(64));
    let head = format!("Cookie: {planted}\r\n");
    let answer = office.ask("POST /login", &head, "user=anna&password=correct+horse");
    let cookie = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(!cookie.starts_with(&planted), "{cookie}");
    assert_eq!(office.get("/api/v1/calls", &planted).status, 401);
    // Two sign-ins of one user are two sessions with different cookies.
    let [first, second] = [office.sign_in("anna"), office.sign_in("anna")];
    assert_ne!(first, second);
    // When a user gets a new password, all sessions of the user end.
    office.add("anna", AccountRole::Admin, &[]);
    assert_eq!(office.get("/api/v1/calls", &first).status, 401);
}

#[test]
fn text_that_a_caller_controls_is_never_markup() {
    let office = Office::with_calls(&["120"]);
    let evil = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}</title>\u{202e}";
    let mut record = call(office.dir.path(), 7, "120");
    let text = || Some(evil.to_owned());
    (record.from, record.to, record.internal) = (text(), text(), text());
    (record.from_name, record.to_name, record.reason_header) = (text(), text(), text());
    (record.from_uri, record.to_uri, record.request_uri) = (text(), text(), text());
    (record.diverted_from, record.called_party, record.verdict_reason) = (text(), text(), text());
    record.delivery.detail = text();
    record.headers.insert(evil.to_owned(), evil.to_owned());
    let leg = serde_json::json!({ "sip_call_id": evil, "transport": "udp", "user_agents": [evil], "rendered": true });
    record.legs.push(serde_json::from_value(leg).expect("a leg"));
    let event = serde_json::json!({ "at": "2026-11-18T00:07:10Z", "kind": "transfer", "detail": evil });
    record.events.push(serde_json::from_value(event).expect("an event"));
    record.held = Some(crate::call::record::RetentionHold { since: crate::time::Timestamp::EPOCH, why: text() });
    let journal = Journal::open(&office.config.journal).expect("a journal");
    journal.put_call(&record, CallStage::Complete).expect("put");
    let mut live = call(office.dir.path(), 8, "121");
    (live.from, live.to, live.from_name) = (text(), text(), text());
    journal.put_call(&live, CallStage::Live).expect("put");
    for path in [
        "/calls?day=all",
        &format!("/calls/{}", record.id),
        "/live",
        "/why?number=120&day=2026-11-18",
        "/health",
        "/calls?day=all&q=script",
    ] {
        for lang in ["en", "ru"] {
            let body = office.ask(&format!("GET {path}"), &format!("Accept-Language: {lang}\r\n"), "").body;
            assert!(
                body.contains("&lt;script&gt;") || ["/why", "/health"].iter().any(|quiet| path.starts_with(quiet)),
                "{path} shows the text"
            );
            for markup in ["<script>alert", "<img src=x", "\"'>"] {
                assert!(!body.contains(markup), "{path}: {markup}");
            }
        }
    }
    let csv = office.get("/calls.csv?day=all", "").head;
    assert!(csv.contains("content-disposition: attachment") && csv.contains("nosniff"), "{csv}");
}

#[test]
fn paths_and_ids_reach_no_file_and_no_foreign_call() {
    let office = Office::with_calls(&["120", "220"]);
    std::fs::write(office.dir.path().join("secret.pcapng"), "secret").expect("written");
    office.add("anna", AccountRole::Listener, &["1xx"]);
    let cookie = office.sign_in("anna");
    for id in [
        "..",
        "../secret",
        "..%2fsecret",
        "%2e%2e%2fsecret.1",
        "secret",
        "%00",
        "20261118T000000Z-120%2f..%2fx",
        "*",
        "%25",
    ] {
        for form in ["", "/record.json", "/sound/1", "/packets/1", "/sound/0", "/sound/4294967296", "/sound/-1"] {
            let answer = office.get(&format!("/calls/{id}{form}"), &cookie);
            assert!(matches!(answer.status, 400 | 404 | 405), "{id}{form}: {}", answer.status);
            assert!(!answer.body.contains("secret.pcapng") && !answer.body.contains("SQLite"), "{id}{form}");
        }
    }
    // An attacker tries many call ids. A call that the account may not see has the same response as an id that never
    // existed.
    let [foreign, unknown] =
        [FOREIGN, "20261118T000001Z-221"].map(|id| office.get(&format!("/calls/{id}/sound/1"), &cookie));
    assert_eq!((foreign.status, &foreign.body), (404, &unknown.body));
    assert_eq!(office.get(&format!("/calls/{OWN}/sound/1"), &cookie).status, 200);
    // These search parameters are malformed, or contain SQL. The page must still be shown (status 200).
    for query in [
        "cursor=x~y",
        "cursor=-9223372036854775808~%27%20OR%201",
        "q=%27%20OR%201=1--",
        "ext=%5B",
        "min=1e400",
        "from=9999-99-99",
    ] {
        assert_eq!(office.get(&format!("/calls?{query}"), &cookie).status, 200, "{query}");
    }
}

#[test]
fn rebound_names_and_foreign_pages_are_refused_in_every_method() {
    let office = Office::with_calls(&["120"]);
    for host in [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "[::1].evil.example",
        "",
    ] {
        let head = format!("Host: {host}\r\n");
        assert_eq!(office.ask("GET /api/v1/calls", &head, "").status, 403, "{host}");
    }
    for origin in ["https://evil.example", "null", "http://127.0.0.1.evil.example", "file://"] {
        let head = format!("Origin: {origin}\r\n");
        for line in
            [format!("POST /calls/{OWN}/hold"), format!("POST /api/calls/{OWN}/pause"), String::from("POST /login")]
        {
            assert_eq!(office.ask(&line, &head, "why=x").status, 403, "{origin} {line}");
        }
    }
}

#[test]
fn huge_and_odd_ranges_give_no_more_than_the_file() {
    let office = Office::with_calls(&["120"]);
    let many = (0..1_000).map(|n| format!("{n}-{n}")).collect::<Vec<_>>().join(",");
    for (range, status, length) in [
        ("bytes=0-18446744073709551615", 206, 100),
        ("bytes=-18446744073709551615", 206, 100),
        ("bytes=18446744073709551615-", 416, 0),
        ("bytes=99-100", 206, 1),
        (&format!("bytes={many}"), 200, 100),
    ] {
        let answer = office.ask(&format!("GET /calls/{OWN}/sound/1"), &format!("Range: {range}\r\n"), "");
        assert_eq!((answer.status, answer.body.len()), (status, length), "{:.40}", range);
    }
}

#[test]
fn large_heads_and_bodies_are_refused() {
    let office = Office::with_calls(&["120"]);
    let head = format!("X-Large: {}\r\n", "a".repeat(64 * 1024));
    assert_eq!(office.ask("GET /calls", &head, "").status, 431);
    let body = format!("why={}", "a".repeat(32 * 1024));
    assert_eq!(office.ask(&format!("POST /calls/{OWN}/hold"), "", &body).status, 413);
    office.add("anna", AccountRole::Admin, &[]);
    let body = format!("user=anna&password={}", "a".repeat(8 * 1024));
    assert_eq!(office.ask("POST /login", "", &body).status, 401);
}

#[test]
fn refused_request_of_a_browser_is_a_page_in_its_language() {
    let office = Office::with_calls(&["120"]);
    let browser = "Accept: text/html,*/*;q=0.8\r\n";
    std::fs::write(office.config.journal.dir.join("journal.sqlite"), "no database").expect("written");
    for (lang, words) in
        [("en", "The journal does not answer; recording goes on."), ("ru", "Журнал не отвечает; запись идёт.")]
    {
        let answer = office.ask(&format!("GET /calls?lang={lang}"), browser, "");
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains(&format!("lang=\"{lang}\">{words}")), "{}", answer.body);
        assert!(answer.head.contains("content-security-policy: "), "{}", answer.head);
    }
    let program = office.ask("GET /api/v1/calls", browser, "");
    assert!(program.body.starts_with("{\"error\":"), "{}", program.body);
}

/// Tests that a client which sends the head or the body of its request byte by byte keeps a connection for ten seconds
/// only. Other clients are served meanwhile.
#[test]
fn slow_heads_and_bodies_are_cut_off_and_others_are_answered() {
    let office = Office::with_calls(&["120"]);
    let body = format!("POST /login HTTP/1.1\r\nHost: {}\r\nContent-Length: 100\r\n\r\nuser=", office.addr());
    let mut slow: Vec<std::net::TcpStream> = (0..100)
        .map(|n| {
            let mut stream = std::net::TcpStream::connect(office.addr()).expect("connects");
            let sent = if n % 2 == 0 { "GET /calls HTTP/1.1\r\nHost:" } else { &body };
            stream.write_all(sent.as_bytes()).expect("writes");
            stream
        })
        .collect();
    assert_eq!(office.get("/calls", "").status, 200);
    // The test reads until the console ends both connections, after HEADER_TIMEOUT and BODY_TIMEOUT.
    for stream in &mut slow {
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("set");
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        assert!(end.is_ok() && !String::from_utf8_lossy(&rest).contains("200 OK"), "{end:?}");
    }
}
