//! Single attributes.

use std::net::IpAddr;

use sdp_types::Attribute;

/// Which way media flows, seen by who wrote the description (RFC 8866 section 6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MediaDirection {
    /// Both ways; also when nothing is said.
    #[default]
    SendRecv,
    /// The writer only sends: it has put its peer on hold.
    SendOnly,
    /// The writer only listens.
    RecvOnly,
    /// Neither way.
    Inactive,
}

impl MediaDirection {
    /// The last direction among the attributes.
    pub(super) fn find(attributes: &[Attribute]) -> Option<Self> {
        attributes.iter().rev().find_map(|a| match a.attribute.trim().to_ascii_lowercase().as_str() {
            "sendrecv" => Some(Self::SendRecv),
            "sendonly" => Some(Self::SendOnly),
            "recvonly" => Some(Self::RecvOnly),
            "inactive" => Some(Self::Inactive),
            _ => None,
        })
    }

    /// Whether the writer will send media.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the writer wants media.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// Where RTCP goes when it is not the port after that of RTP (RFC 3605).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcpAddress {
    /// The port.
    pub port: u16,
    /// The address, if it is another than that of RTP.
    pub ip: Option<IpAddr>,
}

impl RtcpAddress {
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        Some(Self { port: words.next()?.parse().ok()?, ip: words.nth(2).and_then(|ip| ip.parse().ok()) })
    }
}

/// An ICE candidate over UDP (RFC 8839 section 5.1): media may come to or from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IceCandidate {
    /// 1 RTP, 2 RTCP.
    pub component: u16,
    /// The address.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
}

impl IceCandidate {
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace().skip(1);
        let component = words.next()?.parse().ok()?;
        let udp = words.next()?.eq_ignore_ascii_case("udp");
        let ip = words.nth(1)?.parse().ok()?;
        let port = words.next()?.parse().ok()?;
        udp.then_some(Self { component, ip, port })
    }
}

/// The meaning of a header extension id (RFC 8285).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderExtension {
    /// The id in the packets.
    pub id: u16,
    /// Which extension, such as `urn:ietf:params:rtp-hdrext:ssrc-audio-level`.
    pub uri: String,
}

impl HeaderExtension {
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let id = words.next()?.split('/').next()?.parse().ok()?;
        Some(Self { id, uri: words.next()?.to_owned() })
    }
}

/// All attributes of this name, trimmed values; an attribute without a value has an empty one.
pub(super) fn all<'a>(attributes: &'a [Attribute], name: &'static str) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |a| a.attribute.trim().eq_ignore_ascii_case(name))
        .map(|a| a.value.as_deref().unwrap_or_default().trim())
}

/// The first attribute of this name.
pub(super) fn first<'a>(attributes: &'a [Attribute], name: &'static str) -> Option<&'a str> {
    all(attributes, name).next()
}

/// Whether there is an attribute of this name.
pub(super) fn has(attributes: &[Attribute], name: &'static str) -> bool {
    first(attributes, name).is_some()
}

/// The address of a c= line; a time to live after it is ignored; nothing for a host name.
pub(super) fn address(connection: &sdp_types::Connection) -> Option<IpAddr> {
    let text = connection.connection_address.split('/').next()?;
    text.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The BUNDLE groups.
pub(super) fn bundles(attributes: &[Attribute]) -> Vec<Vec<String>> {
    all(attributes, "group")
        .filter_map(|value| {
            let mut words = value.split_ascii_whitespace();
            words.next()?.eq_ignore_ascii_case("BUNDLE").then(|| words.take(MAX_LIST).map(str::to_owned).collect())
        })
        .take(MAX_LIST)
        .collect()
}

/// Entries that are kept of any repeated attribute; browsers send up to 20 candidates.
pub(super) const MAX_LIST: usize = 64;
