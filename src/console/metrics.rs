//! The paths `/metrics` (for Prometheus), `/healthz` and `/readyz`. They need no login, because they contain no phone
//! number, no name and no call id.
//!
//! On the address of the console, only clients on this machine may use these paths. `console.metrics_listen` is a
//! separate address with only these paths, for other clients.

use std::path::PathBuf;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::access::{self, PeerAddress};
use super::control::refused;
use crate::ops::config::Config;
use crate::ops::disk::{FolderSpace, disk_space};
use crate::ops::metrics::{self, MeasuredFacts};
use crate::ops::self_test::SelfTestResult;
use crate::ops::status::ServiceReport;
use crate::service::clock::wall_clock;

/// The folders of the service. The metrics contain values from files in them, and the free space of their file systems.
#[derive(Clone, Debug)]
pub(super) struct MeasuredFolders {
    state: PathBuf,
    recording: PathBuf,
    spool: PathBuf,
}

impl MeasuredFolders {
    /// Returns the folders of state, recordings and spool (captured packets) that a configuration names.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            state: config.journal.dir.clone(),
            recording: config.recording.dir.clone(),
            spool: config.spool.dir.clone(),
        }
    }

    fn facts(&self) -> MeasuredFacts {
        let folders = [("recording", &self.recording), ("spool", &self.spool), ("state", &self.state)];
        let disks = folders
            .into_iter()
            .filter_map(|(name, path)| Some(FolderSpace { folder: name, space: disk_space(path).ok()? }));
        MeasuredFacts {
            report: ServiceReport::read(&self.state).unwrap_or_default(),
            disks: disks.collect(),
            test_call: SelfTestResult::read(&self.state),
        }
    }
}

/// Returns the routes for the address `console.metrics_listen`, which any client may use.
pub(super) fn routes(folders: MeasuredFolders) -> Router {
    Router::new()
        .route("/metrics", get(text))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .with_state(folders)
}

/// Returns the routes of the metrics for the address of the console (`console.listen`). Only clients on this machine
/// may use them; requests through a proxy are refused.
pub(super) fn local_routes(folders: MeasuredFolders) -> Router {
    routes(folders).layer(middleware::from_fn(only_local))
}

async fn only_local(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerAddress>().is_some_and(|peer| peer.0.is_loopback());
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if !peer || !host.is_some_and(access::is_local) || is_forwarded(request.headers()) {
        return refused(StatusCode::FORBIDDEN, "only for this machine: set console.metrics_listen for others");
    }
    next.run(request).await
}

/// Returns whether a proxy forwarded the request, as its headers show.
fn is_forwarded(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "x-real-ip"].iter().any(|name| headers.contains_key(*name))
}

async fn text(State(folders): State<MeasuredFolders>) -> Response {
    match measure(folders).await {
        Some(facts) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&facts)).into_response(),
        None => refused(StatusCode::SERVICE_UNAVAILABLE, "the folders do not answer"),
    }
}

/// Responds whether the service works. It works if the status file, which it writes every few seconds, is recent.
async fn health(State(folders): State<MeasuredFolders>) -> Response {
    let facts = measure(folders).await;
    let is_alive = facts.is_some_and(|facts| facts.report.is_alive(wall_clock()));
    verdict(is_alive.then_some(()).ok_or("the capture thread makes no progress"))
}

/// Responds whether calls can be recorded now, i.e. whether the capture thread works, an interface is up and no disk is
/// full.
async fn readiness(State(folders): State<MeasuredFolders>) -> Response {
    let Some(facts) = measure(folders).await else { return verdict(Err("the folders do not answer")) };
    let is_blocked = facts.report.alarms.iter().any(|alarm| alarm.kind.stops_recording());
    verdict(match (facts.report.is_alive(wall_clock()), facts.report.is_capturing) {
        (false, _) => Err("the capture thread makes no progress"),
        (true, false) => Err("no interface is up"),
        (true, true) if is_blocked => Err("a disk cannot be written"),
        (true, true) => Ok(()),
    })
}

fn verdict(result: Result<(), &'static str>) -> Response {
    match result {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// Reads the values of the metrics from the folders. Uses a thread for blocking work, because a disk may not answer.
async fn measure(folders: MeasuredFolders) -> Option<MeasuredFacts> {
    tokio::task::spawn_blocking(move || folders.facts()).await.ok()
}
