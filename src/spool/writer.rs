//! The thread that writes the spool: the only place of `run` where a leg's file is touched.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::file_name;
use super::reader::LegSource;
use crate::call::event::{CallEvent, LegId};
use crate::call::record::Problem;

/// What the capture thread tells the writer, in order.
pub(super) enum Message {
    /// A leg has a file from now on.
    Born { leg: LegId, name: String },
    /// Blocks of a leg.
    Write { leg: LegId, bytes: Vec<u8> },
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
pub(super) struct Writer {
    pub(super) dir: PathBuf,
    pub(super) sync_every: Duration,
    pub(super) messages: Receiver<Message>,
    pub(super) events: Sender<CallEvent>,
    pub(super) recycled: Sender<Vec<u8>>,
    /// Bytes that were sent and are not written yet.
    pub(super) queued: Arc<AtomicUsize>,
    pub(super) files: Files,
}

impl Writer {
    /// Works until told to stop, or until the capture thread is gone.
    #[expect(clippy::disallowed_methods, reason = "the writer's own schedule of syncs, not the time of calls")]
    pub(super) fn run(mut self) {
        let mut next_sync = Instant::now() + self.sync_every;
        let mut dirty = false;
        loop {
            match self.messages.recv_timeout(next_sync.saturating_duration_since(Instant::now())) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
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
    fn handle(&mut self, message: Message) -> bool {
        match message {
            Message::Born { leg, name } => self.files.born(leg, self.dir.join(file_name(&name))),
            Message::Write { leg, mut bytes } => {
                self.files.write(leg, &bytes);
                self.queued.fetch_sub(bytes.capacity(), Ordering::Relaxed);
                bytes.clear();
                let _ = self.recycled.try_send(bytes); // enough are on their way back: this one is freed
                return true;
            }
            Message::Close(leg) => self.files.close(leg),
            Message::Discard { leg, name } => {
                self.files.discard(leg, name.map(|name| self.dir.join(file_name(&name))));
            }
            Message::Event(mut event) => {
                if let CallEvent::Ended(ended) = &mut event {
                    for leg in &ended.legs {
                        if let Some(kind) = self.files.take_failure(leg.leg) {
                            ended.record.problems.push(Problem { kind: kind.to_owned(), packets: None, ms: None });
                        }
                    }
                }
                let _ = self.events.send(event); // nobody listens any more: the process is ending
            }
            Message::Flush(done) => {
                self.sync();
                let _ = done.send(());
            }
            Message::Stop => {}
        }
        false
    }

    fn sync(&mut self) {
        let synced = File::open(&self.dir).and_then(|dir| rustix::fs::syncfs(&dir).map_err(io::Error::from));
        if let Err(error) = synced {
            self.files.complain(&self.dir.clone(), &error);
        }
    }
}

/// Open files of legs, the least recently used giving way.
#[derive(Default)]
pub(super) struct Files {
    legs: HashMap<LegId, Leg, foldhash::fast::RandomState>,
    open: usize,
    uses: u64,
    failures: HashMap<LegId, &'static str, foldhash::fast::RandomState>,
    complaints: u64,
}

struct Leg {
    path: PathBuf,
    handle: Option<(File, u64)>,
}

impl Files {
    fn born(&mut self, leg: LegId, path: PathBuf) {
        // After a crash or a restart the leg's file is there: what a torn write left is cut off before more is added.
        if let Err(error) = cut_torn_tail(&path) {
            self.fail(leg, &path, &error);
        }
        self.legs.insert(leg, Leg { path, handle: None });
    }

    fn write(&mut self, leg: LegId, bytes: &[u8]) {
        self.uses += 1;
        let uses = self.uses;
        if self.legs.get(&leg).is_some_and(|state| state.handle.is_none()) && self.open >= MAX_OPEN {
            self.close_oldest();
        }
        let Some(state) = self.legs.get_mut(&leg) else { return };
        let before = state.handle.is_some();
        let result = state.write(uses, bytes);
        self.open += usize::from(!before && state.handle.is_some());
        if let Err(error) = result {
            let path = state.path.clone();
            self.fail(leg, &path, &error);
        }
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
            self.complain(&path, &error);
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
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        self.failures.insert(leg, if full { "disk_full" } else { "spool_error" });
        self.complain(path, error);
    }

    /// One line for the first error and for each thousandth: a full disk fails a thousand times a second.
    fn complain(&mut self, path: &Path, error: &io::Error) {
        if self.complaints.is_multiple_of(COMPLAIN_EACH) {
            tracing::error!(path = %path.display(), %error, failures = self.complaints + 1, "the spool cannot be written");
        }
        self.complaints += 1;
    }
}

impl Leg {
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

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn cut_torn_tail(path: &Path) -> io::Result<()> {
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
/// How many failures make one line of log.
const COMPLAIN_EACH: u64 = 1_000;
