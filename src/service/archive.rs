//! Sends calls to the central archive. Nothing else waits for this thread.

use std::time::Duration;

use super::clock;
use crate::archive::{ArchiveJob, ArchiveOutcome, ArchiveStage, ArchiveStep, ArchivedObject, object_key};
use crate::central::config::Config as ArchiveConfig;
use crate::central::{ArchiveIndex, ObjectArchive};
use crate::journal::{CallStage, Journal, RecordingRow, StoredCall};
use crate::ops::alerts::{AlarmKind, Alerts};
use crate::ops::config::Config;
use crate::ops::thread::{StopSignal, StoppableThread};
use crate::time::Timestamp;

/// Starts the thread that archives calls, if an archive is configured.
///
/// # Errors
/// When a setting of the archive is wrong, or the thread cannot be started.
pub(crate) fn start(config: &Config, journal: Journal, alerts: Alerts) -> anyhow::Result<Option<StoppableThread>> {
    journal.set_archive(config.archive.is_used(), config.archive.keep_until_archived)?;
    if !config.archive.is_used() {
        return Ok(None);
    }
    let archiver = Archiver::open(&config.archive, journal, is_sealed(config))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(Some(StoppableThread::start("archive", move |stop| runtime.block_on(run(archiver, &alerts, stop)))?))
}

/// Returns true if recordings are encrypted, so that only encrypted files may leave the site.
fn is_sealed(config: &Config) -> bool {
    !config.recording.encrypt_to.is_empty()
}

/// Sends the calls of one journal.
pub(crate) struct Archiver {
    config: ArchiveConfig,
    journal: Journal,
    objects: ObjectArchive,
    index: ArchiveIndex,
    must_be_sealed: bool,
}

impl Archiver {
    /// Opens the archive that the configuration names. Does not connect yet.
    ///
    /// # Errors
    /// When a setting is wrong, or a file with a secret cannot be read.
    pub(crate) fn open(config: &ArchiveConfig, journal: Journal, must_be_sealed: bool) -> anyhow::Result<Self> {
        let (objects, index) = (ObjectArchive::open(config)?, ArchiveIndex::open(config)?);
        Ok(Self { config: config.clone(), journal, objects, index, must_be_sealed })
    }

    /// Sends the calls that are due. Returns their number, and the reason of the last failure.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub(crate) async fn send_due(&mut self, is_stopped: &dyn Fn() -> bool) -> anyhow::Result<ArchiveRound> {
        let mut round = ArchiveRound::default();
        for mut job in self.journal.due_archive_jobs(clock::wall_clock(), CALLS_AT_ONCE)? {
            if is_stopped() {
                break;
            }
            round.calls += 1;
            self.send(&mut job).await?;
            if job.stage != ArchiveStage::Done {
                round.failure = job.note;
            }
        }
        Ok(round)
    }

    /// Takes the steps of one call until it is archived or must wait.
    async fn send(&mut self, job: &mut ArchiveJob) -> anyhow::Result<()> {
        let Some(call) = self.journal.call(&job.call_id)?.filter(|call| call.stage == CallStage::Complete) else {
            return Ok(()); // rendered again just now: its next change enters it
        };
        let rows = self.journal.recordings_of(&job.call_id)?;
        if self.must_be_sealed && rows.iter().any(|row| row.plain_sha256.is_none()) {
            job.next_at = Some(clock::wall_clock() + SEALING_PAUSE);
            return Ok(self.journal.save_archive_job(job)?);
        }
        let removed = stored_and_removed(&job.objects, &call, &rows);
        job.set_objects(objects(&self.config.site, &call, &rows).into_iter().chain(removed).collect());
        while let Some(step) = job.next_step(clock::wall_clock()) {
            self.journal.save_archive_job(job)?;
            let outcome = self.execute(step, job, &call).await;
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

/// The result of one round over the calls that were due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ArchiveRound {
    /// Calls that were tried.
    pub(crate) calls: u32,
    /// The reason why the last call that failed is not archived.
    pub(crate) failure: Option<String>,
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
            };
            object.key = object_key(site, &row.call_id, begin, &object);
            object
        })
        .collect()
}

/// Returns the stored objects of recordings that retention removed at the site: the archive keeps them. A recording that
/// was rendered again or excluded is no longer in the record.
fn stored_and_removed(known: &[ArchivedObject], call: &StoredCall, rows: &[RecordingRow]) -> Vec<ArchivedObject> {
    let is_in_record = |object: &ArchivedObject| {
        call.record.recordings.iter().any(|file| file.part == object.part && file.sha256 == object.sha256)
    };
    let is_here = |object: &ArchivedObject| rows.iter().any(|row| row.part == object.part);
    known.iter().filter(|object| object.stored && is_in_record(object) && !is_here(object)).cloned().collect()
}

async fn run(mut archiver: Archiver, alerts: &Alerts, stop: &StopSignal) {
    let mut failing_since: Option<Timestamp> = None;
    let mut is_alarmed = false;
    let mut reported_at = Timestamp::EPOCH;
    while !stop.is_stopped_within(ROUND) {
        let failure = match archiver.send_due(&|| stop.is_stopped_within(Duration::ZERO)).await {
            Ok(round) if round.calls == 0 => continue_report(&mut archiver, &mut reported_at).await,
            Ok(round) => round.failure,
            Err(error) => Some(error.to_string()),
        };
        let now = clock::wall_clock();
        match (&failure, failing_since) {
            (Some(reason), Some(since)) if !is_alarmed && now.since(since) >= ALARM_AFTER => {
                is_alarmed = true;
                alerts.raise(AlarmKind::ArchiveFailing, reason);
            }
            (Some(reason), None) => {
                failing_since = Some(now);
                tracing::warn!("a call cannot be archived yet: {reason}");
            }
            (None, Some(_)) => {
                failing_since = None;
                if std::mem::take(&mut is_alarmed) {
                    alerts.raise(AlarmKind::ArchiveRecovered, "the archive takes calls again");
                }
            }
            _ => {}
        }
    }
}

/// Tells the index once a minute that the site is alive. Returns the reason if that failed.
async fn continue_report(archiver: &mut Archiver, reported_at: &mut Timestamp) -> Option<String> {
    let now = clock::wall_clock();
    if now.since(*reported_at) < REPORT_INTERVAL {
        return None;
    }
    *reported_at = now;
    let backlog = archiver.journal.archive_backlog().unwrap_or_default();
    archiver.index.report_site(backlog).await.err().map(|error| error.to_string())
}

/// Pause between two rounds. A call usually changes several times within seconds of its end.
const ROUND: Duration = Duration::from_secs(5);
/// Calls in one round, so that a large backlog does not hold up the sign of life.
const CALLS_AT_ONCE: u32 = 64;
/// Pause while a recording is not encrypted yet.
const SEALING_PAUSE: Duration = Duration::from_secs(30);
/// Time of failures after which a person is told: a short restart of the archive is no alarm.
const ALARM_AFTER: Duration = Duration::from_secs(15 * 60);
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
