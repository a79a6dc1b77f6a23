//! Session descriptions (RFC 8866) as far as a recorder needs them: where media goes, in which
//! direction, in which formats, under which keys.
//!
//! `sdp-types` reads the description after a cleaner has taken out what it refuses and a recorder
//! does not need. Attributes are then read one by one; one that is malformed is
//! as if it were not there, since the others still tell where the media is.
//!
//! Invariants: no input panics; every list is bounded; the order of [`Session::media`] is that of the
//! m= lines, refused ones (port 0) and unreadable ones included, because offer and answer are matched
//! by position (RFC 3264 section 6).

mod attribute;
mod clean;
mod crypto;
mod media;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub use attribute::{Candidate, Direction, Extmap, RtcpAddress};
pub use clean::{MAX_LINES, MAX_SDP_BYTES};
pub use crypto::{Crypto, Key, Mki};
pub use media::{Format, Kind, Media, Protocol};

/// Why bytes are no session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reject {
    /// Neither a v= nor an m= line.
    #[error("no session description")]
    NotSdp,
    /// More than [`MAX_SDP_BYTES`] bytes or [`MAX_LINES`] lines.
    #[error("session description too long")]
    TooLong,
    /// Refused by the parser even after cleaning.
    #[error("malformed session description")]
    Malformed,
}

/// A session description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Who made it and which version of it this is; nothing when o= is missing or malformed.
    pub origin: Option<Origin>,
    /// The session-level address; nothing when it is missing or a host name.
    pub connection: Option<IpAddr>,
    /// The media, in the order of their m= lines.
    pub media: Vec<Media>,
    /// The mids of each `a=group:BUNDLE` (RFC 9143): these share one port.
    pub bundles: Vec<Vec<String>>,
}

impl Session {
    /// The audio m= lines.
    pub fn audio(&self) -> impl Iterator<Item = &Media> {
        self.media.iter().filter(|media| media.kind == Kind::Audio)
    }
}

/// The o= line (RFC 8866 section 5.2). Two descriptions of one origin with the same version are the
/// same; a later version is a new offer or answer (RFC 3264 section 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The session's id at its origin.
    pub session_id: String,
    /// The version.
    pub session_version: u64,
    /// The origin's address or name.
    pub address: String,
}

/// Reads a session description.
///
/// # Errors
/// [`Reject`], when it is none or too long.
pub fn parse(bytes: &[u8]) -> Result<Session, Reject> {
    let cleaned = clean::clean(bytes)?;
    let parsed = sdp_types::Session::parse(cleaned.text.as_bytes()).map_err(|_| Reject::Malformed)?;
    let connection = parsed.connection.as_ref().and_then(attribute::address);
    let defaults = media::Defaults::new(connection, &parsed.attributes);
    Ok(Session {
        origin: cleaned.origin,
        connection,
        bundles: attribute::bundles(&parsed.attributes),
        media: parsed.medias.iter().map(|media| Media::new(media, &defaults)).collect(),
    })
}
