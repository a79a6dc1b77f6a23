//! Late correlation: joins calls that were created apart, because messages were captured out of order.

use crate::call::correlation_keys::{CorrelationKeys, LegSignature, MatchStrength, hosts_meet};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::Engine;
use crate::call::engine::correlate::MAX_LEGS;
use crate::call::engine::correlate::heuristic::{HeuristicMatch, HeuristicQuery};
use crate::call::engine::correlate::transfer::TransferMatch;
use crate::call::engine::shared_addresses::SharedMedia;
use crate::call::event::LegSink;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegDraft};

impl Engine {
    /// Merges the legs of a ring group that were captured before the caller's leg that caused them. Each of them had
    /// become a call of its own. Returns the merged call, to which the caller's leg belongs.
    pub(in crate::call::engine) fn join_late_cause(
        &mut self,
        draft: &LegDraft,
        sink: &mut dyn LegSink,
    ) -> Option<(CallKey, CorrelationRule)> {
        let signature = draft.signature();
        let candidates = self.table.correlation().candidates(&draft.correlation_keys, &signature);
        let legs = candidates.iter().filter_map(|s| self.table.leg(*s)).filter(|l| l.lived_at(draft.at));
        let is_caused = |l: &&Leg| {
            hosts_meet(l.machines(), signature.hop) && l.signature().onward_strength(&signature) > MatchStrength::None
        };
        let caused: Vec<&Leg> = legs.filter(is_caused).collect();
        let may_join = |c: CallKey| self.table.call(c).is_some_and(|c| !c.settled) && self.is_unexplained(c);
        let mut targets: Vec<_> = caused.iter().map(|l| l.machines().1).collect();
        targets.sort_unstable();
        targets.dedup();
        // Two legs to the same telephone may belong to two callers.
        if targets.len() != caused.len() || !caused.iter().all(|l| may_join(l.call())) {
            return None;
        }
        let conversations: Vec<CallKey> = caused.iter().map(|l| l.call()).collect();
        let (into, others) = conversations.split_first()?;
        for other in others {
            self.merge(*other, *into, CorrelationRule::LateCause, sink);
        }
        Some((*into, CorrelationRule::LateCause))
    }

    /// Merges a lone leg into the call of the leg at `slot`, if it now matches this call only.
    ///
    /// The leg at `slot` was answered, or ended while others go on. The PBX reacted to that by a new leg, which may have
    /// been captured a moment before.
    pub(in crate::call::engine) fn join_late_sibling(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        let Some(leg) = self.table.leg(slot) else { return };
        let own = leg.call();
        let Some(call) = self.table.call(own).filter(|c| c.legs().len() < MAX_LEGS) else {
            return;
        };
        let may_join = |l: &&Leg| {
            let call = self.table.call(l.call());
            l.call() != own
                && l.dialog.ended().is_none()
                && call.is_some_and(|c| !c.settled && !c.closed_to_heuristics && c.legs().len() == 1)
        };
        let meets_call = |l: &&Leg| {
            let mut legs = call.legs().iter().filter_map(|s| self.table.leg(*s));
            legs.any(|of_call| hosts_meet(l.machines(), of_call.machines()))
        };
        let live = call.legs().iter().filter_map(|s| self.table.leg(*s)).filter(|l| l.dialog.ended().is_none());
        let has_caller = |l: &&Leg| l.dialog.answered.is_some() || l.machines().1.same_host(leg.machines().0);
        let found = live
            .filter(has_caller)
            .flat_map(|l| self.table.correlation().candidates(&l.correlation_keys, &l.signature()))
            .filter_map(|s| self.table.leg(s))
            .filter(meets_call)
            .filter(may_join)
            .find(|l| self.matches_now(l, own))
            .map(|l| l.call());
        if let Some(found) = found {
            self.merge(found, own, CorrelationRule::LateSibling, sink);
        }
    }

    /// Returns whether the heuristic rules, asked as of now, match a lone leg with the call `own`.
    fn matches_now(&self, leg: &Leg, own: CallKey) -> bool {
        let signature = leg.signature();
        let candidates = self.table.correlation().candidates(&leg.correlation_keys, &signature);
        let others = candidates.iter().filter_map(|s| self.table.leg(*s));
        let others: Vec<&Leg> = others.filter(|l| l.call() != leg.call()).collect();
        let query = HeuristicQuery { engine: self, signature: &signature, at: self.now };
        match query.find_match(&others) {
            HeuristicMatch::Unique((found, _)) | HeuristicMatch::Preferred(found, _) => found == own,
            HeuristicMatch::None | HeuristicMatch::Ambiguous(_) => false,
        }
    }

    /// Correlates a leg by its announced media addresses: if a leg of another call announces the same address and one host
    /// links both legs, their calls are merged. If both calls are settled, they are only related.
    pub(in crate::call::engine) fn correlate_by_media_address(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        let Some(leg) = self.table.leg(slot).filter(|l| !l.closed) else { return };
        let (own, signature) = (leg.call(), leg.signature());
        let is_linked = |l: &&Leg| {
            let other = l.signature();
            l.call() != own
                && l.dialog.ended().is_none()
                && self.shared_media(leg, l) != SharedMedia::NoEvidence
                && (is_onward_leg(&signature, &other) || is_onward_leg(&other, &signature))
        };
        let receivers = leg.announced().iter().flat_map(|e| self.table.media().announced().at(*e));
        let linked = receivers.filter_map(|r| self.table.leg(r.slot)).find(is_linked);
        let Some((other, shared)) = linked.map(|l| (l.call(), self.shared_media(leg, l))) else { return };
        let by = CorrelationRule::MediaAddress;
        if shared == SharedMedia::Connected {
            self.relate(own, other, by, sink);
            return;
        }
        let may_be_absorbed =
            |c: CallKey| self.table.call(c).is_some_and(|c| !c.settled && !c.restored && c.legs().len() == 1);
        match (may_be_absorbed(own), may_be_absorbed(other)) {
            // The older call keeps its id.
            (true, true) if self.is_older(own, other) => self.merge(other, own, by, sink),
            (true, _) => self.merge(own, other, by, sink),
            (false, true) => self.merge(other, own, by, sink),
            (false, false) => self.relate(own, other, by, sink),
        }
    }

    /// Replaces the correlation keys of a leg whose INVITE was captured after its first response. Relates the call that
    /// the INVITE's Replaces header names.
    pub(in crate::call::engine) fn update_correlation_keys(
        &mut self,
        slot: LegKey,
        keys: CorrelationKeys,
        sink: &mut dyn LegSink,
    ) {
        let Some(leg) = self.table.leg(slot) else { return };
        let (own, found) = (leg.call(), self.match_replaces(&keys));
        self.table.set_correlation_keys(slot, keys);
        if let Some(TransferMatch::SameCall(other) | TransferMatch::RelatedCall(other)) = found
            && other != own
        {
            self.relate(own, other, CorrelationRule::Replaces, sink);
        }
    }

    fn is_older(&self, a: CallKey, b: CallKey) -> bool {
        let created_at = |c: CallKey| self.table.call(c).map(|c| c.created_at);
        created_at(a) < created_at(b)
    }
}

/// Returns whether the host that received leg `b` sent leg `a` on to a third host.
fn is_onward_leg(a: &LegSignature<'_>, b: &LegSignature<'_>) -> bool {
    a.hop.0.same_host(b.hop.1) && !a.hop.1.same_host(b.hop.0) && !a.hop.0.same_host(a.hop.1)
}
