//! The file `expect.json` beside a capture. It has facts about the call that come from its endpoints and not from
//! callspan.

use callspan::call::record::{CallDirection, CallOutcome, CallRecord, CallVerdict, EndedBy, Side};
use callspan::time::Timestamp;
use serde::Deserialize;

use crate::support::captures::fixture;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectFile {
    calls: Vec<ExpectedCall>,
}

/// Expected values of a call. Times are exact to a millisecond.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedCall {
    from: String,
    to: String,
    internal: String,
    direction: CallDirection,
    outcome: CallOutcome,
    sip_status: u16,
    ended_by: EndedBy,
    invited_at: Timestamp,
    answered_at: Option<Timestamp>,
    operator_answered_at: Option<Timestamp>,
    ended_at: Timestamp,
    verdict: CallVerdict,
    legs: usize,
    /// Events as `KIND SIDE`, in the order of time.
    #[serde(default)]
    events: Vec<String>,
    pub(crate) codec: Option<String>,
    sample_rate: Option<u32>,
    /// Streams of the rendered leg.
    #[serde(default)]
    pub(crate) streams: Vec<ExpectedStream>,
}

/// A stream of the rendered leg.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedStream {
    pub(crate) side: Side,
    pub(crate) src: String,
    pub(crate) dst: String,
    ssrc: String,
    packets: u64,
    /// The file that the endpoint played. It is needed for codecs with packets that cannot be compared with the
    /// recording directly.
    pub(crate) played: Option<PlayedFile>,
}

/// A file of fixtures/truth, and the time at which its first sample was played.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlayedFile {
    pub(crate) wav: String,
    pub(crate) from: Timestamp,
}

pub(crate) fn read(name: &str) -> Vec<ExpectedCall> {
    let text = std::fs::read_to_string(fixture(&format!("calls/{name}/expect.json"))).unwrap();
    serde_json::from_str::<ExpectFile>(&text).unwrap().calls
}

impl ExpectedStream {
    pub(crate) fn ssrc(&self) -> u32 {
        u32::from_str_radix(self.ssrc.trim_start_matches("0x"), 16).unwrap()
    }
}

impl ExpectedCall {
    pub(crate) fn check(&self, record: &CallRecord) {
        let who = |r: &CallRecord| [r.from.clone(), r.to.clone(), r.internal.clone()].map(Option::unwrap_or_default);
        assert_eq!(who(record), [self.from.clone(), self.to.clone(), self.internal.clone()]);
        assert_eq!((record.direction, record.outcome), (self.direction, self.outcome));
        assert_eq!((record.sip_status, record.ended_by), (Some(self.sip_status), Some(self.ended_by)));
        assert_eq!(record.verdict, Some(self.verdict), "{:?}", record.verdict_reason);
        assert_eq!(record.legs.len(), self.legs, "legs: {:#?}", record.legs);
        assert_same_time("invited_at", record.invited_at, Some(self.invited_at));
        assert_same_time("answered_at", record.answered_at, self.answered_at);
        if self.operator_answered_at.is_some() {
            assert_same_time("operator_answered_at", record.operator_answered_at, self.operator_answered_at);
        }
        assert_same_time("ended_at", record.ended_at, Some(self.ended_at));
        let side = |side: Option<Side>| side.map_or("", |s| if s == Side::Caller { " caller" } else { " callee" });
        let events: Vec<String> = record.events.iter().map(|e| format!("{}{}", e.kind, side(e.side))).collect();
        assert_eq!(events, self.events);
        assert!(record.problems.is_empty(), "{:?}", record.problems);
        let rates: Vec<u32> = record.recordings.iter().map(|r| r.sample_rate).collect();
        assert_eq!(rates, self.sample_rate.into_iter().collect::<Vec<_>>());
        for side in [Side::Caller, Side::Callee] {
            self.check_side(record, side);
        }
    }

    fn check_side(&self, record: &CallRecord, side: Side) {
        let got = record.sides.get(side);
        let wanted: Vec<(String, String, String, u64)> = (self.streams.iter().filter(|s| s.side == side))
            .map(|s| (s.src.clone(), s.dst.clone(), s.ssrc.clone(), s.packets))
            .collect();
        let streams: Vec<(String, String, String, u64)> =
            got.streams.iter().map(|s| (s.src.to_string(), s.dst.to_string(), s.ssrc.clone(), s.packets)).collect();
        assert_eq!(streams, wanted, "{side:?}");
        let codecs: Vec<String> = if wanted.is_empty() { vec![] } else { self.codec.iter().cloned().collect() };
        assert_eq!(got.codecs, codecs, "{side:?}");
        assert_eq!(got.packets, wanted.iter().map(|s| s.3).sum::<u64>(), "{side:?}");
        assert_eq!((got.lost, got.duplicates, got.reordered), (0, 0, 0), "{side:?}");
    }
}

fn assert_same_time(what: &str, got: Option<Timestamp>, wanted: Option<Timestamp>) {
    let off_ns = match (got, wanted) {
        (Some(got), Some(wanted)) => got.as_nanos().abs_diff(wanted.as_nanos()),
        (None, None) => 0,
        _ => panic!("{what}: {got:?}, not {wanted:?}"),
    };
    assert!(off_ns <= 1_000_000, "{what}: {got:?}, not {wanted:?}");
}
