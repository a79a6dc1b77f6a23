//! Unwraps the RTP timestamps of one stream: 32-bit timestamps become media time, and packets are assigned to tracks.
//!
//! *Media time* is the stream's own time in nanoseconds. The *lag* of a packet is its arrival minus its media time.
//! While the sender's timestamps advance evenly, the lag is constant except for jitter and drift. If the timestamps are
//! useless, sequence numbers and packet durations give the media time instead.
//!
//! A *track* is a set of packets with about the same lag. A jump of the timestamps begins a new track, e.g. a reset or
//! a pause that the timestamps do not count. A late packet stays in its track, however late it is: its sequence number
//! and timestamp fill a gap in that track. Both rendering passes handle the same packets in the same order, so they get
//! the same tracks.

use std::time::Duration;

use super::arrived_numbers::{ArrivalOrder, ArrivedNumbers};
use super::joined_stamps::JoinedStamps;
use crate::net::SequenceNumber;

/// The position of a packet on the stream's own timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MediaPosition {
    /// Media time of the packet: its time on the sender's own clock, ns.
    pub(super) media_ns: i64,
    /// Lag of the packet, ns: its arrival (since the stream's first packet) minus its media time.
    pub(super) lag_ns: i64,
    /// Number of the track (packets with about the same lag) to which the packet belongs.
    pub(super) track: usize,
    /// Index of the packet within its track (packets with about the same lag), from 0. A packet that is late for long
    /// has the index of the track's newest packet.
    pub(super) index: u32,
    pub(super) order: ArrivalOrder,
}

/// Unwraps the timestamps of one stream, and remembers its tracks (groups of packets with about the same lag).
#[derive(Clone, Debug, Default)]
pub(super) struct TimestampUnwrapper {
    /// The RTP clock rate by which timestamps are read now, with its start; `None` before the first packet.
    base: Option<ClockBase>,
    joined: JoinedStamps,
    tracks: Vec<TrackTail>,
    /// Indices of the two tracks (packets with about the same lag) used last, the latest first.
    recent: [Option<usize>; 2],
    arrived: ArrivedNumbers,
    /// The largest delay of a packet that others overtook by more than the usual jitter, ns.
    latest_ns: i64,
    /// Highest sequence number since the sender last restarted its numbers; `None` before the first packet.
    newest: Option<SequenceNumber>,
}

/// The fields of a packet that give its media time.
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketTiming {
    /// RTP timestamp of the packet, in ticks of the RTP clock.
    pub(super) time: u32,
    /// Sequence number of the packet.
    pub(super) sequence: SequenceNumber,
    /// How the media time from this packet to the next packet of the stream is measured.
    pub(super) unit: TimingUnit,
}

/// How the media time between two packets is measured.
#[derive(Clone, Copy, Debug)]
pub(super) enum TimingUnit {
    /// Measured by the difference of the packets' RTP timestamps. The value is the clock rate of the timestamps, Hz.
    Ticks(u32),
    /// Measured by the difference of the packets' sequence numbers. The value is the duration of this packet's sound,
    /// ns.
    Packets(i64),
    /// Measured by the difference of the packets' RTP timestamps, or by the durations of the packets' sound if both
    /// nearly agree.
    Joined {
        /// Clock rate of the timestamps, Hz.
        clock_hz: u32,
        /// Duration of this packet's sound, ns.
        length_ns: i64,
    },
}

#[derive(Clone, Copy, Debug)]
struct ClockBase {
    clock_hz: u32,
    media_ns: i64,
    /// Sum of timestamp differences since the current RTP clock came into use, ticks.
    ticks: i64,
    last: PacketTiming,
    /// The last difference between the timestamps of two packets with consecutive sequence numbers, ticks.
    step: i64,
    /// Number of such differences that are nearly, but not quite, the difference before.
    misfits: u32,
    /// Number of such differences that are half or twice the difference before.
    doubles: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct TrackTail {
    /// Lag of the newest packet that no packet sent after it overtook, or a smaller lag of an overtaken one, ns.
    lag_ns: i64,
    packets: u32,
    /// Number of times that the stream changed to this track.
    runs: u32,
    /// Number of packets that a packet sent after them had overtaken.
    overtaken: u32,
}

impl TrackTail {
    /// Adds a packet. Returns its index within the track.
    fn add(&mut self, lag_ns: i64, is_overtaken: bool) -> u32 {
        // The larger lag of an overtaken packet says nothing about the packets after it.
        self.lag_ns = if is_overtaken { self.lag_ns.min(lag_ns) } else { lag_ns };
        self.overtaken += u32::from(is_overtaken);
        let index = self.packets;
        self.packets = self.packets.saturating_add(1);
        index
    }
}

impl TimestampUnwrapper {
    /// Returns the position (media time, lag and track) of the next packet. Packets must be passed in order of arrival.
    /// `at_ns` is the arrival since the stream's first packet, ns.
    pub(super) fn handle_packet(&mut self, at_ns: i64, timing: PacketTiming) -> MediaPosition {
        let media_ns = self.media_ns(at_ns, timing);
        let lag_ns = at_ns - media_ns;
        let fits = |&track: &usize| (self.tracks[track].lag_ns - lag_ns).abs() < SAME_TRACK_NS;
        let known = self.recent.iter().flatten().copied().find(|track| fits(track));
        let ahead = self.newest.map_or(1, |newest| timing.sequence.distance_from(newest));
        let is_overtaken = (-MAX_OVERTAKEN..0).contains(&ahead);
        let may_repeat = is_overtaken || ahead == 0;
        let (track, order) = match known {
            Some(track) if !may_repeat || !self.is_repeated(timing, lag_ns - self.tracks[track].lag_ns) => {
                (track, ArrivalOrder::Usual)
            }
            Some(_) => (self.begin_track(lag_ns), ArrivalOrder::Repeated),
            None => match self.late_position(timing, media_ns, lag_ns) {
                Some(late) => return late,
                None if self.is_repeated(timing, i64::MAX) => (self.begin_track(lag_ns), ArrivalOrder::Repeated),
                None => (self.begin_track(lag_ns), ArrivalOrder::Usual),
            },
        };
        let is_overtaken = is_overtaken && order != ArrivalOrder::Repeated;
        if !is_overtaken {
            self.newest = Some(timing.sequence);
        }
        if self.recent[0] != Some(track) {
            self.recent = [Some(track), self.recent[0]];
            self.tracks[track].runs += 1;
        }
        self.arrived.add(timing, track);
        let index = self.tracks[track].add(lag_ns, is_overtaken);
        MediaPosition { media_ns, lag_ns, track, index, order }
    }

    /// Returns whether a packet repeats the numbers of an earlier packet because the sender restarted with equal
    /// numbers. The call engine keeps no copies. `later_ns` is the lag of the packet minus the lag of the packets
    /// before it, ns.
    #[cold]
    fn is_repeated(&self, timing: PacketTiming, later_ns: i64) -> bool {
        later_ns >= MIN_REPEATED_NS && self.arrived.has(timing)
    }

    /// Returns the position of a packet that fills a gap of an earlier track (group with about the same lag). Its lag is
    /// much larger than that of the track. Returns `None` for other packets.
    #[cold]
    fn late_position(&mut self, timing: PacketTiming, media_ns: i64, lag_ns: i64) -> Option<MediaPosition> {
        let track = self.arrived.track_with_gap(timing)?;
        let late_ns = lag_ns - self.tracks.get(track)?.lag_ns;
        if late_ns < 0 {
            return None;
        }
        self.latest_ns = self.latest_ns.max(late_ns);
        self.arrived.add(timing, track);
        let index = self.newest_index(track);
        Some(MediaPosition { media_ns, lag_ns, track, index, order: ArrivalOrder::Late })
    }

    /// Begins a track (group with about the same lag), and returns its number.
    #[cold]
    fn begin_track(&mut self, lag_ns: i64) -> usize {
        if self.tracks.len() < MAX_TRACKS {
            self.tracks.push(TrackTail { lag_ns, ..TrackTail::default() });
        }
        self.tracks.len() - 1
    }

    /// Returns the index that the newest packet of a track (packets with about the same lag) has within the track.
    pub(super) fn newest_index(&self, track: usize) -> u32 {
        self.tracks.get(track).map_or(0, |tail| tail.packets.saturating_sub(1))
    }

    /// Returns the largest delay of a packet that others overtook by more than the usual jitter.
    pub(super) fn latest(&self) -> Duration {
        Duration::from_nanos(self.latest_ns.unsigned_abs())
    }

    /// Returns whether most packets of a track (group with about the same lag) may be late packets of another track.
    /// They came one or two at a time, or packets sent after them overtook many of them. A sender that changes its
    /// timestamps sends more packets in a row, and its older packets do not go on.
    pub(super) fn may_be_late(&self, track: usize) -> bool {
        self.tracks.get(track).is_some_and(|tail| {
            let comes_singly = tail.packets < tail.runs.max(1).saturating_mul(MIN_TRACK_PACKETS);
            let overtaken = u64::from(tail.overtaken);
            comes_singly || (overtaken >= 2 && overtaken * OVERTAKEN_PARTS >= tail.packets.into())
        })
    }

    /// Returns the number of packets with timestamps that nearly, but not quite, advanced as that of the packet before.
    /// Joined packets do not count. A step of twice the usual one is a pause of one packet, unless it comes often. A
    /// clock of 16 ms gives packets of 20 ms steps of 16 and 32 ms.
    pub(super) fn misfits(&self) -> u32 {
        let packets: u64 = self.tracks.iter().map(|track| u64::from(track.packets)).sum();
        self.base.map_or(0, |base| {
            let is_often = u64::from(base.doubles) * OFTEN_PARTS > packets;
            base.misfits.saturating_add(if is_often { base.doubles } else { 0 })
        })
    }

    /// Returns the number of joined packets with timestamps that misfit the duration of the packet before.
    pub(super) const fn joined_misfits(&self) -> u32 {
        self.joined.misfits()
    }

    fn media_ns(&mut self, at_ns: i64, timing: PacketTiming) -> i64 {
        let due_ns = at_ns - self.recent[0].map_or(0, |track| self.tracks[track].lag_ns);
        let base = self.base.get_or_insert_with(|| ClockBase::new(at_ns, timing));
        let last = std::mem::replace(&mut base.last, timing);
        match timing.unit {
            TimingUnit::Ticks(clock_hz) => {
                let ticks = base.add_ticks(clock_hz, last, due_ns);
                if ticks != base.step {
                    base.handle_odd_step(ticks, last);
                }
            }
            TimingUnit::Joined { clock_hz, length_ns } => {
                base.add_ticks(clock_hz, last, due_ns);
                let stamp_ns = base.media_ns + ticks_to_ns(base.ticks, base.clock_hz);
                return self.joined.media_ns(stamp_ns, timing.sequence, length_ns);
            }
            TimingUnit::Packets(length_ns) => {
                base.rebase();
                let steps = i64::from(timing.sequence.wrapping_sub(last.sequence) as i16);
                // If the timestamps are useless and packets are counted instead, the media time advances by the
                // duration of the earlier packet's sound.
                let earlier_ns = match last.unit {
                    TimingUnit::Packets(last_ns) if steps > 0 => last_ns,
                    _ => length_ns,
                };
                base.media_ns = base.media_ns.saturating_add(steps.saturating_mul(earlier_ns));
            }
        }
        base.media_ns + ticks_to_ns(base.ticks, base.clock_hz)
    }
}

impl ClockBase {
    const fn new(at_ns: i64, first: PacketTiming) -> Self {
        Self { clock_hz: 1, media_ns: at_ns, ticks: 0, last: first, step: 0, misfits: 0, doubles: 0 }
    }

    /// Adds the difference between the RTP timestamps of the packet `last` and the newest packet, and returns it. The
    /// newest packet has timestamps of `clock_hz`, and is expected at the media time `due_ns`.
    #[inline]
    fn add_ticks(&mut self, clock_hz: u32, last: PacketTiming, due_ns: i64) -> i64 {
        let clock_hz = clock_hz.max(1);
        // RFC 3550 section 5.1: timestamps wrap at 2^32. The shorter way round, forward or back, is assumed, so packets
        // may arrive in any order.
        let ticks = i64::from(self.last.time.wrapping_sub(last.time) as i32);
        if self.clock_hz == clock_hz {
            self.ticks += ticks;
        } else {
            self.change_clock(clock_hz, ticks, due_ns);
        }
        ticks
    }

    /// Handles a timestamp that advanced by another difference than the timestamp of the packet before. A difference
    /// of about the usual one is a misfit. Others are pauses or jumps.
    #[cold]
    fn handle_odd_step(&mut self, ticks: i64, last: PacketTiming) {
        if self.last.sequence.wrapping_sub(last.sequence) == 1 {
            let (off, least) = ((ticks - self.step).abs(), ticks.min(self.step));
            let is_misfit = off < least && ticks_to_ns(off, self.clock_hz) >= MIN_MISFIT_NS;
            self.misfits = self.misfits.saturating_add(is_misfit.into());
            self.doubles = self.doubles.saturating_add((off == least).into());
            self.step = ticks;
        }
    }

    /// Switches to another clock rate from this packet on. `ticks` is the difference between the RTP timestamps of this
    /// packet and the last packet. `due_ns` is the media time of this packet if its lag equals the lag of the last
    /// packet.
    ///
    /// By RFC 7160 section 4.1, the difference is in ticks of the former clock. Some senders give it in ticks of the
    /// new clock. So the clock that agrees better with the arrival time is used.
    #[cold]
    fn change_clock(&mut self, clock_hz: u32, ticks: i64, due_ns: i64) {
        let former_hz = self.clock_hz;
        self.rebase();
        let after = [former_hz, clock_hz].map(|hz| self.media_ns.saturating_add(ticks_to_ns(ticks, hz)));
        self.media_ns = if after[1].abs_diff(due_ns) < after[0].abs_diff(due_ns) { after[1] } else { after[0] };
        self.media_ns = self.media_ns.clamp(-MAX_MEDIA_NS, MAX_MEDIA_NS);
        self.clock_hz = clock_hz;
    }

    /// Adds the duration of all ticks so far to the media time. Then the next clock rate counts its ticks from 0.
    fn rebase(&mut self) {
        let so_far = self.media_ns.saturating_add(ticks_to_ns(self.ticks, self.clock_hz));
        self.media_ns = so_far.clamp(-MAX_MEDIA_NS, MAX_MEDIA_NS);
        self.ticks = 0;
    }
}

fn ticks_to_ns(ticks: i64, clock_hz: u32) -> i64 {
    // The conversion overflows only after 292 years of ticks, i.e. if timestamps jump by years. Then the media time
    // becomes 0.
    scaled(ticks, 1_000_000_000, clock_hz.into()).unwrap_or(0).clamp(-MAX_MEDIA_NS, MAX_MEDIA_NS)
}

/// Returns `value * by / per`, rounded to zero; `None` if it overflows. It runs for each packet, so it uses a 64-bit
/// division if that suffices, which is several times faster than 128 bits.
pub(super) fn scaled(value: i64, by: i64, per: i64) -> Option<i64> {
    match value.checked_mul(by) {
        Some(product) => product.checked_div(per),
        None => i64::try_from((i128::from(value) * i128::from(by)).checked_div(per.into())?).ok(),
    }
}

/// Maximum difference between the lags (arrival minus media time) of consecutive packets of one track, ns. It exceeds
/// the jitter of any network that carries speech.
const SAME_TRACK_NS: i64 = 200_000_000;
/// Minimum growth of the lag (arrival minus media time) when a sender repeats its numbers, ns. It exceeds usual jitter,
/// and is less than three packets of 5 ms.
const MIN_REPEATED_NS: i64 = 10_000_000;
/// Maximum number of packets that overtake a late packet. A number further back is a restart of the sender's numbers.
const MAX_OVERTAKEN: i16 = 512;
/// Minimum mean number of consecutive packets in a track (group with about the same lag) that counts as a talk spurt. A
/// track with fewer consists of late packets of another track.
const MIN_TRACK_PACKETS: u32 = 3;
/// Minimum share of overtaken packets in a track of late packets is one divided by this number. The first packets of a
/// delayed run arrive before the packets that overtake the others.
const OVERTAKEN_PARTS: u64 = 8;
/// Minimum difference between timestamps and the duration of the sound that counts as a misfit, ns. Two samples at 8 kHz
/// in each packet can be heard.
pub(super) const MIN_MISFIT_NS: i64 = 250_000;
/// Minimum share of steps to half or twice the step before that are no pauses is one divided by this number. A pause
/// gives two such steps, and talk spurts have more packets.
const OFTEN_PARTS: u64 = 8;
/// Maximum magnitude of a media time, ns. It is so small that sums of media times cannot overflow.
const MAX_MEDIA_NS: i64 = i64::MAX / 8;
/// Maximum number of tracks (packets with about the same lag) of one stream. A day-long call with a timestamp reset at
/// each hold has fewer.
const MAX_TRACKS: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of misfits among 800 packets of 20 ms. Their timestamps are in steps of `grain_ms`. After
    /// each 40 packets the sender leaves out one.
    fn misfits(grain_ms: u32) -> u32 {
        let mut unwrapper = TimestampUnwrapper::default();
        for n in 0..800_u16 {
            let at_ms = (u32::from(n) + u32::from(n) / 40) * 20;
            let time = at_ms / grain_ms * grain_ms * 8;
            let timing = PacketTiming { time, sequence: SequenceNumber(n), unit: TimingUnit::Ticks(8_000) };
            unwrapper.handle_packet(i64::from(at_ms) * 1_000_000, timing);
        }
        unwrapper.misfits()
    }

    #[test]
    fn pauses_of_one_packet_are_no_misfits() {
        assert_eq!(misfits(20), 0);
        assert!(misfits(16) > 0);
    }

    #[test]
    fn time_across_a_change_of_the_clock_counts_either_clock() {
        // Each case has three values. The first two are a clock rate in Hz and the ticks of a packet, before and after
        // the change of the clock. The third is the ticks of the first packet after the change.
        for (before, after, ticks) in [
            ((48_000, 960), (8_000, 160), 960),
            ((48_000, 960), (8_000, 160), 160),
            ((8_000, 160), (48_000, 960), 160),
            ((8_000, 160), (16_000, 320), 320),
        ] {
            let mut unwrapper = TimestampUnwrapper::default();
            let mut time = u32::MAX - 5_000;
            for n in 0..40_u16 {
                let (clock_hz, of_packet) = if n < 20 { before } else { after };
                time = time.wrapping_add(if n == 20 { ticks } else { of_packet });
                let timing = PacketTiming { time, sequence: SequenceNumber(n), unit: TimingUnit::Ticks(clock_hz) };
                let position = unwrapper.handle_packet(i64::from(n) * 20_000_000, timing);
                assert_eq!((position.lag_ns, position.track), (0, 0), "{before:?}, {after:?}, {ticks}, packet {n}");
            }
        }
    }
}
