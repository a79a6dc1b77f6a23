//! Distinguishes RTP with the marker bit and a payload type of 64 to 95 from RTCP on the same port (RFC 5761 section
//! 4).
//!
//! Both have the same second byte. A packet counts as RTP only if the call uses its payload type, and if its length
//! fields or its sequence number fit RTP.

use crate::call::engine::Engine;
use crate::call::media_index::FlowRoute;
use crate::call::negotiation::StreamSecurity;
use crate::decode::UdpDatagram;
use crate::rtp::{RtcpForm, RtpPacket};

impl Engine {
    /// Returns whether a packet that can be RTCP is RTP of the leg to which its flow leads.
    pub(super) fn is_marked_rtp(&self, route: FlowRoute, datagram: &UdpDatagram<'_>, packet: &RtpPacket<'_>) -> bool {
        let Some(leg) = self.table.leg(route.slot) else { return false };
        let flow = (datagram.src, datagram.dst);
        let stream = leg.media.streams().iter().rev().find(|stream| stream.is_stream(flow, packet.ssrc));
        let is_used = leg.dialog.negotiation.payload_format(route.sender, flow, packet.pt).is_some()
            || stream.is_some_and(|stream| stream.has_used(packet.pt));
        if !is_used {
            return false;
        }
        // In the place of the SSRC, RTCP has the source of a report or a time. So a match with a stream of the same
        // sender is no accident.
        stream.is_some_and(|stream| stream.is_near(packet.sequence))
            || match RtcpForm::of(datagram.payload, datagram.wire_len) {
                RtcpForm::Compound => false,
                RtcpForm::MaybeEncrypted => leg.dialog.negotiation.security(route.sender) == StreamSecurity::Plain,
                RtcpForm::No => true,
            }
    }
}
