//! Buffer for RTP packets that arrive before a leg announces their address.
//!
//! One ring buffer contains the payload bytes, another the packet headers. Counters show whether the buffer may contain
//! a packet from or to an address. The headers are searched only in this case. So storing a packet costs one copy and
//! two counters.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use crate::call::event::EARLY_WINDOW;
use crate::decode::UdpDatagram;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// Stored RTP packets without a known leg, of the last few seconds.
#[derive(Debug)]
pub(crate) struct EarlyMedia {
    bytes: VecDeque<u8>,
    headers: VecDeque<EarlyPacket>,
    /// Number of stored packets for each hash bucket of addresses. A packet counts for its source and for its
    /// destination.
    buckets: Vec<u32>,
    hasher: foldhash::fast::FixedState,
    capacity_bytes: usize,
    /// Number of packets that the buffer lost: removed before their time was over, or not stored for lack of space.
    dropped: u64,
}

#[derive(Clone, Copy, Debug)]
struct EarlyPacket {
    at: Timestamp,
    src: Endpoint,
    dst: Endpoint,
    len: u32,
    wire_len: u32,
    interface: u32,
    taken: bool,
}

impl EarlyMedia {
    /// Returns an empty buffer for at most `capacity_bytes` of payload.
    pub(crate) fn new(capacity_bytes: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            headers: VecDeque::new(),
            buckets: vec![0; BUCKETS],
            hasher: foldhash::fast::FixedState::with_seed(0),
            capacity_bytes,
            dropped: 0,
        }
    }

    /// Stores a packet. If the buffer is full, the oldest packets are removed. A packet of more than
    /// [`MAX_PACKET_BYTES`], which is no voice, is not stored.
    pub(crate) fn handle_packet(&mut self, datagram: &UdpDatagram<'_>) {
        let len = datagram.payload.len();
        if len > MAX_PACKET_BYTES || len > self.capacity_bytes {
            self.dropped += 1;
            return;
        }
        self.expire_before(datagram.at - EARLY_WINDOW);
        let full = |early: &Self| early.bytes.len() + len > early.capacity_bytes || early.headers.len() >= MAX_PACKETS;
        while full(self) && !self.headers.is_empty() {
            self.dropped += u64::from(self.headers.front().is_some_and(|h| !h.taken));
            self.remove_oldest();
        }
        for endpoint in [datagram.src, datagram.dst] {
            let bucket = self.bucket(endpoint);
            self.buckets[bucket] += 1;
        }
        self.bytes.extend(datagram.payload);
        self.headers.push_back(EarlyPacket {
            at: datagram.at,
            src: datagram.src,
            dst: datagram.dst,
            len: u32::try_from(len).unwrap_or(u32::MAX),
            wire_len: datagram.wire_len,
            interface: datagram.interface,
            taken: false,
        });
    }

    /// Returns false if the buffer contains no packet from or to `endpoint`. In rare cases it returns true although
    /// there is no such packet.
    pub(crate) fn may_hold(&self, endpoint: Endpoint) -> bool {
        self.buckets[self.bucket(endpoint)] > 0
    }

    /// Calls `wants` with each stored packet from or to one of `endpoints`, oldest first. Removes each packet for which
    /// `wants` returns true.
    pub(crate) fn take_matching(
        &mut self,
        endpoints: &[Endpoint],
        now: Timestamp,
        wants: &mut dyn FnMut(&UdpDatagram<'_>) -> bool,
    ) {
        self.expire_before(now - EARLY_WINDOW);
        let endpoints: Vec<Endpoint> = endpoints.iter().copied().filter(|e| self.may_hold(*e)).collect();
        if endpoints.is_empty() {
            return;
        }
        self.bytes.make_contiguous();
        let (bytes, _) = self.bytes.as_slices();
        let mut start = 0;
        for header in &mut self.headers {
            let end = start + header.len as usize;
            if !header.taken && (endpoints.contains(&header.dst) || endpoints.contains(&header.src)) {
                let datagram = UdpDatagram {
                    at: header.at,
                    src: header.src,
                    dst: header.dst,
                    payload: bytes.get(start..end).unwrap_or(&[]),
                    wire_len: header.wire_len,
                    interface: header.interface,
                };
                header.taken = wants(&datagram);
            }
            start = end;
        }
    }

    /// Returns whether at least `count` stored packets have a source and destination that `fits` accepts.
    pub(crate) fn has_flow(&self, count: usize, fits: &dyn Fn(Endpoint, Endpoint) -> bool) -> bool {
        self.headers.iter().filter(|h| !h.taken && fits(h.src, h.dst)).take(count).count() == count
    }

    /// Returns the number of packets that were removed before [`EARLY_WINDOW`] had passed, or that were too large to
    /// store.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns the number of stored payload bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.headers.iter().filter(|h| !h.taken).count()
    }

    fn expire_before(&mut self, oldest: Timestamp) {
        while self.headers.front().is_some_and(|h| h.at < oldest) {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        if let Some(header) = self.headers.pop_front() {
            self.bytes.drain(..header.len as usize);
            for endpoint in [header.src, header.dst] {
                let bucket = self.bucket(endpoint);
                self.buckets[bucket] -= 1;
            }
        }
    }

    fn bucket(&self, endpoint: Endpoint) -> usize {
        (self.hasher.hash_one(endpoint) as usize) & (BUCKETS - 1)
    }
}

/// Number of hash buckets, a power of two. The 40,000 packets of 20 ms that arrive within [`EARLY_WINDOW`] come from
/// 160 streams with 320 addresses. So few addresses share a bucket.
const BUCKETS: usize = 16_384;
/// Maximum number of stored packets: 8 MiB of G.711. It limits the time of a search, which examines every header.
const MAX_PACKETS: usize = 50_000;
/// Maximum size of a packet that is stored, bytes. Voice packets are smaller: 120 ms of L16 at 8 kHz are 1,932 bytes.
const MAX_PACKET_BYTES: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(at_ms: i64, port: u16, payload: &[u8]) -> UdpDatagram<'_> {
        UdpDatagram {
            at: Timestamp::from_micros(at_ms * 1_000),
            src: Endpoint::v4([10, 0, 0, 1], 4_000),
            dst: Endpoint::v4([10, 0, 0, 2], port),
            payload,
            wire_len: payload.len() as u32,
            interface: 0,
        }
    }

    fn claimed(early: &mut EarlyMedia, port: u16, now_ms: i64) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        early.take_matching(&[Endpoint::v4([10, 0, 0, 2], port)], Timestamp::from_micros(now_ms * 1_000), &mut |d| {
            out.push(d.payload.to_vec());
            true
        });
        out
    }

    #[test]
    fn packets_of_an_address_are_taken_once_and_in_order() {
        let mut early = EarlyMedia::new(1_000);
        for (at, port, payload) in [(0, 1, b"a"), (1, 2, b"b"), (2, 1, b"c")] {
            early.handle_packet(&datagram(at, port, payload));
        }
        assert_eq!(claimed(&mut early, 1, 10), [b"a".to_vec(), b"c".to_vec()]);
        assert!(claimed(&mut early, 1, 10).is_empty());
        assert_eq!(claimed(&mut early, 2, 10), [b"b".to_vec()]);
    }

    #[test]
    fn packets_beyond_the_window_or_the_bound_are_removed() {
        let mut early = EarlyMedia::new(10);
        for at in 0..100 {
            early.handle_packet(&datagram(at, 1, b"xyz"));
        }
        // The buffer of ten bytes has room for three payloads of three bytes. So of 100 packets, the newest three
        // remain.
        assert_eq!((early.len(), early.dropped()), (3, 97));
        assert!(claimed(&mut early, 1, 100 + 5_001).is_empty());
        assert_eq!(early.dropped(), 97, "packets that expire are not counted as dropped");
    }

    #[test]
    fn removing_taken_or_expired_packets_does_not_count_as_dropped() {
        let mut early = EarlyMedia::new(10);
        (0..3).for_each(|at| early.handle_packet(&datagram(at, 1, b"xyz")));
        assert_eq!(claimed(&mut early, 1, 10).len(), 3);
        (10..13).for_each(|at| early.handle_packet(&datagram(at, 1, b"xyz")));
        (5_100..5_103).for_each(|at| early.handle_packet(&datagram(at, 1, b"xyz")));
        assert_eq!((early.len(), early.dropped()), (3, 0));
        early.handle_packet(&datagram(5_104, 1, &[0; MAX_PACKET_BYTES + 1]));
        early.handle_packet(&datagram(5_104, 1, b"eleven bytes"));
        assert_eq!((early.len(), early.dropped()), (3, 2), "packets larger than the bounds are counted as dropped");
    }
}
