//! The first rendering pass: turns decisions and RTP headers into a [`RenderPlan`] with the playout time of each
//! packet.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::clock_rate::{ClockObservation, ClockRateDetector, MediaClock};
use super::codec;
use super::codec::g726::PackingJudge;
use super::packet::{self, CapturedPayload, RtpHeaderFields};
use super::report::{RenderError, UndecryptableReason};
use super::rtp_clock::{MediaPosition, PacketTiming, TimestampUnwrapper, TimingUnit};
use super::second_look::{ClockPolicy, TimelineFit};
use super::stats_from_spool::SpoolStats;
use super::timeline::{LagTimeline, LagTrack, PlayoutOffset};
use crate::call::decision::{Decision, PayloadFormat, SrtpContext, TimedDecision};
use crate::call::record::{EndedBy, Side, SideRecord};
use crate::codec::Codec;
use crate::net::{Endpoint, PayloadType, Ssrc};
use crate::rtp::redundancy;
use crate::spool::reader::{LegSource, PacketEntry, SpoolEntry};
use crate::time::Timestamp;

/// Parameters of rendering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Samples per second; `None`: 8000, or 16000 when a side has a wideband codec.
    pub sample_rate: Option<u32>,
    /// Ignores everything spooled after this moment; `None`: renders all of it.
    pub until: Option<Timestamp>,
}

/// The playout times of all packets of a leg. It grows with the call: about 100 bytes for each second of a side.
#[derive(Clone, Debug)]
pub struct RenderPlan {
    /// Moment of sample 0, in whole microseconds.
    pub starts_at: Timestamp,
    /// Moment after the last sample, in whole microseconds.
    pub ends_at: Timestamp,
    /// Samples per second.
    pub sample_rate: u32,
    /// Samples of each channel; 0 when no part of the leg is to be recorded.
    pub samples: u64,
    /// The engine's counts; `None` when the spool has no end of the leg.
    pub ended: Option<SpooledEnd>,
    /// The streams by the number that the spool gives them.
    pub(super) streams: BTreeMap<u32, StreamPlan>,
    /// Spans that stay silent, in order of time: from, to.
    pub(super) pauses: Vec<(Timestamp, Timestamp)>,
    /// True if the spool ended in the middle of a block.
    pub torn_tail: bool,
    /// True if at least one packet has a format with a decoder.
    pub has_sound: bool,
    /// True if the counts in `ended` were taken from the spool, because the engine was restarted during the call.
    pub recounted: bool,
}

/// The end of a leg as the engine spooled it.
#[derive(Clone, Debug, PartialEq)]
pub struct SpooledEnd {
    /// The reason for the end.
    pub by: EndedBy,
    /// The engine's counts of both sides, caller first.
    pub sides: [SideRecord; 2],
}

/// The clock to be used for each pair of payload type and announced clock (Hz).
type MediaClocks = HashMap<(PayloadType, u32), MediaClock, foldhash::fast::FixedState>;

/// The playout times of one stream.
#[derive(Clone, Debug)]
pub(super) struct StreamPlan {
    pub(super) side: Side,
    pub(super) ssrc: Ssrc,
    /// Arrival of the first packet that has a playout time.
    first_at: Timestamp,
    clocks: MediaClocks,
    tracks: Vec<LagTimeline>,
    /// Maps a track of a few late packets to the track they belong to.
    aliases: HashMap<usize, usize>,
    pub(super) drift_ppm: Option<f64>,
    /// Packets, if a new track begins every few of them: their sound is hardly where it was heard.
    pub(super) scattered_packets: u64,
    /// Announced formats, and the formats that the payloads have.
    corrections: Vec<(Arc<PayloadFormat>, Arc<PayloadFormat>)>,
}

impl RenderPlan {
    /// Sets the recorded span, in whole microseconds, in place of the one in the decisions.
    pub(crate) fn set_span(&mut self, starts_at: Timestamp, ends_at: Timestamp) {
        self.starts_at = starts_at;
        self.ends_at = ends_at.max(starts_at);
        self.samples = samples_between(self.starts_at, self.ends_at, self.sample_rate);
    }

    /// Returns whether the recording was never paused.
    #[cfg(feature = "service")]
    pub(crate) fn has_no_pause(&self) -> bool {
        self.pauses.is_empty()
    }

    /// Returns the position of a moment in samples from the start. It may lie outside the recording.
    pub(super) fn position(&self, at: Timestamp) -> f64 {
        at.nanos_since(self.starts_at) as f64 * f64::from(self.sample_rate) / 1e9
    }
}

impl StreamPlan {
    /// Returns the playout time of a packet. Both passes call this for the same packets in the same order: those for
    /// which [`is_on_timeline`] holds.
    pub(super) fn playout_time(
        &self,
        unwrapper: &mut TimestampUnwrapper,
        packet: ArrivedPacket,
        format: &PayloadFormat,
    ) -> Option<PlayoutTime> {
        let clock = self.clock(packet.head.pt, format);
        let at_ns = packet.at.nanos_since(self.first_at);
        let position = unwrapper.handle_packet(at_ns, packet.timing(clock));
        let (track, position) = match self.aliases.get(&position.track) {
            // The packet takes the current segment of the track it belongs to.
            Some(&track) => (track, MediaPosition { track, index: unwrapper.newest_index(track), ..position }),
            None => (position.track, position),
        };
        let PlayoutOffset { playout_ns, segment } = self.tracks.get(track)?.playout(&position);
        Some(PlayoutTime {
            at: self.first_at.offset(playout_ns),
            media_ns: position.media_ns,
            segment: (track, segment),
        })
    }

    /// Returns the format that payloads announced as `format` have, if it is another one.
    pub(super) fn correction(&self, format: &PayloadFormat) -> Option<&Arc<PayloadFormat>> {
        self.corrections.iter().find(|(announced, _)| **announced == *format).map(|(_, sent)| sent)
    }

    /// Returns whether packets of this format are placed by sequence number, because their RTP timestamps are useless.
    pub(super) fn is_counted(&self, pt: PayloadType, format: &PayloadFormat) -> bool {
        matches!(self.clock(pt, format), MediaClock::Counted { .. })
    }

    fn clock(&self, pt: PayloadType, format: &PayloadFormat) -> MediaClock {
        self.clocks.get(&(pt, format.clock_hz)).copied().unwrap_or(MediaClock::Clock(format.clock_hz))
    }
}

/// Arrival time and header of an RTP packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArrivedPacket {
    pub(super) at: Timestamp,
    pub(super) head: RtpHeaderFields,
    /// Duration of the sound, ns; `None` if the codec does not say it, or SRTP hides it.
    length_ns: Option<i64>,
}

impl ArrivedPacket {
    /// Returns the arrival of a packet of a known stream.
    pub(super) fn new(packet: &PacketEntry<'_>, head: RtpHeaderFields, known: &DecidedStream) -> Self {
        let plain = matches!(known.protection, StreamProtection::Plain) && known.former_keys.is_none();
        let format = known.formats.get(&head.pt).and_then(Option::as_deref).filter(|_| plain);
        let length_ns = format.and_then(|format| match packet::read_payload(packet) {
            CapturedPayload::Whole(payload) => codec::duration_ns(format, payload),
            _ => codec::duration_of_bytes(format, packet::payload_bytes(packet)?),
        });
        Self { at: packet.at, head, length_ns }
    }

    fn timing(&self, clock: MediaClock) -> PacketTiming {
        let unit = match clock {
            MediaClock::Clock(hz) => TimingUnit::Ticks(hz),
            MediaClock::Counted { packet_ns } => TimingUnit::Packets(self.length_ns.unwrap_or(packet_ns)),
        };
        PacketTiming { time: self.head.time, sequence: self.head.sequence, unit }
    }
}

/// The moment at which a packet's sound was heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PlayoutTime {
    pub(super) at: Timestamp,
    pub(super) media_ns: i64,
    /// Track and segment. Within a segment, sound continues without a gap or overlap.
    pub(super) segment: (usize, usize),
}

/// The streams and payload types decided so far. Each pass keeps its own.
#[derive(Clone, Debug, Default)]
pub(super) struct DecidedStreams {
    by_flow: HashMap<(Endpoint, Endpoint, Ssrc), u32, foldhash::fast::FixedState>,
    pub(super) streams: HashMap<u32, DecidedStream, foldhash::fast::FixedState>,
    keys: u32,
}

/// The decisions about one stream.
#[derive(Clone, Debug)]
pub(super) struct DecidedStream {
    pub(super) side: Side,
    pub(super) ssrc: Ssrc,
    pub(super) formats: HashMap<PayloadType, Option<Arc<PayloadFormat>>, foldhash::fast::FixedState>,
    pub(super) protection: StreamProtection,
    /// The last keys, after the signalling ended the encryption. A sender may go on with them for a while, e.g. until
    /// the answer (RFC 3264 section 8).
    pub(super) former_keys: Option<(SrtpContext, u32)>,
}

/// The encryption of a stream.
#[derive(Clone, Debug)]
pub(super) enum StreamProtection {
    /// No encryption.
    Plain,
    /// SRTP with keys from the signalling, and the number of the decision that had them.
    Keys(SrtpContext, u32),
    /// Encryption that callspan cannot undo.
    Closed(UndecryptableReason),
}

impl DecidedStreams {
    /// Applies a decision about streams.
    pub(super) fn handle_decision(&mut self, decision: &Decision) {
        match decision {
            Decision::Stream { stream, src, dst, ssrc, side } => {
                self.by_flow.insert((*src, *dst, *ssrc), *stream);
                let known = self.streams.entry(*stream).or_insert_with(|| DecidedStream {
                    side: *side,
                    ssrc: *ssrc,
                    formats: HashMap::default(),
                    protection: StreamProtection::Plain,
                    former_keys: None,
                });
                known.side = *side;
            }
            Decision::Payload { stream, pt, format } => {
                if let Some(known) = self.streams.get_mut(stream) {
                    known.formats.insert(*pt, format.clone().map(Arc::new));
                }
            }
            Decision::Srtp { stream, context } => {
                self.keys += 1;
                if let Some(known) = self.streams.get_mut(stream) {
                    known.protection = StreamProtection::Keys(context.clone(), self.keys);
                    known.former_keys = None;
                }
            }
            Decision::Plain { stream } => {
                if let Some(known) = self.streams.get_mut(stream) {
                    known.end_keys(StreamProtection::Plain);
                }
            }
            Decision::Encrypted { stream, why } => {
                if let Some(known) = self.streams.get_mut(stream) {
                    known.end_keys(StreamProtection::Closed((*why).into()));
                }
            }
            _ => {}
        }
    }

    /// Returns the number of the stream that a packet belongs to.
    pub(super) fn stream_of(&self, packet: &PacketEntry<'_>, head: &RtpHeaderFields) -> Option<u32> {
        self.by_flow.get(&(packet.src, packet.dst, head.ssrc)).copied()
    }
}

impl DecidedStream {
    /// Replaces the protection and remembers the keys so far.
    fn end_keys(&mut self, protection: StreamProtection) {
        if let StreamProtection::Keys(context, decision) = std::mem::replace(&mut self.protection, protection) {
            self.former_keys = Some((context, decision));
        }
    }
}

/// Returns whether packets of a format get a playout time. A telephone-event repeats the timestamp of the event's start
/// (RFC 4733 section 2.2.2) and would pull the timeline back.
pub(super) fn is_on_timeline(format: &PayloadFormat) -> bool {
    !format.is(Codec::TelephoneEvent) && format.clock_hz > 0
}

/// Reads a spool once and computes the playout time of every packet.
///
/// # Errors
/// When the spool cannot be read.
pub fn plan(source: &LegSource, options: &RenderOptions) -> Result<RenderPlan, RenderError> {
    let mut pass = PlanPass::default();
    let torn_tail = read_until(source, options.until, &mut |entry| match entry {
        SpoolEntry::Decided(decided) => pass.handle_decided(decided),
        SpoolEntry::Packet(datagram) => pass.handle_datagram(&datagram),
    })?;
    pass.look_again(source, options.until)?;
    if pass.is_miscounted
        && let Some(ended) = &mut pass.ended
    {
        SpoolStats::of(source, options.until)?.replace_counts(&mut ended.sides);
    }
    Ok(pass.finish(options, torn_tail))
}

/// Reads all entries up to a moment. Returns true if the spool ended in the middle of a block.
pub(super) fn read_until(
    source: &LegSource,
    until: Option<Timestamp>,
    each: &mut dyn FnMut(SpoolEntry<'_>),
) -> Result<bool, RenderError> {
    let mut reader = source.open()?;
    let until = until.unwrap_or(Timestamp::MAX);
    while let Some(entry) = reader.next_entry()? {
        match &entry {
            SpoolEntry::Decided(decided) if decided.at() <= until => each(entry),
            SpoolEntry::Packet(packet) if packet.at <= until => each(entry),
            SpoolEntry::Decided(TimedDecision { decision: Decision::Begin { .. }, .. }) => {}
            // Entries are in order of time: nothing earlier follows.
            SpoolEntry::Decided(_) | SpoolEntry::Packet(_) => break,
        }
    }
    Ok(reader.torn_tail())
}

/// The state of the first pass.
#[derive(Debug, Default)]
struct PlanPass {
    known: DecidedStreams,
    streams: BTreeMap<u32, StreamCollector>,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    ended: Option<SpooledEnd>,
    pauses: Vec<(Timestamp, Timestamp)>,
    last_packet_at: Option<Timestamp>,
    widest_hz: u32,
    /// True if the engine's counts are wrong.
    is_miscounted: bool,
    policy: ClockPolicy,
    /// The streams to be looked at again; `None`: all.
    only: Option<BTreeSet<u32>>,
}

impl PlanPass {
    fn handle_decided(&mut self, decided: &TimedDecision) {
        let at = decided.at();
        self.known.handle_decision(&decided.decision);
        match &decided.decision {
            Decision::Start => self.starts_at = Some(self.starts_at.map_or(at, |start| start.min(at))),
            Decision::End { ended_by, caller, callee } => {
                self.ends_at = Some(at);
                self.ended = Some(SpooledEnd { by: *ended_by, sides: [caller.clone(), callee.clone()] });
            }
            Decision::Restart { .. } => self.is_miscounted = true,
            Decision::Pause if self.pauses.last().is_none_or(|&(_, to)| to != Timestamp::MAX) => {
                self.pauses.push((at, Timestamp::MAX));
            }
            Decision::Resume => {
                if let Some((_, to)) = self.pauses.last_mut().filter(|(from, to)| *to == Timestamp::MAX && *from <= at)
                {
                    *to = at;
                }
            }
            _ => {}
        }
    }

    fn handle_datagram(&mut self, datagram: &PacketEntry<'_>) {
        self.last_packet_at = Some(self.last_packet_at.map_or(datagram.at, |last| last.max(datagram.at)));
        for (n, packet) in packet::split_joined(datagram).enumerate() {
            self.handle_packet(&packet);
            if n > 0 {
                // The engine counted the other packets of the datagram as lost.
                self.is_miscounted = true;
            }
        }
    }

    fn handle_packet(&mut self, packet: &PacketEntry<'_>) {
        let Some(head) = packet::read_header(packet) else { return };
        let Some(number) = self.known.stream_of(packet, &head) else { return };
        let Some(known) = self.known.streams.get(&number) else { return };
        let Some(Some(format)) = known.formats.get(&head.pt) else { return };
        if !is_on_timeline(format) || self.only.as_ref().is_some_and(|only| !only.contains(&number)) {
            return;
        }
        let collector =
            self.streams.entry(number).or_insert_with(|| StreamCollector::new(known, packet.at, self.policy));
        if !matches!(known.protection, StreamProtection::Closed(_)) && collector.is_new(format) {
            // One wideband codec makes the recording wideband. Comfort noise has no bandwidth of its own.
            self.widest_hz = self.widest_hz.max(sampling_rate_hz(known, format));
        }
        if self.policy == ClockPolicy::Detect && matches!(known.protection, StreamProtection::Plain) {
            collector.judge_packing(head.pt, format, packet);
        }
        collector.handle_packet(ArrivedPacket::new(packet, head, known), format);
    }

    /// Tries other clocks for the streams whose timeline raises doubts, and keeps the calmest timeline.
    fn look_again(&mut self, source: &LegSource, until: Option<Timestamp>) -> Result<(), RenderError> {
        self.streams.values_mut().for_each(StreamCollector::place_pending);
        let doubtful = self.streams.iter().filter(|(_, stream)| stream.fit().is_doubtful());
        let doubtful: BTreeSet<u32> = doubtful.map(|(number, _)| *number).collect();
        if doubtful.is_empty() {
            return Ok(());
        }
        for policy in ClockPolicy::ALTERNATIVES {
            let mut again = PlanPass { policy, only: Some(doubtful.clone()), ..PlanPass::default() };
            read_until(source, until, &mut |entry| match entry {
                SpoolEntry::Decided(decided) => again.known.handle_decision(&decided.decision),
                SpoolEntry::Packet(datagram) => {
                    packet::split_joined(&datagram).for_each(|packet| again.handle_packet(&packet));
                }
            })?;
            for (number, mut other) in again.streams {
                other.place_pending();
                if let Some(stream) = self.streams.get_mut(&number)
                    && other.fit().is_calmer_than(&stream.fit())
                {
                    other.packings = std::mem::take(&mut stream.packings);
                    *stream = other;
                }
            }
        }
        Ok(())
    }

    fn finish(self, options: &RenderOptions, torn_tail: bool) -> RenderPlan {
        // After a crash or with a torn tail, the last packet is the end.
        let ends_at = self.ends_at.or(self.last_packet_at);
        let (starts_at, ends_at) = match (self.starts_at, ends_at) {
            (Some(start), Some(end)) => (start.floor_micros(), end.floor_micros().max(start.floor_micros())),
            (None, Some(end)) => (end.floor_micros(), end.floor_micros()),
            (start, None) => {
                let at = start.unwrap_or(Timestamp::EPOCH).floor_micros();
                (at, at)
            }
        };
        let ends_at = ends_at.min(starts_at + MAX_DURATION);
        let wide = if self.widest_hz > NARROW_HZ { WIDE_HZ } else { NARROW_HZ };
        let sample_rate = options.sample_rate.unwrap_or(wide).max(1);
        let streams = self.streams.into_iter().map(|(number, collector)| (number, collector.finish())).collect();
        RenderPlan {
            starts_at,
            ends_at,
            sample_rate,
            samples: samples_between(starts_at, ends_at, sample_rate),
            ended: self.ended,
            streams,
            pauses: self.pauses,
            torn_tail,
            has_sound: self.widest_hz > 0,
            recounted: self.is_miscounted,
        }
    }
}

/// Returns the sampling rate of the sound in packets of a format, in Hz; 0 when there is no decoder.
fn sampling_rate_hz(known: &DecidedStream, format: &PayloadFormat) -> u32 {
    let rate = |format: &PayloadFormat| codec::decoder_for(format).map_or(0, |decoder| decoder.sample_rate_hz());
    if !format.is(Codec::Red) {
        return rate(format);
    }
    let within = redundancy::payload_types(&format.fmtp).filter_map(|pt| known.formats.get(&pt)?.as_deref());
    within.map(rate).max().unwrap_or(0)
}

/// Returns the number of samples of a channel between two moments: `round((to - from) * rate)`.
pub(crate) fn samples_between(from: Timestamp, to: Timestamp, sample_rate: u32) -> u64 {
    let ns = i128::from(to.nanos_since(from).max(0));
    u64::try_from((ns * i128::from(sample_rate) + 500_000_000) / 1_000_000_000).unwrap_or(0)
}

/// Data that the first pass collects about one stream.
#[derive(Debug)]
struct StreamCollector {
    side: Side,
    ssrc: Ssrc,
    first_at: Timestamp,
    /// Packets that wait until the clock of the oldest packet's format is known.
    pending: VecDeque<PendingPacket>,
    finders: HashMap<(PayloadType, u32), ClockRateDetector>,
    clocks: MediaClocks,
    formats_seen: HashSet<Arc<PayloadFormat>>,
    /// Format of the last packet.
    format: Option<Arc<PayloadFormat>>,
    unwrapper: TimestampUnwrapper,
    tracks: Vec<LagTrack>,
    policy: ClockPolicy,
    /// The packing of G.726 formats.
    packings: Vec<(PayloadType, Arc<PayloadFormat>, Box<PackingJudge>)>,
}

/// A packet that waits, with its format's clock.
#[derive(Clone, Copy, Debug)]
struct PendingPacket {
    packet: ArrivedPacket,
    clock_hz: u32,
}

impl PendingPacket {
    fn key(&self) -> (PayloadType, u32) {
        (self.packet.head.pt, self.clock_hz)
    }
}

impl StreamCollector {
    fn new(known: &DecidedStream, first_at: Timestamp, policy: ClockPolicy) -> Self {
        Self {
            side: known.side,
            ssrc: known.ssrc,
            first_at,
            policy,
            packings: Vec::new(),
            pending: VecDeque::new(),
            finders: HashMap::new(),
            clocks: HashMap::default(),
            formats_seen: HashSet::new(),
            format: None,
            unwrapper: TimestampUnwrapper::default(),
            tracks: Vec::new(),
        }
    }

    /// Returns whether a packet is the first of its format.
    fn is_new(&mut self, format: &Arc<PayloadFormat>) -> bool {
        // Nearly always the format of the previous packet: comparing pointers is enough.
        if self.format.as_ref() == Some(format) {
            return false;
        }
        self.format = Some(Arc::clone(format));
        self.formats_seen.insert(Arc::clone(format))
    }

    fn handle_packet(&mut self, packet: ArrivedPacket, format: &PayloadFormat) {
        let now = PendingPacket { packet, clock_hz: format.clock_hz };
        let clock = self.clocks.get(&now.key()).copied();
        if self.pending.is_empty()
            && let Some(clock) = clock
        {
            return self.place_on_track(now, clock);
        }
        if clock.is_none() {
            let finder = self.finders.entry(now.key()).or_insert_with(|| ClockRateDetector::new(format));
            let (at_ns, head) = (packet.at.as_nanos(), packet.head);
            finder.handle_packet(ClockObservation {
                at_ns,
                sequence: head.sequence,
                time: head.time,
                length_ns: packet.length_ns,
            });
            if finder.has_enough() {
                self.fix_clock(now.key());
            }
        }
        self.pending.push_back(now);
        while let Some(&first) = self.pending.front() {
            let clock = match self.clocks.get(&first.key()) {
                Some(clock) => *clock,
                None if self.pending.len() < MAX_PENDING => break,
                None => self.fix_clock(first.key()),
            };
            self.pending.pop_front();
            self.place_on_track(first, clock);
        }
    }

    /// Decides the clock of a format from the packets so far.
    fn fix_clock(&mut self, key: (PayloadType, u32)) -> MediaClock {
        let clock = match (self.policy, self.finders.get(&key)) {
            (ClockPolicy::Detect, Some(finder)) => finder.media_clock(),
            (ClockPolicy::Counted, Some(finder)) => finder.counted_clock(),
            (ClockPolicy::Announced, _) | (_, None) => MediaClock::Clock(key.1),
        };
        self.clocks.insert(key, clock);
        clock
    }

    fn place_on_track(&mut self, PendingPacket { packet, .. }: PendingPacket, clock: MediaClock) {
        let at_ns = packet.at.nanos_since(self.first_at);
        let position = self.unwrapper.handle_packet(at_ns, packet.timing(clock));
        if position.track >= self.tracks.len() {
            self.tracks.resize_with(position.track + 1, LagTrack::default);
        }
        self.tracks[position.track].handle_packet(at_ns, &position);
    }

    /// Places the packets that still wait for their clock.
    fn place_pending(&mut self) {
        while let Some(first) = self.pending.pop_front() {
            let clock = self.clocks.get(&first.key()).copied();
            let clock = clock.unwrap_or_else(|| self.fix_clock(first.key()));
            self.place_on_track(first, clock);
        }
    }

    fn fit(&self) -> TimelineFit {
        TimelineFit::of(&self.tracks)
    }

    /// Shows the payload of a G.726 packet to the judge of its packing.
    fn judge_packing(&mut self, pt: PayloadType, format: &Arc<PayloadFormat>, packet: &PacketEntry<'_>) {
        let index = self.packings.iter().position(|(known, of, _)| *known == pt && Arc::ptr_eq(of, format));
        let index = match index {
            Some(index) => index,
            None if self.packings.len() < MAX_PACKINGS => {
                let Some(judge) = PackingJudge::new(format) else { return };
                self.packings.push((pt, Arc::clone(format), Box::new(judge)));
                self.packings.len() - 1
            }
            None => return,
        };
        if let CapturedPayload::Whole(payload) = packet::read_payload(packet) {
            self.packings[index].2.handle_payload(payload);
        }
    }

    fn finish(mut self) -> StreamPlan {
        self.place_pending();
        let fit = self.fit();
        let timelines: Vec<LagTimeline> = self.tracks.iter().map(LagTrack::timeline).collect();
        StreamPlan {
            side: self.side,
            ssrc: self.ssrc,
            first_at: self.first_at,
            aliases: aliases(&self.tracks),
            drift_ppm: timelines.iter().filter_map(LagTimeline::longest_knots).filter_map(drift).next_back(),
            clocks: self.clocks,
            tracks: timelines,
            scattered_packets: if fit.is_scattered() { fit.packets() } else { 0 },
            corrections: corrections(&self.packings),
        }
    }
}

impl StreamPlan {
    /// Returns the formats whose timestamps run on another clock than announced: announced and true clock, Hz.
    pub(super) fn wrong_clocks(&self) -> Vec<(u32, u32)> {
        let clocks = self.clocks.iter().filter_map(|(&(_, announced), clock)| match clock {
            MediaClock::Clock(hz) => Some((announced, *hz)),
            MediaClock::Counted { .. } => None,
        });
        let mut wrong: Vec<(u32, u32)> = clocks.filter(|(announced, hz)| announced != hz).collect();
        wrong.sort_unstable();
        wrong
    }
}

/// Returns the formats whose packing is another than announced, with the true format.
fn corrections(
    packings: &[(PayloadType, Arc<PayloadFormat>, Box<PackingJudge>)],
) -> Vec<(Arc<PayloadFormat>, Arc<PayloadFormat>)> {
    let found = packings.iter().filter_map(|(_, format, judge)| {
        let encoding = judge.true_codec()?.name().to_owned();
        Some((Arc::clone(format), Arc::new(PayloadFormat { encoding, ..PayloadFormat::clone(format) })))
    });
    found.collect()
}

/// Finds tracks of one or two packets that came very late while another track continued around them. Maps each to that
/// track.
fn aliases(tracks: &[LagTrack]) -> HashMap<usize, usize> {
    let mut aliases = HashMap::new();
    for (number, track) in tracks.iter().enumerate().filter(|(_, track)| track.packets() < MIN_TRACK_PACKETS) {
        let (Some((from, to)), Some(lag)) = (track.span(), track.min_lag()) else { continue };
        let around = tracks.iter().enumerate().skip(number.saturating_sub(NEIGHBOURS)).take(2 * NEIGHBOURS + 1);
        let around = around.filter(|(other, main)| {
            *other != number
                && main.packets() >= MIN_TRACK_PACKETS
                && main.span().is_some_and(|(begins, ends)| begins < from && to < ends)
                && main.min_lag().is_some_and(|main_lag| main_lag < lag && lag - main_lag < MAX_LATENESS_NS)
        });
        if let Some((main, _)) = around.max_by_key(|(_, main)| main.packets()) {
            aliases.insert(number, main);
        }
    }
    aliases
}

/// Returns the drift of the sender's clock against the capture clock in ppm: the slope of the lag, by least squares.
fn drift(knots: &[(i64, i64)]) -> Option<f64> {
    let (&(first, lag), &(last, _)) = (knots.first()?, knots.last()?);
    if last - first < MIN_DRIFT_SPAN_NS {
        return None;
    }
    let points = || knots.iter().map(|&(x, y)| ((x - first) as f64 / 1e9, (y - lag) as f64 / 1e9));
    let n = knots.len() as f64;
    let (sx, sy) = points().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
    let (mx, my) = (sx / n, sy / n);
    let (sxy, sxx) =
        points().fold((0.0, 0.0), |(sxy, sxx), (x, y)| (sxy + (x - mx) * (y - my), sxx + (x - mx) * (x - mx)));
    // The media time of a fast sender outruns arrival, so its lag shrinks.
    (sxx > 0.0).then(|| (-sxy / sxx * 1e7).round() / 10.0)
}

/// A week, longer than `calls.max_hours` allows. A damaged capture time must not make a file of centuries.
const MAX_DURATION: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3_600);
/// Sampling rate of telephone speech.
const NARROW_HZ: u32 = 8_000;
/// Sampling rate of wideband speech.
const WIDE_HZ: u32 = 16_000;
/// Twice the packets that detect a clock.
const MAX_PENDING: usize = 100;
/// G.726 formats of a stream whose packing is judged. A call has one or two.
const MAX_PACKINGS: usize = 4;
/// A track of fewer packets is a late packet and not a talk spurt.
const MIN_TRACK_PACKETS: u32 = 3;
/// Number of neighbouring tracks, each way, among which the surrounding track is searched.
const NEIGHBOURS: usize = 4;
/// A packet that is later than this does not belong to the sound around it. The spool reader sorts packets this late.
const MAX_LATENESS_NS: i64 = 5_000_000_000;
/// Over less than half a minute, a change of 1 ms in the network looks like a drift of 30 ppm.
const MIN_DRIFT_SPAN_NS: i64 = 30_000_000_000;
