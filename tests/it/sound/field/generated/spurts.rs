//! Tests with senders that leave pauses out and begin each talk spurt with timestamps that do not fit the pause.

use callspan::call::record::Side;
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, seeds};

/// How far the timestamps of a talk spurt are off after a pause.
#[derive(Clone, Copy, Debug)]
pub enum Misfit {
    /// By this number of ms after each pause.
    Constant(f64),
    /// By a random number of ms, up to this one, forward or back.
    Random(f64),
    /// By this share of the pause.
    OfPause(f64),
}

impl Misfit {
    fn random(random: &mut Rng) -> Self {
        match random.u8(0..3) {
            0 => Self::Constant(*random.choice(&[-40.0, -20.0, -10.0, 5.0, 10.0, 20.0, 40.0]).unwrap()),
            1 => Self::Random(*random.choice(&[10.0, 30.0, 100.0]).unwrap()),
            _ => Self::OfPause(*random.choice(&[-0.1, 0.1]).unwrap()),
        }
    }

    fn of(self, pause_ms: f64, random: &mut Rng) -> f64 {
        match self {
            Self::Constant(ms) => ms,
            Self::Random(most) => (random.f64() * 2.0 - 1.0) * most,
            Self::OfPause(share) => pause_ms * share,
        }
    }
}

/// Makes pauses of 0.1 to 1.2 s between talk spurts of 0.5 to 2.5 s.
pub fn pause(packets: &mut [FieldPacket], voice: &CodedVoice, misfit: Misfit, random: &mut Rng) {
    let mut at = 0;
    loop {
        at += random.u32(500..2_500).div_ceil(voice.packet_ms) as usize;
        let Some(rest) = packets.get_mut(at..).filter(|rest| rest.len() > 10) else { return };
        let pause_ms = f64::from(random.u32(100..1_200));
        let ticks = ((pause_ms + misfit.of(pause_ms, random)) * f64::from(voice.clock_hz) / 1_000.0).round() as i64;
        for packet in rest {
            packet.at_ms += pause_ms;
            packet.spoken_ms += pause_ms;
            packet.time = packet.time.wrapping_add(ticks as u32);
        }
    }
}

#[test]
fn talk_spurts_whose_timestamps_misfit_the_pause_stay_whole() {
    let mut wrong = Vec::new();
    for seed in seeds(16) {
        let mut random = Rng::with_seed(23_000 + seed);
        let voice = CodedVoice::random(&mut random, &["pcmu", "pcma", "g722", "gsm", "g729"]);
        let misfit = Misfit::random(&mut random);
        let mut call = FieldCall::of(&voice);
        let mut ends_ms = 0.0_f64;
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let mut packets = voice.packets(1_050.0, 10, start, &mut random);
            pause(&mut packets, &voice, misfit, &mut random);
            ends_ms = ends_ms.max(packets.last().unwrap().at_ms + 200.0);
            call.send(side, &packets);
        }
        wrong.extend(call.faults(&format!("seed {seed}, {}, {misfit:?}", voice.rtpmap), ends_ms, &[]));
    }
    assert_none(&wrong);
}
