//! Checks whether the configured folders can be written, for `check-config`.
//!
//! The findings are only warnings, because the service may run as another user than the check.

use std::path::{Component, Path, PathBuf};

use super::Config;
use super::finding::ConfigFinding;
use super::machine::ServiceUser;
use super::plausible::relative;
use super::raw::RawConfig;
use crate::ops::disk::disk_space;

/// Tries to write to each folder, and checks whether the user of the service could write to it. Appends a warning for
/// each failure.
pub(crate) fn try_all(
    config: &Config,
    raw: &RawConfig,
    service: Option<&ServiceUser>,
    findings: &mut Vec<ConfigFinding>,
) {
    let folders = [("spool", &config.spool.dir), ("state", &config.journal.dir), ("recording", &config.recording.dir)];
    for (section, dir) in folders {
        let line = raw.get(section, "dir").map(|g| g.line);
        if let Some((what, remedy)) = relative(dir) {
            findings.push(ConfigFinding::warning(line, format!("{section}.dir {what}"), remedy));
            continue;
        }
        let wrong = wrong_with(dir).or_else(|| service.and_then(|user| closed_to(user, dir)));
        for (what, remedy) in wrong.into_iter().chain(outside_unit(dir, &unit_folders())) {
            findings.push(ConfigFinding::warning(line, format!("{section}.dir {}: {what}", dir.display()), remedy));
        }
    }
    free_space(config, raw, findings);
}

/// Returns problem and remedy if the user of the service cannot write to a folder; `None` otherwise. A test write does
/// not suffice, because usually root runs the check, and root can write everywhere.
fn closed_to(user: &ServiceUser, dir: &Path) -> Option<(String, String)> {
    let existing = dir.ancestors().find(|d| d.exists())?;
    // systemd creates the folders that the unit names, with the right owner. So a missing folder of the unit is no
    // problem.
    let is_made_by_unit =
        existing != dir && UNIT_FOLDERS.iter().any(|own| dir.starts_with(own) && !existing.starts_with(own));
    if is_made_by_unit || user.may(existing, MODE_WRITE_AND_ENTER) {
        return None;
    }
    let what = format!("the user of the service cannot write to {}", existing.display());
    Some((what, give_folder(dir)))
}

/// Returns the remedy for a folder with the wrong owner: to make the service the owner. For a folder of the operating
/// system, e.g. `/var`, the remedy is to use another folder.
fn give_folder(dir: &Path) -> String {
    match is_of_system(dir) {
        true => String::from("choose a folder below /var/lib/callspan"),
        false => format!("as root: install -d -m 0700 -o callspan -g callspan {}", dir.display()),
    }
}

/// Returns whether a path is the root of the file system or a folder of the operating system. Changing the owner of
/// such a folder would break other programs.
fn is_of_system(dir: &Path) -> bool {
    let mut parts: Vec<Component<'_>> = Vec::new();
    for part in dir.components() {
        match part {
            Component::ParentDir if parts.len() > 1 => drop(parts.pop()),
            Component::Normal(_) | Component::RootDir => parts.push(part),
            Component::ParentDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let plain: PathBuf = parts.into_iter().collect();
    plain.parent().is_none() || SYSTEM_FOLDERS.iter().any(|folder| plain == Path::new(folder))
}

/// Warns if less than `min_free_gib` is free on the disk of the recordings, or if the disk is smaller than that.
fn free_space(config: &Config, raw: &RawConfig, findings: &mut Vec<ConfigFinding>) {
    let Ok(space) = disk_space(&config.recording.dir) else { return };
    let gib = config.recording.min_free_gib;
    let wanted = u64::from(gib) << 30;
    if wanted <= space.free || raw.get("recording", "min_free_gib").is_none() {
        return;
    }
    let (total, free) = (space.total >> 30, space.free >> 30);
    let what = match wanted > space.total {
        true => format!("the disk of the recordings has {total} GiB, so 2 is used instead"),
        false => format!("{free} GiB are free now, so the oldest delivered recordings are removed at once"),
    };
    let line = raw.get("recording", "min_free_gib").map(|g| g.line);
    findings.push(ConfigFinding::warning(
        line,
        format!("recording.min_free_gib = {gib}, but {what}"),
        "write less, for example 2",
    ));
}

/// Returns true if a drop-in file of the systemd unit sets a user or groups. Then the service can have other rights
/// than the user `callspan`.
pub(super) fn unit_changes_user() -> bool {
    let is_changed = |text: &str| {
        let keys = text.lines().filter_map(|line| line.trim().split_once('=')).map(|(key, _)| key.trim_end());
        keys.into_iter().any(|key| ["User", "Group", "SupplementaryGroups"].contains(&key))
    };
    drop_ins().filter_map(|path| std::fs::read_to_string(path).ok()).any(|text| is_changed(&text))
}

/// Returns the drop-in files by which the administrator changes the systemd unit.
fn drop_ins() -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(DROP_INS).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Returns whether the systemd unit on this machine loads the systemd credential `name`. The content is not checked,
/// because only the service itself can read it.
pub(crate) fn unit_has_credential(name: &str) -> bool {
    let files = UNIT_FILES.iter().map(PathBuf::from).chain(drop_ins());
    files.filter_map(|path| std::fs::read_to_string(path).ok()).any(|text| loads_credential(&text, name))
}

fn loads_credential(unit: &str, name: &str) -> bool {
    let values = unit.lines().filter_map(|line| {
        let (key, value) = line.trim().split_once('=')?;
        key.starts_with("LoadCredential").then_some(value)
    });
    values.filter_map(|value| value.split(':').next()).any(|id| id == name)
}

/// Returns problem and remedy if the systemd unit makes a folder read-only (`ProtectSystem=strict`). The remedy is a
/// drop-in, i.e. an additional unit file that allows the folder. `allowed` are the writable folders.
fn outside_unit(dir: &Path, allowed: &[PathBuf]) -> Option<(String, String)> {
    if allowed.iter().any(|folder| dir.starts_with(folder)) {
        return None;
    }
    let what = "the systemd unit may write only below /var/lib/callspan and /var/spool/callspan";
    let remedy = match is_of_system(dir) {
        true => give_folder(dir),
        false => format!(
            "{}; systemctl edit callspan. Write there [Service], and on the next line ReadWritePaths={}",
            give_folder(dir),
            dir.display()
        ),
    };
    Some((String::from(what), remedy))
}

/// Returns the folders that the service may write to: those in the systemd unit, and those in drop-ins on this machine.
fn unit_folders() -> Vec<PathBuf> {
    let texts = drop_ins().filter_map(|path| std::fs::read_to_string(path).ok());
    UNIT_FOLDERS.iter().map(PathBuf::from).chain(texts.flat_map(|text| writable(&text))).collect()
}

/// Returns the folders in the `ReadWritePaths=` lines of a unit file. The prefixes `-` and `+` of a path
/// (systemd.exec(5)) are removed.
fn writable(text: &str) -> Vec<PathBuf> {
    let values = text.lines().filter_map(|line| line.trim().strip_prefix("ReadWritePaths="));
    values.flat_map(str::split_whitespace).map(|path| PathBuf::from(path.trim_start_matches(['-', '+']))).collect()
}

/// Returns problem and remedy if this process cannot write to a folder; `None` otherwise. callspan creates a missing
/// folder at its start. So for a missing folder, the nearest existing parent is tested.
fn wrong_with(dir: &Path) -> Option<(String, String)> {
    let existing =
        dir.ancestors().find(|d| d.exists()).filter(|d| !d.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if !existing.is_dir() {
        return Some((format!("{} is a file", existing.display()), String::from("give the path of a folder")));
    }
    // The check writes a file, because only a write shows whether ACLs, read-only mounts and quotas allow it.
    let probe = existing.join(format!(".callspan-check-{}", std::process::id()));
    let tried = std::fs::OpenOptions::new().write(true).create_new(true).open(&probe);
    match tried {
        Ok(_) => {
            // If the removal of the test file fails, an empty file remains, which does no harm.
            let _ = std::fs::remove_file(&probe);
            None
        }
        Err(error) => {
            let what = format!("this user cannot write to {} ({error})", existing.display());
            Some((what, give_folder(dir)))
        }
    }
}

/// Folders that the service may write to according to deploy/callspan.service (`StateDirectory`, `ReadWritePaths`).
const UNIT_FOLDERS: [&str; 2] = ["/var/lib/callspan", "/var/spool/callspan"];
/// Folders that belong to the operating system or to all users. The service may own a folder below them, but not these
/// folders themselves.
const SYSTEM_FOLDERS: [&str; 26] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/local",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];
/// Possible paths of the unit file. As in systemd, the first existing file counts.
const UNIT_FILES: [&str; 3] = [
    "/etc/systemd/system/callspan.service",
    "/usr/lib/systemd/system/callspan.service",
    "/lib/systemd/system/callspan.service",
];
/// Bits of a file mode that are needed to create files in a folder: write (2) and enter (1).
const MODE_WRITE_AND_ENTER: u32 = 0o3;
/// Folder of the drop-in files that `systemctl edit callspan` writes.
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
    fn no_advice_gives_a_folder_of_the_system_to_the_service() {
        for dir in ["/", "//", "/.", "/..", "/srv/..", "/var/lib", "/var/lib/", "/etc", "/home", "/srv/../etc/."] {
            let dir = Path::new(dir);
            let (_, of_unit) = outside_unit(dir, &[]).expect("outside");
            for remedy in [of_unit, give_folder(dir)] {
                assert!(!remedy.contains("install -d") && remedy.contains("choose a folder"), "{dir:?}: {remedy}");
            }
        }
        assert!(give_folder(Path::new("/srv/calls")).ends_with("callspan /srv/calls"));
    }

    #[test]
    fn credential_of_the_unit_is_found_and_a_comment_is_none() {
        let name = "pyrus_security_key";
        assert!(loads_credential("[Service]\nLoadCredential=pyrus_security_key:/etc/callspan/pyrus.key\n", name));
        assert!(loads_credential("LoadCredentialEncrypted=pyrus_security_key:/x\n", name));
        assert!(!loads_credential(include_str!("../../../deploy/callspan.service"), name));
    }

    #[test]
    fn unit_folders_match_the_shipped_unit() {
        let unit = include_str!("../../../deploy/callspan.service");
        assert!(unit.contains("StateDirectory=callspan\n") && unit.contains("ReadWritePaths=/var/spool/callspan\n"));
        assert!(unit.contains("ProtectSystem=strict\n"));
    }
}
