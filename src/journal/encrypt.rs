//! Encryption at rest: finds calls that still have plain files, and replaces a plain file with its encrypted file.
//!
//! A *leftover* is a file that may exist although no recording in the journal names it. The journal lists the
//! leftovers. The steps for each file are in this order, so that after a crash each file has a row or is a listed
//! leftover:
//!
//! 1. The path of the encrypted file becomes a leftover ([`Journal::add_leftovers`]).
//! 2. The encrypted file is written.
//! 3. [`Journal::replace_with_encrypted`] changes the row to the encrypted file and makes the plain path the leftover.
//! 4. The plain file is removed.
//! 5. The leftover is forgotten ([`Journal::remove_leftovers`]).
//!
//! When the service starts, it removes the files that are listed as leftovers. After a crash before step 3 this is the
//! half-written encrypted file. After a later crash it is the plain file.

use rusqlite::{Connection, params};

use super::sidecar::put_stale_record;
use super::{Journal, JournalResult};
use crate::call::record::CallRecord;

/// The encrypted file of a segment, i.e. of one file of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedRecording {
    /// Number of the segment (file of the recording), counted from 1.
    pub part: u32,
    /// Path of the plain file that was encrypted, as the journal has it.
    pub plain_path: String,
    /// SHA-256 of the plain file, lower-case hexadecimal.
    pub plain_sha256: String,
    /// Path of the encrypted file.
    pub path: String,
    /// Size of the encrypted file in bytes.
    pub bytes: u64,
    /// SHA-256 of the encrypted file, lower-case hexadecimal.
    pub sha256: String,
}

impl Journal {
    /// Returns the ids of complete calls with files that may be encrypted now. Their delivery to Pyrus is finished or
    /// not needed, and the JSON records beside their recordings already say so. At most `limit` ids are returned,
    /// sorted, beginning after the id `after`.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn calls_to_encrypt(&self, after: &str, limit: u32) -> JournalResult<Vec<String>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(CALLS_TO_ENCRYPT)?;
        let ids = statement.query_map(params![after, limit], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    /// Marks a call as having no plain (unencrypted) file any more. If its recordings are made again, this mark is
    /// removed.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn mark_encrypted(&self, id: &str) -> JournalResult<()> {
        self.execute("UPDATE calls SET sealed = 1 WHERE id = ?1", params![id])?;
        Ok(())
    }

    /// Changes the row and the record of a recording to the encrypted file. Lists the plain file as a leftover, i.e. as
    /// a file to be removed. If the row no longer names the plain file, changes nothing and returns false.
    ///
    /// # Errors
    /// Fails if SQLite fails; then nothing is written.
    pub fn replace_with_encrypted(&self, id: &str, file: &EncryptedRecording) -> JournalResult<bool> {
        self.write(|transaction| {
            let bytes = i64::try_from(file.bytes).unwrap_or(i64::MAX);
            let moved = transaction.prepare_cached(REPLACE_WITH_ENCRYPTED)?.execute(params![
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
            swap_leftovers(transaction, &file.path, &file.plain_path)?;
            put_stale_record(transaction, id)?;
            Ok(true)
        })
    }

    /// Lists the plain copy of a call's packets as a leftover (file to be removed), and takes the encrypted copy off
    /// this list. Such copies exist only with `recording.keep_pcap`. The journal has no row for them, so only the list
    /// of leftovers changes.
    ///
    /// # Errors
    /// Fails if SQLite fails; then nothing is written.
    pub(crate) fn replace_kept_packets(&self, plain_path: &str, path: &str) -> JournalResult<()> {
        self.write(|transaction| {
            swap_leftovers(transaction, path, plain_path)?;
            Ok(())
        })
    }

    /// Adds paths to the list of leftovers, i.e. of files that no row names. The next start of the service removes
    /// these files.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn add_leftovers(&self, paths: &[String]) -> JournalResult<()> {
        if paths.is_empty() {
            return Ok(());
        }
        self.write(|transaction| {
            for path in paths {
                put_leftover(transaction, path)?;
            }
            Ok(())
        })
    }

    /// Returns at most `limit` paths of leftovers, i.e. of files that are to be removed because no row names them.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub fn leftovers(&self, limit: u32) -> JournalResult<Vec<String>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT path FROM leftovers ORDER BY path LIMIT ?1")?;
        let paths = statement.query_map(params![limit], |row| row.get(0))?;
        Ok(paths.collect::<rusqlite::Result<_>>()?)
    }

    /// Removes paths from the list of leftovers (files to be removed). The files must have been removed before, and
    /// their folders synced.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn remove_leftovers(&self, paths: &[String]) -> JournalResult<()> {
        if paths.is_empty() {
            return Ok(());
        }
        self.write(|transaction| {
            for path in paths {
                transaction.prepare_cached("DELETE FROM leftovers WHERE path = ?1")?.execute(params![path])?;
            }
            Ok(())
        })
    }

    /// Marks the JSON record beside a recording as out of date, so that the service writes it again.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn mark_record_stale(&self, id: &str) -> JournalResult<()> {
        self.write(|transaction| Ok(put_stale_record(transaction, id)?))
    }
}

fn swap_leftovers(connection: &Connection, old_path: &str, new_path: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM leftovers WHERE path = ?1")?.execute(params![old_path])?;
    put_leftover(connection, new_path)
}

fn put_leftover(connection: &Connection, path: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT OR IGNORE INTO leftovers (path) VALUES (?1)")?.execute(params![path])?;
    Ok(())
}

/// SQL that selects the calls to encrypt. Calls with a parked delivery (waits for a person) or a dead delivery (given
/// up) stay unencrypted, because a person may request another attempt. Calls with an out-of-date JSON record stay
/// unencrypted, too. If the journal were lost, the service would read that old record and send the call to Pyrus again,
/// from its plain file.
const CALLS_TO_ENCRYPT: &str = "SELECT c.id FROM calls c WHERE c.sealed = 0 AND c.stage = 'complete' AND c.id > ?1
    AND NOT EXISTS (SELECT 1 FROM untold u WHERE u.call_id = c.id)
    AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.id = c.id AND d.stage <> 'done')
    AND NOT EXISTS (SELECT 1 FROM stale_records s WHERE s.id = c.id)
    ORDER BY c.id LIMIT ?2";

const REPLACE_WITH_ENCRYPTED: &str = "UPDATE recordings SET path = ?4, bytes = ?5, sha256 = ?6, plain_sha256 = ?7
    WHERE call_id = ?1 AND part = ?2 AND path = ?3 AND state = 'present'";
