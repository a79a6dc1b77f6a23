//! The fault script: for each endpoint a queue of [`FaultStep`]s; a request takes one, an empty queue
//! means normal behaviour. A step says whether the request's own work is done: that is what makes
//! an ambiguous answer testable.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::options::seconds;

/// What a request is for. A step of [`FakeEndpoint::Other`] meets any other path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FakeEndpoint {
    /// `POST …/auth`
    Auth,
    /// `POST …/files/upload`
    Upload,
    /// `POST …/integrations/call`
    Call,
    /// `POST …/integrations/attachcallrecord`
    Attach,
    /// Everything else.
    Other,
}

/// Whether the request's own work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultTiming {
    /// The fault comes before the work: nothing is done. A [`WorldChange`] comes before normal work.
    Before,
    /// The work is done, then comes the fault: the client cannot know. A [`WorldChange`] comes after normal work.
    After,
}

/// One step of the script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultStep {
    /// What goes wrong.
    pub fault: PyrusFault,
    /// Whether the work is done; absent: the natural one of the fault ([`FaultStep::new`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<FaultTiming>,
    /// For how many requests; `u32::MAX` is for ever.
    #[serde(default = "once")]
    pub times: u32,
}

impl FaultStep {
    /// A fault at its natural moment: what spoils the manner or a detail of a good reply comes
    /// after the work, everything else before it.
    pub fn new(fault: PyrusFault) -> FaultStep {
        FaultStep { fault, when: None, times: 1 }
    }

    /// The fault comes instead of the work.
    pub fn before(fault: PyrusFault) -> FaultStep {
        FaultStep { fault, when: Some(FaultTiming::Before), times: 1 }
    }

    /// The work is done, and then comes the fault.
    pub fn after(fault: PyrusFault) -> FaultStep {
        FaultStep { fault, when: Some(FaultTiming::After), times: 1 }
    }

    /// The same for so many requests.
    #[must_use]
    pub fn times(self, times: u32) -> FaultStep {
        FaultStep { times, ..self }
    }

    /// The same for every further request.
    #[must_use]
    pub fn forever(self) -> FaultStep {
        self.times(u32::MAX)
    }

    /// When the fault comes.
    pub fn when(&self) -> FaultTiming {
        self.when.unwrap_or_else(|| self.fault.natural_when())
    }
}

impl From<PyrusFault> for FaultStep {
    fn from(fault: PyrusFault) -> FaultStep {
        FaultStep::new(fault)
    }
}

/// What goes wrong. In JSON: `"server_error"`, `{"drip":100}`, `{"unauthorized":{"code":"revoked_token"}}`.
/// Waits are real time (a client's time-out is), given in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PyrusFault {
    /// This reply and no other.
    Status {
        /// HTTP status.
        code: u16,
        /// The body.
        #[serde(default)]
        body: ScriptedBody,
        /// Further headers.
        #[serde(default)]
        headers: Vec<(String, String)>,
    },
    /// An error about the token.
    Unauthorized {
        /// `revoked_token`, `expired_token`, …
        code: String,
        /// HTTP status; 401 unless told.
        #[serde(default = "unauthorized")]
        status: u16,
    },
    /// 401 before the upload's body is read; the connection is closed while the client writes.
    UnauthorizedEarly,
    /// 413 and HTML before the upload's body is read; the connection is closed while the client writes.
    TooLargeEarly,
    /// 429 `too_many_requests`.
    RateLimited {
        /// `X-RateLimit-Reset` as it stands, also `"0"`, `"-5"`, `"abc"`; absent: no such header.
        #[serde(default, deserialize_with = "text_or_number")]
        reset: Option<String>,
        /// `Retry-After`, seconds.
        #[serde(default)]
        retry_after: Option<u32>,
    },
    /// 500 `server_error`.
    ServerError,
    /// 502 and HTML.
    BadGateway,
    /// 503 and HTML.
    Unavailable,
    /// 504 and HTML.
    GatewayTimeout,
    /// Nothing for so long; then the reply (after) or the end of the connection (before).
    HangBeforeHeaders(#[serde(with = "seconds")] Duration),
    /// The head of a reply, then nothing for so long; then its body (after) or the end (before).
    HangAfterHeaders(#[serde(with = "seconds")] Duration),
    /// The reply's body at so many bytes a second.
    Drip(u32),
    /// The request's body is read at so many bytes a second.
    SlowRead(u32),
    /// The upload's body is not read any further after so many bytes.
    StallUploadAfter(u64),
    /// The request is read whole, then the connection is reset (RST).
    ResetAfterRequest,
    /// The connection is reset (RST) after so many bytes of the upload's body.
    ResetAfterUploadBytes(u64),
    /// The request is read whole, then the connection is closed (FIN).
    CloseWithoutReply,
    /// `Content-Length` says more than comes.
    TruncatedBody,
    /// A chunked reply whose second chunk size is no number.
    BadChunk,
    /// 200 and half a JSON object.
    InvalidJson,
    /// 200 and JSON with a byte that is no UTF-8.
    InvalidUtf8,
    /// 200 and a JSON object of so many bytes.
    HugeBody(u64),
    /// The right reply as `text/html`.
    WrongContentType,
    /// 307 to another place.
    Redirect(String),
    /// Upload: an `md5_hash` of other bytes.
    WrongMd5,
    /// Upload: no `guid` in the reply.
    NoGuid,
    /// Auth: no `access_token` in the reply.
    NoToken,
    /// 202 and `{"Message":…}`, as an old on-premises server says it.
    #[serde(rename = "message_202")]
    Message202,
    /// The listener of the endpoint (of `upload`: the files host) refuses connections for so long. A refused connection is no
    /// request, so this takes effect as soon as it stands at the head of the queue.
    RefuseConnections(#[serde(with = "seconds")] Duration),
    /// Auth: the reply names these hosts instead of ours.
    HttpApiUrl {
        /// `api_url`
        api_url: String,
        /// `files_url`; ours when absent.
        #[serde(default)]
        files_url: Option<String>,
    },
    /// The world changes; the request itself is treated normally.
    #[serde(untagged)]
    Change(WorldChange),
}

impl PyrusFault {
    /// A reply with a JSON body.
    pub fn json(code: u16, body: Value) -> PyrusFault {
        PyrusFault::Status { code, body: ScriptedBody::Json(body), headers: Vec::new() }
    }

    /// An error reply as Pyrus makes them.
    pub fn error(code: u16, error_code: &str) -> PyrusFault {
        PyrusFault::json(
            code,
            serde_json::json!({"error": format!("Scripted {error_code}."), "error_code": error_code}),
        )
    }

    /// A reply with nothing in it.
    pub fn empty(code: u16) -> PyrusFault {
        PyrusFault::Status { code, body: ScriptedBody::Empty, headers: Vec::new() }
    }

    /// A reply with an HTML page.
    pub fn html(code: u16) -> PyrusFault {
        PyrusFault::Status { code, body: ScriptedBody::Html(None), headers: Vec::new() }
    }

    /// An error about the token with status 401.
    pub fn unauthorized(code: &str) -> PyrusFault {
        PyrusFault::Unauthorized { code: code.into(), status: unauthorized() }
    }

    /// The fault's name in the script.
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

/// Body of a scripted reply.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptedBody {
    /// JSON.
    Json(Value),
    /// HTML; absent: the page of a proxy for that status.
    Html(Option<String>),
    /// Nothing.
    #[default]
    Empty,
    /// This text, as `text/plain`.
    Raw(String),
}

/// A change of the world that the client did not cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorldChange {
    /// All tokens are revoked.
    DropAllTokens,
    /// This file, or with `null` every file that no task references, is removed.
    DeleteFile(Option<String>),
    /// The accounts' owners switch the intake off.
    DisableWebhook,
    /// And on again.
    EnableWebhook,
    /// Virtual time goes on.
    ClockAdvance(#[serde(with = "seconds")] Duration),
    /// Another client of the same login takes a token (which may revoke the oldest).
    IssueToken(String),
    /// The user gets another key; their tokens are revoked.
    SecurityKey {
        /// Whose.
        login: String,
        /// The new one.
        key: String,
    },
    /// An administrator blocks or unblocks the user.
    Block {
        /// Whom.
        login: String,
        /// Blocked from now on.
        blocked: bool,
    },
    /// A person closes the task: the next call from that number gets a new one.
    CloseTask(u64),
    /// The task is deleted, its calls are forgotten.
    DeleteTask(u64),
    /// The registration of this external_id is forgotten (`unrecognized_call_id`).
    ForgetCall(String),
}

/// The queues.
#[derive(Debug, Default)]
pub(super) struct FaultScript {
    queues: BTreeMap<FakeEndpoint, VecDeque<FaultStep>>,
}

impl FaultScript {
    /// Refused when the queue is full.
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

    /// Steps that need no request: listeners to be closed, and for how long.
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

/// A person writes `"reset": 7`.
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

/// Steps in one queue: a script is written by a person or a test, 100,000 is a mistake.
const MAX_STEPS: usize = 100_000;
