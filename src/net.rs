//! Network addresses in one canonical form, the transports of SIP, types for the numbers in RTP packets, and numbers in
//! network byte order.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An IP address and a port. IPv4 is stored as IPv4-mapped IPv6. So `::ffff:192.0.2.2` in an SDP and `192.0.2.2` in an
/// RTP packet are equal (RFC 5118 section 4.9).
///
/// The fields are as small as possible, to keep the map of all flows small. This map is searched for each media packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The IPv6 address as two numbers: its first and its last 8 bytes.
    addr: [u64; 2],
    port: u16,
}

impl Hash for Endpoint {
    // Each packet hashes two endpoints. Without the attribute, a change in any other module can turn this into a call.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [high, low] = self.addr;
        state.write_u64(high);
        state.write_u64(low);
        state.write_u16(self.port);
    }
}

impl Endpoint {
    /// Returns the endpoint of an address and a port.
    pub(crate) fn new(ip: IpAddr, port: u16) -> Self {
        let octets = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        Self::v6(octets, port)
    }

    /// Returns an IPv4 endpoint from the address bytes of an IP header.
    pub fn v4(octets: [u8; 4], port: u16) -> Self {
        Self { addr: [0, 0xffff_0000_0000 | u64::from(u32::from_be_bytes(octets))], port }
    }

    /// Returns an IPv6 endpoint from the address bytes of an IP header.
    pub(crate) fn v6(octets: [u8; 16], port: u16) -> Self {
        let addr = u128::from_be_bytes(octets);
        Self { addr: [(addr >> 64) as u64, addr as u64], port }
    }

    /// Returns the four bytes of an IPv4 address; `None` for IPv6.
    pub(crate) const fn ipv4_octets(self) -> Option<[u8; 4]> {
        match self.addr {
            [0, low] if low >> 32 == 0xffff => Some((low as u32).to_be_bytes()),
            _ => None,
        }
    }

    /// Returns the 16 bytes of the address. An IPv4 address is IPv4-mapped (RFC 4291 section 2.5.5.2).
    pub(crate) fn ipv6_octets(self) -> [u8; 16] {
        let [high, low] = self.addr;
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }

    /// Returns the IP address. An IPv4-mapped address is returned as IPv4.
    pub fn ip(self) -> IpAddr {
        let [high, low] = self.addr;
        let v6 = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    }

    /// Returns the UDP or TCP port.
    pub const fn port(self) -> u16 {
        self.port
    }

    /// Returns the same address with another port.
    pub const fn with_port(self, port: u16) -> Self {
        Self { addr: self.addr, port }
    }

    /// Returns whether both endpoints have the same IP address; their ports may differ.
    pub(crate) const fn same_host(self, other: Self) -> bool {
        self.addr[0] == other.addr[0] && self.addr[1] == other.addr[1]
    }

    /// Returns whether the address is 0.0.0.0 or `::`. As a media address it means that the call is on hold (RFC 2543).
    pub(crate) fn is_unspecified(self) -> bool {
        match self.ip() {
            IpAddr::V4(v4) => v4 == Ipv4Addr::UNSPECIFIED,
            IpAddr::V6(v6) => v6 == Ipv6Addr::UNSPECIFIED,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.ip(), self.port).fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Endpoint {
    type Err = std::net::AddrParseError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse::<SocketAddr>().map(|a| Self::new(a.ip(), a.port()))
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Source and destination of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Endpoint that sends the packets.
    pub src: Endpoint,
    /// Endpoint to which the packets are sent.
    pub dst: Endpoint,
}

impl Flow {
    /// Returns the flow of the opposite direction.
    #[must_use]
    pub(crate) const fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src }
    }
}

/// Transport of SIP messages between two hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// UDP: one message per datagram.
    #[default]
    Udp,
    /// TCP: a byte stream. The header Content-Length shows where a message ends.
    Tcp,
    /// SIP over WebSocket, as browsers send it (RFC 7118).
    Ws,
}

/// A synchronization source identifier: names the sender of one RTP stream (RFC 3550 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ssrc(pub u32);

impl fmt::Display for Ssrc {
    /// Writes eight hexadecimal digits with `0x`, the form of Wireshark and of the call record.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// An RTP payload type, 0 to 127: selects the encoding of a packet (RFC 3550 section 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PayloadType(pub u8);

impl fmt::Display for PayloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An RTP sequence number: grows by one with each packet and wraps at 2^16 (RFC 3550 section 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SequenceNumber(pub u16);

impl SequenceNumber {
    /// Returns the sequence number of the packet that follows `count` packets later.
    #[must_use]
    pub(crate) const fn wrapping_add(self, count: u16) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// Returns the number of packets from `earlier` forward to this sequence number, 0 to 65535.
    pub(crate) const fn wrapping_sub(self, earlier: Self) -> u16 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Returns the distance from `other`, -32768 to 32767: the shorter way round, forward or back.
    pub(crate) const fn distance_from(self, other: Self) -> i16 {
        self.wrapping_sub(other).cast_signed()
    }
}

/// Protocol number of UDP in the headers of IPv4 and IPv6.
pub(crate) const UDP_PROTOCOL: u8 = 17;

/// Returns the 16-bit number at `at` in network byte order (big-endian); `None` if the data ends before it.
pub(crate) fn be16(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// Returns the 32-bit number at `at` in network byte order (big-endian); `None` if the data ends before it.
pub(crate) fn be32(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_equals_its_ipv4_address() {
        let mapped: Endpoint = "[::ffff:192.0.2.2]:5004".parse().unwrap();
        assert_eq!(mapped, Endpoint::v4([192, 0, 2, 2], 5004));
        assert_eq!(mapped.to_string(), "192.0.2.2:5004");
    }
}
