//! Packets that hold another number of frames than the packets before.

use callspan::call::record::{ProblemKind, Side};
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, joined, leave_out_pauses, seeds};
use super::setting::CallSetting;

/// How the number of frames in a packet changes during a call.
#[derive(Clone, Copy, Debug)]
enum FrameCount {
    /// The packets before number `at` have one frame each. From number `at` on, each packet has `then` frames.
    Changes { at: usize, then: usize },
    /// Each packet has a random number of frames, from 1 to this maximum.
    Varies(usize),
}

impl FrameCount {
    fn random(random: &mut Rng) -> Self {
        match random.bool() {
            true => Self::Changes { at: random.usize(10..150), then: random.usize(2..5) },
            false => Self::Varies(random.usize(2..4)),
        }
    }

    /// Joins packets of one frame.
    fn apply(self, packets: Vec<FieldPacket>, random: &mut Rng) -> Vec<FieldPacket> {
        let (mut number, mut left) = (0, 0);
        joined(packets, |_, _| {
            number += 1;
            if left == 0 {
                left = match self {
                    Self::Changes { at, then } if number >= at => then,
                    Self::Changes { .. } => 1,
                    Self::Varies(most) => random.usize(1..=most),
                };
                left -= 1;
                return false;
            }
            left -= 1;
            true
        })
    }
}

#[test]
fn number_of_frames_in_a_packet_may_change() {
    let mut wrong = Vec::new();
    let names = ["pcmu", "pcma", "g722", "gsm", "g729", "ilbc_20", "ilbc_30", "g726_32", "g726_24"];
    for seed in seeds(10) {
        let mut random = Rng::with_seed(13_000 + seed);
        let voice = CodedVoice::fixture(random.choice(names).unwrap());
        let (count, setting) = (FrameCount::random(&mut random), CallSetting::before_answer(&mut random));
        let mut call = FieldCall::of(&voice).within(setting);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let packets = voice.packets(1_050.0, 4, start, &mut random);
            call.send(side, &count.apply(packets, &mut random));
        }
        let name = format!("seed {seed}: {}, {count:?}, {setting:?}", voice.rtpmap);
        wrong.extend(call.faults(&name, 5_200.0, &[]));
    }
    assert_none(&wrong);
}

#[test]
fn silence_descriptor_of_g729_may_follow_speech_in_a_packet() {
    let mut wrong = Vec::new();
    for seed in seeds(8) {
        let mut random = Rng::with_seed(14_000 + seed);
        let (voice, setting) = (CodedVoice::fixture("g729b"), CallSetting::before_answer(&mut random));
        let (most, has_stray_byte) = (random.usize(1..5), random.bool());
        let mut call = FieldCall::of(&voice).within(setting);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 150)] {
            let mut packets = voice.packets(1_050.0, 4, start, &mut random);
            leave_out_pauses(&mut packets, "g729b");
            // A descriptor is the last frame of its packet (RFC 3551 section 4.5.6).
            let is_speech = |packet: &FieldPacket| packet.payload.len().is_multiple_of(10) && !packet.is_lost;
            let mut packets = joined(packets, |last, next| {
                is_speech(last) && !next.is_lost && last.payload.len() + next.payload.len() <= 10 * most
            });
            if has_stray_byte {
                packets.iter_mut().for_each(|packet| packet.payload.push(random.u8(..)));
            }
            call.send(side, &packets);
        }
        let problems: &[ProblemKind] = if has_stray_byte { &[ProblemKind::TrailingBytes] } else { &[] };
        let name = format!("seed {seed}: {most} frames, stray byte {has_stray_byte}, {setting:?}");
        wrong.extend(call.faults(&name, 5_200.0, problems));
    }
    assert_none(&wrong);
}
