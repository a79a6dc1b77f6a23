//! Clocks of the service: the wall clock, the monotonic clock, and whether the wall clock can be trusted.
//!
//! The times of packets and recordings do not come from these clocks but from the capture.

use std::time::{Duration, Instant};

pub(crate) use crate::ops::clock::wall_clock;
use crate::recording::retention::ClockTrust;
use crate::time::Timestamp;

/// Notices when somebody sets the wall clock, by comparing it with the monotonic clock. Otherwise a clock that was set
/// years ahead would make retention remove all recordings.
#[derive(Debug)]
pub(super) struct TrustedClock {
    /// Time of the wall clock at the start of the service.
    started: Timestamp,
    /// Time of the wall clock at the last check.
    last_wall: Timestamp,
    /// Time of the monotonic clock at the last check.
    last_monotonic: Instant,
    /// Monotonic time of the start of the service, or of the last jump of the wall clock.
    even_since: Instant,
}

impl TrustedClock {
    pub(super) fn start() -> Self {
        let (wall, now) = (wall_clock(), monotonic());
        Self { started: wall, last_wall: wall, last_monotonic: now, even_since: now }
    }

    /// Reads both clocks and notices whether the wall clock was set since the last check.
    pub(super) fn check(&mut self) {
        let (wall, now) = (wall_clock(), monotonic());
        let expected = self.last_wall + now.duration_since(self.last_monotonic);
        let off = wall.nanos_since(expected).unsigned_abs();
        if u128::from(off) > CLOCK_STEP.as_nanos() {
            let minutes = CLOCK_TRUSTED.as_secs() / 60;
            tracing::warn!("the wall clock was set: no recording is removed by its age for {minutes} minutes");
            self.even_since = now;
        }
        (self.last_wall, self.last_monotonic) = (wall, now);
    }

    /// Returns the current time, from which retention computes the ages of recordings. Returns [`ClockTrust::Unknown`]
    /// if somebody set the wall clock a short while ago.
    pub(super) fn ages(&self) -> ClockTrust {
        let even = self.last_monotonic.duration_since(self.even_since);
        if even >= CLOCK_TRUSTED { ClockTrust::Trusted(self.last_wall) } else { ClockTrust::Unknown }
    }

    /// Returns the time of the wall clock at the last check.
    pub(super) const fn wall(&self) -> Timestamp {
        self.last_wall
    }

    /// Returns the time of the wall clock at the start of the service.
    pub(super) const fn started(&self) -> Timestamp {
        self.started
    }
}

/// Returns the current time of the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "pauses and time slices of the threads need a clock that is never set")]
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// Minimum jump of the wall clock, compared with the monotonic clock, that counts as setting the wall clock. A smaller
/// jump does not matter, because the ages of recordings are counted in days.
const CLOCK_STEP: Duration = Duration::from_secs(60);
/// Time that must pass after the start or after a jump of the wall clock before ages are computed. In that time NTP
/// corrects a wrong clock.
const CLOCK_TRUSTED: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_just_started_or_set_gives_no_age() {
        let mut clock = TrustedClock::start();
        clock.check();
        assert_eq!(clock.ages(), ClockTrust::Unknown);
        clock.even_since = clock.even_since.checked_sub(CLOCK_TRUSTED).expect("the machine runs longer than that");
        assert!(matches!(clock.ages(), ClockTrust::Trusted(_)));
        clock.last_wall = clock.last_wall - Duration::from_secs(7200); // simulates a jump of two hours ahead
        clock.check();
        assert_eq!(clock.ages(), ClockTrust::Unknown);
    }
}
