//! Correlation: decides to which call each leg belongs.
//!
//! All decisions are made here, and nothing is changed here: a decision reads the call table and returns [`Command`]s, which
//! the engine applies. The rules for a new leg are asked in the order of `Correlator::NEW_LEG_RULES`, from the most reliable to the
//! weakest.

pub(crate) mod address;
mod agreeing;
mod ambiguous;
mod command;
mod heuristic;
mod late;
mod pickup;
mod retry;
mod transfer;

use crate::call::call_table::CallTable;
use crate::call::correlation_keys::{LegSignature, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegDraft};
use crate::call::numbers::NumberPlan;
use crate::net::Endpoint;
use crate::time::Timestamp;

pub(crate) use agreeing::MachineAlias;
pub(crate) use ambiguous::PBX_REACTION;
pub(crate) use command::Command;
use heuristic::{HeuristicMatch, HeuristicQuery};
use transfer::TransferMatch;

/// Result of the correlation of a new leg.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Correlation {
    /// Call to which the leg belongs, and the rule that found it.
    pub(crate) same: Option<(CallKey, CorrelationRule)>,
    /// Calls to which the leg's own new call is related, with the rules that found them.
    pub(crate) related: Vec<(CallKey, CorrelationRule)>,
    /// Whether the heuristic rules must leave the new call alone: the leg could belong to several calls, or its cause is
    /// known.
    pub(crate) closed_to_heuristics: bool,
    /// Addresses that count as one machine within the call, if the leg joins it without a common host.
    pub(crate) alias: Option<MachineAlias>,
    /// Other calls to which the leg could belong instead of `same`. [`Correlator::resolve_ambiguous_leg`] decides later.
    pub(crate) alternatives: Vec<CallKey>,
}

impl Correlation {
    /// Joins a call.
    fn join(call: CallKey, by: CorrelationRule) -> Self {
        Self { same: Some((call, by)), ..Self::default() }
    }

    /// Joins none of several possible calls, and is related to some of them.
    fn ambiguous(mut calls: Vec<CallKey>) -> Self {
        calls.truncate(MAX_AMBIGUOUS);
        let related = calls.into_iter().map(|call| (call, CorrelationRule::Ambiguous)).collect();
        Self { related, closed_to_heuristics: true, ..Self::default() }
    }
}

/// The facts on which correlation decides.
#[derive(Clone, Copy)]
pub(crate) struct Correlator<'a> {
    /// Legs and calls.
    pub(crate) table: &'a CallTable,
    /// Extensions, and the hosts that are telephones or PBXs.
    pub(crate) plan: &'a NumberPlan,
    /// Capture time of the decision.
    pub(crate) now: Timestamp,
}

/// A new leg, with the older legs to which it can be related.
struct NewLeg<'a> {
    draft: &'a LegDraft,
    signature: LegSignature<'a>,
    /// Open legs that share a header value, or a number at a host.
    candidates: Vec<LegKey>,
}

/// A rule for a new leg, or several that are compared with each other. It gives no answer if it does not apply.
type NewLegRule<'a> = fn(&Correlator<'a>, &NewLeg<'_>) -> Option<Correlation>;

impl<'a> Correlator<'a> {
    /// The rules for a new leg, most reliable first. The first one that applies decides.
    const NEW_LEG_RULES: [NewLegRule<'a>; 9] = [
        Self::same_dialog,
        Self::same_header,
        Self::recording_session,
        Self::transfer,
        Self::same_call_id,
        Self::numbers_and_hosts,
        Self::tried_again,
        Self::second_call,
        Self::numbers_alone,
    ];
}

impl Correlator<'_> {
    /// Finds the call of a new leg. The rule of the media address follows later, in
    /// [`Correlator::correlate_by_media_address`].
    pub(crate) fn correlate(&self, draft: &LegDraft) -> Correlation {
        let signature = draft.signature();
        let mut correlation = self.correlate_by_rules(draft, &signature);
        let may_gain = |c: &CallKey| self.table.call(*c).is_some_and(|c| c.legs().len() < MAX_LEGS);
        if let Some((full, _)) = correlation.same.filter(|(c, _)| !may_gain(c)) {
            let related = vec![(full, CorrelationRule::TooManyLegs)];
            correlation = Correlation { related, closed_to_heuristics: true, ..Correlation::default() };
        }
        if let Some((call, by)) = &mut correlation.same
            && by.needs_common_host()
            && self.is_linked_by_machine(draft, *call)
        {
            *by = CorrelationRule::MachinePair;
        }
        if correlation.same.is_none() {
            correlation.related.extend(self.related_calls(draft, &signature));
            correlation.related.retain(|(c, _)| self.table.call(*c).is_some());
        }
        correlation
    }

    fn correlate_by_rules(&self, draft: &LegDraft, signature: &LegSignature<'_>) -> Correlation {
        let candidates = self.table.correlation().candidates(&draft.correlation_keys, signature);
        let leg = NewLeg { draft, signature: *signature, candidates };
        Self::NEW_LEG_RULES.iter().find_map(|rule| rule(self, &leg)).unwrap_or_default()
    }

    /// Returns a leg that was not over when the new leg was sent. Messages are captured out of order, so a leg that has
    /// ended since may still have been live at that time.
    fn live(&self, key: LegKey, new: &NewLeg<'_>) -> Option<&Leg> {
        self.table.leg(key).filter(|leg| leg.lived_at(new.draft.at))
    }

    /// Rule `same_dialog`. Another hop of the same dialog counts even if it has just ended. An INVITE at a hop where the
    /// dialog was answered and is over uses its Call-ID and tag again: it begins another call, however soon it comes.
    fn same_dialog(&self, new: &NewLeg<'_>) -> Option<Correlation> {
        let dialog = &new.draft.dialog;
        // The newest first: a call that uses the identifiers again owns the further hops.
        let legs = || self.legs_with_call_id(new).iter().rev().filter_map(|leg| self.table.leg(*leg));
        let hops = || legs().filter(|l| l.dialog.caller_tag == dialog.caller_tag);
        let is_over = |l: &Leg| l.dialog.answered.is_some() && l.dialog.ended().is_some();
        let is_used_again = |call: CallKey| {
            hops().any(|l| l.call() == call && is_over(l) && l.is_hop(dialog.caller_addr, dialog.callee_addr))
        };
        let leg = hops().find(|l| !l.was_over_at(new.draft.at) && !is_used_again(l.call()))?;
        Some(Correlation::join(leg.call(), CorrelationRule::SameDialog))
    }

    /// Rules `correlation_header` and `session_id`.
    fn same_header(&self, new: &NewLeg<'_>) -> Option<Correlation> {
        let agreement = |key: &LegKey| {
            let leg = self.live(*key, new)?;
            Some((*key, leg.call(), leg.correlation_keys.agreement(&new.draft.correlation_keys)?))
        };
        let (key, call, by) = new.candidates.iter().find_map(agreement)?;
        Some(Correlation { alias: self.alias_of_proof(key, &new.signature), ..Correlation::join(call, by) })
    }

    /// Rule `recording_session`. No other rule is asked about such a session.
    fn recording_session(&self, new: &NewLeg<'_>) -> Option<Correlation> {
        let parties = new.draft.correlation_keys.recorded_parties.as_ref()?;
        let call = self.recorded_call(parties, &new.signature);
        let same = call.map(|call| (call, CorrelationRule::RecordingSession));
        Some(Correlation { same, closed_to_heuristics: true, ..Correlation::default() })
    }

    /// Rules `replaces` and `refer`. If they only relate, the cause of the leg is known, so the heuristic rules have no say.
    fn transfer(&self, new: &NewLeg<'_>) -> Option<Correlation> {
        Some(match self.match_transfer(new.draft, &new.signature).next()? {
            (TransferMatch::SameCall(call), by) => Correlation::join(call, by),
            (TransferMatch::RelatedCall(_), _) => Correlation { closed_to_heuristics: true, ..Correlation::default() },
        })
    }

    /// Rule `same_call_id`: the other leg is live, or was refused and its caller tries again.
    fn same_call_id(&self, new: &NewLeg<'_>) -> Option<Correlation> {
        let keys = || self.legs_with_call_id(new).iter();
        let refused = || keys().filter_map(|key| self.table.leg(*key)).find(|leg| self.repeats_refused(leg, new));
        let leg = keys().find_map(|key| self.live(*key, new)).or_else(refused)?;
        Some(Correlation::join(leg.call(), CorrelationRule::SameCallId))
    }

    fn legs_with_call_id(&self, new: &NewLeg<'_>) -> &[LegKey] {
        self.table.with_call_id(&new.draft.dialog.call_id)
    }

    /// The heuristic rules.
    fn numbers_and_hosts(&self, new: &NewLeg<'_>) -> Option<Correlation> {
        let legs = self.live_candidates(new);
        match self.match_heuristically(&legs, &new.signature) {
            HeuristicMatch::Unique((call, by)) => Some(Correlation::join(call, by)),
            HeuristicMatch::Preferred(call, mut alternatives) => {
                alternatives.truncate(MAX_ALTERNATIVES);
                Some(Correlation { alternatives, ..Correlation::join(call, CorrelationRule::NewestUnserved) })
            }
            HeuristicMatch::Ambiguous(calls) => Some(Correlation::ambiguous(calls)),
            HeuristicMatch::None => None,
        }
    }

    /// Rule `consultation`.
    fn second_call(&self, new: &NewLeg<'_>) -> Option<Correlation> {
        let call = self.consultation(&self.live_candidates(new), &new.signature)?;
        Some(Correlation { related: vec![(call, CorrelationRule::Consultation)], ..Correlation::default() })
    }

    fn live_candidates(&self, new: &NewLeg<'_>) -> Vec<&Leg> {
        new.candidates.iter().filter_map(|key| self.live(*key, new)).collect()
    }

    /// Rule `agreeing_numbers`, for a leg that shares no host with any other leg.
    fn numbers_alone(&self, new: &NewLeg<'_>) -> Option<Correlation> {
        match self.match_agreeing_numbers(new.draft, &new.signature) {
            HeuristicMatch::Unique((call, by)) => {
                let alias = self.agreeing_alias(new.draft, &new.signature, call);
                Some(Correlation { alias, ..Correlation::join(call, by) })
            }
            HeuristicMatch::Ambiguous(calls) => Some(Correlation::ambiguous(calls)),
            HeuristicMatch::None | HeuristicMatch::Preferred(..) => None,
        }
    }

    /// Returns whether a new leg has no host in common with the legs of a call, and one machine links it with them.
    fn is_linked_by_machine(&self, draft: &LegDraft, call: CallKey) -> bool {
        let hosts = (draft.dialog.caller_addr, draft.dialog.callee_addr);
        let legs = || self.table.legs_of(call);
        !legs().any(|leg| leads_on(hosts, leg.hop())) && legs().any(|leg| leads_on(draft.machine_hop, leg.machines()))
    }

    /// Returns the only call that a recorder's own session can carry: a call that is answered, through the host that sends
    /// the session, with a party that the session's metadata names. Scans all calls, but only for such sessions.
    fn recorded_call(&self, parties: &[String], signature: &LegSignature<'_>) -> Option<CallKey> {
        let is_named = |number: Option<&str>| parties.iter().any(|party| same_number(Some(party), number));
        let is_recorded = |leg: &&Leg| {
            let (caller, callee) = leg.machines();
            let is_at_host = caller.same_host(signature.hop.0) || callee.same_host(signature.hop.0);
            let (from, to) = (leg.parties.from.as_deref(), leg.parties.to.as_deref());
            is_at_host
                && leg.dialog.ended().is_none()
                && !leg.is_recording_session()
                && (parties.is_empty() || is_named(from) || is_named(to))
        };
        let legs = self.table.legs().map(|(_, leg)| leg).filter(is_recorded);
        match HeuristicMatch::from_calls(legs.map(|leg| (leg.call(), CorrelationRule::RecordingSession))) {
            HeuristicMatch::Unique((call, _)) => Some(call),
            _ => None,
        }
    }

    /// Asks the heuristic rules as of the time at which the leg was sent. If nothing matches, asks as of now.
    fn match_heuristically(&self, legs: &[&Leg], signature: &LegSignature<'_>) -> HeuristicMatch {
        let query = HeuristicQuery { correlator: *self, signature, at: signature.at };
        match query.find_match(legs) {
            HeuristicMatch::None if self.now > signature.at => {
                HeuristicQuery { at: self.now, ..query }.find_match(legs)
            }
            found => found,
        }
    }

    /// Returns the calls to which a new leg's own call is related.
    ///
    /// These are the call whose dialog the leg replaces, and the call with the REFER that caused the leg. Further ones are
    /// the parked call that the leg retrieves, and ringing calls that its pickup code may name.
    pub(crate) fn related_calls(
        &self,
        draft: &LegDraft,
        signature: &LegSignature<'_>,
    ) -> Vec<(CallKey, CorrelationRule)> {
        let found = self.match_transfer(draft, signature);
        let mut out: Vec<(CallKey, CorrelationRule)> =
            found.map(|(TransferMatch::SameCall(c) | TransferMatch::RelatedCall(c), by)| (c, by)).collect();
        let parked = self.table.referrals().iter().rev().find(|r| r.is_retrieved_by(signature));
        out.extend(parked.map(|r| (r.conversation, CorrelationRule::Parked)));
        for extension in signature.pickup_extensions() {
            let legs = self.table.correlation().legs_at(signature.hop.1, &extension).iter();
            let legs = legs.filter_map(|s| self.table.leg(*s));
            let is_ringing = |l: &&Leg| l.lived_at(signature.at) && !l.answered_by(signature.at);
            let rings_extension =
                |l: &&Leg| l.parties.to.as_ref() == Some(&extension) && l.signature().is_sent_by(signature.hop.1);
            let ringing = legs.filter(is_ringing).filter(rings_extension).take(MAX_AMBIGUOUS);
            out.extend(ringing.map(|l| (l.call(), CorrelationRule::DirectedPickup)));
        }
        out
    }
}

/// Returns whether the receiver of one of two legs sent the other.
fn leads_on(a: (Endpoint, Endpoint), b: (Endpoint, Endpoint)) -> bool {
    a.0.same_host(b.1) || a.1.same_host(b.0)
}

/// Legs of one call at most: a ring group of sixty telephones and its caller. Unanswered legs are compacted when they
/// close, and do not count.
pub(crate) const MAX_LEGS: usize = 64;
/// Calls to which a new call is related if its leg could belong to each of them.
pub(super) const MAX_AMBIGUOUS: usize = 4;
/// Alternative calls kept for a leg. If more callers of one number wait at once, the number identifies none of them.
const MAX_ALTERNATIVES: usize = 16;
