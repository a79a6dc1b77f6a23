//! Tests of session descriptions that give a payload type another meaning than its sender does.

use callspan::call::record::{EventKind, ProblemKind, Side};
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, seeds, with_pt};
use super::setting::CallSetting;
use crate::support::phones::{describe, mulaw, record};

const EVENTS: &str = "telephone-event/8000";

/// Fixtures with payloads that show their own format.
const TELLING: [&str; 9] = ["opus", "amr", "amrwb", "speex", "speex_wb", "ilbc_20", "ilbc_30", "g726_32", "gsm"];

/// Returns two of these voices that have different formats.
fn two_voices(random: &mut Rng) -> [CodedVoice; 2] {
    let one = CodedVoice::fixture(random.choice(TELLING).unwrap());
    loop {
        let other = CodedVoice::fixture(random.choice(TELLING).unwrap());
        if other.rtpmap != one.rtpmap {
            return [one, other];
        }
    }
}

/// Returns an audio m-line with two payload types and their formats.
fn two(first: (u8, &str), second: (u8, &str)) -> String {
    let (one, other) = (first.0, second.0);
    format!("RTP/AVP {one} {other}\r\na=rtpmap:{one} {}\r\na=rtpmap:{other} {}\r\n", first.1, second.1)
}

/// How the payload types in the packets differ from those that the receiver announced.
#[derive(Clone, Copy, Debug)]
enum NumberQuirk {
    /// Both sides announce two codecs under swapped payload types. Each side sends according to its own session
    /// description.
    SwappedCodecs,
    /// Both sides announce a codec and telephone-events under swapped payload types. Each side sends according to its
    /// own session description.
    SwappedEvents,
    /// As with `SwappedEvents`, but one side sends according to the other side's session description.
    SwappedEventsOfOneSide,
    /// The audio of a side has the payload type of the telephone-events.
    AudioAsEvents,
}

#[test]
fn each_side_that_sends_by_its_own_description_is_heard() {
    let mut wrong = Vec::new();
    // These seeds are always played. In seed 168, Speex has the length of iLBC frames; in 173 and 238, of two GSM frames.
    for seed in seeds(16).chain([168, 173, 238]) {
        let mut random = Rng::with_seed(seed);
        let [voice, other] = two_voices(&mut random);
        let pt = random.u8(96..126);
        let quirk = *random
            .choice(&[
                NumberQuirk::SwappedCodecs,
                NumberQuirk::SwappedCodecs,
                NumberQuirk::SwappedEvents,
                NumberQuirk::SwappedEventsOfOneSide,
                NumberQuirk::AudioAsEvents,
            ])
            .unwrap();
        let second = if matches!(quirk, NumberQuirk::SwappedCodecs) { other.rtpmap } else { EVENTS };
        let straight = two((pt, voice.rtpmap), (pt + 1, second));
        let swapped = two((pt + 1, voice.rtpmap), (pt, second));
        let is_swapped = !matches!(quirk, NumberQuirk::AudioAsEvents);
        let lines = [&straight, if is_swapped { &swapped } else { &straight }];
        let pts = match quirk {
            NumberQuirk::SwappedCodecs | NumberQuirk::SwappedEvents => [pt, pt + 1],
            NumberQuirk::SwappedEventsOfOneSide => [pt + random.u8(0..2); 2],
            NumberQuirk::AudioAsEvents if random.bool() => [pt, pt + 1],
            NumberQuirk::AudioAsEvents => [pt + 1, pt],
        };
        let setting = CallSetting::random(&mut random);
        let mut call = FieldCall::answered(lines[0], lines[1]).within(setting);
        call.send(Side::Caller, &with_pt(voice.packets(1_050.0, 4, 0, &mut random), pts[0]));
        call.send(Side::Callee, &with_pt(voice.packets(1_060.0, 4, 20, &mut random), pts[1]));
        let name = format!("seed {seed}: {quirk:?} of {} and {second}, {setting:?}", voice.rtpmap);
        wrong.extend(call.faults(&name, 5_200.0, &[ProblemKind::PayloadTypeMismatch]));
    }
    assert_none(&wrong);
}

/// Two frames of G.729 are as long as a frame of Speex at 8 kbit/s, or of AMR at 7.4 kbit/s.
#[test]
fn speech_as_long_as_g729_is_heard_under_its_payload_type() {
    let mut wrong = Vec::new();
    for (seed, name) in [(1, "speex"), (2, "amr")] {
        let mut random = Rng::with_seed(seed);
        let voice = CodedVoice::fixture(name);
        let first = voice.payloads.iter().position(|payload| payload.len() == 20).expect("a payload of this length");
        let lines = [two((96, voice.rtpmap), (97, "G729/8000")), two((97, voice.rtpmap), (96, "G729/8000"))];
        let mut call = FieldCall::answered(&lines[0], &lines[1]);
        call.send(Side::Caller, &with_pt(voice.packets(1_050.0, 4, first, &mut random), 96));
        call.send(Side::Callee, &with_pt(voice.packets(1_060.0, 4, first, &mut random), 97));
        wrong.extend(call.faults(name, 5_200.0, &[ProblemKind::PayloadTypeMismatch]));
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
        // A pressed key instead of audio: ten packets, of which three repeat the end (RFC 4733 section 2.5.1).
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
fn offer_that_reuses_a_payload_type_applies_with_its_answer_only() {
    let mut wrong = Vec::new();
    let outcomes = ["pending", "488 Not Acceptable Here", "491 Request Pending", "answered"];
    for seed in seeds(12) {
        let mut random = Rng::with_seed(seed);
        let [old, new] = two_voices(&mut random);
        let pt = random.u8(96..128);
        let line = |voice: &CodedVoice| format!("RTP/AVP {pt}\r\n{}", voice.lines(pt, ""));
        let outcome = outcomes[seed as usize % outcomes.len()];
        let (asked_ms, waits_ms) = (1_500.0 + random.f64() * 1_500.0, random.f64() * 1_500.0);
        let setting = CallSetting::before_answer(&mut random);
        let mut call = FieldCall::answered(&line(&old), &line(&old)).within(setting);
        let by = if random.bool() { Side::Caller } else { Side::Callee };
        call.wire.offer_of(by, asked_ms, &describe(by, &line(&new)));
        let answered_ms = asked_ms + waits_ms;
        match outcome {
            "pending" => {}
            "answered" => call.wire.accept(answered_ms, &describe(by.other(), &line(&new))),
            status => call.wire.refuse(answered_ms, status),
        }
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let mut packets = with_pt(old.packets(1_050.0, 4, start, &mut random), pt);
            if outcome == "answered" {
                packets.retain(|packet| packet.at_ms < answered_ms);
                let last = packets.last().unwrap();
                let first_ms = last.at_ms + f64::from(old.packet_ms);
                let mut rest = with_pt(new.packets(first_ms, 2, start, &mut random), pt);
                for (n, packet) in rest.iter_mut().enumerate() {
                    (packet.ssrc, packet.sequence) = (last.ssrc, last.sequence.wrapping_add(1 + n as u16));
                }
                packets.extend(rest);
            }
            call.send(side, &packets);
        }
        let name = format!(
            "seed {seed}: {} to {}, asked at {asked_ms:.0} by {by:?}, {outcome} after {waits_ms:.0} ms, {setting:?}",
            old.rtpmap, new.rtpmap
        );
        wrong.extend(call.faults(&name, 5_200.0, &[]));
    }
    assert_none(&wrong);
}

/// How the timestamps continue when a sender changes its codec without a new SSRC (RFC 7160 section 4).
#[derive(Clone, Copy, Debug)]
enum StampsAtChange {
    /// The timestamps count on from the last timestamp, now with the clock of the new codec.
    Continue,
    /// The timestamps begin at a random value.
    Anywhere,
    /// The time since the first packet is counted with the clock of the other codec.
    Converted,
    /// The other codec has an SSRC, sequence numbers and timestamps of its own.
    OtherSource,
}

/// Returns the packets of a sender that changes between two voices, each under its payload type.
fn changing(
    voices: &[(CodedVoice, u8); 2],
    stamps: StampsAtChange,
    from_ms: f64,
    random: &mut Rng,
) -> Vec<FieldPacket> {
    let (mut out, mut at_ms): (Vec<FieldPacket>, f64) = (Vec::new(), from_ms);
    for n in 0..random.usize(2..5) {
        let (voice, pt) = &voices[n % 2];
        let mut piece = with_pt(voice.packets(at_ms, 4, 0, random), *pt);
        piece.truncate((random.usize(600..2_000)) / voice.packet_ms as usize);
        at_ms += piece.len() as f64 * f64::from(voice.packet_ms);
        if let Some(last) = out.last().filter(|_| !matches!(stamps, StampsAtChange::OtherSource)) {
            let before = &voices[1 - n % 2].0;
            let (ssrc, sequence) = (last.ssrc, last.sequence.wrapping_add(1));
            let first_time = match stamps {
                StampsAtChange::Continue => last.time.wrapping_add(before.packet_ms * (before.clock_hz / 1_000)),
                StampsAtChange::Converted => {
                    let ticks = (piece[0].spoken_ms - from_ms).round() as u32 * (voice.clock_hz / 1_000);
                    out[0].time.wrapping_add(ticks)
                }
                _ => piece[0].time,
            };
            let earlier = piece[0].time;
            for (k, packet) in (0_u16..).zip(&mut piece) {
                (packet.ssrc, packet.sequence) = (ssrc, sequence.wrapping_add(k));
                packet.time = packet.time.wrapping_sub(earlier).wrapping_add(first_time);
            }
        }
        out.extend(piece);
    }
    out
}

#[test]
fn sender_that_changes_between_announced_codecs_is_heard() {
    let mut wrong = Vec::new();
    let names = ["pcmu", "pcma", "opus", "amr", "amrwb", "g722", "gsm", "ilbc_30", "speex_wb", "g729", "g726_32"];
    let stamps =
        [StampsAtChange::Continue, StampsAtChange::Anywhere, StampsAtChange::Converted, StampsAtChange::OtherSource];
    for seed in seeds(12) {
        let mut random = Rng::with_seed(16_000 + seed);
        let one = random.usize(0..names.len());
        let other = (one + random.usize(1..names.len())) % names.len();
        let voices = [(CodedVoice::fixture(names[one]), 96), (CodedVoice::fixture(names[other]), 97)];
        let stamps = *random.choice(&stamps).unwrap();
        let line = format!("RTP/AVP 96 97\r\n{}{}", voices[0].0.lines(96, ""), voices[1].0.lines(97, ""));
        let network = CallSetting::before_answer(&mut random).network;
        let setting = CallSetting { network, ..CallSetting::default() };
        let mut call = FieldCall::answered(&line, &line).within(setting);
        for (side, from_ms) in [(Side::Caller, 1_050.0), (Side::Callee, 1_065.0)] {
            call.send(side, &changing(&voices, stamps, from_ms, &mut random));
        }
        let name = format!("seed {seed}: {} and {}, {stamps:?}, {setting:?}", names[one], names[other]);
        wrong.extend(call.faults(&name, 9_300.0, &[]));
    }
    assert_none(&wrong);
}

/// Returns a session description with T.38 fax instead of audio.
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
        // The fax machine that answers sends 2100 Hz for 2.6 s. The calling fax machine is silent.
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

#[test]
fn sender_that_keeps_a_payload_type_after_a_renumbering_is_heard() {
    let mut wrong = Vec::new();
    for seed in seeds(8) {
        let mut random = Rng::with_seed(49_000 + seed);
        let voice = CodedVoice::fixture(random.choice(["opus", "amr", "speex_wb", "g722", "ilbc_30"]).unwrap());
        let line = |pt: u8| format!("RTP/AVP {pt}\r\n{}", voice.lines(pt, ""));
        let keeps = *random.choice(&[Side::Caller, Side::Callee]).unwrap();
        let changed_ms = 2_000.0 + 1_500.0 * random.f64();
        let mut call = FieldCall::answered(&line(96), &line(96));
        let by = *random.choice(&[Side::Caller, Side::Callee]).unwrap();
        call.wire.offer_of(by, changed_ms - 40.0, &describe(by, &line(97)));
        call.wire.accept(changed_ms - 10.0, &describe(by.other(), &line(97)));
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let mut packets = voice.packets(1_050.0, 5, start, &mut random);
            let renumbered = packets.iter_mut().filter(|packet| side != keeps && packet.at_ms >= changed_ms);
            renumbered.for_each(|packet| packet.pt = 97);
            call.send(side, &packets);
        }
        let name = format!("seed {seed}: {}, {keeps:?} keeps 96, {by:?} offers at {changed_ms:.0} ms", voice.rtpmap);
        wrong.extend(call.faults(&name, 6_200.0, &[ProblemKind::PayloadTypeMismatch]));
    }
    assert_none(&wrong);
}

#[test]
fn packets_under_way_during_a_renumbering_are_no_mismatch() {
    let (voice, mut random) = (CodedVoice::fixture("opus"), Rng::with_seed(7));
    let line = |pt: u8| format!("RTP/AVP {pt}\r\n{}", voice.lines(pt, ""));
    let mut call = FieldCall::answered(&line(96), &line(96));
    call.wire.offer_of(Side::Caller, 2_960.0, &describe(Side::Caller, &line(97)));
    call.wire.accept(2_990.0, &describe(Side::Callee, &line(97)));
    for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
        let mut packets = voice.packets(1_050.0, 5, start, &mut random);
        packets.iter_mut().filter(|packet| packet.at_ms >= 3_500.0).for_each(|packet| packet.pt = 97);
        call.send(side, &packets);
    }
    let (record, scores) = call.scores(6_200.0);
    assert_eq!((&record.problems[..], scores.map(|score| score.faults())), (&[][..], [vec![], vec![]]));
}
