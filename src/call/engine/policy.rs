//! What may be kept: the rules applied to what is known of a call, and which leg gives way in a flood.

use crate::call::conversation::Handling;
use crate::call::decision::{Decision, FORMAT};
use crate::call::engine::{Engine, Timer};
use crate::call::event::{CallEvent, LegId, LegSink};
use crate::call::leg::{Leg, SpoolStage};
use crate::call::party::Parties;
use crate::call::record::EndedBy;
use crate::call::roles::Who;
use crate::call::rules::Subject;

impl Engine {
    /// Applies the rules to what is known of a call now, and opens or shuts the spools of its legs.
    pub(super) fn judge(&mut self, conversation: usize, sink: &mut dyn LegSink) {
        let handling = self.handling_of(conversation);
        let Some(call) = self.conversations.get_mut(conversation) else { return };
        call.handling = handling;
        for slot in call.legs.clone() {
            match handling {
                Handling::Exclude { .. } => self.shut_spool(slot, sink),
                Handling::Record | Handling::NoRegister { .. } => self.open_spool(slot, sink),
            }
        }
    }

    fn handling_of(&self, conversation: usize) -> Handling {
        if self.rules.is_empty() {
            return Handling::Record;
        }
        let (Some(call), Some(record)) = (self.conversations.get(conversation), self.record_of(conversation)) else {
            return Handling::Record;
        };
        let legs: Vec<&Leg> = call.legs.iter().filter_map(|slot| self.legs.get(*slot)).collect();
        let parties: Vec<&Parties> = legs.iter().map(|leg| &leg.parties).collect();
        let undecided = Who::of(&legs, &self.plan).is_some_and(|who| who.is_undecided());
        self.rules.handling(Subject { record: &record, parties: &parties, undecided }, &self.plan)
    }

    fn open_spool(&mut self, slot: usize, sink: &mut dyn LegSink) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let Some(call) = self.conversations.get(leg.conversation) else { return };
        if leg.spool != SpoolStage::Shut || leg.closed {
            return;
        }
        leg.spool = SpoolStage::Open;
        leg.started_at = None;
        sink.open(leg.id, &leg.name);
        let begin = Decision::Begin {
            format: FORMAT,
            leg: leg.name.clone(),
            conversation: call.id.clone(),
            appliance: self.config.appliance.clone(),
            source: self.source.clone(),
            transport: leg.dialog.transport,
            wall_offset_ns: call.wall_offset_ns,
        };
        sink.decide(leg.id, leg.created_at, &begin);
        let wall_offset_ns = self.wall_offset_ns;
        if wall_offset_ns != call.wall_offset_ns {
            sink.decide(leg.id, leg.created_at, &Decision::Clock { wall_offset_ns });
        }
        for (index, stream) in leg.streams.iter_mut().enumerate() {
            stream.forget_told();
            let (src, dst, ssrc, side) = (stream.src, stream.dst, stream.ssrc, stream.side);
            let stream = u32::try_from(index).unwrap_or(u32::MAX);
            sink.decide(leg.id, self.now, &Decision::Stream { stream, src, dst, ssrc, side });
        }
        if leg.has_media() {
            self.note_start(slot, sink);
            self.hush_newcomer(slot, self.now, sink);
        }
        self.hush_newcomer(slot, self.now, sink);
    }

    fn shut_spool(&mut self, slot: usize, sink: &mut dyn LegSink) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if leg.spool != SpoolStage::Open {
            return;
        }
        leg.spool = SpoolStage::Shut;
        sink.discard(leg.id);
        if leg.has_media()
            && let Some(call) = self.conversations.get_mut(leg.conversation)
        {
            call.deleted = true;
            if std::mem::take(&mut call.parts) > 0 {
                self.events.push_back(CallEvent::Withdrawn(call.id.clone()));
            }
        }
    }

    /// Remembers the order in which legs came, for [`Engine::make_room`].
    pub(super) fn note_fresh(&mut self, slot: usize, id: LegId) {
        let waits = |legs: &slab::Slab<Leg>, (slot, id): (usize, LegId)| {
            legs.get(slot).is_some_and(|leg| leg.id == id && leg.is_unanswered_call())
        };
        while self.fresh.front().is_some_and(|entry| !waits(&self.legs, *entry)) {
            self.fresh.pop_front();
        }
        if self.fresh.len() >= 2 * self.limits.legs {
            let legs = &self.legs;
            self.fresh.retain(|entry| waits(legs, *entry));
        }
        self.fresh.push_back((slot, id));
    }

    /// Drops the oldest INVITE to which nobody said a word. A call of which the outside was told ends in a record; of
    /// one that nobody knows only the count remains. `false` if no leg may be dropped.
    pub(super) fn make_room(&mut self, sink: &mut dyn LegSink) -> bool {
        while let Some((slot, id)) = self.fresh.pop_front() {
            let Some(leg) = self.legs.get_mut(slot) else { continue };
            if leg.id != id || leg.closed || !leg.is_unanswered_call() {
                continue;
            }
            self.counters.legs_evicted += 1;
            let conversation = leg.conversation;
            let unknown =
                self.conversations.get(conversation).is_some_and(|c| c.told.is_none() && c.legs.as_slice() == [slot]);
            if unknown {
                self.drop_conversation(conversation, slot, sink);
            } else {
                leg.dialog.handle_end(self.now, EndedBy::Limit);
                self.close_leg(slot, sink);
            }
            // A closed leg of a call that goes on keeps its place.
            if self.legs.len() < self.limits.legs {
                return true;
            }
        }
        false
    }

    fn drop_conversation(&mut self, conversation: usize, slot: usize, sink: &mut dyn LegSink) {
        self.forget_leg(slot);
        if let Some(leg) = self.legs.try_remove(slot) {
            self.streams -= leg.streams.len();
            if leg.spool == SpoolStage::Open {
                sink.discard(leg.id);
            }
        }
        if let Some(call) = self.conversations.try_remove(conversation) {
            self.timers.remove(&(call.created_at + super::signalling::SETTLE, Timer::Settle(conversation)));
            self.forget_part_timer(conversation, &call);
            self.referrals.retain(|r| r.conversation != conversation);
        }
    }
}
