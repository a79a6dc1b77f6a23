//! Users of the console: their names, roles, rights and scopes. A scope is the set of calls that an account may see.

use rusqlite::{OptionalExtension as _, Row, params};
use serde::Serialize;

use super::totp::TotpSecret;
use super::{AccountError, Accounts, password};
use crate::call::numbers::NumberPattern;
use crate::call::record::CallDirection;
use crate::central::config::is_site_name;
use crate::journal::CallScope;
use crate::time::Timestamp;

/// Role of an account, which decides what the account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AccountRole {
    /// May see, hear and change everything.
    Admin,
    /// Has the given rights, e.g. to play recordings, for the calls in its scope.
    Listener,
    /// May see all calls and the audit log, but hear nothing.
    Auditor,
}

/// A right that an administrator can give to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AccountRight {
    /// May see the calls in the scope of the account.
    List,
    /// May play recordings in the browser.
    Play,
    /// May download recordings and call records.
    Download,
    /// May see live calls and pause their recording.
    Live,
    /// May write notes and tags.
    Notes,
}

/// An account of the console: a user or an API token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserAccount {
    /// Name of the account, which is unique.
    pub(crate) name: String,
    /// Role, which decides what the account may do.
    pub(crate) role: AccountRole,
    /// Calls that a listener may see. Other roles may see all calls.
    pub(crate) scope: CallScope,
    /// Rights of a listener. Other roles have fixed rights.
    pub(crate) rights: Vec<AccountRight>,
}

impl AccountRole {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Listener => "listener",
            Self::Auditor => "auditor",
        }
    }
}

impl UserAccount {
    /// Returns the administrator account for a person on this machine, while the console has no users.
    pub(crate) fn of_this_machine() -> Self {
        Self { name: String::from("local"), role: AccountRole::Admin, scope: CallScope::default(), rights: Vec::new() }
    }

    /// Checks that name and scope are acceptable.
    ///
    /// # Errors
    /// Refuses a name with forbidden characters, and a pattern that matches no extension.
    pub(super) fn check(&self) -> Result<(), AccountError> {
        let is_good = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.chars().all(is_good) {
            return Err(AccountError::Refused("a name has 1 to 64 letters, digits or . _ - @"));
        }
        if self.scope.extensions.iter().any(|pattern| pattern.trim().is_empty()) {
            // An empty pattern is refused: it would be stored as an empty list, and an empty list allows every
            // extension.
            return Err(AccountError::Refused("a pattern of extensions is empty; leave --extensions out for all"));
        }
        if !self.scope.sites.iter().all(|site| is_site_name(site)) {
            return Err(AccountError::Refused("a site has 1 to 40 lower-case letters, digits or -"));
        }
        if !self.scope.sites.is_empty() && self.role != AccountRole::Listener {
            return Err(AccountError::Refused("only a listener can be limited to sites"));
        }
        for pattern in &self.scope.extensions {
            NumberPattern::check(pattern).map_err(|problem| AccountError::Pattern {
                pattern: pattern.clone(),
                what: problem.what,
                remedy: problem.remedy,
            })?;
        }
        Ok(())
    }

    /// Returns the calls that the account may see.
    pub(crate) fn visible(&self) -> CallScope {
        match self.role {
            AccountRole::Listener => self.scope.clone(),
            AccountRole::Admin | AccountRole::Auditor => CallScope::default(),
        }
    }

    /// Returns whether the account has a right. For example, an auditor may list calls but not hear them.
    pub(crate) fn may(&self, right: AccountRight) -> bool {
        match self.role {
            AccountRole::Admin => true,
            AccountRole::Auditor => right == AccountRight::List,
            AccountRole::Listener => self.rights.contains(&right),
        }
    }

    /// Returns whether the account may see the audit log.
    pub(crate) const fn may_audit(&self) -> bool {
        matches!(self.role, AccountRole::Admin | AccountRole::Auditor)
    }

    /// Returns whether the account is an administrator, who may retry deliveries, place retention holds, and see the
    /// health of the recorder.
    pub(crate) const fn is_admin(&self) -> bool {
        matches!(self.role, AccountRole::Admin)
    }
}

impl Accounts {
    /// Returns whether the console has any users.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn has_users(&self) -> Result<bool, AccountError> {
        let found: Option<i64> =
            self.lock().query_row("SELECT 1 FROM users LIMIT 1", [], |row| row.get(0)).optional()?;
        Ok(found.is_some())
    }

    /// Adds a user. If the user already exists, replaces password, role and scope, and ends all sessions of the user.
    ///
    /// # Errors
    /// Refuses an unacceptable name or password. Fails if SQLite fails.
    pub(crate) fn put_user(&self, user: &UserAccount, password: &str, now: Timestamp) -> Result<(), AccountError> {
        user.check()?;
        self.put_hash(user, &password::hash(password)?, now)
    }

    /// Adds a user without a password, who can sign in only through the trusted proxy.
    ///
    /// # Errors
    /// Refuses an unacceptable name. Fails if SQLite fails.
    pub(crate) fn put_proxy_user(&self, user: &UserAccount, now: Timestamp) -> Result<(), AccountError> {
        user.check()?;
        self.put_hash(user, password::NO_PASSWORD, now)
    }

    /// Sets or removes the second factor (authenticator app) of a user.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn set_totp(&self, name: &str, secret: Option<&TotpSecret>) -> Result<(), AccountError> {
        let secret = secret.map(TotpSecret::to_base32);
        self.lock().execute("UPDATE users SET totp = ?2, totp_step = 0 WHERE name = ?1", params![name, secret])?;
        Ok(())
    }

    /// Checks the code of the second factor; returns true also if the user has no second factor. Each code is accepted
    /// only once.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn check_totp(&self, name: &str, code: &str, now: Timestamp) -> Result<bool, AccountError> {
        let connection = self.lock();
        let found: Option<Option<String>> = connection
            .query_row("SELECT totp FROM users WHERE name = ?1", params![name], |row| row.get(0))
            .optional()?;
        let Some(Some(text)) = found else { return Ok(found.is_some()) };
        // If the user's stored secret cannot be parsed, every code is refused.
        let Some(step) = TotpSecret::parse(&text).and_then(|secret| secret.step_of(code, now)) else {
            return Ok(false);
        };
        let used = "UPDATE users SET totp_step = ?2 WHERE name = ?1 AND totp_step < ?2";
        Ok(connection.execute(used, params![name, step])? > 0)
    }

    /// Returns the user with the name that the trusted proxy sent; `None` if there is no such user.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn user(&self, name: &str) -> Result<Option<UserAccount>, AccountError> {
        let sql = format!("SELECT {COLUMNS} FROM users u WHERE u.name = ?1");
        Ok(self.lock().query_row(&sql, params![name], |row| read_user(row, 0)).optional()?)
    }

    fn put_hash(&self, user: &UserAccount, hash: &str, now: Timestamp) -> Result<(), AccountError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute("DELETE FROM sessions WHERE user = ?1", params![user.name])?;
        transaction.execute(
            "INSERT INTO users (name, password, role, extensions, directions, rights, created_at, sites)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (name) DO UPDATE
             SET password = ?2, role = ?3, extensions = ?4, directions = ?5, rights = ?6, sites = ?8",
            params![
                user.name,
                hash,
                user.role.as_str(),
                user.scope.extensions.join(","),
                words(&user.scope.directions),
                words(&user.rights),
                now.as_micros(),
                user.scope.sites.join(",")
            ],
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// Removes a user and its sessions. Returns whether the user existed.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn remove_user(&self, name: &str) -> Result<bool, AccountError> {
        let connection = self.lock();
        connection.execute("DELETE FROM sessions WHERE user = ?1", params![name])?;
        Ok(connection.execute("DELETE FROM users WHERE name = ?1", params![name])? > 0)
    }

    /// Returns all users, sorted by name.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn users(&self) -> Result<Vec<UserAccount>, AccountError> {
        let connection = self.lock();
        let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM users u ORDER BY name"))?;
        let users = statement.query_map([], |row| read_user(row, 0))?.collect::<rusqlite::Result<_>>()?;
        Ok(users)
    }

    /// Returns the user if name and password are right; `None` otherwise.
    ///
    /// # Errors
    /// Fails if SQLite fails.
    pub(crate) fn check_password(&self, name: &str, password: &str) -> Result<Option<UserAccount>, AccountError> {
        let found: Option<(UserAccount, String)> = self
            .lock()
            .query_row(&format!("SELECT {COLUMNS}, u.password FROM users u WHERE u.name = ?1"), params![name], |row| {
                Ok((read_user(row, 0)?, row.get(6)?))
            })
            .optional()?;
        let is_right = password::matches(password, found.as_ref().map(|(_, hash)| hash.as_str()));
        Ok(found.map(|(user, _)| user).filter(|_| is_right))
    }
}

/// SQL list of the columns that [`read_user`] reads, from the table `u`.
pub(super) const COLUMNS: &str = "u.name, u.role, u.extensions, u.directions, u.rights, u.sites";

/// Reads a user from the columns [`COLUMNS`] of a row; the first of them has the index `at`.
pub(super) fn read_user(row: &Row<'_>, at: usize) -> rusqlite::Result<UserAccount> {
    let list = |n: usize| row.get::<_, String>(at + n).map(|text| split(&text));
    // A newer version may have written an unknown role. Then the account counts as a listener, who has no other rights
    // than the stored ones.
    let role = match row.get::<_, String>(at + 1)?.as_str() {
        "admin" => AccountRole::Admin,
        "auditor" => AccountRole::Auditor,
        _ => AccountRole::Listener,
    };
    // A newer version may have written an unknown direction. If it were left out, the list might become empty, and an
    // empty list allows every direction.
    let directions = list(3)?.iter().map(|word| parse_word(word).unwrap_or(CallDirection::Unknown)).collect();
    let rights = list(4)?.iter().filter_map(|word| right(word)).collect();
    let scope = CallScope { extensions: list(2)?, directions, sites: list(5)? };
    Ok(UserAccount { name: row.get(at)?, role, scope, rights })
}

fn right(word: &str) -> Option<AccountRight> {
    <AccountRight as clap::ValueEnum>::from_str(word, true).ok()
}

fn parse_word<T: serde::de::DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word.to_owned())).ok()
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

pub(super) fn words<T: Serialize>(values: &[T]) -> String {
    let word = |value: &T| serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned));
    values.iter().filter_map(word).collect::<Vec<_>>().join(",")
}

/// Maximum length of an account's name, bytes.
const MAX_NAME: usize = 64;
