//! Commands: the changes of calls that correlation decides, and that the engine applies.

use crate::call::conversation::AnsweredElsewhere;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::keys::{CallKey, LegKey};
use crate::net::Endpoint;

/// A change of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Moves all legs of `from` to `into`. The id of `from` disappears.
    Merge {
        /// Call that disappears.
        from: CallKey,
        /// Call that gets its legs.
        into: CallKey,
        /// Rule that fired.
        by: CorrelationRule,
    },
    /// Moves legs of one call to another call.
    Move {
        /// The legs.
        legs: Vec<LegKey>,
        /// Call that gets them.
        into: CallKey,
        /// Rule that fired.
        by: CorrelationRule,
    },
    /// Makes legs of one call a new call, which is related to the old one and to the `alternatives`.
    Split {
        /// Legs of one call, and not all of its legs.
        legs: Vec<LegKey>,
        /// Rule that fired.
        why: CorrelationRule,
        /// Further calls to which the legs could belong.
        alternatives: Vec<CallKey>,
    },
    /// Relates two calls.
    Relate {
        /// One call.
        a: CallKey,
        /// The other call.
        b: CallKey,
        /// Rule that fired.
        why: CorrelationRule,
    },
    /// Confirms a weak join.
    Confirm {
        /// The leg.
        leg: LegKey,
        /// Rule that fired.
        by: CorrelationRule,
    },
    /// Sets the machine that sent a leg.
    SetSendingMachine {
        /// The leg.
        leg: LegKey,
        /// Address of the machine.
        machine: Endpoint,
    },
    /// Records that a call was taken by none of its own telephones.
    MarkAnsweredElsewhere {
        /// The call.
        call: CallKey,
        /// The party that took it.
        by: AnsweredElsewhere,
    },
    /// Learns that two hosts are one machine, because the legs of a call through them have the same content.
    LearnMachine {
        /// The hosts.
        hosts: (Endpoint, Endpoint),
        /// The leg on which the sound came, and the leg on which it left.
        legs: [LegKey; 2],
    },
    /// Tells of a call after it has changed.
    Announce {
        /// The call.
        call: CallKey,
    },
}
