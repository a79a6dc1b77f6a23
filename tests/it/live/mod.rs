//! Tests of `callspan run` on a virtual interface in a network namespace. The other end of the interface is the mirror
//! port.

#![allow(clippy::print_stdout, reason = "a test prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "real time passes on a real wire")]

mod alarms;
mod flood;
mod listeners;
mod priority;
mod soak;
mod taps;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use crate::support::call_frames::CallFrames;
use crate::support::captures::{frames, streams};
use crate::support::configuration::ServiceToml;
use crate::support::packets::CapturedFrame;
use crate::support::score::{ExpectedTrack, judge};
use crate::support::veth::VethPair;
use callspan::call::record::{CallOutcome, CallRecord, CallVerdict, EndedBy, ProblemKind};

const CALL: &str = "g711a_direct";
const PATIENCE: Duration = Duration::from_secs(30);

/// A network namespace with a pair of interfaces, `tap0` and `mirror0`. Dropping this value removes it.
pub(crate) struct NetworkNamespace(pub(crate) String);

impl NetworkNamespace {
    pub(crate) fn new(what: &str) -> Self {
        let namespace = Self(format!("callspan-{what}-{}", std::process::id()));
        let added = ip(&["netns", "add", &namespace.0]);
        assert!(added.as_ref().is_ok_and(|o| o.status.success()), "{added:?}");
        for line in
            ["link add tap0 type veth peer name mirror0", "link set lo up", "link set tap0 up", "link set mirror0 up"]
        {
            let args: Vec<&str> = ["-n", &namespace.0].into_iter().chain(line.split(' ')).collect();
            let output = ip(&args).unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
        }
        namespace
    }

    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.0]); // on failure it stays until the next boot
    }
}

pub(crate) fn ip(args: &[&str]) -> std::io::Result<Output> {
    Command::new("ip").args(args).output()
}

pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_callspan"))
}

/// Writes a configuration with all folders in `dir` and without Pyrus. Returns the path of the file.
fn configuration(dir: &Path, interface: &str) -> PathBuf {
    crate::support::configuration::configuration(dir, interface, "[pyrus]\nenabled = false\n")
}

/// A running service, with the lines of its standard error. Dropping this value kills the service.
pub(crate) struct LiveService {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl LiveService {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, said: Vec::new() }
    }

    pub(crate) fn wait_for(&mut self, words: &str) {
        self.wait_for_at_most(words, PATIENCE);
    }

    pub(crate) fn wait_for_at_most(&mut self, words: &str, patience: Duration) {
        let until = Instant::now() + patience;
        while !self.said.iter().any(|line| line.contains(words)) {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(error) => panic!("no `{words}` ({error}) in {:#?}", self.said),
            }
        }
    }

    /// Sends SIGTERM and waits for the end of the service. Returns the exit status and the lines of standard error.
    pub(crate) fn stop(mut self) -> (Option<i32>, Vec<String>) {
        signal("-TERM", &self.child.id().to_string());
        let status = self.child.wait().unwrap();
        self.said.extend(self.lines.iter());
        (status.code(), std::mem::take(&mut self.said))
    }
}

impl Drop for LiveService {
    fn drop(&mut self) {
        let _ = self.child.kill(); // the service may have ended
        let _ = self.child.wait();
    }
}

/// Name of an environment variable with the path of a file. The sender writes the time of each frame into this file, ns
/// since the epoch, with one time in a line.
const SENT: &str = "CALLSPAN_TEST_SENT";

/// Name of an environment variable with the process id of the service. The sender suspends the service in the middle of
/// the call, and sends more frames than the ring buffer can hold.
const STOPPED: &str = "CALLSPAN_TEST_STOPPED";

/// Plays the call onto `tap0` in real time. Runs in the namespace for
/// [`a_call_on_the_wire_becomes_its_record_and_recording`] and other tests.
#[test]
#[ignore = "a helper: it sends, and needs an interface to send on"]
fn sender() {
    let mut out = pcap::Capture::from_device("tap0").unwrap().open().unwrap();
    let packets = frames(CALL);
    let began = Instant::now();
    let mut sent = String::new();
    let stopped = std::env::var(STOPPED).ok();
    for (n, packet) in packets.iter().enumerate() {
        match &stopped {
            Some(pid) if n == packets.len() / 2 => {
                signal("-STOP", pid);
                // 6 MiB of frames that have nothing to do with calls.
                let noise = [[0xFF; 12].as_slice(), &[0x12, 0x34], &[0; 1_386]].concat();
                (0..4_500).for_each(|_| out.sendpacket(&noise[..]).unwrap());
            }
            Some(pid) if n == packets.len() / 2 + LOST => signal("-CONT", pid),
            _ => {}
        }
        let due = Duration::from_nanos((packet.at_ns - packets[0].at_ns).unsigned_abs());
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        out.sendpacket(&packet.data[..]).unwrap();
        sent.push_str(&format!("{}\n", now.as_nanos()));
    }
    std::fs::write(std::env::var(SENT).unwrap(), sent).unwrap();
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}

/// Number of packets of the call that do not fit into the ring buffer: a quarter of a second.
const LOST: usize = 25;

fn files_with(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|e| e.unwrap().path()) {
        if path.is_dir() {
            found.extend(files_with(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn a_call_on_the_wire_becomes_its_record_and_recording() {
    let namespace = NetworkNamespace::new("call");
    let dir = tempfile::tempdir().unwrap();
    let mut run = namespace.command(&program());
    run.args(["run", "-c"]).arg(configuration(dir.path(), "mirror0"));
    let mut service = LiveService::start(run);
    service.wait_for("capturing on mirror0");

    let mut send = namespace.command(&std::env::current_exe().unwrap());
    let log = dir.path().join("sent");
    let sent = send.env(SENT, &log).args(["--exact", "live::sender", "--ignored"]).output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
    let until = Instant::now() + PATIENCE;
    let recordings = dir.path().join("recordings");
    while files_with(&recordings, "json").is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    // The state file is written every five seconds.
    std::thread::sleep(Duration::from_secs(6));
    let config = dir.path().join("callspan.toml");
    let status = Command::new(program()).args(["status", "--json", "-c"]).arg(&config).output().unwrap();
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    let view: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&view["running"], &view["service"]["calls_ended"]), (&true.into(), &1.into()), "{view:#}");
    assert_eq!((&view["service"]["rtp_packets"], &view["service"]["source"]), (&806.into(), &"mirror0".into()));
    let text = Command::new(program()).args(["status", "-c"]).arg(&config).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("running for") && text.contains("1 ended") && !text.contains("101"), "{text}");

    let (status, said) = service.stop();
    assert_eq!(status, Some(0), "{said:#?}");
    let finished = said.iter().find(|line| line.contains("call finished")).unwrap_or_else(|| panic!("{said:#?}"));
    assert!(finished.contains("verdict=\"both_sides\"") && finished.contains("delivery=\"none\""), "{finished}");
    let last = said.iter().find(|line| line.contains("stopped")).unwrap_or_else(|| panic!("{said:#?}"));
    assert!(last.contains("dropped_by_kernel=0") && last.contains("dropped_by_interface=0"), "{last}");
    assert!(last.contains("rtp=806"), "401 and 405 packets: {last}");

    let (jsons, wavs) = (files_with(&recordings, "json"), files_with(&recordings, "wav"));
    assert_eq!((jsons.len(), wavs.len()), (1, 1), "{said:#?}");
    assert_eq!(files_with(&recordings, "part"), Vec::<PathBuf>::new());
    let record: CallRecord = serde_json::from_str(&std::fs::read_to_string(&jsons[0]).unwrap()).unwrap();
    assert_eq!((record.from.as_deref(), record.to.as_deref()), (Some("101"), Some("102")));
    assert_eq!((record.outcome, record.ended_by), (CallOutcome::Answered, Some(EndedBy::Caller)));
    assert_eq!((record.verdict, record.source.as_str()), (Some(CallVerdict::BothSides), "mirror0"));
    assert_eq!((record.sides.caller.packets, record.sides.callee.packets), (401, 405));
    assert_eq!(Path::new(&record.recordings[0].path).file_name(), wavs[0].file_name());
    check_sound(&record, &wavs[0], &log);
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn frames_dropped_by_the_kernel_are_lost_by_us() {
    let namespace = NetworkNamespace::new("drops");
    let dir = tempfile::tempdir().unwrap();
    let alarms = dir.path().join("alarms");
    let config = ServiceToml::new(dir.path())
        .set("capture", "interface = \"mirror0\"")
        .set("capture", "buffer_mib = 1")
        .set("alerts", &format!("command = \"cat >> {}\"", alarms.display()))
        .set("pyrus", "enabled = false")
        .write();
    // `ip netns exec` replaces itself by the program, so the process id is that of the service.
    let mut run = namespace.command(&program());
    run.args(["run", "-c"]).arg(&config);
    let mut service = LiveService::start(run);
    service.wait_for("capturing on mirror0");
    let mut send = namespace.command(&std::env::current_exe().unwrap());
    send.env(SENT, dir.path().join("sent")).env(STOPPED, service.child.id().to_string());
    let sent = send.args(["--exact", "live::sender", "--ignored"]).output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
    let until = Instant::now() + PATIENCE;
    let recordings = dir.path().join("recordings");
    while files_with(&recordings, "json").is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let (status, said) = service.stop();
    assert_eq!(status, Some(0), "{said:#?}");
    let last = said.iter().find(|line| line.contains("stopped")).unwrap_or_else(|| panic!("{said:#?}"));
    assert!(!last.contains("dropped_by_kernel=0"), "{last}");
    let jsons = files_with(&recordings, "json");
    let record: CallRecord = serde_json::from_str(&std::fs::read_to_string(&jsons[0]).unwrap()).unwrap();
    assert_eq!(record.verdict, Some(CallVerdict::BothSides));
    let lost = record.sides.caller.lost + record.sides.callee.lost;
    // The RTP packets of both sides are lost, and so are the packets in the last blocks of the ring buffer.
    assert!((10..=LOST as u64 + 5).contains(&lost), "{lost} lost of about {LOST}");
    let problems: Vec<_> = record.problems.iter().map(|p| (p.kind.as_str(), p.packets)).collect();
    assert_eq!(problems, [("lost_by_us", Some(lost))]);
    let told = std::fs::read_to_string(&alarms).unwrap();
    assert!(told.lines().any(|line| line.contains("\"capture_drops\"")), "an alarm says so: {told}");
}

/// Checks that the sound of each packet is at the time at which it was sent, even if the sender was late.
fn check_sound(record: &CallRecord, wav: &Path, log: &Path) {
    let log = std::fs::read_to_string(log).unwrap();
    let stamps = log.lines().map(|line| line.parse().unwrap());
    let packets: Vec<CapturedFrame> =
        frames(CALL).into_iter().zip(stamps).map(|(p, at_ns)| CapturedFrame { at_ns, data: p.data }).collect();
    let samples: Vec<i16> = hound::WavReader::open(wav).unwrap().samples().map(Result::unwrap).collect();
    let heard = streams(&packets);
    let tracks = ["10.9.0.11:20000", "10.9.0.12:20000"].map(|sender| {
        let mut track = ExpectedTrack::silence(samples.len() / 2);
        let (_, rtp) = heard.iter().find(|((src, _, _), _)| src == sender).unwrap();
        track.lay_g711(rtp, record.recordings[0].starts_at.as_nanos());
        track
    });
    for side in [0, 1] {
        let channel: Vec<i16> = samples.iter().skip(side).step_by(2).copied().collect();
        let score = judge(&channel, &tracks[side], &tracks[1 - side]);
        println!("{score:?}");
        assert!(score.windows >= 7 && score.lost == 0 && score.missing_ms == 0 && score.leak < 0.15, "{score:?}");
        // The timestamp of the kernel is a little later than the time that the sender stored.
        assert!(score.lag_ms.abs() < 5.0 && score.spread_ms < 5.0, "{score:?}");
    }
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn an_interface_that_goes_down_is_reported_and_captured_again() {
    let namespace = NetworkNamespace::new("updown");
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), "mirror0");
    let alarms = dir.path().join("alarms");
    let text =
        format!("{}[alerts]\ncommand = \"cat >> {}\"\n", std::fs::read_to_string(&config).unwrap(), alarms.display());
    std::fs::write(&config, text).unwrap();
    let mut run = namespace.command(&program());
    run.args(["run", "-c"]).arg(&config);
    let mut service = LiveService::start(run);
    service.wait_for("capturing on mirror0");
    let set = |to: &str| assert!(ip(&["-n", &namespace.0, "link", "set", "mirror0", to]).unwrap().status.success());
    set("down");
    service.wait_for("interface mirror0 is down");
    set("up");
    service.wait_for("mirror0: the interface is up again");
    let mut send = namespace.command(&std::env::current_exe().unwrap());
    let sent = send.env(SENT, dir.path().join("sent")).args(["--exact", "live::sender", "--ignored"]).output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
    let (status, said) = service.stop();
    assert_eq!(status, Some(0), "{said:#?}");
    let last = said.iter().find(|line| line.contains("stopped")).unwrap_or_else(|| panic!("{said:#?}"));
    assert!(last.contains("rtp=806") && last.contains("left_aside=nothing"), "the whole call after it: {last}");
    let told = std::fs::read_to_string(&alarms).unwrap();
    // Other lines may be about the disk of the test machine.
    let of_interface = |line: &&str| line.contains("\"interface_");
    let kinds: Vec<bool> = told.lines().filter(of_interface).map(|l| l.contains("\"interface_down\"")).collect();
    assert_eq!(kinds, [true, false], "down, then up: {told}");
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn under_systemd_a_start_without_its_interfaces_waits_for_them() {
    let namespace = NetworkNamespace::new("absent");
    let dir = tempfile::tempdir().unwrap();
    let link = |args: &[&str]| assert!(ip(&[&["-n", &namespace.0, "link"], args].concat()).unwrap().status.success());
    link(&["set", "mirror0", "down"]);
    let config = ServiceToml::new(dir.path())
        .set("capture", "interface = [\"mirror0\", \"usb0\"]")
        .set("pyrus", "enabled = false")
        .write();
    let mut run = namespace.command(&program());
    // The address of a socket for systemd. No process listens there.
    run.env("NOTIFY_SOCKET", dir.path().join("notify")).args(["run", "-c"]).arg(&config);
    let mut service = LiveService::start(run);
    service.wait_for("waiting for mirror0, usb0");
    service.wait_for("interface mirror0 is down: sudo ip link set dev mirror0 up");
    service.wait_for("there is no interface usb0");
    link(&["set", "mirror0", "up"]);
    service.wait_for("mirror0: capturing again");
    let mut send = namespace.command(&std::env::current_exe().unwrap());
    let sent = send.env(SENT, dir.path().join("sent")).args(["--exact", "live::sender", "--ignored"]).output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
    link(&["add", "usb0", "type", "veth", "peer", "name", "switch0"]);
    link(&["set", "usb0", "up"]);
    service.wait_for("usb0: capturing again");
    let (status, said) = service.stop();
    assert_eq!(status, Some(0), "{said:#?}");
    let last = said.iter().find(|line| line.contains("stopped")).unwrap_or_else(|| panic!("{said:#?}"));
    assert!(last.contains("rtp=806"), "one is heard while the other is away: {last}");
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn a_missing_interface_is_one_sentence_with_the_available_ones() {
    let namespace = NetworkNamespace::new("missing");
    let dir = tempfile::tempdir().unwrap();
    let mut run = namespace.command(&program());
    let output = run.args(["run", "-c"]).arg(configuration(dir.path(), "nosuch0")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nosuch0") && said.contains("mirror0"), "names what is missing and what is there: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn without_privilege_the_capability_and_the_command_are_named() {
    let namespace = NetworkNamespace::new("bare");
    let dir = tempfile::tempdir().unwrap();
    let mut run = namespace.command(Path::new("setpriv"));
    run.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(program()).args(["run", "-c"]);
    let output = run.arg(configuration(dir.path(), "mirror0")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("CAP_NET_RAW") && said.contains("setcap"), "{said}");
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn log_json_lines_are_json_and_have_priorities_under_systemd() {
    let namespace = NetworkNamespace::new("log");
    let dir = tempfile::tempdir().unwrap();
    for (json, prefix) in [(true, false), (false, true)] {
        let mut run = namespace.command(Path::new("sh"));
        let journal = if prefix { UNDER_JOURNALD } else { "exec \"$@\"" };
        run.args(["-c", journal, "sh"]).arg(program()).args(["run", "-c"]);
        run.arg(configuration(dir.path(), "mirror0")).env_remove("JOURNAL_STREAM");
        if json {
            run.env("CALLSPAN_LOG_JSON", "1");
        }
        let mut service = LiveService::start(run);
        service.wait_for("capturing on mirror0");
        let (_, said) = service.stop();
        if json {
            let is_json = |line: &String| serde_json::from_str::<serde_json::Value>(line).is_ok_and(|v| v.is_object());
            assert!(said.iter().all(is_json), "{said:#?}");
        } else {
            let last = said.iter().find(|line| line.contains("stopped")).unwrap_or_else(|| panic!("{said:#?}"));
            assert!(last.starts_with("<6>"), "{last}");
        }
    }
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn an_error_at_the_start_has_its_priority_under_systemd() {
    let namespace = NetworkNamespace::new("logerr");
    let dir = tempfile::tempdir().unwrap();
    for (shell, is_prefixed) in [(UNDER_JOURNALD, true), ("JOURNAL_STREAM=8:1 exec \"$@\"", false)] {
        let mut run = namespace.command(Path::new("sh"));
        run.args(["-c", shell, "sh"]).arg(program()).args(["run", "-c"]);
        let output = run.arg(configuration(dir.path(), "no-such-card")).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let errors: Vec<&str> = said.lines().filter(|line| line.contains("no-such-card")).collect();
        assert!(!errors.is_empty() && errors.iter().all(|line| line.starts_with("<3>") == is_prefixed), "{said}");
    }
}

/// Shell script that starts a command as systemd does: with the device and inode of its standard error in the
/// environment.
const UNDER_JOURNALD: &str = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$@\"";

#[test]
#[cfg_attr(not(may_add_interfaces), ignore = "needs root: adds a pair of network interfaces")]
fn call_while_our_interface_is_down_has_packets_lost_by_us() {
    let wire = VethPair::new("cd");
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(program());
    command.arg("run").arg("-c").arg(configuration(dir.path(), &wire.recorder));
    let mut service = LiveService::start(command);
    service.wait_for("capturing on");
    let mut out = pcap::Capture::from_device(wire.talkers.as_str()).unwrap().open().unwrap();
    let (down, up) = (Duration::from_secs(2), Duration::from_millis(3_600));
    let mut frames = CallFrames { number: 1, length: Duration::from_secs(6) }.frames();
    frames.extend([(down, Vec::new()), (up, Vec::new())]);
    frames.sort_by_key(|(at, _)| *at);
    let begin = Instant::now();
    for (at, frame) in frames {
        std::thread::sleep(at.saturating_sub(begin.elapsed()));
        match frame.is_empty() {
            true => assert!(wire.ip(&["link", "set", "dev", &wire.recorder, if at == down { "down" } else { "up" }])),
            // The kernel may refuse to send while the other end is down.
            false => drop(out.sendpacket(frame)),
        }
    }
    let until = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while records.is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
        records = files_with(&dir.path().join("recordings"), "json");
    }
    let record: CallRecord = serde_json::from_slice(&std::fs::read(&records[0]).unwrap()).unwrap();
    let problem = record.problems.iter().find(|p| p.kind == ProblemKind::LostByUs);
    // 1.6 s are 80 packets of each side. The interface is opened again within a second.
    let lost = problem.and_then(|problem| problem.packets).unwrap_or_else(|| panic!("{:?}", record.problems));
    assert!((150..300).contains(&lost), "{lost} packets are lost by us");
    assert!(record.problems.iter().all(|p| p.kind != ProblemKind::LostBeforeUs), "{:?}", record.problems);
    assert_eq!(service.stop().0, Some(0));
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn a_service_of_root_keeps_only_the_capabilities_that_it_needs() {
    let namespace = NetworkNamespace::new("caps");
    let dir = tempfile::tempdir().unwrap();
    let mut command = namespace.command(&program());
    command.arg("run").arg("-c").arg(configuration(dir.path(), "mirror0"));
    let mut service = LiveService::start(command);
    service.wait_for("capturing on");
    let threads = std::fs::read_dir(format!("/proc/{}/task", service.child.id())).unwrap();
    let statuses: Vec<String> =
        threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap()).collect();
    assert!(statuses.len() > 3, "all threads are looked at");
    for status in &statuses {
        for (set, allowed) in [("CapPrm:", NEEDED), ("CapEff:", NEEDED), ("CapInh:", 0), ("CapAmb:", 0)] {
            let hex = status.lines().find_map(|line| line.strip_prefix(set)).unwrap().trim();
            let has = u64::from_str_radix(hex, 16).unwrap();
            assert_eq!(has & !allowed, 0, "{set} {hex}");
        }
    }
    assert_eq!(service.stop().0, Some(0));
}

/// The capabilities that the service needs, as a bit mask: CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER,
/// CAP_NET_RAW and CAP_SYS_NICE (linux/capability.h).
const NEEDED: u64 = 0b1111 | 1 << 13 | 1 << 23;
