//! The rows that hold the state of all deliveries. They are plain values; the journal stores them in SQL.

use serde::Deserialize;

use crate::call::record::{DeliveryRecord, DeliveryState};
use crate::time::Timestamp;

/// A row that must be durable before the next request is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryRow {
    /// The state of one delivery.
    Job(JobRow),
    /// A form field that Pyrus refuses.
    Dropped(DroppedCode),
    /// The reason why no call can be delivered, for the administrator. `None` ends the alarm.
    Alarm(Option<String>),
}

/// The state of one delivery: columns for people and queries, and the whole job as `body`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobRow {
    /// The call's id, which is `external_id` in Pyrus.
    pub id: String,
    /// One of `new`, `registering`, `unsure`, `registered`, `uploading`, `uploaded`, `attaching`, `done`, `parked`,
    /// `dead`.
    pub stage: String,
    /// Id of the task in Pyrus.
    pub task_id: Option<u64>,
    /// Pyrus's id of the last upload.
    pub guid: Option<String>,
    /// MD5 of the last upload, lower-case hex.
    pub md5: Option<String>,
    /// Consecutive failures of the present step.
    pub attempts: u32,
    /// Earliest time of the next request.
    pub next_at: Option<Timestamp>,
    /// The last failure or warning and its remedy, for the administrator.
    pub note: Option<String>,
    /// The job as JSON.
    pub body: String,
}

/// A field code that Pyrus refused. Later requests leave it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedCode {
    /// The code, e.g. `CallDuration`.
    pub code: String,
    /// When Pyrus refused the code.
    pub at: Timestamp,
    /// The warning for the administrator.
    pub reason: String,
}

impl JobRow {
    /// Returns true if nothing remains to be delivered.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.stage.as_str(), "done" | "dead")
    }

    /// Converts the row to the `delivery` member of a call record.
    pub(crate) fn to_record(&self) -> DeliveryRecord {
        let state = match self.stage.as_str() {
            "done" => DeliveryState::Done,
            "parked" => DeliveryState::Parked,
            "dead" => DeliveryState::Dead,
            _ => DeliveryState::Owed,
        };
        let attached = if state == DeliveryState::Done { Vec::new() } else { self.attached() };
        let responsible = self.responsible();
        DeliveryRecord { state, task_id: self.task_id, responsible, attached, detail: self.note.clone() }
    }

    /// Returns the person whom Pyrus made responsible.
    fn responsible(&self) -> Option<String> {
        /// The member of the stored job's JSON that `responsible` needs.
        #[derive(Deserialize)]
        struct StoredResponsible {
            #[serde(default)]
            responsible: Option<String>,
        }
        serde_json::from_str::<StoredResponsible>(&self.body).ok()?.responsible
    }

    /// Returns the numbers of the recordings that are completely attached.
    pub(crate) fn attached(&self) -> Vec<u32> {
        /// The members of the stored job's JSON that `attached` needs.
        #[derive(Deserialize)]
        struct StoredJob {
            parts: Vec<StoredPart>,
        }
        #[derive(Deserialize)]
        struct StoredPart {
            number: u32,
            state: StoredPartState,
        }
        #[derive(Deserialize)]
        struct StoredPartState {
            is: String,
        }
        let parts = serde_json::from_str::<StoredJob>(&self.body).map(|body| body.parts).unwrap_or_default();
        parts.into_iter().filter(|p| p.state.is == "attached").map(|p| p.number).collect()
    }
}
