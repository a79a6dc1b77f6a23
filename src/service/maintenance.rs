//! The maintenance thread. It applies retention, encrypts delivered recordings, and removes half-written files of an
//! earlier process. Another thread watches the disks ([`super::watch`]).

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::call_locks::CallLock;
use super::clock::TrustedClock;
use super::encrypt::{EncryptionProgress, Encryptor, clear_leftovers};
use super::files;
use super::set_aside::SetAsidePackets;
use super::worker::CallWorker;
use crate::journal::{self, CallStage, DeliveryNeed, Journal, RecordingRow};
use crate::ops::config::Config;
use crate::ops::thread::{StopSignal, StoppableThread};
use crate::recording::config::Config as RecordingConfig;
use crate::recording::encrypt::encrypted_path;
use crate::recording::retention::{self, DiskUsage, RemovalCandidate, RemovalCost, RemovalReason, free_bytes, plan};

/// Starts the thread that applies retention and encrypts recordings.
///
/// # Errors
/// Fails if the thread cannot be started.
pub(super) fn start(worker: CallWorker, config: &Config) -> anyhow::Result<StoppableThread> {
    let mut maintenance = Maintenance {
        worker,
        config: config.recording.clone(),
        encryptor: Encryptor::new(config.recording.encrypt_to.clone()),
        clock: TrustedClock::start(),
        is_limit_reachable: true,
    };
    StoppableThread::start("maintenance", move |stop| maintenance.run(stop))
        .context("cannot start the maintenance thread")
}

struct Maintenance {
    worker: CallWorker,
    config: RecordingConfig,
    encryptor: Encryptor,
    clock: TrustedClock,
    /// Whether the configured minimum of free space could be reached when retention was last applied.
    is_limit_reachable: bool,
}

impl Maintenance {
    fn run(&mut self, stop: &StopSignal) {
        files::remove_half_written(&self.config.dir, self.clock.started());
        self.remove_marked();
        let mut round = 0_u32;
        loop {
            if round.is_multiple_of(RETENTION_ROUNDS) {
                self.clock.check();
                self.log_failure("leftover files cannot be removed", |this| clear_leftovers(&this.worker.journal));
                self.log_failure("retention failed", Self::apply_retention);
                self.log_failure("packets that were set aside cannot be removed", |this| this.remove_old_set_aside());
            }
            round = round.wrapping_add(1);
            let pause = match self.encryptor.run_slice(&self.worker) {
                EncryptionProgress::More => Duration::ZERO,
                EncryptionProgress::Done => ROUND,
            };
            if stop.is_stopped_within(pause) {
                return;
            }
        }
    }

    fn log_failure(&mut self, failure: &str, work: impl FnOnce(&mut Self) -> anyhow::Result<()>) {
        if let Err(error) = work(self) {
            tracing::error!("{failure}: {error:#}");
        }
    }

    /// Removes recordings beyond the configured age or disk space. It works in batches, and between two batches other
    /// threads can use the journal.
    fn apply_retention(&mut self) -> anyhow::Result<()> {
        loop {
            let room = DiskUsage {
                kept_bytes: self.worker.journal.kept_bytes()?,
                free_bytes: free_bytes(&self.config.dir).ok(),
            };
            self.note_limit(room);
            if room.is_within_limits(&self.config) {
                return Ok(());
            }
            let candidates = || RetentionCandidates::begin(&self.worker.journal);
            let planned = plan(&self.config, candidates, self.clock.ages(), room)?;
            for calls in planned.chunks(REMOVAL_BATCH) {
                self.remove_calls(calls)?;
            }
            if planned.len() < retention::MAX_REMOVALS {
                return Ok(());
            }
        }
    }

    /// Warns once if the configured minimum of free space cannot be reached. Warns again only if it could be reached in
    /// the meantime.
    fn note_limit(&mut self, room: DiskUsage) {
        let wanted = u64::from(self.config.min_free_gib) << 30;
        let is_reachable = retention::reachable_min_free(&self.config, room) == wanted;
        if self.is_limit_reachable && !is_reachable {
            let gib = self.config.min_free_gib;
            tracing::warn!("recording.min_free_gib = {gib} cannot be reached, even without any recording: 2 is used");
        }
        self.is_limit_reachable = is_reachable;
    }

    /// Removes the recordings of calls. Leaves out a call on which another thread works, e.g. because it is rendered
    /// again; a later check removes it.
    fn remove_calls(&self, calls: &[(String, RemovalReason)]) -> anyhow::Result<()> {
        let locked = calls.iter().filter_map(|call| Some((self.worker.locks.try_lock(&call.0)?, call)));
        let (_locks, calls): (Vec<CallLock<'_>>, Vec<&(String, RemovalReason)>) = locked.unzip();
        let marks: Vec<(String, &str)> = calls.iter().map(|(id, why)| (id.clone(), why.as_str())).collect();
        let paths = self.worker.journal.mark_removed(&marks, self.clock.wall())?;
        for (id, why) in &marks {
            tracing::info!(call = id, why, "recording removed");
        }
        paths.iter().for_each(|path| files::remove_recording(Path::new(path)));
        calls.iter().try_for_each(|(id, _)| self.remove_kept_packets(id))
    }

    /// Removes the packets of a call that were kept beside its recording (`recording.keep_pcap`) or set aside.
    fn remove_kept_packets(&self, id: &str) -> anyhow::Result<()> {
        self.set_aside().remove_of(id)?;
        if let Some(stored) = self.worker.journal.call(id)?.filter(|c| c.stage == CallStage::Complete) {
            for leg in 0..stored.record.legs.len() {
                let kept = self.worker.recorder.kept_path(&stored.record, leg);
                files::remove(&encrypted_path(&kept));
                files::remove(&kept);
            }
        }
        Ok(())
    }

    /// Removes packets that were set aside, of calls that have no recording.
    fn remove_old_set_aside(&self) -> anyhow::Result<()> {
        let oldest = self.clock.ages().oldest_kept(self.config.keep_days);
        self.set_aside().remove_old(&self.worker.locks, oldest)
    }

    const fn set_aside(&self) -> SetAsidePackets<'_> {
        SetAsidePackets { journal: &self.worker.journal, store: &self.worker.store }
    }

    /// Removes the files of recordings that the journal recently marked as removed. If a crash came between the mark
    /// and the removal, the file still exists.
    fn remove_marked(&mut self) {
        let since = self.clock.started() - MARKED_SINCE;
        match self.worker.journal.removed_since(since) {
            Ok(paths) => paths.iter().for_each(|path| files::remove_recording(Path::new(path))),
            Err(error) => tracing::warn!("recordings marked as removed cannot be read from the journal: {error}"),
        }
    }
}

/// Iterator over the calls with recordings that retention may remove, oldest first. It reads the journal page by page.
#[derive(Debug)]
pub struct RetentionCandidates<'j> {
    journal: &'j Journal,
    page: std::vec::IntoIter<RecordingRow>,
    /// Last recording that was read from the journal; the next page of rows begins after it. `None` before the first
    /// page.
    last: Option<RecordingRow>,
    /// First recording of the next call; `None` at the end. It is read early, because only a recording of another call
    /// shows that a call has no more recordings.
    next: Option<RecordingRow>,
}

impl<'j> RetentionCandidates<'j> {
    /// Returns an iterator that begins with the oldest call.
    pub fn begin(journal: &'j Journal) -> Self {
        Self { journal, page: Vec::new().into_iter(), last: None, next: None }
    }

    fn next_row(&mut self) -> journal::JournalResult<Option<RecordingRow>> {
        if let Some(row) = self.next.take() {
            return Ok(Some(row));
        }
        if self.page.len() == 0 {
            self.page = self.journal.recordings_after(self.last.as_ref(), PAGE)?.into_iter();
        }
        let row = self.page.next();
        if row.is_some() {
            self.last.clone_from(&row);
        }
        Ok(row)
    }

    fn next_call(&mut self) -> journal::JournalResult<Option<RemovalCandidate>> {
        let Some(first) = self.next_row()? else { return Ok(None) };
        let mut bytes = first.bytes;
        while let Some(row) = self.next_row()? {
            if row.call_id != first.call_id {
                self.next = Some(row);
                break;
            }
            bytes += row.bytes;
        }
        let cost = match (first.is_held, first.need) {
            (true, _) => RemovalCost::Held,
            (false, DeliveryNeed::Delivered) => RemovalCost::Nothing,
            (false, DeliveryNeed::NotOwed) => RemovalCost::OnlyCopy,
            (false, DeliveryNeed::Owed) => RemovalCost::Owed,
        };
        Ok(Some(RemovalCandidate { id: first.call_id, at: first.at, bytes, cost }))
    }
}

impl Iterator for RetentionCandidates<'_> {
    type Item = journal::JournalResult<RemovalCandidate>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_call().transpose()
    }
}

/// Number of calls that are marked as removed in one transaction of the journal.
const REMOVAL_BATCH: usize = 50;
/// Number of rows that are read at once. The journal is locked while they are read, for some milliseconds.
const PAGE: u32 = 500;
/// Pause between two rounds of the maintenance thread.
const ROUND: Duration = Duration::from_secs(2);
/// Number of rounds of the maintenance thread between two checks of retention. With 2 s for each round, there are two
/// checks a minute.
const RETENTION_ROUNDS: u32 = 15;
/// The start of the service repeats the removals of this time before the start, because a crash may have left some of
/// the files.
const MARKED_SINCE: Duration = Duration::from_secs(86_400);
