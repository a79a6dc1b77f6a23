//! Alarms about faults of the mirror port. The faults are: no SIP at an hour that had SIP on earlier days, packets in
//! one direction only, media without signalling.
//!
//! Traffic is counted in *windows* of equal length. At the end of each window the rules of `callspan doctor` examine
//! its counters. An alarm is raised if two windows in a row have the same finding; a single odd call does not suffice.
//! A window without the finding ends the alarm. A window without traffic and without a finding changes nothing. A file
//! in the state folder stores at which hours of the last days there was SIP.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::call::engine::EngineCounters;
use crate::call::event::EndedCall;
use crate::call::record::{CallVerdict, EventKind};
use crate::decode::counters::DecodeCounters;
use crate::ops::alerts::AlarmKind;
use crate::ops::doctor::calls::CallTally;
use crate::ops::doctor::traffic::TrafficMonitor;
use crate::ops::doctor::{self, DoctorFinding, FindingKind, FindingSeverity, Observation};
use crate::ops::mirror_report::MirrorDirections;
use crate::time::Timestamp;

/// Detects faults of the mirror port while the service runs. It examines the counters of the traffic.
#[derive(Debug)]
pub(crate) struct MirrorWatch {
    calls: CallTally,
    /// Wall-clock time since which the calls in `calls` have been counted.
    calls_since: Timestamp,
    window_began: Timestamp,
    counters: (EngineCounters, DecodeCounters),
    one_sided: MirrorCondition,
    unheard: MirrorCondition,
    silence: SipSilence,
    /// Directions of the traffic in the last finished window (period of counting); `None` until the first window has
    /// finished.
    directions: Option<MirrorDirections>,
    /// Length of a window, i.e. of the time for which traffic is counted.
    window: Duration,
}

/// Times on which the alarms about the mirror port depend, from the section `[alerts]` of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MirrorTimes {
    /// Time without SIP after which an alarm is raised. Zero switches the alarm off.
    pub(crate) patience: Duration,
    /// Length of a window: the time for which traffic is counted before it is examined.
    pub(crate) window: Duration,
}

impl MirrorTimes {
    /// Reads `mirror_silent_minutes` and `mirror_window_minutes` from the configuration.
    pub(crate) const fn of(config: &crate::ops::alerts::Config) -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            patience: MINUTE.saturating_mul(config.mirror_silent_minutes),
            window: MINUTE.saturating_mul(config.mirror_window_minutes),
        }
    }
}

/// A kind of fault of the mirror port, and the state of its alarm.
#[derive(Clone, Copy, Debug)]
struct MirrorCondition {
    raises: AlarmKind,
    ends: AlarmKind,
    /// Number of windows (periods of counting) with this fault. A window with traffic but without this fault resets the
    /// number to 0.
    strikes: u32,
    is_raised: bool,
}

/// Counters of the service at the end of a window (period of counting).
#[derive(Clone, Copy, Debug)]
pub(crate) struct MirrorCounters<'a> {
    /// Counters of the engine, which finds the calls: calls, SIP messages and media packets.
    pub(crate) engine: &'a EngineCounters,
    /// Counters of the decoder: tunnels, fragments, copies and unreadable frames.
    pub(crate) decode: &'a DecodeCounters,
}

impl MirrorWatch {
    /// Starts to detect faults at the wall-clock time `now`. `file` contains the hours of past days in which SIP was
    /// captured.
    pub(crate) fn start(file: &Path, times: MirrorTimes, now: Timestamp) -> Self {
        Self {
            calls: CallTally::default(),
            calls_since: now,
            window_began: now,
            counters: Default::default(),
            one_sided: MirrorCondition::new(AlarmKind::MirrorOneSided, AlarmKind::MirrorOneSidedOver),
            unheard: MirrorCondition::new(AlarmKind::MediaUnheard, AlarmKind::MediaUnheardOver),
            silence: SipSilence::start(file, times.patience, now),
            directions: None,
            window: times.window,
        }
    }

    /// Uses other alarm times from now on, also for the window (period of counting) that has begun.
    pub(crate) const fn reload(&mut self, times: MirrorTimes) {
        (self.silence.patience, self.window) = (times.patience, times.window);
    }

    /// Counts an ended call by the number of its sides that have captured media (0 to 2).
    pub(crate) fn handle_ended(&mut self, call: &EndedCall) {
        let record = &call.record;
        let Some((answered, ended)) = record.answered_at.zip(record.ended_at) else { return };
        let is_fax = record.events.iter().any(|event| event.kind == EventKind::Fax);
        let is_excluded = record.verdict == Some(CallVerdict::Excluded);
        if is_fax || is_excluded || ended.since(answered) < MIN_TALK {
            return;
        }
        self.calls.all += 1;
        self.calls.talked += 1;
        match [&record.sides.caller, &record.sides.callee].iter().filter(|side| side.packets > 0).count() {
            0 => self.calls.silent += 1,
            1 => self.calls.one_side += 1,
            _ => self.calls.both_sides += 1,
        }
    }

    /// Examines the counters and resets `traffic` at the end of a window (period of counting). Returns the alarms to
    /// raise.
    pub(crate) fn check(
        &mut self,
        now: Timestamp,
        counters: MirrorCounters<'_>,
        traffic: &mut TrafficMonitor,
    ) -> Vec<(AlarmKind, String)> {
        let mut alarms: Vec<_> = self.silence.check(now, counters.engine.sip_messages).into_iter().collect();
        if now.since(self.window_began) >= self.window {
            alarms.extend(self.update_alarms(now, counters, traffic));
            *traffic = TrafficMonitor::default();
            self.counters = (*counters.engine, *counters.decode);
            self.window_began = now;
            if self.calls.talked >= MIN_CALLS || now.since(self.calls_since) >= CALLS_FOR {
                (self.calls, self.calls_since) = (CallTally::default(), now);
            }
        }
        alarms
    }

    /// Returns the directions of the traffic in the last finished window (period of counting); `None` until the first
    /// window has finished.
    pub(crate) const fn directions(&self) -> Option<MirrorDirections> {
        self.directions
    }

    /// Returns the new contents of the file that stores in which hours SIP arrived; `None` if the file need not be
    /// written now.
    pub(crate) fn take_file(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.silence.is_due).then(|| self.silence.days.to_json())
    }

    /// Returns the contents of the file that stores in which hours SIP arrived, to be written when the service ends.
    pub(crate) fn file(&self) -> Vec<u8> {
        self.silence.days.to_json()
    }

    fn update_alarms(
        &mut self,
        now: Timestamp,
        counters: MirrorCounters<'_>,
        traffic: &TrafficMonitor,
    ) -> Vec<(AlarmKind, String)> {
        let observation = self.observation(now, counters, traffic);
        let findings = doctor::mirror_findings(&observation);
        let enough_calls = observation.calls.talked >= MIN_CALLS;
        let seen = &observation.traffic;
        self.directions = Some(MirrorDirections::of(seen));
        let one_sided = findings.iter().find(|finding| {
            let by_hosts = seen.sip_ways.all_one_way() || seen.rtp_ways.pairs >= MIN_PAIRS;
            let evidence = if finding.kind == FindingKind::OneDirection { by_hosts } else { enough_calls };
            evidence && is_problem(finding) && matches!(finding.kind, FindingKind::OneDirection | FindingKind::OneSide)
        });
        let unheard = findings.iter().find(|finding| match finding.kind {
            FindingKind::RtpWithoutSip | FindingKind::RtpOfNoCall => observation.engine.rtp_packets == 0,
            FindingKind::SipWithoutRtp => enough_calls && is_problem(finding),
            _ => false,
        });
        let has_traffic = seen.plain.sip > 0 || seen.rtp_streams > 0;
        let mut alarms = Vec::new();
        alarms.extend(self.one_sided.update(one_sided, has_traffic));
        alarms.extend(self.unheard.update(unheard, has_traffic));
        alarms
    }

    fn observation(&self, now: Timestamp, counters: MirrorCounters<'_>, traffic: &TrafficMonitor) -> Observation {
        let (engine, decode) = self.counters;
        let mut since = EngineCounters {
            rtp_packets: counters.engine.rtp_packets - engine.rtp_packets,
            rtp_unclaimed: counters.engine.rtp_unclaimed - engine.rtp_unclaimed,
            sip_messages: counters.engine.sip_messages - engine.sip_messages,
            ..EngineCounters::default()
        };
        since.legs = counters.engine.legs - engine.legs;
        let mut decoded = DecodeCounters { frames: counters.decode.frames - decode.frames, ..Default::default() };
        decoded.streams.tls = counters.decode.streams.tls - decode.streams.tls;
        decoded.streams.sips = counters.decode.streams.sips - decode.streams.sips;
        Observation {
            subject: doctor::ObservedSource::Files,
            source: String::new(),
            first_at: None,
            seconds: now.since(self.window_began).as_secs_f64(),
            capture: Default::default(),
            decode: decoded,
            engine: since,
            traffic: traffic.seen(),
            calls: self.calls.clone(),
            machines: Vec::new(),
            taps: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

fn is_problem(finding: &DoctorFinding) -> bool {
    finding.severity == FindingSeverity::Problem
}

impl MirrorCondition {
    const fn new(raises: AlarmKind, ends: AlarmKind) -> Self {
        Self { raises, ends, strikes: 0, is_raised: false }
    }

    /// Updates the alarm about this fault at the end of a window (period of counting). The alarm begins after
    /// `MIN_STRIKES` windows with a finding. It ends with the first window that has traffic and no finding.
    fn update(&mut self, finding: Option<&DoctorFinding>, has_traffic: bool) -> Option<(AlarmKind, String)> {
        match finding {
            Some(finding) => {
                self.strikes += 1;
                if self.strikes < MIN_STRIKES || self.is_raised {
                    return None;
                }
                self.is_raised = true;
                let commands = finding.commands.join("; ");
                Some((self.raises, format!("{}. {} {commands}", finding.what, finding.remedy).trim_end().to_owned()))
            }
            None if has_traffic => {
                self.strikes = 0;
                let was_raised = std::mem::take(&mut self.is_raised);
                was_raised.then(|| (self.ends, String::from("the mirror shows complete calls again")))
            }
            None => None,
        }
    }
}

/// Detects silence: no SIP arrives at an hour at which SIP arrived on earlier days.
#[derive(Debug)]
struct SipSilence {
    patience: Duration,
    days: SipDays,
    messages: u64,
    last_sip: Timestamp,
    saved_at: Timestamp,
    /// Whether `days` (the hours with SIP) has changed and is to be written to its file.
    is_due: bool,
    is_raised: bool,
}

/// The ten-minute slots (0 to 143) of each day in which SIP arrived. The key is the number of the day since the Unix
/// epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct SipDays(BTreeMap<i64, Vec<u16>>);

impl SipSilence {
    fn start(file: &Path, patience: Duration, now: Timestamp) -> Self {
        let days = std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { patience, days, messages: 0, last_sip: now, saved_at: now, is_due: false, is_raised: false }
    }

    fn check(&mut self, now: Timestamp, messages: u64) -> Option<(AlarmKind, String)> {
        if messages > self.messages {
            (self.messages, self.last_sip) = (messages, now);
            self.days.note(now);
            if now.since(self.saved_at) >= SAVE_EVERY {
                (self.saved_at, self.is_due) = (now, true);
            }
            let was_raised = std::mem::take(&mut self.is_raised);
            return was_raised.then(|| (AlarmKind::MirrorSilentOver, String::from("SIP arrives again")));
        }
        let silent = now.since(self.last_sip);
        if self.patience.is_zero() || silent < self.patience || self.is_raised || !self.days.expects(now) {
            return None;
        }
        self.is_raised = true;
        let detail = format!(
            "no SIP for {} minutes at an hour with SIP on earlier days: check the mirror session of the switch, the \
             cable and the PBX. The source of the session must be the port of the PBX, in both directions. The command \
             `callspan doctor` checks the port",
            silent.as_secs() / 60
        );
        Some((AlarmKind::MirrorSilent, detail))
    }
}

impl SipDays {
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default() // numbers can always be written as JSON
    }

    fn note(&mut self, now: Timestamp) {
        let (day, slot) = place(now);
        let slots = self.0.entry(day).or_default();
        if !slots.contains(&slot) {
            slots.push(slot);
        }
        while self.0.len() > MAX_DAYS {
            self.0.pop_first();
        }
    }

    /// Returns whether SIP is expected at this hour. It is expected if most ten-minute slots of the hour had SIP a week
    /// ago. In the first week, yesterday is used instead, but only if both days are working days or both are at a
    /// weekend. Otherwise no SIP is expected.
    fn expects(&self, now: Timestamp) -> bool {
        let (today, slot) = place(now);
        let knows_week = self.0.keys().any(|day| *day <= today - 7);
        let like = if knows_week { today - 7 } else { today - 1 };
        let hour = slot / SLOTS_IN_HOUR;
        let slots = self.0.get(&like).into_iter().flatten();
        let is_usual = slots.filter(|slot| **slot / SLOTS_IN_HOUR == hour).count() >= MIN_SLOTS;
        is_usual && is_weekend(like) == is_weekend(today)
    }
}

fn place(at: Timestamp) -> (i64, u16) {
    let seconds = at.as_micros().div_euclid(1_000_000);
    let slot = seconds.rem_euclid(DAY_S) / SLOT_S;
    (seconds.div_euclid(DAY_S), u16::try_from(slot).unwrap_or(0))
}

/// Returns whether a day is a Saturday or Sunday. Days are counted from 1970-01-01 (day 0), a Thursday.
const fn is_weekend(day: i64) -> bool {
    matches!(day.rem_euclid(7), 2 | 3)
}

/// Number of consecutive windows (periods of counting) with the same finding that raises an alarm.
const MIN_STRIKES: u32 = 2;
/// Minimum number of calls for a finding about calls. Fewer calls prove nothing, because they may be muted or on hold.
const MIN_CALLS: u64 = 3;
/// Minimum number of pairs of hosts with RTP for the finding that only one direction is captured. A single pair may be
/// media that only one side sends.
const MIN_PAIRS: u64 = 2;
/// Maximum time over which calls are counted. The count continues over several windows until it has [`MIN_CALLS`] calls
/// or this time is over.
const CALLS_FOR: Duration = Duration::from_secs(3600);
/// Minimum length of an answered call that is counted. A shorter call may have no media without a fault. The command
/// `callspan doctor` uses the same length.
const MIN_TALK: Duration = Duration::from_secs(2);
/// Maximum number of days whose hours with SIP are stored: two weeks and today.
const MAX_DAYS: usize = 15;
const DAY_S: i64 = 86_400;
const SLOT_S: i64 = 600;
const SLOTS_IN_HOUR: u16 = 6;
/// Minimum number of the six ten-minute slots of an hour that must have had SIP. With only one call an hour, silence is
/// normal and raises no alarm.
const MIN_SLOTS: usize = 4;
/// Minimum time between two writes of the file that stores in which hours of the week the mirror showed SIP.
const SAVE_EVERY: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::record::CallRecord;

    /// Time at which the tests begin: Monday 2026-11-23, 09:00 UTC, in seconds since the Unix epoch.
    const MONDAY_9: i64 = 1_795_424_400;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(MONDAY_9 + seconds)
    }

    fn watch(dir: &tempfile::TempDir) -> MirrorWatch {
        let times = MirrorTimes { patience: Duration::from_secs(900), window: Duration::from_secs(300) };
        MirrorWatch::start(&dir.path().join("mirror.json"), times, at(0))
    }

    fn call(caller: u64, callee: u64) -> EndedCall {
        let mut record = CallRecord { answered_at: Some(at(0)), ended_at: Some(at(10)), ..CallRecord::default() };
        (record.sides.caller.packets, record.sides.callee.packets) = (caller, callee);
        let registration = crate::call::event::RegistrationPolicy::Allowed;
        EndedCall { record, legs: Vec::new(), registration, wall_offset_ns: 0 }
    }

    fn kinds(alarms: &[(AlarmKind, String)]) -> Vec<&'static str> {
        alarms.iter().map(|(kind, _)| kind.name()).collect()
    }

    #[test]
    fn incomplete_calls_raise_an_alarm_that_complete_calls_end() {
        for (packets, raised, over) in
            [((500, 0), "mirror_one_sided", "mirror_one_sided_over"), ((0, 0), "media_unheard", "media_unheard_over")]
        {
            let dir = tempfile::tempdir().unwrap();
            let mut watch = watch(&dir);
            let mut engine = EngineCounters::default();
            let mut all = Vec::new();
            assert_eq!(watch.directions(), None, "before the end of the first window");
            for window in 1..=4 {
                let (caller, callee) = if window == 4 { (500, 500) } else { packets };
                (0..3).for_each(|_| watch.handle_ended(&call(caller, callee)));
                engine.sip_messages += 20;
                let mut traffic = traffic_with_sip();
                let counters = MirrorCounters { engine: &engine, decode: &DecodeCounters::default() };
                all.push(kinds(&watch.check(at(window * 300), counters, &mut traffic)));
            }
            assert_eq!(all, [vec![], vec![raised], vec![], vec![over]], "{packets:?}");
            let sip = watch.directions().map(|directions| (directions.sip.pairs, directions.sip.one_way));
            assert_eq!(sip, Some((1, 0)));
        }
    }

    /// Returns traffic counters with SIP in both directions between two hosts.
    fn traffic_with_sip() -> TrafficMonitor {
        let mut traffic = TrafficMonitor::default();
        let (a, b) = (crate::net::Endpoint::v4([10, 0, 0, 1], 5060), crate::net::Endpoint::v4([10, 0, 0, 2], 5060));
        for (src, dst) in [(a, b), (b, a), (a, b)] {
            traffic.handle_decoded(&crate::decode::DecodedItem::Datagram(crate::decode::UdpDatagram {
                at: at(0),
                src,
                dst,
                payload: b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: x\r\n\r\n",
                wire_len: 39,
                interface: 0,
            }));
        }
        traffic
    }

    #[test]
    fn silence_is_an_alarm_only_at_hours_that_had_sip() {
        let dir = tempfile::tempdir().unwrap();
        let mut silence = SipSilence::start(&dir.path().join("m"), Duration::from_secs(900), at(0));
        // On Monday there is SIP from 9:00 to 18:00 UTC.
        let mut messages = 0;
        for minute in 0..9 * 60 {
            messages += 1;
            assert_eq!(silence.check(at(minute * 60), messages), None);
        }
        // There is no more SIP, neither in the night nor on Tuesday morning. The alarm is raised on Tuesday at 9:00,
        // because Monday had SIP from then on.
        let mut raised = Vec::new();
        for minute in 9 * 60..33 * 60 {
            if let Some((kind, _)) = silence.check(at(minute * 60), messages) {
                raised.push((kind.name(), minute));
            }
        }
        assert_eq!(raised, [("mirror_silent", 24 * 60)]);
        let over = silence.check(at(33 * 3600), messages + 1).map(|(kind, _)| kind.name());
        assert_eq!(over, Some("mirror_silent_over"));
    }

    #[test]
    fn silent_weekend_raises_no_alarm_and_the_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m");
        let friday = 4 * DAY_S;
        let mut silence = SipSilence::start(&file, Duration::from_secs(900), at(friday));
        for minute in 0..9 * 60 {
            silence.check(at(friday + minute * 60), u64::try_from(minute).unwrap() + 1);
        }
        std::fs::write(&file, silence.days.to_json()).unwrap();
        let mut again = SipSilence::start(&file, Duration::from_secs(900), at(friday + 9 * 3600));
        assert_eq!(again.days, silence.days);
        for minute in 0..48 * 60 {
            assert_eq!(again.check(at(friday + DAY_S + minute * 60), 0), None);
        }
        // Friday had SIP from 9:00 to 18:00. So SIP is expected at 10:00 a week later, and the missing SIP raises the
        // alarm.
        assert!(again.check(at(friday + 7 * DAY_S + 3600), 0).is_some());
    }
}
