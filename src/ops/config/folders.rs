//! `check-config`: can this user write to the configured folders? Only warnings, because the service may run as
//! another user than the one who checks.

use std::path::Path;

use super::Config;
use super::finding::Finding;
use super::raw::Raw;

/// Tries each folder.
pub fn try_all(config: &Config, raw: &Raw, findings: &mut Vec<Finding>) {
    let folders = [("spool", &config.spool.dir), ("state", &config.journal.dir), ("recording", &config.recording.dir)];
    for (section, dir) in folders {
        let line = raw.get(section, "dir").map(|g| g.line);
        if let Some((what, remedy)) = wrong_with(dir) {
            findings.push(Finding::warning(line, format!("{section}.dir {}: {what}", dir.display()), remedy));
        }
    }
}

/// A folder that is not there yet is made at the start, so its nearest existing parent counts.
fn wrong_with(dir: &Path) -> Option<(String, String)> {
    let existing =
        dir.ancestors().find(|d| d.exists()).filter(|d| !d.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if !existing.is_dir() {
        return Some((format!("{} is a file", existing.display()), String::from("name a folder")));
    }
    // The only honest test of "can write" (ACLs, read-only mounts, quotas) is to write.
    let probe = existing.join(format!(".callspan-check-{}", std::process::id()));
    let tried = std::fs::OpenOptions::new().write(true).create_new(true).open(&probe);
    match tried {
        Ok(_) => {
            // Best effort: an empty file that stays behind harms nothing.
            let _ = std::fs::remove_file(&probe);
            None
        }
        Err(error) => {
            let what = format!("this user cannot write to {} ({error})", existing.display());
            let remedy = format!("as root: install -d -m 0700 -o callspan -g callspan {}", dir.display());
            Some((what, remedy))
        }
    }
}
