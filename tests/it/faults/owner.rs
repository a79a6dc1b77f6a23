//! Tests with files that another user makes in the folders of the service.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::faults::station::{ALL, FaultSetup, TestRecorder, below, delivered};

const NOBODY: u32 = 65_534;

/// Returns a folder and everything below it.
fn everything(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for path in below(folder) {
        found.extend(path.ancestors().take_while(|path| *path != folder).map(Path::to_owned));
    }
    found
}

#[test]
#[cfg_attr(not(may_mount), ignore = "needs root: changes the owner of files")]
fn call_that_root_renders_again_is_private_and_stays_with_the_service() {
    let mut place = FaultSetup::new();
    place.config.recording.keep_pcap = true;
    let mut station = TestRecorder::start(&place);
    station.hear(ALL);
    let record = delivered(&place, &station.journal);
    station.stop();
    let folders = [&place.config.spool.dir, &place.config.journal.dir, &place.config.recording.dir];
    // As if the first rendering had failed.
    let kept =
        below(&place.config.recording.dir).into_iter().find(|path| path.extension().is_some_and(|e| e == "pcapng"));
    let (kept, leg) = (kept.expect("keep_pcap is set"), record.legs[0].spool.as_ref().expect("a leg with packets"));
    std::fs::rename(&kept, place.config.spool.dir.join(format!("{leg}.pcapng.failed"))).expect("renamed");
    for path in folders.into_iter().flat_map(|folder| everything(folder)) {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    let made: Vec<PathBuf> = below(&place.config.recording.dir)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "wav" || e == "json" || e == "peaks"))
        .collect();
    assert_eq!(made.len(), 3);
    made.iter().for_each(|path| std::fs::remove_file(path).expect("there"));
    let config = place.dir.path().join("callspan.toml");
    let toml = format!(
        "[spool]\ndir = {:?}\n[state]\ndir = {:?}\n[recording]\ndir = {:?}\nmin_free_gib = 0\nkeep_pcap = true\n",
        folders[0], folders[1], folders[2]
    );
    std::fs::write(&config, toml).expect("written");
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 0000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_callspan"), "calls", "render", &record.id]);
    let output = shell.arg("-c").arg(&config).env_remove("CALLSPAN_LOG").output().expect("sh runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for path in made.iter().chain([&kept]) {
        let file = std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!((file.permissions().mode() & 0o777, file.uid()), (0o600, NOBODY), "{}", path.display());
    }
    for path in folders.into_iter().flat_map(|folder| everything(folder)) {
        let owner = std::fs::metadata(&path).expect("there").uid();
        assert_eq!(owner, NOBODY, "{}: the service must be able to write it", path.display());
    }
}
