//! The signalling path: a message finds its leg, the leg's new state is carried out.

use std::hash::BuildHasher;

use crate::call::conversation::Conversation;
use crate::call::correlation_keys::CorrelationKeys;
use crate::call::dialog::Dialog;
use crate::call::engine::tombstones::DialogTombstone;
use crate::call::engine::{Engine, EngineTimer, RestoredLeg};
use crate::call::event::{Keep, LegId, LegSink};
use crate::call::id::{conversation_id, leg_name};
use crate::call::leg::{Draft, Leg, SpoolStage};
use crate::call::media_index::MediaReceiver;
use crate::call::party::Parties;
use crate::call::record::Side;
use crate::decode::Datagram;
use crate::net::Transport;
use crate::sip::{Framing, Message, Method};

impl Engine {
    pub(super) fn handle_sip(&mut self, datagram: &Datagram<'_>, transport: Transport, sink: &mut dyn LegSink) {
        // A WebSocket message is framed by itself, as a datagram is (RFC 7118 section 5.2).
        let framing = if transport == Transport::Tcp { Framing::Stream } else { Framing::Datagram };
        let Ok(message) = Message::parse(datagram.payload, framing) else {
            self.counters.sip_rejected += 1;
            return;
        };
        self.counters.sip_messages += 1;
        self.learn_from_message(&message, datagram);
        let slots = match self.legs_for(&message, datagram) {
            slots if !slots.is_empty() => slots,
            _ => match self.begin_leg(&message, datagram, transport, sink) {
                Some(slot) => vec![slot],
                None => return,
            },
        };
        // A message that by-passes the hops that were seen concerns each of them, and is kept with the first.
        for (n, slot) in slots.into_iter().enumerate() {
            self.deliver_message(slot, &message, datagram, (n == 0, sink));
        }
    }

    fn deliver_message(
        &mut self,
        slot: usize,
        message: &Message<'_>,
        datagram: &Datagram<'_>,
        (keep, sink): (bool, &mut dyn LegSink),
    ) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if keep && leg.spool == SpoolStage::Open {
            sink.packet(leg.id, datagram, kept_part(message, datagram));
        }
        let better = leg.dialog.invited_at.is_none() && is_first_invite(message);
        leg.dialog.handle_message(datagram.at, message);
        if better {
            leg.parties = Parties::read(message, Side::Caller, &self.config, &self.number_plan);
            let traces = CorrelationKeys::read(message, &self.config);
            self.update_correlation_keys(slot, traces);
        }
        if message.method() == Some(&Method::Refer) {
            self.handle_refer(slot, message, datagram, sink);
        }
        self.handle_pause_signals(slot, message, datagram.at, sink);
        self.apply_dialog_state(slot, sink);
    }

    /// The legs that a message belongs to: the one at its hop; for a message that went another way, every leg of its
    /// dialog.
    fn legs_for(&self, message: &Message<'_>, datagram: &Datagram<'_>) -> Vec<usize> {
        let Some(slots) = self.by_call_id.get(message.call_id()) else { return Vec::new() };
        let of_dialog = || {
            let fits = |slot: &&usize| self.legs.get(**slot).is_some_and(|l| l.dialog.has_tags_of(message));
            slots.iter().filter(fits).copied()
        };
        let at_hop = of_dialog().find(|s| self.legs.get(*s).is_some_and(|l| l.is_hop(datagram.src, datagram.dst)));
        match at_hop {
            Some(slot) => vec![slot],
            // An answer goes back the way of its INVITE (RFC 3261 section 18.2.2): that one was not seen yet.
            None if is_invite_response(message) && of_dialog().all(|s| self.is_of_other_invite(s, message)) => {
                Vec::new()
            }
            // An INVITE (and its first answers) at a hop not seen before is a leg of its own.
            None if is_first_invite(message) || is_invite_response(message) && to_tag(message).is_none() => Vec::new(),
            None => of_dialog().collect(),
        }
    }

    fn is_of_other_invite(&self, slot: usize, message: &Message<'_>) -> bool {
        self.legs.get(slot).is_some_and(|leg| leg.dialog.is_of_other_invite(message))
    }

    /// Begins a leg, if the message is one that can.
    fn begin_leg(
        &mut self,
        message: &Message<'_>,
        datagram: &Datagram<'_>,
        transport: Transport,
        sink: &mut dyn LegSink,
    ) -> Option<usize> {
        let recall = self.restore.take(message.call_id(), (datagram.src, datagram.dst));
        let known = recall.is_some() || self.by_call_id.contains_key(message.call_id());
        if !known && let Some(slot) = self.resume_by_message(message, datagram, sink) {
            return Some(slot);
        }
        if !can_begin(message) || (!known && self.is_late_message(message)) {
            return None;
        }
        let transport = recall.as_ref().map_or(transport, |recall| recall.transport);
        if self.legs.len() >= self.limits.legs && !self.evict_unanswered_leg(sink) {
            self.counters.legs_refused += 1;
            return None;
        }
        let draft = Draft {
            dialog: Dialog::new(message, (datagram.src, datagram.dst), transport, datagram.at),
            parties: Parties::read(message, Side::Caller, &self.config, &self.number_plan),
            traces: CorrelationKeys::read(message, &self.config),
            at: datagram.at,
        };
        let (conversation, rivals) = match &recall {
            Some(recall) => (self.restored_conversation(recall, &draft), Vec::new()),
            None => self.assign_conversation(&draft, sink),
        };
        let slot = self.add_leg(conversation, draft, recall.as_ref(), sink);
        self.legs[slot].rivals = rivals;
        Some(slot)
    }

    pub(super) fn add_leg(
        &mut self,
        conversation: usize,
        draft: Draft,
        recall: Option<&RestoredLeg>,
        sink: &mut dyn LegSink,
    ) -> usize {
        let id = LegId(self.next_leg);
        self.next_leg += 1;
        self.counters.legs += 1;
        let at = draft.at;
        let (hop, call_id) = (draft.signature().hop, draft.dialog.call_id.clone());
        let new_name = || leg_name(&self.conversations[conversation].id, &call_id, hop, at);
        let name = recall.map_or_else(new_name, |recall| recall.name.clone());
        let slot = self.legs.insert(Leg::new(id, name, conversation, draft));
        if let Some(recall) = recall {
            self.index_restored_leg(slot, recall);
        }
        let leg = &mut self.legs[slot];
        leg.join_keys = self.correlation_index.add(slot, &leg.traces, &leg.signature());
        let legs = &self.legs;
        let call = &mut self.conversations[conversation].legs;
        // In the order of their stamps, in whichever order they were seen.
        let place = call.iter().rposition(|s| legs.get(*s).is_some_and(|l| l.created_at <= at)).map_or(0, |n| n + 1);
        call.insert(place, slot);
        self.learn_pbx(slot);
        self.apply_rules(conversation, sink);
        self.queue_unanswered_leg(slot, id);
        self.by_call_id.entry(call_id).or_default().push(slot);
        self.timers.insert((at, EngineTimer::Leg(slot)));
        self.apply_pause_to_new_leg(slot, at, sink);
        slot
    }

    /// The conversation of a new leg: one that it belongs to, else a new one; and those that it may be of as well.
    fn assign_conversation(&mut self, draft: &Draft, sink: &mut dyn LegSink) -> (usize, Vec<(usize, String)>) {
        self.resolve_certain_legs(sink);
        let place = self.correlate(draft);
        if let Some(conversation) = place.same.or_else(|| self.join_late_cause(draft, sink)) {
            let rivals =
                place.alternatives.into_iter().filter_map(|c| Some((c, self.conversations.get(c)?.id.clone())));
            return (conversation, rivals.collect());
        }
        let dialog = &draft.dialog;
        let id = conversation_id(&self.config.appliance, &dialog.call_id, dialog.caller_tag.as_deref(), draft.at);
        let conversation = self.conversations.insert(Conversation::new(id, draft.at, self.wall_offset_ns));
        self.conversations[conversation].closed_to_heuristics = place.closed_to_heuristics;
        self.timers.insert((draft.at + SETTLE, EngineTimer::Settle(conversation)));
        for other in place.related {
            self.relate(conversation, other);
        }
        (conversation, Vec::new())
    }

    /// Brings tables, spool and timers to what a leg's dialog says now.
    pub(super) fn apply_dialog_state(&mut self, slot: usize, sink: &mut dyn LegSink) {
        self.index_media_addresses(slot, sink);
        self.correlate_by_media_address(slot, sink);
        if self.legs.get(slot).is_some_and(|l| l.dialog.answered.is_some()) {
            self.write_start(slot, sink);
            self.mark_superseded_legs(slot);
            self.join_late_sibling(slot, sink);
        }
        if self.legs.get(slot).is_some_and(|l| l.dialog.ended().is_some()) {
            self.remove_flows(slot);
            self.join_late_sibling(slot, sink);
        }
        self.schedule_answer_review(slot);
        self.rearm_leg_timer(slot);
        if let Some(conversation) = self.legs.get(slot).map(|leg| leg.conversation) {
            if !self.rules.is_empty() {
                self.apply_rules(conversation, sink);
            }
            self.emit_update(conversation);
        }
    }

    fn index_media_addresses(&mut self, slot: usize, sink: &mut dyn LegSink) {
        let Some(leg) = self.legs.get(slot) else { return };
        let generation = leg.dialog.negotiation.generation();
        if leg.claimed_generation == Some(generation) || leg.closed {
            return;
        }
        let claims = leg.dialog.negotiation.claims();
        let gone: Vec<_> = leg.claimed.iter().filter(|e| !claims.iter().any(|(c, _)| c == *e)).copied().collect();
        for endpoint in gone {
            self.media_index.remove(endpoint, slot);
        }
        let mut fresh = Vec::new();
        for &(endpoint, receiver) in &claims {
            for other in self
                .media_index
                .receivers_at(endpoint)
                .iter()
                .map(|c| c.slot)
                .filter(|s| *s != slot)
                .collect::<Vec<_>>()
            {
                self.remove_flows(other);
            }
            self.media_index.add(endpoint, MediaReceiver { slot, side: receiver });
            self.timed_out.release_address(endpoint);
            fresh.push(endpoint);
        }
        self.remove_flows(slot);
        if let Some(leg) = self.legs.get_mut(slot) {
            leg.claimed_generation = Some(generation);
            leg.claimed = claims.into_iter().map(|(endpoint, _)| endpoint).collect();
        }
        self.deliver_early_media(&fresh, sink);
    }

    /// Other calls that claim this answered leg's addresses are over unless they go on sounding.
    fn mark_superseded_legs(&mut self, slot: usize) {
        let Some(leg) = self.legs.get(slot) else { return };
        let (conversation, answered) = (leg.conversation, leg.dialog.answered.map(|(at, _)| at));
        let Some(answered) = answered else { return };
        let mut others = Vec::new();
        for endpoint in &leg.claimed {
            others.extend(self.media_index.receivers_at(*endpoint).iter().map(|c| c.slot).filter(|s| *s != slot));
        }
        for other in others {
            if let Some(old) = self.legs.get_mut(other)
                && old.conversation != conversation
                && old.superseded_at.is_none()
                && old.dialog.ended().is_none()
                && old.dialog.answered.is_some_and(|(at, _)| at < answered)
            {
                old.superseded_at = Some(answered);
                self.rearm_leg_timer(other);
            }
        }
    }

    pub(super) fn remove_flows(&mut self, slot: usize) {
        if let Some(leg) = self.legs.get_mut(slot) {
            for flow in leg.flows.drain(..) {
                self.flows.remove(&flow);
            }
        }
    }

    /// Remembers a dialog that is over, so that its stragglers open no new call.
    pub(super) fn add_leg_tombstone(&mut self, slot: usize) {
        let Some(dialog) = self.legs.get(slot).map(|leg| &leg.dialog) else { return };
        let (call_id, tag) = (dialog.call_id.clone(), dialog.caller_tag.clone());
        self.add_tombstone(&call_id, dialog.invite_cseq(), [tag.as_deref(), tag.as_deref()]);
    }

    /// See [`Engine::add_leg_tombstone`]. The tags are those that the caller may have had.
    pub(super) fn add_tombstone(&mut self, call_id: &str, invite_cseq: u32, tags: [Option<&str>; 2]) {
        let buried = DialogTombstone { until: self.now + STRAGGLERS, invite_cseq, tags: tags.map(|tag| hash(&tag)) };
        self.tombstones.add(hash(call_id), buried, self.limits.tombstones);
    }

    /// Whether a message is a late one of a dialog that is over. A new attempt under the same Call-ID (after a
    /// redirection, a password) is none: its CSeq is higher (RFC 3261 section 8.1.3.5). Nor is a new call of a sender
    /// that uses a Call-ID again: its From tag is another.
    fn is_late_message(&mut self, message: &Message<'_>) -> bool {
        let Some(buried) = self.tombstones.get(hash(message.call_id()), self.now) else { return false };
        if !is_first_invite(message) {
            return true;
        }
        let tag = message.from().and_then(|f| f.tag().map(str::to_owned));
        let newer = message.cseq().is_some_and(|cseq| cseq.number > buried.invite_cseq);
        !newer && buried.tags.contains(&hash(&tag.as_deref()))
    }

    /// What a message teaches about who is one of ours: a REGISTER that was accepted.
    fn learn_from_message(&mut self, message: &Message<'_>, datagram: &Datagram<'_>) {
        let accepted = message.status().is_some_and(|s| (200..300).contains(&s));
        if accepted
            && message.cseq().is_some_and(|c| c.method == Method::Register)
            && let Some(user) = message.to().and_then(|to| to.uri.user)
            && let Some(user) = self.number_plan.normalise(&user)
        {
            self.number_plan.learn_registration(&user, datagram.src);
        }
    }

    /// A host that receives one leg of a call and sends another is a PBX.
    fn learn_pbx(&mut self, slot: usize) {
        let Some(leg) = self.legs.get(slot) else { return };
        let (own, Some(call)) = (leg.dialog.caller_addr, self.conversations.get(leg.conversation)) else { return };
        let mut others = call.legs.iter().filter(|s| **s != slot).filter_map(|s| self.legs.get(*s));
        let caused = others.find(|o| o.dialog.callee_addr.same_host(own) && !o.dialog.caller_addr.same_host(own));
        let Some(caused) = caused else { return };
        let ours = |number: &Option<String>| number.as_deref().is_some_and(|n| self.number_plan.is_extension(n));
        if ours(&leg.parties.to) && !ours(&caused.parties.from) {
            self.number_plan.learn_ringing(own);
        } else {
            self.number_plan.learn_pbx(own);
        }
    }
}

/// What may be kept of a message: of an INFO only its head, for its body can hold a dialled digit.
fn kept_part(message: &Message<'_>, datagram: &Datagram<'_>) -> Keep {
    match message.cseq().map(|c| c.method) {
        // So can a NOTIFY of pressed keys (RFC 4730).
        Some(Method::Info | Method::Notify) => {
            let head = datagram.payload.len().saturating_sub(message.body().len());
            Keep::Header(u16::try_from(head).unwrap_or(u16::MAX))
        }
        _ => Keep::Whole,
    }
}

/// Whether a message can open a call that was not known: an INVITE or an answer to one, or what shows that a call
/// is under way. Never the answer to a BYE or a CANCEL, a straggling ACK of a failure, or anything else.
fn can_begin(message: &Message<'_>) -> bool {
    match (message.method(), message.status()) {
        (Some(Method::Invite | Method::Bye), _) => true,
        (Some(Method::Update | Method::Ack), _) => message.sdp().is_some(),
        (None, Some(status)) => is_invite_response(message) && status > 100 && status != 487,
        _ => false,
    }
}

fn is_first_invite(message: &Message<'_>) -> bool {
    message.method() == Some(&Method::Invite) && to_tag(message).is_none()
}

fn is_invite_response(message: &Message<'_>) -> bool {
    message.status().is_some() && message.cseq().is_some_and(|c| c.method == Method::Invite)
}

fn to_tag(message: &Message<'_>) -> Option<String> {
    message.to().and_then(|t| t.tag().map(str::to_owned))
}

/// Either side may send the straggler, with either tag: dialogs that are over are found by the Call-ID alone.
fn hash<T: std::hash::Hash + ?Sized>(value: &T) -> u64 {
    foldhash::fast::FixedState::with_seed(1).hash_one(value)
}

/// Legs have so long to come together before the call is told to the outside.
pub(super) const SETTLE: std::time::Duration = std::time::Duration::from_millis(500);
/// Retransmissions of a BYE or a 200 go on for 32 s (RFC 3261 timers F and H); twice that.
const STRAGGLERS: std::time::Duration = std::time::Duration::from_secs(64);
