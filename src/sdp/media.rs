//! Media descriptions: m= lines with their attributes (RFC 8866 section 5.14).

use crate::net::PayloadType;
use std::net::IpAddr;

use sdp_types::Attribute;

use super::attribute::{self, IceCandidate, MAX_LIST, MediaDirection};
use super::crypto::CryptoAttribute;

/// Media type: the first word of an m= line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// `audio`: sound.
    Audio,
    /// `video`: moving pictures.
    Video,
    /// `image`: T.38 fax.
    Image,
    /// `text`: real-time text, sent as it is typed (RFC 4103).
    Text,
    /// `application`, e.g. a WebRTC data channel.
    Application,
    /// `message`: chat over MSRP (RFC 4975).
    Message,
    /// Any other media type. Such m= lines are ignored.
    Other,
}

/// Transport protocol: the third word of an m= line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaProtocol {
    /// `RTP/AVP`: unencrypted RTP (RFC 3551).
    RtpAvp,
    /// `RTP/SAVP`: SRTP with keys in the signalling (RFC 3711, RFC 4568).
    RtpSavp,
    /// `RTP/AVPF`: unencrypted RTP with feedback (RFC 4585).
    RtpAvpf,
    /// `RTP/SAVPF`: SRTP with feedback (RFC 5124).
    RtpSavpf,
    /// `UDP/TLS/RTP/SAVP`: SRTP with keys by DTLS (RFC 5764).
    UdpTlsRtpSavp,
    /// `UDP/TLS/RTP/SAVPF`: SRTP with keys by DTLS and with feedback (RFC 5764).
    UdpTlsRtpSavpf,
    /// RTP or SRTP over TCP or TLS, e.g. `TCP/RTP/AVP` (RFC 4571).
    RtpOverTcp,
    /// `udptl`: T.38 fax without RTP.
    Udptl,
    /// Any other transport protocol.
    Other,
}

impl MediaProtocol {
    /// Returns whether the protocol carries RTP over UDP, encrypted or not.
    pub const fn is_rtp(self) -> bool {
        !matches!(self, Self::RtpOverTcp | Self::Udptl | Self::Other)
    }
}

/// A payload format of an m= line: a payload type with its codec, clock and parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaFormat {
    /// Payload type, 0 to 127.
    pub pt: PayloadType,
    /// Encoding name in upper case. Empty if there is no rtpmap, even for a static payload type of RFC 3551.
    pub encoding: String,
    /// RTP clock rate, Hz; 0 if unknown. It is 8000 for G.722, too.
    pub clock_hz: u32,
    /// Number of audio channels; 1 if the rtpmap has no number.
    pub channels: u8,
    /// Parameters of all a=fmtp lines of this payload type, joined by `;`.
    pub fmtp: String,
}

/// A media description: one m= line with its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaDescription {
    /// Media type, e.g. audio or video.
    pub kind: MediaKind,
    /// UDP port at which the sender of the description receives RTP; 0 if the m= line is refused or no longer used.
    pub port: u16,
    /// Transport protocol, which also says whether the media is encrypted.
    pub protocol: MediaProtocol,
    /// IP address at which the sender of the description receives media, from the m= section or from the session.
    /// `None` for a host name.
    pub connection: Option<IpAddr>,
    /// Direction of the media, from the m= section or from the session.
    pub direction: MediaDirection,
    /// Payload formats, in the order in which the sender of the description prefers them.
    pub formats: Vec<MediaFormat>,
    /// Preferred duration of the sound in a packet that the sender of the description receives, milliseconds
    /// (`a=ptime`).
    pub ptime_ms: Option<u32>,
    /// Crypto suites and keys for SRTP, one for each `a=crypto` line (RFC 4568).
    pub crypto: Vec<CryptoAttribute>,
    /// Whether the sender of the description can receive SRTP with encrypted header extensions (`a=cryptex`, RFC 9335
    /// section 4).
    pub cryptex: bool,
    /// Whether the description has a DTLS fingerprint. Then DTLS agrees on the SRTP keys (RFC 5763).
    pub fingerprint: bool,
    /// Whether ZRTP may agree on SRTP keys within the media stream (RFC 6189).
    pub zrtp: bool,
    /// Whether the sender of the description uses ICE (RFC 8839). With ICE, the address 0.0.0.0 does not mean a hold.
    pub ice: bool,
    /// ICE candidates: endpoints at which the sender of the description may also receive media.
    pub candidates: Vec<IceCandidate>,
    /// Label of the m= section (`a=label`, RFC 4574). E.g. SIPREC metadata refers to it.
    pub label: Option<String>,
}

/// Values of the session part, for m= sections without values of their own.
pub(super) struct SessionDefaults {
    connection: Option<IpAddr>,
    direction: MediaDirection,
    fingerprint: bool,
    cryptex: bool,
    zrtp: bool,
    ice: bool,
    ptime_ms: Option<u32>,
}

impl SessionDefaults {
    pub(super) fn new(connection: Option<IpAddr>, attributes: &[Attribute]) -> Self {
        Self {
            connection,
            direction: MediaDirection::find(attributes).unwrap_or_default(),
            fingerprint: attribute::has(attributes, "fingerprint"),
            cryptex: attribute::has(attributes, "cryptex"),
            zrtp: attribute::has(attributes, "zrtp-hash"),
            ice: attribute::has(attributes, "ice-ufrag"),
            ptime_ms: milliseconds(attributes, "ptime"),
        }
    }
}

impl MediaDescription {
    pub(super) fn new(media: &sdp_types::Media, defaults: &SessionDefaults) -> Self {
        let a = &media.attributes;
        Self {
            kind: kind(&media.media),
            port: media.port,
            protocol: protocol(&media.proto),
            // The address of the m= section overrides the address of the session (RFC 8866 section 5.7).
            connection: media.connections.first().map_or(defaults.connection, attribute::address),
            direction: MediaDirection::find(a).unwrap_or(defaults.direction),
            formats: formats(&media.fmt, a),
            ptime_ms: milliseconds(a, "ptime").or(defaults.ptime_ms),
            crypto: attribute::all(a, "crypto").filter_map(CryptoAttribute::parse).take(MAX_LIST).collect(),
            cryptex: defaults.cryptex || attribute::has(a, "cryptex"),
            fingerprint: defaults.fingerprint || attribute::has(a, "fingerprint"),
            zrtp: defaults.zrtp || attribute::has(a, "zrtp-hash"),
            ice: defaults.ice || attribute::has(a, "ice-ufrag"),
            candidates: attribute::all(a, "candidate").filter_map(IceCandidate::parse).take(MAX_LIST).collect(),
            label: attribute::first(a, "label").filter(|label| !label.is_empty()).map(str::to_owned),
        }
    }

    /// Returns the announced format of a payload type; `None` if the m= section does not announce it.
    pub fn format(&self, pt: PayloadType) -> Option<&MediaFormat> {
        self.formats.iter().find(|format| format.pt == pt)
    }
}

fn kind(name: &str) -> MediaKind {
    match name.to_ascii_lowercase().as_str() {
        "audio" => MediaKind::Audio,
        "video" => MediaKind::Video,
        "image" => MediaKind::Image,
        "text" => MediaKind::Text,
        "application" => MediaKind::Application,
        "message" => MediaKind::Message,
        _ => MediaKind::Other,
    }
}

fn protocol(name: &str) -> MediaProtocol {
    match name.to_ascii_uppercase().as_str() {
        "RTP/AVP" => MediaProtocol::RtpAvp,
        "RTP/SAVP" => MediaProtocol::RtpSavp,
        "RTP/AVPF" => MediaProtocol::RtpAvpf,
        "RTP/SAVPF" => MediaProtocol::RtpSavpf,
        "UDP/TLS/RTP/SAVP" => MediaProtocol::UdpTlsRtpSavp,
        "UDP/TLS/RTP/SAVPF" => MediaProtocol::UdpTlsRtpSavpf,
        "UDPTL" | "UDP/UDPTL" => MediaProtocol::Udptl,
        other if other.starts_with("TCP/") && other.contains("RTP/") => MediaProtocol::RtpOverTcp,
        _ => MediaProtocol::Other,
    }
}

/// Returns the payload formats that the m= line lists, then those that only an rtpmap has. Some gateways announce
/// telephone-event only by an rtpmap.
fn formats(fmt: &str, attributes: &[Attribute]) -> Vec<MediaFormat> {
    let mut formats: Vec<MediaFormat> = Vec::new();
    let maps = attribute::all(attributes, "rtpmap").filter_map(rtpmap);
    for pt in fmt.split_ascii_whitespace().filter_map(payload_type) {
        if !formats.iter().any(|f| f.pt == pt) {
            formats.push(MediaFormat { pt, channels: 1, ..MediaFormat::default() });
        }
    }
    for map in maps {
        match formats.iter_mut().find(|f| f.pt == map.pt) {
            Some(format) if format.encoding.is_empty() => *format = map,
            Some(_) => {}
            None => formats.push(map),
        }
    }
    for (pt, params) in attribute::all(attributes, "fmtp").filter_map(|v| v.split_once([' ', '\t'])) {
        let Some(format) = payload_type(pt).and_then(|pt| formats.iter_mut().find(|f| f.pt == pt)) else { continue };
        if !format.fmtp.is_empty() {
            format.fmtp.push(';');
        }
        format.fmtp.push_str(params.trim());
    }
    formats
}

/// Parses the value of an rtpmap: `pt encoding/clock[/channels]`.
fn rtpmap(value: &str) -> Option<MediaFormat> {
    let (pt, rest) = value.split_once([' ', '\t'])?;
    let mut parts = rest.split('/').map(str::trim);
    let encoding = parts.next()?.to_ascii_uppercase();
    let clock_hz = parts.next().and_then(|clock| clock.parse().ok()).unwrap_or(0);
    let channels = parts.next().and_then(|channels| channels.parse().ok()).filter(|&c| c > 0).unwrap_or(1);
    Some(MediaFormat { pt: payload_type(pt)?, encoding, clock_hz, channels, fmtp: String::new() })
}

fn payload_type(text: &str) -> Option<PayloadType> {
    text.trim().parse().ok().filter(|pt| *pt < 128).map(PayloadType)
}

fn milliseconds(attributes: &[Attribute], name: &'static str) -> Option<u32> {
    let value = attribute::first(attributes, name)?;
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    value.get(..digits)?.parse().ok().filter(|&ms| ms > 0)
}
