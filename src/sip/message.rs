//! One SIP message: start line, a table of headers, body (RFC 3261 section 7).

use std::borrow::Cow;
use std::fmt;

use super::address::{NameAddr, SipParams, SipUri};
use super::header::{both_names, decimal, find_outside, skip_line_ends, split_outside, take_line, text, trim};
use super::start_line::{SipMethod, StartLine, parse_start};

/// Whether `bytes` is exactly the bytes of one message or the head of a longer stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SipFraming {
    /// One datagram: without a Content-Length the body is the rest, octets after it are ignored
    /// (RFC 3261 section 18.3).
    Datagram,
    /// A message that [`super::framer::Framer`] cut from a stream: without a Content-Length there is
    /// no body (RFC 3261 section 20.14).
    Stream,
}

/// Why bytes are no message that could be keyed to a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SipParseError {
    /// Neither a request line nor a status line.
    #[error("no SIP start line")]
    StartLine,
    /// Another version than 2.0 (RFC 3261 section 7.1).
    #[error("not SIP/2.0")]
    Version,
    /// A status code outside 100..=699.
    #[error("no status code")]
    Status,
    /// More than [`MAX_HEADER_BYTES`] without an empty line.
    #[error("header section too long")]
    HeadersTooLong,
    /// More than [`MAX_HEADERS`] headers.
    #[error("too many headers")]
    TooManyHeaders,
    /// No Call-ID: the message belongs to no call.
    #[error("no Call-ID")]
    NoCallId,
    /// Two different Call-ID or CSeq headers (RFC 4475 section 3.3.8).
    #[error("contradicting headers")]
    Contradiction,
    /// A negative or non-numeric Content-Length, or several different ones (RFC 4475 sections
    /// 3.1.2.3 and 3.3.9).
    #[error("bad Content-Length")]
    ContentLength,
    /// The CSeq names another method than the request line (RFC 4475 section 3.1.2.17).
    #[error("CSeq of another method")]
    MethodMismatch,
    /// More than [`MAX_BODY_BYTES`] of body.
    #[error("body too long")]
    BodyTooLong,
}

/// The CSeq header (RFC 3261 section 20.16): which transaction within the dialog.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CSeq {
    /// Grows with each new request of one side.
    pub number: u32,
    /// The request's method, also in its responses.
    pub method: SipMethod,
}

/// A parsed message that borrows its bytes. Header values are unfolded and decoded when asked for.
#[derive(Clone)]
pub struct SipMessage<'a> {
    start: StartLine<'a>,
    head: &'a [u8],
    fields: Vec<HeaderSpan>,
    call_id: Cow<'a, str>,
    cseq: Option<CSeq>,
    body: &'a [u8],
    body_cut: bool,
}

impl<'a> SipMessage<'a> {
    /// Reads one message.
    ///
    /// Tolerated: leading CRLF, bare LF, folding, blanks round the colon, lines that are no header,
    /// names in any case and compact, several blanks in the start line, a missing empty line at the
    /// end (a cut datagram), a body shorter than announced ([`Self::body_cut`]).
    ///
    /// # Errors
    /// [`SipParseError`], when the bytes are no SIP/2.0 message or cannot be keyed to a dialog.
    pub fn parse(bytes: &'a [u8], framing: SipFraming) -> Result<Self, SipParseError> {
        let bytes = skip_line_ends(bytes);
        let (first, rest) = take_line(bytes);
        let start = parse_start(first)?;
        let (fields, head_len) = scan_headers(rest)?;
        let (head, after) = rest.split_at_checked(head_len).unwrap_or((rest, &[]));
        let mut message =
            Self { start, head, fields, call_id: Cow::Borrowed(""), cseq: None, body: &[], body_cut: false };
        message.call_id = message.one_value("Call-ID")?.filter(|id| !id.is_empty()).ok_or(SipParseError::NoCallId)?;
        message.cseq = message.checked_cseq()?;
        message.take_body(after, framing)?;
        Ok(message)
    }

    /// The first line.
    pub fn start(&self) -> &StartLine<'a> {
        &self.start
    }

    /// The method of a request; nothing for a response (whose method is in [`Self::cseq`]).
    pub fn method(&self) -> Option<&SipMethod> {
        match &self.start {
            StartLine::Request { method, .. } => Some(method),
            StartLine::Response { .. } => None,
        }
    }

    /// The status of a response, 100..=699.
    pub fn status(&self) -> Option<u16> {
        match self.start {
            StartLine::Request { .. } => None,
            StartLine::Response { status, .. } => Some(status),
        }
    }

    /// The Request-URI; `<>` round it are taken off (RFC 4475 section 3.1.2.7).
    pub fn request_uri(&self) -> Option<SipUri> {
        match &self.start {
            StartLine::Request { uri, .. } => {
                Some(SipUri::parse(uri.trim_start_matches('<').trim_end_matches('>').trim()))
            }
            StartLine::Response { .. } => None,
        }
    }

    /// The Call-ID, never empty.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// The CSeq; nothing when it is missing or its number is no `u32`.
    pub fn cseq(&self) -> Option<CSeq> {
        self.cseq.clone()
    }

    /// The method that this message is about: its own, or of a response the CSeq's.
    pub fn transaction_method(&self) -> Option<&SipMethod> {
        self.method().or(self.cseq.as_ref().map(|cseq| &cseq.method))
    }

    /// The From header.
    pub fn from(&self) -> Option<NameAddr> {
        NameAddr::parse(&self.header("From")?)
    }

    /// The To header.
    pub fn to(&self) -> Option<NameAddr> {
        NameAddr::parse(&self.header("To")?)
    }

    /// The first Contact.
    pub fn contact(&self) -> Option<NameAddr> {
        let contact = self.header("Contact")?;
        NameAddr::parse(split_outside(&contact, b',').next()?)
    }

    /// The first value of a header as it stands, unfolded. A name finds its compact form too.
    pub fn header(&self, name: &str) -> Option<Cow<'a, str>> {
        self.raw_values(name).next().map(text)
    }

    /// All headers of this name, in order, unfolded.
    pub fn headers(&self, name: &str) -> Vec<Cow<'a, str>> {
        self.raw_values(name).map(text).collect()
    }

    /// All values of a list header: those of every header of this name, split at the commas that
    /// stand outside quoted strings and angle brackets (RFC 3261 section 7.3.1).
    pub fn values(&self, name: &str) -> Vec<String> {
        self.headers(name)
            .iter()
            .flat_map(|line| split_outside(line, b',').map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    /// The values of a list of addresses: P-Asserted-Identity, Contact, Diversion (RFC 5806),
    /// History-Info (RFC 7044: its `index` is a parameter, its ReasonHeader stands in [`SipUri::header`]).
    pub fn addresses(&self, name: &str) -> Vec<NameAddr> {
        self.values(name).iter().filter_map(|value| NameAddr::parse(value)).collect()
    }

    /// The names and unfolded values of all headers, in order.
    pub fn all_headers(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + '_ {
        let head = self.head;
        self.fields.iter().map(move |field| (String::from_utf8_lossy(field.name(head)), text(field.value(head))))
    }

    /// The branch of the topmost Via: the transaction's name (RFC 3261 section 8.1.1.7).
    pub fn via_branch(&self) -> Option<Cow<'a, str>> {
        let via = self.header("Via")?;
        let top = split_outside(&via, b',').next()?;
        let params = SipParams::parse(top.get(find_outside(top, b';')? + 1..)?);
        params.get("branch").filter(|b| !b.is_empty()).map(|b| Cow::Owned(b.to_owned()))
    }

    /// The body, as much of it as was there.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The session description: a body of `application/sdp`, the first such part of a multipart
    /// body, or a body that begins like one where there is no Content-Type.
    pub fn sdp(&self) -> Option<Cow<'a, [u8]>> {
        super::body::sdp(self.header("Content-Type").as_deref(), self.body)
    }

    /// Whether Content-Length announces more than there is (a cut frame, or a wrong sender).
    pub fn body_cut(&self) -> bool {
        self.body_cut
    }

    fn raw_values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a, '_> {
        let (long, compact) = both_names(name);
        let (long, head) = (long.as_bytes().to_owned(), self.head);
        self.fields.iter().filter_map(move |field| {
            let found = match field.name(head) {
                [letter] => compact == Some(letter.to_ascii_lowercase()) || long.eq_ignore_ascii_case(&[*letter]),
                name => name.eq_ignore_ascii_case(&long),
            };
            found.then(|| field.value(head))
        })
    }

    /// The value of a header that may stand only once. Repeated with the same text it is taken.
    fn one_value(&self, name: &str) -> Result<Option<Cow<'a, str>>, SipParseError> {
        let mut all = self.raw_values(name).map(text);
        let first = all.next();
        match &first {
            Some(first) if all.any(|other| other != *first) => Err(SipParseError::Contradiction),
            _ => Ok(first),
        }
    }

    fn checked_cseq(&self) -> Result<Option<CSeq>, SipParseError> {
        let Some(value) = self.one_value("CSeq")? else { return Ok(None) };
        let mut words = value.split_ascii_whitespace();
        let (number, method) = (words.next().unwrap_or_default(), words.next());
        let Some(method) = method.map(SipMethod::from_name) else { return Ok(None) };
        if self.method().is_some_and(|own| *own != method) {
            return Err(SipParseError::MethodMismatch);
        }
        // RFC 4475 sections 3.1.2.4 and 3.1.2.5: a number beyond 32 bits is no number.
        Ok(number.parse().ok().map(|number| CSeq { number, method }))
    }

    fn take_body(&mut self, after: &'a [u8], framing: SipFraming) -> Result<(), SipParseError> {
        let announced = match (self.content_length()?, framing) {
            (Some(length), _) => length,
            (None, SipFraming::Datagram) => after.len() as u64,
            (None, SipFraming::Stream) => 0,
        };
        let length = usize::try_from(announced).unwrap_or(usize::MAX).min(after.len());
        if length > MAX_BODY_BYTES {
            return Err(SipParseError::BodyTooLong);
        }
        self.body_cut = announced > length as u64;
        self.body = after.get(..length).unwrap_or(after);
        Ok(())
    }

    fn content_length(&self) -> Result<Option<u64>, SipParseError> {
        let mut found = None;
        for value in self.raw_values("Content-Length") {
            for part in value.split(|&b| b == b',').map(trim).filter(|part| !part.is_empty()) {
                let length = decimal(part).ok_or(SipParseError::ContentLength)?;
                if found.is_some_and(|before| before != length) {
                    return Err(SipParseError::ContentLength);
                }
                found = Some(length);
            }
        }
        Ok(found)
    }
}

impl fmt::Debug for SipMessage<'_> {
    /// Only the kind of message: headers hold numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.start {
            StartLine::Request { method, .. } => write!(f, "Message({method})"),
            StartLine::Response { status, .. } => write!(f, "Message({status})"),
        }
    }
}

/// The Content-Length that a complete head (start line and headers) announces, 0 without one.
///
/// # Errors
/// As [`SipMessage::parse`] for headers and lengths.
pub(super) fn announced_length(head: &[u8]) -> Result<u64, SipParseError> {
    let (_, headers) = take_line(skip_line_ends(head));
    let (fields, _) = scan_headers(headers)?;
    let start = StartLine::Response { status: 100, reason: Cow::Borrowed("") };
    let call_id = Cow::Borrowed("");
    let message = SipMessage { start, head: headers, fields, call_id, cseq: None, body: &[], body_cut: false };
    Ok(message.content_length()?.unwrap_or(0))
}

/// Where a header stands within the header section.
#[derive(Clone, Copy, Debug)]
struct HeaderSpan {
    name: (u32, u32),
    value: (u32, u32),
}

impl HeaderSpan {
    fn name<'h>(&self, head: &'h [u8]) -> &'h [u8] {
        head.get(self.name.0 as usize..self.name.1 as usize).unwrap_or_default()
    }

    fn value<'h>(&self, head: &'h [u8]) -> &'h [u8] {
        head.get(self.value.0 as usize..self.value.1 as usize).unwrap_or_default()
    }
}

/// The table of headers, and the length of the section with its empty line.
fn scan_headers(section: &[u8]) -> Result<(Vec<HeaderSpan>, usize), SipParseError> {
    let mut fields: Vec<HeaderSpan> = Vec::with_capacity(24);
    // Whether the line before was a header, so that a fold continues it; folds of other lines go with them.
    let mut foldable = false;
    let mut at = 0;
    while let Some(rest) = section.get(at..).filter(|rest| !rest.is_empty()) {
        if at > MAX_HEADER_BYTES {
            return Err(SipParseError::HeadersTooLong);
        }
        let (line, after) = take_line(rest);
        let next = section.len() - after.len();
        let end = at + line.len();
        if line.is_empty() && next > at {
            return Ok((fields, next));
        }
        // The last line of a cut datagram may be cut itself, and half a Call-ID is another Call-ID.
        if rest.get(rest.len() - after.len() - 1) != Some(&b'\n') {
            at = section.len();
            break;
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            if let (true, Some(last)) = (foldable, fields.last_mut()) {
                last.value.1 = end as u32;
            }
        } else {
            foldable = false;
            if let Some(colon) = memchr::memchr(b':', line) {
                let name = line.get(..colon).unwrap_or_default().trim_ascii_end();
                if !name.is_empty() && name.iter().all(|b| !b.is_ascii_whitespace()) {
                    if fields.len() == MAX_HEADERS {
                        return Err(SipParseError::TooManyHeaders);
                    }
                    let name_end = at + name.len();
                    fields.push(HeaderSpan {
                        name: (at as u32, name_end as u32),
                        value: ((at + colon + 1) as u32, end as u32),
                    });
                    foldable = true;
                }
            }
        }
        at = next;
    }
    if at > MAX_HEADER_BYTES { Err(SipParseError::HeadersTooLong) } else { Ok((fields, at)) }
}

/// Bytes of header section that are read. A datagram cannot be longer; the longest message of the
/// RFC 4475 set has 3.5 kB of headers.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Headers that are kept in the table. Messages of real networks have 10 to 60; a table of 256 costs
/// 4 KiB.
pub const MAX_HEADERS: usize = 256;

/// Bytes of body that are read: session descriptions have up to 10 kB, SIPREC metadata some more.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
