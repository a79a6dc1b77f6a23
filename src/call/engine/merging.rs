//! Two conversations become one, or name each other.

use crate::call::decision::Decision;
use crate::call::engine::signalling::SETTLE;
use crate::call::engine::{Engine, Timer};
use crate::call::event::LegSink;
use crate::call::leg::SpoolStage;

impl Engine {
    /// Both calls name each other.
    pub(super) fn relate(&mut self, a: usize, b: usize) {
        let id = |engine: &Self, slot: usize| engine.conversations.get(slot).map(|c| c.id.clone());
        let (Some(id_a), Some(id_b)) = (id(self, a), id(self, b)) else { return };
        for (slot, other) in [(a, id_b), (b, id_a)] {
            if let Some(call) = self.conversations.get_mut(slot)
                && call.related.len() < MAX_RELATED
                && !call.related.contains(&other)
            {
                call.related.push(other);
            }
        }
    }

    /// Moves the legs of a conversation that nobody was told of into another.
    pub(super) fn merge(&mut self, from: usize, into: usize, sink: &mut dyn LegSink) {
        let Some(old) = self.conversations.try_remove(from) else { return };
        let at = old.created_at + SETTLE;
        self.timers.remove(&(at, Timer::Settle(from)));
        self.forget_part_timer(from, &old);
        for referral in self.referrals.iter_mut().filter(|r| r.conversation == from) {
            referral.conversation = into;
        }
        let Some(call) = self.conversations.get_mut(into) else { return };
        let id = call.id.clone();
        let (was_paused, comes_paused) = (call.pauses.paused_since(), old.pauses.paused_since());
        let settled: Vec<usize> =
            if was_paused.is_none() && comes_paused.is_some() { call.legs.clone() } else { Vec::new() };
        call.legs.extend(&old.legs);
        let legs = &self.legs;
        call.legs.sort_by_key(|slot| legs.get(*slot).map(|leg| (leg.created_at, leg.id)));
        call.pauses.merge(old.pauses);
        call.related.extend(old.related.iter().filter(|other| **other != id).cloned());
        call.related.retain(|other| *other != old.id);
        // Nobody will ever hear of the old id.
        for (_, other) in self.conversations.iter_mut().filter(|(slot, _)| *slot != into) {
            for named in other.related.iter_mut().filter(|named| **named == old.id) {
                named.clone_from(&id);
            }
        }
        for slot in old.legs {
            let Some(leg) = self.legs.get_mut(slot) else { continue };
            leg.conversation = into;
            let started_at = leg.started_at;
            if leg.spool == SpoolStage::Open {
                sink.decide(leg.id, self.now, &Decision::Join { conversation: id.clone() });
            }
            if comes_paused.is_none() {
                self.hush_newcomer(slot, self.now, sink);
            }
            if let Some(at) = started_at {
                self.watch_parts(into, at);
            }
        }
        for slot in settled {
            self.hush_newcomer(slot, self.now, sink);
        }
        self.judge(into, sink);
    }
}

/// Calls that have to do with one call.
const MAX_RELATED: usize = 16;
