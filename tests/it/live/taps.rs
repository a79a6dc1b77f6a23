//! Tests of `callspan run` with two capture interfaces (taps).

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{LiveService, PATIENCE, files_with, program, signal};
use crate::support::call_frames::CallFrames;
use crate::support::configuration::configuration;
use crate::support::veth::VethPair;
use callspan::call::record::{CallRecord, CallVerdict};

/// Two network namespaces, each with a tap and a sender.
struct TwoTaps {
    wires: [VethPair; 2],
    out: Vec<pcap::Capture<pcap::Active>>,
}

impl TwoTaps {
    fn new(names: [&str; 2]) -> Self {
        let wires = names.map(VethPair::new);
        let open = |wire: &VethPair| pcap::Capture::from_device(wire.talkers.as_str()).unwrap().open().unwrap();
        Self { out: wires.iter().map(open).collect(), wires }
    }

    /// Starts the service on both taps.
    fn start(&self, dir: &Path) -> LiveService {
        let names: Vec<String> = self.wires.iter().map(|wire| format!("\"{}\"", wire.recorder)).collect();
        let config = configuration(dir, "TAPS", "[pyrus]\nenabled = false\n");
        let text = std::fs::read_to_string(&config).unwrap().replace("\"TAPS\"", &format!("[{}]", names.join(", ")));
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(program());
        command.arg("run").arg("-c").arg(config);
        let mut service = LiveService::start(command);
        service.wait_for("capturing on");
        service
    }

    fn send(&mut self, taps: &[usize], frame: &[u8]) {
        taps.iter().for_each(|tap| self.out[*tap].sendpacket(frame).unwrap());
    }
}

/// Returns whether a frame comes from the caller.
fn is_of_caller(frame: &[u8]) -> bool {
    frame[26..30] == [10, 9, 0, 11]
}

fn records(dir: &Path, count: usize) -> Vec<CallRecord> {
    let until = Instant::now() + PATIENCE;
    let recordings = dir.join("recordings");
    while files_with(&recordings, "json").len() < count && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let read = |path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut records: Vec<CallRecord> = files_with(&recordings, "json").into_iter().map(read).collect();
    records.sort_by(|a, b| a.legs[0].sip_call_id.cmp(&b.legs[0].sip_call_id));
    records
}

fn packets(record: &CallRecord) -> [(u64, u64); 2] {
    [&record.sides.caller, &record.sides.callee].map(|side| (side.packets, side.lost))
}

#[test]
#[cfg_attr(not(may_add_interfaces), ignore = "needs root: adds two pairs of network interfaces")]
fn halves_on_two_taps_are_one_call_without_copies_between_taps() {
    let dir = tempfile::tempdir().unwrap();
    let mut taps = TwoTaps::new(["ha", "hb"]);
    let service = taps.start(dir.path());
    // Call 1: each direction comes to a tap of its own. Call 2: all packets come to both taps. Call 3: all packets come
    // to the second tap only.
    let mut frames = Vec::new();
    for number in 1..=3 {
        let call = CallFrames { number, length: Duration::from_secs(2) };
        frames.extend(call.frames().into_iter().map(|(at, frame)| (at, number, frame)));
    }
    frames.sort_by_key(|(at, ..)| *at);
    let began = Instant::now();
    for (at, number, frame) in &frames {
        std::thread::sleep(at.saturating_sub(began.elapsed()));
        let to: &[usize] = match number {
            1 if is_of_caller(frame) => &[0],
            2 => &[1, 0],
            _ => &[1],
        };
        taps.send(to, frame);
    }
    let records = records(dir.path(), 3);
    assert_eq!(records.len(), 3);
    for record in &records {
        assert_eq!(record.verdict, Some(CallVerdict::BothSides));
        assert_eq!((packets(record), record.legs.len()), ([(100, 0), (100, 0)], 1), "{:?}", record.sides);
        assert!(record.problems.is_empty(), "{:?}", record.problems);
    }
    // The state file is written every five seconds.
    std::thread::sleep(Duration::from_secs(6));
    let config = dir.path().join("callspan.toml");
    let output = Command::new(program()).args(["status", "--json", "-c"]).arg(config).output().unwrap();
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let taps_seen = view["service"]["taps"].as_array().unwrap();
    let count = |name: &str| taps_seen.iter().map(|tap| tap[name].as_u64().unwrap()).collect::<Vec<_>>();
    // RTP packets at the first tap: half of call 1 and all of call 2. At the second tap: half of call 1 and all of
    // calls 2 and 3.
    assert_eq!(count("rtp"), [300, 500], "{view:#}");
    // Each of the 18 messages is counted once, whichever tap is read first. The 6 duplicates of call 2 are removed.
    assert_eq!((count("sip").iter().sum::<u64>(), count("copies").iter().sum::<u64>()), (18, 6), "{view:#}");
    assert!(taps_seen.iter().all(|tap| tap["is_up"] == true));
    assert_eq!(taps_seen[1]["name"], taps.wires[1].recorder.as_str());
    assert!(taps.wires[0].ip(&["link", "set", "dev", &taps.wires[0].recorder, "down"]));
    std::thread::sleep(Duration::from_secs(8));
    let text = std::fs::read_to_string(dir.path().join("state/status.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let up: Vec<_> = report["taps"].as_array().unwrap().iter().map(|tap| tap["is_up"].clone()).collect();
    assert_eq!(up, [false, true], "{text}");
    assert_eq!(service.stop().0, Some(0));
}

#[test]
#[cfg_attr(not(may_add_interfaces), ignore = "needs root: adds two pairs of network interfaces")]
fn backlog_of_a_busy_tap_keeps_order_with_the_quiet_tap() {
    let dir = tempfile::tempdir().unwrap();
    let mut taps = TwoTaps::new(["ba", "bb"]);
    let service = taps.start(dir.path());
    // The caller's packets, including the BYE, come to the quiet tap. The callee's packets come to the tap with noise.
    let call = CallFrames { number: 1, length: Duration::from_secs(4) };
    let mut frames: Vec<_> =
        call.frames().into_iter().map(|(at, frame)| (at, usize::from(!is_of_caller(&frame)), frame)).collect();
    let noise = [[0xFF; 12].as_slice(), &[0x12, 0x34], &[0; 50]].concat();
    let pid = service.child.id().to_string();
    let ended = frames.last().unwrap().0;
    let (stop, resume) = (ended - Duration::from_millis(1500), ended + Duration::from_millis(100));
    frames.extend([(stop, usize::MAX, b"-STOP".to_vec()), (resume, usize::MAX, b"-CONT".to_vec())]);
    frames.sort_by_key(|(at, ..)| *at);
    let began = Instant::now();
    for (at, tap, frame) in &frames {
        while began.elapsed() < *at {
            if *at > stop && *at < resume {
                (0..20).for_each(|_| taps.send(&[1], &noise));
            }
            std::thread::sleep(Duration::from_millis(1).min(at.saturating_sub(began.elapsed())));
        }
        match *tap {
            usize::MAX => signal(std::str::from_utf8(frame).unwrap(), &pid),
            tap => taps.send(&[tap], frame),
        }
    }
    let records = records(dir.path(), 1);
    assert_eq!(packets(&records[0]), [(200, 0), (200, 0)], "{:?}", records[0].sides);
    assert!(records[0].problems.is_empty(), "{:?}", records[0].problems);
    assert_eq!(service.stop().0, Some(0));
}
