//! Frames inside frames, as switches send them: HP and Aruba remote mirrors, FabricPath, provider backbone bridges,
//! NSH.

use super::{DetectedTunnel, TunnelKind, TunnelPayload, is_ethernet, is_ip};
use crate::capture::ethertype::MPLS;

/// Parses remote mirroring of HP and Aruba switches (UDP port 7932). A header of 12 bytes, which has no public
/// specification, precedes the frame.
pub(super) fn hp_erm(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let frame = data.get(HP_ERM_HEADER..).filter(|frame| is_ethernet(frame))?;
    Some(DetectedTunnel::new(TunnelKind::HpErm, TunnelPayload::Ethernet(frame)))
}

/// Parses Cisco FabricPath. The outer addresses and the EtherType are already parsed; 2 bytes for tree and TTL follow,
/// then the frame.
pub(in super::super) fn fabric_path(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    frame_in_frame(data.get(2..)?)
}

/// Parses provider backbone bridging (IEEE 802.1ah section 9.7): flags and service id (4 bytes), then the frame.
pub(in super::super) fn backbone_bridge(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    frame_in_frame(data.get(4..)?)
}

/// Parses a network service header (RFC 8300 section 2.2): version 0, length in units of 4 bytes, next protocol.
pub(in super::super) fn service_header(data: &[u8]) -> Option<DetectedTunnel<'_>> {
    let [first, second, _, next, ..] = data else { return None };
    let length = 4 * usize::from(second & 0x3f);
    let payload = data.get(length..).filter(|_| first >> 6 == 0 && length >= 8)?;
    let inner = match next {
        1 | 2 if is_ip(payload) => TunnelPayload::Ip(payload),
        3 if is_ethernet(payload) => TunnelPayload::Ethernet(payload),
        5 => TunnelPayload::EtherType(MPLS, payload),
        _ => return None,
    };
    Some(DetectedTunnel::new(TunnelKind::MacInMac, inner))
}

fn frame_in_frame(frame: &[u8]) -> Option<DetectedTunnel<'_>> {
    is_ethernet(frame).then_some(DetectedTunnel::new(TunnelKind::MacInMac, TunnelPayload::Ethernet(frame)))
}

/// Length of the header of an HP remote mirror, bytes. The frame follows it.
const HP_ERM_HEADER: usize = 12;
