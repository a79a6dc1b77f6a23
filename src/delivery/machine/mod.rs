//! The state machine of delivery: decides which request is next, and what the outcome of a request changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::job::{
    CallProgress, CallUpdate, DeliveryConsent, DeliveryJob, DeliveryStep, EndNotice, JobStatus, PartState,
    PyrusRegistration,
};
use super::pace::{DeliveryTuning, RequestPacer, SendPermission};
use super::policy::{AttachBody, CallBody, DeliveryPolicy};
use super::split::{self, WavSlice};
use super::story::{AttemptResult, AttemptedStep, DeliveryAttempt};
use super::verdict::{PyrusEndpoint, RequestOutcome, ResponseVerdict, assess};
use crate::call::record::CallRecord;
use crate::delivery::row::{DeliveryRow, DroppedCode, JobRow};
use crate::time::Timestamp;

mod outcomes;
mod report;

use report::FinishedCounts;
pub use report::{DeliveryBlocker, DeliverySummary, TroubledCall};

/// Number of a request. While the process runs, each request has a new number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ActionId(u64);

/// Identifies an access token by a number that grows with each token fetched. The state machine never sees the token
/// itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TokenId(u64);

/// A request to Pyrus that the code with the HTTP client must send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryAction {
    /// Id of the request, with which its outcome is reported.
    pub(crate) id: ActionId,
    /// The token to send with the request. For [`PyrusRequest::Auth`] it is the id of the token to be fetched.
    pub(crate) token: TokenId,
    /// Endpoint and body of the request to Pyrus.
    pub(crate) request: PyrusRequest,
}

/// The endpoint and the body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PyrusRequest {
    /// To the endpoint `auth`: fetches a token.
    Auth,
    /// To the endpoint `integrations/call`: registers a call in Pyrus.
    Register(CallBody),
    /// To the endpoint `files/upload`: uploads a recording.
    Upload {
        /// Path of the recording's file on this machine.
        path: String,
        /// File name in Pyrus: ASCII, with the extension `.wav` or `.ogg`.
        name: String,
        /// The range of samples to send as a WAV file; `None` means the whole file.
        slice: Option<WavSlice>,
    },
    /// To the endpoint `integrations/attachcallrecord`: attaches an uploaded file to the call's task, or only sets form
    /// fields of the task.
    Attach(AttachBody),
}

/// The next action of the executor, i.e. of the code that sends the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextAction {
    /// Send this request, but only after all changed rows are on the disk.
    Send(DeliveryAction),
    /// Wait until this time, but no longer than until a call changes or the outcome of a request arrives.
    WaitUntil(Timestamp),
    /// Wait, without a time limit, until a call changes or the outcome of a request arrives.
    Idle,
}

/// The state machine of delivery. It performs no I/O. The documentation of [`crate::delivery`] lists the rules for the
/// code that executes its actions.
#[derive(Debug)]
pub struct DeliveryMachine {
    policy: DeliveryPolicy,
    pacer: RequestPacer,
    jobs: BTreeMap<String, JobEntry>,
    /// Queue of the jobs that have a next request, sorted by the order in which they are served.
    ready: BTreeSet<ReadyKey>,
    in_flight: BTreeMap<ActionId, InFlightRequest>,
    last_action: u64,
    token: ClientToken,
    dropped_codes: BTreeMap<String, DroppedCode>,
    unsaved_jobs: BTreeSet<String>,
    rows: VecDeque<DeliveryRow>,
    /// Holds back the requests of all calls while Pyrus refuses the telephony account (`account_id`) or the form that
    /// belongs to it.
    account_hold: RefusalHold,
    /// Error text of the newest request, if that request could not reach Pyrus; `None` after any response.
    last_failure: Option<String>,
    /// Alarm text while Pyrus counts as unreachable, i.e. after several consecutive requests failed to reach it; `None`
    /// otherwise.
    outage: Option<String>,
    alarm: Option<String>,
    /// Time at which the journal was lost. Calls that began earlier may already be registered in Pyrus.
    journal_lost_at: Timestamp,
    /// Largest upload to try, bytes, after the server refused a file as too large; `None` until that happens.
    learned_limit: Option<u64>,
    finished: FinishedCounts,
}

/// A refusal by Pyrus that affects every call, until the administrator mends its cause. At long intervals a single
/// request tests whether Pyrus still refuses.
#[derive(Debug, Default)]
struct RefusalHold {
    reason: Option<String>,
    /// Number of consecutive requests that Pyrus has refused, so far.
    times: u32,
    until: Timestamp,
}

#[derive(Debug)]
struct JobEntry {
    job: DeliveryJob,
    queued: Option<ReadyKey>,
    origin: JobOrigin,
}

/// Whether a job still had something to deliver when this process loaded or created it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobOrigin {
    Owed,
    Settled,
}

/// Sort key of a job in the queue. The fields are compared from top to bottom, so their order matters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ReadyKey {
    /// Earliest wall-clock time at which the request may be sent.
    due: Timestamp,
    urgency: RequestUrgency,
    /// The call's id, which begins with the start time of the call. So older calls are served first.
    id: String,
}

/// Priority among requests that are due at the same time. The first variant has the highest priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum RequestUrgency {
    /// The request that registers a ringing or live call. It is sent first, because the Pyrus task must appear on the
    /// operator's screen at once.
    Ringing,
    /// Any other request about an answered call. It is sent before requests about unanswered calls, because a SIP scan
    /// can cause very many unanswered calls.
    Answered,
    Normal,
}

/// A request that was sent and has no response yet.
#[derive(Debug)]
struct InFlightRequest {
    token: TokenId,
    sent_at: Timestamp,
    purpose: RequestPurpose,
}

#[derive(Debug)]
enum RequestPurpose {
    Auth,
    Job { id: String, kind: JobRequest, codes: Vec<String> },
}

#[derive(Clone, Debug)]
enum JobRequest {
    /// The request that registers the call in Pyrus. It holds the registration state that the job had before. If the
    /// request fails, the job returns to this state.
    Register(PyrusRegistration),
    Upload(u32),
    Attach(u32),
    /// A request that sends form fields about the end of the call, without a file.
    TellEnd,
}

/// State of the access token of the HTTP client. The state machine never sees the token itself.
#[derive(Debug, Default)]
struct ClientToken {
    state: ClientTokenState,
    last: u64,
    /// Number of consecutive failures to fetch or use a token.
    failures: u32,
    not_before: Timestamp,
    /// Holds back all requests while Pyrus refuses the login.
    hold: RefusalHold,
    /// Whether a token is fetched although no call needs it yet, so that a wrong key is noticed before the first call.
    is_check_due: bool,
    /// Whether Pyrus has accepted or refused the current login and key at least once.
    is_answered: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum ClientTokenState {
    #[default]
    None,
    Fetching,
    /// A token is being fetched with a login or key that was replaced after the request began. The outcome is ignored,
    /// because it says nothing about the new login or key.
    FetchingOutdated,
    Have(TokenId, TokenProof),
}

/// Whether Pyrus has accepted the current token in any request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenProof {
    Fresh,
    Accepted,
}

impl DeliveryMachine {
    /// Creates a state machine without jobs. `seed` is the seed of the random numbers that vary the pauses.
    pub fn new(policy: DeliveryPolicy, tuning: DeliveryTuning, seed: u64) -> Self {
        Self {
            policy,
            pacer: RequestPacer::new(tuning, seed),
            jobs: BTreeMap::new(),
            ready: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            last_action: 0,
            token: ClientToken::default(),
            dropped_codes: BTreeMap::new(),
            unsaved_jobs: BTreeSet::new(),
            rows: VecDeque::new(),
            account_hold: RefusalHold::default(),
            last_failure: None,
            outage: None,
            alarm: None,
            journal_lost_at: Timestamp::EPOCH,
            learned_limit: None,
            finished: FinishedCounts::default(),
        }
    }

    /// Loads jobs from rows of the journal. Returns the rows that cannot be parsed; these stay in the journal
    /// unchanged.
    pub(crate) fn load(&mut self, now: Timestamp, rows: impl IntoIterator<Item = JobRow>) -> Vec<JobRow> {
        let mut unreadable = Vec::new();
        for row in rows {
            match DeliveryJob::from_row(&row) {
                Ok(job) => {
                    let job = job.after_restart(now);
                    let id = job.id.clone();
                    let origin = if job.is_settled() { JobOrigin::Settled } else { JobOrigin::Owed };
                    self.jobs.entry(id.clone()).or_insert(JobEntry { job, queued: None, origin });
                    self.requeue(&id);
                }
                Err(_) => unreadable.push(row),
            }
        }
        unreadable
    }

    /// Loads the state that concerns all calls: the form fields that Pyrus refused, and the alarm.
    pub(crate) fn load_client(&mut self, dropped: impl IntoIterator<Item = DroppedCode>, alarm: Option<String>) {
        self.dropped_codes.extend(dropped.into_iter().map(|d| (d.code.clone(), d)));
        self.alarm = alarm;
    }

    /// Records that the journal was lost at `lost_at` and rebuilt. A call that began earlier may already be registered
    /// in Pyrus, although its job was lost. So its registration counts as [`PyrusRegistration::Unsure`]: its recording
    /// is attached by `external_id` alone. Only if Pyrus replies that it does not know the call, the call is
    /// registered.
    pub(crate) fn load_journal_loss(&mut self, lost_at: Timestamp) {
        self.journal_lost_at = lost_at;
    }

    /// Handles a new or changed call. If [`DeliveryMachine::contains`] returns false for the call, its row must be
    /// loaded first: jobs of delivered calls are not kept in memory.
    pub fn handle_call(&mut self, update: &CallUpdate) {
        let CallUpdate { record, progress, consent } = update;
        match self.jobs.get_mut(&record.id) {
            Some(entry) => match consent {
                DeliveryConsent::ByConfig => {
                    entry.job.update(record, *progress);
                    retain_mapped(&self.policy, &mut entry.job);
                }
                DeliveryConsent::Forbidden => entry.job.forbid(*progress),
            },
            None if self.policy.is_due(record, *progress, *consent) => {
                let mut job = DeliveryJob::new(record, *progress);
                if start_time(record).is_some_and(|at| at < self.journal_lost_at) {
                    job.registration = PyrusRegistration::Unsure;
                }
                retain_mapped(&self.policy, &mut job);
                self.jobs.insert(record.id.clone(), JobEntry { job, queued: None, origin: JobOrigin::Owed });
            }
            None => return,
        }
        self.requeue(&record.id);
    }

    /// Retries a job that is parked (waits for a person) or dead (was given up) at once, at the request of the
    /// administrator.
    pub(crate) fn handle_retry(&mut self, id: &str) {
        let Some(entry) = self.jobs.get_mut(id).filter(|entry| !entry.job.is_forbidden) else { return };
        let job = &mut entry.job;
        job.status = JobStatus::Active { not_before: None };
        job.retries = super::job::RetryCounts::default();
        for part in &mut job.parts {
            if matches!(part.state, PartState::Dead { .. }) {
                part.state = PartState::Waiting;
            }
        }
        self.end_pauses();
        self.requeue(id);
    }

    /// Ends the pauses after a login that Pyrus refused or did not respond to, because login or key were changed. The
    /// next request logs in with the new values. So a wrong key is noticed now and not when the old token expires.
    pub(crate) fn handle_new_credentials(&mut self) {
        self.token.state = match self.token.state {
            ClientTokenState::None | ClientTokenState::Have(..) => ClientTokenState::None,
            ClientTokenState::Fetching | ClientTokenState::FetchingOutdated => ClientTokenState::FetchingOutdated,
        };
        (self.token.failures, self.token.is_answered) = (0, false);
        self.end_pauses();
    }

    /// Logs in to Pyrus as soon as possible, even if no call has to be delivered. So a wrong key raises its alarm at
    /// the start and not with the first call. An unreachable Pyrus raises its alarm a minute later: after a power cut,
    /// the router may start later than this host.
    pub(crate) fn check_login(&mut self) {
        self.token.is_check_due = true;
    }

    /// Returns whether Pyrus has accepted the login, i.e. whether there is a token.
    pub(crate) fn is_logged_in(&self) -> bool {
        matches!(self.token.state, ClientTokenState::Have(..))
    }

    /// Returns whether Pyrus has accepted or refused the current login and key at least once.
    pub(crate) const fn is_login_answered(&self) -> bool {
        self.token.is_answered
    }

    /// Ends the pauses after failures: the next login and the next request may begin at once.
    fn end_pauses(&mut self) {
        self.token.not_before = Timestamp::EPOCH;
        self.token.hold.until = Timestamp::EPOCH;
        self.account_hold.until = Timestamp::EPOCH;
    }

    /// Returns the next action for the code that sends the requests: to send a request, or to wait.
    pub fn poll_action(&mut self, now: Timestamp) -> NextAction {
        if self.token.is_check_due && self.token.state == ClientTokenState::None {
            // This login only checks the key. It delays no job, because no job can send a request without a token.
            return self.wait_before_any_request(now).unwrap_or_else(|| self.start_auth(now));
        }
        loop {
            let Some(ReadyKey { due, urgency, id }) = self.ready.first().cloned() else { return NextAction::Idle };
            if due > now {
                return NextAction::WaitUntil(due);
            }
            // A request that registers a ringing call in Pyrus may exceed the limit of requests in flight, because it
            // must not wait for long uploads.
            let max_in_flight = self.pacer.tuning().max_in_flight
                + if urgency == RequestUrgency::Ringing { MAX_EXTRA_URGENT } else { 0 };
            if self.in_flight.len() >= max_in_flight {
                return NextAction::Idle;
            }
            if let Some(wait) = self.wait_before_any_request(now) {
                return wait;
            }
            match self.token.state {
                ClientTokenState::Have(token, _) => {
                    if let Some(action) = self.start_job_request(now, &id, token) {
                        return NextAction::Send(action);
                    }
                }
                ClientTokenState::Fetching | ClientTokenState::FetchingOutdated => return NextAction::Idle,
                ClientTokenState::None => return self.start_auth(now),
            }
        }
    }

    /// Handles the outcome of the request with the id `action`.
    pub(crate) fn handle_outcome(&mut self, now: Timestamp, action: ActionId, outcome: &RequestOutcome) {
        let Some(flight) = self.in_flight.remove(&action) else { return };
        let endpoint = flight.purpose.endpoint();
        let assessment = assess(endpoint, outcome);
        self.update_pacer(now, endpoint, outcome, &assessment);
        self.finished.successes +=
            u64::from(matches!(assessment.verdict, ResponseVerdict::Done(_)) && endpoint != PyrusEndpoint::Auth);
        match flight.purpose {
            RequestPurpose::Auth => self.handle_auth_outcome(now, flight.token, assessment),
            RequestPurpose::Job { id, kind, codes } => {
                self.update_token(now, flight.token, &assessment);
                self.update_account_hold(now, endpoint, &assessment);
                let (step, part) = kind.attempted();
                let attempt = DeliveryAttempt::new(step, part, flight.sent_at, now, &assessment);
                self.handle_job_outcome(now, &id, &kind, assessment, &codes);
                self.note_attempt(&id, attempt);
                self.requeue(&id);
            }
        }
    }

    /// Returns the next row to store; `None` if all were returned. All rows must be stored before the next action is
    /// executed.
    pub fn poll_row(&mut self) -> Option<DeliveryRow> {
        if let Some(row) = self.rows.pop_front() {
            return Some(row);
        }
        let id = self.unsaved_jobs.pop_first()?;
        let row = self.jobs.get(&id)?.job.to_row();
        if row.is_settled() {
            self.retire(&id);
        }
        Some(DeliveryRow::Job(row))
    }

    /// Returns whether the job of this call is in memory.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.jobs.contains_key(id)
    }

    // Functions that start the next request: a login, or a request of a job.

    /// Returns the wait that holds back every request, also a login: Pyrus refuses the telephony account, asked for a
    /// pause, or cannot be reached. Returns `None` if a request may be sent now.
    fn wait_before_any_request(&mut self, now: Timestamp) -> Option<NextAction> {
        if self.account_hold.reason.is_some() {
            if now < self.account_hold.until {
                return Some(NextAction::WaitUntil(self.account_hold.until));
            }
            if !self.in_flight.is_empty() {
                return Some(NextAction::Idle); // Pyrus refuses the account: only one request at a time
            }
        }
        match self.pacer.permission(now, self.in_flight.len()) {
            SendPermission::Now => None,
            SendPermission::At(at) => Some(NextAction::WaitUntil(at)),
            SendPermission::AfterAnswer => Some(NextAction::Idle),
        }
    }

    fn start_auth(&mut self, now: Timestamp) -> NextAction {
        let not_before = self.token.not_before.max(self.token.hold.until);
        if not_before > now {
            return NextAction::WaitUntil(not_before);
        }
        if let Err(at) = self.pacer.take_auth(now) {
            return NextAction::WaitUntil(at);
        }
        self.token.state = ClientTokenState::Fetching;
        self.token.last += 1;
        let token = TokenId(self.token.last);
        NextAction::Send(self.start_request(now, token, PyrusRequest::Auth, RequestPurpose::Auth))
    }

    /// Starts the next request of a job, and records in the job's row that the request is being sent. Returns `None` if
    /// no request can be sent now, e.g. because the file is too large and was split.
    fn start_job_request(&mut self, now: Timestamp, id: &str, token: TokenId) -> Option<DeliveryAction> {
        let dropped: BTreeSet<String> = self.dropped_codes.keys().cloned().collect();
        let job = &mut self.jobs.get_mut(id).expect("what is ready is a job").job;
        let begun = match job.step() {
            None => None,
            Some(DeliveryStep::Register) => {
                let body = self.policy.call_body(job, &dropped);
                let codes = body.mappings.iter().map(|m| m.code.clone()).collect();
                if job.is_blind_repeat() {
                    job.retries.blind_repeats += 1;
                    job.possible_duplicates += 1;
                }
                let before = std::mem::replace(&mut job.registration, PyrusRegistration::Sending);
                let kind = JobRequest::Register(before);
                Some(StartedRequest { request: PyrusRequest::Register(body), kind, codes })
            }
            Some(DeliveryStep::Upload(at)) => {
                let limits = UploadLimits { configured: self.policy.max_upload_bytes, learned: self.learned_limit };
                start_upload(job, at, limits)
            }
            Some(DeliveryStep::Attach(at)) => {
                let part = job.parts.get_mut(at).expect("a step names a part that is there");
                let number = part.number;
                let PartState::Uploaded(upload) = part.state.clone() else {
                    unreachable!("only an upload is attached")
                };
                part.state = PartState::Attaching(upload.clone());
                let body = self.policy.attach_body(job, Some(&upload.guid), &dropped);
                let codes = body.mappings.iter().map(|m| m.code.clone()).collect();
                let kind = JobRequest::Attach(number);
                Some(StartedRequest { request: PyrusRequest::Attach(body), kind, codes })
            }
            Some(DeliveryStep::TellEnd) => {
                let body = self.policy.attach_body(job, None, &dropped);
                let codes: Vec<String> = body.mappings.iter().map(|m| m.code.clone()).collect();
                let has_end = codes.iter().any(|code| self.policy.tells_end(code));
                job.end = if has_end { EndNotice::Sending } else { EndNotice::Settled };
                has_end.then_some(StartedRequest {
                    request: PyrusRequest::Attach(body),
                    kind: JobRequest::TellEnd,
                    codes,
                })
            }
        };
        self.requeue(id);
        let StartedRequest { request, kind, codes } = begun?;
        Some(self.start_request(now, token, request, RequestPurpose::Job { id: id.to_owned(), kind, codes }))
    }

    fn start_request(
        &mut self,
        now: Timestamp,
        token: TokenId,
        request: PyrusRequest,
        purpose: RequestPurpose,
    ) -> DeliveryAction {
        self.last_action += 1;
        let id = ActionId(self.last_action);
        self.in_flight.insert(id, InFlightRequest { token, sent_at: now, purpose });
        self.pacer.handle_sent();
        DeliveryAction { id, token, request }
    }

    // Functions that update the jobs, the queue of requests, and the changed rows.

    /// Adds a request, with its outcome, to the job's story, i.e. the list of requests that people see. While Pyrus
    /// refuses the telephony account, the story names no time for the next request.
    fn note_attempt(&mut self, id: &str, attempt: DeliveryAttempt) {
        let Some(entry) = self.jobs.get_mut(id) else { return };
        let is_failed = attempt.result == AttemptResult::Failed && entry.job.step().is_some();
        let held = self.account_hold.reason.is_some().then_some(self.account_hold.until);
        let next_at = if is_failed { entry.job.not_before().max(held) } else { None };
        entry.job.story.add(DeliveryAttempt { next_at, ..attempt });
    }

    /// Moves a changed job to its new position in the queue, or removes it from the queue if it has no next request.
    /// Marks the job's row for storing.
    fn requeue(&mut self, id: &str) {
        let Some(entry) = self.jobs.get_mut(id) else { return };
        give_up_unconfirmed(&mut entry.job);
        if !entry.job.is_settled() {
            entry.origin = JobOrigin::Owed;
        }
        if let Some(old) = entry.queued.take() {
            self.ready.remove(&old);
        }
        let is_in_flight =
            self.in_flight.values().any(|f| matches!(&f.purpose, RequestPurpose::Job { id: other, .. } if other == id));
        if let (Some(step), false) = (entry.job.step(), is_in_flight) {
            let urgency = match (step, entry.job.progress) {
                (DeliveryStep::Register, CallProgress::Live) => RequestUrgency::Ringing,
                _ if entry.job.facts.duration_s.is_some() || !entry.job.parts.is_empty() => RequestUrgency::Answered,
                _ => RequestUrgency::Normal,
            };
            let due = entry.job.not_before().unwrap_or(Timestamp::EPOCH);
            let ready = ReadyKey { due, urgency, id: id.to_owned() };
            self.ready.insert(ready.clone());
            entry.queued = Some(ready);
        }
        self.unsaved_jobs.insert(id.to_owned());
    }
}

impl JobRequest {
    /// Returns the purpose of the request, for the list of the call's requests. Also returns the number of the
    /// recording that is uploaded or attached; `None` for other requests.
    const fn attempted(&self) -> (AttemptedStep, Option<u32>) {
        match self {
            Self::Register(_) => (AttemptedStep::Register, None),
            Self::Upload(part) => (AttemptedStep::Upload, Some(*part)),
            Self::Attach(part) => (AttemptedStep::Attach, Some(*part)),
            Self::TellEnd => (AttemptedStep::TellEnd, None),
        }
    }
}

impl ClientToken {
    fn is_idle(&self) -> bool {
        !matches!(self.state, ClientTokenState::Fetching | ClientTokenState::FetchingOutdated)
    }
}

impl RequestPurpose {
    const fn endpoint(&self) -> PyrusEndpoint {
        match self {
            Self::Auth => PyrusEndpoint::Auth,
            Self::Job { kind: JobRequest::Register(_), .. } => PyrusEndpoint::Call,
            Self::Job { kind: JobRequest::Upload(_), .. } => PyrusEndpoint::Upload,
            Self::Job { kind: JobRequest::Attach(_) | JobRequest::TellEnd, .. } => PyrusEndpoint::Attach,
        }
    }
}

/// The next request of a job, ready to be sent.
struct StartedRequest {
    request: PyrusRequest,
    kind: JobRequest,
    /// Codes of the form fields that the request contains.
    codes: Vec<String>,
}

/// Limits for the size of an upload in bytes.
#[derive(Clone, Copy)]
struct UploadLimits {
    /// Limit from the configuration, bytes. Larger files are never sent.
    configured: u64,
    /// Limit that was found after the server refused a file, bytes; `None` if the server refused no file. Larger files
    /// are sent in slices.
    learned: Option<u64>,
}

/// Starts the upload of the part (recording file or slice of it) at index `at`. Returns `None` if the part is too
/// large: it is then split, or given up if it exceeds the configured limit.
fn start_upload(job: &mut DeliveryJob, at: usize, limits: UploadLimits) -> Option<StartedRequest> {
    let part = job.parts.get(at).expect("a step names a part that is there");
    let (number, path, slice) = (part.number, part.path.clone(), part.slice);
    if let Some(limit) = limits.learned.filter(|&limit| part.bytes > limit && split::can_be_split(part)) {
        split::split(job, number, limit);
        return None;
    }
    let ending = if path.ends_with(".ogg") { "ogg" } else { "wav" };
    let name = match slice {
        Some(slice) if slice.part_number == 1 => format!("{}-part{}.wav", job.id, split::ordinal(job, slice)),
        Some(slice) => format!("{}-{}-part{}.wav", job.id, slice.part_number, split::ordinal(job, slice)),
        None if number == 1 => format!("{}.{ending}", job.id),
        None => format!("{}-{number}.{ending}", job.id),
    };
    let part = job.parts.get_mut(at).expect("a step names a part that is there");
    if part.bytes > limits.configured {
        let reason = format!(
            "the recording has {} bytes, which is more than max_upload_mib in [pyrus] allows: it stays on this machine and is not sent. If Pyrus accepts larger files, raise max_upload_mib; otherwise lower part_hours in [recording]",
            part.bytes
        );
        part.state = PartState::Dead { reason };
        return None;
    }
    part.state = PartState::Uploading;
    let request = PyrusRequest::Upload { path, name, slice };
    Some(StartedRequest { request, kind: JobRequest::Upload(number), codes: Vec::new() })
}

/// Marks the job of a call without a recording as dead (given up), if registering the call got no response, not even
/// when repeated. Only a person can find out whether Pyrus has the call.
fn give_up_unconfirmed(job: &mut DeliveryJob) {
    let is_hopeless = job.registration == PyrusRegistration::Unsure
        && job.progress == CallProgress::Complete
        && job.retries.blind_repeats > 0
        && job.step().is_none()
        && !matches!(job.status, JobStatus::Dead { .. });
    if is_hopeless && !job.parts.iter().any(|p| matches!(p.state, PartState::Uploading | PartState::Attaching(_))) {
        let reason = String::from(
            "Pyrus did not confirm the registration of this call, and a repeat was not confirmed either: check in the form whether the call is there",
        );
        job.status = JobStatus::Dead { reason };
    }
}

/// Removes from a job the SIP headers that no form field needs.
fn retain_mapped(policy: &DeliveryPolicy, job: &mut DeliveryJob) {
    job.facts.headers.retain(|name, _| policy.header_mappings.values().any(|wanted| wanted.eq_ignore_ascii_case(name)));
}

fn start_time(record: &CallRecord) -> Option<Timestamp> {
    record.invited_at.or(record.answered_at).or(record.ended_at)
}

/// Number of requests beyond the usual limit that may be in flight, if they register ringing calls in Pyrus.
const MAX_EXTRA_URGENT: usize = 2;
