//! When a live call has become so long that a part of its recording can be made.
//!
//! A part is due when media of the anchor leg was heard [`PART_SETTLE`] and more after its end. So a call that has
//! fallen silent waits: it may turn out to have ended with its last packet, before the part would.

use std::time::Duration;

use crate::call::conversation::Conversation;
use crate::call::engine::lifecycle::heard_legs;
use crate::call::engine::{Engine, Timer};
use crate::call::event::{CallEvent, DueParts, PART_SETTLE};
use crate::call::leg::Leg;
use crate::call::roles::Who;
use crate::time::Timestamp;

impl Engine {
    /// The recorded time of a call begins.
    pub(super) fn watch_parts(&mut self, conversation: usize, started_at: Timestamp) {
        let watched = self.conversations.get(conversation).is_none_or(|call| call.part_at.is_some());
        if self.config.part_s > 0 && !watched {
            self.set_part_timer(conversation, started_at + self.part_length() + PART_SETTLE + NEXT_PACKET);
        }
    }

    pub(super) fn handle_part(&mut self, conversation: usize) {
        let Some(call) = self.conversations.get_mut(conversation) else { return };
        call.part_at = None;
        let call = &self.conversations[conversation];
        let legs: Vec<&Leg> = call.legs.iter().filter_map(|slot| self.legs.get(*slot)).collect();
        let anchor = Who::of(&legs, &self.plan).map(|who| who.anchor);
        let span = anchor.and_then(|leg| Some((leg.started_at?, leg.last_media_at?)));
        let mut next = self.now + PART_SETTLE;
        if let Some((started_at, heard)) = span {
            let full = heard.since(started_at + PART_SETTLE).as_secs() / self.config.part_s.max(1);
            let parts = u32::try_from(full).unwrap_or(u32::MAX);
            let full_at = started_at + self.part_length().saturating_mul(parts.saturating_add(1));
            next = next.max(full_at + PART_SETTLE + NEXT_PACKET);
            // What was deleted once is not made again before the end.
            if parts > call.parts && !call.is_excluded() && !call.deleted {
                self.tell_parts(conversation, parts);
            }
        }
        self.set_part_timer(conversation, next);
    }

    fn tell_parts(&mut self, conversation: usize, parts: u32) {
        let Some(record) = self.record_of(conversation) else { return };
        let Some(call) = self.conversations.get_mut(conversation) else { return };
        call.parts = parts;
        let legs: Vec<&Leg> = call.legs.iter().filter_map(|slot| self.legs.get(*slot)).collect();
        let due = DueParts {
            record,
            legs: heard_legs(&legs, &self.plan),
            registration: call.handling.registration(),
            wall_offset_ns: call.wall_offset_ns,
            parts,
        };
        self.events.push_back(CallEvent::PartDue(Box::new(due)));
    }

    /// To be called when a conversation leaves its place.
    pub(super) fn forget_part_timer(&mut self, conversation: usize, call: &Conversation) {
        if let Some(at) = call.part_at {
            self.timers.remove(&(at, Timer::Part(conversation)));
        }
    }

    fn set_part_timer(&mut self, conversation: usize, at: Timestamp) {
        let Some(call) = self.conversations.get_mut(conversation) else { return };
        if let Some(old) = call.part_at.replace(at) {
            self.timers.remove(&(old, Timer::Part(conversation)));
        }
        self.timers.insert((at, Timer::Part(conversation)));
    }

    const fn part_length(&self) -> Duration {
        // No call is as long as a year; sums with it stay far from overflow.
        Duration::from_secs(if self.config.part_s > YEAR_S { YEAR_S } else { self.config.part_s })
    }
}

/// A call that is not silent has sent a packet by then.
const NEXT_PACKET: Duration = Duration::from_secs(1);
const YEAR_S: u64 = 366 * 86_400;
