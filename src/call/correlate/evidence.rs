//! Evidence: the finding of a rule about one call to which a leg may belong. This module also chooses between the calls
//! for which there is evidence.

use crate::call::correlation_rule::{CorrelationRule, EvidenceStrength};
use crate::call::keys::{CallKey, LegKey};

/// The finding of a rule: the leg belongs to this call, or is related to it, or does not belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Call to which the leg may belong.
    pub(super) call: CallKey,
    /// Leg of this call on which the evidence is based; `None` if it is based on the whole call.
    pub(super) leg: Option<LegKey>,
    /// Rule that found the evidence.
    pub(super) rule: CorrelationRule,
    /// Weight of the evidence, from contradiction to proof.
    pub(super) strength: EvidenceStrength,
}

impl Evidence {
    /// Creates evidence about a whole call, with the strength of the rule.
    pub(super) const fn about_call(rule: CorrelationRule, call: CallKey) -> Self {
        Self { call, leg: None, rule, strength: rule.strength() }
    }

    /// Creates evidence based on one leg of a call, with the strength of the rule.
    pub(super) const fn about_leg(rule: CorrelationRule, call: CallKey, leg: LegKey) -> Self {
        Self { call, leg: Some(leg), rule, strength: rule.strength() }
    }

    /// Returns this evidence with less strength: it only relates the new leg's call to the call of the evidence, and
    /// does not join the two.
    pub(super) const fn relating(self) -> Self {
        Self { strength: EvidenceStrength::Relation, ..self }
    }

    /// Returns whether this evidence is a contradiction that excludes the evidence `other`. If it is about a whole
    /// call, it excludes all evidence for this call. If it is about a leg, it excludes only the evidence from this leg.
    fn rules_out(&self, other: &Self) -> bool {
        self.strength == EvidenceStrength::Contradiction
            && self.call == other.call
            && (self.leg.is_none() || self.leg == other.leg)
    }
}

/// Result of the choice between calls for which there is evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallChoice {
    /// No rule has evidence, so the leg begins a new call.
    Nothing,
    /// The leg belongs to this call.
    Join(Evidence),
    /// The leg could belong to several calls. It joins the most probable call, and the list contains the other calls.
    Prefer(Evidence, Vec<CallKey>),
    /// The leg could belong to several calls, and the evidence favours none.
    Ambiguous(Vec<Evidence>),
    /// The leg begins a new call. This call is related to the calls for which there is evidence.
    Relate(Vec<Evidence>),
}

impl CallChoice {
    /// Chooses a call for a leg:
    ///
    /// 1. Evidence that a contradiction excludes is not used.
    /// 2. The first proof decides.
    /// 3. Otherwise strong evidence decides, if only one call has strong evidence.
    /// 4. Otherwise weak evidence decides, if only one call has weak evidence.
    /// 5. Otherwise the leg begins a new call.
    pub(super) fn between(mut evidence: Vec<Evidence>) -> Self {
        let contradictions: Vec<Evidence> =
            evidence.iter().filter(|e| e.strength == EvidenceStrength::Contradiction).copied().collect();
        evidence.retain(|e| {
            e.strength != EvidenceStrength::Contradiction && !contradictions.iter().any(|against| against.rules_out(e))
        });
        let with = |strength| evidence.iter().filter(move |e| e.strength == strength).copied();
        if let Some(proof) = with(EvidenceStrength::Proof).next() {
            return Self::Join(proof);
        }
        for strength in [EvidenceStrength::Strong, EvidenceStrength::Weak] {
            match one_for_each_call(with(strength)).as_slice() {
                [] => {}
                [only] => return Self::Join(*only),
                several => return Self::Ambiguous(several.to_vec()),
            }
        }
        match evidence.as_slice() {
            [] => Self::Nothing,
            _ => Self::Relate(evidence),
        }
    }

    /// Returns this choice. If there was no evidence, returns the choice of `other` instead.
    pub(super) fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        if self == Self::Nothing { other() } else { self }
    }

    /// Chooses the call that `preferred` returns, if the leg could belong to several calls. The other calls are stored
    /// as alternatives.
    pub(super) fn prefer(self, preferred: impl FnOnce(&[Evidence]) -> Option<Evidence>) -> Self {
        let Self::Ambiguous(evidence) = &self else { return self };
        let Some(chosen) = preferred(evidence) else { return self };
        let others = evidence.iter().map(|e| e.call).filter(|call| *call != chosen.call);
        Self::Prefer(chosen, others.collect())
    }
}

/// Returns the call that all evidence is about. Returns `None` if the evidence is about several calls, or if there is
/// none.
pub(super) fn only_call(evidence: impl Iterator<Item = Evidence>) -> Option<CallKey> {
    match one_for_each_call(evidence).as_slice() {
        [only] => Some(only.call),
        _ => None,
    }
}

/// Returns the first piece of evidence for each call.
fn one_for_each_call(evidence: impl Iterator<Item = Evidence>) -> Vec<Evidence> {
    let mut evidence: Vec<Evidence> = evidence.collect();
    evidence.sort_by_key(|e| e.call);
    evidence.dedup_by_key(|e| e.call);
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::KeyData;

    fn call(n: u64) -> CallKey {
        KeyData::from_ffi(1 << 32 | n).into()
    }

    fn of(rule: CorrelationRule, n: u64) -> Evidence {
        Evidence::about_call(rule, call(n))
    }

    #[test]
    fn proof_joins_whatever_else_fits() {
        let first = of(CorrelationRule::CorrelationHeader, 2);
        let evidence = vec![of(CorrelationRule::OnwardBoth, 1), first, of(CorrelationRule::SessionId, 3)];
        assert_eq!(CallChoice::between(evidence), CallChoice::Join(first));
    }

    #[test]
    fn strong_evidence_for_one_call_beats_weak_evidence_for_others() {
        let strong = of(CorrelationRule::OnwardBoth, 2);
        let evidence = vec![of(CorrelationRule::OnwardOne, 1), strong];
        assert_eq!(CallChoice::between(evidence), CallChoice::Join(strong));
    }

    #[test]
    fn two_calls_with_equal_evidence_are_not_guessed_between() {
        for rule in [CorrelationRule::OnwardBoth, CorrelationRule::OnwardOne] {
            let both = vec![of(rule, 1), of(rule, 2)];
            assert_eq!(CallChoice::between(both.clone()), CallChoice::Ambiguous(both));
        }
    }

    #[test]
    fn contradiction_rules_out_its_call_or_only_the_evidence_of_its_leg() {
        let leg = |n: u64| LegKey::from(KeyData::from_ffi(1 << 32 | n));
        let one = Evidence::about_leg(CorrelationRule::OnwardBoth, call(1), leg(1));
        let other = Evidence::about_leg(CorrelationRule::OnwardBoth, call(1), leg(2));
        let against_leg = Evidence::about_leg(CorrelationRule::OwnCall, call(1), leg(1));
        let against_call = of(CorrelationRule::AlreadyRinging, 1);
        assert_eq!(CallChoice::between(vec![one, other, against_leg]), CallChoice::Join(other));
        assert_eq!(CallChoice::between(vec![one, other, against_call]), CallChoice::Nothing);
    }

    #[test]
    fn relation_joins_no_call() {
        let related = vec![of(CorrelationRule::Consultation, 1), of(CorrelationRule::Refer, 2).relating()];
        assert_eq!(CallChoice::between(related.clone()), CallChoice::Relate(related));
    }
}
