//! Tests faults of an object store with the S3 API. Whichever request fails, in the end each recording is stored
//! exactly once.

use std::process::Command;
use std::time::Duration;

use super::dead_lines::wait;
use super::fault_store::{FaultStore, StoreFault, StoredObject};
use super::{Central, Site, forget_job, text};
use crate::live::{LiveService, program};

/// Pushes without a fault. Fails unless everything is sent and archive and journal agree.
fn push_and_verify(central: &Central, site: &Site, case: &str) {
    for (what, output) in [("push", site.push()), ("verify", central.verify(site))] {
        assert!(output.status.success(), "{case}, {what}: {}", text(&output));
    }
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn each_fault_of_each_request_to_s3_leaves_each_recording_once() {
    let store = FaultStore::start();
    let central = Central::start_on_store(Some(store.url()));
    let site = central.add("north");
    let sound = |n: u32| format!("the sound of call {n}").repeat(50).into_bytes();
    let mut sent = site.record(1, "1@trunk", &sound(1));
    push_and_verify(&central, &site, "no fault");
    let mut n = 1;
    for fault in StoreFault::ALL {
        // A push makes three requests: to store a new object, to store an object that exists already, and to read that
        // object.
        for (first, count) in (0..3).flat_map(|first| [(first, 1), (first, 1_000)]) {
            n += 1;
            let new = site.record(n, &format!("{n}@trunk"), &sound(n));
            forget_job(&site, &sent.id);
            store.fail(fault, first, count);
            let faulty = site.push();
            let (seen, failed) = store.stop();
            let case = format!("{fault:?} at requests {first} to {}: {}", first + count, text(&faulty));
            assert!(failed > 0, "{case}\nonly {seen} requests");
            assert!(count == 1 || !text(&faulty).contains(" 0 still to send"), "{case}");
            let rows: usize = central.calls().parse().expect("a number");
            assert!(store.objects().len() >= rows, "{case}: a row names an object that is not there");
            push_and_verify(&central, &site, &case);
            sent = new;
        }
    }
    let objects = store.objects();
    assert_eq!(objects.len() as u32, n);
    for expected in (1..=n).map(|n| StoredObject { content: sound(n), created: 1 }) {
        assert!(objects.contains(&expected), "a recording is missing, or was stored twice");
    }
}

/// A recording larger than 64 MiB is sent in parts.
#[test]
#[cfg_attr(not(has_postgres), ignore = "needs PostgreSQL 15 and setpriv, as root")]
fn fault_of_each_upload_request_leaves_the_recording_once() {
    let store = FaultStore::start();
    let central = Central::start_on_store(Some(store.url()));
    let site = central.add("north");
    let sound = b"callspan".repeat((64 << 20) / 8 + 1);
    site.record(1, "1@trunk", &sound);
    // The requests of a large upload: a check whether the object exists, the start, nine parts, and the end.
    for (first, fault) in [
        (0, StoreFault::SlowDown),
        (1, StoreFault::Reset),
        (3, StoreFault::InternalError),
        (10, StoreFault::AccessDenied),
        (11, StoreFault::Stall),
    ] {
        store.fail(fault, first, 1_000);
        let faulty = site.push();
        let (seen, failed) = store.stop();
        assert!(failed > 0, "{fault:?} at request {first} of {seen}: {}", text(&faulty));
        assert!(store.objects().is_empty() && central.calls() == "0", "{fault:?}: {}", text(&faulty));
    }
    // The object was stored, but the answer was lost, so the site does not know it.
    store.fail(StoreFault::AnswerLost, 11, 1_000);
    let faulty = site.push();
    assert!(store.stop().1 > 0, "{}", text(&faulty));
    assert_eq!((store.objects().len(), central.calls().as_str()), (1, "0"), "{}", text(&faulty));
    push_and_verify(&central, &site, "at the end");
    assert!(store.objects() == [StoredObject { content: sound, created: 1 }]);
}

/// A store that accepts an object and stays silent, or a large object on a slow line, takes minutes.
#[test]
#[ignore = "takes two minutes, and needs PostgreSQL 15 and root: captures packets"]
fn site_reports_that_it_is_alive_while_it_sends_an_object() {
    let store = FaultStore::start();
    let central = Central::start_on_store(Some(store.url()));
    let site = central.add("north");
    let config = std::fs::read_to_string(site.config()).expect("written");
    let config = format!("{config}[capture]\ninterface = \"lo\"\n[pyrus]\nenabled = false\n");
    std::fs::write(site.config(), config).expect("written");
    let mut run = Command::new(program());
    run.args(["run", "-c"]).arg(site.config());
    let mut service = LiveService::start(run);
    service.wait_for("capturing on lo");
    store.fail(StoreFault::Silence, 0, 1_000);
    site.record(1, "1@trunk", b"sound");
    let is_seen = |sql: &str| central.postgres.sql("postgres", sql).expect("answers") == "t";
    let is_owed = "SELECT backlog = 1 FROM callspan.sites";
    wait("the site reports while it sends", Duration::from_secs(100), || is_seen(is_owed));
    assert_eq!(store.stop(), (1, 1), "the object is still on its way");
    // The connection for reports ends with each report.
    let sessions = "SELECT count(*) <= 1 FROM pg_stat_activity WHERE usename = 'callspan_north'";
    wait("the other connection ends", Duration::from_secs(10), || is_seen(sessions));
    drop(service);
}
