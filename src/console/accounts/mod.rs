//! Accounts of the console: users, sessions and the audit log, in the database `console.sqlite`.
//!
//! # Invariants
//! 1. The database contains only the argon2id hashes of passwords and the SHA-256 of session tokens. So a copy of the
//!    database gives no access to the console.
//! 2. An audit row is durable (`synchronous=FULL`) when [`Accounts::record`] returns. Sound is sent only after that.
//! 3. Audit rows are added and never removed. They name a call by its id, never by telephone numbers.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::journal::make_durable;

mod audit;
mod notes;
pub(crate) mod password;
mod sessions;
mod tokens;
pub(crate) mod totp;
mod users;

pub(crate) use audit::{AuditAction, AuditEntry, AuditFilter, audit_reader};
pub(crate) use notes::{CallNote, NoteKind};
pub(crate) use tokens::ApiToken;
pub(crate) use users::{AccountRight, AccountRole, UserAccount};

/// A handle to the database of the console's accounts. Clones share one connection.
#[derive(Clone, Debug)]
pub(crate) struct Accounts {
    connection: Arc<Mutex<Connection>>,
}

/// Reasons why the database of the accounts cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// The folder or file cannot be created or opened.
    #[error("the accounts of the console ({path}) cannot be opened: {source}")]
    Io {
        /// Path of the file or folder that cannot be used.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// SQLite reported an error.
    #[error("the accounts of the console: {0}")]
    Sql(#[from] rusqlite::Error),
    /// A newer callspan wrote the database. The value is the version of the database.
    #[error(
        "the accounts of the console have version {0}, which is newer than this callspan: install the newer one again"
    )]
    Newer(i64),
    /// A name or password is not acceptable, for this reason.
    #[error("{0}")]
    Refused(&'static str),
    /// A pattern of extensions in a scope (set of calls that an account may see) can never match.
    #[error("the pattern of extensions \"{pattern}\": {what}; {remedy}")]
    Pattern {
        /// The pattern of extensions as it was given.
        pattern: String,
        /// Description of the problem for the administrator.
        what: String,
        /// The pattern of extensions that the administrator probably meant.
        remedy: String,
    },
    /// The kernel gives no random bytes, or hashing failed.
    #[error("the password or token cannot be made: {0}")]
    Crypto(String),
}

impl Accounts {
    /// Opens `console.sqlite` in the folder of the journal, and creates it if needed, with mode 0600.
    ///
    /// # Errors
    /// Fails with an [`AccountError`].
    pub(crate) fn open(folder: &Path) -> Result<Self, AccountError> {
        let path = folder.join(FILE_NAME);
        let failed = |source| AccountError::Io { path: path.display().to_string(), source };
        if !folder.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
        let mut connection = Connection::open(&path)?;
        make_durable(&connection)?; // see invariant 2 of this module
        if version_of(&connection)? != VERSION {
            migrate(&mut connection)?;
        }
        connection.execute_batch(FAILED_SIGN_INS)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Opens the database to read the audit log; returns `None` if there is no database. Creates and migrates nothing.
    /// All versions so far have the same audit table.
    ///
    /// # Errors
    /// Fails with an [`AccountError`].
    pub(crate) fn open_to_read_audit(folder: &Path) -> Result<Option<Self>, AccountError> {
        let path = folder.join(FILE_NAME);
        if !path.is_file() {
            return Ok(None);
        }
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        match version_of(&connection)? {
            0 => Ok(None), // a new file without tables
            1..=VERSION => Ok(Some(Self { connection: Arc::new(Mutex::new(connection)) })),
            newer => Err(AccountError::Newer(newer)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // The lock can be used even after a thread panicked while it held the lock, because the panic rolled back an
        // unfinished transaction.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates the tables, or migrates them to [`VERSION`]. Two processes, e.g. the console and a command, may do this at
/// the same time.
fn migrate(connection: &mut Connection) -> Result<(), AccountError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match version_of(&transaction)? {
        0 => transaction.execute_batch(&format!("{V1}{V2}{V3}"))?,
        1 => transaction.execute_batch(&format!("{V2}{V3}"))?,
        2 => transaction.execute_batch(V3)?,
        VERSION => {}
        newer => return Err(AccountError::Newer(newer)),
    }
    Ok(transaction.commit()?)
}

fn version_of(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Version of the tables that this program uses.
const VERSION: i64 = 3;

/// SQL that creates the first version of the tables. Times are µs since the Unix epoch.
const V1: &str = "
CREATE TABLE IF NOT EXISTS users (
    name        TEXT PRIMARY KEY,
    password    TEXT NOT NULL,              -- argon2id, PHC string
    role        TEXT NOT NULL,              -- admin, listener, auditor
    extensions  TEXT NOT NULL,              -- patterns, separated by commas; empty: all
    directions  TEXT NOT NULL,              -- words, separated by commas; empty: all
    rights      TEXT NOT NULL,              -- words, separated by commas
    created_at  INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
    token       TEXT PRIMARY KEY,           -- SHA-256 of the cookie, hex
    user        TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    csrf        TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS audit (
    n           INTEGER PRIMARY KEY AUTOINCREMENT,
    at          INTEGER NOT NULL,
    who         TEXT NOT NULL,
    action      TEXT NOT NULL,
    call_id     TEXT,
    detail      TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS audit_by_call ON audit (call_id, n) WHERE call_id IS NOT NULL;
PRAGMA user_version = 1;
";

/// SQL that upgrades the accounts database to version 2: it adds second factors of users, API tokens of programs, and
/// notes.
const V2: &str = "
ALTER TABLE users ADD COLUMN totp TEXT;                             -- secret in base32; NULL: none
ALTER TABLE users ADD COLUMN totp_step INTEGER NOT NULL DEFAULT 0;  -- a code is accepted once: step of the last one
CREATE TABLE IF NOT EXISTS tokens (
    hash        TEXT PRIMARY KEY,           -- SHA-256 of the token, hex
    name        TEXT NOT NULL UNIQUE,
    role        TEXT NOT NULL,
    extensions  TEXT NOT NULL,
    directions  TEXT NOT NULL,
    rights      TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS notes (
    n           INTEGER PRIMARY KEY AUTOINCREMENT,
    call_id     TEXT NOT NULL,
    at          INTEGER NOT NULL,
    who         TEXT NOT NULL,
    kind        TEXT NOT NULL,              -- note, tag
    text        TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS notes_by_call ON notes (call_id, n);
CREATE INDEX IF NOT EXISTS notes_by_tag ON notes (text) WHERE kind = 'tag';
PRAGMA user_version = 2;
";

/// SQL that upgrades the accounts database to version 3, for the central console. It adds sites to the scopes (sets of
/// calls that accounts may see).
const V3: &str = "
ALTER TABLE users ADD COLUMN sites TEXT NOT NULL DEFAULT '';        -- names, separated by commas; empty: all
ALTER TABLE tokens ADD COLUMN sites TEXT NOT NULL DEFAULT '';
PRAGMA user_version = 3;
";

/// SQL of an index by which the row that counts the failed sign-ins of a user name is found. The index does not raise
/// the version of the database, because an older callspan can use a database with this index.
const FAILED_SIGN_INS: &str =
    "CREATE INDEX IF NOT EXISTS failed_sign_ins ON audit (who, n) WHERE action = 'wrong_password'";
/// Maximum time to wait for another process that writes to the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Name of the database file, in the folder of the journal.
const FILE_NAME: &str = "console.sqlite";

#[cfg(test)]
mod tests;
