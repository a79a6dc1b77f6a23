//! `calls verify`: checks that every recording exists and is unchanged.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};

use super::{JournalLocation, VerifyArgs, known, shown};
use crate::call::record::RecordingFile;
use crate::cmd::EXIT_FAILED;
use crate::cmd::terminal::progress::CommandProgress;
use crate::journal::{Journal, RecordingRow};
use crate::ops::output;
use crate::recording::digest;
use crate::recording::encrypt::AgeIdentities;
use crate::recording::verify::{PEAKS, VerifiedRecording, verify_encrypted, verify_with_peaks};
use crate::service::lock;
use crate::text::count;

/// Checks the recordings of the calls given on the command line, or of all calls.
#[expect(clippy::disallowed_methods, reason = "a command waits for the service's files, not for calls")]
pub(super) fn run(place: &JournalLocation, args: &VerifyArgs, json: bool) -> anyhow::Result<ExitCode> {
    if args.peaks.is_some() && !json {
        bail!("--peaks needs --json");
    }
    let identities = args.identity.as_deref().map(read_identities).transpose()?;
    let journal = place.open_read_only()?;
    let files = match args.ids.as_slice() {
        [] => journal.recordings()?,
        ids => recordings_of(&journal, ids)?,
    };
    let depth = VerifyDepth { peaks: args.peaks, identities: identities.as_ref() };
    let mut found: Vec<FileFinding> = Vec::new();
    let mut not_decoded = 0;
    let progress = CommandProgress::of_things(files.len() as u64, "files");
    for file in &files {
        progress.add();
        match check_file(file, &journal, &depth)? {
            FileCheck::Intact(Some((recording, verified))) if args.peaks.is_some() => {
                print_peaks(file, &recording, &verified)?;
            }
            FileCheck::Intact(_) => {}
            FileCheck::NotDecoded => not_decoded += 1,
            FileCheck::Problem(what) => {
                found.push(FileFinding { call: Some(file.call_id.clone()), path: PathBuf::from(&file.path), what });
            }
        }
    }
    drop(progress);
    if args.ids.is_empty() {
        found.extend(strays(place, &journal, &files)?);
    }
    if !found.is_empty() && is_service_running(place) {
        // A finding may be wrong, because the service was just renaming the file or writing its journal row. So the
        // files with findings are checked again.
        std::thread::sleep(SETTLE);
        found = confirm(found, place, &journal)?;
    }
    for finding in &found {
        finding.print(json)?;
    }
    let calls = files.iter().map(|f| &f.call_id).collect::<HashSet<_>>().len();
    let whole = files.len() - found.iter().filter(|f| f.call.is_some()).count();
    let strays = found.iter().filter(|f| f.call.is_none()).count();
    if json {
        let line = serde_json::json!({
            "files": files.len(), "calls": calls, "whole": whole, "unknown_files": strays, "not_decoded": not_decoded,
        });
        output::result(&format!("{line}\n"))?;
    } else {
        let strays = if strays == 0 { String::new() } else { format!(", {} without a call", count(strays, "file")) };
        let bad = files.len() - whole;
        output::result(&format!(
            "{} of {}: {whole} intact, {bad} missing or changed{strays}\n",
            count(files.len(), "file"),
            count(calls, "call")
        ))?;
        if not_decoded > 0 {
            output::result(&format!(
                "{not_decoded} of them are encrypted: they are unchanged, but their audio cannot be checked without the \
                 secret key (--identity FILE)\n"
            ))?;
        }
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

/// Checks files with a finding a second time. Returns the findings that are still true.
fn confirm(found: Vec<FileFinding>, place: &JournalLocation, journal: &Journal) -> anyhow::Result<Vec<FileFinding>> {
    let again = strays(place, journal, &journal.recordings()?)?;
    let mut confirmed = Vec::new();
    for finding in found {
        let is_still = match &finding.call {
            None => again.iter().any(|stray| stray.path == finding.path),
            Some(call) => {
                let row = journal.recordings_of(call)?.into_iter().find(|row| Path::new(&row.path) == finding.path);
                match row.map(|row| check_file(&row, journal, &VerifyDepth::default())).transpose()? {
                    Some(FileCheck::Problem(_)) => true,
                    // The second check does not decode encrypted files. If it finds the file, a finding that the file
                    // is missing is no longer true. Any other finding stays.
                    Some(FileCheck::NotDecoded) => !finding.what.starts_with("is missing"),
                    Some(FileCheck::Intact(_)) | None => false,
                }
            }
        };
        if is_still {
            confirmed.push(finding);
        }
    }
    Ok(confirmed)
}

/// Returns whether a service is running that uses this journal.
fn is_service_running(place: &JournalLocation) -> bool {
    !place.of_replay && lock::is_held(&place.config.journal.dir)
}

fn read_identities(path: &Path) -> anyhow::Result<AgeIdentities> {
    AgeIdentities::read(path).with_context(|| format!("--identity {}", path.display()))
}

fn recordings_of(journal: &Journal, ids: &[String]) -> anyhow::Result<Vec<RecordingRow>> {
    let mut files = Vec::new();
    for id in ids {
        known(journal, id)?;
        files.extend(journal.recordings_of(id)?);
    }
    Ok(files)
}

/// Result of the check of one file.
enum FileCheck {
    /// The file is unchanged. Holds the entry of the file in the call record, if the record still lists the file.
    Intact(Option<(RecordingFile, VerifiedRecording)>),
    /// The file is encrypted and unchanged. Its audio was not checked, because no key was given.
    NotDecoded,
    /// The file is missing or changed. Holds the problem as a text.
    Problem(String),
}

/// A problem of a file: it is missing, changed, or belongs to no call.
struct FileFinding {
    /// Id of the call; `None` if the file belongs to no call.
    call: Option<String>,
    path: PathBuf,
    what: String,
}

impl FileFinding {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            let line = serde_json::json!({ "call": self.call, "path": self.path, "problem": self.what });
            return output::result(&format!("{line}\n"));
        }
        output::result(&format!("{}  {}: {}\n", self.call.as_deref().unwrap_or("-"), shown(&self.path), self.what))
    }
}

/// Parts of the check that are made only on request: waveforms, and the audio of encrypted files.
#[derive(Clone, Copy, Debug, Default)]
struct VerifyDepth<'a> {
    /// Number of waveform peaks to compute per channel; `None` computes none.
    peaks: Option<u32>,
    /// Secret keys that open encrypted files. Without them, an encrypted file is not decoded.
    identities: Option<&'a AgeIdentities>,
}

fn check_file(row: &RecordingRow, journal: &Journal, depth: &VerifyDepth<'_>) -> anyhow::Result<FileCheck> {
    let path = Path::new(&row.path);
    let (bytes, sha256) = match digest(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // The service may have removed or encrypted the file after the rows were read. So the row is read again.
            let now = journal.recordings_of(&row.call_id)?.into_iter().find(|now| now.part == row.part);
            return match now {
                Some(now) if now.path != row.path => check_file(&now, journal, depth),
                Some(_) => Ok(FileCheck::Problem(String::from("is missing"))),
                None => Ok(FileCheck::Intact(None)),
            };
        }
        Err(error) => return Ok(FileCheck::Problem(format!("cannot be read: {error}"))),
    };
    if bytes != row.bytes {
        return Ok(FileCheck::Problem(format!("has {bytes} bytes instead of {}", row.bytes)));
    }
    if sha256 != row.sha256 {
        return Ok(FileCheck::Problem(String::from("was changed: its SHA-256 differs from the journal")));
    }
    // A file with the right checksum must also agree with the record about format, channels and length.
    let call = journal.call(&row.call_id)?;
    let recording = call.and_then(|c| c.record.recordings.into_iter().find(|r| r.part == row.part));
    let Some(recording) = recording else { return Ok(FileCheck::Intact(None)) };
    let pieces = depth.peaks.map_or(PEAKS, u64::from);
    let verified = match (&row.plain_sha256, depth.identities) {
        (Some(_), None) => return Ok(FileCheck::NotDecoded),
        (Some(_), Some(identities)) => verify_encrypted(path, &recording, identities, pieces),
        (None, _) => verify_with_peaks(path, &recording, pieces),
    };
    Ok(match verified {
        Ok(verified) => FileCheck::Intact(Some((recording, verified))),
        Err(error) => FileCheck::Problem(error.to_string()),
    })
}

/// Prints the waveform of a recording as a JSON object.
fn print_peaks(file: &RecordingRow, recording: &RecordingFile, verified: &VerifiedRecording) -> anyhow::Result<()> {
    let [left, right] = &verified.peaks;
    let line = serde_json::json!({
        "call": file.call_id,
        "part": file.part,
        "path": file.path,
        "sample_rate": recording.sample_rate,
        "samples": verified.samples,
        "peaks": { "left": left, "right": right },
    });
    output::result(&format!("{line}\n"))
}

/// Finds files in the folder of recordings that belong to no call, e.g. half-written files after a crash.
fn strays(place: &JournalLocation, journal: &Journal, files: &[RecordingRow]) -> anyhow::Result<Vec<FileFinding>> {
    // If a half-written file was changed after the service started, the service is probably still writing it. So the
    // file is not reported.
    let service_began = is_service_running(place).then(|| lock::taken_at(&place.config.journal.dir)).flatten();
    let rows: HashSet<&Path> = files.iter().map(|f| Path::new(&f.path)).collect();
    let leftovers = journal.leftovers(u32::MAX)?.into_iter().map(PathBuf::from).collect();
    let mut found = Vec::new();
    let mut folders = vec![place.config.recording.dir.clone()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if kind.is_dir() && !hidden {
                folders.push(path);
            } else if kind.is_file()
                && !is_in_progress(&entry, service_began)
                && let Some(what) = stray(&path, &rows, &leftovers, journal)?
            {
                found.push(FileFinding { call: None, path, what });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Returns whether the running service is probably still writing a half-written file, i.e. the file was changed after
/// the service started.
fn is_in_progress(entry: &std::fs::DirEntry, service_began: Option<SystemTime>) -> bool {
    let changed = || entry.metadata().and_then(|found| found.modified());
    entry.path().extension().is_some_and(|e| e == "part")
        && service_began.is_some_and(|began| changed().is_ok_and(|changed| changed >= began))
}

fn stray(
    path: &Path,
    rows: &HashSet<&Path>,
    leftovers: &HashSet<PathBuf>,
    journal: &Journal,
) -> anyhow::Result<Option<String>> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let is_sound = |name: &str| [".wav", ".ogg", ".wav.age", ".ogg.age"].iter().any(|end| name.ends_with(end));
    Ok(match extension {
        "part" => Some(String::from("is half-written; the service removes it at its next start")),
        _ if leftovers.contains(path) => {
            Some(String::from("is left over from an interrupted encryption; the service removes it"))
        }
        _ if is_sound(&name) && !rows.contains(path) => match journal.call(call_of(&name))? {
            // The service may have added the file after the journal's rows were read. So the journal is asked again.
            Some(call) if call.record.recordings.iter().any(|r| Path::new(&r.path) == path) => None,
            _ => Some(String::from("belongs to no call of the journal")),
        },
        "json" => {
            let stem = name.strip_suffix(".json").unwrap_or(&name);
            journal.call(stem)?.is_none().then(|| String::from("belongs to no call of the journal"))
        }
        _ => None,
    })
}

/// Returns the call id at the beginning of a file name. An id contains no dot.
fn call_of(name: &str) -> &str {
    name.split_once('.').map_or(name, |(id, _)| id)
}

/// Time between the first and the second check of a file while a service runs. After the service renames a file, it
/// needs some milliseconds to write the journal row.
const SETTLE: Duration = Duration::from_secs(2);
