//! A conversation: the legs that a person would call one call, and its record.

use std::time::Duration;

use crate::call::config::{Config, Start};
use crate::call::dialog::{AnsweredBy, Began};
use crate::call::event::Registration;
use crate::call::leg::Leg;
use crate::call::numbers::NumberPlan;
use crate::call::pause::Pauses;
use crate::call::record::{
    CallRecord, Direction, EndedBy, EventRecord, LegRecord, Outcome, Problem, SCHEMA, Side, Sides, Verdict,
};
use crate::call::roles::Who;
use crate::call::streams::side_record;
use crate::time::Timestamp;

/// A conversation. Its legs are places in the engine's table, the first one first.
#[derive(Debug)]
pub struct Conversation {
    /// See [`crate::call::id`].
    pub id: String,
    /// Its legs.
    pub legs: Vec<usize>,
    /// First message.
    pub created_at: Timestamp,
    /// What a rule says.
    pub handling: Handling,
    /// What was last told of it while it lives.
    pub told: Option<Told>,
    /// Its legs have had their time to come together.
    pub settled: bool,
    /// It is part of another one, only nobody knows of which, or its reason is known: nothing more is guessed about it.
    pub doubtful: bool,
    /// A rule forbade it after some of its media had been kept.
    pub deleted: bool,
    /// What happened to it that a record must say, besides what its legs say.
    pub problems: Vec<Problem>,
    /// What must be added to the capture timeline to get the wall clock.
    pub wall_offset_ns: i64,
    /// Records of legs that rang for it and came to nothing, beyond those that are kept whole.
    put_away: Vec<LegRecord>,
    /// Ids of conversations that have to do with this one.
    pub related: Vec<String>,
    /// Who took it, where that was not one of those whom it rang.
    pub taker: Option<Taker>,
    /// Id of the call that ended in silence and is heard again.
    pub continues: Option<String>,
    /// When its remaining legs are ended, once the one by which it came in is over.
    pub finish_at: Option<Timestamp>,
    /// When its sound was not kept.
    pub pauses: Pauses,
    /// An earlier process has decided which legs it has.
    pub recalled: bool,
    /// Parts of its recording that the outside was told to make.
    pub parts: u32,
    /// When it is looked at whether another part is due.
    pub part_at: Option<Timestamp>,
}

/// Somebody who is in a record of his own has taken a call: by a pick-up code, or at a telephone outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taker {
    /// When.
    pub at: Timestamp,
    /// The extension, if it was one.
    pub extension: Option<String>,
}

/// What makes the outside look at a live call again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Both numbers and the extension.
    pub numbers: [Option<String>; 3],
    /// When it was answered.
    pub answered_at: Option<Timestamp>,
    /// When a person took it.
    pub operator_answered_at: Option<Timestamp>,
    /// Whether it rings.
    pub rings: bool,
}

impl From<&CallRecord> for Told {
    fn from(record: &CallRecord) -> Self {
        Self {
            numbers: [record.from.clone(), record.to.clone(), record.internal.clone()],
            answered_at: record.answered_at,
            operator_answered_at: record.operator_answered_at,
            rings: record.ringing_at.is_some(),
        }
    }
}

/// What a rule says about a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handling {
    /// Record and register.
    #[default]
    Record,
    /// Keep no media at all.
    Exclude {
        /// Number of the rule, from 1.
        rule: usize,
    },
    /// Record, do not register.
    NoRegister {
        /// Number of the rule, from 1.
        rule: usize,
    },
}

impl Handling {
    /// Whether the call may be registered. One whose sound is excluded still is: it leaves no voice in Pyrus.
    pub const fn registration(self) -> Registration {
        match self {
            Self::Record | Self::Exclude { .. } => Registration::Allowed,
            Self::NoRegister { .. } => Registration::Forbidden,
        }
    }
}

/// What a record needs besides its legs.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Its number rules.
    pub plan: &'a NumberPlan,
    /// Interface or file names.
    pub source: &'a str,
}

impl Conversation {
    /// A conversation that begins.
    pub const fn new(id: String, created_at: Timestamp, wall_offset_ns: i64) -> Self {
        Self {
            id,
            legs: Vec::new(),
            created_at,
            handling: Handling::Record,
            deleted: false,
            told: None,
            settled: false,
            doubtful: false,
            problems: Vec::new(),
            wall_offset_ns,
            put_away: Vec::new(),
            related: Vec::new(),
            taker: None,
            continues: None,
            finish_at: None,
            pauses: Pauses::new(),
            recalled: false,
            parts: 0,
            part_at: None,
        }
    }

    /// Something made the call less than whole; each kind is said once.
    pub fn note_problem(&mut self, kind: &str) {
        if !self.problems.iter().any(|p| p.kind == kind) {
            self.problems.push(Problem { kind: kind.to_owned(), packets: None, ms: None });
        }
    }

    /// The recorder was away for so long; several absences add up.
    pub fn note_restart(&mut self, gap: Duration) {
        self.note_problem("restart_gap");
        let gap_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
        if let Some(problem) = self.problems.iter_mut().find(|p| p.kind == "restart_gap") {
            // Each leg tells of the same absence: the longest is the call's.
            problem.ms = Some(problem.ms.map_or(gap_ms, |known| known.max(gap_ms)));
        }
    }

    /// Whether a rule forbids to keep its media.
    pub const fn is_excluded(&self) -> bool {
        matches!(self.handling, Handling::Exclude { .. })
    }

    /// A leg that rang and came to nothing leaves its record.
    pub fn put_away(&mut self, leg: &Leg) {
        if self.put_away.len() < MAX_PUT_AWAY {
            self.put_away.push(leg.record());
        }
    }

    /// The record as it stands. `legs` are this conversation's, oldest first.
    pub fn record(&self, legs: &[&Leg], context: Context<'_>) -> CallRecord {
        let mut record = CallRecord {
            schema: SCHEMA,
            id: self.id.clone(),
            appliance: context.config.appliance.clone(),
            source: context.source.to_owned(),
            ..CallRecord::default()
        };
        let Some(who) = Who::of(legs, context.plan) else { return record };
        let who = if self.put_away.is_empty() { who } else { who.with_others_rung() };
        let anchor = who.anchor;
        let dialog = &anchor.dialog;
        record.invited_at = legs.iter().filter_map(|l| l.dialog.invited_at).min();
        record.ringing_at = legs.iter().filter_map(|l| l.dialog.ringing_at).min();
        record.answered_at = dialog.answered.filter(|(_, how)| *how != AnsweredBy::UnderWay).map(|(at, _)| at);
        who.fill(&mut record, context.plan, legs.len() == 1);
        if let Some(taker) = self.taker.as_ref().filter(|_| who.operator.is_none()) {
            record.outcome = Outcome::Answered;
            record.operator_answered_at = Some(taker.at);
            let named = who.first.parties.named_extension().map(str::to_owned);
            record.internal = named.or_else(|| taker.extension.clone());
        }
        record.sip_status = dialog.status;
        record.reason_header = legs.iter().find_map(|l| l.dialog.reason.clone());
        record.sides = Sides {
            caller: side_record(&anchor.streams, Side::Caller),
            callee: side_record(&anchor.streams, Side::Callee),
        };
        record.legs = legs.iter().map(|l| l.record()).chain(self.put_away.iter().cloned()).collect();
        record.events = events(legs, &who);
        record.events.extend_from_slice(self.pauses.events());
        record.events.sort_by_key(|e| e.at);
        record.paused = self.pauses.record(dialog.ended().map(|(at, _)| at));
        record.related.clone_from(&self.related);
        record.problems.clone_from(&self.problems);
        if let Some((at, by)) = dialog.ended() {
            record.ended_at = Some(at);
            // A BYE in place of a CANCEL (RFC 3261 section 15) is one of the ways not to be answered.
            let early = dialog.answered.is_none() && dialog.began == Began::Invite;
            let hung_up = matches!(by, EndedBy::Caller | EndedBy::Callee);
            record.ended_by = Some(if early && hung_up { EndedBy::Signalling } else { by });
            record.duration_s = record.answered_at.map(|answered| seconds(answered, at));
            let early = context.config.start == Start::Media && legs.iter().any(|l| l.has_media());
            if !early || dialog.answered.is_some() {
                self.note_outcome(&mut record, legs, anchor);
            }
            note_losses(&mut record, anchor);
        }
        self.move_to_wall_clock(&mut record);
        record
    }

    /// The part of the verdict that signalling decides; the rest is known only when the sound was decoded.
    fn note_outcome(&self, record: &mut CallRecord, legs: &[&Leg], anchor: &Leg) {
        let answer = anchor.dialog.answered.map(|(_, how)| how);
        let began = anchor.dialog.began;
        let heard = legs.iter().any(|l| l.has_media());
        self.note_beginning(record, answer);
        match (self.handling, answer) {
            (Handling::Exclude { rule }, _) => {
                record.verdict = Some(Verdict::Excluded);
                let late = if self.deleted { " What had been kept until that was known was deleted." } else { "" };
                record.verdict_reason =
                    Some(format!("Rule {rule} of the configuration forbids to record this call.{late}"));
            }
            (_, None) if began == Began::UnderWay && !heard => {
                record.verdict = Some(Verdict::NoMedia);
                record.verdict_reason =
                    Some(String::from("The call began before the capture; only its end was seen, and no media of it."));
            }
            (_, None) => {
                record.verdict = Some(Verdict::NotAnswered);
                record.verdict_reason = Some(not_answered_reason(record));
            }
            (_, Some(AnsweredBy::Ack)) => {
                record.verdict_reason =
                    Some(String::from("The mirror did not show the answer; its time is that of the ACK."));
            }
            (_, Some(AnsweredBy::Media)) => {
                record.verdict_reason =
                    Some(String::from("The mirror did not show the answer; its time is that of the first RTP packet."));
            }
            (_, Some(AnsweredBy::UnderWay)) => {
                record.verdict_reason = Some(match &self.continues {
                    Some(id) => format!(
                        "Nobody had been heard for longer than calls.silence_s allows; this is how call {id} goes on."
                    ),
                    None => joined_reason(record.direction).to_owned(),
                });
            }
            (_, Some(AnsweredBy::Success)) if heard && !anchor.has_media() => {
                record.verdict_reason = Some(String::from(
                    "The sound is that of another leg of the call: the mirror showed no media of the outside party's own.",
                ));
            }
            (_, Some(AnsweredBy::Success)) => {}
        }
    }

    fn note_beginning(&self, record: &mut CallRecord, answer: Option<AnsweredBy>) {
        let kind = match answer {
            Some(AnsweredBy::Ack | AnsweredBy::Media) => "answer_not_seen",
            Some(AnsweredBy::UnderWay) if self.continues.is_some() => "continues_after_silence",
            Some(AnsweredBy::UnderWay) => "began_before_capture",
            Some(AnsweredBy::Success) | None => return,
        };
        record.problems.push(Problem { kind: kind.to_owned(), packets: None, ms: None });
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
        for leg in &mut record.legs {
            for at in [&mut leg.invited_at, &mut leg.answered_at, &mut leg.ended_at] {
                shift(at);
            }
        }
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

/// What happened on all legs, in order. What a PBX passes on from one leg to another is one event.
fn events(legs: &[&Leg], who: &Who<'_>) -> Vec<EventRecord> {
    let mut all: Vec<(usize, EventRecord)> = Vec::new();
    for (n, leg) in legs.iter().enumerate() {
        // A key goes through every leg; those of the anchor are the ones that were pressed.
        let of_anchor = leg.id == who.anchor.id;
        let own = leg.dialog.events.iter().filter(|e| of_anchor || e.kind != "dtmf");
        all.extend(own.cloned().map(|mut event| {
            if !who.is_same_way(leg) {
                event.side = event.side.map(Side::other);
            }
            (n, event)
        }));
    }
    all.sort_by_key(|(_, e)| e.at);
    let mut out: Vec<(usize, EventRecord)> = Vec::new();
    for (leg, event) in all {
        let passed_on = |(of, e): &(usize, EventRecord)| {
            *of != leg && e.kind == event.kind && event.at.since(e.at) <= PASSED_ON && e.side == event.side
        };
        if !out.iter().rev().take(8).any(passed_on) {
            out.push((leg, event));
        }
    }
    out.into_iter().map(|(_, event)| event).collect()
}

/// Packets that never came: where frames were lost on this machine, or it was away, they may be ours; else they were
/// lost before us.
fn note_losses(record: &mut CallRecord, anchor: &Leg) {
    let lost = record.sides.caller.lost + record.sides.callee.lost;
    if lost > 0 {
        match record.problems.iter_mut().find(|p| OUR_LOSSES.contains(&p.kind.as_str())) {
            Some(ours) => ours.packets = Some(lost),
            None => {
                record.problems.push(Problem { kind: String::from("lost_before_us"), packets: Some(lost), ms: None })
            }
        }
    }
    let cut: u64 = anchor.streams.iter().map(|s| s.cut).sum();
    if cut > 0 {
        record.problems.push(Problem { kind: String::from("cut_by_snaplen"), packets: Some(cut), ms: None });
    }
}

const fn joined_reason(direction: Direction) -> &'static str {
    match direction {
        Direction::Unknown => {
            "The call began before the capture; it is recorded from where it was joined. It was not seen who called whom: the left side is the one that was seen to act first."
        }
        _ => "The call began before the capture; it is recorded from where it was joined.",
    }
}

fn not_answered_reason(record: &CallRecord) -> String {
    let status = record.sip_status.map(|s| format!(" (SIP status {s})")).unwrap_or_default();
    match record.outcome {
        Outcome::Cancelled => String::from("The caller hung up before anybody answered."),
        Outcome::Busy => format!("The called party was busy{status}."),
        Outcome::Declined => format!("The called party declined the call{status}."),
        Outcome::NoAnswer => format!("Nobody answered{status}."),
        Outcome::Redirected => format!("The call was redirected elsewhere{status}."),
        Outcome::Failed => format!("The call failed before it was answered{status}."),
        _ if record.ended_by == Some(EndedBy::CaptureEnd) => {
            String::from("The capture ended before the call was answered.")
        }
        _ => String::from("No final answer to the INVITE was seen."),
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    // Whole microseconds, as the two times themselves.
    (to.as_micros() - from.as_micros()).max(0) as f64 / 1e6
}

/// Attempts of a queue that a record tells of; more say the same.
const MAX_PUT_AWAY: usize = 256;
/// A PBX passes a hold on from one leg to the other within this time.
const PASSED_ON: Duration = Duration::from_secs(2);
/// Problems of this machine that explain holes in the sequence numbers.
const OUR_LOSSES: [&str; 2] = ["lost_by_us", "restart_gap"];
