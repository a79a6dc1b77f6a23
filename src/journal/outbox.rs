//! The outbox: messages for webhooks, mail and Telegram that are still to be sent, in `outbox.sqlite` in the state
//! folder.
//!
//! The outbox has its own file, because an alarm about a damaged journal must be sent, too. A message stays in the
//! outbox until its receiver has accepted it. A message that was given up is a *dead letter*, which a person can send
//! again. The *route* of a message names its receiver, e.g. the alarm webhook.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};

use super::{Error, JournalResult, is_damage, make_durable};
use crate::time::Timestamp;

/// A handle to the outbox. Clones refer to the same outbox.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(Arc<Mutex<Connection>>);

/// A message that is stored until its receiver accepts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutboxMessage {
    /// Number that identifies the message in the outbox.
    pub(crate) n: i64,
    /// Name of the message's route, i.e. of its receiver, e.g. the alarm webhook.
    pub(crate) route: String,
    /// Key by which the receiver recognizes that a message was sent twice.
    pub(crate) key: String,
    /// Content of the message as JSON text.
    pub(crate) body: String,
    /// Number of failed tries to send the message.
    pub(crate) tries: u32,
    /// Wall-clock time at which the message was added.
    pub(crate) added_at: Timestamp,
}

/// Numbers of messages in the outbox by their state.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct OutboxCounts {
    /// Number of messages that are still to be sent.
    pub(crate) owed: u64,
    /// Number of dead letters, i.e. messages that were given up.
    pub(crate) dead: u64,
    /// Error of the newest dead letter; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
}

impl Outbox {
    /// Opens the outbox in the state folder, and creates it if needed. A damaged file is renamed, and a new file is
    /// created. After any other error, e.g. a full disk, the file stays unchanged.
    ///
    /// # Errors
    /// Fails if the file cannot be opened or created.
    pub(crate) fn open(state: &Path) -> JournalResult<Self> {
        let path = state.join(FILE_NAME);
        Self::set_up(&path).or_else(|error| {
            if !matches!(&error, Error::Sql(cause) if is_damage(cause)) {
                return Err(error);
            }
            let aside = |n: u32| state.join(format!("{FILE_NAME}.damaged-{n}"));
            let free = (1..MAX_ASIDE).map(aside).find(|path| !path.exists()).unwrap_or_else(|| aside(MAX_ASIDE));
            let _ = std::fs::rename(&path, free); // if this fails, the second try below reports the error
            Self::set_up(&path)
        })
    }

    /// Opens the outbox of another process; returns `None` if there is no outbox.
    pub(crate) fn open_existing(state: &Path) -> Option<Self> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = Connection::open_with_flags(state.join(FILE_NAME), flags).ok()?;
        Some(Self(Arc::new(Mutex::new(connection))))
    }

    /// Returns whether the state folder has an outbox.
    pub(crate) fn exists(state: &Path) -> bool {
        state.join(FILE_NAME).exists()
    }

    fn set_up(path: &Path) -> JournalResult<Self> {
        let connection = Connection::open(path)?;
        make_durable(&connection)?;
        connection.execute_batch(SCHEMA)?;
        restrict(path);
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Adds a message, durably. If the outbox already has a message with the same route and key, the old message stays
    /// and nothing is added. If the outbox is full, the oldest dead letter is dropped; if there is none, the oldest
    /// message. Returns true if a message was dropped that was still to be sent.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn add(&self, route: &str, key: &str, body: &str, now: Timestamp) -> JournalResult<bool> {
        let connection = self.lock();
        let rows: u32 = connection.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?;
        let mut has_dropped = false;
        if rows >= MAX_MESSAGES {
            let oldest =
                "DELETE FROM outbox WHERE n = (SELECT n FROM outbox ORDER BY dead DESC, n LIMIT 1) RETURNING dead";
            has_dropped = connection.query_row(oldest, [], |row| row.get::<_, bool>(0).map(|dead| !dead))?;
        }
        let sql = "INSERT OR IGNORE INTO outbox (route, key, body, added_at, due_at) VALUES (?1, ?2, ?3, ?4, ?4)";
        connection.execute(sql, params![route, key, body, now.as_micros()])?;
        Ok(has_dropped)
    }

    /// Returns at most `limit` messages of a route that are due. The messages that have been due for longest come
    /// first.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn due(&self, route: &str, now: Timestamp, limit: u32) -> JournalResult<Vec<OutboxMessage>> {
        let connection = self.lock();
        let sql =
            "SELECT n, route, key, body, tries, added_at FROM outbox WHERE dead = 0 AND route = ?1 AND due_at <= ?2
                   ORDER BY due_at, n LIMIT ?3";
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![route, now.as_micros(), limit], |row| {
            Ok(OutboxMessage {
                n: row.get(0)?,
                route: row.get(1)?,
                key: row.get(2)?,
                body: row.get(3)?,
                tries: row.get(4)?,
                added_at: Timestamp::from_micros(row.get(5)?),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Removes a message, because its receiver has accepted it.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn remove(&self, n: i64) -> JournalResult<()> {
        self.lock().execute("DELETE FROM outbox WHERE n = ?1", params![n])?;
        Ok(())
    }

    /// Removes every message and dead letter of a route, because its receiver is not configured any more. Returns their
    /// number.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn remove_route(&self, route: &str) -> JournalResult<usize> {
        Ok(self.lock().execute("DELETE FROM outbox WHERE route = ?1", params![route])?)
    }

    /// Records a failed try to send a message. `next` is the time of the next try; with `None` the message becomes a
    /// dead letter.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn note_failure(&self, n: i64, next: Option<Timestamp>, error: &str) -> JournalResult<()> {
        let sql =
            "UPDATE outbox SET tries = tries + 1, dead = ?2, due_at = coalesce(?3, due_at), error = ?4 WHERE n = ?1";
        self.lock().execute(sql, params![n, next.is_none(), next.map(Timestamp::as_micros), error])?;
        Ok(())
    }

    /// Turns every message with a route that is not in `known` into a dead letter. Such a message is from a newer
    /// version that was replaced by this version.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn give_up_others(&self, known: &[&str]) -> JournalResult<()> {
        let known = serde_json::to_string(known).unwrap_or_default();
        let sql = "UPDATE outbox SET dead = 1, error = 'this version does not know the receiver'
                   WHERE dead = 0 AND route NOT IN (SELECT value FROM json_each(?1))";
        self.lock().execute(sql, params![known])?;
        Ok(())
    }

    /// Schedules every dead letter, i.e. every message that was given up, to be sent again. Returns the number of these
    /// messages.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn revive(&self, now: Timestamp) -> JournalResult<usize> {
        let sql = "UPDATE outbox SET dead = 0, tries = 0, due_at = ?1 WHERE dead = 1";
        Ok(self.lock().execute(sql, params![now.as_micros()])?)
    }

    /// Returns the number of messages that are still to be sent and the number of dead letters.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn counts(&self) -> JournalResult<OutboxCounts> {
        let connection = self.lock();
        let count = |dead: bool| -> JournalResult<u64> {
            let n: u32 =
                connection.query_row("SELECT count(*) FROM outbox WHERE dead = ?1", params![dead], |row| row.get(0))?;
            Ok(u64::from(n))
        };
        let sql = "SELECT error FROM outbox WHERE dead = 1 ORDER BY n DESC LIMIT 1";
        let last_error = connection.query_row(sql, [], |row| row.get(0)).ok().flatten();
        Ok(OutboxCounts { owed: count(false)?, dead: count(true)?, last_error })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prevents other users from reading the file, because its messages contain phone numbers.
fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)); // may fail: the folder is private
}

const FILE_NAME: &str = "outbox.sqlite";
/// Maximum number of damaged outbox files that are kept. If there is one more, it replaces the last kept file.
const MAX_ASIDE: u32 = 9;
/// Maximum number of messages, about 100 MB. A busy office produces that many messages in a day on which a receiver
/// does not answer.
const MAX_MESSAGES: u32 = 20_000;
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS outbox (
    n           INTEGER PRIMARY KEY,
    route       TEXT NOT NULL,
    key         TEXT NOT NULL,
    body        TEXT NOT NULL,
    added_at    INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    tries       INTEGER NOT NULL DEFAULT 0,
    dead        INTEGER NOT NULL DEFAULT 0,
    error       TEXT,
    UNIQUE (route, key)
) STRICT;
CREATE INDEX IF NOT EXISTS outbox_due_by_route ON outbox (route, due_at) WHERE dead = 0;
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_stays_until_it_is_taken_or_dead_and_is_revived() {
        let dir = tempfile::tempdir().unwrap();
        let at = Timestamp::from_secs;
        let outbox = Outbox::open(dir.path()).unwrap();
        for (key, body, at_s) in [("a", "{}", 10), ("a", "{2}", 11), ("b", "{}", 12)] {
            assert!(!outbox.add("calls", key, body, at(at_s)).unwrap(), "nothing is dropped");
        }
        drop(outbox);
        let outbox = Outbox::open(dir.path()).unwrap();
        let due = outbox.due("calls", at(11), 10).unwrap();
        assert_eq!(due.iter().map(|m| (m.key.as_str(), m.body.as_str())).collect::<Vec<_>>(), [("a", "{}")]);
        outbox.note_failure(due[0].n, Some(at(60)), "away").unwrap();
        let [b] = outbox.due("calls", at(30), 10).unwrap().try_into().unwrap();
        assert_eq!(b.key, "b");
        outbox.note_failure(b.n, None, "HTTP 410").unwrap();
        let counts = OutboxCounts { owed: 1, dead: 1, last_error: Some(String::from("HTTP 410")) };
        assert_eq!(outbox.counts().unwrap(), counts);
        assert_eq!(outbox.revive(at(70)).unwrap(), 1);
        let due = outbox.due("calls", at(70), 10).unwrap();
        assert_eq!(due.iter().map(|m| (m.key.as_str(), m.tries)).collect::<Vec<_>>(), [("a", 1), ("b", 0)]);
        due.iter().for_each(|message| outbox.remove(message.n).unwrap());
        assert_eq!(outbox.counts().unwrap(), OutboxCounts::default());
        drop(outbox);
        std::fs::write(
            dir.path().join(FILE_NAME),
            "no database, and longer than a header of one hundred bytes ".repeat(9),
        )
        .unwrap();
        for tail in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("{FILE_NAME}{tail}")));
        }
        assert_eq!(Outbox::open(dir.path()).unwrap().counts().unwrap(), OutboxCounts::default(), "set aside");
    }

    #[test]
    fn an_outbox_that_cannot_be_opened_keeps_its_messages() {
        let dir = tempfile::tempdir().unwrap();
        let at = Timestamp::from_secs;
        Outbox::open(dir.path()).unwrap().add("calls", "a", "{}", at(10)).unwrap();
        let path = dir.path().join(FILE_NAME);
        let held = dir.path().join("held");
        // A folder in place of the file causes an I/O error, but it does not count as a damaged outbox.
        std::fs::rename(&path, &held).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(Outbox::open(dir.path()).is_err());
        assert!(path.is_dir(), "it is not set aside");
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(&held, &path).unwrap();
        assert_eq!(Outbox::open(dir.path()).unwrap().counts().unwrap().owed, 1);
    }

    #[test]
    fn a_full_outbox_drops_dead_letters_first_and_then_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let at = Timestamp::from_secs;
        let outbox = Outbox::open(dir.path()).unwrap();
        let fill = "WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < ?1)
                    INSERT INTO outbox (route, key, body, added_at, due_at) SELECT 'calls', n, '{}', 0, 0 FROM k";
        outbox.lock().execute(fill, params![MAX_MESSAGES]).unwrap();
        outbox.note_failure(7, None, "HTTP 410").unwrap();
        assert!(!outbox.add("calls", "new", "{}", at(1)).unwrap(), "the dead letter makes room");
        assert!(outbox.add("calls", "newer", "{}", at(2)).unwrap(), "the oldest message makes room");
        let counts = outbox.counts().unwrap();
        assert_eq!((counts.owed, counts.dead), (u64::from(MAX_MESSAGES), 0));
    }

    #[test]
    fn messages_of_an_unknown_way_become_dead_letters() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        for route in ["mail", "pigeon"] {
            outbox.add(route, "a", "{}", Timestamp::from_secs(1)).unwrap();
        }
        outbox.give_up_others(&["mail", "webhook"]).unwrap();
        let counts = outbox.counts().unwrap();
        assert_eq!((counts.owed, counts.dead), (1, 1));
    }
}
