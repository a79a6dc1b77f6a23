//! Fifty people listen to recordings and look at the live calls while many calls are recorded. No frame may be lost,
//! and the capture thread must not have more work.
//!
//! `CALLSPAN_LISTENED_CALLS` is the number of simultaneous calls (30 by default; 1,000 in `.ci/long`). The processor
//! time is compared only with 1,000, in an optimised build.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use callspan::call::record::{CallRecord, CallVerdict};
use callspan::journal::{CallFilter, CallStage, Journal};

use super::{LiveService, program};
use crate::support::call_frames::CallFrames;
use crate::support::veth::VethPair;

#[test]
#[cfg_attr(not(may_add_interfaces), ignore = "needs root: adds a pair of network interfaces")]
fn fifty_listeners_cost_no_frame_and_no_time_of_the_capture_thread() {
    let calls: u32 = std::env::var("CALLSPAN_LISTENED_CALLS").ok().and_then(|v| v.parse().ok()).unwrap_or(30);
    let is_measured = calls >= 1_000;
    let wire = VethPair::new("cl");
    let dir = tempfile::tempdir().expect("a folder");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    // All calls come from one address. Without these settings the recorder would treat them as a scan.
    let rest = format!(
        "[pyrus]\nenabled = false\n[console]\nlisten = \"127.0.0.1:{port}\"\n[calls]\nscan_per_minute = 100000\n"
    );
    let config = crate::support::configuration::configuration(dir.path(), &wire.recorder, &rest);
    let mut command = std::process::Command::new(program());
    command.arg("run").arg("-c").arg(&config);
    let mut service = LiveService::start(command);
    service.wait_for("capturing on");
    let pid = service.child.id();
    let journal = callspan::journal::config::Config { dir: dir.path().join("state") };
    let journal = Journal::open_read_only(&journal).expect("a journal");

    let alone = CaptureTime::of(pid, || send(&wire, 0, calls));
    wait_for_records(&journal, calls);
    let recorded = journal.calls(&CallFilter::default()).expect("readable");
    let sounds = recorded.iter().map(|call| format!("/calls/{}/sound/1", call.record.id)).collect();
    let listeners = Listeners::start(port, sounds);
    let listened = CaptureTime::of(pid, || send(&wire, calls, calls));
    let heard = listeners.stop();
    wait_for_records(&journal, 2 * calls);

    let status: serde_json::Value =
        serde_json::from_slice(&get(port, "/api/v1/status", "").expect("answered").1).expect("JSON");
    let lost = |key: &str| status[key].as_u64().unwrap_or_else(|| panic!("{key}: {status}"));
    println!(
        "{calls} calls, {} listeners: {} ranges of recordings and {} events of live pages; {} frames, {} lost; capture \
         thread {:.2} s alone, {:.2} s with listeners",
        LISTENERS,
        heard.iter().map(|one| one.ranges).sum::<u64>(),
        heard.iter().map(|one| one.events).sum::<u64>(),
        lost("frames"),
        lost("dropped_by_kernel") + lost("dropped_by_interface"),
        alone.as_secs_f64(),
        listened.as_secs_f64()
    );
    assert_eq!((lost("dropped_by_kernel"), lost("dropped_by_interface")), (0, 0));
    assert_eq!(heard.len(), LISTENERS as usize);
    assert!(heard.iter().all(|one| one.ranges >= 1 && one.events >= 1), "{heard:?}");
    if is_measured {
        assert!(listened.as_secs_f64() < alone.as_secs_f64() * MOST_MORE, "{listened:?} instead of {alone:?}");
    }
    assert_eq!(service.stop().0, Some(0));
    for call in journal.calls(&CallFilter::default()).expect("readable") {
        assert_whole(&call.record);
    }
}

fn assert_whole(record: &CallRecord) {
    let sent = (TALK.as_millis() / 20) as u64;
    assert_eq!(record.verdict, Some(CallVerdict::BothSides), "{:?}", record.verdict_reason);
    assert_eq!((record.sides.caller.packets, record.sides.callee.packets), (sent, sent), "{}", record.id);
    assert!(record.problems.is_empty(), "{:?}", record.problems);
}

/// Sends `count` simultaneous calls in real time.
fn send(wire: &VethPair, first: u32, count: u32) {
    let mut frames: Vec<(Duration, Vec<u8>)> = Vec::new();
    for number in first..first + count {
        // Calls do not begin in the same millisecond.
        let begin = Duration::from_micros(u64::from(number - first) * 1_000);
        let of_call = CallFrames { number, length: TALK }.frames();
        frames.extend(of_call.into_iter().map(|(at, frame)| (begin + at, frame)));
    }
    wire.send_in_time(frames);
}

fn wait_for_records(journal: &Journal, count: u32) {
    let until = Instant::now() + Duration::from_secs(300);
    let is_complete = |stage: CallStage| stage == CallStage::Complete;
    while journal.calls(&CallFilter::default()).expect("readable").iter().filter(|c| is_complete(c.stage)).count()
        < count as usize
    {
        assert!(Instant::now() < until, "not {count} records within five minutes");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Processor time of the capture thread, which is the first thread of the service.
struct CaptureTime;

impl CaptureTime {
    /// Returns the processor time that the capture thread uses while `work` runs.
    fn of(pid: u32, work: impl FnOnce()) -> Duration {
        let before = Self::so_far(pid);
        work();
        Self::so_far(pid) - before
    }

    fn so_far(pid: u32) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat")).expect("it runs");
        // Fields 14 and 15 are utime and stime in hundredths of a second (proc(5)). The name of the program may contain
        // spaces, so fields are counted from the end of the name.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().map(|n| fields[*n].parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }
}

/// People who have a live page open and listen to recordings.
struct Listeners {
    is_over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<HeardTotals>>,
}

/// Data that a listener received: whole ranges of a recording, and events of the live page.
#[derive(Debug, Default)]
struct HeardTotals {
    ranges: u64,
    events: u64,
}

impl Listeners {
    fn start(port: u16, sounds: Vec<String>) -> Self {
        let (is_over, sounds) = (Arc::<AtomicBool>::default(), Arc::new(sounds));
        let start = |n: u32| {
            let (is_over, sounds) = (Arc::clone(&is_over), Arc::clone(&sounds));
            std::thread::spawn(move || listen(port, n, &sounds, &is_over))
        };
        let threads = (0..LISTENERS).map(start).collect();
        Self { is_over, threads }
    }

    /// Stops all listeners. Returns what each received.
    fn stop(self) -> Vec<HeardTotals> {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("a listener")).collect()
    }
}

/// Keeps a live page open. Reads a recording range by range, as a browser that plays the recording does.
fn listen(port: u16, n: u32, sounds: &[String], is_over: &AtomicBool) -> HeardTotals {
    let mut page = TcpStream::connect(("127.0.0.1", port)).expect("listens");
    let head = format!("GET /live/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    page.write_all(head.as_bytes()).expect("sent");
    page.set_read_timeout(Some(Duration::from_millis(10))).expect("set");
    let sound = &sounds[n as usize % sounds.len()];
    let mut heard = HeardTotals::default();
    let (mut from, mut buffer) = (0, vec![0; 256 * 1024]);
    while !is_over.load(Ordering::Relaxed) {
        if let Ok(length) = page.read(&mut buffer) {
            let events = buffer[..length].windows(6).filter(|window| window == b"event:").count();
            heard.events += events as u64;
        }
        let range = format!("Range: bytes={from}-{}\r\n", from + RANGE - 1);
        match get(port, sound, &range) {
            Some((206, body)) if body.len() as u64 == RANGE => {
                heard.ranges += 1;
                from += RANGE;
            }
            _ => from = 0, // at the end of the recording, or without an answer, starts again
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    heard
}

/// Returns the status and the body of an answer.
fn get(port: u16, path: &str, headers: &str) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).ok()?;
    let status = std::str::from_utf8(all.get(9..12)?).ok()?.parse().ok()?; // the digits in "HTTP/1.1 200"
    let end = all.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    Some((status, all.split_off(end)))
}

const LISTENERS: u32 = 50;
/// Time from the answer to the BYE of a call.
const TALK: Duration = Duration::from_secs(5);
/// Number of bytes of a range: one second of a recording.
const RANGE: u64 = 32_000;
/// Maximum processor time of the capture thread with listeners, as a multiple of the time without listeners. With a
/// live page the thread also measures the levels, in five packets a second of each voice.
const MOST_MORE: f64 = 1.3;
