//! [`CallRenderer`]: renders calls in a worker process, or in this process if there is no worker (`replay`, tests).
//!
//! If a worker process crashes or hangs, a new worker tries the call once more. If a leg crashes two workers, the call
//! is rendered without this leg. The packets of the leg are kept, and an alarm reports it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use rustix::process::PidfdFlags;

use super::render_limits::{RenderLimits, RenderWorkers};
use super::render_protocol::{RenderReply, RenderRequest, WorkerSettings};
use crate::call::event::{DueSegments, EndedCall, LegId};
use crate::call::record::{CallRecord, ProblemKind};
use crate::ops::supervision::TickCounter;
use crate::recording::Recorder;
use crate::recording::recorder::RecordingError;
use crate::spool::LegStore;

/// Renders the calls of one thread, in a worker process or in this process.
pub(crate) struct CallRenderer {
    recorder: Recorder,
    setup: Option<WorkerSetup>,
    worker: Mutex<Option<WorkerProcess>>,
    ticks: TickCounter,
}

/// Program, limits and settings of the worker processes.
#[derive(Clone, Debug)]
pub(crate) struct WorkerSetup {
    pub(crate) workers: RenderWorkers,
    pub(crate) settings: WorkerSettings,
}

/// A call after rendering, with its completed record.
pub(crate) struct RenderedCall {
    pub(crate) record: CallRecord,
    /// Ids of legs that could not be rendered. The recording contains none of their sound.
    pub(crate) broken: Vec<LegId>,
}

/// The reason why a call was not rendered, and whether to try again.
pub(crate) enum RenderFailure {
    /// A file could not be written, or no worker process could be started. A later try may succeed.
    Passing(anyhow::Error),
    /// The renderer cannot handle the call, and another try would fail again. The text says how the renderer failed.
    Broken(String),
}

struct WorkerProcess {
    child: Child,
    /// Requests, as lines of JSON. A thread writes them, because a worker that does not read would block the writer.
    requests: Sender<Vec<u8>>,
    replies: Receiver<Vec<u8>>,
}

impl CallRenderer {
    /// Creates a renderer. If `setup` is `None`, calls are rendered in this process. `ticks` is the counter by which
    /// the supervision of threads sees progress.
    pub(crate) fn new(recorder: Recorder, setup: Option<WorkerSetup>, ticks: TickCounter) -> Self {
        Self { recorder, setup, worker: Mutex::new(None), ticks }
    }

    /// Creates a renderer with the same settings for another thread.
    pub(super) fn for_thread(&self, ticks: TickCounter) -> Self {
        Self::new(self.recorder.clone(), self.setup.clone(), ticks)
    }

    /// Renders an ended call, and writes its recording and its call record.
    pub(crate) fn record(&self, call: &EndedCall, store: &dyn LegStore) -> Result<RenderedCall, RenderFailure> {
        // A call without packets needs no decoder, so it needs no worker process.
        let Some(setup) = self.setup.as_ref().filter(|_| !call.legs.is_empty()) else {
            let done = std::panic::catch_unwind(AssertUnwindSafe(|| self.recorder.record(call, store)));
            return in_process(done).map(|record| RenderedCall { record, broken: Vec::new() });
        };
        let (record, broken) = self.render(setup, RenderRequest::of_call(call, store))?;
        let mut rendered = RenderedCall { record: record.ok_or_else(no_record)?, broken };
        if !rendered.broken.is_empty() {
            note_broken_legs(&mut rendered.record);
            let written = self.recorder.write_record(&rendered.record);
            written.map_err(|error| RenderFailure::Passing(error.into()))?;
        }
        Ok(rendered)
    }

    /// Renders an ended call, and writes its recording and its call record if every leg can be rendered.
    pub(super) fn record_whole(&self, call: &EndedCall, store: &dyn LegStore) -> Result<CallRecord, RenderFailure> {
        let Some(setup) = self.setup.as_ref().filter(|_| !call.legs.is_empty()) else {
            return in_process(std::panic::catch_unwind(AssertUnwindSafe(|| self.recorder.record_whole(call, store))));
        };
        let mut request = RenderRequest::of_call(call, store);
        request.is_whole = true;
        let (record, _) = self.render(setup, request)?;
        record.ok_or_else(no_record)
    }

    /// Renders and publishes the complete segments (files) of a call in progress. Returns the record with these
    /// segments; `None` if no segment is complete.
    pub(super) fn record_segments(
        &self,
        due: &DueSegments,
        store: &dyn LegStore,
    ) -> Result<Option<CallRecord>, RenderFailure> {
        if let Some(setup) = &self.setup {
            return self.render(setup, RenderRequest::of_segments(due, store)).map(|(record, _)| record);
        }
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let Some(ready) = self.recorder.render_segments(due, store)? else { return Ok(None) };
            let mut record = due.record.clone();
            self.recorder.publish_segments(ready, &mut record).map(|()| Some(record))
        }));
        in_process(done)
    }

    /// Sends a request to a worker process. If a leg crashes two workers, the request is repeated without that leg, as
    /// long as legs are left and the request allows it. Returns the result and the legs that were left out.
    fn render(&self, setup: &WorkerSetup, mut request: RenderRequest) -> Result<WorkerResult, RenderFailure> {
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        let mut broken = Vec::new();
        loop {
            match self.try_render(&mut worker, setup, &request)? {
                RenderAttempt::Done(record) => return Ok((record.map(|record| *record), broken)),
                RenderAttempt::Broken { leg, how } => {
                    let Some(leg) = leg.filter(|leg| !request.is_whole && request.remove_leg(*leg)) else {
                        return Err(RenderFailure::Broken(how));
                    };
                    tracing::warn!(call = request.record.id, "a leg is set aside, the others are rendered: {how}");
                    broken.push(LegId(leg));
                }
            }
        }
    }

    /// Sends a request to a worker process. If the worker crashes, tries again with a new worker, at most [`TRIES`]
    /// times in all.
    fn try_render(
        &self,
        worker: &mut Option<WorkerProcess>,
        setup: &WorkerSetup,
        request: &RenderRequest,
    ) -> Result<RenderAttempt, RenderFailure> {
        let (mut how, mut leg) = (String::new(), None);
        for _ in 0..TRIES {
            if worker.is_none() {
                *worker = Some(WorkerProcess::start(setup).map_err(RenderFailure::Passing)?);
            }
            let Some(process) = worker.as_mut() else { continue };
            leg = None;
            match process.ask(request, &setup.workers, &self.ticks, &mut leg) {
                Ok(RenderReply::Done(record)) => {
                    let checked = self.checked(*record, request);
                    if checked.is_err() {
                        *worker = None; // a malicious payload may control it, so it gets no other call
                    }
                    return checked.map(|record| RenderAttempt::Done(Some(Box::new(record))));
                }
                Ok(RenderReply::Nothing) => return Ok(RenderAttempt::Done(None)),
                Ok(RenderReply::Failed { path, errno, text }) => {
                    let source = errno.map_or_else(|| std::io::Error::other(text), std::io::Error::from_raw_os_error);
                    return Err(RenderFailure::Passing(RecordingError { path, source }.into()));
                }
                Ok(RenderReply::Panicked) => {
                    return Ok(RenderAttempt::Broken { leg, how: String::from("it panicked") });
                }
                Ok(RenderReply::Reading(_) | RenderReply::Confined { .. }) => how = String::from("it gave no result"),
                Err(error) => how = error,
            }
            if let Some(process) = worker.take() {
                how = process.end(&how);
            }
            tracing::warn!(call = request.record.id, "a render worker ended in mid-call: {how}");
        }
        Ok(RenderAttempt::Broken { leg, how })
    }

    /// Checks the record that a worker returned. A malicious payload may control the worker, so the record may name
    /// only files of this call.
    fn checked(&self, record: CallRecord, request: &RenderRequest) -> Result<CallRecord, RenderFailure> {
        let folder = self.recorder.folder(&request.record);
        let is_known = |path: &str| request.record.recordings.iter().any(|known| known.path == path);
        let is_own = |path: &str| Path::new(path).parent() == Some(&*folder) || is_known(path);
        match record.id == request.record.id && record.recordings.iter().all(|file| is_own(&file.path)) {
            true => Ok(record),
            false => Err(RenderFailure::Broken(String::from("it named files of another call"))),
        }
    }
}

/// Result of a request: the record, and the legs that were left out because rendering them failed. The record is `None`
/// if no part of the recording was complete.
type WorkerResult = (Option<CallRecord>, Vec<LegId>);

/// Result of one attempt of a worker to render a request.
enum RenderAttempt {
    /// The request was rendered. The value is the record, or `None` if no part of the recording is complete yet.
    Done(Option<Box<CallRecord>>),
    /// The renderer cannot handle the request. It failed at the leg with the id `leg`; `how` says how it failed.
    Broken { leg: Option<u64>, how: String },
}

fn no_record() -> RenderFailure {
    RenderFailure::Broken(String::from("the renderer gave no record"))
}

/// Adds to the record the problem that a leg is missing in the recording, because it could not be rendered.
fn note_broken_legs(record: &mut CallRecord) {
    record.problems.push(ProblemKind::RenderError.problem());
    let reason = record.verdict_reason.take().map(|reason| format!("{reason} ")).unwrap_or_default();
    record.verdict_reason = Some(format!(
        "{reason}A leg of the call could not be rendered because of a bug in callspan; its packets are kept."
    ));
}

fn in_process<T>(done: std::thread::Result<Result<T, RecordingError>>) -> Result<T, RenderFailure> {
    match done {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(RenderFailure::Passing(error.into())),
        Err(_) => Err(RenderFailure::Broken(String::from("it panicked"))),
    }
}

impl WorkerProcess {
    fn start(setup: &WorkerSetup) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let mut command = Command::new(&setup.workers.program);
        command.arg(COMMAND).env_clear();
        #[cfg(debug_assertions)]
        command.envs(std::env::vars_os().filter(|(name, _)| name == super::render_worker::TEST_CODEC));
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("no render worker can be started")?;
        let (Some(mut requests), Some(replies)) = (child.stdin.take(), child.stdout.take()) else {
            anyhow::bail!("a render worker has no pipes");
        };
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let read = move || {
            let mut replies = BufReader::new(replies);
            loop {
                let mut line = Vec::new();
                match replies.by_ref().take(MAX_REPLY_BYTES).read_until(b'\n', &mut line) {
                    Ok(1..) if line.ends_with(b"\n") && sender.send(line).is_ok() => {}
                    _ => return,
                }
            }
        };
        std::thread::Builder::new().name(String::from("render-out")).spawn(read).context("no thread for a worker")?;
        let mut settings = serde_json::to_vec(&setup.settings)?;
        settings.push(b'\n');
        requests.write_all(&settings).context("a render worker has ended at once")?;
        let (lines, to_write) = crossbeam_channel::bounded::<Vec<u8>>(1);
        // The writing thread ends with the worker, because then a write fails or the channel is closed. So nobody waits
        // for its end.
        let write = move || to_write.iter().try_for_each(|line| requests.write_all(&line));
        std::thread::Builder::new().name(String::from("render-in")).spawn(write).context("no thread for a worker")?;
        Ok(Self { child, requests: lines, replies: receiver })
    }

    /// Sends a request to the worker process and waits for the result. Meanwhile sets `leg` to the leg that the worker
    /// is rendering. The error says how the worker failed.
    fn ask(
        &mut self,
        request: &RenderRequest,
        workers: &RenderWorkers,
        ticks: &TickCounter,
        leg: &mut Option<u64>,
    ) -> Result<RenderReply, String> {
        let mut line = serde_json::to_vec(request).map_err(|error| error.to_string())?;
        line.push(b'\n');
        self.requests.try_send(line).map_err(|error| match error {
            TrySendError::Full(_) => String::from("it does not read its requests"),
            TrySendError::Disconnected(_) => String::from("it ended"),
        })?;
        let mut limits = RenderLimits::begin(workers, request.bytes(), self.child.id());
        loop {
            ticks.tick();
            match self.replies.recv_timeout(WAIT_ROUND) {
                Ok(reply) => match serde_json::from_slice(&reply) {
                    Ok(RenderReply::Reading(next)) => *leg = Some(next),
                    Ok(RenderReply::Confined { by_landlock }) => say_confinement(by_landlock),
                    reply => return reply.map_err(|error| error.to_string()),
                },
                Err(RecvTimeoutError::Disconnected) => return Err(String::from("it ended")),
                Err(RecvTimeoutError::Timeout) => {}
            }
            limits.check(&request.record.id)?;
        }
    }

    /// Ends the worker process. Returns its exit status as a text if the process ended by itself, otherwise the text
    /// `how`.
    fn end(mut self, how: &str) -> String {
        // A crashed process closes its output first and exits a moment later. So this function waits for the exit.
        wait_for_exit(&self.child, WAIT_ROUND);
        if let Ok(Some(status)) = self.child.try_wait() {
            return status.to_string();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        how.to_owned()
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill(); // loses no work: the worker is idle, or the service ends
        let _ = self.child.wait();
    }
}

/// Waits until a process has exited, but at most `limit`. Does not wait on a kernel without pidfd (before 5.3).
fn wait_for_exit(child: &Child, limit: Duration) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let process = rustix::process::pidfd_open(rustix::process::Pid::from_child(child), PidfdFlags::empty());
    let (Ok(process), Ok(limit)) = (process, Timespec::try_from(limit)) else { return };
    // A signal can end the wait early. That does no harm, because the process is then killed.
    let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
}

/// Logs which sandbox the worker processes have, once in the life of the service.
fn say_confinement(by_landlock: bool) {
    static SAID: Once = Once::new();
    SAID.call_once(|| match by_landlock {
        true => tracing::info!("render workers can read the spool and write recordings, and open no other file (Landlock)"),
        false => tracing::warn!(
            "render workers may use few system calls, but their access to files is not limited. This kernel has no Landlock \
             (Linux 5.13 or newer, with landlock in /sys/kernel/security/lsm)"
        ),
    });
}

/// Name of the hidden command that runs a worker.
pub(crate) const COMMAND: &str = "render-worker";
/// Number of worker processes that a leg may crash before the call is rendered without it.
const TRIES: usize = 2;
/// Maximum length of a reply, bytes. A record with hundreds of legs has some hundred KiB.
const MAX_REPLY_BYTES: u64 = 64 << 20;
/// Maximum time to wait for a reply before this thread gives a sign of life to the supervision of threads.
const WAIT_ROUND: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::call::event::{EndedLeg, RegistrationPolicy};
    use crate::recording::FolderLayout;
    use crate::recording::config::Config;
    use crate::spool::LegSource;

    struct NoSpool;

    impl LegStore for NoSpool {
        fn source(&self, _leg: &EndedLeg) -> Option<LegSource> {
            None
        }
    }

    /// Renders a call with a shell script in place of the worker program. Returns the reason of the failure, and the
    /// renderer.
    fn failure_of(script: &str, note: String) -> (String, CallRenderer) {
        let dir = tempfile::tempdir().expect("a folder");
        let program = dir.path().join("worker.sh");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let config = Config { dir: dir.path().to_owned(), ..Config::default() };
        let second = Duration::from_secs(1);
        let workers = RenderWorkers { program, base_limit: second, patience: 2, idle_limit: 5 * second };
        let settings = WorkerSettings::new(dir.path().to_owned(), &config, None);
        let recorder = Recorder::new(config, FolderLayout::ByDay, None);
        let renderer = CallRenderer::new(recorder, Some(WorkerSetup { workers, settings }), TickCounter::default());
        let record = CallRecord { id: String::from("a"), verdict_reason: Some(note), ..CallRecord::default() };
        let leg = EndedLeg { leg: LegId(1), name: String::from("leg"), index: 0, same_sides: true };
        let registration = RegistrationPolicy::Allowed;
        let call = EndedCall { record, legs: vec![leg], registration, wall_offset_ns: 0 };
        match renderer.record(&call, &NoSpool) {
            Err(RenderFailure::Broken(how)) => (how, renderer),
            Err(RenderFailure::Passing(error)) => panic!("{error:#}"),
            Ok(_) => panic!("a call without a spool was rendered"),
        }
    }

    #[test]
    fn worker_that_replies_for_ever_is_ended_like_a_silent_worker() {
        // The script replies every 0.2 s, i.e. more often than the waiting renderer checks the limits. These replies
        // must not extend the time limit.
        let (how, _) = failure_of("while :; do echo '{\"Reading\":1}'; sleep 0.2; done", String::new());
        assert_eq!(how, "it gave no result within 2 s");
    }

    #[test]
    fn worker_that_does_not_read_its_request_is_ended() {
        // The request is larger than the buffer of a pipe (64 KiB). So writing it waits until the time limit ends the
        // worker.
        let (how, _) = failure_of("exec sleep 60", "x".repeat(1 << 20));
        assert_eq!(how, "it gave no result within 2 s");
    }

    #[test]
    fn worker_that_names_files_of_another_call_gets_no_other_call() {
        let foreign = RenderReply::Done(Box::new(CallRecord { id: String::from("b"), ..CallRecord::default() }));
        let line = serde_json::to_string(&foreign).expect("JSON");
        let (how, renderer) = failure_of(&format!("cat <<'END'\n{line}\nEND\nexec sleep 60"), String::new());
        assert_eq!(how, "it named files of another call");
        assert!(renderer.worker.lock().expect("no panic").is_none(), "a malicious payload may control it");
    }
}
