//! Whose a leg is that was rung while two calls of one number waited. At first it is with the call that had just come, for
//! which a PBX does most. If another caller is answered as it is taken, it was rung for that one; what contradicts itself
//! makes it a call of its own, related to all.

use std::time::Duration;

use crate::call::correlation_keys::SKEW;
use crate::call::dialog::AnsweredBy;
use crate::call::engine::Engine;
use crate::call::event::LegSink;
use crate::call::leg::Leg;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// How a telephone stopped ringing.
#[derive(Clone, Copy, Debug)]
pub(in crate::call::engine) enum RingingEnd {
    /// It took the call.
    Taken(Timestamp),
    /// The PBX rings it no longer.
    LetGo(Timestamp),
}

impl RingingEnd {
    fn of(leg: &Leg) -> Option<Self> {
        let taken = leg.dialog.answered.map(|(at, _)| Self::Taken(at));
        taken.or_else(|| leg.dialog.cancelled_at.map(Self::LetGo))
    }

    /// Whether a caller was answered in that moment: the PBX does it at once.
    pub(in crate::call::engine) fn is_with(self, answered: Option<(Timestamp, AnsweredBy)>) -> bool {
        answered.is_some_and(|(when, _)| when + SKEW >= self.at() && when <= self.at() + PROMPT)
    }

    /// Whether what happened at another leg made the PBX do it.
    fn is_after(self, cause: Option<Timestamp>) -> bool {
        cause.is_some_and(|when| when + SKEW >= self.at() && when <= self.at())
    }

    const fn at(self) -> Timestamp {
        let (Self::Taken(at) | Self::LetGo(at)) = self;
        at
    }
}

impl Engine {
    /// Another leg is looked at: whose others are that can be told by now is told first.
    pub(in crate::call::engine) fn settle_doubts(&mut self, sink: &mut dyn LegSink) {
        for slot in self.doubts.clone() {
            let certain = self.legs.get(slot).and_then(|leg| {
                let (end, pbx) = (RingingEnd::of(leg)?, leg.dialog.caller_addr);
                let served = self.rivals(leg).into_iter().filter(|c| self.is_served_at(*c, pbx, end)).count();
                Some(served == 1 && !self.is_end_for_own(leg.conversation, pbx, end))
            });
            if certain == Some(true) {
                self.settle_rivals(slot, sink);
            }
        }
    }

    fn rivals(&self, leg: &Leg) -> Vec<usize> {
        let is_there = |(c, id): &&(usize, String)| self.conversations.get(*c).is_some_and(|call| call.id == *id);
        leg.rivals.iter().filter(is_there).map(|(c, _)| *c).collect()
    }

    /// A leg that may be of several calls was given to the one that had just come. If another caller is answered as it is
    /// taken, it was rung for that one. If another telephone takes another of the calls as it is let go, it may have been;
    /// but a telephone that rings in vain may be let go in that moment just as well.
    pub(in crate::call::engine) fn settle_rivals(&mut self, slot: usize, sink: &mut dyn LegSink) {
        self.doubts.retain(|doubt| *doubt != slot);
        let Some(leg) = self.legs.get(slot).filter(|leg| !leg.rivals.is_empty()) else { return };
        let Some(end) = RingingEnd::of(leg) else { return };
        let (own, pbx, rivals) = (leg.conversation, leg.dialog.caller_addr, self.rivals(leg));
        self.legs[slot].rivals.clear();
        let served: Vec<usize> = rivals.iter().copied().filter(|c| self.is_served_at(*c, pbx, end)).collect();
        match (self.is_end_for_own(own, pbx, end), served.as_slice()) {
            (true, []) => {}
            (false, [only]) if matches!(end, RingingEnd::Taken(_)) => {
                self.move_legs(&[slot], *only, sink);
                self.finish_if_over(own);
            }
            (false, []) if !self.is_open(own, pbx, end, &rivals) => {}
            _ => {
                let into = self.split_call(own, &[slot], sink);
                for other in rivals {
                    self.relate(into, other);
                }
                self.finish_if_over(own);
            }
        }
    }

    /// Whether what ended a leg's ringing is seen at the call that it is thought to be of: its caller is answered or has
    /// given up, or another telephone has taken it.
    fn is_end_for_own(&self, own: usize, pbx: Endpoint, end: RingingEnd) -> bool {
        let gave_up = |l: &Leg| end.is_after(l.dialog.ended().map(|(at, _)| at));
        let let_go = matches!(end, RingingEnd::LetGo(_));
        self.is_served_at(own, pbx, end) || let_go && self.callers(own, pbx).any(gave_up)
    }

    /// Whether what ended a leg's ringing is seen at this call: its caller is answered, or another of its telephones has
    /// taken it.
    fn is_served_at(&self, conversation: usize, pbx: Endpoint, end: RingingEnd) -> bool {
        let answered = self.callers(conversation, pbx).any(|l| end.is_with(l.dialog.answered));
        let taken = |l: &Leg| l.dialog.answered.map(|(at, _)| at);
        match end {
            // Not by a telephone of its own.
            RingingEnd::Taken(at) => {
                let mut others = self.rung(conversation, pbx).filter(|l| taken(l) != Some(at));
                answered && !others.any(|l| l.answered_by(at + PROMPT))
            }
            RingingEnd::LetGo(_) => {
                let mut taken = self.rung(conversation, pbx).filter_map(taken).peekable();
                if taken.peek().is_none() { answered } else { taken.any(|at| end.is_after(Some(at))) }
            }
        }
    }

    /// Whether a telephone was taken, and nothing shows for whom: its own call's caller hears nobody, or another one has
    /// waited in a queue as well.
    fn is_open(&self, own: usize, pbx: Endpoint, end: RingingEnd, rivals: &[usize]) -> bool {
        let RingingEnd::Taken(at) = end else { return false };
        // Where the mirror lost the answer, its ACK tells.
        let hears = |l: &Leg| l.answered_by(at + PROMPT) || l.dialog.answered.is_none() && l.dialog.acked_at.is_some();
        let queues = |call: &usize| {
            self.callers(*call, pbx).any(|l| l.answered_by(at) && l.lived_at(at))
                && !self.rung(*call, pbx).any(|l| l.answered_by(at) && l.lived_at(at))
        };
        !self.callers(own, pbx).any(hears) || rivals.iter().any(queues)
    }

    /// The legs by which a call came to this PBX.
    pub(in crate::call::engine) fn callers(&self, conversation: usize, pbx: Endpoint) -> impl Iterator<Item = &Leg> {
        self.legs_of_call(conversation).into_iter().filter(move |l| l.dialog.callee_addr.same_host(pbx))
    }

    /// The legs by which this PBX rings somebody for a call.
    pub(in crate::call::engine) fn rung(&self, conversation: usize, pbx: Endpoint) -> impl Iterator<Item = &Leg> {
        self.legs_of_call(conversation).into_iter().filter(move |l| l.dialog.caller_addr.same_host(pbx))
    }

    fn legs_of_call(&self, conversation: usize) -> Vec<&Leg> {
        let slots = self.conversations.get(conversation).map_or(&[][..], |call| &call.legs);
        slots.iter().filter_map(|slot| self.legs.get(*slot)).collect()
    }
}

/// Once a telephone has taken a call, the PBX answers its caller within this time.
pub(in crate::call::engine) const PROMPT: Duration = Duration::from_millis(200);
