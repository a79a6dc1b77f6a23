//! A faithful fake of the Pyrus API (v4) for calls. It serves `auth`, `files/upload`, `integrations/call` and
//! `integrations/attachcallrecord`. It runs within a test, on random loopback ports ([`FakePyrus`]), or as a command
//! ([`serve()`]).
//!
//! - If Pyrus does not document a behaviour, the fake has an option for it ([`FakeOptions`]). Tests run with every
//!   value of the option.
//! - A script of faults for each endpoint makes requests fail, before or after they take effect ([`FaultStep`]).
//! - Mistakes of the client are *violations* of the API. The fake records a violation ([`FakePyrus::violations`]) but
//!   does not change its reply.
//! - A virtual clock ([`FakePyrus::advance`]) determines lifetimes of tokens, rate windows, and the removal of
//!   *orphans*, i.e. files that no task uses. Waits of faults use real time, because the client's time-outs use it.
//! - Memory is bounded: files up to 64 MiB are kept, at most 512 MiB in total. Other files are only hashed.
//!
//! The fake proves nothing about undocumented behaviour of the real Pyrus. Undocumented are e.g. status codes of
//! telephony errors, the effect of repeated requests, the order of checks, and the lifetimes of tokens and orphans.

mod clock;
mod control;
mod error_texts;
mod fault_effects;
mod faults;
mod http;
mod multipart;
mod options;
mod page;
mod reply;
mod routes;
mod serve;
mod server;
mod state;
mod telephony;
mod violations;
mod world;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use control::{ScriptFile, ScriptStep};
pub use faults::{FakeEndpoint, FaultStep, FaultTiming, PyrusFault, ScriptedBody, WorldChange};
pub use options::{
    AttachOkBody, ClockMode, ErrorLanguage, FakeAccount, FakeOptions, FakePerson, FakeUser, IdStyle, Md5Case,
    PyrusMode, RateLimit, RepeatCall, ResponsibleEmpty, TaskPolicy, TooLargeReply, UnknownTaskError, UrlSlash,
};
pub use routes::ApiHost;
pub use serve::serve;
pub use state::{
    CommentKind, FakeState, PyrusTask, RegisteredCall, StoredFile, TaskAttachment, TaskComment, TokenSnapshot,
    TokenValidity, UserSnapshot,
};
pub use world::RequestLogEntry;

use server::{ListenerRole, RequestObserver, ServerShared};
use world::{FakeWorld, ListenerUrls};

/// Reasons why the fake cannot run.
#[derive(Debug, thiserror::Error)]
pub enum FakeError {
    /// The fake cannot open a listener on an address.
    #[error("cannot listen on {address}: {source}{}", remedy(.source))]
    Listen {
        /// The address that cannot be used.
        address: SocketAddr,
        /// Error of the operating system for this address.
        source: std::io::Error,
    },
    /// The async runtime or the thread cannot be started.
    #[error("cannot start the fake Pyrus: {0}")]
    Start(#[source] std::io::Error),
    /// The script file cannot be read.
    #[error("cannot read the script {path}: {source}")]
    ReadScript {
        /// Path of the script file that cannot be read.
        path: std::path::PathBuf,
        /// Error of the operating system for this file.
        source: std::io::Error,
    },
    /// The script file is not valid.
    #[error("the script {path} is wrong: {reason}")]
    BadScript {
        /// Path of the script file.
        path: std::path::PathBuf,
        /// Description of the problem, with its position in the file.
        reason: String,
    },
}

/// A running fake Pyrus. Dropping this value stops the fake.
pub struct FakePyrus {
    shared: Arc<ServerShared>,
    urls: ListenerUrls,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakePyrus {
    /// Starts the fake on random loopback ports.
    pub fn start(options: FakeOptions) -> Result<FakePyrus, FakeError> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let roles = if options.split_hosts {
            vec![
                ListenerRole::Api(ApiHost::Accounts),
                ListenerRole::Api(ApiHost::Api),
                ListenerRole::Api(ApiHost::Files),
                ListenerRole::Control,
            ]
        } else {
            vec![ListenerRole::Api(ApiHost::One), ListenerRole::Control]
        };
        let places: Vec<_> = roles.into_iter().map(|role| (role, any)).collect();
        FakePyrus::start_at(options, &places, None)
    }

    /// Changes options while the fake runs.
    pub fn options(&self, change: impl FnOnce(&mut FakeOptions)) {
        let mut world = self.shared.world();
        let mut options = world.options.clone();
        change(&mut options);
        world.set_options(options);
    }

    /// Appends a fault step to the queue of an endpoint.
    pub fn script(&self, endpoint: FakeEndpoint, step: impl Into<FaultStep>) {
        self.shared.world().script.push(endpoint, step.into());
        self.shared.apply_refusals_and_wait();
    }

    /// Removes all queued fault steps.
    pub fn clear_script(&self) {
        self.shared.world().script.clear();
    }

    /// Changes the state of the fake as a person in Pyrus or another client could do it.
    pub fn change(&self, change: WorldChange) {
        self.shared.world().change(&change);
    }

    /// Advances the virtual clock.
    pub fn advance(&self, by: Duration) {
        self.shared.world().clock.advance(by);
    }

    /// Returns the virtual time since the Unix epoch.
    pub fn now(&self) -> Duration {
        self.shared.world().clock.now()
    }

    /// Informs the fake that the tested client was restarted. So its next `auth` request is not a violation.
    pub fn client_restarted(&self) {
        self.shared.world().checker.client_restarted();
    }

    /// Returns a snapshot of the fake's state.
    pub fn state(&self) -> FakeState {
        self.shared.world().state()
    }

    /// Returns the violations (mistakes of the client) so far.
    pub fn violations(&self) -> Vec<String> {
        self.shared.world().checker.violations()
    }

    /// Removes all recorded violations, e.g. those that a test expects.
    pub fn clear_violations(&self) {
        self.shared.world().checker.clear();
    }

    /// Returns the finished requests in the order in which they ended, at most the last 50,000.
    pub fn log(&self) -> Vec<RequestLogEntry> {
        self.shared.world().log()
    }

    /// Returns the complete URL of the endpoint `auth`.
    pub fn auth_url(&self) -> String {
        format!("{}api/v4/auth", self.urls.accounts)
    }

    /// Returns the base URL of the API. In cloud mode it is the URL in the `auth` reply; for a server on premises it is
    /// `…/api/v4/`.
    pub fn api_url(&self) -> String {
        match self.shared.world().options.mode {
            PyrusMode::Cloud => self.urls.api.clone(),
            PyrusMode::Onprem | PyrusMode::LegacyOnprem => format!("{}api/v4/", self.urls.accounts),
        }
    }

    /// Returns the base URL under which files are uploaded.
    pub fn files_url(&self) -> String {
        match self.shared.world().options.mode {
            PyrusMode::Cloud => self.urls.files.clone(),
            PyrusMode::Onprem | PyrusMode::LegacyOnprem => self.urls.accounts.clone(),
        }
    }

    /// Returns the base URL of the control paths and the web page.
    pub fn control_url(&self) -> String {
        self.urls.control.clone()
    }

    fn start_at(
        options: FakeOptions,
        places: &[(ListenerRole, SocketAddr)],
        observer: Option<RequestObserver>,
    ) -> Result<FakePyrus, FakeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(FakeError::Start)?;
        let bound = {
            let _context = runtime.enter();
            places.iter().map(|(role, at)| bind(*role, *at)).collect::<Result<Vec<_>, _>>()
        };
        let listeners = match bound {
            Ok(listeners) => listeners,
            Err(error) => {
                runtime.shutdown_background(); // a plain drop would panic within another async runtime
                return Err(error);
            }
        };
        let urls = urls(&listeners);
        let roles: Vec<ListenerRole> = listeners.iter().map(|(role, ..)| *role).collect();
        let shared = Arc::new(ServerShared::new(FakeWorld::new(options, urls.clone()), &roles, observer));
        let (stop, stopped) = oneshot::channel();
        let world = Arc::clone(&shared);
        let serve = move || {
            runtime.block_on(async move {
                for (role, _, listener) in listeners {
                    tokio::spawn(server::accept(Arc::clone(&world), listener, role));
                }
                let _ = stopped.await;
            });
        };
        let thread = std::thread::Builder::new().name("fake-pyrus".into()).spawn(serve).map_err(FakeError::Start)?;
        Ok(FakePyrus { shared, urls, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for FakePyrus {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for FakePyrus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").field("urls", &self.urls).finish_non_exhaustive()
    }
}

fn bind(role: ListenerRole, at: SocketAddr) -> Result<(ListenerRole, SocketAddr, TcpListener), FakeError> {
    let fail = |source| FakeError::Listen { address: at, source };
    let listener = server::listen(at).map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    Ok((role, address, listener))
}

fn urls(listeners: &[(ListenerRole, SocketAddr, TcpListener)]) -> ListenerUrls {
    let base = |wanted: &dyn Fn(ListenerRole) -> bool| {
        let found = listeners.iter().find(|(role, ..)| wanted(*role));
        found.map(|(_, at, _)| format!("http://{}/", reachable(*at))).unwrap_or_default()
    };
    let of = |host: ApiHost| base(&|role| matches!(role.host(), Some(h) if h == host || h == ApiHost::One));
    ListenerUrls {
        accounts: of(ApiHost::Accounts),
        api: format!("{}v4/", of(ApiHost::Api)),
        files: of(ApiHost::Files),
        control: base(&|role| matches!(role, ListenerRole::Control | ListenerRole::Both(_))),
    }
}

/// Replaces an unspecified address (`0.0.0.0` or `::`) by loopback, because clients cannot connect to an unspecified
/// address.
fn reachable(at: SocketAddr) -> SocketAddr {
    match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, at.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, at.port()).into(),
        _ => at,
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; another program has this port: stop it, or choose another one with --listen"
        }
        std::io::ErrorKind::PermissionDenied => {
            "; ports under 1024 need a privilege: choose a higher one with --listen"
        }
        std::io::ErrorKind::AddrNotAvailable => "; this machine has no such address: use 127.0.0.1:PORT",
        _ => "",
    }
}
