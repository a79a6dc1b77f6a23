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

pub use attribute::{IceCandidate, MediaDirection};
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
    /// Media descriptions in the order of the m= lines.
    pub media: Vec<MediaDescription>,
}

impl SessionDescription {
    /// Returns the m= lines of type audio.
    pub fn audio(&self) -> impl Iterator<Item = &MediaDescription> {
        self.media.iter().filter(|media| media.kind == MediaKind::Audio)
    }
}

/// Parses a session description.
///
/// # Errors
/// Returns [`SdpReject`] if the bytes are not a session description or too long.
pub fn parse(bytes: &[u8]) -> Result<SessionDescription, SdpReject> {
    let cleaned = clean::clean(bytes)?;
    let parsed = sdp_types::Session::parse(cleaned.as_bytes()).map_err(|_| SdpReject::Malformed)?;
    let connection = parsed.connection.as_ref().and_then(attribute::address);
    let defaults = media::SessionDefaults::new(connection, &parsed.attributes);
    Ok(SessionDescription {
        media: parsed.medias.iter().map(|media| MediaDescription::new(media, &defaults)).collect(),
    })
}
