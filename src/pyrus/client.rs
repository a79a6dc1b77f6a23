//! Sends single requests to Pyrus and returns their outcomes.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::Error;
use super::config::{Config, UploadVia};
use super::upload::{UploadForm, UploadProgress};
use super::urls::{AuthUrl, RequestUrls};
use crate::delivery::{
    DeliveryAction, PyrusRequest, PyrusResponse, RateLimitHeaders, RequestFailure, RequestOutcome, TokenId, WavSlice,
};
use crate::text::error_chain;

/// Maximum durations of the parts of a request to Pyrus.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimeouts {
    /// Maximum time for opening the connection, including TLS.
    pub connect: Duration,
    /// Maximum time for a request with a JSON body, from its start to the end of its response.
    pub json: Duration,
    /// Maximum time in which an upload sends nothing. It is longer than 40 s, after which the proxy of Pyrus responds
    /// with status 504. That response tells the cause better than our timeout.
    pub upload_idle: Duration,
    /// Minimum time limit for a whole upload. Large files get more time.
    pub upload_least: Duration,
}

impl Default for RequestTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            json: Duration::from_secs(120),
            upload_idle: Duration::from_secs(60),
            upload_least: Duration::from_secs(20 * 60),
        }
    }
}

/// The HTTP client for Pyrus. It holds the security key and the access token, and never prints either of them.
pub(crate) struct PyrusClient {
    http: reqwest::Client,
    auth_url: AuthUrl,
    credentials: Mutex<LoginCredentials>,
    via: UploadVia,
    timeouts: RequestTimeouts,
    session: Mutex<Option<Arc<TokenSession>>>,
}

/// The bot's login name and security key. A reload of the configuration can replace both.
#[derive(Clone)]
struct LoginCredentials {
    login: String,
    key: SecretString,
    /// File that contains the security key; `None` if no file is configured. The file is read at each login, so a new
    /// key needs no restart.
    key_file: Option<PathBuf>,
    person_id: Option<u64>,
}

impl LoginCredentials {
    fn new(config: &Config) -> Result<Self, Error> {
        let key = key(config)?;
        let is_of_file = |path: &&PathBuf| read_key(path).is_some_and(|k| k.expose_secret() == key.expose_secret());
        let key_file = config.security_key_file.as_ref().filter(is_of_file).cloned();
        Ok(Self { login: config.login.clone(), key_file, key, person_id: config.person_id })
    }
}

/// An access token of Pyrus, and the URLs to which the token may be sent.
struct TokenSession {
    id: TokenId,
    bearer: HeaderValue,
    targets: RequestUrls,
}

impl TokenSession {
    /// Masks the token in the text of a response. A server may quote the request in its response, and the token must
    /// not get into the log or the journal.
    fn without_token(&self, outcome: RequestOutcome) -> RequestOutcome {
        let RequestOutcome::Response(mut answer) = outcome else { return outcome };
        let bearer = self.bearer.as_bytes();
        let token = bearer.strip_prefix(b"Bearer ").unwrap_or(bearer);
        answer.body = without(answer.body, token);
        RequestOutcome::Response(answer)
    }
}

/// Replaces every occurrence of the token in a text by `[token]`.
fn without(text: Vec<u8>, token: &[u8]) -> Vec<u8> {
    let mut places = memchr::memmem::find_iter(&text, token).filter(|_| !token.is_empty()).peekable();
    if places.peek().is_none() {
        return text;
    }
    let (mut masked, mut end) = (Vec::with_capacity(text.len()), 0);
    for at in places {
        masked.extend_from_slice(&text[end..at]);
        masked.extend_from_slice(b"[token]");
        end = at + token.len();
    }
    masked.extend_from_slice(&text[end..]);
    masked
}

#[derive(Serialize)]
struct AuthBody<'a> {
    login: &'a str,
    security_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    person_id: Option<u64>,
}

impl std::fmt::Debug for PyrusClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("auth_url", &self.auth_url).finish_non_exhaustive()
    }
}

impl PyrusClient {
    /// Creates the client: reads the security key and the CA file, and prepares TLS. Sends no request.
    ///
    /// # Errors
    /// Returns an error if a setting is wrong or a file cannot be read.
    pub(crate) fn new(config: &Config, timeouts: RequestTimeouts) -> Result<Self, Error> {
        let auth_url = AuthUrl::new(&config.auth_url).map_err(Error::Config)?;
        for (name, value) in [("login", &config.login), ("account_id", &config.account_id)] {
            if value.trim().is_empty() {
                return Err(Error::Config(format!("{name} is missing")));
            }
        }
        Ok(Self {
            http: http_client(config, &auth_url, timeouts)?,
            auth_url,
            credentials: Mutex::new(LoginCredentials::new(config)?),
            via: config.upload_via,
            timeouts,
            session: Mutex::new(None),
        })
    }

    /// Replaces login, security key and person id for the next login.
    ///
    /// # Errors
    /// Returns an error if there is no key or its file cannot be read; the old values remain.
    pub(crate) fn set_credentials(&self, config: &Config) -> Result<(), Error> {
        let credentials = LoginCredentials::new(config)?;
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = credentials;
        Ok(())
    }

    /// Sends a request and returns its outcome, which may be a failure. This function reads the token at once, because
    /// the token may be replaced before the future is polled.
    pub(crate) fn execute(self: Arc<Self>, action: DeliveryAction) -> impl Future<Output = RequestOutcome> + Send {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let session = session.filter(|s| s.id == action.token);
        async move {
            match (action.request, session) {
                (PyrusRequest::Auth, _) => self.auth(action.token).await,
                (PyrusRequest::Register(body), Some(s)) => self.json(&s.targets.call, &s, &body).await,
                (PyrusRequest::Attach(body), Some(s)) => self.json(&s.targets.attach, &s, &body).await,
                (PyrusRequest::Upload { path, name, slice }, Some(s)) => {
                    self.upload(&s, Path::new(&path), slice, name).await
                }
                (_, None) => RequestOutcome::Failed(RequestFailure::NotSent(String::from(
                    "the token was replaced before the request was sent",
                ))),
            }
        }
    }

    async fn auth(&self, id: TokenId) -> RequestOutcome {
        let LoginCredentials { login, key, key_file, person_id } =
            self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let key = key_file.as_deref().and_then(read_key).unwrap_or(key);
        let body = AuthBody { login: &login, security_key: key.expose_secret(), person_id };
        let outcome = self.send_json(self.http.post(self.auth_url.auth().clone()), &body).await;
        let RequestOutcome::Response(answer) = &outcome else { return outcome };
        if !(200..300).contains(&answer.status) {
            return outcome;
        }
        match self.open_session(id, &answer.body) {
            Ok(session) => {
                *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session.map(Arc::new);
                outcome
            }
            Err(message) => RequestOutcome::Failed(RequestFailure::Refused(message)),
        }
    }

    /// Opens a session with the token in the body of an `auth` response. Returns `None` if the body contains no token.
    fn open_session(&self, id: TokenId, body: &[u8]) -> Result<Option<TokenSession>, String> {
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else { return Ok(None) };
        let text = |key: &str| json.get(key).and_then(|v| v.as_str()).filter(|t| !t.trim().is_empty());
        let Some(token) = text("access_token") else { return Ok(None) };
        let targets = self.auth_url.targets(text("api_url"), text("files_url"), self.via)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
            String::from("the token from Pyrus contains characters that HTTP forbids: check auth_url in [pyrus]")
        })?;
        bearer.set_sensitive(true);
        Ok(Some(TokenSession { id, bearer, targets }))
    }

    async fn json<T: Serialize + Sync>(&self, url: &reqwest::Url, session: &TokenSession, body: &T) -> RequestOutcome {
        let outcome =
            self.send_json(self.http.post(url.clone()).header(AUTHORIZATION, session.bearer.clone()), body).await;
        session.without_token(outcome)
    }

    async fn send_json<T: Serialize + Sync>(&self, request: RequestBuilder, body: &T) -> RequestOutcome {
        let body = match serde_json::to_vec(body) {
            Ok(body) => body,
            Err(e) => return RequestOutcome::Failed(RequestFailure::Refused(e.to_string())),
        };
        let exchange = async {
            match request.header(CONTENT_TYPE, "application/json").body(body).send().await {
                Ok(response) => read_response(response).await,
                Err(e) => RequestOutcome::Failed(failure(e)),
            }
        };
        match tokio::time::timeout(self.timeouts.json, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => RequestOutcome::Failed(RequestFailure::Unanswered(format!(
                "no response within {:?}",
                self.timeouts.json
            ))),
        }
    }

    async fn upload(
        &self,
        session: &TokenSession,
        path: &Path,
        slice: Option<WavSlice>,
        name: String,
    ) -> RequestOutcome {
        let UploadForm { form, length, progress } = match UploadForm::open(path, slice, name).await {
            Ok(made) => made,
            Err(e) => {
                // An error without an OS error number comes from [`UploadForm::open`] itself: the file is empty, or it
                // is not a recording. It counts as a missing file.
                let is_gone = e.kind() == std::io::ErrorKind::NotFound || e.raw_os_error().is_none();
                let text = unreadable(path, &e.to_string());
                let failure = if is_gone { RequestFailure::NoFile(text) } else { RequestFailure::FileError(text) };
                return RequestOutcome::Failed(failure);
            }
        };
        let request = self
            .http
            .post(session.targets.upload.clone())
            .header(AUTHORIZATION, session.bearer.clone())
            .multipart(form);
        let exchange = async {
            // The library hyper reads the response while it sends the body. So a response before the end of the body,
            // e.g. 401 or 413, ends the upload.
            match request.send().await {
                Ok(response) => read_response(response).await,
                Err(e) => RequestOutcome::Failed(failure(e)),
            }
        };
        let time_limit = self.timeouts.upload_least.max(Duration::from_secs(length / SLOWEST_BYTES_PER_S));
        let outcome = tokio::select! {
            outcome = exchange => outcome,
            () = self.watch_for_stall(&progress, length) => {
                RequestOutcome::Failed(RequestFailure::Unanswered(format!("the upload stalled for {:?}", self.timeouts.upload_idle)))
            }
            () = sleep(time_limit) => RequestOutcome::Failed(RequestFailure::Unanswered(format!("the upload took longer than {time_limit:?}"))),
        };
        match session.without_token(outcome) {
            RequestOutcome::Response(answer) => {
                RequestOutcome::Response(PyrusResponse { sent_md5: progress.md5(), ..answer })
            }
            RequestOutcome::Failed(failure) => {
                let by_file = progress.read_error().map(|e| RequestFailure::FileError(unreadable(path, &e)));
                RequestOutcome::Failed(by_file.unwrap_or(failure))
            }
        }
    }

    /// Waits until the upload stalls: no byte was sent for `upload_idle`, or no response arrives after the last byte.
    /// The limit for the response includes the time in which the operating system sends its buffered bytes.
    async fn watch_for_stall(&self, progress: &UploadProgress, length: u64) {
        let interval = self.timeouts.upload_idle / 10;
        let longest_wait =
            self.timeouts.json + Duration::from_secs(length.min(SYSTEM_BUFFER_BYTES) / SLOWEST_BYTES_PER_S);
        let mut unanswered = Duration::ZERO;
        loop {
            sleep(interval).await;
            match progress.stalled() {
                Some(stalled) if stalled >= self.timeouts.upload_idle => return,
                Some(_) => {}
                None => unanswered += interval,
            }
            if unanswered >= longest_wait {
                return;
            }
        }
    }
}

fn unreadable(path: &Path, error: &str) -> String {
    format!("the recording {} cannot be read ({error}): make the file readable, or restore it", path.display())
}

fn http_client(config: &Config, auth_url: &AuthUrl, timeouts: RequestTimeouts) -> Result<reqwest::Client, Error> {
    // `install_default` fails if the process already has a default crypto provider. That is no problem.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("callspan/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(timeouts.connect)
        .http1_only() // with HTTP/2 it would be uncertain which requests were sent
        .pool_idle_timeout(POOL_IDLE)
        .referer(false);
    if auth_url.is_loopback() {
        builder = builder.no_proxy();
    }
    if let Some(path) = &config.ca_file {
        let bad = |reason: String| Error::CaFile { path: path.clone(), reason };
        let pem = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| bad(e.to_string()))?;
        if certificates.is_empty() {
            return Err(bad(String::from("it contains no certificate")));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|e| Error::Http(error_chain(&e)))
}

fn key(config: &Config) -> Result<SecretString, Error> {
    let key = match (&config.security_key, &config.security_key_file) {
        (Some(key), _) => key.clone(),
        (None, Some(path)) => {
            let text = read_key_file(path).map_err(|source| Error::KeyFile { path: path.clone(), source })?;
            SecretString::from(text.trim().to_owned())
        }
        (None, None) => SecretString::from(String::new()),
    };
    if key.expose_secret().is_empty() {
        return Err(Error::Config(String::from(
            "security_key is missing: set security_key_file, or the environment variable CALLSPAN_PYRUS_SECURITY_KEY",
        )));
    }
    Ok(key)
}

/// Reads the security key from a file. Returns `None` if the file cannot be read or does not contain exactly one line.
fn read_key(path: &Path) -> Option<SecretString> {
    let text = read_key_file(path).ok()?;
    let key = text.trim();
    (!key.is_empty() && key.lines().count() == 1).then(|| SecretString::from(key.to_owned()))
}

/// Reads the beginning of a file with the security key. Refuses a pipe or a device, because reading it may never end.
fn read_key_file(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_KEY_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Reads a response. The body is cut after [`MAX_RESPONSE_BYTES`]; a cut body is not valid JSON and counts as an error.
async fn read_response(mut response: Response) -> RequestOutcome {
    let status = response.status().as_u16();
    let rate = rate_headers(response.headers());
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_RESPONSE_BYTES => {
                body.extend_from_slice(chunk.get(..MAX_RESPONSE_BYTES - body.len()).unwrap_or_default());
                break;
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            // If the connection breaks in the body, a success status does not prove success: the request counts as
            // unanswered. An error status is used even without its body.
            Err(e) if (200..300).contains(&status) => {
                return RequestOutcome::Failed(RequestFailure::Unanswered(error_chain(&e)));
            }
            Err(_) => break,
        }
    }
    if body.starts_with(BYTE_ORDER_MARK) {
        body.drain(..BYTE_ORDER_MARK.len()); // some .NET servers send this mark
    }
    RequestOutcome::Response(PyrusResponse { status, rate, body, sent_md5: None })
}

fn rate_headers(headers: &HeaderMap) -> RateLimitHeaders {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(String::from);
    RateLimitHeaders {
        remaining: text("x-ratelimit-remaining"),
        reset: text("x-ratelimit-reset"),
        retry_after: text("retry-after"),
    }
}

fn failure(e: reqwest::Error) -> RequestFailure {
    // Only host and port are logged, because the rest of an upload URL may grant access to the file.
    let host = e.url().and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    let e = e.without_url();
    if !e.is_connect() && !e.is_builder() {
        return RequestFailure::Unanswered(error_chain(&e));
    }
    let host = host.unwrap_or_else(|| String::from("the address"));
    RequestFailure::NotSent(if is_refused(&e) {
        format!("{host} refuses the connection")
    } else {
        format!("{host}: {}", error_chain(&e))
    })
}

fn is_refused(e: &(dyn std::error::Error + 'static)) -> bool {
    let kind = |e: &(dyn std::error::Error + 'static)| e.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    let mut causes = std::iter::successors(Some(e), |e| e.source());
    causes.any(|cause| kind(cause) == Some(std::io::ErrorKind::ConnectionRefused))
}

#[expect(clippy::disallowed_methods, reason = "an I/O module: requests have time limits")]
async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// UTF-8 byte order mark. JSON parsers reject it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Maximum size of a response that is read, bytes. Real responses have a few hundred bytes.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// Minimum speed of an upload, bytes per second. It is twice the rate of stereo G.711; at half this speed, uploads
/// would take as long as the calls.
const SLOWEST_BYTES_PER_S: u64 = 32_000;

/// Maximum number of bytes that are read from a key file. Keys of Pyrus have fewer than 100 characters.
const MAX_KEY_BYTES: u64 = 4_096;

/// Maximum number of bytes that Linux buffers for a TCP socket before it sends them (`tcp_wmem`). The time to send them
/// is added to the time limit for the response.
const SYSTEM_BUFFER_BYTES: u64 = 4 << 20;

/// Time after which we close an idle connection. Most servers wait longer. If the server closed the connection just as
/// we send a request, the outcome of the request would be unknown.
const POOL_IDLE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            login: String::from("bot@callspan"),
            security_key: Some(SecretString::from(String::from("key-1c9f"))),
            account_id: String::from("account"),
            ..Config::default()
        }
    }

    fn refusal(config: &Config) -> String {
        PyrusClient::new(config, RequestTimeouts::default()).expect_err("it is wrong").to_string()
    }

    #[test]
    fn configuration_errors_are_single_sentences() {
        let plain = Config { auth_url: String::from("http://pyrus.example/api/v4/auth"), ..config() };
        assert!(refusal(&plain).contains("must begin with https://"));
        assert!(refusal(&Config { login: String::new(), ..config() }).contains("login is missing"));
        assert!(refusal(&Config { account_id: String::new(), ..config() }).contains("account_id is missing"));
        assert!(refusal(&Config { security_key: None, ..config() }).contains("CALLSPAN_PYRUS_SECURITY_KEY"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let from_file = Config { security_key: None, security_key_file: Some(file.clone()), ..config() };
        assert!(refusal(&from_file).contains("cannot be read"));
        std::fs::write(&file, "\n").unwrap();
        assert!(refusal(&from_file).contains("security_key is missing"));
        std::fs::write(&file, "key-1c9f\n").unwrap();
        assert!(PyrusClient::new(&from_file, RequestTimeouts::default()).is_ok());
        assert!(refusal(&Config { ca_file: Some(file), ..config() }).contains("not a readable PEM certificate"));
    }

    #[test]
    fn token_in_a_response_is_masked() {
        let masked = |text: &str, token: &str| String::from_utf8(without(text.into(), token.as_bytes())).unwrap();
        let text = "bad header: Bearer abc.def, again abc.def";
        assert_eq!(masked(text, "abc.def"), "bad header: Bearer [token], again [token]");
        assert_eq!((masked("token t", "t").as_str(), masked("none", "").as_str()), ("[token]oken [token]", "none"));
    }

    #[test]
    fn debug_output_contains_no_key() {
        let client = PyrusClient::new(&config(), RequestTimeouts::default()).unwrap();
        assert!(!format!("{client:?}").contains("key-1c9f"));
        assert!(!format!("{:?}", config()).contains("key-1c9f"));
    }

    #[test]
    fn key_file_that_became_a_device_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "key-1c9f\n").unwrap();
        assert_eq!(read_key(&path).map(|key| key.expose_secret().to_owned()).as_deref(), Some("key-1c9f"));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(read_key(&path).is_none());
    }
}
