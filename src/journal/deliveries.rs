//! The journal's rows of deliveries to Pyrus.

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::calls::micros;
use super::sidecar::put_stale_record;
use super::{Journal, JournalResult};
use crate::delivery::row::{DeliveryRow, DroppedCode, JobRow, JobStage};
use crate::time::Timestamp;

impl Journal {
    /// Writes rows of delivery durably. If one row cannot be written, no row is written.
    ///
    /// # Errors
    /// Fails if SQLite fails; then nothing is written.
    pub(crate) fn save(&self, rows: &[DeliveryRow]) -> JournalResult<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write(|transaction| {
            for row in rows {
                match row {
                    DeliveryRow::Job(job) => {
                        put_job(transaction, job)?;
                        if job.is_settled() || job.stage == JobStage::Parked || !job.attached().is_empty() {
                            put_stale_record(transaction, &job.id)?;
                        }
                    }
                    DeliveryRow::Dropped(code) => put_dropped_code(transaction, code)?,
                    DeliveryRow::Alarm(text) => put_alarm(transaction, text.as_deref())?,
                }
            }
            Ok(())
        })
    }

    /// Writes the row of one delivery to the database.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn save_job(&self, job: &JobRow) -> JournalResult<()> {
        self.save(std::slice::from_ref(&DeliveryRow::Job(job.clone())))
    }

    /// Returns the unfinished deliveries, oldest call first.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn load_jobs(&self) -> JournalResult<Vec<JobRow>> {
        let connection = self.lock();
        let mut statement =
            connection.prepare(&format!("SELECT {COLUMNS} FROM deliveries WHERE settled = 0 ORDER BY id"))?;
        let jobs = statement.query_map([], read_job)?.collect::<rusqlite::Result<_>>()?;
        Ok(jobs)
    }

    /// Returns the delivery of a call, finished or not; `None` if the call was never passed to delivery.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn job(&self, id: &str) -> JournalResult<Option<JobRow>> {
        job(&self.lock(), id)
    }

    /// Returns the codes of the Pyrus form fields that Pyrus rejected. Later requests leave these fields out.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn dropped_codes(&self) -> JournalResult<Vec<DroppedCode>> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT code, at, reason FROM dropped_codes ORDER BY code")?;
        let codes = statement
            .query_map([], |row| {
                Ok(DroppedCode { code: row.get(0)?, at: Timestamp::from_micros(row.get(1)?), reason: row.get(2)? })
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(codes)
    }

    /// Returns the reason why no call can be delivered at present; `None` if calls can be delivered.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn alarm(&self) -> JournalResult<Option<String>> {
        let connection = self.lock();
        Ok(connection.query_row("SELECT value FROM meta WHERE key = 'alarm'", [], |row| row.get(0)).optional()?)
    }

    /// Asks the service, which may be another process, to try a delivery again at once.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn request_retry(&self, id: &str) -> JournalResult<()> {
        self.execute("INSERT OR IGNORE INTO retries (id) VALUES (?1)", params![id])?;
        Ok(())
    }

    /// Requests that the service retries every delivery that is parked (waits for a person) or dead (was given up).
    /// Returns the number of these deliveries.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn request_retry_of_failed(&self) -> JournalResult<usize> {
        let sql = "INSERT OR IGNORE INTO retries (id) SELECT id FROM deliveries WHERE stage IN (?1, ?2)";
        self.execute(sql, params![JobStage::Parked.as_str(), JobStage::Dead.as_str()])
    }

    /// Returns the ids of the deliveries that a person wants retried, and removes these requests.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn take_retry_requests(&self) -> JournalResult<Vec<String>> {
        let any: Option<i64> =
            self.lock().query_row("SELECT 1 FROM retries LIMIT 1", [], |row| row.get(0)).optional()?;
        if any.is_none() {
            return Ok(Vec::new()); // called every few seconds: must not take the write lock
        }
        self.write(|transaction| {
            let mut statement = transaction.prepare("DELETE FROM retries RETURNING id")?;
            let ids = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            Ok(ids)
        })
    }
}

pub(super) fn job(connection: &Connection, id: &str) -> JournalResult<Option<JobRow>> {
    let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE id = ?1");
    Ok(connection.query_row(&sql, params![id], read_job).optional()?)
}

pub(super) fn put_job(connection: &Connection, job: &JobRow) -> JournalResult<()> {
    let sql = format!(
        "INSERT OR REPLACE INTO deliveries ({COLUMNS}, settled) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
    );
    connection.prepare_cached(&sql)?.execute(params![
        job.id,
        job.stage.as_str(),
        job.task_id.and_then(|t| i64::try_from(t).ok()),
        job.guid,
        job.md5,
        job.attempts,
        micros(job.next_at),
        job.note,
        job.body,
        job.is_settled(),
    ])?;
    Ok(())
}

fn put_dropped_code(connection: &Connection, code: &DroppedCode) -> JournalResult<()> {
    connection.execute(
        "INSERT OR REPLACE INTO dropped_codes (code, at, reason) VALUES (?1, ?2, ?3)",
        params![code.code, code.at.as_micros(), code.reason],
    )?;
    Ok(())
}

fn put_alarm(connection: &Connection, text: Option<&str>) -> JournalResult<()> {
    match text {
        Some(text) => {
            connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('alarm', ?1)", params![text])?
        }
        None => connection.execute("DELETE FROM meta WHERE key = 'alarm'", [])?,
    };
    Ok(())
}

fn read_job(row: &SqlRow<'_>) -> rusqlite::Result<JobRow> {
    Ok(JobRow {
        id: row.get(0)?,
        stage: read_stage(row.get(1)?)?,
        task_id: row.get::<_, Option<i64>>(2)?.and_then(|t| u64::try_from(t).ok()),
        guid: row.get(3)?,
        md5: row.get(4)?,
        attempts: row.get(5)?,
        next_at: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_micros),
        note: row.get(7)?,
        body: row.get(8)?,
    })
}

fn read_stage(word: String) -> rusqlite::Result<JobStage> {
    JobStage::from_word(&word).ok_or_else(|| {
        let reason = format!("a delivery has the unknown stage {word:?}");
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, reason.into())
    })
}

const COLUMNS: &str = "id, stage, task_id, guid, md5, attempts, next_at, note, body";
