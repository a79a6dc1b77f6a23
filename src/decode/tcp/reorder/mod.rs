//! One direction of a TCP connection put in order (RFC 9293 section 3.4).
//!
//! Invariants: bytes come out in the order of their sequence numbers, each at most once, and where segments overlap
//! the first one seen wins; what waits behind a hole never overlaps and is bounded by [`MAX_WAITING_BYTES`]. Sequence
//! numbers are extended to 64 bits, so that their wrap needs no care.

use std::collections::BTreeMap;

use crate::decode::counters::TcpStreamCounters;
use crate::time::Timestamp;

/// A segment's bytes and where they belong.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentBytes<'a> {
    pub(super) at: Timestamp,
    pub(super) seq: u32,
    pub(super) bytes: &'a [u8],
    /// How many more were on the wire and not captured.
    pub(super) missing: usize,
}

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderedPiece<'a> {
    /// The next bytes, and when their segment was captured.
    Data(Timestamp, &'a [u8]),
    /// Bytes are missing for good.
    Gap(Timestamp),
}

/// The order of one direction.
#[derive(Debug)]
pub(super) struct SegmentReorderer {
    next: u64,
    waiting: BTreeMap<u64, WaitingSegment>,
    waiting_bytes: usize,
}

#[derive(Debug)]
struct WaitingSegment {
    at: Timestamp,
    bytes: Vec<u8>,
    missing: usize,
}

impl SegmentReorderer {
    /// The next byte expected is this one.
    pub(super) fn starting_at(seq: u32) -> Self {
        // One whole turn of the numbers is below, for segments from before.
        Self { next: (1 << 32) | u64::from(seq), waiting: BTreeMap::new(), waiting_bytes: 0 }
    }

    /// Takes a segment; what is in order now goes out.
    pub(super) fn push(
        &mut self,
        segment: SegmentBytes<'_>,
        c: &mut TcpStreamCounters,
        out: &mut dyn FnMut(OrderedPiece<'_>),
    ) {
        let start = self.extend(segment.seq);
        let end = start + segment.bytes.len() as u64;
        if start.abs_diff(self.next) > MAX_WINDOW {
            // Another connection on the same ports, or a hole larger than any window: begin anew here.
            c.gaps += 1;
            self.drop_waiting();
            self.next = start;
            out(OrderedPiece::Gap(segment.at));
        }
        c.retransmitted += u64::from(start < self.next);
        if start > self.next {
            c.out_of_order += 1;
            self.keep(start, &segment);
            if self.waiting_bytes > MAX_WAITING_BYTES {
                self.give_up_hole(c, out);
            }
        } else if end + segment.missing as u64 > self.next {
            let skip = (self.next - start) as usize;
            self.hand_out(segment.at, segment.bytes.get(skip..).unwrap_or_default(), out);
            self.skip_missing(end, segment.missing, segment.at, (c, out));
            self.drain(c, out);
        }
    }

    /// The bytes before the next that wait are lost: goes on behind them.
    pub(super) fn give_up_hole(&mut self, c: &mut TcpStreamCounters, out: &mut dyn FnMut(OrderedPiece<'_>)) {
        let Some((start, first)) = self.waiting.first_key_value() else { return };
        c.gaps += 1;
        out(OrderedPiece::Gap(first.at));
        self.next = *start;
        self.drain(c, out);
    }

    /// Since when something waits behind a hole.
    pub(super) fn hole_since(&self) -> Option<Timestamp> {
        self.waiting.first_key_value().map(|(_, first)| first.at)
    }

    /// Whether the receiver confirmed bytes that we have not: they were lost on the way to us.
    pub(super) fn is_confirmed_beyond(&self, ack: u32) -> bool {
        let ack = self.extend(ack);
        ack > self.next && ack - self.next <= MAX_WINDOW
    }

    /// Whether this number is the next one.
    pub(super) fn is_next(&self, seq: u32) -> bool {
        self.next as u32 == seq
    }

    /// Whether this number can belong to the connection.
    pub(super) fn is_near(&self, seq: u32) -> bool {
        self.extend(seq).abs_diff(self.next) <= MAX_WINDOW
    }

    /// How much waits.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(super) fn drop_waiting(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    /// The 64-bit number nearest to the next one.
    fn extend(&self, seq: u32) -> u64 {
        let distance = seq.wrapping_sub(self.next as u32) as i32;
        self.next.saturating_add_signed(i64::from(distance))
    }

    fn hand_out(&mut self, at: Timestamp, bytes: &[u8], out: &mut dyn FnMut(OrderedPiece<'_>)) {
        if !bytes.is_empty() {
            self.next += bytes.len() as u64;
            out(OrderedPiece::Data(at, bytes));
        }
    }

    /// A segment that the capture cut leaves a hole that nothing will fill, unless a whole copy comes first.
    fn skip_missing(
        &mut self,
        end: u64,
        missing: usize,
        at: Timestamp,
        (c, out): (&mut TcpStreamCounters, &mut dyn FnMut(OrderedPiece<'_>)),
    ) {
        if missing > 0 && self.next <= end {
            self.next = end + missing as u64;
            c.gaps += 1;
            out(OrderedPiece::Gap(at));
        }
    }

    fn drain(&mut self, c: &mut TcpStreamCounters, out: &mut dyn FnMut(OrderedPiece<'_>)) {
        while let Some(entry) = self.waiting.first_entry() {
            if *entry.key() > self.next {
                return;
            }
            let (start, waiting) = entry.remove_entry();
            self.waiting_bytes -= waiting.bytes.len() + ENTRY_OVERHEAD;
            let skip = (self.next - start) as usize;
            self.hand_out(waiting.at, waiting.bytes.get(skip..).unwrap_or_default(), out);
            self.skip_missing(start + waiting.bytes.len() as u64, waiting.missing, waiting.at, (c, out));
        }
    }

    /// Keeps those bytes of the segment that nothing that waits has already.
    fn keep(&mut self, mut start: u64, segment: &SegmentBytes<'_>) {
        let mut bytes = segment.bytes;
        if let Some((before, waiting)) = self.waiting.range(..=start).next_back() {
            let covered = (before + waiting.bytes.len() as u64).saturating_sub(start) as usize;
            bytes = bytes.get(covered..).unwrap_or_default();
            start += covered as u64;
        }
        while !bytes.is_empty() {
            let next = self.waiting.range(start..).next().map(|(at, waiting)| (*at, waiting.bytes.len()));
            let free = next.map_or(bytes.len(), |(at, _)| bytes.len().min((at - start) as usize));
            if free > 0 {
                let is_last = free == bytes.len();
                let missing = if is_last { segment.missing } else { 0 };
                self.waiting_bytes += free + ENTRY_OVERHEAD;
                self.waiting.insert(start, WaitingSegment { at: segment.at, bytes: bytes[..free].to_vec(), missing });
            }
            let covered = free + next.map_or(0, |(_, len)| len);
            bytes = bytes.get(covered..).unwrap_or_default();
            start += covered as u64;
        }
    }
}

/// Without window scaling a window is 64 KiB, with it 1 GiB at most (RFC 7323); SIP never has more than this in flight.
const MAX_WINDOW: u64 = 4 << 20;
/// Behind a hole in SIP wait a few messages; a longer wait is a bulk transfer or an attack.
const MAX_WAITING_BYTES: usize = 256 * 1024;
/// What a waiting segment costs besides its bytes.
const ENTRY_OVERHEAD: usize = 64;

#[cfg(test)]
mod tests;
