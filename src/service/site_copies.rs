//! Copies the audit of the console and the learnt topology of this site to the central archive.
//!
//! Both are small and can be sent again without harm, so the position in the audit is not stored for a restart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::topology_file;
use crate::call::topology::MachinePair;
use crate::central::{ArchiveError, ArchiveIndex};
use crate::time::Timestamp;

/// A function that reads rows of the audit: those after a number, and failed sign-ins since a time, whose count
/// changes. It returns the number and the JSON of each row, oldest rows first, at most as many as asked for.
pub(crate) type AuditReader = Box<dyn Fn(i64, Timestamp, u32) -> Result<Vec<(i64, Value)>, String> + Send>;

/// State of copying the audit and topology of one site.
pub(crate) struct SiteCopies {
    state: PathBuf,
    audit: AuditReader,
    /// Number of the last row of the audit that the index of the archive has.
    sent: i64,
    /// Wall-clock time at which the last round started.
    sent_at: Timestamp,
    /// Topology that the index of the archive has; `None` if unknown.
    topology: Option<Vec<MachinePair>>,
    /// Whether the last round failed.
    is_failing: bool,
}

impl SiteCopies {
    /// Creates the state for a state folder. `audit` reads the audit. Sends nothing yet.
    pub(crate) fn of(state: &Path, audit: AuditReader) -> Self {
        Self { state: state.to_owned(), audit, sent: 0, sent_at: Timestamp::EPOCH, topology: None, is_failing: false }
    }

    /// Sends the changes since the last time. Audit and topology do not wait for each other. Logs the first failure,
    /// and the end of failures.
    ///
    /// # Errors
    /// When the audit cannot be read, or the index does not answer or refuses, or is of an older callspan.
    pub(crate) async fn send(&mut self, index: &mut ArchiveIndex, now: Timestamp) -> Result<(), String> {
        let audit = self.send_audit(index, now).await.map_err(|error| format!("the audit: {error}"));
        let topology = self.send_topology(index).await.map_err(|error| format!("the topology: {error}"));
        let failures: Vec<String> = [audit, topology].into_iter().filter_map(Result::err).collect();
        let result = if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) };
        match (&result, std::mem::replace(&mut self.is_failing, result.is_err())) {
            (Err(failure), false) => tracing::warn!("the archive has no current copy: {failure}"),
            (Ok(()), true) => tracing::info!("the archive has the audit and the topology again"),
            _ => {}
        }
        result
    }

    async fn send_audit(&mut self, index: &mut ArchiveIndex, now: Timestamp) -> Result<(), String> {
        let since = self.sent_at - COUNTED;
        for _ in 0..BATCHES {
            let rows = (self.audit)(self.sent, since, BATCH)?;
            let Some(last) = rows.iter().map(|(n, _)| *n).max() else { break };
            let is_new = last > self.sent;
            let count = rows.len();
            let rows = rows.into_iter().map(|(_, row)| row).collect();
            index.put_audit(&rows).await.map_err(|error| error.to_string())?;
            self.sent = self.sent.max(last);
            if !is_new || count < BATCH as usize {
                break;
            }
        }
        self.sent_at = now;
        Ok(())
    }

    async fn send_topology(&mut self, index: &mut ArchiveIndex) -> Result<(), ArchiveError> {
        let topology = topology_file::load(&self.state);
        if self.topology.as_ref() != Some(&topology) {
            index.put_topology(&serde_json::to_value(&topology).unwrap_or_default()).await?;
            self.topology = Some(topology);
        }
        Ok(())
    }
}

/// Time for which the failed sign-ins of one user name share a row of the audit.
const COUNTED: Duration = Duration::from_secs(3_600);
/// Maximum number of audit rows in one message.
const BATCH: u32 = 1_000;
/// Maximum number of messages in one round, so that a long audit does not delay the calls.
const BATCHES: u32 = 20;
