//! The records beside the recordings: which of them do not tell yet what became of the delivery, and how a journal that
//! was lost is made anew of them.

use rusqlite::{Connection, OptionalExtension, params};

use super::calls::{self, CallStage, LegRow, LegSpoolState};
use super::{Journal, JournalResult, deliveries, retention};
use crate::call::record::CallRecord;
use crate::delivery::row::JobRow;
use crate::time::Timestamp;

/// A call whose record's file is behind its delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleRecord {
    /// The call.
    pub id: String,
    /// Which change of the delivery: to be named in [`Journal::records_refreshed`].
    pub change: i64,
}

impl Journal {
    /// Calls whose delivery has been settled or parked since their record was written, in the order of their ids; those
    /// after `after`, at most `most`.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn stale_records(&self, after: &str, most: u32) -> JournalResult<Vec<StaleRecord>> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT id, change FROM stale_records WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let stale = |row: &rusqlite::Row<'_>| Ok(StaleRecord { id: row.get(0)?, change: row.get(1)? });
        let rows = statement.query_map(params![after, most], stale)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// These records were written again. One that has changed once more meanwhile stays stale.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn records_refreshed(&self, stale: &[StaleRecord]) -> JournalResult<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for StaleRecord { id, change } in stale {
            transaction
                .prepare_cached("DELETE FROM stale_records WHERE id = ?1 AND change = ?2")?
                .execute(params![id, change])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// This journal takes the place of one that was lost at `at`; until [`Journal::end_rebuild`] it is not whole.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn begin_rebuild(&self, at: Timestamp) -> JournalResult<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        put_meta(&transaction, LOST_AT, &at.as_micros().to_string())?;
        put_meta(&transaction, REBUILDING, "1")?;
        transaction.commit()?;
        Ok(())
    }

    /// Enters calls from their records, with what they say of the delivery; what is here already stays as it is.
    ///
    /// # Errors
    /// See [`super::Error`]; nothing is written then.
    pub fn put_rebuilt_calls(&self, records: &[(CallRecord, Option<JobRow>)]) -> JournalResult<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for (record, job) in records {
            if calls::is_there(&transaction, &record.id)? {
                continue;
            }
            // A record without a verdict lies beside the parts of a call that was under way.
            let stage = if record.verdict.is_some() { CallStage::Complete } else { CallStage::Live };
            calls::put_call(&transaction, record, stage)?;
            put_legs(&transaction, record)?;
            if let Some(job) = job {
                deliveries::put_job(&transaction, job)?;
            }
            if let Some(hold) = &record.held {
                retention::put_hold(&transaction, &record.id, hold.since, hold.why.as_deref())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// All records were entered.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn end_rebuild(&self) -> JournalResult<()> {
        self.lock().execute("DELETE FROM meta WHERE key = ?1", params![REBUILDING])?;
        Ok(())
    }

    /// Whether a crash came between [`Journal::begin_rebuild`] and its end.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn is_rebuilding(&self) -> JournalResult<bool> {
        Ok(meta(&self.lock(), REBUILDING)?.is_some())
    }

    /// When the journal before this one was lost. Of a call that began before and is not here nobody knows what Pyrus
    /// knows.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn lost_at(&self) -> JournalResult<Option<Timestamp>> {
        Ok(meta(&self.lock(), LOST_AT)?.and_then(|text| text.parse().ok()).map(Timestamp::from_micros))
    }
}

/// The packets of a call, which may be kept (`keep_pcap`, or because they could not be rendered).
fn put_legs(connection: &Connection, record: &CallRecord) -> rusqlite::Result<()> {
    for (index, leg) in (0_u32..).zip(&record.legs) {
        let Some(name) = &leg.spool else { continue };
        let row = LegRow { name: name.clone(), index, same_sides: !leg.sides_swapped, state: LegSpoolState::Closed };
        calls::put_leg(connection, &record.id, &row)?;
    }
    Ok(())
}

/// The record's file is behind from now on.
pub(super) fn put_stale(connection: &Connection, id: &str) -> rusqlite::Result<()> {
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
