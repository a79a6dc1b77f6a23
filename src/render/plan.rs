//! The first pass: decisions and RTP headers become a [`Plan`], which says where everything goes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::clock_rate::{ClockFinder, Pace, Sign, length_ns};
use super::codec;
use super::packet::{self, Head};
use super::report::{Encrypted, RenderError};
use super::rtp_clock::{Followed, Follower, Scale, Stamp};
use super::stats_from_spool::Recount;
use super::timeline::{Place, Track, TrackLine};
use crate::call::decision::{Decided, Decision, PayloadFormat, SrtpContext};
use crate::call::record::{EndedBy, Side, SideRecord};
use crate::net::Endpoint;
use crate::rtp::redundancy;
use crate::spool::reader::{LegSource, PacketEntry, SpoolEntry};
use crate::time::Timestamp;

/// How to render.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Samples a second; `None`: 8000, or 16000 when a side has a wideband codec.
    pub sample_rate: Option<u32>,
    /// As if nothing after this moment had been spooled; `None`: all of it.
    pub until: Option<Timestamp>,
}

/// Where everything of a leg goes. Its size grows with the call: about 100 bytes for a second of a side.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Moment of sample 0, whole microseconds.
    pub starts_at: Timestamp,
    /// Moment after the last sample, whole microseconds.
    pub ends_at: Timestamp,
    /// Samples a second.
    pub sample_rate: u32,
    /// Samples of each channel; 0 when no part of the leg is to be recorded.
    pub samples: u64,
    /// What the engine counted, where the leg has its end.
    pub ended: Option<Ended>,
    /// The streams by their number.
    pub(super) streams: BTreeMap<u32, StreamPlan>,
    /// Times that are silent, in order.
    pub(super) pauses: Vec<(Timestamp, Timestamp)>,
    /// The spool ended in the middle of a block.
    pub torn_tail: bool,
    /// Whether there is a packet for which we have a decoder.
    pub has_sound: bool,
    /// The counts in `ended` are those of the spool: the engine was restarted during the call.
    pub recounted: bool,
}

/// The engine's last word about a leg.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// What ended it.
    pub by: EndedBy,
    /// What it counted of both sides, caller first.
    pub sides: [SideRecord; 2],
}

/// What tells how far apart packets are, by payload type and announced clock.
type Paces = HashMap<(u8, u32), Pace, foldhash::fast::FixedState>;

/// Where the packets of one stream go.
#[derive(Clone, Debug)]
pub(super) struct StreamPlan {
    pub(super) side: Side,
    pub(super) ssrc: u32,
    /// Arrival of the first packet that was placed.
    first_at: Timestamp,
    paces: Paces,
    tracks: Vec<TrackLine>,
    /// Tracks of a few late packets: the track to which they belong.
    aliases: HashMap<usize, usize>,
    pub(super) drift_ppm: Option<f64>,
}

impl Plan {
    /// Lets the recorded part be this span, in whole microseconds, whatever the decisions say.
    pub fn set_span(&mut self, starts_at: Timestamp, ends_at: Timestamp) {
        self.starts_at = starts_at;
        self.ends_at = ends_at.max(starts_at);
        self.samples = samples_between(self.starts_at, self.ends_at, self.sample_rate);
    }

    /// Position of a moment, in samples from the beginning; may lie outside.
    pub(super) fn position(&self, at: Timestamp) -> f64 {
        at.nanos_since(self.starts_at) as f64 * f64::from(self.sample_rate) / 1e9
    }
}

impl StreamPlan {
    /// Where a packet was heard. To be called for each packet that [`is_placed`], in the reader's order.
    pub(super) fn place(&self, follower: &mut Follower, packet: Arrival, format: &PayloadFormat) -> Option<Heard> {
        let pace = self.pace(packet.head.pt, format);
        let at_ns = packet.at.nanos_since(self.first_at);
        let followed = follower.handle_packet(at_ns, packet.stamp(pace, packet.length_ns(format)));
        let (track, followed) = match self.aliases.get(&followed.track) {
            // It stands in the piece in which that track is now.
            Some(&track) => (track, Followed { track, index: follower.newest(track), ..followed }),
            None => (followed.track, followed),
        };
        let Place { heard_ns, piece } = self.tracks.get(track)?.place(&followed);
        Some(Heard { at: self.first_at.offset(heard_ns), media_ns: followed.media_ns, piece: (track, piece) })
    }

    /// Whether the stamps of a format mean nothing.
    pub(super) fn is_counted(&self, pt: u8, format: &PayloadFormat) -> bool {
        matches!(self.pace(pt, format), Pace::Counted { .. })
    }

    fn pace(&self, pt: u8, format: &PayloadFormat) -> Pace {
        self.paces.get(&(pt, format.clock_hz)).copied().unwrap_or(Pace::Clock(format.clock_hz))
    }
}

/// A packet's arrival and header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) at: Timestamp,
    pub(super) head: Head,
    /// Bytes of its payload; `None` where what is added to it (SRTP) cannot be told from it.
    payload_bytes: Option<u32>,
}

impl Arrival {
    /// Of a packet of a known stream.
    pub(super) fn new(packet: &PacketEntry<'_>, head: Head, known: &KnownStream) -> Self {
        let plain = matches!(known.protection, Protection::Plain);
        Self { at: packet.at, head, payload_bytes: plain.then(|| packet::payload_bytes(packet)).flatten() }
    }

    fn length_ns(&self, format: &PayloadFormat) -> Option<i64> {
        length_ns(format, self.payload_bytes?).filter(|length_ns| *length_ns > 0)
    }

    fn stamp(&self, pace: Pace, length_ns: Option<i64>) -> Stamp {
        let scale = match pace {
            Pace::Clock(hz) => Scale::Time(hz),
            Pace::Counted { packet_ns } => Scale::Number(length_ns.unwrap_or(packet_ns)),
        };
        Stamp { time: self.head.time, sequence: self.head.sequence, scale }
    }
}

/// When a packet's sound was heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Heard {
    pub(super) at: Timestamp,
    pub(super) media_ns: i64,
    /// Track and piece: within one, sound goes on without a step.
    pub(super) piece: (usize, usize),
}

/// The streams and payload maps as decided so far: both passes keep one.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    by_flow: HashMap<(Endpoint, Endpoint, u32), u32, foldhash::fast::FixedState>,
    pub(super) streams: HashMap<u32, KnownStream, foldhash::fast::FixedState>,
    keys: u32,
}

/// What was decided about a stream.
#[derive(Clone, Debug)]
pub(super) struct KnownStream {
    pub(super) side: Side,
    pub(super) ssrc: u32,
    pub(super) formats: HashMap<u8, Option<Arc<PayloadFormat>>, foldhash::fast::FixedState>,
    pub(super) protection: Protection,
}

/// How a stream is protected.
#[derive(Clone, Debug)]
pub(super) enum Protection {
    /// Not at all.
    Plain,
    /// With keys that the signalling showed; the number of the decision that said so.
    Keys(SrtpContext, u32),
    /// In a way that cannot be undone.
    Closed(Encrypted),
}

impl Known {
    /// Takes in a decision about streams.
    pub(super) fn handle(&mut self, decision: &Decision) {
        match decision {
            Decision::Stream { stream, src, dst, ssrc, side } => {
                self.by_flow.insert((*src, *dst, *ssrc), *stream);
                let known = self.streams.entry(*stream).or_insert_with(|| KnownStream {
                    side: *side,
                    ssrc: *ssrc,
                    formats: HashMap::default(),
                    protection: Protection::Plain,
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
                    known.protection = Protection::Keys(context.clone(), self.keys);
                }
            }
            Decision::Plain { stream } => {
                if let Some(known) = self.streams.get_mut(stream) {
                    known.protection = Protection::Plain;
                }
            }
            Decision::Encrypted { stream, why } => {
                if let Some(known) = self.streams.get_mut(stream) {
                    known.protection = Protection::Closed((*why).into());
                }
            }
            _ => {}
        }
    }

    /// The stream that a packet belongs to.
    pub(super) fn stream_of(&self, packet: &PacketEntry<'_>, head: &Head) -> Option<u32> {
        self.by_flow.get(&(packet.src, packet.dst, head.ssrc)).copied()
    }
}

/// Whether packets of a format have a place of their own. A telephone-event bears the time of the event's beginning
/// (RFC 4733 section 2.2.2) and would pull the timeline back.
pub(super) fn is_placed(format: &PayloadFormat) -> bool {
    format.encoding != "TELEPHONE-EVENT" && format.clock_hz > 0
}

/// Reads a spool once and says where everything goes.
///
/// # Errors
/// When the spool cannot be read.
pub fn plan(source: &LegSource, options: &Options) -> Result<Plan, RenderError> {
    let mut pass = Pass::default();
    let torn_tail = walk(source, options.until, &mut |entry| match entry {
        SpoolEntry::Decided(decided) => pass.handle_decided(decided),
        SpoolEntry::Packet(datagram) => pass.handle_datagram(&datagram),
    })?;
    if pass.is_miscounted
        && let Some(ended) = &mut pass.ended
    {
        Recount::of(source, options.until)?.correct(&mut ended.sides);
    }
    Ok(pass.finish(options, torn_tail))
}

/// Reads what lies before a moment; gives whether the spool ended in the middle of a block.
pub(super) fn walk(
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
            SpoolEntry::Decided(Decided { decision: Decision::Begin { .. }, .. }) => {}
            // They come in order of time: nothing earlier follows.
            SpoolEntry::Decided(_) | SpoolEntry::Packet(_) => break,
        }
    }
    Ok(reader.torn_tail())
}

/// The first pass under way.
#[derive(Debug, Default)]
struct Pass {
    known: Known,
    streams: BTreeMap<u32, Gathered>,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    ended: Option<Ended>,
    pauses: Vec<(Timestamp, Timestamp)>,
    last_packet_at: Option<Timestamp>,
    widest_hz: u32,
    /// The engine's counts are not to be trusted.
    is_miscounted: bool,
}

impl Pass {
    fn handle_decided(&mut self, decided: &Decided) {
        let at = decided.at();
        self.known.handle(&decided.decision);
        match &decided.decision {
            Decision::Start => self.starts_at = Some(self.starts_at.map_or(at, |start| start.min(at))),
            Decision::End { ended_by, caller, callee } => {
                self.ends_at = Some(at);
                self.ended = Some(Ended { by: *ended_by, sides: [caller.clone(), callee.clone()] });
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
        for (n, packet) in packet::each(datagram).enumerate() {
            self.handle_packet(&packet);
            if n > 0 {
                // The engine took the others of it for lost.
                self.is_miscounted = true;
            }
        }
    }

    fn handle_packet(&mut self, packet: &PacketEntry<'_>) {
        let Some(head) = packet::head(packet) else { return };
        let Some(number) = self.known.stream_of(packet, &head) else { return };
        let Some(known) = self.known.streams.get(&number) else { return };
        let Some(Some(format)) = known.formats.get(&head.pt) else { return };
        if !is_placed(format) {
            return;
        }
        let gathered = self.streams.entry(number).or_insert_with(|| Gathered::new(known.side, known.ssrc, packet.at));
        if !matches!(known.protection, Protection::Closed(_)) && gathered.is_new(format) {
            // The recording is wideband if any codec of it is; comfort noise has no band of its own.
            self.widest_hz = self.widest_hz.max(widest(known, format));
        }
        gathered.handle_packet(Arrival::new(packet, head, known), format);
    }

    fn finish(self, options: &Options, torn_tail: bool) -> Plan {
        // Without an end (a crash, a torn tail) the last packet is the end.
        let ends_at = self.ends_at.or(self.last_packet_at);
        let (starts_at, ends_at) = match (self.starts_at, ends_at) {
            (Some(start), Some(end)) => (start.floor_micros(), end.floor_micros().max(start.floor_micros())),
            (None, Some(end)) => (end.floor_micros(), end.floor_micros()),
            (start, None) => {
                let at = start.unwrap_or(Timestamp::EPOCH).floor_micros();
                (at, at)
            }
        };
        let ends_at = ends_at.min(starts_at + LONGEST);
        let wide = if self.widest_hz > NARROW_HZ { WIDE_HZ } else { NARROW_HZ };
        let sample_rate = options.sample_rate.unwrap_or(wide).max(1);
        let streams = self.streams.into_iter().map(|(number, gathered)| (number, gathered.finish())).collect();
        Plan {
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

/// The sampling rate of what a format's packets hold; 0 where nothing can be decoded.
fn widest(known: &KnownStream, format: &PayloadFormat) -> u32 {
    let rate = |format: &PayloadFormat| codec::decoder_for(format).map_or(0, |decoder| decoder.sample_rate_hz());
    if format.encoding != RED {
        return rate(format);
    }
    let within = redundancy::types(&format.fmtp).filter_map(|pt| known.formats.get(&pt)?.as_deref());
    within.map(rate).max().unwrap_or(0)
}

/// Samples of a channel between two moments: `round((to - from) * rate)`.
pub fn samples_between(from: Timestamp, to: Timestamp, sample_rate: u32) -> u64 {
    let ns = i128::from(to.nanos_since(from).max(0));
    u64::try_from((ns * i128::from(sample_rate) + 500_000_000) / 1_000_000_000).unwrap_or(0)
}

/// What the first pass gathers of a stream.
#[derive(Debug)]
struct Gathered {
    side: Side,
    ssrc: u32,
    first_at: Timestamp,
    /// Packets that wait until the pace of the format before them is known.
    waiting: VecDeque<Waiting>,
    finders: HashMap<(u8, u32), ClockFinder>,
    paces: Paces,
    formats_seen: HashSet<Arc<PayloadFormat>>,
    /// That of the last packet.
    format: Option<Arc<PayloadFormat>>,
    follower: Follower,
    tracks: Vec<Track>,
}

/// A packet that waits, with its format's clock and the length of its sound.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    packet: Arrival,
    clock_hz: u32,
    length_ns: Option<i64>,
}

impl Waiting {
    fn key(&self) -> (u8, u32) {
        (self.packet.head.pt, self.clock_hz)
    }
}

impl Gathered {
    fn new(side: Side, ssrc: u32, first_at: Timestamp) -> Self {
        Self {
            side,
            ssrc,
            first_at,
            waiting: VecDeque::new(),
            finders: HashMap::new(),
            paces: HashMap::default(),
            formats_seen: HashSet::new(),
            format: None,
            follower: Follower::default(),
            tracks: Vec::new(),
        }
    }

    /// Whether a packet is the first of its format.
    fn is_new(&mut self, format: &Arc<PayloadFormat>) -> bool {
        // Nearly always that of the packet before, told by its pointer.
        if self.format.as_ref() == Some(format) {
            return false;
        }
        self.format = Some(Arc::clone(format));
        self.formats_seen.insert(Arc::clone(format))
    }

    fn handle_packet(&mut self, packet: Arrival, format: &PayloadFormat) {
        let now = Waiting { packet, clock_hz: format.clock_hz, length_ns: packet.length_ns(format) };
        let pace = self.paces.get(&now.key()).copied();
        if self.waiting.is_empty()
            && let Some(pace) = pace
        {
            return self.follow(now, pace);
        }
        if pace.is_none() {
            let finder = self.finders.entry(now.key()).or_insert_with(|| ClockFinder::new(format));
            let (at_ns, head) = (packet.at.as_nanos(), packet.head);
            finder.handle_packet(Sign { at_ns, sequence: head.sequence, time: head.time, length_ns: now.length_ns });
            if finder.is_sure() {
                self.settle(now.key());
            }
        }
        self.waiting.push_back(now);
        while let Some(&first) = self.waiting.front() {
            let pace = match self.paces.get(&first.key()) {
                Some(pace) => *pace,
                None if self.waiting.len() < MAX_WAITING => break,
                None => self.settle(first.key()),
            };
            self.waiting.pop_front();
            self.follow(first, pace);
        }
    }

    /// Takes the pace as far as it is known.
    fn settle(&mut self, key: (u8, u32)) -> Pace {
        let pace = self.finders.get(&key).map_or(Pace::Clock(key.1), ClockFinder::pace);
        self.paces.insert(key, pace);
        pace
    }

    fn follow(&mut self, Waiting { packet, length_ns, .. }: Waiting, pace: Pace) {
        let at_ns = packet.at.nanos_since(self.first_at);
        let followed = self.follower.handle_packet(at_ns, packet.stamp(pace, length_ns));
        if followed.track >= self.tracks.len() {
            self.tracks.resize_with(followed.track + 1, Track::default);
        }
        self.tracks[followed.track].handle_packet(at_ns, &followed);
    }

    fn finish(mut self) -> StreamPlan {
        while let Some(first) = self.waiting.pop_front() {
            let pace = self.paces.get(&first.key()).copied();
            let pace = pace.unwrap_or_else(|| self.settle(first.key()));
            self.follow(first, pace);
        }
        let lines: Vec<TrackLine> = self.tracks.iter().map(Track::line).collect();
        StreamPlan {
            side: self.side,
            ssrc: self.ssrc,
            first_at: self.first_at,
            aliases: aliases(&self.tracks),
            drift_ppm: lines.iter().filter_map(TrackLine::longest).filter_map(drift).next_back(),
            paces: self.paces,
            tracks: lines,
        }
    }
}

impl StreamPlan {
    /// Formats whose stamps run on another clock than announced: announced and true.
    pub(super) fn wrong_clocks(&self) -> Vec<(u32, u32)> {
        let clocks = self.paces.iter().filter_map(|(&(_, announced), pace)| match pace {
            Pace::Clock(hz) => Some((announced, *hz)),
            Pace::Counted { .. } => None,
        });
        let mut wrong: Vec<(u32, u32)> = clocks.filter(|(announced, hz)| announced != hz).collect();
        wrong.sort_unstable();
        wrong
    }
}

/// Tracks of one or two packets that came very late while another track went on around them: they belong to that one.
fn aliases(tracks: &[Track]) -> HashMap<usize, usize> {
    let mut aliases = HashMap::new();
    for (number, track) in tracks.iter().enumerate().filter(|(_, track)| track.packets() < FEW) {
        let (Some((from, to)), Some(lag)) = (track.span(), track.min_lag()) else { continue };
        let around = tracks.iter().enumerate().skip(number.saturating_sub(NEIGHBOURS)).take(2 * NEIGHBOURS + 1);
        let around = around.filter(|(other, main)| {
            *other != number
                && main.packets() >= FEW
                && main.span().is_some_and(|(begins, ends)| begins < from && to < ends)
                && main.min_lag().is_some_and(|main_lag| main_lag < lag && lag - main_lag < LATEST_NS)
        });
        if let Some((main, _)) = around.max_by_key(|(_, main)| main.packets()) {
            aliases.insert(number, main);
        }
    }
    aliases
}

/// The sender's clock against the capture clock in ppm: the slope of the lag, by least squares.
fn drift(knots: &[(i64, i64)]) -> Option<f64> {
    let (&(first, lag), &(last, _)) = (knots.first()?, knots.last()?);
    if last - first < LONG_ENOUGH_NS {
        return None;
    }
    let points = || knots.iter().map(|&(x, y)| ((x - first) as f64 / 1e9, (y - lag) as f64 / 1e9));
    let n = knots.len() as f64;
    let (sx, sy) = points().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
    let (mx, my) = (sx / n, sy / n);
    let (sxy, sxx) =
        points().fold((0.0, 0.0), |(sxy, sxx), (x, y)| (sxy + (x - mx) * (y - my), sxx + (x - mx) * (x - mx)));
    // A fast sender's media time outruns arrival, so its lag shrinks.
    (sxx > 0.0).then(|| (-sxy / sxx * 1e7).round() / 10.0)
}

/// A week: longer than any call may be (`calls.max_hours`); a damaged stamp must not make a file of centuries.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3_600);
/// Redundant audio: a packet of packets (RFC 2198).
pub(super) const RED: &str = "RED";
/// Telephone band.
const NARROW_HZ: u32 = 8_000;
/// Wideband.
const WIDE_HZ: u32 = 16_000;
/// Packets that wait for a clock: twice what finds it.
const MAX_WAITING: usize = 100;
/// A track of fewer packets is a late packet rather than a talk spurt.
const FEW: u32 = 3;
/// How far away in number of tracks the one around it is looked for.
const NEIGHBOURS: usize = 4;
/// So late a packet still belongs to what goes on around it: what a reader can sort.
const LATEST_NS: i64 = 5_000_000_000;
/// Over less than half a minute, a change of 1 ms in the network looks like 30 ppm.
const LONG_ENOUGH_NS: i64 = 30_000_000_000;
