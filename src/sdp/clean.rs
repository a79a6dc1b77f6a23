//! Prepares session descriptions for the parser of `sdp-types`: keeps the lines that a recorder needs.
//!
//! That crate rejects a whole description because of one line, even if a recorder does not need it. Examples:
//!
//! - a bandwidth that is not a number
//! - a blank in the user name of o=
//! - a second s= line
//! - a NUL at the end, or a blank after `v=0`
//! - a line without `=`
//!
//! So only v=, c=, m= and a= lines are passed to the crate, with single blanks.

use super::SdpReject;

/// Prepares a description for the parser. A line ends with CR, LF or CRLF. NULs are removed, and invalid UTF-8 becomes
/// U+FFFD.
pub(super) fn clean(bytes: &[u8]) -> Result<String, SdpReject> {
    if bytes.len() > MAX_SDP_BYTES {
        return Err(SdpReject::TooLong);
    }
    let raw: String = String::from_utf8_lossy(bytes).chars().filter(|&c| c != '\0').collect();
    let mut cleaned = String::with_capacity(raw.len() + 8);
    cleaned.push_str("v=0\r\n");
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
    /// Whether a v= or m= line was found. A text without them is no session description.
    found: bool,
    /// Whether the current section already has a c= line. Only multicast uses several c= lines, and only the first is
    /// kept.
    connected: bool,
    /// Number of m= lines that were read so far.
    media: usize,
}

impl CleanerState {
    fn take(&mut self, key: &str, value: &str, text: &mut String) {
        // The description has more than [`MAX_MEDIA`] m= lines. This line is or belongs to an m= line beyond them, so
        // it is dropped.
        if self.media > MAX_MEDIA {
            return;
        }
        match key {
            "v" => self.found = true,
            "c" if !self.connected => {
                if let Some(words) = connection(value) {
                    self.connected = true;
                    push(text, "c=", words.into_iter());
                }
            }
            "m" => {
                (self.found, self.connected) = (true, false);
                self.media += 1;
                if self.media <= MAX_MEDIA {
                    push_media(text, value);
                }
            }
            "a" if !value.is_empty() => {
                push(text, "a=", std::iter::once(value));
            }
            _ => {}
        }
    }
}

/// Appends an m= line with single blanks between its words. An unreadable m= line becomes a refused m= line (port 0),
/// so that the positions of the other m= lines do not change.
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

/// Returns whether a word of an m= line is a port, or a port and a number of ports (`port/number`).
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

/// Returns the three words of a c= line; `None` if the address is neither IPv4 nor IPv6.
fn connection(value: &str) -> Option<[&str; 3]> {
    let mut words = value.split_ascii_whitespace();
    let (net, kind, address) = (words.next()?, words.next()?, words.next()?);
    let kind = ["IP4", "IP6"].into_iter().find(|known| known.eq_ignore_ascii_case(kind))?;
    net.eq_ignore_ascii_case("IN").then_some(["IN", kind, address])
}

/// Maximum size of a description, bytes: that of a UDP datagram. A WebRTC description with many candidates has 10 kB.
pub const MAX_SDP_BYTES: usize = 64 * 1024;

/// Maximum number of lines of a description. Without it, 64 KiB could be 64 thousand empty lines.
pub const MAX_LINES: usize = 4_096;

/// Maximum number of m= lines. The recording session (SIPREC) of a conference has two for each participant.
const MAX_MEDIA: usize = 64;
