//! Sign-in, with growing pauses after wrong passwords, and sign-out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access::{self, Viewer};
use super::accounts::{AuditAction, UserAccount};
use super::pages;
use super::server::ConsoleState;
use crate::service::clock::wall_clock;
use crate::time::Timestamp;

/// The path to which the browser goes after the user has signed in.
#[derive(Debug, Default, Deserialize)]
pub(super) struct NextPage {
    next: Option<String>,
}

/// Fields of the form on the sign-in page: name, password and code.
#[derive(Deserialize)]
pub(super) struct SignInForm {
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    code: String,
    next: Option<String>,
}

/// Pauses after wrong passwords, for each user name.
#[derive(Debug)]
pub(super) struct SignInPauses {
    names: Mutex<HashMap<String, FailedTries>>,
    /// Permits for hashing passwords. They are few, because each hash takes 19 MiB of memory and a processor core for a
    /// moment.
    hashing: Arc<Semaphore>,
}

#[derive(Clone, Copy, Debug)]
struct FailedTries {
    count: u32,
    until: Timestamp,
}

impl Default for SignInPauses {
    fn default() -> Self {
        Self { names: Mutex::default(), hashing: Arc::new(Semaphore::new(HASHES)) }
    }
}

impl SignInPauses {
    /// Begins an attempt to sign in. If the attempt fails, a pause follows: 1 s at first, and twice as long after each
    /// further failure. Returns this pause. If the pause after an earlier failure is not over, refuses the attempt:
    /// returns the remaining time as an error.
    fn begin_try(&self, name: &str, now: Timestamp) -> Result<Duration, Duration> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MAX_NAMES {
            names.retain(|_, failed| failed.until > now);
        }
        if names.len() >= MAX_NAMES {
            names.clear(); // an attack with very many names; new names have no pause anyway
        }
        let failed = names.entry(name.to_owned()).or_insert(FailedTries { count: 0, until: now });
        let rest = failed.until.since(now);
        if !rest.is_zero() {
            return Err(rest);
        }
        let pause = LONGEST_PAUSE.min(Duration::from_secs(1 << failed.count.min(10)));
        *failed = FailedTries { count: failed.count.saturating_add(1), until: now + pause };
        Ok(pause)
    }

    fn forget(&self, name: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// Responds with the sign-in page.
pub(super) async fn page(Extension(viewer): Extension<Viewer>, Query(next): Query<NextPage>) -> Response {
    pages::sign_in(&viewer, &local_path(next.next), None).into_response()
}

/// Checks name, password and second factor, and opens a session.
pub(super) async fn sign_in(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Form(form): Form<SignInForm>,
) -> Response {
    let next = local_path(form.next.clone());
    let name: String = form.user.trim().chars().take(64).collect();
    let permit = Arc::clone(&state.pauses.hashing).acquire_owned().await.ok();
    // The pause begins before the password is checked. Otherwise an attacker could make many attempts at the same time
    // without a pause.
    let pause = match state.pauses.begin_try(&name, wall_clock()) {
        Ok(pause) => pause,
        Err(rest) => {
            return (StatusCode::TOO_MANY_REQUESTS, pages::sign_in(&viewer, &next, Some(rest))).into_response();
        }
    };
    match open_session(&state, &name, SignInSecrets { password: form.password, code: form.code }, permit).await {
        Ok(Some(token)) => {
            state.pauses.forget(&name);
            let secure = if access::session_cookie(&state).starts_with("__Host-") { "; Secure" } else { "" };
            let cookie = format!("{}={token}; Path=/; HttpOnly; SameSite=Lax{secure}", access::session_cookie(&state));
            ([(header::SET_COOKIE, cookie)], Redirect::to(&next)).into_response()
        }
        Ok(None) => (StatusCode::UNAUTHORIZED, pages::sign_in(&viewer, &next, Some(pause))).into_response(),
        Err(error) => access::failed(&error),
    }
}

/// The secrets of a sign-in: the password, and the code of the second factor.
struct SignInSecrets {
    password: String,
    code: String,
}

async fn open_session(
    state: &ConsoleState,
    name: &str,
    secrets: SignInSecrets,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<Option<String>, super::server::StateError> {
    let name = name.to_owned();
    state
        .with_accounts(move |accounts| {
            let _permit = permit; // held until the hash is done, even if the client disconnects
            let user: Option<UserAccount> = accounts.check_password(&name, &secrets.password)?;
            let is_whole = user.is_some() && accounts.check_totp(&name, &secrets.code, wall_clock())?;
            let user = user.filter(|_| is_whole);
            match user {
                Some(_) => accounts.record(&name, AuditAction::SignedIn, None, "", wall_clock())?,
                None => accounts.record_failed_sign_in(&name, wall_clock())?,
            }
            user.map(|user| Ok(accounts.open_session(&user.name, wall_clock())?.token)).transpose()
        })
        .await
}

/// Ends the session of the request, i.e. signs the user out.
pub(super) async fn sign_out(State(state): State<ConsoleState>, headers: HeaderMap) -> Response {
    let name = access::session_cookie(&state);
    if let Some(token) = access::cookie(&headers, name).map(str::to_owned) {
        let closed = state.with_accounts(move |accounts| accounts.close_session(&token)).await;
        if let Err(error) = closed {
            return access::failed(&error);
        }
    }
    let secure = if name.starts_with("__Host-") { "; Secure" } else { "" };
    let cookie = format!("{name}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0{secure}");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response()
}

/// Returns the path to which the browser goes after the sign-in. A URL of another site is replaced by a path of the
/// console.
fn local_path(next: Option<String>) -> String {
    let is_local = |path: &String| {
        path.starts_with('/') && !path.starts_with("//") && !path.contains('\\') && !path.contains(char::is_control)
    };
    next.filter(is_local).unwrap_or_else(|| String::from("/calls"))
}

/// Maximum pause after a failed sign-in. It is short: an attacker who guesses passwords must not lock the real user out
/// for long.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Maximum number of user names that are stored with their pauses. It limits the memory that invented names can take.
const MAX_NAMES: usize = 1_000;
/// Maximum number of passwords that are hashed at the same time. It limits the memory, because each hash takes 19 MiB.
const HASHES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_end_with_the_right_password() {
        let (pauses, now) = (SignInPauses::default(), Timestamp::from_secs(1_000));
        let mut at = now;
        let mut seconds = Vec::new();
        for _ in 0..8 {
            let pause = pauses.begin_try("anna", at).unwrap();
            assert_eq!(pauses.begin_try("anna", at), Err(pause), "a second try at once");
            seconds.push(pause.as_secs());
            at = at + pause;
        }
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(pauses.begin_try("boris", now).is_ok());
        pauses.forget("anna");
        assert_eq!(pauses.begin_try("anna", at).unwrap().as_secs(), 1);
    }

    #[test]
    fn only_paths_of_this_site_are_followed() {
        for (given, followed) in [
            ("/calls?q=1", "/calls?q=1"),
            ("//evil.example", "/calls"),
            ("https://evil.example", "/calls"),
            ("/\\evil.example", "/calls"),
            ("/a\r\nX: y", "/calls"),
        ] {
            assert_eq!(local_path(Some(given.to_owned())), followed);
        }
    }
}
