//! From the stamps of files to one timeline: a clock that was set back does not turn time back.
//!
//! A *lane* is one interface of one file, because two interfaces of one file may have clocks that differ.
//! Files that saw the same step (two interfaces of one machine) share it, so that it is told once.

use super::reader::FileFrameHeader;
use crate::time::Timestamp;

/// The steps of all lanes.
#[derive(Debug, Default)]
pub(super) struct ClockSteps {
    /// For each file its lanes, by the interface number within the file.
    files: Vec<Vec<Option<InterfaceClock>>>,
    lanes: u32,
    /// What the lanes' clocks were set back by in total, each kept once, newest last.
    known: Vec<i64>,
    /// What the steps told so far add up to.
    told_ns: i64,
}

#[derive(Clone, Copy, Debug)]
struct InterfaceClock {
    /// Number of the lane among all of the source.
    number: u32,
    /// Its last stamp, as written in the file.
    last: Timestamp,
    /// The sum of its steps; `stamp - step_ns` is on the timeline.
    step_ns: i64,
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimelinePosition {
    /// The frame's place on the timeline.
    pub(super) at: Timestamp,
    /// Negative: how far the clock was set back just before, where that has not been told yet.
    pub(super) told_ns: Option<i64>,
}

impl ClockSteps {
    /// The key under which the merge sorts this frame: its place if it brings no new step, else the last place.
    pub(super) fn merge_key(&self, file: usize, head: &FileFrameHeader) -> Timestamp {
        let Some(lane) = self.lane(file, head) else { return head.stamp.offset(self.newest_in(file).saturating_neg()) };
        if lane.last.nanos_since(head.stamp) > STEP_BACK_NS {
            return lane.last.offset(lane.step_ns.saturating_neg());
        }
        head.stamp.offset(lane.step_ns.saturating_neg())
    }

    /// The frame's place on the timeline. Each frame is placed once, in the order of the merge.
    pub(super) fn place(&mut self, file: usize, head: &FileFrameHeader) -> TimelinePosition {
        let lane = self.lane(file, head).unwrap_or_else(|| self.new_lane(file, head));
        let back_by = lane.last.nanos_since(head.stamp);
        let mut step_ns = lane.step_ns;
        if back_by > STEP_BACK_NS {
            step_ns = self.share(lane.step_ns.saturating_sub(back_by));
        }
        self.set_lane(file, head, InterfaceClock { last: head.stamp, step_ns, ..lane });
        let at = head.stamp.offset(step_ns.saturating_neg());
        let untold = step_ns.saturating_sub(self.told_ns);
        let is_news = back_by > STEP_BACK_NS && untold < -STEP_BACK_NS;
        if is_news {
            self.told_ns = step_ns;
        }
        TimelinePosition { at, told_ns: is_news.then_some(untold) }
    }

    /// The number of the frame's interface among all of the source.
    pub(super) fn interface(&self, file: usize, head: &FileFrameHeader) -> u32 {
        self.lane(file, head).map_or(0, |lane| lane.number)
    }

    fn lane(&self, file: usize, head: &FileFrameHeader) -> Option<InterfaceClock> {
        self.files.get(file)?.get(head.interface as usize).copied().flatten()
    }

    /// A new interface goes on from the other interfaces of its file, because appended captures bring new ones.
    fn new_lane(&mut self, file: usize, head: &FileFrameHeader) -> InterfaceClock {
        let newest = self.files.get(file).and_then(|lanes| lanes.iter().flatten().max_by_key(|l| l.last));
        let (last, step_ns) = newest.map_or((head.stamp, 0), |lane| (lane.last, lane.step_ns));
        let number = self.lanes;
        self.lanes = self.lanes.saturating_add(1);
        InterfaceClock { number, last, step_ns }
    }

    fn newest_in(&self, file: usize) -> i64 {
        self.files.get(file).and_then(|l| l.iter().flatten().max_by_key(|l| l.last)).map_or(0, |l| l.step_ns)
    }

    fn set_lane(&mut self, file: usize, head: &FileFrameHeader, lane: InterfaceClock) {
        if self.files.len() <= file {
            self.files.resize_with(file + 1, Vec::new);
        }
        let lanes = &mut self.files[file];
        let index = head.interface as usize;
        if lanes.len() <= index {
            lanes.resize(index + 1, None);
        }
        lanes[index] = Some(lane);
    }

    /// The same step seen by another lane is that step, to the nanosecond, so that the lanes stay aligned.
    fn share(&mut self, sum_ns: i64) -> i64 {
        if let Some(known) = self.known.iter().find(|k| k.abs_diff(sum_ns) < STEP_BACK_NS.unsigned_abs()) {
            return *known;
        }
        if self.known.len() == MAX_KNOWN_STEPS {
            self.known.remove(0);
        }
        self.known.push(sum_ns);
        sum_ns
    }
}

/// Less than this is disorder of the capture (rings of several cores, several interfaces), not a clock set back.
const STEP_BACK_NS: i64 = 5_000_000_000;
/// ClockSteps that lanes can share. A clock is stepped a few times in its life; a file that steps all the time is hostile.
const MAX_KNOWN_STEPS: usize = 64;
