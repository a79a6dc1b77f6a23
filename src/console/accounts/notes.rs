//! Notes and tags that users write about calls.

use rusqlite::params;
use serde::Serialize;

use super::{AccountError, Accounts};
use crate::time::Timestamp;

/// Whether a remark about a call is a note or a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NoteKind {
    /// A text about the call.
    Note,
    /// A word by which the call can be found, e.g. `#complaint`.
    Tag,
}

/// A note or tag that a user wrote about a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CallNote {
    /// Number of the note in the database. Later notes have higher numbers.
    pub(crate) n: i64,
    /// Wall-clock time at which the note was written.
    pub(crate) at: Timestamp,
    /// Name of the account that wrote the note.
    pub(crate) who: String,
    /// Whether this is a note or a tag.
    pub(crate) kind: NoteKind,
    /// Text of the note, or the word of the tag.
    pub(crate) text: String,
}

impl NoteKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Tag => "tag",
        }
    }
}

impl Accounts {
    /// Adds a note or tag. A tag is stored only once for a call, in lower case and without spaces.
    ///
    /// # Errors
    /// Refuses an empty text, and more than [`MAX_NOTES`] notes and tags of one call. Fails if SQLite fails.
    pub(crate) fn add_note(
        &self,
        call_id: &str,
        who: &str,
        kind: NoteKind,
        text: &str,
        now: Timestamp,
    ) -> Result<(), AccountError> {
        let text: String = text.trim().chars().filter(|c| !c.is_control() || *c == '\n').take(MAX_TEXT).collect();
        let text = if kind == NoteKind::Tag {
            text.to_lowercase().replace(|c: char| c.is_whitespace() || ",;#".contains(c), "-")
        } else {
            text
        };
        if text.is_empty() {
            return Err(AccountError::Refused("the note is empty"));
        }
        let connection = self.lock();
        let count: i64 =
            connection
                .query_row("SELECT count(*) FROM notes WHERE call_id = ?1", params![call_id], |row| row.get(0))?;
        if count >= MAX_NOTES {
            return Err(AccountError::Refused("the call has as many notes as a call may have"));
        }
        connection.execute(
            "INSERT INTO notes (call_id, at, who, kind, text) SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?4 = 'note'
             OR NOT EXISTS (SELECT 1 FROM notes WHERE call_id = ?1 AND kind = 'tag' AND text = ?5)",
            params![call_id, now.as_micros(), who, kind.as_str(), text],
        )?;
        Ok(())
    }

    /// Returns the notes and tags of a call, oldest first.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn notes(&self, call_id: &str) -> Result<Vec<CallNote>, AccountError> {
        let connection = self.lock();
        let sql = "SELECT n, at, who, kind, text FROM notes WHERE call_id = ?1 ORDER BY n";
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![call_id], |row| {
            let kind: String = row.get(3)?;
            Ok(CallNote {
                n: row.get(0)?,
                at: Timestamp::from_micros(row.get(1)?),
                who: row.get(2)?,
                kind: if kind == "tag" { NoteKind::Tag } else { NoteKind::Note },
                text: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Removes a note or tag of a call. Returns whether there was one.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn remove_note(&self, call_id: &str, n: i64) -> Result<bool, AccountError> {
        Ok(self.lock().execute("DELETE FROM notes WHERE call_id = ?1 AND n = ?2", params![call_id, n])? > 0)
    }

    /// Returns the ids of at most `limit` calls with a tag, newest first.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn calls_with_tag(&self, tag: &str, limit: u32) -> Result<Vec<String>, AccountError> {
        let connection = self.lock();
        let sql = "SELECT call_id FROM notes WHERE kind = 'tag' AND text = ?1 ORDER BY n DESC LIMIT ?2";
        let mut statement = connection.prepare_cached(sql)?;
        let ids = statement.query_map(params![tag.trim().to_lowercase(), limit], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }
}

/// Maximum length of a note, characters.
const MAX_TEXT: usize = 2_000;
/// Maximum number of notes and tags of a call.
const MAX_NOTES: i64 = 200;
