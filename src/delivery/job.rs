//! One call's way into Pyrus: its states, and what comes next.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::split::Cut;
use crate::call::record::{CallRecord, DeliveryState, Direction, Outcome, Verdict};
use crate::delivery::row::JobRow;
use crate::time::Timestamp;

/// How far the call itself has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Under way.
    Live,
    /// Over; its recording is still to be rendered.
    Ended,
    /// Over, and its record names every recording that it will have.
    Complete,
}

/// Whether a call may be registered at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consent {
    /// As the configuration says.
    #[default]
    ByConfig,
    /// A rule of the configuration (`no_register`) forbids it.
    Forbidden,
}

/// What delivery is told about a call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallUpdate {
    /// Its record as it stands.
    pub record: CallRecord,
    /// How far it has come.
    pub progress: Progress,
    /// Whether it may be registered.
    pub consent: Consent,
}

/// One owed call. The journal keeps it as JSON; it needs nothing else to be finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The call's id: external_id, the same in every request and after every restart.
    pub id: String,
    /// How far the call has come.
    pub progress: Progress,
    /// What Pyrus is told.
    pub facts: Facts,
    /// Whether Pyrus knows the call.
    pub registration: Registration,
    /// Its recordings in order.
    pub parts: Vec<Part>,
    /// Whether it goes on.
    pub standing: Standing,
    /// What was tried in vain.
    pub tries: Tries,
    /// Whether the form fields are sent.
    pub fields: Fields,
    /// Times of a request that may have been done twice.
    pub possible_duplicates: u32,
    /// The last trouble, for a person.
    pub note: Option<String>,
    /// A rule was found to forbid it after it was owed: whatever is made of the call later, it is not sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_forbidden: bool,
}

/// What a call tells Pyrus. The numbers are frozen with the first registration: the same text in every request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Which way.
    pub direction: Direction,
    /// Who called.
    pub from: Option<String>,
    /// Who was called.
    pub to: Option<String>,
    /// Our extension.
    pub internal: Option<String>,
    /// The INVITE.
    pub started_at: Option<Timestamp>,
    /// The end.
    pub ended_at: Option<Timestamp>,
    /// Answer to end.
    pub duration_s: Option<f64>,
    /// Extension headers that are mapped to form fields.
    pub headers: BTreeMap<String, String>,
}

/// Whether Pyrus knows the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Registration {
    /// It does not.
    Owed,
    /// A request is under way; found after a restart it means [`Registration::Unsure`].
    Sending,
    /// A request was sent and no definite answer came. Not repeated while a recording is to come: attaching it by
    /// external_id alone settles the question.
    Unsure,
    /// It does.
    Known {
        /// The task, when Pyrus named it.
        task_id: Option<u64>,
    },
}

/// One recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// 1 for the first.
    pub number: u32,
    /// The file.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// It is a piece of a file that is too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// How far it has come.
    pub state: PartState,
}

impl Part {
    /// It was, as which file nobody knows any more.
    fn was_attached(&mut self) {
        let unknown = Upload { guid: String::new(), md5: String::new(), at: Timestamp::EPOCH };
        self.state = PartState::Attached(unknown);
    }

    /// Pyrus has nothing of it.
    const fn may_move(&self) -> bool {
        matches!(self.state, PartState::Waiting | PartState::Dead { .. })
    }

    /// Its place among the files of its call.
    pub fn place(&self) -> (u32, u64) {
        self.cut.map_or((self.number, 0), |cut| (cut.of, cut.from))
    }
}

/// How far a recording has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum PartState {
    /// Not sent.
    Waiting,
    /// Under way; after a restart it begins anew (an orphan file at most).
    Uploading,
    /// Pyrus has the file.
    Uploaded(Upload),
    /// The request that ties the file to the task is under way; after a restart it is repeated with the same file.
    Attaching(Upload),
    /// Done.
    Attached(Upload),
    /// It is sent in pieces, which are parts of their own.
    Split,
    /// It will never be.
    Dead {
        /// For a person.
        why: String,
    },
}

/// A file in Pyrus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Pyrus's id of it.
    pub guid: String,
    /// Lower-case hex.
    pub md5: String,
    /// When.
    pub at: Timestamp,
}

/// Whether a job goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Standing {
    /// It does, not before this moment if one is given.
    Going {
        /// End of a pause after a failure.
        not_before: Option<Timestamp>,
    },
    /// A person must act; it is tried again, slowly.
    Parked {
        /// For a person.
        why: String,
        /// The next try.
        retry_at: Timestamp,
        /// How often it was parked in a row.
        times: u32,
    },
    /// Never.
    Dead {
        /// For a person.
        why: String,
    },
}

/// What was tried in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Failures of the present step in a row.
    pub attempts: u32,
    /// Those of them that are repeated only so often.
    pub limited: u32,
    /// Tries of the present step with a token that was refused.
    pub reauthorised: u32,
    /// Registrations because Pyrus did not know the call at the attach.
    pub reregistered: u32,
    /// Uploads because Pyrus did not know the file at the attach.
    pub reuploaded: u32,
    /// Registrations repeated blindly, for a call without a recording.
    pub blind_repeats: u32,
}

/// Whether the form fields are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fields {
    /// They are.
    Sent,
    /// Pyrus did not take their values: better a call without fields than none.
    LeftOut,
}

/// What a job wants to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Tell Pyrus of the call.
    Register,
    /// Send the recording at this place of `parts`.
    Upload(usize),
    /// Tie the uploaded recording to the task.
    Attach(usize),
}

impl Job {
    /// A call that Pyrus is to know.
    pub fn new(record: &CallRecord, progress: Progress) -> Self {
        let mut job = Self {
            id: record.id.clone(),
            progress,
            facts: Facts::default(),
            registration: Registration::Owed,
            parts: Vec::new(),
            standing: Standing::Going { not_before: None },
            tries: Tries::default(),
            fields: Fields::Sent,
            possible_duplicates: 0,
            note: None,
            is_forbidden: false,
        };
        job.update(record, progress);
        job
    }

    /// From the call record alone, when the journal is lost: what the record calls done is done. Of the rest nobody
    /// knows how far it came, so it counts as ambiguous: a call with a recording is attached by external_id alone and
    /// registered only if Pyrus does not know it. `None`: the record says that nothing was owed.
    pub fn rebuilt(record: &CallRecord) -> Option<Self> {
        let progress = if record.verdict.is_some() { Progress::Complete } else { Progress::Live };
        let mut job = Self::new(record, progress);
        match record.delivery.state {
            DeliveryState::None => return None,
            DeliveryState::Done => {
                job.registration = Registration::Known { task_id: record.delivery.task_id };
                job.parts.iter_mut().for_each(Part::was_attached);
            }
            DeliveryState::Dead => {
                let why = record.delivery.detail.clone().unwrap_or_default();
                job.standing = Standing::Dead { why };
            }
            DeliveryState::Owed | DeliveryState::Parked => {
                job.registration = match record.delivery.task_id {
                    Some(task_id) => Registration::Known { task_id: Some(task_id) },
                    None => Registration::Unsure,
                };
                let known = job.parts.iter_mut().filter(|p| record.delivery.attached.contains(&p.number));
                known.for_each(Part::was_attached);
            }
        }
        Some(job)
    }

    /// Takes over what the record now says. Never moves a number that was sent, and forgets no recording but those of a
    /// call that a rule forbids.
    pub fn update(&mut self, record: &CallRecord, progress: Progress) {
        self.progress = self.progress.max(progress);
        if self.is_forbidden {
            return;
        }
        if record.verdict == Some(Verdict::Excluded) {
            self.withdraw();
        }
        let facts = &mut self.facts;
        if self.registration == Registration::Owed && self.tries.reregistered == 0 {
            facts.direction = record.direction;
            facts.from.clone_from(&record.from);
            facts.to.clone_from(&record.to);
            facts.internal.clone_from(&record.internal);
            facts.started_at = record.invited_at.or(record.answered_at);
        }
        facts.ended_at = record.ended_at.or(facts.ended_at);
        facts.duration_s = record.duration_s.or(facts.duration_s);
        facts.headers.clone_from(&record.headers);
        for recording in &record.recordings {
            match self.parts.iter_mut().find(|p| p.number == recording.part) {
                None => self.parts.push(Part {
                    number: recording.part,
                    path: recording.path.clone(),
                    bytes: recording.bytes,
                    cut: None,
                    // Encrypted after delivery, or because none was to be: this cannot be sent.
                    state: match recording.plain_sha256 {
                        None => PartState::Waiting,
                        Some(_) => PartState::Dead { why: String::from(ENCRYPTED) },
                    },
                }),
                // Rendered once more, it may be another file: also of one that was too large, for when it is tried again.
                Some(part) if part.may_move() && recording.plain_sha256.is_none() => {
                    part.path.clone_from(&recording.path);
                    part.bytes = recording.bytes;
                }
                Some(_) => {}
            }
        }
        self.parts.sort_by_key(Part::place);
    }

    /// What Pyrus does not have yet of the recordings is never sent. A file that was uploaded and not attached is removed
    /// by Pyrus itself after a while; an attachment under way is not called back.
    fn withdraw(&mut self) {
        self.parts.retain(|p| match p.state {
            PartState::Waiting | PartState::Uploading | PartState::Uploaded(_) | PartState::Dead { .. } => false,
            PartState::Attaching(_) | PartState::Attached(_) | PartState::Split => true,
        });
    }

    /// A rule forbids to tell Pyrus of the call, found out after it was owed. What Pyrus knows stays there; it is told
    /// nothing more, and gets no recording.
    pub fn forbid(&mut self, progress: Progress) {
        self.progress = self.progress.max(progress);
        self.is_forbidden = true;
        self.withdraw();
        let why = match self.registration {
            Registration::Owed => FORBIDDEN,
            Registration::Unsure => FORBIDDEN_UNSURE,
            Registration::Sending | Registration::Known { .. } => return,
        };
        self.standing = Standing::Dead { why: String::from(why) };
    }

    /// Files of the call that Pyrus has.
    pub fn attached(&self) -> usize {
        self.parts.iter().filter(|p| matches!(p.state, PartState::Attached(_))).count()
    }

    /// As it must be seen after a restart: what was under way has an unknown outcome.
    pub fn after_restart(mut self, now: Timestamp) -> Self {
        if self.registration == Registration::Sending {
            self.registration = Registration::Unsure;
        }
        for part in &mut self.parts {
            part.state = match std::mem::replace(&mut part.state, PartState::Waiting) {
                PartState::Uploading => PartState::Waiting,
                PartState::Attaching(upload) => {
                    self.possible_duplicates += 1;
                    PartState::Uploaded(upload)
                }
                other => other,
            };
        }
        // A start is the moment when a person has mended something; and a stored time may be of a clock that was wrong.
        match &mut self.standing {
            Standing::Going { not_before } => *not_before = None,
            Standing::Parked { retry_at, .. } => *retry_at = now,
            Standing::Dead { .. } => {}
        }
        self
    }

    /// What comes next, once [`Job::not_before`] has passed; `None`: nothing until the call goes on, or a request of
    /// this job is under way.
    pub fn step(&self) -> Option<Step> {
        if matches!(self.standing, Standing::Dead { .. }) {
            return None;
        }
        match self.registration {
            Registration::Owed => Some(Step::Register),
            Registration::Sending => None,
            Registration::Unsure => self.part_step().or_else(|| self.is_blind_repeat().then_some(Step::Register)),
            Registration::Known { .. } => self.part_step(),
        }
    }

    /// Without a recording to come, only a repeat can make sure that the call is registered; it is done once.
    pub fn is_blind_repeat(&self) -> bool {
        self.registration == Registration::Unsure
            && self.progress == Progress::Complete
            && self.open_part().is_none()
            && self.tries.blind_repeats == 0
    }

    /// When the next step may be done.
    pub fn not_before(&self) -> Option<Timestamp> {
        match self.standing {
            Standing::Going { not_before } => not_before,
            Standing::Parked { retry_at, .. } => Some(retry_at),
            Standing::Dead { .. } => None,
        }
    }

    /// Nothing is owed any more. Not true of a call under way.
    pub fn is_settled(&self) -> bool {
        matches!(self.standing, Standing::Dead { .. })
            || (self.progress == Progress::Complete
                && matches!(self.registration, Registration::Known { .. })
                && self.open_part().is_none())
    }

    /// Why a person will not find it whole in Pyrus.
    pub fn death(&self) -> Option<&str> {
        if let Standing::Dead { why } = &self.standing {
            return Some(why);
        }
        self.parts.iter().find_map(|p| match &p.state {
            PartState::Dead { why } => Some(why.as_str()),
            _ => None,
        })
    }

    /// The task in Pyrus.
    pub fn task_id(&self) -> Option<u64> {
        match self.registration {
            Registration::Known { task_id } => task_id,
            Registration::Owed | Registration::Sending | Registration::Unsure => None,
        }
    }

    /// One word for people and queries.
    pub fn stage(&self) -> &'static str {
        if self.is_settled() {
            return if self.death().is_some() { "dead" } else { "done" };
        }
        if matches!(self.standing, Standing::Parked { .. }) {
            return "parked";
        }
        let part = self.open_part().and_then(|at| self.parts.get(at)).map(|p| &p.state);
        match (&self.registration, part) {
            (_, Some(PartState::Uploading)) => "uploading",
            (_, Some(PartState::Attaching(_))) => "attaching",
            (Registration::Owed, _) => "new",
            (Registration::Sending, _) => "registering",
            (Registration::Unsure, _) => "unsure",
            (Registration::Known { .. }, Some(PartState::Uploaded(_))) => "uploaded",
            (Registration::Known { .. }, _) => "registered",
        }
    }

    /// For the journal.
    pub fn to_row(&self) -> JobRow {
        let upload = self.parts.iter().rev().find_map(|p| match &p.state {
            PartState::Uploaded(u) | PartState::Attaching(u) | PartState::Attached(u) => Some(u),
            PartState::Waiting | PartState::Uploading | PartState::Split | PartState::Dead { .. } => None,
        });
        let why = match &self.standing {
            Standing::Parked { why, .. } => Some(why.clone()),
            _ => self.death().map(String::from),
        };
        JobRow {
            id: self.id.clone(),
            stage: self.stage().to_owned(),
            task_id: self.task_id(),
            guid: upload.map(|u| u.guid.clone()),
            md5: upload.map(|u| u.md5.clone()),
            attempts: self.tries.attempts,
            next_at: self.not_before(),
            note: why.or_else(|| self.note.clone()),
            body: serde_json::to_string(self).expect("a job has string keys and finite numbers only"),
        }
    }

    /// From the journal.
    ///
    /// # Errors
    /// When the body is not a job.
    pub fn from_row(row: &JobRow) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&row.body)
    }

    fn open_part(&self) -> Option<usize> {
        self.parts
            .iter()
            .position(|p| !matches!(p.state, PartState::Attached(_) | PartState::Split | PartState::Dead { .. }))
    }

    fn part_step(&self) -> Option<Step> {
        let at = self.open_part()?;
        match self.parts.get(at)?.state {
            PartState::Waiting => Some(Step::Upload(at)),
            PartState::Uploaded(_) => Some(Step::Attach(at)),
            _ => None,
        }
    }
}

/// Whether nobody of ours took the call.
pub fn is_unanswered(record: &CallRecord) -> bool {
    record.answered_at.is_none() || record.outcome == Outcome::Abandoned
}

/// Why nothing is sent of a call that was owed before a rule was found to forbid it.
const FORBIDDEN: &str = "a rule of the configuration (no_register) forbids to tell Pyrus of this call; it was not told";
const FORBIDDEN_UNSURE: &str = "a rule of the configuration (no_register) forbids to tell Pyrus of this call, and an earlier registration was not answered: look in the form whether it is there";

/// Why a recording cannot be sent any more.
const ENCRYPTED: &str = "the recording is encrypted: where the secret key is, decrypt it (age -d -i KEYFILE) and attach it to the task by hand";
