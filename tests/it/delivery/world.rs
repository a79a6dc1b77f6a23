//! A fake Pyrus, a journal and an executor for one test.

use std::path::PathBuf;
use std::time::Duration;

use callspan::call::record::{CallDirection, CallOutcome, CallRecord, CallVerdict, RecordingFile};
use callspan::delivery::{CallProgress, CallUpdate, DeliveryConsent, DeliverySummary, DeliveryTuning};
use callspan::fake_pyrus::{FakeEndpoint, FakeOptions, FakePyrus, TaskPolicy};
use callspan::journal::Journal;
use callspan::pyrus::config::Config;
use callspan::pyrus::{DeliveryHandle, DeliverySetup, RequestTimeouts};
use callspan::time::Timestamp;

/// A fake Pyrus, a journal on disk, and a folder with recordings.
pub(crate) struct DeliveryFixture {
    pub(crate) fake: FakePyrus,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: Config,
    pub(crate) setup: DeliverySetup,
}

impl DeliveryFixture {
    pub(crate) fn new(options: FakeOptions) -> Self {
        let fake = FakePyrus::start(options).expect("a fake on loopback");
        let config = Config {
            enabled: true,
            auth_url: fake.auth_url(),
            login: "bot@callspan".into(),
            security_key: Some("secret".to_owned().into()),
            account_id: "uniqueID12345".into(),
            ..Config::default()
        };
        Self { fake, dir: tempfile::tempdir().expect("a folder"), config, setup: fast() }
    }

    pub(crate) fn journal(&self) -> Journal {
        Journal::open(&callspan::journal::config::Config { dir: self.dir.path().join("state") }).expect("a journal")
    }

    pub(crate) fn start(&self) -> DeliveryHandle {
        self.fake.client_restarted();
        DeliveryHandle::start_with(&self.config, self.journal(), self.setup).expect("an executor")
    }

    /// Passes these calls to delivery and waits until no delivery can make progress any more.
    pub(crate) fn deliver(&self, calls: impl IntoIterator<Item = CallUpdate>) -> DeliverySummary {
        let handle = self.start();
        for call in calls {
            handle.send_update(call);
        }
        let summary = handle.run_until_settled(PATIENCE);
        drop(handle);
        summary
    }

    /// Writes a recording with `bytes` bytes of sound. The sound differs from call to call. Returns the path.
    pub(crate) fn wav(&self, name: &str, bytes: usize) -> PathBuf {
        let path = self.dir.path().join(format!("{name}.wav"));
        let seed = name.bytes().map(u64::from).sum();
        let mut rng = fastrand::Rng::with_seed(seed);
        let sound: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect();
        std::fs::write(&path, sound).expect("a file");
        path
    }

    /// Returns the update for a complete answered call with a recording.
    pub(crate) fn recorded(&self, id: &str) -> CallUpdate {
        let path = self.wav(id, 40_000);
        let mut update = unanswered(id);
        update.record.answered_at = Some(Timestamp::from_secs(START_S + 5));
        update.record.duration_s = Some(750.0);
        update.record.outcome = CallOutcome::Answered;
        update.record.verdict = Some(CallVerdict::BothSides);
        update.record.recordings = vec![part(1, &path)];
        update
    }

    /// Waits until the fake has received `requests` requests at an endpoint.
    pub(crate) fn wait_for(&self, endpoint: FakeEndpoint, requests: u64) {
        self.wait_until(|w| w.fake.state().requests(endpoint) >= requests);
    }

    pub(crate) fn wait_until(&self, ready: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if ready(self) {
                return;
            }
            pause(Duration::from_millis(5));
        }
        panic!("not within 10 s; requests {:?}", self.requests());
    }

    pub(crate) fn requests(&self) -> [u64; 4] {
        let state = self.fake.state();
        [FakeEndpoint::Auth, FakeEndpoint::Call, FakeEndpoint::Upload, FakeEndpoint::Attach].map(|e| state.requests(e))
    }

    /// Checks that a call is registered once, and that its recording is attached once with the same bytes.
    pub(crate) fn assert_delivered_once(&self, id: &str) {
        let state = self.fake.state();
        let calls: Vec<_> = state.calls.iter().filter(|c| c.external_id.as_deref() == Some(id)).collect();
        assert_eq!(calls.len(), 1, "{id} is registered");
        assert_eq!(calls[0].registered, 1, "{id} is registered once");
        let task = state.task(calls[0].task_id).expect("its task");
        let files: Vec<_> = task.attachments.iter().filter(|a| a.name == format!("{id}.wav")).collect();
        assert_eq!(files.len(), 1, "{id} is attached once");
        let file = state.file(&files[0].guid).expect("its file");
        let sent = std::fs::read(self.dir.path().join(format!("{id}.wav"))).expect("the recording");
        assert_eq!(file.bytes.as_ref().map(|b| b.as_slice()), Some(sent.as_slice()), "byte for byte");
        assert_eq!(state.duplicates, 0);
    }

    pub(crate) fn assert_no_violations(&self) {
        assert_eq!(self.fake.violations(), Vec::<String>::new());
    }
}

/// Runs a test once for each HTTP status with which Pyrus may report its own errors: 200 and 400.
pub(crate) fn each_error_status(test: impl Fn(DeliveryFixture)) {
    for status in [400, 200] {
        test(DeliveryFixture::new(FakeOptions {
            logic_error_status: status,
            mapping_error_status: status,
            task_policy: TaskPolicy::AlwaysNew,
            ..FakeOptions::default()
        }));
    }
}

/// Returns the update for a complete unanswered call from outside to extension 200.
pub(crate) fn unanswered(id: &str) -> CallUpdate {
    let record = CallRecord {
        schema: 1,
        id: id.into(),
        direction: CallDirection::Inbound,
        from: Some("+79774221338".into()),
        to: Some("+74953009080".into()),
        internal: Some("200".into()),
        invited_at: Some(Timestamp::from_secs(START_S)),
        ended_at: Some(Timestamp::from_secs(START_S + 755)),
        outcome: CallOutcome::NoAnswer,
        verdict: Some(CallVerdict::NotAnswered),
        ..CallRecord::default()
    };
    CallUpdate { record, progress: CallProgress::Complete, consent: DeliveryConsent::ByConfig }
}

pub(crate) fn part(number: u32, path: &std::path::Path) -> RecordingFile {
    RecordingFile {
        part: number,
        path: path.to_string_lossy().into_owned(),
        format: "wav".into(),
        starts_at: Timestamp::from_secs(START_S + 5),
        ends_at: Timestamp::from_secs(START_S + 755),
        duration_s: 750.0,
        sample_rate: 8000,
        channels: 2,
        bytes: std::fs::metadata(path).map_or(0, |m| m.len()),
        sha256: String::new(),
        plain_sha256: None,
    }
}

/// Returns a configuration in which all pauses are about a hundred times shorter than in the product.
fn fast() -> DeliverySetup {
    let ms = Duration::from_millis;
    DeliverySetup {
        tuning: DeliveryTuning {
            backoff: ms(10),
            backoff_max: ms(200),
            park: ms(300),
            park_max: ms(300),
            wait: ms(600),
            wait_max: ms(2000),
            auth_interval: ms(100),
            ..DeliveryTuning::default()
        },
        timeouts: RequestTimeouts {
            connect: ms(1000),
            json: ms(1500),
            upload_idle: ms(1000),
            upload_least: ms(60_000),
        },
        seed: 7,
    }
}

/// Waits in real time, because the sockets are real.
#[expect(clippy::disallowed_methods, reason = "a test of sockets and threads waits for them")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Time at which all calls begin, seconds since 1970: 2021-12-23T00:11:32Z. It comes from the example in the API's
/// documentation.
pub(crate) const START_S: i64 = 1_640_218_292;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
