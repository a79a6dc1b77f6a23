//! Tests a complete `callspan run` on a virtual interface: alarms about the mirror port, and the webhook of finished
//! calls.
//!
//! An alarm is raised after two windows (`alerts.mirror_window_minutes`) and ends after one window. The shortest window
//! is a minute, so each test takes four minutes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::{LiveService, configuration, program};
use crate::support::call_frames::CallFrames;
use crate::support::veth::VethPair;

#[test]
#[ignore = "takes four minutes, and needs root: adds a pair of network interfaces"]
fn mirror_of_one_direction_is_an_alarm_until_both_are_seen() {
    let of_caller = |frame: &[u8]| frame[26..30] == [10, 9, 0, 11];
    raised_and_over("co", of_caller, ["mirror_one_sided", "mirror_one_sided_over"]);
}

#[test]
#[ignore = "takes four minutes, and needs root: adds a pair of network interfaces"]
fn calls_without_rtp_are_an_alarm_until_they_have_it() {
    let is_sip = |frame: &[u8]| frame[34..36] == 5060_u16.to_be_bytes();
    raised_and_over("cu", is_sip, ["media_unheard", "media_unheard_over"]);
}

/// Sends one call after another. Until the first alarm, only frames for which `keeps` returns true are sent; then all
/// frames. Checks that the alarms of these kinds are raised and end.
fn raised_and_over(name: &str, keeps: fn(&[u8]) -> bool, kinds: [&str; 2]) {
    let wire = VethPair::new(name);
    let dir = tempfile::tempdir().expect("a folder");
    let told = dir.path().join("alarms");
    let command = format!("cat >> {}", told.display());
    let mut service =
        start(dir.path(), &wire, &format!("[alerts]\nmirror_window_minutes = 1\ncommand = \"{command}\"\n"));
    let (is_broken, is_over) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let began = Instant::now();
    let [raised, ended] = std::thread::scope(|scope| {
        let (broken, over) = (Arc::clone(&is_broken), Arc::clone(&is_over));
        scope.spawn(move || {
            for number in 1.. {
                let keeps = |frame: &[u8]| !broken.load(Ordering::Relaxed) || keeps(frame);
                send(&wire.talkers, CallFrames { number, length: Duration::from_secs(3) }, keeps);
                if over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let raised = wait_for_kind(&told, kinds[0]).map(|()| began.elapsed());
        is_broken.store(false, Ordering::Relaxed);
        let mended = Instant::now();
        let ended = raised.and_then(|_| wait_for_kind(&told, kinds[1])).map(|()| mended.elapsed());
        is_over.store(true, Ordering::Relaxed);
        [raised, ended]
    });
    let said = std::fs::read_to_string(&told).unwrap_or_default();
    let (raised, ended) = (raised.expect(&said), ended.expect(&said));
    println!("{}: raised after {:.0} s, over after {:.0} s", kinds[0], raised.as_secs_f64(), ended.as_secs_f64());
    assert!(raised >= WINDOW && raised <= 2 * WINDOW + SLACK, "{raised:?}: {said}");
    assert!(ended <= 2 * WINDOW + SLACK, "{ended:?}: {said}");
    let is_expected = |line: &&str| kinds.iter().any(|kind| line.contains(&format!("\"{kind}\"")));
    let is_of_disk = |line: &&str| line.contains("\"disk_"); // the test machine may have little disk space
    let others = said.lines().filter(|line| !is_expected(line) && !is_of_disk(line));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new(), "no other alarm");
    assert_eq!(service.child.try_wait().expect("ours"), None, "it still runs");
    assert_eq!(service.stop().0, Some(0));
}

fn wait_for_kind(told: &Path, kind: &str) -> Option<()> {
    let until = Instant::now() + 3 * WINDOW;
    while Instant::now() < until {
        let said = std::fs::read_to_string(told).unwrap_or_default();
        if said.contains(&format!("\"{kind}\"")) {
            return Some(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    None
}

/// After HTTP 500, the webhook of finished calls gets the call again, with the same key. A call that it always refuses
/// becomes a dead letter. The dead letter survives a restart, until a person sends it again.
#[test]
#[cfg_attr(not(may_add_interfaces), ignore = "needs root: adds a pair of network interfaces")]
fn finished_call_reaches_the_webhook_after_failures_and_after_revival() {
    let wire = VethPair::new("cw");
    let dir = tempfile::tempdir().expect("a folder");
    let status = Arc::new(AtomicU16::new(500));
    let (url, seen) = receiver(Arc::clone(&status));
    let hook = format!("[webhook]\nurl = \"{url}\"\nsecret = \"tea\"\n");
    let service = start(dir.path(), &wire, &hook);
    let length = Duration::from_secs(3);
    send(&wire.talkers, CallFrames { number: 1, length }, |_| true);
    let refused = seen.recv_timeout(PATIENCE).expect("the first try");
    status.store(200, Ordering::Relaxed);
    let taken = seen.recv_timeout(PATIENCE).expect("the second try");
    assert_eq!((&refused.key, &refused.body), (&taken.key, &taken.body), "a repeat is the same message");
    let message: serde_json::Value = serde_json::from_str(&taken.body).expect("JSON");
    assert_eq!((&message["type"], &message["record"]["verdict"]), (&"call".into(), &"both_sides".into()));
    assert_eq!(message["record"]["id"], taken.key.as_str(), "the id of the call is the key");
    assert!(taken.signature.starts_with("sha256=") && taken.signature.len() == 71, "{}", taken.signature);
    let is_later = taken.at > refused.at;
    assert!(is_later && taken.signature != refused.signature, "the time is signed, too");

    // The webhook refuses the second call permanently (410). Status 500 would be tried again for minutes.
    status.store(410, Ordering::Relaxed);
    send(&wire.talkers, CallFrames { number: 2, length }, |_| true);
    let second = seen.recv_timeout(PATIENCE).expect("a try of the second call");
    assert_ne!(second.key, taken.key);
    assert_eq!(service.stop().0, Some(0));
    let outbox = rusqlite::Connection::open(dir.path().join("state/outbox.sqlite")).expect("an outbox");
    assert_eq!(
        outbox.execute("UPDATE outbox SET tries = 4, due_at = 0", []).expect("written"),
        1,
        "only the second waits"
    );
    drop(outbox);
    let service = start(dir.path(), &wire, &hook);
    assert_eq!(seen.recv_timeout(PATIENCE).expect("the last try").key, second.key);
    let config = dir.path().join("callspan.toml");
    wait_until_dead(&config);
    status.store(200, Ordering::Relaxed);
    let revived = std::process::Command::new(program()).args(["alerts", "retry", "-c"]).arg(&config).output();
    assert!(revived.expect("runs").status.success());
    let last = seen.recv_timeout(PATIENCE).expect("the revived message");
    assert_eq!((last.key, last.body), (second.key, second.body));
    assert_eq!(service.stop().0, Some(0));
    assert!(seen.try_recv().is_err(), "nothing is sent twice");
}

fn wait_until_dead(config: &Path) {
    let until = Instant::now() + PATIENCE;
    loop {
        let output = std::process::Command::new(program()).args(["status", "--json", "-c"]).arg(config).output();
        let view: serde_json::Value = serde_json::from_slice(&output.expect("runs").stdout).expect("JSON");
        if view["outbox"]["dead"] == 1 {
            assert!(view["outbox"]["last_error"].as_str().is_some_and(|error| error.contains("410")), "{view:#}");
            return;
        }
        assert!(Instant::now() < until, "no dead letter: {view:#}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A message that the webhook received.
struct HookedMessage {
    key: String,
    signature: String,
    at: String,
    body: String,
}

/// Starts an HTTP server that answers with the status code in `status`.
fn receiver(status: Arc<AtomicU16>) -> (String, Receiver<HookedMessage>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
    let (sender, seen) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).expect("a head") <= 2 {
                    break;
                }
                head.push(line);
            }
            let header = |name: &str| {
                let found = head.iter().find(|line| line.to_lowercase().starts_with(&format!("{name}:")));
                found
                    .and_then(|line| line.split_once(':'))
                    .map_or_else(String::new, |(_, value)| value.trim().to_owned())
            };
            let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
            stream.read_exact(&mut body).expect("a body");
            let reply = format!(
                "HTTP/1.1 {} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                status.load(Ordering::Relaxed)
            );
            let _ = stream.get_mut().write_all(reply.as_bytes()); // the service may have ended before the reply
            let message = HookedMessage {
                key: header("idempotency-key"),
                signature: header("x-callspan-signature"),
                at: header("x-callspan-timestamp"),
                body: String::from_utf8(body).expect("UTF-8"),
            };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    (url, seen)
}

/// Starts a service on the recorder's end of the wire. `rest` is appended to its configuration.
fn start(dir: &Path, wire: &VethPair, rest: &str) -> LiveService {
    let path: PathBuf = configuration(dir, &wire.recorder);
    let text = std::fs::read_to_string(&path).expect("just written");
    std::fs::write(&path, format!("{text}{rest}")).expect("written");
    let mut command = std::process::Command::new(program());
    command.arg("run").arg("-c").arg(path);
    let mut service = LiveService::start(command);
    service.wait_for("capturing on");
    service
}

/// Sends the frames of a call in real time, except those for which `keeps` returns false.
fn send(interface: &str, call: CallFrames, keeps: impl Fn(&[u8]) -> bool) {
    let mut out = pcap::Capture::from_device(interface).expect("it is there").open().expect("root may send");
    let began = Instant::now();
    for (at, frame) in call.frames() {
        std::thread::sleep(at.saturating_sub(began.elapsed()));
        if keeps(&frame) {
            out.sendpacket(&frame[..]).expect("sent");
        }
    }
}

/// Value of `alerts.mirror_window_minutes` in these tests.
const WINDOW: Duration = Duration::from_secs(60);
/// Additional time for a busy machine, and because mirror ports are checked only every few seconds.
const SLACK: Duration = Duration::from_secs(20);
/// Maximum wait until a call is finished and its message is sent.
const PATIENCE: Duration = Duration::from_secs(60);
