//! Syncs the file system of the spool on a thread of its own. A sync takes seconds while much other data is written to the
//! disk. The writer thread must go on meanwhile, because packets wait in memory only up to `spool.buffer_mib`.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

/// A function that syncs the file system of an open folder.
pub(super) type SyncFolder = Box<dyn FnMut(&File) -> io::Result<()> + Send>;

/// The thread that syncs, as the writer thread uses it. At most one sync runs at a time.
#[derive(Debug)]
pub(super) struct SyncThread {
    folders: Sender<Arc<File>>,
    results: Receiver<io::Result<()>>,
    thread: JoinHandle<()>,
    /// Monotonic time at which the running sync began; `None` if no sync is running.
    running_since: Option<Instant>,
}

impl SyncThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// Fails if the system refuses another thread.
    pub(super) fn start(mut sync: SyncFolder) -> io::Result<Self> {
        let (folders, to_sync) = crossbeam_channel::bounded::<Arc<File>>(1);
        let (done, results) = crossbeam_channel::bounded(1);
        let work = move || {
            for folder in to_sync {
                let _ = done.send(sync(&folder)); // fails only after the writer has ended
            }
        };
        let thread = std::thread::Builder::new().name("spool-sync".to_owned()).spawn(work)?;
        Ok(Self { folders, results, thread, running_since: None })
    }

    /// Returns whether a sync is running.
    pub(super) fn is_running(&self) -> bool {
        self.running_since.is_some()
    }

    /// Returns whether the running sync takes longer than [`OVERDUE`], e.g. because the disk does not respond.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.running_since.is_some_and(|since| now.saturating_duration_since(since) > OVERDUE)
    }

    /// Begins a sync of the file system that holds `folder`. No other sync may be running.
    #[expect(clippy::disallowed_methods, reason = "how long a disk takes is no time of calls")]
    pub(super) fn begin(&mut self, folder: Arc<File>) {
        let _ = self.folders.send(folder); // if the thread has panicked, the sync counts as overdue for ever
        self.running_since = Some(Instant::now());
    }

    /// Returns the channel that becomes ready when the running sync ends; `None` if no sync is running.
    pub(super) fn results(&self) -> Option<&Receiver<io::Result<()>>> {
        // If the thread has panicked, its channel is ready for ever, but will never give a result.
        (self.is_running() && !self.thread.is_finished()).then_some(&self.results)
    }

    /// Returns the result of the running sync if it has ended by now.
    pub(super) fn take_finished(&mut self) -> Option<io::Result<()>> {
        self.running_since?;
        let result = self.results.try_recv().ok()?;
        self.running_since = None;
        Some(result)
    }

    /// Waits until the running sync has ended, and returns its result. Returns `None` if no sync is running.
    pub(super) fn wait(&mut self) -> Option<io::Result<()>> {
        self.running_since.take()?;
        Some(self.results.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs has ended"))))
    }
}

/// Duration after which a running sync counts as stuck. The supervision of threads then sees the writer thread stand still.
const OVERDUE: Duration = Duration::from_secs(10);
