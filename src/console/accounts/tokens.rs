//! API tokens for programs. Each token has its own scope (the calls that it may see) and its own expiry.

use rusqlite::{OptionalExtension as _, params};

use super::users::{read_user, words};
use super::{AccountError, Accounts, UserAccount, password};
use crate::time::Timestamp;

/// An API token of a program, without its secret text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiToken {
    /// Name, role, scope and rights of the token. In the audit log, the name stands in place of a user's name.
    pub(crate) account: UserAccount,
    /// Wall-clock time at which the token expires.
    pub(crate) expires_at: Timestamp,
}

impl Accounts {
    /// Adds a token, and returns its text, which is shown only once. The database stores only the hash of the text.
    ///
    /// # Errors
    /// Refuses an unacceptable name or scope, and a name that already exists. Fails if SQLite fails.
    pub(crate) fn add_token(&self, token: &ApiToken, now: Timestamp) -> Result<String, AccountError> {
        token.account.check()?;
        let text = format!("{PREFIX}{}", password::new_token()?);
        let account = &token.account;
        let added = self.lock().execute(
            "INSERT OR IGNORE INTO tokens
                (hash, name, role, extensions, directions, rights, created_at, expires_at, sites)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                password::token_hash(&text),
                account.name,
                account.role.as_str(),
                account.scope.extensions.join(","),
                words(&account.scope.directions),
                words(&account.rights),
                now.as_micros(),
                token.expires_at.as_micros(),
                account.scope.sites.join(",")
            ],
        )?;
        if added == 0 {
            return Err(AccountError::Refused("a token of this name exists; remove it first"));
        }
        Ok(text)
    }

    /// Returns the token with this text; `None` if there is no such token or it has expired. The returned name has the
    /// prefix `token:`, so that the audit log does not show the token as a user.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn token(&self, text: &str, now: Timestamp) -> Result<Option<ApiToken>, AccountError> {
        let sql = format!("SELECT {COLUMNS} FROM tokens WHERE hash = ?1 AND expires_at > ?2");
        let connection = self.lock();
        let found = connection
            .prepare_cached(&sql)?
            .query_row(params![password::token_hash(text), now.as_micros()], read_token)
            .optional()?;
        Ok(found.map(|mut token| {
            token.account.name.insert_str(0, "token:");
            token
        }))
    }

    /// Returns all tokens, sorted by name.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn tokens(&self) -> Result<Vec<ApiToken>, AccountError> {
        let connection = self.lock();
        let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM tokens ORDER BY name"))?;
        let tokens = statement.query_map([], read_token)?.collect::<rusqlite::Result<_>>()?;
        Ok(tokens)
    }

    /// Removes a token. Returns whether there was one.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn remove_token(&self, name: &str) -> Result<bool, AccountError> {
        Ok(self.lock().execute("DELETE FROM tokens WHERE name = ?1", params![name])? > 0)
    }
}

fn read_token(row: &rusqlite::Row<'_>) -> rusqlite::Result<ApiToken> {
    Ok(ApiToken { account: read_user(row, 0)?, expires_at: Timestamp::from_micros(row.get(6)?) })
}

const COLUMNS: &str = "name, role, extensions, directions, rights, sites, expires_at";
/// First characters of every token. Programs that search for leaked secrets find tokens by this prefix.
const PREFIX: &str = "callspan_";
