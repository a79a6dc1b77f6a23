//! What happens to a call after the engine: journal, rendering, delivery.

use std::collections::HashSet;
use std::thread::JoinHandle;

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender};

use super::replay::consent;
use crate::call::Engine;
use crate::call::event::{CallEvent, EndedCall, Registration};
use crate::call::record::{CallRecord, Problem, Verdict};
use crate::delivery::{CallUpdate, Progress};
use crate::journal::{Journal, LegRow, LegState, Stage};
use crate::ops::config::Config;
use crate::pyrus::{Executor, Handle};
use crate::recording::{Layout, Recorder};
use crate::spool::disk::DiskStore;

/// The threads behind the spool. They end by themselves when the spool has been shut down.
pub struct Finisher {
    worker: Worker,
    threads: Vec<JoinHandle<()>>,
    delivery: Option<Handle>,
}

/// What every worker needs.
#[derive(Clone)]
struct Worker {
    journal: Journal,
    recorder: Recorder,
    store: DiskStore,
    updates: Option<tokio::sync::mpsc::Sender<CallUpdate>>,
}

impl Finisher {
    /// Starts the threads: one that keeps the journal in the order of events, and a small pool that renders.
    ///
    /// # Errors
    /// When the journal cannot be opened or delivery cannot begin.
    pub fn start(config: &Config, store: DiskStore, events: Receiver<CallEvent>) -> anyhow::Result<Self> {
        let journal = Journal::open(&config.journal)?;
        let delivery = match config.pyrus.enabled {
            true => Some(Executor::spawn(&config.pyrus, Journal::open(&config.journal)?)?),
            false => None,
        };
        let limit = config.pyrus.enabled.then(|| u64::from(config.pyrus.max_upload_mib) << 20);
        let worker = Worker {
            journal,
            recorder: Recorder::new(config.recording.clone(), Layout::ByDay, limit),
            store,
            updates: delivery.as_ref().map(Handle::sender),
        };
        let (calls, ended) = crossbeam_channel::unbounded::<Box<EndedCall>>();
        let mut threads = vec![spawn("events", {
            let worker = worker.clone();
            move || worker.follow(&events, &calls)
        })?];
        for _ in 0..render_threads() {
            let (worker, ended) = (worker.clone(), ended.clone());
            threads.push(spawn("render", move || worker.render_all(&ended))?);
        }
        Ok(Self { worker, threads, delivery })
    }

    /// Settles what an earlier process left in the journal and what is not in the spool: calls without media, and
    /// calls that were being set up. The engine has read the spool back already.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn adopt(&self, engine: &Engine) -> anyhow::Result<()> {
        let live: HashSet<&str> = engine.live_ids().collect();
        for stored in self.worker.journal.unfinished_calls()? {
            let mut record = stored.record;
            if live.contains(record.id.as_str()) || self.worker.has_spool(&record.id)? {
                continue;
            }
            if stored.stage == Stage::Live {
                record.verdict = Some(Verdict::NotAnswered);
                record.verdict_reason = Some(String::from(
                    "The recorder was restarted while the call was being set up; what became of it was not seen.",
                ));
                record.problems.push(Problem { kind: String::from("restart_gap"), packets: None, ms: None });
            }
            let ended = EndedCall { record, legs: Vec::new(), registration: Registration::Allowed };
            self.worker.render(&ended);
        }
        Ok(())
    }

    /// Waits until what came out of the spool is rendered, and gives requests under way a moment to end.
    pub fn stop(self) {
        for thread in self.threads {
            let _ = thread.join(); // a panic there was reported when it happened
        }
        if let Some(delivery) = self.delivery {
            delivery.shutdown();
        }
    }
}

impl Worker {
    fn follow(&self, events: &Receiver<CallEvent>, calls: &Sender<Box<EndedCall>>) {
        for event in events {
            match event {
                CallEvent::Changed(call) => self.note(&call.record, (Stage::Live, Progress::Live), call.registration),
                CallEvent::Ended(call) => {
                    self.note_legs(&call);
                    self.note(&call.record, (Stage::Ended, Progress::Ended), call.registration);
                    let _ = calls.send(call); // the pool lives as long as this thread
                }
            }
        }
    }

    fn render_all(&self, ended: &Receiver<Box<EndedCall>>) {
        for call in ended {
            self.render(&call);
        }
    }

    fn render(&self, call: &EndedCall) {
        match self.recorder.record(call, &self.store) {
            Ok(record) => {
                self.note(&record, (Stage::Complete, Progress::Complete), call.registration);
                self.remove_spool(call);
            }
            Err(error) => tracing::error!(call = call.record.id, "the call could not be rendered: {error}"),
        }
    }

    /// Whether a call waits in the queue of the renderers: its legs are in the journal with their files.
    fn has_spool(&self, id: &str) -> anyhow::Result<bool> {
        let legs = self.journal.legs(id)?;
        Ok(legs.iter().any(|leg| self.store.path(&leg.name).is_file()))
    }

    fn note(&self, record: &CallRecord, (stage, progress): (Stage, Progress), registration: Registration) {
        if let Err(error) = self.journal.put_call(record, stage) {
            tracing::error!(call = record.id, "the journal cannot be written: {error}");
        }
        if let Some(updates) = &self.updates {
            let update = CallUpdate { record: record.clone(), progress, consent: consent(registration) };
            if updates.blocking_send(update).is_err() {
                tracing::error!(call = record.id, "delivery has ended; the call is told again at the next start");
            }
        }
    }

    fn note_legs(&self, call: &EndedCall) {
        for leg in &call.legs {
            let index = u32::try_from(leg.index).unwrap_or(u32::MAX);
            let row = LegRow { name: leg.name.clone(), index, same_sides: leg.same_sides, state: LegState::Closed };
            if let Err(error) = self.journal.put_leg(&call.record.id, &row) {
                tracing::error!(call = call.record.id, "the journal cannot be written: {error}");
            }
        }
    }

    fn remove_spool(&self, call: &EndedCall) {
        for leg in &call.legs {
            let path = self.store.path(&leg.name);
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(call = call.record.id, "the spool of a finished call stays: {error}");
            }
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .with_context(|| format!("cannot start the {name} thread"))
}

/// Rendering may use every core but the one that captures.
fn render_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1)).clamp(1, MAX_RENDER_THREADS)
}

/// More threads than this wait for the disk, not for a core.
const MAX_RENDER_THREADS: usize = 4;
