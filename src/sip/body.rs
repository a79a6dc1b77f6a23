//! Finds the session description in a message body (RFC 3261 section 7.4, RFC 2046 section 5.1, RFC 5621).

use std::borrow::Cow;

use super::address::SipParams;
use super::header::{skip_line_ends, take_line, text, trim};

/// Returns the session description in `body`. `content_type` is the value of the Content-Type header.
pub(super) fn sdp<'a>(content_type: Option<&str>, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    description(content_type, body, 0).map(Cow::Borrowed)
}

/// Returns the session description in a body. `depth` is the number of multipart bodies around it.
fn description<'a>(content_type: Option<&str>, body: &'a [u8], depth: usize) -> Option<&'a [u8]> {
    let Some(media_type) = content_type.map(MediaType::parse) else {
        return begins_like_sdp(body).then_some(body);
    };
    if media_type.kind == "application/sdp" {
        return (!body.is_empty()).then_some(body);
    }
    let mut parts = media_type.parts_of(body, depth)?.filter_map(|part| part_description(part, depth + 1));
    // In `multipart/alternative`, the last part is the preferred one (RFC 2046 section 5.1.4). In other bodies, the
    // first session description is used.
    if media_type.kind == "multipart/alternative" { parts.last() } else { parts.next() }
}

/// Returns whether a body, or a part of a multipart body, has a media type that begins with `kind`, in lower case.
pub(super) fn has_type(content_type: Option<&str>, body: &[u8], kind: &str) -> bool {
    has_type_within(content_type, body, kind, 0)
}

/// Returns whether a body or a part of it has a media type. `depth` is the number of multipart bodies around it.
fn has_type_within(content_type: Option<&str>, body: &[u8], kind: &str, depth: usize) -> bool {
    let Some(media_type) = content_type.map(MediaType::parse) else { return false };
    let has_type = |part| {
        let BodyPart { content_type, content } = BodyPart::parse(part);
        has_type_within(content_type.as_deref(), content, kind, depth + 1)
    };
    media_type.kind.starts_with(kind) || media_type.parts_of(body, depth).is_some_and(|mut parts| parts.any(has_type))
}

/// The value of a Content-Type header.
struct MediaType {
    /// The media type in lower case, e.g. `application/sdp`.
    kind: String,
    /// The boundary between the parts of a multipart body; `None` if the header has none.
    boundary: Option<String>,
}

impl MediaType {
    fn parse(content_type: &str) -> Self {
        let (kind, params) = content_type.split_once(';').unwrap_or((content_type, ""));
        // RFC 4475 section 3.1.1.1 allows blanks around the slash of a media type. They are removed.
        let kind = kind.split_ascii_whitespace().collect::<String>().to_ascii_lowercase();
        Self { kind, boundary: SipParams::parse(params).get("boundary").map(str::to_owned) }
    }

    /// Returns the parts of a body of this type; `None` if it has no parts. `depth` is the number of multipart bodies
    /// around the body.
    fn parts_of<'a>(&self, body: &'a [u8], depth: usize) -> Option<MultipartBody<'a>> {
        let has_parts = self.kind.starts_with("multipart/") && depth < MAX_DEPTH;
        has_parts.then(|| MultipartBody::new(self.boundary.as_deref(), body))?
    }
}

/// Iterator over the parts of a multipart body, with their headers.
struct MultipartBody<'a> {
    delimiter: Vec<u8>,
    /// Bytes of the next part and all that follows it; `None` after the last part.
    rest: Option<&'a [u8]>,
    /// Number of parts of the multipart body that may still be examined.
    left: usize,
}

impl<'a> MultipartBody<'a> {
    /// Returns an iterator over the parts. If `boundary` is missing, the first line of the body is the boundary.
    fn new(boundary: Option<&str>, body: &'a [u8]) -> Option<Self> {
        let delimiter = match boundary.filter(|b| !b.is_empty()) {
            Some(boundary) => format!("--{boundary}").into_bytes(),
            None => trim(take_line(skip_line_ends(body)).0).to_owned(),
        };
        let rest = next_part(body, &delimiter);
        delimiter.starts_with(b"--").then_some(Self { delimiter, rest, left: MAX_PARTS })
    }
}

impl<'a> Iterator for MultipartBody<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let rest = self.rest?;
        let end = find_delimiter(rest, &self.delimiter).unwrap_or(rest.len());
        let (part, after) = rest.split_at_checked(end)?;
        self.rest = next_part(after, &self.delimiter);
        Some(part.strip_suffix(b"\n").map_or(part, |p| p.strip_suffix(b"\r").unwrap_or(p)))
    }
}

/// Returns the session description in a part. `depth` is the number of multipart bodies around the part.
fn part_description(part: &[u8], depth: usize) -> Option<&[u8]> {
    let BodyPart { content_type, content } = BodyPart::parse(part);
    description(content_type.as_deref(), content, depth)
}

/// A part of a multipart body.
struct BodyPart<'a> {
    /// Value of the part's Content-Type header; `None` if it has none.
    content_type: Option<String>,
    /// Bytes after the headers of the part.
    content: &'a [u8],
}

impl<'a> BodyPart<'a> {
    /// Separates the headers of a part from its content.
    fn parse(part: &'a [u8]) -> Self {
        let mut content_type: Option<String> = None;
        let mut is_type = false;
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
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                // A folded line continues the header before it (RFC 5322 section 2.2.3).
                content_type = content_type.map(|kind| if is_type { kind + &text(line) } else { kind });
            } else {
                let (name, value) = line.split_at(memchr::memchr(b':', line).unwrap_or(line.len()));
                let name = trim(name);
                is_type = name.eq_ignore_ascii_case(b"Content-Type") || name.eq_ignore_ascii_case(b"c");
                if is_type {
                    content_type = Some(text(value.get(1..).unwrap_or_default()).into());
                }
            }
            rest = after;
        }
        Self { content_type, content: rest }
    }
}

/// Returns the bytes after the next boundary line. Returns `None` if that line is the final boundary, or if there is no
/// boundary line.
fn next_part<'a>(bytes: &'a [u8], delimiter: &[u8]) -> Option<&'a [u8]> {
    let start = find_delimiter(bytes, delimiter)?;
    let after = bytes.get(start + delimiter.len()..)?;
    (!after.starts_with(b"--")).then(|| take_line(after).1)
}

/// Returns the offset of the first line with this boundary, final or not. A longer boundary that begins with the same
/// text does not count: it belongs to a multipart body within the part.
fn find_delimiter(bytes: &[u8], delimiter: &[u8]) -> Option<usize> {
    let begins_line = |at: usize| at.checked_sub(1).is_none_or(|before| bytes.get(before) == Some(&b'\n'));
    let ends_line = |at: usize| {
        let after = bytes.get(at + delimiter.len()..).unwrap_or_default();
        let after = after.strip_prefix(b"--").unwrap_or(after);
        after.first().is_none_or(u8::is_ascii_whitespace)
    };
    memchr::memmem::find_iter(bytes, delimiter).find(|&at| begins_line(at) && ends_line(at))
}

fn begins_like_sdp(body: &[u8]) -> bool {
    skip_line_ends(body).starts_with(b"v=0")
}

/// Maximum number of parts of a multipart body that are examined. A recording session (SIPREC) has two parts, and
/// gateways with ISUP send up to three.
const MAX_PARTS: usize = 16;
/// Maximum depth of multipart bodies within each other that are examined. Devices use two.
const MAX_DEPTH: usize = 4;
