//! Facts about a dialog that only the call record uses: user agents, the reason of the end, and events. This module
//! also reads the session timer.

use super::Dialog;
use crate::call::record::{EventKind, EventRecord, Side, T38_REFUSED};
use crate::sip::{SessionExpires, SipMessage};
use crate::time::Timestamp;

/// Facts about a dialog that only the call record uses.
#[derive(Clone, Debug, Default)]
pub(super) struct DialogNotes {
    reason: Option<String>,
    user_agents: Vec<String>,
    events: Vec<EventRecord>,
}

impl DialogNotes {
    /// Forgets the reason of the end and the events. The user agents stay.
    pub(super) fn forget_events(&mut self) {
        self.reason = None;
        self.events.clear();
    }
}

impl Dialog {
    /// Returns the Reason header of the BYE, CANCEL or rejection (RFC 3326); `None` if there is none.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.notes.reason.as_deref()
    }

    /// Returns the distinct values of the User-Agent and Server headers.
    pub(crate) fn user_agents(&self) -> &[String] {
        &self.notes.user_agents
    }

    /// Returns the events for the call record, e.g. holds.
    pub(crate) fn events(&self) -> &[EventRecord] {
        &self.notes.events
    }

    /// Records a transfer as an event, because a REFER was captured.
    pub(crate) fn note_transfer(&mut self, at: Timestamp, message: &SipMessage<'_>) {
        let side = self.requester(message);
        self.note_event(at, EventKind::Transfer, Some(side));
    }

    /// Records an event of this kind for the call record.
    pub(crate) fn note_event(&mut self, at: Timestamp, kind: EventKind, side: Option<Side>) {
        self.note_event_with_detail(at, kind, side, None);
    }

    /// Records an event with an explanation for the administrator.
    pub(crate) fn note_event_with_detail(
        &mut self,
        at: Timestamp,
        kind: EventKind,
        side: Option<Side>,
        detail: Option<String>,
    ) {
        if self.notes.events.len() < MAX_EVENTS {
            self.notes.events.push(EventRecord { at, kind, side, detail });
        }
    }

    pub(super) fn note_agent(&mut self, message: &SipMessage<'_>) {
        for name in ["User-Agent", "Server"] {
            if let Some(agent) = message.header(name)
                && self.notes.user_agents.len() < MAX_AGENTS
                && !agent.trim().is_empty()
                && !self.notes.user_agents.iter().any(|known| *known == agent)
            {
                self.notes.user_agents.push(agent.chars().take(MAX_TEXT_CHARS).collect());
            }
        }
    }

    pub(super) fn note_reason(&mut self, message: &SipMessage<'_>) {
        if let Some(reason) = message.header("Reason")
            && !reason.trim().is_empty()
        {
            self.notes.reason = Some(reason.chars().take(MAX_TEXT_CHARS).collect());
        }
    }

    /// Sets the session timer from a 2xx response. A 2xx without Session-Expires turns the timer off (RFC 4028 section
    /// 7.2).
    pub(super) fn note_session_timer(&mut self, at: Timestamp, message: &SipMessage<'_>) {
        let expires = message.header("Session-Expires").and_then(|value| SessionExpires::parse(&value));
        self.times.session_timer = expires.map(|expires| (expires.delta_s, at));
    }

    /// Records that a side offered T.38 fax and the other side refused it. The fax then continues as tones in the
    /// audio.
    pub(super) fn note_refused_fax(&mut self, at: Timestamp, by: Side) {
        if !self.notes.events.iter().any(|event| event.kind == EventKind::Fax) {
            self.note_event_with_detail(at, EventKind::Fax, Some(by), Some(T38_REFUSED.to_owned()));
        }
    }

    /// Records the events hold, media move and fax when an SDP offer and its answer are complete.
    pub(super) fn note_agreement(&mut self, at: Timestamp) {
        let new = self.negotiation.agreed();
        if !self.is_confirmed() || new == self.agreed {
            return;
        }
        let old = std::mem::replace(&mut self.agreed, new);
        for side in [Side::Caller, Side::Callee] {
            let n = side.channel();
            match (old.holding[n], new.holding[n]) {
                (false, true) => self.note_event(at, EventKind::Hold, Some(side)),
                (true, false) => self.note_event(at, EventKind::Resume, Some(side)),
                _ => {}
            }
            if old.receivers[n].is_some() && old.receivers[n] != new.receivers[n] {
                self.note_event(at, EventKind::MediaMove, Some(side));
            }
        }
        if new.fax && !old.fax {
            self.note_event(at, EventKind::Fax, None);
        }
    }
}

/// Maximum number of distinct User-Agent and Server values of a dialog in the record. It limits the size of the record.
const MAX_AGENTS: usize = 8;
/// Maximum length of a header value in the record, characters. Longer values are truncated.
const MAX_TEXT_CHARS: usize = 256;
/// Maximum number of events of a dialog in the record. A call with a hold every ten seconds has 17,000 events a day.
const MAX_EVENTS: usize = 1_000;
