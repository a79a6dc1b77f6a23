//! Syncs the file system of the spool on a thread of its own. A sync takes seconds while much other data is written to the
//! disk. The writer thread must go on meanwhile, because packets wait in memory only up to `spool.buffer_mib`.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::call::event::LegId;

/// A function that syncs the file system of an open folder.
pub(super) type SyncFolder = fn(&File) -> io::Result<()>;

/// The thread that syncs, seen from the writer thread. At most one sync runs at a time.
#[derive(Debug)]
pub(super) struct SyncThread {
    requests: Sender<SyncRequest>,
    finished: Receiver<FinishedSync>,
    /// Monotonic time at which the running sync began; `None` if no sync is running.
    since: Option<Instant>,
}

/// A sync that the thread must make.
#[derive(Debug)]
struct SyncRequest {
    folder: File,
    legs: Vec<LegId>,
}

/// A sync that has ended, by success or by an error.
#[derive(Debug)]
pub(super) struct FinishedSync {
    /// Legs whose files were written between the previous sync and the beginning of this sync.
    pub(super) legs: Vec<LegId>,
    pub(super) result: io::Result<()>,
}

impl SyncThread {
    /// Starts the thread. If the system refuses a thread, every sync fails, and the writer logs the failure.
    pub(super) fn start(sync: SyncFolder) -> Self {
        let (requests, to_do) = crossbeam_channel::bounded::<SyncRequest>(1);
        let (done, finished) = crossbeam_channel::bounded(1);
        let work = move || {
            for SyncRequest { folder, legs } in to_do {
                let _ = done.send(FinishedSync { legs, result: sync(&folder) }); // fails only after the writer has ended
            }
        };
        if let Err(error) = std::thread::Builder::new().name("spool-sync".to_owned()).spawn(work) {
            tracing::error!(%error, "the thread that syncs the spool cannot start");
        }
        Self { requests, finished, since: None }
    }

    /// Returns whether a sync is running.
    pub(super) fn is_running(&self) -> bool {
        self.since.is_some()
    }

    /// Returns whether the running sync takes longer than [`OVERDUE`], e.g. because the disk does not respond.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) > OVERDUE)
    }

    /// Begins a sync of the file system that holds `folder`. No other sync may be running.
    #[expect(clippy::disallowed_methods, reason = "how long a disk takes is no time of calls")]
    pub(super) fn begin(&mut self, folder: File, legs: Vec<LegId>) {
        if self.requests.send(SyncRequest { folder, legs }).is_ok() {
            self.since = Some(Instant::now());
        }
    }

    /// Returns the running sync if it has ended by now.
    pub(super) fn take_finished(&mut self) -> Option<FinishedSync> {
        self.since?;
        let finished = self.finished.try_recv().ok()?;
        self.since = None;
        Some(finished)
    }

    /// Waits until the running sync has ended, and returns it. Returns `None` if no sync is running.
    pub(super) fn wait(&mut self) -> Option<FinishedSync> {
        self.since.take()?;
        self.finished.recv().ok()
    }
}

/// Duration after which a running sync counts as stuck. The supervision of threads then sees the writer thread stand still.
const OVERDUE: Duration = Duration::from_secs(10);
