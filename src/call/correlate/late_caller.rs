//! Callers whose leg is captured a moment after the leg of a telephone that the PBX may have rung for them.
//!
//! Several callers may have one number, or call one number. If the telephone's leg is captured first, it has joined the
//! call of an earlier caller by then. So it becomes ambiguous: the rule `ring_outcome` decides at its answer.

use crate::call::correlate::{Command, Correlator, MAX_ALTERNATIVES};
use crate::call::correlation_keys::{CLOCK_SKEW, MatchStrength};
use crate::call::keys::LegKey;
use crate::call::leg::Leg;

impl Correlator<'_> {
    /// Returns the commands that make telephones ambiguous, because the PBX may have rung them for the caller of the new
    /// leg `slot`.
    pub(crate) fn telephones_of_late_caller(&self, slot: LegKey) -> Vec<Command> {
        let Some(caller) = self.table.leg(slot) else { return Vec::new() };
        let legs = self.table.correlation().legs_with_any(caller.signature().numbers());
        let is_rung = |leg: &&Leg| leg.call() != caller.call() && self.may_ring_for(caller, leg);
        let rung = legs.into_iter().filter(|key| self.table.leg(*key).as_ref().is_some_and(is_rung));
        rung.map(|leg| Command::AddAlternative { leg, call: caller.call() }).collect()
    }

    /// Returns whether the PBX may have sent `leg` for this caller, although `leg` was captured a moment before and has
    /// joined another call. The numbers of this caller must agree as well as those of the leg that caused `leg` there.
    fn may_ring_for(&self, caller: &Leg, leg: &Leg) -> bool {
        let is_open = leg.dialog.answered.is_none() && leg.dialog.ended().is_none();
        let is_near = caller.created_at.since(leg.created_at) <= CLOCK_SKEW;
        let strength = |cause: &Leg| {
            let onward = self.onward_strength(&leg.signature(), &cause.signature());
            onward.max(self.strength_by_numbers(cause, leg))
        };
        let is_weaker = |cause: &Leg| strength(cause) <= strength(caller);
        is_open
            && is_near
            && leg.dialog.cancelled_at().is_none()
            && leg.join.alternatives().len() < MAX_ALTERNATIVES
            && self.is_tied_weakly(leg)
            && strength(caller) > MatchStrength::None
            && self.causes_of(leg).next().is_some()
            && self.causes_of(leg).all(is_weaker)
    }
}
