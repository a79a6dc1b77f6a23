//! Parses header names and values: compact forms, unfolding, lists (RFC 3261 sections 7.3 and 25.1).

use std::borrow::Cow;

/// Returns the long and the compact name of a header. `name` may be either of them, in upper or lower case. If the
/// header has no compact form, returns `name` and `None`.
pub(super) fn both_names(name: &str) -> (&str, Option<u8>) {
    if let [letter] = name.as_bytes() {
        let letter = letter.to_ascii_lowercase();
        return match COMPACT.iter().find(|(c, _)| *c == letter) {
            Some((c, long)) => (long, Some(*c)),
            None => (name, None),
        };
    }
    let compact = COMPACT.iter().find(|(_, long)| long.eq_ignore_ascii_case(name)).map(|(c, _)| *c);
    (name, compact)
}

/// Converts a header value to text. A folded line end becomes one space, blanks at both ends are removed, and invalid
/// UTF-8 becomes U+FFFD.
pub(super) fn text(raw: &[u8]) -> Cow<'_, str> {
    let raw = trim(raw);
    if memchr::memchr(b'\n', raw).is_none() {
        return String::from_utf8_lossy(raw);
    }
    let mut flat = Vec::with_capacity(raw.len());
    for line in raw.split(|&b| b == b'\n') {
        let line = trim(line);
        if !flat.is_empty() && !line.is_empty() {
            flat.push(b' ');
        }
        flat.extend_from_slice(line);
    }
    Cow::Owned(String::from_utf8_lossy(&flat).into_owned())
}

/// Removes blanks, CR and LF at both ends.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let start = bytes.iter().position(|b| !blank(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !blank(b)).map_or(start, |i| i + 1);
    bytes.get(start..end).unwrap_or_default()
}

/// Splits a text at separators outside quoted strings and angle brackets. The parts are trimmed, and empty parts are
/// dropped. So `;;,;,,` has no parts (RFC 4475 section 3.1.2.1).
pub(super) fn split_outside(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let now = rest?;
        match find_outside(now, separator) {
            Some(at) => {
                rest = now.get(at + 1..);
                now.get(..at)
            }
            None => {
                rest = None;
                Some(now)
            }
        }
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

/// Returns the index of the first `wanted` byte outside quoted strings and angle brackets.
///
/// A quote or bracket that is not closed is an ordinary character (RFC 4475 section 3.1.2.6). After such a quote, no
/// further closing quote is searched for; the same applies to brackets. So the search takes linear time.
pub(super) fn find_outside(text: &str, wanted: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut quotes_close, mut angles_close) = (true, true);
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        if b == wanted {
            return Some(at);
        }
        match b {
            b'"' if quotes_close => match closing_quote(bytes, at) {
                Some(end) => at = end,
                None => quotes_close = false,
            },
            b'<' if angles_close => match bytes.get(at..).and_then(|rest| memchr::memchr(b'>', rest)) {
                Some(end) => at += end,
                None => angles_close = false,
            },
            _ => {}
        }
        at += 1;
    }
    None
}

/// Returns the index of the quote that closes the string opened at `open`. A `\` escapes the byte after it.
pub(super) fn closing_quote(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    while let Some(&b) = bytes.get(at) {
        match b {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// Removes quotes and escapes from a value. A value without quotes is only trimmed.
pub(super) fn unquote(text: &str) -> String {
    let text = text.trim();
    let Some(inner) = text.strip_prefix('"') else { return text.to_owned() };
    let inner = inner.strip_suffix('"').filter(|_| closing_quote(text.as_bytes(), 0).is_some()).unwrap_or(inner);
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

/// Returns whether a byte is allowed in a token, e.g. a method or header name (RFC 3261 section 25.1).
pub(super) const fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// Parses decimal digits without a sign; `None` for other bytes. A number that is too large becomes the largest `u64`.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits
        .iter()
        .try_fold(0u64, |n, &b| b.is_ascii_digit().then(|| n.saturating_mul(10).saturating_add(u64::from(b - b'0'))))
}

/// Splits off the first line. Returns the line without its line end (LF, CRLF or CRCRLF), then the bytes after it.
pub(super) fn take_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match memchr::memchr(b'\n', bytes) {
        Some(end) => (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default()),
        None => (bytes, &[] as &[u8]),
    };
    let end = line.iter().rposition(|&b| b != b'\r').map_or(0, |i| i + 1);
    (line.get(..end).unwrap_or(line), rest)
}

/// Removes CR and LF at the beginning, e.g. keep-alives before a message (RFC 5626 section 3.5.1, RFC 3261 section
/// 7.5).
pub(super) fn skip_line_ends(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

/// Compact and long names of headers, from the IANA registry "SIP Parameters, Header Fields".
const COMPACT: [(u8, &str); 20] = [
    (b'a', "Accept-Contact"),
    (b'b', "Referred-By"),
    (b'c', "Content-Type"),
    (b'd', "Request-Disposition"),
    (b'e', "Content-Encoding"),
    (b'f', "From"),
    (b'i', "Call-ID"),
    (b'j', "Reject-Contact"),
    (b'k', "Supported"),
    (b'l', "Content-Length"),
    (b'm', "Contact"),
    (b'n', "Identity-Info"),
    (b'o', "Event"),
    (b'r', "Refer-To"),
    (b's', "Subject"),
    (b't', "To"),
    (b'u', "Allow-Events"),
    (b'v', "Via"),
    (b'x', "Session-Expires"),
    (b'y', "Identity"),
];
