//! Tests `callspan run` while a scanner sends ten thousand INVITEs a second beside three real calls.
//!
//! `CALLSPAN_FLOOD` is the number of INVITEs (20,000 by default; 100,000 in `.ci/long`). Time and memory are checked
//! only with 100,000, in an optimised build.

use std::path::Path;
use std::time::{Duration, Instant};

use callspan::call::record::{CallRecord, CallVerdict, DeliveryState, ProblemKind};
use callspan::fake_pyrus::{FakeOptions, FakePyrus, TaskPolicy};
use callspan::journal::{CallFilter, CallStage, Journal, StoredCall};

use super::{LiveService, configuration, program, signal};
use crate::support::call_frames::{CallFrames, udp};
use crate::support::veth::VethPair;

#[test]
#[cfg_attr(not(may_add_interfaces), ignore = "needs root: adds a pair of network interfaces")]
fn flood_of_invites_delays_no_real_call_and_no_stop() {
    let invites: u32 = std::env::var("CALLSPAN_FLOOD").ok().and_then(|v| v.parse().ok()).unwrap_or(20_000);
    let is_measured = invites >= 100_000;
    let wire = VethPair::new("cf");
    let fake = FakePyrus::start(FakeOptions { task_policy: TaskPolicy::AlwaysNew, ..FakeOptions::default() });
    let fake = fake.expect("free ports");
    let dir = tempfile::tempdir().expect("a folder");
    let config = delivering_configuration(dir.path(), &wire.recorder, &fake);
    let mut service = start(&config);
    let pid = service.child.id();
    let before = resident_mib(pid);
    let begin = Instant::now();
    let sent = flood(&wire, invites, 0);
    let journal = Journal::open_read_only(&callspan::journal::config::Config { dir: dir.path().join("state") });
    let journal = journal.expect("a journal");
    let all = || journal.calls(&CallFilter::default()).expect("readable");
    let mut peak = resident_mib(pid);
    let mut watch = |what: &str, is_ready: &dyn Fn(&StoredCall) -> bool| {
        wait_until(what, || {
            peak = peak.max(resident_mib(pid));
            all().iter().filter(|call| is_real(&call.record) && is_ready(call)).count() == REAL as usize
        });
        sent.ended.elapsed().as_secs_f64()
    };
    let recorded = watch("the real calls have their records", &|call| call.stage == CallStage::Complete);
    let delivered = watch("the real calls are delivered", &is_delivered);
    let others_first = all().iter().filter(|c| !is_real(&c.record) && is_delivered(c)).count();
    println!(
        "{invites} INVITEs in {:.1} s; after the BYE: records {recorded:.1} s, delivered {delivered:.1} s ({others_first} \
         attempts, which ended earlier, before them); resident {before} MiB, at most {peak} MiB",
        sent.flooded.duration_since(begin).as_secs_f64()
    );
    assert!(peak < before + MOST_MIB, "{before} MiB before, {peak} MiB at most");
    if is_measured {
        assert!(recorded < 10.0 && delivered < recorded + 10.0, "{recorded} and {delivered} s after the BYE");
        wait_until("the scan is over and its memory is free", || resident_mib(pid) < before + LEFT_MIB);
        println!("resident {} MiB, {:.0} s after the flood", resident_mib(pid), sent.flooded.elapsed().as_secs_f64());
    }
    // A second flood begins, and the service is stopped while packets still wait to be read.
    flood(&wire, invites, REAL);
    if !is_measured {
        // A debug build may be slow. A stop does not wait for packets that were not read yet.
        let answered = |call: &StoredCall| is_real(&call.record) && call.record.answered_at.is_some();
        wait_until("the real calls are heard", || {
            all().iter().filter(|call| answered(call)).count() == 2 * REAL as usize
        });
    }
    let asked = Instant::now();
    signal("-TERM", &pid.to_string());
    assert_eq!(service.child.wait().expect("ours").code(), Some(0));
    let stopped = asked.elapsed();
    println!("stopped within {:.1} s", stopped.as_secs_f64());
    assert!(!is_measured || stopped < Duration::from_secs(10), "the stop took {stopped:?}");
    service = start(&config);
    wait_until("every real call is delivered", || {
        all().iter().filter(|call| is_real(&call.record) && is_delivered(call)).count() == 2 * REAL as usize
    });
    assert_eq!(service.stop().0, Some(0));
    let records: Vec<CallRecord> = all().into_iter().map(|call| call.record).collect();
    let real: Vec<&CallRecord> = records.iter().filter(|record| is_real(record)).collect();
    assert_eq!(real.len(), 2 * REAL as usize);
    for record in real {
        assert!(!is_measured || record.verdict == Some(CallVerdict::BothSides), "{:?}", record.verdict_reason);
        let sent = (TALK.as_millis() / 20) as u64;
        let heard = (record.sides.caller.packets, record.sides.callee.packets);
        assert!(!is_measured || heard == (sent, sent), "{heard:?}: no packet is lost");
        let known = fake.state().calls.iter().filter(|c| c.external_id.as_deref() == Some(&record.id)).count();
        assert_eq!(known, 1, "it is in Pyrus once");
    }
    let attempts: Vec<u64> = records.iter().flat_map(|r| &r.problems).filter_map(scan_attempts).collect();
    let single =
        records.iter().filter(|r| !is_real(r) && r.problems.iter().all(|p| scan_attempts(p).is_none())).count();
    println!("scan records: {attempts:?}; {single} records of single attempts");
    // The recorder counts the INVITEs of a source for each minute. The count begins at 0 at each start, and the flood
    // may begin in the middle of a minute.
    assert!(single <= 4 * ALLOWED as usize, "{single} attempts have records of their own");
    // Every second INVITE is refused. Attempts without any response stay open for minutes.
    let expected = if is_measured { invites } else { invites / 2 };
    assert!(
        attempts.iter().sum::<u64>() >= u64::from(expected - 4 * ALLOWED),
        "{attempts:?} attempts are in scan records"
    );
}

fn is_delivered(call: &StoredCall) -> bool {
    call.record.delivery.state == DeliveryState::Done && call.record.ended_at.is_some()
}

fn scan_attempts(problem: &callspan::call::record::CallProblem) -> Option<u64> {
    problem.packets.filter(|_| problem.kind == ProblemKind::Scan)
}

/// Times at which the parts of a flood ended.
struct SentFlood {
    /// Time of the last BYE of a real call.
    ended: Instant,
    /// Time of the last INVITE.
    flooded: Instant,
}

/// Sends [`RATE`] INVITEs a second. Every second INVITE is refused, and the others get no response. Sends [`REAL`] real
/// calls at the same time, numbered from `first`.
fn flood(wire: &VethPair, invites: u32, first: u32) -> SentFlood {
    let mut frames: Vec<(Duration, Vec<u8>)> = Vec::new();
    for number in first..first + REAL {
        frames.extend(CallFrames { number, length: TALK }.frames());
    }
    let ended = frames.iter().map(|(at, _)| *at).max().expect("some");
    let early = Duration::from_millis(100);
    for n in 0..invites {
        let (at, name) = (early + Duration::from_secs(1) * n / RATE, u64::from(first) << 32 | u64::from(n));
        frames.push((at, attempt(name, "INVITE sip:9@10.9.0.12 SIP/2.0", false)));
        if n % 2 == 0 {
            frames.push((at, attempt(name, "SIP/2.0 404 Not Found", true)));
        }
    }
    let begin = wire.send_in_time(frames);
    SentFlood { ended: begin + ended, flooded: Instant::now() }
}

/// Returns an INVITE of the scanner, or the response to such an INVITE, as a frame.
fn attempt(n: u64, start: &str, is_response: bool) -> Vec<u8> {
    let tag = if is_response { ";tag=r" } else { "" };
    let text = format!(
        "{start}\r\nVia: SIP/2.0/UDP 203.0.113.5:5060;branch=z9hG4bK{n}\r\nFrom: <sip:{n}@203.0.113.5>;tag=s{n}\r\n\
         To: <sip:9@10.9.0.12>{tag}\r\nCall-ID: scan-{n}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    );
    let ends = [("203.0.113.5", 5060), ("10.9.0.12", 5060)];
    let [from, to] = if is_response { [ends[1], ends[0]] } else { ends };
    udp(from, to, text.as_bytes())
}

fn is_real(record: &CallRecord) -> bool {
    record.legs.iter().any(|leg| leg.sip_call_id.starts_with("talk-"))
}

fn delivering_configuration(dir: &Path, interface: &str, fake: &FakePyrus) -> std::path::PathBuf {
    let path = configuration(dir, interface);
    let options = FakeOptions::default();
    let pyrus = format!(
        "[pyrus]\nenabled = true\nauth_url = \"{}\"\nlogin = \"{}\"\nsecurity_key = \"{}\"\naccount_id = \"{}\"\n",
        fake.auth_url(),
        options.users[0].login,
        options.users[0].security_key,
        options.accounts[0].account_id,
    );
    let text = std::fs::read_to_string(&path).expect("just written");
    let text = text.replace("[pyrus]\nenabled = false\n", &pyrus);
    std::fs::write(&path, format!("{text}[calls]\nscan_per_minute = {ALLOWED}\n")).expect("written");
    path
}

fn start(config: &Path) -> LiveService {
    let mut command = std::process::Command::new(program());
    command.arg("run").arg("-c").arg(config);
    let mut service = LiveService::start(command);
    service.wait_for("capturing on");
    service
}

/// Returns the resident memory of a process, MiB.
pub(crate) fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it lives");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(360);
    while !done() {
        assert!(Instant::now() < until, "not within six minutes: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Number of INVITEs of the scanner in a second.
const RATE: u32 = 10_000;
/// Number of real calls during the flood.
const REAL: u32 = 3;
/// Time from the answer to the BYE of a real call. It is so short that the call lies in the middle of the flood.
const TALK: Duration = Duration::from_millis(1_500);
/// Value of `calls.scan_per_minute`.
const ALLOWED: u32 = 120;
/// Maximum memory during the flood, MiB. The engine keeps 40,000 legs of a few KiB each.
const MOST_MIB: u64 = 512;
/// Maximum memory after the flood, MiB. The allocator keeps some of the freed memory.
const LEFT_MIB: u64 = 128;
