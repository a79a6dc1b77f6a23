//! Reads single attributes of a session description, i.e. `a=` lines (RFC 8866 section 5.13).

use std::net::IpAddr;

use sdp_types::Attribute;

/// Direction of the media, as the sender of the description sees it (RFC 8866 section 6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MediaDirection {
    /// The sender of the description sends and receives media. This applies if there is no direction attribute.
    #[default]
    SendRecv,
    /// The sender of the description only sends media. It puts the other side on hold.
    SendOnly,
    /// The sender of the description only receives media.
    RecvOnly,
    /// The sender of the description neither sends nor receives media.
    Inactive,
}

impl MediaDirection {
    /// Returns the direction in the last direction attribute; `None` if there is none.
    pub(super) fn find(attributes: &[Attribute]) -> Option<Self> {
        attributes.iter().rev().find_map(|a| match a.attribute.trim().to_ascii_lowercase().as_str() {
            "sendrecv" => Some(Self::SendRecv),
            "sendonly" => Some(Self::SendOnly),
            "recvonly" => Some(Self::RecvOnly),
            "inactive" => Some(Self::Inactive),
            _ => None,
        })
    }

    /// Returns whether the sender of the description sends media.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Returns whether the sender of the description receives media.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// An ICE candidate over UDP: an endpoint at which the sender of the description may also receive media (RFC 8839
/// section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IceCandidate {
    /// Component of the media: 1 is RTP, 2 is RTCP.
    pub component: u16,
    /// IP address of the candidate.
    pub ip: IpAddr,
    /// UDP port of the candidate.
    pub port: u16,
    /// Endpoint from which a reflexive or relayed candidate was derived, e.g. the client's address behind a NAT. `None`
    /// for a host candidate.
    pub related: Option<(IpAddr, u16)>,
}

impl IceCandidate {
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace().skip(1);
        let component = words.next()?.parse().ok()?;
        let udp = words.next()?.eq_ignore_ascii_case("udp");
        let ip = ip(words.nth(1)?)?;
        let port = words.next()?.parse().ok()?;
        let mut related = words.skip_while(|word| !word.eq_ignore_ascii_case("raddr"));
        let related = related.nth(1).and_then(self::ip).zip(related.nth(1).and_then(|port| port.parse().ok()));
        udp.then_some(Self { component, ip, port, related })
    }
}

/// Returns the trimmed values of all attributes with this name, in order. The value of an attribute without a value is
/// empty.
pub(super) fn all<'a>(attributes: &'a [Attribute], name: &'static str) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |a| a.attribute.trim().eq_ignore_ascii_case(name))
        .map(|a| a.value.as_deref().unwrap_or_default().trim())
}

/// Returns the value of the first attribute with this name; `None` if there is none.
pub(super) fn first<'a>(attributes: &'a [Attribute], name: &'static str) -> Option<&'a str> {
    all(attributes, name).next()
}

/// Returns whether there is an attribute with this name.
pub(super) fn has(attributes: &[Attribute], name: &'static str) -> bool {
    first(attributes, name).is_some()
}

/// Returns the IP address of a c= line, without the time to live of a multicast address; `None` for a host name.
pub(super) fn address(connection: &sdp_types::Connection) -> Option<IpAddr> {
    ip(connection.connection_address.split('/').next()?)
}

/// Parses an IP address. The zone of a link-local IPv6 address (`fe80::1%eth0`, RFC 4007 section 11) is removed,
/// because it names a network interface of the sender.
fn ip(text: &str) -> Option<IpAddr> {
    let text = text.trim_start_matches('[').trim_end_matches(']');
    text.split('%').next()?.parse().ok()
}

/// Maximum number of values of an attribute that are stored. Browsers send up to 20 candidates.
pub(super) const MAX_LIST: usize = 64;
