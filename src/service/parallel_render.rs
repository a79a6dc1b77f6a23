//! [`ParallelRenderers`]: renders calls on all processor cores, for `callspan replay`.
//!
//! The thread that reads the capture passes ended calls to the rendering threads. Each rendering thread publishes its
//! calls in groups, because one fsync of a folder then serves many files. A call is reported when its files have their
//! final names.
//!
//! # Invariants
//! - A thread renders one call at a time, and only a few calls wait. While the queue is full, the capture is not read
//!   further. So the memory does not grow with the number of calls.
//! - The files of a call do not depend on other calls, so they are the same with any number of threads.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::call::event::{EndedCall, EndedLeg, LegId, RegistrationPolicy};
use crate::call::record::CallRecord;
use crate::recording::Recorder;
use crate::recording::recorder::{PreparedCalls, RecordingError};
use crate::service::clock::monotonic;
use crate::service::render_marker::RenderMarker;
use crate::spool::{LegSource, LegStore};

/// The rendering threads, with the channels to and from them.
pub(crate) struct ParallelRenderers {
    /// Channel to the rendering threads; `None` after the last call was sent.
    tasks: Option<Sender<HandedCall>>,
    reports: Receiver<RenderProgress>,
    threads: Vec<JoinHandle<()>>,
}

/// A report from a rendering thread to the thread that reads the capture.
pub(crate) enum RenderProgress {
    /// The packets of these legs were read, so the spools that store the packets are not needed any more.
    Read(Vec<EndedLeg>),
    /// The files of these calls are on the disk under their final names.
    Published(Vec<(CallRecord, RegistrationPolicy)>),
    /// Files of rendered calls could not be written.
    Failed(RecordingError),
}

/// An ended call for a rendering thread, with the spools (stored packets) of its legs.
struct HandedCall {
    call: EndedCall,
    spools: HandedSpools,
}

/// Spools (stored packets) of the legs of a call, by the id of the leg.
pub(crate) struct HandedSpools(pub(crate) HashMap<LegId, LegSource>);

impl HandedSpools {
    /// Copies the spools into memory, if they have at most `max_bytes`. Rendering reads each spool twice, and the copy
    /// saves the second read of the file.
    fn read_into_memory(self, max_bytes: usize) -> Self {
        if self.0.values().map(LegSource::memory_len).sum::<usize>() > max_bytes {
            return self;
        }
        Self(self.0.into_iter().map(|(leg, spool)| (leg, spool.read_into_memory())).collect())
    }
}

impl LegStore for HandedSpools {
    fn source(&self, leg: &EndedLeg) -> Option<LegSource> {
        self.0.get(&leg.leg).cloned()
    }
}

impl ParallelRenderers {
    /// Starts one rendering thread for each processor core, at most [`MAX_THREADS`].
    ///
    /// # Errors
    /// Fails if the operating system cannot start a thread.
    pub(crate) fn start(recorder: &Recorder, marker: &Arc<RenderMarker>) -> std::io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let (tasks_tx, tasks) = crossbeam_channel::bounded(count * QUEUED_TASKS_A_THREAD);
        let (reports_tx, reports) = crossbeam_channel::unbounded();
        let mut threads = Vec::new();
        for _ in 0..count {
            let mut thread = RenderThread {
                recorder: recorder.clone(),
                marker: Arc::clone(marker),
                tasks: tasks.clone(),
                reports: reports_tx.clone(),
                group: RenderedGroup::default(),
                max_read_bytes: (MAX_READ_BYTES_IN_ALL / count).min(MAX_READ_BYTES),
            };
            let builder = std::thread::Builder::new().name(String::from("render"));
            threads.push(builder.spawn(move || thread.run())?);
        }
        Ok(Self { tasks: Some(tasks_tx), reports, threads })
    }

    /// Passes an ended call to the rendering threads. Waits while their queue is full.
    ///
    /// # Panics
    /// Panics if a thread has panicked.
    pub(crate) fn render(&mut self, call: EndedCall, store: &dyn LegStore) {
        // Before `finish` is called, a rendering thread can end only by a panic. In this case `finish` panics here,
        // too.
        if self.threads.iter().any(JoinHandle::is_finished) {
            self.finish();
        }
        let spools = call.legs.iter().filter_map(|leg| Some((leg.leg, store.source(leg)?))).collect();
        if let Some(tasks) = &self.tasks {
            // Sending fails only if all threads have just panicked. In this case `finish` panics, too.
            let _ = tasks.send(HandedCall { call, spools: HandedSpools(spools) });
        }
    }

    /// Returns the next report of the rendering threads; `None` if there is none yet.
    pub(crate) fn poll_report(&self) -> Option<RenderProgress> {
        self.reports.try_recv().ok()
    }

    /// Waits until all calls are rendered and their files have their final names. Afterwards
    /// [`ParallelRenderers::poll_report`] returns the remaining reports.
    ///
    /// # Panics
    /// Panics if a thread has panicked.
    pub(crate) fn finish(&mut self) {
        self.tasks = None;
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for ParallelRenderers {
    fn drop(&mut self) {
        self.tasks = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // the replay already fails for another reason
        }
    }
}

/// State of one rendering thread: its calls and its files.
struct RenderThread {
    recorder: Recorder,
    marker: Arc<RenderMarker>,
    tasks: Receiver<HandedCall>,
    reports: Sender<RenderProgress>,
    group: RenderedGroup,
    /// Maximum length of the spools of a call that are copied into memory, bytes.
    max_read_bytes: usize,
}

/// Rendered calls with files that do not have their final names yet. All files get them together, so that one fsync of
/// the folder is enough.
#[derive(Default)]
struct RenderedGroup {
    calls: PreparedCalls,
    registrations: Vec<RegistrationPolicy>,
    /// Monotonic time at which the files get their final names even if few calls have been rendered until then; `None`
    /// if no call waits.
    due: Option<Instant>,
}

impl RenderThread {
    fn run(&mut self) {
        loop {
            let task = match self.group.due {
                None => self.tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => self.tasks.recv_timeout(due.saturating_duration_since(monotonic())),
            };
            match task {
                Ok(task) => self.render(task),
                Err(RecvTimeoutError::Timeout) => self.publish(),
                Err(RecvTimeoutError::Disconnected) => return self.publish(),
            }
            if self.group.is_full() {
                self.publish();
            }
        }
    }

    fn render(&mut self, HandedCall { call, spools }: HandedCall) {
        let spools = spools.read_into_memory(self.max_read_bytes);
        self.marker.begin(&call.record.id);
        let prepared = self.recorder.prepare(&call, &spools);
        self.marker.end(&call.record.id);
        // The memory of a spool can be reused only after the last reference to the spool is dropped. So this thread
        // drops its references before it reports.
        drop(spools);
        self.report(RenderProgress::Read(call.legs));
        match prepared {
            Ok(prepared) => self.group.add(prepared, call.registration),
            Err(error) => self.report(RenderProgress::Failed(error)),
        }
    }

    fn publish(&mut self) {
        if self.group.registrations.is_empty() {
            return;
        }
        let RenderedGroup { calls, registrations, .. } = std::mem::take(&mut self.group);
        self.report(match calls.publish() {
            Ok(records) => RenderProgress::Published(records.into_iter().zip(registrations).collect()),
            Err(error) => RenderProgress::Failed(error),
        });
    }

    fn report(&self, report: RenderProgress) {
        let _ = self.reports.send(report); // fails only if the replay has already failed
    }
}

impl RenderedGroup {
    fn add(&mut self, call: PreparedCalls, registration: RegistrationPolicy) {
        self.calls.append(call);
        self.registrations.push(registration);
        self.due.get_or_insert_with(|| monotonic() + MAX_GROUP_TIME);
    }

    fn is_full(&self) -> bool {
        self.registrations.len() >= MAX_GROUP_CALLS || self.calls.open_files() >= MAX_GROUP_FILES
    }
}

/// Maximum number of rendering threads. Further threads would wait for the disk and not for a processor core.
const MAX_THREADS: usize = 16;
/// Maximum length of the spools of a call that are copied into memory before they are rendered, bytes: four minutes of
/// G.711.
const MAX_READ_BYTES: usize = 6 << 20;
/// Maximum length of such copies of all threads together, bytes.
const MAX_READ_BYTES_IN_ALL: usize = 24 << 20;
/// Number of calls that may wait for each thread. It is small, because the spools (stored packets) of waiting calls
/// take memory.
const QUEUED_TASKS_A_THREAD: usize = 2;
/// Maximum number of calls whose files get their final names together. With so many calls, the one fsync of the folder
/// is a small part of the work.
const MAX_GROUP_CALLS: usize = 32;
/// Maximum number of open files that wait for their final names in one rendering thread. With at most 16 threads, the
/// process stays below 1,024, the usual limit of open files.
const MAX_GROUP_FILES: usize = 48;
/// Maximum time for which the files of a rendered call wait for their final names. Meanwhile further calls join the
/// group, and one fsync of the folder then serves the files of all. The time is short, so that calls appear soon even
/// if the capture comes slowly through a pipe.
const MAX_GROUP_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::call::record::CallOutcome;
    use crate::recording::FolderLayout;
    use crate::recording::config::Config;
    use crate::spool::testkit::at_ms;

    fn call(number: usize) -> EndedCall {
        let record = CallRecord {
            id: format!("20261123T070000Z-{number}"),
            invited_at: Some(at_ms(0.0)),
            ended_at: Some(at_ms(1.0)),
            outcome: CallOutcome::Busy,
            ..CallRecord::default()
        };
        EndedCall { record, legs: Vec::new(), registration: RegistrationPolicy::Allowed, wall_offset_ns: 0 }
    }

    struct NoSpools;

    impl LegStore for NoSpools {
        fn source(&self, _leg: &EndedLeg) -> Option<LegSource> {
            None
        }
    }

    fn renderers(dir: &Path) -> ParallelRenderers {
        let recorder = Recorder::new(Config { dir: dir.join("out"), ..Config::default() }, FolderLayout::Flat, None);
        let marker = Arc::new(RenderMarker::open(dir).expect("writable"));
        ParallelRenderers::start(&recorder, &marker).expect("threads")
    }

    /// Renders `calls` calls. Returns the sorted ids of the published calls, and whether an error was reported.
    fn published(renderers: &mut ParallelRenderers, calls: usize) -> (Vec<String>, bool) {
        (0..calls).for_each(|number| renderers.render(call(number), &NoSpools));
        renderers.finish();
        let (mut ids, mut failed) = (Vec::new(), false);
        while let Some(report) = renderers.poll_report() {
            match report {
                RenderProgress::Published(records) => ids.extend(records.into_iter().map(|(record, _)| record.id)),
                RenderProgress::Failed(_) => failed = true,
                RenderProgress::Read(_) => {}
            }
        }
        ids.sort();
        (ids, failed)
    }

    #[test]
    fn every_call_is_reported_when_its_record_is_there() {
        let dir = tempfile::tempdir().expect("a folder");
        // Rendered calls are published in groups of at most 32. With 200 calls, the threads publish several groups.
        let calls = 200;
        let (ids, failed) = published(&mut renderers(dir.path()), calls);
        let mut expected: Vec<String> = (0..calls).map(|number| call(number).record.id).collect();
        expected.sort();
        assert_eq!((ids, failed), (expected.clone(), false));
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path().join("out")).expect("there").flatten().map(|e| e.file_name()).collect();
        names.sort();
        assert_eq!(names, expected.iter().map(|id| format!("{id}.json").into()).collect::<Vec<std::ffi::OsString>>());
    }

    #[test]
    fn folder_that_cannot_be_written_is_reported() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("out"), "a file").expect("written");
        let (ids, failed) = published(&mut renderers(dir.path()), 3);
        assert_eq!((ids.len(), failed), (0, true));
    }
}
