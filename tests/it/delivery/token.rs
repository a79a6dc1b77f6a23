//! Tests of access tokens that expire, are revoked or refused, and of logins that are refused.

use std::time::Duration;

use callspan::delivery::JobStage;
use callspan::fake_pyrus::{FakeEndpoint, FakeOptions, FaultStep, PyrusFault, WorldChange};

use crate::delivery::world::{DeliveryFixture, PATIENCE, each_error_status, unanswered};

#[test]
fn a_token_that_expires_between_call_and_upload_is_renewed_once() {
    let world = DeliveryFixture::new(FakeOptions::default());
    let handle = world.start();
    let whole = world.recorded("a");
    let mut ended = whole.clone();
    ended.record.recordings.clear();
    ended.progress = callspan::delivery::CallProgress::Ended;
    handle.send_update(ended);
    world.wait_for(FakeEndpoint::Call, 1);
    world.fake.advance(Duration::from_secs(3601)); // tokens of the fake are valid for an hour
    handle.send_update(whole);
    assert_eq!(handle.run_until_settled(PATIENCE).done, 1);
    assert_eq!(world.requests(), [2, 1, 2, 1]);
    assert_eq!(world.fake.state().files.len(), 1);
    world.assert_delivered_once("a");
    world.assert_no_violations();
}

#[test]
fn an_early_refusal_is_read_during_a_large_upload() {
    let world = DeliveryFixture::new(FakeOptions::default());
    world.fake.script(FakeEndpoint::Upload, PyrusFault::UnauthorizedEarly);
    let mut call = world.recorded("a");
    let path = world.wav("a", 50 * 1024 * 1024);
    call.record.recordings[0].bytes = std::fs::metadata(path).unwrap().len();
    assert_eq!(world.deliver([call]).done, 1);
    let [auths, calls, uploads, attaches] = world.requests();
    // The fake resets the connection after its answer, and the reset may destroy the answer. Then only a third upload
    // shows that a new token is needed.
    assert!((2..=3).contains(&uploads) && auths <= 2, "{auths} auths, {uploads} uploads");
    assert_eq!((calls, attaches), (1, 1));
    world.assert_delivered_once("a");
}

#[test]
fn a_revoked_token_is_renewed_whatever_the_status_says() {
    for status in [401, 403, 200] {
        for endpoint in [FakeEndpoint::Call, FakeEndpoint::Upload, FakeEndpoint::Attach] {
            let world = DeliveryFixture::new(FakeOptions::default());
            world.fake.script(endpoint, PyrusFault::Unauthorized { code: "revoked_token".into(), status });
            assert_eq!(world.deliver([world.recorded("a")]).done, 1, "{endpoint:?} {status}");
            assert_eq!(world.requests()[0], 2);
            world.assert_delivered_once("a");
        }
    }
}

#[test]
fn a_token_that_is_always_refused_makes_no_storm() {
    let world = DeliveryFixture::new(FakeOptions::default());
    world.fake.script(FakeEndpoint::Call, FaultStep::new(PyrusFault::unauthorized("invalid_token")).forever());
    let handle = world.start();
    for n in 0..10 {
        handle.send_update(unanswered(&format!("call{n}")));
    }
    let summary = handle.run_until_settled(Duration::from_secs(2));
    assert_eq!((summary.done, summary.owed), (0, 10));
    let [auths, calls, ..] = world.requests();
    // At most 5 logins at once, then one each 100 ms in these tests (10 s in the product). So 25 logins are possible in
    // 2 s.
    assert!(auths <= 27, "{auths} auths in two seconds");
    assert!(calls <= auths * 5, "{calls} tries with {auths} tokens");
}

#[test]
fn a_refused_login_is_one_sentence_and_a_new_key_resumes_delivery() {
    each_error_status(|world| {
        world.fake.options(|o| o.users[0].security_key = "another".into());
        let handle = world.start();
        handle.send_update(world.recorded("a"));
        let summary = handle.run_until_settled(PATIENCE);
        let alarm = summary.alarm.expect("an alarm");
        assert!(alarm.starts_with("Pyrus refuses the login: check login and security_key in [pyrus]"), "{alarm}");
        assert_eq!((summary.done, summary.owed), (0, 1));
        assert_eq!(world.journal().alarm().unwrap(), Some(alarm));
        assert_eq!(world.requests()[1], 0);
        world.fake.options(|o| o.users[0].security_key = "secret".into());
        world.wait_until(|w| w.journal().alarm().unwrap().is_none());
        assert_eq!(handle.run_until_settled(PATIENCE).done, 1);
        world.assert_delivered_once("a");
    });
}

#[test]
fn a_revoked_key_is_reported_and_a_new_one_needs_no_restart() {
    each_error_status(|mut world| {
        let file = world.dir.path().join("key");
        std::fs::write(&file, "secret\n").expect("written");
        // The configuration has the key, and the path of the file from which the key was read.
        world.config.security_key_file = Some(file.clone());
        let handle = world.start();
        handle.send_update(world.recorded("a"));
        assert_eq!(handle.run_until_settled(PATIENCE).done, 1);
        // A person makes a new key in Pyrus. That makes the old key and all its tokens invalid.
        world.fake.change(WorldChange::SecurityKey { login: "bot@callspan".into(), key: "another".into() });
        handle.send_update(world.recorded("b"));
        let summary = handle.run_until_settled(PATIENCE);
        assert!(summary.alarm.expect("an alarm").starts_with("Pyrus refuses the login"));
        assert_eq!((summary.done, summary.owed), (1, 1));
        std::fs::write(&file, "").expect("half of an editor's write is no key");
        std::fs::write(&file, "another\n").expect("written");
        world.wait_until(|w| w.journal().job("b").unwrap().is_some_and(|job| job.stage == JobStage::Done));
        assert_eq!(handle.summary().alarm, None);
        for id in ["a", "b"] {
            world.assert_delivered_once(id);
        }
    });
}

#[test]
fn a_reply_without_a_token_is_no_login() {
    let world = DeliveryFixture::new(FakeOptions::default());
    world.fake.script(FakeEndpoint::Auth, FaultStep::new(PyrusFault::NoToken).times(2));
    assert_eq!(world.deliver([world.recorded("a")]).done, 1);
    assert_eq!(world.requests()[0], 3);
    world.assert_delivered_once("a");
}

#[test]
fn a_second_client_that_steals_the_token_costs_no_storm() {
    let world = DeliveryFixture::new(FakeOptions { max_tokens_per_user: 1, ..FakeOptions::default() });
    let mut thief = DeliveryFixture::new(FakeOptions::default());
    thief.config.auth_url = world.fake.auth_url();
    let (ours, theirs) = (world.start(), thief.start());
    for n in 0..10 {
        ours.send_update(world.recorded(&format!("ours{n}")));
        theirs.send_update(thief.recorded(&format!("theirs{n}")));
    }
    assert_eq!(ours.run_until_settled(PATIENCE).done, 10);
    assert_eq!(theirs.run_until_settled(PATIENCE).done, 10);
    let [auths, ..] = world.requests();
    assert!(auths <= 100, "{auths} auths for 60 requests");
}
