//! SIP messages as a mirror shows them: a tolerant, lazy scanner (RFC 3261), framing of byte streams
//! (RFC 3261 section 18.3, RFC 7118), and the values that a recorder needs, typed.
//!
//! A recorder answers nobody, so it asks one thing of a message: can it be keyed to a dialog without
//! doubt? What can is taken (compact names, folding, bare LF, foreign character sets, a missing
//! Content-Length, header lines that are none); what cannot is refused by reason ([`SipParseError`]):
//! no Call-ID, two different ones, a CSeq of another method, lengths that contradict each other.
//!
//! Invariants: no input panics; nothing grows beyond the named bounds; a [`SipMessage`] borrows its
//! bytes and allocates only its table of headers and what must be unfolded or decoded.

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

pub use address::{NameAddr, SipParams, SipUri, UriScheme};
pub use message::{CSeq, MAX_BODY_BYTES, MAX_HEADER_BYTES, MAX_HEADERS, SipFraming, SipMessage, SipParseError};
pub use start_line::{SipMethod, StartLine, looks_like_sip};
pub use typed_headers::{RAck, ReasonHeader, ReferTo, Replaces, SessionExpires, SessionId, SessionRefresher};
