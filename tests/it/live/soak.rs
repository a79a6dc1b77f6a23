//! A day in a short time: calls on a wire for minutes, with reloads, a full disk, an outage of Pyrus, restarts and
//! kills.
//!
//! `CALLSPAN_SOAK_MINUTES` is the length (15 by default). A call begins each 700 ms, about
//! a hundred times as often as in an office. At the end, memory, descriptors and threads must be the same as at the
//! beginning.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use age::x25519::Identity;
use callspan::call::record::DeliveryState;
use callspan::fake_pyrus::{FakeEndpoint, FaultStep, PyrusFault};
use callspan::journal::{CallFilter, CallStage};

use super::signal;
use crate::crash::{assert_delivered, complete, fake, journal, pyrus, start, talk, wait_until};
use crate::support::call_frames::CallFrames;
use crate::support::veth::VethPair;

#[test]
#[ignore = "takes a quarter of an hour, and needs root: adds a pair of network interfaces"]
fn day_of_calls_and_faults_leaves_the_service_as_it_was() {
    let minutes = std::env::var("CALLSPAN_SOAK_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    let length = Duration::from_secs(60 * minutes);
    let wire = VethPair::new("ck");
    let fake = fake();
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("recordings");
    let recordings = SmallDisk::mount(&folder);
    let config = super::configuration(dir.path(), &wire.recorder);
    let text = std::fs::read_to_string(&config).expect("just written");
    let text = text.replace("[pyrus]\nenabled = false\n", &format!("[calls]\nsilence_s = 5\n{}", pyrus(&fake)));
    std::fs::write(&config, text).expect("written");
    let stop = Arc::new(AtomicBool::new(false));
    let talker = std::thread::spawn({
        let (stop, end) = (Arc::clone(&stop), wire.talkers.clone());
        move || talk(&end, &stop)
    });
    // The first process runs for two thirds of the time, so that its memory at the beginning and at the end can be
    // compared.
    let (mut child, _) = start(&config);
    let begin = Instant::now();
    pause(length / 10);
    let before = Resources::of(&child);
    println!("after {:.0} s: {before:?}", begin.elapsed().as_secs_f64());
    let away = [FakeEndpoint::Call, FakeEndpoint::Upload, FakeEndpoint::Attach];
    while begin.elapsed() < length * 6 / 10 {
        signal("-HUP", &child.id().to_string());
        away.iter().for_each(|endpoint| fake.script(*endpoint, FaultStep::new(PyrusFault::empty(503)).forever()));
        pause(length / 40);
        fake.clear_script();
        recordings.fill();
        pause(length / 40);
        recordings.free();
        pause(length / 40);
    }
    let is_delivered = || {
        let calls = journal(&dir.path().join("state")).calls(&CallFilter::default()).expect("readable");
        let owed =
            calls.iter().filter(|c| c.stage == CallStage::Complete && c.record.delivery.state != DeliveryState::Done);
        owed.count() < FEW
    };
    assert!(wait_until(Duration::from_secs(300), is_delivered), "the service has caught up");
    let after = Resources::of(&child);
    println!("after {:.0} s: {after:?}", begin.elapsed().as_secs_f64());
    after.assert_as(&before);
    let mut lives = 1;
    while begin.elapsed() < length {
        match lives % 2 {
            0 => child.kill().expect("ours"),
            _ => signal("-TERM", &child.id().to_string()),
        }
        child.wait().expect("ours");
        fake.client_restarted();
        (child, _) = start(&config);
        lives += 1;
        pause(length / 40);
    }
    stop.store(true, Ordering::Relaxed);
    let sent = talker.join().expect("no panic");
    let is_over = || {
        let calls = journal(&dir.path().join("state")).calls(&CallFilter::default()).expect("readable");
        calls.iter().all(|call| call.record.delivery.state == DeliveryState::Done || call.record.answered_at.is_none())
    };
    assert!(wait_until(Duration::from_secs(300), is_over), "everything is delivered");
    let last = Resources::of(&child);
    println!("after {:.0} s, {lives} lives, {} calls: {last:?}", begin.elapsed().as_secs_f64(), sent.len());
    last.assert_as(&before);
    signal("-TERM", &child.id().to_string());
    assert_eq!(child.wait().expect("ours").code(), Some(0));
    let journal = journal(&dir.path().join("state"));
    let records = complete(&journal);
    assert_delivered((&fake, &Identity::generate()), &journal, &records);
    for number in sent.keys() {
        let call_id = CallFrames { number: *number, length: Duration::ZERO }.call_id();
        let of_it = records.iter().filter(|record| record.legs.iter().any(|leg| leg.sip_call_id == call_id));
        assert!(of_it.count() <= 1, "{call_id} has one record");
    }
    assert!(records.len() * 10 >= sent.len() * 9, "{} records of {} calls", records.len(), sent.len());
}

/// Resources of a process.
#[derive(Debug)]
struct Resources {
    resident_mib: u64,
    descriptors: usize,
    threads: usize,
}

impl Resources {
    fn of(child: &Child) -> Self {
        let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", child.id())).expect("it lives").count();
        let resident_mib = super::flood::resident_mib(child.id());
        Self { resident_mib, descriptors: count("fd"), threads: count("task") }
    }

    fn assert_as(&self, before: &Self) {
        let is_near = self.resident_mib <= before.resident_mib * 5 / 4 + 16
            && self.descriptors <= before.descriptors + 8
            && self.threads <= before.threads + 2;
        assert!(is_near, "{self:?}, {before:?} at first");
    }
}

/// A small disk that can be filled. Dropping this value removes it.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Self {
        std::fs::create_dir(at).expect("made");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512m", "tmpfs"]).arg(at).status();
        assert!(status.is_ok_and(|status| status.success()), "mount works");
        Self(at)
    }

    fn fill(&self) {
        let _ = std::fs::write(self.0.join(FILL), vec![1; 512 << 20]); // ends when the disk is full
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join(FILL)).expect("there");
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status(); // on failure the mount stays
    }
}

fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Maximum number of calls that are not finished yet, because they ended only just before.
const FEW: usize = 10;
const FILL: &str = "fill";
