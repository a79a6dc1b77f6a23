//! The question to which call a leg belongs, with all facts that the rules need.

use std::cell::OnceCell;

use crate::call::correlate::Correlator;
use crate::call::correlate::heuristic::call_of_another_device;
use crate::call::correlation_keys::{CorrelationKeys, LegSignature, hosts_meet};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::dialog::Dialog;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegDraft};
use crate::time::Timestamp;

/// The question to which call a leg belongs, with the facts of one moment.
///
/// Messages are captured out of order. So timestamps decide which legs were answered or had ended at that moment.
pub(super) struct LegQuestion<'a> {
    /// Facts on which the rules decide.
    pub(super) correlator: Correlator<'a>,
    /// Signature of the leg in question.
    pub(super) signature: LegSignature<'a>,
    /// Dialog of the leg in question.
    pub(super) dialog: &'a Dialog,
    /// Identifying headers of the leg in question.
    pub(super) keys: &'a CorrelationKeys,
    /// Open legs that share a header value, or a number at a host. Some of them may be over.
    pub(super) known: Vec<(LegKey, &'a Leg)>,
    /// Moment for which the question is asked.
    pub(super) at: Timestamp,
    /// The candidates that meet the leg's hosts at that moment. Empty until a rule needs them.
    met: OnceCell<Vec<MetLeg<'a>>>,
    /// Call in which the leg rings another device of a number, at that moment. Two rules need it.
    device: OnceCell<Option<CallKey>>,
}

/// A candidate that meets the hosts of the leg in question, and the ways in which it may explain that leg.
pub(super) struct MetLeg<'a> {
    /// Key of the candidate.
    pub(super) key: LegKey,
    /// The candidate.
    pub(super) leg: &'a Leg,
    /// Rule by which the PBX sent the leg in question onward.
    pub(super) onward: Option<CorrelationRule>,
    /// Rule by which the PBX sent the leg in question for a caller who waits.
    pub(super) waiting: Option<CorrelationRule>,
    /// Whether the candidate is another call beside the leg in question.
    pub(super) is_own_call: bool,
}

impl<'a> LegQuestion<'a> {
    /// Creates the question about a new leg, for the time at which the leg was sent.
    pub(super) fn about_draft(correlator: Correlator<'a>, draft: &'a LegDraft) -> Self {
        Self::new(correlator, draft.signature(), &draft.dialog, &draft.correlation_keys, |_| true)
    }

    /// Creates the question about the only leg of a call, for the present time.
    pub(super) fn about_leg(correlator: Correlator<'a>, leg: &'a Leg) -> Self {
        let is_other = |other: &Leg| other.call() != leg.call();
        Self::new(correlator, leg.signature(), &leg.dialog, &leg.correlation_keys, is_other).as_of_now()
    }

    fn new(
        correlator: Correlator<'a>,
        signature: LegSignature<'a>,
        dialog: &'a Dialog,
        keys: &'a CorrelationKeys,
        is_known: impl Fn(&Leg) -> bool,
    ) -> Self {
        let found = correlator.table.correlation().candidates(keys, &signature).into_iter();
        let legs = found.filter_map(|key| Some((key, correlator.table.leg(key)?)));
        let known = legs.filter(|(_, leg)| is_known(leg)).collect();
        Self {
            correlator,
            signature,
            dialog,
            keys,
            known,
            at: signature.at,
            met: OnceCell::new(),
            device: OnceCell::new(),
        }
    }

    /// Returns the same question for the present time.
    pub(super) fn as_of_now(&self) -> Self {
        Self {
            at: self.correlator.now,
            known: self.known.clone(),
            met: OnceCell::new(),
            device: OnceCell::new(),
            ..*self
        }
    }

    /// Returns whether the leg is a recorder's own session.
    pub(super) const fn is_recording_session(&self) -> bool {
        self.keys.recorded_parties.is_some()
    }

    /// Returns the known legs that were not over when the leg was sent.
    pub(super) fn candidates(&self) -> impl Iterator<Item = (LegKey, &'a Leg)> {
        self.known.iter().copied().filter(|(_, leg)| leg.lived_at(self.signature.at))
    }

    /// Returns the call in which the leg rings another device of a telephone number that rings already.
    pub(super) fn rung_device(&self) -> Option<CallKey> {
        *self.device.get_or_init(|| call_of_another_device(self))
    }

    /// Returns the candidates that share a host with the leg in the way that a rule about hosts needs, and that are not
    /// over.
    pub(super) fn met_legs(&self) -> &[MetLeg<'a>] {
        let is_met = |leg: &Leg| hosts_meet(self.signature.hop, leg.machines()) && leg.lived_at(self.at);
        let met = || self.candidates().filter(|(_, leg)| is_met(leg));
        self.met.get_or_init(|| met().map(|(key, leg)| MetLeg::new(self, key, leg)).collect())
    }
}
