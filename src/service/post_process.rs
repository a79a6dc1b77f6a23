//! What happens to a call after the engine: journal, rendering, delivery.
//!
//! A call stays `ended` in the journal, its packets in the spool, until its files are on the disk and its row says so;
//! only then is delivery told that it is complete. A disk that is full or read-only therefore costs time and no call:
//! the call is tried again after [`PAUSES`], and at the next start.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::maintenance::Upkeep;
use super::record_sync::{self, consent};
use super::segments::Turns;
use crate::call::Engine;
use crate::call::event::{CallEvent, DueParts, EndedCall, EndedLeg, LegId, Registration};
use crate::call::record::{CallRecord, Problem, Verdict};
use crate::delivery::{CallUpdate, Policy, Progress};
use crate::journal::{CallStage, Journal, LegRow, LegSpoolState, StoredCall};
use crate::ops::alerts::{Alerts, Kind};
use crate::ops::config::Config;
use crate::pyrus::executor::policy;
use crate::pyrus::{Asker, Executor, Handle};
use crate::recording::{FolderLayout, Recorder};
use crate::spool::disk::DiskStore;
use crate::spool::scrub::scrub;

/// The threads behind the spool. They end by themselves when the spool has been shut down.
pub struct Finisher {
    worker: Worker,
    threads: Vec<JoinHandle<()>>,
    refresher: record_sync::Refresher,
    upkeep: Upkeep,
    delivery: Option<Handle>,
}

/// What the threads work with.
pub struct Tools {
    /// The journal, opened by [`super::recovery::open`].
    pub journal: Journal,
    /// The spools.
    pub store: DiskStore,
    /// Where alarms are raised.
    pub alerts: Alerts,
    /// Pauses before a call whose files could not be written is tried again; the last one repeats.
    pub pauses: &'static [Duration],
}

/// What every worker needs.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) journal: Journal,
    pub(super) recorder: Recorder,
    pub(super) store: DiskStore,
    keep_pcap: bool,
    pub(super) alerts: Alerts,
    policy: Option<Policy>,
    updates: Option<tokio::sync::mpsc::Sender<CallUpdate>>,
    waiting: Arc<Mutex<Vec<Retry>>>,
    pauses: &'static [Duration],
    pub(super) turns: Arc<Turns>,
}

/// Work whose files could not be written.
struct Retry {
    due: Instant,
    times: usize,
    work: Work,
}

/// What is to be done with a call.
enum Work {
    /// It is over: all of it that is not made yet.
    Whole(Box<EndedCall>),
    /// It goes on, and parts are full.
    Parts(Box<DueParts>),
    /// It goes on, and is forbidden.
    Withdraw(String),
}

impl Work {
    fn id(&self) -> &str {
        match self {
            Self::Whole(call) => &call.record.id,
            Self::Parts(due) => &due.record.id,
            Self::Withdraw(id) => id,
        }
    }
}

/// The configuration of the engine whose events come here: with the length of the parts.
pub fn engine_config(config: &Config) -> crate::call::config::Config {
    crate::call::config::Config { part_s: recorder(config).segment_seconds(), ..config.call.clone() }
}

fn recorder(config: &Config) -> Recorder {
    let limit = config.pyrus.enabled.then(|| u64::from(config.pyrus.max_upload_mib) << 20);
    Recorder::new(config.recording.clone(), FolderLayout::ByDay, limit)
}

impl Finisher {
    /// Starts the threads: one that keeps the journal in the order of events, a small pool that renders, and one that
    /// writes into the records what became of the delivery.
    ///
    /// # Errors
    /// When delivery cannot begin or a thread cannot be started.
    pub fn start(config: &Config, tools: Tools, events: Receiver<CallEvent>) -> anyhow::Result<Self> {
        let Tools { journal, store, alerts, pauses } = tools;
        let delivery = match config.pyrus.enabled {
            true => Some(Executor::spawn(&config.pyrus, journal.clone())?),
            false => None,
        };
        let recorder = recorder(config);
        let refresher = record_sync::Refresher::start(journal.clone(), recorder.clone())?;
        let worker = Worker {
            journal,
            recorder,
            store,
            keep_pcap: config.recording.keep_pcap,
            alerts,
            policy: config.pyrus.enabled.then(|| policy(&config.pyrus)),
            updates: delivery.as_ref().map(Handle::sender),
            waiting: Arc::default(),
            pauses,
            turns: Arc::default(),
        };
        worker.clear_finished()?;
        let (calls, ended) = crossbeam_channel::unbounded::<Work>();
        let mut threads = vec![spawn("events", {
            let worker = worker.clone();
            move || worker.follow(&events, &calls)
        })?];
        for _ in 0..render_threads() {
            let (worker, ended) = (worker.clone(), ended.clone());
            threads.push(spawn("render", move || worker.render_all(&ended))?);
        }
        let upkeep = Upkeep::start(worker.clone(), config)?;
        Ok(Self { worker, threads, refresher, upkeep, delivery })
    }

    /// Settles what an earlier process left in the journal: calls without media, calls that were being set up, and
    /// calls that delivery was not told of. What is in the spool, the engine has read back already: `revived` are the
    /// names of the legs that it knows again, and the ids of calls whose end it told of while it read.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn adopt(&self, engine: &Engine, revived: &HashSet<String>) -> anyhow::Result<()> {
        let live: HashSet<&str> = engine.live_ids().collect();
        let calls_to_announce = self.worker.journal.calls_to_announce()?;
        for stored in self.worker.journal.unfinished_calls()? {
            let id = stored.record.id.as_str();
            let legs = self.worker.journal.legs(id)?;
            if live.contains(id) || revived.contains(id) || legs.iter().any(|leg| revived.contains(&leg.name)) {
                continue;
            }
            let known = calls_to_announce.iter().find(|(call, _)| call.record.id == id);
            let registration = known.map_or(Registration::Allowed, |(_, registration)| *registration);
            self.worker.attempt(Work::Whole(Box::new(left_behind(stored, &legs, registration))), 0);
        }
        for (StoredCall { stage, record }, registration) in calls_to_announce {
            if stage == CallStage::Complete {
                self.worker.tell(&record, Progress::Complete, registration);
            }
        }
        Ok(())
    }

    /// Whether the journal knows a call as ended.
    pub fn is_over(&self, id: &str) -> bool {
        self.worker.journal.call(id).is_ok_and(|call| call.is_some_and(|call| call.stage != CallStage::Live))
    }

    /// Asks delivery how things stand, if there is one.
    pub fn delivery(&self) -> Option<Asker> {
        self.delivery.as_ref().map(Handle::asker)
    }

    /// Which of the threads has ended by itself, if any: it can only be by a bug, and what it did is not done any more.
    pub fn ended_thread(&self) -> Option<&'static str> {
        if self.threads.iter().any(JoinHandle::is_finished) {
            return Some("journal and renderers");
        }
        let ended = [
            (self.refresher.is_finished(), "records"),
            (self.upkeep.is_finished(), "upkeep"),
            (self.delivery.as_ref().is_some_and(Handle::is_finished), "delivery"),
        ];
        ended.into_iter().find_map(|(is_finished, name)| is_finished.then_some(name))
    }

    /// Waits until what came out of the spool is rendered, and gives requests under way a moment to end.
    pub fn stop(self) {
        for thread in self.threads {
            let _ = thread.join(); // a panic there was reported when it happened
        }
        if let Some(delivery) = self.delivery {
            delivery.shutdown();
        }
        self.upkeep.stop();
        self.refresher.stop();
        let waiting = self.worker.waiting.lock().unwrap_or_else(PoisonError::into_inner).len();
        if waiting > 0 {
            tracing::error!(calls = waiting, "could not be written; they are tried again at the next start");
        }
    }
}

impl Worker {
    fn follow(&self, events: &Receiver<CallEvent>, calls: &Sender<Work>) {
        for event in events {
            match event {
                CallEvent::Changed(call) => {
                    let record = self.note(&call.record, CallStage::Live, call.registration);
                    self.tell(&record, Progress::Live, call.registration);
                }
                CallEvent::PartDue(due) => {
                    let _ = calls.send(Work::Parts(due)); // the pool lives as long as this thread
                }
                CallEvent::Withdrawn(id) => {
                    self.turns.forbid(&id);
                    let _ = calls.send(Work::Withdraw(id)); // as above
                }
                CallEvent::Ended(call) => {
                    self.note_legs(&call);
                    let record = self.note(&call.record, CallStage::Ended, call.registration);
                    self.tell(&record, Progress::Ended, call.registration);
                    let _ = calls.send(Work::Whole(call)); // as above
                }
            }
        }
    }

    fn render_all(&self, ended: &Receiver<Work>) {
        loop {
            match ended.recv_timeout(LOOK) {
                Ok(work) => self.attempt(work, 0),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(Retry { work, times, .. }) = self.take_due() {
                self.attempt(work, times);
            }
        }
    }

    /// Does what is to be done; it comes again after a pause when files or rows cannot be written.
    fn attempt(&self, work: Work, times: usize) {
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| match &work {
            Work::Whole(call) => self.finish(call),
            Work::Parts(due) => self.make_parts(due),
            Work::Withdraw(id) => self.withdraw(id),
        }));
        let id = work.id();
        let error = match done {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            // The same again with the next try, but this thread may be the only one that renders.
            Err(_) => {
                let detail = "a bug of callspan ended the work on the call; it is tried again at the next start";
                return self.alerts.raise_for(Kind::RenderFailed, id, detail);
            }
        };
        let pause = self.pauses.get(times).or(self.pauses.last()).copied().unwrap_or_default();
        let detail = format!("the recording cannot be written ({error}); it is tried again in {} s", pause.as_secs());
        self.alerts.raise_for(Kind::RecordingFailed, id, &detail);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING {
            tracing::error!(call = id, "too many calls wait for the disk: this one is tried again at the next start");
            return;
        }
        waiting.push(Retry { due: now() + pause, times: times + 1, work });
    }

    fn take_due(&self) -> Option<Retry> {
        let now = now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let at = waiting.iter().position(|retry| retry.due <= now)?;
        Some(waiting.remove(at))
    }

    /// Files first, then the row, then delivery, and the spool goes last: whatever comes in between, the next try or
    /// the next start finds everything that it needs.
    fn finish(&self, call: &EndedCall) -> anyhow::Result<()> {
        let _turn = self.turns.take(&call.record.id);
        let mut call = call.clone();
        self.settle_parts(&mut call.record)?;
        note_spools(&mut call);
        record_sync::mark(&mut call.record, call.registration, (self.policy.as_ref(), &self.journal))?;
        let recorded = std::panic::catch_unwind(AssertUnwindSafe(|| self.recorder.record(&call, &self.store)));
        let record = match recorded {
            Ok(record) => record?,
            Err(_) => self.given_up(&call)?,
        };
        // They may not have been noted: the journal could not be written when the call ended.
        self.put_legs(&call)?;
        match (&self.updates, call.registration) {
            (Some(_), registration) => {
                self.journal.put_call_for_delivery(&record, CallStage::Complete, registration)?
            }
            (None, _) => self.journal.put_call(&record, CallStage::Complete)?,
        }
        self.tell(&record, Progress::Complete, call.registration);
        self.turns.forget(&record.id);
        if record.problems.iter().any(|p| p.kind == RENDER_ERROR) {
            self.set_spool_aside(&call);
        } else {
            self.clear_spool(&record, &call.legs);
        }
        Ok(())
    }

    /// Rendering panicked: a bug, and the same again with the next try. The call is told without its recording.
    fn given_up(&self, call: &EndedCall) -> anyhow::Result<CallRecord> {
        let mut record = call.record.clone();
        record.verdict = Some(Verdict::Failed);
        record.verdict_reason = Some(String::from("Rendering failed by a bug of callspan; the packets are kept."));
        record.problems.push(Problem { kind: String::from(RENDER_ERROR), packets: None, ms: None });
        self.recorder.write_record(&record)?;
        Ok(record)
    }

    /// Gives the record with the parts that were made.
    pub(super) fn note(&self, record: &CallRecord, stage: CallStage, registration: Registration) -> CallRecord {
        let to_tell = self.is_delivering().then_some(registration);
        self.journal.put_call_with_segments(record, stage, to_tell).unwrap_or_else(|error| {
            self.cannot_write(&record.id, &error);
            record.clone()
        })
    }

    pub(super) const fn is_delivering(&self) -> bool {
        self.updates.is_some()
    }

    pub(super) const fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    pub(super) fn tell(&self, record: &CallRecord, progress: Progress, registration: Registration) {
        let Some(updates) = &self.updates else { return };
        let update = CallUpdate { record: record.clone(), progress, consent: consent(registration) };
        if updates.blocking_send(update).is_err() {
            tracing::error!(call = record.id, "delivery has ended; the call is told again at the next start");
        }
    }

    fn note_legs(&self, call: &EndedCall) {
        if let Err(error) = self.put_legs(call) {
            self.cannot_write(&call.record.id, &error);
        }
    }

    fn put_legs(&self, call: &EndedCall) -> crate::journal::JournalResult<()> {
        call.legs.iter().try_for_each(|leg| {
            let index = u32::try_from(leg.index).unwrap_or(u32::MAX);
            let row =
                LegRow { name: leg.name.clone(), index, same_sides: leg.same_sides, state: LegSpoolState::Closed };
            self.journal.put_leg(&call.record.id, &row)
        })
    }

    fn cannot_write(&self, id: &str, error: &crate::journal::Error) {
        self.alerts.raise_for(Kind::JournalDamaged, id, &format!("the journal cannot be written: {error}"));
    }

    /// The spools of a finished call leave the folder, else the next start reads them back; a kept copy goes beside
    /// the recording.
    fn clear_spool(&self, record: &CallRecord, legs: &[EndedLeg]) {
        for leg in legs {
            let path = self.store.path(&leg.name);
            if self.keep_pcap && record.verdict != Some(Verdict::Excluded) && path.is_file() {
                let kept = self.recorder.kept_path(record, leg.index);
                if let Err(error) = keep(&path, &kept) {
                    let detail = format!("the packets of a call cannot be kept ({error}); the next start tries again");
                    self.alerts.raise_for(Kind::RecordingFailed, &record.id, &detail);
                    continue;
                }
            }
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(call = record.id, "the spool of a finished call stays: {error}");
            }
        }
    }

    /// Spools of calls that an earlier process finished but did not clear: reading them back would render, and tell,
    /// a finished call once more.
    fn clear_finished(&self) -> anyhow::Result<()> {
        for path in self.store.list().context("the spool cannot be read")? {
            if path.metadata().is_ok_and(|file| file.len() == 0) {
                let _ = std::fs::remove_file(&path); // killed between its making and its first bytes; at worst it stays
                continue;
            }
            let Some(name) = path.file_stem().and_then(|s| s.to_str()) else { continue };
            let Some(owner) = self.journal.owner_of_leg(name)? else { continue };
            let (CallStage::Complete, Some(stored)) = (owner.stage, self.journal.call(&owner.call_id)?) else {
                continue;
            };
            let legs = self.journal.legs(&owner.call_id)?;
            self.clear_spool(&stored.record, &ended_legs(&legs));
        }
        Ok(())
    }

    /// What could not be rendered may be of use to a later version: it is kept, under a name that no start reads.
    fn set_spool_aside(&self, call: &EndedCall) {
        let detail = "the call could not be rendered; its packets are kept in the spool folder as .pcapng.failed";
        self.alerts.raise_for(Kind::RenderFailed, &call.record.id, detail);
        for leg in &call.legs {
            let path = self.store.path(&leg.name);
            if let Err(error) = std::fs::rename(&path, path.with_extension("pcapng.failed")) {
                tracing::warn!(call = call.record.id, "the spool of a call that failed cannot be renamed: {error}");
            }
        }
    }
}

/// Should the journal be lost, the record says which packets are whose, so that the call can be rendered again.
fn note_spools(call: &mut EndedCall) {
    for leg in &call.legs {
        if let Some(record) = call.record.legs.get_mut(leg.index) {
            record.spool = Some(leg.name.clone());
            record.sides_swapped = !leg.same_sides;
        }
    }
}

fn keep(spool: &Path, kept: &Path) -> std::io::Result<()> {
    let part = kept.with_extension("pcapng.part");
    scrub(spool, &part).and_then(|()| std::fs::rename(&part, kept)).inspect_err(|_| {
        let _ = std::fs::remove_file(&part); // half a copy helps nobody
    })?;
    // The spool goes next: the copy must outlive a power cut.
    kept.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
}

/// A call of which an earlier process left nothing but its row.
fn left_behind(stored: StoredCall, legs: &[LegRow], registration: Registration) -> EndedCall {
    let mut record = stored.record;
    if stored.stage == CallStage::Live && record.verdict.is_none() {
        let answered = record.answered_at.is_some();
        record.verdict = Some(if answered { Verdict::Failed } else { Verdict::NotAnswered });
        record.verdict_reason = Some(String::from(match answered {
            true if !record.recordings.is_empty() => {
                "The recorder was restarted during the call, and what followed its finished parts was not in the spool."
            }
            true => "The recorder was restarted during the call, and nothing of its media was in the spool.",
            false => "The recorder was restarted while the call was being set up; what became of it was not seen.",
        }));
        record.problems.push(Problem { kind: String::from("restart_gap"), packets: None, ms: None });
    }
    EndedCall { record, legs: ended_legs(legs), registration, wall_offset_ns: 0 }
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

#[expect(clippy::disallowed_methods, reason = "when a disk is tried again is a question to the clock")]
fn now() -> Instant {
    Instant::now()
}

/// After a failure to write a call's files: a person frees a disk in minutes or in a day.
pub const PAUSES: &[Duration] =
    &[Duration::from_secs(60), Duration::from_secs(5 * 60), Duration::from_secs(15 * 60), Duration::from_secs(30 * 60)];

/// More threads than this wait for the disk, not for a core.
const MAX_RENDER_THREADS: usize = 4;
/// How often calls that wait for the disk are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Calls that wait in memory for the disk, some 10 KiB each; their packets and rows are on it anyway.
const MAX_WAITING: usize = 10_000;
/// What a record says when a leg's spool could not be rendered.
const RENDER_ERROR: &str = "render_error";
