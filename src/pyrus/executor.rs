//! The loop that drives [`Machine`]: calls and answers in, rows into the journal, requests out.
//!
//! One thread with its own runtime. Journal writes happen on it (a commit is a fraction of a millisecond); requests
//! are tasks beside it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Sender;
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Error;
use super::client::{Client, Timeouts};
use super::config::Config;
use crate::delivery::row::DeliveryRow;
use crate::delivery::{ActionId, CallUpdate, Failure, Machine, Next, Policy, Progress, Reply, Summary, Tuning};
use crate::journal::Journal;
use crate::time::Timestamp;

/// What is not in the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Pauses and counts.
    pub tuning: Tuning,
    /// Bounds of a request in time.
    pub timeouts: Timeouts,
    /// Decides the jitter.
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self { tuning: Tuning::default(), timeouts: Timeouts::default(), seed: fastrand::u64(..) }
    }
}

/// Starts delivery.
#[derive(Debug)]
pub struct Executor;

/// Delivery that runs. Dropping it stops it as [`Handle::shutdown`] does.
#[derive(Debug)]
pub struct Handle {
    updates: mpsc::Sender<CallUpdate>,
    commands: mpsc::UnboundedSender<Command>,
    /// The program ends: a journal that cannot be written is not waited for any more.
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Asks how things stand, from any thread; see [`Handle::asker`].
#[derive(Clone, Debug)]
pub struct Asker {
    commands: mpsc::UnboundedSender<Command>,
}

/// Whether somebody who waits for delivery waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Yes.
    On,
    /// Not a moment longer.
    NoMore,
}

#[derive(Debug)]
enum Command {
    Settle(Duration, Sender<Summary>),
    Summary(Sender<Summary>),
    Retry(String),
    Stop,
}

impl Executor {
    /// Starts the delivery thread; it goes on at once with what the journal says is owed.
    ///
    /// # Errors
    /// See [`Error`]. A login that Pyrus refuses is none: [`Summary::alarm`] says it.
    pub fn spawn(config: &Config, journal: Journal) -> Result<Handle, Error> {
        Self::spawn_with(config, journal, Setup::default())
    }

    /// The same with other pauses.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn spawn_with(config: &Config, journal: Journal, setup: Setup) -> Result<Handle, Error> {
        let client = Arc::new(Client::new(config, setup.timeouts)?);
        let clock = Clock::start();
        let mut machine = Machine::new(policy(config), setup.tuning, setup.seed);
        machine.load_client(journal.dropped_codes()?, journal.alarm()?);
        if let Some(lost_at) = journal.lost_at()? {
            machine.load_loss(lost_at);
        }
        for row in machine.load(clock.now(), journal.load_jobs()?) {
            tracing::error!(call = row.id, "the journal's row of this delivery cannot be read; it is left as it is");
        }
        let (updates, updates_out) = mpsc::channel(UPDATES);
        let (commands, commands_out) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("pyrus-io")
            .enable_all()
            .build()?;
        let is_stopping = Arc::new(AtomicBool::new(false));
        let driver = Driver {
            machine,
            journal,
            client,
            clock,
            updates: updates_out,
            flying: JoinSet::new(),
            is_stopping: Arc::clone(&is_stopping),
        };
        let thread = std::thread::Builder::new().name(String::from("pyrus")).spawn(move || {
            runtime.block_on(driver.run(commands_out));
            runtime.shutdown_timeout(Duration::from_secs(1));
        })?;
        Ok(Handle { updates, commands, is_stopping, thread: Some(thread) })
    }
}

impl Handle {
    /// Tells of a call; waits while [`UPDATES`] are waiting already. Must not be called from an async task: use
    /// [`Handle::sender`] there. What is lost because delivery has ended is in the journal of calls.
    pub fn tell(&self, update: CallUpdate) {
        if self.updates.blocking_send(update).is_err() {
            tracing::error!("delivery has ended; the call is told again at the next start");
        }
    }

    /// The way in for other threads.
    pub fn sender(&self) -> mpsc::Sender<CallUpdate> {
        self.updates.clone()
    }

    /// Waits until nothing is owed that can still succeed without a person: done, parked, dead, or waiting for a call
    /// that was told of as live. Gives up when for `patience` no request has succeeded and none is under way; what is
    /// `owed` in the summary then stays in the journal for the next start. Everything told before is taken into account.
    pub fn run_until_settled(&self, patience: Duration) -> Summary {
        self.run_until_settled_or(patience, &mut |_| Wait::On)
    }

    /// The same; `look` is asked five times a second, with the time waited so far, whether to wait on.
    #[expect(clippy::disallowed_methods, reason = "an IO room: how long somebody has waited")]
    pub fn run_until_settled_or(&self, patience: Duration, look: &mut dyn FnMut(Duration) -> Wait) -> Summary {
        let (answer, waiting) = crossbeam_channel::bounded(1);
        let _ = self.commands.send(Command::Settle(patience, answer));
        let begin = Instant::now();
        loop {
            match waiting.recv_timeout(LOOK_WHILE_WAITING) {
                Ok(summary) => return summary,
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return Summary::default(),
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
            }
            if look(begin.elapsed()) == Wait::NoMore {
                return self.asker().summary_within(LAST_ANSWERS).unwrap_or_default();
            }
        }
    }

    /// How things stand.
    pub fn summary(&self) -> Summary {
        self.ask(Command::Summary)
    }

    /// Whether delivery has ended by itself, which it never should.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// For a thread that asks how things stand from time to time.
    pub fn asker(&self) -> Asker {
        Asker { commands: self.commands.clone() }
    }

    /// Tries a parked or dead call again at once.
    pub fn retry(&self, id: &str) {
        let _ = self.commands.send(Command::Retry(id.to_owned()));
    }

    /// Stops: begins nothing new, gives what is under way a few seconds. What is not answered by then is settled at the
    /// next start.
    pub fn shutdown(self) -> Summary {
        let summary = self.asker().summary_within(LAST_ANSWERS).unwrap_or_default();
        drop(self);
        summary
    }

    fn ask(&self, command: impl FnOnce(Sender<Summary>) -> Command) -> Summary {
        let (answer, waiting) = crossbeam_channel::bounded(1);
        let _ = self.commands.send(command(answer));
        waiting.recv().unwrap_or_default()
    }
}

impl Asker {
    /// How things stand. `None`: delivery does not answer, for it has ended or waits for the journal to be writable.
    pub fn summary_within(&self, patience: Duration) -> Option<Summary> {
        let (answer, waiting) = crossbeam_channel::bounded(1);
        self.commands.send(Command::Summary(answer)).ok()?;
        waiting.recv_timeout(patience).ok()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What delivery must know of the configuration.
pub fn policy(config: &Config) -> Policy {
    Policy {
        account_id: config.account_id.clone(),
        register_at: config.register_at,
        directions: config.directions.clone(),
        unanswered: config.unanswered,
        send_mappings: config.send_mappings.clone(),
        header_mappings: config.mappings.clone(),
        duration_unit: config.call_duration_unit,
        max_upload_bytes: u64::from(config.max_upload_mib) * 1024 * 1024,
    }
}

struct Driver {
    machine: Machine,
    journal: Journal,
    client: Arc<Client>,
    clock: Clock,
    updates: mpsc::Receiver<CallUpdate>,
    flying: JoinSet<(ActionId, Reply)>,
    is_stopping: Arc<AtomicBool>,
}

/// Whether the rows are on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Durable,
    /// The journal refused them and the program ends: nothing may be sent any more.
    GivenUp,
}

/// Whether the machine knows of a call what the journal knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recalled {
    Sure,
    /// The journal cannot be read and the program ends.
    Unknown,
}

/// Somebody waits for the end of the work.
struct Waiting {
    patience: Duration,
    /// Requests done, and the last moment when that was a new number or waiting was what Pyrus had asked for.
    progress: (u64, Timestamp),
    patience_is_over: bool,
    answer: Sender<Summary>,
}

impl Waiting {
    fn look(&mut self, machine: &Machine, now: Timestamp) {
        let successes = machine.successes();
        if self.progress.0 != successes || machine.is_paced(now) {
            self.progress = (successes, now);
        }
        self.patience_is_over = now.since(self.progress.1) >= self.patience;
    }
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut waiting: Option<Waiting> = None;
        self.take_retry_requests().await; // asked for while nobody was here
        loop {
            if let Some(waiting) = &mut waiting {
                waiting.look(&self.machine, self.clock.now());
            }
            // Who has lost patience waits for what is under way (a long upload), and for nothing new.
            let wake = match &waiting {
                Some(waiting) if waiting.patience_is_over => None,
                _ => self.send_what_is_due().await,
            };
            waiting = self.answer_waiting(waiting);
            let until = wake.unwrap_or(LOOK).min(LOOK);
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    None | Some(Command::Stop) => break,
                    Some(command) => {
                        self.take_updates().await;
                        waiting = self.handle_command(command, waiting).await;
                    }
                },
                Some(landed) = self.flying.join_next(), if !self.flying.is_empty() => {
                    self.handle_landed(landed);
                }
                Some(update) = self.updates.recv() => self.handle_update(&update).await,
                () = sleep(until) => self.take_retry_requests().await,
            }
        }
        self.stop().await;
    }

    /// Sends all that may be sent now. Returns how long nothing more will be due.
    async fn send_what_is_due(&mut self) -> Option<Duration> {
        loop {
            let now = self.clock.now();
            let next = self.machine.next(now);
            // Before the request: the intent must be durable.
            if self.persist().await == Written::GivenUp {
                return None;
            }
            match next {
                Next::Action(action) => {
                    let id = action.id;
                    let reply = Arc::clone(&self.client).execute(action);
                    // A panic is a bug of ours; of what Pyrus got it says nothing. The job must not stay under way.
                    let reply = AssertUnwindSafe(reply).catch_unwind();
                    self.flying.spawn(async move { (id, reply.await.unwrap_or_else(|_| panicked())) });
                }
                Next::WaitUntil(at) => return Some(at.since(now)),
                Next::Idle => return None,
            }
        }
    }

    /// Writes the rows; tries again until the journal takes them, for nothing may be sent before.
    async fn persist(&mut self) -> Written {
        let mut rows = Vec::new();
        while let Some(row) = self.machine.poll_row() {
            tell_log(&row);
            rows.push(row);
        }
        let mut failures = 0_u32;
        while let Err(e) = self.journal.save(&rows) {
            if failures.is_multiple_of(JOURNAL_COMPLAINT_EVERY) {
                tracing::error!(error = %e, "delivery waits: the journal cannot be written");
            }
            failures = failures.saturating_add(1);
            if self.is_stopping.load(Ordering::Relaxed) {
                return Written::GivenUp;
            }
            sleep(JOURNAL_AGAIN).await;
        }
        Written::Durable
    }

    async fn handle_update(&mut self, update: &CallUpdate) {
        if self.recall(&update.record.id).await == Recalled::Unknown {
            return; // as a new call it would be sent twice; it is told again at the next start
        }
        self.machine.handle_call(update);
        let written = self.persist().await;
        // Its rows are durable: from now on the next start goes on from them.
        if written == Written::Durable
            && update.progress == Progress::Complete
            && let Err(e) = self.journal.mark_announced(&update.record.id)
        {
            tracing::warn!(error = %e, "the call is told to delivery once more at the next start");
        }
    }

    /// A call that was settled in an earlier life is in the journal only.
    async fn recall(&mut self, id: &str) -> Recalled {
        while !self.machine.knows(id) {
            match self.journal.job(id) {
                Ok(row) => {
                    self.machine.load(self.clock.now(), row);
                    break;
                }
                Err(_) if self.is_stopping.load(Ordering::Relaxed) => return Recalled::Unknown,
                Err(e) => {
                    tracing::error!(error = %e, "delivery waits: the journal cannot be read");
                    sleep(JOURNAL_AGAIN).await;
                }
            }
        }
        Recalled::Sure
    }

    async fn take_updates(&mut self) {
        while let Ok(update) = self.updates.try_recv() {
            self.handle_update(&update).await;
        }
    }

    async fn take_retry_requests(&mut self) {
        match self.journal.take_retry_requests() {
            Ok(ids) => {
                for id in ids {
                    self.retry(&id).await;
                }
            }
            Err(e) => tracing::debug!(error = %e, "requests for retries cannot be read"),
        }
    }

    async fn retry(&mut self, id: &str) {
        if self.recall(id).await == Recalled::Sure {
            self.machine.handle_retry(id);
        }
    }

    fn handle_landed(&mut self, landed: Result<(ActionId, Reply), tokio::task::JoinError>) {
        match landed {
            Ok((id, reply)) => self.machine.handle_answer(self.clock.now(), id, &reply),
            // Only the end of the runtime ends a task: the next start counts its request as not answered.
            Err(e) => tracing::debug!(error = %e, "a request was ended"),
        }
    }

    async fn handle_command(&mut self, command: Command, waiting: Option<Waiting>) -> Option<Waiting> {
        match command {
            Command::Settle(patience, answer) => {
                let progress = (self.machine.successes(), self.clock.now());
                return Some(Waiting { patience, progress, patience_is_over: false, answer });
            }
            Command::Summary(answer) => {
                let _ = self.persist().await;
                let _ = answer.send(self.machine.summary());
            }
            Command::Retry(id) => self.retry(&id).await,
            Command::Stop => {}
        }
        waiting
    }

    fn answer_waiting(&self, waiting: Option<Waiting>) -> Option<Waiting> {
        let waiting = waiting?;
        let is_over = waiting.patience_is_over || (self.updates.is_empty() && self.machine.is_settled());
        if is_over && self.flying.is_empty() {
            let _ = waiting.answer.send(self.machine.summary());
            return None;
        }
        Some(waiting)
    }

    async fn stop(mut self) {
        self.take_updates().await;
        let end = tokio::time::timeout(LAST_ANSWERS, async {
            while let Some(landed) = self.flying.join_next().await {
                self.handle_landed(landed);
            }
        });
        let _ = end.await;
        let _ = self.persist().await;
    }
}

fn panicked() -> Reply {
    tracing::error!("a request to Pyrus ended in a panic");
    Reply::Failed(Failure::Unanswered(String::from("callspan had an error of its own during the request")))
}

fn tell_log(row: &DeliveryRow) {
    match row {
        DeliveryRow::Job(job) => match job.stage.as_str() {
            "parked" => tracing::warn!(
                call = job.id,
                "not delivered to Pyrus, a person must act: `callspan calls show` says why"
            ),
            "dead" => tracing::error!(call = job.id, "will not be whole in Pyrus: `callspan calls show` says why"),
            stage => tracing::debug!(call = job.id, stage, task = job.task_id, "delivery"),
        },
        DeliveryRow::Dropped(code) => {
            tracing::warn!(code = code.code, "the form in Pyrus has no such field; it is left out from now on");
        }
        DeliveryRow::Alarm(Some(why)) => tracing::error!("{why}"),
        DeliveryRow::Alarm(None) => tracing::info!("what kept calls from Pyrus is over"),
    }
}

/// Wall-clock time that never runs backwards: the moment of the start plus monotonic progress.
#[derive(Clone, Copy, Debug)]
struct Clock {
    wall: Timestamp,
    start: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "an IO room: the executor's clock")]
    fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: Timestamp::EPOCH + wall, start: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        self.wall + self.start.elapsed()
    }
}

#[expect(clippy::disallowed_methods, reason = "the executor waits")]
async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A patience for [`Handle::run_until_settled`]: a Pyrus that is not back by then is left to the next start. A request
/// under way is waited for all the same.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Calls that may wait to be taken up; more hold up who tells of them.
pub const UPDATES: usize = 1024;

/// Who waits for delivery can end the waiting so soon.
const LOOK_WHILE_WAITING: Duration = Duration::from_millis(200);

/// How often another process's request for a retry is looked for.
const LOOK: Duration = Duration::from_secs(2);

/// Pause before the journal is tried again.
const JOURNAL_AGAIN: Duration = Duration::from_secs(1);

/// A line in the log each minute, not each second.
const JOURNAL_COMPLAINT_EVERY: u32 = 60;

/// How long what is under way may still be answered when the program ends.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
