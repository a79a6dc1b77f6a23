//! Capture times of the messages of a dialog.

use crate::time::Timestamp;

/// Capture times of the messages of a dialog. A time is `None` if its message was not captured.
#[derive(Clone, Copy, Debug)]
pub(super) struct DialogTimes {
    /// Capture time of the first INVITE.
    pub(super) invited_at: Option<Timestamp>,
    /// Capture time of the newest INVITE that the caller sent in place of an earlier one; `None` if there is only one.
    pub(super) invited_again_at: Option<Timestamp>,
    /// Capture time of the first provisional response other than 100.
    pub(super) ringing_at: Option<Timestamp>,
    /// Capture time of the last ACK that acknowledges an INVITE without a captured final response.
    pub(super) acked_at: Option<Timestamp>,
    /// Capture time of the first CANCEL.
    pub(super) cancelled_at: Option<Timestamp>,
    /// Session interval in seconds (Session-Expires, RFC 4028), and the capture time of its last refresh; `None`
    /// without a session timer.
    pub(super) session_timer: Option<(u32, Timestamp)>,
    /// Whether a provisional response was captured, including 100. Without a response, the sender gives up the INVITE
    /// after 32 s (Timer B, RFC 3261 section 17.1.1.2).
    pub(super) is_tried: bool,
    /// Capture time of the newest message.
    pub(super) last_at: Timestamp,
    /// Time at which the recorder ran again, if it did not run for a while after the INVITE; `None` otherwise.
    pub(super) gap_end: Option<Timestamp>,
}

impl DialogTimes {
    /// Creates the times of a dialog that begins at `at`.
    pub(super) const fn since(at: Timestamp) -> Self {
        Self {
            invited_at: None,
            invited_again_at: None,
            ringing_at: None,
            acked_at: None,
            cancelled_at: None,
            session_timer: None,
            is_tried: false,
            last_at: at,
            gap_end: None,
        }
    }

    /// Returns the times of a dialog that continues at `at` after a media timeout.
    pub(super) const fn resumed(self, at: Timestamp) -> Self {
        Self { is_tried: self.is_tried, ..Self::since(at) }
    }

    /// Records the time of a message. Messages may be captured out of order.
    pub(super) fn note_message(&mut self, at: Timestamp) {
        self.last_at = self.last_at.max(at);
    }

    /// Records the time of an INVITE without To tag.
    pub(super) fn note_invite(&mut self, at: Timestamp) {
        self.invited_at = Some(self.invited_at.map_or(at, |first| first.min(at)));
    }
}
