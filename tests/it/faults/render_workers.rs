//! Worker processes that die, hang or eat memory in mid-render, by payloads that a decoder for tests obeys.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use callspan::call::record::{CallRecord, CallVerdict, ProblemKind};
use callspan::journal::CallFilter;
use callspan::service::post_process::RenderWorkers;

use super::station::{ALL, FaultSetup, TestRecorder, capture};
use crate::support::captures::{fixture, frames, is_rtp, udp_of};
use crate::support::packets::write_pcap;

/// Returns workers with the decoder for tests.
fn workers(dir: &Path) -> RenderWorkers {
    let script = dir.join("worker.sh");
    let text = format!("#!/bin/sh\nCALLSPAN_TEST_CODEC=1 exec {} \"$@\"\n", env!("CARGO_BIN_EXE_callspan"));
    std::fs::write(&script, text).expect("written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("executable");
    RenderWorkers { program: script, base_limit: Duration::from_secs(5) }
}

/// Writes the capture of a call with an order to the decoder in mid-call.
fn faulty_capture(dir: &Path, order: &[u8; 8]) -> PathBuf {
    let mut packets = frames("g711a_direct");
    let is_media = |data: &[u8]| udp_of(data).is_some_and(|(_, _, payload)| is_rtp(payload));
    let media: Vec<usize> = (0..packets.len()).filter(|n| is_media(&packets[*n].data)).collect();
    let data = &mut packets[media[media.len() / 2]].data;
    // Ethernet, IPv4, UDP and RTP headers without options.
    data[54..62].copy_from_slice(order);
    let path = dir.join("faulty.pcap");
    std::fs::write(&path, write_pcap(1, &packets)).expect("written");
    path
}

/// Returns the records of the faulty call and of another call.
fn rendered_with(order: &[u8; 8]) -> (FaultSetup, CallRecord, CallRecord) {
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

fn assert_only_the_faulty_call_is_lost(order: &[u8; 8]) {
    let (place, faulty, sound) = rendered_with(order);
    assert_eq!((sound.verdict, sound.recordings.len()), (Some(CallVerdict::BothSides), 1), "{sound:#?}");
    assert_eq!((faulty.verdict, faulty.recordings.len()), (Some(CallVerdict::Failed), 0), "{faulty:#?}");
    assert!(faulty.problems.iter().any(|p| p.kind == ProblemKind::RenderError), "{:?}", faulty.problems);
    assert!(place.alarms().iter().any(|kind| kind == "render_failed"), "{:?}", place.alarms());
    let spools = std::fs::read_dir(&place.config.spool.dir).expect("a folder").flatten();
    let kept = spools.filter(|file| file.file_name().to_string_lossy().ends_with(".pcapng.failed"));
    assert_eq!(kept.count(), 1, "the spool of the faulty call is kept");
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "the decoder for tests is in debug builds only")]
fn payload_that_aborts_the_decoder_costs_its_call_alone() {
    assert_only_the_faulty_call_is_lost(b"TESTABRT");
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "the decoder for tests is in debug builds only")]
fn payload_that_hangs_the_decoder_costs_its_call_alone() {
    assert_only_the_faulty_call_is_lost(b"TESTHANG");
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "the decoder for tests is in debug builds only")]
fn payload_that_eats_the_memory_costs_its_call_alone() {
    assert_only_the_faulty_call_is_lost(b"TESTMEMO");
}

#[test]
fn worker_makes_the_same_recording_as_the_process_itself() {
    let render = |has_workers: bool| {
        let mut place = FaultSetup::new();
        place.captures = vec![capture()];
        let program = PathBuf::from(env!("CARGO_BIN_EXE_callspan"));
        place.workers = has_workers.then(|| RenderWorkers { program, base_limit: Duration::from_secs(60) });
        let mut recorder = TestRecorder::start(&place);
        recorder.hear(ALL);
        let journal = recorder.journal.clone();
        recorder.stop();
        let mut record = super::station::call(&journal).expect("a call").record;
        assert_eq!(record.verdict, Some(CallVerdict::BothSides));
        let file = record.recordings.remove(0);
        (file.sha256, std::fs::read(&file.path).expect("a recording").len())
    };
    assert_eq!(render(true), render(false));
}
