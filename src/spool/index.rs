//! Index of the blocks in a leg's file that a restart must read. These are all blocks except most RTP packets.
//!
//! An hour of a call is 80 MiB, but a restart needs only some 20 KiB of it. It needs the signalling, and the decisions
//! of the call engine. It also needs the packet after each decision, which triggered the decision, and packets with
//! only their header kept (DTMF events).
//!
//! Consecutive blocks that are needed form a *span*. About every [`INDEX_INTERVAL_BYTES`] the list of all spans so far
//! is written into the file, as a custom block with [`MAGIC`]. A restart reads the last index in the file, and then
//! only the spans. The index is checked against the file. A file without an index is read from its beginning.

use super::format::{self, CUSTOM_OVERHEAD, padded};
use crate::call::decision::{Decision, LegAssignment};

/// A span: a range of consecutive blocks in a file that a restart must read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockSpan {
    /// Earliest capture time in the span (range of blocks), ns since the Unix epoch.
    pub(crate) at_ns: i64,
    /// File offset of the first byte of the span (range of blocks).
    pub(crate) offset: u64,
    /// Length of the span (range of blocks) in bytes.
    pub(crate) bytes: u64,
}

impl BlockSpan {
    const fn end(&self) -> u64 {
        self.offset + self.bytes
    }
}

/// Index of a leg's file: the blocks that a restart must read. It describes the file from its beginning to some offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpoolIndex {
    /// Spans of blocks that a restart must read, in file order.
    pub(crate) spans: Vec<BlockSpan>,
    /// Capture time of the newest media packet, ns since the Unix epoch; 0 if there is none.
    pub(crate) last_media_ns: i64,
    /// Id of the conversation that the leg belongs to.
    pub(crate) conversation: String,
    /// Whether the file has the call engine's decision `End`, i.e. the leg has ended.
    pub(crate) has_end: bool,
    /// Whether the last block was a decision of the call engine. If so, the next packet is added to the index, because
    /// a restart must read it, too.
    wants_next_packet: bool,
}

/// Kind of a block, which decides whether a restart reads the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// A packet that is not media, e.g. SIP. A restart must read it.
    Signalling,
    /// A media packet that is not stored completely, e.g. only the header of a packet with DTMF. A restart reads it.
    CutMedia,
    /// A decision of the call engine. A restart must read it, and also the next packet, which triggered the decision.
    Decision,
    /// A media packet. A restart must read it only if it directly follows a decision of the call engine.
    Media,
    /// A file header or an index block. A restart does not read it.
    Other,
}

/// Keeps the index (list of blocks that a restart reads) of a file up to date while blocks are written or read.
#[derive(Clone, Debug, Default)]
pub(super) struct IndexTracker {
    pub(super) index: SpoolIndex,
    /// Length of the file in bytes, including blocks that are still to be written.
    pub(super) length: u64,
    /// File offset at which the newest index (list of blocks that a restart reads) in the file ends.
    indexed: u64,
}

impl IndexTracker {
    /// Continues the index (list of blocks that a restart reads) of an existing file that has `length` bytes.
    pub(super) fn resume(index: SpoolIndex, length: u64) -> Self {
        Self { index, length, indexed: 0 }
    }

    /// Adds a block of `bytes` bytes with capture time `at_ns` to the index.
    pub(super) fn add_block(&mut self, kind: BlockKind, at_ns: i64, bytes: usize) {
        let span = BlockSpan { at_ns, offset: self.length, bytes: bytes as u64 };
        self.length += bytes as u64;
        match kind {
            BlockKind::Signalling => self.index.add(span),
            BlockKind::CutMedia => {
                self.index.last_media_ns = self.index.last_media_ns.max(at_ns);
                self.index.wants_next_packet = false;
                self.index.add(span);
            }
            BlockKind::Decision => {
                self.index.wants_next_packet = true;
                self.index.add(span);
            }
            BlockKind::Media => {
                self.index.last_media_ns = self.index.last_media_ns.max(at_ns);
                if std::mem::take(&mut self.index.wants_next_packet) {
                    self.index.add(span);
                }
            }
            BlockKind::Other => {}
        }
    }

    /// Appends the index (list of blocks that a restart reads) to `out`. `out` must be the newest part of the file,
    /// because the index contains its own file offset.
    pub(super) fn put_index(&mut self, out: &mut Vec<u8>) {
        let before = out.len();
        self.index.put(out, self.length);
        self.length += (out.len() - before) as u64;
        self.indexed = self.length;
    }

    /// Returns whether the file has grown so much since its last index (list of blocks that a restart reads) that
    /// another index is due.
    pub(super) fn is_due(&self) -> bool {
        let each = INDEX_INTERVAL_BYTES.max(self.index.spans.len() as u64 * SPAN_BYTES as u64 * MAX_INDEX_SHARE);
        self.length - self.indexed >= each
    }

    /// Returns whether blocks were added to the file since its last index (list of blocks that a restart reads).
    pub(super) fn is_stale(&self) -> bool {
        self.length > self.indexed
    }
}

impl SpoolIndex {
    /// Updates those facts about the leg that the index stores: its conversation, and whether it has ended.
    pub(super) fn apply_decision(&mut self, decision: &Decision) {
        match decision {
            Decision::Begin { conversation, .. } | Decision::Join(LegAssignment { conversation, .. }) => {
                self.conversation.clone_from(conversation);
            }
            Decision::End { .. } => self.has_end = true,
            _ => {}
        }
    }

    fn add(&mut self, span: BlockSpan) {
        if let Some(last) = self.spans.last_mut()
            && span.offset <= last.end() + MERGE_GAP_BYTES
        {
            last.at_ns = last.at_ns.min(span.at_ns);
            last.bytes = span.end() - last.offset;
            return;
        }
        if self.spans.len() >= MAX_SPANS {
            self.merge_nearest();
        }
        self.spans.push(span);
    }

    /// Merges the two neighbouring spans (ranges of blocks) with the smallest gap between them.
    fn merge_nearest(&mut self) {
        let gap = |pair: &[BlockSpan]| pair[1].offset - pair[0].end();
        let nearest = self.spans.windows(2).enumerate().min_by_key(|(_, pair)| gap(pair)).map(|(at, _)| at);
        if let Some(at) = nearest {
            let second = self.spans.remove(at + 1);
            let first = &mut self.spans[at];
            first.at_ns = first.at_ns.min(second.at_ns);
            first.bytes = second.end() - first.offset;
        }
    }

    /// Appends the index (list of blocks that a restart reads) as a custom block. `offset` is the file offset of this
    /// block.
    fn put(&self, out: &mut Vec<u8>, offset: u64) {
        let name = self.conversation.as_bytes();
        let name = name.get(..MAX_NAME).unwrap_or(name);
        let data = FIXED_BYTES + padded(name.len()) + self.spans.len() * SPAN_BYTES;
        let total = CUSTOM_OVERHEAD - 4 + data;
        let number = |out: &mut Vec<u8>, value: u32| out.extend(value.to_le_bytes());
        number(out, format::CUSTOM);
        number(out, total as u32);
        number(out, format::ENTERPRISE);
        out.extend(MAGIC);
        out.extend(offset.to_le_bytes());
        out.extend(self.last_media_ns.to_le_bytes());
        number(out, name.len() as u32);
        number(out, self.spans.len() as u32);
        number(out, (u32::from(self.has_end) * HAS_END) | (u32::from(self.wants_next_packet) * WANTS_NEXT_PACKET));
        out.extend_from_slice(name);
        out.resize(out.len() + padded(name.len()) - name.len(), 0);
        for span in &self.spans {
            out.extend(span.at_ns.to_le_bytes());
            out.extend(span.offset.to_le_bytes());
            out.extend(span.bytes.to_le_bytes());
        }
        number(out, total as u32);
    }

    /// Parses an index block. `offset` is the file offset at which the block begins. Returns `None` for any other
    /// block, or if the index contains another offset.
    pub(super) fn parse(block: &[u8], offset: u64) -> Option<Self> {
        let total = block.len();
        let is_whole =
            block.get(..4)? == format::CUSTOM.to_le_bytes() && block.get(4..8)? == (total as u32).to_le_bytes();
        if !is_whole || block.get(8..12)? != format::ENTERPRISE.to_le_bytes() || block.get(12..20)? != MAGIC {
            return None;
        }
        let data = block.get(20..total.checked_sub(4)?)?;
        let word = |at: usize| data.get(at..at + 4)?.first_chunk().map(|b| u32::from_le_bytes(*b) as usize);
        if *data.first_chunk::<8>()? != offset.to_le_bytes() {
            return None;
        }
        let last_media_ns = i64::from_le_bytes(*data.get(8..16)?.first_chunk()?);
        let (name_len, count, flags) = (word(16)?, word(20)?, word(24)? as u32);
        let name = data.get(FIXED_BYTES..FIXED_BYTES.checked_add(name_len)?)?;
        let spans = data.get(FIXED_BYTES + padded(name_len)..)?;
        if count > MAX_SPANS || spans.len() != count * SPAN_BYTES {
            return None;
        }
        let number = |b: &[u8], at: usize| b.get(at..at + 8)?.first_chunk().map(|b| u64::from_le_bytes(*b));
        let span = |b: &[u8]| {
            let (at_ns, from, bytes) = (number(b, 0)?.cast_signed(), number(b, 8)?, number(b, 16)?);
            (from.checked_add(bytes)? <= offset).then_some(BlockSpan { at_ns, offset: from, bytes })
        };
        let spans = spans.chunks_exact(SPAN_BYTES).map(span).collect::<Option<Vec<_>>>()?;
        let in_order = spans.windows(2).all(|pair| pair[0].end() <= pair[1].offset);
        let conversation = std::str::from_utf8(name).ok()?.to_owned();
        let (has_end, wants_next_packet) = (flags & HAS_END != 0, flags & WANTS_NEXT_PACKET != 0);
        in_order.then_some(Self { spans, last_media_ns, conversation, has_end, wants_next_packet })
    }
}

/// First bytes of a custom block that is an index (list of blocks that a restart reads). A decision of the call engine
/// begins with other bytes.
pub(super) const MAGIC: [u8; 8] = *b"callspix";
/// Length of the fixed fields of an index, bytes: offset, newest media, name length, number of spans (ranges of
/// blocks), flags.
const FIXED_BYTES: usize = 28;
const HAS_END: u32 = 1;
const WANTS_NEXT_PACKET: u32 = 2;
const SPAN_BYTES: usize = 24;
/// Number of bytes written to a leg's file between two indexes (lists of blocks that a restart reads). An index takes
/// some 200 bytes, about half a percent. A restart also reads the bytes after the last index, on average half an
/// interval.
const INDEX_INTERVAL_BYTES: u64 = 32 * 1024;
/// Minimum ratio of the bytes written between two indexes to the size of an index. An index with many spans (ranges of
/// blocks that a restart reads) is long, so it is written less often. It takes at most 1/32 of the file.
const MAX_INDEX_SHARE: u64 = 32;
/// Maximum gap between two spans (ranges of blocks that a restart reads) that are merged, bytes. Reading the five RTP
/// packets in such a gap costs less than another span in the index.
const MERGE_GAP_BYTES: u64 = 1_200;
/// Maximum number of spans (ranges of blocks that a restart reads) of a leg: enough for a SIP message every half minute
/// for eight hours. Above this number, the nearest spans are merged, so a restart reads some RTP that it does not need.
const MAX_SPANS: usize = 1_024;
/// Maximum length of a conversation id in an index, bytes. The call engine's ids have 33 characters.
const MAX_NAME: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_read_only_at_the_offset_where_it_was_written() {
        let mut tracker = IndexTracker::default();
        tracker.index.conversation = "20261123T045659Z-0011223344556677".to_owned();
        let mut file = vec![0; 5_000];
        tracker.add_block(BlockKind::Other, 0, 1_000);
        tracker.add_block(BlockKind::Decision, 70, 200);
        tracker.add_block(BlockKind::Media, 50, 232);
        tracker.add_block(BlockKind::Media, 90, 3_368);
        tracker.add_block(BlockKind::Signalling, 95, 200);
        tracker.put_index(&mut file);
        let index = SpoolIndex::parse(&file[5_000..], 5_000).expect("just written");
        assert_eq!(index, tracker.index);
        let spans =
            [BlockSpan { at_ns: 50, offset: 1_000, bytes: 432 }, BlockSpan { at_ns: 95, offset: 4_800, bytes: 200 }];
        assert_eq!((index.spans.as_slice(), index.last_media_ns), (&spans[..], 90));
        assert_eq!(SpoolIndex::parse(&file[5_000..], 5_004), None, "copied to another offset");
        for at in 5_000..file.len() {
            let mut bytes = file[5_000..].to_vec();
            bytes[at - 5_000] ^= 0x81;
            let _ = SpoolIndex::parse(&bytes, 5_000); // the result may be an index or `None`, but no panic
            let _ = SpoolIndex::parse(&file[5_000..at], 5_000);
        }
    }

    #[test]
    fn spans_are_bounded_and_cover_every_block_a_restart_reads() {
        let mut tracker = IndexTracker::default();
        let mut noted = Vec::new();
        for n in 0..3_000_u64 {
            noted.push(tracker.length);
            tracker.add_block(BlockKind::Signalling, n as i64, 100);
            tracker.add_block(BlockKind::Media, n as i64, if n % 3 == 0 { 20_000 } else { 2_000 });
        }
        let spans = &tracker.index.spans;
        assert_eq!(spans.len(), MAX_SPANS);
        assert!(noted.iter().all(|at| spans.iter().any(|s| s.offset <= *at && at + 100 <= s.end())));
        // Spans (ranges of blocks that a restart reads) with small gaps between them were merged first. So a restart
        // reads few bytes that it does not need.
        let read: u64 = spans.iter().map(|s| s.bytes).sum();
        assert!(read < 3_000 * 2_100, "{read}");
    }
}
