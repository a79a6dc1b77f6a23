//! The states of a call that the service stores: live, ended, complete.
//!
//! # Invariants
//! - A call is complete when its files and this row are on the disk. Its spool is removed afterwards.
//! - The row of a live or ended call contains nothing that the spool does not contain. So it needs to be on the disk no
//!   earlier than the spool: [`Journal::sync_states`] is called as often as the spool is synced. The spool keeps the
//!   signalling of a call without media for twice that time after its end. A commit of any other row waits for the
//!   disk, and the rows before it are on the disk then, too.
//! - If a sync of the write-ahead log fails, some of its pages may be lost although a later sync succeeds: Linux
//!   reports the error once and counts the pages as written. After a lost page SQLite reads no later row of the log. So
//!   the log is copied into the database and begun anew. This comes before the next commit is confirmed
//!   ([`Journal::write`]), because a spool is removed, or a request to Pyrus sent, only after such a commit.

use std::fs::File;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use rusqlite::{Connection, ToSql};

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
        let connection = self.lock_to_write();
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
        self.write(|transaction| {
            legs.iter().try_for_each(|leg| put_leg(transaction, &record.id, leg))?;
            put_call(transaction, record, CallStage::Complete)?;
            if let Some(registration) = announce_as {
                retention::put_to_announce(transaction, &record.id, registration)?;
            }
            Ok(())
        })
    }

    /// Waits until the rows of all live and ended calls are on the disk. After a failed sync, copies the whole log into the
    /// database instead.
    ///
    /// # Errors
    /// Fails if the disk fails, or if another program read for too long. Then the next call copies the log.
    pub(crate) fn sync_states(&self) -> JournalResult<()> {
        if self.log_sync().has_failed {
            return self.renew_log(&self.lock());
        }
        if !self.has_unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let mut log_sync = self.log_sync();
        // SQLite locks the database file and never the log. So this second handle to the log can be closed without
        // releasing a lock.
        File::open(&self.log_path).and_then(|log| log.sync_data()).map_err(|source| {
            log_sync.has_failed = true;
            Error::Io { path: self.log_path.clone(), source }
        })
    }

    /// Runs `work` in a transaction and commits it. The rows are on the disk afterwards, even after an earlier failed
    /// sync. All writes use this function, except those of the states of live and ended calls.
    ///
    /// # Errors
    /// Fails if `work` or SQLite fails; then nothing is written. Fails also if the log cannot be renewed after a failed
    /// sync. Then a power cut can lose the rows, so the caller must write them again.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Connection) -> JournalResult<T>) -> JournalResult<T> {
        let mut connection = self.lock_to_write();
        let changes_before = connection.total_changes();
        let transaction = connection.transaction()?;
        let result = work(&transaction)?;
        transaction.commit()?;
        if self.log_sync().has_failed {
            self.renew_log(&connection)?;
        }
        // A commit without a change does not sync the log.
        if connection.total_changes() != changes_before {
            self.has_unsynced.store(false, Ordering::Release);
        }
        Ok(result)
    }

    /// Runs one SQL statement as [`Journal::write`] does. Returns the number of rows that it changed.
    pub(super) fn execute(&self, sql: &str, values: &[&dyn ToSql]) -> JournalResult<usize> {
        self.write(|transaction| Ok(transaction.prepare_cached(sql)?.execute(values)?))
    }

    /// Copies the log into the database, waits for the disk, and empties the log.
    fn renew_log(&self, connection: &Connection) -> JournalResult<()> {
        let is_busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if is_busy {
            let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(rusqlite::Error::SqliteFailure(busy, None).into());
        }
        self.has_unsynced.store(false, Ordering::Release);
        self.log_sync().has_failed = false;
        Ok(())
    }

    /// Locks the state of the log's syncs. A thread that has locked the connection may call this function; a thread
    /// that has locked this state must not lock the connection.
    pub(super) fn log_sync(&self) -> MutexGuard<'_, LogSync> {
        self.log_sync.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// State of the syncs of the write-ahead log. It is locked during a sync, so that no commit overlooks its failure.
#[derive(Debug, Default)]
pub(super) struct LogSync {
    /// Whether a sync failed, and the log was not emptied since then.
    pub(super) has_failed: bool,
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
