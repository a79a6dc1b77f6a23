//! The loop that drives [`DeliveryMachine`]. It passes calls and outcomes of requests to this state machine. It stores
//! the rows of the state machine in the journal (SQLite), and sends its requests.
//!
//! The loop has its own thread with an async runtime. Requests run as concurrent tasks of this runtime. A journal write
//! blocks the thread, for a fraction of a millisecond.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Sender;
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Error;
use super::client::{PyrusClient, RequestTimeouts};
use super::config::Config;
use crate::delivery::row::{DeliveryRow, JobStage};
use crate::delivery::{
    ActionId, CallProgress, CallUpdate, DeliveryMachine, DeliveryPolicy, DeliverySummary, DeliveryTuning, NextAction,
    RequestFailure, RequestOutcome,
};
use crate::journal::Journal;
use crate::time::Timestamp;

/// Settings of delivery that are not in the configuration file. Tests change them.
#[derive(Clone, Copy, Debug)]
pub struct DeliverySetup {
    /// Pauses and limits between requests to Pyrus.
    pub tuning: DeliveryTuning,
    /// Time limits of a request to Pyrus.
    pub timeouts: RequestTimeouts,
    /// Seed of the random numbers that vary the pauses, so that tests are repeatable.
    pub seed: u64,
}

impl Default for DeliverySetup {
    fn default() -> Self {
        Self { tuning: DeliveryTuning::default(), timeouts: RequestTimeouts::default(), seed: fastrand::u64(..) }
    }
}

/// The running delivery. Dropping this handle stops delivery, as [`DeliveryHandle::shutdown`] does.
#[derive(Debug)]
pub struct DeliveryHandle {
    updates: mpsc::Sender<CallUpdate>,
    commands: mpsc::UnboundedSender<DeliveryCommand>,
    /// Whether the program is about to end. If true, the loop no longer waits for a journal that cannot be written.
    is_stopping: Arc<AtomicBool>,
    health: Arc<DeliveryHealth>,
    thread: Option<JoinHandle<()>>,
}

/// State of the delivery thread. Other threads can read it even if the delivery thread is blocked.
#[derive(Debug, Default)]
struct DeliveryHealth {
    /// Number of rounds that the thread's loop has made. It also grows while the thread waits, so a constant number
    /// means that the thread hangs.
    rounds: Arc<AtomicU64>,
    /// Error because of which the thread waits for the journal; `None` before the second failure in a row.
    journal_error: Mutex<Option<String>>,
    /// Whether Pyrus has accepted or refused the current login, and the journal has the rows about its response.
    is_login_answered: AtomicBool,
}

impl DeliveryHealth {
    fn tick(&self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    fn set_journal_error(&self, error: Option<String>) {
        *self.journal_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

/// Asks the delivery thread for its status, from any other thread. Created by [`DeliveryHandle::status_client`].
#[derive(Clone, Debug)]
pub struct StatusClient {
    commands: mpsc::UnboundedSender<DeliveryCommand>,
    health: Arc<DeliveryHealth>,
}

/// Response of the delivery thread to a request for its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryAnswer {
    /// The thread responded with the current state of delivery.
    Summary(Box<DeliverySummary>),
    /// The thread is busy and did not respond in time; the response comes later.
    Busy,
    /// The thread waits because the journal cannot be written or read, for this reason.
    WaitsForJournal(String),
    /// The delivery thread has ended.
    Ended,
}

/// Decision whether to wait any longer for delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitDecision {
    /// Continue to wait for delivery.
    Continue,
    /// Stop waiting for delivery at once.
    Stop,
}

#[derive(Debug)]
enum DeliveryCommand {
    Settle(Duration, Sender<DeliverySummary>),
    Summary(Sender<DeliverySummary>),
    Reload(Box<Config>),
    CheckLogin,
    Stop,
}

impl DeliveryHandle {
    /// Starts the delivery thread. It continues with the unfinished deliveries in the journal.
    ///
    /// # Errors
    /// Returns an error if the configuration, the journal or the thread fails. A login that Pyrus refuses is not an
    /// error; it appears in [`DeliverySummary::alarm`].
    pub(crate) fn start(config: &Config, journal: Journal) -> Result<Self, Error> {
        Self::start_with(config, journal, DeliverySetup::default())
    }

    /// Starts the delivery thread with the given pauses and time limits.
    ///
    /// # Errors
    /// Returns the same errors as [`DeliveryHandle::start`].
    pub fn start_with(config: &Config, journal: Journal, setup: DeliverySetup) -> Result<Self, Error> {
        let client = Arc::new(PyrusClient::new(config, setup.timeouts)?);
        let clock = DeliveryClock::start();
        let mut machine = DeliveryMachine::new(policy(config), setup.tuning, setup.seed);
        journal.make_reserve();
        machine.load_client(journal.dropped_codes()?, journal.alarm()?);
        if let Some(lost_at) = journal.lost_at()? {
            machine.load_journal_loss(lost_at);
        }
        for row in machine.load(clock.now(), journal.load_jobs()?) {
            tracing::error!(call = row.id, "the journal row of this delivery cannot be parsed; it stays unchanged");
        }
        let (updates, updates_out) = mpsc::channel(UPDATE_QUEUE_LENGTH);
        let (commands, commands_out) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("pyrus-io")
            .enable_all()
            .build()?;
        let is_stopping = Arc::new(AtomicBool::new(false));
        let health = Arc::new(DeliveryHealth::default());
        let driver = DeliveryDriver {
            machine,
            journal,
            client,
            clock,
            updates: updates_out,
            in_flight: JoinSet::new(),
            is_stopping: Arc::clone(&is_stopping),
            health: Arc::clone(&health),
            unsaved: Vec::new(),
        };
        let thread = std::thread::Builder::new().name(String::from("pyrus")).spawn(move || {
            runtime.block_on(driver.run(commands_out));
            runtime.shutdown_timeout(Duration::from_secs(1));
        })?;
        Ok(Self { updates, commands, is_stopping, health, thread: Some(thread) })
    }

    /// Sends a new or changed call to delivery. Blocks while the queue has [`UPDATE_QUEUE_LENGTH`] updates, so it must
    /// not be called in an async task. If delivery has ended, the update is lost, but the call is sent to delivery
    /// again at the next start.
    pub fn send_update(&self, update: CallUpdate) {
        if self.updates.blocking_send(update).is_err() {
            tracing::error!("delivery has ended; the call is delivered after the next start");
        }
    }

    /// Returns a sender through which other threads can send call updates to delivery.
    pub(crate) fn sender(&self) -> mpsc::Sender<CallUpdate> {
        self.updates.clone()
    }

    /// Waits until every job is done, parked (waits for a person), dead (given up), or must wait for the end of a call.
    /// Updates that were sent before this wait are handled first. Stops waiting if no request has succeeded for
    /// `patience` and no request is in progress. Unfinished jobs then remain in the journal.
    pub fn run_until_settled(&self, patience: Duration) -> DeliverySummary {
        self.run_until_settled_or_stopped(patience, &mut |_| WaitDecision::Continue)
    }

    /// Waits as [`DeliveryHandle::run_until_settled`] does. Five times a second it calls `look` with the time waited so
    /// far. The result of `look` decides whether to wait any longer.
    #[expect(clippy::disallowed_methods, reason = "an I/O module: measures how long a caller has waited")]
    pub(crate) fn run_until_settled_or_stopped(
        &self,
        patience: Duration,
        look: &mut dyn FnMut(Duration) -> WaitDecision,
    ) -> DeliverySummary {
        let (answer, waiting) = crossbeam_channel::bounded(1);
        let _ = self.commands.send(DeliveryCommand::Settle(patience, answer));
        let begin = Instant::now();
        loop {
            match waiting.recv_timeout(STOP_CHECK_INTERVAL) {
                Ok(summary) => return summary,
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return DeliverySummary::default(),
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
            }
            if look(begin.elapsed()) == WaitDecision::Stop {
                return self.status_client().summary_within(SHUTDOWN_GRACE).unwrap_or_default();
            }
        }
    }

    /// Returns the current numbers of calls by delivery state, and the problems.
    pub fn summary(&self) -> DeliverySummary {
        self.ask(DeliveryCommand::Summary)
    }

    /// Returns whether the delivery thread has ended, which indicates a bug.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Returns a client by which other threads can ask for the status of delivery.
    pub(crate) fn status_client(&self) -> StatusClient {
        StatusClient { commands: self.commands.clone(), health: Arc::clone(&self.health) }
    }

    /// Returns the number of rounds that the thread's loop has made. The number grows while delivery works or waits.
    pub(crate) fn rounds(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.health.rounds)
    }

    /// Logs in at Pyrus even if no call has to be delivered, so that a wrong key is noticed at the start.
    pub(crate) fn check_login(&self) {
        let _ = self.commands.send(DeliveryCommand::CheckLogin); // fails if delivery has ended
    }

    /// Replaces login, security key and person id by the values in `config`. If delivery waits because Pyrus refused
    /// the old login, it continues at once.
    pub(crate) fn reload(&self, config: &Config) {
        let _ = self.commands.send(DeliveryCommand::Reload(Box::new(config.clone()))); // fails if delivery has ended
    }

    /// Stops delivery: sends no further request, and waits a few seconds for responses to requests in flight. If a
    /// request gets no response, the next start finds out whether it succeeded.
    pub(crate) fn shutdown(self) -> DeliverySummary {
        let summary = self.status_client().summary_within(SHUTDOWN_GRACE).unwrap_or_default();
        drop(self);
        summary
    }

    fn ask(&self, command: impl FnOnce(Sender<DeliverySummary>) -> DeliveryCommand) -> DeliverySummary {
        let (answer, waiting) = crossbeam_channel::bounded(1);
        let _ = self.commands.send(command(answer));
        waiting.recv().unwrap_or_default()
    }
}

impl StatusClient {
    /// Returns the status of delivery. Returns `None` if the delivery thread does not respond within `patience`.
    pub(crate) fn summary_within(&self, patience: Duration) -> Option<DeliverySummary> {
        match self.ask_within(patience) {
            DeliveryAnswer::Summary(summary) => Some(*summary),
            DeliveryAnswer::Busy | DeliveryAnswer::WaitsForJournal(_) | DeliveryAnswer::Ended => None,
        }
    }

    /// Returns whether Pyrus has accepted or refused the current login and key. Never waits.
    pub(crate) fn is_login_answered(&self) -> bool {
        self.health.is_login_answered.load(Ordering::Relaxed)
    }

    /// Asks for the status of delivery, and waits for the response of the delivery thread at most for `patience`.
    pub(crate) fn ask_within(&self, patience: Duration) -> DeliveryAnswer {
        let (answer, waiting) = crossbeam_channel::bounded(1);
        if self.commands.send(DeliveryCommand::Summary(answer)).is_err() {
            return DeliveryAnswer::Ended;
        }
        match waiting.recv_timeout(patience) {
            Ok(summary) => DeliveryAnswer::Summary(Box::new(summary)),
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => DeliveryAnswer::Ended,
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {
                let error = self.health.journal_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
                error.map_or(DeliveryAnswer::Busy, DeliveryAnswer::WaitsForJournal)
            }
        }
    }
}

impl Drop for DeliveryHandle {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        let _ = self.commands.send(DeliveryCommand::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Converts the configuration to the settings of [`DeliveryMachine`].
pub fn policy(config: &Config) -> DeliveryPolicy {
    DeliveryPolicy {
        account_id: config.account_id.clone(),
        register_at: config.register_at,
        directions: config.directions.clone(),
        unanswered: config.unanswered,
        send_mappings: config.send_mappings.clone(),
        header_mappings: config.mappings.clone(),
        duration_unit: config.call_duration_unit,
        outcome_field: config.outcome_field.clone(),
        rating_type: config.rating_type,
        max_upload_bytes: u64::from(config.max_upload_mib) * 1024 * 1024,
    }
}

struct DeliveryDriver {
    machine: DeliveryMachine,
    journal: Journal,
    client: Arc<PyrusClient>,
    clock: DeliveryClock,
    updates: mpsc::Receiver<CallUpdate>,
    in_flight: JoinSet<(ActionId, RequestOutcome)>,
    is_stopping: Arc<AtomicBool>,
    health: Arc<DeliveryHealth>,
    /// Changed delivery rows that are not stored in the journal yet.
    unsaved: Vec<DeliveryRow>,
}

/// Whether the changed journal rows of deliveries were stored durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowDurability {
    Durable,
    /// The changed journal rows are not stored, because the journal cannot be written and the program is about to end.
    /// No further request to Pyrus may be sent.
    GivenUp,
}

/// Result of loading the delivery job of a call from the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobRecall {
    Loaded,
    /// It is unknown whether the call has a delivery job, because the journal cannot be read and the program is about
    /// to end.
    Unknown,
}

/// A thread that waits until delivery is settled, i.e. has nothing left to do.
struct SettleWaiter {
    patience: Duration,
    /// Number of successful requests when progress was last checked.
    successes: u64,
    /// Time at which `successes` last changed. A wait for a rate limit counts as progress, so the time is moved on
    /// during this wait.
    progress_at: Timestamp,
    patience_is_over: bool,
    answer: Sender<DeliverySummary>,
}

impl SettleWaiter {
    /// Records the time `now` if delivery made progress or is held back by a rate limit. Then decides whether there was
    /// no progress for the time `patience`.
    fn update_patience(&mut self, machine: &DeliveryMachine, now: Timestamp) {
        let successes = machine.successes();
        if self.successes != successes || machine.is_rate_limited(now) {
            (self.successes, self.progress_at) = (successes, now);
        }
        self.patience_is_over = now.since(self.progress_at) >= self.patience;
    }
}

impl DeliveryDriver {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<DeliveryCommand>) {
        let mut waiting: Option<SettleWaiter> = None;
        self.take_retries().await; // people may have requested retries before this start
        loop {
            self.health.tick();
            if let Some(waiting) = &mut waiting {
                waiting.update_patience(&self.machine, self.clock.now());
            }
            // If the waiting thread has waited long enough without a success, no further request is sent. The loop then
            // waits only for requests in flight, e.g. a long upload.
            let wake = match &waiting {
                Some(waiting) if waiting.patience_is_over => None,
                _ => self.send_due_requests().await,
            };
            self.health.is_login_answered.store(self.machine.is_login_answered(), Ordering::Relaxed);
            waiting = self.answer_settled(waiting);
            let until = wake.unwrap_or(RETRY_POLL_INTERVAL).min(RETRY_POLL_INTERVAL);
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    None | Some(DeliveryCommand::Stop) => break,
                    Some(command) => {
                        self.take_updates().await;
                        waiting = self.handle_command(command, waiting).await;
                    }
                },
                Some(finished) = self.in_flight.join_next(), if !self.in_flight.is_empty() => {
                    self.handle_finished_request(finished);
                }
                Some(update) = self.updates.recv() => self.handle_updates(update).await,
                () = sleep(until) => self.take_retries().await,
            }
        }
        self.stop().await;
    }

    /// Sends all requests that are due. Returns the time until the next request is due.
    async fn send_due_requests(&mut self) -> Option<Duration> {
        loop {
            let now = self.clock.now();
            let next = self.machine.poll_action(now);
            // The journal rows that announce the request must be durable before the request is sent. If they cannot be
            // stored, nothing is sent.
            if self.store_rows().await == RowDurability::GivenUp {
                return None;
            }
            match next {
                NextAction::Send(action) => {
                    let id = action.id;
                    let reply = Arc::clone(&self.client).execute(action);
                    // A panic here is a bug, and the outcome of the request is unknown. If the panic were not caught,
                    // the job would wait for ever.
                    let reply = AssertUnwindSafe(reply).catch_unwind();
                    self.in_flight.spawn(async move { (id, reply.await.unwrap_or_else(|_| panicked())) });
                }
                NextAction::WaitUntil(at) => return Some(at.since(now)),
                NextAction::Idle => return None,
            }
        }
    }

    /// Stores the changed delivery rows in the journal. Tries again until the journal accepts them, because no request
    /// to Pyrus may be sent before that.
    async fn store_rows(&mut self) -> RowDurability {
        while let Some(row) = self.machine.poll_row() {
            log_row(&row);
            self.unsaved.push(row);
        }
        let mut failures = 0_u32;
        while let Err(e) = self.journal.save(&self.unsaved) {
            if failures.is_multiple_of(JOURNAL_LOG_INTERVAL) {
                tracing::error!(error = %e, "delivery waits: the journal cannot be written");
            }
            failures = failures.saturating_add(1);
            self.health.tick();
            if failures > 1 {
                self.health.set_journal_error(Some(e.to_string()));
            }
            if self.is_stopping.load(Ordering::Relaxed) {
                if self.journal.free_reserve() {
                    continue;
                }
                return RowDurability::GivenUp;
            }
            sleep(JOURNAL_RETRY_PAUSE).await;
        }
        if failures > 1 {
            self.health.set_journal_error(None);
        }
        self.unsaved.clear();
        RowDurability::Durable
    }

    /// Handles an update of a call, and the updates that follow it in the queue. Stores the rows of all these updates
    /// in one commit, because each commit waits for the disk.
    async fn handle_updates(&mut self, first: CallUpdate) {
        let (mut next, mut complete) = (Some(first), Vec::new());
        for _ in 0..UPDATE_BATCH {
            let Some(update) = next.take().or_else(|| self.updates.try_recv().ok()) else { break };
            self.health.tick();
            if self.load_job(&update.record.id).await == JobRecall::Unknown {
                continue; // the call is sent to delivery again at the next start
            }
            self.machine.handle_call(&update);
            if update.progress == CallProgress::Complete {
                complete.push(update.record.id);
            }
        }
        let written = self.store_rows().await;
        // The delivery rows of these calls are on the disk, and the next start continues from these rows. So the calls
        // are marked as passed to delivery and need not be passed again.
        if written == RowDurability::Durable
            && !complete.is_empty()
            && let Err(e) = self.journal.mark_announced(complete.iter().map(String::as_str))
        {
            tracing::warn!(error = %e, "the calls are handed to delivery again at the next start");
        }
    }

    /// Loads the delivery job of a call from the journal if the job is not in memory, e.g. because the delivery was
    /// finished.
    async fn load_job(&mut self, id: &str) -> JobRecall {
        while !self.machine.contains(id) {
            match self.journal.job(id) {
                Ok(row) => {
                    self.machine.load(self.clock.now(), row);
                    break;
                }
                Err(_) if self.is_stopping.load(Ordering::Relaxed) => return JobRecall::Unknown,
                Err(e) => {
                    tracing::error!(error = %e, "delivery waits: the journal cannot be read");
                    self.health.tick();
                    sleep(JOURNAL_RETRY_PAUSE).await;
                }
            }
        }
        JobRecall::Loaded
    }

    async fn take_updates(&mut self) {
        while let Ok(update) = self.updates.try_recv() {
            self.handle_updates(update).await;
        }
    }

    async fn take_retries(&mut self) {
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
        if self.load_job(id).await == JobRecall::Loaded {
            self.machine.handle_retry(id);
        }
    }

    fn handle_finished_request(&mut self, finished: Result<(ActionId, RequestOutcome), tokio::task::JoinError>) {
        match finished {
            Ok((id, reply)) => {
                let was_logged_in = self.machine.is_logged_in();
                self.machine.handle_outcome(self.clock.now(), id, &reply);
                if self.machine.is_logged_in() && !was_logged_in {
                    tracing::info!("logged in to Pyrus");
                }
            }
            // A task ends without a result only when the runtime is shut down. At the next start, the request of such a
            // task counts as a request without a response.
            Err(e) => tracing::debug!(error = %e, "a request was ended"),
        }
    }

    async fn handle_command(
        &mut self,
        command: DeliveryCommand,
        waiting: Option<SettleWaiter>,
    ) -> Option<SettleWaiter> {
        match command {
            DeliveryCommand::Settle(patience, answer) => {
                let (successes, progress_at) = (self.machine.successes(), self.clock.now());
                return Some(SettleWaiter { patience, successes, progress_at, patience_is_over: false, answer });
            }
            DeliveryCommand::Summary(answer) => {
                let _ = self.store_rows().await;
                let _ = answer.send(self.machine.summary());
            }
            DeliveryCommand::Reload(config) => match self.client.set_credentials(&config) {
                Ok(()) => {
                    self.machine.handle_new_credentials();
                    self.machine.check_login();
                }
                Err(error) => tracing::error!(%error, "the new login is not used"),
            },
            DeliveryCommand::CheckLogin => self.machine.check_login(),
            DeliveryCommand::Stop => {}
        }
        waiting
    }

    fn answer_settled(&self, waiting: Option<SettleWaiter>) -> Option<SettleWaiter> {
        let waiting = waiting?;
        let is_over = waiting.patience_is_over || (self.updates.is_empty() && self.machine.is_settled());
        if is_over && self.in_flight.is_empty() {
            let _ = waiting.answer.send(self.machine.summary());
            return None;
        }
        Some(waiting)
    }

    async fn stop(mut self) {
        self.take_updates().await;
        let end = tokio::time::timeout(SHUTDOWN_GRACE, async {
            while let Some(finished) = self.in_flight.join_next().await {
                self.handle_finished_request(finished);
            }
        });
        let _ = end.await;
        let _ = self.store_rows().await;
    }
}

fn panicked() -> RequestOutcome {
    tracing::error!("a request to Pyrus panicked");
    RequestOutcome::Failed(RequestFailure::Unanswered(String::from("an internal error of callspan ended the request")))
}

fn log_row(row: &DeliveryRow) {
    match row {
        DeliveryRow::Job(job) => match job.stage {
            JobStage::Parked => tracing::warn!(
                call = job.id,
                "not delivered to Pyrus, the administrator must act: `callspan calls show` has the reason"
            ),
            JobStage::Dead => tracing::error!(
                call = job.id,
                "the call or its recording will be missing in Pyrus: `callspan calls show` has the reason"
            ),
            JobStage::Done => tracing::info!(call = job.id, task = job.task_id, "delivered"),
            stage => tracing::debug!(call = job.id, stage = stage.as_str(), task = job.task_id, "delivery"),
        },
        DeliveryRow::Dropped(code) => {
            tracing::warn!(code = code.code, "the form in Pyrus lacks this field; later requests leave it out");
        }
        DeliveryRow::Alarm(Some(why)) => tracing::error!("{why}"),
        DeliveryRow::Alarm(None) => tracing::info!("calls can be delivered to Pyrus again"),
    }
}

/// A wall clock that never runs backwards: the wall-clock time at the start, plus the monotonic time since then.
#[derive(Clone, Copy, Debug)]
struct DeliveryClock {
    wall: Timestamp,
    start: Instant,
}

impl DeliveryClock {
    #[expect(clippy::disallowed_methods, reason = "an I/O module: the executor's clock")]
    fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: Timestamp::EPOCH + wall, start: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        self.wall + self.start.elapsed()
    }
}

#[expect(clippy::disallowed_methods, reason = "an I/O module: the executor waits")]
async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Maximum number of call updates in the queue of delivery. If the queue is full, the sender waits.
pub(crate) const UPDATE_QUEUE_LENGTH: usize = 1024;

/// Maximum number of changed calls that delivery stores in one commit of the journal.
const UPDATE_BATCH: usize = 256;

/// Interval at which a thread that waits for deliveries checks whether it must stop, e.g. because of Ctrl-C.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Interval at which the loop looks in the journal for requests of other processes to retry a delivery.
const RETRY_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Pause before a failed write to the journal is tried again.
const JOURNAL_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Number of failed journal writes between two log lines. A failed write is tried again after one second, so this makes
/// one log line a minute.
const JOURNAL_LOG_INTERVAL: u32 = 60;

/// Maximum time to wait for responses to requests in flight when the program ends.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);
