//! The status of the service: a file that `run` rewrites every few seconds, and that `callspan status` shows.
//!
//! The file contains no phone number. It is in the state folder, so `status` needs neither the console nor a login.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::alerts::Alarm;
use super::drops::DropCounters;
use super::mirror_report::MirrorReport;
use super::taps::TapReport;
use crate::time::Timestamp;

/// The state of the service and its counters since the start, as in the status file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServiceReport {
    /// Version of callspan, e.g. `1.4.0`.
    pub(crate) version: String,
    /// Wall-clock time at the start of the service.
    pub(crate) started_at: Timestamp,
    /// Wall-clock time at which this report was written.
    pub(crate) at: Timestamp,
    /// Wall-clock time at which the service ended; `None` while the service runs and after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stopped_at: Option<Timestamp>,
    /// Names of the interfaces from which the service captures.
    pub(crate) source: String,
    /// Whether the service captures, i.e. whether at least one interface is up.
    pub(crate) is_capturing: bool,
    /// Number of captured frames since the start.
    pub(crate) frames: u64,
    /// Number of frames dropped by the kernel because its buffer was full.
    pub(crate) dropped_by_kernel: u64,
    /// Number of frames dropped by the network interfaces.
    pub(crate) dropped_by_interface: u64,
    /// Number of packets dropped because the disk of the spool (captured packets) was too slow or failed.
    pub(crate) spool_lost: u64,
    /// Counters of each capture interface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) taps: Vec<TapReport>,
    /// State of the mirror port: directions, repeated packets and tunnels.
    #[serde(default)]
    pub(crate) mirror: MirrorReport,
    /// Number of SIP messages captured since the start.
    pub(crate) sip_messages: u64,
    /// Number of RTP packets that belong to known calls.
    pub(crate) rtp_packets: u64,
    /// Number of RTP packets that belonged to no known call when they arrived.
    pub(crate) rtp_unclaimed: u64,
    /// Wall-clock time of the last SIP message; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_sip_at: Option<Timestamp>,
    /// Wall-clock time of the last RTP packet of a known call; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_rtp_at: Option<Timestamp>,
    /// Number of calls in progress.
    pub(crate) calls_live: u64,
    /// Number of calls that ended since the start.
    pub(crate) calls_ended: u64,
    /// Counts of dropped calls and packets since the start.
    pub(crate) drops: DropCounters,
    /// Number of calls still to be delivered to Pyrus.
    pub(crate) owed: u64,
    /// Whether Pyrus has accepted or refused the login since the start, or since the last change of login or key.
    /// `None` without delivery, and in the report of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) has_login_answer: Option<bool>,
    /// The last reload of the configuration, if it was refused; `None` if the last reload succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused_reload: Option<RefusedReload>,
    /// Open alarms, i.e. alarms about problems that have not ended, newest last.
    pub(crate) alarms: Vec<Alarm>,
    /// IP addresses that were recognised as PBXs by their traffic.
    pub(crate) pbx_hosts: Vec<String>,
    /// Number of extensions for which a registration (REGISTER) was captured.
    pub(crate) extensions: u64,
}

/// A reload of the configuration that was refused, so that the old settings stay in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefusedReload {
    /// Wall-clock time at which the configuration was read.
    pub(crate) at: Timestamp,
    /// The number of mistakes, and line and key of the first one; otherwise why the file could not be read.
    pub(crate) reason: String,
}

impl ServiceReport {
    /// Returns the path and the contents of the report file in the state folder.
    ///
    /// # Errors
    /// Fails if the report cannot be written as JSON.
    pub(crate) fn file(&self, state: &Path) -> io::Result<(PathBuf, Vec<u8>)> {
        Ok((state.join(FILE_NAME), serde_json::to_vec(self)?))
    }

    /// Reads the report from the state folder.
    ///
    /// # Errors
    /// Fails if there is no report, or if it cannot be read.
    pub(crate) fn read(state: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(state.join(FILE_NAME))?)?)
    }

    /// Returns the newest wall-clock time in the report: that of the report itself, or of the service's start or end.
    pub(crate) fn newest_at(&self) -> Timestamp {
        self.at.max(self.started_at).max(self.stopped_at.unwrap_or(self.at))
    }

    /// Returns whether the service runs at the time `now`. It runs if it wrote this report at most [`MAX_AGE`] before,
    /// and if the report does not say that it ended.
    pub(crate) fn is_alive(&self, now: Timestamp) -> bool {
        self.stopped_at.is_none() && now.since(self.at) <= MAX_AGE
    }
}

const FILE_NAME: &str = "status.json";
/// Age of the last report above which the service counts as stopped: six times [`REPORT_INTERVAL`].
const MAX_AGE: std::time::Duration = std::time::Duration::from_secs(30);
/// Pause between two status reports of the service.
pub(crate) const REPORT_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_survives_the_file_and_grows_old() {
        let dir = tempfile::tempdir().unwrap();
        let report = ServiceReport { at: Timestamp::from_secs(100), frames: 7, ..ServiceReport::default() };
        let (path, contents) = report.file(dir.path()).unwrap();
        std::fs::write(path, contents).unwrap();
        let read = ServiceReport::read(dir.path()).unwrap();
        assert_eq!(read, report);
        assert!(read.is_alive(Timestamp::from_secs(130)) && !read.is_alive(Timestamp::from_secs(131)));
        let ended = ServiceReport { stopped_at: Some(Timestamp::from_secs(101)), ..report };
        assert!(!ended.is_alive(Timestamp::from_secs(102)), "a service that ended is not alive for half a minute");
    }
}
