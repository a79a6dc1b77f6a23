//! Datagrams on the media flow that are no sound: keep-alives of NATs (RFC 6263) and other protocols.

use callspan::call::record::Side;
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, seeds};
use super::setting::CallSetting;

/// Datagrams that are no sound.
#[derive(Clone, Copy, Debug, PartialEq)]
enum FlowNoise {
    /// Datagrams without any bytes (RFC 6263 section 4.1).
    Empty,
    /// Two line ends, or four zero bytes.
    FourBytes(u8),
    /// Binding indications (RFC 6263 section 4.3).
    Stun,
    /// RTP packets of a payload type that nobody announced; they have sequence numbers of the stream (section 4.6).
    UnknownPayloadType(u8),
    /// RTP packets without payload; they have sequence numbers of the stream.
    NoPayload,
    /// Comfort noise of the lowest level within speech; it has sequence numbers of the stream (section 4.2).
    ComfortNoise,
}

impl FlowNoise {
    fn random(random: &mut Rng) -> Self {
        match random.u8(0..6) {
            0 => Self::Empty,
            1 => Self::FourBytes(random.u8(0..2) * 10),
            2 => Self::Stun,
            3 => Self::UnknownPayloadType(random.u8(110..128)),
            4 => Self::NoPayload,
            _ => Self::ComfortNoise,
        }
    }

    /// Returns the bytes of a datagram that is no RTP; `None` for RTP.
    fn datagram(self, random: &mut Rng) -> Option<Vec<u8>> {
        Some(match self {
            Self::Empty => Vec::new(),
            Self::FourBytes(byte) => vec![byte; 4],
            Self::Stun => {
                let header = [0x00, 0x11, 0, 0, 0x21, 0x12, 0xA4, 0x42].into_iter();
                header.chain(std::iter::repeat_with(|| random.u8(..)).take(12)).collect()
            }
            _ => return None,
        })
    }

    /// Returns the disturbing RTP packet, which is sent 1 ms before the packet `next` of the stream.
    fn packet(self, next: &FieldPacket, random: &mut Rng) -> FieldPacket {
        let (pt, payload) = match self {
            Self::UnknownPayloadType(pt) => (pt, vec![0; random.usize(0..3)]),
            Self::ComfortNoise => (13, vec![127]),
            _ => (next.pt, Vec::new()),
        };
        FieldPacket { at_ms: next.at_ms - 1.0, pt, payload, sound: Vec::new(), marker: false, ..next.clone() }
    }
}

#[test]
fn keep_alives_on_the_media_flow_are_no_sound_and_no_loss() {
    let mut wrong = Vec::new();
    let names = ["pcmu", "pcma", "opus", "amr", "speex_wb", "g722", "gsm", "g729", "ilbc_30", "g726_32"];
    // Seed 118 is always played. It has early media with keep-alives.
    for seed in seeds(12).chain([118]) {
        let mut random = Rng::with_seed(15_000 + seed);
        let voice = CodedVoice::random(&mut random, &names);
        let (noise, each) = (FlowNoise::random(&mut random), random.usize(5..60));
        let setting = CallSetting::random(&mut random);
        let mut call = FieldCall::of(&voice).within(setting);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let packets = voice.packets(1_050.0, 4, start, &mut random);
            let (first, mut sent) = (packets[0].sequence, Vec::new());
            for (n, packet) in packets.into_iter().enumerate() {
                if n % each == each - 1 {
                    match noise.datagram(&mut random) {
                        Some(bytes) => call.send_raw(side, packet.at_ms - 1.0, bytes),
                        None => sent.push(noise.packet(&packet, &mut random)),
                    }
                }
                sent.push(packet);
            }
            for (packet, sequence) in sent.iter_mut().zip(0_u16..) {
                packet.sequence = first.wrapping_add(sequence);
            }
            call.send(side, &sent);
        }
        let name =
            format!("seed {seed}: {noise:?} each {each}, {} of {} ms, {setting:?}", voice.rtpmap, voice.packet_ms);
        let (record, _) = call.clone().scores(5_200.0);
        for of in [&record.sides.caller, &record.sides.callee] {
            let (lost, concealed_ms) = (of.lost, of.concealed_ms.unwrap_or(0));
            wrong
                .extend((lost + concealed_ms > 0).then(|| format!("{name}: {lost} lost, {concealed_ms} ms concealed")));
        }
        wrong.extend(call.faults(&name, 5_200.0, &[]));
    }
    assert_none(&wrong);
}

/// Puts pauses into a voice, which continues after each pause where it stopped. Each pause begins with a descriptor of
/// comfort noise (RFC 3389), or has a descriptor every `each_ms`. Returns the packets, and the time at which they end.
pub fn with_pauses(voice: Vec<FieldPacket>, each_ms: f64, hz: u32, random: &mut Rng) -> (Vec<FieldPacket>, f64) {
    let (mut out, mut later_ms): (Vec<FieldPacket>, f64) = (Vec::new(), 0.0);
    let step_ms = voice[1].spoken_ms - voice[0].spoken_ms;
    let ticks = |ms: f64| (ms * f64::from(hz) / 1_000.0).round() as u32;
    let mut until_pause = random.usize(10..60);
    for packet in voice {
        if until_pause == 0 {
            let pause_ms = step_ms * random.usize(3..40) as f64;
            let descriptors = 1 + (pause_ms / each_ms) as usize;
            for n in 0..descriptors {
                let ms = later_ms + each_ms * n as f64;
                out.push(FieldPacket {
                    at_ms: packet.at_ms + ms,
                    spoken_ms: packet.spoken_ms + ms,
                    time: packet.time.wrapping_add(ticks(ms)),
                    pt: 13,
                    payload: vec![random.u8(58..90)],
                    sound: Vec::new(),
                    ..packet.clone()
                });
            }
            later_ms += pause_ms;
            until_pause = random.usize(10..60);
        }
        until_pause -= 1;
        let (at_ms, spoken_ms) = (packet.at_ms + later_ms, packet.spoken_ms + later_ms);
        out.push(FieldPacket { at_ms, spoken_ms, time: packet.time.wrapping_add(ticks(later_ms)), ..packet });
    }
    let first = out[0].sequence;
    for (packet, sequence) in out.iter_mut().zip(0_u16..) {
        packet.sequence = first.wrapping_add(sequence);
    }
    let ends_ms = out.last().map_or(0.0, |last| last.spoken_ms + step_ms);
    (out, ends_ms)
}

#[test]
fn pauses_with_comfort_noise_are_quiet_and_cost_no_word() {
    let mut wrong = Vec::new();
    for seed in seeds(12) {
        let mut random = Rng::with_seed(17_000 + seed);
        let voice = CodedVoice::random(&mut random, &["pcmu", "pcma", "g722", "gsm", "g726_32", "ilbc_20", "speex_wb"]);
        let each_ms = *random.choice(&[200.0, 1_000.0, 10_000.0]).unwrap();
        let (is_announced, network) = (random.bool(), CallSetting::before_answer(&mut random).network);
        let setting = CallSetting { network, ..CallSetting::default() };
        let more = if is_announced { " 13\r\na=rtpmap:13 CN/8000" } else { "" };
        let line = format!("RTP/AVP 96{more}\r\n{}", voice.lines(96, ""));
        let mut call = FieldCall::answered(&line, &line).within(setting);
        let mut ends_ms: f64 = 0.0;
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let packets = voice.packets(1_050.0, 4, start, &mut random);
            let (packets, until_ms) = with_pauses(packets, each_ms, voice.clock_hz, &mut random);
            ends_ms = ends_ms.max(until_ms);
            call.send(side, &packets);
        }
        let name = format!(
            "seed {seed}: {} of {} ms, each {each_ms} ms, announced {is_announced}, {setting:?}",
            voice.rtpmap, voice.packet_ms
        );
        let (record, _) = call.clone().scores(ends_ms + 100.0);
        for of in [&record.sides.caller, &record.sides.callee] {
            let (lost, concealed_ms) = (of.lost, of.concealed_ms.unwrap_or(0));
            wrong
                .extend((lost + concealed_ms > 0).then(|| format!("{name}: {lost} lost, {concealed_ms} ms concealed")));
        }
        wrong.extend(call.faults(&name, ends_ms + 100.0, &[]));
    }
    assert_none(&wrong);
}
