//! Random worlds: conversations of one or several legs that overlap, seen in disorder, with losses and copies.
//!
//! Each world is made from a seed. A failure names it: `CALLSPAN_WORLD_SEED=17 cargo test --test world`.
//! `CALLSPAN_WORLDS=5000` makes more of them than the normal run.

#[path = "common/dialogs.rs"]
mod dialogs;
#[path = "common/stage.rs"]
mod stage;

use std::collections::{BTreeMap, HashMap, HashSet};

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::event::{CallEvent, EndedCall, LegId};
use callspan::call::record::Side;
use callspan::net::Endpoint;

use dialogs::{D, Packet, Phone, Scene, With};
use stage::{Nothing, Watched};

/// What a conversation of the world is, so that the judge knows what to ask of it.
#[derive(Clone, Debug, Default)]
struct Truth {
    /// Call-IDs of its INVITEs.
    call_ids: Vec<String>,
    /// The Call-ID whose caller is the caller of the conversation.
    first: String,
    /// Media addresses from which the caller speaks on the first leg.
    caller: Option<Endpoint>,
    /// Whether it was answered and sounded on every leg that was answered.
    sounded: bool,
    /// Whether the rules of joining can make one record of it.
    joins: bool,
}

#[derive(Debug)]
struct World {
    packets: Vec<Packet>,
    truths: Vec<Truth>,
    end_ms: i64,
}

/// A world and how it is shown.
#[derive(Clone, Copy, Debug)]
enum Show {
    /// As it was, in order.
    Clean,
    /// Out of order by up to 100 ms, and doubled here and there.
    Disordered,
    /// As before, and one packet in fifty is missing.
    Lossy,
}

fn world(seed: u64) -> World {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut scene = Scene::mute();
    let mut pbx = Phone { voice: 5, ..Phone::new("+74953009080", 9) };
    let mut truths = Vec::new();
    let mut end_ms = 0;
    for n in 0..rng.u8(2..7) {
        // Numbers and hosts of its own for each conversation: what may be guessed must be guessed right.
        let mut outside = Phone::new(&format!("+7999{seed:03}{n}{:03}", rng.u16(0..1000)), 20 + n * 4);
        let mut one = Phone::new(&format!("2{n}1"), 21 + n * 4);
        let mut two = Phone::new(&format!("2{n}2"), 22 + n * 4);
        scene.set_now(rng.i64(0..8_000));
        let phones = [&mut outside, &mut one, &mut two, &mut pbx];
        truths.push(match rng.u8(0..8) {
            0 | 1 => direct(&mut scene, &mut rng, phones),
            2 => refused(&mut scene, &mut rng, phones),
            3 => through_pbx(&mut scene, &mut rng, phones),
            4 => outbound(&mut scene, &mut rng, phones),
            5 => ring_group(&mut scene, &mut rng, phones),
            6 => transfer(&mut scene, &mut rng, phones),
            _ => queue(&mut scene, &mut rng, phones),
        });
        end_ms = end_ms.max(scene.now());
    }
    World { packets: scene.packets(), truths, end_ms: end_ms + 20_000 }
}

fn truth(scene: &Scene, legs: &[D], sounded: bool) -> Truth {
    let first = scene.get(legs[0]);
    Truth {
        call_ids: legs.iter().map(|d| scene.get(*d).call_id.clone()).collect(),
        first: first.call_id.clone(),
        caller: Some(first.media[0]),
        sounded,
        joins: true,
    }
}

fn some_side(rng: &mut fastrand::Rng) -> Side {
    if rng.bool() { Side::Caller } else { Side::Callee }
}

fn direct(scene: &mut Scene, rng: &mut fastrand::Rng, [outside, one, _, _]: [&mut Phone; 4]) -> Truth {
    let call = if rng.bool() { scene.dialog(outside, one) } else { scene.dialog(one, outside) };
    if rng.bool() {
        scene.invite(call);
        scene.refuse(call, 407, &[]);
    }
    scene.connect(call);
    for _ in 0..rng.u8(1..4) {
        let talk_ms = rng.i64(200..700);
        scene.talk(call, talk_ms);
        let side = some_side(rng);
        match rng.u8(0..6) {
            0 => {
                scene.hold(call, side);
                scene.wait(rng.i64(0..2_000));
                scene.resume(call, side);
            }
            1 => scene.renegotiate(call, side, "UPDATE", (&[], &[])),
            2 => {
                let media = &mut scene.at(call).media[side.channel()];
                *media = media.with_port(media.port() + 1_000);
                scene.renegotiate(call, side, "INVITE", (&[], &[]));
            }
            3 => {
                let flow = scene.flow(call, side);
                let sender = scene.sender(flow);
                let ssrc = sender.ssrc.wrapping_add(0x0101_0000);
                (sender.ssrc, sender.sequence, sender.time) = (ssrc, rng.u16(..), rng.u32(..));
            }
            _ => {}
        }
    }
    scene.talk(call, 400);
    let side = some_side(rng);
    scene.bye(call, side);
    truth(scene, &[call], true)
}

fn refused(scene: &mut Scene, rng: &mut fastrand::Rng, [outside, one, _, _]: [&mut Phone; 4]) -> Truth {
    let call = scene.dialog(outside, one);
    scene.invite(call);
    if rng.bool() {
        scene.ring(call);
    }
    scene.wait(rng.i64(0..2_000));
    match rng.u8(0..3) {
        0 => scene.cancel(call),
        1 => scene.refuse(call, 486, &[]),
        _ => scene.refuse(call, 603, &[With::Header("Reason: Q.850;cause=21")]),
    }
    truth(scene, &[call], false)
}

fn leg_in(scene: &mut Scene, outside: &mut Phone, pbx: &mut Phone) -> D {
    let numbers = [outside.user.clone(), pbx.user.clone()];
    scene.leg(outside, pbx, [&numbers[0], &numbers[1]])
}

fn rings(scene: &mut Scene, outside: &Phone, pbx: &mut Phone, phone: &mut Phone) -> D {
    let numbers = [outside.user.clone(), phone.user.clone()];
    scene.leg(pbx, phone, [&numbers[0], &numbers[1]])
}

fn through_pbx(scene: &mut Scene, rng: &mut fastrand::Rng, [outside, one, _, pbx]: [&mut Phone; 4]) -> Truth {
    let (a, b) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one));
    scene.invite(a);
    scene.wait(rng.i64(0..300));
    scene.invite(b);
    scene.ring(b);
    scene.wait(rng.i64(0..2_000));
    scene.answer(b);
    scene.answer(a);
    let talk_ms = rng.i64(300..900);
    scene.bridge(a, b, talk_ms);
    if rng.bool() {
        scene.hold(b, Side::Callee);
        scene.wait(rng.i64(0..1_000));
        scene.resume(b, Side::Callee);
        scene.bridge(a, b, 500);
    }
    scene.bye(a, Side::Caller);
    scene.bye(b, Side::Caller);
    truth(scene, &[a, b], true)
}

fn outbound(scene: &mut Scene, rng: &mut fastrand::Rng, [outside, one, _, pbx]: [&mut Phone; 4]) -> Truth {
    let (ours, theirs) = (one.user.clone(), outside.user.clone());
    let a = scene.leg(one, pbx, [&ours, &theirs]);
    let b = scene.leg(pbx, outside, ["+74953009080", &theirs]);
    scene.invite(a);
    scene.invite(b);
    scene.ring(b);
    scene.wait(rng.i64(0..2_000));
    scene.answer(b);
    scene.answer(a);
    scene.bridge(a, b, 500);
    scene.bye(b, Side::Callee);
    scene.bye(a, Side::Callee);
    truth(scene, &[a, b], true)
}

fn ring_group(scene: &mut Scene, rng: &mut fastrand::Rng, [outside, one, two, pbx]: [&mut Phone; 4]) -> Truth {
    let (a, b, c) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one), rings(scene, outside, pbx, two));
    for leg in [a, b, c] {
        scene.invite(leg);
    }
    scene.ring(b);
    scene.ring(c);
    scene.wait(rng.i64(0..2_000));
    scene.answer(c);
    scene.cancel(b);
    scene.answer(a);
    scene.bridge(a, c, 500);
    scene.bye(a, Side::Caller);
    scene.bye(c, Side::Caller);
    truth(scene, &[a, b, c], true)
}

fn transfer(scene: &mut Scene, rng: &mut fastrand::Rng, [outside, one, two, pbx]: [&mut Phone; 4]) -> Truth {
    let (a, b, c) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one), rings(scene, outside, pbx, two));
    scene.invite(a);
    scene.invite(b);
    scene.answer(b);
    scene.answer(a);
    scene.bridge(a, b, 500);
    let target = format!("<sip:{}@10.0.0.9>", two.user);
    scene.refer(b, Side::Callee, &target);
    scene.bye(b, Side::Caller);
    scene.invite(c);
    scene.wait(rng.i64(0..1_000));
    scene.answer(c);
    scene.bridge(a, c, 500);
    scene.bye(a, Side::Caller);
    scene.bye(c, Side::Caller);
    truth(scene, &[a, b, c], true)
}

fn queue(scene: &mut Scene, rng: &mut fastrand::Rng, [outside, one, _, pbx]: [&mut Phone; 4]) -> Truth {
    let (a, b) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one));
    scene.connect(a);
    scene.sound(&[(5, a, Side::Callee)], rng.i64(500..3_000));
    scene.invite(b);
    scene.ring(b);
    scene.wait(500);
    scene.answer(b);
    scene.bridge(a, b, 500);
    scene.bye(a, Side::Caller);
    scene.bye(b, Side::Caller);
    truth(scene, &[a, b], true)
}

/// What the mirror shows of a world.
fn shown(world: &World, show: Show, seed: u64) -> Vec<Packet> {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let mut out: Vec<(i64, Packet)> = Vec::new();
    for packet in &world.packets {
        let at = packet.at.as_nanos();
        let late = match show {
            Show::Clean => 0,
            // The engine bears 100 ms of disorder: a packet is shown late, with the stamp that it has.
            Show::Disordered | Show::Lossy => rng.i64(0..100_000_000),
        };
        if matches!(show, Show::Lossy) && rng.u8(0..50) == 0 {
            continue;
        }
        out.push((at + late, packet.clone()));
        if !matches!(show, Show::Clean) && rng.u8(0..20) == 0 {
            out.push((at + late + rng.i64(0..50_000_000), packet.clone()));
        }
    }
    out.sort_by_key(|(order, _)| *order);
    out.into_iter().map(|(_, packet)| packet).collect()
}

struct Outcome {
    calls: Vec<EndedCall>,
    media: HashMap<(Endpoint, Endpoint, [u8; 12]), Vec<LegId>>,
}

fn run(packets: &[Packet], end_ms: i64) -> Outcome {
    let mut sink = Watched::new(Nothing);
    let mut engine = Engine::new(Config::default(), "world");
    for packet in packets {
        engine.handle_datagram(&packet.datagram(), &mut sink);
    }
    engine.handle_timeout(dialogs::at(end_ms), &mut sink);
    engine.handle_end_of_capture(&mut sink);
    let mut calls = Vec::new();
    while let Some(event) = engine.poll_event() {
        if let CallEvent::Ended(ended) = event {
            calls.push(*ended);
        }
    }
    let tables = engine.tables();
    let left = [tables.legs, tables.conversations, tables.call_ids, tables.claims, tables.flows, tables.join_keys];
    assert_eq!(left, [0; 6], "nothing is left in the tables");
    assert_eq!([tables.referrals, tables.timers, tables.events], [0; 3], "nothing is left in the tables");
    Outcome { calls, media: sink.media }
}

/// What holds for every world, however it is shown.
fn judge_always(world: &World, outcome: &Outcome) {
    let mut ids = HashSet::new();
    let mut records_of: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &outcome.calls {
        let record = &call.record;
        assert!(ids.insert(&record.id), "the id {} is there twice", record.id);
        let own: HashSet<&str> = record.legs.iter().map(|l| l.sip_call_id.as_str()).collect();
        for call_id in own {
            *records_of.entry(call_id).or_default() += 1;
        }
        let ends = record.answered_at.zip(record.ended_at);
        assert!(ends.is_none_or(|(answered, ended)| answered <= ended), "it ended before it was answered: {record:?}");
        assert!(record.ended_by.is_some() && record.ended_at.is_some(), "an end has a time and a reason");
        let callers: Vec<&Truth> = world.truths.iter().filter(|t| touches(t, call)).collect();
        assert!(callers.len() == 1, "a record is of one conversation, not of {}", callers.len());
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

fn touches(truth: &Truth, call: &EndedCall) -> bool {
    call.record.legs.iter().any(|l| truth.call_ids.contains(&l.sip_call_id))
}

/// What holds for whatever was shown: an INVITE ends in a record.
fn judge_shown(packets: &[Packet], outcome: &Outcome) {
    let records: HashSet<&str> =
        outcome.calls.iter().flat_map(|c| &c.record.legs).map(|l| l.sip_call_id.as_str()).collect();
    for packet in packets.iter().filter(|p| p.payload.starts_with(b"INVITE ")) {
        let text = String::from_utf8_lossy(&packet.payload);
        let call_id = text.lines().find_map(|l| l.strip_prefix("Call-ID: ")).expect("written by the builder");
        assert!(records.contains(call_id), "the INVITE of {call_id} is in no record");
    }
}

/// What holds when every message was seen.
fn judge_whole(world: &World, outcome: &Outcome) {
    for truth in &world.truths {
        let calls: Vec<&EndedCall> = outcome.calls.iter().filter(|c| touches(truth, c)).collect();
        let legs: HashSet<&str> = calls.iter().flat_map(|c| &c.record.legs).map(|l| l.sip_call_id.as_str()).collect();
        assert_eq!(legs.len(), truth.call_ids.len(), "every INVITE is in a record: {truth:?}");
        if truth.joins {
            assert_eq!(calls.len(), 1, "one conversation, one record: {truth:?}");
        }
        let candidates = calls.iter().filter(|c| !c.legs.is_empty()).count();
        assert_eq!(candidates, usize::from(truth.sounded), "a call that sounded is one recording: {truth:?}");
        for call in calls.iter().filter(|_| truth.sounded) {
            let record = &call.record;
            assert!(record.answered_at.is_some(), "it was answered: {truth:?}");
            let anchor = &record.legs[call.legs[0].index];
            if anchor.sip_call_id == truth.first {
                let left = record.sides.caller.streams.first().map(|s| s.src);
                assert_eq!(left.map(|e| e.ip()), truth.caller.map(|e| e.ip()), "left is the caller: {truth:?}");
            }
        }
    }
}

fn one_world(seed: u64) {
    let world = world(seed);
    for show in [Show::Clean, Show::Disordered, Show::Lossy] {
        let packets = shown(&world, show, seed);
        let outcome = run(&packets, world.end_ms);
        judge_shown(&packets, &outcome);
        judge_always(&world, &outcome);
        if !matches!(show, Show::Lossy) {
            judge_whole(&world, &outcome);
        }
    }
}

fn why_it_fails(seed: u64) -> Option<String> {
    let why = std::panic::catch_unwind(|| one_world(seed)).err()?;
    let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
    Some(format!("seed {seed}: {}", why.chars().take(600).collect::<String>()))
}

#[test]
fn the_invariants_hold_in_every_world() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seeds = match number("CALLSPAN_WORLD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CALLSPAN_WORLDS").unwrap_or(300),
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64).clamp(1, 8);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let of = |thread| seeds.clone().filter(move |seed| seed % threads == thread).filter_map(why_it_fails);
        let workers: Vec<_> = (0..threads).map(|t| scope.spawn(move || of(t).collect::<Vec<_>>())).collect();
        workers.into_iter().flat_map(|w| w.join().expect("it catches panics")).collect()
    });
    assert!(failed.is_empty(), "{} worlds failed, e.g.\n{}", failed.len(), failed[..failed.len().min(5)].join("\n"));
}
