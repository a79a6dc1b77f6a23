//! Restores live calls after a restart from the spools that an earlier process left.
//!
//! [`find`] and [`find_pending`] return the legs. [`RestoreSequence`] returns the packets and decisions that the call
//! engine must handle again, in order of time. One file is open at a time. Only the end of a file and the spans in its
//! index are read (module `index`). A file without a usable index is read once from its beginning.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::SpoolError;
use super::blocks::{BlockReader, BlocksEnd, NextBlock};
use super::disk::{DiskSpool, DiskStore};
use super::format;
use super::index::{self, BlockKind, BlockSpan, IndexTracker, SpoolIndex};
use super::pending_leg::is_media;
use super::reader;
use super::rolling;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::decision::{Decision, TimedDecision};
use crate::call::event::{EARLY_WINDOW, LegId};
use crate::call::record::Side;
use crate::decode::UdpDatagram;
use crate::net::{Endpoint, Transport};
use crate::time::Timestamp;

/// A leg that an earlier process left in the spool. The call engine continues it after a restart.
#[derive(Clone, Debug)]
pub(crate) struct RestorableLeg {
    /// Name of the leg; empty if its file does not contain the name.
    pub(crate) name: String,
    /// Id of the conversation that the leg belongs to.
    pub(crate) conversation: String,
    /// Capture time at which the leg began.
    pub(crate) begun_at: Timestamp,
    /// Side that sent the leg's first captured request.
    pub(crate) first_requester: Side,
    /// Transport of the leg's signalling.
    pub(crate) transport: Transport,
    /// Time that must be added to the leg's capture times to get the wall clock, ns.
    pub(crate) wall_offset_ns: i64,
    /// Capture time of the newest media packet; `None` if there was none.
    pub(crate) last_media_at: Option<Timestamp>,
    /// Rule by which the leg first joined its conversation; `None` if it began the conversation.
    pub(crate) joined_by: Option<CorrelationRule>,
    /// One of the leg's first SIP messages; `None` if no message was found.
    pub(crate) message: Option<RestoredPacket>,
    location: LegLocation,
}

#[derive(Clone, Debug)]
enum LegLocation {
    /// The leg has a file. The complete blocks in it have `length` bytes.
    File { path: PathBuf, index: SpoolIndex, length: u64 },
    /// The leg has no file of its own, because it had no media. The bytes are its blocks from the rolling file.
    Memory(Vec<u8>),
}

/// A packet with the addresses and the payload that were captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RestoredPacket {
    at: Timestamp,
    src: Endpoint,
    dst: Endpoint,
    payload: Vec<u8>,
    wire_len: u32,
}

impl RestoredPacket {
    /// Returns the packet as the decoder would pass it to the call engine.
    pub(crate) fn datagram(&self) -> UdpDatagram<'_> {
        let Self { at, src, dst, payload, wire_len } = self;
        UdpDatagram { at: *at, src: *src, dst: *dst, payload, wire_len: *wire_len, interface: 0 }
    }
}

/// An entry (packet or decision) that the call engine must handle again after a restart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RestoreItem {
    /// A packet of the spool.
    Packet(RestoredPacket),
    /// A decision that the call engine cannot make again from the packets alone.
    Decided(Box<TimedDecision>),
}

impl RestorableLeg {
    /// Returns whether the leg has a file.
    pub(crate) const fn has_file(&self) -> bool {
        matches!(self.location, LegLocation::File { .. })
    }

    /// Returns whether the file contains the call engine's decision that the leg has ended.
    pub(crate) const fn has_end(&self) -> bool {
        matches!(self.location, LegLocation::File { index: SpoolIndex { has_end: true, .. }, .. })
    }

    /// Lets the new spool append to the file that an earlier process left for this leg, if there is one.
    pub(crate) fn resume(&self, spool: &mut DiskSpool, leg: LegId) {
        if let LegLocation::File { index, length, .. } = &self.location {
            spool.resume(leg, &self.name, index, *length);
        }
    }

    fn new(location: LegLocation, head: FirstBlocks) -> Self {
        let last_media_ns = match &location {
            LegLocation::File { index, .. } => index.last_media_ns,
            LegLocation::Memory(_) => 0,
        };
        let last_media_at = (last_media_ns > 0).then(|| Timestamp::from_nanos(last_media_ns));
        let found = Self {
            name: String::new(),
            conversation: head.joined.unwrap_or_default(),
            begun_at: Timestamp::EPOCH,
            first_requester: Side::Caller,
            transport: Transport::Udp,
            wall_offset_ns: 0,
            last_media_at,
            joined_by: None,
            message: head.message,
            location,
        };
        match head.begin {
            Some(TimedDecision { at_ns, decision }) => found.with_begin(Timestamp::from_nanos(at_ns), decision),
            None => found,
        }
    }

    fn with_begin(mut self, at: Timestamp, decision: Decision) -> Self {
        if let Decision::Begin { leg, conversation, first_requester, transport, wall_offset_ns, by, .. } = decision {
            (self.name, self.begun_at, self.joined_by) = (leg, at, by);
            self.first_requester = first_requester;
            (self.transport, self.wall_offset_ns) = (transport, wall_offset_ns);
            if self.conversation.is_empty() {
                self.conversation = conversation;
            }
        }
        self
    }
}

/// Reads the identity and the index (list of blocks to be read) of a leg from its file.
///
/// # Errors
/// Fails if the file cannot be read, is not a spool, or was written by a newer version.
pub(crate) fn find(path: &Path) -> Result<RestorableLeg, SpoolError> {
    let failed = |source| SpoolError::Io { path: path.display().to_string(), source };
    let mut file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let tracker = match index_from_tail(&mut file, bytes).map_err(failed)? {
        Some(tracker) => tracker,
        None => {
            check_header(&mut file, path)?;
            index_whole_file(&mut file).map_err(failed)?
        }
    };
    let IndexTracker { index, length, .. } = tracker;
    let first = index.spans.first().copied().filter(|span| span.offset < FIRST_BYTES);
    let mut head = FirstBlocks::default();
    if let Some(BlockSpan { offset, bytes, .. }) = first {
        check_header(&mut file, path)?;
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut blocks = BlockReader::new((&mut file).take(bytes.min(FIRST_BYTES)), offset);
        while let NextBlock::Block(_, block) = blocks.next().map_err(failed)? {
            head.add(block, path)?;
        }
    }
    // The first blocks of the file may name an older conversation. The index contains the conversation of the newest
    // `Join` decision, so that is used.
    head.joined = Some(index.conversation.clone()).filter(|id| !id.is_empty());
    Ok(RestorableLeg::new(LegLocation::File { path: path.to_owned(), index, length }, head))
}

/// Reads the legs with blocks in the rolling file (signalling of legs without media).
///
/// # Errors
/// Fails if the file exists and cannot be read.
pub(crate) fn find_pending(store: &DiskStore) -> Result<Vec<RestorableLeg>, SpoolError> {
    let path = rolling::path(store.dir());
    let failed = |source| SpoolError::Io { path: path.display().to_string(), source };
    let mut found = Vec::new();
    for (_, blocks) in rolling::read(store.dir()).map_err(failed)? {
        let mut head = FirstBlocks::default();
        let mut walk = BlockReader::new(blocks.as_slice(), 0);
        while let NextBlock::Block(_, block) = walk.next().map_err(failed)? {
            head.add(block, &path)?;
        }
        found.push(RestorableLeg::new(LegLocation::Memory(blocks), head));
    }
    Ok(found)
}

/// Facts that identify a leg, read from the first blocks of its file.
#[derive(Default)]
struct FirstBlocks {
    begin: Option<TimedDecision>,
    joined: Option<String>,
    message: Option<RestoredPacket>,
}

impl FirstBlocks {
    fn add(&mut self, block: &[u8], path: &Path) -> Result<(), SpoolError> {
        match read_block(block, &path.display())? {
            Some(RestoreItem::Decided(decided)) => match &decided.decision {
                Decision::Begin { .. } if self.begin.is_none() => self.begin = Some(*decided),
                Decision::Join(assignment) => self.joined = Some(assignment.conversation.clone()),
                _ => {}
            },
            Some(RestoreItem::Packet(packet)) if self.message.is_none() && !is_media(&packet.payload) => {
                self.message = Some(packet);
            }
            _ => {}
        }
        Ok(())
    }
}

fn check_header(file: &mut File, path: &Path) -> Result<(), SpoolError> {
    let failed = |source| SpoolError::Io { path: path.display().to_string(), source };
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut head = Vec::new();
    file.take(12).read_to_end(&mut head).map_err(failed)?;
    let expected = [format::SECTION.to_le_bytes(), format::BYTE_ORDER.to_le_bytes()];
    // A crash may leave a file empty or with fewer than four bytes. That is no error.
    let begun = head.len().min(4);
    if head[..begun] == expected[0][..begun] && head.get(8..12).is_none_or(|b| b == expected[1]) {
        return Ok(());
    }
    Err(SpoolError::NotASpool { path: path.display().to_string() })
}

/// Reads the newest index (list of blocks that a restart reads) of a spool file, and adds the blocks after it to the
/// index. Returns `None` if there is no index block near the end of the file.
fn index_from_tail(file: &mut File, bytes: u64) -> io::Result<Option<IndexTracker>> {
    for window in TAIL_BYTES {
        let from = bytes.saturating_sub(window);
        file.seek(SeekFrom::Start(from))?;
        let mut end = Vec::new();
        file.take(window).read_to_end(&mut end)?;
        for at in memchr::memmem::rfind_iter(&end, &index::MAGIC) {
            if let Some(at) = at.checked_sub(INDEX_MAGIC_AT)
                && let Some(tracker) = continue_index(&end[at..], from + at as u64)?
            {
                return Ok(Some(tracker));
            }
        }
        if from == 0 {
            break;
        }
    }
    Ok(None)
}

/// Parses an index (list of blocks that a restart reads) at the beginning of `bytes`, and extends it by the blocks
/// after it. `offset` is the file offset of `bytes`. Returns `None` if there is no index, or if no valid blocks follow
/// it.
fn continue_index(bytes: &[u8], offset: u64) -> io::Result<Option<IndexTracker>> {
    let mut blocks = BlockReader::new(bytes, offset);
    let NextBlock::Block(_, first) = blocks.next()? else { return Ok(None) };
    let Some(index) = SpoolIndex::parse(first, offset) else { return Ok(None) };
    let mut tracker = IndexTracker::resume(index, blocks.offset());
    // The payload of a packet may look like an index, but then no valid blocks follow it. So these blocks are checked,
    // too.
    Ok((index_blocks(&mut blocks, &mut tracker)? != BlocksEnd::Broken).then_some(tracker))
}

/// Builds the index (list of blocks that a restart reads) of a spool file that contains none.
fn index_whole_file(file: &mut File) -> io::Result<IndexTracker> {
    file.seek(SeekFrom::Start(0))?;
    let mut tracker = IndexTracker::default();
    index_blocks(&mut BlockReader::new(file, 0), &mut tracker)?;
    Ok(tracker)
}

fn index_blocks<R: io::Read>(blocks: &mut BlockReader<R>, tracker: &mut IndexTracker) -> io::Result<BlocksEnd> {
    loop {
        match blocks.next()? {
            NextBlock::End(ending) => return Ok(ending),
            NextBlock::Block(_, block) => {
                let (kind, at_ns) = classify_block(block);
                if kind == BlockKind::Decision
                    && let Ok(Some(RestoreItem::Decided(decided))) = read_block(block, &"")
                {
                    tracker.index.apply_decision(&decided.decision);
                }
                tracker.add_block(kind, at_ns, block.len());
            }
        }
    }
}

/// Returns the kind of a block and its timestamp in ns.
fn classify_block(block: &[u8]) -> (BlockKind, i64) {
    let body = block.get(8..block.len().saturating_sub(4)).unwrap_or_default();
    match block.first_chunk().map(|b| u32::from_le_bytes(*b)) {
        Some(format::ENHANCED_PACKET) => {
            let Some((head, payload)) = reader::parse_packet(body) else { return (BlockKind::Other, 0) };
            let at_ns = head.at.as_nanos();
            let payload = body.get(payload).unwrap_or_default();
            match is_media(payload) {
                false => (BlockKind::Signalling, at_ns),
                true if payload.len() < head.wire_len as usize => (BlockKind::CutMedia, at_ns),
                true => (BlockKind::Media, at_ns),
            }
        }
        Some(format::CUSTOM) => match reader::decision_json(body) {
            // The block is a decision of the call engine. The timestamp is the first member of its JSON, so it can be
            // parsed without the rest.
            Some(json) => (BlockKind::Decision, serde_json::from_slice::<DecisionTime>(json).map_or(0, |at| at.at_ns)),
            None => (BlockKind::Other, 0),
        },
        _ => (BlockKind::Other, 0),
    }
}

#[derive(serde::Deserialize)]
struct DecisionTime {
    at_ns: i64,
}

/// Parses a block. Returns `None` if it is neither a packet nor a known decision of the call engine.
fn read_block(block: &[u8], path: &dyn std::fmt::Display) -> Result<Option<RestoreItem>, SpoolError> {
    let body = block.get(8..block.len().saturating_sub(4)).unwrap_or_default();
    match block.first_chunk().map(|b| u32::from_le_bytes(*b)) {
        Some(format::ENHANCED_PACKET) => {
            let packet = reader::parse_packet(body).map(|(head, payload)| RestoredPacket {
                at: head.at,
                src: head.src,
                dst: head.dst,
                payload: body.get(payload).unwrap_or_default().to_vec(),
                wire_len: head.wire_len,
            });
            Ok(packet.map(RestoreItem::Packet))
        }
        Some(format::CUSTOM) => {
            let Some(json) = reader::decision_json(body) else { return Ok(None) };
            Ok(reader::parse_decision(json, path)?.map(|decided| RestoreItem::Decided(Box::new(decided))))
        }
        _ => Ok(None),
    }
}

/// Reads the entries of several legs that the call engine must handle again, in order of time.
#[derive(Debug)]
pub(crate) struct RestoreSequence<'a> {
    legs: &'a [RestorableLeg],
    /// Spans (ranges of blocks to be read) that were not read yet, sorted by the earliest time that an entry in them
    /// can have.
    unread: BinaryHeap<Reverse<UnreadSpan>>,
    /// Entries that were read but not returned yet, sorted by time.
    queue: BinaryHeap<Reverse<QueuedItem>>,
    seen: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnreadSpan {
    at_ns: i64,
    leg: usize,
    offset: u64,
    end: u64,
    wants_next_packet: bool,
}

#[derive(Debug)]
struct QueuedItem {
    /// Sort key of an entry: timestamp in ns, the call engine's decisions before packets, then the order in which
    /// entries were read.
    order: (i64, u8, u64),
    leg: usize,
    item: RestoreItem,
}

impl PartialEq for QueuedItem {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for QueuedItem {}

impl PartialOrd for QueuedItem {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QueuedItem {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl<'a> RestoreSequence<'a> {
    /// Creates the sequence of the entries of these legs. Each returned entry names its leg by the index into `legs`.
    pub(crate) fn new(legs: &'a [RestorableLeg]) -> Self {
        let mut this = Self { legs, unread: BinaryHeap::new(), queue: BinaryHeap::new(), seen: 0 };
        for (leg, found) in legs.iter().enumerate() {
            match &found.location {
                LegLocation::File { index, .. } => {
                    let unread = |span: &BlockSpan| UnreadSpan {
                        at_ns: span.at_ns,
                        leg,
                        offset: span.offset,
                        end: span.offset + span.bytes,
                        wants_next_packet: true,
                    };
                    this.unread.extend(index.spans.iter().map(|span| Reverse(unread(span))));
                }
                LegLocation::Memory(blocks) => {
                    let mut walk = BlockReader::new(blocks.as_slice(), 0);
                    while let Ok(NextBlock::Block(_, block)) = walk.next() {
                        this.enqueue(leg, block);
                    }
                }
            }
        }
        this
    }

    /// Returns the next entry and the index of its leg.
    ///
    /// # Errors
    /// Fails with the index of a leg if its file cannot be read. After that, this function still returns the
    /// entries of the other legs.
    pub(crate) fn next_item(&mut self) -> Result<Option<(usize, RestoreItem)>, (usize, SpoolError)> {
        while let Some(Reverse(next)) = self.unread.peek().copied()
            && self.queue.peek().is_none_or(|Reverse(first)| next.at_ns <= first.order.0)
        {
            self.unread.pop();
            if let Err(source) = self.read(next) {
                let path = match &self.legs[next.leg].location {
                    LegLocation::File { path, .. } => path.display().to_string(),
                    LegLocation::Memory(_) => String::new(),
                };
                return Err((next.leg, SpoolError::Io { path, source }));
            }
        }
        Ok(self.queue.pop().map(|Reverse(QueuedItem { leg, item, .. })| (leg, item)))
    }

    /// Reads a span (range of blocks), or the first [`READ_BYTES`] of it.
    fn read(&mut self, unread: UnreadSpan) -> io::Result<()> {
        let Some(RestorableLeg { location: LegLocation::File { path, .. }, .. }) = self.legs.get(unread.leg) else {
            return Ok(());
        };
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(unread.offset))?;
        let mut blocks = BlockReader::new(file.take(unread.end - unread.offset), unread.offset);
        let (mut wants_next_packet, mut newest) = (unread.wants_next_packet, unread.at_ns);
        while blocks.offset() - unread.offset < READ_BYTES {
            let NextBlock::Block(_, block) = blocks.next()? else { return Ok(()) };
            let (kind, at_ns) = classify_block(block);
            newest = newest.max(at_ns);
            let wanted = match kind {
                BlockKind::Signalling | BlockKind::CutMedia | BlockKind::Decision => true,
                BlockKind::Media => wants_next_packet,
                BlockKind::Other => continue,
            };
            wants_next_packet = kind == BlockKind::Decision || wants_next_packet && kind == BlockKind::Signalling;
            if wanted {
                self.enqueue(unread.leg, block);
            }
        }
        // In a spool, timestamps are out of order by at most `EARLY_WINDOW`. So the unread rest of the span (range of
        // blocks) has no entry that is earlier than the newest entry read minus this window.
        let at_ns = newest.saturating_sub(EARLY_WINDOW.as_nanos() as i64).max(unread.at_ns);
        self.unread.push(Reverse(UnreadSpan { at_ns, offset: blocks.offset(), wants_next_packet, ..unread }));
        Ok(())
    }

    fn enqueue(&mut self, leg: usize, block: &[u8]) {
        let Ok(Some(item)) = read_block(block, &"") else { return };
        let (at_ns, rank) = match &item {
            RestoreItem::Packet(packet) => (packet.at.as_nanos(), 1),
            RestoreItem::Decided(decided) if is_needed(&decided.decision) => (decided.at_ns, 0),
            RestoreItem::Decided(_) => return,
        };
        self.queue.push(Reverse(QueuedItem { order: (at_ns, rank, self.seen), leg, item }));
        self.seen += 1;
    }
}

/// Returns whether a restart needs this decision, because the call engine cannot derive it from the other entries of
/// the spool.
const fn is_needed(decision: &Decision) -> bool {
    use Decision::{
        Clock, Conversation, FurtherLine, Join, Outline, Pause, Refer, Relate, Restart, Resume, Stream, StreamOrigin,
        Superseded, VoiceBlocks,
    };
    matches!(
        decision,
        Pause
            | Resume
            | Join(_)
            | Conversation(_)
            | Refer(_)
            | Outline(_)
            | VoiceBlocks { .. }
            | Relate { .. }
            | Stream { .. }
            | StreamOrigin { .. }
            | FurtherLine { .. }
            | Superseded { .. }
            | Restart { .. }
            | Clock { .. }
    )
}

/// Offset within an index block, bytes, of the number that marks it as an index.
const INDEX_MAGIC_AT: usize = 12;
/// Numbers of bytes at the end of a file in which the newest index is searched for. They are tried in this order. The
/// first is an index interval plus a chunk; the last is twice the longest interval.
const TAIL_BYTES: [u64; 3] = [52 * 1024, 256 * 1024, 2 * 1024 * 1024];
/// Maximum number of bytes at the beginning of a file that are read to identify the leg.
const FIRST_BYTES: u64 = 128 * 1024;
/// Number of bytes of a long span (range of blocks) that are read at once.
const READ_BYTES: u64 = 256 * 1024;

#[cfg(test)]
mod tests;
