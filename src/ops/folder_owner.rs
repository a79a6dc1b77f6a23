//! The user who owns the folders of the service. Root often runs a command beside a service that runs as another user.
//! Files that root creates in these folders would then be unreadable for the service.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::config::Config;

/// The owner of a folder: numbers of a user and a group of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FolderOwner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl FolderOwner {
    /// Returns the owner of a folder if root runs this process and the folder belongs to another user. The group is that
    /// of the user in `/etc/passwd`, or that of the folder if the user has no entry.
    pub(crate) fn other_than_root(folder: &Path) -> Option<Self> {
        let meta = std::fs::metadata(folder).ok().filter(|_| rustix::process::geteuid().is_root())?;
        let group_of_user = passwd_entry(2, &meta.uid().to_string()).and_then(|entry| entry.get(3)?.parse().ok());
        (meta.uid() != 0).then(|| Self { uid: meta.uid(), gid: group_of_user.unwrap_or(meta.gid()) })
    }

    /// Returns the user of the service if root runs this process, i.e. the owner of the state folder. Before the first
    /// start the state folder does not exist. Then returns the user `callspan`, if the package has created this user.
    pub(crate) fn of_service(config: &Config) -> Option<Self> {
        if config.journal.dir.exists() || !rustix::process::geteuid().is_root() {
            return Self::other_than_root(&config.journal.dir);
        }
        let entry = passwd_entry(0, SERVICE_USER).filter(|_| config.journal.dir.starts_with(SERVICE_FOLDER))?;
        Some(Self { uid: entry.get(2)?.parse().ok()?, gid: entry.get(3)?.parse().ok()? })
    }

    /// Returns the user's name in `/etc/passwd`; if the file has no entry for the user, the numeric user id.
    pub(crate) fn name(self) -> String {
        let uid = self.uid.to_string();
        passwd_entry(2, &uid).and_then(|entry| entry.into_iter().next()).unwrap_or(uid)
    }

    /// Returns the home folder of the user in `/etc/passwd`; `/` without an entry there.
    pub(crate) fn home(self) -> String {
        passwd_entry(2, &self.uid.to_string()).and_then(|entry| entry.into_iter().nth(5)).unwrap_or_else(|| "/".into())
    }
}

/// Returns the fields of the first entry of `/etc/passwd` whose field number `field` is `value` (passwd(5)).
fn passwd_entry(field: usize, value: &str) -> Option<Vec<String>> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let entries = passwd.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
    entries.into_iter().find(|entry| entry.get(field).is_some_and(|found| found == value))
}

/// User of the service, as `User=` in deploy/callspan.service names it.
const SERVICE_USER: &str = "callspan";
/// Folder of the service's state, as `StateDirectory=` in deploy/callspan.service names it.
const SERVICE_FOLDER: &str = "/var/lib/callspan";
/// Access mode of a folder that any user may use, e.g. on some network disks.
const OPEN_TO_ALL: u32 = 0o007;

/// The error if root runs the service or a command in a folder of another user. The service could not read root's files
/// later. Also, root's render workers have no privilege to read the files of that user.
#[derive(Debug, thiserror::Error)]
#[error(
    "the folder {} belongs to the user {user}, but root runs this command; the files of root would stop the service \
     later. Start the service: systemctl start callspan. To run it by hand: setpriv --reuid {user} --regid {group} \
     --init-groups --inh-caps +net_raw --ambient-caps +net_raw callspan run", folder.display()
)]
pub(crate) struct RunByRoot {
    folder: PathBuf,
    user: String,
    group: u32,
}

/// Refuses to go on if root runs this process in folders of another user. A folder that all users may write to is
/// accepted, whoever owns it.
///
/// # Errors
/// Fails with the first folder that belongs to another user than root.
pub(crate) fn refuse_root_in_folders_of_others(config: &Config) -> Result<(), RunByRoot> {
    for folder in [&config.journal.dir, &config.spool.dir, &config.recording.dir] {
        let is_open = std::fs::metadata(folder).is_ok_and(|meta| meta.mode() & OPEN_TO_ALL == OPEN_TO_ALL);
        if let Some(owner) = FolderOwner::other_than_root(folder).filter(|_| !is_open) {
            return Err(RunByRoot { folder: folder.clone(), user: owner.name(), group: owner.gid });
        }
    }
    Ok(())
}
