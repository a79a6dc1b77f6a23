//! Second callers: callers who come from the party that the PBX is just calling for somebody else.
//!
//! A PBX forwards a call over its trunk, and shows the number of the caller. While the mobile telephone rings, the same
//! provider brings a call to another number of the office. Its caller may withhold the number as the first caller does,
//! or may show the same number, e.g. that of a company. The provider has received one leg and sent the other, as a PBX
//! does. But it does not pass the first call on.

use std::iter;

use crate::call::correlate::question::LegQuestion;
use crate::call::correlation_keys::{LegSignature, MatchStrength, same_number};
use crate::call::leg::Leg;

/// Returns whether the new leg is a call of its own from the party that the older leg calls. The new leg goes back to the
/// sender of the older leg, and calls another outside number.
///
/// The sender of the older leg is the PBX: it has sent a call on to another number, or the call of an extension. Or it is
/// known to ring telephones, and the other party is a provider. A diversion header shows that it is the same call after
/// all.
pub(super) fn is_second_caller(question: &LegQuestion<'_>, older: &Leg) -> bool {
    let (own, other) = (&question.signature, older.signature());
    let plan = question.correlator.plan;
    let [sender, receiver] = [own.hop.0, own.hop.1];
    let is_outside = |leg: &LegSignature<'_>| leg.to.is_some_and(|to| !plan.is_extension(to));
    let is_diverted = [other.to, other.diverted].iter().any(|number| same_number(own.diverted, *number));
    let is_from_provider = || plan.is_visible_pbx(receiver) && plan.is_outside_host(sender);
    sender.same_host(other.hop.1)
        && own.returns_to_sender(&other)
        && is_outside(own)
        && is_outside(&other)
        && !own.from_extension
        && !same_number(own.to, other.to)
        && !is_diverted
        && !may_have_caused(question, older)
        && (has_passed_on(question, older) || is_from_provider())
}

/// Returns whether the new leg may be the cause of the older leg, captured late.
fn may_have_caused(question: &LegQuestion<'_>, older: &Leg) -> bool {
    let strength = older.signature().onward_strength(&question.signature);
    strength > MatchStrength::None && question.correlator.is_unexplained(older)
}

/// Returns whether the sender of a leg decided where the call of this leg goes. An earlier leg of the call comes from an
/// extension or calls another number. If the leg could belong to several calls, one such leg of any of them is enough.
fn has_passed_on(question: &LegQuestion<'_>, leg: &Leg) -> bool {
    let (correlator, own) = (question.correlator, leg.signature());
    let is_before = |other: &Leg| (other.created_at, other.id) < (leg.created_at, leg.id);
    let is_cause = |other: &Leg| {
        let cause = other.signature();
        is_before(other) && (cause.from_extension || !same_number(cause.to, own.to))
    };
    let mut calls = iter::once(leg.call()).chain(correlator.live_alternatives(leg));
    calls.any(|call| correlator.table.legs_of(call).any(is_cause))
}
