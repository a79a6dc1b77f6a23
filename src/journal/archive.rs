//! Jobs that copy calls to the central archive, one job for each call. A job lists the objects that the archive has
//! already stored and the objects that are still to be sent.

use rusqlite::{OptionalExtension, Row as SqlRow, params};

use super::calls::micros;
use super::{Journal, JournalResult};
use crate::archive::{ArchiveJob, ArchiveStage};
use crate::time::Timestamp;

/// Counts of the calls that the archive does not have yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ArchiveBacklog {
    /// Number of calls with a record or a recording that is still to be sent.
    pub(crate) owed: u64,
    /// Number of calls that the archive refused. A person must find out why.
    pub(crate) refused: u64,
}

/// Selects the calls of a period that are to be sent to the archive: only the calls that the archive lacks, or all
/// calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveExtent {
    /// Only the calls that the archive does not have, according to the journal.
    Missing,
    /// All calls, because the database of the archive was lost. Recordings that are stored are not sent again.
    All,
    /// All calls, because the object store has lost recordings. Each recording that is still on this machine is sent
    /// again.
    AllWithRecordings,
}

impl Journal {
    /// Switches the list of calls to be archived on or off. While the list is on, each change of a complete call adds
    /// the call to the list. If `keeps_recordings` is true, a recording is removed only after the archive has stored
    /// it.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn set_archive(&self, is_used: bool, keeps_recordings: bool) -> JournalResult<()> {
        self.write(|transaction| {
            for (key, is_set) in [("archive", is_used), ("archive_keeps", is_used && keeps_recordings)] {
                let was_set = transaction.query_row(
                    "SELECT EXISTS (SELECT 1 FROM meta WHERE key = ?1)",
                    params![key],
                    |row| row.get::<_, bool>(0),
                )?;
                if was_set == is_set {
                    continue; // already set as wanted: nothing to write
                }
                if is_set {
                    transaction.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, 'on')", params![key])?;
                } else {
                    transaction.execute("DELETE FROM meta WHERE key = ?1", params![key])?;
                }
            }
            Ok(())
        })
    }

    /// Adds the complete calls that began in a period to the list of calls to be archived. Calls that were recorded
    /// before an archive was configured are included. Returns the number of calls that are now to be sent.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn owe_archive(&self, since: Timestamp, until: Timestamp, calls: ArchiveExtent) -> JournalResult<usize> {
        let begin = "coalesce(invited_at, answered_at, ended_at, 0)";
        let (forget, which) = match calls {
            ArchiveExtent::Missing => (String::new(), "archived < change"),
            ArchiveExtent::All => (String::from(", archived = 0"), "true"),
            ArchiveExtent::AllWithRecordings => (format!(", archived = 0, objects = {ALL_AGAIN}"), "true"),
        };
        let sql = format!(
            "INSERT INTO archive_jobs (call_id, change) SELECT id, 1 FROM calls
             WHERE stage = 'complete' AND {begin} >= ?1 AND {begin} < ?2
             ON CONFLICT (call_id) DO UPDATE SET refused = 0, attempts = 0, next_at = NULL {forget}
             WHERE {which}"
        );
        self.execute(&sql, params![since.as_micros(), until.as_micros()])
    }

    /// Returns at most `limit` archive jobs of complete calls that are due at `now`. The jobs that have waited longest
    /// come first.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn due_archive_jobs(&self, now: Timestamp, limit: u32) -> JournalResult<Vec<ArchiveJob>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT call_id, change, attempts, next_at, note, objects FROM archive_jobs
             WHERE archived < change AND refused < change AND coalesce(next_at, 0) <= ?1
                AND EXISTS (SELECT 1 FROM calls WHERE id = call_id AND stage = 'complete')
             ORDER BY coalesce(next_at, 0), call_id LIMIT ?2",
        )?;
        let jobs = statement.query_map(params![now.as_micros(), limit], read_job)?.collect::<rusqlite::Result<_>>()?;
        Ok(jobs)
    }

    /// Writes an archive job durably. If the call changed after the job was read, that change remains to be sent to the
    /// archive.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn save_archive_job(&self, job: &ArchiveJob) -> JournalResult<()> {
        let objects = serde_json::to_string(&job.objects).unwrap_or_default();
        let reached = match job.stage {
            ArchiveStage::Owed => "",
            ArchiveStage::Done => "archived = ?6,",
            ArchiveStage::Refused => "refused = ?6,",
        };
        let sql = format!(
            "UPDATE archive_jobs SET {reached} attempts = ?2, next_at = ?3, note = ?4, objects = ?5
             WHERE call_id = ?1 AND archived <= ?6"
        );
        let change = i64::try_from(job.change).unwrap_or(i64::MAX);
        self.execute(&sql, params![job.call_id, job.attempts, micros(job.next_at), job.note, objects, change])?;
        Ok(())
    }

    /// Adds `by` to the change number of a call, which grows with each change of the call. The archive accepts a call
    /// only with a higher change number than the number in its database. If the call changes at the same time, that
    /// change remains to be sent.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn raise_archive_change(&self, call_id: &str, by: u64) -> JournalResult<()> {
        let by = i64::try_from(by).unwrap_or(i64::MAX / 2);
        self.execute("UPDATE archive_jobs SET change = change + ?2 WHERE call_id = ?1", params![call_id, by])?;
        Ok(())
    }

    /// Returns how many calls are still to be sent to the archive, and how many calls the archive refused.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn archive_backlog(&self) -> JournalResult<ArchiveBacklog> {
        let (owed, refused): (u32, u32) = self.lock().query_row(
            "SELECT count(*) FILTER (WHERE refused < change), count(*) FILTER (WHERE refused >= change)
             FROM archive_jobs WHERE archived < change",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok(ArchiveBacklog { owed: owed.into(), refused: refused.into() })
    }

    /// Returns the job that archives a call, finished or not; `None` if the call was never listed for the archive.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn archive_job(&self, call_id: &str) -> JournalResult<Option<ArchiveJob>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT call_id, change, attempts, next_at, note, objects, archived >= change, refused >= change
             FROM archive_jobs WHERE call_id = ?1",
        )?;
        let found = statement.query_row(params![call_id], |row| {
            let mut job = read_job(row)?;
            job.stage = match (row.get(6)?, row.get(7)?) {
                (true, _) => ArchiveStage::Done,
                (false, true) => ArchiveStage::Refused,
                (false, false) => ArchiveStage::Owed,
            };
            Ok(job)
        });
        Ok(found.optional()?)
    }

    /// Returns at most `limit` jobs of calls that the archive has. They are sorted by id and begin after the id
    /// `after`. If a call changed after it was archived, its job has the stage [`ArchiveStage::Owed`]. Such a job may
    /// list objects that the archived row of the call does not name.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn archived_calls(&self, after: &str, limit: u32) -> JournalResult<Vec<ArchiveJob>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT call_id, archived, attempts, next_at, note, objects, archived >= change FROM archive_jobs
             WHERE archived > 0 AND call_id > ?1 ORDER BY call_id LIMIT ?2",
        )?;
        let read = |row: &SqlRow<'_>| {
            let stage = if row.get(6)? { ArchiveStage::Done } else { ArchiveStage::Owed };
            Ok(ArchiveJob { stage, ..read_job(row)? })
        };
        let jobs = statement.query_map(params![after, limit], read)?.collect::<rusqlite::Result<_>>()?;
        Ok(jobs)
    }
}

/// SQL for the objects of an archive job. If the file of an object still exists on this machine, the object is marked
/// to be sent again. The object counts as stored in the meantime, because retention may remove the file before it is
/// sent.
const ALL_AGAIN: &str = "(SELECT json_group_array(CASE WHEN EXISTS (SELECT 1 FROM recordings r
        WHERE r.call_id = archive_jobs.call_id AND r.part = json_extract(o.value, '$.part') AND r.state = 'present')
    THEN json_set(o.value, '$.again', json('true')) ELSE json(o.value) END) FROM json_each(archive_jobs.objects) o)";

fn read_job(row: &SqlRow<'_>) -> rusqlite::Result<ArchiveJob> {
    Ok(ArchiveJob {
        call_id: row.get(0)?,
        change: u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default(),
        stage: ArchiveStage::Owed,
        attempts: row.get(2)?,
        next_at: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_micros),
        note: row.get(4)?,
        objects: serde_json::from_str(&row.get::<_, String>(5)?).unwrap_or_default(),
        comparing: None,
    })
}
