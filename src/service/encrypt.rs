//! Encryption at rest (`recording.encrypt_to`) of delivered recordings and of the packets kept beside them.
//!
//! The encrypted file is complete before the journal names it, and the plain file is removed last. Therefore a crash
//! between two steps loses nothing, but it can leave a file that is not needed (a *leftover*). The journal lists the
//! leftovers.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::clock::monotonic;
use super::worker::CallWorker;
use crate::journal::{CallStage, EncryptedRecording, Journal, RecordingRow};
use crate::ops::alarm_cause::AlarmCause;
use crate::recording::encrypt::{AgeRecipient, encrypt_file, encrypted_path};
use crate::recording::peaks::peaks_path;

/// Encrypts the files of delivered calls. It works in turns of limited time, which the maintenance thread starts.
pub(super) struct Encryptor {
    recipients: Vec<AgeRecipient>,
    /// Id of the call with files that were tried last. The next turn continues with the call after it.
    after: String,
    /// Ids of calls with a file that somebody changed after callspan wrote it. Their files stay unencrypted, and one
    /// alarm was raised for each call.
    skipped: HashSet<String>,
    /// Earliest monotonic time of the next try after a failure, e.g. because a disk was full; `None` if the last turn
    /// did not fail.
    not_before: Option<Instant>,
}

/// Result of one turn, i.e. of one use of [`Encryptor::run_slice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EncryptionProgress {
    /// The turn has reached its time limit, and files are left to encrypt.
    More,
    /// No file is left to encrypt, or the pause after a failure is not over yet.
    Done,
}

/// The reason why a call was not encrypted.
enum EncryptError {
    /// Disk space, access rights or the journal caused the failure: a later try may succeed.
    Temporary(anyhow::Error),
    /// The file does not match its SHA-256 in the journal, i.e. somebody changed it. Encrypting it would hide the
    /// change.
    Changed(PathBuf),
}

impl<E: Into<anyhow::Error>> From<E> for EncryptError {
    fn from(error: E) -> Self {
        Self::Temporary(error.into())
    }
}

impl Encryptor {
    pub(super) fn new(recipients: Vec<AgeRecipient>) -> Self {
        Self { recipients, after: String::new(), skipped: HashSet::new(), not_before: None }
    }

    /// Encrypts files for about [`SLICE`]. It always finishes the file that it began, so a large file can take longer.
    pub(super) fn run_slice(&mut self, worker: &CallWorker) -> EncryptionProgress {
        let begin = monotonic();
        if self.recipients.is_empty() || self.not_before.is_some_and(|at| begin < at) {
            return EncryptionProgress::Done;
        }
        match self.run_until(worker, begin + SLICE) {
            Ok(progress) => {
                self.not_before = None;
                progress
            }
            Err(error) => {
                self.not_before = Some(begin + PAUSE_AFTER_FAILURE);
                worker.alerts.raise(&AlarmCause::RecordingNotEncrypted { error: &error });
                EncryptionProgress::Done
            }
        }
    }

    fn run_until(&mut self, worker: &CallWorker, until: Instant) -> anyhow::Result<EncryptionProgress> {
        loop {
            let ids = worker.journal.calls_to_encrypt(&self.after, PAGE)?;
            if ids.is_empty() {
                self.after.clear(); // end of the list: the next turn begins with the first id
                return Ok(EncryptionProgress::Done);
            }
            for id in ids {
                if monotonic() >= until {
                    return Ok(EncryptionProgress::More);
                }
                // The position in the list advances before the attempt. Otherwise a call that cannot be encrypted would
                // block all calls after it.
                self.after.clone_from(&id);
                if !self.skipped.contains(&id) {
                    self.encrypt_or_skip(worker, &id)?;
                }
            }
        }
    }

    fn encrypt_or_skip(&mut self, worker: &CallWorker, id: &str) -> anyhow::Result<()> {
        match self.encrypt_call(worker, id) {
            Ok(()) => Ok(()),
            Err(EncryptError::Temporary(error)) => Err(error.context(format!("call {id}"))),
            Err(EncryptError::Changed(path)) => {
                worker.alerts.raise_for(id, &AlarmCause::RecordingChanged { file: &path, call: id });
                self.skipped.insert(id.to_owned());
                Ok(())
            }
        }
    }

    fn encrypt_call(&self, worker: &CallWorker, id: &str) -> Result<(), EncryptError> {
        // A call that is being rendered again gets new files. A later turn encrypts them.
        let Some(_lock) = worker.locks.try_lock(id) else { return Ok(()) };
        let journal = &worker.journal;
        let Some(call) = journal.call(id)?.filter(|call| call.stage == CallStage::Complete) else { return Ok(()) };
        for file in journal.recordings_of(id)?.iter().filter(|file| file.plain_sha256.is_none()) {
            self.encrypt_recording(journal, file)?;
        }
        for leg in 0..call.record.legs.len() {
            let kept = worker.recorder.kept_path(&call.record, leg);
            if kept.is_file() {
                self.encrypt_packets(journal, &kept)?;
            }
        }
        Ok(journal.mark_encrypted(id)?)
    }

    fn encrypt_recording(&self, journal: &Journal, file: &RecordingRow) -> Result<(), EncryptError> {
        let (plain, path) = (Path::new(&file.path), encrypted_path(Path::new(&file.path)));
        if !plain.exists() {
            return Ok(()); // `calls verify` reports the missing file
        }
        super::files::remove(&peaks_path(plain)); // the plain peaks would still show when somebody spoke
        let name = text(&path)?;
        journal.add_leftovers(std::slice::from_ref(&name))?;
        let encrypted = encrypt_file(plain, &path, &self.recipients).with_context(|| plain.display().to_string())?;
        if !file.sha256.is_empty() && encrypted.plain_sha256 != file.sha256 {
            clear(journal, &[name])?;
            return Err(EncryptError::Changed(plain.to_owned()));
        }
        let encrypted = EncryptedRecording {
            part: file.part,
            plain_path: file.path.clone(),
            plain_sha256: encrypted.plain_sha256,
            path: name.clone(),
            bytes: encrypted.bytes,
            sha256: encrypted.sha256,
        };
        let leftover =
            if journal.replace_with_encrypted(&file.call_id, &encrypted)? { file.path.clone() } else { name };
        Ok(clear(journal, &[leftover])?)
    }

    fn encrypt_packets(&self, journal: &Journal, plain: &Path) -> Result<(), EncryptError> {
        let path = encrypted_path(plain);
        let (plain_name, name) = (text(plain)?, text(&path)?);
        journal.add_leftovers(std::slice::from_ref(&name))?;
        encrypt_file(plain, &path, &self.recipients).with_context(|| plain_name.clone())?;
        journal.replace_kept_packets(&plain_name, &name)?;
        Ok(clear(journal, &[plain_name])?)
    }
}

/// Removes the files that the journal lists as leftovers, i.e. files that an interrupted encryption left and that are
/// not needed.
pub(super) fn clear_leftovers(journal: &Journal) -> anyhow::Result<()> {
    loop {
        let paths = journal.leftovers(PAGE)?;
        if paths.is_empty() {
            return Ok(());
        }
        clear(journal, &paths)?;
    }
}

fn clear(journal: &Journal, paths: &[String]) -> anyhow::Result<()> {
    for path in paths {
        let path = Path::new(path);
        if encrypted_path(path).exists() {
            super::files::remove(&peaks_path(path));
        }
        match std::fs::remove_file(path) {
            Ok(()) => {
                // Without this sync of the folder, the removed file could reappear after a power cut, but the journal
                // would no longer list it.
                let folder = path.parent().context("a file has a folder")?;
                std::fs::File::open(folder).and_then(|folder| folder.sync_all())?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be removed", path.display())),
        }
    }
    Ok(journal.remove_leftovers(paths)?)
}

fn text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(String::from).with_context(|| format!("{}: the name is not UTF-8", path.display()))
}

/// Time for which one turn encrypts files. Then the maintenance thread does its other work.
const SLICE: Duration = Duration::from_secs(2);
/// Pause after a failure to encrypt, because e.g. a full disk would fail again at once.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(60);
/// Number of calls read from the journal at once.
const PAGE: u32 = 100;
