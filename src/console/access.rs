//! Access control. Every request passes through [`guard`], which checks the headers Host and Origin, finds the account,
//! and checks the CSRF token.

use std::sync::PoisonError;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::accounts::{UserAccount, password};
use super::control::refused;
use super::pages;
use super::pages::refusal::{self, RefusalReason};
use super::server::{ConsoleState, SiteFacts, StateError};
use super::source::ConsolePlace;
use super::text::{COOKIE, Lang};
use crate::call::record::CallRecord;
use crate::central::calls::call_key;
use crate::service::clock::wall_clock;
use crate::text::percent_encode;

/// The account that sent a request, and the facts about the request that pages need.
#[derive(Clone, Debug)]
pub(super) struct Viewer {
    /// The account that sent the request: a user, a token, or a person on this machine.
    pub(super) user: UserAccount,
    /// CSRF token that every form must repeat. It proves that no page of another site made the browser send the
    /// request. `None` for a request that needs no token, e.g. with an API token or without an account.
    pub(super) csrf: Option<String>,
    /// Language in which the pages of the response are written.
    pub(super) lang: Lang,
    /// Path and query of the request, for links to the same page in the other language.
    pub(super) here: String,
    /// How the sender proved to own the account, e.g. by the cookie of a session.
    pub(super) origin: ViewerOrigin,
    /// Whether the console shows one recorder or a central archive.
    pub(super) place: ConsolePlace,
    /// Numbers that the navigation shows beside its entries, e.g. the number of calls in progress.
    pub(super) counts: NavCounts,
}

impl Viewer {
    /// Returns the key that names a call in URLs, notes and the audit log. In the console of one recorder it is the
    /// call's id. In a central console it also names the site.
    pub(super) fn call_key(&self, record: &CallRecord) -> String {
        self.call_key_at(&record.appliance, &record.id)
    }

    /// Returns the key by which the pages name a call: its id, and in a central console also its site.
    pub(super) fn call_key_at(&self, site: &str, id: &str) -> String {
        match self.place {
            ConsolePlace::Recorder => id.to_owned(),
            ConsolePlace::Centre => call_key(site, id),
        }
    }
}

/// Numbers that the navigation shows beside its entries, e.g. open alarms. Only administrators see them, because they
/// include calls that other users may not know of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NavCounts {
    /// Number of calls in progress.
    pub(super) live: usize,
    /// Number of open alarms, i.e. of alarms about a problem that has not ended.
    pub(super) alarms: usize,
}

impl NavCounts {
    fn of(state: &ConsoleState, user: &UserAccount) -> Self {
        let status = *state.status.lock().unwrap_or_else(PoisonError::into_inner);
        if user.is_admin() { Self { live: status.calls_live, alarms: status.alarms } } else { Self::default() }
    }
}

/// How the sender of a request proved to own the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ViewerOrigin {
    /// The request has no account, so only the sign-in page is shown.
    Nobody,
    /// The connection comes from this machine, and the console has no users yet.
    ThisMachine,
    /// The request has the cookie of a session.
    Session,
    /// The trusted proxy named the user in a header.
    Proxy,
    /// The request has the API token of a program.
    Token,
}

/// IP address of the client at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerAddress(pub(super) std::net::IpAddr);

impl Viewer {
    /// Returns whether the viewer is a person on this machine who needs no account, because the console has no users.
    pub(super) const fn is_local(&self) -> bool {
        matches!(self.origin, ViewerOrigin::ThisMachine)
    }
}

/// Checks every request before it is handled, and adds the security headers to every response.
pub(super) async fn guard(State(state): State<ConsoleState>, request: Request, next: Next) -> Response {
    let asked = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair.starts_with("lang=")));
    let kept =
        asked.then(|| format!("{}={}; Path=/; SameSite=Lax; Max-Age={YEAR_S}", COOKIE, Lang::of(&request).code()));
    let reader =
        refusal::is_for_a_person(request.uri().path(), request.headers()).then(|| anonymous(&request, state.place()));
    let mut response = match admit(&state, request).await {
        Ok(request) => next.run(request).await,
        Err(response) => *response,
    };
    if let (Some(reader), Some(reason)) = (&reader, response.extensions().get::<RefusalReason>()) {
        response = refusal::response(reader, response.status(), reason);
    }
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(cookie) = kept.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
        headers.append(header::SET_COOKIE, cookie);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Returns the request with its [`Viewer`]. If the request is refused, returns the response instead.
async fn admit(state: &ConsoleState, request: Request) -> Result<Request, Box<Response>> {
    if is_foreign(request.headers(), &state.site) {
        return Err(Box::new(refused(
            StatusCode::FORBIDDEN,
            "the console does not answer under this address: use its own address, or set console.public_url",
        )));
    }
    let request = with_whole_body(request).await?;
    let path = request.uri().path();
    let is_public = path.starts_with("/assets/") || path == "/login";
    let nobody = anonymous(&request, state.place());
    let viewer = match identify(state, Credentials::of(state, &request), nobody.clone()).await {
        Ok(Some(viewer)) => viewer,
        Ok(None) if is_public => nobody,
        Ok(None) => return Err(Box::new(sign_in_first(request.uri()))),
        Err(error) => return Err(Box::new(failed(&error))),
    };
    let mut request = match &viewer.csrf {
        Some(csrf) if !matches!(*request.method(), Method::GET | Method::HEAD) && !is_public => {
            with_csrf_checked(request, csrf).await?
        }
        _ => request,
    };
    request.extensions_mut().insert(viewer);
    Ok(request)
}

/// The credentials that a request contains, i.e. its proof of an account.
enum Credentials {
    /// An API token of a program. If the token is wrong, the request is refused, even if it has other credentials.
    Token(String),
    /// The user name in the header of the trusted proxy.
    Proxy(String),
    /// The cookie of a session; `None` if the request has no credentials at all.
    Cookie(Option<String>),
}

impl Credentials {
    fn of(state: &ConsoleState, request: &Request) -> Self {
        let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(token) = text("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
            return Self::Token(token.trim().to_owned());
        }
        let peer = request.extensions().get::<PeerAddress>();
        let proxy = state.site.trusted_proxy.as_ref().filter(|proxy| peer.is_some_and(|at| at.0 == proxy.address));
        match proxy.and_then(|proxy| text(&proxy.header)) {
            Some(name) => Self::Proxy(name.to_owned()),
            None => Self::Cookie(cookie(request.headers(), session_cookie(state)).map(str::to_owned)),
        }
    }
}

/// Returns the account that a request has proved to own; `None` if it has proved none. While the console has no users,
/// a request from this machine has the account of the local administrator.
async fn identify(
    state: &ConsoleState,
    credentials: Credentials,
    nobody: Viewer,
) -> Result<Option<Viewer>, StateError> {
    let is_local_allowed = state.site.is_open_to_this_machine;
    let proxy_secret = state.proxy_secret.clone();
    let found = state
        .with_accounts(move |accounts| match credentials {
            Credentials::Token(text) => {
                let token = accounts.token(&text, wall_clock())?;
                Ok(token.map(|token| (token.account, None, ViewerOrigin::Token)))
            }
            Credentials::Proxy(name) => {
                let csrf = password::token_hash(&format!("{proxy_secret}{name}"));
                Ok(accounts.user(&name)?.map(|user| (user, Some(csrf), ViewerOrigin::Proxy)))
            }
            Credentials::Cookie(token) => {
                let session = token.map(|token| accounts.session(&token, wall_clock())).transpose()?.flatten();
                match session {
                    Some(session) => Ok(Some((session.user, Some(session.csrf), ViewerOrigin::Session))),
                    None if is_local_allowed && !accounts.has_users()? => {
                        Ok(Some((UserAccount::of_this_machine(), None, ViewerOrigin::ThisMachine)))
                    }
                    None => Ok(None),
                }
            }
        })
        .await?;
    Ok(found.map(|(user, csrf, origin)| {
        let counts = NavCounts::of(state, &user);
        Viewer { user, csrf, origin, counts, ..nobody }
    }))
}

fn anonymous(request: &Request, place: ConsolePlace) -> Viewer {
    let mut user = UserAccount::of_this_machine();
    (user.role, user.rights) = (super::accounts::AccountRole::Listener, Vec::new());
    let here = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Viewer {
        user,
        csrf: None,
        lang: Lang::of(request),
        here,
        origin: ViewerOrigin::Nobody,
        counts: NavCounts::default(),
        place,
    }
}

/// Reads the body of a request completely. A client that sends it too slowly loses its connection.
async fn with_whole_body(request: Request) -> Result<Request, Box<Response>> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(Err(_)) => Err(Box::new(refused(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large"))),
        Err(_) => Err(Box::new(refused(StatusCode::REQUEST_TIMEOUT, "the request came too slowly"))),
    }
}

/// Checks the CSRF token in a header or in a form field. Returns the request with an unchanged body.
async fn with_csrf_checked(request: Request, csrf: &str) -> Result<Request, Box<Response>> {
    let is_right = |given: &str| password::is_same_secret(given, csrf);
    if request.headers().get(CSRF_HEADER).and_then(|v| v.to_str().ok()).is_some_and(is_right) {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let too_large = |_| Box::new(refused(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large"));
    let bytes: Bytes = axum::body::to_bytes(body, MAX_BODY).await.map_err(too_large)?;
    let form = std::str::from_utf8(&bytes).unwrap_or_default();
    let given = form.split('&').find_map(|field| field.strip_prefix("csrf="));
    if !given.is_some_and(is_right) {
        return Err(Box::new(refused(StatusCode::FORBIDDEN, "the page is too old: open it again")));
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

fn sign_in_first(uri: &Uri) -> Response {
    if uri.path().starts_with("/api/") {
        return refused(StatusCode::UNAUTHORIZED, "sign in first: POST /login");
    }
    let here = uri.path_and_query().map_or("/", |path| path.as_str());
    Redirect::to(&format!("/login?next={}", percent_encode(here, b"/"))).into_response()
}

/// Returns whether a request comes from a page of another web site. Such a page can send requests to the console, and
/// its host name may resolve to the console's address. But it cannot change the headers Origin and Host, which name the
/// other site.
fn is_foreign(headers: &HeaderMap, site: &SiteFacts) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let public = site.public_url.as_deref().and_then(|url| url.split_once("://")).map(|(_, host)| host);
    let is_ours = |host: &str| match public {
        Some(public) => host.eq_ignore_ascii_case(public),
        None if site.is_open_to_network => is_address_or(host, &site.machine_name),
        None => is_local(host),
    };
    let host = text(header::HOST).is_none_or(|host| !is_ours(host));
    host || text(header::ORIGIN).is_some_and(|origin| !origin.split_once("//").is_some_and(|(_, host)| is_ours(host)))
}

/// Returns whether a host is an IP address or the name of this machine. The host name of another web site gives false,
/// even if it resolves to this machine.
fn is_address_or(host: &str, machine: &str) -> bool {
    let name = name_of(host);
    let is_machine = name.split('.').next().is_some_and(|first| first.eq_ignore_ascii_case(machine));
    is_local(host) || name.parse::<std::net::IpAddr>().is_ok() || (is_machine && !machine.is_empty())
}

/// Returns the host in `host:port`, without the port.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        // A host such as `[::1].evil.example` begins like an IPv6 address, but is a name. So it is returned whole, and
        // does not pass as loopback.
        Some(rest) => {
            rest.split_once(']').filter(|(_, port)| port.is_empty() || port.starts_with(':')).map_or(host, |(ip, _)| ip)
        }
        None => host.split(':').next().unwrap_or(host),
    }
}

/// Returns whether the host is the loopback interface: `localhost`, `127.0.0.1:8080`, `[::1]:8080`.
pub(super) fn is_local(host: &str) -> bool {
    let name = name_of(host);
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Returns the name of the cookie with the session token. Browsers accept the prefix `__Host-` only with https, so
/// plain HTTP on loopback uses a name without it.
pub(super) fn session_cookie(state: &ConsoleState) -> &'static str {
    if state.site.is_https { "__Host-callspan" } else { "callspan" }
}

/// Returns the value of a cookie in a request; `None` if the request lacks the cookie.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Logs an error of the journal (database of calls), the accounts or the archive. Returns the response to the client,
/// which contains no details.
pub(super) fn failed(error: &StateError) -> Response {
    tracing::error!("the console cannot answer a request: {error}");
    refused(
        StatusCode::SERVICE_UNAVAILABLE,
        match error {
            StateError::Archive(_) => "the archive of all sites does not answer; recording goes on",
            _ => "the journal does not answer; recording goes on",
        },
    )
}

/// Responds to requests for unknown pages, and for pages that the account may not see.
pub(super) async fn not_found(request: Request) -> Response {
    missing(request.extensions().get::<Viewer>(), request.uri().path().starts_with("/api/"))
}

/// Returns the response "not found" as a page or as JSON.
pub(super) fn missing(viewer: Option<&Viewer>, is_api: bool) -> Response {
    match viewer {
        Some(viewer) if !is_api => (StatusCode::NOT_FOUND, pages::missing(viewer)).into_response(),
        _ => refused(StatusCode::NOT_FOUND, "not found, or outside the scope of this account"),
    }
}

/// Maximum size of a request's body, bytes. Bodies are forms, which are much smaller.
pub(super) const MAX_BODY: usize = 16 * 1024;
/// Maximum time in which a client must send the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for which the browser stores the cookie with the language, seconds: a year.
const YEAR_S: u32 = 31_536_000;
/// Header in which scripts repeat the CSRF token.
const CSRF_HEADER: &str = "x-csrf-token";

const SECURITY_HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; media-src 'self' blob:; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    // The value `no-referrer` is not used. With `no-referrer`, a browser sends `Origin: null` with the console's own
    // forms, and the origin check would refuse the forms.
    ("referrer-policy", "same-origin"),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];
