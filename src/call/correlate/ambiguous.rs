//! Resolution of ambiguous legs.
//!
//! The PBX rings a telephone while several calls to the same number wait. Such a leg is *ambiguous*: it could belong to
//! each of these calls. At first it belongs to the newest of them, because a PBX serves a new call at once.
//!
//! The *ring outcome* of the leg decides, i.e. how and when it stopped ringing. If the caller of another call was
//! answered at the same time as the leg, the leg moves to that call. If the evidence is contradictory, the leg becomes
//! a call of its own, related to all calls to which it could belong.

use std::time::Duration;

use crate::call::correlate::Correlator;
use crate::call::correlate::evidence::Evidence;
use crate::call::correlate::open_leg::OpenLeg;
use crate::call::correlate::tie::are_answered_together;
use crate::call::correlation_keys::{CLOCK_SKEW, RING_BURST};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::dialog::AnswerEvidence;
use crate::call::keys::CallKey;
use crate::call::leg::Leg;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// How a leg stopped ringing, with the capture time.
#[derive(Clone, Copy, Debug)]
pub(super) enum RingOutcome {
    /// The telephone answered at this time.
    Answered(Timestamp),
    /// The PBX cancelled the leg at this time.
    Cancelled(Timestamp),
}

impl RingOutcome {
    fn of_leg(leg: &Leg) -> Option<Self> {
        let answered = leg.dialog.answered.map(|(at, _)| Self::Answered(at));
        answered.or_else(|| leg.dialog.cancelled_at().map(Self::Cancelled))
    }

    /// Returns whether a caller was answered when this leg stopped ringing, or up to 200 ms later. `answered` is the
    /// answer on the caller's leg. A PBX answers the caller as soon as a telephone answers.
    pub(super) fn is_with(self, answered: Option<(Timestamp, AnswerEvidence)>) -> bool {
        answered.is_some_and(|(when, _)| when + CLOCK_SKEW >= self.at() && when <= self.at() + PBX_REACTION)
    }

    /// Returns whether an event on another leg came shortly before this leg stopped ringing, and so may be the reason.
    fn is_caused_by(self, event: Option<Timestamp>) -> bool {
        event.is_some_and(|when| when + CLOCK_SKEW >= self.at() && when <= self.at())
    }

    const fn at(self) -> Timestamp {
        let (Self::Answered(at) | Self::Cancelled(at)) = self;
        at
    }
}

/// Returns the evidence of the rule `ring_outcome` for an ambiguous leg, i.e. one that could belong to several calls.
/// The evidence names the calls that explain why the leg stopped ringing.
///
/// E.g. the telephone answered at the moment at which the caller of one of these calls was answered. Then the leg moves
/// to that call. If no other call explains why the leg stopped ringing, the leg usually stays in its call.
///
/// A cancelled leg moves in one case only: it is a separate call, and another telephone of its ring group answered. In
/// other cases, the PBX may have stopped ringing the telephone just when an unrelated call was answered.
pub(super) fn ring_outcome(subject: &OpenLeg<'_>) -> Vec<Evidence> {
    let OpenLeg { correlator, leg, .. } = subject;
    let alternatives = correlator.live_alternatives(leg);
    let is_open = leg.join.is_ambiguous() && !leg.join.is_proven_by_content();
    let Some(outcome) = RingOutcome::of_leg(leg).filter(|_| is_open) else { return Vec::new() };
    let own = leg.call();
    let fitting = alternatives.iter().copied().filter(|call| correlator.explains(*call, leg, outcome));
    let is_own = correlator.explains_for_own(leg, outcome);
    let calls: Vec<CallKey> = is_own.then_some(own).into_iter().chain(fitting).collect();
    let unassigned = |call: &CallKey| Evidence::about_call(CorrelationRule::Ambiguous, *call);
    let is_separate = correlator.is_root(leg);
    let waits = |call: &&CallKey| correlator.has_queued_caller(**call, leg, outcome);
    // The caller of another call may wait in a queue: the PBX has answered that call, but no telephone has. This leg
    // may be for that caller. So no evidence is returned, and the leg stays where it is.
    if is_separate && alternatives.iter().any(|call| waits(&call)) {
        return Vec::new();
    }
    let all = || alternatives.iter().chain([&own]);
    match calls.as_slice() {
        [] if correlator.is_undecidable(leg, outcome, &alternatives) => all().map(unassigned).collect(),
        // The caller may have been answered for another telephone.
        [only] if matches!(outcome, RingOutcome::Answered(_)) && correlator.is_contested(*only, leg) => {
            all().map(unassigned).collect()
        }
        // The leg may have answered for a caller in a queue. Then the caller of the fitting call was answered by
        // chance.
        [only] if !is_own && all().any(|call| waits(&call)) && !correlator.stops_ringing(*only, leg, outcome) => {
            all().map(unassigned).collect()
        }
        [only]
            if !is_own
                && matches!(outcome, RingOutcome::Cancelled(_))
                && !(is_separate
                    && correlator.rings_beside(*only, leg)
                    && !alternatives.iter().any(|call| correlator.may_hunt(*call, leg, outcome))) =>
        {
            vec![unassigned(only)]
        }
        calls => calls.iter().map(|call| Evidence::about_call(CorrelationRule::RingOutcome, *call)).collect(),
    }
}

impl Correlator<'_> {
    /// Returns the other live calls to which an ambiguous leg could belong.
    pub(super) fn live_alternatives(&self, leg: &Leg) -> Vec<CallKey> {
        leg.join.alternatives().iter().filter(|call| self.table.call(**call).is_some()).copied().collect()
    }

    /// Returns whether the call to which a leg belongs now explains why the leg stopped ringing. Usually somebody was
    /// answered at that moment ([`Self::explains`]). If the PBX cancelled the leg, the caller of this call may also
    /// have hung up.
    fn explains_for_own(&self, leg: &Leg, outcome: RingOutcome) -> bool {
        let own = leg.call();
        let gave_up = |l: &Leg| outcome.is_caused_by(l.dialog.ended().map(|(at, _)| at));
        let is_cancelled = matches!(outcome, RingOutcome::Cancelled(_));
        self.explains(own, leg, outcome) || is_cancelled && self.callers_of(own, leg).any(gave_up)
    }

    /// Returns whether a call explains why a leg stopped ringing. If the leg was answered, the call's caller must have
    /// been answered at that time. If the leg was cancelled, another telephone or the caller must have been answered at
    /// that time.
    fn explains(&self, conversation: CallKey, leg: &Leg, outcome: RingOutcome) -> bool {
        let caller_answered = self.callers_of(conversation, leg).any(|l| outcome.is_with(l.dialog.answered));
        let answered_at = |l: &Leg| l.dialog.answered.map(|(at, _)| at);
        match outcome {
            // If another telephone of this call answered, then the caller was answered because of that telephone. So
            // the answer of the caller does not explain the answer of this leg.
            RingOutcome::Answered(at) => {
                let mut others = self.rung_with(conversation, leg).filter(|l| answered_at(l) != Some(at));
                caller_answered && !others.any(|l| l.answered_by(at + PBX_REACTION))
            }
            RingOutcome::Cancelled(_) => {
                let mut answers = self.rung_with(conversation, leg).filter_map(answered_at).peekable();
                if answers.peek().is_none() {
                    caller_answered
                } else {
                    answers.any(|at| outcome.is_caused_by(Some(at)))
                }
            }
        }
    }

    /// Returns whether an answered leg cannot be assigned to a call. One of two reasons is enough:
    ///
    /// - The caller of the leg's present call was not answered.
    /// - The caller of another possible call waited in a queue when the leg was answered.
    fn is_undecidable(&self, leg: &Leg, outcome: RingOutcome, alternatives: &[CallKey]) -> bool {
        let RingOutcome::Answered(at) = outcome else { return false };
        // If the mirror port lost the 200 response to the caller, the caller's ACK shows that the caller was answered.
        let is_served =
            |l: &Leg| l.answered_by(at + PBX_REACTION) || l.dialog.answered.is_none() && l.dialog.acked_at().is_some();
        !self.callers_of(leg.call(), leg).any(is_served)
            || alternatives.iter().any(|call| self.has_queued_caller(*call, leg, outcome))
    }

    /// Returns whether the PBX stopped ringing a telephone of a call when this leg was answered. So somebody else
    /// answered that call.
    fn stops_ringing(&self, call: CallKey, leg: &Leg, outcome: RingOutcome) -> bool {
        let is_then = |at: Timestamp| at + CLOCK_SKEW >= outcome.at() && at <= outcome.at() + PBX_REACTION;
        self.rung_with(call, leg).any(|other| other.dialog.cancelled_at().is_some_and(is_then))
    }

    /// Returns whether the PBX may have cancelled this leg to ring the next telephone for the caller of a call. The
    /// caller is connected to nobody then, and no other telephone rings for this caller.
    fn may_hunt(&self, call: CallKey, leg: &Leg, outcome: RingOutcome) -> bool {
        let at = outcome.at();
        let is_other = |other: &Leg| other.id != leg.id && other.lived_at(at + PBX_REACTION);
        let waits = |caller: &Leg| caller.lived_at(at) && !outcome.is_with(caller.dialog.answered);
        self.callers_of(call, leg).any(waits) && !self.rung_with(call, leg).any(is_other)
    }

    /// Returns the legs of a call that have the same sender as this leg, e.g. the PBX that rings telephones. The
    /// captured addresses may differ: within a call, another address may stand for the sender.
    pub(super) fn rung_with<'a>(&'a self, conversation: CallKey, leg: &'a Leg) -> impl Iterator<Item = &'a Leg> {
        let is_sender = |l: &&Leg| {
            l.machines().0.same_host(leg.machines().0) || l.dialog.caller_addr.same_host(leg.dialog.caller_addr)
        };
        self.table.party_legs_of(conversation).filter(is_sender)
    }

    /// Returns whether a PBX rang another telephone together with this leg for the caller of a call, and that telephone
    /// answered.
    fn rings_beside(&self, call: CallKey, leg: &Leg) -> bool {
        let is_beside = |other: &Leg| other.created_at.distance(leg.created_at) <= RING_BURST;
        self.rung_legs(call, leg.machines().0).any(|other| other.dialog.answered.is_some() && is_beside(other))
    }

    /// Returns the legs on which the caller of a call reached the PBX that sent this leg. If no leg of the call leads
    /// to the host of this PBX, the PBX may have another address. Then the result is the legs of the call that may have
    /// caused this leg by their numbers and times.
    pub(super) fn callers_of<'a>(&'a self, conversation: CallKey, leg: &'a Leg) -> impl Iterator<Item = &'a Leg> {
        let pbx = leg.machines().0;
        let is_here = self.table.party_legs_of(conversation).any(|l| l.machines().1.same_host(pbx));
        let is_caller = move |l: &&Leg| match is_here {
            true => l.machines().1.same_host(pbx),
            false => self.may_have_caused_by_numbers(l, leg),
        };
        self.table.party_legs_of(conversation).filter(is_caller)
    }

    /// Returns the address at which the PBX received the caller's call, if the PBX sent `leg` from another address. The
    /// caller must have been answered together with `leg`; otherwise returns `None`.
    pub(super) fn other_address(&self, call: CallKey, leg: &Leg) -> Option<Endpoint> {
        // The call may have passed other machines before the PBX, e.g. a border controller. Then it has several legs,
        // and the receiver of the last leg is the PBX.
        let answered = self.callers_of(call, leg).filter(|caller| are_answered_together(caller, leg));
        let machine = answered.max_by_key(|caller| (caller.created_at, caller.id))?.machines().1;
        (!machine.same_host(leg.machines().0)).then_some(machine)
    }
}

/// Maximum time between a telephone's answer and the PBX's answer to the caller.
pub(crate) const PBX_REACTION: Duration = Duration::from_millis(200);
