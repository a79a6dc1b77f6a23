//! The thread of `run` that raises alarms about disk space and delivery.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;

use crate::delivery::{DeliveryBlocker, DeliverySummary};
use crate::ops::alerts::{AlarmKind, Alerts};
use crate::ops::config::Config;
use crate::ops::disk::{DiskLevel, DiskWatch};
use crate::ops::thread::{StopSignal, StoppableThread};
use crate::pyrus::StatusClient;

/// Starts the thread. It checks at once and then every ten seconds.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn start(
    config: &Config,
    alerts: Alerts,
    delivery: Option<StatusClient>,
) -> anyhow::Result<StoppableThread> {
    let disks = disks(config);
    StoppableThread::start("watch", move |stop| run(disks, &alerts, delivery.as_ref(), stop))
        .context("cannot start the watch thread")
}

/// Returns a watch on the folders that `run` writes to.
pub fn disks(config: &Config) -> DiskWatch {
    DiskWatch::new([
        ("spool", config.spool.dir.clone()),
        ("state", config.journal.dir.clone()),
        ("recording", config.recording.dir.clone()),
    ])
}

/// Checks the disks and raises an alarm for each disk whose level has changed.
pub fn check_disks(disks: &mut DiskWatch, alerts: &Alerts) {
    for change in disks.check() {
        let kind = match change.level {
            DiskLevel::Fine => AlarmKind::DiskRecovered,
            DiskLevel::Low => AlarmKind::DiskLow,
            DiskLevel::Critical => AlarmKind::DiskFull,
            DiskLevel::ReadOnly => AlarmKind::DiskReadOnly,
        };
        alerts.raise(kind, &change.detail);
    }
}

fn run(mut disks: DiskWatch, alerts: &Alerts, delivery: Option<&StatusClient>, stop: &StopSignal) {
    let mut raised = DeliveryAlarms::default();
    loop {
        check_disks(&mut disks, alerts);
        if let Some(delivery) = delivery {
            raised.raise_changes(delivery.summary_within(PATIENCE), alerts);
        }
        if stop.is_stopped_within(INTERVAL) {
            return;
        }
    }
}

/// Delivery problems that an alarm was raised for.
#[derive(Debug, Default)]
struct DeliveryAlarms {
    /// Ids of parked and dead calls.
    troubles: BTreeSet<String>,
    blocked_by: Option<DeliveryBlocker>,
    /// True: delivery did not answer the last query.
    is_silent: bool,
}

impl DeliveryAlarms {
    /// Compares delivery's summary with the last summary, and raises an alarm for each new problem and for recovery.
    fn raise_changes(&mut self, summary: Option<DeliverySummary>, alerts: &Alerts) {
        let Some(summary) = summary else {
            if !self.is_silent {
                alerts.raise(AlarmKind::JournalDamaged, "delivery has stopped: the journal cannot be written");
            }
            self.is_silent = true;
            return;
        };
        self.is_silent = false;
        if summary.blocked_by != self.blocked_by {
            let why = summary.alarm.as_deref().unwrap_or("Pyrus takes calls again");
            match summary.blocked_by {
                Some(DeliveryBlocker::Login | DeliveryBlocker::Account) => alerts.raise(AlarmKind::LoginRefused, why),
                Some(DeliveryBlocker::Unreachable) => alerts.raise(AlarmKind::PyrusAway, why),
                None => alerts.raise(AlarmKind::PyrusRecovered, "Pyrus takes calls again"),
            }
            self.blocked_by = summary.blocked_by;
        }
        let mut troubles = BTreeSet::new();
        let parked = summary.parked.iter().map(|t| (AlarmKind::DeliveryParked, t));
        for (kind, trouble) in parked.chain(summary.dead.iter().map(|t| (AlarmKind::DeliveryDead, t))) {
            if !self.troubles.contains(&trouble.id) {
                alerts.raise_for(kind, &trouble.id, &trouble.reason);
            }
            troubles.insert(trouble.id.clone());
        }
        // A call that recovered and fails again gets a new alarm.
        self.troubles = troubles;
    }
}

/// Pause between two checks.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long to wait for delivery's answer, which comes at once unless delivery waits for the journal.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::TroubledCall;
    use crate::ops::alerts;

    fn kinds(summaries: Vec<Option<DeliverySummary>>) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = Some(format!("cat >> {}", out.display()));
        let (alerts, runner) = Alerts::start(&alerts::Config { command }).unwrap();
        let mut raised = DeliveryAlarms::default();
        for summary in summaries {
            raised.raise_changes(summary, &alerts);
        }
        drop(alerts);
        runner.join();
        let text = std::fs::read_to_string(&out).unwrap_or_default();
        let kind =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].as_str().map(String::from);
        text.lines().filter_map(kind).collect()
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
        let raised = kinds(vec![Some(away.clone()), Some(away), Some(parked.clone()), Some(parked), None, None]);
        assert_eq!(raised, ["pyrus_away", "pyrus_recovered", "delivery_parked", "journal_damaged"]);
        assert_eq!(kinds(vec![Some(DeliverySummary::default()), Some(dead)]), ["delivery_dead"]);
    }
}
