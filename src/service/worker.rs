//! [`CallWorker`]: gives each thread that works on calls access to journal, recorder, spool and delivery.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};

use super::call_locks::CallLocks;
use super::event_batch::CallState;
use super::record_sync::consent;
use super::render_process::CallRenderer;
use crate::call::event::{EndedCall, EndedLeg, RegistrationPolicy};
use crate::call::record::CallRecord;
use crate::delivery::{CallProgress, CallUpdate, DeliveryPolicy};
use crate::journal::outbox::Outbox;
use crate::journal::{self, CallStage, CallToStore, Journal, LegRow, SpoolFileState};
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::alerts::Alerts;
use crate::ops::supervision::TickCounter;
use crate::recording::Recorder;
use crate::spool::disk::DiskStore;

/// Works on a call that the engine has found: stores, renders and delivers the call. Clones share the same journal,
/// spool and locks.
#[derive(Clone)]
pub(super) struct CallWorker {
    pub(super) journal: Journal,
    pub(super) recorder: Recorder,
    pub(super) store: DiskStore,
    pub(super) alerts: Alerts,
    /// Outbox (messages stored on disk) for webhooks about finished calls; `None` if no webhook is configured.
    pub(super) outbox: Option<Outbox>,
    /// Rules that decide which calls are delivered; `None` if delivery is switched off.
    pub(super) policy: Option<DeliveryPolicy>,
    /// Channel to the delivery thread; `None` if delivery is switched off.
    pub(super) updates: Option<tokio::sync::mpsc::Sender<CallUpdate>>,
    pub(super) locks: Arc<CallLocks>,
    /// Renderer of the thread that owns this clone, with the thread's own worker process.
    pub(super) renderer: Arc<CallRenderer>,
    /// Counter of the progress of the thread that owns this clone. The supervision of threads reads it.
    pub(super) ticks: TickCounter,
}

impl CallWorker {
    /// Creates a clone for another thread. The clone has a separate worker process, and a separate counter for the
    /// supervision of threads.
    pub(super) fn for_thread(&self) -> Self {
        let ticks = TickCounter::default();
        Self { renderer: Arc::new(self.renderer.for_thread(ticks.clone())), ticks, ..self.clone() }
    }

    /// Removes a call in progress from the journal, because the engine has merged it into another call. The engine
    /// reports this only for a call that was not registered in Pyrus yet.
    pub(super) fn forget_absorbed(&self, id: &str) {
        if let Err(error) = self.journal.forget_live_call(id) {
            self.raise_journal_alarm(id, &error);
        }
    }

    /// Stores new states of calls in the journal. Returns the records of these calls. To each record, adds the finished
    /// parts of the recording (segments) that the journal already has.
    pub(super) fn store_states(&self, states: &[CallState]) -> Vec<CallRecord> {
        let is_delivering = self.is_delivering();
        let calls: Vec<CallToStore<'_>> = states.iter().map(|state| to_store(state, is_delivering)).collect();
        if calls.is_empty() {
            return Vec::new();
        }
        self.journal.put_calls_with_segments(&calls).unwrap_or_else(|error| {
            let first = states.first().map_or("", CallState::id);
            self.raise_journal_alarm(first, &error);
            calls.iter().map(|call| call.record.clone()).collect()
        })
    }

    /// Waits until the stored states of calls are on the disk.
    pub(super) fn sync_states(&self) {
        if let Err(error) = self.journal.sync_states() {
            self.raise_journal_alarm("", &error);
        }
    }

    /// Sends a call's record to the delivery thread, if calls are delivered.
    pub(super) fn update_delivery(
        &self,
        record: &CallRecord,
        progress: CallProgress,
        registration: RegistrationPolicy,
    ) {
        let Some(updates) = &self.updates else { return };
        let update = CallUpdate { record: record.clone(), progress, consent: consent(registration) };
        if !self.send_patiently(updates, update) {
            tracing::error!(call = record.id, "delivery has ended; the call is handed to it at the next start");
        }
    }

    /// Sends an update to the delivery thread, and waits while its queue is full. If a disk is full, this can take
    /// long, so the wait counts as progress for the supervision of threads. Returns false if delivery has ended.
    #[expect(clippy::disallowed_methods, reason = "an IO module: a full queue is waited for")]
    fn send_patiently(&self, updates: &mpsc::Sender<CallUpdate>, mut update: CallUpdate) -> bool {
        loop {
            match updates.try_send(update) {
                Ok(()) => return true,
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(returned)) => update = returned,
            }
            self.ticks.tick();
            std::thread::sleep(QUEUE_CHECK);
        }
    }

    /// Returns whether calls are delivered to Pyrus.
    pub(super) const fn is_delivering(&self) -> bool {
        self.updates.is_some()
    }

    fn raise_journal_alarm(&self, id: &str, error: &journal::Error) {
        self.alerts.raise_for(id, &AlarmCause::JournalNotWritten { error });
    }
}

fn to_store(state: &CallState, is_delivering: bool) -> CallToStore<'_> {
    let (record, stage, legs, registration) = match state {
        CallState::Live(call) => (&call.record, CallStage::Live, Vec::new(), call.registration),
        CallState::Ended(call) => (&call.record, CallStage::Ended, leg_rows(call), call.registration),
    };
    CallToStore { record, stage, legs, announce_as: is_delivering.then_some(registration) }
}

/// Converts the legs of an ended call to rows of the journal.
pub(super) fn leg_rows(call: &EndedCall) -> Vec<LegRow> {
    let row = |leg: &EndedLeg| LegRow {
        name: leg.name.clone(),
        index: u32::try_from(leg.index).unwrap_or(u32::MAX),
        same_sides: leg.same_sides,
        state: SpoolFileState::Closed,
    };
    call.legs.iter().map(row).collect()
}

/// Interval between checks whether the full queue to the delivery thread has room.
const QUEUE_CHECK: Duration = Duration::from_millis(5);
