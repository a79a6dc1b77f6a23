//! Tests of packets that arrive long after packets that were sent after them.

use callspan::call::record::Side;
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, seeds};
use super::setting::CallSetting;

/// How a network delays packets behind packets that were sent after them.
#[derive(Clone, Copy, Debug)]
enum LateArrival {
    /// One of `each` packets takes `ms` longer.
    Single { each: u32, ms: f64 },
    /// Every second, this number of packets in a row takes `ms` longer.
    Bursts { packets: usize, ms: f64 },
    /// The delay of each packet is random, up to `ms`. Of fewer packets, fewer arrive without delay, so it is shorter.
    Jitter { ms: f64 },
}

impl LateArrival {
    fn random(packet_ms: u32, random: &mut Rng) -> Self {
        let ms = *random.choice(&[205.0, 220.0, 300.0, 450.0, 900.0, 1_800.0, 2_600.0, 4_500.0]).unwrap();
        match random.u8(0..3) {
            0 => Self::Single { each: random.u32(4..60), ms: ms + random.f64() * 40.0 },
            1 => Self::Bursts { packets: random.usize(2..12), ms: ms + random.f64() * 40.0 },
            _ => Self::Jitter { ms: random.f64() * 300.0 * 20.0 / f64::from(packet_ms.max(20)) },
        }
    }

    fn apply(self, packets: &mut [FieldPacket], random: &mut Rng) {
        let first_ms = packets[0].at_ms;
        let mut second = (0, 0);
        for packet in packets {
            match self {
                Self::Single { each, ms } => packet.at_ms += if random.u32(0..each) == 0 { ms } else { 0.0 },
                Self::Bursts { packets, ms } => {
                    let number = ((packet.at_ms - first_ms + 500.0) / 1_000.0) as usize;
                    second = if second.0 == number { (number, second.1 + 1) } else { (number, 0) };
                    packet.at_ms += if number > 0 && second.1 < packets { ms } else { 0.0 };
                }
                Self::Jitter { ms } => packet.at_ms += random.f64() * ms,
            }
        }
    }
}

#[test]
fn overtaken_packets_are_played_in_their_place_however_late_they_are() {
    let mut wrong = Vec::new();
    for seed in seeds(24) {
        let mut random = Rng::with_seed(41_000 + seed);
        let names = ["pcmu", "pcma", "opus", "g722", "gsm", "amr", "amrwb", "g729", "ilbc_30", "speex_wb", "g726_32"];
        let voice = CodedVoice::random(&mut random, &names);
        let (late, setting) =
            (LateArrival::random(voice.packet_ms, &mut random), CallSetting::before_answer(&mut random));
        let mut call = FieldCall::of(&voice).within(setting);
        let mut ends_ms: f64 = 0.0;
        for (side, from_ms, start) in [(Side::Caller, 1_050.0, 0), (Side::Callee, 1_065.0, 20)] {
            let mut packets = voice.packets(from_ms, 6, start, &mut random);
            // Packets that nothing overtakes are not late but sent later. So the packets of the last second are not
            // delayed.
            let overtaken = packets.len() - 1_000 / voice.packet_ms as usize;
            late.apply(&mut packets[..overtaken], &mut random);
            ends_ms = packets.iter().map(|packet| packet.at_ms + 300.0).fold(ends_ms, f64::max);
            call.send(side, &packets);
        }
        let name = format!("seed {seed}: {late:?}, {} of {} ms, {setting:?}", voice.rtpmap, voice.packet_ms);
        let (record, scores) = call.clone().scores(ends_ms);
        for (side, score) in [&record.sides.caller, &record.sides.callee].into_iter().zip(&scores) {
            let figures = (side.lost, side.late, side.duplicates);
            wrong.extend((figures != (0, Some(0), 0)).then(|| format!("{name}: lost, late, duplicates {figures:?}")));
            let missing = score.base.missing_ms;
            wrong.extend((missing > 40).then(|| format!("{name}: {missing} ms missing, {}", score.row())));
        }
        let kinds: Vec<_> = record.problems.iter().map(|problem| problem.kind).collect();
        wrong.extend((!kinds.is_empty()).then(|| format!("{name}: {kinds:?}")));
        let rows = scores.map(|score| score.row()).join("; ");
        wrong.extend(call.faults(&name, ends_ms, &[]).into_iter().map(|fault| format!("{fault} ({rows})")));
    }
    assert_none(&wrong);
}

#[test]
fn packets_later_than_the_player_waits_are_counted() {
    let (voice, mut random) = (CodedVoice::fixture("pcmu"), Rng::with_seed(1));
    let mut call = FieldCall::of(&voice);
    for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
        let mut packets = voice.packets(1_050.0, 9, start, &mut random);
        // Five packets take 6 s longer, so the sound around them was written before they arrived.
        packets[100..105].iter_mut().for_each(|packet| packet.at_ms += 6_000.0);
        call.send(side, &packets);
    }
    let (record, _) = call.scores(10_400.0);
    assert_eq!([&record.sides.caller, &record.sides.callee].map(|side| (side.lost, side.late)), [(0, Some(5)); 2]);
}
