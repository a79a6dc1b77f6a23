//! Rules that compare numbers, hosts and times. They join a leg only if the match is unambiguous.
//!
//! The *leg in question* is the leg whose call is searched; the *other* or *older leg* is a candidate.

use crate::call::correlate::Correlator;
use crate::call::correlate::evidence::{Evidence, only_call};
use crate::call::correlate::one_name::is_called_already;
use crate::call::correlate::question::{LegQuestion, MetLeg};
use crate::call::correlation_keys::{LegSignature, MatchStrength, PAIR_WINDOW, RING_BURST, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;

/// Returns the evidence of the rule `own_call`: the other leg goes to the same address for another call. The evidence
/// excludes only this other leg and not its whole call, because a proxy and a PBX on one host have further legs.
pub(super) fn own_call(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let beside = question.met_legs().iter().filter(|met| met.is_own_call);
    beside.map(|met| Evidence::about_leg(CorrelationRule::OwnCall, met.leg.call(), met.key)).collect()
}

/// Returns the evidence of the rule `already_ringing`: the call already has a live leg from the same host to the same
/// telephone and number. A further leg to that telephone belongs to another call, unless it rings another device.
pub(super) fn already_ringing(question: &LegQuestion<'_>) -> Vec<Evidence> {
    if question.rung_device().is_some() {
        return Vec::new();
    }
    let mut calls: Vec<CallKey> = question.explaining_legs().map(|met| met.leg.call()).collect();
    calls.sort_unstable();
    calls.dedup();
    let rings = calls.into_iter().filter(|call| rings_already(question, *call));
    rings.map(|call| Evidence::about_call(CorrelationRule::AlreadyRinging, call)).collect()
}

fn rings_already(question: &LegQuestion<'_>, call: CallKey) -> bool {
    let own = &question.signature;
    question.correlator.table.legs_of(call).any(|leg| {
        let other = leg.signature();
        leg.lived_at(question.at)
            && other.hop.0.same_host(own.hop.0)
            && other.hop.1 == own.hop.1
            && (same_number(other.to, own.to) || other.to.or(own.to).is_none())
    })
}

/// Returns the evidence of the rule `another_device`. It applies if only one call explains the leg, a telephone of that
/// call already rings, and the leg rings another device of the same number.
pub(super) fn another_device(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let call = question.rung_device().into_iter();
    call.map(|call| Evidence::about_call(CorrelationRule::AnotherDevice, call)).collect()
}

/// Returns the only call that explains the leg, if the leg rings another device of a number that rings in the call.
pub(super) fn call_of_another_device(question: &LegQuestion<'_>) -> Option<CallKey> {
    let evidence = |call: CallKey| Evidence::about_call(CorrelationRule::AnotherDevice, call);
    let is_device = |call: &CallKey| {
        let mut legs = question.correlator.table.legs_of(*call);
        legs.any(|l| l.lived_at(question.at) && question.signature.is_another_device_of(&l.signature()))
    };
    // A call from this number explains the leg better than a call from an extension whose number the PBX may have
    // replaced.
    let is_caller = |met: &&MetLeg<'_>| same_number(question.signature.from, met.leg.parties.from.as_deref());
    let named = question.explaining_legs().any(|met| is_caller(&met));
    let causes = question.explaining_legs().filter(|met| !named || is_caller(met));
    let call = only_call(causes.map(|met| evidence(met.leg.call())));
    call.filter(is_device)
}

/// Returns the evidence of the rule `onward_both`: the host that received the other leg sent the leg in question
/// shortly afterwards, and both numbers agree.
pub(super) fn onward_both(question: &LegQuestion<'_>) -> Vec<Evidence> {
    onward_legs(question, CorrelationRule::OnwardBoth)
}

/// Returns the evidence of the rule `hairpin`: the PBX sends an extension's call back to the proxy that brought the
/// call.
pub(super) fn hairpin(question: &LegQuestion<'_>) -> Vec<Evidence> {
    onward_legs(question, CorrelationRule::Hairpin)
}

/// Returns the evidence of the rule `diverted`: the leg in question says (by Diversion or History-Info) that the called
/// number of the other leg diverted the call.
pub(super) fn diverted(question: &LegQuestion<'_>) -> Vec<Evidence> {
    onward_legs(question, CorrelationRule::Diverted)
}

/// Returns the evidence of the rule `onward_one`. It differs from `onward_both` in that only one number agrees.
pub(super) fn onward_one(question: &LegQuestion<'_>) -> Vec<Evidence> {
    onward_legs(question, CorrelationRule::OnwardOne)
}

fn onward_legs(question: &LegQuestion<'_>, rule: CorrelationRule) -> Vec<Evidence> {
    let onward = question.met_legs().iter().filter(|met| met.onward == Some(rule));
    onward.map(|met| Evidence::about_leg(rule, met.leg.call(), met.key)).collect()
}

/// Returns the evidence of the rule `for_waiting_caller`: the caller of the other leg waits at the host that sent the
/// leg in question, however long.
pub(super) fn for_waiting_caller(question: &LegQuestion<'_>) -> Vec<Evidence> {
    waiting_legs(question, CorrelationRule::ForWaitingCaller)
}

/// Returns the evidence of the rule `next_trunk`: the same number was called before over other trunks, and all attempts
/// failed.
pub(super) fn next_trunk(question: &LegQuestion<'_>) -> Vec<Evidence> {
    waiting_legs(question, CorrelationRule::NextTrunk)
}

fn waiting_legs(question: &LegQuestion<'_>, rule: CorrelationRule) -> Vec<Evidence> {
    let waiting = question.met_legs().iter().filter(|met| met.waiting == Some(rule));
    waiting.map(|met| Evidence::about_leg(rule, met.leg.call(), met.key)).collect()
}

/// Returns the call that the rule `newest_unserved` prefers if several calls match equally. It is the newest of several
/// matching calls, if it has just begun and the PBX has called nobody for it yet, or calls a group for it now.
///
/// The PBX must already ring telephones for all other calls, and none of those legs may have ended. A PBX rings a whole
/// group at once, so it sends no further leg for these calls.
pub(super) fn newest_unserved(question: &LegQuestion<'_>, candidates: &[Evidence]) -> Option<CallKey> {
    let table = question.correlator.table;
    let legs_of = |call: CallKey| table.keys_of(call);
    let rung = |call: CallKey| legs_of(call).iter().skip(1).filter_map(|key| table.leg(*key));
    // The PBX rings the telephones of a group one after another. While it does, it still serves this call.
    let is_just_rung = |l: &Leg| l.created_at.distance(question.signature.at) <= RING_BURST;
    let is_unserved = |call: CallKey| rung(call).max_by_key(|l| l.created_at).is_none_or(is_just_rung);
    let mut unserved = candidates.iter().filter(|e| is_unserved(e.call));
    let (newest, None) = (unserved.next()?, unserved.next()) else { return None };
    let came_at = table.call(newest.call)?.created_at;
    let is_served = |call: CallKey| rung(call).all(|l| l.lived_at(question.at) && l.created_at + RING_BURST <= came_at);
    let just_now = question.signature.at.since(came_at) <= PAIR_WINDOW;
    let all_served = candidates.iter().filter(|e| e.call != newest.call).all(|e| is_served(e.call));
    (just_now && all_served).then_some(newest.call)
}

/// Returns the evidence of the rule `click_to_call`: the PBX called an extension, which waits until the other number is
/// called.
///
/// If the first leg names no caller, it could belong to any call. Then it matches only if no other caller waits for the
/// PBX to call out.
pub(super) fn click_to_call(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let Correlator { table, plan, .. } = question.correlator;
    let clicked = |(key, leg): (LegKey, &Leg)| Evidence::about_leg(CorrelationRule::ClickToCall, leg.call(), key);
    let met = question.met_legs().iter().map(|met| (met.key, met.leg));
    let named: Vec<Evidence> = met.filter(|(_, leg)| is_click_to_call(question, leg)).map(clicked).collect();
    if !named.is_empty() || question.signature.to.is_none_or(|to| plan.is_extension(to)) {
        return named;
    }
    let nameless = table.correlation().nameless_calls_of(question.signature.hop.0).iter();
    let nameless = nameless.filter_map(|key| Some((*key, table.leg(*key)?)));
    let nameless = nameless.filter(|(_, leg)| leg.lived_at(question.at) && is_click_to_call(question, leg));
    let nameless: Vec<Evidence> = nameless.map(clicked).collect();
    match only_call(nameless.iter().copied()) {
        Some(only) if question.correlator.somebody_calls_out(&question.signature) => {
            vec![Evidence::about_call(CorrelationRule::Ambiguous, only)]
        }
        _ => nameless,
    }
}

/// Returns whether `leg` is the first leg of a click-to-call, answered just now, and the leg in question is the second
/// leg.
fn is_click_to_call(question: &LegQuestion<'_>, leg: &Leg) -> bool {
    let is_lone = question.correlator.table.is_lone(leg.call());
    let just_answered = leg.dialog.answered.is_some_and(|(at, _)| question.signature.at.since(at) <= PAIR_WINDOW);
    is_lone && just_answered && question.signature.is_click_to_call_after(&leg.signature())
}

/// Returns the evidence of the rule `consultation`: the only call in which the caller of the leg in question talks at
/// this time.
///
/// The caller is an extension that makes a second call, itself or by a feature code. Or the caller is an outside party
/// for whom the PBX makes a call while the party talks.
pub(super) fn consultation(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let signature = &question.signature;
    let from_extension = question.correlator.plan.names_extension(signature.from);
    let is_talking = |leg: &Leg| {
        let other = leg.signature();
        leg.dialog.answered.is_some()
            && if from_extension {
                signature.is_second_call_of(&other)
            } else {
                signature.is_for_waiting_caller_of(&other)
            }
    };
    let evidence = |call: CallKey| Evidence::about_call(CorrelationRule::Consultation, call);
    let talking = question.candidates().filter(|(_, leg)| is_talking(leg));
    only_call(talking.map(|(_, leg)| evidence(leg.call()))).map(evidence).into_iter().collect()
}

/// Methods of a candidate leg that shares a host with the leg in question. They find out how the candidate may explain
/// that leg.
impl<'a> MetLeg<'a> {
    pub(super) fn new(question: &LegQuestion<'_>, key: LegKey, leg: &'a Leg) -> Self {
        Self {
            key,
            leg,
            onward: onward_rule(question, leg),
            waiting: waiting_rule(question, leg),
            is_own_call: question.signature.is_own_call_beside(&leg.signature()),
        }
    }
}

impl LegQuestion<'_> {
    /// Returns the candidate legs that explain the leg in question. The PBX received a candidate and sent it onward as
    /// the leg in question, or it called someone for the waiting caller of the candidate.
    fn explaining_legs(&self) -> impl Iterator<Item = &MetLeg<'_>> {
        let explains = |met: &&MetLeg<'_>| met.onward.is_some() || met.waiting.is_some();
        self.met_legs().iter().filter(explains)
    }
}

/// Returns the rule by which the leg in question continues an older leg. Returns `None` if a later leg that is not
/// explained yet may be the real cause.
fn onward_rule(question: &LegQuestion<'_>, leg: &Leg) -> Option<CorrelationRule> {
    let (own, other, correlator) = (&question.signature, &leg.signature(), question.correlator);
    let (as_effect, as_cause) = (correlator.onward_strength(own, other), correlator.onward_strength(other, own));
    let is_cause =
        as_cause > as_effect && correlator.is_unexplained(leg) && !correlator.has_leg_over(leg.call(), own.hop);
    let (effect, cause, strength) = if is_cause { (other, own, as_cause) } else { (own, other, as_effect) };
    match strength {
        MatchStrength::None => None,
        MatchStrength::BothNumbers => Some(CorrelationRule::OnwardBoth),
        MatchStrength::OneNumber if is_called_already(question, leg) => None,
        MatchStrength::OneNumber if effect.is_hairpin_of(cause) => Some(CorrelationRule::Hairpin),
        MatchStrength::OneNumber if effect.is_diverted_from(cause) => Some(CorrelationRule::Diverted),
        MatchStrength::OneNumber => Some(CorrelationRule::OnwardOne),
    }
}

/// Returns the rule by which the leg in question is for the caller of an older leg, who waits at the PBX and hears no
/// person.
///
/// The caller may hear ringback, music or nothing. Missing responses to the older leg are no evidence against the rule,
/// because they may be captured late.
fn waiting_rule(question: &LegQuestion<'_>, leg: &Leg) -> Option<CorrelationRule> {
    let (own, other) = (&question.signature, leg.signature());
    let is_for_other =
        || question.correlator.is_for_other_call_of_program(own, &other) || is_called_already(question, leg);
    let rule = if own.is_for_waiting_caller_of(&other) && !is_for_other() {
        CorrelationRule::ForWaitingCaller
    } else if own.is_next_trunk_for(&other) && all_attempts_failed(question, leg) {
        CorrelationRule::NextTrunk
    } else {
        return None;
    };
    hears_nobody(question, leg).then_some(rule)
}

/// Returns whether the PBX already called outside numbers for the extension of this leg, and all attempts failed.
fn all_attempts_failed(question: &LegQuestion<'_>, leg: &Leg) -> bool {
    let Correlator { table, plan, .. } = question.correlator;
    let mut others = table.legs_of(leg.call()).filter(|l| l.id != leg.id).peekable();
    plan.names_extension(leg.parties.from.as_deref())
        && !plan.names_extension(leg.parties.to.as_deref())
        && others.peek().is_some()
        && others.all(|l| !l.lived_at(question.at) && l.dialog.answered.is_none())
}

/// Returns whether the caller of a leg hears no person, because no other live leg of the call was answered.
fn hears_nobody(question: &LegQuestion<'_>, leg: &Leg) -> bool {
    let is_talking = |l: &Leg| l.id != leg.id && l.answered_by(question.at) && l.lived_at(question.at);
    !question.correlator.table.legs_of(leg.call()).any(is_talking)
}

impl Correlator<'_> {
    /// Returns whether another caller waits at the PBX for an outgoing call: the caller's leg is unanswered and the
    /// only leg of its call. Scans all legs, but only when a click-to-call without a caller's name is suspected.
    fn somebody_calls_out(&self, signature: &LegSignature<'_>) -> bool {
        let is_lone = |c: CallKey| self.table.is_lone(c);
        self.table.legs().any(|(_, l)| {
            l.dialog.ended().is_none()
                && l.dialog.answered.is_none()
                && l.machines().1.same_host(signature.hop.0)
                && is_lone(l.call())
        })
    }
}
