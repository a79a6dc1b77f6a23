//! Machines with two addresses that a call itself has shown.
//!
//! The rule `agreeing_numbers` has joined a leg to the call of its caller, although the two share no host. So the
//! address at which the caller waits and the address that sent the leg are one machine within this call.
//!
//! The machine may later send another leg for this caller, e.g. to the next telephone of a hunt group. Then the rules
//! about hosts are asked with the caller's address in place of the sender's.

use crate::call::correlate::evidence::CallChoice;
use crate::call::correlate::question::LegQuestion;
use crate::call::correlate::rule_list::CALLER_STAGES;
use crate::call::correlate::{Correlation, MAX_ALTERNATIVES, MachineAlias};
use crate::call::correlation_keys::has_digits;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::{CallKey, LegKey};
use crate::call::leg::Leg;
use crate::call::record::LegRecord;
use crate::net::Endpoint;

impl<'a> LegQuestion<'a> {
    /// Decides which call a new leg joins, if a call of its caller has shown that the sender of the leg has another
    /// address. Returns `None` if no call has shown this, or if none fits.
    pub(super) fn join_by_shown_machine(&self) -> Option<Correlation> {
        let legs = self.legs_of_same_numbers();
        let machine = self.shown_machine(&legs)?;
        let is_there = |leg: &Leg| leg.machines().1.same_host(machine) || leg.machines().0.same_host(machine);
        let known = legs.into_iter().filter(|(_, leg)| is_there(leg)).collect();
        let alias = Some(MachineAlias::OfDraft(machine));
        match self.as_sent_by(machine, known).ask(CALLER_STAGES) {
            CallChoice::Join(evidence) => {
                Some(Correlation { alias, ..Correlation::join(evidence.call, evidence.rule) })
            }
            CallChoice::Prefer(evidence, mut alternatives) => {
                alternatives.truncate(MAX_ALTERNATIVES);
                Some(Correlation { alias, alternatives, ..Correlation::join(evidence.call, evidence.rule) })
            }
            CallChoice::Ambiguous(evidence) => Some(Correlation::ambiguous(evidence.iter().map(|e| e.call).collect())),
            CallChoice::Relate(_) | CallChoice::Nothing => None,
        }
    }

    /// Returns the legs anywhere that have a number in common with the new leg.
    fn legs_of_same_numbers(&self) -> Vec<(LegKey, &'a Leg)> {
        let table = self.correlator.table;
        let numbers = self.signature.numbers().filter(|number| has_digits(Some(number)));
        table.correlation().legs_with_any(numbers).into_iter().filter_map(|key| Some((key, table.leg(key)?))).collect()
    }

    /// Returns the address at which callers reach the sender of the new leg, as one of their calls has shown. Returns
    /// `None` if no call has shown it, or if the calls show several addresses.
    fn shown_machine(&self, legs: &[(LegKey, &Leg)]) -> Option<Endpoint> {
        let sender = self.dialog.caller_addr;
        let is_caller = |leg: &&Leg| {
            let machine = leg.machines().1;
            leg.lived_at(self.at)
                && !machine.same_host(self.signature.hop.0)
                && self.has_sent_from(leg.call(), machine, sender)
        };
        let mut machines = legs.iter().map(|(_, leg)| *leg).filter(is_caller).map(|leg| leg.machines().1);
        let first = machines.next()?;
        machines.all(|machine| machine.same_host(first)).then_some(first)
    }

    /// Returns whether the machine at which a caller waits has sent a leg of the call from this address. Only the numbers
    /// have joined this leg. It may have ended since then.
    fn has_sent_from(&self, call: CallKey, machine: Endpoint, sender: Endpoint) -> bool {
        let by_numbers = Some(CorrelationRule::AgreeingNumbers);
        let is_shown = |leg: &Leg| leg.hop().0.same_host(sender) && leg.machines().0.same_host(machine);
        let was_shown = |leg: &LegRecord| {
            leg.joined_by == by_numbers && leg.caller_addr.is_some_and(|address| address.same_host(sender))
        };
        let table = self.correlator.table;
        table.legs_of(call).any(is_shown)
            || table.call(call).is_some_and(|call| call.notes.compacted_legs().iter().any(was_shown))
    }
}
