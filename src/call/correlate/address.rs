//! The rules `media_address` and `both_media`: two legs that announce the same media addresses belong to one call.
//!
//! The rules do not apply if a later call uses the addresses again.

use crate::call::correlate::evidence::{Evidence, only_call};
use crate::call::correlate::open_leg::OpenLeg;
use crate::call::correlate::{Command, Correlator};
use crate::call::correlation_keys::{CLOCK_SKEW, LegSignature, PAIR_WINDOW};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::leg::Leg;
use crate::call::media_index::AddressTrust;
use crate::call::record::Side;
use crate::net::Endpoint;

/// Conclusion from the media addresses that two legs announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SharedMedia {
    /// The addresses prove nothing: they differ, or the shared address identifies no party, or a later call uses it
    /// again.
    NoEvidence,
    /// An established leg now sends its media to the party of the other leg. E.g. the PBX connects two calls, so the
    /// calls are only related.
    Connected,
    /// The legs belong to one call, because they share media addresses.
    SameCall,
}

/// Returns the evidence of the rule `media_address`: a leg of another call announces the same media address. One host
/// must have received one of the two legs and sent the other.
pub(super) fn media_address(subject: &OpenLeg<'_>) -> Vec<Evidence> {
    let (leg, table) = (subject.leg, subject.correlator.table);
    if leg.is_closed() {
        return Vec::new();
    }
    let signature = leg.signature();
    let is_linked = |l: &&Leg| {
        let other = l.signature();
        l.call() != leg.call()
            && l.dialog.ended().is_none()
            && shared_media(leg, l) != SharedMedia::NoEvidence
            && (is_onward_leg(&signature, &other) || is_onward_leg(&other, &signature))
    };
    let receivers = leg.announced().iter().flat_map(|e| table.media().announced().at(*e));
    let linked = receivers.filter_map(|r| table.leg(r.slot)).find(is_linked);
    let evidence = |linked: &Leg| {
        let evidence = Evidence::about_call(CorrelationRule::MediaAddress, linked.call());
        if shared_media(leg, linked) == SharedMedia::Connected { evidence.relating() } else { evidence }
    };
    linked.map(evidence).into_iter().collect()
}

/// Returns the evidence of the rule `both_media`: a leg of another call announces the same media addresses of both
/// parties. Neither the sender nor the receiver is the same host.
///
/// A cluster that passes session descriptions on unchanged (e.g. CUCM) makes such legs, often with other numbers. A PBX
/// that connects two open legs makes them announce the same parties, too. So later than `PAIR_WINDOW` after the answers
/// the calls are only related.
pub(super) fn both_media(subject: &OpenLeg<'_>) -> Vec<Evidence> {
    let (leg, table) = (subject.leg, subject.correlator.table);
    if leg.is_closed() || leg.dialog.answered.is_none() {
        return Vec::new();
    }
    let receivers = leg.announced().iter().flat_map(|e| table.media().announced().at(*e));
    let others = receivers.filter_map(|r| Some((r.slot, table.leg(r.slot)?)));
    let found = others.filter(|(_, other)| other.call() != leg.call() && sends_past_machines(leg, other));
    let evidence = |(key, other): (_, &Leg)| {
        let evidence = Evidence::about_leg(CorrelationRule::BothMedia, other.call(), key);
        let answers = [leg, other].into_iter().filter_map(|leg| leg.dialog.answered);
        let is_late = answers.map(|(at, _)| at).max().is_none_or(|at| subject.correlator.now.since(at) > PAIR_WINDOW);
        if is_late { evidence.relating() } else { evidence }
    };
    let evidence: Vec<Evidence> = found.map(evidence).collect();
    if only_call(evidence.iter().copied()).is_some() { evidence } else { Vec::new() }
}

/// Returns whether two legs announce the same two parties, and both were answered within `PAIR_WINDOW`. The older leg
/// waited for its answer when the newer one began. Otherwise a later call may use the addresses again.
fn sends_past_machines(leg: &Leg, other: &Leg) -> bool {
    let (older, newer) = if leg.created_at <= other.created_at { (leg, other) } else { (other, leg) };
    let ((sender, receiver), (from, to)) = (leg.hop(), other.hop());
    let answers = leg.dialog.answered.zip(other.dialog.answered);
    !sender.same_host(from)
        && !receiver.same_host(to)
        && other.dialog.ended().is_none()
        && !older.answered_by(newer.created_at)
        && answers.is_some_and(|((a, _), (b, _))| a.distance(b) <= PAIR_WINDOW)
        && [Side::Caller, Side::Callee].iter().all(|side| announce_one_party(leg, other, *side))
}

/// Returns whether two legs announce a common address, which identifies the party on this side.
fn announce_one_party(leg: &Leg, other: &Leg, side: Side) -> bool {
    let [own, others] = [leg, other].map(|leg| leg.dialog.negotiation.announced(side));
    let (Some(own), Some(others)) = (own, others) else { return false };
    let identifies = |leg: &Leg, address: Endpoint| {
        !address.ip().is_unspecified() && leg.address_trust(address, side) != AddressTrust::Unconfirmed
    };
    let is_common = |address: &Endpoint| others.receivers.contains(address);
    own.receivers.iter().filter(|address| is_common(address)).any(|a| identifies(leg, *a) && identifies(other, *a))
}

impl Correlator<'_> {
    /// Returns the commands that join the calls of two legs, because their parties send their sound past the machines.
    /// The machine that received the one leg sent the other, from another address.
    pub(super) fn join_past_machines(&self, subject: &OpenLeg<'_>, found: Evidence) -> Vec<Command> {
        let join = self.join_calls(found.call, subject.leg.call(), found.rule);
        let other = found.leg.and_then(|key| Some(OpenLeg { key, leg: self.table.leg(key)?, ..*subject }));
        let alias = other.filter(|_| matches!(join, Command::Merge { .. })).and_then(|other| {
            let subject_is_cause = is_cause(subject.leg, other.leg)?;
            let (cause, effect) = if subject_is_cause { (subject, &other) } else { (&other, subject) };
            let is_own_address = effect.leg.machines().0.same_host(effect.leg.hop().0);
            let machine = cause.leg.machines().1;
            is_own_address.then_some(Command::SetSendingMachine { leg: effect.key, machine })
        });
        [join].into_iter().chain(alias).collect()
    }
}

/// Returns whether a machine received `leg` and then sent `other`, and not the reverse; `None` if this is not known.
///
/// The mirror may show two legs that began within `CLOCK_SKEW` in the wrong order. Then the leg whose caller receives its
/// media at the host of its own signalling is the cause.
fn is_cause(leg: &Leg, other: &Leg) -> Option<bool> {
    if leg.created_at.distance(other.created_at) > CLOCK_SKEW {
        return Some(leg.created_at < other.created_at);
    }
    let is_from_caller = |leg: &Leg| {
        let announced = leg.dialog.negotiation.announced(Side::Caller);
        announced.is_some_and(|sdp| sdp.receivers.iter().any(|e| leg.signaller(Side::Caller).same_host(*e)))
    };
    let is_first = is_from_caller(leg);
    (is_first != is_from_caller(other)).then_some(is_first)
}

/// Returns whether the host that received leg `b` sent leg `a` to a third host.
fn is_onward_leg(a: &LegSignature<'_>, b: &LegSignature<'_>) -> bool {
    a.hop.0.same_host(b.hop.1) && !a.hop.1.same_host(b.hop.0) && !a.hop.0.same_host(a.hop.1)
}

/// Compares the media addresses that two legs announce.
///
/// If the legs share the addresses of both sides, they belong to one call. If they share one address, they belong to
/// one call only if the older leg was still unanswered when the newer leg began. An answered older leg may be over
/// without a captured BYE, and then the PBX uses its port for another call.
fn shared_media(leg: &Leg, other: &Leg) -> SharedMedia {
    let (older, newer) = if leg.created_at <= other.created_at { (leg, other) } else { (other, leg) };
    let trusted = |leg: &Leg| {
        let mut claims = leg.dialog.negotiation.claims();
        claims.retain(|(endpoint, side)| leg.address_trust(*endpoint, *side) != AddressTrust::Unconfirmed);
        claims
    };
    let theirs = trusted(other);
    let is_shared = |endpoint: Endpoint| theirs.iter().any(|(known, _)| *known == endpoint);
    let shared: Vec<(Endpoint, Side)> = trusted(leg).into_iter().filter(|(e, _)| is_shared(*e)).collect();
    let sides = [Side::Caller, Side::Callee].iter().filter(|side| shared.iter().any(|(_, s)| s == *side)).count();
    let is_own = |leg: &Leg, endpoint: Endpoint, side: Side| leg.signaller(side).same_host(endpoint);
    let is_passed_on = |(endpoint, side): &(Endpoint, Side)| {
        !is_own(leg, *endpoint, *side) && theirs.iter().any(|(e, s)| e == endpoint && is_own(other, *e, *s))
    };
    match sides {
        0 => SharedMedia::NoEvidence,
        1 if !older.answered_by(newer.created_at) => SharedMedia::SameCall,
        1 if leg.dialog.answered.is_some() && shared.iter().any(is_passed_on) => SharedMedia::Connected,
        1 => SharedMedia::NoEvidence,
        _ => SharedMedia::SameCall,
    }
}
