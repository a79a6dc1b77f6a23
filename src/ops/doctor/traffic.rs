//! Counts the datagrams of a mirror port, whether or not they belong to a call: directions, repeated and missing
//! packets, key agreements.
//!
//! RTP is recognised without SDP: at least [`MIN_STREAM`] packets with one SSRC and consecutive sequence numbers form a
//! stream (RFC 3550 appendix A.1). DNS and random bytes do not pass this test. All tables are bounded. If a table is
//! full, further packets are only counted.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::decode::{DecodedItem, TcpStreamEvent, UdpDatagram};
use crate::net::{Endpoint, SequenceNumber, Ssrc};
use crate::time::{RtpTime, Timestamp};
use crate::{rtp, sip};

/// Counts datagrams, and follows RTP streams and pairs of hosts to find missing packets and missing directions.
#[derive(Debug, Default)]
pub(crate) struct TrafficMonitor {
    plain: DatagramCounts,
    streams: HashMap<(Endpoint, Endpoint, Ssrc), RtpFlow, foldhash::fast::RandomState>,
    signalling: HashMap<(Endpoint, Endpoint), [u64; 2], foldhash::fast::RandomState>,
    /// Number of DTLS packets for each pair of endpoints. The endpoints of a pair are in sorted order.
    handshakes: HashMap<(Endpoint, Endpoint), u64, foldhash::fast::RandomState>,
    last_at: Option<Timestamp>,
    /// Start and length of the newest period of at least [`SILENCE`] without any datagram; `None` if there was no such
    /// period.
    silence: Option<(Timestamp, Duration)>,
    step_ahead: Option<Duration>,
}

/// The counts that a [`TrafficMonitor`] has made so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrafficSummary {
    /// Counts for which each datagram is examined by itself.
    pub(crate) plain: DatagramCounts,
    /// Number of RTP packets in recognised streams. A packet that was delivered twice counts once.
    pub(crate) rtp_packets: u64,
    /// Number of RTP streams that were recognised.
    pub(crate) rtp_streams: u64,
    /// Number of RTP packets that the mirror port delivered more than once.
    pub(crate) rtp_copies: u64,
    /// Number of RTP packets missing in recognised streams, by their sequence numbers.
    pub(crate) rtp_lost: u64,
    /// Time by which the capturing machine's clock was set ahead; `None` if it was not. A jump of the clock looks like
    /// a period without packets after which RTP streams continue without a gap. The longest of these periods counts.
    pub(crate) step_ahead: Option<Duration>,
    /// Number of packets that agree on keys for SRTP: ZRTP, and DTLS between endpoints that also exchange RTP (RFC 5764
    /// section 5.1.2). Other DTLS, e.g. of a VPN, is not counted.
    pub(crate) key_agreement: u64,
    /// Pairs of hosts that exchange SIP, counted by the directions that were captured.
    pub(crate) sip_ways: HostPairs,
    /// Pairs of hosts that exchange RTP, counted by the directions that were captured.
    pub(crate) rtp_ways: HostPairs,
}

/// Counts for which each datagram is examined by itself, without memory of earlier datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DatagramCounts {
    /// Number of all datagrams.
    pub(crate) datagrams: u64,
    /// Number of datagrams that the capture truncated, so that payload is missing.
    pub(crate) cut: u64,
    /// Number of SIP messages in datagrams, plus the number of chunks of SIP over TCP or WebSocket.
    pub(crate) sip: u64,
    /// Number of SIP messages in truncated datagrams.
    pub(crate) sip_cut: u64,
    /// Number of datagrams with several RTP packets, which a network card or the kernel has merged.
    pub(crate) rtp_joined: u64,
    /// Number of RTCP packets.
    pub(crate) rtcp: u64,
    /// Number of ZRTP packets: key agreement for SRTP (RFC 6189).
    pub(crate) zrtp: u64,
    /// Number of packets that were not followed, because the table of RTP streams or of pairs of hosts was full.
    pub(crate) not_followed: u64,
}

/// Counts of pairs of hosts by the directions that were captured between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostPairs {
    /// Number of pairs of hosts with enough packets to decide whether a direction is missing.
    pub(crate) pairs: u64,
    /// Number of pairs of hosts, among those counted in `pairs`, with captured traffic in one direction only.
    pub(crate) one_way: u64,
    /// The busiest pair of hosts with captured traffic in one direction only: sender and receiver.
    pub(crate) example: Option<(IpAddr, IpAddr)>,
}

/// Counters for the RTP packets with one SSRC from one endpoint to another.
#[derive(Clone, Copy, Debug)]
struct RtpFlow {
    newest: SequenceNumber,
    newest_at: Timestamp,
    newest_time: RtpTime,
    /// The newest 64 sequence numbers: bit n is set if the packet with the sequence number `newest - n` was captured.
    window: u64,
    packets: u64,
    expected: u64,
    copies: u64,
    /// Number of jumps of the sequence number that are larger than [`MAX_DROPOUT`]. A stream with many jumps is not
    /// RTP.
    jumps: u64,
}

impl TrafficMonitor {
    /// Counts a datagram, or a piece of a TCP stream, that the decoder delivered.
    pub(crate) fn handle_decoded(&mut self, decoded: &DecodedItem<'_>) {
        match decoded {
            DecodedItem::Datagram(datagram) => self.handle_datagram(datagram),
            // The decoder delivers only TCP streams that carry SIP, so each piece of a stream counts as SIP.
            DecodedItem::Stream(chunk) if matches!(chunk.event, TcpStreamEvent::Data(_)) => {
                self.plain.sip += 1;
                self.note_signalling(chunk.src, chunk.dst);
            }
            DecodedItem::Stream(_) => {}
        }
    }

    /// Returns the counts of datagrams and RTP streams so far.
    pub(crate) fn seen(&self) -> TrafficSummary {
        let mut seen = TrafficSummary {
            plain: self.plain,
            step_ahead: self.step_ahead,
            sip_ways: ways(self.signalling.iter().map(|(k, n)| (*k, *n)), MIN_SIP),
            ..TrafficSummary::default()
        };
        let mut media = HashMap::<_, [u64; 2]>::new();
        let mut with_rtp = HashSet::new();
        for ((src, dst, _), stream) in self.streams.iter().filter(|(_, s)| s.is_rtp()) {
            seen.rtp_streams += 1;
            seen.rtp_packets += stream.packets;
            seen.rtp_copies += stream.copies;
            seen.rtp_lost += stream.expected.saturating_sub(stream.packets);
            with_rtp.insert(sorted(*src, *dst));
            if has_many_receivers(*dst) {
                continue;
            }
            let (pair, way) = pair(*src, *dst);
            media.entry(pair).or_default()[way] += stream.packets;
        }
        seen.rtp_ways = ways(media.into_iter(), MIN_RTP);
        let dtls = self.handshakes.iter().filter(|(pair, _)| with_rtp.contains(*pair)).map(|(_, n)| n);
        seen.key_agreement = self.plain.zrtp + dtls.sum::<u64>();
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
            rtp::MediaPacketKind::Dtls => self.note_handshake(datagram),
            rtp::MediaPacketKind::Zrtp => self.plain.zrtp += 1,
            rtp::MediaPacketKind::Other if sip::looks_like_sip(datagram.payload) => {
                self.plain.sip += 1;
                self.plain.sip_cut += u64::from(cut);
                self.note_signalling(datagram.src, datagram.dst);
            }
            _ => {}
        }
    }

    /// Returns whether a packet is RTP although it looks like RTCP. RTP with the marker bit and a payload type of 64 to
    /// 95 looks like RTCP (RFC 5761 section 4).
    fn is_marked_rtp(&self, datagram: &UdpDatagram<'_>) -> bool {
        let Ok(packet) = rtp::RtpPacket::parse_cut(datagram.payload) else { return false };
        self.streams.get(&(datagram.src, datagram.dst, packet.ssrc)).is_some_and(|stream| {
            stream.is_rtp() && packet.sequence.distance_from(stream.newest).unsigned_abs() < MAX_DROPOUT.unsigned_abs()
        })
    }

    fn note_handshake(&mut self, datagram: &UdpDatagram<'_>) {
        let pair = sorted(datagram.src, datagram.dst);
        if self.handshakes.len() < MAX_PAIRS || self.handshakes.contains_key(&pair) {
            *self.handshakes.entry(pair).or_default() += 1;
        } else {
            self.plain.not_followed += 1;
        }
    }

    fn note_signalling(&mut self, src: Endpoint, dst: Endpoint) {
        if has_many_receivers(dst) {
            return;
        }
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
    /// Returns whether all pairs of hosts have traffic in one direction only; false if there are no pairs.
    pub(crate) const fn all_one_way(&self) -> bool {
        self.pairs > 0 && self.one_way == self.pairs
    }
}

impl RtpFlow {
    const fn new(sequence: SequenceNumber, newest_at: Timestamp, newest_time: RtpTime) -> Self {
        Self { newest: sequence, newest_at, newest_time, window: 1, packets: 1, expected: 1, copies: 0, jumps: 0 }
    }

    /// Returns true if the first packet after a silence continues the stream without a gap in sequence number and
    /// timestamp. After a hold, the result is false, because the timestamp has advanced by the length of the hold.
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
                    // A late packet may be older than the first captured packet. Then it is not among the expected
                    // packets yet, so their number grows.
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

fn sorted(src: Endpoint, dst: Endpoint) -> (Endpoint, Endpoint) {
    (src.min(dst), src.max(dst))
}

/// Returns whether an address is multicast or broadcast. Nobody sends from such an address, so traffic in one direction
/// only is no fault.
fn has_many_receivers(dst: Endpoint) -> bool {
    dst.ip().is_multicast() || dst.ip() == IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
}

/// Returns the two endpoints in a fixed order, and the direction of the packet: 1 if the endpoints were swapped, else
/// 0. The ports are set to 0, unless both endpoints are on the same host.
fn pair(src: Endpoint, dst: Endpoint) -> ((Endpoint, Endpoint), usize) {
    let (src, dst) = if src.same_host(dst) { (src, dst) } else { (src.with_port(0), dst.with_port(0)) };
    if src <= dst { ((src, dst), 0) } else { ((dst, src), 1) }
}

/// Counts the pairs of hosts that have at least `least` packets, and finds the busiest pair with traffic in one
/// direction only. Of equally busy pairs, it is the pair with the highest address of the sender, then of the receiver.
/// So the order of `pairs` does not matter.
fn ways(pairs: impl Iterator<Item = ((Endpoint, Endpoint), [u64; 2])>, least: u64) -> HostPairs {
    let mut ways = HostPairs::default();
    let mut busiest = None;
    for ((a, b), [there, back]) in pairs.filter(|(_, n)| n[0] + n[1] >= least) {
        ways.pairs += 1;
        let (from, to) = match (there, back) {
            (_, 0) => (a, b),
            (0, _) => (b, a),
            _ => continue,
        };
        ways.one_way += 1;
        busiest = busiest.max(Some((there + back, from, to)));
    }
    ways.example = busiest.map(|(_, from, to)| (from.ip(), to.ip()));
    ways
}

/// Minimum number of RTP packets between two hosts before a missing direction is reported: one second at 20 ms a
/// packet. Fewer packets may be the start or end of a call.
const MIN_RTP: u64 = 50;
/// Minimum number of SIP messages between two hosts before a missing direction is reported: INVITE, ACK and BYE of the
/// shortest complete call.
const MIN_SIP: u64 = 3;
/// Number of packets with consecutive sequence numbers that form a stream. DNS packets can look like RTP, but their
/// numbers are not consecutive.
const MIN_STREAM: u64 = 10;
/// Maximum jump of the sequence number that counts as lost packets: ten seconds at 20 ms a packet. A larger jump means
/// that the sender restarted. RFC 3550 appendix A.1 accepts a minute, but a mirror port that loses so much has other
/// findings.
const MAX_DROPOUT: i16 = 500;
/// Minimum time without any datagram that may be a jump of the clock. Normally a mirror port shows packets at least
/// once a minute during a call.
const SILENCE: Duration = Duration::from_secs(60);
/// Maximum jump of the sequence number over a silence with which the stream counts as continued: 50 packets of 20 ms
/// are one second.
const GOES_ON: u16 = 50;
/// Maximum jump of the RTP timestamp over a silence with which the stream counts as continued, in units of the RTP
/// clock. It is 2 s at 48 kHz and 12 s at 8 kHz, far below [`SILENCE`].
const GOES_ON_TIME: u32 = 96_000;
/// Maximum number of RTP streams that are followed. Each stream takes 80 bytes. The number suffices for ten thousand
/// calls with several streams.
const MAX_STREAMS: usize = 65_536;
/// Maximum number of pairs of hosts with signalling, and of pairs of endpoints with DTLS. The registrar of a large
/// provider exchanges SIP with so many hosts.
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
        // The sequence numbers from 65534 over the wrap to 3 are six numbers. Number 0 is missing, and 65535 comes
        // twice.
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

    fn datagram<'a>(src: &str, dst: &str, payload: &'a [u8]) -> DecodedItem<'a> {
        let endpoint = |text: &str| text.parse::<Endpoint>().expect("an address");
        DecodedItem::Datagram(UdpDatagram {
            at: Timestamp::EPOCH,
            src: endpoint(src),
            dst: endpoint(dst),
            payload,
            wire_len: payload.len() as u32,
            interface: 0,
        })
    }

    #[test]
    fn dtls_agrees_on_keys_only_between_endpoints_with_rtp() {
        let hello = [&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4][..], &[1, 0, 0, 0]].concat();
        let mut monitor = TrafficMonitor::default();
        for _ in 0..9 {
            monitor.handle_decoded(&datagram("10.0.0.1:40000", "192.0.2.1:443", &hello)); // a VPN
            monitor.handle_decoded(&datagram("10.0.0.1:20000", "10.0.0.2:20000", &hello));
        }
        assert_eq!(monitor.seen().key_agreement, 0);
        for sequence in 0..40 {
            let rtp = [0x80, 8, 0, sequence, 0, 0, 0, 0, 0, 0, 0, 7, 0xd5];
            monitor.handle_decoded(&datagram("10.0.0.2:20000", "10.0.0.1:20000", &rtp));
        }
        assert_eq!(monitor.seen().key_agreement, 9);
    }

    #[test]
    fn multicast_has_no_opposite_direction() {
        let mut monitor = TrafficMonitor::default();
        let subscribe = b"SUBSCRIBE sip:MAC@224.0.1.75 SIP/2.0\r\n\r\n";
        (0..9).for_each(|_| monitor.handle_decoded(&datagram("10.0.0.1:5060", "224.0.1.75:5060", subscribe)));
        assert_eq!((monitor.seen().plain.sip, monitor.seen().sip_ways), (9, HostPairs::default()));
    }

    /// Returns the examples for SIP and for RTP if each pair of hosts sends as many packets as the others, in one
    /// direction only.
    fn examples(pairs: &[[&str; 2]]) -> [Option<(IpAddr, IpAddr)>; 2] {
        let options = b"OPTIONS sip:200@example.com SIP/2.0\r\n\r\n";
        let mut monitor = TrafficMonitor::default();
        for [from, to] in pairs {
            for sequence in 0..60 {
                let rtp = [0x80, 8, 0, sequence, 0, 0, 0, 0, 0, 0, 0, 7, 0xd5];
                for payload in [&options[..], &rtp] {
                    monitor.handle_decoded(&datagram(&format!("{from}:5060"), &format!("{to}:5060"), payload));
                }
            }
        }
        let seen = monitor.seen();
        [seen.sip_ways.example, seen.rtp_ways.example]
    }

    #[test]
    fn equally_busy_pairs_of_hosts_always_give_the_same_example() {
        let mut pairs = [["10.0.0.2", "10.0.0.9"], ["10.0.0.1", "10.0.0.9"], ["10.0.0.2", "10.0.0.8"]];
        let [from, to] = pairs[0].map(|ip| ip.parse().expect("an address"));
        // Each hash table has an order of its own, so one round could give the right example by chance.
        for _ in 0..50 {
            pairs.rotate_left(1);
            assert_eq!(examples(&pairs), [Some((from, to)); 2]);
        }
    }
}
