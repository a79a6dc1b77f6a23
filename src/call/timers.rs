//! The timers of legs and calls: a table of deadlines.
//!
//! A timer has at most one deadline. Timers with the same deadline fire in the order of their kinds. Timers of the same
//! kind fire in the order in which they were first set.

use std::collections::{BTreeSet, HashMap};

use crate::call::keys::{CallKey, LegKey};
use crate::time::Timestamp;

/// A timer of a leg or call. Timers with the same deadline fire in the order of these variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum EngineTimer {
    /// Review a leg shortly after its answer or end. By then the reaction of the PBX shows to which call the leg
    /// belongs.
    AnswerReview(LegKey),
    /// Check whether a leg has timed out, and end or close the leg if so.
    Leg(LegKey),
    /// End the time in which the legs of a call are correlated, and announce the call.
    Settle(CallKey),
    /// Deal with the other legs of a call, some time after its first leg and its anchor leg (the recorded leg) have
    /// ended. These legs end, or move to a separate call.
    Partners(CallKey),
    /// Announce a call that waited because equal media content could join it to another call.
    Commit(CallKey),
    /// Check whether a further segment of a recording is complete.
    Segment(CallKey),
    /// Compare the sounds (outlines) of the legs of a call with a leg that only numbers joined.
    Outline(CallKey),
}

impl EngineTimer {
    const fn kind(self) -> u8 {
        match self {
            Self::AnswerReview(_) => 0,
            Self::Leg(_) => 1,
            Self::Settle(_) => 2,
            Self::Partners(_) => 3,
            Self::Commit(_) => 4,
            Self::Segment(_) => 5,
            Self::Outline(_) => 6,
        }
    }
}

/// Deadline of a timer. Deadlines are sorted in the order in which the timers fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TimerDeadline {
    at: Timestamp,
    kind: u8,
    /// Number of timers that were set before this timer. It decides between equal deadlines.
    serial: u64,
    timer: EngineTimer,
}

/// All timers that are set, with their deadlines.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<TimerDeadline>,
    armed: HashMap<EngineTimer, TimerDeadline, foldhash::fast::RandomState>,
    next_serial: u64,
}

impl Timers {
    /// Sets a timer. Replaces an earlier deadline of the timer.
    pub(crate) fn arm(&mut self, timer: EngineTimer, at: Timestamp) {
        let serial = match self.armed.get(&timer) {
            Some(known) if known.at == at => return,
            Some(known) => {
                self.queue.remove(known);
                known.serial
            }
            None => {
                self.next_serial += 1;
                self.next_serial
            }
        };
        let deadline = TimerDeadline { at, kind: timer.kind(), serial, timer };
        self.queue.insert(deadline);
        self.armed.insert(timer, deadline);
    }

    /// Clears a timer. Returns false if it was not set.
    pub(crate) fn disarm(&mut self, timer: EngineTimer) -> bool {
        let known = self.armed.remove(&timer);
        known.is_some_and(|deadline| self.queue.remove(&deadline))
    }

    /// Clears all timers of a leg.
    pub(crate) fn disarm_leg(&mut self, leg: LegKey) {
        for timer in [EngineTimer::AnswerReview(leg), EngineTimer::Leg(leg)] {
            self.disarm(timer);
        }
    }

    /// Clears all timers of a call.
    pub(crate) fn disarm_call(&mut self, call: CallKey) {
        let kinds = [
            EngineTimer::Settle,
            EngineTimer::Partners,
            EngineTimer::Commit,
            EngineTimer::Segment,
            EngineTimer::Outline,
        ];
        for timer in kinds {
            self.disarm(timer(call));
        }
    }

    /// Removes and returns the first timer that is due at `now`, with its deadline; `None` if none is due.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, EngineTimer)> {
        let first = self.queue.first().filter(|deadline| deadline.at <= now).copied()?;
        self.disarm(first.timer);
        Some((first.at, first.timer))
    }

    /// Returns whether a timer is set.
    pub(crate) fn is_armed(&self, timer: EngineTimer) -> bool {
        self.armed.contains_key(&timer)
    }

    /// Returns the earliest deadline; `None` if no timer is set.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.queue.first().map(|deadline| deadline.at)
    }

    /// Returns the timers that are set, in the order in which they fire.
    pub(crate) fn iter(&self) -> impl Iterator<Item = EngineTimer> + '_ {
        self.queue.iter().map(|deadline| deadline.timer)
    }

    /// Returns the number of timers that are set.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_micros(ms * 1_000)
    }

    /// Returns the keys of two legs. The second leg reuses the slot of a removed leg, so its key is the smaller one,
    /// although the leg is newer.
    fn legs() -> [LegKey; 2] {
        let mut table: SlotMap<LegKey, ()> = SlotMap::with_key();
        let (_, removed) = (table.insert(()), table.insert(()));
        let other = table.insert(());
        table.remove(removed);
        let reused = table.insert(());
        [other, reused]
    }

    #[test]
    fn timers_fire_by_deadline_then_kind_then_age() {
        let [a, b] = legs();
        let mut timers = Timers::default();
        timers.arm(EngineTimer::Leg(a), at(5));
        timers.arm(EngineTimer::Leg(b), at(9));
        timers.arm(EngineTimer::AnswerReview(b), at(9));
        timers.arm(EngineTimer::Leg(a), at(9)); // It keeps its position although it is set again.
        assert_eq!(timers.pop_due(at(8)), None);
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_due(at(9))).collect();
        let expected = [EngineTimer::AnswerReview(b), EngineTimer::Leg(a), EngineTimer::Leg(b)];
        assert_eq!(fired, expected.map(|timer| (at(9), timer)));
        assert_eq!((timers.len(), timers.next()), (0, None));
    }

    #[test]
    fn a_timer_has_one_deadline_and_a_removed_leg_has_none() {
        let [a, b] = legs();
        let mut timers = Timers::default();
        timers.arm(EngineTimer::Leg(a), at(1));
        timers.arm(EngineTimer::Leg(a), at(7));
        assert_eq!((timers.len(), timers.next()), (1, Some(at(7))));
        timers.arm(EngineTimer::AnswerReview(a), at(3));
        timers.arm(EngineTimer::Leg(b), at(4));
        timers.disarm_leg(a);
        assert_eq!(timers.iter().collect::<Vec<_>>(), [EngineTimer::Leg(b)]);
        assert!(!timers.is_armed(EngineTimer::Leg(a)) && !timers.disarm(EngineTimer::Leg(a)));
    }
}
