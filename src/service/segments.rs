//! Records and delivers the segments of a long call while the call is still in progress. Call records and Pyrus call a
//! segment a *part*.
//!
//! # Invariants
//! - Only one thread works on a call at a time ([`super::call_locks`]). So a segment is finished before another thread
//!   renders the rest of the call.
//! - The order is as for a whole call: write the file, add its row to the journal, pass the segment to delivery. If a
//!   crash comes before the row is written, the next start renders the same file again, byte for byte. If a crash comes
//!   later, the next start passes the segment to delivery again.
//! - Therefore every file gets a row, and every row has a file. Delivery identifies a segment by its number, so no
//!   segment is sent twice.
//! - A segment with a row is never rendered again. The final record gets the data of the segment from the row.
//! - If a rule later forbids to record the call, its segments are removed: first the rows, then the files. After that,
//!   delivery sends no further segment. A segment that Pyrus already has stays there, and the record says so.
//! - Retention removes no segment of a call that is not complete.

use std::path::Path;

use super::clock::wall_clock;
use super::delivered_parts::note_delivered_parts;
use super::render_process::RenderFailure;
use super::worker::CallWorker;
use super::{files, record_sync};
use crate::call::event::{DueSegments, RegistrationPolicy};
use crate::call::record::{CallRecord, CallVerdict};
use crate::delivery::CallProgress;
use crate::journal::CallStage;

impl CallWorker {
    /// Renders and publishes those segments (files of the recording) of a call in progress that are complete and not
    /// published yet.
    pub(super) fn publish_segments(&self, due: &DueSegments) -> anyhow::Result<()> {
        let id = &due.record.id;
        let _lock = self.locks.lock(id, &self.ticks);
        let mut due = due.clone();
        if let Some(stored) = self.journal.call(id)? {
            if stored.stage == CallStage::Complete {
                return Ok(());
            }
            due.record.take_parts(&stored.record);
        }
        let record = match self.renderer.record_segments(&due, &self.store) {
            Ok(None) => return Ok(()),
            Ok(Some(record)) => record,
            Err(RenderFailure::Passing(error)) => return Err(error),
            // A part of the recording could not be rendered, and another try would fail in the same way. So this
            // function gives up. When the call ends, the rest of the call is rendered as a whole.
            Err(RenderFailure::Broken(how)) => {
                tracing::error!(call = id, "a part cannot be rendered because of a bug in callspan: {how}");
                return Ok(());
            }
        };
        if self.locks.is_forbidden(id) {
            let is_new = |path: &str| due.record.recordings.iter().all(|known| known.path != path);
            record.recordings.iter().filter(|f| is_new(&f.path)).for_each(|f| files::remove(Path::new(&f.path)));
            return Ok(());
        }
        let to_tell = self.is_delivering().then_some(due.registration);
        let Some(mut record) = self.journal.put_segments(&record, to_tell)? else { return Ok(()) };
        tracing::info!(call = id, parts = record.recordings.len(), "parts of a live call are ready");
        self.update_delivery(&record, CallProgress::Live, due.registration);
        self.write_live_record(&mut record, due.registration)
    }

    /// Removes the published segments (files) of a call in progress, because a rule of the configuration now forbids to
    /// record the call.
    pub(super) fn withdraw_segments(&self, id: &str) -> anyhow::Result<()> {
        let _lock = self.locks.lock(id, &self.ticks);
        if !self.remove_segments(id)? {
            return Ok(());
        }
        let Some(mut stored) = self.journal.call(id)? else { return Ok(()) };
        self.update_delivery(&stored.record, CallProgress::Live, RegistrationPolicy::Allowed);
        self.write_live_record(&mut stored.record, RegistrationPolicy::Allowed)
    }

    /// Adds the published segments (files of the recording) to a record that is about to become final. If a rule of the
    /// configuration forbids to record the call, the segments are removed instead. The code that calls this function
    /// must hold the lock of the call.
    pub(super) fn settle_segments(&self, record: &mut CallRecord) -> anyhow::Result<()> {
        let excluded = record.verdict == Some(CallVerdict::Excluded);
        if excluded {
            self.remove_segments(&record.id)?;
        }
        if let Some(stored) = self.journal.call(&record.id)? {
            record.take_parts(&stored.record);
        }
        if excluded {
            note_delivered_parts(record, &self.journal)?;
        }
        Ok(())
    }

    /// Removes the segments (files of the recording) of a call, because a rule of the configuration forbids to record
    /// it. Returns whether the call had segments.
    fn remove_segments(&self, id: &str) -> anyhow::Result<bool> {
        let Some(record) = self.journal.withdraw_segments(id, wall_clock(), FORBIDDEN)? else { return Ok(false) };
        for file in &record.recordings {
            files::remove_recording(Path::new(&file.path));
        }
        tracing::info!(call = id, parts = record.recordings.len(), "parts of a call that a rule forbids are removed");
        Ok(true)
    }

    /// Writes the record of a call in progress beside the finished files of its recording. If the journal is lost, the
    /// call is restored from this record.
    fn write_live_record(&self, record: &mut CallRecord, registration: RegistrationPolicy) -> anyhow::Result<()> {
        record_sync::mark(record, registration, self.policy.as_ref(), &self.journal)?;
        self.recorder.write_record(record)?;
        Ok(())
    }
}

/// Reason for the removal of segments (files of a long recording). The journal stores it and `calls show` prints it.
const FORBIDDEN: &str = "A rule of the configuration forbids to record this call.";
