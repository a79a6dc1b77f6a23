//! Opening the journal, whatever state it is in.
//!
//! A damaged journal is set aside, for a person to look at, and a new one is made of the records beside the recordings:
//! they say what Pyrus has of each call. Of calls that began before the loss and have no record nobody knows whether they
//! were registered, and delivery treats them so. Nothing is sent twice but what was under way in the last second before
//! a crash that also damaged the journal.
//!
//! A journal that is found damaged while the service works is healed in the same way: the service condemns it, ends and
//! is started again (`run`).

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::call::record::{CallRecord, DeliveryState};
use crate::delivery::Job;
use crate::delivery::row::JobRow;
use crate::journal::{self, Journal, config::Config};
use crate::recording::digest;
use crate::recording::encrypt::encrypted_path;
use crate::time::Timestamp;

/// A journal that can be used.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// What an admin should hear: the journal was lost, and what was made of it.
    pub alarm: Option<String>,
}

/// Opens the journal; makes it anew of the records below `recordings` when it is damaged or gone.
///
/// # Errors
/// When the journal is of a newer version, or a file cannot be written.
pub fn open(config: &Config, recordings: &Path) -> anyhow::Result<Opened> {
    let file = config.dir.join(journal::FILE_NAME);
    // Of no length, it was made and never written, or a file system lost it.
    let is_new = std::fs::metadata(&file).map_or(true, |file| file.len() == 0);
    let (journal, loss) = match open_unless_condemned(config, &file) {
        Ok(journal) if journal.is_rebuilding()? => (journal, Some(String::from("the journal was not whole"))),
        Ok(journal) if is_new && was_lost(&file, recordings) => (journal, Some(String::from("the journal was gone"))),
        Ok(journal) => (journal, None),
        Err(journal::Error::Damaged { detail, .. }) => {
            let aside = Journal::set_aside(config)?;
            let loss = format!("the journal was damaged ({detail}) and is kept as {}", aside.display());
            (Journal::open(config)?, Some(loss))
        }
        Err(error) => return Err(error.into()),
    };
    let alarm = match loss {
        None => None,
        Some(loss) => {
            let count = rebuild(&journal, recordings).context("the journal cannot be made anew")?;
            Some(format!("{loss}; it was made anew from the records of {count} calls in {}", recordings.display()))
        }
    };
    Ok(Opened { journal, alarm })
}

fn open_unless_condemned(config: &Config, file: &Path) -> journal::JournalResult<Journal> {
    match Journal::damage_mark(config) {
        Some(detail) => Err(journal::Error::Damaged { path: file.to_owned(), detail }),
        None => Journal::open(config),
    }
}

/// There was a journal before: one that was set aside, one that told of deliveries, or that of a service, whose records
/// lie in folders of days. (A replay that delivers nothing leaves records and has no journal.)
fn was_lost(file: &Path, recordings: &Path) -> bool {
    let mut aside = file.as_os_str().to_owned();
    aside.push(".damaged-1");
    let is_of_service = |path: &Path| path.strip_prefix(recordings).is_ok_and(|p| p.components().count() > MAX_DEPTH);
    let had_journal = |path: &Path| {
        read(path).is_some_and(|record| is_of_service(path) || record.delivery.state != DeliveryState::None)
    };
    Path::new(&aside).exists() || records(recordings).any(|path| had_journal(&path))
}

/// Enters every call that has a record. Gives their number.
fn rebuild(journal: &Journal, recordings: &Path) -> anyhow::Result<usize> {
    journal.begin_rebuild(wall_clock())?;
    let mut count = 0;
    let mut batch = Vec::new();
    for path in records(recordings) {
        let Some(mut record) = read(&path) else {
            tracing::warn!(path = %path.display(), "no call record: it is left out of the journal");
            continue;
        };
        count += 1;
        look_for_sealed(journal, &mut record)?;
        let job = Job::rebuilt(&record).map(|job| job.to_row());
        batch.push((record, job));
        if batch.len() >= BATCH {
            enter(journal, &mut batch)?;
        }
    }
    enter(journal, &mut batch)?;
    journal.end_rebuild()?;
    Ok(count)
}

fn enter(journal: &Journal, batch: &mut Vec<(CallRecord, Option<JobRow>)>) -> anyhow::Result<()> {
    journal.put_rebuilt_calls(batch)?;
    let is_gone = |record: &CallRecord| {
        !record.recordings.is_empty() && record.recordings.iter().all(|r| !Path::new(&r.path).exists())
    };
    // By retention, most likely; why, only the lost journal knew.
    let gone: Vec<(String, &str)> =
        batch.iter().filter(|(record, _)| is_gone(record)).map(|(record, _)| (record.id.clone(), WAS_GONE)).collect();
    journal.mark_removed(&gone, wall_clock())?;
    batch.clear();
    Ok(())
}

/// A recording may have been encrypted since its record was written, or its plain file may not have been removed yet:
/// the journal that is lost knew.
fn look_for_sealed(journal: &Journal, record: &mut CallRecord) -> anyhow::Result<()> {
    let mut leftovers = Vec::new();
    let mut is_behind = false;
    for recording in &mut record.recordings {
        if recording.plain_sha256.is_some() {
            let plain = Path::new(&recording.path).with_extension("");
            leftovers.extend(plain.is_file().then_some(plain));
            continue;
        }
        let (plain, sealed) = (Path::new(&recording.path), encrypted_path(Path::new(&recording.path)));
        if !sealed.is_file() {
            continue;
        }
        if plain.is_file() {
            leftovers.push(sealed); // it may be half of it, under its name before a power cut
            continue;
        }
        let (bytes, sha256) = digest(&sealed).with_context(|| sealed.display().to_string())?;
        recording.path = sealed.display().to_string();
        recording.bytes = bytes;
        recording.plain_sha256 = Some(std::mem::replace(&mut recording.sha256, sha256));
        is_behind = true;
    }
    let leftovers: Vec<String> = leftovers.iter().map(|path| path.display().to_string()).collect();
    journal.add_leftovers(&leftovers)?;
    if is_behind {
        journal.mark_record_stale(&record.id)?;
    }
    Ok(())
}

fn read(path: &Path) -> Option<CallRecord> {
    let record: CallRecord = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (!record.id.is_empty()).then_some(record)
}

/// The JSON files in the folder of recordings and its folders of days.
fn records(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let mut folders = vec![(folder.to_owned(), 0)];
    let mut files: Vec<PathBuf> = Vec::new();
    std::iter::from_fn(move || {
        while files.is_empty() {
            let (folder, depth) = folders.pop()?;
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
                let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
                if is_folder && !is_hidden && depth < MAX_DEPTH {
                    folders.push((path, depth + 1));
                } else if path.extension().is_some_and(|e| e == "json") {
                    files.push(path);
                }
            }
        }
        files.pop()
    })
}

#[expect(clippy::disallowed_methods, reason = "the moment of a loss is a question to the wall clock")]
fn wall_clock() -> Timestamp {
    Timestamp::EPOCH + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// `YYYY/MM/DD`.
const MAX_DEPTH: usize = 3;
/// Why a recording is not there after the journal was lost.
const WAS_GONE: &str = "it was gone already when the journal was made anew";
/// Calls entered in one transaction.
const BATCH: usize = 500;
