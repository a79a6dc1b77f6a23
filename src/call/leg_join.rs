//! How a leg joined its call: the rule that joined it, and whether other evidence confirms the join.

use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::CallKey;

/// How a leg joined its call: by which rule, and whether another rule confirms this.
#[derive(Debug, Default)]
pub(crate) struct LegJoin {
    by: Option<CorrelationRule>,
    confirmed_by: Option<CorrelationRule>,
    alternatives: Vec<CallKey>,
    is_reviewed: bool,
}

impl LegJoin {
    /// Returns the rule by which the leg joined its call; `None` for the first leg of a call.
    pub(crate) const fn by(&self) -> Option<CorrelationRule> {
        self.by
    }

    /// Sets the rule by which the leg joined its call.
    pub(crate) const fn set(&mut self, by: Option<CorrelationRule>) {
        self.by = by;
    }

    /// Returns whether a rule about hosts, numbers and times joined the leg to its call. The sound of the leg may show
    /// that the leg belongs to another call.
    pub(crate) fn rests_on_numbers(&self) -> bool {
        self.by.is_some_and(CorrelationRule::rests_on_numbers)
    }

    /// Returns whether the join is provisional: the legs share no host, and no other rule has confirmed the join.
    pub(crate) fn is_provisional(&self) -> bool {
        self.by == Some(CorrelationRule::AgreeingNumbers) && self.confirmed_by.is_none()
    }

    /// Returns the rule that has confirmed that the leg belongs to its call; `None` if no rule has.
    pub(crate) const fn confirmed_by(&self) -> Option<CorrelationRule> {
        self.confirmed_by
    }

    /// Restores from the spool of an earlier process how the leg joined its call.
    pub(crate) const fn restore(&mut self, by: Option<CorrelationRule>, confirmed_by: Option<CorrelationRule>) {
        (self.by, self.confirmed_by) = (by, confirmed_by);
    }

    /// Returns whether a rule has confirmed that the leg belongs to its call.
    pub(crate) const fn is_confirmed(&self) -> bool {
        self.confirmed_by.is_some()
    }

    /// Returns whether equal bytes of voice have joined the leg to its call, or have confirmed that it belongs to it.
    pub(crate) fn is_proven_by_content(&self) -> bool {
        [self.by, self.confirmed_by].contains(&Some(CorrelationRule::MediaContent))
    }

    /// Records that this rule confirms that the leg belongs to its call.
    pub(crate) const fn confirm(&mut self, by: CorrelationRule) {
        self.confirmed_by = Some(by);
    }

    /// Returns the keys of the other calls to which the leg could belong.
    pub(crate) fn alternatives(&self) -> &[CallKey] {
        &self.alternatives
    }

    /// Returns whether the leg is ambiguous, i.e. could belong to another call.
    pub(crate) const fn is_ambiguous(&self) -> bool {
        !self.alternatives.is_empty()
    }

    /// Sets the other calls to which the leg could belong.
    pub(crate) fn set_alternatives(&mut self, alternatives: Vec<CallKey>) {
        self.alternatives = alternatives;
    }

    /// Adds another call to which the leg could belong.
    pub(crate) fn add_alternative(&mut self, call: CallKey) {
        if !self.alternatives.contains(&call) {
            self.alternatives.push(call);
        }
    }

    /// Replaces a call to which the leg could belong, because that call was merged into another call. Returns whether
    /// the leg could belong to the merged call.
    pub(crate) fn replace_alternative(&mut self, from: CallKey, into: CallKey) -> bool {
        let known = self.alternatives.len();
        self.alternatives.retain(|call| *call != from);
        let is_changed = self.alternatives.len() < known;
        if is_changed && !self.alternatives.contains(&into) {
            self.alternatives.push(into);
        }
        is_changed
    }

    /// Records that the leg certainly belongs to its call. Before, it could belong to several calls.
    pub(crate) fn resolve(&mut self) {
        self.alternatives.clear();
    }

    /// Returns whether a review of the leg is scheduled or done. In a review, the rules are asked again some time after
    /// its answer or end.
    pub(crate) const fn is_reviewed(&self) -> bool {
        self.is_reviewed
    }

    /// Sets whether a review of the leg is scheduled or done. In a review, the rules are asked again some time after
    /// its answer or end.
    pub(crate) const fn set_reviewed(&mut self, is_reviewed: bool) {
        self.is_reviewed = is_reviewed;
    }
}
