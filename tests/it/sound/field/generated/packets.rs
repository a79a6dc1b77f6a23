//! Tests of packets that are sent at unusual times or in an unusual form.

use callspan::call::record::Side;
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, seeds, with_pt};
use super::setting::CallSetting;

/// Where a sender has a quirk: the side, and the packet at which it begins.
#[derive(Clone, Copy, Debug)]
struct SenderQuirk {
    /// The side with the quirk; `None` means both sides.
    side: Option<Side>,
    /// Index of the first packet with the quirk.
    from: usize,
}

impl SenderQuirk {
    fn random(random: &mut Rng) -> Self {
        let side = *random.choice(&[None, Some(Side::Caller), Some(Side::Callee)]).unwrap();
        Self { side, from: *random.choice(&[0, 0, 0, 1, 10, 30, 70]).unwrap() }
    }

    /// Plays a voice on both sides. `change` changes the packets of the senders with the quirk. Returns the faults.
    fn faults(
        self,
        name: &str,
        voice: &CodedVoice,
        random: &mut Rng,
        mut change: impl FnMut(&mut [FieldPacket], &mut Rng),
    ) -> Vec<String> {
        let setting = CallSetting::random(random);
        let mut call = FieldCall::of(voice).within(setting);
        for (side, from_ms, start) in [(Side::Caller, 1_050.0, 0), (Side::Callee, 1_065.0, 20)] {
            let mut packets = voice.packets(from_ms, 4, start, random);
            if self.side.is_none_or(|of| of == side) {
                let from = self.from.min(packets.len() / 2);
                change(&mut packets[from..], random);
            }
            call.send(side, &packets);
        }
        let name = format!("{name}, {} of {} ms, {self:?}, {setting:?}", voice.rtpmap, voice.packet_ms);
        call.faults(&name, 5_200.0, &[])
    }
}

#[test]
fn packets_that_leave_several_at_a_time_stay_in_place() {
    let mut wrong = Vec::new();
    let names = ["opus", "amrwb", "amr", "speex_wb", "speex", "g722", "ilbc_20", "ilbc_30", "g729", "gsm", "g726_32"];
    for seed in seeds(16) {
        let mut random = Rng::with_seed(seed);
        let voice = CodedVoice::random(&mut random, &names);
        let (at_once, until) = (random.usize(2..5), *random.choice(&[40, 100, usize::MAX]).unwrap());
        let (jitter_ms, spread_ms) = (random.f64() * 2.0, *random.choice(&[0.0, 0.2, 5.0]).unwrap());
        let name = format!("seed {seed}: {at_once} at once until {until}");
        wrong.extend(SenderQuirk::random(&mut random).faults(&name, &voice, &mut random, |packets, _| {
            let first_ms = packets[0].at_ms;
            for (n, packet) in packets.iter_mut().enumerate().take(until) {
                let last = n / at_once * at_once + at_once - 1;
                // The last packet of a group is on time.
                let (before, late_ms) = ((last - n) as f64, (n % 3) as f64 * jitter_ms / 2.0);
                let place_ms = if n == last { 0.0 } else { late_ms - before * (spread_ms + jitter_ms) };
                packet.at_ms = first_ms + (last as u32 * voice.packet_ms) as f64 + place_ms;
            }
        }));
    }
    assert_none(&wrong);
}

#[test]
fn padding_of_any_length_is_not_sound() {
    let mut wrong = Vec::new();
    for seed in seeds(12) {
        let mut random = Rng::with_seed(1_000 + seed);
        let voice = CodedVoice::random(
            &mut random,
            &["pcmu", "pcma", "opus", "amr", "ilbc_30", "g729", "gsm", "g722", "g726_32"],
        );
        let (kind, constant) = (random.u8(0..3), random.u8(1..61));
        let name = format!("seed {seed}: padding {kind}, {constant}");
        wrong.extend(SenderQuirk::random(&mut random).faults(&name, &voice, &mut random, |packets, _| {
            for (n, packet) in packets.iter_mut().enumerate() {
                packet.padding = match kind {
                    0 => constant,
                    1 => 250_u8.saturating_sub(packet.payload.len().try_into().unwrap_or(250)).max(1),
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
    for seed in seeds(6) {
        let mut random = Rng::with_seed(2_000 + seed);
        let voice = CodedVoice::random(&mut random, &["pcmu", "opus", "amr", "gsm", "g722", "speex_wb"]);
        let (each, size) = (random.usize(2..9), random.u8(1..=255));
        let setting = CallSetting::random(&mut random);
        let mut call = FieldCall::of(&voice).within(setting);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let packets = voice.packets(1_050.0, 4, start, &mut random);
            let probe = |packet: &FieldPacket| FieldPacket {
                at_ms: packet.at_ms + 1.0,
                payload: Vec::new(),
                padding: size,
                sound: Vec::new(),
                ..packet.clone()
            };
            let with_probe = |(n, packet): (usize, &FieldPacket)| {
                if n % each == each - 1 { vec![packet.clone(), probe(packet)] } else { vec![packet.clone()] }
            };
            let mut packets: Vec<FieldPacket> = packets.iter().enumerate().flat_map(with_probe).collect();
            let first = packets[0].sequence;
            for (n, packet) in packets.iter_mut().enumerate() {
                packet.sequence = first.wrapping_add(n as u16);
            }
            call.send(side, &packets);
        }
        let name = format!("seed {seed}: {}, probes of {size} each {each}, {setting:?}", voice.rtpmap);
        wrong.extend(call.faults(&name, 5_200.0, &[]));
    }
    assert_none(&wrong);
}

#[test]
fn leaping_or_useless_stamps_move_nothing() {
    let mut wrong = Vec::new();
    // These seeds once failed. Seed 18 has leaps and a hold within half a second. Seeds 30 and 75 have one leap in the
    // call. Seeds 263 and 294 have one leap just before the end.
    for seed in seeds(14).chain([18, 30, 75, 263, 294]) {
        let mut random = Rng::with_seed(3_000 + seed);
        let voice = CodedVoice::random(
            &mut random,
            &["pcmu", "pcma", "opus", "g729", "amr", "amrwb", "gsm", "ilbc_30", "g722"],
        );
        let leaps = [(50, 20), (50, -20), (100, 40), (5, 20), (33, 30), (25, 10), (10, 5)];
        // If a leap of less than 20 ms happens only once or twice, nobody hears it. Those leaps are left out for long
        // packets.
        let count = if voice.packet_ms <= 20 { leaps.len() } else { 5 };
        let (each, ms) = leaps[random.usize(0..count)];
        let ticks = ms * i64::from(voice.clock_hz) / 1_000;
        let is_useless = random.u8(0..3) == 0;
        let mut quirk = SenderQuirk::random(&mut random);
        // A sender has useless timestamps from its beginning or never.
        quirk.from = if is_useless || ms.abs() < 20 { 0 } else { quirk.from };
        let step = *random.choice(&[0, 1, 20]).unwrap();
        let name = if is_useless { format!("steps of {step}") } else { format!("{ms} ms each {each}") };
        wrong.extend(quirk.faults(&format!("seed {seed}: {name}"), &voice, &mut random, |packets, _| {
            for (n, packet) in packets.iter_mut().enumerate() {
                packet.time = match is_useless {
                    true => 12_345 + step * n as u32,
                    false => packet.time.wrapping_add((n as i64 / each * ticks) as u32),
                };
            }
        }));
    }
    assert_none(&wrong);
}

#[test]
fn payload_types_64_to_95_are_audio_with_and_without_the_marker() {
    let mut wrong = Vec::new();
    for seed in seeds(12) {
        let mut random = Rng::with_seed(300 + seed);
        let pt = *random.choice(&[64, 71, 72, 73, 76, 77, 78, 80, 85, 93, 95]).unwrap();
        let voice = CodedVoice::random(&mut random, &["pcmu", "opus", "g729", "gsm", "speex_wb", "g722", "ilbc_20"]);
        let line = format!("RTP/AVP {pt}\r\n{}", voice.lines(pt, ""));
        let setting = CallSetting::random(&mut random);
        let mut call = FieldCall::answered(&line, &line).within(setting);
        let (spurt, kind) = (*random.choice(&[1, 1, 2, 7, 120]).unwrap(), random.usize(0..7));
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let mut packets = with_pt(voice.packets(1_050.0, 4, start, &mut random), pt);
            // The first packet of a talk spurt can look like valid RTCP, because a small sequence number looks like
            // RTCP's length.
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
        let name = format!("{pt}, {}, marker each {spurt}, RTCP {kind}, seed {seed}, {setting:?}", voice.rtpmap);
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

/// Returns an RTCP datagram of one of three kinds: compound, reduced-size (RFC 5506), or SRTCP (RFC 3711).
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
