//! Session descriptions with several audio lines.

use callspan::call::record::{ProblemKind, Side};
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, assert_none, seeds, with_pt};

/// Returns a voice and its payload type. The payload types of two audio lines must differ.
fn voice(random: &mut Rng, line: u8) -> (CodedVoice, u8) {
    let name = random.choice(["pcmu", "pcma", "gsm", "g722", "ilbc_20", "opus", "speex"]).unwrap();
    (CodedVoice::fixture(name), 96 + line)
}

#[test]
fn two_audio_lines_of_one_side_are_both_heard() {
    let mut wrong = Vec::new();
    for seed in 0..seeds(8) {
        let mut random = Rng::with_seed(seed);
        let [(one, one_pt), (two, two_pt)] = [0, 1].map(|line| voice(&mut random, line));
        let line = |voice: &CodedVoice, pt: u8| format!("RTP/AVP {pt}\r\n{}", voice.lines(pt, ""));
        let lines = format!("{}m=audio 4002 {}", line(&one, one_pt), line(&two, two_pt));
        let mut call = FieldCall::answered(&lines, &lines);
        let sides = *random.choice(&[&[Side::Caller][..], &[Side::Callee], &[Side::Caller, Side::Callee]]).unwrap();
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            call.send(side, &with_pt(one.packets(1_050.0, 4, start, &mut random), one_pt));
            if sides.contains(&side) {
                // The second line carries sound later, or at once.
                let (from_ms, seconds) = (1_060.0 + 2_000.0 * random.f64(), random.u32(1..3));
                call.send_on(4002, side, &with_pt(two.packets(from_ms, seconds, 31 - start, &mut random), two_pt));
            }
        }
        let name = format!("{} and {}, {sides:?}, seed {seed}", one.rtpmap, two.rtpmap);
        wrong.extend(call.faults(&name, 5_200.0, &[ProblemKind::SecondAudioLine]));
    }
    assert_none(&wrong);
}

#[test]
fn second_audio_line_alone_is_heard() {
    let mut wrong = Vec::new();
    for seed in 0..seeds(2) {
        let mut random = Rng::with_seed(seed);
        let (voice, pt) = voice(&mut random, 1);
        let lines = format!("RTP/AVP 0\r\nm=audio 4002 RTP/AVP {pt}\r\n{}", voice.lines(pt, ""));
        let mut call = FieldCall::answered(&lines, &lines);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            call.send_on(4002, side, &with_pt(voice.packets(1_050.0, 4, start, &mut random), pt));
        }
        wrong.extend(call.faults(&format!("{}, seed {seed}", voice.rtpmap), 5_200.0, &[]));
    }
    assert_none(&wrong);
}
