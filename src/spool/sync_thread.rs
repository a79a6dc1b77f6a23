//! Syncs the file system of the spool on a thread of its own. A sync takes seconds while much other data is written to the
//! disk. The writer thread must go on meanwhile, because packets wait in memory only up to `spool.buffer_mib`.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::call::event::LegId;

/// A function that syncs the file system of an open folder.
pub(super) type SyncFolder = fn(&File) -> io::Result<()>;

/// The thread that syncs, as the writer thread uses it. At most one sync runs at a time.
#[derive(Debug)]
pub(super) struct SyncThread {
    folders: Sender<File>,
    results: Receiver<io::Result<()>>,
    running: Option<RunningSync>,
}

/// A sync that has begun and may still be running.
#[derive(Debug)]
struct RunningSync {
    /// Monotonic time at which the sync began.
    since: Instant,
    /// Legs whose files were written between the previous sync and the beginning of this sync, in ascending order.
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
    /// Starts the thread.
    ///
    /// # Errors
    /// Fails if the system refuses another thread.
    pub(super) fn start(sync: SyncFolder) -> io::Result<Self> {
        let (folders, to_sync) = crossbeam_channel::bounded::<File>(1);
        let (done, results) = crossbeam_channel::bounded(1);
        let work = move || {
            for folder in to_sync {
                let result = sync(&folder);
                drop(folder); // the writer counts on the free descriptor as soon as it has the result
                let _ = done.send(result); // fails only after the writer has ended
            }
        };
        std::thread::Builder::new().name("spool-sync".to_owned()).spawn(work)?;
        Ok(Self { folders, results, running: None })
    }

    /// Returns whether a sync is running.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Returns whether the running sync must write bytes of this leg.
    pub(super) fn is_syncing(&self, leg: LegId) -> bool {
        self.running.as_ref().is_some_and(|running| running.legs.binary_search(&leg).is_ok())
    }

    /// Returns whether the running sync takes longer than [`OVERDUE`], e.g. because the disk does not respond.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.running.as_ref().is_some_and(|running| now.saturating_duration_since(running.since) > OVERDUE)
    }

    /// Begins a sync of the file system that holds `folder`. No other sync may be running. `legs` are the legs whose files
    /// were written since the previous sync.
    #[expect(clippy::disallowed_methods, reason = "how long a disk takes is no time of calls")]
    pub(super) fn begin(&mut self, folder: File, mut legs: Vec<LegId>) {
        legs.sort_unstable();
        let _ = self.folders.send(folder); // if the thread has panicked, the sync counts as overdue for ever
        self.running = Some(RunningSync { since: Instant::now(), legs });
    }

    /// Returns the running sync if it has ended by now.
    pub(super) fn take_finished(&mut self) -> Option<FinishedSync> {
        self.running.as_ref()?;
        let result = self.results.try_recv().ok()?;
        self.finish(result)
    }

    /// Waits until the running sync has ended, and returns it. Returns `None` if no sync is running.
    pub(super) fn wait(&mut self) -> Option<FinishedSync> {
        self.running.as_ref()?;
        let result = self.results.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs has ended")));
        self.finish(result)
    }

    fn finish(&mut self, result: io::Result<()>) -> Option<FinishedSync> {
        self.running.take().map(|RunningSync { legs, .. }| FinishedSync { legs, result })
    }
}

/// Duration after which a running sync counts as stuck. The supervision of threads then sees the writer thread stand still.
const OVERDUE: Duration = Duration::from_secs(10);
