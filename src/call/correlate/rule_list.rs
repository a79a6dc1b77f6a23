//! The lists of the correlation rules. One list has the rules about a new leg, in the order in which they are asked.
//! The other list has the rules about a leg that already belongs to a call.

use crate::call::correlate::evidence::{CallChoice, Evidence};
use crate::call::correlate::open_leg::{LegMoment, OpenLeg};
use crate::call::correlate::question::LegQuestion;
use crate::call::correlate::{address, agreeing, ambiguous, heuristic, identity, late, pickup, retry, transfer};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::CallKey;

/// A rule about a new leg.
pub(super) struct LegRule {
    /// Name of the rule. The evidence that the rule finds names it.
    name: CorrelationRule,
    ask: fn(&LegQuestion<'_>) -> Vec<Evidence>,
}

/// Creates an entry of the list of rules about new legs.
const fn rule(name: CorrelationRule, ask: fn(&LegQuestion<'_>) -> Vec<Evidence>) -> LegRule {
    LegRule { name, ask }
}

impl LegRule {
    /// Returns the evidence that the rule finds for a new leg.
    pub(super) fn evidence(&self, question: &LegQuestion<'_>) -> Vec<Evidence> {
        evidence_of(self.name, (self.ask)(question))
    }
}

/// A rule about a leg that already belongs to a call.
pub(super) struct OpenLegRule {
    /// Name of the rule. The evidence that the rule finds names it.
    name: CorrelationRule,
    /// Event in the life of a leg after which the rule is asked.
    pub(super) moment: LegMoment,
    ask: fn(&OpenLeg<'_>) -> Vec<Evidence>,
}

/// Creates an entry of the list of rules about legs that belong to a call.
const fn at(moment: LegMoment, name: CorrelationRule, ask: fn(&OpenLeg<'_>) -> Vec<Evidence>) -> OpenLegRule {
    OpenLegRule { name, moment, ask }
}

impl OpenLegRule {
    /// Returns the evidence that the rule finds for a leg that belongs to a call.
    pub(super) fn evidence(&self, subject: &OpenLeg<'_>) -> Vec<Evidence> {
        evidence_of(self.name, (self.ask)(subject))
    }
}

/// Checks that all evidence has the name of the rule that found it, or of the rule `ambiguous`. Returns the evidence.
fn evidence_of(name: CorrelationRule, evidence: Vec<Evidence>) -> Vec<Evidence> {
    let is_own = |e: &Evidence| e.rule == name || e.rule == CorrelationRule::Ambiguous;
    debug_assert!(evidence.iter().all(is_own), "the evidence names its rule: {evidence:?}");
    evidence
}

/// A rule that chooses between several calls for which a stage (set of rules) has found equal evidence.
struct TieRule {
    name: CorrelationRule,
    prefer: fn(&LegQuestion<'_>, &[Evidence]) -> Option<CallKey>,
}

/// A set of rules that are asked together, so that their evidence is compared. The stages are asked in order, and the
/// first stage with evidence decides.
pub(super) struct RuleStage {
    rules: &'static [LegRule],
    ties: Option<TieRule>,
    scope: StageScope,
}

/// The legs for which the rules of a stage (set of rules) are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StageScope {
    /// The rules are asked for every leg, also for recording sessions (SIPREC).
    EveryLeg,
    /// The rules are asked for every leg except recording sessions (SIPREC).
    Calls,
}

/// The stages (sets of rules) about identifiers in the signalling. They are asked first.
pub(super) const SIGNALLING_STAGES: &[&RuleStage] = &[&DIALOG, &HEADERS, &RECORDER, &REPLACES, &REFER, &CALL_ID];

/// The stages (sets of rules) about hosts, numbers and times.
///
/// The rules first use the facts at the time of the INVITE. If they find no call then, they use the facts as of now,
/// because an INVITE may be processed late. If a leg is alone in its call, the rules are asked again when another leg
/// is answered or ends.
pub(super) const HOST_STAGES: &[&RuleStage] = &[&HOSTS, &CLICK_TO_CALL];

/// The stages (sets of rules) that read headers which only the INVITE has. They are asked again if the INVITE was
/// captured after its first response.
pub(super) const LATE_INVITE_STAGES: &[&RuleStage] = &[&HEADERS, &RECORDER, &REPLACES, &HOSTS, &NUMBERS];

/// The stages (sets of rules) by which a leg belongs to the call of a caller who has reached the sender of the leg.
pub(super) const CALLER_STAGES: &[&RuleStage] = &[&HOSTS];

/// The stages (sets of rules) for a leg that no other rule explains. They are asked last.
pub(super) const LAST_STAGES: &[&RuleStage] = &[&RETRY, &CONSULTATION, &NUMBERS];

/// Rules that relate the call of a leg to another call. They are asked if the leg joins no call.
pub(super) const RELATING_RULES: &[LegRule] = &[
    rule(CorrelationRule::Replaces, transfer::replaces),
    rule(CorrelationRule::Refer, transfer::refer),
    rule(CorrelationRule::Parked, transfer::parked),
    rule(CorrelationRule::DirectedPickup, pickup::directed_pickup),
];

/// The rules about legs that already belong to a call, each with the event after which it is asked.
pub(super) const OPEN_LEG_RULES: &[OpenLegRule] = &[
    at(LegMoment::AnsweredOrEnded, CorrelationRule::LateSibling, late::late_sibling),
    at(LegMoment::Announced, CorrelationRule::BothMedia, address::both_media),
    at(LegMoment::Announced, CorrelationRule::MediaAddress, address::media_address),
    at(LegMoment::Reviewed, CorrelationRule::SameMoments, agreeing::same_moments),
    at(LegMoment::Reviewed, CorrelationRule::MomentsDisagree, agreeing::moments_disagree),
    at(LegMoment::Resolved, CorrelationRule::RingOutcome, ambiguous::ring_outcome),
    at(LegMoment::Reviewed, CorrelationRule::GroupPickup, pickup::group_pickup),
    at(LegMoment::Reviewed, CorrelationRule::ForwardedOutside, pickup::forwarded_outside),
];

const DIALOG: RuleStage = RuleStage::of_every_leg(&[
    rule(CorrelationRule::SameDialog, identity::same_dialog),
    rule(CorrelationRule::TagReuse, identity::tag_reuse),
]);
const HEADERS: RuleStage = RuleStage::of_every_leg(&[
    rule(CorrelationRule::CorrelationHeader, identity::correlation_header),
    rule(CorrelationRule::SessionId, identity::session_id),
]);
const RECORDER: RuleStage =
    RuleStage::of_every_leg(&[rule(CorrelationRule::RecordingSession, identity::recording_session)]);
const REPLACES: RuleStage = RuleStage::of_calls(&[rule(CorrelationRule::Replaces, transfer::replaces)]);
const REFER: RuleStage = RuleStage::of_calls(&[rule(CorrelationRule::Refer, transfer::refer)]);
const CALL_ID: RuleStage = RuleStage::of_calls(&[rule(CorrelationRule::SameCallId, identity::same_call_id)]);
const HOSTS: RuleStage = RuleStage {
    ties: Some(TieRule { name: CorrelationRule::NewestUnserved, prefer: heuristic::newest_unserved }),
    ..RuleStage::of_calls(&[
        rule(CorrelationRule::OwnCall, heuristic::own_call),
        rule(CorrelationRule::AlreadyRinging, heuristic::already_ringing),
        rule(CorrelationRule::AnotherDevice, heuristic::another_device),
        rule(CorrelationRule::OnwardBoth, heuristic::onward_both),
        rule(CorrelationRule::Hairpin, heuristic::hairpin),
        rule(CorrelationRule::Diverted, heuristic::diverted),
        rule(CorrelationRule::OnwardOne, heuristic::onward_one),
        rule(CorrelationRule::ForWaitingCaller, heuristic::for_waiting_caller),
        rule(CorrelationRule::NextTrunk, heuristic::next_trunk),
    ])
};
const CLICK_TO_CALL: RuleStage = RuleStage::of_calls(&[rule(CorrelationRule::ClickToCall, heuristic::click_to_call)]);
const RETRY: RuleStage = RuleStage::of_calls(&[rule(CorrelationRule::TriedAgain, retry::tried_again)]);
const CONSULTATION: RuleStage = RuleStage::of_calls(&[rule(CorrelationRule::Consultation, heuristic::consultation)]);
const NUMBERS: RuleStage = RuleStage::of_calls(&[rule(CorrelationRule::AgreeingNumbers, agreeing::agreeing_numbers)]);

impl RuleStage {
    const fn of_every_leg(rules: &'static [LegRule]) -> Self {
        Self { rules, ties: None, scope: StageScope::EveryLeg }
    }

    const fn of_calls(rules: &'static [LegRule]) -> Self {
        Self { rules, ties: None, scope: StageScope::Calls }
    }

    fn choose(&self, question: &LegQuestion<'_>) -> CallChoice {
        if self.scope == StageScope::Calls && question.is_recording_session() {
            return CallChoice::Nothing;
        }
        let choice = CallChoice::between(self.rules.iter().flat_map(|rule| rule.evidence(question)).collect());
        match &self.ties {
            Some(TieRule { name, prefer }) => {
                choice.prefer(|evidence| Some(Evidence::about_call(*name, prefer(question, evidence)?)))
            }
            None => choice,
        }
    }
}

impl LegQuestion<'_> {
    /// Asks the stages (sets of rules) in order. Returns the choice of the first stage that has evidence.
    pub(super) fn ask(&self, stages: &[&RuleStage]) -> CallChoice {
        let mut choices = stages.iter().map(|stage| stage.choose(self));
        choices.find(|choice| *choice != CallChoice::Nothing).unwrap_or(CallChoice::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules that are in none of the lists. Other code applies them, e.g. after a REFER or at the end of a call.
    const UNLISTED: &[CorrelationRule] = &[
        CorrelationRule::MachinePair,
        CorrelationRule::LateCause,
        CorrelationRule::Ambiguous,
        CorrelationRule::TooManyLegs,
        CorrelationRule::ReferReplaces,
        CorrelationRule::MediaContent,
        CorrelationRule::Survives,
        CorrelationRule::OtherSound,
        CorrelationRule::Continues,
    ];

    fn asked_of_new_legs() -> Vec<CorrelationRule> {
        let stages = [SIGNALLING_STAGES, HOST_STAGES, LAST_STAGES].concat();
        let of_stages = stages.iter().flat_map(|stage| {
            let ties = stage.ties.iter().map(|ties| ties.name);
            stage.rules.iter().map(|rule| rule.name).chain(ties).collect::<Vec<_>>()
        });
        let mut asked: Vec<CorrelationRule> = of_stages.collect();
        asked.extend(RELATING_RULES.iter().map(|rule| rule.name));
        let mut seen = std::collections::HashSet::new();
        asked.retain(|rule| seen.insert(*rule));
        asked
    }

    /// Returns the rules in `docs/correlation.md` in the order of that document, each with the events after which it is
    /// asked.
    fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
        let page = include_str!("../../../docs/correlation.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().trim_end_matches('`')).collect::<Vec<_>>());
        cells.filter(|cells| cells.len() > 3).map(|cells| (cells[0], cells[2].split(", ").collect())).collect()
    }

    #[test]
    fn page_and_names_have_the_order_in_which_rules_are_asked() {
        let asked = asked_of_new_legs();
        let named: Vec<CorrelationRule> = CorrelationRule::ALL.iter().filter(|r| asked.contains(r)).copied().collect();
        assert_eq!(named, asked, "CorrelationRule::ALL");
        let rows = rows().into_iter().map(|(name, _)| name);
        let on_page: Vec<&str> = rows.filter(|name| asked.iter().any(|rule| rule.as_str() == *name)).collect();
        let asked: Vec<&str> = asked.iter().map(|rule| rule.as_str()).collect();
        assert_eq!(on_page, asked, "docs/correlation.md");
    }

    #[test]
    fn every_rule_is_listed_with_the_moment_of_the_page() {
        let of_new_legs = asked_of_new_legs();
        let rows = rows();
        for rule in CorrelationRule::ALL {
            let (_, moments) = rows.iter().find(|(name, _)| *name == rule.as_str()).expect("the page has every rule");
            let open = OPEN_LEG_RULES.iter().find(|open| open.name == *rule);
            assert!(
                of_new_legs.contains(rule) || open.is_some() || UNLISTED.contains(rule),
                "{rule} is in no list of rules"
            );
            assert!(!of_new_legs.contains(rule) || moments.contains(&"I"), "{rule} is asked about a new leg");
            if let Some(open) = open {
                let letters = open.moment.letters();
                assert!(moments.iter().all(|moment| letters.contains(moment)), "{rule} is asked at {letters:?}");
            }
        }
    }
}
