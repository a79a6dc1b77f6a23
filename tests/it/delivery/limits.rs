//! Tests of rate limits: the limits that Pyrus requests, and callspan's own limits.

use std::time::Duration;

use callspan::fake_pyrus::{FakeEndpoint, FakeOptions, PyrusFault, RateLimit, TaskPolicy};

use crate::delivery::world::{DeliveryFixture, unanswered};

#[test]
fn after_429_the_client_waits_for_the_requested_time() {
    let said = |reset: &str| PyrusFault::RateLimited { reset: Some(reset.into()), retry_after: None };
    let cases = [
        (said("2"), Duration::from_secs(2)),
        (said("0"), Duration::from_secs(1)), // the minimum is one second
        (PyrusFault::RateLimited { reset: Some("7".into()), retry_after: Some(1) }, Duration::from_secs(1)),
        // Not a usable value, so the default wait is used: 600 ms in these tests, 60 s in the product.
        (said("-5"), Duration::from_millis(600)),
        (said("abc"), Duration::from_millis(600)),
        (PyrusFault::RateLimited { reset: None, retry_after: None }, Duration::from_millis(600)),
    ];
    for (fault, least) in cases {
        // Only one request is sent at a time, so that no request is under way when the wait begins.
        let mut world =
            DeliveryFixture::new(FakeOptions { task_policy: TaskPolicy::AlwaysNew, ..FakeOptions::default() });
        world.setup.tuning.max_in_flight = 1;
        world.fake.script(FakeEndpoint::Call, fault.clone());
        let begun = world.fake.now();
        let summary = world.deliver([unanswered("a"), unanswered("b"), unanswered("c")]);
        let took = world.fake.now() - begun;
        assert_eq!(summary.done, 3);
        assert_eq!(world.requests(), [1, 4, 0, 0]);
        assert!(took >= least, "{fault:?}: {took:?}");
        assert!(took <= least + Duration::from_millis(2500), "{fault:?}: {took:?}"); // plus up to 1 s of jitter
    }
}

#[test]
fn a_limit_that_the_headers_announce_is_never_met() {
    let rate_limit = RateLimit { requests: 6, window: Duration::from_secs(2) };
    let world =
        DeliveryFixture::new(FakeOptions { rate_limit, task_policy: TaskPolicy::AlwaysNew, ..FakeOptions::default() });
    let calls: Vec<_> = (0..14).map(|n| unanswered(&format!("call{n:02}"))).collect();
    assert_eq!(world.deliver(calls).done, 14);
    assert_eq!(world.requests(), [1, 14, 0, 0], "no request was refused");
    world.assert_no_violations();
}
