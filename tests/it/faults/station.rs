//! A recorder for tests: the parts of `callspan run`, which read a capture file instead of a network interface.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use callspan::call::Engine;
use callspan::call::event::CallEvent;
use callspan::call::record::{CallRecord, DeliveryState};
use callspan::capture::{CaptureSource, files};
use callspan::fake_pyrus::{FakeEndpoint, FakeOptions, FakePyrus};
use callspan::journal::{CallFilter, CallStage, Journal, StoredCall};
use callspan::ops::alerts::{self, AlarmRunner, Alerts};
use callspan::ops::config::Config;
use callspan::service::pipeline::{Pipeline, PipelineStep};
use callspan::service::post_process::{self, PostProcessTools, PostProcessor, RenderWorkers};
use callspan::service::recovery;
use callspan::service::resume;
use callspan::spool::disk::DiskSpool;
use secrecy::SecretString;

/// Folders, a fake Pyrus, and a configuration for both.
pub(crate) struct FaultSetup {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) fake: FakePyrus,
    pub(crate) config: Config,
    /// The worker processes that render calls. `None` means that the test process renders them.
    pub(crate) workers: Option<RenderWorkers>,
    /// The captures that the recorder reads.
    pub(crate) captures: Vec<PathBuf>,
    /// Pauses between tries.
    pub(crate) pauses: &'static [Duration],
}

impl FaultSetup {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let fake = FakePyrus::start(FakeOptions::default()).expect("free ports");
        let options = FakeOptions::default();
        let mut config = Config::default();
        config.spool.dir = dir.path().join("spool");
        config.journal.dir = dir.path().join("state");
        config.recording.dir = dir.path().join("calls");
        // Free space on the test machine must not change the result.
        config.recording.min_free_gib = 0;
        config.call.numbers.extension_pattern = String::from("102");
        config.pyrus.enabled = true;
        config.pyrus.auth_url = fake.auth_url();
        config.pyrus.login.clone_from(&options.users[0].login);
        config.pyrus.account_id.clone_from(&options.accounts[0].account_id);
        config.pyrus.security_key = Some(SecretString::from(options.users[0].security_key.clone()));
        config.alerts.command = Some(format!("cat >> {}", dir.path().join("alarms").display()));
        for folder in [&config.spool.dir, &config.journal.dir, &config.recording.dir] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        Self { dir, fake, config, workers: None, captures: vec![capture()], pauses: PAUSES }
    }

    /// Returns the kinds of the alarms so far.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("alarms")).unwrap_or_default();
        let kind =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["kind"].as_str().map(String::from);
        text.lines().filter_map(kind).collect()
    }

    /// Returns how often Pyrus was asked for a registration, an upload and an attachment.
    pub(crate) fn sent(&self) -> [u64; 3] {
        let state = self.fake.state();
        [FakeEndpoint::Call, FakeEndpoint::Upload, FakeEndpoint::Attach].map(|e| state.requests(e))
    }
}

/// The running parts of the service.
pub(crate) struct TestRecorder {
    pub(crate) journal: Journal,
    pub(crate) alarm: Option<String>,
    pub(crate) alerts: Alerts,
    runner: AlarmRunner,
    spool: DiskSpool,
    pipeline: Pipeline,
    source: Box<dyn CaptureSource>,
    finisher: PostProcessor,
}

impl TestRecorder {
    /// Starts all parts as `callspan run` does.
    pub(crate) fn start(place: &FaultSetup) -> Self {
        let config = &place.config;
        let opened = recovery::open(&config.journal, &config.recording.dir).expect("a journal");
        let (alerts, runner) = Alerts::start(&alerts::Config { ..config.alerts.clone() }).expect("a thread");
        let (mut spool, events) = DiskSpool::start(&config.spool).expect("a spool");
        let tools = PostProcessTools {
            journal: opened.journal.clone(),
            store: spool.store(),
            alerts: alerts.clone(),
            render_workers: place.workers.clone(),
            pauses: place.pauses,
        };
        let finisher = PostProcessor::start(config, tools, events).expect("threads");
        let mut engine = Engine::new(post_process::engine_config(config), "test");
        let mut revived = resume::resume(&mut engine, &mut spool, &finisher).expect("the spool can be read");
        while let Some(event) = engine.poll_event() {
            if let CallEvent::Ended(call) = &event {
                revived.insert(call.record.id.clone());
            }
            spool.forward(event);
        }
        finisher.adopt(&mut engine, &revived).expect("the journal can be read");
        let source = files::open(&place.captures).expect("a capture");
        let (journal, alarm) = (opened.journal, opened.alarm);
        Self {
            journal,
            alarm,
            alerts,
            runner,
            spool,
            pipeline: Pipeline::new(engine),
            source: Box::new(source),
            finisher,
        }
    }

    /// Adopts the live calls of the journal once more. Calls in `ended` ended while the spool was read.
    pub(crate) fn adopt(&mut self, ended: &[&str]) {
        let ended = ended.iter().map(|id| String::from(*id)).collect();
        self.finisher.adopt(&mut self.pipeline.engine, &ended).expect("the journal can be read");
        self.forward();
    }

    /// Passes the next `frames` frames of the capture to the recorder.
    pub(crate) fn hear(&mut self, frames: usize) {
        for _ in 0..frames {
            if self.pipeline.step(&mut *self.source, &mut self.spool).expect("readable") == PipelineStep::End {
                self.pipeline.end(&mut self.spool);
                self.forward();
                return;
            }
            self.forward();
            self.spool.handle_timeout(self.pipeline.engine.now());
        }
    }

    /// Skips the next `frames` frames of the capture, as if they had been lost.
    pub(crate) fn skip(&mut self, frames: usize) {
        for _ in 0..frames {
            self.source.next_event().expect("readable");
        }
    }

    /// Simulates a minute without packets.
    pub(crate) fn hear_nothing(&mut self) {
        for _ in 0..600 {
            let now = self.pipeline.engine.now() + Duration::from_millis(100);
            self.pipeline.engine.handle_timeout(now, &mut self.spool);
            self.forward();
        }
    }

    fn forward(&mut self) {
        while let Some(event) = self.pipeline.engine.poll_event() {
            self.spool.forward(event);
        }
    }

    /// Stops as `callspan run` does at SIGTERM.
    pub(crate) fn stop(mut self) {
        self.spool.flush();
        self.spool.shutdown();
        self.finisher.stop();
        drop(self.alerts);
        self.runner.join();
    }
}

/// Returns the path of a capture with one call of eight seconds: 101 calls 102 with G.711 A-law (fixtures/README.md).
pub(crate) fn capture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls/g711a_direct/capture.pcap")
}

/// Pauses between tries, shorter than in the product.
const PAUSES: &[Duration] = &[Duration::from_millis(100)];

/// A number of frames that exceeds the number in the capture.
pub(crate) const ALL: usize = 100_000;

/// Returns the only call of the journal.
pub(crate) fn call(journal: &Journal) -> Option<StoredCall> {
    let mut calls = journal.calls(&CallFilter::default()).ok()?;
    assert!(calls.len() <= 1, "{} calls", calls.len());
    calls.pop()
}

/// Waits until the call is complete and delivered. Returns the record from the file beside its recording.
pub(crate) fn delivered(place: &FaultSetup, journal: &Journal) -> CallRecord {
    let mut record = None;
    until("the call is delivered and its record says so", || {
        let Some(stored) = call(journal).filter(|c| c.stage == CallStage::Complete) else { return false };
        record = beside(&place.config.recording.dir, &stored.record.id);
        record.as_ref().is_some_and(|r| r.delivery.state == DeliveryState::Done)
    });
    record.expect("just seen")
}

/// Returns the record from the file beside the recording.
pub(crate) fn beside(recordings: &Path, id: &str) -> Option<CallRecord> {
    let name = std::ffi::OsString::from(format!("{id}.json"));
    let path = below(recordings).into_iter().find(|p| p.file_name() == Some(&name))?;
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Returns all files below a folder.
pub(crate) fn below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

#[track_caller]
#[expect(clippy::disallowed_methods, reason = "waits for threads of the recorder")]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A small file system in memory. Dropping this value unmounts it.
pub(crate) struct TmpfsMount {
    at: PathBuf,
}

impl TmpfsMount {
    pub(crate) fn new(at: &Path, kib: u32) -> Self {
        let options = format!("size={kib}k,mode=0700");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "callspan-test"]).arg(at).output();
        assert!(output.as_ref().is_ok_and(|o| o.status.success()), "{output:?}");
        Self { at: at.to_owned() }
    }

    pub(crate) fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let output = Command::new("mount").args(["-o", &options]).arg(&self.at).output().expect("mount runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Writes a file that takes all free space. Returns its path; removing the file frees the space.
    pub(crate) fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let path = self.at.join("filler");
        let mut file = std::fs::File::create(&path).expect("room for a name");
        for size in [64 * 1024, 4096, 512, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for TmpfsMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}
