//! The wall clock. The times of packets and recordings do not come from this clock but from the capture.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Timestamp;

/// Returns the current time of the wall clock, UTC.
#[expect(clippy::disallowed_methods, reason = "alarms, tries and ages of files follow the time of day")]
pub(crate) fn wall_clock() -> Timestamp {
    Timestamp::EPOCH + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
