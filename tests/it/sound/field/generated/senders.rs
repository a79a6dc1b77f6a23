//! Tests with senders that change within the call, each behind a network with a fault of its own.

use callspan::call::record::{ProblemKind, Side};
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, joined, leave_out_pauses, seeds, with_pt};
use super::noise::with_pauses;
use super::setting::{CallNetwork, CallSetting};

/// Behaviour of a sender in its call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum SenderStory {
    Steady,
    /// The number of frames in a packet changes every few packets.
    PacketTimes,
    /// The sender leaves out the frames of silence. With `is_marked`, the first packet after a pause has
    /// the marker.
    Dtx {
        is_marked: bool,
    },
    /// The sender changes to another codec, under the same SSRC or a new one.
    OtherCodec {
        is_new_source: bool,
    },
    /// After a pause, the stream has a new SSRC, new sequence numbers and timestamps.
    NewSourceAfterHold {
        pause_ms: u16,
    },
    /// The sequence numbers begin again at 0; the timestamps go on.
    SequenceRestart,
    /// The timestamps begin again at 0; the sequence numbers go on.
    TimeRestart,
    /// The sender pauses without comfort noise and without a marker. With `is_counted`, the timestamps count the pause.
    BarePauses {
        is_counted: bool,
    },
    /// The sender pauses with comfort noise (RFC 3389), a descriptor each `each_ms` milliseconds.
    ComfortNoise {
        each_ms: u16,
    },
    /// Each packet repeats the payloads of this number of earlier packets (RFC 2198).
    Redundant(usize),
    /// Contributing sources and a header extension.
    LongHeader,
    /// Another source plays music for a while; then the first source goes on.
    MusicOnHold {
        is_counted: bool,
    },
    /// The sender presses a key.
    Key,
    /// Each packet is an Opus packet of another duration.
    OpusDurations,
}

/// A fault of the network between a sender and the mirror.
#[derive(Clone, Copy, Debug, PartialEq)]
enum NetworkFault {
    None,
    /// Some packets arrive after this number of their successors.
    Reordered(usize),
    /// Two percent of the packets are lost, in bursts of up to three.
    Bursts,
    /// Each packet arrives twice; the copy is late by up to this number of ms.
    Copies(f64),
    Jitter(f64),
    /// From some packet on, all packets are late by this number of ms.
    Longer(f64),
    /// All packets wait for this number of ms and then arrive at once.
    Freeze(f64),
    /// The sender's clock is fast by this number of ppm.
    Drift(f64),
}

/// The payload types of the voice, of another codec, and of redundant audio of a side.
struct SenderTypes {
    voice: u8,
    other: u8,
    red: u8,
}

impl SenderTypes {
    fn of(side: Side) -> Self {
        let first = 96 + 3 * side.channel() as u8;
        Self { voice: first, other: first + 1, red: first + 2 }
    }
}

/// A sender with its voices.
struct FieldSender {
    story: SenderStory,
    fault: NetworkFault,
    name: &'static str,
    voice: CodedVoice,
    other: CodedVoice,
    types: SenderTypes,
}

const PLAIN: [&str; 12] =
    ["pcmu", "pcma", "opus", "amr", "amrwb", "speex_wb", "ilbc_20", "ilbc_30", "g729", "gsm", "g722", "g726_32"];
const DTX: [&str; 5] = ["amr_dtx", "amrwb_dtx", "g729b", "opus_dtx", "speex_dtx"];
const WITHOUT_HEADER: [&str; 5] = ["pcmu", "pcma", "gsm", "g722", "g729"];
const OF_20_MS: [&str; 5] = ["pcmu", "pcma", "opus", "gsm", "g722"];

impl SenderStory {
    fn random(random: &mut Rng) -> Self {
        let flag = random.bool();
        match random.u8(0..14) {
            0 => Self::Steady,
            1 => Self::PacketTimes,
            2 => Self::Dtx { is_marked: flag },
            3 => Self::OtherCodec { is_new_source: flag },
            4 => Self::NewSourceAfterHold { pause_ms: random.u16(0..2_000) },
            5 => Self::SequenceRestart,
            6 => Self::TimeRestart,
            7 => Self::BarePauses { is_counted: flag },
            8 => Self::ComfortNoise { each_ms: *random.choice(&[200, 1_000, 10_000]).unwrap() },
            9 => Self::Redundant(random.usize(1..3)),
            10 => Self::LongHeader,
            11 => Self::MusicOnHold { is_counted: flag },
            12 => Self::Key,
            _ => Self::OpusDurations,
        }
    }

    /// Returns the voices that a sender with this behaviour can send.
    fn voices(self) -> &'static [&'static str] {
        match self {
            Self::PacketTimes => &WITHOUT_HEADER,
            Self::Dtx { .. } => &DTX,
            Self::Key | Self::Redundant(_) | Self::ComfortNoise { .. } => &OF_20_MS,
            Self::OpusDurations => &["opus"],
            _ => &PLAIN,
        }
    }
}

impl NetworkFault {
    fn random(random: &mut Rng) -> Self {
        match random.u8(0..9) {
            0 | 1 => Self::None,
            2 => Self::Reordered(random.usize(1..6)),
            3 => Self::Bursts,
            4 => Self::Copies(*random.choice(&[0.1, 5.0, 100.0]).unwrap()),
            5 => Self::Jitter(*random.choice(&[5.0, 20.0, 40.0]).unwrap()),
            6 => Self::Longer(*random.choice(&[30.0, 80.0, 150.0]).unwrap()),
            7 => Self::Freeze(*random.choice(&[120.0, 300.0, 700.0]).unwrap()),
            _ => Self::Drift(random.f64() * 400.0 - 200.0),
        }
    }

    fn apply(self, packets: &mut [FieldPacket], packet_ms: u32, random: &mut Rng) {
        let (first_ms, times) = (packets[0].at_ms, packets.iter().map(|packet| packet.at_ms).collect::<Vec<_>>());
        let place = random.usize(packets.len() / 4..packets.len() / 2);
        let (mut burst, mut lost_ms) = (0, 0);
        for (n, packet) in packets.iter_mut().enumerate() {
            match self {
                Self::None => {}
                Self::Reordered(by) if random.u8(0..12) == 0 => {
                    packet.at_ms = times.get(n + by).map_or(packet.at_ms, |at_ms| at_ms + 0.3);
                }
                Self::Reordered(_) => {}
                Self::Bursts => {
                    burst = if random.u16(0..100) == 0 { random.u8(1..4) } else { burst };
                    lost_ms += if burst > 0 { packet_ms } else { 0 };
                    packet.is_lost |= burst > 0 && lost_ms <= MAX_LOST_MS && is_amid_speech(&times, n, packet_ms);
                    burst = burst.saturating_sub(1);
                }
                Self::Copies(most) => packet.again_ms = Some(random.f64() * most),
                Self::Jitter(most) => packet.at_ms += random.f64() * most,
                Self::Longer(ms) if n >= place => {
                    packet.at_ms += ms;
                    packet.spoken_ms += ms;
                }
                Self::Longer(_) => {}
                Self::Freeze(ms) => {
                    let (from, until) = (times[place], times[place] + ms);
                    if (from..until).contains(&packet.at_ms) {
                        packet.at_ms = until + (packet.at_ms - from) * 0.01;
                    }
                }
                Self::Drift(ppm) => {
                    packet.at_ms -= (packet.at_ms - first_ms) * ppm / 1e6;
                    packet.spoken_ms -= (packet.spoken_ms - first_ms) * ppm / 1e6;
                }
            }
        }
    }
}

/// Returns whether the packets before and after packet `n` have no pause. If a loss beside a pause takes most of a word,
/// no decoder can repair it.
fn is_amid_speech(times: &[f64], n: usize, packet_ms: u32) -> bool {
    let around = &times[n.saturating_sub(AROUND_LOSS)..(n + AROUND_LOSS + 1).min(times.len())];
    around.windows(2).all(|pair| pair[1] - pair[0] < f64::from(packet_ms) * 4.0)
}

/// Continues the SSRC and the sequence numbers of `last` in later packets. The first of these packets gets the
/// timestamp of `last` plus `step`.
fn go_on_after(last: &FieldPacket, step: u32, packets: &mut [FieldPacket]) {
    let (sequence, time) = (packets[0].sequence, packets[0].time);
    for packet in packets.iter_mut() {
        packet.ssrc = last.ssrc;
        packet.sequence = packet.sequence.wrapping_sub(sequence).wrapping_add(last.sequence).wrapping_add(1);
        packet.time = packet.time.wrapping_sub(time).wrapping_add(last.time).wrapping_add(step);
    }
}

/// Moves the packets to later times. `ticks` is added to their timestamps.
fn delay(packets: &mut [FieldPacket], ms: f64, ticks: u32) {
    for packet in packets {
        packet.at_ms += ms;
        packet.spoken_ms += ms;
        packet.time = packet.time.wrapping_add(ticks);
    }
}

impl FieldSender {
    fn random(side: Side, random: &mut Rng) -> Self {
        let (story, fault) = (SenderStory::random(random), NetworkFault::random(random));
        let name = *random.choice(story.voices()).unwrap();
        let voice = CodedVoice::fixture(name);
        let other = CodedVoice::fixture(random.choice(PLAIN).unwrap());
        Self { story, fault, name, voice, other, types: SenderTypes::of(side) }
    }

    fn lines(&self) -> String {
        let SenderTypes { voice, other, red } = self.types;
        let fmtp = if self.name.starts_with("amr") && self.name.ends_with("dtx") { "octet-align=1" } else { "" };
        let clock = self.voice.clock_hz;
        format!(
            "{}{}a=rtpmap:{red} red/{clock}\r\na=fmtp:{red} {voice}/{voice}\r\n",
            self.voice.lines(voice, fmtp),
            self.other.lines(other, "")
        )
    }

    /// Returns the packets of the sender without faults of the network.
    fn packets(&self, from_ms: f64, start: usize, random: &mut Rng) -> Vec<FieldPacket> {
        let voice = &self.voice;
        let mut packets = with_pt(voice.packets(from_ms, SECONDS, start, random), self.types.voice);
        let place = random.usize(packets.len() / 5..packets.len() * 4 / 5);
        match self.story {
            SenderStory::Steady => {}
            SenderStory::PacketTimes => return packet_times(packets, random),
            SenderStory::Dtx { is_marked } => self.leave_out_silence(&mut packets, is_marked),
            SenderStory::OtherCodec { is_new_source } => {
                packets.truncate(place);
                let last = packets.last().unwrap().clone();
                let next_ms = last.at_ms + f64::from(voice.packet_ms);
                let mut rest = with_pt(self.other.packets(next_ms, 3, start, random), self.types.other);
                if !is_new_source {
                    go_on_after(&last, self.ticks(voice.packet_ms.into()), &mut rest);
                }
                packets.extend(rest);
            }
            SenderStory::ComfortNoise { each_ms } => {
                return with_pauses(packets, each_ms.into(), voice.clock_hz, random).0;
            }
            SenderStory::Redundant(count) => redundant(&mut packets, count, &self.types, voice),
            SenderStory::LongHeader => {
                for packet in &mut packets {
                    packet.sources = random.u8(0..16);
                    let bytes = 4 * random.usize(0..9);
                    packet.extension = std::iter::repeat_with(|| random.u8(..)).take(bytes).collect();
                }
            }
            SenderStory::MusicOnHold { is_counted } => {
                let at_ms = packets[place].at_ms;
                let music = with_pt(self.other.packets(at_ms + 3.0, 2, start, random), self.types.other);
                delay(&mut packets[place..], 2_050.0, if is_counted { self.ticks(2_050.0) } else { 0 });
                packets.splice(place..place, music);
            }
            SenderStory::Key => press(&mut packets[place..]),
            SenderStory::OpusDurations => return opus_durations(&packets),
            _ => self.restart(&mut packets, place, random),
        }
        packets
    }

    /// Applies the stories in which the numbers of the packets change.
    fn restart(&self, packets: &mut [FieldPacket], place: usize, random: &mut Rng) {
        match self.story {
            SenderStory::NewSourceAfterHold { pause_ms } => {
                let [ssrc, time] = [(); 2].map(|()| random.u32(..));
                delay(&mut packets[place..], pause_ms.into(), time);
                packets[place..].iter_mut().for_each(|packet| {
                    (packet.ssrc, packet.sequence) = (ssrc, packet.sequence.wrapping_add(time as u16));
                });
            }
            SenderStory::SequenceRestart => {
                (0..).zip(&mut packets[place..]).for_each(|(n, packet)| packet.sequence = n);
            }
            SenderStory::TimeRestart => {
                let first = packets[place].time;
                delay(&mut packets[place..], 0.0, first.wrapping_neg());
            }
            SenderStory::BarePauses { is_counted } => {
                for n in [place, place / 2] {
                    let ms = 20.0 * random.usize(5..40) as f64;
                    delay(&mut packets[n..], ms, if is_counted { self.ticks(ms) } else { 0 });
                }
                packets.iter_mut().for_each(|packet| packet.marker = false);
            }
            _ => unreachable!("the other stories change no numbers"),
        }
    }

    /// Removes the frames of silence. Sets the marker of the first packet after each pause if `is_marked`.
    fn leave_out_silence(&self, packets: &mut Vec<FieldPacket>, is_marked: bool) {
        leave_out_pauses(packets, self.name);
        packets.retain(|packet| !packet.is_lost);
        let mut last_ms = packets[0].at_ms;
        for packet in packets {
            let is_first = packet.at_ms - last_ms > f64::from(self.voice.packet_ms) * 1.5;
            last_ms = packet.at_ms;
            packet.marker = is_marked && is_first;
        }
    }

    /// Returns the duration in ticks of the voice's RTP clock.
    fn ticks(&self, ms: f64) -> u32 {
        (ms * f64::from(self.voice.clock_hz) / 1_000.0).round() as u32
    }
}

/// Joins one to three frames in each packet. The number changes every few packets.
fn packet_times(packets: Vec<FieldPacket>, random: &mut Rng) -> Vec<FieldPacket> {
    let (mut left, mut many, mut run) = (0, 1, 0);
    joined(packets, |_, _| {
        if run == 0 {
            (many, run) = (random.usize(1..4), random.usize(20..60));
        }
        run -= 1;
        if left == 0 {
            left = many - 1;
            return false;
        }
        left -= 1;
        true
    })
}

/// Turns packets into RED packets that repeat the payloads of `count` earlier packets.
fn redundant(packets: &mut [FieldPacket], count: usize, types: &SenderTypes, voice: &CodedVoice) {
    let plain: Vec<FieldPacket> = packets.to_vec();
    for (n, packet) in packets.iter_mut().enumerate() {
        let (mut heads, mut blocks) = (Vec::<u8>::new(), Vec::<u8>::new());
        for back in (1..=count.min(n)).rev() {
            let earlier = &plain[n - back];
            let offset = back as u32 * voice.packet_ms * (voice.clock_hz / 1_000);
            let bits = offset << 10 | earlier.payload.len() as u32;
            heads.extend([0x80 | types.voice, (bits >> 16) as u8, (bits >> 8) as u8, bits as u8]);
            blocks.extend(&earlier.payload);
        }
        heads.push(types.voice);
        heads.extend(blocks);
        heads.extend(&plain[n].payload);
        (packet.pt, packet.payload) = (types.red, heads);
    }
}

/// Replaces ten packets by a pressed key (RFC 4733). Three packets repeat the end.
fn press(packets: &mut [FieldPacket]) {
    let time = packets[0].time;
    for (n, packet) in (0_u16..).zip(packets.iter_mut().take(10)) {
        let duration = (160 * (n + 1)).to_be_bytes();
        packet.payload = vec![5, if n >= 7 { 0x8A } else { 10 }, duration[0], duration[1]];
        (packet.pt, packet.time, packet.sound) = (EVENTS, time, Vec::new());
    }
}

/// Joins the frames of consecutive Opus packets (RFC 6716 section 3.2.5), by the numbers in [`OPUS_FRAMES`].
fn opus_durations(packets: &[FieldPacket]) -> Vec<FieldPacket> {
    let mut out: Vec<FieldPacket> = Vec::new();
    let mut rest = packets;
    for &count in OPUS_FRAMES.iter().cycle() {
        let Some((some, after)) = rest.split_at_checked(count) else { break };
        rest = after;
        let mut packet = some[0].clone();
        if count > 1 {
            // The packet has code 3, i.e. a length before each frame but the last. All frames have the configuration of
            // the first.
            packet.payload = vec![packet.payload[0] & 0xFC | 3, 0x80 | count as u8];
            some[..count - 1].iter().for_each(|part| packet.payload.extend(opus_length(part.payload.len() - 1)));
            some.iter().for_each(|part| packet.payload.extend(&part.payload[1..]));
            packet.sound = some.iter().flat_map(|part| part.sound.clone()).collect();
        }
        packet.sequence = packets[0].sequence.wrapping_add(out.len() as u16);
        out.push(packet);
    }
    out
}

/// Returns the length of an Opus frame in one or two bytes (RFC 6716 section 3.2.1).
fn opus_length(length: usize) -> Vec<u8> {
    let first = if length < 252 { length } else { 252 + length % 4 };
    let second = (length >= 252).then(|| ((length - first) / 4) as u8);
    std::iter::once(first as u8).chain(second).collect()
}

/// Numbers of frames of 20 ms in consecutive Opus packets.
const OPUS_FRAMES: [usize; 5] = [1, 3, 1, 2, 3];
/// Duration of the voices, s.
const SECONDS: u32 = 6;
/// Maximum duration of lost packets of a side, ms.
const MAX_LOST_MS: u32 = 120;
/// Number of packets before and after a loss that must have no pause between them.
const AROUND_LOSS: usize = 20;
/// Payload type of the telephone-events.
const EVENTS: u8 = 120;

#[test]
fn senders_that_change_within_the_call_are_heard_behind_any_network() {
    let mut wrong = Vec::new();
    // These seeds are always played. Seeds 5 and 71 have a longer delay soon after the beginning of a stream. Seeds 18
    // and 23 have another clock rate. In seed 80, packets of different durations wait and then arrive at once. In seed
    // 258, single packets are late by 200 ms.
    for seed in seeds(20).chain([23, 71, 80, 258]) {
        let mut random = Rng::with_seed(30_000 + seed);
        let senders = [Side::Caller, Side::Callee].map(|side| FieldSender::random(side, &mut random));
        let types: Vec<String> = (96..102).map(|pt: u8| pt.to_string()).collect();
        let line = format!(
            "RTP/AVP {} 13 {EVENTS}\r\n{}{}a=rtpmap:13 CN/8000\r\na=rtpmap:{EVENTS} telephone-event/8000\r\n",
            types.join(" "),
            senders[0].lines(),
            senders[1].lines()
        );
        let network =
            if random.bool() { CallSetting::before_answer(&mut random).network } else { CallNetwork::Datagrams };
        let mut call = FieldCall::answered(&line, &line).within(CallSetting { network, ..CallSetting::default() });
        let mut ends_ms: f64 = 0.0;
        for (side, sender) in [Side::Caller, Side::Callee].into_iter().zip(&senders) {
            let start = if side == Side::Caller { 0 } else { 20 };
            let mut packets = sender.packets(1_050.0 + 15.0 * start as f64 / 20.0, start, &mut random);
            sender.fault.apply(&mut packets, sender.voice.packet_ms, &mut random);
            ends_ms = packets.iter().map(|packet| packet.at_ms.max(packet.spoken_ms)).fold(ends_ms, f64::max);
            call.send(side, &packets);
        }
        let [caller, callee] = senders.each_ref().map(|sender| {
            let FieldSender { story, fault, name, voice, other, .. } = sender;
            format!("{story:?}, {fault:?}, {name} of {} ms, then {}", voice.packet_ms, other.rtpmap)
        });
        let name = format!("seed {seed}: [{caller}], [{callee}], {network:?}");
        let (record, _) = call.clone().scores(ends_ms + 300.0);
        // No sender has a quirk that is a problem. Only lost packets are a problem.
        let kinds: Vec<ProblemKind> = record.problems.iter().map(|problem| problem.kind).collect();
        let is_false = kinds.iter().any(|kind| *kind != ProblemKind::LostBeforeUs);
        wrong.extend(is_false.then(|| format!("{name}: {kinds:?}")));
        wrong.extend(call.faults(&name, ends_ms + 300.0, &[]));
    }
    assert_none(&wrong);
}

#[test]
fn redundant_audio_is_heard_without_its_parameters() {
    let mut wrong = Vec::new();
    for seed in seeds(8) {
        let mut random = Rng::with_seed(48_000 + seed);
        let voice = CodedVoice::fixture(random.choice(["opus", "pcmu", "g722", "speex_wb"]).unwrap());
        // The parameters are missing, or name payload types that nobody announced.
        let fmtp = *random.choice(&["", "a=fmtp:98 111/111\r\n"]).unwrap();
        let is_first = random.bool();
        let numbers = if is_first { "98 96" } else { "96 98" };
        let red = format!("a=rtpmap:98 red/{}\r\n{fmtp}", voice.clock_hz);
        let line = format!("RTP/AVP {numbers}\r\n{}{red}", voice.lines(96, ""));
        let mut call = FieldCall::answered(&line, &line);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let mut packets = voice.packets(1_050.0, 4, start, &mut random);
            redundant(&mut packets, 1, &SenderTypes { voice: 96, other: 97, red: 98 }, &voice);
            packets.iter_mut().skip(10).step_by(20).for_each(|packet| packet.is_lost = true);
            call.send(side, &packets);
        }
        let name = format!("seed {seed}: {}, {fmtp:?}, red first {is_first}", voice.rtpmap);
        wrong.extend(call.faults(&name, 5_200.0, &[]));
    }
    assert_none(&wrong);
}
