//! Commands: changes to calls that correlation decides and the engine carries out.

use crate::call::correlation_rule::CorrelationRule;
use crate::call::decision::AnsweredElsewhere;
use crate::call::keys::{CallKey, LegKey};
use crate::net::Endpoint;

/// A change to calls that correlation has decided. The engine carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Moves all legs of the call `from` to the call `into`. The call `from` and its id disappear.
    Merge {
        /// Call that disappears.
        from: CallKey,
        /// Call that receives the legs.
        into: CallKey,
        /// Rule that joined the two calls.
        by: CorrelationRule,
    },
    /// Moves some legs of a call to another call. Both calls remain.
    Move {
        /// Keys of the legs to be moved.
        legs: Vec<LegKey>,
        /// Call that receives the legs.
        into: CallKey,
        /// Rule that moved the legs.
        by: CorrelationRule,
    },
    /// Moves some legs of a call to a new call, which is related to the old call and to the `alternatives`.
    Split {
        /// Keys of the legs that leave their call; at least one leg stays.
        legs: Vec<LegKey>,
        /// Rule by which the new call is related to the old call. The call records name this rule.
        why: CorrelationRule,
        /// Further calls to which the legs could belong.
        alternatives: Vec<CallKey>,
    },
    /// Makes some legs of a call a new call, as if they had just been captured. The new call is not related to the old
    /// call.
    Release {
        /// Keys of the legs that leave their call; at least one leg stays.
        legs: Vec<LegKey>,
    },
    /// Relates two calls to each other, without joining them.
    Relate {
        /// First of the two calls.
        a: CallKey,
        /// Second of the two calls.
        b: CallKey,
        /// Rule by which the two calls are related. The call records name this rule.
        why: CorrelationRule,
    },
    /// Records that a leg could also belong to another call. The rule `ring_outcome` chooses between the calls when the
    /// leg stops ringing.
    AddAlternative {
        /// Key of the leg that could belong to several calls.
        leg: LegKey,
        /// Other call to which the leg could belong.
        call: CallKey,
    },
    /// Confirms that a weakly joined leg belongs to its call.
    Confirm {
        /// Key of the leg that joined its call by numbers alone.
        leg: LegKey,
        /// Rule that confirmed that the leg belongs to its call.
        by: CorrelationRule,
    },
    /// Records that one machine sent a leg and has another address on another leg of the call.
    SetSendingMachine {
        /// Key of the leg that the machine sent.
        leg: LegKey,
        /// Address that the machine has on another leg of the call.
        machine: Endpoint,
    },
    /// Records that a party answered a call although the call did not ring at this party, e.g. by a pickup code.
    MarkAnsweredElsewhere {
        /// Key of the call that was answered by a party at which it did not ring.
        call: CallKey,
        /// Party that answered the call.
        by: AnsweredElsewhere,
    },
    /// Records that two hosts are one machine. The same bytes of voice arrive at one host and leave the other.
    LearnMachine {
        /// Addresses of the two hosts.
        hosts: (Endpoint, Endpoint),
        /// Keys of the leg on which the voice arrived at the machine, and of the leg on which the voice left it.
        legs: [LegKey; 2],
    },
    /// Reports a changed call to journal and delivery by an event.
    Announce {
        /// Key of the call to be reported.
        call: CallKey,
    },
}
