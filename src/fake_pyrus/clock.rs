//! The virtual clock of the fake. Token lifetimes, rate windows, orphaned files and time stamps follow it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::options::ClockMode;

/// A clock that begins at the real time. It can be advanced, and runs on with real time unless it is frozen.
#[derive(Debug)]
pub(super) struct VirtualClock {
    /// Virtual time at the moment `since`, as time since the Unix epoch.
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

/// Formats a virtual time as RFC 3339 text with milliseconds.
pub(super) fn text(at: Duration) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(stamp) => format!("{stamp:.3}"),
        Err(_) => "after the end of time".into(),
    }
}

/// Returns the real time. Waits use it, and so does the search for requests that crossed a reply on the network.
#[expect(clippy::disallowed_methods, reason = "the fake server is outside of the core and waits in real time")]
pub(super) fn real_now() -> Instant {
    Instant::now()
}
