//! The machine: which request is next, and what its answer changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::job::{CallUpdate, Consent, Fields, Job, Part, PartState, Progress, Registration, Standing, Step, Upload};
use super::pace::{Go, Pace, Tuning};
use super::policy::{AttachBody, CallBody, Policy};
use super::verdict::{Endpoint, Gain, Judgement, NO_ANSWER, Otherwise, Reply, Sent, Verdict, judge};
use crate::journal::{DroppedCode, JobRow, Row};
use crate::time::Timestamp;

/// One request; never used twice in one life of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId(u64);

/// Which of the tokens that were fetched in turn. The machine never sees a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(u64);

/// A request to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// To be named in its answer.
    pub id: ActionId,
    /// The token to send; for [`Request::Auth`] the name of the one that it will bring.
    pub token: TokenId,
    /// What to send.
    pub request: Request,
}

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `auth`: a new token.
    Auth,
    /// `integrations/call`.
    Register(CallBody),
    /// `files/upload`.
    Upload {
        /// The file.
        path: String,
        /// Its name in Pyrus; ASCII, ends in `.wav`.
        name: String,
    },
    /// `integrations/attachcallrecord`.
    Attach(AttachBody),
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this, after all rows are durable.
    Action(Action),
    /// Nothing before this moment, unless a call or an answer comes.
    WaitUntil(Timestamp),
    /// Nothing until a call or an answer comes.
    Idle,
}

/// How things stand, for people and for `replay --deliver`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls that were finished since the start.
    pub done: usize,
    /// Calls that were told again and had been finished before.
    pub already: usize,
    /// Calls that wait for their end or their recording.
    pub waiting: usize,
    /// Calls that are still to be delivered and will be tried.
    pub owed: usize,
    /// Calls for which a person must act.
    pub parked: Vec<Trouble>,
    /// Calls that will never be whole in Pyrus (the last [`MAX_DEAD_KEPT`]).
    pub dead: Vec<Trouble>,
    /// Requests that may have been done twice, because Pyrus gave no definite answer.
    pub possible_duplicates: u64,
    /// What keeps everything from being delivered and needs a person: a refused login.
    pub alarm: Option<String>,
    /// Field codes that Pyrus did not take.
    pub dropped_codes: Vec<String>,
}

/// A call that is in trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The call.
    pub id: String,
    /// For a person.
    pub why: String,
}

/// What is owed to Pyrus, and in which order it is paid. Pure: see [`crate::delivery`].
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    pace: Pace,
    jobs: BTreeMap<String, Entry>,
    /// Jobs that have a next step, by when it may be done, then by urgency, then by age.
    ready: BTreeSet<Ready>,
    flights: BTreeMap<ActionId, Flight>,
    last_action: u64,
    token: Token,
    dropped: BTreeMap<String, DroppedCode>,
    dirty: BTreeSet<String>,
    rows: VecDeque<Row>,
    alarm: Option<String>,
    finished: Finished,
}

#[derive(Debug)]
struct Entry {
    job: Job,
    queued: Option<Ready>,
    origin: Origin,
}

/// Whether anything was owed when this start first saw the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Owed,
    Settled,
}

/// Due, urgency (0: somebody's telephone is ringing), id (begins with the time of the call).
type Ready = (Timestamp, u8, String);

/// A request under way.
#[derive(Debug)]
struct Flight {
    token: TokenId,
    what: Purpose,
}

#[derive(Debug)]
enum Purpose {
    Auth,
    Job { id: String, work: Work, codes: Vec<String> },
}

#[derive(Clone, Debug)]
enum Work {
    /// With what was known of the registration before.
    Register(Registration),
    Upload(u32),
    Attach(u32),
}

/// The token of the client.
#[derive(Debug)]
struct Token {
    state: TokenState,
    last: u64,
    /// Failures to get or use one, in a row.
    failures: u32,
    /// How often a person had to mend it, in a row.
    parked: u32,
    not_before: Timestamp,
}

#[derive(Debug, PartialEq, Eq)]
enum TokenState {
    None,
    Fetching,
    Have(TokenId, Proof),
}

/// Whether a token was accepted anywhere yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Fresh,
    Accepted,
}

#[derive(Debug, Default)]
struct Finished {
    done: usize,
    already: usize,
    dead: VecDeque<Trouble>,
    possible_duplicates: u64,
    successes: u64,
}

impl Machine {
    /// An empty machine; `seed` decides the jitter.
    pub fn new(policy: Policy, tuning: Tuning, seed: u64) -> Self {
        Self {
            policy,
            pace: Pace::new(tuning, seed),
            jobs: BTreeMap::new(),
            ready: BTreeSet::new(),
            flights: BTreeMap::new(),
            last_action: 0,
            token: Token { state: TokenState::None, last: 0, failures: 0, parked: 0, not_before: Timestamp::EPOCH },
            dropped: BTreeMap::new(),
            dirty: BTreeSet::new(),
            rows: VecDeque::new(),
            alarm: None,
            finished: Finished::default(),
        }
    }

    /// Goes on where the journal's rows stand. A row that is no job is left alone and returned.
    pub fn load(&mut self, now: Timestamp, rows: impl IntoIterator<Item = JobRow>) -> Vec<JobRow> {
        let mut unreadable = Vec::new();
        for row in rows {
            match Job::from_row(&row) {
                Ok(job) => {
                    let job = job.after_restart(now);
                    let id = job.id.clone();
                    let origin = if job.is_settled() { Origin::Settled } else { Origin::Owed };
                    self.jobs.entry(id.clone()).or_insert(Entry { job, queued: None, origin });
                    self.changed(&id);
                }
                Err(_) => unreadable.push(row),
            }
        }
        unreadable
    }

    /// Takes over what an earlier start knew of the client as a whole.
    pub fn load_client(&mut self, dropped: impl IntoIterator<Item = DroppedCode>, alarm: Option<String>) {
        self.dropped.extend(dropped.into_iter().map(|d| (d.code.clone(), d)));
        self.alarm = alarm;
    }

    /// A call has changed. The driver first loads the call's row if [`Machine::knows`] says no: a call that was
    /// delivered long ago is no longer in memory.
    pub fn handle_call(&mut self, update: &CallUpdate) {
        let CallUpdate { record, progress, consent } = update;
        match self.jobs.get_mut(&record.id) {
            Some(entry) => {
                if *consent == Consent::ByConfig {
                    entry.job.update(record, *progress);
                    retain_mapped(&self.policy, &mut entry.job);
                }
            }
            None if self.policy.is_due(record, *progress, *consent) => {
                let mut job = Job::new(record, *progress);
                retain_mapped(&self.policy, &mut job);
                self.jobs.insert(record.id.clone(), Entry { job, queued: None, origin: Origin::Owed });
            }
            None => return,
        }
        self.changed(&record.id);
    }

    /// A person asks to try this call again at once: one that is parked, or dead.
    pub fn handle_retry(&mut self, id: &str) {
        let Some(entry) = self.jobs.get_mut(id) else { return };
        let job = &mut entry.job;
        job.standing = Standing::Going { not_before: None };
        job.tries = super::job::Tries::default();
        for part in &mut job.parts {
            if matches!(part.state, PartState::Dead { .. }) {
                part.state = PartState::Waiting;
            }
        }
        self.token.not_before = Timestamp::EPOCH;
        self.changed(id);
    }

    /// What to do next.
    #[expect(clippy::should_implement_trait, reason = "it takes the time; it is no iterator")]
    pub fn next(&mut self, now: Timestamp) -> Next {
        loop {
            let Some((due, urgency, id)) = self.ready.first().cloned() else { return Next::Idle };
            if due > now {
                return Next::WaitUntil(due);
            }
            // A ringing telephone does not wait behind long uploads.
            let room = self.pace.tuning().side_by_side + if urgency == 0 { URGENT_MORE } else { 0 };
            if self.flights.len() >= room {
                return Next::Idle;
            }
            match self.pace.go(now, self.flights.len()) {
                Go::Now => {}
                Go::At(at) => return Next::WaitUntil(at),
                Go::AfterAnswer => return Next::Idle,
            }
            match self.token.state {
                TokenState::Have(token, _) => {
                    if let Some(action) = self.begin(&id, token) {
                        return Next::Action(action);
                    }
                }
                TokenState::Fetching => return Next::Idle,
                TokenState::None => return self.begin_auth(now),
            }
        }
    }

    /// What became of a request.
    pub fn handle_answer(&mut self, now: Timestamp, action: ActionId, reply: &Reply) {
        let Some(flight) = self.flights.remove(&action) else { return };
        let endpoint = flight.what.endpoint();
        let judged = judge(endpoint, reply);
        self.pace_of(now, reply, &judged);
        self.finished.successes += u64::from(matches!(judged.verdict, Verdict::Done(_)) && endpoint != Endpoint::Auth);
        match flight.what {
            Purpose::Auth => self.after_auth(now, flight.token, judged),
            Purpose::Job { id, work, codes } => {
                self.after_token(now, flight.token, &judged);
                self.after_job(now, &id, &work, judged, &codes);
                self.changed(&id);
            }
        }
    }

    /// What must be made durable. Polled until `None` before any action is executed.
    pub fn poll_row(&mut self) -> Option<Row> {
        if let Some(row) = self.rows.pop_front() {
            return Some(row);
        }
        let id = self.dirty.pop_first()?;
        let row = self.jobs.get(&id)?.job.to_row();
        if row.is_settled() {
            self.retire(&id);
        }
        Some(Row::Job(row))
    }

    /// Whether this call is in memory.
    pub fn knows(&self, id: &str) -> bool {
        self.jobs.contains_key(id)
    }

    /// Nothing is owed that can succeed without a person, a call's end or a recording.
    pub fn is_settled(&self) -> bool {
        self.flights.is_empty()
            && self.dirty.is_empty()
            && self.rows.is_empty()
            && (self.is_refused()
                || self.jobs.values().all(|e| {
                    matches!(e.job.standing, Standing::Parked { .. } | Standing::Dead { .. }) || e.job.step().is_none()
                }))
    }

    /// How things stand.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            done: self.finished.done,
            already: self.finished.already,
            dead: self.finished.dead.iter().cloned().collect(),
            possible_duplicates: self.finished.possible_duplicates,
            alarm: self.alarm.clone(),
            dropped_codes: self.dropped.keys().cloned().collect(),
            ..Summary::default()
        };
        for Entry { job, .. } in self.jobs.values() {
            summary.possible_duplicates += u64::from(job.possible_duplicates);
            match &job.standing {
                Standing::Parked { why, .. } => {
                    summary.parked.push(Trouble { id: job.id.clone(), why: why.clone() });
                }
                _ if job.is_settled() => {}
                _ if job.step().is_none() && !self.is_under_way(&job.id) => summary.waiting += 1,
                _ => summary.owed += 1,
            }
        }
        summary
    }

    /// Requests that were done since the start.
    pub const fn successes(&self) -> u64 {
        self.finished.successes
    }

    /// Pyrus asked for a pause, or the rate is used up: waiting is right now the only thing to do.
    pub fn is_paced(&self, now: Timestamp) -> bool {
        self.pace.is_paced(now)
    }

    /// The jobs that are not finished, for tests and people.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().map(|e| &e.job)
    }

    fn is_refused(&self) -> bool {
        self.alarm.is_some() && self.token.parked > 0
    }

    fn is_under_way(&self, id: &str) -> bool {
        self.flights.values().any(|f| matches!(&f.what, Purpose::Job { id: flying, .. } if flying == id))
    }

    // ---- requests

    fn begin_auth(&mut self, now: Timestamp) -> Next {
        if self.token.not_before > now {
            return Next::WaitUntil(self.token.not_before);
        }
        if let Err(at) = self.pace.take_auth(now) {
            return Next::WaitUntil(at);
        }
        self.token.state = TokenState::Fetching;
        self.token.last += 1;
        let token = TokenId(self.token.last);
        Next::Action(self.fly(token, Request::Auth, Purpose::Auth))
    }

    /// The next request of a job, its intent among the rows. `None`: it needs none after all.
    fn begin(&mut self, id: &str, token: TokenId) -> Option<Action> {
        let dropped: BTreeSet<String> = self.dropped.keys().cloned().collect();
        let job = &mut self.jobs.get_mut(id).expect("what is ready is a job").job;
        let begun = match job.step() {
            None => None,
            Some(Step::Register) => {
                let body = self.policy.call_body(job, &dropped);
                let codes = body.mappings.iter().map(|m| m.code.clone()).collect();
                if job.is_blind_repeat() {
                    job.tries.blind_repeats += 1;
                    job.possible_duplicates += 1;
                }
                let before = std::mem::replace(&mut job.registration, Registration::Sending);
                Some((Request::Register(body), Work::Register(before), codes))
            }
            Some(Step::Upload(at)) => begin_upload(&self.policy, job, at),
            Some(Step::Attach(at)) => {
                let part = job.parts.get_mut(at).expect("a step names a part that is there");
                let number = part.number;
                let PartState::Uploaded(upload) = part.state.clone() else {
                    unreachable!("only an upload is attached")
                };
                part.state = PartState::Attaching(upload.clone());
                let body = self.policy.attach_body(job, &upload.guid, &dropped);
                let codes = body.mappings.iter().map(|m| m.code.clone()).collect();
                Some((Request::Attach(body), Work::Attach(number), codes))
            }
        };
        self.changed(id);
        let (request, work, codes) = begun?;
        Some(self.fly(token, request, Purpose::Job { id: id.to_owned(), work, codes }))
    }

    fn fly(&mut self, token: TokenId, request: Request, what: Purpose) -> Action {
        self.last_action += 1;
        let id = ActionId(self.last_action);
        self.flights.insert(id, Flight { token, what });
        self.pace.handle_sent();
        Action { id, token, request }
    }

    // ---- answers

    fn pace_of(&mut self, now: Timestamp, reply: &Reply, judged: &Judgement) {
        if let Reply::Answer(answer) = reply {
            self.pace.handle_rate(now, &answer.rate, self.flights.len());
        }
        match (&judged.verdict, reply) {
            (Verdict::Wait(said), _) => {
                self.pace.handle_reached();
                self.pace.handle_wait(now, *said);
            }
            _ if judged.away => self.pace.handle_away(now),
            (_, Reply::Answer(_)) => {
                self.pace.handle_reached();
                self.pace.handle_within_rate();
            }
            (_, Reply::Failed(_)) => {}
        }
    }

    fn after_auth(&mut self, now: Timestamp, token: TokenId, judged: Judgement) {
        self.token.state = TokenState::None;
        match judged.verdict {
            Verdict::Done(_) => {
                self.token.state = TokenState::Have(token, Proof::Fresh);
                self.token.parked = 0;
                self.set_alarm(None);
            }
            Verdict::Wait(_) => {}
            Verdict::Backoff { limit, .. } if limit.is_none_or(|(most, _)| self.token.failures < most) => {
                self.token.failures += 1;
                self.token.not_before = now + self.pace.backoff(self.token.failures);
            }
            _ => {
                self.token.not_before = now + self.pace.park(self.token.parked);
                self.token.parked += 1;
                self.set_alarm(Some(judged.why));
            }
        }
    }

    /// A token that is refused is dropped once; one that was never accepted makes the next one come later.
    fn after_token(&mut self, now: Timestamp, used: TokenId, judged: &Judgement) {
        let TokenState::Have(current, proof) = self.token.state else { return };
        if current != used {
            return;
        }
        match judged.verdict {
            Verdict::Reauth(_) => {
                self.token.state = TokenState::None;
                if proof == Proof::Accepted {
                    self.token.failures = 0;
                } else {
                    self.token.not_before = now + self.pace.backoff(self.token.failures);
                    self.token.failures += 1;
                }
            }
            Verdict::Done(_) => {
                self.token.state = TokenState::Have(current, Proof::Accepted);
                self.token.failures = 0;
            }
            _ => {}
        }
    }

    fn after_job(&mut self, now: Timestamp, id: &str, work: &Work, judged: Judgement, codes: &[String]) {
        let Some(entry) = self.jobs.get_mut(id) else { return };
        let job = &mut entry.job;
        let Judgement { verdict, why, code, retry_after, .. } = judged;
        if let Verdict::Done(gain) = verdict {
            let unacceptable = gain.unacceptable_fields.clone();
            take(job, work, gain, now);
            job.note = unacceptable.as_ref().map(|_| why.clone());
            if let Some(text) = unacceptable {
                self.drop_codes(now, &text, codes, &why);
            }
            return;
        }
        undo(job, work, &verdict);
        job.note = Some(why.clone());
        let attempts = job.tries.attempts;
        let consequence = consequence(job, work, &verdict);
        if let (Consequence::Later, Some(pause)) = (&consequence, retry_after) {
            self.pace.handle_wait(now, Some(pause));
        }
        // A refused token (401) is often answered before the body is read; the reset that follows may wipe the answer
        // out. So every second upload that ends so gets a new token.
        if matches!(work, Work::Upload(_)) && code == NO_ANSWER && attempts % 2 == 1 && self.token.is_idle() {
            self.token.state = TokenState::None;
        }
        self.apply(now, id, work, consequence, why);
    }

    fn apply(&mut self, now: Timestamp, id: &str, work: &Work, consequence: Consequence, why: String) {
        let job = &mut self.jobs.get_mut(id).expect("its answer is being handled").job;
        match consequence {
            Consequence::Again => job.standing = Standing::Going { not_before: None },
            Consequence::Later => {
                job.tries.attempts = job.tries.attempts.saturating_add(1);
                let pause = self.pace.backoff(job.tries.attempts - 1);
                job.standing = Standing::Going { not_before: Some(now + pause) };
            }
            Consequence::Park => {
                let times = if let Standing::Parked { times, .. } = job.standing { times } else { 0 };
                let retry_at = now + self.pace.park(times);
                job.standing = Standing::Parked { why, retry_at, times: times.saturating_add(1) };
            }
            Consequence::Dead => match work {
                Work::Register(_) => job.standing = Standing::Dead { why },
                Work::Upload(number) | Work::Attach(number) => {
                    job.standing = Standing::Going { not_before: None };
                    if let Some(part) = part_of(job, *number) {
                        part.state = PartState::Dead { why };
                    }
                }
            },
        }
    }

    /// Leaves out of later requests the codes that the text names.
    fn drop_codes(&mut self, now: Timestamp, text: &str, sent: &[String], why: &str) {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let named: BTreeSet<&str> = text.split(|c| !is_word(c)).collect();
        for code in sent.iter().filter(|c| named.contains(c.as_str())) {
            if !self.dropped.contains_key(code) {
                let dropped = DroppedCode { code: code.clone(), at: now, reason: why.to_owned() };
                self.rows.push_back(Row::Dropped(dropped.clone()));
                self.dropped.insert(code.clone(), dropped);
            }
        }
    }

    fn set_alarm(&mut self, alarm: Option<String>) {
        if self.alarm != alarm {
            self.alarm.clone_from(&alarm);
            self.rows.push_back(Row::Alarm(alarm));
        }
    }

    // ---- bookkeeping

    /// Puts a job where it belongs after any change of it.
    fn changed(&mut self, id: &str) {
        let Some(entry) = self.jobs.get_mut(id) else { return };
        give_up_blind(&mut entry.job);
        if !entry.job.is_settled() {
            entry.origin = Origin::Owed;
        }
        if let Some(old) = entry.queued.take() {
            self.ready.remove(&old);
        }
        let flies = self.flights.values().any(|f| matches!(&f.what, Purpose::Job { id: flying, .. } if flying == id));
        if let (Some(step), false) = (entry.job.step(), flies) {
            let is_ringing = step == Step::Register && entry.job.progress == Progress::Live;
            let due = entry.job.not_before().unwrap_or(Timestamp::EPOCH);
            let ready = (due, u8::from(!is_ringing), id.to_owned());
            self.ready.insert(ready.clone());
            entry.queued = Some(ready);
        }
        self.dirty.insert(id.to_owned());
    }

    /// A settled job leaves the memory; the journal has it.
    fn retire(&mut self, id: &str) {
        let Some(Entry { job, queued, origin }) = self.jobs.remove(id) else { return };
        if let Some(queued) = queued {
            self.ready.remove(&queued);
        }
        self.finished.possible_duplicates += u64::from(job.possible_duplicates);
        match job.death() {
            None if origin == Origin::Settled => self.finished.already += 1,
            None => self.finished.done += 1,
            Some(why) => {
                self.finished.dead.retain(|t| t.id != job.id);
                self.finished.dead.push_back(Trouble { id: job.id.clone(), why: why.to_owned() });
                if self.finished.dead.len() > MAX_DEAD_KEPT {
                    self.finished.dead.pop_front();
                }
            }
        }
    }
}

impl Token {
    fn is_idle(&self) -> bool {
        self.state != TokenState::Fetching
    }
}

impl Purpose {
    const fn endpoint(&self) -> Endpoint {
        match self {
            Self::Auth => Endpoint::Auth,
            Self::Job { work: Work::Register(_), .. } => Endpoint::Call,
            Self::Job { work: Work::Upload(_), .. } => Endpoint::Upload,
            Self::Job { work: Work::Attach(_), .. } => Endpoint::Attach,
        }
    }
}

/// What a failure means for the job.
enum Consequence {
    /// At once (or when the whole client may go on).
    Again,
    /// After a growing pause.
    Later,
    Park,
    Dead,
}

impl From<Otherwise> for Consequence {
    fn from(otherwise: Otherwise) -> Self {
        match otherwise {
            Otherwise::Backoff => Self::Later,
            Otherwise::Park => Self::Park,
            Otherwise::Dead => Self::Dead,
        }
    }
}

fn begin_upload(policy: &Policy, job: &mut Job, at: usize) -> Option<(Request, Work, Vec<String>)> {
    let id = job.id.clone();
    let part = job.parts.get_mut(at).expect("a step names a part that is there");
    if part.bytes > policy.max_upload_bytes {
        let why = format!(
            "the recording has {} bytes, more than max_upload_mib in [pyrus] allows: it is kept here and not sent; a lower part_hours in [recording] makes smaller files",
            part.bytes
        );
        part.state = PartState::Dead { why };
        return None;
    }
    part.state = PartState::Uploading;
    let name = if part.number == 1 { format!("{id}.wav") } else { format!("{id}-{}.wav", part.number) };
    Some((Request::Upload { path: part.path.clone(), name }, Work::Upload(part.number), Vec::new()))
}

/// A request was done.
fn take(job: &mut Job, work: &Work, gain: Gain, now: Timestamp) {
    job.standing = Standing::Going { not_before: None };
    job.tries.attempts = 0;
    job.tries.limited = 0;
    job.tries.reauthorised = 0;
    match work {
        Work::Register(_) => job.registration = Registration::Known { task_id: gain.task_id },
        Work::Upload(number) => {
            let upload = Upload { guid: gain.guid.unwrap_or_default(), md5: gain.md5.unwrap_or_default(), at: now };
            if let Some(part) = part_of(job, *number) {
                part.state = PartState::Uploaded(upload);
            }
        }
        Work::Attach(number) => {
            job.tries.reregistered = 0;
            job.tries.reuploaded = 0;
            if let Some(part) = part_of(job, *number)
                && let PartState::Attaching(upload) = part.state.clone()
            {
                part.state = PartState::Attached(upload);
            }
            // By external_id alone it can only have found a registered call.
            if job.registration == Registration::Unsure {
                job.registration = Registration::Known { task_id: gain.task_id };
            }
        }
    }
}

/// A request was not done, or perhaps.
fn undo(job: &mut Job, work: &Work, verdict: &Verdict) {
    let perhaps = matches!(verdict, Verdict::Backoff { sent: Sent::Perhaps, .. });
    match work {
        Work::Register(_) if perhaps => job.registration = Registration::Unsure,
        Work::Register(before) => {
            if *before == Registration::Unsure {
                // The repeat was not done: it may be made another time.
                job.tries.blind_repeats = 0;
                job.possible_duplicates = job.possible_duplicates.saturating_sub(1);
            }
            job.registration = before.clone();
        }
        Work::Upload(number) => {
            if let Some(part) = part_of(job, *number) {
                part.state = PartState::Waiting;
            }
        }
        Work::Attach(number) => {
            job.possible_duplicates += u32::from(perhaps);
            if let Some(part) = part_of(job, *number)
                && let PartState::Attaching(upload) = part.state.clone()
            {
                part.state = PartState::Uploaded(upload); // the same file, never a new upload
            }
        }
    }
}

/// What a verdict other than done means, given what was tried before.
fn consequence(job: &mut Job, work: &Work, verdict: &Verdict) -> Consequence {
    match *verdict {
        Verdict::Done(_) | Verdict::Wait(_) => Consequence::Again,
        Verdict::Reauth(otherwise) => {
            job.tries.reauthorised += 1;
            if job.tries.reauthorised == 1 {
                return Consequence::Again;
            }
            job.tries.reauthorised = 0;
            otherwise.into()
        }
        Verdict::Backoff { limit: None, .. } => Consequence::Later,
        Verdict::Backoff { limit: Some((most, otherwise)), .. } => {
            job.tries.limited = job.tries.limited.saturating_add(1);
            if job.tries.limited > most { otherwise.into() } else { Consequence::Later }
        }
        Verdict::Reupload => {
            job.tries.reuploaded = job.tries.reuploaded.saturating_add(1);
            if let Work::Attach(number) = work
                && let Some(part) = part_of(job, *number)
            {
                part.state = PartState::Waiting;
            }
            if job.tries.reuploaded > MAX_REUPLOADS { Consequence::Park } else { Consequence::Again }
        }
        Verdict::Reregister(most) => {
            if job.registration != Registration::Unsure {
                job.tries.reregistered = job.tries.reregistered.saturating_add(1);
            }
            job.registration = Registration::Owed;
            if job.tries.reregistered > most { Consequence::Park } else { Consequence::Again }
        }
        Verdict::WithoutFields if job.fields == Fields::Sent => {
            job.fields = Fields::LeftOut;
            Consequence::Again
        }
        Verdict::WithoutFields | Verdict::Dead => Consequence::Dead,
        Verdict::Park => Consequence::Park,
    }
}

/// A call without a recording whose registration stayed unanswered twice: nobody but a person can tell.
fn give_up_blind(job: &mut Job) {
    let is_hopeless = job.registration == Registration::Unsure
        && job.progress == Progress::Complete
        && job.tries.blind_repeats > 0
        && job.step().is_none()
        && !matches!(job.standing, Standing::Dead { .. });
    if is_hopeless && !job.parts.iter().any(|p| matches!(p.state, PartState::Uploading | PartState::Attaching(_))) {
        let why = String::from(
            "Pyrus did not answer two registrations of this call, which has no recording: look in the form whether it is there",
        );
        job.standing = Standing::Dead { why };
    }
}

fn part_of(job: &mut Job, number: u32) -> Option<&mut Part> {
    job.parts.iter_mut().find(|p| p.number == number)
}

/// Of the headers of a record only those that fill form fields are kept, bounded.
fn retain_mapped(policy: &Policy, job: &mut Job) {
    job.facts.headers.retain(|name, _| policy.header_mappings.values().any(|wanted| wanted.eq_ignore_ascii_case(name)));
}

/// So many more registrations than other requests may be under way while a telephone rings.
const URGENT_MORE: usize = 2;

/// Uploads of one call because Pyrus did not know the file, before a person must look.
const MAX_REUPLOADS: u32 = 3;

/// Dead calls that the summary names; all are in the journal.
pub const MAX_DEAD_KEPT: usize = 1_000;
