//! Split: legs that still have media after their call has ended become a separate call, related to the ended call.

use crate::call::conversation::Conversation;
use crate::call::correlation_keys::END_WINDOW;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::Engine;
use crate::call::engine::lifecycle::PARTNER_WINDOW;
use crate::call::event::LegSink;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::record::RelationRecord;
use crate::call::roles::CallRoles;
use crate::time::Timestamp;

impl Engine {
    /// Splits the surviving legs of an ended call off into a new call, unless a related live call records their sound.
    ///
    /// After a transfer with another leg that the mirror port does not show, no other call has that sound.
    pub(super) fn split_surviving_legs(&mut self, conversation: CallKey, sink: &mut dyn LegSink) {
        let Some(call) = self.table.call(conversation) else { return };
        let has_media = |leg: &Leg| leg.media.last_at().is_some_and(|last| self.clock.now.since(last) < PARTNER_WINDOW);
        let survives = |slot: &&LegKey| {
            self.table.leg(**slot).is_some_and(|leg| !leg.is_closed() && !leg.is_recording_session() && has_media(leg))
        };
        let slots: Vec<LegKey> = call.legs().iter().filter(survives).copied().collect();
        let heard = slots.iter().filter_map(|slot| self.table.leg(*slot)?.media.last_at()).max();
        if heard.is_some_and(|heard| !self.has_anchor_at(&call.relations, heard)) {
            self.split_call(conversation, &slots, CorrelationRule::Survives, sink);
        }
    }

    /// Returns whether the anchor leg of one of these calls was live at this time.
    fn has_anchor_at(&self, relations: &[RelationRecord], at: Timestamp) -> bool {
        let is_related = |call: &Conversation| relations.iter().any(|relation| relation.id == call.id);
        let mut calls = self.table.calls().filter(|(_, call)| is_related(call));
        calls.any(|(key, _)| {
            let legs: Vec<&Leg> = self.table.legs_of(key).collect();
            let roles = CallRoles::from_legs(&legs, &self.site.plan);
            // The legs of one conversation do not end at the same moment.
            roles.is_some_and(|roles| roles.anchor.dialog.ended().is_none_or(|(ended, _)| ended + END_WINDOW > at))
        })
    }
}
