//! Finds the packets of a stream that directly precede and follow a packet, in whatever order they arrive.

use std::collections::VecDeque;

use crate::net::SequenceNumber;

/// Keeps a value for each of the last few packets of a stream. For a new packet, it finds the values of the packets
/// with the previous and the next sequence number.
#[derive(Clone, Debug)]
pub(crate) struct NeighbourSearch<T> {
    /// Sequence number and value of each packet, in the order of arrival.
    packets: VecDeque<(SequenceNumber, T)>,
}

/// The values of the packets directly before and after one packet, by sequence number. A value is `None` if its packet
/// did not arrive shortly before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequenceNeighbours<T> {
    pub(crate) before: Option<T>,
    pub(crate) after: Option<T>,
}

impl<T> Default for NeighbourSearch<T> {
    fn default() -> Self {
        Self { packets: VecDeque::new() }
    }
}

impl<T: Clone> NeighbourSearch<T> {
    /// Adds a packet and returns its neighbours. A copy of a recent packet has no neighbours and is not added.
    pub(crate) fn add(&mut self, sequence: SequenceNumber, value: T) -> SequenceNeighbours<T> {
        if self.get(sequence).is_some() {
            return SequenceNeighbours { before: None, after: None };
        }
        let (before, after) = (self.get(sequence.wrapping_add(u16::MAX)), self.get(sequence.wrapping_add(1)));
        let neighbours = SequenceNeighbours { before: before.cloned(), after: after.cloned() };
        if self.packets.len() >= MAX_RECENT {
            self.packets.pop_front();
        }
        self.packets.push_back((sequence, value));
        neighbours
    }

    fn get(&self, sequence: SequenceNumber) -> Option<&T> {
        self.packets.iter().rev().find(|(known, _)| *known == sequence).map(|(_, value)| value)
    }
}

/// Maximum number of recent packets with which a new packet is compared: 160 ms at 20 ms a packet. Networks rarely
/// delay a packet for longer.
const MAX_RECENT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_found_in_any_order_of_arrival() {
        let mut recent = NeighbourSearch::default();
        let mut add = |sequence: u16| {
            let SequenceNeighbours { before, after } = recent.add(SequenceNumber(sequence), sequence);
            (before, after)
        };
        assert_eq!(add(65_534), (None, None));
        assert_eq!(add(0), (None, None));
        assert_eq!(add(65_535), (Some(65_534), Some(0)), "late");
        assert_eq!(add(65_535), (None, None), "a copy");
        assert_eq!(add(1), (Some(0), None));
        assert_eq!((10..18).map(&mut add).filter(|found| found.0.is_some()).count(), 7);
        assert_eq!(add(2), (None, None), "too late");
    }
}
