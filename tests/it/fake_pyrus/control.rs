//! Tests of the control paths of the fake Pyrus, and of its status page.

use callspan::fake_pyrus::{FakeEndpoint, FaultStep, PyrusFault, ScriptFile};
use serde_json::{Value, json};

use crate::fake_pyrus::client::{HttpReply, PyrusSession, get, post_json, request};
use crate::fake_pyrus::fake;

fn post(url: &str, body: Value) -> HttpReply {
    post_json(url, None, &body).expect("a reply")
}

#[test]
fn a_script_in_json_does_what_the_builder_does() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let control = format!("{}__fake/", fake.control_url());
    let steps = json!([
        {"endpoint": "call", "fault": "server_error", "when": "after"},
        {"endpoint": "call", "fault": {"unauthorized": {"code": "revoked_token", "status": 403}}, "times": 2},
        {"endpoint": "call", "fault": {"rate_limited": {"reset": 7}}},
        {"endpoint": "call", "fault": {"status": {"code": 502, "body": {"html": null}}}},
        {"endpoint": "call", "fault": "disable_webhook"},
        {"endpoint": "call", "fault": {"clock_advance": 3600}},
        {"endpoint": "call", "fault": "message_202"},
        {"endpoint": "upload", "fault": {"slow_read": 1000000}},
    ]);
    let reply = post(&format!("{control}script"), steps);
    assert_eq!((reply.status, reply.json()["steps_left"].as_u64()), (200, Some(8)));
    let statuses: Vec<u16> = (0..7).map(|_| session.call("a").status).collect();
    assert_eq!(statuses, [500, 403, 403, 429, 502, 400, 401]);
    assert_eq!(session.call("a").status, 202);
    let state = get(&format!("{control}state")).json();
    assert_eq!((&state["steps_left"], &state["requests"]["call"]), (&json!(1), &json!(8)));
    assert_eq!(state["calls"].as_array().map(Vec::len), Some(1), "the 500 came after the work");
    let log = get(&format!("{control}log")).json();
    assert_eq!(log.as_array().map(Vec::len), Some(9));
    assert_eq!(log[1]["fault"]["fault"], "server_error");
    assert!(get(&format!("{control}violations")).json()[0].as_str().is_some_and(|v| v.contains("pause")));
}

#[test]
fn every_fault_survives_its_way_through_json() {
    let names = [
        "\"server_error\"",
        "\"bad_gateway\"",
        "\"unavailable\"",
        "\"gateway_timeout\"",
        "\"unauthorized_early\"",
        "\"too_large_early\"",
        "{\"hang_before_headers\":1.5}",
        "{\"hang_after_headers\":0.0}",
        "{\"drip\":5}",
        "{\"slow_read\":5}",
        "{\"stall_upload_after\":5}",
        "\"reset_after_request\"",
        "{\"reset_after_upload_bytes\":5}",
        "\"close_without_reply\"",
        "\"truncated_body\"",
        "\"bad_chunk\"",
        "\"invalid_json\"",
        "\"invalid_utf8\"",
        "{\"huge_body\":5}",
        "\"wrong_content_type\"",
        "{\"redirect\":\"x\"}",
        "\"wrong_md5\"",
        "\"no_guid\"",
        "\"no_token\"",
        "\"message_202\"",
        "{\"refuse_connections\":2.0}",
        "\"drop_all_tokens\"",
        "{\"delete_file\":\"g\"}",
        "{\"delete_file\":null}",
        "\"disable_webhook\"",
        "\"enable_webhook\"",
        "{\"clock_advance\":1.0}",
        "{\"issue_token\":\"x\"}",
        "{\"close_task\":5}",
        "{\"delete_task\":5}",
        "{\"forget_call\":\"x\"}",
    ];
    for name in names {
        let fault: PyrusFault = serde_json::from_str(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(serde_json::to_string(&fault).expect("a fault is data"), name);
        assert!(name.contains(&fault.name()), "{name}");
    }
    let script = ScriptFile { steps: Vec::new(), ..ScriptFile::default() };
    let text = serde_json::to_string(&script).expect("a script is data");
    assert_eq!(serde_json::from_str::<ScriptFile>(&text).expect("and can be read"), script);
    assert!(serde_json::from_str::<FaultStep>("{\"fault\":\"server_error\",\"wen\":\"after\"}").is_err());
}

#[test]
fn switches_clock_and_changes_are_set_from_outside() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    let control = format!("{}__fake/", fake.control_url());
    assert_eq!(post(&format!("{control}config"), json!({"logic_error_status": 200, "id_style": "string"})).status, 200);
    assert_eq!(session.call("a").json()["task_id"], "458732");
    assert_eq!(session.attach("b", "g").status, 200);
    let wrong = post(&format!("{control}config"), json!({"id_stile": "string"}));
    assert!(wrong.status == 400 && wrong.json()["error"].as_str().is_some_and(|e| e.contains("id_stile")));
    assert_eq!(post(&format!("{control}change"), json!("disable_webhook")).status, 200);
    assert_eq!(session.call("c").code(), "webhook_is_disabled");
    assert_eq!(post(&format!("{control}clock"), json!({"advance": 3600})).status, 200);
    assert_eq!(session.call("d").code(), "expired_token");
    assert_eq!(post(&format!("{control}clock"), json!({"advance": -1})).status, 400);
    assert_eq!(post(&format!("{control}script"), json!([{"endpoint": "call", "fault": "no_such"}])).status, 400);
    assert_eq!(post(&format!("{control}nothing"), json!({})).status, 404);
    assert_eq!(fake.state().requests(FakeEndpoint::Other), 0, "control requests are not counted");
}

#[test]
fn the_page_lists_tasks_and_their_recordings_can_be_played() {
    let fake = fake();
    let session = PyrusSession::login(&fake);
    session.call("ext-1");
    let guid = session.upload("ext-1.wav", b"0123456789").json()["guid"].as_str().expect("a guid").to_owned();
    session.attach("ext-1", &guid);
    let page = get(&fake.control_url());
    let text = String::from_utf8_lossy(&page.body);
    assert!(page.header("content-type").is_some_and(|t| t.starts_with("text/html")));
    let link = format!("/__fake/files/{guid}");
    assert!(text.contains("Task 458732") && text.contains("Ilya Laserson") && text.contains(&link), "{text}");
    let url = format!("{}__fake/files/{guid}", fake.control_url());
    let whole = get(&url);
    assert_eq!((whole.header("content-type"), whole.body.as_slice()), (Some("audio/wav"), &b"0123456789"[..]));
    let part = request("GET", &url, &[("Range", "bytes=2-4")], b"").expect("a reply");
    assert_eq!(
        (part.status, part.body.as_slice(), part.header("content-range")),
        (206, &b"234"[..], Some("bytes 2-4/10"))
    );
    assert_eq!(get(&format!("{url}x")).status, 404);
    assert_eq!(get(&format!("{}__fake/state", fake.api_url().replace("v4/", ""))).status, 404, "not on the API's port");
}
