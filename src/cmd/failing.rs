//! The service cannot start, or had to end: somebody must hear of it, and not each three seconds, as often as systemd
//! starts it again.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::lock::LockError;
use super::out;
use crate::ops::alerts::{Alerts, Kind, PAUSE};

/// Raises an alarm, unless an earlier start raised the same one a short while ago. Where that cannot be written down (a
/// disk that is full or read-only) the end of the process waits, so that the next start comes later; `stop` ends that.
pub(super) fn tell(state: &Path, alerts: &Alerts, error: &anyhow::Error, stop: &AtomicBool) {
    // Somebody at a terminal, who reads it there.
    if matches!(error.downcast_ref::<LockError>(), Some(LockError::Taken { .. })) {
        return;
    }
    let text = out::chain(error);
    let stamp = state.join(FILE_NAME);
    if was_told(&stamp, &text) {
        return;
    }
    alerts.raise_unlogged(Kind::ServiceFailed, &text); // the end of the process says it on standard error
    if std::fs::write(&stamp, &text).is_err() {
        wait(stop);
    }
}

fn was_told(stamp: &Path, text: &str) -> bool {
    let modified = std::fs::metadata(stamp).and_then(|file| file.modified());
    let is_recent = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < PAUSE));
    is_recent && std::fs::read_to_string(stamp).is_ok_and(|told| told == text)
}

#[expect(clippy::disallowed_methods, reason = "an IO room: a start that follows too soon")]
fn wait(stop: &AtomicBool) {
    let begin = Instant::now();
    while begin.elapsed() < HOLD && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
    }
}

/// In `[state] dir`: the alarm that was raised last, and when.
const FILE_NAME: &str = "failed";
/// Shorter than systemd waits for a service to start (90 s).
const HOLD: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);
