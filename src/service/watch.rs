//! The thread of `run` that looks after the rest: is there room on the disks, does delivery go on. It raises alarms.

use std::collections::BTreeSet;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::delivery::{Blocked, Summary};
use crate::ops::alerts::{Alerts, Kind};
use crate::ops::config::Config;
use crate::ops::disk::{DiskWatch, Level};
use crate::pyrus::Asker;

/// The running thread.
#[derive(Debug)]
pub struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Starts it; it looks at once and then every ten seconds.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(config: &Config, alerts: Alerts, delivery: Option<Asker>) -> anyhow::Result<Self> {
        let disks = disks(config);
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let thread = std::thread::Builder::new()
            .name(String::from("watch"))
            .spawn(move || look_after(disks, &alerts, (delivery, &stopped)))
            .context("cannot start the watch thread")?;
        Ok(Self { stop, thread })
    }

    /// Whether it has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it.
    pub fn stop(self) {
        drop(self.stop);
        let _ = self.thread.join(); // a panic there was reported when it happened
    }
}

/// The folders that `run` writes to.
pub fn disks(config: &Config) -> DiskWatch {
    DiskWatch::new([
        ("spool", config.spool.dir.clone()),
        ("state", config.journal.dir.clone()),
        ("recording", config.recording.dir.clone()),
    ])
}

/// Looks at the disks and raises an alarm for each that has changed.
pub fn look_at(disks: &mut DiskWatch, alerts: &Alerts) {
    for change in disks.look() {
        let kind = match change.level {
            Level::Fine => Kind::DiskRecovered,
            Level::Low => Kind::DiskLow,
            Level::Critical => Kind::DiskFull,
            Level::ReadOnly => Kind::DiskReadOnly,
        };
        alerts.raise(kind, &change.detail);
    }
}

fn look_after(mut disks: DiskWatch, alerts: &Alerts, (delivery, stopped): (Option<Asker>, &Receiver<()>)) {
    let mut seen = Seen::default();
    loop {
        look_at(&mut disks, alerts);
        if let Some(delivery) = &delivery {
            seen.compare(delivery.summary_within(PATIENCE), alerts);
        }
        if stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// What was told of delivery already.
#[derive(Debug, Default)]
struct Seen {
    troubles: BTreeSet<String>,
    blocked_by: Option<Blocked>,
    is_mute: bool,
}

impl Seen {
    /// Raises what is new since the last time.
    fn compare(&mut self, summary: Option<Summary>, alerts: &Alerts) {
        let Some(summary) = summary else {
            if !self.is_mute {
                alerts.raise(Kind::JournalDamaged, "delivery waits: the journal cannot be written");
            }
            self.is_mute = true;
            return;
        };
        self.is_mute = false;
        if summary.blocked_by != self.blocked_by {
            let why = summary.alarm.as_deref().unwrap_or("Pyrus takes calls again");
            match summary.blocked_by {
                Some(Blocked::Login | Blocked::Account) => alerts.raise(Kind::LoginRefused, why),
                Some(Blocked::Away) => alerts.raise(Kind::PyrusAway, why),
                None => alerts.raise(Kind::PyrusRecovered, "Pyrus takes calls again"),
            }
            self.blocked_by = summary.blocked_by;
        }
        let mut troubles = BTreeSet::new();
        let parked = summary.parked.iter().map(|t| (Kind::DeliveryParked, t));
        for (kind, trouble) in parked.chain(summary.dead.iter().map(|t| (Kind::DeliveryDead, t))) {
            if !self.troubles.contains(&trouble.id) {
                alerts.raise_for(kind, &trouble.id, &trouble.why);
            }
            troubles.insert(trouble.id.clone());
        }
        // Who is well again may be told again.
        self.troubles = troubles;
    }
}

/// How often it looks.
const LOOK: Duration = Duration::from_secs(10);
/// Delivery answers at once, unless it waits for the journal.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Trouble;
    use crate::ops::alerts;

    fn kinds(summaries: Vec<Option<Summary>>) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let command = Some(format!("cat >> {}", out.display()));
        let (alerts, runner) = Alerts::start(&alerts::Config { command }).unwrap();
        let mut seen = Seen::default();
        for summary in summaries {
            seen.compare(summary, &alerts);
        }
        drop(alerts);
        runner.join();
        let text = std::fs::read_to_string(&out).unwrap_or_default();
        let kind =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].as_str().map(String::from);
        text.lines().filter_map(kind).collect()
    }

    #[test]
    fn what_is_wrong_with_delivery_is_told_when_it_begins_and_when_it_is_over() {
        let away = Summary { blocked_by: Some(Blocked::Away), alarm: Some("away".into()), ..Summary::default() };
        let trouble = Trouble { id: "a".into(), why: "no user".into() };
        let parked = Summary { parked: vec![trouble.clone()], ..Summary::default() };
        let dead = Summary { dead: vec![trouble], ..Summary::default() };
        let told = kinds(vec![Some(away.clone()), Some(away), Some(parked.clone()), Some(parked), None, None]);
        assert_eq!(told, ["pyrus_away", "pyrus_recovered", "delivery_parked", "journal_damaged"]);
        assert_eq!(kinds(vec![Some(Summary::default()), Some(dead)]), ["delivery_dead"]);
    }
}
