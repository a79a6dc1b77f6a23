//! HTTP/1.1 over a TCP stream (RFC 9112). The fake uses no HTTP library, because faults need control of single bytes,
//! e.g. for a reset after n bytes or a malformed chunk size. Also, the fake must know whether a client sends
//! `Content-Length` or chunks. TLS and upgrades are not supported.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::reply::{FakeReply, PAD_HEAD, PAD_TAIL, ReplyMode, head_bytes};

/// An accepted connection, with a buffer of bytes that were read and not parsed yet.
#[derive(Debug)]
pub(super) struct HttpConnection {
    stream: TcpStream,
    buf: Vec<u8>,
}

/// Reasons why no request could be read from a connection.
#[derive(Debug)]
pub(super) enum RequestHeadError {
    /// The client closed the connection, or sent nothing for too long.
    Closed,
    /// The bytes are not an HTTP request. Holds the reason as text.
    Malformed(&'static str),
}

/// The head of a request: method, target and header fields.
#[derive(Clone, Debug)]
pub(super) struct RequestHead {
    pub(super) method: String,
    /// Path and query as the client sent them.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    minor: u8,
}

/// How the end of a request's body is found (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// The body ends after this number of bytes (`Content-Length`); 0 without this header.
    Length(u64),
    /// The body is sent in chunks (`Transfer-Encoding: chunked`) and ends with the last chunk.
    Chunked,
}

/// How far the body of a request was read, and what remains.
#[derive(Debug)]
pub(super) struct RequestBody {
    framing: BodyFraming,
    /// Number of bytes that are still to be read: of the body, or of the current chunk if the body is chunked.
    left: u64,
    /// Number of bytes of content that were read so far.
    pub(super) received: u64,
    /// Reading rate in bytes per second; `None` means unlimited.
    pub(super) pace: Option<u32>,
    /// Number of bytes after which reading stops; `None` reads everything.
    pub(super) stop_after: Option<u64>,
    ended: bool,
}

/// Reasons why the body of a request cannot be read further.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// The client closed the connection.
    Closed,
    /// No byte arrived for [`BODY_IDLE`].
    Idle,
    /// The chunked encoding is malformed.
    Malformed,
    /// Reading stopped after `stop_after` bytes, as a fault requires.
    Stopped,
}

/// Result of sending a reply. It decides whether the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyDelivery {
    /// The reply was sent completely, and the connection stays open.
    Whole,
    /// The reply was sent completely, and the connection is then closed.
    Last,
    /// The reply was not sent completely, because of a fault or because the client closed the connection.
    Broken,
}

impl HttpConnection {
    pub(super) fn new(stream: TcpStream) -> HttpConnection {
        // With TCP_NODELAY, small replies are sent at once and do not wait for the client's delayed ACK.
        let _ = stream.set_nodelay(true);
        HttpConnection { stream, buf: Vec::new() }
    }

    /// Reads the head of the next request. If the future is dropped before its end, a later call of this function
    /// continues without losing bytes.
    pub(super) async fn read_head(&mut self) -> Result<RequestHead, RequestHeadError> {
        loop {
            let skip = self.buf.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            self.buf.drain(..skip); // ignores empty lines before a request line (RFC 9112 section 2.2)
            if let Some(end) = memchr::memmem::find(&self.buf, b"\r\n\r\n") {
                let head = parse_head(self.buf.get(..end).unwrap_or_default());
                self.buf.drain(..end + 4);
                return head;
            }
            if self.buf.len() > MAX_HEAD {
                return Err(RequestHeadError::Malformed("head of over 64 KiB"));
            }
            match timeout(HEAD_IDLE, self.fill(READ_SIZE)).await {
                Ok(Ok(n)) if n > 0 => {}
                _ if self.buf.is_empty() => return Err(RequestHeadError::Closed),
                _ => return Err(RequestHeadError::Malformed("the connection ended in the middle of a head")),
            }
        }
    }

    /// Sends "100 Continue" if the client waits for it (RFC 9110 section 10.1.1).
    pub(super) async fn encourage(&mut self, head: &RequestHead) -> io::Result<()> {
        let waits = head.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue"));
        if waits && self.buf.is_empty() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        Ok(())
    }

    /// Reads the next piece of the body, at most 64 KiB. Returns `None` at the end.
    pub(super) async fn read_body(&mut self, body: &mut RequestBody) -> Result<Option<Vec<u8>>, BodyError> {
        if body.left == 0 && !body.ended {
            match body.framing {
                BodyFraming::Length(_) => body.ended = true,
                BodyFraming::Chunked => self.next_chunk(body).await?,
            }
        }
        if body.ended {
            return Ok(None);
        }
        let mut want = READ_SIZE;
        if let Some(pace) = body.pace {
            want = want.min(usize::try_from(pace / 20).unwrap_or(READ_SIZE).max(1));
        }
        if let Some(stop) = body.stop_after {
            let allowed = stop.saturating_sub(body.received);
            if allowed == 0 {
                return Err(BodyError::Stopped);
            }
            want = want.min(usize::try_from(allowed).unwrap_or(READ_SIZE));
        }
        want = want.min(usize::try_from(body.left).unwrap_or(READ_SIZE));
        if self.buf.is_empty() {
            self.fill_body(want).await?;
        }
        let n = want.min(self.buf.len());
        let rest = self.buf.split_off(n);
        let piece = std::mem::replace(&mut self.buf, rest);
        body.left -= n as u64;
        body.received += n as u64;
        if let Some(pace) = body.pace {
            pause(Duration::from_secs_f64(n as f64 / f64::from(pace.max(1)))).await;
        }
        Ok(Some(piece))
    }

    /// Waits before a reply if a fault requires it. Returns false if the fault allows no reply, or the client has
    /// closed the connection.
    pub(super) async fn before_reply(&mut self, manner: ReplyMode) -> bool {
        match manner {
            ReplyMode::HangBefore(wait) => self.hang(wait).await.is_ok(),
            ReplyMode::HangThenClose(wait) => {
                let _ = self.hang(wait).await;
                false
            }
            ReplyMode::Close => false,
            ReplyMode::Reset => {
                self.reset_on_drop();
                false
            }
            _ => true,
        }
    }

    /// Sends a reply. [`HttpConnection::before_reply`] must be called before. `last` says whether the connection closes
    /// after the reply.
    pub(super) async fn send(&mut self, reply: &FakeReply, manner: ReplyMode, last: ConnectionReuse) -> ReplyDelivery {
        match self.try_send(reply, manner, last).await {
            Ok(sent) => sent,
            Err(_) => ReplyDelivery::Broken,
        }
    }

    /// Makes the kernel end the connection by TCP RST in place of FIN when the connection is dropped.
    fn reset_on_drop(&self) {
        let _ = self.stream.set_zero_linger();
    }

    async fn try_send(
        &mut self,
        reply: &FakeReply,
        manner: ReplyMode,
        last: ConnectionReuse,
    ) -> io::Result<ReplyDelivery> {
        let close = match manner {
            ReplyMode::Normal
            | ReplyMode::HangBefore(_)
            | ReplyMode::HangAfter(_)
            | ReplyMode::Drip(_)
            | ReplyMode::Huge(_) => last,
            _ => ConnectionReuse::Close,
        };
        self.stream.write_all(&head_bytes(reply, manner, close)).await?;
        match manner {
            ReplyMode::HangAfter(wait) | ReplyMode::HangAfterThenClose(wait) => self.hang(wait).await?,
            _ => {}
        }
        match manner {
            ReplyMode::HangAfterThenClose(_) => return Ok(ReplyDelivery::Broken),
            ReplyMode::Drip(pace) => self.drip(&reply.body, pace).await?,
            ReplyMode::Huge(size) => self.pad(size).await?,
            ReplyMode::Truncated => {
                self.stream.write_all(half(&reply.body)).await?;
                return Ok(ReplyDelivery::Broken);
            }
            ReplyMode::BadChunk => {
                let half = half(&reply.body);
                self.stream.write_all(format!("{:x}\r\n", half.len().max(1)).as_bytes()).await?;
                self.stream.write_all(if half.is_empty() { b"{" } else { half }).await?;
                self.stream.write_all(b"\r\nzz\r\n{}\r\n").await?;
                return Ok(ReplyDelivery::Broken);
            }
            _ => self.stream.write_all(&reply.body).await?,
        }
        if manner == ReplyMode::Early {
            self.close_early().await;
        }
        Ok(if matches!(close, ConnectionReuse::Close) { ReplyDelivery::Last } else { ReplyDelivery::Whole })
    }

    /// Waits for the time `wait`. If the client closes the connection during the wait, returns an error at once.
    async fn hang(&mut self, wait: Duration) -> io::Result<()> {
        let waiting = pause(wait);
        tokio::pin!(waiting);
        let mut byte = [0];
        tokio::select! {
            () = &mut waiting => return Ok(()),
            peeked = self.stream.peek(&mut byte) => if peeked? == 0 {
                return Err(io::ErrorKind::ConnectionAborted.into());
            },
        }
        waiting.await;
        Ok(())
    }

    /// Closes the connection as nginx does: sends FIN, waits briefly, and then resets the connection. Because of the
    /// wait, the client can read the reply before the reset. The fake reads almost nothing in that time, so a client
    /// with more data is still writing.
    async fn close_early(&mut self) {
        let _ = self.stream.shutdown().await;
        let mut bin = vec![0; READ_SIZE];
        let mut left = EARLY_DISCARD;
        let discard = async {
            while left > 0
                && let Ok(n) = self.stream.read(&mut bin).await
                && n > 0
            {
                left = left.saturating_sub(n);
            }
            if left == 0 {
                std::future::pending::<()>().await;
            }
        };
        let _ = timeout(EARLY_LINGER, discard).await;
    }

    async fn drip(&mut self, body: &[u8], pace: u32) -> io::Result<()> {
        let step = usize::try_from(pace / 10).unwrap_or(1).max(1);
        for piece in body.chunks(step) {
            self.stream.write_all(piece).await?;
            pause(Duration::from_secs_f64(piece.len() as f64 / f64::from(pace.max(1)))).await;
        }
        Ok(())
    }

    async fn pad(&mut self, size: u64) -> io::Result<()> {
        let pad = [b'x'; 16 * 1024];
        let mut left = size.saturating_sub(PAD_HEAD.len() as u64 + PAD_TAIL.len() as u64);
        self.stream.write_all(PAD_HEAD).await?;
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(pad.len()).min(pad.len());
            self.stream.write_all(pad.get(..n).unwrap_or(&pad)).await?;
            left -= n as u64;
        }
        self.stream.write_all(PAD_TAIL).await
    }

    async fn next_chunk(&mut self, body: &mut RequestBody) -> Result<(), BodyError> {
        if body.received > 0 {
            self.read_line().await?; // reads the CRLF after the data of the chunk
        }
        let line = self.read_line().await?;
        let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(digits).ok().and_then(|d| u64::from_str_radix(d, 16).ok());
        body.left = size.ok_or(BodyError::Malformed)?;
        if body.left == 0 {
            while !self.read_line().await?.is_empty() {} // trailer fields
            body.ended = true;
        }
        Ok(())
    }

    async fn read_line(&mut self) -> Result<Vec<u8>, BodyError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buf) {
                let mut line: Vec<u8> = self.buf.drain(..=end).collect();
                line.truncate(line.trim_ascii_end().len());
                return Ok(line);
            }
            if self.buf.len() > MAX_LINE {
                return Err(BodyError::Malformed);
            }
            self.fill_body(READ_SIZE).await?;
        }
    }

    async fn fill_body(&mut self, want: usize) -> Result<(), BodyError> {
        match timeout(BODY_IDLE, self.fill(want)).await {
            Ok(Ok(n)) if n > 0 => Ok(()),
            Ok(_) => Err(BodyError::Closed),
            Err(_) => Err(BodyError::Idle),
        }
    }

    async fn fill(&mut self, want: usize) -> io::Result<usize> {
        self.buf.reserve(want);
        (&mut self.stream).take(want as u64).read_buf(&mut self.buf).await
    }
}

/// Whether the connection stays open after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionReuse {
    /// The connection is closed after the reply.
    Close,
    /// The connection stays open for the next request.
    KeepAlive,
}

impl RequestHead {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(super) fn path(&self) -> &str {
        self.target.split(['?', '#']).next().unwrap_or_default()
    }

    pub(super) fn framing(&self) -> Result<BodyFraming, &'static str> {
        if self.header("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked")) {
            return Ok(BodyFraming::Chunked);
        }
        match self.header("content-length") {
            None => Ok(BodyFraming::Length(0)),
            Some(text) => text.trim().parse().map(BodyFraming::Length).map_err(|_| "Content-Length is no number"),
        }
    }

    pub(super) fn last(&self) -> ConnectionReuse {
        let connection = self.header("connection").unwrap_or_default().to_ascii_lowercase();
        let stays = connection.contains("keep-alive") || (self.minor >= 1 && !connection.contains("close"));
        if stays { ConnectionReuse::KeepAlive } else { ConnectionReuse::Close }
    }
}

impl RequestBody {
    pub(super) fn new(framing: BodyFraming) -> RequestBody {
        let left = match framing {
            BodyFraming::Length(n) => n,
            BodyFraming::Chunked => 0,
        };
        RequestBody { framing, left, received: 0, pace: None, stop_after: None, ended: false }
    }
}

/// Waits for a duration of real time.
#[expect(clippy::disallowed_methods, reason = "a fault of a test server is a wait that a client's time-out can see")]
pub(super) async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}

fn parse_head(bytes: &[u8]) -> Result<RequestHead, RequestHeadError> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) = (first.next(), first.next(), first.next(), first.next())
    else {
        return Err(RequestHeadError::Malformed("no request line (bytes after the body of the request before?)"));
    };
    let minor = match version {
        "HTTP/1.1" => 1,
        "HTTP/1.0" => 0,
        _ => return Err(RequestHeadError::Malformed("not HTTP/1.1")),
    };
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(RequestHeadError::Malformed("a header without a colon"))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
        if headers.len() > MAX_HEADERS {
            return Err(RequestHeadError::Malformed("over 100 headers"));
        }
    }
    Ok(RequestHead { method: method.to_owned(), target: target.to_owned(), headers, minor })
}

fn half(body: &[u8]) -> &[u8] {
    body.get(..body.len() / 2).unwrap_or_default()
}

/// Maximum size of a request head, bytes. nginx allows 32 KiB; real requests have less than 2 KiB.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// Maximum length of a line with a chunk size and chunk extensions, bytes.
const MAX_LINE: usize = 4096;
const READ_SIZE: usize = 64 * 1024;
/// Time for which a connection waits for the next request, as in nginx (`keepalive_timeout`).
const HEAD_IDLE: Duration = Duration::from_secs(75);
/// Time for which the fake waits for the next byte of a body, as in nginx (`client_body_timeout`).
pub(super) const BODY_IDLE: Duration = Duration::from_secs(60);
const EARLY_DISCARD: usize = 256 * 1024;
/// Time to wait after a reply that was sent before the body was read. In that time the client can read the reply.
const EARLY_LINGER: Duration = Duration::from_millis(100);
