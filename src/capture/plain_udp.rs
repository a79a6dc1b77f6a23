//! Finds the UDP datagram in a plain frame without decoding it, for quick looks at many frames.

use super::LinkType;
use super::ethertype::{IPV4, IPV6, tag_length};
use crate::net::{Endpoint, Flow, be16};

/// Returns source, destination and payload of a frame if it is a UDP datagram directly in IP, as nearly all media are.
///
/// Returns `None` for other frames: fragments, tunnels, IPv6 with extension headers. [`crate::decode::FrameDecoder`]
/// can decode them. Nothing is counted, and lengths are not checked: bytes after the datagram belong to the payload.
#[inline]
pub(crate) fn udp_of(link: LinkType, data: &[u8]) -> Option<(Flow, &[u8])> {
    let (mut kind, mut data) = match link {
        LinkType::Ethernet => (be16(data, 12)?, &data[14..]),
        LinkType::LinuxSll => (be16(data, 14)?, &data[16..]),
        LinkType::LinuxSll2 => (be16(data, 0)?, data.get(20..)?),
        LinkType::RawIp => (version_of(data)?, data),
        LinkType::Null | LinkType::Loop => (version_of(data.get(4..)?)?, &data[4..]),
        LinkType::Other(_) => return None,
    };
    while let Some(length) = tag_length(kind, data) {
        (kind, data) = (be16(data, length - 2)?, data.get(length..)?);
    }
    let (src, dst, datagram) = match kind {
        IPV4 => {
            let header = data.first_chunk::<20>().filter(|header| header[9] == UDP)?;
            let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
            let rest = data.get(usize::from(header[0] & 0x0f) * 4..)?;
            let is_whole = u16::from_be_bytes([header[6], header[7]]) & 0x3fff == 0;
            (Endpoint::v4([s0, s1, s2, s3], 0), Endpoint::v4([d0, d1, d2, d3], 0), Some(rest).filter(|_| is_whole)?)
        }
        IPV6 => {
            let (header, rest) = data.split_first_chunk::<40>().filter(|(header, _)| header[6] == UDP)?;
            let address = |at: usize| header[at..].first_chunk().map(|octets| Endpoint::v6(*octets, 0));
            (address(8)?, address(24)?, rest)
        }
        _ => return None,
    };
    let (header, payload) = datagram.split_first_chunk::<8>()?;
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    Some((Flow { src: src.with_port(port(0)), dst: dst.with_port(port(2)) }, payload))
}

fn version_of(packet: &[u8]) -> Option<u16> {
    match packet.first()? >> 4 {
        4 => Some(IPV4),
        6 => Some(IPV6),
        _ => None,
    }
}

/// IP protocol number of UDP.
const UDP: u8 = 17;
