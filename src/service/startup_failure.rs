//! The alarm that the service cannot start or had to end.
//!
//! systemd restarts a failed service every three seconds. So the same alarm is raised again only after a pause.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::clock::monotonic;
use super::lock::{self, LockError};
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::alerts::{AlarmKind, Alerts, PAUSE};
use crate::ops::output;
use crate::text::error_chain;

/// Raises an alarm, unless an earlier start raised the same alarm a short while ago.
///
/// A file in the state folder stores the last alarm. If the file cannot be written, e.g. because the disk is full, this
/// function waits a minute ([`HOLD`]). So systemd restarts the service later, and the alarm is repeated less often.
/// `stop` ends the wait.
pub(crate) fn raise_alarm(state: &Path, alerts: &Alerts, error: &anyhow::Error, stop: &AtomicBool) {
    // No alarm is needed if a person started a second service by hand: that person sees the error on standard error.
    let is_second = matches!(error.downcast_ref::<LockError>(), Some(LockError::Taken { .. }));
    let text = error_chain(error.as_ref());
    let stamp = state.join(FILE_NAME);
    if is_second || !alerts.has_receiver() || was_raised(&stamp, &text) {
        return;
    }
    alerts.raise_unlogged(&AlarmCause::Described(AlarmKind::ServiceFailed, &text));
    if lock::make_private(state).and_then(|()| std::fs::write(&stamp, &text)).is_err() {
        output::warn(&format!(
            "callspan: {text}: the service waits {} s before it ends, so that it is not restarted too often",
            HOLD.as_secs()
        ));
        wait(stop);
    }
}

fn was_raised(stamp: &Path, text: &str) -> bool {
    let modified = std::fs::metadata(stamp).and_then(|file| file.modified());
    let is_recent = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < PAUSE));
    is_recent && std::fs::read_to_string(stamp).is_ok_and(|raised| raised == text)
}

#[expect(clippy::disallowed_methods, reason = "an IO module: the next start must not follow too soon")]
fn wait(stop: &AtomicBool) {
    let until = monotonic() + HOLD;
    while monotonic() < until && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(STOP_CHECK);
    }
}

/// Name of the file in the state folder with the text of the last alarm. The file's modification time is the time of
/// the alarm.
const FILE_NAME: &str = "failed";
/// Time for which a failed service waits before it ends. It must be shorter than 90 s, the time after which systemd
/// ends a service that does not start.
const HOLD: Duration = Duration::from_secs(60);
/// Interval at which the waiting service checks whether it was asked to stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
