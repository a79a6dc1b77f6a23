//! The delivery of one call to Pyrus: its state, and the decision which request is next.
//!
//! The JSON keys are part of the journal's format. Where a Rust name differs, `serde(rename)` keeps the key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::split::WavSlice;
use super::story::DeliveryStory;
use crate::call::record::{CallDirection, CallOutcome, CallRecord, CallVerdict, DeliveryState};
use crate::delivery::row::{JobRow, JobStage};
use crate::time::Timestamp;

/// Progress of a call, from the ringing to its final record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallProgress {
    /// The call is ringing or in progress.
    Live,
    /// The call is over, but its recordings are not rendered yet.
    Ended,
    /// The call is over, and its record lists all its recordings.
    Complete,
}

/// Whether a call may be registered in Pyrus at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryConsent {
    /// The section `[pyrus]` of the configuration decides.
    #[default]
    ByConfig,
    /// A rule with `no_register` in the configuration forbids the registration.
    Forbidden,
}

/// A new or changed call, in the form in which the recorder passes it to delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct CallUpdate {
    /// The call record as it is now.
    pub record: CallRecord,
    /// Progress of the call.
    pub progress: CallProgress,
    /// Whether the call may be registered.
    pub consent: DeliveryConsent,
}

/// The delivery of one call to Pyrus. The journal stores it as JSON, with everything that is needed to finish the
/// delivery after a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryJob {
    /// The call's id. Every request contains it as `external_id`, also after a restart.
    pub(crate) id: String,
    /// Progress of the call, from the ringing to its final record.
    pub(crate) progress: CallProgress,
    /// The call data that the requests contain.
    pub(crate) facts: PyrusCallFacts,
    /// Whether the call is registered in Pyrus, as far as delivery knows.
    pub(crate) registration: PyrusRegistration,
    /// The recordings of the call, sorted by their numbers.
    pub(crate) parts: Vec<DeliveryPart>,
    /// Whether the job continues, and when its next request may be sent.
    #[serde(rename = "standing")]
    pub(crate) status: JobStatus,
    /// Counts of attempts that failed or were repeated.
    #[serde(rename = "tries")]
    pub(crate) retries: RetryCounts,
    /// Whether requests contain the form fields of the Pyrus form.
    #[serde(rename = "fields")]
    pub(crate) form_fields: FormFieldMode,
    /// Number of requests that Pyrus may have executed twice, because the first attempt got no response.
    pub(crate) possible_duplicates: u32,
    /// Message of the last failure or warning, for the administrator; `None` if there was none.
    pub(crate) note: Option<String>,
    /// Whether Pyrus knows the end of the call. Jobs from earlier versions of callspan count as settled.
    #[serde(default, skip_serializing_if = "EndNotice::is_settled")]
    pub(crate) end: EndNotice,
    /// Person whom Pyrus made responsible for the task, as the answer to the registration says; `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) responsible: Option<String>,
    /// Whether a `no_register` rule was found to apply after the job had begun. Then nothing more is sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_forbidden: bool,
    /// The requests so far and their answers, to show them to people. Jobs of earlier versions have none.
    #[serde(default, skip_serializing_if = "DeliveryStory::is_empty")]
    pub(crate) story: DeliveryStory,
}

/// Facts about the call for Pyrus. The numbers do not change after the registration, so every request contains the same
/// text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PyrusCallFacts {
    /// Direction of the call: inbound, outbound, internal or unknown.
    pub(crate) direction: CallDirection,
    /// Telephone number of the caller; `None` if it is hidden or unknown.
    pub(crate) from: Option<String>,
    /// Telephone number of the callee; `None` if unknown.
    pub(crate) to: Option<String>,
    /// Extension that took part in the call; `None` if unknown.
    pub(crate) internal: Option<String>,
    /// Capture time of the INVITE, or of the answer if no INVITE was seen.
    pub(crate) started_at: Option<Timestamp>,
    /// Capture time of the end; `None` while the call is in progress.
    pub(crate) ended_at: Option<Timestamp>,
    /// Seconds from the answer to the end; `None` before the end and for unanswered calls.
    pub(crate) duration_s: Option<f64>,
    /// Values of the SIP headers that the configuration maps to form fields, by header name.
    pub(crate) headers: BTreeMap<String, String>,
    /// Extension that spoke last, also after a transfer. It can change after the registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operator: Option<String>,
    /// Outcome of a call that is over, as the call record names it, e.g. `busy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<String>,
}

/// Whether the call is registered in Pyrus, as far as the responses show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(crate) enum PyrusRegistration {
    /// The call is not registered in Pyrus yet.
    Owed,
    /// The request to register was sent and has no response yet. After a restart this becomes
    /// [`PyrusRegistration::Unsure`].
    Sending,
    /// A request to register was sent, and its outcome is unknown. If a recording is expected, the request is not
    /// repeated: attaching the recording by `external_id` alone will show whether the call is registered.
    Unsure,
    /// A response has confirmed that the call is registered in Pyrus.
    Known {
        /// Id of the Pyrus task; `None` if no response contained it.
        task_id: Option<u64>,
    },
}

/// A part of the delivery: a recording file, or a slice of a file that is too large for the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveryPart {
    /// Number of the part within the call: 1 for the first recording; slices have numbers from 100,000 on.
    pub(crate) number: u32,
    /// Path of the recording's file on this machine.
    pub(crate) path: String,
    /// Size of the upload in bytes.
    pub(crate) bytes: u64,
    /// The range of samples to send; `None` means the whole file.
    #[serde(rename = "cut", default, skip_serializing_if = "Option::is_none")]
    pub(crate) slice: Option<WavSlice>,
    /// How far the upload of the part has come.
    pub(crate) state: PartState,
}

impl DeliveryPart {
    /// Marks the part as attached to the task, although the id of its file in Pyrus is unknown.
    fn mark_attached(&mut self) {
        let unknown = UploadReceipt { guid: String::new(), md5: String::new(), at: Timestamp::EPOCH };
        self.state = PartState::Attached(unknown);
    }

    /// Returns whether Pyrus has nothing of this part yet, so that its file can be replaced by another.
    const fn is_replaceable(&self) -> bool {
        matches!(self.state, PartState::Waiting | PartState::Dead { .. })
    }

    /// Returns the sort key of the part within the call: the number of the recording, then the position in the file.
    pub(crate) fn sort_key(&self) -> (u32, u64) {
        self.slice.map_or((self.number, 0), |slice| (slice.part_number, slice.offset_bytes))
    }
}

/// How far the upload of one part has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(crate) enum PartState {
    /// The part was not uploaded yet.
    Waiting,
    /// The upload is in progress. After a restart it begins again; Pyrus deletes the unused file.
    Uploading,
    /// Pyrus has the file, but it is not attached to a task yet.
    Uploaded(UploadReceipt),
    /// The request to attach the file was sent and has no response yet. After a restart it is repeated with the same
    /// file.
    Attaching(UploadReceipt),
    /// The file is attached to the task.
    Attached(UploadReceipt),
    /// The file is sent in slices. Each slice is a part of its own.
    Split,
    /// The file will not be sent, e.g. because Pyrus refused it.
    Dead {
        /// The reason why it is not sent, as a sentence for the administrator.
        #[serde(rename = "why")]
        reason: String,
    },
}

/// Data about an uploaded file, as Pyrus confirmed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadReceipt {
    /// Id that Pyrus gave the file.
    pub(crate) guid: String,
    /// MD5 of the file, lower-case hexadecimal.
    pub(crate) md5: String,
    /// Time at which Pyrus confirmed the upload, by the clock of delivery.
    pub(crate) at: Timestamp,
}

/// Whether a delivery job continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(crate) enum JobStatus {
    /// The job has requests to send, or waits for the next change of the call.
    #[serde(rename = "going")]
    Active {
        /// End of the pause after a failure; `None` without a failure.
        not_before: Option<Timestamp>,
    },
    /// The administrator must act. Until then the job is retried at long intervals.
    Parked {
        /// The reason why the administrator must act, as a sentence.
        #[serde(rename = "why")]
        reason: String,
        /// Time at which the job is tried again although nobody acted.
        retry_at: Timestamp,
        /// Number of consecutive times the job was parked.
        times: u32,
    },
    /// The job was given up. Nothing more is sent.
    Dead {
        /// The reason why the job was given up, as a sentence for the administrator.
        #[serde(rename = "why")]
        reason: String,
    },
}

/// Counts of attempts of a job that failed or were repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetryCounts {
    /// Number of consecutive failures of the current step.
    pub(crate) attempts: u32,
    /// Number of consecutive failures of the current step with an error that allows only a few repeats.
    pub(crate) limited: u32,
    /// Number of consecutive attempts of the current step that failed because Pyrus refused the token.
    pub(crate) reauthorised: u32,
    /// Number of registrations that were repeated because Pyrus did not know the call when a file was attached.
    pub(crate) reregistered: u32,
    /// Number of uploads that were repeated because Pyrus did not know the file when it was attached.
    pub(crate) reuploaded: u32,
    /// Number of registrations that were repeated although the outcome of the first is unknown (calls without a
    /// recording).
    pub(crate) blind_repeats: u32,
}

/// Whether Pyrus knows the end of the call. Without a recording, a call that was registered while it rang gets its end
/// by a request of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EndNotice {
    /// Pyrus does not know the end: no request with it has succeeded yet.
    Untold,
    /// The request with the end was sent and has no response yet. After a restart it is not repeated: a repeat could
    /// add a second comment to the task.
    Sending,
    /// Pyrus knows the end, or refuses it for a call without a recording.
    #[default]
    Settled,
}

impl EndNotice {
    const fn is_settled(&self) -> bool {
        matches!(self, Self::Settled)
    }
}

/// Whether requests contain the form fields of Pyrus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FormFieldMode {
    /// Requests contain the form fields.
    Sent,
    /// The fields are left out, because Pyrus refused a value. Delivering a call without fields is better than not
    /// delivering it.
    #[serde(rename = "left_out")]
    Omitted,
}

/// The next request that a job has to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryStep {
    /// Register the call, which creates or finds its task.
    Register,
    /// Upload the part at this index of [`DeliveryJob::parts`].
    Upload(usize),
    /// Attach the uploaded part at this index of [`DeliveryJob::parts`] to the task.
    Attach(usize),
    /// Send the end of a call without a recording to its task.
    TellEnd,
}

impl DeliveryJob {
    /// Creates the job for a call that is to be delivered.
    pub fn new(record: &CallRecord, progress: CallProgress) -> Self {
        let mut job = Self {
            id: record.id.clone(),
            progress,
            facts: PyrusCallFacts::default(),
            registration: PyrusRegistration::Owed,
            parts: Vec::new(),
            status: JobStatus::Active { not_before: None },
            retries: RetryCounts::default(),
            form_fields: FormFieldMode::Sent,
            possible_duplicates: 0,
            note: None,
            end: EndNotice::Untold,
            responsible: None,
            is_forbidden: false,
            story: DeliveryStory::default(),
        };
        job.update(record, progress);
        job
    }

    /// Rebuilds the job from the call record after the journal was lost. Returns `None` if nothing had to be delivered
    /// according to the record. Completed deliveries stay complete. For all others it is unknown which data Pyrus has:
    /// recordings are attached by `external_id` alone, and the call is registered only if Pyrus does not know it.
    pub fn from_record(record: &CallRecord) -> Option<Self> {
        let progress = if record.verdict.is_some() { CallProgress::Complete } else { CallProgress::Live };
        let mut job = Self::new(record, progress);
        job.responsible.clone_from(&record.delivery.responsible);
        job.end = EndNotice::Settled;
        match record.delivery.state {
            DeliveryState::None => return None,
            DeliveryState::Done => {
                job.registration = PyrusRegistration::Known { task_id: record.delivery.task_id };
                job.parts.iter_mut().for_each(DeliveryPart::mark_attached);
            }
            DeliveryState::Dead => {
                let reason = record.delivery.detail.clone().unwrap_or_default();
                job.status = JobStatus::Dead { reason };
            }
            DeliveryState::Owed | DeliveryState::Parked => {
                job.registration = match record.delivery.task_id {
                    Some(task_id) => PyrusRegistration::Known { task_id: Some(task_id) },
                    None => PyrusRegistration::Unsure,
                };
                let known = job.parts.iter_mut().filter(|p| record.delivery.attached.contains(&p.number));
                known.for_each(DeliveryPart::mark_attached);
            }
        }
        Some(job)
    }

    /// Updates the job from the call record. Numbers that were sent already do not change. Recordings are only added or
    /// replaced, unless a rule now excludes the call.
    pub(crate) fn update(&mut self, record: &CallRecord, progress: CallProgress) {
        self.progress = self.progress.max(progress);
        if self.is_forbidden {
            return;
        }
        if record.verdict == Some(CallVerdict::Excluded) {
            self.discard_unsent_parts();
        }
        let facts = &mut self.facts;
        if self.registration == PyrusRegistration::Owed && self.retries.reregistered == 0 {
            facts.direction = record.direction;
            facts.from.clone_from(&record.from);
            facts.to.clone_from(&record.to);
            facts.internal.clone_from(&record.internal);
            facts.started_at = record.invited_at.or(record.answered_at);
        }
        facts.ended_at = record.ended_at.or(facts.ended_at);
        facts.operator.clone_from(&record.internal);
        if record.ended_at.is_some() {
            facts.outcome = Some(record.outcome.as_str().to_owned());
        }
        facts.duration_s = record.duration_s.or(facts.duration_s);
        facts.headers.clone_from(&record.headers);
        for recording in &record.recordings {
            match self.parts.iter_mut().find(|p| p.number == recording.part) {
                None => self.parts.push(DeliveryPart {
                    number: recording.part,
                    path: recording.path.clone(),
                    bytes: recording.bytes,
                    slice: None,
                    // An encrypted file cannot be sent to Pyrus.
                    state: match recording.plain_sha256 {
                        None => PartState::Waiting,
                        Some(_) => PartState::Dead { reason: String::from(ENCRYPTED) },
                    },
                }),
                // The recording may have been rendered again into another file, e.g. a smaller one after it was too
                // large.
                Some(part) if part.is_replaceable() && recording.plain_sha256.is_none() => {
                    part.path.clone_from(&recording.path);
                    part.bytes = recording.bytes;
                }
                Some(_) => {}
            }
        }
        self.parts.sort_by_key(DeliveryPart::sort_key);
    }

    /// Removes all parts that are not attached. Pyrus deletes files that were uploaded and never attached. A request to
    /// attach that was sent cannot be cancelled.
    fn discard_unsent_parts(&mut self) {
        self.parts.retain(|p| match p.state {
            PartState::Waiting | PartState::Uploading | PartState::Uploaded(_) | PartState::Dead { .. } => false,
            PartState::Attaching(_) | PartState::Attached(_) | PartState::Split => true,
        });
    }

    /// Ends the delivery, because a `no_register` rule was found to apply after the job had begun. An existing task
    /// stays in Pyrus; it gets no further data and no recording.
    pub(crate) fn forbid(&mut self, progress: CallProgress) {
        self.progress = self.progress.max(progress);
        self.is_forbidden = true;
        self.discard_unsent_parts();
        let reason = match self.registration {
            PyrusRegistration::Owed => FORBIDDEN,
            PyrusRegistration::Unsure => FORBIDDEN_UNSURE,
            PyrusRegistration::Sending | PyrusRegistration::Known { .. } => return,
        };
        self.status = JobStatus::Dead { reason: String::from(reason) };
    }

    /// Returns the number of files of this call that are attached in Pyrus.
    pub(crate) fn attached_count(&self) -> usize {
        self.parts.iter().filter(|p| matches!(p.state, PartState::Attached(_))).count()
    }

    /// Returns the job as a restarted process must see it: requests without a response have an unknown outcome.
    pub(crate) fn after_restart(mut self, now: Timestamp) -> Self {
        if self.registration == PyrusRegistration::Sending {
            self.registration = PyrusRegistration::Unsure;
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
        if self.end == EndNotice::Sending {
            self.end = EndNotice::Settled;
        }
        // Pauses are ended by a restart, because the administrator often restarts after a repair. Also, a stored time
        // may come from a wrong clock.
        match &mut self.status {
            JobStatus::Active { not_before } => *not_before = None,
            JobStatus::Parked { retry_at, .. } => *retry_at = now,
            JobStatus::Dead { .. } => {}
        }
        self
    }

    /// Returns the next request, to be sent at [`DeliveryJob::not_before`] or later. Returns `None` while a request of
    /// this job has no response yet, or if only a change of the call record can cause a request.
    pub(crate) fn step(&self) -> Option<DeliveryStep> {
        if matches!(self.status, JobStatus::Dead { .. }) {
            return None;
        }
        match self.registration {
            PyrusRegistration::Owed => Some(DeliveryStep::Register),
            PyrusRegistration::Sending => None,
            PyrusRegistration::Unsure => {
                self.part_step().or_else(|| self.is_blind_repeat().then_some(DeliveryStep::Register))
            }
            PyrusRegistration::Known { .. } => {
                self.part_step().or_else(|| self.owes_end().then_some(DeliveryStep::TellEnd))
            }
        }
    }

    /// Returns whether the call is over but Pyrus does not know its end, and no recording will bring it.
    fn owes_end(&self) -> bool {
        self.end == EndNotice::Untold
            && self.progress == CallProgress::Complete
            && self.facts.ended_at.is_some()
            && self.form_fields == FormFieldMode::Sent
            && !self.is_forbidden
            && self.open_part().is_none()
    }

    /// Returns whether a registration without a response must be repeated although Pyrus may have executed it. This
    /// happens once, for a call without a recording, where only a repeat ensures that the call is registered.
    pub(crate) fn is_blind_repeat(&self) -> bool {
        self.registration == PyrusRegistration::Unsure
            && self.progress == CallProgress::Complete
            && self.open_part().is_none()
            && self.retries.blind_repeats == 0
    }

    /// Returns the earliest time of the next request; `None` means at once.
    pub(crate) fn not_before(&self) -> Option<Timestamp> {
        match self.status {
            JobStatus::Active { not_before } => not_before,
            JobStatus::Parked { retry_at, .. } => Some(retry_at),
            JobStatus::Dead { .. } => None,
        }
    }

    /// Returns whether nothing remains to be sent. The job of a call in progress always has something left.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.status, JobStatus::Dead { .. })
            || (self.progress == CallProgress::Complete
                && matches!(self.registration, PyrusRegistration::Known { .. })
                && self.open_part().is_none()
                && !self.owes_end()
                && self.end != EndNotice::Sending)
    }

    /// Returns the reason why the call or a recording will be missing in Pyrus; `None` if nothing will be missing.
    pub(crate) fn failure_reason(&self) -> Option<&str> {
        if let JobStatus::Dead { reason } = &self.status {
            return Some(reason);
        }
        self.parts.iter().find_map(|p| match &p.state {
            PartState::Dead { reason } => Some(reason.as_str()),
            _ => None,
        })
    }

    /// Returns the id of the call's task in Pyrus; `None` if it is unknown.
    pub(crate) fn task_id(&self) -> Option<u64> {
        match self.registration {
            PyrusRegistration::Known { task_id } => task_id,
            PyrusRegistration::Owed | PyrusRegistration::Sending | PyrusRegistration::Unsure => None,
        }
    }

    /// Returns the stage of the delivery, as shown to people and used in queries.
    pub(crate) fn stage(&self) -> JobStage {
        if self.is_settled() {
            return if self.failure_reason().is_some() { JobStage::Dead } else { JobStage::Done };
        }
        if matches!(self.status, JobStatus::Parked { .. }) {
            return JobStage::Parked;
        }
        let part = self.open_part().and_then(|at| self.parts.get(at)).map(|p| &p.state);
        match (&self.registration, part) {
            (_, Some(PartState::Uploading)) => JobStage::Uploading,
            (_, Some(PartState::Attaching(_))) => JobStage::Attaching,
            (PyrusRegistration::Known { .. }, None) if self.end == EndNotice::Sending => JobStage::Attaching,
            (PyrusRegistration::Owed, _) => JobStage::New,
            (PyrusRegistration::Sending, _) => JobStage::Registering,
            (PyrusRegistration::Unsure, _) => JobStage::Unsure,
            (PyrusRegistration::Known { .. }, Some(PartState::Uploaded(_))) => JobStage::Uploaded,
            (PyrusRegistration::Known { .. }, _) => JobStage::Registered,
        }
    }

    /// Converts the job to its journal row.
    pub fn to_row(&self) -> JobRow {
        let upload = self.parts.iter().rev().find_map(|p| match &p.state {
            PartState::Uploaded(u) | PartState::Attaching(u) | PartState::Attached(u) => Some(u),
            PartState::Waiting | PartState::Uploading | PartState::Split | PartState::Dead { .. } => None,
        });
        let reason = match &self.status {
            JobStatus::Parked { reason, .. } => Some(reason.clone()),
            _ => self.failure_reason().map(String::from),
        };
        JobRow {
            id: self.id.clone(),
            stage: self.stage(),
            task_id: self.task_id(),
            guid: upload.map(|u| u.guid.clone()),
            md5: upload.map(|u| u.md5.clone()),
            attempts: self.retries.attempts,
            next_at: self.not_before(),
            note: reason.or_else(|| self.note.clone()),
            body: serde_json::to_string(self).expect("a job has string keys and finite numbers only"),
        }
    }

    /// Parses the job from its journal row.
    ///
    /// # Errors
    /// Returns an error if the body of the row is not a job.
    pub(crate) fn from_row(row: &JobRow) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&row.body)
    }

    fn open_part(&self) -> Option<usize> {
        self.parts
            .iter()
            .position(|p| !matches!(p.state, PartState::Attached(_) | PartState::Split | PartState::Dead { .. }))
    }

    fn part_step(&self) -> Option<DeliveryStep> {
        let at = self.open_part()?;
        match self.parts.get(at)?.state {
            PartState::Waiting => Some(DeliveryStep::Upload(at)),
            PartState::Uploaded(_) => Some(DeliveryStep::Attach(at)),
            _ => None,
        }
    }
}

/// Returns whether the call ended without an answer.
pub(crate) fn is_unanswered(record: &CallRecord) -> bool {
    record.answered_at.is_none() || record.outcome == CallOutcome::Abandoned
}

/// Reason text of a job that a `no_register` rule ended before the call was registered.
const FORBIDDEN: &str = "a no_register rule in the configuration excludes this call from Pyrus; nothing was sent";
/// Reason text of a job that a `no_register` rule ended while the outcome of the registration was unknown.
const FORBIDDEN_UNSURE: &str = "a no_register rule in the configuration excludes this call from Pyrus, but an earlier registration may have succeeded: check in the form whether the call is there";

/// Reason text of a part with an encrypted file.
const ENCRYPTED: &str = "the recording is encrypted and cannot be sent: decrypt it with the secret key (age -d -i KEYFILE) and attach it to the task by hand";
