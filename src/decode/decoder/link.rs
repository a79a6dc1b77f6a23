//! Decodes link-layer headers: Ethernet, Linux cooked capture, BSD loopback, VLAN tags.

use super::{FrameDecoder, PacketContext};
use crate::capture::LinkPayload;
use crate::capture::ethertype::{
    FABRIC_PATH, IPV4, IPV6, MACSEC, MPLS, MPLS_UPSTREAM, NSH, PBB, PPPOE, TRILL, is_vlan,
};
use crate::decode::DecodedSink;
use crate::decode::counters::UndoneWrapper;
use crate::decode::tunnels;
use crate::net::be32;

impl FrameDecoder {
    /// Decodes the payload of a frame. `None` means that the frame is shorter than its link-layer header.
    #[inline]
    pub(super) fn link(
        &mut self,
        context: PacketContext,
        payload: Option<LinkPayload<'_>>,
        sink: &mut DecodedSink<'_>,
    ) {
        match payload {
            Some(LinkPayload { ethertype, data }) => self.ethertype(context, ethertype, data, sink),
            None => self.counters.dropped.short += 1,
        }
    }

    /// Decodes a BSD loopback header: an address family in either byte order. The family of IPv6 differs between
    /// systems, so the version field of the IP header decides.
    pub(super) fn loopback(&mut self, context: PacketContext, data: &[u8], sink: &mut DecodedSink<'_>) {
        match (be32(data, 0), data.get(4..)) {
            (Some(family), Some(rest)) if family.min(family.swap_bytes()) <= MAX_ADDRESS_FAMILY => {
                self.ip(context, rest, sink);
            }
            (Some(_), _) => self.counters.dropped.unknown_ethertype += 1,
            _ => self.counters.dropped.short += 1,
        }
    }

    /// Decodes the data after a link header: tags of any kind in any order, then IP or a tunnel.
    pub(super) fn ethertype(
        &mut self,
        context: PacketContext,
        ethertype: u16,
        data: &[u8],
        sink: &mut DecodedSink<'_>,
    ) {
        let mut payload = LinkPayload { ethertype, data };
        let (mut tags, mut vlans) = (0, 0);
        while let Some(length) = payload.tag_length() {
            let Some(inner) = payload.after_tag(length) else {
                self.counters.dropped.short += 1;
                return;
            };
            vlans += usize::from(is_vlan(payload.ethertype));
            self.counters.tunnels.switch_tags += u64::from(!is_vlan(payload.ethertype));
            (payload, tags) = (inner, tags + 1);
            if tags > MAX_VLAN_TAGS {
                self.counters.dropped.too_deep += 1;
                return;
            }
        }
        self.counters.vlan_depth[vlans.min(3)] += 1;
        let LinkPayload { ethertype: kind, data } = payload;
        let found = match kind {
            IPV4 | IPV6 => return self.ip(context, data, sink),
            PPPOE => tunnels::pppoe(data),
            MPLS | MPLS_UPSTREAM => tunnels::mpls(data),
            FABRIC_PATH => tunnels::fabric_path(data),
            PBB => tunnels::backbone_bridge(data),
            NSH => tunnels::service_header(data),
            // If the value of the EtherType field is at most 1500, it is an 802.3 length. LLC and SNAP with the
            // EtherType follow (RFC 1042).
            0..=1500 => match data {
                [0xaa, 0xaa, 3, 0, 0, 0, hi, lo, rest @ ..] if [*hi, *lo] == IPV4.to_be_bytes() => {
                    return self.ip(context, rest, sink);
                }
                _ => None,
            },
            _ => None,
        };
        match (found, kind) {
            (Some(found), _) => self.enter_tunnel(context, found, sink),
            (None, MACSEC) => self.counters.dropped.macsec += 1,
            (None, PPPOE | MPLS | MPLS_UPSTREAM | FABRIC_PATH | PBB | NSH | TRILL) => {
                self.counters.wrapped.note(UndoneWrapper::EtherType(kind), data);
                self.counters.dropped.unknown_tunnel += 1;
            }
            (None, _) => {
                self.counters.wrapped.note(UndoneWrapper::EtherType(kind), data);
                self.counters.dropped.unknown_ethertype += 1;
            }
        }
    }
}

/// Maximum number of VLAN tags in a frame. Two are usual; mirrors of carriers have up to four.
const MAX_VLAN_TAGS: usize = 8;
/// Largest address family that any operating system writes into a loopback header.
const MAX_ADDRESS_FAMILY: u32 = 0xff;
