//! The service cannot start, or had to end: somebody must hear of it, and not each three seconds, as often as systemd
//! starts it again.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::lock::{self, LockError};
use crate::ops::alerts::{Alerts, Kind, PAUSE};
use crate::ops::output;

/// Raises an alarm, unless an earlier start raised the same one a short while ago. Where that cannot be written down (a
/// disk that is full or read-only) the end of the process waits, so that the next start comes later; `stop` ends that.
pub(crate) fn tell(state: &Path, alerts: &Alerts, error: &anyhow::Error, stop: &AtomicBool) {
    // The end of the process says it on standard error; that is enough where nobody is to be called, and for somebody
    // at a terminal who starts a second service.
    let is_second = matches!(error.downcast_ref::<LockError>(), Some(LockError::Taken { .. }));
    let text = output::chain(error);
    let stamp = state.join(FILE_NAME);
    if is_second || !alerts.has_command() || was_told(&stamp, &text) {
        return;
    }
    alerts.raise_unlogged(Kind::ServiceFailed, &text);
    if lock::make_private(state).and_then(|()| std::fs::write(&stamp, &text)).is_err() {
        output::note(&format!("callspan: {text}: it ends in {} s, not to be started again too soon", HOLD.as_secs()));
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
