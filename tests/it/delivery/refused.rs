//! Tests of refusals by Pyrus, and of the reaction of delivery to each.

use callspan::delivery::JobStage;
use callspan::fake_pyrus::{FakeEndpoint, FakeOptions, FaultStep, PyrusFault, WorldChange};

use crate::delivery::world::{DeliveryFixture, PATIENCE, each_error_status, unanswered};

fn without_code(world: &DeliveryFixture, code: &str) {
    world.fake.options(|o| o.accounts[0].allowed_codes.retain(|c| c != code));
}

#[test]
fn a_field_missing_in_the_form_is_left_out_without_a_retry() {
    for with_task in [true, false] {
        each_error_status(|world| {
            world.fake.options(|o| o.mapping_error_task_id = with_task);
            without_code(&world, "CallDuration");
            assert_eq!(world.deliver([world.recorded("a")]).done, 1);
            assert_eq!(world.requests(), [1, 1, 1, 1]);
            world.assert_delivered_once("a");
            let dropped = world.journal().dropped_codes().unwrap();
            assert_eq!(dropped.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), ["CallDuration"]);
            // After a restart, the same result comes from the journal.
            let summary = world.deliver([world.recorded("b")]);
            assert_eq!((summary.done, summary.dropped_codes), (1, vec![String::from("CallDuration")]));
            world.assert_delivered_once("b");
            let log = world.fake.log();
            assert!(log.last().is_some());
            world.assert_no_violations();
        });
    }
}

#[test]
fn a_field_that_the_form_loses_before_the_attach_is_dropped_there() {
    each_error_status(|world| {
        let handle = world.start();
        let whole = world.recorded("a");
        let mut ended = whole.clone();
        ended.progress = callspan::delivery::CallProgress::Ended;
        ended.record.recordings.clear();
        handle.send_update(ended);
        world.wait_for(FakeEndpoint::Call, 1);
        without_code(&world, "CallEndTime");
        handle.send_update(whole);
        let summary = handle.run_until_settled(PATIENCE);
        assert_eq!((summary.done, summary.dropped_codes), (1, vec![String::from("CallEndTime")]));
        world.assert_delivered_once("a");
        world.assert_no_violations();
    });
}

#[test]
fn a_refusal_for_a_person_parks_the_call_until_it_is_solved() {
    type Break = fn(&DeliveryFixture);
    let cases: [(Break, Break, &str); 3] = [
        (
            |w| w.fake.options(|o| o.accounts[0].account_id = "other".into()),
            |w| w.fake.options(|o| o.accounts[0].account_id = "uniqueID12345".into()),
            "account_id",
        ),
        (
            |w| w.fake.change(WorldChange::DisableWebhook),
            |w| w.fake.change(WorldChange::EnableWebhook),
            "switched off in Pyrus",
        ),
        (
            |w| {
                let mut status = 0;
                w.fake.options(|o| status = o.logic_error_status);
                w.fake
                    .script(FakeEndpoint::Call, FaultStep::new(PyrusFault::error(status, "form_is_deleted")).forever());
            },
            |w| w.fake.clear_script(),
            "the form in Pyrus is deleted",
        ),
    ];
    for (spoil, mend, words) in cases {
        each_error_status(|world| {
            spoil(&world);
            let handle = world.start();
            handle.send_update(world.recorded("a"));
            let summary = handle.run_until_settled(PATIENCE);
            assert_eq!((summary.parked.len(), summary.owed), (1, 0));
            assert!(summary.parked[0].reason.contains(words), "{}", summary.parked[0].reason);
            assert_eq!(world.journal().job("a").unwrap().unwrap().stage, JobStage::Parked);
            mend(&world);
            world.wait_until(|w| w.journal().job("a").unwrap().unwrap().stage == JobStage::Done);
            assert_eq!(world.fake.state().tasks.len(), 1);
            world.assert_delivered_once("a");
        });
    }
}

#[test]
fn a_call_that_pyrus_forgot_is_registered_again_under_the_same_id() {
    for status in [400, 200] {
        let world = DeliveryFixture::new(FakeOptions { logic_error_status: status, ..FakeOptions::default() });
        world.fake.script(FakeEndpoint::Attach, PyrusFault::error(status, "unrecognized_call_id"));
        assert_eq!(world.deliver([world.recorded("a")]).done, 1);
        assert_eq!(world.requests(), [1, 2, 1, 2]);
        let state = world.fake.state();
        assert!(state.calls.iter().all(|c| c.external_id.as_deref() == Some("a")));
        assert_eq!(state.tasks.iter().map(|t| t.attachments.len()).sum::<usize>(), 1);
    }
}

#[test]
fn a_call_unknown_to_pyrus_is_registered_twice_more_then_parked() {
    for status in [400, 200] {
        let world = DeliveryFixture::new(FakeOptions { logic_error_status: status, ..FakeOptions::default() });
        world
            .fake
            .script(FakeEndpoint::Attach, FaultStep::new(PyrusFault::error(status, "unrecognized_call_id")).forever());
        let handle = world.start();
        handle.send_update(world.recorded("a"));
        let summary = handle.run_until_settled(PATIENCE);
        assert_eq!(summary.parked.len(), 1);
        assert_eq!(world.requests(), [1, 3, 1, 3]);
        // No person acts, so the attachment is tried again and again. No second task is made.
        world.wait_for(FakeEndpoint::Attach, 6);
        assert_eq!(world.requests()[..3], [1, 3, 1]);
    }
}

#[test]
fn a_file_that_vanished_is_uploaded_three_more_times_at_most() {
    for status in [400, 200] {
        let world = DeliveryFixture::new(FakeOptions::default());
        world.fake.script(FakeEndpoint::Attach, PyrusFault::error(status, "unrecognized_attachment_id"));
        assert_eq!(world.deliver([world.recorded("a")]).done, 1);
        assert_eq!(world.requests(), [1, 1, 2, 2]);

        let world = DeliveryFixture::new(FakeOptions::default());
        world.fake.script(
            FakeEndpoint::Attach,
            FaultStep::new(PyrusFault::error(status, "unrecognized_attachment_id")).forever(),
        );
        let summary = world.deliver([world.recorded("a")]);
        assert_eq!(summary.parked.len(), 1, "{summary:?}");
        assert_eq!(world.requests(), [1, 1, 4, 4]);
    }
}

#[test]
fn permanent_refusals_are_dead_and_unknown_ones_are_parked() {
    for (code, endpoint, dead) in [
        ("unsupported_record_file_format", FakeEndpoint::Attach, true),
        ("required_parameters_not_specified", FakeEndpoint::Call, true),
        ("required_parameters_not_specified", FakeEndpoint::Attach, true),
        ("brand_new_error", FakeEndpoint::Call, false),
        ("brand_new_error", FakeEndpoint::Attach, false),
        ("access_denied_form", FakeEndpoint::Call, false),
    ] {
        for status in [400, 200] {
            let world = DeliveryFixture::new(FakeOptions::default());
            world.fake.script(endpoint, FaultStep::new(PyrusFault::error(status, code)).forever());
            let summary = world.deliver([world.recorded("a")]);
            assert_eq!((summary.dead.len(), summary.parked.len()), (usize::from(dead), usize::from(!dead)), "{code}");
            assert_eq!(world.fake.state().requests(endpoint), 1, "{code} is not repeated");
            assert!(world.dir.path().join("a.wav").exists());
        }
    }
}

#[test]
fn values_that_pyrus_does_not_take_are_left_out_once() {
    for endpoint in [FakeEndpoint::Call, FakeEndpoint::Attach] {
        let world = DeliveryFixture::new(FakeOptions::default());
        world.fake.script(endpoint, PyrusFault::error(400, "invalid_value_format"));
        assert_eq!(world.deliver([world.recorded("a")]).done, 1);
        assert_eq!(world.fake.state().requests(endpoint), 2);
        world.assert_delivered_once("a");

        let world = DeliveryFixture::new(FakeOptions::default());
        world.fake.script(endpoint, FaultStep::new(PyrusFault::error(400, "invalid_value_format")).forever());
        assert_eq!(world.deliver([world.recorded("a")]).dead.len(), 1);
        assert_eq!(world.fake.state().requests(endpoint), 2);
    }
}

#[test]
fn a_dead_call_is_retried_when_another_process_requests_it() {
    let world = DeliveryFixture::new(FakeOptions::default());
    world.fake.script(FakeEndpoint::Call, PyrusFault::error(400, "validation_error"));
    let handle = world.start();
    handle.send_update(world.recorded("a"));
    assert_eq!(handle.run_until_settled(PATIENCE).dead.len(), 1);
    world.journal().request_retry("a").unwrap();
    world.wait_until(|w| w.journal().job("a").unwrap().unwrap().stage == JobStage::Done);
    world.assert_delivered_once("a");
}

#[test]
fn a_wrong_server_is_named_and_the_token_goes_nowhere_else() {
    let elsewhere = DeliveryFixture::new(FakeOptions::default());
    for fault in [
        PyrusFault::Message202,
        PyrusFault::Redirect(format!("{}integrations/call", elsewhere.fake.api_url())),
        PyrusFault::json(404, serde_json::json!({"Message": "No HTTP resource was found"})),
        PyrusFault::html(404),
        PyrusFault::html(403),
    ] {
        let world = DeliveryFixture::new(FakeOptions::default());
        world.fake.script(FakeEndpoint::Call, FaultStep::new(fault.clone()).forever());
        let summary = world.deliver([unanswered("a")]);
        assert_eq!(summary.parked.len(), 1, "{fault:?}: {summary:?}");
        let why = &summary.parked[0].reason;
        assert!(why.contains("check auth_url") || why.contains("firewall"), "{why}");
        assert_eq!(world.requests(), [1, 1, 0, 0]);
    }
    assert!(elsewhere.fake.log().is_empty(), "the redirect was not followed");
    let legacy = DeliveryFixture::new(FakeOptions {
        mode: callspan::fake_pyrus::PyrusMode::LegacyOnprem,
        split_hosts: false,
        ..FakeOptions::default()
    });
    assert_eq!(legacy.deliver([unanswered("a")]).parked.len(), 1);
}

#[test]
fn an_auth_reply_with_plain_http_or_a_foreign_host_is_refused() {
    for url in ["http://api.pyrus.example/v4/", "https://api.pyrus.com/v4/", "nonsense"] {
        let world = DeliveryFixture::new(FakeOptions::default());
        let fault = PyrusFault::HttpApiUrl { api_url: url.into(), files_url: None };
        world.fake.script(FakeEndpoint::Auth, FaultStep::new(fault).forever());
        let summary = world.deliver([world.recorded("a")]);
        let alarm = summary.alarm.expect("an alarm");
        assert!(alarm.contains("api_url"), "{alarm}");
        assert_eq!(world.requests()[1..], [0, 0, 0]);
    }
}
