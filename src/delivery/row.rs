//! The rows in which the state of all deliveries is kept: plain values; the journal stores them in SQL.

use serde::Deserialize;

use crate::call::record::{DeliveryRecord, DeliveryState};
use crate::time::Timestamp;

/// Something that must be durable before the next request is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryRow {
    /// The state of one delivery.
    Job(JobRow),
    /// A form field that Pyrus does not take.
    Dropped(DroppedCode),
    /// What keeps everything from being delivered and needs a person; `None` when it is over.
    Alarm(Option<String>),
}

/// One delivery: columns for people and queries, and the whole job as `body`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobRow {
    /// The call's id, external_id in Pyrus.
    pub id: String,
    /// `new`, `registering`, `unsure`, `registered`, `uploading`, `uploaded`, `attaching`, `done`, `parked`, `dead`.
    pub stage: String,
    /// The Pyrus task.
    pub task_id: Option<u64>,
    /// Pyrus's id of the last upload.
    pub guid: Option<String>,
    /// Of the last upload, lower-case hex.
    pub md5: Option<String>,
    /// Failed attempts of the present step.
    pub attempts: u32,
    /// Not before this moment.
    pub next_at: Option<Timestamp>,
    /// For a person: the last trouble, or what they must do.
    pub note: Option<String>,
    /// JSON.
    pub body: String,
}

/// A field code that Pyrus named as unacceptable: it is left out from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedCode {
    /// `CallDuration`, …
    pub code: String,
    /// When.
    pub at: Timestamp,
    /// What Pyrus said.
    pub reason: String,
}

impl JobRow {
    /// Nothing is owed any more.
    pub fn is_settled(&self) -> bool {
        matches!(self.stage.as_str(), "done" | "dead")
    }

    /// As the call record tells it.
    pub fn to_record(&self) -> DeliveryRecord {
        let state = match self.stage.as_str() {
            "done" => DeliveryState::Done,
            "parked" => DeliveryState::Parked,
            "dead" => DeliveryState::Dead,
            _ => DeliveryState::Owed,
        };
        let attached = if state == DeliveryState::Done { Vec::new() } else { self.attached() };
        DeliveryRecord { state, task_id: self.task_id, attached, detail: self.note.clone() }
    }

    /// The parts of the recording that Pyrus has whole.
    pub fn attached(&self) -> Vec<u32> {
        /// What of a job matters here.
        #[derive(Deserialize)]
        struct Body {
            parts: Vec<Part>,
        }
        #[derive(Deserialize)]
        struct Part {
            number: u32,
            state: State,
        }
        #[derive(Deserialize)]
        struct State {
            is: String,
        }
        let parts = serde_json::from_str::<Body>(&self.body).map(|body| body.parts).unwrap_or_default();
        parts.into_iter().filter(|p| p.state.is == "attached").map(|p| p.number).collect()
    }
}
