//! The thread that writes the spool: the only place of `run` where a leg's file is touched.
//!
//! A disk that is full or read-only is waited for, and everything waits behind in its order: what is heard meanwhile
//! stays in memory up to `buffer_mib`, and only then packets are dropped, by the capture thread, and counted. News of
//! calls under way pass, for a telephone that rings cannot wait.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::file_name;
use super::reader::LegSource;
use super::rolling::RollingFile;
use crate::call::event::{CallEvent, LegId};
use crate::call::record::Problem;

/// What the capture thread tells the writer, in order.
pub(super) enum WriterMessage {
    /// A leg has a file from now on; `length`: the whole blocks of one that an earlier process left.
    OpenFile { leg: LegId, name: String, length: Option<u64> },
    /// Blocks of a leg.
    Write { leg: LegId, bytes: Vec<u8> },
    /// New blocks for the file of the legs without a file.
    AppendRolling(Vec<u8>),
    /// All blocks of that file.
    RebuildRolling(Vec<u8>),
    /// A leg is over.
    Close(LegId),
    /// A leg and its file are to be forgotten; it may be closed already.
    Discard { leg: LegId, name: Option<String> },
    /// To be passed on after all that came before it.
    Event(CallEvent),
    /// To be answered when all that came before is on the disk.
    Flush(Sender<()>),
    /// The end: everything before it is written and synced.
    Stop,
}

/// The writer's end of everything.
pub(super) struct SpoolWriter {
    pub(super) dir: PathBuf,
    pub(super) sync_every: Duration,
    pub(super) messages: Receiver<WriterMessage>,
    pub(super) events: Sender<CallEvent>,
    pub(super) recycled: Sender<Vec<u8>>,
    /// Bytes that were sent and are not written yet.
    pub(super) queued: Arc<AtomicUsize>,
    pub(super) files: LegFiles,
    /// Signalling of legs without a file; an error is told to the capture thread.
    pub(super) rolling: RollingFile,
    pub(super) rolling_failed: Arc<AtomicBool>,
    /// What came while the disk took nothing.
    pub(super) backlog: VecDeque<WriterMessage>,
    /// The process ends: nothing is waited for any more.
    pub(super) is_ending: bool,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteOutcome {
    /// Written, or lost for good and counted.
    Done,
    /// The same may work later.
    DiskFull,
}

impl SpoolWriter {
    /// Works until told to stop, or until the capture thread is gone.
    #[expect(clippy::disallowed_methods, reason = "the writer's own schedule of syncs, not the time of calls")]
    pub(super) fn run(mut self) {
        let mut next_sync = Instant::now() + self.sync_every;
        let mut dirty = false;
        loop {
            let timeout = next_sync.saturating_duration_since(Instant::now());
            let next = match self.backlog.pop_front() {
                Some(message) => Ok(message),
                None => self.messages.recv_timeout(timeout),
            };
            match next {
                Ok(WriterMessage::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(message) => dirty |= self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next_sync {
                if dirty {
                    self.sync();
                    dirty = false;
                }
                next_sync = Instant::now() + self.sync_every;
            }
        }
        self.sync();
    }

    /// Whether something was written.
    fn handle(&mut self, message: WriterMessage) -> bool {
        match message {
            WriterMessage::OpenFile { leg, name, length } => {
                self.files.open_leg(leg, self.dir.join(file_name(&name)), length)
            }
            WriterMessage::Write { leg, mut bytes } => {
                while self.files.write(leg, &bytes) == WriteOutcome::DiskFull {
                    if self.is_ending {
                        self.files.failures.insert(leg, DISK_FULL);
                        break;
                    }
                    self.wait_for_space();
                }
                self.queued.fetch_sub(bytes.capacity(), Ordering::Relaxed);
                bytes.clear();
                let _ = self.recycled.try_send(bytes); // enough are on their way back: this one is freed
                return true;
            }
            WriterMessage::AppendRolling(bytes) => {
                let result = self.rolling.append(&bytes);
                return self.finish_rolling_write(&bytes, result);
            }
            WriterMessage::RebuildRolling(bytes) => {
                let result = self.rolling.rebuild(&bytes);
                return self.finish_rolling_write(&bytes, result);
            }
            WriterMessage::Close(leg) => self.files.close(leg),
            WriterMessage::Discard { leg, name } => {
                self.files.discard(leg, name.map(|name| self.dir.join(file_name(&name))));
            }
            WriterMessage::Event(mut event) => {
                if let CallEvent::Ended(ended) = &mut event {
                    for leg in &ended.legs {
                        if let Some(kind) = self.files.take_failure(leg.leg) {
                            ended.record.problems.push(Problem { kind: kind.to_owned(), packets: None, ms: None });
                        }
                    }
                }
                let _ = self.events.send(event); // nobody listens any more: the process is ending
            }
            WriterMessage::Flush(done) => {
                self.sync();
                let _ = done.send(());
            }
            WriterMessage::Stop => {}
        }
        false
    }

    /// Nobody waits for this file: what could not be written is made good later.
    fn finish_rolling_write(&mut self, bytes: &Vec<u8>, result: io::Result<()>) -> bool {
        self.queued.fetch_sub(bytes.capacity(), Ordering::Relaxed);
        let Err(error) = result else { return true };
        self.rolling_failed.store(true, Ordering::Relaxed);
        let path = self.rolling.path().to_owned();
        self.files.log_failure(&path, &error);
        false
    }

    /// Takes in what comes while the disk takes nothing, for [`RETRY_AFTER`] at the most.
    #[expect(clippy::disallowed_methods, reason = "how long a disk is waited for is no time of calls")]
    fn wait_for_space(&mut self) {
        let until = Instant::now() + RETRY_AFTER;
        loop {
            match self.messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(WriterMessage::Event(event @ CallEvent::Changed(_))) => drop(self.events.send(event)),
                // All that could be written is; who waits for the rest would wait for a person.
                Ok(WriterMessage::Flush(done)) => drop(done.send(())),
                Ok(message) => {
                    self.is_ending |= matches!(message, WriterMessage::Stop);
                    self.backlog.push_back(message);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.is_ending = true;
                    return;
                }
                Err(RecvTimeoutError::Timeout) => return,
            }
        }
    }

    fn sync(&mut self) {
        let synced = File::open(&self.dir).and_then(|dir| rustix::fs::syncfs(&dir).map_err(io::Error::from));
        if let Err(error) = synced {
            self.files.log_failure(&self.dir.clone(), &error);
        }
    }
}

/// Open files of legs, the least recently used giving way.
#[derive(Default)]
pub(super) struct LegFiles {
    legs: HashMap<LegId, LegFile, foldhash::fast::RandomState>,
    open: usize,
    uses: u64,
    failures: HashMap<LegId, &'static str, foldhash::fast::RandomState>,
    failure_count: u64,
}

struct LegFile {
    path: PathBuf,
    handle: Option<(File, u64)>,
}

impl LegFiles {
    fn open_leg(&mut self, leg: LegId, path: PathBuf, length: Option<u64>) {
        // After a crash or a restart the leg's file is there: what a torn write left is cut off before more is added.
        let cut = match length {
            Some(length) => truncate_to(&path, length),
            None => truncate_torn_tail(&path),
        };
        if let Err(error) = cut {
            self.fail(leg, &path, &error);
        }
        self.legs.insert(leg, LegFile { path, handle: None });
    }

    fn write(&mut self, leg: LegId, bytes: &[u8]) -> WriteOutcome {
        self.uses += 1;
        let uses = self.uses;
        if self.legs.get(&leg).is_some_and(|state| state.handle.is_none()) && self.open >= MAX_OPEN {
            self.close_oldest();
        }
        let Some(state) = self.legs.get_mut(&leg) else { return WriteOutcome::Done };
        let before = state.handle.is_some();
        let result = state.write(uses, bytes);
        self.open += usize::from(!before && state.handle.is_some());
        let Err(error) = result else { return WriteOutcome::Done };
        let path = state.path.clone();
        if is_disk_full(&error) {
            self.log_failure(&path, &error);
            return WriteOutcome::DiskFull;
        }
        self.fail(leg, &path, &error);
        WriteOutcome::Done
    }

    fn close(&mut self, leg: LegId) {
        if self.legs.remove(&leg).is_some_and(|state| state.handle.is_some()) {
            self.open -= 1;
        }
    }

    fn discard(&mut self, leg: LegId, closed: Option<PathBuf>) {
        let path = self.legs.get(&leg).map(|state| state.path.clone()).or(closed);
        self.close(leg);
        self.failures.remove(&leg);
        if let Some(path) = path
            && let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.log_failure(&path, &error);
        }
    }

    fn take_failure(&mut self, leg: LegId) -> Option<&'static str> {
        self.failures.remove(&leg)
    }

    fn close_oldest(&mut self) {
        let oldest = self.legs.values_mut().filter(|leg| leg.handle.is_some());
        if let Some(leg) = oldest.min_by_key(|leg| leg.handle.as_ref().map(|(_, used)| *used)) {
            leg.handle = None;
            self.open -= 1;
        }
    }

    fn fail(&mut self, leg: LegId, path: &Path, error: &io::Error) {
        self.failures.insert(leg, if is_disk_full(error) { DISK_FULL } else { "spool_error" });
        self.log_failure(path, error);
    }

    /// One line for the first error and for each thousandth: a full disk fails a thousand times a second.
    fn log_failure(&mut self, path: &Path, error: &io::Error) {
        if self.failure_count.is_multiple_of(LOG_EVERY) {
            tracing::error!(path = %path.display(), %error, failures = self.failure_count + 1, "the spool cannot be written");
        }
        self.failure_count += 1;
    }
}

impl LegFile {
    fn write(&mut self, uses: u64, bytes: &[u8]) -> io::Result<()> {
        let (file, used) = match &mut self.handle {
            Some(handle) => handle,
            none => none.insert((open(&self.path)?, uses)),
        };
        *used = uses;
        let before = file.metadata()?.len();
        file.write_all(bytes).inspect_err(|_| {
            // Half a block would make everything after it unreadable; without room even this may fail.
            let _ = file.set_len(before);
        })
    }
}

/// Whether a person can make the same write work.
fn is_disk_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Cuts a file whose whole blocks are known; one that is gone is begun anew.
fn truncate_to(path: &Path, valid: u64) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > valid => OpenOptions::new().write(true).open(path)?.set_len(valid),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn truncate_torn_tail(path: &Path) -> io::Result<()> {
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let valid = LegSource::File(path.to_owned()).open().and_then(|mut reader| {
        while reader.next_entry()?.is_some() {}
        Ok(reader.valid_bytes())
    });
    match valid {
        Ok(valid) if valid < length => OpenOptions::new().write(true).open(path)?.set_len(valid),
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Handles kept open: half of the usual limit of 1,024 for a process.
const MAX_OPEN: usize = 512;
/// The problem of a call whose end the disk did not take.
const DISK_FULL: &str = "disk_full";
/// How soon a disk that took nothing is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How many failures make one line of log.
const LOG_EVERY: u64 = 1_000;
