//! Changes of a call. Administrators can request a retry of the delivery to Pyrus, or place and end a retention hold
//! (the call's files are kept). The service reads these requests from the journal. Accounts with the right
//! [`AccountRight::Notes`] can write notes and tags.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form, Json};
use serde::Deserialize;

use super::access::{self, Viewer};
use super::accounts::{AccountError, AccountRight, AuditAction, NoteKind};
use super::control::refused;
use super::server::{ConsoleState, StateError};
use crate::journal::Journal;
use crate::service::clock::wall_clock;

/// A change that a user can make to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallChange {
    Retry,
    Hold,
    Release,
    Note,
    Tag,
    RemoveNote,
}

impl CallChange {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "retry" => Self::Retry,
            "hold" => Self::Hold,
            "release" => Self::Release,
            "note" => Self::Note,
            "tag" => Self::Tag,
            "unnote" => Self::RemoveNote,
            _ => return None,
        })
    }

    const fn is_remark(self) -> bool {
        matches!(self, Self::Note | Self::Tag | Self::RemoveNote)
    }
}

/// Fields of the form with which a browser requests a change.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChangeForm {
    /// Reason of a retention hold (which keeps the files of the call), as people see it later.
    why: String,
    /// Text of the new note or tag.
    text: String,
    /// Number of the note or tag to remove.
    n: Option<i64>,
}

/// Changes a call as the form requests, e.g. adds a note. A browser is sent back to the page of the call; a program
/// gets JSON.
pub(super) async fn change(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Path((id, action)): Path<(String, String)>,
    Form(form): Form<ChangeForm>,
) -> Response {
    let is_api = viewer.here.starts_with("/api/");
    let Some(change) = CallChange::parse(&action) else { return access::missing(Some(&viewer), is_api) };
    let is_allowed = if change.is_remark() { viewer.user.may(AccountRight::Notes) } else { viewer.user.is_admin() };
    if state.centre.is_some() && !change.is_remark() {
        return access::missing(Some(&viewer), is_api); // a central console cannot change calls of sites
    }
    if !is_allowed {
        return refused(StatusCode::FORBIDDEN, "the account may not make this change");
    }
    let id = match super::call::record(&state, &viewer, &id).await {
        Ok(Some(record)) => viewer.call_key(&record),
        Ok(None) => return access::missing(Some(&viewer), is_api),
        Err(error) => return access::failed(&error),
    };
    let done = match change.is_remark() {
        true => remark(&state, &viewer, &id, change, form).await,
        false => request(&state, &viewer, &id, change, &form.why).await,
    };
    match done {
        Ok(()) if is_api => Json(serde_json::json!({ "id": id, "done": action })).into_response(),
        Ok(()) => Redirect::to(&format!("/calls/{id}")).into_response(),
        Err(StateError::Accounts(AccountError::Refused(why))) => refused(StatusCode::UNPROCESSABLE_ENTITY, why),
        Err(error) => access::failed(&error),
    }
}

/// Returns the notes and tags of a call as JSON.
pub(super) async fn notes(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
) -> Response {
    let id = match super::call::record(&state, &viewer, &id).await {
        Ok(Some(record)) => viewer.call_key(&record),
        Ok(None) => return access::missing(None, true),
        Err(error) => return access::failed(&error),
    };
    match state.with_accounts(move |accounts| accounts.notes(&id)).await {
        Ok(notes) => Json(notes).into_response(),
        Err(error) => access::failed(&error),
    }
}

/// Writes a note or tag about a call, or removes it. Only the author of the note or tag, or an administrator, may
/// remove it.
async fn remark(
    state: &ConsoleState,
    viewer: &Viewer,
    id: &str,
    change: CallChange,
    form: ChangeForm,
) -> Result<(), StateError> {
    let (id, who, is_admin) = (id.to_owned(), viewer.user.name.clone(), viewer.user.is_admin());
    let work = move |accounts: &super::accounts::Accounts| {
        let now = wall_clock();
        let (done, detail) = match change {
            CallChange::RemoveNote => {
                let n = form.n.unwrap_or_default();
                let notes = accounts.notes(&id)?;
                let is_own = notes.iter().any(|note| note.n == n && (is_admin || note.who == who));
                (is_own && accounts.remove_note(&id, n)?, format!("removed {n}"))
            }
            CallChange::Tag => {
                (accounts.add_note(&id, &who, NoteKind::Tag, &form.text, now).map(|()| true)?, "tag".into())
            }
            _ => (accounts.add_note(&id, &who, NoteKind::Note, &form.text, now).map(|()| true)?, "note".into()),
        };
        if done { accounts.record(&who, AuditAction::Noted, Some(&id), &detail, now) } else { Ok(()) }
    };
    state.with_accounts(work).await
}

/// Writes a request to the journal, where the service finds it: a retry of the delivery, or the start or end of a
/// retention hold.
async fn request(
    state: &ConsoleState,
    viewer: &Viewer,
    id: &str,
    change: CallChange,
    why: &str,
) -> Result<(), StateError> {
    let why: String = why.trim().chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    let word = format!("{change:?}").to_lowercase();
    let detail = if why.is_empty() { word } else { format!("{word}: {why}") };
    state.record(viewer, AuditAction::Changed, Some(id), &detail).await?;
    let (config, call) = (state.journal_config.clone(), id.to_owned());
    let done = tokio::task::spawn_blocking(move || {
        let journal = Journal::open_for_requests(&config)?;
        match change {
            CallChange::Retry => journal.request_retry(&call),
            CallChange::Hold => journal.hold(&call, wall_clock(), Some(why.as_str()).filter(|why| !why.is_empty())),
            _ => journal.release(&call).map(drop),
        }
    });
    Ok(done.await.map_err(|_| StateError::Panicked)??)
}

/// Requests another try of every delivery that is parked (waits for a person) or was given up.
pub(super) async fn retry_all(State(state): State<ConsoleState>, Extension(viewer): Extension<Viewer>) -> Response {
    if !viewer.user.is_admin() {
        return refused(StatusCode::FORBIDDEN, "the account may not make this change");
    }
    if let Err(error) = state.record(&viewer, AuditAction::Changed, None, "retry of all failed deliveries").await {
        return access::failed(&error);
    }
    let config = state.journal_config.clone();
    let done = tokio::task::spawn_blocking(move || Journal::open_for_requests(&config)?.request_retry_of_failed());
    match done.await {
        Ok(Ok(count)) if viewer.here.starts_with("/api/") => {
            Json(serde_json::json!({ "retried": count })).into_response()
        }
        Ok(Ok(_)) => Redirect::to("/health").into_response(),
        Ok(Err(error)) => access::failed(&error.into()),
        Err(_) => access::failed(&StateError::Panicked),
    }
}

/// Maximum length of the reason for a retention hold, characters.
const MAX_REASON: usize = 200;
