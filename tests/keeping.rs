//! What the service removes, and what it never does: retention, holds, and one service for each spool.

#[path = "common/skip.rs"]
mod skip;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use callspan::call::record::{CallRecord, Outcome, Recording, Verdict};
use callspan::journal::{JobRow, Journal, Stage};
use callspan::time::Timestamp;

/// Folders of a service on the loopback interface, which nobody calls on.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(recording: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = |name: &str| dir.path().join(name).display().to_string();
        let toml = format!(
            "[capture]\ninterface = \"lo\"\nbuffer_mib = 1\n[spool]\ndir = \"{}\"\n[state]\ndir = \"{}\"\n[recording]\n\
             dir = \"{}\"\n{recording}\n",
            folder("spool"),
            folder("state"),
            folder("recordings"),
        );
        std::fs::write(dir.path().join("callspan.toml"), toml).expect("written");
        Self { dir }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("callspan.toml")
    }

    fn journal(&self) -> Journal {
        Journal::open(&callspan::journal::config::Config { dir: self.dir.path().join("state") }).expect("a journal")
    }

    /// A finished call with a recording of a kibibyte.
    fn call(&self, id: &str, delivery: Option<&str>) -> PathBuf {
        let folder = self.dir.path().join("recordings/2026/11/23");
        std::fs::create_dir_all(&folder).expect("made");
        let path = folder.join(format!("{id}.wav"));
        std::fs::write(&path, [0; 1024]).expect("written");
        let at = Timestamp::from_secs(1_795_409_819);
        let recording = Recording {
            part: 1,
            path: path.display().to_string(),
            format: "wav".to_owned(),
            starts_at: at,
            ends_at: at,
            duration_s: 0.0,
            sample_rate: 8000,
            channels: 2,
            bytes: 1024,
            sha256: String::new(),
        };
        let record = CallRecord {
            schema: 1,
            id: id.to_owned(),
            invited_at: Some(at),
            outcome: Outcome::Answered,
            verdict: Some(Verdict::BothSides),
            recordings: vec![recording],
            ..CallRecord::default()
        };
        let journal = self.journal();
        journal.put_call(&record, Stage::Complete).expect("written");
        if let Some(stage) = delivery {
            let row = JobRow { id: id.to_owned(), stage: stage.to_owned(), body: "{}".to_owned(), ..JobRow::default() };
            journal.save_job(&row).expect("written");
        }
        path
    }

    /// `None`, with the reason printed, where this user may not capture.
    fn start(&self) -> Option<Service> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_callspan"))
            .args(["run", "-c"])
            .arg(self.config())
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
                    let _ = lines.read_to_end(&mut rest); // a full pipe would stop the service
                });
                return Some(Service { child });
            }
            line.clear();
        }
        child.wait().expect("ours");
        if said.contains("setcap") {
            skip::skipped("this user may not capture (CAP_NET_RAW is needed)");
            return None;
        }
        panic!("{said}");
    }
}

struct Service {
    child: Child,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test of a process takes real time")]
fn wait_until_gone(path: &Path) {
    let end = Instant::now() + Duration::from_secs(60);
    while path.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!path.exists(), "{} is still there", path.display());
}

#[test]
fn a_disk_that_runs_full_costs_what_pyrus_has_and_neither_what_is_owed_nor_what_is_held() {
    // More than any disk has free, so every disk counts as nearly full.
    let place = Place::new("min_free_gib = 1048576");
    let delivered = place.call("20261123T000001Z-a", Some("done"));
    let kept: Vec<PathBuf> = vec![
        place.call("20261123T000002Z-b", Some("parked")),
        place.call("20261123T000003Z-c", None),
        place.call("20261123T000004Z-d", Some("done")),
    ];
    place.journal().hold("20261123T000004Z-d", Timestamp::from_secs(1), None).expect("written");
    let Some(service) = place.start() else { return };
    wait_until_gone(&delivered);
    drop(service);
    assert!(kept.iter().all(|path| path.exists()), "{kept:?}");
    let (_, why) = place.journal().removed("20261123T000001Z-a").expect("readable").expect("it was");
    assert!(why.contains("min_free_gib"), "{why}");
    assert_eq!(place.journal().files().expect("readable").len(), kept.len());
}

#[test]
fn undelivered_recordings_go_only_by_the_explicit_setting() {
    let place = Place::new("min_free_gib = 1048576\nremove_undelivered = true");
    let owed = place.call("20261123T000001Z-a", Some("parked"));
    let held = place.call("20261123T000002Z-b", Some("parked"));
    place.journal().hold("20261123T000002Z-b", Timestamp::from_secs(1), None).expect("written");
    let Some(_service) = place.start() else { return };
    wait_until_gone(&owed);
    assert!(held.exists());
}

#[test]
fn a_second_service_in_the_same_spool_is_refused_with_a_clear_word() {
    let place = Place::new("");
    let Some(_first) = place.start() else { return };
    let second = Command::new(env!("CARGO_BIN_EXE_callspan")).args(["run", "-c"]).arg(place.config()).output();
    let second = second.expect("the binary runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("is in use by another callspan (process "), "{said}");
}
