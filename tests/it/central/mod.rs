//! Tests of the central archive: a real PostgreSQL server, an object store, and sites that send calls to both.

#![expect(clippy::disallowed_methods, reason = "waits for a server")]

mod branches;
mod console;
mod dead_lines;
mod fault_store;
mod faults;
mod migration;
mod store_faults;
mod voices;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::configuration::ServiceToml;
use callspan::call::record::{CallRecord, LegRecord, RecordingFile};
use callspan::journal::{CallStage, Journal};
use callspan::time::Timestamp;

/// A PostgreSQL server for one test. Its socket and its data are in a folder of the test.
struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
}

impl Postgres {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("callspan-pg").tempdir_in("/tmp").expect("a folder");
        let programs = postgres_programs().expect("the test is ignored without PostgreSQL");
        let server = Self { folder, programs };
        // PostgreSQL refuses to run as root, so it runs as the user postgres.
        assert!(Command::new("chown").arg("postgres").arg(server.folder.path()).status().expect("chown").success());
        server.control(&["initdb", "-D", &server.data(), "-A", "trust", "-U", "postgres", "--no-sync"]);
        server.begin();
        server
    }

    fn begin(&self) {
        self.begin_with(Command::new("setpriv"), "");
    }

    /// Starts the server through the command `setpriv`. The server also listens on the IP address `address`.
    fn begin_with(&self, setpriv: Command, address: &str) {
        let options = format!("-c listen_addresses={address} -c unix_socket_directories={} -F", self.socket());
        let log = format!("{}/log", self.socket());
        run_as_postgres(
            setpriv,
            &self.programs,
            &["pg_ctl", "-D", &self.data(), "-w", "-l", &log, "-o", &options, "start"],
        );
    }

    fn stop(&self) {
        self.control(&["pg_ctl", "-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }

    fn control(&self, command: &[&str]) {
        run_as_postgres(Command::new("setpriv"), &self.programs, command);
    }

    fn data(&self) -> String {
        format!("{}/data", self.socket())
    }

    fn socket(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn url(&self, role: &str) -> String {
        format!("postgresql://{role}@/postgres?host={}", self.socket())
    }

    /// Runs SQL with a database role. Returns the rows, or the error.
    fn sql(&self, role: &str, sql: &str) -> Result<String, String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, &self.url(role)])
            .output()
            .expect("psql");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

fn run_as_postgres(mut setpriv: Command, programs: &Path, command: &[&str]) {
    setpriv.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    setpriv.arg(programs.join(command[0])).args(&command[1..]);
    let output = setpriv.stdout(Stdio::null()).stderr(Stdio::piped()).current_dir("/").output().expect("setpriv");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.stop())); // the test may have stopped it
    }
}

/// Returns the folder with the programs of the newest installed PostgreSQL.
fn postgres_programs() -> Option<PathBuf> {
    let mut found: Vec<_> =
        std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|e| e.path().join("bin")).collect();
    found.sort();
    found.pop()
}

/// A recorder for tests: its folders, with a journal and recordings.
struct Site {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Site {
    fn new(name: &'static str, central: &Central) -> Self {
        let site = Self { folder: tempfile::tempdir().expect("a folder"), name };
        let calls = site.folder.path().join("calls");
        std::fs::create_dir(&calls).expect("new");
        let toml = ServiceToml::new(site.folder.path())
            .set("recording", &format!("dir = {calls:?}"))
            .set("archive", &format!("site = \"{name}\""))
            .set("archive", &format!("index = \"{}\"", central.postgres.url(&format!("callspan_{name}"))));
        central.objects.lines().fold(toml, |toml, line| toml.set("archive", line)).write();
        site
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("callspan.toml")
    }

    fn journal(&self) -> Journal {
        Journal::open(&callspan::journal::config::Config { dir: self.folder.path().join("state") }).expect("a journal")
    }

    /// Records a call as the service does: writes a recording, and a row in the journal.
    fn record(&self, n: u32, call_id: &str, sound: &[u8]) -> CallRecord {
        let begin = Timestamp::from_secs(1_772_359_200); // 2026-03-01T10:00:00Z
        let id = format!("20260301T1000{n:02}Z-{}{n:04x}", self.name);
        let path = self.folder.path().join("calls").join(format!("{id}.wav"));
        std::fs::write(&path, sound).expect("written");
        let (bytes, sha256) = callspan::recording::digest(&path).expect("readable");
        let record = CallRecord {
            id,
            invited_at: Some(begin),
            from: Some(String::from("+74951234567")),
            internal: Some(String::from("101")),
            legs: vec![LegRecord { sip_call_id: call_id.to_owned(), ..LegRecord::default() }],
            recordings: vec![RecordingFile {
                part: 1,
                path: path.display().to_string(),
                format: String::from("wav"),
                starts_at: begin,
                ends_at: begin,
                duration_s: 1.0,
                sample_rate: 8_000,
                channels: 2,
                bytes,
                sha256,
                plain_sha256: None,
            }],
            ..CallRecord::default()
        };
        self.journal().put_call(&record, CallStage::Complete).expect("stored");
        record
    }

    fn push(&self) -> Output {
        callspan(&["archive", "push", "--since", "2026-01-01", "-c", &self.config().display().to_string()], "")
    }
}

/// The central archive: a PostgreSQL server, and a folder in place of an object store.
struct Central {
    postgres: Postgres,
    folder: tempfile::TempDir,
    /// Lines of the `[archive]` section that name the object store.
    objects: String,
}

impl Central {
    fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts an archive. The object store is a bucket of `moto`, or a folder if there is no moto.
    fn start_with(moto: Option<&Moto>) -> Self {
        Self::start_on_store(moto.map(Moto::url))
    }

    /// Starts an archive. The object store is a bucket of the S3 server at `url`, or a folder without a URL.
    fn start_on_store(url: Option<String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("objects")).expect("new");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "secret\n").expect("written");
        let objects = match url {
            None => format!("objects = \"file://{}/objects\"", folder.path().display()),
            Some(url) => format!(
                "objects = \"s3://calls/archive\"\nendpoint = \"{}\"\naccess_key = \"key\"\nsecret_key_file = \"{}\"",
                url,
                secret.display()
            ),
        };
        let central = Self { postgres: Postgres::start(), folder, objects };
        let text = format!("[archive]\n{}\nindex = \"{}\"\n", central.objects, central.postgres.url("postgres"));
        std::fs::write(central.config(), text).expect("written");
        let migrated = central.run(&["migrate"], "");
        assert!(migrated.contains("from version 0 to 7"), "{migrated}");
        assert!(central.run(&["migrate"], "").contains("already"));
        central
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("central.toml")
    }

    fn run(&self, command: &[&str], input: &str) -> String {
        let output = self.try_run(command, input);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn try_run(&self, command: &[&str], input: &str) -> Output {
        let config = self.config().display().to_string();
        let command: Vec<&str> = ["central"].iter().chain(command).copied().chain(["-c", &config]).collect();
        callspan(&command, input)
    }

    fn add(&self, name: &'static str) -> Site {
        assert!(self.run(&["add-site", name], "0123456789abcdef\n").contains(&format!("callspan_{name}")));
        Site::new(name, self)
    }

    fn verify(&self, site: &Site) -> Output {
        let journal = format!("{}={}/state", site.name, site.folder.path().display());
        self.try_run(&["verify", "--objects", "--site", &journal], "")
    }

    fn calls(&self) -> String {
        self.postgres.sql("postgres", "SELECT count(*) FROM callspan.calls").expect("answers")
    }
}

fn callspan(command: &[&str], input: &str) -> Output {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_callspan"))
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("taken");
    child.wait_with_output().expect("ends")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn calls_of_two_sites_reach_the_archive_and_come_back() {
    let central = Central::start();
    let (north, south) = (central.add("north"), central.add("south"));
    let first = north.record(1, "shared@trunk", b"the sound of the first call");
    north.record(2, "own@north", b"the sound of the second call");
    south.record(1, "shared@trunk", b"the sound at the other site");
    for site in [&north, &south] {
        let pushed = site.push();
        assert!(pushed.status.success(), "{}", text(&pushed));
        let verified = central.verify(site);
        assert!(verified.status.success(), "{}", text(&verified));
    }
    assert_eq!(central.calls(), "3");
    let repeated = north.push();
    assert!(text(&repeated).contains("0 calls sent, 0 still to send"), "{}", text(&repeated));

    let legs = "SELECT sip_call_id, leg, sip_status FROM callspan.legs WHERE site = 'north' ORDER BY call_id";
    assert_eq!(central.postgres.sql("postgres", legs).expect("answers"), "shared@trunk|1|\nown@north|1|");

    // Each difference must be reported: a wrong row, a wrong object, and a call that was changed.
    let key = central
        .postgres
        .sql("postgres", "SELECT key FROM callspan.recordings WHERE site = 'north' ORDER BY key LIMIT 1");
    let object = central.folder.path().join("objects").join(key.expect("a key"));
    let sound = std::fs::read(&object).expect("an object");
    std::fs::write(&object, b"damaged").expect("written");
    assert!(text(&central.verify(&north)).contains("is not what its row says"));
    std::fs::write(&object, sound).expect("written");
    central.postgres.sql("postgres", "UPDATE callspan.calls SET change = 0 WHERE site = 'south'").expect("changed");
    assert_eq!(central.verify(&south).status.code(), Some(1));

    let out = central.folder.path().join("restored");
    let config = central.config().display().to_string();
    let restored =
        callspan(&["archive", "restore", "-c", &config, "--site", "north", "--out", &out.display().to_string()], "");
    assert!(restored.status.success() && text(&restored).contains("2 of 2 calls restored"), "{}", text(&restored));
    let sound = std::fs::read(out.join(format!("{}.wav", first.id))).expect("restored");
    assert_eq!(sound, b"the sound of the first call");
    let json = std::fs::read_to_string(out.join(format!("{}.json", first.id))).expect("restored");
    assert!(json.contains("+74951234567"));
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn site_role_reads_nothing_and_writes_its_own_rows_only() {
    let central = Central::start();
    let north = central.add("north");
    central.add("south");
    north.record(1, "a@b", b"sound");
    assert!(north.push().status.success());
    let sql = |sql: &str| central.postgres.sql("callspan_south", sql);
    for refused in [
        "SELECT * FROM callspan.calls",
        "SELECT * FROM callspan.sites",
        "INSERT INTO callspan.sites (site, role_name) VALUES ('x', 'y')",
        "UPDATE callspan.calls SET record = '{}'",
        "DELETE FROM callspan.recordings",
        "SELECT callspan.own_site()",
    ] {
        let answer = sql(refused);
        assert!(answer.as_ref().is_err_and(|error| error.contains("permission denied")), "{refused}: {answer:?}");
    }
    let foreign = r#"SELECT callspan.put_call(9, '{"id":"x","direction":"inbound","outcome":"answered","legs":[]}',
        '[{"part":1,"key":"north/2026/x.wav","bytes":1,"sha256":"00"}]')"#;
    assert!(sql(foreign).is_err_and(|error| error.contains("outside of it")));
    // Two sites may use the same call id. Each call becomes a row of its own site.
    let same = central.postgres.sql("postgres", "SELECT id FROM callspan.calls").expect("a call");
    sql(&format!(
        r#"SELECT callspan.put_call(9, '{{"id":"{same}","direction":"inbound","outcome":"missed","legs":[]}}', '[]')"#
    ))
    .expect("allowed");
    let rows = central.postgres.sql("postgres", "SELECT site, outcome FROM callspan.calls ORDER BY site");
    assert_eq!(rows.expect("two rows").lines().count(), 2);
    let kept =
        central.postgres.sql("postgres", "SELECT change FROM callspan.calls WHERE site = 'north'").expect("a row");
    assert_ne!(kept, "9");
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn an_index_that_is_away_costs_no_call() {
    let central = Central::start();
    let north = central.add("north");
    for n in 1..=5 {
        north.record(n, "a@b", format!("sound {n}").as_bytes());
    }
    central.postgres.stop();
    let failed = north.push();
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed).contains("5 still to send"), "{}", text(&failed));
    central.postgres.begin();
    // A row is never replaced by an older state of the same call.
    let pushed = north.push();
    assert!(pushed.status.success(), "{}", text(&pushed));
    assert_eq!(central.calls(), "5");
    let verified = central.verify(&north);
    assert!(verified.status.success(), "{}", text(&verified));
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn one_call_heard_at_two_sites_is_found() {
    let central = Central::start();
    let (north, south) = (central.add("north"), central.add("south"));
    north.record(1, "shared@trunk", b"n");
    north.record(2, "own@north", b"m");
    south.record(1, "shared@trunk", b"s");
    assert!(north.push().status.success() && south.push().status.success());
    let pairs = central.postgres.sql("postgres", "SELECT site, other_site, why FROM callspan.same_calls ORDER BY site");
    assert_eq!(pairs.expect("answers"), "north|south|call_id\nsouth|north|call_id");
    // The view `shared_calls` has one row for a call that two sites captured, whichever site sends its call last.
    let shared = || {
        let sql = "SELECT site, other_site, registered, other_registered FROM callspan.shared_calls";
        central.postgres.sql("postgres", sql).expect("answers")
    };
    assert_eq!(shared(), "north|south|f|f");
    let task = "UPDATE callspan.calls SET pyrus_task = 5 WHERE site = 'south'";
    central.postgres.sql("postgres", task).expect("changed");
    assert_eq!(shared(), "north|south|f|t");
    let other = "UPDATE callspan.calls SET call_ids = '{other}' WHERE site = 'north' AND call_ids = '{shared@trunk}'";
    central.postgres.sql("postgres", other).expect("changed");
    assert_eq!(shared(), "");
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn one_call_is_related_by_a_correlation_header_or_a_session_id() {
    let central = Central::start();
    let (north, south) = (central.add("north"), central.add("south"));
    let text_of = std::fs::read_to_string(central.config()).expect("written");
    std::fs::write(central.config(), format!("{text_of}[calls]\ncorrelation_headers = [\"X-Call\"]\n"))
        .expect("written");
    central.run(&["migrate"], "");
    // Each half of a Session-ID has 32 hexadecimal digits (RFC 7989).
    let session = format!("{};remote={}", "a1".repeat(16), "0".repeat(32));
    for (n, header, values) in [
        (1, "X-Call", ["ticket-7", "ticket-7"]),
        (2, "X-Call", ["ticket-8", "ticket-9"]),
        (3, "X-Queue", ["sales", "sales"]),
        (4, "Session-ID", [&*session, &*session]),
    ] {
        for (site, value) in [&north, &south].into_iter().zip(values) {
            let mut call = site.record(n, &format!("{n}@{}", site.name), b"sound");
            call.headers.insert(header.to_owned(), value.to_owned());
            site.journal().put_call(&call, CallStage::Complete).expect("stored");
        }
    }
    assert!(north.push().status.success() && south.push().status.success());
    let sql = "SELECT id, why FROM callspan.same_calls WHERE site = 'north' ORDER BY id";
    let found = central.postgres.sql("postgres", sql).expect("answers");
    let pairs: Vec<(&str, &str)> = found.lines().filter_map(|line| line.split_once('|')).collect();
    let [(first, by_header), (second, by_session)] = pairs[..] else { panic!("two pairs: {found}") };
    assert!(first.contains("T100001Z") && second.contains("T100004Z"), "{found}");
    assert_eq!((by_header, by_session), ("correlation_header", "session_id"));
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn pairs_with_constant_call_id_are_bounded_and_follow_correlation_headers() {
    let central = Central::start();
    central.add("north");
    central.add("south");
    let sql = |sql: &str| central.postgres.sql("postgres", sql).expect("answers");
    let insert = |site: &str, calls: u32, call_id: &str, header: &str| {
        sql(&format!(
            "INSERT INTO callspan.calls
                (site, id, change, begin_at, direction, outcome, digits, call_ids, session_ids, record)
             SELECT '{site}', '{call_id}' || n, 1, now() - n * interval '1 minute', 'in', 'answered', '', '{{{call_id}}}', '{{}}',
                '{{\"headers\":{{\"X-Call\":\"{header}\"}}}}' FROM generate_series(1, {calls}) n"
        ))
    };
    insert("south", 1_200, "scan", "a");
    insert("south", 100, "often", "b");
    insert("north", 1, "scan", "c");
    insert("north", 1, "often", "d");
    let count = || sql("SELECT count(*) FROM callspan.shared_calls");
    // 1,200 calls have the same Call-ID. A call is compared with at most 1,000 of them, and related to at most the 32
    // nearest in time.
    assert_eq!(count(), "64");
    let nearest = "SELECT count(*) FROM callspan.shared_calls WHERE other_id IN ('often1', 'often2', 'often32')";
    assert_eq!(sql(nearest), "3");

    insert("north", 1, "one", "ticket");
    insert("south", 1, "other", "ticket");
    assert_eq!(count(), "64", "the header does not relate calls yet");
    let config = std::fs::read_to_string(central.config()).expect("written");
    for (headers, pairs) in [("\"X-Call\"", "65"), ("\"X-Call\", \"X-Other\"", "65"), ("", "64")] {
        std::fs::write(central.config(), format!("{config}[calls]\ncorrelation_headers = [{headers}]\n"))
            .expect("written");
        central.run(&["migrate"], "");
        assert_eq!(count(), pairs, "{headers}");
    }
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn todays_call_is_found_among_many_old_calls_with_its_key() {
    let central = Central::start();
    central.add("north");
    central.add("south");
    let sql = |sql: &str| central.postgres.sql("postgres", sql).expect("answers");
    let insert = |site: &str, calls: u32, from: &str, step: &str| {
        sql(&format!(
            "INSERT INTO callspan.calls
                (site, id, change, begin_at, direction, outcome, digits, call_ids, session_ids, record)
             SELECT '{site}', '{from}' || n, 1, now() - interval '{from}' - n * interval '{step}', 'in', 'answered', '',
                '{{scan}}', '{{}}', '{{}}' FROM generate_series(1, {calls}) n"
        ))
    };
    insert("south", 1_500, "10 days", "1 hour");
    insert("south", 1, "23 hours", "1 minute");
    insert("north", 1, "0 days", "1 minute");
    let pairs = "SELECT site || ' ' || id || ' ' || other_site || ' ' || other_id FROM callspan.shared_calls";
    assert_eq!(sql(pairs), "north 0 days1 south 23 hours1");
    let plan = sql("SET enable_seqscan = off; EXPLAIN SELECT 1 FROM callspan.calls c
         WHERE callspan.day_keys(c.begin_at, c.call_ids) && callspan.near_keys(now(), '{scan}') LIMIT 1000");
    assert!(plan.contains("calls_by_day_key"), "{plan}");
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn a_recording_that_retention_removed_stays_in_the_archive() {
    let central = Central::start();
    let north = central.add("north");
    let call = north.record(1, "a@b", b"sound");
    assert!(north.push().status.success());
    let journal = north.journal();
    let paths = journal.mark_removed(&[(call.id.clone(), "age")], Timestamp::from_secs(1_780_000_000)).expect("marked");
    std::fs::remove_file(&paths[0]).expect("removed");
    // The call changes once more, as it does when its delivery continues.
    switch_archive_on(&north);
    journal.put_call(&call, CallStage::Complete).expect("stored");
    let pushed = north.push();
    assert!(text(&pushed).contains("1 call sent, 0 still to send"), "{}", text(&pushed));
    let keys = central.postgres.sql("postgres", "SELECT count(*) FROM callspan.recordings").expect("answers");
    assert_eq!(keys, "1");
    assert!(central.verify(&north).status.success());
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn a_recording_that_the_object_store_lost_is_sent_again() {
    let central = Central::start();
    let north = central.add("north");
    let (lost, removed) = (north.record(1, "a@b", b"the lost sound"), north.record(2, "c@d", b"removed at the site"));
    north.record(3, "e@f", b"kept");
    assert!(north.push().status.success());
    let key = |id: &str| {
        let sql = format!("SELECT key FROM callspan.recordings WHERE call_id = '{id}'");
        central.folder.path().join("objects").join(central.postgres.sql("postgres", &sql).expect("a key"))
    };
    let object = key(&lost.id);
    std::fs::remove_file(&object).expect("lost");
    let journal = north.journal();
    let paths =
        journal.mark_removed(&[(removed.id.clone(), "age")], Timestamp::from_secs(1_780_000_000)).expect("marked");
    std::fs::remove_file(&paths[0]).expect("removed");
    let verified = text(&central.verify(&north));
    let name = object.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(verified.lines().any(|line| line.contains(&name)), "{verified}");

    let config = north.config().display().to_string();
    let push = |more: &[&str]| {
        let pushed = callspan(&[&["archive", "push", "--since", "2026-01-01", "-c", &config], more].concat(), "");
        assert!(pushed.status.success(), "{}", text(&pushed));
        text(&pushed)
    };
    push(&["--again"]);
    assert!(!object.exists(), "rows alone bring no recording back");
    let pushed = push(&["--again", "--recordings"]);
    assert!(pushed.contains("3 calls sent, 0 still to send, 0 refused"), "{pushed}");
    assert_eq!(std::fs::read(&object).expect("sent again"), b"the lost sound");
    assert_eq!(std::fs::read(key(&removed.id)).expect("still there"), b"removed at the site");
    let verified = central.verify(&north);
    assert!(verified.status.success(), "{}", text(&verified));
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn audit_and_topology_of_a_site_are_copied_and_verified() {
    let central = Central::start();
    let north = central.add("north");
    central.add("south");
    let state = north.folder.path().join("state");
    drop(north.journal());
    let token = |name: &str| {
        let added = callspan(&["token", "add", name, "--role", "auditor", "--state", &state.display().to_string()], "");
        assert!(added.status.success(), "{}", text(&added));
    };
    token("first"); // also creates the file with the accounts
    let accounts = rusqlite::Connection::open(state.join("console.sqlite")).expect("accounts");
    let row = "INSERT INTO audit (at, who, action, call_id) VALUES (?1, 'anna', ?2, 'x')";
    for (at, action) in [(1_790_000_000_000_001_i64, "played"), (1_790_000_000_000_002, "wrong_password")] {
        accounts.execute(row, rusqlite::params![at, action]).expect("a row");
    }
    let pair = r#"{"fact":"one_machine","a":"10.1.0.1","b":"198.51.100.10","by":"same_moments","seen":14,"against":0,"first_at":"2026-11-23T07:00:00.000000Z","last_at":"2026-11-24T07:00:00.000000Z"}"#;
    std::fs::write(state.join("topology.json"), format!("{pair}\n")).expect("written");
    // The accounts file of an older callspan is read but not migrated.
    accounts.pragma_update(None, "user_version", 2).expect("set");
    let before = text(&central.verify(&north));
    let version: i64 = accounts.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a version");
    assert_eq!(version, 2, "verify writes nothing");
    assert!(before.contains("no copy of row 1 of the audit") && before.contains("another topology"), "{before}");

    let pushed = north.push();
    assert!(pushed.status.success(), "{}", text(&pushed));
    let sql = |sql: &str| central.postgres.sql("postgres", sql).expect("answers");
    // A row that is only seconds old need not have a copy yet.
    let new_row = "INSERT INTO audit (at, who, action) VALUES (unixepoch() * 1000000, 'anna', 'played')";
    accounts.execute(new_row, []).expect("a row");
    let verified = central.verify(&north);
    assert!(verified.status.success(), "{}", text(&verified));
    accounts.execute("DELETE FROM audit WHERE n = 3", []).expect("deleted");
    assert_eq!(
        sql("SELECT site, n, who, action, call_id FROM callspan.audit ORDER BY n"),
        "north|1|anna|played|x\nnorth|2|anna|wrong_password|x"
    );
    assert_eq!(sql("SELECT site, machines -> 0 ->> 'a' FROM callspan.topology"), "north|10.1.0.1");

    // In a copied row of the audit, only the number of failed sign-ins may change. The index ignores all other changes
    // that a site sends.
    accounts.execute("UPDATE audit SET detail = '2 tries', who = 'nobody' WHERE n = 2", []).expect("changed");
    accounts.execute("UPDATE audit SET who = 'nobody' WHERE n = 1", []).expect("changed");
    assert!(north.push().status.success());
    assert_eq!(sql("SELECT n, who, detail FROM callspan.audit ORDER BY n"), "1|anna|\n2|anna|2 tries");
    assert!(text(&central.verify(&north)).contains("no copy of row 1"), "a row that was changed afterwards is found");
    // Another site can write only rows of its own, and cannot read any.
    let south = |sql: &str| central.postgres.sql("callspan_south", sql);
    south(r#"SELECT callspan.put_audit('[{"n":1,"at":"2026-09-21T14:13:20.000001Z","who":"x","action":"played"}]')"#)
        .expect("allowed");
    assert_eq!(sql("SELECT count(*) FROM callspan.audit WHERE site = 'south'"), "1");
    for refused in ["SELECT * FROM callspan.audit", "SELECT * FROM callspan.topology", "DELETE FROM callspan.audit"] {
        assert!(south(refused).is_err_and(|error| error.contains("permission denied")), "{refused}");
    }
}

/// A journal that was lost and rebuilt counts its changes from 1 again, but the rows in the index have higher numbers.
#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn a_change_after_a_lost_journal_reaches_the_index() {
    let central = Central::start();
    let north = central.add("north");
    let mut call = north.record(1, "a@b", b"sound");
    assert!(north.push().status.success());
    switch_archive_on(&north);
    for _ in 0..3 {
        north.journal().put_call(&call, CallStage::Complete).expect("stored");
    }
    assert!(north.push().status.success());
    let jobs = rusqlite::Connection::open(north.folder.path().join("state").join(callspan::journal::FILE_NAME));
    jobs.expect("a journal").execute("DELETE FROM archive_jobs", []).expect("forgotten");
    call.to = Some(String::from("+74957654321"));
    north.journal().put_call(&call, CallStage::Complete).expect("stored");
    let pushed = north.push();
    assert!(pushed.status.success(), "{}", text(&pushed));
    let number = central.postgres.sql("postgres", "SELECT record ->> 'to' FROM callspan.calls").expect("a row");
    assert_eq!(number, "+74957654321");
    let verified = central.verify(&north);
    assert!(verified.status.success(), "{}", text(&verified));
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn a_call_that_is_rendered_again_does_not_hold_up_the_others() {
    let central = Central::start();
    let north = central.add("north");
    let call = north.record(1, "a@b", b"sound");
    north.record(2, "c@d", b"sound");
    switch_archive_on(&north);
    for stage in [CallStage::Complete, CallStage::Ended] {
        north.journal().put_call(&call, stage).expect("stored");
    }
    let pushed = north.push();
    assert!(text(&pushed).contains("1 call sent, 1 still to send"), "{}", text(&pushed));
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn a_folder_without_its_disk_is_named_and_not_created() {
    let central = Central::start();
    let north = central.add("north");
    north.record(1, "a@b", b"sound");
    let folder = central.folder.path().join("objects");
    std::fs::remove_dir(&folder).expect("removed");
    let pushed = north.push();
    assert!(text(&pushed).contains("does not exist: mount its disk"), "{}", text(&pushed));
    assert!(!folder.exists());
}

/// PostgreSQL limits an index entry to about 2.7 kB, but a captured Call-ID may be longer.
#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn a_long_call_id_reaches_the_index() {
    let central = Central::start();
    let north = central.add("north");
    let mut random = 1_u64;
    let long: String = std::iter::repeat_with(|| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + (random >> 33) as u8 % 26)
    })
    .take(20_000)
    .collect();
    north.record(1, &long, b"sound");
    let pushed = north.push();
    assert!(pushed.status.success(), "{}", text(&pushed));
}

/// Captured text may contain any character. The type jsonb stores every character except NUL.
#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn a_header_with_nul_reaches_the_index() {
    let central = Central::start();
    let north = central.add("north");
    let mut call = north.record(1, "a@b", b"sound");
    call.headers.insert(String::from("X-Queue"), String::from("sales\0\u{1}\\u0000"));
    north.journal().put_call(&call, CallStage::Complete).expect("stored");
    let pushed = north.push();
    assert!(pushed.status.success(), "{}", text(&pushed));
    let header = central.postgres.sql("postgres", "SELECT record -> 'headers' ->> 'X-Queue' FROM callspan.calls");
    assert_eq!(header.expect("a row"), "sales\u{fffd}\u{1}\\u0000");
}

/// Adds a call to the archive queue at each change, as the running service does.
fn switch_archive_on(site: &Site) {
    let database = rusqlite::Connection::open(site.folder.path().join("state").join(callspan::journal::FILE_NAME));
    let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES ('archive', 'on')";
    database.expect("a journal").execute(sql, []).expect("changed");
}

/// Tests the S3 store with moto, an independent S3 server for tests.
#[test]
#[cfg_attr(
    not(all(has_postgres, has_moto)),
    ignore = "needs PostgreSQL 15 and moto_server (pip install 'moto[server]')"
)]
fn objects_in_s3_are_created_once_and_compared() {
    let moto = Moto::start();
    let central = Central::start_with(Some(&moto));
    let north = central.add("north");
    let call = north.record(1, "a@b", b"sound in a bucket");
    let pushed = north.push();
    assert!(pushed.status.success(), "{}", text(&pushed));
    let verified = central.verify(&north);
    assert!(verified.status.success(), "{}", text(&verified));
    // The row is lost, but its object is still in the store. The object is compared with the recording and not sent
    // again.
    central.postgres.sql("postgres", "DELETE FROM callspan.recordings; DELETE FROM callspan.calls").expect("deleted");
    north.journal().put_call(&call, CallStage::Complete).expect("stored");
    forget_objects(&north);
    let pushed = north.push();
    assert!(pushed.status.success(), "{}", text(&pushed));
    assert_eq!(central.calls(), "1");
    // A different object under the key of a recording is kept, and the call is refused.
    let other = north.record(2, "a@b", b"the real sound");
    moto.put(&other.recordings[0].sha256, "north/2026/03/01", &other.id, b"an impostor");
    let refused = north.push();
    assert!(text(&refused).contains("1 refused"), "{}", text(&refused));
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn an_index_that_lost_rows_gets_them_again() {
    let central = Central::start();
    let north = central.add("north");
    let calls: Vec<CallRecord> = (1..=4).map(|n| north.record(n, "a@b", format!("sound {n}").as_bytes())).collect();
    assert!(north.push().status.success());
    // Retention removed the recording of the first call at the site. It stays in the archive, and its row names it
    // again.
    let old = [(calls[0].id.clone(), "age")];
    let paths = north.journal().mark_removed(&old, Timestamp::from_secs(1_780_000_000)).expect("marked");
    std::fs::remove_file(&paths[0]).expect("removed");
    let lost = format!("('{}', '{}')", calls[0].id, calls[2].id);
    for sql in ["DELETE FROM callspan.recordings WHERE call_id IN", "DELETE FROM callspan.calls WHERE id IN"] {
        central.postgres.sql("postgres", &format!("{sql} {lost}")).expect("deleted");
    }
    let found = text(&central.verify(&north));
    for call in [&calls[0], &calls[2]] {
        assert!(found.contains(&format!("call {}: the index has no row of it", call.id)), "{found}");
    }
    assert!(found.contains("4 calls compared, 2 differences"), "{found}");
    assert!(text(&north.push()).contains("0 calls sent"));
    let config = north.config().display().to_string();
    let again = callspan(&["archive", "push", "--since", "2026-01-01", "--again", "-c", &config], "");
    assert!(text(&again).contains("4 calls sent, 0 still to send"), "{}", text(&again));
    let verified = central.verify(&north);
    assert!(verified.status.success(), "{}", text(&verified));
    let keys = central.postgres.sql("postgres", "SELECT count(*) FROM callspan.recordings").expect("answers");
    assert_eq!(keys, "4");

    // One call is fetched by its id. For a call that the archive does not have, the error names its id.
    let (out, config) = (central.folder.path().join("one"), central.config().display().to_string());
    let out = out.display().to_string();
    let restore = ["archive", "restore", "-c", &config, "--site", "north", "--out", &out, &calls[1].id, "unknown"];
    let restored = callspan(&restore, "");
    assert_eq!(restored.status.code(), Some(1));
    assert!(text(&restored).contains("1 of 2 calls restored"), "{}", text(&restored));
    assert!(text(&restored).contains("call unknown: the archive has no such call"), "{}", text(&restored));
    assert_eq!(std::fs::read_dir(&out).expect("restored").count(), 2);
    // Verify reports a difference if the index has a row that, according to the journal, is not archived yet.
    forget_job(&north, &calls[1].id);
    let found = text(&central.verify(&north));
    assert!(found.contains(&format!("call {}: the journal does not know", calls[1].id)), "{found}");
}

fn forget_job(site: &Site, id: &str) {
    let database = rusqlite::Connection::open(site.folder.path().join("state").join(callspan::journal::FILE_NAME));
    database.expect("a journal").execute("DELETE FROM archive_jobs WHERE call_id = ?1", [id]).expect("forgotten");
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn no_log_of_the_server_holds_the_password_of_a_site() {
    let central = Central::start();
    central.postgres.sql("postgres", "ALTER SYSTEM SET log_statement = 'all'").expect("set");
    let hba = central.folder.path().join("hba").display().to_string();
    std::fs::write(&hba, "local all callspan_north scram-sha-256\nlocal all all trust\n").expect("written");
    central.postgres.sql("postgres", &format!("ALTER SYSTEM SET hba_file = '{hba}'")).expect("set");
    assert!(Command::new("chmod").args(["-R", "a+rX", &central.folder.path().display().to_string()]).status().is_ok());
    central.postgres.stop();
    central.postgres.begin();
    let north = central.add("north");
    let log = std::fs::read_to_string(format!("{}/log", central.postgres.socket())).expect("a log");
    assert!(log.contains("ALTER ROLE") && log.contains("SCRAM-SHA-256$"), "{log}");
    assert!(!log.contains("0123456789abcdef"), "the password is in the log");
    // The database role can sign in with its password, and with no other password.
    north.record(1, "a@b", b"sound");
    for (password, is_right) in [("0123456789abcdeX", false), ("0123456789abcdef", true)] {
        let file = north.folder.path().join("password");
        std::fs::write(&file, password).expect("written");
        let config = std::fs::read_to_string(north.config()).expect("written");
        let config =
            config.lines().filter(|line| !line.starts_with("index_password_file")).collect::<Vec<_>>().join("\n");
        let config = format!("{config}\nindex_password_file = \"{}\"\n", file.display());
        std::fs::write(north.config(), config).expect("written");
        let pushed = north.push();
        assert_eq!(pushed.status.success(), is_right, "{}", text(&pushed));
    }
}

/// Makes the journal forget which objects are stored, as after a kill before this was on the disk.
fn forget_objects(site: &Site) {
    let database = rusqlite::Connection::open(site.folder.path().join("state").join(callspan::journal::FILE_NAME));
    database.expect("a journal").execute("UPDATE archive_jobs SET objects = '[]', archived = 0", []).expect("changed");
}

struct Moto {
    process: std::process::Child,
    port: u16,
}

impl Moto {
    fn start() -> Self {
        Self::start_on("127.0.0.1")
    }

    /// Starts a moto server that other network namespaces can reach.
    fn start_for_all() -> Self {
        Self::start_on("0.0.0.0")
    }

    fn start_on(address: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let process = Command::new("moto_server")
            .args(["-H", address, "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto_server");
        let moto = Self { process, port };
        for _ in 0..300 {
            if moto.request("PUT", "/calls", b"").is_some_and(|answer| answer.contains("200")) {
                return moto;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("moto_server does not answer");
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Stores an object under the key of a recording.
    fn put(&self, sha256: &str, day: &str, id: &str, content: &[u8]) {
        let key = format!("/calls/archive/{day}/{id}/1-{}.wav", &sha256[..16]);
        assert!(self.request("PUT", &key, content).is_some_and(|answer| answer.contains("200")));
    }

    /// Calls the IAM API (users and keys). Returns the answer.
    fn iam(&self, form: &str) -> String {
        let form = format!("{form}&Version=2010-05-08");
        let answer = self.ask("POST", "/", "iam", form.as_bytes()).expect("answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    /// Makes the server check access rights from now on.
    fn enforce_rights(&self) {
        self.check_rights_after(0);
    }

    /// Changes users and rights. The server does not check access rights during the change, and checks them afterwards.
    fn change_rights(&self, change: impl FnOnce()) {
        self.check_rights_after(1_000_000);
        change();
        self.enforce_rights();
    }

    fn check_rights_after(&self, requests: u32) {
        let answer = self.ask("POST", "/moto-api/reset-auth", "s3", requests.to_string().as_bytes()).expect("answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Returns the keys of all objects, regardless of access rights.
    fn keys(&self) -> Vec<String> {
        let answer = self.ask("GET", "/moto-api/data.json", "s3", b"").expect("answers");
        let (_, json) = answer.split_once("\r\n\r\n").expect("a body");
        let data: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let objects = data["s3"]["FakeKey"].as_array().cloned().unwrap_or_default();
        objects.iter().filter_map(|object| object["name"].as_str().map(str::to_owned)).collect()
    }

    fn request(&self, method: &str, path: &str, body: &[u8]) -> Option<String> {
        self.ask(method, path, "s3", body)?.lines().next().map(str::to_owned)
    }

    /// Sends a signed request to a service of moto. Returns the whole answer.
    fn ask(&self, method: &str, path: &str, service: &str, body: &[u8]) -> Option<String> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let kind = if service == "iam" { "Content-Type: application/x-www-form-urlencoded\r\n" } else { "" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{kind}Host: 127.0.0.1:{}\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/{service}/aws4_request\r\n\
             Content-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill(); // the process has ended already
        let _ = self.process.wait();
    }
}

#[test]
fn archive_settings_that_miss_something_are_mistakes() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |section: &str| {
        let path: &Path = &folder.path().join("callspan.toml");
        std::fs::write(path, format!("[archive]\n{section}")).expect("written");
        text(&callspan(&["central", "migrate", "-c", &path.display().to_string()], ""))
    };
    assert!(check("site = \"north\"\nobjects = \"s3://b\"").contains("archive.index is not"));
    assert!(check("site = \"North 1\"\nobjects = \"s3://b\"\nindex = \"postgresql:///x\"").contains("lower-case"));
    assert!(check("objects = \"ftp://b\"\nindex = \"postgresql:///x\"").contains("s3:// or file:///"));
    assert!(check("").contains("has no archive.index"));
}
