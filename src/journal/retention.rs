//! What is kept and for how long: files, holds, and what delivery has not made its own yet.

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::calls::{CallStage, LegSpoolState, StoredCall, with_delivery};
use super::sidecar::put_stale;
use super::{Journal, JournalResult};
use crate::call::event::Registration;
use crate::call::record::Hold;
use crate::time::Timestamp;

/// The recordings that should be there, as [`read_recording`] takes them.
macro_rules! recordings {
    () => {
        "SELECT r.call_id, r.part, r.path, r.bytes, r.sha256, r.plain_sha256, r.at,
        CASE WHEN EXISTS (SELECT 1 FROM untold u WHERE u.call_id = r.call_id) THEN 2
            ELSE coalesce((SELECT iif(d.stage = 'done', 1, 2) FROM deliveries d WHERE d.id = r.call_id), 0) END,
        EXISTS (SELECT 1 FROM holds h WHERE h.call_id = r.call_id)
            OR EXISTS (SELECT 1 FROM calls c WHERE c.id = r.call_id AND c.stage <> 'complete')
        FROM recordings r WHERE r.state = 'present'"
    };
}

/// A recording's file as the journal knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingRow {
    /// The call.
    pub call_id: String,
    /// 1 for the first.
    pub part: u32,
    /// Where it is.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
    /// The file is encrypted: of what was in it, lower-case hex.
    pub plain_sha256: Option<String>,
    /// Begin of the call.
    pub at: Option<Timestamp>,
    /// What Pyrus has of the call.
    pub standing: DeliveryNeed,
    /// Somebody holds the call, or it is not over: nothing of it may be removed.
    pub is_held: bool,
}

/// What a recording's removal would cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryNeed {
    /// Pyrus has it.
    Delivered,
    /// It is not to be delivered: there is no other copy, and nobody waits for it.
    NotOwed,
    /// It is still to be delivered, or cannot be.
    Owed,
}

/// The call that a leg's spool belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegOwner {
    /// The call.
    pub call_id: String,
    /// How far it has come.
    pub stage: CallStage,
}

impl Journal {
    /// Delivery has made a call its own: what it owes is in its own rows from now on.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn mark_announced(&self, id: &str) -> JournalResult<()> {
        self.lock().prepare_cached("DELETE FROM untold WHERE call_id = ?1")?.execute(params![id])?;
        Ok(())
    }

    /// The calls that delivery is still to be told of, whatever their stage.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn calls_to_announce(&self) -> JournalResult<Vec<(StoredCall, Registration)>> {
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT c.stage, c.record, u.registration FROM untold u JOIN calls c ON c.id = u.call_id ORDER BY c.id",
        )?;
        let rows: Vec<(String, String, String)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        rows.iter()
            .map(|(stage, json, word)| {
                let registration = if word == FORBIDDEN { Registration::Forbidden } else { Registration::Allowed };
                Ok((with_delivery(&connection, stage, json)?, registration))
            })
            .collect()
    }

    /// The call that a leg's spool belongs to; `None` while the call is under way.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn owner_of_leg(&self, name: &str) -> JournalResult<Option<LegOwner>> {
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

    /// Nothing of a call may be removed until [`Journal::release`].
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn hold(&self, id: &str, at: Timestamp, why: Option<&str>) -> JournalResult<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        put_hold(&transaction, id, at, why)?;
        put_stale(&transaction, id)?;
        transaction.commit()?;
        Ok(())
    }

    /// Ends a hold; whether there was one.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn release(&self, id: &str) -> JournalResult<bool> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let was_held = transaction.execute("DELETE FROM holds WHERE call_id = ?1", params![id])? > 0;
        put_stale(&transaction, id)?;
        transaction.commit()?;
        Ok(was_held)
    }

    /// Whether a call is held.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn held(&self, id: &str) -> JournalResult<Option<Hold>> {
        Ok(held(&self.lock(), id)?)
    }

    /// The recordings that should be there, oldest call first. All of them: [`Journal::recordings_after`] gives pages.
    ///
    /// # Errors
    /// See [`super::Error`].
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

    /// The recordings that should be there, oldest call first: those that come after a row, at most `most`. Between two
    /// pages others may use the journal.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn recordings_after(&self, after: Option<&RecordingRow>, most: u32) -> JournalResult<Vec<RecordingRow>> {
        let (at, id, part) = after.map_or((i64::MIN, "", 0), |f| (micros_or_last(f.at), f.call_id.as_str(), f.part));
        let connection = self.lock();
        let mut statement = connection.prepare_cached(FILES_AFTER)?;
        let rows = statement.query_map(params![at, id, part, most], read_recording)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The recordings of a call that should be there, in the order of their parts.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn recordings_of(&self, id: &str) -> JournalResult<Vec<RecordingRow>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(FILES_OF)?;
        let rows = statement.query_map(params![id], read_recording)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The size of all recordings that should be there.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn kept_bytes(&self) -> JournalResult<u64> {
        let sum: i64 = self
            .lock()
            .prepare_cached("SELECT coalesce(sum(bytes), 0) FROM recordings WHERE state = 'present'")?
            .query_row([], |row| row.get(0))?;
        Ok(u64::try_from(sum).unwrap_or(0))
    }

    /// Marks the recordings of calls as removed, each with its reason, all or none; done before the files are. Gives the
    /// paths of those files.
    ///
    /// # Errors
    /// See [`super::Error`]; nothing is written then.
    pub fn mark_removed(&self, calls: &[(String, &str)], at: Timestamp) -> JournalResult<Vec<String>> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let mut paths = Vec::new();
        for (id, why) in calls {
            let mut statement = transaction.prepare_cached(
                "UPDATE recordings SET state = 'removed', removed_at = ?2, removed_why = ?3
                 WHERE call_id = ?1 AND state = 'present' RETURNING path",
            )?;
            for path in statement.query_map(params![id, at.as_micros(), why], |row| row.get(0))? {
                paths.push(path?);
            }
        }
        transaction.commit()?;
        Ok(paths)
    }

    /// When and why the recordings of a call were removed, if they were.
    ///
    /// # Errors
    /// See [`super::Error`].
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

    /// Paths of removed recordings whose files a crash may have left: the mark comes before the deed.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn removed_since(&self, since: Timestamp) -> JournalResult<Vec<String>> {
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT path FROM recordings WHERE state = 'removed' AND removed_at >= ?1")?;
        let paths = statement.query_map(params![since.as_micros()], |row| row.get(0))?;
        Ok(paths.collect::<rusqlite::Result<_>>()?)
    }

    /// The recordings of a call are there again: it was rendered once more.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn mark_present(&self, id: &str) -> JournalResult<()> {
        self.lock().execute(
            "UPDATE recordings SET state = 'present', removed_at = NULL, removed_why = NULL WHERE call_id = ?1",
            params![id],
        )?;
        Ok(())
    }

    /// What became of the spools of a call.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn mark_legs(&self, id: &str, state: LegSpoolState) -> JournalResult<()> {
        self.lock()
            .prepare_cached("UPDATE legs SET state = ?2 WHERE call_id = ?1")?
            .execute(params![id, state.as_str()])?;
        Ok(())
    }

    /// Asks the service, which may be another process, to render a call once more.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn request_render(&self, id: &str) -> JournalResult<()> {
        self.lock().execute("INSERT OR IGNORE INTO renders (id) VALUES (?1)", params![id])?;
        Ok(())
    }

    /// The calls that somebody asked to be rendered once more; asked once, given once.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn take_render_requests(&self) -> JournalResult<Vec<String>> {
        let connection = self.lock();
        let any: Option<i64> =
            connection.query_row("SELECT 1 FROM renders LIMIT 1", [], |row| row.get(0)).optional()?;
        if any.is_none() {
            return Ok(Vec::new()); // a look every few seconds must not take the write lock
        }
        let mut statement = connection.prepare("DELETE FROM renders RETURNING id")?;
        Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// The deliveries that stand at this stage, with what a person must do.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn deliveries_in_stage(&self, stage: &str) -> JournalResult<Vec<(String, String)>> {
        let connection = self.lock();
        let mut statement =
            connection.prepare("SELECT id, coalesce(note, '') FROM deliveries WHERE stage = ?1 ORDER BY id")?;
        let rows = statement.query_map(params![stage], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

pub(super) fn held(connection: &Connection, id: &str) -> rusqlite::Result<Option<Hold>> {
    connection
        .prepare_cached("SELECT at, why FROM holds WHERE call_id = ?1")?
        .query_row(params![id], |row| Ok(Hold { since: Timestamp::from_micros(row.get(0)?), why: row.get(1)? }))
        .optional()
}

pub(super) fn put_hold(connection: &Connection, id: &str, at: Timestamp, why: Option<&str>) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO holds (call_id, at, why) VALUES (?1, ?2, ?3)
             ON CONFLICT (call_id) DO UPDATE SET why = coalesce(?3, why)",
        )?
        .execute(params![id, at.as_micros(), why])?;
    Ok(())
}

pub(super) fn put_to_announce(connection: &Connection, id: &str, registration: Registration) -> JournalResult<()> {
    let word = match registration {
        Registration::Allowed => ALLOWED,
        Registration::Forbidden => FORBIDDEN,
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
        standing: match row.get::<_, i64>(7)? {
            0 => DeliveryNeed::NotOwed,
            1 => DeliveryNeed::Delivered,
            _ => DeliveryNeed::Owed,
        },
        is_held: row.get(8)?,
    })
}

/// A call whose begin is not known counts as the newest.
pub(super) fn micros_or_last(at: Option<Timestamp>) -> i64 {
    at.map_or(i64::MAX, Timestamp::as_micros)
}

const FILES_OF: &str = concat!(recordings!(), " AND r.call_id = ?1 ORDER BY r.part");
/// In the order of the index `recordings_present`.
const FILES_AFTER: &str =
    concat!(recordings!(), " AND (r.at, r.call_id, r.part) > (?1, ?2, ?3) ORDER BY r.at, r.call_id, r.part LIMIT ?4");

/// Rows read in one go: the journal is locked for some milliseconds.
const PAGE: u32 = 1_000;
