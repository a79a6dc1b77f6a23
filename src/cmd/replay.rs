//! `callspan replay`: turns capture files into recordings and call records.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;

use super::language::CliLanguage;
use super::terminal::TextStyle;
use super::terminal::progress::CommandProgress;
use super::{ReplayArgs, table};
use crate::call::Engine;
use crate::call::event::{CallEvent, EndedCall, RegistrationPolicy};
use crate::call::record::{CallRecord, CallVerdict, DeliveryState, ProblemKind};
use crate::capture::files::{self, ReadProgress};
use crate::capture::{CaptureSource, CaptureWarning};
use crate::delivery::{CallProgress, CallUpdate, DeliveryPolicy, DeliverySummary};
use crate::journal::CallStage;
use crate::journal::{self, Journal};
use crate::ops::config::{Config, ConfigPurpose};
use crate::ops::output;
use crate::ops::supervision::TickCounter;
use crate::pyrus::DeliveryHandle;
use crate::pyrus::executor::{WaitDecision, policy};
use crate::recording::{self, FolderLayout, Recorder};
use crate::service::lock::{self, FolderLock};
use crate::service::parallel_render::{HandedSpools, ParallelRenderers, RenderProgress};
use crate::service::pipeline::{Pipeline, PipelineStep};
use crate::service::post_process::RenderWorkers;
use crate::service::record_sync::{self, consent};
use crate::service::recovery::{self, OpenedJournal};
use crate::service::render_marker::RenderMarker;
use crate::service::render_process::{CallRenderer, RenderFailure, WorkerSetup};
use crate::service::render_protocol::WorkerSettings;
use crate::service::{clock, files as recordings};
use crate::spool::LegSource;
use crate::spool::memory::MemorySpool;

/// Input, output and configuration of a replay.
#[derive(Clone, Debug)]
pub struct ReplayRequest {
    /// pcap or pcapng files; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// The configuration of recording and, with `deliver`, of delivery.
    pub config: Config,
    /// Folder for WAV, JSON, spool and journal.
    pub out: PathBuf,
    /// Whether to deliver the calls to Pyrus, too. If true, the replay waits until each call is delivered, or its
    /// delivery needs a person or was given up.
    pub deliver: bool,
}

/// Result of a replay: the calls, and the messages for the user.
#[derive(Clone, Debug, Default)]
pub struct ReplayOutcome {
    /// Call records in the order of `invited_at`.
    pub records: Vec<CallRecord>,
    /// Number of calls that are still to be delivered, including deliveries that wait for a person or were given up.
    pub owed: usize,
    /// Whether a part of a file was not read, because its data are invalid.
    pub is_unread: bool,
    /// Warnings, printed before the results.
    pub warnings: Vec<String>,
    /// Notes about dropped packets, printed after the results.
    pub notes: Vec<String>,
}

/// Replays capture files.
///
/// # Errors
/// Fails if a file is not a capture, the folder cannot be written, or delivery cannot start.
pub fn replay(request: ReplayRequest) -> anyhow::Result<ReplayOutcome> {
    let source = files::open(&request.files)?;
    let progress = source.progress();
    let mut source = source.in_thread().context("cannot start the thread that reads the captures")?;
    let out = &request.out;
    recording::make_private_folder(out)
        .with_context(|| format!("cannot create the folder {}; choose another with --out", out.display()))?;
    let (delivery, alarm) = match request.deliver {
        true => ReplayDelivery::start(&request).map(|(delivery, alarm)| (Some(delivery), alarm))?,
        false => (None, None),
    };
    remove_leftovers(out);
    let marker = Arc::new(RenderMarker::open(out).context("the marker of the calls being rendered")?);
    let recording = recording::config::Config { dir: out.clone(), ..request.config.recording.clone() };
    let limit = delivery.as_ref().map(|_| u64::from(request.config.pyrus.max_upload_mib) << 20);
    let isolated = marker.has_suspects().then(|| isolated_renderer(out, &recording, limit));
    let recorder = Recorder::new(recording, FolderLayout::Flat, limit);
    #[cfg(debug_assertions)]
    crate::service::render_worker::switch_test_codec();
    let mut run = ReplayRun {
        pipeline: Pipeline::new(Engine::new(request.config.call.clone(), source.name())),
        renderers: ParallelRenderers::start(&recorder, &marker).context("cannot start the threads that render")?,
        spool: MemorySpool::new(request.config.spool.memory_mib, out.join(SPOOL_FOLDER)),
        recorder,
        isolated,
        marker,
        delivery,
        outcome: ReplayOutcome { warnings: alarm.into_iter().collect(), ..ReplayOutcome::default() },
    };
    let read = run.read(&mut *source, &progress);
    let warnings = source.take_warnings();
    run.outcome.is_unread = warnings.iter().any(|warning| matches!(warning, CaptureWarning::Unread(_)));
    run.outcome.warnings.extend(warnings.iter().map(ToString::to_string));
    read?;
    run.marker.finish();
    run.outcome.notes.extend(run.dropped());
    run.finish()
}

/// Creates a renderer for calls that crashed an earlier replay. It renders each call in a worker process.
fn isolated_renderer(out: &Path, recording: &recording::config::Config, limit: Option<u64>) -> CallRenderer {
    let recorder = Recorder::new(recording.clone(), FolderLayout::Flat, limit);
    let settings = WorkerSettings::flat(out.join(SPOOL_FOLDER), recording, limit);
    let setup = WorkerSetup { workers: RenderWorkers::of_this_program(), settings };
    CallRenderer::new(recorder, Some(setup), TickCounter::default())
}

/// Removes files that a killed replay left in the output folder. They are not needed, because the capture files still
/// exist.
fn remove_leftovers(out: &Path) {
    recordings::remove_half_written_in(out, clock::wall_clock());
    let spool = out.join(SPOOL_FOLDER);
    if spool.is_dir()
        && let Ok(_lock) = lock::acquire(&spool)
    {
        let left = std::fs::read_dir(&spool).into_iter().flatten().flatten().map(|e| e.path());
        for path in left.filter(|p| p.extension().is_some_and(|e| e == "pcapng")) {
            let _ = std::fs::remove_file(path); // if this fails, the file stays, which does no harm
        }
    }
}

struct ReplayRun {
    pipeline: Pipeline,
    renderers: ParallelRenderers,
    spool: MemorySpool,
    recorder: Recorder,
    /// Renderer for the calls that crashed an earlier replay; `None` if no earlier replay crashed.
    isolated: Option<CallRenderer>,
    marker: Arc<RenderMarker>,
    delivery: Option<ReplayDelivery>,
    outcome: ReplayOutcome,
}

impl ReplayRun {
    fn read(&mut self, source: &mut dyn CaptureSource, read: &ReadProgress) -> anyhow::Result<()> {
        let progress = CommandProgress::of_bytes(read.total_bytes());
        for step in 1_u64.. {
            if step.is_multiple_of(STEPS_PER_PROGRESS) {
                progress.set(read.bytes_read());
            }
            // If a file has a read error in the middle, the calls before the error are recorded all the same.
            match self.pipeline.step(source, &mut self.spool) {
                Ok(PipelineStep::More) => self.take_events()?,
                Ok(PipelineStep::End) => break,
                Err(error) => {
                    self.outcome.warnings.push(error.to_string());
                    break;
                }
            }
            if step.is_multiple_of(STEPS_PER_REPORT) {
                self.take_reports()?;
            }
        }
        self.pipeline.end(&mut self.spool);
        self.take_events()?;
        self.renderers.finish();
        self.take_reports()
    }

    fn take_events(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.pipeline.engine.poll_event() {
            // A replay handles only ended calls. Updates about calls in progress are for the live service, so they are
            // dropped here.
            if let CallEvent::Ended(ended) = event {
                self.take_call(*ended)?;
            }
        }
        Ok(())
    }

    fn take_call(&mut self, mut ended: EndedCall) -> anyhow::Result<()> {
        if let Some(delivery) = &self.delivery {
            record_sync::mark(&mut ended.record, ended.registration, Some(&delivery.policy), &delivery.journal)?;
        }
        match &self.isolated {
            Some(isolated) if self.marker.is_suspect(&ended.record.id) => {
                let (record, warning) = self.render_isolated(isolated, &ended)?;
                self.outcome.warnings.push(warning);
                ended.legs.iter().for_each(|leg| self.spool.release(leg.leg));
                self.take_record(record, ended.registration)?;
            }
            _ => self.renderers.render(ended, &self.spool),
        }
        let errors = self.spool.take_errors();
        self.outcome.warnings.extend(errors.into_iter().map(|e| format!("the spool could not be written: {e}")));
        self.take_reports()
    }

    /// Handles the reports of the rendering threads: frees the spools (stored packets) that were read, and stores the
    /// records of published calls.
    fn take_reports(&mut self) -> anyhow::Result<()> {
        while let Some(report) = self.renderers.poll_report() {
            match report {
                RenderProgress::Read(legs) => legs.iter().for_each(|leg| self.spool.release(leg.leg)),
                RenderProgress::Failed(error) => return Err(error.into()),
                RenderProgress::Published(calls) => {
                    for (record, registration) in calls {
                        self.take_record(record, registration)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn take_record(&mut self, record: CallRecord, registration: RegistrationPolicy) -> anyhow::Result<()> {
        if let Some(delivery) = &self.delivery {
            delivery.tell(&record, registration)?;
        }
        self.outcome.records.push(record);
        Ok(())
    }

    /// Renders a call in a worker process, because an earlier run crashed or was killed while it rendered this call.
    /// Returns the record and a warning about this crash.
    fn render_isolated(&self, isolated: &CallRenderer, ended: &EndedCall) -> anyhow::Result<(CallRecord, String)> {
        let id = &ended.record.id;
        let spools = self.spools_in_files(ended)?;
        let rendered = isolated.record(ended, &spools);
        for file in spools.0.values() {
            if let LegSource::File(path) = file {
                let _ = std::fs::remove_file(path); // if this fails, the next replay removes the file
            }
        }
        if !matches!(&rendered, Ok(rendered) if rendered.broken.is_empty()) {
            self.marker.note_broken(id);
        }
        let (record, end) = match rendered {
            Err(RenderFailure::Passing(error)) => return Err(error),
            Ok(rendered) if rendered.broken.is_empty() => (rendered.record, "It is rendered now."),
            Ok(rendered) => (rendered.record, "One of its legs ends the renderer and is left out."),
            Err(RenderFailure::Broken(_)) => {
                let mut record = ended.record.clone();
                record.verdict = Some(CallVerdict::Failed);
                record.verdict_reason = Some(String::from(BROKEN));
                record.problems.push(ProblemKind::RenderError.problem());
                self.recorder.write_record(&record)?;
                (record, "It ends the renderer and has no recording.")
            }
        };
        Ok((record, format!("call {id}: an earlier run ended while it rendered this or another call. {end}")))
    }

    /// Writes the spools (stored packets) of a call to files, so that a worker process can read them.
    fn spools_in_files(&self, ended: &EndedCall) -> anyhow::Result<HandedSpools> {
        let mut files = HashMap::new();
        for leg in &ended.legs {
            if let Some(path) = self.spool.write_file(leg).context("the spool of a call for the worker process")? {
                files.insert(leg.leg, LegSource::File(path));
            }
        }
        Ok(HandedSpools(files))
    }

    /// Returns a note about dropped packets, or about why no call was found.
    fn dropped(&self) -> Option<String> {
        let totals = self.pipeline.drops();
        let rtp = self.pipeline.engine.counters().rtp_unclaimed;
        let mut clauses = totals.clauses();
        if !self.outcome.records.is_empty() {
            return (!totals.is_empty()).then(|| {
                format!("dropped: {}; run `callspan doctor` with the same files for details", clauses.join(", "))
            });
        }
        if rtp >= RTP_OF_A_CALL {
            clauses.push(format!("{rtp} RTP packets without a signalled call"));
        }
        let seen = clauses.join(", ");
        (!clauses.is_empty())
            .then(|| format!("no call, but {seen}: run `callspan doctor` with the same files for the reason"))
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

/// The delivery of a replay. Its journal is in the output folder.
struct ReplayDelivery {
    /// Lock of the output folder. Two simultaneous replays to one folder would deliver every call twice.
    _lock: FolderLock,
    journal: Journal,
    policy: DeliveryPolicy,
    handle: DeliveryHandle,
}

impl ReplayDelivery {
    /// Starts delivery. Also returns the text of an alarm, if the journal of an earlier replay was lost.
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

    /// Waits for the deliveries, and writes the delivery states into the records.
    fn settle(self, records: &mut [CallRecord], recorder: &Recorder) -> anyhow::Result<DeliverySummary> {
        let summary = self.wait()?;
        for record in records {
            if let Some(job) = self.journal.job(&record.id)? {
                record.delivery = job.to_record();
                recorder.write_record(record)?;
            }
        }
        // Calls of an earlier replay to this folder may have been delivered as well. So their records are rewritten,
        // too.
        let mut after = String::new();
        while record_sync::refresh(&self.journal, recorder, &mut after)? > 0 {}
        self.handle.shutdown();
        Ok(summary)
    }

    /// Waits until each call is delivered, or its delivery needs a person or was given up. Ends earlier if no request
    /// succeeds for [`PATIENCE`], or at Ctrl-C.
    fn wait(&self) -> anyhow::Result<DeliverySummary> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            // A second Ctrl-C ends the process at once.
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop)).context("signal handler")?;
            signal_hook::flag::register(signal, Arc::clone(&stop)).context("signal handler")?;
        }
        let mut is_noted = false;
        Ok(self.handle.run_until_settled_or_stopped(PATIENCE, &mut |waited| {
            if waited >= TELL_AFTER && !is_noted {
                is_noted = true;
                output::note(
                    "callspan: the recordings are written; still sending to Pyrus. Ctrl-C ends the wait; run the same \
                     command again to continue the delivery",
                );
            }
            if stop.load(Ordering::Relaxed) { WaitDecision::Stop } else { WaitDecision::Continue }
        }))
    }
}

/// Returns the reason why calls are not delivered yet. It is `trouble`, the newest problem of delivery as a whole; if
/// there is none, the problem of the first undelivered call.
fn owed_because(records: &[CallRecord], trouble: Option<String>) -> Option<String> {
    let owed = || records.iter().filter(|r| r.delivery.state == DeliveryState::Owed);
    let first = owed().next()?;
    let why = trouble.or_else(|| first.delivery.detail.clone())?;
    let why = CliLanguage::current().delivery(&why);
    Some(format!(
        "not delivered to Pyrus yet: {} of {} ({why}); run the same command to try again",
        owed().count(),
        records.len()
    ))
}

fn begin(record: &CallRecord) -> Option<crate::time::Timestamp> {
    record.invited_at.or(record.answered_at).or(record.ended_at)
}

/// Runs `callspan replay`.
///
/// # Errors
/// Fails if the configuration is wrong, or with an error of [`replay`].
pub(crate) fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let purpose = if args.deliver { ConfigPurpose::ReplayAndDeliver } else { ConfigPurpose::Replay };
    let config = super::load_config(args.config.as_deref(), purpose)?;
    let request = ReplayRequest { files: args.files, config, out: args.out, deliver: args.deliver };
    let outcome = replay(request)?;
    for warning in &outcome.warnings {
        output::note(&format!("callspan: {warning}"));
    }
    if args.json {
        let lines: Result<Vec<String>, _> = outcome.records.iter().map(serde_json::to_string).collect();
        let mut text = output::escaped_json(&lines?.join("\n"));
        if !text.is_empty() {
            text.push('\n');
        }
        output::result(&text)?;
    } else {
        output::result(&table::table(&outcome.records, &TextStyle::of_stdout(args.utc)))?;
    }
    for note in &outcome.notes {
        output::note(&format!("callspan: {note}"));
    }
    let is_done = outcome.owed == 0 && !outcome.is_unread;
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::from(super::EXIT_FAILED) })
}

/// Reason of the verdict in the record of a call that crashes the renderer.
const BROKEN: &str =
    "The call could not be rendered because of a bug in callspan; its packets are in the capture. Please report it.";
/// Minimum number of RTP packets for the note that a capture contains media without a call: one second of both sides.
/// Fewer packets may look like RTP by chance.
const RTP_OF_A_CALL: u64 = 100;
/// Number of frames between two updates of the progress bar. It is large, because each update reads the clock.
const STEPS_PER_PROGRESS: u64 = 4096;
/// Number of frames between two checks for reports of the rendering threads. Ten calls in progress send 1,000 RTP
/// packets a second, so it is about a tenth of a second of captured time.
const STEPS_PER_REPORT: u64 = 128;
/// Time without a successful request after which a replay stops waiting. The next replay to the same folder continues
/// the delivery.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time after which a note says why the replay still waits.
const TELL_AFTER: Duration = Duration::from_secs(3);
/// Path, in the output folder, of the folder for spools (stored packets of calls) that do not fit into memory.
pub(crate) const SPOOL_FOLDER: &str = ".callspan/spool";
/// Path, in the output folder, of the folder for the journal.
pub(crate) const JOURNAL_FOLDER: &str = ".callspan";
