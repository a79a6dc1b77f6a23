//! Index of media addresses: finds the legs that receive media at an address, and says how reliable an address is.
//!
//! The index has four kinds of addresses, which are searched in this order:
//!
//! - Addresses that a session description announces.
//! - *Presumed* addresses: the host that sends a party's SIP, with the port that the party announced. They find the
//!   media of a PBX that announces the public address of its NAT, and of a party that announces a host name.
//! - *Unplaced* addresses: the addresses of a PBX behind a NAT with a separate media host, which no message names.
//!   Packets of such a PBX are found by the other party's SIP host and the port that the PBX announced.
//! - *Heard* addresses: no message names them, and a stream of a leg has used them. They find the rest of the stream if
//!   the other party moves its media and the mirror misses the message about it.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::call::keys::LegKey;
use crate::call::record::Side;
use crate::call::streams::RtpStream;
use crate::net::Endpoint;

/// A side of a leg that receives media at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MediaReceiver {
    /// Key of the leg in the call table.
    pub(crate) slot: LegKey,
    /// Side that receives media at the address.
    pub(crate) side: Side,
}

/// Index of a stream among the streams of its leg. A leg has at most some thousand streams, so 32 bits are enough. A
/// small index keeps the map of all flows small, which is searched for each media packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamIndex(u32);

impl From<usize> for StreamIndex {
    /// Converts the position of a stream to an index. A position that is too large becomes an index that no stream has.
    fn from(position: usize) -> Self {
        Self(u32::try_from(position).unwrap_or(u32::MAX))
    }
}

impl From<StreamIndex> for usize {
    fn from(index: StreamIndex) -> Self {
        index.0 as Self
    }
}

/// The leg and the stream to which the packets of a flow (source, destination) belong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowRoute {
    /// Key of the leg in the call table.
    pub(crate) slot: LegKey,
    /// Side of the leg that sends the packets of the flow.
    pub(crate) sender: Side,
    /// Index of the stream that had the newest packet of the flow, among the streams of the leg.
    pub(crate) stream: StreamIndex,
}

/// Index of the media addresses of all live legs. The receivers at an address are sorted by the time of their
/// announcement, newest last. Both sides of a leg may announce the same address, e.g. a multicast group.
#[derive(Debug, Default)]
pub(crate) struct MediaIndex {
    announced: ReceiverMap,
    presumed: ReceiverMap,
    /// Sides of legs behind a NAT with an unknown media host. The key is the other party's SIP host, with the port that
    /// the side announced.
    unplaced: ReceiverMap,
    heard: ReceiverMap,
}

/// For each media address, the sides of legs that receive media there.
#[derive(Debug, Default)]
pub(crate) struct ReceiverMap {
    by_endpoint: HashMap<Endpoint, Vec<MediaReceiver>, foldhash::fast::RandomState>,
}

impl MediaIndex {
    /// Returns the map from each announced media address to the sides of legs that receive media there.
    pub(crate) const fn announced(&self) -> &ReceiverMap {
        &self.announced
    }

    /// Returns the changeable map from each announced media address to the sides of legs that receive media there.
    pub(crate) const fn announced_mut(&mut self) -> &mut ReceiverMap {
        &mut self.announced
    }

    /// Returns the map from each presumed media address to the sides of legs that receive media there. A presumed
    /// address is the SIP host of a side, with the port that the side announced.
    pub(crate) const fn presumed(&self) -> &ReceiverMap {
        &self.presumed
    }

    /// Returns the changeable map from each presumed media address (SIP host with the announced port) to the sides of
    /// legs.
    pub(crate) const fn presumed_mut(&mut self) -> &mut ReceiverMap {
        &mut self.presumed
    }

    /// Returns the legs in the index, once for each address and side.
    pub(crate) fn legs(&self) -> impl Iterator<Item = LegKey> {
        let maps = [&self.announced, &self.presumed, &self.unplaced, &self.heard].into_iter();
        maps.flat_map(|map| map.by_endpoint.values().flatten()).map(|receiver| receiver.slot)
    }

    /// Returns the map of the sides of legs that are behind a NAT and have an unknown media host. The key is the other
    /// party's SIP host, with the port that the side announced.
    pub(crate) const fn unplaced(&self) -> &ReceiverMap {
        &self.unplaced
    }

    /// Returns the changeable map of the sides of legs that are behind a NAT and have an unknown media host. Its key is
    /// the other party's SIP host, with the port that the side announced.
    pub(crate) const fn unplaced_mut(&mut self) -> &mut ReceiverMap {
        &mut self.unplaced
    }

    /// Returns the map from each *heard* address to the sides of legs. Streams have used these addresses, although no
    /// SDP announced them.
    pub(crate) const fn heard(&self) -> &ReceiverMap {
        &self.heard
    }

    /// Returns the changeable map from each *heard* address to the sides of legs. Streams have used these addresses,
    /// although no SDP announced them.
    pub(crate) const fn heard_mut(&mut self) -> &mut ReceiverMap {
        &mut self.heard
    }

    /// Returns the number of different addresses. An address may be of several kinds, e.g. announced by one leg and
    /// *heard* on another. It is counted once for each kind.
    pub(crate) fn len(&self) -> usize {
        [&self.announced, &self.presumed, &self.unplaced, &self.heard].iter().map(|map| map.by_endpoint.len()).sum()
    }
}

impl ReceiverMap {
    /// Records that a side of a leg receives media at an address.
    ///
    /// If too many sides receive media at this address, removes the side that was added first. Its call is probably
    /// over, although no end was captured.
    pub(crate) fn add(&mut self, endpoint: Endpoint, receiver: MediaReceiver) {
        let receivers = self.by_endpoint.entry(endpoint).or_default();
        receivers.retain(|r| *r != receiver);
        if receivers.len() >= MAX_RECEIVERS {
            receivers.remove(0);
        }
        receivers.push(receiver);
    }

    /// Removes a leg from the receivers of media at an address.
    pub(crate) fn remove(&mut self, endpoint: Endpoint, slot: LegKey) {
        if let Some(receivers) = self.by_endpoint.get_mut(&endpoint) {
            receivers.retain(|r| r.slot != slot);
            if receivers.is_empty() {
                self.by_endpoint.remove(&endpoint);
            }
        }
    }

    /// Returns all legs that receive media at an address, newest announcement last.
    pub(crate) fn at(&self, endpoint: Endpoint) -> &[MediaReceiver] {
        self.by_endpoint.get(&endpoint).map_or(&[], Vec::as_slice)
    }
}

/// How reliably a media address identifies the party that announced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressTrust {
    /// RTP from or to the address was captured on this leg, so the address is right.
    Confirmed,
    /// No RTP was captured at the address yet. Nothing shows that the address is wrong.
    Plausible,
    /// The address does not identify a party for one of three reasons. It is private and behind a NAT, it is multicast,
    /// or the party's RTP uses another host.
    Unconfirmed,
}

impl AddressTrust {
    /// Returns how reliable an address is that `side` announced. `signaller` is the endpoint that sends the side's SIP,
    /// and `streams` are the streams of the leg.
    pub(crate) fn of(announced: Endpoint, side: Side, signaller: Endpoint, streams: &[RtpStream]) -> Self {
        if announced.ip().is_multicast() {
            return Self::Unconfirmed;
        }
        let ends = || streams.iter().map(|stream| stream.end_of(side));
        if ends().any(|end| end.endpoint == announced) {
            return Self::Confirmed;
        }
        let is_elsewhere = ends().any(|end| !end.was_announced && !end.endpoint.same_host(announced));
        let is_reachable = announced.same_host(signaller) || !is_private(announced.ip()) || is_private(signaller.ip());
        if is_elsewhere || !is_reachable { Self::Unconfirmed } else { Self::Plausible }
    }
}

/// Returns whether an address may exist in several networks at once (RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291).
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            // Carriers use the addresses 100.64.0.0/10 for their NATs (RFC 6598). So they exist in several networks,
            // too.
            v4.is_private() || v4.is_link_local() || v4.is_loopback() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

/// Returns the IPv4 endpoint that is part of an address with the NAT64 prefix 64:ff9b::/96 (RFC 6052).
pub(crate) fn behind_nat64(endpoint: Endpoint) -> Option<Endpoint> {
    let IpAddr::V6(v6) = endpoint.ip() else { return None };
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = v6.segments() else { return None };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(Endpoint::v4([a, b, c, d], endpoint.port()))
}

/// Maximum number of receivers at one address. Even a long chain of proxies needs fewer.
const MAX_RECEIVERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Flow, Ssrc};

    fn endpoint(text: &str) -> Endpoint {
        text.parse().expect("an endpoint")
    }

    fn trust(announced: &str, signaller: &str, heard_at: &[&str]) -> AddressTrust {
        let pbx = endpoint("203.0.113.1:10000");
        let stream = |at: &&str| RtpStream::new(Flow { src: endpoint(at), dst: pbx }, Ssrc(1), Side::Caller);
        let streams: Vec<RtpStream> = heard_at.iter().map(stream).collect();
        AddressTrust::of(endpoint(announced), Side::Caller, endpoint(signaller), &streams)
    }

    #[test]
    fn private_address_of_a_party_with_public_signalling_identifies_nobody() {
        assert_eq!(trust("192.168.1.2:5004", "192.0.2.50:5060", &[]), AddressTrust::Unconfirmed);
        assert_eq!(trust("192.168.1.2:5004", "10.1.0.1:5060", &[]), AddressTrust::Plausible);
        assert_eq!(trust("192.0.2.51:5004", "10.1.0.1:5060", &[]), AddressTrust::Plausible);
        assert_eq!(trust("239.0.0.5:5004", "10.1.0.1:5060", &[]), AddressTrust::Unconfirmed);
        assert_eq!(trust("[fe80::21]:5004", "[2001:db8::1]:5060", &[]), AddressTrust::Unconfirmed);
    }

    #[test]
    fn media_confirms_an_address_or_takes_its_trust_away() {
        assert_eq!(trust("192.168.1.2:5004", "192.0.2.50:5060", &["192.168.1.2:5004"]), AddressTrust::Confirmed);
        assert_eq!(trust("10.1.0.21:5004", "10.1.0.21:5060", &["10.9.0.1:5004"]), AddressTrust::Unconfirmed);
        // The media comes from the announced host, but from another port (asymmetric RTP). So it does not show that the
        // announced address is wrong.
        assert_eq!(trust("10.1.0.21:5004", "10.1.0.21:5060", &["10.1.0.21:5006"]), AddressTrust::Plausible);
    }

    #[test]
    fn an_address_of_the_nat64_prefix_contains_an_ipv4_address() {
        assert_eq!(behind_nat64(endpoint("[64:ff9b::c000:232]:4000")), Some(endpoint("192.0.2.50:4000")));
        assert_eq!(behind_nat64(endpoint("[2001:db8::1]:4000")), None);
        assert_eq!(behind_nat64(endpoint("192.0.2.50:4000")), None);
    }
}
