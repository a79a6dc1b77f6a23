//! [`LifeSigns`]: sends signs of life to systemd while all threads make progress.

use std::time::Instant;

use super::systemd::SystemdSocket;
use crate::ops::supervision::{StalledThread, Supervisor};

/// Sends signs of life to systemd as long as the threads of the service make progress.
#[derive(Debug)]
pub(crate) struct LifeSigns {
    pub(crate) supervisor: Supervisor,
    pub(crate) systemd: SystemdSocket,
    /// Names of the threads that made no progress at the last check. They were already reported.
    stalled: Vec<&'static str>,
    /// Status line that was sent to systemd last.
    status_line: String,
}

impl LifeSigns {
    /// Creates the sender of the signs of life, when the service starts.
    pub(crate) fn new(supervisor: Supervisor, systemd: SystemdSocket) -> Self {
        Self { supervisor, systemd, stalled: Vec::new(), status_line: String::new() }
    }

    /// Sends a sign of life to the watchdog of systemd if all vital threads make progress. Returns the threads that
    /// make no progress now and were not stalled when this function was last used.
    pub(crate) fn check(&mut self, now: Instant) -> Vec<StalledThread> {
        let stalled = self.supervisor.stalled(now);
        if !stalled.iter().any(|thread| thread.is_vital) {
            self.systemd.try_tell("WATCHDOG=1");
        }
        let names = stalled.iter().map(|thread| thread.name).collect();
        let known = std::mem::replace(&mut self.stalled, names);
        stalled.into_iter().filter(|thread| !known.contains(&thread.name)).collect()
    }

    /// Shows a line in `systemctl status`. If systemd is too busy to accept it, the next use of this function sends it
    /// again.
    pub(crate) fn show(&mut self, line: String) {
        if line != self.status_line && self.systemd.try_tell(&format!("STATUS={line}")) {
            self.status_line = line;
        }
    }
}
