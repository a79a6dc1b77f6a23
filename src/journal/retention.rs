//! The journal's rows for retention: recordings and their removal, retention holds, and calls that were not yet passed
//! to delivery. A *retention hold* is the request of a person to keep the files of a call.

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::calls::{CallStage, StoredCall, with_delivery};
use super::sidecar::put_stale_record;
use super::{Journal, JournalResult};
use crate::call::event::RegistrationPolicy;
use crate::call::record::RetentionHold;
use crate::delivery::JobStage;
use crate::time::Timestamp;

/// SQL that selects the recordings that were not removed, with the columns that [`read_recording`] reads.
macro_rules! recordings {
    () => {
        "SELECT r.call_id, r.part, r.path, r.bytes, r.sha256, r.plain_sha256, r.at,
        CASE WHEN EXISTS (SELECT 1 FROM untold u WHERE u.call_id = r.call_id) THEN 2
            ELSE coalesce((SELECT iif(d.stage = 'done', 1, 2) FROM deliveries d WHERE d.id = r.call_id), 0) END,
        EXISTS (SELECT 1 FROM holds h WHERE h.call_id = r.call_id)
            OR EXISTS (SELECT 1 FROM meta m JOIN archive_jobs a ON a.call_id = r.call_id AND a.archived < a.change
                WHERE m.key = 'archive_keeps')
            OR EXISTS (SELECT 1 FROM calls c WHERE c.id = r.call_id AND c.stage <> 'complete')
        FROM recordings r WHERE r.state = 'present'"
    };
}

/// One file of a recording, i.e. one segment, as stored in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingRow {
    /// Id of the call to which the recording belongs.
    pub(crate) call_id: String,
    /// Number of the segment (file of the recording), counted from 1.
    pub(crate) part: u32,
    /// Path of the recording's file on this machine.
    pub path: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
    /// SHA-256 of the content before encryption, lower-case hexadecimal; `None` if the file is not encrypted.
    pub plain_sha256: Option<String>,
    /// Start of the call, UTC; `None` if unknown.
    pub(crate) at: Option<Timestamp>,
    /// Whether the recording is still needed for the delivery to Pyrus.
    pub(crate) need: DeliveryNeed,
    /// Whether the file must not be removed, because the call is not complete or a person requested to keep its files.
    pub is_held: bool,
}

/// Whether a recording is still needed for delivery to Pyrus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryNeed {
    /// Pyrus has the recording, so the delivery does not need it any more.
    Delivered,
    /// The recording will not be delivered, so this is the only copy.
    NotOwed,
    /// The recording is still to be delivered, or its delivery failed.
    Owed,
}

/// The call that a leg belongs to, and the stage of that call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LegOwner {
    /// Id of the call to which the leg belongs.
    pub(crate) call_id: String,
    /// The call's stage: in progress, over but not rendered, or complete.
    pub(crate) stage: CallStage,
}

impl Journal {
    /// Records that these calls were passed to delivery. From now on the delivery row of a call says whether the call
    /// is still to be delivered.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn mark_announced<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> JournalResult<()> {
        self.write(|transaction| {
            for id in ids {
                transaction.prepare_cached("DELETE FROM untold WHERE call_id = ?1")?.execute(params![id])?;
            }
            Ok(())
        })
    }

    /// Returns the calls of all stages that must still be passed to delivery.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn calls_to_announce(&self) -> JournalResult<Vec<(StoredCall, RegistrationPolicy)>> {
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT c.stage, c.record, u.registration FROM untold u JOIN calls c ON c.id = u.call_id ORDER BY c.id",
        )?;
        let rows: Vec<(String, String, String)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        rows.iter()
            .map(|(stage, json, word)| {
                let registration =
                    if word == FORBIDDEN { RegistrationPolicy::Forbidden } else { RegistrationPolicy::Allowed };
                Ok((with_delivery(&connection, stage, json)?, registration))
            })
            .collect()
    }

    /// Returns the call to which the spool file with this name belongs; `None` if no stored call has this leg.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn owner_of_leg(&self, name: &str) -> JournalResult<Option<LegOwner>> {
        let connection = self.lock();
        let found = connection
            .query_row(
                "SELECT c.id, c.stage FROM legs l JOIN calls c ON c.id = l.call_id WHERE l.name = ?1 ORDER BY c.id",
                params![name],
                |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
            )
            .optional()?;
        Ok(found.map(|(call_id, stage)| LegOwner { call_id, stage: CallStage::read(&stage) }))
    }

    /// Places a retention hold on a call: no file of the call is removed until [`Journal::release`] ends the hold.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn hold(&self, id: &str, at: Timestamp, reason: Option<&str>) -> JournalResult<()> {
        self.write(|transaction| {
            put_hold(transaction, id, at, reason)?;
            put_stale_record(transaction, id)?;
            Ok(())
        })
    }

    /// Ends the retention hold on a call, which has kept its files. Returns whether there was a hold.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn release(&self, id: &str) -> JournalResult<bool> {
        self.write(|transaction| {
            let was_held = transaction.execute("DELETE FROM holds WHERE call_id = ?1", params![id])? > 0;
            put_stale_record(transaction, id)?;
            Ok(was_held)
        })
    }

    /// Returns the retention hold on a call, i.e. a person's request to keep its files; `None` if there is none.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn held(&self, id: &str) -> JournalResult<Option<RetentionHold>> {
        Ok(held(&self.lock(), id)?)
    }

    /// Returns all recordings that were not removed, oldest call first. [`Journal::recordings_after`] returns the same
    /// recordings in pages.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn recordings(&self) -> JournalResult<Vec<RecordingRow>> {
        let mut recordings: Vec<RecordingRow> = Vec::new();
        loop {
            let page = self.recordings_after(recordings.last(), PAGE)?;
            if page.is_empty() {
                return Ok(recordings);
            }
            recordings.extend(page);
        }
    }

    /// Returns a page of at most `limit` recordings that were not removed, oldest call first. The page begins after the
    /// row `after`. Between two pages the journal is not locked.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn recordings_after(&self, after: Option<&RecordingRow>, limit: u32) -> JournalResult<Vec<RecordingRow>> {
        let (at, id, part) = after.map_or((i64::MIN, "", 0), |f| (micros_or_last(f.at), f.call_id.as_str(), f.part));
        let connection = self.lock();
        let mut statement = connection.prepare_cached(RECORDINGS_AFTER)?;
        let rows = statement.query_map(params![at, id, part, limit], read_recording)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Returns the files of a call's recording that were not removed, first part first.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn recordings_of(&self, id: &str) -> JournalResult<Vec<RecordingRow>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(RECORDINGS_OF)?;
        let rows = statement.query_map(params![id], read_recording)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Returns the total size of all recordings that were not removed, bytes.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn kept_bytes(&self) -> JournalResult<u64> {
        let sum: i64 = self
            .lock()
            .prepare_cached("SELECT coalesce(sum(bytes), 0) FROM recordings WHERE state = 'present'")?
            .query_row([], |row| row.get(0))?;
        Ok(u64::try_from(sum).unwrap_or(0))
    }

    /// Marks all recordings of the given calls as removed. `calls` has the id of each call and the reason of the
    /// removal. Returns the paths of the files. Must be called before the files are removed.
    ///
    /// # Errors
    /// Fails if SQLite fails; then nothing is written.
    pub fn mark_removed(&self, calls: &[(String, &str)], at: Timestamp) -> JournalResult<Vec<String>> {
        self.write(|transaction| {
            let mut paths = Vec::new();
            for (id, reason) in calls {
                let mut statement = transaction.prepare_cached(
                    "UPDATE recordings SET state = 'removed', removed_at = ?2, removed_why = ?3
                     WHERE call_id = ?1 AND state = 'present' RETURNING path",
                )?;
                for path in statement.query_map(params![id, at.as_micros(), reason], |row| row.get(0))? {
                    paths.push(path?);
                }
            }
            Ok(paths)
        })
    }

    /// Returns when and why the recordings of a call were removed; `None` if they were not removed.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn removed(&self, id: &str) -> JournalResult<Option<(Timestamp, String)>> {
        let connection = self.lock();
        Ok(connection
            .query_row(
                "SELECT coalesce(removed_at, 0), coalesce(removed_why, '') FROM recordings
                 WHERE call_id = ?1 AND state = 'removed'",
                params![id],
                |row| Ok((Timestamp::from_micros(row.get(0)?), row.get(1)?)),
            )
            .optional()?)
    }

    /// Returns the paths of recordings that were marked as removed at or after `since`. Some of these files may still
    /// exist after a crash, because the mark is written before the file is removed.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn removed_since(&self, since: Timestamp) -> JournalResult<Vec<String>> {
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT path FROM recordings WHERE state = 'removed' AND removed_at >= ?1")?;
        let paths = statement.query_map(params![since.as_micros()], |row| row.get(0))?;
        Ok(paths.collect::<rusqlite::Result<_>>()?)
    }

    /// Removes the mark "removed" from the recordings of a call, because they were made again.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn mark_present(&self, id: &str) -> JournalResult<()> {
        let sql = "UPDATE recordings SET state = 'present', removed_at = NULL, removed_why = NULL WHERE call_id = ?1";
        self.execute(sql, params![id])?;
        Ok(())
    }

    /// Asks the service, which may be another process, to make the recordings of a call again from the captured
    /// packets.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn request_render(&self, id: &str) -> JournalResult<()> {
        self.execute("INSERT OR IGNORE INTO renders (id) VALUES (?1)", params![id])?;
        Ok(())
    }

    /// Returns the first call whose recordings a person wants to have made again; `None` if there is no such request.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn first_render_request(&self) -> JournalResult<Option<String>> {
        let sql = "SELECT id FROM renders ORDER BY id LIMIT 1";
        Ok(self.lock().query_row(sql, [], |row| row.get(0)).optional()?)
    }

    /// Removes a request to make the recordings of a call again. Returns the number of removed requests, 0 or 1.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn remove_render_request(&self, id: &str) -> JournalResult<usize> {
        self.execute("DELETE FROM renders WHERE id = ?1", params![id])
    }

    /// Returns the id of each delivery that is in a given stage, and the delivery's note for the administrator.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn deliveries_in_stage(&self, stage: JobStage) -> JournalResult<Vec<(String, String)>> {
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT id, coalesce(note, '') FROM deliveries WHERE stage = ?1 ORDER BY id")?;
        let rows = statement.query_map(params![stage.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

pub(super) fn held(connection: &Connection, id: &str) -> rusqlite::Result<Option<RetentionHold>> {
    connection
        .prepare_cached("SELECT at, why FROM holds WHERE call_id = ?1")?
        .query_row(params![id], |row| {
            Ok(RetentionHold { since: Timestamp::from_micros(row.get(0)?), why: row.get(1)? })
        })
        .optional()
}

pub(super) fn put_hold(connection: &Connection, id: &str, at: Timestamp, reason: Option<&str>) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO holds (call_id, at, why) VALUES (?1, ?2, ?3)
             ON CONFLICT (call_id) DO UPDATE SET why = coalesce(?3, why)",
        )?
        .execute(params![id, at.as_micros(), reason])?;
    Ok(())
}

pub(super) fn put_to_announce(
    connection: &Connection,
    id: &str,
    registration: RegistrationPolicy,
) -> JournalResult<()> {
    let word = match registration {
        RegistrationPolicy::Allowed => ALLOWED,
        RegistrationPolicy::Forbidden => FORBIDDEN,
    };
    connection
        .prepare_cached("INSERT OR REPLACE INTO untold (call_id, registration) VALUES (?1, ?2)")?
        .execute(params![id, word])?;
    Ok(())
}

const ALLOWED: &str = "allowed";
const FORBIDDEN: &str = "forbidden";

fn read_recording(row: &SqlRow<'_>) -> rusqlite::Result<RecordingRow> {
    Ok(RecordingRow {
        call_id: row.get(0)?,
        part: row.get(1)?,
        path: row.get(2)?,
        bytes: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
        sha256: row.get(4)?,
        plain_sha256: row.get(5)?,
        at: Some(row.get::<_, i64>(6)?).filter(|at| *at != i64::MAX).map(Timestamp::from_micros),
        need: match row.get::<_, i64>(7)? {
            0 => DeliveryNeed::NotOwed,
            1 => DeliveryNeed::Delivered,
            _ => DeliveryNeed::Owed,
        },
        is_held: row.get(8)?,
    })
}

/// Returns the start of a call as a sort key, µs since the Unix epoch. A call with an unknown start is sorted as the
/// newest.
pub(super) fn micros_or_last(at: Option<Timestamp>) -> i64 {
    at.map_or(i64::MAX, Timestamp::as_micros)
}

const RECORDINGS_OF: &str = concat!(recordings!(), " AND r.call_id = ?1 ORDER BY r.part");
/// SQL that selects the recordings after a given row, in the order of the database index `recordings_present`.
const RECORDINGS_AFTER: &str =
    concat!(recordings!(), " AND (r.at, r.call_id, r.part) > (?1, ?2, ?3) ORDER BY r.at, r.call_id, r.part LIMIT ?4");

/// Number of rows that are read at once. Reading them locks the journal for a few milliseconds.
const PAGE: u32 = 1_000;
