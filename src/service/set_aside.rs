//! Packets that were set aside: spool files (`.pcapng.failed`) of legs that could not be rendered.
//!
//! They stay until their call is rendered again, or until retention removes the recording of the call. A call without a
//! recording keeps them for `recording.keep_days`. While a person keeps the call (`calls hold`), they stay.

use super::call_locks::CallLocks;
use super::files;
use super::publish::keep_packets;
use crate::call::record::{CallRecord, CallVerdict, ProblemKind};
use crate::journal::{CallStage, Journal, JournalResult};
use crate::recording::Recorder;
use crate::spool::disk::{DiskStore, FAILED_ENDING};
use crate::time::Timestamp;

/// Finds and removes packets that were set aside.
#[derive(Clone, Copy)]
pub(super) struct SetAsidePackets<'a> {
    pub(super) journal: &'a Journal,
    pub(super) store: &'a DiskStore,
}

impl SetAsidePackets<'_> {
    /// Removes the packets of a call that was rendered again. With `recording.keep_pcap`, first copies them to the folder
    /// of the recording. If a leg could not be rendered, all stay.
    pub(super) fn clear_rendered(self, record: &CallRecord, recorder: &Recorder) -> anyhow::Result<()> {
        let has_failed = record.verdict == Some(CallVerdict::Failed)
            || record.problems.iter().any(|problem| problem.kind == ProblemKind::RenderError);
        if has_failed || self.journal.held(&record.id)?.is_some() {
            return Ok(());
        }
        for leg in self.journal.legs(&record.id)? {
            let path = self.store.failed_path(&leg.name);
            if !path.is_file() {
                continue;
            }
            if recorder.keeps_packets() && record.verdict != Some(CallVerdict::Excluded) {
                keep_packets(&path, &recorder.kept_path(record, leg.index as usize))?;
            }
            files::remove(&path);
        }
        Ok(())
    }

    /// Removes the packets of a call whose recording is removed.
    pub(super) fn remove_of(self, call: &str) -> JournalResult<()> {
        self.journal.legs(call)?.iter().for_each(|leg| files::remove(&self.store.failed_path(&leg.name)));
        Ok(())
    }

    /// Removes the packets of calls without a recording: if their recording was removed, or if they are from before
    /// `oldest`. `None` means that there is no limit of age. Leaves out calls on which another thread works.
    pub(super) fn remove_old(self, locks: &CallLocks, oldest: Option<Timestamp>) -> anyhow::Result<()> {
        for path in self.store.list_failed()? {
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(FAILED_ENDING));
            let owner = name.map(|name| self.journal.owner_of_leg(name)).transpose()?.flatten();
            let is_due = match owner {
                Some(owner) => match locks.try_lock(&owner.call_id) {
                    Some(_lock) => self.is_call_due(&owner.call_id, oldest)?,
                    None => false,
                },
                // The file was damaged, so no call has it.
                None => oldest.is_some_and(|oldest| files::is_older(&path, oldest)),
            };
            if is_due {
                files::remove(&path);
            }
        }
        Ok(())
    }

    fn is_call_due(self, id: &str, oldest: Option<Timestamp>) -> JournalResult<bool> {
        if self.journal.held(id)?.is_some() || !self.journal.recordings_of(id)?.is_empty() {
            return Ok(false);
        }
        let Some(call) = self.journal.call(id)?.filter(|call| call.stage == CallStage::Complete) else {
            return Ok(false);
        };
        let begin = call.record.invited_at.or(call.record.answered_at).or(call.record.ended_at);
        let is_old = begin.zip(oldest).is_some_and(|(begin, oldest)| begin < oldest);
        Ok(is_old || self.journal.removed(id)?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::record::RecordingFile;
    use crate::journal::{LegRow, SpoolFileState};
    use crate::service::clock::wall_clock;

    struct TestCalls {
        _dir: tempfile::TempDir,
        journal: Journal,
        store: DiskStore,
        locks: CallLocks,
    }

    impl TestCalls {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let (journal, store) =
                (Journal::open_in_memory().expect("a journal"), DiskStore::new(dir.path().to_owned()));
            Self { _dir: dir, journal, store, locks: CallLocks::default() }
        }

        /// Adds a complete call with packets that were set aside.
        fn add(&self, id: &str, begin: Timestamp, has_recording: bool) {
            let file = || RecordingFile::sample(&format!("{id}.wav"), begin, 0.0);
            let recordings = has_recording.then(file).into_iter().collect();
            let record = CallRecord { id: id.to_owned(), invited_at: Some(begin), recordings, ..CallRecord::default() };
            let row = LegRow { name: format!("{id}.1"), index: 0, same_sides: true, state: SpoolFileState::Closed };
            self.journal.put_complete_call(&record, &[row], None).expect("written");
            self.add_file(&format!("{id}.1"));
        }

        fn add_file(&self, leg: &str) {
            std::fs::write(self.store.failed_path(leg), "packets").expect("written");
        }

        /// Returns the legs with packets after old packets were removed.
        fn left(&self, oldest: Option<Timestamp>) -> Vec<String> {
            let packets = SetAsidePackets { journal: &self.journal, store: &self.store };
            packets.remove_old(&self.locks, oldest).expect("removed");
            let name = |path: std::path::PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
            let paths = self.store.list_failed().expect("readable");
            paths.into_iter().map(|path| name(path).trim_end_matches(FAILED_ENDING).to_owned()).collect()
        }
    }

    #[test]
    fn packets_of_a_call_without_a_recording_go_by_their_age() {
        let calls = TestCalls::new();
        let (now, day) = (wall_clock(), Duration::from_secs(86_400));
        calls.add("old", now - day * 3, false);
        calls.add("old-held", now - day * 3, false);
        calls.add("old-locked", now - day * 3, false);
        calls.add("old-recorded", now - day * 3, true);
        calls.add("young", now - day, false);
        calls.add("young-removed", now - day, true);
        calls.add_file("of-no-call");
        calls.journal.hold("old-held", now, None).expect("written");
        let lock = calls.locks.try_lock("old-locked");
        let all = ["of-no-call", "old-held.1", "old-locked.1", "old-recorded.1", "old.1", "young-removed.1", "young.1"];
        assert_eq!(calls.left(None), all, "without a limit of age");
        // A crash came after this mark, before the files were removed.
        calls.journal.mark_removed(&[(String::from("young-removed"), "")], now).expect("written");
        let rest = ["of-no-call", "old-held.1", "old-locked.1", "old-recorded.1", "young.1"];
        assert_eq!(calls.left(Some(now - day * 2)), rest);
        drop(lock);
        assert_eq!(calls.left(Some(now + day)), ["old-held.1", "old-recorded.1"]);
    }
}
