//! The whole state of the fake, which is behind the server's lock: options, clock, tables, fault script, violations,
//! log. Its methods never wait.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::clock::{self, VirtualClock};
use super::fault_effects;
use super::faults::{FakeEndpoint, FaultScript, FaultStep, FaultTiming, WorldChange};
use super::http::{BodyFraming, RequestHead};
use super::multipart;
use super::options::{FakeOptions, PyrusMode};
use super::reply::{FakeReply, ReplyMode};
use super::routes::{ApiHost, PyrusRoute, RequestPayload, RouteResult, bearer, text_of};
use super::state::{FakeState, FakeStore};
use super::violations::{self, ArrivalTime, StrictChecker};

/// A finished request for the log. It contains no token and no key.
#[derive(Clone, Debug, Serialize)]
pub struct RequestLogEntry {
    /// Number of the request, in the order of arrival.
    pub n: u64,
    /// Virtual time at which the request arrived.
    pub at: String,
    /// The listener that received the request.
    pub host: ApiHost,
    /// The endpoint that received the request.
    pub endpoint: FakeEndpoint,
    /// HTTP method of the request.
    pub method: String,
    /// Path and query, without token and security key.
    pub target: String,
    /// Header fields as sent, except that the value of `Authorization` is redacted.
    pub headers: Vec<(String, String)>,
    /// The JSON body, with `security_key` redacted; `None` if there was no JSON body.
    pub body: Option<Value>,
    /// Name and size in bytes of an uploaded file; `None` if no file was uploaded.
    pub upload: Option<(String, u64)>,
    /// The fault step that applied to the request; `None` if no step applied.
    pub fault: Option<FaultStep>,
    /// HTTP status of the reply; `None` if no reply was sent.
    pub status: Option<u16>,
    /// Error code of the reply; `None` for a reply without an error.
    pub error_code: Option<String>,
    /// Summary of the request's result, for people who read the log.
    pub outcome: String,
}

/// Base URLs of the listeners, each with a final slash.
#[derive(Clone, Debug, Default)]
pub(super) struct ListenerUrls {
    pub(super) accounts: String,
    pub(super) api: String,
    pub(super) files: String,
    pub(super) control: String,
}

/// The whole state of the fake.
#[derive(Debug)]
pub(super) struct FakeWorld {
    pub(super) options: FakeOptions,
    pub(super) clock: VirtualClock,
    pub(super) store: FakeStore,
    pub(super) script: FaultScript,
    pub(super) checker: StrictChecker,
    /// For each login, the virtual time at which its rate-limit window began, and the number of requests in this
    /// window.
    pub(super) rates: HashMap<String, (Duration, u32)>,
    pub(super) urls: ListenerUrls,
    log: VecDeque<RequestLogEntry>,
    next: u64,
}

/// A request that is being processed.
#[derive(Debug)]
pub(super) struct RequestTicket {
    pub(super) route: PyrusRoute,
    pub(super) step: Option<FaultStep>,
    entry: RequestLogEntry,
    /// Login to which the request's token belongs; `None` without a valid token.
    login: Option<String>,
    /// Login that an `auth` request names; `None` for other requests.
    auth_of: Option<String>,
    /// Key under which a final reply to the request is stored, equal for all its repeats; `None` if the request may be
    /// repeated.
    key: Option<String>,
    body: Option<serde_json::Map<String, Value>>,
}

impl RequestTicket {
    pub(super) fn n(&self) -> u64 {
        self.entry.n
    }
}

impl FakeWorld {
    pub(super) fn new(options: FakeOptions, urls: ListenerUrls) -> FakeWorld {
        FakeWorld {
            clock: VirtualClock::new(options.clock),
            store: FakeStore::new(&options),
            options,
            script: FaultScript::default(),
            checker: StrictChecker::default(),
            rates: HashMap::new(),
            urls,
            log: VecDeque::new(),
            next: 1,
        }
    }

    // A request passes through the functions below, in this order.

    /// Begins a request after its head was read: counts the request, takes a step of the fault script, and checks the
    /// header fields.
    pub(super) fn begin(&mut self, host: ApiHost, head: &RequestHead, came: Instant) -> RequestTicket {
        let route = PyrusRoute::of(self.options.mode, host, head.path());
        let endpoint = route.endpoint();
        *self.store.requests.entry(endpoint).or_default() += 1;
        let step = self.script.take(endpoint);
        let n = self.next;
        self.next += 1;
        let login = bearer(head).and_then(|t| self.store.token(t)).map(|t| t.login.clone());
        self.check_head(n, host, &route, head);
        if let Some(login) = &login {
            let came = ArrivalTime { at: came, grace: self.options.rate_grace };
            self.checker.check_silence(n, login, self.clock.now(), came);
        }
        let entry = RequestLogEntry {
            n,
            at: clock::text(self.clock.now()),
            host,
            endpoint,
            method: head.method.chars().take(20).collect(),
            target: self.redact(&head.target),
            headers: head.headers.iter().map(|(k, v)| (k.clone(), redact_header(k, v))).collect(),
            body: None,
            upload: None,
            fault: step.clone(),
            status: None,
            error_code: None,
            outcome: String::new(),
        };
        RequestTicket { route, step, entry, login, auth_of: None, key: None, body: None }
    }

    /// Processes a request after its body was read, and returns the reply. The request takes effect, except if a
    /// scripted fault prevents that.
    pub(super) fn work(
        &mut self,
        ticket: &mut RequestTicket,
        head: &RequestHead,
        payload: RequestPayload,
    ) -> (FakeReply, ReplyMode) {
        self.check_body(ticket, &payload);
        let step = ticket.step.clone();
        if let Some(change) = fault_effects::change(step.as_ref(), FaultTiming::Before) {
            self.change(&change);
        }
        let answer = fault_effects::works(step.as_ref()).then(|| self.answer(&ticket.route, head, payload));
        if let Some(change) = fault_effects::change(step.as_ref(), FaultTiming::After) {
            self.change(&change);
        }
        if let Some(RouteResult { code, note, .. }) = &answer {
            ticket.entry.error_code = code.clone();
            ticket.entry.outcome = note.clone();
        }
        fault_effects::reply(step.as_ref(), answer.map(|a| a.reply), self.options.error_lang)
    }

    /// Ends a request just before its reply is sent. Records the facts that the client learns from the reply, e.g. that
    /// its token was refused.
    pub(super) fn finish(
        &mut self,
        ticket: &mut RequestTicket,
        reply: Option<&FakeReply>,
        manner: ReplyMode,
    ) -> RequestLogEntry {
        ticket.entry.status = reply.map(|r| r.status);
        let whole = reply.filter(|_| manner.is_whole());
        let body = whole.and_then(|r| serde_json::from_slice::<Value>(&r.body).ok());
        let code = body.as_ref().and_then(|b| b.get("error_code")).and_then(Value::as_str);
        if let Some(reply) = whole {
            ticket.entry.error_code = code.map(str::to_owned);
            self.remember(ticket, reply, code);
        }
        if let Some(login) = &ticket.auth_of {
            let gave_token = body.as_ref().is_some_and(|b| b.get("access_token").is_some());
            self.checker.auth_ends(login, gave_token);
        }
        self.log_entry(ticket.entry.clone())
    }

    /// Records that a reply did not reach the client. So the client may repeat the request without a violation.
    pub(super) fn unsent(&mut self, ticket: &RequestTicket) {
        if let Some(key) = &ticket.key {
            self.checker.unsettle(key);
        }
    }

    /// Sets the summary of a request that gets no reply.
    pub(super) fn note(&mut self, ticket: &mut RequestTicket, what: &str) {
        ticket.entry.outcome = what.to_owned();
    }

    // The functions below are for tests and control requests.

    pub(super) fn set_options(&mut self, new: FakeOptions) {
        if new.clock != self.options.clock {
            self.clock.set_mode(new.clock);
        }
        for old in &self.options.users {
            let same = |u: &&super::options::FakeUser| u.login == old.login && u.security_key == old.security_key;
            if !new.users.iter().any(|u| same(&u)) {
                self.store.revoke(Some(&old.login)); // the key was changed, so the user's tokens are revoked
            }
        }
        self.options = new;
    }

    pub(super) fn change(&mut self, change: &WorldChange) {
        let now = self.clock.now();
        match change {
            WorldChange::DisableWebhook => self.options.accounts.iter_mut().for_each(|a| a.webhook_enabled = false),
            WorldChange::EnableWebhook => self.options.accounts.iter_mut().for_each(|a| a.webhook_enabled = true),
            WorldChange::ClockAdvance(by) => self.clock.advance(*by),
            WorldChange::IssueToken(login) => _ = self.store.issue_token(login, &self.options, now),
            WorldChange::SecurityKey { login, key } => {
                let mut options = self.options.clone();
                options.users.iter_mut().filter(|u| u.login == *login).for_each(|u| u.security_key = key.clone());
                self.set_options(options);
            }
            WorldChange::Block { login, blocked } => {
                self.options.users.iter_mut().filter(|u| u.login == *login).for_each(|u| u.blocked = *blocked);
            }
            _ => self.store.change(change),
        }
    }

    pub(super) fn state(&mut self) -> FakeState {
        let now = self.clock.now();
        self.store.sweep(self.options.orphan_ttl, now);
        FakeState { steps_left: self.script.left(), ..self.store.snapshot(&self.options, now) }
    }

    pub(super) fn log(&self) -> Vec<RequestLogEntry> {
        self.log.iter().cloned().collect()
    }

    // The functions below check for violations.

    fn check_head(&mut self, n: u64, host: ApiHost, route: &PyrusRoute, head: &RequestHead) {
        let mut found: Vec<String> = Vec::new();
        let kind = head.header("content-type").unwrap_or_default();
        let known = !matches!(route, PyrusRoute::Unknown | PyrusRoute::LegacyCalls(_));
        if known && head.method != "POST" {
            found.push(format!("method {} instead of POST", head.method.escape_default()));
        }
        let right_kind = match route {
            PyrusRoute::Upload => multipart::boundary(kind).is_some(),
            _ => kind.split(';').next().is_some_and(|k| k.trim().eq_ignore_ascii_case("application/json")),
        };
        if known && !right_kind {
            found.push(format!("Content-Type {kind:?}"));
        }
        if *route == PyrusRoute::Upload && head.framing() == Ok(BodyFraming::Chunked) {
            found.push("chunked upload: Content-Length must be that of the whole body".into());
        }
        match (route, bearer(head)) {
            (PyrusRoute::Auth, _) if head.header("authorization").is_some() => {
                found.push("Authorization on auth".into())
            }
            (PyrusRoute::Auth, _) => {}
            (_, None) if known => found.push("no Authorization: Bearer".into()),
            (_, None) => {}
            (_, Some(token)) if self.store.token(token).is_none() => {
                found.push("a bearer token that this server never issued".into());
            }
            _ => {}
        }
        if bearer(head).is_some() && host == ApiHost::Accounts && self.options.mode == PyrusMode::Cloud {
            found.push("bearer token sent to the accounts host".into());
        }
        if *route == PyrusRoute::Auth && host == ApiHost::Api {
            found.push("login sent to the API host".into());
        }
        if self.redact(&head.target) != head.target {
            found.push("a token or key in the URL".into());
        }
        if head.path().contains("//") {
            found.push("// in the path".into());
        }
        for what in found {
            self.checker.add(n, format!("{} {}: {what}", head.method.escape_default(), self.redact(head.path())));
        }
    }

    fn check_body(&mut self, ticket: &mut RequestTicket, payload: &RequestPayload) {
        let n = ticket.entry.n;
        let endpoint = ticket.entry.endpoint;
        match payload {
            RequestPayload::TooLarge => {}
            RequestPayload::Upload(upload) => {
                let name = upload.file().and_then(|p| p.filename.clone()).unwrap_or_default();
                ticket.entry.upload = Some((name, upload.size));
                for what in violations::upload_faults(upload) {
                    self.checker.add(n, format!("upload: {what}"));
                }
            }
            RequestPayload::Bytes(bytes) => {
                let Ok(Value::Object(body)) = serde_json::from_slice(bytes) else {
                    if !matches!(endpoint, FakeEndpoint::Other) {
                        self.checker.add(n, format!("{endpoint:?}: the body is no JSON object"));
                    }
                    return;
                };
                for what in violations::json_faults(endpoint, &body) {
                    self.checker.add(n, format!("{endpoint:?}: {what}"));
                }
                ticket.key = repeat_key(endpoint, &body);
                if let Some(key) = &ticket.key {
                    self.checker.check_repeat(n, key);
                }
                if endpoint == FakeEndpoint::Auth {
                    let login = text_of(&body, "login").unwrap_or_default();
                    let good = self.store.has_active_token(&login, &self.options, self.clock.now());
                    self.checker.auth_begins(n, &login, good);
                    ticket.auth_of = Some(login);
                }
                ticket.entry.body = Some(redact_body(&body));
                ticket.body = Some(body);
            }
        }
    }

    fn remember(&mut self, ticket: &RequestTicket, reply: &FakeReply, code: Option<&str>) {
        if reply.status == 401 || code.is_some_and(|c| TOKEN_CODES.contains(&c)) {
            self.checker.token_refused(ticket.auth_of.as_deref().or(ticket.login.as_deref()));
        }
        if reply.status == 429
            && let Some(login) = &ticket.login
        {
            let until = self.clock.now() + asked_pause(reply);
            self.checker.limited(login, until, clock::real_now());
        }
        if !fault_effects::is_honest(ticket.step.as_ref()) {
            return;
        }
        let done = match code {
            None => reply.status < 300,
            Some(code) => FINAL_CODES.contains(&code),
        };
        if let (true, Some(key)) = (done, &ticket.key) {
            self.checker.settle(key.clone(), reply.status);
        }
        if matches!(code, Some("unrecognized_call_id" | "unrecognized_task_id"))
            && let Some(body) = &ticket.body
        {
            let account = text_of(body, "account_id").unwrap_or_default();
            let call = text_of(body, "external_id").unwrap_or_default();
            self.checker.unsettle(&format!("call {account}/{call}"));
        }
    }

    fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for user in self.options.users.iter().filter(|u| u.security_key.len() >= MIN_SECRET) {
            text = text.replace(&user.security_key, "***");
        }
        if self.store.holds_token(&text) {
            return "***".into();
        }
        text
    }

    fn log_entry(&mut self, entry: RequestLogEntry) -> RequestLogEntry {
        if self.log.len() >= MAX_LOG {
            self.log.pop_front();
        }
        self.log.push_back(entry.clone());
        entry
    }
}

/// Returns the key under which the final reply to a request is stored. All repeats of a request to register or attach
/// have the same key. Returns `None` for a request that may be repeated.
fn repeat_key(endpoint: FakeEndpoint, body: &serde_json::Map<String, Value>) -> Option<String> {
    let text = |name: &str| text_of(body, name).unwrap_or_default();
    match endpoint {
        FakeEndpoint::Call if body.contains_key("external_id") => {
            Some(format!("call {}/{}", text("account_id"), text("external_id")))
        }
        FakeEndpoint::Attach => Some(format!("attach {}/{}", text("account_id"), text("record_file"))),
        _ => None,
    }
}

/// Returns the pause that a reply 429 demands, 1 to 900 s. It is the value of `Retry-After` or, without this header, of
/// `X-RateLimit-Reset`. Without a valid value it is one minute.
fn asked_pause(reply: &FakeReply) -> Duration {
    let header = |name: &str| reply.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
    let seconds = header("retry-after").or_else(|| header("x-ratelimit-reset")).and_then(|v| v.parse::<i64>().ok());
    match seconds.and_then(|s| u64::try_from(s).ok()) {
        Some(seconds) => Duration::from_secs(seconds.clamp(1, 900)),
        None => Duration::from_secs(60),
    }
}

fn redact_header(name: &str, value: &str) -> String {
    if name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("cookie") {
        return value.split(' ').next().filter(|s| *s == "Bearer").map_or("***".into(), |s| format!("{s} ***"));
    }
    value.chars().take(1000).collect()
}

fn redact_body(body: &serde_json::Map<String, Value>) -> Value {
    let mut body = body.clone();
    if let Some(key) = body.get_mut("security_key") {
        *key = "***".into();
    }
    if let Some(token) = body.get_mut("access_token") {
        *token = "***".into();
    }
    Value::Object(body)
}

/// Error codes after which the client may fetch a new token.
const TOKEN_CODES: [&str; 6] = [
    "token_not_specified",
    "invalid_token",
    "expired_token",
    "revoked_token",
    "authorization_error",
    "invalid_application_id",
];
/// Error codes after which a repeat of the same request is a violation (mistake of the client).
const FINAL_CODES: [&str; 5] = [
    "invalid_field_mapping_code",
    "unsupported_record_file_format",
    "required_parameters_not_specified",
    "invalid_json",
    "empty_body",
];
/// Minimum length of a security key that the fake searches for in texts, bytes. A shorter key would occur in a text by
/// chance.
const MIN_SECRET: usize = 4;
/// Maximum number of entries in the log, about 1 KiB each.
const MAX_LOG: usize = 50_000;
