//! `callspan demo`: shows recording and delivery without any configuration.
//!
//! The binary contains a captured call. The demo replays this call as `replay --deliver` does, and delivers it to a
//! fake Pyrus in the same process. It succeeds only if the fake Pyrus then has exactly the recording that the call
//! record names.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use secrecy::SecretString;

use super::replay::{ReplayRequest, replay};
use super::terminal::TextStyle;
use super::{DemoArgs, table};
use crate::call::record::{CallDirection, CallRecord, RecordingFile};
use crate::console::ConsoleServer;
use crate::fake_pyrus::{FakeOptions, FakePyrus, FakeState, PyrusTask};
use crate::ops::config::Config;
use crate::ops::output;

/// Runs `callspan demo`.
///
/// # Errors
/// Fails if the folder cannot be written, or if the fake Pyrus did not get the complete call.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let dir = free_folder(&args.out)?;
    let capture = dir.join("capture.pcap");
    std::fs::write(&capture, CAPTURE).with_context(|| format!("cannot write {}", capture.display()))?;
    let options = FakeOptions::default();
    let config = config(&options)?;
    let fake = FakePyrus::start(options)?;
    let config = Config { pyrus: crate::pyrus::config::Config { auth_url: fake.auth_url(), ..config.pyrus }, ..config };
    output::note(INTRODUCTION);
    let mut shown = config.clone();
    shown.journal.dir = dir.join(super::replay::JOURNAL_FOLDER);
    shown.recording.dir.clone_from(&dir);
    shown.spool.dir = dir.join(super::replay::SPOOL_FOLDER);
    let request = ReplayRequest { files: vec![capture.clone()], config, out: dir, deliver: true };
    let outcome = replay(request).context("the demo failed")?;
    let report = report(&outcome.records, &fake.state(), &capture)?;
    let violations = fake.violations();
    ensure!(violations.is_empty(), "the fake Pyrus complains about the client: {}", violations.join("; "));
    output::result(&report)?;
    match (args.serve, outcome.records.first()) {
        (Some(listen), Some(record)) => serve(listen, &shown, &record.id),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Shows the call in the console until SIGINT or SIGTERM.
#[expect(clippy::disallowed_methods, reason = "waits for Ctrl-C")]
fn serve(listen: std::net::SocketAddr, config: &Config, id: &str) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("signal handler")?;
    }
    let console = ConsoleServer::start(listen, config)?;
    output::result(&format!("\nThe call in the console (Ctrl-C ends)\n  {}/calls/{id}\n", console.url()))?;
    while !stop.load(Ordering::Relaxed) {
        if let Some(request) = console.poll_request() {
            request.answer(None); // no call is in progress
        }
        std::thread::sleep(POLL);
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns a configuration that registers internal calls in Pyrus, because the call of the demo goes from extension 101
/// to extension 102.
fn config(options: &FakeOptions) -> anyhow::Result<Config> {
    let user = options.users.first().context("the fake Pyrus has a user")?;
    let account = options.accounts.first().context("the fake Pyrus has an account")?;
    let mut config = Config::default_for_replay();
    config.pyrus.enabled = true;
    config.pyrus.directions = vec![CallDirection::Internal];
    config.pyrus.login.clone_from(&user.login);
    config.pyrus.security_key = Some(SecretString::from(user.security_key.as_str()));
    config.pyrus.account_id.clone_from(&account.account_id);
    Ok(config)
}

/// Returns an empty folder: `wanted`, or the same name with a number if `wanted` has files. A folder of an earlier demo
/// cannot be used, because the call in its journal would not be delivered again.
fn free_folder(wanted: &Path) -> anyhow::Result<PathBuf> {
    for n in 1..=MAX_FOLDERS {
        let dir = if n == 1 { wanted.to_owned() } else { PathBuf::from(format!("{}-{n}", wanted.display())) };
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create the folder {}", dir.display()))?;
        let mut entries = std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        if entries.next().is_none() {
            return Ok(dir);
        }
    }
    bail!("there are already {} demo folders: remove the folders {}*", MAX_FOLDERS, wanted.display())
}

fn report(records: &[CallRecord], state: &FakeState, capture: &Path) -> anyhow::Result<String> {
    let [record] = records else { bail!("the shipped capture holds one call, {} were found", records.len()) };
    let Some(recording) = record.recordings.first() else {
        bail!("the call has no recording: {}", record.verdict_reason.as_deref().unwrap_or("no reason was given"))
    };
    let detail = record.delivery.detail.as_deref().unwrap_or("no reason was given");
    let task_id = record.delivery.task_id.with_context(|| format!("the call has no task: {detail}"))?;
    let task = state.task(task_id).with_context(|| format!("the fake Pyrus has no task {task_id}"))?;
    ensure_attached(task, state, recording)?;
    let mut text = String::from("The call\n");
    indented(&mut text, &table::table(records, &TextStyle { width: None, ..TextStyle::of_stdout(false) }));
    text.push_str("\nIts task in the fake Pyrus\n");
    indented(&mut text, &describe(task, state));
    // Writing to a String never fails, so the result is ignored.
    let _ = write!(
        text,
        "\nThe recording: stereo, left the caller, right the called party\n  {}\nIts record: everything known about the \
         call\n  {}\nThe capture of the call (for Wireshark)\n  {}\n\n{NEXT}",
        recording.path,
        Path::new(&recording.path).with_extension("json").display(),
        capture.display()
    );
    Ok(text)
}

/// Checks that the task has exactly one attachment, and that this attachment equals the recording on disk.
fn ensure_attached(task: &PyrusTask, state: &FakeState, recording: &RecordingFile) -> anyhow::Result<()> {
    let attached = task.attachments.iter().filter_map(|a| state.file(&a.guid));
    let same = attached.filter(|f| f.sha256 == recording.sha256).count();
    ensure!(same == 1, "the recording is attached {same} times to task {} instead of once", task.task_id);
    Ok(())
}

fn describe(task: &PyrusTask, state: &FakeState) -> String {
    let mut text = format!("task {}: {} called {}", task.task_id, task.from, task.to);
    if let Some(person) = state.people.iter().find(|p| Some(p.user_id) == task.responsible) {
        text.push_str(&format!(", {} {} is responsible", person.first_name, person.last_name));
    }
    text.push('\n');
    for (code, value) in &task.fields {
        text.push_str(&format!("{code} = {value}\n"));
    }
    for attachment in &task.attachments {
        let size = state.file(&attachment.guid).map_or(0, |f| f.size);
        text.push_str(&format!("attached: {} ({size} bytes)\n", attachment.name));
    }
    text
}

fn indented(text: &mut String, block: &str) {
    for line in block.lines() {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
}

/// Capture of a call of eight seconds (G.711, two voices) between two telephones; see fixtures/README.md.
const CAPTURE: &[u8] = include_bytes!("../../fixtures/calls/g711a_direct/capture.pcap");

/// Interval at which the demo checks for SIGINT and SIGTERM.
const POLL: Duration = Duration::from_millis(100);

/// Maximum number at the end of a folder name, e.g. the 2 of `demo-2`. A user with so many old demos should remove
/// some.
const MAX_FOLDERS: u32 = 100;

const INTRODUCTION: &str = "\
Replaying a captured call: 101 calls 102. A fake Pyrus runs inside this program; nothing leaves the machine.
";

const NEXT: &str = "\
Next: your own capture    callspan replay --out calls FILE.pcap
      the service         callspan check-config --example > callspan.toml
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_capture_is_a_pcap_file() {
        // The capture is a little-endian pcap file with microseconds: magic a1b2c3d4.
        assert_eq!(CAPTURE.get(..4), Some(&[0xd4, 0xc3, 0xb2, 0xa1][..]));
    }

    #[test]
    fn second_demo_uses_a_folder_beside_the_first() {
        let parent = tempfile::tempdir().expect("temporary folder");
        let wanted = parent.path().join("demo");
        assert_eq!(free_folder(&wanted).expect("free"), wanted);
        std::fs::write(wanted.join("x"), "").expect("written");
        assert_eq!(free_folder(&wanted).expect("free"), parent.path().join("demo-2"));
    }

    #[test]
    fn missing_attachment_fails_the_demo() {
        let recording = RecordingFile {
            part: 1,
            path: "x.wav".to_owned(),
            format: "wav".to_owned(),
            starts_at: crate::time::Timestamp::EPOCH,
            ends_at: crate::time::Timestamp::EPOCH,
            duration_s: 0.0,
            sample_rate: 8000,
            channels: 2,
            bytes: 44,
            sha256: "00".to_owned(),
            plain_sha256: None,
        };
        let task = PyrusTask { task_id: 7, ..PyrusTask::default() };
        let error = ensure_attached(&task, &FakeState::default(), &recording).expect_err("nothing is attached");
        assert!(error.to_string().contains("task 7"), "{error}");
    }
}
