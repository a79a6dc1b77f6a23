//! Who took which call: what a PBX does within a moment of an answer tells what its INVITEs did not. A telephone that
//! dialled a pick-up code has taken the call whose caller is answered with it; one that rang while two calls of one
//! number waited was rung for the one whose caller is.

use std::time::Duration;

use crate::call::engine::joining::MAX_DOUBTS;
use crate::call::engine::{Engine, Timer};
use crate::call::event::LegSink;
use crate::call::join::{SKEW, TOGETHER};
use crate::call::leg::Leg;
use crate::call::who::is_completed_elsewhere;
use crate::net::Endpoint;
use crate::time::Timestamp;

impl Engine {
    /// A leg was answered, or is over: if that may tell whose it is, what comes of it is looked at a moment later.
    pub(super) fn watch_taking(&mut self, slot: usize) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let doubted = !leg.rivals.is_empty();
        if leg.taken_at.is_some() || leg.closed || !(doubted || leg.dials_code()) {
            return;
        }
        let ended = leg.dialog.ended().filter(|_| doubted).map(|(at, _)| at);
        if let Some(at) = leg.dialog.answered.map(|(at, _)| at).or(ended) {
            leg.taken_at = Some(at + TOGETHER);
            self.timers.insert((at + TOGETHER, Timer::Taken(slot)));
        }
    }

    /// The moment is over.
    pub(super) fn handle_taken(&mut self, slot: usize, sink: &mut dyn LegSink) {
        let Some(leg) = self.legs.get(slot) else { return };
        let picked_up = leg.dialog.answered.map(|(at, _)| at).filter(|_| leg.dials_code());
        if let Some(at) = picked_up {
            let (own, pbx) = (leg.conversation, leg.dialog.callee_addr);
            let others = self.conversations.iter().map(|(c, _)| c).filter(|c| *c != own);
            let taken: Vec<usize> = others.filter(|c| self.is_taken_at(*c, pbx, at)).take(MAX_DOUBTS).collect();
            for other in taken {
                self.relate(own, other);
            }
        }
        self.settle_rivals(slot, sink);
    }

    /// Looks at every answer to a code, and every doubt, of which the moment is not over yet.
    pub(super) fn handle_all_taken(&mut self, sink: &mut dyn LegSink) {
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
    fn is_taken_at(&self, conversation: usize, pbx: Endpoint, at: Timestamp) -> bool {
        let within = |when: Timestamp| when + SKEW >= at && when <= at + TOGETHER;
        let is_rung = |l: &&Leg| l.dialog.caller_addr.same_host(pbx) && !l.dialog.callee_addr.same_host(pbx);
        let rang = |l: &Leg| l.created_at <= at && l.dialog.answered.is_none() && l.lived_at(at - SKEW);
        let told = |l: &Leg| {
            let elsewhere = l.dialog.reason.as_deref().is_some_and(is_completed_elsewhere);
            elsewhere && l.dialog.ended().is_some_and(|(ended, _)| within(ended))
        };
        let legs = self.legs_of_call(conversation);
        let rung: Vec<&Leg> = legs.iter().copied().filter(is_rung).collect();
        let nobody_else = rung.iter().all(|l| l.dialog.answered.is_none());
        let caller = |l: &&Leg| l.dialog.callee_addr.same_host(pbx);
        let answered =
            legs.iter().filter(|l| caller(l)).any(|l| l.dialog.answered.is_some_and(|(when, _)| within(when)));
        nobody_else && rung.iter().any(|l| rang(l)) && (answered || rung.iter().any(|l| rang(l) && told(l)))
    }

    /// A leg that may be of several calls was given to the one that had just come. If it was taken and that caller is not
    /// answered, or if it was let go as another telephone took one of the others, it was not rung for that one.
    fn settle_rivals(&mut self, slot: usize, sink: &mut dyn LegSink) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        let rivals = std::mem::take(&mut leg.rivals);
        let leg = &self.legs[slot];
        if rivals.is_empty() || !self.is_of_another_call(leg) {
            return;
        }
        let rivals: Vec<usize> =
            self.conversations.iter().filter(|(_, call)| rivals.contains(&call.id)).map(|(c, _)| c).collect();
        let served: Vec<usize> = rivals.iter().copied().filter(|c| self.is_served_with(*c, leg)).collect();
        match (served.as_slice(), leg.dialog.answered) {
            ([only], _) => {
                let own = leg.conversation;
                self.move_legs(&[slot], *only, sink);
                self.finish_if_over(own);
            }
            // It talks, and nobody knows with whom.
            (_, Some(_)) => {
                let own = leg.conversation;
                let into = self.split_call(own, &[slot], sink);
                for other in rivals {
                    self.relate(into, other);
                }
            }
            // It rang in vain, for whomever.
            (_, None) => {}
        }
    }

    /// Whether the caller of a leg's call still waits although the leg was answered, or hears nobody else although it was
    /// let go.
    fn is_of_another_call(&self, leg: &Leg) -> bool {
        let pbx = leg.dialog.caller_addr;
        let legs = self.legs_of_call(leg.conversation);
        let mut callers = legs.iter().filter(|l| l.dialog.callee_addr.same_host(pbx)).peekable();
        // Where the mirror lost the answer, its ACK or the sound tells.
        let unheard =
            |l: &Leg| l.dialog.answered.is_none() && l.dialog.acked_at.is_none() && l.first_media_at.is_none();
        match leg.dialog.ended().filter(|_| leg.dialog.answered.is_none()) {
            Some((ended, _)) => callers.all(|l| l.lived_at(ended + PROMPT) && !l.answered_by(ended + PROMPT)),
            None => callers.peek().is_some() && callers.all(|l| unheard(l)),
        }
    }

    /// Whether another call's caller was answered together with this leg, or another of its telephones as this leg was
    /// let go.
    fn is_served_with(&self, conversation: usize, leg: &Leg) -> bool {
        let pbx = leg.dialog.caller_addr;
        let legs = self.legs_of_call(conversation);
        let rung = |l: &&&Leg| l.dialog.caller_addr.same_host(pbx);
        let near = |when: Timestamp, at: Timestamp| when + TOGETHER >= at && when <= at + TOGETHER;
        let answers = |l: &&Leg, at: Timestamp| l.dialog.answered.is_some_and(|(when, _)| near(when, at));
        match (leg.dialog.answered, leg.dialog.ended()) {
            (Some((at, _)), _) => {
                let taken = legs.iter().filter(rung).any(|l| l.dialog.answered.is_some());
                !taken && legs.iter().filter(|l| l.dialog.callee_addr.same_host(pbx)).any(|l| answers(l, at))
            }
            (None, Some((at, _))) => legs.iter().filter(rung).any(|l| answers(l, at)),
            (None, None) => false,
        }
    }

    fn legs_of_call(&self, conversation: usize) -> Vec<&Leg> {
        let slots = self.conversations.get(conversation).map_or(&[][..], |call| &call.legs);
        slots.iter().filter_map(|slot| self.legs.get(*slot)).collect()
    }
}

/// Once a telephone has taken a call, the PBX answers its caller and lets the others go within this time.
const PROMPT: Duration = Duration::from_millis(500);
