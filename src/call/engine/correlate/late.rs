//! Late correlation: joins calls that were created apart, because messages were captured out of order.

use crate::call::correlation_keys::{CorrelationKeys, LegSignature, MatchStrength, hosts_meet};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::Engine;
use crate::call::engine::correlate::MAX_LEGS;
use crate::call::engine::correlate::heuristic::{HeuristicMatch, HeuristicQuery};
use crate::call::engine::correlate::transfer::TransferMatch;
use crate::call::engine::shared_addresses::SharedMedia;
use crate::call::event::LegSink;
use crate::call::leg::{Leg, LegDraft};

impl Engine {
    /// Merges the legs of a ring group that were captured before the caller's leg that caused them. Each of them had
    /// become a call of its own. Returns the merged call, to which the caller's leg belongs.
    pub(in crate::call::engine) fn join_late_cause(
        &mut self,
        draft: &LegDraft,
        sink: &mut dyn LegSink,
    ) -> Option<(usize, CorrelationRule)> {
        let signature = draft.signature();
        let candidates = self.correlation_index.candidates(&draft.correlation_keys, &signature);
        let legs = candidates.iter().filter_map(|s| self.legs.get(*s)).filter(|l| l.lived_at(draft.at));
        let is_caused = |l: &&Leg| {
            hosts_meet(l.machines(), signature.hop) && l.signature().onward_strength(&signature) > MatchStrength::None
        };
        let caused: Vec<&Leg> = legs.filter(is_caused).collect();
        let may_join = |c: usize| self.conversations.get(c).is_some_and(|c| !c.settled) && self.is_unexplained(c);
        let mut targets: Vec<_> = caused.iter().map(|l| l.machine_hop.1).collect();
        targets.sort_unstable();
        targets.dedup();
        // Two legs to the same telephone may belong to two callers.
        if targets.len() != caused.len() || !caused.iter().all(|l| may_join(l.conversation)) {
            return None;
        }
        let conversations: Vec<usize> = caused.iter().map(|l| l.conversation).collect();
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
    pub(in crate::call::engine) fn join_late_sibling(&mut self, slot: usize, sink: &mut dyn LegSink) {
        let Some(leg) = self.legs.get(slot) else { return };
        let own = leg.conversation;
        let Some(call) = self.conversations.get(own).filter(|c| c.legs.len() < MAX_LEGS) else {
            return;
        };
        let may_join = |l: &&Leg| {
            let call = self.conversations.get(l.conversation);
            l.conversation != own
                && l.dialog.ended().is_none()
                && call.is_some_and(|c| !c.settled && !c.closed_to_heuristics && c.legs.len() == 1)
        };
        let meets_call = |l: &&Leg| {
            let mut legs = call.legs.iter().filter_map(|s| self.legs.get(*s));
            legs.any(|of_call| hosts_meet(l.machines(), of_call.machines()))
        };
        let live = call.legs.iter().filter_map(|s| self.legs.get(*s)).filter(|l| l.dialog.ended().is_none());
        let has_caller = |l: &&Leg| l.dialog.answered.is_some() || l.machine_hop.1.same_host(leg.machine_hop.0);
        let found = live
            .filter(has_caller)
            .flat_map(|l| self.correlation_index.candidates(&l.correlation_keys, &l.signature()))
            .filter_map(|s| self.legs.get(s))
            .filter(meets_call)
            .filter(may_join)
            .find(|l| self.matches_now(l, own))
            .map(|l| l.conversation);
        if let Some(found) = found {
            self.merge(found, own, CorrelationRule::LateSibling, sink);
        }
    }

    /// Returns whether the heuristic rules, asked as of now, match a lone leg with the call `own`.
    fn matches_now(&self, leg: &Leg, own: usize) -> bool {
        let signature = leg.signature();
        let candidates = self.correlation_index.candidates(&leg.correlation_keys, &signature);
        let others = candidates.iter().filter_map(|s| self.legs.get(*s));
        let others: Vec<&Leg> = others.filter(|l| l.conversation != leg.conversation).collect();
        let query = HeuristicQuery { engine: self, signature: &signature, at: self.now };
        match query.find_match(&others) {
            HeuristicMatch::Unique((found, _)) | HeuristicMatch::Preferred(found, _) => found == own,
            HeuristicMatch::None | HeuristicMatch::Ambiguous(_) => false,
        }
    }

    /// Correlates a leg by its announced media addresses: if a leg of another call announces the same address and one host
    /// links both legs, their calls are merged. If both calls are settled, they are only related.
    pub(in crate::call::engine) fn correlate_by_media_address(&mut self, slot: usize, sink: &mut dyn LegSink) {
        let Some(leg) = self.legs.get(slot).filter(|l| !l.closed) else { return };
        let (own, signature) = (leg.conversation, leg.signature());
        let is_linked = |l: &&Leg| {
            let other = l.signature();
            l.conversation != own
                && l.dialog.ended().is_none()
                && self.shared_media(leg, l) != SharedMedia::NoEvidence
                && (is_onward_leg(&signature, &other) || is_onward_leg(&other, &signature))
        };
        let receivers = leg.announced.iter().flat_map(|e| self.media_index.announced().at(*e));
        let linked = receivers.filter_map(|r| self.legs.get(r.slot)).find(is_linked);
        let Some((other, shared)) = linked.map(|l| (l.conversation, self.shared_media(leg, l))) else { return };
        let by = CorrelationRule::MediaAddress;
        if shared == SharedMedia::Connected {
            self.relate(own, other, by, sink);
            return;
        }
        let may_be_absorbed =
            |c: usize| self.conversations.get(c).is_some_and(|c| !c.settled && !c.restored && c.legs.len() == 1);
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
        slot: usize,
        keys: CorrelationKeys,
        sink: &mut dyn LegSink,
    ) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.correlation_keys = keys;
        let (own, old_keys) = (leg.conversation, std::mem::take(&mut leg.index_keys));
        self.correlation_index.remove(slot, &old_keys);
        let leg = &self.legs[slot];
        let index_keys = self.correlation_index.add(slot, &leg.correlation_keys, &leg.signature());
        let found = self.match_replaces(&leg.correlation_keys);
        self.legs[slot].index_keys = index_keys;
        if let Some(TransferMatch::SameCall(other) | TransferMatch::RelatedCall(other)) = found
            && other != own
        {
            self.relate(own, other, CorrelationRule::Replaces, sink);
        }
    }

    fn is_older(&self, a: usize, b: usize) -> bool {
        let created_at = |c: usize| self.conversations.get(c).map(|c| c.created_at);
        created_at(a) < created_at(b)
    }
}

/// Returns whether the host that received leg `b` sent leg `a` on to a third host.
fn is_onward_leg(a: &LegSignature<'_>, b: &LegSignature<'_>) -> bool {
    a.hop.0.same_host(b.hop.1) && !a.hop.1.same_host(b.hop.0) && !a.hop.0.same_host(a.hop.1)
}
