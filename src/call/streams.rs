//! RTP streams of a leg. The packets with one SSRC on one flow are a stream (RFC 3550).

use crate::call::content::{SketchedVoice, StreamWatch, WatchedVoice};
use crate::call::decision::{Decision, PayloadFormat};
use crate::call::engine::levels::StreamLevel;
use crate::call::keys::LegKey;
use crate::call::negotiation::{Negotiation, StreamSecurity};
use crate::call::payload_judge::{MAX_EVENT_BYTES, PayloadJudge, may_be_encrypted_event};
use crate::call::record::{Side, SideRecord, StreamRecord};
use crate::codec::g711::linear_values;
use crate::codec::{Codec, CompandingLaw};
use crate::net::{Endpoint, Flow, PayloadType, SequenceNumber, Ssrc};
use crate::rtp::RtpPacket;
use crate::rtp::redundancy;
use crate::rtp::stats::{PacketArrival, StreamStats};
use crate::time::Timestamp;

/// An RTP stream: the packets with one SSRC on one flow.
#[derive(Clone, Debug)]
pub(crate) struct RtpStream {
    /// Endpoint that sends the stream's packets.
    pub(crate) src: Endpoint,
    /// Endpoint that receives the stream's packets.
    pub(crate) dst: Endpoint,
    /// SSRC of the stream's packets.
    pub(crate) ssrc: Ssrc,
    /// Side that is heard in this stream, i.e. its channel in the recording. It is the side that sends the stream,
    /// except for the second m-line of a recording session (SIPREC).
    pub(crate) side: Side,
    /// Side that sends the stream's packets.
    pub(crate) sender: Side,
    /// Number of the audio m-line to which the stream belongs, counted from 0. It is also 0 for the second m-line of a
    /// recording session, because that m-line is the main sound of the other party.
    pub(crate) line: u8,
    received: ReceivedPackets,
    formats: PayloadFormats,
    reported: ReportedState,
    /// Streams that may contain the same packets as this stream, e.g. because the mirror shows them twice.
    pub(crate) copies: StreamCopies,
    /// Facts about the beginning of the stream that its packets do not show.
    pub(crate) beginning: StreamBeginning,
    /// Running comparison of this stream's voice with other streams, which finds legs with the same sound; `None` if
    /// none is running.
    pub(crate) watch: Option<StreamWatch>,
}

/// Facts about the beginning of a stream that its packets do not show.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamBeginning {
    /// For source and destination of the stream: whether a session description of the leg had announced the endpoint.
    pub(crate) announced: [bool; 2],
    /// Capture time of the event media move that the stream caused; `None` if there was no such event.
    pub(crate) moved_at: Option<Timestamp>,
}

/// Sequence numbers and times of the packets of a stream.
#[derive(Clone, Debug, Default)]
struct ReceivedPackets {
    stats: StreamStats,
    spacing: PacketSpacing,
    /// Capture time of the leg's newest packet before a restart; `None` without a restart. The packets before it were
    /// not all read back, so the stream may have had packets until this time.
    before_restart: Option<Timestamp>,
    /// Newest level (loudness) of the voice, while the live page of the console is open; `None` otherwise.
    level: Option<StreamLevel>,
    /// Number of packets that the capture truncated.
    cut: u64,
    /// Length of the newest payload that is no event, bytes.
    voice_bytes: u32,
}

/// The payload types of a stream, with their formats.
#[derive(Clone, Debug, Default)]
struct PayloadFormats {
    uses: Vec<PayloadUse>,
    /// Earlier audio codecs of payload types, if the format of a payload type was changed. RFC 3264 section 8.3.2
    /// forbids the change, but some devices do it.
    former: Vec<String>,
    /// Index in `uses` of the newest packet's payload type.
    current: usize,
    /// Facts that put the announced formats in doubt.
    doubt: PayloadDoubt,
    /// Voice of this stream from which the leg's voice prints are made; `None` if there is none.
    sketched: Option<SketchedVoice>,
}

impl PayloadFormats {
    /// Returns the payload type of the newest packet; `None` before the first packet.
    #[inline]
    fn current(&self) -> Option<&PayloadUse> {
        self.uses.get(self.current)
    }

    /// Returns the payload type of the newest packet, mutable; `None` before the first packet.
    #[inline]
    fn current_mut(&mut self) -> Option<&mut PayloadUse> {
        self.uses.get_mut(self.current)
    }
}

/// Streams that may contain the same packets as this stream, e.g. because the mirror shows packets before and after NAT.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamCopies {
    /// Leg to which this stream belonged before. Copies of its earlier packets may arrive until the given capture time.
    pub(crate) taken_over: Option<(LegKey, Timestamp)>,
    /// Index of an earlier stream of the leg with the same SSRC and side on another flow. The two streams may have the
    /// same packets, if the mirror shows packets before and after a NAT or relay.
    pub(crate) twin: Option<usize>,
}

/// Facts that put the announced formats of a stream's payload types in doubt.
#[derive(Clone, Debug, Default)]
struct PayloadDoubt {
    /// Whether the sender uses the payload types of its own description instead of the payload types in the receiver's
    /// description.
    own_numbers: bool,
    /// The comparisons of possible formats, one for each payload type with a doubtful announced format.
    judges: Vec<PayloadJudge>,
    /// Number of packets with another format than the receiver announced for their payload type.
    mistaken: u64,
}

/// Encryption and precedence of a stream as last reported to the engine.
#[derive(Clone, Debug)]
struct ReportedState {
    security: StreamSecurity,
    /// Whether the reported encryption is provisional, because the sender's session description was not captured yet.
    is_unsettled: bool,
    /// Whether the sender has announced another address than the source of the stream since.
    is_superseded: bool,
}

impl Default for ReportedState {
    fn default() -> Self {
        Self { security: StreamSecurity::Plain, is_unsettled: false, is_superseded: false }
    }
}

/// The endpoint of a stream at one side of the leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    /// Address and port that the stream uses at this side: its source or its destination.
    pub(crate) endpoint: Endpoint,
    /// Whether a session description of the leg had announced this endpoint when the stream began.
    pub(crate) was_announced: bool,
}

/// A payload type of a stream, and the format that the negotiation gives it.
#[derive(Clone, Debug)]
struct PayloadUse {
    pt: PayloadType,
    packets: u64,
    format: Option<PayloadFormat>,
    /// Version of the negotiation from which the payload format was read. The version grows with each change.
    generation: u32,
    secret: bool,
    /// Payload types inside a packet of redundant audio (RFC 2198), the primary encoding first. Empty if the format is
    /// not redundant audio.
    within: Vec<(PayloadType, Option<PayloadFormat>)>,
    /// Whether the engine already knows this payload type of the stream.
    is_reported: bool,
    /// Capture time of the stream's first packet with this payload type.
    first_at: Timestamp,
    /// Whether a comparison of possible formats ([`PayloadJudge`]) found the format.
    is_judged: bool,
}

/// Changes of a stream, which the engine writes to the spool as decisions.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamUpdate {
    /// Payload types and their formats. The payload type of the newest packet comes last, after the payload types
    /// within redundant audio.
    pub(crate) payloads: Vec<(PayloadType, Option<PayloadFormat>)>,
    /// Capture time in the past from which the formats apply; `None` if they apply from now on.
    pub(crate) payloads_since: Option<Timestamp>,
    /// Encryption of the stream, and the capture time from which it applies; `None` if it has not changed since the
    /// last update. The time may be in the past, because the answer with the keys may be captured after the first
    /// packets.
    pub(crate) security: Option<(StreamSecurity, Timestamp)>,
    /// Whether the sender has announced another address than the source of the stream since; `None` if this has not
    /// changed.
    pub(crate) is_superseded: Option<bool>,
}

/// The usual difference between the RTP timestamps of consecutive packets. It is found by majority vote (Boyer-Moore).
#[derive(Clone, Copy, Debug, Default)]
struct PacketSpacing {
    last: Option<(SequenceNumber, u32)>,
    candidate: u32,
    votes: u32,
}

/// Whether the newest packet has another codec than the packets before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodecContinuity {
    /// The codec is the same as before, or unknown.
    AsBefore,
    /// The codec differs from the codec of the packets before.
    Changed,
}

/// Result of handling a packet of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketOutcome {
    /// The packet is a copy of an earlier packet, and must not be stored.
    Duplicate,
    /// The packet is no copy of an earlier packet and must be stored.
    Packet {
        /// Whether the payload contains a DTMF digit and must not be stored.
        secret: bool,
        /// Whether [`RtpStream::take_update`] may return changes, because the payload type or the negotiation has
        /// changed.
        news: bool,
    },
}

impl RtpStream {
    /// Returns the decision about how the stream began; `None` if nothing about it is unusual.
    pub(crate) fn origin(&self, stream: u32) -> Option<Decision> {
        let (sender, StreamBeginning { announced, moved_at }) = (self.sender, self.beginning);
        let is_usual = sender == self.side && announced == [false, false] && moved_at.is_none();
        let moved_at_ns = moved_at.map(Timestamp::as_nanos);
        (!is_usual).then_some(Decision::StreamOrigin { stream, sender, announced, moved_at_ns })
    }

    /// Creates a stream without packets. `flow` is source and destination.
    pub(crate) fn new(flow: Flow, ssrc: Ssrc, side: Side) -> Self {
        Self {
            src: flow.src,
            dst: flow.dst,
            ssrc,
            side,
            sender: side,
            line: 0,
            received: ReceivedPackets::default(),
            formats: PayloadFormats::default(),
            reported: ReportedState::default(),
            copies: StreamCopies::default(),
            beginning: StreamBeginning::default(),
            watch: None,
        }
    }

    /// Returns the number of packets that the capture truncated.
    pub(crate) const fn cut_packets(&self) -> u64 {
        self.received.cut
    }

    /// Counts a packet that the capture truncated.
    pub(crate) const fn count_cut(&mut self) {
        self.received.cut += 1;
    }

    /// Returns the endpoint of the stream at a side of its leg.
    pub(crate) fn end_of(&self, side: Side) -> StreamEnd {
        let [src, dst] = self.beginning.announced;
        if self.sender == side {
            StreamEnd { endpoint: self.src, was_announced: src }
        } else {
            StreamEnd { endpoint: self.dst, was_announced: dst }
        }
    }

    /// Reads fields that the next packet needs, so that the processor loads their memory into its cache.
    #[cfg(feature = "service")]
    #[inline]
    pub(crate) fn prefetch(&self) {
        let Self { src, dst, ssrc, received, formats, copies, watch, .. } = self;
        std::hint::black_box((
            src.port(),
            dst.port(),
            *ssrc,
            received.voice_bytes,
            formats.current,
            copies.twin,
            watch.is_some(),
        ));
        received.stats.prefetch();
    }

    /// Reads the format of the newest packet, so that the processor loads its memory into its cache.
    #[cfg(feature = "service")]
    #[inline]
    pub(crate) fn prefetch_format(&self) {
        std::hint::black_box(
            self.formats.current().map(|current| (current.generation, current.secret, self.clock_hz())),
        );
    }

    /// Handles a packet. Allocates memory only if the payload type is new or the negotiation has changed.
    pub(crate) fn handle_packet(
        &mut self,
        at: Timestamp,
        packet: &RtpPacket<'_>,
        negotiation: &Negotiation,
    ) -> PacketOutcome {
        let clock_hz = self.clock_hz();
        let arrival = self.received.stats.handle(at, packet.sequence, packet.time, clock_hz);
        if arrival == PacketArrival::Duplicate {
            return PacketOutcome::Duplicate;
        }
        let mut news = self.note_payload(packet.pt, at, negotiation);
        if self.is_no_event(packet, negotiation) {
            self.formats.doubt.own_numbers = true;
            news |= self.look_up_payload(packet.pt, at, negotiation);
        }
        if let Some(judge) = self.formats.doubt.judges.iter_mut().find(|judge| judge.pt() == packet.pt)
            && judge.handle_packet(packet)
        {
            news |= self.look_up_payload(packet.pt, at, negotiation);
        }
        self.formats.doubt.mistaken +=
            u64::from(self.formats.doubt.own_numbers || self.judged_format(packet.pt).is_some());
        let Some(payload) = self.formats.current_mut() else {
            return PacketOutcome::Packet { secret: false, news: false };
        };
        payload.packets += 1;
        let secret = payload.secret || payload.contains_event(packet.payload);
        if !secret {
            self.received.spacing.handle_packet(packet.sequence, packet.time.0);
            self.received.voice_bytes = packet.payload.len() as u32;
        }
        PacketOutcome::Packet { secret, news }
    }

    /// Returns the newest measured loudness of the stream's voice; `None` if it was not measured.
    pub(crate) const fn level(&self) -> Option<StreamLevel> {
        self.received.level
    }

    /// Returns whether the loudness of the next packet must be measured.
    pub(crate) fn is_level_due(&self, at: Timestamp) -> bool {
        StreamLevel::is_due(self.received.level, at)
    }

    /// Measures the loudness of the last packet. An encrypted packet is not measured.
    pub(crate) fn measure(&mut self, at: Timestamp, payload: &[u8]) {
        if !self.is_protected() {
            self.received.level = Some(StreamLevel::of(at, self.voice(), payload));
        }
    }

    /// Returns the linear values of the code words if the packet that was handled last is plain G.711; `None` for any
    /// other packet.
    pub(crate) fn linear_values(&self) -> Option<&'static [i16; 256]> {
        let voice = self.plain_voice().filter(|_| !self.is_protected())?;
        match Codec::from_name(voice.encoding)? {
            Codec::Pcma => Some(linear_values(CompandingLaw::A)),
            Codec::Pcmu => Some(linear_values(CompandingLaw::Mu)),
            _ => None,
        }
    }

    /// Returns the capture time of the first packet; `None` before the first packet.
    pub(crate) fn first_at(&self) -> Option<Timestamp> {
        self.received.stats.first_at()
    }

    /// Returns the capture time of the newest packet; `None` before the first.
    pub(crate) fn last_at(&self) -> Option<Timestamp> {
        self.received.stats.last_at()
    }

    /// Returns whether the stream has this flow and SSRC.
    pub(crate) fn is_stream(&self, flow: Flow, ssrc: Ssrc) -> bool {
        self.ssrc == ssrc && self.flow() == flow
    }

    /// Returns source and destination of the stream's packets.
    pub(crate) const fn flow(&self) -> Flow {
        Flow { src: self.src, dst: self.dst }
    }

    /// Returns whether a sequence number is less than MAX_DROPOUT (RFC 3550 appendix A.1) away from the newest sequence
    /// number of the stream. Returns false if the stream has no packet yet.
    pub(crate) fn is_near(&self, sequence: SequenceNumber) -> bool {
        self.received.stats.is_near(sequence)
    }

    /// Returns whether any packet of the stream had this payload type.
    pub(crate) fn has_used(&self, pt: PayloadType) -> bool {
        self.formats.uses.iter().any(|payload| payload.pt == pt && payload.packets > 0)
    }

    /// Returns whether this packet, or a copy of it, was handled before.
    pub(crate) fn has_packet(&self, packet: &RtpPacket<'_>) -> bool {
        self.received.stats.has_seen(packet.sequence, packet.time)
    }

    /// Returns the audio codec of the newest packet; `None` while the codec is in doubt.
    pub(crate) fn voice(&self) -> Option<&str> {
        let payload = self.formats.current()?;
        let is_in_doubt = self.formats.doubt.judges.iter().any(|judge| judge.pt() == payload.pt && judge.is_open());
        let encoding = payload.voice().filter(|_| !is_in_doubt)?.encoding.as_str();
        is_speech(encoding).then_some(encoding)
    }

    /// Returns the voice of the newest packet, for comparison with other streams. `None` for redundant audio, because
    /// it repeats earlier voice.
    pub(crate) fn plain_voice(&self) -> Option<WatchedVoice<'_>> {
        let payload = self.formats.current().filter(|payload| payload.within.is_empty() && !payload.secret)?;
        Some(WatchedVoice { pt: payload.pt, encoding: payload.voice()?.encoding.as_str() })
    }

    /// Sets the voice of this stream from which the leg's voice prints are made; `None` for no voice.
    pub(crate) const fn sketch(&mut self, voice: Option<SketchedVoice>) {
        self.formats.sketched = voice;
    }

    /// Returns the voice from which the voice prints of this stream are made. Returns `None` if packets of payload type
    /// `pt` do not carry it.
    #[inline]
    pub(crate) fn sketched(&self, pt: PayloadType) -> Option<SketchedVoice> {
        self.formats.sketched.filter(|voice| voice.pt == pt)
    }

    /// Makes the next packet count as consecutive, although packets before it are missing. The missing packets were
    /// captured before a restart: they are in the spool, and rendering counts them.
    pub(crate) fn accept_gap(&mut self) {
        self.received.stats.accept_gap();
        self.received.spacing.last = None;
    }

    /// Continues the stream after a restart of the recorder. `heard` is the capture time of the leg's newest packet
    /// before the restart.
    pub(crate) fn accept_restart(&mut self, heard: Timestamp) {
        self.received.before_restart = Some(heard);
        self.accept_gap();
    }

    /// Returns the latest capture time at which the stream may have had a packet; `None` before the first. After a
    /// restart this may be later than the newest known packet, because not all packets are read from the spool.
    pub(crate) fn active_until(&self) -> Option<Timestamp> {
        self.last_at().max(self.received.before_restart)
    }

    /// Returns whether the stream may be reused for another SSRC on this flow: it is not encrypted, and had no packet
    /// for [`RESTING_TIME`].
    pub(crate) fn gives_way(&self, flow: Flow, at: Timestamp) -> bool {
        let is_resting = self.active_until().is_some_and(|last| at.since(last) >= RESTING_TIME);
        self.flow() == flow && is_resting && !self.is_protected()
    }

    /// Reuses this stream for another SSRC on the same flow. The packet counters of the stream continue.
    pub(crate) fn continue_as(&mut self, ssrc: Ssrc, copies: StreamCopies) {
        (self.ssrc, self.copies, self.watch) = (ssrc, copies, None);
        self.accept_gap();
    }

    /// Makes the next packet report all facts about the stream again, e.g. because a new spool file begins.
    pub(crate) fn forget_reported(&mut self) {
        (self.reported.security, self.reported.is_superseded) = (StreamSecurity::Plain, false);
        for payload in &mut self.formats.uses {
            // No negotiation has the version `u32::MAX`, so the next packet looks the format up again and reports it.
            (payload.is_reported, payload.generation) = (false, u32::MAX);
        }
    }

    /// Returns the unreported facts about the stream at the time `at`: the payload type of the newest packet, and the
    /// encryption. Also returns whether the stream is superseded, if this has changed.
    ///
    /// A return to an earlier codec is reported again, because after a restart the last decision in the spool gives the
    /// codec.
    pub(crate) fn take_update(
        &mut self,
        negotiation: &Negotiation,
        voice: CodecContinuity,
        at: Timestamp,
    ) -> StreamUpdate {
        let mut news = StreamUpdate::default();
        if let Some(payload) = self.formats.current_mut()
            && (!payload.is_reported || voice == CodecContinuity::Changed)
        {
            payload.is_reported = true;
            news.payloads.clone_from(&payload.within);
            news.payloads.push((payload.pt, payload.format.clone()));
            let earliest = at.offset(-MAX_JUDGED_NS);
            news.payloads_since = payload.is_judged.then(|| payload.first_at.max(earliest).min(at));
        }
        let security = negotiation.security_of_flow(self.sender, self.flow());
        if self.reported.security != security {
            let since =
                if self.reported.is_unsettled { self.received.stats.first_at().unwrap_or(at).min(at) } else { at };
            news.security = Some((security.clone(), since));
            self.reported.security = security;
        }
        self.reported.is_unsettled = negotiation.announced(self.sender).is_none();
        let is_superseded = negotiation.is_superseded(self.sender, self.src);
        if std::mem::replace(&mut self.reported.is_superseded, is_superseded) != is_superseded {
            news.is_superseded = Some(is_superseded);
        }
        news
    }

    /// Returns whether the newest packet is the first packet of its payload type.
    pub(crate) fn is_new_payload_type(&self) -> bool {
        self.formats.current().is_some_and(|p| p.packets == 1)
    }

    /// Restores whether the stream is superseded, as the spool of an earlier process says.
    pub(crate) const fn restore_superseded(&mut self, is_superseded: bool) {
        self.reported.is_superseded = is_superseded;
    }

    /// Returns whether the stream is encrypted according to the last report to the engine.
    pub(crate) fn is_protected(&self) -> bool {
        !self.reported.security.is_plain()
    }

    /// Returns whether the payload of a telephone-event is readable: captured and not encrypted. Media may be encrypted
    /// although the session descriptions show no keys.
    pub(crate) fn can_read_event(&self, payload: &[u8]) -> bool {
        let is_readable = !self.is_protected() && !payload.is_empty();
        // A plain event with stray bytes is recognized by the plain voice beside it.
        is_readable && (!may_be_encrypted_event(payload) || self.has_plain_voice_form())
    }

    /// Returns whether the voice payloads are exactly as long as their timestamps say. With a tag they would be longer.
    fn has_plain_voice_form(&self) -> bool {
        let voice =
            self.formats.uses.iter().filter(|p| !p.secret).max_by_key(|p| p.packets).and_then(PayloadUse::voice);
        let Some((voice, ticks)) = voice.zip(self.received.spacing.majority()) else { return false };
        let length_ns = |bytes| voice.codec()?.duration_ns(bytes, voice.clock_hz, voice.channels);
        let spacing_ns = i64::from(ticks) * 1_000_000_000 / i64::from(voice.clock_hz.max(1));
        // A tag may be shorter than a frame, so one byte less must be too short.
        let bytes = self.received.voice_bytes;
        length_ns(bytes) == Some(spacing_ns) && length_ns(bytes.saturating_sub(1)) != Some(spacing_ns)
    }

    /// Returns the statistics of the stream for the call record; `None` before its first packet.
    pub(crate) fn record(&self) -> Option<StreamRecord> {
        let main = self.formats.uses.iter().max_by_key(|p| (!p.secret, p.packets))?;
        let clock_hz = main.format.as_ref().map_or(8_000, |f| f.clock_hz).max(1);
        Some(StreamRecord {
            src: self.src,
            dst: self.dst,
            ssrc: self.ssrc.to_string(),
            pt: main.pt,
            codec: main.voice().map(|f| f.encoding.clone()),
            ptime_ms: self.received.spacing.majority().map(|units| f64::from(units) * 1_000.0 / f64::from(clock_hz)),
            packets: self.received.stats.packets(),
            lost: self.received.stats.lost(),
            first_at: self.received.stats.first_at()?,
            last_at: self.received.stats.last_at()?,
        })
    }

    /// Returns whether this stream has audio of a known format, and uses the same flow as another stream.
    fn is_audio_beside(&self, other: &Self) -> bool {
        self.ssrc != other.ssrc
            && self.flow() == other.flow()
            && self.formats.uses.iter().any(|p| p.packets > 0 && p.voice().is_some())
    }

    /// Returns the names of the audio codecs in the order of their first packet.
    pub(crate) fn codecs(&self) -> impl Iterator<Item = &str> {
        let now = self.formats.uses.iter().filter_map(PayloadUse::voice).map(|f| f.encoding.as_str());
        self.formats.former.iter().map(String::as_str).chain(now).filter(|e| is_speech(e))
    }

    fn clock_hz(&self) -> u32 {
        self.formats.current().and_then(|p| p.format.as_ref()).map_or(8_000, |f| f.clock_hz)
    }

    /// Makes `pt` the current payload type. Returns false if neither the payload type nor the negotiation has changed
    /// since the last packet.
    fn note_payload(&mut self, pt: PayloadType, at: Timestamp, negotiation: &Negotiation) -> bool {
        let generation = negotiation.generation();
        if let Some(payload) = self.formats.current()
            && payload.pt == pt
            && payload.generation == generation
        {
            return false;
        }
        self.look_up_payload(pt, at, negotiation)
    }

    /// Returns whether a packet that is announced as telephone-event is something else, judged by its length. An event
    /// has 4 bytes (RFC 4733 section 2.3).
    ///
    /// Quirk `own_numbers`: both sides announce the same two dynamic payload types with swapped formats, and each side
    /// uses its own description.
    fn is_no_event(&self, packet: &RtpPacket<'_>, negotiation: &Negotiation) -> bool {
        let is_event = self.formats.current().is_some_and(|p| p.secret && p.pt == packet.pt);
        is_event
            && !self.formats.doubt.own_numbers
            && packet.payload.len() > MAX_EVENT_BYTES
            && negotiation.security_of_flow(self.sender, self.flow()).is_plain()
            && negotiation
                .own_format(self.sender, self.flow(), packet.pt)
                .is_some_and(|own| !own.is(Codec::TelephoneEvent))
    }

    /// Makes `pt` the current payload type, and reads its format from the negotiation. Returns false if the stream
    /// already has the maximum number of payload types.
    fn look_up_payload(&mut self, pt: PayloadType, at: Timestamp, negotiation: &Negotiation) -> bool {
        let generation = negotiation.generation();
        let (sender, flow) = (self.sender, self.flow());
        let own = if self.formats.doubt.own_numbers { negotiation.own_format(sender, flow, pt) } else { None };
        let announced = own.or_else(|| negotiation.payload_format(sender, flow, pt));
        self.raise_doubt(pt, announced.as_ref(), negotiation);
        let judged = self.judged_format(pt).cloned();
        let is_judged = judged.is_some();
        let format = judged.or(announced);
        let secret = is_event(format.as_ref());
        let redundant = format.as_ref().filter(|f| f.is(Codec::Red));
        let within = redundant.map_or_else(Vec::new, |red| negotiation.formats_within(red, sender, flow));
        match self.formats.uses.iter().position(|p| p.pt == pt) {
            Some(index) => {
                self.formats.current = index;
                let payload = &mut self.formats.uses[index];
                payload.is_reported &= payload.format == format && payload.within == within;
                let (packets, is_reported, first_at) = (payload.packets, payload.is_reported, payload.first_at);
                let new =
                    PayloadUse { pt, packets, format, generation, secret, within, is_reported, first_at, is_judged };
                let old = std::mem::replace(payload, new);
                // A payload type may have been read with a wrong format until its true format was found. The wrong
                // format is not listed as an earlier codec of the stream.
                if let Some(before) =
                    old.voice().filter(|f| old.packets > 0 && old.is_judged == is_judged && payload.voice() != Some(*f))
                    && self.formats.former.len() < MAX_PAYLOADS
                    && !self.formats.former.contains(&before.encoding)
                {
                    self.formats.former.push(before.encoding.clone());
                }
            }
            None if self.formats.uses.len() < MAX_PAYLOADS => {
                self.formats.current = self.formats.uses.len();
                // Most streams have one or two payload types. So room is reserved for one more entry only, instead of
                // the usual four.
                self.formats.uses.reserve_exact(1);
                self.formats.uses.push(PayloadUse {
                    pt,
                    packets: 0,
                    format,
                    generation,
                    secret,
                    within,
                    is_reported: false,
                    first_at: at,
                    is_judged,
                });
            }
            None => return false,
        }
        true
    }

    /// Returns the number of packets with another format than the receiver announced for their payload type.
    pub(crate) const fn mistaken_packets(&self) -> u64 {
        self.formats.doubt.mistaken
    }

    /// Returns the format that a comparison of possible formats found for a payload type. Returns `None` if there was
    /// no doubt, or no result yet.
    fn judged_format(&self, pt: PayloadType) -> Option<&PayloadFormat> {
        self.formats.doubt.judges.iter().find(|judge| judge.pt() == pt)?.true_format()
    }

    /// Begins a comparison of possible formats for a payload type, if there is doubt. There is doubt if the session
    /// descriptions of sender and receiver give the payload type different formats. There is also doubt if the payload
    /// type is not announced as audio.
    fn raise_doubt(&mut self, pt: PayloadType, announced: Option<&PayloadFormat>, negotiation: &Negotiation) {
        if self.formats.doubt.judges.iter().any(|judge| judge.pt() == pt && judge.has_announced(announced)) {
            return;
        }
        self.formats.doubt.judges.retain(|judge| judge.pt() != pt);
        let is_plain = negotiation.security_of_flow(self.sender, self.flow()).is_plain();
        if !is_plain
            || self.formats.doubt.judges.len() >= MAX_JUDGES
            || announced.is_some_and(|format| format.is(Codec::Red))
        {
            return;
        }
        let no_audio = announced.is_none_or(|format| format.is(Codec::TelephoneEvent));
        let others = negotiation.own_format(self.sender, self.flow(), pt).into_iter();
        let any = if no_audio { negotiation.formats() } else { Vec::new() };
        self.formats.doubt.judges.extend(PayloadJudge::new(pt, announced, others.chain(any)));
    }
}

impl PayloadUse {
    /// Returns the format of the audio. For redundant audio, this is the format of the primary encoding.
    fn voice(&self) -> Option<&PayloadFormat> {
        self.within.first().map_or(&self.format, |(_, format)| format).as_ref()
    }

    /// Returns whether a packet of redundant audio contains a telephone-event. In an encrypted packet this cannot be
    /// seen, and rendering leaves the event out.
    fn contains_event(&self, payload: &[u8]) -> bool {
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

/// Returns the media statistics of one side, with its streams sorted by their first packet.
pub(crate) fn side_record(streams: &[RtpStream], side: Side) -> SideRecord {
    let mut out = SideRecord::default();
    let mut jitter: f64 = 0.0;
    for stream in streams.iter().filter(|s| s.side == side) {
        let Some(record) = stream.record() else { continue };
        // The port of the audio may also carry other media, e.g. video (BUNDLE, RFC 9143). Lost packets of this media
        // are not lost sound, so they do not count for the side.
        if record.codec.is_none() && streams.iter().any(|other| other.is_audio_beside(stream)) {
            out.streams.push(record);
            continue;
        }
        for codec in stream.codecs() {
            if !out.codecs.iter().any(|known| known == codec) {
                out.codecs.push(codec.to_owned());
            }
        }
        out.packets += record.packets;
        out.lost += record.lost;
        out.duplicates += stream.received.stats.duplicates();
        out.reordered += stream.received.stats.reordered();
        jitter = jitter.max(stream.received.stats.max_jitter_ms());
        out.streams.push(record);
    }
    if out.packets > 0 {
        out.max_jitter_ms = Some((jitter * 1_000.0).round() / 1_000.0);
    }
    out
}

/// Maximum time into the past for which a newly found format applies, ns. The reader of the spool can sort entries that
/// are this late.
const MAX_JUDGED_NS: i64 = 2_000_000_000;
/// Time without a packet after which another SSRC on the same flow may continue the stream. After this time, no packet
/// of the old SSRC is still in transit. So rendering does not mistake a packet of the new SSRC for a late packet of the
/// old SSRC.
const RESTING_TIME: std::time::Duration = std::time::Duration::from_secs(5);
/// Maximum number of payload types of a stream for which the true format is determined from the payloads. A device
/// offers two or three dynamic payload types.
const MAX_JUDGES: usize = 8;
/// Maximum number of payload types of a stream. If there are more, the packets are not RTP.
const MAX_PAYLOADS: usize = 16;
/// Limit for the usual difference between the timestamps of consecutive packets, in units of the RTP clock: 4 s at 48
/// kHz. No packet contains so much sound.
const MAX_SPACING: u32 = 192_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::negotiation::AudioDescription;
    use crate::rtp::RtpPacket;
    use crate::time::{RtpTime, Timestamp};

    /// Returns a stream to a callee that announced RED (121), PCMU (0) and telephone-event (101).
    fn stream() -> (RtpStream, Negotiation) {
        let sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 121 0 101\r\na=rtpmap:121 RED/8000\r\na=fmtp:121 0/0/101\r\n\
                   a=rtpmap:101 telephone-event/8000\r\n";
        let mut negotiation = Negotiation::default();
        negotiation.announce(Side::Callee, AudioDescription::from_session(&crate::sdp::parse(sdp.as_bytes()).unwrap()));
        let flow = Flow { src: Endpoint::v4([192, 0, 2, 1], 4000), dst: Endpoint::v4([192, 0, 2, 2], 4000) };
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
    fn redundant_audio_reports_the_formats_it_contains() {
        let (mut stream, negotiation) = stream();
        let told = PacketOutcome::Packet { secret: false, news: true };
        assert_eq!(heard(&mut stream, &negotiation, SequenceNumber(1), &[0, 0xFF]), told);
        let news = stream.take_update(&negotiation, CodecContinuity::AsBefore, Timestamp::EPOCH).payloads;
        let names = news.iter().map(|(pt, format)| (pt.0, format.as_ref().unwrap().encoding.as_str()));
        assert_eq!(names.collect::<Vec<_>>(), [(0, "PCMU"), (0, "PCMU"), (101, "TELEPHONE-EVENT"), (121, "RED")]);
        assert!(
            stream.take_update(&negotiation, CodecContinuity::AsBefore, Timestamp::EPOCH).payloads.is_empty(),
            "once"
        );
        assert_eq!(stream.record().unwrap().codec.as_deref(), Some("PCMU"));
        assert_eq!(stream.codecs().collect::<Vec<_>>(), ["PCMU"]);
    }

    #[test]
    fn keys_of_the_answer_apply_to_packets_before_the_answer() {
        let describe = |port: u16| {
            let sdp = format!(
                "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio {port} RTP/SAVP 0\r\n\
                 a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n"
            );
            AudioDescription::from_session(&crate::sdp::parse(sdp.as_bytes()).unwrap())
        };
        let mut negotiation = Negotiation::default();
        negotiation.announce(Side::Caller, describe(4000));
        let flow = Flow { src: Endpoint::v4([192, 0, 2, 2], 4000), dst: Endpoint::v4([192, 0, 2, 1], 4000) };
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
            stream.take_update(negotiation, CodecContinuity::AsBefore, at).security
        };
        let first = Timestamp::from_nanos(5 * 20_000_000);
        assert!(matches!(told(5, &negotiation), Some((StreamSecurity::Undecryptable(_), at)) if at == first));
        negotiation.announce(Side::Callee, describe(5000));
        assert!(matches!(told(25, &negotiation), Some((StreamSecurity::Keys { .. }, at)) if at == first));
        assert_eq!(told(26, &negotiation), None, "once");
    }

    #[test]
    fn redundant_audio_with_a_digit_is_secret() {
        let (mut stream, negotiation) = stream();
        let secret = |heard| matches!(heard, PacketOutcome::Packet { secret: true, .. });
        // Two packets of redundant audio. The first repeats an event (payload type 101, 160 timestamp units earlier, 4
        // bytes) before a block of PCMU. The second has an event alone. So both must not be stored.
        let repeated = [0x80 | 101, 0x02, 0x80, 4, 0, 5, 10, 0, 160, 0xFF];
        assert!(secret(heard(&mut stream, &negotiation, SequenceNumber(1), &repeated)));
        assert!(secret(heard(&mut stream, &negotiation, SequenceNumber(2), &[101, 5, 10, 0, 160])));
        assert!(!secret(heard(&mut stream, &negotiation, SequenceNumber(3), &[0, 0xFF, 0xFF])));
    }
}
