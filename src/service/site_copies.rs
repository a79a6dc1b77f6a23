//! Copies the audit and the topology of this site to the central archive. The audit lists what users did in the
//! console. The topology lists which IP addresses belong to one machine.
//!
//! The audit and the topology are small and can be sent twice without harm. So after a restart the audit is sent from
//! the beginning.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::topology_file;
use crate::call::topology::MachinePair;
use crate::central::{ArchiveError, ArchiveIndex};
use crate::time::Timestamp;

/// A function that reads rows of the audit: `(after, since, limit)`. It returns the rows with a number above `after`,
/// and the rows of failed sign-ins since `since`, because their counts still change. Each row has its number and its
/// JSON; at most `limit` rows are returned, oldest first.
pub(crate) type AuditReader = Box<dyn Fn(i64, Timestamp, u32) -> Result<Vec<(i64, Value)>, String> + Send>;

/// State of copying the audit (what users did in the console) and the topology (which addresses are one machine) of one
/// site.
pub(crate) struct SiteCopies {
    state: PathBuf,
    audit: AuditReader,
    /// Number of the last row of the audit that was sent to the archive's database.
    sent: i64,
    /// Wall-clock time at which the audit was last sent to the archive.
    sent_at: Timestamp,
    /// Topology (pairs of addresses of one machine) that the archive's database has; `None` if unknown.
    topology: Option<Vec<MachinePair>>,
    /// Whether the last round of copying failed. Only the first failure is logged.
    is_failing: bool,
}

impl SiteCopies {
    /// Prepares the copying of audit and topology for the recorder with the state folder `state`. `audit` reads rows of
    /// the audit.
    pub(crate) fn of(state: &Path, audit: AuditReader) -> Self {
        Self { state: state.to_owned(), audit, sent: 0, sent_at: Timestamp::EPOCH, topology: None, is_failing: false }
    }

    /// Sends the audit and the topology as far as they changed since the last use of this function. If the audit cannot
    /// be sent, the topology is sent all the same. Logs the first failure, and the end of failures.
    ///
    /// # Errors
    /// Fails if the audit cannot be read, or if the archive's database does not respond, refuses, or has the schema of
    /// an older callspan.
    pub(crate) async fn send(&mut self, index: &mut ArchiveIndex, now: Timestamp) -> Result<(), String> {
        let audit = self.send_audit(index, now).await.map_err(|error| format!("the audit: {error}"));
        let topology = self.send_topology(index).await.map_err(|error| format!("the topology: {error}"));
        let failures: Vec<String> = [audit, topology].into_iter().filter_map(Result::err).collect();
        let result = if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) };
        match (&result, std::mem::replace(&mut self.is_failing, result.is_err())) {
            (Err(failure), false) => tracing::warn!("the archive has no current copy of audit and topology: {failure}"),
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

/// Time for which the audit counts all failed sign-ins of one user name in one row. Such a row still changes, so it is
/// sent again.
const COUNTED: Duration = Duration::from_secs(3_600);
/// Maximum number of audit rows that are sent to the archive in one request.
const BATCH: u32 = 1_000;
/// Maximum number of messages with audit rows in one round of copying. More would delay the sending of calls.
const BATCHES: u32 = 20;
