//! Tests removal of recordings by age and by free space, and holds on calls. Also tests the lock that allows only one
//! service for each spool.

use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::configuration::ServiceToml;
use callspan::call::record::{
    CallOutcome, CallRecord, CallVerdict, DeliveryRecord, DeliveryState, LegRecord, RecordingFile,
};
use callspan::delivery::row::{JobRow, JobStage};
use callspan::journal::{CallStage, Journal};
use callspan::time::Timestamp;

/// A minimum of free space in GiB that no test machine has free.
const FULL: u32 = 1_048_576;
/// Size of a recording in the records, bytes. It is larger than the minimum [`FULL`], so the removal of recordings seems to
/// reach this minimum.
const RECORDED: u64 = 1 << 51;

/// The folders of a service that captures on the loopback interface, where no calls are.
struct RetentionSetup {
    dir: tempfile::TempDir,
}

impl RetentionSetup {
    /// Creates a setup without a minimum of free space, so that the disk of the test machine does not matter.
    fn new(lines: &[(&'static str, &str)]) -> Self {
        Self::on_a_disk(0, lines)
    }

    /// Creates a setup with a minimum of free space in GiB.
    fn on_a_disk(min_free_gib: u32, lines: &[(&'static str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let toml = ServiceToml::new(dir.path())
            .set("capture", "interface = \"lo\"")
            .set("capture", "buffer_mib = 1")
            .set("recording", &format!("min_free_gib = {min_free_gib}"));
        lines.iter().fold(toml, |toml, (section, line)| toml.set(section, line)).write();
        Self { dir }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("callspan.toml")
    }

    fn journal(&self) -> Journal {
        Journal::open(&callspan::journal::config::Config { dir: self.dir.path().join("state") }).expect("a journal")
    }

    /// Adds a finished call with a record and a recording of 1 KiB. Returns the path of the recording.
    fn call(&self, id: &str, delivery: Option<&str>) -> PathBuf {
        self.call_in(&format!("{id}.wav"), delivery)
    }

    /// Does the same as [`RetentionSetup::call`]. `name` is the file name: the call's id and an extension.
    fn call_in(&self, name: &str, delivery: Option<&str>) -> PathBuf {
        let (id, ending) = name.split_once('.').expect("it has an ending");
        let folder = self.dir.path().join("recordings/2026/11/23");
        std::fs::create_dir_all(&folder).expect("made");
        let path = folder.join(name);
        std::fs::write(&path, [0; 1024]).expect("written");
        let at = Timestamp::from_secs(1_795_409_819);
        let recording = RecordingFile {
            part: 1,
            path: path.display().to_string(),
            format: "wav".to_owned(),
            starts_at: at,
            ends_at: at,
            duration_s: 0.0,
            sample_rate: 8000,
            channels: 2,
            bytes: RECORDED,
            sha256: String::new(),
            plain_sha256: ending.ends_with("age").then(String::new),
        };
        let record = CallRecord {
            schema: 1,
            id: id.to_owned(),
            invited_at: Some(at),
            outcome: CallOutcome::Answered,
            verdict: Some(CallVerdict::BothSides),
            recordings: vec![recording],
            legs: vec![LegRecord::default()],
            delivery: DeliveryRecord {
                state: if delivery == Some("done") { DeliveryState::Done } else { DeliveryState::None },
                ..DeliveryRecord::default()
            },
            ..CallRecord::default()
        };
        let json = serde_json::to_vec(&record).expect("JSON");
        std::fs::write(folder.join(format!("{id}.json")), json).expect("written");
        let journal = self.journal();
        journal.put_call(&record, CallStage::Complete).expect("written");
        if let Some(stage) = delivery {
            let stage = JobStage::from_word(stage).expect("a stage");
            let row = JobRow { id: id.to_owned(), stage, body: "{}".to_owned(), ..JobRow::default() };
            journal.save_job(&row).expect("written");
        }
        path
    }

    fn start(&self) -> RunningService {
        let mut child = Command::new(env!("CARGO_BIN_EXE_callspan"))
            .args(["run", "-c"])
            .arg(self.config())
            .current_dir(self.dir.path())
            .env_remove("CALLSPAN_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped"));
        let (mut said, mut line) = (String::new(), String::new());
        while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
            said.push_str(&line);
            if line.contains("capturing on") {
                std::thread::spawn(move || {
                    let mut rest = Vec::new();
                    let _ = lines.read_to_end(&mut rest); // reads all, because a full pipe would stop the service
                });
                return RunningService { child };
            }
            line.clear();
        }
        child.wait().expect("ours");
        panic!("{said}");
    }
}

struct RunningService {
    child: Child,
}

impl Drop for RunningService {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return; // another process may have this id by now
        }
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn wait_until_gone(path: &Path) {
    wait_until(&format!("{} is gone", path.display()), || !path.exists());
}

#[expect(clippy::disallowed_methods, reason = "a test of a process takes real time")]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
#[cfg_attr(not(may_capture), ignore = "needs CAP_NET_RAW: captures on an interface")]
fn a_full_disk_removes_only_delivered_calls_without_a_hold() {
    // The minimum is larger than any disk, so the disk counts as nearly full.
    let place = RetentionSetup::on_a_disk(FULL, &[]);
    let delivered = place.call("20261123T000001Z-a", Some("done"));
    let kept: Vec<PathBuf> = vec![
        place.call("20261123T000002Z-b", Some("parked")),
        place.call("20261123T000003Z-c", None),
        place.call("20261123T000004Z-d", Some("done")),
    ];
    place.journal().hold("20261123T000004Z-d", Timestamp::from_secs(1), None).expect("written");
    let service = place.start();
    wait_until_gone(&delivered);
    drop(service);
    assert!(kept.iter().all(|path| path.exists()), "{kept:?}");
    let (_, why) = place.journal().removed("20261123T000001Z-a").expect("readable").expect("it was");
    assert!(why.contains("min_free_gib"), "{why}");
    assert_eq!(place.journal().recordings().expect("readable").len(), kept.len());
}

#[test]
#[cfg_attr(not(may_capture), ignore = "needs CAP_NET_RAW: captures on an interface")]
fn undelivered_recordings_go_only_by_the_explicit_setting() {
    let place = RetentionSetup::on_a_disk(FULL, &[("recording", "remove_undelivered = true")]);
    let owed = place.call("20261123T000001Z-a", Some("parked"));
    let held = place.call("20261123T000002Z-b", Some("parked"));
    place.journal().hold("20261123T000002Z-b", Timestamp::from_secs(1), None).expect("written");
    let _service = place.start();
    wait_until_gone(&owed);
    assert!(held.exists());
}

#[test]
#[cfg_attr(not(may_capture), ignore = "needs CAP_NET_RAW: captures on an interface")]
fn an_empty_spool_file_is_removed_at_the_start() {
    let place = RetentionSetup::new(&[]);
    let spool = place.dir.path().join("spool");
    std::fs::create_dir(&spool).expect("made");
    // A kill between the creation of a file and its first bytes leaves an empty file.
    let empty = spool.join("20261123T120937Z-d6f23b02eb7825d3.pcapng");
    std::fs::write(&empty, b"").expect("written");
    let _service = place.start();
    wait_until_gone(&empty);
}

#[test]
#[cfg_attr(not(may_capture), ignore = "needs CAP_NET_RAW: captures on an interface")]
fn a_second_service_on_the_same_spool_is_refused() {
    let place = RetentionSetup::new(&[]);
    let _first = place.start();
    let second = Command::new(env!("CARGO_BIN_EXE_callspan")).args(["run", "-c"]).arg(place.config()).output();
    let second = second.expect("the binary runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("is in use by another callspan (process "), "{said}");
}

#[test]
#[cfg_attr(not(may_capture), ignore = "needs CAP_NET_RAW: captures on an interface")]
fn a_service_that_cannot_start_raises_one_alarm_over_many_restarts() {
    let place = RetentionSetup::new(&[]);
    let told = place.dir.path().join("alarms");
    let config = std::fs::read_to_string(place.config()).expect("written");
    let config =
        config.replace("\"lo\"", "\"nosuch0\"") + &format!("[alerts]\ncommand = \"cat >> {}\"\n", told.display());
    std::fs::write(place.config(), config).expect("written");
    let start = || {
        let output = Command::new(env!("CARGO_BIN_EXE_callspan")).args(["run", "-c"]).arg(place.config()).output();
        assert_eq!(output.expect("the binary runs").status.code(), Some(1));
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON")).collect::<Vec<_>>()
    };
    std::fs::create_dir(place.dir.path().join("state")).expect("made");
    for _ in 0..3 {
        let told = start();
        assert_eq!((told.len(), told[0]["kind"].as_str()), (1, Some("service_failed")), "{told:?}");
        assert!(told[0]["detail"].as_str().is_some_and(|d| d.contains("nosuch0")), "{told:?}");
    }
    // If the operator does nothing for five minutes, the service reports the problem again.
    let stamp = place.dir.path().join("state/failed");
    let mut failure: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&stamp).expect("it is there")).expect("JSON");
    failure["alarm_at"] = "2026-01-01T00:00:00.000000Z".into();
    std::fs::write(&stamp, failure.to_string()).expect("written");
    let history = place.dir.path().join("state/alarms.json");
    let mut kinds: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&history).expect("it is there")).expect("JSON");
    for kind in &mut kinds {
        kind["last_run_at_ns"] = (kind["last_run_at_ns"].as_i64().expect("a time") - 301_000_000_000).into();
    }
    std::fs::write(&history, serde_json::to_vec(&kinds).expect("JSON")).expect("written");
    assert_eq!(start().len(), 2);
}

#[test]
#[cfg_attr(not(all(may_capture, may_mount)), ignore = "needs root: mounts a file system and captures")]
#[expect(clippy::disallowed_methods, reason = "a test of a process takes real time")]
fn a_service_on_a_full_disk_alarms_and_starts_when_space_returns() {
    let place = RetentionSetup::new(&[]);
    let state = place.dir.path().join("state");
    std::fs::create_dir(&state).expect("made");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "callspan-test"]).arg(&state).output();
    assert!(mount.as_ref().is_ok_and(|m| m.status.success()), "{mount:?}");
    let _unmount = UnmountGuard(&state);
    std::fs::write(state.join("filler"), vec![0; 1 << 20]).expect_err("it is full");
    let told = place.dir.path().join("alarms");
    let mut config = std::fs::read_to_string(place.config()).expect("written");
    config.push_str(&format!("[alerts]\ncommand = \"cat >> {}\"\n", told.display()));
    std::fs::write(place.config(), config).expect("written");
    let mut service = Command::new(env!("CARGO_BIN_EXE_callspan"))
        .args(["run", "-c"])
        .arg(place.config())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let end = Instant::now() + Duration::from_secs(30);
    while !std::fs::read_to_string(&told).is_ok_and(|text| text.contains("service_failed")) {
        assert!(Instant::now() < end, "an alarm says it");
        std::thread::sleep(Duration::from_millis(50));
    }
    // The service waits before it exits, because systemd would otherwise restart it every 3 s. SIGTERM ends the wait.
    assert!(service.try_wait().expect("ours").is_none(), "it waits");
    Command::new("kill").arg(service.id().to_string()).status().expect("kill runs");
    assert_eq!(service.wait().expect("ours").code(), Some(1));
    std::fs::remove_file(state.join("filler")).expect("removed");
    place.start(); // the disk has room again
}

struct UnmountGuard<'a>(&'a Path);

impl Drop for UnmountGuard<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

#[test]
#[cfg_attr(not(may_capture), ignore = "needs CAP_NET_RAW: captures on an interface")]
fn encrypted_recordings_and_their_packets_are_counted_and_removed_like_all_others() {
    let place = RetentionSetup::on_a_disk(FULL, &[]);
    let encrypted = place.call_in("20261123T000001Z-a.wav.age", Some("done"));
    let packets = encrypted.with_file_name("20261123T000001Z-a.1.pcapng.age");
    std::fs::write(&packets, "x").expect("written");
    assert_eq!(place.journal().kept_bytes().expect("readable"), RECORDED);
    let _service = place.start();
    wait_until_gone(&encrypted);
    wait_until_gone(&packets);
    assert_eq!(place.journal().kept_bytes().expect("readable"), 0);
}

/// Waits for the end of the service. Meanwhile calls `disturb` again and again; it writes to the journal, so the
/// service reads the journal again.
#[expect(clippy::disallowed_methods, reason = "a test of a process takes real time")]
fn wait_for_end(service: &mut RunningService, mut disturb: impl FnMut()) -> Option<i32> {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        if let Some(status) = service.child.try_wait().expect("ours") {
            return status.code();
        }
        disturb();
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("the service goes on with a damaged journal");
}

#[test]
#[cfg_attr(not(may_capture), ignore = "needs CAP_NET_RAW: captures on an interface")]
fn a_journal_damaged_in_service_is_rebuilt_by_the_next_start() {
    let place = RetentionSetup::new(&[("alerts", "command = \"cat >> alarms\"")]);
    let kept = place.call("20261123T000001Z-a", Some("done"));
    let held = place.call("20261123T000002Z-b", None);
    place.journal().hold("20261123T000002Z-b", Timestamp::from_secs(1), Some("case 17")).expect("written");
    let mut service = place.start();
    // The hold must be in the record file, too, not only in the journal.
    wait_until("the record says that it is held", || {
        let json = std::fs::read_to_string(held.with_extension("json")).expect("there");
        json.contains("case 17")
    });
    // Another process, such as `callspan calls hold`, has read pages of the journal before the file is damaged.
    let beside = place.journal();
    beside.hold("20261123T000001Z-a", Timestamp::from_secs(1), None).expect("written");
    let file = place.dir.path().join("state/journal.sqlite");
    let mut disk = std::fs::OpenOptions::new().write(true).open(&file).expect("there");
    let size = disk.metadata().expect("there").len();
    assert!(size > 8_192, "the tables are in the file, not in its log");
    disk.seek(SeekFrom::Start(4_096)).expect("a file");
    disk.write_all(&vec![0xA5; usize::try_from(size).expect("small") - 4_096]).expect("written");
    let mut n = 2;
    let code = wait_for_end(&mut service, || {
        n += 1;
        let _ = beside.hold("20261123T000001Z-a", Timestamp::from_secs(n), None);
    });
    assert_eq!(code, Some(1), "so that it is started again");
    drop(beside);
    let alarms = std::fs::read_to_string(place.dir.path().join("alarms")).expect("an admin was told");
    assert!(alarms.contains("journal_damaged") && alarms.contains("the journal is damaged"), "{alarms}");
    // systemd would now start the service again.
    let _again = place.start();
    let alarms = std::fs::read_to_string(place.dir.path().join("alarms")).expect("there");
    assert!(place.dir.path().join("state/journal.sqlite.damaged-1").exists(), "{alarms}");
    let journal = place.journal();
    assert_eq!(journal.held("20261123T000002Z-b").expect("readable").and_then(|h| h.why).as_deref(), Some("case 17"));
    let call = journal.call("20261123T000001Z-a").expect("readable").expect("it is known again");
    assert_eq!(call.record.delivery.state, DeliveryState::Done);
    assert_eq!(journal.recordings().expect("readable")[0].path, kept.display().to_string());
}
