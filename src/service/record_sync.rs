//! What the records beside the recordings say of delivery and holds.
//!
//! Should the journal be lost, they are all that is left of what Pyrus was told. So a record says `owed` before
//! delivery is told of its call, and is written again when the delivery was settled or parked.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::call::event::Registration;
use crate::call::record::{CallRecord, DeliveryRecord, DeliveryState};
use crate::delivery::{Consent, Policy, Progress};
use crate::journal::{self, CallStage, Journal, StaleRecord, StoredCall};
use crate::recording::Recorder;

/// What delivery is told of a rule of the engine.
pub const fn consent(registration: Registration) -> Consent {
    match registration {
        Registration::Allowed => Consent::ByConfig,
        Registration::Forbidden => Consent::Forbidden,
    }
}

/// Writes into a record that is about to be final whether the call is held, and what is known of its delivery: what the
/// journal says, or that it is owed from now on. Without a policy nothing is delivered.
///
/// # Errors
/// When the journal cannot be read.
pub fn mark(
    record: &mut CallRecord,
    registration: Registration,
    (policy, journal): (Option<&Policy>, &Journal),
) -> journal::JournalResult<()> {
    record.held = journal.held(&record.id)?;
    if let Some(job) = journal.job(&record.id)? {
        record.delivery = job.to_record();
    } else if policy.is_some_and(|p| p.is_due(record, Progress::Complete, consent(registration))) {
        record.delivery = DeliveryRecord { state: DeliveryState::Owed, ..DeliveryRecord::default() };
    }
    Ok(())
}

/// Writes the next records again whose delivery was settled or parked: those after `after`, which is moved behind them.
/// Gives their number; 0: that was the end, and the next call begins anew.
///
/// # Errors
/// When the journal or a record cannot be written; it is done in another round, and the others of these all the same.
pub fn refresh(journal: &Journal, recorder: &Recorder, after: &mut String) -> anyhow::Result<usize> {
    let stale = journal.stale_records(after, BATCH)?;
    *after = stale.last().map(|last| last.id.clone()).unwrap_or_default();
    let mut failure = None;
    for stale in &stale {
        match write_again(journal, recorder, stale) {
            Ok(()) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(stale.len()), Err)
}

fn write_again(journal: &Journal, recorder: &Recorder, stale: &StaleRecord) -> anyhow::Result<()> {
    // A call that is not complete is marked when it is rendered; of a live one only parts have a record beside them.
    let is_there = |call: &StoredCall| match call.stage {
        CallStage::Complete => true,
        CallStage::Live => !call.record.recordings.is_empty(),
        CallStage::Ended => false,
    };
    if let Some(stored) = journal.call(&stale.id)?.filter(is_there) {
        recorder.write_record(&stored.record)?;
    }
    Ok(journal.records_refreshed(std::slice::from_ref(stale))?)
}

/// The thread that refreshes the records.
#[derive(Debug)]
pub struct Refresher {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Refresher {
    /// Starts it; what an earlier process left is refreshed first.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(journal: Journal, recorder: Recorder) -> anyhow::Result<Self> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let thread = std::thread::Builder::new()
            .name(String::from("records"))
            .spawn(move || work(&journal, &recorder, &stopped))
            .context("cannot start the records thread")?;
        Ok(Self { stop, thread })
    }

    /// Whether it has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Refreshes a last time and ends. Delivery must have ended.
    pub fn stop(self) {
        drop(self.stop);
        let _ = self.thread.join(); // a panic there was reported when it happened
    }
}

fn work(journal: &Journal, recorder: &Recorder, stopped: &Receiver<()>) {
    let mut complained = false;
    let mut after = String::new();
    loop {
        let is_last = stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout);
        loop {
            match refresh(journal, recorder, &mut after) {
                Ok(0) => break,
                Ok(_) => complained = false,
                Err(error) => {
                    if !complained {
                        tracing::error!("the records cannot be brought up to date: {error:#}");
                    }
                    complained = true;
                    break;
                }
            }
        }
        if is_last {
            return;
        }
    }
}

/// How often it is looked for records that are behind.
const LOOK: Duration = Duration::from_secs(1);
/// Records looked at in one go.
const BATCH: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::FolderLayout;
    use crate::recording::config::Config;
    use crate::time::Timestamp;

    #[test]
    fn a_record_that_cannot_be_written_holds_up_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open_in_memory().unwrap();
        let recorder =
            Recorder::new(Config { dir: dir.path().to_owned(), ..Config::default() }, FolderLayout::ByDay, None);
        // A day each, 1970-01-01 and the day after; the first folder is somebody else's file.
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
