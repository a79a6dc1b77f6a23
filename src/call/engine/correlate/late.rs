//! What is known late: legs that were taken for calls of their own until something showed that they are one.

use crate::call::correlation_keys::{Fit, Shape, Traces, meet};
use crate::call::engine::Engine;
use crate::call::engine::correlate::MAX_LEGS;
use crate::call::engine::correlate::heuristic::{Guess, Question};
use crate::call::engine::correlate::transfer::Found;
use crate::call::event::LegSink;
use crate::call::leg::{Draft, Leg};

impl Engine {
    /// The legs of a ring group may be seen before the one that caused them. Each was taken for a call of its own, of
    /// which nobody was told yet: now they are one.
    pub(in crate::call::engine) fn gather_group(&mut self, draft: &Draft, sink: &mut dyn LegSink) -> Option<usize> {
        let shape = draft.shape();
        let candidates = self.join_index.candidates(&draft.traces, &shape);
        let legs = candidates.iter().filter_map(|s| self.legs.get(*s)).filter(|l| l.lived_at(draft.at));
        let caused = |l: &&Leg| meet(l.hop(), shape.hop) && l.shape().fit(&shape) > Fit::None;
        let caused: Vec<&Leg> = legs.filter(caused).collect();
        let alone = |c: usize| self.conversations.get(c).is_some_and(|c| !c.settled) && self.has_no_cause(c);
        let mut targets: Vec<_> = caused.iter().map(|l| l.dialog.callee_addr).collect();
        targets.sort_unstable();
        targets.dedup();
        // Two calls to one phone may be of two callers.
        if targets.len() != caused.len() || !caused.iter().all(|l| alone(l.conversation)) {
            return None;
        }
        let conversations: Vec<usize> = caused.iter().map(|l| l.conversation).collect();
        let (into, others) = conversations.split_first()?;
        for other in others {
            self.merge(*other, *into, sink);
        }
        Some(*into)
    }

    /// A leg has been answered, or has ended while others go on. What the PBX did about it may have been seen a moment
    /// before and taken for a call of its own.
    pub(in crate::call::engine) fn gather_waiting(&mut self, slot: usize, sink: &mut dyn LegSink) {
        let Some(leg) = self.legs.get(slot) else { return };
        let own = leg.conversation;
        let Some(call) = self.conversations.get(own).filter(|c| c.legs.len() < MAX_LEGS) else {
            return;
        };
        let fresh = |l: &&Leg| {
            let call = self.conversations.get(l.conversation);
            l.conversation != own
                && l.dialog.ended().is_none()
                && call.is_some_and(|c| !c.settled && !c.doubtful && c.legs.len() == 1)
        };
        let near = |l: &&Leg| {
            let mut own = call.legs.iter().filter_map(|s| self.legs.get(*s));
            own.any(|of_own| meet(l.hop(), of_own.hop()))
        };
        let left = call.legs.iter().filter_map(|s| self.legs.get(*s)).filter(|l| l.dialog.ended().is_none());
        let calls = |l: &&Leg| l.dialog.answered.is_some() || l.dialog.callee_addr.same_host(leg.dialog.caller_addr);
        let left = left.filter(calls);
        let found = left
            .flat_map(|l| self.join_index.candidates(&l.traces, &l.shape()))
            .filter_map(|s| self.legs.get(s))
            .filter(near)
            .filter(fresh)
            .find(|l| self.is_guessed_again(l, own))
            .map(|l| l.conversation);
        if let Some(found) = found {
            self.merge(found, own, sink);
        }
    }

    /// Whether numbers and times say now that a leg that is a call of its own so far belongs to this one.
    fn is_guessed_again(&self, leg: &Leg, own: usize) -> bool {
        let shape = leg.shape();
        let candidates = self.join_index.candidates(&leg.traces, &shape);
        let others = candidates.iter().filter_map(|s| self.legs.get(*s));
        let others: Vec<&Leg> = others.filter(|l| l.conversation != leg.conversation).collect();
        let question = Question { engine: self, shape: &shape, at: self.now };
        matches!(question.guess(&others), Guess::Only(found) | Guess::Likely(found, _) if found == own)
    }

    /// A leg has announced media: if a leg of another call on the way has the same address, they are one call, or, if
    /// both were told already, related.
    pub(in crate::call::engine) fn rejoin(&mut self, slot: usize, sink: &mut dyn LegSink) {
        let Some(leg) = self.legs.get(slot).filter(|l| !l.closed) else { return };
        let (own, shape) = (leg.conversation, leg.shape());
        let shares = |l: &&Leg| {
            let other = l.shape();
            l.conversation != own
                && l.dialog.ended().is_none()
                && (is_through(&shape, &other) || is_through(&other, &shape))
        };
        let claims = leg.claimed.iter().flat_map(|e| self.claims.at(*e));
        let Some(other) = claims.filter_map(|c| self.legs.get(c.slot)).find(shares).map(|l| l.conversation) else {
            return;
        };
        let fresh =
            |c: usize| self.conversations.get(c).is_some_and(|c| !c.settled && !c.recalled && c.legs.len() == 1);
        match (fresh(own), fresh(other)) {
            // The call keeps the id of its first message.
            (true, true) if self.is_older(own, other) => self.merge(other, own, sink),
            (true, _) => self.merge(own, other, sink),
            (false, true) => self.merge(other, own, sink),
            (false, false) => self.relate(own, other),
        }
    }

    /// A leg whose INVITE is seen after its first answers: what that tells of other calls.
    pub(in crate::call::engine) fn note_traces(&mut self, slot: usize, traces: Traces) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.traces = traces;
        let (own, keys) = (leg.conversation, std::mem::take(&mut leg.join_keys));
        self.join_index.remove(slot, &keys);
        let leg = &self.legs[slot];
        let keys = self.join_index.add(slot, &leg.traces, &leg.shape());
        let found = self.by_replaces(&leg.traces);
        self.legs[slot].join_keys = keys;
        if let Some(Found::Same(other) | Found::Related(other)) = found
            && other != own
        {
            self.relate(own, other);
        }
    }

    fn is_older(&self, a: usize, b: usize) -> bool {
        let begun = |c: usize| self.conversations.get(c).map(|c| c.created_at);
        begun(a) < begun(b)
    }
}

/// Whether one host received the one leg and sent the other.
fn is_through(a: &Shape<'_>, b: &Shape<'_>) -> bool {
    a.hop.0.same_host(b.hop.1) && !a.hop.1.same_host(b.hop.0) && !a.hop.0.same_host(a.hop.1)
}
