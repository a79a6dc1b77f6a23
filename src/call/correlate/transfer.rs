//! Correlation of transfers that the signalling states: REFER (RFC 3515) and Replaces (RFC 3891).

use crate::call::correlate::{Command, Correlator};
use crate::call::correlation_keys::{CorrelationKeys, LegSignature, Referral};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::CallKey;
use crate::call::leg::{Leg, LegDraft};
use crate::call::roles::CallRoles;
use crate::decode::UdpDatagram;
use crate::sip::SipMessage;
use crate::time::Timestamp;

/// Match of a new leg with a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransferMatch {
    /// The leg belongs to this call.
    SameCall(CallKey),
    /// The leg begins a call of its own that is related to this call.
    RelatedCall(CallKey),
}

impl Correlator<'_> {
    /// Reads a REFER that was sent in a leg.
    pub(crate) fn read_referral(
        &self,
        leg: &Leg,
        message: &SipMessage<'_>,
        datagram: &UdpDatagram<'_>,
    ) -> Option<Referral> {
        let mut referral = Referral::read(message, datagram, leg.call())?;
        referral.on_anchor = self.is_anchor(leg);
        let legs = self.table.legs_of(leg.call()).take(MAX_PARTY_LEGS);
        referral.parties = legs.flat_map(|l| [l.parties.from.clone(), l.parties.to.clone()]).flatten().collect();
        referral.parties.sort_unstable();
        referral.parties.dedup();
        Some(referral)
    }

    /// Relates the consultation call that a REFER names: the Refer-To of an attended transfer has its dialog.
    pub(crate) fn referred_consultation(&self, referral: &Referral) -> Option<Command> {
        let leg = self.table.with_call_id(referral.replaces.as_ref()?).first()?;
        let (a, b) = (referral.conversation, self.table.leg(*leg)?.call());
        (a != b).then_some(Command::Relate { a, b, why: CorrelationRule::ReferReplaces })
    }

    /// Joins or relates the call that a REFER caused, if its INVITE was captured a moment before the REFER. Returns the time
    /// of that INVITE, too.
    pub(crate) fn referred_call(&self, referral: &Referral) -> Option<(Timestamp, Command)> {
        let target = referral.target.as_deref()?;
        let is_caused = |l: &&Leg| {
            let call = self.table.call(l.call());
            l.call() != referral.conversation
                && l.created_at >= referral.at
                && call.is_some_and(|c| !c.settled && c.legs().len() == 1)
                && referral.causes(&l.signature(), &l.correlation_keys)
        };
        let legs = self.table.correlation().legs_at(referral.asked, target).iter();
        let found = legs.filter_map(|s| self.table.leg(*s)).find(is_caused)?;
        let (call, why) = (referral.conversation, CorrelationRule::Refer);
        let command = if referral.on_anchor {
            Command::Relate { a: call, b: found.call(), why }
        } else {
            Command::Merge { from: found.call(), into: call, by: why }
        };
        Some((found.created_at, command))
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

    /// Relates the call that the Replaces header of a late INVITE names to the call of its leg.
    pub(crate) fn late_replaces(&self, own: CallKey, keys: &CorrelationKeys) -> Option<Command> {
        let (TransferMatch::SameCall(other) | TransferMatch::RelatedCall(other)) = self.match_replaces(keys)?;
        (other != own).then_some(Command::Relate { a: own, b: other, why: CorrelationRule::Replaces })
    }

    fn is_anchor(&self, leg: &Leg) -> bool {
        let legs: Vec<&Leg> = self.table.legs_of(leg.call()).collect();
        CallRoles::from_legs(&legs, self.plan).is_some_and(|roles| roles.anchor.id == leg.id)
    }
}

/// Legs whose numbers a REFER's call is known by: more than a transferred call has.
const MAX_PARTY_LEGS: usize = 16;
