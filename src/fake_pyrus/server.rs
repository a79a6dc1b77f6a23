//! The listeners and the way of one request from its bytes to its reply.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::clock::real_now;
use super::control;
use super::faults::Endpoint;
use super::http::{Body, BodyError, Conn, Framing, Head, HeadError, Last, Sent, pause};
use super::inject::{self, Early, STALL, Stop};
use super::multipart::{self, Parser};
use super::options::{Mode, TooLarge};
use super::reply::{Manner, Reply};
use super::routes::{Host, Payload, Route};
use super::state::{MAX_BYTES_KEPT, MAX_FILE_KEPT};
use super::world::{LogEntry, Ticket, World};

/// What all connections share.
pub(super) struct Shared {
    world: Mutex<World>,
    gates: Vec<(Host, watch::Sender<Duration>)>,
    connections: Semaphore,
    /// Bytes kept of uploads that have not ended.
    under_way: AtomicU64,
    /// How often a listener was closed.
    closings: AtomicU64,
    /// Hears of each request when it is over.
    observer: Option<Observer>,
}

/// Hears of each request when it is over.
pub(super) type Observer = Box<dyn Fn(&LogEntry) + Send + Sync>;

/// What a listener answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    /// The API of this host.
    Api(Host),
    /// The control paths and the page.
    Control,
    /// Both.
    Both(Host),
}

impl Face {
    pub(super) fn host(self) -> Option<Host> {
        match self {
            Face::Api(host) | Face::Both(host) => Some(host),
            Face::Control => None,
        }
    }
}

impl Shared {
    pub(super) fn new(world: World, faces: &[Face], observer: Option<Observer>) -> Shared {
        let gate = |host| (host, watch::channel(Duration::ZERO).0);
        Shared {
            world: Mutex::new(world),
            gates: faces.iter().filter_map(|f| f.host()).map(gate).collect(),
            connections: Semaphore::new(MAX_CONNECTIONS),
            under_way: AtomicU64::new(0),
            closings: AtomicU64::new(0),
            observer,
        }
    }

    /// The world; a test that panicked while it held the lock has left it whole enough to look at.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the listeners whose turn it is, and waits until they are. Not from the server's own thread.
    pub(super) fn apply_refusals_and_wait(&self) {
        let before = self.closings.load(Ordering::Acquire);
        let signalled = self.apply_refusals();
        let until = real_now() + CLOSING;
        // One that is closed already hears of it when it opens again, hence the limit.
        while self.closings.load(Ordering::Acquire) < before + signalled && real_now() < until {
            std::thread::yield_now();
        }
    }

    /// Closes the listeners whose turn it is; how many are told.
    pub(super) fn apply_refusals(&self) -> u64 {
        let mut told = 0;
        let (refusals, mode) = {
            let mut world = self.world();
            (world.script.take_refusals(), world.options.mode)
        };
        for (endpoint, wait) in refusals {
            let host = match endpoint {
                _ if mode != Mode::Cloud => Host::Accounts,
                Endpoint::Auth => Host::Accounts,
                Endpoint::Upload => Host::Files,
                Endpoint::Call | Endpoint::Attach | Endpoint::Other => Host::Api,
            };
            let wanted = |h: Host| h == host || h == Host::One;
            for (_, gate) in self.gates.iter().filter(|(host, _)| wanted(*host)) {
                gate.send_replace(wait);
                told += 1;
            }
        }
        told
    }

    fn gate(&self, face: Face) -> watch::Receiver<Duration> {
        let gate = self.gates.iter().find(|(host, _)| Some(*host) == face.host());
        // The control listener has no gate: a channel whose sender is gone never changes.
        gate.map_or_else(|| watch::channel(Duration::ZERO).1, |(_, gate)| gate.subscribe())
    }

    fn observe(&self, entry: &LogEntry) {
        if let Some(observer) = &self.observer {
            observer(entry);
        }
    }
}

/// Binds and listens. Must be called in a runtime's context.
pub(super) fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    bind(at)?.listen(BACKLOG)
}

/// Accepts for ever.
pub(super) async fn accept(shared: Arc<Shared>, mut listener: TcpListener, face: Face) {
    let mut gate = shared.gate(face);
    loop {
        tokio::select! {
            biased;
            wait = closed(&mut gate) => listener = reopen(&shared, listener, wait).await,
            accepted = listener.accept() => match accepted {
                // The clone has seen what this loop has: a closing in between reaches the connection too.
                Ok((stream, _)) => _ = tokio::spawn(connection(Arc::clone(&shared), stream, face, gate.clone())),
                Err(_) => pause(Duration::from_millis(20)).await, // out of file handles: wait for some
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

/// A bound socket that does not listen refuses, and keeps the port ours.
async fn reopen(shared: &Shared, listener: TcpListener, wait: Duration) -> TcpListener {
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
    // Small enough that a slow reader is felt by who writes an upload.
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(at)?;
    Ok(socket)
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, face: Face, mut gate: watch::Receiver<Duration>) {
    let Ok(_permit) = shared.connections.try_acquire() else { return };
    let mut conn = Conn::new(stream);
    loop {
        let head = tokio::select! {
            biased;
            _ = closed(&mut gate) => return,
            head = conn.read_head() => head,
        };
        let head = match head {
            Ok(head) => head,
            Err(HeadError::Closed) => return,
            Err(HeadError::Malformed(reason)) => {
                if face.host().is_some() {
                    shared.world().strict.add(0, format!("no HTTP request: {reason}"));
                }
                conn.send(&Reply::proxy_page(400), Manner::Normal, Last::Yes).await;
                return;
            }
        };
        let goes_on = match face {
            Face::Control => control::exchange(&shared, &mut conn, &head).await,
            Face::Both(_) if control::is_control(head.path()) => control::exchange(&shared, &mut conn, &head).await,
            Face::Api(host) | Face::Both(host) => exchange(&shared, &mut conn, &head, host).await,
        };
        if goes_on == Last::Yes {
            return;
        }
    }
}

/// One request to the API.
async fn exchange(shared: &Shared, conn: &mut Conn, head: &Head, host: Host) -> Last {
    let (mut ticket, lang, max_upload, too_large) = {
        let mut world = shared.world();
        let ticket = world.begin(host, head, real_now());
        (ticket, world.options.error_lang, world.options.max_upload, world.options.too_large)
    };
    shared.apply_refusals();
    let early = inject::early(ticket.step.as_ref(), lang);
    let framing = head.framing();
    let over = ticket.route == Route::Upload
        && too_large == TooLarge::HtmlEarly
        && matches!(framing, Ok(Framing::Length(n)) if n > max_upload);
    let mut body = Body::new(framing.unwrap_or(Framing::Length(0)));
    let mut stop = Stop::Stall;
    match early {
        Early::Reply(reply) => return finish(shared, conn, ticket, reply, Manner::Early, Last::Yes).await,
        _ if over => return finish(shared, conn, ticket, Reply::proxy_page(413), Manner::Early, Last::Yes).await,
        _ if framing.is_err() => {
            return finish(shared, conn, ticket, Reply::proxy_page(400), Manner::Normal, Last::Yes).await;
        }
        Early::Pace(pace) => body.pace = Some(pace),
        Early::Stop(after, what) => (body.stop_after, stop) = (Some(after), what),
        Early::None => {}
    }
    let _ = conn.encourage(head).await;
    let (reply, manner, last) = match read_payload(shared, conn, &mut body, &ticket.route, head).await {
        Ok(payload) => {
            let (reply, manner) = shared.world().work(&mut ticket, head, payload);
            (reply, manner, head.last())
        }
        Err(BodyError::Stopped) if stop == Stop::Stall => {
            pause(STALL).await;
            (Reply::default(), Manner::Close, Last::Yes)
        }
        Err(BodyError::Stopped) => (Reply::default(), Manner::Reset, Last::Yes),
        Err(error) => {
            let (reply, manner) = cut_short(&mut shared.world(), &mut ticket, &body, error);
            (reply, manner, Last::Yes)
        }
    };
    finish(shared, conn, ticket, reply, manner, last).await
}

/// A body that did not come whole.
fn cut_short(world: &mut World, ticket: &mut Ticket, body: &Body, error: BodyError) -> (Reply, Manner) {
    let n = ticket.n();
    match error {
        BodyError::Idle => {
            world.strict.add(n, format!("Content-Length mismatch: nothing more came after {} bytes", body.received));
            world.note(ticket, "the body never ended");
            (Reply::proxy_page(408), Manner::Normal)
        }
        BodyError::Malformed => {
            world.strict.add(n, "the chunks of the body are no chunks");
            world.note(ticket, "bad chunks");
            (Reply::proxy_page(400), Manner::Normal)
        }
        // No violation: a client may be killed in the middle of an upload.
        BodyError::Closed | BodyError::Stopped => {
            world.note(ticket, &format!("the client left after {} bytes of the body", body.received));
            (Reply::default(), Manner::Close)
        }
    }
}

/// Remembers and logs before the reply is written: a client that has read it may look at once.
async fn finish(
    shared: &Shared,
    conn: &mut Conn,
    mut ticket: Ticket,
    reply: Reply,
    manner: Manner,
    last: Last,
) -> Last {
    let replies = conn.before_reply(manner).await;
    let entry = shared.world().finish(&mut ticket, replies.then_some(&reply), manner);
    shared.observe(&entry);
    if !replies {
        return Last::Yes;
    }
    let sent = conn.send(&reply, manner, last).await;
    if sent == Sent::Broken {
        shared.world().unsent(&ticket);
    }
    if sent == Sent::Whole { Last::No } else { Last::Yes }
}

/// Reads a body: an upload through the parser, anything else into memory, both bounded.
async fn read_payload(
    shared: &Shared,
    conn: &mut Conn,
    body: &mut Body,
    route: &Route,
    head: &Head,
) -> Result<Payload, BodyError> {
    if *route == Route::Upload {
        let max_upload = shared.world().options.max_upload;
        let boundary = multipart::boundary(head.header("content-type").unwrap_or_default());
        let mut parser = Parser::new(boundary, MAX_FILE_KEPT);
        let mut share = Share { under_way: &shared.under_way, mine: 0 };
        while let Some(piece) = conn.read_body(body).await? {
            if body.received <= max_upload {
                parser.handle_bytes(&piece);
            }
            if !share.set(parser.kept()) {
                parser.stop_keeping();
            }
        }
        let over = body.received > max_upload;
        return Ok(if over { Payload::TooLarge } else { Payload::Upload(Box::new(parser.finish())) });
    }
    let mut bytes = Vec::new();
    while let Some(piece) = conn.read_body(body).await? {
        if body.received <= MAX_JSON {
            bytes.extend_from_slice(&piece);
        }
    }
    Ok(if body.received > MAX_JSON { Payload::TooLarge } else { Payload::Bytes(bytes) })
}

/// What one upload under way holds of the memory for all.
struct Share<'a> {
    under_way: &'a AtomicU64,
    mine: u64,
}

impl Share<'_> {
    /// Takes so much in all; false when that is too much for all together.
    fn set(&mut self, bytes: u64) -> bool {
        self.under_way.fetch_sub(self.mine, Ordering::Relaxed);
        self.mine = bytes;
        self.under_way.fetch_add(bytes, Ordering::Relaxed) + bytes <= MAX_BYTES_KEPT
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.under_way.fetch_sub(self.mine, Ordering::Relaxed);
    }
}

/// The body of a request that is small by its nature.
pub(super) async fn read_small(conn: &mut Conn, head: &Head) -> Option<Vec<u8>> {
    let mut body = Body::new(head.framing().ok()?);
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

/// A thousand calls side by side, and no more file handles than a plain process has.
const MAX_CONNECTIONS: usize = 900;
/// A listener closes at once; longer means that it is closed already.
const CLOSING: Duration = Duration::from_secs(3);
const BACKLOG: u32 = 1024;
const RECEIVE_BUFFER: u32 = 128 * 1024;
/// The largest honest JSON body (eight mappings of 300 characters) has 10 KiB.
const MAX_JSON: u64 = 1024 * 1024;
