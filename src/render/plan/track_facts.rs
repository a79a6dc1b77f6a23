//! Computes facts about the tracks of a stream, i.e. groups of packets with about the same lag. Finds the tracks of
//! late packets, and measures the drift of the sender's clock.

use std::collections::HashMap;

use crate::render::rtp_clock::TimestampUnwrapper;
use crate::render::timeline::LagTrack;

/// Finds tracks (groups of packets with about the same lag) of late packets, which arrived while another track
/// continued. Maps each of them to that other track.
pub(super) fn aliases(tracks: &[LagTrack], unwrapper: &TimestampUnwrapper) -> HashMap<usize, usize> {
    let mut aliases = HashMap::new();
    for (number, track) in tracks.iter().enumerate().filter(|(number, _)| unwrapper.may_be_late(*number)) {
        let (Some((from, to)), Some(lag)) = (track.span(), track.min_lag()) else { continue };
        let around = tracks.iter().enumerate().skip(number.saturating_sub(NEIGHBOURS)).take(2 * NEIGHBOURS + 1);
        let around = around.filter(|(other, main)| {
            *other != number
                && main.packets() > track.packets()
                && main.span().is_some_and(|(begins, ends)| begins < from && to < ends)
                && main.min_lag().is_some_and(|main_lag| main_lag < lag && lag - main_lag < MAX_LATENESS_NS)
        });
        if let Some((main, _)) = around.max_by_key(|(_, main)| main.packets()) {
            aliases.insert(number, main);
        }
    }
    aliases
}

/// Returns the drift of the sender's clock against the capture clock, in parts per million. It is the negative slope of
/// the lag (arrival time minus media time), by least squares. Returns `None` if the stream is too short.
pub(super) fn drift(knots: &[(i64, i64)]) -> Option<f64> {
    let (&(first, lag), &(last, _)) = (knots.first()?, knots.last()?);
    if last - first < MIN_DRIFT_SPAN_NS {
        return None;
    }
    let points = || knots.iter().map(|&(x, y)| ((x - first) as f64 / 1e9, (y - lag) as f64 / 1e9));
    let n = knots.len() as f64;
    let (sx, sy) = points().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
    let (mx, my) = (sx / n, sy / n);
    let (sxy, sxx) =
        points().fold((0.0, 0.0), |(sxy, sxx), (x, y)| (sxy + (x - mx) * (y - my), sxx + (x - mx) * (x - mx)));
    // If the sender's clock is fast, its media time overtakes the arrival times, so the lag shrinks. So drift and slope
    // have opposite signs.
    (sxx > 0.0).then(|| (-sxy / sxx * 1e7).round() / 10.0)
}

/// Number of tracks (packets with about the same lag) before and after a late track that are searched. One of them can
/// be the track to which its packets belong.
const NEIGHBOURS: usize = 4;
/// Maximum delay of a late packet, ns. A packet with more delay does not belong to the sound around it. The spool
/// reader sorts packets up to this delay.
const MAX_LATENESS_NS: i64 = 5_000_000_000;
/// Minimum time over which drift is measured, ns. In less than half a minute, a change of 1 ms in the network looks
/// like a drift of 30 ppm.
const MIN_DRIFT_SPAN_NS: i64 = 30_000_000_000;
