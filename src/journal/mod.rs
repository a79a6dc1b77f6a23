//! SQLite: conversations, legs, recordings, and what is still owed to Pyrus.
//!
//! # Invariants
//!
//! The code here is the procedure that keeps these; tests check them.
//!
//! 1. **One call, one row, one external_id.** `calls.id` is made once from the call itself and never changes;
//!    it is the `external_id` in Pyrus and the stem of the files.
//! 2. **Intent before deed.** The row of a delivery that says "registering" or "attaching" is durable (WAL,
//!    `synchronous=FULL`) before the first byte of that request is sent; its answer is durable before the next
//!    request of the same call. A row found in such a state at the start is therefore *ambiguous*, and every other
//!    row says exactly what Pyrus has.
//! 3. **No file without a row, no row without a file**: a recording is entered with its size and SHA-256 after its
//!    rename and its folder's fsync; a file that is removed is first marked here. A file that changes its name (when
//!    it is encrypted) has both names here: one in its row, the other among the leftovers, which are removed.
//! 4. **A delivery needs nothing but its row.** Numbers, times and file paths are copied into it, so that it can be
//!    finished by a later start with nothing else in memory.
//! 5. **No secret is stored.** Neither the key nor a token ever comes here; numbers do (the file is 0600).
//! 6. **The version is in the file** (`user_version`): an older one is migrated in one transaction, a newer one is
//!    refused.
//!
//! One process writes through one connection behind a mutex ([`Journal`] is a handle and can be cloned); other
//! processes may read, and ask for a retry, at the same time (WAL).

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

mod calls;
pub mod config;
mod deliveries;
mod encrypt;
mod retention;
mod schema;
mod sidecar;
#[cfg(test)]
mod tests;

pub use calls::{CallCursor, CallFilter, CallPages, CallStage, LegRow, LegSpoolState, PAGE, StoredCall};
pub use encrypt::EncryptedRecording;
pub use retention::{DeliveryNeed, LegOwner, RecordingRow};
pub use schema::VERSION;
pub use sidecar::StaleRecord;

/// A handle to the journal; clones share the connection.
#[derive(Clone, Debug)]
pub struct Journal {
    connection: Arc<Mutex<Connection>>,
    /// What SQLite first complained of.
    damage: Arc<OnceLock<String>>,
}

/// The connection, ours until this is dropped.
struct JournalGuard<'j> {
    connection: MutexGuard<'j, Connection>,
    damage: &'j OnceLock<String>,
}

impl Deref for JournalGuard<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for JournalGuard<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Drop for JournalGuard<'_> {
    fn drop(&mut self) {
        if let Some(complaint) = COMPLAINT.take() {
            let _ = self.damage.set(complaint); // the first one stays
        }
    }
}

thread_local! {
    /// What SQLite said of the file while this thread held the connection: between the error of a statement and the
    /// end of the [`JournalGuard`] around it, so that no method of the journal has to think of it.
    static COMPLAINT: Cell<Option<String>> = const { Cell::new(None) };
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder or file cannot be made or opened.
    #[error("the journal {path} cannot be opened: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A newer callspan wrote it.
    #[error(
        "the journal has version {found}, this callspan knows up to {known}: install the newer callspan again, or give another [state] dir"
    )]
    Newer {
        /// In the file.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// An older callspan wrote it, and only the service brings it to the present version.
    #[error(
        "the journal has version {found}, this callspan works with {known}: start the service of this version once"
    )]
    Older {
        /// In the file.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// There is none.
    #[error(
        "there is no journal {path}: nothing was recorded with this configuration, or another [state] dir is meant"
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// SQLite finds the file damaged.
    #[error(
        "the journal {path} is damaged ({detail}): stop callspan, keep the file, and restore a copy of it; what Pyrus already has is known only there"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// First complaint of the check.
        detail: String,
    },
    /// Any other trouble.
    #[error("the journal: {0}")]
    Sql(#[source] rusqlite::Error),
    /// A stored record cannot be written or read as JSON.
    #[error("the journal: a stored record is not readable: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        if is_damage(&error) {
            COMPLAINT.set(Some(error.to_string()));
        }
        Self::Sql(error)
    }
}

impl Error {
    /// Whether the same operation may succeed later with nothing changed by a person (a full disk that is freed,
    /// a lock that is released).
    pub fn is_retryable(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure};
        match self {
            Self::Sql(e) => {
                matches!(e.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked | DiskFull | SystemIoFailure))
            }
            Self::Older { .. } | Self::Missing { .. } => false,
            Self::Io { .. } | Self::Newer { .. } | Self::Damaged { .. } | Self::Json(_) => false,
        }
    }
}

/// Results of this room.
pub type JournalResult<T> = std::result::Result<T, Error>;

impl Journal {
    /// Opens `journal.sqlite` in the configured folder; makes both when they are not there. A private folder and
    /// file (0700, 0600): there are phone numbers in it. The file is checked ([`Error::Damaged`]).
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(config: &config::Config) -> JournalResult<Self> {
        let path = config.dir.join(FILE_NAME);
        make_private(&config.dir, &path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let connection = Connection::open(&path).map_err(|e| damaged_or(e, &path))?;
        Self::set_up(connection, &path)
    }

    /// Opens the journal of another process to look at it; nothing is made or migrated.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open_read_only(config: &config::Config) -> JournalResult<Self> {
        Self::open_beside(config, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// Opens the journal of another process to ask something of it; nothing is made or migrated.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open_for_requests(config: &config::Config) -> JournalResult<Self> {
        Self::open_beside(config, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    fn open_beside(config: &config::Config, flags: OpenFlags) -> JournalResult<Self> {
        let path = config.dir.join(FILE_NAME);
        if !path.exists() {
            return Err(Error::Missing { path });
        }
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        schema::check_present(&connection)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), damage: Arc::default() })
    }

    /// What SQLite found damaged in the file since it was opened. Nothing that is written from then on can be relied
    /// on: the process should end, after [`Journal::mark_damaged`].
    pub fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// Has the next start set this journal aside and make a new one, whatever its check finds: what was found damaged
    /// in use need not show in it.
    ///
    /// # Errors
    /// When the mark cannot be written.
    pub fn mark_damaged(config: &config::Config, why: &str) -> JournalResult<()> {
        let path = config.dir.join(CONDEMNED);
        std::fs::write(&path, why).map_err(|source| Error::Io { path, source })
    }

    /// Why an earlier process condemned the journal, if it did.
    pub fn damage_mark(config: &config::Config) -> Option<String> {
        std::fs::read_to_string(config.dir.join(CONDEMNED)).ok()
    }

    /// A journal that is gone with its last handle.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open_in_memory() -> JournalResult<Self> {
        Self::set_up(Connection::open_in_memory()?, Path::new(":memory:"))
    }

    /// Moves a damaged journal out of the way, for a person to look at; nothing is deleted. Returns its new name. The
    /// new journal must then be filled from the call records, which say what Pyrus already has.
    ///
    /// # Errors
    /// When a file cannot be moved.
    pub fn set_aside(config: &config::Config) -> JournalResult<PathBuf> {
        let path = config.dir.join(FILE_NAME);
        let aside = |n: u32, tail: &str| config.dir.join(format!("{FILE_NAME}.damaged-{n}{tail}"));
        let n = (1..).find(|&n| !aside(n, "").exists()).unwrap_or(u32::MAX);
        for tail in ["-wal", "-shm", ""] {
            let from = config.dir.join(format!("{FILE_NAME}{tail}"));
            if from.exists() {
                std::fs::rename(&from, aside(n, tail)).map_err(|source| Error::Io { path: path.clone(), source })?;
            }
        }
        match std::fs::remove_file(config.dir.join(CONDEMNED)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::Io { path, source }),
            _ => Ok(aside(n, "")),
        }
    }

    fn set_up(mut connection: Connection, path: &Path) -> JournalResult<Self> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(|e| damaged_or(e, path))?;
        // FULL: a commit is on the disk when it returns (invariant 2). NORMAL in WAL mode would not be.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        schema::check_version(&connection)?;
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| damaged_or(e, path))?;
        if verdict != "ok" {
            return Err(Error::Damaged { path: path.to_owned(), detail: verdict });
        }
        schema::migrate(&mut connection)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), damage: Arc::default() })
    }

    /// A panic elsewhere cannot leave a half-done transaction (they roll back on drop), so a poisoned lock is usable.
    fn lock(&self) -> JournalGuard<'_> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        COMPLAINT.set(None); // of a file that is not open any more
        JournalGuard { connection, damage: &self.damage }
    }
}

fn damaged_or(e: rusqlite::Error, path: &Path) -> Error {
    match is_damage(&e) {
        true => Error::Damaged { path: path.to_owned(), detail: e.to_string() },
        false => Error::Sql(e),
    }
}

fn is_damage(e: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(e.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

#[cfg(unix)]
fn make_private(dir: &Path, file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if !dir.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file).map(drop)
}

/// Name of the file in `[state] dir`.
pub const FILE_NAME: &str = "journal.sqlite";

/// The mark of a journal that is to be set aside.
const CONDEMNED: &str = "journal.sqlite.condemned";

/// A reader in another process holds the write lock for milliseconds; longer means that something is wrong.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
