//! Two conversations become one, or name each other.

use crate::call::conversation::Conversation;
use crate::call::decision::Decision;
use crate::call::engine::signalling::SETTLE;
use crate::call::engine::{Engine, EngineTimer};
use crate::call::event::LegSink;
use crate::call::id::conversation_id;
use crate::call::leg::SpoolStage;

impl Engine {
    /// Both calls name each other.
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

    /// Moves the legs of a conversation that nobody was told of into another.
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
        let (was_paused, comes_paused) = (call.pauses.paused_since(), old.pauses.paused_since());
        let settled: Vec<usize> =
            if was_paused.is_none() && comes_paused.is_some() { call.legs.clone() } else { Vec::new() };
        call.legs.extend(&old.legs);
        let legs = &self.legs;
        call.legs.sort_by_key(|slot| legs.get(*slot).map(|leg| (leg.created_at, leg.id)));
        call.pauses.merge(old.pauses);
        call.related.extend(old.related.iter().filter(|other| **other != id).cloned());
        call.related.retain(|other| *other != old.id);
        // Nobody will ever hear of the old id.
        for (_, other) in self.conversations.iter_mut().filter(|(slot, _)| *slot != into) {
            for named in other.related.iter_mut().filter(|named| **named == old.id) {
                named.clone_from(&id);
            }
        }
        for slot in old.legs {
            self.assign_call(slot, into, sink);
            if comes_paused.is_none() {
                self.apply_pause_to_new_leg(slot, self.now, sink);
            }
        }
        for slot in settled {
            self.apply_pause_to_new_leg(slot, self.now, sink);
        }
        self.apply_rules(into, sink);
    }

    /// Makes a call of its own of legs of another, and relates the two. Gives its place.
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

    /// Moves legs from the call that they were thought to be of into another. Both may have been told of: each keeps its
    /// id.
    pub(super) fn move_legs(&mut self, slots: &[usize], into: usize, sink: &mut dyn LegSink) {
        for &slot in slots {
            let Some(from) = self.legs.get(slot).map(|leg| leg.conversation) else { continue };
            let Some(call) = self.conversations.get_mut(from) else { continue };
            call.legs.retain(|other| *other != slot);
            let is_hushed = call.pauses.paused_since().is_some();
            let legs = &self.legs;
            let Some(call) = self.conversations.get_mut(into) else { continue };
            call.legs.push(slot);
            call.legs.sort_by_key(|slot| legs.get(*slot).map(|leg| (leg.created_at, leg.id)));
            self.assign_call(slot, into, sink);
            if !is_hushed {
                self.apply_pause_to_new_leg(slot, self.now, sink);
            }
            self.apply_rules(from, sink);
            self.emit_update(from);
        }
        self.apply_rules(into, sink);
        self.emit_update(into);
    }

    /// A leg is of another call from now on.
    fn assign_call(&mut self, slot: usize, into: usize, sink: &mut dyn LegSink) {
        let (Some(leg), Some(call)) = (self.legs.get_mut(slot), self.conversations.get(into)) else { return };
        leg.conversation = into;
        let started_at = leg.started_at;
        if leg.spool == SpoolStage::Open {
            sink.decide(leg.id, self.now, &Decision::Join { conversation: call.id.clone() });
        }
        if let Some(at) = started_at {
            self.schedule_segments(into, at);
        }
    }
}

/// Calls that have to do with one call.
const MAX_RELATED: usize = 16;
