//! Tests of worker processes that crash, hang, wait or use too much memory while they render. A payload with a command
//! makes a decoder for tests do this.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use callspan::call::record::{CallRecord, CallVerdict, ProblemKind, RecordingFile};
use callspan::journal::{CallFilter, CallStage, Journal};
use callspan::service::post_process::RenderWorkers;
use callspan::time::Timestamp;

use super::station::{ALL, FaultSetup, TestRecorder, below, capture, until};
use crate::support::captures::{fixture, frames, is_rtp, udp_of};
use crate::support::packets::write_pcap;

/// Returns render workers that use the decoder for tests.
fn workers(dir: &Path) -> RenderWorkers {
    let program = script(dir, "");
    RenderWorkers { program, base_limit: Duration::from_secs(2), patience: 60, idle_limit: Duration::from_secs(60) }
}

/// Writes a script that runs the shell command `first`, and then becomes a worker with the decoder for tests.
fn script(dir: &Path, first: &str) -> PathBuf {
    let script = dir.join("worker.sh");
    let worker = env!("CARGO_BIN_EXE_callspan");
    let text = format!("#!/bin/sh\n{first}\nCALLSPAN_TEST_CODEC=1 exec {worker} \"$@\"\n");
    std::fs::write(&script, text).expect("written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("executable");
    script
}

/// Writes the capture of a call with a command to the test decoder in the middle of the call.
fn faulty_capture(dir: &Path, order: &[u8; 8]) -> PathBuf {
    faulty_capture_of(dir, "g711a_direct", order, "")
}

/// Writes the capture `call` with a command to the test decoder in the media from one host. If `host` is empty, uses
/// media from any host.
fn faulty_capture_of(dir: &Path, call: &str, order: &[u8; 8], host: &str) -> PathBuf {
    let mut packets = frames(call);
    let is_media = |data: &[u8]| udp_of(data).is_some_and(|(src, _, payload)| is_rtp(payload) && src.starts_with(host));
    let media: Vec<usize> = (0..packets.len()).filter(|n| is_media(&packets[*n].data)).collect();
    let data = &mut packets[media[media.len() / 2]].data;
    // The payload begins after the headers of Ethernet, IPv4, UDP and RTP, which have no options.
    data[54..62].copy_from_slice(order);
    let path = dir.join("faulty.pcap");
    std::fs::write(&path, write_pcap(1, &packets)).expect("written");
    path
}

/// Records the captures of a place, and returns the record of their only call.
fn recorded(place: &FaultSetup) -> CallRecord {
    let mut recorder = TestRecorder::start(place);
    recorder.hear(ALL);
    let journal = recorder.journal.clone();
    recorder.stop();
    super::station::call(&journal).expect("a call").record
}

/// Returns the records of the faulty call and of another call.
fn rendered_with(
    order: &[u8; 8],
    workers: impl FnOnce(&Path) -> RenderWorkers,
) -> (FaultSetup, CallRecord, CallRecord) {
    let mut place = FaultSetup::new();
    let another = fixture("calls/gsm_direct/capture.pcap");
    place.captures = vec![faulty_capture(place.dir.path(), order), another];
    place.workers = Some(workers(place.dir.path()));
    let mut recorder = TestRecorder::start(&place);
    recorder.hear(ALL);
    let journal = recorder.journal.clone();
    recorder.stop();
    let calls = journal.calls(&CallFilter::default()).expect("readable");
    assert_eq!(calls.len(), 2);
    let is_pcma = |record: &CallRecord| record.sides.caller.codecs.iter().any(|codec| codec == "PCMA");
    let (faulty, sound): (Vec<_>, Vec<_>) = calls.into_iter().map(|call| call.record).partition(is_pcma);
    (place, faulty[0].clone(), sound[0].clone())
}

/// Renders the faulty call and another call, and checks that only the faulty call is lost. `how` is the reason.
fn assert_only_the_faulty_call_is_lost(order: &[u8; 8], how: &str, workers: impl FnOnce(&Path) -> RenderWorkers) {
    let (place, faulty, sound) = rendered_with(order, workers);
    assert_eq!((sound.verdict, sound.recordings.len()), (Some(CallVerdict::BothSides), 1), "{sound:#?}");
    assert_eq!((faulty.verdict, faulty.recordings.len()), (Some(CallVerdict::Failed), 0), "{faulty:#?}");
    assert!(faulty.problems.iter().any(|p| p.kind == ProblemKind::RenderError), "{:?}", faulty.problems);
    let reason = faulty.verdict_reason.unwrap_or_default();
    assert!(reason.contains(how), "the limit for this fault ends the decoder: {reason}");
    assert!(place.alarms().iter().any(|kind| kind == "render_failed"), "{:?}", place.alarms());
    assert_eq!(set_aside(&place).len(), 1, "the spool of the faulty call is kept");
}

/// Returns the spool files that were set aside because their legs could not be rendered.
fn set_aside(place: &FaultSetup) -> Vec<PathBuf> {
    let mut spools = below(&place.config.spool.dir);
    spools.retain(|path| path.extension().is_some_and(|e| e == "failed"));
    spools
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "the decoder for tests is in debug builds only")]
fn payload_that_aborts_the_decoder_costs_its_call_alone() {
    assert_only_the_faulty_call_is_lost(b"TESTABRT", "SIGABRT", workers);
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "the decoder for tests is in debug builds only")]
fn failed_spool_left_by_a_crash_is_set_aside_at_the_start() {
    let (place, ..) = rendered_with(b"TESTABRT", workers);
    let kept = set_aside(&place).pop().expect("the spool is kept");
    let packets = std::fs::read(&kept).expect("readable");
    // As if the process was killed after the update of the journal.
    std::fs::rename(&kept, kept.with_extension("")).expect("renamed");
    TestRecorder::start(&place).stop();
    assert!(std::fs::read(&kept).is_ok_and(|found| found == packets), "{:?}", below(&place.config.spool.dir));
}

/// The packets are beside a recording of all legs. After an upgrade, the decoder ends at a packet of one leg.
#[test]
#[cfg_attr(not(debug_assertions), ignore = "the decoder for tests is in debug builds only")]
fn leg_that_cannot_be_rendered_again_leaves_the_recording_as_it_is() {
    let mut place = FaultSetup::new();
    place.config.pyrus.enabled = false;
    place.config.recording.keep_pcap = true;
    let caller = "10.9.0.11:";
    place.captures = vec![faulty_capture_of(place.dir.path(), "pbx_b2bua_both_legs_ulaw", b"TESTABRT", caller)];
    let before = recorded(&place);
    assert_eq!((before.verdict, before.problems.len()), (Some(CallVerdict::BothSides), 0), "{before:#?}");
    let sound = std::fs::read(&before.recordings[0].path).expect("a recording");
    place.workers = Some(workers(place.dir.path()));
    let recorder = TestRecorder::start(&place);
    recorder.journal.request_render(&before.id).expect("written");
    until("the rendering fails", || place.alarms().iter().any(|kind| kind == "render_failed"));
    let after = recorder.journal.call(&before.id).expect("readable").expect("a call").record;
    recorder.stop();
    assert_eq!(after, before);
    assert!(std::fs::read(&after.recordings[0].path).is_ok_and(|now| now == sound));
}

/// The decoder has no fault any more, as after an upgrade.
#[test]
#[cfg_attr(not(debug_assertions), ignore = "the decoder for tests is in debug builds only")]
fn packets_set_aside_are_removed_when_their_call_is_rendered() {
    for keep_pcap in [false, true] {
        let (mut place, faulty, _) = rendered_with(b"TESTABRT", workers);
        place.workers = None;
        place.config.recording.keep_pcap = keep_pcap;
        let recorder = TestRecorder::start(&place);
        recorder.journal.request_render(&faulty.id).expect("written");
        until("the call is rendered again", || {
            let call = recorder.journal.call(&faulty.id).expect("readable").expect("a call");
            call.record.verdict == Some(CallVerdict::BothSides)
        });
        recorder.stop();
        assert_eq!(set_aside(&place), Vec::<PathBuf>::new(), "keep_pcap = {keep_pcap}");
        let beside = below(&place.config.recording.dir);
        let kept = beside.iter().filter(|path| path.extension().is_some_and(|e| e == "pcapng")).count();
        assert_eq!(kept, usize::from(keep_pcap), "{beside:?}");
    }
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "the decoder for tests is in debug builds only")]
fn payload_that_hangs_the_decoder_costs_its_call_alone() {
    assert_only_the_faulty_call_is_lost(b"TESTHANG", "it used the processor for more than 2 s", workers);
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "the decoder for tests is in debug builds only")]
fn payload_that_eats_the_memory_costs_its_call_alone() {
    assert_only_the_faulty_call_is_lost(b"TESTMEMO", "SIGABRT", workers);
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "the decoder for tests is in debug builds only")]
fn payload_for_which_the_decoder_waits_costs_its_call_alone() {
    // The limit of the duration is 2 min, and each of two attempts ends long before it.
    let impatient = |dir: &Path| RenderWorkers { idle_limit: Duration::from_secs(4), ..workers(dir) };
    assert_only_the_faulty_call_is_lost(b"TESTWAIT", "it did not use the processor for 4 s", impatient);
}

#[test]
fn worker_that_gets_no_processor_time_is_not_set_aside() {
    let mut place = FaultSetup::new();
    place.captures = vec![capture()];
    // A worker that sleeps is like a worker of a busy machine. It sleeps longer than it may use the processor.
    let mut workers = workers(place.dir.path());
    workers.program = script(place.dir.path(), "sleep 4");
    place.workers = Some(workers);
    let record = recorded(&place);
    assert_eq!((record.verdict, record.recordings.len()), (Some(CallVerdict::BothSides), 1), "{record:#?}");
    assert!(place.alarms().is_empty(), "{:?}", place.alarms());
}

/// Adds a recording of a call at this time to the journal. The recording is larger than `recording.max_disk_gib` allows.
/// Returns its path.
fn add_large_recording(place: &mut FaultSetup, like: &RecordingFile, invited_at: Timestamp) -> PathBuf {
    place.config.recording.max_disk_gib = 1;
    let path = place.config.recording.dir.join("large.wav");
    std::fs::write(&path, "").expect("written");
    let file = RecordingFile { path: path.display().to_string(), bytes: 2 << 30, ..like.clone() };
    let id = String::from("large");
    let record = CallRecord { id, invited_at: Some(invited_at), recordings: vec![file], ..CallRecord::default() };
    let journal = Journal::open(&place.config.journal).expect("a journal");
    journal.put_call(&record, CallStage::Complete).expect("written");
    path
}

#[test]
fn requested_rendering_that_waits_does_not_hold_up_retention() {
    let mut place = FaultSetup::new();
    place.config.pyrus.enabled = false;
    place.config.recording.keep_pcap = true;
    let call = recorded(&place);
    let rendered = Path::new(&call.recordings[0].path);
    std::fs::remove_file(rendered).expect("removed");
    let old = add_large_recording(&mut place, &call.recordings[0], Timestamp::from_secs(1));
    let [begun, gate] = ["begun", "gate"].map(|name| place.dir.path().join(name));
    std::fs::write(&gate, "").expect("written");
    let wait = format!("touch {}; while [ -e {} ]; do sleep 0.1; done", begun.display(), gate.display());
    let mut workers = workers(place.dir.path());
    workers.program = script(place.dir.path(), &wait);
    place.workers = Some(workers);
    Journal::open(&place.config.journal).expect("a journal").request_render(&call.id).expect("written");
    let recorder = TestRecorder::start(&place);
    until("the rendering waits", || begun.exists());
    until("retention removes the old recording", || !old.exists());
    let journal = rusqlite::Connection::open(place.config.journal.dir.join("journal.sqlite")).expect("a journal");
    let requests = || journal.query_row("SELECT count(*) FROM renders", [], |row| row.get::<_, u32>(0));
    assert_eq!((rendered.exists(), requests()), (false, Ok(1)), "a stop would not lose the request");
    std::fs::remove_file(gate).expect("removed");
    until("the call is rendered again", || rendered.is_file());
    until("the request is done", || requests() == Ok(0));
    recorder.stop();
}

#[test]
fn worker_makes_the_same_recording_as_the_process_itself() {
    let render = |has_workers: bool| {
        let mut place = FaultSetup::new();
        place.captures = vec![capture()];
        let program = PathBuf::from(env!("CARGO_BIN_EXE_callspan"));
        place.workers = has_workers.then(|| RenderWorkers {
            program,
            base_limit: Duration::from_secs(60),
            ..workers(place.dir.path())
        });
        let mut record = recorded(&place);
        assert_eq!(record.verdict, Some(CallVerdict::BothSides));
        let file = record.recordings.remove(0);
        (file.sha256, std::fs::read(&file.path).expect("a recording").len())
    };
    assert_eq!(render(true), render(false));
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "the decoder for tests is in debug builds only")]
fn leg_that_ends_the_decoder_is_excluded_and_others_are_heard() {
    let mut place = FaultSetup::new();
    place.config.pyrus.enabled = false;
    // The fault is in the media from the caller's address, i.e. in the leg that would be rendered first.
    let caller = "10.9.0.11:";
    place.captures = vec![faulty_capture_of(place.dir.path(), "pbx_b2bua_both_legs_ulaw", b"TESTABRT", caller)];
    place.workers = Some(workers(place.dir.path()));
    let record = recorded(&place);
    assert_eq!((record.verdict, record.recordings.len()), (Some(CallVerdict::BothSides), 1), "{record:#?}");
    assert_eq!(record.legs.iter().map(|leg| leg.rendered).collect::<Vec<_>>(), [false, true]);
    assert!(record.problems.iter().any(|p| p.kind == ProblemKind::RenderError), "{:?}", record.problems);
    let spools = below(&place.config.spool.dir);
    let left = spools.iter().filter(|path| path.extension().is_some_and(|e| e == "pcapng")).count();
    assert_eq!((set_aside(&place).len(), left), (1, 0), "{spools:?}");
    // Retention removes the oldest recordings first, until the rest is within the limit.
    add_large_recording(&mut place, &record.recordings[0], Timestamp::from_secs(4_000_000_000));
    let recorder = TestRecorder::start(&place);
    until("the recording is removed", || !Path::new(&record.recordings[0].path).exists());
    recorder.stop();
    assert_eq!(set_aside(&place), Vec::<PathBuf>::new(), "the packets go with the recording");
}

/// Calls without a fault that are replayed together with the faulty call.
const HEALTHY: [&str; 5] = ["gsm_direct", "g722_direct", "g711u_direct", "ilbc_direct", "opus_direct"];

/// Replays the faulty call together with the calls in [`HEALTHY`]. Returns the output, and the verdicts of all records.
fn replay(dir: &Path, faulty: &Path) -> (Output, Vec<(Option<CallVerdict>, usize)>) {
    let out = dir.join("out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    command.args(["replay", "--out"]).arg(&out).arg(faulty);
    command.args(HEALTHY.map(|call| fixture(&format!("calls/{call}/capture.pcap"))));
    command.env("CALLSPAN_TEST_CODEC", "1").env_remove("CALLSPAN_LOG");
    let output = command.output().expect("the binary runs");
    let files = std::fs::read_dir(&out).expect("a folder").flatten().map(|file| file.path());
    let records = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
    let read = |path: PathBuf| -> CallRecord {
        serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("a record")
    };
    let mut verdicts: Vec<_> = records.map(read).map(|record| (record.verdict, record.recordings.len())).collect();
    verdicts.sort_by_key(|(_, files)| *files);
    (output, verdicts)
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "the decoder for tests is in debug builds only")]
fn replay_that_a_payload_ended_names_the_call_and_renders_the_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let faulty = faulty_capture(dir.path(), b"TESTABRT");
    let (output, _) = replay(dir.path(), &faulty);
    assert_eq!(output.status.signal(), Some(6), "the decoder aborts the process");
    let mut all = vec![(Some(CallVerdict::Failed), 0)];
    all.extend([(Some(CallVerdict::BothSides), 1); HEALTHY.len()]);
    for run in 1..=2 {
        let (output, verdicts) = replay(dir.path(), &faulty);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(verdicts, all, "{said}");
        let warnings: Vec<&str> = said.lines().filter(|line| line.contains(EARLIER_RUN)).collect();
        let faulty = warnings.iter().filter(|line| line.contains("It ends the renderer and has no recording"));
        assert_eq!(faulty.count(), 1, "{said}");
        // In the first run, calls that were rendered at the same moment as the faulty call are isolated, too.
        assert!(run == 1 || warnings.len() == 1, "{said}");
    }
}

/// Part of the warning about a call that is rendered in a worker of its own.
const EARLIER_RUN: &str = "an earlier run ended while it rendered this or another call";

/// Starts a worker and asks it to render a leg from the file `leg`. Returns its replies.
fn replies_about(spool: &Path, recordings: &Path, leg: &Path) -> Vec<serde_json::Value> {
    let settings = serde_json::json!({
        "spool_dir": spool, "recording_dir": recordings, "format": "wav", "sample_rate": null, "part_hours": 0,
        "max_segment_bytes": null, "is_flat": true,
    });
    let at = |s: i64| callspan::time::Timestamp::from_secs(1_795_409_819 + s);
    let (id, answered_at, ended_at) = (String::from("a"), Some(at(0)), Some(at(8)));
    let record = CallRecord { id, answered_at, ended_at, ..CallRecord::default() };
    let request = serde_json::json!({
        "record": record, "wall_offset_ns": 0, "parts": null, "is_whole": false,
        "legs": [{ "id": 1, "name": "leg", "index": 0, "same_sides": true, "path": leg }],
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    command.arg("render-worker").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut worker = command.spawn().expect("the binary runs");
    let mut input = worker.stdin.take().expect("piped");
    input.write_all(format!("{settings}\n{request}\n").as_bytes()).expect("it reads");
    drop(input);
    let output = worker.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
#[cfg_attr(not(has_landlock), ignore = "needs python3, and a kernel with Landlock in its list of security modules")]
fn worker_opens_no_file_but_spool_and_recordings() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let [spool, recordings, outside] = ["spool", "recordings", "outside"].map(|name| dir.path().join(name));
    for folder in [&spool, &recordings, &outside] {
        std::fs::create_dir(folder).expect("made");
        std::fs::write(folder.join("leg.pcapng"), "no capture").expect("written");
    }
    let rendered = |leg: &Path| {
        let replies = replies_about(&spool, &recordings, leg);
        assert_eq!(replies[0], serde_json::json!({ "Confined": { "by_landlock": true } }));
        replies.last().expect("a result").to_string()
    };
    let (own, foreign) = (rendered(&spool.join("leg.pcapng")), rendered(&outside.join("leg.pcapng")));
    assert!(!own.contains("EACCES") && !own.contains("Permission denied"), "{own}");
    assert!(foreign.contains("EACCES") || foreign.contains("Permission denied"), "{foreign}");
}
