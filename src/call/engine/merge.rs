//! Changes which legs belong to which call: merges two calls, moves legs to another or a new call, and relates calls.

use crate::call::conversation::Conversation;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::Engine;
use crate::call::event::{CallEvent, LegSink};
use crate::call::id::conversation_id;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::record::RelationRecord;

impl Engine {
    /// Relates two calls, so that the record of each lists the id of the other.
    pub(super) fn relate(&mut self, a: CallKey, b: CallKey, why: CorrelationRule, sink: &mut dyn LegSink) {
        let id = |engine: &Self, call: CallKey| engine.table.call(call).map(|c| c.id.clone());
        let (Some(id_a), Some(id_b)) = (id(self, a), id(self, b)) else { return };
        for (slot, other) in [(a, id_b), (b, id_a)] {
            let Some(call) = self.table.call_mut(slot) else { continue };
            if call.add_relation(RelationRecord::new(&other, why)) {
                self.store_call(slot, sink);
            }
        }
    }

    /// Merges the call `from` into the call `into`. The call `from` disappears. If an event had announced it, a further
    /// event reports this.
    pub(super) fn merge(&mut self, from: CallKey, into: CallKey, by: CorrelationRule, sink: &mut dyn LegSink) {
        let own_legs = self.table.keys_of(into).to_vec();
        let related = self.calls_related_to(from);
        if matches!(by, CorrelationRule::RingOutcome | CorrelationRule::MediaContent | CorrelationRule::BothMedia) {
            self.table.forget_ambiguity(from);
        }
        let Some(old) = self.table.merge(from, into) else { return };
        self.timers.disarm_call(from);
        related
            .iter()
            .filter(|call| **call != into)
            .for_each(|call| self.replace_alternative(*call, (from, into), sink));
        let Some(call) = self.table.call_mut(into) else { return };
        let (was_paused, old_paused) = (call.pauses.paused_since(), old.pauses.paused_since());
        let newly_paused = if was_paused.is_none() && old_paused.is_some() { own_legs } else { Vec::new() };
        call.pauses.merge(old.pauses);
        call.notes.absorb(old.notes);
        call.origin.absorb(old.origin);
        self.note_joined(into, by, old.links.legs(), sink);
        for &slot in old.links.legs() {
            self.note_assigned(slot, into, sink);
            if old_paused.is_none() {
                self.apply_pause_to_new_leg(slot, self.clock.now, sink);
            }
        }
        related.into_iter().chain([into]).for_each(|call| self.store_call(call, sink));
        for slot in newly_paused {
            self.apply_pause_to_new_leg(slot, self.clock.now, sink);
        }
        self.outline_doubtful_call(into);
        self.apply_rules(into, sink);
        self.events.extend(old.stage.is_announced().then_some(CallEvent::Absorbed(old.id)));
    }

    /// Records in the legs of another call that they could belong to the call `into`, if they could belong to the
    /// merged call `from` before.
    fn replace_alternative(&mut self, call: CallKey, (from, into): (CallKey, CallKey), sink: &mut dyn LegSink) {
        for slot in self.table.keys_of(call).to_vec() {
            if self.table.leg_mut(slot).is_some_and(|leg| leg.join.replace_alternative(from, into)) {
                self.store_assignment(slot, sink);
            }
        }
    }

    /// Returns the keys of the calls that are related to this call.
    fn calls_related_to(&self, call: CallKey) -> Vec<CallKey> {
        let Some(id) = self.table.call(call).map(|call| call.id.as_str()) else { return Vec::new() };
        let calls = self.table.calls().filter(|(_, call)| call.relations.iter().any(|relation| relation.id == id));
        calls.map(|(key, _)| key).collect()
    }

    /// Moves legs of a call to a new call, which is related to the old call. Returns the new call.
    pub(super) fn split_call(
        &mut self,
        from: CallKey,
        slots: &[LegKey],
        why: CorrelationRule,
        sink: &mut dyn LegSink,
    ) -> Option<CallKey> {
        let first = self.table.leg(*slots.first()?)?;
        let left = self.table.call(from)?;
        let slots = &self.with_silent_hops(from, slots);
        // The id of the old call may be a hash of the Call-ID and the From tag of this leg. So the hash for the new id
        // also includes the old id, and the two ids differ.
        let tag = format!("{}{}", first.dialog.caller_tag().unwrap_or_default(), left.id);
        let (at, call_id) = (first.created_at, first.dialog.call_id());
        let id = conversation_id(&self.settings.config.appliance, call_id, Some(&tag), at);
        let relays = left.notes.relays().to_vec();
        let mut own = Conversation { id, ..self.new_call_of(*slots.first()?)? };
        relays.into_iter().for_each(|pair| _ = own.notes.note_relay(pair));
        own.stage.settle();
        own.closed_to_heuristics = true;
        let into = self.table.insert_call(own);
        self.relate(from, into, why, sink);
        self.move_legs(slots, into, why, sink);
        Some(into)
    }

    /// Returns these legs of a call, and the legs without media that belong to the same dialogs. E.g. a proxy forwards
    /// a dialog but not its media, so only the leg on one side of the proxy has media.
    fn with_silent_hops(&self, call: CallKey, slots: &[LegKey]) -> Vec<LegKey> {
        let legs: Vec<&Leg> = slots.iter().filter_map(|slot| self.table.leg(*slot)).collect();
        let is_hop = |leg: &Leg| !leg.has_media() && legs.iter().any(|known| leg.is_branch_of(known));
        let of_call = self.table.keys_of(call).iter().copied();
        let goes = |slot: &LegKey| slots.contains(slot) || self.table.leg(*slot).is_some_and(is_hop);
        let all: Vec<LegKey> = of_call.filter(goes).collect();
        // At least one leg must stay in the call. So the legs without media move only if other legs are left.
        if all.len() < self.table.keys_of(call).len() { all } else { slots.to_vec() }
    }

    /// Returns a new call without legs for a leg that leaves its call. The new call is paused if the old call is.
    pub(super) fn new_call_of(&self, first: LegKey) -> Option<Conversation> {
        let first = self.table.leg(first)?;
        let from = self.table.call(first.call())?;
        let (at, dialog) = (first.created_at, &first.dialog);
        let id = conversation_id(&self.settings.config.appliance, dialog.call_id(), dialog.caller_tag(), at);
        let mut own = Conversation::new(id, at, from.wall_offset_ns);
        own.pauses = from.pauses.clone();
        Some(own)
    }

    /// Moves legs to another call. Both calls keep their ids, because events may have announced them.
    pub(super) fn move_legs(&mut self, slots: &[LegKey], into: CallKey, by: CorrelationRule, sink: &mut dyn LegSink) {
        for &slot in slots {
            let Some(from) = self.table.leg(slot).map(|leg| leg.call()) else { continue };
            let Some(call) = self.table.call(from) else { continue };
            let is_paused = call.pauses.paused_since().is_some();
            self.table.move_leg(slot, into);
            if let Some(leg) = self.table.leg_mut(slot) {
                leg.join.set(Some(by));
            }
            self.note_joined(from, by, &[], sink);
            self.note_joined(into, by, &[slot], sink);
            self.note_assigned(slot, into, sink);
            if !is_paused {
                self.apply_pause_to_new_leg(slot, self.clock.now, sink);
            }
            self.apply_rules(from, sink);
            self.emit_update(from, sink);
        }
        self.store_call(into, sink);
        self.outline_doubtful_call(into);
        self.apply_rules(into, sink);
        self.emit_update(into, sink);
    }

    /// Stores by which rule each leg joined its call: the rule `by` if the leg has none yet. The first leg gets no
    /// rule, because it began the call. Writes a changed rule to the spool of its leg, except for the legs in
    /// `entering`, for which the calling function writes it.
    pub(super) fn note_joined(
        &mut self,
        conversation: CallKey,
        by: CorrelationRule,
        entering: &[LegKey],
        sink: &mut dyn LegSink,
    ) {
        for (position, slot) in self.table.keys_of(conversation).to_vec().into_iter().enumerate() {
            let Some(leg) = self.table.leg_mut(slot) else { continue };
            let joined_by = if position == 0 { None } else { leg.join.by().or(Some(by)) };
            if leg.join.by() != joined_by {
                leg.join.set(joined_by);
                if !entering.contains(&slot) {
                    self.store_assignment(slot, sink);
                }
            }
        }
    }

    /// Writes the new call of a leg to the leg's spool file. If the file is closed, stores the name of the leg in the
    /// call instead. Also sets the timer for the segments of the call's recording.
    fn note_assigned(&mut self, slot: LegKey, into: CallKey, sink: &mut dyn LegSink) {
        self.store_assignment(slot, sink);
        let Some((leg, call)) = self.table.leg_and_call_mut(slot) else { return };
        let started_at = leg.spool.started_at();
        if leg.has_closed_spool() {
            call.notes.adopt_leg(leg.name.clone());
        }
        if let Some(at) = started_at {
            self.schedule_segments(into, at);
        }
    }
}
