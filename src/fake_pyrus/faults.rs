//! The fault script: a queue of [`FaultStep`]s for each endpoint. Each request uses the first step of its endpoint's
//! queue. If the queue is empty, the request is served normally. A step says whether the request takes effect in spite
//! of the fault. So tests can produce outcomes that the client cannot know, e.g. a registration without a reply.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::options::seconds;

/// The endpoint of a request. [`FakeEndpoint::Other`] stands for all other paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FakeEndpoint {
    /// `POST …/auth`: fetches a token.
    Auth,
    /// `POST …/files/upload`: uploads a recording.
    Upload,
    /// `POST …/integrations/call`: registers a call.
    Call,
    /// `POST …/integrations/attachcallrecord`: attaches an uploaded file.
    Attach,
    /// Any path that belongs to none of the endpoints above.
    Other,
}

/// Whether a fault happens before or after the request takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultTiming {
    /// The request does not take effect, because of the fault. If the fault is a [`WorldChange`], the change comes
    /// first and the request is then served normally.
    Before,
    /// The request takes effect, but the fault hides this from the client. If the fault is a [`WorldChange`], the
    /// change comes after the request.
    After,
}

/// A step of the fault script: one fault for one or more requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultStep {
    /// The fault that is simulated in this step of the script.
    pub fault: PyrusFault,
    /// Whether the fault happens before or after the request takes effect; `None` means the default of the fault
    /// ([`FaultStep::new`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<FaultTiming>,
    /// Number of requests to which the fault step applies. `u32::MAX` means no limit.
    #[serde(default = "once")]
    pub times: u32,
}

impl FaultStep {
    /// Creates a fault step with the default timing of its fault. A fault that only changes the normal reply happens
    /// after the request took effect. Any other fault happens before.
    pub fn new(fault: PyrusFault) -> FaultStep {
        FaultStep { fault, when: None, times: 1 }
    }

    /// Creates a step of the fault script in which the request does not take effect.
    pub fn before(fault: PyrusFault) -> FaultStep {
        FaultStep { fault, when: Some(FaultTiming::Before), times: 1 }
    }

    /// Creates a step of the fault script in which the request takes effect before the fault happens.
    pub fn after(fault: PyrusFault) -> FaultStep {
        FaultStep { fault, when: Some(FaultTiming::After), times: 1 }
    }

    /// Returns a fault step that applies to this number of requests.
    #[must_use]
    pub fn times(self, times: u32) -> FaultStep {
        FaultStep { times, ..self }
    }

    /// Returns a fault step that applies to all further requests.
    #[must_use]
    pub fn forever(self) -> FaultStep {
        self.times(u32::MAX)
    }

    /// Returns whether the fault happens before or after the request takes effect.
    pub fn when(&self) -> FaultTiming {
        self.when.unwrap_or_else(|| self.fault.natural_when())
    }
}

impl From<PyrusFault> for FaultStep {
    fn from(fault: PyrusFault) -> FaultStep {
        FaultStep::new(fault)
    }
}

/// A fault that the fake simulates. Examples in JSON: `"server_error"`, `{"drip":100}`,
/// `{"unauthorized":{"code":"revoked_token"}}`. Waits are in seconds of real time, because the client's time-outs use
/// real time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PyrusFault {
    /// The fake sends a reply that the script defines.
    Status {
        /// HTTP status of the reply.
        code: u16,
        /// Body of the reply.
        #[serde(default)]
        body: ScriptedBody,
        /// Additional header fields of the reply: names and values.
        #[serde(default)]
        headers: Vec<(String, String)>,
    },
    /// The fake replies with an error about the token.
    Unauthorized {
        /// Error code, e.g. `revoked_token`.
        code: String,
        /// HTTP status of the reply, 401 by default.
        #[serde(default = "unauthorized")]
        status: u16,
    },
    /// The fake replies with status 401 before the body of the upload is read. The connection is closed while the
    /// client still writes.
    UnauthorizedEarly,
    /// The fake replies with status 413 and HTML before the body of the upload is read. The connection is closed while
    /// the client still writes.
    TooLargeEarly,
    /// The fake replies with status 429 and the code `too_many_requests`.
    RateLimited {
        /// Value of `X-RateLimit-Reset`, which may be malformed (`"0"`, `"-5"`, `"abc"`). If `None`, the header is not
        /// sent.
        #[serde(default, deserialize_with = "text_or_number")]
        reset: Option<String>,
        /// Value of `Retry-After` in seconds. If `None`, the header is not sent.
        #[serde(default)]
        retry_after: Option<u32>,
    },
    /// The fake replies with status 500 and the code `server_error`.
    ServerError,
    /// The fake replies with status 502 and HTML, as a proxy does.
    BadGateway,
    /// The fake replies with status 503 and HTML, as a proxy does.
    Unavailable,
    /// The fake replies with status 504 and HTML, as a proxy does.
    GatewayTimeout,
    /// The fake waits for this time. Then it sends the reply if the request took effect; otherwise it closes the
    /// connection.
    HangBeforeHeaders(#[serde(with = "seconds")] Duration),
    /// The fake sends the head of the reply and waits for this time. Then it sends the body if the request took effect;
    /// otherwise it closes the connection.
    HangAfterHeaders(#[serde(with = "seconds")] Duration),
    /// The body of the reply is sent at this rate, in bytes per second.
    Drip(u32),
    /// The body of the request is read at this rate, in bytes per second.
    SlowRead(u32),
    /// The fake stops reading the upload after this number of bytes.
    StallUploadAfter(u64),
    /// The connection is reset (TCP RST) after the whole request was read.
    ResetAfterRequest,
    /// The connection is reset (TCP RST) after this number of bytes of the upload.
    ResetAfterUploadBytes(u64),
    /// The connection is closed (TCP FIN) after the whole request was read.
    CloseWithoutReply,
    /// The body of the reply is shorter than its `Content-Length`.
    TruncatedBody,
    /// The reply is chunked, and its second chunk has a malformed size.
    BadChunk,
    /// The fake replies with status 200 and a truncated JSON object.
    InvalidJson,
    /// The fake replies with status 200 and JSON that is not valid UTF-8.
    InvalidUtf8,
    /// The fake replies with status 200 and a JSON object of this number of bytes.
    HugeBody(u64),
    /// The fake sends the same reply as without a fault, but with the content type `text/html`.
    WrongContentType,
    /// The fake replies with status 307 and this location.
    Redirect(String),
    /// The reply to an upload has the MD5 of other bytes.
    WrongMd5,
    /// The reply to an upload has no `guid`.
    NoGuid,
    /// The reply to `auth` has no `access_token`.
    NoToken,
    /// The fake replies with status 202 and `{"Message":…}`, as old servers on premises reply to unknown paths.
    #[serde(rename = "message_202")]
    Message202,
    /// The listener of the endpoint (for `upload`: of the files host) refuses connections for this time. The time
    /// begins when the step becomes the first in the queue. It cannot begin at a request, because a refused connection
    /// carries no request.
    RefuseConnections(#[serde(with = "seconds")] Duration),
    /// The reply to `auth` names the given URLs in place of the URLs of the fake.
    HttpApiUrl {
        /// Value of `api_url` in the reply.
        api_url: String,
        /// Value of `files_url` in the reply. With `None` the reply has the URL of the fake's files host.
        #[serde(default)]
        files_url: Option<String>,
    },
    /// The fake changes its state, e.g. it removes a file, and handles the request normally.
    #[serde(untagged)]
    Change(WorldChange),
}

impl PyrusFault {
    /// Creates a fault that replies with a JSON body.
    pub fn json(code: u16, body: Value) -> PyrusFault {
        PyrusFault::Status { code, body: ScriptedBody::Json(body), headers: Vec::new() }
    }

    /// Creates a fault that replies with an error in the format of Pyrus.
    pub fn error(code: u16, error_code: &str) -> PyrusFault {
        PyrusFault::json(
            code,
            serde_json::json!({"error": format!("Scripted {error_code}."), "error_code": error_code}),
        )
    }

    /// Creates a fault that replies with this status and an empty body.
    pub fn empty(code: u16) -> PyrusFault {
        PyrusFault::Status { code, body: ScriptedBody::Empty, headers: Vec::new() }
    }

    /// Creates a fault that replies with this status and an HTML page.
    pub fn html(code: u16) -> PyrusFault {
        PyrusFault::Status { code, body: ScriptedBody::Html(None), headers: Vec::new() }
    }

    /// Creates a fault that replies with status 401 and this error code about the token.
    pub fn unauthorized(code: &str) -> PyrusFault {
        PyrusFault::Unauthorized { code: code.into(), status: unauthorized() }
    }

    /// Returns the name that the fault has in a script.
    pub fn name(&self) -> String {
        match serde_json::to_value(self) {
            Ok(Value::String(name)) => name,
            Ok(Value::Object(map)) => map.keys().next().cloned().unwrap_or_default(),
            _ => String::new(),
        }
    }

    fn natural_when(&self) -> FaultTiming {
        match self {
            PyrusFault::HangAfterHeaders(_)
            | PyrusFault::Drip(_)
            | PyrusFault::SlowRead(_)
            | PyrusFault::TruncatedBody
            | PyrusFault::BadChunk
            | PyrusFault::WrongContentType
            | PyrusFault::WrongMd5
            | PyrusFault::NoGuid
            | PyrusFault::NoToken
            | PyrusFault::HttpApiUrl { .. } => FaultTiming::After,
            _ => FaultTiming::Before,
        }
    }
}

/// Body of a reply that a script defines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptedBody {
    /// The body of the reply is a JSON value.
    Json(Value),
    /// The body of the reply is an HTML page; `None` means the page that a proxy shows for the status.
    Html(Option<String>),
    /// The reply has no body.
    #[default]
    Empty,
    /// The body of the reply is a text with the content type `text/plain`.
    Raw(String),
}

/// A change of the fake's state that the client does not cause, e.g. a person closes a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorldChange {
    /// All tokens are revoked, so clients must log in again.
    DropAllTokens,
    /// The file with this id is removed. `null` removes all files that no task uses.
    DeleteFile(Option<String>),
    /// The owner of each account disables its webhook, so that Pyrus refuses calls.
    DisableWebhook,
    /// The owner of each account enables its webhook, so that Pyrus accepts calls.
    EnableWebhook,
    /// The virtual clock advances by this time.
    ClockAdvance(#[serde(with = "seconds")] Duration),
    /// Another client with this login fetches a token. If the login has too many tokens, its oldest token is revoked.
    IssueToken(String),
    /// The security key of a user changes. The user's tokens are revoked.
    SecurityKey {
        /// Login of the user whose key changes.
        login: String,
        /// The new security key of the user.
        key: String,
    },
    /// An administrator blocks or unblocks a user.
    Block {
        /// Login of the user who is blocked or unblocked.
        login: String,
        /// Whether the user is blocked from now on.
        blocked: bool,
    },
    /// A person closes the task. The next call from the same number gets a new task.
    CloseTask(u64),
    /// The task is deleted together with its calls.
    DeleteTask(u64),
    /// The call with this `external_id` is deleted. Attaching to it fails with `unrecognized_call_id`.
    ForgetCall(String),
}

/// The queues of fault steps of all endpoints.
#[derive(Debug, Default)]
pub(super) struct FaultScript {
    queues: BTreeMap<FakeEndpoint, VecDeque<FaultStep>>,
}

impl FaultScript {
    /// Appends a fault step to the queue of an endpoint. Returns false if the queue is full.
    pub(super) fn push(&mut self, endpoint: FakeEndpoint, step: FaultStep) -> bool {
        let queue = self.queues.entry(endpoint).or_default();
        if queue.len() >= MAX_STEPS {
            return false;
        }
        queue.push_back(step);
        true
    }

    pub(super) fn clear(&mut self) {
        self.queues.clear();
    }

    pub(super) fn take(&mut self, endpoint: FakeEndpoint) -> Option<FaultStep> {
        let queue = self.queues.get_mut(&endpoint)?;
        let first = queue.front_mut()?;
        let step = FaultStep { times: 1, ..first.clone() };
        if first.times != u32::MAX {
            first.times = first.times.saturating_sub(1);
        }
        if first.times == 0 {
            queue.pop_front();
        }
        Some(step)
    }

    /// Removes each fault step that closes a listener and is the first in its queue. Returns the endpoint and the
    /// duration of each of these steps.
    pub(super) fn take_refusals(&mut self) -> Vec<(FakeEndpoint, Duration)> {
        let mut found = Vec::new();
        for (endpoint, queue) in &mut self.queues {
            while let Some(FaultStep { fault: PyrusFault::RefuseConnections(wait), .. }) = queue.front() {
                found.push((*endpoint, *wait));
                queue.pop_front();
            }
        }
        found
    }

    pub(super) fn left(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }
}

fn once() -> u32 {
    1
}

/// Deserializes a text that may also be given as a number, e.g. `"reset": 7` as well as `"reset": "7"`.
fn text_or_number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    })
}

fn unauthorized() -> u16 {
    401
}

/// Maximum number of fault steps in a queue. A longer script is a mistake.
const MAX_STEPS: usize = 100_000;
