//! Tests that only the owner may read a recording, whatever the umask of the person who makes it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path());
        found.extend(all_below(&entry.path()));
    }
    found
}

fn replay(out: &Path) {
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/calls/g711a_direct/capture.pcap");
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 0000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_callspan"), "replay", "--out"]);
    let done = shell.arg(out).arg(capture).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("sh runs");
    assert!(done.success());
}

#[test]
fn files_and_folders_of_a_replay_are_private() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("a/b");
    replay(&out);
    let found = all_below(&dir.path().join("a"));
    assert!(found.iter().any(|path| path.extension().is_some_and(|e| e == "wav")), "{found:?}");
    for path in found {
        let mode = path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}

#[test]
#[cfg_attr(not(may_mount), ignore = "needs root: changes the owner of a folder")]
fn files_that_root_makes_belong_to_the_owner_of_the_folder() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("calls");
    std::fs::create_dir(&out).expect("made");
    std::os::unix::fs::chown(&out, Some(NOBODY), Some(NOBODY)).expect("root may");
    replay(&out);
    let sound = all_below(&out).into_iter().filter(|path| path.extension().is_some_and(|e| e == "wav" || e == "json"));
    let owners: Vec<u32> = sound.map(|path| path.metadata().expect("there").uid()).collect();
    assert_eq!(owners, [NOBODY; 2]);
}

const NOBODY: u32 = 65_534;
