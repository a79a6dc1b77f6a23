//! The configuration section `[state]`.

use std::path::PathBuf;

/// Configuration of the journal: its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Folder of the file `journal.sqlite`.
    pub dir: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self { dir: PathBuf::from("/var/lib/callspan/state") }
    }
}
