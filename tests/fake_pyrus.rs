//! The fake Pyrus against a client whose every byte is known: each endpoint's conditions, each
//! switch, each fault, and that a wrong client is found out.

#[path = "fake_pyrus/client.rs"]
mod client;

use callspan::fake_pyrus::{Endpoint, Fake, Options};
use client::{Session, request};
use serde_json::json;

fn fake() -> Fake {
    Fake::start(Options::default()).expect("loopback ports are free")
}

#[test]
fn a_call_is_registered_its_recording_uploaded_and_attached_without_violation() {
    let fake = fake();
    let session = Session::login(&fake);
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
    assert_eq!((task.comments.len(), task.attachments.len(), task.responsible), (2, 1, Some(34231)));
    assert_eq!(task.fields["CallStartTime"], "2021-12-23T00:11:32Z");
    for endpoint in [Endpoint::Auth, Endpoint::Call, Endpoint::Upload, Endpoint::Attach] {
        assert_eq!(state.requests(endpoint), 1, "{endpoint:?}");
    }
    assert_eq!(state.duplicates, 0);
    assert_eq!(fake.violations(), Vec::<String>::new());
    let _ = (request("GET", &fake.control_url(), &[], b""), json!({}));
}
