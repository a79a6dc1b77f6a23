//! The endpoints `auth` and `files/upload` of the fake. (The module `telephony` has the others.)
//!
//! Every endpoint checks a request in this order: path, token, rate limit, body, account, and whether the account
//! accepts calls. Then it checks the required parameters, the named task or call, the file, and the form fields.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::error_texts;
use super::faults::FakeEndpoint;
use super::http::RequestHead;
use super::multipart::ParsedUpload;
use super::options::{Md5Case, PyrusMode, UrlSlash};
use super::reply::FakeReply;
use super::state::{FakeStore, TokenValidity};
use super::world::FakeWorld;

/// The host (listener) that received a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiHost {
    /// The accounts host, which serves `auth`. On premises it serves everything.
    Accounts,
    /// The API host, which serves the telephony endpoints.
    Api,
    /// The files host, which serves uploads.
    Files,
    /// The only host of a fake without separate listeners. It serves accounts, API and files.
    One,
}

/// The endpoint of the fake to which a request path belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PyrusRoute {
    Auth,
    Upload,
    Call,
    Attach,
    /// A path of the telephony API on a simulated server that has no telephony.
    NoTelephony(FakeEndpoint),
    /// A path below `/v4/calls` (the old telephony API). The string is the rest of the path.
    LegacyCalls(String),
    Unknown,
}

/// The body of a request, after it was read.
#[derive(Debug)]
pub(super) enum RequestPayload {
    Bytes(Vec<u8>),
    Upload(Box<ParsedUpload>),
    TooLarge,
}

/// A reply, with data for the log and for the check for violations.
#[derive(Debug)]
pub(super) struct RouteResult {
    pub(super) reply: FakeReply,
    pub(super) code: Option<String>,
    /// Summary of the request for people who read the log.
    pub(super) note: String,
}

impl PyrusRoute {
    pub(super) fn of(mode: PyrusMode, host: ApiHost, path: &str) -> PyrusRoute {
        let (api, rest) = match (path.strip_prefix("/api/v4/"), path.strip_prefix("/v4/")) {
            (Some(rest), _) => ("/api/v4/", rest),
            (None, Some(rest)) => ("/v4/", rest),
            _ => return PyrusRoute::Unknown,
        };
        let cloud = mode == PyrusMode::Cloud;
        let here = match (cloud, rest) {
            (true, "auth" | "auth/") => match api {
                "/api/v4/" => matches!(host, ApiHost::Accounts | ApiHost::One),
                // Older clients send `auth` requests to the API host, so that host serves them, too.
                _ => matches!(host, ApiHost::Api | ApiHost::One),
            },
            (true, "files/upload") => match api {
                "/v4/" => host != ApiHost::Accounts,
                _ => host == ApiHost::One,
            },
            (true, _) => api == "/v4/" && matches!(host, ApiHost::Api | ApiHost::One),
            (false, "files/upload") => matches!(host, ApiHost::Accounts | ApiHost::One),
            (false, _) => api == "/api/v4/" && matches!(host, ApiHost::Accounts | ApiHost::One),
        };
        match rest {
            _ if !here => PyrusRoute::Unknown,
            "auth" | "auth/" => PyrusRoute::Auth,
            "files/upload" => PyrusRoute::Upload,
            "integrations/call" if mode == PyrusMode::LegacyOnprem => PyrusRoute::NoTelephony(FakeEndpoint::Call),
            "integrations/attachcallrecord" if mode == PyrusMode::LegacyOnprem => {
                PyrusRoute::NoTelephony(FakeEndpoint::Attach)
            }
            "integrations/call" => PyrusRoute::Call,
            "integrations/attachcallrecord" => PyrusRoute::Attach,
            "calls" => PyrusRoute::LegacyCalls(String::new()),
            _ => match rest.strip_prefix("calls/") {
                Some(tail) => PyrusRoute::LegacyCalls(tail.to_owned()),
                None => PyrusRoute::Unknown,
            },
        }
    }

    pub(super) fn endpoint(&self) -> FakeEndpoint {
        match self {
            PyrusRoute::Auth => FakeEndpoint::Auth,
            PyrusRoute::Upload => FakeEndpoint::Upload,
            PyrusRoute::Call => FakeEndpoint::Call,
            PyrusRoute::Attach => FakeEndpoint::Attach,
            PyrusRoute::NoTelephony(endpoint) => *endpoint,
            PyrusRoute::LegacyCalls(_) | PyrusRoute::Unknown => FakeEndpoint::Other,
        }
    }
}

impl FakeWorld {
    /// Executes a request, which may change the state, and returns its reply.
    pub(super) fn answer(&mut self, route: &PyrusRoute, head: &RequestHead, payload: RequestPayload) -> RouteResult {
        let now = self.clock.now();
        self.store.sweep(self.options.orphan_ttl, now);
        match route {
            PyrusRoute::Auth if head.method == "POST" => return self.auth(payload, now),
            PyrusRoute::Unknown => return self.not_found(404, head),
            PyrusRoute::NoTelephony(_) => return self.not_found(202, head),
            PyrusRoute::LegacyCalls(_) if !self.options.legacy_calls => return self.not_found(404, head),
            PyrusRoute::LegacyCalls(_) => {}
            _ if head.method != "POST" => return wrong_method(head),
            _ => {}
        }
        let login = match self.check_token(head, now) {
            Ok(login) => login,
            Err(code) => return self.error(401, code),
        };
        let (headers, over) = self.count_rate(&login, now);
        let mut answer = if over {
            self.error(429, "too_many_requests")
        } else {
            match route {
                PyrusRoute::Upload => self.upload(&login, payload, now),
                PyrusRoute::LegacyCalls(tail) => self.legacy_calls(tail, head, payload),
                _ => match parse_object(payload) {
                    Err(code) => self.error(400, code),
                    Ok(body) if *route == PyrusRoute::Call => self.call(&body, now),
                    Ok(body) => self.attach(&login, &body, now),
                },
            }
        };
        answer.reply.headers.extend(headers);
        answer
    }

    pub(super) fn error(&self, status: u16, code: &str) -> RouteResult {
        let text = error_texts::text(code, self.options.error_lang);
        RouteResult {
            reply: FakeReply::json(status, &json!({"error": text, "error_code": code})),
            code: Some(code.to_owned()),
            note: String::new(),
        }
    }

    fn not_found(&self, status: u16, head: &RequestHead) -> RouteResult {
        RouteResult { reply: no_such_resource(status, head.path()), code: None, note: "no such path here".into() }
    }

    /// Returns an error reply of the telephony API with this error code.
    pub(super) fn refusal(&self, code: &str) -> RouteResult {
        self.error(self.options.logic_error_status, code)
    }

    // The method below handles the endpoint `auth`.

    fn auth(&mut self, payload: RequestPayload, now: Duration) -> RouteResult {
        let body = match parse_object(payload) {
            Ok(body) => body,
            Err(code) => return self.error(400, code),
        };
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let person = body.get("person_id").and_then(number);
        let login = text("login");
        let Some(user) = self.options.users.iter().find(|u| u.login == login && u.security_key == text("security_key"))
        else {
            return self.error(401, "invalid_credentials");
        };
        let person_fits = match person {
            Some(id) => user.person_ids.contains(&id),
            None => user.person_ids.len() <= 1,
        };
        if !person_fits {
            return self.error(401, "invalid_credentials");
        }
        if user.blocked {
            return self.error(401, "account_blocked");
        }
        let token = self.store.issue_token(login, &self.options, now);
        let mut reply = json!({"access_token": token});
        if self.options.mode == PyrusMode::Cloud {
            reply["api_url"] = self.slashed(&self.urls.api).into();
            reply["files_url"] = self.slashed(&self.urls.files).into();
        }
        RouteResult { reply: FakeReply::json(200, &reply), code: None, note: "token issued".into() }
    }

    fn slashed(&self, url: &str) -> String {
        match self.options.url_slash {
            UrlSlash::Trailing => url.to_owned(),
            UrlSlash::None => url.trim_end_matches('/').to_owned(),
        }
    }

    fn check_token(&self, head: &RequestHead, now: Duration) -> Result<String, &'static str> {
        let value = bearer(head).ok_or("token_not_specified")?;
        let token = self.store.token(value).ok_or("invalid_token")?;
        if self.options.users.iter().any(|u| u.login == token.login && u.blocked) {
            return Err("account_blocked");
        }
        match FakeStore::life(token, &self.options, now) {
            TokenValidity::Active => Ok(token.login.clone()),
            TokenValidity::Expired => Err("expired_token"),
            TokenValidity::Revoked => Err("revoked_token"),
        }
    }

    /// Counts a request in the rate window of its user. Returns the rate-limit headers of the reply, and whether the
    /// limit is exceeded.
    fn count_rate(&mut self, login: &str, now: Duration) -> (Vec<(String, String)>, bool) {
        let limit = self.options.rate_limit;
        let (began, used) = self.rates.entry(login.to_owned()).or_insert((now, 0));
        if now.saturating_sub(*began) >= limit.window {
            (*began, *used) = (now, 0);
        }
        let over = *used >= limit.requests;
        if !over {
            *used += 1;
        }
        let reset = (*began + limit.window).saturating_sub(now).as_secs_f64().ceil();
        let header = |name: &str, value: String| (format!("X-RateLimit-{name}"), value);
        let headers = vec![
            header("Limit", limit.requests.to_string()),
            header("Remaining", limit.requests.saturating_sub(*used).to_string()),
            header("Reset", reset.to_string()),
        ];
        (headers, over)
    }

    // The method below handles the endpoint `files/upload`.

    fn upload(&mut self, login: &str, payload: RequestPayload, now: Duration) -> RouteResult {
        let upload = match payload {
            RequestPayload::Upload(upload) => *upload,
            RequestPayload::TooLarge => return self.error(400, "too_large_request_length"),
            RequestPayload::Bytes(_) => return self.error(400, "bad_multipart_content"),
        };
        if upload.malformed.is_some() {
            return self.error(400, "bad_multipart_content");
        }
        let Some(name) = upload.file().and_then(|p| p.filename.clone()) else {
            return self.error(400, "no_file_in_request");
        };
        if name.chars().count() > MAX_FILE_NAME {
            return self.error(400, "max_file_name_length_exceeded");
        }
        if upload.size == 0 {
            return self.error(400, "empty_file");
        }
        let file = self.store.add_file(login, &name, upload, now);
        let md5 = match self.options.md5_case {
            Md5Case::Lower => file.md5.clone(),
            Md5Case::Upper => file.md5.to_uppercase(),
        };
        RouteResult {
            reply: FakeReply::json(200, &json!({"guid": file.guid, "md5_hash": md5})),
            code: None,
            note: format!("{} of {} bytes kept as {}", file.name, file.size, file.guid),
        }
    }
}

/// Returns the reply of ASP.NET to an unknown path. The reply has no `error_code`.
pub(super) fn no_such_resource(status: u16, path: &str) -> FakeReply {
    let path: String = path.chars().take(200).collect();
    FakeReply::json(
        status,
        &json!({"Message": format!("No HTTP resource was found that matches the request URI '{path}'.")}),
    )
}

/// Returns the bearer token in the Authorization header of a request; `None` without such a token.
pub(super) fn bearer(head: &RequestHead) -> Option<&str> {
    head.header("authorization")?.strip_prefix("Bearer ").map(str::trim).filter(|t| !t.is_empty())
}

/// Parses a body as a JSON object. Returns the error code of Pyrus if it is not a JSON object.
pub(super) fn parse_object(payload: RequestPayload) -> Result<Map<String, Value>, &'static str> {
    let bytes = match payload {
        RequestPayload::Bytes(bytes) => bytes,
        RequestPayload::TooLarge => return Err("too_large_request_length"),
        RequestPayload::Upload(_) => return Err("invalid_json"),
    };
    if bytes.is_empty() {
        return Err("empty_body");
    }
    serde_json::from_slice(&bytes).map_err(|_| "invalid_json")
}

/// Returns a member of a JSON object as text. Numbers are converted; an empty string counts as absent.
pub(super) fn text_of(body: &Map<String, Value>, name: &str) -> Option<String> {
    match body.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

pub(super) fn wrong_method(head: &RequestHead) -> RouteResult {
    let text = format!("The requested resource does not support http method '{}'.", head.method);
    RouteResult { reply: FakeReply::json(405, &json!({"Message": text})), code: None, note: "wrong method".into() }
}

/// Maximum length of a file name, bytes. It is the limit of most file systems, because the limit of Pyrus is unknown.
const MAX_FILE_NAME: usize = 255;
