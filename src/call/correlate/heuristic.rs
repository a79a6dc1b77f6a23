//! Rules that compare numbers, hosts and times. They join a leg only if exactly one call matches.
//!
//! The *new leg* is the leg for which a call is sought. The *older leg* is a candidate: a leg of a call that the new
//! leg may join.

use crate::call::correlate::Correlator;
use crate::call::correlate::evidence::{Evidence, only_call};
use crate::call::correlate::one_name::{hides_another_caller, is_called_already};
use crate::call::correlate::question::{LegQuestion, MetLeg};
use crate::call::correlate::second_caller::is_second_caller;
use crate::call::correlation_keys::{CLOCK_SKEW, LegSignature, MatchStrength, PAIR_WINDOW, RING_BURST, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::time::Timestamp;

/// Returns the evidence of the rule `own_call`, a contradiction. The older leg is a separate call to the same address,
/// so it did not cause the new leg.
///
/// The rule excludes only this older leg and not its whole call, because other legs of the call may match.
pub(super) fn own_call(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let beside = question.met_legs().iter().filter(|met| met.is_own_call);
    beside.map(|met| Evidence::about_leg(CorrelationRule::OwnCall, met.leg.call(), met.key)).collect()
}

/// Returns contradictions of the rule `already_ringing`: calls that already ring the same telephone and number from the
/// same host. The new leg rings this telephone for another call.
///
/// The rule does not apply if the new leg rings another device of the same number.
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

pub(super) fn rings_already(question: &LegQuestion<'_>, call: CallKey) -> bool {
    let own = &question.signature;
    question.correlator.table.legs_of(call).any(|leg| {
        let other = leg.signature();
        leg.lived_at(question.at)
            && other.hop.0.same_host(own.hop.0)
            && other.hop.1 == own.hop.1
            && (same_number(other.to, own.to) || other.to.or(own.to).is_none())
    })
}

/// Returns the evidence of the rule `another_device`: the new leg rings a second device of a number that already rings.
/// It applies only if exactly one call matches.
pub(super) fn another_device(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let call = question.rung_device().into_iter();
    call.map(|call| Evidence::about_call(CorrelationRule::AnotherDevice, call)).collect()
}

/// Returns the only call that may explain why the PBX sent the new leg, if this call already rings another device of
/// the called number.
pub(super) fn call_of_another_device(question: &LegQuestion<'_>) -> Option<CallKey> {
    let evidence = |call: CallKey| Evidence::about_call(CorrelationRule::AnotherDevice, call);
    let is_device = |call: &CallKey| {
        let mut legs = question.correlator.table.legs_of(*call);
        legs.any(|l| l.lived_at(question.at) && question.signature.is_another_device_of(&l.signature()))
    };
    // Calls with the same caller's number are preferred. Any other call matches only because the PBX may have replaced
    // the caller's number.
    let is_caller = |met: &&MetLeg<'_>| question.signature.has_caller_of(&met.leg.signature());
    let named = question.explaining_legs().any(|met| is_caller(&met));
    let causes = question.explaining_legs().filter(|met| !named || is_caller(met));
    let call = only_call(causes.map(|met| evidence(met.leg.call())));
    call.filter(is_device)
}

/// Returns the evidence of the rule `onward_both`: the host that received the older leg sent the new leg shortly
/// afterwards, and both numbers agree.
pub(super) fn onward_both(question: &LegQuestion<'_>) -> Vec<Evidence> {
    onward_legs(question, CorrelationRule::OnwardBoth)
}

/// Returns the evidence of the rule `hairpin`. A proxy brought an extension's call to the PBX, and the PBX sends the
/// call back to the same proxy.
pub(super) fn hairpin(question: &LegQuestion<'_>) -> Vec<Evidence> {
    onward_legs(question, CorrelationRule::Hairpin)
}

/// Returns the evidence of the rule `diverted`. The Diversion or History-Info header of the new leg names the number
/// that the older leg called.
pub(super) fn diverted(question: &LegQuestion<'_>) -> Vec<Evidence> {
    onward_legs(question, CorrelationRule::Diverted)
}

/// Returns the evidence of the rule `onward_one`: the host that received the older leg sent the new leg shortly
/// afterwards, and one number agrees.
pub(super) fn onward_one(question: &LegQuestion<'_>) -> Vec<Evidence> {
    onward_legs(question, CorrelationRule::OnwardOne)
}

fn onward_legs(question: &LegQuestion<'_>, rule: CorrelationRule) -> Vec<Evidence> {
    let onward = question.met_legs().iter().filter(|met| met.onward == Some(rule));
    onward.map(|met| Evidence::about_leg(rule, met.leg.call(), met.key)).collect()
}

/// Returns the evidence of the rule `for_waiting_caller`: the caller of the older leg waits at the host that sent the
/// new leg. The wait may have any length.
pub(super) fn for_waiting_caller(question: &LegQuestion<'_>) -> Vec<Evidence> {
    waiting_legs(question, CorrelationRule::ForWaitingCaller)
}

/// Returns the evidence of the rule `next_trunk`: the PBX called the same number over other trunks before, without
/// success.
pub(super) fn next_trunk(question: &LegQuestion<'_>) -> Vec<Evidence> {
    waiting_legs(question, CorrelationRule::NextTrunk)
}

fn waiting_legs(question: &LegQuestion<'_>, rule: CorrelationRule) -> Vec<Evidence> {
    let waiting = question.met_legs().iter().filter(|met| met.waiting == Some(rule));
    waiting.map(|met| Evidence::about_leg(rule, met.leg.call(), met.key)).collect()
}

/// Returns the call that the rule `newest_unserved` prefers: the newest of several calls that match the new leg
/// equally.
///
/// Two conditions must hold:
///
/// - The newest call has just begun. The PBX rings no telephone for it yet, or is just ringing the first telephones of
///   a group.
/// - For all other calls the PBX already rings telephones. It rings a whole group at once, so a later leg is not for
///   them.
pub(super) fn newest_unserved(question: &LegQuestion<'_>, candidates: &[Evidence]) -> Option<CallKey> {
    let table = question.correlator.table;
    let legs_of = |call: CallKey| table.keys_of(call);
    let rung = |call: CallKey| {
        legs_of(call).iter().skip(1).filter_map(|key| table.leg(*key)).filter(|leg| leg.may_have_party())
    };
    // The PBX rings all telephones of a group within a short time. So a call also counts as unserved if the PBX has
    // just begun to ring telephones for it.
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

/// Returns the evidence of the rule `click_to_call`: the PBX first called an extension, and when it answered, called
/// the other number.
///
/// If the first leg names no caller, it may belong to any call. Then the new leg must call an outside number, and no
/// other caller may wait for an outgoing call. Such a first leg need not be a click-to-call: a queue, too, may ring an
/// extension and show a word instead of the caller's number.
pub(super) fn click_to_call(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let Correlator { table, plan, .. } = question.correlator;
    if is_brought_to_pbx(question) {
        return Vec::new();
    }
    let clicked = |(key, leg): (LegKey, &Leg)| Evidence::about_leg(CorrelationRule::ClickToCall, leg.call(), key);
    let to_extension = question.signature.to.is_none_or(|to| plan.is_extension(to));
    let is_named = |leg: &Leg| !to_extension || question.signature.names_parties_of(&leg.signature());
    let met = question.met_legs().iter().map(|met| (met.key, met.leg));
    let met = met.filter(|(_, leg)| is_named(leg) && is_click_to_call(question, leg));
    let named: Vec<Evidence> = met.map(clicked).collect();
    if !named.is_empty() || to_extension {
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

/// Returns whether a caller brought the new leg's call to the PBX, so that the PBX did not begin this call.
///
/// Either the dialog has a leg to the PBX. Or the Request-URI names an extension and `To` another number. E.g. the PBX
/// is a proxy for this call, and `To` still has the number that the caller dialled.
fn is_brought_to_pbx(question: &LegQuestion<'_>) -> bool {
    let LegQuestion { signature, dialog, parties, correlator: Correlator { table, plan, .. }, .. } = question;
    let is_before =
        |leg: &Leg| leg.dialog.caller_tag() == dialog.caller_tag() && leg.machines().1.same_host(signature.hop.0);
    let mut legs = table.with_call_id(signature.call_id).iter().filter_map(|key| table.leg(*key));
    let is_sent_on = plan.names_extension(parties.request_user()) && !plan.names_extension(signature.to);
    is_sent_on || legs.any(is_before)
}

/// Returns whether `leg` is the first leg of a click-to-call, answered just now, and the new leg is the second leg.
fn is_click_to_call(question: &LegQuestion<'_>, leg: &Leg) -> bool {
    let is_branch = |l: &Leg| l.id != leg.id && l.machines().0.same_host(leg.machines().0);
    // A PBX that begins a click-to-call sends one leg. If a proxy forks a caller's call, it sends several legs, so this
    // is no click-to-call.
    let is_forked = question.correlator.table.party_legs_of(leg.call()).any(is_branch);
    let is_alone = question.correlator.is_of_one_dialog(leg.call()) && !is_forked;
    let at = question.signature.at;
    let is_just_before = |answered: Timestamp| at.since(answered) <= PAIR_WINDOW && answered.since(at) <= CLOCK_SKEW;
    let just_answered = leg.dialog.answered.is_some_and(|(answered, _)| is_just_before(answered));
    is_alone && just_answered && question.signature.is_click_to_call_after(&leg.signature())
}

/// Returns the evidence of the rule `consultation`: the caller of the new leg already talks in exactly one other call.
///
/// E.g. an extension makes a second call while it talks. Or the PBX makes a call for an outside party while this party
/// talks.
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

/// Methods that find out by which rule an older leg explains the new leg. Both legs share a host.
impl<'a> MetLeg<'a> {
    pub(super) fn new(question: &LegQuestion<'_>, key: LegKey, leg: &'a Leg) -> Self {
        Self {
            key,
            leg,
            onward: onward_rule(question, leg),
            waiting: waiting_rule(question, key, leg),
            is_own_call: question.signature.is_own_call_beside(&leg.signature()),
        }
    }
}

impl LegQuestion<'_> {
    /// Returns the older legs that explain the new leg: the PBX received the older leg and sent the new leg because of
    /// it. It sent the new leg at once, or later while the older leg's caller waited.
    fn explaining_legs(&self) -> impl Iterator<Item = &MetLeg<'_>> {
        let explains = |met: &&MetLeg<'_>| met.onward.is_some() || met.waiting.is_some();
        self.met_legs().iter().filter(explains)
    }
}

/// Returns the rule by which the older leg caused the new leg: the PBX received the older leg and at once sent the new
/// leg. If the new leg was captured late, it may also be the cause: the PBX received the new leg and sent the older
/// leg.
fn onward_rule(question: &LegQuestion<'_>, leg: &Leg) -> Option<CorrelationRule> {
    let (own, other, correlator) = (&question.signature, &leg.signature(), question.correlator);
    let (as_effect, as_cause) = (correlator.onward_strength(own, other), correlator.onward_strength(other, own));
    let is_cause =
        as_cause > as_effect && correlator.is_unexplained(leg) && !correlator.has_leg_over(leg.call(), own.hop);
    let (effect, cause, strength) = if is_cause { (other, own, as_cause) } else { (own, other, as_effect) };
    match strength {
        MatchStrength::None => None,
        MatchStrength::BothNumbers => Some(CorrelationRule::OnwardBoth),
        MatchStrength::OneNumber if is_other_caller(question, leg) => None,
        MatchStrength::OneNumber if effect.is_hairpin_of(cause) => Some(CorrelationRule::Hairpin),
        MatchStrength::OneNumber if effect.is_diverted_from(cause) => Some(CorrelationRule::Diverted),
        MatchStrength::OneNumber => Some(CorrelationRule::OnwardOne),
    }
}

/// Returns whether the new leg is for another caller than that of the older leg, although one number agrees.
fn is_other_caller(question: &LegQuestion<'_>, older: &Leg) -> bool {
    is_called_already(question, older) || hides_another_caller(question, older) || is_second_caller(question, older)
}

/// Returns the rule that applies if the PBX sent the new leg to find a party for the caller of the older leg. This
/// caller is connected to the PBX and talks with nobody yet.
///
/// The caller may hear ringback, music or nothing. Responses to the older leg may be missing, because the mirror port
/// may show them late.
fn waiting_rule(question: &LegQuestion<'_>, key: LegKey, leg: &Leg) -> Option<CorrelationRule> {
    let (own, other) = (&question.signature, leg.signature());
    let is_for_other = || {
        question.correlator.is_for_other_call_of_program(own, &other)
            || is_called_already(question, leg)
            || is_second_caller(question, leg)
    };
    let rule = if own.is_for_waiting_caller_of(&other) && !is_for_other() {
        CorrelationRule::ForWaitingCaller
    } else if own.is_next_trunk_for(&other) && all_attempts_failed(question, leg) {
        CorrelationRule::NextTrunk
    } else {
        return None;
    };
    hears_nobody(question, key, leg).then_some(rule)
}

/// Returns whether the PBX called outside numbers for the extension that sent this leg, and no such call was answered.
/// Each such call is over, or its receiver has sent no response at all.
fn all_attempts_failed(question: &LegQuestion<'_>, leg: &Leg) -> bool {
    let Correlator { table, plan, .. } = question.correlator;
    let is_on_way = |l: &Leg| l.is_branch_of(leg) || question.correlator.has_caused(l, leg);
    let mut others = table.party_legs_of(leg.call()).filter(|l| !is_on_way(l)).peekable();
    plan.names_extension(leg.parties.from.as_deref())
        && !plan.names_extension(leg.parties.to.as_deref())
        && others.peek().is_some()
        && others.all(|l| l.dialog.answered.is_none() && (!l.lived_at(question.at) || l.is_unheeded_at(question.at)))
}

/// Returns whether the caller of a leg talks with nobody: no other live leg of the call was answered at this time.
///
/// Legs on the way from the caller to this leg do not count, e.g. from the trunk to a proxy before the PBX. Nor does
/// another hop of the same dialog. Legs without a party, e.g. to a recorder, do not count either. Nor does a telephone
/// that may have answered for another caller.
fn hears_nobody(question: &LegQuestion<'_>, key: LegKey, leg: &Leg) -> bool {
    let Correlator { table, .. } = question.correlator;
    let leads_to_leg = |other: LegKey| question.correlator.caused_legs(other).contains(&key);
    let is_talking = |other: &LegKey| {
        let is_certain = |l: &Leg| l.may_have_party() && !l.join.is_ambiguous();
        let is_answered = |l: &Leg| {
            !l.is_hop_of_dialog(leg) && is_certain(l) && l.answered_by(question.at) && l.lived_at(question.at)
        };
        table.leg(*other).is_some_and(is_answered) && !leads_to_leg(*other)
    };
    !table.keys_of(leg.call()).iter().any(is_talking)
}

impl Correlator<'_> {
    /// Returns whether another caller waits at the PBX for an outgoing call. The caller's leg is unanswered, and its
    /// call has no other dialog.
    ///
    /// The search examines all legs. So it is made only for a leg that looks like a click-to-call without a caller's
    /// name.
    fn somebody_calls_out(&self, signature: &LegSignature<'_>) -> bool {
        self.table.legs().any(|(_, l)| {
            l.dialog.ended().is_none()
                && l.dialog.answered.is_none()
                && l.machines().1.same_host(signature.hop.0)
                && self.is_of_one_dialog(l.call())
        })
    }
}
