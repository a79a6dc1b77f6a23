//! Maps the timestamps of capture files to one timeline. The timeline never runs backwards, even if the clock of the
//! capturing machine was set back.
//!
//! A *clock step* is a jump of the wall clock between two frames. Each interface of each file has its own clock state,
//! because the clocks of two interfaces can differ. Interfaces with the same clock step, e.g. two interfaces of one
//! machine, share it, so it is reported once.

use super::reader::FileFrameHeader;
use crate::time::Timestamp;

/// The clock steps (jumps of the wall clock) of all interfaces of all files.
#[derive(Debug, Default)]
pub(super) struct ClockSteps {
    /// State of the clock of each interface. The first index is the file, the second is the number of the interface
    /// within the file.
    files: Vec<Vec<Option<InterfaceClock>>>,
    clocks: u32,
    /// Sums of clock steps that interfaces have had so far, each sum once, ns, the newest last.
    known: Vec<i64>,
    /// Sum of the clock steps that were already reported, ns.
    reported_ns: i64,
}

#[derive(Clone, Copy, Debug)]
struct InterfaceClock {
    /// Number of the interface among all interfaces of all files.
    number: u32,
    /// The last timestamp as the file contains it, i.e. with the clock steps.
    last: Timestamp,
    /// Sum of the clock steps of this interface, ns. A timestamp minus this sum gives a time on the timeline.
    step_ns: i64,
}

/// The time of a frame on the timeline, and the clock step (jump of the wall clock) directly before the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimelinePosition {
    /// Time of the frame, on the timeline.
    pub(super) at: Timestamp,
    /// Clock step directly before this frame, ns; negative if the clock was set back. `None` if there is no step, or if
    /// it was reported before.
    pub(super) step_ns: Option<i64>,
}

impl ClockSteps {
    /// Returns the time by which this frame is sorted among the frames of other files: its time on the timeline. At a
    /// clock step, returns the time of the previous frame.
    pub(super) fn merge_key(&self, file: usize, head: &FileFrameHeader) -> Timestamp {
        let Some(clock) = self.clock(file, head) else {
            return head.stamp.offset(self.newest_in(file).saturating_neg());
        };
        if clock.last.nanos_since(head.stamp) > STEP_BACK_NS {
            return clock.last.offset(clock.step_ns.saturating_neg());
        }
        head.stamp.offset(clock.step_ns.saturating_neg())
    }

    /// Returns the timestamp of the previous frame on the same interface; `None` before the first frame.
    pub(super) fn last_stamp(&self, file: usize, head: &FileFrameHeader) -> Option<Timestamp> {
        self.clock(file, head).map(|clock| clock.last)
    }

    /// Returns the time of a frame on the timeline. Must be called once for each frame, in the order of the merged
    /// files. `found_ns` is the size of a clock step directly before this frame, as later frames show it. It is negative
    /// if the clock was set back.
    pub(super) fn place_on_timeline(
        &mut self,
        file: usize,
        head: &FileFrameHeader,
        found_ns: Option<i64>,
    ) -> TimelinePosition {
        if found_ns.is_none()
            && let Some(usual) = self.place_without_step(file, head)
        {
            return usual;
        }
        let clock = self.clock(file, head).unwrap_or_else(|| self.new_clock(file, head));
        let back_by = clock.last.nanos_since(head.stamp);
        let mut step_ns = clock.step_ns;
        let is_large = back_by > STEP_BACK_NS;
        if is_large {
            let found_ns = found_ns.unwrap_or(back_by.saturating_neg());
            step_ns = self.share(clock.step_ns.saturating_add(found_ns), STEP_BACK_NS);
        } else if let Some(found_ns) = found_ns {
            step_ns = self.share(clock.step_ns.saturating_add(found_ns), SAME_SMALL_STEP_NS);
        }
        let is_step = is_large || step_ns != clock.step_ns;
        self.set_clock(file, head, InterfaceClock { last: head.stamp, step_ns, ..clock });
        let at = head.stamp.offset(step_ns.saturating_neg());
        let unreported = step_ns.saturating_sub(self.reported_ns);
        let is_new =
            is_step && if is_large { unreported < -STEP_BACK_NS } else { unreported.abs() > SAME_SMALL_STEP_NS };
        if is_new {
            self.reported_ns = step_ns;
        }
        TimelinePosition { at, step_ns: is_new.then_some(unreported) }
    }

    /// Returns the time of a frame on the timeline; `None` if a clock step may be before it. It does the same as
    /// [`Self::place_on_timeline`], but copies no clock state, because it is called for each frame.
    fn place_without_step(&mut self, file: usize, head: &FileFrameHeader) -> Option<TimelinePosition> {
        let clock = self.files.get_mut(file)?.get_mut(head.interface as usize)?.as_mut()?;
        if clock.last.nanos_since(head.stamp) > STEP_BACK_NS {
            return None;
        }
        clock.last = head.stamp;
        Some(TimelinePosition { at: head.stamp.offset(clock.step_ns.saturating_neg()), step_ns: None })
    }

    /// Returns the number of the frame's interface among all interfaces of all files.
    pub(super) fn interface(&self, file: usize, head: &FileFrameHeader) -> u32 {
        self.clock(file, head).map_or(0, |clock| clock.number)
    }

    fn clock(&self, file: usize, head: &FileFrameHeader) -> Option<InterfaceClock> {
        self.files.get(file)?.get(head.interface as usize).copied().flatten()
    }

    /// Creates the clock state of a new interface as a copy of the newest clock state in the same file. If several
    /// captures were appended to one file, each declares its interfaces again.
    fn new_clock(&mut self, file: usize, head: &FileFrameHeader) -> InterfaceClock {
        let newest = self.files.get(file).and_then(|clocks| clocks.iter().flatten().max_by_key(|l| l.last));
        let (last, step_ns) = newest.map_or((head.stamp, 0), |clock| (clock.last, clock.step_ns));
        let number = self.clocks;
        self.clocks = self.clocks.saturating_add(1);
        InterfaceClock { number, last, step_ns }
    }

    fn newest_in(&self, file: usize) -> i64 {
        self.files.get(file).and_then(|l| l.iter().flatten().max_by_key(|l| l.last)).map_or(0, |l| l.step_ns)
    }

    fn set_clock(&mut self, file: usize, head: &FileFrameHeader, clock: InterfaceClock) {
        if self.files.len() <= file {
            self.files.resize_with(file + 1, Vec::new);
        }
        let clocks = &mut self.files[file];
        let index = head.interface as usize;
        if clocks.len() <= index {
            clocks.resize(index + 1, None);
        }
        clocks[index] = Some(clock);
    }

    /// Returns a known sum of clock steps that differs from `sum_ns` by less than `tolerance_ns`. If there is none,
    /// stores `sum_ns` as known. So interfaces with the same step have exactly the same sum.
    fn share(&mut self, sum_ns: i64, tolerance_ns: i64) -> i64 {
        if let Some(known) = self.known.iter().find(|k| k.abs_diff(sum_ns) < tolerance_ns.unsigned_abs()) {
            return *known;
        }
        if self.known.len() == MAX_KNOWN_STEPS {
            self.known.remove(0);
        }
        self.known.push(sum_ns);
        sum_ns
    }
}

/// Minimum jump back that counts as a clock step without further proof, ns. A smaller jump can be disorder between
/// processor cores or interfaces, so it counts only if later frames confirm it.
const STEP_BACK_NS: i64 = 5_000_000_000;
/// Maximum difference between small clock steps on two interfaces that count as the same step, ns.
const SAME_SMALL_STEP_NS: i64 = 30_000_000;
/// Maximum number of sums of clock steps that are stored. Real clocks step a few times; only a malicious file has more
/// steps.
const MAX_KNOWN_STEPS: usize = 64;
