//! Session descriptions (RFC 8866), as far as a recorder needs them: endpoints, directions, payload formats and keys of
//! the media.
//!
//! First, `clean` removes the lines that a recorder does not need and that `sdp-types` may reject. Then `sdp-types`
//! parses the rest. A malformed attribute is ignored, and the others are used.
//!
//! Invariants:
//! - No input panics, and every list has a maximum length.
//! - [`SessionDescription::media`] has all m= lines in order, also refused (port 0) and unreadable ones. Offer and
//!   answer are matched by their positions (RFC 3264 section 6).

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
pub(crate) use media::MediaFormat;
pub use media::{MediaDescription, MediaKind, MediaProtocol};

/// Reason why bytes are not accepted as a session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SdpReject {
    /// The text has no v= line and no m= line.
    #[error("no session description")]
    NotSdp,
    /// The text has more than [`MAX_SDP_BYTES`] bytes or [`MAX_LINES`] lines.
    #[error("session description too long")]
    TooLong,
    /// The parser rejects the description, although it was cleaned.
    #[error("malformed session description")]
    Malformed,
}

/// A session description (RFC 8866): the media that one side of a call proposes or accepts, with endpoints, directions
/// and formats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionDescription {
    /// Origin (o= line): sender and version of the description. `None` if the line is missing or malformed.
    pub origin: Option<SessionOrigin>,
    /// IP address (c= line) for all m= sections without a c= line. `None` if it is missing or a host name.
    pub connection: Option<IpAddr>,
    /// Media descriptions in the order of the m= lines.
    pub media: Vec<MediaDescription>,
    /// For each BUNDLE group (`a=group:BUNDLE`), the names of its m= sections. They share one port (RFC 9143).
    pub bundles: Vec<Vec<String>>,
}

impl SessionDescription {
    /// Returns the m= lines of type audio.
    pub fn audio(&self) -> impl Iterator<Item = &MediaDescription> {
        self.media.iter().filter(|media| media.kind == MediaKind::Audio)
    }
}

/// The o= line (RFC 8866 section 5.2). Two descriptions with the same origin and version are equal. A higher version is
/// a new offer or answer (RFC 3264 section 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOrigin {
    /// Number that is unique among the sessions of the origin's host.
    pub session_id: String,
    /// Version of the description; grows with each change.
    pub session_version: u64,
    /// IP address or host name of the sender.
    pub address: String,
}

/// Parses a session description.
///
/// # Errors
/// Returns [`SdpReject`] if the bytes are not a session description or too long.
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
