//! Puts the segments of one TCP stream in order (RFC 9293 section 3.4).
//!
//! Invariants:
//! - Bytes are output in the order of their sequence numbers, each at most once.
//! - Where segments overlap, the bytes of the segment that was received first are output.
//! - A *hole* is a range of bytes that was not captured, while later bytes were.
//! - Segments behind a hole never overlap, and their size is limited by [`MAX_WAITING_BYTES`].
//! - Sequence numbers are extended to 64 bits, so a wrap needs no special case.

use std::collections::BTreeMap;

use crate::decode::counters::TcpStreamCounters;
use crate::time::Timestamp;

/// The bytes of a segment with their sequence number and capture time.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentBytes<'a> {
    pub(super) at: Timestamp,
    pub(super) seq: u32,
    pub(super) bytes: &'a [u8],
    /// Number of bytes after `bytes` that the capture truncated.
    pub(super) missing: usize,
}

/// An item that [`SegmentReorderer`] outputs: bytes or a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderedPiece<'a> {
    /// Bytes that are next in order, with the capture time of their segment.
    Data(Timestamp, &'a [u8]),
    /// Bytes are lost here. The value is the capture time at which the loss became known.
    Gap(Timestamp),
}

/// Puts the segments of one TCP stream in the order of their sequence numbers.
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
    /// Creates a reorderer that expects the byte with this sequence number next.
    pub(super) fn starting_at(seq: u32) -> Self {
        // Extended numbers start above 2^32. So a segment from before the first captured segment has a positive number,
        // too.
        Self { next: (1 << 32) | u64::from(seq), waiting: BTreeMap::new(), waiting_bytes: 0 }
    }

    /// Adds a segment and outputs all bytes that are in order now.
    pub(super) fn push(
        &mut self,
        segment: SegmentBytes<'_>,
        c: &mut TcpStreamCounters,
        out: &mut dyn FnMut(OrderedPiece<'_>),
    ) {
        let start = self.extend(segment.seq);
        let end = start + segment.bytes.len() as u64;
        if start.abs_diff(self.next) > MAX_WINDOW {
            // The sequence number is farther from the expected number than a TCP window allows. So the segment belongs
            // to another connection on the same ports, or too many bytes before it were not captured. Reordering starts
            // again at this segment.
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
            self.skip_missing(end, segment.missing, segment.at, c, out);
            self.drain(c, out);
        }
    }

    /// Ends the wait for the bytes in a hole, which were not captured. Treats these bytes as lost, and continues with
    /// the first segment after the hole.
    pub(super) fn give_up_hole(&mut self, c: &mut TcpStreamCounters, out: &mut dyn FnMut(OrderedPiece<'_>)) {
        let Some((start, first)) = self.waiting.first_key_value() else { return };
        c.gaps += 1;
        out(OrderedPiece::Gap(first.at));
        self.next = *start;
        self.drain(c, out);
    }

    /// Returns the capture time of the first segment after a hole (bytes that were not captured); `None` if there is no
    /// hole.
    pub(super) fn hole_since(&self) -> Option<Timestamp> {
        self.waiting.first_key_value().map(|(_, first)| first.at)
    }

    /// Returns whether the receiver has acknowledged bytes in the hole (bytes that were not captured). Then it received
    /// them, and only the mirror lost them.
    pub(super) fn is_confirmed_beyond(&self, ack: u32) -> bool {
        let ack = self.extend(ack);
        ack > self.next && ack - self.next <= MAX_WINDOW
    }

    /// Returns whether `seq` is the next expected sequence number.
    pub(super) fn is_next(&self, seq: u32) -> bool {
        self.next as u32 == seq
    }

    /// Returns whether `seq` is so close to the expected sequence number that it can belong to the connection.
    pub(super) fn is_near(&self, seq: u32) -> bool {
        self.extend(seq).abs_diff(self.next) <= MAX_WINDOW
    }

    /// Returns the memory that waiting segments take, bytes.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(super) fn drop_waiting(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    /// Returns the 64-bit number for `seq` that is nearest to the next expected number.
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

    /// Skips the bytes that the capture truncated from a segment. The capture will not contain them later, so waiting
    /// is useless.
    fn skip_missing(
        &mut self,
        end: u64,
        missing: usize,
        at: Timestamp,
        c: &mut TcpStreamCounters,
        out: &mut dyn FnMut(OrderedPiece<'_>),
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
            self.skip_missing(start + waiting.bytes.len() as u64, waiting.missing, waiting.at, c, out);
        }
    }

    /// Stores only those bytes of a segment that no stored segment contains yet.
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

/// Maximum distance from the expected sequence number, bytes. TCP windows can reach 1 GiB (RFC 7323), but the windows
/// of SIP connections are smaller than this maximum.
const MAX_WINDOW: u64 = 4 << 20;
/// Maximum number of bytes that wait after a hole (bytes that were not captured): a few SIP messages. More bytes are a
/// bulk transfer or an attack.
const MAX_WAITING_BYTES: usize = 256 * 1024;
/// Estimated memory, bytes, that a waiting segment takes in addition to its content.
const ENTRY_OVERHEAD: usize = 64;

#[cfg(test)]
mod tests;
