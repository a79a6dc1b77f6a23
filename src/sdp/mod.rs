//! Session descriptions (RFC 8866) as far as a recorder needs them: where media goes, in which
//! direction, in which formats, under which keys.
//!
//! `sdp-types` reads the description after a cleaner has taken out what it refuses and a recorder
//! does not need. Attributes are then read one by one; one that is malformed is
//! as if it were not there, since the others still tell where the media is.
//!
//! Invariants: no input panics; every list is bounded; the order of [`SessionDescription::media`] is that of the
//! m= lines, refused ones (port 0) and unreadable ones included, because offer and answer are matched
//! by position (RFC 3264 section 6).

mod attribute;
mod clean;
mod crypto;
mod media;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub use attribute::{HeaderExtension, IceCandidate, MediaDirection, RtcpAddress};
pub use clean::{MAX_LINES, MAX_SDP_BYTES};
pub use crypto::{CryptoAttribute, CryptoKey, Mki};
pub use media::{MediaDescription, MediaFormat, MediaKind, MediaProtocol};

/// Why bytes are no session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SdpReject {
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
pub struct SessionDescription {
    /// Who made it and which version of it this is; nothing when o= is missing or malformed.
    pub origin: Option<SessionOrigin>,
    /// The session-level address; nothing when it is missing or a host name.
    pub connection: Option<IpAddr>,
    /// The media, in the order of their m= lines.
    pub media: Vec<MediaDescription>,
    /// The mids of each `a=group:BUNDLE` (RFC 9143): these share one port.
    pub bundles: Vec<Vec<String>>,
}

impl SessionDescription {
    /// The audio m= lines.
    pub fn audio(&self) -> impl Iterator<Item = &MediaDescription> {
        self.media.iter().filter(|media| media.kind == MediaKind::Audio)
    }
}

/// The o= line (RFC 8866 section 5.2). Two descriptions of one origin with the same version are the
/// same; a later version is a new offer or answer (RFC 3264 section 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOrigin {
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
/// [`SdpReject`], when it is none or too long.
pub fn parse(bytes: &[u8]) -> Result<SessionDescription, SdpReject> {
    let cleaned = clean::clean(bytes)?;
    let parsed = sdp_types::Session::parse(cleaned.text.as_bytes()).map_err(|_| SdpReject::Malformed)?;
    let connection = parsed.connection.as_ref().and_then(attribute::address);
    let defaults = media::SessionDefaults::new(connection, &parsed.attributes);
    Ok(SessionDescription {
        origin: cleaned.origin,
        connection,
        bundles: attribute::bundles(&parsed.attributes),
        media: parsed.medias.iter().map(|media| MediaDescription::new(media, &defaults)).collect(),
    })
}
