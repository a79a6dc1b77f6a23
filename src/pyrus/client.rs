//! One request at a time: action in, reply out.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::Error;
use super::config::{Config, UploadVia};
use super::upload;
use super::urls::{Entrance, Targets};
use crate::delivery::{Action, Answer, Cut, Failure, RateHeaders, Reply, Request, TokenId};

/// How long a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To a connection, TLS included.
    pub connect: Duration,
    /// A JSON request, reply included.
    pub json: Duration,
    /// An upload in which nothing moves; longer than the 40 s of Pyrus's own proxy, so that its 504 is seen.
    pub upload_idle: Duration,
    /// An upload as a whole, at least.
    pub upload_least: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            json: Duration::from_secs(120),
            upload_idle: Duration::from_secs(60),
            upload_least: Duration::from_secs(20 * 60),
        }
    }
}

/// The client. It holds the key and the token and shows neither.
pub struct Client {
    http: reqwest::Client,
    entrance: Entrance,
    login: String,
    key: SecretString,
    /// Where the key came from: read anew for each login, so that a new one needs no restart.
    key_file: Option<PathBuf>,
    person_id: Option<u64>,
    via: UploadVia,
    timeouts: Timeouts,
    session: Mutex<Option<Arc<Session>>>,
}

/// A token and where it may go.
struct Session {
    id: TokenId,
    bearer: HeaderValue,
    targets: Targets,
}

#[derive(Serialize)]
struct AuthBody<'a> {
    login: &'a str,
    security_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    person_id: Option<u64>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("entrance", &self.entrance).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads key and CA and sets up TLS; sends nothing.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(config: &Config, timeouts: Timeouts) -> Result<Self, Error> {
        let entrance = Entrance::new(&config.auth_url).map_err(Error::Config)?;
        for (name, value) in [("login", &config.login), ("account_id", &config.account_id)] {
            if value.trim().is_empty() {
                return Err(Error::Config(format!("{name} is missing")));
            }
        }
        let key = key(config)?;
        let is_of_file = |path: &&PathBuf| read_key(path).is_some_and(|k| k.expose_secret() == key.expose_secret());
        Ok(Self {
            http: http_client(config, &entrance, timeouts)?,
            entrance,
            login: config.login.clone(),
            key_file: config.security_key_file.as_ref().filter(is_of_file).cloned(),
            key,
            person_id: config.person_id,
            via: config.upload_via,
            timeouts,
            session: Mutex::new(None),
        })
    }

    /// Sends one request. Never fails: what went wrong is the reply. The token is taken when this is called, not when
    /// it is first polled: it may be renewed in between.
    pub fn execute(self: Arc<Self>, action: Action) -> impl Future<Output = Reply> + Send {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let session = session.filter(|s| s.id == action.token);
        async move {
            match (action.request, session) {
                (Request::Auth, _) => self.auth(action.token).await,
                (Request::Register(body), Some(s)) => self.json(&s.targets.call, &s, &body).await,
                (Request::Attach(body), Some(s)) => self.json(&s.targets.attach, &s, &body).await,
                (Request::Upload { path, name, cut }, Some(s)) => self.upload(&s, (&path, cut), name).await,
                (_, None) => Reply::Failed(Failure::NotSent(String::from("there is no such token any more"))),
            }
        }
    }

    async fn auth(&self, id: TokenId) -> Reply {
        let renewed = self.key_file.as_deref().and_then(read_key);
        let key = renewed.as_ref().unwrap_or(&self.key);
        let body = AuthBody { login: &self.login, security_key: key.expose_secret(), person_id: self.person_id };
        let reply = self.send_json(self.http.post(self.entrance.auth().clone()), &body).await;
        let Reply::Answer(answer) = &reply else { return reply };
        if !(200..300).contains(&answer.status) {
            return reply;
        }
        match self.open_session(id, &answer.body) {
            Ok(session) => {
                *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session.map(Arc::new);
                reply
            }
            Err(words) => Reply::Failed(Failure::Refused(words)),
        }
    }

    /// `None`: the reply has no token; the verdict on it says so.
    fn open_session(&self, id: TokenId, body: &[u8]) -> Result<Option<Session>, String> {
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else { return Ok(None) };
        let text = |key: &str| json.get(key).and_then(|v| v.as_str()).filter(|t| !t.trim().is_empty());
        let Some(token) = text("access_token") else { return Ok(None) };
        let targets = self.entrance.targets(text("api_url"), text("files_url"), self.via)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| String::from("the token that Pyrus gave cannot be sent in a header"))?;
        bearer.set_sensitive(true);
        Ok(Some(Session { id, bearer, targets }))
    }

    async fn json<T: Serialize + Sync>(&self, url: &reqwest::Url, session: &Session, body: &T) -> Reply {
        self.send_json(self.http.post(url.clone()).header(AUTHORIZATION, session.bearer.clone()), body).await
    }

    async fn send_json<T: Serialize + Sync>(&self, request: RequestBuilder, body: &T) -> Reply {
        let body = match serde_json::to_vec(body) {
            Ok(body) => body,
            Err(e) => return Reply::Failed(Failure::Refused(e.to_string())),
        };
        let exchange = async {
            match request.header(CONTENT_TYPE, "application/json").body(body).send().await {
                Ok(response) => read(response).await,
                Err(e) => Reply::Failed(failure(e)),
            }
        };
        match tokio::time::timeout(self.timeouts.json, exchange).await {
            Ok(reply) => reply,
            Err(_) => Reply::Failed(Failure::Unanswered(format!("nothing within {:?}", self.timeouts.json))),
        }
    }

    async fn upload(&self, session: &Session, (path, cut): (&str, Option<Cut>), name: String) -> Reply {
        let (form, length, tally) = match upload::form(Path::new(path), cut, name).await {
            Ok(made) => made,
            Err(e) => return Reply::Failed(Failure::NoFile(format!("the recording {path} cannot be read: {e}"))),
        };
        let request = self
            .http
            .post(session.targets.upload.clone())
            .header(AUTHORIZATION, session.bearer.clone())
            .multipart(form);
        let exchange = async {
            // hyper reads while it writes: an answer that comes early (401, 413) ends the transfer and is the answer.
            match request.send().await {
                Ok(response) => read(response).await,
                Err(e) => Reply::Failed(failure(e)),
            }
        };
        let patience = self.timeouts.upload_least.max(Duration::from_secs(length / SLOWEST_BYTES_PER_S));
        let reply = tokio::select! {
            reply = exchange => reply,
            () = self.watch(&tally, length) => {
                Reply::Failed(Failure::Unanswered(format!("nothing moved for {:?}", self.timeouts.upload_idle)))
            }
            () = sleep(patience) => Reply::Failed(Failure::Unanswered(format!("not done within {patience:?}"))),
        };
        match reply {
            Reply::Answer(answer) => Reply::Answer(Answer { sent_md5: tally.md5(), ..answer }),
            failed @ Reply::Failed(_) => failed,
        }
    }

    /// Ends when the upload has stalled: nothing taken, or all taken and no answer for as long as a JSON request and what
    /// the system may still have to send take.
    async fn watch(&self, tally: &upload::Tally, length: u64) {
        let look = self.timeouts.upload_idle / 10;
        let most = self.timeouts.json + Duration::from_secs(length.min(SYSTEM_BUFFER_BYTES) / SLOWEST_BYTES_PER_S);
        let mut unanswered = Duration::ZERO;
        loop {
            sleep(look).await;
            match tally.stalled() {
                Some(stalled) if stalled >= self.timeouts.upload_idle => return,
                Some(_) => {}
                None => unanswered += look,
            }
            if unanswered >= most {
                return;
            }
        }
    }
}

fn http_client(config: &Config, entrance: &Entrance, timeouts: Timeouts) -> Result<reqwest::Client, Error> {
    // Fails when one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("callspan/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(timeouts.connect)
        .http1_only() // one request a connection at a time: what was sent and what not is plain
        .pool_idle_timeout(POOL_IDLE)
        .referer(false);
    if entrance.is_loopback() {
        builder = builder.no_proxy();
    }
    if let Some(path) = &config.ca_file {
        let bad = |reason: String| Error::CaFile { path: path.clone(), reason };
        let pem = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| bad(e.to_string()))?;
        if certificates.is_empty() {
            return Err(bad(String::from("there is no certificate in it")));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|e| Error::Http(chain(&e)))
}

fn key(config: &Config) -> Result<SecretString, Error> {
    let key = match (&config.security_key, &config.security_key_file) {
        (Some(key), _) => key.clone(),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|source| Error::KeyFile { path: path.clone(), source })?;
            SecretString::from(text.trim().to_owned())
        }
        (None, None) => SecretString::from(String::new()),
    };
    if key.expose_secret().is_empty() {
        return Err(Error::Config(String::from(
            "security_key is missing: give security_key_file, or the environment variable CALLSPAN_PYRUS_SECURITY_KEY",
        )));
    }
    Ok(key)
}

/// The key in a file; `None` when it is not there just now, or holds no key.
fn read_key(path: &Path) -> Option<SecretString> {
    let text = std::fs::read_to_string(path).ok()?;
    let key = text.trim();
    (!key.is_empty() && key.lines().count() == 1).then(|| SecretString::from(key.to_owned()))
}

/// Reads a reply, at most [`MAX_REPLY_BYTES`]; the rest is cut, which makes it no JSON.
async fn read(mut response: Response) -> Reply {
    let status = response.status().as_u16();
    let rate = rate_headers(response.headers());
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_REPLY_BYTES => {
                body.extend_from_slice(chunk.get(..MAX_REPLY_BYTES - body.len()).unwrap_or_default());
                break;
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            // A good status without its body says nothing; a bad one is an answer with or without it.
            Err(e) if (200..300).contains(&status) => return Reply::Failed(Failure::Unanswered(chain(&e))),
            Err(_) => break,
        }
    }
    if body.starts_with(BYTE_ORDER_MARK) {
        body.drain(..BYTE_ORDER_MARK.len()); // servers on .NET may write one
    }
    Reply::Answer(Answer { status, rate, body, sent_md5: None })
}

fn rate_headers(headers: &HeaderMap) -> RateHeaders {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(String::from);
    RateHeaders {
        remaining: text("x-ratelimit-remaining"),
        reset: text("x-ratelimit-reset"),
        retry_after: text("retry-after"),
    }
}

fn failure(e: reqwest::Error) -> Failure {
    // Host and port only: the rest of an upload's address may be a key to it.
    let host = e.url().and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    let e = e.without_url();
    if !e.is_connect() && !e.is_builder() {
        return Failure::Unanswered(chain(&e));
    }
    let host = host.unwrap_or_else(|| String::from("the address"));
    Failure::NotSent(if is_refused(&e) {
        format!("{host} refuses the connection")
    } else {
        format!("{host}: {}", chain(&e))
    })
}

fn is_refused(e: &(dyn std::error::Error + 'static)) -> bool {
    let kind = |e: &(dyn std::error::Error + 'static)| e.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    let mut causes = std::iter::successors(Some(e), |e| e.source());
    causes.any(|cause| kind(cause) == Some(std::io::ErrorKind::ConnectionRefused))
}

/// An error with its causes: "error sending request" alone says nothing.
fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "an IO room: the bounds of a request in time")]
async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Before UTF-8 it means nothing, and no JSON reader takes it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Longest reply that is read; real ones have a few hundred bytes.
const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// An upload slower than stereo G.711 in real time will not keep up with the calls.
const SLOWEST_BYTES_PER_S: u64 = 32_000;

/// What the system takes of an upload before it has sent it: the most that Linux gives a TCP socket (`tcp_wmem`).
const SYSTEM_BUFFER_BYTES: u64 = 4 << 20;

/// Less than what servers keep idle connections for: a request into a closing connection has an unknown outcome.
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
        Client::new(config, Timeouts::default()).expect_err("it is wrong").to_string()
    }

    #[test]
    fn what_is_wrong_with_the_configuration_is_one_sentence() {
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
        assert!(Client::new(&from_file, Timeouts::default()).is_ok());
        assert!(refusal(&Config { ca_file: Some(file), ..config() }).contains("no readable PEM certificate"));
    }

    #[test]
    fn the_client_can_be_shown_without_its_key() {
        let client = Client::new(&config(), Timeouts::default()).unwrap();
        assert!(!format!("{client:?}").contains("key-1c9f"));
        assert!(!format!("{:?}", config()).contains("key-1c9f"));
    }
}
