//! Requests without a definite answer: Pyrus may have done the work or not, and it must be done once.

use std::time::Duration;

use callspan::fake_pyrus::{Endpoint, Fault, Options, Step, TaskPolicy};

use crate::delivery::world::{World, unanswered};

fn world() -> World {
    World::new(Options { task_policy: TaskPolicy::AlwaysNew, ..Options::default() })
}

/// Faults after which nobody can tell whether the request was done.
fn ambiguous() -> Vec<Fault> {
    vec![
        Fault::ServerError,
        Fault::BadGateway,
        Fault::GatewayTimeout,
        Fault::CloseWithoutReply,
        Fault::ResetAfterRequest,
        Fault::TruncatedBody,
        Fault::BadChunk,
        Fault::InvalidJson,
        Fault::InvalidUtf8,
        Fault::HugeBody(3 * 1024 * 1024),
        Fault::HangBeforeHeaders(Duration::from_secs(2)), // the time-out is 1.5 s here
        Fault::HangAfterHeaders(Duration::from_secs(2)),
        Fault::html(200),
    ]
}

#[test]
fn a_recorded_call_whose_registration_was_not_answered_is_registered_and_attached_once() {
    for fault in ambiguous() {
        for step in [Step::before(fault.clone()), Step::after(fault.clone())] {
            let world = world();
            world.fake.script(Endpoint::Call, step.clone());
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
    for step in [Step::before(Fault::ServerError), Step::after(Fault::ServerError)] {
        let world = world();
        world.fake.script(Endpoint::Call, step);
        let summary = world.deliver([unanswered("a")]);
        assert_eq!((summary.done, summary.possible_duplicates), (1, 1));
        assert_eq!(world.requests(), [1, 2, 0, 0]);
    }
    let world = world();
    world.fake.script(Endpoint::Call, Step::after(Fault::ServerError).forever());
    let summary = world.deliver([unanswered("a")]);
    assert_eq!((summary.dead.len(), summary.owed), (1, 0));
    assert_eq!(world.requests(), [1, 2, 0, 0]);
}

#[test]
fn an_attach_that_was_not_answered_is_repeated_with_the_same_file() {
    for fault in [Fault::CloseWithoutReply, Fault::ServerError, Fault::GatewayTimeout] {
        for step in [Step::before(fault.clone()), Step::after(fault.clone())] {
            let world = world();
            world.fake.script(Endpoint::Attach, step);
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
    world.fake.script(Endpoint::Call, Step::before(Fault::Unavailable));
    assert_eq!(world.deliver([unanswered("a")]).done, 1);
    assert_eq!(world.requests(), [1, 2, 0, 0]);
    assert_eq!(world.fake.state().tasks.len(), 1);
}

#[test]
fn a_pyrus_that_refuses_connections_for_a_while_gets_everything_afterwards() {
    let world = world();
    for endpoint in [Endpoint::Auth, Endpoint::Call, Endpoint::Upload] {
        world.fake.script(endpoint, Fault::RefuseConnections(Duration::from_millis(400)));
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
    for endpoint in [Endpoint::Auth, Endpoint::Call, Endpoint::Upload, Endpoint::Attach] {
        for fault in [Fault::BadGateway, Fault::Unavailable, Fault::GatewayTimeout] {
            let world = world();
            world.fake.script(endpoint, Step::before(fault).times(7)); // the breaker opens after 5
            assert_eq!(world.deliver([world.recorded("a")]).done, 1);
            world.assert_delivered_once("a");
        }
    }
}

#[test]
fn a_pyrus_that_never_comes_back_leaves_everything_owed_in_the_journal() {
    let world = world();
    world.fake.script(Endpoint::Auth, Step::before(Fault::BadGateway).forever());
    let handle = world.start();
    handle.tell(world.recorded("a"));
    let summary = handle.run_until_settled(Duration::from_millis(700));
    assert_eq!((summary.done, summary.owed, summary.parked.len()), (0, 1, 0));
    drop(handle);
    world.fake.clear_script();
    assert_eq!(world.deliver([]).done, 1, "the next start needs nothing but the journal");
    world.assert_delivered_once("a");
}
