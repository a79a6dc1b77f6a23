//! The audio and fax m-lines of a session description (RFC 4566, RFC 3264). Payload formats and keys are read with them
//! (RFC 3551, RFC 4568). Each list has a maximum length, because a stranger may have written the description.

use super::payload_formats::{format_of, static_format};
use super::stream_security::{MediaProtection, protection};
use crate::call::decision::{PayloadFormat, SrtpContext, SrtpKey};
use crate::net::{Endpoint, PayloadType};
use crate::sdp::{self, MediaDirection, MediaKind, MediaProtocol};

/// The audio part of a session description, as one side sent it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AudioDescription {
    /// Endpoints at which the side receives audio, in the order of the m-lines. A refused m-line has no endpoint.
    pub(crate) receivers: Vec<Endpoint>,
    /// Ports of the audio m-lines. They identify the media if the announced address is a host name.
    pub(super) ports: Vec<u16>,
    /// Announced payload types with their formats.
    pub(crate) formats: Vec<(PayloadType, PayloadFormat)>,
    /// Audio m-lines that are not refused, in the order of the description.
    pub(super) lines: Vec<AudioLine>,
    /// Whether the description accepts T.38 fax, i.e. has an image m-line that is not refused.
    pub(crate) fax: bool,
}

/// An audio m-line. An answer has the m-lines of the offer in the same order and may refuse some of them (RFC 3264
/// section 6). One m-line may be plain RTP and the next SRTP.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AudioLine {
    /// Index of the m-line among all m-lines of the description, counted from 0.
    pub(super) place: usize,
    /// UDP port at which the side receives RTP.
    pub(super) port: u16,
    pub(super) direction: MediaDirection,
    /// Payload types of this m-line with their formats. Another m-line may use the same payload types for other
    /// formats.
    pub(super) formats: Vec<(PayloadType, PayloadFormat)>,
    /// SRTP keys of the packets that the side sends, each with its crypto tag, in order of preference (SDES, RFC 4568).
    pub(super) crypto: Vec<(u32, SrtpContext)>,
    /// Whether the side can receive SRTP with encrypted header extensions (RFC 9335).
    pub(super) cryptex: bool,
    pub(super) protection: MediaProtection,
    /// Whether the media is sent over TCP and not over UDP.
    pub(super) is_over_tcp: bool,
}

impl AudioDescription {
    /// Reads the audio and fax m-lines of a session description. Ignores video and other media.
    pub fn from_session(session: &sdp::SessionDescription) -> Self {
        let mut out = Self::default();
        for (place, media) in session.media.iter().take(MAX_MEDIA_LINES).enumerate() {
            match media.kind {
                MediaKind::Image => out.fax |= media.port != 0,
                MediaKind::Audio if media.port != 0 => out.add_audio(media, place),
                _ => {}
            }
        }
        out
    }

    /// Returns whether the description contains T.38 fax and no audio.
    pub(super) fn is_fax_alone(&self) -> bool {
        self.fax && self.lines.is_empty()
    }

    fn add_audio(&mut self, media: &sdp::MediaDescription, place: usize) {
        let mut direction = media.direction;
        if !self.ports.contains(&media.port) {
            self.ports.push(media.port);
        }
        if let Some(ip) = media.connection {
            let receiver = Endpoint::new(ip, media.port);
            if receiver.is_unspecified() {
                // The address 0.0.0.0 usually means a hold (RFC 2543, RFC 3264 section 8.4). But an ICE agent writes
                // it, too, before it has a candidate (RFC 8840 section 4.1.1), and that is no hold.
                if !media.ice {
                    direction = MediaDirection::Inactive;
                }
            } else if !self.receivers.contains(&receiver) {
                self.receivers.push(receiver);
            }
        }
        // With ICE, another candidate address of the same side may receive the RTP (RFC 8445). So all candidates count
        // as receivers. Component 1 is RTP.
        for candidate in media.candidates.iter().filter(|c| c.component == 1).take(MAX_CANDIDATES) {
            // A mirror before a NAT or relay shows the media at the candidate's related address (RFC 8839 section 5.1).
            // So this address counts, too.
            for (ip, port) in [(candidate.ip, candidate.port)].into_iter().chain(candidate.related) {
                let receiver = Endpoint::new(ip, port);
                let is_known = receiver.is_unspecified() || self.receivers.contains(&receiver);
                if !is_known && self.receivers.len() < MAX_RECEIVERS {
                    self.receivers.push(receiver);
                }
            }
        }
        let named =
            media.formats.iter().take(MAX_FORMATS).filter_map(|format| Some((format.pt, named_format(format)?)));
        // Each description is kept several times, for as long as its call lasts. So unused memory of its lists is
        // freed.
        let mut formats: Vec<(PayloadType, PayloadFormat)> = named.collect();
        formats.shrink_to_fit();
        for (pt, format) in &formats {
            if format_of(&self.formats, *pt).is_none() {
                self.formats.push((*pt, format.clone()));
            }
        }
        self.formats.shrink_to_fit();
        let crypto = media
            .crypto
            .iter()
            .filter(|c| has_default_parameters(c))
            .take(MAX_CRYPTO)
            .map(|c| (c.tag, srtp_context(c)))
            .collect();
        let (port, cryptex, protection) = (media.port, media.cryptex, protection(media));
        let is_over_tcp = media.protocol == MediaProtocol::RtpOverTcp;
        self.lines.push(AudioLine { place, port, direction, formats, crypto, cryptex, protection, is_over_tcp });
    }

    /// Returns the first m-line that neither this side nor `other` refuses. If there is none, returns the first m-line.
    pub(super) fn line(&self, other: Option<&Self>) -> Option<&AudioLine> {
        let is_common = |line: &&AudioLine| other.is_some_and(|o| o.lines.iter().any(|l| l.place == line.place));
        self.lines.iter().find(is_common).or(self.lines.first())
    }
}

fn named_format(format: &sdp::MediaFormat) -> Option<PayloadFormat> {
    if format.encoding.is_empty() {
        let mut named = static_format(format.pt)?;
        named.fmtp.clone_from(&format.fmtp);
        return Some(named);
    }
    Some(PayloadFormat {
        encoding: format.encoding.clone(),
        clock_hz: format.clock_hz,
        channels: format.channels,
        fmtp: format.fmtp.clone(),
    })
}

/// Returns whether a crypto attribute has no session parameter that changes key derivation or encryption (RFC 4568
/// section 6.3). The recorder ignores such parameters, so with one of them packets would decrypt to noise.
fn has_default_parameters(crypto: &sdp::CryptoAttribute) -> bool {
    let unusual = ["KDR=", "UNENCRYPTED_SRTP", "UNAUTHENTICATED_SRTP"];
    !crypto.params.iter().any(|param| unusual.iter().any(|name| param.to_ascii_uppercase().starts_with(name)))
}

fn srtp_context(crypto: &sdp::CryptoAttribute) -> SrtpContext {
    SrtpContext {
        suite: crypto.suite.clone(),
        keys: crypto.keys.iter().take(MAX_KEYS).map(|k| SrtpKey { inline: k.inline.clone(), mki: mki(k) }).collect(),
        cryptex: false,
    }
}

fn mki(key: &sdp::CryptoKey) -> Option<(u64, u8)> {
    key.mki.map(|m| (m.value, m.length_bytes))
}

/// Maximum number of m-lines of a description that are read.
const MAX_MEDIA_LINES: usize = 16;
/// Maximum number of receiving endpoints that are read from a description. It limits the memory that a malicious
/// description can take.
const MAX_RECEIVERS: usize = 24;
/// Maximum number of ICE candidates that are read from an m-line. A telephone with several interfaces has fewer host,
/// reflexive and relayed candidates.
const MAX_CANDIDATES: usize = 12;
/// Maximum number of payload formats of an m-line. There are only 128 payload types.
const MAX_FORMATS: usize = 128;
/// Maximum number of crypto attributes of an m-line. RFC 4568 sets no maximum, and telephones offer up to eight.
const MAX_CRYPTO: usize = 16;
/// Maximum number of master keys that are read from a crypto attribute. Each further key would cost time for every
/// packet, because keys are tried in turn.
const MAX_KEYS: usize = 8;
