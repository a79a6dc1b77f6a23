//! Answers elsewhere: calls that were taken by none of their own telephones.
//!
//! A PBX answers a caller within a moment of the answer that serves the caller. So a telephone that dialled a pickup code
//! took the call whose caller was answered with it. The same holds for an outside telephone that the PBX called in the
//! name of the number that the caller dialled (forwarding).

use crate::call::conversation::AnsweredElsewhere;
use crate::call::correlation_keys::{CLOCK_SKEW, PAIR_WINDOW, same_number};
use crate::call::correlation_rule::CorrelationRule;
use crate::call::engine::Engine;
use crate::call::engine::correlate::MAX_AMBIGUOUS;
use crate::call::engine::correlate::agreeing::END_WINDOW;
use crate::call::engine::correlate::ambiguous::{PBX_REACTION, RingOutcome};
use crate::call::event::LegSink;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::roles::is_completed_elsewhere;
use crate::call::timers::EngineTimer;
use crate::net::Endpoint;
use crate::time::Timestamp;

impl Engine {
    /// Arms the timer for [`Engine::handle_answer_review`], if the leg was answered or ended and the reaction of the PBX
    /// can show to which call it belongs.
    pub(in crate::call::engine) fn schedule_answer_review(&mut self, slot: LegKey) {
        let Some(leg) = self.table.leg(slot).filter(|leg| !leg.closed && !leg.is_reviewed) else { return };
        let is_ambiguous = !leg.alternatives.is_empty();
        let at = match (leg.dialog.answered, leg.dialog.ended()) {
            (Some((at, _)), _) | (None, Some((at, _))) if is_ambiguous => at + PBX_REACTION + CLOCK_SKEW,
            (Some(_), Some((at, _))) if leg.is_joined_weakly() && leg.has_media() => at + END_WINDOW,
            (Some((at, _)), _) if leg.is_joined_weakly() => at + PAIR_WINDOW,
            (Some((at, _)), _) if leg.dials_code() || self.forwarded_callers(leg).next().is_some() => at + PAIR_WINDOW,
            _ => return,
        };
        if at > self.now {
            self.timers.arm(EngineTimer::AnswerReview(slot), at);
            if let Some(leg) = self.table.leg_mut(slot) {
                leg.is_reviewed = true;
            }
            if is_ambiguous {
                self.unresolved_legs.push(slot);
            }
        }
    }

    /// Looks at the reaction of the PBX to a leg's answer: finds the call that the leg picked up or to which it was
    /// forwarded, and resolves an ambiguous leg.
    pub(in crate::call::engine) fn handle_answer_review(&mut self, slot: LegKey, sink: &mut dyn LegSink) {
        if let Some(leg) = self.table.leg(slot)
            && let Some((at, _)) = leg.dialog.answered
        {
            let is_code = leg.dials_code();
            let calls = if is_code { self.group_pickup(leg, at) } else { self.forwarded_outside(leg, at) };
            let answer = AnsweredElsewhere { at, extension: leg.parties.from.clone().filter(|_| is_code) };
            let why = if is_code { CorrelationRule::GroupPickup } else { CorrelationRule::ForwardedOutside };
            self.note_answered_elsewhere((leg.call(), why), &calls, answer, sink);
        }
        self.resolve_ambiguous_leg(slot, sink);
        self.review_agreeing_numbers(slot, sink);
        // A join by numbers alone is reviewed at the answer and at the end.
        if let Some(leg) = self.table.leg_mut(slot).filter(|leg| leg.is_joined_weakly()) {
            leg.is_reviewed = false;
            self.schedule_answer_review(slot);
        }
    }

    /// Relates `own` to the calls that its leg may have taken. If there is only one, records the answer there.
    fn note_answered_elsewhere(
        &mut self,
        (own, why): (CallKey, CorrelationRule),
        calls: &[CallKey],
        answer: AnsweredElsewhere,
        sink: &mut dyn LegSink,
    ) {
        for other in calls {
            self.relate(own, *other, why, sink);
        }
        if let [only] = calls
            && let Some(call) = self.table.call_mut(*only)
        {
            call.answered_elsewhere = Some(answer);
            self.emit_update(*only);
        }
    }

    /// Returns the ringing calls that were taken when the PBX answered a pickup code. Scans all calls, but only after a
    /// code was dialled.
    fn group_pickup(&self, leg: &Leg, at: Timestamp) -> Vec<CallKey> {
        let pbx = leg.machines().1;
        let others = self.table.calls().map(|(c, _)| c).filter(|c| *c != leg.call());
        others.filter(|c| self.is_picked_up_at(*c, pbx, at)).take(MAX_AMBIGUOUS).collect()
    }

    /// Returns the calls that the PBX forwarded to the outside telephone of this leg: their callers were answered together
    /// with it, and none of their own telephones was.
    fn forwarded_outside(&self, leg: &Leg, at: Timestamp) -> Vec<CallKey> {
        let pbx = leg.machines().0;
        let is_answered_too = |l: &&Leg| RingOutcome::Answered(at).is_with(l.dialog.answered);
        // If the mirror port shows none of the telephones that the PBX rings, one of those may have taken the call.
        let shows_rung = |c: CallKey| self.number_plan.is_visible_pbx(pbx) || self.rung_legs(c, pbx).next().is_some();
        let is_taken_by_nobody =
            |l: &&Leg| shows_rung(l.call()) && self.rung_legs(l.call(), pbx).all(|l| l.dialog.answered.is_none());
        let legs = self.forwarded_callers(leg).filter(is_answered_too).filter(is_taken_by_nobody);
        let mut out: Vec<CallKey> = legs.map(|l| l.call()).take(MAX_AMBIGUOUS).collect();
        out.dedup();
        out
    }

    /// Returns the legs of callers whose calls the PBX may have forwarded by `leg`. That leg calls an outside number in
    /// the name of the number that these callers dialled, and has no other known cause.
    fn forwarded_callers<'a>(&'a self, leg: &'a Leg) -> impl Iterator<Item = &'a Leg> {
        let pbx = leg.machines().0;
        let is_lone = self.table.call(leg.call()).is_some_and(|call| call.legs().len() == 1);
        let is_outside = |number: &Option<String>| number.as_deref().is_some_and(|n| !self.number_plan.is_extension(n));
        let may_forward = is_lone && is_outside(&leg.parties.from) && is_outside(&leg.parties.to);
        let number = leg.parties.from.as_deref().filter(|_| may_forward);
        let legs = number.map_or(&[][..], |number| self.table.correlation().legs_at(pbx, number)).iter();
        legs.filter_map(|slot| self.table.leg(*slot)).filter(move |l| {
            l.call() != leg.call()
                && l.machines().1.same_host(pbx)
                && l.created_at <= leg.created_at
                && same_number(l.parties.to.as_deref(), leg.parties.from.as_deref())
                // A call back to the caller's own number is a new call.
                && !same_number(l.parties.from.as_deref(), leg.parties.to.as_deref())
        })
    }

    /// Reviews all answers whose timer is still armed, because the capture ends.
    pub(in crate::call::engine) fn review_all_answers(&mut self, sink: &mut dyn LegSink) {
        let open = self.timers.iter().filter_map(|timer| match timer {
            EngineTimer::AnswerReview(slot) => Some(slot),
            _ => None,
        });
        for slot in open.collect::<Vec<_>>() {
            self.handle_answer_review(slot, sink);
        }
    }

    /// Returns whether a ringing call was taken by another than its own telephones just after `at`: its caller was
    /// answered, or the PBX told the telephones so in a Reason header.
    fn is_picked_up_at(&self, conversation: CallKey, pbx: Endpoint, at: Timestamp) -> bool {
        let is_just_after = |when: Timestamp| when + CLOCK_SKEW >= at && when <= at + PAIR_WINDOW;
        let rang = |l: &&Leg| l.created_at <= at && l.lived_at(at - CLOCK_SKEW);
        let mut rung = self.rung_legs(conversation, pbx).filter(rang).peekable();
        if rung.peek().is_none() || self.rung_legs(conversation, pbx).any(|l| l.dialog.answered.is_some()) {
            return false;
        }
        let says_elsewhere = |l: &Leg| l.dialog.reason.as_deref().is_some_and(is_completed_elsewhere);
        let is_told =
            rung.any(|l| says_elsewhere(l) && l.dialog.ended().is_some_and(|(ended, _)| is_just_after(ended)));
        let is_answered = |l: &Leg| l.dialog.answered.is_some_and(|(when, _)| is_just_after(when));
        is_told || self.caller_legs(conversation, pbx).any(is_answered)
    }
}
