//! Who took a call that none of its telephones took: what a PBX does within a moment of an answer tells what its INVITEs
//! did not. A telephone that dialled a pick-up code has taken the call whose caller is answered with it; so has a mobile
//! that was called in the office's own name.

use crate::call::conversation::Taker;
use crate::call::correlation_keys::{SKEW, TOGETHER, same_number};
use crate::call::engine::correlate::MAX_DOUBTS;
use crate::call::engine::correlate::ambiguous::{PROMPT, RingingEnd};
use crate::call::engine::{Engine, Timer};
use crate::call::event::LegSink;
use crate::call::leg::Leg;
use crate::call::roles::is_completed_elsewhere;
use crate::net::Endpoint;
use crate::time::Timestamp;

impl Engine {
    /// A leg was answered, or is over: if that may tell whose it is, what comes of it is looked at a moment later.
    pub(in crate::call::engine) fn watch_taking(&mut self, slot: usize) {
        let Some(leg) = self.legs.get(slot).filter(|leg| leg.taken_at.is_none() && !leg.closed) else { return };
        let doubted = !leg.rivals.is_empty();
        let at = match (leg.dialog.answered, leg.dialog.ended()) {
            (Some((at, _)), _) | (None, Some((at, _))) if doubted => at + PROMPT + SKEW,
            (Some((at, _)), _) if leg.dials_code() || self.may_be_sent_on(leg).next().is_some() => at + TOGETHER,
            _ => return,
        };
        if at > self.now {
            self.timers.insert((at, Timer::Taken(slot)));
            self.legs[slot].taken_at = Some(at);
            if doubted {
                self.doubts.push(slot);
            }
        }
    }

    /// The moment is over.
    pub(in crate::call::engine) fn handle_taken(&mut self, slot: usize, sink: &mut dyn LegSink) {
        if let Some(leg) = self.legs.get(slot)
            && let Some((at, _)) = leg.dialog.answered
        {
            let code = leg.dials_code();
            let taken: Vec<usize> = if code { self.picked_up_by(leg, at) } else { self.sent_on_to(leg, at) };
            let taker = Taker { at, extension: leg.parties.from.clone().filter(|_| code) };
            self.note_taker(leg.conversation, &taken, taker);
        }
        self.settle_rivals(slot, sink);
    }

    fn note_taker(&mut self, own: usize, taken: &[usize], taker: Taker) {
        for other in taken {
            self.relate(own, *other);
        }
        if let [only] = taken
            && let Some(call) = self.conversations.get_mut(*only)
        {
            call.taker = Some(taker);
            self.tell_change(*only);
        }
    }

    /// The calls that were taken as the PBX answered a code. Looks at every call, but only when a code was dialled.
    fn picked_up_by(&self, leg: &Leg, at: Timestamp) -> Vec<usize> {
        let pbx = leg.dialog.callee_addr;
        let others = self.conversations.iter().map(|(c, _)| c).filter(|c| *c != leg.conversation);
        others.filter(|c| self.is_picked_up_at(*c, pbx, at)).take(MAX_DOUBTS).collect()
    }

    /// The calls whose callers were answered as somebody outside was whom the PBX had called in the name of the number
    /// that they called: they were sent on.
    fn sent_on_to(&self, leg: &Leg, at: Timestamp) -> Vec<usize> {
        let pbx = leg.dialog.caller_addr;
        let with = |l: &&Leg| RingingEnd::Taken(at).is_with(l.dialog.answered);
        // Where the mirror shows nobody whom the PBX rings, it was one of those.
        let shows = |c: usize| self.plan.is_seen_to_ring(pbx) || self.rung(c, pbx).next().is_some();
        let by_nobody =
            |l: &&Leg| shows(l.conversation) && self.rung(l.conversation, pbx).all(|l| l.dialog.answered.is_none());
        let calls = self.may_be_sent_on(leg).filter(with).filter(by_nobody);
        let mut out: Vec<usize> = calls.map(|l| l.conversation).take(MAX_DOUBTS).collect();
        out.dedup();
        out
    }

    /// The callers of a number in whose name the PBX called somebody outside, for no reason that was seen.
    fn may_be_sent_on<'a>(&'a self, leg: &'a Leg) -> impl Iterator<Item = &'a Leg> {
        let pbx = leg.dialog.caller_addr;
        let alone = self.conversations.get(leg.conversation).is_some_and(|call| call.legs.len() == 1);
        let outside = |number: &Option<String>| number.as_deref().is_some_and(|n| !self.plan.is_extension(n));
        let number =
            leg.parties.from.as_deref().filter(|_| alone && outside(&leg.parties.from) && outside(&leg.parties.to));
        let callers = number.map_or(&[][..], |number| self.join_index.at(pbx, number)).iter();
        callers.filter_map(|slot| self.legs.get(*slot)).filter(move |l| {
            l.conversation != leg.conversation
                && l.dialog.callee_addr.same_host(pbx)
                && l.created_at <= leg.created_at
                && same_number(l.parties.to.as_deref(), leg.parties.from.as_deref())
                // Else it is a call in return.
                && !same_number(l.parties.from.as_deref(), leg.parties.to.as_deref())
        })
    }

    /// Looks at every answer to a code, and every doubt, of which the moment is not over yet.
    pub(in crate::call::engine) fn handle_all_taken(&mut self, sink: &mut dyn LegSink) {
        let open = self.timers.iter().filter_map(|(_, timer)| match timer {
            Timer::Taken(slot) => Some(*slot),
            _ => None,
        });
        for slot in open.collect::<Vec<_>>() {
            self.handle_taken(slot, sink);
        }
    }

    /// Whether somebody else than the telephones that rang for a call has taken it just after this moment: its caller is
    /// answered, or the PBX says so to the telephones.
    fn is_picked_up_at(&self, conversation: usize, pbx: Endpoint, at: Timestamp) -> bool {
        let within = |when: Timestamp| when + SKEW >= at && when <= at + TOGETHER;
        let mut rang = self.rung(conversation, pbx).filter(|l| l.created_at <= at && l.lived_at(at - SKEW)).peekable();
        if rang.peek().is_none() || self.rung(conversation, pbx).any(|l| l.dialog.answered.is_some()) {
            return false;
        }
        let elsewhere = |l: &Leg| l.dialog.reason.as_deref().is_some_and(is_completed_elsewhere);
        let told = rang.any(|l| elsewhere(l) && l.dialog.ended().is_some_and(|(ended, _)| within(ended)));
        let answered = |l: &Leg| l.dialog.answered.is_some_and(|(when, _)| within(when));
        told || self.callers(conversation, pbx).any(answered)
    }
}
