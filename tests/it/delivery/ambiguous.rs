//! Tests of requests without a definite answer. Pyrus may have carried out the request or not, but in the end it must
//! take effect exactly once.

use std::time::Duration;

use callspan::fake_pyrus::{FakeEndpoint, FakeOptions, FaultStep, PyrusFault, TaskPolicy};

use crate::delivery::world::{DeliveryFixture, unanswered};

fn world() -> DeliveryFixture {
    DeliveryFixture::new(FakeOptions { task_policy: TaskPolicy::AlwaysNew, ..FakeOptions::default() })
}

/// Faults after which the client cannot know whether the request took effect.
fn ambiguous() -> Vec<PyrusFault> {
    vec![
        PyrusFault::ServerError,
        PyrusFault::BadGateway,
        PyrusFault::GatewayTimeout,
        PyrusFault::CloseWithoutReply,
        PyrusFault::ResetAfterRequest,
        PyrusFault::TruncatedBody,
        PyrusFault::BadChunk,
        PyrusFault::InvalidJson,
        PyrusFault::InvalidUtf8,
        PyrusFault::HugeBody(3 * 1024 * 1024),
        PyrusFault::HangBeforeHeaders(Duration::from_secs(2)), // longer than the time-out, 1.5 s here
        PyrusFault::HangAfterHeaders(Duration::from_secs(2)),
        PyrusFault::html(200),
    ]
}

#[test]
fn an_unanswered_registration_leads_to_one_task_with_one_attachment() {
    for fault in ambiguous() {
        for step in [FaultStep::before(fault.clone()), FaultStep::after(fault.clone())] {
            let world = world();
            world.fake.script(FakeEndpoint::Call, step.clone());
            let summary = world.deliver([world.recorded("a")]);
            assert_eq!((summary.done, summary.possible_duplicates), (1, 0), "{step:?} {summary:?}");
            assert_eq!(world.fake.state().tasks.len(), 1, "{step:?}");
            world.assert_delivered_once("a");
            world.assert_no_violations();
        }
    }
}

#[test]
fn a_call_without_a_recording_is_repeated_once_and_counted() {
    for step in [FaultStep::before(PyrusFault::ServerError), FaultStep::after(PyrusFault::ServerError)] {
        let world = world();
        world.fake.script(FakeEndpoint::Call, step);
        let summary = world.deliver([unanswered("a")]);
        assert_eq!((summary.done, summary.possible_duplicates), (1, 1));
        assert_eq!(world.requests(), [1, 2, 0, 0]);
    }
    let world = world();
    world.fake.script(FakeEndpoint::Call, FaultStep::after(PyrusFault::ServerError).forever());
    let summary = world.deliver([unanswered("a")]);
    assert_eq!((summary.dead.len(), summary.owed), (1, 0));
    assert_eq!(world.requests(), [1, 2, 0, 0]);
}

#[test]
fn an_attach_that_was_not_answered_is_repeated_with_the_same_file() {
    for fault in [PyrusFault::CloseWithoutReply, PyrusFault::ServerError, PyrusFault::GatewayTimeout] {
        for step in [FaultStep::before(fault.clone()), FaultStep::after(fault.clone())] {
            let world = world();
            world.fake.script(FakeEndpoint::Attach, step);
            assert_eq!(world.deliver([world.recorded("a")]).done, 1);
            assert_eq!(world.requests(), [1, 1, 1, 2]);
            let state = world.fake.state();
            assert_eq!(state.files.len(), 1);
            assert!(state.tasks[0].attachments.iter().all(|a| a.guid == state.files[0].guid));
        }
    }
}

#[test]
fn a_registration_that_certainly_was_not_made_is_repeated_at_once() {
    let world = world();
    world.fake.script(FakeEndpoint::Call, FaultStep::before(PyrusFault::Unavailable));
    assert_eq!(world.deliver([unanswered("a")]).done, 1);
    assert_eq!(world.requests(), [1, 2, 0, 0]);
    assert_eq!(world.fake.state().tasks.len(), 1);
}

#[test]
fn a_pyrus_that_refuses_connections_for_a_while_gets_everything_afterwards() {
    let world = world();
    for endpoint in [FakeEndpoint::Auth, FakeEndpoint::Call, FakeEndpoint::Upload] {
        world.fake.script(endpoint, PyrusFault::RefuseConnections(Duration::from_millis(400)));
    }
    let calls: Vec<_> = (0..8).map(|n| world.recorded(&format!("call{n}"))).collect();
    assert_eq!(world.deliver(calls).done, 8);
    for n in 0..8 {
        world.assert_delivered_once(&format!("call{n}"));
    }
    world.assert_no_violations();
}

#[test]
fn a_proxy_that_is_ill_at_any_step_is_outlived() {
    for endpoint in [FakeEndpoint::Auth, FakeEndpoint::Call, FakeEndpoint::Upload, FakeEndpoint::Attach] {
        for fault in [PyrusFault::BadGateway, PyrusFault::Unavailable, PyrusFault::GatewayTimeout] {
            let world = world();
            world.fake.script(endpoint, FaultStep::before(fault).times(7)); // after 5 faults the circuit breaker opens
            assert_eq!(world.deliver([world.recorded("a")]).done, 1);
            world.assert_delivered_once("a");
        }
    }
}

#[test]
fn a_pyrus_that_never_comes_back_leaves_everything_owed_in_the_journal() {
    let world = world();
    world.fake.script(FakeEndpoint::Auth, FaultStep::before(PyrusFault::BadGateway).forever());
    let handle = world.start();
    handle.send_update(world.recorded("a"));
    let summary = handle.run_until_settled(Duration::from_millis(700));
    assert_eq!((summary.done, summary.owed, summary.parked.len()), (0, 1, 0));
    drop(handle);
    world.fake.clear_script();
    assert_eq!(world.deliver([]).done, 1, "the next start needs nothing but the journal");
    world.assert_delivered_once("a");
}
