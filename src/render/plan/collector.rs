//! Collects the packets of one stream for its [`StreamPlan`]. Finds the RTP clock rate of each format, and the tracks,
//! i.e. groups of packets with about the same delay.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::format_judges::FormatJudges;
use super::stream_plan::{AnnouncedClock, ArrivedPacket, MediaClocks, StreamPlan};
use super::track_facts::{aliases, drift};
use crate::call::decision::PayloadFormat;
use crate::call::record::Side;
use crate::net::{PayloadType, Ssrc};
use crate::render::arrived_numbers::ArrivalOrder;
use crate::render::clock_rate::{ClockObservation, ClockRateDetector, MediaClock};
use crate::render::decided_streams::{DecidedStream, StreamProtection};
use crate::render::form_judge::{ExaminedPayload, FormJudge, FormTest, PayloadForm};
use crate::render::packet::{self, RtpHeaderFields};
use crate::render::rtp_clock::TimestampUnwrapper;
use crate::render::second_look::{ClockPolicy, TimelineFit};
use crate::render::timeline::{LagTimeline, LagTrack};
use crate::spool::reader::PacketEntry;
use crate::time::Timestamp;

/// Data that the first rendering pass collects about one stream.
#[derive(Debug)]
pub(super) struct StreamCollector {
    side: Side,
    ssrc: Ssrc,
    first_at: Timestamp,
    /// Packets that wait until the clock rate of their format is decided, oldest first.
    pending: VecDeque<PendingPacket>,
    finders: HashMap<AnnouncedClock, ClockRateDetector>,
    clocks: MediaClocks,
    formats_seen: HashSet<Arc<PayloadFormat>>,
    /// Format of the last packet; `None` before the first packet.
    format: Option<Arc<PayloadFormat>>,
    unwrapper: TimestampUnwrapper,
    tracks: Vec<LagTrack>,
    policy: ClockPolicy,
    /// The formats of the stream that its payloads may deviate from.
    pub(super) judges: FormatJudges,
    /// Test that shows whether payloads of the last packet's format are encrypted; `None` if there is none.
    form_test: Option<FormTest>,
    pub(super) forms: FormJudge,
}

/// A packet that waits until the clock rate of its format is decided.
#[derive(Clone, Copy, Debug)]
struct PendingPacket {
    packet: ArrivedPacket,
    clock_hz: u32,
}

impl PendingPacket {
    fn key(&self) -> AnnouncedClock {
        AnnouncedClock { pt: self.packet.head.pt, clock_hz: self.clock_hz }
    }
}

impl StreamCollector {
    pub(super) fn new(known: &DecidedStream, first_at: Timestamp, policy: ClockPolicy) -> Self {
        Self {
            side: known.side,
            ssrc: known.ssrc,
            first_at,
            policy,
            judges: FormatJudges::default(),
            form_test: None,
            forms: FormJudge::default(),
            pending: VecDeque::new(),
            finders: HashMap::new(),
            clocks: HashMap::default(),
            formats_seen: HashSet::new(),
            format: None,
            unwrapper: TimestampUnwrapper::default(),
            tracks: Vec::new(),
        }
    }

    /// Returns whether no earlier packet of this stream had this format.
    pub(super) fn is_new(&mut self, format: &Arc<PayloadFormat>) -> bool {
        // Usually the format is that of the previous packet, so this is checked first. Comparing an `Arc` with itself
        // is fast.
        if self.format.as_ref() == Some(format) {
            return false;
        }
        self.format = Some(Arc::clone(format));
        self.judges.note_format(format);
        self.form_test = FormTest::new(format);
        self.formats_seen.insert(Arc::clone(format))
    }

    /// Returns the RTP clock rate of a format once it is decided. Returns `None` before, and while packets wait for the
    /// decision about the clock rate of any format.
    pub(super) fn settled_clock(&self, pt: PayloadType, format: &PayloadFormat) -> Option<MediaClock> {
        self.clocks.get(&AnnouncedClock { pt, clock_hz: format.clock_hz }).copied().filter(|_| self.pending.is_empty())
    }

    /// Handles a packet of a format. The packet waits until the RTP clock of this format is decided, and until all
    /// packets before it are handled.
    pub(super) fn handle_packet(&mut self, packet: ArrivedPacket, format: &PayloadFormat) {
        let now = PendingPacket { packet, clock_hz: format.clock_hz };
        let clock = self.clocks.get(&now.key()).copied();
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
            self.place_on_track(first.packet, clock);
        }
    }

    /// Decides the RTP clock of a format from its packets so far.
    fn fix_clock(&mut self, key: AnnouncedClock) -> MediaClock {
        let clock = match (self.policy, self.finders.get(&key)) {
            (ClockPolicy::Detect, Some(finder)) => finder.media_clock(),
            (ClockPolicy::Counted, Some(finder)) => finder.counted_clock(),
            (ClockPolicy::Joined, Some(finder)) => finder.joined_clock(),
            (ClockPolicy::Announced, _) | (_, None) => MediaClock::Clock(key.clock_hz),
        };
        self.clocks.insert(key, clock);
        clock
    }

    /// Adds a packet to its track, i.e. to the packets with about the same lag.
    pub(super) fn place_on_track(&mut self, packet: ArrivedPacket, clock: MediaClock) {
        let at_ns = packet.at.nanos_since(self.first_at);
        let position = self.unwrapper.handle_packet(at_ns, packet.timing(clock));
        if position.order == ArrivalOrder::Late {
            // The delay of a late packet says nothing about the packets around it.
            return;
        }
        if position.track >= self.tracks.len() {
            self.tracks.resize_with(position.track + 1, LagTrack::default);
        }
        self.tracks[position.track].handle_packet(at_ns, &position);
    }

    /// Decides the RTP clock rates for which packets still wait. Then adds these packets to their tracks (groups with
    /// about the same lag).
    pub(super) fn place_pending(&mut self) {
        while let Some(first) = self.pending.pop_front() {
            let clock = self.clocks.get(&first.key()).copied();
            let clock = clock.unwrap_or_else(|| self.fix_clock(first.key()));
            self.place_on_track(first.packet, clock);
        }
    }

    pub(super) fn fit(&self) -> TimelineFit {
        let misfits = match self.policy {
            ClockPolicy::Joined => self.unwrapper.joined_misfits(),
            _ => self.unwrapper.misfits(),
        };
        TimelineFit::of(&self.tracks, misfits, self.policy)
    }

    /// Examines whether the payload of a packet is encrypted, if the session descriptions say the opposite.
    pub(super) fn judge_form(&mut self, known: &DecidedStream, packet: &PacketEntry<'_>, head: RtpHeaderFields) {
        let sought = match known.protection {
            StreamProtection::Plain if known.is_unencrypted() => PayloadForm::Encrypted,
            StreamProtection::Keys(_) => PayloadForm::Unencrypted,
            _ => return,
        };
        if let Some(test) = self.form_test
            && let Some(payload) = packet::whole_payload(packet)
        {
            let RtpHeaderFields { sequence, time, .. } = head;
            self.forms.handle_payload(test, sought, ExaminedPayload { at: packet.at, sequence, time, payload });
        }
    }

    pub(super) fn finish(mut self) -> StreamPlan {
        self.place_pending();
        let fit = self.fit();
        let timelines: Vec<LagTimeline> = self.tracks.iter().map(LagTrack::timeline).collect();
        StreamPlan {
            side: self.side,
            ssrc: self.ssrc,
            first_at: self.first_at,
            aliases: aliases(&self.tracks, &self.unwrapper),
            drift_ppm: timelines.iter().filter_map(LagTimeline::longest_knots).filter_map(drift).next_back(),
            clocks: self.clocks,
            tracks: timelines,
            latest: self.unwrapper.latest(),
            scattered_packets: if fit.is_scattered() { fit.packets() } else { 0 },
            keys: Vec::new(),
            corrections: self.judges.corrections(),
            forms: self.forms.finish(),
        }
    }
}

/// Maximum number of packets that wait until their clock rate is decided. It is three times the usual number of packets
/// until this decision.
const MAX_PENDING: usize = 100;
