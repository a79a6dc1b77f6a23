//! The parties at the ends of a leg: a PBX, an extension or an outside party.

use serde::{Deserialize, Serialize};

use crate::call::leg::Leg;
use crate::call::numbers::NumberPlan;
use crate::call::record::Side;
use crate::call::roles::{PartyEnd, party_end, party_number};
use crate::net::Endpoint;

/// One end of a leg, as the call record shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegEnd {
    /// Role of the host at this end.
    pub role: LegEndRole,
    /// Telephone number of the party; `None` for a PBX or an unknown number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub number: Option<String>,
}

/// Role of a host at the end of a leg: PBX, extension or outside party.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LegEndRole {
    /// The PBX, or another machine that passes calls on.
    Pbx,
    /// A telephone of an extension of our own PBX.
    Extension,
    /// An outside party. The host is a host of its provider.
    Outside,
    /// An unknown role, or a role that only another version knows.
    #[serde(other)]
    Unknown,
}

/// Returns the caller's end and the callee's end of a leg. `legs` are all legs of its call, oldest first.
pub(super) fn leg_ends(leg: &Leg, legs: &[&Leg], plan: &NumberPlan) -> [LegEnd; 2] {
    let party = match party_end(leg, legs) {
        PartyEnd::Caller => Side::Caller,
        PartyEnd::Callee => Side::Callee,
    };
    [Side::Caller, Side::Callee].map(|side| {
        let host = if side == Side::Caller { leg.machines().0 } else { leg.machines().1 };
        if side == party {
            return party_at(host, party_number(leg, legs, plan), plan);
        }
        // The other end is a PBX in three cases: its host called the party, passes calls on, or is known as a PBX.
        if party == Side::Callee || passes_calls_on(host, legs) || plan.is_pbx(host) {
            return LegEnd { role: LegEndRole::Pbx, number: None };
        }
        // The call has only this leg, so its other end may be a PBX or a telephone. It is a telephone if the called
        // number is an extension; otherwise it is unknown.
        let number = leg.parties.to.as_deref();
        let role = if is_extension(number, plan) { LegEndRole::Extension } else { LegEndRole::Unknown };
        LegEnd { role, number: number.map(str::to_owned) }
    })
}

fn party_at(host: Endpoint, number: Option<&str>, plan: &NumberPlan) -> LegEnd {
    let role = match number {
        Some(number) if plan.is_extension(number) => LegEndRole::Extension,
        None if !plan.is_outside_host(host) => LegEndRole::Unknown,
        _ => LegEndRole::Outside,
    };
    LegEnd { role, number: number.map(str::to_owned) }
}

/// Returns whether a host received one leg of the call and sent another.
fn passes_calls_on(host: Endpoint, legs: &[&Leg]) -> bool {
    let gets = |leg: &&Leg| leg.machines().1.same_host(host);
    let sends = |leg: &&Leg| leg.machines().0.same_host(host);
    legs.iter().any(gets) && legs.iter().any(sends)
}

fn is_extension(number: Option<&str>, plan: &NumberPlan) -> bool {
    number.is_some_and(|number| plan.is_extension(number))
}
