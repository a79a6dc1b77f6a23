//! Tests of a line to PostgreSQL that dies without a word, as after a firewall has forgotten the connection. Recorder and
//! server are in a network namespace, whose loopback is the line.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Central, Site};
use crate::live::{LiveService, NetworkNamespace, ip, program};

/// Time within which a dead line is noticed (docs/many-sites.md): 30 s, and what a round of sending takes.
const NOTICED: Duration = Duration::from_secs(45);
/// Time within which both sides end an idle connection whose line is dead: 30 s of silence and three probes.
const ENDED: Duration = Duration::from_secs(75);

/// A site and the server of the centre, with a line between them that can be cut.
struct Line {
    namespace: NetworkNamespace,
    central: Central,
    site: Site,
}

impl Line {
    fn start(name: &str) -> Self {
        let namespace = NetworkNamespace::new(name);
        let central = Central::start();
        let site = central.add("north");
        central.postgres.stop();
        central.postgres.begin_with(namespace.command(Path::new("setpriv")), "127.0.0.1");
        let config = std::fs::read_to_string(site.config()).expect("written");
        let config =
            config.replace(&central.postgres.url("callspan_north"), "postgresql://callspan_north@127.0.0.1/postgres");
        let config = format!("{config}[capture]\ninterface = \"mirror0\"\n[pyrus]\nenabled = false\n");
        std::fs::write(site.config(), config).expect("written");
        Self { namespace, central, site }
    }

    fn run(&self) -> LiveService {
        let mut run = self.namespace.command(&program());
        run.args(["run", "-c"]).arg(self.site.config());
        let mut service = LiveService::start(run);
        service.wait_for("capturing on mirror0");
        service
    }

    fn set(&self, state: &str) {
        let output = ip(&["-n", &self.namespace.0, "link", "set", "lo", state]).expect("ip");
        assert!(output.status.success(), "{output:?}");
    }

    /// Returns the timer of each open connection to PostgreSQL: its kind and the time that is left. Kind 1 sends again,
    /// kind 2 probes (proc(5), /proc/net/tcp).
    fn timers(&self) -> Vec<(u32, Duration)> {
        let table = self.namespace.command(Path::new("cat")).arg("/proc/net/tcp").output().expect("cat");
        let table = String::from_utf8_lossy(&table.stdout).into_owned();
        let row = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_postgres = fields[1].ends_with(":1538") || fields[2].ends_with(":1538");
            let (kind, at) = fields[5].split_once(':').expect("a timer");
            let hundredths = u64::from_str_radix(at, 16).expect("hexadecimal");
            // State 01 is an established connection.
            (is_postgres && fields[3] == "01")
                .then(|| (kind.parse().expect("a number"), Duration::from_millis(10 * hundredths)))
        };
        table.lines().skip(1).filter_map(row).collect()
    }

    fn sessions(&self) -> String {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'callspan_north'";
        self.central.postgres.sql("postgres", sql).expect("answers")
    }
}

pub(super) fn wait(what: &str, patience: Duration, mut is_reached: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while !is_reached() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
#[cfg_attr(
    not(all(has_postgres, may_add_namespaces)),
    ignore = "needs PostgreSQL 15 and root: adds a network namespace"
)]
fn both_sides_probe_an_idle_connection() {
    let line = Line::start("probes");
    let service = line.run();
    line.site.record(1, "1@trunk", b"sound");
    wait("the call arrives", NOTICED, || line.central.calls() == "1");
    let is_probed = |(kind, at): &(u32, Duration)| *kind == 2 && *at <= Duration::from_secs(30);
    let are_probed = || line.timers().len() == 2 && line.timers().iter().all(is_probed);
    wait(&format!("{:?}", line.timers()), Duration::from_secs(10), are_probed);
    drop(service);
}

#[test]
#[ignore = "takes two minutes, and needs PostgreSQL 15 and root: a line is silent"]
fn dead_line_is_noticed_in_time_and_costs_no_call() {
    let line = Line::start("dead");
    let mut service = line.run();
    line.site.record(1, "1@trunk", b"sound");
    wait("the first call arrives", NOTICED, || line.central.calls() == "1");
    line.set("down");
    let cut = Instant::now();
    line.site.record(2, "2@trunk", b"more sound");
    service.wait_for_at_most("the archive cannot be reached yet", NOTICED);
    wait("the server ends its side, too", ENDED.saturating_sub(cut.elapsed()), || line.sessions() == "0");
    line.set("up");
    wait("the second call arrives", Duration::from_secs(90), || line.central.calls() == "2");
    let verified = line.central.verify(&line.site);
    assert!(verified.status.success(), "{}", super::text(&verified));
    assert_eq!(service.stop().0, Some(0));
}
