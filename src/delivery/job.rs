//! The delivery of one call to Pyrus: its state, and the decision which request to send next.
//!
//! The journal stores this state as JSON, so the JSON keys must never change. If a Rust field is renamed,
//! `serde(rename)` keeps the old key.

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
    /// The call is over, but its recordings are not made yet.
    Ended,
    /// The call is over, and its record lists all its recordings.
    Complete,
}

/// Whether a call may be registered in Pyrus at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryConsent {
    /// The section `[pyrus]` of the configuration decides whether the call is registered in Pyrus.
    #[default]
    ByConfig,
    /// A rule with `no_register` in the configuration keeps the call out of Pyrus.
    Forbidden,
}

/// A new or changed call, as the recorder reports it to delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct CallUpdate {
    /// The record of the call as it is now.
    pub record: CallRecord,
    /// Progress of the call: in progress, over, or over with all its recordings made.
    pub progress: CallProgress,
    /// Whether the call may be registered in Pyrus.
    pub consent: DeliveryConsent,
}

/// The delivery of one call to Pyrus. The journal stores it as JSON, with everything that is needed to finish the
/// delivery after a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryJob {
    /// The call's id. Every request about the call contains it as `external_id`, so that Pyrus recognizes repeats.
    pub(crate) id: String,
    /// Progress of the call, from the ringing to its final record.
    pub(crate) progress: CallProgress,
    /// Data of the call that the requests contain, e.g. its numbers.
    pub(crate) facts: PyrusCallFacts,
    /// Whether the call is registered in Pyrus, according to the responses. This is unknown if the request to register
    /// got no response.
    pub(crate) registration: PyrusRegistration,
    /// The recordings of the call, or slices of those that are too large to upload whole. Sorted by recording and
    /// position.
    pub(crate) parts: Vec<DeliveryPart>,
    /// Whether the job continues, and when its next request may be sent.
    #[serde(rename = "standing")]
    pub(crate) status: JobStatus,
    /// Counts of the job's requests that failed or were repeated.
    #[serde(rename = "tries")]
    pub(crate) retries: RetryCounts,
    /// Whether requests contain the form fields of the Pyrus form.
    #[serde(rename = "fields")]
    pub(crate) form_fields: FormFieldMode,
    /// Number of requests that Pyrus may have executed twice, because the first attempt got no response.
    pub(crate) possible_duplicates: u32,
    /// Text about the last failure or warning, for the administrator; `None` if there was none.
    pub(crate) note: Option<String>,
    /// Whether Pyrus knows the end of the call. Jobs of earlier versions of callspan do not have this field. They count
    /// as if Pyrus knew the end.
    #[serde(default, skip_serializing_if = "EndNotice::is_settled")]
    pub(crate) end: EndNotice,
    /// Name of the person who is responsible for the Pyrus task, from the response to the request that registered the
    /// call; `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) responsible: Option<String>,
    /// Whether a `no_register` rule (it keeps calls out of Pyrus) turned out to apply after the job had begun. If true,
    /// nothing more is sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_forbidden: bool,
    /// The requests to Pyrus so far and their responses, to show them to people. Empty in jobs of earlier versions of
    /// callspan.
    #[serde(default, skip_serializing_if = "DeliveryStory::is_empty")]
    pub(crate) story: DeliveryStory,
}

/// Facts about the call for Pyrus. The numbers do not change after the call is registered there, so that all requests
/// of a call contain the same numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PyrusCallFacts {
    /// Direction of the call: inbound, outbound, internal or unknown.
    pub(crate) direction: CallDirection,
    /// Telephone number of the caller; `None` if it is hidden or unknown.
    pub(crate) from: Option<String>,
    /// Telephone number of the callee; `None` if unknown.
    pub(crate) to: Option<String>,
    /// Telephone extension of our PBX that took part in the call; `None` if unknown.
    pub(crate) internal: Option<String>,
    /// Capture time of the INVITE. If no INVITE was captured, it is the time at which the call was answered; `None` if
    /// neither was captured.
    pub(crate) started_at: Option<Timestamp>,
    /// Capture time of the end; `None` while the call is in progress.
    pub(crate) ended_at: Option<Timestamp>,
    /// Seconds from the answer to the end; `None` before the end and for unanswered calls.
    pub(crate) duration_s: Option<f64>,
    /// Values of SIP headers by header name: only headers that the configuration maps to form fields.
    pub(crate) headers: BTreeMap<String, String>,
    /// Telephone extension that spoke last, e.g. the target of a transfer; `None` if unknown. It can change after the
    /// registration in Pyrus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operator: Option<String>,
    /// Outcome of a call that is over, as the call record names it, e.g. `busy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<String>,
}

/// Whether the call is registered in Pyrus, according to the responses of Pyrus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(crate) enum PyrusRegistration {
    /// The call is not registered in Pyrus yet.
    Owed,
    /// The request to register the call in Pyrus was sent and has no response yet. After a restart this becomes
    /// [`PyrusRegistration::Unsure`].
    Sending,
    /// A request to register the call in Pyrus was sent, and its outcome is unknown. If a recording is expected, the
    /// request is not repeated. Attaching the recording by `external_id` alone will show whether the call is
    /// registered.
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
    /// Number of the part within the call. Recordings are counted from 1. Slices of a recording that is too large are
    /// counted from 100,000.
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
    /// Marks the part as attached, although the id of its file in Pyrus is unknown. Used after a loss of the journal,
    /// if the call record says that Pyrus has the part.
    fn mark_attached(&mut self) {
        let unknown = UploadReceipt { guid: String::new(), md5: String::new(), at: Timestamp::EPOCH };
        self.state = PartState::Attached(unknown);
    }

    /// Returns whether another file may replace this part (a recording file or a slice of it). Returns false once Pyrus
    /// may have data of the part.
    const fn is_replaceable(&self) -> bool {
        matches!(self.state, PartState::Waiting | PartState::Dead { .. })
    }

    /// Returns the sort key of the part within the call: the number of the recording, then the position in the file.
    pub(crate) fn sort_key(&self) -> (u32, u64) {
        self.slice.map_or((self.number, 0), |slice| (slice.part_number, slice.offset_bytes))
    }
}

/// How far the upload of one part (a recording file or a slice of it) has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(crate) enum PartState {
    /// The part (recording file or slice of it) is still to be uploaded.
    Waiting,
    /// The upload is in progress. After a restart of the service it begins again; Pyrus deletes the unused file.
    Uploading,
    /// Pyrus has the file, but it is not attached to a task yet.
    Uploaded(UploadReceipt),
    /// The request to attach the file was sent and has no response yet. After a restart of the service it is repeated
    /// with the same file.
    Attaching(UploadReceipt),
    /// The file is attached to the task.
    Attached(UploadReceipt),
    /// The file is too large and is sent in slices. [`DeliveryJob::parts`] has one part for each slice.
    Split,
    /// The file will not be sent, e.g. because Pyrus refused it.
    Dead {
        /// The reason why the file is not sent, as a sentence for the administrator.
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
    /// Wall-clock time at which Pyrus confirmed the upload.
    pub(crate) at: Timestamp,
}

/// Whether a delivery job continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(crate) enum JobStatus {
    /// The job has requests to send, or waits for the next change of the call.
    #[serde(rename = "going")]
    Active {
        /// End of the pause after a failure; `None` if no pause is needed.
        not_before: Option<Timestamp>,
    },
    /// The administrator must act. Until then the job is retried at long intervals.
    Parked {
        /// The reason why the administrator must act, as a sentence.
        #[serde(rename = "why")]
        reason: String,
        /// Time at which the job is tried again although nobody acted.
        retry_at: Timestamp,
        /// Number of times that the job was parked without a success in between.
        times: u32,
    },
    /// The job was given up. Nothing more is sent.
    Dead {
        /// The reason why the job was given up, as a sentence for the administrator.
        #[serde(rename = "why")]
        reason: String,
    },
}

/// Counts of a delivery job's requests that failed or were repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetryCounts {
    /// Number of consecutive failures of the current request, e.g. of an upload.
    pub(crate) attempts: u32,
    /// Number of failures of the current request with an error that allows few repeats, e.g. an invalid file name.
    pub(crate) limited: u32,
    /// Number of consecutive attempts of the current request that failed because Pyrus refused the access token.
    pub(crate) reauthorised: u32,
    /// Number of times that the call was registered again, because Pyrus did not know it when a file was attached.
    pub(crate) reregistered: u32,
    /// Number of uploads that were repeated because Pyrus did not know the file when it was attached.
    pub(crate) reuploaded: u32,
    /// Number of requests to register the call in Pyrus that were repeated although the outcome of the first is
    /// unknown. Only calls without a recording have such repeats.
    pub(crate) blind_repeats: u32,
}

/// Whether Pyrus knows the end of the call. This matters if a call is registered in Pyrus while it rings and then ends
/// without a recording. Then a separate request sends its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EndNotice {
    /// Pyrus does not know the end: no request that contains the end has succeeded yet.
    Untold,
    /// The request with the end was sent and has no response yet. After a restart of the service it is not repeated,
    /// because a repeat could add a second comment to the task.
    Sending,
    /// Pyrus knows the end of the call, or it refused the request that reports the end. A refused request is not
    /// repeated.
    #[default]
    Settled,
}

impl EndNotice {
    const fn is_settled(&self) -> bool {
        matches!(self, Self::Settled)
    }
}

/// Whether requests contain values for the fields of the Pyrus form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FormFieldMode {
    /// Requests contain the form fields.
    Sent,
    /// Requests leave out the form fields, because Pyrus refused a value. A call without form fields is better than no
    /// call.
    #[serde(rename = "left_out")]
    Omitted,
}

/// The next request that a job has to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryStep {
    /// Register the call in Pyrus, which creates or finds its task.
    Register,
    /// Upload the part (recording file or slice of it) at this index of [`DeliveryJob::parts`].
    Upload(usize),
    /// Attach the uploaded part (recording file or slice of it) at this index of [`DeliveryJob::parts`] to the task.
    Attach(usize),
    /// Send the end of the call to its task. Used only if the call has no recording.
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

    /// Rebuilds the job from the call record after the journal was lost. Returns `None` if the record says that nothing
    /// had to be delivered. A completed delivery stays complete. For any other delivery nobody knows which data Pyrus
    /// has. So its recordings are attached by `external_id` alone. Only if Pyrus replies that it does not know the
    /// call, the call is registered.
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

    /// Updates the job from the call record. Telephone numbers that Pyrus already got do not change. Recordings are
    /// added or replaced; they are removed only if a rule of the configuration now excludes the call.
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
                    // Pyrus cannot read an encrypted file, so it is not sent.
                    state: match recording.plain_sha256 {
                        None => PartState::Waiting,
                        Some(_) => PartState::Dead { reason: String::from(ENCRYPTED) },
                    },
                }),
                // A recording that was made again may have another file, e.g. a smaller file after the first file was
                // too large. Then the part gets the new file.
                Some(part) if part.is_replaceable() && recording.plain_sha256.is_none() => {
                    part.path.clone_from(&recording.path);
                    part.bytes = recording.bytes;
                }
                Some(_) => {}
            }
        }
        self.parts.sort_by_key(DeliveryPart::sort_key);
    }

    /// Removes all parts that are not attached to the task. Pyrus itself deletes files that were uploaded and never
    /// attached. A part stays if its request to attach was already sent, because that request cannot be cancelled.
    fn discard_unsent_parts(&mut self) {
        self.parts.retain(|p| match p.state {
            PartState::Waiting | PartState::Uploading | PartState::Uploaded(_) | PartState::Dead { .. } => false,
            PartState::Attaching(_) | PartState::Attached(_) | PartState::Split => true,
        });
    }

    /// Ends the delivery, because a `no_register` rule (it keeps calls out of Pyrus) turned out to apply after the job
    /// had begun. If Pyrus already has a task for the call, the task stays and gets no further data and no recording.
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

    /// Converts the job that the journal stored before a restart: each request without a response now has an unknown
    /// outcome.
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
        // All pauses end at the start of the service, because an administrator often restarts it after a repair. Also,
        // a clock that was wrong may have stored a time far in the future.
        match &mut self.status {
            JobStatus::Active { not_before } => *not_before = None,
            JobStatus::Parked { retry_at, .. } => *retry_at = now,
            JobStatus::Dead { .. } => {}
        }
        self
    }

    /// Returns the next request, to be sent at [`DeliveryJob::not_before`] or later. Returns `None` while a request of
    /// this job waits for its response. Returns `None` also if nothing is to be sent until the call record changes.
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

    /// Returns whether a request must send the end of the call. It must if the call is over, Pyrus does not know the
    /// end yet, and no recording will be attached.
    fn owes_end(&self) -> bool {
        self.end == EndNotice::Untold
            && self.progress == CallProgress::Complete
            && self.facts.ended_at.is_some()
            && self.form_fields == FormFieldMode::Sent
            && !self.is_forbidden
            && self.open_part().is_none()
    }

    /// Returns whether the request to register the call, which got no response, must be repeated although Pyrus may
    /// have executed it. This is done once, and only for a call without a recording: no later request shows whether the
    /// call is registered.
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

    /// Returns whether nothing of this job remains to be sent to Pyrus. Always false for a call in progress.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.status, JobStatus::Dead { .. })
            || (self.progress == CallProgress::Complete
                && matches!(self.registration, PyrusRegistration::Known { .. })
                && self.open_part().is_none()
                && !self.owes_end()
                && self.end != EndNotice::Sending)
    }

    /// Returns the reason why the call or one of its recordings will be missing in Pyrus; `None` if nothing will be
    /// missing.
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

    /// Returns the stage of the delivery, as people see it and as database queries use it.
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

/// Reason text of a job that a `no_register` rule ended before the call was registered in Pyrus.
const FORBIDDEN: &str = "a no_register rule in the configuration excludes this call from Pyrus; nothing was sent";
/// Reason text of a job that a `no_register` rule ended while it was unknown whether the call is registered in Pyrus.
const FORBIDDEN_UNSURE: &str = "a no_register rule in the configuration excludes this call from Pyrus. But an earlier registration may have succeeded: check in the form whether the call is there";

/// Reason text for a recording that is not sent because its file is encrypted.
const ENCRYPTED: &str = "the recording is encrypted and cannot be sent: decrypt it with the secret key (age -d -i KEYFILE), and attach it to the task";
