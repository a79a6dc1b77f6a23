//! Going on after a restart: what an earlier process decided about a leg holds, whatever its messages, read back without
//! those of other calls and of registrations, would lead to.
//!
//! A [`RestoredLeg`] is told before the leg's first message is handed in again. Of its media only what changes the engine's
//! state has to come again: [`RestoredLeg::heard_until`] says how long the leg went on sounding.

use std::collections::HashMap;
use std::time::Duration;

use crate::call::conversation::Conversation;
use crate::call::decision::Decision;
use crate::call::engine::{Engine, EngineTimer};
use crate::call::event::LegSink;
use crate::call::leg::{Draft, SpoolStage};
use crate::call::streams::Stream;
use crate::net::{Endpoint, Transport};
use crate::time::Timestamp;

/// What is known of a leg from its spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredLeg {
    /// Stem of its file.
    pub name: String,
    /// Id of its conversation: external_id in Pyrus, so it must not change.
    pub conversation: String,
    /// Call-ID of its first message.
    pub call_id: String,
    /// Sender and receiver of its first message, in any order.
    pub hop: (Endpoint, Endpoint),
    /// When it began.
    pub begun_at: Timestamp,
    /// How its signalling travelled.
    pub transport: Transport,
    /// What was added to its stamps for the record.
    pub wall_offset_ns: i64,
    /// Its last media packet; `None` when it had none.
    pub heard_until: Option<Timestamp>,
}

/// What is to be recalled.
#[derive(Debug, Default)]
pub(super) struct RestoreState {
    /// By Call-ID and hop, the earliest last.
    legs: HashMap<RestoreKey, Vec<RestoredLeg>, foldhash::fast::RandomState>,
    /// Places of conversations and legs that are there again.
    conversations: HashMap<String, usize, foldhash::fast::RandomState>,
    slots: HashMap<String, usize, foldhash::fast::RandomState>,
    /// Since when the wall clock is off by what the engine knows.
    clock_since: Option<Timestamp>,
    /// Spools are being read back.
    is_reading: bool,
}

type RestoreKey = (String, Endpoint, Endpoint);

fn key(call_id: &str, hop: (Endpoint, Endpoint)) -> RestoreKey {
    (call_id.to_owned(), hop.0.min(hop.1), hop.0.max(hop.1))
}

impl RestoreState {
    pub(super) fn take(&mut self, call_id: &str, hop: (Endpoint, Endpoint)) -> Option<RestoredLeg> {
        if self.legs.is_empty() {
            return None;
        }
        let key = key(call_id, hop);
        let legs = self.legs.get_mut(&key)?;
        let recall = legs.pop();
        if legs.is_empty() {
            self.legs.remove(&key);
        }
        recall
    }

    pub(super) const fn is_reading(&self) -> bool {
        self.is_reading
    }
}

impl Engine {
    /// A leg whose first message is about to come again.
    pub fn handle_restored_leg(&mut self, recall: RestoredLeg) {
        self.restore.is_reading = true;
        self.restore_clock(recall.begun_at, recall.wall_offset_ns);
        let legs = self.restore.legs.entry(key(&recall.call_id, recall.hop)).or_default();
        legs.push(recall);
        legs.sort_by_key(|leg| std::cmp::Reverse(leg.begun_at));
    }

    /// A decision that stands in the spool of a leg (by its name): what led to it is not there, or not all of it.
    pub fn handle_restored_decision(&mut self, name: &str, decision: &Decision, at: Timestamp, sink: &mut dyn LegSink) {
        if let Decision::Clock { wall_offset_ns } = decision {
            self.restore_clock(at, *wall_offset_ns);
        }
        let Some(slot) = self.restore.slots.get(name).copied() else { return };
        let Some(leg) = self.legs.get_mut(slot).filter(|leg| leg.name == name) else { return };
        let conversation = leg.conversation;
        match decision {
            Decision::Pause | Decision::Resume => self.restore_pause(conversation, decision, at, sink),
            // Numbers of streams must be those of the spool, even where the first packet was lost on its way there.
            Decision::Stream { stream, src, dst, ssrc, side } if *stream as usize == leg.streams.len() => {
                if leg.has_moved(*src, *side) {
                    leg.dialog.note_event(at, "media_move", Some(*side));
                }
                leg.streams.push(Stream::new((*src, *dst), *ssrc, *side));
                self.stream_count += 1;
            }
            Decision::Restart { away_ms } => {
                leg.dialog.note_alive(at);
                if *away_ms > 0
                    && let Some(call) = self.conversations.get_mut(conversation)
                {
                    call.note_restart(Duration::from_millis(*away_ms));
                }
            }
            _ => {}
        }
    }

    /// The recorder was away until `now`: what was read back from the spool goes on from here. Nobody knows what was
    /// said meanwhile, so no call is taken for silent because of it, and each says how much it misses.
    pub fn handle_restart(&mut self, now: Timestamp, sink: &mut dyn LegSink) {
        self.restore = RestoreState::default();
        for (_, leg) in self.legs.iter_mut().filter(|(_, l)| !l.closed) {
            let heard = leg.last_media_at.unwrap_or(leg.created_at).max(leg.dialog.last_at());
            leg.dialog.note_alive(now);
            let Some(call) = self.conversations.get_mut(leg.conversation) else { continue };
            leg.streams.iter_mut().for_each(Stream::forget_place);
            if leg.dialog.ended().is_none() && call.wall_offset_ns != self.wall_offset_ns {
                call.note_problem("clock_step");
            }
            let away = if leg.dialog.ended().is_some() { Duration::ZERO } else { now.since(heard) };
            if !away.is_zero() {
                call.note_restart(away);
            }
            if leg.spool == SpoolStage::Open {
                let away_ms = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
                sink.decide(leg.id, now, &Decision::Restart { away_ms });
            }
        }
        // What was heard may mean less patience than what stood in the messages before it.
        let open: Vec<usize> = self.legs.iter().filter(|(_, leg)| !leg.closed).map(|(slot, _)| slot).collect();
        open.into_iter().for_each(|slot| self.rearm_leg_timer(slot));
    }

    /// The timeline of the earlier process goes on, so that what it heard and what is heard now have one clock: what is
    /// known last of its distance to the wall clock holds.
    fn restore_clock(&mut self, at: Timestamp, wall_offset_ns: i64) {
        if self.restore.clock_since.is_none_or(|since| since <= at) {
            self.restore.clock_since = Some(at);
            self.wall_offset_ns = wall_offset_ns;
        }
    }

    /// The conversation of a leg that is recalled.
    pub(super) fn restored_conversation(&mut self, recall: &RestoredLeg, draft: &Draft) -> usize {
        let known = self.restore.conversations.get(&recall.conversation).copied();
        let is_it = |slot: &usize| self.conversations.get(*slot).is_some_and(|call| call.id == recall.conversation);
        if let Some(slot) = known.filter(is_it) {
            return slot;
        }
        let relatives = self.related_calls(draft, &draft.signature());
        let at = draft.at;
        let mut conversation = Conversation::new(recall.conversation.clone(), at, recall.wall_offset_ns);
        conversation.restored = true;
        let slot = self.conversations.insert(conversation);
        self.timers.insert((at + super::signalling::SETTLE, EngineTimer::Settle(slot)));
        self.restore.conversations.insert(recall.conversation.clone(), slot);
        for other in relatives {
            self.relate(slot, other);
        }
        slot
    }

    /// A leg that is recalled has its place.
    pub(super) fn index_restored_leg(&mut self, slot: usize, recall: &RestoredLeg) {
        if let Some(leg) = self.legs.get_mut(slot) {
            leg.last_media_at = recall.heard_until;
        }
        self.restore.slots.insert(recall.name.clone(), slot);
    }
}
