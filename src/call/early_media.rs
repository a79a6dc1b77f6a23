//! RTP that came before its call was known: kept for a while, within a bound.
//!
//! A ring of bytes and a ring of headers. A packet costs a copy and two counters; a claim scans the ring only if
//! the counters say that something of its address may be in it.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use crate::call::event::EARLY_WINDOW;
use crate::decode::Datagram;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// The packets.
#[derive(Debug)]
pub struct EarlyMedia {
    bytes: VecDeque<u8>,
    headers: VecDeque<Header>,
    /// For each bucket of addresses, how many packets in the ring come from or go to one of them.
    buckets: Vec<u32>,
    hasher: foldhash::fast::FixedState,
    capacity_bytes: usize,
    /// Packets that a call might still have asked for, and that there was no room for.
    dropped: u64,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    at: Timestamp,
    src: Endpoint,
    dst: Endpoint,
    len: u32,
    wire_len: u32,
    interface: u32,
    taken: bool,
}

impl EarlyMedia {
    /// Room for so many bytes of payload.
    pub fn new(capacity_bytes: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            headers: VecDeque::new(),
            buckets: vec![0; BUCKETS],
            hasher: foldhash::fast::FixedState::with_seed(0),
            capacity_bytes,
            dropped: 0,
        }
    }

    /// Keeps a packet. The oldest make room; a larger one than any voice packet is not kept.
    pub fn handle_packet(&mut self, datagram: &Datagram<'_>) {
        let len = datagram.payload.len();
        if len > MAX_PACKET_BYTES || len > self.capacity_bytes {
            self.dropped += 1;
            return;
        }
        self.forget_before(datagram.at - EARLY_WINDOW);
        let full = |early: &Self| early.bytes.len() + len > early.capacity_bytes || early.headers.len() >= MAX_PACKETS;
        while full(self) && !self.headers.is_empty() {
            self.dropped += u64::from(self.headers.front().is_some_and(|h| !h.taken));
            self.forget_oldest();
        }
        for endpoint in [datagram.src, datagram.dst] {
            let bucket = self.bucket(endpoint);
            self.buckets[bucket] += 1;
        }
        self.bytes.extend(datagram.payload);
        self.headers.push_back(Header {
            at: datagram.at,
            src: datagram.src,
            dst: datagram.dst,
            len: u32::try_from(len).unwrap_or(u32::MAX),
            wire_len: datagram.wire_len,
            interface: datagram.interface,
            taken: false,
        });
    }

    /// Whether something that comes from or goes to `endpoint` may be kept.
    pub fn may_hold(&self, endpoint: Endpoint) -> bool {
        self.buckets[self.bucket(endpoint)] > 0
    }

    /// Gives every kept packet that comes from or goes to one of `endpoints` to `wants`, oldest first; one for which it says
    /// `true` is taken and not given again.
    pub fn claim(&mut self, endpoints: &[Endpoint], now: Timestamp, wants: &mut dyn FnMut(&Datagram<'_>) -> bool) {
        self.forget_before(now - EARLY_WINDOW);
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
                let datagram = Datagram {
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

    /// Packets that nobody took and that were not kept for as long as the window is: they were too many, or too large.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes of payload that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Packets kept that nobody took.
    pub fn len(&self) -> usize {
        self.headers.iter().filter(|h| !h.taken).count()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn forget_before(&mut self, oldest: Timestamp) {
        while self.headers.front().is_some_and(|h| h.at < oldest) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
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

/// A power of two; 40,000 packets of noise fill about one bucket in three twice over.
const BUCKETS: usize = 16_384;
/// 8 MiB of G.711 packets; short packets must not make the ring long, for a claim looks at each.
const MAX_PACKETS: usize = 50_000;
/// Voice packets are smaller: 120 ms of L16 at 8 kHz are 1,932 bytes.
const MAX_PACKET_BYTES: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(at_ms: i64, port: u16, payload: &[u8]) -> Datagram<'_> {
        Datagram {
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
        early.claim(&[Endpoint::v4([10, 0, 0, 2], port)], Timestamp::from_micros(now_ms * 1_000), &mut |d| {
            out.push(d.payload.to_vec());
            true
        });
        out
    }

    #[test]
    fn a_claim_takes_the_packets_of_its_address_once_and_in_order() {
        let mut early = EarlyMedia::new(1_000);
        for (at, port, payload) in [(0, 1, b"a"), (1, 2, b"b"), (2, 1, b"c")] {
            early.handle_packet(&datagram(at, port, payload));
        }
        assert_eq!(claimed(&mut early, 1, 10), [b"a".to_vec(), b"c".to_vec()]);
        assert!(claimed(&mut early, 1, 10).is_empty());
        assert_eq!(claimed(&mut early, 2, 10), [b"b".to_vec()]);
    }

    #[test]
    fn packets_older_than_the_window_and_beyond_the_bound_are_forgotten() {
        let mut early = EarlyMedia::new(10);
        for at in 0..100 {
            early.handle_packet(&datagram(at, 1, b"xyz"));
        }
        // Three payloads of three bytes fit into ten.
        assert_eq!((early.len(), early.dropped()), (3, 97));
        assert!(claimed(&mut early, 1, 100 + 5_001).is_empty());
        assert_eq!(early.dropped(), 97, "nobody asked for the last ones in time: that is no want of room");
    }

    #[test]
    fn a_packet_that_was_taken_or_that_is_too_old_is_not_missed_when_it_makes_room() {
        let mut early = EarlyMedia::new(10);
        (0..3).for_each(|at| early.handle_packet(&datagram(at, 1, b"xyz")));
        assert_eq!(claimed(&mut early, 1, 10).len(), 3);
        (10..13).for_each(|at| early.handle_packet(&datagram(at, 1, b"xyz")));
        (5_100..5_103).for_each(|at| early.handle_packet(&datagram(at, 1, b"xyz")));
        assert_eq!((early.len(), early.dropped()), (3, 0));
        early.handle_packet(&datagram(5_104, 1, &[0; MAX_PACKET_BYTES + 1]));
        early.handle_packet(&datagram(5_104, 1, b"eleven bytes"));
        assert_eq!((early.len(), early.dropped()), (3, 2), "one that no room would hold");
    }
}
