//! What numbers and times say of a leg: the last rule, and a guess, so it must be the only guess.

use std::time::Duration;

use crate::call::correlation_keys::{Fit, Shape, TOGETHER, meet, same_number};
use crate::call::engine::Engine;
use crate::call::leg::Leg;
use crate::time::Timestamp;

/// What numbers and times say of a new leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::call::engine) enum Guess {
    Nothing,
    /// There is only this one.
    Only(usize),
    /// It is this one unless a telephone joins the ringing late: then it is one of those.
    Likely(usize, Vec<usize>),
    /// There are several: nothing is guessed.
    Doubt(Vec<usize>),
}

impl Guess {
    /// From conversations, each of which may be named several times.
    pub(in crate::call::engine) fn of(found: impl Iterator<Item = usize>) -> Self {
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

/// The question of whose a leg is, asked of what was true at a moment: messages are seen out of order, and who had
/// already been answered, or had given up, when the leg was sent is told by stamps.
#[derive(Clone, Copy)]
pub(in crate::call::engine) struct Question<'a> {
    /// Who knows the legs.
    pub engine: &'a Engine,
    /// The leg that is asked about.
    pub shape: &'a Shape<'a>,
    /// The moment.
    pub at: Timestamp,
}

impl Question<'_> {
    /// What the numbers and times of those of these legs say that live.
    pub(in crate::call::engine) fn guess(&self, legs: &[&Leg]) -> Guess {
        let near = |l: &&Leg| meet(self.shape.hop, l.hop()) && l.lived_at(self.at);
        let legs: Vec<&Leg> = legs.iter().copied().filter(near).collect();
        match self.by_cause(&legs) {
            Guess::Nothing => self.by_call_back(&legs),
            Guess::Doubt(several) => match self.unserved(&several) {
                Some(fresh) => Guess::Likely(fresh, several.into_iter().filter(|c| *c != fresh).collect()),
                None => Guess::Doubt(several),
            },
            guess => guess,
        }
    }

    /// The calls for which the PBX may have sent the leg: by both numbers at once, else by one, or because they wait.
    fn by_cause(&self, legs: &[&Leg]) -> Guess {
        let fits: Vec<(Fit, usize)> = legs.iter().map(|l| (self.fit(l), l.conversation)).collect();
        let fitting = |wanted: Fit| fits.iter().filter(move |(fit, _)| *fit == wanted).map(|(_, c)| *c);
        let free = |guess: Guess| match guess {
            Guess::Only(one) => Guess::of([one].into_iter().filter(|c| !self.rings_already(*c))),
            Guess::Doubt(several) => Guess::of(several.into_iter().filter(|c| !self.rings_already(*c))),
            guess => guess,
        };
        match free(Guess::of(fitting(Fit::BothNumbers))) {
            Guess::Nothing => {
                // Who has waited for longer than that fits no less than who has just come.
                let waiting = legs.iter().filter(|l| self.waits_for(l)).map(|l| l.conversation);
                free(Guess::of(fitting(Fit::Numbers).chain(waiting)))
            }
            both => both,
        }
    }

    /// How the leg fits an older one; or a younger one that nothing explains yet, as what caused it.
    fn fit(&self, leg: &Leg) -> Fit {
        let other = leg.shape();
        let caused = if self.engine.has_no_cause(leg.conversation) { other.fit(self.shape) } else { Fit::None };
        self.shape.fit(&other).max(caused)
    }

    /// Of several calls that a new leg fits, the one for which nobody has been called yet, if it has just come and each of
    /// the others was being served by then: its group rings (a PBX rings all of one at once), and nobody has given up.
    fn unserved(&self, several: &[usize]) -> Option<usize> {
        let call = |c: &usize| self.engine.conversations.get(*c);
        let mut alone = several.iter().filter(|c| call(c).is_some_and(|call| call.legs.len() == 1));
        let (fresh, None) = (alone.next()?, alone.next()) else { return None };
        let came = call(fresh)?.created_at;
        let served = |c: &usize| {
            let rung = call(c).into_iter().flat_map(|call| call.legs.iter().skip(1));
            rung.filter_map(|s| self.engine.legs.get(*s)).all(|l| l.lived_at(self.at) && l.created_at + BURST <= came)
        };
        let just_now = self.shape.at.since(came) <= TOGETHER;
        (just_now && several.iter().filter(|c| *c != fresh).all(served)).then_some(*fresh)
    }

    /// Whether a leg's caller waits at the PBX and hears nobody yet for whom the new leg is: it rings, music plays, or
    /// the PBX thinks. (That nothing was seen of its answers yet says nothing: they may come late.)
    fn waits_for(&self, leg: &Leg) -> bool {
        let other = leg.shape();
        let for_it = self.shape.is_for_waiting(&other) || self.shape.is_another_way(&other) && self.has_failed(leg);
        for_it && self.waits(leg)
    }

    /// Whether the PBX already called somebody outside for this extension, and all of that came to nothing.
    fn has_failed(&self, leg: &Leg) -> bool {
        let ours = |number: &Option<String>| number.as_deref().is_some_and(|n| self.engine.plan.is_extension(n));
        let Some(call) = self.engine.conversations.get(leg.conversation) else { return false };
        let mut others =
            call.legs.iter().filter_map(|s| self.engine.legs.get(*s)).filter(|l| l.id != leg.id).peekable();
        ours(&leg.parties.from)
            && !ours(&leg.parties.to)
            && others.peek().is_some()
            && others.all(|l| !l.lived_at(self.at) && l.dialog.answered.is_none())
    }

    /// The extension that the PBX has called first and that now waits for the number to be called. Under no caller's name
    /// it could be anybody's call: only if nobody else waits for the PBX to call out.
    fn by_call_back(&self, legs: &[&Leg]) -> Guess {
        let by_name = Guess::of(legs.iter().filter(|l| self.is_called_back(l)).map(|l| l.conversation));
        if by_name != Guess::Nothing || self.shape.to.is_none_or(|to| self.engine.plan.is_extension(to)) {
            return by_name;
        }
        let nameless =
            self.engine.join_index.by_themselves(self.shape.hop.0).iter().filter_map(|s| self.engine.legs.get(*s));
        let nameless = nameless.filter(|l| l.lived_at(self.at) && self.is_called_back(l));
        match Guess::of(nameless.map(|l| l.conversation)) {
            Guess::Only(one) if self.engine.somebody_calls_out(self.shape) => Guess::Doubt(vec![one]),
            guess => guess,
        }
    }

    /// Whether a conversation already has a live leg to the same phone: then a new one is of another call.
    fn rings_already(&self, conversation: usize) -> bool {
        let Some(call) = self.engine.conversations.get(conversation) else { return true };
        call.legs.iter().filter_map(|s| self.engine.legs.get(*s)).any(|leg| {
            let other = leg.shape();
            leg.lived_at(self.at)
                && other.hop.0.same_host(self.shape.hop.0)
                && other.hop.1 == self.shape.hop.1
                && (same_number(other.to, self.shape.to) || other.to.or(self.shape.to).is_none())
        })
    }

    /// Whether a caller whom the PBX serves hears no person: none of the legs that ring for it is answered.
    fn waits(&self, leg: &Leg) -> bool {
        let Some(call) = self.engine.conversations.get(leg.conversation) else { return false };
        let talks = |l: &Leg| l.id != leg.id && l.answered_by(self.at) && l.lived_at(self.at);
        !call.legs.iter().filter_map(|s| self.engine.legs.get(*s)).any(talks)
    }

    fn is_called_back(&self, leg: &Leg) -> bool {
        let alone = self.engine.conversations.get(leg.conversation).is_some_and(|c| c.legs.len() == 1);
        let answered = leg.dialog.answered.is_some_and(|(at, _)| self.shape.at.since(at) <= TOGETHER);
        alone && answered && self.shape.is_call_back(&leg.shape())
    }
}

impl Engine {
    /// The one call in which somebody talks whom the new leg names: an outside party for whom the PBX calls while it
    /// talks to somebody else, or an extension that makes a second call, itself or by a feature code.
    pub(in crate::call::engine) fn talking_parties(&self, legs: &[&Leg], shape: &Shape<'_>) -> Vec<usize> {
        let consults = shape.from.is_some_and(|from| self.plan.is_extension(from));
        let talks = |l: &&&Leg| {
            let other = l.shape();
            l.dialog.answered.is_some()
                && if consults { shape.is_second_call_of(&other) } else { shape.is_for_waiting(&other) }
        };
        match Guess::of(legs.iter().filter(talks).map(|l| l.conversation)) {
            Guess::Only(conversation) => vec![conversation],
            _ => Vec::new(),
        }
    }

    /// Whether a conversation is one leg of which nothing tells yet why it was sent, and that was nobody's for certain.
    pub(in crate::call::engine) fn has_no_cause(&self, conversation: usize) -> bool {
        self.conversations.get(conversation).is_some_and(|c| c.legs.len() == 1 && !c.doubtful)
    }

    /// Whether anybody else has called this PBX and is neither answered nor being served: looks at every leg, but only
    /// when a click-to-call is suspected.
    fn somebody_calls_out(&self, shape: &Shape<'_>) -> bool {
        let alone = |c: usize| self.conversations.get(c).is_some_and(|c| c.legs.len() == 1);
        self.legs.iter().any(|(_, l)| {
            l.dialog.ended().is_none()
                && l.dialog.answered.is_none()
                && l.dialog.callee_addr.same_host(shape.hop.0)
                && alone(l.conversation)
        })
    }
}

/// A PBX sends the INVITEs of a ring group within this time.
const BURST: Duration = Duration::from_millis(200);
