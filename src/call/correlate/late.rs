//! Late correlation: joins calls that were created apart, because messages were captured out of order.

use crate::call::correlate::MAX_LEGS;
use crate::call::correlate::evidence::CallChoice;
use crate::call::correlate::question::LegQuestion;
use crate::call::correlate::rule_list::HOST_STAGES;
use crate::call::correlate::{Command, Correlator};
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
        let may_join = |c: CallKey| self.table.call(c).is_some_and(|c| !c.settled) && self.is_unexplained(c);
        let mut targets: Vec<_> = caused.iter().map(|l| l.machines().1).collect();
        targets.sort_unstable();
        targets.dedup();
        // Two legs to the same telephone may belong to two callers.
        if targets.len() != caused.len() || !caused.iter().all(|l| may_join(l.call())) {
            return Vec::new();
        }
        caused.iter().map(|l| l.call()).collect()
    }

    /// Merges a lone leg into the call of a leg, if it now matches this call only.
    ///
    /// The leg was answered, or ended while others go on. The PBX reacted to that by a new leg, which may have
    /// been captured a moment before.
    pub(crate) fn late_sibling(&self, slot: LegKey) -> Option<Command> {
        let leg = self.table.leg(slot)?;
        let own = leg.call();
        if self.table.keys_of(own).len() >= MAX_LEGS {
            return None;
        }
        let may_join = |l: &&Leg| {
            let call = self.table.call(l.call());
            l.call() != own
                && l.dialog.ended().is_none()
                && call.is_some_and(|c| !c.settled && !c.closed_to_heuristics && c.legs().len() == 1)
        };
        let meets_call = |l: &&Leg| self.table.legs_of(own).any(|of_call| hosts_meet(l.machines(), of_call.machines()));
        let live = self.table.legs_of(own).filter(|l| l.dialog.ended().is_none());
        let has_caller = |l: &&Leg| l.dialog.answered.is_some() || l.machines().1.same_host(leg.machines().0);
        let found = live
            .filter(has_caller)
            .flat_map(|l| self.table.correlation().candidates(&l.correlation_keys, &l.signature()))
            .filter_map(|s| self.table.leg(s))
            .filter(meets_call)
            .filter(may_join)
            .find(|l| self.matches_now(l, own))?;
        Some(Command::Merge { from: found.call(), into: own, by: CorrelationRule::LateSibling })
    }

    /// Returns whether the heuristic rules, asked as of now, match a lone leg with the call `own`.
    fn matches_now(&self, leg: &Leg, own: CallKey) -> bool {
        match LegQuestion::about_leg(*self, leg).ask(HOST_STAGES) {
            CallChoice::Join(evidence) | CallChoice::Prefer(evidence, _) => evidence.call == own,
            CallChoice::Nothing | CallChoice::Ambiguous(_) | CallChoice::Relate(_) => false,
        }
    }
}
