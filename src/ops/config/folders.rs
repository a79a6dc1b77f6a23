//! Checks for `check-config` whether this user can write to the configured folders.
//!
//! The findings are warnings, because the service may run as another user.

use std::path::{Path, PathBuf};

use super::Config;
use super::finding::ConfigFinding;
use super::raw::RawConfig;

/// Tries to write to each folder, and appends a warning for each failure.
pub(crate) fn try_all(config: &Config, raw: &RawConfig, findings: &mut Vec<ConfigFinding>) {
    let folders = [("spool", &config.spool.dir), ("state", &config.journal.dir), ("recording", &config.recording.dir)];
    for (section, dir) in folders {
        let line = raw.get(section, "dir").map(|g| g.line);
        for (what, remedy) in wrong_with(dir).into_iter().chain(outside_unit(dir, &unit_folders())) {
            findings.push(ConfigFinding::warning(line, format!("{section}.dir {}: {what}", dir.display()), remedy));
        }
    }
}

/// Returns problem and remedy of a folder that the systemd unit may not write to. The unit makes everything except its own
/// folders read-only (`ProtectSystem=strict`), so another folder needs a drop-in.
fn outside_unit(dir: &Path, allowed: &[PathBuf]) -> Option<(String, String)> {
    if allowed.iter().any(|folder| dir.starts_with(folder)) {
        return None;
    }
    let what = "the systemd unit may write only below /var/lib/callspan and /var/spool/callspan";
    if dir.parent().is_none() {
        return Some((String::from(what), String::from("choose a folder below /var/lib/callspan")));
    }
    let dir = dir.display();
    let remedy = format!(
        "run as root: install -d -m 0700 -o callspan -g callspan {dir}; systemctl edit callspan. Write there \
         [Service], and on the next line ReadWritePaths={dir}"
    );
    Some((String::from(what), remedy))
}

/// Lists the folders that the unit may write to: its own folders, and the folders of drop-ins on this machine.
fn unit_folders() -> Vec<PathBuf> {
    let drop_ins = std::fs::read_dir(DROP_INS).into_iter().flatten().flatten().map(|entry| entry.path());
    let texts = drop_ins.filter_map(|path| std::fs::read_to_string(path).ok());
    UNIT_FOLDERS.iter().map(PathBuf::from).chain(texts.flat_map(|text| writable(&text))).collect()
}

/// Returns the folders of `ReadWritePaths=` lines. A path may begin with `-` and `+` (systemd.exec(5)).
fn writable(text: &str) -> Vec<PathBuf> {
    let values = text.lines().filter_map(|line| line.trim().strip_prefix("ReadWritePaths="));
    values.flat_map(str::split_whitespace).map(|path| PathBuf::from(path.trim_start_matches(['-', '+']))).collect()
}

/// Returns problem and remedy if a folder cannot be written. callspan creates a missing folder at the start, so the nearest
/// existing parent is tested.
fn wrong_with(dir: &Path) -> Option<(String, String)> {
    let existing =
        dir.ancestors().find(|d| d.exists()).filter(|d| !d.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if !existing.is_dir() {
        return Some((format!("{} is a file", existing.display()), String::from("give the path of a folder")));
    }
    // Only a write shows whether ACLs, read-only mounts and quotas allow it.
    let probe = existing.join(format!(".callspan-check-{}", std::process::id()));
    let tried = std::fs::OpenOptions::new().write(true).create_new(true).open(&probe);
    match tried {
        Ok(_) => {
            // An empty file that stays behind does no harm.
            let _ = std::fs::remove_file(&probe);
            None
        }
        Err(error) => {
            let what = format!("this user cannot write to {} ({error})", existing.display());
            // Nobody should give the root of the file system to the service.
            let remedy = if dir.parent().is_none() {
                String::from("choose a folder below /var/lib/callspan")
            } else {
                format!("as root: install -d -m 0700 -o callspan -g callspan {}", dir.display())
            };
            Some((what, remedy))
        }
    }
}

/// `StateDirectory` and `ReadWritePaths` of deploy/callspan.service.
const UNIT_FOLDERS: [&str; 2] = ["/var/lib/callspan", "/var/spool/callspan"];
/// Where `systemctl edit callspan` writes.
const DROP_INS: &str = "/etc/systemd/system/callspan.service.d";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_outside_the_unit_gets_the_drop_in_as_remedy() {
        let own = [PathBuf::from("/var/lib/callspan")];
        assert_eq!(outside_unit(Path::new("/var/lib/callspan/recordings"), &own), None);
        let (_, remedy) = outside_unit(Path::new("/srv/rec"), &own).expect("outside");
        assert!(remedy.contains("ReadWritePaths=/srv/rec") && remedy.contains("install -d"), "{remedy}");
        assert!(outside_unit(Path::new("/var/lib/callspan2"), &own).is_some(), "only whole path components match");
        let drop_in = "[Service]\nReadWritePaths=/srv/rec -/mnt/spool\n#ReadWritePaths=/no\n";
        assert_eq!(writable(drop_in), [PathBuf::from("/srv/rec"), PathBuf::from("/mnt/spool")]);
        assert_eq!(outside_unit(Path::new("/srv/rec/x"), &writable(drop_in)), None);
    }

    #[test]
    fn unit_folders_match_the_shipped_unit() {
        let unit = include_str!("../../../deploy/callspan.service");
        assert!(unit.contains("StateDirectory=callspan\n") && unit.contains("ReadWritePaths=/var/spool/callspan\n"));
        assert!(unit.contains("ProtectSystem=strict\n"));
    }
}
