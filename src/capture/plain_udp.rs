//! Finds the UDP datagram in a plain frame without decoding it, for quick looks at many frames.

use super::ethertype::{IPV4, IPV6};
use super::{LinkPayload, LinkType};
use crate::net::{Endpoint, Flow, UDP_PROTOCOL};

/// Returns source, destination and payload of a frame if it is a UDP datagram directly in IP, as nearly all media are.
///
/// Returns `None` for other frames: fragments, tunnels, IPv6 with extension headers. [`crate::decode::FrameDecoder`]
/// can decode them. Nothing is counted, and lengths are not checked: bytes after the datagram belong to the payload.
#[inline]
pub(crate) fn udp_of(link: LinkType, data: &[u8]) -> Option<(Flow, &[u8])> {
    let mut payload = match link {
        LinkType::Ethernet => LinkPayload::of_ethernet(data)?,
        LinkType::LinuxSll => LinkPayload::of_cooked(data)?,
        LinkType::LinuxSll2 => LinkPayload::of_cooked_v2(data)?,
        LinkType::RawIp => ip_payload(data)?,
        LinkType::Null | LinkType::Loop => ip_payload(data.get(4..)?)?,
        LinkType::Other(_) => return None,
    };
    while let Some(length) = payload.tag_length() {
        payload = payload.after_tag(length)?;
    }
    let LinkPayload { ethertype, data } = payload;
    let (src, dst, datagram) = match ethertype {
        IPV4 => {
            let header = data.first_chunk::<20>().filter(|header| header[9] == UDP_PROTOCOL)?;
            let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
            let rest = data.get(usize::from(header[0] & 0x0f) * 4..)?;
            let is_whole = u16::from_be_bytes([header[6], header[7]]) & 0x3fff == 0;
            (Endpoint::v4([s0, s1, s2, s3], 0), Endpoint::v4([d0, d1, d2, d3], 0), Some(rest).filter(|_| is_whole)?)
        }
        IPV6 => {
            let (header, rest) = data.split_first_chunk::<40>().filter(|(header, _)| header[6] == UDP_PROTOCOL)?;
            let address = |at: usize| header[at..].first_chunk().map(|octets| Endpoint::v6(*octets, 0));
            (address(8)?, address(24)?, rest)
        }
        _ => return None,
    };
    let (header, payload) = datagram.split_first_chunk::<8>()?;
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    Some((Flow { src: src.with_port(port(0)), dst: dst.with_port(port(2)) }, payload))
}

/// Returns an IP packet without a link-layer header; `None` if it has another version than 4 or 6.
fn ip_payload(data: &[u8]) -> Option<LinkPayload<'_>> {
    let ethertype = match data.first()? >> 4 {
        4 => IPV4,
        6 => IPV6,
        _ => return None,
    };
    Some(LinkPayload { ethertype, data })
}
