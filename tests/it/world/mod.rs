//! Random worlds: overlapping conversations of one or several legs, with reordered, lost and duplicated packets.
//!
//! Each world is made from a seed. A failure prints its seed; `CALLSPAN_WORLD_SEED=17 cargo test --test it world`
//! repeats it. `CALLSPAN_WORLDS` is the number of worlds.

mod conversations;
mod tenants;

use std::collections::{BTreeMap, HashMap, HashSet};

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::event::{CallEvent, EndedCall, LegId};
use callspan::call::record::StreamRecord;
use callspan::net::Endpoint;

use crate::support::playback::{NullSink, WatchedSink};
use crate::support::scenario::{self, Scene, ScenePacket, ScenePhone};
use conversations::{DID, ExpectedRecord};

#[derive(Debug)]
struct RandomWorld {
    packets: Vec<ScenePacket>,
    truths: Vec<ExpectedRecord>,
    end_ms: i64,
}

/// How the mirror port changes the packets of a world.
#[derive(Clone, Copy, Debug)]
enum MirrorEffects {
    /// All packets in order.
    Clean,
    /// Packets are out of order by up to 100 ms, and some come twice.
    Disordered,
    /// As `Disordered`, but one packet in fifty is missing.
    Lossy,
    /// All packets come in order, and the calls have the same number or none.
    Crowd,
}

thread_local! {
    /// The effects that were applied last. They are printed if the test fails.
    static SHOWN: std::cell::Cell<MirrorEffects> = const { std::cell::Cell::new(MirrorEffects::Clean) };
}

fn world(seed: u64) -> RandomWorld {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut scene = Scene::mute();
    let mut pbx = ScenePhone { voice: 5, ..ScenePhone::new(DID, 9) };
    let mut truths = Vec::new();
    let mut end_ms = 0;
    for n in 0..rng.u8(2..7) {
        // Each conversation has its own numbers and hosts, so correlation must make no mistake.
        let mut outside = ScenePhone::new(&format!("+7999{seed:03}{n}{:03}", rng.u16(0..1000)), 20 + n * 4);
        let mut one = ScenePhone::new(&format!("2{n}1"), 21 + n * 4);
        let mut two = ScenePhone::new(&format!("2{n}2"), 22 + n * 4);
        scene.set_now(rng.i64(0..8_000));
        let phones = [&mut outside, &mut one, &mut two, &mut pbx];
        truths.extend(conversations::any(&mut scene, &mut rng, phones));
        end_ms = end_ms.max(scene.now());
    }
    RandomWorld { packets: scene.packets(), truths, end_ms: end_ms + 20_000 }
}

/// Makes a world in which all callers have the same number or withhold it, so that the calls are hard to distinguish.
fn crowd(seed: u64) -> RandomWorld {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut scene = Scene::mute();
    let mut pbx = ScenePhone { voice: 5, ..ScenePhone::new(DID, 9) };
    let caller = if rng.bool() { "anonymous" } else { "+79990000001" };
    let mut truths = Vec::new();
    let mut end_ms = 0;
    for n in 0..rng.u8(2..5) {
        let mut outside = ScenePhone::new(caller, 20 + n * 4);
        let (mut one, mut two) =
            (ScenePhone::new(&format!("2{n}1"), 21 + n * 4), ScenePhone::new(&format!("2{n}2"), 22 + n * 4));
        scene.set_now(rng.i64(0..8_000));
        let phones = [&mut outside, &mut one, &mut two, &mut pbx];
        truths.extend(conversations::of_a_crowd(&mut scene, &mut rng, phones));
        end_ms = end_ms.max(scene.now());
    }
    RandomWorld { packets: scene.packets(), truths, end_ms: end_ms + 20_000 }
}

/// Returns the packets of a world in the form in which the mirror port shows them.
fn shown(world: &RandomWorld, show: MirrorEffects, seed: u64) -> Vec<ScenePacket> {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let mut out: Vec<(i64, ScenePacket)> = Vec::new();
    for packet in &world.packets {
        let at = packet.at.as_nanos();
        let late = match show {
            MirrorEffects::Clean | MirrorEffects::Crowd => 0,
            // The engine tolerates 100 ms of disorder. Packets are captured later, but keep their timestamps.
            MirrorEffects::Disordered | MirrorEffects::Lossy => rng.i64(0..100_000_000),
        };
        if matches!(show, MirrorEffects::Lossy) && rng.u8(0..50) == 0 {
            continue;
        }
        out.push((at + late, packet.clone()));
        if !matches!(show, MirrorEffects::Clean | MirrorEffects::Crowd) && rng.u8(0..20) == 0 {
            out.push((at + late + rng.i64(0..50_000_000), packet.clone()));
        }
    }
    out.sort_by_key(|(order, _)| *order);
    out.into_iter().map(|(_, packet)| packet).collect()
}

struct WorldOutcome {
    calls: Vec<EndedCall>,
    media: HashMap<(Endpoint, Endpoint, [u8; 12]), Vec<LegId>>,
}

fn run(packets: &[ScenePacket], end_ms: i64) -> WorldOutcome {
    let mut sink = WatchedSink::new(NullSink);
    let mut engine = Engine::new(Config::default(), "world");
    for packet in packets {
        engine.handle_datagram(&packet.datagram(), &mut sink);
        engine.check();
    }
    engine.handle_timeout(scenario::at(end_ms), &mut sink);
    engine.handle_end_of_capture(&mut sink);
    let mut calls = Vec::new();
    while let Some(event) = engine.poll_event() {
        if let CallEvent::Ended(ended) = event {
            calls.push(*ended);
        }
    }
    let tables = engine.tables();
    let left = [
        tables.legs,
        tables.conversations,
        tables.call_ids,
        tables.media_addresses,
        tables.flows,
        tables.correlation_keys,
    ];
    assert_eq!(left, [0; 6], "nothing is left in the tables");
    assert_eq!([tables.referrals, tables.timers, tables.events], [0; 3], "nothing is left in the tables");
    WorldOutcome { calls, media: sink.media }
}

/// Checks rules that hold for every world and mirror.
fn judge_always(world: &RandomWorld, outcome: &WorldOutcome) {
    let mut ids = HashSet::new();
    let mut records_of: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &outcome.calls {
        let record = &call.record;
        assert!(ids.insert(&record.id), "the id {} is there twice", record.id);
        let own: HashSet<&str> = record.legs.iter().map(|l| l.sip_call_id.as_str()).collect();
        for call_id in own.iter().copied() {
            *records_of.entry(call_id).or_default() += 1;
        }
        let ends = record.answered_at.zip(record.ended_at);
        assert!(ends.is_none_or(|(answered, ended)| answered <= ended), "it ended before it was answered: {record:?}");
        assert!(record.ended_by.is_some() && record.ended_at.is_some(), "an end has a time and a reason");
        let callers: Vec<&ExpectedRecord> = world.truths.iter().filter(|t| touches(t, call)).collect();
        let kinds: Vec<&str> = callers.iter().map(|t| t.kind).collect();
        assert!(callers.len() == 1, "a record is of one conversation, not of {kinds:?}: {own:?}");
        assert!(!record.related.contains(&record.id), "no call is related to itself");
    }
    for call in &outcome.calls {
        let unknown = call.record.related.iter().find(|id| !ids.contains(id));
        assert_eq!(unknown, None, "what is related has a record");
    }
    for (call_id, records) in records_of {
        assert_eq!(records, 1, "{call_id} is in one record");
    }
    for (packet, legs) in &outcome.media {
        assert_eq!(legs.len(), 1, "an RTP packet is kept once: {packet:?} {legs:?}");
    }
}

fn touches(truth: &ExpectedRecord, call: &EndedCall) -> bool {
    call.record.legs.iter().any(|l| truth.call_ids.contains(&l.sip_call_id))
}

/// Checks rules that hold even with lost packets: each INVITE must be in a record.
fn judge_shown(packets: &[ScenePacket], outcome: &WorldOutcome) {
    let records: HashSet<&str> =
        outcome.calls.iter().flat_map(|c| &c.record.legs).map(|l| l.sip_call_id.as_str()).collect();
    for packet in packets.iter().filter(|p| p.payload.starts_with(b"INVITE ")) {
        let text = String::from_utf8_lossy(&packet.payload);
        let call_id = text.lines().find_map(|l| l.strip_prefix("Call-ID: ")).expect("written by the builder");
        assert!(records.contains(call_id), "the INVITE of {call_id} is in no record");
    }
}

/// Checks rules that hold if every message was captured.
fn judge_whole(world: &RandomWorld, outcome: &WorldOutcome) {
    for truth in &world.truths {
        let calls: Vec<&EndedCall> = outcome.calls.iter().filter(|c| touches(truth, c)).collect();
        let [call] = calls.as_slice() else { panic!("{} records of one conversation: {truth:?}", calls.len()) };
        let record = &call.record;
        let legs: HashSet<&str> = record.legs.iter().map(|l| l.sip_call_id.as_str()).collect();
        assert_eq!(legs.len(), truth.call_ids.len(), "every INVITE is in a record: {truth:?}");
        assert_eq!(!call.legs.is_empty(), truth.sounded, "a call that sounded is one recording: {truth:?}");
        assert_eq!(record.answered_at.is_some(), truth.is_answered(), "whether it was answered: {truth:?}");
        assert!(truth.outcomes.contains(&record.outcome), "its outcome is not {:?}: {truth:?}", record.outcome);
        if let Some(direction) = truth.direction {
            assert_eq!(record.direction, direction, "its direction: {truth:?}");
        }
        assert_eq!(record.internal, truth.internal, "the extension: {truth:?}");
        assert_eq!(record.ended_by, Some(truth.ended_by), "what ended it: {truth:?}");
        judge_sides(truth, call);
        for other in &truth.related {
            let other = outcome.calls.iter().find(|c| c.record.legs.iter().any(|l| l.sip_call_id == *other));
            let other = &other.expect("every INVITE is in a record").record;
            assert!(record.related.contains(&other.id) && other.related.contains(&record.id), "related: {truth:?}");
        }
    }
}

/// Checks that the left side is the caller, whichever leg is rendered.
fn judge_sides(truth: &ExpectedRecord, call: &EndedCall) {
    let Some(rendered) = call.legs.first() else { return };
    let leg = &call.record.legs[rendered.index];
    let mut sides = [&call.record.sides.caller, &call.record.sides.callee];
    if !rendered.same_sides {
        sides.reverse();
    }
    let hosts = truth.left.get(&leg.sip_call_id).expect("the builder knows who is on the left");
    let on_the_left = |s: &StreamRecord| hosts.contains(&s.src.ip());
    assert!(sides[0].streams.iter().all(on_the_left), "left is the caller: {truth:?} {:?}", sides[0].streams);
    assert!(!sides[1].streams.iter().any(on_the_left), "right is the callee: {truth:?} {:?}", sides[1].streams);
    assert!(!sides[0].streams.is_empty() || !sides[1].streams.is_empty(), "something was heard: {truth:?}");
}

fn one_world(seed: u64) {
    let world = world(seed);
    for show in [MirrorEffects::Clean, MirrorEffects::Disordered, MirrorEffects::Lossy] {
        SHOWN.set(show);
        let packets = shown(&world, show, seed);
        let outcome = run(&packets, world.end_ms);
        judge_shown(&packets, &outcome);
        judge_always(&world, &outcome);
        if !matches!(show, MirrorEffects::Lossy) {
            judge_whole(&world, &outcome);
        }
    }
    SHOWN.set(MirrorEffects::Crowd);
    let world = crowd(seed);
    let outcome = run(&world.packets, world.end_ms);
    judge_shown(&world.packets, &outcome);
    judge_always(&world, &outcome);
}

/// Returns the message of a panic.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn why_it_fails(seed: u64) -> Option<String> {
    let why = std::panic::catch_unwind(|| one_world(seed)).err()?;
    let why = panic_text(why.as_ref());
    Some(format!("seed {seed}, {:?}: {}", SHOWN.get(), why.chars().take(600).collect::<String>()))
}

/// Runs `CALLSPAN_WORLDS` worlds, or only the world with the seed `CALLSPAN_WORLD_SEED`.
fn judge_seeds(why_it_fails: fn(u64) -> Option<String>) {
    judge_seeds_of(why_it_fails, 1);
}

/// Does the same as [`judge_seeds`] for only one in `one_of` seeds.
fn judge_seeds_of(why_it_fails: fn(u64) -> Option<String>, one_of: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seeds = match number("CALLSPAN_WORLD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CALLSPAN_WORLDS").unwrap_or(300).div_ceil(one_of),
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64).clamp(1, 8);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let of = |thread| seeds.clone().filter(move |seed| seed % threads == thread).filter_map(why_it_fails);
        let workers: Vec<_> = (0..threads).map(|t| scope.spawn(move || of(t).collect::<Vec<_>>())).collect();
        workers.into_iter().flat_map(|w| w.join().expect("it catches panics")).collect()
    });
    assert!(failed.is_empty(), "{} worlds failed, e.g.\n{}", failed.len(), failed[..failed.len().min(12)].join("\n"));
}

#[test]
fn the_invariants_hold_in_every_world() {
    judge_seeds(why_it_fails);
}

#[test]
fn worlds_that_once_failed_hold_the_invariants() {
    let failed: Vec<String> = FAILED_ONCE.into_iter().filter_map(why_it_fails).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Seeds of worlds that once failed. In the first, the capture shows the two legs of a forwarded call in the wrong
/// order. In the last four, the capture lacks messages of a call through a proxy. In the others, a telephone answered,
/// and by chance another caller was answered at that moment, or another telephone was given up.
const FAILED_ONCE: [u64; 17] = [
    2_950, 4_781, 4_901, 4_855, 7_482, 7_601, 8_678, 9_926, 12_382, 14_175, 15_848, 19_586, 19_992, 5_779, 8_933,
    13_169, 6_539,
];
