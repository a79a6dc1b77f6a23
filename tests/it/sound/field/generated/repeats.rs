//! Tests of senders that restart with other or equal sequence numbers and timestamps, and of mirrors that show packets
//! twice.

use callspan::call::record::Side;
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, seeds};

/// How a sender restarts its numbers without a pause.
#[derive(Clone, Copy, Debug)]
enum NumberRestart {
    /// It sends the same packets again and again, `every` packets each time, with a pause of `pause_ms` between.
    Loop { every: usize, pause_ms: f64 },
    /// A stand-by server takes over, and goes on with the numbers of this many packets ago.
    Checkpoint { back: u16 },
    /// A stand-by server takes over, and skips this many packets.
    Ahead { by: u16 },
}

impl NumberRestart {
    fn random(packet_ms: usize, random: &mut Rng) -> Self {
        match random.u8(0..5) {
            0 | 1 => Self::Loop {
                every: *random.choice(&[500, 1_000, 2_000]).unwrap() / packet_ms,
                pause_ms: *random.choice(&[0.0, 0.0, 300.0]).unwrap(),
            },
            2 => Self::Ahead { by: random.u16(1_000..20_000) },
            _ => Self::Checkpoint { back: *random.choice(&[4, 5, 9, 20, 50, 95, 99]).unwrap() },
        }
    }

    fn apply(self, packets: &mut [FieldPacket]) {
        let (first, step) = (packets[0].clone(), packets[1].time.wrapping_sub(packets[0].time));
        let place = packets.len() / 2;
        for (n, packet) in packets.iter_mut().enumerate() {
            match self {
                Self::Loop { every, pause_ms } => {
                    let (round, place) = (n / every, n % every);
                    packet.sequence = first.sequence.wrapping_add(place as u16);
                    packet.time = first.time.wrapping_add(step.wrapping_mul(place as u32));
                    packet.at_ms += round as f64 * pause_ms;
                    packet.spoken_ms += round as f64 * pause_ms;
                }
                Self::Checkpoint { back } if n >= place => {
                    packet.sequence = packet.sequence.wrapping_sub(back);
                    packet.time = packet.time.wrapping_sub(step.wrapping_mul(back.into()));
                }
                Self::Ahead { by } if n >= place => {
                    packet.sequence = packet.sequence.wrapping_add(by);
                    packet.time = packet.time.wrapping_add(step.wrapping_mul(by.into()));
                }
                Self::Checkpoint { .. } | Self::Ahead { .. } => {}
            }
        }
    }
}

#[test]
fn sender_that_restarts_its_numbers_is_heard_and_nothing_counts_as_lost() {
    let mut wrong = Vec::new();
    for seed in seeds(20) {
        let mut random = Rng::with_seed(45_000 + seed);
        let name = *random.choice(&["pcmu", "pcma", "gsm", "opus", "g729", "g722", "ilbc_30"]).unwrap();
        let voice = CodedVoice::fixture(name);
        let restart = NumberRestart::random(voice.packet_ms as usize, &mut random);
        let mut call = FieldCall::of(&voice);
        for (side, from_ms, start) in [(Side::Caller, 1_050.0, 0), (Side::Callee, 1_065.0, 20)] {
            let mut packets = voice.packets(from_ms, 6, start, &mut random);
            if side == Side::Caller || random.bool() {
                restart.apply(&mut packets);
            }
            packets.retain(|packet| packet.at_ms < 7_000.0);
            call.send(side, &packets);
        }
        let name = format!("seed {seed}: {restart:?}, {} of {} ms", voice.rtpmap, voice.packet_ms);
        let (record, scores) = call.clone().scores(7_300.0);
        for (side, score) in [&record.sides.caller, &record.sides.callee].into_iter().zip(&scores) {
            // Three packets must repeat numbers before a restart is certain. The first two count as copies.
            let is_known = side.lost == 0 && side.duplicates <= 2;
            wrong.extend((!is_known).then(|| format!("{name}: lost {}, copies {}", side.lost, side.duplicates)));
            wrong.extend((score.base.missing_ms > 80).then(|| format!("{name}: {}", score.row())));
        }
        wrong.extend(call.faults(&name, 7_300.0, &[]));
    }
    assert_none(&wrong);
}

#[test]
fn copies_are_not_heard_twice_however_late_or_changed_they_are() {
    let mut wrong = Vec::new();
    for seed in seeds(20) {
        let mut random = Rng::with_seed(46_000 + seed);
        let voice = CodedVoice::fixture(random.choice(&["pcmu", "pcma", "gsm", "g722"]).unwrap());
        let late_ms = *random.choice(&[0.3, 3.0, 19.0, 21.0, 45.0, 120.0, 390.0]).unwrap();
        let (is_changed, burst) = (random.bool(), random.usize(1..6));
        let mut call = FieldCall::of(&voice);
        let mut copies_sent = 0;
        for (side, from_ms, start) in [(Side::Caller, 1_050.0, 0), (Side::Callee, 1_065.0, 20)] {
            let mut packets = voice.packets(from_ms, 6, start, &mut random);
            // The sender pauses twice, so that copies arrive while it sends nothing.
            for place in [100, 200] {
                packets[place..].iter_mut().for_each(|packet| {
                    (packet.at_ms, packet.spoken_ms) = (packet.at_ms + 450.0, packet.spoken_ms + 450.0);
                    packet.time = packet.time.wrapping_add(450 * voice.clock_hz / 1_000);
                });
            }
            packets.retain(|packet| packet.at_ms < 7_000.0);
            call.send(side, &packets);
            let copies: Vec<FieldPacket> = (0..)
                .zip(&packets)
                .map(|(n, packet): (usize, _)| {
                    let mut copy = packet.clone();
                    copy.at_ms =
                        packets[(n / burst * burst + burst - 1).min(packets.len() - 1)].at_ms.max(packet.at_ms);
                    // The mirror delivers the copies of several packets together.
                    copy.at_ms += late_ms + 0.2 * (n % burst) as f64;
                    if is_changed {
                        copy.payload.iter_mut().for_each(|byte| *byte ^= 1);
                    }
                    copy
                })
                .collect();
            copies_sent += copies.len();
            call.send_unheard(side, &copies);
        }
        let name = format!("seed {seed}: {late_ms} ms late, {burst} at once, changed {is_changed}, {}", voice.rtpmap);
        let (record, _) = call.clone().scores(7_600.0);
        let found = record.sides.caller.duplicates + record.sides.callee.duplicates;
        wrong.extend((found != copies_sent as u64).then(|| format!("{name}: {found} of {copies_sent} copies")));
        wrong.extend(call.faults(&name, 7_600.0, &[]));
    }
    assert_none(&wrong);
}
