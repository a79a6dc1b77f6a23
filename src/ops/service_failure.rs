//! The last failure that ended the service, at its start or later. It is stored in the state folder.
//!
//! systemd starts a failed service again every three seconds. The stored reason shows why it does not stay up.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::clock::wall_clock;
use super::state_file::replace_file;
use super::status::ServiceReport;
use crate::time::Timestamp;

/// A failure that ended the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServiceFailure {
    /// Wall-clock time at which the service ended.
    pub(crate) at: Timestamp,
    /// Reason why the service ended: the error with its causes.
    pub(crate) detail: String,
    /// Wall-clock time of the last alarm with this reason; `None` if no alarm was raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) alarm_at: Option<Timestamp>,
}

impl ServiceFailure {
    /// Writes the failure to the state folder.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub(crate) fn write(&self, state: &Path) -> io::Result<()> {
        replace_file(&state.join(FILE_NAME), &serde_json::to_vec(self)?)
    }

    /// Reads the last failure from the state folder; `None` if there is none or it cannot be read.
    pub(crate) fn read(state: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(state.join(FILE_NAME)).ok()?).ok()
    }

    /// Reads the failure because of which the service does not run. Returns `None` if the service has reported since
    /// then. `report` is its last report.
    pub(crate) fn read_after(state: &Path, report: Option<&ServiceReport>) -> Option<Self> {
        let is_after = |failure: &Self| report.is_none_or(|report| failure.at >= report.newest_at());
        // A failure with a time in the future was stored before the clock was corrected. It is ignored, because the
        // service has run since then.
        Self::read(state).filter(|failure| failure.at <= wall_clock() && is_after(failure))
    }
}

const FILE_NAME: &str = "failed";
