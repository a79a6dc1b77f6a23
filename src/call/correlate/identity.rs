//! Rules that compare identifiers in the signalling, e.g. the Call-ID. Equal identifiers show that two legs belong to
//! one call.

use crate::call::correlate::evidence::{Evidence, only_call};
use crate::call::correlate::question::LegQuestion;
use crate::call::correlate::retry::repeats_refused;
use crate::call::correlation_keys::{LegSignature, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::net::Endpoint;

/// Returns the evidence of the rule `same_dialog`: the new leg belongs to a known dialog, e.g. it was captured behind a
/// proxy. The dialog is live or has just ended.
///
/// The evidence about the newest leg comes first, in case a later call used the same identifiers again.
pub(super) fn same_dialog(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let hops = hops(question).filter(|(_, leg)| !leg.was_over_at(question.signature.at));
    hops.map(|(key, leg)| Evidence::about_leg(CorrelationRule::SameDialog, leg.call(), key)).collect()
}

/// Returns the evidence of the rule `tag_reuse`, a contradiction. The INVITE has the Call-ID and From tag of a dialog
/// that was answered, and is between the same hosts. So it begins another call, even if it comes at once.
pub(super) fn tag_reuse(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let used_again = hops(question).filter(|(_, leg)| is_used_again(question, leg));
    used_again.map(|(_, leg)| Evidence::about_call(CorrelationRule::TagReuse, leg.call())).collect()
}

/// Returns whether the new leg begins another call with the Call-ID and From tag of `leg`.
fn is_used_again(question: &LegQuestion<'_>, leg: &Leg) -> bool {
    leg.dialog.is_past_invite()
        && leg.dialog.caller_tag() == question.dialog.caller_tag()
        && leg.is_hop(question.dialog.caller_addr, question.dialog.callee_addr)
}

/// Returns the evidence of the rule `correlation_header`: a header that the configuration names has the same value in
/// both legs.
pub(super) fn correlation_header(question: &LegQuestion<'_>) -> Vec<Evidence> {
    agreeing_headers(question, CorrelationRule::CorrelationHeader)
}

/// Returns the evidence of the rule `session_id`: the Session-ID headers of both legs have a UUID in common (RFC 7989).
pub(super) fn session_id(question: &LegQuestion<'_>) -> Vec<Evidence> {
    agreeing_headers(question, CorrelationRule::SessionId)
}

fn agreeing_headers(question: &LegQuestion<'_>, rule: CorrelationRule) -> Vec<Evidence> {
    let agrees = |leg: &Leg| leg.correlation_keys.agreement(question.keys) == Some(rule);
    let agreeing = question.candidates().filter(|(_, leg)| agrees(leg));
    agreeing.map(|(key, leg)| Evidence::about_leg(rule, leg.call(), key)).collect()
}

/// Returns the evidence of the rule `recording_session`: the only call with the sound of this recording session
/// (SIPREC).
///
/// The call must be live and go through the host that sends the session. If the session's metadata names parties, one
/// of them must take part in the call. This rule searches all legs, which is done for recording sessions only.
pub(super) fn recording_session(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let Some(parties) = question.keys.recorded_parties.as_ref() else { return Vec::new() };
    let is_named = |number: Option<&str>| parties.iter().any(|party| same_number(Some(party), number));
    let is_recorded = |leg: &&Leg| {
        // The machine that sends the session may have other addresses on other legs of the call. So each address counts
        // at which it sent or received a leg.
        let ends = [leg.machines(), leg.hop()].into_iter().flat_map(|(sender, receiver)| [sender, receiver]);
        let is_at_host = ends.into_iter().any(|end| end.same_host(question.signature.hop.0));
        let (from, to) = (leg.parties.from.as_deref(), leg.parties.to.as_deref());
        is_at_host
            && leg.dialog.ended().is_none()
            && !leg.is_recording_session()
            && (parties.is_empty() || is_named(from) || is_named(to))
    };
    let recorded = question.correlator.table.legs().map(|(_, leg)| leg).filter(is_recorded);
    let evidence = |call: CallKey| Evidence::about_call(CorrelationRule::RecordingSession, call);
    only_call(recorded.map(|leg| evidence(leg.call()))).map(evidence).into_iter().collect()
}

/// Returns the evidence of the rule `same_call_id`: the oldest leg with the same Call-ID and another From tag. That leg
/// is live, or was refused and its caller tries again.
///
/// Simple telephones use a counter and a private address as Call-ID (`17@192.168.1.2`), so two strangers can have the
/// same Call-ID. With such a short Call-ID, the two legs must also share a number. Or a machine must have passed the
/// call on between them. If legs of several calls fit equally well, there is no evidence.
pub(super) fn same_call_id(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let at = question.signature.at;
    let legs = legs_that_share_call_id(question);
    let live = legs.iter().find(|(_, leg)| leg.lived_at(at));
    let refused = || legs.iter().find(|(_, leg)| repeats_refused(leg, &question.signature));
    live.or_else(refused)
        .map(|(key, leg)| Evidence::about_leg(CorrelationRule::SameCallId, leg.call(), *key))
        .into_iter()
        .collect()
}

/// Returns the legs with the same Call-ID, except legs that may have it by chance, and legs of an earlier call.
fn legs_that_share_call_id<'a>(question: &LegQuestion<'a>) -> Vec<(LegKey, &'a Leg)> {
    let legs: Vec<_> = legs_with_call_id(question).filter(|(_, leg)| !is_used_again(question, leg)).collect();
    if is_random(question.dialog.call_id()) {
        return legs;
    }
    let signature = &question.signature;
    // Legs that share both numbers are preferred. Two telephones can use the same short Call-ID and show the same
    // caller's number, that of the office.
    let kinds: [&dyn Fn(&Leg) -> bool; 3] = [
        &|leg| shares_caller(leg, signature) && shares_called(leg, signature),
        &|leg| shares_caller(leg, signature) || shares_called(leg, signature),
        &|leg| is_passed_on(question, leg),
    ];
    let fitting = kinds.map(|fits| legs.iter().filter(|(_, leg)| fits(leg)).copied().collect::<Vec<_>>());
    // Two telephones with the same Call-ID may call through one proxy, which passes both calls on. If the legs of two
    // calls match the new leg equally well, the rule finds nothing.
    let found = fitting.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    let first = found.first().map(|(_, leg)| leg.call());
    if found.iter().all(|(_, leg)| Some(leg.call()) == first) { found } else { Vec::new() }
}

fn shares_caller(leg: &Leg, new: &LegSignature<'_>) -> bool {
    new.has_caller_of(&leg.signature())
}

fn shares_called(leg: &Leg, new: &LegSignature<'_>) -> bool {
    same_number(leg.signature().to, new.to)
}

/// Returns whether a machine passed a call on between `leg` and the new leg: it received one of the two legs and sent
/// the other. Either leg may have been captured first.
///
/// A proxy keeps the From tag. If the machine also sent or received a third leg with this From tag, it was a proxy
/// between `leg` and the third leg. Then the result is false.
fn is_passed_on(question: &LegQuestion<'_>, leg: &Leg) -> bool {
    let (old, new) = (leg.signature().hop, question.signature.hop);
    let has_hop = |is_beside: &dyn Fn((Endpoint, Endpoint)) -> bool| {
        let is_own = |other: &Leg| other.id != leg.id && other.dialog.caller_tag() == leg.dialog.caller_tag();
        legs_with_call_id(question).any(|(_, other)| is_own(other) && is_beside(other.signature().hop))
    };
    let leads_on = old.1.same_host(new.0) && !has_hop(&|hop| hop.0.same_host(old.1));
    leads_on || new.1.same_host(old.0) && !has_hop(&|hop| hop.1.same_host(old.0))
}

/// Returns whether a Call-ID is long enough to be unique (RFC 3261 section 8.1.1.4). A short Call-ID may be a counter.
pub(crate) fn is_random(call_id: &str) -> bool {
    call_id.split('@').next().is_some_and(|local| local.len() >= UNIQUE_LENGTH)
}

/// Returns the known legs of the new leg's dialog, newest first: the legs with the same Call-ID and From tag.
fn hops<'a>(question: &LegQuestion<'a>) -> impl Iterator<Item = (LegKey, &'a Leg)> {
    let tag = question.dialog.caller_tag();
    legs_with_call_id(question).rev().filter(move |(_, leg)| leg.dialog.caller_tag() == tag)
}

fn legs_with_call_id<'a>(question: &LegQuestion<'a>) -> impl DoubleEndedIterator<Item = (LegKey, &'a Leg)> {
    let table = question.correlator.table;
    table.with_call_id(question.dialog.call_id()).iter().filter_map(|key| Some((*key, table.leg(*key)?)))
}

/// Minimum number of characters before the `@` of a unique Call-ID. A shorter Call-ID may be a counter.
const UNIQUE_LENGTH: usize = 8;
