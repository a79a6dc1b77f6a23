//! Admission of new legs to the full table of legs: evicts the oldest INVITE that has no response.

use crate::call::engine::{Engine, EngineTimer};
use crate::call::event::{LegId, LegSink};
use crate::call::leg::{Leg, LegSpoolState};
use crate::call::record::EndedBy;

impl Engine {
    /// Appends a new leg to the queue for [`Engine::evict_unanswered_leg`].
    pub(super) fn queue_unanswered_leg(&mut self, slot: usize, id: LegId) {
        let waits = |legs: &slab::Slab<Leg>, (slot, id): (usize, LegId)| {
            legs.get(slot).is_some_and(|leg| leg.id == id && leg.is_unanswered_call())
        };
        while self.unanswered_legs.front().is_some_and(|entry| !waits(&self.legs, *entry)) {
            self.unanswered_legs.pop_front();
        }
        if self.unanswered_legs.len() >= 2 * self.limits.legs {
            let legs = &self.legs;
            self.unanswered_legs.retain(|entry| waits(legs, *entry));
        }
        self.unanswered_legs.push_back((slot, id));
    }

    /// Evicts the oldest INVITE without any response. If its call was announced by an event, the call ends with a record;
    /// else only a counter remains. Returns false if no leg can be evicted.
    pub(super) fn evict_unanswered_leg(&mut self, sink: &mut dyn LegSink) -> bool {
        while let Some((slot, id)) = self.unanswered_legs.pop_front() {
            let Some(leg) = self.legs.get_mut(slot) else { continue };
            if leg.id != id || leg.closed || !leg.is_unanswered_call() {
                continue;
            }
            self.counters.legs_evicted += 1;
            let conversation = leg.conversation;
            let is_unannounced = self
                .conversations
                .get(conversation)
                .is_some_and(|c| c.last_snapshot.is_none() && c.legs.as_slice() == [slot]);
            if is_unannounced {
                if self.is_scan_suspect(conversation) {
                    self.count_scan_attempt(conversation);
                }
                self.drop_conversation(conversation, slot, sink);
            } else {
                leg.dialog.handle_end(self.now, EndedBy::Limit);
                self.close_leg(slot, sink);
            }
            // A closed leg stays in the table while its call goes on, so more legs may have to be evicted.
            if self.legs.len() < self.limits.legs {
                return true;
            }
        }
        false
    }

    /// Removes a conversation and its only leg without a record.
    fn drop_conversation(&mut self, conversation: usize, slot: usize, sink: &mut dyn LegSink) {
        self.unindex_leg(slot);
        if let Some(leg) = self.legs.try_remove(slot) {
            self.stream_count -= leg.streams.len();
            if leg.spool == LegSpoolState::Open {
                sink.discard(leg.id);
            }
        }
        if let Some(call) = self.conversations.try_remove(conversation) {
            self.timers.remove(&(call.created_at + super::signalling::SETTLE, EngineTimer::Settle(conversation)));
            self.cancel_segment_timer(conversation, &call);
            self.referrals.retain(|r| r.conversation != conversation);
        }
    }
}
