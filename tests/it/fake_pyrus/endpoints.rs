//! Tests of each endpoint of the fake Pyrus under each condition: its effect, and its answer compared with a stored
//! body.

use std::time::Duration;

use callspan::fake_pyrus::{
    CommentKind, ErrorLanguage, FakeEndpoint, FakeUser, IdStyle, Md5Case, TokenValidity, WorldChange,
};
use serde_json::{Value, json};

use crate::fake_pyrus::client::{
    ACCOUNT, PyrusSession, attach_body, auth, call_body, get, post_json, request, with, without,
};
use crate::fake_pyrus::{fake, fake_with, no_violation};

#[test]
fn a_call_is_registered_its_recording_uploaded_and_attached_without_violation() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let call = session.call("ext-1");
    assert_eq!((call.status, call.json()["task_id"].as_u64()), (200, Some(458_732)));
    let wav = vec![7; 100_000];
    let upload = session.upload("ext-1.wav", &wav);
    let guid = upload.json()["guid"].as_str().expect("a guid").to_owned();
    let attach = session.attach("ext-1", &guid);
    assert_eq!((attach.status, attach.body.as_slice()), (200, &b"{}"[..]));
    let state = fake.state();
    assert_eq!(state.file(&guid).and_then(|f| f.bytes.as_deref()), Some(&wav));
    let task = state.task(458_732).expect("the task");
    let kinds: Vec<CommentKind> = task.comments.iter().map(|c| c.kind).collect();
    assert_eq!(kinds, [CommentKind::Call, CommentKind::Recording]);
    assert_eq!((task.attachments.len(), task.responsible), (1, Some(34231)));
    assert_eq!(task.fields["CallStartTime"], "2021-12-23T00:11:32Z");
    for endpoint in [FakeEndpoint::Auth, FakeEndpoint::Call, FakeEndpoint::Upload, FakeEndpoint::Attach] {
        assert_eq!(state.requests(endpoint), 1, "{endpoint:?}");
    }
    assert_eq!(state.duplicates, 0);
    no_violation(&fake);
}

#[test]
fn an_auth_reply_is_the_golden_one() {
    let fake = fake();
    let reply = auth(&fake).expect("a reply");
    let body = reply.json();
    assert!(body["access_token"].as_str().expect("a token").starts_with("gAAAA"));
    let expected =
        json!({"access_token": body["access_token"], "api_url": fake.api_url(), "files_url": fake.files_url()});
    assert_eq!((reply.status, body), (200, expected));
    assert!(fake.api_url().ends_with("/v4/") && !fake.files_url().contains("v4"));
    assert_ne!(fake.api_url().replace("v4/", ""), fake.files_url(), "hosts are split");
}

#[test]
fn bad_credentials_blocked_users_and_bad_bodies_get_no_token() {
    let fake = fake_with(|o| {
        o.users.push(FakeUser { login: "two".into(), person_ids: vec![1, 2], ..FakeUser::default() });
        o.users.push(FakeUser { login: "blocked".into(), blocked: true, ..FakeUser::default() });
    });
    let url = fake.auth_url();
    let login = |body: Value| post_json(&url, None, &body).expect("a reply");
    let bad = login(json!({"login": "bot@callspan", "security_key": "wrong"}));
    let golden = json!({"error": "Invalid login/secret_key.", "error_code": "invalid_credentials"});
    assert_eq!((bad.status, bad.json()), (401, golden));
    assert_eq!(login(json!({"login": "two", "security_key": "secret"})).code(), "invalid_credentials");
    assert_eq!(login(json!({"login": "two", "security_key": "secret", "person_id": 3})).code(), "invalid_credentials");
    assert_eq!(login(json!({"login": "two", "security_key": "secret", "person_id": 2})).status, 200);
    let blocked = login(json!({"login": "blocked", "security_key": "secret"}));
    assert_eq!((blocked.status, blocked.code().as_str()), (401, "account_blocked"));
    let raw = |body: &[u8]| request("POST", &url, &[("Content-Type", "application/json")], body).expect("a reply");
    assert_eq!((raw(b"").status, raw(b"").code().as_str()), (400, "empty_body"));
    assert_eq!((raw(b"{\"login\":").status, raw(b"[]").code().as_str()), (400, "invalid_json"));
    let slash = post_json(&format!("{url}/"), None, &json!({"login": "bot@callspan", "security_key": "secret"}));
    assert_eq!(slash.expect("a reply").status, 200, "a trailing slash is accepted");
}

#[test]
fn each_state_of_a_token_has_its_golden_error() {
    let fake = fake_with(|o| o.error_lang = ErrorLanguage::Ru);
    let url = format!("{}integrations/call", fake.api_url());
    let with_token = |token| post_json(&url, token, &call_body("x")).expect("a reply");
    let missing = with_token(None);
    let golden = json!({"error": "Токен авторизации не указан.", "error_code": "token_not_specified"});
    assert_eq!((missing.status, missing.json()), (401, golden));
    let unknown = with_token(Some("gAAAAnonsense"));
    let golden = json!({"error": "Неверный токен авторизации.", "error_code": "invalid_token"});
    assert_eq!((unknown.status, unknown.json()), (401, golden));
    fake.options(|o| o.error_lang = ErrorLanguage::En);
    let session = PyrusSession::login(&fake);
    fake.change(WorldChange::DropAllTokens);
    let golden = json!({"error": "Authorization token has been revoked.", "error_code": "revoked_token"});
    assert_eq!((session.call("x").status, session.call("x").json()), (401, golden));
    let session = PyrusSession::login(&fake);
    fake.advance(Duration::from_secs(3600));
    assert_eq!((session.call("x").status, session.call("x").code().as_str()), (401, "expired_token"));
    assert_eq!(fake.state().tokens.last().map(|t| t.life), Some(TokenValidity::Expired));
    let session = PyrusSession::login(&fake);
    fake.change(WorldChange::Block { login: "bot@callspan".into(), blocked: true });
    assert_eq!((session.call("x").status, session.call("x").code().as_str()), (401, "account_blocked"));
    assert!(fake.state().tasks.is_empty());
}

#[test]
fn one_token_too_many_or_a_new_key_revokes() {
    let fake = fake_with(|o| o.max_tokens_per_user = 1);
    let first = PyrusSession::login(&fake);
    fake.change(WorldChange::IssueToken("bot@callspan".into()));
    assert_eq!(first.call("x").code(), "revoked_token");
    let second = PyrusSession::login(&fake);
    assert_eq!(second.call("x").status, 200);
    fake.change(WorldChange::SecurityKey { login: "bot@callspan".into(), key: "other".into() });
    assert_eq!(second.call("x").code(), "revoked_token");
    assert_eq!(auth(&fake).expect("a reply").code(), "invalid_credentials");
}

#[test]
fn the_rate_limit_answers_429_until_its_window_ends() {
    let fake = fake_with(|o| {
        o.rate_limit.requests = 2;
        o.clock = callspan::fake_pyrus::ClockMode::Frozen;
    });
    let session = PyrusSession::login(&fake);
    let first = session.call("a");
    assert_eq!(first.header("x-ratelimit-limit"), Some("2"));
    assert_eq!(first.header("x-ratelimit-remaining"), Some("1"));
    assert_eq!(first.header("x-ratelimit-reset"), Some("600"));
    fake.advance(Duration::from_secs(100));
    assert_eq!(session.call("b").header("X-RateLimit-Remaining"), Some("0"));
    let over = session.call("c");
    let golden =
        json!({"error": "You have reached the limit of requests per 10 minutes.", "error_code": "too_many_requests"});
    assert_eq!((over.status, over.json(), over.header("x-ratelimit-reset")), (429, golden, Some("500")));
    no_violation(&fake);
    assert_eq!(session.call("c").status, 429);
    assert!(fake.violations()[0].contains("before the end of the pause"), "{:?}", fake.violations());
    fake.clear_violations();
    fake.advance(Duration::from_secs(500));
    assert_eq!(session.call("c").status, 200);
    no_violation(&fake);
}

#[test]
fn an_upload_gives_guid_and_md5_and_keeps_the_bytes() {
    let fake = fake_with(|o| o.md5_case = Md5Case::Upper);
    let session = PyrusSession::login(&fake);
    let reply = session.upload("call.wav", b"abc");
    let body = reply.json();
    assert_eq!(body["md5_hash"], "900150983CD24FB0D6963F7D28E17F72"); // of "abc", RFC 1321 A.5
    let guid = body["guid"].as_str().expect("a guid");
    assert_eq!((guid.len(), guid.matches('-').count(), &guid[14..15]), (36, 4, "4"));
    let state = fake.state();
    let file = state.file(guid).expect("the file");
    assert_eq!((file.name.as_str(), file.size, file.referenced), ("call.wav", 3, false));
    assert_eq!(file.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); // FIPS 180-2 B.1
    no_violation(&fake);
}

#[test]
fn bad_uploads_are_refused_each_by_its_code() {
    let fake = fake_with(|o| o.max_upload = 1000);
    let session = PyrusSession::login(&fake);
    let bearer = format!("Bearer {}", session.token);
    let kind = "multipart/form-data; boundary=xYzZy";
    let raw = |kind: &str, body: &[u8]| {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", kind)];
        let reply = request("POST", &session.upload_url(), &headers, body).expect("a reply");
        (reply.status, reply.code())
    };
    let refused = |code: &str| (400, code.to_owned());
    let field = b"--xYzZy\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nabc\r\n--xYzZy--\r\n";
    assert_eq!(raw(kind, field), refused("no_file_in_request"));
    assert_eq!(raw(kind, b"nonsense"), refused("bad_multipart_content"));
    assert_eq!(raw("application/json", b"{}"), refused("bad_multipart_content"));
    let upload = |name: &str, content: &[u8]| session.upload(name, content).code();
    assert_eq!(upload("a.wav", b""), "empty_file");
    assert_eq!(upload("a.wav", &[0; 1001]), "too_large_request_length");
    fake.options(|o| o.max_upload = 10_000);
    assert_eq!(upload(&format!("{}.wav", "a".repeat(252)), b"x"), "max_file_name_length_exceeded");
    assert!(fake.state().files.is_empty());
}

#[test]
fn all_three_upload_paths_work_and_other_hosts_do_not() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let bearer = format!("Bearer {}", session.token);
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "multipart/form-data; boundary=xYzZy")];
    let body = crate::fake_pyrus::client::multipart("a.wav", b"abc");
    let at = |url: String| request("POST", &url, &headers, &body).expect("a reply").status;
    assert_eq!(at(format!("{}v4/files/upload", fake.files_url())), 200);
    assert_eq!(at(format!("{}files/upload", fake.api_url())), 200);
    no_violation(&fake);
    assert_eq!(at(fake.auth_url().replace("auth", "files/upload")), 404);
    assert!(fake.violations()[0].contains("accounts host"));
    let one = fake_with(|o| o.split_hosts = false);
    let session = PyrusSession::login(&one);
    let bearer = format!("Bearer {}", session.token);
    let headers = [("Authorization", bearer.as_str()), headers[1]];
    let url = one.auth_url().replace("auth", "files/upload");
    assert_eq!(request("POST", &url, &headers, &body).expect("a reply").status, 200);
    no_violation(&one);
}

#[test]
fn a_call_reply_is_the_golden_one() {
    let fake = fake_with(|o| o.id_style = IdStyle::Mixed);
    let session = PyrusSession::login(&fake);
    session.call("first");
    let golden = json!({"task_id": 458_732, "is_new_task": false, "responsible_person": {
        "user_id": "34231", "first_name": "Ilya", "last_name": "Laserson", "work_phone": "+79338762030"}});
    assert_eq!(session.call("second").json(), golden);
    no_violation(&fake);
}

#[test]
fn each_work_phone_finds_its_person_and_an_unknown_one_nobody() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    for (phone, user) in [("101", 34228), ("102", 34229), ("103", 34230), ("200", 34231)] {
        let reply = session.call_with(&with(call_body(phone), "internal_number", phone.into()));
        assert_eq!(reply.json()["responsible_person"]["user_id"], user);
    }
    let nobody = session.call_with(&with(call_body("n"), "internal_number", "999".into()));
    assert!(nobody.json().get("responsible_person").is_none());
    let none = session.call_with(&without(call_body("m"), "internal_number"));
    assert!(none.json().get("responsible_person").is_none());
}

#[test]
fn a_call_that_is_refused_changes_nothing() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let code = |body: Value| {
        let reply = session.call_with(&body);
        (reply.status, reply.code())
    };
    let refused = |code: &str| (400, code.to_owned());
    assert_eq!(code(with(call_body("a"), "account_id", "other".into())), refused("unrecognized_account_id"));
    assert_eq!(code(without(call_body("a"), "from_number")), refused("required_parameters_not_specified"));
    assert_eq!(code(without(call_body("a"), "to_number")), refused("required_parameters_not_specified"));
    assert_eq!(code(without(call_body("a"), "account_id")), refused("required_parameters_not_specified"));
    fake.change(WorldChange::DisableWebhook);
    assert_eq!(code(call_body("a")), refused("webhook_is_disabled"));
    assert!(fake.state().tasks.is_empty() && fake.state().calls.is_empty());
    fake.change(WorldChange::EnableWebhook);
    assert_eq!(session.call("a").status, 200);
}

#[test]
fn unknown_mapping_codes_are_named_and_the_work_is_done() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let mappings = json!([
        {"code": "Foo", "value": "1"}, {"code": "CallDuration", "value": "12"}, {"code": "Bar", "value": "2"}]);
    let reply = session.call_with(&with(call_body("a"), "mappings", mappings.clone()));
    let body = reply.json();
    assert_eq!(
        (reply.status, body["task_id"].as_u64(), body["is_new_task"].as_bool()),
        (200, Some(458_732), Some(true))
    );
    assert_eq!(body["error_code"], "invalid_field_mapping_code");
    assert_eq!(body["error"], "Unacceptable field codes: Foo, Bar");
    assert!(body.get("responsible_person").is_some(), "the full normal object");
    let guid = session.guid();
    let attach = session.attach_with(&with(attach_body("a", &guid), "mappings", mappings));
    assert_eq!((attach.status, attach.code().as_str()), (200, "invalid_field_mapping_code"));
    let state = fake.state();
    assert_eq!(state.tasks[0].attachments.len(), 1);
    assert_eq!(state.tasks[0].fields.get("CallDuration").map(String::as_str), Some("12"));
    assert!(!state.tasks[0].fields.contains_key("Foo"));
}

#[test]
fn an_attach_finds_its_task_by_each_identifier() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    session.call("ext-1");
    let (from, to) = ("+79774221338", "+74953009080");
    let base = |guid: &str| json!({"account_id": ACCOUNT, "record_file": guid});
    let by = |members: Value| {
        let mut body = base(&session.guid());
        for (name, value) in members.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let reply = session.attach_with(&body);
        (reply.status, reply.code())
    };
    assert_eq!(by(json!({"external_id": "ext-1"})).0, 200);
    assert_eq!(by(json!({"task_id": 458_732})).0, 200);
    assert_eq!(by(json!({"from_number": from, "to_number": to})).0, 200);
    no_violation(&fake);
    let refused = |code: &str| (400, code.to_owned());
    assert_eq!(by(json!({"task_id": 0, "external_id": "ext-1"})).0, 200, "official clients send 0 for none");
    assert_eq!(by(json!({"external_id": "ext-2"})), refused("unrecognized_call_id"));
    assert_eq!(by(json!({"from_number": to, "to_number": from})), refused("unrecognized_call_id"));
    assert_eq!(by(json!({"task_id": 1})), refused("unrecognized_task_id"));
    assert_eq!(by(json!({})), refused("required_parameters_not_specified"));
    assert_eq!(by(json!({"from_number": from})), refused("required_parameters_not_specified"));
    assert_eq!(fake.state().tasks[0].attachments.len(), 4);
}

#[test]
fn an_attach_judges_the_file_by_its_owner_and_its_name() {
    let fake = fake_with(|o| o.users.push(FakeUser { login: "other".into(), ..FakeUser::default() }));
    let session = PyrusSession::login(&fake);
    session.call("ext-1");
    let attach = |guid: &str| {
        let reply = session.attach("ext-1", guid);
        (reply.status, reply.code())
    };
    let refused = |code: &str| (400, code.to_owned());
    assert_eq!(attach("no-such-guid"), refused("unrecognized_attachment_id"));
    let other = post_json(&fake.auth_url(), None, &json!({"login": "other", "security_key": "secret"}));
    let token = other.expect("a reply").json()["access_token"].as_str().expect("a token").to_owned();
    let foreign = PyrusSession { fake: &fake, token }.guid();
    assert_eq!(attach(&foreign), refused("unrecognized_attachment_id"));
    let guid = |name: &str| session.upload(name, b"x").json()["guid"].as_str().expect("a guid").to_owned();
    assert_eq!(attach(&guid("a.txt")), refused("unsupported_record_file_format"));
    for name in ["a.ac3", "a.mp3", "a.OGG", "a.Wav", "a.wma"] {
        assert_eq!(attach(&guid(name)), (200, String::new()), "{name}");
    }
    let gone = guid("b.wav");
    fake.change(WorldChange::DeleteFile(Some(gone.clone())));
    assert_eq!(attach(&gone), refused("unrecognized_attachment_id"));
    assert_eq!(fake.state().tasks[0].attachments.len(), 5);
}

#[test]
fn a_file_that_no_task_has_disappears_and_an_attached_one_stays() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    session.call("ext-1");
    let (kept, lost) = (session.guid(), session.guid());
    assert_eq!(session.attach("ext-1", &kept).status, 200);
    fake.advance(Duration::from_secs(24 * 3600));
    let session = PyrusSession::login(&fake);
    assert_eq!(session.attach("ext-1", &lost).code(), "unrecognized_attachment_id");
    let state = fake.state();
    assert_eq!(state.files.iter().map(|f| f.guid.as_str()).collect::<Vec<_>>(), [kept.as_str()]);
}

#[test]
fn a_file_attached_twice_is_a_second_comment_and_a_duplicate() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    session.call("ext-1");
    let guid = session.guid();
    session.attach("ext-1", &guid);
    session.attach("ext-1", &guid);
    let state = fake.state();
    assert_eq!((state.tasks[0].comments.len(), state.duplicates), (3, 1));
    assert_eq!(fake.violations().len(), 1, "and a repeat after a definite answer");
}

#[test]
fn limits_of_a_task_are_reported() {
    let fake = fake_with(|o| (o.max_attachments, o.max_comments) = (1, 3));
    let session = PyrusSession::login(&fake);
    session.call("a");
    assert_eq!(session.attach("a", &session.guid()).status, 200);
    assert_eq!(session.attach("a", &session.guid()).code(), "too_many_attachments");
    session.call("b");
    assert_eq!(session.call("c").code(), "too_many_comments");
}

#[test]
fn callevent_and_other_paths_get_the_golden_404() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let url = format!("{}integrations/callevent", fake.api_url());
    let reply = post_json(&url, Some(&session.token), &json!({})).expect("a reply");
    let golden =
        json!({"Message": "No HTTP resource was found that matches the request URI '/v4/integrations/callevent'."});
    assert_eq!((reply.status, reply.json()), (404, golden));
    assert_eq!(get(&fake.files_url()).status, 404);
    assert_eq!(get(&format!("{}integrations/call", fake.api_url())).status, 405);
    assert_eq!(fake.state().requests(FakeEndpoint::Other), 2);
}

#[test]
fn a_closed_deleted_or_forgotten_task_is_noticed() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    session.call("a");
    fake.change(WorldChange::CloseTask(458_732));
    let next = session.call("b").json();
    assert_eq!((next["task_id"].as_u64(), next["is_new_task"].as_bool()), (Some(458_733), Some(true)));
    fake.change(WorldChange::ForgetCall("a".into()));
    assert_eq!(session.attach("a", &session.guid()).code(), "unrecognized_call_id");
    assert_eq!(session.call("a").json()["task_id"].as_u64(), Some(458_733));
    fake.change(WorldChange::DeleteTask(458_733));
    let by_task = with(attach_body("b", &session.guid()), "task_id", 458_733.into());
    assert_eq!(session.attach_with(&by_task).code(), "unrecognized_task_id");
    no_violation(&fake);
}

#[test]
fn the_same_seed_gives_the_same_guids() {
    let guid = || {
        let fake = fake_with(|o| o.seed = Some(7));
        PyrusSession::login(&fake).guid()
    };
    assert_eq!(guid(), guid());
}
