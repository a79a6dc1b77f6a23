//! The direction of a relay: the leg that the relaying machine received, and the leg that it sent.
//!
//! Equal voice shows that a machine passes sound from one leg to the other. If the addresses of this machine are not
//! known to belong together, the order of the packets shows on which leg the voice arrived. But the mirror port may show
//! two interfaces of the machine in the wrong order. Then the far ends of both legs would count as the machine.

use crate::call::content::ProvenRelay;
use crate::call::correlate::Correlator;
use crate::call::correlate::agreeing::AGREEING_WINDOW;
use crate::call::leg::Leg;
use crate::call::record::Side;

impl Correlator<'_> {
    /// Returns a relay in the direction that its legs show. Reverses it if the machine would have received the leg that
    /// it must have sent. Does not reverse it if the addresses of the machine are known to belong together.
    pub(super) fn in_order_of_legs(&self, relay: ProvenRelay) -> ProvenRelay {
        let (Some(cause), Some(effect)) = (self.table.leg(relay.cause.key), self.table.leg(relay.effect.key)) else {
            return relay;
        };
        // The voice of a caller arrives on the leg that the machine received, and the voice of a callee on the leg that
        // it sent. In all other cases the machine has received or sent both legs.
        let (received, sent) = match (relay.cause.side, relay.effect.side) {
            (Side::Caller, Side::Caller) => (cause, effect),
            (Side::Callee, Side::Callee) => (effect, cause),
            _ => return relay,
        };
        let is_known = received.machines().1.same_host(sent.machines().0);
        match !is_known && self.is_earlier_leg(sent, received) {
            true => ProvenRelay { cause: relay.effect, effect: relay.cause, ..relay },
            false => relay,
        }
    }

    /// Returns whether `first` is the cause of `second`, as their numbers show it. If these show nothing, the earlier
    /// of two legs that began at about the same time is the cause.
    fn is_earlier_leg(&self, first: &Leg, second: &Leg) -> bool {
        let is_cause = |cause: &Leg, effect: &Leg| self.may_have_caused_by_numbers(cause, effect);
        match (is_cause(first, second), is_cause(second, first)) {
            (true, false) => true,
            (false, true) => false,
            _ => first.created_at < second.created_at && second.created_at.since(first.created_at) <= AGREEING_WINDOW,
        }
    }
}
