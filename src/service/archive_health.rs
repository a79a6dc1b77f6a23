//! Decides from the rounds of sending when the alarm about a failing archive begins and ends.

use std::time::Duration;

use super::clock;
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::alerts::{AlarmKind, Alerts};
use crate::time::Timestamp;

/// Result of one round of sending, from which the alarm about a failing archive is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RoundResult {
    /// It is unknown whether the archive works: no call was sent in this round, e.g. because all calls still wait for
    /// their encryption.
    Idle,
    /// The archive accepted a call or a report that the site is alive.
    Succeeded,
    /// The archive accepted nothing in this round, for this reason.
    Failed(String),
}

/// State of the alarm about a failing archive: the time of the first failure, and whether the alarm was raised.
#[derive(Debug, Default)]
pub(super) struct ArchiveHealth {
    failing_since: Option<Timestamp>,
    is_alarmed: bool,
}

impl ArchiveHealth {
    /// Records the result of a round. Raises the alarm about a failing archive, or reports its end.
    pub(super) fn record(&mut self, result: &RoundResult, alerts: &Alerts) {
        match self.change(result, clock::wall_clock()) {
            Some(AlarmKind::ArchiveRecovered) => {
                alerts.raise(&AlarmCause::ArchiveRecovered);
            }
            Some(_) => {
                let reason = if let RoundResult::Failed(reason) = result { reason.as_str() } else { "" };
                alerts.raise(&AlarmCause::ArchiveFailing { reason });
            }
            None => {}
        }
    }

    /// Returns the alarm to raise after the result of a round; `None` if no alarm begins or ends.
    fn change(&mut self, result: &RoundResult, now: Timestamp) -> Option<AlarmKind> {
        match result {
            RoundResult::Idle => None,
            RoundResult::Succeeded => {
                self.failing_since = None;
                std::mem::take(&mut self.is_alarmed).then_some(AlarmKind::ArchiveRecovered)
            }
            RoundResult::Failed(reason) => {
                let since = *self.failing_since.get_or_insert_with(|| {
                    tracing::warn!("the archive cannot be reached yet: {reason}");
                    now
                });
                let is_due = !self.is_alarmed && now.since(since) >= ALARM_AFTER;
                self.is_alarmed |= is_due;
                is_due.then_some(AlarmKind::ArchiveFailing)
            }
        }
    }
}

/// Minimum duration of a failure that raises the alarm. A short restart of the archive raises no alarm.
const ALARM_AFTER: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarm_comes_after_15_minutes_of_failures_with_idle_rounds_between() {
        let mut health = ArchiveHealth::default();
        let at = |s: i64| Timestamp::from_secs(1_700_000_000 + s);
        let failed = RoundResult::Failed(String::from("away"));
        let mut raised = Vec::new();
        for second in (0..3_600_i64).step_by(5) {
            let result = if second % 600 == 0 { &failed } else { &RoundResult::Idle };
            raised.extend(health.change(result, at(second)).map(|kind| (second, kind)));
        }
        assert_eq!(raised, [(1_200, AlarmKind::ArchiveFailing)], "once, at the first failure after 15 minutes");
        assert_eq!(health.change(&RoundResult::Succeeded, at(3_600)), Some(AlarmKind::ArchiveRecovered));
        assert_eq!(health.change(&RoundResult::Succeeded, at(3_605)), None);
        assert_eq!(health.change(&failed, at(3_610)), None, "the time begins again");
    }
}
