//! Tests with capture files in which the clock was set during a call. The sound must not move.

use callspan::call::record::ProblemKind;
use fastrand::Rng;

use super::generated::{assert_none, seeds};
use super::variations::Unchanged;
use crate::support::captures::{frames, replay_bytes};
use crate::support::packets::{self, CapturedFrame, cooked, cooked2, raw_ip, tagged, write_pcap};
use crate::support::rewrite;

/// Link types and tags that a capture can have in these tests.
const LINKS: &[&str] = &["ethernet", "vlan", "cooked", "cooked2", "raw", "ipv6"];

/// Returns a capture file of the frames with another link type.
fn file(link: &str, frames: &[CapturedFrame]) -> Vec<u8> {
    let each = |f: &dyn Fn(&[u8]) -> Vec<u8>| packets::each(frames, |data| vec![f(data)]);
    match link {
        "vlan" => write_pcap(packets::ETHERNET, &each(&|data| tagged(data, &[(0x88A8, 7), (0x8100, 9)]))),
        "cooked" => write_pcap(packets::SLL, &each(&cooked)),
        "cooked2" => write_pcap(packets::SLL2, &each(&cooked2)),
        "raw" => write_pcap(packets::RAW_IP, &packets::each(frames, raw_ip)),
        "ipv6" => write_pcap(packets::ETHERNET, &rewrite::ipv6(frames)),
        _ => write_pcap(packets::ETHERNET, frames),
    }
}

/// Sets the clock before frame number `at`, i.e. changes the timestamps from this frame on by `step_ms`.
fn set_clock(frames: &mut [CapturedFrame], at: usize, step_ms: i64) {
    frames.iter_mut().skip(at).for_each(|frame| frame.at_ns += step_ms * 1_000_000);
}

/// Returns the index of the first frame with a SIP message that begins with `text`.
fn message(frames: &[CapturedFrame], text: &str) -> usize {
    frames.iter().position(|frame| rewrite::begins(frame, text)).unwrap()
}

/// Returns whether the frames follow each other without a pause. In a pause, a step of the clock cannot be recognised.
fn is_steady(frames: &[CapturedFrame]) -> bool {
    frames.windows(2).all(|pair| (pair[1].at_ns - pair[0].at_ns).abs() < 40_000_000)
}

#[test]
fn clock_set_back_during_a_call_loses_nothing() {
    let mut wrong = Vec::new();
    for call in ["g711u_direct", "hold_resume_direct", "opus_direct", "amr_direct"] {
        let before = Unchanged::of(call);
        for seed in seeds(6) {
            let mut random = Rng::with_seed(seed);
            let mut changed = frames(call);
            let (first, last) = (message(&changed, "ACK"), message(&changed, "BYE"));
            let link = *random.choice(LINKS).unwrap();
            let mut steps: Vec<(usize, i64)> = Vec::new();
            for _ in 0..random.usize(1..4) {
                let at = if random.u8(0..5) == 0 { last } else { random.usize(first + 20..last) };
                // Two steps within a second are left out, because nobody sets a clock so fast.
                let is_alone = steps.iter().all(|(other, _)| at.abs_diff(*other) > 100);
                if !is_alone || !is_steady(&changed[at - 1..(at + 40).min(changed.len())]) {
                    continue;
                }
                let ms = *random.choice(&[-100, -300, -1_000, -2_000, -4_500]).unwrap();
                // A step of less than 70 ms is not searched for.
                let ms = ms + random.i64(-40..25);
                steps.push((at, ms));
                set_clock(&mut changed, at, ms);
            }
            let name = format!("{call}, {link}, {steps:?}, seed {seed}");
            let result = replay_bytes(&[file(link, &changed)]);
            let problems: &[_] = if steps.iter().any(|(at, _)| *at < last) { &[ProblemKind::ClockStep] } else { &[] };
            wrong.extend(before.differences(&result, problems).into_iter().map(|fault| format!("{name}: {fault}")));
        }
    }
    assert_none(&wrong);
}

/// Sizes of a step of the clock, ms: the smallest that is found, those of bug reports, and those around 5 s. Above 5 s
/// a jump needs no proof.
const STEPS_MS: [i64; 16] =
    [-75, -90, -100, -149, -151, -300, -500, -1_000, -2_000, -4_500, -4_980, -5_000, -5_010, -5_020, -5_030, -7_000];

#[test]
fn clock_set_back_by_each_size_loses_nothing() {
    let mut wrong = Vec::new();
    for call in ["g711u_direct", "opus_direct"] {
        let before = Unchanged::of(call);
        for (n, step_ms) in STEPS_MS.into_iter().enumerate() {
            let mut changed = frames(call);
            let middle = message(&changed, "ACK") + 200;
            let at = (middle..).find(|at| is_steady(&changed[at - 1..at + 40])).unwrap();
            set_clock(&mut changed, at + n % 2, step_ms);
            let result = replay_bytes(&[file("ethernet", &changed)]);
            let faults = before.differences(&result, &[ProblemKind::ClockStep]);
            wrong.extend(faults.into_iter().map(|fault| format!("{call}, {step_ms} ms: {fault}")));
        }
    }
    assert_none(&wrong);
}

#[test]
fn clock_set_back_by_less_than_is_searched_moves_nothing_far() {
    let before = Unchanged::of("g711u_direct");
    let mut wrong = Vec::new();
    for step_ms in [-1, -5, -20, -40, -49] {
        let mut changed = frames("g711u_direct");
        let at = message(&changed, "ACK") + 200;
        set_clock(&mut changed, at, step_ms);
        let faults = before.differences(&replay_bytes(&[file("ethernet", &changed)]), &[]);
        // The sound after the step moves with the clock, so only its place may differ.
        let other = faults.into_iter().filter(|fault| !fault.contains("lag ms") && !fault.contains("spread ms"));
        wrong.extend(other.map(|fault| format!("{step_ms} ms: {fault}")));
    }
    assert_none(&wrong);
}

#[test]
fn clock_set_back_around_the_answer_moves_the_sound_with_it() {
    let mut wrong = Vec::new();
    let before = Unchanged::of("g711u_direct");
    for (seed, (text, after)) in
        [("SIP/2.0 100", 0), ("SIP/2.0 200", 0), ("SIP/2.0 200", 1), ("ACK", 0), ("ACK", 1), ("ACK", 2), ("ACK", 5)]
            .into_iter()
            .enumerate()
    {
        for step_ms in [-200, -1_000, -1_500, -4_000] {
            let mut changed = frames("g711u_direct");
            let at = message(&changed, text) + after;
            set_clock(&mut changed, at, step_ms);
            let link = LINKS[seed % LINKS.len()];
            let result = replay_bytes(&[file(link, &changed)]);
            let name = format!("{text} and {after}, {step_ms} ms");
            wrong.extend(before.differences_from_answer(&result).into_iter().map(|fault| format!("{name}: {fault}")));
        }
    }
    assert_none(&wrong);
}

#[test]
fn disorder_and_pauses_are_no_clock_steps() {
    let before = Unchanged::of("g711u_direct");
    let mut wrong = Vec::new();
    for seed in seeds(4) {
        let mut random = Rng::with_seed(seed);
        let mut changed = frames("g711u_direct");
        let (first, last) = (message(&changed, "ACK") + 50, message(&changed, "BYE"));
        // One sender pauses and then sends all its packets at once, while the other sender continues.
        let pause = first + random.usize(0..200);
        let (source, ends_ns) = (changed[pause].data[26..30].to_vec(), changed[pause].at_ns + 300_000_000);
        for frame in changed.iter_mut().skip(pause).filter(|frame| frame.data[26..30] == source[..]) {
            frame.at_ns = frame.at_ns.max(ends_ns);
        }
        changed.sort_by_key(|frame| frame.at_ns);
        // Another processor core wrote these frames later than they arrived.
        for _ in 0..5 {
            let at = random.usize(first..last - 20);
            let frame = changed.remove(at);
            changed.insert(at + random.usize(1..20), frame);
        }
        let result = replay_bytes(&[write_pcap(packets::ETHERNET, &changed)]);
        let kinds: Vec<_> = result.only().problems.iter().map(|problem| problem.kind).collect();
        if kinds.contains(&ProblemKind::ClockStep) {
            wrong.push(format!("seed {seed}: {kinds:?}"));
        }
        wrong.extend(before.differences(&result, &[]).into_iter().map(|fault| format!("seed {seed}: {fault}")));
    }
    assert_none(&wrong);
}

#[test]
fn line_that_fails_for_a_moment_is_no_clock_step() {
    let ended_at = replay_bytes(&[write_pcap(packets::ETHERNET, &frames("g711u_direct"))]).only().ended_at;
    let mut wrong = Vec::new();
    for seed in seeds(4) {
        let mut random = Rng::with_seed(seed);
        let mut changed = frames("g711u_direct");
        let pause = message(&changed, "ACK") + 50 + random.usize(0..200);
        let ends_ns = changed[pause].at_ns + *random.choice(&[60, 102, 300, 1_000]).unwrap() * 1_000_000;
        // All packets of both sides wait, e.g. in a router. Then they come at once, in their order.
        for (n, frame) in (0_i64..).zip(changed.iter_mut().skip(pause)) {
            frame.at_ns = frame.at_ns.max(ends_ns + n * 50_000);
        }
        let result = replay_bytes(&[write_pcap(packets::ETHERNET, &changed)]);
        let kinds: Vec<_> = result.only().problems.iter().map(|problem| problem.kind).collect();
        if kinds.contains(&ProblemKind::ClockStep) {
            wrong.push(format!("seed {seed}: {kinds:?}"));
        }
        if result.only().ended_at != ended_at {
            wrong.push(format!("seed {seed}: the call ends at another time"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn joined_captures_that_overlap_show_no_clock_step() {
    let before = Unchanged::of("g711u_direct");
    let mut wrong = Vec::new();
    for seed in seeds(4) {
        let mut random = Rng::with_seed(seed);
        let whole = frames("g711u_direct");
        let first = message(&whole, "ACK") + 200;
        let second = first + random.usize(50..200);
        // Two overlapping captures are joined: the first ends at frame `second`, and the other begins at frame `first`.
        let joined: Vec<CapturedFrame> = whole[..second].iter().chain(&whole[first..]).cloned().collect();
        let result = replay_bytes(&[write_pcap(packets::ETHERNET, &joined)]);
        let kinds: Vec<_> = result.only().problems.iter().map(|problem| problem.kind).collect();
        if kinds.contains(&ProblemKind::ClockStep) {
            wrong.push(format!("seed {seed}: {kinds:?}"));
        }
        wrong.extend(before.differences(&result, &[]).into_iter().map(|fault| format!("seed {seed}: {fault}")));
    }
    assert_none(&wrong);
}
