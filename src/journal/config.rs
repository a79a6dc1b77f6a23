//! The configuration section `[state]`.

use std::path::PathBuf;

/// Location of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Folder of `journal.sqlite`.
    pub dir: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self { dir: PathBuf::from("/var/lib/callspan/state") }
    }
}
