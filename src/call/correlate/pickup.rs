//! Calls that were answered elsewhere, i.e. by a telephone that the call did not ring.
//!
//! A PBX answers a caller as soon as a telephone answers for this caller. If the PBX answers a pickup code and a caller
//! at the same moment, the telephone that dialled the code picked up that call.
//!
//! Forwarding is found in the same way. The PBX calls an outside telephone. As caller it shows the number that the
//! first caller had dialled. If both calls are answered at the same moment, the outside telephone answered the first
//! call.

use crate::call::correlate::ambiguous::{PBX_REACTION, RingOutcome};
use crate::call::correlate::customer::Dialler;
use crate::call::correlate::evidence::Evidence;
use crate::call::correlate::open_leg::OpenLeg;
use crate::call::correlate::question::LegQuestion;
use crate::call::correlate::{Command, Correlator, MAX_AMBIGUOUS};
use crate::call::correlation_keys::{CLOCK_SKEW, END_WINDOW, PAIR_WINDOW, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::decision::AnsweredElsewhere;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::roles::is_completed_elsewhere;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// Returns the evidence of the rule `directed_pickup`: the new leg dials a pickup code that ends with an extension. The
/// returned calls ring at this extension, which belongs to the dialler's customer.
pub(super) fn directed_pickup(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let (table, signature) = (question.correlator.table, &question.signature);
    let dialler = Dialler::of_question(question);
    let mut found = Vec::new();
    for extension in signature.pickup_extensions() {
        // Other customers of a hosted PBX may have the same extension. So the PBX's host is searched first. At any
        // other host, only legs that this PBX sent from another of its addresses count.
        let keys = table.correlation();
        let is_ringing = |leg: &Leg| leg.lived_at(signature.at) && !leg.answered_by(signature.at);
        let is_sent_here =
            |leg: &Leg| question.correlator.rung_legs(leg.call(), signature.hop.1).any(|rung| rung.id == leg.id);
        let is_own = |leg: &Leg| question.correlator.rings_customer_of(leg.call(), &dialler);
        let rings_extension =
            |leg: &Leg| leg.parties.to.as_ref() == Some(&extension) && is_sent_here(leg) && is_own(leg);
        let ringing = |legs: &[LegKey]| -> Vec<Evidence> {
            let legs = legs.iter().filter_map(|key| Some((*key, table.leg(*key)?)));
            let ringing = legs.filter(|(_, leg)| is_ringing(leg) && rings_extension(leg)).take(MAX_AMBIGUOUS);
            ringing.map(|(key, l)| Evidence::about_leg(CorrelationRule::DirectedPickup, l.call(), key)).collect()
        };
        let here = ringing(keys.legs_at(signature.hop.1, &extension));
        found.extend(if here.is_empty() { ringing(keys.legs_with(&extension)) } else { here });
    }
    found
}

/// Returns the evidence of the rule `group_pickup`: the leg `subject` dials a pickup code. The evidence names the calls
/// that stopped ringing elsewhere when the PBX answered this leg.
pub(super) fn group_pickup(subject: &OpenLeg<'_>) -> Vec<Evidence> {
    let Some((at, _)) = subject.leg.dialog.answered.filter(|_| subject.leg.dials_code()) else { return Vec::new() };
    let calls = subject.correlator.picked_up_calls(subject.leg, at).into_iter();
    calls.map(|call| Evidence::about_call(CorrelationRule::GroupPickup, call)).collect()
}

/// Returns the evidence of the rule `forwarded_outside`: the PBX sent the leg `subject` to an outside telephone, to
/// forward a call. Each piece of evidence names a call that the PBX may have forwarded.
pub(super) fn forwarded_outside(subject: &OpenLeg<'_>) -> Vec<Evidence> {
    let Some((at, _)) = subject.leg.dialog.answered.filter(|_| !subject.leg.dials_code()) else { return Vec::new() };
    let calls = subject.correlator.forwarded_calls(subject.leg, at).into_iter();
    calls.map(|call| Evidence::about_call(CorrelationRule::ForwardedOutside, call)).collect()
}

impl OpenLeg<'_> {
    /// Returns the party of this leg, if it answered another call: `Some(Some(extension))`, or `Some(None)` for an
    /// outside number. Returns `None` if the rule says nothing about the answer of another call.
    pub(super) fn taken_by(&self, rule: CorrelationRule) -> Option<Option<String>> {
        match rule {
            CorrelationRule::GroupPickup => {
                let is_extension = |from: &String| self.correlator.plan.is_extension(from);
                Some(self.leg.parties.from.clone().filter(is_extension))
            }
            CorrelationRule::ForwardedOutside => Some(None),
            _ => None,
        }
    }
}

impl Correlator<'_> {
    /// Returns the time at which the correlation of an answered or ended leg is reviewed. By then the reaction of the
    /// PBX is visible. Returns `None` if no review is needed.
    pub(crate) fn review_due_at(&self, leg: &Leg) -> Option<Timestamp> {
        let is_ambiguous = leg.join.is_ambiguous();
        match (leg.dialog.answered, leg.dialog.ended()) {
            (Some((at, _)), _) | (None, Some((at, _))) if is_ambiguous => Some(at + PBX_REACTION + CLOCK_SKEW),
            (Some(_), Some((at, _))) if leg.join.is_provisional() && leg.has_media() => Some(at + END_WINDOW),
            (Some((at, _)), _) if leg.join.is_provisional() => Some(at + PAIR_WINDOW),
            (Some((at, _)), _) if leg.dials_code() || self.forwarded_callers(leg).next().is_some() => {
                Some(at + PAIR_WINDOW)
            }
            _ => None,
        }
    }

    /// Returns the ringing calls that were picked up at the time `at`, when the PBX answered the pickup code on this
    /// leg. They rang telephones of the dialler's customer. This examines all calls, but only after a telephone dialled
    /// a code.
    fn picked_up_calls(&self, leg: &Leg, at: Timestamp) -> Vec<CallKey> {
        let dialler = self.dialler_of(leg);
        let others = self.table.calls().map(|(c, _)| c).filter(|c| *c != leg.call());
        let picked_up = others.filter(|c| self.is_picked_up_at(*c, dialler.pbx, at));
        picked_up.filter(|c| self.rings_customer_of(*c, &dialler)).take(MAX_AMBIGUOUS).collect()
    }

    /// Returns the command that marks a call as answered by a telephone that dialled a code on the leg `dialling`.
    /// Equal bytes of voice have proven that this telephone hears the caller on the leg `waiting`. Returns `None` if
    /// the call rang nobody, or if a telephone that it rang has answered.
    pub(super) fn picked_up_by_code(&self, dialling: &Leg, waiting: &Leg) -> Option<Command> {
        let (at, _) = dialling.dialog.answered.filter(|_| dialling.dials_code())?;
        let extension = dialling.parties.from.clone().filter(|from| self.plan.is_extension(from))?;
        let call = waiting.call();
        let rang_in_vain = |pbx: Endpoint| {
            let mut rung = self.rung_legs(call, pbx).peekable();
            rung.peek().is_some() && rung.all(|leg| leg.dialog.answered.is_none())
        };
        let mut hops = self.table.legs_of(dialling.call()).filter(|hop| hop.is_branch_of(dialling));
        let is_taken = hops.any(|hop| rang_in_vain(hop.machines().1));
        let by = AnsweredElsewhere { at, extension: Some(extension), direction: None };
        is_taken.then_some(Command::MarkAnsweredElsewhere { call, by })
    }

    /// Returns the calls that the PBX forwarded to the outside telephone of this leg. Such a call's caller was answered
    /// at the same time as this leg, and none of the call's own telephones answered.
    fn forwarded_calls(&self, leg: &Leg, at: Timestamp) -> Vec<CallKey> {
        let pbx = leg.machines().0;
        let is_answered_too = |l: &&Leg| RingOutcome::Answered(at).is_with(l.dialog.answered);
        // If the mirror port shows no calls from the PBX to telephones, a telephone may have answered unseen. Then the
        // call is not returned.
        let shows_rung = |c: CallKey| self.plan.is_visible_pbx(pbx) || self.rung_legs(c, pbx).next().is_some();
        let is_taken_by_nobody =
            |l: &&Leg| shows_rung(l.call()) && self.rung_legs(l.call(), pbx).all(|l| l.dialog.answered.is_none());
        let legs = self.forwarded_callers(leg).filter(is_answered_too).filter(is_taken_by_nobody);
        let mut out: Vec<CallKey> = legs.map(|l| l.call()).take(MAX_AMBIGUOUS).collect();
        out.dedup();
        out
    }

    /// Returns the legs of callers that the PBX may have forwarded to an outside number by sending `leg`. These callers
    /// dialled the number that `leg` shows as its caller. The list is empty if another leg has caused `leg`.
    fn forwarded_callers<'a>(&'a self, leg: &'a Leg) -> impl Iterator<Item = &'a Leg> {
        let pbx = leg.machines().0;
        let is_outside = |number: &Option<String>| number.as_deref().is_some_and(|n| !self.plan.is_extension(n));
        let is_outside = is_outside(&leg.parties.from) && is_outside(&leg.parties.to);
        let may_forward = is_outside && self.is_of_one_dialog(leg.call());
        let number = leg.parties.from.as_deref().filter(|_| may_forward);
        let legs = number.map_or(&[][..], |number| self.table.correlation().legs_at(pbx, number)).iter();
        legs.filter_map(|slot| self.table.leg(*slot)).filter(move |l| {
            l.call() != leg.call()
                && l.machines().1.same_host(pbx)
                && l.created_at <= leg.created_at
                && same_number(l.parties.to.as_deref(), leg.parties.from.as_deref())
                // A call to the caller's own number is a callback, not forwarding.
                && !same_number(l.parties.from.as_deref(), leg.parties.to.as_deref())
        })
    }

    /// Returns whether a ringing call was picked up just after `at` by a telephone that it did not ring. Either the
    /// caller got a 2xx then, although none of the ringing telephones sent one. Or the PBX stopped ringing the
    /// telephones, and a Reason header says that the call was answered elsewhere.
    fn is_picked_up_at(&self, conversation: CallKey, pbx: Endpoint, at: Timestamp) -> bool {
        let is_just_after = |when: Timestamp| when + CLOCK_SKEW >= at && when <= at + PAIR_WINDOW;
        let rang = |l: &&Leg| l.created_at <= at && l.lived_at(at - CLOCK_SKEW);
        let mut rung = self.rung_legs(conversation, pbx).filter(rang).peekable();
        if rung.peek().is_none() || self.rung_legs(conversation, pbx).any(|l| l.dialog.answered.is_some()) {
            return false;
        }
        let says_elsewhere = |l: &Leg| l.dialog.reason().is_some_and(is_completed_elsewhere);
        let is_signalled =
            rung.any(|l| says_elsewhere(l) && l.dialog.ended().is_some_and(|(ended, _)| is_just_after(ended)));
        let is_answered = |l: &Leg| l.dialog.answered.is_some_and(|(when, _)| is_just_after(when));
        is_signalled || self.caller_legs(conversation, pbx).any(is_answered)
    }
}
