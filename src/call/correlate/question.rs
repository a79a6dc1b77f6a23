//! A question to the correlation rules: to which call does a leg belong? It contains all facts that the rules need.

use std::cell::OnceCell;

use crate::call::correlate::Correlator;
use crate::call::correlate::heuristic::call_of_another_device;
use crate::call::correlation_keys::{CorrelationKeys, LegSignature, hosts_meet};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::dialog::Dialog;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegDraft};
use crate::time::Timestamp;

/// The question to which call a leg belongs, with the facts as of one time.
///
/// Messages are captured out of order. So their timestamps decide which legs were answered or had ended at that time.
pub(super) struct LegQuestion<'a> {
    /// The facts from which the rules decide.
    pub(super) correlator: Correlator<'a>,
    /// Numbers, hosts and times of the leg in question.
    pub(super) signature: LegSignature<'a>,
    /// Dialog of the leg in question, with its tags and states.
    pub(super) dialog: &'a Dialog,
    /// Headers of the leg in question that can identify its call.
    pub(super) keys: &'a CorrelationKeys,
    /// Open legs that share a header value with the leg in question, or a number at a host. Some of them may be over.
    pub(super) known: Vec<(LegKey, &'a Leg)>,
    /// Capture time for which the question is asked.
    pub(super) at: Timestamp,
    /// The candidate legs that share a host with the leg in question. They are computed when a rule first needs them.
    met: OnceCell<Vec<MetLeg<'a>>>,
    /// Call in which the leg rings another device of a number that rings already; `None` inside if there is no such
    /// call. It is computed once, because two rules need it.
    device: OnceCell<Option<CallKey>>,
}

/// A candidate leg that shares a host with the leg in question, and how it may explain that leg.
pub(super) struct MetLeg<'a> {
    /// Key of the candidate leg in the call table.
    pub(super) key: LegKey,
    /// The candidate leg itself.
    pub(super) leg: &'a Leg,
    /// Rule by which the PBX sent the leg in question on from the candidate leg; `None` if no rule fits.
    pub(super) onward: Option<CorrelationRule>,
    /// Rule by which the PBX sent the leg in question for the caller of the candidate leg, who waits; `None` if no rule
    /// fits.
    pub(super) waiting: Option<CorrelationRule>,
    /// Whether the candidate leg is another call to the same address, and not the cause of the leg in question.
    pub(super) is_own_call: bool,
}

impl<'a> LegQuestion<'a> {
    /// Creates the question about a new leg, with the facts as of the time at which the leg was sent.
    pub(super) fn about_draft(correlator: Correlator<'a>, draft: &'a LegDraft) -> Self {
        Self::new(correlator, draft.signature(), &draft.dialog, &draft.correlation_keys, |_| true)
    }

    /// Creates the question about the only leg of a call, with the facts as of now.
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

    /// Returns the same question with the facts as of now.
    pub(super) fn as_of_now(&self) -> Self {
        Self {
            at: self.correlator.now,
            known: self.known.clone(),
            met: OnceCell::new(),
            device: OnceCell::new(),
            ..*self
        }
    }

    /// Returns whether the leg in question is a recording session (SIPREC).
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

    /// Returns the candidates that are not over and that share a host with the leg in question, in a way that the rules
    /// about hosts need.
    pub(super) fn met_legs(&self) -> &[MetLeg<'a>] {
        let is_met = |leg: &Leg| hosts_meet(self.signature.hop, leg.machines()) && leg.lived_at(self.at);
        let met = || self.candidates().filter(|(_, leg)| is_met(leg));
        self.met.get_or_init(|| met().map(|(key, leg)| MetLeg::new(self, key, leg)).collect())
    }
}
