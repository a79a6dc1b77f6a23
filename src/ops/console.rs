//! The local HTTP API: pause and resume of a call, and the counters. It has no login, so it listens on loopback only.
//!
//! | request | answer |
//! |---|---|
//! | `POST /api/calls/{id}/pause`, `/resume` | 200 `{"id", "paused"}`; 404: no live call has this id; 503: too busy |
//! | `GET /api/status` | 200, [`ServiceStatus`] |
//!
//! The API runs on a thread of its own. Requests reach the capture thread over a bounded channel, which that thread polls
//! without waiting. Requests with a foreign Host or Origin are refused, so that no web page can pause a recording.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::call::pause::PauseAction;
use crate::journal::{self, Journal};
use crate::ops::drops::DropCounters;
use crate::ops::thread::StoppableThread;

/// Counters of the service, as `GET /api/status` returns them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ServiceStatus {
    /// Captured frames.
    pub(crate) frames: u64,
    /// Frames dropped by the kernel because its ring was full.
    pub(crate) dropped_by_kernel: u64,
    /// Frames dropped by the network interface.
    pub(crate) dropped_by_interface: u64,
    /// RTP packets that belong to known calls.
    pub(crate) rtp_packets: u64,
    /// Live calls.
    pub(crate) calls_live: usize,
    /// Live legs.
    pub(crate) legs_live: usize,
    /// Calls ended since the start.
    pub(crate) calls_ended: u64,
    /// Dropped calls and packets since the start.
    #[serde(rename = "left_aside")]
    pub(crate) drops: DropCounters,
    /// Calls that still have to be delivered to Pyrus; absent if the journal cannot be read at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owed: Option<usize>,
}

/// A pause or resume request that waits for the capture thread.
#[derive(Debug)]
pub(crate) struct PauseRequest {
    /// Id of the call.
    pub(crate) id: String,
    /// Pause or resume.
    pub(crate) order: PauseAction,
    reply: oneshot::Sender<Option<bool>>,
}

impl PauseRequest {
    /// Sends the reply: whether the call is paused now, or `None` if no live call has this id.
    pub(crate) fn answer(self, paused: Option<bool>) {
        let _ = self.reply.send(paused); // the client may have closed its connection
    }
}

/// Why the API could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsoleError {
    /// The address is reachable from the network.
    #[error("console.listen = {0} is reachable from the network: use 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The port cannot be opened, or the thread cannot be started.
    #[error(
        "the console cannot listen on {0} ({1}): set console.listen to another port, or stop the program that uses it"
    )]
    Io(SocketAddr, std::io::Error),
}

/// The running API. It stops when it is dropped.
pub(crate) struct ConsoleServer {
    addr: SocketAddr,
    requests: Receiver<PauseRequest>,
    status: Arc<Mutex<ServiceStatus>>,
    thread: Option<StoppableThread<oneshot::Sender<()>>>,
}

#[derive(Clone)]
struct ApiState {
    requests: Sender<PauseRequest>,
    status: Arc<Mutex<ServiceStatus>>,
    journal: journal::config::Config,
}

impl ConsoleServer {
    /// Starts the API.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub(crate) fn start(listen: SocketAddr, journal: journal::config::Config) -> Result<Self, ConsoleError> {
        if !listen.ip().is_loopback() {
            return Err(ConsoleError::NotLoopback(listen));
        }
        let failed = |error| ConsoleError::Io(listen, error);
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (requests_tx, requests) = crossbeam_channel::bounded(MAX_REQUESTS);
        let status = Arc::new(Mutex::new(ServiceStatus::default()));
        let shared = ApiState { requests: requests_tx, status: Arc::clone(&status), journal };
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = async move {
            let served = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => tokio::select! {
                    served = axum::serve(listener, router(shared)).into_future() => served,
                    _ = stopped => Ok(()),
                },
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!("the local API has stopped: {error}");
            }
        };
        let thread = StoppableThread::start_with("console", stop, move || runtime.block_on(serve)).map_err(failed)?;
        Ok(Self { addr, requests, status, thread: Some(thread) })
    }

    /// Returns the next request, if there is one. Never waits.
    pub(crate) fn poll_request(&self) -> Option<PauseRequest> {
        self.requests.try_recv().ok()
    }

    /// Sets the counters that `GET /api/status` returns.
    pub(crate) fn publish(&self, status: ServiceStatus) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Returns the address and port of the API.
    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for ConsoleServer {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.stop();
        }
    }
}

fn router(shared: ApiState) -> Router {
    Router::new()
        .route("/api/status", get(status))
        .route("/api/calls/{id}/pause", post(pause))
        .route("/api/calls/{id}/resume", post(resume))
        .layer(middleware::from_fn(refuse_foreign))
        .with_state(shared)
}

/// Refuses requests of web pages. A page can send a POST to any address, and can resolve its own name to 127.0.0.1, but it
/// cannot hide its Origin or Host.
async fn refuse_foreign(request: Request, next: Next) -> Response {
    if is_foreign(request.headers()) {
        return refused(StatusCode::FORBIDDEN, "only requests from this machine are allowed");
    }
    next.run(request).await
}

fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).is_some_and(|host| !is_local(host));
    host || text(header::ORIGIN).is_some_and(|origin| !origin.split_once("//").is_some_and(|(_, host)| is_local(host)))
}

/// Returns true for `localhost`, `127.0.0.1:8080`, `[::1]:8080` and the like.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn status(State(shared): State<ApiState>) -> Response {
    let mut status = *shared.status.lock().unwrap_or_else(PoisonError::into_inner);
    let journal = shared.journal.clone();
    let owed = tokio::task::spawn_blocking(move || {
        let jobs = Journal::open_read_only(&journal).and_then(|journal| journal.load_jobs());
        jobs.ok().map(|jobs| jobs.iter().filter(|job| !job.is_settled()).count())
    });
    status.owed = owed.await.unwrap_or_default();
    Json(status).into_response()
}

async fn pause(State(shared): State<ApiState>, Path(id): Path<String>) -> Response {
    send_request(&shared, id, PauseAction::Pause).await
}

async fn resume(State(shared): State<ApiState>, Path(id): Path<String>) -> Response {
    send_request(&shared, id, PauseAction::Resume).await
}

/// Sends a request to the capture thread and waits for its reply.
async fn send_request(shared: &ApiState, id: String, order: PauseAction) -> Response {
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

fn refused(status: StatusCode, why: &str) -> Response {
    (status, Json(serde_json::json!({ "error": why }))).into_response()
}

/// Requests that can wait for the capture thread, which handles them after each frame.
const MAX_REQUESTS: usize = 64;
/// Longest wait for the capture thread, which handles requests at least every 100 ms.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    fn console() -> (ConsoleServer, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let journal = journal::config::Config { dir: dir.path().to_owned() };
        drop(Journal::open(&journal).expect("a journal"));
        (ConsoleServer::start("127.0.0.1:0".parse().expect("an address"), journal).expect("serves"), dir)
    }

    /// Sends a request, answers it in place of the capture thread by `answer`, and returns status and body.
    fn ask(
        console: &ConsoleServer,
        request: &str,
        answer: impl Fn(&PauseRequest) -> Option<bool> + Sync,
    ) -> (u16, String) {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let mut stream = std::net::TcpStream::connect(console.addr()).expect("connects");
                stream.write_all(request.as_bytes()).expect("writes");
                let mut reply = String::new();
                stream.read_to_string(&mut reply).expect("reads");
                let status = reply.get(9..12).and_then(|s| s.parse().ok()).expect("a status");
                (status, reply.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
            });
            while !asked.is_finished() {
                if let Some(request) = console.poll_request() {
                    let paused = answer(&request);
                    request.answer(paused);
                }
                std::thread::yield_now();
            }
            asked.join().expect("asked")
        })
    }

    fn request(line: &str, head: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: 127.0.0.1:1\r\n{head}Connection: close\r\nContent-Length: 0\r\n\r\n")
    }

    #[test]
    fn pause_request_reaches_the_capture_thread_and_gets_its_reply() {
        let (console, _dir) = console();
        let known = |order: &PauseRequest| (order.id == "2026-abc").then_some(order.order == PauseAction::Pause);
        let post = |id: &str, what: &str| ask(&console, &request(&format!("POST /api/calls/{id}/{what}"), ""), known);
        assert_eq!(post("2026-abc", "pause"), (200, String::from(r#"{"id":"2026-abc","paused":true}"#)));
        assert_eq!(post("2026-abc", "resume"), (200, String::from(r#"{"id":"2026-abc","paused":false}"#)));
        assert_eq!(post("another", "pause").0, 404);
        assert_eq!(post("2026-abc", "delete").0, 404);
        assert_eq!(ask(&console, &request("GET /api/calls/x/pause", ""), known).0, 405);
    }

    #[test]
    fn status_returns_published_counters_and_owed_calls() {
        let (console, _dir) = console();
        console.publish(ServiceStatus { frames: 7, calls_live: 2, ..ServiceStatus::default() });
        let (status, body) = ask(&console, &request("GET /api/status", ""), |_| None);
        assert_eq!(status, 200);
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&body["frames"], &body["calls_live"], &body["owed"]), (&7.into(), &2.into(), &0.into()));
    }

    #[test]
    fn foreign_requests_are_refused() {
        let (console, _dir) = console();
        let foreign = request("POST /api/calls/x/pause", "Origin: https://example.org\r\n");
        assert_eq!(ask(&console, &foreign, |_| Some(true)).0, 403);
        let rebound = request("POST /api/calls/x/pause", "").replace("127.0.0.1:1", "example.org");
        assert_eq!(ask(&console, &rebound, |_| Some(true)).0, 403);
        let own = request("POST /api/calls/x/pause", "Origin: http://localhost:1\r\n");
        assert_eq!(ask(&console, &own, |_| Some(true)).0, 200);
        let refused =
            ConsoleServer::start("0.0.0.0:0".parse().expect("an address"), journal::config::Config::default());
        assert!(matches!(refused, Err(ConsoleError::NotLoopback(_))));
    }
}
