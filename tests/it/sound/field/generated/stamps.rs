//! Tests of packets whose timestamps, arrival times and payload lengths disagree by a few milliseconds.

use callspan::call::record::{CallRecord, ProblemKind, Side};
use fastrand::Rng;

use super::super::judge::FieldScore;
use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, seeds};
use super::setting::CallSetting;
use super::spurts::{Misfit, pause};

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

/// How the timestamps of a sender wander around the number of samples that it sent.
#[derive(Clone, Copy, Debug)]
enum Wander {
    /// Each timestamp is off by up to this number of ms, forward or back.
    Jitter(f64),
    /// The timestamps are the wall clock in steps of this number of ms, at the moment when a packet leaves.
    Steps(f64),
    /// As `Jitter`, but in ticks of 90 kHz.
    Jitter90k(f64),
    /// The timestamps leap by this number of ms every 1.5 s.
    Leaps(f64),
}

impl Wander {
    fn random(random: &mut Rng) -> Self {
        match random.u8(0..6) {
            0 => Self::Steps(*random.choice(&[1.0, 1.0, 15.625, 16.0]).unwrap()),
            1 => Self::Jitter90k(*random.choice(&[1.0, 5.0]).unwrap()),
            2 => Self::Leaps(*random.choice(&[-10.0, -5.0, 5.0, 10.0]).unwrap()),
            _ => Self::Jitter(*random.choice(&[0.5, 1.0, 2.0, 5.0, 9.0]).unwrap()),
        }
    }

    /// Sets the timestamps of the packets from number `from` on.
    fn apply(self, packets: &mut [FieldPacket], voice: &CodedVoice, from: usize, random: &mut Rng) {
        let Some(first) = packets.first().cloned() else { return };
        let hz = if matches!(self, Self::Jitter90k(_)) { 90_000 } else { voice.clock_hz };
        let each = (1_500 / voice.packet_ms) as usize;
        for (n, packet) in packets.iter_mut().enumerate() {
            if matches!(self, Self::Steps(_)) {
                packet.at_ms += 1.8 * random.f64();
            }
            let sent_ms = packet.at_ms - first.at_ms;
            let off_ms = match self {
                Self::Jitter(ms) | Self::Jitter90k(ms) => (random.f64() * 2.0 - 1.0) * ms,
                Self::Steps(ms) => (sent_ms / ms).floor() * ms - sent_ms,
                Self::Leaps(ms) => (n / each) as f64 * ms,
            };
            let off_ms = if n < from { 0.0 } else { off_ms };
            let ticks = ((sent_ms + off_ms) * f64::from(hz) / 1_000.0).round() as i64;
            packet.time = first.time.wrapping_add(ticks as u32);
        }
    }
}

const WANDERING: [&str; 6] = ["pcmu", "pcma", "g722", "gsm", "g726_32", "pcmu"];

#[test]
fn packets_with_wandering_timestamps_are_joined_and_named() {
    let mut wrong = Vec::new();
    for seed in seeds(24) {
        let mut random = Rng::with_seed(45_000 + seed);
        let voice = CodedVoice::random(&mut random, &WANDERING);
        let (wander, from) = (Wander::random(&mut random), *random.choice(&[0, 0, 0, 20, 50]).unwrap());
        let from = if matches!(wander, Wander::Jitter(_)) { from } else { 0 };
        let name = format!("seed {seed}: {wander:?} from packet {from}");
        let call = OddCall::play(&name, &voice, &mut random, |mut packets, random| {
            wander.apply(&mut packets, &voice, from, random);
            packets
        });
        wrong.extend(call.faults(2.0, &[ProblemKind::BrokenStamps]));
    }
    assert_none(&wrong);
}

#[test]
fn wandering_timestamps_cost_no_word_beside_losses_pauses_and_drift() {
    let mut wrong = Vec::new();
    // After a pause or a lost packet, the other codecs sound different for a while, also without wandering timestamps. A
    // packet that is lost beside a pause costs more than itself with any timestamps.
    let (codecs, robust) = (["g729", "opus", "amr", "ilbc_30", "gsm"], ["pcmu", "pcma", "g722"]);
    for seed in seeds(24) {
        let mut random = Rng::with_seed(46_000 + seed);
        let (lost, has_pauses) =
            *random.choice(&[(0.0, false), (0.0, true), (0.0, true), (0.01, false), (0.02, false)]).unwrap();
        let voice = CodedVoice::random(&mut random, if lost > 0.0 || has_pauses { &robust } else { &codecs });
        let wander = Wander::random(&mut random);
        let drift = f64::from(random.i32(-500..500)) / 1e6;
        let mut call = FieldCall::of(&voice);
        let mut ends_ms = 0.0_f64;
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let mut packets = voice.packets(1_050.0, 10, start, &mut random);
            if has_pauses {
                pause(&mut packets, &voice, Misfit::Constant(0.0), &mut random);
            }
            for packet in &mut packets {
                packet.at_ms += (packet.at_ms - 1_050.0) * drift;
                packet.spoken_ms = packet.at_ms;
                packet.is_lost = random.f64() < lost;
            }
            wander.apply(&mut packets, &voice, 0, &mut random);
            ends_ms = ends_ms.max(packets.last().unwrap().at_ms + 200.0);
            packets.iter_mut().filter(|packet| packet.is_lost).for_each(|packet| packet.sound.fill(0));
            call.send(side, &packets);
        }
        let name = format!(
            "seed {seed}, {} of {} ms, {wander:?}, lost {lost}, pauses {has_pauses}, drift {drift}",
            voice.rtpmap, voice.packet_ms
        );
        let (record, scores) = call.scores(ends_ms);
        let is_named = record.problems.iter().any(|problem| problem.kind == ProblemKind::BrokenStamps);
        wrong.extend((!is_named).then(|| format!("{name}: {:?}", record.problems)));
        // Timestamps in steps of 16 ms show the end of a pause only so exactly. One second around a pause may differ.
        let is_fault = |fault: &String| !(has_pauses && fault == "lost windows 1.00");
        let of = |score: &FieldScore| score.faults().into_iter().filter(is_fault).collect::<Vec<_>>();
        let faults = scores.iter().flat_map(|score| of(score).into_iter().map(|fault| (fault, score.row())));
        wrong.extend(faults.map(|(fault, row)| format!("{name}: {fault}; {row}; {:?}", record.problems)));
    }
    assert_none(&wrong);
}

#[test]
fn single_leaps_back_are_no_bytes_behind_the_sound() {
    let mut wrong = Vec::new();
    for seed in seeds(8) {
        let mut random = Rng::with_seed(47_000 + seed);
        let voice = CodedVoice::random(&mut random, &["pcmu", "pcma"]);
        let (first, apart) = (random.usize(10..20), random.usize(5..30));
        let name = format!("seed {seed}: leaps at packets {first} and {}", first + apart);
        let call = OddCall::play(&name, &voice, &mut random, |mut packets, _| {
            for at in [first, first + apart] {
                packets[at..].iter_mut().for_each(|packet| packet.time = packet.time.wrapping_sub(10));
            }
            packets
        });
        wrong.extend(call.faults(2.0, &[ProblemKind::BrokenStamps]));
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
