//! Runs a test in a process of its own, because it changes or measures the whole process.

use std::process::Command;

/// Returns true if this process was started for one test. Otherwise starts such a process for the test `test`, requires
/// that it passes, and returns false. `test` has the modules and the function, as libtest lists it.
#[track_caller]
pub fn is_own_process(test: &str) -> bool {
    is_own_process_with(test, |command| command)
}

/// Does the same as [`is_own_process`]. `prepare` changes the command that starts the process.
#[track_caller]
pub fn is_own_process_with(test: &str, prepare: impl FnOnce(&mut Command) -> &mut Command) -> bool {
    if std::env::var_os(TEST).is_some_and(|name| name == test) {
        return true;
    }
    let program = std::env::current_exe().expect("the test binary has a path");
    let mut command = Command::new(program);
    let output = prepare(command.args(["--exact", test, "--nocapture"]).env(TEST, test)).output();
    let output = output.expect("the test binary runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("1 passed"), "{test}: {}\n{stdout}\n{stderr}", output.status);
    false
}

/// Name of the environment variable with the test for which a process was started.
const TEST: &str = "CALLSPAN_TEST_PROCESS";
