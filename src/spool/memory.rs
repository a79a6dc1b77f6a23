//! The spool (packets of each leg, and the call engine's decisions) of the command `replay`, which reads capture files.
//! It is in memory up to a limit, and above it in a file.
//!
//! Nothing is synced to disk. If the process dies, the capture files can be replayed again.

use std::io;
#[cfg(feature = "service")]
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::chunked_buf::{CHUNK_BYTES, ChunkedBuf, SMALL_CHUNK_BYTES, SpoolChunk};
#[cfg(feature = "service")]
use super::file_name;
use super::format::{self, SpoolPacket};
use super::pending_leg::{PendingLeg, is_media};
#[cfg(feature = "service")]
use super::spill_file;
use super::spill_file::SpillFile;
use super::{LegSource, LegStore};
use crate::call::decision::{Decision, TimedDecision};
use crate::call::event::{DiscardReason, EndedLeg, KeptBytes, LegId, LegSink};
use crate::decode::UdpDatagram;
use crate::time::Timestamp;

/// Spools of legs in memory or, above a memory limit, in a file.
#[derive(Debug)]
pub struct MemorySpool {
    legs: std::collections::HashMap<LegId, MemoryLegStage, foldhash::fast::RandomState>,
    chunks: ChunkPool,
}

/// The chunks (pieces of spool data) of all legs in memory, and the file for chunks beyond the memory limit.
#[derive(Debug)]
struct ChunkPool {
    /// Memory of all chunks, used and spare, in bytes. Chunks that wait to be written to the file do not count: less
    /// than 1 MiB.
    used: usize,
    limit: usize,
    spill_dir: PathBuf,
    spill_file: Option<SpillFile>,
    errors: Vec<io::Error>,
    /// Empty chunks to be reused. They count as used memory (`used`), too.
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
enum MemoryLegStage {
    /// The leg has had no media so far.
    Pending(PendingLeg),
    Open(ChunkedBuf),
    Closed(Arc<ChunkedBuf>),
}

impl MemorySpool {
    /// Creates a spool with up to `memory_mib` MiB in memory, plus a small chunk for each leg. The rest is in a file in
    /// `spill_dir`. Folder and file are created when they are needed.
    pub fn new(memory_mib: u32, spill_dir: PathBuf) -> Self {
        let chunks = ChunkPool {
            used: 0,
            limit: memory_mib as usize * 1024 * 1024,
            spill_dir,
            spill_file: None,
            errors: Vec::new(),
            spare: Vec::new(),
        };
        Self { legs: std::collections::HashMap::default(), chunks }
    }

    /// Removes the spool of a leg after it was rendered.
    pub fn release(&mut self, leg: LegId) {
        match self.legs.remove(&leg) {
            Some(MemoryLegStage::Open(chunks)) => self.chunks.recycle(chunks),
            Some(MemoryLegStage::Closed(chunks)) => match Arc::try_unwrap(chunks) {
                Ok(chunks) => self.chunks.recycle(chunks),
                // Another reader still uses these chunks. Their memory is freed when that reader ends, and their space
                // in the file is not used again.
                Err(chunks) => self.chunks.used -= chunks.memory(),
            },
            Some(MemoryLegStage::Pending(_)) | None => {}
        }
    }

    /// Writes the spool of a closed leg to a file of its own, for another process. The file must be removed after use.
    ///
    /// # Errors
    /// Fails if the file cannot be written, or the spool cannot be read.
    #[cfg(feature = "service")]
    pub(crate) fn write_file(&self, leg: &EndedLeg) -> io::Result<Option<PathBuf>> {
        let Some(MemoryLegStage::Closed(chunks)) = self.legs.get(&leg.leg) else { return Ok(None) };
        let path = self.chunks.spill_dir.join(file_name(&leg.name));
        let mut file = spill_file::create_private(&path)?;
        chunks.for_each(&mut |chunk| file.write_all(chunk))?;
        Ok(Some(path))
    }

    /// Returns the file errors since the last call of this function, and forgets them.
    pub(crate) fn take_errors(&mut self) -> Vec<io::Error> {
        if let Some(error) = self.chunks.spill_file.as_ref().and_then(SpillFile::take_error) {
            self.chunks.handle_error(error);
        }
        std::mem::take(&mut self.chunks.errors)
    }

    fn append(&mut self, leg: LegId, starts_file: StartsFile, put: &mut dyn FnMut(AppendTarget<'_>)) {
        let Some(stage) = self.legs.get_mut(&leg) else { return };
        if let MemoryLegStage::Pending(pending) = stage {
            if starts_file == StartsFile::No && !pending.is_full() {
                return put(AppendTarget::Pending(pending));
            }
            let mut chunks = ChunkedBuf::default();
            self.chunks.append(&mut chunks, &mut |bytes| pending.put_file(bytes));
            *stage = MemoryLegStage::Open(chunks);
        }
        if let MemoryLegStage::Open(chunks) = stage {
            self.chunks.append(chunks, &mut |bytes| put(AppendTarget::Bytes(bytes)));
        }
    }
}

impl ChunkPool {
    /// Appends a block to the spool of a leg. The function `put` writes the block into a chunk.
    fn append(&mut self, spool: &mut ChunkedBuf, put: &mut dyn FnMut(&mut Vec<u8>)) {
        if let Some(chunk) = spool.block_buf() {
            let before = chunk.capacity();
            put(chunk);
            self.used += chunk.capacity() - before;
            return;
        }
        let mut chunk = self.new_chunk(spool);
        let before = chunk.capacity();
        put(&mut chunk);
        self.used += chunk.capacity() - before;
        spool.add_chunk(chunk);
    }

    /// Returns a buffer for the next blocks of a leg. Above the memory limit, the leg's last chunk is moved to the
    /// file, and an empty or new buffer is returned. If the leg has no chunk in memory, returns a small
    /// new buffer.
    fn new_chunk(&mut self, spool: &mut ChunkedBuf) -> Vec<u8> {
        if let Some(chunk) = self.spare.pop() {
            return chunk;
        }
        let mut size = CHUNK_BYTES;
        if self.used + CHUNK_BYTES > self.limit {
            match self.spill_last(spool) {
                Ok(Some(memory)) => {
                    self.used -= memory;
                    size = memory.min(CHUNK_BYTES);
                    let written = self.spill_file.as_mut().and_then(SpillFile::take_buffer);
                    if let Some(chunk) = written.filter(|chunk| chunk.capacity() <= CHUNK_BYTES) {
                        self.used += chunk.capacity();
                        return chunk;
                    }
                }
                Ok(None) => size = SMALL_CHUNK_BYTES,
                // If the file fails, the spool stays in memory even beyond the limit. Otherwise the call would be lost.
                Err(error) => self.handle_error(error),
            }
        }
        self.used += size;
        Vec::with_capacity(size)
    }

    fn spill_last(&mut self, spool: &mut ChunkedBuf) -> io::Result<Option<usize>> {
        let file = match &mut self.spill_file {
            Some(file) => file,
            None => self.spill_file.insert(SpillFile::create(&self.spill_dir)?),
        };
        match file.take_error() {
            Some(error) => Err(error),
            None => Ok(spool.spill_last(file)),
        }
    }

    fn handle_error(&mut self, error: io::Error) {
        self.errors.push(error);
        self.limit = usize::MAX;
    }

    /// Frees the chunks (pieces of the spool) of a removed leg, or keeps them for reuse.
    fn recycle(&mut self, spool: ChunkedBuf) {
        for chunk in spool.into_chunks() {
            match chunk {
                SpoolChunk::Memory(mut chunk) if chunk.capacity() == CHUNK_BYTES && self.used <= self.limit => {
                    chunk.clear();
                    self.spare.push(chunk);
                }
                SpoolChunk::Memory(chunk) => self.used -= chunk.capacity(),
                SpoolChunk::Spilled(chunk) => {
                    if let Some(file) = &mut self.spill_file {
                        file.release(&chunk);
                    }
                }
            }
        }
    }
}

impl LegSink for MemorySpool {
    fn open(&mut self, leg: LegId, _name: &str) {
        self.legs.insert(leg, MemoryLegStage::Pending(PendingLeg::default()));
    }

    fn prefetch(&mut self, leg: LegId) {
        if let Some(MemoryLegStage::Open(chunks)) = self.legs.get_mut(&leg) {
            chunks.load_free_bytes();
        }
    }

    fn packet(&mut self, leg: LegId, datagram: &UdpDatagram<'_>, keep: KeptBytes) {
        let packet = packet_to_keep(datagram, keep);
        let starts_file = if is_media(packet.payload) { StartsFile::Yes } else { StartsFile::No };
        self.append(leg, starts_file, &mut |target| match target {
            AppendTarget::Pending(pending) => _ = pending.add_packet(&packet),
            AppendTarget::Bytes(bytes) => format::put_packet(bytes, &packet),
        });
    }

    fn decide(&mut self, leg: LegId, at: Timestamp, decision: &Decision) {
        let decided = TimedDecision { at_ns: at.as_nanos(), decision: decision.clone() };
        self.append(leg, StartsFile::of(decision), &mut |target| match target {
            AppendTarget::Pending(pending) => _ = pending.add_decision(&decided),
            AppendTarget::Bytes(bytes) => format::put_decision(bytes, &decided),
        });
    }

    fn close(&mut self, leg: LegId) {
        match self.legs.get_mut(&leg) {
            Some(MemoryLegStage::Pending(_)) => _ = self.legs.remove(&leg),
            Some(stage) => {
                let MemoryLegStage::Open(chunks) = stage else { return };
                let chunks = std::mem::take(chunks);
                if let (Some(file), Some(last)) = (&mut self.chunks.spill_file, chunks.last_spilled()) {
                    file.flush_chunk(last);
                }
                *stage = MemoryLegStage::Closed(Arc::new(chunks));
            }
            None => {}
        }
    }

    fn discard(&mut self, leg: LegId, _: DiscardReason) {
        self.release(leg);
    }
}

impl LegStore for MemorySpool {
    fn source(&self, leg: &EndedLeg) -> Option<LegSource> {
        match self.legs.get(&leg.leg)? {
            MemoryLegStage::Closed(chunks) => Some(LegSource::Memory(Arc::clone(chunks))),
            MemoryLegStage::Pending(_) | MemoryLegStage::Open(_) => None,
        }
    }
}

/// Where a block is appended: to a spool, or to a leg that has no media yet.
enum AppendTarget<'a> {
    Pending(&'a mut PendingLeg),
    Bytes(&'a mut Vec<u8>),
}

/// Whether a block makes it necessary to create a file for its leg. A media block does; a signalling block does not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StartsFile {
    Yes,
    No,
}

impl StartsFile {
    pub(super) const fn of(decision: &Decision) -> Self {
        match decision {
            Decision::Start | Decision::Stream { .. } => Self::Yes,
            _ => Self::No,
        }
    }
}

/// Returns the part of a datagram that is to be stored in the spool, as a packet.
pub(super) fn packet_to_keep<'a>(datagram: &UdpDatagram<'a>, keep: KeptBytes) -> SpoolPacket<'a> {
    let payload = match keep {
        KeptBytes::Whole => datagram.payload,
        KeptBytes::Header(bytes) => &datagram.payload[..datagram.payload.len().min(usize::from(bytes))],
    };
    let wire_len = datagram.wire_len.max(datagram.payload.len() as u32);
    SpoolPacket { at: datagram.at, src: datagram.src, dst: datagram.dst, payload, wire_len }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::record::Side;
    use crate::spool::reader::SpoolEntry;
    use crate::spool::testkit::{SpoolBuilder, at_ms};

    fn packets(source: &LegSource) -> usize {
        let mut reader = source.open().expect("a spool");
        let mut packets = 0;
        while let Some(entry) = reader.next_entry().expect("readable") {
            packets += usize::from(matches!(entry, SpoolEntry::Packet(_)));
        }
        packets
    }

    #[test]
    fn legs_that_exceed_memory_share_a_file_and_lose_no_packet() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut spool = MemorySpool::new(0, dir.path().join("spill"));
        let (src, dst) = SpoolBuilder::flow(Side::Caller);
        let payload = [0x80; 172];
        let put = |spool: &mut MemorySpool, leg: u64, ms: f64| {
            let at = at_ms(ms);
            spool.packet(
                LegId(leg),
                &UdpDatagram { at, src, dst, payload: &payload, wire_len: 172, interface: 0 },
                KeptBytes::Whole,
            );
        };
        for leg in 0..200 {
            spool.open(LegId(leg), &format!("leg{leg}"));
        }
        // Each leg needs three chunks of up to 32 KiB, because 300 packets of 232 bytes are 68 KiB.
        for n in 0..300 {
            (0..200).for_each(|leg| put(&mut spool, leg, f64::from(n) * 20.0));
        }
        let held = std::fs::read_dir("/proc/self/fd").expect("Linux").flatten();
        let held = held.filter_map(|fd| std::fs::read_link(fd.path()).ok()).filter(|file| file.starts_with(dir.path()));
        assert_eq!(held.count(), 1);
        assert_eq!(std::fs::read_dir(dir.path().join("spill")).expect("made").count(), 0, "the file has no name");
        assert_eq!(spool.chunks.used, 200 * SMALL_CHUNK_BYTES, "one small chunk of each leg is in memory");
        let source = |spool: &mut MemorySpool, leg: u64| {
            spool.close(LegId(leg));
            let ended = EndedLeg { leg: LegId(leg), name: String::new(), index: 0, same_sides: true };
            spool.source(&ended).expect("there")
        };
        for leg in 0..200 {
            assert_eq!(packets(&source(&mut spool, leg)), 300);
            spool.release(LegId(leg));
        }
        assert_eq!(spool.chunks.used, 0);
        // The free slots of the file are reused, so the file does not grow.
        let end = spool.chunks.spill_file.as_ref().expect("made").end();
        for leg in 1_000..1_200 {
            spool.open(LegId(leg), "again");
            (0..300).for_each(|n| put(&mut spool, leg, f64::from(n) * 20.0));
            assert_eq!(packets(&source(&mut spool, leg)), 300);
        }
        assert_eq!(spool.chunks.spill_file.as_ref().expect("made").end(), end);
        assert!(spool.take_errors().is_empty());
    }

    #[test]
    fn leg_is_written_to_a_file_of_its_own() {
        let dir = tempfile::tempdir().expect("a folder");
        for memory_mib in [0, 1] {
            let mut spool = MemorySpool::new(memory_mib, dir.path().join("spill"));
            let (src, dst) = SpoolBuilder::flow(Side::Caller);
            spool.open(LegId(1), "leg");
            for n in 0..300 {
                let at = at_ms(f64::from(n) * 20.0);
                let datagram = UdpDatagram { at, src, dst, payload: &[0x80; 172], wire_len: 172, interface: 0 };
                spool.packet(LegId(1), &datagram, KeptBytes::Whole);
            }
            let ended = EndedLeg { leg: LegId(1), name: String::from("leg"), index: 0, same_sides: true };
            assert_eq!(spool.write_file(&ended).expect("writable"), None, "the leg is still open");
            spool.close(LegId(1));
            let path = spool.write_file(&ended).expect("writable").expect("a file");
            assert_eq!(packets(&LegSource::File(path)), 300);
            assert_eq!(packets(&spool.source(&ended).expect("there")), 300);
        }
    }

    #[test]
    fn block_longer_than_a_chunk_is_spilled_too() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut spool = MemorySpool::new(0, dir.path().to_owned());
        let (src, dst) = SpoolBuilder::flow(Side::Caller);
        let mut payload = vec![0x80; 60_000];
        spool.open(LegId(1), "leg");
        for n in 0..20_u32 {
            payload[2..4].copy_from_slice(&(n as u16).to_be_bytes());
            let at = at_ms(f64::from(n) * 20.0);
            let datagram = UdpDatagram { at, src, dst, payload: &payload, wire_len: 60_000, interface: 0 };
            spool.packet(LegId(1), &datagram, KeptBytes::Whole);
        }
        assert!(spool.chunks.used < 3 * 60_000, "{} bytes", spool.chunks.used);
        spool.close(LegId(1));
        let ended = EndedLeg { leg: LegId(1), name: String::new(), index: 0, same_sides: true };
        assert_eq!(packets(&spool.source(&ended).expect("there")), 20);
    }
}
