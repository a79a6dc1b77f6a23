//! Restore after a restart: reads the legs of an earlier process from their spools.
//!
//! The decisions in the spools are applied at their times. Correlation decides nothing meanwhile, because messages of
//! other calls and registrations are missing. Afterwards the engine has the same state as without the restart.
//!
//! While spools are read, no call ends. Even if all its legs have closed, another spool may contain a further leg, or
//! another call may take over its legs.
//!
//! The reader of the spools passes each [`RestoredLeg`] before the first message of the leg. It may skip media packets
//! that change no state, because [`RestoredLeg::last_media_at`] has the time of the last one.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::call::conversation::Conversation;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::decision::{Decision, TimedDecision};
use crate::call::engine::Engine;
use crate::call::engine::packets::read_packet;
use crate::call::event::LegSink;
use crate::call::keys::{CallKey, LegKey};
use crate::call::media_index::FlowRoute;
use crate::call::negotiation::AudioLineUse;
use crate::call::record::{CallRecord, EndedBy, EventKind, ProblemKind, RelationRecord, Side};
use crate::call::streams::{RtpStream, StreamBeginning, StreamCopies};
use crate::call::timers::EngineTimer;
use crate::decode::UdpDatagram;
use crate::net::{Endpoint, Flow, Transport};
use crate::rtp::{MediaPacketKind, classify};
use crate::time::Timestamp;

/// A leg of an earlier process, as described at the beginning of its spool file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredLeg {
    /// Name of the leg's spool file, without extension.
    pub name: String,
    /// Id of the leg's call. It must not change, because Pyrus stores it (`external_id`).
    pub conversation: String,
    /// Call-ID of the leg's first message.
    pub call_id: String,
    /// Sender and receiver of the leg's first message, in either order.
    pub hop: (Endpoint, Endpoint),
    /// Capture time of the leg's first message.
    pub begun_at: Timestamp,
    /// Side that sent the leg's first captured request.
    pub first_requester: Side,
    /// Transport of the leg's signalling.
    pub transport: Transport,
    /// Wall clock minus capture time when the call began, ns.
    pub wall_offset_ns: i64,
    /// Capture time of the last media packet; `None` if the leg had no media.
    pub last_media_at: Option<Timestamp>,
    /// Rule by which the leg had joined its call; `None` for the first leg of the call.
    pub joined_by: Option<CorrelationRule>,
}

/// State that is needed only while legs are restored from spools.
#[derive(Debug, Default)]
pub(super) struct RestoreState {
    /// Legs whose first message was not read from the spool yet, by Call-ID and the two endpoints (the *hop*). In each
    /// list, the earliest leg comes last.
    legs: HashMap<RestoreKey, Vec<RestoredLeg>, foldhash::fast::RandomState>,
    /// Keys of restored calls, by id of the call.
    conversations: HashMap<String, CallKey, foldhash::fast::RandomState>,
    /// Keys of restored legs, by name of the leg.
    slots: HashMap<String, LegKey, foldhash::fast::RandomState>,
    /// Decisions that were read before the first message of their leg, by name of the leg. This happens if decision and
    /// message have the same time. The decisions wait until that message is read.
    early: HashMap<String, Vec<TimedDecision>, foldhash::fast::RandomState>,
    /// Capture time of the newest clock offset (wall clock minus capture time) that was read from a spool; `None`
    /// before the first.
    clock_since: Option<Timestamp>,
    /// Keys of the calls that end only when all spools are read, in the order in which their last legs closed.
    over: VecDeque<CallKey>,
    /// Relations of calls that have ended, by id of the call. The journal has them.
    relations: HashMap<String, Vec<RelationRecord>, foldhash::fast::RandomState>,
    /// Records of left calls (their beginning is not in the spool), as the journal has them.
    left_records: HashMap<String, CallRecord, foldhash::fast::RandomState>,
    /// Whether spools are being read now.
    is_reading: bool,
}

/// Call-ID, and the two endpoints between which the leg was captured, in ascending order.
type RestoreKey = (String, Endpoint, Endpoint);

fn restore_key(call_id: &str, hop: (Endpoint, Endpoint)) -> RestoreKey {
    (call_id.to_owned(), hop.0.min(hop.1), hop.0.max(hop.1))
}

impl RestoreState {
    /// Removes and returns the leg that begins with a message with this Call-ID between these two endpoints.
    pub(super) fn take(&mut self, call_id: &str, hop: (Endpoint, Endpoint)) -> Option<RestoredLeg> {
        if self.legs.is_empty() {
            return None;
        }
        let key = restore_key(call_id, hop);
        let legs = self.legs.get_mut(&key)?;
        let restored = legs.pop();
        if legs.is_empty() {
            self.legs.remove(&key);
        }
        restored
    }

    /// Stores a decision about a leg until the leg's first message is read from the spool.
    fn keep_early(&mut self, name: &str, decision: &Decision, at: Timestamp) {
        if !matches!(decision, Decision::Clock { .. } | Decision::Restart { .. }) {
            let kept = TimedDecision { at_ns: at.as_nanos(), decision: decision.clone() };
            self.early.entry(name.to_owned()).or_default().push(kept);
        }
    }

    /// Returns the key of the restored leg with this name; `None` if there is none.
    pub(super) fn slot_of(&self, name: &str) -> Option<LegKey> {
        self.slots.get(name).copied()
    }

    /// Adds a call with closed legs to the calls that end only when all spools are read.
    pub(super) fn add_over_call(&mut self, call: CallKey) {
        self.over.push_back(call);
    }

    /// Removes and returns the call that has waited longest for all spools to be read. Its legs are closed.
    pub(super) fn pop_over_call(&mut self) -> Option<CallKey> {
        self.over.pop_front()
    }

    /// Removes and returns the relations of a call that has ended, as the journal has them.
    pub(super) fn take_relations(&mut self, id: &str) -> Vec<RelationRecord> {
        self.relations.remove(id).unwrap_or_default()
    }

    /// Returns the record of a left call (its beginning is not in the spool), as the journal has it.
    pub(super) fn left_record(&self, id: &str) -> Option<CallRecord> {
        self.left_records.get(id).cloned()
    }

    /// Returns whether spools are being read now.
    pub(super) const fn is_reading(&self) -> bool {
        self.is_reading
    }
}

impl Engine {
    /// Adds a leg that will be restored. Must be called before the first message of the leg is passed to the engine
    /// again.
    pub fn handle_restored_leg(&mut self, restored: RestoredLeg) {
        self.earlier.restore.is_reading = true;
        self.restore_clock(restored.begun_at, restored.wall_offset_ns);
        let legs = self.earlier.restore.legs.entry(restore_key(&restored.call_id, restored.hop)).or_default();
        legs.push(restored);
        legs.sort_by_key(|leg| std::cmp::Reverse(leg.begun_at));
    }

    /// Adds relations of a call that has ended, as the journal has them. The spools may lack relations that were found
    /// at the end of the call.
    pub(crate) fn handle_restored_relations(&mut self, id: &str, relations: Vec<RelationRecord>) {
        self.earlier.restore.relations.insert(id.to_owned(), relations);
    }

    /// Adds the record of a *left call*, as the journal has it: the spool files lack the beginning of this call. Must be
    /// called before the decisions that mark the call as left are applied.
    pub fn handle_left_record(&mut self, record: CallRecord) {
        self.earlier.restore.left_records.insert(record.id.clone(), record);
    }

    /// Applies a decision from the spool file of the leg `name`. The file may lack the messages that led to the
    /// decision.
    pub fn handle_restored_decision(&mut self, name: &str, decision: &Decision, at: Timestamp, sink: &mut dyn LegSink) {
        if let Decision::Clock { wall_offset_ns } = decision {
            self.restore_clock(at, *wall_offset_ns);
        }
        // The learnt facts about numbers and hosts are restored first, because the leg's first message is read with
        // them.
        if let Decision::Conversation(state) = decision {
            self.site.plan.restore_learnt(&state.learnt);
        }
        let Some(slot) = self.earlier.restore.slots.get(name).copied() else {
            self.earlier.restore.keep_early(name, decision, at);
            return;
        };
        let Some(leg) = self.table.leg_mut(slot).filter(|leg| leg.name == name) else { return };
        let conversation = leg.call();
        let is_kept = matches!(decision, Decision::Join(_) | Decision::Conversation(_) | Decision::Refer(_));
        if is_kept && leg.spool.is_open() {
            sink.decide(leg.id, at, decision);
        }
        match decision {
            Decision::Join(assignment) => self.restore_assignment(slot, assignment),
            Decision::Conversation(state) => self.restore_call(conversation, state),
            Decision::Refer(request) => self.restore_referral(slot, request),
            Decision::Outline(piece) => leg.media.restore_outline(piece),
            Decision::VoiceBlocks { caller, callee } => self.restore_voice_blocks(slot, [*caller, *callee]),
            Decision::Relate { conversation: other, by } => {
                if let Some(call) = self.table.call_mut(conversation) {
                    call.add_relation(RelationRecord::new(other, *by));
                }
            }
            // In the earlier process, a timer ended this leg, because another leg replaced it. That timer does nothing
            // while spools are read back, so the leg is ended here.
            Decision::End { ended_by: EndedBy::Replaced, .. } => self.end_replaced_leg(slot, at, sink),
            Decision::Pause | Decision::Resume => self.restore_pause(conversation, decision, at, sink),
            // The stream is created even if the spool file lacks its first packet, because decisions name streams by
            // their position.
            Decision::Stream { stream, src, dst, ssrc, side } if *stream as usize == leg.media.streams().len() => {
                self.restore_stream(slot, RtpStream::new(Flow { src: *src, dst: *dst }, *ssrc, *side));
            }
            // A second decision about a known stream means that the earlier process reused the stream for a new SSRC.
            Decision::Stream { stream, ssrc, .. } => {
                let known = leg.media.streams_mut().get_mut(*stream as usize);
                if let Some(stream) = known.filter(|stream| stream.ssrc != *ssrc) {
                    stream.continue_as(*ssrc, StreamCopies::default());
                }
            }
            Decision::StreamOrigin { stream, sender, announced, moved_at_ns } => {
                let Some(stream) = leg.media.streams_mut().get_mut(*stream as usize) else { return };
                let (moved_at, was_known) =
                    (moved_at_ns.map(Timestamp::from_nanos), stream.beginning.moved_at.is_some());
                (stream.sender, stream.beginning) = (*sender, StreamBeginning { announced: *announced, moved_at });
                if let Some(moved_at) = moved_at.filter(|_| !was_known) {
                    leg.dialog.note_event(moved_at, EventKind::MediaMove, Some(*sender));
                }
            }
            Decision::FurtherLine { stream, line } => {
                if let Some(stream) = leg.media.streams_mut().get_mut(*stream as usize) {
                    stream.line = *line;
                }
            }
            Decision::Superseded { stream, is_superseded } => {
                if let Some(stream) = leg.media.streams_mut().get_mut(*stream as usize) {
                    stream.restore_superseded(*is_superseded);
                }
            }
            Decision::Restart { away_ms } => {
                leg.dialog.note_activity(at);
                if *away_ms > 0 {
                    leg.dialog.note_gap(at);
                    let call = self.table.call_mut(conversation);
                    call.into_iter().for_each(|call| call.note_restart(Duration::from_millis(*away_ms)));
                }
            }
            _ => {}
        }
    }

    /// Adds a stream from a spool to a restored leg.
    fn restore_stream(&mut self, slot: LegKey, mut stream: RtpStream) {
        let Some(leg) = self.table.leg(slot) else { return };
        let (flow, side) = (stream.flow(), stream.side);
        // A recording session (SIPREC) sends the voices of both parties from one side. So its second stream belongs to
        // the other channel.
        if leg.dialog.negotiation.line_use(side.other(), flow) == AudioLineUse::OtherParty {
            stream.sender = side.other();
        }
        self.table.add_stream(slot, stream);
    }

    /// Routes the flow of a media packet to the leg of the spool file that contains the packet. Other legs may have
    /// announced the same addresses. Must be called before the packet is passed to the engine.
    pub(crate) fn route_restored_packet(&mut self, name: &str, datagram: &UdpDatagram<'_>) {
        let flow = datagram.flow();
        let (Some(slot), Ok(packet)) = (self.earlier.restore.slot_of(name), read_packet(datagram)) else { return };
        let Some(leg) = self.table.leg(slot).filter(|_| classify(datagram.payload) == MediaPacketKind::Rtp) else {
            return;
        };
        let known = leg.media.streams().iter().rposition(|stream| stream.is_stream(flow, packet.ssrc));
        if let Some(stream) = known {
            let sender = leg.media.streams()[stream].sender;
            self.table.replace_route(flow, FlowRoute { slot, sender, stream: stream.into() });
        }
    }

    /// Applies the decisions about a restored leg that were read from its spool before its first message.
    pub(super) fn apply_early_decisions(&mut self, name: &str, sink: &mut dyn LegSink) {
        for kept in self.earlier.restore.early.remove(name).unwrap_or_default() {
            self.handle_restored_decision(name, &kept.decision, kept.at(), sink);
        }
    }

    /// Ends the restore. The recorder runs again from `now`.
    ///
    /// The time without a recorder does not count as silence of the calls. The record of each live call lists this gap
    /// as a problem, with its length.
    pub fn handle_restart(&mut self, now: Timestamp, sink: &mut dyn LegSink) {
        // A leg that ended just before the restart accepts late packets, so it is still open. Its timer closes it
        // later, and only then its call ends.
        for call in self.table.calls().map(|(call, _)| call).collect::<Vec<_>>() {
            self.restore_relations(call);
        }
        while self.end_first_waiting_call(sink) {}
        self.expect_legs_of_left_calls(now);
        self.earlier.restore = RestoreState::default();
        self.earlier.restarted_at = Some(now);
        let open: Vec<LegKey> = self.table.legs().filter(|(_, leg)| !leg.is_closed()).map(|(slot, _)| slot).collect();
        for &slot in &open {
            self.note_restart_of_leg(slot, now, sink);
        }
        for slot in open {
            // The time at which a leg ends also depends on its media, which the spool contains. So the timer is set
            // again now.
            self.rearm_leg_timer(slot);
            self.watch_restored_leg(slot, now);
        }
        for call in self.table.calls().map(|(call, _)| call).collect::<Vec<_>>() {
            self.outline_restored_call(call, now.max(self.clock.now));
            self.finish_if_over(call, sink);
            self.emit_update(call, sink);
        }
    }

    /// Records in a live leg that the recorder did not run until `now`, so that packets may be missing.
    fn note_restart_of_leg(&mut self, slot: LegKey, now: Timestamp, sink: &mut dyn LegSink) {
        let Some((leg, call)) = self.table.leg_and_call_mut(slot) else { return };
        let is_over = leg.dialog.ended().is_some();
        let heard = leg.media.last_at().unwrap_or(leg.created_at).max(leg.dialog.last_at());
        let away = if is_over { Duration::ZERO } else { now.since(heard) };
        leg.media.streams_mut().iter_mut().for_each(|stream| stream.accept_restart(heard));
        if !is_over {
            leg.dialog.note_activity(now);
            if call.wall_offset_ns != self.clock.wall_offset_ns {
                call.notes.note_problem(ProblemKind::ClockStep);
            }
        }
        if !away.is_zero() {
            leg.dialog.note_gap(now);
            call.note_restart(away);
        }
        if leg.spool.is_open() {
            let away_ms = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
            sink.decide(leg.id, now, &Decision::Restart { away_ms });
        }
    }

    /// Restores the offset between capture time and wall clock. The newest offset in the spools is valid, because the
    /// capture time continues over the restart.
    fn restore_clock(&mut self, at: Timestamp, wall_offset_ns: i64) {
        if self.earlier.restore.clock_since.is_none_or(|since| since <= at) {
            self.earlier.restore.clock_since = Some(at);
            self.clock.wall_offset_ns = wall_offset_ns;
        }
    }

    /// Returns the call of a restored leg. Creates the call for its first leg.
    pub(super) fn restored_conversation(&mut self, restored: &RestoredLeg, at: Timestamp) -> CallKey {
        let known = self.earlier.restore.conversations.get(&restored.conversation).copied();
        let is_same_call = |call: &CallKey| self.table.call(*call).is_some_and(|call| call.id == restored.conversation);
        if let Some(slot) = known.filter(is_same_call) {
            return slot;
        }
        let mut conversation = Conversation::new(restored.conversation.clone(), at, restored.wall_offset_ns);
        // Spools of earlier versions do not say whether the call was registered. It counts as registered, because Pyrus
        // may know it.
        conversation.recording.commit();
        let slot = self.table.insert_call(conversation);
        self.timers.arm(EngineTimer::Settle(slot), at + super::signalling::SETTLE);
        self.earlier.restore.conversations.insert(restored.conversation.clone(), slot);
        slot
    }

    /// Records that a restored leg has the key `slot` in the table.
    pub(super) fn index_restored_leg(&mut self, slot: LegKey, restored: &RestoredLeg) {
        if let Some(leg) = self.table.leg_mut(slot) {
            leg.media.restore_last_at(restored.last_media_at);
        }
        self.earlier.restore.slots.insert(restored.name.clone(), slot);
    }
}
