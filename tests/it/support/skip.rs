//! A test that cannot do its work here must not pass for one that did: it says so, and `deploy/test.sh` counts it.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses it as a module of its own")]

use std::io::Write as _;

/// Says that the running test skips, and why. Where `CALLSPAN_SKIPPED` names a file, the line goes there too: what a
/// test prints is not shown when it passes.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {why}", thread.name().unwrap_or("a test"));
    #[allow(clippy::print_stderr, reason = "a test that skips must say so")]
    {
        eprintln!("skipped: {line}");
    }
    let Some(path) = std::env::var_os("CALLSPAN_SKIPPED") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    // One write a line: the tests of a binary run at once.
    file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())).expect("CALLSPAN_SKIPPED can be written");
}
