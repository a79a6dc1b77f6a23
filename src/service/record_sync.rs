//! Keeps the JSON call records beside the recordings up to date: the delivery state, and holds (requests to keep a
//! call).
//!
//! If the journal is lost, only the records show which calls Pyrus already has. Therefore a record says `owed` before
//! its call is passed to delivery. It is written again when the delivery is done or parked (waits for a person).

use std::time::Duration;

use anyhow::Context;

use super::delivered_parts::note_delivered_parts;
use crate::call::event::RegistrationPolicy;
use crate::call::record::{CallRecord, CallVerdict, DeliveryRecord, DeliveryState};
use crate::delivery::{CallProgress, DeliveryConsent, DeliveryPolicy};
use crate::journal::{self, CallStage, Journal, StaleRecord, StoredCall};
use crate::ops::thread::{StopSignal, StoppableThread};
use crate::recording::Recorder;

/// Converts the engine's decision whether a call may be registered in Pyrus to the type that delivery uses.
pub(crate) const fn consent(registration: RegistrationPolicy) -> DeliveryConsent {
    match registration {
        RegistrationPolicy::Allowed => DeliveryConsent::ByConfig,
        RegistrationPolicy::Forbidden => DeliveryConsent::Forbidden,
    }
}

/// Writes two facts into a record before the record becomes final: a person's request to keep the call (hold), and the
/// delivery state.
///
/// The delivery state comes from the journal. If the journal has no delivery job yet but `policy` wants the call
/// delivered, the record says `owed`.
///
/// # Errors
/// Fails if the journal cannot be read.
pub(crate) fn mark(
    record: &mut CallRecord,
    registration: RegistrationPolicy,
    policy: Option<&DeliveryPolicy>,
    journal: &Journal,
) -> journal::JournalResult<()> {
    record.held = journal.held(&record.id)?;
    if let Some(job) = journal.job(&record.id)? {
        record.delivery = job.to_record();
    } else if policy.is_some_and(|p| p.is_due(record, CallProgress::Complete, consent(registration))) {
        record.delivery = DeliveryRecord { state: DeliveryState::Owed, ..DeliveryRecord::default() };
    }
    Ok(())
}

/// Rewrites the next batch of records that are out of date according to the journal, in the order of their ids.
///
/// The batch begins after the call id `after`, which is then set to the last id of the batch. Returns the number of
/// records in the batch. After an empty batch, the next batch begins with the first id again.
///
/// # Errors
/// Fails if the journal or a record cannot be written. The other records of the batch are written all the same. Failed
/// records are tried again in the next round.
pub(crate) fn refresh(journal: &Journal, recorder: &Recorder, after: &mut String) -> anyhow::Result<usize> {
    let stale = journal.stale_records(after, BATCH)?;
    *after = stale.last().map(|last| last.id.clone()).unwrap_or_default();
    let mut failure = None;
    for stale in &stale {
        match rewrite(journal, recorder, stale) {
            Ok(()) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(stale.len()), Err)
}

fn rewrite(journal: &Journal, recorder: &Recorder, stale: &StaleRecord) -> anyhow::Result<()> {
    // An ended call gets its record when it is rendered. A call in progress has a record only if it has finished
    // segments (files of a long recording).
    let has_record = |call: &StoredCall| match call.stage {
        CallStage::Complete => true,
        CallStage::Live => !call.record.recordings.is_empty(),
        CallStage::Ended => false,
    };
    if let Some(mut stored) = journal.call(&stale.id)?.filter(has_record) {
        if stored.stage == CallStage::Complete
            && stored.record.verdict == Some(CallVerdict::Excluded)
            && note_delivered_parts(&mut stored.record, journal)?
        {
            journal.put_call(&stored.record, CallStage::Complete)?;
        }
        recorder.write_record(&stored.record)?;
    }
    Ok(journal.records_refreshed(std::slice::from_ref(stale))?)
}

/// Starts the thread that rewrites out-of-date records. When the thread is stopped, it rewrites them a last time. Stop
/// delivery before this thread, because records must also show the last changes of delivery.
///
/// # Errors
/// Fails if the thread cannot be started.
pub(super) fn start(journal: Journal, recorder: Recorder) -> anyhow::Result<StoppableThread> {
    StoppableThread::start("records", move |stop| run(&journal, &recorder, stop))
        .context("cannot start the records thread")
}

fn run(journal: &Journal, recorder: &Recorder, stop: &StopSignal) {
    let mut has_complained = false;
    let mut after = String::new();
    loop {
        let is_last = stop.is_stopped_within(INTERVAL);
        loop {
            match refresh(journal, recorder, &mut after) {
                Ok(0) => break,
                Ok(_) => has_complained = false,
                Err(error) => {
                    if !has_complained {
                        tracing::error!("the records beside the recordings cannot be updated: {error:#}");
                    }
                    has_complained = true;
                    break;
                }
            }
        }
        if is_last {
            return;
        }
    }
}

/// Pause between two batches of call records that are rewritten with the new state of their delivery.
const INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of call records that are rewritten in one batch.
const BATCH: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::FolderLayout;
    use crate::recording::config::Config;
    use crate::time::Timestamp;

    #[test]
    fn unwritable_record_does_not_delay_other_records() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open_in_memory().unwrap();
        let recorder =
            Recorder::new(Config { dir: dir.path().to_owned(), ..Config::default() }, FolderLayout::ByDay, None);
        // One call is on 1970-01-01, another on the next day. The folder of the first day cannot be created, because a
        // file has the same name. The record of the other call is written all the same.
        for (id, day) in [("a", 0), ("b", 1)] {
            let invited_at = Some(Timestamp::from_secs(day * 86_400));
            let record = CallRecord { id: String::from(id), invited_at, ..CallRecord::default() };
            journal.put_call(&record, CallStage::Complete).unwrap();
            journal.mark_record_stale(id).unwrap();
        }
        std::fs::create_dir_all(dir.path().join("1970/01")).unwrap();
        std::fs::write(dir.path().join("1970/01/01"), "").unwrap();
        let mut after = String::new();
        assert!(refresh(&journal, &recorder, &mut after).is_err());
        assert!(dir.path().join("1970/01/02/b.json").is_file());
        let left: Vec<String> = journal.stale_records("", 10).unwrap().into_iter().map(|s| s.id).collect();
        assert_eq!(left, ["a"]);
        assert_eq!(refresh(&journal, &recorder, &mut after).unwrap(), 0, "the end of the round");
        std::fs::remove_file(dir.path().join("1970/01/01")).unwrap();
        assert_eq!(refresh(&journal, &recorder, &mut after).unwrap(), 1);
        assert!(dir.path().join("1970/01/01/a.json").is_file());
    }
}
