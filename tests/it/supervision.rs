//! Tests of signals and supervision of `callspan run`: SIGHUP, the messages to systemd, and alarms if the start fails.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![expect(clippy::disallowed_methods, reason = "real time passes for a service")]

use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::live::LiveService;

const PATIENCE: Duration = Duration::from_secs(20);

/// Writes a configuration that captures on the loopback interface. Returns the path of the file.
fn configuration(dir: &Path, rest: &str) -> PathBuf {
    crate::support::configuration::configuration(dir, "lo", rest)
}

fn start(config: &Path, notify: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_callspan"))
        .args(["run", "-c"])
        .arg(config)
        .env("NOTIFY_SOCKET", notify)
        .env_remove("CALLSPAN_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The socket of systemd in these tests, and the messages that came so far.
struct NotifySocket(UnixDatagram, Vec<String>);

impl NotifySocket {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self(socket, Vec::new())
    }

    fn wait_for(&mut self, words: &str) {
        let until = Instant::now() + PATIENCE;
        let mut message = [0; 1_000];
        while !self.1.iter().any(|seen| seen.contains(words)) {
            assert!(Instant::now() < until, "no {words} in {:?}", self.1);
            if let Ok(length) = self.0.recv(&mut message) {
                self.1.push(String::from_utf8_lossy(&message[..length]).into_owned());
            }
        }
    }
}

fn signal(name: &str, child: &Child) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

fn end(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: captures packets")]
fn hangup_reads_the_configuration_again_and_systemd_gets_signs_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), "[pyrus]\nenabled = false\n");
    let mut systemd = NotifySocket::bind(&dir.path().join("notify"));
    let child = start(&config, &dir.path().join("notify"));
    systemd.wait_for("READY=1");
    systemd.wait_for("WATCHDOG=1");
    systemd.wait_for("STATUS=0 calls under way, 0 packets lost, 0 calls to send to Pyrus");
    configuration(dir.path(), "[numbers]\ncountry_code = \"x\"\n");
    signal("-HUP", &child);
    systemd.1.clear();
    systemd.wait_for("WATCHDOG=1");
    let rest = "[pyrus]\nenabled = false\n[numbers]\ncountry_code = \"7\"\n[log]\nlevel = \"warn\"\n[console]\nlisten = \"127.0.0.1:1\"\n";
    configuration(dir.path(), rest);
    signal("-HUP", &child);
    for _ in 0..2 {
        systemd.1.clear();
        systemd.wait_for("WATCHDOG=1");
    }
    signal("-TERM", &child);
    let (status, said) = end(child);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("the old configuration stays in use") && said.contains("country_code"), "{said}");
    assert!(said.contains("read again; now in use: numbers, log; needs a restart: console"), "{said}");
    assert!(!said.contains("stopped"), "the log level warn is in use: {said}");
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: captures packets")]
fn a_console_whose_port_is_taken_does_not_stop_the_recorder() {
    let dir = tempfile::tempdir().unwrap();
    let mut taken = Some(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let alarms = dir.path().join("alarms");
    let rest = format!(
        "[console]\nlisten = \"{}\"\n[pyrus]\nenabled = true\nauth_url = \"http://127.0.0.1:1/auth\"\nlogin = \"a\"\n\
         account_id = \"b\"\nsecurity_key = \"c\"\n[alerts]\ncommand = \"cat >> {}\"\n",
        taken.as_ref().unwrap().local_addr().unwrap(),
        alarms.display()
    );
    let config = configuration(dir.path(), &rest);
    let mut systemd = NotifySocket::bind(&dir.path().join("notify"));
    for is_freed in [false, true] {
        let child = start(&config, &dir.path().join("notify"));
        systemd.1.clear();
        systemd.wait_for("READY=1");
        systemd.wait_for("WATCHDOG=1");
        if is_freed {
            let port = taken.take().expect("still taken").local_addr().unwrap();
            crate::faults::station::until("the console is there", || {
                systemd.1.clear();
                systemd.wait_for("WATCHDOG=1"); // read by systemd as well
                std::net::TcpStream::connect(port).is_ok()
            });
        }
        signal("-TERM", &child);
        let (status, said) = end(child);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("cannot listen on"), "{said}");
    }
    let told = std::fs::read_to_string(&alarms).unwrap();
    let count = |kind: &str| told.lines().filter(|line| line.contains(kind)).count();
    assert_eq!((count("console_failed"), count("journal_damaged"), count("service_failed")), (1, 0, 0), "{told}");
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: captures packets")]
fn state_folder_that_does_not_answer_holds_up_no_capture() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), "[pyrus]\nenabled = false\n");
    std::fs::create_dir(dir.path().join("state")).unwrap();
    // Opening this pipe blocks as long as nobody reads it, like a disk that does not answer.
    let pipe = dir.path().join("state/status.json.part");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut systemd = NotifySocket::bind(&dir.path().join("notify"));
    let child = start(&config, &dir.path().join("notify"));
    systemd.wait_for("READY=1");
    // The capture thread sends WATCHDOG=1 twice a second. The status file is written at once and after 5 s.
    for _ in 0..14 {
        systemd.1.clear();
        systemd.wait_for("WATCHDOG=1");
    }
    signal("-TERM", &child);
    let (status, said) = end(child);
    assert_eq!(status, Some(0), "{said}");
}

/// Runs the ExecReload commands of the unit for a service, as systemd does: in their order, up to the first that fails.
/// The error is the output of that command.
fn reload(service: &Child, config: &Path) -> Result<(), String> {
    let unit = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/callspan.service")).unwrap();
    for command in unit.lines().filter_map(|line| line.strip_prefix("ExecReload=")) {
        let command = command
            .replace("$MAINPID", &service.id().to_string())
            .replace("/usr/bin/callspan", env!("CARGO_BIN_EXE_callspan"))
            .replace("/etc/callspan/callspan.toml", config.to_str().unwrap());
        let mut words = command.split(' ');
        let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    Ok(())
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: captures packets")]
fn reload_with_mistakes_fails_and_status_shows_it_until_it_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), "[pyrus]\nenabled = false\n");
    let mut systemd = NotifySocket::bind(&dir.path().join("notify"));
    let service = start(&config, &dir.path().join("notify"));
    systemd.wait_for("WATCHDOG=1");
    let refused = || json_of(&["status", "--json"], &config)["service"]["refused_reload"].clone();
    assert!(refused().is_null());
    // A phone number in the wrong place. A person at the terminal may read it, a file of the service must not hold it.
    configuration(dir.path(), "[calls]\nsilence_s = 4951234567\n[log]\nlevel = \"loud\"\n");
    let said = reload(&service, &config).unwrap_err();
    assert!(said.contains("silence_s = 4951234567") && said.contains("loud"), "each mistake is printed: {said}");
    crate::faults::station::until("the refusal is in the status", || !refused().is_null());
    let reason = refused()["reason"].clone();
    assert!(
        reason.as_str().is_some_and(|r| r.contains("2 mistakes: line ") && r.ends_with("calls.silence_s")),
        "{reason}"
    );
    let stored = std::fs::read_to_string(dir.path().join("state/status.json")).unwrap();
    assert!(!stored.contains("4951234567"), "{stored}");
    assert!(refused()["at"].is_string());
    let text = Command::new(env!("CARGO_BIN_EXE_callspan")).args(["status", "-c"]).arg(&config).output().unwrap();
    let [text, warnings] = [text.stdout, text.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(text.lines().any(|line| line.starts_with("REFUSED") && line.contains("silence_s")), "{text}");
    assert!(warnings.contains("silence_s") && warnings.contains("loud"), "{warnings}");
    crate::support::configuration::ServiceToml::new(dir.path()).append("[pyrus]\nenabled = false\n").write();
    let said = reload(&service, &config).unwrap_err();
    assert!(said.contains("capture.interface is missing"), "{said}");
    crate::faults::station::until("the reload without an interface is refused", || {
        refused()["reason"].as_str().is_some_and(|reason| reason.contains("capture.interface"))
    });
    configuration(dir.path(), "[numbers]\ncountry_code = \"7\"\n");
    assert_eq!(reload(&service, &config), Ok(()));
    crate::faults::station::until("the reload is taken", || refused().is_null());
    signal("-TERM", &service);
    let (status, said) = end(service);
    assert_eq!(status, Some(0), "{said}");
}

/// Runs a command of the program on a configuration. Returns its output as JSON.
fn json_of(command: &[&str], config: &Path) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_callspan")).args(command).arg("-c").arg(config).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: captures packets")]
fn reason_of_a_restart_loop_is_in_status_and_test_call() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), "[pyrus]\nenabled = false\n");
    let mut systemd = NotifySocket::bind(&dir.path().join("notify"));
    let test_call = || json_of(&["test-call", "--json", "--interface", "lo"], &config)["steps"][0].clone();
    // The service has never run, and later it has run until a moment ago.
    for _ in 0..2 {
        std::fs::remove_dir_all(dir.path().join("spool")).ok();
        std::fs::write(dir.path().join("spool"), "a file").unwrap();
        assert_eq!(end(start(&config, &dir.path().join("notify"))).0, Some(1));
        let status = json_of(&["status", "--json"], &config);
        assert_eq!(status["running"], false, "{status:#}");
        assert!(status["failure"]["detail"].as_str().is_some_and(|why| why.contains("spool")), "{status:#}");
        let step = test_call();
        assert!(
            step["detail"].as_str().is_some_and(|why| why.contains("cannot start") && why.contains("spool")),
            "{step}"
        );
        std::fs::remove_file(dir.path().join("spool")).unwrap();
        systemd.1.clear();
        let child = start(&config, &dir.path().join("notify"));
        systemd.wait_for("READY=1");
        signal("-TERM", &child);
        assert_eq!(end(child).0, Some(0));
        assert!(json_of(&["status", "--json"], &config)["failure"].is_null(), "a later start has succeeded");
        assert!(test_call()["detail"].as_str().is_some_and(|why| why.contains("is stopped")));
    }
}

/// A webhook that answers each message only after a while, as a receiver with much to do. It keeps the bodies.
struct SlowReceiver {
    url: String,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl SlowReceiver {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let bodies = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&bodies);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || answer_slowly(client, &kept));
            }
        });
        Self { url, bodies }
    }

    fn received(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }
}

fn answer_slowly(mut client: std::net::TcpStream, bodies: &Mutex<Vec<String>>) {
    let (mut request, mut packet) = (String::new(), [0; 65_536]);
    while !is_whole(&request) {
        match client.read(&mut packet) {
            Ok(length @ 1..) => request.push_str(&String::from_utf8_lossy(&packet[..length])),
            _ => return, // the client is gone
        }
    }
    bodies.lock().unwrap().push(request);
    std::thread::sleep(Duration::from_secs(6));
    let _ = std::io::Write::write_all(&mut client, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); // it may be gone
}

/// Returns whether a request has its whole body. A client may send the head and the body in packets of their own.
fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    body.len() >= length.map_or(0, |length| length.trim().parse().expect("a length"))
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: captures packets")]
fn second_service_by_hand_sends_no_message_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let configure = |interface: &str, url: &str| {
        let rest = format!("[pyrus]\nenabled = false\n[alerts]\nwebhook_url = \"{url}\"\n");
        crate::support::configuration::configuration(dir.path(), interface, &rest)
    };
    // The alarm about this start reaches nobody, so it waits for the next start.
    let config = configure("lo", "http://127.0.0.1:1/x");
    let run = || {
        let mut run = Command::new(env!("CARGO_BIN_EXE_callspan"));
        run.args(["run", "-c"]).arg(&config).stderr(Stdio::piped());
        run
    };
    std::fs::write(dir.path().join("spool"), "a file").unwrap();
    let (status, said) = end(run().spawn().unwrap());
    assert_eq!(status, Some(1), "{said}");
    std::fs::remove_file(dir.path().join("spool")).unwrap();
    let receiver = SlowReceiver::start();
    configure("lo", &receiver.url);
    let mut first = LiveService::start(run());
    first.wait_for("capturing on lo");
    let is_sent = || receiver.received().iter().any(|body| body.contains("service_failed"));
    crate::faults::station::until("the first service sends the alarm", is_sent);
    // The first service writes its history of alarms while the second one runs.
    let history = dir.path().join("state/alarms.json");
    std::fs::write(&history, "[ ]").unwrap();
    let (status, said) = end(run().spawn().unwrap());
    assert!(status == Some(1) && said.contains("in use by another callspan"), "{said}");
    configure("nosuch0", &receiver.url);
    let (status, said) = end(run().spawn().unwrap());
    assert!(status == Some(1) && said.contains("nosuch0"), "{said}");
    let received = receiver.received();
    let sent = received.iter().filter(|body| body.contains("service_failed")).count();
    assert_eq!(sent, 1, "the message belongs to the first service: {received:#?}");
    assert_eq!(std::fs::read_to_string(&history).unwrap(), "[ ]", "the history belongs to the first service");
    assert!(json_of(&["status", "--json"], &config)["failure"].is_null(), "the first service has not failed");
    let (status, said) = first.stop();
    assert_eq!(status, Some(0), "{said:#?}");
}

/// The lock on the outbox stands for a disk that is slow under load.
#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: captures packets")]
fn alarm_about_a_failed_start_waits_for_a_slow_outbox() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        configuration(dir.path(), "[pyrus]\nenabled = false\n[alerts]\nwebhook_url = \"http://127.0.0.1:1/x\"\n");
    std::fs::write(dir.path().join("spool"), "a file").unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    let outbox = rusqlite::Connection::open(dir.path().join("state/outbox.sqlite")).unwrap();
    outbox.pragma_update(None, "journal_mode", "WAL").unwrap();
    outbox.execute_batch("BEGIN IMMEDIATE").unwrap();
    let child = start(&config, &dir.path().join("notify"));
    // Longer than the last runs of the alarm command and the last messages together, shorter than SQLite waits.
    std::thread::sleep(Duration::from_millis(4_500));
    outbox.execute_batch("COMMIT").unwrap();
    let (status, said) = end(child);
    assert_eq!(status, Some(1), "{said}");
    let stored =
        outbox.query_row("SELECT count(*) FROM outbox WHERE route = 'webhook'", [], |row| row.get::<_, u32>(0));
    assert_eq!(stored, Ok(1), "the next start sends the alarm: {said}");
}

#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root: captures packets")]
fn unreadable_journal_is_logged_once_and_so_is_its_recovery() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_callspan"));
    run.args(["run", "-c"]).arg(configuration(dir.path(), "[pyrus]\nenabled = false\n"));
    let mut service = LiveService::start(run);
    service.wait_for("capturing on lo");
    let journal = rusqlite::Connection::open(dir.path().join("state/journal.sqlite")).unwrap();
    let rename = |from: &str, to: &str| {
        journal.busy_timeout(PATIENCE).unwrap();
        journal.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
    };
    rename("renders", "renders_away");
    service.wait_for("the requests to render calls again cannot be read");
    std::thread::sleep(Duration::from_secs(5)); // two more attempts
    rename("renders_away", "renders");
    service.wait_for("the requests to render calls again can be read again");
    let (status, said) = service.stop();
    assert_eq!(status, Some(0), "{said:#?}");
    let failures = said.iter().filter(|line| line.contains("render calls again cannot be read")).count();
    assert_eq!(failures, 1, "{said:#?}");
}

/// Returns the effective capabilities of a child process that has `word` in its command line; `None` if there is no
/// such child.
fn capabilities_of_child(parent: u32, word: &str) -> Option<String> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let command = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let is_it = field("PPid:") == Some(&parent.to_string()) && command.split('\0').any(|part| part == word);
        is_it.then(|| field("CapEff:").unwrap_or_default().to_owned())
    })
}

/// Runs the service with the privileges that the systemd unit gives it.
#[test]
#[cfg_attr(not(may_add_namespaces), ignore = "needs root and setpriv: starts the service as another user")]
fn doctor_of_the_console_may_capture_with_the_privileges_of_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config =
        configuration(dir.path(), &format!("[console]\nlisten = \"127.0.0.1:{port}\"\n[pyrus]\nenabled = false\n"));
    // The compiled program may be in a folder that only root can enter, so it is copied.
    let program = dir.path().join("callspan");
    std::fs::copy(env!("CARGO_BIN_EXE_callspan"), &program).unwrap();
    for path in [dir.path(), &config, &program] {
        std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps",
        "+net_raw",
    ]);
    command.args(["--ambient-caps", "+net_raw", "--bounding-set", "-all,+net_raw"]).arg(&program);
    command.args(["run", "-c"]).arg(&config).env("NOTIFY_SOCKET", dir.path().join("notify")).stderr(Stdio::piped());
    let mut systemd = NotifySocket::bind(&dir.path().join("notify"));
    std::os::unix::fs::chown(dir.path().join("notify"), Some(65_534), Some(65_534)).unwrap();
    let child = command.spawn().unwrap();
    systemd.wait_for("READY=1");
    let mut console = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!(
        "POST /health/doctor HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n\
                           Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n\r\ncsrf="
    );
    std::io::Write::write_all(&mut console, request.as_bytes()).unwrap();
    let until = Instant::now() + PATIENCE;
    let has_privilege = || capabilities_of_child(child.id(), "doctor").is_some_and(|caps| caps == "0000000000002000");
    while !has_privilege() {
        let seen = capabilities_of_child(child.id(), "doctor");
        assert!(Instant::now() < until, "the doctor has CAP_NET_RAW: {seen:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    signal("-TERM", &child);
    let (status, said) = end(child);
    assert_eq!(status, Some(0), "{said}");
}

/// A thread counts as stuck after one to three minutes, so this test runs in `.ci/long` only.
#[test]
#[ignore = "takes minutes, and needs root and python3: holds single threads"]
fn threads_that_stand_still_are_named_and_end_the_signs_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let rest = "[console]\nlisten = \"127.0.0.1:0\"\n[pyrus]\nenabled = true\nauth_url = \"http://127.0.0.1:1/auth\"\n\
                login = \"a\"\naccount_id = \"b\"\nsecurity_key = \"c\"\n";
    let config = configuration(dir.path(), rest);
    let mut systemd = NotifySocket::bind(&dir.path().join("notify"));
    let mut child = start(&config, &dir.path().join("notify"));
    systemd.wait_for("READY=1");
    systemd.wait_for("WATCHDOG=1");
    // The name of each thread in the operating system, and its name in the alarm.
    let names = [
        ("spool", "spool"),
        ("watch", "watch"),
        ("state-files", "state files"),
        ("alerts", "alerts"),
        ("notify", "notify"),
        ("console", "console"),
        ("events", "events"),
        ("records", "records"),
        ("pyrus", "delivery"),
    ];
    let stopped = names.map(|(thread, _)| StoppedThread::of(child.id(), thread));
    // Nobody reads the messages to systemd. This must not block the capture thread, which raises the alarms.
    std::thread::sleep(Duration::from_secs(3 * 60 + 10));
    while systemd.0.recv(&mut [0; 1_000]).is_ok() {}
    std::thread::sleep(Duration::from_secs(2)); // time for four WATCHDOG=1
    assert!(systemd.0.recv(&mut [0; 1_000]).is_err(), "no sign of life");
    drop(stopped);
    systemd.1.clear();
    systemd.wait_for("WATCHDOG=1");
    signal("-TERM", &child);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    for (_, name) in names {
        assert!(said.contains(&format!("the {name} thread has made no progress")), "{name}: {said}");
    }
}

/// One thread of a process that a debugger has stopped, while the other threads run. Dropping this value lets the
/// thread continue.
struct StoppedThread {
    debugger: Child,
    _output: std::process::ChildStdout,
}

impl StoppedThread {
    fn of(process: u32, name: &str) -> Self {
        let mut threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
        let is_it = |comm: String| comm.trim() == name;
        let thread = threads.find(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(is_it));
        let thread = thread.unwrap_or_else(|| panic!("no thread {name}")).file_name();
        let script = "import ctypes, os, sys, time\n\
            libc = ctypes.CDLL(None, use_errno=True)\n\
            libc.ptrace.argtypes = [ctypes.c_long] * 4\n\
            assert libc.ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0\n\
            assert libc.ptrace(0x4207, int(sys.argv[1]), 0, 0) == 0\n\
            print('stopped', flush=True)\n\
            time.sleep(100000)\n";
        let mut command = Command::new("python3");
        let debugger = command.args(["-c", script]).arg(thread).stdout(Stdio::piped()).spawn();
        let mut debugger = debugger.unwrap();
        let mut output = debugger.stdout.take().unwrap();
        output.read_exact(&mut [0; 7]).unwrap(); // waits for the debugger's output
        Self { debugger, _output: output }
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        // The kernel lets the thread continue when its debugger ends.
        self.debugger.kill().unwrap();
        self.debugger.wait().unwrap();
    }
}

/// A thread counts as stuck after a minute, so this test runs in `.ci/long` only.
#[test]
#[ignore = "takes minutes, and needs root: captures packets"]
fn thread_that_a_disk_holds_up_ends_the_signs_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let alarms = dir.path().join("alarms");
    let rest = format!("[pyrus]\nenabled = false\n[alerts]\ncommand = \"cat >> {}\"\n", alarms.display());
    let config = configuration(dir.path(), &rest);
    // Opening this pipe blocks as long as nobody reads it, like a disk that does not answer.
    let pipe = dir.path().join("spool/signalling.new");
    std::fs::create_dir(dir.path().join("spool")).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut systemd = NotifySocket::bind(&dir.path().join("notify"));
    let child = start(&config, &dir.path().join("notify"));
    systemd.wait_for("READY=1");
    systemd.wait_for("WATCHDOG=1");
    let until = Instant::now() + Duration::from_secs(120);
    let told = || std::fs::read_to_string(&alarms).unwrap_or_default();
    while !told().contains("thread_stalled") {
        assert!(Instant::now() < until, "an alarm about the thread: {}", told());
        let _ = systemd.0.recv(&mut [0; 1_000]);
    }
    assert!(told().contains("the spool thread has made no progress"), "{}", told());
    while systemd.0.recv(&mut [0; 1_000]).is_ok() {}
    std::thread::sleep(Duration::from_secs(2)); // time for four WATCHDOG=1
    assert!(systemd.0.recv(&mut [0; 1_000]).is_err(), "no sign of life: systemd would restart the service");
    // With a reader, opening the pipe succeeds: the disk answers again.
    let reader = std::fs::File::open(&pipe).unwrap();
    systemd.1.clear();
    systemd.wait_for("WATCHDOG=1");
    signal("-TERM", &child);
    let (status, said) = end(child);
    assert_eq!(status, Some(0), "{said}");
    drop(reader);
}
