//! Correlation of transfers by REFER (RFC 3515) and Replaces (RFC 3891).

use crate::call::correlate::customer::Dialler;
use crate::call::correlate::evidence::Evidence;
use crate::call::correlate::question::LegQuestion;
use crate::call::correlate::{Command, Correlator};
use crate::call::correlation_keys::{CorrelationKeys, Referral};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::roles::CallRoles;
use crate::decode::UdpDatagram;
use crate::sip::SipMessage;
use crate::time::Timestamp;

/// Returns the evidence of the rule `replaces`: the Replaces header of the new leg names a dialog of another call.
pub(super) fn replaces(question: &LegQuestion<'_>) -> Vec<Evidence> {
    question.correlator.match_replaces(question.keys).into_iter().collect()
}

/// Returns the evidence of the rule `refer`: the newest REFER that asked for the new leg.
///
/// If the REFER was sent on the anchor leg (the recorded leg), the new leg begins a call of its own. This call is
/// related to the call of the REFER. If a later call explains the new leg better, the REFER is no evidence.
pub(super) fn refer(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let table = question.correlator.table;
    let causes = |referral: &&Referral| {
        referral.causes(&question.signature, question.keys) && !has_newer_cause(question, referral)
    };
    let referral = table.referrals().iter().rev().find(causes).filter(|r| table.call(r.conversation).is_some());
    let evidence = |referral: &Referral| {
        let evidence = Evidence::about_call(CorrelationRule::Refer, referral.conversation);
        if referral.request.on_anchor { evidence.relating() } else { evidence }
    };
    referral.map(evidence).into_iter().collect()
}

/// Returns whether a call that began after a REFER explains the new leg better than the REFER. The new leg calls the
/// target of the REFER. E.g. the transfer failed without a message, and later somebody else calls the target.
///
/// The PBX must not have sent a leg for the later call before. In addition, both numbers of the later call must agree
/// with the new leg, or both must be outside numbers. A new leg that replaces the dialog named in the REFER always
/// belongs to the REFER.
fn has_newer_cause(question: &LegQuestion<'_>, referral: &Referral) -> bool {
    let Correlator { table, plan, .. } = question.correlator;
    let is_newer = |leg: &Leg| {
        let is_sent_by_pbx = |l: &Leg| l.machines().0.same_host(referral.request.asked);
        leg.created_at > referral.request.at
            && leg.call() != referral.conversation
            && !table.legs_of(leg.call()).any(is_sent_by_pbx)
    };
    let is_outside_call = |leg: &Leg| {
        let (from, to) = (leg.parties.from.as_deref(), leg.parties.to.as_deref());
        !plan.names_extension(from) && !plan.names_extension(to)
    };
    let replaces = question.keys.replaces.is_some() && question.keys.replaces == referral.request.replaces;
    !replaces
        && question.met_legs().iter().any(|met| {
            let explains = match met.onward {
                Some(CorrelationRule::OnwardBoth) => true,
                Some(_) => is_outside_call(met.leg),
                None => false,
            };
            explains && is_newer(met.leg)
        })
}

/// Returns the evidence of the rule `parked`: the new leg calls the number to which a REFER transferred a call. Both
/// calls must belong to one customer of the PBX.
pub(super) fn parked(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let Correlator { table, .. } = question.correlator;
    let is_own = |call: CallKey| question.correlator.is_call_of_customer(call, &Dialler::of_question(question));
    let mut referrals = table.referrals().iter().rev();
    let parked = referrals.find(|r| r.is_retrieved_by(&question.signature) && is_own(r.conversation));
    parked.map(|r| Evidence::about_call(CorrelationRule::Parked, r.conversation)).into_iter().collect()
}

impl Correlator<'_> {
    /// Reads a REFER that was captured on a leg. Returns `None` if the REFER cannot cause an INVITE.
    pub(crate) fn read_referral(
        &self,
        key: LegKey,
        message: &SipMessage<'_>,
        datagram: &UdpDatagram<'_>,
    ) -> Option<Referral> {
        let leg = self.table.leg(key)?;
        let mut referral = Referral::read(message, datagram, key, leg.call())?;
        referral.request.on_anchor = self.is_anchor(leg);
        let legs = self.table.legs_of(leg.call()).take(MAX_PARTY_LEGS);
        let parties = &mut referral.request.parties;
        *parties = legs.flat_map(|l| [l.parties.from.clone(), l.parties.to.clone()]).flatten().collect();
        parties.sort_unstable();
        parties.dedup();
        Some(referral)
    }

    /// Returns the command that relates the REFER's call to the consultation call of an attended transfer. The Refer-To
    /// header names a dialog of the consultation call.
    pub(crate) fn referred_consultation(&self, referral: &Referral) -> Option<Command> {
        let leg = self.table.with_call_id(referral.request.replaces.as_ref()?).first()?;
        let evidence = Evidence::about_leg(CorrelationRule::ReferReplaces, self.table.leg(*leg)?.call(), *leg);
        self.join_or_relate(referral.conversation, evidence)
    }

    /// Finds the call that a REFER caused, if the engine handled its INVITE before this REFER. E.g. frames arrive out
    /// of order, or the REFER is captured again behind a proxy. Returns the capture time of the INVITE, and the command
    /// that joins or relates its call to the call of the REFER.
    pub(crate) fn referred_call(&self, referral: &Referral) -> Option<(Timestamp, Command)> {
        let target = referral.request.target.as_deref()?;
        let is_caused = |l: &Leg| {
            l.call() != referral.conversation
                && l.created_at >= referral.request.at
                && self.may_be_absorbed(l.call(), CorrelationRule::Refer)
                && referral.causes(&l.signature(), &l.correlation_keys)
        };
        let legs = self.table.correlation().legs_at(referral.request.asked, target).iter();
        let (key, leg) = legs.filter_map(|key| Some((*key, self.table.leg(*key)?))).find(|(_, l)| is_caused(l))?;
        let evidence = Evidence::about_leg(CorrelationRule::Refer, leg.call(), key);
        let evidence = if referral.request.on_anchor { evidence.relating() } else { evidence };
        Some((leg.created_at, self.join_or_relate(referral.conversation, evidence)?))
    }

    /// Returns evidence about the call that has the dialog named by a Replaces header.
    ///
    /// If the named leg is the anchor leg (the recorded leg), e.g. the only leg, the new leg begins a new call.
    /// Otherwise the new leg is a pickup, and the call continues with it.
    fn match_replaces(&self, keys: &CorrelationKeys) -> Option<Evidence> {
        let replaced = self.table.with_call_id(keys.replaces.as_ref()?);
        let (key, leg) = replaced.iter().find_map(|key| Some((*key, self.table.leg(*key)?)))?;
        let evidence = Evidence::about_leg(CorrelationRule::Replaces, leg.call(), key);
        Some(if self.is_anchor(leg) { evidence.relating() } else { evidence })
    }

    /// Returns the command that relates a leg's call to another call: the call with the dialog that its Replaces header
    /// names. Used if the INVITE with this header was captured after its responses, or is sent again.
    pub(crate) fn late_replaces(&self, slot: LegKey) -> Option<Command> {
        let leg = self.table.leg(slot)?;
        self.join_or_relate(leg.call(), self.match_replaces(&leg.correlation_keys)?.relating())
    }

    fn is_anchor(&self, leg: &Leg) -> bool {
        let legs: Vec<&Leg> = self.table.legs_of(leg.call()).collect();
        CallRoles::from_legs(&legs, self.plan).is_some_and(|roles| roles.anchor.id == leg.id)
    }
}

/// Maximum number of legs for which numbers are stored with a REFER. A call that is transferred has fewer legs.
const MAX_PARTY_LEGS: usize = 16;
