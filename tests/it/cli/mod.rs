//! Tests of the command line as a script or an administrator uses it: exit status, standard output and standard error.

mod calls;
mod doctor;
mod fake_pyrus;
mod file_modes;
mod replay;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn callspan(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    // Variables of the test machine must not change the result.
    command.args(args).env_remove("CALLSPAN_LOG").env_remove("CALLSPAN_LOG_JSON");
    command.env_remove("CALLSPAN_PYRUS_SECURITY_KEY").env_remove("CREDENTIALS_DIRECTORY");
    command
}

fn run(args: &[&str]) -> Output {
    callspan(args).output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("killed: {output:?}"))
}

fn file(name: &str, content: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(name);
    std::fs::write(&path, content).expect("written");
    (dir, path)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

#[test]
fn help_names_every_command_and_is_a_result() {
    let output = run(&["--help"]);
    assert_eq!(code(&output), 0);
    for command in ["replay", "run", "check-config", "doctor", "fake-pyrus", "demo", "Exit status"] {
        assert!(stdout(&output).contains(command), "{command}");
    }
    for command in ["replay", "run", "check-config", "doctor", "fake-pyrus", "demo"] {
        assert_eq!(code(&run(&[command, "--help"])), 0, "{command}");
    }
    assert!(stdout(&run(&["--version"])).starts_with("callspan "));
}

#[test]
fn a_wrong_command_line_is_status_2_with_a_message_on_stderr() {
    for args in [&[][..], &["record"], &["replay"], &["replay", "--jsn", "x"], &["--log", "a=b=c", "demo"]] {
        let output = run(args);
        assert_eq!(code(&output), 2, "{args:?}");
        assert!(stdout(&output).is_empty() && !stderr(&output).is_empty(), "{args:?}");
    }
}

#[test]
fn check_config_says_every_mistake_with_its_line_and_ends_with_2() {
    let (_dir, path) = file("bad.toml", "[capture]\ninterfaces = \"eth1\"\n[calls]\nsilence_s = \"long\"\n");
    let output = run(&["check-config", text(&path)]);
    assert_eq!(code(&output), 2);
    let said = stderr(&output);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("callspan: {} has 2 mistakes:", path.display()));
    assert!(lines[1].starts_with("  line 1: warning: capture.interface is missing"), "{said}");
    assert_eq!(lines[2], "  line 2: [capture] has no key \"interfaces\"; did you mean \"interface\"?");
    assert_eq!(lines[3], "  line 4: calls.silence_s is a text; write a whole number from 5 to 86400");
}

#[test]
fn check_config_of_a_good_file_is_0_and_prints_its_warnings() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let base = dir.path().display();
    let good = format!(
        "[capture]\ninterface = \"lo\"\n[spool]\ndir = \"{base}/s\"\n[state]\ndir = \"{base}/j\"\n\
         [recording]\ndir = \"{base}/r\"\n"
    );
    let (_file_dir, path) = file("good.toml", &good);
    let output = run(&["check-config", text(&path)]);
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
    // The folders of the test are not those of the systemd unit, so three warnings are expected and nothing else.
    let said = stdout(&output);
    assert!(said.starts_with(&format!("{} can be used, with these warnings:\n", path.display())), "{said}");
    assert_eq!(said.lines().skip(1).filter(|l| l.contains(&format!("ReadWritePaths={base}/"))).count(), 3, "{said}");
    assert_eq!(said.lines().count(), 4, "{said}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_status_2_for_every_command() {
    for args in [
        &["check-config", "/nowhere/callspan.toml"][..],
        &["check-config", "-c", "/nowhere/callspan.toml"],
        &["run", "-c", "/nowhere/callspan.toml"],
        &["replay", "-c", "/nowhere/callspan.toml", "x.pcap"],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 2, "{args:?}");
        assert_eq!(
            stderr(&output).lines().next(),
            Some(
                "callspan: cannot read the configuration /nowhere/callspan.toml: the file does not exist; check the path"
            ),
            "{args:?}"
        );
    }
}

#[test]
fn run_without_an_interface_and_delivery_without_a_login_are_status_2() {
    let (_dir, path) = file("empty.toml", "");
    let output = run(&["run", "-c", text(&path)]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("capture.interface is missing"), "{}", stderr(&output));
    let [lenient, strict] = [&["check-config", text(&path)][..], &["check-config", "--service", text(&path)]].map(run);
    assert_eq!((code(&lenient), code(&strict)), (0, 2));
    assert!(stderr(&strict).contains("1 mistake:") && stderr(&strict).contains("capture.interface is missing"));
    let output = run(&["replay", "--deliver", "x.pcap"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("pyrus.login is missing: --deliver needs it"), "{}", stderr(&output));
}

#[test]
fn the_security_key_is_in_no_output() {
    let (_dir, path) = file("key.toml", "[pyrus]\nenabled = true\nsecurity_key = \"top-secret-9\"\nlogin = 1\n");
    for args in [&["check-config", text(&path)][..], &["--log", "trace", "run", "-c", text(&path)]] {
        let output = callspan(args).env("CALLSPAN_PYRUS_SECURITY_KEY", "top-secret-8").output().expect("runs");
        assert_eq!(code(&output), 2);
        assert!(!format!("{}{}", stdout(&output), stderr(&output)).contains("top-secret"), "{args:?}");
    }
}

#[test]
fn the_example_is_the_shipped_file_and_passes_its_own_check() {
    let output = run(&["check-config", "--example"]);
    assert_eq!(code(&output), 0);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/callspan.toml");
    assert_eq!(stdout(&output), std::fs::read_to_string(&shipped).expect("shipped"));
    assert_eq!(code(&run(&["check-config", text(&shipped)])), 0);
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_no_panic() {
    let mut child =
        callspan(&["check-config", "--example"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
}

#[test]
fn a_full_disk_under_standard_output_is_an_error_in_words() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has /dev/full");
    let output = callspan(&["check-config", "--example"]).stdout(full).output().expect("runs");
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).starts_with("callspan: cannot write to standard output"), "{}", stderr(&output));
}

#[test]
fn fake_pyrus_says_where_it_listens_and_ends_well_on_sigterm() {
    let mut fake = RunningCommand::start(&["fake-pyrus", "--listen", "127.0.0.1:0"]);
    let line = fake.line_with("auth_url");
    assert!(line.contains("http://127.0.0.1:"), "{line}");
    fake.terminate();
    let status = fake.child.wait().expect("ends");
    assert_eq!(status.code(), Some(0));
}

/// If a process may not be dumped, its files in /proc belong to root (proc(5)). This can be tested only if the process
/// itself does not run as root.
#[test]
fn no_crash_writes_the_memory_of_the_process_to_a_disk() {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let program = dir.path().join("callspan");
    std::fs::copy(env!("CARGO_BIN_EXE_callspan"), &program).expect("copied");
    let mut command = Command::new(&program);
    command.args(["fake-pyrus", "--listen", "127.0.0.1:0"]).current_dir("/");
    let is_root = std::fs::metadata(dir.path()).expect("there").uid() == 0;
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut fake = RunningCommand::spawn(&mut command);
    fake.line_with("auth_url");
    let owner = std::fs::metadata(format!("/proc/{}/maps", fake.child.id())).expect("it runs").uid();
    assert_eq!(owner, 0, "its memory belongs to it and may be dumped");
}

#[test]
fn what_fake_pyrus_prints_is_a_configuration_that_can_be_used() {
    let mut fake = RunningCommand::start(&["fake-pyrus", "--listen", "127.0.0.1:0"]);
    let mut config = String::from("[pyrus]\n");
    for key in ["enabled", "auth_url", "login", "security_key", "account_id"] {
        config.push_str(&fake.line_with(key));
    }
    let (_dir, path) = file("fake.toml", &config);
    let output = run(&["check-config", text(&path)]);
    assert_eq!(code(&output), 0, "{}\n{config}", stderr(&output));
}

#[test]
fn a_port_in_use_is_one_sentence_with_a_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it has one").to_string();
    let output = run(&["fake-pyrus", "--listen", &address]);
    assert_eq!(code(&output), 1);
    let said = stderr(&output);
    assert!(said.contains(&address) && said.contains("another program has this port"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_script_with_a_mistake_is_told_with_its_place() {
    let (_dir, path) = file("faults.json", "{\"stepps\": []}");
    let output = run(&["fake-pyrus", "--listen", "127.0.0.1:0", "--script", text(&path)]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("stepps") && stderr(&output).contains("line 1"), "{}", stderr(&output));
}

/// A command that runs until it is stopped. Dropping this value stops it.
struct RunningCommand {
    child: Child,
    lines: BufReader<Box<dyn Read>>,
}

impl RunningCommand {
    fn start(args: &[&str]) -> Self {
        Self::spawn(&mut callspan(args))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
        let stdout = child.stdout.take().expect("piped");
        Self { child, lines: BufReader::new(Box::new(stdout)) }
    }

    /// Waits for the next line of output that contains `word`. Returns the line.
    fn line_with(&mut self, word: &str) -> String {
        let mut line = String::new();
        while self.lines.read_line(&mut line).expect("readable") > 0 {
            if line.contains(word) {
                return line;
            }
            line.clear();
        }
        panic!("it ended without a line that has {word}");
    }

    fn terminate(&self) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(status.success());
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Id of the user "nobody" of Debian, which owns no files.
const NOBODY: u32 = 65_534;

#[test]
fn alerts_test_tries_every_way_and_says_which_failed() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let told = folder.path().join("told");
    let state = folder.path().join("state");
    let head = format!("[state]\ndir = \"{}\"\n[alerts]\n", text(&state));
    let (_dir, path) = file("alerts.toml", &head);
    let output = run(&["alerts", "test", "-c", text(&path)]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("no receiver of alarms is configured"), "{}", stderr(&output));
    let ways = format!("{head}command = \"cat > {}\"\nwebhook_url = \"http://127.0.0.1:1/\"\n", text(&told));
    let (_dir, path) = file("alerts.toml", &ways);
    let output = run(&["alerts", "test", "-c", text(&path)]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(code(&output), 1, "{said}");
    assert!(said.contains("webhook   FAILED: ") && said.contains("command   sent"), "{said}");
    assert!(std::fs::read_to_string(&told).expect("the command ran").contains("\"test_alarm\""));
}

#[test]
#[cfg_attr(not(may_mount), ignore = "needs root: changes the owner of a folder")]
fn alerts_test_of_root_runs_the_command_as_the_service() {
    let folder = folder_of_nobody();
    let told = folder.path().join("told");
    let ways = format!(
        "[state]\ndir = \"{}\"\n[alerts]\ncommand = \"id -u > {}; echo not delivered >&2; exit 3\"\n",
        text(folder.path()),
        text(&told)
    );
    let (_dir, path) = file("alerts.toml", &ways);
    let output = run(&["alerts", "test", "-c", text(&path)]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(code(&output), 1, "{said}");
    assert!(said.contains("command   FAILED: ") && said.contains("ran as nobody"), "{said}");
    assert!(stderr(&output).contains("not delivered"), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(&told).expect("the command ran").trim(), NOBODY.to_string());
}

#[test]
#[cfg_attr(not(may_mount), ignore = "needs root: changes the owner of a folder")]
fn root_does_not_run_the_service_in_folders_of_another_user() {
    let folder = folder_of_nobody();
    let dir = text(folder.path()).to_owned();
    let folders = format!(
        "[capture]\ninterface = \"lo\"\n[state]\ndir = \"{dir}/s\"\n[spool]\ndir = \"{dir}\"\n[recording]\ndir = \
         \"{dir}/r\"\n"
    );
    let (_dir, path) = file("run.toml", &folders);
    let output = run(&["run", "-c", text(&path)]);
    let said = stderr(&output);
    assert_eq!(code(&output), 2, "{said}");
    assert!(said.contains("belongs to the user nobody") && said.contains("systemctl start callspan"), "{said}");
    assert!(said.contains("setpriv --reuid nobody"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0, "nothing was written");
}

fn folder_of_nobody() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
    folder
}
