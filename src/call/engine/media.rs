//! Handling of media: routes each RTP packet to its leg.

use crate::call::engine::Engine;
use crate::call::engine::packets::read_packet;
use crate::call::event::LegSink;
use crate::call::media_index::FlowRoute;
use crate::decode::UdpDatagram;
use crate::net::{Flow, Ssrc};
use crate::rtp::{RtcpForm, RtpPacket};

impl Engine {
    /// Handles an RTP packet: passes it to its leg, or stores it if its leg is not known yet.
    pub(super) fn handle_rtp(&mut self, datagram: &UdpDatagram<'_>, sink: &mut dyn LegSink) {
        let Ok(packet) = read_packet(datagram) else {
            self.counters.rtp_broken += 1;
            return;
        };
        self.handle_rtp_packet(datagram, &packet, sink);
    }

    fn handle_rtp_packet(&mut self, datagram: &UdpDatagram<'_>, packet: &RtpPacket<'_>, sink: &mut dyn LegSink) {
        let flow = datagram.flow();
        let known = self.table.route(flow);
        let is_known = known.is_some();
        let route = match known {
            Some(route) => route,
            None => match self.resolve_route(flow, packet.ssrc) {
                Some(route) => self.cache_route(flow, route),
                None => match self.resolve_resumed(flow, datagram, packet.ssrc, sink) {
                    Some(route) => self.cache_route(flow, route),
                    None => {
                        self.counters.rtp_unclaimed += 1;
                        self.kept.early_media.handle_packet(datagram);
                        self.counters.rtp_not_kept = self.kept.early_media.dropped();
                        return;
                    }
                },
            },
        };
        // A leg has a maximum number of routes. So a flow without a route is not new for sure, and its packets must not
        // search the stored packets each time.
        let is_new = !is_known && self.table.route(flow).is_some();
        self.deliver_packet(route, datagram, packet, sink);
        if is_new {
            // The other side may have sent its first packets to the source of this flow, which nobody announced.
            self.deliver_early_media(&[flow.src], sink);
        }
    }

    /// Continues a dialog that ended by a media timeout, if the packet belongs to it. Returns the route of the packet;
    /// `None` if the packet belongs to no such dialog.
    fn resolve_resumed(
        &mut self,
        flow: Flow,
        datagram: &UdpDatagram<'_>,
        ssrc: Ssrc,
        sink: &mut dyn LegSink,
    ) -> Option<FlowRoute> {
        self.resume_by_media(datagram, sink).then(|| self.resolve_route(flow, ssrc))?
    }

    /// Handles a packet with a second byte of 192 to 223: RTCP, or RTP with the marker bit.
    pub(super) fn handle_rtcp_or_marked_rtp(&mut self, datagram: &UdpDatagram<'_>, sink: &mut dyn LegSink) {
        let Ok(packet) = read_packet(datagram) else {
            self.counters.other += 1;
            return;
        };
        let flow = datagram.flow();
        match self.table.route(flow).or_else(|| self.resolve_route(flow, packet.ssrc)) {
            Some(route) if self.is_marked_rtp(route, datagram, &packet) => {
                self.handle_rtp_packet(datagram, &packet, sink);
            }
            None if RtcpForm::of(datagram.payload, datagram.wire_len) == RtcpForm::No => {
                // The packet is stored: a session description that is captured later may show that the packet is RTP.
                self.kept.early_media.handle_packet(datagram);
                self.counters.rtp_not_kept = self.kept.early_media.dropped();
                self.counters.other += 1;
            }
            _ => self.counters.other += 1,
        }
    }

    /// Handles a ZRTP message. After a Confirm message both ends have keys (RFC 6189 section 3.1). Later packets are
    /// encrypted (SRTP), with the same SSRCs and payload types.
    pub(super) fn handle_zrtp(&mut self, datagram: &UdpDatagram<'_>) {
        let confirms = datagram.payload.get(16..24).is_some_and(|kind| ZRTP_CONFIRMS.contains(&kind));
        let flow = datagram.flow();
        let route = self.table.route(flow).or_else(|| self.resolve_route(flow, Ssrc::default()));
        if confirms && let Some(leg) = route.and_then(|r| self.table.leg_mut(r.slot)) {
            leg.dialog.negotiation.note_zrtp();
        }
    }
}

/// Types of the ZRTP messages after which media is encrypted (RFC 6189 sections 5.7 and 5.8).
const ZRTP_CONFIRMS: [&[u8]; 3] = [b"Confirm1", b"Confirm2", b"Conf2ACK"];
