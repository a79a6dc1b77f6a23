//! `callspan run`: the service that records calls.
//!
//! The main thread captures, runs the engine and fills chunks of memory for the spool. The spool's thread writes the
//! chunks to the disk. The threads of [`PostProcessor`] render ended calls and deliver them. Data flows in this
//! direction only, so a thread never waits for a thread that comes later.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;

use self::reload::read_config_again;
use self::stop::{
    AFTER_RENDERING, STOP_ARCHIVE, STOP_RENDERING, STOP_STATE_FILES, STOP_WATCH, ServiceEnd, StopDeadline,
};
use super::RunArgs;
use crate::call::event::CallEvent;
use crate::call::test_call::TestCallKey;
use crate::capture::{CaptureCounters, CaptureSource, CaptureWarning, live};
use crate::console::ConsoleServer;
use crate::journal::Journal;
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::alerts::{AlarmKind, Alerts};
use crate::ops::config::{Config, ConfigPurpose};
use crate::ops::drops::{DropAlarms, DropReason};
use crate::ops::status::ServiceReport;
use crate::ops::supervision::PATIENT_ROUND;
use crate::ops::thread::StoppableThread;
use crate::ops::{folder_owner, log, output, panics};
use crate::service::life_signs::LifeSigns;
use crate::service::lock::FolderLock;
use crate::service::mirror_watch::{MirrorCounters, MirrorWatch};
use crate::service::pipeline::{Pipeline, PipelineStep};
use crate::service::post_process::PostProcessor;
use crate::service::reload::ConfigReading;
use crate::service::state_files::StateFiles;
use crate::service::systemd::SystemdSocket;
use crate::service::watch::OwedCalls;
use crate::service::{clock, sandbox, startup_failure};
use crate::spool::disk::DiskSpool;
use crate::text::error_chain;
use crate::time::Timestamp;

mod reload;
mod start;
mod status;
mod stop;

/// Runs `callspan run`.
///
/// # Errors
/// Fails if the configuration is wrong, an interface cannot be opened, or the spool or the journal cannot be written.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let config = super::load_config(Some(&args.config), ConfigPurpose::Run)?;
    folder_owner::refuse_root_in_folders_of_others(&config)?;
    sandbox::keep_from_children();
    sandbox::drop_unneeded_capabilities();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // The second SIGTERM or SIGINT ends the process at once.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop)).context("signal handler")?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("signal handler")?;
    }
    let reload = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&reload)).context("signal handler")?;
    log::set_level(&config.log.level);
    panics::watch();
    let (alerts, runner) =
        Alerts::start_with_history(&config.alerts, &config.journal.dir).context("cannot start the alerts thread")?;
    let (signals, state) = (ServiceSignals { stop: &stop, reload: &reload }, &config.journal.dir);
    let mut end = ServiceEnd::default();
    let ended = serve(&args, &config, &alerts, &mut end, signals);
    if let Err(error) = &ended
        && !startup_failure::is_second_service(state, error)
    {
        if end.sending.is_none() {
            end.sending = alerts.start_sending().ok().flatten(); // without the thread, the next start sends the alarm
        }
        startup_failure::handle(state, &alerts, error, &stop);
        end.deadline = None; // the alarm about the failure has its full time
    }
    drop(alerts);
    end.finish(runner);
    ended.map(|()| ExitCode::SUCCESS)
}

/// Flags that the signal handlers of the process set.
#[derive(Clone, Copy)]
struct ServiceSignals<'a> {
    /// Set by SIGTERM or SIGINT: the service must end.
    stop: &'a AtomicBool,
    /// Set by SIGHUP: the configuration file must be read again.
    reload: &'a AtomicBool,
}

/// Runs the service until it must end. Stores in `end` what the caller must still end.
fn serve(
    args: &RunArgs,
    config: &Config,
    alerts: &Alerts,
    end: &mut ServiceEnd,
    signals: ServiceSignals<'_>,
) -> anyhow::Result<()> {
    let systemd = SystemdSocket::of_environment();
    let mut source = live::open(&config.capture, missing_interface_policy(&systemd))?;
    let mut service = RunningService::start(config, &source, alerts.clone(), systemd)?;
    // Only now, because the messages belong to the service that has locked the state folder.
    end.sending = alerts.start_sending().context("cannot start the thread that sends alarms")?;
    if let Some(thread) = &end.sending {
        service.life.supervisor.watch_helper("notify", thread.life(), PATIENT_ROUND);
    }
    let doing = if source.is_capturing() { "capturing on" } else { "waiting for" };
    output::note(&format!("callspan: {doing} {}", source.name()));
    service.life.systemd.tell("READY=1");
    sandbox::prefer_capture();
    let ended = service.capture(&mut source, signals, &args.config);
    service.life.systemd.tell("STOPPING=1");
    if ended.is_ok() {
        service.read_waiting_frames(&mut source)?;
    }
    if ended.is_ok() && args.drain > 0 {
        service.drain(&mut source, Duration::from_secs(args.drain))?;
    }
    service.stop(&mut source, *end.deadline.insert(StopDeadline::begin()));
    ended
}

/// Returns how the service treats a missing interface. Under systemd the service waits for the interface and continues
/// to deliver. At a terminal the command fails.
const fn missing_interface_policy(systemd: &SystemdSocket) -> live::MissingInterfacePolicy {
    match systemd.is_supervised() {
        true => live::MissingInterfacePolicy::Retry,
        false => live::MissingInterfacePolicy::Fail,
    }
}

struct RunningService {
    pipeline: Pipeline,
    mirror: MirrorWatch,
    status: ServiceReport,
    spool: DiskSpool,
    post_processor: PostProcessor,
    watch: StoppableThread,
    archive: Option<StoppableThread>,
    state_files: StateFiles,
    alerts: Alerts,
    journal: Journal,
    config: Config,
    /// Secret key by which the recorder recognizes its own test calls.
    test_key: Option<TestCallKey>,
    life: LifeSigns,
    owed: OwedCalls,
    console: Option<ConsoleServer>,
    _locks: [FolderLock; 2],
    last: LastRounds,
    reported: CaptureCounters,
    drop_alarms: DropAlarms,
}

/// Capture times at which each kind of periodic work was last done, e.g. the check of losses.
#[derive(Clone, Copy)]
struct LastRounds {
    /// Capture time at which buffered packets (chunks of the spool) were last passed to the writing thread.
    spooled_at: Timestamp,
    /// Capture time at which the console last got the sound levels of live calls.
    levels_at: Timestamp,
    /// Capture time of the last check of losses, threads, the journal and the mirror port.
    checked_at: Timestamp,
    /// Capture time of the last attempt to start the console.
    console_tried_at: Timestamp,
}

impl RunningService {
    fn capture(
        &mut self,
        source: &mut dyn CaptureSource,
        signals: ServiceSignals<'_>,
        file: &Path,
    ) -> anyhow::Result<()> {
        let (mut reading, mut must_read_again): (Option<ConfigReading>, bool) = (None, false);
        while !signals.stop.load(Ordering::Relaxed) {
            if let Some(result) = reading.as_ref().and_then(ConfigReading::poll) {
                reading = None;
                self.reload(result);
            }
            if signals.reload.swap(false, Ordering::Relaxed) {
                must_read_again = true;
                if reading.is_some() {
                    output::note("callspan: the configuration is still being read, and is read again after that");
                }
            }
            if must_read_again && reading.is_none() {
                (reading, must_read_again) = (read_config_again(file.to_owned()), false);
            }
            if self.step(source)? == PipelineStep::End {
                anyhow::bail!("the capture ended unexpectedly");
            }
        }
        Ok(())
    }

    /// Reads the frames that the kernel captured before the stop was requested, but for at most [`STOP_READING`].
    fn read_waiting_frames(&mut self, source: &mut dyn CaptureSource) -> anyhow::Result<()> {
        let asked_at = clock::wall_clock().offset(self.pipeline.engine.wall_offset_ns().saturating_neg());
        let until = clock::monotonic() + STOP_READING;
        while self.pipeline.engine.now() < asked_at && clock::monotonic() < until {
            if self.step(source)? == PipelineStep::End {
                break;
            }
        }
        Ok(())
    }

    /// Continues to capture until no call is in progress, at most for the capture time `patience`.
    fn drain(&mut self, source: &mut dyn CaptureSource, patience: Duration) -> anyhow::Result<()> {
        let until = self.pipeline.engine.now() + patience;
        while self.pipeline.engine.live_calls() > 0 && self.pipeline.engine.now() < until {
            if self.step(source)? == PipelineStep::End {
                break;
            }
        }
        Ok(())
    }

    fn step(&mut self, source: &mut dyn CaptureSource) -> anyhow::Result<PipelineStep> {
        let step = self.pipeline.step(source, &mut self.spool)?;
        self.spool.flush_signalling();
        while let Some(event) = self.pipeline.engine.poll_event() {
            if let CallEvent::Ended(call) = &event {
                self.mirror.handle_ended(call);
            }
            self.spool.forward(event);
        }
        self.handle_api_requests();
        let now = self.pipeline.engine.now();
        if now.since(self.last.levels_at) >= LEVEL_INTERVAL {
            self.publish_levels();
            self.last.levels_at = now;
        }
        if now.since(self.last.spooled_at) >= SPOOL_INTERVAL {
            self.spool.handle_timeout(now);
            self.last.spooled_at = now;
        }
        if now.since(self.last.checked_at) >= HOUSEKEEPING {
            self.report(source);
            self.publish();
            self.last.checked_at = now;
            self.check_journal()?;
            self.check_threads()?;
            self.show_life(source);
            self.check_mirror();
            self.write_status(source);
        }
        Ok(step)
    }

    /// Ends the service if the journal is damaged. systemd restarts the service (Restart=on-failure), and the start
    /// rebuilds the journal. No call is lost, because calls without a journal row stay in the spool.
    fn check_journal(&self) -> anyhow::Result<()> {
        let Some(damage) = self.journal.damage() else { return Ok(()) };
        let cause = AlarmCause::JournalDamaged { damage };
        self.alerts.raise(&cause);
        Journal::mark_damaged(&self.config.journal, damage)?;
        anyhow::bail!(cause.to_string())
    }

    /// Ends the service if one of its threads has ended by itself. Otherwise the service would go on without that
    /// thread and e.g. deliver nothing. systemd restarts the service (Restart=on-failure).
    fn check_threads(&self) -> anyhow::Result<()> {
        for panic in panics::take_new() {
            self.alerts.raise(&AlarmCause::Described(AlarmKind::ThreadFailed, &panic));
        }
        let ended = [(self.spool.has_writer_ended(), "spool"), (self.post_processor.has_delivery_ended(), "delivery")];
        let ended = ended.into_iter().find_map(|(has_ended, name)| has_ended.then_some(name));
        match ended.or_else(|| self.life.supervisor.ended()) {
            None => Ok(()),
            Some(name) => {
                anyhow::bail!("the {name} thread ended because of a bug in callspan: the service must restart")
            }
        }
    }

    /// Starts the console again if it could not be started, e.g. because its address came late at boot.
    fn retry_console(&mut self, now: Timestamp) {
        let Some(at) = self.config.console.listen.filter(|_| self.console.is_none()) else { return };
        if now.since(self.last.console_tried_at) < CONSOLE_RETRY {
            return;
        }
        self.last.console_tried_at = now;
        match ConsoleServer::start(at, &self.config) {
            Ok(console) => {
                tracing::info!("the console listens on {}", console.url());
                self.console = Some(console);
            }
            Err(error) => tracing::debug!("{}", error_chain(&error)),
        }
    }

    /// Checks the mirror port at the end of each time window, and raises alarms about it.
    fn check_mirror(&mut self) {
        let Self { pipeline, mirror, alerts, state_files, config, .. } = self;
        if let Some(contents) = mirror.take_file() {
            state_files.put(config.journal.dir.join(MIRROR_FILE), contents);
        }
        let counters = MirrorCounters { engine: pipeline.engine.counters(), decode: pipeline.decoder.counters() };
        let Some(traffic) = &mut pipeline.traffic else { return };
        for (kind, detail) in mirror.check(clock::wall_clock(), counters, traffic) {
            alerts.raise(&AlarmCause::Described(kind, &detail));
        }
    }

    /// Handles the pause and resume requests that the console received.
    fn handle_api_requests(&mut self) {
        let Some(console) = &self.console else { return };
        let engine = &mut self.pipeline.engine;
        while let Some(request) = console.poll_request() {
            engine.handle_pause(&request.id, request.order, engine.now(), &mut self.spool);
            let paused = engine.is_paused(&request.id);
            request.answer(paused);
        }
    }

    /// Measures the sound levels of calls that an open live page of the console shows.
    fn publish_levels(&mut self) {
        let Some(console) = &self.console else { return };
        let engine = &mut self.pipeline.engine;
        engine.watch_levels(console.wants_levels());
        let asked = console.calls_with_wanted_levels();
        if !asked.is_empty() {
            console.publish_levels(engine.live_levels(asked));
        }
    }

    /// Raises alarms about events of the capture source, and about frames and packets that were lost since this
    /// function was last used.
    fn report(&mut self, source: &mut dyn CaptureSource) {
        for warning in source.take_warnings() {
            match &warning {
                CaptureWarning::InterfaceUp(text) => {
                    self.alerts.raise(&AlarmCause::Described(AlarmKind::InterfaceUp, text));
                }
                CaptureWarning::InterfaceDown(text) => {
                    // Tells the engine that packets may now be missing in calls in progress, because the recorder lost
                    // them.
                    self.pipeline.engine.handle_local_loss();
                    self.alerts.raise(&AlarmCause::Described(AlarmKind::InterfaceDown, text));
                }
                CaptureWarning::Source(text) | CaptureWarning::Unread(text) => tracing::warn!("{text}"),
            }
        }
        let counters = source.counters();
        let kernel = counters.dropped_by_kernel - self.reported.dropped_by_kernel.min(counters.dropped_by_kernel);
        let interface =
            counters.dropped_by_interface - self.reported.dropped_by_interface.min(counters.dropped_by_interface);
        if kernel + interface > 0 {
            self.pipeline.engine.handle_local_loss();
            self.alerts.raise(&AlarmCause::FramesLost { by_kernel: kernel, by_interface: interface });
        }
        self.reported = counters;
        self.report_drops();
    }

    fn report_drops(&mut self) {
        for (reason, text) in self.drop_alarms.take_new(self.pipeline.engine.now(), &self.pipeline.drops()) {
            match reason {
                DropReason::Full => self.alerts.raise(&AlarmCause::Described(AlarmKind::TablesFull, &text)),
                DropReason::Unreadable => tracing::warn!("{text}: run `callspan doctor` for details"),
            }
        }
    }

    /// Stops all threads; each first writes its data to the disk. Calls in progress stay in the spool, and the next
    /// start continues them.
    fn stop(mut self, source: &mut dyn CaptureSource, deadline: StopDeadline) {
        self.report(source);
        let counters = source.counters();
        let engine = self.pipeline.engine.counters();
        tracing::info!(
            frames = counters.frames,
            dropped_by_kernel = counters.dropped_by_kernel,
            dropped_by_interface = counters.dropped_by_interface,
            rtp = engine.rtp_packets,
            calls = engine.calls,
            under_way = self.pipeline.engine.live_calls(),
            left_aside = %self.pipeline.drops(),
            "stopped"
        );
        self.state_files.put(self.config.journal.dir.join(MIRROR_FILE), self.mirror.file());
        self.status.stopped_at = Some(clock::wall_clock());
        self.put_status();
        self.watch.stop_within(deadline.limit(STOP_WATCH, AFTER_RENDERING));
        if let Some(archive) = self.archive {
            archive.stop_within(STOP_ARCHIVE);
        }
        self.pipeline.engine.handle_shutdown();
        while let Some(event) = self.pipeline.engine.poll_event() {
            self.spool.forward(event);
        }
        self.state_files.stop_within(STOP_STATE_FILES);
        self.spool.flush();
        self.spool.shutdown();
        self.post_processor.stop_within(deadline.limit(STOP_RENDERING, AFTER_RENDERING));
    }
}

/// Interval at which buffered packets (chunks of the spool) are passed to the writing thread, if they are old enough.
const SPOOL_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time for which a stopping service reads frames that wait in the kernel. Usually frames wait for at most 20
/// ms.
const STOP_READING: Duration = Duration::from_millis(500);
/// Interval between two measurements of the sound levels of live calls. A person sees four updates a second as
/// movement.
const LEVEL_INTERVAL: Duration = Duration::from_millis(250);
/// Interval at which a console that could not be started is tried again.
const CONSOLE_RETRY: Duration = Duration::from_secs(30);
/// Interval between two checks of losses, threads and the journal. It is also the interval at which the console gets
/// new counters.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// Name of the file in the state folder that stores at which hours of the day SIP arrived.
const MIRROR_FILE: &str = "mirror.json";
