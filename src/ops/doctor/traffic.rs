//! Counts the datagrams of a mirror port without regard to calls: directions of signalling and media, copies, gaps, key
//! agreements.
//!
//! RTP is recognised without SDP: enough packets with one SSRC and consecutive sequence numbers form a stream (RFC 3550
//! appendix A.1). DNS and random bytes do not pass this test. All tables are bounded, and packets beyond a bound are
//! counted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::decode::{DecodedItem, TcpStreamEvent, UdpDatagram};
use crate::net::{Endpoint, SequenceNumber, Ssrc};
use crate::time::{RtpTime, Timestamp};
use crate::{rtp, sip};

/// Counts datagrams, and remembers RTP streams and pairs of hosts to find gaps and missing directions.
#[derive(Debug, Default)]
pub(crate) struct TrafficMonitor {
    plain: DatagramCounts,
    streams: HashMap<(Endpoint, Endpoint, Ssrc), RtpFlow, foldhash::fast::RandomState>,
    signalling: HashMap<(Endpoint, Endpoint), [u64; 2], foldhash::fast::RandomState>,
    last_at: Option<Timestamp>,
    /// Start and length of the newest silence, i.e. a period of at least [`SILENCE`] without any datagram. `None` if
    /// there was none.
    silence: Option<(Timestamp, Duration)>,
    step_ahead: Option<Duration>,
}

/// The counts that a [`TrafficMonitor`] has made so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrafficSummary {
    /// Counts that need only single datagrams.
    pub(crate) plain: DatagramCounts,
    /// Number of RTP packets in recognised streams. A packet delivered twice counts once.
    pub(crate) rtp_packets: u64,
    /// Number of RTP streams that were recognised.
    pub(crate) rtp_streams: u64,
    /// Number of RTP packets that the mirror port delivered again.
    pub(crate) rtp_copies: u64,
    /// Number of RTP packets missing in recognised streams, by their sequence numbers.
    pub(crate) rtp_lost: u64,
    /// Longest period without packets across which RTP sequence numbers and timestamps did not advance. The clock of
    /// the capturing machine was set forward by this time.
    pub(crate) step_ahead: Option<Duration>,
    /// Pairs of hosts that exchange signalling, and the directions that were captured.
    pub(crate) sip_ways: HostPairs,
    /// Pairs of hosts that exchange media, and the directions that were captured.
    pub(crate) rtp_ways: HostPairs,
}

/// Counts that need only one datagram at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DatagramCounts {
    /// Number of all datagrams.
    pub(crate) datagrams: u64,
    /// Number of datagrams that the capture truncated, so that payload is missing.
    pub(crate) cut: u64,
    /// Number of SIP messages in datagrams, and of chunks of SIP over TCP or WebSocket.
    pub(crate) sip: u64,
    /// Number of SIP messages in truncated datagrams.
    pub(crate) sip_cut: u64,
    /// Number of datagrams with several RTP packets, which a network card or the kernel has merged.
    pub(crate) rtp_joined: u64,
    /// Number of RTCP packets.
    pub(crate) rtcp: u64,
    /// Number of DTLS packets: key agreement for SRTP (RFC 5764).
    pub(crate) dtls: u64,
    /// Number of ZRTP packets: key agreement for SRTP (RFC 6189).
    pub(crate) zrtp: u64,
    /// Number of packets that were not counted, because a table of RTP streams or pairs of hosts was full.
    pub(crate) not_followed: u64,
}

/// Counts of pairs of hosts by the directions that were captured between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostPairs {
    /// Number of pairs with enough traffic to judge their directions.
    pub(crate) pairs: u64,
    /// Number of these pairs with traffic in one direction only.
    pub(crate) one_way: u64,
    /// The busiest pair with traffic in one direction only: sender and receiver.
    pub(crate) example: Option<(IpAddr, IpAddr)>,
}

/// Counters for the RTP packets with one SSRC from one endpoint to another.
#[derive(Clone, Copy, Debug)]
struct RtpFlow {
    newest: SequenceNumber,
    newest_at: Timestamp,
    newest_time: RtpTime,
    /// Newest 64 sequence numbers: bit n is set if the packet n numbers before the newest packet was captured.
    window: u64,
    packets: u64,
    expected: u64,
    copies: u64,
    /// Number of jumps of the sequence number that are too large for loss. With many jumps, the stream is not RTP.
    jumps: u64,
}

impl TrafficMonitor {
    /// Counts one datagram or stream piece that the decoder delivered.
    pub(crate) fn handle_decoded(&mut self, decoded: &DecodedItem<'_>) {
        match decoded {
            DecodedItem::Datagram(datagram) => self.handle_datagram(datagram),
            // The decoder delivers only TCP streams that carry SIP.
            DecodedItem::Stream(chunk) if matches!(chunk.event, TcpStreamEvent::Data(_)) => {
                self.plain.sip += 1;
                self.note_signalling(chunk.src, chunk.dst);
            }
            DecodedItem::Stream(_) => {}
        }
    }

    /// Returns the counts so far.
    pub(crate) fn seen(&self) -> TrafficSummary {
        let mut seen = TrafficSummary {
            plain: self.plain,
            step_ahead: self.step_ahead,
            sip_ways: ways(self.signalling.iter().map(|(k, n)| (*k, *n)), MIN_SIP),
            ..TrafficSummary::default()
        };
        let mut media = HashMap::<_, [u64; 2]>::new();
        for ((src, dst, _), stream) in self.streams.iter().filter(|(_, s)| s.is_rtp()) {
            seen.rtp_streams += 1;
            seen.rtp_packets += stream.packets;
            seen.rtp_copies += stream.copies;
            seen.rtp_lost += stream.expected.saturating_sub(stream.packets);
            // Traffic to a multicast or broadcast address has no opposite direction.
            if dst.ip().is_multicast() || dst.ip() == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
                continue;
            }
            let (pair, way) = pair(*src, *dst);
            media.entry(pair).or_default()[way] += stream.packets;
        }
        seen.rtp_ways = ways(media.into_iter(), MIN_RTP);
        seen
    }

    fn handle_datagram(&mut self, datagram: &UdpDatagram<'_>) {
        self.plain.datagrams += 1;
        self.note_silence(datagram.at);
        let cut = (datagram.payload.len() as u64) < u64::from(datagram.wire_len);
        self.plain.cut += u64::from(cut);
        match rtp::classify(datagram.payload) {
            rtp::MediaPacketKind::Rtp => {
                let mut packets = 0;
                for packet in rtp::split_merged(datagram.payload) {
                    self.note_rtp(datagram, packet);
                    packets += 1;
                }
                self.plain.rtp_joined += u64::from(packets > 1);
            }
            rtp::MediaPacketKind::Rtcp if self.is_marked_rtp(datagram) => self.note_rtp(datagram, datagram.payload),
            rtp::MediaPacketKind::Rtcp => self.plain.rtcp += 1,
            rtp::MediaPacketKind::Dtls => self.plain.dtls += 1,
            rtp::MediaPacketKind::Zrtp => self.plain.zrtp += 1,
            rtp::MediaPacketKind::Other if sip::looks_like_sip(datagram.payload) => {
                self.plain.sip += 1;
                self.plain.sip_cut += u64::from(cut);
                self.note_signalling(datagram.src, datagram.dst);
            }
            _ => {}
        }
    }

    /// Returns whether a packet is RTP with the marker bit and a payload type of 64 to 95 (RFC 5761 section 4).
    fn is_marked_rtp(&self, datagram: &UdpDatagram<'_>) -> bool {
        let Ok(packet) = rtp::RtpPacket::parse_cut(datagram.payload) else { return false };
        self.streams.get(&(datagram.src, datagram.dst, packet.ssrc)).is_some_and(|stream| {
            stream.is_rtp() && packet.sequence.distance_from(stream.newest).unsigned_abs() < MAX_DROPOUT.unsigned_abs()
        })
    }

    fn note_signalling(&mut self, src: Endpoint, dst: Endpoint) {
        let (pair, way) = pair(src, dst);
        if self.signalling.len() >= MAX_PAIRS && !self.signalling.contains_key(&pair) {
            self.plain.not_followed += 1;
            return;
        }
        self.signalling.entry(pair).or_default()[way] += 1;
    }

    fn note_rtp(&mut self, datagram: &UdpDatagram<'_>, payload: &[u8]) {
        let Ok(packet) = rtp::RtpPacket::parse_cut(payload) else { return };
        let key = (datagram.src, datagram.dst, packet.ssrc);
        if let Some(stream) = self.streams.get_mut(&key) {
            if let Some((_, length)) = self.silence.filter(|(began, _)| stream.newest_at <= *began)
                && stream.goes_on_with(&packet)
            {
                self.step_ahead = self.step_ahead.max(Some(length));
            }
            (stream.newest_at, stream.newest_time) = (datagram.at, packet.time);
            return stream.handle(packet.sequence);
        }
        if self.streams.len() >= MAX_STREAMS {
            self.plain.not_followed += 1;
            return;
        }
        self.streams.insert(key, RtpFlow::new(packet.sequence, datagram.at, packet.time));
    }

    fn note_silence(&mut self, at: Timestamp) {
        if let Some(last) = self.last_at
            && at.since(last) >= SILENCE
        {
            self.silence = Some((last, at.since(last)));
        }
        self.last_at = self.last_at.max(Some(at));
    }
}

impl HostPairs {
    /// Returns whether there are pairs of hosts, but none with traffic in both directions.
    pub(crate) const fn all_one_way(&self) -> bool {
        self.pairs > 0 && self.one_way == self.pairs
    }
}

impl RtpFlow {
    const fn new(sequence: SequenceNumber, newest_at: Timestamp, newest_time: RtpTime) -> Self {
        Self { newest: sequence, newest_at, newest_time, window: 1, packets: 1, expected: 1, copies: 0, jumps: 0 }
    }

    /// Returns whether the packet after a silence continues the stream without a gap in sequence number and timestamp.
    /// If the silence were a hold, the timestamp would have advanced.
    fn goes_on_with(&self, packet: &rtp::RtpPacket<'_>) -> bool {
        let ahead = packet.sequence.wrapping_sub(self.newest);
        let time_ahead = packet.time.0.wrapping_sub(self.newest_time.0);
        self.is_rtp() && (1..=GOES_ON).contains(&ahead) && time_ahead < GOES_ON_TIME
    }

    fn handle(&mut self, sequence: SequenceNumber) {
        let ahead = sequence.wrapping_sub(self.newest).cast_signed();
        match ahead {
            1..=MAX_DROPOUT => {
                self.window = self.window.checked_shl(u32::from(ahead.unsigned_abs())).unwrap_or(0) | 1;
                self.newest = sequence;
                self.packets += 1;
                self.expected += u64::from(ahead.unsigned_abs());
            }
            -63..=0 => {
                let bit = 1_u64 << ahead.unsigned_abs();
                if self.window & bit == 0 {
                    // Packets sent before the first captured packet are not expected. They are added when they arrive.
                    self.expected = self.expected.max(self.packets + 1);
                    self.packets += 1;
                } else {
                    self.copies += 1;
                }
                self.window |= bit;
            }
            _ => {
                self.jumps += 1;
                self.packets += 1;
                self.expected += 1;
                (self.newest, self.window) = (sequence, 1);
            }
        }
    }

    const fn is_rtp(&self) -> bool {
        self.packets >= MIN_STREAM && self.jumps * 8 < self.packets
    }
}

/// Returns the two endpoints in a fixed order, and the direction as an index: 1 if they were swapped, else 0. Ports are
/// ignored unless both endpoints are on the same host.
fn pair(src: Endpoint, dst: Endpoint) -> ((Endpoint, Endpoint), usize) {
    let (src, dst) = if src.same_host(dst) { (src, dst) } else { (src.with_port(0), dst.with_port(0)) };
    if src <= dst { ((src, dst), 0) } else { ((dst, src), 1) }
}

/// Counts the pairs with at least `least` packets, and finds the busiest pair with traffic in one direction only.
fn ways(pairs: impl Iterator<Item = ((Endpoint, Endpoint), [u64; 2])>, least: u64) -> HostPairs {
    let mut ways = HostPairs::default();
    let mut busiest = 0;
    for ((a, b), [there, back]) in pairs.filter(|(_, n)| n[0] + n[1] >= least) {
        ways.pairs += 1;
        let (from, to) = match (there, back) {
            (_, 0) => (a, b),
            (0, _) => (b, a),
            _ => continue,
        };
        ways.one_way += 1;
        // If counts are equal, the address decides, so that the same capture always names the same pair.
        let rank = (there + back, from);
        if ways.example.is_none() || rank > (busiest, from) {
            busiest = there + back;
            ways.example = Some((from.ip(), to.ip()));
        }
    }
    ways
}

/// Minimum number of RTP packets for judging the directions of a pair of hosts: one second at 20 ms a packet. Fewer can
/// be the start or end of a call.
const MIN_RTP: u64 = 50;
/// Minimum number of SIP messages for judging the directions of a pair of hosts: INVITE, ACK and BYE of the shortest
/// complete call.
const MIN_SIP: u64 = 3;
/// Number of consecutive packets that form a stream. DNS packets, which can look like RTP, have no consecutive numbers.
const MIN_STREAM: u64 = 10;
/// Maximum jump of the sequence number that counts as loss, packets: ten seconds at 20 ms a packet. A larger jump means
/// that the sender restarted. RFC 3550 appendix A.1 accepts a minute, but other findings report a mirror that loses so
/// much.
const MAX_DROPOUT: i16 = 500;
/// Minimum length of a silence that is examined. A mirror port with a call in progress shows packets at least once a
/// minute.
const SILENCE: Duration = Duration::from_secs(60);
/// Maximum gap of sequence numbers with which a stream continues after a silence, packets: one second at 20 ms a
/// packet.
const GOES_ON: u16 = 50;
/// Maximum gap of RTP timestamps with which a stream continues after a silence, in units of the RTP clock: 2 s at 48
/// kHz and 12 s at 8 kHz, both far below a minute.
const GOES_ON_TIME: u32 = 96_000;
/// Maximum number of streams that are followed, with 80 bytes for each: ten thousand calls with several SSRCs each.
const MAX_STREAMS: usize = 65_536;
/// Maximum number of pairs of hosts with signalling; a registrar of a large provider has that many.
const MAX_PAIRS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(sequences: &[u16]) -> RtpFlow {
        let mut stream = RtpFlow::new(SequenceNumber(sequences[0]), Timestamp::EPOCH, RtpTime(0));
        for s in &sequences[1..] {
            stream.handle(SequenceNumber(*s));
        }
        stream
    }

    #[test]
    fn copies_gaps_and_sequence_wrap_are_distinguished() {
        // Sequence numbers 65534 to 3 are six numbers across the wrap. Number 0 is missing and 65535 comes twice.
        let s = stream(&[65_534, 65_535, 65_535, 1, 2, 3]);
        assert_eq!((s.packets, s.expected, s.copies, s.jumps), (5, 6, 1, 0));
    }

    #[test]
    fn late_packet_fills_its_gap() {
        let s = stream(&[10, 12, 11, 13]);
        assert_eq!((s.packets, s.expected, s.copies), (4, 4, 0));
        let s = stream(&[10, 9, 11]);
        assert_eq!((s.packets, s.expected), (3, 3));
    }

    #[test]
    fn random_sequence_numbers_are_no_stream() {
        let noise: Vec<u16> = (0..40_u16).map(|n| n.wrapping_mul(40_503)).collect();
        assert!(!stream(&noise).is_rtp());
        let sound: Vec<u16> = (0..40).collect();
        assert!(stream(&sound).is_rtp());
        assert!(!stream(&sound[..9]).is_rtp());
    }
}
