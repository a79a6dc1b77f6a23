//! The rule `media_content`: the voices of two legs have the same bytes, so one machine relays them.
//!
//! A proven relay confirms a weak join, repairs a wrong join, joins calls that signalling could not join, or relates
//! calls that Pyrus may know already.

use crate::call::content::ProvenRelay;
use crate::call::correlate::{Command, Correlator, PBX_REACTION};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::event::LegId;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::record::Side;

impl Correlator<'_> {
    /// Returns the commands that follow from a relay between two legs.
    pub(crate) fn decide_relay(&self, relay: ProvenRelay) -> Vec<Command> {
        let leg_of = |(id, key, _): (LegId, LegKey, Side)| self.table.leg(key).filter(|l| l.id == id && !l.is_closed());
        let (Some(cause), Some(effect)) = (leg_of(relay.cause), leg_of(relay.effect)) else { return Vec::new() };
        let (own, other) = (cause.call(), effect.call());
        let by = CorrelationRule::MediaContent;
        if own == other {
            return self.confirm_by_content(relay);
        }
        if let Some((key, into)) = self.wrongly_joined(relay) {
            let mut commands = self.move_caused_legs(key, into);
            commands.extend(self.link_by_content(relay));
            return commands;
        }
        // Two legs that both arrive at the machine, e.g. in a conference, stay two calls.
        let has_sent_one = relay.cause.2 == Side::Callee || relay.effect.2 == Side::Caller;
        match self.join_calls(own, other, by) {
            merge @ Command::Merge { into, .. } if has_sent_one => {
                let linked = self.link_by_content(relay);
                [merge].into_iter().chain(linked).chain([Command::Announce { call: into }]).collect()
            }
            _ => vec![Command::Relate { a: own, b: other, why: by }],
        }
    }

    /// Confirms the weak join of two legs of one call.
    fn confirm_by_content(&self, relay: ProvenRelay) -> Vec<Command> {
        let keys = [relay.cause.1, relay.effect.1].into_iter();
        let weak = keys.filter(|key| self.table.leg(*key).is_some_and(|leg| leg.join.is_weak()));
        let confirmed = weak.map(|leg| Command::Confirm { leg, by: CorrelationRule::MediaContent });
        confirmed.chain(self.learn_by_content(relay)).collect()
    }

    /// Returns the leg that was joined to the wrong call by its number, and the right call for it.
    fn wrongly_joined(&self, relay: ProvenRelay) -> Option<(LegKey, CallKey)> {
        let (cause, effect) = (relay.cause.1, relay.effect.1);
        let joined_by = |key: LegKey| {
            let leg = self.table.leg(key)?;
            let by = leg.join.by().filter(|by| by.rests_on_numbers())?;
            let is_confirmed = leg.join.is_confirmed() || self.is_confirmed_in_call(leg, by);
            (!is_confirmed).then_some((by.is_confirmed_by_answer(), key))
        };
        let (_, key) = [effect, cause].into_iter().filter_map(joined_by).min_by_key(|(is_stronger, _)| *is_stronger)?;
        let partner = if key == effect { cause } else { effect };
        let call = self.table.leg(partner)?.call();
        self.may_gain(call, 1).then_some((key, call))
    }

    /// Returns whether another leg of the call confirms a leg that was joined by its number. Its content confirms it,
    /// or, for a rule that an answer confirms, an answer at the same moment.
    fn is_confirmed_in_call(&self, leg: &Leg, by: CorrelationRule) -> bool {
        let mut others = self.table.legs_of(leg.call());
        let answered = leg.dialog.answered.map(|(at, _)| at);
        let is_together = |other: &Leg| {
            let at = other.dialog.answered.map(|(at, _)| at);
            answered.zip(at).is_some_and(|(a, b)| a.distance(b) <= PBX_REACTION)
        };
        others.any(|other| {
            other.id != leg.id
                && (self.content.has_relay(leg.id, other.id) || by.is_confirmed_by_answer() && is_together(other))
        })
    }

    /// Moves a leg to the call with the same sound, together with the legs that the leg caused.
    fn move_caused_legs(&self, key: LegKey, into: CallKey) -> Vec<Command> {
        let own = self.table.leg(key).map(Leg::call);
        let legs = self.caused_legs(key);
        if own.is_none_or(|own| legs.len() >= self.table.keys_of(own).len()) {
            return Vec::new();
        }
        vec![Command::Move { legs, into, by: CorrelationRule::MediaContent }]
    }

    /// Counts the addresses of a relay as one machine within the call, so that its legs get their roles.
    fn link_by_content(&self, relay: ProvenRelay) -> Vec<Command> {
        let [cause, effect] = [relay.cause, relay.effect].map(|(_, key, _)| key);
        let (at_cause, at_effect) = (relay.cause.2.other(), relay.effect.2);
        let (Some(first), Some(second)) = (self.table.leg(cause), self.table.leg(effect)) else { return Vec::new() };
        let known = [first.machine_at(at_cause), second.machine_at(at_effect)];
        let mut commands: Vec<Command> = self.learn_by_content(relay).into_iter().collect();
        if known[0].same_host(known[1]) {
            return commands;
        }
        // The leg that the machine sent gets the address at which the machine received the other leg.
        if at_effect == Side::Caller {
            commands.push(Command::SetSendingMachine { leg: effect, machine: known[0] });
        } else if at_cause == Side::Caller {
            commands.push(Command::SetSendingMachine { leg: cause, machine: known[1] });
        }
        commands
    }

    /// Learns from a proven relay that two hosts are one machine.
    fn learn_by_content(&self, relay: ProvenRelay) -> Option<Command> {
        let (cause, effect) = (self.table.leg(relay.cause.1)?, self.table.leg(relay.effect.1)?);
        let hosts = (cause.signaller(relay.cause.2.other()), effect.signaller(relay.effect.2));
        let legs = [relay.cause.1, relay.effect.1];
        relay.is_proof.then_some(Command::LearnMachine { hosts, legs })
    }
}
