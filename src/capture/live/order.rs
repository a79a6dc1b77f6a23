//! Decides which tap is read next, so that frames come in the order of their timestamps. A tap is a network interface
//! or the HEP socket.
//!
//! After a pause of the process, the kernel's ring buffer of every tap holds a backlog. If the taps were read in turn,
//! a busy tap would fall behind a quiet tap by seconds. Then the same packet at two taps would not be recognised as a
//! duplicate.
//!
//! Invariants: one frame of each tap takes part in the order, its current frame. Further frames wait in the buffer of
//! the tap. Each read of an empty ring is a system call. So a tap without a frame is read again only after
//! [`FRAMES_BETWEEN_LOOKS`] frames of other taps.

use std::time::Duration;

use crate::time::Timestamp;

/// The current frame of each tap (interface or HEP socket) that was not returned yet.
#[derive(Debug)]
pub(super) struct TapOrder {
    taps: Vec<WaitingTap>,
    /// Number for the next frame; frames are numbered in the order in which they become current.
    next_number: u64,
}

/// Whether a frame was read from a tap (interface or HEP socket) and waits to be returned.
#[derive(Clone, Copy, Debug)]
enum WaitingTap {
    /// A frame of this tap waits. `stamp` is its kernel timestamp. `number` counts the frames in the order in which
    /// they became current.
    Frame { stamp: Timestamp, number: u64 },
    /// No frame of this tap waits. The tap is read again after `looks_in` frames of other taps were returned.
    Empty { looks_in: u32 },
}

impl TapOrder {
    pub(super) fn new(taps: usize) -> Self {
        Self { taps: vec![WaitingTap::Empty { looks_in: 0 }; taps], next_number: 0 }
    }

    /// Returns the number of taps (network interfaces, and the HEP socket).
    pub(super) fn len(&self) -> usize {
        self.taps.len()
    }

    /// Returns whether this tap must be read now, before the next waiting frame (of this or another tap) is returned.
    pub(super) fn is_due(&self, tap: usize) -> bool {
        matches!(self.taps.get(tap), Some(WaitingTap::Empty { looks_in: 0 }))
    }

    /// Records that a tap (interface or HEP socket) has a current frame.
    pub(super) fn handle_frame(&mut self, tap: usize, stamp: Timestamp) {
        if let Some(state) = self.taps.get_mut(tap) {
            *state = WaitingTap::Frame { stamp, number: self.next_number };
            self.next_number += 1;
        }
    }

    /// Records that a tap (interface or HEP socket) had no frame when it was read.
    pub(super) fn handle_empty(&mut self, tap: usize) {
        if let Some(state) = self.taps.get_mut(tap) {
            *state = WaitingTap::Empty { looks_in: FRAMES_BETWEEN_LOOKS };
        }
    }

    /// Lets the source read each tap (interface or HEP socket) again that had no frame, because it has just waited for
    /// new frames.
    pub(super) fn handle_wait(&mut self) {
        for tap in &mut self.taps {
            if let WaitingTap::Empty { looks_in } = tap {
                *looks_in = 0;
            }
        }
    }

    /// Removes a waiting frame and returns its tap; `None` if no frame waits. Chooses the frame with the earliest
    /// timestamp or, if the clock was set in between, the frame that became current first.
    pub(super) fn take_oldest(&mut self) -> Option<usize> {
        let waiting = self.taps.iter().enumerate().filter_map(|(tap, state)| match state {
            WaitingTap::Frame { stamp, number } => Some((*stamp, *number, tap)),
            WaitingTap::Empty { .. } => None,
        });
        let (oldest, newest) = (waiting.clone().min()?, waiting.clone().max()?);
        let is_step = newest.0.since(oldest.0) > MAX_BACKLOG;
        let (_, _, tap) = if is_step { waiting.min_by_key(|(_, number, _)| *number)? } else { oldest };
        for state in &mut self.taps {
            if let WaitingTap::Empty { looks_in } = state {
                *looks_in = looks_in.saturating_sub(1);
            }
        }
        self.taps[tap] = WaitingTap::Empty { looks_in: 0 };
        Some(tap)
    }
}

/// Number of frames of other taps that are returned before an empty tap is read again. These frames span far less than
/// the 100 ms of disorder that the call engine tolerates.
const FRAMES_BETWEEN_LOOKS: u32 = 64;
/// Maximum plausible time for which a frame waits in the ring buffer of its tap. If the timestamps of two waiting
/// frames differ by more, the wall clock was set in between. Then the frame that became current first is returned
/// first.
const MAX_BACKLOG: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_micros(ms * 1000)
    }

    /// Returns the timestamps of the frames of several taps in the order in which the frames are returned, ms. Each
    /// element of `rings` has the timestamps of one tap.
    fn read(mut rings: Vec<Vec<i64>>) -> Vec<i64> {
        rings.iter_mut().for_each(|ring| ring.reverse());
        let mut order = TapOrder::new(rings.len());
        let mut heads = vec![0; rings.len()];
        let mut read = Vec::new();
        loop {
            for tap in 0..rings.len() {
                match order.is_due(tap).then(|| rings[tap].pop()) {
                    Some(Some(ms)) => {
                        heads[tap] = ms;
                        order.handle_frame(tap, at(ms));
                    }
                    Some(None) => order.handle_empty(tap),
                    None => {}
                }
            }
            let Some(tap) = order.take_oldest() else { return read };
            read.push(heads[tap]);
        }
    }

    #[test]
    fn backlogs_of_busy_and_quiet_taps_are_read_in_order_of_time() {
        let (busy, quiet): (Vec<i64>, Vec<i64>) = ((0..2000).collect(), (0..2000).step_by(500).collect());
        let frames = read(vec![busy, quiet]);
        assert_eq!(frames.len(), 2004);
        assert!(frames.is_sorted(), "a frame of the quiet tap comes between frames of the same time");
    }

    #[test]
    fn no_tap_waits_for_ever_after_the_clock_was_set_back() {
        // A frame of the first tap was read, and then the wall clock was set back by an hour. So the frame that was
        // read first is returned first.
        let frames = read(vec![vec![3_600_000], (0..10).collect()]);
        assert_eq!(frames[..2], [3_600_000, 0]);
    }

    #[test]
    fn empty_tap_is_read_after_frames_of_others_or_a_wait() {
        let mut order = TapOrder::new(2);
        order.handle_empty(1);
        for frame in 0..FRAMES_BETWEEN_LOOKS {
            assert!(!order.is_due(1), "{frame}");
            order.handle_frame(0, at(0));
            assert_eq!(order.take_oldest(), Some(0));
        }
        assert!(order.is_due(1));
        order.handle_empty(1);
        order.handle_wait();
        assert!(order.is_due(1) && order.take_oldest().is_none());
    }
}
