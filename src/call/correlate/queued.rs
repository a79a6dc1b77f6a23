//! Callers who wait in a queue, and telephones that may be for one of several callers.
//!
//! A PBX answers a caller in a queue before it rings a telephone. So the answer of the telephone does not show for whom
//! it is. Another caller may be answered at that moment by chance.

use crate::call::correlate::ambiguous::{PBX_REACTION, RingOutcome};
use crate::call::correlate::{Correlator, MAX_AMBIGUOUS};
use crate::call::correlation_keys::CLOCK_SKEW;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::CallKey;
use crate::call::leg::Leg;

impl Correlator<'_> {
    /// Returns whether the caller of a call waited in a queue when this leg was answered. This is true if the PBX had
    /// answered the caller before, and no other telephone of that call had answered. A telephone that could belong to
    /// another call as well does not count.
    ///
    /// It is false if a telephone that could belong to that call was certainly answered for this caller.
    pub(super) fn has_queued_caller(&self, call: CallKey, leg: &Leg, outcome: RingOutcome) -> bool {
        let RingOutcome::Answered(at) = outcome else { return false };
        let is_live = |leg: &Leg| leg.answered_by(at) && leg.lived_at(at);
        let is_served = |other: &Leg| other.id != leg.id && is_live(other) && !other.join.is_ambiguous();
        let is_with = |caller: &Leg| outcome.is_with(caller.dialog.answered);
        let waits =
            |caller: &Leg| is_live(caller) && !is_with(caller) && !self.is_served_by_ambiguous(call, caller, leg);
        self.callers_of(call, leg).any(waits) && !self.rung_with(call, leg).any(is_served)
    }

    /// Returns whether a telephone that could belong to this call was certainly answered for the caller of the call.
    /// Both must be answered together, and the telephone must still talk when `leg` is answered. It must not be for
    /// another caller.
    fn is_served_by_ambiguous(&self, call: CallKey, caller: &Leg, leg: &Leg) -> bool {
        let talks = |telephone: &Leg| leg.dialog.answered.is_some_and(|(at, _)| telephone.lived_at(at));
        let serves = |telephone: &&Leg| telephone.id != leg.id && talks(telephone) && self.may_serve(telephone, caller);
        let others = self.ambiguous_relations(call).into_iter().flatten();
        let mut telephones = others.flat_map(|other| self.table.legs_of(other)).filter(serves);
        telephones.any(|telephone| !self.may_serve_another(telephone, call))
    }

    /// Returns whether a telephone in a call of its own may have been answered for the caller of another call than
    /// `call`. A call that is over, or that the telephone's call does not name, may contain this caller, too.
    ///
    /// The other caller was answered together with the telephone, or waited in a queue.
    fn may_serve_another(&self, telephone: &Leg, call: CallKey) -> bool {
        let possible = self.ambiguous_relations(telephone.call());
        let is_served = |caller: &Leg| {
            let is_before =
                telephone.dialog.answered.is_some_and(|(at, _)| caller.answered_by(at) && caller.lived_at(at));
            is_before && self.is_sent_for(caller, telephone) || self.may_serve(telephone, caller)
        };
        let is_other = |other: CallKey| other != call && self.table.legs_of(other).any(is_served);
        possible.len() >= MAX_AMBIGUOUS || possible.iter().any(|other| other.is_none_or(is_other))
    }

    /// Returns whether another telephone than `leg` may be the reason why the PBX answered the caller of a call. The
    /// same PBX sent it. It could belong to this call, but is not in it.
    pub(super) fn is_contested(&self, call: CallKey, leg: &Leg) -> bool {
        let related = self.ambiguous_relations(call).into_iter().flatten();
        let undecided = self.table.unresolved().iter().filter_map(|key| self.table.leg(*key));
        let undecided = undecided.filter(|other| other.join.alternatives().contains(&call));
        let mut telephones = related.flat_map(|other| self.table.legs_of(other)).chain(undecided);
        telephones.any(|other| {
            !other.is_branch_of(leg)
                && other.call() != call
                && other.machines().0.same_host(leg.machines().0)
                && self.callers_of(call, leg).any(|caller| self.may_serve(other, caller))
        })
    }

    /// Returns whether a telephone may be the reason why the PBX answered a caller. The PBX must have sent it for this
    /// caller, and must have answered the caller together with it.
    fn may_serve(&self, telephone: &Leg, caller: &Leg) -> bool {
        let answered = telephone.dialog.answered.zip(caller.dialog.answered);
        let is_with = answered.is_some_and(|((at, _), (when, _))| when + CLOCK_SKEW >= at && when <= at + PBX_REACTION);
        is_with && self.is_sent_for(caller, telephone)
    }

    /// Returns the calls that the rule `ambiguous` relates to a call; `None` for a call that is over.
    fn ambiguous_relations(&self, call: CallKey) -> Vec<Option<CallKey>> {
        let relations = self.table.call(call).map_or(&[][..], |call| &call.relations);
        let ambiguous = relations.iter().filter(|relation| relation.why == CorrelationRule::Ambiguous);
        ambiguous.map(|relation| self.table.call_by_id(&relation.id)).collect()
    }

    /// Returns whether a PBX that a caller has reached may have sent `leg` for this caller.
    fn is_sent_for(&self, caller: &Leg, leg: &Leg) -> bool {
        leg.machines().0.same_host(caller.machines().1) || self.may_have_caused_by_numbers(caller, leg)
    }
}
