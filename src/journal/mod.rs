//! The journal: an SQLite database of calls, legs, recordings and deliveries to Pyrus.
//!
//! # Invariants
//!
//! 1. **One call, one row, one external_id.** `calls.id` is made once from the call itself and never changes. It is the
//!    `external_id` in Pyrus and the beginning of the call's file names.
//! 2. **A request is announced before it is sent.** Before the first byte of a request leaves, the delivery's row says
//!    "registering" or "attaching". The row is durable (WAL, `synchronous=FULL`). The outcome of the request is durable
//!    before the next request of the same call. So a row that is in one of these two stages at start-up is *ambiguous*:
//!    Pyrus may or may not have carried out the request. Every other row says exactly what Pyrus has.
//! 3. **No file without a row, no row without a file.** A recording gets its row after its rename and the fsync of its
//!    folder. The row has the size and the SHA-256. A file to be removed is marked in the journal first. Encryption
//!    gives a file a new name. Then the row has the new name, and the list of leftovers (files to be removed) has the
//!    old name.
//! 4. **A delivery needs only its own row.** Numbers, times and file paths are copied into it. So a restarted service
//!    can finish the delivery.
//! 5. **No secret is stored.** Neither the Pyrus key nor a token is ever written to the journal. Phone numbers are
//!    stored, so the file has mode 0600.
//! 6. **The version is in the file** (`user_version`). An older version is migrated in one transaction; a newer version
//!    is refused.
//!
//! `Journal::write` writes each durable row. If the write-ahead log may have lost pages, the function copies the log
//! into the database before it returns.
//!
//! One process writes through one connection behind a mutex; [`Journal`] is a handle to it and can be cloned. Other
//! processes may read, and add requests, at the same time (WAL).

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::{Connection, OpenFlags};

mod archive;
mod calls;
pub mod config;
mod deliveries;
mod durable;
mod encrypt;
mod moments;
pub(crate) mod outbox;
mod reserve;
mod retention;
mod schema;
mod search;
mod sidecar;
mod states;
#[cfg(test)]
mod tests;
mod totals;

pub(crate) use archive::{ArchiveBacklog, ArchiveExtent};
pub use calls::{CallFilter, CallStage, LegRow, SpoolFileState, StoredCall};
pub(crate) use durable::make_durable;
pub use encrypt::EncryptedRecording;
pub use moments::SlotCount;
pub(crate) use retention::{DeliveryNeed, RecordingRow};
pub use search::{CallScope, CallSearch, ClassCounts, FoundCalls, HeardClass, MAX_IDS};
pub(crate) use sidecar::StaleRecord;
pub(crate) use states::CallToStore;
pub(crate) use totals::PeriodTotals;

/// A handle to the journal; clones share the connection.
#[derive(Clone, Debug)]
pub struct Journal {
    connection: Arc<Mutex<Connection>>,
    /// Path of the write-ahead log (`-wal`).
    log_path: PathBuf,
    /// Whether rows of live or ended calls were written that a power cut may still destroy.
    has_unsynced: Arc<AtomicBool>,
    /// Whether the write-ahead log may have lost pages. To avoid a deadlock, a thread that needs both locks must lock
    /// the connection before this value.
    log_sync: Arc<Mutex<states::LogSync>>,
    /// The first error text in which SQLite reported a damaged file; empty if there was none.
    damage: Arc<OnceLock<String>>,
}

/// The locked connection to the database. If SQLite reported damage or a failed sync, dropping the guard stores the
/// report in the [`Journal`].
struct JournalGuard<'j> {
    connection: MutexGuard<'j, Connection>,
    journal: &'j Journal,
    /// Number of rows that the connection had changed when it was locked for reading; `None` if it was locked for
    /// writing. When the guard is dropped, a debug assertion checks that no row was changed.
    changes_at_lock: Option<u64>,
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
        let is_as_promised = self.changes_at_lock.is_none_or(|changes| changes == self.connection.total_changes());
        debug_assert!(is_as_promised, "rows are written by Journal::write only");
        if let Some(detail) = DAMAGE_SEEN.take() {
            let _ = self.journal.damage.set(detail); // fails if there is an earlier message, which is kept
        }
        if SYNC_FAILED.take() {
            self.journal.log_sync().note_failure();
        }
    }
}

thread_local! {
    /// The message of SQLite that reported damage while this thread held the connection. Dropping the [`JournalGuard`]
    /// stores the message, so no method of the journal has to handle it.
    static DAMAGE_SEEN: Cell<Option<String>> = const { Cell::new(None) };
    /// Whether SQLite reported a failed sync to the disk while this thread held the connection.
    static SYNC_FAILED: Cell<bool> = const { Cell::new(false) };
}

/// Reasons why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder or file cannot be created or opened.
    #[error("the journal {path} cannot be opened: {source}")]
    Io {
        /// Path of the file or folder that cannot be used.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A newer version of callspan wrote the journal, and this version does not know its schema.
    #[error(
        "the journal has version {found}, this callspan supports versions up to {known}: install the newer callspan again, or set another [state] dir"
    )]
    Newer {
        /// Schema version of the newer file.
        found: i64,
        /// Newest schema version that this program knows.
        known: i64,
    },
    /// An older version of callspan wrote the journal. Only the service may migrate it, not a command beside the
    /// service.
    #[error(
        "the journal has version {found}, this callspan needs version {known}: start the service of this version once"
    )]
    Older {
        /// Schema version of the older file.
        found: i64,
        /// Schema version that this program needs.
        known: i64,
    },
    /// There is no journal file at the expected path.
    #[error("there is no journal {path}: either nothing was recorded with this configuration, or [state] dir is wrong")]
    Missing {
        /// The path at which the journal was expected.
        path: PathBuf,
    },
    /// SQLite found damage in the file of the journal.
    #[error(
        "the journal {path} is damaged ({detail}): stop callspan, keep the file, and restore a backup of it. Only the journal knows which calls Pyrus already has"
    )]
    Damaged {
        /// Path of the damaged journal.
        path: PathBuf,
        /// The first problem that the integrity check found.
        detail: String,
    },
    /// SQLite reported an error that no other variant describes.
    #[error("the journal: {0}")]
    Sql(#[source] rusqlite::Error),
    /// A stored record cannot be written or read as JSON.
    #[error("the journal: a stored record cannot be read or written: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        if is_damage(&error) {
            DAMAGE_SEEN.set(Some(error.to_string()));
        }
        if is_failed_sync(&error) {
            SYNC_FAILED.set(true);
        }
        Self::Sql(error)
    }
}

/// Result of a journal operation, with the journal's own error.
pub(crate) type JournalResult<T> = std::result::Result<T, Error>;

impl Journal {
    /// Opens `journal.sqlite` in the configured folder and creates both if needed. The folder gets mode 0700 and the
    /// file 0600, because the journal holds phone numbers.
    ///
    /// # Errors
    /// Fails with [`Error::Damaged`] if the integrity check fails, or with another [`Error`].
    pub fn open(config: &config::Config) -> JournalResult<Self> {
        let path = config.dir.join(FILE_NAME);
        make_private(&config.dir, &path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let connection = Connection::open(&path).map_err(|e| damaged_or_sql(e, &path))?;
        Self::set_up(connection, &path)
    }

    /// Opens the journal of another process for reading; creates and migrates nothing.
    ///
    /// # Errors
    /// Fails if there is no journal, or if it has another version.
    pub fn open_read_only(config: &config::Config) -> JournalResult<Self> {
        Self::open_existing(config, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// Opens the journal of another process to add requests to it; creates and migrates nothing.
    ///
    /// # Errors
    /// Fails if there is no journal, or if it has another version.
    pub(crate) fn open_for_requests(config: &config::Config) -> JournalResult<Self> {
        Self::open_existing(config, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    fn open_existing(config: &config::Config, flags: OpenFlags) -> JournalResult<Self> {
        let path = config.dir.join(FILE_NAME);
        if !path.exists() {
            return Err(Error::Missing { path });
        }
        let mut connection = Connection::open_with_flags(&path, flags)?;
        search::add_functions(&connection)?;
        copy_log_in_parts(&mut connection)?;
        connection.busy_timeout(durable::BUSY_TIMEOUT)?;
        schema::check_current(&connection)?;
        Ok(Self::of_connection(connection, &path))
    }

    /// Returns the description of the damage that SQLite has reported since the journal was opened; `None` if there was
    /// none. Later writes are not reliable, so the process should end after [`Journal::mark_damaged`].
    pub fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// Marks the journal as damaged: the next start renames the damaged journal and creates a new journal. The mark is
    /// needed because damage found in use may not show in the integrity check at start-up.
    ///
    /// # Errors
    /// Fails if the mark cannot be written.
    pub fn mark_damaged(config: &config::Config, detail: &str) -> JournalResult<()> {
        let path = config.dir.join(DAMAGE_MARK);
        std::fs::write(&path, detail).map_err(|source| Error::Io { path, source })
    }

    /// Returns the damage that an earlier process reported with [`Journal::mark_damaged`]; `None` if there is no such
    /// mark.
    pub(crate) fn damage_mark(config: &config::Config) -> Option<String> {
        std::fs::read_to_string(config.dir.join(DAMAGE_MARK)).ok()
    }

    /// Creates a journal in memory. It disappears with its last handle.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    #[cfg(test)]
    pub(crate) fn open_in_memory() -> JournalResult<Self> {
        Self::set_up(Connection::open_in_memory()?, Path::new(":memory:"))
    }

    /// Renames a damaged journal, so that a person can examine it, and returns its new path. Nothing is deleted. The
    /// new journal must then be filled from the JSON call records, which say what Pyrus already has.
    ///
    /// # Errors
    /// Fails if a file cannot be renamed.
    pub(crate) fn set_aside(config: &config::Config) -> JournalResult<PathBuf> {
        let path = config.dir.join(FILE_NAME);
        let aside = |n: u32, tail: &str| config.dir.join(format!("{FILE_NAME}.damaged-{n}{tail}"));
        let n = (1..).find(|&n| !aside(n, "").exists()).unwrap_or(u32::MAX);
        for tail in ["-wal", "-shm", ""] {
            let from = config.dir.join(format!("{FILE_NAME}{tail}"));
            if from.exists() {
                std::fs::rename(&from, aside(n, tail)).map_err(|source| Error::Io { path: path.clone(), source })?;
            }
        }
        match std::fs::remove_file(config.dir.join(DAMAGE_MARK)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::Io { path, source }),
            _ => Ok(aside(n, "")),
        }
    }

    fn set_up(mut connection: Connection, path: &Path) -> JournalResult<Self> {
        make_durable(&connection).map_err(|e| damaged_or_sql(e, path))?; // see invariant 2 of this module
        connection.pragma_update(None, "foreign_keys", "ON")?;
        schema::check_version(&connection)?;
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| damaged_or_sql(e, path))?;
        if verdict != "ok" {
            return Err(Error::Damaged { path: path.to_owned(), detail: verdict });
        }
        search::add_functions(&connection)?;
        copy_log_in_parts(&mut connection)?;
        schema::migrate(&mut connection)?;
        Ok(Self::of_connection(connection, path))
    }

    fn of_connection(connection: Connection, path: &Path) -> Self {
        let mut log_path = path.as_os_str().to_owned();
        log_path.push("-wal");
        let log_path = PathBuf::from(log_path);
        let log_sync = states::LogSync::of_opened(&log_path);
        Self {
            connection: Arc::new(Mutex::new(connection)),
            log_path,
            has_unsynced: Arc::default(),
            log_sync: Arc::new(Mutex::new(log_sync)),
            damage: Arc::default(),
        }
    }

    /// Locks the connection for reading, even if another thread panicked while it held the lock. That is safe, because
    /// the panic rolled back the unfinished transaction.
    fn lock(&self) -> JournalGuard<'_> {
        let mut guard = self.lock_to_write();
        guard.changes_at_lock = Some(guard.total_changes());
        guard
    }

    /// Locks the connection for writing. Only [`Journal::write`] and [`Journal::put_calls_with_segments`] may use this.
    fn lock_to_write(&self) -> JournalGuard<'_> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // This thread may have stored reports of damage or of a failed sync while it used another journal. Those
        // reports are discarded.
        DAMAGE_SEEN.set(None);
        SYNC_FAILED.set(false);
        JournalGuard { connection, journal: self, changes_at_lock: None }
    }
}

/// Copies the write-ahead log into the database each time the log has grown to [`LOG_PAGES`] pages. SQLite itself does
/// the same, but it ignores a sync that fails while it copies.
fn copy_log_in_parts(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.wal_hook(Some(|log: &mut rusqlite::hooks::Wal, pages| {
        if pages >= LOG_PAGES
            && let Err(error) = log.checkpoint()
        {
            let _ = Error::from(error); // records a failed sync; the rows are committed in any case
        }
        Ok(())
    }))
}

fn damaged_or_sql(e: rusqlite::Error, path: &Path) -> Error {
    match is_damage(&e) {
        true => Error::Damaged { path: path.to_owned(), detail: e.to_string() },
        false => Error::Sql(e),
    }
}

fn is_damage(e: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(e.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

/// Returns whether the error means that the write-ahead log or the database could not be synced to the disk. Rows of
/// earlier commits may be lost then, too.
fn is_failed_sync(e: &rusqlite::Error) -> bool {
    e.sqlite_error().is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_IOERR_FSYNC)
}

#[cfg(unix)]
fn make_private(dir: &Path, file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if !dir.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file).map(drop)
}

/// Name of the journal file in the folder `[state] dir`.
pub const FILE_NAME: &str = "journal.sqlite";

/// Number of pages (of 4 KiB) at which the write-ahead log is copied into the database. SQLite has the same default.
const LOG_PAGES: i32 = 1_000;

/// Name of the file that marks the journal as damaged. It contains the description of the damage.
const DAMAGE_MARK: &str = "journal.sqlite.condemned";
