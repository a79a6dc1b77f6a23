//! Tests of forked calls in which several telephones send at once before and after the answer.

use callspan::call::record::Side;
use callspan::net::Endpoint;
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, leave_out_pauses, seeds, with_pt};
use super::setting::CallSetting;
use crate::support::phones::{describe, media};

/// Fixtures of the voices. Those with pauses fill them with comfort noise.
const VOICES: [&str; 10] = ["pcmu", "pcma", "opus", "amr", "amr_dtx", "g729b", "g722", "gsm", "speex_wb", "ilbc_30"];

/// Payload types of the caller, the branch that answers, and the other branch.
const PTS: [u8; 3] = [96, 97, 98];

/// Returns where the branch that does not answer sends from: another host, or another port of the same host.
fn other_branch(random: &mut Rng) -> Endpoint {
    let host = if random.bool() { 3 } else { 2 };
    Endpoint::v4([10, 0, 0, host], 4_100)
}

/// Returns the session description of a branch with its media address.
fn described(line: &str, at: Endpoint) -> String {
    let audio = describe(Side::Callee, line);
    audio.replace("10.0.0.2", &at.ip().to_string()).replace("m=audio 4000", &format!("m=audio {}", at.port()))
}

/// Returns four seconds of a voice, without its pauses.
fn spoken(name: &str, voice: &CodedVoice, from_ms: f64, pt: u8, random: &mut Rng) -> Vec<FieldPacket> {
    let start = random.usize(0..voice.payloads.len());
    let mut packets = with_pt(voice.packets(from_ms, 4, start, random), pt);
    if name == "amr_dtx" || name == "g729b" {
        leave_out_pauses(&mut packets, name);
    }
    packets
}

#[test]
fn only_the_branch_that_answers_is_heard_after_the_answer() {
    let mut wrong = Vec::new();
    for seed in seeds(16) {
        let mut random = Rng::with_seed(31_000 + seed);
        let names = [(); 3].map(|()| *random.choice(&VOICES).unwrap());
        let voices = names.map(CodedVoice::fixture);
        let lines: String = voices
            .iter()
            .zip(names)
            .zip(PTS)
            .map(|((voice, name), pt)| voice.lines(pt, if name == "amr_dtx" { "octet-align=1" } else { "" }))
            .collect();
        let line = format!("RTP/AVP 96 97 98\r\n{lines}");
        let (other, answers_newest) = (other_branch(&mut random), random.bool());
        let answer = described(&line, media(Side::Callee));
        let mut call = FieldCall::described([describe(Side::Caller, &line), answer.clone()]);
        let network = CallSetting::before_answer(&mut random).network;
        call = call.within(CallSetting { network, ..CallSetting::default() });
        let mut dialogs = [("c", described(&line, other)), ("b", answer)];
        if !answers_newest {
            dialogs.reverse();
        }
        for (ms, (tag, description)) in [200.0, 350.0].into_iter().zip(&dialogs) {
            call.wire.provisional(ms, tag, description);
        }
        let [from_ms, other_ms] = [(); 2].map(|()| 400.0 + 500.0 * random.f64());
        call.send(Side::Caller, &spoken(names[0], &voices[0], 1_050.0, PTS[0], &mut random));
        call.send(Side::Callee, &spoken(names[1], &voices[1], from_ms, PTS[1], &mut random));
        let goes_on_ms: f64 = *random.choice(&[0.0, 60.0, 200.0, 1_000.0, 3_000.0]).unwrap();
        // The other branch is heard in the pauses of the branch that answers.
        let goes_on_ms = if names[1] == "amr_dtx" || names[1] == "g729b" { goes_on_ms.min(60.0) } else { goes_on_ms };
        let mut packets = spoken(names[2], &voices[2], other_ms, PTS[2], &mut random);
        packets.retain(|packet| packet.at_ms < 1_000.0 + goes_on_ms);
        let first = call.wire.packets.len();
        call.send_unheard(Side::Callee, &packets);
        call.wire.packets[first..].iter_mut().for_each(|packet| packet.src = other);
        let name = format!(
            "seed {seed}: {names:?}, newest answers {answers_newest}, from {from_ms:.0} ms, other at {other} from \
             {other_ms:.0} ms, goes on for {goes_on_ms} ms, {network:?}"
        );
        wrong.extend(call.faults(&name, 4_300.0, &[]));
    }
    assert_none(&wrong);
}

#[test]
fn quiet_branch_that_answered_is_not_replaced_by_another_branch() {
    let mut wrong = Vec::new();
    for seed in seeds(6) {
        let mut random = Rng::with_seed(32_000 + seed);
        let voice = CodedVoice::fixture("pcmu");
        let line = format!("RTP/AVP 96\r\n{}", voice.lines(96, ""));
        let (other, answer) = (other_branch(&mut random), described(&line, media(Side::Callee)));
        let mut call = FieldCall::described([describe(Side::Caller, &line), answer.clone()]);
        call.wire.provisional(200.0, "c", &described(&line, other));
        call.wire.provisional(350.0, "b", &answer);
        call.send(Side::Caller, &voice.packets(1_050.0, 4, 0, &mut random));
        // The callee listens for two seconds: its microphone hears nothing but noise of magnitude 8 to 24.
        let mut packets = voice.packets(1_030.0, 4, 20, &mut random);
        for packet in packets.iter_mut().take(100) {
            packet.payload.iter_mut().for_each(|byte| *byte = random.u8(0xFC..=0xFE));
            packet.sound.fill(0);
        }
        call.send(Side::Callee, &packets);
        let mut packets = voice.packets(420.0, 3, 40, &mut random);
        packets.iter_mut().for_each(|packet| packet.payload.rotate_left(1));
        let first = call.wire.packets.len();
        call.send_unheard(Side::Callee, &packets);
        call.wire.packets[first..].iter_mut().for_each(|packet| packet.src = other);
        wrong.extend(call.faults(&format!("seed {seed}: other at {other}"), 5_200.0, &[]));
    }
    assert_none(&wrong);
}
