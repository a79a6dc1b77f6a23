//! Finds the session description in a message body (RFC 3261 section 7.4, RFC 2046 section 5.1, RFC 5621).

use std::borrow::Cow;

use super::address::SipParams;
use super::header::{skip_line_ends, take_line, text, trim};

/// Returns the session description in `body`, which has the given Content-Type.
pub(super) fn sdp<'a>(content_type: Option<&str>, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let Some(content_type) = content_type else {
        return begins_like_sdp(body).then_some(Cow::Borrowed(body));
    };
    let (kind, params) = content_type.split_once(';').unwrap_or((content_type, ""));
    // RFC 4475 section 3.1.1.1 allows blanks around the slash.
    let kind: String = kind.split_ascii_whitespace().collect::<String>().to_ascii_lowercase();
    if kind == "application/sdp" {
        return (!body.is_empty()).then_some(Cow::Borrowed(body));
    }
    if kind.starts_with("multipart/") {
        return in_multipart(SipParams::parse(params).get("boundary"), body);
    }
    None
}

/// Returns the first session description in a multipart body. Without a boundary parameter, the first line of the body is
/// the boundary.
fn in_multipart<'a>(boundary: Option<&str>, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let delimiter = match boundary.filter(|b| !b.is_empty()) {
        Some(boundary) => format!("--{boundary}").into_bytes(),
        None => trim(take_line(skip_line_ends(body)).0).to_owned(),
    };
    if !delimiter.starts_with(b"--") {
        return None;
    }
    let mut rest = next_part(body, &delimiter)?;
    for _ in 0..MAX_PARTS {
        let end = find_delimiter(rest, &delimiter).unwrap_or(rest.len());
        let (part, after) = rest.split_at_checked(end)?;
        let part = part.strip_suffix(b"\n").map_or(part, |p| p.strip_suffix(b"\r").unwrap_or(p));
        if let Some(found) = sdp_part(part) {
            return Some(Cow::Borrowed(found));
        }
        rest = next_part(after, &delimiter)?;
    }
    None
}

/// Returns the body of a part, if the part is a session description.
fn sdp_part(part: &[u8]) -> Option<&[u8]> {
    let mut content_type = None;
    let mut rest = part;
    while !rest.is_empty() {
        let (line, after) = take_line(rest);
        if line.is_empty() {
            rest = after;
            break;
        }
        if content_type.is_none() && !line.contains(&b':') && begins_like_sdp(rest) {
            break;
        }
        if let Some(colon) = memchr::memchr(b':', line) {
            let (name, value) = line.split_at_checked(colon)?;
            let name = trim(name);
            if name.eq_ignore_ascii_case(b"Content-Type") || name.eq_ignore_ascii_case(b"c") {
                content_type = Some(text(value.get(1..).unwrap_or_default()));
            }
        }
        rest = after;
    }
    match content_type {
        Some(kind) => sdp(Some(&kind), rest).is_some().then_some(rest).filter(|_| !is_multipart(&kind)),
        None => begins_like_sdp(rest).then_some(rest),
    }
}

fn is_multipart(kind: &str) -> bool {
    kind.trim_start().get(..10).is_some_and(|head| head.eq_ignore_ascii_case("multipart/"))
}

/// Returns the bytes after the line with the next delimiter; `None` after the final delimiter.
fn next_part<'a>(bytes: &'a [u8], delimiter: &[u8]) -> Option<&'a [u8]> {
    let start = find_delimiter(bytes, delimiter)?;
    let after = bytes.get(start + delimiter.len()..)?;
    (!after.starts_with(b"--")).then(|| take_line(after).1)
}

/// Returns the offset of the delimiter at the start of a line.
fn find_delimiter(bytes: &[u8], delimiter: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(bytes, delimiter)
        .find(|&at| at == 0 || at.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b'\n'))
}

fn begins_like_sdp(body: &[u8]) -> bool {
    skip_line_ends(body).starts_with(b"v=0")
}

/// Parts of a multipart body that are examined. SIPREC has two, ISUP gateways have up to three.
const MAX_PARTS: usize = 16;
