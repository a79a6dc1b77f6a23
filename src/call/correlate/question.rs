//! The question that correlation rules answer: to which call does a leg belong? It holds all facts that the rules need.
//!
//! The leg of a question is called the *new leg*. The same question is asked later about an older leg that is still
//! alone in its call.

use std::cell::OnceCell;

use crate::call::correlate::Correlator;
use crate::call::correlate::heuristic::call_of_another_device;
use crate::call::correlation_keys::{CorrelationKeys, LegSignature, hosts_meet};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::dialog::Dialog;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegDraft};
use crate::call::party::LegParties;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// The question to which telephone call a new leg belongs.
///
/// The question is asked as of the capture time `at`. Messages are captured out of order, so their own times decide
/// which legs were answered or over at that time.
pub(super) struct LegQuestion<'a> {
    /// The call table and the knowledge about the site, from which the rules decide.
    pub(super) correlator: Correlator<'a>,
    /// Numbers, hosts and time of the new leg.
    pub(super) signature: LegSignature<'a>,
    /// Dialog of the new leg.
    pub(super) dialog: &'a Dialog,
    /// Numbers and addresses of the new leg's parties.
    pub(super) parties: &'a LegParties,
    /// Headers of the new leg that can identify its call.
    pub(super) keys: &'a CorrelationKeys,
    /// Legs, open or over, that share a header value with the new leg, or have the same number at the same host.
    pub(super) known: Vec<(LegKey, &'a Leg)>,
    /// Capture time for which the rules decide: events after this time, e.g. a later answer, do not count.
    pub(super) at: Timestamp,
    /// The candidate legs that share a host with the new leg. Computed when a rule first needs them.
    met: OnceCell<Vec<MetLeg<'a>>>,
    /// Result of [`LegQuestion::rung_device`]. Computed once, because two rules need it.
    device: OnceCell<Option<CallKey>>,
}

/// An older leg that shares a host with the new leg, and the rules by which it may be the cause of the new leg.
pub(super) struct MetLeg<'a> {
    /// Key of the older leg in the call table.
    pub(super) key: LegKey,
    /// An older leg that shares a host with the new leg.
    pub(super) leg: &'a Leg,
    /// Rule by which the new leg continues the call of the older leg: the PBX received the older leg and then sent the
    /// new leg. `None` if no rule matches.
    pub(super) onward: Option<CorrelationRule>,
    /// Rule by which the new leg is for the caller of the older leg, who waits at the PBX, e.g. in a queue. `None` if
    /// no rule matches.
    pub(super) waiting: Option<CorrelationRule>,
    /// Whether the older leg is a call of its own: one machine sent both legs to the same address. Then the older leg
    /// cannot have caused the new leg.
    pub(super) is_own_call: bool,
}

/// The leg about which a question is asked: the facts that the rules compare.
struct AskedLeg<'a> {
    signature: LegSignature<'a>,
    dialog: &'a Dialog,
    parties: &'a LegParties,
    keys: &'a CorrelationKeys,
}

impl<'a> LegQuestion<'a> {
    /// Creates the question: to which call does a newly captured leg belong? Events after its INVITE do not count.
    pub(super) fn about_draft(correlator: Correlator<'a>, draft: &'a LegDraft) -> Self {
        let LegDraft { dialog, parties, correlation_keys: keys, .. } = draft;
        Self::new(correlator, AskedLeg { signature: draft.signature(), dialog, parties, keys }, |_| true)
    }

    /// Creates the question about a leg that is alone in its call, as of now.
    pub(super) fn about_leg(correlator: Correlator<'a>, leg: &'a Leg) -> Self {
        let is_other = |other: &Leg| other.call() != leg.call();
        let Leg { dialog, parties, correlation_keys: keys, .. } = leg;
        Self::new(correlator, AskedLeg { signature: leg.signature(), dialog, parties, keys }, is_other).as_of_now()
    }

    fn new(correlator: Correlator<'a>, asked: AskedLeg<'a>, is_known: impl Fn(&Leg) -> bool) -> Self {
        let AskedLeg { signature, dialog, parties, keys } = asked;
        let found = correlator.table.correlation().candidates(keys, &signature).into_iter();
        let legs = found.filter_map(|key| Some((key, correlator.table.leg(key)?)));
        let known = legs.filter(|(_, leg)| is_known(leg)).collect();
        Self {
            correlator,
            signature,
            dialog,
            parties,
            keys,
            known,
            at: signature.at,
            met: OnceCell::new(),
            device: OnceCell::new(),
        }
    }

    /// Returns the same question for the current capture time instead of the time of the INVITE. Answers and ends since
    /// then count now.
    pub(super) fn as_of_now(&self) -> Self {
        Self {
            at: self.correlator.now,
            known: self.known.clone(),
            met: OnceCell::new(),
            device: OnceCell::new(),
            ..*self
        }
    }

    /// Returns the same question as if the machine had sent the new leg from another of its addresses. `known` are the legs
    /// at this address.
    pub(super) fn as_sent_by(&self, machine: Endpoint, known: Vec<(LegKey, &'a Leg)>) -> Self {
        let signature = LegSignature { hop: (machine, self.signature.hop.1), ..self.signature };
        Self { signature, known, met: OnceCell::new(), device: OnceCell::new(), ..*self }
    }

    /// Returns whether the new leg is a recording session (SIPREC).
    pub(super) const fn is_recording_session(&self) -> bool {
        self.keys.recorded_parties.is_some()
    }

    /// Returns the legs in `known` that were still live when the new leg began. The new leg may join the call of such a
    /// leg.
    pub(super) fn candidates(&self) -> impl Iterator<Item = (LegKey, &'a Leg)> {
        self.known.iter().copied().filter(|(_, leg)| leg.lived_at(self.signature.at))
    }

    /// Returns the call in which the new leg rings another device of a number that already rings; `None` if there is no
    /// such call.
    pub(super) fn rung_device(&self) -> Option<CallKey> {
        *self.device.get_or_init(|| call_of_another_device(self))
    }

    /// Returns the live legs that share a host with the new leg.
    pub(super) fn met_legs(&self) -> &[MetLeg<'a>] {
        let is_met = |leg: &Leg| hosts_meet(self.signature.hop, leg.machines()) && leg.lived_at(self.at);
        let met = || self.candidates().filter(|(_, leg)| is_met(leg));
        self.met.get_or_init(|| met().map(|(key, leg)| MetLeg::new(self, key, leg)).collect())
    }
}
