//! The first line of a message (RFC 3261 sections 7.1 and 7.2).

use std::borrow::Cow;
use std::fmt;

use super::header::{decimal, is_token, skip_line_ends, trim};
use super::message::SipParseError;

/// Whether these bytes begin as a SIP message: a status line `SIP/x.y` or a request line that ends in
/// `SIP/x.y`, after CRLF keep-alives. Any version passes, so that [`super::Message::parse`] can say why it
/// refuses one. Costs a few nanoseconds for RTP, whose first octet is no character.
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

/// A method (RFC 3261 and its extensions).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SipMethod {
    /// Opens or changes a session.
    Invite,
    /// Confirms the final answer to an INVITE.
    Ack,
    /// Ends a session.
    Bye,
    /// Takes back a pending request.
    Cancel,
    /// Changes a session without a three-way handshake (RFC 3311).
    Update,
    /// Confirms a reliable provisional response (RFC 3262).
    Prack,
    /// Asks the peer to call somebody else (RFC 3515).
    Refer,
    /// Application data within a session (RFC 6086); old DTMF.
    Info,
    /// Binds an address of record to a contact.
    Register,
    /// News on a subscription (RFC 6665).
    Notify,
    /// Asks for news (RFC 6665).
    Subscribe,
    /// Asks for capabilities.
    Options,
    /// A page of text (RFC 3428).
    Message,
    /// Publishes event state (RFC 3903).
    Publish,
    /// Any other token.
    Other(String),
}

impl SipMethod {
    /// The method of this name. Names are compared without case, although RFC 3261 section 7.1 makes
    /// them case-sensitive: a recorder loses a call by being right here.
    pub fn from_name(name: &str) -> Self {
        NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map_or_else(|| Self::Other(name.to_owned()), |(_, method)| method.clone())
    }

    /// Its name on the wire.
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

/// The first line of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// A request.
    Request {
        /// What is asked.
        method: SipMethod,
        /// Of whom; as it stands, which need not be a well-formed URI.
        uri: Cow<'a, str>,
    },
    /// A response.
    Response {
        /// 100..=699.
        status: u16,
        /// For people; may be empty.
        reason: Cow<'a, str>,
    },
}

/// Reads a start line.
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
    // RFC 4475 section 3.1.2.19: a code beyond 699 must not be folded into one that is valid.
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

/// `SIP/` digit `.` digit, in any case.
fn is_version(word: &[u8]) -> bool {
    starts_with_ignore_case(word, b"SIP/")
        && matches!(word.get(4..), Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn starts_with_ignore_case(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

/// Bytes of start line that are searched for the version.
pub(super) const MAX_START_LINE: usize = 8 * 1024;

/// Bytes of a method name; the longest of the RFC 4475 set has 41.
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
