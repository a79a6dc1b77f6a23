//! The local API: pause and resume of a call, and the counters. Loopback only: there is no login.
//!
//! | request | answer |
//! |---|---|
//! | `POST /api/calls/{id}/pause`, `/resume` | 200 `{"id", "paused"}`; 404: no such call is under way; 503: too busy |
//! | `GET /api/status` | 200, [`ServiceStatus`] |
//!
//! A thread of its own serves; orders go to the capture thread over a bounded channel, which polls it and never waits.
//! A page in a browser on this machine cannot give orders: what names a foreign Host or Origin is refused.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
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

/// What the capture thread counted, published now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServiceStatus {
    /// Frames that were read.
    pub frames: u64,
    /// Frames that the kernel had no room for.
    pub dropped_by_kernel: u64,
    /// Frames that the interface had no room for.
    pub dropped_by_interface: u64,
    /// RTP packets of known calls.
    pub rtp_packets: u64,
    /// Calls under way.
    pub calls_live: usize,
    /// Legs under way.
    pub legs_live: usize,
    /// Calls that have ended since the start.
    pub calls_ended: u64,
    /// What did not fit into a table or could not be read, since the start.
    #[serde(rename = "left_aside")]
    pub drops: DropCounters,
    /// Calls of which something is still owed to Pyrus; absent when the journal cannot be read just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owed: Option<usize>,
}

/// An order that waits for the capture thread.
#[derive(Debug)]
pub struct PauseRequest {
    /// Id of the call.
    pub id: String,
    /// What is to be done.
    pub order: PauseAction,
    reply: oneshot::Sender<Option<bool>>,
}

impl PauseRequest {
    /// Says whether the call is paused now; `None`: there is no such call under way.
    pub fn answer(self, paused: Option<bool>) {
        let _ = self.reply.send(paused); // whoever asked has gone away
    }
}

/// Why the console cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// It would be open to the network.
    #[error("console.listen = {0} is not an address of this machine alone: use 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The port cannot be had, or the thread cannot be started.
    #[error(
        "the console cannot listen on {0} ({1}): set console.listen to another address and port, or stop what has it"
    )]
    Io(SocketAddr, std::io::Error),
}

/// The console while it serves.
pub struct ConsoleServer {
    addr: SocketAddr,
    orders: Receiver<PauseRequest>,
    status: Arc<Mutex<ServiceStatus>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct ApiState {
    orders: Sender<PauseRequest>,
    status: Arc<Mutex<ServiceStatus>>,
    journal: journal::config::Config,
}

impl ConsoleServer {
    /// Begins to serve.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn start(listen: SocketAddr, journal: journal::config::Config) -> Result<Self, ConsoleError> {
        if !listen.ip().is_loopback() {
            return Err(ConsoleError::NotLoopback(listen));
        }
        let failed = |error| ConsoleError::Io(listen, error);
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (orders_tx, orders) = crossbeam_channel::bounded(MAX_ORDERS);
        let status = Arc::new(Mutex::new(ServiceStatus::default()));
        let shared = ApiState { orders: orders_tx, status: Arc::clone(&status), journal };
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
                tracing::error!("the console has ended: {error}");
            }
        };
        let thread = std::thread::Builder::new().name(String::from("console"));
        let thread = thread.spawn(move || runtime.block_on(serve)).map_err(failed)?;
        Ok(Self { addr, orders, status, stop: Some(stop), thread: Some(thread) })
    }

    /// The next order; does not wait.
    pub fn poll_order(&self) -> Option<PauseRequest> {
        self.orders.try_recv().ok()
    }

    /// What `GET /api/status` says from now on.
    pub fn publish(&self, status: ServiceStatus) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for ConsoleServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there was reported when it happened
        }
    }
}

fn router(shared: ApiState) -> Router {
    Router::new()
        .route("/api/status", get(status))
        .route("/api/calls/{id}/pause", post(pause))
        .route("/api/calls/{id}/resume", post(resume))
        .layer(middleware::from_fn(only_from_here))
        .with_state(shared)
}

/// A web page may send a POST anywhere, and may bind its own name to 127.0.0.1; it cannot hide either.
async fn only_from_here(request: Request, next: Next) -> Response {
    if is_foreign(request.headers()) {
        return refused(StatusCode::FORBIDDEN, "only requests of this machine itself are served");
    }
    next.run(request).await
}

fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).is_some_and(|host| !is_local(host));
    host || text(header::ORIGIN).is_some_and(|origin| !origin.split_once("//").is_some_and(|(_, host)| is_local(host)))
}

/// `localhost`, `127.0.0.1:8080`, `[::1]:8080`.
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
    give(&shared, id, PauseAction::Pause).await
}

async fn resume(State(shared): State<ApiState>, Path(id): Path<String>) -> Response {
    give(&shared, id, PauseAction::Resume).await
}

/// Gives an order to the capture thread and waits for what came of it.
async fn give(shared: &ApiState, id: String, order: PauseAction) -> Response {
    let (reply, answer) = oneshot::channel();
    match shared.orders.try_send(PauseRequest { id: id.clone(), order, reply }) {
        Ok(()) => {}
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
            return refused(StatusCode::SERVICE_UNAVAILABLE, "too many orders are waiting");
        }
    }
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Some(paused))) => Json(serde_json::json!({ "id": id, "paused": paused })).into_response(),
        Ok(Ok(None)) => refused(StatusCode::NOT_FOUND, "no such call is under way"),
        Ok(Err(_)) | Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "the capture does not answer"),
    }
}

fn refused(status: StatusCode, why: &str) -> Response {
    (status, Json(serde_json::json!({ "error": why }))).into_response()
}

/// Orders that wait for the capture thread; it looks at them after each frame.
const MAX_ORDERS: usize = 64;
/// The capture thread looks at least each 100 ms, when the wire is silent.
const PATIENCE: Duration = Duration::from_secs(5);

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

    /// ServiceStatus and body of one request; the capture thread is played by `answer`.
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
                if let Some(order) = console.poll_order() {
                    let paused = answer(&order);
                    order.answer(paused);
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
    fn an_order_reaches_the_capture_thread_and_its_answer_the_caller() {
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
    fn the_status_says_what_was_published_and_what_is_owed() {
        let (console, _dir) = console();
        console.publish(ServiceStatus { frames: 7, calls_live: 2, ..ServiceStatus::default() });
        let (status, body) = ask(&console, &request("GET /api/status", ""), |_| None);
        assert_eq!(status, 200);
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&body["frames"], &body["calls_live"], &body["owed"]), (&7.into(), &2.into(), &0.into()));
    }

    #[test]
    fn what_comes_from_elsewhere_is_refused() {
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
