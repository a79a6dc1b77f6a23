//! The rule `agreeing_numbers`: joins two legs that share no host.
//!
//! A PBX or border controller with one address for the provider and another for the telephones produces two legs
//! without a common host. So does a cluster of nodes. No header, host or media address links the two legs. So the rule
//! requires that both legs begin within half a second, that their numbers agree, and that only one call fits.
//!
//! The join is weak. It is reviewed when the leg is answered and when it ends. If the two legs were answered or ended
//! at different times, the join is undone.

use std::time::Duration;

use crate::call::correlate::ambiguous::PBX_REACTION;
use crate::call::correlate::evidence::Evidence;
use crate::call::correlate::open_leg::OpenLeg;
use crate::call::correlate::question::LegQuestion;
use crate::call::correlate::{Command, Correlator};
use crate::call::correlation_keys::{
    CLOCK_SKEW, END_WINDOW, LegSignature, MatchStrength, PAIR_WINDOW, RING_BURST, has_digits, same_number,
};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// Two addresses that count as one machine, e.g. one PBX, within a call. The machine received one leg at one address
/// and sent another leg from the other address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MachineAlias {
    /// The machine (e.g. the PBX) sent the new leg from one address. On another leg of the call it has the address in
    /// this value.
    OfDraft(Endpoint),
    /// The machine (e.g. the PBX) sent the leg with this key from one address. On the new leg it has the address in
    /// this value.
    OfLeg(LegKey, Endpoint),
}

impl MachineAlias {
    /// Returns the command that records these two addresses. `draft` is the key of the new leg, if the engine has added
    /// it to the call table already.
    pub(super) const fn command(self, draft: LegKey) -> Command {
        match self {
            Self::OfDraft(machine) => Command::SetSendingMachine { leg: draft, machine },
            Self::OfLeg(leg, machine) => Command::SetSendingMachine { leg, machine },
        }
    }
}

/// Whether the new leg caused a candidate leg, or the reverse. A leg *causes* another leg if a PBX or proxy receives
/// the first and then sends the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CauseOrder {
    /// The candidate leg caused the new leg.
    CandidateFirst,
    /// The new leg caused the candidate leg, although the candidate leg was captured first.
    DraftFirst,
}

/// A candidate leg with the same numbers as the new leg.
#[derive(Clone, Copy)]
struct AgreeingLeg<'a> {
    slot: LegKey,
    leg: &'a Leg,
    order: CauseOrder,
    strength: MatchStrength,
}

/// Returns the evidence of the rule `agreeing_numbers`: calls with the same numbers as the new leg. The rule is asked
/// only if no other rule explains the new leg.
///
/// If both numbers of a call equal the numbers of the new leg, calls with only one equal number are not returned. All
/// outbound calls of a site may have the same caller's number, so that number alone proves little.
pub(super) fn agreeing_numbers(question: &LegQuestion<'_>) -> Vec<Evidence> {
    let legs: Vec<AgreeingLeg<'_>> = question.correlator.agreeing_legs(&question.signature).collect();
    let strongest = legs.iter().map(|found| found.strength).max();
    let legs = legs.iter().filter(|found| Some(found.strength) == strongest);
    legs.map(|found| Evidence::about_leg(CorrelationRule::AgreeingNumbers, found.leg.call(), found.slot)).collect()
}

/// Result of comparing a weakly joined leg (by numbers alone) with the leg that caused it: were both answered, or
/// ended, at the same time?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MomentComparison {
    /// Both legs were answered at the same time, or both ended at the same time.
    Together,
    /// Only the leg that numbers alone had joined was answered. Or it ended at another time than the leg that caused
    /// it.
    Alone,
    /// It is not known yet: the leg was not answered, or more time must pass.
    Open,
}

/// Returns the evidence of the rule `same_moments`: the leg was answered or ended together with the leg that caused it.
/// This confirms a join by numbers alone.
pub(super) fn same_moments(subject: &OpenLeg<'_>) -> Vec<Evidence> {
    let is_together = subject.correlator.compare_moments(subject.leg) == MomentComparison::Together;
    let evidence = Evidence::about_call(CorrelationRule::SameMoments, subject.leg.call());
    is_together.then_some(evidence).into_iter().collect()
}

/// Returns the evidence of the rule `moments_disagree`: the leg was answered or ended at another time than the leg that
/// caused it. This undoes a join by numbers alone.
pub(super) fn moments_disagree(subject: &OpenLeg<'_>) -> Vec<Evidence> {
    let is_alone = subject.correlator.compare_moments(subject.leg) == MomentComparison::Alone;
    let evidence = Evidence::about_call(CorrelationRule::MomentsDisagree, subject.leg.call());
    is_alone.then_some(evidence).into_iter().collect()
}

impl Correlator<'_> {
    /// Returns two addresses that belong to one machine, for a new leg that numbers alone join to `call`. The machine
    /// received a leg of `call` at one address and sent the new leg from the other address, or the reverse.
    pub(super) fn agreeing_alias(&self, signature: &LegSignature<'_>, call: CallKey) -> Option<MachineAlias> {
        let found = self.agreeing_legs(signature).filter(|found| found.leg.call() == call);
        // If several candidate legs match equally well, each shows the same machine. So any of them may be used;
        // `max_by_key` takes the last.
        let AgreeingLeg { slot, leg, order, .. } = found.max_by_key(|found| found.strength)?;
        let is_beside = self.rings_same_extension(leg, signature);
        Some(if is_beside { MachineAlias::OfDraft(leg.machines().0) } else { alias_of(slot, leg, order, signature) })
    }

    /// Returns whether the new leg rings another telephone of the extension that a leg of the call rings for the same
    /// outside caller. So neither leg caused the other, although both numbers agree.
    fn rings_same_extension(&self, leg: &Leg, signature: &LegSignature<'_>) -> bool {
        leg.join.is_provisional()
            && !signature.from_extension
            && self.plan.names_extension(signature.to)
            && same_number(signature.to, leg.parties.to.as_deref())
            && signature.at.distance(leg.created_at) <= RING_BURST
    }

    /// Returns two addresses of one machine, if a header joins the new leg to `call`. The machine received a leg of
    /// `call` and sent the new leg, or the reverse. Returns `None` if the new leg shares a host with this call, or if
    /// no leg of the call fits.
    pub(super) fn alias_of_header(&self, call: CallKey, signature: &LegSignature<'_>) -> Option<MachineAlias> {
        let legs: Vec<&Leg> = self.table.legs_of(call).collect();
        if legs.iter().any(|leg| shares_host(signature, leg)) {
            return None;
        }
        let age = |leg: &&Leg| (leg.created_at, leg.id);
        let causes: Vec<&Leg> = legs.iter().copied().filter(|leg| self.may_lead_to(leg, signature, &legs)).collect();
        // The caller's call may have passed other machines before the PBX, e.g. a border controller. Then it has
        // several legs, and the last of them caused the new leg.
        let is_last = |leg: &&Leg| !causes.iter().any(|other| other.machines().0.same_host(leg.machines().1));
        if let Some(cause) = causes.iter().copied().filter(is_last).max_by_key(age) {
            return Some(MachineAlias::OfDraft(cause.machines().1));
        }
        let keys = self.table.keys_of(call).iter().filter_map(|key| Some((*key, self.table.leg(*key)?)));
        let effects = keys.filter(|(_, leg)| self.may_follow(leg, signature, &legs));
        if let Some((effect, _)) = effects.min_by_key(|(_, leg)| age(leg)) {
            return Some(MachineAlias::OfLeg(effect, signature.hop.1));
        }
        // If no leg of the caller was captured, one PBX may have sent all legs of the call, each from another of its
        // addresses. So the new leg counts as sent by the machine that rings the other telephones.
        let rings = |leg: &&&Leg| self.plan.names_extension(signature.to) && self.rings_telephone(leg, &legs);
        let rung = legs.iter().filter(rings).filter(|leg| signature.at.distance(leg.created_at) <= RING_BURST);
        rung.copied().min_by_key(age).map(|leg| MachineAlias::OfDraft(leg.machines().0))
    }

    /// Returns whether a leg of a call may lead to the new leg, although the two share no host. `legs` are all legs of
    /// the call.
    ///
    /// If an extension is the caller of the new leg, the leg begins at a telephone. Then only a leg with an extension
    /// as caller may lead to it.
    fn may_lead_to(&self, leg: &Leg, signature: &LegSignature<'_>, legs: &[&Leg]) -> bool {
        let from = leg.parties.from.as_deref();
        let begins_there = self.plan.names_extension(signature.from) && !self.plan.names_extension(from);
        leg.created_at <= signature.at + CLOCK_SKEW && !begins_there && !self.rings_telephone(leg, legs)
    }

    /// Returns whether the new leg may have caused a leg of a call, although the two share no host. The leg of the call
    /// may have been captured before the new leg, or a moment later. It must have no cause in its own call.
    fn may_follow(&self, leg: &Leg, signature: &LegSignature<'_>, legs: &[&Leg]) -> bool {
        let (from, to) = (leg.parties.from.as_deref(), leg.parties.to.as_deref());
        let is_ours = |number: Option<&str>| self.plan.names_extension(number);
        let is_near = leg.created_at + CLOCK_SKEW >= signature.at;
        let is_same = same_number(signature.to, to);
        let ends_there = is_ours(signature.to) && !(is_same && is_ours(signature.from));
        let begins_there = is_ours(from) && !is_ours(signature.from);
        let is_free = leg.machines().0.same_host(leg.dialog.caller_addr) && !has_cause(leg, legs);
        is_near && is_free && !ends_there && !begins_there && (is_same || is_ours(to))
    }

    /// Returns whether a leg of a call ends at a telephone that the PBX rings. `legs` are all legs of the call.
    ///
    /// Returns true for a leg to a known telephone, and usually for a leg to an extension. Returns false if the leg
    /// brings the call to the PBX: an extension or a provider sent it, or a known PBX receives it.
    fn rings_telephone(&self, leg: &Leg, legs: &[&Leg]) -> bool {
        let (sender, receiver) = leg.machines();
        let comes_from_party = || leg.parties.is_from_extension() || self.plan.is_outside_host(sender);
        let brings_call = self.plan.is_pbx(receiver) || comes_from_party() && !has_cause(leg, legs);
        self.plan.is_phone(receiver) || self.plan.names_extension(leg.parties.to.as_deref()) && !brings_call
    }

    fn agreeing_legs<'a>(&'a self, signature: &'a LegSignature<'a>) -> impl Iterator<Item = AgreeingLeg<'a>> {
        self.table.correlation().legs_with_any(signature.numbers()).into_iter().filter_map(move |slot| {
            let leg = self.table.leg(slot).filter(|leg| leg.lived_at(signature.at))?;
            let orders = self.agreement(leg, signature).into_iter().flatten();
            let mut found = orders.map(|(order, strength)| AgreeingLeg { slot, leg, order, strength });
            found.find(|found| self.is_open_to_numbers(found, signature))
        })
    }

    /// Returns whether `cause` may have caused `effect` by their times and numbers, although they share no host.
    pub(super) fn may_have_caused_by_numbers(&self, cause: &Leg, effect: &Leg) -> bool {
        self.strength_by_numbers(cause, effect) > MatchStrength::None
    }

    /// Returns how well times and numbers show that `cause` has caused `effect`, although they share no host.
    pub(super) fn strength_by_numbers(&self, cause: &Leg, effect: &Leg) -> MatchStrength {
        let found = self.agreement(cause, &effect.signature()).into_iter().flatten();
        let as_cause = found.filter(|(order, _)| *order == CauseOrder::CandidateFirst).map(|(_, strength)| strength);
        as_cause.max().unwrap_or(MatchStrength::None)
    }

    /// Compares the new leg with a candidate leg by times, hosts and numbers. Returns which of the two may have caused
    /// the other, and how well their numbers agree.
    ///
    /// If both were sent at almost the same time, each may have caused the other. Then the result has two entries.
    fn agreement(&self, leg: &Leg, signature: &LegSignature<'_>) -> [Option<(CauseOrder, MatchStrength)>; 2] {
        let other = leg.signature();
        let asked_at = other.asked_before(signature.at);
        let apart = signature.at.distance(asked_at);
        if apart > AGREEING_WINDOW || shares_host(signature, leg) || leg.dialog.call_id() == signature.call_id {
            return [None; 2];
        }
        // A number that a host has registered may be the number of a trunk, and the host a PBX that passes calls on.
        let is_extension = |number: Option<&str>| {
            number.is_some_and(|n| self.plan.is_extension(n) && self.plan.trunk_registrant(n).is_none())
        };
        // A leg to an extension ends at the telephone, so it causes no further leg. A leg from an extension begins at
        // the telephone, so no other leg caused it.
        let follows = |effect: &LegSignature<'_>, cause: &LegSignature<'_>| {
            let strength = self.number_agreement(effect, cause);
            let ends_there = is_extension(cause.to) && !self.is_passed_to_short_number(effect, cause);
            let begins_there = is_extension(effect.from) && !is_extension(cause.from);
            // In an internal call through several PBXs, all legs have the same two extensions as numbers. Then a telephone
            // behind a NAT shows where the call begins or ends.
            let has_telephone_between = || {
                is_extension(cause.to) && self.is_telephone(cause.hop.1)
                    || is_extension(effect.from) && self.sends_from_telephone(effect)
            };
            let leads_on = match strength {
                MatchStrength::BothNumbers => !has_telephone_between(),
                _ => !(ends_there || begins_there),
            };
            let machines = [cause.hop.1, effect.hop.0];
            (leads_on && !machines.iter().any(|m| self.plan.is_phone(*m))).then_some(strength)
        };
        let in_order = signature.at >= asked_at;
        let after = follows(signature, &other).filter(|s| *s > MatchStrength::None);
        let before = follows(&other, signature).filter(|s| *s > MatchStrength::None);
        let is_close = apart <= CLOCK_SKEW;
        [
            after.filter(|_| in_order || is_close).map(|strength| (CauseOrder::CandidateFirst, strength)),
            before.filter(|_| !in_order || is_close).map(|strength| (CauseOrder::DraftFirst, strength)),
        ]
    }

    /// Returns whether `effect` passes an extension's call on to a short outside number at a provider, e.g. an emergency
    /// number.
    fn is_passed_to_short_number(&self, effect: &LegSignature<'_>, cause: &LegSignature<'_>) -> bool {
        (same_number(effect.to, cause.to) || effect.is_short_number_for(cause))
            && cause.from_extension
            && !effect.from_extension
            && !self.plan.is_outside_host(cause.hop.0)
            && self.plan.is_short_number_at(effect.to, effect.hop.1)
    }

    /// Returns whether the caller of a leg is a short outside number, e.g. of a bank. A provider sent the leg.
    fn is_from_short_number(&self, leg: &LegSignature<'_>) -> bool {
        self.plan.is_short_number_at(leg.from, leg.hop.0)
    }

    /// Returns how well the numbers of two legs agree, if the legs have no host in common.
    ///
    /// If both callers are outside numbers, these must be equal. If only one caller is an extension, equal called
    /// numbers are enough, because a PBX replaces the extension's number by an outside number.
    fn number_agreement(&self, effect: &LegSignature<'_>, cause: &LegSignature<'_>) -> MatchStrength {
        let to = same_number(effect.to, cause.to) || self.reaches_short_number(effect, cause);
        let from = effect.has_callers_number_of(cause);
        let one = match (from, to) {
            (true, true) => return MatchStrength::BothNumbers,
            (true, false) => !(cause.from_extension || effect.from_extension) || self.is_from_short_number(cause),
            (false, true) => has_digits(effect.to) && cause.from_extension != effect.from_extension,
            (false, false) => false,
        };
        if one { MatchStrength::OneNumber } else { MatchStrength::None }
    }

    /// Returns whether the rule `agreeing_numbers` may join the new leg to this candidate leg. Returns false if an
    /// event has announced the candidate's call, or if another rule already explains the candidate.
    fn is_open_to_numbers(&self, found: &AgreeingLeg<'_>, signature: &LegSignature<'_>) -> bool {
        let leg = found.leg;
        let Some(call) = self.table.call(leg.call()) else { return false };
        if !self.may_still_be_joined(leg.call(), CorrelationRule::AgreeingNumbers) {
            return false;
        }
        let others = || call.legs().iter().filter_map(|s| self.table.leg(*s)).filter(|l| l.id != leg.id);
        if found.order == CauseOrder::DraftFirst {
            return self.causes_of(leg).next().is_none() && self.is_unexplained(leg);
        }
        if found.strength == MatchStrength::OneNumber
            && signature.has_caller_of(&leg.signature())
            && others().any(|l| l.parties.is_from_extension())
            && !self.is_from_short_number(&leg.signature())
        {
            // An extension made this call, and the new leg calls another number. Both show the same caller's number,
            // which may be the number of the whole site. So the new leg does not join.
            return false;
        }
        // The machine that received the candidate leg may have passed that call on already. The new leg may then join
        // only if every leg that this machine sent belongs to the same ring group as the new leg.
        others().filter(|l| l.machines().0.same_host(leg.machines().1)).all(|l| {
            l.join.by() == Some(CorrelationRule::AgreeingNumbers)
                && l.dialog.caller_addr.same_host(signature.hop.0)
                && signature.at.since(l.created_at) <= RING_BURST
                && signature.has_caller_of(&l.signature())
        })
    }

    /// Compares two legs: a leg that joined its call by numbers alone, and the leg that caused it. Returns whether both
    /// were answered, or ended, at the same time.
    fn compare_moments(&self, leg: &Leg) -> MomentComparison {
        let Some((answered, _)) = leg.dialog.answered.filter(|_| leg.join.is_provisional()) else {
            return MomentComparison::Open;
        };
        let own = leg.call();
        // A provider may fork the call to several addresses of the PBX. Then any of these legs may be the answered one.
        let arrives: Vec<&Leg> = self.caller_legs(own, leg.machines().0).filter(|l| l.id != leg.id).collect();
        let is_fork = |l: &&Leg| arrives.iter().any(|arriving| arriving.is_branch_of(l));
        let mut causes: Vec<&Leg> = self.table.party_legs_of(own).filter(|l| l.id != leg.id && is_fork(l)).collect();
        // If no leg of the call caused this leg, it is the caller's leg, which was captured late. So it is compared
        // with the legs that it caused.
        let is_cause = causes.is_empty();
        if is_cause {
            causes = self.rung_legs(own, leg.machines().1).filter(|l| l.id != leg.id).collect();
        }
        let answers = || causes.iter().filter_map(|l| l.dialog.answered.map(|(at, _)| at));
        let is_with = |a: Timestamp, b, within| a.distance(b) <= within;
        let ended = leg.dialog.ended().map(|(at, _)| at);
        // A branch of a fork that was cancelled ended when another branch was answered, and nobody talked on it.
        let has_talked = |l: &&&Leg| l.dialog.answered.is_some() || l.dialog.cancelled_at().is_none() && l.has_media();
        let ends_together = ended.is_some_and(|end| {
            let mut ends = causes.iter().filter(has_talked).filter_map(|l| l.dialog.ended());
            ends.any(|(at, _)| is_with(at, end, END_WINDOW))
        });
        let is_alone = !is_cause && answers().next().is_none() && self.now >= answered + PAIR_WINDOW
            || ended.is_some_and(|end| self.now >= end + END_WINDOW) && leg.has_media() && !ends_together;
        if answers().any(|at| is_with(at, answered, PBX_REACTION)) || ends_together {
            MomentComparison::Together
        } else if is_alone {
            MomentComparison::Alone
        } else {
            MomentComparison::Open
        }
    }

    /// Returns the commands that remove a leg from its call, together with the legs that it caused. Only numbers had
    /// joined the leg to the call.
    pub(super) fn split_weak_leg(&self, slot: LegKey, leg: &Leg) -> Vec<Command> {
        let legs = self.caused_legs(slot);
        if self.table.keys_of(leg.call()).len() == legs.len() {
            return Vec::new();
        }
        let own_machine = Command::SetSendingMachine { leg: slot, machine: leg.dialog.caller_addr };
        let why = CorrelationRule::MomentsDisagree;
        vec![own_machine, Command::Split { legs, why, alternatives: Vec::new() }]
    }

    /// Returns the keys of a leg and of all legs of its call that it caused, directly or through other legs.
    pub(crate) fn caused_legs(&self, slot: LegKey) -> Vec<LegKey> {
        let mut found = vec![slot];
        let keys = self.table.leg(slot).map_or(&[][..], |leg| self.table.keys_of(leg.call()));
        let mut next = 0;
        while let Some(cause) = found.get(next).and_then(|key| self.table.leg(*key)) {
            let is_new = |key: &&LegKey| !found.contains(key);
            let is_caused = |key: &&LegKey| self.table.leg(**key).is_some_and(|leg| self.has_caused(cause, leg));
            let caused: Vec<LegKey> = keys.iter().filter(is_new).filter(is_caused).copied().collect();
            found.extend(caused);
            next += 1;
        }
        found
    }
}

fn alias_of(slot: LegKey, leg: &Leg, order: CauseOrder, signature: &LegSignature<'_>) -> MachineAlias {
    match order {
        CauseOrder::CandidateFirst => MachineAlias::OfDraft(leg.machines().1),
        CauseOrder::DraftFirst => MachineAlias::OfLeg(slot, signature.hop.1),
    }
}

/// Returns whether another leg of the call leads to this leg. Legs of the same dialog, e.g. before and behind a proxy,
/// do not count.
fn has_cause(leg: &Leg, legs: &[&Leg]) -> bool {
    let is_cause = |other: &&&Leg| other.machines().1.same_host(leg.machines().0) && !other.is_branch_of(leg);
    legs.iter().any(|other| is_cause(&other))
}

/// Returns whether the new leg has a host in common with `leg`. Hosts that are known as one machine count as common.
fn shares_host(signature: &LegSignature<'_>, leg: &Leg) -> bool {
    let (caller, callee) = leg.hop();
    let hosts = [caller, callee, leg.machines().0, leg.machines().1];
    hosts.iter().any(|host| host.same_host(signature.hop.0) || host.same_host(signature.hop.1))
}

/// Maximum time from the leg that a machine with two addresses receives to the leg that it then sends.
pub(super) const AGREEING_WINDOW: Duration = Duration::from_millis(500);
