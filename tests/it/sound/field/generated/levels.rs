//! Compares levels, pauses and losses of every codec with an independent decoder of the same frames
//! (`fixtures/codecs`).

use callspan::call::record::Side;
use fastrand::Rng;

use super::super::judge::FieldScore;
use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, leave_out_pauses, seeds};
use super::setting::CallSetting;
use crate::codecs::tools::bcg729;

const VOICES: [&str; 17] = [
    "pcma", "pcmu", "gsm", "g722", "g729", "ilbc_20", "ilbc_30", "speex", "speex_wb", "opus", "opus_fec", "amr",
    "amrwb", "g726_16", "g726_24", "g726_32", "g726_40",
];

/// Fixtures with pauses (silence suppression).
const PAUSED: [&str; 5] = ["amr_dtx", "amrwb_dtx", "g729b", "opus_dtx", "speex_dtx"];

/// Maximum difference of the level, dB, if both decoders decode the same frames.
const SAME_LEVEL_DB: f64 = 0.5;
/// Maximum duration of silence at the first frame of a decoder, ms.
const FIRST_FRAME_MS: usize = 10;
/// Maximum duration of silence instead of sound, or sound instead of silence, at the edges of pauses, ms.
const PAUSE_EDGES_MS: usize = 40;
/// Maximum difference of the level with losses, dB. A lost frame of G.729 at the end of a pause makes the next sound
/// too quiet.
const LOSS_LEVEL_DB: f64 = 2.5;
/// Maximum difference of the level from an independent decoder that has the same losses, dB. In a lost frame, the
/// fixed-point reference of the ITU limits the gain of the pitch to 1.8, and bcg729 to 0.9. So a loud vowel with losses
/// differs by up to 1.1 dB.
const SAME_LOSSES_DB: f64 = 1.5;
/// Maximum duration of silence if 60 ms in a row are lost three times, ms. It is allowed because concealment fades out.
const BURSTS_MS: usize = 150;

/// Returns pairs of this fixture name and a seed, one for each seed of the test.
fn each_seed(name: &'static str) -> impl Iterator<Item = (&'static str, u64)> {
    seeds(1).map(move |seed| (name, seed))
}

/// Plays a voice on both sides. `change` changes the packets of each side. Returns the scores of both sides.
fn scores(name: &str, seed: u64, change: impl Fn(&mut Vec<FieldPacket>)) -> [FieldScore; 2] {
    let (voice, mut random) = (CodedVoice::fixture(name), Rng::with_seed(seed));
    let setting = CallSetting::before_answer(&mut random);
    let fmtp =
        if name.ends_with("octets") || name.starts_with("amr") && name.ends_with("dtx") { "octet-align=1" } else { "" };
    let line = format!("RTP/AVP 96\r\n{}", voice.lines(96, fmtp));
    let mut call = FieldCall::answered(&line, &line).within(setting);
    for side in [Side::Caller, Side::Callee] {
        let mut packets = packets_of(&voice, side, &mut random);
        change(&mut packets);
        call.send(side, &packets);
    }
    call.scores(5_200.0).1
}

fn packets_of(voice: &CodedVoice, side: Side, random: &mut Rng) -> Vec<FieldPacket> {
    let start = if side == Side::Caller { 0 } else { voice.payloads.len() / 3 };
    voice.packets(1_050.0, 4, start, random)
}

/// The lost packets of a stream: one of 23, and three times 60 ms in a row.
#[derive(Clone, Copy, Debug)]
struct Losses {
    single: usize,
    burst_ms: u32,
}

impl Losses {
    fn random(seed: u64) -> Self {
        let mut random = Rng::with_seed(7_000 + seed);
        Self { single: random.usize(0..23), burst_ms: random.u32(100..900) }
    }

    /// Marks the packets that are lost, and those that were never sent because of a pause. `packet_ms` is the duration
    /// of a packet.
    fn apply(self, packets: &mut [FieldPacket], packet_ms: u32) {
        for (n, packet) in packets.iter_mut().enumerate() {
            let from_burst_ms = (n as u32 * packet_ms % 1_000).abs_diff(self.burst_ms);
            // A single loss beside a burst would make the burst longer.
            let is_single = n % 23 == self.single && from_burst_ms > 100;
            packet.is_lost = packet.payload.is_empty() || is_single || from_burst_ms < 30;
        }
    }
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
        let scores = scores(name, seed, |packets| leave_out_pauses(packets, name));
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
        // If G.729 loses a frame at the end of a pause, the next sound is too quiet. The next test covers that.
        let is_paused = PAUSED.contains(&name);
        let losses = if is_paused { Losses { single: 11, burst_ms: 430 } } else { Losses::random(seed) };
        let packet_ms = CodedVoice::fixture(name).packet_ms;
        for score in scores(name, seed, |packets| losses.apply(packets, packet_ms)) {
            println!(
                "{name}, {seed}, {losses:?}: {:+.2} dB, missing {}, invented {}",
                score.level_db, score.base.missing_ms, score.invented_ms
            );
            let differs = score.level_db.abs() > LOSS_LEVEL_DB
                || score.base.missing_ms > BURSTS_MS
                || score.invented_ms > PAUSE_EDGES_MS;
            wrong.extend(differs.then(|| format!("{name}, {seed}, {losses:?}: {score:?}")));
        }
    }
    assert_none(&wrong);
}

#[test]
#[cfg_attr(not(has_bcg729), ignore = "needs libbcg729-dev and a C compiler")]
fn g729_with_losses_has_the_level_of_an_independent_decoder() {
    let mut wrong = Vec::new();
    for (name, seed) in ["g729", "g729b"].into_iter().flat_map(|name| seeds(6).map(move |seed| (name, seed))) {
        let (losses, voice) = (Losses::random(seed), CodedVoice::fixture(name));
        let scores = scores(name, seed, |packets| losses.apply(packets, voice.packet_ms));
        for (side, score) in [Side::Caller, Side::Callee].into_iter().zip(scores) {
            let mut packets = packets_of(&voice, side, &mut Rng::with_seed(seed));
            losses.apply(&mut packets, voice.packet_ms);
            let frames: Vec<&[u8]> = packets.iter().flat_map(|packet| frames_of(packet, voice.packet_ms)).collect();
            let (wanted, sent): (Vec<i16>, Vec<i16>) =
                (bcg729(&frames), packets.iter().flat_map(|packet| packet.sound.clone()).collect());
            let wanted_db = 10.0 * (square_sum(&wanted) / square_sum(&sent)).log10();
            let differs = (score.level_db - wanted_db).abs() > SAME_LOSSES_DB;
            println!("{name}, {seed}, {losses:?}: {:+.2} dB, bcg729 {wanted_db:+.2} dB", score.level_db);
            wrong.extend(differs.then(|| format!("{name}, {seed}: {:+.2}, {wanted_db:+.2} dB", score.level_db)));
        }
    }
    assert_none(&wrong);
}

/// Returns the G.729 frames of a packet. If the packet is lost, the frames are empty.
fn frames_of(packet: &FieldPacket, packet_ms: u32) -> Vec<&[u8]> {
    match packet.is_lost {
        true => vec![&[][..]; packet_ms as usize / 10],
        false => packet.payload.chunks(10).collect(),
    }
}

fn square_sum(samples: &[i16]) -> f64 {
    samples.iter().map(|sample| f64::from(*sample).powi(2)).sum()
}
