//! Scans: many unanswered INVITEs from one source address become one record.
//!
//! A scanner sends thousands of INVITEs that nobody answers. Without this module each would become a row of the journal
//! and a task in Pyrus, and real calls would be delayed.
//!
//! A leaky bucket measures the rate of each source address. A new call adds one to it, and an answered call removes
//! [`ANSWER_CREDIT`]. While the bucket is above the allowed rate, each new call is a *suspect* and is not announced. If
//! a suspect is answered or has media, it becomes an ordinary call. Otherwise it counts as an *attempt* and gets no
//! record of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::call::call_state::ScanState;
use crate::call::engine::Engine;
use crate::call::event::{CallEvent, EndedCall, RegistrationPolicy};
use crate::call::keys::{CallKey, LegKey};
use crate::call::record::{CallOutcome, CallRecord, CallVerdict, ProblemKind};
use crate::time::Timestamp;

/// The rate of calls of each source address.
#[derive(Debug, Default)]
pub(super) struct ScanTracker {
    sources: HashMap<IpAddr, SourceRate, foldhash::fast::RandomState>,
}

#[derive(Debug)]
struct SourceRate {
    /// Level of the leaky bucket, calls. It is negative after answered calls.
    level: f64,
    filled_at: Timestamp,
    scan: Option<ScanAttempts>,
}

/// The calls from one source address that ended unanswered (*attempts*), since the last record of this scan.
#[derive(Debug)]
struct ScanAttempts {
    /// Call record of the first attempt, i.e. of the first unanswered call of the scan.
    first: Box<CallRecord>,
    wall_offset_ns: i64,
    count: u64,
    began_at: Timestamp,
    /// Capture time at which the newest attempt (unanswered call of the scan) began.
    last_at: Timestamp,
    /// Capture time at which the last attempt (unanswered call of the scan) ended.
    ended_at: Timestamp,
}

/// Capture times at which an unanswered call of a scan began and ended.
#[derive(Clone, Copy, Debug)]
struct AttemptTimes {
    began_at: Timestamp,
    ended_at: Timestamp,
}

/// Whether a new call may be part of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallSuspicion {
    /// The source address does not exceed the allowed rate of calls.
    None,
    /// The source address exceeds the allowed rate of calls, so the call may be part of a scan.
    Scan,
}

impl ScanTracker {
    /// Counts a new call from a source address. Returns whether the call may be part of a scan. `rate` is the allowed
    /// number of calls in a minute; 0 is no limit.
    pub(super) fn add_call(&mut self, source: IpAddr, at: Timestamp, rate: u32) -> CallSuspicion {
        if rate == 0 {
            return CallSuspicion::None;
        }
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            self.sources.retain(|_, s| s.scan.is_some() || s.level_at(at, rate) > 0.0);
            if self.sources.len() >= MAX_SOURCES {
                return CallSuspicion::None;
            }
        }
        let source = self.sources.entry(source).or_insert(SourceRate { level: 0.0, filled_at: at, scan: None });
        source.level = source.level_at(at, rate) + 1.0;
        source.filled_at = source.filled_at.max(at);
        if source.level > f64::from(rate) { CallSuspicion::Scan } else { CallSuspicion::None }
    }

    /// Lowers the measured call rate of a source address, because one of its calls was answered. `rate` is the allowed
    /// number of calls per minute. The measured rate falls by [`ANSWER_CREDIT`], but not below `-rate`.
    pub(super) fn add_answer(&mut self, source: IpAddr, rate: u32) {
        if let Some(source) = self.sources.get_mut(&source) {
            source.level = (source.level - ANSWER_CREDIT).max(-f64::from(rate));
        }
    }

    /// Counts an unanswered call of a scan for its source address. `record` returns the call record; it is called only
    /// for the first call of the scan.
    fn add_attempt(&mut self, source: IpAddr, times: AttemptTimes, record: impl FnOnce() -> Option<(CallRecord, i64)>) {
        let Some(source) = self.sources.get_mut(&source) else { return };
        if let Some(scan) = &mut source.scan {
            scan.count += 1;
            scan.last_at = scan.last_at.max(times.began_at);
            scan.ended_at = times.ended_at;
        } else if let Some((record, wall_offset_ns)) = record() {
            let first = Box::new(record);
            let AttemptTimes { began_at, ended_at } = times;
            source.scan = Some(ScanAttempts { first, wall_offset_ns, count: 1, began_at, last_at: began_at, ended_at });
        }
    }

    /// Removes and returns the scans that are over, or all scans, in the order in which they began. Of scans that began
    /// at the same time, the scan from the lowest address is the first.
    fn take_over(&mut self, now: Timestamp, which: ScanSelection) -> Vec<(IpAddr, ScanAttempts)> {
        let is_over = |scan: &mut ScanAttempts| {
            which == ScanSelection::All
                || now.since(scan.ended_at) >= SCAN_QUIET
                || now.since(scan.began_at) >= MAX_SCAN_RECORD
        };
        let mut over: Vec<_> =
            self.sources.iter_mut().filter_map(|(ip, s)| Some((*ip, s.scan.take_if(|scan| is_over(scan))?))).collect();
        over.sort_by_key(|(source, scan)| (scan.began_at, *source));
        over
    }

    /// Returns the capture time at which the scans are checked next; `None` if there are none.
    fn next_check(&self, now: Timestamp) -> Option<Timestamp> {
        self.sources.values().any(|source| source.scan.is_some()).then(|| now + SCAN_QUIET)
    }
}

/// Selection of the scans to be ended: only scans that are over, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanSelection {
    Over,
    All,
}

impl SourceRate {
    /// Returns the level of the leaky bucket at the time `at`. The level falls at the allowed rate.
    fn level_at(&self, at: Timestamp, rate: u32) -> f64 {
        let leaked = at.since(self.filled_at).as_secs_f64() * f64::from(rate) / 60.0;
        if self.level > 0.0 { (self.level - leaked).max(0.0) } else { self.level }
    }
}

impl Engine {
    /// Counts a new call when its first leg is added. If its source address exceeds the allowed rate, the call may be
    /// part of a scan.
    pub(super) fn note_attempt(&mut self, slot: LegKey) {
        let Some((leg, call)) = self.table.leg_and_call_mut(slot) else { return };
        let (source, at) = (leg.dialog.caller_addr.ip(), leg.created_at);
        // A call that an earlier process announced must end with a record of its own. So it is never counted as a part
        // of a scan.
        let is_announced = call.origin.earlier_record().is_some();
        if !is_announced && call.legs().len() == 1 && leg.dialog.invited_at().is_none_or(|invited| invited <= at) {
            let suspicion = self.scans.tracker.add_call(source, at, self.settings.config.scan_per_minute);
            call.scan = match suspicion {
                CallSuspicion::None => ScanState::Counted(source),
                CallSuspicion::Scan => ScanState::Suspect(source),
            };
        }
    }

    /// Returns whether the call may be part of a scan and is still unanswered. When such a call is answered, it becomes
    /// an ordinary call, and lowers the measured rate of its source address.
    pub(super) fn is_scan_suspect(&mut self, conversation: CallKey) -> bool {
        let is_real = |leg: &crate::call::leg::Leg| leg.dialog.answered.is_some() || leg.has_media();
        let is_answered = self.table.legs_of(conversation).any(is_real);
        let Some(call) = self.table.call_mut(conversation) else { return false };
        if is_answered && let Some(source) = std::mem::take(&mut call.scan).source() {
            self.scans.tracker.add_answer(source, self.settings.config.scan_per_minute);
        }
        matches!(call.scan, ScanState::Suspect(_))
    }

    /// Counts a call of a scan that ended unanswered. The call gets no record of its own.
    pub(super) fn count_scan_attempt(&mut self, conversation: CallKey) {
        let Some(call) = self.table.call(conversation) else { return };
        let (Some(source), wall_offset_ns) = (call.scan.source(), call.wall_offset_ns) else { return };
        let times = AttemptTimes { began_at: call.created_at, ended_at: self.clock.now };
        self.counters.scan_attempts += 1;
        let mut scans = std::mem::take(&mut self.scans.tracker);
        scans.add_attempt(source, times, || Some((self.record_of(conversation)?, wall_offset_ns)));
        self.scans.tracker = scans;
        if self.scans.check_at.is_none() {
            self.scans.check_at = self.scans.tracker.next_check(self.clock.now);
        }
    }

    /// Emits the records of the scans that are over.
    pub(super) fn handle_scan_timer(&mut self) {
        if self.scans.check_at.is_none_or(|at| at > self.clock.now) {
            return;
        }
        self.emit_scans(ScanSelection::Over);
        self.scans.check_at = self.scans.tracker.next_check(self.clock.now);
    }

    /// Emits the records of all scans (many unanswered INVITEs from one address) when the process ends.
    pub(crate) fn handle_shutdown(&mut self) {
        self.emit_scans(ScanSelection::All);
        self.scans.check_at = None;
    }

    fn emit_scans(&mut self, which: ScanSelection) {
        for (source, scan) in self.scans.tracker.take_over(self.clock.now, which) {
            self.counters.calls += 1;
            let wall_offset_ns = scan.wall_offset_ns;
            let record = scan.into_record(source);
            let registration = RegistrationPolicy::Forbidden;
            let ended = EndedCall { record, legs: Vec::new(), registration, wall_offset_ns };
            self.events.push_back(CallEvent::Ended(Box::new(ended)));
        }
    }
}

impl ScanAttempts {
    /// Returns the record of the scan: the record of the first attempt without its numbers.
    fn into_record(self, source: IpAddr) -> CallRecord {
        let Self { mut first, count, last_at, wall_offset_ns, .. } = self;
        let last_at = last_at.offset(wall_offset_ns);
        let seconds = first.invited_at.map_or(0, |began| last_at.since(began).as_secs());
        (first.from, first.to, first.internal) = (None, None, None);
        (first.from_name, first.to_name) = (None, None);
        (first.from_uri, first.to_uri, first.request_uri) = (None, None, None);
        (first.outcome, first.sip_status) = (CallOutcome::Failed, None);
        first.ended_at = Some(last_at);
        first.verdict = Some(CallVerdict::NotAnswered);
        let attempts = if count == 1 { "attempt" } else { "attempts" };
        first.verdict_reason = Some(format!(
            "scan: {count} {attempts} from {source} in {seconds} s, none answered (calls.scan_per_minute)"
        ));
        first.problems = vec![ProblemKind::Scan.with_packets(count)];
        *first
    }
}

/// Number of unanswered calls that one answered call outweighs. A source with one answer in 20 calls is no scanner.
const ANSWER_CREDIT: f64 = 20.0;
/// Time without a call from the source address after which its scan is over. It is longer than the wait for an answer
/// to an INVITE (timer C of RFC 3261 is three minutes).
const SCAN_QUIET: Duration = Duration::from_secs(300);
/// Maximum time that one record of a scan covers. A longer scan gets further records, so that somebody notices it.
const MAX_SCAN_RECORD: Duration = Duration::from_secs(3_600);
/// Maximum number of source addresses in the table, about 100 bytes each. Calls from further addresses are never taken
/// for a scan.
const MAX_SOURCES: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 5));

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_secs(1_795_417_200) + Duration::from_millis(ms)
    }

    fn suspects(tracker: &mut ScanTracker, calls: u64, begin_ms: u64, every_ms: u64, rate: u32) -> usize {
        let is_suspect = |n: &u64| tracker.add_call(A, at(begin_ms + n * every_ms), rate) == CallSuspicion::Scan;
        (0..calls).filter(is_suspect).count()
    }

    #[test]
    fn only_calls_beyond_the_rate_are_suspects() {
        // The last argument of `suspects` is the allowed rate: ten calls a minute. All ten may begin at the same time.
        // Of 100 calls in 100 ms, the other 90 are suspects.
        assert_eq!(suspects(&mut ScanTracker::default(), 10, 0, 1, 10), 0);
        assert_eq!(suspects(&mut ScanTracker::default(), 100, 0, 1, 10), 90);
        assert_eq!(suspects(&mut ScanTracker::default(), 100, 0, 7_000, 10), 0, "one in seven seconds");
        assert_eq!(suspects(&mut ScanTracker::default(), 1_000, 0, 1, 0), 0, "0 is no limit");
        let mut tracker = ScanTracker::default();
        suspects(&mut tracker, 100, 0, 1, 10);
        assert_eq!(suspects(&mut tracker, 5, 3_600_000, 1, 10), 0, "an hour later");
    }

    #[test]
    fn source_with_answers_is_no_scanner() {
        let mut tracker = ScanTracker::default();
        for n in 0..1_000 {
            assert_eq!(tracker.add_call(A, at(n), 60), CallSuspicion::None, "call {n}");
            if n % 20 == 0 {
                tracker.add_answer(A, 60);
            }
        }
    }

    #[test]
    fn scans_that_began_together_end_in_the_order_of_their_addresses() {
        let sources = (0..12).map(|host| IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, host)));
        let mut tracker = ScanTracker::default();
        for source in sources.clone().rev() {
            tracker.add_call(source, at(0), 1);
            let times = AttemptTimes { began_at: at(0), ended_at: at(0) };
            tracker.add_attempt(source, times, || Some((CallRecord::default(), 0)));
        }
        let over = tracker.take_over(at(0), ScanSelection::All);
        assert!(over.iter().map(|(source, _)| *source).eq(sources));
    }
}
