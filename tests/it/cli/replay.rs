//! Tests of `callspan replay` and `callspan demo`: files, exit status, output.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{callspan, run, stderr, stdout};
use callspan::call::record::{CallOutcome, CallRecord, CallVerdict, EndedBy};
use callspan::fake_pyrus::{FakeEndpoint, FakeOptions, FakePyrus};

#[track_caller]
fn expect_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout: {}\nstderr: {}", stdout(output), stderr(output));
}

/// Returns the path of a capture with one call of eight seconds: 101 calls 102 with G.711 A-law (fixtures/README.md).
fn capture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls/g711a_direct/capture.pcap")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the folders of the tests have plain names")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary folder")
}

/// Returns the files with this extension directly in a folder, sorted by name.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("the folder is there").map(|e| e.expect("readable").path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files
}

fn records(output: &Output) -> Vec<CallRecord> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    stdout(output).lines().map(parse).collect()
}

#[test]
fn a_capture_gives_a_wav_a_record_and_a_table() {
    let out = folder();
    let output = run(&["replay", "--out", text(out.path()), text(&capture())]);
    expect_code(&output, 0);
    let said = stdout(&output);
    assert!(said.starts_with("TIME ") && said.ends_with("1 call: 1 both sides\n"), "{said}");
    let (wavs, jsons) = (files(out.path(), "wav"), files(out.path(), "json"));
    assert_eq!((wavs.len(), jsons.len()), (1, 1));
    assert_eq!(wavs[0].with_extension("json"), jsons[0]);
    assert!(files(out.path(), "part").is_empty());
}

#[test]
fn json_is_one_record_a_line_and_nothing_else_on_standard_output() {
    let out = folder();
    let output = run(&["replay", "--json", "--out", text(out.path()), text(&capture())]);
    expect_code(&output, 0);
    let records = records(&output);
    let [record] = records.as_slice() else { panic!("one call, not {}", records.len()) };
    assert_eq!((record.from.as_deref(), record.to.as_deref()), (Some("101"), Some("102")));
    assert_eq!((record.outcome, record.ended_by), (CallOutcome::Answered, Some(EndedBy::Caller)));
    assert_eq!(record.verdict, Some(CallVerdict::BothSides), "{:?}", record.verdict_reason);
    // The call was answered 1.21 s after the INVITE, and the BYE came at 9.32 s (manifest of the capture).
    let duration = record.duration_s.expect("answered");
    assert!((8.0..8.25).contains(&duration), "{duration}");
    let on_disk = std::fs::read_to_string(&files(out.path(), "json")[0]).expect("the record is there");
    assert_eq!(&serde_json::from_str::<CallRecord>(&on_disk).expect("a record"), record);
}

/// Replays all calls of the fixtures as one capture on the given processor cores. Returns the output and all files.
fn replayed_on(cores: &str) -> (String, BTreeMap<PathBuf, Vec<u8>>) {
    let calls = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls");
    let mut captures: Vec<PathBuf> = std::fs::read_dir(calls)
        .expect("fixtures")
        .map(|folder| folder.expect("readable").path().join("capture.pcap"))
        .filter(|path| path.exists())
        .collect();
    captures.sort();
    let dir = folder();
    let mut command = Command::new("taskset");
    command.args(["-c", cores, env!("CARGO_BIN_EXE_callspan"), "replay", "--json", "--out", "out"]).args(&captures);
    let output = command.current_dir(dir.path()).output().expect("taskset is a part of Debian's base");
    expect_code(&output, 0);
    let contents = std::fs::read_dir(dir.path().join("out")).expect("the folder is there").map(|file| {
        let path = file.expect("readable").path();
        (PathBuf::from(path.file_name().expect("a name")), std::fs::read(path).expect("readable"))
    });
    (stdout(&output), contents.collect())
}

#[test]
fn files_and_records_are_the_same_on_one_core_and_on_all() {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let all = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("its cores").trim();
    let first = all.split([',', '-']).next().expect("a core");
    let ((one_output, one_files), (output, files)) = (replayed_on(first), replayed_on(all));
    assert!(one_files.len() > 50, "{:?}", one_files.keys());
    assert_eq!(one_output, output);
    assert!(one_files.keys().eq(files.keys()), "{:?} {:?}", one_files.keys(), files.keys());
    for (name, bytes) in one_files {
        assert!(files[&name] == bytes, "{} differs", name.display());
    }
}

#[test]
fn the_same_capture_twice_gives_the_same_bytes() {
    let (one, two) = (folder(), folder());
    for out in [&one, &two] {
        expect_code(&run(&["replay", "--out", text(out.path()), text(&capture())]), 0);
    }
    let (first, second) = (files(one.path(), "wav"), files(two.path(), "wav"));
    assert_eq!(first[0].file_name(), second[0].file_name());
    assert!(std::fs::read(&first[0]).expect("readable") == std::fs::read(&second[0]).expect("readable"));
}

#[test]
fn standard_input_and_gzip_give_the_same_call() {
    let bytes = std::fs::read(capture()).expect("fixture");
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zip.write_all(&bytes).expect("memory");
    let zipped = zip.finish().expect("memory");
    let mut ids = Vec::new();
    for input in [bytes, zipped] {
        let out = folder();
        let args = ["replay", "--json", "--out", text(out.path()), "-"];
        let mut child = callspan(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
        child.stdin.take().expect("piped").write_all(&input).expect("read to the end");
        let output = child.wait_with_output().expect("ends");
        expect_code(&output, 0);
        ids.push(records(&output)[0].id.clone());
    }
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn a_file_that_is_not_there_is_status_1_and_one_sentence() {
    let out = folder();
    let output = run(&["replay", "--out", text(out.path()), "/nowhere/trunk.pcap"]);
    expect_code(&output, 1);
    let said = stderr(&output);
    assert!(said.contains("/nowhere/trunk.pcap") && said.to_lowercase().contains("no such file"), "{said}");
    assert!(stdout(&output).is_empty());
}

#[test]
fn a_file_that_is_no_capture_is_status_1_with_the_reason() {
    let out = folder();
    let file = out.path().join("notes.txt");
    std::fs::write(&file, "this is not a capture, these are notes\n").expect("written");
    let output = run(&["replay", "--out", text(&out.path().join("calls")), text(&file)]);
    expect_code(&output, 1);
    assert!(stderr(&output).contains("notes.txt is no capture"), "{}", stderr(&output));
}

#[test]
fn a_truncated_file_is_processed_up_to_its_end() {
    let out = folder();
    let bytes = std::fs::read(capture()).expect("fixture");
    let file = out.path().join("cut.pcap");
    std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("written");
    let calls = out.path().join("calls");
    let output = run(&["replay", "--json", "--out", text(&calls), text(&file)]);
    expect_code(&output, 0);
    assert!(stderr(&output).contains("cut.pcap"), "a warning names the file: {}", stderr(&output));
    let records = records(&output);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].ended_by, Some(EndedBy::CaptureEnd));
    assert_eq!(records[0].verdict, Some(CallVerdict::BothSides));
}

#[test]
fn file_with_rubbish_has_status_1_and_reports_the_read_part() {
    let dir = folder();
    let whole = std::fs::read(capture()).expect("readable");
    let (half, path) = (whole.len() / 2, dir.path().join("half.pcap"));
    // The length field of a frame in the middle is impossible, so no frame after it can be found.
    let mut at = 24;
    while at < half {
        at += 16 + u32::from_le_bytes(whole[at + 8..at + 12].try_into().expect("four bytes")) as usize;
    }
    let mut bytes = whole.clone();
    bytes[at + 8..at + 12].copy_from_slice(&[0xff; 4]);
    std::fs::write(&path, &bytes).expect("written");
    let output = run(&["replay", "--json", "--out", text(&dir.path().join("out")), text(&path)]);
    expect_code(&output, 1);
    assert_eq!(records(&output).len(), 1, "the call is recorded as far as the file was read");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("rubbish at byte {at} of {}", whole.len())) && said.contains("frames"), "{said}");
}

#[test]
fn a_folder_that_cannot_be_made_is_status_1() {
    let out = folder();
    let file = out.path().join("file");
    std::fs::write(&file, "").expect("written");
    let calls = file.join("calls");
    let output = run(&["replay", "--out", text(&calls), text(&capture())]);
    expect_code(&output, 1);
    assert!(stderr(&output).contains(text(&file)), "{}", stderr(&output));
}

#[test]
fn a_reader_that_goes_away_costs_no_recording() {
    let (out, capture) = (folder(), capture());
    let args = ["replay", "--json", "--out", text(out.path()), text(&capture)];
    let mut child = callspan(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    expect_code(&output, 0);
    assert!(!stderr(&output).contains("panick"), "{}", stderr(&output));
    assert_eq!(files(out.path(), "wav").len(), 1);
}

/// Writes a configuration for a fake Pyrus into a folder of its own. In it, 102 is an extension, so the call is
/// inbound.
fn configuration(dir: &Path, fake: &FakePyrus, key: &str) -> PathBuf {
    let options = FakeOptions::default();
    let text = format!(
        "[numbers]\nextension_pattern = \"102\"\n[pyrus]\nauth_url = \"{}\"\nlogin = \"{}\"\nsecurity_key = \"{key}\"\n\
         account_id = \"{}\"\n",
        fake.auth_url(),
        options.users[0].login,
        options.accounts[0].account_id,
    );
    let path = dir.join("callspan.toml");
    std::fs::write(&path, text).expect("written");
    path
}

#[test]
fn delivery_makes_one_task_and_a_second_run_sends_nothing() {
    let dir = folder();
    let fake = FakePyrus::start(FakeOptions::default()).expect("free ports");
    let config = configuration(dir.path(), &fake, &FakeOptions::default().users[0].security_key);
    let out = dir.path().join("calls");
    let args =
        ["replay", "-c", text(&config), "--deliver", "--json", "--out", text(&out), &*text(&capture()).to_owned()];
    let output = run(&args);
    expect_code(&output, 0);
    let state = fake.state();
    let sent =
        [FakeEndpoint::Auth, FakeEndpoint::Call, FakeEndpoint::Upload, FakeEndpoint::Attach].map(|e| state.requests(e));
    assert_eq!(sent, [1, 1, 1, 1]);
    assert_eq!(fake.violations(), [""; 0]);
    let wav = std::fs::read(&files(&out, "wav")[0]).expect("readable");
    let uploaded = state.files[0].bytes.as_ref().expect("small files are kept");
    assert!(**uploaded == wav, "the same bytes");
    let record = &records(&output)[0];
    assert_eq!(record.delivery.task_id, Some(state.tasks[0].task_id));
    expect_code(&run(&args), 0);
    let again = fake.state();
    let sent = [FakeEndpoint::Call, FakeEndpoint::Upload, FakeEndpoint::Attach].map(|e| again.requests(e));
    assert_eq!(sent, [1, 1, 1]);
}

#[test]
fn a_login_refused_by_pyrus_is_status_1_with_the_remedy() {
    let dir = folder();
    let fake = FakePyrus::start(FakeOptions::default()).expect("free ports");
    let config = configuration(dir.path(), &fake, "wrong-key-7");
    let out = dir.path().join("calls");
    let output = run(&["replay", "-c", text(&config), "--deliver", "--out", text(&out), text(&capture())]);
    expect_code(&output, 1);
    let said = format!("{}{}", stderr(&output), stdout(&output));
    assert!(said.contains("login") && said.contains("security_key"), "{said}");
    assert!(!said.contains("wrong-key-7"), "{said}");
    assert_eq!(files(&out, "wav").len(), 1, "the recording is there nevertheless");
}

/// Returns the capture with each frame truncated to `snap` bytes, as old versions of tcpdump do.
fn cut_frames(snap: usize) -> Vec<u8> {
    let bytes = std::fs::read(capture()).expect("fixture");
    let mut out = bytes[..24].to_vec();
    let mut rest = &bytes[24..];
    while let Some((header, after)) = rest.split_first_chunk::<16>() {
        let len = u32::from_le_bytes(header[8..12].try_into().expect("four bytes")) as usize;
        let kept = len.min(snap);
        out.extend(&header[..8]);
        out.extend((kept as u32).to_le_bytes());
        out.extend(&header[12..]);
        out.extend(&after[..kept]);
        rest = &after[len..];
    }
    out
}

#[test]
fn a_capture_whose_signalling_is_cut_says_why_there_is_no_call() {
    let out = folder();
    let file = out.path().join("cut.pcap");
    std::fs::write(&file, cut_frames(96)).expect("written");
    let output = run(&["replay", "--out", text(&out.path().join("calls")), text(&file)]);
    expect_code(&output, 0);
    let said = stderr(&output);
    // All 838 frames are longer than 96 bytes, and 806 of them are RTP.
    for wanted in ["no call, but", "838 frames cut", "806 RTP packets without a signalled call", "`callspan doctor`"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    // An intact capture causes no message.
    let output = run(&["replay", "--out", text(&out.path().join("clean")), text(&capture())]);
    assert_eq!(stderr(&output), "");
}

#[test]
fn sound_cut_by_the_snap_length_stands_once_in_the_record() {
    let out = folder();
    let file = out.path().join("cut.pcap");
    // Frames of RTP are truncated to 200 bytes, so their 160 bytes of sound are incomplete. Frames of SIP stay whole,
    // or the call would not be found.
    let (whole, cut) = (std::fs::read(capture()).expect("fixture"), cut_frames(200));
    std::fs::write(&file, with_whole_sip(&whole, &cut)).expect("written");
    let output = run(&["replay", "--json", "--out", text(&out.path().join("calls")), text(&file)]);
    expect_code(&output, 0);
    let records = records(&output);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].verdict, Some(CallVerdict::NoMedia), "{:?}", records[0].verdict_reason);
    let cuts: Vec<_> = records[0]
        .problems
        .iter()
        .filter(|p| p.kind == callspan::call::record::ProblemKind::CutBySnaplen)
        .map(|p| p.packets)
        .collect();
    // All packets of both sides: 401 + 405.
    assert_eq!(cuts, [Some(806)]);
    assert!(stderr(&output).contains("frames cut by the snap length"), "{}", stderr(&output));
}

/// Returns the frames of `cut`. Frames of SIP (port 5060) are taken from `whole` instead.
fn with_whole_sip(whole: &[u8], cut: &[u8]) -> Vec<u8> {
    let mut out = whole[..24].to_vec();
    let (mut a, mut b) = (&whole[24..], &cut[24..]);
    let len = |at: &[u8]| 16 + u32::from_le_bytes(at[8..12].try_into().expect("four bytes")) as usize;
    while a.len() >= 16 {
        let ((frame, more_a), (short, more_b)) = (a.split_at(len(a)), b.split_at(len(b)));
        let is_sip = frame.get(16 + 34..16 + 36) == Some(&5060_u16.to_be_bytes());
        out.extend(if is_sip { frame } else { short });
        (a, b) = (more_a, more_b);
    }
    out
}

#[test]
fn an_unreachable_pyrus_is_named_and_ctrl_c_prints_the_table() {
    let dir = folder();
    // No program listens on this port: it was opened and closed again.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    let config = dir.path().join("callspan.toml");
    let words = format!(
        "[numbers]\nextension_pattern = \"102\"\n[pyrus]\nauth_url = \"http://127.0.0.1:{port}/auth\"\nlogin = \"a@b.example\"\n\
         security_key = \"k\"\naccount_id = \"1\"\n"
    );
    std::fs::write(&config, words).expect("written");
    let out = dir.path().join("calls");
    let args = ["replay", "-c", text(&config), "--deliver", "--out", text(&out), &*text(&capture()).to_owned()];
    let mut child = callspan(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("piped")));
    let waiting = lines.find(|line| line.as_ref().is_ok_and(|l| l.contains("Ctrl-C ends the wait")));
    assert!(waiting.is_some(), "it says that it waits");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(1), "{rest:#?}");
    assert!(stdout(&output).ends_with("1 call: 1 both sides\n"), "the table is there: {}", stdout(&output));
    let because =
        format!("not delivered to Pyrus yet: 1 of 1 (no connection (127.0.0.1:{port} refuses the connection)");
    assert!(rest.iter().any(|line| line.contains(&because)), "{rest:#?}");
}

#[test]
fn the_demo_shows_the_call_its_task_and_where_the_recording_lies() {
    let dir = folder();
    let out = dir.path().join("demo");
    let output = run(&["demo", "--out", text(&out)]);
    expect_code(&output, 0);
    let wav = files(&out, "wav").first().expect("a recording").clone();
    let said = stdout(&output);
    for wanted in ["both sides", "Boris Orlov is responsible", "CallDuration = 8", "attached: ", text(&wav)] {
        assert!(said.contains(wanted), "{wanted} is not in:\n{said}");
    }
    let capture = out.join("capture.pcap");
    let replayed = run(&["replay", "--out", text(&dir.path().join("calls")), text(&capture)]);
    // All columns but the last, which is the path of the recording.
    let row = |said: &str| -> Vec<String> {
        let line = said.lines().find(|line| line.contains("answered")).expect("a row");
        let words: Vec<&str> = line.split_whitespace().collect();
        words.split_last().expect("words").1.iter().map(ToString::to_string).collect()
    };
    assert_eq!(row(&said), row(&stdout(&replayed)), "replay tells the same of this call");
    // A second run with the same folder writes into a new folder.
    expect_code(&run(&["demo", "--out", text(&out)]), 0);
    assert!(dir.path().join("demo-2").is_dir());
}
