//! A reply of the fake, and how it is sent.

use std::time::Duration;

use super::http::ConnectionReuse;

/// An HTTP reply: status, header fields and body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FakeReply {
    pub(super) status: u16,
    pub(super) content_type: Option<&'static str>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// How a reply is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ReplyMode {
    /// The whole reply is sent at once.
    Normal,
    /// The fake waits, then sends the reply.
    HangBefore(Duration),
    /// The fake waits, then closes the connection.
    HangThenClose(Duration),
    /// The fake sends the head of the reply, waits, and sends the body.
    HangAfter(Duration),
    /// The fake sends the head of the reply, waits, and closes the connection.
    HangAfterThenClose(Duration),
    /// The body is sent at this rate, in bytes per second.
    Drip(u32),
    /// Only half of the body that `Content-Length` announces is sent.
    Truncated,
    /// The body is chunked, and its second chunk has no valid size.
    BadChunk,
    /// The body is `{"pad":"xxx…"}`, with this number of bytes in all.
    Huge(u64),
    /// No reply; the connection is closed (TCP FIN).
    Close,
    /// No reply; the connection is reset (TCP RST).
    Reset,
    /// The reply is sent before the request's body is read. The connection closes while the client still writes.
    Early,
}

impl ReplyMode {
    /// Returns whether a client that waits long enough receives the complete reply.
    pub(super) fn is_whole(self) -> bool {
        !matches!(
            self,
            ReplyMode::HangThenClose(_)
                | ReplyMode::HangAfterThenClose(_)
                | ReplyMode::Truncated
                | ReplyMode::BadChunk
                | ReplyMode::Close
                | ReplyMode::Reset
        )
    }
}

impl FakeReply {
    pub(super) fn json(status: u16, body: &serde_json::Value) -> FakeReply {
        FakeReply { status, content_type: Some(JSON), headers: Vec::new(), body: body.to_string().into_bytes() }
    }

    pub(super) fn html(status: u16, page: impl Into<String>) -> FakeReply {
        FakeReply { status, content_type: Some(HTML), headers: Vec::new(), body: page.into().into_bytes() }
    }

    /// Creates the error page of nginx for a status.
    pub(super) fn proxy_page(status: u16) -> FakeReply {
        let title = format!("{status} {}", reason(status));
        FakeReply::html(
            status,
            format!(
                "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n\
                 <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
            ),
        )
    }

    pub(super) fn with_header(mut self, name: &str, value: impl ToString) -> FakeReply {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// Formats the status line and the header fields.
pub(super) fn head_bytes(reply: &FakeReply, manner: ReplyMode, close: ConnectionReuse) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", reply.status, reason(reply.status));
    if let Some(content_type) = reply.content_type {
        head.push_str(&format!("Content-Type: {content_type}\r\n"));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{}: {}\r\n", one_line(name), one_line(value)));
    }
    match manner {
        ReplyMode::BadChunk => head.push_str("Transfer-Encoding: chunked\r\n"),
        ReplyMode::Huge(size) => {
            let size = size.max(PAD_HEAD.len() as u64 + PAD_TAIL.len() as u64);
            head.push_str(&format!("Content-Length: {size}\r\n"));
        }
        // `Content-Length` announces at least 2 bytes, so that an empty body is truncated, too.
        ReplyMode::Truncated => head.push_str(&format!("Content-Length: {}\r\n", reply.body.len().max(2))),
        ReplyMode::HangAfterThenClose(_) => head.push_str("Content-Length: 64\r\n"),
        _ => head.push_str(&format!("Content-Length: {}\r\n", reply.body.len())),
    }
    head.push_str(if matches!(close, ConnectionReuse::Close) {
        "Connection: close\r\n\r\n"
    } else {
        "Connection: keep-alive\r\n\r\n"
    });
    head.into_bytes()
}

/// Removes line breaks, so that a header value from a fault script cannot add another header.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        206 => "Partial Content",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Request Entity Too Large",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        _ => "Status",
    }
}

const JSON: &str = "application/json; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
pub(super) const PAD_HEAD: &[u8] = b"{\"pad\":\"";
pub(super) const PAD_TAIL: &[u8] = b"\"}";
