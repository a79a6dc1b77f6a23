//! The HTTP server of the console. It runs on a separate thread, and limits connections, headers and bodies.
//!
//! A *central* console shows the calls of all sites (recorders), from a central archive. Any other console shows the
//! calls of one recorder.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use axum::{Extension, Router};
use crossbeam_channel::{Receiver, Sender};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::access::{self, PeerAddress, Viewer};
use super::accounts::password::new_token;
use super::accounts::{AccountError, Accounts, AuditAction};
use super::control::{self, MAX_REQUESTS, PauseRequest, ServiceStatus};
use super::convert::ConversionPermits;
use super::levels::LevelBoard;
use super::listening::Listenings;
use super::live::LiveCallCache;
use super::metrics::{self, MeasuredFolders};
use super::open_downloads::OpenDownloads;
use super::sign_in::SignInPauses;
use super::source::{AccountSource, CallSource, CentralArchive, CentralReader, ConsolePlace, DeliveryReasons};
use super::tls::{self, ConsoleTls, TlsError};
use super::{
    actions, assets, call, calls, doctor, health, ladder, live, lookup, openapi, sign_in, sites, sound, supervision,
    test_call,
};
use crate::call::engine::levels::CallLevels;
use crate::central::ArchiveError;
use crate::journal::{self, Journal};
use crate::ops::config::{Config, ConsoleConfig, TrustedProxy};
use crate::ops::disk::{DiskReader, disk_space};
use crate::ops::supervision::ThreadLife;
use crate::ops::thread::{PAUSE_AFTER_PANIC, StoppableThread, again_after_panic};
use crate::service::clock::{monotonic, wall_clock};

/// Reasons why the console cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsoleError {
    /// The certificate cannot be read or made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port cannot be opened, or the thread cannot be started.
    #[error(
        "the console cannot listen on {0} ({1}): set console.listen to another port, or stop the program that uses it"
    )]
    Io(SocketAddr, std::io::Error),
    /// The database of the accounts cannot be opened.
    #[error(transparent)]
    Accounts(#[from] AccountError),
    /// The central archive cannot be opened.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// The running console. Dropping this value stops the console.
pub(crate) struct ConsoleServer {
    addr: SocketAddr,
    tls: Option<ConsoleTls>,
    metrics_addr: Option<SocketAddr>,
    requests: Receiver<PauseRequest>,
    status: Arc<Mutex<ServiceStatus>>,
    levels: Arc<LevelBoard>,
    thread: Option<StoppableThread<watch::Sender<()>>>,
}

/// State that all request handlers share; clones refer to the same state.
#[derive(Clone)]
pub(super) struct ConsoleState {
    pub(super) requests: Sender<PauseRequest>,
    pub(super) status: Arc<Mutex<ServiceStatus>>,
    pub(super) journal_config: journal::config::Config,
    pub(super) accounts: Accounts,
    pub(super) pauses: Arc<SignInPauses>,
    pub(super) site: Arc<SiteFacts>,
    pub(super) listenings: Arc<Listenings>,
    pub(super) levels: Arc<LevelBoard>,
    pub(super) live_calls: Arc<LiveCallCache>,
    /// Permit to run one of the commands `callspan doctor` and `callspan test-call`. There is one permit, so only one
    /// command runs at a time.
    pub(super) doctor: Arc<Semaphore>,
    /// Permits to convert recordings for downloads.
    pub(super) conversions: ConversionPermits,
    /// Number of open downloads of each user.
    pub(super) downloads: OpenDownloads,
    /// Secret from which the CSRF tokens are made if the trusted proxy signs users in. Each start makes a new secret.
    pub(super) proxy_secret: String,
    journals: Arc<Mutex<Vec<Journal>>>,
    /// Function that returns the space of a folder's file system. In tests, the function returns invented numbers.
    pub(super) read_disk: DiskReader,
    /// The central archive; `None` if the console shows one recorder.
    pub(super) centre: Option<Arc<CentralArchive>>,
}

/// Facts about this installation that pages show or request handlers need.
#[derive(Clone, Debug, Default)]
pub(super) struct SiteFacts {
    /// URL by which browsers reach the console through a proxy, without a slash at its end; `None` without a proxy.
    pub(super) public_url: Option<String>,
    /// Whether browsers reach the console by https, which `__Host-` cookies need.
    pub(super) is_https: bool,
    /// Whether other machines can connect to the console directly.
    pub(super) is_open_to_network: bool,
    /// Whether requests from this machine need no sign-in while the console has no users.
    pub(super) is_open_to_this_machine: bool,
    /// Name of this machine in the network.
    pub(super) machine_name: String,
    /// The trusted proxy that signs users in; `None` if there is none.
    pub(super) trusted_proxy: Option<TrustedProxy>,
    /// Name of the recorder in the configuration (`calls.appliance`).
    pub(super) appliance: String,
    /// Folders of the recordings and of the spool (captured packets).
    pub(super) folders: [PathBuf; 2],
    /// State folder of the service, with its status file.
    pub(super) state_folder: PathBuf,
    /// Names of the network interfaces from which the service captures.
    pub(super) interfaces: Vec<String>,
    /// Configuration file of the service; `None` if the service was started without a file.
    pub(super) config_file: Option<PathBuf>,
    /// Beginning of the URL of a Pyrus task, which ends before the task id; `None` without Pyrus.
    pub(super) task_url: Option<String>,
    /// Dialling codes of this site. With them, the search finds a number in any notation.
    pub(super) dialling: DiallingCodes,
}

/// The dialling codes that may precede a number.
#[derive(Clone, Debug, Default)]
pub(super) struct DiallingCodes {
    /// International prefix, e.g. `00` or `810`.
    pub(super) international: String,
    /// National prefix, e.g. `0` or `8`.
    pub(super) national: String,
    /// Country code, e.g. `49` or `7`.
    pub(super) country: String,
}

impl SiteFacts {
    fn of(config: &Config, listen: SocketAddr, has_tls: bool) -> Self {
        let (numbers, console) = (&config.call.numbers, &config.console);
        let is_loopback = listen.ip().is_loopback();
        Self {
            is_https: has_tls || console.public_url.as_ref().is_some_and(|url| url.starts_with("https://")),
            is_open_to_network: !is_loopback,
            is_open_to_this_machine: is_loopback && console.public_url.is_none() && console.trusted_proxy.is_none(),
            machine_name: tls::machine_name(),
            trusted_proxy: console.trusted_proxy.clone(),
            public_url: console.public_url.clone(),
            appliance: config.call.appliance.clone(),
            folders: [config.recording.dir.clone(), config.spool.dir.clone()],
            state_folder: config.journal.dir.clone(),
            interfaces: config.capture.interfaces.clone(),
            config_file: config.file.clone(),
            task_url: config.pyrus.enabled.then(|| task_url(&config.pyrus.auth_url)),
            dialling: DiallingCodes {
                international: numbers.international_prefix.clone(),
                national: numbers.national_prefix.clone(),
                country: numbers.country_code.clone(),
            },
        }
    }
}

/// Returns the beginning of the URL of a Pyrus task, without the task id. Tasks of cloud Pyrus are on pyrus.com; tasks
/// of other servers are on the host of `auth_url`.
fn task_url(auth_url: &str) -> String {
    let (scheme, rest) = auth_url.split_once("://").unwrap_or(("https", auth_url));
    let host = rest.split('/').next().unwrap_or(rest);
    let host = if host == "pyrus.com" || host.ends_with(".pyrus.com") { "pyrus.com" } else { host };
    format!("{scheme}://{host}/t#id")
}

impl ConsoleState {
    /// Runs a query of calls on a thread for blocking work. It reads the journal, or the database of the central
    /// archive. Only for administrators does the result contain the reasons of failed deliveries.
    pub(super) async fn read<T, F>(&self, viewer: &Viewer, query: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn CallSource) -> Result<T, StateError> + Send + 'static,
    {
        let reasons = if viewer.user.is_admin() { DeliveryReasons::Shown } else { DeliveryReasons::Hidden };
        if self.centre.is_some() {
            return self.read_centre(move |reader| query(&AccountSource::new(reader, reasons))).await;
        }
        self.read_journal(move |journal| query(&AccountSource::new(journal, reasons))).await
    }

    /// Runs a query of the central archive's database on a thread for blocking work.
    pub(super) async fn read_centre<T, F>(&self, query: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: FnOnce(&CentralReader) -> Result<T, StateError> + Send + 'static,
    {
        let Some(centre) = self.centre.clone() else { return Err(StateError::NoArchive) };
        let runtime = tokio::runtime::Handle::current();
        let work = move || centre.read(&runtime, query);
        tokio::task::spawn_blocking(work).await.map_err(|_| StateError::Panicked)?
    }

    /// Returns whether the console shows one recorder or a central archive.
    pub(super) const fn place(&self) -> ConsolePlace {
        if self.centre.is_some() { ConsolePlace::Centre } else { ConsolePlace::Recorder }
    }

    /// Runs a query of the journal (SQLite database of calls) on a thread for blocking work. Journal handles are kept
    /// open for later queries, because opening a journal takes time.
    pub(super) async fn read_journal<T, F>(&self, query: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: FnOnce(&Journal) -> Result<T, StateError> + Send + 'static,
    {
        let (journals, config) = (Arc::clone(&self.journals), self.journal_config.clone());
        let work = move || {
            let kept = journals.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let journal = kept.map_or_else(|| Journal::open_read_only(&config), Ok)?;
            let result = query(&journal)?;
            let mut journals = journals.lock().unwrap_or_else(PoisonError::into_inner);
            if journals.len() < MAX_JOURNALS {
                journals.push(journal);
            }
            Ok(result)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| StateError::Panicked)?
    }

    /// Runs `work` with the accounts database on a thread for blocking work.
    pub(super) async fn with_accounts<T, F>(&self, work: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: FnOnce(&Accounts) -> Result<T, AccountError> + Send + 'static,
    {
        let accounts = self.accounts.clone();
        let done = tokio::task::spawn_blocking(move || work(&accounts)).await;
        done.map_err(|_| StateError::Panicked)?.map_err(StateError::Accounts)
    }

    /// Adds a row to the audit log, and waits until the row is on the disk.
    pub(super) async fn record(
        &self,
        viewer: &Viewer,
        action: AuditAction,
        call_id: Option<&str>,
        detail: &str,
    ) -> Result<(), StateError> {
        let (who, call_id, detail) = (viewer.user.name.clone(), call_id.map(str::to_owned), detail.to_owned());
        self.with_accounts(move |accounts| accounts.record(&who, action, call_id.as_deref(), &detail, wall_clock()))
            .await
    }
}

/// Reasons why the journal, the accounts or the archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    /// The journal (database of calls) reported an error.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The central archive reported an error.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The central archive was queried, but this console shows a single recorder and has no archive.
    #[error("this console has no archive")]
    NoArchive,
    /// The database of the accounts reported an error.
    #[error(transparent)]
    Accounts(AccountError),
    /// The work of a request panicked because of a bug.
    #[error("a thread of the console panicked")]
    Panicked,
}

impl ConsoleServer {
    /// Starts the console of one recorder.
    ///
    /// # Errors
    /// Fails with a [`ConsoleError`].
    pub(crate) fn start(listen: SocketAddr, config: &Config) -> Result<Self, ConsoleError> {
        Self::start_over(listen, config, None, disk_space)
    }

    /// Starts a central console, which shows the calls of a central archive.
    ///
    /// # Errors
    /// Fails with a [`ConsoleError`].
    pub(crate) fn start_centre(listen: SocketAddr, config: &Config) -> Result<Self, ConsoleError> {
        let centre = CentralArchive::open(&config.archive)?;
        Self::start_over(listen, config, Some(Arc::new(centre)), disk_space)
    }

    /// Starts the console of one recorder. The console shows the disk space that `read_disk` returns.
    #[cfg(test)]
    pub(super) fn start_with_disk(
        listen: SocketAddr,
        config: &Config,
        read_disk: DiskReader,
    ) -> Result<Self, ConsoleError> {
        Self::start_over(listen, config, None, read_disk)
    }

    fn start_over(
        listen: SocketAddr,
        config: &Config,
        centre: Option<Arc<CentralArchive>>,
        read_disk: DiskReader,
    ) -> Result<Self, ConsoleError> {
        let console = ConsoleConfig { listen: Some(listen), ..config.console.clone() };
        let tls = ConsoleTls::of(&console, &config.journal.dir)?;
        let failed = |error| ConsoleError::Io(listen, error);
        let listener = bind(listen)?;
        let addr = listener.local_addr().map_err(failed)?;
        let metrics_listener = config.console.metrics_listen.map(bind).transpose()?;
        let metrics_addr = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let folders = MeasuredFolders::of(config);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(MAX_BLOCKING)
            .enable_all()
            .build()
            .map_err(failed)?;
        let (requests_tx, requests) = crossbeam_channel::bounded(MAX_REQUESTS);
        let status = Arc::new(Mutex::new(ServiceStatus::default()));
        let levels = Arc::<LevelBoard>::default();
        let state = ConsoleState {
            requests: requests_tx,
            status: Arc::clone(&status),
            journal_config: config.journal.clone(),
            accounts: Accounts::open(&config.journal.dir)?,
            pauses: Arc::default(),
            site: Arc::new(SiteFacts::of(config, listen, tls.is_some())),
            listenings: Arc::default(),
            levels: Arc::clone(&levels),
            live_calls: Arc::default(),
            doctor: Arc::new(Semaphore::new(1)),
            conversions: ConversionPermits::default(),
            downloads: OpenDownloads::default(),
            proxy_secret: new_token()?,
            journals: Arc::default(),
            read_disk,
            centre,
        };
        let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
        let (stop, stopped) = watch::channel(());
        let place = state.place();
        // A central console has no metrics, so it gets no routes for them.
        let router = match place {
            ConsolePlace::Recorder => router(state).merge(metrics::local_routes(folders.clone())),
            ConsolePlace::Centre => centre_router(state),
        };
        let pages = ServedPages { listener, router, acceptor };
        let thread = StoppableThread::start_with("console", stop, ThreadLife::default(), move |life| {
            let metrics = ServedMetrics { listener: metrics_listener.as_ref(), folders: &folders };
            let serve = || runtime.block_on(serve_all(&pages, metrics, stopped.clone(), life, place));
            again_after_panic(serve, || is_stopped_within(&stopped, PAUSE_AFTER_PANIC));
            runtime.shutdown_background(); // does not wait for requests that hang on a disk
        });
        Ok(Self { addr, metrics_addr, tls, requests, status, levels, thread: Some(thread.map_err(failed)?) })
    }

    /// Returns the state of the console's thread, for the supervision of threads; `None` if the thread was stopped.
    pub(crate) fn life(&self) -> Option<ThreadLife> {
        self.thread.as_ref().map(StoppableThread::life)
    }

    /// Returns the next request to pause or resume a call; `None` if there is no request. Never waits.
    pub(crate) fn poll_request(&self) -> Option<PauseRequest> {
        self.requests.try_recv().ok()
    }

    /// Sets the counters of the service. The pages and `GET /api/status` show them.
    pub(crate) fn publish(&self, status: ServiceStatus) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Returns whether an open page shows live calls. If so, the levels (loudness) of these calls must be measured.
    pub(crate) fn wants_levels(&self) -> bool {
        self.levels.is_wanted()
    }

    /// Returns the ids of the calls whose levels (loudness) are to be measured now. Open live pages show these calls.
    /// If the pages show many calls, the calls are measured in turn.
    pub(crate) fn calls_with_wanted_levels(&self) -> Vec<String> {
        self.levels.next_asked()
    }

    /// Sets the levels (loudness) of calls that live pages show.
    pub(crate) fn publish_levels(&self, levels: Vec<CallLevels>) {
        self.levels.publish(levels);
    }

    /// Returns the separate address and port of the metrics (`console.metrics_listen`); `None` if none is configured.
    pub(crate) const fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// Returns the URL of the console for a browser.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.addr)
    }

    /// Returns the SHA-256 fingerprint of the certificate that this machine made, as browsers show it. Returns `None`
    /// for a configured certificate, and without TLS.
    pub(crate) fn own_fingerprint(&self) -> Option<&str> {
        self.tls.as_ref().filter(|tls| tls.is_self_made).map(|tls| tls.fingerprint.as_str())
    }

    /// Returns the address and port of the console.
    #[cfg(test)]
    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for ConsoleServer {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.stop();
        }
    }
}

fn bind(at: SocketAddr) -> Result<TcpListener, ConsoleError> {
    let failed = |error| ConsoleError::Io(at, error);
    let listener = TcpListener::bind(at).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// The pages of the console, and the listener at which browsers reach them.
struct ServedPages {
    listener: TcpListener,
    router: Router,
    acceptor: Option<TlsAcceptor>,
}

/// The metrics of a recorder, and the listener at which clients read them. The listener is `None` if the metrics have
/// no address of their own.
#[derive(Clone, Copy)]
struct ServedMetrics<'a> {
    listener: Option<&'a TcpListener>,
    folders: &'a MeasuredFolders,
}

/// Serves the console and the metrics until the console is stopped. Also reports signs of life to the supervision of
/// threads.
async fn serve_all(
    pages: &ServedPages,
    metrics: ServedMetrics<'_>,
    mut stopped: watch::Receiver<()>,
    life: &ThreadLife,
    place: ConsolePlace,
) {
    tokio::select! {
        () = serve_on(Some(&pages.listener), pages.router.clone(), pages.acceptor.clone()) => {}
        () = serve_on(metrics.listener, metrics::routes(metrics.folders.clone()), None) => {}
        () = give_signs_of_life(life, place) => {}
        _ = stopped.changed() => {}
    }
}

/// Reports a sign of life to the supervision of threads once a second.
///
/// At a recorder, a thread for blocking work sends the sign. If all these threads wait for a disk, the signs stop and
/// an alarm is raised. In a central console, the server's own thread sends the sign. There, systemd restarts the
/// service if the signs stop, and a restart does not help if only the database does not answer.
#[expect(clippy::disallowed_methods, reason = "signs of life have their own pace")]
async fn give_signs_of_life(life: &ThreadLife, place: ConsolePlace) {
    loop {
        match place {
            ConsolePlace::Centre => life.tick(),
            ConsolePlace::Recorder => {
                let life = life.clone();
                let _ = tokio::task::spawn_blocking(move || life.tick()).await; // fails when the runtime ends
            }
        }
        tokio::time::sleep(SIGN_OF_LIFE).await;
    }
}

/// Waits for `pause` after a panic of the thread. Returns true at once if the thread must stop.
#[expect(clippy::disallowed_methods, reason = "an IO module: a bug must not fill the log")]
fn is_stopped_within(stopped: &watch::Receiver<()>, pause: Duration) -> bool {
    let until = monotonic() + pause;
    let is_stopped = || stopped.has_changed().is_err();
    while !is_stopped() && monotonic() < until {
        std::thread::sleep(ACCEPT_PAUSE);
    }
    is_stopped()
}

/// Serves the connections of a listener; without a listener, waits for ever. If accepting fails because no file
/// descriptor is left, tries again later.
#[expect(clippy::disallowed_methods, reason = "a pause while no file descriptor is left")]
async fn serve_on(listener: Option<&TcpListener>, router: Router, tls: Option<TlsAcceptor>) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.try_clone().and_then(tokio::net::TcpListener::from_std) {
            Ok(listener) => return accept(listener, router, tls, MAX_CONNECTIONS).await,
            Err(error) => tracing::error!("the console cannot accept connections now: {error}"),
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Accepts connections, at most `limit` at the same time. Closes a connection if the client sends its request head too
/// slowly.
#[expect(clippy::disallowed_methods, reason = "a pause while no file descriptor is left")]
async fn accept(listener: tokio::net::TcpListener, router: Router, tls: Option<TlsAcceptor>, limit: usize) {
    let places = Arc::new(Semaphore::new(limit));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok((stream, peer)) => (stream, PeerAddress(peer.ip().to_canonical())),
            Err(error) => {
                tracing::warn!("the console cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await; // accepting failed, e.g. no file descriptor is left
                continue;
            }
        };
        let (router, tls) = (router.clone().layer(Extension(peer)), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, router).await,
                Some(tls) => {
                    let shaken = tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream)).await;
                    if let Ok(Ok(stream)) = shaken {
                        serve(stream, router).await;
                    }
                }
            }
            drop(place);
        });
    }
}

/// Serves a connection until the client closes it.
async fn serve<S>(stream: S, router: Router)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEAD);
    let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}

/// Returns the routes of a console for one recorder.
fn router(state: ConsoleState) -> Router {
    let routes = Router::new()
        .route("/calls/{id}/packets/{leg}", get(sound::packets))
        .route("/live", get(live::page))
        .route("/live/events", get(live::events))
        .route("/health", get(health::page))
        .route("/health/doctor", post(doctor::examine))
        .route("/health/test-call", post(test_call::make))
        .route("/health/retry", post(actions::retry_all))
        .route("/api/v1/delivery/retry", post(actions::retry_all))
        .route("/api/v1/calls/{id}/packets/{leg}", get(sound::packets))
        .route("/api/v1/calls/{id}/pause", post(control::pause))
        .route("/api/v1/calls/{id}/resume", post(control::resume))
        .route("/api/v1/status", get(control::status))
        .route("/api/status", get(control::status))
        .route("/api/calls/{id}/pause", post(control::pause))
        .route("/api/calls/{id}/resume", post(control::resume));
    guarded(routes.merge(common_routes()), state)
}

/// Returns the routes of a central console, which shows no live calls and no packets.
fn centre_router(state: ConsoleState) -> Router {
    let routes = Router::new().route("/sites", get(sites::page)).route("/api/v1/sites", get(sites::api));
    guarded(routes.merge(common_routes()), state)
}

/// Adds the access checks of [`access::guard`] to routes.
fn guarded(routes: Router<ConsoleState>, state: ConsoleState) -> Router {
    let guard = middleware::from_fn_with_state(state.clone(), access::guard);
    routes.fallback(access::not_found).layer(DefaultBodyLimit::max(access::MAX_BODY)).layer(guard).with_state(state)
}

/// Returns the routes that the console of a recorder and the central console share.
fn common_routes() -> Router<ConsoleState> {
    Router::new()
        .route("/", get(calls::home))
        .route("/calls", get(calls::page))
        .route("/calls.csv", get(calls::csv))
        .route("/calls/{id}", get(call::page))
        .route("/calls/{id}/record.json", get(call::download_record))
        .route("/calls/{id}/sound/{part}", get(sound::sound))
        .route("/calls/{id}/{action}", post(actions::change))
        .route("/why", get(lookup::page))
        .route("/audit", get(supervision::audit_page))
        .route("/audit.csv", get(supervision::audit_csv))
        .route("/users", get(supervision::users_page))
        .route("/login", get(sign_in::page).post(sign_in::sign_in))
        .route("/logout", post(sign_in::sign_out))
        .route("/assets/{name}", get(assets::asset))
        .route("/api/v1/calls", get(calls::api))
        .route("/api/v1/report", get(calls::report))
        .route("/api/v1/calls/{id}", get(call::api))
        .route("/api/v1/calls/{id}/peaks", get(call::peaks))
        .route("/api/v1/calls/{id}/audit", get(call::audit))
        .route("/api/v1/calls/{id}/ladder", get(ladder::api))
        .route("/api/v1/calls/{id}/delivery", get(call::delivery))
        .route("/api/v1/calls/{id}/notes", get(actions::notes))
        .route("/api/v1/calls/{id}/{action}", post(actions::change))
        .route("/api/v1/calls/{id}/parts/{part}/audio", get(sound::sound))
        .route("/api/v1/why", get(lookup::api))
        .route("/api/v1/audit", get(supervision::audit_api))
        .route("/api", get(openapi::page))
        .route("/api/v1/openapi.json", get(openapi::description))
}

/// Maximum number of simultaneous connections. It suffices for 50 users with several connections each. Further
/// connections wait.
const MAX_CONNECTIONS: usize = 512;
/// Maximum number of threads for blocking work, e.g. queries and files. It is small, because a password hash takes 19
/// MiB on its thread.
const MAX_BLOCKING: usize = 8;
/// Maximum number of open handles of the journal (database of calls) that are kept for later queries.
const MAX_JOURNALS: usize = 4;
/// Maximum time in which a client must send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of the head of a request, bytes. It limits the memory of a connection.
const MAX_HEAD: usize = 32 * 1024;
/// Interval at which the console's thread reports to the supervisor of threads that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Pause after a connection could not be accepted, e.g. because no file descriptor is left. Then the console tries
/// again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::supervision::Supervisor;

    #[test]
    fn silent_database_of_the_centre_does_not_stop_its_signs_of_life() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_time().build().expect("made");
        let (answer, query) = std::sync::mpsc::channel::<()>();
        let waiting = runtime.spawn_blocking(move || query.recv());
        let is_counted = |place| {
            let life = ThreadLife::default();
            let mut supervisor = Supervisor::default();
            supervisor.watch("console", life.clone(), SIGN_OF_LIFE);
            let begin = monotonic();
            supervisor.stalled(begin);
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = give_signs_of_life(&life, place) => {}
                    () = std::future::ready(()) => {}
                }
            });
            supervisor.stalled(begin + SIGN_OF_LIFE).is_empty()
        };
        assert!(is_counted(ConsolePlace::Centre));
        assert!(!is_counted(ConsolePlace::Recorder), "an alarm follows");
        drop(answer);
        assert!(runtime.block_on(waiting).is_ok_and(|answered| answered.is_err()));
    }

    #[test]
    fn connections_beyond_the_limit_wait_until_another_ends() {
        use std::io::{Read as _, Write as _};

        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("made");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("bound");
        let router = Router::new().route("/", get(|| async { "page" }));
        runtime.spawn(accept(listener, router, None, 2));
        let mut streams = [(); 3].map(|()| std::net::TcpStream::connect(address).expect("connects"));
        let [first, .., waiting] = &mut streams;
        waiting.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
        waiting.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        assert!(waiting.read(&mut [0; 1]).is_err(), "no answer while two connections are open");
        first.shutdown(std::net::Shutdown::Both).expect("open");
        waiting.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).expect("an answer");
        assert!(answer.ends_with("page"), "{answer}");
    }
}
