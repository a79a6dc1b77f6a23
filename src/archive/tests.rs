//! Tests of the state machine that archives calls. The object store and the database fail before or after they store
//! something, and the recorder is killed at any time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::time::Timestamp;

/// An archive that fails at random, before or after it has stored something.
#[derive(Default)]
struct FaultyArchive {
    objects: BTreeMap<String, String>,
    /// Number of times each object was created, by its key.
    creations: BTreeMap<String, u32>,
    /// The row of each call in the archive's database (the index), by call id: the change number and the keys of the
    /// objects.
    rows: BTreeMap<String, (u64, Vec<String>)>,
}

impl FaultyArchive {
    fn execute(
        &mut self,
        step: ArchiveStep,
        job: &ArchiveJob,
        random: &mut fastrand::Rng,
        healthy: bool,
    ) -> ArchiveOutcome {
        let away = || ArchiveOutcome::Failed(ArchiveFailure::Passing(String::from("does not answer")));
        if !healthy && random.u8(..) < 60 {
            return away(); // fails before it stores anything
        }
        let outcome = match step {
            ArchiveStep::Put(index) => {
                let object = &job.objects[index];
                if self.objects.contains_key(&object.key) {
                    ArchiveOutcome::AlreadyThere
                } else {
                    self.objects.insert(object.key.clone(), object.sha256.clone());
                    *self.creations.entry(object.key.clone()).or_default() += 1;
                    ArchiveOutcome::Done
                }
            }
            ArchiveStep::Compare(index) => {
                let object = &job.objects[index];
                match self.objects.get(&object.key) {
                    Some(found) if *found == object.sha256 => ArchiveOutcome::Done,
                    Some(_) => ArchiveOutcome::Failed(ArchiveFailure::Different),
                    None => away(),
                }
            }
            ArchiveStep::Index => {
                for object in &job.objects {
                    assert!(self.objects.contains_key(&object.key), "the row names an object that is not stored");
                }
                let keys = job.objects.iter().map(|object| object.key.clone()).collect();
                let known = self.rows.get(&job.call_id).map_or(0, |(change, _)| *change);
                if known > job.change {
                    return ArchiveOutcome::Behind(known);
                }
                self.rows.insert(job.call_id.clone(), (job.change, keys));
                ArchiveOutcome::Done
            }
        };
        if !healthy && random.u8(..) < 60 { away() } else { outcome } // after the effect
    }
}

fn recording(call: &str, part: u32, version: u32) -> ArchivedObject {
    let mut object = ArchivedObject {
        part,
        path: format!("/recordings/{call}.part{part}.wav"),
        key: String::new(),
        bytes: 100,
        sha256: format!("{:016x}", u64::from(version) << 32 | u64::from(part)),
        stored: false,
        again: false,
    };
    object.key = object_key("site", call, Timestamp::EPOCH, &object);
    object
}

#[test]
fn every_recording_is_stored_once_whatever_fails() {
    for seed in 0..3_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut archive = FaultyArchive::default();
        let mut saved: Vec<ArchiveJob> =
            (0..3).map(|n| ArchiveJob { call_id: format!("call{n}"), change: 1, ..ArchiveJob::default() }).collect();
        let mut recordings: Vec<Vec<ArchivedObject>> = saved
            .iter()
            .map(|job| (1..=random.u32(0..3)).map(|part| recording(&job.call_id, part, 0)).collect())
            .collect();
        let mut now = Timestamp::EPOCH;
        for round in 0..400 {
            let healthy = round > 200;
            let n = random.usize(..saved.len());
            if !healthy && random.u8(..) < 20 {
                // The call was rendered again, or its delivery made progress. So its change number grows, and the
                // archive must get it again.
                saved[n].change += 1;
                saved[n].stage = ArchiveStage::Owed;
                let call = saved[n].call_id.clone();
                if random.bool() {
                    recordings[n] = (1..=random.u32(0..3)).map(|part| recording(&call, part, round)).collect();
                }
            }
            if !healthy && random.u8(..) < 5 {
                // The journal is lost and rebuilt from the call records, so the change number begins again at 1.
                saved[n] = ArchiveJob { call_id: saved[n].call_id.clone(), change: 1, ..ArchiveJob::default() };
            }
            now = now + Duration::from_secs(random.u64(1..900));
            let mut job = saved[n].clone();
            job.set_objects(recordings[n].clone());
            while let Some(step) = job.next_step(now) {
                saved[n] = ArchiveJob { comparing: None, ..job.clone() };
                let outcome = archive.execute(step, &job, &mut random, healthy);
                if !healthy && random.u8(..) < 40 {
                    break; // the recorder is killed before it stores the outcome
                }
                job.handle_outcome(step, outcome, now);
                saved[n] = ArchiveJob { comparing: None, ..job.clone() };
            }
        }
        for (job, recordings) in saved.iter().zip(&recordings) {
            assert_eq!(job.stage, ArchiveStage::Done, "seed {seed}");
            let keys: Vec<String> = recordings.iter().map(|object| object.key.clone()).collect();
            assert_eq!(archive.rows[&job.call_id], (job.change, keys), "seed {seed}");
        }
        assert!(archive.creations.values().all(|created| *created == 1), "seed {seed}");
    }
}

#[test]
fn a_different_object_is_never_replaced() {
    let mut job = ArchiveJob { call_id: String::from("call"), change: 1, ..ArchiveJob::default() };
    job.set_objects(vec![recording("call", 1, 0)]);
    let now = Timestamp::EPOCH;
    job.handle_outcome(ArchiveStep::Put(0), ArchiveOutcome::AlreadyThere, now);
    assert_eq!(job.next_step(now), Some(ArchiveStep::Compare(0)));
    job.handle_outcome(ArchiveStep::Compare(0), ArchiveOutcome::Failed(ArchiveFailure::Different), now);
    assert_eq!((job.stage, job.next_step(now)), (ArchiveStage::Refused, None));
    assert!(!job.objects[0].stored);
}

#[test]
fn recording_that_is_sent_again_stays_stored_if_its_file_goes() {
    let now = Timestamp::EPOCH;
    let sent_again = ArchivedObject { stored: true, again: true, ..recording("call", 1, 0) };
    let mut job = ArchiveJob { change: 1, objects: vec![sent_again], ..ArchiveJob::default() };
    job.set_objects(vec![recording("call", 1, 0)]);
    assert_eq!(job.next_step(now), Some(ArchiveStep::Put(0)));
    // The object store does not respond, and retention removes the file before the next attempt. The object of the
    // earlier upload stays listed, so only the row in the index remains to be written.
    job.handle_outcome(ArchiveStep::Put(0), ArchiveOutcome::Failed(ArchiveFailure::Passing(String::new())), now);
    let text = serde_json::to_string(&job.objects).expect("JSON");
    let saved: Vec<ArchivedObject> = serde_json::from_str(&text).expect("objects");
    assert!(saved[0].stored && saved[0].again);
    let mut job = ArchiveJob { change: 1, objects: saved.clone(), ..ArchiveJob::default() };
    job.set_objects(Vec::new());
    job.keep_removed(saved.clone());
    assert_eq!((job.next_step(now), job.objects.len()), (Some(ArchiveStep::Index), 1));
    // Now the file of the recording still exists in a second copy of the job. So the file is sent once more, and only
    // once.
    let mut job = ArchiveJob { change: 1, objects: saved, ..ArchiveJob::default() };
    job.set_objects(vec![recording("call", 1, 0)]);
    job.handle_outcome(ArchiveStep::Put(0), ArchiveOutcome::Done, now);
    assert_eq!(job.next_step(now), Some(ArchiveStep::Index));
}

#[test]
fn missing_files_and_calls_that_cannot_be_taken_are_refused() {
    let mut now = Timestamp::EPOCH;
    let mut job = ArchiveJob { call_id: String::from("call"), change: 1, ..ArchiveJob::default() };
    job.set_objects(vec![recording("call", 1, 0)]);
    let begin = now;
    while let Some(step) = job.next_step(now) {
        job.handle_outcome(step, ArchiveOutcome::Failed(ArchiveFailure::File(String::from("gone"))), now);
        now = job.next_at.unwrap_or(now);
    }
    assert_eq!((job.stage, job.note.as_deref()), (ArchiveStage::Refused, Some("gone")));
    assert!(now.since(begin) > Duration::from_secs(30 * 60), "a disk has time to come back");
    let mut job = ArchiveJob { call_id: String::from("call"), change: 1, ..ArchiveJob::default() };
    let failure = ArchiveFailure::Unacceptable(String::from("too long"));
    job.handle_outcome(ArchiveStep::Index, ArchiveOutcome::Failed(failure), now);
    assert_eq!((job.stage, job.next_step(now)), (ArchiveStage::Refused, None));
}

#[test]
fn pauses_grow_to_ten_minutes() {
    let mut job = ArchiveJob { call_id: String::from("call"), change: 1, ..ArchiveJob::default() };
    let mut now = Timestamp::EPOCH;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let failed = ArchiveOutcome::Failed(ArchiveFailure::Passing(String::from("away")));
        job.handle_outcome(ArchiveStep::Index, failed, now);
        let next = job.next_at.unwrap();
        pauses.push(next.since(now).as_secs());
        now = next;
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
}

#[test]
fn a_key_names_site_day_call_part_and_content() {
    let key = |path: &str| {
        let object = ArchivedObject { path: String::from(path), ..recording("call", 2, 7) };
        object_key("north", "20260102T030405Z-ab", Timestamp::from_micros(1_767_323_045_000_000), &object)
    };
    assert_eq!(key("/r/20260102T030405Z-ab.wav"), "north/2026/01/02/20260102T030405Z-ab/2-0000000700000002.wav");
    assert!(key("/r/call.part2.ogg").ends_with("-0000000700000002.ogg"));
    assert!(key("/r/call.part2.wav.age").ends_with("-0000000700000002.wav.age"));
}
