//! Correlation of transfers that the signalling states: REFER (RFC 3515) and Replaces (RFC 3891).

use crate::call::correlation_keys::{CorrelationKeys, LegSignature, Referral};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::Engine;
use crate::call::event::LegSink;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegDraft};
use crate::call::roles::CallRoles;
use crate::decode::UdpDatagram;
use crate::sip::SipMessage;

/// Match of a new leg with a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransferMatch {
    /// The leg belongs to this call.
    SameCall(CallKey),
    /// The leg begins a call of its own that is related to this call.
    RelatedCall(CallKey),
}

impl Engine {
    /// Records a REFER that was sent in the leg at `slot`. The INVITE that it causes is correlated when it comes, or now
    /// if it was captured before.
    pub(in crate::call::engine) fn handle_refer(
        &mut self,
        slot: LegKey,
        message: &SipMessage<'_>,
        datagram: &UdpDatagram<'_>,
        sink: &mut dyn LegSink,
    ) {
        let Some(leg) = self.table.leg(slot) else { return };
        let Some(mut referral) = Referral::read(message, datagram, leg.call()) else { return };
        referral.on_anchor = self.is_anchor(leg);
        let legs = self.table.legs_of(leg.call());
        let numbers = legs.take(MAX_PARTY_LEGS).flat_map(|l| [l.parties.from.clone(), l.parties.to.clone()]);
        referral.parties = numbers.flatten().collect();
        referral.parties.sort_unstable();
        referral.parties.dedup();
        // The Refer-To of an attended transfer names the dialog of the consultation call.
        let consultation = referral.replaces.as_ref().and_then(|call_id| {
            let slot = self.table.with_call_id(call_id).first()?;
            Some(self.table.leg(*slot)?.call()).filter(|c| *c != referral.conversation)
        });
        if let Some(consultation) = consultation {
            self.relate(referral.conversation, consultation, CorrelationRule::ReferReplaces, sink);
        }
        if self.table.referrals().iter().any(|r| r.target == referral.target && r.conversation == referral.conversation)
        {
            return;
        }
        self.join_referred_call(&mut referral, sink);
        self.table.add_referral(referral, MAX_REFERRALS);
        if let Some(leg) = self.table.leg_mut(slot) {
            leg.dialog.note_transfer(datagram.at, message);
        }
    }

    /// Joins or relates the call that a REFER caused, if its INVITE was captured a moment before the REFER.
    fn join_referred_call(&mut self, referral: &mut Referral, sink: &mut dyn LegSink) {
        let Some(target) = referral.target.as_deref() else { return };
        let is_caused = |l: &&Leg| {
            let call = self.table.call(l.call());
            l.call() != referral.conversation
                && l.created_at >= referral.at
                && call.is_some_and(|c| !c.settled && c.legs().len() == 1)
                && referral.causes(&l.signature(), &l.correlation_keys)
        };
        let legs = self.table.correlation().legs_at(referral.asked, target).iter();
        let found = legs.filter_map(|s| self.table.leg(*s)).find(is_caused);
        let Some((found, at)) = found.map(|l| (l.call(), l.created_at)) else { return };
        referral.spent_at = Some(at);
        if referral.on_anchor {
            self.relate(referral.conversation, found, CorrelationRule::Refer, sink);
        } else {
            self.merge(found, referral.conversation, CorrelationRule::Refer, sink);
        }
    }

    /// Returns the transfers that caused a new leg, by Replaces and by REFER, with the rule of each.
    pub(super) fn match_transfer(
        &self,
        draft: &LegDraft,
        signature: &LegSignature<'_>,
    ) -> impl Iterator<Item = (TransferMatch, CorrelationRule)> + use<> {
        let replaces = self.match_replaces(&draft.correlation_keys).map(|m| (m, CorrelationRule::Replaces));
        let refer = self.match_referral(draft, signature).map(|m| (m, CorrelationRule::Refer));
        replaces.into_iter().chain(refer)
    }

    /// Matches the leg whose dialog a Replaces header names.
    ///
    /// If that leg is the anchor (e.g. the only leg), the replacement begins a new call. If it is another leg, the call
    /// goes on: the replacement is a pickup.
    pub(super) fn match_replaces(&self, keys: &CorrelationKeys) -> Option<TransferMatch> {
        let replaced = self.table.with_call_id(keys.replaces.as_ref()?);
        let leg = replaced.iter().find_map(|slot| self.table.leg(*slot))?;
        Some(if self.is_anchor(leg) {
            TransferMatch::RelatedCall(leg.call())
        } else {
            TransferMatch::SameCall(leg.call())
        })
    }

    /// Matches the newest REFER that asked for the new leg.
    pub(super) fn match_referral(&self, draft: &LegDraft, signature: &LegSignature<'_>) -> Option<TransferMatch> {
        let referral = self.table.referrals().iter().rev().find(|r| r.causes(signature, &draft.correlation_keys))?;
        self.table.call(referral.conversation)?;
        Some(if referral.on_anchor {
            TransferMatch::RelatedCall(referral.conversation)
        } else {
            TransferMatch::SameCall(referral.conversation)
        })
    }

    /// Marks the newest REFER that asked for the new leg as spent, so that it claims no later call to the same target.
    pub(in crate::call::engine) fn spend_referral(&mut self, draft: &LegDraft) {
        let signature = draft.signature();
        if let Some(referral) = self.table.referral_mut(|r| r.causes(&signature, &draft.correlation_keys)) {
            referral.spent_at.get_or_insert(draft.at);
        }
    }

    fn is_anchor(&self, leg: &Leg) -> bool {
        let legs: Vec<&Leg> = self.table.legs_of(leg.call()).collect();
        CallRoles::from_legs(&legs, &self.number_plan).is_some_and(|roles| roles.anchor.id == leg.id)
    }
}

/// Legs whose numbers a REFER's call is known by: more than a transferred call has.
const MAX_PARTY_LEGS: usize = 16;
/// REFERs that are remembered. A busy PBX sends fewer within the 30 s in which a REFER takes effect.
const MAX_REFERRALS: usize = 1_024;
