//! The job of one call: the objects to store, then the row of the index.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A recording as an object of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArchivedObject {
    /// Number of the recording's part, from 1.
    pub(crate) part: u32,
    /// Path of the file on this machine.
    pub(crate) path: String,
    /// Key in the object store, below the prefix of the site.
    pub(crate) key: String,
    /// Size of the file.
    pub(crate) bytes: u64,
    /// SHA-256 of the file, lower-case hex.
    pub(crate) sha256: String,
    /// Whether the object store has the recording.
    #[serde(default)]
    pub(crate) stored: bool,
}

/// Stage of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ArchiveStage {
    /// A recording or the row of the index is still to be stored.
    #[default]
    Owed,
    /// The archive has this state of the call.
    Done,
    /// The archive cannot take this state of the call; a person must look at it.
    Refused,
}

/// The next thing to do for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveStep {
    /// Create the object at this position in [`ArchiveJob::objects`], unless the store has one under its key.
    Put(usize),
    /// Compare the object at this position in [`ArchiveJob::objects`] with the object that the store has under its key.
    Compare(usize),
    /// Write the row of the index.
    Index,
}

/// The reason why a step was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveFailure {
    /// The archive does not answer or refuses the access. Trying again later can help.
    Passing(String),
    /// The file is gone, or its content is not what the journal says. A missing file may come back with its disk.
    File(String),
    /// The archive can never take this state of the call.
    Unacceptable(String),
    /// The store has another object under the key.
    Different,
}

/// The outcome of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveOutcome {
    /// The step was done: the object is stored, the objects are equal, the row is written.
    Done,
    /// The store has an object under the key already.
    AlreadyThere,
    /// The index has a later change of the call, with this number: it was written before the journal was lost.
    Behind(u64),
    /// The step was not done.
    Failed(ArchiveFailure),
}

/// The archiving of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ArchiveJob {
    /// Id of the call.
    pub(crate) call_id: String,
    /// Number of the call's change that is being archived.
    pub(crate) change: u64,
    /// Stage of archiving this change.
    pub(crate) stage: ArchiveStage,
    /// The recordings of the call.
    pub(crate) objects: Vec<ArchivedObject>,
    /// Failed attempts since the last success.
    pub(crate) attempts: u32,
    /// Time of the next attempt; `None`: at once.
    pub(crate) next_at: Option<Timestamp>,
    /// The reason for waiting or for the refusal.
    pub(crate) note: Option<String>,
    /// Position in `objects` of a recording to compare with the object that the store already has under its key.
    pub(crate) comparing: Option<usize>,
}

impl ArchiveJob {
    /// Sets the recordings that the call has now. An object that is stored already stays stored.
    pub(crate) fn set_objects(&mut self, mut objects: Vec<ArchivedObject>) {
        for object in &mut objects {
            object.stored = self.objects.iter().any(|known| known.stored && known.key == object.key);
        }
        self.objects = objects;
        self.comparing = None;
    }

    /// Returns the next step, or `None` if nothing is to be done before [`ArchiveJob::next_at`].
    pub(crate) fn next_step(&self, now: Timestamp) -> Option<ArchiveStep> {
        if self.stage != ArchiveStage::Owed || self.next_at.is_some_and(|at| at > now) {
            return None;
        }
        Some(match (self.comparing, self.objects.iter().position(|object| !object.stored)) {
            (Some(index), _) => ArchiveStep::Compare(index),
            (None, Some(index)) => ArchiveStep::Put(index),
            (None, None) => ArchiveStep::Index,
        })
    }

    /// Handles the outcome of a step.
    pub(crate) fn handle_outcome(&mut self, step: ArchiveStep, outcome: ArchiveOutcome, now: Timestamp) {
        match (step, outcome) {
            (_, ArchiveOutcome::Failed(failure)) => return self.handle_failure(failure, now),
            (ArchiveStep::Put(index), ArchiveOutcome::AlreadyThere) => self.comparing = Some(index),
            (ArchiveStep::Index, ArchiveOutcome::Behind(stored)) => self.change = self.change.saturating_add(stored),
            (ArchiveStep::Put(index) | ArchiveStep::Compare(index), _) => {
                self.comparing = None;
                if let Some(object) = self.objects.get_mut(index) {
                    object.stored = true;
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

/// Returns the key of a recording: `SITE/YYYY/MM/DD/CALL/PART-CHECKSUM.EXTENSION`. A recording that is rendered again has
/// another checksum, so that its key is free.
pub(crate) fn object_key(site: &str, call_id: &str, begin: Timestamp, object: &ArchivedObject) -> String {
    let day = begin.to_rfc3339_secs();
    let day = day.get(..10).unwrap_or("0000-00-00").replace('-', "/");
    let name = Path::new(&object.path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (plain, seal) = name.strip_suffix(".age").map_or((name.as_str(), ""), |plain| (plain, ".age"));
    let extension = plain.rsplit_once('.').map_or("bin", |(_, extension)| extension);
    let checksum = object.sha256.get(..KEY_CHECKSUM_CHARS).unwrap_or(&object.sha256);
    format!("{site}/{day}/{call_id}/{}-{checksum}.{extension}{seal}", object.part)
}

/// Attempts to read a file before a person is told: about an hour, in which a disk may come back.
const FILE_ATTEMPTS: u32 = 14;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Number of doublings after which a pause surely exceeds the longest pause.
const MAX_DOUBLINGS: u32 = 10;
/// Characters of the checksum in a key: 64 bits, beside the call id.
const KEY_CHECKSUM_CHARS: usize = 16;
