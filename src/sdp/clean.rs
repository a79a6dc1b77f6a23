//! Prepares descriptions for the parser of `sdp-types`: keeps the lines that a recorder needs, in the form that the
//! crate accepts.
//!
//! The crate rejects a whole description because of one line that a recorder does not need. Examples are a bandwidth
//! that is not a number, a blank in the user name of o=, a repeated s=, a trailing NUL, a blank after `v=0`, and a line
//! without `=`. So only v=, c=, m= and a= lines pass, with single blanks. The cleaner itself parses o=.

use super::{SdpReject, SessionOrigin};

/// A description in the form that `sdp-types` accepts, and its origin (o= line), which the cleaner has parsed itself.
pub(super) struct CleanedSdp {
    pub(super) text: String,
    pub(super) origin: Option<SessionOrigin>,
}

/// Prepares a description for the parser. Invalid UTF-8 becomes U+FFFD, NULs are removed, and CR, LF and CRLF end a
/// line.
pub(super) fn clean(bytes: &[u8]) -> Result<CleanedSdp, SdpReject> {
    if bytes.len() > MAX_SDP_BYTES {
        return Err(SdpReject::TooLong);
    }
    let raw: String = String::from_utf8_lossy(bytes).chars().filter(|&c| c != '\0').collect();
    let mut cleaned = CleanedSdp { text: String::with_capacity(raw.len() + 8), origin: None };
    cleaned.text.push_str("v=0\r\n");
    let mut state = CleanerState::default();
    for (count, line) in raw.split(['\n', '\r']).map(|line| line.trim_ascii()).enumerate() {
        if count > MAX_LINES {
            return Err(SdpReject::TooLong);
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        state.take(key.trim(), value.trim_ascii(), &mut cleaned);
    }
    if state.found { Ok(cleaned) } else { Err(SdpReject::NotSdp) }
}

#[derive(Default)]
struct CleanerState {
    /// Whether a v= or m= line was found. Without them the text is no session description.
    found: bool,
    /// Whether the current section has a c= line already. Further c= lines of a section, which only multicast uses, are
    /// dropped.
    connected: bool,
    /// Number of m= lines that were read so far.
    media: usize,
}

impl CleanerState {
    fn take(&mut self, key: &str, value: &str, out: &mut CleanedSdp) {
        // All further lines belong to m= lines beyond [`MAX_MEDIA`].
        if self.media > MAX_MEDIA {
            return;
        }
        match key {
            "v" => self.found = true,
            "o" => out.origin = out.origin.take().or_else(|| origin(value)),
            "c" if !self.connected => {
                if let Some(words) = connection(value) {
                    self.connected = true;
                    push(&mut out.text, "c=", words.into_iter());
                }
            }
            "m" => {
                (self.found, self.connected) = (true, false);
                self.media += 1;
                if self.media <= MAX_MEDIA {
                    push_media(&mut out.text, value);
                }
            }
            "a" if !value.is_empty() => {
                push(&mut out.text, "a=", std::iter::once(value));
            }
            _ => {}
        }
    }
}

/// Appends an m= line with its words separated by single blanks. An unreadable m= line is replaced by a refused m= line
/// (port 0), so that the other m= lines keep their positions.
fn push_media(text: &mut String, value: &str) {
    let mut words = value.split_ascii_whitespace();
    let kind = words.next().unwrap_or("-");
    let port = words.next().filter(|port| is_port(port)).unwrap_or("0");
    let protocol = words.next().unwrap_or("-");
    let mut formats = words.peekable();
    if formats.peek().is_none() {
        push(text, "m=", [kind, port, protocol, "-"].into_iter());
    } else {
        push(text, "m=", [kind, port, protocol].into_iter().chain(formats));
    }
}

/// Returns whether a word of an m= line is a port, or `port/number of ports`.
fn is_port(word: &str) -> bool {
    let (port, count) = word.split_once('/').unwrap_or((word, "1"));
    port.parse::<u16>().is_ok() && count.parse::<u16>().is_ok()
}

fn push<'w>(text: &mut String, key: &str, words: impl Iterator<Item = &'w str>) {
    text.push_str(key);
    for (i, word) in words.enumerate() {
        if i > 0 {
            text.push(' ');
        }
        text.push_str(word);
    }
    text.push_str("\r\n");
}

/// Returns the three words of a c= line, if it has an IPv4 or IPv6 address.
fn connection(value: &str) -> Option<[&str; 3]> {
    let mut words = value.split_ascii_whitespace();
    let (net, kind, address) = (words.next()?, words.next()?, words.next()?);
    let kind = ["IP4", "IP6"].into_iter().find(|known| known.eq_ignore_ascii_case(kind))?;
    net.eq_ignore_ascii_case("IN").then_some(["IN", kind, address])
}

/// Parses an o= line from its end, because the user name at its beginning can contain blanks.
fn origin(value: &str) -> Option<SessionOrigin> {
    let mut words = value.split_ascii_whitespace().rev();
    let address = words.next()?.to_owned();
    let (_address_type, _net_type) = (words.next()?, words.next()?);
    let session_version = words.next()?.parse().ok()?;
    let session_id = words.next()?.to_owned();
    Some(SessionOrigin { session_id, session_version, address })
}

/// Maximum size of a description, bytes. A WebRTC description with many candidates has 10 kB; a UDP datagram has at
/// most 64 KiB.
pub const MAX_SDP_BYTES: usize = 64 * 1024;

/// Maximum number of lines of a description. The size limit alone would allow 64 thousand empty lines.
pub const MAX_LINES: usize = 4_096;

/// Maximum number of m= lines. In a recording session (SIPREC) of a conference, each participant has two.
const MAX_MEDIA: usize = 64;
