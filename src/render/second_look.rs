//! Examines a stream again if its timestamps do not fit the arrival times of its packets.
//!
//! The *lag* of a packet is its arrival time minus its media time; a *track* is a group of packets with about the same
//! lag. A stream is doubtful if new tracks begin every few packets, or if its lag changes by more than drift and jitter
//! explain. The first pass then runs again for the doubtful streams: once with the RTP clock rate that the SDP
//! announces, and once by counting packets. The detected clock rate is replaced only if the lag is clearly steadier in
//! one of these runs.
//!
//! A stream is also examined again if its timestamps nearly, but not quite, advance by the same amount from packet to
//! packet. Its packets are then joined at the durations of their sound ([`super::joined_stamps`]).
//!
//! Quirk `leaping_stamps`: a sender adds 20 ms to its timestamps every second while its packets leave evenly
//! (FreeSWITCH issue 963).

use super::timeline::LagTrack;

/// How the first rendering pass finds the RTP clock rate of a format, by which it turns RTP timestamps into times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ClockPolicy {
    /// The RTP clock rate is detected: it must fit the timestamps, the durations of the packets' sound and the arrival
    /// times.
    #[default]
    Detect,
    /// The RTP clock rate that the SDP announces is used, even if timestamps and arrival times disagree with it.
    Announced,
    /// The RTP timestamps are not used. If the format allows it, sequence numbers and durations of the packets give the
    /// times.
    Counted,
    /// The RTP timestamps are used, but packets that follow each other without a pause are joined at the durations of
    /// their sound.
    Joined,
}

impl ClockPolicy {
    /// Other ways to get the times of packets, in the order in which they are tried.
    pub(super) const ALTERNATIVES: [Self; 3] = [Self::Joined, Self::Announced, Self::Counted];
}

/// How well the timestamps of a stream agree with its arrival times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TimelineFit {
    packets: u64,
    tracks: u64,
    /// The largest change of the lag (arrival minus media time) within a track, i.e. a group of packets with about the
    /// same lag, ns.
    wander_ns: i64,
    /// The largest change of the lag (arrival minus media time) between two consecutive pauses of the sender, ns.
    run_wander_ns: i64,
    /// The longest time between two consecutive pauses of the sender, ns.
    run_ns: i64,
    /// Number of pauses of the sender within tracks, i.e. groups of packets with about the same lag.
    pauses: u64,
    /// The longest duration of a track (packets with about the same lag) from its first to its last packet, ns.
    span_ns: i64,
    /// Number of packets with timestamps that nearly, but not quite, advanced as expected.
    misfits: u32,
    policy: ClockPolicy,
}

impl TimelineFit {
    /// Returns how well a stream's timestamps fit its arrival times. The result is computed from the stream's tracks
    /// (groups of packets with about the same lag). `misfits` is the number of packets with timestamps that nearly, but
    /// not quite, advanced as expected.
    pub(super) fn of(tracks: &[LagTrack], misfits: u32, policy: ClockPolicy) -> Self {
        Self {
            misfits,
            policy,
            packets: tracks.iter().map(|track| u64::from(track.packets())).sum(),
            tracks: tracks.len() as u64,
            wander_ns: tracks.iter().map(LagTrack::wander_ns).max().unwrap_or(0),
            run_wander_ns: tracks.iter().map(LagTrack::wander_between_pauses_ns).max().unwrap_or(0),
            run_ns: tracks.iter().map(LagTrack::longest_run_ns).max().unwrap_or(0),
            pauses: tracks.iter().map(LagTrack::pauses).sum(),
            span_ns: tracks.iter().filter_map(LagTrack::span).map(|(from, to)| to - from).max().unwrap_or(0),
        }
    }

    /// Returns whether the stream should be examined again with another policy, because its timestamps fit the arrival
    /// times or each other too badly.
    pub(super) fn is_doubtful(&self, policy: ClockPolicy) -> bool {
        match policy {
            ClockPolicy::Joined => self.misfits > 0,
            _ => {
                // A timestamp that wanders shows the end of a pause only roughly. So joined packets are compared between
                // pauses.
                let is_joined = self.policy == ClockPolicy::Joined;
                let (wander_ns, within_ns) =
                    if is_joined { (self.run_wander_ns, self.run_ns) } else { (self.wander_ns, self.span_ns) };
                let is_unsteady = self.packets >= MIN_PACKETS && wander_ns > JITTER_NS + drift_ns(within_ns);
                self.is_scattered() || is_unsteady
            }
        }
    }

    /// Returns whether this timeline, which a policy gave, replaces `other`, which has the same packets.
    pub(super) fn replaces(&self, other: &Self, policy: ClockPolicy) -> bool {
        match policy {
            ClockPolicy::Joined => self.joins_misfits_of(other),
            _ => self.is_calmer_than(other),
        }
    }

    /// Returns whether packets with misfitting timestamps were joined in this timeline, and it is as steady as `other`.
    /// It may be a little less steady at pauses of the sender. If the durations of the packets were wrong, the lag
    /// (arrival minus media time) would change ever more.
    fn joins_misfits_of(&self, other: &Self) -> bool {
        let most_in_run_ns = other.run_wander_ns.max(CALM_NS + drift_ns(self.run_ns));
        let most_at_pauses_ns = PAUSE_ERROR_NS.saturating_mul(i64::try_from(self.pauses).unwrap_or(i64::MAX));
        let most_ns = other.wander_ns.max(CALM_NS + drift_ns(self.span_ns)).saturating_add(most_at_pauses_ns);
        let is_steady = self.run_wander_ns <= most_in_run_ns && self.wander_ns <= most_ns;
        self.misfits > 0 && self.tracks <= other.tracks && is_steady
    }

    /// Returns whether a new track (a group of packets with about the same lag) begins every few packets.
    pub(super) fn is_scattered(&self) -> bool {
        self.tracks >= MANY_TRACKS && self.packets < self.tracks * FEW_PACKETS
    }

    /// Returns whether this timeline is clearly better than `other`, which has the same packets. It is better if it has
    /// far fewer tracks (groups of packets with about the same lag), or if its lag changes far less.
    fn is_calmer_than(&self, other: &Self) -> bool {
        let fewer_tracks = self.tracks * 2 < other.tracks && self.wander_ns <= other.wander_ns.max(CALM_NS);
        let is_steadier = self.tracks <= other.tracks && self.wander_ns * 2 < other.wander_ns;
        // A clock that counts packets cannot measure the length of a pause. So each pause begins a new track (packets
        // with about the same lag). Then only the changes of the lag between pauses are compared.
        let is_steadier_between_pauses = self.tracks <= other.tracks + other.pauses
            && other.run_wander_ns > JITTER_NS
            && self.run_wander_ns * 2 < other.run_wander_ns;
        fewer_tracks || is_steadier || is_steadier_between_pauses
    }

    /// Returns the number of packets of the stream that are in its tracks (groups with about the same lag).
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }
}

/// Returns the largest change of the lag (arrival minus media time) that the drift of a clock explains within a time,
/// ns.
const fn drift_ns(within_ns: i64) -> i64 {
    within_ns / 1_000_000 * MAX_DRIFT_PPM
}

/// Minimum number of packets (1 s at 20 ms) before a change of the lag (arrival minus media time) makes the RTP clock
/// rate doubtful. Fewer packets show no trend.
const MIN_PACKETS: u64 = 50;
/// Maximum change of the lag (arrival minus media time) that counts as jitter, ns. A single leap of the timestamps by
/// 20 ms is larger, so it is not taken for jitter. A limit that is too low does no harm: a good stream is examined
/// twice, which only costs time.
const JITTER_NS: i64 = 12_000_000;
/// Maximum drift of the clocks in devices, parts per million.
const MAX_DRIFT_PPM: i64 = 500;
/// Maximum change of the lag (arrival minus media time) in a timeline that replaces another because it has far fewer
/// tracks, ns. A larger change is accepted only if the other timeline has it, too.
const CALM_NS: i64 = 40_000_000;
/// Maximum mean change of the lag (arrival minus media time) at each pause of a sender whose packets are joined, ns. A
/// timestamp that wanders shows the end of a pause only roughly, but its errors cancel out over many pauses.
const PAUSE_ERROR_NS: i64 = 2_000_000;
/// Minimum number of tracks (sets of packets of about the same lag) in a stream that counts as scattered. Holds and
/// clock resets of a usual call make fewer.
const MANY_TRACKS: u64 = 8;
/// Minimum mean number of packets in a track (group with about the same lag): a fifth of a second at 20 ms a packet. A
/// stream with fewer counts as scattered over too many tracks.
const FEW_PACKETS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::SequenceNumber;
    use crate::render::rtp_clock::{PacketTiming, TimestampUnwrapper, TimingUnit};

    /// Returns how well the timestamps of talk spurts fit, each with `packets` packets of 20 ms and a pause of 1 s. One
    /// timestamp leaps by 2 ticks.
    fn fit(policy: ClockPolicy, packets: i64, unit: TimingUnit) -> TimelineFit {
        let mut unwrapper = TimestampUnwrapper::default();
        let mut tracks: Vec<LagTrack> = Vec::new();
        for n in 0..30_000_i64 {
            let at_ms = n * 20 + n / packets * 1_000;
            let time = (at_ms * 8 + if n > 10 { 2 } else { 0 }) as u32;
            let timing = PacketTiming { time, sequence: SequenceNumber(n as u16), unit };
            let position = unwrapper.handle_packet(at_ms * 1_000_000, timing);
            tracks.resize_with(tracks.len().max(position.track + 1), LagTrack::default);
            tracks[position.track].handle_packet(at_ms * 1_000_000, &position);
        }
        TimelineFit::of(&tracks, unwrapper.misfits() + unwrapper.joined_misfits(), policy)
    }

    #[test]
    fn packets_are_joined_at_right_durations_only() {
        for packets in [40, 80, 120, 30_000] {
            let stamped = fit(ClockPolicy::Detect, packets, TimingUnit::Ticks(8_000));
            for (length_us, expected) in [(20_000, true), (20_500, false), (21_250, false), (15_000, false)] {
                let unit = TimingUnit::Joined { clock_hz: 8_000, length_ns: length_us * 1_000 };
                let joined = fit(ClockPolicy::Joined, packets, unit);
                let name = format!("{packets} packets of {length_us} us: {joined:?}");
                assert_eq!(joined.replaces(&stamped, ClockPolicy::Joined), expected, "{name}");
            }
        }
    }
}
