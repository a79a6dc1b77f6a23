//! Calls and packets that were dropped because a bounded table was full or because they could not be read.
//!
//! [`DropCounters`] collects the counters of decoder and engine. [`DropAlarms`] reports each counter that grew, at most
//! once in [`PAUSE`], because a person must know of a full table.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::call::engine;
use crate::decode;
use crate::time::Timestamp;

/// Counts of dropped calls and packets since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCounters {
    /// Number of INVITEs that began no call, because the table of calls was full of calls in progress.
    pub calls_refused: u64,
    /// Number of INVITEs without any response that were removed from a full table, to make room for newer INVITEs.
    pub calls_evicted: u64,
    /// Number of RTP packets dropped because their call had too many streams.
    pub rtp_refused: u64,
    /// Number of dropped RTP packets without a known call. RTP may arrive before its SDP, but the buffer for this case
    /// was full.
    pub rtp_not_kept: u64,
    /// Number of TCP streams, or pieces of streams, dropped because too many were being reassembled.
    pub tcp_refused: u64,
    /// Number of datagrams dropped because fragments took too much memory.
    pub fragments_refused: u64,
    /// Number of datagrams dropped because a fragment was missing or broken.
    pub fragments_incomplete: u64,
    /// Number of SIP messages that could not be parsed.
    pub sip_unreadable: u64,
    /// Number of SIP messages over TCP that were too long, so that the body or the whole message was skipped.
    pub sip_oversized: u64,
    /// Number of frames that the capture truncated.
    pub frames_cut: u64,
    /// Number of frames with headers that could not be parsed.
    pub frames_unreadable: u64,
}

/// Reason for which calls or packets were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropReason {
    /// A table or buffer of limited size was full.
    Full,
    /// The packet was damaged or truncated, so that it could not be read.
    Unreadable,
}

/// Finds the drop counters that grew since they were last reported.
#[derive(Clone, Debug, Default)]
pub(crate) struct DropAlarms {
    /// For each counter: capture time of its last report, and the count at that time; `None` before the first report.
    reported: [Option<(Timestamp, u64)>; LINES],
}

impl DropCounters {
    /// Collects the counters of decoder and engine.
    pub const fn of(decode: &decode::DecodeCounters, engine: &engine::EngineCounters) -> Self {
        let dropped = &decode.dropped;
        Self {
            calls_refused: engine.legs_refused,
            calls_evicted: engine.legs_evicted,
            rtp_refused: engine.rtp_refused,
            rtp_not_kept: engine.rtp_not_kept,
            tcp_refused: engine.tcp_refused + decode.streams.evicted,
            fragments_refused: dropped.fragment_limit,
            fragments_incomplete: dropped.fragment_timeout
                + dropped.cut_fragment
                + dropped.bad_fragment
                + dropped.overlapping_fragments,
            sip_unreadable: engine.sip_rejected,
            sip_oversized: engine.sip_oversized,
            frames_cut: decode.cut_frames,
            frames_unreadable: dropped.short
                + dropped.unknown_link
                + dropped.too_deep
                + dropped.tunnel_depth
                + dropped.bad_ip_header
                + dropped.bad_tcp_header,
        }
    }

    /// Returns whether nothing was dropped, i.e. whether all counts are zero.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the number of drops that happened because a table was full.
    pub(crate) const fn table_full(&self) -> u64 {
        self.calls_refused
            + self.calls_evicted
            + self.rtp_refused
            + self.rtp_not_kept
            + self.tcp_refused
            + self.fragments_refused
    }

    /// Returns a short text for each count above zero, e.g. `3 INVITEs refused`.
    pub(crate) fn clauses(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.1 > 0).map(|(_, total, text)| clause(total, text)).collect()
    }

    /// Returns each count with its reason and the two parts of its text. The parts are a noun in the singular, e.g.
    /// `call`, and the words after it, e.g. `refused`.
    const fn lines(&self) -> [(DropReason, u64, [&'static str; 2]); LINES] {
        [
            (DropReason::Full, self.calls_refused, ["call", "refused (the call table is full of live calls)"]),
            (
                DropReason::Full,
                self.calls_evicted,
                ["unanswered INVITE", "dropped in favour of newer INVITEs (a flood of INVITEs)"],
            ),
            (DropReason::Full, self.rtp_refused, ["RTP packet", "refused (more streams than a call can have)"]),
            (DropReason::Full, self.rtp_not_kept, ["RTP packet", "of no known call dropped (too many at once)"]),
            (DropReason::Full, self.tcp_refused, ["piece", "of TCP streams dropped (too many streams at once)"]),
            (
                DropReason::Full,
                self.fragments_refused,
                ["datagram", "in fragments dropped (too many fragments at once)"],
            ),
            (DropReason::Unreadable, self.fragments_incomplete, ["datagram", "with a missing or broken fragment"]),
            (DropReason::Unreadable, self.sip_unreadable, ["SIP message", "that could not be read"]),
            (DropReason::Unreadable, self.sip_oversized, ["SIP message", "over TCP too long to be read whole"]),
            (DropReason::Unreadable, self.frames_cut, ["frame", "cut by the snap length"]),
            (DropReason::Unreadable, self.frames_unreadable, ["frame", "with broken headers"]),
        ]
    }
}

impl std::fmt::Display for DropCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.clauses() {
            clauses if clauses.is_empty() => f.write_str("nothing"),
            clauses => f.write_str(&clauses.join(", ")),
        }
    }
}

impl DropAlarms {
    /// Returns a text for each counter that grew since its last report. A counter is reported at most once in each
    /// [`PAUSE`].
    pub(crate) fn take_new(&mut self, now: Timestamp, totals: &DropCounters) -> Vec<(DropReason, String)> {
        let mut grown = Vec::new();
        for (reported, (reason, total, text)) in self.reported.iter_mut().zip(totals.lines()) {
            let is_due = reported.is_none_or(|(at, before)| total > before && now.since(at) >= PAUSE);
            if total > 0 && is_due {
                let before = reported.map_or(0, |(_, before)| before);
                grown.push((reason, clause(total - before, text)));
                *reported = Some((now, total));
            }
        }
        grown
    }
}

fn clause(total: u64, [noun, event]: [&str; 2]) -> String {
    let s = if total == 1 { "" } else { "s" };
    format!("{total} {noun}{s} {event}")
}

/// Number of counters that [`DropCounters::lines`] returns.
const LINES: usize = 11;
/// Minimum time between two reports of the same counter, because a flood can last for hours. `/api/status` always has
/// the current counts.
pub(crate) const PAUSE: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_reported_once_and_again_after_the_pause() {
        let mut alarms = DropAlarms::default();
        let at = |s: u64| Timestamp::EPOCH + Duration::from_secs(s);
        assert_eq!(alarms.take_new(at(0), &DropCounters::default()), []);
        let flood = |n| DropCounters { calls_evicted: n, ..DropCounters::default() };
        let first = alarms.take_new(at(1), &flood(1));
        assert_eq!(
            first,
            [(
                DropReason::Full,
                String::from("1 unanswered INVITE dropped in favour of newer INVITEs (a flood of INVITEs)")
            )]
        );
        assert_eq!(alarms.take_new(at(2), &flood(500)), []);
        // Each counter has a separate pause: this counter is reported although another is still in its pause.
        let more = DropCounters { sip_unreadable: 2, ..flood(700) };
        assert_eq!(
            alarms.take_new(at(3), &more),
            [(DropReason::Unreadable, String::from("2 SIP messages that could not be read"))]
        );
        let later = alarms.take_new(at(1 + 3_600), &more);
        assert!(later.len() == 1 && later[0].1.starts_with("699 unanswered INVITEs"), "{later:?}");
        assert_eq!(alarms.take_new(at(10_000), &more), [], "nothing came since");
    }

    #[test]
    fn drop_counters_include_every_bound_of_decoder_and_engine() {
        let mut decode = decode::DecodeCounters::default();
        decode.dropped.fragment_limit = 1;
        decode.dropped.overlapping_fragments = 2;
        decode.dropped.bad_ip_header = 4;
        decode.streams.evicted = 8;
        decode.cut_frames = 16;
        let engine = engine::EngineCounters {
            legs_refused: 32,
            legs_evicted: 64,
            rtp_refused: 128,
            tcp_refused: 256,
            sip_rejected: 512,
            rtp_not_kept: 1_024,
            sip_oversized: 2_048,
            ..engine::EngineCounters::default()
        };
        let totals = DropCounters::of(&decode, &engine);
        // Every counter is a different power of two. So the sum is right only if each counter is included exactly once.
        assert_eq!(totals.lines().iter().map(|line| line.1).sum::<u64>(), 4_095);
        assert_eq!(totals.table_full(), 1 + 8 + 32 + 64 + 128 + 256 + 1_024);
        assert_eq!(DropCounters::default().to_string(), "nothing");
        assert!(totals.to_string().contains("32 calls refused") && totals.to_string().contains("16 frames cut"));
    }
}
