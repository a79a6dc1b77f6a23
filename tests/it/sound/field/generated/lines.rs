//! Tests of session descriptions with several audio m-lines.

use callspan::call::record::{ProblemKind, Side};
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, assert_none, seeds, with_pt};
use super::setting::CallSetting;
use crate::support::phones::describe;

const VOICES: [&str; 7] = ["pcmu", "pcma", "gsm", "g722", "ilbc_20", "opus", "speex"];

/// Returns the audio m-lines of a session description on the ports 4000, 4002, and so on. Each has the codec of one
/// voice.
fn described(voices: &[(CodedVoice, u8)]) -> String {
    let line = |(n, (voice, pt)): (usize, &(CodedVoice, u8))| {
        let head = if n == 0 { String::new() } else { format!("m=audio {} ", 4_000 + 2 * n) };
        format!("{head}RTP/AVP {pt}\r\n{}", voice.lines(*pt, ""))
    };
    voices.iter().enumerate().map(line).collect()
}

#[test]
fn several_audio_lines_of_one_side_are_all_heard() {
    let mut wrong = Vec::new();
    for seed in seeds(12) {
        let mut random = Rng::with_seed(seed);
        // Either each m-line has a payload type of its own, or the same payload type has another codec on each m-line.
        let step = random.u8(0..2);
        let count = *random.choice(&[2, 2, 3, 4]).unwrap();
        let voice =
            |line: u8, random: &mut Rng| (CodedVoice::fixture(random.choice(VOICES).unwrap()), 96 + line * step);
        let voices: Vec<(CodedVoice, u8)> = (0..count).map(|line| voice(line, &mut random)).collect();
        let (lines, setting) = (described(&voices), CallSetting::random(&mut random));
        let mut call = FieldCall::answered(&lines, &lines).within(setting);
        let sides = *random.choice(&[&[Side::Caller][..], &[Side::Callee], &[Side::Caller, Side::Callee]]).unwrap();
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            for (n, (voice, pt)) in voices.iter().enumerate() {
                // On the second and further m-lines, the voice begins later, and maybe overlaps the first.
                let (from_ms, seconds) =
                    if n == 0 { (1_050.0, 4) } else { (1_060.0 + 2_000.0 * random.f64(), random.u32(1..3)) };
                if n == 0 || sides.contains(&side) {
                    let packets = with_pt(voice.packets(from_ms, seconds, (31 * n).abs_diff(start), &mut random), *pt);
                    call.send_on(4_000 + 2 * n as u16, side, &packets);
                }
            }
        }
        let names: Vec<_> = voices.iter().map(|(voice, pt)| (voice.rtpmap, pt)).collect();
        let name = format!("seed {seed}: {names:?}, {sides:?}, {setting:?}");
        wrong.extend(call.faults(&name, 5_200.0, &[ProblemKind::SecondAudioLine]));
    }
    assert_none(&wrong);
}

#[test]
fn payload_type_of_a_refused_line_means_the_accepted_format() {
    let mut wrong = Vec::new();
    for seed in seeds(4) {
        let mut random = Rng::with_seed(seed);
        let [refused, used] = [0, 1].map(|_| (CodedVoice::fixture(random.choice(VOICES).unwrap()), 96));
        let offer = described(&[refused, used.clone()]);
        let answer = format!("RTP/AVP 96\r\nm=audio 4002 RTP/AVP 96\r\n{}", used.0.lines(96, ""));
        let setting = CallSetting::random(&mut random);
        let answer = describe(Side::Callee, &answer).replace("m=audio 4000", "m=audio 0");
        let mut call = FieldCall::described([describe(Side::Caller, &offer), answer]).within(setting);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            call.send_on(4_002, side, &used.0.packets(1_050.0, 4, start, &mut random));
        }
        wrong.extend(call.faults(&format!("seed {seed}: {offer:?}, {setting:?}"), 5_200.0, &[]));
    }
    assert_none(&wrong);
}

#[test]
fn second_audio_line_alone_is_heard() {
    let mut wrong = Vec::new();
    for seed in seeds(3) {
        let mut random = Rng::with_seed(seed);
        let voice = CodedVoice::fixture(random.choice(VOICES).unwrap());
        let lines = format!("RTP/AVP 0\r\nm=audio 4002 RTP/AVP 97\r\n{}", voice.lines(97, ""));
        let setting = CallSetting::random(&mut random);
        let mut call = FieldCall::answered(&lines, &lines).within(setting);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            call.send_on(4_002, side, &with_pt(voice.packets(1_050.0, 4, start, &mut random), 97));
        }
        wrong.extend(call.faults(&format!("seed {seed}: {}, {setting:?}", voice.rtpmap), 5_200.0, &[]));
    }
    assert_none(&wrong);
}
