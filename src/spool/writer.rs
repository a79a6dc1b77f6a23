//! The writer thread: the only place in `run` that writes the files of legs.
//!
//! If the disk is full or read-only, the writer retries, and all messages wait in order. New packets then stay in memory
//! up to `buffer_mib`; above that the capture thread drops and counts them. Updates of live calls do not wait, because a
//! pop-up for a ringing phone must not be late.

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
use crate::call::record::ProblemKind;

/// Messages from the capture thread to the writer, handled in order.
pub(super) enum WriterMessage {
    /// A leg gets a file. `length` is set for the file of an earlier process: the bytes of its whole blocks.
    OpenFile { leg: LegId, name: String, length: Option<u64> },
    /// Append blocks to a leg's file.
    Write { leg: LegId, bytes: Vec<u8> },
    /// Append blocks to the rolling file.
    AppendRolling(Vec<u8>),
    /// Replace the contents of the rolling file.
    RebuildRolling(Vec<u8>),
    /// A leg is closed.
    Close(LegId),
    /// Remove a leg and its file. `name` is set if the leg is closed already.
    Discard { leg: LegId, name: Option<String> },
    /// Pass the event on after everything before it was written.
    Event(CallEvent),
    /// Answer when everything before it is synced to disk.
    Flush(Sender<()>),
    /// Sync everything before it and stop.
    Stop,
}

/// State of the writer thread.
pub(super) struct SpoolWriter {
    pub(super) dir: PathBuf,
    pub(super) sync_every: Duration,
    pub(super) messages: Receiver<WriterMessage>,
    pub(super) events: Sender<CallEvent>,
    pub(super) recycled: Sender<Vec<u8>>,
    /// Bytes that were sent and are not yet written.
    pub(super) queued: Arc<AtomicUsize>,
    pub(super) files: LegFiles,
    /// Signalling of legs without a file; `rolling_failed` reports an error to the capture thread.
    pub(super) rolling: RollingFile,
    pub(super) rolling_failed: Arc<AtomicBool>,
    /// Messages that arrived while the disk was full.
    pub(super) backlog: VecDeque<WriterMessage>,
    /// Whether the process is ending, so that a full disk is no longer waited for.
    pub(super) is_ending: bool,
}

/// Outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteOutcome {
    /// The blocks were written, or lost for good and counted.
    Done,
    /// The disk takes nothing at present; the same write may succeed later.
    DiskFull,
}

impl SpoolWriter {
    /// Handles messages until told to stop, or until the capture thread is gone.
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

    /// Handles a message. Returns whether something was written.
    fn handle(&mut self, message: WriterMessage) -> bool {
        match message {
            WriterMessage::OpenFile { leg, name, length } => {
                self.files.open_leg(leg, self.dir.join(file_name(&name)), length)
            }
            WriterMessage::Write { leg, mut bytes } => {
                while self.files.write(leg, &bytes) == WriteOutcome::DiskFull {
                    if self.is_ending {
                        self.files.failures.insert(leg, ProblemKind::DiskFull);
                        break;
                    }
                    self.wait_for_space();
                }
                self.queued.fetch_sub(bytes.capacity(), Ordering::Relaxed);
                bytes.clear();
                let _ = self.recycled.try_send(bytes); // fails if enough chunks are kept for reuse: this one is freed
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
                            ended.record.problems.push(kind.problem());
                        }
                    }
                }
                let _ = self.events.send(event); // fails only while the process is ending
            }
            WriterMessage::Flush(done) => {
                self.sync();
                let _ = done.send(());
            }
            WriterMessage::Stop => {}
        }
        false
    }

    /// Finishes a write to the rolling file. After an error the capture thread has the file rebuilt later.
    fn finish_rolling_write(&mut self, bytes: &Vec<u8>, result: io::Result<()>) -> bool {
        self.queued.fetch_sub(bytes.capacity(), Ordering::Relaxed);
        let Err(error) = result else { return true };
        self.rolling_failed.store(true, Ordering::Relaxed);
        let path = self.rolling.path().to_owned();
        self.files.log_failure(&path, &error);
        false
    }

    /// Receives messages for [`RETRY_AFTER`] while the disk is full, and handles those that need not wait.
    #[expect(clippy::disallowed_methods, reason = "how long a disk is waited for is no time of calls")]
    fn wait_for_space(&mut self) {
        let until = Instant::now() + RETRY_AFTER;
        loop {
            match self.messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(WriterMessage::Event(event @ CallEvent::Changed(_))) => drop(self.events.send(event)),
                // Everything that could be written is written. The rest may have to wait for a person.
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

/// Files of legs. The least recently used are closed if too many are open.
#[derive(Default)]
pub(super) struct LegFiles {
    legs: HashMap<LegId, LegFile, foldhash::fast::RandomState>,
    open: usize,
    uses: u64,
    failures: HashMap<LegId, ProblemKind, foldhash::fast::RandomState>,
    failure_count: u64,
}

struct LegFile {
    path: PathBuf,
    handle: Option<(File, u64)>,
}

impl LegFiles {
    fn open_leg(&mut self, leg: LegId, path: PathBuf, length: Option<u64>) {
        // The file exists after a crash or a restart: a torn tail must be cut off before more is appended.
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

    fn take_failure(&mut self, leg: LegId) -> Option<ProblemKind> {
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
        self.failures.insert(leg, if is_disk_full(error) { ProblemKind::DiskFull } else { ProblemKind::SpoolError });
        self.log_failure(path, error);
    }

    /// Logs the first failure and then one in [`LOG_EVERY`], because a full disk fails a thousand writes a second.
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
            // Part of a block would make the rest of the file unreadable. On a full disk even this may fail.
            let _ = file.set_len(before);
        })
    }
}

/// Returns whether the same write can succeed after a person acted.
fn is_disk_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Truncates a file to its whole blocks. A file that is gone is created again by the next write.
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

/// Files kept open: half of the usual limit of 1,024 per process.
const MAX_OPEN: usize = 512;
/// Time after which a write to a full disk is retried.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Failures per line of log.
const LOG_EVERY: u64 = 1_000;
