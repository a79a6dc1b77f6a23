//! Tests webhook, mail and Telegram against servers that run in the test.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::config::{MailConfig, MailTls, NotifySecret, TelegramConfig, WebhookConfig};
use super::sender::signature;
use super::*;
use crate::ops::alerts::AlarmKind;

/// A request that a test server received: first line, headers in lower case, and body.
#[derive(Debug)]
struct SeenRequest {
    line: String,
    head: String,
    body: String,
}

impl SeenRequest {
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")));
        line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
    }
}

/// Starts an HTTP server. It answers each request with the next status; the last status repeats.
fn http_server(statuses: &'static [u16]) -> (String, Receiver<SeenRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, seen) = channel();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut head) = (String::new(), String::new());
            stream.read_line(&mut line).unwrap();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 2 {}
            let mut request = SeenRequest { line, head, body: String::new() };
            let mut body = vec![0; request.header("content-length").parse().unwrap_or(0)];
            stream.read_exact(&mut body).unwrap();
            request.body = String::from_utf8(body).unwrap();
            let status = statuses.get(n).or(statuses.last()).unwrap();
            let reply = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.get_mut().write_all(reply.as_bytes()).unwrap();
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    (url, seen)
}

/// Starts a server that accepts one mail by SMTP (RFC 5321) and returns the lines that the client sent.
fn mail_server() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, said) = channel();
    std::thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let (mut all, mut in_data) = (String::new(), false);
        stream.get_mut().write_all(b"220 test\r\n").unwrap();
        let mut line = String::new();
        while stream.read_line(&mut line).unwrap() > 0 {
            all.push_str(&line);
            let reply: &[u8] = match (line.trim_end(), in_data) {
                (".", true) => {
                    in_data = false;
                    b"250 taken\r\n"
                }
                (_, true) => b"",
                ("DATA", _) => {
                    in_data = true;
                    b"354 go\r\n"
                }
                ("QUIT", _) => b"221 bye\r\n",
                _ => b"250 ok\r\n",
            };
            stream.get_mut().write_all(reply).unwrap();
            line.clear();
        }
        sender.send(all).unwrap();
    });
    (address, said)
}

fn hook(url: String) -> WebhookConfig {
    WebhookConfig { url, secret: NotifySecret { text: Some(String::from("s3")), file: None } }
}

fn alarm() -> Alarm {
    Alarm {
        at: wall_clock(),
        kind: AlarmKind::DiskFull,
        detail: String::from("the disk of the spool is full"),
        call: None,
        held_back: 2,
    }
}

#[test]
fn a_webhook_gets_each_alarm_signed_and_again_until_it_takes_it() {
    let (url, seen) = http_server(&[503, 200]);
    let state = tempfile::tempdir().unwrap();
    let config = NotifyConfig { appliance: "office".into(), alarms: Some(hook(url)), ..Default::default() };
    // The first process ends after the receiver refused the message with status 503. The next process reads the stored
    // message and sends it again.
    let receivers = AlarmReceivers::new(config.clone(), state.path());
    receivers.pass_on(&alarm());
    let thread = receivers.start().unwrap();
    let first = seen.recv_timeout(PATIENCE).unwrap();
    thread.stop();
    let outbox = Outbox::open(state.path()).unwrap();
    assert_eq!(outbox.counts().unwrap().owed, 1, "it waits for the next start");
    let thread = AlarmReceivers::new(config, state.path()).start().unwrap();
    let second = seen.recv_timeout(PATIENCE).unwrap();
    thread.stop();
    assert_eq!(outbox.counts().unwrap().owed, 0, "taken");
    assert_eq!((&first.body, first.header("idempotency-key")), (&second.body, second.header("idempotency-key")));
    assert!(!first.header("idempotency-key").is_empty());
    let seconds = second.header("x-callspan-timestamp").parse().unwrap();
    let expected = format!("sha256={}", signature("s3", seconds, &second.body));
    assert_eq!(second.header("x-callspan-signature"), expected);
    let body: serde_json::Value = serde_json::from_str(&second.body).unwrap();
    assert_eq!((&body["type"], &body["kind"], &body["held_back"]), (&"alarm".into(), &"disk_full".into(), &2.into()));
    assert_eq!(body["title"], "[office] ALARM: a disk is full");
}

#[test]
fn the_signature_is_hmac_sha256_over_time_and_body() {
    // The expected signature is the output of `printf '7.{}' | openssl dgst -sha256 -hmac key`.
    assert_eq!(signature("key", 7, "{}"), SIGNATURE_OF_OPENSSL);
}

#[test]
fn mail_and_telegram_get_the_text_and_errors_hide_the_token() {
    let (server, said) = mail_server();
    let (url, seen) = http_server(&[200, 401]);
    let secret = |text: &str| NotifySecret { text: Some(text.to_owned()), file: None };
    let mail = MailConfig {
        server: server.clone(),
        tls: MailTls::None,
        from: "Recorder <rec@example.org>".into(),
        to: vec!["a@example.org".into(), "b@example.org".into()],
        login: String::new(),
        password: NotifySecret::default(),
    };
    let telegram = TelegramConfig { url, token: secret("12:secret"), chat: "-100".into() };
    let config = NotifyConfig {
        appliance: "office".into(),
        mail: Some(mail),
        telegram: Some(telegram),
        ..NotifyConfig::default()
    };
    let state = tempfile::tempdir().unwrap();
    let receivers = AlarmReceivers::new(config.clone(), state.path());
    assert_eq!(receivers.try_all(&alarm()), [("mail", Ok(())), ("telegram", Ok(()))]);
    let letter = said.recv_timeout(PATIENCE).unwrap();
    assert!(letter.contains("RCPT TO:<b@example.org>") && letter.contains("Subject: [office] ALARM: a disk is full"));
    assert!(letter.contains("the disk of the spool is full") && letter.contains("2 earlier alarms"), "{letter}");
    let told = seen.recv_timeout(PATIENCE).unwrap();
    assert!(told.line.starts_with("POST /bot12:secret/sendMessage "), "{}", told.line);
    let body: serde_json::Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(body["chat_id"], "-100");
    assert!(body["text"].as_str().unwrap().contains("the disk of the spool is full"));
    // The mail server does not exist any more, and Telegram refuses the token. So both routes fail.
    let results = receivers.try_all(&alarm());
    let refused = results[1].1.clone().unwrap_err();
    assert_eq!(refused, "the receiver answers HTTP 401");
    let away = results[0].1.clone().unwrap_err();
    assert!(away.starts_with(&format!("the mail server {server}: ")), "{away}");
    let away = NotifyConfig {
        telegram: config.telegram.map(|t| TelegramConfig { url: "http://127.0.0.1:1".into(), ..t }),
        ..NotifyConfig::default()
    };
    let [(_, result)] = AlarmReceivers::new(away, state.path()).try_all(&alarm()).try_into().unwrap();
    assert!(!result.clone().unwrap_err().contains("secret"), "{result:?}");
}

#[test]
fn finished_call_has_its_id_as_key_and_refusal_makes_dead_letter() {
    let (url, seen) = http_server(&[200]);
    let state = tempfile::tempdir().unwrap();
    let config = NotifyConfig { calls: Some(hook(url)), ..NotifyConfig::default() };
    let outbox = Outbox::open(state.path()).unwrap();
    let record = CallRecord { id: "20261123-a".into(), from: Some("+7495".into()), ..CallRecord::default() };
    for _ in 0..2 {
        add_call(&outbox, &record, wall_clock()).unwrap(); // the same call again
    }
    let thread = AlarmReceivers::new(config, state.path()).start().unwrap();
    let request = seen.recv_timeout(PATIENCE).unwrap();
    thread.stop();
    assert_eq!(request.header("idempotency-key"), "20261123-a");
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!((&body["type"], &body["record"]["from"]), (&"call".into(), &"+7495".into()));
    assert!(seen.try_recv().is_err() && outbox.counts().unwrap().owed == 0);
}

#[test]
fn messages_of_a_removed_receiver_are_dropped_and_others_stay() {
    let (url, seen) = http_server(&[503]);
    let state = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(state.path()).unwrap();
    for (route, key) in [("telegram", "a"), ("telegram", "b"), ("webhook of calls", "c"), ("webhook", "d")] {
        outbox.add(route, key, "{}", wall_clock()).unwrap();
    }
    outbox.note_failure(1, None, "the receiver answers HTTP 401").unwrap(); // a dead letter
    let config = NotifyConfig { alarms: Some(hook(url)), ..NotifyConfig::default() };
    let receivers = AlarmReceivers::new(config, state.path());
    let thread = receivers.start().unwrap();
    seen.recv_timeout(PATIENCE).unwrap();
    let left = || outbox.counts().map(|counts| counts.owed + counts.dead).unwrap();
    assert_eq!(left(), 4, "a process without the lock of the folder drops nothing");
    receivers.drop_removed();
    wait_until(|| left() == 1);
    receivers.replace(NotifyConfig::default());
    wait_until(|| left() == 0);
    thread.stop();
    let empty = tempfile::tempdir().unwrap();
    let receivers = AlarmReceivers::new(NotifyConfig::default(), empty.path());
    receivers.drop_removed();
    receivers.start().unwrap().stop();
    assert!(!Outbox::exists(empty.path()), "without receivers no outbox is created");
}

#[expect(clippy::disallowed_methods, reason = "another thread works")]
fn wait_until(is_so: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn refusals_end_after_five_tries_and_silence_after_four_days() {
    let message = |tries, added_s| OutboxMessage {
        n: 1,
        route: String::new(),
        key: String::new(),
        body: String::new(),
        tries,
        added_at: Timestamp::from_secs(added_s),
    };
    let now = Timestamp::from_secs(1_000_000);
    let away = NotifyError::Away(String::new());
    let refused = NotifyError::Refused(String::new());
    assert_eq!(next_try(&message(0, 1_000_000), &away, now), Some(now + Duration::from_secs(2)));
    assert_eq!(next_try(&message(99, 1_000_000), &away, now), Some(now + Duration::from_secs(3_600)));
    assert!(next_try(&message(3, 1_000_000), &refused, now).is_some());
    assert_eq!(next_try(&message(4, 1_000_000), &refused, now), None);
    assert_eq!(next_try(&message(4, 1_000_000 - 4 * 86_400), &away, now), None);
}

const PATIENCE: Duration = Duration::from_secs(20);
const SIGNATURE_OF_OPENSSL: &str = "77bc83bd1f40422311e47918b203449aecf84b02c1568bb1b570ac2a474cc2d8";
