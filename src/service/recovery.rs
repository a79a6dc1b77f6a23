//! Opens the journal (the SQLite database of the service), and rebuilds it if it is damaged or missing.
//!
//! A damaged journal is renamed, so that a person can examine it. A new journal is built from the JSON records beside
//! the recordings, which say what Pyrus already has of each call. A call that began before the loss and has no record
//! may or may not be registered in Pyrus. Delivery handles both cases. Only a request in the last second before the
//! loss can be sent twice.
//!
//! If SQLite reports damage while the service runs, the service marks the journal as damaged and ends. The next start
//! rebuilds the journal.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::clock::wall_clock;
use crate::call::record::{CallRecord, DeliveryState};
use crate::delivery::DeliveryJob;
use crate::delivery::row::JobRow;
use crate::journal::{self, Journal, config::Config};
use crate::recording::digest;
use crate::recording::encrypt::encrypted_path;
use crate::text::count;

/// The opened journal, and an alarm if the journal had to be rebuilt.
#[derive(Debug)]
pub struct OpenedJournal {
    /// The journal, ready for use.
    pub journal: Journal,
    /// Text of an alarm: why the old journal was lost, and how many calls were restored. `None` if the journal was not
    /// lost.
    pub alarm: Option<String>,
}

/// Opens the journal. Rebuilds it from the records in the folder `recordings` if it is damaged or missing.
///
/// # Errors
/// Fails if the journal is of a newer version, or a file cannot be written.
pub fn open(config: &Config, recordings: &Path) -> anyhow::Result<OpenedJournal> {
    let file = config.dir.join(journal::FILE_NAME);
    // An empty file counts as missing: a crash came right after its creation, or the file system lost its content.
    let is_new = std::fs::metadata(&file).map_or(true, |file| file.len() == 0);
    let (journal, loss) = match open_unless_condemned(config, &file) {
        Ok(journal) if journal.is_rebuilding()? => {
            (journal, Some(String::from("an earlier rebuild of the journal was interrupted")))
        }
        Ok(journal) if is_new && was_lost(&file, recordings) => {
            (journal, Some(String::from("the journal was missing")))
        }
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
            let calls = rebuild(&journal, recordings).context("the journal cannot be rebuilt")?;
            Some(format!(
                "{loss}; it was rebuilt from the records of {} in {}",
                count(calls, "call"),
                recordings.display()
            ))
        }
    };
    Ok(OpenedJournal { journal, alarm })
}

fn open_unless_condemned(config: &Config, file: &Path) -> journal::JournalResult<Journal> {
    match Journal::damage_mark(config) {
        Some(detail) => Err(journal::Error::Damaged { path: file.to_owned(), detail }),
        None => Journal::open(config),
    }
}

/// Returns whether a missing journal existed before, i.e. was lost.
///
/// Each of these facts shows a loss: a damaged journal that was renamed, a record with a delivery state, or records in
/// folders by day. Only a service writes to folders by day. Any other record proves nothing: a replay without delivery
/// writes records and has no journal.
fn was_lost(file: &Path, recordings: &Path) -> bool {
    let mut aside = file.as_os_str().to_owned();
    aside.push(".damaged-1");
    let is_of_service = |path: &Path| path.strip_prefix(recordings).is_ok_and(|p| p.components().count() > MAX_DEPTH);
    let had_journal = |path: &Path| {
        read_record(path).is_some_and(|record| is_of_service(path) || record.delivery.state != DeliveryState::None)
    };
    Path::new(&aside).exists() || records(recordings).any(|path| had_journal(&path))
}

/// Adds each call that has a JSON record to the new journal. Returns the number of calls.
fn rebuild(journal: &Journal, recordings: &Path) -> anyhow::Result<usize> {
    journal.begin_rebuild(wall_clock())?;
    let mut count = 0;
    let mut batch = Vec::new();
    for path in records(recordings) {
        let Some(mut record) = read_record(&path) else {
            tracing::warn!(path = %path.display(), "the file is no call record: it is not entered into the journal");
            continue;
        };
        count += 1;
        find_encrypted(journal, &mut record)?;
        let job = DeliveryJob::from_record(&record).map(|job| job.to_row());
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
    // Retention has probably removed the files of these recordings. The exact reason was only in the lost journal. So
    // the new journal marks them as removed.
    let gone: Vec<(String, &str)> =
        batch.iter().filter(|(record, _)| is_gone(record)).map(|(record, _)| (record.id.clone(), WAS_GONE)).collect();
    journal.mark_removed(&gone, wall_clock())?;
    batch.clear();
    Ok(())
}

/// Updates the record of a call if its recordings were encrypted after the record was written. An interrupted
/// encryption may have left a file that is not needed. Such a file is added to the leftovers in the journal.
fn find_encrypted(journal: &Journal, record: &mut CallRecord) -> anyhow::Result<()> {
    let mut leftovers = Vec::new();
    let mut is_behind = false;
    for recording in &mut record.recordings {
        if recording.plain_sha256.is_some() {
            let plain = Path::new(&recording.path).with_extension("");
            leftovers.extend(plain.is_file().then_some(plain));
            continue;
        }
        let (plain, encrypted) = (Path::new(&recording.path), encrypted_path(Path::new(&recording.path)));
        if !encrypted.is_file() {
            continue;
        }
        if plain.is_file() {
            leftovers.push(encrypted); // may be incomplete: a power cut can keep the rename but lose the content
            continue;
        }
        let (bytes, sha256) = digest(&encrypted).with_context(|| encrypted.display().to_string())?;
        recording.path = encrypted.display().to_string();
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

/// Reads a call record from a file; returns `None` if the file is not a call record.
fn read_record(path: &Path) -> Option<CallRecord> {
    let record: CallRecord = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (!record.id.is_empty()).then_some(record)
}

/// Returns the paths of all JSON files in the folder of recordings and in its subfolders by day.
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

/// Number of levels of subfolders that are searched for call records: `YYYY/MM/DD` has three.
const MAX_DEPTH: usize = 3;
/// Reason that the journal keeps for a removed recording: it was missing when the journal was rebuilt.
const WAS_GONE: &str = "it was missing already when the journal was rebuilt";
/// Number of calls that are added to a rebuilt journal in one transaction.
const BATCH: usize = 500;
