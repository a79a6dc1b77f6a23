//! What goes on although its call is over becomes a call of its own, related to the one that it was of: a leg that
//! still sounds after the leg by which the call came in, and a dialog that fell silent and is heard again.

use crate::call::conversation::Conversation;
use crate::call::engine::lifecycle::PARTNER_PATIENCE;
use crate::call::engine::signalling::SETTLE;
use crate::call::engine::{Engine, Timer};
use crate::call::event::LegSink;
use crate::call::id::conversation_id;
use crate::call::leg::Leg;
use crate::call::pause::Order;
use crate::call::record::EndedBy;
use crate::call::roles::Who;
use crate::call::timed_out::Sleeper;
use crate::decode::Datagram;
use crate::sip::{Message, Method};
use crate::time::Timestamp;

impl Engine {
    /// Makes a call of their own of legs of a call that is over, unless they are heard in a related one: after a
    /// transfer whose other leg the mirror does not show, nobody else has that sound.
    pub(super) fn split_off(&mut self, conversation: usize, sink: &mut dyn LegSink) {
        let Some(call) = self.conversations.get(conversation) else { return };
        let sounds = |leg: &Leg| leg.last_media_at.is_some_and(|last| self.now.since(last) < PARTNER_PATIENCE);
        let goes_on = |slot: &&usize| self.legs.get(**slot).is_some_and(|leg| !leg.closed && sounds(leg));
        let slots: Vec<usize> = call.legs.iter().filter(goes_on).copied().collect();
        if !slots.is_empty() && !self.is_heard_elsewhere(&call.related) {
            self.split_call(conversation, &slots, sink);
        }
    }

    fn is_heard_elsewhere(&self, related: &[String]) -> bool {
        let mut calls = self.conversations.iter().filter(|(_, call)| related.contains(&call.id));
        calls.any(|(_, call)| {
            let legs: Vec<&Leg> = call.legs.iter().filter_map(|slot| self.legs.get(*slot)).collect();
            Who::of(&legs, &self.plan).is_some_and(|who| who.anchor.dialog.ended().is_none())
        })
    }

    /// Remembers a leg that is over because nobody was heard for too long.
    pub(super) fn lay_down(&mut self, slot: usize) {
        let Some(leg) = self.legs.get(slot) else { return };
        let Some(call) = self.conversations.get(leg.conversation) else { return };
        let silent = matches!(leg.dialog.ended(), Some((_, EndedBy::Silence)));
        if !silent || leg.dialog.answered.is_none() || !leg.has_media() {
            return;
        }
        self.dormant.add(Sleeper {
            draft: leg.draft(),
            conversation: call.continues.clone().unwrap_or_else(|| call.id.clone()),
            paused: call.pauses.paused_since().is_some(),
            endpoints: leg.claimed.clone(),
            flows: leg.streams.iter().rev().take(MAX_SLEEPING_FLOWS).map(|s| (s.src, s.dst)).collect(),
            until: self.now + std::time::Duration::from_secs(u64::from(self.config.hold_s)),
        });
    }

    /// RTP of no live call: if a dialog that fell silent is heard again by it, it has a leg now.
    pub(super) fn wake_by_media(&mut self, datagram: &Datagram<'_>, sink: &mut dyn LegSink) -> bool {
        let woken = self.dormant.handle_packet((datagram.src, datagram.dst), datagram.at);
        woken.is_some_and(|(sleeper, since)| self.wake(sleeper, since, sink).is_some())
    }

    /// A message of no live leg: a BYE ends a dialog that fell silent for good, a new offer wakes it.
    pub(super) fn wake_by_message(
        &mut self,
        message: &Message<'_>,
        datagram: &Datagram<'_>,
        sink: &mut dyn LegSink,
    ) -> Option<usize> {
        if self.dormant.is_empty() {
            return None;
        }
        if message.method() == Some(&Method::Bye) {
            if self.dormant.forget(message.call_id()) {
                let (from, to) = (message.from(), message.to());
                let tags = [from.as_ref().and_then(|f| f.tag()), to.as_ref().and_then(|t| t.tag())];
                self.bury(message.call_id(), u32::MAX, tags);
            }
            return None;
        }
        let offers = matches!(message.method(), Some(Method::Invite | Method::Update)) && message.sdp().is_some();
        let inside = message.to().is_some_and(|to| to.tag().is_some());
        if !offers || !inside {
            return None;
        }
        let sleeper = self.dormant.take(message.call_id(), (datagram.src, datagram.dst))?;
        self.wake(sleeper, datagram.at, sink)
    }

    fn wake(&mut self, sleeper: Sleeper, at: Timestamp, sink: &mut dyn LegSink) -> Option<usize> {
        if self.legs.len() >= self.limits.legs {
            self.counters.legs_refused += 1;
            return None;
        }
        let Sleeper { mut draft, conversation: origin, paused, .. } = sleeper;
        draft.at = at;
        draft.dialog.handle_return(at);
        // Its other legs may have come back before it.
        let is_it = |call: &Conversation| call.continues.as_ref() == Some(&origin) && call.created_at + TOGETHER > at;
        let known = self.conversations.iter().find(|(_, call)| is_it(call)).map(|(slot, _)| slot);
        let conversation = known.unwrap_or_else(|| {
            let dialog = &draft.dialog;
            let id = conversation_id(&self.config.appliance, &dialog.call_id, dialog.caller_tag.as_deref(), at);
            let mut call = Conversation::new(id, at, self.wall_offset_ns);
            call.related.push(origin.clone());
            call.continues = Some(origin);
            let slot = self.conversations.insert(call);
            self.timers.insert((at + SETTLE, Timer::Settle(slot)));
            slot
        });
        let slot = self.add_leg(conversation, draft, None, sink);
        if paused {
            self.handle_order(conversation, Order::Pause, (at, "as before the silence", None), sink);
        }
        self.carry_out(slot, sink);
        Some(slot)
    }
}

/// Flows of a leg that are remembered: the newest of both sides.
const MAX_SLEEPING_FLOWS: usize = 8;
/// The legs of a call that is heard again come back within this time.
const TOGETHER: std::time::Duration = std::time::Duration::from_secs(30);
