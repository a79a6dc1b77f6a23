//! The user who owns the folders of the service. Root often runs commands beside a service that runs as another user.

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
    /// Returns the owner of a folder if root runs this process and the folder belongs to another user.
    pub(crate) fn other_than_root(folder: &Path) -> Option<Self> {
        let meta = std::fs::metadata(folder).ok().filter(|_| rustix::process::geteuid().is_root())?;
        (meta.uid() != 0).then(|| Self { uid: meta.uid(), gid: meta.gid() })
    }

    /// Returns the name of the user in `/etc/passwd`, or the number without an entry there.
    pub(crate) fn name(self) -> String {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let uid = self.uid.to_string();
        let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|e| e.get(2) == Some(&&*uid));
        entry.and_then(|entry| entry.first().map(|name| (*name).to_owned())).unwrap_or(uid)
    }
}

/// The error that root runs the service in a folder of another user. The service could not read these files later, and
/// root's own render workers have no privilege to read the files of that user.
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

/// Checks that the folders of the service belong to the user who runs it, if this user is root.
///
/// # Errors
/// Fails with the first folder that belongs to another user than root.
pub(crate) fn refuse_root_in_folders_of_others(config: &Config) -> Result<(), RunByRoot> {
    for folder in [&config.journal.dir, &config.spool.dir, &config.recording.dir] {
        if let Some(owner) = FolderOwner::other_than_root(folder) {
            return Err(RunByRoot { folder: folder.clone(), user: owner.name(), group: owner.gid });
        }
    }
    Ok(())
}
