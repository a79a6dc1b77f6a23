//! Pause and resume of recordings: finds the requests in API calls, signalling and DTMF, and applies them to all legs
//! of a call.

use crate::call::decision::Decision;
use crate::call::engine::{Engine, StreamRef};
use crate::call::event::LegSink;
use crate::call::keys::{CallKey, LegKey};
use crate::call::pause::{DtmfPress, PauseAction};
use crate::call::record::{EventKind, Side};
use crate::rtp::RtpPacket;
use crate::sip::SipMessage;
use crate::time::Timestamp;

/// A request to pause or resume the recording of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallPauseRequest<'a> {
    /// The requested action: pause or resume.
    pub action: PauseAction,
    /// Capture time of the request.
    pub at: Timestamp,
    /// Origin of the request in words, for the event in the call record.
    pub by: &'a str,
    /// Side that sent the request in a message or by DTMF; `None` if no side did, e.g. for the API.
    pub side: Option<Side>,
}

impl Engine {
    /// Pauses or resumes the recording of the live call with this id, for the API. Does nothing if there is no such
    /// call; [`Engine::is_paused`] shows whether there is.
    pub fn handle_pause(&mut self, id: &str, action: PauseAction, at: Timestamp, sink: &mut dyn LegSink) {
        if let Some(conversation) = self.table.call_by_id(id) {
            self.apply_pause(
                conversation,
                CallPauseRequest { action, at: at.max(self.clock.now), by: "by the local API", side: None },
                sink,
            );
        }
    }

    /// Applies a pause or resume decision from the spool of an earlier process. The digit or message that requested it
    /// is not stored.
    pub(super) fn restore_pause(
        &mut self,
        conversation: CallKey,
        decision: &Decision,
        at: Timestamp,
        sink: &mut dyn LegSink,
    ) {
        let action = if *decision == Decision::Pause { PauseAction::Pause } else { PauseAction::Resume };
        self.apply_pause(
            conversation,
            CallPauseRequest { action, at, by: "read back after a restart", side: None },
            sink,
        );
    }

    /// Returns whether the recording of a call is paused, or `None` if there is no live call with this id.
    pub fn is_paused(&self, id: &str) -> Option<bool> {
        let call = self.table.call(self.table.call_by_id(id)?)?;
        Some(call.pauses.paused_since().is_some())
    }

    /// Applies a pause or resume request in a SIP message, and handles a DTMF digit in its body.
    pub(super) fn handle_pause_signals(
        &mut self,
        slot: LegKey,
        message: &SipMessage<'_>,
        at: Timestamp,
        sink: &mut dyn LegSink,
    ) {
        let Some(leg) = self.table.leg_mut(slot) else { return };
        let (conversation, side) = (leg.call(), leg.dialog.requester(message));
        if let Some(action) = PauseAction::in_message(message, &self.settings.config.pause) {
            self.apply_pause(
                conversation,
                CallPauseRequest { action, at, by: "by signalling", side: Some(side) },
                sink,
            );
        }
        let Some(leg) = self.table.leg_mut(slot) else { return };
        let press = leg.pause.keypad.handle_message(side, at, message, &self.settings.config.pause);
        self.apply_key_press(slot, press, side, at, sink);
    }

    /// Handles an RTP packet with a DTMF digit (RFC 4733).
    pub(super) fn handle_key_packet(
        &mut self,
        stream: StreamRef,
        packet: &RtpPacket<'_>,
        at: Timestamp,
        sink: &mut dyn LegSink,
    ) {
        let StreamRef { slot, index } = stream;
        let Some(leg) = self.table.leg_mut(slot) else { return };
        let Some(stream) = leg.media.streams().get(index) else { return };
        let (side, readable) = (stream.side, stream.can_read_event(packet.payload));
        let press = leg.pause.keypad.handle_packet(side, at, packet, readable, &self.settings.config.pause);
        self.apply_key_press(slot, press, side, at, sink);
    }

    /// Records a DTMF digit as an event. If the digit completes a pause or resume code, applies the request.
    fn apply_key_press(&mut self, slot: LegKey, press: DtmfPress, side: Side, at: Timestamp, sink: &mut dyn LegSink) {
        let Some(leg) = self.table.leg_mut(slot) else { return };
        if press.is_new {
            leg.dialog.note_event(at, EventKind::Dtmf, Some(side));
        }
        let conversation = leg.call();
        if let Some(action) = press.action {
            self.apply_pause(conversation, CallPauseRequest { action, at, by: "by keys", side: Some(side) }, sink);
        }
    }

    /// Applies a pause or resume request to a call. If it changes the state of the call, writes it to the spools of all
    /// legs.
    pub(super) fn apply_pause(&mut self, conversation: CallKey, request: CallPauseRequest<'_>, sink: &mut dyn LegSink) {
        let CallPauseRequest { action, at, by, side } = request;
        let Some(call) = self.table.call_mut(conversation) else { return };
        if !call.pauses.apply(action, at, by, side) {
            return;
        }
        self.counters.pause_orders += 1;
        let decision = match action {
            PauseAction::Pause => Decision::Pause,
            PauseAction::Resume => Decision::Resume,
        };
        for slot in self.table.keys_of(conversation).to_vec() {
            if let Some(leg) = self.table.leg_mut(slot) {
                leg.pause.is_known = true;
                if leg.spool.is_open() {
                    sink.decide(leg.id, at, &decision);
                }
            }
        }
    }

    /// Pauses a leg that was added to a paused call.
    pub(super) fn apply_pause_to_new_leg(&mut self, slot: LegKey, at: Timestamp, sink: &mut dyn LegSink) {
        let Some((leg, call)) = self.table.leg_and_call_mut(slot) else { return };
        if call.pauses.is_empty() {
            return;
        }
        leg.pause.is_known = true;
        if call.pauses.paused_since().is_some() && leg.spool.is_open() {
            sink.decide(leg.id, at, &Decision::Pause);
        }
    }
}
