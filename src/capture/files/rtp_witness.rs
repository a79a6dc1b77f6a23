//! Uses the RTP streams of a capture file to prove that the clock of the capturing machine was set back by less than
//! five seconds.
//!
//! A jump that small can also be disorder between processor cores or interfaces. But the packets of one stream keep
//! their order. If the next packet of a stream, by sequence number, has a much earlier timestamp than the packet
//! before, the clock was set back. The exception: if the file has shown the same packets before, two overlapping
//! captures were joined, and the clock was not set.

use super::super::LinkType;
use super::reader::FileFrameHeader;
use crate::time::Timestamp;

/// The newest packet of each RTP stream in a file, by which clock steps are proven.
#[derive(Debug, Default)]
pub(super) struct RtpWitness {
    /// Table of streams, indexed by a hash of interface, addresses, ports and SSRC. If two streams have the same index,
    /// the newer stream replaces the older.
    streams: Vec<Option<WitnessedStream>>,
}

/// An RTP stream of the file: its newest packet, and a straight line (capture time by packet number) fitted to its
/// latest packets.
#[derive(Clone, Copy, Debug)]
struct WitnessedStream {
    packet: SeenPacket,
    /// Mean time between consecutive packets, ns; 0 before the second packet.
    spacing_ns: i64,
    /// Difference between the RTP timestamps of consecutive packets, in ticks of the RTP clock.
    ticks: u32,
    /// Estimated capture time of the newest packet, i.e. without its jitter. It follows from the earlier packets and
    /// their spacing.
    due: Timestamp,
    /// Number of packets from which `due` and `spacing_ns` were estimated, at most [`FITTED_PACKETS`].
    fitted: i64,
}

#[derive(Clone, Copy, Debug)]
struct SeenPacket {
    key: StreamKey,
    sequence: u16,
    /// RTP timestamp of the packet.
    time: u32,
    stamp: Timestamp,
}

/// Key of a stream: interface, IP addresses, UDP ports and SSRC. The interface is included because each interface has
/// its own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct StreamKey {
    interface: u32,
    src: [u8; 16],
    dst: [u8; 16],
    ports: [u8; 4],
    ssrc: [u8; 4],
}

impl RtpWitness {
    /// Stores the RTP packet of a frame as the newest of its stream.
    pub(super) fn handle_frame(&mut self, head: &FileFrameHeader, frame: &[u8]) {
        let Some(packet) = SeenPacket::of(head, frame) else { return };
        if self.streams.is_empty() {
            self.streams.resize(SLOTS, None);
        }
        let slot = &mut self.streams[slot_of(packet.key)];
        *slot = match slot.filter(|last| last.packet.key == packet.key) {
            Some(last) => last.followed_by(packet),
            None => Some(WitnessedStream::new(packet)),
        };
    }

    /// Returns by how much the clock was set back before this frame, ns; `None` if the frame does not prove a clock
    /// step.
    pub(super) fn step_back(&self, head: &FileFrameHeader, frame: &[u8]) -> Option<i64> {
        let packet = SeenPacket::of(head, frame)?;
        let last = self.stream(packet.key)?;
        let steps = packet.sequence.wrapping_sub(last.packet.sequence);
        let passed_ns = head.stamp.nanos_since(last.packet.stamp);
        let is_step = (1..=MAX_STEPS).contains(&steps) && (-MAX_STEP_NS..-MIN_STEP_NS).contains(&passed_ns);
        // The step is measured from the time at which this packet was due. This time is too early or too late if an
        // earlier packet was late. If it shows no step, the time since the previous packet gives the step.
        let spacing_ns = if last.spacing_ns > 0 { last.spacing_ns } else { USUAL_SPACING_NS };
        let raw_ns = spacing_ns * i64::from(steps) - passed_ns;
        let due_ns = last.due_of(packet).nanos_since(packet.stamp);
        is_step.then_some(if due_ns > MIN_STEP_NS { due_ns } else { raw_ns })
    }

    /// Returns how much earlier the timestamp of a frame is than expected from the earlier packets of its stream, ns.
    /// Returns `None` if the frame is not a later packet of a stream with constant spacing.
    pub(super) fn earliness(&self, head: &FileFrameHeader, frame: &[u8]) -> Option<i64> {
        let packet = SeenPacket::of(head, frame)?;
        let last = self.stream(packet.key)?;
        last.intervals_to(packet)?;
        Some(last.due_of(packet).nanos_since(packet.stamp))
    }

    /// Returns how much later the timestamp of a frame is than expected, ns; negative if it is earlier. Returns `None`
    /// if nothing can be expected, because the frame is not the next packet of a stream with constant spacing.
    pub(super) fn lateness(&self, head: &FileFrameHeader, frame: &[u8]) -> Option<i64> {
        let packet = SeenPacket::of(head, frame)?;
        let last = self.stream(packet.key)?;
        let steps = packet.sequence.wrapping_sub(last.packet.sequence);
        let is_next = (1..=MAX_STEPS).contains(&steps) && last.spacing_ns > 0 && last.ticks > 0;
        let is_even =
            is_next && packet.time.wrapping_sub(last.packet.time) == u32::from(steps).wrapping_mul(last.ticks);
        let late_ns = head.stamp.nanos_since(last.packet.stamp) - last.spacing_ns * i64::from(steps);
        is_even.then_some(late_ns)
    }

    /// Returns whether a frame repeats an earlier packet of its stream, with about the same timestamp. Then two
    /// overlapping captures were joined, and the clock was not set.
    pub(super) fn is_repeated(&self, head: &FileFrameHeader, frame: &[u8]) -> bool {
        let Some(packet) = SeenPacket::of(head, frame) else { return false };
        let Some(last) = self.stream(packet.key) else { return false };
        let behind = last.packet.sequence.wrapping_sub(packet.sequence);
        let expected_ns = last.spacing_ns * i64::from(behind);
        let apart_ns = (last.packet.stamp.nanos_since(packet.stamp) - expected_ns).abs();
        behind <= MAX_REPEATED && last.spacing_ns > 0 && apart_ns <= MIN_STEP_NS
    }

    /// Moves the streams of an interface by a clock step of `by_ns`, so that they do not prove the same step again.
    pub(super) fn shift(&mut self, interface: u32, by_ns: i64) {
        if by_ns == 0 {
            return;
        }
        for stream in self.streams.iter_mut().flatten().filter(|stream| stream.packet.key.interface == interface) {
            stream.packet.stamp = stream.packet.stamp.offset(by_ns);
            stream.due = stream.due.offset(by_ns);
        }
    }

    fn stream(&self, key: StreamKey) -> Option<WitnessedStream> {
        self.streams.get(slot_of(key)).copied().flatten().filter(|stream| stream.packet.key == key)
    }
}

impl WitnessedStream {
    const fn new(packet: SeenPacket) -> Self {
        Self { packet, spacing_ns: 0, ticks: 0, due: packet.stamp, fitted: 1 }
    }

    /// Returns the stream with `packet` as its newest packet. Returns the stream unchanged if the packet is a duplicate
    /// or late.
    fn followed_by(self, packet: SeenPacket) -> Option<Self> {
        let steps = packet.sequence.wrapping_sub(self.packet.sequence);
        if steps == 0 || steps > u16::MAX - MAX_STEPS {
            return Some(self);
        }
        let (passed_ns, ticks) =
            (packet.stamp.nanos_since(self.packet.stamp), packet.time.wrapping_sub(self.packet.time));
        if let Some(intervals) = self.intervals_to(packet) {
            let due = self.due.offset(self.spacing_ns * intervals);
            let late_ns = packet.stamp.nanos_since(due);
            if late_ns.abs() < MAX_SPACING_NS {
                return Some(self.fitted_to(packet, due, late_ns));
            }
        } else if steps == 1 && (0..MAX_SPACING_NS).contains(&passed_ns) {
            return Some(Self { packet, spacing_ns: passed_ns, ticks, due: packet.stamp, fitted: 2 });
        }
        Some(Self { packet, due: packet.stamp, fitted: 1, ..self })
    }

    /// Corrects the stream's line (capture time by packet number) by one more packet, using least squares. The line
    /// predicted the packet for the time `due`, but the packet was captured `late_ns` later.
    fn fitted_to(self, packet: SeenPacket, due: Timestamp, late_ns: i64) -> Self {
        let count = (self.fitted + 1).min(FITTED_PACKETS);
        let (of_due, of_spacing, all) = (2 * (2 * count - 1), 6, count * (count + 1));
        Self {
            packet,
            spacing_ns: (self.spacing_ns + late_ns * of_spacing / all).max(1),
            due: due.offset(late_ns * of_due / all),
            fitted: count,
            ..self
        }
    }

    /// Returns the number of packet intervals from the newest packet to `packet`, by their RTP timestamps. `None` if
    /// the spacing is not known or changes.
    fn intervals_to(self, packet: SeenPacket) -> Option<i64> {
        let ticks = packet.time.wrapping_sub(self.packet.time);
        let is_even = self.spacing_ns > 0 && self.ticks > 0 && ticks.is_multiple_of(self.ticks);
        let intervals = ticks / self.ticks.max(1);
        (is_even && (1..=u32::from(MAX_REPEATED)).contains(&intervals)).then(|| intervals.into())
    }

    /// Returns the capture time at which a later packet of the stream is expected.
    fn due_of(self, packet: SeenPacket) -> Timestamp {
        let steps = packet.sequence.wrapping_sub(self.packet.sequence);
        let spacing_ns = if self.spacing_ns > 0 { self.spacing_ns } else { USUAL_SPACING_NS };
        self.due.offset(spacing_ns * self.intervals_to(packet).unwrap_or_else(|| steps.into()))
    }
}

impl SeenPacket {
    /// Parses a frame that looks like RTP over UDP and IP. Returns `None` for other frames.
    fn of(head: &FileFrameHeader, frame: &[u8]) -> Option<Self> {
        let (mut key, udp) = udp_of(network_layer(head.link, frame)?)?;
        key.interface = head.interface;
        let rtp = udp.get(8..20).filter(|rtp| rtp[0] >> 6 == 2 && !(192..=223).contains(&rtp[1]))?;
        key.ports.copy_from_slice(udp.get(..4)?);
        key.ssrc.copy_from_slice(&rtp[8..12]);
        let time = u32::from_be_bytes([rtp[4], rtp[5], rtp[6], rtp[7]]);
        Some(Self { key, sequence: u16::from_be_bytes([rtp[2], rtp[3]]), time, stamp: head.stamp })
    }
}

/// Returns the IP packet in a frame, after up to two VLAN tags; `None` for other frames.
fn network_layer(link: LinkType, frame: &[u8]) -> Option<&[u8]> {
    let (mut kind_at, mut start) = match link {
        LinkType::Ethernet => (12, 14),
        LinkType::LinuxSll => (14, 16),
        LinkType::LinuxSll2 => (0, 20),
        LinkType::RawIp => return Some(frame),
        LinkType::Null | LinkType::Loop => return frame.get(4..),
        LinkType::Other(_) => return None,
    };
    for _ in 0..=MAX_TAGS {
        match frame.get(kind_at..kind_at + 2)? {
            [0x08, 0x00] | [0x86, 0xDD] => return frame.get(start..),
            [0x81, 0x00] | [0x88, 0xA8] if link == LinkType::Ethernet => (kind_at, start) = (kind_at + 4, start + 4),
            _ => return None,
        }
    }
    None
}

/// Returns the addresses, the ports and the UDP payload of an IP packet; `None` for fragments and other protocols.
fn udp_of(ip: &[u8]) -> Option<(StreamKey, &[u8])> {
    let mut key = StreamKey::default();
    match ip.first()? >> 4 {
        4 if ip.get(6)? & 0x3F == 0 && ip.get(7)? == &0 && ip.get(9)? == &UDP => {
            key.src[..4].copy_from_slice(ip.get(12..16)?);
            key.dst[..4].copy_from_slice(ip.get(16..20)?);
            Some((key, ip.get(4 * usize::from(ip[0] & 15)..)?))
        }
        6 if ip.get(6)? == &UDP => {
            key.src.copy_from_slice(ip.get(8..24)?);
            key.dst.copy_from_slice(ip.get(24..40)?);
            Some((key, ip.get(40..)?))
        }
        _ => None,
    }
}

/// Returns the index of a stream in the table of [`SLOTS`] streams: a hash of ports, SSRC and interface. It is computed
/// for each packet of a file, and the addresses rarely tell more streams apart.
fn slot_of(key: StreamKey) -> usize {
    let stream = u64::from(u32::from_ne_bytes(key.ssrc)) << 32 | u64::from(u32::from_ne_bytes(key.ports));
    let hash = (stream ^ u64::from(key.interface)).wrapping_mul(HASH_FACTOR);
    (hash >> (u64::BITS - SLOTS.ilog2())) as usize
}

/// IP protocol number of UDP.
const UDP: u8 = 17;
/// Maximum number of VLAN tags before the IP header: one of the provider and one of the customer (IEEE 802.1ad).
const MAX_TAGS: usize = 2;
/// Assumed time between the packets of a stream, ns, while only one packet was captured (RFC 3551 section 4.2).
const USUAL_SPACING_NS: i64 = 20_000_000;
/// Odd factor of a multiplicative hash: 2^64 divided by the golden ratio.
const HASH_FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
/// Number of streams that the table can hold, a power of two. A clock step is proven with far fewer streams.
const SLOTS: usize = 1_024;
/// Maximum number of packets to which a stream's line (capture time by packet number) is fitted: half a second at 20
/// ms. With more packets, the line would follow a changed network delay too slowly.
const FITTED_PACKETS: i64 = 24;
/// Maximum difference between the sequence numbers of two packets that prove a clock step: 1 s at 20 ms a packet.
const MAX_STEPS: u16 = 50;
/// Maximum distance of a repeated packet from the newest packet of its stream, in packets: 10 s at 20 ms. It is more
/// than the largest clock step.
const MAX_REPEATED: u16 = 500;
/// Minimum clock step that can be proven, ns. A smaller jump can be disorder of the network, or come from a sender that
/// sends in bursts.
const MIN_STEP_NS: i64 = 50_000_000;
/// Maximum backward jump of the timestamps, ns, that counts as a clock step only if an RTP stream proves it. A larger
/// jump needs no proof.
const MAX_STEP_NS: i64 = 5_000_000_000;
/// Maximum time between two packets that is used as their spacing, ns (RFC 3551 section 4.2).
const MAX_SPACING_NS: i64 = 200_000_000;
