//! The state of one dialog, as its captured messages show it (RFC 3261 sections 12 to 15).
//!
//! Any message may be missing, doubled or out of order. So each stored time belongs to the first (or last) message of a
//! kind. A later message never undoes the effect of an earlier message.

mod events;
mod ids;
mod matching;
mod times;

use events::DialogNotes;
use ids::DialogIds;
use matching::to_tag_of;
use times::DialogTimes;

use crate::call::negotiation::{AgreedMedia, AudioDescription, Negotiation};
use crate::call::record::{EndedBy, Side};
use crate::net::{Endpoint, Transport};
use crate::sdp;
use crate::sip::{SipMessage, SipMethod};
use crate::time::Timestamp;

/// State of a dialog, as its captured messages show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialogState {
    /// An INVITE was captured, and no final response yet.
    Inviting,
    /// The INVITE was refused with 401, 407 or 422, which ask the caller for another INVITE.
    Challenged {
        /// Capture time of the response that refused the INVITE.
        at: Timestamp,
    },
    /// The INVITE was answered by a 2xx, and the call is in progress.
    Established,
    /// The dialog is over, e.g. by a BYE or a rejection.
    Ended {
        /// Capture time at which the dialog ended.
        at: Timestamp,
        /// Event that ended the dialog, e.g. a BYE.
        by: EndedBy,
    },
}

/// Whether the capture shows a dialog from its first INVITE on, or only from the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialogStart {
    /// The first captured message is the dialog's first INVITE, or a response to it.
    Invite,
    /// The first captured message is an in-dialog request. So the dialog existed before the capture.
    MidCall,
}

/// The captured fact that proves that the INVITE was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerEvidence {
    /// The 2xx to the INVITE was captured.
    Success,
    /// The ACK to a 2xx was captured, but not the 2xx itself.
    Ack,
    /// Media of both sides was captured, but neither 2xx nor ACK.
    Media,
    /// An in-dialog request was captured, so the INVITE was answered before the capture began.
    MidCall,
    /// The recorder did not run for a while after the INVITE, and then a BYE was captured. So the INVITE was answered
    /// meanwhile.
    Gap,
}

/// A request within a dialog, to which a response belongs.
#[derive(Clone, Copy, Debug)]
struct InDialogRequest {
    /// Side (caller or callee) that sent the request.
    by: Side,
    /// Number in the request's CSeq header (RFC 3261 section 20.16).
    cseq: u32,
}

/// The state of a dialog (RFC 3261 section 12) as captured between two hosts.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    ids: DialogIds,
    /// Endpoint that sent the first INVITE (the caller's side).
    pub(crate) caller_addr: Endpoint,
    /// Endpoint that received the first INVITE (the callee's side).
    pub(crate) callee_addr: Endpoint,
    /// Transport of the dialog's SIP messages.
    pub(crate) transport: Transport,
    /// Whether the dialog was captured from its first INVITE on, or only from the middle.
    pub(crate) start: DialogStart,
    state: DialogState,
    /// Offers and answers of the dialog, from which the agreed media follows.
    pub(crate) negotiation: Negotiation,
    /// The agreed media when the events hold and media move were last recorded. The next change is found by comparison
    /// with this state.
    agreed: AgreedMedia,
    times: DialogTimes,
    /// Capture time of the answer, and the fact that proves it; `None` if the dialog was not answered.
    pub(crate) answered: Option<(Timestamp, AnswerEvidence)>,
    /// Status code of the last final response to the first INVITE; `None` before a final response.
    pub(crate) status: Option<u16>,
    notes: DialogNotes,
}

impl Dialog {
    /// Creates a dialog for its first captured message. The message must then be passed to [`Dialog::handle_message`].
    /// `addrs` are the message's source and destination. `requester` is the side that sent this request; for a response,
    /// the side that sent the answered request.
    pub(crate) fn new(
        message: &SipMessage<'_>,
        addrs: (Endpoint, Endpoint),
        requester: Side,
        transport: Transport,
        at: Timestamp,
    ) -> Self {
        // A callee sends requests only within a dialog.
        let in_dialog = requester == Side::Callee || message.method().is_some() && to_tag_of(message).is_some();
        let is_from_caller = message.method().is_some() == (requester == Side::Caller);
        let (caller_addr, callee_addr) = if is_from_caller { addrs } else { (addrs.1, addrs.0) };
        Self {
            ids: DialogIds::of_first_message(message, requester),
            caller_addr,
            callee_addr,
            transport,
            start: if in_dialog { DialogStart::MidCall } else { DialogStart::Invite },
            state: DialogState::Inviting,
            negotiation: Negotiation::default(),
            agreed: AgreedMedia::default(),
            times: DialogTimes::since(at),
            answered: None,
            status: None,
            notes: DialogNotes::default(),
        }
    }

    /// Updates the state of the dialog with a SIP message that belongs to it.
    pub(crate) fn handle_message(&mut self, at: Timestamp, message: &SipMessage<'_>) {
        self.times.note_message(at);
        self.note_agent(message);
        match message.status() {
            _ if self.is_for_lost_fork(message) => {}
            None => self.handle_request(at, message),
            Some(status) => self.handle_response(at, message, status),
        }
        self.note_agreement(at);
    }

    /// Ends the dialog for a reason that is not in its signalling. Does nothing if the dialog is already over.
    pub(crate) fn handle_end(&mut self, at: Timestamp, by: EndedBy) {
        if !matches!(self.state, DialogState::Ended { .. }) {
            self.state = DialogState::Ended { at, by };
        }
    }

    /// Records an answer without a captured 2xx. Does nothing if the dialog is already answered.
    pub(crate) fn presume_answer(&mut self, at: Timestamp, how: AnswerEvidence) {
        if self.answered.is_none() {
            self.answered = Some((at, how));
            if matches!(self.state, DialogState::Inviting | DialogState::Challenged { .. }) {
                self.state = DialogState::Established;
            }
        }
    }

    /// Continues a dialog that ended by a media timeout. The agreed media stays. The dialog now counts as captured from
    /// the middle on: the earlier times, status and events are forgotten.
    pub(crate) fn resume_after_timeout(&mut self, at: Timestamp) {
        self.state = DialogState::Established;
        self.start = DialogStart::MidCall;
        self.answered = Some((at, AnswerEvidence::MidCall));
        self.times = self.times.resumed(at);
        self.status = None;
        self.notes.forget_events();
    }

    /// Sets the time of the last activity, from which the media timeout counts.
    pub(crate) fn note_activity(&mut self, at: Timestamp) {
        if self.ended().is_none() {
            self.times.note_message(at);
        }
    }

    /// Records that the recorder runs again from `at` on. If the INVITE has no answer yet, the answer may have been
    /// missed.
    pub(crate) fn note_gap(&mut self, at: Timestamp) {
        if self.answered.is_none() {
            self.times.gap_end = Some(at);
        }
    }

    /// Returns the current state of the dialog.
    pub(crate) const fn state(&self) -> DialogState {
        self.state
    }

    /// Returns capture time and cause of the end; `None` if the dialog is not over.
    pub(crate) const fn ended(&self) -> Option<(Timestamp, EndedBy)> {
        match self.state {
            DialogState::Ended { at, by } => Some((at, by)),
            _ => None,
        }
    }

    /// Returns whether the dialog ended by a timeout while its INVITE waited for a final response.
    pub(crate) fn has_timed_out_unanswered(&self) -> bool {
        let is_over = matches!(self.ended(), Some((_, EndedBy::Silence)));
        is_over && self.answered.is_none() && self.status.is_none() && self.times.cancelled_at.is_none()
    }

    /// Returns whether the agreed media allows no audio from either side, because of a hold or a fax.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.agreed.holding[0] || self.agreed.holding[1] || self.agreed.fax
    }

    /// Returns whether a provisional response (100 to 199) was captured.
    pub(crate) const fn is_tried(&self) -> bool {
        self.times.is_tried
    }

    /// Returns capture time and status of the final response that refused the INVITE; `None` if there is none, or if
    /// the caller cancelled the INVITE.
    pub(crate) fn refusal(&self) -> Option<(Timestamp, u16)> {
        let status = self.status.filter(|status| *status >= 300)?;
        let (DialogState::Challenged { at } | DialogState::Ended { at, by: EndedBy::Signalling }) = self.state else {
            return None;
        };
        (self.times.cancelled_at.is_none() && self.answered.is_none()).then_some((at, status))
    }

    /// Returns the side that sent the first captured request.
    pub(crate) const fn first_requester(&self) -> Side {
        self.ids.first_requester
    }

    /// Returns the CSeq number of the newest INVITE without To tag.
    pub(crate) const fn invite_cseq(&self) -> u32 {
        self.ids.invite_cseq
    }

    /// Returns the capture time of the newest message.
    pub(crate) const fn last_at(&self) -> Timestamp {
        self.times.last_at
    }

    /// Returns the value of the Call-ID header.
    pub(crate) fn call_id(&self) -> &str {
        &self.ids.call_id
    }

    /// Returns the tag of the caller, i.e. the From tag of the first INVITE.
    pub(crate) fn caller_tag(&self) -> Option<&str> {
        self.ids.caller_tag.as_deref()
    }

    /// Returns the tag of the callee that answered; `None` before the answer.
    pub(crate) fn callee_tag(&self) -> Option<&str> {
        self.ids.callee_tag.as_deref()
    }

    /// Returns the capture time of the first INVITE; `None` if it was not captured.
    pub(crate) const fn invited_at(&self) -> Option<Timestamp> {
        self.times.invited_at
    }

    /// Returns the capture time of the newest INVITE that the caller sent in place of an earlier one; `None` if there is
    /// only one. The caller adds credentials or digits, for example.
    pub(crate) const fn invited_again_at(&self) -> Option<Timestamp> {
        self.times.invited_again_at
    }

    /// Returns the capture time of the first provisional response other than 100; `None` if there was none.
    pub(crate) const fn ringing_at(&self) -> Option<Timestamp> {
        self.times.ringing_at
    }

    /// Returns the capture time of the last ACK, if it acknowledges an INVITE without a captured final response; `None`
    /// otherwise.
    pub(crate) const fn acked_at(&self) -> Option<Timestamp> {
        self.times.acked_at
    }

    /// Returns the time of the first CANCEL.
    pub(crate) const fn cancelled_at(&self) -> Option<Timestamp> {
        self.times.cancelled_at
    }

    /// Returns the session interval in seconds (Session-Expires, RFC 4028), and the capture time of its last refresh;
    /// `None` without a session timer.
    pub(crate) const fn session_timer(&self) -> Option<(u32, Timestamp)> {
        self.times.session_timer
    }

    const fn is_confirmed(&self) -> bool {
        matches!(self.state, DialogState::Established | DialogState::Ended { .. })
    }

    fn handle_request(&mut self, at: Timestamp, message: &SipMessage<'_>) {
        let side = self.requester(message);
        let cseq = message.cseq().map_or(0, |c| c.number);
        self.note_request_tag(message);
        match message.method() {
            Some(SipMethod::Invite) => self.handle_invite(at, message, side, cseq),
            Some(SipMethod::Update | SipMethod::Prack) => {
                self.negotiation.begin(side, cseq, self.early_tag(message));
                self.offer(message, side);
            }
            Some(SipMethod::Ack) => self.handle_ack(at, message, side, cseq),
            Some(SipMethod::Cancel) => {
                self.times.cancelled_at.get_or_insert(at);
                self.note_reason(message);
            }
            Some(SipMethod::Bye) => self.handle_bye(at, message, side),
            _ => {}
        }
    }

    fn handle_invite(&mut self, at: Timestamp, message: &SipMessage<'_>, side: Side, cseq: u32) {
        if to_tag_of(message).is_some() {
            // A re-INVITE only stores its offer here. The offer applies after its SDP answer.
            self.negotiation.begin(side, cseq, self.early_tag(message));
            self.offer(message, side);
            if self.start == DialogStart::MidCall {
                self.presume_answer(at, AnswerEvidence::MidCall);
            }
            return;
        }
        self.times.note_invite(at);
        self.note_branch(message);
        let replaces_earlier = self.is_tried_again_by(message);
        self.ids.invite_cseq = self.ids.invite_cseq.max(cseq);
        if replaces_earlier {
            self.times.invited_again_at = Some(at);
            self.state = DialogState::Inviting;
            self.status = None;
        }
        self.announce(message, side, None);
    }

    /// Returns whether an INVITE without To tag takes the place of an earlier INVITE of the caller. The earlier one was
    /// refused, or has no final response yet. A caller that dials digit by digit may send the next INVITE before the 484
    /// to the last one (RFC 3578 section 3.1).
    pub(crate) fn is_tried_again_by(&self, message: &SipMessage<'_>) -> bool {
        let newer = message.cseq().is_some_and(|cseq| cseq.number > self.ids.invite_cseq);
        let is_pending =
            self.state == DialogState::Inviting && self.answered.is_none() && self.times.cancelled_at.is_none();
        newer && self.ids.invite_cseq != 0 && (is_pending || self.may_try_again())
    }

    /// Returns whether the INVITE was refused for a reason that another INVITE can remove, e.g. by other media or by
    /// more digits of the number.
    pub(crate) const fn invites_another_try(&self) -> bool {
        let is_removable = matches!(self.status, Some(415 | 420 | 421 | 484 | 488));
        is_removable && self.answered.is_none() && self.may_try_again()
    }

    /// Returns whether a new INVITE may continue the dialog after a rejection, e.g. with credentials or after a
    /// redirection.
    const fn may_try_again(&self) -> bool {
        let refused =
            matches!(self.state, DialogState::Challenged { .. } | DialogState::Ended { by: EndedBy::Signalling, .. });
        refused && self.times.cancelled_at.is_none()
    }

    fn handle_ack(&mut self, at: Timestamp, message: &SipMessage<'_>, side: Side, cseq: u32) {
        if message.sdp().is_some() {
            // An SDP in an ACK is the answer to the offer in the 2xx. With it the negotiation is complete.
            self.announce(message, side, None);
            self.negotiation.settle(side.other());
        }
        let is_open = self.state == DialogState::Inviting && side == Side::Caller && self.status.is_none();
        // The ACK to a rejection has the Via branch of the INVITE (RFC 3261 section 17.1.1.3). After a CANCEL it shows that
        // the rejection was not captured.
        if is_open && self.times.cancelled_at.is_some() && self.has_branch_of(message) {
            return self.handle_end(at, EndedBy::Signalling);
        }
        // Otherwise an ACK follows a 2xx or a rejection of the INVITE. No rejection was captured, so the INVITE counts
        // as accepted.
        self.negotiation.commit(side, cseq);
        if is_open {
            self.times.acked_at = Some(at);
        }
    }

    fn handle_bye(&mut self, at: Timestamp, message: &SipMessage<'_>, side: Side) {
        self.note_reason(message);
        if self.start == DialogStart::Invite && self.answered.is_none() {
            let acked = self.times.acked_at.map(|acked| (acked, AnswerEvidence::Ack));
            let is_ringing = self.state == DialogState::Inviting && self.times.cancelled_at.is_none();
            let missed = self.times.gap_end.filter(|_| is_ringing).map(|end| (end, AnswerEvidence::Gap));
            if let Some((answered, how)) = acked.or(missed) {
                self.presume_answer(answered, how);
            }
        }
        let by = match side {
            Side::Caller => EndedBy::Caller,
            Side::Callee => EndedBy::Callee,
        };
        match &mut self.state {
            // Both sides may hang up at the same time, and two capture interfaces may swap the messages. The earlier
            // BYE counts.
            DialogState::Ended { at: known, by: known_by } if matches!(known_by, EndedBy::Caller | EndedBy::Callee) => {
                if at < *known {
                    (*known, *known_by) = (at, by);
                }
            }
            DialogState::Ended { .. } => {}
            state => *state = DialogState::Ended { at, by },
        }
    }

    fn handle_response(&mut self, at: Timestamp, message: &SipMessage<'_>, status: u16) {
        let requester = self.requester(message);
        let Some(cseq) = message.cseq() else { return };
        match cseq.method {
            SipMethod::Invite if requester == Side::Caller && self.is_first_invite(cseq.number) => {
                // The INVITE of this response may be captured later, or not at all.
                if self.ids.branches[0].is_none() || cseq.number > self.ids.invite_cseq {
                    self.note_branch(message);
                }
                self.ids.invite_cseq = self.ids.invite_cseq.max(cseq.number);
                // A rejection of an INVITE that a newer one has replaced ends nothing.
                let is_replaced = cseq.number < self.ids.invite_cseq && self.state == DialogState::Inviting;
                if status < 300 || !is_replaced {
                    self.handle_invite_response(at, message, status);
                }
            }
            SipMethod::Invite | SipMethod::Update | SipMethod::Prack => {
                self.handle_in_dialog_response(
                    at,
                    message,
                    status,
                    InDialogRequest { by: requester, cseq: cseq.number },
                );
            }
            // A 2xx to a BYE ends the dialog like the BYE itself, which may not have been captured.
            SipMethod::Bye if (200..300).contains(&status) => self.handle_bye(at, message, requester),
            _ => {}
        }
    }

    fn is_first_invite(&self, cseq: u32) -> bool {
        match self.start {
            DialogStart::Invite => self.ids.invite_cseq == 0 || cseq <= self.ids.invite_cseq || self.answered.is_none(),
            DialogStart::MidCall => false,
        }
    }

    fn handle_invite_response(&mut self, at: Timestamp, message: &SipMessage<'_>, status: u16) {
        let tag = to_tag_of(message);
        if !(200..300).contains(&status) {
            self.times.gap_end = None; // the INVITE is still pending or refused, so no answer was missed
        }
        match status {
            ..=100 => self.times.is_tried = true,
            // After a fork, another callee has already answered. So only the To tag of this late provisional response
            // is stored.
            101..=199 if self.is_of_lost_fork(tag.as_deref()) => self.note_early_tag(tag),
            101..=199 => {
                self.times.is_tried = true;
                self.times.ringing_at.get_or_insert(at);
                // After the captured 2xx, an SDP is older than the SDP in force, and no other branch counts any more.
                let has_success = self.has_success();
                if !has_success || !self.negotiation.is_callee_described() {
                    self.announce(message, Side::Callee, tag.as_deref().filter(|_| !has_success));
                    if has_success && message.sdp().is_some() {
                        self.settle_invite();
                    }
                }
                self.note_early_tag(tag);
            }
            200..=299 => self.handle_success(at, message, tag),
            401 | 407 | 422 => {
                self.status = Some(status);
                if self.state == DialogState::Inviting {
                    self.state = DialogState::Challenged { at };
                }
            }
            _ => self.handle_rejection(at, message, status),
        }
    }

    /// Returns whether a response to the INVITE comes from a callee that lost the fork, because another callee has
    /// answered.
    fn is_of_lost_fork(&self, to_tag: Option<&str>) -> bool {
        self.answered.is_some()
            && to_tag.is_some()
            && self.ids.callee_tag.is_some()
            && self.ids.callee_tag.as_deref() != to_tag
    }

    fn handle_success(&mut self, at: Timestamp, message: &SipMessage<'_>, tag: Option<String>) {
        if self.is_of_lost_fork(tag.as_deref()) {
            // A second callee answered after a fork. Only its To tag is stored: this dialog stays the dialog of the
            // first callee.
            self.note_early_tag(tag);
            return;
        }
        self.status.replace(message.status().unwrap_or(200));
        self.note_session_timer(at, message);
        // Offers in an UPDATE during the early dialog count as accepted from now on, even if no response to the UPDATE
        // was captured.
        self.negotiation.accept(Side::Caller);
        self.negotiation.accept(Side::Callee);
        if let Some(tag) = &tag {
            self.negotiation.choose(tag);
        }
        self.announce(message, Side::Callee, None);
        self.settle_invite();
        self.ids.callee_tag = tag.or_else(|| self.ids.callee_tag.take());
        match self.answered {
            Some((known, AnswerEvidence::Success)) => self.answered = Some((known.min(at), AnswerEvidence::Success)),
            _ => self.answered = Some((at, AnswerEvidence::Success)),
        }
        if matches!(
            self.state,
            DialogState::Inviting | DialogState::Challenged { .. } | DialogState::Ended { by: EndedBy::Signalling, .. }
        ) {
            self.state = DialogState::Established;
        }
    }

    /// Updates the agreed media after the answer to the offer in the INVITE. Does nothing if the INVITE had no offer.
    fn settle_invite(&mut self) {
        if self.negotiation.announced(Side::Caller).is_some() {
            self.negotiation.settle(Side::Caller);
        }
    }

    fn handle_rejection(&mut self, at: Timestamp, message: &SipMessage<'_>, status: u16) {
        if self.answered.is_some() {
            return;
        }
        if self.is_of_merged_request(status) {
            self.forget_branch(message);
            return;
        }
        self.status = Some(status);
        self.note_reason(message);
        if matches!(self.state, DialogState::Inviting | DialogState::Challenged { .. }) {
            self.state = DialogState::Ended { at, by: EndedBy::Signalling };
        }
    }

    /// Returns whether a final response refuses only the second copy of one INVITE, which a proxy sent by two ways (RFC
    /// 3261 section 8.2.2.2). The callee works on the first copy.
    const fn is_of_merged_request(&self, status: u16) -> bool {
        status == 482 && self.ids.branches[1].is_some() && self.times.invited_again_at.is_none()
    }

    /// Handles a response to a re-INVITE, UPDATE or PRACK.
    fn handle_in_dialog_response(
        &mut self,
        at: Timestamp,
        message: &SipMessage<'_>,
        status: u16,
        request: InDialogRequest,
    ) {
        match status {
            ..=199 => {
                if message.sdp().is_some() {
                    self.negotiation.accept(request.by);
                }
                self.announce_answer(message, request.by.other());
            }
            200..=299 => {
                if message.transaction_method() != Some(&SipMethod::Prack) {
                    self.note_session_timer(at, message);
                }
                self.announce_answer(message, request.by.other());
                if self.negotiation.commit(request.by, request.cseq) {
                    self.note_refused_fax(at, request.by);
                }
                if self.start == DialogStart::MidCall {
                    self.presume_answer(at, AnswerEvidence::MidCall);
                }
            }
            _ => {
                // These statuses do not refuse the fax, so no refusal is recorded. Either the side sends the request
                // again (401, 407, 491), or the other side does not answer or has no dialog any more (408, 481).
                if self.negotiation.rollback(request.by, request.cseq) && !matches!(status, 401 | 407 | 408 | 481 | 491)
                {
                    self.note_refused_fax(at, request.by);
                }
            }
        }
    }

    /// Passes the session description in an in-dialog request to the negotiation, as an offer of the side `by`.
    fn offer(&mut self, message: &SipMessage<'_>, by: Side) {
        let Some(body) = message.sdp() else { return };
        let Ok(session) = sdp::parse(&body) else { return };
        self.negotiation.offer(by, AudioDescription::from_session(&session));
    }

    /// Passes the session description in the response to an in-dialog request to the negotiation, as the answer of the
    /// side `by`.
    fn announce_answer(&mut self, message: &SipMessage<'_>, by: Side) {
        let fork = self.early_tag(message).filter(|_| by == Side::Callee);
        self.announce(message, by, fork.as_deref());
    }

    /// Returns the tag of the callee, if this in-dialog message belongs to an early dialog.
    fn early_tag(&self, message: &SipMessage<'_>) -> Option<String> {
        let is_early = self.start == DialogStart::Invite && !self.has_success();
        self.callee_tag_in(message).filter(|_| is_early)
    }

    /// Returns whether the 2xx to the INVITE was captured.
    pub(super) const fn has_success(&self) -> bool {
        matches!(self.answered, Some((_, AnswerEvidence::Success)))
    }

    /// Passes the session description of a message to the negotiation. `fork` is the callee's tag, if the message
    /// belongs to an early dialog.
    fn announce(&mut self, message: &SipMessage<'_>, by: Side, fork: Option<&str>) {
        let Some(body) = message.sdp() else { return };
        let Ok(session) = sdp::parse(&body) else { return };
        let description = AudioDescription::from_session(&session);
        match fork {
            Some(tag) => self.negotiation.announce_fork(tag, description),
            None => self.negotiation.announce_certain(by, description),
        }
    }
}
