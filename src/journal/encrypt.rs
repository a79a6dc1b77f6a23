//! Encryption at rest: which calls still have plain files, and how a row moves from a plain file to its encrypted one.
//!
//! The order for each file, so that a crash leaves nothing without a row: the name of the encrypted file becomes a
//! leftover ([`Journal::add_leftovers`]); the file is written; [`Journal::replace_with_encrypted`] moves the row and makes the plain name the
//! leftover; the plain file is removed; its name is forgotten ([`Journal::remove_leftovers`]). A start removes what it
//! finds among the leftovers: before the move that is a half-made encrypted file, after it the plain one.

use rusqlite::{Connection, params};

use super::sidecar::put_stale;
use super::{Journal, JournalResult};
use crate::call::record::CallRecord;

/// A recording's file that was encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedRecording {
    /// Which part of the call.
    pub part: u32,
    /// The plain file, as its row says.
    pub plain_path: String,
    /// Of the plain file, lower-case hex.
    pub plain_sha256: String,
    /// The encrypted file.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

impl Journal {
    /// Complete calls with files that may be encrypted now: Pyrus has them or is not to have them, and the record beside
    /// the recording says so. In the order of their ids, those after `after`, at most `most`.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn calls_to_encrypt(&self, after: &str, most: u32) -> JournalResult<Vec<String>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(UNSEALED)?;
        let ids = statement.query_map(params![after, most], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// Nothing of a call is left to encrypt, until it is rendered once more.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn mark_encrypted(&self, id: &str) -> JournalResult<()> {
        self.lock().prepare_cached("UPDATE calls SET sealed = 1 WHERE id = ?1")?.execute(params![id])?;
        Ok(())
    }

    /// The row and the record of a recording go over from the plain file to the encrypted one; the plain one is a
    /// leftover from now on. Whether that was so: a row that names another file by now stays as it is.
    ///
    /// # Errors
    /// See [`super::Error`]; nothing is written then.
    pub fn replace_with_encrypted(&self, id: &str, file: &EncryptedRecording) -> JournalResult<bool> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let bytes = i64::try_from(file.bytes).unwrap_or(i64::MAX);
        let moved = transaction.prepare_cached(SEAL)?.execute(params![
            id,
            file.part,
            file.plain_path,
            file.path,
            bytes,
            file.sha256,
            file.plain_sha256
        ])?;
        if moved == 0 {
            return Ok(false);
        }
        let json: String =
            transaction.query_row("SELECT record FROM calls WHERE id = ?1", params![id], |row| row.get(0))?;
        let mut record: CallRecord = serde_json::from_str(&json)?;
        for recording in record.recordings.iter_mut().filter(|r| r.part == file.part) {
            recording.path.clone_from(&file.path);
            recording.bytes = file.bytes;
            recording.sha256.clone_from(&file.sha256);
            recording.plain_sha256 = Some(file.plain_sha256.clone());
        }
        let json = serde_json::to_string(&record)?;
        transaction.prepare_cached("UPDATE calls SET record = ?2 WHERE id = ?1")?.execute(params![id, json])?;
        swap_leftover(&transaction, &file.path, &file.plain_path)?;
        put_stale(&transaction, id)?;
        transaction.commit()?;
        Ok(true)
    }

    /// The same for a file without a row of its own: packets kept beside a recording.
    ///
    /// # Errors
    /// See [`super::Error`]; nothing is written then.
    pub fn replace_kept_packets(&self, plain_path: &str, path: &str) -> JournalResult<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        swap_leftover(&transaction, path, plain_path)?;
        transaction.commit()?;
        Ok(())
    }

    /// These files may be there from now on and belong to no row: they are to be removed.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn add_leftovers(&self, paths: &[String]) -> JournalResult<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for path in paths {
            put_leftover(&transaction, path)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Files that may be there and belong to no row, at most `most`.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn leftovers(&self, most: u32) -> JournalResult<Vec<String>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT path FROM leftovers ORDER BY path LIMIT ?1")?;
        let paths = statement.query_map(params![most], |row| row.get(0))?;
        Ok(paths.collect::<rusqlite::Result<_>>()?)
    }

    /// These files are gone, durably.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn remove_leftovers(&self, paths: &[String]) -> JournalResult<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for path in paths {
            transaction.prepare_cached("DELETE FROM leftovers WHERE path = ?1")?.execute(params![path])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// The record beside a recording is to be written again.
    ///
    /// # Errors
    /// See [`super::Error`].
    pub fn mark_record_stale(&self, id: &str) -> JournalResult<()> {
        Ok(put_stale(&self.lock(), id)?)
    }
}

fn swap_leftover(connection: &Connection, no_more: &str, from_now: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM leftovers WHERE path = ?1")?.execute(params![no_more])?;
    put_leftover(connection, from_now)
}

fn put_leftover(connection: &Connection, path: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT OR IGNORE INTO leftovers (path) VALUES (?1)")?.execute(params![path])?;
    Ok(())
}

/// Parked and dead calls are still owed: a person may have them sent again. A record that is behind might, should the
/// journal be lost, have a delivered call sent again, and its plain file would be needed.
const UNSEALED: &str = "SELECT c.id FROM calls c WHERE c.sealed = 0 AND c.stage = 'complete' AND c.id > ?1
    AND NOT EXISTS (SELECT 1 FROM untold u WHERE u.call_id = c.id)
    AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.id = c.id AND d.stage <> 'done')
    AND NOT EXISTS (SELECT 1 FROM stale_records s WHERE s.id = c.id)
    ORDER BY c.id LIMIT ?2";

const SEAL: &str = "UPDATE recordings SET path = ?4, bytes = ?5, sha256 = ?6, plain_sha256 = ?7
    WHERE call_id = ?1 AND part = ?2 AND path = ?3 AND state = 'present'";
