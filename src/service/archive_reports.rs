//! Reports of a site to the archive's database. A report says that the site is alive and how many calls it still has to
//! send. It also brings the counters of the recorder, and the copies of audit and topology.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::archive_health::{ArchiveHealth, RoundResult};
use super::clock;
use super::site_copies::SiteCopies;
use crate::central::ArchiveIndex;
use crate::journal::Journal;
use crate::ops::alerts::Alerts;
use crate::ops::status::ServiceReport;
use crate::time::Timestamp;

/// Reports once a minute that this site is alive. A successful report proves nothing about the object store. So while
/// calls are still to be sent, a successful report ends no alarm.
pub(super) struct SiteReports<'a> {
    journal: Journal,
    /// State folder, with the status file of `run`.
    state: PathBuf,
    copies: &'a mut SiteCopies,
    /// Connection for the reports while an object is sent. It is open only for the time of a report.
    beside: ArchiveIndex,
    /// Wall-clock time of the last report.
    reported_at: Timestamp,
}

impl<'a> SiteReports<'a> {
    /// Prepares the reports of the site with the state folder `state` to the database of `index`. The first report is due
    /// at once.
    pub(super) fn of(journal: Journal, state: PathBuf, index: &ArchiveIndex, copies: &'a mut SiteCopies) -> Self {
        Self { journal, state, copies, beside: index.unconnected(), reported_at: Timestamp::EPOCH }
    }

    /// Sends a report if it is due.
    pub(super) async fn send_due(&mut self, index: &mut ArchiveIndex, health: &mut ArchiveHealth, alerts: &Alerts) {
        if clock::wall_clock().since(self.reported_at) >= REPORT_INTERVAL {
            self.send(index, health, alerts).await;
        }
    }

    /// Sends reports while an object is sent, which takes minutes if the object is large or the store is silent. They
    /// have a connection of their own. A round of sending that is short needs none.
    #[expect(clippy::disallowed_methods, reason = "reports between two rounds")]
    pub(super) async fn repeat(&mut self, health: &mut ArchiveHealth, alerts: &Alerts) -> Infallible {
        loop {
            tokio::time::sleep(PATIENCE).await;
            let mut index = self.beside.unconnected();
            self.send(&mut index, health, alerts).await;
        }
    }

    async fn send(&mut self, index: &mut ArchiveIndex, health: &mut ArchiveHealth, alerts: &Alerts) {
        let backlog = self.journal.archive_backlog().unwrap_or_default();
        let result = match index.report_site(backlog).await {
            Ok(()) if backlog.owed == 0 => RoundResult::Succeeded,
            Ok(()) => RoundResult::Idle,
            Err(error) => RoundResult::Failed(error.to_string()),
        };
        self.reported_at = clock::wall_clock();
        let is_there = matches!(result, RoundResult::Succeeded | RoundResult::Idle);
        if is_there {
            let _ = self.copies.send(index, clock::wall_clock()).await; // logs its own failure; calls are sent all the same
        }
        if is_there
            && let Some(health) = recorder_health(&self.state)
            && let Err(error) = index.report_health(&health).await
        {
            tracing::debug!("the index does not take the health of this site: {error}");
        }
        health.record(&result, alerts);
    }
}

/// Reads the counters that the central console shows from the status file of `run`. Returns `None` if there is no
/// status file.
fn recorder_health(state: &Path) -> Option<serde_json::Value> {
    let report = ServiceReport::read(state).ok()?;
    let alarms: BTreeSet<&str> = report.alarms.iter().map(|alarm| alarm.kind.name()).collect();
    Some(serde_json::json!({
        "at": report.at,
        "capturing": report.is_capturing,
        "frames": report.frames,
        "lost": report.dropped_by_kernel + report.dropped_by_interface + report.spool_lost,
        "calls_live": report.calls_live,
        "calls_ended": report.calls_ended,
        "owed": report.owed,
        "alarms": alarms,
        "taps": report.taps.iter().take(MAX_TAPS).collect::<Vec<_>>(),
    }))
}

/// Interval at which the site reports that it is alive.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// Time after which a round of sending counts as long, and its site reports beside it. A round begins no object later
/// than [`REPORT_INTERVAL`] after its begin.
const PATIENCE: Duration = Duration::from_secs(70);
/// Maximum number of capture interfaces in the report that a site sends.
const MAX_TAPS: usize = 16;
