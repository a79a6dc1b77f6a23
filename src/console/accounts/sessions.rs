//! Sessions of users. They are stored, so that an open page still works after a restart of the service.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, params};

use super::users::{COLUMNS, read_user};
use super::{AccountError, Accounts, UserAccount, password};
use crate::time::Timestamp;

/// A session that was just opened for a user.
#[derive(Clone, Debug)]
pub(crate) struct NewSession {
    /// Value of the session cookie. Only its hash is stored.
    pub(crate) token: String,
}

/// A session that was found by the cookie of a request.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    /// The user to whom the session belongs.
    pub(crate) user: UserAccount,
    /// CSRF token that every form of the session must repeat.
    pub(crate) csrf: String,
}

impl Accounts {
    /// Opens a session for a user. Removes expired sessions.
    ///
    /// # Errors
    /// Fails if SQLite fails or the kernel gives no random bytes.
    pub(crate) fn open_session(&self, user: &str, now: Timestamp) -> Result<NewSession, AccountError> {
        let (token, csrf) = (password::new_token()?, password::new_token()?);
        let connection = self.lock();
        connection.execute("DELETE FROM sessions WHERE created_at < ?1", params![oldest(now)])?;
        connection.execute(
            "INSERT INTO sessions (token, user, csrf, created_at) VALUES (?1, ?2, ?3, ?4)",
            params![password::token_hash(&token), user, csrf, now.as_micros()],
        )?;
        Ok(NewSession { token })
    }

    /// Returns the session of a cookie; `None` if there is none, if it has expired, or if its user was removed.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn session(&self, token: &str, now: Timestamp) -> Result<Option<SignedIn>, AccountError> {
        let connection = self.lock();
        let sql = format!(
            "SELECT {COLUMNS}, s.csrf FROM sessions s JOIN users u ON u.name = s.user
             WHERE s.token = ?1 AND s.created_at >= ?2"
        );
        let found =
            connection.prepare_cached(&sql)?.query_row(params![password::token_hash(token), oldest(now)], |row| {
                Ok(SignedIn { user: read_user(row, 0)?, csrf: row.get(6)? })
            });
        Ok(found.optional()?)
    }

    /// Ends a session, given by its cookie.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn close_session(&self, token: &str) -> Result<(), AccountError> {
        self.lock().execute("DELETE FROM sessions WHERE token = ?1", params![password::token_hash(token)])?;
        Ok(())
    }
}

fn oldest(now: Timestamp) -> i64 {
    (now - LIFETIME).as_micros()
}

/// Lifetime of a session: one working day. Then the user must sign in again.
const LIFETIME: Duration = Duration::from_secs(12 * 3_600);
