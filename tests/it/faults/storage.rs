//! Tests that a disk that is not mounted is noticed, and that nothing is written below its mount point.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::faults::station::{TmpfsMount, below, until};
use crate::support::configuration::ServiceToml;

/// Writes a configuration with three folders. Recordings are in the folder `calls`.
fn configuration(dir: &Path) -> PathBuf {
    ServiceToml::new(dir)
        .set("capture", "interface = \"lo\"")
        .set("capture", "buffer_mib = 4")
        .set("recording", &format!("dir = {:?}", dir.join("calls")))
        .set("alerts", &format!("command = \"cat >> {}\"", dir.join("alarms").display()))
        .write()
}

fn run(config: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    command.args(["run", "-c"]).arg(config).env_remove("CALLSPAN_LOG").env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs")
}

/// Starts the service and waits until it captures. Returns its process and the thread that reads the rest of its log.
fn started(config: &Path) -> (Child, std::thread::JoinHandle<String>) {
    let mut child = run(config);
    let mut lines = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("capturing on") {
        line.clear();
        assert!(lines.read_line(&mut line).expect("readable") > 0, "it ended");
    }
    let rest = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = lines.read_to_string(&mut text); // nothing to do: the log is only for people
        text
    });
    (child, rest)
}

fn stop(mut child: Child) {
    Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
    assert_eq!(child.wait().expect("ours").code(), Some(0));
}

#[test]
#[cfg_attr(not(all(may_mount, may_capture)), ignore = "needs root: mounts a file system and captures")]
fn a_recording_disk_that_is_not_mounted_is_noticed() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = configuration(dir.path());
    let calls = dir.path().join("calls");
    std::fs::create_dir(&calls).expect("made");
    let mount = TmpfsMount::new(&calls, 1_024);
    let (child, _) = started(&config);
    // The disk is unmounted while the service runs.
    drop(mount);
    let alarms = || std::fs::read_to_string(dir.path().join("alarms")).unwrap_or_default();
    until("the alarm names the mount", || {
        alarms()
            .lines()
            .any(|line| line.contains("storage_missing") && line.contains(&format!("{} is not", calls.display())))
    });
    stop(child);
    assert_eq!(below(&calls), Vec::<PathBuf>::new(), "nothing is written underneath");
    // At the next start, the disk is still not mounted.
    let mut child = run(&config);
    let mut log = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut log).expect("text");
    assert_eq!(child.wait().expect("ours").code(), Some(1), "{log}");
    assert!(log.contains("recording folder") && log.contains(&format!("{} is not mounted", calls.display())), "{log}");
    assert_eq!(below(&calls), Vec::<PathBuf>::new(), "nothing is written underneath");
    // Another disk is mounted at the recording folder. The service uses this disk only after a person allows it.
    let _other = TmpfsMount::new(&calls, 1_024);
    let mut child = run(&config);
    log.clear();
    child.stderr.take().expect("piped").read_to_string(&mut log).expect("text");
    assert_eq!(child.wait().expect("ours").code(), Some(1), "{log}");
    assert!(log.contains("another disk is mounted") && log.contains("truncate -s 0"), "{log}");
    std::fs::write(calls.join(".callspan-storage"), "").expect("written");
    let (child, _) = started(&config);
    stop(child);
}
