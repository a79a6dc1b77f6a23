//! Examines a stream again if its timestamps do not fit the arrival times of its packets.
//!
//! The *lag* of a packet is its arrival time minus its media time; a *track* is a group of packets with about the same
//! lag. A stream is doubtful if new tracks begin every few packets, or if its lag changes by more than drift and jitter
//! explain. The first pass then runs again for the doubtful streams: once with the RTP clock rate that the SDP
//! announces, and once by counting packets. The detected clock rate is replaced only if the lag is clearly steadier in
//! one of these runs.
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
}

impl ClockPolicy {
    /// Other ways to get the times of packets if the RTP timestamps give an unsteady timeline, in the order in which
    /// they are tried.
    pub(super) const ALTERNATIVES: [Self; 2] = [Self::Announced, Self::Counted];
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
    /// Number of pauses of the sender within tracks, i.e. groups of packets with about the same lag.
    pauses: u64,
    /// The longest duration of a track (packets with about the same lag) from its first to its last packet, ns.
    span_ns: i64,
}

impl TimelineFit {
    /// Returns how well a stream's timestamps fit its arrival times. The result is computed from the stream's tracks
    /// (groups of packets with about the same lag).
    pub(super) fn of(tracks: &[LagTrack]) -> Self {
        Self {
            packets: tracks.iter().map(|track| u64::from(track.packets())).sum(),
            tracks: tracks.len() as u64,
            wander_ns: tracks.iter().map(LagTrack::wander_ns).max().unwrap_or(0),
            run_wander_ns: tracks.iter().map(LagTrack::wander_between_pauses_ns).max().unwrap_or(0),
            pauses: tracks.iter().map(LagTrack::pauses).sum(),
            span_ns: tracks.iter().filter_map(LagTrack::span).map(|(from, to)| to - from).max().unwrap_or(0),
        }
    }

    /// Returns whether the timestamps fit the arrival times so badly that the stream should be examined again, with
    /// another RTP clock rate.
    pub(super) fn is_doubtful(&self) -> bool {
        let explained_ns = JITTER_NS + self.span_ns / 1_000_000 * MAX_DRIFT_PPM;
        self.is_scattered() || (self.packets >= MIN_PACKETS && self.wander_ns > explained_ns)
    }

    /// Returns whether a new track (a group of packets with about the same lag) begins every few packets.
    pub(super) fn is_scattered(&self) -> bool {
        self.tracks >= MANY_TRACKS && self.packets < self.tracks * FEW_PACKETS
    }

    /// Returns whether this timeline is clearly better than `other`, which has the same packets. It is better if it has
    /// far fewer tracks (groups of packets with about the same lag), or if its lag changes far less.
    pub(super) fn is_calmer_than(&self, other: &Self) -> bool {
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
/// Minimum number of tracks (sets of packets of about the same lag) in a stream that counts as scattered. Holds and
/// clock resets of a usual call make fewer.
const MANY_TRACKS: u64 = 8;
/// Minimum mean number of packets in a track (group with about the same lag): a fifth of a second at 20 ms a packet. A
/// stream with fewer counts as scattered over too many tracks.
const FEW_PACKETS: u64 = 10;
