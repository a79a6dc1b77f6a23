//! A streaming parser of `multipart/form-data` (RFC 7578). It needs constant memory, plus memory for the content of the
//! file if the content is kept.

use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::text::hex;

/// The body of an upload, as far as it was parsed.
#[derive(Debug, Default)]
pub(super) struct ParsedUpload {
    /// Headers of the parts of the multipart body, in order.
    pub(super) parts: Vec<PartHeader>,
    /// Size of the uploaded file, i.e. of the first part with a file name, bytes.
    pub(super) size: u64,
    pub(super) md5: String,
    pub(super) sha256: String,
    /// Content of the file; `None` if the file is larger than the limit for kept files.
    pub(super) bytes: Option<Vec<u8>>,
    /// Whether the closing boundary was found.
    pub(super) complete: bool,
    /// Number of bytes after the closing boundary and its CRLF.
    pub(super) epilogue: u64,
    /// The reason why the body is not valid multipart; `None` if it is valid.
    pub(super) malformed: Option<&'static str>,
}

/// The header of one part of a multipart body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PartHeader {
    pub(super) name: Option<String>,
    pub(super) filename: Option<String>,
    pub(super) content_type: Option<String>,
}

/// Parses a multipart body piece by piece, as it arrives.
#[derive(Debug)]
pub(super) struct MultipartParser {
    /// The delimiter between parts: CRLF, two hyphens, and the boundary.
    delimiter: Vec<u8>,
    buf: Vec<u8>,
    state: MultipartState,
    upload: ParsedUpload,
    md5: Md5,
    sha256: Sha256,
    keep: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MultipartState {
    Preamble,
    /// The parser has read a delimiter. Next comes `--`, which ends the body, or a new part.
    Boundary,
    Header,
    /// The parser is within the content of the file.
    File,
    /// The parser is within the content of a part that is not the file.
    Skip,
    /// The parser has read the closing delimiter. The CRLF of its line follows.
    Closing,
    Epilogue,
    Broken,
}

impl MultipartParser {
    /// Creates a parser that keeps at most `keep` bytes of the file.
    pub(super) fn new(boundary: Option<&str>, keep: usize) -> MultipartParser {
        let mut parser = MultipartParser {
            delimiter: format!("\r\n--{}", boundary.unwrap_or_default()).into_bytes(),
            buf: b"\r\n".to_vec(), // the first boundary then follows a CRLF, as all others do
            state: MultipartState::Preamble,
            upload: ParsedUpload { bytes: Some(Vec::new()), ..ParsedUpload::default() },
            md5: Md5::new(),
            sha256: Sha256::new(),
            keep,
        };
        if boundary.is_none_or(|b| b.is_empty() || b.len() > MAX_BOUNDARY) {
            parser.fail("no boundary in Content-Type");
        }
        parser
    }

    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.state == MultipartState::Broken {
            return;
        }
        self.buf.extend_from_slice(bytes);
        while self.step() {}
    }

    /// Returns the number of kept bytes of the file.
    pub(super) fn kept(&self) -> u64 {
        self.upload.bytes.as_ref().map_or(0, |b| b.len() as u64)
    }

    /// Drops the stored content of the file. The rest of the file is only hashed.
    pub(super) fn stop_keeping(&mut self) {
        self.upload.bytes = None;
    }

    pub(super) fn finish(mut self) -> ParsedUpload {
        if !self.upload.complete {
            self.fail("no closing boundary");
        }
        self.upload.epilogue += self.buf.len() as u64;
        self.upload.md5 = hex(&self.md5.finalize());
        self.upload.sha256 = hex(&self.sha256.finalize());
        self.upload
    }

    /// Parses the next element of the body. Returns false if more bytes are needed.
    fn step(&mut self) -> bool {
        match self.state {
            MultipartState::Preamble | MultipartState::File | MultipartState::Skip => self.content(),
            MultipartState::Boundary => self.boundary(),
            MultipartState::Header => self.header(),
            MultipartState::Closing => {
                if self.buf.starts_with(b"\r\n") {
                    self.buf.drain(..2); // the CRLF of the closing line
                }
                let goes_on = self.buf.len() >= 2;
                if goes_on {
                    self.state = MultipartState::Epilogue;
                }
                goes_on
            }
            MultipartState::Epilogue => {
                self.upload.epilogue += self.buf.len() as u64;
                self.buf.clear();
                false
            }
            MultipartState::Broken => false,
        }
    }

    fn content(&mut self) -> bool {
        let (end, found) = match memchr::memmem::find(&self.buf, &self.delimiter) {
            Some(at) => (at, true),
            // The last bytes stay in the buffer, because they may be the beginning of a delimiter that the next bytes
            // complete.
            None => (self.buf.len().saturating_sub(self.delimiter.len() - 1), false),
        };
        if self.state == MultipartState::File {
            let data = self.buf.get(..end).unwrap_or_default();
            self.md5.update(data);
            self.sha256.update(data);
            self.upload.size += data.len() as u64;
            match &mut self.upload.bytes {
                Some(kept) if kept.len() + data.len() <= self.keep => kept.extend_from_slice(data),
                kept => *kept = None,
            }
        }
        let used = if found { end + self.delimiter.len() } else { end };
        self.buf.drain(..used);
        if found {
            self.state = MultipartState::Boundary;
        }
        found
    }

    fn boundary(&mut self) -> bool {
        match self.buf.get(..2) {
            None => false,
            Some(b"--") => {
                self.buf.drain(..2);
                self.upload.complete = true;
                self.state = MultipartState::Closing;
                true
            }
            Some(b"\r\n") => {
                // The CRLF after the delimiter stays in the buffer, so that CRLF CRLF ends every part header, even an
                // empty header.
                self.state = MultipartState::Header;
                true
            }
            Some(_) => self.fail("rubbish after a boundary"),
        }
    }

    fn header(&mut self) -> bool {
        let Some(end) = memchr::memmem::find(&self.buf, b"\r\n\r\n") else {
            return self.buf.len() > MAX_PART_HEADER && self.fail("the header of a part has no end");
        };
        let part = parse_part(self.buf.get(..end).unwrap_or_default());
        self.buf.drain(..end + 4);
        if self.upload.parts.len() >= MAX_PARTS {
            return self.fail("over 16 parts");
        }
        let first_file = part.filename.is_some() && self.upload.parts.iter().all(|p| p.filename.is_none());
        self.upload.parts.push(part);
        self.state = if first_file { MultipartState::File } else { MultipartState::Skip };
        true
    }

    fn fail(&mut self, reason: &'static str) -> bool {
        self.upload.malformed.get_or_insert(reason);
        self.state = MultipartState::Broken;
        self.buf = Vec::new();
        false
    }
}

impl ParsedUpload {
    /// Returns the header of the first part that has a file name.
    pub(super) fn file(&self) -> Option<&PartHeader> {
        self.parts.iter().find(|p| p.filename.is_some())
    }
}

/// Returns the `boundary` parameter of a `multipart/form-data` content type.
pub(super) fn boundary(content_type: &str) -> Option<&str> {
    let (kind, params) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = params.split(';').find_map(|p| {
        let (name, value) = p.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then_some(value)
    })?;
    Some(value.trim().trim_matches('"'))
}

fn parse_part(header: &[u8]) -> PartHeader {
    let text = String::from_utf8_lossy(header);
    let mut part = PartHeader::default();
    for line in text.split("\r\n") {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-type") {
            part.content_type = Some(value.trim().to_owned());
        } else if name.eq_ignore_ascii_case("content-disposition") {
            part.name = parameter(value, "name");
            part.filename = parameter(value, "filename");
        }
    }
    part
}

/// Returns a parameter of a Content-Disposition header. Its value may be quoted and then contain semicolons.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value;
    while let Some(at) = rest.find(';') {
        rest = rest.get(at + 1..)?.trim_start();
        let (name, tail) = rest.split_once('=')?;
        let (found, after) = match tail.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => tail.split_at(tail.find(';').unwrap_or(tail.len())),
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(found.to_owned());
        }
        rest = after;
    }
    None
}

/// Maximum length of a boundary, bytes (RFC 2046 section 5.1.1).
const MAX_BOUNDARY: usize = 70;
const MAX_PART_HEADER: usize = 16 * 1024;
/// Maximum number of parts with headers that are stored. An upload should have one part; further parts are reported as
/// a violation.
const MAX_PARTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &[u8], piece: usize) -> ParsedUpload {
        let mut parser = MultipartParser::new(Some("xyz"), 1024);
        for piece in body.chunks(piece) {
            parser.handle_bytes(piece);
        }
        parser.finish()
    }

    const BODY: &[u8] = b"--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a;b.wav\"\r\n\
        Content-Type: audio/wav\r\n\r\nabc\r\n--xy not the end\r\n--xyz--\r\n";

    #[test]
    fn file_is_the_same_however_the_body_is_split() {
        for piece in 1..BODY.len() {
            let upload = parse(BODY, piece);
            assert_eq!(upload.bytes.as_deref(), Some(&b"abc\r\n--xy not the end"[..]), "piece {piece}");
            assert_eq!(upload.parts.len(), 1);
            assert_eq!(upload.file().and_then(|p| p.filename.as_deref()), Some("a;b.wav"));
            assert_eq!(upload.file().and_then(|p| p.name.as_deref()), Some("file"));
            assert_eq!((upload.malformed, upload.epilogue, upload.complete), (None, 0, true), "piece {piece}");
        }
    }

    #[test]
    fn empty_file_and_second_part_are_parsed() {
        let body = b"--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n\r\n--xyz\r\n\
            Content-Disposition: form-data; name=\"x\"\r\n\r\ny\r\n--xyz--tail";
        for piece in 1..body.len() {
            let upload = parse(body, piece);
            assert_eq!((upload.size, upload.parts.len(), upload.epilogue), (0, 2, 4), "piece {piece}");
            assert_eq!(upload.md5, "d41d8cd98f00b204e9800998ecf8427e"); // MD5 of an empty file, RFC 1321 A.5
        }
    }

    #[test]
    fn truncated_and_foreign_bodies_are_malformed() {
        assert_eq!(parse(&BODY[..BODY.len() - 8], 7).malformed, Some("no closing boundary"));
        assert_eq!(parse(b"--xyzzy\r\n", 3).malformed, Some("rubbish after a boundary"));
        assert_eq!(MultipartParser::new(None, 0).finish().malformed, Some("no boundary in Content-Type"));
    }
}
