//! Levels, pauses and losses of every codec against an independent decoder of the same frames (`fixtures/codecs`).

use callspan::call::record::Side;
use fastrand::Rng;

use super::super::judge::FieldScore;
use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, seeds};
use super::setting::CallSetting;

const VOICES: [&str; 17] = [
    "pcma", "pcmu", "gsm", "g722", "g729", "ilbc_20", "ilbc_30", "speex", "speex_wb", "opus", "opus_fec", "amr",
    "amrwb", "g726_16", "g726_24", "g726_32", "g726_40",
];

/// Voices with pauses (silence suppression).
const PAUSED: [&str; 5] = ["amr_dtx", "amrwb_dtx", "g729b", "opus_dtx", "speex_dtx"];

/// Maximum difference of the level if both decoders decode the same frames, dB.
const SAME_LEVEL_DB: f64 = 0.5;
/// Maximum silence in place of sound at the first frame of a decoder, ms.
const FIRST_FRAME_MS: usize = 10;
/// Maximum silence in place of sound, or sound in place of silence, at the edges of pauses, ms.
const PAUSE_EDGES_MS: usize = 40;
/// Maximum difference of the level with losses, dB: a lost frame of G.729 at the end of a pause loses the onset.
const LOSS_LEVEL_DB: f64 = 2.5;
/// Maximum silence if 60 ms in a row are lost three times, ms. Concealment fades out.
const BURSTS_MS: usize = 150;

/// A voice with each seed.
fn each_seed(name: &'static str) -> impl Iterator<Item = (&'static str, u64)> {
    seeds(1).map(move |seed| (name, seed))
}

/// Plays a voice on both sides and returns the scores. `change` changes the packets of each side.
fn scores(name: &str, seed: u64, change: impl Fn(&mut Vec<FieldPacket>)) -> [FieldScore; 2] {
    let (voice, mut random) = (CodedVoice::fixture(name), Rng::with_seed(seed));
    let setting = CallSetting::before_answer(&mut random);
    let fmtp =
        if name.ends_with("octets") || name.starts_with("amr") && name.ends_with("dtx") { "octet-align=1" } else { "" };
    let line = format!("RTP/AVP 96\r\n{}", voice.lines(96, fmtp));
    let mut call = FieldCall::answered(&line, &line).within(setting);
    for (side, start) in [(Side::Caller, 0), (Side::Callee, voice.payloads.len() / 3)] {
        let mut packets = voice.packets(1_050.0, 4, start, &mut random);
        change(&mut packets);
        call.send(side, &packets);
    }
    call.scores(5_200.0).1
}

#[test]
fn every_codec_has_the_level_of_an_independent_decoder() {
    let mut wrong = Vec::new();
    for (name, seed) in VOICES.into_iter().flat_map(each_seed) {
        for score in scores(name, seed, |_| {}) {
            println!(
                "{name}, {seed}: {:+.2} dB, missing {}, invented {}",
                score.level_db, score.base.missing_ms, score.invented_ms
            );
            let differs =
                score.level_db.abs() > SAME_LEVEL_DB || score.base.missing_ms + score.invented_ms > FIRST_FRAME_MS;
            wrong.extend((differs || !score.faults().is_empty()).then(|| format!("{name}, {seed}: {score:?}")));
        }
    }
    assert_none(&wrong);
}

#[test]
fn pauses_of_the_sender_are_neither_silence_nor_noise() {
    let mut wrong = Vec::new();
    for (name, seed) in PAUSED.into_iter().flat_map(each_seed) {
        // Frames that were not sent: nothing of G.729, one byte of Opus and Speex, frame type 15 of AMR.
        let most = if name.starts_with("amr") { 2 } else { 1 };
        let scores = scores(name, seed, |packets| {
            let first = packets[0].sequence;
            packets.iter_mut().filter(|packet| packet.payload.len() <= most).for_each(|packet| packet.is_lost = true);
            // A pause skips no sequence number (RFC 3551 section 4.1).
            for (sent, packet) in packets.iter_mut().filter(|packet| !packet.is_lost).enumerate() {
                packet.sequence = first.wrapping_add(sent as u16);
            }
        });
        for score in scores {
            println!(
                "{name}, {seed}: {:+.2} dB, missing {}, invented {}",
                score.level_db, score.base.missing_ms, score.invented_ms
            );
            let differs = score.level_db.abs() > SAME_LEVEL_DB
                || score.base.missing_ms > PAUSE_EDGES_MS
                || score.invented_ms > PAUSE_EDGES_MS;
            wrong.extend((differs || !score.faults().is_empty()).then(|| format!("{name}, {seed}: {score:?}")));
        }
    }
    assert_none(&wrong);
}

#[test]
fn lost_packets_are_concealed_without_inventing_sound() {
    let mut wrong = Vec::new();
    for (name, seed) in VOICES.into_iter().chain(PAUSED).flat_map(each_seed) {
        let mut random = Rng::with_seed(7_000 + seed);
        // Where a lost frame hits the end of a pause, G.729 loses the onset.
        let is_paused = PAUSED.contains(&name);
        let (single, burst_ms) = if is_paused { (11, 430) } else { (random.usize(0..23), random.u32(100..900)) };
        let scores = scores(name, seed, |packets| {
            // Single packets, and three bursts of 60 ms.
            for (n, packet) in packets.iter_mut().enumerate() {
                packet.is_lost =
                    packet.payload.is_empty() || n % 23 == single || (n as u32 % 50 * 20).abs_diff(burst_ms) < 30;
            }
        });
        for score in scores {
            println!(
                "{name}, {seed}: {:+.2} dB, missing {}, invented {}",
                score.level_db, score.base.missing_ms, score.invented_ms
            );
            let differs = score.level_db.abs() > LOSS_LEVEL_DB
                || score.base.missing_ms > BURSTS_MS
                || score.invented_ms > PAUSE_EDGES_MS;
            wrong.extend(differs.then(|| format!("{name}, {seed}: {score:?}")));
        }
    }
    assert_none(&wrong);
}
