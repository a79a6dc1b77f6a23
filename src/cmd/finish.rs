//! What happens to a call after the engine: journal, rendering, delivery.

use std::thread::JoinHandle;

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender};

use super::replay::consent;
use crate::call::event::{CallEvent, EndedCall, Registration};
use crate::call::record::CallRecord;
use crate::delivery::{CallUpdate, Progress};
use crate::journal::Journal;
use crate::journal::Stage;
use crate::ops::config::Config;
use crate::pyrus::{Executor, Handle};
use crate::recording::{Layout, Recorder};
use crate::spool::disk::DiskStore;

/// The threads behind the spool. They end by themselves when the spool has been shut down.
pub struct Finisher {
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
    keep_spool: bool,
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
            keep_spool: config.recording.keep_pcap,
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
        Ok(Self { threads, delivery })
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
                    self.note(&call.record, (Stage::Ended, Progress::Ended), call.registration);
                    let _ = calls.send(call); // the pool lives as long as this thread
                }
            }
        }
    }

    fn render_all(&self, ended: &Receiver<Box<EndedCall>>) {
        for call in ended {
            match self.recorder.record(&call, &self.store) {
                Ok(record) => {
                    self.note(&record, (Stage::Complete, Progress::Complete), call.registration);
                    if !self.keep_spool {
                        self.remove_spool(&call);
                    }
                }
                Err(error) => tracing::error!(call = call.record.id, "the call could not be rendered: {error}"),
            }
        }
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
