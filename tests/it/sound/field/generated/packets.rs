//! Packets that are sent at other times or in another form than usual.

use callspan::call::record::{ProblemKind, Side};
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, seeds, with_pt};

/// Plays a voice on both sides; `change` changes the packets of each side. Returns the faults.
fn faults(
    name: &str,
    voice: &CodedVoice,
    random: &mut Rng,
    problems: &[ProblemKind],
    change: impl Fn(Side, &mut Vec<FieldPacket>),
) -> Vec<String> {
    let mut call = FieldCall::of(voice);
    for (side, from_ms, start) in [(Side::Caller, 1_050.0, 0), (Side::Callee, 1_065.0, 20)] {
        let mut packets = voice.packets(from_ms, 4, start, random);
        change(side, &mut packets);
        call.send(side, &packets);
    }
    call.faults(name, 5_200.0, problems)
}

#[test]
fn packets_that_leave_several_at_a_time_stay_in_place() {
    let mut wrong = Vec::new();
    let names = ["opus", "amrwb", "amr", "speex_wb", "speex", "g722", "ilbc_20", "ilbc_30", "g729", "gsm", "g726_32"];
    for (seed, name) in names.into_iter().enumerate() {
        let (voice, mut random) = (CodedVoice::fixture(name), Rng::with_seed(seed as u64));
        let (at_once, until) = (random.usize(2..5), *random.choice(&[40, 100, usize::MAX]).unwrap());
        let jitter_ms = random.f64() * 2.0;
        wrong.extend(faults(name, &voice, &mut random, &[], |_, packets| {
            let first_ms = packets[0].at_ms;
            for (n, packet) in packets.iter_mut().enumerate().take(until) {
                let last = n / at_once * at_once + at_once - 1;
                packet.at_ms = first_ms + (last as u32 * voice.packet_ms) as f64 + (n % 3) as f64 * jitter_ms / 2.0;
            }
        }));
    }
    assert_none(&wrong);
}

#[test]
fn padding_of_any_length_is_not_sound() {
    let mut wrong = Vec::new();
    for (seed, name) in ["pcmu", "opus", "amr", "ilbc_30", "g729", "gsm", "g722", "g726_32"].into_iter().enumerate() {
        let (voice, mut random) = (CodedVoice::fixture(name), Rng::with_seed(100 + seed as u64));
        let (kind, constant) = (random.u8(0..3), random.u8(1..61));
        wrong.extend(faults(&format!("{name}, padding {kind}"), &voice, &mut random, &[], |_, packets| {
            for (n, packet) in packets.iter_mut().enumerate() {
                packet.padding = match kind {
                    0 => constant,
                    1 => 250 - packet.payload.len() as u8,
                    _ => 1 + (n * 37 % 60) as u8,
                };
            }
        }));
    }
    assert_none(&wrong);
}

#[test]
fn packets_of_padding_alone_are_not_lost_sound() {
    let mut wrong = Vec::new();
    for (seed, name) in ["pcmu", "opus", "amr"].into_iter().enumerate() {
        let (voice, mut random) = (CodedVoice::fixture(name), Rng::with_seed(150 + seed as u64));
        wrong.extend(faults(name, &voice, &mut random, &[], |_, packets| {
            let probe = |packet: &FieldPacket| FieldPacket {
                at_ms: packet.at_ms + 1.0,
                payload: Vec::new(),
                padding: 255,
                sound: Vec::new(),
                ..packet.clone()
            };
            let with_probe = |(n, packet): (usize, &FieldPacket)| {
                if n % 5 == 4 { vec![packet.clone(), probe(packet)] } else { vec![packet.clone()] }
            };
            *packets = packets.iter().enumerate().flat_map(with_probe).collect();
            let first = packets[0].sequence;
            for (n, packet) in packets.iter_mut().enumerate() {
                packet.sequence = first.wrapping_add(n as u16);
            }
        }));
    }
    assert_none(&wrong);
}

#[test]
fn leaping_or_useless_stamps_move_nothing() {
    let mut wrong = Vec::new();
    for (seed, name) in ["pcmu", "opus", "g729", "amr", "gsm", "ilbc_30", "g722"].into_iter().enumerate() {
        let (voice, mut random) = (CodedVoice::fixture(name), Rng::with_seed(200 + seed as u64));
        let (each, ms) = *random.choice(&[(50, 20), (25, 10), (50, -20), (100, 40), (10, 5), (5, 20)]).unwrap();
        let ticks = ms * i64::from(voice.clock_hz) / 1_000;
        let side = if random.bool() { Side::Caller } else { Side::Callee };
        wrong.extend(faults(&format!("{name}, {ms} ms each {each}"), &voice, &mut random, &[], |of, packets| {
            for (n, packet) in packets.iter_mut().enumerate().filter(|_| of == side) {
                packet.time = packet.time.wrapping_add((n as i64 / each * ticks) as u32);
            }
        }));
        wrong.extend(faults(&format!("{name}, constant"), &voice, &mut random, &[], |of, packets| {
            packets.iter_mut().filter(|_| of == side).for_each(|packet| packet.time = 12_345);
        }));
    }
    assert_none(&wrong);
}

#[test]
fn payload_types_64_to_95_are_audio_with_and_without_the_marker() {
    let mut wrong = Vec::new();
    for seed in 0..seeds(12) {
        let mut random = Rng::with_seed(300 + seed);
        let pt = *random.choice(&[64, 71, 72, 73, 76, 77, 78, 80, 85, 93, 95]).unwrap();
        let voice = CodedVoice::fixture(random.choice(["pcmu", "opus", "g729", "gsm", "speex_wb"]).unwrap());
        let line = format!("RTP/AVP {pt}\r\n{}", voice.lines(pt, ""));
        let mut call = FieldCall::answered(&line, &line);
        let (spurt, kind) = (*random.choice(&[1, 1, 2, 7, 120]).unwrap(), random.usize(0..7));
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let mut packets = with_pt(voice.packets(1_050.0, 4, start, &mut random), pt);
            // The first bytes of a talk spurt's first packet are also valid RTCP. A small sequence number looks like
            // the length of an RTCP packet.
            let first = *random.choice(&[1, 65_500, packets[0].sequence]).unwrap();
            for (n, packet) in packets.iter_mut().enumerate() {
                packet.marker = n % spurt == 0;
                packet.sequence = first.wrapping_add(n as u16);
            }
            call.send(side, &packets);
            let other_ssrc = random.u32(..);
            for n in 0..8 {
                let report = rtcp((kind + n) % 7, packets[0].ssrc, other_ssrc, &mut random);
                call.send_raw(side, 1_061.0 + 480.0 * n as f64, report);
            }
        }
        let name = format!("{pt}, {}, marker each {spurt}, RTCP {kind}, seed {seed}", voice.rtpmap);
        let (record, scores) = call.clone().scores(5_200.0);
        for side in [&record.sides.caller, &record.sides.callee] {
            let figures = (side.streams.len(), side.lost, side.duplicates);
            wrong.extend((figures != (1, 0, 0)).then(|| format!("{name}: streams, lost, duplicates {figures:?}")));
        }
        let missing = scores.iter().map(|score| score.base.missing_ms).max().unwrap();
        wrong.extend((missing > 60).then(|| format!("{name}: {missing} ms missing")));
        wrong.extend(call.faults(&name, 5_200.0, &[]));
    }
    assert_none(&wrong);
}

/// Returns an RTCP datagram: compound, reduced-size (RFC 5506), or SRTCP (RFC 3711).
fn rtcp(kind: usize, own: u32, other: u32, random: &mut Rng) -> Vec<u8> {
    let packet = |head: u8, kind: u8, body: &[u8]| {
        let words = (body.len() / 4) as u16 + 1;
        let mut out = vec![head, kind];
        out.extend(words.to_be_bytes());
        out.extend(own.to_be_bytes());
        out.extend(body);
        out
    };
    let mut bytes = |count: usize| std::iter::repeat_with(|| random.u8(..)).take(count).collect::<Vec<u8>>();
    let block = [&other.to_be_bytes()[..], &bytes(20)].concat();
    let sender_report = packet(0x81, 200, &[bytes(20), block.clone()].concat());
    let receiver_report = packet(0x81, 201, &block);
    let description = packet(0x81, 202, b"\x01\x06a@b.cd\0\0\0\0");
    match kind {
        0 => [sender_report, description].concat(),
        1 => [receiver_report, description, packet(0x81, 203, &[])].concat(),
        2 => packet(0x81, 206, &other.to_be_bytes()),
        3 => [packet(0x80, 201, &[]), packet(0x80, 207, &[&[4, 0, 0, 2][..], &bytes(8)].concat())].concat(),
        4 => packet(0x80, 204, &[&b"TEST"[..], &bytes(8)].concat()),
        5 => packet(0x8F, 205, &[&other.to_be_bytes()[..], &bytes(8)].concat()),
        _ => receiver_report,
    }
}

#[test]
fn silence_of_a_second_stream_does_not_cover_the_voice() {
    let mut wrong = Vec::new();
    let silences = [vec![0xFF; 160], vec![0x7F; 160], [0xFF, 0xFE].repeat(80)];
    for (seed, silence) in silences.into_iter().enumerate() {
        let mut random = Rng::with_seed(400 + seed as u64);
        let voice = CodedVoice::fixture("pcmu");
        let line = "RTP/AVP 0\r\n";
        let mut call = FieldCall::answered(line, line);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            call.send(side, &with_pt(voice.packets(1_050.0, 4, start, &mut random), 0));
        }
        let (side, late_ms) = (if random.bool() { Side::Caller } else { Side::Callee }, random.f64() * 1_500.0);
        let mut still = with_pt(voice.packets(1_052.0 + late_ms, 2, 0, &mut random), 0);
        still.iter_mut().for_each(|packet| packet.payload.clone_from(&silence));
        call.send_unheard(side, &still);
        wrong.extend(call.faults(&format!("{:x?}", &silence[..2]), 5_200.0, &[]));
    }
    assert_none(&wrong);
}

#[test]
fn new_ssrc_for_each_prompt_and_video_on_the_same_port_lose_nothing() {
    let mut wrong = Vec::new();
    for (seed, (name, each)) in [("pcmu", 1), ("pcmu", 4), ("opus", 500)].into_iter().enumerate() {
        let (voice, mut random) = (CodedVoice::fixture(name), Rng::with_seed(500 + seed as u64));
        let mut call = FieldCall::of(&voice);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let mut packets = voice.packets(1_050.0, 4, start, &mut random);
            for (n, packet) in packets.iter_mut().enumerate() {
                packet.ssrc = (n as u32 / each).wrapping_mul(0x9E37_79B1) ^ side.channel() as u32;
            }
            call.send(side, &packets);
            // Fragments of a picture have one timestamp; half of them are lost.
            let mut video = with_pt(voice.packets(1_051.0, 4, 0, &mut random), 97);
            for (n, packet) in video.iter_mut().enumerate() {
                (packet.sequence, packet.time) = (n as u16 * 2, n as u32 / 3 * 3_000);
                let bytes = random.usize(100..1_100);
                packet.payload = std::iter::repeat_with(|| random.u8(..)).take(bytes).collect();
            }
            call.send_unheard(side, &video);
        }
        wrong.extend(call.faults(&format!("{name}, {each}, and video"), 5_200.0, &[]));
    }
    assert_none(&wrong);
}
