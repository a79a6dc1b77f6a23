//! Joins the packets of a sender whose timestamps wander around the durations of the packets' sound.
//!
//! Quirk `wandering_stamps`: a sender takes each timestamp from its wall clock when the packet leaves, e.g. in whole
//! milliseconds. Or its timestamps leap by a few milliseconds now and then. The sound has neither gaps nor overlaps
//! there.
//!
//! Packets of the same duration are joined while their timestamps stay near. The sound of each then begins where the
//! sound of the packet before ends. The duration of lost packets counts, too. The timestamps count as near if they are
//! less than a packet away from their mean course. A timestamp further away is a pause or a jump, which the media time
//! follows. The lag (arrival minus media time) of joined packets shows the drift of the sender's clock, which the
//! timeline follows.

use super::rtp_clock::MIN_MISFIT_NS;
use crate::net::SequenceNumber;

/// The course of the timestamps of one stream, compared with the durations of its sound.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JoinedStamps {
    newest: Option<JoinedPacket>,
    /// Mean time by which the timestamps are ahead of the media time, ns.
    ahead_ns: i64,
    /// Number of packets since the last pause or jump, at most [`MEAN_OF`]. The newest packet counts as one of them in
    /// the mean.
    packets: i64,
    /// Number of packets with timestamps that misfit the duration of the packet before.
    misfits: u32,
}

/// A packet and its media time.
#[derive(Clone, Copy, Debug)]
struct JoinedPacket {
    sequence: SequenceNumber,
    /// Media time that the timestamp gives, ns.
    stamp_ns: i64,
    media_ns: i64,
    length_ns: i64,
}

impl JoinedStamps {
    /// Returns the media time of the next packet, ns. `stamp_ns` is the media time that its timestamp gives, and
    /// `length_ns` is the duration of its sound.
    #[cold]
    pub(super) fn media_ns(&mut self, stamp_ns: i64, sequence: SequenceNumber, length_ns: i64) -> i64 {
        let joins = self.newest.and_then(|newest| self.joined(newest, stamp_ns, sequence, length_ns));
        let media_ns = joins.unwrap_or(stamp_ns.saturating_sub(self.ahead_ns));
        let now = JoinedPacket { sequence, stamp_ns, media_ns, length_ns };
        match (joins, self.newest) {
            // A late packet says nothing about the packets after it.
            (Some(media_ns), Some(newest)) if sequence.distance_from(newest.sequence) <= 0 => return media_ns,
            (Some(media_ns), Some(newest)) => {
                let off_ns = (stamp_ns - newest.stamp_ns) - (media_ns - newest.media_ns);
                let is_next = sequence.distance_from(newest.sequence) == 1;
                self.misfits = self.misfits.saturating_add((is_next && off_ns.abs() >= MIN_MISFIT_NS).into());
                self.packets = (self.packets + 1).min(MEAN_OF);
                self.ahead_ns += (stamp_ns - media_ns - self.ahead_ns) / self.packets;
            }
            _ => self.packets = 1,
        }
        self.newest = Some(now);
        now.media_ns
    }

    /// Returns the number of packets with timestamps that misfit the duration of the packet before.
    pub(super) const fn misfits(&self) -> u32 {
        self.misfits
    }

    /// Returns the media time of a packet that is joined to the newest packet. Returns `None` after a pause or a jump,
    /// or if the durations of both differ.
    fn joined(&self, newest: JoinedPacket, stamp_ns: i64, sequence: SequenceNumber, length_ns: i64) -> Option<i64> {
        let steps = i64::from(sequence.distance_from(newest.sequence));
        let media_ns = newest.media_ns.saturating_add(steps.saturating_mul(length_ns));
        let off_ns = stamp_ns.saturating_sub(self.ahead_ns).saturating_sub(media_ns);
        (newest.length_ns == length_ns && off_ns.saturating_abs() < length_ns).then_some(media_ns)
    }
}

/// Number of packets over which the course of the timestamps is averaged: a third of a second at 20 ms a packet.
const MEAN_OF: i64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH_NS: i64 = 20_000_000;

    /// Returns the media times of packets, in ms, whose timestamps are these numbers of milliseconds.
    fn media_ms(stamps_ms: &[i64]) -> Vec<i64> {
        let mut joined = JoinedStamps::default();
        let packets = (0_u16..).zip(stamps_ms);
        packets.map(|(n, ms)| joined.media_ns(ms * 1_000_000, SequenceNumber(n), LENGTH_NS) / 1_000_000).collect()
    }

    #[test]
    fn wandering_stamps_give_even_media_times() {
        assert_eq!(media_ms(&[0, 19, 41, 62, 78, 101, 120]), [0, 20, 40, 60, 80, 100, 120]);
    }

    #[test]
    fn pause_and_jump_are_taken_from_the_timestamps() {
        assert_eq!(media_ms(&[0, 20, 40, 340, 360, 380, 40, 60]), [0, 20, 40, 340, 360, 380, 40, 60]);
        // After a leap of 5 ms, the timestamps stay ahead by 5 ms, also over the pause.
        let ahead: Vec<i64> =
            (0..200).map(|n| n * 20 + if n < 50 { 0 } else { 5 } + if n < 150 { 0 } else { 300 }).collect();
        let even: Vec<i64> = (0..200).map(|n| n * 20 + if n < 150 { 0 } else { 300 }).collect();
        assert_eq!(media_ms(&ahead), even);
    }

    #[test]
    fn stamps_that_fit_stay_as_they_are() {
        let stamps: Vec<i64> = (0..50).map(|n| n * 20 + n / 10 * 100).collect();
        assert_eq!(media_ms(&stamps), stamps);
    }
}
