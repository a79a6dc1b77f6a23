//! The job that archives one call: stores its recordings as objects, then writes its row in the index (the PostgreSQL
//! database of the archive).

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A recording of a call, stored as an object of the central archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArchivedObject {
    /// Number of the recording's segment (part), counted from 1.
    pub(crate) part: u32,
    /// Path of the recording's file on this machine.
    pub(crate) path: String,
    /// Key of the object in the object store, below the prefix of the site.
    pub(crate) key: String,
    /// Size of the recording's file in bytes.
    pub(crate) bytes: u64,
    /// SHA-256 of the recording's file, lower-case hexadecimal.
    pub(crate) sha256: String,
    /// Whether the object store already has the recording.
    #[serde(default)]
    pub(crate) stored: bool,
    /// Whether the recording is to be sent once more, because the object store may have lost it. Becomes false when the
    /// object was created again, or when the store still has the same object.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) again: bool,
}

/// Stage of the job that archives a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ArchiveStage {
    /// A recording or the call's row in the index (the PostgreSQL database) is still to be stored.
    #[default]
    Owed,
    /// The archive has the newest state of the call.
    Done,
    /// The archive cannot accept this state of the call. A person must find out why.
    Refused,
}

/// The next step of the job that archives a call: store, compare or index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveStep {
    /// Create the object at the given index of [`ArchiveJob::objects`], unless the store already has an object with the
    /// same key.
    Put(usize),
    /// Compare the file at this index of [`ArchiveJob::objects`] with the object that the store has under the same key.
    Compare(usize),
    /// Write the call's row in the index (the PostgreSQL database of the archive).
    Index,
}

/// The reason why a step of an archiving job failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveFailure {
    /// The archive does not respond, or denies access. A later attempt may succeed.
    Passing(String),
    /// The file is missing, or its checksum differs from the checksum in the journal. A missing file may appear later,
    /// when its disk is mounted again.
    File(String),
    /// The archive can never accept this state of the call, for this reason.
    Unacceptable(String),
    /// The store has an object with another content under the same key.
    Different,
}

/// The outcome of a step of an archiving job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveOutcome {
    /// The step succeeded: the store has the object, the compared file and object are equal, or the row is written.
    Done,
    /// The store already has an object with this key.
    AlreadyThere,
    /// The archive's database has a later state of the call, with this change number. It happens after this site has
    /// lost its journal and counts the changes from 1 again.
    Behind(u64),
    /// The step failed, for this reason.
    Failed(ArchiveFailure),
}

/// The job that archives one call, with its progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ArchiveJob {
    /// Id of the call that is archived.
    pub(crate) call_id: String,
    /// Change number of the state of the call that is being archived. It grows with each change of the call.
    pub(crate) change: u64,
    /// Stage of the job, e.g. that something is still to be stored.
    pub(crate) stage: ArchiveStage,
    /// The recordings of the call, each with its state in the archive.
    pub(crate) objects: Vec<ArchivedObject>,
    /// Number of failed attempts since the last success.
    pub(crate) attempts: u32,
    /// Wall-clock time of the next attempt; `None` means at once.
    pub(crate) next_at: Option<Timestamp>,
    /// The reason why the job waits, or why the archive refused the call; `None` if there is no problem.
    pub(crate) note: Option<String>,
    /// Index in `objects` of the recording to compare next, because the store already has an object with its key.
    /// `None` if there is nothing to compare.
    pub(crate) comparing: Option<usize>,
}

impl ArchiveJob {
    /// Replaces the list of objects by the recordings that the call now has on this machine. A recording that was in
    /// the old list keeps its flags `stored` and `again`.
    pub(crate) fn set_objects(&mut self, mut objects: Vec<ArchivedObject>) {
        for object in &mut objects {
            let known = self.objects.iter().find(|known| known.key == object.key);
            (object.stored, object.again) = known.map_or((false, false), |known| (known.stored, known.again));
        }
        self.objects = objects;
        self.comparing = None;
    }

    /// Adds to the list of objects the recordings that the store has but that were removed from this machine. Without
    /// their files they cannot be sent again.
    pub(crate) fn keep_removed(&mut self, removed: Vec<ArchivedObject>) {
        self.objects.extend(removed.into_iter().map(|object| ArchivedObject { again: false, ..object }));
    }

    /// Returns the next step; `None` if the job is finished or must still wait at the time `now`.
    pub(crate) fn next_step(&self, now: Timestamp) -> Option<ArchiveStep> {
        if self.stage != ArchiveStage::Owed || self.next_at.is_some_and(|at| at > now) {
            return None;
        }
        Some(match (self.comparing, self.objects.iter().position(|object| !object.stored || object.again)) {
            (Some(index), _) => ArchiveStep::Compare(index),
            (None, Some(index)) => ArchiveStep::Put(index),
            (None, None) => ArchiveStep::Index,
        })
    }

    /// Updates the job after a step with the outcome of that step.
    pub(crate) fn handle_outcome(&mut self, step: ArchiveStep, outcome: ArchiveOutcome, now: Timestamp) {
        match (step, outcome) {
            (_, ArchiveOutcome::Failed(failure)) => return self.handle_failure(failure, now),
            (ArchiveStep::Put(index), ArchiveOutcome::AlreadyThere) => self.comparing = Some(index),
            (ArchiveStep::Index, ArchiveOutcome::Behind(stored)) => self.change = self.change.saturating_add(stored),
            (ArchiveStep::Put(index) | ArchiveStep::Compare(index), _) => {
                self.comparing = None;
                if let Some(object) = self.objects.get_mut(index) {
                    (object.stored, object.again) = (true, false);
                }
            }
            (ArchiveStep::Index, _) => self.stage = ArchiveStage::Done,
        }
        (self.attempts, self.next_at, self.note) = (0, None, None);
    }

    fn handle_failure(&mut self, failure: ArchiveFailure, now: Timestamp) {
        self.attempts = self.attempts.saturating_add(1);
        self.comparing = None;
        match failure {
            ArchiveFailure::File(note) if self.attempts >= FILE_ATTEMPTS => self.refuse(note),
            ArchiveFailure::Passing(note) | ArchiveFailure::File(note) => {
                self.note = Some(note);
                self.next_at = Some(now + pause_after(self.attempts));
            }
            ArchiveFailure::Unacceptable(note) => self.refuse(note),
            ArchiveFailure::Different => self.refuse(String::from(
                "the archive has another object under the key of this recording, and it is never replaced",
            )),
        }
    }

    fn refuse(&mut self, note: String) {
        self.stage = ArchiveStage::Refused;
        self.note = Some(note);
    }
}

/// Returns the pause after failed attempts: 5 s, doubled each time, at most ten minutes.
fn pause_after(attempts: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(MAX_DOUBLINGS));
    doubled.min(LONGEST_PAUSE)
}

/// Returns the key of a recording: `SITE/YYYY/MM/DD/CALL/PART-CHECKSUM.EXTENSION`. If a call is rendered again, its new
/// recording has another checksum and so another key.
pub(crate) fn object_key(site: &str, call_id: &str, begin: Timestamp, object: &ArchivedObject) -> String {
    let day = begin.to_rfc3339_secs();
    let day = day.get(..10).unwrap_or("0000-00-00").replace('-', "/");
    let name = Path::new(&object.path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (plain, encryption) = name.strip_suffix(".age").map_or((name.as_str(), ""), |plain| (plain, ".age"));
    let extension = plain.rsplit_once('.').map_or("bin", |(_, extension)| extension);
    let checksum = object.sha256.get(..KEY_CHECKSUM_CHARS).unwrap_or(&object.sha256);
    format!("{site}/{day}/{call_id}/{}-{checksum}.{extension}{encryption}", object.part)
}

/// Number of attempts to read a file before the call counts as refused. They take about an hour, in which a missing
/// disk may be mounted again.
const FILE_ATTEMPTS: u32 = 14;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Maximum number of doublings of the pause, to avoid an overflow. After ten doublings the pause exceeds
/// [`LONGEST_PAUSE`] anyway.
const MAX_DOUBLINGS: u32 = 10;
/// Number of hexadecimal characters of the checksum in a key, i.e. 64 bits of SHA-256. That suffices, because the key
/// also contains the call id.
const KEY_CHECKSUM_CHARS: usize = 16;
