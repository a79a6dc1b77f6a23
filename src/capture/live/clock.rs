//! From the wall clock, which is stepped now and then, to a timeline that is not.
//!
//! Kernel stamps are wall-clock time. The timeline is wall-clock time less all steps seen so far; a step is a jump of
//! the wall clock against the monotonic one. Slow slewing (NTP) is no step: the timeline follows it. No clock is read
//! here, and none needs to be read for a frame whose stamp lies near the frame before.

use crate::time::Timestamp;

/// Both clocks, read at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockReading {
    pub(super) wall: Timestamp,
    /// Nanoseconds of the monotonic clock.
    pub(super) mono_ns: i64,
}

/// The mapping from stamps to the timeline.
#[derive(Debug)]
pub(super) struct CaptureTimeline {
    /// Wall less monotonic clock, when they were last read.
    base_ns: i64,
    /// The sum of the steps; `stamp - steps_ns` is on the timeline.
    steps_ns: i64,
    /// The same before the last step, for frames that the kernel stamped before it and we read after it.
    steps_before_ns: i64,
    last: Timestamp,
}

impl CaptureTimeline {
    pub(super) fn starting(at: ClockReading) -> Self {
        Self { base_ns: difference(at), steps_ns: 0, steps_before_ns: 0, last: at.wall }
    }

    /// Compares the clocks: the size of the step since the last comparison, if there was one.
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

    /// The moment of this reading on the timeline. Never goes back.
    pub(super) fn now(&mut self, at: ClockReading) -> Timestamp {
        self.last = self.last.max(at.wall.offset(-self.steps_ns));
        self.last
    }

    /// A stamp's place, if it lies so near the last that no step can stand between.
    pub(super) fn near(&mut self, stamp: Timestamp) -> Option<Timestamp> {
        let at = stamp.offset(-self.steps_ns);
        if at.nanos_since(self.last).abs() >= STEP_NS {
            return None;
        }
        self.last = self.last.max(at);
        Some(at)
    }

    /// A stamp's place after [`Self::compare`], by whichever mapping brings it nearer to now.
    pub(super) fn place(&mut self, stamp: Timestamp, at: ClockReading) -> Timestamp {
        let now = self.now(at);
        let distance = |t: &Timestamp| t.nanos_since(now).unsigned_abs();
        let (new, old) = (stamp.offset(-self.steps_ns), stamp.offset(-self.steps_before_ns));
        if distance(&old) < distance(&new) { old } else { new }
    }
}

fn difference(at: ClockReading) -> i64 {
    at.wall.as_nanos().saturating_sub(at.mono_ns)
}

/// chrony and ntpd slew what is smaller and step what is larger (128 ms and more); half a second is what a listener notices.
const STEP_NS: i64 = 500_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: i64 = 1_000_000_000;

    fn reading(wall_s: i64, mono_s: i64) -> ClockReading {
        ClockReading { wall: Timestamp::from_secs(wall_s), mono_ns: mono_s * SEC }
    }

    #[test]
    fn a_step_of_the_wall_clock_leaves_the_timeline_where_it_was() {
        for step in [3600, -3600] {
            let mut t = CaptureTimeline::starting(reading(1000, 10));
            assert_eq!(
                t.near(Timestamp::from_nanos(1000 * SEC + SEC / 10)),
                Some(Timestamp::from_nanos(1000 * SEC + SEC / 10))
            );
            let stamp = Timestamp::from_secs(1001 + step);
            assert_eq!(t.near(stamp), None);
            assert_eq!(t.compare(reading(1001 + step, 11)), Some(step * SEC));
            assert_eq!(t.place(stamp, reading(1001 + step, 11)), Timestamp::from_secs(1001));
            assert_eq!(t.now(reading(1002 + step, 12)), Timestamp::from_secs(1002));
        }
    }

    #[test]
    fn a_frame_stamped_before_the_step_and_read_after_it_keeps_its_place() {
        let mut t = CaptureTimeline::starting(reading(1000, 10));
        assert!(t.compare(reading(4601, 11)).is_some());
        assert_eq!(t.place(Timestamp::from_secs(1000), reading(4601, 11)), Timestamp::from_secs(1000));
    }

    #[test]
    fn slewing_is_no_step_and_a_silent_second_is_none_either() {
        let mut t = CaptureTimeline::starting(reading(1000, 10));
        for i in 1..100 {
            // The wall clock gains 10 ms a second.
            let wall = Timestamp::from_secs(1000 + i).offset(i * SEC / 100);
            assert_eq!(t.compare(ClockReading { wall, mono_ns: (10 + i) * SEC }), None);
            assert_eq!(t.now(ClockReading { wall, mono_ns: (10 + i) * SEC }), wall);
        }
    }
}
