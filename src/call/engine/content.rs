//! Content evidence in the engine: watches the voices of legs, and acts on the relays that their bytes prove.
//!
//! A proven relay confirms a weak join, repairs a wrong one, joins calls that signalling could not join, or relates calls
//! that Pyrus knows already.

use std::time::Duration;

use crate::call::content::{ContentIndex, ProvenRelay, StreamEnds, StreamWatch};
use crate::call::conversation::Conversation;
use crate::call::correlate::{MAX_LEGS, PBX_REACTION};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::{Engine, StreamRef};
use crate::call::event::{CallEvent, LegSink};
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::negotiation::StreamSecurity;
use crate::call::record::Side;
use crate::call::timers::EngineTimer;
use crate::net::Endpoint;
use crate::rtp::RtpPacket;
use crate::time::Timestamp;

/// Content evidence of all live calls.
#[derive(Debug, Default)]
pub(super) struct ContentEvidence {
    index: ContentIndex,
    /// Time of the next round in which the voices of lone legs are watched.
    listen_at: Timestamp,
}

impl ContentEvidence {
    /// Returns the number of streams that are watched.
    pub(super) fn watched_streams(&self) -> usize {
        self.index.sizes().0
    }

    /// Returns the number of pairs of legs with matching content.
    pub(super) fn pairs(&self) -> usize {
        self.index.sizes().1
    }
}

impl Engine {
    /// Watches the voices of a leg anew, if it was answered or its media changed since the last time.
    pub(super) fn watch_changed_leg(&mut self, slot: LegKey) {
        let Some(leg) = self.table.leg_mut(slot) else { return };
        let state = (leg.dialog.negotiation.generation(), leg.dialog.answered.is_some());
        if leg.watched_state != Some(state) {
            leg.watched_state = Some(state);
            self.watch_leg(slot);
        }
    }

    /// Watches the voices of all legs of a call anew, e.g. after a REFER.
    pub(super) fn watch_call(&mut self, conversation: CallKey) {
        for slot in self.table.keys_of(conversation).to_vec() {
            self.watch_leg(slot);
        }
    }

    fn watch_leg(&mut self, slot: LegKey) {
        let count = self.table.leg(slot).map_or(0, |leg| leg.streams.len());
        for index in count.saturating_sub(MAX_WATCHED_STREAMS)..count {
            self.watch_stream(StreamRef { slot, index });
        }
    }

    /// Watches the voice of one stream anew. A recorder's own session and encrypted media are not watched.
    pub(super) fn watch_stream(&mut self, StreamRef { slot, index }: StreamRef) {
        let Some(leg) = self.table.leg(slot) else { return };
        let Some(stream) = leg.streams.get(index) else { return };
        let sender = stream.sender;
        let is_plain = leg.dialog.negotiation.security(sender) == StreamSecurity::Plain;
        let may_watch = is_plain && !leg.is_recording_session() && leg.dialog.ended().is_none();
        let Some(voice) = stream.plain_voice().filter(|_| may_watch && !self.earlier.restore.is_reading()) else {
            return;
        };
        let machine = |end: Endpoint| self.site.topology.machine_of(end);
        let ends = StreamEnds {
            leg: leg.id,
            slot,
            sender,
            from: [machine(stream.src), leg.machine_at(sender)],
            to: [machine(stream.dst), leg.machine_at(sender.other())],
        };
        let watch = self.kept.content.index.watch(stream.watch, ends, voice, self.clock.now);
        if let Some(stream) = self.table.leg_mut(slot).and_then(|leg| leg.streams.get_mut(index)) {
            stream.watch = watch;
        }
    }

    /// Looks at a voice packet of a watched stream, and acts on the relays that it proves.
    pub(super) fn handle_content(
        &mut self,
        stream: StreamRef,
        watch: StreamWatch,
        packet: &RtpPacket<'_>,
        at: Timestamp,
        sink: &mut dyn LegSink,
    ) {
        // The list allocates nothing until there is a relay.
        let mut relays = Vec::new();
        if !self.kept.content.index.handle_payload(watch, packet.payload, at, &mut relays)
            && let Some(stream) = self.table.leg_mut(stream.slot).and_then(|leg| leg.streams.get_mut(stream.index))
        {
            stream.watch = None;
        }
        for relay in relays {
            self.apply_relay(relay, sink);
        }
    }

    /// Watches the voices of lone legs from time to time. A leg whose cause spoke long ago is found again by that.
    pub(super) fn handle_listen_timer(&mut self) {
        if self.clock.now < self.kept.content.listen_at {
            return;
        }
        self.kept.content.listen_at = self.clock.now + LISTEN_PAUSE;
        let is_open = |leg: &Leg| leg.dialog.answered.is_some() && leg.dialog.ended().is_none();
        let is_lone = |leg: &Leg| self.table.is_lone(leg.call());
        let legs = self.table.legs().filter(|(_, leg)| is_open(leg) && (is_lone(leg) || leg.is_joined_weakly()));
        for slot in legs.map(|(slot, _)| slot).collect::<Vec<_>>() {
            self.watch_leg(slot);
        }
    }

    /// Forgets the voices of a leg.
    pub(super) fn forget_content(&mut self, slot: LegKey) {
        if let Some(leg) = self.table.leg_mut(slot) {
            self.kept.content.index.forget_leg(leg.id);
            leg.streams.iter_mut().for_each(|stream| stream.watch = None);
        }
    }

    /// Acts on a relay between two legs.
    pub(super) fn apply_relay(&mut self, relay: ProvenRelay, sink: &mut dyn LegSink) {
        let is_it =
            |(id, slot, _): (_, LegKey, Side)| self.table.leg(slot).is_some_and(|leg| leg.id == id && !leg.closed);
        if !is_it(relay.cause) || !is_it(relay.effect) {
            return;
        }
        let (cause, effect) = (relay.cause.1, relay.effect.1);
        let (Some(own), Some(other)) = (self.call_of(cause), self.call_of(effect)) else { return };
        if own == other {
            self.confirm_by_content(relay);
        } else if let Some((slot, into)) = self.wrongly_joined(cause, effect) {
            self.move_caused_legs(slot, into, sink);
            self.link_by_content(relay);
        } else if let Some((from, into)) = self.mergeable_by_content(relay) {
            self.absorb(from, into, sink);
            self.link_by_content(relay);
            self.apply_rules(into, sink);
            self.emit_update(into);
        } else {
            self.relate(own, other, CorrelationRule::MediaContent, sink);
        }
    }

    /// Confirms the weak join of two legs of one call.
    fn confirm_by_content(&mut self, relay: ProvenRelay) {
        for slot in [relay.cause.1, relay.effect.1] {
            if let Some(leg) = self.table.leg_mut(slot).filter(|leg| leg.is_joined_weakly()) {
                leg.join_confirmed_by = Some(CorrelationRule::MediaContent);
            }
        }
        self.learn_by_content(relay);
    }

    /// Returns the leg that its number joined to the wrong call, and the right one.
    fn wrongly_joined(&self, cause: LegKey, effect: LegKey) -> Option<(LegKey, CallKey)> {
        let joined_by = |slot: LegKey| {
            let leg = self.table.leg(slot)?;
            let by = leg.joined_by.filter(|by| by.rests_on_numbers())?;
            (leg.join_confirmed_by.is_none() && !self.is_confirmed_in_call(leg, by))
                .then_some((by.is_confirmed_by_answer(), slot))
        };
        let (_, slot) =
            [effect, cause].into_iter().filter_map(joined_by).min_by_key(|(is_stronger, _)| *is_stronger)?;
        let partner = if slot == effect { cause } else { effect };
        Some((slot, self.call_of(partner)?)).filter(|(_, call)| self.may_gain(*call))
    }

    /// Returns whether another leg of the call confirms a leg that its number joined: by its content, or, for a strong
    /// rule, by its answer at the same moment.
    fn is_confirmed_in_call(&self, leg: &Leg, by: CorrelationRule) -> bool {
        let mut others = self.table.legs_of(leg.call());
        let answered = leg.dialog.answered.map(|(at, _)| at);
        let is_together = |other: &Leg| {
            let at = other.dialog.answered.map(|(at, _)| at);
            answered.zip(at).is_some_and(|(a, b)| a.distance(b) <= PBX_REACTION)
        };
        others.any(|other| {
            other.id != leg.id
                && (self.kept.content.index.has_relay(leg.id, other.id)
                    || by.is_confirmed_by_answer() && is_together(other))
        })
    }

    /// Moves a leg to the call of its sound, together with the legs that it caused.
    fn move_caused_legs(&mut self, slot: LegKey, into: CallKey, sink: &mut dyn LegSink) {
        let Some(own) = self.call_of(slot) else { return };
        let slots = self.correlator().caused_legs(slot);
        if slots.len() < self.table.keys_of(own).len() {
            self.move_legs(&slots, into, CorrelationRule::MediaContent, sink);
            self.finish_if_over(own);
        }
    }

    /// Returns the call that another call absorbs, and that other call. Two legs that both arrive at the machine, e.g. in a
    /// conference, stay two calls.
    fn mergeable_by_content(&self, relay: ProvenRelay) -> Option<(CallKey, CallKey)> {
        let has_sent_one = relay.cause.2 == Side::Callee || relay.effect.2 == Side::Caller;
        let calls = [self.call_of(relay.cause.1)?, self.call_of(relay.effect.1)?];
        let created_at = |call: CallKey| self.table.call(call).map(|call| call.created_at);
        let [a, b] = if created_at(calls[0]) <= created_at(calls[1]) { calls } else { [calls[1], calls[0]] };
        let size: usize = calls.iter().map(|call| self.table.keys_of(*call).len()).sum();
        let may_merge = has_sent_one && size <= MAX_LEGS;
        // The older call keeps its id, unless Pyrus may know the younger one.
        [(b, a), (a, b)].into_iter().find(|(from, _)| may_merge && self.may_be_absorbed(*from))
    }

    /// Returns whether a call may still disappear: nobody was told of it, or nothing but a display of live calls.
    fn may_be_absorbed(&self, conversation: CallKey) -> bool {
        self.table.call(conversation).is_some_and(|call| !call.restored && !self.is_committed(call))
    }

    /// Returns whether delivery may have registered a call.
    fn is_committed(&self, call: &Conversation) -> bool {
        use crate::call::config::RegistrationMoment;
        let Some(told) = call.last_snapshot.as_ref() else { return false };
        call.segments > 0
            // As the policy of delivery has it.
            || match self.settings.config.registered_at {
                RegistrationMoment::Invite => true,
                RegistrationMoment::Answer => told.answered_at.is_some(),
                RegistrationMoment::PersonKnown => told.numbers[2].is_some() || told.operator_answered_at.is_some(),
                RegistrationMoment::End => false,
            }
    }

    /// Returns whether the update of a lone call waits: its content will soon show whether it is a call of its own.
    pub(super) fn waits_for_content(&mut self, conversation: CallKey) -> bool {
        let Some(call) = self.table.call(conversation) else { return false };
        let leg = match call.legs() {
            [slot] if self.table.call_count() > 1 && !call.restored => self.table.leg(*slot),
            _ => None,
        };
        let is_committed = self.is_committed(call);
        let Some(leg) = leg.filter(|leg| !is_committed && leg.dialog.ended().is_none()) else { return false };
        let Some((answered, _)) = leg.dialog.answered else { return false };
        let until = answered + COMMIT_WAIT;
        let is_encrypted =
            leg.streams.iter().any(|s| leg.dialog.negotiation.security(s.sender) != StreamSecurity::Plain);
        if self.clock.now >= until || is_encrypted || self.names_extension(leg) {
            return false;
        }
        self.timers.arm(EngineTimer::Commit(conversation), until);
        true
    }

    /// Returns whether the numbers of a lone leg name an extension.
    fn names_extension(&self, leg: &Leg) -> bool {
        leg.parties.direction(&self.site.plan).1.is_some_and(|number| self.site.plan.is_extension(number))
    }

    /// Merges a call into another one, and tells that its id is gone.
    fn absorb(&mut self, from: CallKey, into: CallKey, sink: &mut dyn LegSink) {
        let Some(call) = self.table.call(from) else { return };
        let told = call.last_snapshot.is_some().then(|| call.id.clone());
        self.merge(from, into, CorrelationRule::MediaContent, sink);
        self.events.extend(told.map(CallEvent::Absorbed));
    }

    /// Counts the addresses of a relay as one machine within the call, so that its legs get their roles.
    fn link_by_content(&mut self, relay: ProvenRelay) {
        let [cause, effect] = [relay.cause, relay.effect].map(|(_, slot, _)| slot);
        let (at_cause, at_effect) = (relay.cause.2.other(), relay.effect.2);
        let (Some(first), Some(second)) = (self.table.leg(cause), self.table.leg(effect)) else { return };
        let hops = [first.machines(), second.machines()];
        let known = [first.machine_at(at_cause), second.machine_at(at_effect)];
        self.learn_by_content(relay);
        if known[0].same_host(known[1]) {
            return;
        }
        // The leg that the machine sent takes the address at which the machine received the other one.
        if at_effect == Side::Caller {
            self.table.set_machines(effect, (known[0], hops[1].1));
        } else if at_cause == Side::Caller {
            self.table.set_machines(cause, (known[1], hops[0].1));
        }
    }

    /// Learns from a proof that two hosts are one machine.
    fn learn_by_content(&mut self, relay: ProvenRelay) {
        if !relay.is_proof {
            return;
        }
        let (Some(cause), Some(effect)) = (self.table.leg(relay.cause.1), self.table.leg(relay.effect.1)) else {
            return;
        };
        let ends = [(cause, relay.cause.2.other()), (effect, relay.effect.2)];
        let hosts = ends.map(|(leg, side)| leg.signaller(side));
        let parties = super::learn::parties_hash(self.table.legs_of(cause.call()));
        self.learn_proven_machine((hosts[0], hosts[1]), parties, relay.effect.1);
    }

    fn may_gain(&self, conversation: CallKey) -> bool {
        self.table.keys_of(conversation).len() < MAX_LEGS
    }

    fn call_of(&self, leg: LegKey) -> Option<CallKey> {
        self.table.leg(leg).map(Leg::call)
    }
}

/// Streams of a leg that are watched at once: the newest ones of both sides.
const MAX_WATCHED_STREAMS: usize = 4;
/// Time between two rounds in which lone legs are watched. A round takes about four seconds.
const LISTEN_PAUSE: Duration = Duration::from_secs(32);
/// Time after the answer within which content shows most relays: eight blocks of each direction take a second.
const COMMIT_WAIT: Duration = Duration::from_millis(2_500);
