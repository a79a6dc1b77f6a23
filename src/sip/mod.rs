//! Parses SIP messages: a tolerant parser (RFC 3261), the splitting of byte streams into messages (RFC 3261 section
//! 18.3, RFC 7118), and typed header values.
//!
//! A recorder sends no responses, so it accepts each message that clearly belongs to one dialog. It tolerates compact
//! names, folding, LF without CR, other character sets than UTF-8, a missing Content-Length, and invalid header lines.
//!
//! It rejects other messages with a reason ([`SipParseError`]): a missing Call-ID, two different Call-IDs, a CSeq with
//! another method than the request, and contradicting lengths.
//!
//! Invariants:
//! - No input panics, and named constants limit all sizes.
//! - A [`SipMessage`] borrows its bytes. It allocates memory only for the positions of its headers, and for values that
//!   must be unfolded or decoded.

mod address;
mod body;
pub mod framer;
mod header;
mod message;
mod start_line;
mod typed_headers;
mod websocket;

#[cfg(test)]
mod tests;

pub(crate) use address::percent_decode;
pub use address::{NameAddr, SipParams, SipUri};
pub use message::{CSeq, MAX_BODY_BYTES, MAX_HEADER_BYTES, MAX_HEADERS, SipFraming, SipMessage, SipParseError};
pub use start_line::{SipMethod, StartLine, looks_like_sip};
pub(crate) use typed_headers::{ReferTo, SessionExpires};
pub use typed_headers::{Replaces, SessionId};
