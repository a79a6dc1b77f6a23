//! The engine: takes decoded traffic, writes legs to a sink and emits call events.
//!
//! `signalling` and `media` handle the two kinds of input. `lifecycle` ends legs and calls. Correlation, in
//! [`crate::call`], decides to which call a leg belongs. The modules do not depend on each other in a circle.

mod admission;
mod apply;
mod content;
mod counters;
mod dialog_state;
mod learn;
mod left_calls;
mod leg_timer;
pub(crate) mod levels;
mod lifecycle;
mod marked_rtp;
mod media;
mod merge;
mod new_leg;
mod outlines;
mod packets;
mod pause;
mod policy;
#[cfg(feature = "service")]
mod prefetch;
mod restore;
mod resume_silent;
mod routing;
mod scan;
mod segments;
mod shared_addresses;
mod signalling;
mod split;
mod stored;
mod time_outs;
mod tombstones;
mod updates;
mod view;

use std::collections::{HashMap, VecDeque};

pub use counters::{EngineCounters, EngineLimits, TableSizes};
pub use restore::RestoredLeg;
use tombstones::DialogTombstones;

use crate::call::call_table::CallTable;
use crate::call::config::Config;
use crate::call::decision::Decision;
use crate::call::early_media::EarlyMedia;
use crate::call::event::{CallEvent, LegSink};
use crate::call::keys::LegKey;
use crate::call::leg::LegSpoolState;
use crate::call::numbers::NumberPlan;
use crate::call::record::ProblemKind;
use crate::call::rules::CallRules;
use crate::call::timed_out::TimedOutDialogs;
use crate::call::timers::{EngineTimer, Timers};
use crate::call::topology::Topology;
use crate::decode::{DecodedItem, TcpStreamChunk, TcpStreamEvent, UdpDatagram};
use crate::net::{Endpoint, Transport};
use crate::rtp;
use crate::sip;
use crate::time::Timestamp;

/// The engine with the state of all live calls. The header of [`crate::call`] lists its invariants.
pub struct Engine {
    settings: EngineSettings,
    site: SiteKnowledge,
    clock: EngineClock,
    table: CallTable,
    timers: Timers,
    kept: KeptMedia,
    framers: HashMap<(Endpoint, Endpoint), sip::framer::SipFramer, foldhash::fast::RandomState>,
    ended: EndedDialogs,
    earlier: EarlierProcess,
    scans: ScanWatch,
    events: VecDeque<CallEvent>,
    counters: EngineCounters,
}

/// Settings of the engine, from configuration and command line.
#[derive(Debug)]
struct EngineSettings {
    config: Config,
    rules: CallRules,
    limits: EngineLimits,
    /// Names of the capture interface or of the capture files.
    source: String,
    /// Whether voice levels are measured for the console.
    measures_levels: bool,
}

/// Knowledge about the site, configured and learnt: its numbers, telephones, PBXs and machines.
#[derive(Debug)]
struct SiteKnowledge {
    plan: NumberPlan,
    topology: Topology,
    /// Capture time at which the last event [`CallEvent::Learnt`] was emitted.
    told_at: Timestamp,
}

/// Newest capture time, and its difference to the wall clock.
#[derive(Clone, Copy, Debug)]
struct EngineClock {
    now: Timestamp,
    wall_offset_ns: i64,
}

/// Media that is stored for some seconds: packets without a known leg, and hashes of voices.
#[derive(Debug)]
struct KeptMedia {
    /// Number of ended legs without media whose signalling is kept until their calls end.
    silent_legs: usize,
    early_media: EarlyMedia,
    content: content::ContentEvidence,
}

/// Ended dialogs that are remembered. Their late messages begin no new call, and some continue if their media comes
/// back.
#[derive(Debug, Default)]
struct EndedDialogs {
    tombstones: DialogTombstones,
    timed_out: TimedOutDialogs,
}

/// Calls that were live when an earlier process ended.
#[derive(Debug, Default)]
struct EarlierProcess {
    restore: restore::RestoreState,
    left_calls: left_calls::LeftCalls,
    /// Capture time at which this process took over the live calls of an earlier process; `None` if it took over none.
    restarted_at: Option<Timestamp>,
}

/// Source addresses with many unanswered calls (scans).
#[derive(Debug, Default)]
struct ScanWatch {
    tracker: scan::ScanTracker,
    /// Capture time at which the engine next checks whether a scan is over; `None` without scans.
    check_at: Option<Timestamp>,
}

/// Reference to a stream: its leg, and its index within the leg.
#[derive(Clone, Copy, Debug)]
struct StreamRef {
    /// Key of the leg in the call table.
    slot: LegKey,
    /// Index of the stream among the streams of the leg.
    index: usize,
}

impl Engine {
    /// Creates an engine with default limits. `source` names the capture interface or the capture files.
    pub fn new(config: Config, source: &str) -> Self {
        Self::with_limits(config, source, EngineLimits::default())
    }

    /// Creates an engine with the given limits instead of the default limits.
    pub fn with_limits(config: Config, source: &str, limits: EngineLimits) -> Self {
        let mut plan = NumberPlan::new(&config.numbers);
        plan.learn_pbxs(&config.pbx_addresses);
        let site = SiteKnowledge { plan, topology: Topology::new(&config.pbx_addresses), told_at: Timestamp::EPOCH };
        let kept = KeptMedia {
            silent_legs: 0,
            early_media: EarlyMedia::new(limits.early_bytes),
            content: content::ContentEvidence::default(),
        };
        let rules = CallRules::new(&config);
        Self {
            settings: EngineSettings { config, rules, limits, source: source.to_owned(), measures_levels: false },
            site,
            clock: EngineClock { now: Timestamp::EPOCH, wall_offset_ns: 0 },
            table: CallTable::default(),
            timers: Timers::default(),
            kept,
            framers: HashMap::default(),
            ended: EndedDialogs::default(),
            earlier: EarlierProcess::default(),
            scans: ScanWatch::default(),
            events: VecDeque::new(),
            counters: EngineCounters::default(),
        }
    }

    /// Uses another configuration from now on, also for live calls. Three settings do not change: the recorder's name,
    /// the start of recordings, and the length of segments. Spools and ids of live calls depend on them.
    pub(crate) fn reload(&mut self, config: Config) {
        let Config { appliance, start, part_s, .. } = &self.settings.config;
        self.settings.config = Config { appliance: appliance.clone(), start: *start, part_s: *part_s, ..config };
        self.site.plan.reload(&self.settings.config.numbers);
        self.site.plan.learn_pbxs(&self.settings.config.pbx_addresses);
        self.settings.rules = CallRules::new(&self.settings.config);
        let change = self.site.topology.configure(&self.settings.config.pbx_addresses);
        self.apply_topology_change(change);
    }

    /// Handles decoded traffic: a datagram or a piece of a TCP stream.
    pub fn handle_decoded(&mut self, decoded: &DecodedItem<'_>, sink: &mut dyn LegSink) {
        match decoded {
            DecodedItem::Datagram(datagram) => self.handle_datagram(datagram, sink),
            DecodedItem::Stream(chunk) => self.handle_stream(chunk, sink),
        }
    }

    /// Handles a UDP datagram: media or signalling.
    pub fn handle_datagram(&mut self, datagram: &UdpDatagram<'_>, sink: &mut dyn LegSink) {
        self.handle_timeout(datagram.at, sink);
        match rtp::classify(datagram.payload) {
            rtp::MediaPacketKind::Rtp => self.handle_rtp(datagram, sink),
            rtp::MediaPacketKind::Rtcp => self.handle_rtcp_or_marked_rtp(datagram, sink),
            rtp::MediaPacketKind::Zrtp => self.handle_zrtp(datagram),
            rtp::MediaPacketKind::Other if sip::looks_like_sip(datagram.payload) => {
                self.handle_sip(datagram, Transport::Udp, sink);
            }
            rtp::MediaPacketKind::Other if self.is_sip_port(datagram) => self.handle_padded_sip(datagram, sink),
            _ => self.counters.other += 1,
        }
    }

    fn is_sip_port(&self, datagram: &UdpDatagram<'_>) -> bool {
        let ports = &self.settings.config.sip_ports;
        ports.contains(&datagram.dst.port()) || ports.contains(&datagram.src.port())
    }

    /// Handles a datagram at a SIP port that does not look like SIP. Skips whitespace and NUL bytes at its beginning. A
    /// datagram without other bytes is a keep-alive.
    fn handle_padded_sip(&mut self, datagram: &UdpDatagram<'_>, sink: &mut dyn LegSink) {
        let start = datagram.payload.iter().position(|b| !b.is_ascii_whitespace() && *b != 0);
        match start.and_then(|at| datagram.payload.get(at..)) {
            Some(payload) => self.handle_sip(&UdpDatagram { payload, ..*datagram }, Transport::Udp, sink),
            None => self.counters.other += 1,
        }
    }

    /// Handles a piece of a TCP stream that carries SIP over TCP or WebSocket.
    pub fn handle_stream(&mut self, chunk: &TcpStreamChunk<'_>, sink: &mut dyn LegSink) {
        self.handle_timeout(chunk.at, sink);
        let key = (chunk.src, chunk.dst);
        if !self.framers.contains_key(&key) && self.framers.len() >= self.settings.limits.streams {
            self.counters.tcp_refused += 1;
            return;
        }
        // The framer, which splits the TCP stream into SIP messages, is taken out of the table. The handlers of its
        // messages borrow the whole engine.
        let mut framer = self.framers.remove(&key).unwrap_or_default();
        let mut messages: Vec<Vec<u8>> = Vec::new();
        let mut take = |message: &[u8]| messages.push(message.to_vec());
        match chunk.event {
            TcpStreamEvent::Data(data) => framer.push_segment(data, &mut take),
            TcpStreamEvent::Gap => framer.gap(&mut take),
            TcpStreamEvent::End => framer.end(&mut take),
        }
        self.counters.sip_oversized += framer.take_oversized();
        let transport = framer.transport();
        for message in &messages {
            let datagram = UdpDatagram {
                at: chunk.at,
                src: chunk.src,
                dst: chunk.dst,
                payload: message,
                wire_len: u32::try_from(message.len()).unwrap_or(u32::MAX),
                interface: chunk.interface,
            };
            self.handle_sip(&datagram, transport, sink);
        }
        if chunk.event != TcpStreamEvent::End {
            self.framers.insert(key, framer);
        }
    }

    /// Sets the engine's time to `now`. Handles each timer that is due, as of the time for which it was set.
    pub fn handle_timeout(&mut self, now: Timestamp, sink: &mut dyn LegSink) {
        while let Some((at, timer)) = self.timers.pop_due(now) {
            self.clock.now = self.clock.now.max(at);
            match timer {
                EngineTimer::AnswerReview(slot) => self.handle_answer_review(slot, sink),
                EngineTimer::Leg(slot) => self.handle_leg_timer(slot, sink),
                EngineTimer::Settle(conversation) => self.handle_settle_timer(conversation, sink),
                EngineTimer::Partners(conversation) => self.handle_partners_timer(conversation, sink),
                EngineTimer::Commit(conversation) => self.emit_update(conversation, sink),
                EngineTimer::Segment(conversation) => self.handle_segment_timer(conversation, sink),
                EngineTimer::Outline(conversation) => self.handle_outline_timer(conversation, sink),
            }
        }
        self.clock.now = self.clock.now.max(now);
        self.handle_scan_timer();
        self.handle_listen_timer();
        self.end_due_left_calls();
    }

    /// Handles a change of the wall clock by `by_ns` nanoseconds. Records of later calls use the new wall clock.
    pub fn handle_clock_step(&mut self, by_ns: i64, sink: &mut dyn LegSink) {
        self.counters.clock_steps += 1;
        self.clock.wall_offset_ns = self.clock.wall_offset_ns.saturating_add(by_ns);
        for (_, conversation) in self.table.calls_mut() {
            conversation.notes.note_problem(ProblemKind::ClockStep);
        }
        let wall_offset_ns = self.clock.wall_offset_ns;
        for (_, leg) in self.table.legs().filter(|(_, leg)| leg.spool.is_open() && !leg.is_closed()) {
            sink.decide(leg.id, self.clock.now, &Decision::Clock { wall_offset_ns });
        }
    }

    /// Returns the wall clock minus the capture time, ns. It includes clock changes from before a restart.
    pub const fn wall_offset_ns(&self) -> i64 {
        self.clock.wall_offset_ns
    }

    /// Returns the ids of all live calls.
    pub fn live_ids(&self) -> impl Iterator<Item = &str> {
        self.table.calls().map(|(_, c)| c.id.as_str())
    }

    /// Records that the recorder lost frames, so that each live call may lack packets.
    pub fn handle_local_loss(&mut self) {
        for (_, conversation) in self.table.calls_mut() {
            conversation.notes.note_problem(ProblemKind::LostByUs);
        }
    }

    /// Ends all live calls, because the capture has ended.
    pub fn handle_end_of_capture(&mut self, sink: &mut dyn LegSink) {
        self.review_all_answers(sink);
        self.end_all_legs(sink);
        self.handle_shutdown();
    }

    /// Removes and returns the oldest event; `None` if there is none.
    pub fn poll_event(&mut self) -> Option<CallEvent> {
        self.events.pop_front()
    }

    /// Returns the capture time at which the next timer is due; `None` if no timer is set.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Returns the newest capture time that the engine has handled.
    pub const fn now(&self) -> Timestamp {
        self.clock.now
    }

    /// Returns the counters since the engine was created.
    pub const fn counters(&self) -> &EngineCounters {
        &self.counters
    }

    /// Returns the number plan: configured numbers, and learned extensions and PBXs.
    pub(crate) const fn number_plan(&self) -> &NumberPlan {
        &self.site.plan
    }

    /// Returns the number of live calls.
    pub fn live_calls(&self) -> usize {
        self.table.call_count()
    }

    /// Returns the number of legs in the table, including ended legs of live calls.
    pub fn live_legs(&self) -> usize {
        self.table.leg_count()
    }

    /// Returns the number of entries in each table of the engine.
    pub fn tables(&self) -> TableSizes {
        TableSizes {
            legs: self.table.leg_count(),
            conversations: self.table.call_count(),
            call_ids: self.table.call_id_count(),
            media_addresses: self.table.media().len(),
            flows: self.table.flow_count(),
            correlation_keys: self.table.correlation().len(),
            referrals: self.table.referrals().len(),
            timers: self.timers.len(),
            unanswered_legs: self.table.unanswered_count(),
            framers: self.framers.len(),
            tombstones: self.ended.tombstones.len(),
            timed_out: self.ended.timed_out.len(),
            early_bytes: self.kept.early_media.bytes(),
            watched_streams: self.kept.content.watched_streams(),
            content_pairs: self.kept.content.pairs(),
            events: self.events.len(),
        }
    }

    /// Checks the invariants of the engine's tables. Tests call it after each input.
    ///
    /// # Panics
    ///
    /// Panics if an invariant does not hold.
    #[doc(hidden)]
    pub fn check(&self) {
        self.table.check();
        for timer in self.timers.iter() {
            let is_known = match timer {
                EngineTimer::AnswerReview(leg) | EngineTimer::Leg(leg) => {
                    self.table.leg(leg).is_some_and(|leg| !leg.is_closed())
                }
                EngineTimer::Settle(call)
                | EngineTimer::Partners(call)
                | EngineTimer::Commit(call)
                | EngineTimer::Segment(call)
                | EngineTimer::Outline(call) => self.table.call(call).is_some(),
            };
            assert!(is_known, "an armed timer names an open leg or a call: {timer:?}");
        }
        for (key, _) in self.table.legs().filter(|(_, leg)| !leg.is_closed()) {
            assert!(self.timers.is_armed(EngineTimer::Leg(key)), "an open leg has a timer");
        }
        for (key, _) in self.table.calls().filter(|(_, call)| !call.stage.is_settled()) {
            assert!(self.timers.is_armed(EngineTimer::Settle(key)), "a call settles");
        }
        let kept = self.table.legs().filter(|(_, leg)| leg.spool == LegSpoolState::Kept).count();
        assert_eq!(self.kept.silent_legs, kept, "each ended leg with kept signalling is counted");
    }
}
