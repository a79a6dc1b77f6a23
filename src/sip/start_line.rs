//! Parses the start line of a message (RFC 3261 sections 7.1 and 7.2).

use std::borrow::Cow;
use std::fmt;

use super::header::{decimal, is_token, skip_line_ends, trim};
use super::message::SipParseError;

/// Returns whether the bytes begin with a SIP start line, after optional CRLF keep-alives.
///
/// Any SIP version is accepted, so that [`super::SipMessage::parse`] can report a wrong version. RTP is rejected by its
/// first byte, within a few nanoseconds.
pub fn looks_like_sip(bytes: &[u8]) -> bool {
    let bytes = skip_line_ends(bytes);
    if !bytes.first().is_some_and(|&b| is_token(b)) {
        return false;
    }
    if starts_with_ignore_case(bytes, b"SIP/") {
        return bytes.get(4).is_some_and(u8::is_ascii_digit);
    }
    let head = bytes.get(..MAX_START_LINE).unwrap_or(bytes);
    let method = head.iter().take(MAX_METHOD + 1).take_while(|&&b| is_token(b)).count();
    if method > MAX_METHOD || head.get(method) != Some(&b' ') {
        return false;
    }
    let Some(end) = memchr::memchr(b'\n', head) else { return false };
    is_version(last_word(head.get(..end).unwrap_or_default()))
}

/// Returns whether a line is certainly a start line: a status line, or a request line with a known method and a URI
/// without blanks. [`looks_like_sip`] also accepts a piece of a start line, e.g. `.1 SIP/2.0`.
pub(super) fn is_start_line(line: &[u8]) -> bool {
    match parse_start(line) {
        Ok(StartLine::Request { method: SipMethod::Other(_), .. }) | Err(_) => false,
        Ok(StartLine::Request { uri, .. }) => !uri.contains([' ', '\t']),
        Ok(StartLine::Response { reason, .. }) => !reason.contains("SIP/2.0"),
    }
}

/// The method of a request (RFC 3261 and its extensions).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SipMethod {
    /// Begins or changes a session.
    Invite,
    /// Confirms the final response to an INVITE.
    Ack,
    /// Ends a session.
    Bye,
    /// Cancels a pending request.
    Cancel,
    /// Changes a session without a three-way handshake (RFC 3311).
    Update,
    /// Confirms a reliable provisional response (RFC 3262).
    Prack,
    /// Asks the receiver to contact a third party, e.g. for a call transfer (RFC 3515).
    Refer,
    /// Carries application data within a session (RFC 6086), e.g. DTMF of older devices.
    Info,
    /// Binds an address of record to a contact address (registration).
    Register,
    /// Reports an event of a subscription (RFC 6665).
    Notify,
    /// Subscribes to events (RFC 6665).
    Subscribe,
    /// Asks for the capabilities of the receiver. Many devices send it as a sign of life.
    Options,
    /// Carries an instant message (RFC 3428).
    Message,
    /// Publishes the state of an event, e.g. that a user is on the telephone (RFC 3903).
    Publish,
    /// Any other method, with its name.
    Other(String),
}

impl SipMethod {
    /// Returns the method with this name, in upper or lower case. RFC 3261 section 7.1 requires upper case, but some
    /// senders use lower case.
    pub(crate) fn from_name(name: &str) -> Self {
        NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map_or_else(|| Self::Other(name.to_owned()), |(_, method)| method.clone())
    }

    /// Returns the name of the method, as in a request line.
    pub fn as_str(&self) -> &str {
        if let Self::Other(name) = self {
            return name;
        }
        NAMES.iter().find(|(_, method)| method == self).map_or("", |(name, _)| *name)
    }
}

impl fmt::Display for SipMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The start line of a message: the request line or the status line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// A request line, e.g. `INVITE sip:300@pbx SIP/2.0`.
    Request {
        /// Method of the request.
        method: SipMethod,
        /// Request-URI as sent. It may be malformed.
        uri: Cow<'a, str>,
    },
    /// A status line, the first line of a response, e.g. `SIP/2.0 200 OK`.
    Response {
        /// Status code, 100 to 699.
        status: u16,
        /// Reason phrase, e.g. `OK`. It may be empty.
        reason: Cow<'a, str>,
    },
}

/// Parses the first line of a message as a request line or as a status line.
pub(super) fn parse_start(line: &[u8]) -> Result<StartLine<'_>, SipParseError> {
    let line = trim(line.get(..MAX_START_LINE).unwrap_or(line));
    if starts_with_ignore_case(line, b"SIP/") {
        return parse_status(line);
    }
    let version = last_word(line);
    if !is_version(version) {
        return Err(SipParseError::StartLine);
    }
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        return Err(SipParseError::Version);
    }
    let rest = line.get(..line.len() - version.len()).unwrap_or_default();
    let method = rest.iter().position(|&b| !is_token(b)).unwrap_or(rest.len());
    let (method, uri) = rest.split_at_checked(method).unwrap_or((rest, &[]));
    if method.is_empty() || method.len() > MAX_METHOD || !matches!(uri.first(), Some(b' ' | b'\t')) {
        return Err(SipParseError::StartLine);
    }
    let uri = trim(uri);
    if uri.is_empty() {
        return Err(SipParseError::StartLine);
    }
    Ok(StartLine::Request {
        method: SipMethod::from_name(&String::from_utf8_lossy(method)),
        uri: String::from_utf8_lossy(uri),
    })
}

fn parse_status(line: &[u8]) -> Result<StartLine<'_>, SipParseError> {
    let end = line.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(line.len());
    let (version, rest) = line.split_at_checked(end).unwrap_or((line, &[]));
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        return Err(if is_version(version) { SipParseError::Version } else { SipParseError::StartLine });
    }
    let rest = trim(rest);
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (code, reason) = rest.split_at_checked(digits).unwrap_or((rest, &[]));
    // A status code above 699 must not be taken for a valid status code (RFC 4475 section 3.1.2.19).
    let status = match decimal(code) {
        Some(code @ 100..=699) => code as u16,
        _ => return Err(SipParseError::Status),
    };
    Ok(StartLine::Response { status, reason: String::from_utf8_lossy(trim(reason)) })
}

fn last_word(line: &[u8]) -> &[u8] {
    let line = trim(line);
    let start = line.iter().rposition(|b| matches!(b, b' ' | b'\t')).map_or(0, |i| i + 1);
    line.get(start..).unwrap_or_default()
}

/// Returns whether a word is `SIP/`, a digit, `.`, and a digit, in upper or lower case.
fn is_version(word: &[u8]) -> bool {
    starts_with_ignore_case(word, b"SIP/")
        && matches!(word.get(4..), Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn starts_with_ignore_case(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

/// Maximum length of a start line, bytes. A longer line is not SIP.
pub(super) const MAX_START_LINE: usize = 8 * 1024;

/// Maximum length of a method name, bytes. The longest in RFC 4475 has 41.
pub(super) const MAX_METHOD: usize = 64;

const NAMES: [(&str, SipMethod); 14] = [
    ("INVITE", SipMethod::Invite),
    ("ACK", SipMethod::Ack),
    ("BYE", SipMethod::Bye),
    ("CANCEL", SipMethod::Cancel),
    ("UPDATE", SipMethod::Update),
    ("PRACK", SipMethod::Prack),
    ("REFER", SipMethod::Refer),
    ("INFO", SipMethod::Info),
    ("REGISTER", SipMethod::Register),
    ("NOTIFY", SipMethod::Notify),
    ("SUBSCRIBE", SipMethod::Subscribe),
    ("OPTIONS", SipMethod::Options),
    ("MESSAGE", SipMethod::Message),
    ("PUBLISH", SipMethod::Publish),
];
