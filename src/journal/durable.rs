//! Set-up of an SQLite database that several programs write. The database loses no confirmed commit in a power cut.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

/// Maximum time to wait for the lock on the database while another program writes. Usually a program holds this lock
/// for milliseconds only.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two tries to take a database lock for which SQLite itself does not wait.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// Switches a database to write-ahead logging and makes each commit durable before it returns.
///
/// Two programs can switch the same new database at the same time, or one program can open the database while the other
/// closes it. Then SQLite does not wait but fails at once (SQLite, "Write-Ahead Logging", section 9). So this function
/// tries the switch again and again for [`BUSY_TIMEOUT`].
///
/// # Errors
/// Fails if SQLite fails, or if another program keeps the lock for longer than [`BUSY_TIMEOUT`].
#[expect(clippy::disallowed_methods, reason = "an I/O module: waits for another program")]
pub(crate) fn make_durable(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let begin = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(e) if is_busy(&e) && begin.elapsed() < BUSY_TIMEOUT => std::thread::sleep(RETRY_PAUSE),
            result => break result?,
        }
    }
    connection.pragma_update(None, "synchronous", "FULL") // in WAL mode, NORMAL does not wait for the disk
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}
