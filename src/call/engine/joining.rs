//! Joining legs to conversations as they appear, within the settle time, and relating what comes too late.

use std::time::Duration;

use crate::call::decision::Decision;
use crate::call::engine::Engine;
use crate::call::event::LegSink;
use crate::call::join::{Fit, Referral, Shape, TOGETHER, Traces, tail};
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

/// Where a new leg belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The conversation that it is of.
    pub same: Option<usize>,
    /// Failing that, those that its own has to do with.
    pub related: Vec<usize>,
    /// Whether it is of one of those and nobody knows of which, or is a call of its own for a known reason.
    pub doubtful: bool,
}

/// What numbers and times say of a new leg.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Guess {
    Nothing,
    /// There is only this one.
    Only(usize),
    /// There are several: nothing is guessed.
    Doubt(Vec<usize>),
}

impl Guess {
    /// From conversations, each of which may be named several times.
    fn of(found: impl Iterator<Item = usize>) -> Self {
        let mut found: Vec<usize> = found.collect();
        found.sort_unstable();
        found.dedup();
        match found.as_slice() {
            [] => Self::Nothing,
            [only] => Self::Only(*only),
            _ => Self::Doubt(found),
        }
    }
}

impl Engine {
    /// Applies the rules to a new leg, strongest first; what its media tells comes in [`Engine::rejoin`].
    pub(super) fn find_conversation(&self, draft: &Draft) -> Place {
        let shape = draft.shape();
        let mut place = self.place_of(draft, &shape);
        let room = |c: &usize| self.conversations.get(*c).is_some_and(|c| c.legs.len() < MAX_LEGS);
        if let Some(full) = place.same.filter(|c| !room(c)) {
            place = Place { related: vec![full], doubtful: true, ..Place::default() };
        }
        if place.same.is_none() {
            place.related.extend(self.relatives(draft, &shape));
            place.related.retain(|c| self.conversations.contains(*c));
        }
        place
    }

    fn place_of(&self, draft: &Draft, shape: &Shape) -> Place {
        let same = |conversation: usize| Place { same: Some(conversation), ..Place::default() };
        let same_call_id = self.by_call_id.get(&draft.dialog.call_id).map_or(&[][..], Vec::as_slice);
        let live = |slot: &usize| self.legs.get(*slot).filter(|l| l.dialog.ended().is_none());
        // Another hop of the same dialog: even one that has just ended.
        let hop = same_call_id.iter().filter_map(|s| self.legs.get(*s));
        if let Some(leg) = hop.clone().find(|l| l.dialog.caller_tag == draft.dialog.caller_tag) {
            return same(leg.conversation);
        }
        let candidates = self.join_index.candidates(&draft.traces, shape);
        let legs = || candidates.iter().filter_map(live);
        if let Some(leg) = legs().find(|l| l.traces.agree(&draft.traces)) {
            return same(leg.conversation);
        }
        match self.by_replaces(&draft.traces).or_else(|| self.by_referral(draft, shape)) {
            Some(Found::Same(conversation)) => return same(conversation),
            // Why it was sent is known: it is nobody else's.
            Some(Found::Related(_)) => return Place { doubtful: true, ..Place::default() },
            None => {}
        }
        if let Some(leg) = same_call_id.iter().find_map(live) {
            return same(leg.conversation);
        }
        let legs: Vec<&Leg> = legs().collect();
        match self.by_numbers(&legs, shape) {
            Guess::Only(conversation) => same(conversation),
            Guess::Doubt(mut related) => {
                related.truncate(MAX_DOUBTS);
                Place { related, doubtful: true, ..Place::default() }
            }
            Guess::Nothing => Place { related: self.talking_parties(&legs, shape), ..Place::default() },
        }
    }

    /// The conversations that a new one has to do with: the one that it replaces, the one of the transfer that asked
    /// for it, the one that it takes out of its parking place or from a ringing telephone.
    pub(super) fn relatives(&self, draft: &Draft, shape: &Shape) -> Vec<usize> {
        let found = self.by_replaces(&draft.traces).into_iter().chain(self.by_referral(draft, shape));
        let mut out: Vec<usize> = found.map(|(Found::Same(c) | Found::Related(c))| c).collect();
        out.extend(self.referrals.iter().rev().find(|r| r.parks_for(shape)).map(|r| r.conversation));
        for extension in shape.picks_up_from() {
            let at = self.join_index.at(shape.hop.1, &extension).iter().filter_map(|s| self.legs.get(*s));
            let rings = |l: &&Leg| l.dialog.ended().is_none() && l.dialog.answered.is_none();
            let from_there = |l: &&Leg| l.parties.to.as_ref() == Some(&extension) && l.shape().is_sent_by(shape.hop.1);
            out.extend(at.filter(rings).filter(from_there).map(|l| l.conversation).take(MAX_DOUBTS));
        }
        out
    }

    /// The one call in which somebody talks whom the new leg names: an outside party for whom the PBX calls while it
    /// talks to somebody else, or an extension that makes a second call, itself or by a feature code.
    fn talking_parties(&self, legs: &[&Leg], shape: &Shape) -> Vec<usize> {
        let consults = shape.from.as_deref().is_some_and(|from| self.plan.is_extension(from));
        let talks = |l: &&&Leg| {
            let other = l.shape();
            l.dialog.answered.is_some()
                && if consults { shape.is_second_call_of(&other) } else { shape.is_for_waiting(&other) }
        };
        match Guess::of(legs.iter().filter(talks).map(|l| l.conversation)) {
            Guess::Only(conversation) => vec![conversation],
            Guess::Nothing | Guess::Doubt(_) => Vec::new(),
        }
    }

    /// The leg whose dialog is replaced: a pick-up of one of a conversation's legs goes on in it; the replacement of
    /// its only one, or of the anchor, is a new call.
    fn by_replaces(&self, traces: &Traces) -> Option<Found> {
        let replaced = self.by_call_id.get(traces.replaces.as_ref()?)?;
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

    /// What the numbers and times of the legs that live say.
    fn by_numbers(&self, legs: &[&Leg], shape: &Shape) -> Guess {
        let fits: Vec<(Fit, usize)> = legs
            .iter()
            .map(|l| (l.shape(), l.conversation))
            .map(|(other, conversation)| {
                let caused = if self.has_no_cause(conversation) { other.fit(shape) } else { Fit::None };
                (shape.fit(&other).max(caused), conversation)
            })
            .collect();
        let fitting = |wanted: Fit| fits.iter().filter(move |(fit, _)| *fit == wanted).map(|(_, c)| *c);
        let free = |guess: Guess| match guess {
            Guess::Nothing => Guess::Nothing,
            Guess::Only(one) => Guess::of([one].into_iter().filter(|c| !self.rings_already(*c, shape))),
            Guess::Doubt(several) => Guess::of(several.into_iter().filter(|c| !self.rings_already(*c, shape))),
        };
        let guess = match free(Guess::of(fitting(Fit::BothNumbers))) {
            Guess::Nothing => {
                // Who has waited for longer than that fits no less than who has just come.
                let waiting = legs.iter().filter(|l| self.waits_for(l, shape)).map(|l| l.conversation);
                free(Guess::of(fitting(Fit::Numbers).chain(waiting)))
            }
            both => both,
        };
        match guess {
            Guess::Nothing => self.by_call_back(legs, shape),
            Guess::Only(one) => Guess::Only(one),
            Guess::Doubt(several) => self.unserved(&several, shape).map_or(Guess::Doubt(several), Guess::Only),
        }
    }

    /// Whether a conversation is one leg of which nothing tells yet why it was sent, and that was nobody's for certain.
    fn has_no_cause(&self, conversation: usize) -> bool {
        self.conversations.get(conversation).is_some_and(|c| c.legs.len() == 1 && !c.doubtful)
    }

    /// Of several calls that a new leg fits, the one for which nobody has been called yet, if it has just come and each of
    /// the others was being served by then: its group rings (a PBX rings all of one at once), and nobody has given up.
    fn unserved(&self, several: &[usize], shape: &Shape) -> Option<usize> {
        let call = |c: &usize| self.conversations.get(*c);
        let mut alone = several.iter().filter(|c| call(c).is_some_and(|call| call.legs.len() == 1));
        let (fresh, None) = (alone.next()?, alone.next()) else { return None };
        let came = call(fresh)?.created_at;
        let served = |c: &usize| {
            let rung = call(c).into_iter().flat_map(|call| call.legs.iter().skip(1));
            rung.filter_map(|s| self.legs.get(*s)).all(|l| l.dialog.ended().is_none() && l.created_at + BURST <= came)
        };
        let just_now = shape.at.since(came) <= TOGETHER;
        (just_now && several.iter().filter(|c| *c != fresh).all(served)).then_some(*fresh)
    }

    /// Whether a leg's caller waits at the PBX and hears nobody yet for whom the new leg is: it rings, music plays, or
    /// the PBX thinks. (That nothing was seen of its answers yet says nothing: they may come late.)
    fn waits_for(&self, leg: &Leg, shape: &Shape) -> bool {
        let other = leg.shape();
        let for_it = shape.is_for_waiting(&other) || shape.is_another_way(&other) && self.has_failed(leg);
        for_it && self.waits(leg)
    }

    /// Whether the PBX already called somebody outside for this extension, and all of that came to nothing.
    fn has_failed(&self, leg: &Leg) -> bool {
        let ours = |number: &Option<String>| number.as_deref().is_some_and(|n| self.plan.is_extension(n));
        let Some(call) = self.conversations.get(leg.conversation) else { return false };
        let mut others = call.legs.iter().filter_map(|s| self.legs.get(*s)).filter(|l| l.id != leg.id).peekable();
        ours(&leg.parties.from)
            && !ours(&leg.parties.to)
            && others.peek().is_some()
            && others.all(|l| l.dialog.ended().is_some() && l.dialog.answered.is_none())
    }

    /// The extension that the PBX has called first and that now waits for the number to be called. Under no caller's name
    /// it could be anybody's call: only if nobody else waits for the PBX to call out.
    fn by_call_back(&self, legs: &[&Leg], shape: &Shape) -> Guess {
        let by_name = Guess::of(legs.iter().filter(|l| self.is_called_back(l, shape)).map(|l| l.conversation));
        if by_name != Guess::Nothing || shape.to.as_deref().is_none_or(|to| self.plan.is_extension(to)) {
            return by_name;
        }
        let nameless = self.join_index.by_themselves(shape.hop.0).iter().filter_map(|s| self.legs.get(*s));
        let nameless = nameless.filter(|l| l.dialog.ended().is_none() && self.is_called_back(l, shape));
        match Guess::of(nameless.map(|l| l.conversation)) {
            Guess::Only(one) if self.somebody_calls_out(shape) => Guess::Doubt(vec![one]),
            guess => guess,
        }
    }

    /// Whether anybody else has called this PBX and is neither answered nor being served: looks at every leg, but only
    /// when a click-to-call is suspected.
    fn somebody_calls_out(&self, shape: &Shape) -> bool {
        let alone = |c: usize| self.conversations.get(c).is_some_and(|c| c.legs.len() == 1);
        self.legs.iter().any(|(_, l)| {
            l.dialog.ended().is_none()
                && l.dialog.answered.is_none()
                && l.dialog.callee_addr.same_host(shape.hop.0)
                && alone(l.conversation)
        })
    }

    /// A leg whose INVITE is seen after its first answers: what that tells of other calls.
    pub(super) fn note_traces(&mut self, slot: usize, traces: Traces) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.traces = traces;
        let (own, keys) = (leg.conversation, std::mem::take(&mut leg.join_keys));
        self.join_index.remove(slot, &keys);
        let leg = &self.legs[slot];
        let keys = self.join_index.add(slot, &leg.traces, &leg.shape());
        let found = self.by_replaces(&leg.traces);
        self.legs[slot].join_keys = keys;
        if let Some(Found::Same(other) | Found::Related(other)) = found
            && other != own
        {
            self.relate(own, other);
        }
    }

    /// A leg has been answered, or has ended while others go on. What the PBX did about it may have been seen a moment
    /// before and taken for a call of its own.
    pub(super) fn gather_waiting(&mut self, slot: usize, sink: &mut dyn LegSink) {
        let Some(leg) = self.legs.get(slot) else { return };
        let own = leg.conversation;
        let Some(call) = self.conversations.get(own).filter(|c| c.legs.len() < MAX_LEGS) else {
            return;
        };
        let fresh = |l: &&Leg| {
            let call = self.conversations.get(l.conversation);
            l.conversation != own
                && l.dialog.ended().is_none()
                && call.is_some_and(|c| !c.settled && !c.doubtful && c.legs.len() == 1)
        };
        let left = call.legs.iter().filter_map(|s| self.legs.get(*s)).filter(|l| l.dialog.ended().is_none());
        let calls = |l: &&Leg| l.dialog.answered.is_some() || l.dialog.callee_addr.same_host(leg.dialog.caller_addr);
        let left = left.filter(calls);
        let found = left
            .flat_map(|l| self.join_index.candidates(&l.traces, &l.shape()))
            .filter_map(|s| self.legs.get(s))
            .filter(fresh)
            .find(|l| self.guess_again(l) == Guess::Only(own))
            .map(|l| l.conversation);
        if let Some(found) = found {
            self.merge(found, own, sink);
        }
    }

    /// What numbers and times say now of a leg that is a call of its own so far.
    fn guess_again(&self, leg: &Leg) -> Guess {
        let shape = leg.shape();
        let candidates = self.join_index.candidates(&leg.traces, &shape);
        let others = candidates.iter().filter_map(|s| self.legs.get(*s));
        let others: Vec<&Leg> =
            others.filter(|l| l.conversation != leg.conversation && l.dialog.ended().is_none()).collect();
        self.by_numbers(&others, &shape)
    }

    /// The legs of a ring group may be seen before the one that caused them. Each was taken for a call of its own, of
    /// which nobody was told yet: now they are one.
    pub(super) fn gather_group(&mut self, draft: &Draft, sink: &mut dyn LegSink) -> Option<usize> {
        let shape = draft.shape();
        let candidates = self.join_index.candidates(&draft.traces, &shape);
        let legs = candidates.iter().filter_map(|s| self.legs.get(*s)).filter(|l| l.dialog.ended().is_none());
        let caused: Vec<&Leg> = legs.filter(|l| l.shape().fit(&shape) > Fit::None).collect();
        let alone = |c: usize| self.conversations.get(c).is_some_and(|c| !c.settled) && self.has_no_cause(c);
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
        let answered = leg.dialog.answered.is_some_and(|(at, _)| shape.at.since(at) <= TOGETHER);
        alone && answered && shape.is_call_back(&leg.shape())
    }

    fn is_anchor(&self, leg: &Leg) -> bool {
        let Some(call) = self.conversations.get(leg.conversation) else { return false };
        let legs: Vec<&Leg> = call.legs.iter().filter_map(|s| self.legs.get(*s)).collect();
        Who::of(&legs, &self.plan).is_some_and(|who| who.anchor.id == leg.id)
    }

    /// What a REFER asked for may have been seen a moment before it.
    fn gather_referred(&mut self, referral: &Referral, sink: &mut dyn LegSink) {
        let Some(target) = referral.target.as_deref() else { return };
        let caused = |l: &&Leg| {
            let call = self.conversations.get(l.conversation);
            l.conversation != referral.conversation
                && l.created_at >= referral.at
                && call.is_some_and(|c| !c.settled && c.legs.len() == 1)
                && referral.causes(&l.shape(), &l.traces)
        };
        let found = self.join_index.at(referral.asked, target).iter().filter_map(|s| self.legs.get(*s)).find(caused);
        let Some(found) = found.map(|l| l.conversation) else { return };
        if referral.on_anchor {
            self.relate(referral.conversation, found);
        } else {
            self.merge(found, referral.conversation, sink);
        }
    }

    pub(super) fn handle_refer(
        &mut self,
        slot: usize,
        message: &Message<'_>,
        datagram: &Datagram<'_>,
        sink: &mut dyn LegSink,
    ) {
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
        self.gather_referred(&referral, sink);
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

/// Whether one host received the one leg and sent the other.
fn is_through(a: &Shape, b: &Shape) -> bool {
    a.hop.0.same_host(b.hop.1) && !a.hop.1.same_host(b.hop.0) && !a.hop.0.same_host(a.hop.1)
}

/// Legs of one call that are looked at: a ring group of sixty telephones and its caller. Those that came to nothing are
/// put away as they close.
const MAX_LEGS: usize = 64;
/// Calls of which each might be the one that a new leg belongs to.
const MAX_DOUBTS: usize = 4;
/// A PBX sends the INVITEs of a ring group within this time.
const BURST: Duration = Duration::from_millis(200);
/// REFERs of the last half minute on a busy PBX.
const MAX_REFERRALS: usize = 1_024;
/// Calls that have to do with one call.
const MAX_RELATED: usize = 16;
