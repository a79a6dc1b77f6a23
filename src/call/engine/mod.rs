//! The engine: takes what the mirror shows, gives legs to the sink and calls to the outside.

mod correlate;
mod lifecycle;
mod media;
mod merge;
mod pause;
mod policy;
mod restore;
mod segments;
mod signalling;
mod split;

use std::collections::{BTreeSet, HashMap, VecDeque};

use slab::Slab;

pub use restore::Recall;

use crate::call::config::Config;
use crate::call::conversation::{Context, Conversation};
use crate::call::correlation_keys::{JoinIndex, Referral};
use crate::call::decision::Decision;
use crate::call::early_media::EarlyMedia;
use crate::call::event::{CallEvent, LegId, LegSink};
use crate::call::leg::{Leg, SpoolStage};
use crate::call::media_index::Claims;
use crate::call::numbers::NumberPlan;
use crate::call::record::{CallRecord, Side};
use crate::call::rules::Rules;
use crate::call::timed_out::Dormant;
use crate::decode::{Datagram, Decoded, StreamChunk, StreamEvent};
use crate::net::{Endpoint, Transport};
use crate::rtp;
use crate::sip;
use crate::time::Timestamp;

/// Bounds of the engine's tables. What happens at a bound is counted in [`Counters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Legs at once: 10,000 calls through a PBX are 20,000 legs; twice that for those that only ring. At the bound, the
    /// oldest INVITE to which nobody said a word gives way (a flood); if there is none, the new leg is not taken in.
    pub legs: usize,
    /// Payload bytes of RTP whose call is not known yet: one second of early media of 450 calls.
    pub early_bytes: usize,
    /// TCP directions that carry SIP.
    pub streams: usize,
    /// RTP streams of all legs: eight a leg at the most on the average, 1.3 KiB each.
    pub rtp_streams: usize,
    /// Dialogs that are over and may still send stragglers.
    pub tombstones: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { legs: 40_000, early_bytes: 8 << 20, streams: 20_000, rtp_streams: 320_000, tombstones: 65_536 }
    }
}

/// What the engine counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// SIP messages that were read.
    pub sip_messages: u64,
    /// Datagrams that looked like SIP and could not be read.
    pub sip_rejected: u64,
    /// RTP packets of a known call.
    pub rtp_packets: u64,
    /// RTP copies by the mirror or the sender.
    pub rtp_duplicates: u64,
    /// RTP of no known call.
    pub rtp_unclaimed: u64,
    /// Of these, packets that could not be kept until their call is known: they were too many at once, or too large. A
    /// call that they belong to lacks them at its beginning.
    pub rtp_not_kept: u64,
    /// RTP that came after its call had ended.
    pub rtp_after_end: u64,
    /// RTP of more streams than a leg can have.
    pub rtp_refused: u64,
    /// Datagrams with an RTP version and a broken header.
    pub rtp_broken: u64,
    /// Legs begun.
    pub legs: u64,
    /// Legs that could not be taken in because there were too many.
    pub legs_refused: u64,
    /// Legs that gave way to newer ones: INVITEs without any response, when there were too many. One of which nobody
    /// had been told leaves no record.
    pub legs_evicted: u64,
    /// Calls that ended.
    pub calls: u64,
    /// Datagrams that are neither SIP nor media.
    pub other: u64,
    /// Pieces of TCP streams that could not be taken in because there were too many streams.
    pub tcp_refused: u64,
    /// Jumps of the wall clock.
    pub clock_steps: u64,
    /// Pauses and resumptions that were carried out.
    pub pause_orders: u64,
}

/// How many entries each of the engine's tables has: each has a bound, and all but the last five are empty when no
/// call is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Legs.
    pub legs: usize,
    /// Conversations.
    pub conversations: usize,
    /// Call-IDs of live legs.
    pub call_ids: usize,
    /// Announced addresses.
    pub claims: usize,
    /// Flows with a known leg.
    pub flows: usize,
    /// What legs can be found by.
    pub join_keys: usize,
    /// REFERs whose consequences may still come.
    pub referrals: usize,
    /// Deadlines.
    pub timers: usize,
    /// Legs in the order in which they came.
    pub fresh: usize,
    /// TCP directions with SIP in them.
    pub framers: usize,
    /// Dialogs that are over.
    pub tombstones: usize,
    /// Dialogs that fell silent.
    pub dormant: usize,
    /// Payload bytes of RTP of no known call.
    pub early_bytes: usize,
    /// Events that nobody took yet.
    pub events: usize,
}

/// The engine. See the room's header for its invariants.
pub struct Engine {
    config: Config,
    plan: NumberPlan,
    rules: Rules,
    limits: Limits,
    source: String,
    now: Timestamp,
    wall_offset_ns: i64,
    next_leg: u64,
    legs: Slab<Leg>,
    conversations: Slab<Conversation>,
    join_index: JoinIndex,
    referrals: VecDeque<Referral>,
    by_call_id: HashMap<String, Vec<usize>, foldhash::fast::RandomState>,
    claims: Claims,
    flows: HashMap<(Endpoint, Endpoint), Route, foldhash::fast::RandomState>,
    early: EarlyMedia,
    /// RTP streams of all legs.
    streams: usize,
    framers: HashMap<(Endpoint, Endpoint), sip::stream::Framer, foldhash::fast::RandomState>,
    timers: BTreeSet<(Timestamp, Timer)>,
    /// Legs in the order in which they came; those that got an answer are passed over.
    fresh: VecDeque<(usize, LegId)>,
    /// Legs that stopped ringing a moment ago and of which it is not known whose they are.
    doubts: Vec<usize>,
    tombstones: Tombstones,
    recalled: restore::Recalled,
    dormant: Dormant,
    events: VecDeque<CallEvent>,
    counters: Counters,
}

/// Where the packets of a flow go.
#[derive(Clone, Copy, Debug)]
struct Route {
    slot: usize,
    voice: Side,
    /// Index of the stream that the newest packet was of.
    stream: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// What the PBX did about a leg's answer tells whose it is.
    Taken(usize),
    /// Something is due for a leg.
    Leg(usize),
    /// A conversation's legs have had their time to come together.
    Settle(usize),
    /// The legs that outlive the one by which the call came in have had their time to end.
    Finish(usize),
    /// Another part of a recording may be full.
    Part(usize),
}

/// Dialogs that are over: what still comes of them opens no new call.
#[derive(Debug, Default)]
struct Tombstones {
    known: HashMap<u64, Buried, foldhash::fast::RandomState>,
    order: VecDeque<(Timestamp, u64)>,
}

/// What is remembered of a dialog that is over.
#[derive(Clone, Copy, Debug)]
struct Buried {
    until: Timestamp,
    /// CSeq of the newest INVITE.
    invite_cseq: u32,
    /// The callers' tags of the two newest dialogs with this Call-ID, hashed.
    tags: [u64; 2],
}

impl Engine {
    /// An engine for a source of this name.
    pub fn new(config: Config, source: &str) -> Self {
        Self::with_limits(config, source, Limits::default())
    }

    /// An engine with other bounds.
    pub fn with_limits(config: Config, source: &str, limits: Limits) -> Self {
        Self {
            plan: NumberPlan::new(&config.numbers),
            rules: Rules::new(&config),
            config,
            limits,
            source: source.to_owned(),
            now: Timestamp::EPOCH,
            wall_offset_ns: 0,
            next_leg: 0,
            legs: Slab::new(),
            conversations: Slab::new(),
            join_index: JoinIndex::default(),
            referrals: VecDeque::new(),
            by_call_id: HashMap::default(),
            claims: Claims::default(),
            flows: HashMap::default(),
            early: EarlyMedia::new(limits.early_bytes),
            streams: 0,
            framers: HashMap::default(),
            timers: BTreeSet::new(),
            fresh: VecDeque::new(),
            doubts: Vec::new(),
            tombstones: Tombstones::default(),
            recalled: restore::Recalled::default(),
            dormant: Dormant::default(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes in what decoding gave.
    pub fn handle_decoded(&mut self, decoded: &Decoded<'_>, sink: &mut dyn LegSink) {
        match decoded {
            Decoded::Datagram(datagram) => self.handle_datagram(datagram, sink),
            Decoded::Stream(chunk) => self.handle_stream(chunk, sink),
        }
    }

    /// Takes in a UDP datagram: media or signalling.
    pub fn handle_datagram(&mut self, datagram: &Datagram<'_>, sink: &mut dyn LegSink) {
        self.handle_timeout(datagram.at, sink);
        match rtp::classify(datagram.payload) {
            rtp::Kind::Rtp => self.handle_rtp(datagram, sink),
            rtp::Kind::Zrtp => self.handle_zrtp(datagram),
            rtp::Kind::Other if sip::looks_like_sip(datagram.payload) => {
                self.handle_sip(datagram, Transport::Udp, sink);
            }
            rtp::Kind::Other if self.is_sip_port(datagram) => self.handle_odd_sip(datagram, sink),
            _ => self.counters.other += 1,
        }
    }

    fn is_sip_port(&self, datagram: &Datagram<'_>) -> bool {
        let ports = &self.config.sip_ports;
        ports.contains(&datagram.dst.port()) || ports.contains(&datagram.src.port())
    }

    /// A datagram of a SIP port that does not look like SIP: read from its first visible character on. One without any is
    /// a keep-alive.
    fn handle_odd_sip(&mut self, datagram: &Datagram<'_>, sink: &mut dyn LegSink) {
        let start = datagram.payload.iter().position(|b| !b.is_ascii_whitespace() && *b != 0);
        match start.and_then(|at| datagram.payload.get(at..)) {
            Some(payload) => self.handle_sip(&Datagram { payload, ..*datagram }, Transport::Udp, sink),
            None => self.counters.other += 1,
        }
    }

    /// Takes in a piece of a TCP stream: SIP over TCP or WebSocket.
    pub fn handle_stream(&mut self, chunk: &StreamChunk<'_>, sink: &mut dyn LegSink) {
        self.handle_timeout(chunk.at, sink);
        let key = (chunk.src, chunk.dst);
        if !self.framers.contains_key(&key) && self.framers.len() >= self.limits.streams {
            self.counters.tcp_refused += 1;
            return;
        }
        // Taken out while its messages are handled: they need the engine.
        let mut framer = self.framers.remove(&key).unwrap_or_default();
        let mut messages: Vec<Vec<u8>> = Vec::new();
        let mut take = |message: &[u8]| messages.push(message.to_vec());
        match chunk.event {
            StreamEvent::Data(data) => framer.push(data, &mut take),
            StreamEvent::Gap => framer.gap(&mut take),
            StreamEvent::End => framer.end(&mut take),
        }
        let transport = framer.transport();
        for message in &messages {
            let datagram = Datagram {
                at: chunk.at,
                src: chunk.src,
                dst: chunk.dst,
                payload: message,
                wire_len: u32::try_from(message.len()).unwrap_or(u32::MAX),
                interface: chunk.interface,
            };
            self.handle_sip(&datagram, transport, sink);
        }
        if chunk.event != StreamEvent::End {
            self.framers.insert(key, framer);
        }
    }

    /// Lets time pass: fires every timer that is due by `now`, each at its own time.
    pub fn handle_timeout(&mut self, now: Timestamp, sink: &mut dyn LegSink) {
        while let Some(&(at, timer)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            self.now = self.now.max(at);
            match timer {
                Timer::Taken(slot) => self.handle_taken(slot, sink),
                Timer::Leg(slot) => self.handle_leg_timer(slot, sink),
                Timer::Settle(conversation) => self.handle_settled(conversation),
                Timer::Finish(conversation) => self.handle_finish(conversation, sink),
                Timer::Part(conversation) => self.handle_part(conversation),
            }
        }
        self.now = self.now.max(now);
    }

    /// The wall clock was stepped: calls that begin from now on are stamped by the new one.
    pub fn handle_clock_step(&mut self, by_ns: i64, sink: &mut dyn LegSink) {
        self.counters.clock_steps += 1;
        self.wall_offset_ns = self.wall_offset_ns.saturating_add(by_ns);
        for (_, conversation) in &mut self.conversations {
            conversation.note_problem("clock_step");
        }
        let wall_offset_ns = self.wall_offset_ns;
        for (_, leg) in self.legs.iter().filter(|(_, leg)| leg.spool == SpoolStage::Open && !leg.closed) {
            sink.decide(leg.id, self.now, &Decision::Clock { wall_offset_ns });
        }
    }

    /// What must be added to the capture timeline to get the wall clock: the sum of the steps, those before a restart
    /// included.
    pub const fn wall_offset_ns(&self) -> i64 {
        self.wall_offset_ns
    }

    /// Ids of the calls that are not over.
    pub fn live_ids(&self) -> impl Iterator<Item = &str> {
        self.conversations.iter().map(|(_, c)| c.id.as_str())
    }

    /// Frames were lost on this machine: every call under way may have lost some of them.
    pub fn handle_local_loss(&mut self) {
        for (_, conversation) in &mut self.conversations {
            conversation.note_problem("lost_by_us");
        }
    }

    /// The capture is over: ends every open call.
    pub fn handle_end_of_capture(&mut self, sink: &mut dyn LegSink) {
        self.handle_all_taken(sink);
        self.end_all(sink);
    }

    /// The next thing that the outside should know.
    pub fn poll_event(&mut self) -> Option<CallEvent> {
        self.events.pop_front()
    }

    /// When the next timer fires.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The newest moment that was seen.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// What was counted.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Calls that are not over.
    pub fn live_calls(&self) -> usize {
        self.conversations.len()
    }

    /// Legs that are in the tables.
    pub fn live_legs(&self) -> usize {
        self.legs.len()
    }

    /// How much is in the tables.
    pub fn tables(&self) -> Tables {
        Tables {
            legs: self.legs.len(),
            conversations: self.conversations.len(),
            call_ids: self.by_call_id.len(),
            claims: self.claims.len(),
            flows: self.flows.len(),
            join_keys: self.join_index.len(),
            referrals: self.referrals.len(),
            timers: self.timers.len(),
            fresh: self.fresh.len(),
            framers: self.framers.len(),
            tombstones: self.tombstones.known.len(),
            dormant: self.dormant.len(),
            early_bytes: self.early.bytes(),
            events: self.events.len(),
        }
    }

    /// The record of a conversation as it stands.
    fn record_of(&self, conversation: usize) -> Option<CallRecord> {
        let conversation = self.conversations.get(conversation)?;
        let legs: Vec<&Leg> = conversation.legs.iter().filter_map(|slot| self.legs.get(*slot)).collect();
        let context = Context { config: &self.config, plan: &self.plan, source: &self.source };
        Some(conversation.record(&legs, context))
    }
}

impl Tombstones {
    fn add(&mut self, key: u64, mut new: Buried, limit: usize) {
        if let Some(old) = self.known.get(&key) {
            new.invite_cseq = new.invite_cseq.max(old.invite_cseq);
            new.tags[1] = if new.tags[0] == old.tags[0] { old.tags[1] } else { old.tags[0] };
        }
        self.known.insert(key, new);
        self.order.push_back((new.until, key));
        while self.order.len() > limit {
            self.forget_oldest();
        }
    }

    fn get(&mut self, key: u64, now: Timestamp) -> Option<Buried> {
        while self.order.front().is_some_and(|(until, _)| *until < now) {
            self.forget_oldest();
        }
        self.known.get(&key).copied()
    }

    fn forget_oldest(&mut self) {
        let Some((until, key)) = self.order.pop_front() else { return };
        // One that was buried again since stays until that time.
        if self.known.get(&key).is_some_and(|known| known.until <= until) {
            self.known.remove(&key);
        }
    }
}
