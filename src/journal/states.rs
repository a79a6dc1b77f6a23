//! The states of a call that the service stores: live, ended, complete.
//!
//! # Invariants
//! - A call is complete when its files and this row are on the disk. Its spool is removed afterwards.
//! - The row of a live or ended call says nothing that the spool does not say. So it needs to be on the disk no earlier than
//!   the spool: [`Journal::sync_states`] is called as often as the spool is synced. The spool keeps the signalling of a call
//!   without media for twice that time after its end. A commit of any other row waits for the disk, and the rows before it
//!   are on the disk then, too.
//! - If a sync of the write-ahead log fails, some of its pages may be lost although a later sync succeeds: Linux reports the
//!   error once and counts the pages as written. After a lost page SQLite reads no later row of the log. So the log is
//!   copied into the database and begun anew.

use std::fs::File;
use std::sync::atomic::Ordering;

use rusqlite::Connection;

use super::calls::{LegRow, put_call, put_leg, stored_call};
use super::{CallStage, Error, Journal, JournalResult, retention};
use crate::call::event::RegistrationPolicy;
use crate::call::record::CallRecord;

/// A state of a call that the engine reported and that is to be stored.
#[derive(Debug)]
pub(crate) struct CallToStore<'a> {
    /// Record of the call without its finished segments.
    pub(crate) record: &'a CallRecord,
    /// Stage of the call: in progress, over, or complete.
    pub(crate) stage: CallStage,
    /// Legs with a spool file; none for a live call.
    pub(crate) legs: Vec<LegRow>,
    /// Policy with which the call is announced to delivery; `None` if it is not announced.
    pub(crate) announce_as: Option<RegistrationPolicy>,
}

impl Journal {
    /// Writes or replaces calls that may already have finished segments, in one transaction, and returns the merged
    /// records. Segments in a stored record are kept. The rows are on the disk after [`Journal::sync_states`].
    ///
    /// # Errors
    /// Fails if SQLite fails; then nothing is written.
    pub(crate) fn put_calls_with_segments(&self, calls: &[CallToStore<'_>]) -> JournalResult<Vec<CallRecord>> {
        let connection = self.lock();
        let _unsynced = UnsyncedCommits::begin(&connection)?;
        let transaction = connection.unchecked_transaction()?;
        let records = calls.iter().map(|call| put_call_with_segments(&transaction, call)).collect::<Result<_, _>>()?;
        transaction.commit()?;
        self.has_unsynced.store(true, Ordering::Release);
        Ok(records)
    }

    /// Writes or replaces a complete call with its legs. With `announce_as`, the call is to be announced to delivery: until
    /// [`Journal::mark_announced`] it is among [`Journal::calls_to_announce`]. All rows are on the disk afterwards.
    ///
    /// # Errors
    /// Fails if SQLite fails; then nothing is written.
    pub(crate) fn put_complete_call(
        &self,
        record: &CallRecord,
        legs: &[LegRow],
        announce_as: Option<RegistrationPolicy>,
    ) -> JournalResult<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        legs.iter().try_for_each(|leg| put_leg(&transaction, &record.id, leg))?;
        put_call(&transaction, record, CallStage::Complete)?;
        if let Some(registration) = announce_as {
            retention::put_to_announce(&transaction, &record.id, registration)?;
        }
        transaction.commit()?;
        self.has_unsynced.store(false, Ordering::Release);
        Ok(())
    }

    /// Waits until the rows of all live and ended calls are on the disk. After a failed sync, copies the whole log into the
    /// database instead.
    ///
    /// # Errors
    /// Fails if the disk fails, or if another program read for too long. Then the next call copies the log.
    pub(crate) fn sync_states(&self) -> JournalResult<()> {
        if self.has_sync_failed.load(Ordering::Acquire) {
            return self.renew_log();
        }
        if !self.has_unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        // SQLite locks the database file and never the log. So this second handle to the log can be closed without
        // releasing a lock.
        File::open(&self.log_path).and_then(|log| log.sync_data()).map_err(|source| {
            self.has_sync_failed.store(true, Ordering::Release);
            Error::Io { path: self.log_path.clone(), source }
        })
    }

    /// Copies the log into the database, waits for the disk, and empties the log.
    fn renew_log(&self) -> JournalResult<()> {
        let connection = self.lock();
        let is_busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if is_busy {
            let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(rusqlite::Error::SqliteFailure(busy, None).into());
        }
        self.has_unsynced.store(false, Ordering::Release);
        self.has_sync_failed.store(false, Ordering::Release);
        Ok(())
    }
}

/// As long as this value exists, commits do not wait for the disk.
struct UnsyncedCommits<'c>(&'c Connection);

impl<'c> UnsyncedCommits<'c> {
    fn begin(connection: &'c Connection) -> rusqlite::Result<Self> {
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Self(connection))
    }
}

impl Drop for UnsyncedCommits<'_> {
    fn drop(&mut self) {
        // SQLite refuses this setting only within a transaction, and none is open here.
        if let Err(error) = self.0.pragma_update(None, "synchronous", "FULL") {
            tracing::error!(%error, "the journal does not wait for the disk any more");
        }
    }
}

/// Writes a call and returns its merged record, without the state of its delivery.
fn put_call_with_segments(connection: &Connection, call: &CallToStore<'_>) -> JournalResult<CallRecord> {
    let mut record = call.record.clone();
    for leg in &call.legs {
        put_leg(connection, &record.id, leg)?;
    }
    if let Some((_, earlier)) = stored_call(connection, &record.id)? {
        record.take_parts(&earlier);
        // A live call has a verdict only if its segments were withdrawn. Then it keeps this verdict.
        if call.stage == CallStage::Live && record.verdict.is_none() {
            (record.verdict, record.verdict_reason) = (earlier.verdict, earlier.verdict_reason);
        }
    }
    put_call(connection, &record, call.stage)?;
    if let Some(registration) = call.announce_as {
        retention::put_to_announce(connection, &record.id, registration)?;
    }
    Ok(record)
}
