//! The files of legs. A disk error is treated as temporary: a chunk (consecutive blocks) that cannot be written waits
//! and is written later.
//!
//! # Invariants
//! - The chunks of a leg are written in order, each completely or not at all.
//! - If a chunk of one leg cannot be written, the other legs are not delayed. The chunks of that leg wait in memory;
//!   the capture thread limits their size.
//! - If somebody removes a file or its folder, the file is created again. It begins with the header and the first
//!   blocks, so that it can be rendered. The call record reports the lost sound.
//! - A chunk is given up in three cases. The process ends; or other files can be written ([`super::hopeless_legs`]), and the call has
//!   ended or the memory is needed for other legs. The record of the call then names the error. While the disk is full,
//!   both must be true, because a full disk still takes a small file now and then.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::descriptors::is_shortage;
use super::hopeless_legs::{WaitingChunks, hopeless_legs};
use super::leg_file::LegFile;
use super::open_files::OpenFiles;
use super::spool_folder::{NO_DISK, SpoolFolder};
use super::sync_thread::{SyncFolder, SyncThread};
use super::unsynced_legs::UnsyncedLegs;
use crate::call::errno::OsErrno;
use crate::call::event::LegId;

/// The files of all legs. If too many files are open, the least recently used files are closed.
pub(super) struct LegFiles {
    folder: SpoolFolder,
    legs: HashMap<LegId, LegFile, foldhash::fast::RandomState>,
    open_files: OpenFiles,
    sync_thread: SyncThread,
    unsynced: UnsyncedLegs,
    /// Legs with chunks (consecutive blocks) that could not be written yet, each leg with its disk error.
    waiting: BTreeMap<LegId, WaitingLeg>,
    /// Legs that lost sound because of a disk error, each with its error.
    failures: HashMap<LegId, OsErrno, foldhash::fast::RandomState>,
    /// Paths of files that could not be removed yet.
    removals: Vec<PathBuf>,
    /// Time of the latest successful write; `None` before the first.
    wrote_at: Option<Instant>,
    failure_count: u64,
    /// Whether blocks of the rolling file (signalling of legs without media) may be missing on the disk.
    needs_rolling_rebuild: bool,
    /// Size of all waiting chunks above which chunks of a leg are given up even if its call goes on, bytes.
    max_waiting_bytes: usize,
}

/// A leg with chunks that could not be written yet.
#[derive(Clone, Copy, Debug)]
struct WaitingLeg {
    since: Instant,
    errno: OsErrno,
}

/// Chunks that were written or given up, so that their memory can be reused.
pub(super) type DoneChunks = Vec<Vec<u8>>;

impl LegFiles {
    /// Creates an empty set of files and starts the thread that syncs them. `buffer_bytes` is the maximum size of the
    /// chunks of all legs that wait for the disk.
    ///
    /// # Errors
    /// Fails if the system refuses another thread.
    pub(super) fn new(dir: PathBuf, buffer_bytes: usize) -> io::Result<Self> {
        Self::with_sync(dir, buffer_bytes, Box::new(|folder| rustix::fs::syncfs(folder).map_err(io::Error::from)))
    }

    /// Creates the set of files, with a function that syncs their file system.
    pub(super) fn with_sync(dir: PathBuf, buffer_bytes: usize, sync: SyncFolder) -> io::Result<Self> {
        Ok(Self {
            folder: SpoolFolder::new(dir),
            legs: HashMap::default(),
            open_files: OpenFiles::new(),
            sync_thread: SyncThread::start(sync)?,
            unsynced: UnsyncedLegs::default(),
            waiting: BTreeMap::new(),
            failures: HashMap::default(),
            removals: Vec::new(),
            wrote_at: None,
            failure_count: 0,
            needs_rolling_rebuild: false,
            max_waiting_bytes: buffer_bytes / 2,
        })
    }

    /// Adds a leg. If an earlier process left its file, `length` is the length of the complete blocks in it, bytes.
    pub(super) fn open_leg(&mut self, leg: LegId, path: PathBuf, length: Option<u64>) {
        self.legs.insert(leg, LegFile::new(path, length));
    }

    /// Appends a chunk (consecutive blocks) to the leg's file. If that fails, keeps the chunk for another attempt.
    pub(super) fn write(&mut self, leg: LegId, bytes: Vec<u8>) -> DoneChunks {
        let Some(state) = self.legs.get_mut(&leg) else { return vec![bytes] };
        state.chunks.push_back(bytes);
        if self.waiting.contains_key(&leg) { DoneChunks::new() } else { self.write_chunks(leg) }
    }

    /// Tries again to write the waiting chunks, and to remove files that could not be removed.
    pub(super) fn retry(&mut self) -> DoneChunks {
        let wrote_at = self.wrote_at;
        self.folder.refill_reserve();
        let removals = std::mem::take(&mut self.removals);
        removals.into_iter().for_each(|path| self.remove_file(path));
        let legs: Vec<LegId> = self.waiting.keys().copied().collect();
        let mut done: DoneChunks = legs.into_iter().flat_map(|leg| self.write_chunks(leg)).collect();
        // A write of this pass does not count. The disk may have come back in it, after the attempt of other legs.
        done.extend(wrote_at.map_or_else(DoneChunks::new, |wrote_at| self.give_up_hopeless_legs(wrote_at)));
        done
    }

    /// Gives up writing all waiting chunks, because the process ends. Returns their memory.
    pub(super) fn give_up_all(&mut self) -> DoneChunks {
        let legs: Vec<LegId> = self.waiting.keys().copied().collect();
        legs.into_iter().flat_map(|leg| self.give_up(leg)).collect()
    }

    /// Closes a leg's file as soon as its chunks are written.
    pub(super) fn close(&mut self, leg: LegId) {
        match self.legs.get_mut(&leg) {
            Some(state) if !state.chunks.is_empty() => state.is_closed = true,
            _ => self.forget(leg),
        }
    }

    /// Removes a leg and its file. If the leg was closed before, `closed` is the path of its file.
    pub(super) fn discard(&mut self, leg: LegId, closed: Option<PathBuf>) -> DoneChunks {
        let state = self.legs.get_mut(&leg);
        let path = state.as_ref().map(|state| state.path.clone()).or(closed);
        let done = state.map(|state| state.chunks.drain(..).collect()).unwrap_or_default();
        self.waiting.remove(&leg);
        self.forget(leg);
        self.take_failure(leg);
        if let Some(path) = path {
            self.remove_file(path);
        }
        done
    }

    /// Returns the disk error by which a leg lost sound; `None` if there was none. The leg is then forgotten, so the
    /// caller must report the error now.
    pub(super) fn take_failure(&mut self, leg: LegId) -> Option<OsErrno> {
        self.unsynced.remove(leg);
        self.failures.remove(&leg)
    }

    /// Returns whether bytes of a leg wait to be written, or whether the running sync may lose them. Bytes that were
    /// written during the sync are lost, too, if it fails. Bytes that only a later sync writes are not waited for.
    pub(super) fn is_waiting(&self, leg: LegId) -> bool {
        self.waiting.contains_key(&leg) || self.sync_thread.is_running() && self.unsynced.contains(leg)
    }

    /// Returns whether a chunk waits to be written, or a file waits to be removed.
    pub(super) fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.removals.is_empty()
    }

    /// Returns the disk error of the leg with chunks that have waited longest to be written; `None` if no chunk waits.
    pub(super) fn current_error(&self) -> Option<OsErrno> {
        self.waiting.values().min_by_key(|waiting| waiting.since).map(|waiting| waiting.errno)
    }

    /// Begins to sync the file system of the folder, on another thread. Returns whether the sync began. It does not if an
    /// earlier sync is still running, if the folder cannot be opened, or if its disk is missing.
    pub(super) fn begin_sync(&mut self) -> bool {
        if self.sync_thread.is_running() {
            return false;
        }
        let folder = match self.sync_folder() {
            Ok(folder) => folder,
            // Nothing was synced and nothing is lost. The next sync comes soon.
            Err(error) => {
                if error.raw_os_error() == Some(NO_DISK) {
                    // The chunks of each leg wait until the disk is back.
                    self.leave_folder();
                }
                self.log_folder_failure(&error);
                return false;
            }
        };
        self.unsynced.begin_sync();
        self.sync_thread.begin(folder);
        true
    }

    /// Returns the open folder of the spool, to sync its file system.
    fn sync_folder(&mut self) -> io::Result<Arc<File>> {
        self.folder.check_disk()?;
        if self.folder.is_replaced() {
            // Somebody replaced the folder, or mounted another disk over it and accepted that disk.
            self.leave_folder();
        }
        self.folder.open()
    }

    /// Closes all files, because no reader finds the files in the old folder. The next write opens each file again.
    fn leave_folder(&mut self) {
        while !self.open_files.is_empty() {
            self.close_least_recent();
        }
        self.folder.close();
        self.needs_rolling_rebuild = true;
    }

    /// Handles the end of a sync, if the running sync has ended by now. Returns whether it has.
    pub(super) fn finish_sync(&mut self) -> bool {
        let finished = self.sync_thread.take_finished();
        finished.map(|result| self.note_synced(result)).is_some()
    }

    /// Syncs the file system of the folder and waits for the end of the sync.
    pub(super) fn sync_and_wait(&mut self) {
        if let Some(result) = self.sync_thread.wait() {
            self.note_synced(result);
        }
        if self.begin_sync()
            && let Some(result) = self.sync_thread.wait()
        {
            self.note_synced(result);
        }
    }

    /// Returns whether a sync failed since the last call of this function, or whether a sync found the disk missing. Then
    /// the rolling file (signalling of legs without media) must be written anew.
    pub(super) fn take_rebuild_request(&mut self) -> bool {
        std::mem::take(&mut self.needs_rolling_rebuild)
    }

    /// Returns the channel that becomes ready when the running sync ends; `None` if no sync is running.
    pub(super) fn sync_results(&self) -> Option<&Receiver<io::Result<()>>> {
        self.sync_thread.results()
    }

    /// Returns whether a sync of the disk has been running so long that the disk probably does not respond.
    pub(super) fn is_sync_overdue(&self, now: Instant) -> bool {
        self.sync_thread.is_overdue(now)
    }

    /// Handles a sync that has ended. If it failed, bytes may be missing in all files that were written before it or
    /// during it.
    fn note_synced(&mut self, result: io::Result<()>) {
        self.folder.refill_reserve();
        if let Err(error) = result {
            // Linux drops the pages that it could not write, and reports their error once. The next sync would succeed
            // although their bytes are missing (fsync(2)). So the files written before or during this sync are recorded
            // as damaged.
            let errno = errno_of(&error);
            self.failures.extend(self.unsynced.iter().map(|leg| (leg, errno)));
            self.log_folder_failure(&error);
            self.needs_rolling_rebuild = true;
        }
        self.unsynced.end_sync();
    }

    /// Opens a file that does not belong to a leg. If the process has no descriptor left, uses a reserved descriptor.
    pub(super) fn open_other<T>(&mut self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        self.folder.open_other(open)
    }

    /// Logs the first failure and then every [`LOG_EVERY`]th. With a full disk, a thousand writes a second fail.
    pub(super) fn log_failure(&mut self, path: &Path, error: &io::Error) {
        if self.failure_count.is_multiple_of(LOG_EVERY) {
            tracing::error!(path = %path.display(), %error, failures = self.failure_count + 1, "the spool cannot be written");
        }
        self.failure_count += 1;
    }

    /// Logs a failure of the folder itself.
    fn log_folder_failure(&mut self, error: &io::Error) {
        let path = self.folder.path().to_owned();
        self.log_failure(&path, error);
    }

    /// Writes the waiting chunks of a leg in order. Stops at the first chunk that cannot be written.
    fn write_chunks(&mut self, leg: LegId) -> DoneChunks {
        let mut done = DoneChunks::new();
        while let Some(written) = self.write_next_chunk(leg) {
            match written {
                Ok(chunk) => done.push(chunk),
                Err(error) => {
                    self.note_waiting(leg, &error);
                    return done;
                }
            }
        }
        self.waiting.remove(&leg);
        if self.legs.get(&leg).is_some_and(|state| state.is_closed) {
            self.forget(leg);
        }
        done
    }

    /// Writes the first waiting chunk of a leg. Returns `None` if no chunk waits.
    #[expect(clippy::disallowed_methods, reason = "how long a disk fails is no time of calls")]
    fn write_next_chunk(&mut self, leg: LegId) -> Option<io::Result<Vec<u8>>> {
        let this_use = self.open_files.next_use();
        loop {
            if self.legs.get(&leg)?.handle.is_none() && self.open_files.is_full() {
                self.close_least_recent();
            }
            let state = self.legs.get_mut(&leg)?;
            let last_use = state.last_use();
            let written = state.write_first(this_use, &mut self.folder)?;
            self.open_files.update(leg, last_use, state.last_use());
            if let Some(errno) = state.lost.take() {
                self.failures.insert(leg, errno);
            }
            match written {
                Err(error) if is_shortage(&error) && !self.open_files.is_empty() => self.close_least_recent(),
                Err(error) => return Some(Err(error)),
                Ok(chunk) => {
                    self.wrote_at = Some(Instant::now());
                    self.unsynced.add(leg);
                    return Some(Ok(chunk));
                }
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "how long a disk fails is no time of calls")]
    fn note_waiting(&mut self, leg: LegId, error: &io::Error) {
        let errno = errno_of(error);
        let waiting = self.waiting.entry(leg).or_insert_with(|| WaitingLeg { since: Instant::now(), errno });
        waiting.errno = errno;
        if let Some(path) = self.legs.get(&leg).map(|state| state.path.clone()) {
            self.log_failure(&path, error);
        }
    }

    /// Gives up the chunks of legs that could not be written for a long time, although another file could at `wrote_at`.
    fn give_up_hopeless_legs(&mut self, wrote_at: Instant) -> DoneChunks {
        let waiting = self.waiting.iter().map(|(&leg, &WaitingLeg { since, errno })| {
            let state = self.legs.get(&leg);
            let has_ended = state.is_none_or(|state| state.is_closed);
            let bytes = state.into_iter().flat_map(|state| &state.chunks).map(Vec::capacity).sum();
            WaitingChunks { leg, since, errno, has_ended, bytes }
        });
        let hopeless = hopeless_legs(waiting.collect(), wrote_at, self.max_waiting_bytes);
        hopeless.into_iter().flat_map(|leg| self.give_up(leg)).collect()
    }

    fn give_up(&mut self, leg: LegId) -> DoneChunks {
        if let Some(WaitingLeg { errno, .. }) = self.waiting.remove(&leg) {
            self.failures.insert(leg, errno);
        }
        let Some(state) = self.legs.get_mut(&leg) else { return DoneChunks::new() };
        let done = state.give_up_chunks();
        if state.is_closed {
            self.forget(leg);
        }
        done
    }

    fn remove_file(&mut self, path: PathBuf) {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.log_failure(&path, &error);
            if self.removals.len() < MAX_REMOVALS {
                self.removals.push(path);
            }
        }
    }

    fn forget(&mut self, leg: LegId) {
        if let Some(state) = self.legs.remove(&leg) {
            self.open_files.update(leg, state.last_use(), None);
        }
    }

    fn close_least_recent(&mut self) {
        if let Some(state) = self.open_files.take_least_recent().and_then(|leg| self.legs.get_mut(&leg)) {
            state.handle = None;
        }
    }
}

/// Returns the error number (errno) of an error. The reader of spools gives an error without a number if the file is
/// not a spool. Such an error becomes EIO.
pub(super) fn errno_of(error: &io::Error) -> OsErrno {
    let number = error.raw_os_error().or_else(|| match error.kind() {
        io::ErrorKind::WriteZero => Some(rustix::io::Errno::NOSPC.raw_os_error()),
        _ => None,
    });
    OsErrno(number.unwrap_or(rustix::io::Errno::IO.raw_os_error()))
}

/// Maximum number of files that wait to be removed. Further files stay until the next start of the service, which
/// renders their calls again and then removes the files.
const MAX_REMOVALS: usize = 10_000;
/// Number of further failures after which one more log line is written.
const LOG_EVERY: u64 = 1_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::Sender;

    use super::*;
    use crate::spool::hopeless_legs::GIVE_UP;
    use crate::spool::{format, storage};

    /// The files of legs in a folder of their own. A sync runs until the test sends its result.
    struct TestFiles {
        dir: tempfile::TempDir,
        files: LegFiles,
        results: Sender<io::Result<()>>,
    }

    impl TestFiles {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let (results, ends) = crossbeam_channel::unbounded::<io::Result<()>>();
            let sync = move |_: &File| ends.recv().expect("the test sends a result");
            let files = LegFiles::with_sync(dir.path().to_owned(), BUFFER, Box::new(sync)).expect("a thread");
            Self { dir, files, results }
        }

        /// Writes a chunk to the file of a new leg.
        fn write(&mut self, leg: LegId) {
            self.files.open_leg(leg, self.dir.path().join(leg.0.to_string()), None);
            assert_eq!(self.files.write(leg, vec![1; 100]).len(), 1, "the chunk is written");
        }

        /// Ends the running sync.
        fn end_sync(&mut self, result: io::Result<()>) {
            self.results.send(result).expect("the sync waits for it");
            while !self.files.finish_sync() {
                std::thread::yield_now();
            }
        }
    }

    const EIO: rustix::io::Errno = rustix::io::Errno::IO;
    /// Maximum size of the chunks that wait for the disk, bytes.
    const BUFFER: usize = 2_000;

    fn eio() -> Option<OsErrno> {
        Some(OsErrno(EIO.raw_os_error()))
    }

    #[test]
    fn writes_go_on_during_a_slow_sync_that_fails() {
        let mut test = TestFiles::new();
        let [before, during] = [LegId(1), LegId(2)];
        test.write(before);
        assert!(test.files.begin_sync());
        test.write(during);
        test.files.close(before);
        assert!(!test.files.finish_sync() && !test.files.begin_sync(), "the first sync is still running");
        assert!(test.files.is_waiting(before), "the end of its call waits for the sync");
        test.end_sync(Err(EIO.into()));
        assert_eq!(test.files.take_failure(before), eio(), "the bytes of the first sync may be missing");
        assert_eq!(test.files.take_failure(during), eio(), "they were written before the first sync failed");
    }

    #[test]
    fn failed_sync_is_reported_for_closed_legs() {
        let mut test = TestFiles::new();
        let [before, during] = [LegId(1), LegId(2)];
        test.write(before);
        test.files.close(before);
        assert!(!test.files.is_waiting(before), "no sync is running");
        assert!(test.files.begin_sync());
        test.write(during);
        test.files.close(during);
        assert!([before, during].iter().all(|leg| test.files.is_waiting(*leg)), "the sync may lose bytes of both");
        test.end_sync(Err(EIO.into()));
        assert_eq!([before, during].map(|leg| test.files.take_failure(leg)), [eio(), eio()]);
    }

    #[test]
    fn end_of_a_call_waits_for_at_most_one_sync() {
        let mut test = TestFiles::new();
        test.write(LegId(1));
        assert!(test.files.begin_sync());
        test.write(LegId(2));
        test.files.close(LegId(2));
        assert!(test.files.is_waiting(LegId(2)));
        test.end_sync(Ok(()));
        assert!(!test.files.is_waiting(LegId(2)), "only the next sync writes its bytes for certain");
        assert_eq!(test.files.take_failure(LegId(2)), None);
        assert_eq!(test.files.unsynced.iter().count(), 0, "nobody asks for an ended leg again");
    }

    /// A status flag of the open folder shows whether two syncs use the same open folder.
    #[test]
    fn folder_stays_open_from_one_sync_to_the_next() {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        let parent = tempfile::tempdir().expect("a folder");
        let dir = parent.path().join("spool");
        std::fs::create_dir(&dir).expect("made");
        let (seen, was_used) = crossbeam_channel::unbounded();
        let sync = move |folder: &File| {
            let flags = fcntl_getfl(folder)?;
            let _ = seen.send(flags.contains(OFlags::NONBLOCK)); // fails if the test has ended
            Ok(fcntl_setfl(folder, flags | OFlags::NONBLOCK)?)
        };
        let mut files = LegFiles::with_sync(dir.clone(), BUFFER, Box::new(sync)).expect("a thread");
        files.sync_and_wait();
        files.sync_and_wait();
        std::fs::rename(&dir, parent.path().join("away")).expect("renamed");
        std::fs::create_dir(&dir).expect("made");
        files.sync_and_wait();
        assert_eq!(was_used.try_iter().collect::<Vec<_>>(), [false, true, false], "the third folder is a new one");
    }

    #[test]
    fn sync_notices_that_another_disk_is_mounted() {
        let (parent, leg) = (tempfile::tempdir().expect("a folder"), LegId(1));
        let [spool, away, other] = ["spool", "away", "other"].map(|name| parent.path().join(name));
        let marked = |dir: &Path| storage::mark_all(&[("spool", dir)]);
        marked(&spool);
        let mut files = LegFiles::with_sync(spool.clone(), BUFFER, Box::new(|_| Ok(()))).expect("a thread");
        files.open_leg(leg, spool.join("leg"), None);
        let mut chunk = Vec::new();
        format::put_header(&mut chunk);
        assert_eq!(files.write(leg, chunk.clone()).len(), 1);
        // The open file stays on the first disk, as after `umount -l`.
        std::fs::rename(&spool, &away).expect("renamed");
        marked(&spool);
        assert_eq!(files.write(leg, chunk.clone()).len(), 1, "nobody has looked at the disk yet");
        assert!(!files.begin_sync());
        assert_eq!(files.write(leg, chunk.clone()).len(), 0, "the chunk waits");
        assert_eq!(files.current_error(), Some(OsErrno(NO_DISK)));
        std::fs::rename(&spool, &other).expect("renamed");
        std::fs::rename(&away, &spool).expect("renamed");
        assert_eq!(files.retry().len(), 1);
        assert_eq!(std::fs::read(spool.join("leg")).expect("there"), chunk.repeat(3));
        assert_eq!(files.take_failure(leg), None);
    }

    #[test]
    fn leg_goes_on_in_the_folder_that_was_put_in_its_place() {
        let parent = tempfile::tempdir().expect("a folder");
        let (leg, spool) = (LegId(1), parent.path().join("spool"));
        let marked = || storage::mark_all(&[("spool", &spool)]);
        marked();
        let mut files = LegFiles::with_sync(spool.clone(), BUFFER, Box::new(|_| Ok(()))).expect("a thread");
        files.open_leg(leg, spool.join("leg"), None);
        let mut header = Vec::new();
        format::put_header(&mut header);
        assert_eq!(files.write(leg, header.clone()).len(), 1);
        files.sync_and_wait();
        // The open file stays in the old folder, as if another disk was mounted over it. An empty marker accepts the disk.
        std::fs::rename(&spool, parent.path().join("covered")).expect("renamed");
        std::fs::create_dir(&spool).expect("made");
        std::fs::write(spool.join(storage::FILE_NAME), "").expect("written");
        files.sync_and_wait();
        assert_eq!(files.write(leg, vec![1; 100]).len(), 1);
        assert_eq!(std::fs::read(spool.join("leg")).expect("there"), [header, vec![1; 100]].concat());
        let lost = OsErrno(rustix::io::Errno::NOENT.raw_os_error());
        assert_eq!((files.take_failure(leg), files.take_rebuild_request()), (Some(lost), true));
    }

    /// Somebody removes the file of an earlier process before its leg has a new packet.
    #[test]
    fn removed_file_of_an_earlier_process_begins_with_its_header_again() {
        let mut test = TestFiles::new();
        let (leg, path) = (LegId(1), test.dir.path().join("leg"));
        let mut header = Vec::new();
        format::put_header(&mut header);
        std::fs::write(&path, &header).expect("written");
        test.files.open_leg(leg, path.clone(), Some(header.len() as u64));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(test.files.write(leg, vec![1; 100]).len(), 1, "the chunk is written");
        assert_eq!(std::fs::read(&path).expect("there"), [header, vec![1; 100]].concat());
        let lost = OsErrno(rustix::io::Errno::NOENT.raw_os_error());
        assert_eq!(test.files.take_failure(leg), Some(lost));
    }

    /// A folder has the name of the leg's file, so the file cannot be opened.
    #[test]
    fn file_that_stays_unwritable_takes_no_memory_from_other_legs() {
        let mut test = TestFiles::new();
        let (leg, path) = (LegId(1), test.dir.path().join("leg"));
        std::fs::create_dir(&path).expect("made");
        test.files.open_leg(leg, path.clone(), None);
        let mut header = Vec::new();
        format::put_header(&mut header);
        let chunks: Vec<Vec<u8>> = std::iter::once(header.clone()).chain(vec![vec![1; 100]; 20]).collect();
        chunks.into_iter().for_each(|chunk| assert!(test.files.write(leg, chunk).is_empty(), "it waits"));
        test.write(LegId(2));
        assert!(test.files.retry().is_empty(), "the error may be temporary");
        let waiting = test.files.waiting.get_mut(&leg).expect("it waits");
        waiting.since = waiting.since.checked_sub(2 * GIVE_UP).expect("the machine runs longer than that");
        assert_eq!(test.files.retry().len(), 21, "their memory can be used again");
        std::fs::remove_dir(&path).expect("empty");
        assert_eq!(test.files.write(leg, vec![2; 100]).len(), 1, "the call goes on");
        assert_eq!(std::fs::read(&path).expect("there"), [header, vec![2; 100]].concat());
        let errno = OsErrno(rustix::io::Errno::ISDIR.raw_os_error());
        assert_eq!(test.files.take_failure(leg), Some(errno));
    }

    /// Another leg could be written, because it needed less room.
    #[test]
    fn ended_leg_is_not_given_up_while_the_disk_is_full() {
        let mut test = TestFiles::new();
        let (leg, path) = (LegId(1), test.dir.path().join("leg"));
        std::os::unix::fs::symlink("/dev/full", &path).expect("made");
        test.files.open_leg(leg, path.clone(), None);
        assert!(test.files.write(leg, vec![1; 100]).is_empty(), "it waits");
        test.files.close(leg);
        test.write(LegId(2));
        let waiting = test.files.waiting.get_mut(&leg).expect("it waits");
        assert!(waiting.errno.is_disk_full(), "{waiting:?}");
        waiting.since = waiting.since.checked_sub(2 * GIVE_UP).expect("the machine runs longer than that");
        assert!(test.files.retry().is_empty() && test.files.is_waiting(leg), "it waits for room");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(test.files.retry().len(), 1);
        assert_eq!((std::fs::read(&path).expect("there").len(), test.files.take_failure(leg)), (100, None));
    }

    /// Without free inodes, files that exist can be written, and new files cannot be created.
    #[test]
    fn ended_legs_give_up_their_memory_if_no_file_can_be_created() {
        let mut test = TestFiles::new();
        let legs = [(LegId(1), 100), (LegId(3), BUFFER), (LegId(4), BUFFER)];
        for (leg, bytes) in legs {
            let path = test.dir.path().join(leg.0.to_string());
            std::os::unix::fs::symlink("/dev/full", &path).expect("made");
            test.files.open_leg(leg, path, None);
            assert!(test.files.write(leg, vec![1; bytes]).is_empty(), "it waits");
        }
        let [newest, ended, live] = legs.map(|(leg, _)| leg);
        [newest, ended].into_iter().for_each(|leg| test.files.close(leg));
        test.write(LegId(2));
        for (leg, age) in [(live, 2), (ended, 1), (newest, 0)] {
            let waiting = test.files.waiting.get_mut(&leg).expect("it waits");
            waiting.since = waiting
                .since
                .checked_sub(2 * GIVE_UP + Duration::from_secs(age))
                .expect("the machine runs longer than that");
        }
        assert_eq!(test.files.retry().iter().map(Vec::len).collect::<Vec<_>>(), [BUFFER, 100]);
        assert!(test.files.is_waiting(live), "its call goes on, so it waits for room");
        assert_eq!(test.files.take_failure(ended), test.files.current_error(), "its record names the error");
    }

    /// The leg that has waited longest takes most of the memory.
    #[test]
    fn full_disk_costs_no_more_calls_than_the_memory_needs() {
        let mut test = TestFiles::new();
        for (leg, bytes) in [(LegId(1), BUFFER), (LegId(3), 100)] {
            let path = test.dir.path().join(leg.0.to_string());
            std::os::unix::fs::symlink("/dev/full", &path).expect("made");
            test.files.open_leg(leg, path, None);
            assert!(test.files.write(leg, vec![1; bytes]).is_empty(), "it waits");
            test.files.close(leg);
        }
        test.write(LegId(2));
        for waiting in test.files.waiting.values_mut() {
            waiting.since = waiting.since.checked_sub(2 * GIVE_UP).expect("the machine runs longer than that");
        }
        assert_eq!(test.files.retry().len(), 1, "the memory suffices then");
        assert!(test.files.is_waiting(LegId(3)) && !test.files.is_waiting(LegId(1)));
    }

    /// The file of the second leg can be written again after the first leg was tried, as if the disk came back then.
    #[test]
    fn leg_tried_before_the_disk_came_back_is_not_given_up() {
        let mut test = TestFiles::new();
        let legs = [1, 2].map(|leg| (LegId(leg), test.dir.path().join(leg.to_string())));
        for (leg, path) in &legs {
            std::fs::create_dir(path).expect("made");
            test.files.open_leg(*leg, path.clone(), None);
            assert!(test.files.write(*leg, vec![1; 100]).is_empty(), "it waits");
            test.files.close(*leg);
            let waiting = test.files.waiting.get_mut(leg).expect("it waits");
            waiting.since = waiting.since.checked_sub(2 * GIVE_UP).expect("the machine runs longer than that");
        }
        for (leg, path) in legs.iter().rev() {
            std::fs::remove_dir(path).expect("empty");
            assert_eq!(test.files.retry().len(), 1, "the other leg waits");
            assert_eq!((std::fs::read(path).expect("there").len(), test.files.take_failure(*leg)), (100, None));
        }
    }

    #[test]
    fn discarded_leg_leaves_nothing_behind() {
        let mut test = TestFiles::new();
        let [before, during] = [LegId(1), LegId(2)];
        test.write(before);
        assert!(test.files.begin_sync());
        test.write(during);
        test.files.close(during);
        test.files.discard(before, None);
        test.files.discard(during, None);
        assert!(![before, during].iter().any(|leg| test.files.is_waiting(*leg)));
        test.end_sync(Err(EIO.into()));
        assert!(test.files.failures.is_empty());
    }
}
