//! Ends legs and calls: closes their spools, removes them from the indexes, and emits the call record.

use std::time::Duration;

use crate::call::call_state::LackedLegs;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::decision::Decision;
use crate::call::dialog::{AnswerEvidence, DialogStart};
use crate::call::engine::Engine;
use crate::call::engine::outlines::write_outline;
use crate::call::engine::segments::legs_with_media;
use crate::call::event::{CallEvent, DiscardReason, EndedCall, LegSink};
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegSpoolState};
use crate::call::record::{EndedBy, Side};
use crate::call::roles::CallRoles;
use crate::call::streams::{RtpStream, side_record};
use crate::call::timed_out::TimedOutDialog;
use crate::call::timers::EngineTimer;
use crate::time::Timestamp;

impl Engine {
    /// Closes an ended leg: closes its spool file, and removes it from all indexes. If no other leg of its call is
    /// open, ends the call.
    pub(super) fn close_leg(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        self.presume_answer(slot);
        self.write_start(slot, sink);
        let Some(leg) = self.table.leg_mut(slot) else { return };
        if !leg.close() {
            return;
        }
        self.note_missing_media(slot);
        let Some(leg) = self.table.leg_mut(slot) else { return };
        if leg.spool.is_open() {
            if let (Some((at, ended_by)), true) = (leg.dialog.ended(), leg.has_media()) {
                leg.spool.close();
                write_outline(leg, at, sink);
                let caller = side_record(leg.media.streams(), Side::Caller);
                let callee = side_record(leg.media.streams(), Side::Callee);
                sink.decide(leg.id, at, &Decision::End { ended_by, caller, callee });
                sink.close(leg.id);
            } else {
                self.keep_signalling(slot, sink);
            }
        }
        let Some(conversation) = self.table.leg(slot).map(Leg::call) else { return };
        self.remember_timed_out(slot);
        self.add_leg_tombstone(slot);
        self.unindex_leg(slot);
        self.compact_leg(conversation, slot, sink);
        self.finish_if_over(conversation, sink);
    }

    /// Keeps the signalling of an ended leg without media until its call ends, because a restart must know the leg. If
    /// too many legs are kept, discards it. Then only the stored state of the call says that it had such a leg.
    fn keep_signalling(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        let Some(leg) = self.table.leg_mut(slot) else { return };
        if self.kept.silent_legs < self.settings.limits.kept_legs {
            leg.spool = LegSpoolState::Kept;
            self.kept.silent_legs += 1;
            return;
        }
        leg.spool.close();
        sink.discard(leg.id, DiscardReason::NoMedia);
        let conversation = leg.call();
        let is_first = self.table.keys_of(conversation).first() == Some(&slot);
        let ends_now = !self.earlier.restore.is_reading() && self.is_over(conversation);
        if is_first || ends_now {
            return;
        }
        let lacked = self.lacked_with(conversation, slot);
        let call = self.table.call_mut(conversation);
        if call.is_some_and(|call| call.notes.note_missing_after_restart(lacked)) {
            self.store_call(conversation, sink);
        }
    }

    /// Returns the kind of legs that a call lacks without this leg. If the PBX rang no extension on the leg, the leg may
    /// lead e.g. to a trunk.
    fn lacked_with(&self, conversation: CallKey, slot: LegKey) -> LackedLegs {
        if self.table.call(conversation).is_some_and(|call| call.notes.will_lack() == LackedLegs::Rung) {
            return LackedLegs::Rung;
        }
        let legs: Vec<&Leg> = self.table.legs_of(conversation).collect();
        let roles = CallRoles::from_legs(&legs, &self.site.plan);
        let has_rung = self.table.leg(slot).zip(roles).is_some_and(|(leg, roles)| roles.has_rung_on(leg));
        if has_rung { LackedLegs::Rung } else { LackedLegs::Others }
    }

    /// Deletes the spool file of a leg that had no media, because nothing needs it any more.
    fn discard_kept(&mut self, leg: &Leg, sink: &mut dyn LegSink) {
        if leg.spool == LegSpoolState::Kept {
            self.kept.silent_legs = self.kept.silent_legs.saturating_sub(1);
            sink.discard(leg.id, DiscardReason::NoMedia);
        }
    }

    /// Replaces an unanswered leg by its record (*compacts* it), if its call has many legs.
    ///
    /// E.g. a queue rings its telephones again and again. Many functions examine all legs of a call, so there must not
    /// be too many. After a restart, the call only knows that it had such legs.
    fn compact_leg(&mut self, conversation: CallKey, slot: LegKey, sink: &mut dyn LegSink) {
        let is_unanswered = |leg: &Leg| leg.dialog.answered.is_none() && !leg.has_media();
        let legs = self.table.keys_of(conversation);
        let is_first = legs.first() == Some(&slot);
        if legs.len() <= KEPT_LEGS || is_first || !self.table.leg(slot).is_some_and(is_unanswered) {
            return;
        }
        let lacked = self.lacked_with(conversation, slot);
        if let Some(leg) = self.table.remove_leg(slot)
            && let Some(call) = self.table.call_mut(conversation)
        {
            let is_new = call.notes.note_lacking(lacked);
            call.notes.add_compacted_leg(&leg);
            self.discard_kept(&leg, sink);
            if is_new {
                self.store_call(conversation, sink);
            }
        }
    }

    /// Removes a leg from all indexes and disarms its timers.
    pub(super) fn unindex_leg(&mut self, slot: LegKey) {
        self.timers.disarm_leg(slot);
        if let Some(leg) = self.table.leg_mut(slot) {
            self.kept.content.forget_leg(leg);
        }
        self.table.unindex_leg(slot);
    }

    /// Marks a leg as answered although no 2xx response was captured. The leg must have had media, and then a BYE or
    /// the silence of both sides must have ended it.
    fn presume_answer(&mut self, slot: LegKey) {
        if self.has_answered_branch(slot) {
            return;
        }
        let Some(leg) = self.table.leg_mut(slot) else { return };
        let dialog = &leg.dialog;
        if dialog.answered.is_some() || dialog.status.is_some_and(|s| s >= 300) || dialog.cancelled_at().is_some() {
            return;
        }
        let hung_up = matches!(dialog.ended(), Some((_, EndedBy::Caller | EndedBy::Callee)));
        let fell_silent = matches!(dialog.ended(), Some((_, EndedBy::Silence))) && leg.has_both_sides();
        let how = match dialog.start {
            DialogStart::MidCall => AnswerEvidence::MidCall,
            // Media alone does not show an answer, because it may be early media of a ringing leg. It shows an answer
            // in three cases: a BYE followed, both sides were heard until the media timeout, or the leg never rang.
            DialogStart::Invite if hung_up || fell_silent || dialog.ringing_at().is_none() => AnswerEvidence::Media,
            DialogStart::Invite => return,
        };
        if let Some(first) = leg.media.first_at() {
            leg.dialog.presume_answer(first, how);
        }
    }

    /// Returns whether a 2xx response was captured on another leg of the same INVITE (another branch of a fork). Then
    /// this leg was not answered.
    fn has_answered_branch(&self, slot: LegKey) -> bool {
        let Some(leg) = self.table.leg(slot) else { return false };
        let mut others = self.table.legs_of(leg.call());
        others.any(|l| l.id != leg.id && l.is_branch_of(leg) && l.is_answered_for_certain())
    }

    /// Stores the dialog of a leg that ended by a media timeout. The dialog continues if its media comes back.
    fn remember_timed_out(&mut self, slot: LegKey) {
        let Some(leg) = self.table.leg(slot) else { return };
        let Some(call) = self.table.call(leg.call()) else { return };
        let timed_out = matches!(leg.dialog.ended(), Some((_, EndedBy::Silence)));
        if !timed_out || leg.dialog.answered.is_none() || !leg.has_media() {
            return;
        }
        self.ended.timed_out.add(TimedOutDialog {
            draft: leg.draft(),
            conversation_id: call.origin.continues().cloned().unwrap_or_else(|| call.id.clone()),
            paused: call.pauses.paused_since().is_some(),
            endpoints: leg.announced().iter().chain(leg.presumed()).copied().collect(),
            flows: leg.media.streams().iter().rev().take(MAX_REMEMBERED_FLOWS).map(RtpStream::flow).collect(),
            until: self.clock.now + Duration::from_secs(u64::from(self.settings.config.hold_s)),
        });
    }

    /// Ends a call if all its legs are closed. If its first leg and its anchor leg (the recorded leg) are closed and
    /// others are open, sets a timer for the open legs.
    ///
    /// While spools are read back after a restart, the end of the call is only noted and takes effect afterwards.
    pub(super) fn finish_if_over(&mut self, conversation: CallKey, sink: &mut dyn LegSink) {
        if !self.is_over(conversation) {
            self.await_partners(conversation);
        } else if self.earlier.restore.is_reading() {
            self.wait_with_end(conversation, sink);
        } else {
            self.finish_call(conversation, sink);
        }
    }

    /// Makes a call with closed legs wait until all spools are read, before it ends. If the table has too many legs
    /// meanwhile, ends the calls that have waited longest.
    fn wait_with_end(&mut self, conversation: CallKey, sink: &mut dyn LegSink) {
        self.timers.disarm(EngineTimer::Segment(conversation));
        self.earlier.restore.add_over_call(conversation);
        while self.table.leg_count() > self.settings.limits.legs / WAITING_SHARE && self.end_first_waiting_call(sink) {}
    }

    /// Takes the first call out of the queue of calls that wait until all spools are read. If no leg of the call was
    /// opened again, finishes the call. Returns false if the queue is empty.
    pub(super) fn end_first_waiting_call(&mut self, sink: &mut dyn LegSink) -> bool {
        let Some(first) = self.earlier.restore.pop_over_call() else { return false };
        if self.is_over(first) {
            self.restore_relations(first);
            self.finish_call(first, sink);
        }
        true
    }

    /// Returns whether all legs of a live call are closed.
    fn is_over(&self, conversation: CallKey) -> bool {
        self.table.call(conversation).is_some() && self.table.legs_of(conversation).all(Leg::is_closed)
    }

    /// Removes a call from the table and emits [`CallEvent::Ended`] with its record. First, legs with sound that the
    /// recording lacks become separate calls.
    fn finish_call(&mut self, conversation: CallKey, sink: &mut dyn LegSink) {
        if let Some(own) = self.split_transferred_legs(conversation, sink) {
            self.finish_call(own, sink);
        }
        for legs in self.correlator().legs_of_other_sound(conversation) {
            if let Some(own) = self.split_call(conversation, &legs, CorrelationRule::OtherSound, sink) {
                self.finish_call(own, sink);
            }
        }
        self.keep_related_calls(conversation, sink);
        let is_attempt = self.is_scan_suspect(conversation);
        if is_attempt {
            self.count_scan_attempt(conversation);
        }
        let record = if is_attempt { None } else { self.record_of(conversation) };
        let Some((call, legs)) = self.table.remove_call(conversation) else { return };
        for leg in &legs {
            self.discard_kept(leg, sink);
            // If the leg ended before a rule excluded its call, its spool is closed but still exists.
            if call.recording.is_excluded() && matches!(leg.spool, LegSpoolState::Closed { .. }) {
                sink.discard(leg.id, DiscardReason::Excluded);
            }
        }
        self.timers.disarm_call(conversation);
        let Some(record) = record else { return };
        let refs: Vec<&Leg> = legs.iter().collect();
        self.learn_machines(&refs, &call.notes);
        self.note_anchor_end(&call, &refs);
        let legs = if call.recording.is_excluded() { Vec::new() } else { legs_with_media(&refs, &self.site.plan) };
        self.counters.calls += 1;
        let registration = call.recording.policy().registration();
        let ended = EndedCall { record, legs, registration, wall_offset_ns: call.wall_offset_ns };
        self.events.push_back(CallEvent::Ended(Box::new(ended)));
    }

    /// Sets a timer if the first leg and the anchor leg (the recorded leg) are closed, e.g. after a transfer. When the
    /// timer fires, the other legs end, or become a separate call if they still have media.
    fn await_partners(&mut self, conversation: CallKey) {
        let legs: Vec<&Leg> = self.table.legs_of(conversation).collect();
        let over = CallRoles::from_legs(&legs, &self.site.plan)
            .is_some_and(|roles| roles.first.is_closed() && roles.anchor.is_closed());
        let timer = EngineTimer::Partners(conversation);
        if over && !self.timers.is_armed(timer) {
            self.timers.arm(timer, self.clock.now + PARTNER_WINDOW);
        }
    }

    /// Handles the timer for legs that are still open some time after the end of the first leg and the anchor leg (the
    /// recorded leg). Legs with media become a separate call, and the others end. While the PBX plays a busy tone, the
    /// call waits. After a restart it waits, too, because the time without a recorder does not count as silence.
    ///
    /// Does nothing while spools are read back after a restart, because they contain these decisions.
    pub(super) fn handle_partners_timer(&mut self, conversation: CallKey, sink: &mut dyn LegSink) {
        if self.earlier.restore.is_reading() {
            return;
        }
        let legs: Vec<&Leg> = self.table.legs_of(conversation).collect();
        if !CallRoles::from_legs(&legs, &self.site.plan)
            .is_some_and(|roles| roles.first.is_closed() && roles.anchor.is_closed())
        {
            return;
        }
        let has_tones = self.split_surviving_legs(conversation, sink);
        let now = self.clock.now;
        let fresh = self.earlier.restarted_at.filter(|at| now < *at + PARTNER_WINDOW && !self.is_over(conversation));
        if has_tones || fresh.is_some() {
            let since = fresh.unwrap_or(now).max(now);
            self.timers.arm(EngineTimer::Partners(conversation), since + PARTNER_WINDOW);
            return;
        }
        let rest = self.table.keys_of(conversation).to_vec();
        for slot in rest {
            self.end_replaced_leg(slot, self.clock.now, sink);
        }
        self.finish_if_over(conversation, sink);
    }

    /// Ends an open leg because the other legs of its call have ended.
    pub(super) fn end_replaced_leg(&mut self, slot: LegKey, at: Timestamp, sink: &mut dyn LegSink) {
        if let Some(leg) = self.table.leg_mut(slot).filter(|leg| !leg.is_closed()) {
            leg.dialog.handle_end(at, EndedBy::Replaced);
            self.close_leg(slot, sink);
        }
    }
}

/// Number of legs up to which a call keeps its ended unanswered legs in the table. A usual ring group has fewer.
const KEPT_LEGS: usize = 16;
/// Time after the end of a call's first leg and anchor leg (the recorded leg) within which its other legs end. It
/// covers a round trip and some retransmissions.
pub(super) const PARTNER_WINDOW: std::time::Duration = std::time::Duration::from_secs(5);
/// Maximum number of flows that are stored for a leg that ended by a media timeout. The newest flows are stored.
const MAX_REMEMBERED_FLOWS: usize = 8;
/// Divisor of the maximum number of legs. Calls that wait until all spools are read may use at most half of the table
/// of legs. Even a large site has fewer such calls.
const WAITING_SHARE: usize = 2;
