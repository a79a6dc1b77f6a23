//! Changes to the legs of calls: merging two calls, splitting legs off, moving legs, and relating calls.

use crate::call::conversation::Conversation;
use crate::call::decision::Decision;
use crate::call::engine::signalling::SETTLE;
use crate::call::engine::{Engine, EngineTimer};
use crate::call::event::LegSink;
use crate::call::id::conversation_id;
use crate::call::leg::LegSpoolState;

impl Engine {
    /// Relates two calls: each call's record lists the other's id.
    pub(super) fn relate(&mut self, a: usize, b: usize) {
        let id = |engine: &Self, slot: usize| engine.conversations.get(slot).map(|c| c.id.clone());
        let (Some(id_a), Some(id_b)) = (id(self, a), id(self, b)) else { return };
        for (slot, other) in [(a, id_b), (b, id_a)] {
            if let Some(call) = self.conversations.get_mut(slot)
                && call.related.len() < MAX_RELATED
                && !call.related.contains(&other)
            {
                call.related.push(other);
            }
        }
    }

    /// Merges the call `from` into the call `into`. The id of `from` disappears, so no event may have announced it.
    pub(super) fn merge(&mut self, from: usize, into: usize, sink: &mut dyn LegSink) {
        let Some(old) = self.conversations.try_remove(from) else { return };
        let at = old.created_at + SETTLE;
        self.timers.remove(&(at, EngineTimer::Settle(from)));
        self.cancel_segment_timer(from, &old);
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
        call.related.extend(old.related.iter().filter(|other| **other != id).cloned());
        call.related.retain(|other| *other != old.id);
        // The old id gets no record, so relations to it are changed to the new one.
        for (_, other) in self.conversations.iter_mut().filter(|(slot, _)| *slot != into) {
            for named in other.related.iter_mut().filter(|named| **named == old.id) {
                named.clone_from(&id);
            }
        }
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
    pub(super) fn split_call(&mut self, from: usize, slots: &[usize], sink: &mut dyn LegSink) -> usize {
        let call = &self.conversations[from];
        let first = &self.legs[slots[0]];
        let (at, dialog) = (first.created_at, &first.dialog);
        let id = conversation_id(&self.config.appliance, &dialog.call_id, dialog.caller_tag.as_deref(), at);
        let mut own = Conversation::new(id, at, call.wall_offset_ns);
        own.settled = true;
        own.closed_to_heuristics = true;
        own.pauses = call.pauses.clone();
        let into = self.conversations.insert(own);
        self.relate(from, into);
        self.move_legs(slots, into, sink);
        into
    }

    /// Moves legs to another call. Both calls keep their ids, so both may have been announced by events.
    pub(super) fn move_legs(&mut self, slots: &[usize], into: usize, sink: &mut dyn LegSink) {
        for &slot in slots {
            let Some(from) = self.legs.get(slot).map(|leg| leg.conversation) else { continue };
            let Some(call) = self.conversations.get_mut(from) else { continue };
            call.legs.retain(|other| *other != slot);
            let is_paused = call.pauses.paused_since().is_some();
            let legs = &self.legs;
            let Some(call) = self.conversations.get_mut(into) else { continue };
            call.legs.push(slot);
            call.legs.sort_by_key(|slot| legs.get(*slot).map(|leg| (leg.created_at, leg.id)));
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

    /// Assigns a leg to a call, in the leg and in its spool.
    fn assign_call(&mut self, slot: usize, into: usize, sink: &mut dyn LegSink) {
        let (Some(leg), Some(call)) = (self.legs.get_mut(slot), self.conversations.get(into)) else { return };
        leg.conversation = into;
        let started_at = leg.started_at;
        if leg.spool == LegSpoolState::Open {
            sink.decide(leg.id, self.now, &Decision::Join { conversation: call.id.clone() });
        }
        if let Some(at) = started_at {
            self.schedule_segments(into, at);
        }
    }
}

/// Related calls listed for one call.
const MAX_RELATED: usize = 16;
