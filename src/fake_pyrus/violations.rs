//! Finds *violations*, i.e. mistakes of the client. A violation does not change the reply.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::faults::FakeEndpoint;
use super::multipart::ParsedUpload;

/// Finds violations (mistakes of the client), and keeps the state for these checks.
#[derive(Debug, Default)]
pub(super) struct StrictChecker {
    violations: Vec<String>,
    /// Number of violations that were not stored, because there were too many.
    uncounted: u64,
    /// Logins with a valid token, i.e. with a token that no reply has refused yet. Another `auth` request of such a
    /// login is a mistake.
    content: HashSet<String>,
    /// Number of `auth` requests without a reply yet, by login.
    auth_under_way: HashMap<String, u32>,
    /// For each login with a reply 429: the end of the demanded pause (virtual time), and the real time of the reply.
    silence: HashMap<String, (Duration, Instant)>,
    /// HTTP status of each final reply to a request that registers a call or attaches a file. All repeats of a request
    /// have the same key. A repeat after a final reply is a violation.
    settled: HashMap<String, u16>,
}

impl StrictChecker {
    pub(super) fn add(&mut self, request: u64, what: impl AsRef<str>) {
        if self.violations.len() >= MAX_VIOLATIONS {
            self.uncounted += 1;
            return;
        }
        self.violations.push(format!("request {request}: {}", what.as_ref()));
    }

    pub(super) fn violations(&self) -> Vec<String> {
        let mut all = self.violations.clone();
        if self.uncounted > 0 {
            all.push(format!("and {} more", self.uncounted));
        }
        all
    }

    pub(super) fn clear(&mut self) {
        self.violations.clear();
        self.uncounted = 0;
    }

    /// Records that the client was restarted, so that it may log in again.
    pub(super) fn client_restarted(&mut self) {
        self.content.clear();
        self.silence.clear();
    }

    // The methods below check `auth` requests.

    pub(super) fn auth_begins(&mut self, request: u64, login: &str, token_is_good: bool) {
        let under_way = self.auth_under_way.entry(login.to_owned()).or_default();
        *under_way += 1;
        let at_once = *under_way;
        if at_once > 1 {
            self.add(request, "auth while another auth of the same login is under way");
        } else if token_is_good && self.content.contains(login) {
            self.add(request, "auth although the token is good and was not refused");
        }
    }

    pub(super) fn auth_ends(&mut self, login: &str, gave_token: bool) {
        if let Some(under_way) = self.auth_under_way.get_mut(login) {
            *under_way = under_way.saturating_sub(1);
        }
        if gave_token {
            self.content.insert(login.to_owned());
        }
    }

    /// Records that a reply refused a token, so that a new `auth` request is allowed.
    pub(super) fn token_refused(&mut self, login: Option<&str>) {
        match login {
            Some(login) => _ = self.content.remove(login),
            None => self.content.clear(),
        }
    }

    // The methods below check the rate of requests.

    pub(super) fn limited(&mut self, login: &str, until: Duration, sent_at: Instant) {
        self.silence.insert(login.to_owned(), (until, sent_at));
    }

    pub(super) fn check_silence(&mut self, request: u64, login: &str, now: Duration, came: ArrivalTime) {
        let Some((until, sent_at)) = self.silence.get(login) else { return };
        if now >= *until {
            self.silence.remove(login);
        } else if came.at > *sent_at + came.grace {
            let left = (*until - now).as_secs_f64();
            self.add(request, format!("request {left:.0} s before the end of the pause that a 429 asked for"));
        }
    }

    // The methods below check repeated requests.

    pub(super) fn check_repeat(&mut self, request: u64, key: &str) {
        if let Some(status) = self.settled.get(key) {
            let what = format!("repeat of {key} after its definite answer ({status})");
            self.add(request, what);
        }
    }

    pub(super) fn settle(&mut self, key: String, status: u16) {
        if self.settled.len() >= MAX_SETTLED {
            self.settled.clear();
        }
        self.settled.insert(key, status);
    }

    /// Forgets the final replies to requests with keys that begin with `prefix`, so that a repeat is no violation. For
    /// example, a deleted call may be registered again.
    pub(super) fn unsettle(&mut self, prefix: &str) {
        self.settled.retain(|key, _| !key.starts_with(prefix));
    }
}

/// The real time at which a request arrived. Also the length of the time after a reply 429 in which further requests
/// are no violations.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArrivalTime {
    pub(super) at: Instant,
    pub(super) grace: Duration,
}

/// Returns the mistakes in the JSON body of a request.
pub(super) fn json_faults(endpoint: FakeEndpoint, body: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    let members = match endpoint {
        FakeEndpoint::Auth => AUTH_MEMBERS,
        FakeEndpoint::Call => CALL_MEMBERS,
        FakeEndpoint::Attach => ATTACH_MEMBERS,
        _ => return found,
    };
    for (name, value) in body {
        let Some((_, kind)) = members.iter().find(|(n, _)| n == name) else {
            found.push(format!("unknown member {name:?}"));
            continue;
        };
        let right = match kind {
            _ if value.is_null() => {
                found.push(format!("member {name:?} is null"));
                continue;
            }
            MemberType::Text => value.is_string(),
            MemberType::Id => value.is_u64(),
            MemberType::Mappings => value.is_array(),
        };
        if !right {
            found.push(format!("member {name:?} has the wrong type"));
        } else if *kind == MemberType::Id && value.as_u64() == Some(0) {
            found.push(format!("member {name:?} is 0"));
        }
    }
    for mapping in body.get("mappings").and_then(Value::as_array).into_iter().flatten() {
        mapping_faults(mapping, &mut found);
    }
    if endpoint == FakeEndpoint::Attach {
        if !body.contains_key("account_id") {
            found.push(String::from("attach without \"account_id\""));
        }
        // The documentation of Pyrus does not say that `record_file` is optional. But it describes the request as
        // "adding information about the call", so form fields alone are accepted.
        let has_fields = body.get("mappings").and_then(Value::as_array).is_some_and(|fields| !fields.is_empty());
        if !body.contains_key("record_file") && !has_fields {
            found.push(String::from("attach without \"record_file\" and without \"mappings\""));
        }
    }
    found
}

fn mapping_faults(mapping: &Value, found: &mut Vec<String>) {
    let Some(members) = mapping.as_object() else {
        found.push("a mapping that is no object".into());
        return;
    };
    for name in members.keys().filter(|n| !matches!(n.as_str(), "code" | "value")) {
        found.push(format!("unknown member {name:?} in a mapping"));
    }
    let code = members.get("code").and_then(Value::as_str).unwrap_or_else(|| {
        found.push("a mapping whose code is no string".into());
        ""
    });
    // In the documentation's example, the rating (a field of type Choice) is a number. So a number is no mistake here.
    if code == "Rating" && members.get("value").is_some_and(Value::is_u64) {
        return;
    }
    let Some(value) = members.get("value").and_then(Value::as_str) else {
        found.push(format!("the value of mapping {code:?} is no string"));
        return;
    };
    if value.chars().count() > MAX_VALUE {
        found.push(format!("the value of mapping {code:?} has over 300 characters"));
    }
    if code.ends_with("Time") && !is_utc_second(value) {
        found.push(format!("the value of mapping {code:?} is not YYYY-MM-DDThh:mm:ssZ"));
    }
    if code == "CallDuration"
        && !(value.bytes().all(|b| b.is_ascii_digit() || b == b'.') && value.parse::<f64>().is_ok())
    {
        found.push(format!("the value of mapping {code:?} is no number"));
    }
    if code == "RatingDate" && !is_date(value) {
        found.push(format!("the value of mapping {code:?} is not YYYY-MM-DD"));
    }
}

/// Returns the mistakes in the body of an upload.
pub(super) fn upload_faults(upload: &ParsedUpload) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(reason) = upload.malformed {
        found.push(format!("malformed multipart body: {reason}"));
        return found;
    }
    if upload.parts.len() > 1 {
        found.push(format!("{} parts in one upload", upload.parts.len()));
    }
    if upload.epilogue > 0 {
        found.push(format!("Content-Length mismatch: {} bytes after the closing boundary", upload.epilogue));
    }
    for part in &upload.parts {
        if part.name.as_deref() != Some("file") {
            found.push(format!("part name {:?} is not \"file\"", part.name.as_deref().unwrap_or_default()));
        }
        match &part.filename {
            None => found.push("a part without a file name".into()),
            Some(name) if !name.is_ascii() => found.push("the file name is not ASCII".into()),
            Some(name) if !name.to_ascii_lowercase().ends_with(".wav") => {
                found.push(format!("the file name {name:?} does not end with .wav"));
            }
            Some(_) => {}
        }
        let kind = part.content_type.as_deref().unwrap_or_default();
        if !matches!(kind, "application/octet-stream" | "audio/wav") {
            found.push(format!("odd Content-Type of the part: {kind:?}"));
        }
    }
    found
}

/// Returns whether a value has the form of a UTC time with whole seconds: `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`.
fn is_utc_second(value: &str) -> bool {
    let shape = b"0000-00-00T00:00:00Z";
    value.len() == shape.len()
        && value.bytes().zip(shape).all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == *s })
}

/// Returns whether a value has the form of a date: `^\d{4}-\d\d-\d\d$`.
fn is_date(value: &str) -> bool {
    let shape = b"0000-00-00";
    value.len() == shape.len()
        && value.bytes().zip(shape).all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == *s })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MemberType {
    Text,
    Id,
    Mappings,
}

const AUTH_MEMBERS: &[(&str, MemberType)] =
    &[("login", MemberType::Text), ("security_key", MemberType::Text), ("person_id", MemberType::Id)];
const CALL_MEMBERS: &[(&str, MemberType)] = &[
    ("account_id", MemberType::Text),
    ("from_number", MemberType::Text),
    ("to_number", MemberType::Text),
    ("internal_number", MemberType::Text),
    ("external_id", MemberType::Text),
    ("mappings", MemberType::Mappings),
];
const ATTACH_MEMBERS: &[(&str, MemberType)] = &[
    ("account_id", MemberType::Text),
    ("record_file", MemberType::Text),
    ("from_number", MemberType::Text),
    ("to_number", MemberType::Text),
    ("external_id", MemberType::Text),
    ("task_id", MemberType::Id),
    ("mappings", MemberType::Mappings),
];
/// Maximum length of a form field's value, characters. The documentation of Pyrus says: "300 symbols max".
const MAX_VALUE: usize = 300;
/// Maximum number of violations that are stored.
const MAX_VIOLATIONS: usize = 10_000;
const MAX_SETTLED: usize = 200_000;
