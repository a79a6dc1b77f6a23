//! The spool of `run`: the capture thread fills chunks, a second thread writes them.
//!
//! The capture thread never waits. When `buffer_mib` of chunks wait for the disk, packets are dropped and counted for
//! their leg ([`DiskSpool::forward`] puts the count into the record); decisions, ends and events always find room,
//! because the channel itself has no bound and they are few.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::config::Config;
use super::format::{self, SpoolPacket};
use super::index::{BlockKind, IndexTracker, SpoolIndex};
use super::memory::{StartsFile, packet_to_keep};
use super::pending_leg::{PendingLeg, is_media};
use super::rolling::{RollingBuffer, RollingDue, RollingFile};
use super::writer::{LegFiles, SpoolWriter, WriterMessage};
use super::{LegSource, LegStore, SpoolError, file_name};
use crate::call::decision::{Decided, Decision};
use crate::call::event::{CallEvent, EndedLeg, Keep, LegId, LegSink};
use crate::call::record::Problem;
use crate::decode::Datagram;
use crate::time::Timestamp;

/// The capture thread's end of the spool. Dropping it writes what is left and waits for the writer.
pub struct DiskSpool {
    legs: HashMap<LegId, DiskLeg, foldhash::fast::RandomState>,
    /// Legs with a chunk begun, in the order of their beginning.
    chunk_order: VecDeque<(LegId, Timestamp)>,
    messages: Sender<WriterMessage>,
    recycled: Receiver<Vec<u8>>,
    queued: Arc<AtomicUsize>,
    limit: usize,
    /// Legs with a file that are closed and whose call's end was not forwarded yet.
    closed: HashMap<LegId, ClosedLeg, foldhash::fast::RandomState>,
    /// Signalling of the legs without a file.
    rolling: RollingBuffer,
    /// The writer could not write it.
    rolling_failed: Arc<AtomicBool>,
    lost_total: u64,
    dir: PathBuf,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct DiskLeg {
    name: String,
    stage: DiskLegStage,
    lost: u64,
    tracker: IndexTracker,
}

/// What is still of use of a leg after its end.
#[derive(Debug)]
struct ClosedLeg {
    name: String,
    lost: u64,
}

#[derive(Debug)]
enum DiskLegStage {
    Pending(PendingLeg),
    HasFile(WriteChunk),
}

#[derive(Debug, Default)]
struct WriteChunk {
    bytes: Vec<u8>,
    /// When its first bytes came.
    since: Timestamp,
}

impl DiskLeg {
    /// Room for `bytes` more in the chunk that was begun, if it has so much.
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
    /// Makes the folder (0700) and starts the writer. Events given to [`DiskSpool::forward`] come out of the receiver.
    ///
    /// # Errors
    /// When the folder cannot be made or the thread cannot be started.
    pub fn start(config: &Config) -> Result<(Self, Receiver<CallEvent>), SpoolError> {
        let failed = |source| SpoolError::Io { path: config.dir.display().to_string(), source };
        make_private(&config.dir).map_err(failed)?;
        let (message_tx, message_rx) = crossbeam_channel::unbounded();
        let (event_tx, event_rx) = crossbeam_channel::unbounded();
        let (recycle_tx, recycle_rx) = crossbeam_channel::bounded(MAX_RECYCLED);
        let queued = Arc::new(AtomicUsize::new(0));
        let rolling_failed = Arc::new(AtomicBool::new(false));
        let writer = SpoolWriter {
            dir: config.dir.clone(),
            sync_every: Duration::from_secs(u64::from(config.sync_seconds.max(1))),
            messages: message_rx,
            events: event_tx,
            recycled: recycle_tx,
            queued: Arc::clone(&queued),
            files: LegFiles::default(),
            rolling: RollingFile::new(&config.dir),
            rolling_failed: Arc::clone(&rolling_failed),
            backlog: VecDeque::new(),
            is_ending: false,
        };
        let thread =
            std::thread::Builder::new().name("spool".to_owned()).spawn(move || writer.run()).map_err(failed)?;
        let spool = Self {
            legs: HashMap::default(),
            chunk_order: VecDeque::new(),
            messages: message_tx,
            recycled: recycle_rx,
            queued,
            limit: config.buffer_mib as usize * 1024 * 1024,
            closed: HashMap::default(),
            rolling: RollingBuffer::default(),
            rolling_failed,
            lost_total: 0,
            dir: config.dir.clone(),
            writer: Some(thread),
        };
        Ok((spool, event_rx))
    }

    /// Sends off chunks that have become old. To be called at least once a second.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while self.chunk_order.front().is_some_and(|&(_, since)| since + MAX_AGE <= now) {
            // A disk that does not keep up gets no more until it does.
            if self.queued_bytes() >= self.limit {
                break;
            }
            self.send_oldest();
        }
        self.roll(now, MAX_AGE);
    }

    /// What an earlier process left was read back: the signalling of legs without a file is kept from now on.
    pub fn start_rolling_file(&mut self) {
        self.rolling.activate();
    }

    /// Passes an event on once everything before it was written. Losses of the call's legs go into its record.
    pub fn forward(&mut self, mut event: CallEvent) {
        if let CallEvent::Ended(ended) = &mut event {
            let closed = ended.legs.iter().filter_map(|leg| self.closed.remove(&leg.leg));
            let lost: u64 = closed.map(|leg| leg.lost).sum();
            if lost > 0 {
                ended.record.problems.push(Problem { kind: "lost_by_us".to_owned(), packets: Some(lost), ms: None });
            }
        }
        if let CallEvent::PartDue(due) = &event {
            for leg in &due.legs {
                self.send_leg(leg.leg);
            }
        }
        self.send(WriterMessage::Event(event));
    }

    /// Goes on with a leg whose file an earlier process left: what comes is added after its `length` bytes of whole
    /// blocks.
    pub(super) fn resume(&mut self, leg: LegId, name: &str, (index, length): (&SpoolIndex, u64)) {
        let stage = DiskLegStage::HasFile(WriteChunk::default());
        let tracker = IndexTracker::resume(index.clone(), length);
        self.legs.insert(leg, DiskLeg { name: name.to_owned(), stage, lost: 0, tracker });
        self.send(WriterMessage::OpenFile { leg, name: name.to_owned(), length: Some(length) });
    }

    /// Sends off every chunk and waits until all is on the disk.
    pub fn flush(&mut self) {
        self.send_all();
        let (done_tx, done_rx) = crossbeam_channel::bounded(1);
        self.send(WriterMessage::Flush(done_tx));
        let _ = done_rx.recv(); // an error means that the writer is gone, and with it what could be waited for
    }

    /// Writes what is left, syncs, and ends the writer. Legs that are still open stay as they are, to be gone on with.
    pub fn shutdown(mut self) {
        self.stop();
    }

    /// Packets dropped since the start because the disk did not keep up.
    pub fn lost_packets(&self) -> u64 {
        self.lost_total
    }

    /// Bytes waiting for the disk.
    pub fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Where the spools of ended legs are found; may be used by any thread.
    pub fn store(&self) -> DiskStore {
        DiskStore { dir: self.dir.clone() }
    }

    fn stop(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        self.put_indexes();
        self.send_all();
        self.send(WriterMessage::Stop);
        let _ = writer.join(); // it panicked: there is nothing left to save here
    }

    fn send_all(&mut self) {
        while !self.chunk_order.is_empty() {
            self.send_oldest();
        }
        self.roll(Timestamp::MAX, Duration::ZERO);
    }

    /// The next start finds at the end of each file what it needs.
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

    /// Sends off what is new in the signalling of legs without a file, if it has waited for `age`.
    fn roll(&mut self, now: Timestamp, age: Duration) {
        if self.rolling_failed.swap(false, Ordering::Relaxed) {
            self.rolling.mark_stale();
        }
        if self.queued_bytes() >= self.limit {
            return;
        }
        let (bytes, is_new) = match self.rolling.take_due(now, age) {
            RollingDue::Nothing => return,
            RollingDue::Append(bytes) => (bytes, false),
            RollingDue::Rebuild => {
                let legs = self.legs.iter().filter_map(|(id, leg)| match &leg.stage {
                    DiskLegStage::Pending(pending) => Some((*id, pending)),
                    DiskLegStage::HasFile(_) => None,
                });
                (self.rolling.rebuild(now, legs), true)
            }
        };
        self.queued.fetch_add(bytes.capacity(), Ordering::Relaxed);
        self.send(if is_new { WriterMessage::RebuildRolling(bytes) } else { WriterMessage::AppendRolling(bytes) });
    }

    /// Sends off the chunk that was begun first, if it is still there.
    fn send_oldest(&mut self) {
        let Some((leg, since)) = self.chunk_order.pop_front() else { return };
        if let Some(DiskLeg { stage: DiskLegStage::HasFile(chunk), .. }) = self.legs.get_mut(&leg)
            && chunk.since == since
        {
            self.send_leg(leg);
        }
    }

    /// Sends off what waits of a leg.
    fn send_leg(&mut self, leg: LegId) {
        if let Some(DiskLeg { stage: DiskLegStage::HasFile(chunk), .. }) = self.legs.get_mut(&leg)
            && !chunk.bytes.is_empty()
        {
            let bytes = std::mem::take(&mut chunk.bytes);
            self.send_chunk(leg, bytes);
        }
    }

    fn send_chunk(&self, leg: LegId, bytes: Vec<u8>) {
        self.queued.fetch_add(bytes.capacity(), Ordering::Relaxed);
        self.send(WriterMessage::Write { leg, bytes });
    }

    fn send(&self, message: WriterMessage) {
        let _ = self.messages.send(message); // fails only after the writer panicked, which it has said itself
    }

    /// Gives a leg its file.
    fn start_file(&mut self, leg: LegId, at: Timestamp) {
        let Some(DiskLeg { name, stage, tracker, .. }) = self.legs.get_mut(&leg) else { return };
        let DiskLegStage::Pending(pending) = stage else { return };
        let mut bytes = self.recycled.try_recv().unwrap_or_default();
        pending.put_file(&mut bytes);
        let blocks = pending.bytes();
        tracker.add_block(BlockKind::Other, 0, bytes.len() - blocks);
        tracker.add_block(BlockKind::Decision, pending.first_ns().unwrap_or(at.as_nanos()), blocks);
        let message = WriterMessage::OpenFile { leg, name: name.clone(), length: None };
        *stage = DiskLegStage::HasFile(WriteChunk { bytes, since: at });
        self.chunk_order.push_back((leg, at));
        self.send(message);
    }

    /// Makes room for `bytes` more in a leg's chunk, by sending it off if it is full.
    fn space(&mut self, leg: LegId, bytes: usize, at: Timestamp, policy: DropPolicy) -> Option<ChunkSpace<'_>> {
        let Self { legs, chunk_order, messages, recycled, queued, limit, lost_total, .. } = self;
        let state = legs.get_mut(&leg)?;
        let DiskLegStage::HasFile(chunk) = &mut state.stage else { return None };
        if !chunk.bytes.is_empty() && chunk.bytes.len() + bytes > CHUNK_BYTES {
            if queued.load(Ordering::Relaxed) < *limit {
                let full = std::mem::take(&mut chunk.bytes);
                queued.fetch_add(full.capacity(), Ordering::Relaxed);
                let _ = messages.send(WriterMessage::Write { leg, bytes: full }); // as in `send`
            } else if policy == DropPolicy::WhenFull {
                state.lost += 1;
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
        self.legs.insert(leg, DiskLeg { name: name.to_owned(), stage, lost: 0, tracker });
    }

    fn packet(&mut self, leg: LegId, datagram: &Datagram<'_>, keep: Keep) {
        let packet: SpoolPacket<'_> = packet_to_keep(datagram, keep);
        let kind = match is_media(packet.payload) {
            false => BlockKind::Signalling,
            true if packet.payload.len() < datagram.payload.len() => BlockKind::CutMedia,
            true => BlockKind::Media,
        };
        let size = format::EPB_OVERHEAD + format::IPV6_LEN + format::UDP_LEN + packet.payload.len();
        let put = |mut space: ChunkSpace<'_>| {
            space.put(kind, datagram.at.as_nanos(), |bytes| format::put_packet(bytes, &packet));
        };
        // 69 of 70 packets find room in the chunk that is being filled: one look-up.
        let Some(state) = self.legs.get_mut(&leg) else { return };
        if let Some(space) = state.space(size) {
            return put(space);
        }
        if let DiskLegStage::Pending(pending) = &mut state.stage {
            if kind == BlockKind::Signalling {
                return self.rolling.add_blocks(leg, pending.add_packet(&packet), datagram.at);
            }
            self.start_file(leg, datagram.at);
        }
        if let Some(space) = self.space(leg, size, datagram.at, DropPolicy::WhenFull) {
            put(space);
        }
    }

    fn decide(&mut self, leg: LegId, at: Timestamp, decision: &Decision) {
        let decided = Decided { at_ns: at.as_nanos(), decision: decision.clone() };
        let Some(state) = self.legs.get_mut(&leg) else { return };
        // One that an earlier process wrote knows more than we, who have read only a part of the file.
        if state.tracker.index.has_end && matches!(decision, Decision::End { .. }) {
            return;
        }
        state.tracker.index.apply_decision(decision);
        if let DiskLegStage::Pending(pending) = &mut state.stage {
            if StartsFile::of(decision) == StartsFile::No && !pending.is_full() {
                return self.rolling.add_blocks(leg, pending.add_decision(&decided), at);
            }
            self.start_file(leg, at);
        }
        if let Some(mut space) = self.space(leg, DECISION_BYTES, at, DropPolicy::Never) {
            space.put(BlockKind::Decision, at.as_nanos(), |bytes| format::put_decision(bytes, &decided));
        }
    }

    fn close(&mut self, leg: LegId) {
        let Some(state) = self.legs.remove(&leg) else { return };
        self.rolling.remove_leg(leg);
        if let DiskLegStage::HasFile(chunk) = state.stage {
            // The engine closes every leg before it tells of the call's end: this empties again.
            self.closed.insert(leg, ClosedLeg { name: state.name, lost: state.lost });
            if !chunk.bytes.is_empty() {
                self.send_chunk(leg, chunk.bytes);
            }
            self.send(WriterMessage::Close(leg));
        }
    }

    fn discard(&mut self, leg: LegId) {
        self.legs.remove(&leg);
        self.rolling.remove_leg(leg);
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

/// Finds the files of ended legs.
#[derive(Clone, Debug)]
pub struct DiskStore {
    dir: PathBuf,
}

impl DiskStore {
    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The spools in a folder.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where a leg's file is or would be.
    pub fn path(&self, leg_name: &str) -> PathBuf {
        self.dir.join(file_name(leg_name))
    }

    /// Where a leg's file goes when its call could not be rendered: out of the way of the next start.
    pub fn failed_path(&self, leg_name: &str) -> PathBuf {
        self.path(leg_name).with_extension("pcapng.failed")
    }

    /// The spools that are there, in the order of their names: after a crash, what was not rendered yet.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "pcapng") {
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
        path.is_file().then_some(LegSource::File(path))
    }
}

/// Where the next block of a leg goes.
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

/// Whether an entry may be dropped when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DropPolicy {
    Never,
    WhenFull,
}

fn make_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A chunk: 0.7 s of G.711 of both sides; 10,000 legs cost 160 MiB at most.
const CHUNK_BYTES: usize = 16 * 1024;
/// A chunk is sent off when it is so old: what a crash of the process costs.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Empty chunks on their way back; more are freed.
const MAX_RECYCLED: usize = 4_096;
/// Room looked for before a decision; a longer one makes the chunk grow.
const DECISION_BYTES: usize = 512;

#[cfg(test)]
mod tests;
