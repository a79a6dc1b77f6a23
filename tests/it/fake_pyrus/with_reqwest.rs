//! Tests of the fake Pyrus with reqwest, the HTTP client of the product.

use std::time::Duration;

use callspan::fake_pyrus::{FakeEndpoint, FakePyrus, FaultStep, PyrusFault};
use serde_json::{Value, json};

use crate::fake_pyrus::{fake, no_violation};

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(Duration::from_secs(180)).no_proxy().build().expect("a client")
}

async fn token(client: &reqwest::Client, fake: &FakePyrus) -> String {
    let login = json!({"login": "bot@callspan", "security_key": "secret"});
    let reply: Value =
        client.post(fake.auth_url()).json(&login).send().await.expect("a reply").json().await.expect("JSON");
    reply["access_token"].as_str().expect("a token").to_owned()
}

async fn upload(
    client: &reqwest::Client,
    fake: &FakePyrus,
    token: &str,
    size: usize,
) -> reqwest::Result<reqwest::Response> {
    let part = reqwest::multipart::Part::bytes(vec![3; size]).file_name("call.wav").mime_str("audio/wav")?;
    let form = reqwest::multipart::Form::new().part("file", part);
    client.post(format!("{}v4/files/upload", fake.files_url())).bearer_auth(token).multipart(form).send().await
}

#[tokio::test]
async fn one_kept_alive_client_does_the_main_job_without_violation() {
    let fake = fake();
    let client = client();
    let token = token(&client, &fake).await;
    let post = async |path: &str, body: Value| -> Value {
        let url = format!("{}integrations/{path}", fake.api_url());
        let reply = client.post(url).bearer_auth(&token).json(&body).send().await.expect("a reply");
        reply.json().await.expect("JSON")
    };
    for n in 0..3 {
        let id = format!("ext-{n}");
        let call = json!({"account_id": "uniqueID12345", "from_number": "+7", "to_number": "200", "external_id": id});
        assert!(post("call", call).await["task_id"].is_u64());
        let file: Value = upload(&client, &fake, &token, 3_000_000).await.expect("a reply").json().await.expect("JSON");
        let attach = json!({"account_id": "uniqueID12345", "external_id": id, "record_file": file["guid"]});
        assert_eq!(post("attachcallrecord", attach).await, json!({}));
    }
    let state = fake.state();
    assert_eq!((state.tasks.len(), state.tasks[0].attachments.len(), state.files.len()), (1, 3, 3));
    assert!(state.files.iter().all(|f| f.bytes.as_deref().is_some_and(|b| *b == vec![3; 3_000_000])));
    no_violation(&fake);
}

#[tokio::test]
async fn a_file_over_64_mib_is_hashed_and_not_kept() {
    let fake = fake();
    let client = client();
    let token = token(&client, &fake).await;
    let size = 64 * 1024 * 1024 + 1;
    assert_eq!(upload(&client, &fake, &token, size).await.expect("a reply").status(), 200);
    let state = fake.state();
    assert_eq!((state.files[0].size, state.files[0].bytes.is_none()), (size as u64, true));
    no_violation(&fake);
}

#[tokio::test]
async fn early_replies_reach_a_client_that_is_still_writing() {
    let fake = fake();
    let client = client();
    let token = token(&client, &fake).await;
    for (fault, status) in [(PyrusFault::UnauthorizedEarly, 401), (PyrusFault::TooLargeEarly, 413)] {
        fake.script(FakeEndpoint::Upload, fault);
        match upload(&client, &fake, &token, 50_000_000).await {
            Ok(reply) => assert_eq!(reply.status(), status),
            // The reset of the connection may arrive before the reply. A client must expect this.
            Err(error) => assert!(error.is_request() || error.is_body(), "{error:?}"),
        }
        assert_eq!(fake.log().last().and_then(|l| l.status), Some(status));
    }
    assert_eq!(upload(&client, &fake, &token, 10).await.expect("a reply").status(), 200);
    no_violation(&fake);
}

#[tokio::test]
async fn broken_replies_are_errors_of_the_right_kind() {
    let fake = fake();
    let client = client();
    let url = fake.auth_url();
    let login = json!({"login": "bot@callspan", "security_key": "secret"});
    let send = || client.post(&url).json(&login).send();
    for fault in [PyrusFault::TruncatedBody, PyrusFault::BadChunk] {
        fake.script(FakeEndpoint::Auth, fault.clone());
        let reply = send().await.expect("a head");
        assert!(reply.status() == 200 && reply.bytes().await.is_err(), "{fault:?}");
    }
    for fault in [PyrusFault::ResetAfterRequest, PyrusFault::CloseWithoutReply] {
        fake.script(FakeEndpoint::Auth, fault.clone());
        assert!(send().await.is_err(), "{fault:?}");
    }
    fake.script(FakeEndpoint::Auth, FaultStep::after(PyrusFault::HangBeforeHeaders(Duration::from_secs(60))));
    let error = client.post(&url).json(&login).timeout(Duration::from_millis(300)).send().await.expect_err("too late");
    assert!(error.is_timeout());
    fake.script(FakeEndpoint::Auth, PyrusFault::RefuseConnections(Duration::from_millis(300)));
    assert!(send().await.expect_err("nobody listens").is_connect());
}

#[test]
fn a_fake_can_be_started_and_dropped_within_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let fake = fake();
        assert!(!token(&client(), &fake).await.is_empty());
    });
}
