//! Calls with the same caller's number: a PBX makes many calls with the number of the office. So an equal caller's
//! number proves little.
//!
//! E.g. a campaign or a dialler calls several outside numbers at the same time with one caller's number. Only the
//! called number distinguishes these calls.

use crate::call::correlate::heuristic::rings_already;
use crate::call::correlate::question::LegQuestion;
use crate::call::correlate::{Command, Correlator};
use crate::call::correlation_keys::{CLOCK_SKEW, CallerNaming, LegSignature, MatchStrength, has_digits, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::LegKey;
use crate::call::leg::{Leg, LegDraft};
use crate::call::numbers::TRUNK_PORTS;
use crate::net::{Endpoint, Transport};

/// Returns whether the older leg cannot have caused the new leg, because the PBX already sent another leg for the older
/// leg. The other leg has both numbers of the older leg. The new leg calls a different outside number.
pub(super) fn is_called_already(question: &LegQuestion<'_>, older: &Leg) -> bool {
    let Correlator { table, .. } = question.correlator;
    let (own, other) = (&question.signature, older.signature());
    let mut legs = table.legs_of(older.call()).filter(|l| l.id != older.id && l.lived_at(question.at));
    question.correlator.calls_elsewhere(&other, own)
        && legs.any(|l| {
            let sent = l.signature();
            sent.hop.0.same_host(own.hop.0) && same_number(sent.to, other.to) && sent.has_caller_of(&other)
        })
}

/// Returns whether the new leg withholds the number of another caller than that of the older leg. The older leg names an
/// outside caller, and a third leg withholds its caller's number and has the same called number.
///
/// A machine may also remove a number from a call that asks for privacy (RFC 3325 section 7), so such a call is no reason.
/// Neither is a third leg whose call rings the telephone already.
pub(super) fn hides_another_caller(question: &LegQuestion<'_>, older: &Leg) -> bool {
    let own = &question.signature;
    let is_named = has_digits(older.parties.from.as_deref()) && !older.parties.is_withheld();
    let is_hidden = |leg: &Leg| {
        let other = leg.signature();
        other.naming == CallerNaming::Withheld
            && same_number(own.to, other.to)
            && own.onward_strength(&other) == MatchStrength::OneNumber
    };
    own.naming == CallerNaming::Withheld
        && is_named
        && !older.parties.is_from_extension()
        && question.candidates().any(|(_, leg)| is_hidden(leg) && !rings_already(question, leg.call()))
}

impl Correlator<'_> {
    /// Returns how well the numbers show that the leg `cause` caused the leg `effect`.
    ///
    /// A program on the PBX's own host, e.g. a dialler, names the number that the PBX must call. So if such a program
    /// sent `cause`, and `effect` calls another outside number, the legs do not match. Nor do they match if an
    /// extension calls a colleague, and `effect` rings this colleague for another caller.
    pub(super) fn onward_strength(&self, effect: &LegSignature<'_>, cause: &LegSignature<'_>) -> MatchStrength {
        let is_other_call = || {
            self.is_for_other_call_of_program(effect, cause)
                || self.rings_for_other_caller(effect, cause)
                || effect.is_short_number_for(cause) && !self.reaches_short_number(effect, cause)
        };
        match effect.onward_strength(cause) {
            MatchStrength::OneNumber if is_other_call() => MatchStrength::None,
            strength => strength,
        }
    }

    /// Returns whether `effect` calls the short outside number at a provider that the extension of `cause` dialled in
    /// another form.
    pub(super) fn reaches_short_number(&self, effect: &LegSignature<'_>, cause: &LegSignature<'_>) -> bool {
        effect.is_short_number_for(cause) && self.plan.is_short_number_at(effect.to, effect.hop.1)
    }

    /// Returns whether the leg `effect` rings a telephone for another caller than the caller of `cause`.
    ///
    /// Both legs have the same called number, but an extension sent `cause`, and `effect` shows an outside number as
    /// caller. When a colleague calls, a PBX shows the colleague's extension and not the number of the office.
    ///
    /// The receiver must be a telephone, because a short number such as 112 may be an outside number.
    fn rings_for_other_caller(&self, effect: &LegSignature<'_>, cause: &LegSignature<'_>) -> bool {
        self.is_telephone(effect.hop.1)
            && effect.to.is_some_and(|to| self.plan.is_extension(to))
            && cause.from_extension
            && !effect.from_extension
            && effect.naming != CallerNaming::Nameless
            && !effect.is_diverted_from(cause)
            && has_digits(effect.from)
            // If the caller shown by `effect` ends with the caller of `cause`, both are one caller. The PBX may show an
            // extension of another site with a prefix before it.
            && !effect.from.zip(cause.from).is_some_and(|(shown, own)| shown.ends_with(own))
            && same_number(effect.to, cause.to)
    }

    /// Returns whether the receiver of a leg to an extension is certainly a telephone. It has sent a REGISTER, or its
    /// port comes from a NAT. A known PBX may have any port.
    pub(super) fn is_telephone(&self, receiver: Endpoint) -> bool {
        self.plan.is_phone(receiver) || self.has_port_of_nat(receiver)
    }

    fn has_port_of_nat(&self, end: Endpoint) -> bool {
        !TRUNK_PORTS.contains(&end.port()) && !self.plan.is_pbx(end)
    }

    /// Returns whether the sender of a leg from an extension is certainly a telephone. It has sent a REGISTER, or its port
    /// comes from a NAT. Over TCP, a PBX may have any port, too.
    pub(super) fn sends_from_telephone(&self, leg: &LegSignature<'_>) -> bool {
        let sender = leg.hop.0;
        self.plan.is_phone(sender) || leg.transport == Transport::Udp && self.has_port_of_nat(sender)
    }

    /// Returns whether `effect` belongs to another call than `cause`: a program on the PBX's own host sent `cause`, and
    /// `effect` calls another outside number.
    pub(super) fn is_for_other_call_of_program(&self, effect: &LegSignature<'_>, cause: &LegSignature<'_>) -> bool {
        cause.hop.0.same_host(cause.hop.1) && self.calls_elsewhere(cause, effect)
    }

    /// Returns whether the leg `effect` calls an outside number that differs from the number that the leg `cause`
    /// calls. Returns false if a diversion explains the difference.
    fn calls_elsewhere(&self, cause: &LegSignature<'_>, effect: &LegSignature<'_>) -> bool {
        !same_number(effect.to, cause.to)
            && !effect.is_diverted_from(cause)
            && effect.to.is_some_and(|to| !self.plan.is_extension(to))
    }

    /// Returns the command that takes a leg out of its call, because a new leg is more probably its cause. The new leg
    /// was captured a moment later.
    ///
    /// Only one number joined the leg to its call, but both numbers of the leg agree with the new leg. The legs that
    /// the leg itself caused leave the call, too.
    pub(crate) fn release_for_cause(&self, draft: &LegDraft) -> Vec<Command> {
        let cause = draft.signature();
        let candidates = self.table.correlation().candidates(&draft.correlation_keys, &cause);
        let is_effect = |leg: &Leg| {
            leg.dialog.ended().is_none()
                && draft.at.since(leg.created_at) <= CLOCK_SKEW
                && leg.signature().onward_strength(&cause) == MatchStrength::BothNumbers
                && self.may_be_released(leg)
        };
        let mut found = candidates.into_iter().filter(|key| self.table.leg(*key).is_some_and(is_effect));
        let (Some(leg), None) = (found.next(), found.next()) else { return Vec::new() };
        vec![Command::Release { legs: self.caused_legs(leg) }]
    }

    /// Returns the commands that remove legs from the call of the leg `slot`, because another leg must have caused
    /// them.
    ///
    /// Both numbers of the leg `slot` agree with the leg that caused it. The removed legs came from the same machine at
    /// about the same time, but share only one number with that cause. They call other outside numbers, so their own
    /// cause was not captured yet.
    pub(crate) fn release_strangers(&self, slot: LegKey) -> Vec<Command> {
        let Some(leg) = self.table.leg(slot) else { return Vec::new() };
        let own = leg.signature();
        let is_both = |cause: &Leg| own.onward_strength(&cause.signature()) == MatchStrength::BothNumbers;
        let others = || self.table.legs_of(leg.call()).filter(|other| other.id != leg.id);
        let Some(cause) = others().find(|other| is_both(other)) else { return Vec::new() };
        let is_stranger = |other: &Leg| {
            other.id != leg.id
                && other.id != cause.id
                && other.machines().0.same_host(own.hop.0)
                && leg.created_at.distance(other.created_at) <= CLOCK_SKEW
                && self.calls_elsewhere(&cause.signature(), &other.signature())
                && self.may_be_released(other)
        };
        let keys = self.table.keys_of(leg.call()).iter().copied();
        let strangers = keys.filter(|key| self.table.leg(*key).is_some_and(is_stranger));
        strangers.map(|key| Command::Release { legs: self.caused_legs(key) }).collect()
    }

    /// Returns whether a leg may leave its call. The call must have other legs, and no event may have announced it. The
    /// leg must share only one number with the leg that caused it.
    fn may_be_released(&self, leg: &Leg) -> bool {
        !self.table.is_lone(leg.call())
            && self.may_still_be_joined(leg.call(), CorrelationRule::OnwardOne)
            && self.is_tied_by_one_number(leg)
    }
}
