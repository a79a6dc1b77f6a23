//! Handling of signalling: passes each SIP message to its leg, or begins a new leg.

use crate::call::conversation::Conversation;
use crate::call::correlate::MachineAlias;
use crate::call::correlation_keys::CorrelationKeys;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::dialog::Dialog;
use crate::call::engine::Engine;
use crate::call::engine::new_leg::JoinReason;
use crate::call::engine::tombstones::hash;
use crate::call::event::{KeptBytes, LegSink};
use crate::call::id::conversation_id;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::{Leg, LegDraft};
use crate::call::party::LegParties;
use crate::call::record::Side;
use crate::call::timers::EngineTimer;
use crate::decode::UdpDatagram;
use crate::net::Transport;
use crate::sip::{SipFraming, SipMessage, SipMethod};

/// The call of a new leg, and how it was found.
struct AssignedCall {
    /// Key of the call in the call table.
    conversation: CallKey,
    /// Rule by which the leg joined the call; `None` if the call is new.
    by: Option<CorrelationRule>,
    /// Keys of other calls to which the leg could belong.
    alternatives: Vec<CallKey>,
}

impl AssignedCall {
    const fn only(conversation: CallKey, by: Option<CorrelationRule>) -> Self {
        Self { conversation, by, alternatives: Vec::new() }
    }
}

impl Engine {
    pub(super) fn handle_sip(&mut self, datagram: &UdpDatagram<'_>, transport: Transport, sink: &mut dyn LegSink) {
        // A WebSocket frame contains one whole message, as a datagram does (RFC 7118 section 5.2). So the message needs
        // no Content-Length.
        let framing = if transport == Transport::Tcp { SipFraming::Stream } else { SipFraming::Datagram };
        let Ok(message) = SipMessage::parse(datagram.payload, framing) else {
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
        // If no leg of the dialog is between the two hosts of the message, every leg of the dialog gets it. It is
        // stored only in the spool of the first leg.
        if let Some(first) = slots.first() {
            self.store_message(*first, &message, datagram, sink);
        }
        for slot in slots {
            self.deliver_message(slot, &message, datagram, sink);
        }
    }

    /// Writes a message to the spool of a leg, except for secret parts of its body.
    fn store_message(
        &self,
        slot: LegKey,
        message: &SipMessage<'_>,
        datagram: &UdpDatagram<'_>,
        sink: &mut dyn LegSink,
    ) {
        if let Some(leg) = self.table.leg(slot)
            && leg.spool.is_open()
        {
            sink.packet(leg.id, datagram, kept_part(message, datagram));
        }
    }

    /// Passes a message to the dialog of a leg, then updates the leg.
    fn deliver_message(
        &mut self,
        slot: LegKey,
        message: &SipMessage<'_>,
        datagram: &UdpDatagram<'_>,
        sink: &mut dyn LegSink,
    ) {
        let Some(leg) = self.table.leg_mut(slot) else { return };
        let is_late_invite = leg.dialog.invited_at().is_none() && is_first_invite(message);
        // The caller sends a refused INVITE again, perhaps with more digits of the number (RFC 3578 section 3). So the
        // numbers are read again from this INVITE.
        let is_another_try = is_first_invite(message) && leg.dialog.is_tried_again_by(message);
        leg.dialog.handle_message(datagram.at, message);
        if is_late_invite || is_another_try {
            leg.parties = LegParties::read(message, Side::Caller, &self.settings.config, &self.site.plan);
            let keys = CorrelationKeys::read(message, &self.settings.config);
            if is_late_invite {
                self.apply_late_invite(slot, keys, sink);
            } else {
                self.apply_another_try(slot, keys, sink);
            }
        }
        if message.method() == Some(&SipMethod::Refer) {
            self.handle_refer(slot, message, datagram, sink);
            if let Some(conversation) = self.table.leg(slot).map(Leg::call) {
                self.watch_call(conversation);
            }
        }
        if message.method() == Some(&SipMethod::Notify) {
            self.handle_notify(slot, message, datagram, sink);
        }
        self.handle_pause_signals(slot, message, datagram.at, sink);
        self.apply_dialog_state(slot, sink);
    }

    /// Returns the legs to which a message belongs: the leg of its dialog between the same two hosts. If there is none,
    /// returns all legs of the dialog.
    fn legs_for(&self, message: &SipMessage<'_>, datagram: &UdpDatagram<'_>) -> Vec<LegKey> {
        let slots = self.table.with_call_id(message.call_id());
        if slots.is_empty() {
            return Vec::new();
        }
        let dialog_at = |slot: &LegKey| self.table.leg(*slot).map(|leg| &leg.dialog);
        let of_dialog = || slots.iter().filter(|s| dialog_at(s).is_some_and(|d| d.matches(message))).copied();
        // A later call may use the same Call-ID and tag again. Then the Via branch and the callee's tag decide between
        // the legs, and otherwise the newest leg gets the message.
        let is_at_hop = |s: &LegKey| self.table.leg(*s).is_some_and(|l| l.is_hop(datagram.src, datagram.dst));
        let fit = |slot: &LegKey| dialog_at(slot).map(|d| (d.has_branch_of(message), d.names_callee(message)));
        let at_hop = of_dialog().filter(is_at_hop).max_by_key(fit);
        let dialog_of = |slot: LegKey| self.table.leg(slot).map(|leg| &leg.dialog);
        match at_hop {
            Some(slot) if is_first_invite(message) && dialog_of(slot).is_some_and(|d| d.is_reused_by(message)) => {
                Vec::new()
            }
            Some(slot) => vec![slot],
            // A host may send its response from another address. The Via branch still identifies the INVITE (RFC 3261
            // section 17.1.3), so the leg of this INVITE gets the response.
            None if is_invite_response(message)
                && to_tag(message).is_none()
                && let Some(slot) = of_dialog().find(|s| dialog_of(*s).is_some_and(|d| d.has_branch_of(message))) =>
            {
                vec![slot]
            }
            // A response takes the path of its INVITE (RFC 3261 section 18.2.2). This response is between hosts for
            // which the dialog has no leg, because their INVITE was not captured yet. So no known leg gets it.
            None if is_invite_response(message) && of_dialog().all(|s| self.answers_other_invite(s, message)) => {
                Vec::new()
            }
            // Between hosts for which the dialog has no leg, an initial INVITE begins a leg, and so does a response to
            // it. So no known leg gets the message.
            None if is_first_invite(message) || is_invite_response(message) && to_tag(message).is_none() => Vec::new(),
            None => of_dialog().collect(),
        }
    }

    fn answers_other_invite(&self, slot: LegKey, message: &SipMessage<'_>) -> bool {
        self.table.leg(slot).is_some_and(|leg| leg.dialog.answers_other_invite(message))
    }

    /// Begins a new leg, or continues a dialog that ended by a media timeout. Returns `None` if the message cannot do
    /// either.
    fn begin_leg(
        &mut self,
        message: &SipMessage<'_>,
        datagram: &UdpDatagram<'_>,
        transport: Transport,
        sink: &mut dyn LegSink,
    ) -> Option<LegKey> {
        let restored = self.earlier.restore.take(message.call_id(), (datagram.src, datagram.dst));
        let known = restored.is_some() || !self.table.with_call_id(message.call_id()).is_empty();
        if !known && let Some(slot) = self.resume_by_message(message, datagram, sink) {
            return Some(slot);
        }
        let begins = can_begin(message) || !known && shows_missed_invite(message);
        if !begins || (!known && self.is_late_message(message)) {
            return None;
        }
        let transport = restored.as_ref().map_or(transport, |restored| restored.transport);
        if self.table.leg_count() >= self.settings.limits.legs && !self.evict_unanswered_leg(sink) {
            self.counters.legs_refused += 1;
            return None;
        }
        let left = if restored.is_none() { self.continue_left_call(message, datagram.at) } else { None };
        let requester = match (&restored, &left) {
            (Some(restored), _) => restored.first_requester,
            (None, Some(left)) => left.requester,
            (None, None) => Side::Caller,
        };
        let mut draft = self.draft_leg(message, datagram, requester, transport);
        let assigned = match (&restored, left) {
            (Some(restored), _) => {
                AssignedCall::only(self.restored_conversation(restored, draft.at), restored.joined_by)
            }
            (None, Some(left)) => AssignedCall::only(left.conversation, left.joined_by),
            (None, None) => self.assign_conversation(&mut draft, sink),
        };
        let reason = match (&restored, assigned.by) {
            (Some(restored), _) => JoinReason::Restored(restored),
            (None, Some(by)) => JoinReason::Rule(by),
            (None, None) => JoinReason::First,
        };
        let slot = self.add_leg(assigned.conversation, draft, reason, sink);
        if let Some(leg) = self.table.leg_mut(slot).filter(|_| !assigned.alternatives.is_empty()) {
            leg.join.set_alternatives(assigned.alternatives);
            self.store_assignment(slot, sink);
        }
        self.apply(self.correlator().late_hop(slot), sink);
        // The new leg may show that another leg joined its call wrongly, because a leg that is not captured yet caused
        // it. That other leg is removed from the call. If the new leg was restored from a spool, the earlier process
        // has already done this.
        if restored.is_none() {
            self.apply(self.correlator().release_strangers(slot), sink);
            self.apply(self.correlator().telephones_of_late_caller(slot), sink);
        }
        Some(slot)
    }

    /// Creates a leg without a call for its first message. `requester` is the side that sent this request; for a response,
    /// the side that sent the answered request.
    fn draft_leg(
        &self,
        message: &SipMessage<'_>,
        datagram: &UdpDatagram<'_>,
        requester: Side,
        transport: Transport,
    ) -> LegDraft {
        let dialog = Dialog::new(message, (datagram.src, datagram.dst), requester, transport, datagram.at);
        LegDraft {
            machine_hop: self.machine_hop((dialog.caller_addr, dialog.callee_addr)),
            dialog,
            parties: LegParties::read(message, requester, &self.settings.config, &self.site.plan),
            correlation_keys: CorrelationKeys::read(message, &self.settings.config),
            at: datagram.at,
        }
    }

    /// Finds the call of a new leg by correlation, or creates a new call.
    fn assign_conversation(&mut self, draft: &mut LegDraft, sink: &mut dyn LegSink) -> AssignedCall {
        self.apply(self.correlator().release_for_cause(draft), sink);
        let correlation = self.correlator().correlate(draft);
        // A REFER explains one new leg at most, and is then marked as used. If numbers alone joined the leg to its
        // call, the leg does not come from a REFER, so no REFER is marked.
        if !correlation.same.is_some_and(|(_, by)| by.rests_on_numbers()) {
            self.spend_referral(draft, sink);
        }
        match correlation.alias {
            Some(MachineAlias::OfDraft(machine)) => draft.machine_hop.0 = machine,
            Some(MachineAlias::OfLeg(slot, machine)) => self.set_sending_machine(slot, machine, sink),
            None => {}
        }
        if let Some((conversation, by)) = correlation.same {
            return AssignedCall { conversation, by: Some(by), alternatives: correlation.alternatives };
        }
        if let Some((conversation, by)) = self.join_late_cause(draft, sink) {
            return AssignedCall::only(conversation, Some(by));
        }
        let dialog = &draft.dialog;
        let id = conversation_id(&self.settings.config.appliance, dialog.call_id(), dialog.caller_tag(), draft.at);
        let mut call = Conversation::new(id, draft.at, self.clock.wall_offset_ns);
        call.closed_to_heuristics = correlation.closed_to_heuristics;
        let conversation = self.table.insert_call(call);
        self.timers.arm(EngineTimer::Settle(conversation), draft.at + SETTLE);
        for (other, why) in correlation.related {
            self.relate(conversation, other, why, sink);
        }
        AssignedCall { conversation, by: None, alternatives: correlation.alternatives }
    }

    /// Returns whether a message is a late message of an ended dialog.
    ///
    /// A 2xx to an INVITE that had no final response yet is not late. Its dialog ended by a timeout, perhaps because the
    /// clock of the capture was set ahead. The conversation begins with this answer.
    ///
    /// An INVITE that begins a new attempt or a new call is not late. A new attempt with the same Call-ID, e.g. after a
    /// redirection, has a higher CSeq (RFC 3261 section 8.1.3.5). A new call with the same Call-ID has another From
    /// tag.
    fn is_late_message(&mut self, message: &SipMessage<'_>) -> bool {
        let Some(tombstone) = self.ended.tombstones.get(hash(message.call_id()), self.clock.now) else { return false };
        if !is_first_invite(message) {
            return !(tombstone.awaits_answer && is_success_of_invite(message));
        }
        let tag = message.from().and_then(|f| f.tag().map(str::to_owned));
        let newer = message.cseq().is_some_and(|cseq| cseq.number > tombstone.invite_cseq);
        // After an answered call, an INVITE with the same Call-ID and another Via branch begins a new call. With the
        // same branch it is a retransmission (RFC 3261 section 17.2.3).
        let branch = Dialog::branch_of(message);
        let is_other_transaction =
            branch.is_some() && tombstone.branches[0].is_some() && !tombstone.branches.contains(&branch);
        !newer && !is_other_transaction && tombstone.tags.contains(&hash(&tag.as_deref()))
    }

    /// Learns an extension from the 2xx response to a REGISTER.
    fn learn_from_message(&mut self, message: &SipMessage<'_>, datagram: &UdpDatagram<'_>) {
        let accepted = message.status().is_some_and(|s| (200..300).contains(&s));
        if accepted
            && message.cseq().is_some_and(|c| c.method == SipMethod::Register)
            && let Some(user) = message.to().and_then(|to| to.uri.user)
            && let Some(user) = self.site.plan.normalise(&user)
        {
            self.site.plan.learn_registration(&user, datagram.dst, datagram.src);
            self.learn_phone(datagram.dst);
        }
    }
}

/// Returns the part of a message that may be stored. The body of an INFO or NOTIFY may contain DTMF digits, so only its
/// header is stored.
fn kept_part(message: &SipMessage<'_>, datagram: &UdpDatagram<'_>) -> KeptBytes {
    match message.cseq().map(|c| c.method) {
        // A NOTIFY may report DTMF digits like an INFO (RFC 4730), so its body is not stored either.
        Some(SipMethod::Info | SipMethod::Notify) => {
            let head = datagram.payload.len().saturating_sub(message.body().len());
            KeptBytes::Header(u16::try_from(head).unwrap_or(u16::MAX))
        }
        _ => KeptBytes::Whole,
    }
}

/// Returns whether a message can begin a call: an INVITE, a response to it, or a request that shows an established
/// dialog. An ACK without SDP, or a response to another request, cannot begin a call.
fn can_begin(message: &SipMessage<'_>) -> bool {
    match (message.method(), message.status()) {
        (Some(SipMethod::Invite | SipMethod::Bye), _) => true,
        (Some(SipMethod::Update | SipMethod::Ack), _) => message.sdp().is_some(),
        (None, Some(status)) => is_invite_response(message) && status > 100 && status != 487,
        _ => false,
    }
}

/// Returns whether a message shows an INVITE that the mirror missed: a 100 that answers it. A 100 comes at once, so it
/// has the time of the INVITE, by which correlation finds the other legs.
fn shows_missed_invite(message: &SipMessage<'_>) -> bool {
    message.status() == Some(100) && is_invite_response(message) && to_tag(message).is_none()
}

fn is_first_invite(message: &SipMessage<'_>) -> bool {
    message.method() == Some(&SipMethod::Invite) && to_tag(message).is_none()
}

fn is_success_of_invite(message: &SipMessage<'_>) -> bool {
    is_invite_response(message) && message.status().is_some_and(|status| (200..300).contains(&status))
}

fn is_invite_response(message: &SipMessage<'_>) -> bool {
    message.status().is_some() && message.cseq().is_some_and(|c| c.method == SipMethod::Invite)
}

fn to_tag(message: &SipMessage<'_>) -> Option<String> {
    message.to().and_then(|t| t.tag().map(str::to_owned))
}

/// Time after the first message of a call during which its legs are correlated. Then an event announces the call.
pub(super) const SETTLE: std::time::Duration = std::time::Duration::from_millis(500);
