//! Extends the 16-bit sequence numbers of a stream to numbers that count on over the whole call (RFC 3550 appendix
//! A.1).
//!
//! A step of more than [`MAX_DROPOUT`] forward or back means that the sender restarted its numbers. A smaller step back
//! is a late packet, or also a restart, e.g. from 0 at each hold. The RTP timestamps show which of the two applies. A
//! late packet is not played.

use crate::net::SequenceNumber;
use std::time::Duration;

use crate::render::arrived_numbers::ArrivalOrder;
use crate::render::plan::PlayoutTime;
use crate::time::Timestamp;

/// Extends the 16-bit sequence numbers of one stream to 64 bits, and finds missing packets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SequenceOrder {
    newest: Option<u64>,
    /// Arrival and media time of the newest packet that had a playout time; `None` before the first such packet.
    mark: Option<SequenceMark>,
    next: Option<u64>,
    /// The last restart of the sequence numbers, if it was recent. The first value is the newest number before the
    /// restart. When the numbers reach the second value, the restart is forgotten.
    before_restart: Option<(u64, u64)>,
    /// Number of packets without sound since the last played packet. They count as lost.
    silent: u64,
    /// Whether numbers missing before the next packet do not count as lost.
    accepts_gap: bool,
}

/// Arrival time, media time and track (group with about the same lag) of a packet. They distinguish a late packet from
/// a restart of the sequence numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct SequenceMark {
    media_ns: i64,
    /// Arrival time of the packet.
    at: Timestamp,
    track: usize,
    order: ArrivalOrder,
}

impl SequenceMark {
    /// Creates a mark from the packet's arrival time and its playout time, which contains the media time and the track.
    pub(super) fn new(at: Timestamp, playout: PlayoutTime) -> Self {
        Self { media_ns: playout.media_ns, at, track: playout.segment.0, order: playout.order }
    }

    /// Returns whether this packet was sent before the packet `newest` and is only late. Its media time must not be
    /// later. It must fill a gap, or be in the same track (group with about the same lag). Or its delay is possible for a
    /// late packet. `step` is the difference of both sequence numbers.
    fn was_sent_before(&self, newest: Self, step: i64) -> bool {
        let lag_grew_ns = self.at.nanos_since(newest.at).saturating_add(newest.media_ns - self.media_ns);
        let as_late = step > -MAX_MISORDER && u128::try_from(lag_grew_ns).is_ok_and(|ns| ns < MAX_LATENESS.as_nanos());
        let is_late = match self.order {
            ArrivalOrder::Late => true,
            ArrivalOrder::Repeated => false,
            ArrivalOrder::Usual => self.track == newest.track || as_late,
        };
        is_late && self.media_ns <= newest.media_ns
    }
}

impl SequenceOrder {
    /// Returns the extended number of a packet; `None` if a packet with a higher number was already played, so that
    /// this packet is too late. `mark` is `None` for a packet without a playout time.
    pub(super) fn extend(&mut self, sequence: SequenceNumber, mark: Option<SequenceMark>) -> Option<u64> {
        let Some(newest) = self.newest else {
            return Some(self.set_newest(FIRST_CYCLE + u64::from(sequence.0), mark));
        };
        let step = step_to(sequence, newest);
        if step > 1 && std::mem::take(&mut self.accepts_gap) {
            self.before_restart = None;
            return Some(self.set_newest(in_next_cycle(newest, sequence), mark));
        }
        // A stray packet seemed to restart the numbers, but this packet continues the numbers from before it. So the
        // old numbers go on.
        let returns = step != 1
            && self
                .before_restart
                .is_some_and(|(before_restart, _)| step_to(sequence, before_restart).abs() < step.abs());
        if returns || step.abs() > MAX_DROPOUT || (step <= 0 && self.is_restart(step, mark)) {
            let extended = in_next_cycle(newest, sequence);
            self.before_restart = Some((newest, extended + MAX_MISORDER as u64));
            return Some(self.set_newest(extended, mark));
        }
        let extended = newest.saturating_add_signed(step);
        if step > 0 {
            self.before_restart = self.before_restart.filter(|(_, until)| extended < *until);
            self.set_newest(extended, mark);
        }
        self.next.is_none_or(|next| extended >= next).then_some(extended)
    }

    /// Returns whether this number directly follows the number of the last packet played.
    pub(super) fn is_next(&self, sequence: u64) -> bool {
        self.next == Some(sequence)
    }

    /// Records that a packet is played. Returns the number of packets missing before it.
    pub(super) fn advance(&mut self, sequence: u64) -> u64 {
        let lost = self.next.map_or(0, |next| sequence.saturating_sub(next));
        self.next = Some(sequence + 1);
        let lost = lost + std::mem::take(&mut self.silent);
        if lost > MAX_DROPOUT as u64 { 0 } else { lost }
    }

    /// Makes numbers that are missing before the next packet not count as lost.
    pub(super) const fn accept_gap(&mut self) {
        self.accepts_gap = true;
    }

    /// Records that the packet just played gave no sound. It counts as lost, so the next packet finds a gap.
    pub(super) fn count_as_lost(&mut self) {
        self.silent += 1;
    }

    fn set_newest(&mut self, extended: u64, mark: Option<SequenceMark>) -> u64 {
        self.newest = Some(extended);
        self.mark = mark.or(self.mark);
        extended
    }

    fn is_restart(&self, step: i64, mark: Option<SequenceMark>) -> bool {
        match (mark, self.mark) {
            (Some(mark), Some(newest)) => !mark.was_sent_before(newest, step),
            _ => step <= -MAX_MISORDER,
        }
    }
}

/// Returns the extended number of a packet after a gap that counts as no loss. It skips one whole cycle of 65,536
/// numbers, so that no packet counts as lost or late.
const fn in_next_cycle(newest: u64, sequence: SequenceNumber) -> u64 {
    (newest | 0xFFFF) + 1 + 0x1_0000 + sequence.0 as u64
}

/// Returns by how many packets a 16-bit sequence number is ahead of an extended number; negative if it is behind. Of
/// all extended numbers for which the 16-bit number can stand, the nearest is assumed.
fn step_to(sequence: SequenceNumber, from: u64) -> i64 {
    i64::from(sequence.distance_from(SequenceNumber(from as u16)))
}

/// Maximum step forward, in packets, that does not mean a restart (RFC 3550 appendix A.1).
const MAX_DROPOUT: i64 = 3_000;
/// Maximum step back of a late packet, in packets: 2 s at 20 ms (RFC 3550 appendix A.1). A larger step is a restart.
const MAX_MISORDER: i64 = 100;
/// Maximum delay of a packet that the spool reader still sorts into its place.
const MAX_LATENESS: Duration = Duration::from_secs(5);
/// Number that is added to the first sequence number of a stream, so that packets from before it have positive numbers,
/// too.
const FIRST_CYCLE: u64 = 0x10_0000;
