//! Tests of packets whose timestamps, arrival times and payload lengths disagree by a few milliseconds.

use callspan::call::record::{CallRecord, ProblemKind, Side};
use fastrand::Rng;

use super::super::judge::FieldScore;
use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, seeds};
use super::setting::CallSetting;

/// A call in which one side or both sides send their packets in an unusual way.
struct OddCall {
    name: String,
    record: CallRecord,
    scores: [FieldScore; 2],
    faults: Vec<String>,
}

impl OddCall {
    /// Plays a voice on both sides. `change` makes the packets of one side or both sides unusual.
    fn play(
        name: &str,
        voice: &CodedVoice,
        random: &mut Rng,
        mut change: impl FnMut(Vec<FieldPacket>, &mut Rng) -> Vec<FieldPacket>,
    ) -> Self {
        let setting = CallSetting { network: CallSetting::before_answer(random).network, ..CallSetting::default() };
        let odd = *random.choice(&[None, Some(Side::Caller), Some(Side::Callee)]).unwrap();
        let mut call = FieldCall::of(voice).within(setting);
        for (side, from_ms, start) in [(Side::Caller, 1_050.0, 0), (Side::Callee, 1_065.0, 20)] {
            let packets = voice.packets(from_ms, 6, start, random);
            let is_odd = odd.is_none_or(|odd| odd == side);
            call.send(side, &if is_odd { change(packets, random) } else { packets });
        }
        let name = format!("{name}, {} of {} ms, {odd:?}, {setting:?}", voice.rtpmap, voice.packet_ms);
        let (record, scores) = call.clone().scores(7_300.0);
        Self { faults: call.faults(&name, 7_300.0, &[]), name, record, scores }
    }

    /// Returns the faults of the call. The channels may lag by at most `most_ms` anywhere, and are nearly exact. The
    /// record names no other problem than `problems`.
    fn faults(self, most_ms: f64, problems: &[ProblemKind]) -> Vec<String> {
        let Self { name, record, scores, mut faults } = self;
        for score in &scores {
            let base = &score.base;
            let is_off = base.lag_ms.abs() > most_ms || base.spread_ms > most_ms || base.corr < 0.97;
            faults.extend((is_off || base.missing_ms > 20).then(|| format!("{name}: {}", score.row())));
        }
        let kinds: Vec<ProblemKind> = record.problems.iter().map(|problem| problem.kind).collect();
        faults.extend((kinds != problems).then(|| format!("{name}: {kinds:?}")));
        faults
    }
}

#[test]
fn bytes_behind_the_sound_are_cut_and_named() {
    let mut wrong = Vec::new();
    for seed in seeds(16) {
        let mut random = Rng::with_seed(42_000 + seed);
        let voice = CodedVoice::random(&mut random, &["pcmu", "pcma", "pcmu", "g726_32"]);
        let (most, from) = (voice.payloads[0].len() / 12, *random.choice(&[0, 0, 10, 70]).unwrap());
        let count = random.usize(1..=most);
        let tail: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(count).collect();
        let name = format!("seed {seed}: {} bytes from packet {from}", tail.len());
        let call = OddCall::play(&name, &voice, &mut random, |mut packets, _| {
            let from = from.min(packets.len() / 2);
            packets[from..].iter_mut().for_each(|packet| packet.payload.extend(&tail));
            packets
        });
        // Half a byte of G.726 is a sample, so the sound of its first stray bytes disturbs the decoder.
        wrong.extend(call.faults(2.0, &[ProblemKind::TrailingBytes]));
    }
    assert_none(&wrong);
}

#[test]
fn packets_with_one_timestamp_follow_each_other() {
    let mut wrong = Vec::new();
    for seed in seeds(12) {
        let mut random = Rng::with_seed(43_000 + seed);
        let voice = CodedVoice::random(&mut random, &["pcmu", "pcma", "g726_32", "g722"]);
        let parts = *random.choice(&[2, 2, 4]).unwrap();
        let is_at_once = random.bool();
        let name = format!("seed {seed}: {parts} parts, at once {is_at_once}");
        let call = OddCall::play(&name, &voice, &mut random, |packets, _| {
            let part = |(n, packet): (usize, FieldPacket)| {
                let (bytes, samples) = (packet.payload.len() / parts, packet.sound.len() / parts);
                (0..parts).map(move |part| {
                    let later_ms = samples as f64 * part as f64 / 8.0;
                    FieldPacket {
                        at_ms: packet.at_ms + if is_at_once { 0.1 * part as f64 } else { later_ms },
                        spoken_ms: packet.spoken_ms + later_ms,
                        sequence: packet.sequence.wrapping_add((n * (parts - 1) + part) as u16),
                        payload: packet.payload[part * bytes..(part + 1) * bytes].to_vec(),
                        sound: packet.sound[part * samples..(part + 1) * samples].to_vec(),
                        ..packet.clone()
                    }
                })
            };
            packets.into_iter().enumerate().flat_map(part).collect()
        });
        wrong.extend(call.faults(2.0, &[]));
    }
    assert_none(&wrong);
}

#[test]
fn packets_that_leave_early_move_no_others() {
    let mut wrong = Vec::new();
    for seed in seeds(16) {
        let mut random = Rng::with_seed(44_000 + seed);
        let voice = CodedVoice::random(&mut random, &["pcmu", "pcma", "g726_32"]);
        let (early_ms, jitter_ms) = (5.0 + 14.0 * random.f64(), *random.choice(&[0.0, 0.5, 1.0]).unwrap());
        let (first, each) = (random.usize(10..60), random.usize(60..300));
        let name = format!("seed {seed}: packet {first} and each {each} early by {early_ms:.1} ms, jitter {jitter_ms}");
        let call = OddCall::play(&name, &voice, &mut random, |mut packets, random| {
            for (n, packet) in packets.iter_mut().enumerate() {
                let is_early = n >= first && (n - first) % each == 0;
                packet.at_ms += random.f64() * jitter_ms - if is_early { early_ms } else { 0.0 };
            }
            packets
        });
        wrong.extend(call.faults(2.0, &[]));
    }
    assert_none(&wrong);
}
