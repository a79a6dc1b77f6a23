//! Tests with whole calls of real telephones. For each folder of `fixtures/calls`, `expect.json` and the capture itself
//! determine the record and the sound. `fixtures/README.md` describes the folders.

#![allow(clippy::print_stdout, reason = "a test prints what it measured")]

use crate::support::captures::{ReplayResult, fixture, frames, replay_files, streams};
use crate::support::score::{ChannelScore, ExpectedTrack, halved, judge};
use expect::{ExpectedCall, ExpectedStream};

use callspan::call::record::{CallRecord, RecordingFile, Side};

mod corpus;
mod expect;

macro_rules! fixtures {
    ($($name:ident)*) => {
        /// Names of the folders of fixtures/calls. A test with the same name exists for each.
        const FIXTURES: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { check(stringify!($name)); })*
    };
}

fixtures! {
    amr_direct
    blind_transfer_refer_pbx
    busy_486_direct
    cancel_487_pbx
    dtmf_rfc4733_direct
    early_media_183_direct
    fragmented_invite_udp
    g711a_direct
    g711u_direct
    g722_direct
    g729_annexb_sid_direct
    g729_direct
    gsm_direct
    hold_resume_direct
    ilbc_direct
    late_offer_compact_hdrs_cn_pt13_sipp
    opus_direct
    pbx_b2bua_both_legs_ulaw
    pbx_b2bua_one_leg_alice_port
    pbx_early_media_183
    pbx_transcode_g722_to_alaw
    proxy_kamailio_same_callid_twice
    ring_group_fork_pbx
    speex_wb_direct
    srtp_sdes_direct
    tcp_signalling
}

#[test]
fn every_folder_of_fixtures_has_its_test() {
    let mut folders: Vec<String> = std::fs::read_dir(fixture("calls"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(folders, FIXTURES);
}

fn check(name: &str) {
    let replayed = replay_files(&[fixture(&format!("calls/{name}/capture.pcap"))]);
    assert_eq!(replayed.warnings, Vec::<String>::new());
    let expected = expect::read(name);
    assert_eq!(replayed.records.len(), expected.len(), "calls: {:#?}", replayed.records);
    for (record, wanted) in replayed.records.iter().zip(&expected) {
        wanted.check(record);
        check_files(&replayed, record);
        if let [recording] = record.recordings.as_slice() {
            check_sound(name, record, recording, wanted);
        }
    }
}

/// Checks that the record lies beside the recording, and that its data about the recording is true.
fn check_files(replayed: &ReplayResult, record: &CallRecord) {
    let json = std::fs::read_to_string(replayed.out.path().join(format!("{}.json", record.id))).unwrap();
    assert_eq!(&serde_json::from_str::<CallRecord>(&json).unwrap(), record);
    for recording in &record.recordings {
        assert_eq!(std::fs::metadata(&recording.path).unwrap().len(), recording.bytes);
        assert_eq!(recording.starts_at, record.answered_at.unwrap(), "recording.start is `answer`");
        assert_eq!(Some(recording.ends_at), record.ended_at);
    }
}

/// Allowed difference between the recorded voice and the voice in the packets.
struct SoundBounds {
    lag_ms: f64,
    spread_ms: f64,
    corr: f64,
}

/// Returns the allowed difference for a codec.
///
/// With G.711, the recording must have the samples of the packets, so only their position can be off by the
/// uncertainty of the playout time. With other codecs, the recording is compared with the sound that was played. These
/// codecs add delay (look-ahead and filters, up to 10 ms). They also change the wave form, so the best match of a
/// window may be one pitch period off.
///
/// AMR, G.729 and iLBC keep how speech sounds, but not its wave form. No decoder does better with these packets. The
/// table has the correlation with the sound that alice and bob played (median of windows of 1 s):
///
/// | fixture | callspan | other decoders |
/// |---|---|---|
/// | g729_direct | 0.824, 0.860 | bcg729 0.826, 0.861; ffmpeg 0.826, 0.858 |
/// | amr_direct | 0.816, 0.839 | opencore 0.816, 0.839; ffmpeg 0.820, 0.841 |
/// | ilbc_direct | 0.846, 0.868 | the RFC's own 0.846, 0.868; ffmpeg (no enhancer) 0.855, 0.867 |
///
/// `tests/it/codecs` compares callspan with those decoders: the difference is -33 dB, none, and -75 dB.
fn bounds(codec: &str) -> SoundBounds {
    match codec {
        "PCMU" | "PCMA" => SoundBounds { lag_ms: 3.0, spread_ms: 3.0, corr: 0.98 },
        "AMR" | "G729" | "ILBC" => SoundBounds { lag_ms: 15.0, spread_ms: 15.0, corr: 0.78 },
        _ => SoundBounds { lag_ms: 15.0, spread_ms: 15.0, corr: 0.9 },
    }
}

fn check_sound(name: &str, record: &CallRecord, recording: &RecordingFile, wanted: &ExpectedCall) {
    let mut wav = hound::WavReader::open(&recording.path).unwrap();
    let spec = wav.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, recording.sample_rate, 16));
    let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
    let span_ns = i128::from(recording.ends_at.as_nanos() - recording.starts_at.as_nanos());
    let expected = (span_ns * i128::from(spec.sample_rate) + 500_000_000) / 1_000_000_000;
    assert_eq!(samples.len() as i128 / 2, expected, "samples a channel");

    let packets = frames(name);
    let channel = |side: Side| -> Vec<i16> {
        let one: Vec<i16> = samples.iter().skip(side.channel()).step_by(2).copied().collect();
        if spec.sample_rate == 16_000 { halved(&one) } else { one }
    };
    let tracks = [Side::Caller, Side::Callee].map(|side| {
        let mut track = ExpectedTrack::silence(channel(side).len());
        for stream in wanted.streams.iter().filter(|s| s.side == side) {
            lay(&mut track, stream, &packets, recording.starts_at.as_nanos());
        }
        track
    });
    let bounds = bounds(wanted.codec.as_deref().unwrap_or_default());
    for side in [Side::Caller, Side::Callee] {
        let (own, other) = (&tracks[side.channel()], &tracks[side.other().channel()]);
        let score = judge(&channel(side), own, other);
        println!("{name} {side:?} of {}: {score:?}", record.id);
        assert_sound(&score, &bounds, &format!("{name}, {side:?}: {score:?}"));
    }
}

fn lay(
    track: &mut ExpectedTrack,
    stream: &ExpectedStream,
    packets: &[crate::support::packets::CapturedFrame],
    start_ns: i64,
) {
    let key = (stream.src.clone(), stream.dst.clone(), stream.ssrc());
    let heard = streams(packets).remove(&key).unwrap_or_else(|| panic!("{key:?} is in the capture"));
    match &stream.played {
        None => track.lay_g711(&heard, start_ns),
        Some(played) => {
            let last = heard.last().unwrap().at_ns + 20_000_000; // each packet has 20 ms
            track.lay_played(&speech(&played.wav), (played.from.as_nanos(), last), start_ns);
        }
    }
}

/// Returns the samples of a file of fixtures/truth, resampled to 8 kHz.
fn speech(wav: &str) -> Vec<i16> {
    let mut wav = hound::WavReader::open(fixture(&format!("truth/{wav}"))).unwrap();
    let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
    if wav.spec().sample_rate == 16_000 { halved(&samples) } else { samples }
}

fn assert_sound(score: &ChannelScore, bounds: &SoundBounds, what: &str) {
    assert!(score.windows >= 3, "there is speech to be compared: {what}");
    assert_eq!((score.lost, score.missing_ms), (0, 0), "{what}");
    assert!(score.lag_ms.abs() <= bounds.lag_ms, "{what}");
    assert!(score.spread_ms <= bounds.spread_ms, "{what}");
    assert!(score.corr >= bounds.corr, "{what}");
    assert!(score.leak < 0.15, "the other voice is heard: {what}");
}
