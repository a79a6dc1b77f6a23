//! Parses a SIP message: start line, headers and body (RFC 3261 section 7).

use std::borrow::Cow;
use std::fmt;

use super::address::{NameAddr, SipParams, SipUri};
use super::header::{both_names, decimal, find_outside, skip_line_ends, split_outside, take_line, text, trim};
use super::start_line::{SipMethod, StartLine, parse_start};

/// How a message was received. This decides where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SipFraming {
    /// The message was received in a datagram. Without a Content-Length, the body extends to the end of the datagram.
    /// Bytes after the body are ignored (RFC 3261 section 18.3).
    Datagram,
    /// The message was received in a byte stream, which [`super::framer::SipFramer`] split. Without a Content-Length
    /// there is no body (RFC 3261 section 20.14).
    Stream,
}

/// Reason for which bytes are not a SIP message, or cannot be assigned to a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SipParseError {
    /// The first line is neither a request line nor a status line.
    #[error("no SIP start line")]
    StartLine,
    /// The SIP version is not 2.0 (RFC 3261 section 7.1).
    #[error("not SIP/2.0")]
    Version,
    /// The status code is outside 100 to 699.
    #[error("no status code")]
    Status,
    /// The headers do not end within the first [`MAX_HEADER_BYTES`] bytes, because there is no empty line.
    #[error("header section too long")]
    HeadersTooLong,
    /// There are more than [`MAX_HEADERS`] headers.
    #[error("too many headers")]
    TooManyHeaders,
    /// There is no Call-ID, so the message belongs to no dialog.
    #[error("no Call-ID")]
    NoCallId,
    /// The Call-ID or CSeq header occurs twice with different values (RFC 4475 section 3.3.8).
    #[error("contradicting headers")]
    Contradiction,
    /// The Content-Length is negative or no number, or occurs with several values (RFC 4475 sections 3.1.2.3 and
    /// 3.3.9).
    #[error("bad Content-Length")]
    ContentLength,
    /// The method in the CSeq differs from the method in the request line (RFC 4475 section 3.1.2.17).
    #[error("CSeq of another method")]
    MethodMismatch,
    /// The body is longer than [`MAX_BODY_BYTES`].
    #[error("body too long")]
    BodyTooLong,
}

/// The CSeq header, which identifies a transaction within the dialog (RFC 3261 section 20.16).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CSeq {
    /// Sequence number, which grows with each new request of a side.
    pub number: u32,
    /// Method of the request. A response repeats it.
    pub method: SipMethod,
}

/// A parsed message. It borrows the bytes, and decodes a header value only when it is read.
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
    /// Parses one message.
    ///
    /// The parser tolerates:
    ///
    /// - CRLF before the message, and LF without CR
    /// - folded headers, blanks before a colon, and invalid header lines
    /// - names in compact form, in upper or lower case
    /// - several blanks in the start line
    /// - a truncated datagram, in which the empty line or a part of the body is missing ([`Self::body_cut`])
    ///
    /// # Errors
    /// Returns an error if the bytes are not a SIP/2.0 message, or cannot be assigned to a dialog.
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

    /// Returns the start line: the request line or the status line.
    pub fn start(&self) -> &StartLine<'a> {
        &self.start
    }

    /// Returns the method of a request; `None` for a response, whose method is in [`Self::cseq`].
    pub fn method(&self) -> Option<&SipMethod> {
        match &self.start {
            StartLine::Request { method, .. } => Some(method),
            StartLine::Response { .. } => None,
        }
    }

    /// Returns the status code of a response, 100 to 699; `None` for a request.
    pub fn status(&self) -> Option<u16> {
        match self.start {
            StartLine::Request { .. } => None,
            StartLine::Response { status, .. } => Some(status),
        }
    }

    /// Returns the Request-URI; `None` for a response. Wrong `<>` around it are removed (RFC 4475 section 3.1.2.7).
    pub fn request_uri(&self) -> Option<SipUri> {
        match &self.start {
            StartLine::Request { uri, .. } => {
                Some(SipUri::parse(uri.trim_start_matches('<').trim_end_matches('>').trim()))
            }
            StartLine::Response { .. } => None,
        }
    }

    /// Returns the Call-ID, which is never empty.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Returns the CSeq; `None` if it is missing or its number has more than 32 bits.
    pub fn cseq(&self) -> Option<CSeq> {
        self.cseq.clone()
    }

    /// Returns the method of the transaction: from the request line of a request, and from the CSeq of a response.
    pub fn transaction_method(&self) -> Option<&SipMethod> {
        self.method().or(self.cseq.as_ref().map(|cseq| &cseq.method))
    }

    /// Returns the From header: the address and tag of the party that sent the request.
    pub fn from(&self) -> Option<NameAddr> {
        NameAddr::parse(&self.header("From")?)
    }

    /// Returns the To header: the address of the party that received the request. In a first INVITE it has no tag.
    pub fn to(&self) -> Option<NameAddr> {
        NameAddr::parse(&self.header("To")?)
    }

    /// Returns the first Contact header: the address at which the sender wants to receive further requests.
    pub fn contact(&self) -> Option<NameAddr> {
        let contact = self.header("Contact")?;
        NameAddr::parse(split_outside(&contact, b',').next()?)
    }

    /// Returns the first value of a header, unfolded. The long name also finds the compact form, and the reverse.
    pub(crate) fn header(&self, name: &str) -> Option<Cow<'a, str>> {
        self.raw_values(name).next().map(text)
    }

    /// Returns the values of all headers with this name, unfolded and in order.
    pub fn headers(&self, name: &str) -> Vec<Cow<'a, str>> {
        self.raw_values(name).map(text).collect()
    }

    /// Returns all values of a list header. The headers with this name are split at commas outside quoted strings and
    /// angle brackets (RFC 3261 section 7.3.1).
    pub fn values(&self, name: &str) -> Vec<String> {
        self.headers(name)
            .iter()
            .flat_map(|line| split_outside(line, b',').map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    /// Returns the addresses in a list header, e.g. P-Asserted-Identity, Contact, Diversion (RFC 5806) or History-Info
    /// (RFC 7044). In an entry of History-Info, `index` is a header parameter, and the Reason is a header of the URI
    /// ([`SipUri::header`]).
    pub fn addresses(&self, name: &str) -> Vec<NameAddr> {
        self.values(name).iter().filter_map(|value| NameAddr::parse(value)).collect()
    }

    /// Returns the names and values of all headers, unfolded and in order.
    pub fn all_headers(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + '_ {
        let head = self.head;
        self.fields.iter().map(move |field| (String::from_utf8_lossy(field.name(head)), text(field.value(head))))
    }

    /// Returns the branch of the topmost Via, which identifies the transaction (RFC 3261 section 8.1.1.7).
    pub fn via_branch(&self) -> Option<Cow<'a, str>> {
        let via = self.header("Via")?;
        let top = split_outside(&via, b',').next()?;
        let params = SipParams::parse(top.get(find_outside(top, b';')? + 1..)?);
        params.get("branch").filter(|b| !b.is_empty()).map(|b| Cow::Owned(b.to_owned()))
    }

    /// Returns the captured part of the body; empty if the message has no body.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Returns the session description: a body of the type `application/sdp`, or such a part of a multipart body. A
    /// body without Content-Type is recognized by its first line.
    pub fn sdp(&self) -> Option<Cow<'a, [u8]>> {
        super::body::sdp(self.header("Content-Type").as_deref(), self.body)
    }

    /// Returns whether the body, or a part of a multipart body, has a media type that begins with `kind`, in lower case.
    pub(crate) fn has_body_type(&self, kind: &str) -> bool {
        super::body::has_type(self.header("Content-Type").as_deref(), self.body, kind)
    }

    /// Returns whether the body is shorter than its Content-Length, because the frame was truncated or the sender made
    /// an error.
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

    /// Returns the value of a header that may occur only once. Repetitions with the same value are accepted.
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
        // A CSeq number of more than 32 bits is invalid (RFC 4475 sections 3.1.2.4 and 3.1.2.5). Then the message
        // counts as one without CSeq.
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
    /// Writes only the method or status. The headers contain telephone numbers, which must not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.start {
            StartLine::Request { method, .. } => write!(f, "Message({method})"),
            StartLine::Response { status, .. } => write!(f, "Message({status})"),
        }
    }
}

/// Returns the Content-Length of a message with complete headers; 0 if it has none. `head` is its start line and
/// headers.
///
/// # Errors
/// Returns an error in the same cases as [`SipMessage::parse`].
pub(super) fn announced_length(head: &[u8]) -> Result<u64, SipParseError> {
    let (_, headers) = take_line(skip_line_ends(head));
    let (fields, _) = scan_headers(headers)?;
    let start = StartLine::Response { status: 100, reason: Cow::Borrowed("") };
    let call_id = Cow::Borrowed("");
    let message = SipMessage { start, head: headers, fields, call_id, cseq: None, body: &[], body_cut: false };
    Ok(message.content_length()?.unwrap_or(0))
}

/// Position of a header in the bytes: start and end of its name, and start and end of its value.
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

/// Returns the positions of the headers, and the length of the headers with the empty line after them.
fn scan_headers(section: &[u8]) -> Result<(Vec<HeaderSpan>, usize), SipParseError> {
    let mut fields: Vec<HeaderSpan> = Vec::with_capacity(24);
    // Whether the previous line was a valid header. If so, a folded line continues it; otherwise the folded line is
    // dropped.
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
        // The last line of a truncated datagram may be incomplete, so it is not used. Half a Call-ID would be a wrong
        // Call-ID.
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

/// Maximum size of the headers, bytes: that of a datagram. The longest headers in RFC 4475 have 3.5 kB.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Maximum number of headers. Real messages have 10 to 60. The positions of 256 headers take 4 KiB.
pub const MAX_HEADERS: usize = 256;

/// Maximum size of a body, bytes. Session descriptions have up to 10 kB, and the metadata of recording sessions
/// (SIPREC) has slightly more.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
