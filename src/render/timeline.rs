//! Where each packet of a stream was heard.
//!
//! The network can only delay a packet. So over a window of [`WINDOW_NS`] each way the smallest lag is the stream's
//! true place, and what is above it is jitter, which the recording leaves out. Per track (see [`super::rtp_clock`]):
//!
//! 1. Packets are gathered into bins of half a second, each with its smallest lag. A bin also ends where the lag
//!    jumps, so that a step is known to the packet.
//! 2. Bins become *pieces*: a pause of more than the window, or a lasting step of the lag by more than [`STEP_NS`] and the
//!    jitter around it (a pause that the stamps do not count, a new route), begins a new piece. A step needs
//!    [`STEADY`] packets on each side: a late packet is none.
//! 3. In a piece the envelope (smallest lag in the window) is averaged over the window: a line through knots, which
//!    follows the drift of the sender's clock without a step. Its slope is at most [`STEP_NS`] in two windows, 0.5 %.

use super::rtp_clock::{Followed, scaled};

/// Half a second of packets.
#[derive(Clone, Copy, Debug)]
struct Bin {
    first_index: u32,
    packets: u32,
    first_at: i64,
    last_at: i64,
    first_media: i64,
    last_media: i64,
    min_lag: i64,
    /// Of all packets' lags.
    sum_lag: i128,
}

/// Gathers the bins of one track.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    bins: Vec<Bin>,
    last_lag: i64,
    packets: u32,
}

/// The finished timeline of one track.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TrackLine {
    pieces: Vec<Piece>,
}

/// Packets whose places follow one line.
#[derive(Clone, Debug, PartialEq)]
struct Piece {
    first_index: u32,
    /// Media time and lag, ns; at least one.
    knots: Vec<(i64, i64)>,
}

/// The place of a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    /// When it was heard, ns since the stream's first packet.
    pub(super) heard_ns: i64,
    /// Number of its piece in the track: in one piece, sound goes on without a step.
    pub(super) piece: usize,
}

impl Track {
    /// Takes in a packet; `at_ns` is its arrival since the stream's first packet.
    pub(super) fn handle_packet(&mut self, at_ns: i64, followed: &Followed) {
        let (media, lag) = (followed.media_ns, followed.lag_ns);
        let jump = self.packets > 0 && (lag - self.last_lag).abs() > JUMP_NS;
        self.last_lag = lag;
        self.packets += 1;
        if let Some(bin) = self.bins.last_mut() {
            let ends = at_ns - bin.first_at > BIN_NS
                || at_ns - bin.last_at > WINDOW_NS
                || (jump && bin.packets >= LEAST_IN_BIN && at_ns - bin.first_at >= LEAST_BIN_NS);
            if !ends {
                bin.packets += 1;
                bin.last_at = bin.last_at.max(at_ns);
                bin.last_media = bin.last_media.max(media);
                bin.first_media = bin.first_media.min(media);
                bin.min_lag = bin.min_lag.min(lag);
                bin.sum_lag += i128::from(lag);
                return;
            }
        }
        self.bins.push(Bin {
            first_index: followed.index,
            packets: 1,
            first_at: at_ns,
            last_at: at_ns,
            first_media: media,
            last_media: media,
            min_lag: lag,
            sum_lag: i128::from(lag),
        });
    }

    /// Packets taken in.
    pub(super) fn packets(&self) -> u32 {
        self.packets
    }

    /// First and last arrival.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        Some((self.bins.first()?.first_at, self.bins.last()?.last_at))
    }

    /// The smallest lag of all.
    pub(super) fn min_lag(&self) -> Option<i64> {
        self.bins.iter().map(|bin| bin.min_lag).min()
    }

    /// The finished timeline.
    pub(super) fn line(&self) -> TrackLine {
        let pieces = pieces(&self.bins).into_iter();
        TrackLine {
            pieces: pieces
                .map(|bins| Piece { first_index: bins.first().map_or(0, |b| b.first_index), knots: knots(bins) })
                .collect(),
        }
    }
}

impl TrackLine {
    /// Where a packet of the track was heard.
    pub(super) fn place(&self, followed: &Followed) -> Place {
        let piece = self.pieces.partition_point(|piece| piece.first_index <= followed.index).saturating_sub(1);
        let lag = self.pieces.get(piece).map_or(followed.lag_ns, |piece| piece.lag(followed.media_ns));
        Place { heard_ns: followed.media_ns + lag, piece }
    }

    /// The lag at the beginning and end of the longest piece, with its media times: what shows the drift.
    pub(super) fn longest(&self) -> Option<&[(i64, i64)]> {
        let span = |piece: &Piece| match (piece.knots.first(), piece.knots.last()) {
            (Some(first), Some(last)) => last.0 - first.0,
            _ => 0,
        };
        self.pieces.iter().max_by_key(|piece| span(piece)).map(|piece| piece.knots.as_slice())
    }
}

impl Piece {
    fn lag(&self, media: i64) -> i64 {
        let after = self.knots.partition_point(|&(at, _)| at <= media);
        match (after.checked_sub(1).and_then(|i| self.knots.get(i)), self.knots.get(after)) {
            (Some(&(x0, y0)), Some(&(x1, y1))) => {
                // Between y0 and y1, so it fits.
                y0 + scaled(y1 - y0, media - x0, (x1 - x0).max(1)).unwrap_or(0)
            }
            (Some(&(_, lag)), None) | (None, Some(&(_, lag))) => lag,
            (None, None) => 0,
        }
    }
}

/// Cuts bins at pauses and steps.
fn pieces(bins: &[Bin]) -> Vec<&[Bin]> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for k in 1..bins.len() {
        let pause = bins[k].first_at - bins[k - 1].last_at > WINDOW_NS;
        if pause || is_step(&bins[from..], k - from) {
            pieces.push(&bins[from..k]);
            from = k;
        }
    }
    if from < bins.len() {
        pieces.push(&bins[from..]);
    }
    pieces
}

/// Whether the lag changes for good at bin `k`.
fn is_step(bins: &[Bin], k: usize) -> bool {
    let at = bins[k].first_at;
    let back = Group::of(bins[..k].iter().rev().take_while(|bin| bin.last_at > at - WINDOW_NS));
    let ahead = Group::of(bins[k..].iter().take_while(|bin| bin.first_at < at + WINDOW_NS));
    let packets = back.packets.min(ahead.packets);
    if packets < STEADY {
        return false;
    }
    // Jitter: of few packets none may have been lucky. Twice the mean delay is the most of an even spread.
    let jitter = back.jitter().max(ahead.jitter());
    let step = STEP_NS.max(if packets < MANY { 2 * jitter } else { jitter });
    ahead.min_lag - back.min_lag > step
        || (back.min_lag - ahead.min_lag > step && bins[k].min_lag <= ahead.min_lag + step / 2)
}

/// Packets before or after a place.
struct Group {
    packets: u32,
    min_lag: i64,
    sum_lag: i128,
}

impl Group {
    fn of<'a>(bins: impl Iterator<Item = &'a Bin>) -> Self {
        bins.fold(Self { packets: 0, min_lag: i64::MAX / 4, sum_lag: 0 }, |group, bin| Self {
            packets: group.packets + bin.packets,
            min_lag: group.min_lag.min(bin.min_lag),
            sum_lag: group.sum_lag + bin.sum_lag,
        })
    }

    /// The mean delay above the smallest.
    fn jitter(&self) -> i64 {
        (self.sum_lag / i128::from(self.packets.max(1))) as i64 - self.min_lag
    }
}

/// Envelope and average of one piece.
fn knots(bins: &[Bin]) -> Vec<(i64, i64)> {
    let centre = |bin: &Bin| bin.first_at.midpoint(bin.last_at);
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
        let lag = (sum / window.len().max(1) as i128) as i64; // between the smallest and the largest
        let media = bin.first_media.midpoint(bin.last_media);
        // Reordered packets can turn two centres round: media time only ever grows along the line.
        if knots.last().is_none_or(|&(last, _)| media > last) {
            knots.push((media, lag));
        }
    }
    knots
}

/// Each way, as far as the envelope looks: jitter is over by then, drift (500 ppm) is 1 ms.
const WINDOW_NS: i64 = 2_000_000_000;
/// Length of a bin.
const BIN_NS: i64 = 500_000_000;
/// A lasting change of the lag by so much is a step and not drift.
const STEP_NS: i64 = 20_000_000;
/// From packet to packet: the lag of a bin's neighbours.
const JUMP_NS: i64 = 15_000_000;
/// A jump ends a bin of so many packets: jitter at each packet must not give a bin for each.
const LEAST_IN_BIN: u32 = 5;
/// And is so long: a flood of packets gives no more than 25 bins a second.
const LEAST_BIN_NS: i64 = 40_000_000;
/// Fewer packets than these show no lag beyond doubt.
const STEADY: u32 = 10;
/// Of so many, one will have met next to no jitter.
const MANY: u32 = 25;
