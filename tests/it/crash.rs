//! The service is killed with SIGKILL at random moments and started again until all calls are delivered. No call may be
//! lost or delivered twice. Every file must have a journal row, and every row its file.
//!
//! `CALLSPAN_CRASHES` is the number of kills (30 by default), and `CALLSPAN_SEED` determines their moments. Half of the
//! kills are in the first second of a call.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::call_frames::CallFrames;
use crate::support::configuration::ServiceToml;
use crate::support::packets;
use crate::support::veth::VethPair;
use age::x25519::Identity;
use callspan::call::record::{CallRecord, CallVerdict, DeliveryState};
use callspan::delivery::JobStage;
use callspan::fake_pyrus::{FakeOptions, FakePyrus, TaskPolicy};
use callspan::journal::{CallFilter, CallStage, Journal, StoredCall};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn callspan(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    // Variables of the test machine must not change the result.
    command.args(args).env_remove("CALLSPAN_LOG").env_remove("CALLSPAN_LOG_JSON");
    command.env_remove("CALLSPAN_PYRUS_SECURITY_KEY").env_remove("CREDENTIALS_DIRECTORY");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the folders of the tests have plain names")
}

#[expect(clippy::disallowed_methods, reason = "a test of a process takes real time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[expect(clippy::disallowed_methods, reason = "a test of a process takes real time")]
fn now() -> Instant {
    Instant::now()
}

pub(crate) fn fake() -> FakePyrus {
    FakePyrus::start(FakeOptions { task_policy: TaskPolicy::AlwaysNew, ..FakeOptions::default() }).expect("free ports")
}

/// Returns a configuration that captures on one end of a pair of interfaces.
fn on_wire(dir: &Path, wire: &VethPair) -> ServiceToml {
    ServiceToml::new(dir).set("capture", &format!("interface = \"{}\"", wire.recorder)).set("capture", "buffer_mib = 4")
}

pub(crate) fn pyrus(fake: &FakePyrus) -> String {
    let options = FakeOptions::default();
    format!(
        "[pyrus]\nenabled = true\nauth_url = \"{}\"\nlogin = \"{}\"\nsecurity_key = \"{}\"\naccount_id = \"{}\"\n",
        fake.auth_url(),
        options.users[0].login,
        options.users[0].security_key,
        options.accounts[0].account_id,
    )
}

/// Checks that every call is in Pyrus exactly once, with its recording exactly once. If a kill left a request without
/// an answer, a call may be there twice. Then it must be marked as a possible duplicate.
pub(crate) fn assert_delivered((fake, identity): (&FakePyrus, &Identity), journal: &Journal, calls: &[CallRecord]) {
    let state = fake.state();
    let mut possible = 0;
    for call in calls {
        let job = journal.job(&call.id).expect("readable").unwrap_or_else(|| panic!("{} has no delivery", call.id));
        assert_eq!(job.stage, JobStage::Done, "{}: {:?}", call.id, job.note);
        let body: serde_json::Value = serde_json::from_str(&job.body).expect("JSON");
        let unsure = body["possible_duplicates"].as_u64().expect("a number");
        possible += unsure;
        let known: Vec<_> = state.calls.iter().filter(|c| c.external_id.as_deref() == Some(&call.id)).collect();
        assert_eq!(known.len(), 1, "{} is known to Pyrus once", call.id);
        let task = state.task(known[0].task_id).expect("its task");
        for file in &call.recordings {
            let name = Path::new(&file.path).file_name().and_then(|n| n.to_str()).expect("a name");
            let name = name.trim_end_matches(".age");
            let attached: Vec<_> = task.attachments.iter().filter(|a| a.name == name).collect();
            assert!(!attached.is_empty(), "{name} is attached");
            assert!(attached.len() as u64 <= 1 + unsure, "{name} is attached {} times", attached.len());
            let sent = state.file(&attached[0].guid).and_then(|f| f.bytes.clone()).expect("small files are kept");
            assert!(*sent == plain(Path::new(&file.path), identity), "{name}: the same bytes");
        }
    }
    assert!(state.duplicates <= possible, "{} duplicates, {possible} known as possible", state.duplicates);
    let is_known = |id: &str| journal.call(id).expect("readable").is_some();
    let strangers = state.calls.iter().filter(|c| !c.external_id.as_deref().is_some_and(is_known));
    assert_eq!(strangers.count(), 0, "calls in Pyrus that nobody recorded");
}

fn assert_no_halves(dir: &Path) {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
                let spooled = extension == "pcapng" && folder.ends_with("spool");
                assert!(!spooled && extension != "part", "left: {}", path.display());
            }
        }
    }
}

// ---- replay

/// Writes a capture with twelve overlapping calls of two seconds.
fn capture(dir: &Path) -> (PathBuf, usize) {
    let mut packets = Vec::new();
    for n in 0..CALLS {
        let begin = 1_795_409_819_000_000_000 + i64::from(n) * 300_000_000;
        for (at, data) in (CallFrames { number: n, length: Duration::from_secs(2) }).frames() {
            let at_ns = begin + i64::try_from(at.as_nanos()).expect("short");
            packets.push(packets::CapturedFrame { at_ns, data });
        }
    }
    packets.sort_by_key(|p| p.at_ns);
    let path = dir.join("calls.pcap");
    std::fs::write(&path, packets::write_pcap(packets::ETHERNET, &packets)).expect("written");
    (path, CALLS as usize)
}

const CALLS: u32 = 12;

#[test]
fn replay_killed_at_random_moments_delivers_every_call_once() {
    let mut kills = number("CALLSPAN_CRASHES", 30);
    let seed = number("CALLSPAN_SEED", 1);
    let mut rng = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().expect("temporary folder");
    let (capture, calls) = capture(dir.path());
    let identity = Identity::generate(); // not used: `replay` encrypts nothing
    let mut whole = Duration::from_secs(2);
    let mut round = 0;
    while kills > 0 {
        let fake = fake();
        let config = dir.path().join(format!("{round}.toml"));
        // The spool may use no memory, so a kill leaves files behind.
        std::fs::write(&config, format!("[spool]\nmemory_mib = 0\n{}", pyrus(&fake))).expect("written");
        let out = dir.path().join(format!("calls-{round}"));
        let args = ["replay", "-c", text(&config), "--deliver", "--out", text(&out), text(&capture)];
        if round > 0 {
            for _ in 0..rng.u64(1..=4).min(kills) {
                let mut child = callspan(&args).spawn().expect("the binary runs");
                pause(whole.mul_f64(rng.f64()));
                child.kill().expect("ours");
                child.wait().expect("ours");
                fake.client_restarted();
                kills -= 1;
            }
        }
        let begin = now();
        let output = callspan(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(0), "seed {seed}, round {round}: {}", said(&output));
        if round == 0 {
            whole = begin.elapsed(); // the first run is not killed: its duration limits the moments of the kills
        }
        let journal = journal(&out.join(".callspan"));
        let records = complete(&journal);
        assert_eq!(records.len(), calls, "seed {seed}, round {round}");
        assert!(records.iter().all(|r| r.verdict == Some(CallVerdict::BothSides)), "seed {seed}, round {round}");
        assert_delivered((&fake, &identity), &journal, &records);
        drop(journal);
        assert_no_halves(&out);
        let verified = callspan(&["calls", "verify", "--state", text(&out)]).stdout(Stdio::piped()).output();
        let verified = verified.expect("the binary runs");
        assert_eq!(verified.status.code(), Some(0), "seed {seed}, round {round}: {}", said(&verified));
        round += 1;
    }
}

pub(crate) fn journal(dir: &Path) -> Journal {
    Journal::open(&callspan::journal::config::Config { dir: dir.to_owned() }).expect("a journal")
}

pub(crate) fn complete(journal: &Journal) -> Vec<CallRecord> {
    let calls = journal.calls(&CallFilter::default()).expect("readable");
    calls.into_iter().filter(|c| c.stage == CallStage::Complete).map(|c| c.record).collect()
}

// ---- run

/// A call on the wire, with the times at which its frames were really sent. On a busy machine these are late.
#[derive(Clone, Debug)]
pub(crate) struct SentCall {
    begun: Instant,
    ended: Instant,
    /// Times of the caller's RTP packets.
    media: Vec<Instant>,
}

impl SentCall {
    fn new(at: Instant) -> Self {
        Self { begun: at, ended: at, media: Vec::new() }
    }

    fn note(&mut self, at: Instant, frame: &[u8]) {
        self.ended = at;
        if CallFrames::is_rtp_of_caller(frame) {
            self.media.push(at);
        }
    }
}

/// Sends overlapping calls until `stop` is set. Returns the calls by their numbers.
pub(crate) fn talk(wire: &str, stop: &AtomicBool) -> BTreeMap<u32, SentCall> {
    let device = pcap::Capture::from_device(wire).expect("ours").open().expect("root");
    let mut device = device;
    let mut sent = BTreeMap::new();
    let mut due: Vec<(Instant, u32, Vec<u8>)> = Vec::new();
    let mut next_call = now();
    let mut number = 0;
    loop {
        let at = now();
        if at >= next_call && !stop.load(Ordering::Relaxed) {
            let talk = CallFrames { number, length: LENGTH };
            due.extend(talk.frames().into_iter().map(|(after, bytes)| (at + after, number, bytes)));
            due.sort_by_key(|(at, _, _)| *at);
            number += 1;
            next_call = at + BETWEEN;
        }
        let ready = due.partition_point(|(when, _, _)| *when <= at);
        for (_, number, bytes) in due.drain(..ready) {
            let sent_at = now();
            sent.entry(number).or_insert_with(|| SentCall::new(sent_at)).note(sent_at, &bytes);
            device.sendpacket(bytes).expect("the wire is there");
        }
        if due.is_empty() && stop.load(Ordering::Relaxed) {
            return sent;
        }
        pause(Duration::from_millis(2));
    }
}

/// Starts the service and waits until it captures.
pub(crate) fn start(config: &Path) -> (Child, Arc<Mutex<String>>) {
    let mut child = callspan(&["run", "-c", text(config)]).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut lines = BufReader::new(child.stderr.take().expect("piped"));
    let log = Arc::new(Mutex::new(String::new()));
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
        log.lock().expect("no panic").push_str(&line);
        if line.contains("capturing on") {
            break;
        }
        line.clear();
    }
    assert!(log.lock().expect("no panic").contains("capturing on"), "{}", log.lock().expect("no panic"));
    let rest = Arc::clone(&log);
    std::thread::spawn(move || {
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
            rest.lock().expect("no panic").push_str(&line);
            line.clear();
        }
    });
    (child, log)
}

#[test]
#[cfg_attr(not(may_add_interfaces), ignore = "needs root: adds a pair of network interfaces")]
fn the_service_killed_at_random_moments_loses_no_call_that_it_heard() {
    let wire = VethPair::new("cs");
    let kills = number("CALLSPAN_CRASHES", 30);
    let seed = number("CALLSPAN_SEED", 1);
    let mut rng = fastrand::Rng::with_seed(seed);
    let (fake, identity) = (fake(), Identity::generate());
    let dir = tempfile::tempdir().expect("temporary folder");
    let config = on_wire(dir.path(), &wire)
        .set("calls", "silence_s = 5")
        .set("spool", "sync_seconds = 1")
        .set("recording", "keep_pcap = true")
        .set("recording", &format!("encrypt_to = \"{}\"", identity.to_public()))
        .append(&pyrus(&fake))
        .write();
    let stop = Arc::new(AtomicBool::new(false));
    let talker = std::thread::spawn({
        let (stop, end) = (Arc::clone(&stop), wire.talkers.clone());
        move || talk(&end, &stop)
    });
    let mut lives: Vec<(Instant, Instant)> = Vec::new();
    for _ in 0..kills {
        let (mut child, _) = start(&config);
        let begin = now();
        // A new call begins each 700 ms. So a service that is killed soon after its start dies in the first second of a
        // call that it captured from its beginning.
        pause(Duration::from_millis(if rng.bool() { rng.u64(300..1_500) } else { rng.u64(50..5_500) }));
        child.kill().expect("ours");
        lives.push((begin, now()));
        child.wait().expect("ours");
        fake.client_restarted();
    }
    stop.store(true, Ordering::Relaxed);
    let sent = talker.join().expect("no panic");
    let (mut child, log) = start(&config);
    let journal = journal(&dir.path().join("state"));
    let settled = wait_until(Duration::from_secs(60), || {
        let calls = journal.calls(&CallFilter::default()).expect("readable");
        let done = calls.iter().all(|c| c.record.delivery.state == DeliveryState::Done || only_rings(c));
        !calls.is_empty() && done && spools(dir.path()) == 0 && plain_files(dir.path()) == 0
    });
    let calls = journal.calls(&CallFilter::default()).expect("readable");
    let open: Vec<_> = calls
        .iter()
        .filter(|c| c.record.delivery.state != DeliveryState::Done && !only_rings(c))
        .map(|c| (c.record.id.clone(), c.stage, c.record.verdict, c.record.delivery.clone()))
        .collect();
    if !settled {
        let left = (spools(dir.path()), plain_files(dir.path()));
        let kept = dir.keep(); // kept to find the reason
        let log = log.lock().expect("no panic");
        panic!("seed {seed}: {open:#?}, spools and plain files: {left:?}, see {}\n{log}", kept.display());
    }
    Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
    assert_eq!(child.wait().expect("ours").code(), Some(0), "{}", log.lock().expect("no panic"));

    let records = complete(&journal);
    assert_delivered((&fake, &identity), &journal, &records);
    let (mut heard_whole, mut young) = (0, 0);
    for (number, sent) in &sent {
        let is_alive = |at: &&Instant| lives.iter().any(|(from, to)| **at >= *from && **at <= *to);
        let heard = PACKET * u32::try_from(sent.media.iter().filter(is_alive).count()).expect("few");
        let call_id = CallFrames { number: *number, length: LENGTH }.call_id();
        let of_it: Vec<_> = records.iter().filter(|r| r.legs.iter().any(|l| l.sip_call_id == call_id)).collect();
        assert!(of_it.len() <= 1, "seed {seed}: {call_id} has {} records", of_it.len());
        // Finds the run of the service that captured the INVITE. The list lacks the last run, which is not killed.
        let Some((_, killed)) = lives.iter().find(|(from, to)| sent.begun >= *from && sent.begun + ON_ITS_WAY < *to)
        else {
            continue;
        };
        young += u32::from(killed.saturating_duration_since(sent.begun) < Duration::from_secs(1));
        let [record] = of_it.as_slice() else {
            let age = killed.saturating_duration_since(sent.begun);
            panic!("seed {seed}: {call_id} was heard for {heard:?}, killed at an age of {age:?}, and has no record");
        };
        // Each kill during a call may lose the last second before the kill.
        let kills = lives.iter().filter(|(_, to)| *to > sent.begun && *to < sent.ended + ON_ITS_WAY).count();
        let kept = PACKET * u32::try_from(record.sides.caller.packets).expect("few");
        let lost = heard.saturating_sub(kept + STARTING);
        let may_be_lost = LAST_SECOND * u32::try_from(kills).expect("few");
        assert!(lost <= may_be_lost, "seed {seed}: {call_id}: {lost:?} lost");
        if heard < may_be_lost + STARTING {
            continue;
        }
        assert_eq!(record.verdict, Some(CallVerdict::BothSides), "seed {seed}: {call_id}: {:?}", record.verdict_reason);
        let whole = lives.iter().any(|(from, to)| sent.begun >= *from && sent.ended + ON_ITS_WAY < *to);
        if whole {
            heard_whole += 1;
            let seconds = record.recordings.iter().map(|r| r.duration_s).sum::<f64>();
            // The network of the test delays packets, but the amount of sound is exact: 50 packets a second.
            assert!((seconds - LENGTH.as_secs_f64()).abs() < 0.5, "seed {seed}: {call_id} has {seconds} s");
        }
    }
    assert!(kills < 20 || young > 0, "no call was killed in its first second");
    // A run may be too short for a whole call. Among twenty runs, at least one is long enough.
    assert!(kills < 20 || heard_whole > 0, "{} calls sent, none heard from its begin to its end", sent.len());
    drop(journal);
    assert_no_halves(dir.path());
    let verified = callspan(&["calls", "verify", "-c", text(&config)]).stdout(Stdio::piped()).output();
    let verified = verified.expect("the binary runs");
    assert_eq!(verified.status.code(), Some(0), "seed {seed}: {}", said(&verified));
    assert_rendered_again(&config, &records, &identity);
}

/// Sends frames at their times, counted from the call of this function.
fn send(wire: &str, frames: Vec<(Duration, Vec<u8>)>) {
    let mut device = pcap::Capture::from_device(wire).expect("ours").open().expect("root");
    let begin = now();
    for (after, bytes) in frames {
        while let Some(rest) = (begin + after).checked_duration_since(now()).filter(|rest| !rest.is_zero()) {
            pause(rest);
        }
        device.sendpacket(bytes).expect("the wire is there");
    }
}

/// Returns the sample of a G.711 A-law code, computed from the definition: inverted even bits, sign, exponent,
/// mantissa.
fn alaw(code: u8) -> f64 {
    let code = code ^ 0x55;
    let (exponent, mantissa) = (i32::from(code >> 4 & 7), i32::from(code & 15));
    let magnitude = if exponent == 0 { mantissa * 16 + 8 } else { (mantissa * 16 + 0x108) << (exponent - 1) };
    f64::from(if code & 0x80 == 0 { -magnitude } else { magnitude })
}

/// Returns the position of a packet's sound in a channel. It is searched within `far` samples of `near`.
fn find(channel: &[f64], sound: &[u8], (near, far): (i64, i64)) -> Option<i64> {
    let sound: Vec<f64> = sound.iter().map(|code| alaw(*code)).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let likeness = |at: &i64| {
        let piece = usize::try_from(*at).ok().and_then(|at| channel.get(at..at + sound.len()));
        piece.map_or(0.0, |p| dot(p, &sound) / (dot(p, p) * dot(&sound, &sound)).sqrt().max(1.0))
    };
    let best = (near - far..=near + far).max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) > 0.5).then_some(best)
}

#[test]
#[cfg_attr(not(may_add_interfaces), ignore = "needs root: adds a pair of network interfaces")]
fn open_and_ringing_calls_continue_with_their_ids_after_a_kill() {
    let wire = VethPair::new("cg");
    let dir = tempfile::tempdir().expect("temporary folder");
    let config = on_wire(dir.path(), &wire).set("calls", "silence_s = 5").write();
    let talks = CallFrames { number: 1, length: Duration::from_secs(11) };
    let rings = CallFrames { number: 2, length: Duration::from_secs(2) };
    let mut frames = talks.frames();
    // The second call is answered after the recorder has started again.
    let answer_later = |(at, frame): (Duration, Vec<u8>)| {
        (if at > Duration::from_millis(30) { at + Duration::from_secs(8) } else { at }, frame)
    };
    frames.extend(rings.frames().into_iter().map(answer_later));
    frames.sort_by_key(|(at, _)| *at);
    let (mut child, _) = start(&config);
    let sender = std::thread::spawn({
        let end = wire.talkers.clone();
        move || send(&end, frames)
    });
    pause(Duration::from_secs(4));
    let journal = journal(&dir.path().join("state"));
    let all = || journal.calls(&CallFilter::default()).expect("readable");
    let mut ids: Vec<String> = all().into_iter().map(|c| c.record.id).collect();
    child.kill().expect("ours");
    child.wait().expect("ours");
    pause(Duration::from_secs(1)); // longer than concealment
    let (mut child, log) = start(&config);
    sender.join().expect("no panic");
    let done = wait_until(Duration::from_secs(30), || all().iter().all(|c| c.stage == CallStage::Complete));
    Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
    assert_eq!(child.wait().expect("ours").code(), Some(0), "{}", log.lock().expect("no panic"));
    let records = complete(&journal);
    let mut after: Vec<String> = records.iter().map(|r| r.id.clone()).collect();
    ids.sort();
    after.sort();
    assert!(done && ids.len() == 2 && ids == after, "{ids:?} before the kill, {after:?} at the end");
    for (talk, of) in [(talks, "talks"), (rings, "rings")] {
        let call_id = talk.call_id();
        let record = records.iter().find(|r| r.legs.iter().any(|l| l.sip_call_id == call_id)).expect("one of each");
        assert_eq!(record.verdict, Some(CallVerdict::BothSides), "{of}: {:?}", record.verdict_reason);
        let gap = record
            .problems
            .iter()
            .find(|p| p.kind == callspan::call::record::ProblemKind::RestartGap)
            .expect("it says so");
        let mut reader = hound::WavReader::open(&record.recordings[0].path).expect("there");
        let samples: Vec<f64> = reader.samples::<i16>().map(|s| f64::from(s.expect("whole"))).collect();
        for side in [1, 2] {
            let channel: Vec<f64> = samples.iter().skip(side - 1).step_by(2).copied().collect();
            let packets = u16::try_from(talk.length.as_millis() / 20).expect("few");
            let at = |n: u16, lag: i64, far: i64| {
                find(&channel, &talk.sound(n, side as u32), (i64::from(n) * 160 + lag, far))
            };
            // The first packet is sent 2 ms after the answer, and the network of the test may add some delay.
            let first =
                (0..packets).find_map(|n| Some(at(n, 16, 400)? - i64::from(n) * 160)).expect("something was heard");
            let places: Vec<Option<i64>> = (0..packets).map(|n| at(n, first, 48)).collect();
            let astray =
                places.iter().zip(0..).filter(|(at, n)| at.is_some_and(|at| (at - n * 160 - first).abs() > 16));
            assert_eq!(astray.count(), 0, "{of}, side {side}: more than 2 ms from where they were heard: {places:?}");
            let holes = places.split(Option::is_some).map(<[_]>::len).filter(|hole| *hole > 5);
            let (holes, heard) = (holes.collect::<Vec<_>>(), places.iter().flatten().count());
            if of == "rings" {
                assert!(holes.is_empty() && heard > 90, "{of}, side {side}: {holes:?}, {heard} heard");
                continue;
            }
            let [hole] = holes.as_slice() else { panic!("{of}, side {side}: {holes:?} packets are missing") };
            let hole_ms = 20 * *hole as u64;
            // The gap ends when the capture is opened again, i.e. before the spool is read.
            assert!(gap.ms.is_some_and(|ms| ms.abs_diff(hole_ms) < 1_000), "{of}: {gap:?}, {hole_ms} ms are missing");
            // Single packets may be missing, because the network of the test may be overloaded.
            let is_hole = |n: &usize| places[*n..].iter().take(*hole).all(Option::is_none);
            let from = (0..places.len()).find(is_hole).expect("a hole") * 160 + 1_600;
            let silent = &channel[from..from + hole * 160 - 2_000];
            let sounds: Vec<(usize, f64)> = silent.iter().copied().enumerate().filter(|(_, s)| *s != 0.0).collect();
            let first = sounds.get(..sounds.len().min(8));
            assert!(
                sounds.is_empty(),
                "{of}, side {side}: {} of {} not silent: {first:?}, {places:?}",
                sounds.len(),
                silent.len()
            );
        }
    }
}

/// Takes as long as the call, so it runs in `.ci/long` only.
#[test]
#[ignore = "takes minutes, and needs root: adds a pair of network interfaces"]
fn a_long_call_killed_at_random_has_each_segment_once() {
    let wire = VethPair::new("cl");
    let seed = number("CALLSPAN_SEED", 1);
    let mut rng = fastrand::Rng::with_seed(seed);
    let (fake, identity) = (fake(), Identity::generate());
    let dir = tempfile::tempdir().expect("temporary folder");
    // At 64,000 bytes a second, 1 MiB makes segments of 16 s. A segment is written half a minute after its end.
    let config = on_wire(dir.path(), &wire)
        .set("spool", "sync_seconds = 1")
        .set("recording", "sample_rate = 16000")
        .set("recording", &format!("encrypt_to = \"{}\"", identity.to_public()))
        .set("numbers", "extension_pattern = \"102\"")
        .append(&format!("{}max_upload_mib = 1", pyrus(&fake)))
        .write();
    let talk = CallFrames { number: 1, length: LONG };
    let talker = std::thread::spawn({
        let end = wire.talkers.clone();
        move || {
            let mut device = pcap::Capture::from_device(end.as_str()).expect("ours").open().expect("root");
            pause(Duration::from_secs(2)); // until the first run captures
            let begun = now();
            for (at, bytes) in talk.frames() {
                pause((begun + at).saturating_duration_since(now()));
                device.sendpacket(bytes).expect("the wire is there");
            }
        }
    });
    let (mut lives, mut live_parts) = (0, 0);
    let journal_config = callspan::journal::config::Config { dir: dir.path().join("state") };
    while !talker.is_finished() {
        let (mut child, _) = start(&config);
        // The first run must live long enough to capture the beginning of the call.
        pause(Duration::from_millis(if lives == 0 { 5_000 } else { rng.u64(2_000..9_000) }));
        child.kill().expect("ours");
        child.wait().expect("ours");
        fake.client_restarted();
        lives += 1;
        let journal = Journal::open_read_only(&journal_config).expect("a journal");
        let live = journal.calls(&CallFilter::default()).expect("readable");
        let live = live.iter().filter(|c| c.stage == CallStage::Live).map(|c| c.record.recordings.len()).max();
        live_parts = live_parts.max(live.unwrap_or(0));
    }
    talker.join().expect("no panic");
    let (mut child, log) = start(&config);
    let journal = journal(&dir.path().join("state"));
    let settled = wait_until(Duration::from_secs(400), || {
        let calls = journal.calls(&CallFilter::default()).expect("readable");
        let done =
            calls.iter().all(|c| c.stage == CallStage::Complete && c.record.delivery.state == DeliveryState::Done);
        !calls.is_empty() && done && spools(dir.path()) == 0 && plain_files(dir.path()) == 0
    });
    assert!(settled, "seed {seed}: {}", log.lock().expect("no panic"));
    Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
    assert_eq!(child.wait().expect("ours").code(), Some(0), "{}", log.lock().expect("no panic"));
    let records = complete(&journal);
    let [record] = records.as_slice() else { panic!("seed {seed}: {} calls", records.len()) };
    assert!(live_parts >= 2, "seed {seed}: {live_parts} parts were made while the call lasted, in {lives} lives");
    let parts: Vec<_> = (1..).zip(&record.recordings).map(|(n, r)| (n, r.part)).collect();
    assert!(parts.len() > live_parts && parts.iter().all(|(n, part)| n == part), "seed {seed}: {parts:?}");
    assert!(record.recordings.windows(2).all(|pair| pair[0].ends_at == pair[1].starts_at), "seed {seed}");
    let job = journal.job(&record.id).expect("readable").expect("a delivery");
    let body: serde_json::Value = serde_json::from_str(&job.body).expect("JSON");
    let unsure = body["possible_duplicates"].as_u64().expect("a number");
    let state = fake.state();
    let sent: Vec<_> = state.tasks.iter().flat_map(|t| &t.attachments).collect();
    assert!(sent.len() as u64 <= parts.len() as u64 + unsure, "seed {seed}: {} files in Pyrus", sent.len());
    for file in &record.recordings {
        let part = plain(Path::new(&file.path), &identity);
        let is_it = |guid: &str| state.file(guid).and_then(|f| f.bytes.clone()).is_some_and(|bytes| *bytes == part);
        assert!(sent.iter().any(|a| is_it(&a.guid)), "seed {seed}: part {} is in Pyrus", file.part);
    }
    drop(journal);
    assert_no_halves(dir.path());
    let verified = callspan(&["calls", "verify", "-c", text(&config)]).stdout(Stdio::piped()).output();
    let verified = verified.expect("the binary runs");
    assert_eq!(verified.status.code(), Some(0), "seed {seed}: {}", said(&verified));
}

/// Checks `keep_pcap`: the packets of every recording are kept beside it. After decryption, they give the same
/// recording again.
fn assert_rendered_again(config: &Path, records: &[CallRecord], identity: &Identity) {
    let record = records.iter().find(|r| !r.recordings.is_empty()).expect("one that was heard");
    let encrypted = Path::new(&record.recordings[0].path);
    let packets = encrypted.with_file_name(format!("{}.1.pcapng.age", record.id));
    std::fs::write(packets.with_extension(""), plain(&packets, identity)).expect("written");
    let before = plain(encrypted, identity);
    let again = callspan(&["calls", "render", &record.id, "-c", text(config)]).stdout(Stdio::piped()).output();
    let again = again.expect("the binary runs");
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert!(plain(&encrypted.with_extension(""), identity) == before, "the same sound");
}

/// Returns the bytes of a file, decrypted if it is encrypted.
fn plain(path: &Path, identity: &Identity) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("readable");
    if path.extension().is_none_or(|e| e != "age") {
        return bytes;
    }
    age::decrypt(identity, &bytes).expect("encrypted to this key")
}

/// Returns the number of recordings and kept packets that are not encrypted yet.
fn plain_files(dir: &Path) -> usize {
    let mut folders = vec![dir.join("recordings")];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path()) {
            count += usize::from(path.extension().is_some_and(|e| e == "wav" || e == "pcapng"));
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    count
}

/// Returns whether only the first messages of a call were captured, because kills lost the others. For the recorder
/// this call rings for an hour, and its leg has no spool.
fn only_rings(call: &StoredCall) -> bool {
    call.stage == CallStage::Live && call.record.answered_at.is_none()
}

fn spools(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir.join("spool")).into_iter().flatten().flatten();
    entries.filter(|e| e.path().extension().is_some_and(|e| e == "pcapng")).count()
}

pub(crate) fn wait_until(patience: Duration, done: impl Fn() -> bool) -> bool {
    let end = now() + patience;
    while now() < end {
        if done() {
            return true;
        }
        pause(Duration::from_millis(200));
    }
    false
}

/// Time from the answer to the BYE of a call.
const LENGTH: Duration = Duration::from_millis(1_500);
/// Length of the long call: five segments, three of which are made during the call.
const LONG: Duration = Duration::from_secs(80);
/// Time between the starts of two calls.
const BETWEEN: Duration = Duration::from_millis(700);
/// Time from the network to the spool, which includes the kernel's ring buffer on a slow machine. Frames that are on
/// their way are lost in a kill.
const ON_ITS_WAY: Duration = Duration::from_millis(250);
/// Maximum duration of the sound that is missing directly before the service is killed.
const LAST_SECOND: Duration = Duration::from_secs(1);
/// Maximum duration of the sound that is missing directly after the service starts. The test stores the time of the
/// start slightly after the service has reported that it captures.
const STARTING: Duration = Duration::from_millis(200);
/// Duration of the sound in an RTP packet.
const PACKET: Duration = Duration::from_millis(20);
