//! Distinguishes RTP from RTCP on the same port (RFC 5761 section 4).
//!
//! RTP with the marker bit and a payload type of 64 to 95 has the same second byte as RTCP. Such a packet counts as RTP
//! only if the call uses its payload type. Its length or its sequence number must also be typical of RTP.

use crate::call::engine::Engine;
use crate::call::media_index::FlowRoute;
use crate::decode::UdpDatagram;
use crate::rtp::{RtcpForm, RtpPacket};

impl Engine {
    /// Returns whether a packet that could be RTCP is an RTP packet of the leg at `route`.
    pub(super) fn is_marked_rtp(&self, route: FlowRoute, datagram: &UdpDatagram<'_>, packet: &RtpPacket<'_>) -> bool {
        let Some(leg) = self.table.leg(route.slot) else { return false };
        let flow = datagram.flow();
        let stream = leg.media.streams().iter().rev().find(|stream| stream.is_stream(flow, packet.ssrc));
        let is_used = leg.dialog.negotiation.payload_format(route.sender, flow, packet.pt).is_some()
            || stream.is_some_and(|stream| stream.has_used(packet.pt));
        if !is_used {
            return false;
        }
        // RTCP has other values at the position of the SSRC. So if a known stream has this SSRC, the packet is RTP.
        stream.is_some_and(|stream| stream.is_near(packet.sequence))
            || match RtcpForm::of(datagram.payload, datagram.wire_len) {
                RtcpForm::Compound => false,
                RtcpForm::MaybeEncrypted => leg.dialog.negotiation.security(route.sender).is_plain(),
                RtcpForm::No => true,
            }
    }
}
