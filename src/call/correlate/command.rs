//! Commands: the changes of calls that correlation decides, and that the engine applies.

use crate::call::correlation_rule::CorrelationRule;
use crate::call::decision::AnsweredElsewhere;
use crate::call::keys::{CallKey, LegKey};
use crate::net::Endpoint;

/// A change of calls that correlation has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Moves all legs of `from` to `into`. The id of `from` is no longer used.
    Merge {
        /// Call that is merged and then removed.
        from: CallKey,
        /// Call that gets the legs of the removed call.
        into: CallKey,
        /// Rule of correlation that decided this change.
        by: CorrelationRule,
    },
    /// Moves legs of one call to another call; both calls remain.
    Move {
        /// Keys of the legs to be moved.
        legs: Vec<LegKey>,
        /// Call that gets the legs.
        into: CallKey,
        /// Rule of correlation that decided this change.
        by: CorrelationRule,
    },
    /// Makes legs of one call a new call, which is related to the old call and to the `alternatives`.
    Split {
        /// Keys of some legs of one call, but not of all its legs.
        legs: Vec<LegKey>,
        /// Rule of correlation that decided this change.
        why: CorrelationRule,
        /// Further calls to which the legs could belong.
        alternatives: Vec<CallKey>,
    },
    /// Makes legs of one call a new call, as if they had just been captured. No fact relates both calls.
    Release {
        /// Keys of some legs of one call, but not of all its legs.
        legs: Vec<LegKey>,
    },
    /// Relates two calls to each other; they stay separate.
    Relate {
        /// First of the two calls.
        a: CallKey,
        /// Second of the two calls.
        b: CallKey,
        /// Rule of correlation that decided this change.
        why: CorrelationRule,
    },
    /// Confirms a weak join, i.e. that the leg belongs to its call.
    Confirm {
        /// Key of the leg with the weak join.
        leg: LegKey,
        /// Rule of correlation that decided this change.
        by: CorrelationRule,
    },
    /// Sets the address of the machine that sent a leg, because the machine has several addresses.
    SetSendingMachine {
        /// Key of the leg for which the sender is set.
        leg: LegKey,
        /// Address that the machine has on another leg of the call.
        machine: Endpoint,
    },
    /// Records that another party answered a call, and none of the telephones that the call rang.
    MarkAnsweredElsewhere {
        /// Key of the call that was answered by another party.
        call: CallKey,
        /// Party that answered the call.
        by: AnsweredElsewhere,
    },
    /// Learns that two hosts are one machine, because the legs of a call through them have the same content.
    LearnMachine {
        /// Addresses of the two hosts, which are one machine.
        hosts: (Endpoint, Endpoint),
        /// The leg on which the sound arrived at the machine, and the leg on which it left.
        legs: [LegKey; 2],
    },
    /// Announces a call to journal and delivery by an event, because the call has changed.
    Announce {
        /// Key of the call to be announced.
        call: CallKey,
    },
}
