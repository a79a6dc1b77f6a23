//! The thread that sends calls to the central archive. No other thread waits for this thread.

use std::path::PathBuf;
use std::time::Duration;

use super::archive_health::{ArchiveHealth, RoundResult};
use super::archive_reports::{REPORT_INTERVAL, SiteReports};
use super::clock;
use super::site_copies::{AuditReader, SiteCopies};
use crate::archive::{ArchiveJob, ArchiveOutcome, ArchiveStage, ArchiveStep, ArchivedObject, object_key};
use crate::central::config::Config as ArchiveConfig;
use crate::central::{ArchiveIndex, ObjectArchive};
use crate::journal::{ArchiveExtent, CallStage, Journal, RecordingRow, StoredCall};
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::alerts::Alerts;
use crate::ops::config::Config;
use crate::ops::thread::{StopSignal, StoppableThread};
use crate::time::Timestamp;

/// Starts the thread that sends calls to the central archive, if an archive is configured. The thread itself opens the
/// archive, so that a missing file, folder or server cannot stop the recorder from recording. A rebuilt journal does
/// not know which calls the archive has. So all its calls are sent again.
///
/// # Errors
/// Fails if the journal cannot be written, or the thread cannot be started.
pub(crate) fn start(
    config: &Config,
    journal: Journal,
    alerts: Alerts,
    is_rebuilt: bool,
    audit: AuditReader,
) -> anyhow::Result<Option<StoppableThread>> {
    journal.set_archive(config.archive.is_used(), config.archive.keep_until_archived)?;
    if !config.archive.is_used() {
        return Ok(None);
    }
    if is_rebuilt {
        journal.owe_archive(Timestamp::EPOCH, Timestamp::MAX, ArchiveExtent::Missing)?;
    }
    let (archive, must_be_encrypted, state) =
        (config.archive.clone(), is_encrypted_at_rest(config), config.journal.dir.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut copies = SiteCopies::of(&state, audit);
    let work = move |stop: &StopSignal| {
        let mut health = ArchiveHealth::default();
        while !stop.is_stopped_within(ROUND) {
            let open = || -> anyhow::Result<Archiver> {
                let archiver = Archiver::open(&archive, journal.clone(), must_be_encrypted)?;
                Ok(Archiver { state: state.clone(), ..archiver })
            };
            let round = std::panic::AssertUnwindSafe(|| match open() {
                Ok(archiver) => runtime.block_on(async {
                    tokio::select! {
                        () = run(archiver, &mut copies, &mut health, &alerts, stop) => {}
                        () = give_signs_of_life(stop) => {}
                    }
                }),
                Err(error) => health.record(&RoundResult::Failed(format!("{error:#}")), &alerts),
            });
            if std::panic::catch_unwind(round).is_err() {
                alerts.raise(&AlarmCause::ArchivePanicked);
                let _ = stop.is_stopped_within(PAUSE_AFTER_PANIC); // the loop itself checks for a stop
            }
        }
    };
    Ok(Some(StoppableThread::start("archive", work)?))
}

/// Returns whether recordings are encrypted at this site. If so, a recording may be sent to the archive only after it
/// was encrypted.
pub(crate) fn is_encrypted_at_rest(config: &Config) -> bool {
    !config.recording.encrypt_to.is_empty()
}

/// Sends the calls of one journal to the central archive.
pub(crate) struct Archiver {
    config: ArchiveConfig,
    journal: Journal,
    objects: ObjectArchive,
    index: ArchiveIndex,
    must_be_encrypted: bool,
    /// State folder, with the status file of `run`. The status is sent to the archive.
    state: PathBuf,
}

impl Archiver {
    /// Opens the archive that the configuration names. Does not connect yet.
    ///
    /// # Errors
    /// Fails if a setting is wrong, or a file with a secret cannot be read.
    pub(crate) fn open(config: &ArchiveConfig, journal: Journal, must_be_encrypted: bool) -> anyhow::Result<Self> {
        let (objects, index) = (ObjectArchive::open(config)?, ArchiveIndex::open(config)?);
        Ok(Self { config: config.clone(), journal, objects, index, must_be_encrypted, state: PathBuf::new() })
    }

    /// Sends all due calls to the archive: calls that changed, and calls whose pause after a failure is over. Stops
    /// before the next call if `is_stopped` returns true.
    ///
    /// # Errors
    /// Fails if the journal cannot be read or written.
    pub(crate) async fn send_due(&mut self, is_stopped: &dyn Fn() -> bool) -> anyhow::Result<ArchiveRound> {
        let (mut round, until) = (ArchiveRound::default(), clock::monotonic() + REPORT_INTERVAL);
        for mut job in self.journal.due_archive_jobs(clock::wall_clock(), CALLS_AT_ONCE)? {
            // The store may accept connections but not respond. So sending stops after some time, and the report that
            // this site is alive needs another connection only while one object takes long.
            if is_stopped() || clock::monotonic() >= until {
                break;
            }
            round.calls += 1;
            self.send(&mut job).await?;
            match job.stage {
                ArchiveStage::Done => round.archived += 1,
                ArchiveStage::Refused => round.refusal = job.note.or(round.refusal),
                // If no attempt has failed, the call only waits until its recordings are encrypted. That is no failure
                // of the archive.
                ArchiveStage::Owed if job.attempts == 0 => {}
                ArchiveStage::Owed => round.failure = job.note.or(round.failure),
            }
        }
        Ok(round)
    }

    /// Sends the changes of the site's audit and topology to the archive.
    ///
    /// # Errors
    /// Fails if the audit cannot be read, or if the archive's database does not respond, refuses, or has the schema of
    /// an older callspan.
    pub(crate) async fn send_copies(&mut self, copies: &mut SiteCopies) -> Result<(), String> {
        copies.send(&mut self.index, clock::wall_clock()).await
    }

    /// Sends one call, step by step, until the archive has the whole call or a step fails.
    async fn send(&mut self, job: &mut ArchiveJob) -> anyhow::Result<()> {
        let Some(call) = self.journal.call(&job.call_id)?.filter(|call| call.stage == CallStage::Complete) else {
            return Ok(()); // being rendered again, which will renew the job
        };
        let rows = self.journal.recordings_of(&job.call_id)?;
        if self.must_be_encrypted && rows.iter().any(|row| row.plain_sha256.is_none()) {
            job.next_at = Some(clock::wall_clock() + SEALING_PAUSE);
            job.note = Some(String::from("waits until its recordings are encrypted, which delivery may hold up"));
            return Ok(self.journal.save_archive_job(job)?);
        }
        let removed = stored_and_removed(&job.objects, &call, &rows);
        job.set_objects(objects(&self.config.site, &call, &rows));
        job.keep_removed(removed);
        while let Some(step) = job.next_step(clock::wall_clock()) {
            self.journal.save_archive_job(job)?;
            let outcome = self.execute(step, job, &call).await;
            if let ArchiveOutcome::Behind(stored) = outcome {
                self.journal.raise_archive_change(&job.call_id, stored)?;
            }
            job.handle_outcome(step, outcome, clock::wall_clock());
        }
        Ok(self.journal.save_archive_job(job)?)
    }

    async fn execute(&mut self, step: ArchiveStep, job: &ArchiveJob, call: &StoredCall) -> ArchiveOutcome {
        match step {
            ArchiveStep::Put(index) => self.objects.put_new(&job.objects[index]).await,
            ArchiveStep::Compare(index) => self.objects.compare(&job.objects[index]).await,
            ArchiveStep::Index => self.index.put_call(job, &call.record).await,
        }
    }
}

/// The result of one round of sending, in which all due calls were tried once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ArchiveRound {
    /// Number of due calls that the thread tried to send.
    pub(crate) calls: u32,
    /// Number of calls that the archive now has completely.
    pub(crate) archived: u32,
    /// The newest reason why a call must wait; `None` if no call must wait.
    pub(crate) failure: Option<String>,
    /// The newest reason why the archive refused a call; `None` if it refused no call.
    pub(crate) refusal: Option<String>,
}

impl ArchiveRound {
    /// Returns the result of this round of sending, i.e. whether the round shows that the archive works.
    fn result(self) -> RoundResult {
        match (self.failure, self.archived) {
            (Some(reason), 0) => RoundResult::Failed(reason),
            (_, 1..) => RoundResult::Succeeded,
            (None, 0) => RoundResult::Idle,
        }
    }
}

fn objects(site: &str, call: &StoredCall, rows: &[RecordingRow]) -> Vec<ArchivedObject> {
    let record = &call.record;
    let begin = record.invited_at.or(record.answered_at).or(record.ended_at).unwrap_or(Timestamp::EPOCH);
    rows.iter()
        .map(|row| {
            let mut object = ArchivedObject {
                part: row.part,
                path: row.path.clone(),
                key: String::new(),
                bytes: row.bytes,
                sha256: row.sha256.clone(),
                stored: false,
                again: false,
            };
            object.key = object_key(site, &row.call_id, begin, &object);
            object
        })
        .collect()
}

/// Returns recordings that the archive has although retention removed their files at the site. The archive's row of the
/// call must still list them. If the call was rendered again or excluded, its old recordings are left out.
fn stored_and_removed(known: &[ArchivedObject], call: &StoredCall, rows: &[RecordingRow]) -> Vec<ArchivedObject> {
    let is_in_record = |object: &ArchivedObject| {
        call.record.recordings.iter().any(|file| file.part == object.part && file.sha256 == object.sha256)
    };
    let is_here = |object: &ArchivedObject| rows.iter().any(|row| row.part == object.part);
    known.iter().filter(|object| object.stored && is_in_record(object) && !is_here(object)).cloned().collect()
}

async fn run(
    mut archiver: Archiver,
    copies: &mut SiteCopies,
    health: &mut ArchiveHealth,
    alerts: &Alerts,
    stop: &StopSignal,
) {
    let mut reports = SiteReports::of(archiver.journal.clone(), archiver.state.clone(), &archiver.index, copies);
    while !stop.is_stopped_within(ROUND) {
        let is_stopped = || stop.is_stopped_within(Duration::ZERO);
        let round = tokio::select! {
            round = archiver.send_due(&is_stopped) => round,
            never = reports.repeat(health, alerts) => match never {},
        };
        match round {
            Ok(round) => {
                if let Some(reason) = &round.refusal {
                    alerts.raise(&AlarmCause::CallNotArchived { reason });
                }
                health.record(&round.result(), alerts);
            }
            Err(error) => health.record(&RoundResult::Failed(error.to_string()), alerts),
        }
        reports.send_due(&mut archiver.index, health, alerts).await;
    }
}

/// Shows the supervision of threads that this thread is alive while it sends a long file. If a file server or name
/// server blocks the thread, the signs of life stop, and the supervision notices it.
#[expect(clippy::disallowed_methods, reason = "signs of life between two rounds")]
async fn give_signs_of_life(stop: &StopSignal) {
    loop {
        stop.tick();
        tokio::time::sleep(SIGN_OF_LIFE).await;
    }
}

/// Pause between two rounds of sending calls. A call usually changes several times in the seconds after its end, and
/// one round sends all these changes.
const ROUND: Duration = Duration::from_secs(5);
/// Maximum number of calls that one round of sending handles, so that a large backlog does not delay the report that
/// the site is alive.
const CALLS_AT_ONCE: u32 = 64;
/// Pause between two tries to send a call with recordings that are not encrypted yet. Encryption itself waits for the
/// delivery to Pyrus.
const SEALING_PAUSE: Duration = Duration::from_secs(30);
/// Interval between two signs of life that the thread gives to the supervision of threads while it sends a file.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Pause after a panic, so that a bug does not fill the log.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(60);
