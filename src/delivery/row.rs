//! The rows that store the state of all deliveries. The rows are plain values here; the module `journal` writes them to
//! SQLite.

use serde::Deserialize;

use super::story::DeliveryStory;
use crate::call::record::{DeliveryRecord, DeliveryState};
use crate::time::Timestamp;

/// A row of delivery for the journal. It must be on the disk before the next request to Pyrus is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryRow {
    /// The state of one delivery (one call).
    Job(JobRow),
    /// A form field that Pyrus refuses. Later requests leave it out.
    Dropped(DroppedCode),
    /// Alarm for the administrator: the reason why no call can be delivered. `None` ends the alarm.
    Alarm(Option<String>),
}

/// The state of one delivery. `body` has the whole job; the other columns repeat parts of it for people and queries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobRow {
    /// The call's id. Requests to Pyrus contain it as `external_id`.
    pub id: String,
    /// Stage of the delivery, e.g. that a recording is being uploaded.
    pub stage: JobStage,
    /// Id of the task in Pyrus; `None` if unknown.
    pub task_id: Option<u64>,
    /// Id that Pyrus gave to the last uploaded file; `None` before the first upload.
    pub guid: Option<String>,
    /// MD5 of the last uploaded file, lower-case hexadecimal; `None` before the first upload.
    pub md5: Option<String>,
    /// Number of consecutive failures of the current request, e.g. of an upload.
    pub attempts: u32,
    /// Earliest time of the next request; `None` means at once.
    pub next_at: Option<Timestamp>,
    /// The last failure or warning with its remedy, for the administrator; `None` if there was none.
    pub note: Option<String>,
    /// The whole job as JSON. After a restart the delivery continues from it.
    pub body: String,
}

/// Stage of a delivery, as people see it and as database queries use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JobStage {
    /// The call is not registered in Pyrus yet.
    #[default]
    New,
    /// The request that registers the call in Pyrus is in flight.
    Registering,
    /// It is unknown whether a request to register the call in Pyrus has succeeded.
    Unsure,
    /// The call is registered in Pyrus, and no upload has begun.
    Registered,
    /// A recording is being uploaded.
    Uploading,
    /// A recording was uploaded and is not attached yet.
    Uploaded,
    /// The request that attaches a recording, or that sends the end of the call, is in flight.
    Attaching,
    /// Everything of the call is delivered.
    Done,
    /// The delivery waits for an administrator.
    Parked,
    /// The delivery was given up, so the call or a recording is missing in Pyrus.
    Dead,
}

impl JobStage {
    /// All stages, in the order of a delivery. `Parked` and `Dead` come last.
    pub const ALL: [Self; 10] = [
        Self::New,
        Self::Registering,
        Self::Unsure,
        Self::Registered,
        Self::Uploading,
        Self::Uploaded,
        Self::Attaching,
        Self::Done,
        Self::Parked,
        Self::Dead,
    ];

    /// Returns the word by which the journal names the stage.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Registering => "registering",
            Self::Unsure => "unsure",
            Self::Registered => "registered",
            Self::Uploading => "uploading",
            Self::Uploaded => "uploaded",
            Self::Attaching => "attaching",
            Self::Done => "done",
            Self::Parked => "parked",
            Self::Dead => "dead",
        }
    }

    /// Returns the stage for a word in the journal; `None` for an unknown word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == word)
    }

    /// Returns whether nothing remains to be delivered in this stage.
    pub(crate) const fn is_settled(self) -> bool {
        matches!(self, Self::Done | Self::Dead)
    }

    /// Returns the state of delivery that call records show for this stage.
    pub(crate) const fn delivery_state(self) -> DeliveryState {
        match self {
            Self::Done => DeliveryState::Done,
            Self::Parked => DeliveryState::Parked,
            Self::Dead => DeliveryState::Dead,
            _ => DeliveryState::Owed,
        }
    }
}

/// The code of a form field that Pyrus refused. Later requests leave the field out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedCode {
    /// Code by which Pyrus identifies the form field, e.g. `CallDuration`.
    pub code: String,
    /// Wall-clock time at which Pyrus refused the code.
    pub at: Timestamp,
    /// The warning about the refused form field that the administrator sees.
    pub reason: String,
}

impl JobRow {
    /// Returns whether nothing remains to be delivered for this call.
    pub(crate) fn is_settled(&self) -> bool {
        self.stage.is_settled()
    }

    /// Converts the row to the member `delivery` of a call record.
    pub(crate) fn to_record(&self) -> DeliveryRecord {
        let state = self.stage.delivery_state();
        let attached = if state == DeliveryState::Done { Vec::new() } else { self.attached() };
        let responsible = self.responsible();
        DeliveryRecord { state, task_id: self.task_id, responsible, attached, detail: self.note.clone() }
    }

    /// Returns the person whom Pyrus made responsible for the task; `None` if unknown.
    fn responsible(&self) -> Option<String> {
        /// The member of the job's JSON that names the responsible person.
        #[derive(Deserialize)]
        struct StoredResponsible {
            #[serde(default)]
            responsible: Option<String>,
        }
        serde_json::from_str::<StoredResponsible>(&self.body).ok()?.responsible
    }

    /// Returns the requests of the delivery so far, with the responses of Pyrus.
    pub(crate) fn story(&self) -> DeliveryStory {
        /// The member of the job's JSON that contains the requests to Pyrus and their responses.
        #[derive(Deserialize)]
        struct StoredStory {
            #[serde(default)]
            story: DeliveryStory,
        }
        serde_json::from_str::<StoredStory>(&self.body).map(|body| body.story).unwrap_or_default()
    }

    /// Returns the numbers of the recordings that are attached with all their slices.
    pub(crate) fn attached(&self) -> Vec<u32> {
        /// The member of the job's JSON that lists the recordings and their states.
        #[derive(Deserialize)]
        struct StoredJob {
            parts: Vec<StoredPart>,
        }
        #[derive(Deserialize)]
        struct StoredPart {
            number: u32,
            state: StoredPartState,
        }
        #[derive(PartialEq, Deserialize)]
        #[serde(rename_all = "snake_case", tag = "is")]
        enum StoredPartState {
            Attached,
            #[serde(other)]
            Other,
        }
        let parts = serde_json::from_str::<StoredJob>(&self.body).map(|body| body.parts).unwrap_or_default();
        parts.into_iter().filter(|p| p.state == StoredPartState::Attached).map(|p| p.number).collect()
    }
}
