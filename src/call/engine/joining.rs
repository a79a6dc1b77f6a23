//! Joining legs to conversations as they appear, within the settle time, and relating what comes too late.

use crate::call::decision::Decision;
use crate::call::engine::Engine;
use crate::call::event::LegSink;
use crate::call::join::{Fit, Referral, Shape, tail};
use crate::call::leg::{Draft, Leg, SpoolStage};
use crate::call::who::Who;
use crate::decode::Datagram;
use crate::sip::Message;

/// What was found for a new leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// It belongs to this conversation.
    Same(usize),
    /// It is a call of its own that has to do with this conversation.
    Related(usize),
}

impl Engine {
    /// Applies the rules to a new leg, strongest first; what its media tells comes in [`Engine::rejoin`].
    pub(super) fn find_conversation(&self, draft: &Draft) -> Option<usize> {
        self.match_conversation(draft).filter(|c| self.conversations.get(*c).is_some_and(|c| c.legs.len() < MAX_LEGS))
    }

    fn match_conversation(&self, draft: &Draft) -> Option<usize> {
        let shape = draft.shape();
        let same_call_id = self.by_call_id.get(&draft.dialog.call_id).map_or(&[][..], Vec::as_slice);
        let live = |slot: &usize| self.legs.get(*slot).filter(|l| l.dialog.ended().is_none());
        // Another hop of the same dialog: even one that has just ended.
        let hop = same_call_id.iter().filter_map(|s| self.legs.get(*s));
        if let Some(leg) = hop.clone().find(|l| l.dialog.caller_tag == draft.dialog.caller_tag) {
            return Some(leg.conversation);
        }
        let candidates = self.join_index.candidates(&draft.traces, &shape);
        let legs = || candidates.iter().filter_map(live);
        if let Some(leg) = legs().find(|l| l.traces.agree(&draft.traces)) {
            return Some(leg.conversation);
        }
        match self.by_replaces(draft).or_else(|| self.by_referral(draft, &shape)) {
            Some(Found::Same(conversation)) => return Some(conversation),
            Some(Found::Related(_)) => return None,
            None => {}
        }
        if let Some(leg) = same_call_id.iter().find_map(live) {
            return Some(leg.conversation);
        }
        self.by_numbers(&candidates, &shape)
    }

    /// The conversations that a new one has to do with: the one that it replaces, the one of the transfer that asked
    /// for it, the one that it takes out of its parking place.
    pub(super) fn relatives(&self, draft: &Draft) -> Vec<usize> {
        let shape = draft.shape();
        let found = self.by_replaces(draft).into_iter().chain(self.by_referral(draft, &shape));
        let mut out: Vec<usize> = found.map(|(Found::Same(c) | Found::Related(c))| c).collect();
        out.extend(self.referrals.iter().rev().find(|r| r.parks_for(&shape)).map(|r| r.conversation));
        out.retain(|c| self.conversations.contains(*c));
        out
    }

    /// The leg whose dialog is replaced: a pick-up of one of a conversation's legs goes on in it; the replacement of
    /// its only one, or of the anchor, is a new call.
    fn by_replaces(&self, draft: &Draft) -> Option<Found> {
        let replaced = self.by_call_id.get(draft.traces.replaces.as_ref()?)?;
        let leg = replaced.iter().find_map(|slot| self.legs.get(*slot))?;
        Some(if self.is_anchor(leg) { Found::Related(leg.conversation) } else { Found::Same(leg.conversation) })
    }

    fn by_referral(&self, draft: &Draft, shape: &Shape) -> Option<Found> {
        let referral = self.referrals.iter().rev().find(|r| r.causes(shape, &draft.traces))?;
        self.conversations.get(referral.conversation)?;
        Some(if referral.on_anchor {
            Found::Related(referral.conversation)
        } else {
            Found::Same(referral.conversation)
        })
    }

    /// The guess, if there is only one.
    fn by_numbers(&self, candidates: &[usize], shape: &Shape) -> Option<usize> {
        let legs: Vec<&Leg> =
            candidates.iter().filter_map(|s| self.legs.get(*s)).filter(|l| l.dialog.ended().is_none()).collect();
        let free = |leg: &Leg| !self.rings_already(leg.conversation, shape);
        let fit = |leg: &Leg| shape.fit(&leg.shape()).max(leg.shape().fit(shape));
        for wanted in [Fit::BothNumbers, Fit::Numbers] {
            if let Some(only) = only(legs.iter().filter(|l| fit(l) == wanted && free(l)).map(|l| l.conversation)) {
                return only.ok();
            }
        }
        let waiting = legs.iter().filter(|l| {
            let answered = l.dialog.answered.is_some();
            // A PBX may also let a caller wait in early media (RFC 3960): nobody has answered, but there is sound.
            let served = answered || l.first_media_at.is_some();
            served && shape.is_for_waiting(&l.shape()) && self.waits(l) || answered && self.is_called_back(l, shape)
        });
        only(waiting.map(|l| l.conversation))?.ok()
    }

    /// The legs of a ring group may be seen before the one that caused them. Each was taken for a call of its own, of
    /// which nobody was told yet: now they are one.
    pub(super) fn gather_group(&mut self, draft: &Draft, sink: &mut dyn LegSink) -> Option<usize> {
        let shape = draft.shape();
        let candidates = self.join_index.candidates(&draft.traces, &shape);
        let legs = candidates.iter().filter_map(|s| self.legs.get(*s)).filter(|l| l.dialog.ended().is_none());
        let caused: Vec<&Leg> = legs.filter(|l| l.shape().fit(&shape) > Fit::None).collect();
        let alone = |c: usize| self.conversations.get(c).is_some_and(|c| !c.settled && c.legs.len() == 1);
        let mut targets: Vec<_> = caused.iter().map(|l| l.dialog.callee_addr).collect();
        targets.sort_unstable();
        targets.dedup();
        // Two calls to one phone may be of two callers.
        if targets.len() != caused.len() || !caused.iter().all(|l| alone(l.conversation)) {
            return None;
        }
        let conversations: Vec<usize> = caused.iter().map(|l| l.conversation).collect();
        let (into, others) = conversations.split_first()?;
        for other in others {
            self.merge(*other, *into, sink);
        }
        Some(*into)
    }

    /// Whether a conversation already has a live leg to the same phone: then a new one is of another call.
    fn rings_already(&self, conversation: usize, shape: &Shape) -> bool {
        let Some(call) = self.conversations.get(conversation) else { return true };
        let target = shape.to.as_deref().map(tail);
        call.legs.iter().filter_map(|s| self.legs.get(*s)).any(|leg| {
            let other = leg.shape();
            leg.dialog.ended().is_none()
                && other.hop.0.same_host(shape.hop.0)
                && other.hop.1 == shape.hop.1
                && other.to.as_deref().map(tail) == target
        })
    }

    /// Whether a caller whom the PBX serves hears no person: none of the legs that ring for it is answered.
    fn waits(&self, leg: &Leg) -> bool {
        let Some(call) = self.conversations.get(leg.conversation) else { return false };
        let talks = |l: &Leg| l.id != leg.id && l.dialog.answered.is_some() && l.dialog.ended().is_none();
        !call.legs.iter().filter_map(|s| self.legs.get(*s)).any(talks)
    }

    fn is_called_back(&self, leg: &Leg, shape: &Shape) -> bool {
        let alone = self.conversations.get(leg.conversation).is_some_and(|c| c.legs.len() == 1);
        let answered = leg.dialog.answered.is_some_and(|(at, _)| shape.at.since(at) <= crate::call::join::TOGETHER);
        alone && answered && shape.is_call_back(&leg.shape())
    }

    fn is_anchor(&self, leg: &Leg) -> bool {
        let Some(call) = self.conversations.get(leg.conversation) else { return false };
        let legs: Vec<&Leg> = call.legs.iter().filter_map(|s| self.legs.get(*s)).collect();
        Who::of(&legs, &self.plan).is_some_and(|who| who.anchor.id == leg.id || who.first.id == leg.id)
    }

    pub(super) fn handle_refer(&mut self, slot: usize, message: &Message<'_>, datagram: &Datagram<'_>) {
        let Some(leg) = self.legs.get(slot) else { return };
        let Some(mut referral) = Referral::read(message, datagram.dst, datagram.at) else { return };
        referral.conversation = leg.conversation;
        referral.on_anchor = self.is_anchor(leg);
        // An attended transfer names the consultation.
        let consultation = referral.replaces.as_ref().and_then(|call_id| {
            let slot = self.by_call_id.get(call_id)?.first()?;
            Some(self.legs.get(*slot)?.conversation).filter(|c| *c != referral.conversation)
        });
        if let Some(consultation) = consultation {
            self.relate(referral.conversation, consultation);
        }
        if self.referrals.iter().any(|r| r.target == referral.target && r.conversation == referral.conversation) {
            return;
        }
        if self.referrals.len() == MAX_REFERRALS {
            self.referrals.pop_front();
        }
        self.referrals.push_back(referral);
        if let Some(leg) = self.legs.get_mut(slot) {
            leg.dialog.note_transfer(datagram.at, message);
        }
    }

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

    /// A leg has announced media: if a leg of another call on the way has the same address, they are one call, or, if
    /// both were told already, related.
    pub(super) fn rejoin(&mut self, slot: usize, sink: &mut dyn LegSink) {
        let Some(leg) = self.legs.get(slot).filter(|l| !l.closed) else { return };
        let (own, shape) = (leg.conversation, leg.shape());
        let shares = |l: &&Leg| {
            let other = l.shape();
            l.conversation != own
                && l.dialog.ended().is_none()
                && (is_through(&shape, &other) || is_through(&other, &shape))
        };
        let claims = leg.claimed.iter().flat_map(|e| self.claims.at(*e));
        let Some(other) = claims.filter_map(|c| self.legs.get(c.slot)).find(shares).map(|l| l.conversation) else {
            return;
        };
        let fresh =
            |c: usize| self.conversations.get(c).is_some_and(|c| !c.settled && !c.recalled && c.legs.len() == 1);
        match (fresh(own), fresh(other)) {
            // The call keeps the id of its first message.
            (true, true) if self.is_older(own, other) => self.merge(other, own, sink),
            (true, _) => self.merge(own, other, sink),
            (false, true) => self.merge(other, own, sink),
            (false, false) => self.relate(own, other),
        }
    }

    fn is_older(&self, a: usize, b: usize) -> bool {
        let begun = |c: usize| self.conversations.get(c).map(|c| c.created_at);
        begun(a) < begun(b)
    }

    /// Moves the legs of a conversation that nobody was told of into another.
    fn merge(&mut self, from: usize, into: usize, sink: &mut dyn LegSink) {
        let Some(old) = self.conversations.try_remove(from) else { return };
        let at = old.created_at + super::signalling::SETTLE;
        self.timers.remove(&(at, super::Timer::Settle(from)));
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

/// Whether one host received the one leg and sent the other.
fn is_through(a: &Shape, b: &Shape) -> bool {
    a.hop.0.same_host(b.hop.1) && !a.hop.1.same_host(b.hop.0) && !a.hop.0.same_host(a.hop.1)
}

/// `None` for none, the one if all are the same, an error for several.
fn only(mut found: impl Iterator<Item = usize>) -> Option<Result<usize, ()>> {
    let first = found.next()?;
    Some(if found.all(|other| other == first) { Ok(first) } else { Err(()) })
}

/// Legs of one call that are looked at: a ring group of sixty telephones and its caller. Those that came to nothing are
/// put away as they close.
const MAX_LEGS: usize = 64;
/// REFERs of the last half minute on a busy PBX.
const MAX_REFERRALS: usize = 1_024;
/// Calls that have to do with one call.
const MAX_RELATED: usize = 16;
