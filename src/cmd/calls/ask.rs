//! The requests of `calls`: `retry`, `render`, `hold` and `release`.
//!
//! The command writes a request into the journal, and the running service reads the request there. If no service is
//! running, the command itself executes `render`.

use std::process::ExitCode;

use anyhow::bail;

use super::{HoldArgs, JournalLocation, RetryArgs, known};
use crate::call::record::{CallRecord, DeliveryState};
use crate::cmd::{EXIT_FAILED, table};
use crate::delivery::JobStage;
use crate::ops::output;
use crate::recording::{FolderLayout, Recorder};
use crate::service::clock::wall_clock;
use crate::service::lock::{self, LockError};
use crate::service::rerender::rerender;
use crate::spool::disk::DiskStore;

pub(super) fn retry(place: &JournalLocation, args: &RetryArgs) -> anyhow::Result<ExitCode> {
    let journal = place.open_for_requests()?;
    let mut ids = args.ids.clone();
    if args.all {
        for stage in [JobStage::Parked, JobStage::Dead] {
            ids.extend(journal.deliveries_in_stage(stage)?.into_iter().map(|(id, _)| id));
        }
    }
    let mut asked = 0;
    for id in &ids {
        let record = known(&journal, id)?.record;
        if journal.job(id)?.is_none() {
            bail!(
                "call {id} is not to be delivered: the configuration or a rule excludes it from registration in Pyrus"
            );
        }
        if record.delivery.state == DeliveryState::Done {
            let task = record.delivery.task_id.map_or_else(String::new, |task| format!(" (task {task})"));
            output::result(&format!("call {id} is already in Pyrus{task}: nothing is sent again\n"))?;
            continue;
        }
        journal.request_retry(id)?;
        asked += 1;
    }
    if asked == 0 && !ids.is_empty() {
        return Ok(ExitCode::SUCCESS); // the note above says why nothing was done
    }
    let when = match is_service_running(place) {
        true => "the service delivers within seconds",
        false if place.of_replay => "the next `callspan replay --deliver` into this folder delivers",
        false => "the service is not running: it delivers when it starts",
    };
    output::result(&format!("{}: {when}\n", calls(asked, "to be delivered again")))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn render(place: &JournalLocation, ids: &[String]) -> anyhow::Result<ExitCode> {
    let journal = place.open_for_requests()?;
    for id in ids {
        known(&journal, id)?;
    }
    // A running service holds the locks of the spool folder and the state folder. If this command can lock both
    // folders, no service is running.
    let taken = lock::acquire(&place.config.spool.dir).and_then(|s| Ok((s, lock::acquire(&place.config.journal.dir)?)));
    let _locks = match taken {
        Ok(locks) => locks,
        Err(LockError::Taken { .. }) => {
            let mut notes = String::new();
            for id in ids {
                journal.request_render(id)?;
                notes.push_str(&not_sent_again(&known(&journal, id)?.record));
            }
            let what = calls(ids.len(), "to be rendered");
            output::result(&format!("{what}: the service renders within seconds\n{notes}"))?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    let layout = if place.of_replay { FolderLayout::Flat } else { FolderLayout::ByDay };
    let limit = place.config.pyrus.enabled.then(|| u64::from(place.config.pyrus.max_upload_mib) << 20);
    let recorder = Recorder::new(place.config.recording.clone(), layout, limit);
    let store = DiskStore::new(place.config.spool.dir.clone());
    let mut failed = 0;
    for id in ids {
        match rerender(&journal, &recorder, Some(&store), id) {
            Ok(record) => {
                let verdict = record.verdict.map_or("under way", table::verdict);
                output::result(&format!("{id}  {verdict}\n{}", not_sent_again(&record)))?;
            }
            Err(error) => {
                failed += 1;
                output::complain(&error);
            }
        }
    }
    output::result(&format!("{}\n", calls(ids.len() - failed, "rendered")))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

pub(super) fn hold(place: &JournalLocation, args: &HoldArgs) -> anyhow::Result<ExitCode> {
    let journal = place.open_for_requests()?;
    known(&journal, &args.id)?;
    journal.hold(&args.id, wall_clock(), args.why.as_deref())?;
    output::result(&format!("call {} is held: nothing of it is removed until you release it\n", args.id))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn release(place: &JournalLocation, ids: &[String]) -> anyhow::Result<ExitCode> {
    let journal = place.open_for_requests()?;
    for id in ids {
        known(&journal, id)?;
        let said = if journal.release(id)? { "is released: retention applies again" } else { "was not held" };
        output::result(&format!("call {id} {said}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns a note for a call that Pyrus already has: its new recording is not sent. Pyrus cannot replace a recording,
/// and its documentation does not describe a second attachment. So a person must decide.
fn not_sent_again(record: &CallRecord) -> String {
    match (record.delivery.state, record.delivery.task_id) {
        (DeliveryState::Done, task) if !record.recordings.is_empty() => format!(
            "{}  is already in Pyrus{}: the recording there stays as it is; attach the new file by hand if you need it there\n",
            record.id,
            task.map_or_else(String::new, |task| format!(" (task {task})")),
        ),
        _ => String::new(),
    }
}

fn is_service_running(place: &JournalLocation) -> bool {
    matches!(lock::acquire(&place.config.journal.dir), Err(LockError::Taken { .. }))
}

fn calls(count: usize, what: &str) -> String {
    if count == 1 { format!("1 call {what}") } else { format!("{count} calls {what}") }
}
