//! Pages and API about one call: its page, its record as JSON, its peaks (waveform data), and its rows of the audit
//! log.

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;

use super::access::{self, Viewer};
use super::accounts::{AccountRight, AuditAction, AuditEntry, AuditFilter, CallNote};
use super::control::refused;
use super::pages;
use super::server::{ConsoleState, StateError};
use super::sound::kept_packets;
use crate::call::record::CallRecord;
use crate::central::calls::OtherSiteCall;
use crate::delivery::row::JobRow;
use crate::delivery::story::DeliveryStory;
use crate::recording::peaks::RecordingPeaks;
use crate::time::Timestamp;

/// All facts that the page of one call shows.
#[derive(Debug, Default)]
pub(super) struct CallFacts {
    /// Record of the call.
    pub(super) record: CallRecord,
    /// Delivery of the call to Pyrus; `None` if this machine does not deliver the call.
    pub(super) job: Option<JobRow>,
    /// Reason why no call can be delivered at present. `None` if calls can be delivered, and for accounts that are not
    /// administrators.
    pub(super) delivery_alarm: Option<String>,
    /// Time and reason of the removal of the call's recordings; `None` if the recordings were not removed.
    pub(super) removed: Option<(Timestamp, String)>,
    /// Calls that the record names as related, e.g. the consultation before a transfer: only those that the account may
    /// see.
    pub(super) related: Vec<CallRecord>,
    /// Records that other sites made of the same call: only those that the account may see.
    pub(super) elsewhere: Vec<OtherSiteCall>,
    /// Peaks (waveform) of each file of the recording; `None` if the file is encrypted or has no peaks.
    pub(super) peaks: Vec<Option<RecordingPeaks>>,
    /// Numbers of the legs that have a file with kept packets (pcapng), counted from 1.
    pub(super) packets: Vec<u32>,
    /// Notes and tags that users wrote about the call.
    pub(super) notes: Vec<CallNote>,
    /// Rows of the audit log about the call: who listened to it.
    pub(super) heard_by: Vec<AuditEntry>,
    /// Beginning of the URL of a Pyrus task, before the task id; `None` without Pyrus.
    pub(super) task_url: Option<String>,
}

/// Query parameters of a request for the peaks (waveform data) of a recording.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PeaksQuery {
    n: Option<usize>,
}

/// Responds with the page of a call.
pub(super) async fn page(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
) -> Response {
    match facts(&state, &viewer, &id).await {
        Ok(Some(facts)) => pages::call::page(&viewer, &facts).into_response(),
        Ok(None) => access::missing(Some(&viewer), false),
        Err(error) => access::failed(&error),
    }
}

/// Responds with the call record as JSON.
pub(super) async fn api(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
) -> Response {
    match record(&state, &viewer, &id).await {
        Ok(Some(record)) => Json(record).into_response(),
        Ok(None) => access::missing(None, true),
        Err(error) => access::failed(&error),
    }
}

/// Responds with the call record as a file to download.
pub(super) async fn download_record(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
) -> Response {
    if !viewer.user.may(AccountRight::Download) {
        return refused(StatusCode::FORBIDDEN, "the account may not download");
    }
    match record(&state, &viewer, &id).await {
        Ok(Some(record)) => {
            if let Err(error) =
                state.record(&viewer, AuditAction::Downloaded, Some(&viewer.call_key(&record)), "record").await
            {
                return access::failed(&error);
            }
            let name = format!("attachment; filename=\"{}.json\"", record.id);
            ([(header::CONTENT_DISPOSITION, name)], Json(record)).into_response()
        }
        Ok(None) => access::missing(None, true),
        Err(error) => access::failed(&error),
    }
}

/// Responds with the peaks (waveforms) of all files of the recording as JSON. Each file is a list of pieces of sound.
/// Each piece has the extreme samples `[left low, left high, right low, right high]`.
pub(super) async fn peaks(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
    Query(query): Query<PeaksQuery>,
) -> Response {
    // Peaks reveal when somebody spoke. So only accounts that may hear the call get them.
    if !viewer.user.may(AccountRight::Play) {
        return access::missing(None, true);
    }
    let facts = match facts(&state, &viewer, &id).await {
        Ok(Some(facts)) => facts,
        Ok(None) => return access::missing(None, true),
        Err(error) => return access::failed(&error),
    };
    let pieces = query.n.unwrap_or(pages::waveform::PIECES).clamp(1, MAX_PIECES);
    let part = |peaks: &Option<RecordingPeaks>| {
        peaks.as_ref().map(|peaks| {
            let [left, right] = [0, 1].map(|channel| pages::waveform::reduced(&peaks.channels[channel], pieces));
            left.iter().zip(&right).map(|(l, r)| [l.0, l.1, r.0, r.1]).collect::<Vec<_>>()
        })
    };
    Json(serde_json::json!({ "parts": facts.peaks.iter().map(part).collect::<Vec<_>>() })).into_response()
}

/// Responds with the people who listened to a call, as JSON.
pub(super) async fn audit(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
) -> Response {
    match facts(&state, &viewer, &id).await {
        Ok(Some(facts)) => Json(facts.heard_by).into_response(),
        Ok(None) => access::missing(None, true),
        Err(error) => access::failed(&error),
    }
}

/// Responds with the list of requests to Pyrus about a call, as JSON.
pub(super) async fn delivery(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
) -> Response {
    let record = match record(&state, &viewer, &id).await {
        Ok(Some(record)) => record,
        Ok(None) => return access::missing(None, true),
        Err(error) => return access::failed(&error),
    };
    let id = record.id.clone();
    let read = state.read(&viewer, move |source| Ok((source.job(&id)?, source.delivery_alarm()?))).await;
    let (job, alarm) = match read {
        Ok(read) => read,
        Err(error) => return access::failed(&error),
    };
    let story = story_for(&viewer, job.as_ref());
    let mut answer =
        serde_json::json!({ "delivery": record.delivery, "attempts": story.attempts, "left_out": story.left_out });
    if let Some(job) = &job {
        answer["stage"] = job.stage.as_str().into();
        if let Some(at) = job.next_at.filter(|_| !job.is_settled()) {
            answer["next_at"] = at.to_rfc3339().into();
        }
    }
    if let Some(alarm) = alarm {
        answer["alarm"] = alarm.into();
    }
    Json(answer).into_response()
}

/// Returns the requests to Pyrus so far. Only for administrators do they contain the reasons of failures, because the
/// reasons name settings and hosts.
pub(super) fn story_for(viewer: &Viewer, job: Option<&JobRow>) -> DeliveryStory {
    let mut story = job.map(JobRow::story).unwrap_or_default();
    if !viewer.user.is_admin() {
        story.attempts.iter_mut().for_each(|attempt| attempt.reason = None);
    }
    story
}

/// Returns the record of a call; `None` if the call does not exist or is outside the scope of the account.
pub(super) async fn record(state: &ConsoleState, viewer: &Viewer, id: &str) -> Result<Option<CallRecord>, StateError> {
    if !viewer.user.may(AccountRight::List) {
        return Ok(None);
    }
    let (id, scope) = (id.to_owned(), viewer.user.visible());
    Ok(state.read(viewer, move |journal| journal.call_in_scope(&id, &scope)).await?.map(|call| call.record))
}

async fn facts(state: &ConsoleState, viewer: &Viewer, id: &str) -> Result<Option<CallFacts>, StateError> {
    let Some(record) = record(state, viewer, id).await? else { return Ok(None) };
    let is_here = state.centre.is_none();
    let (scope, may_hear) = (viewer.user.visible(), viewer.user.may(AccountRight::Play) && is_here);
    let key = viewer.call_key(&record);
    let related: Vec<String> =
        record.related.iter().take(MAX_RELATED).map(|id| viewer.call_key_at(&record.appliance, id)).collect();
    let facts = state
        .read(viewer, move |journal| {
            let mut found = Vec::new();
            for key in &related {
                found.extend(journal.call_in_scope(key, &scope)?.map(|call| call.record));
            }
            let peaks = record.recordings.iter().map(|file| {
                let path = std::path::Path::new(&file.path);
                if file.plain_sha256.is_none() && may_hear { RecordingPeaks::read(path) } else { None }
            });
            Ok(CallFacts {
                job: journal.job(&record.id)?,
                delivery_alarm: journal.delivery_alarm()?,
                removed: journal.removed(&record.id)?,
                related: found,
                elsewhere: journal.at_other_sites(&record, &scope)?,
                peaks: peaks.collect(),
                packets: (1..=MAX_LEGS).filter(|leg| is_here && kept_packets(&record, *leg).is_some()).collect(),
                record,
                ..CallFacts::default()
            })
        })
        .await?;
    let filter = AuditFilter { call_id: Some(key.clone()), ..AuditFilter::default() };
    let (heard_by, notes) =
        state.with_accounts(move |accounts| Ok((accounts.audit(&filter, MAX_ROWS)?, accounts.notes(&key)?))).await?;
    Ok(Some(CallFacts { heard_by, notes, task_url: state.site.task_url.clone(), ..facts }))
}

/// Maximum number of related calls on the page. Each of them is read from the journal.
const MAX_RELATED: usize = 20;
/// Maximum number of legs of a call for which the page looks for a file with kept packets (pcapng).
const MAX_LEGS: u32 = 16;
/// Maximum number of rows of the audit log on the page.
const MAX_ROWS: u32 = 20;
/// Maximum number of pieces into which the JSON of a waveform divides the recording, whatever number a client requests.
const MAX_PIECES: usize = 6_000;
