//! Applies a fault ([`FaultStep`]) to a request: decides whether the request takes effect, which reply it gets, and how
//! the reply is sent.

use std::time::Duration;

use serde_json::{Value, json};

use super::error_texts;
use super::faults::{FaultStep, FaultTiming, PyrusFault, ScriptedBody, WorldChange};
use super::options::ErrorLanguage;
use super::reply::{FakeReply, ReplyMode};
use super::routes::no_such_resource;

/// Effect of a fault before the body of the request is read.
pub(super) enum EarlyAction {
    /// Read the body as without a fault.
    None,
    /// Send this reply at once and close the connection.
    Reply(FakeReply),
    /// Read the body at this rate, in bytes per second.
    Pace(u32),
    /// Stop reading after this number of bytes, and then stall or reset the connection.
    Stop(u64, BodyStop),
}

/// How a fault breaks off the reading of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyStop {
    /// The fake stalls: it sends and reads nothing for [`STALL`].
    Stall,
    /// The fake resets the connection (TCP RST).
    Reset,
}

pub(super) fn early(step: Option<&FaultStep>, lang: ErrorLanguage) -> EarlyAction {
    match step.map(|s| &s.fault) {
        Some(PyrusFault::UnauthorizedEarly) => EarlyAction::Reply(error(401, "expired_token", lang)),
        Some(PyrusFault::TooLargeEarly) => EarlyAction::Reply(FakeReply::proxy_page(413)),
        Some(PyrusFault::SlowRead(pace)) => EarlyAction::Pace(*pace),
        Some(PyrusFault::StallUploadAfter(n)) => EarlyAction::Stop(*n, BodyStop::Stall),
        Some(PyrusFault::ResetAfterUploadBytes(n)) => EarlyAction::Stop(*n, BodyStop::Reset),
        _ => EarlyAction::None,
    }
}

/// Returns whether the request takes effect although a fault applies to it.
pub(super) fn works(step: Option<&FaultStep>) -> bool {
    step.is_none_or(|s| {
        s.when() == FaultTiming::After || matches!(s.fault, PyrusFault::Change(_) | PyrusFault::SlowRead(_))
    })
}

/// Returns the change of the fake's state that a step causes before or after the request takes effect, as `moment`
/// says. Returns `None` if it causes no change at that moment.
pub(super) fn change(step: Option<&FaultStep>, moment: FaultTiming) -> Option<WorldChange> {
    match step {
        Some(FaultStep { fault: PyrusFault::Change(change), .. }) if step.map(FaultStep::when) == Some(moment) => {
            Some(change.clone())
        }
        _ => None,
    }
}

/// Returns whether the client receives the normal reply, i.e. the same reply as without a fault.
pub(super) fn is_honest(step: Option<&FaultStep>) -> bool {
    step.is_none_or(|s| matches!(s.fault, PyrusFault::Change(_) | PyrusFault::SlowRead(_)))
}

/// Returns the reply and how it is sent. `earned` is the normal reply; `None` if the request did not take effect.
pub(super) fn reply(
    step: Option<&FaultStep>,
    earned: Option<FakeReply>,
    lang: ErrorLanguage,
) -> (FakeReply, ReplyMode) {
    let Some(step) = step else {
        return (earned.unwrap_or_default(), ReplyMode::Normal);
    };
    if let Some(whole) = replacement(&step.fault, lang) {
        return (whole, ReplyMode::Normal);
    }
    let done = earned.is_some();
    let unfinished = FakeReply::json(200, &json!({"note": "a reply that never ends"}));
    match &step.fault {
        PyrusFault::HangBeforeHeaders(wait) if done => (earned.unwrap_or_default(), ReplyMode::HangBefore(*wait)),
        PyrusFault::HangBeforeHeaders(wait) => (FakeReply::default(), ReplyMode::HangThenClose(*wait)),
        PyrusFault::HangAfterHeaders(wait) if done => (earned.unwrap_or_default(), ReplyMode::HangAfter(*wait)),
        PyrusFault::HangAfterHeaders(wait) => (unfinished, ReplyMode::HangAfterThenClose(*wait)),
        PyrusFault::TruncatedBody => (earned.unwrap_or(unfinished), ReplyMode::Truncated),
        PyrusFault::BadChunk => (earned.unwrap_or(unfinished), ReplyMode::BadChunk),
        PyrusFault::HugeBody(size) => (FakeReply::json(200, &Value::Null), ReplyMode::Huge(*size)),
        PyrusFault::ResetAfterRequest => (FakeReply::default(), ReplyMode::Reset),
        PyrusFault::CloseWithoutReply | PyrusFault::RefuseConnections(_) => (FakeReply::default(), ReplyMode::Close),
        // `Drip` and the remaining faults send a complete reply. If the request took no effect, this is an error reply,
        // so that the client does not see a false success.
        PyrusFault::Drip(pace) => (earned.unwrap_or_else(|| error(500, "server_error", lang)), ReplyMode::Drip(*pace)),
        spoiled => (spoil(spoiled, earned.unwrap_or_else(|| error(500, "server_error", lang))), ReplyMode::Normal),
    }
}

/// Duration of a stalled upload. It is longer than the time-outs of all clients.
pub(super) const STALL: Duration = Duration::from_secs(600);

/// Returns the reply that a fault puts in place of the normal reply; `None` if the fault replaces no reply.
fn replacement(fault: &PyrusFault, lang: ErrorLanguage) -> Option<FakeReply> {
    Some(match fault {
        PyrusFault::Status { code, body, headers } => {
            let mut reply = scripted(*code, body);
            reply.headers.extend(headers.iter().cloned());
            reply
        }
        PyrusFault::Unauthorized { code, status } => error(*status, code, lang),
        PyrusFault::UnauthorizedEarly => error(401, "expired_token", lang),
        PyrusFault::TooLargeEarly => FakeReply::proxy_page(413),
        PyrusFault::RateLimited { reset, retry_after } => {
            let mut reply = error(429, "too_many_requests", lang);
            if let Some(reset) = reset {
                reply = reply
                    .with_header("X-RateLimit-Limit", 5000)
                    .with_header("X-RateLimit-Remaining", 0)
                    .with_header("X-RateLimit-Reset", reset);
            }
            if let Some(wait) = retry_after {
                reply = reply.with_header("Retry-After", wait);
            }
            reply
        }
        PyrusFault::ServerError => error(500, "server_error", lang),
        PyrusFault::BadGateway => FakeReply::proxy_page(502),
        PyrusFault::Unavailable => FakeReply::proxy_page(503),
        PyrusFault::GatewayTimeout => FakeReply::proxy_page(504),
        PyrusFault::InvalidJson => FakeReply { body: b"{\"task_id\":".to_vec(), ..FakeReply::json(200, &Value::Null) },
        PyrusFault::InvalidUtf8 => {
            FakeReply { body: b"{\"note\":\"\xc3\x28\xff\"}".to_vec(), ..FakeReply::json(200, &Value::Null) }
        }
        PyrusFault::Redirect(to) => FakeReply::html(307, "<html>moved</html>").with_header("Location", to),
        PyrusFault::Message202 => no_such_resource(202, "/"),
        _ => return None,
    })
}

/// Replaces one detail of the normal reply by a wrong value.
fn spoil(fault: &PyrusFault, reply: FakeReply) -> FakeReply {
    if *fault == PyrusFault::WrongContentType {
        return FakeReply { content_type: Some("text/html; charset=utf-8"), ..reply };
    }
    let Ok(Value::Object(mut members)) = serde_json::from_slice(&reply.body) else {
        return reply;
    };
    match fault {
        PyrusFault::WrongMd5 if members.contains_key("md5_hash") => {
            // The wrong MD5 is that of an empty file. It matches no upload, because empty uploads are refused.
            members.insert("md5_hash".into(), "d41d8cd98f00b204e9800998ecf8427e".into());
        }
        PyrusFault::NoGuid => {
            members.remove("guid");
        }
        PyrusFault::NoToken => {
            members.remove("access_token");
        }
        PyrusFault::HttpApiUrl { api_url, files_url } if members.contains_key("access_token") => {
            members.insert("api_url".into(), api_url.as_str().into());
            if let Some(files_url) = files_url {
                members.insert("files_url".into(), files_url.as_str().into());
            }
        }
        _ => {}
    }
    FakeReply { body: Value::Object(members).to_string().into_bytes(), ..reply }
}

fn scripted(code: u16, body: &ScriptedBody) -> FakeReply {
    match body {
        ScriptedBody::Json(value) => FakeReply::json(code, value),
        ScriptedBody::Html(Some(page)) => FakeReply::html(code, page.as_str()),
        ScriptedBody::Html(None) => FakeReply::proxy_page(code),
        ScriptedBody::Empty => FakeReply { status: code, ..FakeReply::default() },
        ScriptedBody::Raw(text) => FakeReply {
            status: code,
            content_type: Some("text/plain; charset=utf-8"),
            headers: Vec::new(),
            body: text.clone().into_bytes(),
        },
    }
}

fn error(status: u16, code: &str, lang: ErrorLanguage) -> FakeReply {
    FakeReply::json(status, &json!({"error": error_texts::text(code, lang), "error_code": code}))
}
