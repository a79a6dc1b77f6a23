//! Parts of a long call are made and owed while the call still lasts.
//!
//! # Invariants
//! - One piece of work at a time on one call ([`Turns`]): a part under way is finished before the rest is rendered.
//! - File, then row, then delivery, as for a whole call. A crash before the row leaves a file that the next start makes
//!   again, with the same bytes, and enters; a crash after it, a row of which delivery is told again. So there is no
//!   file without a row that stays so, no row without a file, and nothing is sent twice: delivery knows a part by its
//!   number.
//! - A part in a row is never rendered or written again: all that comes later takes it over from the row.
//! - A rule that forbids the call later takes its parts away: row first, then files, then delivery, which sends none
//!   of them any more. What Pyrus has already stays there, and the record says so.
//! - Retention leaves the parts of a call that is not complete alone.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use super::post_process::Worker;
use super::{maintenance, record_sync};
use crate::call::event::{DueParts, Registration};
use crate::call::record::{CallRecord, Verdict};
use crate::delivery::{Job, Progress};
use crate::journal::CallStage;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    busy: Mutex<HashSet<String>>,
    freed: Condvar,
    /// Live calls that a rule forbids.
    forbidden: Mutex<HashSet<String>>,
}

/// A call that is worked on until this is gone.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    id: String,
}

impl Turns {
    /// Waits until nobody else works on a call.
    pub(super) fn take(&self, id: &str) -> Turn<'_> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        while !busy.insert(id.to_owned()) {
            busy = self.freed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { turns: self, id: id.to_owned() }
    }

    /// From now on no part of this call gets its name.
    pub(super) fn forbid(&self, id: &str) {
        self.forbidden.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    }

    /// The call is over.
    pub(super) fn forget(&self, id: &str) {
        self.forbidden.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn is_forbidden(&self, id: &str) -> bool {
        self.forbidden.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.turns.freed.notify_all();
    }
}

impl Worker {
    /// Makes the parts of a live call that are full and not made yet.
    pub(super) fn make_parts(&self, due: &DueParts) -> anyhow::Result<()> {
        let id = &due.record.id;
        let _turn = self.turns.take(id);
        let mut due = due.clone();
        if let Some(stored) = self.journal.call(id)? {
            if stored.stage == CallStage::Complete {
                return Ok(());
            }
            due.record.take_parts(&stored.record);
        }
        let rendered = std::panic::catch_unwind(AssertUnwindSafe(|| self.recorder.render_segments(&due, &self.store)));
        let Ok(ready) = rendered else {
            // A bug, and the same again with the next try; the end of the call deals with it.
            tracing::error!(call = id, "a part of the recording cannot be rendered by a bug of callspan");
            return Ok(());
        };
        let Some(ready) = ready?.filter(|_| !self.turns.is_forbidden(id)) else { return Ok(()) };
        let mut record = due.record.clone();
        self.recorder.publish_segments(ready, &mut record)?;
        let to_tell = self.is_delivering().then_some(due.registration);
        let Some(mut record) = self.journal.put_segments(&record, to_tell)? else { return Ok(()) };
        tracing::info!(call = id, parts = record.recordings.len(), "parts of a call under way are ready");
        self.tell(&record, Progress::Live, due.registration);
        self.write_live(&mut record, due.registration)
    }

    /// Takes away the parts of a live call that a rule forbids.
    pub(super) fn withdraw(&self, id: &str) -> anyhow::Result<()> {
        let _turn = self.turns.take(id);
        if !self.take_away(id)? {
            return Ok(());
        }
        let Some(mut stored) = self.journal.call(id)? else { return Ok(()) };
        self.tell(&stored.record, Progress::Live, Registration::Allowed);
        self.write_live(&mut stored.record, Registration::Allowed)
    }

    /// A record that is about to be final: with the parts that were made while the call was live, or without them when a
    /// rule forbids the call. To be called in the call's turn.
    pub(super) fn settle_parts(&self, record: &mut CallRecord) -> anyhow::Result<()> {
        let excluded = record.verdict == Some(Verdict::Excluded);
        if excluded {
            self.take_away(&record.id)?;
        }
        if let Some(stored) = self.journal.call(&record.id)? {
            record.take_parts(&stored.record);
        }
        let sent = self.journal.job(&record.id)?.and_then(|row| Job::from_row(&row).ok()).map_or(0, |j| j.attached());
        if excluded && sent > 0 {
            let what = if sent == 1 { String::from("One part") } else { format!("{sent} parts") };
            let reason = record.verdict_reason.take().unwrap_or_default();
            record.verdict_reason = Some(format!("{reason} {what} had been delivered before: delete it in Pyrus."));
        }
        Ok(())
    }

    /// Whether there were any.
    fn take_away(&self, id: &str) -> anyhow::Result<bool> {
        let Some(record) = self.journal.withdraw_segments(id, maintenance::wall_clock(), FORBIDDEN)? else {
            return Ok(false);
        };
        for file in &record.recordings {
            maintenance::remove(Path::new(&file.path));
        }
        tracing::info!(call = id, parts = record.recordings.len(), "parts of a call that a rule forbids are removed");
        Ok(true)
    }

    /// The record beside the parts: what is left should the journal be lost.
    fn write_live(&self, record: &mut CallRecord, registration: Registration) -> anyhow::Result<()> {
        record_sync::mark(record, registration, (self.policy(), &self.journal))?;
        self.recorder.write_record(record)?;
        Ok(())
    }
}

const FORBIDDEN: &str = "A rule of the configuration forbids to record this call.";
