//! Sidecar records, i.e. the JSON call records in files beside the recordings. This module finds sidecar records that
//! are out of date, and rebuilds a lost journal from sidecar records.

use rusqlite::{Connection, OptionalExtension, params};

use super::calls::{self, CallStage, LegRow, SpoolFileState};
use super::{Journal, JournalResult, deliveries, retention};
use crate::call::record::CallRecord;
use crate::delivery::row::JobRow;
use crate::time::Timestamp;

/// A call of which the sidecar record (JSON file beside the recording) is out of date, because the state of its
/// delivery has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StaleRecord {
    /// Id of the call whose record is out of date.
    pub(crate) id: String,
    /// Change number of the call, counted from 1. It grows each time the delivery of the call changes.
    pub(crate) change: i64,
}

impl Journal {
    /// Returns at most `limit` calls with an out-of-date sidecar record (JSON file beside the recording). They are
    /// sorted by id and begin after the id `after`.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn stale_records(&self, after: &str, limit: u32) -> JournalResult<Vec<StaleRecord>> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT id, change FROM stale_records WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let stale = |row: &rusqlite::Row<'_>| Ok(StaleRecord { id: row.get(0)?, change: row.get(1)? });
        let rows = statement.query_map(params![after, limit], stale)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Records that these sidecar records (JSON files beside the recordings) were written again. If a call has changed
    /// once more since then, its record remains out of date.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn records_refreshed(&self, stale: &[StaleRecord]) -> JournalResult<()> {
        self.write(|transaction| {
            for StaleRecord { id, change } in stale {
                transaction
                    .prepare_cached("DELETE FROM stale_records WHERE id = ?1 AND change = ?2")?
                    .execute(params![id, change])?;
            }
            Ok(())
        })
    }

    /// Begins the rebuild of a journal that was lost at the time `at`. The new journal is incomplete until
    /// [`Journal::end_rebuild`] is called.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn begin_rebuild(&self, at: Timestamp) -> JournalResult<()> {
        self.write(|transaction| {
            put_meta(transaction, LOST_AT, &at.as_micros().to_string())?;
            put_meta(transaction, REBUILDING, "1")?;
            Ok(())
        })
    }

    /// Adds calls from sidecar records (JSON files beside the recordings), with their deliveries. Calls that the
    /// journal already has do not change.
    ///
    /// # Errors
    /// Fails if SQLite fails; then nothing is written.
    pub fn put_rebuilt_calls(&self, records: &[(CallRecord, Option<JobRow>)]) -> JournalResult<()> {
        self.write(|transaction| {
            for (record, job) in records {
                if calls::is_there(transaction, &record.id)? {
                    continue;
                }
                // A sidecar record (JSON file beside the recording) without a verdict was written while the call was in
                // progress. So the call is stored as live, with the parts of the recording that were finished by then.
                let stage = if record.verdict.is_some() { CallStage::Complete } else { CallStage::Live };
                calls::put_call(transaction, record, stage)?;
                put_legs(transaction, record)?;
                if let Some(job) = job {
                    deliveries::put_job(transaction, job)?;
                }
                if let Some(hold) = &record.held {
                    retention::put_hold(transaction, &record.id, hold.since, hold.why.as_deref())?;
                }
            }
            Ok(())
        })
    }

    /// Ends the rebuild of a lost journal after all sidecar records (JSON files beside the recordings) were added.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn end_rebuild(&self) -> JournalResult<()> {
        self.execute("DELETE FROM meta WHERE key = ?1", params![REBUILDING])?;
        Ok(())
    }

    /// Returns whether a rebuild of the journal was begun and not ended, because a crash interrupted it.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn is_rebuilding(&self) -> JournalResult<bool> {
        Ok(meta(&self.lock(), REBUILDING)?.is_some())
    }

    /// Returns the time at which the previous journal was lost; `None` if none was lost. If this journal does not have
    /// a call from before that time, nobody knows whether Pyrus has the call.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn lost_at(&self) -> JournalResult<Option<Timestamp>> {
        Ok(meta(&self.lock(), LOST_AT)?.and_then(|text| text.parse().ok()).map(Timestamp::from_micros))
    }
}

/// Writes a row for each leg whose spool file (captured packets) the call record names. The record names the file if it
/// was kept because of `keep_pcap`, or because rendering failed.
fn put_legs(connection: &Connection, record: &CallRecord) -> rusqlite::Result<()> {
    for (index, leg) in (0_u32..).zip(&record.legs) {
        let Some(name) = &leg.spool else { continue };
        let row = LegRow { name: name.clone(), index, same_sides: !leg.sides_swapped, state: SpoolFileState::Closed };
        calls::put_leg(connection, &record.id, &row)?;
    }
    Ok(())
}

/// Marks the sidecar record (JSON file beside the recording) of a call as out of date.
pub(super) fn put_stale_record(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO stale_records (id, change) VALUES (?1, 1) ON CONFLICT (id) DO UPDATE SET change = change + 1",
        )?
        .execute(params![id])?;
    Ok(())
}

fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM meta WHERE key = ?1", params![key], |row| row.get(0)).optional()
}

fn put_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<usize> {
    connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", params![key, value])
}

const LOST_AT: &str = "lost_at";
const REBUILDING: &str = "rebuilding";
