//! The rule `media_content`: two legs carry the same bytes of voice, so one machine passes the voice from one leg to
//! the other. Such a machine *relays* the voice.
//!
//! A proven relay confirms a join by numbers, or corrects a wrong join. It also joins calls that signalling could not
//! join. If Pyrus may know both calls already, it only relates them.

use crate::call::content::{ProvenRelay, RelayLeg};
use crate::call::correlate::tie::are_answered_together;
use crate::call::correlate::{Command, Correlator};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::decision::AnsweredElsewhere;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::leg_join::LegJoin;
use crate::call::record::{CallDirection, CallRecord, Side};
use crate::call::roles::CallRoles;
use crate::time::Timestamp;

/// One of the two legs between which a machine passes voice on (a *relay*).
struct RelayEnd<'a> {
    key: LegKey,
    leg: &'a Leg,
    /// The other leg of the relay, to or from which the machine passes the sound.
    partner: &'a Leg,
    /// Anchor leg of the same call, i.e. the leg that supplies the recorded sound.
    anchor: &'a Leg,
}

impl Correlator<'_> {
    /// Returns the commands that follow when a machine is proven to pass voice from one leg to another (a relay).
    pub(crate) fn decide_relay(&self, relay: ProvenRelay) -> Vec<Command> {
        let relay = self.in_order_of_legs(relay);
        let leg_of = |at: RelayLeg| self.table.leg(at.key).filter(|l| l.id == at.id && !l.is_closed());
        let (Some(cause), Some(effect)) = (leg_of(relay.cause), leg_of(relay.effect)) else { return Vec::new() };
        let (own, other) = (cause.call(), effect.call());
        let by = CorrelationRule::MediaContent;
        if own == other {
            return self.confirm_by_content(relay);
        }
        if let Some((legs, into)) = self.wrongly_joined(relay) {
            let moved = Command::Move { legs, into, by };
            return [moved].into_iter().chain(self.link_by_content(relay)).chain(self.confirmations(relay)).collect();
        }
        if let Some(commands) = self.carry_on(relay) {
            return commands;
        }
        if let Some(RelayEnd { leg: telephone, partner: party, .. }) = self.telephone_of_two(relay) {
            let relate = Command::Relate { a: own, b: other, why: by };
            return [relate].into_iter().chain(self.answered_by_telephone(telephone, party)).collect();
        }
        // If the machine received both legs, e.g. from two callers in a conference, the legs stay two calls.
        let has_sent_one = relay.cause.side == Side::Callee || relay.effect.side == Side::Caller;
        match self.join_calls(own, other, by) {
            merge @ Command::Merge { into, .. } if has_sent_one => {
                let linked = self.link_by_content(relay).into_iter().chain(self.confirmations(relay));
                [merge].into_iter().chain(linked).chain([Command::Announce { call: into }]).collect()
            }
            _ => {
                let picked_up = self.picked_up_by_code(cause, effect).or_else(|| self.picked_up_by_code(effect, cause));
                [Command::Relate { a: own, b: other, why: by }].into_iter().chain(picked_up).collect()
            }
        }
    }

    /// Returns two values, one for each of the two legs between which a machine passes voice on. Each value has the
    /// leg, the other leg (`partner`), and the anchor leg (the recorded leg) of the leg's call.
    fn ends_of(&self, relay: ProvenRelay) -> impl Iterator<Item = RelayEnd<'_>> {
        let (cause, effect) = (relay.cause.key, relay.effect.key);
        [(cause, effect), (effect, cause)].into_iter().filter_map(|(key, partner)| {
            let (leg, partner) = (self.table.leg(key)?, self.table.leg(partner)?);
            let legs: Vec<&Leg> = self.table.legs_of(leg.call()).collect();
            let anchor = CallRoles::from_legs(&legs, self.plan)?.anchor;
            Some(RelayEnd { key, leg, partner, anchor })
        })
    }

    /// Returns the leg of a telephone with two conversations, e.g. while a second customer is in call waiting. The
    /// telephone talks with the outside party of its own call. The relay, i.e. equal bytes of voice, shows that it also
    /// talks with another outside party.
    fn telephone_of_two(&self, relay: ProvenRelay) -> Option<RelayEnd<'_>> {
        self.ends_of(relay).find(|RelayEnd { leg, partner, anchor, .. }| {
            let relays = self.table.call(leg.call()).map_or(&[][..], |call| call.notes.relays());
            let is_served = relays.contains(&(leg.id.min(anchor.id), leg.id.max(anchor.id)));
            anchor.id != leg.id
                && anchor.dialog.ended().is_none()
                && is_served
                && self.extension_at(leg).is_some()
                && self.extension_at(anchor).is_none()
                && self.extension_at(partner).is_none()
        })
    }

    /// Returns the command that marks the call of `party` as answered by a telephone of another call. Returns `None` if
    /// the leg `party` was not answered, if its call has several dialogs, or if the telephone's extension is unknown.
    fn answered_by_telephone(&self, telephone: &Leg, party: &Leg) -> Option<Command> {
        let (at, _) = party.dialog.answered.filter(|_| self.is_of_one_dialog(party.call()))?;
        self.served_by(party.call(), telephone, at)
    }

    /// Returns the command that records the extension of a telephone as the party that answered a call at this time.
    /// Returns `None` if the extension is not known.
    ///
    /// The leg of the telephone may leave the call, so the direction is recorded, too.
    pub(super) fn served_by(&self, call: CallKey, telephone: &Leg, at: Timestamp) -> Option<Command> {
        let extension = Some(self.extension_at(telephone)?.to_owned());
        let mut record = CallRecord::default();
        let legs: Vec<&Leg> = self.table.legs_of(call).collect();
        CallRoles::from_legs(&legs, self.plan)?.fill_record(&mut record, self.plan);
        let direction = Some(record.direction).filter(|direction| *direction != CallDirection::Unknown);
        Some(Command::MarkAnsweredElsewhere { call, by: AnsweredElsewhere { at, extension, direction } })
    }

    /// Returns the extension that takes part in a leg; `None` if the leg's party is an outside number.
    fn extension_at<'a>(&'a self, leg: &'a Leg) -> Option<&'a str> {
        self.path_of(leg.call()).party_number(leg, self.plan).filter(|number| self.plan.is_extension(number))
    }

    /// Returns the commands that move a leg to another call, because the leg carries the sound of that call now. The
    /// other party of the leg's first call must have hung up. E.g. an agent's telephone stays connected while one
    /// customer follows another.
    ///
    /// The record of the first call keeps the extension of the agent, although the leg is moved.
    fn carry_on(&self, relay: ProvenRelay) -> Option<Vec<Command>> {
        self.ends_of(relay).find_map(|RelayEnd { key, leg, partner, anchor }| {
            let (from, into) = (leg.call(), partner.call());
            let (answered_at, _) = anchor.dialog.answered.filter(|_| anchor.dialog.ended().is_some())?;
            let is_open = |key: &LegKey| self.table.leg(*key).is_some_and(|l| l.dialog.ended().is_none());
            let open: Vec<LegKey> = self.dialog_and_effects(leg).into_iter().filter(is_open).collect();
            // A call that is related already, e.g. a consultation before a transfer, stays a separate call.
            let related = &self.table.call(from)?.relations;
            let is_related = self.table.call(into).is_some_and(|call| related.iter().any(|known| known.id == call.id));
            // If the anchor leg (the recorded leg) of the call `from` had no sound, this leg alone has the sound of
            // `from`. So the leg must stay in `from`.
            if !open.contains(&key) || !self.may_gain(into, open.len()) || is_related || !anchor.has_media() {
                return None;
            }
            let keep = self.served_by(from, leg, answered_at);
            let relate = Command::Relate { a: from, b: into, why: CorrelationRule::Survives };
            let carried = Command::Move { legs: open, into, by: CorrelationRule::MediaContent };
            Some(keep.into_iter().chain([relate, carried]).chain(self.link_by_content(relay)).collect())
        })
    }

    /// Returns the commands that confirm the joins of two legs of one call, because a machine passes voice from one leg
    /// to the other.
    fn confirm_by_content(&self, relay: ProvenRelay) -> Vec<Command> {
        self.confirmations(relay).chain(self.learn_by_content(relay)).collect()
    }

    /// Returns the commands that confirm the joins of two legs between which a machine passes voice on. Only joins by
    /// rules that media content can prove wrong need this.
    ///
    /// Afterwards the legs stay in their call, even if equal voice on a leg of another call is proven later.
    fn confirmations(&self, relay: ProvenRelay) -> impl Iterator<Item = Command> {
        let is_open = |leg: &Leg| {
            leg.join.by().is_some_and(CorrelationRule::is_corrected_by_content) && !is_confirmed_by_content(&leg.join)
        };
        let keys = self.proven_ends(relay).into_iter().map(|key| self.joining_hop(key));
        let open = keys.filter(move |key| self.table.leg(*key).is_some_and(is_open));
        open.map(|leg| Command::Confirm { leg, by: CorrelationRule::MediaContent })
    }

    /// Returns the legs of a relay that it proves to belong to their call.
    ///
    /// A leg from which the PBX passes voice on to a leg that it caused may still belong to another call, with this
    /// other leg.
    pub(crate) fn proven_ends(&self, relay: ProvenRelay) -> Vec<LegKey> {
        let ends = [(relay.cause.key, relay.effect.key), (relay.effect.key, relay.cause.key)];
        let is_proven = |(key, partner): &(LegKey, LegKey)| {
            self.table.leg(*key).is_some_and(|leg| !self.dialog_and_effects(leg).contains(partner))
        };
        ends.into_iter().filter(is_proven).map(|(key, _)| key).collect()
    }

    /// Finds a leg that numbers joined to the wrong call. Returns this leg with the legs that it caused, and the right
    /// call.
    ///
    /// Returns `None` if no leg was joined wrongly, or if the right call has no room. Also returns `None` if these are
    /// all legs of the wrong call, because the two calls can then be merged.
    fn wrongly_joined(&self, relay: ProvenRelay) -> Option<(Vec<LegKey>, CallKey)> {
        let (cause, effect) = (relay.cause.key, relay.effect.key);
        let joined_by = |key: LegKey| {
            let leg = self.table.leg(self.joining_hop(key))?;
            let tie = self.tie_of(leg)?;
            let by = tie.by().filter(|by| by.is_corrected_by_content())?;
            let is_confirmed = is_confirmed_by_content(tie) || self.is_confirmed_in_call(leg, by);
            (!is_confirmed).then_some((by.is_confirmed_by_answer(), key))
        };
        let (_, key) = [effect, cause].into_iter().filter_map(joined_by).min_by_key(|(is_stronger, _)| *is_stronger)?;
        let (leg, partner) = (self.table.leg(key)?, if key == effect { cause } else { effect });
        let (own, call) = (leg.call(), self.table.leg(partner)?.call());
        let legs = self.dialog_and_effects(leg);
        let is_movable = legs.len() < self.table.keys_of(own).len() && self.may_gain(call, legs.len());
        is_movable.then_some((legs, call))
    }

    /// Returns the legs of a call that belong to the dialog of this leg, and the legs that a PBX sent because of this
    /// dialog. A leg that carries the sound of another leg of the call is left out.
    fn dialog_and_effects(&self, leg: &Leg) -> Vec<LegKey> {
        let mut legs: Vec<LegKey> = self.hops_of(leg).into_iter().flat_map(|hop| self.caused_legs(hop)).collect();
        legs.sort_unstable();
        legs.dedup();
        let others = self.table.keys_of(leg.call()).iter().filter(|key| !legs.contains(key));
        let others: Vec<&Leg> = others.filter_map(|key| self.table.leg(*key)).collect();
        let own: Vec<&Leg> = legs.iter().filter_map(|key| self.table.leg(*key)).collect();
        let relays = self.table.call(leg.call()).map_or(&[][..], |call| call.notes.relays());
        let is_relayed =
            |a: &Leg, among: &[&Leg]| among.iter().any(|b| relays.contains(&(a.id.min(b.id), a.id.max(b.id))));
        let is_of_other = |effect: &Leg| !is_relayed(effect, &own) && is_relayed(effect, &others);
        let goes =
            |key: &LegKey| self.table.leg(*key).is_some_and(|effect| effect.is_branch_of(leg) || !is_of_other(effect));
        legs.iter().copied().filter(goes).collect()
    }

    /// Returns whether another leg confirms the join of this leg, because both were answered at the same time. This
    /// confirms only joins by some rules ([`CorrelationRule::is_confirmed_by_answer`]).
    ///
    /// Legs that this leg caused confirm nothing, because they are answered together with it in any call.
    fn is_confirmed_in_call(&self, leg: &Leg, by: CorrelationRule) -> bool {
        let effects = self.dialog_and_effects(leg);
        let is_effect = |other: &Leg| effects.iter().any(|key| self.table.leg(*key).is_some_and(|l| l.id == other.id));
        let mut others = self.table.party_legs_of(leg.call()).filter(|other| !is_effect(other));
        by.is_confirmed_by_answer() && others.any(|other| are_answered_together(leg, other))
    }

    /// Returns the leg by which a dialog joined its call: a rule found that this leg belongs to the call. The dialog's
    /// other legs, e.g. behind a proxy, belong to the call because they have the same dialog.
    fn joining_hop(&self, key: LegKey) -> LegKey {
        let is_joined =
            |hop: &LegKey| self.table.leg(*hop).is_some_and(|hop| hop.join.by() != Some(CorrelationRule::SameDialog));
        let hops = self.table.leg(key).map_or_else(Vec::new, |leg| self.hops_of(leg));
        hops.into_iter().find(is_joined).unwrap_or(key)
    }

    /// Returns the commands that record two addresses as one machine within the call, because this machine passes voice
    /// from one leg to the other. Only then can the legs be told apart: who called, and whom the PBX called.
    fn link_by_content(&self, relay: ProvenRelay) -> Vec<Command> {
        let [cause, effect] = [relay.cause, relay.effect].map(|leg| leg.key);
        let (at_cause, at_effect) = (relay.cause.side.other(), relay.effect.side);
        let (Some(first), Some(second)) = (self.table.leg(cause), self.table.leg(effect)) else { return Vec::new() };
        let known = [first.machine_at(at_cause), second.machine_at(at_effect)];
        // The first command stores in one leg that its sender is the machine of the other leg. The second command
        // learns that both addresses are one machine, and replaces addresses in all legs. So it must come second.
        let sender = match (at_effect, at_cause) {
            _ if known[0].same_host(known[1]) => None,
            (Side::Caller, _) => Some(Command::SetSendingMachine { leg: effect, machine: known[0] }),
            (_, Side::Caller) => Some(Command::SetSendingMachine { leg: cause, machine: known[1] }),
            _ => None,
        };
        sender.into_iter().chain(self.learn_by_content(relay)).collect()
    }

    /// Returns the command that records two hosts as one machine, if voice is proven to pass in both directions.
    fn learn_by_content(&self, relay: ProvenRelay) -> Option<Command> {
        let (cause, effect) = (self.table.leg(relay.cause.key)?, self.table.leg(relay.effect.key)?);
        let hosts = (cause.signaller(relay.cause.side.other()), effect.signaller(relay.effect.side));
        let legs = [relay.cause.key, relay.effect.key];
        relay.is_proof.then_some(Command::LearnMachine { hosts, legs })
    }
}

/// Returns whether equal bytes of voice have confirmed a join. Returns false if only answers at the same time have,
/// because many calls are answered within a fifth of a second.
fn is_confirmed_by_content(join: &LegJoin) -> bool {
    join.confirmed_by() == Some(CorrelationRule::MediaContent)
}
