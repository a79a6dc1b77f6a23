//! Decodes WebSocket frames (RFC 6455 section 5) with SIP (RFC 7118). One WebSocket message is one SIP message.
//! Compressed frames (RSV1) are skipped, because no known SIP device uses compression.

use super::framer::MAX_STREAM_BUFFER;
use super::header::skip_line_ends;
use super::start_line::{is_start_line, looks_like_sip};

/// Returns whether HTTP headers request or accept an upgrade to WebSocket (RFC 6455 sections 4.1 and 4.2.2).
pub(super) fn is_upgrade(head: &[u8]) -> bool {
    head.split(|&b| b == b'\n').any(|line| {
        let line = String::from_utf8_lossy(line);
        line.split_once(':').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("Upgrade") && value.to_ascii_lowercase().contains("websocket")
        })
    })
}

/// Returns whether the bytes begin with a WebSocket frame that contains a SIP message. So connections are recognized
/// that began before the capture. Returns `None` if the first line of the message is incomplete.
///
/// The first line must be a start line beyond doubt. The bytes of a frame header can occur in damaged SIP over TCP, too,
/// before a piece of a start line.
pub(super) fn begins_frame(bytes: &[u8]) -> Option<bool> {
    begins_frame_with(bytes, is_start_line)
}

/// Returns whether the bytes begin with a WebSocket frame that contains a message whose first line fulfils a condition.
/// Returns `None` if this line is incomplete.
fn begins_frame_with(bytes: &[u8], is_start: fn(&[u8]) -> bool) -> Option<bool> {
    // Only uncompressed text and binary frames count. Otherwise the plain text `BYE sip:...` could be taken for a
    // compressed binary frame with the payload `E sip:...`.
    if !matches!(bytes.first()?, 0x81 | 0x82 | 0x01 | 0x02) {
        return Some(false);
    }
    let Ok(header) = WebSocketHeader::parse(bytes)? else { return Some(false) };
    let payload = bytes.get(header.length..).unwrap_or_default();
    let wanted = usize::try_from(header.payload).unwrap_or(usize::MAX).min(PROBE);
    let mut probe = payload.get(..wanted).unwrap_or(payload).to_vec();
    unmask(&mut probe, header.mask, 0);
    let message = skip_line_ends(&probe);
    match memchr::memchr(b'\n', message) {
        Some(end) => Some(message.get(..=end).is_some_and(is_start)),
        None if probe.len() < wanted => None,
        None => Some(false),
    }
}

/// Decodes the bytes of one direction of a WebSocket connection.
#[derive(Default)]
pub(super) struct WebSocketDecoder {
    /// Bytes of an incomplete frame header.
    header: Vec<u8>,
    frame: Option<WebSocketFrame>,
    /// Payload of the current message so far.
    message: Vec<u8>,
    /// Whether the current message cannot be used: it is too long, compressed, or began before the capture.
    unusable: bool,
    /// Whether the start of the next frame is unknown, e.g. after lost bytes.
    lost: bool,
    skipped: u64,
    /// Number of messages that were too long to be stored.
    oversized: u64,
}

impl WebSocketDecoder {
    /// Adds the next bytes. Passes each complete message to `out`.
    pub(super) fn push(&mut self, mut data: &[u8], out: &mut dyn FnMut(&[u8])) {
        // The connection is certainly a WebSocket, so the start line may have any method.
        if self.lost && begins_frame_with(data, looks_like_sip) == Some(true) {
            self.lost = false;
        }
        while !data.is_empty() {
            if self.lost {
                self.skipped += data.len() as u64;
                return;
            }
            data = match self.frame.take() {
                Some(frame) => self.payload(frame, data, out),
                None => self.frame_header(data, out),
            };
        }
    }

    /// Handles lost bytes. Decoding continues with the next piece of the stream that begins with a frame.
    pub(super) fn gap(&mut self) {
        *self = Self { lost: true, skipped: self.skipped, oversized: self.oversized, ..Self::default() };
    }

    /// Returns the number of too long messages since the last call of this function.
    pub(super) fn take_oversized(&mut self) -> u64 {
        std::mem::take(&mut self.oversized)
    }

    /// Returns the number of bytes that belong to no message.
    pub(super) const fn skipped(&self) -> u64 {
        self.skipped
    }

    fn frame_header<'d>(&mut self, data: &'d [u8], out: &mut dyn FnMut(&[u8])) -> &'d [u8] {
        let Some((&next, rest)) = data.split_first() else { return data };
        self.header.push(next);
        match WebSocketHeader::parse(&self.header) {
            None => {}
            Some(Err(())) => {
                self.skipped += self.header.len() as u64;
                self.gap();
            }
            Some(Ok(header)) => {
                self.header.clear();
                self.begin(&header, out);
            }
        }
        rest
    }

    fn begin(&mut self, header: &WebSocketHeader, out: &mut dyn FnMut(&[u8])) {
        if header.kind == WebSocketFrameKind::Data {
            self.message.clear();
            self.unusable = header.compressed;
        }
        let frame =
            WebSocketFrame { left: header.payload, mask: header.mask, offset: 0, kind: header.kind, last: header.last };
        if frame.left == 0 {
            self.finish(&frame, out);
        } else {
            self.frame = Some(frame);
        }
    }

    fn payload<'d>(&mut self, mut frame: WebSocketFrame, data: &'d [u8], out: &mut dyn FnMut(&[u8])) -> &'d [u8] {
        let length = usize::try_from(frame.left).unwrap_or(usize::MAX).min(data.len());
        let (piece, rest) = data.split_at_checked(length).unwrap_or((data, &[]));
        if frame.kind != WebSocketFrameKind::Control {
            if !self.unusable && self.message.len() + piece.len() > MAX_STREAM_BUFFER {
                self.oversized += 1;
                self.unusable = true;
            }
            if self.unusable {
                self.skipped += piece.len() as u64;
            } else {
                let begin = self.message.len();
                self.message.extend_from_slice(piece);
                unmask(self.message.get_mut(begin..).unwrap_or_default(), frame.mask, frame.offset);
            }
        }
        frame.left -= length as u64;
        // The mask of four bytes repeats, so the offset modulo 4 is enough.
        frame.offset = (frame.offset + length) % 4;
        if frame.left == 0 {
            self.finish(&frame, out);
        } else {
            self.frame = Some(frame);
        }
        rest
    }

    fn finish(&mut self, frame: &WebSocketFrame, out: &mut dyn FnMut(&[u8])) {
        if frame.kind == WebSocketFrameKind::Control || !frame.last {
            return;
        }
        if !self.unusable && looks_like_sip(&self.message) {
            out(skip_line_ends(&self.message));
        } else if !skip_line_ends(&self.message).is_empty() {
            self.skipped += self.message.len() as u64;
        }
        self.message = Vec::new();
        // A continuation frame after this message belongs to a message with an uncaptured start, so it is not used.
        self.unusable = true;
    }
}

/// A WebSocket frame that is being read.
struct WebSocketFrame {
    left: u64,
    mask: [u8; 4],
    offset: usize,
    kind: WebSocketFrameKind,
    last: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WebSocketFrameKind {
    /// Text or binary frame. It begins a message.
    Data,
    /// Frame that continues the message of the frame before.
    Continuation,
    /// Close, ping or pong frame. It may come between the frames of a message.
    Control,
}

struct WebSocketHeader {
    kind: WebSocketFrameKind,
    last: bool,
    compressed: bool,
    payload: u64,
    /// Mask of the payload, four bytes; all zero for an unmasked frame.
    mask: [u8; 4],
    /// Length of the frame header, bytes.
    length: usize,
}

impl WebSocketHeader {
    /// Parses the frame header at the beginning of `bytes` (RFC 6455 section 5.2). Returns `None` if the header is
    /// incomplete, and an error if it is invalid.
    fn parse(bytes: &[u8]) -> Option<Result<Self, ()>> {
        let &[first, second, ref rest @ ..] = bytes else { return None };
        let (last, compressed) = (first & 0x80 != 0, first & 0x40 != 0);
        let kind = match first & 0x0f {
            0 => WebSocketFrameKind::Continuation,
            1 | 2 => WebSocketFrameKind::Data,
            8..=10 if last && second & 0x7f < 126 => WebSocketFrameKind::Control,
            _ => return Some(Err(())),
        };
        if first & 0x30 != 0 {
            return Some(Err(()));
        }
        let (payload, extra) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
            127 => (u64::from_be_bytes(*rest.first_chunk()?), 8),
            short => (u64::from(short), 0),
        };
        if payload > MAX_FRAME {
            return Some(Err(()));
        }
        let masked = second & 0x80 != 0;
        let mask = if masked { *rest.get(extra..)?.first_chunk()? } else { [0; 4] };
        Some(Ok(Self { kind, last, compressed, payload, mask, length: 2 + extra + if masked { 4 } else { 0 } }))
    }
}

/// Removes the mask from payload bytes (RFC 6455 section 5.3). `offset` is the position of the first byte in the
/// payload.
fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    for (octet, key) in bytes.iter_mut().zip(mask.iter().cycle().skip(offset % 4)) {
        *octet ^= key;
    }
}

/// Maximum payload of a frame, bytes. If a header announces more, the bytes are no frame, or the frame does not contain
/// SIP.
const MAX_FRAME: u64 = 16 * 1024 * 1024;

/// Maximum number of bytes of a message that are searched for the end of its first line.
const PROBE: usize = 2 * 1024;
