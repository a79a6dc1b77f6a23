//! `callspan demo`: the main job with nothing to configure.
//!
//! A captured call that is shipped inside the binary goes the same way as in `replay --deliver`, to a fake Pyrus inside
//! this process. The demo fails if the fake does not hold exactly what the recorder says that it delivered.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use secrecy::SecretString;

use super::replay::{ReplayRequest, replay};
use super::{DemoArgs, table};
use crate::call::record::{CallRecord, RecordingFile};
use crate::fake_pyrus::{FakeOptions, FakePyrus, FakeState, PyrusTask};
use crate::ops::config::Config;
use crate::ops::output;

/// Runs the command.
///
/// # Errors
/// When the folder cannot be written, or the call did not arrive whole in the fake Pyrus.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let dir = free_folder(&args.out)?;
    let capture = dir.join("capture.pcap");
    std::fs::write(&capture, CAPTURE).with_context(|| format!("cannot write {}", capture.display()))?;
    let options = FakeOptions::default();
    let config = config(&options)?;
    let fake = FakePyrus::start(options)?;
    let config = Config { pyrus: crate::pyrus::config::Config { auth_url: fake.auth_url(), ..config.pyrus }, ..config };
    output::note(INTRODUCTION);
    let request = ReplayRequest { files: vec![capture.clone()], config, out: dir, deliver: true };
    let outcome = replay(request).context("the demo failed")?;
    let report = report(&outcome.records, &fake.state(), &capture)?;
    let violations = fake.violations();
    ensure!(violations.is_empty(), "the fake Pyrus complains about the client: {}", violations.join("; "));
    output::result(&report)?;
    Ok(ExitCode::SUCCESS)
}

/// 102 is ours and 101 calls from outside: so the call is inbound, and the task is made while 102 rings.
fn config(options: &FakeOptions) -> anyhow::Result<Config> {
    let user = options.users.first().context("the fake Pyrus has a user")?;
    let account = options.accounts.first().context("the fake Pyrus has an account")?;
    let mut config = Config::default_for_replay();
    config.call.numbers.extension_pattern = String::from("102");
    config.pyrus.enabled = true;
    config.pyrus.login.clone_from(&user.login);
    config.pyrus.security_key = Some(SecretString::from(user.security_key.as_str()));
    config.pyrus.account_id.clone_from(&account.account_id);
    Ok(config)
}

/// The folder that was asked for, or one beside it: a folder with an earlier demo holds its journal, and what is
/// delivered once is not sent again.
fn free_folder(wanted: &Path) -> anyhow::Result<PathBuf> {
    for n in 1..=MAX_FOLDERS {
        let dir = if n == 1 { wanted.to_owned() } else { PathBuf::from(format!("{}-{n}", wanted.display())) };
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let mut entries = std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        if entries.next().is_none() {
            return Ok(dir);
        }
    }
    bail!("{} demos have been here: remove the folders {}*", MAX_FOLDERS, wanted.display())
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
    indented(&mut text, &table::table(records, None));
    text.push_str("\nIts task in the fake Pyrus\n");
    indented(&mut text, &describe(task, state));
    // A String takes every write.
    let _ = write!(
        text,
        "\nThe recording: stereo, left the caller, right the called party\n  {}\nIts record: all that is known of the \
         call\n  {}\nThe capture that it was made from (Wireshark opens it)\n  {}\n\n{NEXT}",
        recording.path,
        Path::new(&recording.path).with_extension("json").display(),
        capture.display()
    );
    Ok(text)
}

/// The same bytes that are on disk must be attached to the task.
fn ensure_attached(task: &PyrusTask, state: &FakeState, recording: &RecordingFile) -> anyhow::Result<()> {
    let attached = task.attachments.iter().filter_map(|a| state.file(&a.guid));
    let same = attached.filter(|f| f.sha256 == recording.sha256).count();
    ensure!(same == 1, "the recording is {same} times attached to task {}, it should be once", task.task_id);
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

/// A call of eight seconds (G.711, two voices) between two telephones; see fixtures/README.md.
const CAPTURE: &[u8] = include_bytes!("../../fixtures/calls/g711a_direct/capture.pcap");

/// More demos than anybody keeps.
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
    fn the_shipped_capture_is_a_capture() {
        // Little-endian pcap with microseconds: magic a1b2c3d4.
        assert_eq!(CAPTURE.get(..4), Some(&[0xd4, 0xc3, 0xb2, 0xa1][..]));
    }

    #[test]
    fn a_second_demo_takes_a_folder_beside_the_first() {
        let parent = tempfile::tempdir().expect("temporary folder");
        let wanted = parent.path().join("demo");
        assert_eq!(free_folder(&wanted).expect("free"), wanted);
        std::fs::write(wanted.join("x"), "").expect("written");
        assert_eq!(free_folder(&wanted).expect("free"), parent.path().join("demo-2"));
    }

    #[test]
    fn a_recording_that_is_not_attached_fails_the_demo() {
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
