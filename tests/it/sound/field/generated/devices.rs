//! Tests of details in which devices differ: timestamps of pressed keys, frame lengths, sampling rates, comfort noise.

use callspan::call::record::Side;
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, leave_out_pauses};

/// Plays a call in which both sides send `packets(from_ms, start, random)`. Returns its faults.
fn faults(name: &str, line: &str, packets: impl Fn(f64, usize, &mut Rng) -> Vec<FieldPacket>) -> Vec<String> {
    let (mut call, mut random) = (FieldCall::answered(line, line), Rng::with_seed(1));
    for (side, from_ms, start) in [(Side::Caller, 1_050.0, 0), (Side::Callee, 1_065.0, 20)] {
        call.send(side, &packets(from_ms, start, &mut random));
    }
    call.faults(name, 5_300.0, &[])
}

/// Timestamps of the packets of a pressed key. RFC 4733 section 2.2.1 demands the time at which the key was pressed.
#[derive(Clone, Copy, Debug)]
enum KeyStamps {
    Zero,
    /// Each packet has the time at which it was sent.
    OfEachPacket,
    /// The timestamps count with a clock of 8 kHz, although the voice has another clock.
    EightKilohertz,
    /// The key was pressed eight packets ago.
    Late,
    /// While the key was pressed, the clock of the voice stood still.
    ClockStands,
    OtherSource,
}

#[test]
fn timestamps_of_a_pressed_key_do_not_move_the_voice() {
    let mut wrong = Vec::new();
    let kinds = [KeyStamps::Zero, KeyStamps::OfEachPacket, KeyStamps::EightKilohertz, KeyStamps::Late];
    for kind in kinds.into_iter().chain([KeyStamps::ClockStands, KeyStamps::OtherSource]) {
        for codec in ["pcmu", "opus", "g729", "amrwb"] {
            let voice = CodedVoice::fixture(codec);
            let line = format!("RTP/AVP 96 101\r\n{}a=rtpmap:101 telephone-event/8000\r\n", voice.lines(96, ""));
            wrong.extend(faults(&format!("{kind:?}, {codec}"), &line, |from_ms, start, random| {
                let mut packets = voice.packets(from_ms, 4, start, random);
                press(&mut packets, kind);
                packets
            }));
        }
    }
    assert_none(&wrong);
}

/// Replaces the packets 60 to 69 by a pressed key.
fn press(packets: &mut [FieldPacket], kind: KeyStamps) {
    let (pressed, step) = (packets[60].time, packets[1].time.wrapping_sub(packets[0].time));
    for (n, packet) in (0_u16..10).zip(&mut packets[60..]) {
        let duration = (160 * (n + 1)).to_be_bytes();
        packet.payload = vec![5, if n >= 7 { 0x8A } else { 10 }, duration[0], duration[1]];
        (packet.pt, packet.sound) = (101, Vec::new());
        let after = |count: u32, ticks: u32| pressed.wrapping_add(ticks.wrapping_mul(count));
        packet.time = match kind {
            KeyStamps::Zero => 0,
            KeyStamps::OfEachPacket => after(n.into(), step),
            KeyStamps::EightKilohertz => after(n.into(), 160),
            KeyStamps::Late => after(8, step.wrapping_neg()),
            KeyStamps::ClockStands | KeyStamps::OtherSource => pressed,
        };
        packet.ssrc ^= u32::from(matches!(kind, KeyStamps::OtherSource));
    }
    if matches!(kind, KeyStamps::ClockStands) {
        packets[70..].iter_mut().for_each(|packet| packet.time = packet.time.wrapping_sub(10 * step));
    }
}

#[test]
fn ilbc_frames_may_change_their_length_within_a_stream() {
    let mut wrong = Vec::new();
    for fmtp in ["", "mode=20", "mode=30"] {
        for names in [["ilbc_20", "ilbc_30"], ["ilbc_30", "ilbc_20"]] {
            let [first, second] = names.map(CodedVoice::fixture);
            let line = format!("RTP/AVP 96\r\n{}", first.lines(96, fmtp));
            wrong.extend(faults(&format!("{names:?}, {fmtp}"), &line, |from_ms, start, random| {
                let mut packets = first.packets(from_ms, 2, start, random);
                let last = packets.last().unwrap().clone();
                let mut rest = second.packets(last.at_ms + f64::from(first.packet_ms), 2, start, random);
                let time = rest[0].time;
                for (packet, n) in rest.iter_mut().zip(1_u16..) {
                    (packet.ssrc, packet.sequence) = (last.ssrc, last.sequence.wrapping_add(n));
                    packet.time =
                        packet.time.wrapping_sub(time).wrapping_add(last.time).wrapping_add(8 * first.packet_ms);
                }
                packets.extend(rest);
                packets
            }));
        }
    }
    assert_none(&wrong);
}

#[test]
fn linear_audio_of_every_sampling_rate_is_heard() {
    let mut wrong = Vec::new();
    let mono = CodedVoice::fixture("pcmu");
    for (rtpmap, hz, channels) in [
        ("L16/16000", 16_000_u32, 1),
        ("L16/22050", 22_050, 1),
        ("L16/24000", 24_000, 1),
        ("L16/32000", 32_000, 1),
        ("L16/44100", 44_100, 1),
        ("L16/48000/2", 48_000, 2),
    ] {
        let count = hz / 50;
        let bytes = |piece: &[i16]| {
            (0..count).flat_map(|n| piece[(n * 160 / count) as usize].to_be_bytes().repeat(channels)).collect()
        };
        let payloads = mono.sound.chunks_exact(160).map(bytes).collect();
        let voice = CodedVoice { rtpmap, clock_hz: hz, payloads, ..mono.clone() };
        let line = format!("RTP/AVP 96\r\n{}", voice.lines(96, ""));
        wrong.extend(faults(rtpmap, &line, |from_ms, start, random| {
            let mut packets = voice.packets(from_ms, 4, start, random);
            let first = packets[0].time;
            (0_u32..).zip(&mut packets).for_each(|(n, packet)| packet.time = first.wrapping_add(n * count));
            packets
        }));
    }
    assert_none(&wrong);
}

#[test]
fn comfort_noise_of_any_type_and_clock_is_quiet() {
    let mut wrong = Vec::new();
    for (codec, pt, lines) in [
        ("pcmu", 19, ""),
        ("g722", 13, ""),
        ("pcmu", 98, "a=rtpmap:98 CN/8000\r\n"),
        ("speex_wb", 98, "a=rtpmap:98 CN/16000\r\n"),
        ("opus", 98, "a=rtpmap:98 CN/48000\r\n"),
    ] {
        let voice = CodedVoice::fixture(codec);
        let line = format!("RTP/AVP 96 {pt}\r\n{}{lines}", voice.lines(96, ""));
        wrong.extend(faults(&format!("{codec}, noise {pt}"), &line, |from_ms, start, random| {
            let mut packets = voice.packets(from_ms, 4, start, random);
            // A pause of a second, with a descriptor each 200 ms. Frames that are not sent have one byte.
            for (n, packet) in packets[60..110].iter_mut().enumerate() {
                (packet.payload, packet.sound) = (vec![70], vec![0; 160]);
                if n % 10 == 0 {
                    (packet.pt, packet.payload) = (pt, vec![70, 0]);
                }
            }
            leave_out_pauses(&mut packets, codec);
            packets
        }));
    }
    assert_none(&wrong);
}
