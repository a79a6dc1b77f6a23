//! The RTP streams of one leg: what each SSRC on each flow has shown (RFC 3550).

use crate::call::decision::PayloadFormat;
use crate::call::negotiation::{Negotiation, Security};
use crate::call::record::{Side, SideRecord, StreamRecord};
use crate::net::Endpoint;
use crate::rtp::Packet;
use crate::rtp::stats::{Arrival, StreamStats};
use crate::time::Timestamp;

/// One SSRC on one flow.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Sender.
    pub src: Endpoint,
    /// Receiver.
    pub dst: Endpoint,
    /// Its SSRC.
    pub ssrc: u32,
    /// Whose voice.
    pub side: Side,
    stats: StreamStats,
    payloads: Vec<PayloadUse>,
    /// Index into `payloads` of the newest packet's type.
    current: usize,
    spacing: Spacing,
    security: Security,
    /// Packets that the capture cut short.
    pub cut: u64,
}

/// What one payload type means in a stream, as last looked up.
#[derive(Clone, Debug)]
struct PayloadUse {
    pt: u8,
    packets: u64,
    format: Option<PayloadFormat>,
    /// The negotiation's generation at the last look.
    generation: u32,
    secret: bool,
    told: bool,
}

/// What the spool has to be told about a stream.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// A payload type and what it means from now on.
    pub payload: Option<(u8, Option<PayloadFormat>)>,
    /// How the stream is protected from now on.
    pub security: Option<Security>,
}

/// The distance of consecutive packets in RTP time, by majority vote.
#[derive(Clone, Copy, Debug, Default)]
struct Spacing {
    last: Option<(u16, u32)>,
    candidate: u32,
    votes: u32,
}

/// What the engine has to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A copy: nothing.
    Duplicate,
    /// Keep it.
    Packet {
        /// What it carries must not be kept (telephone-event: a digit).
        secret: bool,
        /// Its payload type is new, or something was negotiated since the last packet: ask [`Stream::take_news`].
        news: bool,
    },
}

impl Stream {
    /// A stream that begins.
    pub fn new(flow: (Endpoint, Endpoint), ssrc: u32, side: Side) -> Self {
        Self {
            src: flow.0,
            dst: flow.1,
            ssrc,
            side,
            stats: StreamStats::default(),
            payloads: Vec::new(),
            current: 0,
            spacing: Spacing::default(),
            security: Security::Plain,
            cut: 0,
        }
    }

    /// Takes in a packet. Allocates only when a payload type is new or the negotiation has moved.
    pub fn handle_packet(&mut self, at: Timestamp, packet: &Packet<'_>, negotiation: &Negotiation) -> Heard {
        let clock_hz = self.clock_hz();
        let arrival = self.stats.handle(at, packet.sequence, packet.time, clock_hz);
        if arrival == Arrival::Duplicate {
            return Heard::Duplicate;
        }
        let news = self.note_payload(packet.pt, negotiation);
        let Some(payload) = self.payloads.get_mut(self.current) else {
            return Heard::Packet { secret: false, news: false };
        };
        payload.packets += 1;
        let secret = payload.secret;
        if !secret {
            self.spacing.handle_packet(packet.sequence, packet.time.0);
        }
        Heard::Packet { secret, news }
    }

    /// The voice codec of the newest packet.
    pub fn voice(&self) -> Option<&str> {
        let encoding = self.payloads.get(self.current)?.format.as_ref()?.encoding.as_str();
        (!NOT_A_VOICE.contains(&encoding)).then_some(encoding)
    }

    /// The spool has to be told everything again: it was begun anew.
    pub fn forget_told(&mut self) {
        self.security = Security::Plain;
        for payload in &mut self.payloads {
            // Looked up again at the next packet.
            (payload.told, payload.generation) = (false, u32::MAX);
        }
    }

    /// What has not been told yet about the newest packet's payload type and about the protection of the stream.
    pub fn take_news(&mut self, negotiation: &Negotiation) -> News {
        let mut news = News::default();
        if let Some(payload) = self.payloads.get_mut(self.current)
            && !payload.told
        {
            payload.told = true;
            news.payload = Some((payload.pt, payload.format.clone()));
        }
        let security = negotiation.security(self.side);
        if self.security != security {
            news.security = Some(security.clone());
            self.security = security;
        }
        news
    }

    /// Whether the newest packet is the first of its payload type.
    pub fn payload_is_new(&self) -> bool {
        self.payloads.get(self.current).is_some_and(|p| p.packets == 1)
    }

    /// Whether its payload is encrypted, as far as it was told.
    pub fn is_protected(&self) -> bool {
        self.security != Security::Plain
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
            ssrc: format!("{:#010x}", self.ssrc),
            pt: main.pt,
            codec: main.format.as_ref().map(|f| f.encoding.clone()),
            ptime_ms: self.spacing.majority().map(|units| f64::from(units) * 1_000.0 / f64::from(clock_hz)),
            packets: self.stats.packets(),
            lost: self.stats.lost(),
            first_at: self.stats.first_at()?,
            last_at: self.stats.last_at()?,
        })
    }

    /// Voice codecs in the order of their first packet.
    pub fn codecs(&self) -> impl Iterator<Item = &str> {
        self.payloads
            .iter()
            .filter_map(|p| p.format.as_ref())
            .map(|f| f.encoding.as_str())
            .filter(|e| !NOT_A_VOICE.contains(e))
    }

    fn clock_hz(&self) -> u32 {
        self.payloads.get(self.current).and_then(|p| p.format.as_ref()).map_or(8_000, |f| f.clock_hz)
    }

    /// Whether `pt` is new here or the negotiation has moved since it was last looked up.
    fn note_payload(&mut self, pt: u8, negotiation: &Negotiation) -> bool {
        let generation = negotiation.generation();
        if let Some(payload) = self.payloads.get(self.current)
            && payload.pt == pt
            && payload.generation == generation
        {
            return false;
        }
        let format = negotiation.payload_format(self.side, pt);
        let secret = format.as_ref().is_some_and(|f| f.encoding == "TELEPHONE-EVENT");
        match self.payloads.iter().position(|p| p.pt == pt) {
            Some(at) => {
                self.current = at;
                let payload = &mut self.payloads[at];
                payload.told &= payload.format == format;
                (payload.generation, payload.format, payload.secret) = (generation, format, secret);
            }
            None if self.payloads.len() < MAX_PAYLOADS => {
                self.current = self.payloads.len();
                self.payloads.push(PayloadUse { pt, packets: 0, format, generation, secret, told: false });
            }
            None => return false,
        }
        true
    }
}

impl Spacing {
    fn handle_packet(&mut self, sequence: u16, time: u32) {
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
pub fn side_record(streams: &[Stream], side: Side) -> SideRecord {
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
/// What rides along with a voice but is none.
const NOT_A_VOICE: [&str; 2] = ["TELEPHONE-EVENT", "CN"];
