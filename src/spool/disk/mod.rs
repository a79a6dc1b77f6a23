//! The spool (packets of each leg, and the call engine's decisions) of the command `run`, which captures live. The
//! capture thread fills chunks with blocks, and a writer thread writes the chunks to files.
//!
//! The capture thread never waits. If chunks of more than `buffer_mib` wait for the disk, packets are dropped and
//! counted for their leg. [`DiskSpool::forward`] puts the count into the call record. Decisions and events are never
//! dropped, because they are few and the channel to the writer has no limit.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::chunked_buf::load_free_bytes;
use super::config::Config;
use super::format::{self, SpoolPacket};
use super::index::{BlockKind, IndexTracker, SpoolIndex};
use super::leg_files::LegFiles;
use super::memory::{StartsFile, packet_to_keep};
use super::pending_leg::{PendingLeg, is_media};
use super::rolling::{RollingBuffer, RollingDue, RollingFile};
use super::storage::{FolderMarker, StorageMissing};
use super::writer::{SpoolWriter, WriterMessage, WriterState};
use super::{LegSource, LegStore, SpoolError, file_name};
use crate::call::decision::{Decision, TimedDecision};
use crate::call::errno::OsErrno;
use crate::call::event::{CallEvent, DiscardReason, EndedLeg, KeptBytes, LegId, LegSink};
use crate::call::record::{CallProblem, ProblemKind};
use crate::decode::UdpDatagram;
use crate::time::Timestamp;

/// The spool (files with packets and the call engine's decisions) as the capture thread uses it. Dropping it writes
/// everything to the disk and waits for the writer thread.
pub struct DiskSpool {
    legs: HashMap<LegId, DiskLeg, foldhash::fast::RandomState>,
    /// Legs with a chunk (consecutive blocks) that was not sent to the writer yet. They are sorted by the capture time
    /// of the first block in that chunk.
    chunk_order: VecDeque<(LegId, Timestamp)>,
    messages: Sender<WriterMessage>,
    recycled: Receiver<Vec<u8>>,
    writer_state: Arc<WriterState>,
    limit: usize,
    /// Closed legs that have a file. They stay here until the event about the end of their call is forwarded.
    closed: HashMap<LegId, ClosedLeg, foldhash::fast::RandomState>,
    /// Signalling of the legs that have no file yet, because they have had no media.
    rolling: RollingBuffer,
    /// Legs with a signalling message, or a decision of the call engine, that was not sent to the writer yet.
    urgent: Vec<LegId>,
    /// Capture time of the newest input.
    now: Timestamp,
    lost_total: u64,
    dir: PathBuf,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct DiskLeg {
    name: String,
    stage: DiskLegStage,
    lost: LostPackets,
    tracker: IndexTracker,
}

/// A closed leg that has a file. Its call has not ended yet.
#[derive(Debug)]
struct ClosedLeg {
    name: String,
    lost: LostPackets,
}

/// Packets of a leg that were dropped because too much data waited for the disk.
#[derive(Clone, Copy, Debug, Default)]
struct LostPackets {
    /// Number of packets dropped because the disk was slow but reported no error.
    by_us: u64,
    /// Number of packets dropped while the disk reported an error. The field `errno` is the latest such error.
    by_error: u64,
    errno: Option<OsErrno>,
}

impl LostPackets {
    fn count(&mut self, errno: Option<OsErrno>) {
        match errno {
            None => self.by_us += 1,
            Some(_) => (self.by_error, self.errno) = (self.by_error + 1, errno),
        }
    }

    fn add(self, other: Self) -> Self {
        Self {
            by_us: self.by_us + other.by_us,
            by_error: self.by_error + other.by_error,
            errno: self.errno.or(other.errno),
        }
    }

    fn problems(self) -> impl Iterator<Item = CallProblem> {
        let by_us = (self.by_us > 0).then(|| ProblemKind::LostByUs.with_packets(self.by_us));
        let by_error =
            self.errno.map(|errno| CallProblem { packets: Some(self.by_error), ..CallProblem::of_spool(errno) });
        by_us.into_iter().chain(by_error)
    }
}

#[derive(Debug)]
enum DiskLegStage {
    Pending(PendingLeg),
    HasFile(WriteChunk),
}

impl DiskLegStage {
    /// Returns the size of the leg's blocks that are only in the rolling file (signalling of legs without media),
    /// bytes. It is 0 if the leg has a file.
    fn rolling_bytes(&self) -> usize {
        match self {
            Self::Pending(pending) => pending.bytes(),
            Self::HasFile(_) => 0,
        }
    }
}

#[derive(Debug, Default)]
struct WriteChunk {
    bytes: Vec<u8>,
    /// Capture time of the first block in the chunk. It decides when the chunk is sent to the writer.
    since: Timestamp,
}

impl DiskLeg {
    /// Returns the leg's current chunk if it has room for `bytes` more bytes; `None` otherwise.
    fn space(&mut self, bytes: usize) -> Option<ChunkSpace<'_>> {
        match &mut self.stage {
            DiskLegStage::HasFile(WriteChunk { bytes: chunk, .. })
                if !chunk.is_empty() && chunk.len() + bytes <= CHUNK_BYTES =>
            {
                Some(ChunkSpace { bytes: chunk, tracker: &mut self.tracker })
            }
            _ => None,
        }
    }
}

impl DiskSpool {
    /// Creates the folder with mode 0700 and starts the writer thread. The returned receiver yields the events that are
    /// passed to [`DiskSpool::forward`].
    ///
    /// # Errors
    /// Fails if the folder cannot be created or the thread cannot be started.
    pub fn start(config: &Config) -> Result<(Self, Receiver<CallEvent>), SpoolError> {
        let failed = |source| SpoolError::Io { path: config.dir.display().to_string(), source };
        make_private(&config.dir).map_err(failed)?;
        let (message_tx, message_rx) = crossbeam_channel::unbounded();
        let (event_tx, event_rx) = crossbeam_channel::unbounded();
        let (recycle_tx, recycle_rx) = crossbeam_channel::bounded(MAX_RECYCLED);
        let writer_state = Arc::new(WriterState::default());
        let sync_every = Duration::from_secs(u64::from(config.sync_seconds.max(1)));
        let limit = config.buffer_mib as usize * 1024 * 1024;
        let writer = SpoolWriter {
            dir: config.dir.clone(),
            sync_every,
            messages: message_rx,
            events: event_tx,
            recycled: recycle_tx,
            state: Arc::clone(&writer_state),
            files: LegFiles::new(config.dir.clone(), limit).map_err(failed)?,
            rolling: RollingFile::new(&config.dir),
            held: Vec::new(),
            retry: None,
        };
        let thread =
            std::thread::Builder::new().name("spool".to_owned()).spawn(move || writer.run()).map_err(failed)?;
        let spool = Self {
            legs: HashMap::default(),
            chunk_order: VecDeque::new(),
            messages: message_tx,
            recycled: recycle_rx,
            writer_state,
            limit,
            closed: HashMap::default(),
            rolling: RollingBuffer::new(sync_every),
            urgent: Vec::new(),
            now: Timestamp::EPOCH,
            lost_total: 0,
            dir: config.dir.clone(),
            writer: Some(thread),
        };
        Ok((spool, event_rx))
    }

    /// Sends chunks that are older than [`MAX_AGE`] to the writer. The capture thread must call this several times a
    /// second.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while self.chunk_order.front().is_some_and(|&(_, since)| since + MAX_AGE <= now) {
            // If too many bytes already wait for the disk, further chunks stay here and are sent later.
            if self.queued_bytes() >= self.limit {
                break;
            }
            self.send_oldest();
        }
        self.flush_signalling();
    }

    /// Sends all signalling and all decisions of the call engine to the writer. The capture thread calls this after
    /// each input. So if the process is killed, no message is lost, and the next process knows every call and the
    /// addresses of its media.
    pub(crate) fn flush_signalling(&mut self) {
        for leg in std::mem::take(&mut self.urgent) {
            // If too many bytes already wait for the disk, the chunk of this leg stays in memory and is sent later.
            if self.queued_bytes() < self.limit {
                self.send_leg(leg);
            }
        }
        self.roll(self.now);
    }

    /// Starts to write the rolling file (signalling of legs without media). Before that, the file that an earlier
    /// process left must have been read.
    pub fn start_rolling_file(&mut self) {
        self.rolling.activate();
    }

    /// Passes a call event (e.g. a change or the end of a call) to the receiver after all earlier input was written.
    /// Adds the number of lost packets to the record of an ended call.
    pub fn forward(&mut self, mut event: CallEvent) {
        // The SIP messages that caused a row in the journal (the database) must be on the disk before that row. So the
        // writer gets them before the event that makes the row.
        self.flush_signalling();
        if let CallEvent::Ended(ended) = &mut event {
            let closed = ended.legs.iter().filter_map(|leg| self.closed.remove(&leg.leg));
            let lost = closed.map(|leg| leg.lost).fold(LostPackets::default(), LostPackets::add);
            ended.record.problems.extend(lost.problems());
        }
        if let CallEvent::SegmentsDue(due) = &event {
            for leg in &due.legs {
                self.send_leg(leg.leg);
            }
        }
        self.send(WriterMessage::Event(event));
    }

    /// Continues the file of a leg that an earlier process left. Its complete blocks are the first `length` bytes of
    /// the file; new blocks are appended there.
    pub(super) fn resume(&mut self, leg: LegId, name: &str, index: &SpoolIndex, length: u64) {
        let stage = DiskLegStage::HasFile(WriteChunk::default());
        let tracker = IndexTracker::resume(index.clone(), length);
        self.legs.insert(leg, DiskLeg { name: name.to_owned(), stage, lost: LostPackets::default(), tracker });
        self.send(WriterMessage::OpenFile { leg, name: name.to_owned(), length: Some(length) });
    }

    /// Sends all chunks to the writer and waits until they are synced to disk.
    pub fn flush(&mut self) {
        self.send_all();
        let (done_tx, done_rx) = crossbeam_channel::bounded(1);
        self.send(WriterMessage::Flush(done_tx));
        let _ = done_rx.recv(); // fails only if the writer has ended, and then there is nothing to wait for
    }

    /// Writes and syncs everything, and stops the writer thread. Open legs stay open, so that a restart continues them.
    pub fn shutdown(mut self) {
        self.stop();
    }

    /// Returns the number of packets dropped because the disk was too slow.
    pub fn lost_packets(&self) -> u64 {
        self.lost_total
    }

    /// Returns the number of bytes that wait for the disk.
    pub fn queued_bytes(&self) -> usize {
        self.writer_state.queued.load(Ordering::Relaxed)
    }

    /// Returns a counter of the writer thread's loop. It grows while the thread works or waits for work, and stands
    /// still if the disk does not answer.
    pub(crate) fn writer_rounds(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.writer_state.rounds)
    }

    /// Returns whether the writer thread has ended although nobody stopped it. Only a bug can cause that.
    pub(crate) fn has_writer_ended(&self) -> bool {
        self.writer.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Returns the store that finds the spools of ended legs.
    pub fn store(&self) -> DiskStore {
        DiskStore::new(self.dir.clone())
    }

    fn stop(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        self.put_indexes();
        self.rolling.put_removed(); // in an orderly end all events reach the journal, so no removal needs to wait
        self.send_all();
        self.send(WriterMessage::Stop);
        let _ = writer.join(); // fails only if the writer panicked, and then nothing can be saved
    }

    fn send_all(&mut self) {
        while !self.chunk_order.is_empty() {
            self.send_oldest();
        }
        self.flush_signalling();
    }

    /// Appends an index (list of blocks that a restart reads) to each open file, so that the next start need not read
    /// whole files.
    fn put_indexes(&mut self) {
        for (leg, state) in &mut self.legs {
            if let DiskLegStage::HasFile(chunk) = &mut state.stage
                && state.tracker.is_stale()
            {
                if chunk.bytes.is_empty() {
                    self.chunk_order.push_back((*leg, chunk.since));
                }
                state.tracker.put_index(&mut chunk.bytes);
            }
        }
    }

    /// Sends to the writer the changes of the rolling file (signalling of legs without media) that are due.
    fn roll(&mut self, now: Timestamp) {
        if self.writer_state.has_rolling_failed.swap(false, Ordering::Relaxed) {
            self.rolling.mark_stale();
        }
        if self.writer_state.is_rebuild_requested.swap(false, Ordering::Relaxed) {
            self.rolling.request_rebuild();
        }
        if self.queued_bytes() >= self.limit {
            return;
        }
        match self.rolling.take_due(now) {
            RollingDue::Nothing => {}
            RollingDue::Append(bytes) => self.append_to_rolling_file(bytes),
            RollingDue::Rebuild => self.rebuild_rolling_file(),
        }
    }

    /// Tells the writer thread to write the rolling file anew. The new file contains only the signalling of legs
    /// without media, which have no file of their own.
    pub(super) fn rebuild_rolling_file(&mut self) {
        let last = self.rolling.take_blocks();
        if !last.is_empty() {
            self.append_to_rolling_file(last);
        }
        let legs = self.legs.iter().filter_map(|(id, leg)| match &leg.stage {
            DiskLegStage::Pending(pending) => Some((*id, pending)),
            DiskLegStage::HasFile(_) => None,
        });
        let contents = self.rolling.rebuild(self.now, legs);
        self.writer_state.queued.fetch_add(contents.bytes.capacity(), Ordering::Relaxed);
        self.send(WriterMessage::RebuildRolling(contents));
    }

    fn append_to_rolling_file(&self, bytes: Vec<u8>) {
        self.writer_state.queued.fetch_add(bytes.capacity(), Ordering::Relaxed);
        self.send(WriterMessage::AppendRolling(bytes));
    }

    /// Sends the oldest chunk that was not sent yet to the writer.
    fn send_oldest(&mut self) {
        let Some((leg, since)) = self.chunk_order.pop_front() else { return };
        if let Some(DiskLeg { stage: DiskLegStage::HasFile(chunk), .. }) = self.legs.get_mut(&leg)
            && chunk.since == since
        {
            self.send_leg(leg);
        }
    }

    /// Sends the leg's current chunk to the writer.
    fn send_leg(&mut self, leg: LegId) {
        if let Some(DiskLeg { stage: DiskLegStage::HasFile(chunk), .. }) = self.legs.get_mut(&leg)
            && !chunk.bytes.is_empty()
        {
            let bytes = std::mem::take(&mut chunk.bytes);
            self.send_chunk(leg, bytes);
        }
    }

    fn send_chunk(&self, leg: LegId, bytes: Vec<u8>) {
        self.writer_state.queued.fetch_add(bytes.capacity(), Ordering::Relaxed);
        self.send(WriterMessage::Write { leg, bytes });
    }

    fn send(&self, message: WriterMessage) {
        let _ = self.messages.send(message); // fails only after the writer panicked, which was logged
    }

    /// Creates the file of a leg at its first media. The first chunk contains all blocks of the leg so far.
    fn start_file(&mut self, leg: LegId, at: Timestamp) {
        let Some(DiskLeg { name, stage, tracker, .. }) = self.legs.get_mut(&leg) else { return };
        let DiskLegStage::Pending(pending) = stage else { return };
        let mut bytes = self.recycled.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK_BYTES));
        pending.put_file(&mut bytes);
        let blocks = pending.bytes();
        tracker.add_block(BlockKind::Other, 0, bytes.len() - blocks);
        tracker.add_block(BlockKind::Decision, pending.first_ns().unwrap_or(at.as_nanos()), blocks);
        let message = WriterMessage::OpenFile { leg, name: name.clone(), length: None };
        *stage = DiskLegStage::HasFile(WriteChunk { bytes, since: at });
        self.chunk_order.push_back((leg, at));
        self.urgent.push(leg);
        self.send(message);
    }

    /// Returns a chunk of the leg with room for `bytes` more bytes. Sends a full chunk to the writer first. Returns
    /// `None` if too much data waits for the disk, so that the packet must be dropped.
    fn space(&mut self, leg: LegId, bytes: usize, at: Timestamp, policy: DropPolicy) -> Option<ChunkSpace<'_>> {
        let Self { legs, chunk_order, messages, recycled, writer_state, limit, lost_total, .. } = self;
        let state = legs.get_mut(&leg)?;
        let DiskLegStage::HasFile(chunk) = &mut state.stage else { return None };
        if !chunk.bytes.is_empty() && chunk.bytes.len() + bytes > CHUNK_BYTES {
            if writer_state.queued.load(Ordering::Relaxed) < *limit {
                let full = std::mem::take(&mut chunk.bytes);
                writer_state.queued.fetch_add(full.capacity(), Ordering::Relaxed);
                let _ = messages.send(WriterMessage::Write { leg, bytes: full }); // fails only after the writer panicked, which was logged
            } else if policy == DropPolicy::WhenFull {
                state.lost.count(writer_state.current_error());
                *lost_total += 1;
                return None;
            }
        }
        if chunk.bytes.is_empty() {
            if chunk.bytes.capacity() == 0 {
                chunk.bytes = recycled.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK_BYTES));
            }
            chunk.since = at;
            chunk_order.push_back((leg, at));
            if state.tracker.is_due() {
                state.tracker.put_index(&mut chunk.bytes);
            }
        }
        Some(ChunkSpace { bytes: &mut chunk.bytes, tracker: &mut state.tracker })
    }
}

impl LegSink for DiskSpool {
    fn open(&mut self, leg: LegId, name: &str) {
        let (stage, tracker) = (DiskLegStage::Pending(PendingLeg::default()), IndexTracker::default());
        self.legs.insert(leg, DiskLeg { name: name.to_owned(), stage, lost: LostPackets::default(), tracker });
    }

    fn prefetch(&mut self, leg: LegId) {
        let Some(DiskLeg { stage: DiskLegStage::HasFile(chunk), tracker, .. }) = self.legs.get_mut(&leg) else {
            return;
        };
        // Reads two numbers that `packet` needs, so that the processor loads their cache lines. Without `black_box`
        // the compiler would remove these reads.
        std::hint::black_box((tracker.length, tracker.index.last_media_ns));
        load_free_bytes(&mut chunk.bytes);
    }

    fn packet(&mut self, leg: LegId, datagram: &UdpDatagram<'_>, keep: KeptBytes) {
        let packet: SpoolPacket<'_> = packet_to_keep(datagram, keep);
        let kind = match is_media(packet.payload) {
            false => BlockKind::Signalling,
            true if packet.payload.len() < datagram.payload.len() => BlockKind::CutMedia,
            true => BlockKind::Media,
        };
        self.now = self.now.max(datagram.at);
        if kind == BlockKind::Signalling {
            self.urgent.push(leg);
        }
        let size = format::EPB_OVERHEAD + format::IPV6_LEN + format::UDP_LEN + packet.payload.len();
        let put = |mut space: ChunkSpace<'_>| {
            space.put(kind, datagram.at.as_nanos(), |bytes| format::put_packet(bytes, &packet));
        };
        // The common case comes first: 49 of 50 packets fit into the current chunk. They need only one look-up in the
        // map of legs.
        let Some(state) = self.legs.get_mut(&leg) else { return };
        if let Some(space) = state.space(size) {
            return put(space);
        }
        if let DiskLegStage::Pending(pending) = &mut state.stage {
            if kind == BlockKind::Signalling {
                return self.rolling.add_blocks(leg, pending.add_packet(&packet));
            }
            self.start_file(leg, datagram.at);
        }
        if let Some(space) = self.space(leg, size, datagram.at, DropPolicy::WhenFull) {
            put(space);
        }
    }

    fn decide(&mut self, leg: LegId, at: Timestamp, decision: &Decision) {
        let decided = TimedDecision { at_ns: at.as_nanos(), decision: decision.clone() };
        let Some(state) = self.legs.get_mut(&leg) else { return };
        // An `End` decision of an earlier process is kept. After a restart only a part of the file was read, so the
        // counts in the earlier decision are more complete.
        if state.tracker.index.has_end && matches!(decision, Decision::End { .. }) {
            return;
        }
        state.tracker.index.apply_decision(decision);
        self.urgent.push(leg);
        if let DiskLegStage::Pending(pending) = &mut state.stage {
            if StartsFile::of(decision) == StartsFile::No && !pending.is_full() {
                return self.rolling.add_blocks(leg, pending.add_decision(&decided));
            }
            self.start_file(leg, at);
        }
        if let Some(mut space) = self.space(leg, DECISION_BYTES, at, DropPolicy::Never) {
            space.put(BlockKind::Decision, at.as_nanos(), |bytes| format::put_decision(bytes, &decided));
        }
    }

    fn close(&mut self, leg: LegId) {
        let Some(state) = self.legs.remove(&leg) else { return };
        self.rolling.remove_leg(leg, self.now, state.stage.rolling_bytes());
        if let DiskLegStage::HasFile(chunk) = state.stage {
            // The leg stays in `closed` until [`DiskSpool::forward`] handles the end of its call. The call engine
            // reports that end after it has closed all legs of the call.
            self.closed.insert(leg, ClosedLeg { name: state.name, lost: state.lost });
            if !chunk.bytes.is_empty() {
                self.send_chunk(leg, chunk.bytes);
            }
            self.send(WriterMessage::Close(leg));
        }
    }

    fn discard(&mut self, leg: LegId, reason: DiscardReason) {
        let state = self.legs.remove(&leg);
        let kept_bytes = match reason {
            DiscardReason::NoMedia => state.map_or(0, |state| state.stage.rolling_bytes()),
            DiscardReason::Excluded | DiscardReason::Evicted => 0,
        };
        self.rolling.remove_leg(leg, self.now, kept_bytes);
        let name = self.closed.remove(&leg).map(|closed| closed.name);
        self.send(WriterMessage::Discard { leg, name });
    }
}

impl Drop for DiskSpool {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for DiskSpool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskSpool").field("dir", &self.dir).field("legs", &self.legs.len()).finish_non_exhaustive()
    }
}

/// Finds the spool files of legs in a folder.
#[derive(Clone, Debug)]
pub struct DiskStore {
    dir: PathBuf,
    /// Marker that shows whether the disk of the folder is mounted; `None` if the folder has none.
    marker: Option<FolderMarker>,
}

impl DiskStore {
    /// Returns the folder of the spool files.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates a store for the spool files in a folder.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { marker: FolderMarker::of(&dir), dir }
    }

    /// Checks that the disk of the folder is mounted. Without it, files that are missing now may come back.
    ///
    /// # Errors
    /// Fails if the disk is not mounted, or if another disk is mounted.
    pub(crate) fn check_disk(&self) -> Result<(), StorageMissing> {
        self.marker.as_ref().map_or(Ok(()), FolderMarker::check)
    }

    /// Returns the path of a leg's file, whether it exists or not.
    pub fn path(&self, leg_name: &str) -> PathBuf {
        self.dir.join(file_name(leg_name))
    }

    /// Returns the path to which a leg's file is moved if its call could not be rendered. The next start ignores files
    /// at such a path.
    pub(crate) fn failed_path(&self, leg_name: &str) -> PathBuf {
        self.path(leg_name).with_extension("pcapng.failed")
    }

    /// Returns the spool files in the folder, sorted by name. After a crash, they belong to calls that were not
    /// rendered yet.
    ///
    /// # Errors
    /// Fails if the folder cannot be read.
    pub(crate) fn list(&self) -> std::io::Result<Vec<PathBuf>> {
        self.list_ending(".pcapng")
    }

    /// Returns the files in the folder that were set aside, because their leg could not be rendered, sorted by name.
    ///
    /// # Errors
    /// Fails if the folder cannot be read.
    pub(crate) fn list_failed(&self) -> std::io::Result<Vec<PathBuf>> {
        self.list_ending(FAILED_ENDING)
    }

    fn list_ending(&self, ending: &str) -> std::io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(ending.as_bytes())) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

impl LegStore for DiskStore {
    fn source(&self, leg: &EndedLeg) -> Option<LegSource> {
        let path = self.path(&leg.name);
        // If the metadata cannot be read, the file may exist nevertheless. Opening it later reports the error.
        let may_be_there = match std::fs::metadata(&path) {
            Ok(found) => found.is_file(),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        };
        may_be_there.then_some(LegSource::File(path))
    }
}

/// A chunk with room for the next block of a leg.
struct ChunkSpace<'a> {
    bytes: &'a mut Vec<u8>,
    tracker: &'a mut IndexTracker,
}

impl ChunkSpace<'_> {
    fn put(&mut self, kind: BlockKind, at_ns: i64, put: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        put(self.bytes);
        self.tracker.add_block(kind, at_ns, self.bytes.len() - before);
    }
}

/// Whether a block may be dropped if too much data already waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DropPolicy {
    Never,
    WhenFull,
}

/// Creates a folder with mode 0700, and the missing folders above it.
pub(super) fn make_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// End of the name of a spool file that was set aside, because its leg could not be rendered.
pub(crate) const FAILED_ENDING: &str = ".pcapng.failed";
/// Size of a chunk in bytes. G.711 in both directions fills it within [`MAX_AGE`], so a larger chunk would never be
/// full. 10,000 legs need at most 120 MiB.
const CHUNK_BYTES: usize = 12 * 1024;
/// Age at which a chunk (consecutive blocks of a leg) is sent to the writer. A crash of the process loses at most the
/// media of this time, plus the time until the next call of [`DiskSpool::handle_timeout`].
const MAX_AGE: Duration = Duration::from_millis(500);
/// Maximum number of empty chunks kept for reuse.
const MAX_RECYCLED: usize = 2_048;
/// Free space in a chunk that is required for a decision of the call engine, bytes. A longer decision makes the chunk
/// grow.
const DECISION_BYTES: usize = 512;

#[cfg(test)]
mod tests;
