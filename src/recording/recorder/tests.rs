//! Tests that record ended calls from spools (stored packets) that the tests build.

use super::*;
use crate::call::decision::Decision;
use crate::call::event::LegId;
use crate::call::record::{CallVerdict, LegRecord};
use crate::net::PayloadType;
use crate::spool::LegSource;
use crate::spool::testkit::{SpoolBuilder, TestRtp, at_ms, format_of};
use std::collections::HashMap;

struct TestSpools(HashMap<LegId, LegSource>);

impl LegStore for TestSpools {
    fn source(&self, leg: &EndedLeg) -> Option<LegSource> {
        self.0.get(&leg.leg).cloned()
    }
}

/// Returns a leg of 2 s, recorded from its beginning. Each speaker sends packets of 20 ms with a constant level.
fn leg(speakers: &[(Side, &str)]) -> LegSource {
    let speakers: Vec<_> = speakers.iter().map(|&(side, encoding)| (side, encoding, 0..100)).collect();
    leg_of(&speakers)
}

/// Returns a leg like [`leg`], but each speaker sends only a range of the hundred packets.
fn leg_of(speakers: &[(Side, &str, std::ops::Range<u16>)]) -> LegSource {
    let mut spool = SpoolBuilder::new();
    spool.decide(at_ms(0.0), Decision::Start);
    for (side, encoding, packets) in speakers {
        let side = *side;
        let stream = spool.stream(at_ms(0.0), side);
        spool.payload(at_ms(0.0), stream, 0, Some(format_of(encoding, 8_000)));
        for n in packets.clone() {
            let level = if side == Side::Caller { 0x90 } else { 0xA0 };
            let rtp = TestRtp { pt: 0, sequence: n, time: u32::from(n) * 160, payload: &[level; 160] };
            spool.rtp(at_ms(20.0 * f64::from(n)), (stream, side), rtp);
        }
    }
    spool.end(at_ms(2_000.0));
    spool.source()
}

fn call(legs: Vec<(LegSource, bool)>) -> (EndedCall, TestSpools) {
    let record = CallRecord {
        id: "20261123T070000Z-abc".to_owned(),
        invited_at: Some(at_ms(-1_000.0)),
        answered_at: Some(at_ms(0.0)),
        ended_at: Some(at_ms(2_000.0)),
        outcome: CallOutcome::Answered,
        legs: vec![LegRecord::default(); legs.len()],
        ..CallRecord::default()
    };
    let ended = legs.iter().enumerate().map(|(index, (_, same_sides))| EndedLeg {
        leg: LegId(index as u64),
        name: format!("leg{index}"),
        index,
        same_sides: *same_sides,
    });
    let legs_of_call = ended.collect();
    let spools = legs.into_iter().enumerate().map(|(index, (source, _))| (LegId(index as u64), source)).collect();
    (EndedCall { record, legs: legs_of_call, registration: Default::default(), wall_offset_ns: 0 }, TestSpools(spools))
}

fn recorder(dir: &Path) -> Recorder {
    Recorder::new(Config { dir: dir.to_owned(), ..Config::default() }, FolderLayout::Flat, None)
}

fn wav(path: &str) -> (hound::WavSpec, Vec<i16>) {
    let mut reader = hound::WavReader::open(path).unwrap();
    (reader.spec(), reader.samples::<i16>().map(Result::unwrap).collect())
}

const BOTH: [(Side, &str); 2] = [(Side::Caller, "PCMU"), (Side::Callee, "PCMU")];

#[test]
fn call_becomes_a_stereo_wav_and_record_reproducibly() {
    let (ended, spools) = call(vec![(leg(&BOTH), true)]);
    let mut results = Vec::new();
    for _ in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let record = recorder(dir.path()).record(&ended, &spools).unwrap();
        let file = &record.recordings[0];
        assert_eq!(file.path, dir.path().join("20261123T070000Z-abc.wav").display().to_string());
        let bytes = std::fs::read(&file.path).unwrap();
        assert_eq!((file.bytes, file.sample_rate, file.duration_s), (44 + 16_000 * 4, 8_000, 2.0));
        assert_eq!(bytes.len() as u64, file.bytes);
        let (spec, samples) = wav(&file.path);
        assert_eq!((spec.channels, spec.bits_per_sample, samples.len()), (2, 16, 32_000));
        // The expected levels are those of the mu-law bytes 0x90 and 0xA0 (G.711 table 2a).
        assert_eq!((samples[800], samples[801]), (15_996, 7_932));
        assert_eq!(record.verdict, Some(CallVerdict::BothSides));
        assert!(record.legs[0].rendered);
        // The packet counts come from the engine, which stores them in the spool at the end of the leg.
        assert_eq!((record.sides.caller.packets, record.sides.callee.packets), (1, 2));
        let json = std::fs::read_to_string(dir.path().join("20261123T070000Z-abc.json")).unwrap();
        assert_eq!(serde_json::from_str::<CallRecord>(&json).unwrap(), record);
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(
            names,
            ["20261123T070000Z-abc.json", "20261123T070000Z-abc.peaks", "20261123T070000Z-abc.wav"],
            "no .part file is left"
        );
        results.push((bytes, file.sha256.clone()));
    }
    assert_eq!(results[0], results[1]);
}

#[test]
fn swapped_sides_swap_channels_and_counts() {
    let (ended, spools) = call(vec![(leg(&BOTH), false)]);
    let dir = tempfile::tempdir().unwrap();
    let record = recorder(dir.path()).record(&ended, &spools).unwrap();
    let (_, samples) = wav(&record.recordings[0].path);
    assert_eq!((samples[800], samples[801]), (7_932, 15_996));
    assert_eq!((record.sides.caller.packets, record.sides.callee.packets), (2, 1));
}

/// Somebody removed the spool after the end of the call, or a power cut lost it.
#[test]
fn record_says_that_the_spool_is_missing() {
    let (ended, _) = call(vec![(leg(&BOTH), true)]);
    let dir = tempfile::tempdir().unwrap();
    let record = recorder(dir.path()).record(&ended, &TestSpools(HashMap::new())).unwrap();
    assert_eq!(record.verdict, Some(CallVerdict::Failed), "the mirror showed the media");
    let reason = "No sound of the call could be kept: packets of the call disappeared from the spool (ENOENT).";
    assert_eq!(record.verdict_reason.as_deref(), Some(reason), "they had been written");
    let [problem] = record.problems.as_slice() else { panic!("{:?}", record.problems) };
    assert_eq!((problem.kind, problem.errno.map(|e| e.to_string())), (ProblemKind::SpoolError, Some("ENOENT".into())));
}

/// Notes which legs are read. A render worker reports each to the service, which blames the last one for a crash.
struct NotedReads {
    spools: TestSpools,
    read: std::sync::Mutex<Vec<LegId>>,
}

impl LegStore for NotedReads {
    fn source(&self, leg: &EndedLeg) -> Option<LegSource> {
        self.read.lock().unwrap().push(leg.leg);
        self.spools.source(leg)
    }
}

#[test]
fn rendered_leg_is_the_last_that_is_read() {
    let deaf = leg(&[(Side::Caller, "WHATEVER"), (Side::Callee, "WHATEVER")]);
    let (ended, spools) = call(vec![(deaf, true), (leg(&BOTH), true)]);
    let store = NotedReads { spools, read: Default::default() };
    let dir = tempfile::tempdir().unwrap();
    recorder(dir.path()).record(&ended, &store).unwrap();
    assert_eq!(*store.read.lock().unwrap(), [LegId(0), LegId(1)]);
}

#[test]
fn each_problem_that_rendering_finds_is_removed_before_the_next_rendering() {
    use crate::render::UndecryptableReason::DtlsSrtp;
    let unknown = UndecodableReason::UnannouncedChange(PayloadType(99));
    let reasons = [UndecodableReason::Cut, UndecodableReason::Damaged, UndecodableReason::Encrypted(DtlsSrtp), unknown];
    let quirks = [
        PayloadQuirk::AmrAlignment,
        PayloadQuirk::G726Packing,
        PayloadQuirk::TrailingBytes,
        PayloadQuirk::OppositePhases,
        PayloadQuirk::ByteOrder,
        PayloadQuirk::CompandingLaw,
        PayloadQuirk::Unencrypted,
    ];
    let side = SideReport {
        silent: reasons.map(|reason| (reason, 60)).into(),
        quirks: quirks.map(|quirk| (quirk, 60)).into(),
        decoded: 1_000,
        late: 60,
        broken_stamps: 60,
        scattered: 60,
        heard_us: 20_000_000,
        talk_s: 20.0,
        peak: 10_000,
        ..SideReport::default()
    };
    let mut record = CallRecord::default();
    add_problems(&RenderReport { samples: 1, sides: [side.clone(), side], torn_tail: true }, &mut record);
    assert_eq!(record.problems.len(), 15, "{:?}", record.problems);
    assert!(record.problems.iter().all(|problem| RENDERING_PROBLEMS.contains(&problem.kind)));
}

#[test]
fn first_leg_that_can_be_heard_is_rendered() {
    let deaf = leg(&[(Side::Caller, "WHATEVER"), (Side::Callee, "WHATEVER")]);
    let (ended, spools) = call(vec![(deaf, true), (leg(&BOTH), true)]);
    let dir = tempfile::tempdir().unwrap();
    let record = recorder(dir.path()).record(&ended, &spools).unwrap();
    assert_eq!(record.verdict, Some(CallVerdict::BothSides));
    assert_eq!(record.legs.iter().map(|leg| leg.rendered).collect::<Vec<_>>(), [false, true]);
}

/// Records a call with these legs. Returns three values: which legs were rendered, the record, and the first sample of
/// each channel.
fn rendered_of(legs: Vec<LegSource>) -> (Vec<bool>, CallRecord, [i16; 2]) {
    let (ended, spools) = call(legs.into_iter().map(|leg| (leg, true)).collect());
    let dir = tempfile::tempdir().unwrap();
    let record = recorder(dir.path()).record(&ended, &spools).unwrap();
    let (_, samples) = wav(&record.recordings[0].path);
    assert_eq!(record.recordings.len(), 1);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "one recording, its peaks and its record");
    (record.legs.iter().map(|leg| leg.rendered).collect(), record, [samples[800], samples[801]])
}

#[test]
fn leg_with_both_sides_is_rendered_instead_of_a_one_sided_leg() {
    let stray = leg_of(&[(Side::Caller, "PCMU", 0..2)]);
    let almost = leg_of(&[(Side::Caller, "PCMU", 0..100), (Side::Callee, "PCMU", 0..2)]);
    for first in [leg(&BOTH[..1]), leg(&BOTH[1..]), stray, almost] {
        let (legs, record, sound) = rendered_of(vec![first, leg(&BOTH[..1]), leg(&BOTH)]);
        assert_eq!((legs, record.verdict), (vec![false, false, true], Some(CallVerdict::BothSides)));
        assert_eq!(sound, [15_996, 7_932]);
        let reason = record.verdict_reason.unwrap();
        assert!(reason.contains("another leg"), "{reason}");
    }
}

#[test]
fn first_leg_is_kept_if_no_other_has_more_audio() {
    let half = || leg_of(&[(Side::Caller, "PCMU", 0..30), (Side::Callee, "PCMU", 0..30)]);
    // The first leg has one side, for the whole call. The second leg has both sides, but for less than half of the
    // call. So the first leg is kept, because the second has less sound in total.
    let (legs, record, _) = rendered_of(vec![leg(&BOTH[..1]), half()]);
    assert_eq!((legs, record.verdict), (vec![true, false], Some(CallVerdict::CallerOnly)));
    // The first leg has both sides. One side speaks for only a fifth of the call, but a side counts as missing only
    // below a tenth. So the first leg is kept.
    let little = leg_of(&[(Side::Caller, "PCMU", 0..100), (Side::Callee, "PCMU", 40..60)]);
    let (legs, record, _) = rendered_of(vec![little, leg(&BOTH)]);
    assert_eq!((legs, record.verdict), (vec![true, false], Some(CallVerdict::BothSides)));
    // One leg has only the caller's audio, and the other leg only the callee's. The second leg is no better, so the
    // first leg is kept.
    let (legs, record, _) = rendered_of(vec![leg(&BOTH[..1]), leg(&BOTH[1..])]);
    assert_eq!((legs, record.verdict), (vec![true, false], Some(CallVerdict::CallerOnly)));
    assert!(!record.verdict_reason.unwrap().contains("another leg"));
}

/// Returns a leg of 6 s, in which the mirror port lost those packets of the callee that have the RTP sequence numbers
/// `lost`.
fn leg_without(lost: std::ops::Range<u16>) -> LegSource {
    let mut spool = SpoolBuilder::new();
    spool.decide(at_ms(0.0), Decision::Start);
    for side in [Side::Caller, Side::Callee] {
        let stream = spool.stream(at_ms(0.0), side);
        spool.payload(at_ms(0.0), stream, 0, Some(format_of("PCMU", 8_000)));
        for n in (0..300_u16).filter(|n| side == Side::Caller || !lost.contains(n)) {
            let rtp = TestRtp { pt: 0, sequence: n, time: u32::from(n) * 160, payload: &[0x90; 160] };
            spool.rtp(at_ms(20.0 * f64::from(n)), (stream, side), rtp);
        }
    }
    spool.end(at_ms(6_000.0));
    spool.source()
}

/// Returns a call of two legs. The second leg ended `earlier_ms` before the first.
fn call_with_gap(legs: [LegSource; 2], earlier_ms: f64) -> (EndedCall, TestSpools) {
    let (mut ended, spools) = call(legs.map(|leg| (leg, true)).into());
    for (leg, end) in ended.record.legs.iter_mut().zip([6_000.0, 6_000.0 - earlier_ms]) {
        (leg.answered_at, leg.ended_at) = (Some(at_ms(0.0)), Some(at_ms(end)));
    }
    (ended, spools)
}

/// Records a call of two legs, of which the first lacks the packets 20 to 279. The other leg is `other`; it ends
/// `earlier_ms` before the first. Returns which legs were rendered, and the record.
fn rendered_with_gap(other: LegSource, earlier_ms: f64) -> (Vec<bool>, CallRecord) {
    let (ended, spools) = call_with_gap([leg_without(20..280), other], earlier_ms);
    let dir = tempfile::tempdir().unwrap();
    let record = recorder(dir.path()).record(&ended, &spools).unwrap();
    (record.legs.iter().map(|leg| leg.rendered).collect(), record)
}

#[test]
fn leg_without_the_gap_of_the_first_leg_is_rendered() {
    let (legs, record) = rendered_with_gap(leg_without(0..0), 0.0);
    assert_eq!(legs, [false, true]);
    let reason = record.verdict_reason.unwrap();
    assert!(reason.contains("lost a second or more"), "{reason}");
    // The second leg ended 1.5 s before the first leg, so it may lack the end of the call. Therefore the first leg is
    // kept.
    let (legs, _) = rendered_with_gap(leg_without(0..0), 1_500.0);
    assert_eq!(legs, [true, false]);
    // The second leg also has a gap (lost packets), although a smaller gap than the first leg. So the first leg is
    // kept.
    let (legs, _) = rendered_with_gap(leg_without(100..200), 0.0);
    assert_eq!(legs, [true, false]);
}

#[test]
fn late_packets_are_a_problem_in_the_record() {
    let mut spool = SpoolBuilder::new();
    spool.decide(at_ms(0.0), Decision::Start);
    for side in [Side::Caller, Side::Callee] {
        let stream = spool.stream(at_ms(0.0), side);
        let mut send = |n: u16, ms: f64| {
            let rtp = TestRtp { pt: 0, sequence: n, time: u32::from(n) * 160, payload: &[0x90; 160] };
            spool.rtp(at_ms(ms), (stream, side), rtp);
        };
        (0..340_u16).filter(|n| ![20, 21].contains(n)).for_each(|n| send(n, 20.0 * f64::from(n)));
        if side == Side::Callee {
            // The callee's packets 20 and 21 arrive 6 s later than their RTP timestamps say. So they count as late and
            // not as lost.
            send(20, 6_400.0);
            send(21, 6_420.0);
        }
    }
    spool.end(at_ms(6_800.0));
    let (ended, spools) = call(vec![(spool.source(), true)]);
    let dir = tempfile::tempdir().unwrap();
    let record = recorder(dir.path()).record(&ended, &spools).unwrap();
    let problems: Vec<_> = record.problems.iter().map(|p| (p.kind.as_str(), p.packets)).collect();
    assert_eq!(problems, [("late", Some(2))]);
    assert_eq!((record.sides.caller.late, record.sides.callee.late), (Some(0), Some(2)));
    assert_eq!((record.sides.caller.burst_loss, record.sides.callee.burst_loss), (Some(2), Some(2)));
}

#[test]
fn call_that_cannot_be_heard_has_a_record_and_no_wav() {
    let deaf = leg(&[(Side::Caller, "WHATEVER")]);
    let (ended, spools) = call(vec![(deaf, true)]);
    let dir = tempfile::tempdir().unwrap();
    let record = recorder(dir.path()).record(&ended, &spools).unwrap();
    assert_eq!(record.verdict, Some(CallVerdict::UnknownCodec));
    assert_eq!(record.verdict_reason.as_deref(), Some("There is no decoder for codec WHATEVER."));
    assert!(record.recordings.is_empty() && !record.legs[0].rendered);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn one_way_audio_is_reported_with_its_reason() {
    let (ended, spools) = call(vec![(leg(&[(Side::Caller, "PCMU"), (Side::Callee, "WHATEVER")]), true)]);
    let dir = tempfile::tempdir().unwrap();
    let record = recorder(dir.path()).record(&ended, &spools).unwrap();
    assert_eq!(record.verdict, Some(CallVerdict::CallerOnly));
    let reason = record.verdict_reason.unwrap();
    assert_eq!(reason, "Only the caller can be heard: there is no decoder for the callee's codec WHATEVER.");
}

#[test]
fn refused_and_excluded_calls_keep_their_verdict() {
    let (mut ended, spools) = call(Vec::new());
    let dir = tempfile::tempdir().unwrap();
    ended.record.answered_at = None;
    ended.record.outcome = CallOutcome::Busy;
    let record = recorder(dir.path()).record(&ended, &spools).unwrap();
    assert_eq!(record.verdict, Some(CallVerdict::NotAnswered));
    ended.record.verdict = Some(CallVerdict::Excluded);
    ended.record.verdict_reason = Some("rule 1".to_owned());
    let record = recorder(dir.path()).record(&ended, &spools).unwrap();
    assert_eq!((record.verdict, record.verdict_reason.as_deref()), (Some(CallVerdict::Excluded), Some("rule 1")));
}

#[test]
fn segments_adjoin_to_the_sample_and_hold_the_same_audio() {
    let (ended, spools) = call(vec![(leg(&BOTH), true)]);
    let dir = tempfile::tempdir().unwrap();
    let whole = recorder(dir.path()).record(&ended, &spools).unwrap();
    let (_, whole) = wav(&whole.recordings[0].path);
    // 40,000 bytes have room for one second of sound (32,000 bytes) but not for two.
    let config = Config { dir: dir.path().to_owned(), ..Config::default() };
    let record = Recorder::new(config, FolderLayout::ByDay, Some(40_000)).record(&ended, &spools).unwrap();
    let [first, second] = record.recordings.as_slice() else { panic!("two segments") };
    assert!(second.path.ends_with("/2026/11/23/20261123T070000Z-abc.2.wav"), "{}", second.path);
    assert_eq!((first.part, second.part), (1, 2));
    assert_eq!((first.starts_at, first.ends_at), (at_ms(0.0), at_ms(1_000.0)));
    assert_eq!((second.starts_at, second.ends_at), (at_ms(1_000.0), at_ms(2_000.0)));
    assert_eq!([wav(&first.path).1, wav(&second.path).1].concat(), whole);
}

#[test]
fn unwritable_folder_is_an_error_that_names_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("file");
    std::fs::write(&blocked, b"in the way").unwrap();
    let (ended, spools) = call(vec![(leg(&BOTH), true)]);
    let error = recorder(&blocked).record(&ended, &spools).unwrap_err();
    assert!(error.to_string().contains(&blocked.display().to_string()), "{error}");
}

/// Returns a leg of 40 s in which the callee changes to G.722 after 36 s, within the same RTP stream.
fn leg_changing_to_wideband() -> LegSource {
    let mut spool = SpoolBuilder::new();
    spool.decide(at_ms(0.0), Decision::Start);
    let stream = spool.stream(at_ms(0.0), Side::Callee);
    spool.payload(at_ms(0.0), stream, 0, Some(format_of("PCMU", 8_000)));
    spool.payload(at_ms(0.0), stream, 9, Some(format_of("G722", 8_000)));
    for n in 0..2_000_u32 {
        let ms = 20.0 * f64::from(n);
        let (pt, level) = if ms < 36_000.0 { (0, 0x90) } else { (9, 0x55) };
        let rtp = TestRtp { pt, sequence: n as u16, time: n * 160, payload: &[level; 160] };
        spool.rtp(at_ms(ms), (stream, Side::Callee), rtp);
    }
    spool.end(at_ms(40_000.0));
    spool.source()
}

#[test]
fn segment_has_the_sample_rate_needed_up_to_its_end() {
    let (ended, spools) = call(vec![(leg_changing_to_wideband(), true)]);
    let dir = tempfile::tempdir().unwrap();
    let config = Config { dir: dir.path().to_owned(), ..Config::default() };
    // At 16 kHz, a segment of one second has 64,000 bytes and a header. G.722 begins after 36 s. The rate of a segment
    // depends on packets up to half a minute after its end. So segments that end after the sixth second have 16 kHz.
    let recorder = Recorder::new(config, FolderLayout::Flat, Some(64_058));
    assert_eq!(recorder.segment_seconds(), 1);
    let record = recorder.record(&ended, &spools).unwrap();
    let rates: Vec<_> = record.recordings.iter().map(|r| r.sample_rate).collect();
    assert_eq!(rates.len(), 40);
    assert!(rates[..5].iter().all(|r| *r == 8_000) && rates[6..].iter().all(|r| *r == 16_000), "{rates:?}");
    for (n, file) in record.recordings.iter().enumerate() {
        assert_eq!((file.starts_at, file.ends_at), (at_ms(1_000.0 * n as f64), at_ms(1_000.0 * (n + 1) as f64)));
        assert_eq!(wav(&file.path).1.len(), 2 * file.sample_rate as usize, "one second, whatever the rate");
    }
}

#[test]
fn finished_segments_stay_and_the_record_names_another_leg() {
    let (mut ended, spools) = call(vec![(leg(&BOTH), true), (leg(&BOTH), false)]);
    for (n, leg) in ended.record.legs.iter_mut().enumerate() {
        leg.sip_call_id = format!("leg{n}");
    }
    let dir = tempfile::tempdir().unwrap();
    let config = Config { dir: dir.path().to_owned(), ..Config::default() };
    let recorder = Recorder::new(config, FolderLayout::Flat, Some(64_058));
    let due = DueSegments {
        record: ended.record.clone(),
        legs: ended.legs.clone(),
        registration: Default::default(),
        wall_offset_ns: 0,
        parts: 1,
    };
    let mut live = due.record.clone();
    let ready = recorder.render_segments(&due, &spools).unwrap().expect("it can be heard");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a .part");
    recorder.publish_segments(ready, &mut live).unwrap();
    let first = live.recordings.clone();
    assert_eq!((first.len(), first[0].part), (1, 1));
    let again = DueSegments { record: live.clone(), ..due };
    assert!(recorder.render_segments(&again, &spools).unwrap().is_none(), "it is not made twice");
    // When the call ends, the other leg supplies the sound, because the order of the legs is reversed here. In this
    // leg, caller and callee are swapped.
    ended.legs.reverse();
    ended.record.take_parts(&live);
    let record = recorder.record(&ended, &spools).unwrap();
    assert_eq!(record.recordings.len(), 2);
    assert_eq!((&record.recordings[0], record.recordings[0].ends_at), (&first[0], record.recordings[1].starts_at));
    assert_eq!(record.legs.iter().map(|leg| leg.rendered).collect::<Vec<_>>(), [true, true]);
    let (left, right) = (15_996, 7_932);
    assert_eq!(wav(&first[0].path).1[800..802], [left, right]);
    assert_eq!(wav(&record.recordings[1].path).1[800..802], [right, left]);
    let reason = record.verdict_reason.unwrap();
    assert!(reason.contains("The sound of the first part comes from another leg"), "{reason}");
}

/// Records a call with two legs, of which `finished` segments of one second each were already made. The first leg lacks
/// the callee's packets in `lost`, and the second leg is whole. Returns which of the two legs supplied sound.
fn rendered_after_segments(finished: u32, lost: std::ops::Range<u16>) -> Vec<bool> {
    let (mut ended, spools) = call_with_gap([leg_without(lost), leg_without(0..0)], 0.0);
    ended.record.ended_at = Some(at_ms(6_000.0));
    for (n, leg) in ended.record.legs.iter_mut().enumerate() {
        leg.sip_call_id = format!("leg{n}");
    }
    let dir = tempfile::tempdir().unwrap();
    let config = Config { dir: dir.path().to_owned(), ..Config::default() };
    let recorder = Recorder::new(config, FolderLayout::Flat, Some(64_058));
    let mut live = ended.record.clone();
    for parts in 1..=finished {
        let (record, legs) = (live.clone(), ended.legs.clone());
        let due = DueSegments { record, legs, registration: Default::default(), wall_offset_ns: 0, parts };
        let ready = recorder.render_segments(&due, &spools).unwrap().expect("it can be heard");
        recorder.publish_segments(ready, &mut live).unwrap();
    }
    assert_eq!(live.recordings.len(), finished as usize);
    ended.record.take_parts(&live);
    let record = recorder.record(&ended, &spools).unwrap();
    record.legs.iter().map(|leg| leg.rendered).collect()
}

#[test]
fn a_gap_after_finished_segments_changes_no_leg() {
    // The first leg lacks the packets from 2.4 s to 3.6 s. Such a gap changes the leg only before the first segment is
    // finished.
    let lost = || 120..180;
    assert_eq!(rendered_after_segments(0, lost()), [false, true]);
    for finished in [1, 2] {
        assert_eq!(rendered_after_segments(finished, lost()), [true, false], "{finished} finished segments");
    }
}

#[test]
fn a_silent_side_after_finished_segments_changes_the_leg_of_the_rest() {
    // The first leg has no packet of the callee after 0.2 s. So the rest of the recording is taken from the second leg.
    let lost = || 10..300;
    assert_eq!(rendered_after_segments(0, lost()), [false, true]);
    for finished in [1, 2] {
        assert_eq!(rendered_after_segments(finished, lost()), [true, true], "{finished} finished segments");
    }
}
