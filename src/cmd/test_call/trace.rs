//! Checks step by step whether a test call passed through the recorder, and names the first step that failed.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::tones::{self, ToneShares};
use crate::call::record::{CallProblem, CallRecord, CallVerdict, ProblemKind, Side};
use crate::journal::{CallFilter, CallStage, Journal, StoredCall};
use crate::ops::alerts::AlarmKind;
use crate::ops::config::Config;
use crate::ops::status::ServiceReport;
use crate::service::clock::{monotonic, wall_clock};
use crate::time::Timestamp;

/// Steps of a test call on its way from the network card to Pyrus, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TestStep {
    /// The service runs, and it captures frames.
    Recorder,
    /// The network card has sent the packets.
    Send,
    /// The mirror port showed the signalling of both directions.
    Mirror,
    /// The mirror port showed the RTP of both directions.
    Media,
    /// The packets were stored in the spool, and the recording was written.
    Recording,
    /// The recording has the tone of each side in that side's own channel.
    Sound,
    /// Pyrus accepts calls. If the command has the option `--deliver`, Pyrus has accepted this call, too.
    Delivery,
}

impl TestStep {
    /// Returns the name of the step in the output, e.g. `mirror`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Recorder => "recorder",
            Self::Send => "send",
            Self::Mirror => "mirror",
            Self::Media => "media",
            Self::Recording => "recording",
            Self::Sound => "sound",
            Self::Delivery => "delivery",
        }
    }
}

/// Result of one step of the test call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct StepResult {
    pub(super) step: TestStep,
    pub(super) ok: bool,
    pub(super) detail: String,
}

/// Text that explains a failed step: the reason and the remedy.
pub(super) type StepError = String;

/// A step, and the function that checks this step and returns a text about the result.
type StepCheck<'a> = (TestStep, &'a dyn Fn() -> Result<String, StepError>);

/// Facts about the test call that was sent, to compare with the recording.
#[derive(Clone, Debug)]
pub(super) struct SentCall {
    /// Call-ID, by which the call is found in the journal.
    pub(super) call_id: String,
    /// Wall-clock time just before the first packet was sent.
    pub(super) at: Timestamp,
    /// Number of RTP packets that each side sent.
    pub(super) rtp: u64,
    /// Time between the 200 response to the INVITE and the BYE.
    pub(super) talk: Duration,
    /// Report of the service just before the call, to compare its counters.
    pub(super) before: ServiceReport,
}

/// Checks step by step whether a test call passed through the recorder.
pub(super) struct CallTrace<'a> {
    /// Configuration of the recorder that is tested.
    pub(super) config: &'a Config,
    /// The test call that is searched for in the recorder.
    pub(super) sent: &'a SentCall,
    /// Maximum time to wait for the call record, and then for Pyrus.
    pub(super) patience: Duration,
    /// Whether the call is to be delivered to Pyrus.
    pub(super) deliver: bool,
}

impl CallTrace<'_> {
    /// Checks the steps in their order, up to the first step that failed. Returns the id of the call, if it has a
    /// record.
    pub(super) fn follow(&self, steps: &mut Vec<StepResult>) -> Option<String> {
        let stored = self.wait_for(self.patience, |call| call.stage == CallStage::Complete);
        let Some(stored) = stored else {
            self.add(steps, TestStep::Mirror, Err(self.why_not_seen()));
            return None;
        };
        let id = stored.record.id.clone();
        let checks: [StepCheck<'_>; 5] = [
            (TestStep::Mirror, &|| mirror(&stored.record)),
            (TestStep::Media, &|| self.media(&stored.record)),
            (TestStep::Recording, &|| self.recording(&stored)),
            (TestStep::Sound, &|| self.sound(&stored.record)),
            (TestStep::Delivery, &|| self.delivery(&id)),
        ];
        if stored.record.verdict == Some(CallVerdict::Excluded) {
            if self.add(steps, TestStep::Mirror, mirror(&stored.record)) {
                self.add(steps, TestStep::Recording, Err(excluded(&id)));
            }
            return Some(id);
        }
        // If packets could not be stored in the spool, later steps fail, too. So this error is reported first.
        if let Some(error) = spool_error(&stored.record) {
            self.add(steps, TestStep::Recording, Err(error));
            return Some(id);
        }
        for (step, check) in checks {
            if !self.add(steps, step, check()) {
                break;
            }
        }
        Some(id)
    }

    /// Adds the result of a step. Returns true if the step succeeded.
    fn add(&self, steps: &mut Vec<StepResult>, step: TestStep, result: Result<String, StepError>) -> bool {
        let ok = result.is_ok();
        let (Ok(detail) | Err(detail)) = result;
        steps.push(StepResult { step, ok, detail });
        ok
    }

    /// Waits until the journal has the call and `is_ready` returns true for it, at most for `patience`. Returns the
    /// call as the journal then has it; `None` if the journal does not have it.
    #[expect(clippy::disallowed_methods, reason = "another process works on the call")]
    pub(super) fn wait_for(&self, patience: Duration, is_ready: impl Fn(&StoredCall) -> bool) -> Option<StoredCall> {
        let until: Instant = monotonic() + patience;
        loop {
            let found = self.find();
            if found.as_ref().is_some_and(&is_ready) || monotonic() >= until {
                return found;
            }
            std::thread::sleep(POLL);
        }
    }

    fn find(&self) -> Option<StoredCall> {
        let journal = Journal::open_read_only(&self.config.journal).ok()?;
        let filter = CallFilter { since: Some(self.sent.at - CLOCK_SLACK), ..CallFilter::default() };
        let calls = journal.calls(&filter).ok()?;
        calls.into_iter().find(|call| call.record.legs.iter().any(|leg| leg.sip_call_id == self.sent.call_id))
    }

    /// Explains why the journal does not have the call. It compares the service's counters before and after the call.
    fn why_not_seen(&self) -> StepError {
        let Ok(after) = ServiceReport::read(&self.config.journal.dir) else {
            return String::from("the service has no report any more: look at `systemctl status callspan`");
        };
        if !after.is_alive(wall_clock()) {
            return String::from("the service stopped during the call: look at `journalctl -u callspan`");
        }
        let alarm = self.storage_alarm(&after);
        let before = &self.sent.before;
        let sip = after.sip_messages.saturating_sub(before.sip_messages);
        let other_media = after.rtp_unclaimed.saturating_sub(before.rtp_unclaimed);
        match (alarm, after.frames.saturating_sub(before.frames)) {
            (Some(alarm), _) => format!("the call is not in the journal, because of an alarm: {alarm}"),
            (None, frames) if frames <= FEW_FRAMES => format!(
                "{frames} frames reached the recorder during the call: the mirror is silent. Check the mirror session of \
                 the switch and the cable to the recorder"
            ),
            (None, _) if sip == 0 && other_media >= self.sent.rtp => String::from(
                "the RTP of the call reached the recorder, its SIP did not: the mirror must show the signalling, too",
            ),
            (None, frames) => format!(
                "{frames} frames reached the recorder, but not the INVITE: the mirror does not show the port of this card"
            ),
        }
    }

    fn media(&self, record: &CallRecord) -> Result<String, StepError> {
        let (sent, sides) = (self.sent.rtp, &record.sides);
        let [caller, callee] = [sides.caller.packets, sides.callee.packets];
        match (caller, callee) {
            (0, 0) => Err(String::from(
                "the SIP messages arrived, no RTP: the mirror must show the media as well (another VLAN, or a filter of \
                 UDP ports)",
            )),
            (_, 0) | (0, _) => Err(format!(
                "the SIP messages of the {} arrived, but not the RTP: a filter before the recorder removes RTP",
                side_name(if caller == 0 { Side::Caller } else { Side::Callee })
            )),
            _ => {
                let lost = (2 * sent).saturating_sub(caller + callee);
                let by_us = record.problems.iter().any(|problem| problem.kind == ProblemKind::LostByUs);
                match (lost * 100 > 2 * sent * MAX_LOSS_PERCENT, by_us) {
                    (true, true) => {
                        Err(format!("{lost} of {} packets were lost by this machine: {MORE_BUFFER}", 2 * sent))
                    }
                    (true, false) => {
                        Err(format!("{lost} of {} RTP packets are missing: the mirror port loses frames", 2 * sent))
                    }
                    (false, _) => {
                        Ok(format!("{caller} and {callee} of {sent} RTP packets arrived from caller and callee"))
                    }
                }
            }
        }
    }

    fn recording(&self, stored: &StoredCall) -> Result<String, StepError> {
        let record = &stored.record;
        if stored.stage != CallStage::Complete {
            let report = ServiceReport::read(&self.config.journal.dir).unwrap_or_default();
            let why = self.storage_alarm(&report).unwrap_or_else(|| {
                format!("it is not complete after {} s; `callspan calls show {}`", self.patience.as_secs(), record.id)
            });
            return Err(format!("the recording could not be written: {why}"));
        }
        if record.verdict != Some(CallVerdict::BothSides) {
            let reason = record.verdict_reason.as_deref().unwrap_or("there is no recording");
            return Err(format!("the call cannot be heard: {reason}"));
        }
        let seconds: f64 = record.recordings.iter().map(|file| file.duration_s).sum();
        let talk = self.sent.talk.as_secs_f64();
        if (seconds - talk).abs() > MAX_LENGTH_ERROR_S {
            return Err(format!("the recording has {seconds:.1} s of a call of {talk:.1} s"));
        }
        Ok(format!("call {} has both sides, {seconds:.1} s", record.id))
    }

    /// Returns the newest alarm of the service that explains why the recording is missing; `None` if there is no such
    /// alarm.
    fn storage_alarm(&self, report: &ServiceReport) -> Option<String> {
        let alarm = report.alarms.iter().rev().find(|alarm| STORAGE_ALARMS.contains(&alarm.kind))?;
        Some(format!("{}: {}", alarm.kind.name(), alarm.detail))
    }

    fn sound(&self, record: &CallRecord) -> Result<String, StepError> {
        let Some(file) = record.recordings.first() else { return Err(String::from("there is no recording")) };
        if file.plain_sha256.is_some() {
            return Ok(String::from("not compared, because the recording is encrypted already"));
        }
        let shares = tones::measure(Path::new(&file.path), file.sample_rate)
            .map_err(|error| format!("the recording {} cannot be read: {error}", file.path))?;
        check_tones(&shares)
    }
}

/// Checks that the SIP messages of both directions were captured.
fn mirror(record: &CallRecord) -> Result<String, StepError> {
    let is_answered = record.legs.iter().any(|leg| leg.sip_status.is_some());
    let callee = record.ringing_at.is_some() || is_answered;
    let one_way = |seen: Side| {
        let (seen, lost) = (side_name(seen), side_name(seen.other()));
        format!(
            "the mirror is one-way: it shows the packets that the {seen} sends, not those of the {lost}. Set the mirror \
             session to both directions (rx and tx)"
        )
    };
    match (record.request_uri.is_some(), callee) {
        (true, true) => Ok(String::from("the SIP messages of both directions arrived")),
        (true, false) => Err(one_way(Side::Caller)),
        (false, _) => Err(one_way(Side::Callee)),
    }
}

/// Explains that a rule of the configuration excludes the test call.
fn excluded(id: &str) -> StepError {
    format!(
        "a rule forbids to record a call between these numbers (`callspan calls show {id}` names it): choose others with \
         --from and --to"
    )
}

fn spool_error(record: &CallRecord) -> Option<StepError> {
    let is_spool = |problem: &&CallProblem| matches!(problem.kind, ProblemKind::DiskFull | ProblemKind::SpoolError);
    let problem = record.problems.iter().find(is_spool)?;
    Some(match problem.kind {
        ProblemKind::DiskFull => String::from("the disk of the spool is full: free space in spool.dir"),
        _ => String::from("the spool could not be written: look at the disk of spool.dir"),
    })
}

fn check_tones(shares: &ToneShares) -> Result<String, StepError> {
    if shares.is_right() {
        return Ok(String::from("the caller's tone is left, the callee's right"));
    }
    if shares.is_swapped() {
        return Err(String::from("the sides are swapped: the caller's tone is on the right"));
    }
    let missing: Vec<&str> = shares.missing().into_iter().map(side_name).collect();
    match missing.is_empty() {
        true => Err(String::from("the channels hold sound of the other side")),
        false => Err(format!("the tone of the {} is not in its channel", missing.join(" and the "))),
    }
}

const fn side_name(side: Side) -> &'static str {
    match side {
        Side::Caller => "caller",
        Side::Callee => "callee",
    }
}

/// Kinds of alarms that explain why a recording was not written.
const STORAGE_ALARMS: [AlarmKind; 6] = [
    AlarmKind::DiskFull,
    AlarmKind::DiskReadOnly,
    AlarmKind::StorageMissing,
    AlarmKind::RecordingFailed,
    AlarmKind::RenderFailed,
    AlarmKind::JournalDamaged,
];
const MORE_BUFFER: &str = "increase capture.buffer_mib, or give it more processor time";
/// Pause between two reads of the journal while a step of the test call is waited for.
pub(super) const POLL: Duration = Duration::from_millis(250);
/// Tolerance for comparing wall-clock times. It is large, because the wall clock may be corrected during the call.
const CLOCK_SLACK: Duration = Duration::from_secs(60);
/// Maximum number of frames, e.g. broadcasts, that a card receives during a call if its switch port mirrors nothing.
const FEW_FRAMES: u64 = 20;
/// Maximum share of lost packets, per cent, with which a test call passes. A listener does not hear so small a loss.
const MAX_LOSS_PERCENT: u64 = 1;
/// Maximum difference in length between the call and its recording, seconds. Switch and kernel delay packets only by
/// milliseconds.
const MAX_LENGTH_ERROR_S: f64 = 0.5;
