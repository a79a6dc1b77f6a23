//! Tests of many and of large deliveries. The long tests are ignored by default: `cargo test --test it delivery::scale
//! -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use callspan::delivery::{CallUpdate, DeliveryMachine, DeliveryTuning, NextAction};
use callspan::fake_pyrus::{FakeEndpoint, FakeOptions, PyrusFault, RateLimit, TaskPolicy};
use callspan::time::Timestamp;

use crate::delivery::world::{DeliveryFixture, PATIENCE, pause, unanswered};

#[test]
fn nothing_is_sent_while_the_journal_cannot_be_written() {
    let world = DeliveryFixture::new(FakeOptions::default());
    let handle = world.start();
    handle.send_update(unanswered("a"));
    world.wait_for(FakeEndpoint::Call, 1);
    let path = world.dir.path().join("state").join(callspan::journal::FILE_NAME);
    let other = rusqlite::Connection::open(path).expect("the journal");
    other.execute_batch("BEGIN IMMEDIATE").expect("its write lock");
    handle.send_update(unanswered("b"));
    pause(Duration::from_millis(300));
    assert_eq!(world.requests()[1], 1, "the intent is not durable");
    other.execute_batch("COMMIT").expect("it is given back");
    assert_eq!(handle.run_until_settled(PATIENCE).done, 2);
    world.assert_no_violations();
}

#[test]
fn replies_that_drip_or_hang_are_bounded_in_time_at_every_request() {
    for endpoint in [FakeEndpoint::Auth, FakeEndpoint::Call, FakeEndpoint::Upload, FakeEndpoint::Attach] {
        for fault in [
            PyrusFault::Drip(10), // a byte each 100 ms takes longer than the time-out, 1.5 s here
            PyrusFault::HangBeforeHeaders(Duration::from_secs(4)),
            PyrusFault::HangAfterHeaders(Duration::from_secs(4)),
        ] {
            let world = DeliveryFixture::new(FakeOptions::default());
            world.fake.script(endpoint, fault);
            let begun = world.fake.now();
            assert_eq!(world.deliver([world.recorded("a")]).done, 1);
            assert!(world.fake.now() - begun < Duration::from_millis(3900));
        }
    }
}

fn much() -> DeliveryFixture {
    let rate_limit = RateLimit { requests: 1_000_000, window: Duration::from_secs(600) };
    DeliveryFixture::new(FakeOptions { rate_limit, task_policy: TaskPolicy::AlwaysNew, ..FakeOptions::default() })
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[test]
#[ignore = "a measurement"]
fn ten_thousand_owed_calls() {
    let world = much();
    let policy = callspan::pyrus::executor::policy(&world.config);
    let before = rss_kib();
    let mut machine = DeliveryMachine::new(policy, DeliveryTuning::default(), 1);
    let now = Timestamp::from_secs(1);
    let begun = now_real();
    for n in 0..10_000 {
        machine.handle_call(&unanswered(&format!("20261123T070854Z-{n:016}")));
    }
    while machine.poll_row().is_some() {}
    assert!(matches!(machine.poll_action(now), NextAction::Send(_)));
    eprintln!("10,000 owed calls: {} KiB, told in {:?}", rss_kib() - before, begun.elapsed());
    drop(machine);
    let handle = world.start();
    let begun = now_real();
    for n in 0..10_000 {
        handle.send_update(unanswered(&format!("call{n:05}")));
    }
    let summary = handle.run_until_settled(Duration::from_secs(300));
    assert_eq!(summary.done, 10_000);
    eprintln!("10,000 calls registered at the fake in {:?}", begun.elapsed());
}

#[test]
#[ignore = "a measurement"]
fn two_gigabytes_in_constant_memory() {
    let mut world = much();
    world.setup.timeouts.json = Duration::from_secs(60);
    let mut call: CallUpdate = world.recorded("a");
    let length = 2 * 1024 * 1024 * 1024 - 64 * 1024;
    let path = world.dir.path().join("a.wav");
    std::fs::File::create(path).and_then(|f| f.set_len(length)).expect("a sparse file");
    call.record.recordings[0].bytes = length;
    world.config.max_upload_mib = 2048;
    let before = rss_kib();
    let handle = world.start();
    let begun = now_real();
    handle.send_update(call);
    let mut most = 0;
    while world.fake.state().requests(FakeEndpoint::Attach) == 0 {
        most = most.max(rss_kib());
        pause(Duration::from_millis(50));
    }
    eprintln!("2 GiB in {:?}; memory of client and fake together rose by {} KiB", begun.elapsed(), most - before);
    assert_eq!(handle.run_until_settled(PATIENCE).done, 1);
    assert!(most - before < 128 * 1024, "64 MiB of them are kept by the fake");
}

#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn now_real() -> Instant {
    Instant::now()
}
