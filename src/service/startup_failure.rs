//! The alarm that the service cannot start or had to end, and the stored reason.
//!
//! systemd restarts a failed service every three seconds. So the same alarm is raised again only after a pause.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::clock::{monotonic, wall_clock};
use super::lock::{self, LockError};
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::alerts::{AlarmKind, Alerts, PAUSE};
use crate::ops::output;
use crate::ops::service_failure::ServiceFailure;
use crate::text::error_chain;
use crate::time::Timestamp;

/// Stores the failure for `callspan status`. Raises an alarm, unless an earlier start raised the same alarm a short
/// while ago.
///
/// If an alarm was raised and the failure cannot be stored, e.g. because the disk is full, this function waits a
/// minute ([`HOLD`]). So systemd restarts the service later, and the alarm is repeated less often. `stop` ends the wait.
pub(crate) fn handle(state: &Path, alerts: &Alerts, error: &anyhow::Error, stop: &AtomicBool) {
    let (now, detail) = (wall_clock(), error_chain(error.as_ref()));
    let earlier = recent_alarm(state, &detail, now);
    let is_alarm_due = alerts.has_receiver() && earlier.is_none();
    if is_alarm_due {
        alerts.raise_unlogged(&AlarmCause::Described(AlarmKind::ServiceFailed, &detail));
    }
    let failure = ServiceFailure { at: now, detail, alarm_at: if is_alarm_due { Some(now) } else { earlier } };
    let is_stored = lock::make_private(state).and_then(|()| failure.write(state)).is_ok();
    if is_alarm_due && !is_stored {
        output::warn(&format!(
            "callspan: {}: the service waits {} s before it ends, so that it is not restarted too often",
            failure.detail,
            HOLD.as_secs()
        ));
        wait(stop);
    }
}

/// Returns whether a service that has ended with `error` was started by hand beside another one. Its end is no failure:
/// the person at the terminal sees the error. State folder, alarms and messages belong to the other service.
pub(crate) fn is_second_service(state: &Path, error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(LockError::Taken { .. })) || lock::is_held(state)
}

/// Returns the time of the last alarm with this reason if it was raised less than [`PAUSE`] ago.
fn recent_alarm(state: &Path, detail: &str, now: Timestamp) -> Option<Timestamp> {
    let failure = ServiceFailure::read(state).filter(|failure| failure.detail == detail)?;
    failure.alarm_at.filter(|at| *at <= now && now.since(*at) < PAUSE)
}

#[expect(clippy::disallowed_methods, reason = "an IO module: the next start must not follow too soon")]
fn wait(stop: &AtomicBool) {
    let until = monotonic() + HOLD;
    while monotonic() < until && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(STOP_CHECK);
    }
}

/// Time for which a failed service waits before it ends, so that systemd does not restart it too often. It must be
/// shorter than 90 s, the time after which systemd ends a service that does not start.
const HOLD: Duration = Duration::from_secs(60);
/// Interval at which the waiting service checks whether it was asked to stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
