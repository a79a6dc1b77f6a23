//! Changes of a call by an administrator: retry, hold, release. The service takes them up from the journal.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use serde::Deserialize;

use super::access::{self, Viewer};
use super::accounts::AuditAction;
use super::control::refused;
use super::server::ConsoleState;
use crate::journal::Journal;
use crate::service::clock::wall_clock;

/// The form of a hold.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ChangeForm {
    #[serde(default)]
    why: String,
}

/// Does a change, and returns to the page of the call.
pub(super) async fn change(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Path((id, action)): Path<(String, String)>,
    Form(form): Form<ChangeForm>,
) -> Response {
    if !viewer.user.is_admin() {
        return refused(StatusCode::FORBIDDEN, "only an administrator changes calls");
    }
    match super::call::record(&state, &viewer, &id).await {
        Ok(Some(_)) => {}
        Ok(None) => return access::missing(Some(&viewer), false),
        Err(error) => return access::failed(&error),
    }
    let why: String = form.why.trim().chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    let detail = if why.is_empty() { action.clone() } else { format!("{action}: {why}") };
    if !ACTIONS.contains(&action.as_str()) {
        return access::missing(Some(&viewer), false);
    }
    if let Err(error) = state.record(&viewer, AuditAction::Changed, Some(&id), &detail).await {
        return access::failed(&error);
    }
    let (config, call) = (state.journal_config.clone(), id.clone());
    let done = tokio::task::spawn_blocking(move || {
        let journal = Journal::open_for_requests(&config)?;
        match action.as_str() {
            "retry" => journal.request_retry(&call),
            "hold" => journal.hold(&call, wall_clock(), Some(why.as_str()).filter(|why| !why.is_empty())),
            _ => journal.release(&call).map(drop),
        }
    });
    match done.await {
        Ok(Ok(())) => Redirect::to(&format!("/calls/{id}")).into_response(),
        Ok(Err(error)) => access::failed(&super::server::StateError::Journal(error)),
        Err(_) => access::failed(&super::server::StateError::Panicked),
    }
}

const ACTIONS: [&str; 3] = ["retry", "hold", "release"];
/// Most characters of a reason.
const MAX_REASON: usize = 200;
