//! HTTP/1.1 over a TCP stream (RFC 9112), byte for byte in our hands: a fault is a thing of bytes
//! (a reset after n of them, a length that lies, a chunk size that is no number), and whether a
//! client sends `Content-Length` or chunks must be visible. Only what a fake needs: no TLS, no upgrade.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::reply::{FakeReply, PAD_HEAD, PAD_TAIL, ReplyMode, head_bytes};

/// One accepted connection and what was read of it but not used yet.
#[derive(Debug)]
pub(super) struct HttpConnection {
    stream: TcpStream,
    buf: Vec<u8>,
}

/// Why there is no request.
#[derive(Debug)]
pub(super) enum RequestHeadError {
    /// The client has closed, or was silent for too long.
    Closed,
    /// It is no HTTP; the reason in words.
    Malformed(&'static str),
}

/// The head of a request.
#[derive(Clone, Debug)]
pub(super) struct RequestHead {
    pub(super) method: String,
    /// Path and query, as sent.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    minor: u8,
}

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// `Content-Length`, or 0 without any.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A request's body while it is read.
#[derive(Debug)]
pub(super) struct RequestBody {
    framing: BodyFraming,
    /// Of the whole body, or of the current chunk.
    left: u64,
    /// Bytes of content so far.
    pub(super) received: u64,
    /// Bytes a second.
    pub(super) pace: Option<u32>,
    /// Stop reading after so many bytes.
    pub(super) stop_after: Option<u64>,
    ended: bool,
}

/// Why a body does not go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// The client left in the middle.
    Closed,
    /// Nothing came for [`BODY_IDLE`].
    Idle,
    /// The chunks are no chunks.
    Malformed,
    /// `stop_after` bytes are read.
    Stopped,
}

/// What became of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyDelivery {
    /// Whole, the connection can go on.
    Whole,
    /// Whole, the connection is closed.
    Last,
    /// Spoiled on purpose, or the client left.
    Broken,
}

impl HttpConnection {
    pub(super) fn new(stream: TcpStream) -> HttpConnection {
        // Replies are small and must not wait for the client's delayed ACK.
        let _ = stream.set_nodelay(true);
        HttpConnection { stream, buf: Vec::new() }
    }

    /// Reads the head of the next request. Safe to drop and call again: what was read is kept.
    pub(super) async fn read_head(&mut self) -> Result<RequestHead, RequestHeadError> {
        loop {
            let skip = self.buf.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            self.buf.drain(..skip); // RFC 9112 section 2.2: empty lines before a request line are ignored
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

    /// Tells the client to send its body, when it waits for that (RFC 9110 section 10.1.1).
    pub(super) async fn encourage(&mut self, head: &RequestHead) -> io::Result<()> {
        let waits = head.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue"));
        if waits && self.buf.is_empty() {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        Ok(())
    }

    /// The next piece of the body, at most 64 KiB; `None` at its end.
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
            let room = stop.saturating_sub(body.received);
            if room == 0 {
                return Err(BodyError::Stopped);
            }
            want = want.min(usize::try_from(room).unwrap_or(READ_SIZE));
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

    /// What comes before a reply: a wait; false when no reply follows.
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

    /// Sends a reply, after [`HttpConnection::before_reply`]. `last`: the connection closes after it.
    pub(super) async fn send(&mut self, reply: &FakeReply, manner: ReplyMode, last: ConnectionReuse) -> ReplyDelivery {
        match self.try_send(reply, manner, last).await {
            Ok(sent) => sent,
            Err(_) => ReplyDelivery::Broken,
        }
    }

    /// Ends the connection with a reset instead of a FIN.
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

    /// Waits, but not for a client that has left.
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

    /// As nginx does it, only shorter: FIN, then a moment so that the reply is not lost with the reset
    /// that follows. Only a little is read, so that whoever has more to write is still writing then.
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
            self.read_line().await?; // the CRLF after a chunk's data
        }
        let line = self.read_line().await?;
        let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(digits).ok().and_then(|d| u64::from_str_radix(d, 16).ok());
        body.left = size.ok_or(BodyError::Malformed)?;
        if body.left == 0 {
            while !self.read_line().await?.is_empty() {} // trailers
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

/// Whether the connection closes after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionReuse {
    /// It does.
    Close,
    /// It waits for the next request.
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

/// Waits in real time.
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

/// nginx allows 32 KiB of headers; no honest request has more than 2.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// A chunk-size line with extensions.
const MAX_LINE: usize = 4096;
const READ_SIZE: usize = 64 * 1024;
/// nginx's `keepalive_timeout`.
const HEAD_IDLE: Duration = Duration::from_secs(75);
/// nginx's `client_body_timeout`.
pub(super) const BODY_IDLE: Duration = Duration::from_secs(60);
const EARLY_DISCARD: usize = 256 * 1024;
/// Long enough for a client to see the early reply.
const EARLY_LINGER: Duration = Duration::from_millis(100);
