//! Requests to pause and resume the recording of a call in progress, and the counters of the service.
//!
//! | request | answer |
//! |---|---|
//! | `POST /api/calls/{id}/pause`, `/resume` | 200 `{"id", "paused"}`; 404: no live call has this id; 503: too busy |
//! | `GET /api/status` | 200, [`ServiceStatus`], and the mirror ports |
//!
//! A request to pause or resume reaches the capture thread through a bounded channel. The capture thread polls the
//! channel and never waits for it.

use std::sync::PoisonError;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use crossbeam_channel::TrySendError;
use serde::Serialize;
use tokio::sync::oneshot;

use super::access::{self, Viewer};
use super::accounts::{AccountRight, AuditAction};
use super::pages::refusal::RefusalReason;
use super::server::ConsoleState;
use crate::call::pause::PauseAction;
use crate::journal::Journal;
use crate::ops::drops::DropCounters;
use crate::ops::status::ServiceReport;
use crate::ops::taps::TapReport;

/// Counters of the service since its start, as `GET /api/status` returns them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ServiceStatus {
    /// Number of frames captured since the start.
    pub(crate) frames: u64,
    /// Number of frames dropped by the kernel because its buffer was full.
    pub(crate) dropped_by_kernel: u64,
    /// Number of frames dropped by the network interfaces.
    pub(crate) dropped_by_interface: u64,
    /// Number of RTP packets that belong to known calls.
    pub(crate) rtp_packets: u64,
    /// Number of calls in progress.
    pub(crate) calls_live: usize,
    /// Number of legs of calls in progress.
    pub(crate) legs_live: usize,
    /// Number of calls that ended since the start.
    pub(crate) calls_ended: u64,
    /// Number of open alarms, i.e. of alarms about a problem that has not ended.
    pub(crate) alarms: usize,
    /// Counts of dropped calls and packets since the start.
    #[serde(rename = "left_aside")]
    pub(crate) drops: DropCounters,
    /// Number of calls still to be delivered to Pyrus; `None` if the journal (database of calls) cannot be read at the
    /// moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owed: Option<usize>,
}

/// Answer to `GET /api/status`: the counters of the service, and the counters of each capture interface.
#[derive(Serialize)]
struct StatusAnswer {
    #[serde(flatten)]
    status: ServiceStatus,
    /// Counters and packets a second of each capture interface, at most five seconds old.
    ports: Vec<TapReport>,
}

/// A pause or resume request that waits for the capture thread.
#[derive(Debug)]
pub(crate) struct PauseRequest {
    /// Id of the call to pause or resume.
    pub(crate) id: String,
    /// Whether to pause or to resume the recording.
    pub(crate) order: PauseAction,
    pub(super) reply: oneshot::Sender<Option<bool>>,
}

impl PauseRequest {
    /// Replies to the request: whether the recording is now paused, or `None` if no call in progress has this id.
    pub(crate) fn answer(self, paused: Option<bool>) {
        let _ = self.reply.send(paused); // the client may have closed its connection
    }
}

/// Responds with the counters of the service. They include calls that a listener may not know of, so they are for
/// administrators only.
pub(super) async fn status(State(shared): State<ConsoleState>, Extension(viewer): Extension<Viewer>) -> Response {
    if !viewer.user.is_admin() {
        return access::missing(None, true);
    }
    let mut status = *shared.status.lock().unwrap_or_else(PoisonError::into_inner);
    let journal = shared.journal_config.clone();
    let home = shared.site.state_folder.clone();
    let read = tokio::task::spawn_blocking(move || {
        let jobs = Journal::open_read_only(&journal).and_then(|journal| journal.load_jobs());
        let owed = jobs.ok().map(|jobs| jobs.iter().filter(|job| !job.is_settled()).count());
        (owed, ServiceReport::read(&home).map(|report| report.taps).unwrap_or_default())
    });
    let (owed, ports) = read.await.unwrap_or_default();
    status.owed = owed;
    Json(StatusAnswer { status, ports }).into_response()
}

pub(super) async fn pause(state: State<ConsoleState>, viewer: Extension<Viewer>, id: Path<String>) -> Response {
    control(state.0, viewer.0, id.0, PauseAction::Pause).await
}

pub(super) async fn resume(state: State<ConsoleState>, viewer: Extension<Viewer>, id: Path<String>) -> Response {
    control(state.0, viewer.0, id.0, PauseAction::Resume).await
}

/// Handles a request to pause or resume the recording of a call. If the call is outside the account's scope, the
/// response is the same as for an unknown call.
async fn control(state: ConsoleState, viewer: Viewer, id: String, order: PauseAction) -> Response {
    if !viewer.is_local() {
        if !viewer.user.may(AccountRight::Live) {
            return refused(StatusCode::FORBIDDEN, "the account may not pause recordings");
        }
        let (wanted, scope) = (id.clone(), viewer.user.visible());
        let found = state.read(&viewer, move |journal| journal.call_in_scope(&wanted, &scope)).await;
        if !matches!(found, Ok(Some(_))) {
            return refused(StatusCode::NOT_FOUND, "no live call has this id");
        }
        if state.record(&viewer, AuditAction::Paused, Some(&id), &format!("{order:?}").to_lowercase()).await.is_err() {
            return refused(StatusCode::SERVICE_UNAVAILABLE, "the audit cannot be written");
        }
    }
    send_request(&state, id, order).await
}

/// Sends a request to pause or resume a recording to the capture thread, and waits for the reply.
async fn send_request(shared: &ConsoleState, id: String, order: PauseAction) -> Response {
    let (reply, answer) = oneshot::channel();
    match shared.requests.try_send(PauseRequest { id: id.clone(), order, reply }) {
        Ok(()) => {}
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
            return refused(StatusCode::SERVICE_UNAVAILABLE, "too many requests are waiting");
        }
    }
    match tokio::time::timeout(REPLY_TIMEOUT, answer).await {
        Ok(Ok(Some(paused))) => Json(serde_json::json!({ "id": id, "paused": paused })).into_response(),
        Ok(Ok(None)) => refused(StatusCode::NOT_FOUND, "no live call has this id"),
        Ok(Err(_)) | Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "the capture thread does not answer"),
    }
}

/// Returns the response to a refused request, as JSON. For a person, [`access::guard`] makes a page of it.
pub(super) fn refused(status: StatusCode, why: &str) -> Response {
    let mut response = (status, Json(serde_json::json!({ "error": why }))).into_response();
    response.extensions_mut().insert(RefusalReason(why.to_owned()));
    response
}

/// Maximum number of requests that wait for the capture thread. The thread handles all of them after each frame.
pub(super) const MAX_REQUESTS: usize = 64;
/// Maximum time to wait for the reply of the capture thread. Normally the thread handles requests within 100 ms.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
