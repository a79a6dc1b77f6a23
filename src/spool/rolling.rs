//! The rolling file: signalling of all legs that have no file of their own, e.g. of calls that are ringing.
//!
//! A *pending* leg is a leg without media so far; it has no file of its own. A pending leg is *removed* when it ends or
//! gets a file.
//!
//! The rolling file is a pcapng with the same blocks as a leg's file. A custom block with [`MAGIC`], a *tag*, names the
//! leg of the blocks after it, or says that a leg is removed. When the file has grown, it is rebuilt from the legs that
//! still exist.
//!
//! Only a restart reads the file, to continue ringing calls. So the capture thread never waits for this file. If a
//! write fails, the file is rebuilt later.
//!
//! A leg that ended stays in the file until the journal has the end of its call on the disk. This time is the *removal
//! delay*. Until then a power cut may lose the journal's row; then the next process reads the leg and its end again.

use std::collections::{BTreeMap, HashSet, VecDeque};
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

/// Collects blocks for the rolling file (signalling of legs without media), on the capture thread.
#[derive(Debug, Default)]
pub(super) struct RollingBuffer {
    stage: RollingStage,
    /// Whether the file must be written anew as soon as possible, although blocks are still appended to it.
    is_rebuild_requested: bool,
    /// Blocks that were not sent to the writer yet.
    buffer: Vec<u8>,
    /// Removed legs (ended, or with a file of their own) with blocks that are still in the rolling file, oldest first.
    removed: VecDeque<RemovedLeg>,
    /// Total size of the blocks of removed legs that a rebuild must copy, bytes; at most [`MAX_KEPT_BYTES`].
    kept_bytes: usize,
    /// Time for which the blocks of a removed leg (ended, or with a file of its own) stay in the rolling file.
    removal_delay: Duration,
    /// Current size of the rolling file (signalling of legs without media), bytes. The field `rebuilt_size` is its size
    /// after the last rebuild.
    size: usize,
    rebuilt_size: usize,
    /// Capture time at which the rolling file (signalling of legs without media) was last written anew.
    rebuilt_at: Timestamp,
}

/// A removed leg, i.e. a leg that ended or got a file of its own, while the rolling file still has blocks of it.
#[derive(Clone, Copy, Debug)]
struct RemovedLeg {
    leg: LegId,
    /// Capture time at which the leg was removed.
    since: Timestamp,
    /// Size of the leg's blocks, bytes, that are copied when the rolling file (signalling of legs without media) is
    /// written anew. It is 0 if the leg's own file has these blocks.
    kept_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RollingStage {
    /// The file of an earlier process was not read yet, so it must not be changed.
    #[default]
    Inactive,
    /// The rolling file (signalling of legs without media) lacks blocks and must be written anew.
    Stale,
    /// The rolling file (signalling of legs without media) has all blocks so far, and new blocks are appended to it.
    Current,
}

/// The next change that the rolling file (signalling of legs without media) needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RollingDue {
    Nothing,
    /// Append these bytes to the rolling file (signalling of legs without media).
    Append(Vec<u8>),
    /// Write the rolling file anew, with the blocks of all pending legs (legs without media so far).
    Rebuild,
}

impl RollingBuffer {
    /// Creates a buffer. `sync_every` is the maximum time until a row of the journal (the database) is safe on the
    /// disk. The signalling of an ended leg is removed after twice this time plus [`REMOVAL_MARGIN`], when the journal
    /// surely has the end.
    pub(super) fn new(sync_every: Duration) -> Self {
        Self { removal_delay: 2 * sync_every + REMOVAL_MARGIN, ..Self::default() }
    }

    /// Allows the rolling file (signalling of legs without media) to be written from now on. The file of an earlier
    /// process must have been read before.
    pub(super) fn activate(&mut self) {
        self.stage = RollingStage::Stale;
    }

    /// Requests that the rolling file (signalling of legs without media) is written anew, because some blocks are
    /// missing in it.
    pub(super) fn mark_stale(&mut self) {
        if self.stage == RollingStage::Current {
            self.stage = RollingStage::Stale;
            self.buffer.clear();
        }
    }

    /// Requests that the file is written anew, because blocks may be missing on the disk. Until then, new blocks are
    /// still appended to the old file.
    pub(super) fn request_rebuild(&mut self) {
        self.is_rebuild_requested = true;
    }

    /// Adds blocks of a leg to the rolling file (signalling of legs without media).
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

    /// Records that a leg was removed (it ended, or got a file of its own). Its blocks stay in the rolling file for
    /// `removal_delay`. A rebuild copies them only if `kept_bytes`, their size, is not 0.
    pub(super) fn remove_leg(&mut self, leg: LegId, now: Timestamp, kept_bytes: usize) {
        // Until the first rebuild, the file contains only legs of an earlier process. A leg of this process may have
        // the same number as one of those legs, so its removal must not be written there.
        if self.rebuilt_size == 0 {
            return;
        }
        if self.removed.len() >= MAX_REMOVED {
            self.put_oldest_removed();
        }
        self.kept_bytes += kept_bytes;
        self.removed.push_back(RemovedLeg { leg, since: now, kept_bytes });
        while self.kept_bytes > MAX_KEPT_BYTES {
            self.put_oldest_removed();
        }
    }

    /// Returns the change that the rolling file (signalling of legs without media) needs now. Bytes to append are
    /// removed from the buffer, and count as part of the file from now on.
    pub(super) fn take_due(&mut self, now: Timestamp) -> RollingDue {
        while self.removed.front().is_some_and(|removed| removed.since + self.removal_delay <= now) {
            self.put_oldest_removed();
        }
        let large = self.size + self.buffer.len() > MIN_REBUILD_BYTES.max(2 * self.rebuilt_size);
        let is_needed = match self.stage {
            RollingStage::Inactive => false,
            RollingStage::Stale => true,
            RollingStage::Current => large || self.is_rebuild_requested,
        };
        match self.stage {
            _ if is_needed && now.since(self.rebuilt_at) >= REBUILD_INTERVAL => RollingDue::Rebuild,
            RollingStage::Current if !self.buffer.is_empty() => {
                self.size += self.buffer.len();
                RollingDue::Append(std::mem::take(&mut self.buffer))
            }
            _ => RollingDue::Nothing,
        }
    }

    /// Adds a custom block for each removed leg (ended, or with a file of its own) to the rolling file. A reader of the
    /// file then skips the blocks of that leg.
    pub(super) fn put_removed(&mut self) {
        while !self.removed.is_empty() {
            self.put_oldest_removed();
        }
    }

    fn put_oldest_removed(&mut self) {
        let Some(RemovedLeg { leg, kept_bytes, .. }) = self.removed.pop_front() else { return };
        self.kept_bytes -= kept_bytes;
        if self.stage == RollingStage::Current {
            put_tag(&mut self.buffer, REMOVED_TAG, leg);
        }
    }

    /// Returns the blocks that are not in the rolling file (signalling of legs without media) yet. Before the rolling
    /// file is written anew, the caller must append them to the old file, because the new file is copied from it.
    pub(super) fn take_blocks(&mut self) -> Vec<u8> {
        self.size += self.buffer.len();
        std::mem::take(&mut self.buffer)
    }

    /// Returns the contents of a new rolling file, made from the pending legs (legs without media so far). The writer
    /// also copies the blocks of the legs in [`RebuiltContents::kept`].
    pub(super) fn rebuild<'a>(
        &mut self,
        now: Timestamp,
        legs: impl Iterator<Item = (LegId, &'a super::pending_leg::PendingLeg)>,
    ) -> RebuiltContents {
        let mut out = Vec::new();
        format::put_header(&mut out);
        self.removed.retain(|removed| removed.kept_bytes > 0);
        let kept = self.removed.iter().map(|removed| removed.leg.0).collect();
        for (leg, pending) in legs {
            out.reserve(TAG_BYTES + pending.bytes());
            put_tag(&mut out, LEG_TAG, leg);
            pending.put_blocks(&mut out);
        }
        self.buffer.clear();
        (self.stage, self.rebuilt_at) = (RollingStage::Current, now);
        self.is_rebuild_requested = false;
        let size = out.len() + self.kept_bytes;
        (self.size, self.rebuilt_size) = (size, size);
        RebuiltContents { bytes: out, kept }
    }
}

/// The new contents of the rolling file (signalling of legs without media), when it is written anew.
#[derive(Debug)]
pub(super) struct RebuiltContents {
    /// File header, and the blocks of all pending legs (legs without media so far). A custom block with the number of
    /// the leg (a tag) precedes the blocks of each leg.
    pub(super) bytes: Vec<u8>,
    /// Numbers (ids) of ended legs. Their blocks must be copied from the old rolling file, because no other file has
    /// them.
    kept: HashSet<u64>,
}

/// The rolling file (signalling of legs without media) on the disk, as the writer thread uses it.
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

    /// Creates the new file that [`RollingFile::rebuild`] fills. Creates the folder if it does not exist.
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

    /// Replaces the rolling file (signalling of legs without media) by the file `new`, after writing these contents to
    /// it.
    pub(super) fn rebuild(&mut self, mut new: File, contents: &RebuiltContents) -> io::Result<()> {
        self.file = None;
        new.write_all(&contents.bytes)?;
        if !contents.kept.is_empty()
            && let Ok(old) = File::open(&self.path)
        {
            copy_legs(old, &contents.kept, &new)?;
        }
        // Without this sync, a power cut could leave an empty file under the final name, and the old file would be
        // gone.
        new.sync_data()?;
        std::fs::rename(self.new_path(), &self.path)?;
        self.file = Some(new);
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::Error::from_raw_os_error(NO_FILE)) };
        // After a failed append, only a rebuild is accepted. An incomplete block would make the rest of the file
        // unreadable.
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

/// Returns the path of the rolling file (signalling of legs without media).
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("signalling.rolling")
}

/// Reads the blocks of each leg from the rolling file (signalling of legs without media) that an earlier process left.
/// Stops at damage.
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

/// Copies the blocks of some legs to a new file. Unreadable blocks are left out; otherwise a damaged file could never
/// be rebuilt.
///
/// # Errors
/// Fails if `new` cannot be written.
fn copy_legs(old: File, legs: &HashSet<u64>, new: &File) -> io::Result<()> {
    let mut out = io::BufWriter::new(new);
    let mut blocks = BlockReader::new(old, 0);
    let mut is_kept = false;
    while let Ok(NextBlock::Block(_, block)) = blocks.next() {
        if let Some((kind, leg)) = read_tag(block) {
            is_kept = kind == LEG_TAG && legs.contains(&leg);
        }
        if is_kept {
            out.write_all(block)?;
        }
    }
    out.flush()
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

/// First bytes of a tag, i.e. of a custom block that names a leg in the rolling file. Decisions of the call engine
/// begin with other bytes.
const MAGIC: [u8; 8] = *b"callsleg";
/// Kind of a tag (custom block that names a leg) in the rolling file: the blocks after the tag belong to that leg.
const LEG_TAG: u32 = 1;
/// Kind of a tag (custom block that names a leg) in the rolling file: the leg is removed, so a reader skips its blocks.
const REMOVED_TAG: u32 = 2;
const TAG_BYTES: usize = 36;
/// Error number (errno) of an attempt to append to a file that does not exist any more.
const NO_FILE: i32 = rustix::io::Errno::NOENT.raw_os_error();
/// Minimum size of the rolling file (signalling of legs without media) before it is written anew, bytes. The file must
/// also have doubled since it was last written anew. So at most twice as many bytes are written.
const MIN_REBUILD_BYTES: usize = 16 * 1024 * 1024;
/// Maximum size of the blocks that wait for the writer, bytes. Above this size, e.g. in a flood of INVITEs, waiting
/// blocks are dropped and the rolling file (signalling of legs without media) is written anew.
const MAX_BUFFER: usize = 4 * 1024 * 1024;
/// Assumed maximum time until the row of an ended call is written to the journal (the database). The blocks of the
/// call's legs stay in the rolling file for this time plus twice the sync interval.
const REMOVAL_MARGIN: Duration = Duration::from_secs(2);
/// Maximum number of removed legs (ended, or with a file of their own) with blocks that are still in the rolling file,
/// 24 bytes each. It suffices for 160 legs a second at the longest sync interval. In a flood, the blocks of the oldest
/// legs are dropped earlier.
const MAX_REMOVED: usize = 100_000;
/// Maximum size of the blocks of ended legs that a rebuild copies, bytes: 10,000 missed calls with seven messages each.
/// In a flood, the blocks of the oldest ended legs are dropped earlier. Otherwise the writer would copy gigabytes while
/// media waits for it.
const MAX_KEPT_BYTES: usize = 64 * 1024 * 1024;
/// Minimum time between two rebuilds of the rolling file. With 40,000 pending legs (legs without media so far), a
/// rebuild can write 100 MiB.
const REBUILD_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::decision::{Decision, TimedDecision};
    use crate::spool::pending_leg::PendingLeg;

    /// Size of the blocks of a leg with very large SIP messages, bytes.
    const LARGE: usize = 48 * 1024;

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
        let mut rolling = RollingBuffer::new(Duration::from_secs(5)); // gives a removal delay of 12 s
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
        rolling.remove_leg(LegId(2), at(10), 1);
        let RollingDue::Append(bytes) = rolling.take_due(at(21)) else { panic!("due") };
        file.append(&bytes).expect("written");
        assert_eq!(read(dir.path()).expect("readable").len(), 3, "the journal may not have its end on the disk yet");
        let RollingDue::Append(bytes) = rolling.take_due(at(22)) else { panic!("due") };
        file.append(&bytes).expect("written");
        assert_eq!(rolling.take_due(at(23)), RollingDue::Nothing);
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
    fn rebuilt_file_keeps_ended_legs_until_the_journal_is_on_disk() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut file = RollingFile::new(dir.path());
        let mut rolling = RollingBuffer::new(Duration::from_secs(5));
        rolling.activate();
        let mut rebuild = |rolling: &mut RollingBuffer, now| {
            let last = rolling.take_blocks();
            if !last.is_empty() {
                file.append(&last).expect("written");
            }
            file.rebuild(file.create().expect("made"), &rolling.rebuild(now, std::iter::empty())).expect("written");
            read(dir.path()).expect("readable")
        };
        assert!(rebuild(&mut rolling, at(0)).is_empty());
        for leg in 1..=3 {
            rolling.add_blocks(LegId(leg), &block(1));
            rolling.add_blocks(LegId(leg), &block(2));
        }
        rolling.remove_leg(LegId(1), at(5), 1);
        rolling.remove_leg(LegId(2), at(6), 1);
        rolling.remove_leg(LegId(3), at(6), 0); // leg 3 has a file of its own
        let whole = [block(1), block(2)].concat();
        assert_eq!(rebuild(&mut rolling, at(6)), [(1, whole.clone()), (2, whole.clone())].into());
        assert!(matches!(rolling.take_due(at(17)), RollingDue::Append(_)), "the end of the first leg");
        assert_eq!(rebuild(&mut rolling, at(17)), [(2, whole)].into());
        assert!(matches!(rolling.take_due(at(18)), RollingDue::Append(_)), "the end of the second leg");
        assert!(rebuild(&mut rolling, at(18)).is_empty());
    }

    #[test]
    fn flood_of_ended_legs_keeps_the_newest_within_the_limit() {
        let mut rolling = RollingBuffer::new(Duration::from_secs(5));
        rolling.activate();
        rolling.rebuild(at(0), std::iter::empty());
        let limit = MAX_KEPT_BYTES / LARGE;
        let legs = 3 * limit as u64;
        (0..legs).for_each(|leg| rolling.remove_leg(LegId(leg), at(1), LARGE));
        let kept = rolling.rebuild(at(5), std::iter::empty()).kept;
        assert_eq!(kept, (legs - limit as u64..legs).collect(), "the newest");
        assert!(rolling.rebuilt_size <= MAX_KEPT_BYTES + 4096, "{}", rolling.rebuilt_size);
        // The legs were removed at 1 s, and their blocks must be kept for 12 s. So at 13 s, no block must be kept.
        assert!(matches!(rolling.take_due(at(13)), RollingDue::Append(_)));
        assert_eq!(rolling.kept_bytes, 0);
        rolling.remove_leg(LegId(legs), at(14), LARGE);
        assert_eq!(rolling.rebuild(at(14), std::iter::empty()).kept, [legs].into());
    }

    #[test]
    fn file_so_far_stays_if_the_new_file_cannot_be_synced() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut file = RollingFile::new(dir.path());
        let mut rolling = RollingBuffer::new(Duration::from_secs(5));
        rolling.activate();
        let mut pending = PendingLeg::default();
        pending.add_decision(&TimedDecision { at_ns: 1, decision: Decision::Pause });
        let mut contents = || rolling.rebuild(at(0), [(LegId(1), &pending)].into_iter());
        file.rebuild(file.create().expect("made"), &contents()).expect("written");
        let before = read(dir.path()).expect("readable");
        drop(file.create().expect("made"));
        // The new file is a device that cannot be synced: fsync(2) returns EINVAL. So the rebuild fails, and the old
        // file must stay.
        let device = std::fs::OpenOptions::new().write(true).open("/dev/null").expect("there");
        file.rebuild(device, &contents()).expect_err("not on the disk");
        assert_eq!((before.len(), read(dir.path()).expect("readable")), (1, before));
    }

    #[test]
    fn blocks_and_removals_are_appended_until_a_requested_rebuild() {
        let mut rolling = RollingBuffer::new(Duration::from_secs(5));
        rolling.activate();
        rolling.rebuild(at(0), std::iter::empty());
        rolling.request_rebuild();
        rolling.add_blocks(LegId(1), &block(1));
        assert!(matches!(rolling.take_due(at(1)), RollingDue::Append(_)));
        rolling.remove_leg(LegId(1), at(1), 1);
        rolling.put_removed();
        assert!(matches!(rolling.take_due(at(1)), RollingDue::Append(_)), "the process may end before the rebuild");
        assert_eq!(rolling.take_due(at(4)), RollingDue::Nothing);
        assert_eq!(rolling.take_due(at(5)), RollingDue::Rebuild);
        rolling.rebuild(at(5), std::iter::empty());
        assert_eq!(rolling.take_due(at(10)), RollingDue::Nothing);
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
