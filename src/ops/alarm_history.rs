//! [`AlarmHistory`]: for each kind of alarm, when the alarm command last ran, and the alarms held back since then. An
//! alarm is *held back* if it comes within the pause after a run of the command for an alarm of the same kind.
//!
//! The history can be stored in a file. So a service that crashes and restarts every few seconds does not send an alarm
//! every few seconds. If the file cannot be read or written, a restart ends the pause.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::alerts::{Alarm, AlarmKind};
use super::state_file::replace_file;
use crate::time::Timestamp;

/// The last run of the alarm command and the alarms held back since then, for each kind of alarm.
#[derive(Debug)]
pub(crate) struct AlarmHistory {
    kinds: HashMap<AlarmKind, KindHistory>,
    /// File that stores the history; `None` if the history is kept in memory only.
    file: Option<PathBuf>,
    /// Whether an alarm was held back that the file does not have yet.
    is_changed: bool,
}

/// The moment of an alarm, by the monotonic clock and by the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AlarmMoment {
    /// Time of the monotonic clock, by which the pause between two runs of the alarm command is measured.
    pub(crate) monotonic: Instant,
    /// Time of the wall clock, which the history file stores.
    pub(crate) wall: Timestamp,
}

/// The history of one kind of alarm: the last run of the alarm command, and the alarms held back since then.
#[derive(Debug)]
struct KindHistory {
    last_run: Instant,
    /// Wall-clock time of the last run of the alarm command. The history file stores it.
    last_run_at: Timestamp,
    /// Newest alarm that is held back, i.e. was not passed to the command yet; `None` if no alarm is held back.
    held: Option<Alarm>,
    /// Number of alarms that were held back since the last run of the command.
    count: u64,
}

/// One entry of the history file, about one kind of alarm.
#[derive(Serialize, Deserialize)]
struct StoredKind {
    kind: AlarmKind,
    last_run_at_ns: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<Alarm>,
    #[serde(default)]
    count: u64,
}

impl AlarmHistory {
    /// Creates an empty history that is kept in memory only.
    pub(crate) fn in_memory() -> Self {
        Self { kinds: HashMap::new(), file: None, is_changed: false }
    }

    /// Loads the history from a file. `wall` is the current time of the wall clock. Ignores runs of the alarm command
    /// that are older than `pause` or in the future.
    #[expect(clippy::disallowed_methods, reason = "an IO module: the end of the pause is measured")]
    pub(crate) fn load(file: PathBuf, wall: Timestamp, pause: Duration) -> Self {
        let text = std::fs::read(&file).ok().filter(|text| text.len() <= MAX_FILE_BYTES).unwrap_or_default();
        let stored: Vec<StoredKind> = serde_json::from_slice(&text).unwrap_or_default();
        let now = Instant::now();
        let restored = stored.into_iter().map(|stored| {
            let last_run_at = Timestamp::from_nanos(stored.last_run_at_ns);
            let age = wall.since(last_run_at).min(pause);
            // If the wall clock was set back, the last run seems to be in the future. This run is ignored, because
            // otherwise no alarm would be sent for days.
            let age = if last_run_at > wall { pause } else { age };
            // The last run may have been before the boot, and the monotonic clock has no time before the boot. Then the
            // pause begins again.
            let last_run = now.checked_sub(age).unwrap_or(now);
            (stored.kind, KindHistory { last_run, last_run_at, held: stored.held, count: stored.count })
        });
        Self { kinds: restored.collect(), file: Some(file), is_changed: false }
    }

    /// Returns whether a file stores the history, so that it survives a restart.
    pub(crate) const fn is_durable(&self) -> bool {
        self.file.is_some()
    }

    /// Returns the monotonic time at which the alarm command is to run for the next held-back alarm; `None` if no alarm
    /// is held back.
    pub(crate) fn next_due(&self, pause: Duration) -> Option<Instant> {
        self.kinds.values().filter(|kind| kind.held.is_some()).map(|kind| kind.last_run + pause).min()
    }

    /// Returns the alarm if the alarm command may run for it now. Otherwise holds the alarm back and returns `None`.
    pub(crate) fn admit(&mut self, alarm: Alarm, now: AlarmMoment, pause: Duration) -> Option<Alarm> {
        let AlarmMoment { monotonic, wall } = now;
        let history = self.kinds.get_mut(&alarm.kind);
        if let Some(history) = history
            && monotonic.duration_since(history.last_run) < pause
        {
            history.held = Some(alarm);
            history.count += 1;
            self.is_changed = true;
            return None;
        }
        let begun = KindHistory { last_run: monotonic, last_run_at: wall, held: None, count: 0 };
        let held_back = self.kinds.insert(alarm.kind, begun).map_or(0, |before| before.count);
        self.save();
        Some(Alarm { held_back, ..alarm })
    }

    /// Removes and returns the held-back alarms for which `pause` has passed since the last run of the command, oldest
    /// first.
    pub(crate) fn take_due(&mut self, now: AlarmMoment, pause: Duration) -> Vec<Alarm> {
        let AlarmMoment { monotonic, wall } = now;
        let mut taken = Vec::new();
        for kind in self.kinds.values_mut().filter(|kind| monotonic.duration_since(kind.last_run) >= pause) {
            if let Some(alarm) = kind.held.take() {
                taken.push(Alarm { held_back: kind.count.saturating_sub(1), ..alarm });
                (kind.last_run, kind.last_run_at, kind.count) = (monotonic, wall, 0);
            }
        }
        taken.sort_by_key(|alarm| alarm.at);
        if !taken.is_empty() {
            self.save();
        }
        taken
    }

    /// Writes the history to its file if alarms were held back that the file does not have. Otherwise the file stays as it
    /// is, because it may belong to another service, beside which this one was started by hand.
    pub(crate) fn save_held(&mut self) {
        if self.is_changed {
            self.save();
        }
    }

    /// Writes the history to its file, together with the held-back alarms, for which the alarm command has not run yet.
    fn save(&mut self) {
        let Some(file) = &self.file else { return };
        let stored: Vec<StoredKind> = self
            .kinds
            .iter()
            .map(|(kind, history)| StoredKind {
                kind: *kind,
                last_run_at_ns: history.last_run_at.as_nanos(),
                held: history.held.clone(),
                count: history.count,
            })
            .collect();
        let written =
            serde_json::to_vec(&stored).map_err(std::io::Error::from).and_then(|text| replace_file(file, &text));
        self.is_changed = written.is_err();
        if let Err(error) = written {
            tracing::debug!(%error, "the history of alarms cannot be written");
        }
    }
}

/// Maximum size of a history file that is read, bytes. It has room for one alarm of up to 4 KiB for each kind.
const MAX_FILE_BYTES: usize = 256 * 1024;
