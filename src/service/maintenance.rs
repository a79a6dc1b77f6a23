//! The thread that looks after what is kept: retention, encryption of what Pyrus has, halves of an earlier process, and
//! calls that a person asked to be rendered once more. Alarms are the business of [`super::watch`].

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::encrypt::{Left, Sealer, clear_leftovers};
use super::post_process::Worker;
use super::rerender::rerender;
use crate::delivery::Progress;
use crate::journal::{self, CallStage, DeliveryNeed, Journal, RecordingRow};
use crate::ops::alerts::Kind;
use crate::ops::config::Config;
use crate::recording::config::Config as Recordings;
use crate::recording::encrypt::encrypted_path;
use crate::recording::retention::{
    self, ClockTrust, DiskUsage, RemovalCandidate, RemovalCost, RemovalReason, free_bytes, plan,
};
use crate::time::Timestamp;

/// The thread; ends when told to.
pub(super) struct Upkeep {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Upkeep {
    pub(super) fn start(worker: Worker, config: &Config) -> anyhow::Result<Self> {
        let (stop, stopped) = crossbeam_channel::bounded(1);
        let sealer = Sealer::new(config.recording.encrypt_to.clone());
        let mut keeper = Keeper { worker, recordings: config.recording.clone(), sealer, clock: Clock::start() };
        let thread = std::thread::Builder::new()
            .name(String::from("upkeep"))
            .spawn(move || keeper.run(&stopped))
            .context("cannot start the upkeep thread")?;
        Ok(Self { stop, thread })
    }

    /// Whether it has ended by itself.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    pub(super) fn stop(self) {
        drop(self.stop);
        let _ = self.thread.join(); // a panic there was reported when it happened
    }
}

struct Keeper {
    worker: Worker,
    recordings: Recordings,
    sealer: Sealer,
    clock: Clock,
}

impl Keeper {
    fn run(&mut self, stopped: &Receiver<()>) {
        remove_parts(&self.recordings.dir, self.clock.started);
        self.remove_marked();
        let mut round = 0_u32;
        loop {
            self.try_to("what was asked for cannot be done", Self::take_render_requests);
            if round.is_multiple_of(DISK_EVERY) {
                self.clock.look();
                self.try_to("what is left over cannot be removed", |keeper| clear_leftovers(&keeper.worker.journal));
                self.try_to("retention does not work", Self::retain);
            }
            round = round.wrapping_add(1);
            let pause = match self.sealer.work(&self.worker) {
                Left::Some => Duration::ZERO,
                Left::Nothing => LOOK,
            };
            match stopped.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    fn try_to(&mut self, failure: &str, work: impl FnOnce(&mut Self) -> anyhow::Result<()>) {
        if let Err(error) = work(self) {
            tracing::error!("{failure}: {error:#}");
        }
    }

    fn take_render_requests(&mut self) -> anyhow::Result<()> {
        for id in self.worker.journal.take_render_requests()? {
            // Whoever renders once more may do so because of a bug; it must not end this thread.
            let done = std::panic::catch_unwind(AssertUnwindSafe(|| self.render(&id)));
            let error = match done {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => String::from("a bug of callspan ended the work on it"),
            };
            let detail = format!("the call cannot be rendered again, as was asked for: {error}");
            self.worker.alerts.raise_for(Kind::RenderFailed, &id, &detail);
        }
        Ok(())
    }

    fn render(&self, id: &str) -> anyhow::Result<()> {
        let _turn = self.worker.turns.take(id);
        let record = rerender(&self.worker.journal, &self.worker.recorder, Some(&self.worker.store), id)?;
        tracing::info!(call = id, "rendered again");
        // Until delivery has made up its mind, the new file is not encrypted. What it did not want, it is not told of.
        if let Some((_, registration)) =
            self.worker.journal.calls_to_announce()?.into_iter().find(|(c, _)| c.record.id == id)
        {
            self.worker.tell(&record, Progress::Complete, registration);
        }
        Ok(())
    }

    /// Removes what is too much, in steps: the journal is locked for one of them at a time.
    fn retain(&mut self) -> anyhow::Result<()> {
        loop {
            let room = DiskUsage {
                kept_bytes: self.worker.journal.kept_bytes()?,
                free_bytes: free_bytes(&self.recordings.dir).ok(),
            };
            if room.is_enough(&self.recordings) {
                return Ok(());
            }
            let walk = || Walk::begin(&self.worker.journal);
            let planned = plan(&self.recordings, walk, self.clock.ages(), room)?;
            for calls in planned.chunks(AT_ONCE) {
                self.remove_calls(calls)?;
            }
            if planned.len() < retention::MAX_REMOVALS {
                return Ok(());
            }
        }
    }

    fn remove_calls(&self, calls: &[(String, RemovalReason)]) -> anyhow::Result<()> {
        let marks: Vec<(String, &str)> = calls.iter().map(|(id, why)| (id.clone(), why.as_str())).collect();
        let paths = self.worker.journal.mark_removed(&marks, self.clock.wall())?;
        for (id, why) in &marks {
            tracing::info!(call = id, why, "recording removed");
        }
        paths.iter().for_each(|path| remove(Path::new(path)));
        calls.iter().try_for_each(|(id, _)| self.remove_kept(id))
    }

    /// The packets that `keep_pcap` put beside the recording.
    fn remove_kept(&self, id: &str) -> anyhow::Result<()> {
        if let Some(stored) = self.worker.journal.call(id)?.filter(|c| c.stage == CallStage::Complete) {
            for leg in 0..stored.record.legs.len() {
                let kept = self.worker.recorder.kept_path(&stored.record, leg);
                remove(&encrypted_path(&kept));
                remove(&kept);
            }
        }
        Ok(())
    }

    /// The mark comes before the deed: a crash between the two is made good here.
    fn remove_marked(&mut self) {
        let since = self.clock.started - MARKED_SINCE;
        match self.worker.journal.removed_since(since) {
            Ok(paths) => paths.iter().for_each(|path| remove(Path::new(path))),
            Err(error) => tracing::warn!("removed recordings cannot be looked at: {error}"),
        }
    }
}

/// The calls with recordings, oldest first, read from the journal in pages.
#[derive(Debug)]
pub struct Walk<'j> {
    journal: &'j Journal,
    page: std::vec::IntoIter<RecordingRow>,
    /// The last row that was given away: the next page begins behind it.
    last: Option<RecordingRow>,
    next: Option<RecordingRow>,
}

impl<'j> Walk<'j> {
    /// Begins with the oldest.
    pub fn begin(journal: &'j Journal) -> Self {
        Self { journal, page: Vec::new().into_iter(), last: None, next: None }
    }

    fn row(&mut self) -> journal::JournalResult<Option<RecordingRow>> {
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

    fn call(&mut self) -> journal::JournalResult<Option<RemovalCandidate>> {
        let Some(first) = self.row()? else { return Ok(None) };
        let mut bytes = first.bytes;
        while let Some(row) = self.row()? {
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

impl Iterator for Walk<'_> {
    type Item = journal::JournalResult<RemovalCandidate>;

    fn next(&mut self) -> Option<Self::Item> {
        self.call().transpose()
    }
}

pub(super) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), "cannot be removed: {error}");
    }
}

/// Removes what an earlier process left half-written in a tree of recordings: every `.part` of ours from before this
/// start.
pub(super) fn remove_parts(dir: &Path, before: Timestamp) {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        folders.extend(remove_parts_in(&folder, before));
    }
}

/// The same in one folder. Gives the folders in it.
pub(crate) fn remove_parts_in(folder: &Path, before: Timestamp) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return folders };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            folders.push(path);
        } else if is_our_part(&path) && is_older(&entry, before) {
            remove(&path);
        }
    }
    folders
}

/// `20261123T070854Z-….wav.part` and the like: somebody else's `.part` is none of our business.
fn is_our_part(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let stamp = name.get(..17).unwrap_or_default();
    let digits = |text: Option<&str>| text.is_some_and(|t| t.bytes().all(|b| b.is_ascii_digit()));
    let stamped =
        digits(stamp.get(..8)) && digits(stamp.get(9..15)) && stamp.get(8..9) == Some("T") && stamp.ends_with("Z-");
    stamped && PARTS.iter().any(|end| name.ends_with(end))
}

fn is_older(entry: &std::fs::DirEntry, before: Timestamp) -> bool {
    let modified = entry.metadata().and_then(|m| m.modified()).ok();
    let since = modified.and_then(|m| m.duration_since(UNIX_EPOCH).ok());
    since.is_some_and(|s| Timestamp::EPOCH + s < before)
}

/// The wall clock, and whether it can be trusted to tell the age of a recording.
struct Clock {
    started: Timestamp,
    /// Wall clock and monotonic clock at the last look.
    last: (Timestamp, Instant),
    /// Since when the two have run evenly.
    even_since: Instant,
}

impl Clock {
    fn start() -> Self {
        let (wall, now) = (wall_clock(), monotonic());
        Self { started: wall, last: (wall, now), even_since: now }
    }

    fn look(&mut self) {
        let (wall, now) = (wall_clock(), monotonic());
        let expected = self.last.0 + now.duration_since(self.last.1);
        let off = wall.nanos_since(expected).unsigned_abs();
        if u128::from(off) > CLOCK_STEP.as_nanos() {
            tracing::warn!("the wall clock was set: nothing is removed by its age for a while");
            self.even_since = now;
        }
        self.last = (wall, now);
    }

    fn ages(&self) -> ClockTrust {
        let even = self.last.1.duration_since(self.even_since);
        if even >= CLOCK_TRUSTED { ClockTrust::Trusted(self.last.0) } else { ClockTrust::Unknown }
    }

    const fn wall(&self) -> Timestamp {
        self.last.0
    }
}

#[expect(clippy::disallowed_methods, reason = "the age of a recording is a question to the wall clock")]
pub(crate) fn wall_clock() -> Timestamp {
    Timestamp::EPOCH + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "whether the wall clock was set shows against this one")]
fn monotonic() -> Instant {
    Instant::now()
}

/// What is written and then renamed.
const PARTS: [&str; 5] = [".wav.part", ".ogg.part", ".json.part", ".pcapng.part", ".age.part"];
/// Calls whose removal is one write of the journal.
const AT_ONCE: usize = 50;
/// Rows of the journal read at once: it is locked for some milliseconds.
const PAGE: u32 = 500;
/// How often the journal is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Retention: every fifteenth look, twice a minute.
const DISK_EVERY: u32 = 15;
/// A wall clock that is off by more was set.
const CLOCK_STEP: Duration = Duration::from_secs(60);
/// After a start or a step the clock must run evenly for so long before ages count: NTP has set it by then.
const CLOCK_TRUSTED: Duration = Duration::from_secs(600);
/// Marks of removal that are looked at again at the start.
const MARKED_SINCE: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_an_earlier_process_go_and_those_of_this_one_stay() {
        let dir = tempfile::tempdir().expect("a folder");
        let day = dir.path().join("2026/11/23");
        std::fs::create_dir_all(&day).expect("made");
        for name in
            ["20261123T070854Z-0a.wav.part", "20261123T070854Z-0a.wav", "20261123T070854Z-0a.json.part", "x.wav.part"]
        {
            std::fs::write(day.join(name), "x").expect("written");
        }
        remove_parts(dir.path(), wall_clock() - Duration::from_secs(3600));
        let there = |name: &str| day.join(name).exists();
        assert!(there("20261123T070854Z-0a.wav.part"));
        remove_parts(dir.path(), wall_clock() + Duration::from_secs(3600));
        assert!(!there("20261123T070854Z-0a.wav.part") && !there("20261123T070854Z-0a.json.part"));
        assert!(there("20261123T070854Z-0a.wav") && there("x.wav.part"), "not ours");
    }

    #[test]
    fn a_clock_that_was_just_started_or_set_tells_no_age() {
        let mut clock = Clock::start();
        clock.look();
        assert_eq!(clock.ages(), ClockTrust::Unknown);
        clock.even_since = clock.even_since.checked_sub(CLOCK_TRUSTED).expect("the machine runs longer than that");
        assert!(matches!(clock.ages(), ClockTrust::Trusted(_)));
        clock.last.0 = clock.last.0 - Duration::from_secs(7200); // as if it had jumped two hours ahead since
        clock.look();
        assert_eq!(clock.ages(), ClockTrust::Unknown);
    }
}
