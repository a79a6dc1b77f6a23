//! Maps kernel timestamps to the capture timeline, which has no clock steps.
//!
//! Kernel timestamps are wall-clock time. A clock step is a jump of the wall clock relative to the monotonic clock. The
//! timeline is the wall-clock time minus the sum of all clock steps so far. Slow corrections by NTP are no steps, so
//! the timeline follows them. This module reads no clock.

use crate::time::Timestamp;

/// A reading of the wall clock and of the monotonic clock at the same moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockReading {
    pub(super) wall: Timestamp,
    /// Time of the monotonic clock, ns since the start of the capture.
    pub(super) mono_ns: i64,
}

/// Maps kernel timestamps to the capture timeline, which has no clock steps.
#[derive(Debug)]
pub(super) struct CaptureTimeline {
    /// Difference between wall clock and monotonic clock when both were last read, ns.
    base_ns: i64,
    /// Sum of all clock steps so far, ns. A timestamp minus this sum is a time on the timeline.
    steps_ns: i64,
    /// Sum of all clock steps except the last one, ns. It is needed for frames that got their timestamp before the last
    /// step and are read after it.
    steps_before_ns: i64,
    last: Timestamp,
}

impl CaptureTimeline {
    pub(super) fn starting(at: ClockReading) -> Self {
        Self { base_ns: difference(at), steps_ns: 0, steps_before_ns: 0, last: at.wall }
    }

    /// Compares the wall clock with the monotonic clock. Returns the clock step (jump of the wall clock) since the last
    /// comparison in ns; `None` if there was none.
    pub(super) fn compare(&mut self, at: ClockReading) -> Option<i64> {
        let moved_ns = difference(at).saturating_sub(self.base_ns);
        self.base_ns = difference(at);
        if moved_ns.abs() < STEP_NS {
            return None;
        }
        self.steps_before_ns = self.steps_ns;
        self.steps_ns = self.steps_ns.saturating_add(moved_ns);
        Some(moved_ns)
    }

    /// Converts a clock reading to a time on the capture timeline. The result never decreases.
    pub(super) fn now(&mut self, at: ClockReading) -> Timestamp {
        self.last = self.last.max(at.wall.offset(-self.steps_ns));
        self.last
    }

    /// Converts a kernel timestamp that is near the previous timestamp. No clock step lies between the two, so no clock
    /// need be read. Returns `None` if the two timestamps are too far apart.
    pub(super) fn convert_near(&mut self, stamp: Timestamp) -> Option<Timestamp> {
        let at = stamp.offset(-self.steps_ns);
        if at.nanos_since(self.last).abs() >= STEP_NS {
            return None;
        }
        self.last = self.last.max(at);
        Some(at)
    }

    /// Converts the kernel timestamp of a frame to capture time, if [`Self::compare`] has found a clock step. The
    /// kernel may have stamped the frame before or after that step. So both times are computed, and the time nearer to
    /// the present is returned.
    pub(super) fn convert_after_step(&mut self, stamp: Timestamp, at: ClockReading) -> Timestamp {
        let now = self.now(at);
        let distance = |t: &Timestamp| t.nanos_since(now).unsigned_abs();
        let (new, old) = (stamp.offset(-self.steps_ns), stamp.offset(-self.steps_before_ns));
        if distance(&old) < distance(&new) { old } else { new }
    }
}

fn difference(at: ClockReading) -> i64 {
    at.wall.as_nanos().saturating_sub(at.mono_ns)
}

/// Minimum jump of the wall clock that counts as a clock step, ns: a listener would notice an error of half a second. A
/// smaller jump, e.g. 128 ms by chrony or ntpd, also shifts the capture times.
const STEP_NS: i64 = 500_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: i64 = 1_000_000_000;

    fn reading(wall_s: i64, mono_s: i64) -> ClockReading {
        ClockReading { wall: Timestamp::from_secs(wall_s), mono_ns: mono_s * SEC }
    }

    #[test]
    fn wall_clock_step_does_not_move_the_timeline() {
        for step in [3600, -3600] {
            let mut t = CaptureTimeline::starting(reading(1000, 10));
            assert_eq!(
                t.convert_near(Timestamp::from_nanos(1000 * SEC + SEC / 10)),
                Some(Timestamp::from_nanos(1000 * SEC + SEC / 10))
            );
            let stamp = Timestamp::from_secs(1001 + step);
            assert_eq!(t.convert_near(stamp), None);
            assert_eq!(t.compare(reading(1001 + step, 11)), Some(step * SEC));
            assert_eq!(t.convert_after_step(stamp, reading(1001 + step, 11)), Timestamp::from_secs(1001));
            assert_eq!(t.now(reading(1002 + step, 12)), Timestamp::from_secs(1002));
        }
    }

    #[test]
    fn frame_stamped_before_the_step_keeps_its_time() {
        let mut t = CaptureTimeline::starting(reading(1000, 10));
        assert!(t.compare(reading(4601, 11)).is_some());
        assert_eq!(t.convert_after_step(Timestamp::from_secs(1000), reading(4601, 11)), Timestamp::from_secs(1000));
    }

    #[test]
    fn slewing_and_a_silent_second_are_not_steps() {
        let mut t = CaptureTimeline::starting(reading(1000, 10));
        for i in 1..100 {
            // The wall clock gains 10 ms a second, as if NTP corrected it slowly. That is no clock step.
            let wall = Timestamp::from_secs(1000 + i).offset(i * SEC / 100);
            assert_eq!(t.compare(ClockReading { wall, mono_ns: (10 + i) * SEC }), None);
            assert_eq!(t.now(ClockReading { wall, mono_ns: (10 + i) * SEC }), wall);
        }
    }
}
