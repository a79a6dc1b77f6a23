//! Tests of `callspan console` with PostgreSQL and an object store.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Central, Moto, Site, callspan, text};
use callspan::call::record::CallRecord;
use callspan::journal::CallStage;

/// A running `callspan console` of the central archive.
struct CentralConsole {
    process: Child,
    port: u16,
    config: String,
}

/// A response: status, head and body.
struct HttpAnswer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl HttpAnswer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl CentralConsole {
    fn start(central: &Central) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let config = central.config();
        let old = std::fs::read_to_string(&config).expect("written");
        let state = central.folder.path().join("state");
        let more = format!("[console]\nlisten = \"127.0.0.1:{port}\"\n[state]\ndir = \"{}\"\n", state.display());
        std::fs::write(&config, format!("{old}{more}")).expect("written");
        let config = config.display().to_string();
        let process = Command::new(env!("CARGO_BIN_EXE_callspan"))
            .args(["console", "-c", &config])
            .env("NOTIFY_SOCKET", central.folder.path().join("notify"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let console = Self { process, port, config };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return console;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the console does not listen");
    }

    fn get(&self, path: &str) -> HttpAnswer {
        self.ask("GET", path, "")
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> HttpAnswer {
        self.send(method, path, headers, "")
    }

    /// Sends a form by POST.
    fn post(&self, path: &str, form: &str) -> HttpAnswer {
        self.send("POST", path, "Content-Type: application/x-www-form-urlencoded\r\n", form)
    }

    /// Sends a request. `headers` has further header lines, each with its line end.
    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> HttpAnswer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("answered");
        let end = all.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        let body =
            if head.contains("transfer-encoding: chunked") { unchunked(&all[end..]) } else { all[end..].to_vec() };
        HttpAnswer { status, head, body }
    }

    /// Creates an API token with a scope. Returns the header line that carries it.
    fn token(&self, name: &str, arguments: &[&str]) -> String {
        let command = [&["token", "add", name, "--role", "listener", "-c", &self.config], arguments].concat();
        let output = callspan(&command, "");
        assert!(output.status.success(), "{}", text(&output));
        let token = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().trim().to_owned();
        format!("Authorization: Bearer {token}\r\n")
    }
}

impl Drop for CentralConsole {
    fn drop(&mut self) {
        let _ = self.process.kill(); // the process has ended already
        let _ = self.process.wait();
    }
}

/// Joins the chunks of a body (RFC 9112 section 7.1).
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line]).ok().and_then(|hex| usize::from_str_radix(hex.trim(), 16).ok());
        let size = size.expect("the size of a chunk");
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
        if size == 0 {
            break;
        }
    }
    body
}

/// Returns two sites with calls in the archive. Both sites captured the first call, and the site "north" captured
/// another call.
fn two_sites(central: &Central) -> (Site, Site, [CallRecord; 3]) {
    let (north, south) = (central.add("north"), central.add("south"));
    let shared = north.record(1, "shared@trunk", b"0123456789 north");
    let mut own = north.record(2, "own@north", b"sound");
    (own.from_name, own.internal) = (Some(String::from("Анна Петрова")), Some(String::from("202")));
    (own.from, own.to) = (Some(String::from("+78125550000")), Some(String::from("202")));
    north.journal().put_call(&own, CallStage::Complete).expect("stored");
    let other = south.record(1, "shared@trunk", b"0123456789 south");
    for site in [&north, &south] {
        let pushed = site.push();
        assert!(pushed.status.success(), "{}", text(&pushed));
    }
    (north, south, [shared, own, other])
}

fn total(answer: &HttpAnswer) -> u64 {
    answer.json()["total"].as_u64().unwrap_or_else(|| panic!("{}", answer.text()))
}

fn check_search_and_sound(console: &CentralConsole, [shared, own, other]: &[CallRecord; 3]) {
    for (query, count) in [
        ("day=all", 3),
        ("day=all&q=495+123-45-67", 2),
        ("day=all&q=8125550000", 1),
        ("day=all&q=%D0%BF%D0%B5%D1%82%D1%80%D0%BE%D0%B2%D0%B0", 1), // "петрова", percent-encoded
        ("day=all&site=north", 2),
        ("day=all&site=south", 1),
        ("day=all&ext=101", 2),
        ("day=all&ext=2xx", 1),
        ("day=all&ext=1xx,2xx", 3),
        ("from=2026-03-01&to=2026-03-01", 3),
        ("from=2026-03-02&to=2026-03-02", 0),
        ("day=all&heard=pending", 3),
        ("day=all&direction=outbound", 0),
    ] {
        assert_eq!(total(&console.get(&format!("/api/v1/calls?{query}"))), count, "{query}");
    }
    let list = console.get("/calls?day=all").text();
    assert!(list.contains(&shared.id) && list.contains(&other.id) && list.contains(">south<"), "{list}");
    assert!(list.contains(&format!("/calls/north~{}", shared.id)), "{list}");
    // Links of an earlier version do not name the site. They lead to the same page.
    let page = console.get(&format!("/calls/{}", shared.id)).text();
    assert!(page.contains("The same call at other sites") && page.contains(&other.id), "{page}");
    let main = |page: &str| page.split("<main").nth(1).map(str::to_owned);
    let named = console.get(&format!("/calls/north~{}", shared.id)).text();
    assert!(main(&named).is_some() && main(&named) == main(&page), "{named}");
    for foreign in ["south", "", "north~north", "%25"] {
        assert_eq!(console.get(&format!("/calls/{foreign}~{}", shared.id)).status, 404, "{foreign}");
    }
    assert!(page.contains("Call-ID") && page.contains("No site registered this call"), "{page}");
    assert!(page.contains("2 legs") && !page.contains("/hold"), "one timeline of two legs: {page}");
    assert!(!console.get(&format!("/calls/{}", own.id)).text().contains("other sites"));

    let sound = format!("/calls/north~{}/sound/1", shared.id);
    let part = console.ask("GET", &sound, "Range: bytes=11-15\r\n");
    assert_eq!((part.status, part.body.as_slice()), (206, &b"north"[..]), "{}", part.head);
    assert!(part.head.contains("content-range: bytes 11-15/16"), "{}", part.head);
    let whole = console.get(&format!("{sound}?download=1"));
    assert_eq!((whole.status, whole.body.as_slice()), (200, &b"0123456789 north"[..]));
    assert!(whole.head.contains(&format!("filename=\"{}.wav\"", shared.id.to_lowercase())), "{}", whole.head);
    let audit = console.get("/api/v1/audit").json();
    let actions: Vec<&str> = audit.as_array().expect("rows").iter().filter_map(|row| row["action"].as_str()).collect();
    assert_eq!(actions.iter().filter(|action| matches!(**action, "played" | "downloaded")).count(), 2, "{audit}");
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn calls_of_all_sites_are_found_heard_and_related() {
    let central = Central::start();
    let (_north, _south, calls) = two_sites(&central);
    let console = CentralConsole::start(&central);
    check_search_and_sound(&console, &calls);

    // These pages exist on the console of a recorder, but not at the centre.
    for path in ["/live", "/health", "/api/v1/status", "/metrics"] {
        assert_eq!(console.get(path).status, 404, "{path}");
    }
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let held = console.ask("POST", &format!("/calls/{}/hold", calls[0].id), form);
    assert_eq!(held.status, 404, "{}", held.text());

    // A site reports its health with its own database role. A site without a report is shown as silent.
    let report = "SELECT callspan.report_site('9.9.9', 7, 1);
        SELECT callspan.report_health('{\"lost\": 42, \"alarms\": [\"disk_low\"]}')";
    central.postgres.sql("callspan_north", report).expect("allowed");
    let sites = console.get("/api/v1/sites").json();
    assert_eq!(
        (&sites[0]["site"], &sites[0]["silent"], &sites[0]["backlog"]),
        (&"north".into(), &false.into(), &7.into())
    );
    assert_eq!((&sites[0]["health"]["lost"], &sites[1]["silent"]), (&42.into(), &true.into()), "{sites}");
    let page = console.get("/sites").text();
    assert!(page.contains("1 site is silent") && page.contains("disk_low") && !page.contains("not at all"), "{page}");
    // The shared call began this week, and no site registered it in Pyrus.
    central.postgres.sql("postgres", "UPDATE callspan.calls SET begin_at = now()").expect("changed");
    assert!(console.get("/sites").text().contains("not at all"));
    let both = "UPDATE callspan.calls SET pyrus_task = 1";
    central.postgres.sql("postgres", both).expect("changed");
    assert!(console.get("/sites").text().contains("twice"));

    // The PostgreSQL server of the index restarts. The console must continue to work.
    central.postgres.stop();
    let away = console.get("/api/v1/calls?day=all");
    assert_eq!(away.status, 503, "{}", away.text());
    central.postgres.begin();
    assert_eq!(total(&console.get("/api/v1/calls?day=all")), 3);
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn a_search_in_many_calls_counts_the_newest_only() {
    let central = Central::start();
    let (_north, _south, [shared, ..]) = two_sites(&central);
    // Triggers are switched off, because they would search each copied row for the same call at other sites.
    let copies = format!(
        "SET session_replication_role = replica;
         INSERT INTO callspan.calls (site, id, change, begin_at, direction, outcome, extension, digits, call_ids, session_ids, record)
         SELECT site, id || n, 1, begin_at, direction, outcome, extension, digits, '{{}}', '{{}}', record
         FROM callspan.calls, generate_series(1, 2100) n WHERE site = 'north' AND id = '{}'",
        shared.id
    );
    central.postgres.sql("postgres", &copies).expect("entered");
    let older = "SET session_replication_role = replica;
         INSERT INTO callspan.calls (site, id, change, begin_at, direction, outcome, digits, call_ids, session_ids, record)
         SELECT site, id || 'o', 1, begin_at - interval '1 day', direction, outcome, '5550001', '{}', '{}', record
         FROM callspan.calls WHERE site = 'north' ORDER BY id LIMIT 300";
    central.postgres.sql("postgres", older).expect("entered");
    let console = CentralConsole::start(&central);
    let check = |query: &str, count: u64, is_least: bool| {
        let list = console.get(&format!("/api/v1/calls?day=all&{query}")).json();
        assert_eq!((&list["total"], list.get("total_is_least").is_some()), (&count.into(), is_least), "{query}");
    };
    // The newest 2,000 calls are examined for a text. A page of the list finds all calls of a rare text.
    check("q=495", 1_999, true); // the newest call of all has another number
    check("q=812", 1, false);
    check("q=495&site=south", 1, false);
    check("ext=1*", 1_999, true);
    check("ext=2*", 1, false);
    check("delivery=dead", 0, false);
    // None of the 2,000 examined calls has this number, but the page of the list has fifty such calls.
    check("q=5550001", 50, true);
    // Extensions are looked up in an index. Together, at most 5,000 rows are read for the extensions of a search.
    check("ext=101", 2_102, false);
    check("ext=10x", 500, true);
    check("ext=20x", 1, false);
    check("", 2_403, false);
    let report = console.get("/api/v1/report?day=all&q=812").json();
    assert_eq!((&report["total"], report.get("total_is_least")), (&1.into(), None), "counted exactly");
    let page = console.get("/calls?q=495").text();
    assert!(page.contains("at least 1,999 calls") && page.contains("those of the newest calls"), "{page}");
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn each_filter_of_the_list_has_an_index_in_its_order() {
    let central = Central::start();
    for (condition, index) in [
        ("site = 'north'", "calls_by_site"),
        ("extension = '101'", "calls_by_extension"),
        ("from_extension = '101'", "calls_by_from_extension"),
        ("to_extension = '101'", "calls_by_to_extension"),
        ("heard = 'lost'", "calls_by_heard"),
        ("outcome = 'busy'", "calls_by_outcome"),
        ("delivery = 'dead'", "calls_by_delivery"),
        ("direction = 'internal'", "calls_by_direction"),
    ] {
        let sql = format!(
            "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off;
             EXPLAIN SELECT 1 FROM callspan.calls c WHERE {condition} ORDER BY c.begin_at DESC, c.id DESC LIMIT 51"
        );
        let plan = central.postgres.sql("postgres", &sql).expect("answers");
        assert!(plan.contains(&format!("using {index} ")) && !plan.contains("Sort"), "{condition}: {plan}");
    }
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn equal_ids_at_two_sites_have_separate_pages_and_notes() {
    let central = Central::start();
    let (_north, _south, [shared, own, _]) = two_sites(&central);
    // The site south sends a call of north under its own name, as a copied machine does.
    let copy = CallRecord { from: Some(String::from("+1")), recordings: Vec::new(), ..own.clone() };
    let copy = serde_json::to_string(&copy).expect("JSON");
    let put = format!("SELECT callspan.put_call(1, '{copy}', '[]')");
    central.postgres.sql("callspan_south", &put).expect("allowed");
    let console = CentralConsole::start(&central);
    let status = |path: &str| console.get(path).status;
    assert_eq!(status(&format!("/calls/{}", own.id)), 404, "the link could mean either");
    assert_eq!(status(&format!("/calls/{}/sound/1", own.id)), 404);
    assert_eq!(status(&format!("/calls/{}", shared.id)), 200);
    let from = |site: &str| console.get(&format!("/api/v1/calls/{site}~{}", own.id)).json()["from"].clone();
    assert_eq!((from("north"), from("south")), ("+78125550000".into(), "+1".into()));
    let north = format!("north~{}", own.id);
    let note = console.post(&format!("/api/v1/calls/{north}/tag"), "text=claim");
    assert_eq!(note.status, 200, "{}", note.text());
    let tags = |site: &str| console.get(&format!("/api/v1/calls/{site}~{}/notes", own.id)).json();
    assert_eq!((tags("north").as_array().map(Vec::len), tags("south").as_array().map(Vec::len)), (Some(1), Some(0)));
    let found = console.get("/api/v1/calls?day=all&q=%23claim");
    assert_eq!((total(&found), &found.json()["calls"][0]["appliance"]), (1, &"north".into()), "{}", found.text());
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn an_account_of_one_site_finds_and_hears_its_calls_only() {
    let central = Central::start();
    let (_north, _south, [shared, own, other]) = two_sites(&central);
    let console = CentralConsole::start(&central);
    let north = console.token("north-only", &["--site", "north", "--rights", "list,play,download,notes"]);
    assert_eq!(total(&console.ask("GET", "/api/v1/calls?day=all", &north)), 2);
    assert_eq!(total(&console.ask("GET", "/api/v1/calls?day=all&site=south", &north)), 0);
    let csv = console.ask("GET", "/calls.csv?day=all", &north).text();
    assert!(csv.contains(&own.id) && !csv.contains(&other.id), "{csv}");
    let page = console.ask("GET", &format!("/calls/north~{}", shared.id), &north).text();
    assert!(page.contains(&shared.id) && !page.contains(&other.id), "the other site is not shown: {page}");
    let south = format!("south~{}", other.id);
    for form in [
        "/calls/ID",
        "/api/v1/calls/ID",
        "/api/v1/calls/ID/parts/1/audio",
        "/calls/ID/sound/1?download=1",
        "/calls/ID/record.json",
        "/api/v1/calls/ID/ladder",
        "/api/v1/calls/ID/peaks",
        "/api/v1/calls/ID/audit",
        "/api/v1/calls/ID/notes",
        "/api/v1/calls/ID/delivery",
    ] {
        assert_eq!(console.ask("GET", &form.replace("ID", &south), &north).status, 404, "{form}");
        assert_eq!(console.ask("GET", &form.replace("ID", &other.id), &north).status, 404, "{form}");
        assert_eq!(console.ask("GET", &form.replace("ID", &format!("north~{}", own.id)), &north).status, 200, "{form}");
    }
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let note = console.ask("POST", &format!("/api/v1/calls/{south}/note"), &format!("{north}{form}"));
    assert_eq!(note.status, 404, "{}", note.text());
    let why = console.ask("GET", "/api/v1/why?number=4951234567&day=2026-03-01", &north).text();
    assert!(why.contains(&shared.id) && !why.contains(&other.id), "{why}");
    assert_eq!(console.ask("GET", "/api/v1/sites", &north).status, 404);
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn console_sends_signs_of_life_and_ends_on_a_signal() {
    let central = Central::start();
    let systemd = std::os::unix::net::UnixDatagram::bind(central.folder.path().join("notify")).expect("a socket");
    systemd.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let next = || {
        let mut message = [0; 1_000];
        let length = systemd.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut console = CentralConsole::start(&central);
    assert_eq!([next(), next(), next()], ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]);
    let pid = console.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    while next() != "STOPPING=1" {}
    assert!(console.process.wait().expect("ended").success());
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn an_account_of_the_centre_sees_and_hears_its_scope_only() {
    let central = Central::start();
    let (_north, _south, [shared, own, _]) = two_sites(&central);
    let console = CentralConsole::start(&central);
    let second = console.token("second", &["--extensions", "2xx"]);
    let list = console.ask("GET", "/api/v1/calls?day=all", &second);
    assert_eq!(total(&list), 1, "{}", list.text());
    for (id, status) in [(&own.id, 200), (&shared.id, 404)] {
        for path in [format!("/api/v1/calls/{id}"), format!("/api/v1/calls/{id}/parts/1/audio"), format!("/calls/{id}")]
        {
            assert_eq!(console.ask("GET", &path, &second).status, status, "{path}");
        }
    }
    assert_eq!(console.ask("GET", "/api/v1/sites", &second).status, 404);
    let first = console.token("first", &["--extensions", "101", "--directions", "inbound"]);
    assert_eq!(total(&console.ask("GET", "/api/v1/calls?day=all", &first)), 0, "these calls have no direction");
    assert_eq!(console.ask("GET", "/api/v1/calls", "Authorization: Bearer wrong\r\n").status, 401);
}

#[test]
#[cfg_attr(
    not(all(has_postgres, has_moto)),
    ignore = "needs PostgreSQL 15 and moto_server (pip install 'moto[server]')"
)]
fn recordings_in_s3_are_played_by_range() {
    let moto = Moto::start();
    let central = Central::start_with(Some(&moto));
    let (_north, _south, calls) = two_sites(&central);
    let console = CentralConsole::start(&central);
    check_search_and_sound(&console, &calls);
}
