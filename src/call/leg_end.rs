//! The parties at the ends of a leg: a PBX, an extension or an outside party.

use serde::{Deserialize, Serialize};

use crate::call::call_path::{CallPath, PartyEnd};
use crate::call::leg::Leg;
use crate::call::numbers::NumberPlan;
use crate::call::record::Side;
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

/// Returns the caller's end and the callee's end of a leg. A recorder is no party, and neither is the machine that
/// sends sound to it in a recording session (SIPREC).
pub(super) fn leg_ends(leg: &Leg, path: &CallPath<'_>, plan: &NumberPlan) -> [LegEnd; 2] {
    let without_number = |role| LegEnd { role, number: None };
    if leg.is_recording_session() {
        return [LegEndRole::Unknown, LegEndRole::Unknown].map(without_number);
    }
    if path.is_transit(leg, plan) {
        return [LegEndRole::Pbx, LegEndRole::Pbx].map(without_number);
    }
    let party = match path.party_end(leg) {
        PartyEnd::Caller => Side::Caller,
        PartyEnd::Callee => Side::Callee,
    };
    let is_at_party = path.is_at_party(leg);
    [Side::Caller, Side::Callee].map(|side| {
        let host = leg.machine_at(side);
        if side == party && is_at_party {
            return party_at(host, path.party_number(leg, plan), plan);
        }
        // The other end is a PBX in three cases: its host called the party, passes calls on, or is known as a PBX. If
        // the leg has no party, it is between a proxy and the PBX.
        if !is_at_party || party == Side::Callee || path.passes_calls_on(host) || plan.is_pbx(host) {
            return without_number(LegEndRole::Pbx);
        }
        // The call has only this leg, so its other end may be a PBX or a telephone. It is a telephone if the called
        // number is an extension; otherwise it is unknown.
        let number = leg.parties.to.as_deref();
        let role = if plan.names_extension(number) { LegEndRole::Extension } else { LegEndRole::Unknown };
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
