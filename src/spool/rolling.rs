//! The rolling file: signalling of all legs that have no file of their own, e.g. of calls that are ringing.
//!
//! It is a pcapng with the same blocks as a leg's file. A custom block with [`MAGIC`], a *tag*, names the leg of the
//! blocks after it or says that a leg is removed. When the file has grown, it is rebuilt from the legs that still
//! exist.
//!
//! Only a restart reads the file, to continue ringing calls. So the capture thread never waits for this file. If a
//! write fails, the file is rebuilt later.
//!
//! A *pending* leg is a leg that has had no media, so it has no file of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::blocks::{BlockReader, NextBlock};
use super::disk::make_private;
use super::format;
use crate::call::event::LegId;
use crate::time::Timestamp;

/// Collects blocks for the rolling file; used by the capture thread.
#[derive(Debug, Default)]
pub(super) struct RollingBuffer {
    stage: RollingStage,
    /// Blocks that are not written to the file yet.
    buffer: Vec<u8>,
    /// Legs that are no longer pending but still in the file, and the time since which the first of them is no longer
    /// pending.
    removed: Vec<LegId>,
    removed_since: Timestamp,
    /// Size of the file, bytes: now, and at its last rebuild.
    size: usize,
    rebuilt_size: usize,
    /// Time when the file was last rebuilt.
    rebuilt_at: Timestamp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RollingStage {
    /// The file that an earlier process left was not read yet, so it must not be changed.
    #[default]
    Inactive,
    /// The file is incomplete and must be rebuilt.
    Stale,
    /// The file is complete. New blocks are appended to it.
    Current,
}

/// What is to be written to the rolling file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RollingDue {
    Nothing,
    /// These bytes are to be appended.
    Append(Vec<u8>),
    /// The file is to be rebuilt from all pending legs.
    Rebuild,
}

impl RollingBuffer {
    /// Starts to write the file. The file of the earlier process must have been read.
    pub(super) fn activate(&mut self) {
        self.stage = RollingStage::Stale;
    }

    /// Requests a rebuild, because blocks could not be written.
    pub(super) fn mark_stale(&mut self) {
        if self.stage == RollingStage::Current {
            self.stage = RollingStage::Stale;
            self.buffer.clear();
        }
    }

    /// Adds blocks of a leg.
    pub(super) fn add_blocks(&mut self, leg: LegId, blocks: &[u8]) {
        if self.stage != RollingStage::Current {
            return;
        }
        put_tag(&mut self.buffer, LEG_TAG, leg);
        self.buffer.extend_from_slice(blocks);
        if self.buffer.len() > MAX_BUFFER {
            self.mark_stale();
        }
    }

    /// Removes a leg that is no longer pending. Its blocks stay in the file for [`REMOVAL_DELAY`].
    pub(super) fn remove_leg(&mut self, leg: LegId, now: Timestamp) {
        if self.stage == RollingStage::Current {
            if self.removed.is_empty() {
                self.removed_since = now;
            }
            self.removed.push(leg);
        }
    }

    /// Returns what is to be written now, and forgets it.
    pub(super) fn take_due(&mut self, now: Timestamp) -> RollingDue {
        if !self.removed.is_empty() && self.removed_since + REMOVAL_DELAY <= now {
            self.put_removed();
        }
        let large = self.size + self.buffer.len() > MIN_REBUILD_BYTES.max(2 * self.rebuilt_size);
        match self.stage {
            RollingStage::Stale if now.since(self.rebuilt_at) >= REBUILD_INTERVAL => RollingDue::Rebuild,
            RollingStage::Current if large && now.since(self.rebuilt_at) >= REBUILD_INTERVAL => RollingDue::Rebuild,
            RollingStage::Current if !self.buffer.is_empty() => {
                self.size += self.buffer.len();
                RollingDue::Append(std::mem::take(&mut self.buffer))
            }
            _ => RollingDue::Nothing,
        }
    }

    /// Adds a tag for each leg that is no longer pending, so that a reader skips its blocks.
    pub(super) fn put_removed(&mut self) {
        self.removed.drain(..).for_each(|leg| put_tag(&mut self.buffer, REMOVED_TAG, leg));
    }

    /// Returns the contents of a new file, made from the pending legs.
    pub(super) fn rebuild<'a>(
        &mut self,
        now: Timestamp,
        legs: impl Iterator<Item = (LegId, &'a super::pending_leg::PendingLeg)>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        format::put_header(&mut out);
        for (leg, pending) in legs {
            out.reserve(TAG_BYTES + pending.bytes());
            put_tag(&mut out, LEG_TAG, leg);
            pending.put_blocks(&mut out);
        }
        self.buffer.clear();
        self.removed.clear();
        (self.stage, self.rebuilt_at) = (RollingStage::Current, now);
        (self.size, self.rebuilt_size) = (out.len(), out.len());
        out
    }
}

/// The rolling file on disk; used by the writer thread.
#[derive(Debug)]
pub(super) struct RollingFile {
    path: PathBuf,
    file: Option<File>,
}

impl RollingFile {
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: path(dir), file: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the file that [`RollingFile::rebuild`] writes. Creates the folder if it does not exist.
    pub(super) fn create(&self) -> io::Result<File> {
        let open = || {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600).open(self.new_path())
        };
        open().or_else(|error| match (error.kind(), self.path.parent()) {
            (io::ErrorKind::NotFound, Some(dir)) => make_private(dir).and_then(|()| open()),
            _ => Err(error),
        })
    }

    /// Replaces the file by `new` with these contents.
    pub(super) fn rebuild(&mut self, mut new: File, bytes: &[u8]) -> io::Result<()> {
        self.file = None;
        new.write_all(bytes)?;
        std::fs::rename(self.new_path(), &self.path)?;
        self.file = Some(new);
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::Error::from_raw_os_error(NO_FILE)) };
        // An incomplete block would make the rest of the file unreadable, so after an error only a rebuild is accepted.
        let written = match file.metadata() {
            Ok(found) if found.nlink() == 0 => Err(io::Error::from_raw_os_error(NO_FILE)), // somebody removed the file
            Ok(_) => file.write_all(bytes),
            Err(error) => Err(error),
        };
        written.inspect_err(|_| self.file = None)
    }

    fn new_path(&self) -> PathBuf {
        self.path.with_extension("new")
    }
}

/// Returns the path of the rolling file.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("signalling.rolling")
}

/// Reads the blocks of each leg from the file that an earlier process left. A damaged file is read up to the damage.
///
/// # Errors
/// Fails if the file exists and cannot be read.
pub(super) fn read(dir: &Path) -> io::Result<BTreeMap<u64, Vec<u8>>> {
    let mut legs: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let file = match File::open(path(dir)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(legs),
        Err(error) => return Err(error),
    };
    let mut blocks = BlockReader::new(file, 0);
    let mut leg = None;
    while let NextBlock::Block(_, block) = blocks.next()? {
        match (read_tag(block), leg) {
            (Some((LEG_TAG, tagged)), _) => leg = Some(tagged),
            (Some((_, removed)), _) => {
                legs.remove(&removed);
            }
            (None, Some(leg)) => legs.entry(leg).or_default().extend_from_slice(block),
            (None, None) => {}
        }
    }
    Ok(legs)
}

fn put_tag(out: &mut Vec<u8>, kind: u32, LegId(leg): LegId) {
    for word in [format::CUSTOM, TAG_BYTES as u32, format::ENTERPRISE] {
        out.extend(word.to_le_bytes());
    }
    out.extend(MAGIC);
    out.extend(kind.to_le_bytes());
    out.extend(leg.to_le_bytes());
    out.extend((TAG_BYTES as u32).to_le_bytes());
}

fn read_tag(block: &[u8]) -> Option<(u32, u64)> {
    let block: &[u8; TAG_BYTES] = block.try_into().ok()?;
    let is_tag = block[..4] == format::CUSTOM.to_le_bytes()
        && block[8..12] == format::ENTERPRISE.to_le_bytes()
        && block[12..20] == MAGIC;
    let kind = u32::from_le_bytes(*block[20..].first_chunk()?);
    is_tag.then_some((kind, u64::from_le_bytes(*block[24..].first_chunk()?)))
}

/// Marks a custom block as a tag. Decisions have another mark.
const MAGIC: [u8; 8] = *b"callsleg";
/// Kind of a tag: the blocks that follow belong to this leg.
const LEG_TAG: u32 = 1;
/// Kind of a tag: the leg is no longer pending.
const REMOVED_TAG: u32 = 2;
const TAG_BYTES: usize = 36;
/// Error number of an append to a file that does not exist any more.
const NO_FILE: i32 = rustix::io::Errno::NOENT.raw_os_error();
/// Size, bytes, from which on the file is rebuilt, if it has also doubled since the last rebuild. So rebuilds at most
/// double the bytes written.
const MIN_REBUILD_BYTES: usize = 16 * 1024 * 1024;
/// Maximum size of blocks that wait for the writer, bytes. Above it, e.g. in a flood of INVITEs, blocks are dropped and
/// the file is rebuilt.
const MAX_BUFFER: usize = 4 * 1024 * 1024;
/// Time for which a leg that is no longer pending stays in the file. Afterwards the journal knows that its call ended.
/// If the process is killed earlier, the next process reads the leg and its end again.
const REMOVAL_DELAY: Duration = Duration::from_secs(2);
/// Shortest time between two rebuilds. With 40,000 pending legs a rebuild may write 100 MiB.
const REBUILD_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::decision::{Decision, TimedDecision};
    use crate::spool::pending_leg::PendingLeg;

    fn block(at_ns: i64) -> Vec<u8> {
        let mut out = Vec::new();
        format::put_decision(&mut out, &TimedDecision { at_ns, decision: Decision::Pause });
        out
    }

    fn at(s: i64) -> Timestamp {
        Timestamp::from_secs(1_000 + s)
    }

    #[test]
    fn rolling_file_returns_the_blocks_of_pending_legs_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut file = RollingFile::new(dir.path());
        let mut rolling = RollingBuffer::default();
        assert!(read(dir.path()).expect("a missing file is no error").is_empty());
        rolling.add_blocks(LegId(1), &block(1));
        assert_eq!(rolling.take_due(at(9)), RollingDue::Nothing, "not active yet");
        rolling.activate();
        assert_eq!(rolling.take_due(at(9)), RollingDue::Rebuild);
        let mut pending = PendingLeg::default();
        let decided = TimedDecision { at_ns: 1, decision: Decision::Pause };
        pending.add_decision(&decided);
        let legs = [(LegId(1), &pending), (LegId(2), &pending)];
        file.rebuild(file.create().expect("made"), &rolling.rebuild(at(9), legs.into_iter())).expect("written");
        rolling.add_blocks(LegId(3), &block(3));
        rolling.add_blocks(LegId(1), &block(4));
        rolling.remove_leg(LegId(2), at(10));
        let RollingDue::Append(bytes) = rolling.take_due(at(11)) else { panic!("due") };
        file.append(&bytes).expect("written");
        assert_eq!(read(dir.path()).expect("readable").len(), 3, "the journal may not know yet that its call ended");
        let RollingDue::Append(bytes) = rolling.take_due(at(12)) else { panic!("due") };
        file.append(&bytes).expect("written");
        assert_eq!(rolling.take_due(at(13)), RollingDue::Nothing);
        let expected: BTreeMap<u64, Vec<u8>> = [(1, [block(1), block(4)].concat()), (3, block(3))].into();
        assert_eq!(read(dir.path()).expect("readable"), expected);
        // If the end of the file is torn off, only the torn blocks are lost.
        let whole = std::fs::read(path(dir.path())).expect("there");
        for cut in 0..whole.len() {
            std::fs::write(path(dir.path()), &whole[..cut]).expect("written");
            let legs = read(dir.path()).expect("readable");
            assert!(legs.values().all(|blocks| blocks.starts_with(&block(1)) || blocks.starts_with(&block(3))));
        }
    }

    #[test]
    fn full_rolling_buffer_leads_to_a_rebuild() {
        let mut rolling = RollingBuffer::default();
        rolling.activate();
        rolling.rebuild(at(0), std::iter::empty());
        for n in 0..100 {
            rolling.add_blocks(LegId(n), &vec![0; 100_000]);
            assert!(rolling.buffer.len() <= MAX_BUFFER);
        }
        assert_eq!(rolling.take_due(at(2)), RollingDue::Nothing, "not again at once");
        assert_eq!(rolling.take_due(at(5)), RollingDue::Rebuild);
    }
}
