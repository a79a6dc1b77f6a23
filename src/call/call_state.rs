//! Parts of the state of a call that change together.
//!
//! A call is *announced* when an event ([`CallEvent`](crate::call::event::CallEvent)) has reported it to journal
//! and delivery.

use std::net::IpAddr;

use crate::call::conversation::{LiveSnapshot, RecordingPolicy};
use crate::call::decision::AnsweredElsewhere;
use crate::call::event::LegId;
use crate::call::leg::Leg;
use crate::call::record::{CallProblem, CallRecord, LegRecord, ProblemKind};
use crate::time::Timestamp;

/// Whether events have announced the call to journal and delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AnnouncementStage {
    /// The first 500 ms of a call, in which its legs are correlated. Nothing is announced yet.
    Gathering {
        /// Whether an earlier process announced the call. If so, the call must end with a record.
        is_announced: bool,
    },
    /// The legs are correlated, and the call can be announced.
    Settled,
    /// The call was announced. Contains the state in the last event
    /// [`CallEvent::Changed`](crate::call::event::CallEvent::Changed).
    Announced(LiveSnapshot),
}

impl AnnouncementStage {
    /// Returns whether the call no longer waits for further legs, i.e. the time in which its legs are correlated is
    /// over.
    pub(crate) const fn is_settled(&self) -> bool {
        matches!(self, Self::Settled | Self::Announced(_))
    }

    /// Returns whether this or an earlier process has announced the call by an event.
    pub(crate) const fn is_announced(&self) -> bool {
        matches!(self, Self::Gathering { is_announced: true } | Self::Announced(_))
    }

    /// Returns the state of the call in the last event; `None` if there was no event.
    pub(crate) const fn announced(&self) -> Option<&LiveSnapshot> {
        match self {
            Self::Announced(snapshot) => Some(snapshot),
            Self::Gathering { .. } | Self::Settled => None,
        }
    }

    /// Ends the time in which the legs are correlated. The call can be announced from now on.
    pub(crate) fn settle(&mut self) {
        if let Self::Gathering { is_announced } = self {
            *self = if *is_announced { Self::Announced(LiveSnapshot::default()) } else { Self::Settled };
        }
    }

    /// Restores from the spool whether an earlier process announced the call.
    pub(crate) fn restore_announced(&mut self, is_announced: bool) {
        *self = match (&*self, is_announced) {
            (Self::Gathering { .. }, is_announced) => Self::Gathering { is_announced },
            (_, true) => Self::Announced(LiveSnapshot::default()),
            (_, false) => Self::Settled,
        };
    }

    /// Stores the state that the next event will announce. Returns whether it differs from the state in the last event.
    pub(crate) fn announce(&mut self, snapshot: LiveSnapshot) -> bool {
        let is_new = self.announced() != Some(&snapshot);
        *self = Self::Announced(snapshot);
        is_new
    }
}

/// How the engine came to know a call.
#[derive(Clone, Debug, Default)]
pub(crate) enum CallOrigin {
    /// The engine captured a message of a new call. This is the usual case.
    #[default]
    Seen,
    /// The call with this id ended by a media timeout. Its media came back, and this call continues it.
    Continues(String),
    /// The journal has the call from an earlier process, with this record, but the spool of the call (its files of
    /// captured packets) is gone.
    Left(Box<CallRecord>),
}

impl CallOrigin {
    /// Returns the record that an earlier process left in the journal; `None` if the call did not come from the
    /// journal.
    pub(crate) fn earlier_record(&self) -> Option<&CallRecord> {
        match self {
            Self::Left(record) => Some(record),
            Self::Seen | Self::Continues(_) => None,
        }
    }

    /// Takes over the link to an ended call that the merged call `other` continues. Does nothing if this call itself
    /// continues an ended call, or came from the journal.
    pub(crate) fn absorb(&mut self, other: Self) {
        if matches!((&self, &other), (Self::Seen, Self::Continues(_))) {
            *self = other;
        }
    }

    /// Returns the id of the ended call that this call continues; `None` if it continues no call.
    pub(crate) const fn continues(&self) -> Option<&String> {
        match self {
            Self::Continues(id) => Some(id),
            Self::Seen | Self::Left(_) => None,
        }
    }
}

/// Whether an unanswered call counts for the call rate of its source address. A high rate shows a scan: an attacker
/// sends many INVITEs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ScanState {
    /// The call does not count in the rate of unanswered calls of its source address: it was answered, or its first
    /// INVITE was not captured.
    #[default]
    Uncounted,
    /// The call counts in the rate of unanswered calls of this source address.
    Counted(IpAddr),
    /// The source address sends so many unanswered INVITEs that this call may be part of a scan.
    Suspect(IpAddr),
}

impl ScanState {
    /// Returns the source address, if the call counts in the rate of unanswered calls of this address; `None`
    /// otherwise.
    pub(crate) const fn source(self) -> Option<IpAddr> {
        match self {
            Self::Uncounted => None,
            Self::Counted(source) | Self::Suspect(source) => Some(source),
        }
    }
}

/// State of a call's recording, and of its registration in Pyrus.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallRecording {
    policy: RecordingPolicy,
    is_deleted: bool,
    segments: u32,
    is_committed: bool,
}

impl CallRecording {
    /// Returns whether delivery may already have registered the call in Pyrus. Such a call must not disappear any more.
    pub(crate) const fn is_committed(self) -> bool {
        self.is_committed
    }

    /// Records that delivery may register the call from now on. Returns false if this was recorded before.
    pub(crate) const fn commit(&mut self) -> bool {
        !std::mem::replace(&mut self.is_committed, true)
    }

    /// Restores from the spool whether delivery may have registered the call.
    pub(crate) const fn restore_commitment(&mut self, is_committed: bool) {
        self.is_committed = is_committed;
    }

    /// Returns the result of the configuration's `[[rules]]`: whether the call is recorded, and registered in Pyrus.
    pub(crate) const fn policy(self) -> RecordingPolicy {
        self.policy
    }

    /// Stores the result of the configuration's `[[rules]]`: whether the call is recorded, and registered in Pyrus.
    pub(crate) const fn set_policy(&mut self, policy: RecordingPolicy) {
        self.policy = policy;
    }

    /// Returns whether a rule forbids recording the call.
    pub(crate) const fn is_excluded(self) -> bool {
        matches!(self.policy, RecordingPolicy::Exclude { .. })
    }

    /// Returns whether media that was already recorded was deleted, because a rule excludes the call.
    pub(crate) const fn is_deleted(self) -> bool {
        self.is_deleted
    }

    /// Records that recorded media was deleted. Returns whether events have announced segments (files) of this
    /// recording, which must then be withdrawn.
    pub(crate) const fn delete(&mut self) -> bool {
        self.is_deleted = true;
        std::mem::replace(&mut self.segments, 0) > 0
    }

    /// Returns how many parts (segments) of the recording events have announced so far.
    pub(crate) const fn segments(self) -> u32 {
        self.segments
    }

    /// Records that events have announced this number of segments (files of the recording). From now on, delivery may
    /// register the call. Returns false if delivery was already allowed to.
    pub(crate) const fn announce_segments(&mut self, segments: u32) -> bool {
        self.segments = segments;
        self.commit()
    }
}

/// Unanswered legs of a call that a call table lacks, because they were removed or their spools were discarded. A later
/// variant includes the earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LackedLegs {
    /// No leg is missing.
    #[default]
    None,
    /// Legs are missing, but none of them rang an extension. E.g. a trunk refused the call.
    Others,
    /// A leg is missing on which the PBX rang an extension.
    Rung,
}

/// Facts about a call that none of its legs in the call table contains.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallNotes {
    problems: Vec<CallProblem>,
    compacted_legs: Vec<LegRecord>,
    answered_elsewhere: Option<AnsweredElsewhere>,
    adopted_legs: Vec<String>,
    /// Unanswered legs that the call table lacks.
    lacks: LackedLegs,
    /// Unanswered legs that the call table of a process after a restart will lack.
    will_lack: LackedLegs,
    shown_machines: Vec<(IpAddr, IpAddr)>,
    relays: Vec<(LegId, LegId)>,
    recorded_elsewhere: Option<Timestamp>,
    heard_busy_tone: bool,
    /// Hash of the facts about hosts and numbers of the legs that the spools contain; `None` before they are stored.
    stored_facts: Option<u64>,
}

impl CallNotes {
    /// Returns the defects of the recording that concern the whole call, and not only one leg.
    pub(crate) fn problems(&self) -> &[CallProblem] {
        &self.problems
    }

    /// Adds a problem to the call, unless the call has a problem of this kind. Returns the problem, mutable.
    pub(crate) fn note_problem(&mut self, kind: ProblemKind) -> &mut CallProblem {
        let known = self.problems.iter().position(|p| p.kind == kind);
        let at = known.unwrap_or_else(|| {
            self.problems.push(kind.problem());
            self.problems.len() - 1
        });
        &mut self.problems[at]
    }

    /// Returns the records of compacted legs. These unanswered legs were removed from the call table to save memory.
    pub(crate) fn compacted_legs(&self) -> &[LegRecord] {
        &self.compacted_legs
    }

    /// Stores the record of an unanswered leg that is about to be removed from the call table.
    pub(crate) fn add_compacted_leg(&mut self, leg: &Leg) {
        if self.compacted_legs.len() < MAX_COMPACTED_LEGS {
            self.compacted_legs.push(leg.record());
        }
    }

    /// Adds the facts about a call that is merged into this call. Problems of a known kind are not added again.
    pub(crate) fn absorb(&mut self, other: Self) {
        for problem in other.problems {
            if self.problems.iter().all(|known| known.kind != problem.kind) {
                self.problems.push(problem);
            }
        }
        let room = MAX_COMPACTED_LEGS.saturating_sub(self.compacted_legs.len());
        self.compacted_legs.extend(other.compacted_legs.into_iter().take(room));
        self.answered_elsewhere = self.answered_elsewhere.take().or(other.answered_elsewhere);
        self.lacks = self.lacks.max(other.lacks);
        self.will_lack = self.will_lack.max(other.will_lack);
        other.shown_machines.into_iter().for_each(|pair| _ = self.note_shown_machine(pair));
        other.relays.into_iter().for_each(|pair| _ = self.note_relay(pair));
        other.adopted_legs.into_iter().for_each(|leg| self.adopt_leg(leg));
        self.recorded_elsewhere = self.recorded_elsewhere.max(other.recorded_elsewhere);
        self.heard_busy_tone |= other.heard_busy_tone;
    }

    /// Returns the time until which the recording of a related call contains the sound of this call. This is the end of
    /// the related call's anchor leg, i.e. of its recorded leg. Returns `None` if no related call has this sound.
    pub(crate) const fn recorded_elsewhere(&self) -> Option<Timestamp> {
        self.recorded_elsewhere
    }

    /// Records the time until which the recording of a related call had the sound of this call.
    pub(crate) fn note_recorded_elsewhere(&mut self, until: Timestamp) {
        self.recorded_elsewhere = self.recorded_elsewhere.max(Some(until));
    }

    /// Returns whether legs of this call still had packets long after its end, with a busy tone only.
    pub(crate) const fn heard_busy_tone(&self) -> bool {
        self.heard_busy_tone
    }

    /// Records that legs of this call still have packets after its end, with a busy tone only.
    pub(crate) const fn note_busy_tone(&mut self) {
        self.heard_busy_tone = true;
    }

    /// Returns the party that answered the call although the call did not ring at it; `None` if there is no such party.
    pub(crate) const fn answered_elsewhere(&self) -> Option<&AnsweredElsewhere> {
        self.answered_elsewhere.as_ref()
    }

    /// Returns whether the call had unanswered legs that were removed from the call table to save memory, perhaps
    /// before a restart.
    pub(crate) fn had_other_legs(&self) -> bool {
        self.lacks != LackedLegs::None
    }

    /// Returns the unanswered legs that this process lacks.
    pub(crate) const fn lacks(&self) -> LackedLegs {
        self.lacks
    }

    /// Records that this process lacks such unanswered legs. Returns whether this was not recorded before.
    pub(crate) fn note_lacking(&mut self, legs: LackedLegs) -> bool {
        let known = self.lacks;
        self.lacks = known.max(legs);
        self.lacks != known
    }

    /// Returns the unanswered legs that a process after a restart will lack. This process still has some of them.
    pub(crate) fn will_lack(&self) -> LackedLegs {
        self.will_lack.max(self.lacks)
    }

    /// Records that a process after a restart will lack such unanswered legs. Returns whether this was not recorded
    /// before.
    pub(crate) fn note_missing_after_restart(&mut self, legs: LackedLegs) -> bool {
        let known = self.will_lack();
        self.will_lack = known.max(legs);
        self.will_lack != known
    }

    /// Records the hash of the facts about hosts and numbers that are being stored. Returns whether they have changed.
    pub(crate) fn note_stored_facts(&mut self, hash: u64) -> bool {
        self.stored_facts.replace(hash) != Some(hash)
    }

    /// Returns the pairs of hosts that the media content of the call has proven to be one machine.
    pub(crate) fn shown_machines(&self) -> &[(IpAddr, IpAddr)] {
        &self.shown_machines
    }

    /// Records that the media content of the call has proven two hosts to be one machine. Returns false if this was
    /// already recorded, or if too many pairs of hosts are recorded.
    pub(crate) fn note_shown_machine(&mut self, (a, b): (IpAddr, IpAddr)) -> bool {
        let is_new = self.shown_machines.len() < MAX_SHOWN_MACHINES && !self.has_shown((a, b));
        if is_new {
            self.shown_machines.push((a.min(b), a.max(b)));
        }
        is_new
    }

    /// Returns whether the media content of the call has proven that two addresses, in any order, are one machine.
    pub(crate) fn has_shown(&self, (a, b): (IpAddr, IpAddr)) -> bool {
        self.shown_machines.contains(&(a.min(b), a.max(b)))
    }

    /// Returns the pairs of legs that carry the same sound, as equal bytes of voice have proven.
    pub(crate) fn relays(&self) -> &[(LegId, LegId)] {
        &self.relays
    }

    /// Records that two legs carry the same sound, as equal bytes of voice have proven. Returns false if this was
    /// already recorded, or if too many pairs of legs are recorded.
    pub(crate) fn note_relay(&mut self, (a, b): (LegId, LegId)) -> bool {
        let pair = (a.min(b), a.max(b));
        let is_new = self.relays.len() < MAX_RELAYS && !self.relays.contains(&pair);
        if is_new {
            self.relays.push(pair);
        }
        is_new
    }

    /// Returns the names of closed legs that were moved to this call from another call. The spool files of these legs
    /// still name the other call.
    pub(crate) fn adopted_legs(&self) -> &[String] {
        &self.adopted_legs
    }

    /// Records that a closed leg was moved to this call from another call. The spool file of the leg still names the
    /// other call.
    pub(crate) fn adopt_leg(&mut self, name: String) {
        if self.adopted_legs.len() < MAX_ADOPTED_LEGS && !self.adopted_legs.contains(&name) {
            self.adopted_legs.push(name);
        }
    }

    /// Records the party that answered the call although the call did not ring at it.
    pub(crate) fn mark_answered_elsewhere(&mut self, by: AnsweredElsewhere) {
        self.answered_elsewhere = Some(by);
    }
}

/// Maximum number of compacted legs in a record, i.e. unanswered legs that were removed to save memory. Further legs,
/// e.g. attempts of a queue, would add no information.
const MAX_COMPACTED_LEGS: usize = 256;
/// Maximum number of pairs of hosts that one call can prove to be one machine. No call passes more machines.
const MAX_SHOWN_MACHINES: usize = 16;
/// Maximum number of pairs of legs with the same sound that are stored for a call. A call has at most 64 legs.
const MAX_RELAYS: usize = 64;
/// Maximum number of closed legs that a call takes over from other calls. A call has at most 64 legs.
const MAX_ADOPTED_LEGS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_call_of_an_absorbed_call_is_kept() {
        let mut origin = CallOrigin::Seen;
        origin.absorb(CallOrigin::Continues("first".to_owned()));
        assert_eq!(origin.continues().map(String::as_str), Some("first"));
        origin.absorb(CallOrigin::Continues("second".to_owned()));
        origin.absorb(CallOrigin::Seen);
        assert_eq!(origin.continues().map(String::as_str), Some("first"), "its own earlier call");
    }

    #[test]
    fn absorbed_notes_are_kept_once_of_each_kind() {
        let mut notes = CallNotes::default();
        notes.note_problem(ProblemKind::ClockStep);
        let mut other = CallNotes::default();
        other.note_problem(ProblemKind::ClockStep);
        other.note_problem(ProblemKind::SecondAudioLine);
        notes.absorb(other);
        let kinds: Vec<ProblemKind> = notes.problems().iter().map(|problem| problem.kind).collect();
        assert_eq!(kinds, [ProblemKind::ClockStep, ProblemKind::SecondAudioLine]);
    }
}
