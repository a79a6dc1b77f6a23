//! Correlation: finds the call to which a new leg belongs. The rules are asked in order of their reliability.

mod agreeing;
mod ambiguous;
mod heuristic;
mod late;
mod pickup;
mod transfer;

use crate::call::correlation_keys::{LegSignature, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::Engine;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegDraft};

pub(super) use agreeing::MachineAlias;
pub(super) use ambiguous::PBX_REACTION;
use heuristic::{HeuristicMatch, HeuristicQuery};
use transfer::TransferMatch;

/// Result of the correlation of a new leg.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Correlation {
    /// Call to which the leg belongs, and the rule that found it.
    pub same: Option<(CallKey, CorrelationRule)>,
    /// Calls to which the leg's own new call is related, with the rules that found them.
    pub related: Vec<(CallKey, CorrelationRule)>,
    /// Whether the heuristic rules must leave the new call alone: the leg could belong to several calls, or its cause is
    /// known.
    pub closed_to_heuristics: bool,
    /// Addresses that count as one machine within the call, if the leg joins it without a common host.
    pub alias: Option<MachineAlias>,
    /// Other calls to which the leg could belong instead of `same`. [`Engine::resolve_ambiguous_leg`] decides later.
    pub alternatives: Vec<CallKey>,
}

impl Engine {
    /// Finds the call of a new leg. The rule of the media address follows later, in
    /// [`Engine::correlate_by_media_address`].
    pub(super) fn correlate(&self, draft: &LegDraft) -> Correlation {
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
        let same = |found: (CallKey, CorrelationRule)| Correlation { same: Some(found), ..Correlation::default() };
        let same_call_id = self.table.with_call_id(&draft.dialog.call_id);
        // Messages are captured out of order, so a leg that has ended since may still have been live at that time.
        let live = |slot: &LegKey| self.table.leg(*slot).filter(|l| l.lived_at(draft.at));
        // Another hop of the same dialog counts even if it has just ended.
        let mut hops = same_call_id.iter().filter_map(|s| self.table.leg(*s));
        if let Some(leg) = hops.find(|l| l.dialog.caller_tag == draft.dialog.caller_tag && !l.was_over_at(draft.at)) {
            return same((leg.call(), CorrelationRule::SameDialog));
        }
        let candidates = self.table.correlation().candidates(&draft.correlation_keys, signature);
        let legs = || candidates.iter().filter_map(live);
        let agreement = |slot: &LegKey| {
            let leg = live(slot)?;
            Some((*slot, leg.call(), leg.correlation_keys.agreement(&draft.correlation_keys)?))
        };
        if let Some((slot, conversation, by)) = candidates.iter().find_map(agreement) {
            return Correlation { alias: self.alias_of_proof(slot, signature), ..same((conversation, by)) };
        }
        if let Some(parties) = &draft.correlation_keys.recorded_parties {
            let call = self.recorded_call(parties, signature);
            let same = call.map(|call| (call, CorrelationRule::RecordingSession));
            return Correlation { same, closed_to_heuristics: true, ..Correlation::default() };
        }
        match self.match_transfer(draft, signature).next() {
            Some((TransferMatch::SameCall(conversation), by)) => return same((conversation, by)),
            // The cause of the leg is known, so the heuristic rules have no say.
            Some((TransferMatch::RelatedCall(_), _)) => {
                return Correlation { closed_to_heuristics: true, ..Correlation::default() };
            }
            None => {}
        }
        if let Some(leg) = same_call_id.iter().find_map(live) {
            return same((leg.call(), CorrelationRule::SameCallId));
        }
        let legs: Vec<&Leg> = legs().collect();
        match self.match_heuristically(&legs, signature) {
            HeuristicMatch::Unique(found) => same(found),
            HeuristicMatch::Preferred(conversation, mut alternatives) => {
                alternatives.truncate(MAX_ALTERNATIVES);
                Correlation { alternatives, ..same((conversation, CorrelationRule::NewestUnserved)) }
            }
            HeuristicMatch::Ambiguous(mut related) => {
                related.truncate(MAX_AMBIGUOUS);
                let related = related.into_iter().map(|c| (c, CorrelationRule::Ambiguous)).collect();
                Correlation { related, closed_to_heuristics: true, ..Correlation::default() }
            }
            HeuristicMatch::None => {
                let consultation = self.consultation(&legs, signature);
                if let Some(call) = consultation {
                    return Correlation {
                        related: vec![(call, CorrelationRule::Consultation)],
                        ..Correlation::default()
                    };
                }
                self.correlate_by_numbers_alone(draft, signature)
            }
        }
    }

    /// Finds the call of a leg that shares no host with any other leg, by the rule `agreeing_numbers`.
    fn correlate_by_numbers_alone(&self, draft: &LegDraft, signature: &LegSignature<'_>) -> Correlation {
        match self.match_agreeing_numbers(draft, signature) {
            HeuristicMatch::Unique((call, by)) => Correlation {
                same: Some((call, by)),
                alias: self.agreeing_alias(draft, signature, call),
                ..Correlation::default()
            },
            HeuristicMatch::Ambiguous(mut calls) => {
                calls.truncate(MAX_AMBIGUOUS);
                let related = calls.into_iter().map(|c| (c, CorrelationRule::Ambiguous)).collect();
                Correlation { related, closed_to_heuristics: true, ..Correlation::default() }
            }
            HeuristicMatch::None | HeuristicMatch::Preferred(..) => Correlation::default(),
        }
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
        let query = HeuristicQuery { engine: self, signature, at: signature.at };
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
    pub(super) fn related_calls(
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

/// Legs of one call at most: a ring group of sixty telephones and its caller. Unanswered legs are compacted when they
/// close, and do not count.
pub(super) const MAX_LEGS: usize = 64;
/// Calls to which a new call is related if its leg could belong to each of them.
pub(super) const MAX_AMBIGUOUS: usize = 4;
/// Alternative calls kept for a leg. If more callers of one number wait at once, the number identifies none of them.
const MAX_ALTERNATIVES: usize = 16;
