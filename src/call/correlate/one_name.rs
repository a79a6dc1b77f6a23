//! Calls in one name: a PBX makes many calls in the name of the office, so that one number that agrees proves little.
//!
//! A campaign, a dialler and a trunk call several outside numbers in one name at once. The number that is called tells
//! these calls apart.

use crate::call::correlate::question::LegQuestion;
use crate::call::correlate::{Command, Correlator};
use crate::call::correlation_keys::{CLOCK_SKEW, LegSignature, MatchStrength, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::LegKey;
use crate::call::leg::{Leg, LegDraft};

/// Returns whether the PBX already calls the number of an older leg in the name of its caller, while the leg in
/// question calls another outside number.
pub(super) fn is_called_already(question: &LegQuestion<'_>, older: &Leg) -> bool {
    let Correlator { table, .. } = question.correlator;
    let (own, other) = (&question.signature, older.signature());
    let mut legs = table.legs_of(older.call()).filter(|l| l.id != older.id && l.lived_at(question.at));
    question.correlator.calls_elsewhere(&other, own)
        && legs.any(|l| {
            let sent = l.signature();
            sent.hop.0.same_host(own.hop.0) && same_number(sent.to, other.to) && same_number(sent.from, other.from)
        })
}

impl Correlator<'_> {
    /// Returns how strongly the leg `effect` continues the leg `cause`. A program on the PBX's own host, e.g. a dialler,
    /// names the number that the PBX shall call, so its leg causes no call to another outside number.
    pub(super) fn onward_strength(&self, effect: &LegSignature<'_>, cause: &LegSignature<'_>) -> MatchStrength {
        match effect.onward_strength(cause) {
            MatchStrength::OneNumber if self.is_for_other_call_of_program(effect, cause) => MatchStrength::None,
            strength => strength,
        }
    }

    /// Returns whether a program on the PBX's own host sent the leg `cause`, and `effect` calls another outside number.
    pub(super) fn is_for_other_call_of_program(&self, effect: &LegSignature<'_>, cause: &LegSignature<'_>) -> bool {
        cause.hop.0.same_host(cause.hop.1) && self.calls_elsewhere(cause, effect)
    }

    /// Returns whether the leg `effect` calls an outside number other than that of the leg `cause`, which did not divert
    /// it there.
    fn calls_elsewhere(&self, cause: &LegSignature<'_>, effect: &LegSignature<'_>) -> bool {
        !same_number(effect.to, cause.to)
            && !effect.is_diverted_from(cause)
            && effect.to.is_some_and(|to| !self.plan.is_extension(to))
    }

    /// Releases legs from their calls because a new leg explains them better. Only one number ties each released leg to
    /// its call, but both of its numbers agree with the new leg, which caused it and was captured a moment later.
    pub(crate) fn release_for_cause(&self, draft: &LegDraft) -> Vec<Command> {
        let cause = draft.signature();
        let candidates = self.table.correlation().candidates(&draft.correlation_keys, &cause);
        let is_effect = |leg: &Leg| {
            leg.dialog.ended().is_none()
                && draft.at.since(leg.created_at) <= CLOCK_SKEW
                && leg.signature().onward_strength(&cause) == MatchStrength::BothNumbers
                && self.may_be_released(leg)
        };
        let mut found = candidates.into_iter().filter(|key| self.table.leg(*key).is_some_and(is_effect));
        let (Some(leg), None) = (found.next(), found.next()) else { return Vec::new() };
        vec![Command::Release { legs: self.caused_legs(leg) }]
    }

    /// Releases legs that one number tied to the cause of this leg, although they call another number. Both numbers of
    /// this leg agree with its cause. The released legs have another cause, which was not captured yet when they were
    /// joined.
    pub(crate) fn release_strangers(&self, slot: LegKey) -> Vec<Command> {
        let Some(leg) = self.table.leg(slot) else { return Vec::new() };
        let own = leg.signature();
        let is_both = |cause: &Leg| own.onward_strength(&cause.signature()) == MatchStrength::BothNumbers;
        let others = || self.table.legs_of(leg.call()).filter(|other| other.id != leg.id);
        let Some(cause) = others().find(|other| is_both(other)) else { return Vec::new() };
        let is_stranger = |other: &Leg| {
            other.id != leg.id
                && other.id != cause.id
                && other.machines().0.same_host(own.hop.0)
                && leg.created_at.distance(other.created_at) <= CLOCK_SKEW
                && self.calls_elsewhere(&cause.signature(), &other.signature())
                && self.may_be_released(other)
        };
        let keys = self.table.keys_of(leg.call()).iter().copied();
        let strangers = keys.filter(|key| self.table.leg(*key).is_some_and(is_stranger));
        strangers.map(|key| Command::Release { legs: self.caused_legs(key) }).collect()
    }

    /// Returns whether only one number ties a leg to other legs of its call, and the call may still lose legs.
    fn may_be_released(&self, leg: &Leg) -> bool {
        !self.table.is_lone(leg.call())
            && self.may_still_be_joined(leg.call(), CorrelationRule::OnwardOne)
            && self.is_tied_by_one_number(leg)
    }
}
