//! A conversation: the legs that people would call one telephone call, and the call record made from them.

use std::time::Duration;

use crate::call::call_state::{AnnouncementStage, CallNotes, CallOrigin, CallRecording, LackedLegs, ScanState};
use crate::call::call_table::links::CallLinks;
use crate::call::config::{Config, RecordingStart};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::dialog::{AnswerEvidence, DialogStart};
use crate::call::event::RegistrationPolicy;
use crate::call::keys::LegKey;
use crate::call::left_out::left_out_tone;
use crate::call::leg::Leg;
use crate::call::leg_end::leg_ends;
use crate::call::numbers::NumberPlan;
use crate::call::pause::PauseHistory;
use crate::call::record::{
    CallDirection, CallOutcome, CallRecord, CallVerdict, EndedBy, EventKind, EventRecord, LegRecord, ProblemKind,
    RelationRecord, SCHEMA, Side, SideRecords,
};
use crate::call::roles::CallRoles;
use crate::call::streams::side_record;
use crate::time::Timestamp;

/// A conversation: one call with all its legs.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// Id of the call, which does not change at a restart (made by [`crate::call::id`]).
    pub(crate) id: String,
    /// Keys of the call's legs in the call table.
    pub(crate) links: CallLinks,
    /// Capture time of the call's first message.
    pub(crate) created_at: Timestamp,
    /// Wall clock minus capture time when the call began, ns.
    pub(crate) wall_offset_ns: i64,
    /// Whether events have announced the call.
    pub(crate) stage: AnnouncementStage,
    /// How the engine came to know the call.
    pub(crate) origin: CallOrigin,
    /// Whether rules about numbers must not join this call to others. True if the leg that caused the first leg is
    /// known, or if the first leg could belong to several calls.
    pub(crate) closed_to_heuristics: bool,
    /// Whether the call counts in the rate of unanswered calls of its source address.
    pub(crate) scan: ScanState,
    /// Progress of the call's recording, and of its registration in Pyrus.
    pub(crate) recording: CallRecording,
    /// Periods in which the recording was paused.
    pub(crate) pauses: PauseHistory,
    /// Relations to other calls, as the call record lists them.
    pub(crate) relations: Vec<RelationRecord>,
    /// Facts about the call that its legs do not contain.
    pub(crate) notes: CallNotes,
}

/// The state of a live call that events report. If a field changes, an event `Changed` is emitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveSnapshot {
    /// Caller's number, called number and extension; `None` where unknown.
    pub(crate) numbers: [Option<String>; 3],
    /// Capture time at which the call was answered; `None` before the answer.
    pub(crate) answered_at: Option<Timestamp>,
    /// Capture time at which a person answered the call; `None` before that answer.
    pub(crate) operator_answered_at: Option<Timestamp>,
    /// Whether a telephone rings now or rang before the answer.
    pub(crate) rings: bool,
}

impl From<&CallRecord> for LiveSnapshot {
    fn from(record: &CallRecord) -> Self {
        Self {
            numbers: [record.from.clone(), record.to.clone(), record.internal.clone()],
            answered_at: record.answered_at,
            operator_answered_at: record.operator_answered_at,
            rings: record.ringing_at.is_some(),
        }
    }
}

/// Whether the `[[rules]]` allow recording a call and registering it in Pyrus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RecordingPolicy {
    /// The call is recorded, and registered in Pyrus.
    #[default]
    Record,
    /// The call is not recorded.
    Exclude {
        /// Number of the rule that excludes the call, counted from 1 in the order of the configuration.
        rule: usize,
    },
    /// The call is a recording session, in which an SBC or telephone sends the sound of another call to a recorder
    /// (SIPREC). It is recorded but not registered in Pyrus.
    RecordingSession,
    /// The call is a test call of this recorder: it is recorded but not registered in Pyrus.
    TestCall,
    /// The call is recorded but not registered in Pyrus, because a rule says so.
    NoRegister {
        /// Number of the rule that forbids the registration, counted from 1 in the order of the configuration.
        rule: usize,
    },
}

impl RecordingPolicy {
    /// Returns whether the call may be registered in Pyrus. This is allowed even if the call is not recorded, because
    /// the entry in Pyrus needs no voice.
    pub(crate) const fn registration(self) -> RegistrationPolicy {
        match self {
            Self::Record | Self::Exclude { .. } => RegistrationPolicy::Allowed,
            Self::RecordingSession | Self::TestCall | Self::NoRegister { .. } => RegistrationPolicy::Forbidden,
        }
    }
}

/// Facts that the call record needs besides the legs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordContext<'a> {
    /// Configuration of the engine, e.g. the headers that a record contains.
    pub(crate) config: &'a Config,
    /// Number plan, which distinguishes extensions from outside numbers.
    pub(crate) plan: &'a NumberPlan,
    /// Names of the capture interface or of the capture files.
    pub(crate) source: &'a str,
}

impl Conversation {
    /// Creates a conversation that has no legs yet.
    pub(crate) fn new(id: String, created_at: Timestamp, wall_offset_ns: i64) -> Self {
        Self {
            id,
            links: CallLinks::default(),
            created_at,
            wall_offset_ns,
            stage: AnnouncementStage::Gathering { is_announced: false },
            origin: CallOrigin::Seen,
            closed_to_heuristics: false,
            scan: ScanState::Uncounted,
            recording: CallRecording::default(),
            pauses: PauseHistory::new(),
            relations: Vec::new(),
            notes: CallNotes::default(),
        }
    }

    /// Returns the keys of the call's legs, oldest leg first.
    pub(crate) fn legs(&self) -> &[LegKey] {
        self.links.legs()
    }

    /// Records the time for which the recorder did not run at a restart. If the legs have different such times, the
    /// record has the longest.
    pub(crate) fn note_restart(&mut self, gap: Duration) {
        let gap_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
        let problem = self.notes.note_problem(ProblemKind::RestartGap);
        // All legs report the time without a recorder at the same restart. So the longest time is kept, and the times
        // are not added.
        problem.ms = Some(problem.ms.map_or(gap_ms, |known| known.max(gap_ms)));
    }

    /// Records a relation to another call. Returns false if the relation is known, or if the call has too many
    /// relations.
    pub(crate) fn add_relation(&mut self, relation: RelationRecord) -> bool {
        let is_new = self.relations.len() < MAX_RELATED
            && relation.id != self.id
            && !self.relations.iter().any(|known| known.id == relation.id);
        if is_new {
            self.relations.push(relation);
            return true;
        }
        // A relation by content replaces the relation by the rule `ambiguous`, because content decides between the
        // calls. A relation by a REFER replaces the relation by the rule `consultation`, because the consultation led
        // to a transfer.
        let is_better = |known: &RelationRecord| {
            matches!(
                (known.why, relation.why),
                (CorrelationRule::Ambiguous, CorrelationRule::MediaContent)
                    | (CorrelationRule::Consultation, CorrelationRule::ReferReplaces)
            )
        };
        let known = self.relations.iter_mut().find(|known| known.id == relation.id);
        known.filter(|known| is_better(known)).map(|known| *known = relation.clone()).is_some()
    }

    /// Returns the call record as of now. `legs` are the legs of this call, oldest first.
    pub(crate) fn record(&self, legs: &[&Leg], context: RecordContext<'_>) -> CallRecord {
        let mut record = CallRecord {
            schema: SCHEMA,
            id: self.id.clone(),
            appliance: context.config.appliance.clone(),
            source: context.source.to_owned(),
            ..CallRecord::default()
        };
        let Some(roles) = CallRoles::from_legs(legs, context.plan) else { return record };
        let roles = if self.notes.lacks() == LackedLegs::Rung { roles.with_compacted_legs() } else { roles };
        let anchor = roles.anchor;
        let dialog = &anchor.dialog;
        // An agent's telephone may have been connected long before this call. Then its leg does not give the times of
        // the call.
        let is_idle_before = |l: &Leg| l.dialog.answered.is_some_and(|(at, _)| at + IDLE_AGENT <= anchor.created_at);
        let is_carried = |l: &Leg| l.created_at + IDLE_AGENT <= self.created_at && is_idle_before(l);
        let is_of_call = |l: &&&Leg| l.id == anchor.id || !is_carried(l);
        let of_call = || legs.iter().filter(is_of_call);
        // Recording sessions (SIPREC) lead to no party, so they give the record no times and no reason. If the capture
        // has only such a session, it counts.
        let is_of_party = |l: &&Leg| !l.is_recording_session() || anchor.is_recording_session();
        let of_parties: Vec<&Leg> = legs.iter().copied().filter(is_of_party).collect();
        let invited = || of_call().filter_map(|l| l.dialog.invited_at()).min();
        record.invited_at = invited().or_else(|| legs.iter().filter_map(|l| l.dialog.invited_at()).min());
        record.ringing_at = of_call().filter(|l| is_of_party(l)).filter_map(|l| l.dialog.ringing_at()).min();
        record.answered_at = dialog.answered.filter(|(_, how)| *how != AnswerEvidence::MidCall).map(|(at, _)| at);
        roles.fill_record(&mut record, context.plan);
        if let Some(answer) = self.notes.answered_elsewhere().filter(|_| roles.operator.is_none()) {
            record.outcome = CallOutcome::Answered;
            record.operator_answered_at = Some(answer.at);
            let named = roles.first.parties.named_extension().map(str::to_owned);
            record.internal = named.or_else(|| answer.extension.clone());
            if record.direction == CallDirection::Unknown {
                let inbound = roles.has_outside_caller(context.plan).then_some(CallDirection::Inbound);
                record.direction = answer.direction.or(inbound).unwrap_or_default();
            }
        }
        record.sip_status = dialog.status;
        record.reason_header = of_parties.iter().find_map(|l| l.dialog.reason().map(str::to_owned));
        record.sides = SideRecords {
            caller: side_record(anchor.media.streams(), Side::Caller),
            callee: side_record(anchor.media.streams(), Side::Callee),
        };
        let leg_record = |leg: &&Leg| {
            let [caller, callee] = leg_ends(leg, roles.path(), context.plan).map(Some);
            LegRecord { caller, callee, ..leg.record() }
        };
        record.legs = legs.iter().map(leg_record).chain(self.notes.compacted_legs().iter().cloned()).collect();
        record.events = events(&of_parties, &roles);
        record.events.extend_from_slice(self.pauses.events());
        record.events.extend(dialog.ended().and_then(|_| left_out_tone(legs, &roles)));
        if let Some(earlier) = self.origin.earlier_record() {
            self.take_earlier(&mut record, earlier, &roles);
        }
        record.events.sort_by_key(|e| e.at);
        record.paused = self.pauses.record(dialog.ended().map(|(at, _)| at));
        record.related = self.relations.iter().map(|relation| relation.id.clone()).collect();
        record.relations.clone_from(&self.relations);
        record.problems = self.notes.problems().to_vec();
        if let Some((at, by)) = dialog.ended() {
            record.ended_at = Some(at);
            // A caller may give up with a BYE instead of a CANCEL (RFC 3261 section 15). So a call without an answer
            // ends as `signalling`, i.e. as if it had been cancelled.
            let early = dialog.answered.is_none() && dialog.start == DialogStart::Invite;
            let hung_up = matches!(by, EndedBy::Caller | EndedBy::Callee);
            record.ended_by = Some(if early && hung_up { EndedBy::Signalling } else { by });
            record.duration_s = record.answered_at.map(|answered| seconds(answered, at));
            let early = context.config.start == RecordingStart::Media && legs.iter().any(|l| l.has_media());
            if !early || dialog.answered.is_some() {
                self.set_verdict(&mut record, legs, anchor);
            }
            note_losses(&mut record, anchor);
        }
        self.move_to_wall_clock(&mut record);
        record
    }

    /// Copies times, numbers and path from the record of an earlier process, if this process did not capture them.
    fn take_earlier(&self, record: &mut CallRecord, earlier: &CallRecord, roles: &CallRoles<'_>) {
        // The record still has capture times here. The earlier record has wall-clock times, so they are converted.
        let by = self.wall_offset_ns.saturating_neg();
        let capture = |at: Option<Timestamp>| at.map(|at| at.offset(by));
        take_earlier_path(record, earlier, by);
        record.invited_at = capture(earlier.invited_at).or(record.invited_at);
        record.ringing_at = capture(earlier.ringing_at).or(record.ringing_at);
        record.answered_at = capture(earlier.answered_at).or(record.answered_at);
        record.operator_answered_at = capture(earlier.operator_answered_at).or(record.operator_answered_at);
        if roles.first.dialog.start != DialogStart::MidCall {
            return;
        }
        if earlier.answered_at.is_some() && roles.operator.is_none() {
            record.outcome = earlier.outcome;
        }
        let earlier = earlier.clone();
        (record.direction, record.from, record.to) = (earlier.direction, earlier.from, earlier.to);
        (record.from_name, record.to_name) = (earlier.from_name, earlier.to_name);
        (record.from_uri, record.to_uri) = (earlier.from_uri, earlier.to_uri);
        (record.request_uri, record.headers) = (earlier.request_uri, earlier.headers);
        (record.diverted_from, record.referred_by) = (earlier.diverted_from, earlier.referred_by);
        record.internal = record.internal.take().or(earlier.internal);
        record.called_party = record.called_party.take().or(earlier.called_party);
    }

    /// Sets the verdict (whether the call can be heard) if signalling alone decides it. Other verdicts are set after
    /// the sound was decoded.
    fn set_verdict(&self, record: &mut CallRecord, legs: &[&Leg], anchor: &Leg) {
        let answer = anchor.dialog.answered.map(|(_, how)| how);
        let start = anchor.dialog.start;
        let has_media = legs.iter().any(|l| l.has_media());
        self.note_unseen_beginning(record, answer);
        match (self.recording.policy(), answer) {
            (RecordingPolicy::Exclude { rule }, _) => {
                record.verdict = Some(CallVerdict::Excluded);
                let late =
                    if self.recording.is_deleted() { " Media that had been kept until then was deleted." } else { "" };
                record.verdict_reason =
                    Some(format!("Rule {rule} of the configuration forbids to record this call.{late}"));
            }
            (_, None) if self.origin.earlier_record().is_some() && record.answered_at.is_some() => {
                record.verdict = Some(if has_media { CallVerdict::Failed } else { CallVerdict::NoMedia });
                record.verdict_reason = Some(String::from(
                    "The recorder was restarted during the call; none of its audio was in the spool.",
                ));
            }
            (_, None) if start == DialogStart::MidCall && !has_media => {
                record.verdict = Some(CallVerdict::NoMedia);
                record.verdict_reason =
                    Some(String::from("The call began before the capture; only its end was seen, and no media."));
            }
            (_, None) => {
                record.verdict = Some(CallVerdict::NotAnswered);
                record.verdict_reason = Some(not_answered_reason(record));
            }
            (_, Some(AnswerEvidence::Ack)) => {
                record.verdict_reason =
                    Some(String::from("The mirror did not show the answer; the time of the ACK is used instead."));
            }
            (_, Some(AnswerEvidence::Media)) => {
                record.verdict_reason = Some(String::from(
                    "The mirror did not show the answer; the time of the first RTP packet is used instead.",
                ));
            }
            (_, Some(AnswerEvidence::Gap)) => {
                record.verdict_reason = Some(String::from(
                    "The recorder did not run when the call was answered; the time of its restart is used instead.",
                ));
            }
            (_, Some(AnswerEvidence::MidCall)) if self.origin.earlier_record().is_some() => {
                record.verdict_reason = Some(String::from(
                    "The recorder was restarted during the call, and what it had recorded before was not in the spool.",
                ));
            }
            (_, Some(AnswerEvidence::MidCall)) => {
                record.verdict_reason = Some(match self.origin.continues() {
                    Some(id) => format!(
                        "Call {id} ended because nobody was heard for the time of calls.silence_s; this call is its continuation."
                    ),
                    None => mid_call_reason(record.direction).to_owned(),
                });
            }
            (_, Some(AnswerEvidence::Success)) if has_media && !anchor.has_media() => {
                record.verdict_reason = Some(String::from(
                    "The sound comes from another leg of the call: the mirror showed no media on the outside party's leg.",
                ));
            }
            (_, Some(AnswerEvidence::Success)) => {}
        }
    }

    fn note_unseen_beginning(&self, record: &mut CallRecord, answer: Option<AnswerEvidence>) {
        let kind = match answer {
            Some(AnswerEvidence::Ack | AnswerEvidence::Media) => ProblemKind::AnswerNotSeen,
            Some(AnswerEvidence::MidCall) if self.origin.continues().is_some() => ProblemKind::ContinuesAfterSilence,
            // The record already lists the time without a recorder, which explains the missing answer. So no further
            // problem is added.
            Some(AnswerEvidence::MidCall) if self.origin.earlier_record().is_some() => return,
            Some(AnswerEvidence::MidCall) => ProblemKind::BeganBeforeCapture,
            Some(AnswerEvidence::Success | AnswerEvidence::Gap) | None => return,
        };
        record.problems.push(kind.problem());
    }

    fn move_to_wall_clock(&self, record: &mut CallRecord) {
        let by = self.wall_offset_ns;
        if by == 0 {
            return;
        }
        let shift = |at: &mut Option<Timestamp>| *at = at.map(|t| t.offset(by));
        for at in [
            &mut record.invited_at,
            &mut record.ringing_at,
            &mut record.answered_at,
            &mut record.operator_answered_at,
            &mut record.ended_at,
        ] {
            shift(at);
        }
        record.legs.iter_mut().for_each(|leg| shift_leg(leg, by));
        for event in &mut record.events {
            event.at = event.at.offset(by);
        }
        for paused in &mut record.paused {
            paused.from = paused.from.offset(by);
            shift(&mut paused.to);
        }
        for side in [Side::Caller, Side::Callee] {
            for stream in &mut record.sides.get_mut(side).streams {
                stream.first_at = stream.first_at.offset(by);
                stream.last_at = stream.last_at.offset(by);
            }
        }
    }
}

/// Adds to a record the legs and events of an earlier process that the record does not have. `by_ns` is added to their
/// times.
fn take_earlier_path(record: &mut CallRecord, earlier: &CallRecord, by_ns: i64) {
    let is_gone = |leg: &&LegRecord| record.legs.iter().all(|known| known.sip_call_id != leg.sip_call_id);
    let mut gone: Vec<LegRecord> = earlier.legs.iter().filter(is_gone).cloned().collect();
    for leg in &mut gone {
        shift_leg(leg, by_ns);
        (leg.rendered, leg.spool) = (false, None);
    }
    record.legs.extend(gone);
    // After a second restart, this process has read some of these events from the spool, too. The times in the earlier
    // record are rounded, so events of nearly the same time count as one event.
    let is_known = |event: &EventRecord, known: &EventRecord| {
        known.kind == event.kind && known.side == event.side && known.at.distance(event.at) <= ROUNDING
    };
    let moved = earlier.events.iter().map(|event| EventRecord { at: event.at.offset(by_ns), ..event.clone() });
    let gone = moved.filter(|event| !record.events.iter().any(|known| is_known(event, known)));
    let gone: Vec<EventRecord> = gone.collect();
    record.events.extend(gone);
}

/// Adds `by_ns` to all times of a leg.
fn shift_leg(leg: &mut LegRecord, by_ns: i64) {
    for at in [&mut leg.invited_at, &mut leg.answered_at, &mut leg.ended_at] {
        *at = at.map(|at| at.offset(by_ns));
    }
    leg.voice_prints.offset(by_ns);
}

/// Returns the events of all legs in order of time. If the PBX repeats an event on another leg, it is listed once.
fn events(legs: &[&Leg], roles: &CallRoles<'_>) -> Vec<EventRecord> {
    let mut all: Vec<(usize, EventRecord)> = Vec::new();
    for (n, leg) in legs.iter().enumerate() {
        // A PBX repeats a DTMF digit on every leg, so only the digits of the anchor leg (the recorded leg) are listed.
        let of_anchor = leg.id == roles.anchor.id;
        let own = leg.dialog.events().iter().filter(|e| of_anchor || e.kind != EventKind::Dtmf);
        all.extend(own.cloned().map(|mut event| {
            if !roles.has_same_sides(leg) {
                event.side = event.side.map(Side::other);
            }
            (n, event)
        }));
    }
    all.sort_by_key(|(_, e)| e.at);
    let mut out: Vec<(usize, EventRecord)> = Vec::new();
    for (leg, event) in all {
        let is_passed_on = |(of, e): &(usize, EventRecord)| {
            *of != leg && e.kind == event.kind && event.at.since(e.at) <= PASS_ON_WINDOW && e.side == event.side
        };
        if !out.iter().rev().take(8).any(is_passed_on) {
            out.push((leg, event));
        }
    }
    out.into_iter().map(|(_, event)| event).collect()
}

/// Adds the number of missing RTP packets of the recorded leg `anchor` to the problems. If the recorder lost frames, or
/// was restarted, the packets count as lost by the recorder. Otherwise they were lost before they reached the recorder.
fn note_losses(record: &mut CallRecord, anchor: &Leg) {
    let lost = record.sides.caller.lost + record.sides.callee.lost;
    if lost > 0 {
        match record.problems.iter_mut().find(|p| OUR_LOSSES.contains(&p.kind)) {
            Some(ours) => ours.packets = Some(lost),
            None => record.problems.push(ProblemKind::LostBeforeUs.with_packets(lost)),
        }
    }
    let cut: u64 = anchor.media.streams().iter().map(|s| s.cut_packets()).sum();
    if cut > 0 {
        record.problems.push(ProblemKind::CutBySnaplen.with_packets(cut));
    }
    let mistaken: u64 = anchor.media.streams().iter().map(|s| s.mistaken_packets()).sum();
    for (kind, packets) in
        [(ProblemKind::PayloadTypeMismatch, mistaken), (ProblemKind::StreamsRefused, anchor.media.refused_packets())]
    {
        if packets > 0 {
            record.problems.push(kind.with_packets(packets));
        }
    }
}

const fn mid_call_reason(direction: CallDirection) -> &'static str {
    match direction {
        CallDirection::Unknown => {
            "The call began before the capture; it is recorded from the moment it was first seen. The direction is unknown: the left channel is the side that sent the first captured request."
        }
        _ => "The call began before the capture; it is recorded from the moment it was first seen.",
    }
}

fn not_answered_reason(record: &CallRecord) -> String {
    let status = record.sip_status.map(|s| format!(" (SIP status {s})")).unwrap_or_default();
    match record.outcome {
        CallOutcome::Cancelled => String::from("The caller hung up before anybody answered."),
        CallOutcome::Busy => format!("The called party was busy{status}."),
        CallOutcome::Declined => format!("The called party declined the call{status}."),
        CallOutcome::NoAnswer => format!("Nobody answered{status}."),
        CallOutcome::Redirected => format!("The call was redirected elsewhere{status}."),
        CallOutcome::Failed => format!("The call failed before it was answered{status}."),
        _ if record.ended_by == Some(EndedBy::CaptureEnd) => {
            String::from("The capture ended before the call was answered.")
        }
        _ => String::from("No final answer to the INVITE was seen."),
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    // The record has both times in whole microseconds. The duration is the difference of these rounded times.
    (to.as_micros() - from.as_micros()).max(0) as f64 / 1e6
}

/// Minimum time between the answer of an agent's telephone and the INVITE of the other party. After so long a time, the
/// telephone counts as connected before the call.
const IDLE_AGENT: Duration = Duration::from_secs(5);
/// Maximum difference between the time of an event and its time in a stored record, which has whole microseconds.
const ROUNDING: Duration = Duration::from_micros(2);
/// Maximum number of related calls in a call record.
const MAX_RELATED: usize = 16;
/// Maximum time until a PBX repeats an event, e.g. a hold, on another leg. Within this time, both count as one event.
const PASS_ON_WINDOW: Duration = Duration::from_secs(2);
/// Problems by which the recorder lost packets. They explain gaps in the RTP sequence numbers.
const OUR_LOSSES: [ProblemKind; 2] = [ProblemKind::LostByUs, ProblemKind::RestartGap];
