//! WebSocket frames (RFC 6455 section 5) that carry SIP (RFC 7118): one WebSocket message is one SIP
//! message. Compressed frames (RSV1) cannot be read and are skipped; no SIP endpoint is known to
//! negotiate them.

use super::framer::MAX_STREAM_BUFFER;
use super::header::skip_line_ends;
use super::start_line::looks_like_sip;

/// Whether an HTTP head asks for or grants a WebSocket (RFC 6455 sections 4.1 and 4.2.2).
pub(super) fn is_upgrade(head: &[u8]) -> bool {
    head.split(|&b| b == b'\n').any(|line| {
        let line = String::from_utf8_lossy(line);
        line.split_once(':').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("Upgrade") && value.to_ascii_lowercase().contains("websocket")
        })
    })
}

/// Whether these bytes are the beginning of a data frame with a SIP message: how a connection that was
/// open before we heard it is recognised. `None` while the message's first line is not complete.
pub(super) fn begins_frame(bytes: &[u8]) -> Option<bool> {
    // Exactly text or binary, the last frame or not, and not compressed: `BYE sip:...` would otherwise
    // be a compressed binary frame that holds `E sip:...`.
    if !matches!(bytes.first()?, 0x81 | 0x82 | 0x01 | 0x02) {
        return Some(false);
    }
    let Ok(header) = WebSocketHeader::parse(bytes)? else { return Some(false) };
    let payload = bytes.get(header.length..).unwrap_or_default();
    let wanted = usize::try_from(header.payload).unwrap_or(usize::MAX).min(PROBE);
    let mut probe = payload.get(..wanted).unwrap_or(payload).to_vec();
    unmask(&mut probe, header.mask, 0);
    match looks_like_sip(&probe) {
        false if probe.len() < wanted => None,
        decided => Some(decided),
    }
}

/// One direction of a WebSocket.
#[derive(Default)]
pub(super) struct WebSocketDecoder {
    /// The beginning of a frame whose header is not complete.
    header: Vec<u8>,
    frame: Option<WebSocketFrame>,
    /// The data of the message so far.
    message: Vec<u8>,
    /// Whether the message is too long, compressed, or began before we heard it.
    unusable: bool,
    /// Whether the place of the frames is unknown.
    lost: bool,
    skipped: u64,
}

impl WebSocketDecoder {
    /// Takes the next bytes and gives each message that they complete to `out`.
    pub(super) fn push(&mut self, mut data: &[u8], out: &mut dyn FnMut(&[u8])) {
        if self.lost && begins_frame(data) == Some(true) {
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

    /// Bytes are lost: frames are found again where a piece of data begins with one.
    pub(super) fn gap(&mut self) {
        *self = Self { lost: true, skipped: self.skipped, ..Self::default() };
    }

    /// Bytes of no use.
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
            self.unusable |= self.message.len() + piece.len() > MAX_STREAM_BUFFER;
            if self.unusable {
                self.skipped += piece.len() as u64;
            } else {
                let begin = self.message.len();
                self.message.extend_from_slice(piece);
                unmask(self.message.get_mut(begin..).unwrap_or_default(), frame.mask, frame.offset);
            }
        }
        frame.left -= length as u64;
        // Only its two low bits matter.
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
        // What continues a message that began unheard is of no use.
        self.unusable = true;
    }
}

/// A frame whose payload is being read.
struct WebSocketFrame {
    left: u64,
    mask: [u8; 4],
    offset: usize,
    kind: WebSocketFrameKind,
    last: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WebSocketFrameKind {
    /// Text or binary: begins a message.
    Data,
    /// Goes on with it.
    Continuation,
    /// Close, ping, pong: may stand between the frames of a message.
    Control,
}

struct WebSocketHeader {
    kind: WebSocketFrameKind,
    last: bool,
    compressed: bool,
    payload: u64,
    /// All zero for an unmasked frame.
    mask: [u8; 4],
    /// Of the header itself.
    length: usize,
}

impl WebSocketHeader {
    /// The header at the beginning of `bytes`: nothing while it is not complete, an error when it
    /// breaks the rules (RFC 6455 section 5.2).
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

/// Takes the mask off (RFC 6455 section 5.3); `offset` is the place of the first octet in its payload.
fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    for (octet, key) in bytes.iter_mut().zip(mask.iter().cycle().skip(offset % 4)) {
        *octet ^= key;
    }
}

/// Payload of one frame that is believed: what is longer is no frame, or not SIP.
const MAX_FRAME: u64 = 16 * 1024 * 1024;

/// Bytes of a message in which its first line is looked for.
const PROBE: usize = 2 * 1024;
