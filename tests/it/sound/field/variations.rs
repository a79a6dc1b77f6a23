//! Tests with good calls that are changed as the senders and networks of bug reports would change them. The sound must
//! not move.
//!
//! The recording of the unchanged call is the expected sound. For each change, a seed chooses the codec, and the side,
//! time and extent of the change.

use std::ops::Range;

use callspan::call::record::{CallVerdict, ProblemKind};
use fastrand::Rng;

use super::generated::seeds;
use super::{channels, differences, recorded_channels};
use crate::support::captures::{ReplayResult, frames, is_rtp, replay_packets};
use crate::support::packets::CapturedFrame;

/// Calls with one codec each. The caller sends from 10.9.0.11.
const CALLS: &[&str] =
    &["amr_direct", "g711u_direct", "g729_direct", "gsm_direct", "ilbc_direct", "opus_direct", "speex_wb_direct"];

/// Calls with codecs for which the length of a payload does not show the duration of its sound.
const VARIABLE_CALLS: &[&str] = &["amr_direct", "opus_direct", "speex_wb_direct"];

#[test]
fn packets_that_leave_two_at_a_time_stay_in_place() {
    for (call, seed) in calls(VARIABLE_CALLS) {
        let mut random = Rng::with_seed(seed);
        let (first, count) = (random.usize(0..2), *random.choice(&[10, 50, usize::MAX]).unwrap());
        let late_ns = random.i64(0..1_000_000);
        let changed = each_rtp(call, |packet| {
            // The first packet of a pair waits for the second.
            let waits = packet.number % 2 == first && packet.number < count;
            packet.frame.at_ns += if waits { 20_000_000 - late_ns } else { 0 };
        });
        assert_as_before(call, &changed, &[]);
    }
}

#[test]
fn padding_is_not_sound() {
    for (call, seed) in calls(CALLS) {
        let mut random = Rng::with_seed(100 + seed);
        let bytes = random.u8(20..41);
        let changed = each_rtp(call, |packet| {
            packet.edit(|rtp| {
                rtp[0] |= 0x20;
                rtp.extend(std::iter::repeat_n(0, usize::from(bytes) - 1));
                rtp.push(bytes);
            });
        });
        assert_as_before(call, &changed, &[]);
    }
}

#[test]
fn stamps_that_leap_while_packets_come_evenly_move_nothing() {
    for (call, seed) in calls(&["g711u_direct", "opus_direct", "gsm_direct"]) {
        let mut random = Rng::with_seed(200 + seed);
        let (each, ms) = (random.usize(20..60), random.u32(2..5) * 10);
        let ticks = ms * if call.starts_with("opus") { 48 } else { 8 };
        let changed = each_rtp(call, |packet| {
            let leaps = (packet.number / each) as u32;
            packet.edit(|rtp| {
                let time = u32::from_be_bytes(rtp[4..8].try_into().unwrap()).wrapping_add(leaps * ticks);
                rtp[4..8].copy_from_slice(&time.to_be_bytes());
            });
        });
        assert_as_before(call, &changed, &[ProblemKind::BrokenStamps]);
    }
}

#[test]
fn new_source_for_each_prompt_loses_nothing() {
    for seed in seeds(2) {
        let mut random = Rng::with_seed(300 + seed);
        let each = random.usize(10..20);
        let changed = each_rtp("g711u_direct", |packet| {
            let ssrc = ((packet.number / each) as u32).wrapping_mul(0x9E37_79B9);
            packet.edit(|rtp| rtp[8..12].copy_from_slice(&ssrc.to_be_bytes()));
        });
        assert_as_before("g711u_direct", &changed, &[]);
    }
}

#[test]
fn silent_second_source_does_not_replace_the_voice() {
    let original = frames("g711u_direct");
    let mut changed = Vec::new();
    for frame in &original {
        changed.push(frame.clone());
        let Some(range) = rtp_range(&frame.data) else { continue };
        let mut silent = frame.clone();
        silent.data[range.start + 8] ^= 0x55;
        silent.data[range.start + 12..range.end].fill(0xFF);
        silent.at_ns += 1_000_000;
        clear_udp_checksum(&mut silent.data);
        changed.push(silent);
    }
    changed.sort_by_key(|frame| frame.at_ns);
    assert_as_before("g711u_direct", &changed, &[]);
}

/// Returns each call once, or as often as `CALLSPAN_SEEDS` demands, together with a seed.
fn calls<'a>(names: &'a [&'a str]) -> impl Iterator<Item = (&'a str, u64)> {
    seeds(names.len() as u64).map(|seed| (names[seed as usize % names.len()], seed))
}

/// An RTP packet of a call, to be changed.
struct ChangedPacket<'a> {
    frame: &'a mut CapturedFrame,
    /// Index of the packet in its direction.
    number: usize,
}

impl ChangedPacket<'_> {
    /// Changes the bytes of the RTP packet and corrects the lengths of IP and UDP.
    fn edit(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let data = &mut self.frame.data;
        let range = rtp_range(data).unwrap();
        let mut rtp = data[range.clone()].to_vec();
        change(&mut rtp);
        data.truncate(range.start);
        data.extend(&rtp);
        let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
        data[16..18].copy_from_slice(&length(range.start - 14 + rtp.len()));
        data[range.start - 4..range.start - 2].copy_from_slice(&length(8 + rtp.len()));
        clear_udp_checksum(data);
    }
}

/// Returns the frames of a call in order of time, with each RTP packet changed by `change`.
fn each_rtp(call: &str, mut change: impl FnMut(&mut ChangedPacket<'_>)) -> Vec<CapturedFrame> {
    let mut out = frames(call);
    let mut numbers = std::collections::HashMap::<Vec<u8>, usize>::new();
    for frame in &mut out {
        let Some(range) = rtp_range(&frame.data) else { continue };
        let number = numbers.entry(frame.data[range.start - 16..range.start - 4].to_vec()).or_default();
        change(&mut ChangedPacket { frame, number: *number });
        *number += 1;
    }
    out.sort_by_key(|frame| frame.at_ns);
    out
}

/// Returns the range of the RTP packet in a frame: UDP over IPv4 in Ethernet.
fn rtp_range(data: &[u8]) -> Option<Range<usize>> {
    let whole = data.get(12..14)? == [8, 0] && *data.get(23)? == 17 && data[20] & 0x3F == 0 && data[21] == 0;
    let start = 14 + 4 * usize::from(data[14] & 15) + 8;
    let length = usize::from(u16::from_be_bytes([*data.get(start - 4)?, *data.get(start - 3)?]));
    let range = start..start + length.checked_sub(8)?;
    (whole && data.get(range.clone()).is_some_and(is_rtp)).then_some(range)
}

fn clear_udp_checksum(data: &mut [u8]) {
    let start = 14 + 4 * usize::from(data[14] & 15) + 8;
    data[start - 2..start].fill(0);
}

/// Checks that a changed call sounds like the original, and that its record reports these problems.
fn assert_as_before(call: &str, changed: &[CapturedFrame], problems: &[ProblemKind]) {
    let wrong = Unchanged::of(call).differences(&replay_packets(changed), problems);
    assert!(wrong.is_empty(), "{call}: {wrong:?}");
}

/// The recording of an unchanged call: the expected sound for its variations.
pub struct Unchanged {
    truth: [Vec<i16>; 2],
    starts_ns: i64,
}

impl Unchanged {
    pub fn of(call: &str) -> Self {
        let result = replay_packets(&frames(call));
        let [sound] = result.only().recordings.as_slice() else { panic!("one recording") };
        Self { truth: channels(&sound.path), starts_ns: sound.starts_at.as_nanos() }
    }

    /// Returns the faults of recording and record of a changed call.
    pub fn differences(&self, result: &ReplayResult, problems: &[ProblemKind]) -> Vec<String> {
        self.differences_at(result, problems, self.starts_ns)
    }

    /// Returns the faults of the recording of a changed call. The recording may begin at another time than the
    /// original.
    pub fn differences_from_answer(&self, result: &ReplayResult) -> Vec<String> {
        let starts = result.records.iter().flat_map(|record| &record.recordings).next();
        starts.map_or_else(
            || vec!["no recording".to_owned()],
            |recording| self.differences_at(result, &[], recording.starts_at.as_nanos()),
        )
    }

    fn differences_at(&self, result: &ReplayResult, problems: &[ProblemKind], starts_ns: i64) -> Vec<String> {
        let [record] = result.records.as_slice() else { return vec![format!("{} records", result.records.len())] };
        let kinds: Vec<ProblemKind> = record.problems.iter().map(|problem| problem.kind).collect();
        let mut out = differences(&recorded_channels(&result.records, self.truth[0].len(), starts_ns), &self.truth);
        out.extend((record.verdict != Some(CallVerdict::BothSides)).then(|| format!("verdict {:?}", record.verdict)));
        out.extend(
            problems.iter().filter(|kind| !kinds.contains(kind)).map(|kind| format!("{kind:?} not in {kinds:?}")),
        );
        out
    }
}
