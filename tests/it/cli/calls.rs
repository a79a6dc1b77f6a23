//! Tests of `callspan calls`: the list of waiting, parked and failed deliveries, and the commands that change them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use callspan::call::record::{CallRecord, DeliveryState};
use callspan::fake_pyrus::{FakeEndpoint, FakeOptions, FakePyrus};
use callspan::journal::Journal;

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    // Variables of the test machine must not change the result.
    command.args(args).env_remove("CALLSPAN_LOG").env_remove("CALLSPAN_LOG_JSON");
    command.env_remove("CALLSPAN_PYRUS_SECURITY_KEY").env_remove("CREDENTIALS_DIRECTORY");
    command.output().expect("the binary runs")
}

#[track_caller]
fn said(args: &[&str], code: i32) -> String {
    let output = run(args);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout: {stdout}\nstderr: {stderr}");
    format!("{stdout}{stderr}")
}

/// A folder with the output of a replayed capture. Its one call is delivered to a fake Pyrus.
struct DeliveredCapture {
    dir: tempfile::TempDir,
    fake: FakePyrus,
}

impl DeliveredCapture {
    fn new(key: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let fake = FakePyrus::start(FakeOptions::default()).expect("free ports");
        let options = FakeOptions::default();
        let text = format!(
            "[numbers]\nextension_pattern = \"102\"\n[pyrus]\nauth_url = \"{}\"\nlogin = \"{}\"\n\
             security_key = \"{key}\"\naccount_id = \"{}\"\n",
            fake.auth_url(),
            options.users[0].login,
            options.accounts[0].account_id,
        );
        std::fs::write(dir.path().join("callspan.toml"), text).expect("written");
        Self { dir, fake }
    }

    fn delivered() -> Self {
        let replayed = Self::new(&FakeOptions::default().users[0].security_key);
        replayed.replay(0);
        replayed
    }

    fn replay(&self, code: i32) {
        let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls/g711a_direct/capture.pcap");
        let config = self.dir.path().join("callspan.toml");
        said(&["replay", "-c", text(&config), "--deliver", "--out", &self.out(), text(&capture)], code);
    }

    fn out(&self) -> String {
        text(&self.dir.path().join("calls")).to_owned()
    }

    fn calls(&self, args: &[&str], code: i32) -> String {
        let out = self.out();
        let mut all = vec!["calls"];
        all.extend(args);
        all.extend(["--state", &out]);
        said(&all, code)
    }

    fn record(&self) -> CallRecord {
        serde_json::from_str(&self.calls(&["list", "--json"], 0)).expect("one record")
    }

    fn wav(&self) -> PathBuf {
        PathBuf::from(&self.record().recordings[0].path)
    }

    fn journal(&self) -> Journal {
        let dir = Path::new(&self.out()).join(".callspan");
        Journal::open(&callspan::journal::config::Config { dir }).expect("the journal of the replay")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the folders of the tests have plain names")
}

#[test]
fn the_list_ends_with_what_became_of_all_calls() {
    let replayed = DeliveredCapture::delivered();
    let said = replayed.calls(&["list"], 0);
    assert!(said.starts_with("TIME "), "{said}");
    assert!(said.ends_with("1 call: 1 both sides; delivery: 1 done\n"), "{said}");
    assert!(said.contains(&replayed.record().id), "{said}");
}

#[test]
fn filters_leave_out_what_they_do_not_name() {
    let replayed = DeliveredCapture::delivered();
    let day = replayed.record().invited_at.expect("invited").to_rfc3339()[..10].to_owned();
    for (filters, calls) in [
        (vec!["--number", "101"], 1),
        (vec!["--number", "1-01"], 1),
        (vec!["--number", "999"], 0),
        (vec!["--extension", "102"], 1),
        (vec!["--extension", "10"], 0),
        (vec!["--verdict", "both_sides", "--delivery", "done"], 1),
        (vec!["--verdict", "caller_only,both_sides"], 1),
        (vec!["--verdict", "caller_only", "--verdict", "no_media"], 0),
        (vec!["--outcome", "answered,busy"], 1),
        (vec!["--outcome", "busy"], 0),
        (vec!["--min-length", "0:05", "--max-length", "1:00:00"], 1),
        (vec!["--min-length", "1:00:00"], 0),
        (vec!["--max-length", "1"], 0),
        (vec!["--delivery", "parked"], 0),
        (vec!["--from", &day], 1),
        (vec!["--to", &day], 0),
    ] {
        let mut args = vec!["list", "--json", "--utc"];
        args.extend(filters);
        assert_eq!(replayed.calls(&args, 0).lines().count(), calls, "{args:?}");
    }
    replayed.calls(&["list", "--verdict", "lost"], 2);
}

/// Runs `callspan calls` with environment variables of a user, e.g. language and time zone.
fn calls_with(replayed: &DeliveredCapture, environment: &[(&str, &str)], args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    command.arg("calls").args(args).args(["--state", &replayed.out()]).envs(environment.iter().copied());
    let output = command.output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn times_are_local_with_offset_and_json_is_utc() {
    let replayed = DeliveredCapture::delivered();
    let record = replayed.record();
    let utc = record.invited_at.expect("invited").to_rfc3339_secs().replace('T', " ");
    let tokyo = [("TZ", "JST-9")];
    let listed = calls_with(&replayed, &tokyo, &["list"]);
    assert!(listed.contains("+09:00  ") && !listed.contains(&utc), "{listed}");
    assert!(calls_with(&replayed, &tokyo, &["list", "--utc"]).contains(&utc));
    assert!(calls_with(&replayed, &tokyo, &["show", &record.id]).contains("+09:00\n"));
    let json = calls_with(&replayed, &tokyo, &["list", "--json"]);
    assert_eq!(serde_json::from_str::<CallRecord>(&json).expect("a record"), record);
    // The same clock time is a different moment in another time zone.
    let shown = listed.lines().nth(1).expect("a call")[..19].to_owned();
    assert_eq!(calls_with(&replayed, &tokyo, &["list", "--json", "--from", &shown]).lines().count(), 1);
    assert_eq!(calls_with(&replayed, &tokyo, &["list", "--json", "--utc", "--from", &shown]).lines().count(), 0);
}

#[test]
fn list_shows_direction_outcome_and_hold_and_gives_csv() {
    let replayed = DeliveredCapture::delivered();
    let id = replayed.record().id;
    let heading = replayed.calls(&["list"], 0).lines().next().expect("a heading").to_owned();
    for column in ["DIRECTION", "OUTCOME", "HOLD"] {
        assert!(heading.contains(column), "{heading}");
    }
    replayed.calls(&["hold", &id], 0);
    assert!(replayed.calls(&["list"], 0).contains("  answered  both sides  held  "));
    let csv = replayed.calls(&["list", "--csv", "--utc"], 0);
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert!(lines[0].starts_with("id,began,answered,ended,direction,from,to,"), "{csv}");
    assert_eq!(lines[0].split(',').count(), 16);
    assert!(lines[1].starts_with(&format!("{id},")) && lines[1].contains(",yes,done,"), "{csv}");
    assert_eq!(lines.len(), 3, "a heading, a call, and an end of line: {csv}");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let replayed = DeliveredCapture::delivered();
    let terminal = |environment: &[(&str, &str)]| {
        // The program script(1) of util-linux gives its command a terminal.
        let line = format!("{} calls list --state {}", env!("CARGO_BIN_EXE_callspan"), replayed.out());
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR");
        command.envs(environment.iter().copied()).stdin(std::process::Stdio::null());
        String::from_utf8_lossy(&command.output().expect("script runs").stdout).into_owned()
    };
    let coloured = terminal(&[]);
    assert!(coloured.contains("\u{1b}[32mboth sides"), "{coloured:?}");
    for none in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(!terminal(&[none]).contains("\u{1b}[32m"), "{none:?}");
    }
    assert!(!replayed.calls(&["list"], 0).contains('\u{1b}'), "a pipe has no colours");
}

#[test]
fn play_starts_a_player_or_prints_the_path_without_sound() {
    let replayed = DeliveredCapture::delivered();
    let (id, wav) = (replayed.record().id, replayed.wav());
    let players = tempfile::tempdir().expect("temporary folder");
    let nothing = [("PATH", text(players.path())), ("XDG_RUNTIME_DIR", "/nowhere"), ("PULSE_SERVER", "somewhere")];
    assert_eq!(calls_with(&replayed, &nothing, &["play", &id]), format!("{}\n", text(&wav)));
    let player = players.path().join("aplay");
    std::fs::write(&player, "#!/bin/sh\necho \"played $2\"\n").expect("written");
    std::fs::set_permissions(&player, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode set");
    assert_eq!(calls_with(&replayed, &nothing, &["play", &id]), format!("played {}\n", text(&wav)));
    assert!(replayed.calls(&["play", &id, "--part", "2"], 1).contains("has parts 1 to 1"));
    std::fs::remove_file(&wav).expect("removed");
    assert!(replayed.calls(&["play", &id], 1).contains("does not exist"));
}

#[test]
fn progress_is_shown_on_a_terminal_only() {
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls/g711a_direct/capture.pcap");
    let dir = tempfile::tempdir().expect("temporary folder");
    // A progress bar appears only if the work takes some time, i.e. for some thousand frames.
    let long = [text(&capture); 12].join(" ");
    let line = format!("{} replay --out {} {long}", env!("CARGO_BIN_EXE_callspan"), text(dir.path()));
    let shown =
        Command::new("script").args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").output().expect("script runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("iB/s") && shown.contains(" left"), "{shown:?}");
    let output = run(&["replay", "--out", text(dir.path()), text(&capture)]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_call_is_shown_with_its_file_its_task_and_its_verdict() {
    let replayed = DeliveredCapture::delivered();
    let record = replayed.record();
    let said = replayed.calls(&["show", &record.id], 0);
    let task = format!("done, task {}", record.delivery.task_id.expect("registered"));
    for wanted in ["both sides", &task, &record.recordings[0].path, "outcome       answered"] {
        assert!(said.contains(wanted), "{wanted} is not in:\n{said}");
    }
    let said = replayed.calls(&["show", "20200101T000000Z-0"], 1);
    assert!(said.contains("there is no call 20200101T000000Z-0"), "{said}");
}

#[test]
fn calls_behind_a_refused_login_name_the_remedy() {
    let replayed = DeliveredCapture::new("wrong-key-7");
    replayed.replay(1);
    let said = replayed.calls(&["list"], 0);
    assert!(said.contains("Nothing can be delivered") && said.contains("security_key"), "{said}");
    assert!(said.ends_with("delivery: 1 owed\n") && !said.contains("wrong-key-7"), "{said}");
}

#[test]
fn a_retry_is_taken_up_by_the_next_start() {
    let replayed = DeliveredCapture::delivered();
    let id = replayed.record().id;
    // Sets the delivery to the state that it has after Pyrus refused the recording permanently.
    let journal = replayed.journal();
    let mut row = journal.job(&id).expect("readable").expect("registered");
    let mut job: serde_json::Value = serde_json::from_str(&row.body).expect("JSON");
    job["parts"][0]["state"] = serde_json::json!({ "is": "dead", "why": "the form was deleted" });
    row.body = job.to_string();
    row.stage = callspan::delivery::JobStage::Dead;
    row.note = Some("the form was deleted".to_owned());
    journal.save_job(&row).expect("written");
    drop(journal);
    assert_eq!(replayed.record().delivery.state, DeliveryState::Dead);
    let said = replayed.calls(&["list"], 0);
    assert!(said.contains(&format!("{id}  the form was deleted")) && said.ends_with("1 dead\n"), "{said}");
    let said = replayed.calls(&["retry", "--all"], 0);
    assert!(said.starts_with("1 call to be delivered again"), "{said}");
    replayed.replay(0);
    assert_eq!(replayed.record().delivery.state, DeliveryState::Done);
    assert_eq!(replayed.fake.state().requests(FakeEndpoint::Attach), 2);
    let said = replayed.calls(&["retry", &id], 0);
    assert!(said.contains("is already in Pyrus (task ") && !said.contains("to be delivered again"), "{said}");
}

#[test]
fn verify_gives_the_peaks_for_a_waveform() {
    let replayed = DeliveredCapture::delivered();
    let record = replayed.record();
    let (id, file) = (record.id.as_str(), &record.recordings[0]);
    assert!(replayed.calls(&["verify", "--peaks", "40"], 1).contains("--json"));
    let said = replayed.calls(&["verify", id, "--json", "--peaks", "40"], 0);
    let [waveform, sum] = said.lines().collect::<Vec<_>>()[..] else { panic!("two lines: {said}") };
    let waveform: serde_json::Value = serde_json::from_str(waveform).expect("JSON");
    assert_eq!(
        (&waveform["call"], &waveform["part"], &waveform["sample_rate"]),
        (&id.into(), &1.into(), &8_000.into())
    );
    assert!(sum.contains("\"whole\":1"), "{sum}");

    // The waveform is computed by another WAV reader from the file, and must be the same.
    let mut reader = hound::WavReader::open(&file.path).expect("a WAV");
    let samples: Vec<i16> = reader.samples::<i16>().map(|s| s.expect("a sample")).collect();
    let frames = samples.as_chunks::<2>().0;
    assert_eq!(waveform["samples"], frames.len());
    let piece_of = |n: usize| n * 40 / frames.len();
    for (channel, name) in ["left", "right"].into_iter().enumerate() {
        let pieces = (0..40).map(|piece| {
            let inside = frames.iter().enumerate().filter(|(n, _)| piece_of(*n) == piece).map(|(_, f)| f[channel]);
            let (low, high) = inside.fold((i16::MAX, i16::MIN), |(low, high), s| (low.min(s), high.max(s)));
            serde_json::json!([low, high])
        });
        assert_eq!(waveform["peaks"][name], serde_json::Value::Array(pieces.collect()), "{name}");
        assert!(waveform["peaks"][name].as_array().is_some_and(|p| p.iter().any(|p| p[1].as_i64() > Some(1_000))));
    }
    // A damaged file has no waveform.
    std::fs::remove_file(&file.path).expect("removed");
    assert!(!replayed.calls(&["verify", id, "--json", "--peaks", "40"], 1).contains("peaks"));
}

#[test]
fn verify_finds_changed_missing_and_unknown_files() {
    let replayed = DeliveredCapture::delivered();
    let wav = replayed.wav();
    let said = replayed.calls(&["verify"], 0);
    assert_eq!(said, "1 file of 1 call: 1 intact, 0 missing or changed\n");
    let mut bytes = std::fs::read(&wav).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&wav, &bytes).expect("written");
    assert!(replayed.calls(&["verify"], 1).contains("SHA-256"));
    std::fs::write(&wav, &bytes[..middle]).expect("written");
    assert!(replayed.calls(&["verify"], 1).contains("bytes instead of"));
    std::fs::rename(&wav, wav.with_file_name("somebody.wav")).expect("renamed");
    let said = replayed.calls(&["verify"], 1);
    assert!(said.contains("is missing") && said.contains("belongs to no call"), "{said}");
    assert!(said.ends_with("1 file of 1 call: 0 intact, 1 missing or changed, 1 file without a call\n"), "{said}");
}

#[test]
fn verify_leaves_out_what_a_running_service_is_writing() {
    let replayed = DeliveredCapture::delivered();
    let state = Path::new(&replayed.out()).join(".callspan");
    let config = replayed.dir.path().join("service.toml");
    let folders = format!("[state]\ndir = {state:?}\n[recording]\ndir = {:?}\n", replayed.out());
    std::fs::write(&config, folders).expect("written");
    let verify = |code| said(&["calls", "verify", "-c", text(&config)], code);
    // A running service holds this lock.
    let service = std::fs::File::create(state.join("callspan.lock")).expect("created");
    service.lock().expect("free");
    let half = replayed.wav().with_extension("wav.part");
    std::fs::write(&half, "RIFF").expect("written");
    verify(0);
    drop(service);
    assert!(verify(1).contains("half-written"));
}

#[test]
fn rendering_again_without_packets_is_refused_with_a_reason() {
    let replayed = DeliveredCapture::delivered();
    let said = replayed.calls(&["render", &replayed.record().id], 1);
    assert!(said.contains("recording.keep_pcap"), "{said}");
}

#[test]
fn a_hold_is_shown_until_it_is_released() {
    let replayed = DeliveredCapture::delivered();
    let id = replayed.record().id;
    replayed.calls(&["hold", &id, "--why", "case 17"], 0);
    assert!(replayed.calls(&["show", &id], 0).contains("case 17"));
    assert!(replayed.calls(&["release", &id], 0).contains("is released"));
    assert!(!replayed.calls(&["show", &id], 0).contains("case 17"));
    assert!(replayed.calls(&["release", &id], 0).contains("was not held"));
}

#[test]
fn a_folder_without_a_journal_is_one_sentence() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let empty = said(&["calls", "list", "--state", text(dir.path())], 1);
    assert!(empty.contains("there is no journal in") && empty.contains("--state needs"), "{empty}");
    let missing = said(&["calls", "list", "--state", text(&dir.path().join("none"))], 1);
    assert!(missing.contains("there is no folder"), "{missing}");
}

#[test]
fn folder_of_a_replay_without_deliver_is_named_as_such() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls/busy_486_direct/capture.pcap");
    said(&["replay", "--out", text(dir.path()), text(&capture)], 0);
    for command in [&["list"][..], &["retry", "--all"]] {
        let args = [&["calls"], command, &["--state", text(dir.path())]].concat();
        let said = said(&args, 1);
        assert!(said.contains("without --deliver") && said.contains(".json file"), "{said}");
    }
}
