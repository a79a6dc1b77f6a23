//! The virtual clock of the fake Pyrus. It determines lifetimes of tokens, rate windows, the removal of unused files,
//! and time stamps.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::options::ClockMode;

/// A clock that begins at the real time. It runs with real time unless it is frozen, and tests can advance it.
#[derive(Debug)]
pub(super) struct VirtualClock {
    /// Virtual time, since the Unix epoch, at the moment `since` of the real clock.
    base: Duration,
    since: Instant,
    mode: ClockMode,
}

impl VirtualClock {
    #[expect(clippy::disallowed_methods, reason = "the fake server is outside of the core and begins at today")]
    pub(super) fn new(mode: ClockMode) -> VirtualClock {
        let base = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        VirtualClock { base, since: real_now(), mode }
    }

    pub(super) fn set_mode(&mut self, mode: ClockMode) {
        self.base = self.now();
        self.since = real_now();
        self.mode = mode;
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.base = self.base.saturating_add(by);
    }

    /// Returns the virtual time since the Unix epoch.
    pub(super) fn now(&self) -> Duration {
        match self.mode {
            ClockMode::Frozen => self.base,
            ClockMode::Running => self.base.saturating_add(self.since.elapsed()),
        }
    }
}

/// Formats a virtual time as an RFC 3339 text with milliseconds.
pub(super) fn text(at: Duration) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(stamp) => format!("{stamp:.3}"),
        Err(_) => "after the end of time".into(),
    }
}

/// Returns the real time, unlike the virtual clock. Waits use it, and so does the check whether the client sent a
/// request before it got an earlier reply.
#[expect(clippy::disallowed_methods, reason = "the fake server is outside of the core and waits in real time")]
pub(super) fn real_now() -> Instant {
    Instant::now()
}
