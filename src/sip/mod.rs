//! Parses SIP messages: a tolerant, lazy parser (RFC 3261), framing of byte streams (RFC 3261 section 18.3, RFC 7118),
//! and typed header values.
//!
//! A recorder never answers, so it accepts every message that clearly belongs to one dialog. It tolerates compact
//! names, folding, bare LF, foreign character sets, a missing Content-Length, and invalid header lines. It rejects
//! other messages with a reason ([`SipParseError`]): no Call-ID, two different Call-IDs, a CSeq with another method,
//! contradicting lengths.
//!
//! Invariants: no input causes a panic, and all sizes are limited by named constants. A [`SipMessage`] borrows its
//! bytes. It allocates only its header table and values that must be unfolded or decoded.

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

pub use address::{NameAddr, SipParams, SipUri};
pub use message::{CSeq, MAX_BODY_BYTES, MAX_HEADER_BYTES, MAX_HEADERS, SipFraming, SipMessage, SipParseError};
pub use start_line::{SipMethod, StartLine, looks_like_sip};
pub(crate) use typed_headers::{ReferTo, SessionExpires};
pub use typed_headers::{Replaces, SessionId};
