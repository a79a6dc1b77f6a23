//! The threads that work on calls after the engine: they store events in the journal (SQLite), render recordings and
//! start delivery.
//!
//! The journal marks a call as `ended` until its files are on the disk, and then as `complete`. Until then its packets
//! stay in the spool, and delivery does not get the complete call. Therefore a full or read-only disk delays a call but
//! does not lose it. The call is tried again after [`PAUSES`], and at the next start.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::clock::{monotonic, wall_clock};
use super::event_batch::{CallState, EventBatch};
use super::publish::ended_legs;
pub use super::render_limits::RenderWorkers;
use super::render_process::{CallRenderer, WorkerSetup};
use super::render_protocol::WorkerSettings;
use super::worker::CallWorker;
use super::{maintenance, record_sync, requested_renders};
use crate::call::Engine;
use crate::call::event::{CallEvent, DueSegments, EndedCall, RegistrationPolicy};
use crate::call::record::{CallRecord, CallVerdict, ProblemKind};
use crate::delivery::CallProgress;
use crate::journal::outbox::Outbox;
use crate::journal::{CallStage, Journal, LegRow, StoredCall};
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::alerts::Alerts;
use crate::ops::config::Config;
use crate::ops::supervision::{LONG_ROUND, SHORT_ROUND, Supervisor, ThreadLife, TickCounter};
use crate::ops::thread::{StoppableThread, join_within, stop_all_within};
use crate::pyrus::executor::policy;
use crate::pyrus::{DeliveryHandle, StatusClient};
use crate::recording::{FolderLayout, Recorder};
use crate::service::resume::EarlierCalls;
use crate::service::topology_file::TopologyFile;
use crate::spool::disk::DiskStore;

/// The threads that work on calls after the engine. They end by themselves after the channel with the engine's call
/// events was closed.
pub struct PostProcessor {
    pool: RenderPool,
    threads: Vec<JoinHandle<()>>,
    record_sync: StoppableThread,
    maintenance: StoppableThread,
    requested_renders: StoppableThread,
    delivery: Option<DeliveryHandle>,
    supervised: Vec<(&'static str, ThreadLife, Duration)>,
}

/// Parts that a [`PostProcessor`] needs in addition to the configuration.
pub struct PostProcessTools {
    /// The journal, opened by [`super::recovery::open`].
    pub journal: Journal,
    /// Store of the spool files of the legs.
    pub store: DiskStore,
    /// Handle by which the threads raise alarms.
    pub alerts: Alerts,
    /// The processes that render calls; `None` means that calls are rendered in this process.
    pub render_workers: Option<RenderWorkers>,
    /// Pauses between the tries to write the files of a call. The last pause repeats.
    pub pauses: &'static [Duration],
}

/// State of a rendering thread: its [`CallWorker`], and the list of tasks to be tried again. All rendering threads
/// share this list.
#[derive(Clone)]
struct RenderPool {
    worker: CallWorker,
    retries: Arc<Mutex<Vec<RetryTask>>>,
    pauses: &'static [Duration],
    /// Whether the process is about to end. If true, the threads begin no further task.
    is_abandoned: Arc<AtomicBool>,
}

/// Sends tasks to the rendering threads. Calls with sound have a separate queue, which is read first. So a flood of
/// unanswered calls does not delay calls with sound.
struct TaskQueue {
    sound: Sender<CallTask>,
    rest: Sender<CallTask>,
}

/// The receiving half of a [`TaskQueue`], for the rendering threads.
#[derive(Clone)]
struct QueuedTasks {
    sound: Receiver<CallTask>,
    rest: Receiver<CallTask>,
}

impl TaskQueue {
    fn new() -> (Self, QueuedTasks) {
        let (sound, sound_out) = crossbeam_channel::unbounded();
        let (rest, rest_out) = crossbeam_channel::unbounded();
        (Self { sound, rest }, QueuedTasks { sound: sound_out, rest: rest_out })
    }

    fn send(&self, task: CallTask) {
        let has_sound = match &task {
            CallTask::Publish(call) => call.has_sound(),
            CallTask::Segments(_) | CallTask::Withdraw(_) => true,
        };
        let _ = if has_sound { &self.sound } else { &self.rest }.send(task); // never fails: receivers exist
    }
}

impl QueuedTasks {
    /// Returns the next task. Fails if no task arrives within `patience`, or if there will be no further task.
    fn next_within(&self, patience: Duration) -> Result<CallTask, RecvTimeoutError> {
        if let Ok(task) = self.sound.try_recv() {
            return Ok(task);
        }
        crossbeam_channel::select! {
            recv(self.sound) -> task => match task {
                Ok(task) => Ok(task),
                // The senders of both queues are dropped together. So the queue `rest` (calls without sound) gets no
                // new task either, but may still contain tasks.
                Err(_) => self.rest.try_recv().map_err(|_| RecvTimeoutError::Disconnected),
            },
            recv(self.rest) -> task => match task {
                Ok(task) => Ok(task),
                Err(_) => self.sound.try_recv().map_err(|_| RecvTimeoutError::Disconnected),
            },
            default(patience) => Err(RecvTimeoutError::Timeout),
        }
    }
}

/// A task to be tried again, because files or journal rows could not be written.
struct RetryTask {
    due: Instant,
    /// Number of failed tries of this task so far.
    tries: usize,
    task: CallTask,
}

/// A task for a rendering thread: work on one call.
enum CallTask {
    /// The call has ended: render the part that is not rendered yet, and publish the call.
    Publish(Box<EndedCall>),
    /// The call has not ended yet, and some segments of its recording are complete: render and publish them.
    Segments(Box<DueSegments>),
    /// The call with this id has not ended yet, and a rule of the configuration forbids to record it: remove its
    /// segments.
    Withdraw(String),
}

impl CallTask {
    fn call_id(&self) -> &str {
        match self {
            Self::Publish(call) => &call.record.id,
            Self::Segments(due) => &due.record.id,
            Self::Withdraw(id) => id,
        }
    }
}

/// Returns the configuration of the engine in a service. The maximum length of a segment in it depends on several
/// sections of the configuration.
pub fn engine_config(config: &Config) -> crate::call::config::Config {
    crate::call::config::Config { part_s: recorder(config).segment_seconds(), ..config.call.clone() }
}

fn recorder(config: &Config) -> Recorder {
    Recorder::new(config.recording.clone(), FolderLayout::ByDay, upload_limit(config))
}

/// Returns the size of the largest file that Pyrus accepts, bytes; `None` without delivery.
fn upload_limit(config: &Config) -> Option<u64> {
    config.pyrus.enabled.then(|| u64::from(config.pyrus.max_upload_mib) << 20)
}

impl PostProcessor {
    /// Starts the threads. One thread stores call events in the journal, and several threads render. Delivery, record
    /// synchronisation, maintenance and requested renderings have one thread each.
    ///
    /// # Errors
    /// Fails if delivery or a thread cannot be started, or the spool or the journal cannot be read.
    pub fn start(config: &Config, tools: PostProcessTools, events: Receiver<CallEvent>) -> anyhow::Result<Self> {
        let PostProcessTools { journal, store, alerts, render_workers, pauses } = tools;
        let delivery = match config.pyrus.enabled {
            true => Some(DeliveryHandle::start(&config.pyrus, journal.clone())?),
            false => None,
        };
        let recorder = recorder(config);
        let record_sync = record_sync::start(journal.clone(), recorder.clone())?;
        let setup = render_workers.map(|workers| WorkerSetup {
            workers,
            settings: WorkerSettings::new(config.spool.dir.clone(), &config.recording, upload_limit(config)),
        });
        let ticks = TickCounter::default();
        let renderer = Arc::new(CallRenderer::new(recorder.clone(), setup, ticks.clone()));
        let worker = CallWorker {
            journal,
            recorder,
            store,
            alerts,
            outbox: match config.alerts.notify.calls {
                Some(_) => Some(Outbox::open(&config.journal.dir).context("the outbox cannot be opened")?),
                None => None,
            },
            policy: config.pyrus.enabled.then(|| policy(&config.pyrus)),
            updates: delivery.as_ref().map(DeliveryHandle::sender),
            locks: Arc::default(),
            renderer,
            ticks,
        };
        worker.clear_completed()?;
        let pool = RenderPool { worker: worker.clone(), retries: Arc::default(), pauses, is_abandoned: Arc::default() };
        let (tasks_tx, tasks) = TaskQueue::new();
        let life = ThreadLife::of_ticks(worker.ticks.clone());
        let mut supervised = vec![("events", life.clone(), SHORT_ROUND)];
        let mut threads = vec![spawn("events", &life, {
            let worker = worker.clone();
            let topology = TopologyFile::new(&config.journal.dir);
            let sync_every = Duration::from_secs(u64::from(config.spool.sync_seconds.max(1)));
            move || handle_events(&worker, &events, tasks_tx, topology, sync_every)
        })?];
        for _ in 0..render_threads() {
            let (mut pool, tasks) = (pool.clone(), tasks.clone());
            pool.worker = pool.worker.for_thread();
            let life = ThreadLife::of_ticks(pool.worker.ticks.clone());
            threads.push(spawn("render", &life, move || pool.run_tasks(&tasks))?);
            supervised.push(("render", life, LONG_ROUND));
        }
        let maintenance = maintenance::start(worker.for_thread(), config)?;
        let requested_renders = requested_renders::start(worker.for_thread(), pauses)?;
        supervised.extend([
            ("records", record_sync.life(), SHORT_ROUND),
            ("maintenance", maintenance.life(), LONG_ROUND),
            ("rerender", requested_renders.life(), LONG_ROUND),
        ]);
        let rounds = delivery.as_ref().map(DeliveryHandle::rounds);
        supervised.extend(rounds.map(|rounds| ("delivery", ThreadLife::of_ticks(rounds.into()), SHORT_ROUND)));
        Ok(Self { pool, threads, record_sync, maintenance, requested_renders, delivery, supervised })
    }

    /// Ends or continues calls of an earlier process that are in the journal but not in the spool. These calls had no
    /// media, were being set up, or ended before they were passed to delivery. If a call was in progress, the engine
    /// waits for its next message.
    ///
    /// Calls in the spool are skipped, because [`super::resume`] has already continued them. `revived` contains the
    /// names of the legs of these skipped calls. It also contains the ids of calls that ended when the spool was read.
    ///
    /// # Errors
    /// Fails if the journal cannot be read.
    pub fn adopt(&self, engine: &mut Engine, revived: &HashSet<String>) -> anyhow::Result<()> {
        let worker = &self.pool.worker;
        let live: HashSet<String> = engine.live_ids().map(str::to_owned).collect();
        let now = wall_clock().offset(engine.wall_offset_ns().saturating_neg());
        let untold = worker.journal.calls_to_announce()?;
        for stored in worker.journal.unfinished_calls()? {
            let id = stored.record.id.as_str();
            let legs = worker.journal.legs(id)?;
            if live.contains(id) || revived.contains(id) || legs.iter().any(|leg| revived.contains(&leg.name)) {
                continue;
            }
            let known = untold.iter().find(|(call, _)| call.record.id == id);
            let registration = known.map_or(RegistrationPolicy::Allowed, |(_, registration)| *registration);
            let is_live = stored.stage == CallStage::Live && legs.is_empty();
            let call = call_without_spool(stored, &legs, registration);
            match is_live {
                true => engine.handle_left_call(call, now),
                false => self.pool.attempt(CallTask::Publish(Box::new(call)), 0),
            }
        }
        for (StoredCall { stage, record }, registration) in untold {
            if stage == CallStage::Complete {
                worker.update_delivery(&record, CallProgress::Complete, registration);
            }
        }
        Ok(())
    }

    /// Returns a client that asks the delivery thread for its status; `None` if calls are not delivered.
    pub fn delivery(&self) -> Option<StatusClient> {
        self.delivery.as_ref().map(DeliveryHandle::status_client)
    }

    /// Returns whether the delivery thread has ended by itself, which only a bug can cause.
    pub(crate) fn has_delivery_ended(&self) -> bool {
        self.delivery.as_ref().is_some_and(DeliveryHandle::is_finished)
    }

    /// Adds the threads of the post-processor to the supervised threads.
    pub(crate) fn supervise(&self, supervisor: &mut Supervisor) {
        for (name, life, limit) in &self.supervised {
            supervisor.watch(name, life.clone(), *limit);
        }
    }

    /// Logs in at Pyrus before the first call, so that a wrong key raises its alarm at the start.
    pub(crate) fn check_login(&self) {
        if let Some(delivery) = &self.delivery {
            delivery.check_login();
        }
    }

    /// Passes the login and the key from a changed configuration to delivery.
    pub(crate) fn reload(&self, config: &Config) {
        if let Some(delivery) = &self.delivery {
            delivery.reload(&config.pyrus);
        }
    }

    /// Stops the threads: waits until all ended calls are rendered and the requests to Pyrus that are in flight have
    /// ended.
    pub fn stop(self) {
        self.stop_within(Duration::MAX);
    }

    /// Stops as [`PostProcessor::stop`] does. Calls that are not rendered within `limit` stay in the spool and the
    /// journal for the next start.
    pub(crate) fn stop_within(mut self, limit: Duration) {
        let threads = std::mem::take(&mut self.threads);
        if !join_within(threads, limit) {
            // From now on, each thread ends after its current call. If this takes too long, the process ends before the
            // threads do. The next start then removes the half-written files and renders the call again.
            self.pool.is_abandoned.store(true, Ordering::Relaxed);
            tracing::warn!("not every call is rendered: the next start goes on with them");
        }
        let rest = limit.min(LAST_ROUNDS);
        if let Some(delivery) = self.delivery {
            drop(delivery);
        }
        stop_all_within([self.maintenance, self.requested_renders, self.record_sync], rest);
        let waiting = self.pool.retries.lock().unwrap_or_else(PoisonError::into_inner).len();
        if waiting > 0 {
            tracing::error!(calls = waiting, "recordings could not be written; the next start tries again");
        }
    }
}

impl EarlierCalls for PostProcessor {
    fn is_over(&self, id: &str) -> bool {
        self.pool.worker.journal.call(id).is_ok_and(|call| call.is_some_and(|call| call.stage != CallStage::Live))
    }

    fn owner_of(&self, leg: &str) -> Option<CallRecord> {
        let journal = &self.pool.worker.journal;
        let owner = journal.owner_of_leg(leg).ok()?.filter(|owner| owner.stage != CallStage::Live)?;
        Some(journal.call(&owner.call_id).ok()??.record)
    }

    fn unrendered_record(&self, id: &str) -> Option<CallRecord> {
        let call = self.pool.worker.journal.call(id).ok()??;
        (call.stage != CallStage::Complete).then_some(call.record)
    }
}

/// Writes the engine's events into the journal in their order, and queues a task for each event that needs rendering.
/// Once per `sync_every`, waits until the rows are on the disk. The spool is synced at the same interval.
fn handle_events(
    worker: &CallWorker,
    events: &Receiver<CallEvent>,
    tasks: TaskQueue,
    mut topology: TopologyFile,
    sync_every: Duration,
) {
    let mut next_sync = monotonic() + sync_every;
    loop {
        worker.ticks.tick();
        topology.write_due();
        if monotonic() >= next_sync {
            worker.sync_states();
            next_sync = monotonic() + sync_every;
        }
        let event = match events.recv_timeout(RETRY_CHECK) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => {
                worker.sync_states();
                return topology.write();
            }
        };
        let EventBatch { states, last } = EventBatch::collect(event, events);
        let records = worker.store_states(&states);
        for (state, record) in states.into_iter().zip(records) {
            match state {
                CallState::Live(call) => worker.update_delivery(&record, CallProgress::Live, call.registration),
                CallState::Ended(call) => {
                    worker.update_delivery(&record, CallProgress::Ended, call.registration);
                    tasks.send(CallTask::Publish(call));
                }
            }
        }
        match last {
            Some(CallEvent::SegmentsDue(due)) => tasks.send(CallTask::Segments(due)),
            Some(CallEvent::Withdrawn(id)) => {
                worker.locks.forbid(&id);
                tasks.send(CallTask::Withdraw(id));
            }
            Some(CallEvent::Absorbed(id)) => worker.forget_absorbed(&id),
            Some(CallEvent::Learnt(facts)) => topology.update(facts),
            Some(CallEvent::Changed(_) | CallEvent::Ended(_)) | None => {}
        }
    }
}

impl RenderPool {
    fn run_tasks(&self, tasks: &QueuedTasks) {
        loop {
            self.worker.ticks.tick();
            if self.is_abandoned.load(Ordering::Relaxed) {
                return;
            }
            match tasks.next_within(RETRY_CHECK) {
                Ok(task) => self.attempt(task, 0),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(RetryTask { task, tries, .. }) = self.take_due() {
                self.attempt(task, tries);
            }
        }
    }

    /// Performs a task. If files or journal rows cannot be written, the task is tried again after a pause.
    fn attempt(&self, task: CallTask, tries: usize) {
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| match &task {
            CallTask::Publish(call) => self.worker.publish(call),
            CallTask::Segments(due) => self.worker.publish_segments(due),
            CallTask::Withdraw(id) => self.worker.withdraw_segments(id),
        }));
        let (id, alerts) = (task.call_id(), &self.worker.alerts);
        let error = match done {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            // Another try would panic again, so the task is dropped. This thread goes on, because there are only a few
            // rendering threads.
            Err(_) => return alerts.raise_for(id, &AlarmCause::CallWorkPanicked),
        };
        let pause = self.pauses.get(tries).or(self.pauses.last()).copied().unwrap_or_default();
        alerts.raise_for(id, &AlarmCause::RecordingNotWritten { error: &error, pause });
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        if retries.len() >= MAX_RETRIES {
            tracing::error!(call = id, "too many calls wait for the disk: the next start tries this call again");
            return;
        }
        retries.push(RetryTask { due: monotonic() + pause, tries: tries + 1, task });
    }

    fn take_due(&self) -> Option<RetryTask> {
        let now = monotonic();
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let at = retries.iter().position(|retry| retry.due <= now)?;
        Some(retries.remove(at))
    }
}

/// Builds an ended call from its journal rows. Used for a call of an earlier process that has no spool, i.e. no stored
/// packets.
fn call_without_spool(stored: StoredCall, legs: &[LegRow], registration: RegistrationPolicy) -> EndedCall {
    let mut record = stored.record;
    if stored.stage == CallStage::Live && record.verdict.is_none() {
        let answered = record.answered_at.is_some();
        record.verdict = Some(if answered { CallVerdict::Failed } else { CallVerdict::NotAnswered });
        record.verdict_reason = Some(String::from(match answered {
            true if !record.recordings.is_empty() => {
                "The recorder was restarted during the call; the audio after its finished parts was not in the spool."
            }
            true => "The recorder was restarted during the call; none of its audio was in the spool.",
            false => "The recorder was restarted while the call was being set up; its outcome was not seen.",
        }));
        record.problems.push(ProblemKind::RestartGap.problem());
    }
    EndedCall { record, legs: ended_legs(legs), registration, wall_offset_ns: 0 }
}

fn spawn(name: &str, life: &ThreadLife, work: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    let guard = life.begin();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _guard = guard;
            work();
        })
        .with_context(|| format!("cannot start the {name} thread"))
}

/// Returns the number of rendering threads: one less than the processor cores, to leave one core for the capture.
fn render_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.saturating_sub(1).clamp(MIN_RENDER_THREADS, MAX_RENDER_THREADS)
}

/// Pauses before the second, third, … try to write a call's files. They grow, because a person may need minutes or a
/// day to free a full disk.
pub const PAUSES: &[Duration] =
    &[Duration::from_secs(60), Duration::from_secs(5 * 60), Duration::from_secs(15 * 60), Duration::from_secs(30 * 60)];

/// Minimum number of rendering threads. A thread that waits for the disk uses no core: while one waits, the other can
/// render. The workers have a lower priority than the capture, so the second does not delay it.
const MIN_RENDER_THREADS: usize = 2;
/// Maximum number of rendering threads. Further threads would wait for the disk and not for a processor core.
const MAX_RENDER_THREADS: usize = 4;
/// Maximum time to wait for the other threads together, e.g. the maintenance thread, when the process ends.
const LAST_ROUNDS: Duration = Duration::from_secs(1);
/// Interval between two checks whether a failed task (rendering or delivery of a call) is due for another try.
const RETRY_CHECK: Duration = Duration::from_millis(500);
/// Maximum number of failed work items (rendering or delivery of a call) that wait in memory for another try, about 10
/// KiB each. Further items are dropped. The service finds their calls again at its next start, because packets and
/// journal rows are on the disk.
const MAX_RETRIES: usize = 10_000;
