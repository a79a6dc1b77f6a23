//! Commands: the changes of calls that correlation decides, and that the engine applies.

use crate::call::correlation_rule::CorrelationRule;
use crate::call::decision::AnsweredElsewhere;
use crate::call::keys::{CallKey, LegKey};
use crate::net::Endpoint;

/// A change of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Moves all legs of `from` to `into`. The id of `from` is no longer used.
    Merge {
        /// Call that is removed.
        from: CallKey,
        /// Call that gets the legs of the removed call.
        into: CallKey,
        /// Rule that decided this change.
        by: CorrelationRule,
    },
    /// Moves legs of one call to another call.
    Move {
        /// Legs to be moved.
        legs: Vec<LegKey>,
        /// Call that gets the legs.
        into: CallKey,
        /// Rule that decided this change.
        by: CorrelationRule,
    },
    /// Makes legs of one call a new call, which is related to the old call and to the `alternatives`.
    Split {
        /// Some legs of one call, but not all of them.
        legs: Vec<LegKey>,
        /// Rule that decided this change.
        why: CorrelationRule,
        /// Further calls to which the legs could belong.
        alternatives: Vec<CallKey>,
    },
    /// Makes legs of one call a new call, as if they had just been captured. No fact relates both calls.
    Release {
        /// Some legs of one call, but not all of them.
        legs: Vec<LegKey>,
    },
    /// Relates two calls.
    Relate {
        /// One call.
        a: CallKey,
        /// The other call.
        b: CallKey,
        /// Rule that decided this change.
        why: CorrelationRule,
    },
    /// Confirms a weak join, i.e. that the leg belongs to its call.
    Confirm {
        /// Leg with a join that is confirmed.
        leg: LegKey,
        /// Rule that decided this change.
        by: CorrelationRule,
    },
    /// Sets the address of the machine that sent a leg.
    SetSendingMachine {
        /// Leg for which the sender is set.
        leg: LegKey,
        /// Address of the machine.
        machine: Endpoint,
    },
    /// Records that none of the telephones that a call rang answered it, but another party did.
    MarkAnsweredElsewhere {
        /// Call that was answered elsewhere.
        call: CallKey,
        /// Party that answered the call.
        by: AnsweredElsewhere,
    },
    /// Learns that two hosts are one machine, because the legs of a call through them have the same content.
    LearnMachine {
        /// Addresses of the two hosts.
        hosts: (Endpoint, Endpoint),
        /// The leg on which the sound arrived at the machine, and the leg on which it left.
        legs: [LegKey; 2],
    },
    /// Announces a call by an event, because it has changed.
    Announce {
        /// Call to be announced.
        call: CallKey,
    },
}
