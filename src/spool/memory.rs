//! The spool of `replay`: in memory up to a limit, then in files of the same format.
//!
//! Nothing is synced to disk: if the process dies, the capture files are still there to be replayed.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chunked_buf::{CHUNK_BYTES, ChunkedBuf};
use super::format::{self, SpoolPacket};
use super::pending_leg::{PendingLeg, is_media};
use super::{LegSource, LegStore, file_name};
use crate::call::decision::{Decision, TimedDecision};
use crate::call::event::{EndedLeg, KeptBytes, LegId, LegSink};
use crate::decode::UdpDatagram;
use crate::time::Timestamp;

/// Spools of legs in memory or, above a limit, in files.
#[derive(Debug)]
pub struct MemorySpool {
    legs: std::collections::HashMap<LegId, MemoryLeg, foldhash::fast::RandomState>,
    /// Bytes used by all legs in memory.
    used: usize,
    limit: usize,
    spill_dir: PathBuf,
    errors: Vec<io::Error>,
    /// Chunks to be reused. Their bytes count towards `limit`, too.
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct MemoryLeg {
    name: String,
    stage: MemoryLegStage,
}

#[derive(Debug)]
enum MemoryLegStage {
    /// The leg had no media yet.
    Pending(PendingLeg),
    Memory(ChunkedBuf),
    /// The leg was moved from memory to a file. No handle stays open, because a capture may have more legs than a
    /// process may have open files.
    File {
        path: PathBuf,
        buffer: Vec<u8>,
    },
    Closed(LegSource),
}

impl MemorySpool {
    /// Creates a spool that holds up to `memory_mib` MiB in memory and the rest in `spill_dir`, which is created when it is
    /// needed.
    pub fn new(memory_mib: u32, spill_dir: PathBuf) -> Self {
        Self {
            legs: std::collections::HashMap::default(),
            used: 0,
            limit: memory_mib as usize * 1024 * 1024,
            spill_dir,
            errors: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Removes a leg that was rendered.
    pub fn release(&mut self, leg: LegId) {
        let Some(leg) = self.legs.remove(&leg) else { return };
        match leg.stage {
            MemoryLegStage::Memory(chunks) => self.recycle(chunks),
            MemoryLegStage::Closed(LegSource::Memory(chunks)) => match Arc::try_unwrap(chunks) {
                Ok(chunks) => self.recycle(chunks),
                // Another reader still uses the chunks and frees them when it ends.
                Err(chunks) => self.used -= chunks.len(),
            },
            MemoryLegStage::File { path, .. } | MemoryLegStage::Closed(LegSource::File(path)) => {
                let _ = std::fs::remove_file(path); // a temporary file: at worst it is left behind
            }
            MemoryLegStage::Pending(_) => {}
        }
    }

    /// Returns the file errors since the last call.
    pub(crate) fn take_errors(&mut self) -> Vec<io::Error> {
        std::mem::take(&mut self.errors)
    }

    fn append(&mut self, leg: LegId, starts_file: StartsFile, put: &mut dyn FnMut(AppendTarget<'_>)) {
        let Some(state) = self.legs.get_mut(&leg) else { return };
        if let MemoryLegStage::Pending(pending) = &mut state.stage {
            if starts_file == StartsFile::No && !pending.is_full() {
                return put(AppendTarget::Pending(pending));
            }
            let mut chunks = ChunkedBuf::default();
            pending.put_file(chunks.block_buf(&mut self.spare));
            self.used += chunks.len();
            state.stage = MemoryLegStage::Memory(chunks);
        }
        match &mut state.stage {
            MemoryLegStage::Memory(chunks) => {
                let bytes = chunks.block_buf(&mut self.spare);
                let before = bytes.len();
                put(AppendTarget::Bytes(bytes));
                self.used += bytes.len() - before;
                if self.used > self.limit {
                    self.spill(leg);
                }
            }
            MemoryLegStage::File { path, buffer } => {
                put(AppendTarget::Bytes(buffer));
                if buffer.len() > FILE_BUFFER {
                    if let Err(error) = append(path, buffer)
                        && self.errors.len() < MAX_ERRORS
                    {
                        self.errors.push(error);
                    }
                    buffer.clear();
                }
            }
            MemoryLegStage::Pending(_) | MemoryLegStage::Closed(_) => {}
        }
    }

    fn spill(&mut self, leg: LegId) {
        let Some(state) = self.legs.get_mut(&leg) else { return };
        let MemoryLegStage::Memory(chunks) = &mut state.stage else { return };
        let path = self.spill_dir.join(file_name(&state.name));
        let folder = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.spill_dir);
        let written = folder.and_then(|()| {
            let mut options = File::options();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            chunks.iter().try_for_each(|chunk| file.write_all(chunk))
        });
        match written {
            Ok(()) => {
                let chunks = std::mem::take(chunks);
                state.stage = MemoryLegStage::File { path, buffer: Vec::new() };
                self.recycle(chunks);
            }
            // The spool of the leg stays in memory, even beyond the limit, because otherwise the call would be lost.
            Err(error) => {
                self.errors.push(error);
                self.limit = usize::MAX;
            }
        }
    }

    fn recycle(&mut self, chunks: ChunkedBuf) {
        self.used -= chunks.len();
        let held = self.used + self.spare.len() * CHUNK_BYTES;
        chunks.recycle(&mut self.spare, self.limit.saturating_sub(held));
    }
}

impl LegSink for MemorySpool {
    fn open(&mut self, leg: LegId, name: &str) {
        self.legs
            .insert(leg, MemoryLeg { name: name.to_owned(), stage: MemoryLegStage::Pending(PendingLeg::default()) });
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
        let Some(state) = self.legs.get_mut(&leg) else { return };
        let source = match &mut state.stage {
            MemoryLegStage::Memory(chunks) => LegSource::Memory(Arc::new(std::mem::take(chunks))),
            MemoryLegStage::File { path, buffer } => {
                if let Err(error) = append(path, buffer) {
                    self.errors.push(error);
                }
                LegSource::File(path.clone())
            }
            MemoryLegStage::Pending(_) => {
                self.legs.remove(&leg);
                return;
            }
            MemoryLegStage::Closed(_) => return,
        };
        state.stage = MemoryLegStage::Closed(source);
    }

    fn discard(&mut self, leg: LegId) {
        self.release(leg);
    }
}

impl LegStore for MemorySpool {
    fn source(&self, leg: &EndedLeg) -> Option<LegSource> {
        match &self.legs.get(&leg.leg)?.stage {
            MemoryLegStage::Closed(source) => Some(source.clone()),
            MemoryLegStage::Pending(_) | MemoryLegStage::Memory(_) | MemoryLegStage::File { .. } => None,
        }
    }
}

impl Drop for MemorySpool {
    fn drop(&mut self) {
        let legs: Vec<LegId> = self.legs.keys().copied().collect();
        for leg in legs {
            self.release(leg);
        }
    }
}

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    File::options().append(true).open(path)?.write_all(bytes)
}

/// Destination of a block.
enum AppendTarget<'a> {
    Pending(&'a mut PendingLeg),
    Bytes(&'a mut Vec<u8>),
}

/// Whether an entry requires that its leg has a file.
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

/// Returns the part of a datagram that is to be spooled, as a packet.
pub(super) fn packet_to_keep<'a>(datagram: &UdpDatagram<'a>, keep: KeptBytes) -> SpoolPacket<'a> {
    let payload = match keep {
        KeptBytes::Whole => datagram.payload,
        KeptBytes::Header(bytes) => &datagram.payload[..datagram.payload.len().min(usize::from(bytes))],
    };
    let wire_len = datagram.wire_len.max(datagram.payload.len() as u32);
    SpoolPacket { at: datagram.at, src: datagram.src, dst: datagram.dst, payload, wire_len }
}

/// Bytes that are buffered for a leg in a file before they are written.
const FILE_BUFFER: usize = 64 * 1024;
/// Errors kept for the user. Without a limit, a full disk would cause one for each packet.
const MAX_ERRORS: usize = 16;

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
    fn spilled_legs_hold_no_open_file_and_lose_no_packet() {
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
        // Each leg gets more than one file buffer: 300 packets of 232 bytes are 68 KiB.
        for n in 0..300 {
            (0..200).for_each(|leg| put(&mut spool, leg, f64::from(n) * 20.0));
        }
        let held = std::fs::read_dir("/proc/self/fd").expect("Linux").flatten();
        let held = held.filter_map(|fd| std::fs::read_link(fd.path()).ok()).filter(|file| file.starts_with(dir.path()));
        assert_eq!(held.count(), 0);
        for leg in 0..200 {
            spool.close(LegId(leg));
            let ended = EndedLeg { leg: LegId(leg), name: String::new(), index: 0, same_sides: true };
            assert_eq!(packets(&spool.source(&ended).expect("there")), 300);
        }
        assert!(spool.take_errors().is_empty());
    }
}
