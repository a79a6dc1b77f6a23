//! Left calls: calls that were live in an earlier process and left no spool, e.g. because its disk was full.
//!
//! The journal still has such a call, and the call itself goes on. Without this module, the next message of the call
//! would begin a new call, and Pyrus would get a second task. So the first new leg with a Call-ID of a left call
//! continues that call under the same id. If no message comes for some time, the left call ends.

use std::collections::HashMap;
use std::time::Duration;

use crate::call::call_state::{AnnouncementStage, CallOrigin};
use crate::call::conversation::Conversation;
use crate::call::correlate::is_random;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::Engine;
use crate::call::engine::signalling::SETTLE;
use crate::call::event::{CallEvent, EndedCall};
use crate::call::keys::CallKey;
use crate::call::record::{ProblemKind, Side};
use crate::call::timers::EngineTimer;
use crate::sip::SipMessage;
use crate::time::Timestamp;

/// The left calls (live calls of an earlier process without a spool) that may still continue.
#[derive(Debug, Default)]
pub(super) struct LeftCalls {
    /// The left calls, i.e. calls of an earlier process without a spool, by id of the call.
    calls: HashMap<String, LeftCall, foldhash::fast::RandomState>,
    /// Legs of the left calls (calls of an earlier process without a spool), by Call-ID.
    by_call_id: HashMap<String, Vec<LeftLeg>, foldhash::fast::RandomState>,
    /// Earliest capture time at which a call without a spool (left call) ends; `None` if there is no such call.
    next_at: Option<Timestamp>,
}

#[derive(Debug)]
struct LeftCall {
    /// Event that ends the call if no leg continues it.
    ended: Box<EndedCall>,
    /// Capture time at which the call ends, if no leg continues it.
    ends_at: Timestamp,
    /// Key of the call in the table, if a leg has continued it; `None` before.
    slot: Option<CallKey>,
}

#[derive(Clone, Debug)]
struct LeftLeg {
    conversation: String,
    joined_by: Option<CorrelationRule>,
    /// Tags of caller and callee; `None` where unknown.
    tags: [Option<String>; 2],
}

impl LeftLeg {
    /// Returns whether a message with the same Call-ID has a tag of this leg. Either side may have sent the message, so
    /// each tag may be in From or in To.
    fn has_tag_of(&self, message: &SipMessage<'_>) -> bool {
        let tags = tags_of(message);
        self.tags.iter().flatten().any(|tag| tags.contains(&Some(tag.clone())))
    }

    /// Returns the side of this leg that sent a request. For a response, returns the side that sent the answered
    /// request.
    fn requester(&self, message: &SipMessage<'_>) -> Side {
        let ([caller, callee], [from, to]) = (&self.tags, &tags_of(message));
        let is_same = |own: &Option<String>, tag: &Option<String>| own.is_some() && own == tag;
        let is_from_callee = is_same(caller, to) || is_same(callee, from);
        if is_from_callee && !is_same(caller, from) { Side::Callee } else { Side::Caller }
    }
}

/// Returns the tags in From and To; `None` where there is none.
fn tags_of(message: &SipMessage<'_>) -> [Option<String>; 2] {
    [message.from(), message.to()].map(|party| party.and_then(|party| party.tag().map(str::to_owned)))
}

/// The call that a new leg continues, and the place of the leg in this call.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContinuedCall {
    /// Key of the call in the call table.
    pub(super) conversation: CallKey,
    /// Rule by which the leg had joined the call in an earlier process; `None` for the first leg.
    pub(super) joined_by: Option<CorrelationRule>,
    /// Side that sent the leg's first message, if it is a request; for a response, the side that sent the answered
    /// request.
    pub(super) requester: Side,
}

impl LeftCalls {
    /// Adds a left call. `slot` is its key in the call table, if a leg has continued it.
    fn add(&mut self, ended: EndedCall, ends_at: Timestamp, slot: Option<CallKey>) {
        let id = ended.record.id.clone();
        for leg in &ended.record.legs {
            let tags = [leg.from_tag.clone(), leg.to_tag.clone()];
            let left = LeftLeg { conversation: id.clone(), joined_by: leg.joined_by, tags };
            self.by_call_id.entry(leg.sip_call_id.clone()).or_default().push(left);
        }
        self.next_at = Some(self.next_at.map_or(ends_at, |at| at.min(ends_at)));
        self.calls.insert(id, LeftCall { ended: Box::new(ended), ends_at, slot });
    }

    /// Returns the leg that the dialog of this message continues, perhaps with other tags after a refusal. Strangers may
    /// have the same short Call-ID, so that the tags decide.
    fn leg_of(&self, message: &SipMessage<'_>) -> Option<&LeftLeg> {
        let legs = self.by_call_id.get(message.call_id())?;
        let same = legs.iter().find(|leg| leg.has_tag_of(message));
        same.or_else(|| legs.first().filter(|_| is_random(message.call_id())))
    }

    /// Removes the left calls that can no longer be continued, because their time is over. Returns the calls that no
    /// leg has continued, oldest first.
    fn take_over(&mut self, now: Timestamp) -> Vec<EndedCall> {
        let over = self.calls.extract_if(|_, call| call.ends_at <= now);
        let mut over: Vec<_> = over.filter(|(_, call)| call.slot.is_none()).map(|(_, call)| *call.ended).collect();
        over.sort_by(|a, b| a.record.id.cmp(&b.record.id));
        let calls = &self.calls;
        self.by_call_id.retain(|_, legs| {
            legs.retain(|leg| calls.contains_key(&leg.conversation));
            !legs.is_empty()
        });
        self.next_at = self.calls.values().map(|call| call.ends_at).min();
        over
    }
}

impl Engine {
    /// Adds a left call: a call that was live in an earlier process and has no spool. A later leg with one of its
    /// Call-IDs continues the call. If no such leg comes in time, the call ends with the event `ended`.
    pub fn handle_left_call(&mut self, ended: EndedCall, now: Timestamp) {
        let capture = |at: Option<Timestamp>| at.map(|at| at.offset(self.clock.wall_offset_ns.saturating_neg()));
        let ends_at = match (capture(ended.record.answered_at), capture(ended.record.invited_at)) {
            (Some(_), _) => now + LONGEST_SILENCE,
            (None, Some(invited_at)) => invited_at + LONGEST_SETUP,
            (None, None) => now,
        };
        if ends_at <= now || self.earlier.left_calls.calls.len() >= MAX_LEFT_CALLS {
            self.end_left_call(ended);
        } else {
            self.earlier.left_calls.add(ended, ends_at, None);
        }
    }

    /// Finds the calls in the call table that an earlier process continued as left calls, i.e. calls without a spool.
    /// Further legs of these calls may come, which that process had not captured. They join these calls by their
    /// Call-ID.
    pub(super) fn expect_legs_of_left_calls(&mut self, now: Timestamp) {
        for (slot, call) in self.table.calls() {
            let Some(record) = call.origin.earlier_record().cloned() else { continue };
            let registration = call.recording.policy().registration();
            let ended = EndedCall { record, legs: Vec::new(), registration, wall_offset_ns: call.wall_offset_ns };
            self.earlier.left_calls.add(ended, now + LONGEST_SILENCE, Some(slot));
        }
    }

    /// Ends the left calls (live calls of an earlier process without a spool) that can no longer be continued.
    pub(super) fn end_due_left_calls(&mut self) {
        if self.earlier.left_calls.next_at.is_some_and(|at| at <= self.clock.now) {
            for ended in self.earlier.left_calls.take_over(self.clock.now) {
                self.end_left_call(ended);
            }
        }
    }

    fn end_left_call(&mut self, ended: EndedCall) {
        self.counters.calls += 1;
        self.events.push_back(CallEvent::Ended(Box::new(ended)));
    }

    /// Returns the call of an earlier process that a leg with this first message continues. The first leg creates the
    /// call in the table. Returns `None` if the dialog is unknown.
    pub(super) fn continue_left_call(&mut self, message: &SipMessage<'_>, at: Timestamp) -> Option<ContinuedCall> {
        let leg = self.earlier.left_calls.leg_of(message)?.clone();
        let requester = leg.requester(message);
        let LeftLeg { conversation: id, joined_by, .. } = leg;
        let left = self.earlier.left_calls.calls.get_mut(&id)?;
        let Some(slot) = left.slot else {
            let mut call = Conversation::new(id, at, self.clock.wall_offset_ns);
            call.origin = CallOrigin::Left(Box::new(left.ended.record.clone()));
            call.notes.note_problem(ProblemKind::RestartGap);
            // An earlier process announced the call, so it must end with a record.
            call.stage = AnnouncementStage::Gathering { is_announced: true };
            let slot = self.table.insert_call(call);
            left.slot = Some(slot);
            self.timers.arm(EngineTimer::Settle(slot), at + SETTLE);
            return Some(ContinuedCall { conversation: slot, joined_by: None, requester });
        };
        let is_live = self.table.call(slot).is_some_and(|call| call.id == id);
        is_live.then_some(ContinuedCall { conversation: slot, joined_by, requester })
    }
}

/// Maximum time from an INVITE to its final response: a proxy waits more than 3 minutes (RFC 3261 section 16.6, timer
/// C).
const LONGEST_SETUP: Duration = Duration::from_secs(4 * 60);
/// Maximum time between two messages of an answered call. The usual session of 1,800 s is refreshed after half of that
/// time (RFC 4028 section 7.2).
const LONGEST_SILENCE: Duration = Duration::from_secs(15 * 60);
/// Maximum number of calls of an earlier process that are stored, about 5 KiB each. Few sites have so many calls at the
/// same time.
const MAX_LEFT_CALLS: usize = 4_000;
