//! The stop of the service: all its waits share one deadline.

use std::time::{Duration, Instant};

use crate::ops::alerts::{AlarmRunner, LAST_RUNS};
use crate::ops::thread::StoppableThread;
use crate::service::clock::monotonic;

/// The end of the service: the thread that is stopped last, and the time by which all must have ended.
#[derive(Debug, Default)]
pub(super) struct ServiceEnd {
    /// The thread that sends messages. It is stopped last, because the messages about the end are sent after it.
    pub(super) sending: Option<StoppableThread>,
    /// The deadline of the stop; `None` if the service could not start, or had to end.
    pub(super) deadline: Option<StopDeadline>,
}

impl ServiceEnd {
    /// Waits for the last runs of the alarm command, and lets the last messages be sent.
    ///
    /// After a failure, the alarm about it must reach the outbox. The next start does not raise the alarm again, and a
    /// slow disk may take seconds to store it.
    pub(super) fn finish(self, runner: AlarmRunner) {
        let runs = if self.deadline.is_some() { LAST_RUNS } else { STOP_LIMIT };
        let deadline = self.deadline.unwrap_or_else(StopDeadline::begin);
        runner.join_within(deadline.limit(runs, LAST_MESSAGES));
        if let Some(sending) = self.sending {
            sending.stop_within(deadline.limit(LAST_MESSAGES, Duration::ZERO));
        }
    }
}

/// The time by which a stopping service must have ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct StopDeadline(Instant);

impl StopDeadline {
    /// Returns the deadline of a stop that begins now.
    pub(super) fn begin() -> Self {
        Self(monotonic() + STOP_LIMIT)
    }

    /// Returns how long a step of the stop may take: at most `limit`, and so that `reserve` is left for later steps.
    pub(super) fn limit(self, limit: Duration, reserve: Duration) -> Duration {
        self.limit_at(monotonic(), limit, reserve)
    }

    fn limit_at(self, now: Instant, limit: Duration, reserve: Duration) -> Duration {
        self.0.saturating_duration_since(now).saturating_sub(reserve).min(limit)
    }
}

/// Maximum time for which a stopping service continues to render.
pub(super) const STOP_RENDERING: Duration = Duration::from_secs(1);
/// Maximum time that a stopping service needs after rendering: 4 s for requests to Pyrus, 1 s for records, and
/// [`LAST_MESSAGES`].
pub(super) const AFTER_RENDERING: Duration = Duration::from_millis(6_500);
/// Maximum time for which a stopping service waits for the watch of disks and delivery. It takes longer if a disk does
/// not answer, or if delivery waits for the journal.
pub(super) const STOP_WATCH: Duration = Duration::from_secs(1);
/// Maximum time for which a stopping service waits for the archive thread. It is short, because every step of archiving
/// can be interrupted and repeated.
pub(super) const STOP_ARCHIVE: Duration = Duration::from_millis(100);
/// Maximum time for which a stopping service waits for the last write of the state files.
pub(super) const STOP_STATE_FILES: Duration = Duration::from_millis(100);
/// Maximum time for which a stopping service sends its last messages about alarms. The next start sends the rest.
const LAST_MESSAGES: Duration = Duration::from_millis(1_500);
/// Maximum time of the stop after the end of the capture. Frames that wait in the kernel may take 0.5 s before that. In the
/// worst case the last writes take 1.2 s, rendering 1 s, and the rest [`AFTER_RENDERING`]. So 0.3 s are left for an alarm
/// command that hangs. If the watch or a disk needs longer, rendering has less time.
const STOP_LIMIT: Duration = Duration::from_secs(9);

#[cfg(test)]
mod tests {
    use super::*;

    /// The alarm command hangs, and each earlier step takes as long as it may.
    #[test]
    fn steps_of_a_stop_share_one_deadline() {
        let begin = monotonic();
        let deadline = StopDeadline(begin + STOP_LIMIT);
        for writes in [Duration::from_millis(1_200), Duration::from_millis(2_500)] {
            let mut now = begin + writes;
            now += deadline.limit_at(now, STOP_RENDERING, AFTER_RENDERING);
            now += AFTER_RENDERING - LAST_MESSAGES;
            now += deadline.limit_at(now, LAST_RUNS, LAST_MESSAGES);
            now += deadline.limit_at(now, LAST_MESSAGES, Duration::ZERO);
            assert_eq!(now - begin, STOP_LIMIT, "the last writes take {writes:?}");
        }
        let quick = begin + Duration::from_millis(300);
        assert_eq!(deadline.limit_at(quick, LAST_RUNS, LAST_MESSAGES), LAST_RUNS, "an alarm command has its time");
    }
}
