//! One m= line with its attributes.

use crate::net::{PayloadType, Ssrc};
use std::net::IpAddr;

use sdp_types::Attribute;

use super::attribute::{self, HeaderExtension, IceCandidate, MAX_LIST, MediaDirection, RtcpAddress};
use super::crypto::CryptoAttribute;

/// What kind of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Speech.
    Audio,
    /// Pictures that move.
    Video,
    /// T.38 fax.
    Image,
    /// Real-time text (RFC 4103).
    Text,
    /// A data channel, a floor ...
    Application,
    /// MSRP.
    Message,
    /// Anything else.
    Other,
}

/// How media travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaProtocol {
    /// Plain RTP (RFC 3551).
    RtpAvp,
    /// SRTP with keys in the signalling (RFC 3711, RFC 4568).
    RtpSavp,
    /// RTP with feedback (RFC 4585).
    RtpAvpf,
    /// SRTP with feedback (RFC 5124).
    RtpSavpf,
    /// SRTP with keys by DTLS (RFC 5764).
    UdpTlsRtpSavp,
    /// The same with feedback.
    UdpTlsRtpSavpf,
    /// T.38.
    Udptl,
    /// Anything else.
    Other,
}

impl MediaProtocol {
    /// Whether packets are RTP, encrypted or not, over UDP.
    pub const fn is_rtp(self) -> bool {
        !matches!(self, Self::Udptl | Self::Other)
    }

    /// Whether packets are encrypted.
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::RtpSavp | Self::RtpSavpf | Self::UdpTlsRtpSavp | Self::UdpTlsRtpSavpf)
    }
}

/// A payload format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaFormat {
    /// The payload type in the packets, 0..=127.
    pub pt: PayloadType,
    /// The encoding's name, upper case; empty when there is no rtpmap: then a static payload type
    /// means what RFC 3551 says, and a dynamic one nothing.
    pub encoding: String,
    /// The RTP clock in Hz (8000 for G.722 too); 0 when unknown.
    pub clock_hz: u32,
    /// Channels; 1 when not said.
    pub channels: u8,
    /// The parameters of all a=fmtp lines of this payload type, joined by `;`.
    pub fmtp: String,
}

/// One m= line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaDescription {
    /// What it carries.
    pub kind: MediaKind,
    /// Where its writer wants RTP; 0 means refused or ended.
    pub port: u16,
    /// How it travels.
    pub protocol: MediaProtocol,
    /// The address: that of the media, else that of the session.
    pub connection: Option<IpAddr>,
    /// Which way: of the media, else of the session.
    pub direction: MediaDirection,
    /// The payload formats in order of preference.
    pub formats: Vec<MediaFormat>,
    /// Milliseconds of sound in a packet that its writer would like to get.
    pub ptime_ms: Option<u32>,
    /// The most milliseconds in a packet.
    pub maxptime_ms: Option<u32>,
    /// Where RTCP goes, if not to the next port.
    pub rtcp: Option<RtcpAddress>,
    /// Whether RTCP comes on the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    /// The SRTP suites and keys in the signalling.
    pub crypto: Vec<CryptoAttribute>,
    /// Whether keys are agreed by DTLS (RFC 5763).
    pub fingerprint: bool,
    /// Whether keys are agreed in the media path (RFC 6189).
    pub zrtp: bool,
    /// Other places where media may come from or go to.
    pub candidates: Vec<IceCandidate>,
    /// Announced synchronisation sources (RFC 5576).
    pub ssrcs: Vec<Ssrc>,
    /// The name within the session (RFC 5888).
    pub mid: Option<String>,
    /// The name for applications, as in SIPREC (RFC 4574).
    pub label: Option<String>,
    /// Header extensions.
    pub extmap: Vec<HeaderExtension>,
}

/// What the session level says for all media.
pub(super) struct SessionDefaults {
    connection: Option<IpAddr>,
    direction: MediaDirection,
    fingerprint: bool,
    zrtp: bool,
    ptime_ms: Option<u32>,
}

impl SessionDefaults {
    pub(super) fn new(connection: Option<IpAddr>, attributes: &[Attribute]) -> Self {
        Self {
            connection,
            direction: MediaDirection::find(attributes).unwrap_or_default(),
            fingerprint: attribute::has(attributes, "fingerprint"),
            zrtp: attribute::has(attributes, "zrtp-hash"),
            ptime_ms: milliseconds(attributes, "ptime"),
        }
    }
}

impl MediaDescription {
    pub(super) fn new(media: &sdp_types::Media, defaults: &SessionDefaults) -> Self {
        let a = &media.attributes;
        let text = |name| attribute::first(a, name).filter(|v| !v.is_empty()).map(str::to_owned);
        Self {
            kind: kind(&media.media),
            port: media.port,
            protocol: protocol(&media.proto),
            // RFC 8866 section 5.7: the media's own address overrides the session's.
            connection: media.connections.first().map_or(defaults.connection, attribute::address),
            direction: MediaDirection::find(a).unwrap_or(defaults.direction),
            formats: formats(&media.fmt, a),
            ptime_ms: milliseconds(a, "ptime").or(defaults.ptime_ms),
            maxptime_ms: milliseconds(a, "maxptime"),
            rtcp: attribute::first(a, "rtcp").and_then(RtcpAddress::parse),
            rtcp_mux: attribute::has(a, "rtcp-mux"),
            crypto: attribute::all(a, "crypto").filter_map(CryptoAttribute::parse).take(MAX_LIST).collect(),
            fingerprint: defaults.fingerprint || attribute::has(a, "fingerprint"),
            zrtp: defaults.zrtp || attribute::has(a, "zrtp-hash"),
            candidates: attribute::all(a, "candidate").filter_map(IceCandidate::parse).take(MAX_LIST).collect(),
            ssrcs: ssrcs(a),
            mid: text("mid"),
            label: text("label"),
            extmap: attribute::all(a, "extmap").filter_map(HeaderExtension::parse).take(MAX_LIST).collect(),
        }
    }

    /// Whether the address is 0.0.0.0 or `::`: the hold of RFC 2543 (RFC 3264 section 8.4).
    pub fn is_hold_address(&self) -> bool {
        self.connection.is_some_and(|ip| ip.is_unspecified())
    }

    /// Whether the m= line is refused or ended (port 0, RFC 3264 section 6).
    pub fn is_refused(&self) -> bool {
        self.port == 0
    }

    /// The format of this payload type.
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
        _ => MediaProtocol::Other,
    }
}

/// The formats of the m= line, then those that only an rtpmap names (seen from gateways that list
/// telephone-event nowhere else).
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

/// `pt encoding/clock[/channels]`
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

fn ssrcs(attributes: &[Attribute]) -> Vec<Ssrc> {
    let mut found = Vec::new();
    for ssrc in
        attribute::all(attributes, "ssrc").filter_map(|v| v.split_ascii_whitespace().next()?.parse().ok().map(Ssrc))
    {
        if found.len() < MAX_LIST && !found.contains(&ssrc) {
            found.push(ssrc);
        }
    }
    found
}
