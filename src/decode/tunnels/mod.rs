//! Detects tunnels that mirrors and access networks put around packets. Tunnels can be nested.
//!
//! Each parser returns the inner packet, or `None` if the bytes are not its tunnel. A UDP port alone does not prove a
//! tunnel. So all reserved header bits are checked, and the payload must look like a packet. Otherwise the datagram is
//! treated as plain UDP.

use super::counters::DecodeCounters;
use crate::capture::ethertype::{
    ARP, IPV4, IPV6, LLDP, MPLS, MPLS_UPSTREAM, NSH, PPPOE, PPPOE_DISCOVERY, VLAN, VLAN_SERVICE, tag_length,
};
use crate::net::{be16, be32};

mod l2tp;
mod switch;
mod unknown;

pub(super) use l2tp::over_ip as l2tp_over_ip;
pub(super) use switch::{backbone_bridge, fabric_path, service_header};

/// The packet inside a tunnel. The variant shows the type of its first header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TunnelPayload<'a> {
    Ethernet(&'a [u8]),
    /// The data after an Ethernet header with this EtherType.
    EtherType(u16, &'a [u8]),
    Ip(&'a [u8]),
}

/// The protocol of a tunnel. Packets in tunnels are counted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TunnelKind {
    Gre,
    Erspan1,
    Erspan2,
    Erspan3,
    Vxlan,
    Geneve,
    Tzsp,
    IpInIp,
    Pppoe,
    Mpls,
    GtpU,
    HpErm,
    L2tp,
    Teredo,
    MacInMac,
}

/// A recognised tunnel header, and the packet after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DetectedTunnel<'a> {
    pub(super) kind: TunnelKind,
    pub(super) payload: TunnelPayload<'a>,
}

impl<'a> DetectedTunnel<'a> {
    pub(super) const fn new(kind: TunnelKind, payload: TunnelPayload<'a>) -> Self {
        Self { kind, payload }
    }
}

impl TunnelKind {
    pub(super) fn counter(self, counters: &mut DecodeCounters) -> &mut u64 {
        let t = &mut counters.tunnels;
        match self {
            Self::Gre => &mut t.gre,
            Self::Erspan1 => &mut t.erspan1,
            Self::Erspan2 => &mut t.erspan2,
            Self::Erspan3 => &mut t.erspan3,
            Self::Vxlan => &mut t.vxlan,
            Self::Geneve => &mut t.geneve,
            Self::Tzsp => &mut t.tzsp,
            Self::IpInIp => &mut t.ip_in_ip,
            Self::Pppoe => &mut t.pppoe,
            Self::Mpls => &mut t.mpls,
            Self::GtpU => &mut t.gtp_u,
            Self::HpErm => &mut t.hp_erm,
            Self::L2tp => &mut t.l2tp,
            Self::Teredo => &mut t.teredo,
            Self::MacInMac => &mut t.mac_in_mac,
        }
    }
}

/// Parses GRE (RFC 2784, RFC 2890) and ERSPAN in GRE (draft-foschiano-erspan-03).
pub(super) fn gre(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let (flags, protocol) = (be16(data, 0)?, be16(data, 2)?);
    // Only GRE version 0 without source routing is accepted. Source routing (RFC 1701) is not used any more.
    if flags & (GRE_ROUTING | GRE_VERSION) != 0 {
        return None;
    }
    let options = [GRE_CHECKSUM, GRE_KEY, GRE_SEQUENCE].iter().filter(|bit| flags & **bit != 0).count();
    let payload = data.get(4 + 4 * options..)?;
    match protocol {
        ETHERNET_BRIDGED => Some(DetectedTunnel::new(TunnelKind::Gre, TunnelPayload::Ethernet(payload))),
        ERSPAN_1_2 if flags & GRE_SEQUENCE == 0 => {
            Some(DetectedTunnel::new(TunnelKind::Erspan1, TunnelPayload::Ethernet(payload)))
        }
        ERSPAN_1_2 => Some(DetectedTunnel::new(TunnelKind::Erspan2, TunnelPayload::Ethernet(payload.get(8..)?))),
        ERSPAN_3 => erspan3(payload),
        IPV4 | IPV6 => Some(DetectedTunnel::new(TunnelKind::Gre, TunnelPayload::Ip(payload))),
        VLAN | VLAN_SERVICE | MPLS | MPLS_UPSTREAM => {
            Some(DetectedTunnel::new(TunnelKind::Gre, TunnelPayload::EtherType(protocol, payload)))
        }
        _ => None,
    }
}

/// Parses an ERSPAN type III header: 12 bytes, or 20 bytes if its last bit is set. The frame type must be Ethernet (0)
/// or IP (2).
fn erspan3(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let word = be16(data, 10)?;
    let header = if word & 1 != 0 { 20 } else { 12 };
    let frame = data.get(header..)?;
    match word >> 10 & 0x1f {
        0 => Some(DetectedTunnel::new(TunnelKind::Erspan3, TunnelPayload::Ethernet(frame))),
        2 => Some(DetectedTunnel::new(TunnelKind::Erspan3, TunnelPayload::Ip(frame))),
        _ => None,
    }
}

/// Detects a tunnel over UDP by its destination port. Teredo and L2TP servers reply from their port, so the source port
/// counts, too. Teredo between two clients has no fixed port, so an IPv6 packet at any port is examined.
#[inline]
pub(super) fn over_udp(src_port: u16, port: u16, payload: &[u8]) -> Option<DetectedTunnel<'_>> {
    match port {
        4789 | 4790 | 8472 => vxlan(payload).or_else(|| vxlan_gpe(payload)),
        6081 => geneve(payload),
        37_008 => tzsp(payload),
        2152 => gtp_u(payload),
        7932 => switch::hp_erm(payload),
        L2TP_PORT => l2tp::over_udp(payload),
        TEREDO_PORT => teredo(payload),
        _ => match src_port {
            L2TP_PORT => l2tp::over_udp(payload),
            TEREDO_PORT => teredo(payload),
            _ if payload.first().is_some_and(|first| first >> 4 == 6) => teredo_between_clients(payload),
            _ => None,
        },
    }
}

/// Parses VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe section 3). Requires the flags I and P and version 0. Of the other
/// flags, only B (broadcast or multicast) may be set. The field Next Protocol says whether IP, Ethernet or NSH follows.
fn vxlan_gpe(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let (head, payload) = data.split_first_chunk::<8>()?;
    let inner = match head {
        [0x0c | 0x0e, 0, 0, 1 | 2, .., 0] if is_ip(payload) => TunnelPayload::Ip(payload),
        [0x0c | 0x0e, 0, 0, 3, .., 0] if is_ethernet(payload) => TunnelPayload::Ethernet(payload),
        [0x0c | 0x0e, 0, 0, 4, .., 0] => TunnelPayload::EtherType(NSH, payload),
        _ => return None,
    };
    Some(DetectedTunnel::new(TunnelKind::Vxlan, inner))
}

/// Parses Teredo (RFC 4380 section 5.1.1): optional authentication and origin headers, then an IPv6 packet.
fn teredo(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let mut rest = data;
    if let [0, 1, id, auth, after @ ..] = rest {
        // Teredo's authentication header consists of an identifier, an authentication value, a nonce of 8 bytes and a
        // confirmation byte.
        rest = after.get(usize::from(*id) + usize::from(*auth) + 9..)?;
    }
    if let [0, 0, _, _, _, _, _, _, after @ ..] = rest {
        rest = after;
    }
    let is_ipv6 = rest.first().is_some_and(|first| first >> 4 == 6) && is_ip(rest);
    is_ipv6.then_some(DetectedTunnel::new(TunnelKind::Teredo, TunnelPayload::Ip(rest)))
}

/// Parses a packet that a Teredo client sent to another client: an IPv6 packet with a Teredo address (RFC 4380 section
/// 2.6).
fn teredo_between_clients(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let has_prefix = |at: usize| data.get(at..).is_some_and(|address| address.starts_with(&TEREDO_PREFIX));
    if has_prefix(8) && has_prefix(24) { teredo(data) } else { None }
}

/// Parses VXLAN (RFC 7348 section 5): the I flag is set, and all other bits are reserved. A group policy adds the G
/// flag, two more flags and the group (draft-smith-vxlan-group-policy). Linux uses the same header on port 8472.
fn vxlan(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let (head, frame) = data.split_first_chunk::<8>()?;
    let is_header = match head {
        [0x08, 0, 0, 0, .., 0] => true,
        [0x88, flags, .., 0] => flags & !0x48 == 0,
        _ => false,
    };
    (is_header && is_ethernet(frame)).then_some(DetectedTunnel::new(TunnelKind::Vxlan, TunnelPayload::Ethernet(frame)))
}

/// Parses GENEVE, a tunnel of virtual networks (RFC 8926 section 3.4).
fn geneve(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let (head, _) = data.split_first_chunk::<8>()?;
    // GENEVE has version 0. Six bits after its flags "control" and "critical" are reserved and must be 0, and so must
    // the last byte.
    if head[0] >> 6 != 0 || head[1] & 0x3f != 0 || head[7] != 0 {
        return None;
    }
    let payload = data.get(8 + 4 * usize::from(head[0] & 0x3f)..)?;
    match be16(head, 2)? {
        ETHERNET_BRIDGED if is_ethernet(payload) => {
            Some(DetectedTunnel::new(TunnelKind::Geneve, TunnelPayload::Ethernet(payload)))
        }
        IPV4 | IPV6 if is_ip(payload) => Some(DetectedTunnel::new(TunnelKind::Geneve, TunnelPayload::Ip(payload))),
        _ => None,
    }
}

/// Parses the TaZmen Sniffer Protocol: version 1, type (0 received, 1 transmitted), protocol (1 is Ethernet), then
/// tags.
fn tzsp(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let [1, 0 | 1, 0, 1, tags @ ..] = data else { return None };
    let mut tags = tags;
    loop {
        tags = match tags {
            [TZSP_PADDING, rest @ ..] => rest,
            [TZSP_END, frame @ ..] => {
                return is_ethernet(frame)
                    .then_some(DetectedTunnel::new(TunnelKind::Tzsp, TunnelPayload::Ethernet(frame)));
            }
            [_, length, rest @ ..] => rest.get(usize::from(*length)..)?,
            _ => return None,
        };
    }
}

/// Parses GTP-U (3GPP TS 29.281 section 5): version 1, protocol GTP (not GTP'), message type G-PDU, a plausible length.
fn gtp_u(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let (head, rest) = data.split_first_chunk::<8>()?;
    let length = usize::from(be16(head, 2)?);
    if head[0] & 0xf8 != 0x30 || head[1] != 0xff || length < rest.len() {
        return None;
    }
    let mut payload = rest;
    if head[0] & 0x07 != 0 {
        let mut next = *rest.get(3)?;
        payload = rest.get(4..)?;
        // A GTP-U packet has extension headers only if their flag is set (section 5.2). Their lengths are in units of 4
        // bytes.
        if head[0] & 0x04 == 0 {
            next = 0;
        }
        while next != 0 {
            let size = 4 * usize::from(*payload.first()?);
            next = *payload.get(size.checked_sub(1)?)?;
            payload = payload.get(size..)?;
        }
    }
    is_ip(payload).then_some(DetectedTunnel::new(TunnelKind::GtpU, TunnelPayload::Ip(payload)))
}

/// Parses a PPPoE session packet (RFC 2516 section 4): version and type are 1, the code is 0, the PPP protocol is IP or
/// MPLS.
pub(super) fn pppoe(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let [0x11, 0, _, _, _, _, rest @ ..] = data else { return None };
    let inner = match rest {
        // PPP may omit the first byte of the protocol number if it is zero (RFC 1661 section 6.5), so both forms are
        // accepted.
        [0, 0x21 | 0x57, ip @ ..] | [0x21 | 0x57, ip @ ..] => TunnelPayload::Ip(ip),
        [0x02, 0x81, mpls @ ..] => TunnelPayload::EtherType(MPLS, mpls),
        _ => return None,
    };
    Some(DetectedTunnel::new(TunnelKind::Pppoe, inner))
}

/// Parses an MPLS label stack (RFC 3032). MPLS does not name its payload. If the first four bits of the payload are 4
/// or 6, the payload is IP (RFC 4928). Otherwise it is an Ethernet pseudowire with or without control word (RFC 4448).
pub(super) fn mpls(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let bottom = (0..MAX_LABELS).find(|i| be32(data, i * 4).is_none_or(|label| label & 0x100 != 0))?;
    let payload = data.get((bottom + 1) * 4..)?;
    let inner = match payload.first()? >> 4 {
        4 if is_ip(payload) && has_valid_checksum(payload) => TunnelPayload::Ip(payload),
        6 if is_ip(payload) && !is_ethernet(payload) => TunnelPayload::Ip(payload),
        0 if payload.get(4..).is_some_and(is_ethernet) => TunnelPayload::Ethernet(payload.get(4..)?),
        _ if is_ethernet(payload) => TunnelPayload::Ethernet(payload),
        4 if is_ip(payload) => TunnelPayload::Ip(payload),
        _ => return None,
    };
    Some(DetectedTunnel::new(TunnelKind::Mpls, inner))
}

/// Returns whether the bytes can be an Ethernet frame: the EtherType must be known, and after the EtherType of IP an IP
/// header must follow.
fn is_ethernet(data: &[u8]) -> bool {
    let (Some(mut kind), Some(mut rest)) = (be16(data, 12), data.get(14..)) else { return false };
    while let Some(length) = tag_length(kind, rest) {
        let (Some(next), Some(after)) = (be16(rest, length - 2), rest.get(length..)) else { return false };
        (kind, rest) = (next, after);
    }
    match kind {
        IPV4 | IPV6 => is_ip(rest),
        ARP | MPLS | MPLS_UPSTREAM | PPPOE | PPPOE_DISCOVERY | LLDP => true,
        // A length instead of an EtherType (802.3 with LLC) is accepted for spanning tree (42 42 03) and SNAP (aa aa
        // 03).
        length => length <= 1500 && matches!(rest, [0x42, 0x42, 3, ..] | [0xaa, 0xaa, 3, ..]),
    }
}

/// Returns whether the bytes can be the start of an IP packet.
fn is_ip(data: &[u8]) -> bool {
    match data {
        [first @ 0x45..=0x4f, _, hi, lo, ..] if data.len() >= 20 => {
            let total = u16::from_be_bytes([*hi, *lo]);
            total == 0 || total >= u16::from(first & 0x0f) * 4
        }
        [0x60..=0x6f, ..] => data.len() >= 40,
        _ => false,
    }
}

fn has_valid_checksum(ip: &[u8]) -> bool {
    let header = ip.get(..usize::from(ip.first().copied().unwrap_or(0) & 0x0f) * 4).unwrap_or_default();
    let sum: u32 = header.chunks_exact(2).map(|c| u32::from(u16::from_be_bytes([c[0], c[1]]))).sum();
    !header.is_empty() && (sum & 0xffff) + (sum >> 16) == 0xffff
}

const GRE_CHECKSUM: u16 = 0x8000;
const GRE_ROUTING: u16 = 0x4000;
const GRE_KEY: u16 = 0x2000;
const GRE_SEQUENCE: u16 = 0x1000;
const GRE_VERSION: u16 = 0x0007;
const ETHERNET_BRIDGED: u16 = 0x6558;
const ERSPAN_1_2: u16 = 0x88be;
const ERSPAN_3: u16 = 0x22eb;
const TZSP_PADDING: u8 = 0;
const TZSP_END: u8 = 1;
const L2TP_PORT: u16 = 1701;
const TEREDO_PORT: u16 = 3544;
/// The first 32 bits of each Teredo address (RFC 4380 section 2.6).
const TEREDO_PREFIX: [u8; 4] = [0x20, 0x01, 0, 0];
/// Maximum number of labels in an MPLS label stack that is accepted. Routers use up to about five.
const MAX_LABELS: usize = 16;

#[cfg(test)]
mod tests;
