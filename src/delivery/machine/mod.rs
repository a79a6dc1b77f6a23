//! The machine: which request is next, and what its answer changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::job::{CallUpdate, Consent, Job, PartState, Progress, Registration, Standing, Step};
use super::pace::{Go, Pace, Tuning};
use super::policy::{AttachBody, CallBody, Policy};
use super::split::{self, Cut};
use super::verdict::{Endpoint, Reply, Verdict, judge};
use crate::call::record::CallRecord;
use crate::delivery::row::{DeliveryRow, DroppedCode, JobRow};
use crate::time::Timestamp;

mod answers;
mod report;

use report::Finished;
pub use report::{Blocked, MAX_DEAD_KEPT, Summary, Trouble};

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
        /// Its name in Pyrus; ASCII, ends in `.wav` or `.ogg`.
        name: String,
        /// Only these samples of it, as a WAV of their own.
        cut: Option<Cut>,
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
    rows: VecDeque<DeliveryRow>,
    /// The account or its form is refused: every call would be.
    account: Hold,
    /// Why the newest request was not answered; gone with the next answer.
    trouble: Option<String>,
    /// Why Pyrus cannot be reached, once it could not several times in a row.
    away: Option<String>,
    alarm: Option<String>,
    /// The journal was lost at this moment: what Pyrus knows of a call that began before is not known.
    blind_before: Timestamp,
    /// No larger file is sent since the server refused one.
    learnt_limit: Option<u64>,
    finished: Finished,
}

/// Something that concerns every call and that only a person can mend: one request at a time looks, slowly, whether
/// it is mended.
#[derive(Debug, Default)]
struct Hold {
    why: Option<String>,
    /// How often it was found unmended, in a row.
    times: u32,
    until: Timestamp,
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
#[derive(Debug, Default)]
struct Token {
    state: TokenState,
    last: u64,
    /// Failures to get or use one, in a row.
    failures: u32,
    not_before: Timestamp,
    /// The login is refused.
    hold: Hold,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum TokenState {
    #[default]
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
            token: Token::default(),
            dropped: BTreeMap::new(),
            dirty: BTreeSet::new(),
            rows: VecDeque::new(),
            account: Hold::default(),
            trouble: None,
            away: None,
            alarm: None,
            blind_before: Timestamp::EPOCH,
            learnt_limit: None,
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

    /// The journal was lost at this moment and made anew. A call that began before and is not in it may have been
    /// registered while it rang: it counts as [`Registration::Unsure`], so its recording is attached by external_id
    /// alone, and the call is registered only if Pyrus says that it does not know it.
    pub fn load_loss(&mut self, lost_at: Timestamp) {
        self.blind_before = lost_at;
    }

    /// A call has changed. The driver first loads the call's row if [`Machine::knows`] says no: a call that was
    /// delivered long ago is no longer in memory.
    pub fn handle_call(&mut self, update: &CallUpdate) {
        let CallUpdate { record, progress, consent } = update;
        match self.jobs.get_mut(&record.id) {
            Some(entry) => match consent {
                Consent::ByConfig => {
                    entry.job.update(record, *progress);
                    retain_mapped(&self.policy, &mut entry.job);
                }
                Consent::Forbidden => entry.job.forbid(*progress),
            },
            None if self.policy.is_due(record, *progress, *consent) => {
                let mut job = Job::new(record, *progress);
                if begin(record).is_some_and(|at| at < self.blind_before) {
                    job.registration = Registration::Unsure;
                }
                retain_mapped(&self.policy, &mut job);
                self.jobs.insert(record.id.clone(), Entry { job, queued: None, origin: Origin::Owed });
            }
            None => return,
        }
        self.changed(&record.id);
    }

    /// A person asks to try this call again at once: one that is parked, or dead.
    pub fn handle_retry(&mut self, id: &str) {
        let Some(entry) = self.jobs.get_mut(id).filter(|entry| !entry.job.is_forbidden) else { return };
        let job = &mut entry.job;
        job.standing = Standing::Going { not_before: None };
        job.tries = super::job::Tries::default();
        for part in &mut job.parts {
            if matches!(part.state, PartState::Dead { .. }) {
                part.state = PartState::Waiting;
            }
        }
        self.token.hold.until = Timestamp::EPOCH;
        self.account.until = Timestamp::EPOCH;
        self.changed(id);
    }

    /// What to do next.
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
            if self.account.why.is_some() {
                if now < self.account.until {
                    return Next::WaitUntil(self.account.until);
                }
                if !self.flights.is_empty() {
                    return Next::Idle; // one looks, for all
                }
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
                self.after_account(now, endpoint, &judged);
                self.after_job(now, &id, &work, judged, &codes);
                self.changed(&id);
            }
        }
    }

    /// What must be made durable. Polled until `None` before any action is executed.
    pub fn poll_row(&mut self) -> Option<DeliveryRow> {
        if let Some(row) = self.rows.pop_front() {
            return Some(row);
        }
        let id = self.dirty.pop_first()?;
        let row = self.jobs.get(&id)?.job.to_row();
        if row.is_settled() {
            self.retire(&id);
        }
        Some(DeliveryRow::Job(row))
    }

    /// Whether this call is in memory.
    pub fn knows(&self, id: &str) -> bool {
        self.jobs.contains_key(id)
    }

    // ---- requests

    fn begin_auth(&mut self, now: Timestamp) -> Next {
        let not_before = self.token.not_before.max(self.token.hold.until);
        if not_before > now {
            return Next::WaitUntil(not_before);
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
            Some(Step::Upload(at)) => begin_upload((self.policy.max_upload_bytes, self.learnt_limit), job, at),
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

fn begin_upload(
    (max_bytes, learnt_limit): (u64, Option<u64>),
    job: &mut Job,
    at: usize,
) -> Option<(Request, Work, Vec<String>)> {
    let part = job.parts.get(at).expect("a step names a part that is there");
    let (number, path, cut) = (part.number, part.path.clone(), part.cut);
    if let Some(limit) = learnt_limit.filter(|&limit| part.bytes > limit && split::can_be_split(part)) {
        split::split(job, number, limit);
        return None;
    }
    let ending = if path.ends_with(".ogg") { "ogg" } else { "wav" };
    let name = match cut {
        Some(cut) if cut.of == 1 => format!("{}-part{}.wav", job.id, split::ordinal(job, cut)),
        Some(cut) => format!("{}-{}-part{}.wav", job.id, cut.of, split::ordinal(job, cut)),
        None if number == 1 => format!("{}.{ending}", job.id),
        None => format!("{}-{number}.{ending}", job.id),
    };
    let part = job.parts.get_mut(at).expect("a step names a part that is there");
    if part.bytes > max_bytes {
        let why = format!(
            "the recording has {} bytes, more than max_upload_mib in [pyrus] allows: it is kept here and not sent; a lower part_hours in [recording] makes smaller files",
            part.bytes
        );
        part.state = PartState::Dead { why };
        return None;
    }
    part.state = PartState::Uploading;
    Some((Request::Upload { path, name, cut }, Work::Upload(number), Vec::new()))
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

/// Of the headers of a record only those that fill form fields are kept, bounded.
fn retain_mapped(policy: &Policy, job: &mut Job) {
    job.facts.headers.retain(|name, _| policy.header_mappings.values().any(|wanted| wanted.eq_ignore_ascii_case(name)));
}

fn begin(record: &CallRecord) -> Option<Timestamp> {
    record.invited_at.or(record.answered_at).or(record.ended_at)
}

/// So many more registrations than other requests may be under way while a telephone rings.
const URGENT_MORE: usize = 2;
