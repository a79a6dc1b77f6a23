//! The listeners of the fake, and the processing of a request from its bytes to its reply.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::clock::real_now;
use super::control;
use super::fault_effects::{self, BodyStop, EarlyAction, STALL};
use super::faults::FakeEndpoint;
use super::http::{
    BodyError, BodyFraming, ConnectionReuse, HttpConnection, ReplyDelivery, RequestBody, RequestHead, RequestHeadError,
    pause,
};
use super::multipart::{self, MultipartParser};
use super::options::{PyrusMode, TooLargeReply};
use super::reply::{FakeReply, ReplyMode};
use super::routes::{ApiHost, PyrusRoute, RequestPayload};
use super::state::{MAX_BYTES_KEPT, MAX_FILE_KEPT};
use super::world::{FakeWorld, RequestLogEntry, RequestTicket};

/// State that all connections share.
pub(super) struct ServerShared {
    world: Mutex<FakeWorld>,
    gates: Vec<(ApiHost, watch::Sender<Duration>)>,
    connections: Semaphore,
    /// Number of bytes of unfinished uploads that are in memory.
    under_way: AtomicU64,
    /// Number of times that faults have closed a listener.
    closings: AtomicU64,
    /// Function that is called for each finished request; `None` if nobody observes the requests.
    observer: Option<RequestObserver>,
}

/// A function that is called for each finished request.
pub(super) type RequestObserver = Box<dyn Fn(&RequestLogEntry) + Send + Sync>;

/// The role of a listener, i.e. the paths that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListenerRole {
    /// The listener serves the API paths of this host.
    Api(ApiHost),
    /// The listener serves the web page and the control paths (`/__fake/…`), with which tests control the fake.
    Control,
    /// The listener serves the API paths of this host, the control paths and the web page.
    Both(ApiHost),
}

impl ListenerRole {
    pub(super) fn host(self) -> Option<ApiHost> {
        match self {
            ListenerRole::Api(host) | ListenerRole::Both(host) => Some(host),
            ListenerRole::Control => None,
        }
    }
}

impl ServerShared {
    pub(super) fn new(world: FakeWorld, roles: &[ListenerRole], observer: Option<RequestObserver>) -> ServerShared {
        let gate = |host| (host, watch::channel(Duration::ZERO).0);
        ServerShared {
            world: Mutex::new(world),
            gates: roles.iter().filter_map(|f| f.host()).map(gate).collect(),
            connections: Semaphore::new(MAX_CONNECTIONS),
            under_way: AtomicU64::new(0),
            closings: AtomicU64::new(0),
            observer,
        }
    }

    /// Locks the state of the fake, even after a test panicked while it held the lock. The state is consistent enough
    /// for a test to examine it.
    pub(super) fn world(&self) -> MutexGuard<'_, FakeWorld> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies the fault steps that close a listener, and waits until the listeners are closed. Must not be called on
    /// the server's thread: it would block the listeners and wait in vain.
    pub(super) fn apply_refusals_and_wait(&self) {
        let before = self.closings.load(Ordering::Acquire);
        let signalled = self.apply_refusals();
        let until = real_now() + CLOSING;
        // A listener confirms that it has closed. If an earlier fault has already closed it, it must first open again,
        // so its confirmation may come late. So the wait has a time limit.
        while self.closings.load(Ordering::Acquire) < before + signalled && real_now() < until {
            std::thread::yield_now();
        }
    }

    /// Applies the fault steps that close a listener. Returns the number of listeners that must close.
    pub(super) fn apply_refusals(&self) -> u64 {
        let mut signalled = 0;
        let (refusals, mode) = {
            let mut world = self.world();
            (world.script.take_refusals(), world.options.mode)
        };
        for (endpoint, wait) in refusals {
            let host = match endpoint {
                _ if mode != PyrusMode::Cloud => ApiHost::Accounts,
                FakeEndpoint::Auth => ApiHost::Accounts,
                FakeEndpoint::Upload => ApiHost::Files,
                FakeEndpoint::Call | FakeEndpoint::Attach | FakeEndpoint::Other => ApiHost::Api,
            };
            let wanted = |h: ApiHost| h == host || h == ApiHost::One;
            for (_, gate) in self.gates.iter().filter(|(host, _)| wanted(*host)) {
                gate.send_replace(wait);
                signalled += 1;
            }
        }
        signalled
    }

    fn gate(&self, role: ListenerRole) -> watch::Receiver<Duration> {
        let gate = self.gates.iter().find(|(host, _)| Some(*host) == role.host());
        // No fault closes the control listener. So it gets a channel without a sender, which never reports a closing.
        gate.map_or_else(|| watch::channel(Duration::ZERO).1, |(_, gate)| gate.subscribe())
    }

    fn observe(&self, entry: &RequestLogEntry) {
        if let Some(observer) = &self.observer {
            observer(entry);
        }
    }
}

/// Opens a listener on an address. Must be called within an asynchronous runtime.
pub(super) fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    bind(at)?.listen(BACKLOG)
}

/// Accepts connections of clients until the fake stops.
pub(super) async fn accept(shared: Arc<ServerShared>, mut listener: TcpListener, role: ListenerRole) {
    let mut gate = shared.gate(role);
    loop {
        tokio::select! {
            biased;
            wait = closed(&mut gate) => listener = reopen(&shared, listener, wait).await,
            accepted = listener.accept() => match accepted {
                // A fault may have closed the listener a moment before this connection was accepted. The connection
                // gets a clone of `gate`, in which this event is still unread, and ends itself.
                Ok((stream, _)) => _ = tokio::spawn(connection(Arc::clone(&shared), stream, role, gate.clone())),
                Err(_) => pause(Duration::from_millis(20)).await, // out of file descriptors: wait until some are free
            },
        }
    }
}

async fn closed(gate: &mut watch::Receiver<Duration>) -> Duration {
    match gate.changed().await {
        Ok(()) => *gate.borrow_and_update(),
        Err(_) => std::future::pending().await,
    }
}

/// Closes the listener for the duration `wait`, then listens again. In between, a socket that is bound but does not
/// listen reserves the port, and connections are refused.
async fn reopen(shared: &ServerShared, listener: TcpListener, wait: Duration) -> TcpListener {
    let at = listener.local_addr();
    drop(listener);
    shared.closings.fetch_add(1, Ordering::Release);
    let bound = at.as_ref().ok().and_then(|at| bind(*at).ok());
    pause(wait).await;
    if let Some(listener) = bound.and_then(|socket| socket.listen(BACKLOG).ok()) {
        return listener;
    }
    loop {
        if let Some(listener) = at.as_ref().ok().and_then(|at| listen(*at).ok()) {
            return listener;
        }
        pause(Duration::from_millis(50)).await;
    }
}

fn bind(at: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // The receive buffer is small and fills up soon, so an uploading client quickly notices that the fake reads slowly.
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(at)?;
    Ok(socket)
}

async fn connection(
    shared: Arc<ServerShared>,
    stream: TcpStream,
    role: ListenerRole,
    mut gate: watch::Receiver<Duration>,
) {
    let Ok(_permit) = shared.connections.try_acquire() else { return };
    let mut conn = HttpConnection::new(stream);
    loop {
        let head = tokio::select! {
            biased;
            _ = closed(&mut gate) => return,
            head = conn.read_head() => head,
        };
        let head = match head {
            Ok(head) => head,
            Err(RequestHeadError::Closed) => return,
            Err(RequestHeadError::Malformed(reason)) => {
                if role.host().is_some() {
                    shared.world().checker.add(0, format!("no HTTP request: {reason}"));
                }
                conn.send(&FakeReply::proxy_page(400), ReplyMode::Normal, ConnectionReuse::Close).await;
                return;
            }
        };
        let goes_on = match role {
            ListenerRole::Control => control::exchange(&shared, &mut conn, &head).await,
            ListenerRole::Both(_) if control::is_control(head.path()) => {
                control::exchange(&shared, &mut conn, &head).await
            }
            ListenerRole::Api(host) | ListenerRole::Both(host) => exchange(&shared, &mut conn, &head, host).await,
        };
        if goes_on == ConnectionReuse::Close {
            return;
        }
    }
}

/// Handles a request to the API from its head to its reply.
async fn exchange(
    shared: &ServerShared,
    conn: &mut HttpConnection,
    head: &RequestHead,
    host: ApiHost,
) -> ConnectionReuse {
    let (mut ticket, lang, max_upload, too_large) = {
        let mut world = shared.world();
        let ticket = world.begin(host, head, real_now());
        (ticket, world.options.error_lang, world.options.max_upload, world.options.too_large)
    };
    shared.apply_refusals();
    let early = fault_effects::early(ticket.step.as_ref(), lang);
    let framing = head.framing();
    let over = ticket.route == PyrusRoute::Upload
        && too_large == TooLargeReply::HtmlEarly
        && matches!(framing, Ok(BodyFraming::Length(n)) if n > max_upload);
    let mut body = RequestBody::new(framing.unwrap_or(BodyFraming::Length(0)));
    let mut stop = BodyStop::Stall;
    match early {
        EarlyAction::Reply(reply) => {
            return finish(shared, conn, ticket, reply, ReplyMode::Early, ConnectionReuse::Close).await;
        }
        _ if over => {
            return finish(shared, conn, ticket, FakeReply::proxy_page(413), ReplyMode::Early, ConnectionReuse::Close)
                .await;
        }
        _ if framing.is_err() => {
            return finish(shared, conn, ticket, FakeReply::proxy_page(400), ReplyMode::Normal, ConnectionReuse::Close)
                .await;
        }
        EarlyAction::Pace(pace) => body.pace = Some(pace),
        EarlyAction::Stop(after, what) => (body.stop_after, stop) = (Some(after), what),
        EarlyAction::None => {}
    }
    let _ = conn.encourage(head).await;
    let (reply, manner, last) = match read_payload(shared, conn, &mut body, &ticket.route, head).await {
        Ok(payload) => {
            let (reply, manner) = shared.world().work(&mut ticket, head, payload);
            (reply, manner, head.last())
        }
        Err(BodyError::Stopped) if stop == BodyStop::Stall => {
            pause(STALL).await;
            (FakeReply::default(), ReplyMode::Close, ConnectionReuse::Close)
        }
        Err(BodyError::Stopped) => (FakeReply::default(), ReplyMode::Reset, ConnectionReuse::Close),
        Err(error) => {
            let (reply, manner) = cut_short(&mut shared.world(), &mut ticket, &body, error);
            (reply, manner, ConnectionReuse::Close)
        }
    };
    finish(shared, conn, ticket, reply, manner, last).await
}

/// Handles a body that was not read to its end, because of a fault or because the client stopped.
fn cut_short(
    world: &mut FakeWorld,
    ticket: &mut RequestTicket,
    body: &RequestBody,
    error: BodyError,
) -> (FakeReply, ReplyMode) {
    let n = ticket.n();
    match error {
        BodyError::Idle => {
            world.checker.add(n, format!("Content-Length mismatch: nothing more came after {} bytes", body.received));
            world.note(ticket, "the body never ended");
            (FakeReply::proxy_page(408), ReplyMode::Normal)
        }
        BodyError::Malformed => {
            world.checker.add(n, "the chunks of the body are no chunks");
            world.note(ticket, "bad chunks");
            (FakeReply::proxy_page(400), ReplyMode::Normal)
        }
        // It is no violation if the client closes the connection. The client may have been killed during the upload.
        BodyError::Closed | BodyError::Stopped => {
            world.note(ticket, &format!("the client left after {} bytes of the body", body.received));
            (FakeReply::default(), ReplyMode::Close)
        }
    }
}

/// Finishes a request: updates state and log, then sends the reply. In this order, a test that has the reply also finds
/// the request in the log.
async fn finish(
    shared: &ServerShared,
    conn: &mut HttpConnection,
    mut ticket: RequestTicket,
    reply: FakeReply,
    manner: ReplyMode,
    last: ConnectionReuse,
) -> ConnectionReuse {
    let replies = conn.before_reply(manner).await;
    let entry = shared.world().finish(&mut ticket, replies.then_some(&reply), manner);
    shared.observe(&entry);
    if !replies {
        return ConnectionReuse::Close;
    }
    let sent = conn.send(&reply, manner, last).await;
    if sent == ReplyDelivery::Broken {
        shared.world().unsent(&ticket);
    }
    if sent == ReplyDelivery::Whole { ConnectionReuse::KeepAlive } else { ConnectionReuse::Close }
}

/// Reads a body: an upload through the multipart parser, any other body into memory. Both have a size limit.
async fn read_payload(
    shared: &ServerShared,
    conn: &mut HttpConnection,
    body: &mut RequestBody,
    route: &PyrusRoute,
    head: &RequestHead,
) -> Result<RequestPayload, BodyError> {
    if *route == PyrusRoute::Upload {
        let max_upload = shared.world().options.max_upload;
        let boundary = multipart::boundary(head.header("content-type").unwrap_or_default());
        let mut parser = MultipartParser::new(boundary, MAX_FILE_KEPT);
        let mut share = MemoryShare { under_way: &shared.under_way, mine: 0 };
        while let Some(piece) = conn.read_body(body).await? {
            if body.received <= max_upload {
                parser.handle_bytes(&piece);
            }
            if !share.set(parser.kept()) {
                parser.stop_keeping();
            }
        }
        let over = body.received > max_upload;
        return Ok(if over { RequestPayload::TooLarge } else { RequestPayload::Upload(Box::new(parser.finish())) });
    }
    let mut bytes = Vec::new();
    while let Some(piece) = conn.read_body(body).await? {
        if body.received <= MAX_JSON {
            bytes.extend_from_slice(&piece);
        }
    }
    Ok(if body.received > MAX_JSON { RequestPayload::TooLarge } else { RequestPayload::Bytes(bytes) })
}

/// Memory that one unfinished upload uses. The memory of all unfinished uploads together has a limit.
struct MemoryShare<'a> {
    under_way: &'a AtomicU64,
    mine: u64,
}

impl MemoryShare<'_> {
    /// Records that this upload uses `bytes` bytes of memory now. Returns false if all unfinished uploads together
    /// exceed the limit.
    fn set(&mut self, bytes: u64) -> bool {
        self.under_way.fetch_sub(self.mine, Ordering::Relaxed);
        self.mine = bytes;
        self.under_way.fetch_add(bytes, Ordering::Relaxed) + bytes <= MAX_BYTES_KEPT
    }
}

impl Drop for MemoryShare<'_> {
    fn drop(&mut self) {
        self.under_way.fetch_sub(self.mine, Ordering::Relaxed);
    }
}

/// Reads the body of a control request. Returns `None` if the body is too large or malformed.
pub(super) async fn read_small(conn: &mut HttpConnection, head: &RequestHead) -> Option<Vec<u8>> {
    let mut body = RequestBody::new(head.framing().ok()?);
    let _ = conn.encourage(head).await;
    let mut bytes = Vec::new();
    while let Some(piece) = conn.read_body(&mut body).await.ok()? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > MAX_JSON {
            return None;
        }
    }
    Some(bytes)
}

/// Maximum number of connections. It is below 1,024, the usual limit of file descriptors of a process.
const MAX_CONNECTIONS: usize = 900;
/// Maximum time to wait until listeners report that they have closed. A listener that was already closed reports
/// nothing.
const CLOSING: Duration = Duration::from_secs(3);
const BACKLOG: u32 = 1024;
const RECEIVE_BUFFER: u32 = 128 * 1024;
/// Maximum size of a JSON body, bytes. Real bodies have at most about 10 KiB (eight fields of 300 characters).
const MAX_JSON: u64 = 1024 * 1024;
