//! What the datagrams of a mirror show, calls or no calls: which way signalling and media go, copies, gaps, keys.
//!
//! RTP is told by its behaviour here, not by a description: a stream is one when enough packets of one SSRC come in
//! sequence (RFC 3550 appendix A.1), so that DNS and noise are none. Tables are bounded; what did not fit is counted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::decode::{DecodedItem, TcpStreamEvent, UdpDatagram};
use crate::net::Endpoint;
use crate::time::{RtpTime, Timestamp};
use crate::{rtp, sip};

/// Watches datagrams and streams.
#[derive(Debug, Default)]
pub struct TrafficMonitor {
    plain: DatagramCounts,
    streams: HashMap<(Endpoint, Endpoint, u32), RtpFlow>,
    signalling: HashMap<(Endpoint, Endpoint), [u64; 2]>,
    last_at: Option<Timestamp>,
    /// The last silence of the whole mirror of a minute or more: when it began and how long it was.
    silence: Option<(Timestamp, Duration)>,
    step_ahead: Option<Duration>,
}

/// What was seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficSummary {
    /// What needs no table.
    pub plain: DatagramCounts,
    /// Distinct packets of streams that are RTP.
    pub rtp_packets: u64,
    /// Streams that are RTP.
    pub rtp_streams: u64,
    /// Copies of RTP packets.
    pub rtp_copies: u64,
    /// Sequence numbers that never came.
    pub rtp_lost: u64,
    /// The longest silence of all that was seen over which RTP went on as if there had been none: the clock was set
    /// ahead by so much.
    pub step_ahead: Option<Duration>,
    /// Which way the signalling between two hosts goes.
    pub sip_ways: HostPairs,
    /// Which way the media between two hosts goes.
    pub rtp_ways: HostPairs,
}

/// ReportCounts of single datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramCounts {
    /// All of them.
    pub datagrams: u64,
    /// Of these, with less payload than was on the wire.
    pub cut: u64,
    /// SIP messages in datagrams, and pieces of SIP over TCP or WebSocket.
    pub sip: u64,
    /// Of these, in a cut datagram.
    pub sip_cut: u64,
    /// Datagrams with several RTP packets in them.
    pub rtp_joined: u64,
    /// RTCP.
    pub rtcp: u64,
    /// DTLS: key agreement in the media path (RFC 5764).
    pub dtls: u64,
    /// ZRTP (RFC 6189).
    pub zrtp: u64,
    /// Packets of RTP streams and pairs of hosts that the tables had no room for.
    pub not_followed: u64,
}

/// Pairs of hosts, by the ways that were seen between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostPairs {
    /// Pairs with enough traffic to tell.
    pub pairs: u64,
    /// Of these, heard one way only.
    pub one_way: u64,
    /// One of them: from, to.
    pub example: Option<(IpAddr, IpAddr)>,
}

/// One SSRC on one flow.
#[derive(Clone, Copy, Debug)]
struct RtpFlow {
    newest: u16,
    newest_at: Timestamp,
    newest_time: RtpTime,
    /// Bit n: the packet n before the newest was seen.
    window: u64,
    packets: u64,
    expected: u64,
    copies: u64,
    /// Jumps that no loss explains: many of them, and it is no RTP.
    jumps: u64,
}

impl TrafficMonitor {
    /// Takes in what decoding gave.
    pub fn handle_decoded(&mut self, decoded: &DecodedItem<'_>) {
        match decoded {
            DecodedItem::Datagram(datagram) => self.handle_datagram(datagram),
            // The decoder follows only what is SIP.
            DecodedItem::Stream(chunk) if matches!(chunk.event, TcpStreamEvent::Data(_)) => {
                self.plain.sip += 1;
                self.note_signalling(chunk.src, chunk.dst);
            }
            DecodedItem::Stream(_) => {}
        }
    }

    /// What was seen so far.
    pub fn seen(&self) -> TrafficSummary {
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
                self.plain.rtp_joined += u64::from(rtp::joined(datagram.payload).nth(1).is_some());
                rtp::joined(datagram.payload).for_each(|packet| self.note_rtp(datagram, packet));
            }
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
    /// Whether nothing at all was heard both ways.
    pub const fn all_one_way(&self) -> bool {
        self.pairs > 0 && self.one_way == self.pairs
    }
}

impl RtpFlow {
    const fn new(sequence: u16, newest_at: Timestamp, newest_time: RtpTime) -> Self {
        Self { newest: sequence, newest_at, newest_time, window: 1, packets: 1, expected: 1, copies: 0, jumps: 0 }
    }

    /// Whether a packet after a silence is the next one for its sender, or one soon after: neither its number nor its
    /// time knows of the silence. A sender that was on hold has at least let its time go on.
    fn goes_on_with(&self, packet: &rtp::RtpPacket<'_>) -> bool {
        let ahead = packet.sequence.wrapping_sub(self.newest);
        let time_ahead = packet.time.0.wrapping_sub(self.newest_time.0);
        self.is_rtp() && (1..=GOES_ON).contains(&ahead) && time_ahead < GOES_ON_TIME
    }

    fn handle(&mut self, sequence: u16) {
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
                    // Nothing before the first packet was expected: what is late counts as it comes.
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

/// The two in a fixed order, and which way it goes. Hosts count, not ports; on one host the ports do.
fn pair(src: Endpoint, dst: Endpoint) -> ((Endpoint, Endpoint), usize) {
    let (src, dst) = if src.same_host(dst) { (src, dst) } else { (src.with_port(0), dst.with_port(0)) };
    if src <= dst { ((src, dst), 0) } else { ((dst, src), 1) }
}

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
        // The address breaks a tie, so that the same capture names the same pair.
        let rank = (there + back, from);
        if ways.example.is_none() || rank > (busiest, from) {
            busiest = there + back;
            ways.example = Some((from.ip(), to.ip()));
        }
    }
    ways
}

/// One second of 20 ms packets: less is the beginning or the end of a call.
const MIN_RTP: u64 = 50;
/// The caller's side of the shortest whole call is an INVITE, an ACK and a BYE.
const MIN_SIP: u64 = 3;
/// Packets in sequence that make a stream: DNS with a lucky identifier has no run of them.
const MIN_STREAM: u64 = 10;
/// Ten seconds of 20 ms packets: a larger jump is a sender that begins anew (RFC 3550 appendix A.1 bears a minute of
/// loss, but a mirror that loses so much at once shows it elsewhere).
const MAX_DROPOUT: i16 = 500;
/// In a whole minute a mirror with a call on it shows something.
const SILENCE: Duration = Duration::from_secs(60);
/// One second of 20 ms packets.
const GOES_ON: u16 = 50;
/// Two seconds of the fastest RTP clock (48 kHz), twelve of the slowest: far less than a minute of either.
const GOES_ON_TIME: u32 = 96_000;
/// Streams that are followed: some ten thousand calls with a changed SSRC each, 80 bytes a stream.
const MAX_STREAMS: usize = 65_536;
/// Pairs of hosts with signalling: a large provider's registrar in half a minute.
const MAX_PAIRS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(sequences: &[u16]) -> RtpFlow {
        let mut stream = RtpFlow::new(sequences[0], Timestamp::EPOCH, RtpTime(0));
        for s in &sequences[1..] {
            stream.handle(*s);
        }
        stream
    }

    #[test]
    fn copies_gaps_and_the_turn_of_the_sequence_are_told_apart() {
        // 65534 … 1 is six numbers over the turn; 0 is missing and 65535 comes twice.
        let s = stream(&[65_534, 65_535, 65_535, 1, 2, 3]);
        assert_eq!((s.packets, s.expected, s.copies, s.jumps), (5, 6, 1, 0));
    }

    #[test]
    fn a_late_packet_fills_its_gap() {
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
