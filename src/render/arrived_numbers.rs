//! Remembers the sequence numbers and timestamps of the packets of a stream that arrived last. They show whether a
//! packet is late: it then fills a gap that packets sent after it have left.

use super::rtp_clock::{PacketTiming, TimingUnit};
use crate::net::SequenceNumber;

/// How a packet relates to the packets that arrived before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ArrivalOrder {
    /// The packet is neither late for long nor repeated.
    #[default]
    Usual,
    /// The packet arrived long after packets that were sent after it.
    Late,
    /// The packet has the numbers of an earlier packet, but was sent later: the sender restarted with equal numbers.
    Repeated,
}

/// The newest arrivals of one stream, in a ring.
#[derive(Clone, Debug, Default)]
pub(super) struct ArrivedNumbers {
    arrivals: Vec<NumberedArrival>,
    /// Index of the oldest arrival, once the ring is full.
    oldest: usize,
}

/// Sequence number, RTP timestamp and track (group with about the same lag) of a packet that arrived.
#[derive(Clone, Copy, Debug)]
struct NumberedArrival {
    time: u32,
    sequence: SequenceNumber,
    track: u16,
}

/// The packets directly before and after a sequence number, among those that arrived.
#[derive(Clone, Copy, Debug, Default)]
struct NearestArrivals {
    before: Option<NumberedArrival>,
    after: Option<NumberedArrival>,
}

impl ArrivedNumbers {
    /// Records the arrival of a packet on a track (group with about the same lag).
    pub(super) fn add(&mut self, timing: PacketTiming, track: usize) {
        // There are at most 4,096 tracks.
        let arrival = NumberedArrival { time: timing.time, sequence: timing.sequence, track: track as u16 };
        if self.arrivals.len() < KEPT {
            self.arrivals.push(arrival);
        } else if let Some(oldest) = self.arrivals.get_mut(self.oldest) {
            *oldest = arrival;
            self.oldest = (self.oldest + 1) % KEPT;
        }
    }

    /// Returns the track (packets with about the same lag) to which a packet belongs because it fills a gap. No packet
    /// with its sequence number arrived, but one with a higher number did. Its timestamp must lie where the number
    /// does: between the timestamps of its neighbours.
    pub(super) fn track_with_gap(&self, timing: PacketTiming) -> Option<usize> {
        let NearestArrivals { before, after } = self.nearest(timing.sequence)?;
        let after = after?;
        let missing = after.sequence.wrapping_sub(timing.sequence);
        let until_after = after.time.wrapping_sub(timing.time);
        let fits = match (timing.unit, before) {
            // Useless timestamps say nothing about the place of a packet.
            (TimingUnit::Packets(_) | TimingUnit::Joined { .. }, _) => true,
            (TimingUnit::Ticks(_), Some(before)) => {
                let span = after.time.wrapping_sub(before.time);
                span.cast_signed() >= 0 && until_after <= span
            }
            // The packet was sent before all others. So its timestamp must be exactly that of its sequence number.
            (TimingUnit::Ticks(_), None) => self
                .arrivals
                .iter()
                .find(|next| next.sequence == after.sequence.wrapping_add(1))
                .is_some_and(|next| until_after == next.time.wrapping_sub(after.time).wrapping_mul(missing.into())),
        };
        fits.then_some(usize::from(after.track))
    }

    /// Returns whether a packet with the same sequence number and timestamp arrived.
    pub(super) fn has(&self, timing: PacketTiming) -> bool {
        self.arrivals.iter().any(|known| known.sequence == timing.sequence && known.time == timing.time)
    }

    /// Returns the packets that arrived with the nearest lower and the nearest higher sequence number. Returns `None`
    /// if a packet with this number arrived.
    fn nearest(&self, sequence: SequenceNumber) -> Option<NearestArrivals> {
        let mut nearest = NearestArrivals::default();
        let near = |known: &NumberedArrival| known.sequence.distance_from(sequence);
        for arrival in &self.arrivals {
            match near(arrival) {
                0 => return None,
                ahead if ahead > 0 && nearest.after.as_ref().is_none_or(|after| ahead < near(after)) => {
                    nearest.after = Some(*arrival);
                }
                ahead if ahead < 0 && nearest.before.as_ref().is_none_or(|before| ahead > near(before)) => {
                    nearest.before = Some(*arrival);
                }
                _ => {}
            }
        }
        let is_near = |arrival: &NumberedArrival| usize::from(near(arrival).unsigned_abs()) <= KEPT;
        nearest.before = nearest.before.filter(is_near);
        nearest.after = nearest.after.filter(is_near);
        Some(nearest)
    }
}

/// Number of arrivals that are remembered: 5 s with packets of 10 ms. The player waits no longer for a late packet.
const KEPT: usize = 512;
