//! The states of a call that the service stores: live, ended, complete.
//!
//! # Invariants
//! - A call becomes complete when its recordings and its row in the journal are on the disk. Its spool (the files with
//!   its captured packets) is removed afterwards.
//! - Everything in the row of a live or ended call can be rebuilt from the spool. So the row need not reach the disk
//!   earlier than the spool: [`Journal::sync_states`] is called as often as the spool is synced. After the end of a
//!   call without media, the spool keeps the signalling of the call for two of these intervals. The commit of any other
//!   row waits for the disk; the rows that were written before it are then on the disk, too.
//! - If a sync of the write-ahead log fails, pages of the log may be lost, even if a later sync succeeds. Linux reports
//!   the error once, and then counts the pages as written. When SQLite reads the log, it stops at the first lost page.
//!   So [`Journal::write`] copies the log into the database and empties it before it begins the next commit. Spools are
//!   removed and requests are sent to Pyrus only after a confirmed commit. A write that fails has changed nothing, so
//!   it can be repeated.
//! - A failed sync concerns every process that writes the journal, e.g. a command beside the service. So a marker file
//!   shows the failure to the other processes, until the log is emptied. This file need not survive a power cut,
//!   because the log then shows which pages are lost.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use rusqlite::{Connection, ToSql};

use super::calls::{LegRow, put_call, put_leg, stored_call};
use super::{CallStage, Error, Journal, JournalResult, SYNC_FAILED, retention};
use crate::call::event::RegistrationPolicy;
use crate::call::record::CallRecord;

/// The new state of a call, as the engine that follows the calls reported it, to be stored in the journal.
#[derive(Debug)]
pub(crate) struct CallToStore<'a> {
    /// Record of the call, without the segments (files of the recording) that are already finished. The journal adds
    /// these segments.
    pub(crate) record: &'a CallRecord,
    /// Stage of the call: in progress, over but not rendered, or complete.
    pub(crate) stage: CallStage,
    /// Legs of which the spool file (captured packets) is kept; empty for a live call.
    pub(crate) legs: Vec<LegRow>,
    /// Whether delivery may register the call in Pyrus; `None` if the call is not passed to delivery.
    pub(crate) announce_as: Option<RegistrationPolicy>,
}

impl Journal {
    /// Writes or replaces calls in one transaction, and returns their records. If the journal already has finished
    /// parts (segments) of a call's recording, they are kept and are in the returned record, too. The rows are on the
    /// disk after [`Journal::sync_states`].
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

    /// Writes or replaces a complete call with its legs. All rows are on the disk afterwards. If
    /// `announce_as` is given, [`Journal::calls_to_announce`] returns the call until [`Journal::mark_announced`] records
    /// that delivery has it.
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

    /// Waits until the rows of all live and ended calls are on the disk. After a failed sync, copies the whole
    /// write-ahead log into the database instead.
    ///
    /// # Errors
    /// Fails if the disk fails, or if another program reads the database for too long. Then the next call of this
    /// function copies the whole log.
    pub(crate) fn sync_states(&self) -> JournalResult<()> {
        if self.log_sync().must_renew() {
            let connection = self.lock();
            let mut log_sync = self.log_sync();
            return self.renew_log(&connection, &mut log_sync);
        }
        if !self.has_unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.log_sync().sync(&self.log_path).map_err(|source| Error::Io { path: self.log_path.clone(), source })
    }

    /// Runs `work` in a transaction and commits it. The rows are on the disk afterwards, even after an earlier failed
    /// sync. Every write uses this function, except the write of live and ended calls.
    ///
    /// # Errors
    /// Fails if `work` or SQLite fails. Fails also if an earlier sync failed and the log cannot be copied into the
    /// database. In each case nothing is written.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Connection) -> JournalResult<T>) -> JournalResult<T> {
        let mut connection = self.lock_to_write();
        // The lock on the sync state is held until the commit has returned. So no sync of another thread can fail
        // between the check of earlier syncs and the commit.
        let mut log_sync = self.log_sync();
        if log_sync.must_renew() {
            self.renew_log(&connection, &mut log_sync)?;
        }
        let changes_before = connection.total_changes();
        let result = commit(&mut connection, work);
        if SYNC_FAILED.take() {
            log_sync.note_failure();
        }
        // A commit that changed no row does not sync the write-ahead log. So after such a commit, unsynced rows stay
        // unsynced.
        if result.is_ok() && connection.total_changes() != changes_before {
            self.has_unsynced.store(false, Ordering::Release);
        }
        result
    }

    /// Runs one SQL statement as [`Journal::write`] does. Returns the number of rows that the statement changed.
    pub(super) fn execute(&self, sql: &str, values: &[&dyn ToSql]) -> JournalResult<usize> {
        self.write(|transaction| Ok(transaction.prepare_cached(sql)?.execute(values)?))
    }

    /// Copies the write-ahead log into the database, waits for the disk, and empties the log.
    fn renew_log(&self, connection: &Connection, log_sync: &mut LogSync) -> JournalResult<()> {
        let is_busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if is_busy {
            let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(rusqlite::Error::SqliteFailure(busy, None).into());
        }
        self.has_unsynced.store(false, Ordering::Release);
        log_sync.note_renewal();
        Ok(())
    }

    /// Locks the sync state of the write-ahead log. To avoid a deadlock, a thread that needs both locks must lock the
    /// connection first.
    pub(super) fn log_sync(&self) -> MutexGuard<'_, LogSync> {
        self.log_sync.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sync state of the write-ahead log. It stays locked during a sync, so that no commit misses a failure of that sync.
#[derive(Debug)]
pub(super) struct LogSync {
    /// Whether a sync failed in this process and the write-ahead log was not emptied afterwards.
    has_failed: bool,
    /// Path of a marker file. It exists from a failed sync in any process until the write-ahead log is emptied.
    mark: PathBuf,
    /// The open file of the write-ahead log, for syncs without a commit; `None` before the first sync. It stays open,
    /// because Linux reports a failed write to every open file. A file that is opened later gets the report only if
    /// nobody got it before.
    pub(super) log: Option<File>,
}

impl LogSync {
    /// Opens the write-ahead log, so that it can be synced. No sync of it has failed yet.
    pub(super) fn of_opened(log_path: &Path) -> Self {
        // A journal in memory has no write-ahead log, so `log` is `None`.
        Self { has_failed: false, mark: log_path.with_extension("unsynced"), log: File::open(log_path).ok() }
    }

    /// Returns whether the write-ahead log may have lost pages, so that it must be emptied before the next commit.
    pub(super) fn must_renew(&self) -> bool {
        self.has_failed || self.mark.exists()
    }

    /// Records that a sync of the write-ahead log has failed. The marker file shows the failure to the other processes.
    pub(super) fn note_failure(&mut self) {
        self.has_failed = true;
        if let Err(error) = File::create(&self.mark) {
            tracing::debug!(%error, "other processes are not told of the failed sync");
        }
    }

    fn note_renewal(&mut self) {
        self.has_failed = false;
        // If the marker file cannot be removed, the write-ahead log is emptied again before the next commit.
        let _ = std::fs::remove_file(&self.mark);
    }

    fn sync(&mut self, log_path: &Path) -> io::Result<()> {
        let result = match &self.log {
            Some(log) => log.sync_data(),
            None => File::open(log_path).and_then(|log| self.log.insert(log).sync_data()),
        };
        if result.is_err() {
            self.note_failure();
        }
        result
    }
}

/// Runs `work` in a transaction and commits it.
fn commit<T>(connection: &mut Connection, work: impl FnOnce(&Connection) -> JournalResult<T>) -> JournalResult<T> {
    let transaction = connection.transaction()?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

/// A guard: while it exists, commits on this connection do not wait for the disk. Dropping the guard ends this.
struct UnsyncedCommits<'c>(&'c Connection);

impl<'c> UnsyncedCommits<'c> {
    fn begin(connection: &'c Connection) -> rusqlite::Result<Self> {
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Self(connection))
    }
}

impl Drop for UnsyncedCommits<'_> {
    fn drop(&mut self) {
        // No transaction is open here. Inside a transaction, SQLite would refuse to change `synchronous`.
        if let Err(error) = self.0.pragma_update(None, "synchronous", "FULL") {
            tracing::error!(%error, "the journal cannot be set back to sync each commit");
        }
    }
}

/// Writes a call. Before, adds to its record the finished parts of the recording (segments) that the journal already
/// has. Returns this record, but without the state of its delivery.
fn put_call_with_segments(connection: &Connection, call: &CallToStore<'_>) -> JournalResult<CallRecord> {
    let mut record = call.record.clone();
    for leg in &call.legs {
        put_leg(connection, &record.id, leg)?;
    }
    if let Some((_, earlier)) = stored_call(connection, &record.id)? {
        record.take_parts(&earlier);
        // A call in progress has a verdict only if a rule of the configuration excluded the call. The finished parts of
        // its recording were then removed. That verdict is kept.
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
