//! Publishes an ended call: renders it, updates the journal, passes the call to delivery, and finally removes its spool
//! (the stored packets).

use std::path::Path;

use anyhow::Context;

use super::record_sync;
use super::render_process::{RenderFailure, RenderedCall};
use super::worker::{CallWorker, leg_rows};
use crate::call::event::{EndedCall, EndedLeg, LegId};
use crate::call::record::{CallRecord, CallVerdict, ProblemKind};
use crate::delivery::CallProgress;
use crate::journal::{CallStage, LegRow};
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::notify;
use crate::recording::create_private;
use crate::service::clock::wall_clock;
use crate::spool::LegStore as _;
use crate::spool::scrub::scrub;

impl CallWorker {
    /// Renders an ended call and passes it to delivery.
    ///
    /// The order is: write the files, update the journal, pass the call to delivery, remove the spool. After a crash
    /// between two of these steps, the next try or the next start repeats the remaining steps.
    pub(super) fn publish(&self, call: &EndedCall) -> anyhow::Result<()> {
        let _lock = self.locks.lock(&call.record.id, &self.ticks);
        let mut call = call.clone();
        self.settle_segments(&mut call.record)?;
        note_spools(&mut call);
        record_sync::mark(&mut call.record, call.registration, self.policy.as_ref(), &self.journal)?;
        self.check_spool_disk(&call.legs)?;
        let RenderedCall { record, broken } = match self.renderer.record(&call, &self.store) {
            Ok(rendered) => rendered,
            Err(RenderFailure::Passing(error)) => return Err(error),
            Err(RenderFailure::Broken(how)) => {
                let broken = call.legs.iter().map(|leg| leg.leg).collect();
                RenderedCall { record: self.write_failed_record(&call, &how)?, broken }
            }
        };
        if record.problems.iter().any(|p| matches!(p.kind, ProblemKind::RenderError | ProblemKind::SpoolError)) {
            self.check_spool_disk(&call.legs)?; // the disk may have gone away during the rendering
        }
        // The webhook message is queued before the call is marked complete. If a crash comes in between, the next try
        // queues a second message with the same key, which the outbox ignores.
        if let Some(outbox) = &self.outbox {
            notify::add_call(outbox, &record, wall_clock())?;
        }
        // The rows of the legs were first written when the call ended. They are written again here, because that write
        // may have failed.
        let announce_as = self.is_delivering().then_some(call.registration);
        self.journal.put_complete_call(&record, &leg_rows(&call), announce_as)?;
        self.update_delivery(&record, CallProgress::Complete, call.registration);
        log_finished(&record);
        self.locks.forget(&record.id);
        let is_broken = |leg: &EndedLeg| match broken.is_empty() {
            // If one of the spools could not be read, all spools (stored packets) of the call are kept.
            true => record.problems.iter().any(|p| p.kind == ProblemKind::RenderError),
            false => broken.contains(&leg.leg),
        };
        let (aside, rendered): (Vec<EndedLeg>, Vec<EndedLeg>) = call.legs.into_iter().partition(is_broken);
        self.set_spools_aside(&record.id, &aside);
        self.clear_spool(&record, &rendered);
        Ok(())
    }

    /// Fails if a leg has no spool file (stored packets) because the disk of the spool is not mounted. Such a call must
    /// wait for the disk. The next start removes the spools of complete calls.
    fn check_spool_disk(&self, legs: &[EndedLeg]) -> anyhow::Result<()> {
        if legs.iter().any(|leg| self.store.source(leg).is_none()) {
            self.store.check_disk()?;
        }
        Ok(())
    }

    /// Writes the record of a call that the renderer cannot handle, without a recording. The failure is a bug, so
    /// another try would not help.
    fn write_failed_record(&self, call: &EndedCall, how: &str) -> anyhow::Result<CallRecord> {
        let mut record = call.record.clone();
        record.verdict = Some(CallVerdict::Failed);
        record.verdict_reason =
            Some(format!("The call could not be rendered because of a bug in callspan ({how}); its packets are kept."));
        record.problems.push(ProblemKind::RenderError.problem());
        self.recorder.write_record(&record)?;
        Ok(record)
    }

    /// Removes the spools (the stored packets) of a complete call, because the next start would otherwise continue the
    /// call. With `recording.keep_pcap`, first copies the spools to the folder of the recording.
    fn clear_spool(&self, record: &CallRecord, legs: &[EndedLeg]) {
        for leg in legs {
            let path = self.store.path(&leg.name);
            if self.recorder.keeps_packets() && record.verdict != Some(CallVerdict::Excluded) && path.is_file() {
                let kept = self.recorder.kept_path(record, leg.index);
                if let Err(error) = keep_packets(&path, &kept) {
                    self.alerts.raise_for(&record.id, &AlarmCause::PacketsNotKept { error: &error });
                    continue;
                }
            }
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(call = record.id, "the spool of a complete call cannot be removed: {error}");
            }
        }
    }

    /// Removes the spools (stored packets) of complete calls that an earlier process did not remove, or sets them aside
    /// if they could not be rendered. Otherwise the calls would be continued, rendered and delivered a second time.
    pub(super) fn clear_completed(&self) -> anyhow::Result<()> {
        for path in self.store.list().context("the spool cannot be read")? {
            if path.metadata().is_ok_and(|file| file.len() == 0) {
                // The spool file is empty, because the earlier process ended before it wrote the first packet. So the
                // file is removed.
                let _ = std::fs::remove_file(&path);
                continue;
            }
            let Some(name) = path.file_stem().and_then(|s| s.to_str()) else { continue };
            let Some(owner) = self.journal.owner_of_leg(name)? else { continue };
            let (CallStage::Complete, Some(stored)) = (owner.stage, self.journal.call(&owner.call_id)?) else {
                continue;
            };
            let legs = ended_legs(&self.journal.legs(&owner.call_id)?);
            match stored.record.problems.iter().any(|p| p.kind == ProblemKind::RenderError) {
                // The earlier process ended before it set these spools aside, or could not rename them.
                true => self.set_spools_aside(&owner.call_id, &self.spooled(legs)),
                false => self.clear_spool(&stored.record, &legs),
            }
        }
        Ok(())
    }

    /// Returns the legs whose spool files (stored packets) are still under their first names.
    fn spooled(&self, mut legs: Vec<EndedLeg>) -> Vec<EndedLeg> {
        legs.retain(|leg| self.store.path(&leg.name).is_file());
        legs
    }

    /// Renames the spool files (stored packets) of legs that could not be rendered, so that the next start does not
    /// read them. A later version of callspan may be able to render them.
    fn set_spools_aside(&self, call: &str, legs: &[EndedLeg]) {
        if legs.is_empty() {
            return;
        }
        self.alerts.raise_for(call, &AlarmCause::LegsNotRendered { legs: legs.len() });
        for leg in legs {
            let path = self.store.path(&leg.name);
            if let Err(error) = std::fs::rename(&path, path.with_extension("pcapng.failed")) {
                tracing::warn!(call, "the spool of a failed leg cannot be renamed: {error}");
            }
        }
    }
}

/// Logs one line about a finished call, without telephone numbers.
fn log_finished(record: &CallRecord) {
    let verdict = record.verdict.and_then(|v| serde_json::to_value(v).ok());
    let verdict = verdict.as_ref().and_then(|v| v.as_str()).unwrap_or("unknown");
    let seconds = record.duration_s.unwrap_or(0.0);
    let delivery = serde_json::to_value(record.delivery.state).ok();
    let delivery = delivery.as_ref().and_then(|state| state.as_str()).unwrap_or("none");
    tracing::info!(call = record.id, verdict, seconds, delivery, "call finished");
}

/// Writes the names of the spool files (stored packets) into the legs of the record. So the call can be rendered again
/// even if the journal is lost.
fn note_spools(call: &mut EndedCall) {
    for leg in &call.legs {
        if let Some(record) = call.record.legs.get_mut(leg.index) {
            record.spool = Some(leg.name.clone());
            record.sides_swapped = !leg.same_sides;
        }
    }
}

/// Copies the spool file of a leg to `kept`, and removes keys and passwords from the signalling.
pub(super) fn keep_packets(spool: &Path, kept: &Path) -> std::io::Result<()> {
    let part = kept.with_extension("pcapng.part");
    let file = create_private(&part)?;
    scrub(spool, file).and_then(|()| std::fs::rename(&part, kept)).inspect_err(|_| {
        let _ = std::fs::remove_file(&part); // removes the incomplete copy
    })?;
    // The original spool is removed next. So the copy must be on the disk under its new name before that.
    kept.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}

/// Converts the journal's rows of legs to the type by which the engine reports ended legs.
pub(super) fn ended_legs(rows: &[LegRow]) -> Vec<EndedLeg> {
    let leg = |(n, row): (u64, &LegRow)| EndedLeg {
        leg: LegId(n),
        name: row.name.clone(),
        index: row.index as usize,
        same_sides: row.same_sides,
    };
    (0..).zip(rows).map(leg).collect()
}
