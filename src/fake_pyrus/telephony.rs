//! The endpoints `integrations/call` and `integrations/attachcallrecord`, and the old API (`/v4/calls`) that they
//! replaced.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::clock;
use super::http::RequestHead;
use super::options::{AttachOkBody, FakeAccount, IdStyle, RepeatCall, ResponsibleEmpty, UnknownTaskError};
use super::reply::FakeReply;
use super::routes::{RequestPayload, RouteResult, number, parse_object, text_of, wrong_method};
use super::state::{CommentKind, RegisteredCall, TaskAttachment, TaskComment};
use super::world::FakeWorld;

impl FakeWorld {
    // The method below handles the endpoint `integrations/call`.

    pub(super) fn call(&mut self, body: &Map<String, Value>, now: Duration) -> RouteResult {
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
            task.comments.push(TaskComment { at, kind, external_id: external_id.clone(), guid: None });
        }
        if let Some(person) = person {
            task.responsible = Some(person.user_id);
        }
        let bad = fill(&mut task.fields, body, &account.allowed_codes);
        let what = match (&known, is_new) {
            (Some(_), _) => "registered again in",
            (None, true) => "made",
            (None, false) => "joined",
        };
        match &known {
            Some(call) => {
                self.store.count_repeat(call);
                self.store.duplicates += u64::from(visible);
            }
            None => {
                let account_id = account.account_id;
                let internal = internal.clone();
                self.store.add_call(RegisteredCall {
                    account_id,
                    external_id,
                    task_id,
                    from,
                    to,
                    internal,
                    registered: 1,
                });
            }
        }
        let mut reply = Map::new();
        reply.insert("task_id".into(), self.id(task_id, IdStyle::String));
        reply.insert("is_new_task".into(), is_new.into());
        if let Some(person) = self.responsible(internal.as_deref()) {
            reply.insert("responsible_person".into(), person);
        }
        self.with_bad_codes(reply, &bad, format!("{what} task {task_id}"))
    }

    fn account(&self, account_id: Option<&str>) -> Result<FakeAccount, &'static str> {
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

    /// Returns an id as a JSON value: a string if the option `id_style` is `String` or `also`, otherwise a number. For
    /// a user id, `also` is `Mixed`.
    fn id(&self, id: u64, also: IdStyle) -> Value {
        if self.options.id_style == IdStyle::String || self.options.id_style == also {
            id.to_string().into()
        } else {
            id.into()
        }
    }

    /// Builds the reply to a successful request. If field codes were refused, it contains a warning about them.
    fn with_bad_codes(&self, mut reply: Map<String, Value>, bad: &[String], note: String) -> RouteResult {
        if bad.is_empty() {
            return RouteResult { reply: FakeReply::json(200, &Value::Object(reply)), code: None, note };
        }
        if !self.options.mapping_error_task_id {
            reply.remove("task_id");
        }
        let code = "invalid_field_mapping_code";
        let text: String = format!("Unacceptable field codes: {}", bad.join(", ")).chars().take(MAX_ERROR).collect();
        reply.insert("error_code".into(), code.into());
        reply.insert("error".into(), text.into());
        let reply = FakeReply::json(self.options.mapping_error_status, &Value::Object(reply));
        RouteResult { reply, code: Some(code.into()), note }
    }

    // The method below handles the endpoint `integrations/attachcallrecord`.

    pub(super) fn attach(&mut self, login: &str, body: &Map<String, Value>, now: Duration) -> RouteResult {
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
        let Some(guid) = text_of(body, "record_file") else {
            return self.add_fields(task_id, body, &account.allowed_codes);
        };
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
        task.comments.push(TaskComment {
            at: at.clone(),
            kind: CommentKind::Recording,
            external_id: external_id.clone(),
            guid: Some(guid.clone()),
        });
        task.attachments.push(TaskAttachment { guid: guid.clone(), name: name.clone(), external_id, at });
        self.store.duplicates += u64::from(again);
        self.store.reference(&guid);
        let note = format!("{name} attached to task {task_id}");
        self.attached(task_id, &bad, note)
    }

    /// Fills form fields without attaching a file, if the options allow that.
    fn add_fields(&mut self, task_id: u64, body: &Map<String, Value>, allowed: &[String]) -> RouteResult {
        if !self.options.fields_without_file {
            return self.refusal("unrecognized_attachment_id");
        }
        let Some(task) = self.store.task_mut(task_id) else {
            return self.refusal("unrecognized_task_id");
        };
        let bad = fill(&mut task.fields, body, allowed);
        self.attached(task_id, &bad, format!("fields of task {task_id} filled"))
    }

    fn attached(&self, task_id: u64, bad: &[String], note: String) -> RouteResult {
        let mut members = Map::new();
        if self.options.attach_ok_body == AttachOkBody::TaskId {
            members.insert("task_id".into(), self.id(task_id, IdStyle::String));
        }
        let mut answer = self.with_bad_codes(members, bad, note);
        if bad.is_empty() {
            match self.options.attach_ok_body {
                AttachOkBody::Empty => answer.reply = FakeReply { status: 200, ..FakeReply::default() },
                AttachOkBody::Null => answer.reply = FakeReply::json(200, &Value::Null),
                AttachOkBody::Object | AttachOkBody::TaskId => {}
            }
        }
        answer
    }

    /// Finds the task that a request names, and the `external_id` of the call if known. A `task_id` in the request
    /// decides first, then an `external_id`, then the two telephone numbers.
    fn find_task(
        &mut self,
        account: Option<&FakeAccount>,
        body: &Map<String, Value>,
    ) -> Result<(u64, Option<String>), &'static str> {
        let account_id = account.map(|a| a.account_id.clone());
        let external_id = text_of(body, "external_id");
        // Official clients send 0 if they know no task, so 0 counts as no `task_id`.
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

    fn account_of(&mut self, task_id: u64) -> Option<FakeAccount> {
        let account_id = self.store.task_mut(task_id)?.account_id.clone();
        self.account(Some(&account_id)).ok()
    }

    // The method below handles the old API, which Pyrus removed in 2024.

    pub(super) fn legacy_calls(&mut self, tail: &str, head: &RequestHead, payload: RequestPayload) -> RouteResult {
        let body = match parse_object(payload) {
            Ok(body) => body,
            Err(code) => return self.error(400, code),
        };
        let ok = |value: Value, note: String| RouteResult { reply: FakeReply::json(200, &value), code: None, note };
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
            self.store.add_call(RegisteredCall {
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

/// Fills the form fields of a task with the `mappings` of a request. Returns the codes in the request for which the
/// form has no field.
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

/// File name extensions that attach requests accept.
const RECORD_FORMATS: [&str; 5] = [".ac3", ".mp3", ".ogg", ".wav", ".wma"];
/// Maximum length of an error text, characters. The documentation of Pyrus says: "300 symbols max".
const MAX_ERROR: usize = 300;
