//! What happens to a call after the engine: journal, rendering, delivery.
//!
//! # Invariants
//! - A spool leaves its folder only after the row that says `complete`, which names every file, is durable. So a crash
//!   at any moment leaves either the spool, from which everything is done once more under the same id, or the row.
//! - What could not be rendered or written down is tried again for as long as the process lives, and by the next start.
//! - Delivery is told of every call until it has made the call its own ([`Journal::untold`]).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::replay::consent;
use super::upkeep::Upkeep;
use crate::call::Engine;
use crate::call::event::{CallEvent, EndedCall, EndedLeg, LegId, Registration};
use crate::call::record::{CallRecord, Problem, Verdict};
use crate::delivery::{CallUpdate, Progress};
use crate::journal::{Journal, LegRow, LegState, Stage, StoredCall};
use crate::ops::alerts::{Alerts, Kind};
use crate::ops::config::Config;
use crate::pyrus::{Executor, Handle};
use crate::recording::{Layout, Recorder};
use crate::spool::disk::DiskStore;
use crate::spool::scrub::scrub;

/// The threads behind the spool. They end by themselves when the spool has been shut down.
pub struct Finisher {
    worker: Worker,
    threads: Vec<JoinHandle<()>>,
    upkeep: Upkeep,
    delivery: Option<Handle>,
}

/// What every thread needs.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) journal: Journal,
    pub(super) recorder: Recorder,
    pub(super) store: DiskStore,
    pub(super) alerts: Alerts,
    keep_pcap: bool,
    updates: Option<tokio::sync::mpsc::Sender<CallUpdate>>,
    failed: Arc<Mutex<VecDeque<Failed>>>,
}

/// A call that could not be finished: the disk was full, or read-only.
struct Failed {
    call: Box<EndedCall>,
    at: Instant,
}

impl Finisher {
    /// Starts the threads: one that keeps the journal in the order of events, a small pool that renders, and one that
    /// looks after disk and journal. The spools of calls that an earlier process finished leave the folder first.
    ///
    /// # Errors
    /// When the journal cannot be opened or delivery cannot begin.
    pub fn start(
        config: &Config,
        store: DiskStore,
        events: Receiver<CallEvent>,
        alerts: Alerts,
    ) -> anyhow::Result<Self> {
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
            alerts,
            keep_pcap: config.recording.keep_pcap,
            updates: delivery.as_ref().map(Handle::sender),
            failed: Arc::default(),
        };
        worker.clear_finished()?;
        let (calls, ended) = crossbeam_channel::unbounded::<Box<EndedCall>>();
        let mut threads = vec![spawn("events", {
            let worker = worker.clone();
            move || worker.follow(&events, &calls)
        })?];
        for _ in 0..render_threads() {
            let (worker, ended) = (worker.clone(), ended.clone());
            threads.push(spawn("render", move || worker.render_all(&ended))?);
        }
        let upkeep = Upkeep::start(worker.clone(), config)?;
        Ok(Self { worker, threads, upkeep, delivery })
    }

    /// Settles what an earlier process left in the journal and what the engine did not find in the spool: calls
    /// without media, calls that were being set up, and calls that delivery was not told of. `revived` are the names
    /// of the legs that the engine knows again.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn adopt(&self, engine: &Engine, revived: &HashSet<String>) -> anyhow::Result<()> {
        let live: HashSet<&str> = engine.live_ids().collect();
        let untold: HashMap<String, Registration> =
            self.worker.journal.untold()?.into_iter().map(|(c, r)| (c.record.id, r)).collect();
        for stored in self.worker.journal.unfinished_calls()? {
            let id = stored.record.id.as_str();
            let legs = self.worker.journal.legs(id)?;
            if live.contains(id) || legs.iter().any(|leg| revived.contains(&leg.name)) {
                continue;
            }
            let registration = untold.get(id).copied().unwrap_or_default();
            self.worker.finish(Box::new(left_over(stored, legs, registration)));
        }
        self.tell_again()
    }

    /// Tells delivery of finished calls that it had not made its own when the process ended.
    fn tell_again(&self) -> anyhow::Result<()> {
        for (stored, registration) in self.worker.journal.untold()? {
            if stored.stage == Stage::Complete {
                self.worker.tell(&stored.record, Progress::Complete, registration);
            }
        }
        Ok(())
    }

    /// Waits until what came out of the spool is rendered, and gives requests under way a moment to end.
    pub fn stop(self) {
        for thread in self.threads {
            let _ = thread.join(); // a panic there was reported when it happened
        }
        self.upkeep.stop();
        if let Some(delivery) = self.delivery {
            delivery.shutdown();
        }
    }
}

impl Worker {
    fn follow(&self, events: &Receiver<CallEvent>, calls: &Sender<Box<EndedCall>>) {
        for event in events {
            match event {
                CallEvent::Changed(call) => {
                    let _ = self.note(&call.record, (Stage::Live, Progress::Live), call.registration); // reported there
                }
                CallEvent::Ended(call) => {
                    let _ = self.note_legs(&call); // both are written once more when it is rendered
                    let _ = self.note(&call.record, (Stage::Ended, Progress::Ended), call.registration);
                    let _ = calls.send(call); // the pool lives as long as this thread
                }
            }
        }
    }

    fn render_all(&self, ended: &Receiver<Box<EndedCall>>) {
        loop {
            match ended.recv_timeout(LOOK) {
                Ok(call) => self.finish(call),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(call) = self.due() {
                self.finish(call);
            }
        }
    }

    /// Renders a call, writes it down and clears its spool; what fails is tried again later.
    fn finish(&self, call: Box<EndedCall>) {
        if self.render(&call) == Done::No {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            if failed.len() >= MAX_FAILED {
                failed.pop_front(); // its spool and its row are there: the next start goes on with it
            }
            failed.push_back(Failed { call, at: now() });
        }
    }

    fn render(&self, call: &EndedCall) -> Done {
        let record = match self.recorder.record(call, &self.store) {
            Ok(record) => record,
            Err(error) => {
                self.alarm(Kind::DiskFailed, &call.record.id, &format!("the call could not be rendered: {error}"));
                return Done::No;
            }
        };
        if self.note_legs(call) == Done::No
            || self.note(&record, (Stage::Complete, Progress::Complete), call.registration) == Done::No
        {
            return Done::No;
        }
        self.clear_spool(&record, &call.legs);
        Done::Yes
    }

    /// A call whose next try is due.
    fn due(&self) -> Option<Box<EndedCall>> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let due = failed.front().is_some_and(|f| now().duration_since(f.at) >= RETRY);
        if due { failed.pop_front().map(|f| f.call) } else { None }
    }

    fn note(&self, record: &CallRecord, (stage, progress): (Stage, Progress), registration: Registration) -> Done {
        let written = match &self.updates {
            Some(_) => self.journal.put_call_to_tell(record, stage, registration),
            None => self.journal.put_call(record, stage),
        };
        if let Err(error) = &written {
            self.alarm(Kind::Journal, &record.id, &format!("the journal cannot be written: {error}"));
        }
        // Delivery writes its own rows before it sends anything; of a finished call it must not hear before the row
        // of its files is there.
        if written.is_ok() || stage != Stage::Complete {
            self.tell(record, progress, registration);
        }
        if written.is_ok() { Done::Yes } else { Done::No }
    }

    pub(super) fn tell(&self, record: &CallRecord, progress: Progress, registration: Registration) {
        let Some(updates) = &self.updates else { return };
        let update = CallUpdate { record: record.clone(), progress, consent: consent(registration) };
        if updates.blocking_send(update).is_err() {
            tracing::error!(call = record.id, "delivery has ended; the call is told again at the next start");
        }
    }

    fn note_legs(&self, call: &EndedCall) -> Done {
        for leg in &call.legs {
            let index = u32::try_from(leg.index).unwrap_or(u32::MAX);
            let row = LegRow { name: leg.name.clone(), index, same_sides: leg.same_sides, state: LegState::Closed };
            if let Err(error) = self.journal.put_leg(&call.record.id, &row) {
                self.alarm(Kind::Journal, &call.record.id, &format!("the journal cannot be written: {error}"));
                return Done::No;
            }
        }
        Done::Yes
    }

    /// The spools of a finished call leave the folder: a kept copy goes beside the recording.
    fn clear_spool(&self, record: &CallRecord, legs: &[EndedLeg]) {
        for leg in legs {
            let path = self.store.path(&leg.name);
            if record.verdict == Some(Verdict::Failed) {
                // Ours to mend: `calls render` finds it under this name, no start reads it back.
                let _ = std::fs::rename(&path, self.store.failed_path(&leg.name)); // there may be none
                continue;
            }
            if self.keep_pcap && record.verdict != Some(Verdict::Excluded) && path.is_file() {
                let kept = self.recorder.kept_path(record, leg.index);
                if let Err(error) = self.keep(&path, &kept) {
                    self.alarm(Kind::DiskFailed, &record.id, &format!("the packets cannot be kept: {error}"));
                    continue; // they stay in the spool; the next start tries again
                }
            }
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(call = record.id, "the spool of a finished call stays: {error}");
            }
        }
        let state = if self.keep_pcap { LegState::Rendered } else { LegState::Removed };
        if !legs.is_empty()
            && let Err(error) = self.journal.mark_legs(&record.id, state)
        {
            tracing::debug!(call = record.id, "the end of the spool is not in the journal: {error}");
        }
    }

    fn keep(&self, spool: &std::path::Path, kept: &std::path::Path) -> std::io::Result<()> {
        let part = kept.with_extension("pcapng.part");
        scrub(spool, &part).and_then(|()| std::fs::rename(&part, kept)).inspect_err(|_| {
            let _ = std::fs::remove_file(&part); // half a copy helps nobody
        })
    }

    /// Spools of calls that an earlier process finished but did not clear: reading them back would render, and tell,
    /// a finished call once more.
    fn clear_finished(&self) -> anyhow::Result<()> {
        for path in self.store.list().context("the spool cannot be read")? {
            let Some(name) = path.file_stem().and_then(|s| s.to_str()) else { continue };
            let Some(owner) = self.journal.owner_of_leg(name)? else { continue };
            let (Stage::Complete, Some(stored)) = (owner.stage, self.journal.call(&owner.call_id)?) else { continue };
            let legs = self.journal.legs(&owner.call_id)?;
            self.clear_spool(&stored.record, &ended_legs(&legs));
        }
        Ok(())
    }

    /// Says it in the log, once for each call and trouble, and to whoever is told of alarms.
    pub(super) fn alarm(&self, kind: Kind, call: &str, text: &str) {
        tracing::error!(call, "{text}");
        self.alerts.raise(kind, text, Some(call));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Yes,
    No,
}

/// A call of the journal that no engine will end.
fn left_over(stored: StoredCall, legs: Vec<LegRow>, registration: Registration) -> EndedCall {
    let mut record = stored.record;
    if stored.stage == Stage::Live {
        record.verdict = Some(Verdict::NotAnswered);
        record.verdict_reason = Some(String::from(
            "The recorder was restarted while the call was being set up; what became of it was not seen.",
        ));
        record.problems.push(Problem { kind: String::from("restart_gap"), packets: None, ms: None });
    }
    EndedCall { record, legs: ended_legs(&legs), registration }
}

fn ended_legs(rows: &[LegRow]) -> Vec<EndedLeg> {
    let leg = |(n, row): (u64, &LegRow)| EndedLeg {
        leg: LegId(n),
        name: row.name.clone(),
        index: row.index as usize,
        same_sides: row.same_sides,
    };
    (0..).zip(rows).map(leg).collect()
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

#[expect(clippy::disallowed_methods, reason = "the pause before a call is rendered again")]
fn now() -> Instant {
    Instant::now()
}

/// More threads than this wait for the disk, not for a core.
const MAX_RENDER_THREADS: usize = 4;
/// How often the pool looks for calls to be tried again.
const LOOK: Duration = Duration::from_secs(1);
/// Pause before a call that failed is rendered again.
const RETRY: Duration = Duration::from_secs(15);
/// Calls that wait to be tried again; more are left to the next start. Some 10 KiB each.
const MAX_FAILED: usize = 10_000;
