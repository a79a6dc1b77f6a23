//! Continuation of calls that ended by a media timeout. If media comes back to a dialog of such a call, the dialog
//! becomes a leg of a new call. The new call is related to the ended call.

use std::time::Duration;

use crate::call::call_state::CallOrigin;
use crate::call::conversation::Conversation;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::Engine;
use crate::call::engine::new_leg::JoinReason;
use crate::call::engine::pause::CallPauseRequest;
use crate::call::engine::signalling::SETTLE;
use crate::call::event::LegSink;
use crate::call::id::conversation_id;
use crate::call::keys::LegKey;
use crate::call::pause::PauseAction;
use crate::call::record::RelationRecord;
use crate::call::timed_out::TimedOutDialog;
use crate::call::timers::EngineTimer;
use crate::decode::UdpDatagram;
use crate::sip::{SipMessage, SipMethod};
use crate::time::Timestamp;

impl Engine {
    /// Handles an RTP packet that belongs to no live leg. Returns true if the packet continues a dialog that ended by a
    /// media timeout.
    pub(super) fn resume_by_media(&mut self, datagram: &UdpDatagram<'_>, sink: &mut dyn LegSink) -> bool {
        let resumed = self.ended.timed_out.handle_packet(datagram.flow(), datagram.at);
        resumed.is_some_and(|(dialog, since)| self.resume_dialog(dialog, since, sink).is_some())
    }

    /// Handles a SIP message that belongs to no live leg, but to a dialog that ended by a media timeout. A BYE removes
    /// the dialog. A new offer continues it as a new leg, which is returned.
    pub(super) fn resume_by_message(
        &mut self,
        message: &SipMessage<'_>,
        datagram: &UdpDatagram<'_>,
        sink: &mut dyn LegSink,
    ) -> Option<LegKey> {
        if self.ended.timed_out.is_empty() {
            return None;
        }
        if message.method() == Some(&SipMethod::Bye) {
            if self.ended.timed_out.remove_by_call_id(message.call_id()) {
                let (from, to) = (message.from(), message.to());
                let tags = [from.as_ref().and_then(|f| f.tag()), to.as_ref().and_then(|t| t.tag())];
                self.add_tombstone(message.call_id(), u32::MAX, tags, [None, None]);
            }
            return None;
        }
        let is_offer =
            matches!(message.method(), Some(SipMethod::Invite | SipMethod::Update)) && message.sdp().is_some();
        let is_in_dialog = message.to().is_some_and(|to| to.tag().is_some());
        if !is_offer || !is_in_dialog {
            return None;
        }
        let dialog = self.ended.timed_out.take_by_message(message.call_id(), (datagram.src, datagram.dst))?;
        self.resume_dialog(dialog, datagram.at, sink)
    }

    /// Continues a dialog that ended by a media timeout as a new leg. Returns `None` if the table of legs is full.
    fn resume_dialog(&mut self, dialog: TimedOutDialog, at: Timestamp, sink: &mut dyn LegSink) -> Option<LegKey> {
        if self.table.leg_count() >= self.settings.limits.legs {
            self.counters.legs_refused += 1;
            return None;
        }
        let TimedOutDialog { mut draft, conversation_id: origin, paused, .. } = dialog;
        draft.at = at;
        draft.dialog.resume_after_timeout(at);
        // If another leg of the same ended call was continued before, both legs belong to one new call.
        let is_continuation = |call: &Conversation| {
            call.origin.continues() == Some(&origin) && call.created_at + CONTINUATION_WINDOW > at
        };
        let known = self.table.calls().find(|(_, call)| is_continuation(call)).map(|(slot, _)| slot);
        let conversation = known.unwrap_or_else(|| {
            let dialog = &draft.dialog;
            let id = conversation_id(&self.settings.config.appliance, dialog.call_id(), dialog.caller_tag(), at);
            let mut call = Conversation::new(id, at, self.clock.wall_offset_ns);
            call.add_relation(RelationRecord::new(&origin, CorrelationRule::Continues));
            call.origin = CallOrigin::Continues(origin);
            let slot = self.table.insert_call(call);
            self.timers.arm(EngineTimer::Settle(slot), at + SETTLE);
            slot
        });
        let slot = self.add_leg(conversation, draft, JoinReason::Rule(CorrelationRule::Continues), sink);
        if paused {
            let request = CallPauseRequest { action: PauseAction::Pause, at, by: "as before the silence", side: None };
            self.apply_pause(conversation, request, sink);
        }
        self.apply_dialog_state(slot, sink);
        Some(slot)
    }
}

/// Time in which further legs of a call that ended by a long silence join the new call that continues it. After a hold,
/// for example, one leg has media again and begins the new call. The other legs follow at about the same time.
const CONTINUATION_WINDOW: Duration = Duration::from_secs(30);
