//! Classifies TCP streams by their first bytes: SIP or not. The bytes of other streams are not stored.
//!
//! If the SYN of a stream was captured, the stream must begin with SIP or a WebSocket handshake for SIP (RFC 7118
//! section 4). SIP means a start line (RFC 3261 section 7) or CRLF keep-alives (RFC 5626 section 3.5.1). If the SYN was
//! not captured, `SIP/2.0` must occur within [`MAX_UNDECIDED_BYTES`]. Any other stream is ignored until a segment
//! begins with a start line, or until the other direction is found to be SIP.

use memchr::memmem;

/// The content of a TCP stream, according to its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamClass {
    Sip,
    /// TLS: the content is encrypted and cannot be read.
    Tls,
    /// RTP packets, or STUN packets of ICE, each preceded by its length (RFC 4571, RFC 6544).
    Rtp,
    Other,
    /// The class is unknown; more bytes are needed.
    Undecided,
}

/// Classifies the first bytes of a stream with a captured SYN.
pub(super) fn classify_start(data: &[u8]) -> StreamClass {
    match media_framing(data) {
        MediaFraming::Yes => return StreamClass::Rtp,
        MediaFraming::Perhaps if data.len() <= MAX_UNDECIDED_BYTES => return StreamClass::Undecided,
        MediaFraming::Perhaps | MediaFraming::No => {}
    }
    let data = skip_keep_alives(data);
    let Some(first) = data.first() else { return StreamClass::Undecided };
    if is_tls_record(data) {
        return StreamClass::Tls;
    }
    if !first.is_ascii_alphabetic() {
        return StreamClass::Other;
    }
    let line = memchr::memchr(b'\n', data).map(|end| data[..end].trim_ascii_end());
    match line {
        Some(line) if is_start_line(line) => StreamClass::Sip,
        Some(line) if line.starts_with(b"GET ") || line.starts_with(b"HTTP/1.1 101") => classify_handshake(data),
        Some(_) => StreamClass::Other,
        // CR is allowed in an unfinished line, because the segment can end between CR and LF.
        None if data.len() > MAX_START_LINE || data.iter().any(|b| b.is_ascii_control() && *b != b'\r') => {
            StreamClass::Other
        }
        None => StreamClass::Undecided,
    }
}

/// Classifies bytes from the middle of a stream. The first `from` bytes were classified before.
pub(super) fn classify_middle(data: &[u8], from: usize) -> StreamClass {
    let overlap = from.saturating_sub(VERSION.len() - 1);
    if memmem::find(&data[overlap.min(data.len())..], VERSION).is_some() {
        return StreamClass::Sip;
    }
    if is_tls_record(data) {
        return StreamClass::Tls;
    }
    if skip_keep_alives(data).is_empty() {
        return StreamClass::Undecided;
    }
    match media_framing(data) {
        MediaFraming::Yes => return StreamClass::Rtp,
        MediaFraming::Perhaps if data.len() <= MAX_UNDECIDED_BYTES => return StreamClass::Undecided,
        MediaFraming::Perhaps | MediaFraming::No => {}
    }
    let is_control = |b: &u8| b.is_ascii_control() && !b.is_ascii_whitespace();
    if data.len() > MAX_UNDECIDED_BYTES || data[from.min(data.len())..].iter().take(BINARY_BYTES).any(is_control) {
        return StreamClass::Other;
    }
    StreamClass::Undecided
}

/// Returns whether a segment begins with a SIP message, either plain or in an unmasked WebSocket frame.
pub(in crate::decode) fn begins_message(segment: &[u8]) -> bool {
    // RFC 6455 section 5.2: the frame has FIN with text or binary opcode, then an unmasked length of one or three
    // bytes.
    let message = match segment {
        [0x81 | 0x82, 0..=125, rest @ ..] => rest,
        [0x81 | 0x82, 126, _, _, rest @ ..] => rest,
        _ => segment,
    };
    let message = skip_keep_alives(message);
    if !message.first().is_some_and(u8::is_ascii_uppercase) {
        return false;
    }
    let head = &message[..message.len().min(MAX_START_LINE)];
    memchr::memchr(b'\n', head).is_some_and(|end| is_start_line(head[..end].trim_ascii_end()))
}

/// Returns whether a line is a request line or status line of SIP 2.0, in upper or lower case.
fn is_start_line(line: &[u8]) -> bool {
    let is_version = |bytes: Option<&[u8]>| bytes.is_some_and(|b| b.eq_ignore_ascii_case(VERSION));
    let starts = is_version(line.get(..VERSION.len())) && line.get(VERSION.len()) == Some(&b' ');
    let ends = line.len() > VERSION.len() && is_version(line.get(line.len() - VERSION.len()..));
    starts || (ends && line.get(line.len() - VERSION.len() - 1) == Some(&b' '))
}

/// Classifies the headers of an HTTP message: SIP if they request or accept the WebSocket subprotocol `sip`.
fn classify_handshake(data: &[u8]) -> StreamClass {
    let Some(end) = memmem::find(data, b"\r\n\r\n") else {
        return if data.len() > MAX_UNDECIDED_BYTES { StreamClass::Other } else { StreamClass::Undecided };
    };
    let names_sip = data[..end].split(|b| *b == b'\n').any(|line| {
        let Some(colon) = memchr::memchr(b':', line) else { return false };
        line[..colon].eq_ignore_ascii_case(b"sec-websocket-protocol")
            && line[colon + 1..].split(|b| *b == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"sip"))
    });
    if names_sip { StreamClass::Sip } else { StreamClass::Other }
}

/// Skips line ends, and also NULs and blanks, which some senders put between messages.
fn skip_keep_alives(data: &[u8]) -> &[u8] {
    let text = data.iter().position(|b| !matches!(b, b'\r' | b'\n' | b'\0' | b' ' | b'\t'));
    text.map_or(&[], |at| &data[at..])
}

/// Whether bytes are media packets, each preceded by its length (RFC 4571 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MediaFraming {
    No,
    /// More bytes are needed: a single packet after a length can belong to another protocol, e.g. DNS.
    Perhaps,
    Yes,
}

/// Examines the first packets of a stream. Two RTP packets of one source with successive numbers prove media. A STUN
/// packet proves media, too: ICE sends STUN before the RTP (RFC 6544 section 3).
fn media_framing(data: &[u8]) -> MediaFraming {
    let (mut rest, mut last) = (data, None);
    for _ in 0..MAX_FRAMES {
        let Some((length, after)) = rest.split_first_chunk::<2>() else { break };
        let length = usize::from(u16::from_be_bytes(*length));
        let packet = after.get(..length).unwrap_or(after);
        if !(RTP_HEADER..=1500).contains(&length) || !packet.first().is_none_or(|first| matches!(first >> 6, 0 | 2)) {
            return MediaFraming::No;
        }
        let Some(header) = packet.first_chunk::<RTP_HEADER>() else { break };
        match *header {
            [0 | 1, _, hi, lo, 0x21, 0x12, 0xa4, 0x42, ..]
                if usize::from(u16::from_be_bytes([hi, lo])) + 20 == length =>
            {
                return MediaFraming::Yes;
            }
            [0x80..=0xff, 192..=223, ..] => {} // RTCP
            [0x80..=0xff, _, s0, s1, .., a, b, c, d] => {
                let (sequence, source) = (u16::from_be_bytes([s0, s1]), [a, b, c, d]);
                match last.replace((sequence, source)) {
                    None => {}
                    Some((before, same)) if same == source && sequence == before.wrapping_add(1) => {
                        return MediaFraming::Yes;
                    }
                    Some(_) => return MediaFraming::No,
                }
            }
            _ => return MediaFraming::No,
        }
        let Some(next) = after.get(length..) else { break };
        rest = next;
    }
    MediaFraming::Perhaps
}

/// Returns whether the bytes begin with a TLS record header: type, version 3.x, valid length (RFC 8446 section 5.1).
fn is_tls_record(data: &[u8]) -> bool {
    matches!(data, [0x14..=0x17, 3, 0..=4, hi, lo, ..] if (1..=16_640).contains(&u16::from_be_bytes([*hi, *lo])))
}

const VERSION: &[u8] = b"SIP/2.0";
/// Maximum length of a start line, bytes: a request line with a long URI.
const MAX_START_LINE: usize = 2048;
/// Maximum number of bytes that are examined to classify a stream. A start line follows within this distance, even from
/// the middle of an INVITE.
pub(super) const MAX_UNDECIDED_BYTES: usize = 8 * 1024;
/// Maximum number of RTP or STUN packets (each preceded by its length, RFC 4571) that are examined to classify a
/// stream.
const MAX_FRAMES: usize = 8;
/// Length of the fixed header of an RTP packet, bytes (RFC 3550 section 5.1).
const RTP_HEADER: usize = 12;
/// Number of bytes at the start of a segment that are searched for control characters. A stream with such a character
/// is binary data and no SIP.
const BINARY_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sip_and_its_handshake_are_recognized_among_other_protocols() {
        let ws = b"GET /ws HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Protocol: chat, SIP\r\n\r\n";
        for (data, expected) in [
            (&b"INVITE sip:a@b SIP/2.0\r\nVia: x"[..], StreamClass::Sip),
            (b"\r\n\r\nSIP/2.0 200 OK\r\n", StreamClass::Sip),
            (b"sip/2.0 200 OK\n", StreamClass::Sip),
            (ws, StreamClass::Sip),
            (b"HTTP/1.1 101 Switching\r\nsec-websocket-protocol: sip\r\n\r\n", StreamClass::Sip),
            (b"INVITE sip:a", StreamClass::Undecided),
            (b"\r\n\r\n", StreamClass::Undecided),
            (&ws[..40], StreamClass::Undecided),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", StreamClass::Other),
            (b"POST / HTTP/1.1\r\n", StreamClass::Other),
            (b"SSH-2.0-OpenSSH\r\n", StreamClass::Other),
            (&[0x16, 3, 1, 2, 0, 1], StreamClass::Tls),
            (&[0, 1, 2, 3], StreamClass::Other),
            (b"\r\n\0INVITE sip:a@b SIP/2.0\r\n", StreamClass::Sip),
            (b"\0 \tBYE sip:a SIP/2.0\r\n", StreamClass::Sip),
            // The first RTP packet alone proves nothing. With the beginning of the second packet, which has padding, it
            // proves media.
            (&[0, 13, 0x80, 8, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4, 0xd5], StreamClass::Undecided),
            (
                &[0, 13, 0x80, 8, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4, 9, 0, 172, 0xb0, 8, 0, 2, 0, 0, 1, 64, 1, 2, 3, 4],
                StreamClass::Rtp,
            ),
            // DNS over TCP: two queries with ids that begin with the first byte of an RTP packet. They do not count as
            // media.
            (&[&[0, 17, 0x80, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1][..]; 2].concat(), StreamClass::Other),
            // A STUN binding request of ICE over TCP proves media.
            (&[&[0, 20, 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat(), StreamClass::Rtp),
        ] {
            assert_eq!(classify_start(data), expected, "{:?}", String::from_utf8_lossy(data));
        }
        assert_eq!(classify_start(&[b'A'; 3000]), StreamClass::Other);
    }

    #[test]
    fn stream_seen_from_the_middle_is_sip_once_it_shows_the_version() {
        assert_eq!(classify_middle(b"alue\r\n\r\nBYE sip:a SIP/2.0\r\n", 0), StreamClass::Sip);
        assert_eq!(classify_middle(b"a=rtpmap:8 PCMA/8000\r\n", 0), StreamClass::Undecided);
        assert_eq!(classify_middle(b"xx SIP/2.0", 7), StreamClass::Sip);
        assert_eq!(classify_middle(&[7, 8, 9, 1, 2], 0), StreamClass::Other);
        assert_eq!(classify_middle(&[0x17, 3, 3, 0, 40, 9], 0), StreamClass::Tls);
        assert_eq!(classify_middle(&[b'a'; 9000], 0), StreamClass::Other);
    }

    #[test]
    fn message_at_segment_start_is_found_plain_and_in_a_frame() {
        assert!(begins_message(b"BYE sip:a SIP/2.0\r\nx"));
        assert!(begins_message(b"\x81\x7e\x01\x02SIP/2.0 200 OK\r\n"));
        assert!(!begins_message(b"BYE sip:a HTTP/1.1\r\n") && !begins_message(b"") && !begins_message(&[0x81]));
    }
}
