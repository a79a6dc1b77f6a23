//! What changes something: written into the journal for the service, or done here when no service lives.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;

use super::{HoldArgs, JournalLocation, RetryArgs, known};
use crate::call::record::{CallRecord, DeliveryState};
use crate::cmd::{EXIT_FAILED, table};
use crate::ops::output;
use crate::recording::{FolderLayout, Recorder};
use crate::service::lock::{self, LockError};
use crate::service::rerender::rerender;
use crate::spool::disk::DiskStore;
use crate::time::Timestamp;

pub(super) fn retry(place: &JournalLocation, args: &RetryArgs) -> anyhow::Result<ExitCode> {
    let journal = place.ask()?;
    let mut ids = args.ids.clone();
    if args.all {
        for stage in ["parked", "dead"] {
            ids.extend(journal.deliveries_in_stage(stage)?.into_iter().map(|(id, _)| id));
        }
    }
    let mut asked = 0;
    for id in &ids {
        let record = known(&journal, id)?.record;
        if journal.job(id)?.is_none() {
            bail!("nothing of call {id} is owed to Pyrus: the configuration or a rule keeps it from being registered");
        }
        if record.delivery.state == DeliveryState::Done {
            let task = record.delivery.task_id.map_or_else(String::new, |task| format!(" (task {task})"));
            output::result(&format!("call {id} is in Pyrus already{task}: nothing is sent again\n"))?;
            continue;
        }
        journal.request_retry(id)?;
        asked += 1;
    }
    if asked == 0 && !ids.is_empty() {
        return Ok(ExitCode::SUCCESS); // why, was said
    }
    let when = match service_lives(place) {
        true => "the service tries within seconds",
        false if place.of_replay => "the next `callspan replay --deliver` into this folder tries",
        false => "the service is not running: it tries when it starts",
    };
    output::result(&format!("{}: {when}\n", calls(asked, "to be delivered again")))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn render(place: &JournalLocation, ids: &[String]) -> anyhow::Result<ExitCode> {
    let journal = place.ask()?;
    for id in ids {
        known(&journal, id)?;
    }
    // Both: the renderers of a service work in the spool, delivery in the state.
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
            output::result(&format!("{what}: the service does it within seconds\n{notes}"))?;
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
    let journal = place.ask()?;
    known(&journal, &args.id)?;
    journal.hold(&args.id, wall_clock(), args.why.as_deref())?;
    output::result(&format!("call {} is held: nothing of it is removed until it is released\n", args.id))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn release(place: &JournalLocation, ids: &[String]) -> anyhow::Result<ExitCode> {
    let journal = place.ask()?;
    for id in ids {
        known(&journal, id)?;
        let said = if journal.release(id)? { "is released: retention applies again" } else { "was not held" };
        output::result(&format!("call {id} {said}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Pyrus has no way to replace a recording, and whether a second attachment is a second comment is not documented: that
/// is for a person to decide.
fn not_sent_again(record: &CallRecord) -> String {
    match (record.delivery.state, record.delivery.task_id) {
        (DeliveryState::Done, task) if !record.recordings.is_empty() => format!(
            "{}  is in Pyrus already{}: what is attached there stays as it is; attach the new file by hand if it is to be there\n",
            record.id,
            task.map_or_else(String::new, |task| format!(" (task {task})")),
        ),
        _ => String::new(),
    }
}

fn service_lives(place: &JournalLocation) -> bool {
    matches!(lock::acquire(&place.config.journal.dir), Err(LockError::Taken { .. }))
}

fn calls(count: usize, what: &str) -> String {
    if count == 1 { format!("1 call {what}") } else { format!("{count} calls {what}") }
}

#[expect(clippy::disallowed_methods, reason = "when somebody asked for a hold is the wall clock's time")]
fn wall_clock() -> Timestamp {
    Timestamp::EPOCH + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
