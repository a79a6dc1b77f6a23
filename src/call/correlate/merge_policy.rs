//! Decides whether two calls may still be merged, and which of them remains.

use crate::call::correlate::evidence::Evidence;
use crate::call::correlate::{Command, Correlator, MAX_LEGS};
use crate::call::correlation_rule::{CorrelationRule, EvidenceStrength};
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;

impl Correlator<'_> {
    /// Returns whether the rule `by` may still join this call to another call, or a leg to this call.
    ///
    /// - The rules `media_content`, `both_media` and `ring_outcome` may join a call until delivery may register it in
    ///   Pyrus. All other rules may join it only until an event announces it.
    /// - Rules about numbers must not join a call that another known call caused, or that could belong to several
    ///   calls.
    /// - If an earlier process announced the call and its spool is gone, no rule may join it.
    pub(super) fn may_still_be_joined(&self, call: CallKey, by: CorrelationRule) -> bool {
        let Some(call) = self.table.call(call).filter(|call| call.origin.earlier_record().is_none()) else {
            return false;
        };
        match by {
            CorrelationRule::MediaContent | CorrelationRule::BothMedia | CorrelationRule::RingOutcome => {
                !call.recording.is_committed()
            }
            CorrelationRule::MediaAddress | CorrelationRule::Refer => !call.stage.is_settled(),
            _ => !call.stage.is_settled() && !call.closed_to_heuristics,
        }
    }

    /// Returns whether the rule `by` may merge a call into another call, so that it disappears.
    ///
    /// - The rules `media_content` and `both_media` may merge any call.
    /// - The rule `ring_outcome` may merge a call that consists of one dialog. It may also merge a call with the legs
    ///   that this dialog caused, if the dialog could belong to several calls. So a caller's call does not disappear in
    ///   the call of a telephone.
    /// - All other rules may merge only a call with a single leg.
    pub(super) fn may_be_absorbed(&self, call: CallKey, by: CorrelationRule) -> bool {
        let has_form = match by {
            CorrelationRule::MediaContent | CorrelationRule::BothMedia => true,
            CorrelationRule::RingOutcome => {
                let is_ambiguous = self.table.call(call).is_some_and(|call| call.closed_to_heuristics);
                self.has_one_root(call) && (self.is_of_one_dialog(call) || is_ambiguous)
            }
            _ => self.table.is_lone(call),
        };
        has_form && self.may_still_be_joined(call, by)
    }

    /// Returns whether all legs of a call belong to one dialog, and the call never had other legs. Recording sessions
    /// (SIPREC) do not count.
    ///
    /// This is true for more calls than [`CallTable::is_lone`], because a dialog that passes a proxy has several legs.
    ///
    /// [`CallTable::is_lone`]: crate::call::call_table::CallTable::is_lone
    pub(super) fn is_of_one_dialog(&self, call: CallKey) -> bool {
        let had_others = self.table.call(call).is_none_or(|call| call.notes.had_other_legs());
        let mut legs = self.table.legs_of(call).filter(|leg| !leg.is_recording_session());
        !had_others && legs.next().is_some_and(|first| legs.all(|leg| leg.is_branch_of(first)))
    }

    /// Returns whether all legs of the call belong to this leg's dialog, or are legs that this dialog caused at a PBX.
    /// The call must never have had another leg.
    pub(super) fn is_root(&self, leg: &Leg) -> bool {
        let keys = self.table.keys_of(leg.call());
        let had_others = self.table.call(leg.call()).is_none_or(|call| call.notes.had_other_legs());
        let hops = self.hops_of(leg);
        let caused: Vec<LegKey> = hops.iter().flat_map(|hop| self.caused_legs(*hop)).collect();
        let is_session = |key: &LegKey| self.table.leg(*key).is_some_and(Leg::is_recording_session);
        !had_others && keys.iter().all(|key| caused.contains(key) || is_session(key))
    }

    /// Returns whether all legs of a call stem from one dialog: they belong to it, or it caused them at a PBX. The call
    /// must never have had another leg.
    pub(crate) fn has_one_root(&self, call: CallKey) -> bool {
        let root = self.table.legs_of(call).find(|leg| self.causes_of(leg).next().is_none());
        root.is_some_and(|root| self.is_root(root))
    }

    /// Returns all legs of the call that belong to the same dialog as this leg, e.g. before and behind a proxy. This
    /// leg is included.
    pub(super) fn hops_of(&self, leg: &Leg) -> Vec<LegKey> {
        let keys = self.table.keys_of(leg.call()).iter().copied();
        keys.filter(|key| self.table.leg(*key).is_some_and(|hop| hop.is_branch_of(leg))).collect()
    }

    /// Returns whether a call has room for this number of further legs.
    pub(super) fn may_gain(&self, call: CallKey, legs: usize) -> bool {
        self.table.keys_of(call).len() + legs <= MAX_LEGS
    }

    /// Returns the command that merges two calls. If possible, the younger call disappears, otherwise the older. If
    /// neither may disappear, the calls are only related.
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

    /// Returns the command that joins or relates the call `own` to the call of this evidence; `None` if both are the
    /// same call. The evidence comes from a REFER, or from a header that was captured late.
    pub(super) fn join_or_relate(&self, own: CallKey, evidence: Evidence) -> Option<Command> {
        let is_relation = evidence.strength == EvidenceStrength::Relation;
        (evidence.call != own).then(|| match is_relation {
            true => Command::Relate { a: own, b: evidence.call, why: evidence.rule },
            false => self.join_calls(own, evidence.call, evidence.rule),
        })
    }
}
