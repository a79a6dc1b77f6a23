//! Writes small files in the state folder, e.g. the status. The capture thread makes their contents, and a separate
//! thread writes them, because a disk that does not answer must not delay the capture.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;

use crate::ops::state_file::replace_file;
use crate::ops::supervision::ThreadLife;
use crate::ops::thread::{StopSignal, StoppableThread};

/// Writes files with the newest contents from the capture thread. If new contents of a file come before the old
/// contents were written, the old contents are dropped.
#[derive(Debug)]
pub(crate) struct StateFiles {
    waiting: WaitingFiles,
    thread: StoppableThread,
}

/// The newest contents of files that are still to be written, by path. The capture thread holds the lock only for a
/// moment.
type WaitingFiles = Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>;

impl StateFiles {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let waiting = WaitingFiles::default();
        let files = Arc::clone(&waiting);
        let thread = StoppableThread::start("state-files", move |stop| run(&files, stop));
        Ok(Self { waiting, thread: thread.context("cannot start the thread of the state files")? })
    }

    /// Sets the new contents of a file, which the writing thread then writes. Never waits for a disk.
    pub(crate) fn put(&self, path: PathBuf, contents: Vec<u8>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(path, contents);
    }

    /// Returns the state of the writing thread, for the supervision of threads.
    pub(crate) fn life(&self) -> ThreadLife {
        self.thread.life()
    }

    /// Lets the thread write the remaining contents, and stops it. Waits at most `limit`.
    pub(crate) fn stop_within(self, limit: Duration) {
        self.thread.stop_within(limit);
    }
}

fn run(waiting: &WaitingFiles, stop: &StopSignal) {
    loop {
        let is_last = stop.is_stopped_within(PAUSE);
        let files = std::mem::take(&mut *waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for (path, contents) in files {
            if let Err(error) = replace_file(&path, &contents) {
                // No warning about the failed write is needed, because a full disk raises an alarm anyway.
                tracing::debug!(path = %path.display(), "the file cannot be written: {error}");
            }
        }
        if is_last {
            return;
        }
    }
}

/// Pause between two rounds of the writing thread. In each round, the thread writes the files that have new contents.
const PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_contents_are_on_the_disk_after_the_stop() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.json"), dir.path().join("b.json"));
        let files = StateFiles::start().unwrap();
        files.put(a.clone(), b"old".to_vec());
        files.put(a.clone(), b"new".to_vec());
        files.put(b.clone(), b"other".to_vec());
        files.stop_within(Duration::from_secs(10));
        assert_eq!((std::fs::read(a).unwrap(), std::fs::read(b).unwrap()), (b"new".to_vec(), b"other".to_vec()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no part is left");
    }

    #[test]
    fn disk_that_does_not_answer_delays_neither_put_nor_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        // Opening a pipe without a reader blocks, like a write to a disk that does not answer.
        let pipe = dir.path().join("status.json.part");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let files = StateFiles::start().unwrap();
        for n in 0..1_000 {
            files.put(path.clone(), vec![0; n]);
        }
        files.stop_within(Duration::from_millis(700));
        assert!(!path.exists());
        drop(std::fs::File::open(pipe).unwrap()); // unblocks the writing thread
    }
}
