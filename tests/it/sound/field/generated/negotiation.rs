//! Session descriptions that give a payload type another meaning than its sender does.

use callspan::call::record::{EventKind, ProblemKind, Side};
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, with_pt};
use crate::support::phones::{describe, mulaw, record};

const EVENTS: &str = "telephone-event/8000";

/// Returns an audio line with two payload types.
fn two(first: (u8, &str), second: (u8, &str)) -> String {
    let (one, other) = (first.0, second.0);
    format!("RTP/AVP {one} {other}\r\na=rtpmap:{one} {}\r\na=rtpmap:{other} {}\r\n", first.1, second.1)
}

/// Plays a call in which both sides send a voice, each under its own payload type. Returns the faults.
fn faults(name: &str, voice: &CodedVoice, lines: [&str; 2], pts: [u8; 2]) -> Vec<String> {
    let mut random = Rng::with_seed(u64::from(pts[0]));
    let mut call = FieldCall::answered(lines[0], lines[1]);
    call.send(Side::Caller, &with_pt(voice.packets(1_050.0, 4, 0, &mut random), pts[0]));
    call.send(Side::Callee, &with_pt(voice.packets(1_060.0, 4, 20, &mut random), pts[1]));
    call.faults(name, 5_200.0, &[ProblemKind::PayloadTypeMismatch])
}

#[test]
fn each_side_that_sends_by_its_own_description_is_heard() {
    let mut wrong = Vec::new();
    for (one, other) in [
        ("opus", "ilbc_30"),
        ("ilbc_20", "g726_32"),
        ("speex_wb", "opus"),
        ("amr", "amrwb"),
        ("amr", "ilbc_30"),
        ("g726_32", "opus"),
        ("speex", "amrwb"),
    ] {
        let (a, b) = (CodedVoice::fixture(one), CodedVoice::fixture(other));
        let lines = [two((96, a.rtpmap), (97, b.rtpmap)), two((97, a.rtpmap), (96, b.rtpmap))];
        let lines = [&*lines[0], &*lines[1]];
        wrong.extend(faults(&format!("{one} of {one} and {other}"), &a, lines, [96, 97]));
        wrong.extend(faults(&format!("{other} of {one} and {other}"), &b, lines, [97, 96]));
    }
    for name in ["opus", "amr", "ilbc_30", "speex", "g726_32"] {
        let voice = CodedVoice::fixture(name);
        let lines = [two((96, voice.rtpmap), (97, EVENTS)), two((97, voice.rtpmap), (96, EVENTS))];
        wrong.extend(faults(&format!("{name} and events"), &voice, [&lines[0], &lines[1]], [96, 97]));
        // Only one side sends by its own session description.
        wrong.extend(faults(&format!("{name} and events, caller"), &voice, [&lines[0], &lines[1]], [96, 96]));
        // The audio comes under the payload type of the telephone-events.
        let line = two((96, voice.rtpmap), (101, EVENTS));
        wrong.extend(faults(&format!("{name} as event"), &voice, [&line, &line], [101, 96]));
    }
    assert_none(&wrong);
}

#[test]
fn pressed_keys_are_no_audio_under_any_description() {
    let voice = CodedVoice::fixture("opus");
    let mut random = Rng::with_seed(1);
    let line = two((96, voice.rtpmap), (101, EVENTS));
    let mut call = FieldCall::answered(&line, &line);
    for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
        let mut packets = voice.packets(1_050.0, 4, start, &mut random);
        let (first, time) = (packets[100].sequence, packets[100].time);
        // Ten packets of one key, the end three times (RFC 4733 section 2.5.1), in place of audio.
        for n in 0..10_u16 {
            let packet = &mut packets[100 + usize::from(n)];
            let duration = (160 * (n + 1)).to_be_bytes();
            let payload = vec![5, if n >= 7 { 0x8A } else { 10 }, duration[0], duration[1]];
            let (sequence, pt) = (first.wrapping_add(n), 101);
            *packet = FieldPacket { sequence, pt, time, payload, sound: Vec::new(), ..packet.clone() };
        }
        call.send(side, &packets);
    }
    let mut wire = call.wire.clone();
    wire.bye(5_200.0);
    let record = record(wire).record;
    let keys = record.events.iter().filter(|event| event.kind == EventKind::Dtmf).count();
    assert_eq!((keys, record.problems.len()), (2, 0), "{:?}", record.problems);
    assert_none(&call.faults("keys", 5_200.0, &[]));
}

#[test]
fn offer_that_reuses_a_payload_type_is_in_force_with_its_answer_only() {
    let (old, new) = (CodedVoice::fixture("ilbc_20"), CodedVoice::fixture("opus"));
    let line = |voice: &CodedVoice| format!("RTP/AVP 96\r\n{}", voice.lines(96, ""));
    let mut wrong = Vec::new();
    for (seed, outcome) in
        ["pending", "488 Not Acceptable Here", "491 Request Pending", "answered"].into_iter().enumerate()
    {
        let mut random = Rng::with_seed(seed as u64);
        let (asked_ms, waits_ms) = (2_000.0 + random.f64() * 500.0, random.f64() * 900.0);
        let mut call = FieldCall::answered(&line(&old), &line(&old));
        call.wire.offer(asked_ms, &describe(Side::Caller, &line(&new)));
        let answered_ms = asked_ms + waits_ms;
        match outcome {
            "pending" => {}
            "answered" => call.wire.accept(answered_ms, &describe(Side::Callee, &line(&new))),
            status => call.wire.refuse(answered_ms, status),
        }
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let mut packets = old.packets(1_050.0, 4, start, &mut random);
            if outcome == "answered" {
                packets.retain(|packet| packet.at_ms < answered_ms);
                let last = packets.last().unwrap();
                let mut rest = new.packets(last.at_ms + 20.0, 2, start, &mut random);
                for (n, packet) in rest.iter_mut().enumerate() {
                    (packet.ssrc, packet.sequence) = (last.ssrc, last.sequence.wrapping_add(1 + n as u16));
                }
                packets.extend(rest);
            }
            call.send(side, &packets);
        }
        wrong.extend(call.faults(&format!("{outcome} after {waits_ms:.0} ms"), 5_200.0, &[]));
    }
    assert_none(&wrong);
}

/// Returns a session description with T.38 in place of audio.
fn t38(side: Side) -> String {
    let audio = describe(side, "RTP/AVP 0\r\n");
    let session = audio.split("m=audio").next().unwrap();
    format!("{session}m=image 4010 udptl t38\r\na=T38FaxVersion:0\r\n")
}

#[test]
fn fax_is_called_fax_also_without_t38() {
    for (name, word) in [("accepted", "T.38"), ("refused", "refused"), ("tones", "tone")] {
        let mut call = FieldCall::answered("RTP/AVP 0\r\n", "RTP/AVP 0\r\n");
        let (voice, mut random) = (CodedVoice::fixture("pcmu"), Rng::with_seed(3));
        // The fax machine that answers sends 2100 Hz for 2.6 s, the other one is silent.
        let mut packets = with_pt(voice.packets(1_050.0, 4, 0, &mut random), 0);
        for (n, packet) in packets.iter_mut().enumerate() {
            let sample = |k: usize| (f64::from((n * 160 + k) as u32) * 2_100.0 / 8_000.0 * std::f64::consts::TAU).sin();
            let level = if (20..150).contains(&n) && name != "accepted" { 6_000.0 } else { 0.0 };
            packet.payload = (0..160).map(|k| mulaw((level * sample(k)) as i16)).collect();
        }
        call.send_unheard(Side::Callee, &packets);
        if name != "tones" {
            call.send_unheard(Side::Caller, &packets);
            call.wire.offer(3_000.0, &t38(Side::Caller));
        }
        match name {
            "accepted" => call.wire.accept(3_100.0, &t38(Side::Callee)),
            "refused" => call.wire.refuse(3_100.0, "488 Not Acceptable Here"),
            _ => {}
        }
        call.wire.bye(5_200.0);
        let record = record(call.wire).record;
        let reason = record.verdict_reason.unwrap_or_default();
        assert!(reason.contains("fax") && reason.contains(word), "{name}: {reason}");
        assert!(!reason.contains("one-way"), "{name}: {reason}");
        assert_eq!(record.events.iter().any(|event| event.kind == EventKind::Fax), name != "tones", "{name}");
    }
}
