//! Updates indexes, correlation, spool and timers after the state of a dialog has changed.

use crate::call::correlate::LegMoment;
use crate::call::engine::Engine;
use crate::call::event::LegSink;
use crate::call::keys::LegKey;
use crate::call::media_index::AddressTrust;

impl Engine {
    /// Updates indexes, correlation, spool and timers of a leg after a message or a timeout has changed its dialog.
    pub(super) fn apply_dialog_state(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        self.index_media_addresses(slot, sink);
        self.apply(self.correlator().decide_leg(slot, LegMoment::Announced), sink);
        let is_answered = self.table.leg(slot).is_some_and(|leg| leg.dialog.answered.is_some());
        let has_ended = self.table.leg(slot).is_some_and(|leg| leg.dialog.ended().is_some());
        if is_answered {
            self.write_start(slot, sink);
            self.contest_older_legs(slot);
        }
        if has_ended {
            self.table.unroute(slot);
            self.outline_rest(slot);
        }
        if is_answered || has_ended {
            self.apply(self.correlator().decide_leg(slot, LegMoment::AnsweredOrEnded), sink);
        }
        self.watch_changed_leg(slot);
        self.outline_unanswered_leg(slot);
        self.schedule_answer_review(slot);
        self.rearm_leg_timer(slot);
        if let Some(conversation) = self.table.leg(slot).map(|leg| leg.call()) {
            if !self.settings.rules.is_empty() {
                self.apply_rules(conversation, sink);
            }
            self.emit_update(conversation, sink);
        }
    }

    /// Updates the index of media addresses after the leg announced other addresses. Stored RTP packets at the new
    /// addresses are passed to the leg.
    fn index_media_addresses(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        let Some(new_endpoints) = self.table.announce(slot) else { return };
        let Some(leg) = self.table.leg(slot) else { return };
        for (endpoint, side) in leg.dialog.negotiation.claims() {
            if leg.address_trust(endpoint, side) != AddressTrust::Unconfirmed {
                self.ended.timed_out.release_address(endpoint);
            }
        }
        self.deliver_early_media(&new_endpoints, sink);
    }
}
