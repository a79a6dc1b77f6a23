//! Split: legs that still have media after their call has ended become a call of their own, related to the ended call.

use crate::call::conversation::Conversation;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::Engine;
use crate::call::engine::lifecycle::PARTNER_WINDOW;
use crate::call::event::LegSink;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::record::RelationRecord;
use crate::call::roles::CallRoles;

impl Engine {
    /// Splits the surviving legs of an ended call off into a new call, unless a related live call records their sound.
    ///
    /// After a transfer whose other leg the mirror port does not show, no other call has that sound.
    pub(super) fn split_surviving_legs(&mut self, conversation: CallKey, sink: &mut dyn LegSink) {
        let Some(call) = self.table.call(conversation) else { return };
        let has_media = |leg: &Leg| leg.last_media_at.is_some_and(|last| self.clock.now.since(last) < PARTNER_WINDOW);
        let survives = |slot: &&LegKey| {
            self.table.leg(**slot).is_some_and(|leg| !leg.closed && !leg.is_recording_session() && has_media(leg))
        };
        let slots: Vec<LegKey> = call.legs().iter().filter(survives).copied().collect();
        if !slots.is_empty() && !self.has_live_anchor(&call.relations) {
            self.split_call(conversation, &slots, CorrelationRule::Survives, sink);
        }
    }

    /// Returns whether the anchor leg of one of these calls has not ended.
    fn has_live_anchor(&self, relations: &[RelationRecord]) -> bool {
        let is_related = |call: &Conversation| relations.iter().any(|relation| relation.id == call.id);
        let mut calls = self.table.calls().filter(|(_, call)| is_related(call));
        calls.any(|(key, _)| {
            let legs: Vec<&Leg> = self.table.legs_of(key).collect();
            CallRoles::from_legs(&legs, &self.site.plan).is_some_and(|roles| roles.anchor.dialog.ended().is_none())
        })
    }
}
