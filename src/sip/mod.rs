//! SIP messages as a mirror shows them: a tolerant, lazy scanner (RFC 3261), framing of byte streams
//! (RFC 3261 section 18.3, RFC 7118), and the values that a recorder needs, typed.
//!
//! A recorder answers nobody, so it asks one thing of a message: can it be keyed to a dialog without
//! doubt? What can is taken (compact names, folding, bare LF, foreign character sets, a missing
//! Content-Length, header lines that are none); what cannot is refused by reason ([`Reject`]):
//! no Call-ID, two different ones, a CSeq of another method, lengths that contradict each other.
//!
//! Invariants: no input panics; nothing grows beyond the named bounds; a [`Message`] borrows its
//! bytes and allocates only its table of headers and what must be unfolded or decoded.

mod address;
mod body;
mod header;
mod message;
mod start;
pub mod stream;
mod typed;
mod websocket;

#[cfg(test)]
mod tests;

pub use address::{NameAddr, Params, Scheme, Uri};
pub use message::{CSeq, Framing, MAX_BODY_BYTES, MAX_HEADER_BYTES, MAX_HEADERS, Message, Reject};
pub use start::{Method, StartLine, looks_like_sip};
pub use typed::{RAck, Reason, ReferTo, Refresher, Replaces, SessionExpires, SessionId};
