//! Where a new leg belongs: the rules, strongest first.

mod ambiguous;
mod heuristic;
mod late;
mod pickup;
mod transfer;

use crate::call::correlation_keys::Shape;
use crate::call::engine::Engine;
use crate::call::engine::correlate::heuristic::{Guess, Question};
use crate::call::engine::correlate::transfer::Found;
use crate::call::leg::{Draft, Leg};

/// Where a new leg belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::call::engine) struct Place {
    /// The conversation that it is of.
    pub same: Option<usize>,
    /// Failing that, those that its own has to do with.
    pub related: Vec<usize>,
    /// Whether it is of one of those and nobody knows of which, or is a call of its own for a known reason.
    pub doubtful: bool,
    /// Calls that it may be of as well as of `same`: see [`Engine::settle_doubts`].
    pub rivals: Vec<usize>,
}

impl Engine {
    /// Applies the rules to a new leg, strongest first; what its media tells comes in [`Engine::rejoin`].
    pub(in crate::call::engine) fn find_conversation(&self, draft: &Draft) -> Place {
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

    fn place_of(&self, draft: &Draft, shape: &Shape<'_>) -> Place {
        let same = |conversation: usize| Place { same: Some(conversation), ..Place::default() };
        let same_call_id = self.by_call_id.get(&draft.dialog.call_id).map_or(&[][..], Vec::as_slice);
        // One that ended since was there when this one was sent: messages are seen out of order.
        let live = |slot: &usize| self.legs.get(*slot).filter(|l| l.lived_at(draft.at));
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
        match self.guess(&legs, shape) {
            Guess::Only(conversation) => same(conversation),
            Guess::Likely(conversation, mut rivals) => {
                rivals.truncate(MAX_RIVALS);
                Place { rivals, ..same(conversation) }
            }
            Guess::Doubt(mut related) => {
                related.truncate(MAX_DOUBTS);
                Place { related, doubtful: true, ..Place::default() }
            }
            Guess::Nothing => Place { related: self.talking_parties(&legs, shape), ..Place::default() },
        }
    }

    /// What numbers and times say of a new leg, by what was true when it was sent; failing that, by what has come of it
    /// since.
    fn guess(&self, legs: &[&Leg], shape: &Shape<'_>) -> Guess {
        let question = Question { engine: self, shape, at: shape.at };
        match question.guess(legs) {
            Guess::Nothing if self.now > shape.at => Question { at: self.now, ..question }.guess(legs),
            guess => guess,
        }
    }

    /// The conversations that a new one has to do with: the one that it replaces, the one of the transfer that asked
    /// for it, the one that it takes out of its parking place or from a ringing telephone.
    pub(in crate::call::engine) fn relatives(&self, draft: &Draft, shape: &Shape<'_>) -> Vec<usize> {
        let found = self.by_replaces(&draft.traces).into_iter().chain(self.by_referral(draft, shape));
        let mut out: Vec<usize> = found.map(|(Found::Same(c) | Found::Related(c))| c).collect();
        out.extend(self.referrals.iter().rev().find(|r| r.parks_for(shape)).map(|r| r.conversation));
        for extension in shape.picks_up_from() {
            let at = self.join_index.at(shape.hop.1, &extension).iter().filter_map(|s| self.legs.get(*s));
            let rings = |l: &&Leg| l.lived_at(shape.at) && !l.answered_by(shape.at);
            let from_there = |l: &&Leg| l.parties.to.as_ref() == Some(&extension) && l.shape().is_sent_by(shape.hop.1);
            out.extend(at.filter(rings).filter(from_there).map(|l| l.conversation).take(MAX_DOUBTS));
        }
        out
    }
}

/// Legs of one call that are looked at: a ring group of sixty telephones and its caller. Those that came to nothing are
/// put away as they close.
pub(in crate::call::engine) const MAX_LEGS: usize = 64;
/// Calls of which each might be the one that a new leg belongs to.
pub(in crate::call::engine) const MAX_DOUBTS: usize = 4;
/// More calls of one number that wait at once say nothing of any of them.
const MAX_RIVALS: usize = 16;
