//! Synthetic calls of two telephones: their packets, and the recording that callspan makes of them.
//!
//! The voices are noise that never repeats. So each piece of a recording shows at which time it was sent. This module
//! has its own SIP, addresses and mu-law and shares no code with the code under test.

use std::net::IpAddr;
use std::path::Path;

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::call::engine::EngineLimits;
use callspan::call::event::{CallEvent, EndedCall, LegSink};
use callspan::call::record::{CallRecord, Side};
use callspan::decode::UdpDatagram;
use callspan::net::Endpoint;
use callspan::recording::{FolderLayout, Recorder, config::Config as RecordingConfig};
use callspan::spool::memory::MemorySpool;
use callspan::spool::{LegSource, LegStore};
use callspan::time::Timestamp;

use super::captures::replay_packets;
use super::packets::{self, CapturedFrame};

/// Capture time of millisecond 0 of every call: 2026-11-23T07:00:00Z.
pub const T0: Timestamp = Timestamp::from_secs(1_795_417_200);

/// Returns the capture time of a millisecond of the call.
pub fn at_ms(ms: f64) -> Timestamp {
    T0.offset((ms * 1e6).round() as i64)
}

/// One UDP datagram of a call.
#[derive(Clone, Debug)]
pub struct SentDatagram {
    pub at: Timestamp,
    pub src: Endpoint,
    pub dst: Endpoint,
    pub payload: Vec<u8>,
}

/// All packets of one call.
#[derive(Clone, Debug, Default)]
pub struct MirroredTraffic {
    pub packets: Vec<SentDatagram>,
    cseq: u32,
    /// Whether the callee sent the newest offer.
    is_callee_offering: bool,
}

/// One RTP packet.
#[derive(Clone, Copy, Debug)]
pub struct RtpPacket<'a> {
    pub pt: u8,
    pub sequence: u16,
    pub time: u32,
    pub ssrc: u32,
    pub payload: &'a [u8],
}

pub fn signalling(side: Side) -> Endpoint {
    Endpoint::v4([10, 0, 0, 1 + side.channel() as u8], 5060)
}

pub fn media(side: Side) -> Endpoint {
    Endpoint::v4([10, 0, 0, 1 + side.channel() as u8], 4000)
}

fn sdp(side: Side, direction: &str) -> String {
    let ip = format!("10.0.0.{}", 1 + side.channel());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 13 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
         a={direction}\r\n"
    )
}

/// Returns the session description of a side. `audio` is its m-line with the attributes.
pub fn describe(side: Side, audio: &str) -> String {
    let ip = format!("10.0.0.{}", 1 + side.channel());
    format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 4000 {audio}\r\n")
}

impl MirroredTraffic {
    /// Begins a call with an INVITE at 0 ms. It is answered at 1,000 ms, which is sample 0 of the recording.
    pub fn answered() -> Self {
        let mut wire = Self { cseq: 1, ..Self::default() };
        wire.invite(0.0, "");
        wire.answer(1_000.0);
        wire
    }

    pub fn invite(&mut self, ms: f64, head: &str) {
        self.cseq = 1;
        let body = sdp(Side::Caller, "sendrecv");
        self.message(
            ms,
            Side::Caller,
            "INVITE sip:102@10.0.0.2 SIP/2.0",
            (1, "INVITE", ""),
            head,
            ("application/sdp", &body),
        );
    }

    pub fn answer(&mut self, ms: f64) {
        let body = sdp(Side::Callee, "sendrecv");
        self.message(ms, Side::Callee, "SIP/2.0 200 OK", (1, "INVITE", ";tag=b"), "", ("application/sdp", &body));
        self.message(ms + 1.0, Side::Caller, "ACK sip:102@10.0.0.2 SIP/2.0", (1, "ACK", ";tag=b"), "", ("", ""));
    }

    /// Adds a re-INVITE of the caller and its answer. `direction` makes it a hold or a resume.
    pub fn reinvite(&mut self, ms: f64, direction: &str) {
        self.cseq += 1;
        let answer = if direction == "sendonly" { "recvonly" } else { "sendrecv" };
        let number = self.cseq;
        let (offer, answer) = (sdp(Side::Caller, direction), sdp(Side::Callee, answer));
        let sdp = "application/sdp";
        self.message(
            ms,
            Side::Caller,
            "INVITE sip:102@10.0.0.2 SIP/2.0",
            (number, "INVITE", ";tag=b"),
            "",
            (sdp, &offer),
        );
        self.message(ms + 5.0, Side::Callee, "SIP/2.0 200 OK", (number, "INVITE", ";tag=b"), "", (sdp, &answer));
        self.message(ms + 6.0, Side::Caller, "ACK sip:102@10.0.0.2 SIP/2.0", (number, "ACK", ";tag=b"), "", ("", ""));
    }

    /// Adds an INVITE of the caller with the session description `body`. The first INVITE begins the call; all later
    /// INVITEs are re-INVITEs.
    pub fn offer(&mut self, ms: f64, body: &str) {
        let to_tag = if self.cseq == 0 { "" } else { ";tag=b" };
        self.cseq += 1;
        self.is_callee_offering = false;
        let cseq = (self.cseq, "INVITE", to_tag);
        self.message(ms, Side::Caller, "INVITE sip:102@10.0.0.2 SIP/2.0", cseq, "", ("application/sdp", body));
    }

    /// Adds an in-dialog INVITE of a side with the session description `body`.
    pub fn offer_of(&mut self, side: Side, ms: f64, body: &str) {
        if side == Side::Caller {
            return self.offer(ms, body);
        }
        self.cseq += 1;
        self.is_callee_offering = true;
        let cseq = (self.cseq, "INVITE", ";tag=b");
        self.message(ms, Side::Callee, "INVITE sip:101@10.0.0.1 SIP/2.0", cseq, "", ("application/sdp", body));
    }

    /// Adds the 200 to the newest offer, with the session description `body`.
    pub fn accept(&mut self, ms: f64, body: &str) {
        self.end_offer(ms, "200 OK", ("application/sdp", body));
    }

    /// Adds the 200 to the newest offer, without session description.
    pub fn accept_silently(&mut self, ms: f64) {
        self.end_offer(ms, "200 OK", ("", ""));
    }

    /// Adds a final response to the newest offer, and its ACK.
    fn end_offer(&mut self, ms: f64, status: &str, body: (&str, &str)) {
        let number = self.cseq;
        let (by, ack) = match self.is_callee_offering {
            true => (Side::Callee, "ACK sip:101@10.0.0.1 SIP/2.0"),
            false => (Side::Caller, "ACK sip:102@10.0.0.2 SIP/2.0"),
        };
        self.message(ms, by.other(), &format!("SIP/2.0 {status}"), (number, "INVITE", ";tag=b"), "", body);
        self.message(ms + 1.0, by, ack, (number, "ACK", ";tag=b"), "", ("", ""));
    }

    /// Adds a provisional response of the callee to the INVITE, with this tag and session description.
    pub fn provisional(&mut self, ms: f64, tag: &str, body: &str) {
        let cseq = (1, "INVITE", &*format!(";tag={tag}"));
        self.message(ms, Side::Callee, "SIP/2.0 183 Session Progress", cseq, "", ("application/sdp", body));
    }

    /// Adds a refusal of the newest offer.
    pub fn refuse(&mut self, ms: f64, status: &str) {
        self.end_offer(ms, status, ("", ""));
    }

    /// Begins a call without its first messages, as if the capture began later. The next INVITE is a re-INVITE.
    pub fn under_way() -> Self {
        Self { cseq: 7, ..Self::default() }
    }

    pub fn info(&mut self, ms: f64, head: &str, (kind, body): (&str, &str)) {
        self.cseq += 1;
        let number = self.cseq;
        self.message(ms, Side::Caller, "INFO sip:102@10.0.0.2 SIP/2.0", (number, "INFO", ";tag=b"), head, (kind, body));
        self.message(ms + 5.0, Side::Callee, "SIP/2.0 200 OK", (number, "INFO", ";tag=b"), "", ("", ""));
    }

    pub fn bye(&mut self, ms: f64) {
        self.cseq += 1;
        let number = self.cseq;
        self.message(ms, Side::Caller, "BYE sip:102@10.0.0.2 SIP/2.0", (number, "BYE", ";tag=b"), "", ("", ""));
    }

    fn message(
        &mut self,
        ms: f64,
        from: Side,
        start: &str,
        (number, method, to_tag): (u32, &str, &str),
        head: &str,
        (kind, body): (&str, &str),
    ) {
        let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let is_of_callee = (from == Side::Callee) != start.starts_with("SIP/2.0");
        let parties = match is_of_callee {
            true => format!("From: <sip:102@10.0.0.2>{to_tag}\r\nTo: <sip:101@10.0.0.1>;tag=a"),
            false => format!("From: <sip:101@10.0.0.1>;tag=a\r\nTo: <sip:102@10.0.0.2>{to_tag}"),
        };
        let host = if is_of_callee { "10.0.0.2" } else { "10.0.0.1" };
        let text = format!(
            "{start}\r\nVia: SIP/2.0/UDP {host}:5060;branch=z9hG4bK{number}{method}\r\n\
             {parties}\r\nCall-ID: made-up@10.0.0.1\r\n\
             CSeq: {number} {method}\r\nContact: <sip:x@10.0.0.1>\r\n{head}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.packets.push(SentDatagram {
            at: at_ms(ms),
            src: signalling(from),
            dst: signalling(from.other()),
            payload: text.into_bytes(),
        });
    }

    pub fn rtp(&mut self, at: Timestamp, side: Side, rtp: RtpPacket<'_>) {
        let mut payload = vec![0x80, rtp.pt];
        payload.extend(rtp.sequence.to_be_bytes());
        payload.extend(rtp.time.to_be_bytes());
        payload.extend(rtp.ssrc.to_be_bytes());
        payload.extend_from_slice(rtp.payload);
        self.packets.push(SentDatagram { at, src: media(side), dst: media(side.other()), payload });
    }

    /// Returns the packets in the order of time.
    pub fn sorted(mut self) -> Vec<SentDatagram> {
        self.packets.sort_by_key(|p| p.at);
        self.packets
    }
}

/// A telephone: its voice and the state of its RTP stream.
#[derive(Clone, Debug)]
pub struct RtpPhone {
    pub side: Side,
    pub pt: u8,
    pub ssrc: u32,
    pub sequence: u16,
    pub time: u32,
    pub ptime_ms: u32,
    /// Number of samples of its voice so far, including those that were left out.
    pub said: u64,
}

impl RtpPhone {
    pub fn new(side: Side) -> Self {
        let ssrc = 0x1000 + side.channel() as u32;
        Self { side, pt: 0, ssrc, sequence: 65_530, time: u32::MAX - 4_000, ptime_ms: 20, said: 0 }
    }

    pub fn samples(&self) -> u32 {
        8 * self.ptime_ms
    }

    /// Returns the payload of the next packet.
    pub fn payload(&self) -> Vec<u8> {
        let encode = if self.pt == 8 { alaw } else { mulaw };
        (self.said..self.said + u64::from(self.samples())).map(|n| encode(voice(self.side, n))).collect()
    }

    /// Advances sequence number and timestamp by one packet, whether or not the test sends this packet.
    pub fn advance(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        self.time = self.time.wrapping_add(self.samples());
        self.said += u64::from(self.samples());
    }

    pub fn send(&mut self, wire: &mut MirroredTraffic, at: Timestamp) {
        let payload = self.payload();
        let rtp =
            RtpPacket { pt: self.pt, sequence: self.sequence, time: self.time, ssrc: self.ssrc, payload: &payload };
        wire.rtp(at, self.side, rtp);
        self.advance();
    }

    /// Talks from one time to another.
    pub fn talk(&mut self, wire: &mut MirroredTraffic, from_ms: f64, to_ms: f64) {
        let mut now = from_ms;
        while now < to_ms - 0.001 {
            self.send(wire, at_ms(now));
            now += f64::from(self.ptime_ms);
        }
    }

    /// Presses a key: ten packets of one telephone-event, of which three repeat the end (RFC 4733).
    pub fn press(&mut self, wire: &mut MirroredTraffic, from_ms: f64, code: u8) {
        let time = self.time;
        for n in 0..10_u16 {
            let end = if n >= 7 { 0x80 } else { 0 };
            let duration = (160 * (n + 1)).to_be_bytes();
            let payload = [code, end | 10, duration[0], duration[1]];
            let rtp = RtpPacket { pt: 101, sequence: self.sequence, time, ssrc: self.ssrc, payload: &payload };
            wire.rtp(at_ms(from_ms + 20.0 * f64::from(n)), self.side, rtp);
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.time = self.time.wrapping_add(1_600);
        self.said += 1_600;
    }
}

/// Returns sample `n` of a side's voice. The voice is noise at -16 dBov that never repeats (SplitMix64 of side and
/// `n`).
pub fn voice(side: Side, n: u64) -> i16 {
    let mut z = n.wrapping_add(side.channel() as u64 * 0x5851_F42D_4C95_7F2D).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z >> 48) as u16 as i16) / 4
}

/// Encodes a sample in G.711 mu-law, computed from the definition: sign, exponent, mantissa of the biased magnitude,
/// all bits inverted.
pub fn mulaw(sample: i16) -> u8 {
    let magnitude = i32::from(sample).abs().min(32_635) + 132;
    let exponent = (31 - magnitude.leading_zeros()) - 7;
    let mantissa = (magnitude >> (exponent + 3)) & 15;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | (exponent << 4) as u8 | mantissa as u8)
}

/// Encodes a sample in G.711 A-law, computed from the definition: sign, exponent, mantissa, even bits inverted.
pub fn alaw(sample: i16) -> u8 {
    let (sign, magnitude) = if sample < 0 { (0, -1 - i32::from(sample)) } else { (0x80, i32::from(sample)) };
    let magnitude = magnitude >> 3;
    let code = if magnitude < 32 {
        magnitude >> 1
    } else {
        let exponent = 31 - (magnitude as u32).leading_zeros() as i32 - 4;
        (exponent << 4) | ((magnitude >> exponent) & 15)
    };
    (sign | code as u8) ^ 0x55
}

/// The recording and the record of a call.
pub struct RecordedCall {
    pub record: CallRecord,
    pub frames: Vec<[i16; 2]>,
    /// The spool files of the legs.
    pub spools: Vec<Vec<u8>>,
    _folder: Option<tempfile::TempDir>,
}

impl RecordedCall {
    /// Returns the same call with other sound in its recording.
    pub fn with_frames(&self, frames: Vec<[i16; 2]>) -> Self {
        Self { record: self.record.clone(), frames, spools: Vec::new(), _folder: None }
    }
}

/// An engine with a spool in memory.
pub struct EngineWithSpool {
    pub engine: Engine,
    pub spool: MemorySpool,
    pub ended: Vec<EndedCall>,
}

impl EngineWithSpool {
    pub fn new(config: Config) -> Self {
        Self::with_limits(config, EngineLimits::default())
    }

    pub fn with_limits(config: Config, limits: EngineLimits) -> Self {
        let spool = MemorySpool::new(1_024, std::env::temp_dir());
        Self { engine: Engine::with_limits(config, "made up", limits), spool, ended: Vec::new() }
    }

    pub fn play(&mut self, packets: &[SentDatagram]) {
        feed(&mut self.engine, packets, &mut self.spool);
        self.ended.extend(ended(&mut self.engine));
    }

    pub fn finish(mut self) -> RecordedCall {
        self.engine.handle_end_of_capture(&mut self.spool);
        self.ended.extend(ended(&mut self.engine));
        let [call] = self.ended.as_slice() else { panic!("one call, not {}", self.ended.len()) };
        recorded(call, &self.spool, RecordingConfig::default())
    }
}

pub fn feed(engine: &mut Engine, packets: &[SentDatagram], sink: &mut dyn LegSink) {
    for packet in packets {
        let datagram = UdpDatagram {
            at: packet.at,
            src: packet.src,
            dst: packet.dst,
            payload: &packet.payload,
            wire_len: packet.payload.len() as u32,
            interface: 0,
        };
        engine.handle_datagram(&datagram, sink);
    }
}

pub fn ended(engine: &mut Engine) -> Vec<EndedCall> {
    let events = std::iter::from_fn(|| engine.poll_event());
    events.filter_map(|event| if let CallEvent::Ended(call) = event { Some(*call) } else { None }).collect()
}

/// Renders a call and returns its recording.
pub fn recorded(call: &EndedCall, store: &dyn LegStore, config: RecordingConfig) -> RecordedCall {
    let folder = tempfile::tempdir().unwrap();
    let config = RecordingConfig { dir: folder.path().to_owned(), ..config };
    let record = Recorder::new(config, FolderLayout::Flat, None).record(call, store).unwrap();
    let spools = call.legs.iter().filter_map(|leg| store.source(leg)).map(|source| match source {
        LegSource::Memory(bytes) => bytes.to_vec().expect("readable"),
        LegSource::File(path) => std::fs::read(path).unwrap(),
    });
    let frames =
        record.recordings.first().filter(|r| r.format == "wav").map(|r| wav(Path::new(&r.path))).unwrap_or_default();
    RecordedCall { spools: spools.collect(), frames, record, _folder: Some(folder) }
}

/// Records a whole call with the default configuration.
pub fn record(wire: MirroredTraffic) -> RecordedCall {
    let mut stage = EngineWithSpool::new(Config::default());
    stage.play(&wire.sorted());
    stage.finish()
}

/// Returns packets as Ethernet frames with UDP over IPv4 or IPv6.
pub fn frames(packets: &[SentDatagram]) -> Vec<CapturedFrame> {
    let frame = |(id, packet): (usize, &SentDatagram)| {
        let udp = packets::udp(packet.src.port(), packet.dst.port(), &packet.payload);
        let data = match (packet.src.ip(), packet.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                packets::ethernet(0x0800, &packets::ipv4(src.octets(), dst.octets(), 17, id as u16, &udp))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                packets::ethernet(0x86dd, &packets::ipv6_between(src.octets(), dst.octets(), 17, &udp))
            }
            ends => panic!("one version of IP, not {ends:?}"),
        };
        CapturedFrame { at_ns: packet.at.as_nanos(), data }
    };
    packets.iter().enumerate().map(frame).collect()
}

/// Records a call from a capture of these frames.
pub fn record_frames(frames: &[CapturedFrame]) -> RecordedCall {
    let result = replay_packets(frames);
    let record = result.only().clone();
    let frames = record.recordings.first().map(|file| wav(Path::new(&file.path))).unwrap_or_default();
    RecordedCall { record, frames, spools: Vec::new(), _folder: Some(result.out) }
}

pub fn wav(path: &Path) -> Vec<[i16; 2]> {
    let mut reader = hound::WavReader::open(path).unwrap();
    let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    samples.as_chunks::<2>().0.to_vec()
}
