//! Changes to the legs of calls: merging two calls, splitting legs off, moving legs, and relating calls.

use crate::call::conversation::Conversation;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::decision::Decision;
use crate::call::engine::signalling::SETTLE;
use crate::call::engine::{Engine, EngineTimer};
use crate::call::event::LegSink;
use crate::call::id::conversation_id;
use crate::call::leg::LegSpoolState;
use crate::call::record::RelationRecord;

impl Engine {
    /// Relates two calls: each call's record lists the other's id.
    pub(super) fn relate(&mut self, a: usize, b: usize, why: CorrelationRule, sink: &mut dyn LegSink) {
        let id = |engine: &Self, slot: usize| engine.conversations.get(slot).map(|c| c.id.clone());
        let (Some(id_a), Some(id_b)) = (id(self, a), id(self, b)) else { return };
        for (slot, other) in [(a, id_b), (b, id_a)] {
            let Some(call) = self.conversations.get_mut(slot) else { continue };
            if call.add_relation(RelationRecord::new(&other, why)) {
                let open = call.legs.iter().filter_map(|leg| self.legs.get(*leg));
                if let Some(leg) = open.into_iter().find(|leg| leg.spool == LegSpoolState::Open) {
                    sink.decide(leg.id, self.now, &Decision::Relate { conversation: other, by: why });
                }
            }
        }
    }

    /// Merges the call `from` into the call `into`. The id of `from` disappears, so no event may have announced it.
    pub(super) fn merge(&mut self, from: usize, into: usize, by: CorrelationRule, sink: &mut dyn LegSink) {
        let Some(old) = self.conversations.try_remove(from) else { return };
        let at = old.created_at + SETTLE;
        self.timers.remove(&(at, EngineTimer::Settle(from)));
        self.cancel_segment_timer(from, &old);
        self.cancel_commit_timer(from, &old);
        if let Some(at) = old.partners_due_at {
            self.timers.remove(&(at, EngineTimer::Partners(from)));
        }
        for referral in self.referrals.iter_mut().filter(|r| r.conversation == from) {
            referral.conversation = into;
        }
        let Some(call) = self.conversations.get_mut(into) else { return };
        let id = call.id.clone();
        let (was_paused, old_paused) = (call.pauses.paused_since(), old.pauses.paused_since());
        let newly_paused: Vec<usize> =
            if was_paused.is_none() && old_paused.is_some() { call.legs.clone() } else { Vec::new() };
        call.legs.extend(&old.legs);
        let legs = &self.legs;
        call.legs.sort_by_key(|slot| legs.get(*slot).map(|leg| (leg.created_at, leg.id)));
        call.pauses.merge(old.pauses);
        for relation in old.relations {
            call.add_relation(relation);
        }
        call.relations.retain(|relation| relation.id != old.id);
        // The old id gets no record, so relations to it are changed to the new one.
        for (_, other) in self.conversations.iter_mut().filter(|(slot, _)| *slot != into) {
            for relation in other.relations.iter_mut().filter(|relation| relation.id == old.id) {
                relation.id.clone_from(&id);
            }
        }
        self.note_joined(into, by, sink);
        for slot in old.legs {
            self.assign_call(slot, into, sink);
            if old_paused.is_none() {
                self.apply_pause_to_new_leg(slot, self.now, sink);
            }
        }
        for slot in newly_paused {
            self.apply_pause_to_new_leg(slot, self.now, sink);
        }
        self.apply_rules(into, sink);
    }

    /// Splits legs off into a new call, which is related to the old one. Returns the slot of the new call.
    pub(super) fn split_call(
        &mut self,
        from: usize,
        slots: &[usize],
        why: CorrelationRule,
        sink: &mut dyn LegSink,
    ) -> usize {
        let call = &self.conversations[from];
        let first = &self.legs[slots[0]];
        let (at, dialog) = (first.created_at, &first.dialog);
        let id = conversation_id(&self.config.appliance, &dialog.call_id, dialog.caller_tag.as_deref(), at);
        let mut own = Conversation::new(id, at, call.wall_offset_ns);
        own.settled = true;
        own.closed_to_heuristics = true;
        own.pauses = call.pauses.clone();
        let into = self.conversations.insert(own);
        self.relate(from, into, why, sink);
        self.move_legs(slots, into, why, sink);
        into
    }

    /// Moves legs to another call. Both calls keep their ids, so both may have been announced by events.
    pub(super) fn move_legs(&mut self, slots: &[usize], into: usize, by: CorrelationRule, sink: &mut dyn LegSink) {
        for &slot in slots {
            let Some(from) = self.legs.get(slot).map(|leg| leg.conversation) else { continue };
            let Some(call) = self.conversations.get_mut(from) else { continue };
            call.legs.retain(|other| *other != slot);
            let is_paused = call.pauses.paused_since().is_some();
            let legs = &self.legs;
            let Some(call) = self.conversations.get_mut(into) else { continue };
            call.legs.push(slot);
            call.legs.sort_by_key(|slot| legs.get(*slot).map(|leg| (leg.created_at, leg.id)));
            if let Some(leg) = self.legs.get_mut(slot) {
                leg.joined_by = Some(by);
            }
            self.note_joined(from, by, sink);
            self.note_joined(into, by, sink);
            self.assign_call(slot, into, sink);
            if !is_paused {
                self.apply_pause_to_new_leg(slot, self.now, sink);
            }
            self.apply_rules(from, sink);
            self.emit_update(from);
        }
        self.apply_rules(into, sink);
        self.emit_update(into);
    }

    /// Records the rule by which the legs of a call joined it, where none is known. The first leg of a call joined nothing.
    pub(super) fn note_joined(&mut self, conversation: usize, by: CorrelationRule, sink: &mut dyn LegSink) {
        let Some(call) = self.conversations.get(conversation) else { return };
        for (position, slot) in call.legs.iter().enumerate() {
            let Some(leg) = self.legs.get_mut(*slot) else { continue };
            let joined_by = if position == 0 { None } else { leg.joined_by.or(Some(by)) };
            if leg.joined_by != joined_by {
                leg.joined_by = joined_by;
                if leg.conversation == conversation && leg.spool == LegSpoolState::Open {
                    let join = Decision::Join { conversation: call.id.clone(), by: joined_by };
                    sink.decide(leg.id, self.now, &join);
                }
            }
        }
    }

    /// Assigns a leg to a call, in the leg and in its spool.
    fn assign_call(&mut self, slot: usize, into: usize, sink: &mut dyn LegSink) {
        let (Some(leg), Some(call)) = (self.legs.get_mut(slot), self.conversations.get(into)) else { return };
        leg.conversation = into;
        let started_at = leg.started_at;
        if leg.spool == LegSpoolState::Open {
            sink.decide(leg.id, self.now, &Decision::Join { conversation: call.id.clone(), by: leg.joined_by });
        }
        if let Some(at) = started_at {
            self.schedule_segments(into, at);
        }
    }
}
