//! Correlation: decides to which call each leg belongs.
//!
//! This module only decides. It reads the call table and returns [`Command`]s, and the engine applies them.
//!
//! A *join* puts a leg into a call. A *weak* join is based on numbers alone. A *relation* links two calls that stay
//! separate. *Evidence* is the finding of one rule about one call. Each rule is a function that returns [`Evidence`].
//! [`rule_list`] has the rules in the order in which they are asked. [`CallChoice`] chooses between the calls with
//! evidence.

pub(crate) mod address;
mod agreeing;
mod ambiguous;
mod command;
mod content;
mod customer;
mod doubt;
mod evidence;
mod heuristic;
mod identity;
mod late;
mod late_caller;
mod merge_policy;
mod one_name;
mod open_leg;
mod other_sound;
mod pickup;
mod question;
mod queued;
mod relay_order;
mod retry;
mod rule_list;
mod second_caller;
mod shown_machine;
mod sound_group;
mod tie;
mod transfer;
mod undecided;

use crate::call::call_table::CallTable;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::CallKey;
use crate::call::leg::LegDraft;
use crate::call::numbers::NumberPlan;
use crate::net::Endpoint;
use crate::time::Timestamp;

pub(crate) use agreeing::MachineAlias;
pub(crate) use ambiguous::PBX_REACTION;
pub(crate) use command::Command;
use evidence::{CallChoice, Evidence};
pub(crate) use identity::is_random;
pub(crate) use open_leg::LegMoment;
use question::LegQuestion;
use rule_list::{HOST_STAGES, LAST_STAGES, RELATING_RULES, SIGNALLING_STAGES};

/// Result of the correlation of a new leg: the call that it joins, and the calls to which it is related.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Correlation {
    /// Call that the leg joins, and the rule that decided so; `None` if the leg begins a new call.
    pub(crate) same: Option<(CallKey, CorrelationRule)>,
    /// Calls to which the leg's new call is related, and the rules that decided so.
    pub(crate) related: Vec<(CallKey, CorrelationRule)>,
    /// Whether rules about numbers must not join the new call to another call later. True if the leg could belong to
    /// several calls, or if the earlier leg that caused it is known.
    pub(crate) closed_to_heuristics: bool,
    /// Two addresses that count as one machine within the call; `None` if the leg shares a host with another leg of the
    /// call.
    pub(crate) alias: Option<MachineAlias>,
    /// Other calls to which the leg could belong. When the leg stops ringing, the rule `ring_outcome` chooses between
    /// these calls and the call that the leg joins now.
    pub(crate) alternatives: Vec<CallKey>,
}

impl Correlation {
    /// Returns the result for a leg that joins the given call by the given rule.
    fn join(call: CallKey, by: CorrelationRule) -> Self {
        Self { same: Some((call, by)), ..Self::default() }
    }

    /// Returns the result for a leg that could belong to each of these calls. The leg begins a new call, which is
    /// related to at most `MAX_AMBIGUOUS` of them. The rule `ring_outcome` may move the leg later.
    fn ambiguous(mut calls: Vec<CallKey>) -> Self {
        calls.truncate(MAX_ALTERNATIVES);
        let related = calls.iter().take(MAX_AMBIGUOUS).map(|call| (*call, CorrelationRule::Ambiguous)).collect();
        Self { related, closed_to_heuristics: true, alternatives: calls, ..Self::default() }
    }
}

/// The facts from which correlation decides about a leg.
#[derive(Clone, Copy)]
pub(crate) struct Correlator<'a> {
    /// The call table with all legs and calls.
    pub(crate) table: &'a CallTable,
    /// The number plan: extensions, telephones and PBXs.
    pub(crate) plan: &'a NumberPlan,
    /// Capture time at which correlation decides about the leg.
    pub(crate) now: Timestamp,
}

impl Correlator<'_> {
    /// Decides which call a new leg joins. Later messages of the leg can change this: see [`Correlator::decide_leg`].
    pub(crate) fn correlate(&self, draft: &LegDraft) -> Correlation {
        let question = LegQuestion::about_draft(*self, draft);
        let mut correlation = self.decide(&question);
        if let Some((full, _)) = correlation.same.filter(|(c, _)| !self.may_gain(*c, 1)) {
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
            correlation.related.extend(related(&question));
            correlation.related.retain(|(c, _)| self.table.call(*c).is_some());
        }
        correlation
    }

    /// Asks the rules about a new leg, and decides which call it joins.
    fn decide(&self, question: &LegQuestion<'_>) -> Correlation {
        let is_late = self.now > question.at;
        let again = || if is_late { question.as_of_now().ask(HOST_STAGES) } else { CallChoice::Nothing };
        let choice = question.ask(SIGNALLING_STAGES).or_else(|| question.ask(HOST_STAGES)).or_else(again);
        let choice = choice.or_else(|| question.ask(LAST_STAGES));
        if choice == CallChoice::Nothing
            && let Some(correlation) = question.join_by_shown_machine()
        {
            return correlation;
        }
        match choice {
            CallChoice::Join(evidence) => {
                let alias = self.alias_of(question, evidence);
                Correlation { alias, ..Correlation::join(evidence.call, evidence.rule) }
            }
            CallChoice::Prefer(evidence, mut alternatives) => {
                alternatives.truncate(MAX_ALTERNATIVES);
                Correlation { alternatives, ..Correlation::join(evidence.call, evidence.rule) }
            }
            CallChoice::Ambiguous(evidence) => Correlation::ambiguous(evidence.iter().map(|e| e.call).collect()),
            CallChoice::Relate(evidence) => Correlation {
                closed_to_heuristics: evidence.iter().any(|e| e.rule.closes_call_it_relates()),
                related: evidence.iter().map(|e| (e.call, e.rule)).collect(),
                ..Correlation::default()
            },
            CallChoice::Nothing => {
                Correlation { closed_to_heuristics: question.is_recording_session(), ..Correlation::default() }
            }
        }
    }

    /// Returns two addresses that belong to one machine, if the join of the new leg shows this. The machine uses one
    /// address on the new leg and the other on a leg of the call.
    fn alias_of(&self, question: &LegQuestion<'_>, evidence: Evidence) -> Option<MachineAlias> {
        match evidence.rule {
            CorrelationRule::AgreeingNumbers => self.agreeing_alias(&question.signature, evidence.call),
            CorrelationRule::CorrelationHeader | CorrelationRule::SessionId | CorrelationRule::SameCallId => {
                self.alias_of_header(evidence.call, &question.signature)
            }
            _ => None,
        }
    }

    /// Returns whether only the topology links a new leg with a call. The leg and the call have no host in common, but
    /// a machine (e.g. a PBX) with one address on each.
    fn is_linked_by_machine(&self, draft: &LegDraft, call: CallKey) -> bool {
        let hosts = (draft.dialog.caller_addr, draft.dialog.callee_addr);
        let legs = || self.table.legs_of(call);
        !legs().any(|leg| leads_on(hosts, leg.hop())) && legs().any(|leg| leads_on(draft.machine_hop, leg.machines()))
    }
}

fn related(question: &LegQuestion<'_>) -> impl Iterator<Item = (CallKey, CorrelationRule)> {
    RELATING_RULES.iter().flat_map(|rule| rule.evidence(question)).map(|e| (e.call, e.rule))
}

/// Returns whether the receiver of one leg sent the other leg. Each leg is given as (sender, receiver).
fn leads_on(a: (Endpoint, Endpoint), b: (Endpoint, Endpoint)) -> bool {
    a.0.same_host(b.1) || a.1.same_host(b.0)
}

/// Maximum number of legs in a call: the legs of a ring group of sixty telephones, and the caller's legs. Unanswered
/// legs that have ended are stored as records only, and do not count.
pub(crate) const MAX_LEGS: usize = 64;
/// Maximum number of calls to which a new call is related, if its leg could belong to each of them.
pub(super) const MAX_AMBIGUOUS: usize = 4;
/// Maximum number of other calls that are stored for a leg that could belong to several calls. If more callers of one
/// number wait at the same time, the number identifies none of them.
const MAX_ALTERNATIVES: usize = 16;
