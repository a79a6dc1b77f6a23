//! The endpoints: what Pyrus does and answers. The order of checks everywhere is: route, token,
//! rate limit, body, account, webhook, required parameters, lookup, file, mappings.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::clock;
use super::faults::Endpoint;
use super::http::{Head, Reply};
use super::multipart::Upload;
use super::options::{
    Account, AttachOkBody, IdStyle, Md5Case, Mode, RepeatCall, ResponsibleEmpty, UnknownTaskError, UrlSlash,
};
use super::state::{Attachment, Call, Comment, CommentKind, Life, Store};
use super::texts;
use super::world::World;

/// Which listener a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Host {
    /// Auth; everything on premises.
    Accounts,
    /// The API.
    Api,
    /// Uploads.
    Files,
    /// All of them on one listener.
    One,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Auth,
    Upload,
    Call,
    Attach,
    /// A telephony path of a server that has no telephony.
    NoTelephony(Endpoint),
    /// `/v4/calls…` with what follows.
    LegacyCalls(String),
    Unknown,
}

/// A request's body, read.
#[derive(Debug)]
pub(super) enum Payload {
    Bytes(Vec<u8>),
    Upload(Box<Upload>),
    TooLarge,
}

/// A reply with what the log and the strict rules want to know.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) code: Option<String>,
    /// For a person: what happened.
    pub(super) note: String,
}

impl Route {
    pub(super) fn of(mode: Mode, host: Host, path: &str) -> Route {
        let (api, rest) = match (path.strip_prefix("/api/v4/"), path.strip_prefix("/v4/")) {
            (Some(rest), _) => ("/api/v4/", rest),
            (None, Some(rest)) => ("/v4/", rest),
            _ => return Route::Unknown,
        };
        let cloud = mode == Mode::Cloud;
        let here = match (cloud, rest) {
            (true, "auth" | "auth/") => match api {
                "/api/v4/" => matches!(host, Host::Accounts | Host::One),
                // Where older clients log in.
                _ => matches!(host, Host::Api | Host::One),
            },
            (true, "files/upload") => match api {
                "/v4/" => host != Host::Accounts,
                _ => host == Host::One,
            },
            (true, _) => api == "/v4/" && matches!(host, Host::Api | Host::One),
            (false, "files/upload") => matches!(host, Host::Accounts | Host::One),
            (false, _) => api == "/api/v4/" && matches!(host, Host::Accounts | Host::One),
        };
        match rest {
            _ if !here => Route::Unknown,
            "auth" | "auth/" => Route::Auth,
            "files/upload" => Route::Upload,
            "integrations/call" if mode == Mode::LegacyOnprem => Route::NoTelephony(Endpoint::Call),
            "integrations/attachcallrecord" if mode == Mode::LegacyOnprem => Route::NoTelephony(Endpoint::Attach),
            "integrations/call" => Route::Call,
            "integrations/attachcallrecord" => Route::Attach,
            "calls" => Route::LegacyCalls(String::new()),
            _ => match rest.strip_prefix("calls/") {
                Some(tail) => Route::LegacyCalls(tail.to_owned()),
                None => Route::Unknown,
            },
        }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        match self {
            Route::Auth => Endpoint::Auth,
            Route::Upload => Endpoint::Upload,
            Route::Call => Endpoint::Call,
            Route::Attach => Endpoint::Attach,
            Route::NoTelephony(endpoint) => *endpoint,
            Route::LegacyCalls(_) | Route::Unknown => Endpoint::Other,
        }
    }
}

impl World {
    /// Does the work of a request and answers it.
    pub(super) fn answer(&mut self, route: &Route, head: &Head, payload: Payload) -> Answer {
        let now = self.clock.now();
        self.store.sweep(self.options.orphan_ttl, now);
        match route {
            Route::Auth if head.method == "POST" => return self.auth(payload, now),
            Route::Unknown => return self.not_found(404, head),
            Route::NoTelephony(_) => return self.not_found(202, head),
            Route::LegacyCalls(_) if !self.options.legacy_calls => return self.not_found(404, head),
            Route::LegacyCalls(_) => {}
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
                Route::Upload => self.upload(&login, payload, now),
                Route::LegacyCalls(tail) => self.legacy_calls(tail, head, payload),
                _ => match parse_object(payload) {
                    Err(code) => self.error(400, code),
                    Ok(body) if *route == Route::Call => self.call(&body, now),
                    Ok(body) => self.attach(&login, &body, now),
                },
            }
        };
        answer.reply.headers.extend(headers);
        answer
    }

    pub(super) fn error(&self, status: u16, code: &str) -> Answer {
        let text = texts::text(code, self.options.error_lang);
        Answer {
            reply: Reply::json(status, &json!({"error": text, "error_code": code})),
            code: Some(code.to_owned()),
            note: String::new(),
        }
    }

    fn not_found(&self, status: u16, head: &Head) -> Answer {
        Answer { reply: no_such_resource(status, head.path()), code: None, note: "no such path here".into() }
    }

    /// A telephony error.
    fn refusal(&self, code: &str) -> Answer {
        self.error(self.options.logic_error_status, code)
    }

    // -- auth --

    fn auth(&mut self, payload: Payload, now: Duration) -> Answer {
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
        if self.options.mode == Mode::Cloud {
            reply["api_url"] = self.slashed(&self.urls.api).into();
            reply["files_url"] = self.slashed(&self.urls.files).into();
        }
        Answer { reply: Reply::json(200, &reply), code: None, note: "token issued".into() }
    }

    fn slashed(&self, url: &str) -> String {
        match self.options.url_slash {
            UrlSlash::Trailing => url.to_owned(),
            UrlSlash::None => url.trim_end_matches('/').to_owned(),
        }
    }

    fn check_token(&self, head: &Head, now: Duration) -> Result<String, &'static str> {
        let value = bearer(head).ok_or("token_not_specified")?;
        let token = self.store.token(value).ok_or("invalid_token")?;
        if self.options.users.iter().any(|u| u.login == token.login && u.blocked) {
            return Err("account_blocked");
        }
        match Store::life(token, &self.options, now) {
            Life::Active => Ok(token.login.clone()),
            Life::Expired => Err("expired_token"),
            Life::Revoked => Err("revoked_token"),
        }
    }

    /// Counts a request in its user's window; gives the headers, and whether it is too much.
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

    // -- files --

    fn upload(&mut self, login: &str, payload: Payload, now: Duration) -> Answer {
        let upload = match payload {
            Payload::Upload(upload) => *upload,
            Payload::TooLarge => return self.error(400, "too_large_request_length"),
            Payload::Bytes(_) => return self.error(400, "bad_multipart_content"),
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
        Answer {
            reply: Reply::json(200, &json!({"guid": file.guid, "md5_hash": md5})),
            code: None,
            note: format!("{} of {} bytes kept as {}", file.name, file.size, file.guid),
        }
    }

    // -- integrations/call --

    fn call(&mut self, body: &Map<String, Value>, now: Duration) -> Answer {
        let account = match self.account(text_of(body, "account_id").as_deref()) {
            Ok(account) => account,
            Err(code) => return self.refusal(code),
        };
        let (Some(from), Some(to)) = (text_of(body, "from_number"), text_of(body, "to_number")) else {
            return self.refusal("required_parameters_not_specified");
        };
        let internal = text_of(body, "internal_number");
        let external_id = text_of(body, "external_id");
        let known = external_id.as_deref().and_then(|ext| self.store.find_call(Some(&account.account_id), ext));
        let (task_id, is_new) = match &known {
            Some(call) => (call.task_id, false),
            None => self.store.task_for(&account, &from, &to, self.options.task_policy),
        };
        let kind = if known.is_some() { CommentKind::RepeatedCall } else { CommentKind::Call };
        let visible = known.is_none() || self.options.repeat_call == RepeatCall::Comment;
        let at = clock::text(now);
        let person = self.options.people.iter().find(|p| internal.as_ref().is_some_and(|i| p.work_phones.contains(i)));
        let Some(task) = self.store.task_mut(task_id) else {
            return self.error(500, "server_error");
        };
        if task.comments.len() >= self.options.max_comments {
            return self.refusal("too_many_comments");
        }
        if visible {
            task.comments.push(Comment { at, kind, external_id: external_id.clone(), guid: None });
        }
        if let Some(person) = person {
            task.responsible = Some(person.user_id);
        }
        let bad = fill(&mut task.fields, body, &account.allowed_codes);
        match &known {
            Some(call) => {
                self.store.count_repeat(call);
                self.store.duplicates += u64::from(visible);
            }
            None => self.store.add_call(Call {
                account_id: account.account_id.clone(),
                external_id: external_id.clone(),
                task_id,
                from,
                to,
                internal: internal.clone(),
                registered: 1,
            }),
        }
        let mut reply = Map::new();
        reply.insert("task_id".into(), self.id(task_id, IdStyle::String));
        reply.insert("is_new_task".into(), is_new.into());
        if let Some(person) = self.responsible(internal.as_deref()) {
            reply.insert("responsible_person".into(), person);
        }
        let what = if known.is_some() {
            "registered again in"
        } else if is_new {
            "made"
        } else {
            "joined"
        };
        let note = format!("{what} task {task_id}");
        self.with_bad_codes(reply, &bad, note, "task_id")
    }

    fn account(&self, account_id: Option<&str>) -> Result<Account, &'static str> {
        let account_id = account_id.ok_or("required_parameters_not_specified")?;
        let account = self.options.accounts.iter().find(|a| a.account_id == account_id);
        let account = account.ok_or("unrecognized_account_id")?;
        if account.webhook_enabled { Ok(account.clone()) } else { Err("webhook_is_disabled") }
    }

    fn responsible(&self, internal: Option<&str>) -> Option<Value> {
        let person = internal.and_then(|i| self.options.people.iter().find(|p| p.work_phones.iter().any(|w| w == i)));
        match (person, self.options.responsible_empty) {
            (Some(p), _) => Some(json!({
                "user_id": self.id(p.user_id, IdStyle::Mixed),
                "first_name": p.first_name,
                "last_name": p.last_name,
                "work_phone": p.work_phones.first(),
            })),
            (None, ResponsibleEmpty::Absent) => None,
            (None, ResponsibleEmpty::Null) => Some(Value::Null),
            (None, ResponsibleEmpty::Object) => Some(json!({})),
        }
    }

    /// An id as a string when the style is `String`, or is this one.
    fn id(&self, id: u64, also: IdStyle) -> Value {
        if self.options.id_style == IdStyle::String || self.options.id_style == also {
            id.to_string().into()
        } else {
            id.into()
        }
    }

    /// The reply of work that was done, with a word about the codes that were ignored.
    fn with_bad_codes(&self, mut reply: Map<String, Value>, bad: &[String], note: String, id: &str) -> Answer {
        if bad.is_empty() {
            return Answer { reply: Reply::json(200, &Value::Object(reply)), code: None, note };
        }
        if !self.options.mapping_error_task_id {
            reply.remove(id);
        }
        let code = "invalid_field_mapping_code";
        let text: String = format!("Unacceptable field codes: {}", bad.join(", ")).chars().take(MAX_ERROR).collect();
        reply.insert("error_code".into(), code.into());
        reply.insert("error".into(), text.into());
        let reply = Reply::json(self.options.mapping_error_status, &Value::Object(reply));
        Answer { reply, code: Some(code.into()), note }
    }

    // -- integrations/attachcallrecord --

    fn attach(&mut self, login: &str, body: &Map<String, Value>, now: Duration) -> Answer {
        let account_id = text_of(body, "account_id");
        let account = match (&account_id, self.options.attach_requires_account) {
            (None, false) => None,
            _ => match self.account(account_id.as_deref()) {
                Ok(account) => Some(account),
                Err(code) => return self.refusal(code),
            },
        };
        let (task_id, external_id) = match self.find_task(account.as_ref(), body) {
            Ok(found) => found,
            Err(code) => return self.refusal(code),
        };
        let Some(account) = account.or_else(|| self.account_of(task_id)) else {
            return self.refusal("unrecognized_account_id");
        };
        let guid = text_of(body, "record_file").unwrap_or_default();
        let name = match self.store.file(&guid) {
            Some(file) if file.owner == login => file.name.clone(),
            _ => return self.refusal("unrecognized_attachment_id"),
        };
        let good_format = RECORD_FORMATS.iter().any(|ext| name.to_ascii_lowercase().ends_with(ext));
        let applies = good_format || self.options.bad_format_applies_mappings;
        let (max_attachments, max_comments) = (self.options.max_attachments, self.options.max_comments);
        let Some(task) = self.store.task_mut(task_id) else {
            return self.refusal("unrecognized_task_id");
        };
        if good_format && task.attachments.len() >= max_attachments {
            return self.refusal("too_many_attachments");
        }
        if good_format && task.comments.len() >= max_comments {
            return self.refusal("too_many_comments");
        }
        let bad = if applies { fill(&mut task.fields, body, &account.allowed_codes) } else { Vec::new() };
        if !good_format {
            return self.refusal("unsupported_record_file_format");
        }
        let at = clock::text(now);
        let again = task.attachments.iter().any(|a| a.guid == guid);
        task.comments.push(Comment {
            at: at.clone(),
            kind: CommentKind::Recording,
            external_id: external_id.clone(),
            guid: Some(guid.clone()),
        });
        task.attachments.push(Attachment { guid: guid.clone(), name: name.clone(), external_id, at });
        self.store.duplicates += u64::from(again);
        self.store.reference(&guid);
        let note = format!("{name} attached to task {task_id}");
        self.attached(task_id, &bad, note)
    }

    fn attached(&self, task_id: u64, bad: &[String], note: String) -> Answer {
        let mut members = Map::new();
        if self.options.attach_ok_body == AttachOkBody::TaskId {
            members.insert("task_id".into(), self.id(task_id, IdStyle::String));
        }
        let mut answer = self.with_bad_codes(members, bad, note, "task_id");
        if bad.is_empty() {
            match self.options.attach_ok_body {
                AttachOkBody::Empty => answer.reply = Reply { status: 200, ..Reply::default() },
                AttachOkBody::Null => answer.reply = Reply::json(200, &Value::Null),
                AttachOkBody::Object | AttachOkBody::TaskId => {}
            }
        }
        answer
    }

    /// The task, and the call's external_id when it is known. The first identifier that is there decides.
    fn find_task(
        &mut self,
        account: Option<&Account>,
        body: &Map<String, Value>,
    ) -> Result<(u64, Option<String>), &'static str> {
        let account_id = account.map(|a| a.account_id.clone());
        let external_id = text_of(body, "external_id");
        // Official clients send 0 for "none".
        if let Some(task_id) = body.get("task_id").and_then(number).filter(|id| *id != 0) {
            let known =
                self.store.task_mut(task_id).is_some_and(|t| account.is_none_or(|a| a.account_id == t.account_id));
            return match (known, self.options.unknown_task_error) {
                (true, _) => Ok((task_id, external_id)),
                (false, UnknownTaskError::Task) => Err("unrecognized_task_id"),
                (false, UnknownTaskError::Call) => Err("unrecognized_call_id"),
            };
        }
        let call = match (external_id, text_of(body, "from_number"), text_of(body, "to_number")) {
            (Some(ext), _, _) => self.store.find_call(account_id.as_deref(), &ext),
            (None, Some(from), Some(to)) => self.store.find_numbers(account_id.as_deref(), &from, &to),
            _ => return Err("required_parameters_not_specified"),
        };
        call.map(|c| (c.task_id, c.external_id)).ok_or("unrecognized_call_id")
    }

    fn account_of(&mut self, task_id: u64) -> Option<Account> {
        let account_id = self.store.task_mut(task_id)?.account_id.clone();
        self.account(Some(&account_id)).ok()
    }

    // -- the API of before 2024 --

    fn legacy_calls(&mut self, tail: &str, head: &Head, payload: Payload) -> Answer {
        let body = match parse_object(payload) {
            Ok(body) => body,
            Err(code) => return self.error(400, code),
        };
        let ok = |value: Value, note: String| Answer { reply: Reply::json(200, &value), code: None, note };
        if tail.is_empty() && head.method == "POST" {
            let integration = text_of(&body, "integration_guid").unwrap_or_default();
            let Some(account) = self.options.accounts.iter().find(|a| a.account_id == integration).cloned() else {
                return self.error(400, "unrecognized_integration_guid");
            };
            let (Some(from), Some(to)) = (text_of(&body, "from"), text_of(&body, "to")) else {
                return self.error(400, "required_parameters_not_specified");
            };
            let (task_id, _) = self.store.task_for(&account, &from, &to, self.options.task_policy);
            let guid = self.store.guid();
            self.store.add_call(Call {
                account_id: account.account_id,
                external_id: Some(guid.clone()),
                task_id,
                from,
                to,
                internal: text_of(&body, "extension"),
                registered: 1,
            });
            return ok(
                json!({"call_guid": guid, "task_id": self.id(task_id, IdStyle::String)}),
                format!("old API: task {task_id}"),
            );
        }
        let (guid, event) = match tail.strip_suffix("/event") {
            Some(guid) => (guid, true),
            None => (tail, false),
        };
        if self.store.find_call(None, guid).is_none() {
            return self.error(400, "unrecognized_call_guid");
        }
        match (event, head.method.as_str()) {
            (true, "POST") if text_of(&body, "event_type").as_deref() == Some("show") => {
                ok(json!({}), "old API: show".into())
            }
            (true, "POST") => self.error(400, "invalid_value_format"),
            (false, "PUT") => ok(json!({}), "old API: call updated".into()),
            _ => wrong_method(head),
        }
    }
}

/// ASP.NET's answer to an unknown path: no error_code in it.
pub(super) fn no_such_resource(status: u16, path: &str) -> Reply {
    let path: String = path.chars().take(200).collect();
    Reply::json(
        status,
        &json!({"Message": format!("No HTTP resource was found that matches the request URI '{path}'.")}),
    )
}

/// The token of a request.
pub(super) fn bearer(head: &Head) -> Option<&str> {
    head.header("authorization")?.strip_prefix("Bearer ").map(str::trim).filter(|t| !t.is_empty())
}

/// A JSON object, or the error code of what is none.
pub(super) fn parse_object(payload: Payload) -> Result<Map<String, Value>, &'static str> {
    let bytes = match payload {
        Payload::Bytes(bytes) => bytes,
        Payload::TooLarge => return Err("too_large_request_length"),
        Payload::Upload(_) => return Err("invalid_json"),
    };
    if bytes.is_empty() {
        return Err("empty_body");
    }
    serde_json::from_slice(&bytes).map_err(|_| "invalid_json")
}

/// A member as text; a number too, empty as absent.
pub(super) fn text_of(body: &Map<String, Value>, name: &str) -> Option<String> {
    match body.get(name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn wrong_method(head: &Head) -> Answer {
    let text = format!("The requested resource does not support http method '{}'.", head.method);
    Answer { reply: Reply::json(405, &json!({"Message": text})), code: None, note: "wrong method".into() }
}

/// Fills the form's fields; gives the codes that it has not.
fn fill(fields: &mut BTreeMap<String, String>, body: &Map<String, Value>, allowed: &[String]) -> Vec<String> {
    let mut bad = Vec::new();
    for mapping in body.get("mappings").and_then(Value::as_array).into_iter().flatten() {
        let Some(members) = mapping.as_object() else { continue };
        let Some(code) = text_of(members, "code") else { continue };
        if allowed.contains(&code) {
            let value = text_of(members, "value").unwrap_or_default();
            fields.insert(code, value.chars().take(300).collect());
        } else if !bad.contains(&code) {
            bad.push(code);
        }
    }
    bad
}

/// What attachcallrecord takes, by the file's name.
const RECORD_FORMATS: [&str; 5] = [".ac3", ".mp3", ".ogg", ".wav", ".wma"];
/// The real limit is unknown; that of most file systems.
const MAX_FILE_NAME: usize = 255;
/// "Error notification. 300 symbols max."
const MAX_ERROR: usize = 300;
