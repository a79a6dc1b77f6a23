//! What did not fit into a bounded table, or could not be read: counted in the rooms that leave it aside, told here.
//!
//! A full table must not be silent. [`LeftAside`] gathers the counters, [`News`] says which of them grew, at most once
//! in [`PAUSE`] each.

use std::time::Duration;

use serde::Serialize;

use crate::call::engine;
use crate::decode;
use crate::time::Timestamp;

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftAside {
    /// Calls that were not taken in: every table place was a call under way.
    pub calls_refused: u64,
    /// INVITEs without any response that gave way to newer ones.
    pub calls_evicted: u64,
    /// RTP packets of more streams than a call can have.
    pub rtp_refused: u64,
    /// RTP packets of no known call that could not be kept until one claims them.
    pub rtp_not_kept: u64,
    /// TCP streams, or pieces of them, for which there was no place.
    pub tcp_refused: u64,
    /// Datagrams given up because fragments took too much memory.
    pub fragments_refused: u64,
    /// Datagrams of which a fragment never came or was of no use.
    pub fragments_incomplete: u64,
    /// SIP messages that could not be read.
    pub sip_unreadable: u64,
    /// Frames that the capture cut short.
    pub frames_cut: u64,
    /// Frames with headers that could not be read.
    pub frames_unreadable: u64,
}

/// Why something was left aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A table was full.
    Full,
    /// It could not be read.
    Unreadable,
}

/// Which totals grew since they were last told.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// For each line: when it was last told, and the total that was told.
    told: [Option<(Timestamp, u64)>; LINES],
}

impl LeftAside {
    /// Of what decoder and engine counted.
    pub const fn of(decode: &decode::Counters, engine: &engine::Counters) -> Self {
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
            frames_cut: decode.cut_frames,
            frames_unreadable: dropped.short
                + dropped.unknown_link
                + dropped.too_deep
                + dropped.tunnel_depth
                + dropped.bad_ip_header
                + dropped.bad_tcp_header,
        }
    }

    /// Whether nothing was left aside.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// What was left aside because a table was full.
    pub const fn for_want_of_room(&self) -> u64 {
        self.calls_refused
            + self.calls_evicted
            + self.rtp_refused
            + self.rtp_not_kept
            + self.tcp_refused
            + self.fragments_refused
    }

    /// One clause for each total above zero, for people.
    pub fn clauses(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.1 > 0).map(|(_, total, text)| clause(total, text)).collect()
    }

    /// Each with its total and what it counts: the noun in the singular and what became of it.
    const fn lines(&self) -> [(Why, u64, [&'static str; 2]); LINES] {
        [
            (Why::Full, self.calls_refused, ["call", "not taken in (the tables are full of calls under way)"]),
            (Why::Full, self.calls_evicted, ["unanswered INVITE", "dropped for newer ones (a flood of INVITEs)"]),
            (Why::Full, self.rtp_refused, ["RTP packet", "refused (more streams than a call can have)"]),
            (Why::Full, self.rtp_not_kept, ["RTP packet", "of no known call not kept (too many at once)"]),
            (Why::Full, self.tcp_refused, ["piece", "of TCP streams left aside (too many streams at once)"]),
            (Why::Full, self.fragments_refused, ["datagram", "in fragments given up (too many fragments at once)"]),
            (Why::Unreadable, self.fragments_incomplete, ["datagram", "of which a fragment never came, or is broken"]),
            (Why::Unreadable, self.sip_unreadable, ["SIP message", "that could not be read"]),
            (Why::Unreadable, self.frames_cut, ["frame", "cut by the snap length"]),
            (Why::Unreadable, self.frames_unreadable, ["frame", "with broken headers"]),
        ]
    }
}

impl std::fmt::Display for LeftAside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.clauses() {
            clauses if clauses.is_empty() => f.write_str("nothing"),
            clauses => f.write_str(&clauses.join(", ")),
        }
    }
}

impl News {
    /// What grew and was not told within the last [`PAUSE`].
    pub fn of(&mut self, now: Timestamp, totals: &LeftAside) -> Vec<(Why, String)> {
        let mut news = Vec::new();
        for (told, (why, total, text)) in self.told.iter_mut().zip(totals.lines()) {
            let is_due = told.is_none_or(|(at, before)| total > before && now.since(at) >= PAUSE);
            if total > 0 && is_due {
                let of_these = told.map_or(0, |(_, before)| before);
                news.push((why, clause(total - of_these, text)));
                *told = Some((now, total));
            }
        }
        news
    }
}

fn clause(total: u64, [noun, what]: [&str; 2]) -> String {
    let s = if total == 1 { "" } else { "s" };
    format!("{total} {noun}{s} {what}")
}

/// Lines of [`LeftAside::lines`].
const LINES: usize = 10;
/// A flood goes on for hours: one line an hour says so, the totals are in `/api/status` all the time.
pub const PAUSE: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_once_and_again_after_the_pause_with_what_came_since() {
        let mut news = News::default();
        let at = |s: u64| Timestamp::EPOCH + Duration::from_secs(s);
        assert_eq!(news.of(at(0), &LeftAside::default()), []);
        let flood = |n| LeftAside { calls_evicted: n, ..LeftAside::default() };
        let first = news.of(at(1), &flood(1));
        assert_eq!(
            first,
            [(Why::Full, String::from("1 unanswered INVITE dropped for newer ones (a flood of INVITEs)"))]
        );
        assert_eq!(news.of(at(2), &flood(500)), []);
        // Another table speaks for itself.
        let more = LeftAside { sip_unreadable: 2, ..flood(700) };
        assert_eq!(news.of(at(3), &more), [(Why::Unreadable, String::from("2 SIP messages that could not be read"))]);
        let later = news.of(at(1 + 3_600), &more);
        assert!(later.len() == 1 && later[0].1.starts_with("699 unanswered INVITEs"), "{later:?}");
        assert_eq!(news.of(at(10_000), &more), [], "nothing came since");
    }

    #[test]
    fn every_bound_of_decoder_and_engine_is_among_the_totals() {
        let mut decode = decode::Counters::default();
        decode.dropped.fragment_limit = 1;
        decode.dropped.overlapping_fragments = 2;
        decode.dropped.bad_ip_header = 4;
        decode.streams.evicted = 8;
        decode.cut_frames = 16;
        let engine = engine::Counters {
            legs_refused: 32,
            legs_evicted: 64,
            rtp_refused: 128,
            tcp_refused: 256,
            sip_rejected: 512,
            rtp_not_kept: 1_024,
            ..engine::Counters::default()
        };
        let totals = LeftAside::of(&decode, &engine);
        // Each counter is a bit of its own, so a sum of all lines shows that none is missing or counted twice.
        assert_eq!(totals.lines().iter().map(|line| line.1).sum::<u64>(), 2_047);
        assert_eq!(totals.for_want_of_room(), 1 + 8 + 32 + 64 + 128 + 256 + 1_024);
        assert_eq!(LeftAside::default().to_string(), "nothing");
        assert!(totals.to_string().contains("32 calls not taken in") && totals.to_string().contains("16 frames cut"));
    }
}
