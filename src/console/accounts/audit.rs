//! The audit log: who listened to which call, and which other actions an account took.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{OptionalExtension as _, Row, TransactionBehavior, params, params_from_iter};
use serde::Serialize;

use super::{AccountError, Accounts};
use crate::service::site_copies::AuditReader;
use crate::time::Timestamp;

/// An action of a user that the audit log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AuditAction {
    /// The user played a recording.
    Played,
    /// The user downloaded a recording.
    Downloaded,
    /// The user downloaded a list of calls.
    Listed,
    /// The user signed in.
    SignedIn,
    /// Somebody tried to sign in with the user's name and a wrong password.
    WrongPassword,
    /// The user requested a retry of a delivery, or placed or released a retention hold, which keeps the files of a
    /// call.
    Changed,
    /// The user paused or resumed the recording of a live call.
    Paused,
    /// The user wrote or removed a note or tag.
    Noted,
}

impl AuditAction {
    const ALL: [Self; 8] = [
        Self::Played,
        Self::Downloaded,
        Self::Listed,
        Self::SignedIn,
        Self::WrongPassword,
        Self::Changed,
        Self::Paused,
        Self::Noted,
    ];

    /// Returns the action for a word in the database; `None` for an unknown word.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == word)
    }

    /// Returns the word by which the database names the action.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Played => "played",
            Self::Downloaded => "downloaded",
            Self::Listed => "listed",
            Self::SignedIn => "signed_in",
            Self::WrongPassword => "wrong_password",
            Self::Changed => "changed",
            Self::Paused => "paused",
            Self::Noted => "noted",
        }
    }
}

/// A row of the audit log: who did what, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AuditEntry {
    /// Number of the row. Later rows have higher numbers.
    pub(crate) n: i64,
    /// Wall-clock time of the action.
    pub(crate) at: Timestamp,
    /// Name of the user who did the action.
    pub(crate) who: String,
    /// Action, as the database names it, e.g. `played`.
    pub(crate) action: String,
    /// Id of the call that the action concerns; `None` if it concerns no call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) call_id: Option<String>,
    /// Details of the action; `None` if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

/// Conditions that select rows of the audit log. A condition that is `None` selects all rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditFilter {
    /// Selects only rows about this user.
    pub(crate) who: Option<String>,
    /// Selects only rows about the call with this id.
    pub(crate) call_id: Option<String>,
    /// Selects only rows with this action, as the database names it.
    pub(crate) action: Option<String>,
    /// Selects only rows at this time or later.
    pub(crate) since: Option<Timestamp>,
    /// Selects only rows before the row with this number.
    pub(crate) before: Option<i64>,
}

impl Accounts {
    /// Adds a row to the audit log, and waits until it is on the disk.
    ///
    /// # Errors
    /// Fails if SQLite fails. Then the action must not be done.
    pub(crate) fn record(
        &self,
        who: &str,
        action: AuditAction,
        call_id: Option<&str>,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), AccountError> {
        let detail = Some(detail).filter(|detail| !detail.is_empty());
        self.lock()
            .prepare_cached("INSERT INTO audit (at, who, action, call_id, detail) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![now.as_micros(), who, action.as_str(), call_id, detail])?;
        Ok(())
    }

    /// Adds a failed sign-in to the audit log. All failures with one user name within an hour are counted in one row.
    /// All unknown names share one row, so that random names cannot fill the disk. Also, an unknown name may be a
    /// password that somebody typed into the wrong field, so it is not stored.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn record_failed_sign_in(&self, name: &str, now: Timestamp) -> Result<(), AccountError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let known = "SELECT EXISTS (SELECT 1 FROM users WHERE name = ?1)";
        let is_known: bool = transaction.query_row(known, params![name], |row| row.get(0))?;
        let who = if is_known { name } else { UNKNOWN_NAME };
        let first = now.offset(-TRIES_NS).as_micros();
        let newest =
            "SELECT n FROM audit WHERE action = 'wrong_password' AND who = ?1 AND at > ?2 ORDER BY n DESC LIMIT 1";
        let row: Option<i64> = transaction.query_row(newest, params![who, first], |row| row.get(0)).optional()?;
        match row {
            // The detail begins with the count, e.g. `3 tries until …`. The SQL cast reads only the number.
            Some(n) => transaction.execute(
                "UPDATE audit SET detail = (CAST(coalesce(detail, '1') AS INTEGER) + 1) || ' tries until ' || ?2 WHERE n = ?1",
                params![n, now.to_rfc3339_secs()],
            )?,
            None => transaction.execute(
                "INSERT INTO audit (at, who, action) VALUES (?1, ?2, 'wrong_password')",
                params![now.as_micros(), who],
            )?,
        };
        Ok(transaction.commit()?)
    }

    /// Returns the newest rows of the audit log that a filter selects, at most `limit`.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn audit(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditEntry>, AccountError> {
        let mut parts = vec!["1"];
        let mut values: Vec<Value> = Vec::new();
        for (part, value) in [
            ("who = ?", filter.who.clone().map(Value::from)),
            ("call_id = ?", filter.call_id.clone().map(Value::from)),
            ("action = ?", filter.action.clone().map(Value::from)),
            ("at >= ?", filter.since.map(|at| at.as_micros().into())),
            ("n < ?", filter.before.map(Value::from)),
        ] {
            if let Some(value) = value {
                parts.push(part);
                values.push(value);
            }
        }
        let sql = format!(
            "SELECT n, at, who, action, call_id, detail FROM audit WHERE {} ORDER BY n DESC LIMIT {limit}",
            parts.join(" AND ")
        );
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(values), read_entry)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Returns the rows with numbers above `n`. Also returns the older rows of failed sign-ins after the time `since`,
    /// because their counts can still grow. At most `limit` rows are returned, oldest first.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn audit_after(&self, n: i64, since: Timestamp, limit: u32) -> Result<Vec<AuditEntry>, AccountError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT n, at, who, action, call_id, detail FROM audit WHERE n > ?1
             UNION ALL SELECT n, at, who, action, call_id, detail FROM audit
                WHERE action = 'wrong_password' AND n <= ?1 AND at > ?2
             ORDER BY n LIMIT ?3",
        )?;
        let rows = statement.query_map(params![n, since.as_micros(), limit], read_entry)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// Returns a function that reads rows of the audit log, for the copy in the central archive. It returns no rows if the
/// console has no accounts.
pub(crate) fn audit_reader(folder: &Path) -> AuditReader {
    let folder = folder.to_owned();
    Box::new(move |after, since, limit| {
        let text = |error: AccountError| error.to_string();
        let Some(accounts) = Accounts::open_to_read_audit(&folder).map_err(text)? else { return Ok(Vec::new()) };
        let rows = accounts.audit_after(after, since, limit).map_err(text)?;
        Ok(rows.into_iter().map(|row| (row.n, serde_json::to_value(row).unwrap_or_default())).collect())
    })
}

fn read_entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        n: row.get(0)?,
        at: Timestamp::from_micros(row.get(1)?),
        who: row.get(2)?,
        action: row.get(3)?,
        call_id: row.get(4)?,
        detail: row.get(5)?,
    })
}

/// Name that the audit log shows for all unknown user names. No user can have this name.
pub(crate) const UNKNOWN_NAME: &str = "(unknown)";
/// Time in which all failed sign-ins with one name are counted in one row: an hour, in ns.
const TRIES_NS: i64 = 3_600 * 1_000_000_000;
