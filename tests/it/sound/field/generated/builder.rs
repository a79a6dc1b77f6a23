//! Makes calls with two coded voices and compares their recordings with the voices.

use std::ops::Range;

use callspan::call::record::{CallRecord, CallVerdict, ProblemKind, Side};
use fastrand::Rng;

use super::super::judge::{FieldScore, judge};
use super::setting::{CallSetting, CallStory};
use crate::support::coded::{coded_path, coded_payloads};
use crate::support::phones::{MirroredTraffic, RecordedCall, SentDatagram, at_ms, describe, media};
use crate::support::score::halved;

/// A voice in one codec: its payloads, and the samples that an independent decoder made of them.
#[derive(Clone, Debug)]
pub struct CodedVoice {
    /// Format as in `a=rtpmap`, without the parameters of `a=fmtp`.
    pub rtpmap: &'static str,
    pub clock_hz: u32,
    pub packet_ms: u32,
    pub payloads: Vec<Vec<u8>>,
    /// Samples at 8 kHz. Each payload has `8 * packet_ms` of them.
    pub sound: Vec<i16>,
}

/// A packet of a call, with the sound that it contains.
#[derive(Clone, Debug)]
pub struct FieldPacket {
    /// Time of arrival at the mirror, ms of the call.
    pub at_ms: f64,
    /// Time at which its sound was spoken, ms of the call.
    pub spoken_ms: f64,
    pub pt: u8,
    pub marker: bool,
    pub sequence: u16,
    pub time: u32,
    pub ssrc: u32,
    pub payload: Vec<u8>,
    /// Number of padding bytes, including the length byte.
    pub padding: u8,
    /// Sound of the packet at 8 kHz.
    pub sound: Vec<i16>,
    /// Whether the packet is missing, because it was lost or not sent.
    pub is_lost: bool,
    /// Time after which a copy of the packet arrives, ms; `None` without a copy.
    pub again_ms: Option<f64>,
    /// Number of contributing sources in the header.
    pub sources: u8,
    /// Header extension; empty without one, else whole words (RFC 3550 section 5.3.1).
    pub extension: Vec<u8>,
}

/// A call that a test builds: its messages and packets, and the sound that must be recorded.
#[derive(Clone, Debug)]
pub struct FieldCall {
    pub wire: MirroredTraffic,
    /// The sound of each side, the caller first. It consists of pieces: start in ms, and samples.
    truth: [Vec<(f64, Vec<i16>)>; 2],
    descriptions: [String; 2],
    setting: CallSetting,
}

impl CodedVoice {
    /// Reads the voice of a codec fixture: sixty packets of 20 ms, or forty of 30 ms.
    pub fn fixture(name: &str) -> Self {
        let (rtpmap, clock_hz, is_wide) = match name {
            "pcma" => ("PCMA/8000", 8_000, false),
            "pcmu" => ("PCMU/8000", 8_000, false),
            "gsm" => ("GSM/8000", 8_000, false),
            "g722" => ("G722/8000", 8_000, true),
            "g729" | "g729b" => ("G729/8000", 8_000, false),
            "ilbc_20" | "ilbc_30" => ("iLBC/8000", 8_000, false),
            "speex" | "speex_dtx" => ("speex/8000", 8_000, false),
            "speex_wb" => ("speex/16000", 16_000, true),
            "opus" | "opus_fec" | "opus_dtx" => ("opus/48000/2", 48_000, true),
            "amr" | "amr_octets" | "amr_dtx" => ("AMR/8000", 8_000, false),
            "amrwb" | "amrwb_octets" | "amrwb_dtx" => ("AMR-WB/16000", 16_000, true),
            "g726_16" => ("G726-16/8000", 8_000, false),
            "g726_24" => ("G726-24/8000", 8_000, false),
            "g726_32" => ("G726-32/8000", 8_000, false),
            "g726_40" => ("G726-40/8000", 8_000, false),
            _ => panic!("no voice {name}"),
        };
        let payloads = coded_payloads(name);
        let sound: Vec<i16> = std::fs::read(coded_path(&format!("{name}.s16")))
            .unwrap()
            .as_chunks()
            .0
            .iter()
            .map(|&pair| i16::from_le_bytes(pair))
            .collect();
        let sound = if is_wide { halved(&sound) } else { sound };
        let packet_ms = (sound.len() / 8 / payloads.len()) as u32;
        Self { rtpmap, clock_hz, packet_ms, payloads, sound }
    }

    /// Returns the same voice in other payloads of `packet_ms` each.
    pub fn with_payloads(&self, payloads: Vec<Vec<u8>>, packet_ms: u32) -> Self {
        Self { payloads, packet_ms, ..self.clone() }
    }

    /// Returns the voice with `many` payloads joined in each packet. Only for codecs without a header in the payload.
    pub fn joined(&self, many: usize) -> Self {
        let payloads = self.payloads.chunks_exact(many).map(<[Vec<u8>]>::concat).collect();
        self.with_payloads(payloads, self.packet_ms * many as u32)
    }

    /// Returns a random voice of these fixtures. If the codec allows it, each packet has one to three payloads.
    pub fn random(random: &mut Rng, names: &[&str]) -> Self {
        let name = random.choice(names).unwrap();
        let is_joinable =
            ["pcm", "gsm", "g72", "ilbc"].iter().any(|prefix| name.starts_with(prefix)) && *name != "g729b";
        let voice = Self::fixture(name);
        if is_joinable { voice.joined(*random.choice(&[1, 1, 2, 3]).unwrap()) } else { voice }
    }

    /// Returns the same voice with each payload changed by `change`.
    pub fn changed(&self, change: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        self.with_payloads(self.payloads.iter().map(|payload| change(payload)).collect(), self.packet_ms)
    }

    /// Returns the `a=rtpmap` and `a=fmtp` lines for a payload type.
    pub fn lines(&self, pt: u8, fmtp: &str) -> String {
        let fmtp = if fmtp.is_empty() { String::new() } else { format!("a=fmtp:{pt} {fmtp}\r\n") };
        format!("a=rtpmap:{pt} {}\r\n{fmtp}", self.rtpmap)
    }

    /// Returns packets for `seconds` seconds from `from_ms` on. The first packet has the payload number `start`.
    pub fn packets(&self, from_ms: f64, seconds: u32, start: usize, random: &mut Rng) -> Vec<FieldPacket> {
        let (sequence, time, ssrc, pt) = (random.u16(..), random.u32(..), random.u32(..), 96);
        let samples = 8 * self.packet_ms as usize;
        let packet = |n: u32| {
            let which = (start + n as usize) % self.payloads.len();
            let at_ms = from_ms + f64::from(n * self.packet_ms);
            FieldPacket {
                at_ms,
                spoken_ms: at_ms,
                pt,
                marker: n == 0,
                sequence: sequence.wrapping_add(n as u16),
                time: time.wrapping_add(n * self.packet_ms * (self.clock_hz / 1_000)),
                ssrc,
                payload: self.payloads[which].clone(),
                padding: 0,
                sound: self.sound[which * samples..(which + 1) * samples].to_vec(),
                is_lost: false,
                again_ms: None,
                sources: 0,
                extension: Vec::new(),
            }
        };
        (0..seconds * 1_000 / self.packet_ms).map(packet).collect()
    }
}

impl FieldCall {
    /// Begins a call with an INVITE at 0 ms and a 200 at 1,000 ms. `offer` and `answer` follow `m=audio 4000` in the
    /// session descriptions.
    pub fn answered(offer: &str, answer: &str) -> Self {
        Self::described([describe(Side::Caller, offer), describe(Side::Callee, answer)])
    }

    /// Does the same as [`FieldCall::answered`] with complete session descriptions.
    pub fn described([offer, answer]: [String; 2]) -> Self {
        let mut wire = MirroredTraffic::default();
        wire.offer(0.0, &offer);
        wire.accept(1_000.0, &answer);
        let descriptions = [offer, answer];
        Self { wire, truth: [Vec::new(), Vec::new()], descriptions, setting: CallSetting::default() }
    }

    /// Sets the circumstances of a call to which no packet was added yet.
    pub fn within(self, setting: CallSetting) -> Self {
        let descriptions = self.descriptions.clone();
        self.within_as(setting, &descriptions)
    }

    /// Sets the circumstances of a call. The later messages have the session descriptions `descriptions` (caller,
    /// callee).
    pub fn within_as(mut self, setting: CallSetting, descriptions: &[String; 2]) -> Self {
        setting.story.tell(&mut self.wire, descriptions);
        self.setting = setting;
        self
    }

    /// Begins a call in which both sides announce the codec of one voice as payload type 96.
    pub fn of(voice: &CodedVoice) -> Self {
        let line = format!("RTP/AVP 96\r\n{}", voice.lines(96, ""));
        Self::answered(&line, &line)
    }

    /// Sends packets, and adds their sound to the expected sound of the side.
    pub fn send(&mut self, side: Side, packets: &[FieldPacket]) {
        let packets = self.told(side, packets);
        for packet in packets.iter().filter(|packet| packet.spoken_ms >= 1_000.0) {
            self.truth[side.channel()].push((packet.spoken_ms, packet.sound.clone()));
        }
        self.send_unheard(side, &packets);
    }

    /// Returns the packets as the circumstances of the call change them: without those during a hold, and with early
    /// media.
    fn told(&self, side: Side, packets: &[FieldPacket]) -> Vec<FieldPacket> {
        let told = |packet: &FieldPacket| !self.setting.story.is_silent_at(packet.spoken_ms);
        // During a hold the sender encodes nothing, so its voice continues where it stopped. Packets without sound keep
        // their places.
        let is_voice = packets.iter().all(|packet| !packet.sound.is_empty());
        let mut out: Vec<FieldPacket> = Vec::new();
        for (n, packet) in packets.iter().enumerate().filter(|(_, packet)| told(packet)) {
            let coded = if is_voice { &packets[out.len()] } else { packet };
            // A pause leaves no gap in the sequence numbers.
            let sequence = packet.sequence.wrapping_sub((n - out.len()) as u16);
            let (payload, sound) = (coded.payload.clone(), coded.sound.clone());
            out.push(FieldPacket { sequence, payload, sound, ..packet.clone() });
        }
        if let (CallStory::EarlyMedia, Side::Callee, [first, second, ..]) = (self.setting.story, side, packets) {
            let (step_ms, step) = (second.spoken_ms - first.spoken_ms, second.time.wrapping_sub(first.time));
            // The voice repeats its fixture. So the payloads before the first one are those at the end of the fixture.
            // If the fixture is as long as the call, they are at the end of the call.
            let spoken: Vec<&FieldPacket> =
                packets.iter().filter(|packet| is_voice || !packet.sound.is_empty()).collect();
            let again = spoken.iter().skip(1).position(|packet| packet.payload == first.payload);
            let period = again.map_or(spoken.len(), |n| n + 1);
            let early = |n: u16| FieldPacket {
                at_ms: first.at_ms - step_ms * f64::from(n),
                spoken_ms: first.spoken_ms - step_ms * f64::from(n),
                sequence: first.sequence.wrapping_sub(n),
                time: first.time.wrapping_sub(step.wrapping_mul(n.into())),
                payload: spoken[(period - 1) - (usize::from(n) - 1) % period].payload.clone(),
                sound: spoken[(period - 1) - (usize::from(n) - 1) % period].sound.clone(),
                ..first.clone()
            };
            // A side has no early media if it begins to send later than the answer.
            let has_early = step_ms >= 10.0 && first.spoken_ms < 1_200.0;
            let count = if has_early { (600.0 / step_ms) as u16 } else { 0 };
            out.splice(0..0, (1..=count).rev().map(early));
        }
        out
    }

    /// Sends packets on the audio m-line with the port `port`, and adds their sound to the expected sound of the side.
    pub fn send_on(&mut self, port: u16, side: Side, packets: &[FieldPacket]) {
        let first = self.wire.packets.len();
        self.send(side, packets);
        for datagram in &mut self.wire.packets[first..] {
            (datagram.src, datagram.dst) = (datagram.src.with_port(port), datagram.dst.with_port(port));
        }
    }

    /// Sends packets that must not be in the recording.
    pub fn send_unheard(&mut self, side: Side, packets: &[FieldPacket]) {
        for packet in packets.iter().filter(|packet| !packet.is_lost) {
            let copy_ms = packet.again_ms.map(|later_ms| packet.at_ms + later_ms);
            for ms in std::iter::once(packet.at_ms).chain(copy_ms) {
                self.send_raw(side, ms, packet.bytes());
            }
        }
    }

    /// Sends a datagram that is not RTP audio.
    pub fn send_raw(&mut self, side: Side, ms: f64, payload: Vec<u8>) {
        self.wire.packets.push(SentDatagram { at: at_ms(ms), src: media(side), dst: media(side.other()), payload });
    }

    /// Ends the call at `ends_ms` and records it. Returns the record and the scores of both sides.
    pub fn scores(self, ends_ms: f64) -> (CallRecord, [FieldScore; 2]) {
        let network = self.setting.network;
        self.scores_of(ends_ms, |wire| network.record(wire))
    }

    /// Does the same as [`FieldCall::scores`], but records the packets by `record`.
    pub fn scores_of(
        mut self,
        ends_ms: f64,
        record: impl FnOnce(MirroredTraffic) -> RecordedCall,
    ) -> (CallRecord, [FieldScore; 2]) {
        self.wire.bye(ends_ms);
        let recorded = record(self.wire);
        let heard = channels_from_ms(&recorded, 1_000.0);
        let truth = self.truth.map(|pieces| laid(&pieces, heard[0].len()));
        (recorded.record, [0, 1].map(|n| judge(&heard[n], &truth[n], &truth[1 - n])))
    }

    /// Ends the call at `ends_ms` and records it. Returns the faults of recording and record, each beginning with
    /// `name`.
    pub fn faults(self, name: &str, ends_ms: f64, problems: &[ProblemKind]) -> Vec<String> {
        let (record, scores) = self.scores(ends_ms);
        let mut out = Vec::new();
        if record.verdict != Some(CallVerdict::BothSides) {
            out.push(format!("{:?}, {:?}", record.verdict, record.verdict_reason));
        }
        let kinds: Vec<ProblemKind> = record.problems.iter().map(|problem| problem.kind).collect();
        out.extend(problems.iter().filter(|kind| !kinds.contains(kind)).map(|kind| format!("no {kind:?}: {kinds:?}")));
        out.extend(concealed_too_long(&record));
        for (n, score) in scores.iter().enumerate() {
            out.extend(score.faults().into_iter().map(|fault| format!("side {n}: {fault}")));
        }
        out.into_iter().map(|fault| format!("{name}: {fault}")).collect()
    }
}

impl FieldPacket {
    fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0x80 | self.sources, self.pt | if self.marker { 0x80 } else { 0 }];
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.time.to_be_bytes());
        out.extend(self.ssrc.to_be_bytes());
        out.extend((0..self.sources).flat_map(|source| [0xC0, 0xFF, 0xEE, source]));
        if !self.extension.is_empty() {
            out[0] |= 0x10;
            // Extensions with one byte of header each (RFC 8285 section 4.2).
            out.extend([0xBE, 0xDE, 0, (self.extension.len() / 4) as u8]);
            out.extend(&self.extension);
        }
        out.extend_from_slice(&self.payload);
        if self.padding > 0 {
            out[0] |= 0x20;
            out.extend(std::iter::repeat_n(0, usize::from(self.padding) - 1));
            out.push(self.padding);
        }
        out
    }
}

/// Returns the seeds of a test: 0 to `usual`, or the value of the environment variable `CALLSPAN_SEEDS`. This is a
/// number (`300`) or a range (`5..6`).
pub fn seeds(usual: u64) -> Range<u64> {
    let text = std::env::var("CALLSPAN_SEEDS").unwrap_or_default();
    let (first, end) = text.split_once("..").unwrap_or(("0", &text));
    first.parse().unwrap_or(0)..end.parse().unwrap_or(usual)
}

/// Sets the payload type of all packets.
pub fn with_pt(mut packets: Vec<FieldPacket>, pt: u8) -> Vec<FieldPacket> {
    packets.iter_mut().for_each(|packet| packet.pt = pt);
    packets
}

/// Marks the frames that a sender leaves out while nobody speaks. A pause skips no sequence number (RFC 3551 section 4.1).
pub fn leave_out_pauses(packets: &mut [FieldPacket], name: &str) {
    // A frame that is not sent has no bytes in G.729, one byte in Opus and Speex, and the frame type 15 in AMR.
    let most = if name.starts_with("amr") { 2 } else { 1 };
    packets.iter_mut().filter(|packet| packet.payload.len() <= most).for_each(|packet| packet.is_lost = true);
    renumber(packets);
}

/// Gives consecutive sequence numbers to the packets that are sent.
fn renumber(packets: &mut [FieldPacket]) {
    let first = packets.first().map_or(0, |packet| packet.sequence);
    let mut sent = 0;
    for packet in packets {
        packet.sequence = first.wrapping_add(sent);
        sent += u16::from(!packet.is_lost);
    }
}

/// Joins the frames of consecutive packets. `joins` says whether a packet continues the packet before.
pub fn joined(
    packets: Vec<FieldPacket>,
    mut joins: impl FnMut(&FieldPacket, &FieldPacket) -> bool,
) -> Vec<FieldPacket> {
    let mut out: Vec<FieldPacket> = Vec::new();
    for packet in packets {
        match out.last_mut() {
            Some(last) if joins(last, &packet) => {
                last.payload.extend(packet.payload);
                last.sound.extend(packet.sound);
            }
            _ => out.push(packet),
        }
    }
    renumber(&mut out);
    out
}

/// Fails if there are faults, and prints all of them.
#[track_caller]
pub fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn concealed_too_long(record: &CallRecord) -> Option<String> {
    let concealed = [&record.sides.caller, &record.sides.callee].map(|side| side.concealed_ms.unwrap_or(0));
    (concealed.iter().max()? > &200).then(|| format!("{concealed:?} ms concealed"))
}

/// Returns both channels of a recording at 8 kHz, beginning at a time of the call.
fn channels_from_ms(recorded: &RecordedCall, from_ms: f64) -> [Vec<i16>; 2] {
    let Some(file) = recorded.record.recordings.first() else { return [vec![0; 40_000], vec![0; 40_000]] };
    let skipped = at_ms(from_ms).nanos_since(file.starts_at);
    [0, 1].map(|n| {
        let channel: Vec<i16> = recorded.frames.iter().map(|frame| frame[n]).collect();
        let channel = if file.sample_rate == 16_000 { halved(&channel) } else { channel };
        let skip = (skipped as f64 * 8_000.0 / 1e9).round() as i64;
        assert!((0..8).contains(&skip), "the recording begins with the answer, not {skip} samples before");
        channel[skip as usize..].to_vec()
    })
}

/// Returns the expected sound of one side as samples at 8 kHz. Sample 0 is at 1,000 ms of the call.
fn laid(pieces: &[(f64, Vec<i16>)], samples: usize) -> Vec<i16> {
    let mut out = vec![0_i16; samples];
    for (ms, sound) in pieces {
        let from = ((ms - 1_000.0) * 8.0).round() as usize;
        for (slot, sample) in out.iter_mut().skip(from).zip(sound) {
            *slot = slot.saturating_add(*sample);
        }
    }
    out
}
