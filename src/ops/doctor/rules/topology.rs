//! Rule about IP addresses that belong to one machine, e.g. one PBX, as the engine learnt from calls.

use super::{DoctorFinding, FindingKind, FindingSeverity, Observation, count};
use crate::call::topology::MachinePair;

/// Reports each pair of IP addresses that belong to one machine according to the calls. Suggests the configuration line
/// that makes this permanent.
pub(super) fn all(observation: &Observation) -> Vec<DoctorFinding> {
    observation.machines.iter().filter(|pair| pair.is_believed()).map(learnt).collect()
}

fn learnt(pair: &MachinePair) -> DoctorFinding {
    let MachinePair { a, b, seen, last_at, .. } = pair;
    let what = format!(
        "{a} and {b} count as one machine: {} showed it, the last one at {}",
        count(u64::from(*seen), "call"),
        last_at.to_rfc3339_secs()
    );
    let remedy = format!(
        "Nothing has to be done. To keep it for ever, write calls.pbx_addresses = [[\"{a}\", \"{b}\"]]. If these are two \
         machines, write [[\"{a}\"], [\"{b}\"]]."
    );
    DoctorFinding::new(FindingSeverity::Note, FindingKind::OneMachine, what).remedy(remedy)
}
