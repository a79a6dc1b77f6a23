//! The writer thread, the only thread of the command `run` (live capture) that writes the files of legs.
//!
//! Every disk error is treated as temporary. Chunks that cannot be written wait in memory (module `leg_files`) and are
//! tried again after [`RETRY_PAUSES`]. New packets also wait in memory, up to `buffer_mib`; above that the capture
//! thread drops and counts them. The end of a call is passed to post-processing after the call's packets are written.
//! Updates of live calls do not wait, because a ringing call must appear on the user's screen at once.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError};

use super::file_name;
use super::leg_files::{DoneChunks, LegFiles};
use super::rolling::{RebuiltContents, RollingFile};
use crate::call::errno::OsErrno;
use crate::call::event::{CallEvent, EndedLeg, LegId};
use crate::call::record::CallProblem;

/// Messages from the capture thread to the writer. They are handled in order.
pub(super) enum WriterMessage {
    /// Create the file of a leg, or continue the file that an earlier process left. `length` is the size of the
    /// complete blocks in a continued file, bytes; `None` for a new file.
    OpenFile { leg: LegId, name: String, length: Option<u64> },
    /// Append these blocks to the leg's file.
    Write { leg: LegId, bytes: Vec<u8> },
    /// Append blocks to the rolling file (signalling of legs without media).
    AppendRolling(Vec<u8>),
    /// Write the rolling file (signalling of legs without media) anew, with these contents.
    RebuildRolling(RebuiltContents),
    /// Close the file of a leg, because the leg has ended.
    Close(LegId),
    /// Remove a leg and its file. `name` is the leg's name if the leg was closed before, because then the writer no
    /// longer knows it.
    Discard { leg: LegId, name: Option<String> },
    /// Pass a call event, e.g. the end of a call, to the receiver after all earlier messages were written.
    Event(CallEvent),
    /// Notify the sender of this message as soon as all earlier messages that can be written are synced to disk.
    Flush(Sender<()>),
    /// Write and sync all earlier messages, then end the thread.
    Stop,
}

/// State that the writer thread shares with the capture thread.
#[derive(Debug, Default)]
pub(super) struct WriterState {
    /// Number of bytes that were sent to the writer but are not written yet.
    pub(super) queued: AtomicUsize,
    /// Number (errno) of the disk error that keeps chunks waiting now; 0 without an error.
    pub(super) errno: AtomicI32,
    /// Whether a write to the rolling file (signalling of legs without media) failed. Then the file must be written
    /// anew.
    pub(super) has_rolling_failed: AtomicBool,
    /// Whether blocks of the rolling file may be missing on the disk although no write failed. Then the file must be
    /// written anew, too, but meanwhile blocks can be appended to it.
    pub(super) is_rebuild_requested: AtomicBool,
    /// Counts the rounds of the writer thread's loop. It also grows while the thread waits for work; if it stands
    /// still, the disk does not answer.
    pub(super) rounds: Arc<AtomicU64>,
}

impl WriterState {
    /// Returns the disk error that keeps chunks waiting now; `None` if there is none.
    pub(super) fn current_error(&self) -> Option<OsErrno> {
        Some(OsErrno(self.errno.load(Ordering::Relaxed))).filter(|errno| errno.0 != 0)
    }
}

/// The state that only the writer thread uses.
pub(super) struct SpoolWriter {
    pub(super) dir: PathBuf,
    pub(super) sync_every: Duration,
    pub(super) messages: Receiver<WriterMessage>,
    pub(super) events: Sender<CallEvent>,
    pub(super) recycled: Sender<Vec<u8>>,
    pub(super) state: Arc<WriterState>,
    pub(super) files: LegFiles,
    /// The rolling file: signalling of the legs that have no file.
    pub(super) rolling: RollingFile,
    /// Call events that wait until the files of their legs are written, oldest first.
    pub(super) held: Vec<CallEvent>,
    /// The next attempt to write the chunks that wait; `None` if no chunk waits.
    pub(super) retry: Option<WriteRetry>,
}

/// Time of the next attempt to write the chunks that wait, and the number of attempts so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteRetry {
    at: Instant,
    tries: usize,
}

impl SpoolWriter {
    /// Handles messages of the capture thread until [`WriterMessage::Stop`], or until the capture thread has ended.
    #[expect(clippy::disallowed_methods, reason = "the writer's own schedule, not the time of calls")]
    pub(super) fn run(mut self) {
        let mut next_sync = Instant::now() + self.sync_every;
        let mut dirty = false;
        loop {
            if self.files.finish_sync() {
                self.release_events();
            }
            self.request_rebuild();
            if !self.files.is_sync_overdue(Instant::now()) {
                self.state.rounds.fetch_add(1, Ordering::Relaxed);
            }
            match self.next_message(self.longest_wait(next_sync, Instant::now())) {
                Ok(WriterMessage::Stop) | Err(TryRecvError::Disconnected) => break,
                Ok(message) => dirty |= self.handle(message),
                Err(TryRecvError::Empty) => {}
            }
            dirty |= self.retry_if_due(Instant::now());
            if Instant::now() >= next_sync {
                if dirty && self.files.begin_sync() {
                    dirty = false;
                }
                next_sync = Instant::now() + self.sync_every;
            }
        }
        self.end();
    }

    /// Returns how long the thread may wait for a message.
    fn longest_wait(&self, next_sync: Instant, now: Instant) -> Duration {
        let wake_at = self.retry.map_or(next_sync, |retry| retry.at.min(next_sync));
        wake_at.saturating_duration_since(now).min(LONGEST_WAIT)
    }

    /// Returns the next message. Waits for it at most for `patience`, and at most until the running sync ends.
    fn next_message(&self, patience: Duration) -> Result<WriterMessage, TryRecvError> {
        match self.messages.try_recv() {
            Err(TryRecvError::Empty) => {}
            received => return received,
        }
        let mut awaited = Select::new();
        awaited.recv(&self.messages);
        if let Some(results) = self.files.sync_results() {
            awaited.recv(results);
        }
        let _ = awaited.ready_timeout(patience); // after a timeout there is no message, which is returned below
        self.messages.try_recv()
    }

    /// Handles a message of the capture thread. Returns whether something was written.
    fn handle(&mut self, message: WriterMessage) -> bool {
        match message {
            WriterMessage::OpenFile { leg, name, length } => {
                self.files.open_leg(leg, self.dir.join(file_name(&name)), length);
            }
            WriterMessage::Write { leg, bytes } => {
                let done = self.files.write(leg, bytes);
                self.recycle(done);
                return true;
            }
            WriterMessage::AppendRolling(bytes) => {
                let result = self.rolling.append(&bytes);
                return self.finish_rolling_write(&bytes, result);
            }
            WriterMessage::RebuildRolling(contents) => {
                let Self { files, rolling, .. } = self;
                let result = files.open_other(|| rolling.create()).and_then(|new| rolling.rebuild(new, &contents));
                return self.finish_rolling_write(&contents.bytes, result);
            }
            WriterMessage::Close(leg) => self.files.close(leg),
            WriterMessage::Discard { leg, name } => {
                let done = self.files.discard(leg, name.map(|name| self.dir.join(file_name(&name))));
                self.recycle(done);
            }
            WriterMessage::Event(event) => {
                self.held.push(event);
                self.release_events();
            }
            WriterMessage::Flush(done) => {
                let written = self.files.retry();
                self.recycle(written);
                self.files.sync_and_wait();
                self.request_rebuild();
                self.release_events();
                let _ = done.send(()); // fails only while the process is ending
            }
            WriterMessage::Stop => {}
        }
        false
    }

    /// Requests a rebuild of the rolling file from the capture thread, if blocks of the file may be missing on the disk.
    fn request_rebuild(&mut self) {
        if self.files.take_rebuild_request() {
            self.state.is_rebuild_requested.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the memory of written chunks to the capture thread.
    fn recycle(&mut self, done: DoneChunks) {
        for mut bytes in done {
            self.state.queued.fetch_sub(bytes.capacity(), Ordering::Relaxed);
            bytes.clear();
            let _ = self.recycled.try_send(bytes); // fails if enough chunks wait for reuse; then this chunk is freed
        }
    }

    /// Tries again to write the waiting chunks, if the pause after the last attempt is over. Returns whether a chunk may
    /// have been written.
    fn retry_if_due(&mut self, now: Instant) -> bool {
        let errno = self.files.current_error().map_or(0, |errno| errno.0);
        self.state.errno.store(errno, Ordering::Relaxed);
        if !self.files.has_work() {
            self.retry = None;
            return false;
        }
        let pause = |tries: usize| RETRY_PAUSES[tries.min(RETRY_PAUSES.len() - 1)];
        let WriteRetry { at, tries } = *self.retry.get_or_insert_with(|| WriteRetry { at: now + pause(0), tries: 0 });
        if now < at {
            return false;
        }
        let done = self.files.retry();
        let is_written = !done.is_empty();
        self.recycle(done);
        self.release_events();
        self.retry = Some(WriteRetry { at: now + pause(tries + 1), tries: tries + 1 });
        is_written
    }

    /// Sends each waiting call event (e.g. the end of a call) to its receiver, if the files of its legs are written.
    /// The events of each call stay in order.
    fn release_events(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let mut held_calls: HashSet<String> = HashSet::new();
        for event in std::mem::take(&mut self.held) {
            let (call, legs) = origin(&event);
            let is_waiting = legs.iter().any(|leg| self.files.is_waiting(leg.leg)) || held_calls.contains(call);
            if is_waiting && !matches!(event, CallEvent::Changed(_)) {
                held_calls.insert(call.to_owned());
                self.held.push(event);
            } else {
                self.pass_on(event);
            }
        }
    }

    /// Passes a call event (e.g. a change or the end of a call) to the receiver. At the end of a call, adds the disk
    /// errors by which the call lost sound.
    fn pass_on(&mut self, mut event: CallEvent) {
        if let CallEvent::Ended(ended) = &mut event {
            for leg in &ended.legs {
                let Some(errno) = self.files.take_failure(leg.leg) else { continue };
                let problem = CallProblem::of_spool(errno);
                let problems = &mut ended.record.problems;
                if !problems.iter().any(|p| p.kind == problem.kind && p.errno == problem.errno) {
                    problems.push(problem);
                }
            }
        }
        let _ = self.events.send(event); // fails only while the process is ending
    }

    /// Handles the result of a write to the rolling file (signalling of legs without media), and returns whether it
    /// succeeded. After an error, the capture thread orders a new file later.
    fn finish_rolling_write(&mut self, bytes: &Vec<u8>, result: io::Result<()>) -> bool {
        self.state.queued.fetch_sub(bytes.capacity(), Ordering::Relaxed);
        let Err(error) = result else { return true };
        self.state.has_rolling_failed.store(true, Ordering::Relaxed);
        let path = self.rolling.path().to_owned();
        self.files.log_failure(&path, &error);
        false
    }

    /// Ends the thread. Tries for [`LAST_TRIES`] to write the waiting chunks; chunks that still cannot be written are
    /// lost.
    #[expect(clippy::disallowed_methods, reason = "how long a disk is waited for is no time of calls")]
    fn end(&mut self) {
        let until = Instant::now() + LAST_TRIES;
        while self.files.has_work() && Instant::now() < until {
            let done = self.files.retry();
            self.recycle(done);
            if self.files.has_work() {
                std::thread::sleep(RETRY_PAUSES[1]);
            }
        }
        let done = self.files.give_up_all();
        self.recycle(done);
        self.files.sync_and_wait();
        self.release_events();
    }
}

/// Returns the id of the call that an event belongs to, and the legs for which the event waits. The event is passed on
/// after the files of these legs are written.
fn origin(event: &CallEvent) -> (&str, &[EndedLeg]) {
    match event {
        CallEvent::Changed(live) => (&live.record.id, &[]),
        CallEvent::SegmentsDue(due) => (&due.record.id, &due.legs),
        CallEvent::Withdrawn(id) | CallEvent::Absorbed(id) => (id, &[]),
        CallEvent::Ended(ended) => (&ended.record.id, &ended.legs),
        CallEvent::Learnt(_) => ("", &[]),
    }
}

/// Pauses between attempts to write waiting chunks; the last pause repeats. Most errors end soon, but a full disk does
/// not.
const RETRY_PAUSES: [Duration; 4] =
    [Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(500)];
/// Maximum time for which the thread waits for a message. Without a round in a minute, the supervision of threads would
/// count it as stalled, although it only has nothing to do.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Maximum time for which the end of the process waits for a failing disk. Chunks that are not written by then are
/// lost.
const LAST_TRIES: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::call::event::EndedCall;
    use crate::call::record::CallRecord;
    use crate::spool::storage;

    /// A writer thread. Each of its syncs runs until the test sends a result.
    struct TestWriter {
        dir: tempfile::TempDir,
        messages: Sender<WriterMessage>,
        events: Receiver<CallEvent>,
        state: Arc<WriterState>,
        /// Gets a message when a sync begins.
        syncs: Receiver<()>,
        results: Sender<io::Result<()>>,
    }

    impl TestWriter {
        fn start(sync_every: Duration) -> Self {
            let (writer, this) = Self::new(sync_every);
            std::thread::spawn(move || writer.run());
            this
        }

        fn new(sync_every: Duration) -> (SpoolWriter, Self) {
            let dir = tempfile::tempdir().expect("a folder");
            storage::mark_all(&[("spool", dir.path())]);
            let (messages, message_rx) = crossbeam_channel::unbounded();
            let (event_tx, events) = crossbeam_channel::unbounded();
            let (begun, syncs) = crossbeam_channel::unbounded();
            let (results, ends) = crossbeam_channel::unbounded();
            let sync = move |_: &File| {
                let _ = begun.send(()); // fails if the test has ended
                ends.recv().unwrap_or(Ok(()))
            };
            let state = Arc::new(WriterState::default());
            let writer = SpoolWriter {
                dir: dir.path().to_owned(),
                sync_every,
                messages: message_rx,
                events: event_tx,
                recycled: crossbeam_channel::bounded(0).0,
                state: Arc::clone(&state),
                files: LegFiles::with_sync(dir.path().to_owned(), 0, Box::new(sync)).expect("a thread"),
                rolling: RollingFile::new(dir.path()),
                held: Vec::new(),
                retry: None,
            };
            (writer, Self { dir, messages, events, state, syncs, results })
        }

        fn send(&self, message: WriterMessage) {
            self.messages.send(message).expect("the writer runs");
        }

        /// Writes a chunk to the file of the leg, which is new.
        fn write(&self) {
            self.send(WriterMessage::OpenFile { leg: LEG, name: String::from("leg"), length: None });
            self.state.queued.fetch_add(CHUNK, Ordering::Relaxed);
            self.send(WriterMessage::Write { leg: LEG, bytes: vec![1; CHUNK] });
        }

        fn end_call(&self) {
            let legs = vec![EndedLeg { leg: LEG, name: String::from("leg"), index: 0, same_sides: true }];
            let (record, registration) = (CallRecord::default(), Default::default());
            let ended = EndedCall { record, legs, registration, wall_offset_ns: 0 };
            self.send(WriterMessage::Event(CallEvent::Ended(Box::new(ended))));
        }

        /// Waits for the end of the call. Returns the disk errors in its record.
        fn errors_of_call(&self) -> Vec<OsErrno> {
            let Ok(CallEvent::Ended(ended)) = self.events.recv_timeout(PATIENCE) else { panic!("the call ends") };
            ended.record.problems.iter().filter_map(|problem| problem.errno).collect()
        }
    }

    const LEG: LegId = LegId(1);
    const CHUNK: usize = 100;
    const SECOND: Duration = Duration::from_secs(1);
    /// Time after which a test fails.
    const PATIENCE: Duration = Duration::from_secs(20);
    const EIO: rustix::io::Errno = rustix::io::Errno::IO;

    #[test]
    fn end_of_a_call_waits_for_the_sync_without_polling() {
        let writer = TestWriter::start(SECOND);
        writer.write();
        writer.syncs.recv_timeout(PATIENCE).expect("a sync begins");
        writer.send(WriterMessage::Close(LEG));
        let rounds = || writer.state.rounds.load(Ordering::Relaxed);
        let before = rounds();
        writer.end_call();
        assert!(writer.events.recv_timeout(SECOND / 2).is_err(), "the sync still runs");
        // The rounds of the two messages, and of the time at which the next sync would be due.
        assert!(rounds() - before <= 6, "{} rounds", rounds() - before);
        writer.results.send(Err(EIO.into())).expect("the sync waits for it");
        assert_eq!(writer.errors_of_call(), [OsErrno(EIO.raw_os_error())]);
    }

    /// `spool.sync_seconds` is at most 300.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    fn idle_writer_does_not_count_as_stalled() {
        let (writer, _rest) = TestWriter::new(300 * SECOND);
        let now = Instant::now();
        assert!(writer.longest_wait(now + 300 * SECOND, now) < 30 * SECOND, "the supervision allows a minute");
        assert_eq!(writer.longest_wait(now + SECOND, now), SECOND);
    }

    #[test]
    fn chunk_that_was_written_late_is_synced() {
        let writer = TestWriter::start(SECOND / 10);
        (0..100).for_each(|_| writer.results.send(Ok(())).expect("syncs end at once"));
        // A folder has the name of the leg's file, so the file cannot be opened.
        let path = writer.dir.path().join(file_name("leg"));
        std::fs::create_dir(&path).expect("made");
        writer.write();
        let _ = writer.syncs.recv_timeout(SECOND); // a sync may begin although nothing could be written
        std::fs::remove_dir(&path).expect("empty");
        while writer.state.queued.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        writer.syncs.recv_timeout(PATIENCE).expect("the chunk is synced although no message follows");
    }

    #[test]
    fn rolling_file_is_written_anew_after_a_failed_sync() {
        let writer = TestWriter::start(300 * SECOND);
        for (result, is_rebuilt) in [(Ok(()), false), (Err(EIO.into()), true)] {
            writer.results.send(result).expect("the sync waits for it");
            let (done, flushed) = crossbeam_channel::bounded(1);
            writer.send(WriterMessage::Flush(done));
            flushed.recv_timeout(PATIENCE).expect("flushed");
            assert_eq!(writer.state.is_rebuild_requested.load(Ordering::Relaxed), is_rebuilt);
        }
    }

    /// The open file may be on a disk that another disk covers.
    #[test]
    fn rolling_file_is_written_anew_if_a_sync_finds_another_disk() {
        let writer = TestWriter::start(SECOND / 10);
        std::fs::remove_file(writer.dir.path().join(storage::FILE_NAME)).expect("there");
        storage::mark_all(&[("spool", writer.dir.path())]);
        writer.write();
        // Each round waits for an event that does not come.
        let mut rounds = (0..2_000).map(|_| writer.events.recv_timeout(SECOND / 100).is_err());
        assert!(rounds.any(|_| writer.state.is_rebuild_requested.load(Ordering::Relaxed)), "not within 20 s");
        assert!(!writer.state.has_rolling_failed.load(Ordering::Relaxed));
    }

    #[test]
    fn record_names_the_failed_sync_of_a_leg_that_ended_earlier() {
        let writer = TestWriter::start(SECOND / 10);
        writer.write();
        writer.send(WriterMessage::Close(LEG));
        writer.syncs.recv_timeout(PATIENCE).expect("a sync begins");
        writer.results.send(Err(EIO.into())).expect("the sync waits for it");
        writer.end_call();
        assert_eq!(writer.errors_of_call(), [OsErrno(EIO.raw_os_error())]);
    }
}
