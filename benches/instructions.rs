//! One stage of a packet's processing, to count its instructions. `benches/instruction_budget.py` runs a stage in
//! callgrind with two numbers of rounds and takes the difference.
//!
//! The stages build on each other. `frames` only makes frames, and `decode` also decodes the frames. `lookup` also
//! finds the calls of the packets, and `append` also writes the packets to a spool in memory. `render` renders a call
//! of a minute in each round.

#![allow(clippy::print_stdout, reason = "a measurement says what it measured")]

mod traffic;

use std::error::Error;
use std::hint::black_box;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::decision::Decision;
use callspan::call::event::{CallEvent, DiscardReason, KeptBytes, LegId, LegSink};
use callspan::capture::{CapturedFrame, LinkType};
use callspan::decode::{FrameDecoder, UdpDatagram};
use callspan::render::{RenderOptions, plan, render};
use callspan::spool::LegStore as _;
use callspan::spool::memory::MemorySpool;
use callspan::time::Timestamp;
use traffic::Trunk;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [stage, rounds] = args.as_slice() else {
        // `cargo test --benches` only checks that the bench runs, so few rounds are enough.
        STAGES.iter().try_for_each(|stage| run(stage, 1_000))?;
        println!("stages: {}", STAGES.join(", "));
        return Ok(());
    };
    run(stage, rounds.parse()?)
}

fn run(stage: &str, rounds: u32) -> Result<(), Box<dyn Error>> {
    match stage {
        "frames" => play(rounds, |_, frame| _ = black_box(frame)),
        "decode" => {
            let mut decoder = FrameDecoder::new();
            play(rounds, |at, frame| decode(&mut decoder, at, frame, &mut |decoded| _ = black_box(&decoded)));
        }
        "lookup" => through_engine(rounds, &mut Nowhere),
        "append" => through_engine(rounds, &mut MemorySpool::new(4_096, PathBuf::new())),
        "render" => renders(rounds.min(MAX_RENDERS))?,
        _ => return Err(format!("no such stage; there are {}", STAGES.join(", ")).into()),
    }
    Ok(())
}

/// Passes `frames` frames of a trunk to `each`.
fn play(frames: u32, mut each: impl FnMut(Timestamp, &[u8])) {
    let trunk = Trunk { calls: CALLS, length: Duration::from_secs(3_600), spread: Duration::from_secs(1) };
    let mut left = frames;
    let ended = trunk.play(&mut |after, frame| {
        if left == 0 {
            return Err(io::ErrorKind::Other.into());
        }
        left -= 1;
        each(Timestamp::from_secs(1_795_417_200) + after, frame);
        Ok(())
    });
    assert!(ended.is_err(), "the trunk has more frames");
}

type Decoded<'a> = callspan::decode::DecodedItem<'a>;

fn decode(decoder: &mut FrameDecoder, at: Timestamp, data: &[u8], each: &mut dyn FnMut(Decoded<'_>)) {
    let frame = CapturedFrame { at, link: LinkType::Ethernet, interface: 0, orig_len: data.len() as u32, data };
    decoder.handle_frame(&frame, each);
}

fn through_engine(frames: u32, sink: &mut dyn LegSink) {
    let (mut decoder, mut engine) = (FrameDecoder::new(), Engine::new(Config::default(), "made up"));
    play(frames, |at, frame| decode(&mut decoder, at, frame, &mut |decoded| engine.handle_decoded(&decoded, sink)));
    assert_eq!(engine.counters().rtp_unclaimed, 0);
}

/// A leg sink that discards everything.
struct Nowhere;

impl LegSink for Nowhere {
    fn open(&mut self, _leg: LegId, _name: &str) {}
    fn packet(&mut self, _leg: LegId, datagram: &UdpDatagram<'_>, _keep: KeptBytes) {
        black_box(datagram.payload);
    }
    fn decide(&mut self, _leg: LegId, _at: Timestamp, _decision: &Decision) {}
    fn close(&mut self, _leg: LegId) {}
    fn discard(&mut self, _leg: LegId, _reason: DiscardReason) {}
}

fn renders(rounds: u32) -> Result<(), Box<dyn Error>> {
    let mut spool = MemorySpool::new(4_096, PathBuf::new());
    let (mut decoder, mut engine) = (FrameDecoder::new(), Engine::new(Config::default(), "made up"));
    let trunk = Trunk { calls: 1, length: Duration::from_secs(60), spread: Duration::ZERO };
    trunk.play(&mut |after, frame| {
        let at = Timestamp::from_secs(1_795_417_200) + after;
        decode(&mut decoder, at, frame, &mut |decoded| engine.handle_decoded(&decoded, &mut spool));
        Ok(())
    })?;
    engine.handle_end_of_capture(&mut spool);
    let ended = std::iter::from_fn(|| engine.poll_event()).find_map(|event| match event {
        CallEvent::Ended(ended) => Some(ended),
        _ => None,
    });
    let leg = ended.and_then(|ended| ended.legs.into_iter().next()).ok_or("the call has a leg")?;
    let source = spool.source(&leg).ok_or("the leg has a spool")?;
    for _ in 0..rounds {
        let plan = plan(&source, &RenderOptions::default())?;
        let report = render(&plan, &source, &mut |frames| {
            black_box(frames);
            Ok(())
        })?;
        assert!(report.sides.iter().all(|side| side.decoded >= 2_999), "a minute of each side");
    }
    Ok(())
}

const STAGES: [&str; 5] = ["frames", "decode", "lookup", "append", "render"];
/// Number of calls. With more calls, the run would be longer, but the number of instructions for a packet would be the
/// same.
const CALLS: u32 = 20;
/// Maximum number of renderings in one run. `cargo test --benches` passes a number of rounds that is meant for packets.
const MAX_RENDERS: u32 = 20;
