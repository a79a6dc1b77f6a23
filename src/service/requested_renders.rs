//! The thread that renders calls again when a person asks for it (`calls render`).
//!
//! A rendering can take an hour on a busy machine. Therefore it has a thread of its own, and retention and encryption
//! ([`super::maintenance`]) go on meanwhile. They leave out a call that is being rendered.
//!
//! A request stays in the journal until its call is rendered. So a stop of the service loses no request.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::Context;

use super::clock::monotonic;
use super::render_process::RenderFailure;
use super::rerender::{LegLoss, rerender_by};
use super::worker::CallWorker;
use crate::call::event::EndedCall;
use crate::delivery::CallProgress;
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::thread::{StopSignal, StoppableThread};
use crate::spool::LegStore;

/// Starts the thread that renders calls again on request. `pauses` are the pauses after failures of the journal.
///
/// # Errors
/// Fails if the thread cannot be started.
pub(super) fn start(worker: CallWorker, pauses: &'static [Duration]) -> anyhow::Result<StoppableThread> {
    // The renderer increments the progress counter of this thread. So a long rendering does not count as a stall.
    let ticks = worker.ticks.clone();
    StoppableThread::start_with_ticks("rerender", ticks, move |stop| run(&worker, pauses, stop))
        .context("cannot start the thread that renders calls again")
}

fn run(worker: &CallWorker, pauses: &[Duration], stop: &StopSignal) {
    let (mut failures, mut is_unreadable) = (0, false);
    loop {
        let handled = handle_next(worker);
        if handled.is_ok() && std::mem::take(&mut is_unreadable) {
            tracing::info!("the requests to render calls again can be read again");
        }
        let pause = match handled {
            Ok(RequestProgress::Handled) => {
                failures = 0;
                Duration::ZERO
            }
            Ok(RequestProgress::None) => ROUND,
            Err(error) => {
                // The error lasts until a person acts, so only the first failure is logged.
                if !std::mem::replace(&mut is_unreadable, true) {
                    tracing::error!("the requests to render calls again cannot be read: {error:#}");
                }
                ROUND
            }
            // The request stays in the journal, so its call would be rendered again and again.
            Ok(RequestProgress::NotRemoved(error)) => {
                let pause = pauses.get(failures).or(pauses.last()).copied().unwrap_or(ROUND);
                tracing::error!("calls cannot be rendered again, the next try is in {} s: {error:#}", pause.as_secs());
                failures += 1;
                pause
            }
        };
        if is_stopped_within(stop, pause) {
            return;
        }
    }
}

/// Waits for a pause of any length, and marks the thread as alive meanwhile. Returns true at once when it must stop.
fn is_stopped_within(stop: &StopSignal, pause: Duration) -> bool {
    let end = monotonic() + pause;
    loop {
        let rest = end.saturating_duration_since(monotonic());
        if stop.is_stopped_within(rest.min(ROUND)) {
            return true;
        }
        if rest <= ROUND {
            return false;
        }
    }
}

/// Whether there was a request, and what became of it.
enum RequestProgress {
    Handled,
    /// The call was rendered, but the journal still has the request.
    NotRemoved(anyhow::Error),
    None,
}

/// Renders the first call that a person wants rendered again, and removes the request.
fn handle_next(worker: &CallWorker) -> anyhow::Result<RequestProgress> {
    let Some(id) = worker.journal.first_render_request()? else { return Ok(RequestProgress::None) };
    // The call may have made the renderer panic before, and a person wants another try. A panic is caught here, so that
    // this thread goes on.
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| render(worker, &id)));
    let error = match done {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(_) => Some(String::from("a bug in callspan stopped the rendering")),
    };
    if let Some(error) = error {
        worker.alerts.raise_for(&id, &AlarmCause::RequestedRenderFailed { error: &error });
    }
    match worker.journal.remove_render_request(&id) {
        Ok(_) => Ok(RequestProgress::Handled),
        Err(error) => Ok(RequestProgress::NotRemoved(error.into())),
    }
}

fn render(worker: &CallWorker, id: &str) -> anyhow::Result<()> {
    let _lock = worker.locks.lock(id, &worker.ticks);
    let render = |call: &EndedCall, store: &dyn LegStore, loss| {
        let record = match loss {
            LegLoss::Accepted => worker.renderer.record(call, store).map(|rendered| rendered.record),
            LegLoss::Refused => worker.renderer.record_whole(call, store),
        };
        record.map_err(|failure| match failure {
            RenderFailure::Passing(error) => error,
            RenderFailure::Broken(how) => {
                anyhow::anyhow!("the renderer failed because of a bug in callspan: {how}")
            }
        })
    };
    let record = rerender_by(&worker.journal, &worker.recorder, Some(&worker.store), id, &render)?;
    tracing::info!(call = id, "rendered again");
    // The call is passed to delivery before the lock on it ends, and its new file is encrypted only after that. Pyrus
    // cannot read an encrypted file.
    if let Some((_, registration)) = worker.journal.calls_to_announce()?.into_iter().find(|(c, _)| c.record.id == id) {
        worker.update_delivery(&record, CallProgress::Complete, registration);
    }
    Ok(())
}

/// Pause before the next look for a request.
const ROUND: Duration = Duration::from_secs(2);
