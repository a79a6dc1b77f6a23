//! Makes room for a new leg when the table of legs is full: removes the oldest INVITE that has no response.

use crate::call::engine::Engine;
use crate::call::event::{DiscardReason, LegSink};
use crate::call::keys::{CallKey, LegKey};
use crate::call::record::EndedBy;

impl Engine {
    /// Removes the oldest INVITE without any response. If an event has announced its call, the call ends with a record.
    /// Otherwise the call is only counted. Returns false if no leg can be removed.
    pub(super) fn evict_unanswered_leg(&mut self, sink: &mut dyn LegSink) -> bool {
        while let Some(slot) = self.table.pop_unanswered() {
            let Some((leg, call)) = self.table.leg_and_call_mut(slot) else { continue };
            self.counters.legs_evicted += 1;
            let conversation = leg.call();
            if !call.stage.is_announced() && call.legs() == [slot] {
                if self.is_scan_suspect(conversation) {
                    self.count_scan_attempt(conversation);
                }
                self.drop_conversation(conversation, slot, sink);
            } else {
                leg.dialog.handle_end(self.clock.now, EndedBy::Limit);
                self.close_leg(slot, sink);
            }
            // If the call of this leg goes on, the leg is only closed and keeps its place in the table. Then a further
            // leg must be removed.
            if self.table.leg_count() < self.settings.limits.legs {
                return true;
            }
        }
        false
    }

    /// Removes a conversation and its only leg. The conversation gets no call record.
    fn drop_conversation(&mut self, conversation: CallKey, slot: LegKey, sink: &mut dyn LegSink) {
        self.unindex_leg(slot);
        self.timers.disarm_call(conversation);
        for leg in self.table.remove_call(conversation).into_iter().flat_map(|(_, legs)| legs) {
            if leg.spool.is_open() {
                sink.discard(leg.id, DiscardReason::Evicted);
            }
        }
    }
}
