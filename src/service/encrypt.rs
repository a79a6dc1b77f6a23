//! Encrypts what Pyrus has (`recording.encrypt_to`): recordings and the packets kept beside them. The order of the
//! steps, and why a crash between any two of them loses nothing, is in the header of [`crate::journal`]'s `sealing`.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::post_process::Worker;
use crate::journal::{CallStage, EncryptedRecording, Journal, RecordingRow};
use crate::ops::alerts::Kind;
use crate::recording::encrypt::{AgeRecipient, encrypt_file, encrypted_path};

/// What is still to be encrypted.
pub(super) struct Sealer {
    recipients: Vec<AgeRecipient>,
    /// Where the look over the calls goes on.
    after: String,
    /// Calls with a file that was changed by somebody: left as they are, told once.
    skipped: HashSet<String>,
    /// After a failure (a full disk), nothing is tried before.
    not_before: Option<Instant>,
}

/// Whether there is work left for the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Some,
    Nothing,
}

/// Why a call stays as it is.
enum Failure {
    /// It may work later: room, rights, the journal.
    Now(anyhow::Error),
    /// The file is not what was written: encrypted, that would not be seen any more.
    Changed(PathBuf),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Now(error.into())
    }
}

impl Sealer {
    pub(super) fn new(recipients: Vec<AgeRecipient>) -> Self {
        Self { recipients, after: String::new(), skipped: HashSet::new(), not_before: None }
    }

    /// Works for about [`SLICE`]; a large file takes as long as it takes.
    pub(super) fn work(&mut self, worker: &Worker) -> Left {
        let begin = now();
        if self.recipients.is_empty() || self.not_before.is_some_and(|at| begin < at) {
            return Left::Nothing;
        }
        match self.work_until(worker, begin + SLICE) {
            Ok(left) => {
                self.not_before = None;
                left
            }
            Err(error) => {
                self.not_before = Some(begin + PAUSE);
                let detail =
                    format!("a recording cannot be encrypted ({error:#}); it stays as it is and is tried again");
                worker.alerts.raise(Kind::EncryptionFailed, &detail);
                Left::Nothing
            }
        }
    }

    fn work_until(&mut self, worker: &Worker, until: Instant) -> anyhow::Result<Left> {
        loop {
            let ids = worker.journal.calls_to_encrypt(&self.after, PAGE)?;
            if ids.is_empty() {
                self.after.clear(); // calls are delivered in any order: the next look begins anew
                return Ok(Left::Nothing);
            }
            for id in ids {
                if now() >= until {
                    return Ok(Left::Some);
                }
                // One that cannot be encrypted is tried again in the next round, and holds up no other.
                self.after.clone_from(&id);
                if !self.skipped.contains(&id) {
                    self.take(worker, &id)?;
                }
            }
        }
    }

    fn take(&mut self, worker: &Worker, id: &str) -> anyhow::Result<()> {
        match self.seal_call(worker, id) {
            Ok(()) => Ok(()),
            Err(Failure::Now(error)) => Err(error.context(format!("call {id}"))),
            Err(Failure::Changed(path)) => {
                let detail = format!("{} was changed since it was written: it is not encrypted", path.display());
                worker.alerts.raise_for(Kind::EncryptionFailed, id, &detail);
                self.skipped.insert(id.to_owned());
                Ok(())
            }
        }
    }

    fn seal_call(&self, worker: &Worker, id: &str) -> Result<(), Failure> {
        let journal = &worker.journal;
        let Some(call) = journal.call(id)?.filter(|call| call.stage == CallStage::Complete) else { return Ok(()) };
        for file in journal.recordings_of(id)?.iter().filter(|file| file.plain_sha256.is_none()) {
            self.seal_recording(journal, file)?;
        }
        for leg in 0..call.record.legs.len() {
            let kept = worker.recorder.kept_path(&call.record, leg);
            if kept.is_file() {
                self.seal_packets(journal, &kept)?;
            }
        }
        Ok(journal.mark_encrypted(id)?)
    }

    fn seal_recording(&self, journal: &Journal, file: &RecordingRow) -> Result<(), Failure> {
        let (plain, path) = (Path::new(&file.path), encrypted_path(Path::new(&file.path)));
        if !plain.exists() {
            return Ok(()); // `calls verify` says so; here is nothing to do
        }
        let name = text(&path)?;
        journal.add_leftovers(std::slice::from_ref(&name))?;
        let sealed = encrypt_file(plain, &path, &self.recipients).with_context(|| plain.display().to_string())?;
        if !file.sha256.is_empty() && sealed.plain_sha256 != file.sha256 {
            clear(journal, &[name])?;
            return Err(Failure::Changed(plain.to_owned()));
        }
        let sealed = EncryptedRecording {
            part: file.part,
            plain_path: file.path.clone(),
            plain_sha256: sealed.plain_sha256,
            path: name.clone(),
            bytes: sealed.bytes,
            sha256: sealed.sha256,
        };
        let leftover = if journal.replace_with_encrypted(&file.call_id, &sealed)? { file.path.clone() } else { name };
        Ok(clear(journal, &[leftover])?)
    }

    fn seal_packets(&self, journal: &Journal, plain: &Path) -> Result<(), Failure> {
        let path = encrypted_path(plain);
        let (plain_name, name) = (text(plain)?, text(&path)?);
        journal.add_leftovers(std::slice::from_ref(&name))?;
        encrypt_file(plain, &path, &self.recipients).with_context(|| plain_name.clone())?;
        journal.replace_kept_packets(&plain_name, &name)?;
        Ok(clear(journal, &[plain_name])?)
    }
}

/// Removes files that belong to no row any more, or not yet: an earlier process was ended in the middle.
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
        match std::fs::remove_file(path) {
            Ok(()) => {
                // After a power cut it must not be there again: nothing would know it.
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

#[expect(clippy::disallowed_methods, reason = "how long to work in one go is a question to the clock")]
fn now() -> Instant {
    Instant::now()
}

/// After so long the thread looks at its other duties.
const SLICE: Duration = Duration::from_secs(2);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(60);
/// Calls asked for at once.
const PAGE: u32 = 100;
