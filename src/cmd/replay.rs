//! `callspan replay`: capture files to recordings and call records.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;

use super::{ReplayArgs, table};
use crate::call::Engine;
use crate::call::event::{CallEvent, EndedCall, RegistrationPolicy};
use crate::call::record::{CallRecord, DeliveryState};
use crate::capture::{CaptureSource, files};
use crate::delivery::{CallProgress, CallUpdate, DeliveryPolicy, DeliverySummary};
use crate::journal::CallStage;
use crate::journal::{self, Journal};
use crate::ops::config::{Config, ConfigPurpose};
use crate::ops::output;
use crate::pyrus::DeliveryHandle;
use crate::pyrus::executor::{WaitDecision, policy};
use crate::recording::{self, FolderLayout, Recorder};
use crate::service::lock::{self, FolderLock};
use crate::service::pipeline::{Pipeline, PipelineStep};
use crate::service::record_sync::{self, consent};
use crate::service::recovery::{self, OpenedJournal};
use crate::service::{clock, files as recordings};
use crate::spool::memory::MemorySpool;

/// What is to be replayed.
#[derive(Clone, Debug)]
pub struct ReplayRequest {
    /// pcap or pcapng files; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// How.
    pub config: Config,
    /// Folder for WAV, JSON, spool and journal.
    pub out: PathBuf,
    /// Also deliver to Pyrus, and wait until nothing is owed that can still succeed.
    pub deliver: bool,
}

/// What a replay gave.
#[derive(Clone, Debug, Default)]
pub struct ReplayOutcome {
    /// In the order of invited_at.
    pub records: Vec<CallRecord>,
    /// Calls of which something is still owed to Pyrus, or that a person must see to.
    pub owed: usize,
    /// What a person should be told.
    pub warnings: Vec<String>,
    /// What was not read or did not fit, said after the results.
    pub notes: Vec<String>,
}

/// Replays.
///
/// # Errors
/// When a file is no capture, the folder cannot be written, or delivery cannot begin.
pub fn replay(request: ReplayRequest) -> anyhow::Result<ReplayOutcome> {
    let mut source = files::open(&request.files)?;
    let out = &request.out;
    std::fs::create_dir_all(out)
        .with_context(|| format!("cannot make the folder {}; name another with --out", out.display()))?;
    let (delivery, alarm) = match request.deliver {
        true => ReplayDelivery::start(&request).map(|(delivery, alarm)| (Some(delivery), alarm))?,
        false => (None, None),
    };
    remove_halves(out);
    let recording = recording::config::Config { dir: out.clone(), ..request.config.recording.clone() };
    let limit = delivery.as_ref().map(|_| u64::from(request.config.pyrus.max_upload_mib) << 20);
    let mut run = ReplayRun {
        pipeline: Pipeline::new(Engine::new(request.config.call.clone(), source.name())),
        spool: MemorySpool::new(request.config.spool.memory_mib, out.join(SPOOL_FOLDER)),
        recorder: Recorder::new(recording, FolderLayout::Flat, limit),
        delivery,
        outcome: ReplayOutcome { warnings: alarm.into_iter().collect(), ..ReplayOutcome::default() },
    };
    let read = run.read(&mut source);
    run.outcome.warnings.extend(source.take_warnings().iter().map(ToString::to_string));
    read?;
    run.outcome.notes.extend(run.dropped());
    run.finish()
}

/// What a replay into this folder left when it was killed: the captures are still there, so nothing of it is needed.
fn remove_halves(out: &Path) {
    recordings::remove_half_written_in(out, clock::wall_clock());
    let spool = out.join(SPOOL_FOLDER);
    if spool.is_dir()
        && let Ok(_lock) = lock::acquire(&spool)
    {
        let left = std::fs::read_dir(&spool).into_iter().flatten().flatten().map(|e| e.path());
        for path in left.filter(|p| p.extension().is_some_and(|e| e == "pcapng")) {
            let _ = std::fs::remove_file(path); // at worst it stays
        }
    }
}

struct ReplayRun {
    pipeline: Pipeline,
    spool: MemorySpool,
    recorder: Recorder,
    delivery: Option<ReplayDelivery>,
    outcome: ReplayOutcome,
}

impl ReplayRun {
    fn read(&mut self, source: &mut dyn CaptureSource) -> anyhow::Result<()> {
        loop {
            // A file that fails half-way gives what it gave so far: it was warned about when it was opened.
            match self.pipeline.step(source, &mut self.spool) {
                Ok(PipelineStep::More) => self.take_events()?,
                Ok(PipelineStep::End) => break,
                Err(error) => {
                    self.outcome.warnings.push(error.to_string());
                    break;
                }
            }
        }
        self.pipeline.end(&mut self.spool);
        self.take_events()
    }

    fn take_events(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.pipeline.engine.poll_event() {
            // A capture is told when it is over: what a call looked like half-way is of use only while it rings.
            if let CallEvent::Ended(ended) = event {
                self.take_call(&ended)?;
            }
        }
        Ok(())
    }

    fn take_call(&mut self, ended: &EndedCall) -> anyhow::Result<()> {
        let mut ended = ended.clone();
        if let Some(delivery) = &self.delivery {
            record_sync::mark(&mut ended.record, ended.registration, Some(&delivery.policy), &delivery.journal)?;
        }
        let record = self.recorder.record(&ended, &self.spool)?;
        for leg in &ended.legs {
            self.spool.release(leg.leg);
        }
        let errors = self.spool.take_errors();
        self.outcome.warnings.extend(errors.into_iter().map(|e| format!("the spool could not be written: {e}")));
        if let Some(delivery) = &self.delivery {
            delivery.tell(&record, ended.registration)?;
        }
        self.outcome.records.push(record);
        Ok(())
    }

    /// RemovalReason there may be less than the capture holds.
    fn dropped(&self) -> Option<String> {
        let totals = self.pipeline.drops();
        let rtp = self.pipeline.engine.counters().rtp_unclaimed;
        let mut clauses = totals.clauses();
        if !self.outcome.records.is_empty() {
            return (!totals.is_empty()).then(|| {
                format!("left aside: {}; `callspan doctor` with the same files says more", clauses.join(", "))
            });
        }
        if rtp >= RTP_OF_A_CALL {
            clauses.push(format!("{rtp} RTP packets of no call that was signalled"));
        }
        let seen = clauses.join(", ");
        (!clauses.is_empty()).then(|| format!("no call, but {seen}: `callspan doctor` with the same files says why"))
    }

    fn finish(mut self) -> anyhow::Result<ReplayOutcome> {
        self.outcome.records.sort_by(|a, b| (begin(a), &a.id).cmp(&(begin(b), &b.id)));
        if let Some(delivery) = self.delivery.take() {
            let summary = delivery.settle(&mut self.outcome.records, &self.recorder)?;
            let of_now = |id: &str| self.outcome.records.iter().any(|r| r.id == id);
            for trouble in summary.parked.iter().chain(&summary.dead).filter(|t| of_now(&t.id)) {
                self.outcome.warnings.push(format!("call {}: {}", trouble.id, trouble.reason));
            }
            self.outcome.warnings.extend(owed_because(&self.outcome.records, summary.last_failure));
            self.outcome.warnings.extend(summary.alarm);
            self.outcome.owed = summary.owed + summary.parked.len() + summary.dead.len();
        }
        Ok(self.outcome)
    }
}

/// ReplayDelivery with the journal of the output folder.
struct ReplayDelivery {
    /// Two replays into one folder would deliver each call twice.
    _lock: FolderLock,
    journal: Journal,
    policy: DeliveryPolicy,
    handle: DeliveryHandle,
}

impl ReplayDelivery {
    /// Also gives what an admin should hear of the journal.
    fn start(request: &ReplayRequest) -> anyhow::Result<(Self, Option<String>)> {
        let config = journal::config::Config { dir: request.out.join(JOURNAL_FOLDER) };
        let lock = lock::acquire(&config.dir)?;
        let OpenedJournal { journal, alarm } = recovery::open(&config, &request.out)?;
        let handle = DeliveryHandle::start(&request.config.pyrus, journal.clone())?;
        let policy = policy(&request.config.pyrus);
        Ok((Self { _lock: lock, journal, policy, handle }, alarm))
    }

    fn tell(&self, record: &CallRecord, registration: RegistrationPolicy) -> anyhow::Result<()> {
        self.journal.put_call(record, CallStage::Complete)?;
        self.handle.send_update(CallUpdate {
            record: record.clone(),
            progress: CallProgress::Complete,
            consent: consent(registration),
        });
        Ok(())
    }

    /// Waits for delivery, and writes what came of it into the records.
    fn settle(self, records: &mut [CallRecord], recorder: &Recorder) -> anyhow::Result<DeliverySummary> {
        let summary = self.wait()?;
        for record in records {
            if let Some(job) = self.journal.job(&record.id)? {
                record.delivery = job.to_record();
                recorder.write_record(record)?;
            }
        }
        // Calls of an earlier run may have been delivered, too.
        let mut after = String::new();
        while record_sync::refresh(&self.journal, recorder, &mut after)? > 0 {}
        self.handle.shutdown();
        Ok(summary)
    }

    /// Until nothing is owed that can still succeed, patience is over, or somebody ends it (Ctrl-C).
    fn wait(&self) -> anyhow::Result<DeliverySummary> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            // A second signal ends the process at once: somebody insists.
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop)).context("signal handler")?;
            signal_hook::flag::register(signal, Arc::clone(&stop)).context("signal handler")?;
        }
        let mut is_told = false;
        Ok(self.handle.run_until_settled_or_stopped(PATIENCE, &mut |waited| {
            if waited >= TELL_AFTER && !is_told {
                is_told = true;
                output::note(
                    "callspan: the recordings are written; still sending to Pyrus. Ctrl-C ends the waiting: what is \
                     owed stays owed, and the same command goes on with it",
                );
            }
            if stop.load(Ordering::Relaxed) { WaitDecision::Stop } else { WaitDecision::Continue }
        }))
    }
}

/// RemovalReason calls are still owed: the newest trouble, or that of the first call, stands for all.
fn owed_because(records: &[CallRecord], trouble: Option<String>) -> Option<String> {
    let owed = || records.iter().filter(|r| r.delivery.state == DeliveryState::Owed);
    let first = owed().next()?;
    let why = trouble.or_else(|| first.delivery.detail.clone())?;
    Some(format!("owed to Pyrus: {} of {} ({why}); the same command tries again", owed().count(), records.len()))
}

fn begin(record: &CallRecord) -> Option<crate::time::Timestamp> {
    record.invited_at.or(record.answered_at).or(record.ended_at)
}

/// Runs the command.
///
/// # Errors
/// As [`replay`]; also when the configuration is wrong.
pub fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let purpose = if args.deliver { ConfigPurpose::ReplayAndDeliver } else { ConfigPurpose::Replay };
    let config = super::load_config(args.config.as_deref(), purpose)?;
    let request = ReplayRequest { files: args.files, config, out: args.out, deliver: args.deliver };
    let outcome = replay(request)?;
    for warning in &outcome.warnings {
        output::note(&format!("callspan: {warning}"));
    }
    if args.json {
        let lines: Result<Vec<String>, _> = outcome.records.iter().map(serde_json::to_string).collect();
        let mut text = lines?.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        output::result(&text)?;
    } else {
        output::result(&table::table(&outcome.records, table::terminal_width()))?;
    }
    for note in &outcome.notes {
        output::note(&format!("callspan: {note}"));
    }
    Ok(if outcome.owed == 0 { ExitCode::SUCCESS } else { ExitCode::from(super::EXIT_FAILED) })
}

/// One second of both sides: what looks like RTP by chance comes in smaller numbers.
const RTP_OF_A_CALL: u64 = 100;
/// ReplayDelivery is given up for this run when for so long no request has succeeded; the next run goes on.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who waits longer than this wants to know what for.
const TELL_AFTER: Duration = Duration::from_secs(3);
/// Folder in the output folder for legs that outgrow the memory.
pub(super) const SPOOL_FOLDER: &str = ".callspan/spool";
/// Folder in the output folder for the journal of delivery.
pub(super) const JOURNAL_FOLDER: &str = ".callspan";
