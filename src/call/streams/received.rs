//! The packets of a stream: their sequence numbers and their times (RFC 3550 section 5.1).

use super::RtpStream;
use crate::call::engine::levels::StreamLevel;
use crate::call::negotiation::Negotiation;
use crate::net::SequenceNumber;
use crate::rtp::RtpPacket;
use crate::rtp::stats::{PacketArrival, StreamStats};
use crate::time::Timestamp;

/// Sequence numbers and times of the packets of a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct ReceivedPackets {
    pub(super) stats: StreamStats,
    pub(super) spacing: PacketSpacing,
    /// Capture time of the leg's newest packet before a restart; `None` without a restart. The packets before it were
    /// not all read back, so the stream may have had packets until this time.
    pub(super) before_restart: Option<Timestamp>,
    /// Newest level (loudness) of the voice, while the live page of the console is open; `None` otherwise.
    pub(super) level: Option<StreamLevel>,
    /// Number of packets that the capture truncated.
    pub(super) cut: u64,
    /// Length of the newest payload that is no event, bytes.
    pub(super) voice_bytes: u32,
}

/// The usual difference between the RTP timestamps of consecutive packets. It is found by majority vote (Boyer-Moore).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PacketSpacing {
    pub(super) last: Option<(SequenceNumber, u32)>,
    candidate: u32,
    votes: u32,
}

/// Result of handling a packet of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketOutcome {
    /// The packet is a copy of an earlier packet, and must not be stored.
    Duplicate,
    /// The packet is no copy of an earlier packet and must be stored.
    Packet {
        /// Whether the payload contains a DTMF digit and must not be stored.
        secret: bool,
        /// Whether [`RtpStream::take_update`] may return changes, because the payload type or the negotiation has
        /// changed.
        news: bool,
    },
}

impl RtpStream {
    /// Handles a packet. Allocates memory only if the payload type is new or the negotiation has changed.
    pub(crate) fn handle_packet(
        &mut self,
        at: Timestamp,
        packet: &RtpPacket<'_>,
        negotiation: &Negotiation,
    ) -> PacketOutcome {
        let clock_hz = self.clock_hz();
        if self.formats.current().is_some_and(|payload| payload.generation != negotiation.generation()) {
            self.accept_detour(negotiation);
        }
        let arrival = self.received.stats.handle(at, packet.sequence, packet.time, clock_hz);
        if arrival == PacketArrival::Duplicate {
            return PacketOutcome::Duplicate;
        }
        let mut news = self.note_payload(packet.pt, at, negotiation);
        if self.is_no_event(packet, negotiation) {
            self.formats.doubt.own_numbers = true;
            news |= self.look_up_payload(packet.pt, at, negotiation);
        }
        if let Some(judge) = self.formats.doubt.judges.iter_mut().find(|judge| judge.pt() == packet.pt)
            && judge.handle_packet(packet)
        {
            news |= self.look_up_payload(packet.pt, at, negotiation);
        }
        self.formats.doubt.mistaken +=
            u64::from(self.formats.doubt.own_numbers || self.judged_format(packet.pt).is_some());
        let Some(payload) = self.formats.current_mut() else {
            return PacketOutcome::Packet { secret: false, news: false };
        };
        let mistaken = payload.count_packet();
        let secret = payload.secret || payload.contains_event(packet.payload);
        self.formats.doubt.mistaken += mistaken;
        if !secret {
            self.received.spacing.handle_packet(packet.sequence, packet.time.0);
            self.received.voice_bytes = packet.payload.len() as u32;
        }
        PacketOutcome::Packet { secret, news }
    }

    /// Counts a packet that the capture truncated.
    pub(crate) const fn count_cut(&mut self) {
        self.received.cut += 1;
    }

    /// Returns the number of packets that the capture truncated.
    pub(crate) const fn cut_packets(&self) -> u64 {
        self.received.cut
    }

    /// Returns the capture time of the first packet; `None` before the first packet.
    pub(crate) fn first_at(&self) -> Option<Timestamp> {
        self.received.stats.first_at()
    }

    /// Returns the capture time of the newest packet; `None` before the first.
    pub(crate) fn last_at(&self) -> Option<Timestamp> {
        self.received.stats.last_at()
    }

    /// Returns whether a sequence number is less than MAX_DROPOUT (RFC 3550 appendix A.1) away from the newest sequence
    /// number of the stream. Returns false if the stream has no packet yet.
    pub(crate) fn is_near(&self, sequence: SequenceNumber) -> bool {
        self.received.stats.is_near(sequence)
    }

    /// Returns whether this packet, or a copy of it, was handled before.
    pub(crate) fn has_packet(&self, packet: &RtpPacket<'_>) -> bool {
        self.received.stats.has_seen(packet.sequence, packet.time)
    }
}

impl PacketSpacing {
    fn handle_packet(&mut self, sequence: SequenceNumber, time: u32) {
        if let Some((last_sequence, last_time)) = self.last
            && sequence == last_sequence.wrapping_add(1)
        {
            let units = time.wrapping_sub(last_time);
            if units == self.candidate {
                self.votes = self.votes.saturating_add(1);
            } else if self.votes == 0 {
                (self.candidate, self.votes) = (units, 1);
            } else {
                self.votes -= 1;
            }
        }
        self.last = Some((sequence, time));
    }

    pub(super) fn majority(&self) -> Option<u32> {
        (self.votes > 0 && self.candidate > 0 && self.candidate < MAX_SPACING).then_some(self.candidate)
    }
}

/// Limit for the usual difference between the timestamps of consecutive packets, in units of the RTP clock: 4 s at 48
/// kHz. No packet contains so much sound.
const MAX_SPACING: u32 = 192_000;
