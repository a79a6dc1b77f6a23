//! Moves legs of a call to a new call, in two cases. Legs that still have media after the end of their call move to a
//! call that is related to it. Legs also move if the leg that really caused them is captured only after they joined the
//! call.

use crate::call::conversation::Conversation;
use crate::call::correlation_keys::END_WINDOW;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::Engine;
use crate::call::engine::lifecycle::PARTNER_WINDOW;
use crate::call::engine::signalling::SETTLE;
use crate::call::event::LegSink;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::roles::CallRoles;
use crate::call::timers::EngineTimer;
use crate::time::Timestamp;

impl Engine {
    /// Moves the legs that still have media after the end of their call to a new call. Does nothing if the recording of
    /// a related live call has their sound.
    ///
    /// E.g. a call is transferred to a leg that the mirror port does not show. Then no other call has this sound.
    ///
    /// If the PBX only plays a busy tone on these legs, they stay in their call. The legs also stay open, because
    /// somebody may talk after the tone. In this case returns true: the legs must be examined again later.
    pub(super) fn split_surviving_legs(&mut self, conversation: CallKey, sink: &mut dyn LegSink) -> bool {
        let slots = self.surviving_legs(conversation);
        if slots.is_empty() {
            return false;
        }
        if self.correlator().have_only_tones(conversation, &slots) {
            self.outline_rest_of(&slots);
            if let Some(call) = self.table.call_mut(conversation) {
                call.notes.note_busy_tone();
            }
            return true;
        }
        self.apply(self.correlator().served_by_survivor(conversation, &slots), sink);
        self.split_call(conversation, &slots, CorrelationRule::Survives, sink);
        false
    }

    /// Returns the open legs of an ended call that still have media, or that had only a busy tone since then. Returns
    /// none if the recording of a related live call has their sound.
    fn surviving_legs(&self, conversation: CallKey) -> Vec<LegKey> {
        let Some(call) = self.table.call(conversation) else { return Vec::new() };
        let has_media = |leg: &Leg| leg.media.last_at().is_some_and(|last| self.clock.now.since(last) < PARTNER_WINDOW);
        let survives = |slot: &&LegKey| {
            self.table.leg(**slot).is_some_and(|leg| {
                let is_live = !leg.is_closed() && !leg.is_recording_session();
                is_live && (has_media(leg) || self.correlator().have_only_tones(conversation, &[**slot]))
            })
        };
        let slots: Vec<LegKey> = call.legs().iter().filter(survives).copied().collect();
        let heard = slots.iter().filter_map(|slot| self.table.leg(*slot)?.media.last_at()).max();
        if heard.is_some_and(|heard| !self.has_anchor_at(call, heard)) { slots } else { Vec::new() }
    }

    /// Moves the legs that were heard after the end of the recording to a new call, and returns this call.
    ///
    /// Does so only if a REFER transferred the ended call, or if these legs first carried a busy tone. Does nothing if
    /// the recording of a related call has their sound, or if nobody talks.
    ///
    /// E.g. an extension connects its caller with the party of a consultation call and hangs up, while the mirror port
    /// does not show the trunk. Then the caller talks on the leg of the consultation.
    pub(super) fn split_transferred_legs(&mut self, conversation: CallKey, sink: &mut dyn LegSink) -> Option<CallKey> {
        let call = self.table.call(conversation)?;
        let is_transferred = call.relations.iter().any(|relation| relation.why == CorrelationRule::ReferReplaces);
        if !is_transferred && !call.notes.heard_busy_tone() {
            return None;
        }
        let slots = self.correlator().legs_heard_after_recording(conversation);
        let heard = slots.iter().filter_map(|slot| self.table.leg(*slot)?.media.last_at()).max()?;
        if self.has_anchor_at(call, heard) {
            return None;
        }
        self.split_call(conversation, &slots, CorrelationRule::Survives, sink)
    }

    /// Takes legs out of their call and makes a new call of them, as if they had just been captured.
    ///
    /// If `slots` contains the first leg of the call, the legs of `slots` stay, and all other legs move to the new
    /// call. The id of the old call comes from its first leg.
    pub(super) fn release_legs(&mut self, slots: &[LegKey], sink: &mut dyn LegSink) {
        let Some(from) = slots.first().and_then(|slot| self.table.leg(*slot)).map(Leg::call) else { return };
        let all = self.table.keys_of(from);
        let keeps_them = all.first().is_some_and(|first| slots.contains(first));
        let moved: Vec<LegKey> = all.iter().copied().filter(|slot| slots.contains(slot) != keeps_them).collect();
        let Some(own) = moved.first().and_then(|slot| self.new_call_of(*slot)) else { return };
        let into = self.table.insert_call(own);
        self.timers.arm(EngineTimer::Settle(into), self.clock.now + SETTLE);
        for slot in moved {
            let by = self.table.leg(slot).and_then(|leg| leg.join.by()).unwrap_or(CorrelationRule::LateCause);
            self.move_legs(&[slot], into, by, sink);
        }
    }

    /// Stores in all related live calls the time at which the anchor leg (the recorded leg) of an ended call ended.
    /// Until this time, the recording of the ended call also contains the sound of the related calls.
    pub(super) fn note_anchor_end(&mut self, over: &Conversation, legs: &[&Leg]) {
        let roles = CallRoles::from_legs(legs, &self.site.plan);
        let Some((at, _)) = roles.and_then(|roles| roles.anchor.dialog.ended()) else { return };
        for relation in &over.relations {
            if let Some(call) = self.table.call_by_id(&relation.id).and_then(|key| self.table.call_mut(key)) {
                call.notes.note_recorded_elsewhere(at);
            }
        }
    }

    /// Keeps the ids of the live calls that are related to an ended call. The record of the ended call names these ids,
    /// so no merge may remove them.
    ///
    /// Exception: a related call that is a single live dialog, which could have belonged to the ended call. It goes on
    /// after that call, so it did not belong to it, and the two calls are no longer related.
    pub(super) fn keep_related_calls(&mut self, over: CallKey, sink: &mut dyn LegSink) {
        let relations = self.table.call(over).map_or(&[][..], |call| &call.relations).to_vec();
        for relation in relations {
            let Some(other) = self.table.call_by_id(&relation.id) else { continue };
            let may_belong = |leg: &Leg| leg.dialog.ended().is_none() && leg.join.alternatives().contains(&over);
            let is_undecided = self.correlator().has_one_root(other) && self.table.legs_of(other).any(may_belong);
            if relation.why == CorrelationRule::Ambiguous && is_undecided {
                self.table.forget_relation(over, other);
            } else if let Some(call) = self.table.call_mut(other) {
                call.recording.commit();
            }
            self.store_call(other, sink);
        }
    }

    /// Returns whether the anchor leg (the recorded leg) of a related call was live at this time.
    fn has_anchor_at(&self, call: &Conversation, at: Timestamp) -> bool {
        // The legs of one conversation do not end at exactly the same moment. So the anchor leg (the recorded leg) may
        // have ended a little before this time.
        let lives = |ended: Timestamp| ended + END_WINDOW > at;
        let mut related = call.relations.iter().filter_map(|relation| self.table.call_by_id(&relation.id));
        call.notes.recorded_elsewhere().is_some_and(lives)
            || related.any(|key| {
                let legs: Vec<&Leg> = self.table.legs_of(key).collect();
                let roles = CallRoles::from_legs(&legs, &self.site.plan);
                roles.is_some_and(|roles| roles.anchor.dialog.ended().is_none_or(|(ended, _)| lives(ended)))
            })
    }
}
