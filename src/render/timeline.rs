//! Computes the playout time of each packet of a stream.
//!
//! The network can only delay a packet. So the smallest lag (arrival minus media time) within [`WINDOW_NS`] each way is
//! the lag without jitter. A single packet that its sender sent early does not count. The recording uses that lag and
//! leaves jitter out. The steps for each track (see [`super::rtp_clock`]):
//!
//! 1. Packets are collected into bins of half a second, each with its smallest lag. A bin also ends where the lag
//!    jumps, so that the packet at which a step happens is known.
//! 2. Bins are joined into *segments*. A new segment begins after a pause longer than the window. It also begins at a
//!    lasting step of the lag by more than [`STEP_NS`] and the jitter around it, e.g. a new route. A step needs
//!    [`MIN_STEP_PACKETS`] packets with the larger lag, so a late packet is no step. On the other side, one packet is
//!    enough, because a packet can be late but not early. A segment also begins at a pause that the sender's timestamps
//!    do not count rightly ([`misfitting_pauses`]). Within a talk spurt, packets are laid end to end.
//! 3. In a segment, the smallest lag within the window is averaged over the window. The result is a line through knots.
//!    It follows the drift of the sender's clock without a step. Its slope is at most [`STEP_NS`] in two windows, about
//!    0.5 %.

use super::recent_index::RecentIndex;
use super::rtp_clock::{MediaPosition, scaled};

/// A bin: the packets of up to half a second of a track (packets with about the same lag), with their smallest lag.
/// Times are in ns.
#[derive(Clone, Copy, Debug)]
struct LagBin {
    first_index: u32,
    packets: u32,
    /// Number of pauses of the sender within the bin (a group of consecutive packets).
    pauses: u32,
    first_at: i64,
    last_at: i64,
    first_media: i64,
    last_media: i64,
    min_lag: i64,
    /// The smallest lag of the other packets, without the packet that has `min_lag`; `i64::MAX` if there is none.
    next_lag: i64,
    /// Sum of the lags (arrival minus media time) of all packets in the bin (a group of consecutive packets), ns.
    sum_lag: i128,
}

/// Collects one track, i.e. the packets with about the same lag.
#[derive(Clone, Debug)]
pub(super) struct LagTrack {
    /// Bins that end at long pauses only.
    whole: LagBins,
    /// Bins that end at each pause of the sender.
    spurts: LagBins,
}

/// Collects packets in bins of up to half a second.
#[derive(Clone, Debug)]
struct LagBins {
    bins: Vec<LagBin>,
    /// Duration of a pause that ends a bin, ns.
    pause_ns: i64,
    last_lag: i64,
    packets: u32,
    /// The newest jump of the lag, at which a new bin began: index and arrival (ns) of the first packet after the jump.
    last_split: (u32, i64),
}

/// The finished timeline of one track (packets with about the same lag), by which these packets are played.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LagTimeline {
    segments: Vec<TimelineSegment>,
    recent: RecentIndex,
    /// The segments that do not begin at misfitting pauses, if `segments` do; they show the drift of the sender's clock.
    unsplit: Vec<TimelineSegment>,
}

/// A run of consecutive packets of a track, i.e. of packets with about the same lag. Their lags (arrival minus media
/// time) follow one line without a step.
#[derive(Clone, Debug, PartialEq)]
struct TimelineSegment {
    first_index: u32,
    /// Points of the line that the lags (arrival minus media time) follow, each with media time and lag, ns. There is
    /// at least one point.
    knots: Vec<(i64, i64)>,
    recent: RecentIndex,
}

/// The playout time of a packet within its stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PlayoutOffset {
    /// Playout time, ns since the stream's first packet.
    pub(super) playout_ns: i64,
    /// Number of the segment in the track (packets with about the same lag). A segment is a part of the track in which
    /// playout times have no step.
    pub(super) segment: usize,
}

impl LagBin {
    /// Returns the bin without its earliest packet if that packet left its sender much earlier than all others.
    /// Such a packet says nothing about the delay of the others.
    fn without_early_packet(&self) -> Self {
        let others = self.packets.saturating_sub(1);
        let early = self.next_lag.saturating_sub(self.min_lag);
        if early < MIN_EARLY_NS || others < MIN_BIN_PACKETS {
            return *self;
        }
        let sum_lag = self.sum_lag - i128::from(self.min_lag);
        let jitter = (sum_lag / i128::from(others)) as i64 - self.next_lag;
        if early <= 2 * jitter {
            return *self;
        }
        Self { packets: others, min_lag: self.next_lag, next_lag: i64::MAX, sum_lag, ..*self }
    }
}

impl Default for LagTrack {
    fn default() -> Self {
        Self { whole: LagBins::ending_at(WINDOW_NS), spurts: LagBins::ending_at(SPURT_PAUSE_NS) }
    }
}

impl LagBins {
    const fn ending_at(pause_ns: i64) -> Self {
        Self { bins: Vec::new(), pause_ns, last_lag: 0, packets: 0, last_split: (0, 0) }
    }

    fn handle_packet(&mut self, at_ns: i64, position: &MediaPosition) {
        let (media, lag) = (position.media_ns, position.lag_ns);
        let jump = self.packets > 0 && (lag - self.last_lag).abs() > JUMP_NS;
        self.last_lag = lag;
        let number = self.packets;
        self.packets += 1;
        if let Some(bin) = self.bins.last_mut() {
            let splits = jump && {
                let (split, split_at) = self.last_split;
                number - split >= MIN_BIN_PACKETS && at_ns - split_at >= MIN_BIN_NS
            };
            if splits {
                self.last_split = (number, at_ns);
            }
            let ends = splits || at_ns - bin.first_at > BIN_NS || at_ns - bin.last_at > self.pause_ns;
            if !ends {
                bin.packets += 1;
                bin.pauses += u32::from(at_ns - bin.last_at > PAUSE_NS);
                bin.last_at = bin.last_at.max(at_ns);
                bin.last_media = bin.last_media.max(media);
                bin.first_media = bin.first_media.min(media);
                bin.next_lag = bin.next_lag.min(lag.max(bin.min_lag));
                bin.min_lag = bin.min_lag.min(lag);
                bin.sum_lag += i128::from(lag);
                return;
            }
        }
        if self.bins.is_empty() {
            self.last_split = (0, at_ns);
        }
        self.bins.push(LagBin {
            first_index: position.index,
            packets: 1,
            pauses: 0,
            first_at: at_ns,
            last_at: at_ns,
            first_media: media,
            last_media: media,
            min_lag: lag,
            next_lag: i64::MAX,
            sum_lag: i128::from(lag),
        });
    }
}

impl LagTrack {
    /// Adds a packet to the current bins (pieces of up to half a second), or begins new bins. `at_ns` is the packet's
    /// arrival time, ns since the stream's first packet.
    pub(super) fn handle_packet(&mut self, at_ns: i64, position: &MediaPosition) {
        self.whole.handle_packet(at_ns, position);
        if self.spurts.bins.len() < MAX_SPURT_BINS {
            self.spurts.handle_packet(at_ns, position);
        }
    }

    /// Returns the number of packets in the track (packets with about the same lag) so far.
    pub(super) fn packets(&self) -> u32 {
        self.whole.packets
    }

    /// Returns the arrival times of the first and last packet of the track (packets with about the same lag), ns since
    /// the stream's first packet.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        Some((self.whole.bins.first()?.first_at, self.whole.bins.last()?.last_at))
    }

    /// Returns the smallest lag (arrival minus media time) of all packets of the track, ns.
    pub(super) fn min_lag(&self) -> Option<i64> {
        self.whole.bins.iter().map(|bin| bin.min_lag).min()
    }

    /// Returns how much the lag (arrival minus media time) changes over the track, ns. Each bin (a piece of the track)
    /// has a smallest lag; the result is the largest minus the least of these values.
    pub(super) fn wander_ns(&self) -> i64 {
        wander_ns(&self.whole.bins)
    }

    /// Returns how much the lag (arrival minus media time) changes at most between two consecutive pauses of the
    /// sender, ns. The lag of a bin (piece of the track) is the smallest lag of its packets.
    pub(super) fn wander_between_pauses_ns(&self) -> i64 {
        self.runs().map(wander_ns).max().unwrap_or(0)
    }

    /// Returns the longest time between two consecutive pauses of the sender, ns.
    pub(super) fn longest_run_ns(&self) -> i64 {
        let length = |run: &[LagBin]| run.first().zip(run.last()).map_or(0, |(from, to)| to.last_at - from.first_at);
        self.runs().map(length).max().unwrap_or(0)
    }

    /// Returns the bins (pieces of the track) between each two consecutive pauses of the sender.
    fn runs(&self) -> impl Iterator<Item = &[LagBin]> {
        self.whole.bins.chunk_by(|bin, next| !is_pause(bin, next) && bin.pauses + next.pauses == 0)
    }

    /// Returns the number of pauses of the sender within the track (packets with about the same lag).
    pub(super) fn pauses(&self) -> u64 {
        let between = self.whole.bins.windows(2).filter(|pair| is_pause(&pair[0], &pair[1])).count();
        between as u64 + self.whole.bins.iter().map(|bin| u64::from(bin.pauses)).sum::<u64>()
    }

    /// Computes the playout times of the track (packets with about the same lag) from the smallest lags of its bins. A
    /// bin is a piece of up to half a second.
    pub(super) fn timeline(&self) -> LagTimeline {
        let has_all_spurts = self.spurts.bins.len() < MAX_SPURT_BINS;
        let spurts = if has_all_spurts { without_early_packets(&self.spurts.bins) } else { Vec::new() };
        let starts = misfitting_pauses(&spurts);
        let whole = timeline_segments(&without_early_packets(&self.whole.bins), &[]);
        if starts.is_empty() {
            return LagTimeline { segments: whole, ..LagTimeline::default() };
        }
        let segments = timeline_segments(&spurts, &starts);
        LagTimeline { segments, unsplit: whole, ..LagTimeline::default() }
    }
}

fn timeline_segments(bins: &[LagBin], starts: &[usize]) -> Vec<TimelineSegment> {
    let of_bins = |bins: &[LagBin]| TimelineSegment {
        first_index: bins.first().map_or(0, |b| b.first_index),
        knots: knots(bins),
        recent: RecentIndex::default(),
    };
    segments(bins, starts).into_iter().map(of_bins).collect()
}

/// Returns the bins without the packets that left their sender much earlier than all others of their bin.
fn without_early_packets(bins: &[LagBin]) -> Vec<LagBin> {
    bins.iter().map(LagBin::without_early_packet).collect()
}

fn wander_ns(bins: &[LagBin]) -> i64 {
    // Packets that arrive all at once have waited in the network. Their lag says nothing about the sender's clock.
    let counts = |bin: &LagBin| bin.packets >= MIN_BIN_PACKETS && bin.last_at - bin.first_at >= BURST_NS;
    let lags = || bins.iter().filter(|bin| counts(bin)).map(|bin| bin.without_early_packet().min_lag);
    lags().max().zip(lags().min()).map_or(0, |(most, least)| most.saturating_sub(least))
}

fn is_pause(bin: &LagBin, next: &LagBin) -> bool {
    next.first_at - bin.last_at > PAUSE_NS
}

impl LagTimeline {
    /// Returns the playout time of a packet of this track (packets with about the same lag). Also returns the segment
    /// (part of the track without a step) to which the packet belongs.
    pub(super) fn playout(&self, position: &MediaPosition) -> PlayoutOffset {
        let after = self.recent.partition_point(&self.segments, |segment| segment.first_index <= position.index);
        let segment = after.saturating_sub(1);
        let lag = self.segments.get(segment).map_or(position.lag_ns, |segment| segment.lag(position.media_ns));
        PlayoutOffset { playout_ns: position.media_ns + lag, segment }
    }

    /// Returns the knots (points with media time and lag, ns) of the longest segment, i.e. part of the track without a
    /// step. They show the drift of the sender's clock.
    pub(super) fn longest_knots(&self) -> Option<&[(i64, i64)]> {
        let span = |segment: &TimelineSegment| match (segment.knots.first(), segment.knots.last()) {
            (Some(first), Some(last)) => last.0 - first.0,
            _ => 0,
        };
        let segments = if self.unsplit.is_empty() { &self.segments } else { &self.unsplit };
        segments.iter().max_by_key(|segment| span(segment)).map(|segment| segment.knots.as_slice())
    }
}

impl TimelineSegment {
    fn lag(&self, media: i64) -> i64 {
        let after = self.recent.partition_point(&self.knots, |&(at, _)| at <= media);
        match (after.checked_sub(1).and_then(|i| self.knots.get(i)), self.knots.get(after)) {
            (Some(&(x0, y0)), Some(&(x1, y1))) => {
                // The sum cannot overflow, because it lies between y0 and y1, the lags at two neighbouring knots.
                y0 + scaled(y1 - y0, media - x0, (x1 - x0).max(1)).unwrap_or(0)
            }
            (Some(&(_, lag)), None) | (None, Some(&(_, lag))) => lag,
            (None, None) => 0,
        }
    }
}

/// Splits a track into segments: at long pauses, at lasting steps of the lag, and at the bins with the indices `starts`.
/// A track is a group of packets with about the same lag; `bins` are its pieces of up to half a second.
fn segments<'a>(bins: &'a [LagBin], starts: &[usize]) -> Vec<&'a [LagBin]> {
    let mut segments = Vec::new();
    let mut from = 0;
    for k in 1..bins.len() {
        let pause = bins[k].first_at - bins[k - 1].last_at > WINDOW_NS;
        if pause || starts.binary_search(&k).is_ok() || is_step(&bins[from..], k - from) {
            segments.push(&bins[from..k]);
            from = k;
        }
    }
    if from < bins.len() {
        segments.push(&bins[from..]);
    }
    segments
}

/// Returns the indices of the bins that begin a talk spurt with another lag (arrival minus media time) than the talk
/// spurt before it.
///
/// A sender that leaves pauses out may start its timestamps again after a pause, some milliseconds off. The difference
/// belongs to the pause. If it were taken for drift of the clock, it would bend the sound of the talk spurts.
fn misfitting_pauses(bins: &[LagBin]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut before: Option<BinGroup> = None;
    let mut first = 0;
    // Packets that arrive late without a step of the timestamps were delayed by the network. The sender made no pause.
    let is_pause = |bin: &LagBin, next: &LagBin| {
        (next.first_at - bin.last_at).min(next.first_media - bin.last_media) > SPURT_PAUSE_NS
    };
    for spurt in bins.chunk_by(|bin, next| !is_pause(bin, next)) {
        let group = BinGroup::of(spurt.iter());
        // Few packets, e.g. of comfort noise, do not show the lag of a talk spurt.
        if group.packets >= MIN_BIN_PACKETS {
            let jitter = |before: &BinGroup| before.jitter().max(group.jitter());
            let step = |before: &BinGroup| (group.min_lag - before.min_lag).abs();
            if before.is_some_and(|before| step(&before) > MIN_MISFIT_NS + 3 * jitter(&before)) {
                starts.push(first);
            }
            before = Some(group);
        }
        first += spurt.len();
    }
    starts
}

/// Returns whether the lag (arrival minus media time) makes a lasting step at bin `k`.
fn is_step(bins: &[LagBin], k: usize) -> bool {
    let at = bins[k].first_at;
    let back = BinGroup::of(bins[..k].iter().rev().take_while(|bin| bin.last_at > at - WINDOW_NS));
    let ahead = BinGroup::of(bins[k..].iter().take_while(|bin| bin.first_at < at + WINDOW_NS));
    let packets = back.packets.min(ahead.packets);
    let late_packets = if ahead.min_lag > back.min_lag { ahead.packets } else { back.packets };
    if late_packets < MIN_STEP_PACKETS {
        return false;
    }
    // Among few packets, perhaps none arrived without jitter. Then even the smallest lag (arrival minus media time) can
    // be too large, by up to twice the mean jitter if jitter is evenly distributed. So a step must exceed twice the
    // jitter.
    let jitter = back.jitter().max(ahead.jitter());
    let step = STEP_NS.max(if packets < MANY_PACKETS { 2 * jitter } else { jitter });
    ahead.min_lag - back.min_lag > step
        || (back.min_lag - ahead.min_lag > step && bins[k].min_lag <= ahead.min_lag + step / 2)
}

/// Number of packets, and their lags (arrival minus media time) in ns, before or after a possible step of the lag. The
/// packets are those of some bins, i.e. pieces of up to half a second.
#[derive(Clone, Copy)]
struct BinGroup {
    packets: u32,
    min_lag: i64,
    sum_lag: i128,
}

impl BinGroup {
    fn of<'a>(bins: impl Iterator<Item = &'a LagBin>) -> Self {
        bins.fold(Self { packets: 0, min_lag: i64::MAX / 4, sum_lag: 0 }, |group, bin| Self {
            packets: group.packets + bin.packets,
            min_lag: group.min_lag.min(bin.min_lag),
            sum_lag: group.sum_lag + bin.sum_lag,
        })
    }

    /// Returns the jitter in ns: the mean lag (arrival minus media time) minus the smallest lag.
    fn jitter(&self) -> i64 {
        (self.sum_lag / i128::from(self.packets.max(1))) as i64 - self.min_lag
    }
}

/// Computes one point (media time and lag) for each bin of a segment. A bin is a piece of up to half a second. First,
/// the smallest lag within [`WINDOW_NS`] is found for each bin. Then the point gets the average of these lags over all
/// bins within [`WINDOW_NS`].
fn knots(bins: &[LagBin]) -> Vec<(i64, i64)> {
    let centre = |bin: &LagBin| bin.first_at.midpoint(bin.last_at);
    let near = |k: usize| {
        let from = bins[..k].iter().rposition(|b| centre(b) < centre(&bins[k]) - WINDOW_NS).map_or(0, |i| i + 1);
        let to = bins[k..].iter().position(|b| centre(b) > centre(&bins[k]) + WINDOW_NS).map_or(bins.len(), |i| k + i);
        from..to
    };
    let envelope: Vec<i64> =
        (0..bins.len()).map(|k| bins[near(k)].iter().map(|bin| bin.min_lag).min().unwrap_or(0)).collect();
    let mut knots: Vec<(i64, i64)> = Vec::with_capacity(bins.len());
    for (k, bin) in bins.iter().enumerate() {
        let window = &envelope[near(k)];
        let sum: i128 = window.iter().map(|&lag| i128::from(lag)).sum();
        let lag = (sum / window.len().max(1) as i128) as i64; // lies between the smallest and the largest lag
        let media = bin.first_media.midpoint(bin.last_media);
        // Reordered packets can swap the centres of two bins. Media time must increase from point to point of the
        // result, so the second of the two bins is left out.
        if knots.last().is_none_or(|&(last, _)| media > last) {
            knots.push((media, lag));
        }
    }
    knots
}

/// Distance in time over which the smallest lag is searched before and after a packet, ns. Longer delays are rare, and
/// clock drift (500 ppm) is only 1 ms in this time.
const WINDOW_NS: i64 = 2_000_000_000;
/// Minimum time without packets that counts as a pause, ns. After a pause (a hold, or the end of a talk spurt) the lag
/// (arrival minus media time) may be different.
const PAUSE_NS: i64 = 200_000_000;
/// Minimum time without packets that ends a talk spurt, ns. Senders that leave pauses out do so for longer.
const SPURT_PAUSE_NS: i64 = 60_000_000;
/// Maximum number of bins that end at each pause. They take 2 MB. If a track has more, all its pauses count as whole.
const MAX_SPURT_BINS: usize = 20_000;
/// Minimum change of the lag (arrival minus media time) from one talk spurt to the next, ns. It counts beside the jitter.
/// Two samples at 8 kHz, spread over a talk spurt, change the sound already.
const MIN_MISFIT_NS: i64 = 250_000;
/// Maximum duration of a bin, i.e. of a group of consecutive packets in a track, ns.
const BIN_NS: i64 = 500_000_000;
/// Minimum change of the lag (arrival minus media time) that counts as a step if it lasts, ns. A smaller change counts
/// as clock drift.
const STEP_NS: i64 = 20_000_000;
/// Minimum change of the lag (arrival minus media time) between two packets that ends a bin (group of consecutive
/// packets), ns. So bins end at possible steps.
const JUMP_NS: i64 = 15_000_000;
/// Minimum number of packets between two changes of the lag (arrival minus media time) that end a bin (group of
/// consecutive packets). Otherwise jitter would make a bin of each packet. Bins with fewer packets do not count when
/// the change of the lag over a track is measured.
const MIN_BIN_PACKETS: u32 = 5;
/// Minimum time in which the packets of a bin (group of consecutive packets) arrive, ns. If they arrive faster, the
/// network has delayed them. Five packets of 5 ms arrive in exactly this time.
const BURST_NS: i64 = 20_000_000;
/// Minimum time between two changes of the lag that end a bin (group of consecutive packets), ns. So even a flood of
/// packets makes at most 27 bins a second: 25 by changes of the lag, and 2 by their duration.
const MIN_BIN_NS: i64 = 40_000_000;
/// Minimum time by which a packet is earlier than all others of its bin (group of consecutive packets), ns, if it does
/// not count. A smaller difference bends the sound too little to be heard.
const MIN_EARLY_NS: i64 = 4_000_000;
/// Minimum number of packets with the larger lag (arrival minus media time), before or after a step of the lag. Fewer
/// packets may only be late.
const MIN_STEP_PACKETS: u32 = 10;
/// Minimum number of packets in a group in which at least one packet is assumed to arrive nearly without jitter.
const MANY_PACKETS: u32 = 25;
