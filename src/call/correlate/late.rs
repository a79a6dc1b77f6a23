//! Late correlation: joins calls that were created apart, because messages were captured out of order.

use crate::call::correlate::Correlator;
use crate::call::correlate::evidence::{CallChoice, Evidence};
use crate::call::correlate::open_leg::OpenLeg;
use crate::call::correlate::question::LegQuestion;
use crate::call::correlate::rule_list::HOST_STAGES;
use crate::call::correlation_keys::{MatchStrength, hosts_meet};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegDraft};

impl Correlator<'_> {
    /// Returns the calls of a ring group whose legs were captured before the caller's leg that caused them. Each of these
    /// legs had become a call of its own; all are one call, to which the caller's leg belongs.
    pub(crate) fn late_cause(&self, draft: &LegDraft) -> Vec<CallKey> {
        let signature = draft.signature();
        let candidates = self.table.correlation().candidates(&draft.correlation_keys, &signature);
        let legs = candidates.iter().filter_map(|s| self.table.leg(*s)).filter(|l| l.lived_at(draft.at));
        let is_caused = |l: &&Leg| {
            let effect = l.signature();
            hosts_meet(l.machines(), signature.hop)
                && effect.onward_strength(&signature) > MatchStrength::None
                && !effect.is_own_call_beside(&signature)
        };
        let caused: Vec<&Leg> = legs.filter(is_caused).collect();
        let may_join = |c: CallKey| self.may_be_absorbed(c, CorrelationRule::LateCause);
        let mut targets: Vec<_> = caused.iter().map(|l| l.machines().1).collect();
        targets.sort_unstable();
        targets.dedup();
        // Two legs to the same telephone may belong to two callers.
        if targets.len() != caused.len() || !caused.iter().all(|l| may_join(l.call())) {
            return Vec::new();
        }
        caused.iter().map(|l| l.call()).collect()
    }

    /// Returns whether the heuristic rules, asked as of now, match a lone leg with the call `own`.
    fn matches_now(&self, leg: &Leg, own: CallKey) -> bool {
        match LegQuestion::about_leg(*self, leg).ask(HOST_STAGES) {
            CallChoice::Join(evidence) | CallChoice::Prefer(evidence, _) => evidence.call == own,
            CallChoice::Nothing | CallChoice::Ambiguous(_) | CallChoice::Relate(_) => false,
        }
    }
}

/// Rule `late_sibling`: a lone leg now matches the call of this leg only.
///
/// This leg was answered, or ended while others go on. The PBX reacted to that by a new leg, which may have been captured
/// a moment before.
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
