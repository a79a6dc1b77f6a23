//! Tests of one real call during a flood of INVITEs and other packets.

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::engine::EngineLimits;
use callspan::call::event::{CallEvent, EndedCall};
use callspan::call::record::{EndedBy, ProblemKind, Side};

use crate::scenarios::direct;
use crate::support::playback::{NullSink, WatchedSink, scene_ms};
use crate::support::scenario::{STEP_MS, ScenePacket, at, ip};

/// Returns an INVITE of a scanner. Call-ID, tag and called number differ for each `n`.
fn scan(n: u32) -> Vec<u8> {
    scan_of(n, &format!("9{n}"))
}

/// Returns an INVITE of a scanner to the number `number`.
fn scan_of(n: u32, number: &str) -> Vec<u8> {
    format!(
        "INVITE sip:{number}@10.0.0.9 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.5:5060;branch=z9hG4bK{n}\r\nFrom: <sip:{n}@203.0.113.5>;tag=s{n}\r\n\
         To: <sip:{number}@10.0.0.9>\r\nCall-ID: scan-{n}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

#[test]
fn a_flood_fills_no_table_and_costs_the_call_nothing() {
    // The flood lasts 2.5 s, or 12.5 s with `CALLSPAN_FLOOD=100000`.
    let scans: u32 = std::env::var("CALLSPAN_FLOOD").ok().and_then(|v| v.parse().ok()).unwrap_or(20_000);
    let limits = EngineLimits { legs: 2_000, early_bytes: 1 << 20, ..EngineLimits::default() };
    let (mut scene, call, answered) = direct();
    scene.talk(call, 30_000);
    let ended = scene.bye(call, Side::Caller);
    let mut packets = scene.packets();
    // From the answer on, eight INVITEs come each ms, and an RTP packet of noise with each of them.
    let mut rng = fastrand::Rng::with_seed(7);
    for n in 0..scans {
        let when = at(answered + 2 * STEP_MS + i64::from(n / 8));
        let src = callspan::net::Endpoint::v4([203, 0, 113, 5], 5060);
        packets.push(ScenePacket { at: when, src, dst: ip(9, 5060), payload: scan(n) });
        let mut noise = vec![0x80, 8];
        noise.extend((0..170).map(|_| rng.u8(..)));
        packets.push(ScenePacket {
            at: when,
            src: src.with_port(rng.u16(1_024..)),
            dst: ip(rng.u8(1..9), rng.u16(20_000..)),
            payload: noise,
        });
    }
    packets.sort_by_key(|p| p.at);
    let mut engine = Engine::with_limits(Config::default(), "flood", limits);
    let mut sink = WatchedSink::new(NullSink);
    let (mut announced, mut calls): (u64, Vec<EndedCall>) = (0, Vec::new());
    let mut most = (0, 0, 0, 0);
    for packet in &packets {
        engine.handle_datagram(&packet.datagram(), &mut sink);
        while let Some(event) = engine.poll_event() {
            match event {
                CallEvent::Changed(_) => announced += 1,
                CallEvent::SegmentsDue(_) | CallEvent::Withdrawn(_) | CallEvent::Absorbed(_) | CallEvent::Learnt(_) => {
                }
                CallEvent::Ended(ended) => calls.push(*ended),
            }
        }
        let tables = engine.tables();
        most = (
            most.0.max(tables.legs),
            most.1.max(tables.unanswered_legs),
            most.2.max(tables.timers),
            most.3.max(tables.early_bytes),
        );
    }
    engine.handle_timeout(at(ended + 60_000), &mut sink);
    engine.handle_end_of_capture(&mut sink);
    calls.extend(std::iter::from_fn(|| engine.poll_event()).filter_map(|e| match e {
        CallEvent::Ended(ended) => Some(*ended),
        CallEvent::Changed(_)
        | CallEvent::SegmentsDue(_)
        | CallEvent::Withdrawn(_)
        | CallEvent::Absorbed(_)
        | CallEvent::Learnt(_) => None,
    }));
    // The real call is complete: 30 s of packets of 20 ms from each side, and no packet of the flood.
    let real = calls.iter().find(|c| c.record.legs[0].sip_call_id.ends_with("@scene")).expect("the real call");
    assert_eq!([real.record.sides.caller.packets, real.record.sides.callee.packets], [1_500, 1_500]);
    assert_eq!((real.record.ended_by, real.record.ended_at.map(scene_ms)), (Some(EndedBy::Caller), Some(ended)));
    assert_eq!(real.legs.len(), 1, "one spool");
    assert!(calls.iter().all(|c| std::ptr::eq(c, real) || c.legs.is_empty()), "no spool of a scan");
    assert_eq!(sink.media.len(), 3_000);
    // No table of the engine exceeded its limit. A leg has two timers: its own, and one for the correlation of its
    // call.
    assert!(most.0 <= 2_000 && most.1 <= 4_001 && most.2 <= 4_000 && most.3 <= 1 << 20, "{most:?}");
    let counters = engine.counters();
    assert_eq!((counters.legs, counters.legs_refused), (u64::from(scans) + 1, 0));
    // The rate allows 120 attempts. All further attempts are in one record, that of the scan.
    let scan = calls.iter().find(|c| c.record.problems.iter().any(|p| p.kind == ProblemKind::Scan)).expect("a scan");
    let attempts = scan.record.problems[0].packets.expect("a number");
    assert!(
        attempts + 130 >= u64::from(scans) && attempts <= u64::from(scans) - 120,
        "{attempts} of {scans}, {counters:?}"
    );
    assert_eq!(counters.scan_attempts, attempts);
    let reason = scan.record.verdict_reason.as_deref().unwrap_or_default();
    assert!(reason.starts_with(&format!("scan: {attempts} attempts from 203.0.113.5 in ")), "{reason}");
    assert_eq!((scan.record.from.as_deref(), scan.record.to.as_deref()), (None, None));
    assert!(calls.len() <= 2 + 130, "{} records", calls.len());
    // There are live events of the real call and of the allowed attempts, but none of the scan.
    assert!(announced < 2 * 130, "{announced}");
    let tables = engine.tables();
    assert_eq!([tables.legs, tables.conversations, tables.call_ids, tables.correlation_keys, tables.timers], [0; 5]);
    assert!(tables.tombstones <= 65_536);
}

#[test]
fn a_flood_to_the_same_number_joins_nothing_to_the_call() {
    // With `CALLSPAN_FLOOD`, another number of INVITEs can be set.
    let scans: u32 = std::env::var("CALLSPAN_FLOOD").ok().and_then(|v| v.parse().ok()).unwrap_or(5_000);
    let (mut scene, call, answered) = direct();
    scene.talk(call, 4_000);
    let ended = scene.bye(call, Side::Caller);
    let real = String::from_utf8(scene.packets()[0].payload.clone()).expect("an INVITE");
    let number = real.split_once("INVITE sip:").and_then(|(_, uri)| uri.split_once('@')).expect("a number").0;
    let mut packets = scene.packets();
    let (src, dst) = (packets[0].src, packets[0].dst);
    packets.extend((0..scans).map(|n| {
        let when = at(answered - 2 * STEP_MS + i64::from(n / 8));
        ScenePacket { at: when, src: src.with_port(5_062), dst, payload: scan_of(n, number) }
    }));
    packets.sort_by_key(|p| p.at);
    let mut engine =
        Engine::with_limits(Config::default(), "flood", EngineLimits { legs: 2_000, ..EngineLimits::default() });
    let mut sink = WatchedSink::new(NullSink);
    for packet in &packets {
        engine.handle_datagram(&packet.datagram(), &mut sink);
    }
    engine.handle_timeout(at(ended + 60_000), &mut sink);
    engine.handle_end_of_capture(&mut sink);
    let calls: Vec<EndedCall> = std::iter::from_fn(|| engine.poll_event())
        .filter_map(|e| if let CallEvent::Ended(ended) = e { Some(*ended) } else { None })
        .collect();
    let real = calls.iter().find(|c| c.record.legs[0].sip_call_id.ends_with("@scene")).expect("the real call");
    assert_eq!(real.record.legs.len(), 1, "none of the flood is a leg of it");
    assert_eq!([real.record.sides.caller.packets, real.record.sides.callee.packets], [200, 200]);
}

#[test]
fn answered_call_of_a_scanning_source_is_a_call_like_any_other() {
    let (mut scene, call, answered) = direct();
    scene.talk(call, 2_000);
    let ended = scene.bye(call, Side::Caller);
    let mut packets = scene.packets();
    let (src, dst) = (packets[0].src, packets[0].dst);
    // In the second before the call, 300 attempts come from the caller's address. The rate allows ten a minute.
    let began = at(answered - 2_000);
    packets.extend((0..300).map(|n| ScenePacket {
        at: began.offset(i64::from(n) * 1_000_000),
        src: src.with_port(5_062),
        dst,
        payload: scan(n),
    }));
    packets.sort_by_key(|p| p.at);
    let mut engine = Engine::new(Config { scan_per_minute: 10, ..Config::default() }, "flood");
    let mut sink = WatchedSink::new(NullSink);
    packets.iter().for_each(|packet| engine.handle_datagram(&packet.datagram(), &mut sink));
    // The INVITEs time out. A minute later the scan counts as ended.
    engine.handle_timeout(at(ended + 600_000), &mut sink);
    let ended: Vec<EndedCall> = std::iter::from_fn(|| engine.poll_event())
        .filter_map(|e| if let CallEvent::Ended(ended) = e { Some(*ended) } else { None })
        .collect();
    let real = ended.iter().find(|c| c.record.legs[0].sip_call_id.ends_with("@scene")).expect("the real call");
    assert_eq!([real.record.sides.caller.packets, real.record.sides.callee.packets], [100, 100]);
    let reasons = ended.iter().filter_map(|c| c.record.verdict_reason.as_deref());
    let scans: Vec<_> = reasons.filter(|reason| reason.starts_with("scan: ")).collect();
    assert_eq!(scans, ["scan: 290 attempts from 10.0.0.1 in 0 s, none answered (calls.scan_per_minute)"]);
    assert_eq!(ended.len(), 1 + 10 + 1, "the call, what the rate allows, the scan");
}

#[test]
fn a_new_leg_beyond_the_limit_is_refused_and_counted() {
    let limits = EngineLimits { legs: 1, ..EngineLimits::default() };
    let (mut scene, call, _) = direct();
    scene.talk(call, 400);
    let mut packets = scene.packets();
    packets.push(ScenePacket { at: at(scene.now()), src: ip(66, 5060), dst: ip(9, 5060), payload: scan(1) });
    let mut engine = Engine::with_limits(Config::default(), "flood", limits);
    for packet in &packets {
        engine.handle_datagram(&packet.datagram(), &mut NullSink);
    }
    assert_eq!((engine.live_legs(), engine.counters().legs_refused, engine.counters().legs_evicted), (1, 1, 0));
}
