//! Decisions about a leg that already belongs to a call. The leg can move to another call, be confirmed in its call, or
//! become a call of its own.

use crate::call::correlate::evidence::{CallChoice, Evidence};
use crate::call::correlate::rule_list::OPEN_LEG_RULES;
use crate::call::correlate::{Command, Correlator};
use crate::call::correlation_rule::{CorrelationRule, EvidenceStrength};
use crate::call::decision::AnsweredElsewhere;
use crate::call::keys::LegKey;
use crate::call::leg::Leg;

/// A leg that already belongs to a call, and about which rules are asked again.
pub(super) struct OpenLeg<'a> {
    /// The call table and the knowledge about the site, from which the correlation rules decide.
    pub(super) correlator: Correlator<'a>,
    /// Key of the leg in the call table.
    pub(super) key: LegKey,
    /// The leg about which the rules are asked.
    pub(super) leg: &'a Leg,
}

/// Event in the life of a leg after which rules are asked about it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LegMoment {
    /// The leg may have announced new media addresses in a session description.
    Announced,
    /// The leg was answered, or has ended.
    AnsweredOrEnded,
    /// Some time has passed since the leg was answered or ended. By now the reaction of the PBX (e.g. an answer to the
    /// caller) was captured.
    Reviewed,
    /// An ambiguous leg (it could belong to several calls) has stopped ringing.
    Resolved,
}

impl LegMoment {
    /// Returns the letters that stand for this event in `docs/correlation.md`.
    #[cfg(test)]
    pub(super) const fn letters(self) -> &'static [&'static str] {
        match self {
            Self::Announced => &["M"],
            Self::AnsweredOrEnded => &["A", "R"],
            Self::Reviewed | Self::Resolved => &["A", "R", "T"],
        }
    }
}

impl Correlator<'_> {
    /// Asks the rules for this event about a leg that belongs to a call. Returns the commands that follow.
    pub(crate) fn decide_leg(&self, key: LegKey, moment: LegMoment) -> Vec<Command> {
        let Some(leg) = self.table.leg(key) else { return Vec::new() };
        let subject = OpenLeg { correlator: *self, key, leg };
        let rules = OPEN_LEG_RULES.iter().filter(|rule| rule.moment == moment);
        rules.flat_map(|rule| self.decide_open(&subject, rule.evidence(&subject))).collect()
    }

    /// Returns the commands that follow from the evidence of one correlation rule, e.g. to move the leg to another
    /// call.
    fn decide_open(&self, subject: &OpenLeg<'_>, evidence: Vec<Evidence>) -> Vec<Command> {
        let (own, leg) = (subject.leg.call(), subject.key);
        if evidence.iter().any(|e| e.strength == EvidenceStrength::Contradiction && e.call == own) {
            return self.split_weak_leg(leg, subject.leg);
        }
        let is_ambiguous = subject.leg.join.is_ambiguous();
        let is_separate = is_ambiguous && self.is_root(subject.leg);
        match CallChoice::between(evidence) {
            CallChoice::Join(e) if e.call == own && subject.leg.join.is_provisional() => {
                vec![Command::Confirm { leg, by: e.rule }]
            }
            CallChoice::Nothing => Vec::new(),
            CallChoice::Join(e) if e.call == own => Vec::new(),
            CallChoice::Join(e) if is_separate && e.rule == CorrelationRule::RingOutcome => {
                let join = self.join_calls(e.call, own, e.rule);
                let machine = self.other_address(e.call, subject.leg).filter(|_| matches!(join, Command::Merge { .. }));
                let alias = machine.map(|machine| Command::SetSendingMachine { leg, machine });
                [join].into_iter().chain(alias).collect()
            }
            CallChoice::Join(e) if is_ambiguous && e.rule == CorrelationRule::RingOutcome => {
                vec![Command::Move { legs: self.hops_of(subject.leg), into: e.call, by: e.rule }]
            }
            // If the leg is alone in its call already, its call is only related to the calls to which it could belong.
            // The leg does not move.
            CallChoice::Ambiguous(_) | CallChoice::Prefer(..) | CallChoice::Relate(_) if is_separate => Vec::new(),
            CallChoice::Ambiguous(_) | CallChoice::Prefer(..) => vec![self.split_ambiguous_leg(subject)],
            CallChoice::Relate(found) if found.iter().any(|e| e.rule == CorrelationRule::Ambiguous) => {
                vec![self.split_ambiguous_leg(subject)]
            }
            CallChoice::Join(e) if e.rule == CorrelationRule::BothMedia => self.join_past_machines(subject, e),
            CallChoice::Join(e) => vec![self.join_calls(e.call, own, e.rule)],
            CallChoice::Relate(found) => self.relate_open(subject, &found),
        }
    }

    fn split_ambiguous_leg(&self, subject: &OpenLeg<'_>) -> Command {
        let alternatives = self.live_alternatives(subject.leg);
        Command::Split { legs: self.hops_of(subject.leg), why: CorrelationRule::Ambiguous, alternatives }
    }

    /// Returns the commands that relate the call of an answered leg to the calls that this leg may have picked up. If
    /// there is only one such call, it is also marked as answered by this leg's party.
    fn relate_open(&self, subject: &OpenLeg<'_>, found: &[Evidence]) -> Vec<Command> {
        let a = subject.leg.call();
        let mut commands: Vec<Command> = found.iter().map(|e| Command::Relate { a, b: e.call, why: e.rule }).collect();
        if let ([only], Some((at, _))) = (found, subject.leg.dialog.answered)
            && let Some(extension) = subject.taken_by(only.rule)
        {
            let by = AnsweredElsewhere { at, extension, direction: None };
            commands.push(Command::MarkAnsweredElsewhere { call: only.call, by });
        }
        commands
    }
}
