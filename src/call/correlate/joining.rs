//! Decides whether two calls may still be merged, and which of them remains.

use crate::call::correlate::evidence::Evidence;
use crate::call::correlate::{Command, Correlator, MAX_LEGS};
use crate::call::correlation_rule::{CorrelationRule, EvidenceStrength};
use crate::call::keys::CallKey;

impl Correlator<'_> {
    /// Returns whether the rule `by` may still join this call to another call, or a leg to this call.
    ///
    /// Most rules may join a call only until it is announced to journal and delivery. Content may join it until Pyrus
    /// may know it. Rules about numbers must not join a call that has a known cause or that could belong to several
    /// calls. A call that an earlier process announced, and of which no spool is left, is never joined.
    pub(super) fn may_still_be_joined(&self, call: CallKey, by: CorrelationRule) -> bool {
        let Some(call) = self.table.call(call).filter(|call| call.origin.earlier_record().is_none()) else {
            return false;
        };
        match by {
            CorrelationRule::MediaContent => !call.recording.is_committed(),
            CorrelationRule::MediaAddress | CorrelationRule::Refer => !call.stage.is_settled(),
            _ => !call.stage.is_settled() && !call.closed_to_heuristics,
        }
    }

    /// Returns whether a call may disappear by a merge with another call. Only content may merge a call of several
    /// legs.
    pub(super) fn may_be_absorbed(&self, call: CallKey, by: CorrelationRule) -> bool {
        (by == CorrelationRule::MediaContent || self.table.is_lone(call)) && self.may_still_be_joined(call, by)
    }

    /// Returns whether a call has room for this number of further legs.
    pub(super) fn may_gain(&self, call: CallKey, legs: usize) -> bool {
        self.table.keys_of(call).len() + legs <= MAX_LEGS
    }

    /// Returns the command that merges two calls. The younger call disappears, or the older call if the younger must
    /// remain. If both must remain, the command only relates them.
    pub(super) fn join_calls(&self, a: CallKey, b: CallKey, by: CorrelationRule) -> Command {
        let created_at = |call: CallKey| self.table.call(call).map(|call| call.created_at);
        let (older, younger) = if created_at(b) < created_at(a) { (b, a) } else { (a, b) };
        let fits = self.may_gain(older, self.table.keys_of(younger).len());
        let absorbed = [(younger, older), (older, younger)].into_iter();
        match absorbed.filter(|_| fits).find(|(from, _)| self.may_be_absorbed(*from, by)) {
            Some((from, into)) => Command::Merge { from, into, by },
            None => Command::Relate { a, b, why: by },
        }
    }

    /// Returns the command that follows from evidence about a call other than `own`: it joins or relates the two calls.
    /// The evidence comes from a REFER, or from a header that was captured late.
    pub(super) fn join_or_relate(&self, own: CallKey, evidence: Evidence) -> Option<Command> {
        let is_relation = evidence.strength == EvidenceStrength::Relation;
        (evidence.call != own).then(|| match is_relation {
            true => Command::Relate { a: own, b: evidence.call, why: evidence.rule },
            false => self.join_calls(own, evidence.call, evidence.rule),
        })
    }
}
