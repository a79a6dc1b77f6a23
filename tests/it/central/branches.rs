//! Three recorders in network namespaces and one central archive, while network connections, servers and access rights
//! fail.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::faults::{access_key, allow, revoke, use_key};
use super::{Central, Moto, callspan, text};
use crate::live::{LiveService, NetworkNamespace, ip, program};
use crate::support::call_frames::CallFrames;
use crate::support::configuration::configuration;
use callspan::fake_pyrus::FakeOptions;

/// Returns the number of calls of each recorder, which are in progress at the same time. It is `CALLSPAN_BRANCH_CALLS`,
/// or 12 (100 in `.ci/long`).
fn calls() -> u32 {
    std::env::var("CALLSPAN_BRANCH_CALLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// Length of each call.
const LENGTH: Duration = Duration::from_secs(3);
/// Maximum wait for a state. It allows for failed steps, which are repeated after 5, 10, 20 and 40 s.
const PATIENCE: Duration = Duration::from_secs(150);
/// Name of the environment variable with the number of a recorder's first call.
const FIRST: &str = "CALLSPAN_TEST_FIRST";

/// Plays the calls of a recorder at the same time onto `tap0`.
#[test]
#[ignore = "a helper: it sends, and needs an interface to send on"]
fn talker() {
    let first: u32 = std::env::var(FIRST).expect("set").parse().expect("a number");
    let mut out = pcap::Capture::from_device("tap0").expect("there").open().expect("opens");
    let calls = (first..first + calls()).flat_map(|number| CallFrames { number, length: LENGTH }.frames());
    let mut frames: Vec<_> = calls.collect();
    frames.sort_by_key(|(at, _)| *at);
    let began = Instant::now();
    for (at, frame) in frames {
        std::thread::sleep(at.saturating_sub(began.elapsed()));
        out.sendpacket(frame).expect("sent");
    }
}

/// Relays a port of the namespace's loopback to the object store. It is needed because the recorder allows http on
/// loopback only. Runs in a process of its own.
#[test]
#[ignore = "a helper: it relays in a namespace"]
fn line() {
    let centre = std::env::var(CENTRE).expect("set");
    let listener = TcpListener::bind(STORE).expect("free");
    for client in listener.incoming().flatten() {
        let centre = centre.clone();
        std::thread::spawn(move || {
            let Ok(at) = centre.parse() else { return };
            if let Ok(server) = TcpStream::connect_timeout(&at, Duration::from_secs(2)) {
                join(client, server);
            }
        });
    }
}

/// A relay in front of the object store. While the store is to appear full, the relay answers 507 to every request.
struct FullBucket {
    port: u16,
    is_full: Arc<AtomicBool>,
}

impl FullBucket {
    fn start(moto_port: u16) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let is_full = Arc::new(AtomicBool::new(false));
        let full = Arc::clone(&is_full);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let full = Arc::clone(&full);
                std::thread::spawn(move || relay(client, moto_port, &full));
            }
        });
        Self { port, is_full }
    }
}

fn relay(mut client: TcpStream, port: u16, is_full: &AtomicBool) {
    if is_full.load(Ordering::Relaxed) {
        let mut request = [0; 65_536];
        let _ = client.read(&mut request);
        let _ =
            client.write_all(b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
    join(client, server);
}

/// Copies bytes in both directions until one side ends the connection.
fn join(mut client: TcpStream, mut server: TcpStream) {
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
    std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(std::net::Shutdown::Both);
}

/// A recorder in a namespace of its own, with a fake Pyrus beside it.
struct Branch {
    name: &'static str,
    folder: tempfile::TempDir,
    namespace: NetworkNamespace,
    pyrus: Child,
    /// The process that relays to the object store.
    line: Child,
    service: Option<LiveService>,
}

impl Branch {
    /// Starts a recorder. `octet` selects its network, in which the central archive has the address 10.77.OCTET.1.
    fn start(name: &'static str, octet: u8, central: &Central, endpoint_port: u16) -> Self {
        let namespace = NetworkNamespace::new(name);
        let (here, there) = (format!("cc{octet}h{}", std::process::id() % 10_000), format!("cc{octet}b"));
        run_ip(&["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &namespace.0]);
        run_ip(&["addr", "add", &format!("10.77.{octet}.1/24"), "dev", &here]);
        run_ip(&["link", "set", &here, "up"]);
        run_ip(&["-n", &namespace.0, "addr", "add", &format!("10.77.{octet}.2/24"), "dev", &there]);
        run_ip(&["-n", &namespace.0, "link", "set", &there, "up"]);
        assert!(central.run(&["add-site", name], "0123456789abcdef\n").contains(name));
        let mut fake = namespace.command(&program());
        fake.args(["fake-pyrus", "--listen", PYRUS]).stdout(Stdio::null()).stderr(Stdio::null());
        let pyrus = fake.spawn().expect("starts");
        let folder = tempfile::tempdir().expect("a folder");
        let options = FakeOptions::default();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "secret").expect("written");
        let rest = format!(
            "[numbers]\nextension_pattern = \"102\"\n[pyrus]\nenabled = true\nauth_url = \"http://{PYRUS}/api/v4/auth\"\nlogin = \"{}\"\n\
             security_key = \"{}\"\naccount_id = \"{}\"\n[archive]\nsite = \"{name}\"\nobjects = \"s3://calls/archive\"\n\
             endpoint = \"http://{STORE}\"\naccess_key = \"key\"\nsecret_key_file = \"{}\"\nindex = \"{}\"\n",
            options.users[0].login,
            options.users[0].security_key,
            options.accounts[0].account_id,
            secret.display(),
            central.postgres.url(&format!("callspan_{name}")),
        );
        configuration(folder.path(), "mirror0", &rest);
        let mut line = namespace.command(&std::env::current_exe().expect("this test"));
        line.env(CENTRE, format!("10.77.{octet}.1:{endpoint_port}"));
        line.args(["--exact", "central::branches::line", "--ignored"]).stdout(Stdio::null()).stderr(Stdio::null());
        let line = line.spawn().expect("starts");
        Self { name, folder, namespace, pyrus, line, service: None }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("callspan.toml")
    }

    fn record(&mut self) {
        let mut run = self.namespace.command(&program());
        run.args(["run", "-c"]).arg(self.config());
        let mut service = LiveService::start(run);
        service.wait_for("capturing on mirror0");
        self.service = Some(service);
    }

    fn talk(&self, first: u32) -> Child {
        let mut talker = self.namespace.command(&std::env::current_exe().expect("this test"));
        talker.env(FIRST, first.to_string()).args(["--exact", "central::branches::talker", "--ignored"]);
        talker.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts")
    }

    /// Returns the number of calls that were recorded from both sides without loss and are registered in Pyrus.
    fn whole_calls(&self) -> usize {
        let listed = callspan(&["calls", "list", "--json", "-c", &self.config().display().to_string()], "");
        let is_whole = |line: &&str| {
            let call: serde_json::Value = serde_json::from_str(line).expect("JSON");
            call["verdict"] == "both_sides"
                && call["delivery"]["state"] == "done"
                && call["problems"].as_array().is_none_or(Vec::is_empty)
        };
        text(&listed).lines().filter(|line| line.starts_with('{')).filter(is_whole).count()
    }

    fn verify(&self, central: &Central) -> String {
        let site = format!("{}={}/state", self.name, self.folder.path().display());
        let output = central.try_run(&["verify", "--objects", "--site", &site], "");
        format!("{} {}", output.status.code().unwrap_or(-1), text(&output))
    }
}

impl Drop for Branch {
    fn drop(&mut self) {
        for child in [&mut self.pyrus, &mut self.line] {
            let _ = child.kill(); // the process has ended already
            let _ = child.wait();
        }
    }
}

fn run_ip(args: &[&str]) {
    let output = ip(args).expect("ip");
    assert!(output.status.success(), "ip {args:?}: {}", text(&output));
}

/// Waits at most [`PATIENCE`] until `is_reached` returns true. Returns whether it did.
fn reached(mut is_reached: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if is_reached() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    false
}

/// Rights of a site's key below its own prefix.
const RIGHTS: &str = "[\"s3:PutObject\",\"s3:GetObject\"]";
/// Address of the object store in each namespace.
const STORE: &str = "127.0.0.1:9000";
/// Name of the environment variable with the object store's address at the central archive.
const CENTRE: &str = "CALLSPAN_TEST_CENTRE";
/// Address of the fake Pyrus in each namespace.
const PYRUS: &str = "127.0.0.1:8088";

#[test]
#[cfg_attr(
    not(all(has_postgres, has_moto, may_add_namespaces)),
    ignore = "needs PostgreSQL 15, moto_server and root: adds network namespaces"
)]
fn recorders_deliver_during_failures_and_the_archive_is_whole_afterwards() {
    let moto = Moto::start_for_all();
    let central = Central::start_with(Some(&moto));
    let full = FullBucket::start(moto.port);
    let mut branches = [
        Branch::start("east", 1, &central, moto.port),
        Branch::start("west", 2, &central, full.port),
        Branch::start("north", 3, &central, moto.port),
    ];
    let keys: Vec<_> =
        branches.iter().map(|b| access_key(&moto, b.name, RIGHTS, &format!("/archive/{}/*", b.name))).collect();
    let centre = access_key(&moto, "centre", "\"s3:*\"", "*");
    moto.enforce_rights();
    use_key(&central.config(), central.folder.path(), &centre);
    for (branch, key) in branches.iter_mut().zip(&keys) {
        use_key(&branch.config(), branch.folder.path(), key);
        branch.record();
    }
    // The recorder east loses its connection to the centre, and the bucket of west is full. The rights of north are
    // revoked, in the object store as in PostgreSQL.
    run_ip(&["-n", &branches[0].namespace.0, "link", "set", "cc1b", "down"]);
    full.is_full.store(true, Ordering::Relaxed);
    let no_login = "ALTER ROLE callspan_north NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE usename = 'callspan_north'";
    central.postgres.sql("postgres", no_login).expect("revoked");
    moto.change_rights(|| revoke(&moto, "north"));
    let talkers: Vec<Child> = branches.iter().zip([1000, 2000, 3000]).map(|(b, first)| b.talk(first)).collect();
    for mut talker in talkers {
        assert!(talker.wait().expect("a child").success());
    }
    let all = |count: usize| branches.iter().all(|branch| branch.whole_calls() >= count);
    assert!(reached(|| all(calls() as usize)), "{:?}", branches.each_ref().map(Branch::whole_calls));
    assert!(moto.keys().len() < 3 * calls() as usize, "not everything reached the bucket yet");
    // PostgreSQL restarts without a clean stop, as after a power cut, while more calls begin.
    let talkers: Vec<Child> = branches.iter().zip([4000, 5000, 6000]).map(|(b, first)| b.talk(first)).collect();
    central.postgres.stop();
    for mut talker in talkers {
        assert!(talker.wait().expect("a child").success());
    }
    let all = |count: usize| branches.iter().all(|branch| branch.whole_calls() >= count);
    assert!(reached(|| all(2 * calls() as usize)), "{:?}", branches.each_ref().map(Branch::whole_calls));
    central.postgres.begin();
    run_ip(&["-n", &branches[0].namespace.0, "link", "set", "cc1b", "up"]);
    full.is_full.store(false, Ordering::Relaxed);
    central.postgres.sql("postgres", "ALTER ROLE callspan_north LOGIN").expect("granted");
    moto.change_rights(|| allow(&moto, "north", RIGHTS, "/archive/north/*"));

    let verified = || branches.each_ref().map(|branch| branch.verify(&central));
    let is_sent = |text: &String| text.contains("; 0 calls still to send");
    assert!(reached(|| verified().iter().all(is_sent)), "{:?}", verified());
    for branch in &mut branches {
        let (status, said) = branch.service.take().expect("runs").stop();
        assert_eq!(status, Some(0), "{said:#?}");
        let verified = branch.verify(&central);
        let wanted = format!("{} calls compared, 0 differences; 0 calls still to send, 0 refused", 2 * calls());
        assert!(verified.starts_with("0 ") && verified.contains(&wanted), "{}: {verified}", branch.name);
    }
    assert_eq!(central.calls(), (6 * calls()).to_string());
    let objects = moto.keys();
    assert_eq!(objects.len(), 6 * calls() as usize, "each recording once: {objects:#?}");
}
