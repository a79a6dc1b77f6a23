//! Tests with payloads in another form than the session description announces.

use callspan::call::record::{ProblemKind, Side};
use codec_core::codecs::amr::AmrCodec;
use codec_core::types::{CodecConfig, VariableRateCodec};
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, assert_none, seeds, with_pt};
use super::setting::{CallSetting, CallStory};
use crate::support::phones::describe;

/// Alignment of AMR payloads (RFC 4867).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alignment {
    Bit,
    Octet,
}

/// An AMR frame: its type and its bits.
type AmrBits = (usize, Vec<u8>);

/// Number of bits of each frame type (3GPP TS 26.101 table 1a, TS 26.201 table 2).
const NARROW: [usize; 16] = [95, 103, 118, 134, 148, 159, 204, 244, 39, 0, 0, 0, 0, 0, 0, 0];
const WIDE: [usize; 16] = [132, 177, 253, 285, 317, 365, 397, 461, 477, 40, 0, 0, 0, 0, 0, 0];

/// Parses the frames of octet-aligned payloads. `sizes` are the numbers of bits of the frame types.
fn frames(payloads: &[Vec<u8>], sizes: &[usize; 16]) -> Vec<AmrBits> {
    let mut out = Vec::new();
    for payload in payloads {
        let entries = 1 + payload[1..].iter().take_while(|entry| **entry & 0x80 != 0).count();
        let (table, mut rest) = payload[1..].split_at(entries);
        for entry in table {
            let kind = usize::from(entry >> 3 & 15);
            let (bytes, after) = rest.split_at(sizes[kind].div_ceil(8));
            let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
            out.push((kind, bits.take(sizes[kind]).collect()));
            rest = after;
        }
    }
    out
}

fn packed(frames: &[AmrBits], alignment: Alignment) -> Vec<u8> {
    let number = |value: usize, count: usize| (0..count).rev().map(move |bit| (value >> bit & 1) as u8);
    let fill = |bits: &mut Vec<u8>| {
        if alignment == Alignment::Octet {
            bits.resize(bits.len().next_multiple_of(8), 0);
        }
    };
    let mut bits: Vec<u8> = number(15, 4).collect();
    fill(&mut bits);
    for (n, (kind, _)) in frames.iter().enumerate() {
        bits.push(u8::from(n + 1 < frames.len()));
        bits.extend(number(*kind, 4).chain([1]));
        fill(&mut bits);
    }
    for (_, frame) in frames {
        bits.extend(frame);
        fill(&mut bits);
    }
    bits.resize(bits.len().next_multiple_of(8), 0);
    bits.chunks(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | bit)).collect()
}

#[test]
fn amr_is_decoded_in_the_alignment_that_each_side_uses() {
    let fmtps =
        [("octet-align=1", ""), ("", "octet-align=1"), ("", ""), ("octet-align=0", "mode-set=7"), ("", "max-red=0")];
    let mut wrong = Vec::new();
    // These seeds once failed. Seeds 43 and 55 have early media with a voice that does not repeat within the call. Seed
    // 116 has a hold at the end of a word.
    for seed in seeds(12).chain([43, 55, 116]) {
        let mut random = Rng::with_seed(seed);
        let name = *random.choice(&["amr_octets", "amr_dtx", "amrwb_octets", "amrwb_dtx"]).unwrap();
        let voice = CodedVoice::fixture(name);
        let frames = frames(&voice.payloads, if name.starts_with("amrwb") { &WIDE } else { &NARROW });
        let per_packet = random.usize(1..4);
        let (offer, answer) = random.choice(&fmtps).unwrap();
        let line = |fmtp: &str| format!("RTP/AVP 96\r\n{}", voice.lines(96, fmtp));
        let setting = CallSetting::random(&mut random);
        // The session descriptions of a hold or refresh may omit the parameters.
        let later = if random.bool() { ["", ""] } else { [*offer, *answer] };
        let later = [Side::Caller, Side::Callee].map(|side| describe(side, &line(later[side.channel()])));
        // A provisional response with early media has the same parameters as the answer.
        let later = if matches!(setting.story, CallStory::EarlyMedia | CallStory::Forked) {
            [describe(Side::Caller, &line(offer)), describe(Side::Callee, &line(answer))]
        } else {
            later
        };
        let mut call = FieldCall::answered(&line(offer), &line(answer)).within_as(setting, &later);
        let used =
            [Alignment::Bit, Alignment::Octet].map(|_| *random.choice(&[Alignment::Bit, Alignment::Octet]).unwrap());
        for (side, start) in [(Side::Caller, 0), (Side::Callee, frames.len() / 2 / per_packet)] {
            let payloads = frames.chunks_exact(per_packet).map(|some| packed(some, used[side.channel()])).collect();
            let voice = voice.with_payloads(payloads, 20 * per_packet as u32);
            call.send(side, &voice.packets(1_050.0, 4, start, &mut random));
        }
        let name = format!(
            "seed {seed}: {name}, {per_packet} a packet, {used:?}, {offer:?}, {answer:?}, {later:?}, {setting:?}"
        );
        wrong.extend(call.faults(&name, 5_200.0, &[]));
    }
    assert_none(&wrong);
}

/// Returns a voice in AMR at 4.75 kbit/s, in octet-aligned payloads.
fn slowest_amr_voice() -> CodedVoice {
    let [mut encoder, mut decoder] = [(); 2].map(|()| AmrCodec::new(&CodecConfig::amr_nb()).unwrap());
    encoder.set_mode(0).unwrap();
    let mono = CodedVoice::fixture("pcmu");
    let coded: Vec<_> = mono.sound.chunks_exact(160).map(|piece| encoder.encode_frame(piece).unwrap()).collect();
    let sound = coded.iter().flat_map(|frame| decoder.decode_frame(frame).unwrap()).collect();
    // The payload begins with "no mode request" and a table of contents with one good frame of mode 0.
    let payloads = coded.iter().map(|frame| [&[0xF0, 0x04], &frame.data[..]].concat()).collect();
    CodedVoice { rtpmap: "AMR/8000", payloads, sound, ..mono }
}

#[test]
fn slowest_amr_mode_is_decoded_in_octets_that_were_not_announced() {
    // Read in the announced alignment, each packet is also valid, but as a damaged frame.
    let (voice, mut random) = (slowest_amr_voice(), Rng::with_seed(1));
    assert!(voice.payloads.iter().all(|payload| payload.len() == 14));
    let mut call = FieldCall::of(&voice);
    for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
        call.send(side, &voice.packets(1_050.0, 4, start, &mut random));
    }
    assert_none(&call.faults("4.75 kbit/s", 5_200.0, &[ProblemKind::AmrAlignment]));
}

/// Returns G.726 code words in the opposite order within each byte.
fn other_order(payload: &[u8], bits: usize) -> Vec<u8> {
    let bit = |at: usize| payload[at / 8] >> (at % 8) & 1;
    let words = payload.len() * 8 / bits;
    let ordered: Vec<u8> = (0..words).flat_map(|n| (0..bits).rev().map(move |k| bit(n * bits + k))).collect();
    ordered.chunks(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | bit)).collect()
}

#[test]
fn g726_is_decoded_in_either_order_and_under_payload_type_2() {
    let mut wrong = Vec::new();
    for seed in seeds(12) {
        let mut random = Rng::with_seed(seed);
        let (name, bits) = *random.choice(&[("g726_16", 2), ("g726_24", 3), ("g726_32", 4), ("g726_40", 5)]).unwrap();
        let rfc = CodedVoice::fixture(name);
        let aal2 = rfc.changed(|payload| other_order(payload, bits));
        let (pt, is_named_aal2) = (if bits == 4 && random.bool() { 2 } else { random.u8(96..128) }, random.bool());
        let rtpmap = format!("a=rtpmap:{pt} {}{}\r\n", if is_named_aal2 { "AAL2-" } else { "" }, rfc.rtpmap);
        // Before payload type 2 was reserved, it meant G726-32.
        let is_bare = pt == 2 && !is_named_aal2;
        let line = format!("RTP/AVP {pt}\r\n{}", if is_bare { "" } else { &rtpmap });
        let setting = CallSetting::random(&mut random);
        let mut call = FieldCall::answered(&line, &line).within(setting);
        let mut deviates = false;
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let sends_aal2 = random.bool();
            deviates |= sends_aal2 != is_named_aal2;
            let many = random.usize(1..3);
            let voice = if sends_aal2 { &aal2 } else { &rfc }.joined(many);
            call.send(side, &with_pt(voice.packets(1_050.0, 4, start, &mut random), pt));
        }
        let problems: &[ProblemKind] = if deviates { &[ProblemKind::G726Packing] } else { &[] };
        wrong.extend(call.faults(
            &format!("seed {seed}: {name} on {pt}, named AAL2 {is_named_aal2}, {setting:?}"),
            5_200.0,
            problems,
        ));
    }
    assert_none(&wrong);
}

#[test]
fn bytes_behind_good_frames_are_ignored() {
    let mut wrong = Vec::new();
    // These seeds once failed. They have AMR frames with an additional byte that is not zero.
    for seed in seeds(10).chain([36, 46, 54, 55]) {
        let mut random = Rng::with_seed(seed);
        let choices = [("g729", 1), ("gsm", 1), ("gsm", 3), ("ilbc_20", 2), ("ilbc_30", 1), ("amr_octets", 1)];
        let (name, stray) = *random.choice(&choices).unwrap();
        let good = CodedVoice::fixture(name);
        let good = if name == "g729" || name == "gsm" { good.joined(random.usize(1..4)) } else { good };
        let fmtp = if name == "amr_octets" { "octet-align=1" } else { "" };
        let line = format!("RTP/AVP 96\r\n{}", good.lines(96, fmtp));
        let setting = CallSetting::random(&mut random);
        let mut call = FieldCall::answered(&line, &line).within(setting);
        let (byte, side, from) =
            (*random.choice(&[0, 0xFF, 0x5A]).unwrap(), random.usize(0..3), *random.choice(&[0, 0, 40]).unwrap());
        for (of, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let mut packets = good.packets(1_050.0, 4, start, &mut random);
            if side != 1 - of.channel() {
                packets.iter_mut().skip(from).for_each(|packet| packet.payload.extend(vec![byte; stray]));
            }
            call.send(of, &packets);
        }
        let name =
            format!("seed {seed}: {name} of {} ms and {stray} of {byte} from {from}, {setting:?}", good.packet_ms);
        wrong.extend(call.faults(&name, 5_200.0, &[ProblemKind::TrailingBytes]));
    }
    assert_none(&wrong);
}

#[test]
fn many_bytes_behind_g729_frames_are_ignored() {
    let mut wrong = Vec::new();
    for seed in seeds(12) {
        let mut random = Rng::with_seed(41_500 + seed);
        let voice = CodedVoice::random(&mut random, &["g729"]);
        let (bytes, from) = (StrayBytes::Random(random.usize(2..10)), *random.choice(&[0, 20]).unwrap());
        let mut call = FieldCall::of(&voice);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let mut packets = voice.packets(1_050.0, 5, start, &mut random);
            packets.iter_mut().skip(from).for_each(|packet| bytes.append(&mut packet.payload, &mut random));
            call.send(side, &packets);
        }
        let name = format!("seed {seed}: packets of {} ms, {bytes:?} from {from}", voice.packet_ms);
        wrong.extend(call.faults(&name, 6_200.0, &[ProblemKind::TrailingBytes]));
    }
    assert_none(&wrong);
}

/// Bytes that a device appends to the frames of a packet.
#[derive(Clone, Copy, Debug)]
enum StrayBytes {
    /// Bytes of one value: the value, and the number of bytes.
    Constant(u8, usize),
    /// Random bytes, and their number.
    Random(usize),
    /// Random bytes up to a multiple of 4 bytes.
    Filled,
}

impl StrayBytes {
    fn append(self, payload: &mut Vec<u8>, random: &mut Rng) {
        let count = match self {
            Self::Constant(_, count) | Self::Random(count) => count,
            Self::Filled => payload.len().next_multiple_of(4) - payload.len(),
        };
        for _ in 0..count {
            payload.push(if let Self::Constant(byte, _) = self { byte } else { random.u8(..) });
        }
    }
}

#[test]
fn bytes_behind_amr_frames_are_ignored_in_either_alignment() {
    let mut wrong = Vec::new();
    // Seed 152 is always played. It has a hold within a word.
    for seed in seeds(10).chain([152]) {
        let mut random = Rng::with_seed(8_000 + seed);
        let name = *random.choice(&["amr_octets", "amr_dtx", "amrwb_octets", "amrwb_dtx"]).unwrap();
        let voice = CodedVoice::fixture(name);
        let frames = frames(&voice.payloads, if name.starts_with("amrwb") { &WIDE } else { &NARROW });
        let per_packet = random.usize(1..5);
        let used = *random.choice(&[Alignment::Bit, Alignment::Octet]).unwrap();
        let kinds = [
            StrayBytes::Constant(*random.choice(&[0, 0xFF, 0x5A]).unwrap(), random.usize(1..4)),
            StrayBytes::Random(random.usize(1..4)),
            StrayBytes::Filled,
        ];
        let stray = *random.choice(&kinds).unwrap();
        let is_announced = random.u8(0..4) > 0;
        let fmtp = if is_announced == (used == Alignment::Octet) { "octet-align=1" } else { "" };
        let line = format!("RTP/AVP 96\r\n{}", voice.lines(96, fmtp));
        let (setting, deviates) = (CallSetting::random(&mut random), random.usize(0..3));
        let mut call = FieldCall::answered(&line, &line).within(setting);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, frames.len() / 2 / per_packet)] {
            let payloads = frames.chunks_exact(per_packet).map(|some| packed(some, used)).collect();
            let voice = voice.with_payloads(payloads, 20 * per_packet as u32);
            let mut packets = voice.packets(1_050.0, 4, start, &mut random);
            if deviates != 1 - side.channel() {
                packets.iter_mut().for_each(|packet| stray.append(&mut packet.payload, &mut random));
            }
            call.send(side, &packets);
        }
        let name = format!(
            "seed {seed}: {name}, {per_packet} a packet, {used:?}, announced {is_announced}, {stray:?} of {deviates}, {setting:?}"
        );
        wrong.extend(call.faults(&name, 5_200.0, &[]));
    }
    assert_none(&wrong);
}

#[test]
fn stereo_with_opposite_phases_is_heard() {
    let mut wrong = Vec::new();
    for seed in seeds(4) {
        let mut random = Rng::with_seed(seed);
        let (factor, is_opus) = (-random.i32(70..=100), random.bool());
        let voice = stereo_voice(factor, is_opus);
        let setting = CallSetting::random(&mut random);
        let mut call = FieldCall::of(&voice).within(setting);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            call.send(side, &voice.packets(1_050.0, 4, start, &mut random));
        }
        let name = format!("seed {seed}: {}, {factor} %, {setting:?}", voice.rtpmap);
        wrong.extend(call.faults(&name, 5_200.0, &[ProblemKind::OppositePhases]));
    }
    assert_none(&wrong);
}

#[test]
fn linear_samples_in_either_byte_order_are_heard() {
    let mut wrong = Vec::new();
    for seed in seeds(6) {
        let mut random = Rng::with_seed(41_700 + seed);
        let mono = CodedVoice::fixture("pcmu");
        let mut setting = CallSetting::random(&mut random);
        setting.story = CallStory::Plain;
        let odd = *random.choice(&[Side::Caller, Side::Callee]).unwrap();
        let coded = |bytes: fn(i16) -> [u8; 2]| {
            let payloads = mono.sound.chunks_exact(160).map(|piece| piece.iter().flat_map(|s| bytes(*s)).collect());
            CodedVoice { rtpmap: "L16/8000", payloads: payloads.collect(), ..mono.clone() }
        };
        let mut call = FieldCall::of(&coded(i16::to_be_bytes)).within(setting);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let voice = coded(if side == odd { i16::to_le_bytes } else { i16::to_be_bytes });
            call.send(side, &voice.packets(1_050.0, 4, start, &mut random));
        }
        wrong.extend(call.faults(&format!("seed {seed}: {odd:?}, {setting:?}"), 5_200.0, &[ProblemKind::ByteOrder]));
    }
    assert_none(&wrong);
}

#[test]
fn g711_in_the_other_law_is_heard() {
    let mut wrong = Vec::new();
    for seed in seeds(6) {
        let mut random = Rng::with_seed(51_700 + seed);
        let [announced, other] =
            if random.bool() { ["pcmu", "pcma"] } else { ["pcma", "pcmu"] }.map(CodedVoice::fixture);
        let mut setting = CallSetting::random(&mut random);
        setting.story = CallStory::Plain;
        let odd = *random.choice(&[Side::Caller, Side::Callee]).unwrap();
        let mut call = FieldCall::of(&announced).within(setting);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let payloads = if side == odd { &other } else { &announced }.payloads.clone();
            let voice = CodedVoice { payloads, ..announced.clone() };
            call.send(side, &voice.packets(1_050.0, 8, start, &mut random));
        }
        let name = format!("seed {seed}: {odd:?}, {}, {setting:?}", announced.rtpmap);
        wrong.extend(call.faults(&name, 9_200.0, &[ProblemKind::CompandingLaw]));
    }
    assert_none(&wrong);
}

/// Returns a stereo voice. The right channel is the left channel multiplied by `percent` percent.
fn stereo_voice(percent: i32, is_opus: bool) -> CodedVoice {
    let mono = CodedVoice::fixture("pcmu");
    let other = |sample: i16| (i32::from(sample) * percent / 100) as i16;
    let pieces =
        mono.sound.chunks_exact(160).map(|piece| piece.iter().map(|&s| [s, other(s)]).collect::<Vec<[i16; 2]>>());
    if !is_opus {
        let bytes = |piece: Vec<[i16; 2]>| piece.as_flattened().iter().flat_map(|s| s.to_be_bytes()).collect();
        let payloads = pieces.map(bytes).collect();
        return CodedVoice { rtpmap: "L16/8000/2", payloads, ..mono.clone() };
    }
    let mut encoder = opus::Encoder::new(8_000, opus::Channels::Stereo, opus::Application::Audio).unwrap();
    encoder.set_bitrate(opus::Bitrate::Bits(48_000)).unwrap();
    let payloads = pieces.map(|piece| encoder.encode_vec(piece.as_flattened(), 1_500).unwrap()).collect();
    CodedVoice { rtpmap: "opus/48000/2", clock_hz: 48_000, payloads, ..mono.clone() }
}
