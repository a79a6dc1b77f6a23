//! Sorts the entries of a spool by time. Nearly all entries are in order already.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Sort key of an entry: time, then the call engine's decisions before packets, then position in the file. `entry` is
/// the index into the reader's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReorderSlot {
    pub(super) at_ns: i64,
    pub(super) rank: u8,
    pub(super) index: u64,
    pub(super) entry: usize,
}

/// Sorts entries by time. Nearly all entries come in order and are appended to `in_order`; `late` sorts the others.
#[derive(Debug, Default)]
pub(super) struct ReorderQueue {
    in_order: VecDeque<ReorderSlot>,
    late: BinaryHeap<Reverse<ReorderSlot>>,
}

impl ReorderQueue {
    pub(super) fn push(&mut self, slot: ReorderSlot) {
        if self.in_order.back().is_none_or(|last| *last < slot) {
            self.in_order.push_back(slot);
        } else {
            self.late.push(Reverse(slot));
        }
    }

    pub(super) fn pop(&mut self) -> Option<ReorderSlot> {
        match (self.in_order.front(), self.late.peek()) {
            (Some(first), Some(Reverse(late))) if late < first => self.late.pop().map(|Reverse(slot)| slot),
            (None, _) => self.late.pop().map(|Reverse(slot)| slot),
            _ => self.in_order.pop_front(),
        }
    }

    /// Returns the earliest entry; `None` if the queue is empty.
    pub(super) fn first(&self) -> Option<&ReorderSlot> {
        match (self.in_order.front(), self.late.peek()) {
            (Some(first), Some(Reverse(late))) => Some(first.min(late)),
            (first, late) => first.or(late.map(|Reverse(slot)| slot)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.in_order.len() + self.late.len()
    }
}
