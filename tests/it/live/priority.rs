//! Priorities of the threads of a running service.

use std::path::Path;

use super::{LiveService, NetworkNamespace, configuration, program};

/// Returns the name and the nice value of each thread of the process (proc(5), `/proc/pid/task/tid/stat`, field 19).
fn niceness_of_threads(process: u32) -> Vec<(String, i32)> {
    let threads = std::fs::read_dir(Path::new("/proc").join(process.to_string()).join("task")).unwrap();
    threads
        .map(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
            // The name stands in parentheses. The first field after it is the third one.
            let (head, tail) = stat.rsplit_once(") ").unwrap();
            let name = head.split_once('(').unwrap().1.to_owned();
            (name, tail.split(' ').nth(19 - 3).unwrap().parse().unwrap())
        })
        .collect()
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: adds a network namespace")]
fn capturing_precedes_other_work() {
    let namespace = NetworkNamespace::new("priority");
    let dir = tempfile::tempdir().unwrap();
    let mut run = namespace.command(&program());
    run.args(["run", "-c"]).arg(configuration(dir.path(), "mirror0"));
    let mut service = LiveService::start(run);
    service.wait_for("capturing on mirror0");
    // The service says so just before the first frame.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let threads = niceness_of_threads(service.child.id());
    let of_service = niceness_of_threads(std::process::id())[0].1;
    for name in ["spool", "watch", "alerts"] {
        assert!(threads.contains(&(name.to_owned(), of_service)), "{name}: {threads:?}");
    }
    assert_eq!(threads.iter().filter(|(_, nice)| *nice == -10).count(), 1, "{threads:?}");
    assert!(threads.contains(&("callspan".to_owned(), -10)), "{threads:?}");
}
