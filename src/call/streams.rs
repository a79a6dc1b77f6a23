//! The RTP streams of one leg: what each SSRC on each flow has shown (RFC 3550).

use crate::call::decision::PayloadFormat;
use crate::call::negotiation::{Negotiation, StreamSecurity};
use crate::call::record::{Side, SideRecord, StreamRecord};
use crate::codec::Codec;
use crate::net::{Endpoint, PayloadType, SequenceNumber, Ssrc};
use crate::rtp::RtpPacket;
use crate::rtp::redundancy;
use crate::rtp::stats::{PacketArrival, StreamStats};
use crate::time::Timestamp;

/// One SSRC on one flow.
#[derive(Clone, Debug)]
pub struct RtpStream {
    /// Sender.
    pub src: Endpoint,
    /// Receiver.
    pub dst: Endpoint,
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// Whose voice.
    pub side: Side,
    stats: StreamStats,
    payloads: Vec<PayloadUse>,
    /// Voice codecs of payload types that mean another one now (RFC 3264 section 8.3.2 forbids it, and it is done).
    former: Vec<String>,
    /// Index into `payloads` of the newest packet's type.
    current: usize,
    spacing: PacketSpacing,
    security: StreamSecurity,
    /// Its sender had not announced anything yet when that was told.
    unsettled: bool,
    /// Packets that the capture cut short.
    pub cut: u64,
    /// The place of the leg that heard it before, and until when copies of what that one heard may come.
    pub taken_over: Option<(usize, Timestamp)>,
}

/// What one payload type means in a stream, as last looked up.
#[derive(Clone, Debug)]
struct PayloadUse {
    pt: PayloadType,
    packets: u64,
    format: Option<PayloadFormat>,
    /// The negotiation's generation at the last look.
    generation: u32,
    secret: bool,
    /// What a redundant packet (RFC 2198) may hold, by payload type, the voice itself first; else empty.
    within: Vec<(PayloadType, Option<PayloadFormat>)>,
    told: bool,
}

/// What the spool has to be told about a stream.
#[derive(Clone, Debug, Default)]
pub struct StreamUpdate {
    /// Payload types and what they mean from now on: the newest packet's, after those that it may hold (RED).
    pub payloads: Vec<(PayloadType, Option<PayloadFormat>)>,
    /// How the stream is protected, and since when: what its first packets were is known, sometimes, only when their
    /// sender's answer comes.
    pub security: Option<(StreamSecurity, Timestamp)>,
}

/// The distance of consecutive packets in RTP time, by majority vote.
#[derive(Clone, Copy, Debug, Default)]
struct PacketSpacing {
    last: Option<(SequenceNumber, u32)>,
    candidate: u32,
    votes: u32,
}

/// Whether a side goes on in the codec that it was last heard in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecContinuity {
    /// It does, or it is not known.
    AsBefore,
    /// It does not.
    Changed,
}

/// What the engine has to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketOutcome {
    /// A copy: nothing.
    Duplicate,
    /// Keep it.
    Packet {
        /// What it carries must not be kept (telephone-event: a digit).
        secret: bool,
        /// Its payload type is new, or something was negotiated since the last packet: ask [`RtpStream::take_news`].
        news: bool,
    },
}

impl RtpStream {
    /// A stream that begins.
    pub fn new(flow: (Endpoint, Endpoint), ssrc: Ssrc, side: Side) -> Self {
        Self {
            src: flow.0,
            dst: flow.1,
            ssrc,
            side,
            stats: StreamStats::default(),
            payloads: Vec::new(),
            former: Vec::new(),
            current: 0,
            spacing: PacketSpacing::default(),
            security: StreamSecurity::Plain,
            unsettled: false,
            cut: 0,
            taken_over: None,
        }
    }

    /// Takes in a packet. Allocates only when a payload type is new or the negotiation has moved.
    pub fn handle_packet(&mut self, at: Timestamp, packet: &RtpPacket<'_>, negotiation: &Negotiation) -> PacketOutcome {
        let clock_hz = self.clock_hz();
        let arrival = self.stats.handle(at, packet.sequence, packet.time, clock_hz);
        if arrival == PacketArrival::Duplicate {
            return PacketOutcome::Duplicate;
        }
        let news = self.note_payload(packet.pt, negotiation);
        let Some(payload) = self.payloads.get_mut(self.current) else {
            return PacketOutcome::Packet { secret: false, news: false };
        };
        payload.packets += 1;
        let secret = payload.secret || payload.holds_event(packet.payload);
        if !secret {
            self.spacing.handle_packet(packet.sequence, packet.time.0);
        }
        PacketOutcome::Packet { secret, news }
    }

    /// Whether it is this SSRC on this flow.
    pub fn is_of(&self, flow: (Endpoint, Endpoint), ssrc: Ssrc) -> bool {
        self.ssrc == ssrc && (self.src, self.dst) == flow
    }

    /// Whether this packet was heard before.
    pub fn has_heard(&self, packet: &RtpPacket<'_>) -> bool {
        self.stats.has_seen(packet.sequence, packet.time)
    }

    /// The voice codec of the newest packet.
    pub fn voice(&self) -> Option<&str> {
        let encoding = self.payloads.get(self.current)?.voice()?.encoding.as_str();
        is_speech(encoding).then_some(encoding)
    }

    /// Packets between the last one and the next are missing here and stand in the spool: whoever counts, counts there.
    pub fn forget_place(&mut self) {
        self.stats.forget_place();
        self.spacing.last = None;
    }

    /// The spool has to be told everything again: it was begun anew.
    pub fn forget_told(&mut self) {
        self.security = StreamSecurity::Plain;
        for payload in &mut self.payloads {
            // Looked up again at the next packet.
            (payload.told, payload.generation) = (false, u32::MAX);
        }
    }

    /// What has not been told yet about the newest packet's payload type and, as of `at`, about the protection of the
    /// stream. A codec that a side comes back to is told again: the packet after a decision is what a restart goes by.
    pub fn take_news(&mut self, negotiation: &Negotiation, voice: CodecContinuity, at: Timestamp) -> StreamUpdate {
        let mut news = StreamUpdate::default();
        if let Some(payload) = self.payloads.get_mut(self.current)
            && (!payload.told || voice == CodecContinuity::Changed)
        {
            payload.told = true;
            news.payloads.clone_from(&payload.within);
            news.payloads.push((payload.pt, payload.format.clone()));
        }
        let security = negotiation.security(self.side);
        if self.security != security {
            let since = if self.unsettled { self.stats.first_at().unwrap_or(at).min(at) } else { at };
            news.security = Some((security.clone(), since));
            self.security = security;
        }
        self.unsettled = negotiation.announced(self.side).is_none();
        news
    }

    /// Whether the newest packet is the first of its payload type.
    pub fn payload_is_new(&self) -> bool {
        self.payloads.get(self.current).is_some_and(|p| p.packets == 1)
    }

    /// Whether its payload is encrypted, as far as it was told.
    pub fn is_protected(&self) -> bool {
        self.security != StreamSecurity::Plain
    }

    /// The newest packet.
    pub fn last_at(&self) -> Option<Timestamp> {
        self.stats.last_at()
    }

    /// What the record says about it; `None` while it has no packet.
    pub fn record(&self) -> Option<StreamRecord> {
        let main = self.payloads.iter().max_by_key(|p| (!p.secret, p.packets))?;
        let clock_hz = main.format.as_ref().map_or(8_000, |f| f.clock_hz).max(1);
        Some(StreamRecord {
            src: self.src,
            dst: self.dst,
            ssrc: self.ssrc.to_string(),
            pt: main.pt,
            codec: main.voice().map(|f| f.encoding.clone()),
            ptime_ms: self.spacing.majority().map(|units| f64::from(units) * 1_000.0 / f64::from(clock_hz)),
            packets: self.stats.packets(),
            lost: self.stats.lost(),
            first_at: self.stats.first_at()?,
            last_at: self.stats.last_at()?,
        })
    }

    /// Voice codecs in the order of their first packet.
    pub fn codecs(&self) -> impl Iterator<Item = &str> {
        let now = self.payloads.iter().filter_map(PayloadUse::voice).map(|f| f.encoding.as_str());
        self.former.iter().map(String::as_str).chain(now).filter(|e| is_speech(e))
    }

    fn clock_hz(&self) -> u32 {
        self.payloads.get(self.current).and_then(|p| p.format.as_ref()).map_or(8_000, |f| f.clock_hz)
    }

    /// Whether `pt` is new here or the negotiation has moved since it was last looked up.
    fn note_payload(&mut self, pt: PayloadType, negotiation: &Negotiation) -> bool {
        let generation = negotiation.generation();
        if let Some(payload) = self.payloads.get(self.current)
            && payload.pt == pt
            && payload.generation == generation
        {
            return false;
        }
        let format = negotiation.payload_format(self.side, pt);
        let secret = is_event(format.as_ref());
        let redundant = format.as_ref().filter(|f| f.is(Codec::Red)).map_or("", |f| &f.fmtp);
        let within =
            redundancy::types(redundant).filter(|p| *p != pt).map(|p| (p, negotiation.payload_format(self.side, p)));
        let within: Vec<_> = within.collect();
        match self.payloads.iter().position(|p| p.pt == pt) {
            Some(at) => {
                self.current = at;
                let payload = &mut self.payloads[at];
                payload.told &= payload.format == format && payload.within == within;
                let new =
                    PayloadUse { pt, packets: payload.packets, format, generation, secret, within, told: payload.told };
                let old = std::mem::replace(payload, new);
                if let Some(before) = old.voice().filter(|f| old.packets > 0 && payload.voice() != Some(*f))
                    && self.former.len() < MAX_PAYLOADS
                    && !self.former.contains(&before.encoding)
                {
                    self.former.push(before.encoding.clone());
                }
            }
            None if self.payloads.len() < MAX_PAYLOADS => {
                self.current = self.payloads.len();
                self.payloads.push(PayloadUse { pt, packets: 0, format, generation, secret, within, told: false });
            }
            None => return false,
        }
        true
    }
}

impl PayloadUse {
    /// What is heard of it: of a redundant packet, what is in it.
    fn voice(&self) -> Option<&PayloadFormat> {
        self.within.first().map_or(&self.format, |(_, format)| format).as_ref()
    }

    /// Whether a block of a redundant packet is a telephone-event. Of one that is encrypted this cannot be seen; the
    /// events in it are left out when it is played.
    fn holds_event(&self, payload: &[u8]) -> bool {
        let event = |pt: PayloadType| self.within.iter().any(|(p, format)| *p == pt && is_event(format.as_ref()));
        !self.within.is_empty() && redundancy::blocks(payload).is_some_and(|blocks| blocks.iter().any(|b| event(b.pt)))
    }
}

/// Returns whether an encoding is a speech codec, known or unknown.
fn is_speech(encoding: &str) -> bool {
    !Codec::from_name(encoding).is_some_and(Codec::accompanies_speech)
}

fn is_event(format: Option<&PayloadFormat>) -> bool {
    format.is_some_and(|f| f.is(Codec::TelephoneEvent))
}

impl PacketSpacing {
    fn handle_packet(&mut self, sequence: SequenceNumber, time: u32) {
        if let Some((last_sequence, last_time)) = self.last
            && sequence == last_sequence.wrapping_add(1)
        {
            let units = time.wrapping_sub(last_time);
            if units == self.candidate {
                self.votes = self.votes.saturating_add(1);
            } else if self.votes == 0 {
                (self.candidate, self.votes) = (units, 1);
            } else {
                self.votes -= 1;
            }
        }
        self.last = Some((sequence, time));
    }

    fn majority(&self) -> Option<u32> {
        (self.votes > 0 && self.candidate > 0 && self.candidate < MAX_SPACING).then_some(self.candidate)
    }
}

/// The record of one side: its streams, in the order of their first packet.
pub fn side_record(streams: &[RtpStream], side: Side) -> SideRecord {
    let mut out = SideRecord::default();
    let mut jitter: f64 = 0.0;
    for stream in streams.iter().filter(|s| s.side == side) {
        let Some(record) = stream.record() else { continue };
        for codec in stream.codecs() {
            if !out.codecs.iter().any(|known| known == codec) {
                out.codecs.push(codec.to_owned());
            }
        }
        out.packets += record.packets;
        out.lost += record.lost;
        out.duplicates += stream.stats.duplicates();
        out.reordered += stream.stats.reordered();
        jitter = jitter.max(stream.stats.max_jitter_ms());
        out.streams.push(record);
    }
    if out.packets > 0 {
        out.max_jitter_ms = Some((jitter * 1_000.0).round() / 1_000.0);
    }
    out
}

/// A stream with more payload types is noise.
const MAX_PAYLOADS: usize = 16;
/// Packets further apart than this in RTP units (4 s at 48 kHz) are no spacing.
const MAX_SPACING: u32 = 192_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::negotiation::AudioDescription;
    use crate::rtp::RtpPacket;
    use crate::time::{RtpTime, Timestamp};

    /// The callee takes RED (121) of PCMU, with events (101), as it announced them.
    fn stream() -> (RtpStream, Negotiation) {
        let sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 121 0 101\r\na=rtpmap:121 RED/8000\r\na=fmtp:121 0/0/101\r\n\
                   a=rtpmap:101 telephone-event/8000\r\n";
        let mut negotiation = Negotiation::default();
        negotiation.announce(Side::Callee, AudioDescription::from_session(&crate::sdp::parse(sdp.as_bytes()).unwrap()));
        let flow = (Endpoint::v4([192, 0, 2, 1], 4000), Endpoint::v4([192, 0, 2, 2], 4000));
        (RtpStream::new(flow, Ssrc(1), Side::Caller), negotiation)
    }

    fn heard(
        stream: &mut RtpStream,
        negotiation: &Negotiation,
        sequence: SequenceNumber,
        payload: &[u8],
    ) -> PacketOutcome {
        let time = RtpTime(u32::from(sequence.0) * 160);
        let packet =
            RtpPacket { ssrc: Ssrc(1), sequence, time, pt: PayloadType(121), marker: false, header_len: 12, payload };
        stream.handle_packet(Timestamp::from_nanos(i64::from(sequence.0) * 20_000_000), &packet, negotiation)
    }

    #[test]
    fn of_redundant_audio_what_it_holds_is_told_and_named() {
        let (mut stream, negotiation) = stream();
        let told = PacketOutcome::Packet { secret: false, news: true };
        assert_eq!(heard(&mut stream, &negotiation, SequenceNumber(1), &[0, 0xFF]), told);
        let news = stream.take_news(&negotiation, CodecContinuity::AsBefore, Timestamp::EPOCH).payloads;
        let names = news.iter().map(|(pt, format)| (pt.0, format.as_ref().unwrap().encoding.as_str()));
        assert_eq!(names.collect::<Vec<_>>(), [(0, "PCMU"), (0, "PCMU"), (101, "TELEPHONE-EVENT"), (121, "RED")]);
        assert!(
            stream.take_news(&negotiation, CodecContinuity::AsBefore, Timestamp::EPOCH).payloads.is_empty(),
            "once"
        );
        assert_eq!(stream.record().unwrap().codec.as_deref(), Some("PCMU"));
        assert_eq!(stream.codecs().collect::<Vec<_>>(), ["PCMU"]);
    }

    #[test]
    fn keys_that_come_with_the_answer_hold_for_what_was_heard_before_it() {
        let describe = |port: u16| {
            let sdp = format!(
                "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio {port} RTP/SAVP 0\r\n\
                 a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n"
            );
            AudioDescription::from_session(&crate::sdp::parse(sdp.as_bytes()).unwrap())
        };
        let mut negotiation = Negotiation::default();
        negotiation.announce(Side::Caller, describe(4000));
        let flow = (Endpoint::v4([192, 0, 2, 2], 4000), Endpoint::v4([192, 0, 2, 1], 4000));
        let mut stream = RtpStream::new(flow, Ssrc(1), Side::Callee);
        let mut told = |n: u16, negotiation: &Negotiation| {
            let packet = RtpPacket {
                ssrc: Ssrc(1),
                sequence: SequenceNumber(n),
                time: RtpTime(u32::from(n) * 160),
                pt: PayloadType(0),
                marker: false,
                header_len: 12,
                payload: &[0xff; 160],
            };
            let at = Timestamp::from_nanos(i64::from(n) * 20_000_000);
            stream.handle_packet(at, &packet, negotiation);
            stream.take_news(negotiation, CodecContinuity::AsBefore, at).security
        };
        let first = Timestamp::from_nanos(5 * 20_000_000);
        assert!(matches!(told(5, &negotiation), Some((StreamSecurity::Undecryptable(_), at)) if at == first));
        negotiation.announce(Side::Callee, describe(5000));
        assert!(matches!(told(25, &negotiation), Some((StreamSecurity::Keys(_), at)) if at == first));
        assert_eq!(told(26, &negotiation), None, "once");
    }

    #[test]
    fn redundant_audio_with_a_digit_in_it_is_not_kept() {
        let (mut stream, negotiation) = stream();
        let secret = |heard| matches!(heard, PacketOutcome::Packet { secret: true, .. });
        // A repeat of an event (type 101, 160 ticks earlier, 4 bytes) before a block of PCMU, and an event alone.
        let repeated = [0x80 | 101, 0x02, 0x80, 4, 0, 5, 10, 0, 160, 0xFF];
        assert!(secret(heard(&mut stream, &negotiation, SequenceNumber(1), &repeated)));
        assert!(secret(heard(&mut stream, &negotiation, SequenceNumber(2), &[101, 5, 10, 0, 160])));
        assert!(!secret(heard(&mut stream, &negotiation, SequenceNumber(3), &[0, 0xFF, 0xFF])));
    }
}
