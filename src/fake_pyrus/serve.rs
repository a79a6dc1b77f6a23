//! The command `callspan fake-pyrus`: the fake as a server, to try it out.
//!
//! A script file sets options (fields of [`FakeOptions`], by name) and queues fault steps:
//!
//! ```json
//! {
//!   "options": {"logic_error_status": 200, "token_ttl": 60},
//!   "steps": [
//!     {"endpoint": "call", "fault": "server_error", "when": "after"},
//!     {"endpoint": "upload", "fault": {"slow_read": 64000}, "times": 3},
//!     {"endpoint": "attach", "fault": {"rate_limited": {"reset": 7}}}
//!   ]
//! }
//! ```
//!
//! A running fake accepts the same file: `curl -d @script.json http://ADDR/__fake/script`. Further paths are
//! `/__fake/config` for single options, `/__fake/clock` for `{"advance": SECONDS}`, and `/__fake/change` for changes of
//! the state.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::control::{ScriptFile, overlay};
use super::faults::FakeEndpoint;
use super::options::FakeOptions;
use super::routes::ApiHost;
use super::server::ListenerRole;
use super::world::RequestLogEntry;
use super::{FakeError, FakePyrus};

/// Runs the fake until SIGINT or SIGTERM. Writes its addresses, a configuration and one line for each request to `out`.
///
/// The accounts host, the web page and the control paths are on `listen`. The API is on the next port, and uploads are
/// on the port after that. So a client that assumes a single host fails. If one of these ports is in use, or with the
/// option `"split_hosts": false`, everything is on `listen`.
///
/// # Errors
/// Returns an error if `listen` is in use or the script cannot be read.
pub fn serve(listen: SocketAddr, script: Option<PathBuf>, out: impl Write + Send + 'static) -> Result<(), FakeError> {
    let script = script.as_deref().map(read_script).transpose()?.unwrap_or_default();
    let out = Arc::new(Mutex::new(out));
    let fake = start(listen, &script, &out)?;
    // A test may send a signal as soon as it has read the banner. So the signal handlers are installed before the
    // banner is written.
    wait_for_signal(|| write_line(&out, &banner(&fake)))?;
    write_line(&out, "stopped\n");
    Ok(())
}

type SharedOutput<W> = Arc<Mutex<W>>;

fn start<W: Write + Send + 'static>(
    listen: SocketAddr,
    script: &(FakeOptions, ScriptFile),
    out: &SharedOutput<W>,
) -> Result<FakePyrus, FakeError> {
    let (options, file) = script;
    let one = [(ListenerRole::Both(ApiHost::One), listen)];
    let fake = match split(listen).filter(|_| options.split_hosts) {
        Some(listeners) => match FakePyrus::start_at(options.clone(), &listeners, Some(observer(out))) {
            // The fake listens on the port of `listen` for the accounts host, and on the next two ports for API and
            // uploads. The first port must be free. If another one is in use, a single listener on `listen` serves all
            // three.
            Err(FakeError::Listen { address, .. }) if address != listen => {
                write_line(out, &format!("{address} is taken: all on {listen}\n"));
                FakePyrus::start_at(options.clone(), &one, Some(observer(out)))
            }
            other => other,
        },
        None => FakePyrus::start_at(options.clone(), &one, Some(observer(out))),
    }?;
    for step in &file.steps {
        fake.script(step.endpoint, step.step.clone());
    }
    Ok(fake)
}

/// Returns the addresses of the three listeners (accounts host, API, uploads), on consecutive ports. With port 0 the
/// operating system chooses all three ports.
fn split(listen: SocketAddr) -> Option<[(ListenerRole, SocketAddr); 3]> {
    let next = |by: u16| match listen.port() {
        0 => Some(listen),
        port => Some(SocketAddr::new(listen.ip(), port.checked_add(by)?)),
    };
    Some([
        (ListenerRole::Both(ApiHost::Accounts), listen),
        (ListenerRole::Api(ApiHost::Api), next(1)?),
        (ListenerRole::Api(ApiHost::Files), next(2)?),
    ])
}

fn read_script(path: &Path) -> Result<(FakeOptions, ScriptFile), FakeError> {
    let bad = |reason: String| FakeError::BadScript { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|source| FakeError::ReadScript { path: path.to_owned(), source })?;
    let file: ScriptFile = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    let options = overlay(&FakeOptions::default(), &file.options).map_err(bad)?;
    Ok((options, file))
}

fn observer<W: Write + Send + 'static>(out: &SharedOutput<W>) -> super::RequestObserver {
    let out = Arc::clone(out);
    Box::new(move |entry| write_line(&out, &format_request(entry)))
}

/// Writes a line. A failed write, e.g. to a closed pipe, must not stop the fake.
fn write_line<W: Write>(out: &SharedOutput<W>, text: &str) {
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn banner(fake: &FakePyrus) -> String {
    let world = fake.shared.world();
    let user = world.options.users.first().cloned().unwrap_or_default();
    let account = world.options.accounts.first().cloned().unwrap_or_default();
    drop(world);
    let control = fake.control_url();
    format!(
        "fake Pyrus for trying out. Put this into the configuration:\n\n\
         [pyrus]\nenabled = true\nauth_url = \"{}\"\nlogin = \"{}\"\nsecurity_key = \"{}\"\naccount_id = \"{}\"\n\n\
         API      {}\nfiles    {}\npage     {control}          tasks and their recordings\n\
         control  {control}__fake/    state, log, violations (GET); script, clock, config, change (POST)\n\n",
        fake.auth_url(),
        user.login,
        user.security_key,
        account.account_id,
        fake.api_url(),
        fake.files_url(),
    )
}

/// Formats a request as one line without telephone numbers or secrets.
fn format_request(entry: &RequestLogEntry) -> String {
    let time = entry.at.get(11..19).unwrap_or_default();
    let what = match entry.endpoint {
        FakeEndpoint::Auth => "auth",
        FakeEndpoint::Upload => "upload",
        FakeEndpoint::Call => "call",
        FakeEndpoint::Attach => "attach",
        FakeEndpoint::Other => "other",
    };
    let status = entry.status.map_or_else(|| "---".to_owned(), |s| s.to_string());
    let mut line = format!("{time}  {what:<7} {status}  {}", entry.outcome);
    if let Some(code) = &entry.error_code {
        line.push_str(&format!(" {code}"));
    }
    if let Some(step) = &entry.fault {
        line.push_str(&format!(" (scripted: {})", step.fault.name()));
    }
    let line = line.replace(['\r', '\n'], " ");
    format!("{}\n", line.trim_end())
}

fn wait_for_signal(when_ready: impl FnOnce()) -> Result<(), FakeError> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(FakeError::Start)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(FakeError::Start)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(FakeError::Start)?;
        when_ready();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(
        listen: SocketAddr,
        script: &(FakeOptions, ScriptFile),
    ) -> (Result<FakePyrus, FakeError>, SharedOutput<Vec<u8>>) {
        let out = Arc::new(Mutex::new(Vec::new()));
        (start(listen, script, &out), out)
    }

    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn banner_is_a_configuration_and_requests_are_logged() {
        let (fake, out) = started(any(), &Default::default());
        let fake = fake.expect("ports are free");
        let text = banner(&fake);
        let config = text.split("\n\n").nth(1).expect("the configuration stands alone");
        let config: toml::Table = toml::from_str(config).expect("and is TOML");
        assert_eq!(config["pyrus"]["auth_url"].as_str(), Some(fake.auth_url().as_str()));
        assert!(fake.auth_url().starts_with(&fake.control_url()), "the page is on the address asked for");
        assert_ne!(fake.api_url().replace("v4/", ""), fake.files_url());
        let head =
            format!("POST /api/v4/auth HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", 48);
        let body = "{\"login\":\"bot@callspan\",\"security_key\":\"secret\"}";
        assert_eq!(body.len(), 48);
        let address = fake.control_url().replace("http://", "").replace('/', "");
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        stream.write_all(format!("{head}{body}").as_bytes()).expect("sent");
        while fake.log().is_empty() {
            std::thread::yield_now();
        }
        drop(fake);
        let lines = String::from_utf8(out.lock().expect("whole").clone()).expect("text");
        assert!(lines.contains("auth    200  token issued") && !lines.contains("secret"), "{lines}");
    }

    #[test]
    fn error_of_a_taken_address_names_the_remedy() {
        let taken = std::net::TcpListener::bind(any()).expect("a port");
        let address = taken.local_addr().expect("bound");
        let error = started(address, &Default::default()).0.expect_err("taken").to_string();
        assert!(error.contains(&address.to_string()) && error.contains("choose another one with --listen"), "{error}");
    }

    #[test]
    fn a_taken_next_port_puts_everything_on_one() {
        // This search finds two consecutive free ports and occupies the second, so that the fake finds the port after
        // its own in use.
        let (free, taken) = (0..200)
            .find_map(|_| {
                let first = std::net::TcpListener::bind(any()).ok()?;
                let at = first.local_addr().ok()?;
                let next = SocketAddr::new(at.ip(), at.port().checked_add(1)?);
                Some((at, std::net::TcpListener::bind(next).ok()?))
            })
            .expect("two ports in a row");
        let (fake, out) = started(free, &Default::default());
        let fake = fake.expect("falls back");
        assert_eq!(fake.api_url(), format!("{}v4/", fake.files_url()));
        let text = String::from_utf8(out.lock().expect("whole").clone()).expect("text");
        assert!(text.contains(&format!("{} is taken", taken.local_addr().expect("bound"))), "{text}");
    }

    #[test]
    fn script_file_sets_options_and_steps_and_errors_are_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("script.json");
        let text = r#"{"options": {"split_hosts": false, "max_upload": 10},
            "steps": [{"endpoint": "auth", "fault": "server_error", "times": 2}]}"#;
        std::fs::write(&path, text).expect("written");
        let script = read_script(&path).expect("a script");
        let fake = started(any(), &script).0.expect("ports are free");
        assert_eq!((fake.state().steps_left, fake.api_url()), (1, format!("{}v4/", fake.files_url())));
        for (wrong, what) in [("{\"option\": {}}", "option"), ("{\"options\": {\"max\": 1}}", "max"), ("{", "EOF")] {
            std::fs::write(&path, wrong).expect("written");
            let error = read_script(&path).expect_err("wrong").to_string();
            assert!(error.contains("script.json") && error.contains(what), "{error}");
        }
        assert!(read_script(&dir.path().join("none")).expect_err("none").to_string().contains("cannot read"));
    }
}
