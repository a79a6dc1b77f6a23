//! Repeated call attempts: an INVITE is refused, and its sender tries again at once, with the same or a new Call-ID.
//!
//! A telephone that is refused for its codecs or credentials tries again without asking its user. A PBX does the same
//! if a provider is out of order. A person needs longer to dial again, so a later INVITE is another call.

use std::time::Duration;

use crate::call::correlate::evidence::{Evidence, only_call};
use crate::call::correlate::question::LegQuestion;
use crate::call::correlation_keys::{LegSignature, has_digits, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::CallKey;
use crate::call::leg::Leg;

/// Returns the evidence of the rule `tried_again`: the new leg repeats a refused leg, and only one call has such a leg.
pub(super) fn tried_again(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let signature = &question.signature;
    let is_just_refused = |leg: &Leg| {
        let refused = leg.dialog.refusal();
        refused.is_some_and(|(at, status)| {
            signature.at >= at
                && signature.at.since(at) <= RETRY_TIME
                && may_be_automatic(status, leg.hop().1.same_host(question.dialog.callee_addr))
        })
    };
    let legs = question.known.iter().map(|(_, leg)| *leg).filter(|leg| is_just_refused(leg));
    let legs = legs.filter(|leg| is_same_attempt(leg, signature) && has_digits(signature.from));
    let evidence = |call: CallKey| Evidence::about_call(CorrelationRule::TriedAgain, call);
    only_call(legs.map(|leg| evidence(leg.call()))).map(evidence).into_iter().collect()
}

/// Returns whether a new leg repeats a refused leg. Both have the same Call-ID, and different From tags.
pub(super) fn repeats_refused(leg: &Leg, new: &LegSignature<'_>) -> bool {
    leg.dialog.refusal().is_some_and(|(at, _)| new.at >= at) && is_same_attempt(leg, new)
}

/// Returns whether a new leg comes from the caller of a refused leg and calls the same number. After the status 484
/// (address incomplete), the number may have more digits (RFC 3578).
fn is_same_attempt(refused: &Leg, new: &LegSignature<'_>) -> bool {
    let old = refused.signature();
    let is_incomplete = matches!(refused.dialog.refusal(), Some((_, 484)));
    let continues = || new.to.zip(old.to).is_some_and(|(new, old)| new.starts_with(old));
    old.hop.0.same_host(new.hop.0)
        && same_number(old.from, new.from)
        && (same_number(old.to, new.to) || is_incomplete && continues())
}

/// Returns whether a telephone or PBX repeats an INVITE on its own after this final status.
const fn may_be_automatic(status: u16, to_same_host: bool) -> bool {
    match status {
        // These statuses mean that a person decided, e.g. declined the call, so no machine tries again.
        486 | 487 | 600 | 603 | 607 => false,
        // A machine can try again by itself: the call was redirected, or was refused for a reason that another INVITE
        // can remove.
        300..=399 | 401 | 407 | 413 | 415 | 420 | 421 | 422 | 423 | 484 | 488 | 491 | 494 | 500..=599 => true,
        // After any other status a machine tries again only at another host, because another provider may know the
        // number.
        _ => !to_same_host,
    }
}

/// Maximum time in which a machine repeats a refused INVITE. A person needs longer to dial again.
const RETRY_TIME: Duration = Duration::from_secs(1);
