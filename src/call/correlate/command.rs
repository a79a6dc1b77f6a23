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
        /// The legs.
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
    /// Confirms a weak join.
    Confirm {
        /// The leg.
        leg: LegKey,
        /// Rule that decided this change.
        by: CorrelationRule,
    },
    /// Sets the machine that sent a leg.
    SetSendingMachine {
        /// The leg.
        leg: LegKey,
        /// Address of the machine.
        machine: Endpoint,
    },
    /// Records that none of a call's own telephones answered the call, but another party took it.
    MarkAnsweredElsewhere {
        /// The call.
        call: CallKey,
        /// The party that took the call.
        by: AnsweredElsewhere,
    },
    /// Learns that two hosts are one machine, because the legs of a call through them have the same content.
    LearnMachine {
        /// The hosts.
        hosts: (Endpoint, Endpoint),
        /// The leg on which the sound came, and the leg on which it left.
        legs: [LegKey; 2],
    },
    /// Announces a call after it has changed.
    Announce {
        /// The call.
        call: CallKey,
    },
}
