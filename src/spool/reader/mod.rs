//! Reads a spool: packets and the call engine's decisions in order of time, in constant memory.
//!
//! A payload is not copied: it is returned from the buffer into which it was read (module `input`).
//!
//! The contents of a spool are not trusted. An incomplete block at the end, a *torn tail*, is ignored and reported
//! (`SpoolReader::torn_tail`). After a damaged length, nothing more is read. Unknown blocks are skipped. An error is
//! returned only for decisions of a newer format.

mod input;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use input::{BlockBytes, SpoolInput};

use super::chunked_buf::ChunkedBuf;
use super::format;
use crate::call::decision::{Decision, FORMAT, TimedDecision};
use crate::call::event::EARLY_WINDOW;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// The spool of a leg, in memory or on disk. It can be read several times.
#[derive(Clone, Debug)]
pub enum LegSource {
    /// The spool is in the memory of this process.
    Memory(Arc<ChunkedBuf>),
    /// The spool is a file.
    File(PathBuf),
}

impl LegSource {
    /// Opens the spool for reading from its beginning.
    ///
    /// # Errors
    /// Fails if the file cannot be opened.
    pub fn open(&self) -> Result<SpoolReader, SpoolError> {
        let input = match self {
            Self::Memory(chunks) => SpoolInput::of_chunks(Arc::clone(chunks)),
            Self::File(path) => {
                let opened = File::open(path);
                SpoolInput::of_stream(Box::new(
                    opened.map_err(|source| SpoolError::Io { path: path.display().to_string(), source })?,
                ))
            }
        };
        Ok(SpoolReader::new(input, self.to_string()))
    }
}

impl std::fmt::Display for LegSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(_) => f.write_str("spool in memory"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Reasons why a spool cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The operating system reported an error for the file.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file or folder with the error.
        path: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file does not begin like a spool.
    #[error("{path} is not a spool: it does not begin with a little-endian pcapng section")]
    NotASpool {
        /// Path of the file that is no spool.
        path: String,
    },
    /// A newer version of callspan wrote the file.
    #[error(
        "{path} was written by a newer callspan (decision format {found}, this version reads up to {FORMAT}): render it with the newer version"
    )]
    TooNew {
        /// Path of the file that a newer version wrote.
        path: String,
        /// Version of the format of the call engine's decisions, as the file states it.
        found: u32,
    },
}

impl SpoolError {
    /// Returns the error of the operating system, or `None` if the error has another reason.
    pub(crate) const fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::NotASpool { .. } | Self::TooNew { .. } => None,
        }
    }
}

/// An entry of a spool: a packet or a decision of the call engine.
#[derive(Clone, Debug)]
pub enum SpoolEntry<'a> {
    /// A packet that was captured.
    Packet(PacketEntry<'a>),
    /// A decision that the call engine made about the leg.
    Decided(&'a TimedDecision),
}

/// A packet of a spool.
#[derive(Clone, Copy, Debug)]
pub struct PacketEntry<'a> {
    /// Capture time of the packet.
    pub(crate) at: Timestamp,
    /// Endpoint that sent the packet.
    pub(crate) src: Endpoint,
    /// Endpoint to which the packet was sent.
    pub(crate) dst: Endpoint,
    /// The bytes of the UDP payload that the spool kept.
    pub payload: &'a [u8],
    /// Length of the UDP payload on the wire, bytes. Larger than `payload.len()` if the packet was truncated.
    pub(crate) wire_len: u32,
}

/// Reads the entries (packets and decisions of the call engine) of a spool from beginning to end, in order of time.
pub struct SpoolReader {
    input: SpoolInput,
    path: String,
    /// Total length of the complete blocks read so far, bytes.
    valid: u64,
    end: SpoolEnd,
    seen_section: bool,
    queue: ReorderQueue,
    entries: Vec<BufferedEntry>,
    free: Vec<usize>,
    queued_bytes: usize,
    newest_ns: i64,
    next_index: u64,
    /// Index of the entry that was returned last; `None` before the first call.
    current: Option<usize>,
}

impl std::fmt::Debug for SpoolReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).field("valid", &self.valid).finish_non_exhaustive()
    }
}

/// Sort key of an entry: time, then the call engine's decisions before packets, then position in the file. `entry` is
/// the index into the reader's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ReorderSlot {
    at_ns: i64,
    rank: u8,
    index: u64,
    entry: usize,
}

/// Sorts entries by time. Nearly all entries come in order and are appended to `in_order`; `late` sorts the others.
#[derive(Debug, Default)]
struct ReorderQueue {
    in_order: VecDeque<ReorderSlot>,
    late: BinaryHeap<Reverse<ReorderSlot>>,
}

impl ReorderQueue {
    fn push(&mut self, slot: ReorderSlot) {
        if self.in_order.back().is_none_or(|last| *last < slot) {
            self.in_order.push_back(slot);
        } else {
            self.late.push(Reverse(slot));
        }
    }

    fn pop(&mut self) -> Option<ReorderSlot> {
        match (self.in_order.front(), self.late.peek()) {
            (Some(first), Some(Reverse(late))) if late < first => self.late.pop().map(|Reverse(slot)| slot),
            (None, _) => self.late.pop().map(|Reverse(slot)| slot),
            _ => self.in_order.pop_front(),
        }
    }

    /// Returns the earliest entry; `None` if the queue is empty.
    fn first(&self) -> Option<&ReorderSlot> {
        match (self.in_order.front(), self.late.peek()) {
            (Some(first), Some(Reverse(late))) => Some(first.min(late)),
            (first, late) => first.or(late.map(|Reverse(slot)| slot)),
        }
    }

    fn len(&self) -> usize {
        self.in_order.len() + self.late.len()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpoolEnd {
    NotYet,
    /// The spool ended after a complete block.
    Clean,
    /// The spool ended within a block, or a block has an impossible length.
    Torn,
}

/// An entry that was read and waits in the reorder queue.
#[derive(Debug)]
enum BufferedEntry {
    Packet { head: SpoolPacketHeader, payload: BlockBytes },
    Decided(Box<TimedDecision>),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SpoolPacketHeader {
    pub(super) at: Timestamp,
    pub(super) src: Endpoint,
    pub(super) dst: Endpoint,
    pub(super) wire_len: u32,
}

impl SpoolReader {
    /// Creates a reader of an input. `path` names the input in error messages.
    pub(super) fn new(input: SpoolInput, path: String) -> Self {
        Self {
            input,
            path,
            valid: 0,
            end: SpoolEnd::NotYet,
            seen_section: false,
            queue: ReorderQueue::default(),
            entries: Vec::new(),
            free: Vec::new(),
            queued_bytes: 0,
            newest_ns: i64::MIN,
            next_index: 0,
            current: None,
        }
    }

    /// Returns the next entry in order of time; `None` at the end.
    ///
    /// # Errors
    /// Fails if the input fails, is not a spool, or was written by a newer version.
    pub fn next_entry(&mut self) -> Result<Option<SpoolEntry<'_>>, SpoolError> {
        if let Some(entry) = self.current.take() {
            if let BufferedEntry::Packet { payload, .. } = &self.entries[entry] {
                self.queued_bytes -= payload.len();
                self.input.release(payload);
            }
            self.free.push(entry);
        }
        while self.end == SpoolEnd::NotYet && !self.is_next_ready() {
            self.read_block()?;
        }
        let Some(slot) = self.queue.pop() else { return Ok(None) };
        self.current = Some(slot.entry);
        Ok(Some(match &self.entries[slot.entry] {
            BufferedEntry::Packet { head, payload } => SpoolEntry::Packet(PacketEntry {
                at: head.at,
                src: head.src,
                dst: head.dst,
                payload: self.input.held(payload),
                wire_len: head.wire_len,
            }),
            BufferedEntry::Decided(decided) => SpoolEntry::Decided(decided),
        }))
    }

    /// Returns whether the spool ended within a block. Meaningful only after the last entry.
    pub fn torn_tail(&self) -> bool {
        self.end == SpoolEnd::Torn
    }

    /// Returns the total length of all complete blocks, bytes. A writer that continues the file must truncate it to
    /// this length.
    pub fn valid_bytes(&self) -> u64 {
        self.valid
    }

    /// Returns whether the earliest entry in the queue may be returned. That is so if no later block can have an
    /// earlier time, or if the queue is full.
    fn is_next_ready(&self) -> bool {
        let Some(first) = self.queue.first() else { return false };
        self.newest_ns.saturating_sub(first.at_ns) > EARLY_WINDOW.as_nanos() as i64
            || self.queue.len() >= MAX_QUEUED
            || self.queued_bytes >= MAX_QUEUED_BYTES
            || self.input.held_bytes() >= MAX_HELD_BYTES
    }

    fn read_block(&mut self) -> Result<(), SpoolError> {
        match whole_packet(self.input.rest()) {
            Some(length) if self.seen_section => {
                self.queue_packet(length);
                self.finish_block(length);
                Ok(())
            }
            _ => self.read_any_block(),
        }
    }

    /// Reads the next block, of any kind. Also handles blocks that are not yet in the buffer, and blocks that are cut.
    fn read_any_block(&mut self) -> Result<(), SpoolError> {
        if !self.fill(8)? {
            let is_empty = self.input.rest().is_empty();
            self.end = if is_empty { SpoolEnd::Clean } else { SpoolEnd::Torn };
            return if self.seen_section || is_empty { Ok(()) } else { Err(self.not_a_spool()) };
        }
        let kind = self.u32_at(0);
        let length = self.u32_at(4) as usize;
        if !self.seen_section && (kind != format::SECTION || (self.fill(12)? && self.u32_at(8) != format::BYTE_ORDER)) {
            return Err(self.not_a_spool());
        }
        if length < 12 || !length.is_multiple_of(4) || length > format::MAX_BLOCK || !self.fill(length)? {
            self.end = SpoolEnd::Torn;
            return Ok(());
        }
        if self.u32_at(length - 4) as usize != length {
            self.end = SpoolEnd::Torn;
            return Ok(());
        }
        match kind {
            format::SECTION => self.seen_section = true,
            format::ENHANCED_PACKET => self.queue_packet(length),
            format::CUSTOM => self.queue_decision(length)?,
            _ => {}
        }
        self.finish_block(length);
        Ok(())
    }

    /// Skips the current block, which has `length` bytes.
    fn finish_block(&mut self, length: usize) {
        self.input.skip(length);
        self.valid += length as u64;
    }

    fn queue_packet(&mut self, length: usize) {
        let Some((head, payload)) = parse_packet(&self.input.rest()[8..length - 4]) else { return };
        let payload = self.input.hold(8 + payload.start..8 + payload.end);
        self.queued_bytes += payload.len();
        self.enqueue(head.at.as_nanos(), 1, BufferedEntry::Packet { head, payload });
    }

    fn queue_decision(&mut self, length: usize) -> Result<(), SpoolError> {
        let Some(json) = decision_json(&self.input.rest()[8..length - 4]) else {
            return Ok(());
        };
        let Some(decided) = parse_decision(json, &self.path)? else {
            return Ok(());
        };
        let at_ns = decided.at_ns;
        // The call engine's decision `Begin`, which describes the leg, is returned first, even if packets of early
        // media are earlier.
        let at_ns = if matches!(decided.decision, Decision::Begin { .. }) { i64::MIN } else { at_ns };
        self.enqueue(at_ns, 0, BufferedEntry::Decided(Box::new(decided)));
        Ok(())
    }

    fn enqueue(&mut self, at_ns: i64, rank: u8, entry: BufferedEntry) {
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        self.newest_ns = self.newest_ns.max(at_ns);
        self.queue.push(ReorderSlot { at_ns, rank, index: self.next_index, entry: at });
        self.next_index += 1;
    }

    /// Reads until `want` bytes of the next block are in the buffer. Returns false at the end of the input.
    fn fill(&mut self, want: usize) -> Result<bool, SpoolError> {
        self.input.fill(want).map_err(|source| SpoolError::Io { path: self.path.clone(), source })
    }

    /// Returns the 32-bit number at byte `offset` of the next block. `fill` must have returned true for these bytes, so
    /// that they are in the buffer.
    #[inline]
    fn u32_at(&self, offset: usize) -> u32 {
        let b = &self.input.rest()[offset..offset + 4];
        u32::from_le_bytes([b[0], b[1], b[2], b[3]])
    }

    fn not_a_spool(&self) -> SpoolError {
        SpoolError::NotASpool { path: self.path.clone() }
    }
}

/// Returns the length of the next block in bytes if it is a packet and lies completely in `bytes`. That is so for
/// nearly all blocks.
#[inline]
fn whole_packet(bytes: &[u8]) -> Option<usize> {
    let word = |at: &[u8]| at.first_chunk().map(|b| u32::from_le_bytes(*b));
    let length = word(bytes.get(4..)?)? as usize;
    let is_possible = length >= 12 && length.is_multiple_of(4) && length <= format::MAX_BLOCK;
    if word(bytes)? != format::ENHANCED_PACKET || !is_possible {
        return None;
    }
    (word(bytes.get(length - 4..)?)? as usize == length).then_some(length)
}

/// Returns the JSON of a custom block if the block is a decision of the call engine; `None` otherwise.
pub(super) fn decision_json(body: &[u8]) -> Option<&[u8]> {
    let ours = body.get(..4)? == format::ENTERPRISE.to_le_bytes() && body.get(4..12)? == format::MAGIC;
    let length = u32::from_le_bytes(*body.get(12..16)?.first_chunk()?) as usize;
    if ours { body.get(16..16usize.checked_add(length)?) } else { None }
}

/// Parses a decision of the call engine; returns `None` if it is unknown or damaged.
///
/// # Errors
/// Fails if a newer version wrote it.
pub(super) fn parse_decision(json: &[u8], path: &dyn std::fmt::Display) -> Result<Option<TimedDecision>, SpoolError> {
    let decided: Option<TimedDecision> = serde_json::from_slice(json).ok();
    let found = match &decided {
        Some(TimedDecision { decision: Decision::Begin { format, .. }, .. }) => *format,
        Some(_) => return Ok(decided),
        // A decision that a newer version wrote may have unknown contents. But it has these few fields, as in every
        // version.
        None => {
            let version: DecisionVersion = serde_json::from_slice(json).unwrap_or_default();
            if version.decision == "begin" { version.format } else { 0 }
        }
    };
    if found > FORMAT {
        return Err(SpoolError::TooNew { path: path.to_string(), found });
    }
    Ok(decided)
}

/// The fields that a call engine's decision of any version has.
#[derive(Default, serde::Deserialize)]
struct DecisionVersion {
    #[serde(default)]
    decision: String,
    #[serde(default)]
    format: u32,
}

/// Parses the body of an enhanced packet block. Returns the packet's header and the range of the UDP payload.
pub(super) fn parse_packet(body: &[u8]) -> Option<(SpoolPacketHeader, std::ops::Range<usize>)> {
    let word = |at: usize| body.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let ticks = u64::from(word(4)?) << 32 | u64::from(word(8)?);
    let captured = word(12)? as usize;
    let original = word(16)?;
    let packet = body.get(20..20usize.checked_add(captured)?)?;
    let (ip_len, src, dst) = match packet.first()? >> 4 {
        4 => {
            let ip_len = usize::from(packet[0] & 15) * 4;
            let header = packet.get(..ip_len.max(format::IPV4_LEN))?;
            let at = |from: usize| [header[from], header[from + 1], header[from + 2], header[from + 3]];
            (header.len(), Endpoint::v4(at(12), 0), Endpoint::v4(at(16), 0))
        }
        6 => {
            let header = packet.get(..format::IPV6_LEN)?;
            let at = |from: usize| <[u8; 16]>::try_from(&header[from..from + 16]).ok();
            (format::IPV6_LEN, Endpoint::v6(at(8)?, 0), Endpoint::v6(at(24)?, 0))
        }
        _ => return None,
    };
    let udp = packet.get(ip_len..ip_len + format::UDP_LEN)?;
    let head = SpoolPacketHeader {
        at: Timestamp::from_nanos(i64::try_from(ticks).ok()?),
        src: src.with_port(u16::from_be_bytes([udp[0], udp[1]])),
        dst: dst.with_port(u16::from_be_bytes([udp[2], udp[3]])),
        wire_len: original.saturating_sub((ip_len + format::UDP_LEN) as u32),
    };
    Some((head, 20 + ip_len + format::UDP_LEN..20 + captured))
}

/// Maximum number of entries in the reorder queue. In 5 s, two directions at 10 ms a packet have 1,000 entries; a flood
/// may have 30 times as many.
const MAX_QUEUED: usize = 32 * 1024;
/// Maximum number of payload bytes in the reorder queue: 5 s of a flood of large packets.
const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;
/// Maximum total size of the buffers with packets that are still needed, bytes. The packets of a full reorder queue
/// usually fit. They do not fit only if nearly every packet lies in a different buffer.
const MAX_HELD_BYTES: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests;
