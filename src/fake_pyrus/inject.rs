//! What a [`Step`] does to one request: whether its work is done, what is answered, and how.

use std::time::Duration;

use serde_json::{Value, json};

use super::faults::{Body, Change, Fault, Step, When};
use super::options::Lang;
use super::reply::{Manner, Reply};
use super::routes::no_such_resource;
use super::texts;

/// What comes before the body is read.
pub(super) enum Early {
    /// Nothing.
    None,
    /// This reply, then the connection ends.
    Reply(Reply),
    /// Read the body so slowly, bytes a second.
    Pace(u32),
    /// After so many bytes of the body do this.
    Stop(u64, Stop),
}

/// What happens in the middle of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nothing, for a long time.
    Stall,
    /// RST.
    Reset,
}

pub(super) fn early(step: Option<&Step>, lang: Lang) -> Early {
    match step.map(|s| &s.fault) {
        Some(Fault::UnauthorizedEarly) => Early::Reply(error(401, "expired_token", lang)),
        Some(Fault::TooLargeEarly) => Early::Reply(Reply::proxy_page(413)),
        Some(Fault::SlowRead(pace)) => Early::Pace(*pace),
        Some(Fault::StallUploadAfter(n)) => Early::Stop(*n, Stop::Stall),
        Some(Fault::ResetAfterUploadBytes(n)) => Early::Stop(*n, Stop::Reset),
        _ => Early::None,
    }
}

/// Whether the request's own work is done under this step.
pub(super) fn works(step: Option<&Step>) -> bool {
    step.is_none_or(|s| s.when() == When::After || matches!(s.fault, Fault::Change(_) | Fault::SlowRead(_)))
}

/// The change of the world that a step brings at this moment.
pub(super) fn change(step: Option<&Step>, moment: When) -> Option<Change> {
    match step {
        Some(Step { fault: Fault::Change(change), .. }) if step.map(Step::when) == Some(moment) => Some(change.clone()),
        _ => None,
    }
}

/// Whether the client gets the reply that its request earned.
pub(super) fn is_honest(step: Option<&Step>) -> bool {
    step.is_none_or(|s| matches!(s.fault, Fault::Change(_) | Fault::SlowRead(_)))
}

/// The reply and how it is sent. `earned`: what the request's work gave, if it was done.
pub(super) fn reply(step: Option<&Step>, earned: Option<Reply>, lang: Lang) -> (Reply, Manner) {
    let Some(step) = step else {
        return (earned.unwrap_or_default(), Manner::Normal);
    };
    if let Some(whole) = replacement(&step.fault, lang) {
        return (whole, Manner::Normal);
    }
    let done = earned.is_some();
    let unfinished = Reply::json(200, &json!({"note": "a reply that never ends"}));
    match &step.fault {
        Fault::HangBeforeHeaders(wait) if done => (earned.unwrap_or_default(), Manner::HangBefore(*wait)),
        Fault::HangBeforeHeaders(wait) => (Reply::default(), Manner::HangThenClose(*wait)),
        Fault::HangAfterHeaders(wait) if done => (earned.unwrap_or_default(), Manner::HangAfter(*wait)),
        Fault::HangAfterHeaders(wait) => (unfinished, Manner::HangAfterThenClose(*wait)),
        Fault::TruncatedBody => (earned.unwrap_or(unfinished), Manner::Truncated),
        Fault::BadChunk => (earned.unwrap_or(unfinished), Manner::BadChunk),
        Fault::HugeBody(size) => (Reply::json(200, &Value::Null), Manner::Huge(*size)),
        Fault::ResetAfterRequest => (Reply::default(), Manner::Reset),
        Fault::CloseWithoutReply | Fault::RefuseConnections(_) => (Reply::default(), Manner::Close),
        // What follows is a whole reply: without the work it must not claim success.
        Fault::Drip(pace) => (earned.unwrap_or_else(|| error(500, "server_error", lang)), Manner::Drip(*pace)),
        spoiled => (spoil(spoiled, earned.unwrap_or_else(|| error(500, "server_error", lang))), Manner::Normal),
    }
}

/// How long a stalled upload stays stalled: longer than any client's patience.
pub(super) const STALL: Duration = Duration::from_secs(600);

/// A fault that is a reply of its own.
fn replacement(fault: &Fault, lang: Lang) -> Option<Reply> {
    Some(match fault {
        Fault::Status { code, body, headers } => {
            let mut reply = scripted(*code, body);
            reply.headers.extend(headers.iter().cloned());
            reply
        }
        Fault::Unauthorized { code, status } => error(*status, code, lang),
        Fault::UnauthorizedEarly => error(401, "expired_token", lang),
        Fault::TooLargeEarly => Reply::proxy_page(413),
        Fault::RateLimited { reset, retry_after } => {
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
        Fault::ServerError => error(500, "server_error", lang),
        Fault::BadGateway => Reply::proxy_page(502),
        Fault::Unavailable => Reply::proxy_page(503),
        Fault::GatewayTimeout => Reply::proxy_page(504),
        Fault::InvalidJson => Reply { body: b"{\"task_id\":".to_vec(), ..Reply::json(200, &Value::Null) },
        Fault::InvalidUtf8 => Reply { body: b"{\"note\":\"\xc3\x28\xff\"}".to_vec(), ..Reply::json(200, &Value::Null) },
        Fault::Redirect(to) => Reply::html(307, "<html>moved</html>").with_header("Location", to),
        Fault::Message202 => no_such_resource(202, "/"),
        _ => return None,
    })
}

/// A fault that spoils one detail of the right reply.
fn spoil(fault: &Fault, reply: Reply) -> Reply {
    if *fault == Fault::WrongContentType {
        return Reply { content_type: Some("text/html; charset=utf-8"), ..reply };
    }
    let Ok(Value::Object(mut members)) = serde_json::from_slice(&reply.body) else {
        return reply;
    };
    match fault {
        Fault::WrongMd5 if members.contains_key("md5_hash") => {
            // The MD5 of no bytes: nobody may upload those.
            members.insert("md5_hash".into(), "d41d8cd98f00b204e9800998ecf8427e".into());
        }
        Fault::NoGuid => {
            members.remove("guid");
        }
        Fault::NoToken => {
            members.remove("access_token");
        }
        Fault::HttpApiUrl { api_url, files_url } if members.contains_key("access_token") => {
            members.insert("api_url".into(), api_url.as_str().into());
            if let Some(files_url) = files_url {
                members.insert("files_url".into(), files_url.as_str().into());
            }
        }
        _ => {}
    }
    Reply { body: Value::Object(members).to_string().into_bytes(), ..reply }
}

fn scripted(code: u16, body: &Body) -> Reply {
    match body {
        Body::Json(value) => Reply::json(code, value),
        Body::Html(Some(page)) => Reply::html(code, page.as_str()),
        Body::Html(None) => Reply::proxy_page(code),
        Body::Empty => Reply { status: code, ..Reply::default() },
        Body::Raw(text) => Reply {
            status: code,
            content_type: Some("text/plain; charset=utf-8"),
            headers: Vec::new(),
            body: text.clone().into_bytes(),
        },
    }
}

fn error(status: u16, code: &str, lang: Lang) -> Reply {
    Reply::json(status, &json!({"error": texts::text(code, lang), "error_code": code}))
}
