//! Heuristic correlation: finds the call of a leg by numbers, hosts and times. Only an unambiguous match joins a leg.

use crate::call::correlate::Correlator;
use crate::call::correlation_keys::{LegSignature, MatchStrength, PAIR_WINDOW, RING_BURST, hosts_meet, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::CallKey;
use crate::call::leg::Leg;
use crate::time::Timestamp;

/// Result of the heuristic rules for a new leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeuristicMatch {
    /// No call matches.
    None,
    /// Exactly one call matches, by this rule.
    Unique((CallKey, CorrelationRule)),
    /// Several calls match. The first is the likeliest; one of the others is right if the leg turns out to be a telephone
    /// that joined the ringing late.
    Preferred(CallKey, Vec<CallKey>),
    /// Several calls match and none is preferred, so the leg joins none.
    Ambiguous(Vec<CallKey>),
}

impl HeuristicMatch {
    /// Makes a match from all matching calls. A call may be listed several times; its first rule counts.
    pub(crate) fn from_calls(calls: impl Iterator<Item = (CallKey, CorrelationRule)>) -> Self {
        let mut calls: Vec<(CallKey, CorrelationRule)> = calls.collect();
        calls.sort_by_key(|(call, _)| *call);
        calls.dedup_by_key(|(call, _)| *call);
        match calls.as_slice() {
            [] => Self::None,
            [only] => Self::Unique(*only),
            _ => Self::Ambiguous(calls.into_iter().map(|(call, _)| call).collect()),
        }
    }
}

/// A look-up of the call to which a leg belongs, as of one moment.
///
/// Messages are captured out of order. So timestamps decide which calls were answered or had ended at that moment.
#[derive(Clone, Copy)]
pub(crate) struct HeuristicQuery<'a> {
    /// Facts on which the look-up decides.
    pub(crate) correlator: Correlator<'a>,
    /// Signature of the leg whose call is looked up.
    pub(crate) signature: &'a LegSignature<'a>,
    /// Moment of the look-up.
    pub(crate) at: Timestamp,
}

impl HeuristicQuery<'_> {
    /// Returns the match among the calls of these candidate legs. Legs that had ended by then do not count.
    pub(crate) fn find_match(&self, legs: &[&Leg]) -> HeuristicMatch {
        let is_candidate = |l: &&Leg| hosts_meet(self.signature.hop, l.machines()) && l.lived_at(self.at);
        let legs: Vec<&Leg> = legs.iter().copied().filter(is_candidate).collect();
        match self.onward_or_waiting(&legs) {
            HeuristicMatch::None => self.click_to_call(&legs),
            HeuristicMatch::Ambiguous(calls) => match self.newest_unserved(&calls) {
                Some(newest) => HeuristicMatch::Preferred(newest, calls.into_iter().filter(|c| *c != newest).collect()),
                None => HeuristicMatch::Ambiguous(calls),
            },
            unique => unique,
        }
    }

    /// Matches the calls for which the PBX may have sent the leg onward. Calls with both numbers are preferred to calls
    /// with one number and to waiting callers.
    fn onward_or_waiting(&self, legs: &[&Leg]) -> HeuristicMatch {
        let strengths: Vec<(MatchStrength, &Leg)> = legs.iter().map(|l| (self.onward_strength(l), *l)).collect();
        let with = |wanted: MatchStrength| {
            let found = strengths.iter().filter(move |(s, _)| *s == wanted);
            found.map(move |(_, l)| (l.call(), self.onward_rule(wanted, l)))
        };
        let unless_ringing = |calls: &mut dyn Iterator<Item = (CallKey, CorrelationRule)>| {
            HeuristicMatch::from_calls(calls.filter(|(c, _)| !self.already_ringing(*c)))
        };
        if let Some(found) = self.another_device(&strengths) {
            return HeuristicMatch::Unique(found);
        }
        match unless_ringing(&mut with(MatchStrength::BothNumbers)) {
            HeuristicMatch::None => {
                // A caller who has waited for longer matches no less than one who has just called.
                let waiting = legs.iter().filter_map(|l| Some((l.call(), self.waiting_rule(l)?)));
                unless_ringing(&mut with(MatchStrength::OneNumber).chain(waiting))
            }
            both => both,
        }
    }

    /// Matches the only call that explains the leg, if its telephone number rings already and the leg rings another device.
    fn another_device(&self, strengths: &[(MatchStrength, &Leg)]) -> Option<(CallKey, CorrelationRule)> {
        let explains = |(strength, leg): &&(MatchStrength, &Leg)| {
            *strength > MatchStrength::None || self.waiting_rule(leg).is_some()
        };
        let calls = strengths.iter().filter(explains).map(|(_, l)| (l.call(), CorrelationRule::AnotherDevice));
        let HeuristicMatch::Unique((call, rule)) = HeuristicMatch::from_calls(calls) else { return None };
        let is_device = self
            .correlator
            .table
            .legs_of(call)
            .any(|l| l.lived_at(self.at) && self.signature.is_another_device_of(&l.signature()));
        is_device.then_some((call, rule))
    }

    /// Returns the rule by which the leg continues an older leg with this strength.
    fn onward_rule(&self, strength: MatchStrength, leg: &Leg) -> CorrelationRule {
        match strength {
            MatchStrength::BothNumbers => CorrelationRule::OnwardBoth,
            _ if self.signature.is_hairpin_of(&leg.signature()) => CorrelationRule::Hairpin,
            _ if self.signature.is_diverted_from(&leg.signature()) => CorrelationRule::Diverted,
            _ => CorrelationRule::OnwardOne,
        }
    }

    /// Returns how strongly the leg continues an older leg. A later leg that is still unexplained may be the cause of this
    /// leg instead.
    fn onward_strength(&self, leg: &Leg) -> MatchStrength {
        let other = leg.signature();
        let as_cause = if self.correlator.is_unexplained(leg.call()) {
            other.onward_strength(self.signature)
        } else {
            MatchStrength::None
        };
        self.signature.onward_strength(&other).max(as_cause)
    }

    /// Returns the one of several matching calls that came just now and for which the PBX has called nobody yet.
    ///
    /// All other calls must have been served before it came: their telephones ring, since a PBX rings a whole group at
    /// once, and none of these legs has ended.
    fn newest_unserved(&self, calls: &[CallKey]) -> Option<CallKey> {
        let call = |c: &CallKey| self.correlator.table.call(*c);
        let mut unserved = calls.iter().filter(|c| call(c).is_some_and(|call| call.legs().len() == 1));
        let (newest, None) = (unserved.next()?, unserved.next()) else { return None };
        let came_at = call(newest)?.created_at;
        let is_served = |c: &CallKey| {
            let rung = call(c).into_iter().flat_map(|call| call.legs().iter().skip(1));
            rung.filter_map(|s| self.correlator.table.leg(*s))
                .all(|l| l.lived_at(self.at) && l.created_at + RING_BURST <= came_at)
        };
        let just_now = self.signature.at.since(came_at) <= PAIR_WINDOW;
        (just_now && calls.iter().filter(|c| *c != newest).all(is_served)).then_some(*newest)
    }

    /// Returns the rule by which the new leg is for the caller of an older leg, who waits at the PBX and hears no person.
    ///
    /// The caller may hear ringback, music or nothing. Missing responses to the older leg do not count against it, because
    /// they may be captured late.
    fn waiting_rule(&self, leg: &Leg) -> Option<CorrelationRule> {
        let other = leg.signature();
        let is_next_trunk = || self.signature.is_next_trunk_for(&other) && self.all_attempts_failed(leg);
        let rule = if self.signature.is_for_waiting_caller_of(&other) {
            CorrelationRule::ForWaitingCaller
        } else if is_next_trunk() {
            CorrelationRule::NextTrunk
        } else {
            return None;
        };
        self.hears_nobody(leg).then_some(rule)
    }

    /// Returns whether the PBX already called outside numbers for the extension of this leg, and all attempts failed.
    fn all_attempts_failed(&self, leg: &Leg) -> bool {
        let is_ours = |number: &Option<String>| number.as_deref().is_some_and(|n| self.correlator.plan.is_extension(n));
        let mut others = self.correlator.table.legs_of(leg.call()).filter(|l| l.id != leg.id).peekable();
        is_ours(&leg.parties.from)
            && !is_ours(&leg.parties.to)
            && others.peek().is_some()
            && others.all(|l| !l.lived_at(self.at) && l.dialog.answered.is_none())
    }

    /// Matches the first leg of a click-to-call: the PBX called an extension, which now waits for the number to be called.
    ///
    /// If the first leg names no caller, it could belong to any call. Then it matches only if no other caller waits for
    /// the PBX to call out.
    fn click_to_call(&self, legs: &[&Leg]) -> HeuristicMatch {
        let clicked = |l: &Leg| (l.call(), CorrelationRule::ClickToCall);
        let named = HeuristicMatch::from_calls(legs.iter().filter(|l| self.is_click_to_call(l)).map(|l| clicked(l)));
        if named != HeuristicMatch::None || self.signature.to.is_none_or(|to| self.correlator.plan.is_extension(to)) {
            return named;
        }
        let nameless = self.correlator.table.correlation().nameless_calls_of(self.signature.hop.0).iter();
        let nameless = nameless.filter_map(|s| self.correlator.table.leg(*s));
        let nameless = nameless.filter(|l| l.lived_at(self.at) && self.is_click_to_call(l));
        match HeuristicMatch::from_calls(nameless.map(clicked)) {
            HeuristicMatch::Unique((only, _)) if self.correlator.somebody_calls_out(self.signature) => {
                HeuristicMatch::Ambiguous(vec![only])
            }
            found => found,
        }
    }

    /// Returns whether the call already has a live leg from the same host to the same telephone and number. A further
    /// leg to that telephone belongs to another call.
    fn already_ringing(&self, conversation: CallKey) -> bool {
        self.correlator.table.legs_of(conversation).any(|leg| {
            let other = leg.signature();
            leg.lived_at(self.at)
                && other.hop.0.same_host(self.signature.hop.0)
                && other.hop.1 == self.signature.hop.1
                && (same_number(other.to, self.signature.to) || other.to.or(self.signature.to).is_none())
        })
    }

    /// Returns whether the caller of this leg hears no person: no other live leg of the call is answered.
    fn hears_nobody(&self, leg: &Leg) -> bool {
        let is_talking = |l: &Leg| l.id != leg.id && l.answered_by(self.at) && l.lived_at(self.at);
        !self.correlator.table.legs_of(leg.call()).any(is_talking)
    }

    /// Returns whether `leg` is the first leg of a click-to-call, answered just now, and the new leg is its second.
    fn is_click_to_call(&self, leg: &Leg) -> bool {
        let is_lone = self.correlator.table.is_lone(leg.call());
        let just_answered = leg.dialog.answered.is_some_and(|(at, _)| self.signature.at.since(at) <= PAIR_WINDOW);
        is_lone && just_answered && self.signature.is_click_to_call_after(&leg.signature())
    }
}

impl Correlator<'_> {
    /// Returns the call to which a consultation leg is related: the only call in which the leg's caller talks.
    ///
    /// The caller is an extension that makes a second call, itself or by a feature code. Or it is an outside party, for
    /// whom the PBX calls while the party talks to somebody else.
    pub(super) fn consultation(&self, legs: &[&Leg], signature: &LegSignature<'_>) -> Option<CallKey> {
        let from_extension = signature.from.is_some_and(|from| self.plan.is_extension(from));
        let is_talking = |l: &&&Leg| {
            let other = l.signature();
            l.dialog.answered.is_some()
                && if from_extension {
                    signature.is_second_call_of(&other)
                } else {
                    signature.is_for_waiting_caller_of(&other)
                }
        };
        let talking = legs.iter().filter(is_talking).map(|l| (l.call(), CorrelationRule::Consultation));
        match HeuristicMatch::from_calls(talking) {
            HeuristicMatch::Unique((conversation, _)) => Some(conversation),
            _ => None,
        }
    }

    /// Returns whether a call is one leg whose cause is unknown and open to the heuristic rules.
    pub(super) fn is_unexplained(&self, conversation: CallKey) -> bool {
        self.table.call(conversation).is_some_and(|c| c.legs().len() == 1 && !c.closed_to_heuristics)
    }

    /// Returns whether another caller waits at the PBX for an outgoing call: its leg is unanswered and the only leg of
    /// its call. Scans all legs, but only when a click-to-call without a caller's name is suspected.
    fn somebody_calls_out(&self, signature: &LegSignature<'_>) -> bool {
        let is_lone = |c: CallKey| self.table.is_lone(c);
        self.table.legs().any(|(_, l)| {
            l.dialog.ended().is_none()
                && l.dialog.answered.is_none()
                && l.machines().1.same_host(signature.hop.0)
                && is_lone(l.call())
        })
    }
}
