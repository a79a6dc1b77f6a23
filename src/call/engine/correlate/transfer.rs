//! Transfers that are said to be such: what a REFER asks for, and what an INVITE replaces.

use crate::call::correlation_keys::{Referral, Shape, Traces};
use crate::call::engine::Engine;
use crate::call::event::LegSink;
use crate::call::leg::{Draft, Leg};
use crate::call::roles::Who;
use crate::decode::Datagram;
use crate::sip::Message;

/// What was found for a new leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::call::engine) enum Found {
    /// It belongs to this conversation.
    Same(usize),
    /// It is a call of its own that has to do with this conversation.
    Related(usize),
}

impl Engine {
    pub(in crate::call::engine) fn handle_refer(
        &mut self,
        slot: usize,
        message: &Message<'_>,
        datagram: &Datagram<'_>,
        sink: &mut dyn LegSink,
    ) {
        let Some(leg) = self.legs.get(slot) else { return };
        let Some(mut referral) = Referral::read(message, datagram.dst, datagram.at) else { return };
        referral.conversation = leg.conversation;
        referral.on_anchor = self.is_anchor(leg);
        // An attended transfer names the consultation.
        let consultation = referral.replaces.as_ref().and_then(|call_id| {
            let slot = self.by_call_id.get(call_id)?.first()?;
            Some(self.legs.get(*slot)?.conversation).filter(|c| *c != referral.conversation)
        });
        if let Some(consultation) = consultation {
            self.relate(referral.conversation, consultation);
        }
        if self.referrals.iter().any(|r| r.target == referral.target && r.conversation == referral.conversation) {
            return;
        }
        if self.referrals.len() == MAX_REFERRALS {
            self.referrals.pop_front();
        }
        self.gather_referred(&referral, sink);
        self.referrals.push_back(referral);
        if let Some(leg) = self.legs.get_mut(slot) {
            leg.dialog.note_transfer(datagram.at, message);
        }
    }

    /// What a REFER asked for may have been seen a moment before it.
    fn gather_referred(&mut self, referral: &Referral, sink: &mut dyn LegSink) {
        let Some(target) = referral.target.as_deref() else { return };
        let caused = |l: &&Leg| {
            let call = self.conversations.get(l.conversation);
            l.conversation != referral.conversation
                && l.created_at >= referral.at
                && call.is_some_and(|c| !c.settled && c.legs.len() == 1)
                && referral.causes(&l.shape(), &l.traces)
        };
        let found = self.join_index.at(referral.asked, target).iter().filter_map(|s| self.legs.get(*s)).find(caused);
        let Some(found) = found.map(|l| l.conversation) else { return };
        if referral.on_anchor {
            self.relate(referral.conversation, found);
        } else {
            self.merge(found, referral.conversation, sink);
        }
    }

    /// The leg whose dialog is replaced: a pick-up of one of a conversation's legs goes on in it; the replacement of
    /// its only one, or of the anchor, is a new call.
    pub(in crate::call::engine) fn by_replaces(&self, traces: &Traces) -> Option<Found> {
        let replaced = self.by_call_id.get(traces.replaces.as_ref()?)?;
        let leg = replaced.iter().find_map(|slot| self.legs.get(*slot))?;
        Some(if self.is_anchor(leg) { Found::Related(leg.conversation) } else { Found::Same(leg.conversation) })
    }

    pub(in crate::call::engine) fn by_referral(&self, draft: &Draft, shape: &Shape<'_>) -> Option<Found> {
        let referral = self.referrals.iter().rev().find(|r| r.causes(shape, &draft.traces))?;
        self.conversations.get(referral.conversation)?;
        Some(if referral.on_anchor {
            Found::Related(referral.conversation)
        } else {
            Found::Same(referral.conversation)
        })
    }

    fn is_anchor(&self, leg: &Leg) -> bool {
        let Some(call) = self.conversations.get(leg.conversation) else { return false };
        let legs: Vec<&Leg> = call.legs.iter().filter_map(|s| self.legs.get(*s)).collect();
        Who::of(&legs, &self.plan).is_some_and(|who| who.anchor.id == leg.id)
    }
}

/// REFERs of the last half minute on a busy PBX.
const MAX_REFERRALS: usize = 1_024;
