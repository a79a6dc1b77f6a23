//! Detects duplicates that the mirror makes: the same packet at another port, in another VLAN, or behind a router.
//!
//! Invariants: two packets are duplicates only if they arrive within [`WINDOW`] and their bytes are equal. Fields that
//! a switch or router changes are not compared: TTL or hop limit, ToS or traffic class, IP and transport checksums. A
//! hash finds the candidate, but the bytes decide. A SIP retransmission follows after T1 = 500 ms (RFC 3261 section
//! 17.1.1.1), so it is no duplicate.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::time::Timestamp;

/// An IP packet that is compared with recent packets. It has no link-layer padding.
#[derive(Clone, Copy, Debug)]
pub(super) struct DuplicateCandidate<'a> {
    pub(super) packet: &'a [u8],
    /// IP protocol number, and offset of the transport header in `packet`, bytes. `None` for fragments other than the
    /// first.
    pub(super) transport: Option<(u8, usize)>,
}

/// Result of the search for an equal packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DuplicateCheck {
    First,
    Copy,
}

/// Finds duplicates among the packets of the last [`WINDOW`]. They are in a ring buffer that is allocated once.
#[derive(Debug)]
pub(super) struct DuplicateFilter {
    ring: Vec<u8>,
    /// Offset in the ring buffer, bytes, at which the next packet is written.
    head: usize,
    entries: VecDeque<RememberedPacket>,
    /// Number of the oldest stored packet. Packets are numbered in the order of their arrival.
    oldest: u64,
    /// Maps the hash of a packet to the number of the newest packet with this hash.
    by_hash: HashMap<u64, u64, RandomState>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct RememberedPacket {
    at: Timestamp,
    hash: u64,
    start: usize,
    len: usize,
}

impl DuplicateFilter {
    pub(super) fn new() -> Self {
        Self {
            ring: Vec::new(),
            head: 0,
            entries: VecDeque::new(),
            oldest: 0,
            by_hash: HashMap::default(),
            hasher: RandomState::default(),
        }
    }

    /// Returns whether an equal packet arrived within the last [`WINDOW`]. Stores the packet if it is new.
    pub(super) fn check(&mut self, at: Timestamp, candidate: DuplicateCandidate<'_>) -> DuplicateCheck {
        let len = candidate.packet.len();
        if len > MAX_PACKET_BYTES {
            return DuplicateCheck::First;
        }
        self.forget_older_than(at);
        let start = self.reserve(len);
        let written = &mut self.ring[start..start + len];
        written.copy_from_slice(candidate.packet);
        mask(written, candidate.transport);
        let hash = self.hasher.hash_one(&*written);
        if self.earlier(hash).is_some_and(|e| {
            at.nanos_since(e.at).unsigned_abs() <= WINDOW.as_nanos() as u64
                && self.ring[e.start..e.start + e.len] == self.ring[start..start + len]
        }) {
            return DuplicateCheck::Copy;
        }
        self.by_hash.insert(hash, self.oldest + self.entries.len() as u64);
        self.entries.push_back(RememberedPacket { at, hash, start, len });
        self.head = start + len;
        DuplicateCheck::First
    }

    fn earlier(&self, hash: u64) -> Option<&RememberedPacket> {
        let number = *self.by_hash.get(&hash)?;
        self.entries.get(usize::try_from(number.checked_sub(self.oldest)?).ok()?)
    }

    fn forget_older_than(&mut self, now: Timestamp) {
        while self.entries.front().is_some_and(|e| now.since(e.at) > WINDOW) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        if self.by_hash.get(&entry.hash) == Some(&self.oldest) {
            self.by_hash.remove(&entry.hash);
        }
        self.oldest += 1;
    }

    /// Makes room for `len` contiguous bytes in the ring buffer by removing the oldest packets. Returns the offset of
    /// these bytes.
    fn reserve(&mut self, len: usize) -> usize {
        if self.ring.is_empty() {
            self.ring = vec![0; RING_BYTES];
        }
        if self.entries.len() >= MAX_ENTRIES {
            self.forget_oldest();
        }
        let start = if self.head + len <= RING_BYTES { self.head } else { 0 };
        if start < self.head {
            // The packets from the head to the end of the ring are the oldest. They are removed before the head moves
            // back to the start of the ring.
            while self.entries.front().is_some_and(|e| e.start >= self.head) {
                self.forget_oldest();
            }
        }
        while self.entries.front().is_some_and(|e| e.start < start + len && start < e.start + e.len) {
            self.forget_oldest();
        }
        start
    }
}

/// Sets the fields to zero that can differ between duplicates. Fields that were not captured are skipped.
fn mask(packet: &mut [u8], transport: Option<(u8, usize)>) {
    match packet.first().map(|b| b >> 4) {
        // IPv4 duplicates may differ in ToS, TTL and header checksum (RFC 791 section 3.1), so these bytes become zero.
        Some(4) => blank(packet, &[1, 8, 10, 11]),
        Some(6) => {
            // IPv6 duplicates may differ in the hop limit and the traffic class (RFC 8200 section 3), so these bits
            // become zero. The class is the low half of byte 0 and the high half of byte 1.
            packet[0] &= 0xf0;
            if let Some(byte) = packet.get_mut(1) {
                *byte &= 0x0f;
            }
            blank(packet, &[7]);
        }
        _ => {}
    }
    match transport {
        Some((17, at)) => blank(packet, &[at + 6, at + 7]),
        Some((6, at)) => blank(packet, &[at + 16, at + 17]),
        _ => {}
    }
}

fn blank(packet: &mut [u8], at: &[usize]) {
    for i in at {
        if let Some(byte) = packet.get_mut(*i) {
            *byte = 0;
        }
    }
}

/// Maximum time between a packet and its duplicate. Real duplicates follow within a few ms. SIP is retransmitted after
/// T1 at the earliest, which is ten times as long.
pub(super) const WINDOW: Duration = Duration::from_millis(50);
/// Size of the ring buffer, bytes. It has room for 50 ms of traffic at 600 Mbit/s; RTP packets are not stored in it.
const RING_BYTES: usize = 4 << 20;
/// Maximum number of stored packets: 50 ms at 160,000 packets/s.
const MAX_ENTRIES: usize = 8192;
/// Maximum size of a packet that is compared, bytes: the maximum of IP. A longer frame, captured on the sending host
/// (TSO), never counts as a duplicate.
const MAX_PACKET_BYTES: usize = 66_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ttl: u8, id: u16, body: &[u8]) -> Vec<u8> {
        let mut p = vec![0x45, 0, 0, (28 + body.len()) as u8, (id >> 8) as u8, id as u8, 0, 0, ttl, 17, ttl, 0];
        p.extend([10, 0, 0, 1, 10, 0, 0, 2, 0x13, 0xc4, 0x13, 0xc4, 0, (8 + body.len()) as u8, ttl, ttl]);
        p.extend_from_slice(body);
        p
    }

    fn check(d: &mut DuplicateFilter, ms: i64, p: &[u8]) -> DuplicateCheck {
        d.check(Timestamp::from_micros(ms * 1000), DuplicateCandidate { packet: p, transport: Some((17, 20)) })
    }

    #[test]
    fn duplicate_with_other_ttl_and_checksum_is_found_within_50_ms() {
        let mut d = DuplicateFilter::new();
        assert_eq!(check(&mut d, 0, &packet(64, 1, b"x")), DuplicateCheck::First);
        assert_eq!(check(&mut d, 50, &packet(63, 1, b"x")), DuplicateCheck::Copy);
        // A packet 51 ms after the first packet is new, because a duplicate follows within 50 ms.
        assert_eq!(check(&mut d, 51, &packet(63, 1, b"x")), DuplicateCheck::First);
    }

    #[test]
    fn packet_with_other_ip_id_or_byte_is_not_a_duplicate() {
        let mut d = DuplicateFilter::new();
        assert_eq!(check(&mut d, 0, &packet(64, 1, b"x")), DuplicateCheck::First);
        assert_eq!(check(&mut d, 1, &packet(64, 2, b"x")), DuplicateCheck::First);
        assert_eq!(check(&mut d, 2, &packet(64, 1, b"y")), DuplicateCheck::First);
    }

    #[test]
    fn ring_remembers_recent_packets_after_many_wraps() {
        let mut d = DuplicateFilter::new();
        let body = vec![3_u8; 60_000];
        for i in 0..1000_u16 {
            assert_eq!(check(&mut d, 0, &packet(64, i, &body)), DuplicateCheck::First, "{i}");
            assert_eq!(check(&mut d, 0, &packet(63, i, &body)), DuplicateCheck::Copy, "{i}");
            if i > 20 {
                assert_eq!(check(&mut d, 0, &packet(63, i - 20, &body)), DuplicateCheck::Copy, "{i}");
            }
        }
        for i in 0..20_000_u16 {
            assert_eq!(check(&mut d, 0, &packet(64, i, b"short")), DuplicateCheck::First, "{i}");
        }
        assert!(d.entries.len() <= MAX_ENTRIES && d.by_hash.len() <= MAX_ENTRIES);
    }
}
