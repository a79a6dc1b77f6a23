mod attacks;
mod browser;
mod chromium;
mod delivery;
mod downloads;
mod entry;
mod events;
mod health;
mod live;
mod lookup;
mod replayed;

use super::control::{PauseRequest, ServiceStatus};
use super::server::ConsoleServer;
use crate::call::pause::PauseAction;
use crate::journal::{self, Journal};
use crate::ops::config::Config;
use crate::ops::disk::{DiskReader, DiskSpace};
use crate::ops::status::ServiceReport;
use crate::ops::supervision::Supervisor;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

fn console() -> (ConsoleServer, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let journal = journal::config::Config { dir: dir.path().to_owned() };
    drop(Journal::open(&journal).expect("a journal"));
    let config = Config { journal, ..Config::default() };
    (ConsoleServer::start("127.0.0.1:0".parse().expect("an address"), &config).expect("serves"), dir)
}

/// Sends a request to a console, and returns status and body of the response. The function `answer` takes the role of
/// the capture thread.
fn ask(console: &ConsoleServer, request: &str, answer: impl Fn(&PauseRequest) -> Option<bool> + Sync) -> (u16, String) {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut stream = std::net::TcpStream::connect(console.addr()).expect("connects");
            stream.write_all(request.as_bytes()).expect("writes");
            let mut reply = String::new();
            stream.read_to_string(&mut reply).expect("reads");
            let status = reply.get(9..12).and_then(|s| s.parse().ok()).expect("a status");
            (status, reply.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
        });
        while !asked.is_finished() {
            if let Some(request) = console.poll_request() {
                let paused = answer(&request);
                request.answer(paused);
            }
            std::thread::yield_now();
        }
        asked.join().expect("asked")
    })
}

fn request(line: &str, head: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: 127.0.0.1:1\r\n{head}Connection: close\r\nContent-Length: 0\r\n\r\n")
}

#[test]
fn pause_request_reaches_the_capture_thread_and_gets_its_reply() {
    let (console, _dir) = console();
    let known = |order: &PauseRequest| (order.id == "2026-abc").then_some(order.order == PauseAction::Pause);
    let post = |id: &str, what: &str| ask(&console, &request(&format!("POST /api/calls/{id}/{what}"), ""), known);
    assert_eq!(post("2026-abc", "pause"), (200, String::from(r#"{"id":"2026-abc","paused":true}"#)));
    assert_eq!(post("2026-abc", "resume"), (200, String::from(r#"{"id":"2026-abc","paused":false}"#)));
    assert_eq!(post("another", "pause").0, 404);
    assert_eq!(post("2026-abc", "delete").0, 404);
    assert_eq!(ask(&console, &request("GET /api/calls/x/pause", ""), known).0, 405);
}

#[test]
fn status_returns_published_counters_and_owed_calls() {
    let (console, _dir) = console();
    console.publish(ServiceStatus { frames: 7, calls_live: 2, ..ServiceStatus::default() });
    let (status, body) = ask(&console, &request("GET /api/status", ""), |_| None);
    assert_eq!(status, 200);
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&body["frames"], &body["calls_live"], &body["owed"]), (&7.into(), &2.into(), &0.into()));
}

fn write_report(report: &ServiceReport, state: &Path) {
    let (path, contents) = report.file(state).expect("JSON");
    std::fs::write(path, contents).expect("written");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the console lives in real time")]
fn console_gives_signs_of_life_while_nobody_asks_it() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let config = Config { journal: journal::config::Config { dir: dir.path().to_owned() }, ..Config::default() };
    let console = ConsoleServer::start("127.0.0.1:0".parse().expect("an address"), &config).expect("serves");
    let mut supervisor = Supervisor::default();
    supervisor.watch("console", console.life().expect("it runs"), Duration::from_secs(2));
    for _ in 0..35 {
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(supervisor.stalled(crate::service::clock::monotonic()), []);
    }
    assert_eq!(supervisor.ended(), None);
    drop(console);
    assert_eq!(supervisor.ended(), Some("console"));
}

#[test]
fn metrics_and_health_need_no_login_and_are_refused_to_a_proxy() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let journal = journal::config::Config { dir: dir.path().to_owned() };
    drop(Journal::open(&journal).expect("a journal"));
    let mut config = Config { journal, ..Config::default() };
    config.console.public_url = Some(String::from("https://calls.example.org"));
    config.console.metrics_listen = "127.0.0.1:0".parse().ok();
    let console = ConsoleServer::start("127.0.0.1:0".parse().expect("an address"), &config).expect("serves");
    let get = |path: &str, head: &str| ask(&console, &request(&format!("GET {path}"), head), |_| None);
    assert_eq!(get("/healthz", ""), (503, String::from("the capture thread makes no progress\n")));
    let mut report = ServiceReport { at: wall_clock(), frames: 7, ..ServiceReport::default() };
    write_report(&report, dir.path());
    assert_eq!(get("/healthz", ""), (200, String::from("ok\n")));
    assert_eq!(get("/readyz", ""), (503, String::from("no interface is up\n")));
    report.is_capturing = true;
    write_report(&report, dir.path());
    assert_eq!(get("/readyz", "").0, 200);
    let (status, body) = get("/metrics", "");
    assert!(status == 200 && body.contains("\ncallspan_frames_total 7\n"), "{body}");
    assert!(body.contains("callspan_disk_free_bytes{folder=\"state\"} "), "{body}");
    // Requests through a proxy are refused. A proxy may open the console to other machines, and the metrics need no
    // login.
    assert_eq!(get("/metrics", "X-Forwarded-For: 198.51.100.7\r\n").0, 403);
    let foreign = "GET /metrics HTTP/1.1\r\nHost: calls.example.org\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(&console, foreign, |_| None).0, 403);
    // The separate address of the metrics serves only the metrics paths.
    let at = console.metrics_addr().expect("it listens");
    let of_metrics = |path: &str| {
        let mut stream = std::net::TcpStream::connect(at).expect("connects");
        let text = format!("GET {path} HTTP/1.1\r\nHost: prometheus\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("writes");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("reads");
        reply.get(9..12).and_then(|s| s.parse::<u16>().ok())
    };
    assert_eq!(["/metrics", "/readyz", "/calls", "/api/status"].map(of_metrics), [200, 200, 404, 404].map(Some));
}

#[test]
fn foreign_requests_are_refused() {
    let (console, _dir) = console();
    let foreign = request("POST /api/calls/x/pause", "Origin: https://example.org\r\n");
    assert_eq!(ask(&console, &foreign, |_| Some(true)).0, 403);
    let rebound = request("POST /api/calls/x/pause", "").replace("127.0.0.1:1", "example.org");
    assert_eq!(ask(&console, &rebound, |_| Some(true)).0, 403);
    let own = request("POST /api/calls/x/pause", "Origin: http://localhost:1\r\n");
    assert_eq!(ask(&console, &own, |_| Some(true)).0, 200);
}

use crate::call::record::{CallDirection, CallOutcome, CallRecord, CallVerdict, RecordingFile};
use crate::console::accounts::{AccountRight, AccountRole, Accounts, UserAccount};
use crate::journal::{CallScope, CallSearch, CallStage, HeardClass};
use crate::service::clock::wall_clock;
use crate::time::Timestamp;

/// A disk of 100 GiB, half of it free. Tests use it, because the disk of the test machine may be full.
const ROOMY_DISK: DiskSpace = DiskSpace { free: 50 << 30, total: 100 << 30, is_read_only: false };

/// A console for tests, with a journal, recordings and accounts.
pub(super) struct Office {
    console: ConsoleServer,
    config: Config,
    dir: tempfile::TempDir,
}

/// A response to a request: status, head and body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Office {
    /// Creates an office (journal and console) with one inbound call to each of these extensions. Each call has a
    /// recording of 100 bytes.
    pub(super) fn with_calls(extensions: &[&str]) -> Self {
        Self::with_console(extensions, crate::ops::config::ConsoleConfig::default())
    }

    /// Creates an office (journal and console) with one recorded call to each of these extensions. The console has the
    /// given settings.
    pub(super) fn with_console(extensions: &[&str], settings: crate::ops::config::ConsoleConfig) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let journal = journal::config::Config { dir: dir.path().to_owned() };
        let opened = Journal::open(&journal).expect("a journal");
        for (n, extension) in (0..).zip(extensions) {
            let record = call(dir.path(), n, extension);
            std::fs::write(&record.recordings[0].path, vec![b'a'; 100]).expect("written");
            opened.put_call(&record, CallStage::Complete).expect("put");
        }
        Self::open(dir, Config { journal, console: settings, ..Config::default() })
    }

    fn open(dir: tempfile::TempDir, config: Config) -> Self {
        Self::open_with_disk(dir, config, |_| Ok(ROOMY_DISK))
    }

    fn open_with_disk(dir: tempfile::TempDir, config: Config, read_disk: DiskReader) -> Self {
        let listen = config.console.listen.unwrap_or_else(|| "127.0.0.1:0".parse().expect("an address"));
        let console = ConsoleServer::start_with_disk(listen, &config, read_disk).expect("serves");
        Self { console, config, dir }
    }

    fn accounts(&self) -> Accounts {
        Accounts::open(&self.config.journal.dir).expect("accounts")
    }

    pub(super) fn add(&self, name: &str, role: AccountRole, extensions: &[&str]) {
        let scope =
            CallScope { extensions: extensions.iter().map(|e| (*e).to_owned()).collect(), ..CallScope::default() };
        let rights = vec![AccountRight::List, AccountRight::Play, AccountRight::Download, AccountRight::Live];
        let user = UserAccount { name: name.to_owned(), role, scope, rights };
        self.accounts().put_user(&user, "correct horse", wall_clock()).expect("put");
    }

    /// Returns the address and port of the console.
    pub(super) const fn addr(&self) -> std::net::SocketAddr {
        self.console.addr()
    }

    /// Writes a recording for the first call of an extension: 400 Hz left, 1,000 Hz right, with its peaks (waveform
    /// data). Returns the id of the call.
    pub(super) fn write_tones(&self, extension: &str) -> String {
        let record = call(self.dir.path(), 0, extension);
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 8_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut wav = hound::WavWriter::create(&record.recordings[0].path, spec).expect("created");
        for n in 0..60 * 8_000 {
            for hz in [400.0, 1_000.0] {
                let turn = f64::from(n) * hz / 8_000.0 * std::f64::consts::TAU;
                wav.write_sample((turn.sin() * 12_000.0) as i16).expect("written");
            }
        }
        wav.finalize().expect("written");
        crate::recording::peaks::write_beside(&record.recordings[0]);
        record.id
    }

    /// Returns the number of audit rows that say that a call was played.
    pub(super) fn played(&self, id: &str) -> usize {
        let filter = crate::console::accounts::AuditFilter { call_id: Some(id.to_owned()), ..Default::default() };
        self.accounts().audit(&filter, 100).expect("rows").len()
    }

    fn ask(&self, line: &str, head: &str, body: &str) -> Answer {
        self.ask_by(std::net::TcpStream::connect(self.console.addr()).expect("connects"), line, head, body)
    }

    fn ask_by(&self, mut stream: impl std::io::Read + std::io::Write, line: &str, head: &str, body: &str) -> Answer {
        let length = body.len();
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        let text = format!(
            "{line} HTTP/1.1\r\n{}{head}{kind}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}",
            if head.starts_with("Host: ") { String::new() } else { format!("Host: {}\r\n", self.console.addr()) }
        );
        stream.write_all(text.as_bytes()).expect("writes");
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).expect("reads");
        let reply = String::from_utf8_lossy(&reply).into_owned();
        let (head, body) = reply.split_once("\r\n\r\n").expect("an answer");
        let status = head.get(9..12).and_then(|s| s.parse().ok()).expect("a status");
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn get(&self, path: &str, cookie: &str) -> Answer {
        self.ask(&format!("GET {path}"), &format!("Cookie: {cookie}\r\n"), "")
    }

    /// Signs a user in, and returns the session cookie.
    fn sign_in(&self, name: &str) -> String {
        let answer = self.ask("POST /login", "", &format!("user={name}&password=correct+horse"));
        assert_eq!(answer.status, 303, "{}", answer.body);
        let cookie = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite"));
        cookie.split(';').next().unwrap_or_default().to_owned()
    }
}

fn call(folder: &std::path::Path, n: i64, extension: &str) -> CallRecord {
    let at = Timestamp::from_secs(1_795_000_000 + n * 60);
    let id = format!("20261118T{n:06}Z-{extension}");
    CallRecord {
        direction: CallDirection::Inbound,
        from: Some(format!("+7495300{n:04}")),
        to: Some(String::from("+74953009080")),
        internal: Some(extension.to_owned()),
        from_name: Some(String::from("<script>alert(1)</script>")),
        invited_at: Some(at),
        answered_at: Some(at),
        duration_s: Some(60.0),
        outcome: CallOutcome::Answered,
        verdict: Some(CallVerdict::BothSides),
        recordings: vec![RecordingFile {
            bytes: 100,
            sha256: format!("{n:064}"),
            ..RecordingFile::sample(&folder.join(format!("{id}.wav")).display().to_string(), at, 60.0)
        }],
        id,
        ..CallRecord::default()
    }
}

const OWN: &str = "20261118T000000Z-120";
const FOREIGN: &str = "20261118T000001Z-220";

#[test]
fn listener_of_1xx_gets_404_for_2xx_in_every_form() {
    let office = Office::with_calls(&["120", "220"]);
    office.add("anna", AccountRole::Listener, &["1xx"]);
    let cookie = office.sign_in("anna");
    for form in [
        "/calls/ID",
        "/api/v1/calls/ID",
        "/api/v1/calls/ID/peaks",
        "/api/v1/calls/ID/audit",
        "/api/v1/calls/ID/delivery",
        "/calls/ID/sound/1",
        "/calls/ID/sound/1?download=1",
        "/api/v1/calls/ID/parts/1/audio",
        "/calls/ID/record.json",
    ] {
        assert_eq!(office.get(&form.replace("ID", OWN), &cookie).status, 200, "{form}");
        assert_eq!(office.get(&form.replace("ID", FOREIGN), &cookie).status, 404, "{form}");
    }
    assert_eq!(office.get(&format!("/calls/{FOREIGN}/packets/1"), &cookie).status, 404);
    for list in ["/calls", "/api/v1/calls", "/calls.csv", "/api/v1/calls?day=all&q=220", "/api/v1/why?number=220"] {
        assert!(!office.get(list, &cookie).body.contains(FOREIGN), "{list}");
    }
    let report: serde_json::Value =
        serde_json::from_str(&office.get("/api/v1/report?day=all", &cookie).body).expect("JSON");
    assert_eq!(report["total"], 1);
    assert_eq!(office.get("/audit", &cookie).status, 404);
    for counters in ["/health", "/api/v1/status", "/api/status"] {
        assert_eq!(office.get(counters, &cookie).status, 404, "{counters} count calls of everybody");
    }
    // A call outside the account's scope (calls that it may see) has the same response as an unknown call.
    let [foreign, unknown] =
        [FOREIGN, "20261118T000009Z-999"].map(|id| office.get(&format!("/api/v1/calls/{id}"), &cookie));
    assert_eq!((foreign.status, foreign.body), (unknown.status, unknown.body));
}

#[test]
fn audit_row_is_there_when_sound_arrives_and_ranges_work() {
    let office = Office::with_calls(&["120"]);
    office.add("anna", AccountRole::Listener, &["1xx"]);
    let cookie = office.sign_in("anna");
    let range = format!("Cookie: {cookie}\r\nRange: bytes=0-1\r\n");
    let answer = office.ask(&format!("GET /calls/{OWN}/sound/1"), &range, "");
    assert_eq!((answer.status, answer.body.as_str()), (206, "aa"));
    assert!(answer.head.contains("content-range: bytes 0-1/100"), "{}", answer.head);
    let filter = crate::console::accounts::AuditFilter { call_id: Some(OWN.to_owned()), ..Default::default() };
    for range in ["0-", "50-", "10-19"] {
        let range = format!("Cookie: {cookie}\r\nRange: bytes={range}\r\n");
        assert_eq!(office.ask(&format!("GET /calls/{OWN}/sound/1"), &range, "").status, 206);
    }
    let rows = office.accounts().audit(&filter, 10).expect("rows");
    assert_eq!((rows.len(), rows[0].who.as_str(), rows[0].action.as_str()), (1, "anna", "played"));
    let etag = answer.head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an etag").to_owned();
    let same = format!("Cookie: {cookie}\r\nIf-None-Match: {etag}\r\n");
    assert_eq!(office.ask(&format!("GET /calls/{OWN}/sound/1"), &same, "").status, 304);
    assert_eq!(office.get(&format!("/calls/{OWN}/sound/2"), &cookie).status, 404);
}

#[test]
fn auditor_sees_lists_and_audit_and_hears_nothing() {
    let office = Office::with_calls(&["120"]);
    office.add("clara", AccountRole::Auditor, &[]);
    let cookie = office.sign_in("clara");
    assert_eq!(office.get(&format!("/calls/{OWN}"), &cookie).status, 200);
    assert_eq!(office.get("/audit", &cookie).status, 200);
    for form in ["sound/1", "sound/1?download=1", "record.json"] {
        assert!(office.get(&format!("/calls/{OWN}/{form}"), &cookie).status >= 400, "{form}");
    }
    assert_eq!(office.get(&format!("/api/v1/calls/{OWN}/peaks"), &cookie).status, 404);
    assert!(!office.get("/calls", &cookie).body.contains("data-play"));
}

#[test]
fn with_users_nobody_enters_without_a_session() {
    let office = Office::with_calls(&["120"]);
    assert_eq!(office.get("/calls", "").status, 200, "without users, this machine is the administrator");
    office.add("anna", AccountRole::Admin, &[]);
    let answer = office.get("/calls?q=1", "");
    assert_eq!(answer.status, 303);
    assert!(answer.head.contains("location: /login?next=/calls%3Fq%3D1"), "{}", answer.head);
    assert_eq!(office.get("/api/v1/calls", "").status, 401);
    assert_eq!(office.get("/api/v1/calls", "callspan=0000").status, 401);
    assert_eq!(office.ask(&format!("POST /api/calls/{OWN}/pause"), "", "").status, 401);
    assert_eq!(office.get("/assets/console.css", "").status, 200);
}

#[test]
fn wrong_password_is_recorded_and_delays_the_next_try() {
    let office = Office::with_calls(&[]);
    office.add("anna", AccountRole::Admin, &[]);
    assert_eq!(office.ask("POST /login", "", "user=anna&password=wrong+horse").status, 401);
    assert_eq!(
        office.ask("POST /login", "", "user=anna&password=correct+horse").status,
        429,
        "even the right one waits"
    );
    let rows = office.accounts().audit(&Default::default(), 10).expect("rows");
    assert_eq!(rows.iter().map(|row| row.action.as_str()).collect::<Vec<_>>(), ["wrong_password"]);
}

#[test]
fn changes_need_the_token_of_the_page_and_no_foreign_origin() {
    let office = Office::with_calls(&["120"]);
    office.add("anna", AccountRole::Admin, &[]);
    let cookie = office.sign_in("anna");
    let page = office.get(&format!("/calls/{OWN}"), &cookie).body;
    let token = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let line = format!("POST /calls/{OWN}/hold");
    let head = format!("Cookie: {cookie}\r\n");
    assert_eq!(office.ask(&line, &head, "why=claim").status, 403);
    assert_eq!(office.ask(&line, &head, "csrf=0000&why=claim").status, 403);
    let foreign = format!("{head}Origin: https://evil.example\r\n");
    assert_eq!(office.ask(&line, &foreign, &format!("csrf={token}&why=claim")).status, 403);
    assert_eq!(office.ask(&line, &head, &format!("csrf={token}&why=claim+17")).status, 303);
    let journal = Journal::open_read_only(&office.config.journal).expect("a journal");
    assert_eq!(journal.held(OWN).expect("read").and_then(|hold| hold.why).as_deref(), Some("claim 17"));
    assert_eq!(office.ask("POST /logout", &head, &format!("csrf={token}")).status, 303);
    assert_eq!(office.get("/api/v1/calls", &cookie).status, 401, "the session is over");
}

#[test]
fn text_from_the_wire_is_text_and_every_answer_has_the_policy() {
    let office = Office::with_calls(&["120"]);
    for path in [
        "/calls",
        "/why?number=%3Cscript%3Ealert(1)%3C/script%3E",
        "/calls?q=%22%3E%3Cscript%3E",
        "/live",
        "/health",
        "/audit",
        "/users",
        "/login",
        "/nothing",
    ] {
        let answer = office.get(path, "");
        assert!(!answer.body.contains("<script>"), "{path}");
        assert!(!answer.body.contains(" style="), "{path}");
        assert!(answer.head.contains("content-security-policy: default-src 'none'"), "{path}: {}", answer.head);
    }
    let page = office.get(&format!("/calls/{OWN}"), "").body;
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>alert"));
    for path in ["/assets/../Cargo.toml", "/assets/%2e%2e%2fCargo.toml", "/calls/..%2f..%2fetc%2fpasswd"] {
        assert_eq!(office.get(path, "").status, 404, "{path}");
    }
}

#[test]
fn search_finds_a_call_by_every_spelling_name_and_filter() {
    let office = Office::with_calls(&["120", "121", "220"]);
    let total = |query: &str| -> i64 {
        let body = office.get(&format!("/api/v1/calls?day=all&{query}"), "").body;
        serde_json::from_str::<serde_json::Value>(&body).expect("JSON")["total"].as_i64().expect("a number")
    };
    for spelling in ["%2B7+495+300-00-01", "8(495)300-00-01", "84953000001", "300-00-01", "%2B74953000001"] {
        assert_eq!(total(&format!("q={spelling}")), 1, "{spelling}");
    }
    assert_eq!(total("q=SCRIPT"), 3);
    assert_eq!(total("ext=12x"), 2);
    assert_eq!(total("ext=12x&q=000001"), 1);
    assert_eq!(total("direction=outbound"), 0);
    assert_eq!(total("min=2"), 0);
    assert_eq!(total("max=1"), 3);
    let csv = office.get("/calls.csv?day=all&ext=120", "").body;
    assert_eq!(csv.lines().filter(|line| line.contains("20261118T")).count(), 1, "{csv}");
    let russian = office.get("/calls?lang=ru", "");
    assert!(russian.body.contains("lang=\"ru\"") && russian.head.contains("set-cookie: lang=ru"));
}

#[test]
fn counts_and_scope_agree_with_the_calls_found() {
    let office = Office::with_calls(&["120", "121", "220", "1200"]);
    let journal = Journal::open_read_only(&office.config.journal).expect("a journal");
    // A scope (calls that an account may see) accepts the same patterns as rules, e.g. those of Asterisk. N is 2 to 9,
    // Z is 1 to 9, and X. is two digits or more.
    let patterns = [
        ("1xx", 2),
        ("[1-2]2x", 3),
        ("12*", 3),
        ("1?0", 0),
        ("", 0),
        ("_NXX", 1),
        ("_ZXX", 3),
        ("_12X.", 1),
        ("1XX!", 3),
    ];
    for (pattern, expected) in patterns {
        let scope =
            CallScope { extensions: vec![pattern.to_owned()], directions: vec![CallDirection::Inbound], sites: vec![] };
        let search = CallSearch { scope, ..CallSearch::default() };
        let found = journal.search(&search, None, 10).expect("found").calls.len();
        let counted: u64 = journal.count_by_class(&search).expect("counted").iter().map(|(_, count)| count).sum();
        assert_eq!((found, counted), (expected, expected as u64), "{pattern}");
    }
    let lost = CallSearch { heard: Some(HeardClass::Lost), ..CallSearch::default() };
    assert!(journal.search(&lost, None, 10).expect("found").calls.is_empty());
    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let page = journal.search(&CallSearch::default(), before.as_ref(), 3).expect("found");
        pages.extend(page.calls.into_iter().map(|call| call.record.id));
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    assert_eq!(pages.len(), 4);
    assert!(pages.is_sorted_by(|a, b| a > b), "newest first: {pages:?}");
}

/// Measures the time of a search over 200,000 calls. Run it with `cargo test --release --lib console:: -- --ignored
/// --nocapture`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "a measurement prints times")]
fn two_hundred_thousand_calls_are_searched_in_a_tenth_of_a_second() {
    let office = Office::with_calls(&["120"]);
    let journal = Journal::open(&office.config.journal).expect("a journal");
    let calls: Vec<CallRecord> =
        (1..200_000).map(|n| call(office.dir.path(), n, &format!("{}", 100 + n % 900))).collect();
    journal.put_calls_for_measurement(&calls).expect("put");
    for path in [
        "/calls",
        "/calls?day=all",
        "/calls?day=all&q=300-22-85",
        "/calls?day=all&q=nobody",
        "/calls?day=all&ext=1xx&delivery=none",
    ] {
        office.get(path, "");
        let (begin, processor) = (std::time::SystemTime::now(), processor_ms());
        let answer = office.get(path, "");
        let elapsed = begin.elapsed().unwrap_or_default().as_millis();
        let processor = processor_ms() - processor;
        eprintln!("{path}: {elapsed} ms, {processor} ms of processor, {} bytes", answer.body.len());
        assert_eq!(answer.status, 200);
        assert!(processor <= 100 || cfg!(debug_assertions), "{path}: {processor} ms of processor");
    }
}

#[test]
fn permitted_users_write_notes_and_tags_and_find_calls_by_tag() {
    let office = Office::with_calls(&["120", "220"]);
    office.add("anna", AccountRole::Admin, &[]);
    office.add("boris", AccountRole::Listener, &["1xx"]);
    office.add("clara", AccountRole::Auditor, &[]);
    let write = |name: &str, action: &str, body: &str| {
        let cookie = office.sign_in(name);
        let page = office.get("/calls", &cookie).body;
        let token =
            page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
        let head = format!("Cookie: {cookie}\r\nX-CSRF-Token: {token}\r\n");
        office.ask(&format!("POST /api/v1/calls/{action}"), &head, body).status
    };
    assert_eq!(write("anna", &format!("{OWN}/note"), "text=%3Cb%3Ecall+back"), 200);
    assert_eq!(write("anna", &format!("{OWN}/tag"), "text=Late+payment"), 200);
    assert_eq!(write("anna", &format!("{OWN}/tag"), "text=late-PAYMENT"), 200, "the same tag again");
    assert_eq!(write("anna", &format!("{FOREIGN}/tag"), "text=late-payment"), 200);
    assert_eq!(write("anna", &format!("{OWN}/note"), "text=+"), 422, "nothing");
    assert_eq!(write("boris", &format!("{OWN}/note"), "text=x"), 403, "no right");
    assert_eq!(write("clara", &format!("{OWN}/note"), "text=x"), 403);
    assert_eq!(write("anna", "none/note", "text=x"), 404);
    let cookie = office.sign_in("boris");
    let notes = office.get(&format!("/api/v1/calls/{OWN}/notes"), &cookie).body;
    let notes: serde_json::Value = serde_json::from_str(&notes).expect("JSON");
    assert_eq!((notes[0]["text"].as_str(), notes[1]["text"].as_str()), (Some("<b>call back"), Some("late-payment")));
    assert_eq!(notes.as_array().map(Vec::len), Some(2), "a tag is there once");
    assert!(office.get(&format!("/calls/{OWN}"), &cookie).body.contains("&lt;b&gt;call back"));
    assert_eq!(office.get(&format!("/api/v1/calls/{FOREIGN}/notes"), &cookie).status, 404);
    let found = office.get("/api/v1/calls?day=all&q=%23late-payment", &cookie).body;
    assert!(found.contains(OWN) && !found.contains(FOREIGN), "only within the scope");
    assert!(!office.get("/api/v1/calls?day=all&q=%23other", &cookie).body.contains(OWN));
    assert_eq!(write("anna", &format!("{OWN}/unnote"), &format!("n={}", notes[0]["n"])), 200);
    assert_eq!(office.accounts().notes(OWN).expect("read").len(), 1);
}

#[test]
fn description_of_the_api_is_served_and_examples_name_each_request() {
    let office = Office::with_calls(&["120"]);
    let document: serde_json::Value = serde_json::from_str(&office.get("/api/v1/openapi.json", "").body).expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    let page = office.get("/api", "").body;
    for path in document["paths"].as_object().expect("paths").keys() {
        assert!(page.contains(path.as_str()), "{path}");
    }
}

/// Returns the processor time of all threads of this process, ms. Unlike elapsed time, it does not depend on other
/// processes.
fn processor_ms() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads").flatten();
    let used = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("schedstat")).ok();
    let ns = |text: String| text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
    tasks.filter_map(used).filter_map(ns).sum::<u64>() / 1_000_000
}
