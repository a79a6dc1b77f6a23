//! What a dialog's messages leave in the record besides its course: agents, reasons, timers, events.

use super::Dialog;
use crate::call::record::{EventKind, EventRecord, Side};
use crate::sip::{SessionExpires, SipMessage};
use crate::time::Timestamp;

impl Dialog {
    /// A REFER was seen in it.
    pub fn note_transfer(&mut self, at: Timestamp, message: &SipMessage<'_>) {
        let side = self.requester(message);
        self.note_event(at, EventKind::Transfer, Some(side));
    }

    /// Something for the record.
    pub fn note_event(&mut self, at: Timestamp, kind: EventKind, side: Option<Side>) {
        self.note_detailed(at, kind, side, None);
    }

    /// Something for the record, with a word for an admin.
    pub fn note_detailed(&mut self, at: Timestamp, kind: EventKind, side: Option<Side>, detail: Option<String>) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(EventRecord { at, kind, side, detail });
        }
    }

    pub(super) fn note_agent(&mut self, message: &SipMessage<'_>) {
        for name in ["User-Agent", "Server"] {
            if let Some(agent) = message.header(name)
                && self.user_agents.len() < MAX_AGENTS
                && !agent.trim().is_empty()
                && !self.user_agents.iter().any(|known| *known == agent)
            {
                self.user_agents.push(agent.chars().take(MAX_TEXT_CHARS).collect());
            }
        }
    }

    pub(super) fn note_reason(&mut self, message: &SipMessage<'_>) {
        if let Some(reason) = message.header("Reason")
            && !reason.trim().is_empty()
        {
            self.reason = Some(reason.chars().take(MAX_TEXT_CHARS).collect());
        }
    }

    /// The session timer that a 2xx agrees on; a 2xx without one says that there is none (RFC 4028 section 7.2).
    pub(super) fn note_session_timer(&mut self, at: Timestamp, message: &SipMessage<'_>) {
        let expires = message.header("Session-Expires").and_then(|value| SessionExpires::parse(&value));
        self.session_timer = expires.map(|expires| (expires.delta_s, at));
    }

    /// Holds, moves and faxes, once the exchange that brought them is complete.
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

/// Different User-Agent and Server values of one dialog.
const MAX_AGENTS: usize = 8;
/// Longer header values are cut in the record.
const MAX_TEXT_CHARS: usize = 256;
/// A call that is put on hold every ten seconds for a day has 17,000 events; nobody reads more than this.
const MAX_EVENTS: usize = 1_000;
