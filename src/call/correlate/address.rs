//! The rule `media_address`: two legs that announce the same media address belong to one call.
//!
//! The rule does not apply if a later call uses the address again.

use crate::call::correlate::evidence::Evidence;
use crate::call::correlate::open_leg::OpenLeg;
use crate::call::correlation_keys::LegSignature;
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
