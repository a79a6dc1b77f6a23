//! [`CallWorker`]: the journal, recorder, spool and delivery that every thread working on calls shares.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};

use super::call_locks::CallLocks;
use super::record_sync::consent;
use super::render_process::CallRenderer;
use crate::call::event::{EndedCall, RegistrationPolicy};
use crate::call::record::CallRecord;
use crate::delivery::{CallProgress, CallUpdate, DeliveryPolicy};
use crate::journal::outbox::Outbox;
use crate::journal::{self, CallStage, Journal, LegRow, SpoolFileState};
use crate::ops::alerts::{AlarmKind, Alerts};
use crate::ops::supervision::TickCounter;
use crate::recording::Recorder;
use crate::spool::disk::DiskStore;

/// Does the work on calls after the engine. Clones share the same journal, spool and locks.
#[derive(Clone)]
pub(super) struct CallWorker {
    pub(super) journal: Journal,
    pub(super) recorder: Recorder,
    pub(super) store: DiskStore,
    /// True: the packets of a call are kept beside its recording (`recording.keep_pcap`).
    pub(super) keep_pcap: bool,
    pub(super) alerts: Alerts,
    /// Outbox for the webhook of finished calls; `None`: there is no webhook.
    pub(super) outbox: Option<Outbox>,
    /// Decides which calls are delivered; `None` when delivery is switched off.
    pub(super) policy: Option<DeliveryPolicy>,
    /// Way to the delivery thread; `None` when delivery is switched off.
    pub(super) updates: Option<tokio::sync::mpsc::Sender<CallUpdate>>,
    pub(super) locks: Arc<CallLocks>,
    /// Renders in a worker process of the thread that owns this clone.
    pub(super) renderer: Arc<CallRenderer>,
    /// Rounds of the thread that owns this clone.
    pub(super) ticks: TickCounter,
}

impl CallWorker {
    /// Creates a clone for another thread.
    pub(super) fn for_thread(&self) -> Self {
        let ticks = TickCounter::default();
        Self { renderer: Arc::new(self.renderer.for_thread(ticks.clone())), ticks, ..self.clone() }
    }

    /// Stores a call in the journal. Returns its record with the segments that the journal already has.
    pub(super) fn store_call(
        &self,
        record: &CallRecord,
        stage: CallStage,
        registration: RegistrationPolicy,
    ) -> CallRecord {
        let to_tell = self.is_delivering().then_some(registration);
        self.journal.put_call_with_segments(record, stage, to_tell).unwrap_or_else(|error| {
            self.raise_journal_alarm(&record.id, &error);
            record.clone()
        })
    }

    /// Removes a live call from the journal, because it turned out to be part of another call. Delivery did not register
    /// it.
    pub(super) fn forget_absorbed(&self, id: &str) {
        if let Err(error) = self.journal.forget_live_call(id) {
            self.raise_journal_alarm(id, &error);
        }
    }

    /// Stores the legs of an ended call; raises an alarm when the journal cannot be written.
    pub(super) fn store_legs_or_alarm(&self, call: &EndedCall) {
        if let Err(error) = self.store_legs(call) {
            self.raise_journal_alarm(&call.record.id, &error);
        }
    }

    /// Stores the legs of an ended call in the journal.
    pub(super) fn store_legs(&self, call: &EndedCall) -> journal::JournalResult<()> {
        call.legs.iter().try_for_each(|leg| {
            let index = u32::try_from(leg.index).unwrap_or(u32::MAX);
            let row =
                LegRow { name: leg.name.clone(), index, same_sides: leg.same_sides, state: SpoolFileState::Closed };
            self.journal.put_leg(&call.record.id, &row)
        })
    }

    /// Sends a call's record to the delivery thread.
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

    /// Sends an update, and waits while the queue is full. The wait can last as long as a disk is full, so it counts as
    /// progress. Returns false if delivery has ended.
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

    /// Returns true if calls are delivered to Pyrus.
    pub(super) const fn is_delivering(&self) -> bool {
        self.updates.is_some()
    }

    fn raise_journal_alarm(&self, id: &str, error: &journal::Error) {
        let detail = format!("the journal cannot be written: {error}");
        self.alerts.raise_for(AlarmKind::JournalDamaged, id, &detail);
    }
}

/// How often a full queue to delivery is checked.
const QUEUE_CHECK: Duration = Duration::from_millis(5);
