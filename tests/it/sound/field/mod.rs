//! Tests with calls from public bug reports about recorded sound (`fixtures/cases/sound`). The recording is compared
//! with the sound that was sent.
//!
//! [`KNOWN_FAILURES`] lists the cases that fail today, each with its cause. If a listed case passes, the test fails, so
//! that the list stays true.

#![allow(clippy::print_stdout, reason = "a test prints what it measured")]

mod clock_steps;
mod generated;
mod independent;
mod judge;
mod variations;

use callspan::call::record::{CallRecord, CallVerdict, ProblemKind};

use crate::support::captures::{fixture, replay_files};
use crate::support::score::halved;
use judge::{FieldScore, judge};

/// Cases that fail today, each with its cause.
const KNOWN_FAILURES: &[(&str, &str)] = &[];

/// The problem that the record must report, for cases with such a problem.
const QUIRKS: &[(&str, ProblemKind)] = &[
    ("amr_answer_without_fmtp_oa_sent", ProblemKind::AmrAlignment),
    ("amr_livekit_each_as_it_said", ProblemKind::AmrAlignment),
    ("amr_unhold_without_fmtp", ProblemKind::AmrAlignment),
    ("dynpt_swapped_own_numbers", ProblemKind::PayloadTypeMismatch),
    ("fs963_opus_plus20ms_each_50", ProblemKind::BrokenStamps),
    ("g726_named2_aal2", ProblemKind::G726Packing),
    ("g729_trailing_byte", ProblemKind::TrailingBytes),
    ("l16_stereo_antiphase", ProblemKind::OppositePhases),
    ("step_back_300ms", ProblemKind::ClockStep),
    ("ts20ms_each_50", ProblemKind::BrokenStamps),
];

/// Capture time of sample 0 of every truth file: 2025-06-15T15:06:40Z.
const TRUTH_STARTS_NS: i64 = 1_750_000_000_000_000_000;

#[test]
fn every_case_sounds_as_it_was_sent() {
    let mut names: Vec<String> = std::fs::read_dir(fixture("cases/sound"))
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".pcap")?.to_owned()))
        .collect();
    names.sort();
    let run = |names: &[String]| names.iter().map(|name| (name.clone(), faults(name))).collect::<Vec<_>>();
    let (first, second) = names.split_at(names.len() / 2);
    let results = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(second));
        let mut results = run(first);
        results.extend(other.join().unwrap());
        results
    });
    let known = |name: &str| KNOWN_FAILURES.iter().any(|(known, _)| *known == name);
    let mut wrong = Vec::new();
    for (name, found) in &results {
        match (found.is_empty(), known(name)) {
            (false, false) => wrong.push(format!("{name}: {}", found.join("; "))),
            (true, true) => wrong.push(format!("{name} passes: remove it from KNOWN_FAILURES")),
            _ => {}
        }
    }
    println!("{} of {} cases pass", results.iter().filter(|(_, found)| found.is_empty()).count(), results.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for name in KNOWN_FAILURES.iter().map(|(name, _)| name).chain(QUIRKS.iter().map(|(name, _)| name)) {
        assert!(names.iter().any(|known| known == name), "{name} names no case");
    }
}

/// Replays a case. Returns the faults of its recording and record.
fn faults(name: &str) -> Vec<String> {
    let replayed = replay_files(&[fixture(&format!("cases/sound/{name}.pcap"))]);
    let mut out = Vec::new();
    let problems: Vec<ProblemKind> =
        replayed.records.iter().flat_map(|record| record.problems.iter().map(|problem| problem.kind)).collect();
    for (_, kind) in QUIRKS.iter().filter(|(case, kind)| *case == name && !problems.contains(kind)) {
        out.push(format!("the record does not name {kind:?}"));
    }
    if !replayed.records.iter().any(|record| record.verdict == Some(CallVerdict::BothSides)) {
        out.push(format!("verdict {:?}", replayed.records.iter().map(|record| record.verdict).collect::<Vec<_>>()));
    }
    if name == "bundle_video_loss" {
        let lost: u64 = replayed.records.iter().map(|r| r.sides.caller.lost + r.sides.callee.lost).sum();
        out.extend((lost > 0).then(|| format!("{lost} packets lost")));
    }
    for record in &replayed.records {
        let concealed = [&record.sides.caller, &record.sides.callee].map(|side| side.concealed_ms.unwrap_or(0));
        if concealed.iter().any(|ms| *ms as f64 > record.duration_s.unwrap_or(0.0) * 1_000.0) {
            out.push(format!("{concealed:?} ms concealed"));
        }
    }
    let truth = fixture(&format!("cases/sound/{name}.truth.wav"));
    if truth.exists() {
        let [left, right] = channels(truth.to_str().unwrap());
        let recorded = recorded_channels(&replayed.records, left.len(), TRUTH_STARTS_NS);
        let truth = [left, right];
        let rows = field_scores(&recorded, &truth).map(|score| score.row());
        println!("{name}: left {}; right {}", rows[0], rows[1]);
        out.extend(differences(&recorded, &truth));
    }
    out
}

/// Returns the faults of both channels. Only the time that a recording covers is compared.
fn differences(recorded: &RecordedChannels, truth: &[Vec<i16>; 2]) -> Vec<String> {
    let named = ["left", "right"].into_iter().zip(field_scores(recorded, truth));
    named.flat_map(|(name, score)| score.faults().into_iter().map(move |fault| format!("{name}: {fault}"))).collect()
}

fn field_scores(recorded: &RecordedChannels, truth: &[Vec<i16>; 2]) -> [FieldScore; 2] {
    let heard = |samples: &[i16]| -> Vec<i16> {
        samples.iter().zip(&recorded.covered).map(|(sample, covered)| if *covered { *sample } else { 0 }).collect()
    };
    let truth = if recorded.covered.contains(&true) { [heard(&truth[0]), heard(&truth[1])] } else { truth.clone() };
    [0, 1].map(|n| judge(&recorded.channels[n], &truth[n], &truth[1 - n]))
}

/// The recordings of a replay at 8 kHz. Sample 0 is sample 0 of the expected sound.
struct RecordedChannels {
    channels: [Vec<i16>; 2],
    /// For each sample, whether a recording covers it.
    covered: Vec<bool>,
}

fn recorded_channels(records: &[CallRecord], samples: usize, starts_ns: i64) -> RecordedChannels {
    let mut out = RecordedChannels { channels: [vec![0; samples], vec![0; samples]], covered: vec![false; samples] };
    for recording in records.iter().flat_map(|record| &record.recordings) {
        let from = (recording.starts_at.as_nanos() - starts_ns) as f64 * 8_000.0 / 1e9;
        let from = from.round() as i64;
        for (channel, sound) in out.channels.iter_mut().zip(channels(&recording.path)) {
            for (n, sample) in sound.iter().enumerate() {
                if let Some(at) = usize::try_from(from + n as i64).ok().filter(|at| *at < samples) {
                    (channel[at], out.covered[at]) = (*sample, true);
                }
            }
        }
    }
    out
}

/// Returns both channels of a WAV file at 8 kHz.
fn channels(path: &str) -> [Vec<i16>; 2] {
    let mut wav = hound::WavReader::open(path).unwrap();
    let rate = wav.spec().sample_rate;
    let all: Vec<i16> = wav.samples().map(Result::unwrap).collect();
    [0, 1].map(|n| {
        let channel: Vec<i16> = all.iter().skip(n).step_by(2).copied().collect();
        if rate == 16_000 { halved(&channel) } else { channel }
    })
}
