//! Tests `callspan run` without a mirror port: an agent sends the packets of a call in HEP 3.

#![expect(clippy::disallowed_methods, reason = "real time passes on a real socket")]

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use callspan::fake_pyrus::{FakeOptions, FakePyrus};
use serde_json::Value;

use crate::live::{LiveService, program};
use crate::support::captures::frames;
use crate::support::configuration::ServiceToml;

/// Wraps the IPv4 packet of an Ethernet frame into HEP 3.
fn wrapped(frame: &[u8]) -> Vec<u8> {
    let chunk = |kind: u8, value: &[u8]| {
        let length = u16::try_from(6 + value.len()).unwrap().to_be_bytes();
        [&[0, 0, 0, kind], &length[..], value].concat()
    };
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let payload = &frame[42..14 + total];
    let protocol = if payload[0] == 0x80 { 4 } else { 1 };
    let chunks = [
        chunk(1, &[2]),
        chunk(2, &[17]),
        chunk(3, &frame[26..30]),
        chunk(4, &frame[30..34]),
        chunk(7, &frame[34..36]),
        chunk(8, &frame[36..38]),
        chunk(11, &[protocol]),
        chunk(15, payload),
    ]
    .concat();
    [b"HEP3", &u16::try_from(6 + chunks.len()).unwrap().to_be_bytes()[..], &chunks].concat()
}

/// Returns the section of the configuration for a fake Pyrus.
fn pyrus(fake: &FakePyrus) -> String {
    let options = FakeOptions::default();
    let (user, account) = (&options.users[0], &options.accounts[0]);
    format!(
        "[pyrus]\nenabled = true\nauth_url = {:?}\nlogin = {:?}\nsecurity_key = {:?}\naccount_id = {:?}\n",
        fake.auth_url(),
        user.login,
        user.security_key,
        account.account_id
    )
}

#[test]
fn call_from_an_agent_is_recorded_without_an_interface() {
    let dir = tempfile::tempdir().unwrap();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let fake = FakePyrus::start(FakeOptions::default()).unwrap();
    let config = ServiceToml::new(dir.path())
        .set("capture", &format!("hep_listen = \"127.0.0.1:{port}\""))
        .set("numbers", "extension_pattern = \"1xx\"")
        .append(&pyrus(&fake))
        .write();
    let mut run = Command::new(program());
    run.args(["run", "-c"]).arg(&config);
    let mut service = LiveService::start(run);
    service.wait_for("capturing on HEP at 127.0.0.1");
    let agent = UdpSocket::bind("127.0.0.1:0").unwrap();
    agent.connect(("127.0.0.1", port)).unwrap();
    let packets = frames("g711a_direct");
    let began = Instant::now();
    for packet in &packets {
        let due = Duration::from_nanos((packet.at_ns - packets[0].at_ns).unsigned_abs());
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        if packet.data[12..14] == [8, 0] && packet.data[23] == 17 {
            agent.send(&wrapped(&packet.data)).unwrap();
        }
    }
    agent.send(b"noise").unwrap();
    service.wait_for("call finished");
    let list = Command::new(program()).args(["calls", "list", "--json", "-c"]).arg(&config).output().unwrap();
    let record: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!((&record["verdict"], &record["from"]), (&"both_sides".into(), &"101".into()), "{record:#}");
    assert_eq!(record["source"], format!("HEP at 127.0.0.1:{port}"));
    // The values are the same as with a mirror port (live::a_call_on_the_wire_becomes_its_record_and_recording).
    assert_eq!(record["sides"]["caller"]["packets"], 401);
    assert_eq!(record["sides"]["callee"]["packets"], 405);
    let (status, said) = service.stop();
    assert_eq!(status, Some(0), "{said:#?}");
    // Pyrus gets no internal calls, so nothing is owed.
    assert!(said.iter().any(|line| line.contains("call finished") && line.contains("delivery=\"none\"")), "{said:#?}");
}
