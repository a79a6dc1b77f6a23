//! The start of the service: locks its folders, opens the journal, starts the threads, and continues the calls of the
//! earlier process.

use super::{LastRounds, MIRROR_FILE, RunningService};
use crate::call::Engine;
use crate::call::config::Config as CallConfig;
use crate::call::event::CallEvent;
use crate::call::test_call::TestCallKey;
use crate::capture::{CaptureCounters, CaptureSource};
use crate::console::ConsoleServer;
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::alerts::{AlarmKind, Alerts};
use crate::ops::config::Config;
use crate::ops::drops::DropAlarms;
use crate::ops::status::ServiceReport;
use crate::ops::supervision::{PATIENT_ROUND, SHORT_ROUND, Supervisor, ThreadLife};
use crate::ops::thread::StoppableThread;
use crate::service::life_signs::LifeSigns;
use crate::service::lock::{self, FolderLock};
use crate::service::mirror_watch::{MirrorTimes, MirrorWatch};
use crate::service::pipeline::Pipeline;
use crate::service::post_process::{self, PostProcessTools, PostProcessor, RenderWorkers};
use crate::service::recovery::{self, OpenedJournal};
use crate::service::state_files::StateFiles;
use crate::service::systemd::SystemdSocket;
use crate::service::watch::OwedCalls;
use crate::service::{archive, clock, resume, test_key, topology_file, watch};
use crate::spool::disk::DiskSpool;
use crate::spool::storage::{self, StorageFolder};
use crate::text::error_chain;
use crate::time::Timestamp;

impl RunningService {
    /// Starts the service.
    ///
    /// # Errors
    /// Fails if a folder is in use or its disk is missing. Also fails if a file cannot be read, or a thread cannot start.
    pub(super) fn start(
        config: &Config,
        source: &dyn CaptureSource,
        alerts: Alerts,
        systemd: SystemdSocket,
    ) -> anyhow::Result<Self> {
        raise_file_limit();
        let locks = lock_folders(config)?;
        alerts.drop_removed_receivers();
        let console = start_console(config, &alerts, &systemd)?;
        let console_tried_at = clock::wall_clock();
        let OpenedJournal { journal, alarm } = open_journal(config, &alerts)?;
        let (mut spool, events) = DiskSpool::start(&config.spool)?;
        let tools = PostProcessTools {
            journal: journal.clone(),
            store: spool.store(),
            alerts: alerts.clone(),
            render_workers: Some(RenderWorkers::of_this_program()),
            pauses: post_process::PAUSES,
        };
        let post_processor = PostProcessor::start(config, tools, events)?;
        post_processor.check_login();
        let owed = OwedCalls::default();
        let watch = watch::start(config, alerts.clone(), post_processor.delivery(), owed.clone(), journal.clone())?;
        let audit = crate::console::audit_reader(&config.journal.dir);
        let archive = archive::start(config, journal.clone(), alerts.clone(), alarm.is_some(), audit)?;
        let state_files = StateFiles::start()?;
        let test_key = test_key::load_or_create(&config.journal.dir);
        let engine = start_engine(config, source, test_key.clone());
        let pipeline = continue_calls(engine, &mut spool, &post_processor)?;
        let started_at = clock::wall_clock();
        console.iter().for_each(announce_console);
        let mut service = Self {
            pipeline,
            mirror: MirrorWatch::start(
                &config.journal.dir.join(MIRROR_FILE),
                MirrorTimes::of(&config.alerts),
                started_at,
            ),
            status: new_report(source, started_at),
            spool,
            post_processor,
            watch,
            archive,
            state_files,
            alerts,
            journal,
            config: config.clone(),
            test_key,
            life: LifeSigns::new(Supervisor::default(), systemd),
            owed,
            console,
            _locks: locks,
            last: LastRounds::at_start(console_tried_at),
            reported: CaptureCounters::default(),
            drop_alarms: DropAlarms::default(),
        };
        service.supervise_threads();
        Ok(service)
    }

    /// Adds all threads to the supervised threads.
    fn supervise_threads(&mut self) {
        let supervisor = &mut self.life.supervisor;
        supervisor.watch("spool", ThreadLife::of_ticks(self.spool.writer_rounds().into()), SHORT_ROUND);
        supervisor.watch("watch", self.watch.life(), SHORT_ROUND);
        supervisor.watch("state files", self.state_files.life(), SHORT_ROUND);
        supervisor.watch_helper("alerts", self.alerts.life(), PATIENT_ROUND);
        let optional = [
            ("archive", self.archive.as_ref().map(StoppableThread::life)),
            ("console", self.console.as_ref().and_then(ConsoleServer::life)),
        ];
        for (name, life) in optional {
            life.into_iter().for_each(|life| supervisor.watch_helper(name, life, SHORT_ROUND));
        }
        self.post_processor.supervise(supervisor);
    }
}

impl LastRounds {
    /// Returns the times before the first round of each kind of work.
    const fn at_start(console_tried_at: Timestamp) -> Self {
        Self {
            spooled_at: Timestamp::EPOCH,
            levels_at: Timestamp::EPOCH,
            checked_at: Timestamp::EPOCH,
            console_tried_at,
        }
    }
}

/// Raises the limit of open files of this process. The usual limit is 1,024, and the process needs one spool file
/// for each leg with media, up to 16,384, and further files and connections.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // A sandbox may refuse the higher limit. Then the old limit stays, and opening more files than it allows fails with
    // an error.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Locks the folders of spool and state. If two services used the same folders, both would render and deliver every
/// call. Also checks that the disk of each folder is mounted.
fn lock_folders(config: &Config) -> anyhow::Result<[FolderLock; 2]> {
    let folders: [StorageFolder<'_>; 3] =
        [("spool", &config.spool.dir), ("state", &config.journal.dir), ("recording", &config.recording.dir)];
    storage::check_all(&folders)?;
    let locks = [lock::acquire(&config.spool.dir)?, lock::acquire(&config.journal.dir)?];
    storage::mark_all(&folders);
    Ok(locks)
}

/// Starts the console if one is configured. It is started before the other threads, because it fails if its port is in
/// use. At a terminal the command then fails, too. Under systemd an alarm is raised and the service records without its
/// console, because a console must not cost calls.
fn start_console(config: &Config, alerts: &Alerts, systemd: &SystemdSocket) -> anyhow::Result<Option<ConsoleServer>> {
    match config.console.listen.map(|at| ConsoleServer::start(at, config)).transpose() {
        Ok(console) => Ok(console),
        Err(error) if systemd.is_supervised() => {
            let error = anyhow::Error::new(error);
            alerts.raise(&AlarmCause::Described(AlarmKind::ConsoleFailed, &error_chain(error.as_ref())));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Logs the addresses of the console.
fn announce_console(console: &ConsoleServer) {
    tracing::info!("the console listens on {}", console.url());
    if let Some(addr) = console.metrics_addr() {
        tracing::info!("metrics are at http://{addr}/metrics");
    }
    if let Some(fingerprint) = console.own_fingerprint() {
        tracing::info!("the console made its own certificate; browsers show the SHA-256 fingerprint {fingerprint}");
    }
}

/// Opens the journal. If it was damaged, raises an alarm.
fn open_journal(config: &Config, alerts: &Alerts) -> anyhow::Result<OpenedJournal> {
    let opened = recovery::open(&config.journal, &config.recording.dir)?;
    if let Some(alarm) = &opened.alarm {
        alerts.raise(&AlarmCause::Described(AlarmKind::JournalDamaged, alarm));
    }
    Ok(opened)
}

/// Returns an engine with the stored facts about the network.
fn start_engine(config: &Config, source: &dyn CaptureSource, test_key: Option<TestCallKey>) -> Engine {
    let engine_config = CallConfig { test_key, ..post_process::engine_config(config) };
    let mut engine = Engine::new(engine_config, source.name());
    engine.restore_topology(&topology_file::load(&config.journal.dir), clock::wall_clock());
    engine
}

/// Continues the calls that the earlier process left in the spool and in the journal.
fn continue_calls(
    mut engine: Engine,
    spool: &mut DiskSpool,
    post_processor: &PostProcessor,
) -> anyhow::Result<Pipeline> {
    let mut resumed = resume::resume(&mut engine, spool, post_processor)?;
    if !resumed.is_empty() {
        tracing::info!(legs = resumed.len(), under_way = engine.live_calls(), "read back from the spool");
    }
    while let Some(event) = engine.poll_event() {
        if let CallEvent::Ended(call) = &event {
            resumed.insert(call.record.id.clone()); // already being rendered, so `adopt` must skip it
        }
        spool.forward(event);
    }
    let mut pipeline = Pipeline::new(engine);
    pipeline.watch_traffic();
    post_processor.adopt(&mut pipeline.engine, &resumed)?;
    Ok(pipeline)
}

fn new_report(source: &dyn CaptureSource, started_at: Timestamp) -> ServiceReport {
    ServiceReport {
        version: String::from(env!("CARGO_PKG_VERSION")),
        started_at,
        source: source.name().to_owned(),
        ..ServiceReport::default()
    }
}
