//! Decides whether rules may still merge calls, and which of two calls is merged into the other.

use crate::call::correlate::evidence::Evidence;
use crate::call::correlate::{Command, Correlator, MAX_LEGS};
use crate::call::correlation_rule::{CorrelationRule, EvidenceStrength};
use crate::call::keys::CallKey;

impl Correlator<'_> {
    /// Returns whether a rule may still join a leg to a call, or the call to another call.
    ///
    /// A call of which an earlier process left no spool stays alone. A call that has not settled was not announced yet,
    /// so it may be joined. Content may also join a call that is only displayed. A rule about numbers must leave a call
    /// alone that has a known cause, or that could belong to several calls.
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

    /// Returns whether a call may be merged into another call and disappear. A call of several legs is merged only
    /// because of content.
    pub(super) fn may_be_absorbed(&self, call: CallKey, by: CorrelationRule) -> bool {
        (by == CorrelationRule::MediaContent || self.table.is_lone(call)) && self.may_still_be_joined(call, by)
    }

    /// Returns whether a call may get this number of additional legs.
    pub(super) fn may_gain(&self, call: CallKey, legs: usize) -> bool {
        self.table.keys_of(call).len() + legs <= MAX_LEGS
    }

    /// Merges two calls. The older call remains, unless only the older call may disappear. If neither may disappear,
    /// the calls are only related.
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

    /// Decides what follows from evidence about a call other than `own`, given by a REFER or by a header that was
    /// captured late: the calls are joined or related.
    pub(super) fn join_or_relate(&self, own: CallKey, evidence: Evidence) -> Option<Command> {
        let is_relation = evidence.strength == EvidenceStrength::Relation;
        (evidence.call != own).then(|| match is_relation {
            true => Command::Relate { a: own, b: evidence.call, why: evidence.rule },
            false => self.join_calls(own, evidence.call, evidence.rule),
        })
    }
}
