//! What a [`FaultStep`] does to one request: whether its work is done, what is answered, and how.

use std::time::Duration;

use serde_json::{Value, json};

use super::error_texts;
use super::faults::{FaultStep, FaultTiming, PyrusFault, ScriptedBody, WorldChange};
use super::options::ErrorLanguage;
use super::reply::{FakeReply, ReplyMode};
use super::routes::no_such_resource;

/// What comes before the body is read.
pub(super) enum EarlyAction {
    /// Nothing.
    None,
    /// This reply, then the connection ends.
    Reply(FakeReply),
    /// Read the body so slowly, bytes a second.
    Pace(u32),
    /// After so many bytes of the body do this.
    Stop(u64, BodyStop),
}

/// What happens in the middle of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyStop {
    /// Nothing, for a long time.
    Stall,
    /// RST.
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

/// Whether the request's own work is done under this step.
pub(super) fn works(step: Option<&FaultStep>) -> bool {
    step.is_none_or(|s| {
        s.when() == FaultTiming::After || matches!(s.fault, PyrusFault::Change(_) | PyrusFault::SlowRead(_))
    })
}

/// The change of the world that a step brings at this moment.
pub(super) fn change(step: Option<&FaultStep>, moment: FaultTiming) -> Option<WorldChange> {
    match step {
        Some(FaultStep { fault: PyrusFault::Change(change), .. }) if step.map(FaultStep::when) == Some(moment) => {
            Some(change.clone())
        }
        _ => None,
    }
}

/// Whether the client gets the reply that its request earned.
pub(super) fn is_honest(step: Option<&FaultStep>) -> bool {
    step.is_none_or(|s| matches!(s.fault, PyrusFault::Change(_) | PyrusFault::SlowRead(_)))
}

/// The reply and how it is sent. `earned`: what the request's work gave, if it was done.
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
        // What follows is a whole reply: without the work it must not claim success.
        PyrusFault::Drip(pace) => (earned.unwrap_or_else(|| error(500, "server_error", lang)), ReplyMode::Drip(*pace)),
        spoiled => (spoil(spoiled, earned.unwrap_or_else(|| error(500, "server_error", lang))), ReplyMode::Normal),
    }
}

/// How long a stalled upload stays stalled: longer than any client's patience.
pub(super) const STALL: Duration = Duration::from_secs(600);

/// A fault that is a reply of its own.
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

/// A fault that spoils one detail of the right reply.
fn spoil(fault: &PyrusFault, reply: FakeReply) -> FakeReply {
    if *fault == PyrusFault::WrongContentType {
        return FakeReply { content_type: Some("text/html; charset=utf-8"), ..reply };
    }
    let Ok(Value::Object(mut members)) = serde_json::from_slice(&reply.body) else {
        return reply;
    };
    match fault {
        PyrusFault::WrongMd5 if members.contains_key("md5_hash") => {
            // The MD5 of no bytes: nobody may upload those.
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
