//! Decides what a response of Pyrus means: converts its status, `error_code` and body to a [`ResponseVerdict`], without
//! side effects.
//!
//! Pyrus "attempts to return the most appropriate HTTP status", and may send status 200 with an error. So `error_code`
//! decides first, then the other members of the body, then the status. The texts of errors are not examined, because
//! they change and may be in Russian. The only exception is the text of `invalid_field_mapping_code`, which lists field
//! codes.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

/// The endpoint of the Pyrus API to which a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PyrusEndpoint {
    /// `auth`: fetches an access token.
    Auth,
    /// `integrations/call`: registers a call in Pyrus.
    Call,
    /// `files/upload`: uploads a recording.
    Upload,
    /// `integrations/attachcallrecord`: attaches an uploaded file.
    Attach,
}

/// The outcome of a request: a response or a failure.
#[derive(Clone, Debug)]
pub(crate) enum RequestOutcome {
    /// An HTTP response arrived, of any status.
    Response(PyrusResponse),
    /// No response arrived, or the request was not sent.
    Failed(RequestFailure),
}

/// An HTTP response that Pyrus sent.
#[derive(Clone)]
pub(crate) struct PyrusResponse {
    /// HTTP status code.
    pub(crate) status: u16,
    /// Headers about the rate limit.
    pub(crate) rate: RateLimitHeaders,
    /// Body of the response. The body of an `auth` response contains the token and must never be logged.
    pub(crate) body: Vec<u8>,
    /// MD5 of the uploaded bytes, lower-case hexadecimal. `None` if the response came before the whole file was sent,
    /// and for other endpoints.
    pub(crate) sent_md5: Option<String>,
}

impl fmt::Debug for PyrusResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

/// Headers about the rate limit, as they were received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RateLimitHeaders {
    /// `X-RateLimit-Remaining`: number of requests left in the current rate-limit window.
    pub(crate) remaining: Option<String>,
    /// `X-RateLimit-Reset`: number of seconds until the next rate-limit window.
    pub(crate) reset: Option<String>,
    /// `Retry-After`: the length of the pause, usually in seconds. HTTP also allows a date.
    pub(crate) retry_after: Option<String>,
}

/// Reasons why a request got no response. Each contains a message for the administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestFailure {
    /// Nothing was sent, e.g. because DNS, TLS or the connection failed.
    NotSent(String),
    /// At least a part of the request was sent, so Pyrus may have executed it.
    Unanswered(String),
    /// The file of the recording does not exist any more.
    NoFile(String),
    /// The operating system cannot read the recording at present, e.g. because no file descriptor is left or its disk
    /// hangs.
    FileError(String),
    /// The request would break a security rule, e.g. send the token to a foreign host.
    Refused(String),
}

/// The consequence that a request's outcome has for its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResponseVerdict {
    /// The request succeeded. Holds the data of the response.
    Done(ResponseData),
    /// Fetch a new access token and repeat the request once. If Pyrus refuses the new token, too, the fallback in this
    /// variant applies.
    Reauth(VerdictFallback),
    /// The rate limit was exceeded. Wait for this time; `None` if the response does not say how long to wait.
    Wait(Option<Duration>),
    /// Repeat the request after a growing pause.
    Backoff {
        /// Whether Pyrus may have executed the request.
        effect: RequestEffect,
        /// Limit of the number of repeats; `None` means no limit.
        limit: Option<RetryLimit>,
    },
    /// Pyrus does not have the uploaded file any more: upload it again.
    Reupload,
    /// Pyrus does not know the call: register it again, at most this number of times.
    Reregister(u32),
    /// Repeat the request once without form fields.
    WithoutFields,
    /// Park the delivery of the call: it waits for the administrator, who must act.
    Park,
    /// The file is too large for the server: send it in slices.
    TooLarge,
    /// Give the delivery of the call up: the request can never succeed.
    Dead,
}

/// Limit of the number of repeats of a request, and the consequence of reaching it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryLimit {
    /// Maximum number of repeats of the request.
    pub(crate) retries: u32,
    /// Consequence for the job if the last repeat of the request fails, too.
    pub(crate) fallback: VerdictFallback,
}

/// Whether Pyrus may have executed a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestEffect {
    /// Pyrus did not execute the request, or executing it twice does no harm.
    None,
    /// Pyrus may have executed the request, and a repeat can create a duplicate.
    Possible,
}

/// Consequence for the job after all allowed repeats of its request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VerdictFallback {
    /// Repeat the request after a pause that grows with each failure.
    Backoff,
    /// Park the delivery of the call: it waits for the administrator, who must act.
    Park,
    /// Give the delivery of the call up, because the request can never succeed.
    Dead,
}

/// Data from a successful response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponseData {
    /// Id of the task, from `integrations/call`; `None` from other endpoints.
    pub(crate) task_id: Option<u64>,
    /// Name of the person responsible for the task, from `integrations/call`.
    pub(crate) responsible: Option<String>,
    /// Id of the uploaded file, from `files/upload`.
    pub(crate) guid: Option<String>,
    /// MD5 of the uploaded file, lower-case hexadecimal, from `files/upload`.
    pub(crate) md5: Option<String>,
    /// Error text in which Pyrus lists the form fields that it refused; `None` if it accepted all fields.
    pub(crate) unacceptable_fields: Option<String>,
    /// Whether the response contains an error although Pyrus executed the request.
    pub(crate) has_warning: bool,
}

/// The assessment of an outcome: the verdict and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutcomeAssessment {
    /// The consequence that the outcome of the request has for the job.
    pub(crate) verdict: ResponseVerdict,
    /// HTTP status and error code, for the log. Contains no free text.
    pub(crate) code: String,
    /// Explanation for the administrator: what to do, and the error text of Pyrus.
    pub(crate) reason: String,
    /// Whether Pyrus is unreachable: there was no response, or a gateway responded with a status from 502 to 504.
    pub(crate) is_unreachable: bool,
    /// The calls that would get the same response: only the call of this request, or all calls of the telephony
    /// account.
    pub(crate) scope: VerdictScope,
    /// Pause that the response asks for in `Retry-After`; `None` without this header.
    pub(crate) retry_after: Option<Duration>,
}

/// The calls that a response concerns: only the call of the request, or all calls of the telephony account
/// (`account_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VerdictScope {
    /// The response concerns only the call of the request.
    Call,
    /// The response concerns every call of the telephony account (`account_id`).
    Account,
}

/// Decides what the outcome of a request to an endpoint means: for its job, for other calls, and for the administrator.
pub(crate) fn assess(endpoint: PyrusEndpoint, outcome: &RequestOutcome) -> OutcomeAssessment {
    match outcome {
        RequestOutcome::Response(response) => assess_response(endpoint, response),
        RequestOutcome::Failed(failure) => assess_failure(endpoint, failure),
    }
}

fn assess_failure(endpoint: PyrusEndpoint, failure: &RequestFailure) -> OutcomeAssessment {
    let backoff = |effect| ResponseVerdict::Backoff { effect, limit: None };
    let (verdict, code, reason) = match failure {
        RequestFailure::NotSent(text) => {
            (backoff(RequestEffect::None), "no connection", format!("no connection ({text}); {REPEATED}"))
        }
        RequestFailure::Unanswered(text) => {
            (backoff(possible_effect(endpoint)), NO_RESPONSE, format!("no response ({text}); {REPEATED}"))
        }
        RequestFailure::NoFile(text) => (ResponseVerdict::Park, "file not readable", text.clone()),
        RequestFailure::FileError(text) => {
            let limit = Some(RetryLimit { retries: FILE_RETRIES, fallback: VerdictFallback::Park });
            let verdict = ResponseVerdict::Backoff { effect: possible_effect(endpoint), limit };
            (verdict, "file not readable", text.clone())
        }
        RequestFailure::Refused(text) => (ResponseVerdict::Park, "not sent for security", text.clone()),
    };
    OutcomeAssessment {
        verdict,
        code: code.to_owned(),
        reason: one_line(&reason),
        is_unreachable: matches!(failure, RequestFailure::NotSent(_) | RequestFailure::Unanswered(_)),
        scope: VerdictScope::Call,
        retry_after: None,
    }
}

fn assess_response(endpoint: PyrusEndpoint, response: &PyrusResponse) -> OutcomeAssessment {
    let body = ResponseBody::parse(&response.body);
    let verdict = match body.code() {
        Some(code) => restrict_to_endpoint(endpoint, verdict_by_code(endpoint, response, &body, code)),
        None => restrict_to_endpoint(endpoint, verdict_by_status(endpoint, response, &body)),
    };
    let code = match body.code() {
        Some(code) => format!("HTTP {} {}", response.status, loggable_code(code)),
        None => format!("HTTP {}", response.status),
    };
    let text = body.text("error").or_else(|| body.text("Message")).map(|t| format!(": {t}")).unwrap_or_default();
    let remedy = remedy(body.code(), response.status).unwrap_or_else(|| default_remedy(&verdict));
    let reason = one_line(&format!("{remedy} (Pyrus: {code}{text})"));
    let is_unreachable = body.code().is_none() && matches!(response.status, 502..=504);
    let retry_after = match verdict {
        ResponseVerdict::Backoff { .. } => response.rate.retry_after.as_ref().and_then(|h| seconds(h)),
        _ => None,
    };
    let scope = scope(body.code(), response.status);
    OutcomeAssessment {
        verdict,
        code,
        reason,
        is_unreachable,
        scope,
        retry_after: retry_after.map(|s| s.clamp(MIN_WAIT, MAX_WAIT)),
    }
}

/// Returns the verdict for an `error_code` that is documented. The codes are in the order of the Pyrus reference.
fn verdict_by_code(
    endpoint: PyrusEndpoint,
    response: &PyrusResponse,
    body: &ResponseBody,
    code: &str,
) -> ResponseVerdict {
    use VerdictFallback as Fallback;
    match code {
        "unrecognized_call_id" => ResponseVerdict::Reregister(2),
        // Pyrus has processed the request, so it counts as done. A repeat would add a second comment to the task.
        "invalid_field_mapping_code" => ResponseVerdict::Done(ResponseData {
            task_id: body.id("task_id"),
            responsible: body.responsible(),
            unacceptable_fields: Some(body.text("error").unwrap_or_default().to_owned()),
            has_warning: true,
            ..ResponseData::default()
        }),
        "unrecognized_attachment_id" => ResponseVerdict::Reupload,
        "unsupported_record_file_format" => ResponseVerdict::Dead, // Pyrus accepts our .wav and .ogg files
        "unrecognized_account_id" | "webhook_is_disabled" => ResponseVerdict::Park,
        "required_parameters_not_specified" => ResponseVerdict::Dead,
        "invalid_credentials" | "account_blocked" => ResponseVerdict::Park,
        "authorization_error" | "invalid_application_id" => ResponseVerdict::Reauth(Fallback::Park),
        "token_not_specified" => ResponseVerdict::Reauth(Fallback::Dead),
        "expired_token" | "invalid_token" | "revoked_token" => ResponseVerdict::Reauth(Fallback::Backoff),
        "form_is_deleted" | "task_migrated" | "option_is_not_supported" => ResponseVerdict::Park,
        "conflict" => ResponseVerdict::Backoff {
            effect: RequestEffect::None,
            limit: Some(RetryLimit { retries: 3, fallback: Fallback::Park }),
        },
        "unrecognized_task_id" | "form_has_no_task" => ResponseVerdict::Reregister(1),
        "too_many_comments"
        | "too_many_attachments"
        | "file_limit_exceeded"
        | "limit_exceeded"
        | "task_limit_exceeded" => ResponseVerdict::Park,
        "too_large_request_length" | "attachment_too_big" => ResponseVerdict::TooLarge,
        "empty_file" => ResponseVerdict::Dead,
        // An interrupted upload can cause errors, e.g. `no_file_in_request`, so the upload is repeated once.
        "no_file_in_request" | "bad_multipart_content" | "max_file_name_length_exceeded" => ResponseVerdict::Backoff {
            effect: RequestEffect::None,
            limit: Some(RetryLimit { retries: 1, fallback: Fallback::Dead }),
        },
        "invalid_value_format" => ResponseVerdict::WithoutFields,
        "invalid_json"
        | "empty_body"
        | "invalid_request"
        | "validation_error"
        | "required_parameter_missing"
        | "invalid_request_encoding"
        | "invalid_input"
        | "value_is_too_long" => ResponseVerdict::Dead,
        "too_many_requests" => rate_limit_verdict(response),
        "server_error" => ResponseVerdict::Backoff { effect: possible_effect(endpoint), limit: None },
        _ if code.starts_with("access_denied") => ResponseVerdict::Park,
        _ => verdict_by_unknown_code(endpoint, response, body),
    }
}

/// Returns the verdict for an `error_code` that callspan does not know. Pyrus adds codes over time, so the HTTP status
/// decides.
fn verdict_by_unknown_code(endpoint: PyrusEndpoint, response: &PyrusResponse, body: &ResponseBody) -> ResponseVerdict {
    match response.status {
        200..=299 if endpoint == PyrusEndpoint::Call && body.id("task_id").is_some() => {
            ResponseVerdict::Done(ResponseData {
                task_id: body.id("task_id"),
                responsible: body.responsible(),
                has_warning: true,
                ..ResponseData::default()
            })
        }
        401 => ResponseVerdict::Reauth(VerdictFallback::Park),
        429 => rate_limit_verdict(response),
        500..=599 => ResponseVerdict::Backoff { effect: possible_effect(endpoint), limit: None },
        _ => ResponseVerdict::Park,
    }
}

/// Returns the verdict for a response without an `error_code`, by its HTTP status.
fn verdict_by_status(endpoint: PyrusEndpoint, response: &PyrusResponse, body: &ResponseBody) -> ResponseVerdict {
    match response.status {
        200..=299 => verdict_by_success_status(endpoint, response, body),
        300..=399 | 403 | 404 => ResponseVerdict::Park,
        400 if !body.is_json() => ResponseVerdict::Backoff {
            effect: RequestEffect::None,
            limit: Some(RetryLimit { retries: 1, fallback: VerdictFallback::Dead }),
        },
        401 => ResponseVerdict::Reauth(VerdictFallback::Backoff),
        408 | 425 | 503 => ResponseVerdict::Backoff { effect: RequestEffect::None, limit: None },
        413 => ResponseVerdict::TooLarge,
        429 => rate_limit_verdict(response),
        400..=499 => ResponseVerdict::Park,
        _ => ResponseVerdict::Backoff { effect: possible_effect(endpoint), limit: None },
    }
}

fn verdict_by_success_status(
    endpoint: PyrusEndpoint,
    response: &PyrusResponse,
    body: &ResponseBody,
) -> ResponseVerdict {
    let ResponseBody::Object(_) = body else {
        // An attach request succeeds even if status 200 comes with an empty body or `null`. The official C# client does
        // the same.
        return match body {
            ResponseBody::Empty => verdict_without_result(endpoint),
            _ => ResponseVerdict::Backoff {
                effect: possible_effect(endpoint),
                limit: Some(RetryLimit { retries: 5, fallback: VerdictFallback::Park }),
            },
        };
    };
    match endpoint {
        PyrusEndpoint::Call if body.id("task_id").is_some() => {
            let responsible = body.responsible();
            ResponseVerdict::Done(ResponseData { task_id: body.id("task_id"), responsible, ..ResponseData::default() })
        }
        PyrusEndpoint::Upload if body.text("guid").is_some() => verdict_on_upload(response, body),
        PyrusEndpoint::Auth if body.text("access_token").is_some() => ResponseVerdict::Done(ResponseData::default()),
        _ if body.text("error").is_some() || body.text("Message").is_some() => ResponseVerdict::Park,
        _ => verdict_without_result(endpoint),
    }
}

/// Returns the verdict for a success status with a body that lacks the expected result. A request that registers the
/// call or attaches a file counts as done, and other requests are repeated.
const fn verdict_without_result(endpoint: PyrusEndpoint) -> ResponseVerdict {
    match endpoint {
        PyrusEndpoint::Attach | PyrusEndpoint::Call => ResponseVerdict::Done(ResponseData {
            task_id: None,
            responsible: None,
            guid: None,
            md5: None,
            unacceptable_fields: None,
            has_warning: false,
        }),
        PyrusEndpoint::Upload => ResponseVerdict::Backoff { effect: RequestEffect::None, limit: None },
        PyrusEndpoint::Auth => ResponseVerdict::Backoff {
            effect: RequestEffect::None,
            limit: Some(RetryLimit { retries: 3, fallback: VerdictFallback::Park }),
        },
    }
}

/// Returns the verdict for an upload. The upload succeeded if the MD5 in the response, in upper or lower case, equals
/// the MD5 of the sent bytes. Otherwise it is repeated.
fn verdict_on_upload(response: &PyrusResponse, body: &ResponseBody) -> ResponseVerdict {
    let theirs = body.text("md5_hash").map(str::to_ascii_lowercase);
    match (&response.sent_md5, theirs) {
        (Some(ours), theirs) if theirs.as_ref().is_none_or(|t| t == ours) => ResponseVerdict::Done(ResponseData {
            guid: body.text("guid").map(String::from),
            md5: Some(ours.clone()),
            ..ResponseData::default()
        }),
        _ => ResponseVerdict::Backoff { effect: RequestEffect::None, limit: None },
    }
}

/// Replaces verdicts that make no sense for an endpoint. For example, a failed login must not cause a new login at
/// once.
fn restrict_to_endpoint(endpoint: PyrusEndpoint, verdict: ResponseVerdict) -> ResponseVerdict {
    let is_integration = matches!(endpoint, PyrusEndpoint::Call | PyrusEndpoint::Attach);
    match verdict {
        // Only a recording can be sent in slices. Any other request that is too large can never succeed.
        ResponseVerdict::TooLarge if !matches!(endpoint, PyrusEndpoint::Upload | PyrusEndpoint::Attach) => {
            restrict_to_endpoint(endpoint, ResponseVerdict::Dead)
        }
        ResponseVerdict::Reauth(VerdictFallback::Backoff) if endpoint == PyrusEndpoint::Auth => {
            ResponseVerdict::Backoff {
                effect: RequestEffect::None,
                limit: Some(RetryLimit { retries: 3, fallback: VerdictFallback::Park }),
            }
        }
        ResponseVerdict::Reauth(_) | ResponseVerdict::Dead if endpoint == PyrusEndpoint::Auth => ResponseVerdict::Park,
        ResponseVerdict::Backoff {
            effect,
            limit: Some(RetryLimit { retries: n, fallback: VerdictFallback::Dead }),
        } if endpoint == PyrusEndpoint::Auth => {
            ResponseVerdict::Backoff { effect, limit: Some(RetryLimit { retries: n, fallback: VerdictFallback::Park }) }
        }
        ResponseVerdict::Reupload | ResponseVerdict::Reregister(_) if endpoint != PyrusEndpoint::Attach => {
            ResponseVerdict::Park
        }
        ResponseVerdict::Done(ResponseData { unacceptable_fields: Some(_), .. }) if !is_integration => {
            ResponseVerdict::Park
        }
        ResponseVerdict::WithoutFields if !is_integration => restrict_to_endpoint(endpoint, ResponseVerdict::Dead),
        fits => fits,
    }
}

/// Reads the pause from `Retry-After` or, without it, from `X-RateLimit-Reset`. Negative and malformed values are
/// ignored.
fn rate_limit_verdict(response: &PyrusResponse) -> ResponseVerdict {
    let said = [&response.rate.retry_after, &response.rate.reset].into_iter().flatten().find_map(|h| seconds(h));
    ResponseVerdict::Wait(said.map(|s| s.clamp(MIN_WAIT, MAX_WAIT)))
}

/// Parses a header value that is a number of whole seconds.
pub(super) fn seconds(header: &str) -> Option<Duration> {
    header.trim().parse::<u32>().ok().map(|s| Duration::from_secs(u64::from(s)))
}

/// Returns whether a repeat of a request to this endpoint may create a duplicate. A second upload does no harm. But a
/// second request to register the call or to attach a file can create a second task or comment.
const fn possible_effect(endpoint: PyrusEndpoint) -> RequestEffect {
    match endpoint {
        PyrusEndpoint::Call | PyrusEndpoint::Attach => RequestEffect::Possible,
        PyrusEndpoint::Auth | PyrusEndpoint::Upload => RequestEffect::None,
    }
}

fn scope(code: Option<&str>, status: u16) -> VerdictScope {
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
        | (None, 202 | 300..=399 | 404) => VerdictScope::Account,
        _ => VerdictScope::Call,
    }
}

/// Returns the explanation of a known error. It includes the remedy if the administrator can do something.
fn remedy(code: Option<&str>, status: u16) -> Option<&'static str> {
    Some(match code {
        Some("invalid_credentials") => {
            "Pyrus refuses the login: check login and security_key in [pyrus] (the bot's profile in Pyrus shows the key). If the login has several accounts, set person_id. After the change, run systemctl reload callspan"
        }
        Some("account_blocked") => "the Pyrus account of the bot is blocked: ask the Pyrus administrator to unblock it",
        Some("unrecognized_account_id") => {
            "Pyrus does not know the account_id in [pyrus]: copy it from the telephony extension that is connected to the form"
        }
        Some("webhook_is_disabled") => {
            "calls are switched off in Pyrus: enable the telephony extension in the settings of its form"
        }
        Some("form_is_deleted") => "the form in Pyrus is deleted: connect the telephony extension to another form",
        Some("too_many_comments" | "too_many_attachments") => {
            "the task in Pyrus is full: close the task, so that the next call gets a new one"
        }
        Some("file_limit_exceeded" | "limit_exceeded" | "task_limit_exceeded") => {
            "a limit of the Pyrus licence is reached: free space in Pyrus or extend the licence"
        }
        Some("too_large_request_length" | "attachment_too_big") => {
            "the recording is larger than Pyrus accepts: lower max_upload_mib in [pyrus] or part_hours in [recording]"
        }
        Some("invalid_field_mapping_code") => {
            "the form in Pyrus lacks some of the fields: add them to the form, or remove their codes from send_mappings and mappings in [pyrus]"
        }
        Some("authorization_error" | "invalid_application_id" | "token_not_specified") => {
            "Pyrus does not accept the token for calls: check that login and auth_url in [pyrus] belong to the same Pyrus. Give the bot access to the form"
        }
        Some("expired_token" | "invalid_token" | "revoked_token") => {
            "the session of the bot ended: callspan logs in again by itself. If this comes often, another program uses the same login: give each program its own bot"
        }
        Some("unrecognized_call_id") => {
            "Pyrus does not know the call: callspan registers the call again by itself. If that fails, check account_id in [pyrus] and whether somebody deleted the task"
        }
        Some("task_migrated") => {
            "the task of the call was moved to another place in Pyrus: move the task back and run callspan calls retry. Or attach the recording by hand"
        }
        Some("unrecognized_task_id" | "form_has_no_task") => {
            "the task of the call is gone in Pyrus: the call is registered again by itself; after that, run callspan calls retry"
        }
        Some("unrecognized_attachment_id") => {
            "Pyrus no longer has the uploaded file: callspan uploads the file again by itself. Only the login that uploaded a file can attach it, so do not change login in between"
        }
        Some("unsupported_record_file_format") => {
            "Pyrus does not take this kind of file: set format = \"wav\" in [recording], then run callspan calls render and callspan calls retry"
        }
        Some("conflict") => {
            "somebody changed the task in Pyrus at the same moment: the request is repeated. If the fault stays, check the task for a lock or a workflow step"
        }
        Some("option_is_not_supported") => {
            "this Pyrus does not support the request: update Pyrus on your own servers, or check the settings of the telephony extension"
        }
        Some("empty_file") => {
            "the recording has no sound: callspan calls verify says whether the file is whole; callspan calls render makes it again from kept packets"
        }
        Some("no_file_in_request" | "bad_multipart_content" | "max_file_name_length_exceeded") => {
            "the upload arrived damaged: look for a proxy or firewall between here and Pyrus that changes requests, then run callspan calls retry"
        }
        Some("invalid_value_format" | "value_is_too_long" | "invalid_input") => {
            "a form field does not take its value: compare send_mappings, mappings, rating_type and call_duration_unit in [pyrus] with the types of the form's fields"
        }
        Some("required_parameters_not_specified" | "required_parameter_missing") => {
            "Pyrus misses a parameter: check account_id in [pyrus]; if it is right, this is a mistake of callspan, so keep the log"
        }
        Some("invalid_json" | "empty_body" | "invalid_request" | "validation_error" | "invalid_request_encoding") => {
            "Pyrus cannot read the request: look for a proxy that changes requests; else this is a mistake of callspan, so keep the log"
        }
        Some("too_many_requests") => {
            "the rate limit of the bot is reached (5,000 requests in 10 minutes): the request is repeated by itself. Give other programs a bot of their own"
        }
        Some("server_error") => {
            "Pyrus has a fault: the request is repeated by itself; if it lasts longer than 10 minutes, ask the support of Pyrus"
        }
        Some(code) if code.starts_with("access_denied") => {
            "Pyrus denies the bot access: give the bot access to the form"
        }
        None if status == 413 => {
            "the recording is larger than the server accepts: lower max_upload_mib in [pyrus] or part_hours in [recording]"
        }
        None if matches!(status, 202 | 300..=399 | 404) => {
            "the server is not the Pyrus API, or too old for calls: check auth_url in [pyrus]"
        }
        None if status == 403 => {
            "a firewall or proxy in front of Pyrus refuses the request: allow this machine to reach Pyrus"
        }
        _ => return None,
    })
}

/// Returns the explanation of an error for which no remedy is known.
const fn default_remedy(verdict: &ResponseVerdict) -> &'static str {
    match verdict {
        ResponseVerdict::Done(_) => "the request succeeded with a warning",
        ResponseVerdict::Wait(_) => "the rate limit of Pyrus is reached: the request is repeated automatically",
        ResponseVerdict::Park => {
            "Pyrus refuses the request: fix the cause in Pyrus or in [pyrus]; the request is then repeated automatically"
        }
        ResponseVerdict::Dead | ResponseVerdict::TooLarge => {
            "Pyrus rejects the request and it is not repeated: after fixing the cause, use `callspan calls retry`"
        }
        ResponseVerdict::Reauth(_)
        | ResponseVerdict::Backoff { .. }
        | ResponseVerdict::Reupload
        | ResponseVerdict::Reregister(_)
        | ResponseVerdict::WithoutFields => "the request failed and is repeated automatically",
    }
}

/// The body of a response, parsed as JSON where possible.
enum ResponseBody {
    /// The body is empty, or is the literal `null`.
    Empty,
    Object(Map<String, Value>),
    /// The body is JSON that is neither an object nor `null`.
    Other,
    /// The body is not valid JSON, e.g. HTML or truncated JSON.
    NotJson,
}

impl ResponseBody {
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

    /// Returns a member of the body that is a non-empty string; `None` otherwise.
    fn text(&self, key: &str) -> Option<&str> {
        let Self::Object(map) = self else { return None };
        map.get(key)?.as_str().filter(|t| !t.is_empty())
    }

    /// Returns the name of the person responsible for the task. Returns `None` if the body names nobody.
    fn responsible(&self) -> Option<String> {
        let Self::Object(map) = self else { return None };
        let person = map.get("responsible_person")?.as_object()?;
        let part = |key: &str| person.get(key).and_then(Value::as_str).map(str::trim).filter(|t| !t.is_empty());
        let names: Vec<&str> = ["first_name", "last_name"].into_iter().filter_map(part).collect();
        let id = || match person.get("user_id")? {
            Value::Number(id) => Some(format!("user {id}")),
            Value::String(id) => Some(format!("user {id}")),
            _ => None,
        };
        let name = if names.is_empty() { id()? } else { names.join(" ") };
        Some(one_line(&name).chars().take(MAX_NAME_CHARS).collect())
    }

    /// Returns the id in a member of the body: a number, or a string of digits, which older servers send. Returns
    /// `None` for 0, which means no id.
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

/// Returns an error code if it is a single word, which is safe to log; otherwise a placeholder.
fn loggable_code(code: &str) -> &str {
    let is_word = code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_word { code } else { "(odd error_code)" }
}

/// Converts a text from Pyrus to one line of at most [`MAX_REASON_CHARS`] characters, which is safe to store and
/// display.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON_CHARS).collect()
}

/// Text in place of an error code, for a request that was sent at least in part and got no response.
pub(super) const NO_RESPONSE: &str = "no response";

/// Maximum number of repeats of an upload if the recording cannot be read. Because the pauses grow, the repeats take
/// hours. Most problems of a disk end in that time; a defective sector does not.
const FILE_RETRIES: u32 = 12;
/// End of the reason text for a failure after which nobody needs to act.
const REPEATED: &str = "the request is repeated automatically";

/// Maximum length of a reason text for the administrator, characters. It has room for an error text of Pyrus (at most
/// 300 characters) and for our advice.
const MAX_REASON_CHARS: usize = 600;

/// Maximum length of a responsible person's name, characters. A longer name in a response is truncated, because the
/// journal stores it.
const MAX_NAME_CHARS: usize = 200;

/// Minimum pause that is accepted from a response. `Retry-After: 0` must not cause a busy loop.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// Maximum pause that is accepted from a response. The rate-limit window has 10 minutes, so a longer time is an error
/// of the server.
const MAX_WAIT: Duration = Duration::from_secs(900);

#[cfg(test)]
mod tests;
