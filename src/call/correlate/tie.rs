//! The tie of a leg: the join that put it into one call with the leg that caused it.
//!
//! A join is stored at the later of the two legs. If the cause was captured later, e.g. because packets were reordered,
//! the tie of the caused leg is stored at its cause.

use std::cmp::Ordering;

use crate::call::call_machines::CallMachines;
use crate::call::correlate::{Correlator, PBX_REACTION};
use crate::call::correlation_keys::{CLOCK_SKEW, MatchStrength};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::CallKey;
use crate::call::leg::Leg;
use crate::call::leg_join::LegJoin;
use crate::net::Endpoint;

impl Correlator<'_> {
    /// Returns the join that put this leg into one call with the leg that caused it. If no leg caused this leg, returns
    /// its own join, or `None` if it caused other legs.
    pub(super) fn tie_of<'a>(&'a self, leg: &'a Leg) -> Option<&'a LegJoin> {
        let mut causes = self.causes_of(leg).peekable();
        let causes_others = || self.table.legs_of(leg.call()).any(|other| self.has_caused(leg, other));
        if causes.peek().is_none() {
            return (!causes_others()).then_some(&leg.join);
        }
        let first = causes.min_by_key(|cause| (cause.created_at, cause.id))?;
        // The dialog of the cause may have several legs, e.g. before and behind a proxy, and the later ones may be
        // captured after `leg`. The dialog is as old as its first leg, so the ages of this first leg and of `leg` are
        // compared.
        let first = self.first_hop(first);
        let is_later = (first.created_at, first.id) > (leg.created_at, leg.id);
        Some(if is_later { &first.join } else { &leg.join })
    }

    /// Returns whether only hosts, numbers and times tie a leg to its call, and no other evidence has confirmed it.
    /// Answers or ends at the same time confirm nothing here, because two calls may be answered together by chance.
    pub(super) fn is_tied_weakly(&self, leg: &Leg) -> bool {
        let tie = self.tie_of(leg).filter(|tie| !tie.is_confirmed() || is_confirmed_by_moments(tie));
        tie.is_some_and(LegJoin::rests_on_numbers)
    }

    /// Returns whether a leg and the leg that caused it share only one number, and nothing else confirms the join.
    pub(super) fn is_tied_by_one_number(&self, leg: &Leg) -> bool {
        let tie = self.tie_of(leg).filter(|tie| !tie.is_confirmed());
        let rests_on_one = tie.and_then(LegJoin::by).is_some_and(CorrelationRule::may_rest_on_one_number);
        let is_both = |cause: &Leg| leg.signature().onward_strength(&cause.signature()) == MatchStrength::BothNumbers;
        rests_on_one && !self.causes_of(leg).any(is_both)
    }

    /// Returns the leg that was captured first among the legs of one dialog, e.g. before and behind a proxy.
    fn first_hop<'a>(&'a self, leg: &'a Leg) -> &'a Leg {
        let hops = self.table.legs_of(leg.call()).filter(|hop| hop.is_branch_of(leg));
        hops.min_by_key(|hop| (hop.created_at, hop.id)).unwrap_or(leg)
    }

    /// Returns whether one leg of a call may have caused another: one machine received `cause` and sent `effect`.
    ///
    /// If `effect` goes back to the sender of `cause`, and neither times nor numbers decide, the older dialog is the
    /// cause. E.g. the PBX sends a call back to the proxy from which it came. This leg may be captured before the leg
    /// from the proxy to the PBX.
    pub(super) fn has_caused(&self, cause: &Leg, effect: &Leg) -> bool {
        let age = |leg: &Leg| self.first_hop(leg).created_at;
        let is_older = || match cause.is_branch_of(effect) {
            true => cause.created_at <= effect.created_at,
            false => age(cause) <= age(effect),
        };
        is_caused(effect, cause, is_older) && !self.has_other_origin(effect, cause)
    }

    /// Returns whether `cause` did not cause `effect`, although the machine that received `cause` sent `effect`. This
    /// machine may be a proxy, through which many calls pass at the same time.
    ///
    /// The dialog of `effect` may have been captured before the proxy, too. Returns true if another leg of the call
    /// caused that earlier leg, or if one machine sent both the earlier leg and `cause`.
    fn has_other_origin(&self, effect: &Leg, cause: &Leg) -> bool {
        if cause.is_branch_of(effect) {
            return false;
        }
        let legs = || self.table.legs_of(effect.call());
        let leads_to = |hop: &Leg, next: &Leg| is_caused(next, hop, || hop.created_at <= next.created_at);
        let origin = legs().find(|hop| hop.is_branch_of(effect) && leads_to(hop, effect));
        origin.is_some_and(|origin| {
            let is_cause = |leg: &Leg| !leg.is_branch_of(origin) && leads_to(leg, origin);
            origin.machines().0.same_host(cause.machines().0) || legs().any(is_cause)
        })
    }

    /// Returns the legs of the same call that may have caused `leg`: the machine that received such a leg also sent
    /// `leg`.
    pub(super) fn causes_of<'a>(&'a self, leg: &'a Leg) -> impl Iterator<Item = &'a Leg> {
        self.table.legs_of(leg.call()).filter(|other| self.has_caused(other, leg))
    }

    /// Returns whether this leg lacks a cause, i.e. the leg for which a PBX sent it, and another call may contain the
    /// cause. Returns false if a leg of the call caused the leg's dialog, or if another dialog of the call lacks a
    /// cause, too. Also returns false if the call must not be joined by numbers any more.
    pub(super) fn is_unexplained(&self, leg: &Leg) -> bool {
        let is_open =
            self.table.call(leg.call()).is_some_and(|call| !call.closed_to_heuristics && !call.notes.had_other_legs());
        let fits = |other: &Leg| match other.is_branch_of(leg) {
            // Another leg of the same dialog does not explain why the dialog began, so it is no cause. But a leg within
            // one host is a cause, because a program on that host began the dialog.
            true => self.causes_of(other).all(|cause| cause.is_branch_of(leg) && !starts_on_its_host(cause)),
            false => self.causes_of(other).next().is_some(),
        };
        is_open && self.table.legs_of(leg.call()).all(|other| fits(other) || other.is_recording_session())
    }

    /// Returns the legs on which the caller of a call reached this PBX, at any of its addresses.
    pub(super) fn caller_legs(&self, conversation: CallKey, pbx: Endpoint) -> impl Iterator<Item = &Leg> {
        let machines = CallMachines::of(self.table.legs_of(conversation));
        self.table.party_legs_of(conversation).filter(move |l| machines.is_same(l.machines().1, pbx))
    }

    /// Returns the legs that this PBX sent for a call from any of its addresses, e.g. to ring telephones.
    pub(super) fn rung_legs(&self, conversation: CallKey, pbx: Endpoint) -> impl Iterator<Item = &Leg> {
        let machines = CallMachines::of(self.table.legs_of(conversation));
        self.table.party_legs_of(conversation).filter(move |l| machines.is_same(l.machines().0, pbx))
    }

    /// Returns whether a call already has a leg from and to the same two machines (`hop`). A further dialog between
    /// them is another call, so it did not cause the legs of this call.
    pub(super) fn has_leg_over(&self, call: CallKey, hop: (Endpoint, Endpoint)) -> bool {
        let is_same = |leg: &Leg| leg.machines().0.same_host(hop.0) && leg.machines().1.same_host(hop.1);
        self.table.legs_of(call).any(is_same)
    }
}

/// Returns whether only the rule `same_moments` has confirmed a join: two legs were answered, or ended, at the same
/// time.
pub(super) fn is_confirmed_by_moments(join: &LegJoin) -> bool {
    join.confirmed_by() == Some(CorrelationRule::SameMoments)
}

/// Returns whether `cause` may have caused `effect`: one machine received `cause` and sent `effect`.
pub(super) fn is_caused_by(effect: &Leg, cause: &Leg) -> bool {
    is_caused(effect, cause, || cause.created_at <= effect.created_at)
}

fn is_caused(effect: &Leg, cause: &Leg, is_older: impl Fn() -> bool) -> bool {
    let (own, other) = (effect.machines(), cause.machines());
    cause.id != effect.id
        && other.1.same_host(own.0)
        && cause.created_at <= effect.created_at + CLOCK_SKEW
        && (!own.1.same_host(other.0) || is_sent_back_for(effect, cause, is_older))
}

/// Returns whether `cause` may have caused `effect`, although `effect` goes back to the sender of `cause`.
///
/// If both were captured at about the same time, the numbers decide. If the numbers fit both ways, the older leg is the
/// cause.
fn is_sent_back_for(effect: &Leg, cause: &Leg, is_older: impl Fn() -> bool) -> bool {
    if cause.created_at.distance(effect.created_at) > CLOCK_SKEW {
        return cause.created_at <= effect.created_at;
    }
    let (back, forth) = (effect.signature(), cause.signature());
    match back.onward_strength(&forth).cmp(&forth.onward_strength(&back)) {
        Ordering::Greater => true,
        Ordering::Equal => is_older(),
        Ordering::Less => false,
    }
}

/// Returns whether a machine is at one of the ends of a leg.
pub(super) fn is_end_of(machine: Endpoint, leg: &Leg) -> bool {
    leg.machines().0.same_host(machine) || leg.machines().1.same_host(machine)
}

/// Returns whether one of the legs arrives at a machine and another leg leaves it.
pub(super) fn pass_through<'a>(machine: Endpoint, legs: impl Iterator<Item = &'a Leg> + Clone) -> bool {
    legs.clone().any(|leg| leg.machines().1.same_host(machine))
        && legs.clone().any(|leg| leg.machines().0.same_host(machine))
}

/// Returns the machine that received one of two legs and sent the other; `None` if there is none.
pub(super) fn machine_between(a: &Leg, b: &Leg) -> Option<Endpoint> {
    let onward = |from: &Leg, to: &Leg| Some(from.machines().1).filter(|machine| machine.same_host(to.machines().0));
    onward(a, b).or_else(|| onward(b, a))
}

/// Returns whether two legs were answered within the time in which a PBX passes an answer on.
pub(super) fn are_answered_together(a: &Leg, b: &Leg) -> bool {
    let times = a.dialog.answered.zip(b.dialog.answered);
    times.is_some_and(|((a, _), (b, _))| a.distance(b) <= PBX_REACTION)
}

/// Returns whether two legs ended within the time in which a PBX passes a BYE on.
pub(super) fn have_ended_together(a: &Leg, b: &Leg) -> bool {
    let times = a.dialog.ended().zip(b.dialog.ended());
    times.is_some_and(|((a, _), (b, _))| a.distance(b) <= PBX_REACTION)
}

/// Returns whether a leg was sent by a program on the host that received it, e.g. by a softphone or dialler on the PBX.
fn starts_on_its_host(leg: &Leg) -> bool {
    let (sender, receiver) = leg.machines();
    sender.same_host(receiver)
}
