//! Set-up of a database that several programs write and that keeps everything it confirmed.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

/// Maximum time to wait for another program that writes. Usually it holds the lock for milliseconds only.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two tries to take a lock for which SQLite does not wait itself.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// Switches a database to write-ahead logging and makes each commit durable before it returns.
///
/// SQLite does not wait when two programs switch the same new database, or when one opens it while the other closes it:
/// it refuses at once (SQLite, "Write-Ahead Logging", section 9). So the switch is tried again for [`BUSY_TIMEOUT`].
///
/// # Errors
/// Fails if SQLite fails, or if another program keeps the lock for longer than that.
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
    connection.pragma_update(None, "synchronous", "FULL") // NORMAL does not guarantee this in WAL mode
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}
