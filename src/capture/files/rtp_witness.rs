//! Uses the RTP streams of a capture file to prove that the clock of the capturing machine was set back by less than
//! five seconds.
//!
//! A jump that small can also be disorder between processor cores or interfaces. But the packets of one stream keep
//! their order. If the next packet of a stream, by sequence number, has a much earlier timestamp than the packet
//! before, the clock was set back. The exception: if the file has shown the same packets before, two overlapping
//! captures were joined, and the clock was not set.

use super::reader::FileFrameHeader;
use crate::capture::udp_of;
use crate::net::Flow;
use crate::time::Timestamp;

/// The newest packet of each RTP stream in a file, by which clock steps are proven.
#[derive(Debug, Default)]
pub(super) struct RtpWitness {
    /// Table of streams, indexed by their hash. Of the current streams with the same index, the table has the one with
    /// the largest hash. So it is a random choice if there are more streams than places, and each stream in it stays.
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
    /// Hash of interface, addresses, ports and SSRC of the stream. Two streams hardly ever have the same one. It is
    /// shorter than its parts, so the table stays in the cache of the processor.
    stream: u64,
    /// Interface of the packet. Each interface has its own clock.
    interface: u32,
    sequence: u16,
    /// RTP timestamp of the packet.
    time: u32,
    stamp: Timestamp,
}

impl RtpWitness {
    /// Stores the RTP packet of a frame as the newest of its stream.
    pub(super) fn handle_frame(&mut self, head: &FileFrameHeader, frame: &[u8]) {
        let Some(packet) = SeenPacket::of(head, frame) else { return };
        if self.streams.is_empty() {
            self.streams.resize(PLACES, None);
        }
        let place = &mut self.streams[place_of(packet.stream)];
        match place {
            Some(last) if last.packet.stream == packet.stream => last.handle_packet(packet),
            Some(last) if packet.stream < last.packet.stream && last.is_current(packet.stamp) => {}
            _ => *place = Some(WitnessedStream::new(packet)),
        }
    }

    /// Returns by how much the clock was set back before this frame, ns; `None` if the frame does not prove a clock
    /// step.
    pub(super) fn step_back(&self, head: &FileFrameHeader, frame: &[u8]) -> Option<i64> {
        let packet = SeenPacket::of(head, frame)?;
        let last = self.stream(packet.stream)?;
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
        let last = self.stream(packet.stream)?;
        last.intervals_to(packet)?;
        Some(last.due_of(packet).nanos_since(packet.stamp))
    }

    /// Returns how much later the timestamp of a frame is than expected, ns; negative if it is earlier. Returns `None`
    /// if nothing can be expected, because the frame is not the next packet of a stream with constant spacing.
    pub(super) fn lateness(&self, head: &FileFrameHeader, frame: &[u8]) -> Option<i64> {
        let packet = SeenPacket::of(head, frame)?;
        let last = self.stream(packet.stream)?;
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
        let Some(last) = self.stream(packet.stream) else { return false };
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
        for stream in self.streams.iter_mut().flatten().filter(|stream| stream.packet.interface == interface) {
            stream.packet.stamp = stream.packet.stamp.offset(by_ns);
            stream.due = stream.due.offset(by_ns);
        }
    }

    fn stream(&self, stream: u64) -> Option<WitnessedStream> {
        self.streams.get(place_of(stream)).copied().flatten().filter(|found| found.packet.stream == stream)
    }
}

impl WitnessedStream {
    const fn new(packet: SeenPacket) -> Self {
        Self { packet, spacing_ns: 0, ticks: 0, due: packet.stamp, fitted: 1 }
    }

    /// Returns whether the stream probably goes on at a time. A frame with an earlier time may only be late. A single
    /// packet is hardly a stream: other data can look like RTP.
    fn is_current(&self, at: Timestamp) -> bool {
        let stale_ns = if self.spacing_ns > 0 { STALE_NS } else { MAX_SPACING_NS };
        (-MAX_STEP_NS..stale_ns).contains(&at.nanos_since(self.packet.stamp))
    }

    /// Makes `packet` the newest packet of the stream. Ignores a packet that is a duplicate or late.
    fn handle_packet(&mut self, packet: SeenPacket) {
        let steps = packet.sequence.wrapping_sub(self.packet.sequence);
        if steps == 0 || steps > u16::MAX - MAX_STEPS {
            return;
        }
        let (passed_ns, ticks) =
            (packet.stamp.nanos_since(self.packet.stamp), packet.time.wrapping_sub(self.packet.time));
        if let Some(intervals) = self.intervals_to(packet) {
            let due = self.due.offset(self.spacing_ns * intervals);
            let late_ns = packet.stamp.nanos_since(due);
            if late_ns.abs() < MAX_SPACING_NS {
                return self.fit_to(packet, due, late_ns);
            }
        } else if steps == 1 && (0..MAX_SPACING_NS).contains(&passed_ns) {
            (self.packet, self.spacing_ns, self.ticks) = (packet, passed_ns, ticks);
            (self.due, self.fitted) = (packet.stamp, 2);
            return;
        }
        (self.packet, self.due, self.fitted) = (packet, packet.stamp, 1);
    }

    /// Corrects the stream's line (capture time by packet number) by one more packet, using least squares. The line
    /// predicted the packet for the time `due`, but the packet was captured `late_ns` later.
    fn fit_to(&mut self, packet: SeenPacket, due: Timestamp, late_ns: i64) {
        let count = (self.fitted + 1).min(FITTED_PACKETS);
        let (of_due, of_spacing, all) = (2 * (2 * count - 1), 6, count * (count + 1));
        self.packet = packet;
        self.spacing_ns = (self.spacing_ns + late_ns * of_spacing / all).max(1);
        self.due = due.offset(late_ns * of_due / all);
        self.fitted = count;
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
        let (flow, udp) = udp_of(head.link, frame)?;
        let rtp = udp.first_chunk::<12>().filter(|rtp| rtp[0] >> 6 == 2 && !(192..=223).contains(&rtp[1]))?;
        let [_, _, s0, s1, t0, t1, t2, t3, ssrc @ ..] = *rtp;
        let stream = hash_of(flow, u32::from_be_bytes(ssrc), head.interface);
        let (sequence, time) = (u16::from_be_bytes([s0, s1]), u32::from_be_bytes([t0, t1, t2, t3]));
        Some(Self { stream, interface: head.interface, sequence, time, stamp: head.stamp })
    }
}

/// Returns a hash of a stream. It is computed for each packet of a file.
fn hash_of(flow: Flow, ssrc: u32, interface: u32) -> u64 {
    let Flow { src, dst } = flow;
    let ports = u64::from(ssrc) << 32 | u64::from(src.port()) << 16 | u64::from(dst.port());
    let [src, dst] = [src, dst].map(|endpoint| u128::from_be_bytes(endpoint.ipv6_octets()));
    let addresses = src ^ dst.rotate_left(64);
    let words = [(addresses >> 64) as u64, addresses as u64, u64::from(interface), ports];
    words.into_iter().fold(0, |hash: u64, word| (hash.rotate_left(32) ^ word).wrapping_mul(HASH_FACTOR))
}

/// Returns the index of a stream in the table of [`PLACES`] streams. The rest of the hash says which of the streams
/// with this index stays in the table.
const fn place_of(hash: u64) -> usize {
    (hash >> (u64::BITS - PLACES.ilog2())) as usize
}

/// Time without packets of a stream after which any other stream may take its place in the table, ns.
const STALE_NS: i64 = 10_000_000_000;
/// Assumed time between the packets of a stream, ns, while only one packet was captured (RFC 3551 section 4.2).
const USUAL_SPACING_NS: i64 = 20_000_000;
/// Odd factor of a multiplicative hash: 2^64 divided by the golden ratio.
const HASH_FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
/// Number of streams that the table can hold, a power of two. A clock step is proven with far fewer streams.
const PLACES: usize = 1_024;
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
