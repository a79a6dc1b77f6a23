//! Tests that the spool file of a leg is a capture: replaying it gives the same call again.

use callspan::call::Engine;
use callspan::call::event::CallEvent;
use callspan::capture::files;
use callspan::service::pipeline::{Pipeline, PipelineStep};
use callspan::spool::memory::MemorySpool;
use callspan::spool::{LegSource, LegStore as _};

use super::{CallRecord, ComparableCall};
use crate::support::captures::{fixture, frames, replay_bytes, replay_packets};

/// Returns the spool files of all legs with media in a capture, in the order of the calls. The bool is true for the
/// first leg of a call.
fn spools(name: &str) -> Vec<(bool, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    let mut source = files::open(&[fixture(&format!("calls/{name}/capture.pcap"))]).unwrap();
    let mut spool = MemorySpool::new(64, dir.path().into());
    let mut pipeline = Pipeline::new(Engine::new(callspan::call::config::Config::default(), "test"));
    while pipeline.step(&mut source, &mut spool).unwrap() == PipelineStep::More {}
    pipeline.end(&mut spool);
    let mut out = Vec::new();
    while let Some(event) = pipeline.engine.poll_event() {
        let CallEvent::Ended(ended) = event else { continue };
        for (place, leg) in ended.legs.iter().enumerate() {
            match spool.source(leg) {
                Some(LegSource::Memory(bytes)) => out.push((place == 0, bytes.to_vec().expect("readable"))),
                Some(LegSource::File(path)) => out.push((place == 0, std::fs::read(path).unwrap())),
                None => {}
            }
        }
    }
    out
}

#[test]
fn the_engine_over_a_legs_spool_gives_the_same_call() {
    for name in [
        "g711a_direct",
        "hold_resume_direct",
        "early_media_183_direct",
        "dtmf_rfc4733_direct",
        "late_offer_compact_hdrs_cn_pt13_sipp",
    ] {
        let clean = ComparableCall::of(&replay_packets(&frames(name)));
        let spools = spools(name);
        assert_eq!(spools.len(), 1, "{name} has one leg");
        let again = ComparableCall::of(&replay_bytes(&[spools[0].1.clone()]));
        again.assert_same(&clean, name);
    }
}

#[test]
fn the_anchor_leg_alone_gives_the_same_sound() {
    for name in ["pbx_b2bua_both_legs_ulaw", "tcp_signalling", "ring_group_fork_pbx"] {
        let clean = ComparableCall::of(&replay_packets(&frames(name)));
        let anchor = spools(name).into_iter().find(|(first, _)| *first).unwrap().1;
        let again = ComparableCall::of(&replay_bytes(&[anchor]));
        let core =
            |r: &CallRecord| (r.id.clone(), r.from.clone(), r.to.clone(), r.answered_at, r.ended_at, r.sides.clone());
        assert_eq!(core(&again.records[0]), core(&clean.records[0]), "{name}");
        assert!(again.sound == clean.sound, "{name}: other sound");
    }
}
