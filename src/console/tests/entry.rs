//! Tests of the ways to sign in: TLS, second factor, API tokens, and the trusted proxy.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{FOREIGN, OWN, Office};
use crate::console::accounts::totp::TotpSecret;
use crate::console::accounts::{AccountRight, AccountRole, ApiToken, UserAccount};
use crate::journal::CallScope;
use crate::ops::config::{ConsoleConfig, TrustedProxy};
use crate::service::clock::wall_clock;

type TlsStream = rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream>;

/// Connects by TLS. Trusts only the certificate in the state folder.
fn by_tls(office: &Office) -> TlsStream {
    let mut roots = rustls::RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(office.dir.path().join("console-certificate.pem"));
    roots.add(certificate.expect("a certificate was made")).expect("a root");
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let port = office.addr().port();
    rustls::StreamOwned::new(connection, std::net::TcpStream::connect(("127.0.0.1", port)).expect("connects"))
}

fn open_to_network() -> Office {
    let listen = Some("0.0.0.0:0".parse().expect("an address"));
    Office::with_console(&["120", "220"], ConsoleConfig { listen, ..ConsoleConfig::default() })
}

#[test]
fn console_for_others_speaks_tls_only_and_nobody_enters_without_account() {
    let office = open_to_network();
    assert_eq!(office.ask_by(by_tls(&office), "GET /api/v1/calls", "", "").status, 401, "there is no user yet");
    office.add("anna", AccountRole::Admin, &[]);
    let answer = office.ask_by(by_tls(&office), "POST /login", "", "user=anna&password=correct+horse");
    let cookie = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(cookie.starts_with("__Host-callspan=") && cookie.contains("; Secure"), "{cookie}");
    let head = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap_or_default());
    assert_eq!(office.ask_by(by_tls(&office), "GET /api/v1/calls", &head, "").status, 200);
    for (host, status) in [("localhost:1", 200), ("10.1.2.3:8443", 200), ("evil.example", 403)] {
        let head = format!("Host: {host}\r\n{head}");
        assert_eq!(office.ask_by(by_tls(&office), "GET /api/v1/calls", &head, "").status, status, "{host}");
    }
    // A plain HTTP request on the TLS port gets no HTTP response.
    use std::io::{Read as _, Write as _};
    let mut plain = std::net::TcpStream::connect(("127.0.0.1", office.addr().port())).expect("connects");
    plain.write_all(b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("writes");
    let mut reply = Vec::new();
    let _ = plain.read_to_end(&mut reply); // gets a TLS alert or a connection reset
    assert!(!reply.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&reply));
}

#[test]
fn second_factor_is_asked_for_and_a_code_works_once() {
    let office = Office::with_calls(&[]);
    office.add("anna", AccountRole::Admin, &[]);
    let secret = TotpSecret::new().expect("random");
    office.accounts().set_totp("anna", Some(&secret)).expect("set");
    let code = secret.code_at(wall_clock());
    let sign_in = |code: &str| office.ask("POST /login", "", &format!("user=anna&password=correct+horse&code={code}"));
    assert_eq!(sign_in(&code).status, 303);
    assert_eq!(sign_in(&code).status, 401, "the same code again");
    let accounts = office.accounts();
    assert!(!accounts.check_totp("anna", "", wall_clock()).expect("read"));
    let later = wall_clock() + Duration::from_secs(60);
    assert!(accounts.check_totp("anna", &secret.code_at(later), later).expect("read"));
    assert!(!accounts.check_totp("anna", &code, later).expect("read"), "an earlier code");
    accounts.set_totp("anna", None).expect("removed");
    assert!(accounts.check_totp("anna", "", wall_clock()).expect("read"));
}

#[test]
fn token_opens_its_scope_until_it_ends() {
    let office = Office::with_calls(&["120", "220"]);
    office.add("anna", AccountRole::Admin, &[]);
    let token = |name: &str, end: Duration| ApiToken {
        account: UserAccount {
            name: name.to_owned(),
            role: AccountRole::Listener,
            scope: CallScope { extensions: vec![String::from("1XX")], ..CallScope::default() },
            rights: vec![AccountRight::List, AccountRight::Play],
        },
        expires_at: wall_clock() + end,
    };
    let accounts = office.accounts();
    let crm = accounts.add_token(&token("crm", Duration::from_secs(60)), wall_clock()).expect("added");
    assert!(accounts.add_token(&token("crm", Duration::from_secs(60)), wall_clock()).is_err(), "the name is taken");
    let old = accounts.add_token(&token("old", Duration::ZERO), wall_clock()).expect("added");
    let ask =
        |token: &str, path: &str| office.ask(&format!("GET {path}"), &format!("Authorization: Bearer {token}\r\n"), "");
    assert_eq!(ask(&crm, &format!("/api/v1/calls/{OWN}")).status, 200);
    assert_eq!(ask(&crm, &format!("/api/v1/calls/{OWN}/parts/1/audio")).status, 200);
    assert_eq!(ask(&crm, &format!("/api/v1/calls/{FOREIGN}")).status, 404);
    assert_eq!(ask(&crm, &format!("/calls/{OWN}/sound/1?download=1")).status, 404, "may not download");
    for wrong in [&old, "callspan_0000", ""] {
        assert_eq!(ask(wrong, "/api/v1/calls").status, 401, "{wrong}");
    }
    // A request with a wrong token and a valid session cookie is refused.
    let cookie = office.sign_in("anna");
    let both = format!("Authorization: Bearer wrong\r\nCookie: {cookie}\r\n");
    assert_eq!(office.ask("GET /api/v1/calls", &both, "").status, 401);
    let rows = accounts.audit(&Default::default(), 10).expect("rows");
    assert!(rows.iter().any(|row| row.who == "token:crm" && row.action == "played"), "{rows:?}");
    assert!(accounts.remove_token("crm").expect("removed"));
    assert_eq!(ask(&crm, "/api/v1/calls").status, 401);
}

#[test]
fn only_the_trusted_proxy_names_users() {
    let proxy = |address: &str| {
        let proxy =
            TrustedProxy { address: address.parse().expect("an address"), header: String::from("x-remote-user") };
        let settings = ConsoleConfig { trusted_proxy: Some(proxy), ..ConsoleConfig::default() };
        let office = Office::with_console(&["120"], settings);
        let scope = CallScope::default();
        let user = UserAccount { name: String::from("dora"), role: AccountRole::Admin, scope, rights: vec![] };
        office.accounts().put_proxy_user(&user, wall_clock()).expect("put");
        office
    };
    let office = proxy("127.0.0.1");
    let named = |name: &str| format!("X-Remote-User: {name}\r\n");
    assert_eq!(office.ask("GET /api/v1/calls", &named("dora"), "").status, 200);
    assert_eq!(office.ask("GET /api/v1/calls", &named("nobody"), "").status, 401);
    assert_eq!(office.ask("GET /api/v1/calls", "", "").status, 401);
    // Users whom the proxy signs in also need the page's CSRF token to change something.
    let page = office.ask(&format!("GET /calls/{OWN}"), &named("dora"), "").body;
    let token = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let hold = format!("POST /calls/{OWN}/hold");
    assert_eq!(office.ask(&hold, &named("dora"), "why=x").status, 403);
    assert_eq!(office.ask(&hold, &named("dora"), &format!("why=x&csrf={token}")).status, 303);
    // A user without a password can sign in only through the proxy, not by the form.
    assert_eq!(office.ask("POST /login", "", "user=dora&password=!").status, 401);
    let elsewhere = proxy("10.9.8.7");
    assert_eq!(elsewhere.ask("GET /api/v1/calls", &named("dora"), "").status, 401, "from another address");
}

#[test]
fn fifty_listeners_at_once_get_whole_recordings_and_a_row_each() {
    let office = Office::with_calls(&["120"]);
    office.add("anna", AccountRole::Admin, &[]);
    let id = office.write_tones("120");
    let path = crate::console::tests::call(office.dir.path(), 0, "120").recordings[0].path.clone();
    let length = std::fs::metadata(path).expect("a recording").len();
    let cookies: Vec<String> = (0..LISTENERS).map(|_| office.sign_in("anna")).collect();
    std::thread::scope(|scope| {
        let ask = |cookie: &String| {
            let head = format!("Cookie: {cookie}\r\nRange: bytes=0-\r\n");
            let answer = office.ask(&format!("GET /calls/{id}/sound/1"), &head, "");
            assert_eq!(answer.status, 206);
            assert!(answer.head.contains(&format!("content-length: {length}\r\n")), "{}", answer.head);
        };
        for cookie in &cookies {
            scope.spawn(move || ask(cookie));
        }
    });
    assert_eq!(office.played(&id), LISTENERS);
}

/// Number of simultaneous users. Each has a separate session.
const LISTENERS: usize = 50;
