//! Tests of long calls: their recordings are rendered and delivered in segments during the call.
//!
//! The parts of `callspan run` work in the test process. Time comes from the packets, so the test need not wait for a
//! segment of 30 s.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::phones::{self, MirroredTraffic, RtpPhone, SentDatagram, at_ms, wav};
use callspan::call::Engine;
use callspan::call::config::{CallRule, RuleAction};
use callspan::call::event::CallEvent;
use callspan::call::record::{CallRecord, CallVerdict, DeliveryState, Side};
use callspan::decode::UdpDatagram;
use callspan::fake_pyrus::{FakeOptions, FakePyrus};
use callspan::journal::{CallFilter, CallStage, Journal, StoredCall};
use callspan::ops::alerts::{AlarmRunner, Alerts};
use callspan::ops::config::Config;
use callspan::recording::{FolderLayout, Recorder};
use callspan::service::post_process::{self, PostProcessTools, PostProcessor};
use callspan::service::{recovery, resume};
use callspan::spool::disk::DiskSpool;
use callspan::time::Timestamp;
use secrecy::SecretString;

/// Maximum size of an uploaded file. 1 MiB is 32 s of 16-bit stereo at 8 kHz.
const UPLOAD_MIB: u32 = 1;
const PART_MS: f64 = 32_000.0;
/// Time of the answer, i.e. of sample 0, ms.
const ANSWER_MS: f64 = 1_000.0;
/// Time from the end of a segment to its rendering, ms.
const SETTLE_MS: f64 = 30_000.0;
/// Time of the BYE, ms. There are four full segments and a last segment of 17 s.
const BYE_MS: f64 = 146_000.0;

struct SegmentSetup {
    dir: tempfile::TempDir,
    fake: FakePyrus,
    config: Config,
}

impl SegmentSetup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakePyrus::start(FakeOptions::default()).unwrap();
        let options = FakeOptions::default();
        let mut config = Config::default();
        config.spool.dir = dir.path().join("spool");
        config.journal.dir = dir.path().join("state");
        config.recording.dir = dir.path().join("calls");
        config.recording.sample_rate = Some(8_000);
        config.recording.min_free_gib = 0;
        config.call.numbers.extension_pattern = String::from("102,201");
        config.call.numbers.extensions = Vec::new();
        config.pyrus.enabled = true;
        config.pyrus.max_upload_mib = UPLOAD_MIB;
        config.pyrus.auth_url = fake.auth_url();
        config.pyrus.login.clone_from(&options.users[0].login);
        config.pyrus.account_id.clone_from(&options.accounts[0].account_id);
        config.pyrus.security_key = Some(SecretString::from(options.users[0].security_key.clone()));
        for folder in [&config.spool.dir, &config.journal.dir, &config.recording.dir] {
            std::fs::create_dir_all(folder).unwrap();
        }
        Self { dir, fake, config }
    }

    /// Returns the names of the files that are attached in Pyrus, in the order of their arrival.
    fn attached(&self) -> Vec<String> {
        let state = self.fake.state();
        state.tasks.iter().flat_map(|t| t.attachments.iter().map(|a| a.name.clone())).collect()
    }
}

/// The running parts of the service.
struct LongCallRecorder {
    journal: Journal,
    engine: Engine,
    restarted: bool,
    spool: DiskSpool,
    finisher: PostProcessor,
    alerts: Alerts,
    runner: AlarmRunner,
}

impl LongCallRecorder {
    fn start(place: &SegmentSetup) -> Self {
        let config = &place.config;
        let journal = recovery::open(&config.journal, &config.recording.dir).unwrap().journal;
        let (alerts, runner) = Alerts::start(&config.alerts).unwrap();
        let (mut spool, events) = DiskSpool::start(&config.spool).unwrap();
        let tools = PostProcessTools {
            journal: journal.clone(),
            store: spool.store(),
            alerts: alerts.clone(),
            render_workers: None,
            pauses: PAUSES,
        };
        let finisher = PostProcessor::start(config, tools, events).unwrap();
        let mut engine = Engine::new(post_process::engine_config(config), "made up");
        let revived = resume::resume(&mut engine, &mut spool, &finisher).unwrap();
        while let Some(event) = engine.poll_event() {
            spool.forward(event);
        }
        finisher.adopt(&mut engine, &revived).unwrap();
        Self { journal, restarted: !revived.is_empty(), engine, spool, finisher, alerts, runner }
    }

    fn hear<'a>(&mut self, datagrams: impl IntoIterator<Item = UdpDatagram<'a>>) {
        for datagram in datagrams {
            self.engine.handle_datagram(&datagram, &mut self.spool);
            self.forward();
        }
    }

    /// Passes packets to the recorder, from the time `from_ms` to the time `to_ms` (excluded).
    fn hear_between(&mut self, packets: &[SentDatagram], from_ms: f64, to_ms: f64) {
        let heard = packets.iter().filter(|p| p.at >= at_ms(from_ms) && p.at < at_ms(to_ms));
        self.hear(heard.map(datagram));
    }

    #[expect(clippy::disallowed_methods, reason = "so does the restart")]
    /// Waits ten seconds without packets. After a restart, time must come from the wall clock.
    fn wait(&mut self) {
        let restarted = Timestamp::EPOCH + SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = if self.restarted { self.engine.now().max(restarted) } else { self.engine.now() };
        self.engine.handle_timeout(now + Duration::from_secs(10), &mut self.spool);
        self.forward();
    }

    fn forward(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            self.spool.forward(event);
        }
        self.spool.handle_timeout(self.engine.now());
    }

    fn call(&self) -> Option<StoredCall> {
        let mut calls = self.journal.calls(&CallFilter::default()).unwrap();
        assert!(calls.len() <= 1, "{} calls", calls.len());
        calls.pop()
    }

    /// Waits until the live call has `count` segments in the journal. Returns its record.
    fn until_parts(&self, count: usize) -> CallRecord {
        until("the parts are in the journal", || self.call().is_some_and(|c| c.record.recordings.len() >= count));
        let stored = self.call().unwrap();
        assert_eq!((stored.stage, stored.record.recordings.len()), (CallStage::Live, count));
        assert!(stored.record.ended_at.is_none());
        stored.record
    }

    fn until_complete(&self) -> CallRecord {
        until("the call is complete", || self.call().is_some_and(|c| c.stage == CallStage::Complete));
        self.call().unwrap().record
    }

    fn stop(mut self) {
        self.spool.flush();
        self.spool.shutdown();
        self.finisher.stop();
        drop(self.alerts);
        self.runner.join();
    }
}

fn datagram(packet: &SentDatagram) -> UdpDatagram<'_> {
    UdpDatagram {
        at: packet.at,
        src: packet.src,
        dst: packet.dst,
        payload: &packet.payload,
        wire_len: packet.payload.len() as u32,
        interface: 0,
    }
}

/// Returns a call on a network with 30 ms of jitter and 1 % of loss. The caller's clock is fast by 150 ppm. The callee
/// is silent for three seconds around the end of the first segment.
fn long_call() -> MirroredTraffic {
    let mut wire = MirroredTraffic::answered();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut phones = [RtpPhone::new(Side::Caller), RtpPhone::new(Side::Callee)];
    for phone in &mut phones {
        let step = if phone.side == Side::Caller { 20.0 * (1.0 - 150e-6) } else { 20.0 };
        let mut now = ANSWER_MS;
        while now < BYE_MS - 20.0 {
            let silent = phone.side == Side::Callee && (31_500.0..34_500.0).contains(&now);
            if silent || rng.f64() < 0.01 {
                phone.advance();
            } else {
                phone.send(&mut wire, at_ms(now + rng.f64() * 30.0));
            }
            now += step;
        }
    }
    wire.bye(BYE_MS);
    wire
}

/// Returns the time at which a segment is rendered, ms. A packet must come after the segment is due, so the test sends
/// a packet a second later.
fn due_ms(part: u32) -> f64 {
    ANSWER_MS + PART_MS * f64::from(part) + SETTLE_MS + 1_500.0
}

/// Checks the files of a record. Its data about them must be true, each file must begin where the file before ended,
/// and all together must equal one long file.
fn assert_whole(record: &CallRecord, wire: MirroredTraffic) {
    let whole = phones::record(wire);
    let parts: Vec<_> = record.recordings.iter().map(|r| r.part).collect();
    assert_eq!(parts, [1, 2, 3, 4, 5]);
    for pair in record.recordings.windows(2) {
        assert_eq!(pair[0].ends_at, pair[1].starts_at);
    }
    for file in &record.recordings {
        let (bytes, sha256) = callspan::recording::digest(Path::new(&file.path)).unwrap();
        assert_eq!((bytes, &sha256), (file.bytes, &file.sha256), "{}", file.path);
    }
    let frames: Vec<[i16; 2]> = record.recordings.iter().flat_map(|r| wav(Path::new(&r.path))).collect();
    assert_eq!(record.recordings[0].starts_at, whole.record.recordings[0].starts_at);
    assert_eq!(record.recordings[4].ends_at, whole.record.recordings[0].ends_at);
    assert_eq!(frames.len(), whole.frames.len());
    let differs = frames.iter().zip(&whole.frames).position(|(a, b)| a != b);
    assert_eq!(differs, None, "sample {differs:?} is not where one file has it");
    assert_eq!(
        (record.verdict, &record.sides),
        (Some(CallVerdict::BothSides), &whole.record.sides),
        "of the whole call"
    );
}

/// Checks that the folder has no unknown file. Each file must be a recording that the record names, the peaks of such a
/// recording, or the record itself.
fn assert_no_strangers(place: &SegmentSetup, record: &CallRecord) {
    let mut known: Vec<PathBuf> = record.recordings.iter().map(|r| PathBuf::from(&r.path)).collect();
    let peaks: Vec<PathBuf> = known.iter().map(|path| path.with_extension("peaks")).collect();
    known.extend(peaks);
    known.push(PathBuf::from(&record.recordings[0].path).with_extension("json"));
    known.sort();
    assert_eq!(below(&place.config.recording.dir), known);
}

#[test]
fn segments_delivered_during_the_call_equal_one_file() {
    let place = SegmentSetup::new();
    let mut station = LongCallRecorder::start(&place);
    let packets = long_call().sorted();

    station.hear_between(&packets, 0.0, due_ms(1) - 1_000.0);
    assert!(station.call().is_none_or(|c| c.record.recordings.is_empty()), "it is not closed yet");
    station.hear_between(&packets, due_ms(1) - 1_000.0, due_ms(1));
    let live = station.until_parts(1);
    let first = live.recordings[0].clone();
    assert_eq!((first.starts_at, first.ends_at), (at_ms(ANSWER_MS), at_ms(ANSWER_MS + PART_MS)));
    let before = std::fs::read(&first.path).unwrap();
    until("the first part is in the task", || place.attached().len() == 1);
    assert_eq!(station.call().unwrap().stage, CallStage::Live, "the call goes on");

    station.hear_between(&packets, due_ms(1), due_ms(2));
    station.until_parts(2);
    until("the second part is in the task", || place.attached().len() == 2);
    station.hear_between(&packets, due_ms(2), BYE_MS + 1.0);
    station.wait();
    until("all is delivered", || {
        station.call().is_some_and(|c| c.record.delivery.state == DeliveryState::Done && c.record.verdict.is_some())
    });
    let record = station.until_complete();
    station.stop();

    assert_eq!(record.recordings[0], first, "what was said of it stays");
    assert!(std::fs::read(&first.path).unwrap() == before, "it keeps its bytes");
    assert_whole(&record, long_call());
    assert_no_strangers(&place, &record);
    let id = &record.id;
    let names = [format!("{id}.wav")].into_iter().chain((2..=5).map(|n| format!("{id}-{n}.wav")));
    assert_eq!(place.attached(), names.collect::<Vec<_>>());
    assert_eq!((place.fake.state().calls.len(), place.fake.state().duplicates), (1, 0));
    assert_eq!(place.fake.violations().len(), 0);
    assert!(below(&place.config.spool.dir).iter().all(|p| p.extension().is_none_or(|e| e != "pcapng")));
}

#[test]
fn a_replay_of_the_same_call_gives_parts_of_the_same_bytes() {
    let place = SegmentSetup::new();
    let mut station = LongCallRecorder::start(&place);
    station.hear_between(&long_call().sorted(), 0.0, BYE_MS + 1.0);
    station.until_parts(3);
    station.wait();
    let live = station.until_complete();
    station.stop();

    let mut stage = phones::EngineWithSpool::new(place.config.call.clone());
    stage.play(&long_call().sorted());
    stage.engine.handle_end_of_capture(&mut stage.spool);
    stage.ended.extend(phones::ended(&mut stage.engine));
    let dir = tempfile::tempdir().unwrap();
    let config = callspan::recording::config::Config { dir: dir.path().to_owned(), ..place.config.recording.clone() };
    let recorder = Recorder::new(config, FolderLayout::Flat, Some(u64::from(UPLOAD_MIB) << 20));
    let replayed = recorder.record(&stage.ended[0], &stage.spool).unwrap();
    let hashes = |record: &CallRecord| record.recordings.iter().map(|r| r.sha256.clone()).collect::<Vec<_>>();
    assert_eq!(hashes(&replayed), hashes(&live));
    assert_eq!(replayed.recordings.len(), 5);
}

#[test]
fn a_restart_between_parts_loses_and_doubles_nothing() {
    let place = SegmentSetup::new();
    let packets = long_call().sorted();
    // Moments of a stop. They are before any segment, after the first segment, in the middle of the second, and when
    // the third is full but not due.
    let stops = [0.0, due_ms(1), due_ms(1) + 7_000.0, due_ms(3) - 5_000.0, BYE_MS + 1.0];
    let parts = [1, 1, 2];
    for (n, span) in stops.windows(2).enumerate() {
        let mut station = LongCallRecorder::start(&place);
        station.hear_between(&packets, span[0], span[1]);
        if let Some(&count) = parts.get(n) {
            station.until_parts(count);
            until("they are in the task", || place.attached().len() == count);
            station.stop();
            place.fake.client_restarted();
            continue;
        }
        station.wait();
        until("all is delivered", || {
            let done = |c: &StoredCall| c.record.delivery.state == DeliveryState::Done;
            station.call().is_some_and(|c| done(&c) && c.stage == CallStage::Complete)
        });
        let mut record = station.until_complete();
        station.stop();
        // The problem of each restart comes from the clock of this test, and no packet is missing. So it is not
        // compared.
        record.problems.retain(|p| p.kind != callspan::call::record::ProblemKind::RestartGap);
        assert_whole(&record, long_call());
        assert_no_strangers(&place, &record);
        assert_eq!((place.attached().len(), place.fake.state().duplicates), (5, 0));
        assert_eq!(place.fake.state().calls.len(), 1);
    }
}

#[test]
fn a_segment_without_a_row_is_entered_by_the_next_start() {
    let mut place = SegmentSetup::new();
    place.config.pyrus.directions.clear(); // without delivery the journal may be set back
    let packets = long_call().sorted();
    let mut station = LongCallRecorder::start(&place);
    station.hear_between(&packets, 0.0, due_ms(1));
    station.until_parts(1);
    station.stop();
    let before = place.dir.path().join("before");
    copy(&place.config.journal.dir, &before);

    let mut station = LongCallRecorder::start(&place);
    station.hear_between(&packets, due_ms(1), due_ms(2));
    let second = PathBuf::from(&station.until_parts(2).recordings[1].path);
    station.stop();
    // The crash happened after the second file got its name and before its row was written. A third file was begun.
    std::fs::remove_dir_all(&place.config.journal.dir).unwrap();
    copy(&before, &place.config.journal.dir);
    assert!(second.is_file());
    let half = second.with_file_name(second.file_name().unwrap().to_str().unwrap().replace(".2.", ".3.") + ".part");
    std::fs::write(&half, "half").unwrap();

    let mut station = LongCallRecorder::start(&place);
    station.until_parts(2);
    until("the half is gone", || !half.exists());
    station.hear_between(&packets, due_ms(2), BYE_MS + 1.0);
    station.wait();
    let record = station.until_complete();
    station.stop();
    assert_whole(&record, long_call());
    assert_no_strangers(&place, &record);
}

#[test]
fn a_journal_lost_during_a_call_neither_loses_nor_repeats_segments() {
    let place = SegmentSetup::new();
    let packets = long_call().sorted();
    let mut station = LongCallRecorder::start(&place);
    station.hear_between(&packets, 0.0, due_ms(2));
    let file = PathBuf::from(&station.until_parts(2).recordings[0].path);
    let beside = || serde_json::from_slice::<CallRecord>(&std::fs::read(file.with_extension("json")).ok()?).ok();
    until("the record says what Pyrus has", || beside().is_some_and(|r| r.delivery.attached == [1, 2]));
    station.stop();
    std::fs::remove_dir_all(&place.config.journal.dir).unwrap();
    place.fake.client_restarted();

    let mut station = LongCallRecorder::start(&place);
    station.hear_between(&packets, due_ms(2), BYE_MS + 1.0);
    station.wait();
    until("all is delivered", || {
        let stored = station.call();
        stored.is_some_and(|c| c.stage == CallStage::Complete && c.record.delivery.state == DeliveryState::Done)
    });
    let record = station.until_complete();
    station.stop();
    assert_whole(&record, long_call());
    assert_eq!((place.attached().len(), place.fake.state().duplicates, place.fake.state().calls.len()), (5, 0, 1));
}

#[test]
fn a_call_that_has_fallen_silent_waits_for_it_may_be_over() {
    let mut config = callspan::call::config::Config { part_s: 32, ..Default::default() };
    config.silence_s = 120;
    let mut stage = phones::EngineWithSpool::new(config);
    let mut wire = MirroredTraffic::answered();
    for side in [Side::Caller, Side::Callee] {
        RtpPhone::new(side).talk(&mut wire, ANSWER_MS, 40_000.0);
    }
    phones::feed(&mut stage.engine, &wire.sorted(), &mut stage.spool);
    stage.engine.handle_timeout(at_ms(200_000.0), &mut stage.spool);
    let events: Vec<CallEvent> = std::iter::from_fn(|| stage.engine.poll_event()).collect();
    let Some(CallEvent::Ended(ended)) = events.last() else { panic!("silence ends it: {events:?}") };
    assert_eq!(ended.record.ended_at, Some(at_ms(39_980.0)), "with its last packet");
    assert!(!events.iter().any(|e| matches!(e, CallEvent::SegmentsDue(_))), "no part was closed behind its end");
    assert_eq!(stage.engine.tables().timers, 0);
}

#[test]
fn a_rule_that_forbids_the_call_later_takes_its_parts_away() {
    use crate::support::scenario::{self, Scene, ScenePhone};
    let mut place = SegmentSetup::new();
    let extension = Some(String::from("201"));
    let rule = CallRule { direction: None, number: None, extension, header: None, action: RuleAction::Exclude };
    place.config.call.rules.push(rule);
    let (mut outside, mut operator) = (ScenePhone::new("+79990000001", 1), ScenePhone::new("201", 3));
    let mut pbx = ScenePhone { voice: 5, ..ScenePhone::new("+74953009080", 9) };
    let mut scene = Scene::new();
    let trunk = scene.leg(&mut outside, &mut pbx, ["+79990000001", "+74953009080"]);
    let rings = scene.leg(&mut pbx, &mut operator, ["+79990000001", "201"]);
    scene.connect(trunk);
    scene.sound(&[(5, trunk, Side::Callee)], 70_000);
    scene.invite(rings);
    scene.ring(rings);
    scene.wait(1_000);
    let music_ends = scene.now();
    scene.answer(rings);
    scene.bridge(trunk, rings, 70_000);
    scene.bye(trunk, Side::Caller);
    scene.bye(rings, Side::Caller);
    let packets = scene.packets();

    let mut station = LongCallRecorder::start(&place);
    station.hear(packets.iter().filter(|p| p.at < scenario::at(music_ends)).map(scenario::ScenePacket::datagram));
    let file = PathBuf::from(&station.until_parts(1).recordings[0].path);
    until("the record lies beside it", || file.with_extension("json").is_file());
    station.hear(packets.iter().filter(|p| p.at >= scenario::at(music_ends)).map(scenario::ScenePacket::datagram));
    until("the part is taken away", || !file.exists());
    station.wait();
    let record = station.until_complete();
    until("the call is told", || place.fake.state().calls.len() == 1);
    let files = station.journal.recordings().unwrap();
    let journal = station.journal.clone();
    station.stop();
    assert_eq!((record.verdict, record.recordings.len(), files.len()), (Some(CallVerdict::Excluded), 0, 0));
    assert_eq!(below(&place.config.recording.dir), [file.with_extension("json")]);
    // When the call ended, the request for the segment could already be on its way.
    let delivered = place.attached().len();
    let reason = journal.call(&record.id).unwrap().unwrap().record.verdict_reason.unwrap();
    assert_eq!(reason.contains("had been delivered before"), delivered == 1, "{delivered}: {reason}");
}

#[test]
fn the_parts_of_a_live_call_are_held() {
    let mut place = SegmentSetup::new();
    place.config.pyrus.directions.clear();
    let mut station = LongCallRecorder::start(&place);
    let packets = long_call().sorted();
    station.hear_between(&packets, 0.0, due_ms(1));
    station.until_parts(1);
    assert!(station.journal.recordings().unwrap().iter().all(|f| f.is_held));
    station.hear_between(&packets, due_ms(1), BYE_MS + 1.0);
    station.wait();
    station.until_complete();
    let files = station.journal.recordings().unwrap();
    station.stop();
    assert_eq!(files.len(), 5);
    assert!(files.iter().all(|f| !f.is_held));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Returns all files in a folder and its subfolders.
fn below(folder: &Path) -> Vec<PathBuf> {
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
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Pauses between attempts of delivery, shorter than in the product.
const PAUSES: &[Duration] = &[Duration::from_millis(100)];
