//! The thread of `run` that raises alarms about disk space and delivery.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;

use super::clock::wall_clock;
use crate::delivery::DeliveryBlocker;
use crate::journal::Journal;
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::alerts::{AlarmKind, Alerts};
use crate::ops::config::Config;
use crate::ops::disk::{DiskLevel, DiskWatch};
use crate::ops::heap::HeapTrim;
use crate::ops::self_test::{SelfTestResult, SelfTestWatch};
use crate::ops::thread::{StopSignal, StoppableThread};
use crate::ops::totals;
use crate::pyrus::{DeliveryAnswer, StatusClient};
use crate::time::Timestamp;

/// Starts the thread that raises alarms about disks and delivery. It checks both at once and then every ten seconds.
///
/// # Errors
/// Fails if the thread cannot be started.
pub(crate) fn start(
    config: &Config,
    alerts: Alerts,
    delivery: Option<StatusClient>,
    owed: OwedCalls,
    journal: Journal,
) -> anyhow::Result<StoppableThread> {
    let mut disks = disks(config);
    let mut periods = PeriodLog::new(journal, wall_clock());
    let state = config.journal.dir.clone();
    let mut self_test = SelfTestWatch::start(SelfTestResult::read(&state));
    let mut other = move |alerts: &Alerts| {
        periods.check(wall_clock()).iter().for_each(|line| tracing::info!("{line}"));
        if let Some((kind, detail)) = self_test.update(SelfTestResult::read(&state)) {
            alerts.raise(&AlarmCause::Described(kind, &detail));
        }
    };
    StoppableThread::start("watch", move |stop| {
        run(&mut disks, &mut other, &alerts, delivery.as_ref().map(|d| (d, &owed)), stop);
    })
    .context("cannot start the watch thread")
}

/// Number of calls that were still to be delivered at the last check. Clones share the number.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwedCalls(Arc<AtomicUsize>);

impl OwedCalls {
    /// Returns the number of calls that are still to be delivered.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Returns a [`DiskWatch`] for all folders to which `run` writes.
pub fn disks(config: &Config) -> DiskWatch {
    DiskWatch::new([
        ("spool", config.spool.dir.clone()),
        ("state", config.journal.dir.clone()),
        ("recording", config.recording.dir.clone()),
    ])
}

/// Checks the disks. Raises an alarm for each disk whose level has changed since the last check, e.g. from low to full.
pub(crate) fn check_disks(disks: &mut DiskWatch, alerts: &Alerts) {
    for change in disks.check() {
        let kind = match change.level {
            DiskLevel::Fine => AlarmKind::DiskRecovered,
            DiskLevel::Low => AlarmKind::DiskLow,
            DiskLevel::Critical => AlarmKind::DiskFull,
            DiskLevel::ReadOnly => AlarmKind::DiskReadOnly,
            DiskLevel::Missing => AlarmKind::StorageMissing,
        };
        alerts.raise(&AlarmCause::Described(kind, &change.detail));
    }
}

fn run(
    disks: &mut DiskWatch,
    other: &mut dyn FnMut(&Alerts),
    alerts: &Alerts,
    delivery: Option<(&StatusClient, &OwedCalls)>,
    stop: &StopSignal,
) {
    let (mut raised, mut heap) = (DeliveryAlarms::default(), HeapTrim::default());
    loop {
        check_disks(disks, alerts);
        other(alerts);
        heap.check();
        if let Some((delivery, owed)) = delivery {
            let answer = delivery.ask_within(PATIENCE);
            if let DeliveryAnswer::Summary(summary) = &answer {
                owed.0.store(summary.owed + summary.waiting + summary.parked.len(), Ordering::Relaxed);
            }
            raised.raise_changes(answer, alerts);
        }
        if stop.is_stopped_within(INTERVAL) {
            return;
        }
    }
}

/// Logs a summary of the calls after each hour and each day.
#[derive(Debug)]
struct PeriodLog {
    journal: Journal,
    hour: i64,
    day: i64,
}

impl PeriodLog {
    fn new(journal: Journal, now: Timestamp) -> Self {
        Self { journal, hour: period(now, HOUR_S), day: period(now, DAY_S) }
    }

    /// Returns the new log lines. If an hour has ended since the last check, a line describes that hour. If a day has
    /// ended, another line describes that day.
    fn check(&mut self, now: Timestamp) -> Vec<String> {
        let (hour, day) = (period(now, HOUR_S), period(now, DAY_S));
        let mut lines = Vec::new();
        if hour > self.hour {
            lines.extend(self.line("hour", hour, HOUR_S));
        }
        if day > self.day {
            lines.extend(self.line("day", day, DAY_S));
        }
        (self.hour, self.day) = (hour, day);
        lines
    }

    fn line(&self, name: &str, ended: i64, seconds: i64) -> Option<String> {
        let (from, until) = (Timestamp::from_secs((ended - 1) * seconds), Timestamp::from_secs(ended * seconds));
        match self.journal.totals(from, until) {
            Ok(totals) => Some(format!("last {name}: {}", totals::sentence(&totals))),
            Err(error) => {
                tracing::warn!("the calls of the last {name} cannot be counted: {error}");
                None
            }
        }
    }
}

fn period(at: Timestamp, seconds: i64) -> i64 {
    at.as_micros().div_euclid(1_000_000).div_euclid(seconds)
}

const HOUR_S: i64 = 3600;
const DAY_S: i64 = 86_400;

/// The delivery problems for which an alarm was already raised.
#[derive(Debug, Default)]
struct DeliveryAlarms {
    /// Ids of calls with a delivery that is parked (waits for a person) or dead (given up).
    troubles: BTreeSet<String>,
    blocked_by: Option<DeliveryBlocker>,
    /// Whether delivery waits because the journal cannot be written.
    waits_for_journal: bool,
}

impl DeliveryAlarms {
    /// Compares the status of delivery with its status at the last check. Raises an alarm for each new problem, and for
    /// a recovery.
    ///
    /// A busy or ended delivery thread raises no alarm here. If it stays busy, the supervision of threads notices it.
    /// If it has ended, the service reports that and ends, too.
    fn raise_changes(&mut self, answer: DeliveryAnswer, alerts: &Alerts) {
        let summary = match answer {
            DeliveryAnswer::Summary(summary) => *summary,
            DeliveryAnswer::Busy | DeliveryAnswer::Ended => return,
            DeliveryAnswer::WaitsForJournal(error) => {
                if !self.waits_for_journal {
                    alerts.raise(&AlarmCause::DeliveryWaitsForJournal { error: &error });
                }
                self.waits_for_journal = true;
                return;
            }
        };
        self.waits_for_journal = false;
        if summary.blocked_by != self.blocked_by {
            let why = summary.alarm.as_deref().unwrap_or_default();
            alerts.raise(&match summary.blocked_by {
                Some(DeliveryBlocker::Login | DeliveryBlocker::Account) => {
                    AlarmCause::Described(AlarmKind::LoginRefused, why)
                }
                Some(DeliveryBlocker::Unreachable) => AlarmCause::Described(AlarmKind::PyrusAway, why),
                None => AlarmCause::PyrusRecovered,
            });
            self.blocked_by = summary.blocked_by;
        }
        let mut troubles = BTreeSet::new();
        let parked = summary.parked.iter().map(|t| (AlarmKind::DeliveryParked, t));
        for (kind, trouble) in parked.chain(summary.dead.iter().map(|t| (AlarmKind::DeliveryDead, t))) {
            if !self.troubles.contains(&trouble.id) {
                alerts.raise_for(&trouble.id, &AlarmCause::Described(kind, &trouble.reason));
            }
            troubles.insert(trouble.id.clone());
        }
        // Calls whose delivery works again are not in the new set of calls with a problem. If the delivery of such a
        // call fails again, a new alarm is raised.
        self.troubles = troubles;
    }
}

/// Pause between two checks of disks and delivery.
const INTERVAL: Duration = Duration::from_secs(10);
/// Maximum time to wait for the status of delivery. It comes at once unless delivery waits for the journal.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{DeliverySummary, TroubledCall};
    use crate::ops::alerts;

    fn kinds(answers: Vec<DeliveryAnswer>) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = Some(format!("cat >> {}", out.display()));
        let (alerts, runner) = Alerts::start(&alerts::Config { command, ..Default::default() }).unwrap();
        let mut raised = DeliveryAlarms::default();
        for answer in answers {
            raised.raise_changes(answer, &alerts);
        }
        drop(alerts);
        runner.join();
        let text = std::fs::read_to_string(&out).unwrap_or_default();
        let kind =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].as_str().map(String::from);
        text.lines().filter_map(kind).collect()
    }

    #[test]
    fn each_hour_and_day_has_one_line() {
        let journal = Journal::open_in_memory().unwrap();
        let at = |s| Timestamp::from_secs(s);
        let record = crate::call::record::CallRecord {
            id: "a".into(),
            invited_at: Some(at(DAY_S + 10)),
            verdict: Some(crate::call::record::CallVerdict::BothSides),
            ..Default::default()
        };
        journal.put_call(&record, crate::journal::CallStage::Complete).unwrap();
        let mut periods = PeriodLog::new(journal, at(DAY_S + 5));
        assert!(periods.check(at(DAY_S + HOUR_S - 1)).is_empty());
        assert_eq!(periods.check(at(DAY_S + HOUR_S)), ["last hour: 1 call: 1 both sides"]);
        assert!(periods.check(at(DAY_S + HOUR_S + 10)).is_empty());
        assert_eq!(periods.check(at(2 * DAY_S)), ["last hour: No calls.", "last day: 1 call: 1 both sides"]);
    }

    #[test]
    fn delivery_problem_raises_one_alarm_and_one_at_recovery() {
        let away = DeliverySummary {
            blocked_by: Some(DeliveryBlocker::Unreachable),
            alarm: Some("away".into()),
            ..DeliverySummary::default()
        };
        let trouble = TroubledCall { id: "a".into(), reason: "no user".into() };
        let parked = DeliverySummary { parked: vec![trouble.clone()], ..DeliverySummary::default() };
        let dead = DeliverySummary { dead: vec![trouble], ..DeliverySummary::default() };
        let answers = [&away, &away, &parked, &parked].map(|s| DeliveryAnswer::Summary(Box::new(s.clone())));
        assert_eq!(kinds(answers.to_vec()), ["pyrus_away", "pyrus_recovered", "delivery_parked"]);
        let answers = [DeliverySummary::default(), dead].map(|s| DeliveryAnswer::Summary(Box::new(s)));
        assert_eq!(kinds(answers.to_vec()), ["delivery_dead"]);
    }

    #[test]
    fn only_a_journal_that_refuses_is_called_damaged() {
        assert!(kinds(vec![DeliveryAnswer::Busy, DeliveryAnswer::Busy, DeliveryAnswer::Ended]).is_empty());
        let waits = DeliveryAnswer::WaitsForJournal(String::from("disk I/O error"));
        let works = DeliveryAnswer::Summary(Box::default());
        let answers = vec![waits.clone(), waits.clone(), works, DeliveryAnswer::Busy, waits];
        assert_eq!(kinds(answers), ["journal_damaged", "journal_damaged"]);
    }
}
