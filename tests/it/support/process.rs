//! Runs a test that changes or measures the whole process in a process of its own.

use std::process::Command;

/// Returns true in a process that belongs to one test alone. In any other process it starts such a process for the test
/// `test` (modules and function, as libtest lists it), requires it to pass, and returns false.
#[track_caller]
pub fn is_own_process(test: &str) -> bool {
    is_own_process_with(test, |command| command)
}

/// Like [`is_own_process`]; `prepare` changes the command that starts the process.
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

/// Environment variable with the test for which a process was started.
const TEST: &str = "CALLSPAN_TEST_PROCESS";
