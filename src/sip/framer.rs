//! Splits byte streams into SIP messages: SIP over TCP (RFC 3261 section 18.3) and over WebSocket (RFC 7118). The bytes
//! show which of the two it is.
//!
//! Over TCP, the Content-Length of a message gives its end. The start of the next message is searched for after lost
//! bytes, after a wrong length, and in the middle of a stream. It is a start line that a header line follows. A start
//! line alone is not enough, because a body may contain one (message/sipfrag, RFC 3420).
//!
//! Invariants:
//! - The messages do not depend on how the stream is cut into pieces. There is one exception: in the middle of a
//!   stream, WebSocket is recognized only if a piece begins with a WebSocket frame.
//! - The buffer has at most [`MAX_STREAM_BUFFER`] bytes, plus one piece.
//! - The time is linear in the number of bytes.

use super::header::is_token;
use super::message::{MAX_BODY_BYTES, MAX_HEADER_BYTES, announced_length};
use super::start_line::{MAX_START_LINE, is_start_line, looks_like_sip};
use super::websocket::{self, WebSocketDecoder};
use crate::net::Transport;

/// Splits the bytes of one direction of a TCP connection into SIP messages.
#[derive(Default)]
pub struct SipFramer {
    buffer: Vec<u8>,
    /// Index in `buffer` of the first unread byte, i.e. the first byte that is not part of a finished message.
    at: usize,
    /// Number of unread bytes that were already searched for the end of the headers.
    searched: usize,
    state: FramerState,
    /// Number of bytes since the last message that belong to no message.
    lost_for: usize,
    skipped: u64,
    /// Number of messages since the last `take_oversized` that were too long to be stored whole.
    oversized: u64,
}

#[derive(Default)]
enum FramerState {
    /// The connection begins with a SIP message, or with an HTTP upgrade to WebSocket.
    #[default]
    Start,
    /// A SIP message begins here, because the message before it is complete.
    Sip,
    /// The start of the next message is searched for, e.g. after lost bytes.
    Resync(LinePosition),
    /// The rest of a body is skipped, because the body is too long to be stored. Contains the number of bytes to skip.
    Skip(usize),
    /// The headers of an HTTP request or response follow, which upgrade the connection to WebSocket.
    Http,
    /// WebSocket frames follow.
    WebSocket(Box<WebSocketDecoder>),
    /// The stream is not SIP. All further bytes are dropped.
    GivenUp,
}

/// Whether the next unread byte begins a line, or is in the middle of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinePosition {
    Begin,
    Middle,
}

/// Result of a step: go on with the next step, or wait for more bytes.
#[derive(PartialEq, Eq)]
enum FramerStep {
    Again,
    Wait,
}

impl SipFramer {
    /// Adds the bytes of a TCP segment.
    ///
    /// SIP stacks write each message into a new segment. So if the start of the next message is unknown, a start line
    /// at the beginning of a segment starts a message. The start is unknown after lost bytes, and after an unfinished
    /// line. It is also unknown among the header lines of a message, where no start line can be.
    pub(crate) fn push_segment(&mut self, data: &[u8], out: &mut dyn FnMut(&[u8])) {
        if !self.unread().is_empty() && begins_message(data) && self.is_start_unknown(data) {
            self.skip(self.unread().len());
            self.state = FramerState::Sip;
        }
        self.push(data, out);
    }

    /// Returns whether the start of the next message is unknown. Then a start line at the beginning of `segment` may
    /// start a message.
    fn is_start_unknown(&mut self, segment: &[u8]) -> bool {
        let is_resync = matches!(self.state, FramerState::Resync(_));
        if !is_resync && !matches!(self.state, FramerState::Sip) {
            return false;
        }
        if line_length(self.unread()).is_none() {
            return !completes_start_line(self.unread(), segment);
        }
        // A line end at the beginning of the segment may end the header section. Then the start of the next message is
        // known.
        let is_between_lines = self.unread().ends_with(b"\n") && !matches!(segment.first(), Some(b'\r' | b'\n'));
        is_resync || is_between_lines && self.head_length().is_none()
    }

    /// Adds the next bytes of the stream. Passes each complete message to `out`.
    pub fn push(&mut self, data: &[u8], out: &mut dyn FnMut(&[u8])) {
        for piece in data.chunks(MAX_PIECE) {
            if matches!(self.state, FramerState::Resync(_)) && websocket::begins_frame(piece) == Some(true) {
                self.skip(self.unread().len());
                self.state = FramerState::WebSocket(Box::default());
            }
            match &mut self.state {
                FramerState::WebSocket(decoder) => decoder.push(piece, out),
                FramerState::GivenUp => self.skipped += piece.len() as u64,
                _ => {
                    self.buffer.extend_from_slice(piece);
                    self.run(out);
                }
            }
        }
    }

    /// Handles lost bytes. If a message has complete headers, passes it to `out` with a truncated body. Then searches
    /// for the next start line or frame.
    pub fn gap(&mut self, out: &mut dyn FnMut(&[u8])) {
        self.flush(out);
        match &mut self.state {
            FramerState::WebSocket(decoder) => decoder.gap(),
            FramerState::GivenUp => {}
            state => *state = FramerState::Resync(LinePosition::Begin),
        }
    }

    /// Handles the end of the stream like a gap ([`Self::gap`]), and frees the buffer.
    pub fn end(&mut self, out: &mut dyn FnMut(&[u8])) {
        self.gap(out);
        self.buffer = Vec::new();
    }

    /// Returns the transport of the connection: WebSocket after an HTTP upgrade or a WebSocket frame, and TCP
    /// otherwise.
    pub fn transport(&self) -> Transport {
        if matches!(self.state, FramerState::WebSocket(_)) { Transport::Ws } else { Transport::Tcp }
    }

    /// Returns the number of bytes that belong to no message. Keep-alives do not count.
    pub fn skipped(&self) -> u64 {
        match &self.state {
            FramerState::WebSocket(decoder) => self.skipped + decoder.skipped(),
            _ => self.skipped,
        }
    }

    /// Returns the number of too long messages since the last call of this function. Their bodies, or the whole
    /// messages, were skipped.
    pub(crate) fn take_oversized(&mut self) -> u64 {
        let own = std::mem::take(&mut self.oversized);
        match &mut self.state {
            FramerState::WebSocket(decoder) => own + decoder.take_oversized(),
            _ => own,
        }
    }

    /// Returns whether the stream is no longer read, because it is not SIP.
    #[cfg(test)]
    pub(crate) fn given_up(&self) -> bool {
        matches!(self.state, FramerState::GivenUp)
    }

    fn run(&mut self, out: &mut dyn FnMut(&[u8])) {
        loop {
            let step = match self.state {
                FramerState::Start => self.start(out),
                FramerState::Sip => self.message(out),
                FramerState::Resync(line) => self.resync(line),
                FramerState::Skip(left) => self.skip_body(left),
                FramerState::Http => self.http(out),
                FramerState::WebSocket(_) | FramerState::GivenUp => FramerStep::Wait,
            };
            if step == FramerStep::Wait {
                break;
            }
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP_CAPACITY {
            self.buffer = Vec::new();
        }
    }

    fn start(&mut self, out: &mut dyn FnMut(&[u8])) -> FramerStep {
        self.skip_line_ends();
        let unread = self.unread();
        match websocket::begins_frame(unread) {
            None => return FramerStep::Wait,
            Some(true) => return self.begin_websocket(0, out),
            Some(false) => {}
        }
        let http = |word: &[u8]| unread.iter().zip(word).all(|(a, b)| a == b);
        let undecided = |word: &[u8]| unread.len() < word.len() && http(word);
        if undecided(b"GET ") || undecided(b"HTTP/") {
            return FramerStep::Wait;
        }
        self.state = if http(b"GET ") || http(b"HTTP/") { FramerState::Http } else { FramerState::Sip };
        FramerStep::Again
    }

    fn message(&mut self, out: &mut dyn FnMut(&[u8])) -> FramerStep {
        self.skip_line_ends();
        let unread = self.unread();
        let Some(&first) = unread.first() else { return FramerStep::Wait };
        let Some(line) = line_length(unread) else {
            if is_token(first) && unread.len() < MAX_START_LINE {
                return FramerStep::Wait;
            }
            return self.skip_line();
        };
        if !unread.get(..line).is_some_and(looks_like_sip) {
            return self.skip_line();
        }
        let Some(head) = self.head_length() else {
            if self.unread().len() <= MAX_HEADER_BYTES {
                return FramerStep::Wait;
            }
            self.oversized += 1;
            return self.skip_line();
        };
        self.whole(head, out)
    }

    /// Handles a message with complete headers (`head` bytes). Passes the message to `out`, waits for the rest of its
    /// body, or skips a body that is too long.
    fn whole(&mut self, head: usize, out: &mut dyn FnMut(&[u8])) -> FramerStep {
        let unread = self.unread();
        let head_bytes = unread.get(..head).unwrap_or(unread);
        let body = announced_length(head_bytes).ok().map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        match body {
            Some(body) if head.saturating_add(body) <= MAX_STREAM_BUFFER => {
                let Some(message) = unread.get(..head + body) else { return FramerStep::Wait };
                out(message);
                self.consume(head + body);
            }
            // A body that is too long is skipped. The headers are enough to identify the call.
            Some(body) if body <= MAX_BODY_BYTES => {
                out(head_bytes);
                self.oversized += 1;
                self.consume(head);
                self.state = FramerState::Skip(body);
            }
            // The Content-Length is invalid. The parser reports this, and the framer searches for the next start line.
            _ => {
                out(head_bytes);
                self.consume(head);
                self.state = FramerState::Resync(LinePosition::Begin);
            }
        }
        self.lost_for = 0;
        FramerStep::Again
    }

    fn resync(&mut self, place: LinePosition) -> FramerStep {
        if place == LinePosition::Begin {
            let before = self.at;
            self.skip_line_ends();
            let skipped = self.at - before;
            (self.skipped, self.lost_for) = (self.skipped + skipped as u64, self.lost_for + skipped);
        }
        if self.lost_for > GIVE_UP_AFTER {
            self.skip(self.unread().len());
            self.state = FramerState::GivenUp;
            return FramerStep::Wait;
        }
        let unread = self.unread();
        let Some(line) = line_length(unread) else {
            if unread.len() >= MAX_START_LINE {
                self.skip(unread.len());
                self.state = FramerState::Resync(LinePosition::Middle);
            }
            return FramerStep::Wait;
        };
        if place == LinePosition::Begin && unread.get(..line).is_some_and(looks_like_sip) {
            let after = unread.get(line..).unwrap_or_default();
            if is_header(after) {
                self.state = FramerState::Sip;
                return FramerStep::Again;
            }
            if line_length(after).is_none() && after.len() < MAX_START_LINE {
                return FramerStep::Wait;
            }
        }
        self.skip(line);
        self.state = FramerState::Resync(LinePosition::Begin);
        FramerStep::Again
    }

    fn skip_body(&mut self, left: usize) -> FramerStep {
        let step = left.min(self.unread().len());
        self.consume(step);
        self.state = if step == left { FramerState::Sip } else { FramerState::Skip(left - step) };
        if step == left { FramerStep::Again } else { FramerStep::Wait }
    }

    fn http(&mut self, out: &mut dyn FnMut(&[u8])) -> FramerStep {
        let Some(head) = self.head_length() else {
            if self.unread().len() > MAX_HEADER_BYTES {
                self.skip(self.unread().len());
                self.state = FramerState::GivenUp;
            }
            return FramerStep::Wait;
        };
        let unread = self.unread();
        if !websocket::is_upgrade(unread.get(..head).unwrap_or_default()) {
            self.skip(unread.len());
            self.state = FramerState::GivenUp;
            return FramerStep::Wait;
        }
        self.begin_websocket(head, out)
    }

    /// Begins to decode WebSocket frames. The first `after` unread bytes are skipped.
    fn begin_websocket(&mut self, after: usize, out: &mut dyn FnMut(&[u8])) -> FramerStep {
        let mut decoder = Box::<WebSocketDecoder>::default();
        decoder.push(self.unread().get(after..).unwrap_or_default(), out);
        self.consume(self.unread().len());
        self.state = FramerState::WebSocket(decoder);
        FramerStep::Wait
    }

    /// Passes a message with complete headers and an incomplete body to `out`. Then drops all buffered bytes, because
    /// the bytes after them are lost.
    fn flush(&mut self, out: &mut dyn FnMut(&[u8])) {
        if matches!(self.state, FramerState::Sip)
            && let Some(head) = self.head_length()
            && announced_length(self.unread().get(..head).unwrap_or_default()).is_ok()
            && looks_like_sip(self.unread())
        {
            out(self.unread());
            self.consume(self.unread().len());
        }
        self.skip(self.unread().len());
        self.buffer.clear();
        self.at = 0;
    }

    /// Skips the next line, because no message starts with it.
    fn skip_line(&mut self) -> FramerStep {
        let line = line_length(self.unread());
        self.skip(line.unwrap_or(self.unread().len()));
        self.state = FramerState::Resync(if line.is_some() { LinePosition::Begin } else { LinePosition::Middle });
        FramerStep::Again
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    fn consume(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.buffer.len());
        self.searched = 0;
    }

    fn skip(&mut self, bytes: usize) {
        self.skipped += bytes as u64;
        self.lost_for += bytes;
        self.consume(bytes);
    }

    /// Skips line ends (keep-alives, RFC 5626 section 3.5.1), and the NULs and blanks that some stacks send between
    /// messages.
    fn skip_line_ends(&mut self) {
        let ends = keep_alives(self.unread());
        if ends > 0 {
            self.consume(ends);
        }
    }

    /// Returns the length of the headers in bytes, with the empty line after them; `None` if they are incomplete.
    fn head_length(&mut self) -> Option<usize> {
        let unread = self.buffer.get(self.at..).unwrap_or_default();
        let mut from = self.searched;
        while let Some(end) = unread.get(from..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let after = from + end + 1;
            let returns = unread.get(after..).unwrap_or_default().iter().take_while(|&&b| b == b'\r').count();
            match unread.get(after + returns) {
                Some(b'\n') => return Some(after + returns + 1),
                Some(_) => from = after,
                // The buffer ends with a line end. The next bytes may complete it to the empty line behind the headers,
                // so the next search begins at this line end.
                None => {
                    self.searched = from + end;
                    return None;
                }
            }
        }
        self.searched = unread.len();
        None
    }
}

/// Returns the number of leading bytes that only separate messages: line ends, NULs and blanks.
fn keep_alives(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n' | b'\0' | b' ' | b'\t')).count()
}

/// Returns the length of the first line in bytes, with its line end; `None` if the line is incomplete.
fn line_length(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes.get(..MAX_START_LINE).unwrap_or(bytes)).map(|end| end + 1)
}

/// Returns whether the bytes begin with a start line and a header line, after optional keep-alives. A piece of a start
/// line is no start line.
fn begins_message(bytes: &[u8]) -> bool {
    let bytes = bytes.get(keep_alives(bytes)..).unwrap_or_default();
    let Some(line) = line_length(bytes) else { return false };
    bytes.get(..line).is_some_and(is_start_line) && bytes.get(line..).is_some_and(is_header)
}

/// Returns whether an unfinished line and the beginning of the next segment are one start line, e.g. `PR` and `ACK
/// sip:…`.
fn completes_start_line(unfinished: &[u8], segment: &[u8]) -> bool {
    let begin = unfinished.get(keep_alives(unfinished)..).unwrap_or_default();
    let rest = segment.get(..line_length(segment).unwrap_or_default()).unwrap_or_default();
    is_start_line(&[begin, rest].concat())
}

/// Returns whether the bytes begin with a header name and a colon, as each header line does.
fn is_header(bytes: &[u8]) -> bool {
    let name = bytes.iter().take_while(|&&b| is_token(b)).count();
    let blanks = bytes.get(name..).unwrap_or_default().iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    name > 0 && bytes.get(name + blanks) == Some(&b':')
}

/// Maximum size of a message that is buffered, bytes. The longest real messages (SIPREC with metadata) have less than
/// 20 kB. Without a maximum, a wrong Content-Length could take any memory.
pub(crate) const MAX_STREAM_BUFFER: usize = 128 * 1024;

/// Maximum number of bytes of the stream that are handled at once.
const MAX_PIECE: usize = 16 * 1024;

/// Number of bytes without a message after which a stream is no longer read, e.g. TLS or a file transfer. It must
/// exceed [`MAX_STREAM_BUFFER`], because the capture may begin within a long message.
const GIVE_UP_AFTER: usize = 1024 * 1024;

/// Maximum size of an empty buffer that an idle connection keeps, bytes.
const KEEP_CAPACITY: usize = 8 * 1024;
