//! Reads a spool: packets and the call engine's decisions, in constant memory. All entries are sorted by time, or only
//! as many at the beginning as the caller asks for (`SortedEntries`).
//!
//! A payload is not copied: it is returned from the buffer into which it was read (module `input`).
//!
//! The contents of a spool are not trusted. An incomplete block at the end, a *torn tail*, is ignored and reported
//! (`SpoolReader::torn_tail`). After a damaged length, nothing more is read. Unknown blocks are skipped. An error is
//! returned only for decisions of a newer format.

mod input;
mod reorder;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use input::{BlockBytes, SpoolInput};
use reorder::{ReorderQueue, ReorderSlot};

use super::chunked_buf::ChunkedBuf;
use super::format;
use super::pending_leg::is_media;
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
        self.open_sorting(SortedEntries::ALL)
    }

    /// Opens the spool for reading from its beginning. Only the given entries are sorted by time.
    ///
    /// # Errors
    /// Fails if the file cannot be opened.
    pub(crate) fn open_sorting(&self, sorted: SortedEntries) -> Result<SpoolReader, SpoolError> {
        let input = match self {
            Self::Memory(chunks) => SpoolInput::of_chunks(Arc::clone(chunks)),
            Self::File(path) => {
                let opened = File::open(path);
                SpoolInput::of_stream(Box::new(
                    opened.map_err(|source| SpoolError::Io { path: path.display().to_string(), source })?,
                ))
            }
        };
        Ok(SpoolReader { sorted, ..SpoolReader::new(input, self.to_string()) })
    }
}

impl LegSource {
    /// Returns the length of a spool of this process, bytes, in memory or moved to the file. 0 for a file of its own.
    #[cfg(feature = "service")]
    pub(crate) fn memory_len(&self) -> usize {
        match self {
            Self::Memory(chunks) => chunks.len(),
            Self::File(_) => 0,
        }
    }

    /// Reads the parts of a spool in memory that were moved to a file. So both rendering passes read them from memory.
    /// Returns a file unchanged. Also returns the spool unchanged if a part cannot be read: then the reader reports it.
    #[cfg(feature = "service")]
    pub(crate) fn read_into_memory(self) -> Self {
        match self {
            Self::Memory(chunks) if chunks.has_spilled() => match chunks.to_memory() {
                Ok(read) => Self::Memory(Arc::new(read)),
                Err(_) => Self::Memory(chunks),
            },
            unchanged => unchanged,
        }
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
        "{path} was written by a newer callspan (decision format {found}, this version reads up to {FORMAT}): render it \
         with the newer version"
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

/// The number of entries at the beginning of a spool that a reader sorts by time. After them it returns each entry as
/// it is stored, which takes less time.
///
/// The sound is the same if media packets and the decisions of [`Decision::changes_sound`] are in order after them.
/// Other decisions and SIP messages may then come late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SortedEntries(u64);

impl SortedEntries {
    /// All entries are sorted.
    pub(crate) const ALL: Self = Self(u64::MAX);
    /// The first entries are sorted. The call engine writes its first decisions together when the media begins, before
    /// the earlier messages. After that, nearly all spools are in order.
    pub(crate) const FIRST: Self = Self(64);
}

/// Reads the entries (packets and decisions of the call engine) of a spool from beginning to end. They come in order of
/// time, as far as they are sorted (`SortedEntries`).
pub struct SpoolReader {
    input: SpoolInput,
    path: String,
    sorted: SortedEntries,
    /// Total length of the complete blocks read so far, bytes.
    valid: u64,
    end: SpoolEnd,
    seen_section: bool,
    queue: ReorderQueue,
    entries: Vec<BufferedEntry>,
    free: Vec<usize>,
    queued_bytes: usize,
    /// Time and rank of the newest entry so far; see [`ReorderSlot`].
    newest: (i64, u8),
    next_index: u64,
    /// Number of entries up to the last one that came late and changes the sound.
    late_until: u64,
    /// Whether an entry that changes the sound came late after the sorted entries.
    is_out_of_order: bool,
    /// Index of the entry that was returned last; `None` before the first call.
    current: Option<usize>,
    /// Length of the block whose packet was returned last without a way through the queue, bytes; otherwise 0.
    unqueued: usize,
}

impl std::fmt::Debug for SpoolReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).field("valid", &self.valid).finish_non_exhaustive()
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

impl SpoolPacketHeader {
    const fn entry(self, payload: &[u8]) -> PacketEntry<'_> {
        PacketEntry { at: self.at, src: self.src, dst: self.dst, payload, wire_len: self.wire_len }
    }
}

impl SpoolReader {
    /// Creates a reader of an input. `path` names the input in error messages.
    pub(super) fn new(input: SpoolInput, path: String) -> Self {
        Self {
            input,
            path,
            sorted: SortedEntries::ALL,
            valid: 0,
            end: SpoolEnd::NotYet,
            seen_section: false,
            queue: ReorderQueue::default(),
            entries: Vec::new(),
            free: Vec::new(),
            queued_bytes: 0,
            newest: (i64::MIN, 0),
            next_index: 0,
            late_until: 0,
            is_out_of_order: false,
            current: None,
            unqueued: 0,
        }
    }

    /// Returns the next entry; `None` at the end. Entries that are sorted come in order of time, others as they are
    /// stored.
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
        while self.end == SpoolEnd::NotYet && self.must_sort() && !self.is_next_ready() {
            self.read_block()?;
        }
        if !self.must_sort() {
            return self.next_stored();
        }
        Ok(self.pop_entry())
    }

    /// Returns whether the next block is among those to be sorted.
    const fn must_sort(&self) -> bool {
        self.next_index < self.sorted.0
    }

    /// Returns the next entry as it is stored; `None` at the end. Entries in the queue come first. A packet that lies
    /// completely in the buffer needs no queue.
    fn next_stored(&mut self) -> Result<Option<SpoolEntry<'_>>, SpoolError> {
        let returned = std::mem::take(&mut self.unqueued);
        self.finish_block(returned);
        while self.end == SpoolEnd::NotYet && self.queue.first().is_none() {
            let Some(length) = whole_packet(self.input.rest()).filter(|_| self.seen_section) else {
                self.read_any_block()?;
                continue;
            };
            let Some((head, payload)) = parse_packet(&self.input.rest()[8..length - 4]) else {
                self.finish_block(length);
                continue;
            };
            self.unqueued = length;
            let payload = &self.input.rest()[8 + payload.start..8 + payload.end];
            let place = (head.at.as_nanos(), PACKET_RANK);
            self.is_out_of_order |= place < self.newest && is_media(payload);
            self.newest = self.newest.max(place);
            return Ok(Some(SpoolEntry::Packet(head.entry(payload))));
        }
        Ok(self.pop_entry())
    }

    /// Returns the first entry of the queue; `None` if the queue is empty.
    #[inline]
    fn pop_entry(&mut self) -> Option<SpoolEntry<'_>> {
        let slot = self.queue.pop()?;
        self.current = Some(slot.entry);
        Some(match &self.entries[slot.entry] {
            BufferedEntry::Packet { head, payload } => SpoolEntry::Packet(head.entry(self.input.held(payload))),
            BufferedEntry::Decided(decided) => SpoolEntry::Decided(decided),
        })
    }

    /// Returns the number of entries that a later reader has to sort, by the entries read so far. `None` if this reader
    /// returned a media packet or a decision that changes the sound too late, because it sorted too few entries.
    pub(crate) const fn entries_to_sort(&self) -> Option<SortedEntries> {
        if self.is_out_of_order { None } else { Some(SortedEntries(self.late_until)) }
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
        self.newest.0.saturating_sub(first.at_ns) > EARLY_WINDOW.as_nanos() as i64
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
        self.enqueue(head.at.as_nanos(), PACKET_RANK, BufferedEntry::Packet { head, payload });
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
        self.enqueue(at_ns, DECISION_RANK, BufferedEntry::Decided(Box::new(decided)));
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
        self.queue.push(ReorderSlot { at_ns, rank, index: self.next_index, entry: at });
        self.next_index += 1;
        let is_late = (at_ns, rank) < self.newest;
        self.newest = self.newest.max((at_ns, rank));
        if is_late && self.changes_sound(at) {
            self.late_until = self.next_index;
            self.is_out_of_order |= self.next_index > self.sorted.0;
        }
    }

    /// Returns whether an entry is a media packet or a decision that changes the sound.
    #[cold]
    fn changes_sound(&self, entry: usize) -> bool {
        match &self.entries[entry] {
            BufferedEntry::Packet { payload, .. } => is_media(self.input.held(payload)),
            BufferedEntry::Decided(decided) => decided.decision.changes_sound(),
        }
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

/// Rank of a decision among the entries with the same time.
const DECISION_RANK: u8 = 0;
/// Rank of a packet among the entries with the same time.
const PACKET_RANK: u8 = 1;
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
