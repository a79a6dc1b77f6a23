//! `calls verify`: is every recording there, and is it what was written?

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;

use super::{Place, VerifyArgs, known, shown};
use crate::call::record::Recording;
use crate::cmd::{EXIT_FAILED, out};
use crate::journal::{FileRow, Journal};
use crate::recording::verify::{PEAKS, Verified, verify_with_peaks};
use crate::recording::{self, digest};

/// Checks the recordings of these calls, or of all.
pub(super) fn run(place: &Place, args: &VerifyArgs, json: bool) -> anyhow::Result<ExitCode> {
    if args.peaks.is_some() && !json {
        bail!("--peaks gives numbers for a program: say --json too");
    }
    let ids = &args.ids;
    let journal = place.look()?;
    for id in ids {
        known(&journal, id)?;
    }
    let mut files = journal.files()?;
    if !ids.is_empty() {
        files.retain(|f| ids.contains(&f.call_id));
    }
    let mut found: Vec<Finding> = Vec::new();
    for file in &files {
        match look_at(file, &journal, args.peaks)? {
            Look::Wrong(what) => {
                found.push(Finding { call: Some(file.call_id.clone()), path: PathBuf::from(&file.path), what });
            }
            Look::Whole(Some((recording, verified))) if args.peaks.is_some() => {
                print_peaks(file, &recording, &verified)?;
            }
            Look::Whole(_) => {}
        }
    }
    if ids.is_empty() {
        found.extend(strays(&place.config.recording, &journal, &files)?);
    }
    for finding in &found {
        finding.print(json)?;
    }
    let calls = files.iter().map(|f| &f.call_id).collect::<HashSet<_>>().len();
    let whole = files.len() - found.iter().filter(|f| f.call.is_some()).count();
    let strays = found.iter().filter(|f| f.call.is_none()).count();
    if json {
        let line = serde_json::json!({ "files": files.len(), "calls": calls, "whole": whole, "unknown_files": strays });
        out::result(&format!("{line}\n"))?;
    } else {
        let strays = if strays == 0 { String::new() } else { format!(", {strays} files of no known call") };
        let bad = files.len() - whole;
        out::result(&format!(
            "{} files of {calls} calls: {whole} whole, {bad} missing or changed{strays}\n",
            files.len()
        ))?;
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

struct Finding {
    /// `None`: a file that no row knows.
    call: Option<String>,
    path: PathBuf,
    what: String,
}

impl Finding {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            let line = serde_json::json!({ "call": self.call, "path": self.path, "problem": self.what });
            return out::result(&format!("{line}\n"));
        }
        out::result(&format!("{}  {}: {}\n", self.call.as_deref().unwrap_or("-"), shown(&self.path), self.what))
    }
}

/// What came of looking at a file.
enum Look {
    /// It is what was written; with its entry in the record, if there still is one.
    Whole(Option<(Recording, Verified)>),
    Wrong(String),
}

fn look_at(row: &FileRow, journal: &Journal, peaks: Option<u32>) -> anyhow::Result<Look> {
    let path = Path::new(&row.path);
    let (bytes, sha256) = match digest(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Look::Wrong(String::from("is not there")));
        }
        Err(error) => return Ok(Look::Wrong(format!("cannot be read: {error}"))),
    };
    if bytes != row.bytes {
        return Ok(Look::Wrong(format!("has {bytes} bytes, {} were written", row.bytes)));
    }
    if sha256 != row.sha256 {
        return Ok(Look::Wrong(String::from("was changed: its SHA-256 is not that of the journal")));
    }
    // What is as it was written must still be what the record says: form, channels, length.
    let call = journal.call(&row.call_id)?;
    let recording = call.and_then(|c| c.record.recordings.into_iter().find(|r| r.part == row.part));
    let Some(recording) = recording else { return Ok(Look::Whole(None)) };
    let pieces = peaks.map_or(PEAKS, u64::from);
    Ok(match verify_with_peaks(path, &recording, pieces) {
        Ok(verified) => Look::Whole(Some((recording, verified))),
        Err(error) => Look::Wrong(error.to_string()),
    })
}

/// The waveform of a file: what a page draws without reading the sound.
fn print_peaks(file: &FileRow, recording: &Recording, verified: &Verified) -> anyhow::Result<()> {
    let [left, right] = &verified.peaks;
    let line = serde_json::json!({
        "call": file.call_id,
        "part": file.part,
        "path": file.path,
        "sample_rate": recording.sample_rate,
        "samples": verified.samples,
        "peaks": { "left": left, "right": right },
    });
    out::result(&format!("{line}\n"))
}

/// Files in the folder of recordings that no call knows: halves of a crash, or somebody's own.
fn strays(config: &recording::config::Config, journal: &Journal, files: &[FileRow]) -> anyhow::Result<Vec<Finding>> {
    let rows: HashSet<&Path> = files.iter().map(|f| Path::new(&f.path)).collect();
    let mut found = Vec::new();
    let mut folders = vec![config.dir.clone()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if kind.is_dir() && !hidden {
                folders.push(path);
            } else if kind.is_file()
                && let Some(what) = stray(&path, &rows, journal)?
            {
                found.push(Finding { call: None, path, what });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn stray(path: &Path, rows: &HashSet<&Path>, journal: &Journal) -> anyhow::Result<Option<String>> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    Ok(match extension {
        "part" => Some(String::from("was left half-written; the service removes it when it starts")),
        "wav" | "ogg" if !rows.contains(path) => Some(String::from("belongs to no call of the journal")),
        "json" => {
            let stem = name.strip_suffix(".json").unwrap_or(&name);
            journal.call(stem)?.is_none().then(|| String::from("belongs to no call of the journal"))
        }
        _ => None,
    })
}
