//! Late correlation: joins calls that became separate only because their messages were captured out of order.

use crate::call::correlate::evidence::{CallChoice, Evidence};
use crate::call::correlate::open_leg::OpenLeg;
use crate::call::correlate::question::LegQuestion;
use crate::call::correlate::rule_list::{HOST_STAGES, LATE_INVITE_STAGES};
use crate::call::correlate::{Command, Correlator};
use crate::call::correlation_keys::{CLOCK_SKEW, MatchStrength, hosts_meet, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegDraft};
use crate::call::leg_join::LegJoin;

impl Correlator<'_> {
    /// Returns the calls that this new leg caused, although they were captured before it. E.g. the mirror port shows
    /// the legs of a ring group first, each as a separate call, and the caller's leg afterwards.
    pub(crate) fn late_cause(&self, draft: &LegDraft) -> Vec<CallKey> {
        let signature = draft.signature();
        let candidates = self.table.correlation().candidates(&draft.correlation_keys, &signature);
        let legs = candidates.iter().filter_map(|s| self.table.leg(*s)).filter(|l| l.lived_at(draft.at));
        let is_caused = |l: &&Leg| {
            let effect = l.signature();
            let strength = self.onward_strength(&effect, &signature);
            // On a trunk that carries calls in both directions, each of two legs may seem to be caused by the other.
            // Then the numbers decide. If they fit both ways, the earlier leg is the cause.
            let is_directed =
                || !effect.returns_to_sender(&signature) || strength > self.onward_strength(&signature, &effect);
            hosts_meet(l.machines(), signature.hop)
                && strength > MatchStrength::None
                && is_directed()
                && !self.has_leg_over(l.call(), signature.hop)
                && (strength == MatchStrength::BothNumbers || !self.has_cause_with_both_numbers(l))
        };
        let caused: Vec<&Leg> = legs.filter(is_caused).collect();
        let may_join =
            |l: &&Leg| self.is_unexplained(l) && self.may_still_be_joined(l.call(), CorrelationRule::LateCause);
        let mut targets: Vec<_> = caused.iter().map(|l| l.machines().1).collect();
        targets.sort_unstable();
        targets.dedup();
        // Two legs to the same telephone may belong to two callers, so none is joined.
        if targets.len() != caused.len() || !caused.iter().all(may_join) {
            return Vec::new();
        }
        let mut calls: Vec<CallKey> = caused.iter().map(|l| l.call()).collect();
        calls.sort_unstable();
        calls.dedup();
        calls
    }

    /// Returns whether another leg of the same call may have caused this leg: both numbers of the two legs are equal.
    fn has_cause_with_both_numbers(&self, leg: &Leg) -> bool {
        let own = leg.signature();
        let is_both = |other: &Leg| own.onward_strength(&other.signature()) == MatchStrength::BothNumbers;
        self.table.legs_of(leg.call()).any(|other| other.id != leg.id && is_both(other))
    }

    /// Returns the leg that this new leg caused, if only numbers had joined that leg to its call so far.
    ///
    /// E.g. one node of a cluster passes a call to a second node, and the second node sends it on. If the leg between
    /// the nodes is captured last, it is the new leg, and the leg that the second node sent is returned.
    pub(crate) fn late_middle(&self, draft: &LegDraft) -> Option<LegKey> {
        let new = draft.signature();
        let (sender, receiver) = (draft.dialog.caller_addr, draft.dialog.callee_addr);
        let is_caused = |leg: &Leg| {
            let called_by_cause = || self.causes_of(leg).any(|cause| same_number(cause.parties.to.as_deref(), new.to));
            self.tie_of(leg).is_some_and(LegJoin::is_provisional)
                && leg.lived_at(draft.at)
                && draft.at.distance(leg.created_at) <= CLOCK_SKEW
                && leg.hop().0.same_host(receiver)
                && !leg.hop().1.same_host(sender)
                && new.has_caller_of(&leg.signature())
                && (same_number(leg.parties.to.as_deref(), new.to) || called_by_cause())
                && self.may_gain(leg.call(), 1)
        };
        let legs = self.table.correlation().legs_with_any(new.caller_numbers()).into_iter();
        let mut found = legs.filter(|key| self.table.leg(*key).is_some_and(is_caused));
        found.next().filter(|_| found.next().is_none())
    }

    /// Returns the command that merges a call with an older call. A further leg `slot` of the call's dialog was just
    /// captured, e.g. behind a proxy. It shows that the older call caused the dialog.
    ///
    /// E.g. a provider calls a proxy, and the proxy passes the call to the PBX; the mirror port misses this leg. The
    /// PBX then calls a telephone through the proxy. Only the leg from the proxy to the telephone links this dialog
    /// with the provider's call, because the proxy received that call.
    pub(crate) fn late_hop(&self, slot: LegKey) -> Option<Command> {
        let leg = self.table.leg(slot).filter(|l| l.join.by() == Some(CorrelationRule::SameDialog))?;
        let own = leg.call();
        let is_open = self.may_still_be_joined(own, CorrelationRule::OnwardOne);
        if !is_open || !self.table.legs_of(own).all(|l| l.is_branch_of(leg)) {
            return None;
        }
        // Two calls between the same two hosts are separate calls, so they are not merged. Examples are two calls from
        // the trunk to the proxy, and two calls by a dialler on the PBX's host.
        let is_beside = |into: CallKey| {
            let of_own = || self.table.legs_of(own);
            let mut started = of_own().map(Leg::signature).filter(|o| o.hop.0.same_host(o.hop.1));
            of_own().any(|o| o.id != leg.id && self.has_leg_over(into, o.machines()))
                || started.any(|o| self.table.legs_of(into).any(|l| o.is_own_call_beside(&l.signature())))
        };
        let may_gain = |into: CallKey| self.may_gain(into, self.table.keys_of(own).len()) && !is_beside(into);
        match LegQuestion::about_leg(*self, leg).ask(HOST_STAGES) {
            CallChoice::Join(evidence) if may_gain(evidence.call) => {
                Some(Command::Merge { from: own, into: evidence.call, by: evidence.rule })
            }
            _ => None,
        }
    }

    /// Returns the commands for a leg whose INVITE was captured after its first response. The response has no headers
    /// that identify the call, so the rules are asked again with those of the INVITE.
    ///
    /// The leg joins another call only if it is alone in its own.
    pub(crate) fn late_invite(&self, slot: LegKey) -> Vec<Command> {
        let Some(leg) = self.table.leg(slot) else { return Vec::new() };
        let own = leg.call();
        let question = LegQuestion::about_leg(*self, leg);
        match question.ask(LATE_INVITE_STAGES) {
            CallChoice::Join(found)
                if found.call != own && self.may_gain(found.call, 1) && self.may_be_absorbed(own, found.rule) =>
            {
                let alias = self.alias_of(&question, found).map(|alias| alias.command(slot));
                alias.into_iter().chain([Command::Merge { from: own, into: found.call, by: found.rule }]).collect()
            }
            _ => self.late_replaces(slot).into_iter().collect(),
        }
    }

    /// Returns whether this leg, the only leg of its call, would join the call `own` if the rules about hosts and
    /// numbers were asked again. Messages that were missing before may have been captured since.
    fn matches_now(&self, leg: &Leg, own: CallKey) -> bool {
        match LegQuestion::about_leg(*self, leg).ask(HOST_STAGES) {
            CallChoice::Join(evidence) | CallChoice::Prefer(evidence, _) => evidence.call == own,
            CallChoice::Nothing | CallChoice::Ambiguous(_) | CallChoice::Relate(_) => false,
        }
    }
}

/// Returns the evidence of the rule `late_sibling`: another leg, which is alone in its call, now matches the call of
/// the leg `subject`.
///
/// When `subject` was answered or ended, the PBX reacted by sending the other leg. The mirror port may show the
/// reaction first.
pub(super) fn late_sibling(subject: &OpenLeg<'_>) -> Vec<Evidence> {
    let OpenLeg { correlator, leg, .. } = subject;
    let (own, table) = (leg.call(), correlator.table);
    if !correlator.may_gain(own, 1) {
        return Vec::new();
    }
    let may_join = |(_, l): &(LegKey, &Leg)| {
        l.call() != own
            && l.dialog.ended().is_none()
            && correlator.may_be_absorbed(l.call(), CorrelationRule::LateSibling)
    };
    let meets_call =
        |(_, l): &(LegKey, &Leg)| table.legs_of(own).any(|of_call| hosts_meet(l.machines(), of_call.machines()));
    let live = table.legs_of(own).filter(|l| l.dialog.ended().is_none());
    let has_caller = |l: &&Leg| l.dialog.answered.is_some() || l.machines().1.same_host(leg.machines().0);
    let found = live
        .filter(has_caller)
        .flat_map(|l| table.correlation().candidates(&l.correlation_keys, &l.signature()))
        .filter_map(|key| Some((key, table.leg(key)?)))
        .filter(meets_call)
        .filter(may_join)
        .find(|(_, l)| correlator.matches_now(l, own));
    found.map(|(key, l)| Evidence::about_leg(CorrelationRule::LateSibling, l.call(), key)).into_iter().collect()
}
