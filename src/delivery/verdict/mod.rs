//! What an answer of Pyrus means. Pure: status, error_code and body in, [`Verdict`] out.
//!
//! Pyrus "attempts to return the most appropriate HTTP status" and may answer 200 with an error, so the body decides
//! first: `error_code`, then what else is in it, then the status. Texts change and may be Russian; nothing is decided
//! by a text, with one exception: the field codes named in the text of `invalid_field_mapping_code`.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

/// Which request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `auth`.
    Auth,
    /// `integrations/call`.
    Call,
    /// `files/upload`.
    Upload,
    /// `integrations/attachcallrecord`.
    Attach,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// An HTTP answer came.
    Answer(Answer),
    /// None came.
    Failed(Failure),
}

/// An HTTP answer.
#[derive(Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// What it says of the rate.
    pub rate: RateHeaders,
    /// Its body. Of `auth` it holds the token: never log it.
    pub body: Vec<u8>,
    /// Upload: MD5 of what was sent, lower-case hex; `None` when the answer came before all was.
    pub sent_md5: Option<String>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

/// Headers about the rate, as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateHeaders {
    /// `X-RateLimit-Remaining`.
    pub remaining: Option<String>,
    /// `X-RateLimit-Reset`: seconds, not a moment.
    pub reset: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
}

/// Why no answer came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was sent: no address, refused, TLS.
    NotSent(String),
    /// The request, or some of it, was sent: Pyrus may have done it.
    Unanswered(String),
    /// The recording cannot be read.
    NoFile(String),
    /// Sending it would break a rule of ours: a token for a host that it does not belong to.
    Refused(String),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The work is done.
    Done(Gain),
    /// Get a new token and repeat once; if that token is refused too, do the other.
    Reauth(Otherwise),
    /// The rate is exceeded; `None`: it was not said for how long.
    Wait(Option<Duration>),
    /// Repeat after a growing pause.
    Backoff {
        /// Whether Pyrus may have done it.
        sent: Sent,
        /// After so many times do the other.
        limit: Option<(u32, Otherwise)>,
    },
    /// The file is not there: send it again.
    Reupload,
    /// The call is not there: register it again, at most so often.
    Reregister(u32),
    /// Repeat once without form fields.
    WithoutFields,
    /// A person must act.
    Park,
    /// The file is too large: send it in pieces.
    TooLarge,
    /// It will never succeed as it is.
    Dead,
}

/// Whether Pyrus may have done what it did not answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It did nothing.
    No,
    /// It may have.
    Perhaps,
}

/// What to do when a repeat did not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// Repeat after a growing pause.
    Backoff,
    /// A person must act.
    Park,
    /// Give up.
    Dead,
}

/// What a good answer brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gain {
    /// Of `integrations/call`.
    pub task_id: Option<u64>,
    /// Of `files/upload`.
    pub guid: Option<String>,
    /// Of `files/upload`, lower-case hex.
    pub md5: Option<String>,
    /// The whole text in which Pyrus names the form fields that it did not take.
    pub unacceptable_fields: Option<String>,
    /// The work is done, and Pyrus has something to say about it.
    pub has_warning: bool,
}

/// A verdict and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What to do.
    pub verdict: Verdict,
    /// For the log: status and code, nothing that came as free text.
    pub code: String,
    /// For a person, in the journal: what Pyrus said and what to do.
    pub why: String,
    /// Whether it says that Pyrus cannot be reached.
    pub away: bool,
    /// Whom it concerns.
    pub scope: Scope,
    /// A server that is not well (503) may say for how long.
    pub retry_after: Option<Duration>,
}

/// Whom an answer concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One call.
    Call,
    /// Every call of this account: the next one would hear the same.
    Account,
}

/// Judges what became of a request.
pub fn judge(endpoint: Endpoint, reply: &Reply) -> Judgement {
    match reply {
        Reply::Answer(answer) => judge_answer(endpoint, answer),
        Reply::Failed(failure) => judge_failure(endpoint, failure),
    }
}

fn judge_failure(endpoint: Endpoint, failure: &Failure) -> Judgement {
    let (verdict, code, text, away) = match failure {
        Failure::NotSent(text) => (Verdict::Backoff { sent: Sent::No, limit: None }, "not reached", text, true),
        Failure::Unanswered(text) => (Verdict::Backoff { sent: perhaps(endpoint), limit: None }, NO_ANSWER, text, true),
        Failure::NoFile(text) => (Verdict::Park, "file not readable", text, false),
        Failure::Refused(text) => (Verdict::Park, "refused by us", text, false),
    };
    Judgement {
        verdict,
        code: code.to_owned(),
        why: bounded(&format!("{code}: {text}")),
        away,
        scope: Scope::Call,
        retry_after: None,
    }
}

fn judge_answer(endpoint: Endpoint, answer: &Answer) -> Judgement {
    let body = Body::parse(&answer.body);
    let verdict = match body.code() {
        Some(code) => fitting(endpoint, by_code(endpoint, answer, &body, code)),
        None => fitting(endpoint, by_status(endpoint, answer, &body)),
    };
    let code = match body.code() {
        Some(code) => format!("HTTP {} {}", answer.status, plain(code)),
        None => format!("HTTP {}", answer.status),
    };
    let said = body.text("error").or_else(|| body.text("Message")).map(|t| format!(": {t}")).unwrap_or_default();
    let remedy = remedy(body.code(), answer.status).map(|r| format!("{r} (Pyrus: {code}{said})"));
    let why = bounded(&remedy.unwrap_or_else(|| format!("{code}{said}")));
    let away = body.code().is_none() && matches!(answer.status, 502..=504);
    let retry_after = match verdict {
        Verdict::Backoff { .. } => answer.rate.retry_after.as_ref().and_then(|h| seconds(h)),
        _ => None,
    };
    let scope = scope(body.code(), answer.status);
    Judgement { verdict, code, why, away, scope, retry_after: retry_after.map(|s| s.clamp(MIN_WAIT, MAX_WAIT)) }
}

/// PYRUS error codes. One line for each, in the order of the reference.
fn by_code(endpoint: Endpoint, answer: &Answer, body: &Body, code: &str) -> Verdict {
    use Otherwise as Or;
    match code {
        "unrecognized_call_id" => Verdict::Reregister(2),
        // "Request being processed": a repeat would make a second comment.
        "invalid_field_mapping_code" => Verdict::Done(Gain {
            task_id: body.id("task_id"),
            unacceptable_fields: Some(body.text("error").unwrap_or_default().to_owned()),
            has_warning: true,
            ..Gain::default()
        }),
        "unrecognized_attachment_id" => Verdict::Reupload,
        "unsupported_record_file_format" => Verdict::Dead, // our names end in .wav or .ogg
        "unrecognized_account_id" | "webhook_is_disabled" => Verdict::Park,
        "required_parameters_not_specified" => Verdict::Dead,
        "invalid_credentials" | "account_blocked" => Verdict::Park,
        "authorization_error" | "invalid_application_id" => Verdict::Reauth(Or::Park),
        "token_not_specified" => Verdict::Reauth(Or::Dead),
        "expired_token" | "invalid_token" | "revoked_token" => Verdict::Reauth(Or::Backoff),
        "form_is_deleted" | "task_migrated" | "option_is_not_supported" => Verdict::Park,
        "conflict" => Verdict::Backoff { sent: Sent::No, limit: Some((3, Or::Park)) },
        "unrecognized_task_id" | "form_has_no_task" => Verdict::Reregister(1),
        "too_many_comments"
        | "too_many_attachments"
        | "file_limit_exceeded"
        | "limit_exceeded"
        | "task_limit_exceeded" => Verdict::Park,
        "too_large_request_length" | "attachment_too_big" => Verdict::TooLarge,
        "empty_file" => Verdict::Dead,
        // A transfer that broke can look like this once.
        "no_file_in_request" | "bad_multipart_content" | "max_file_name_length_exceeded" => {
            Verdict::Backoff { sent: Sent::No, limit: Some((1, Or::Dead)) }
        }
        "invalid_value_format" => Verdict::WithoutFields,
        "invalid_json"
        | "empty_body"
        | "invalid_request"
        | "validation_error"
        | "required_parameter_missing"
        | "invalid_request_encoding"
        | "invalid_input"
        | "value_is_too_long" => Verdict::Dead,
        "too_many_requests" => wait(answer),
        "server_error" => Verdict::Backoff { sent: perhaps(endpoint), limit: None },
        _ if code.starts_with("access_denied") => Verdict::Park,
        _ => by_unknown_code(endpoint, answer, body),
    }
}

/// Codes are added over time.
fn by_unknown_code(endpoint: Endpoint, answer: &Answer, body: &Body) -> Verdict {
    match answer.status {
        200..=299 if endpoint == Endpoint::Call && body.id("task_id").is_some() => {
            Verdict::Done(Gain { task_id: body.id("task_id"), has_warning: true, ..Gain::default() })
        }
        401 => Verdict::Reauth(Otherwise::Park),
        429 => wait(answer),
        500..=599 => Verdict::Backoff { sent: perhaps(endpoint), limit: None },
        _ => Verdict::Park,
    }
}

/// Without an error_code.
fn by_status(endpoint: Endpoint, answer: &Answer, body: &Body) -> Verdict {
    match answer.status {
        200..=299 => by_good_status(endpoint, answer, body),
        300..=399 | 403 | 404 => Verdict::Park,
        400 if !body.is_json() => Verdict::Backoff { sent: Sent::No, limit: Some((1, Otherwise::Dead)) },
        401 => Verdict::Reauth(Otherwise::Backoff),
        408 | 425 | 503 => Verdict::Backoff { sent: Sent::No, limit: None },
        413 => Verdict::TooLarge,
        429 => wait(answer),
        400..=499 => Verdict::Park,
        _ => Verdict::Backoff { sent: perhaps(endpoint), limit: None },
    }
}

fn by_good_status(endpoint: Endpoint, answer: &Answer, body: &Body) -> Verdict {
    let Body::Object(_) = body else {
        // CS takes 200 with nothing, or with `null`, as success of an attach.
        return match body {
            Body::Empty => by_nothing(endpoint),
            _ => Verdict::Backoff { sent: perhaps(endpoint), limit: Some((5, Otherwise::Park)) },
        };
    };
    match endpoint {
        Endpoint::Call if body.id("task_id").is_some() => {
            Verdict::Done(Gain { task_id: body.id("task_id"), ..Gain::default() })
        }
        Endpoint::Upload if body.text("guid").is_some() => by_guid(answer, body),
        Endpoint::Auth if body.text("access_token").is_some() => Verdict::Done(Gain::default()),
        _ if body.text("error").is_some() || body.text("Message").is_some() => Verdict::Park,
        _ => by_nothing(endpoint),
    }
}

/// A good status and no word about what was asked for.
const fn by_nothing(endpoint: Endpoint) -> Verdict {
    match endpoint {
        Endpoint::Attach | Endpoint::Call => {
            Verdict::Done(Gain { task_id: None, guid: None, md5: None, unacceptable_fields: None, has_warning: false })
        }
        Endpoint::Upload => Verdict::Backoff { sent: Sent::No, limit: None },
        Endpoint::Auth => Verdict::Backoff { sent: Sent::No, limit: Some((3, Otherwise::Park)) },
    }
}

/// The file is there if it is the one that was sent. Pyrus writes the sum in either case.
fn by_guid(answer: &Answer, body: &Body) -> Verdict {
    let theirs = body.text("md5_hash").map(str::to_ascii_lowercase);
    match (&answer.sent_md5, theirs) {
        (Some(ours), theirs) if theirs.as_ref().is_none_or(|t| t == ours) => Verdict::Done(Gain {
            guid: body.text("guid").map(String::from),
            md5: Some(ours.clone()),
            ..Gain::default()
        }),
        _ => Verdict::Backoff { sent: Sent::No, limit: None },
    }
}

/// Takes away what makes no sense for this request: it has no token, call or file to renew.
fn fitting(endpoint: Endpoint, verdict: Verdict) -> Verdict {
    let is_integration = matches!(endpoint, Endpoint::Call | Endpoint::Attach);
    match verdict {
        // Neither a login nor a registration can be made smaller.
        Verdict::TooLarge if !matches!(endpoint, Endpoint::Upload | Endpoint::Attach) => {
            fitting(endpoint, Verdict::Dead)
        }
        Verdict::Reauth(Otherwise::Backoff) if endpoint == Endpoint::Auth => {
            Verdict::Backoff { sent: Sent::No, limit: Some((3, Otherwise::Park)) }
        }
        Verdict::Reauth(_) | Verdict::Dead if endpoint == Endpoint::Auth => Verdict::Park,
        Verdict::Backoff { sent, limit: Some((n, Otherwise::Dead)) } if endpoint == Endpoint::Auth => {
            Verdict::Backoff { sent, limit: Some((n, Otherwise::Park)) }
        }
        Verdict::Reupload | Verdict::Reregister(_) if endpoint != Endpoint::Attach => Verdict::Park,
        Verdict::Done(Gain { unacceptable_fields: Some(_), .. }) if !is_integration => Verdict::Park,
        Verdict::WithoutFields if !is_integration => fitting(endpoint, Verdict::Dead),
        fits => fits,
    }
}

/// How long to wait: `Retry-After`, else `X-RateLimit-Reset`; a number below zero or none at all says nothing.
fn wait(answer: &Answer) -> Verdict {
    let said = [&answer.rate.retry_after, &answer.rate.reset].into_iter().flatten().find_map(|h| seconds(h));
    Verdict::Wait(said.map(|s| s.clamp(MIN_WAIT, MAX_WAIT)))
}

/// Whole seconds in a header.
pub(super) fn seconds(header: &str) -> Option<Duration> {
    header.trim().parse::<u32>().ok().map(|s| Duration::from_secs(u64::from(s)))
}

/// A second upload harms nothing, a second call or attach does.
const fn perhaps(endpoint: Endpoint) -> Sent {
    match endpoint {
        Endpoint::Call | Endpoint::Attach => Sent::Perhaps,
        Endpoint::Auth | Endpoint::Upload => Sent::No,
    }
}

fn scope(code: Option<&str>, status: u16) -> Scope {
    match (code, status) {
        (
            Some(
                "unrecognized_account_id"
                | "webhook_is_disabled"
                | "form_is_deleted"
                | "account_blocked"
                | "access_denied_form",
            ),
            _,
        )
        | (None, 202 | 300..=399 | 404) => Scope::Account,
        _ => Scope::Call,
    }
}

/// What a person must do, for answers that a person can mend.
fn remedy(code: Option<&str>, status: u16) -> Option<&'static str> {
    Some(match code {
        Some("invalid_credentials") => {
            "Pyrus refuses the login: check login and security_key in [pyrus] (the key stands in the bot's profile), and person_id if the login has several accounts; a new key in security_key_file is taken up by itself, all else by a restart"
        }
        Some("account_blocked") => "the Pyrus account of the bot is blocked: ask the administrator of Pyrus",
        Some("unrecognized_account_id") => {
            "Pyrus does not know account_id: compare account_id in [pyrus] with the telephony extension connected to the form"
        }
        Some("webhook_is_disabled") => {
            "calls are switched off in Pyrus: switch the telephony extension on in the settings of its form"
        }
        Some("form_is_deleted") => "the form in Pyrus is deleted: connect the telephony extension to another",
        Some("too_many_comments" | "too_many_attachments") => {
            "the task in Pyrus is full: close it, so that the next call gets a new one"
        }
        Some("file_limit_exceeded" | "limit_exceeded" | "task_limit_exceeded") => {
            "a limit of the Pyrus licence is reached"
        }
        Some("too_large_request_length" | "attachment_too_big") => {
            "the recording is larger than Pyrus takes: lower max_upload_mib in [pyrus] or part_hours in [recording]"
        }
        Some(code) if code.starts_with("access_denied") => {
            "the bot has no right to do this: give it access to the form in Pyrus"
        }
        None if status == 413 => {
            "the recording is larger than the server takes: lower max_upload_mib in [pyrus] or part_hours in [recording]"
        }
        None if matches!(status, 202 | 300..=399 | 404) => {
            "this is not the Pyrus API, or one too old for calls: check auth_url in [pyrus]"
        }
        None if status == 403 => "something before Pyrus (a firewall, a proxy) refuses the request",
        _ => return None,
    })
}

/// A reply body.
enum Body {
    /// Nothing, or `null`.
    Empty,
    Object(Map<String, Value>),
    /// Other JSON.
    Other,
    /// HTML, a cut reply, anything.
    NotJson,
}

impl Body {
    fn parse(bytes: &[u8]) -> Self {
        if bytes.trim_ascii().is_empty() {
            return Self::Empty;
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Null) => Self::Empty,
            Ok(Value::Object(map)) => Self::Object(map),
            Ok(_) => Self::Other,
            Err(_) => Self::NotJson,
        }
    }

    const fn is_json(&self) -> bool {
        matches!(self, Self::Object(_) | Self::Other)
    }

    fn code(&self) -> Option<&str> {
        self.text("error_code")
    }

    /// A string that is not empty.
    fn text(&self, key: &str) -> Option<&str> {
        let Self::Object(map) = self else { return None };
        map.get(key)?.as_str().filter(|t| !t.is_empty())
    }

    /// An id: a number, or a string of one (older servers). 0 means none.
    fn id(&self, key: &str) -> Option<u64> {
        let Self::Object(map) = self else { return None };
        let id = match map.get(key)? {
            Value::Number(n) => n.as_u64(),
            Value::String(s) => s.trim().parse().ok(),
            _ => None,
        };
        id.filter(|&id| id != 0)
    }
}

/// A code as it may stand in a log: it is a word, or it is not shown.
fn plain(code: &str) -> &str {
    let is_word = code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_word { code } else { "(odd error_code)" }
}

/// One line, bounded: what others wrote is stored and shown.
fn bounded(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WHY_CHARS).collect()
}

/// [`Judgement::code`] of a request that was sent, at least in part, and not answered.
pub(super) const NO_ANSWER: &str = "no answer";

/// Pyrus's own bound of an error text is 300; room for our words before it.
const MAX_WHY_CHARS: usize = 600;

/// `Retry-After: 0` must not make a hot loop.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// The window is 10 minutes; a longer wait is a mistake of the server's.
const MAX_WAIT: Duration = Duration::from_secs(900);

#[cfg(test)]
mod tests;
