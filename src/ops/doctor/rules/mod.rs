//! The rules: each looks at the counts and says what it finds, or nothing.

use super::{DoctorFinding, FindingSeverity, Observation, ObservedSource, host};

mod machine;
mod media;
mod wire;

/// Every rule, in the order in which an admin would look.
pub(super) fn all(look: &Observation) -> Vec<DoctorFinding> {
    let mut findings = Vec::new();
    if let Some(nothing) = wire::nothing(look) {
        findings.push(nothing);
        // What the wire would show cannot be missed while it shows nothing.
        findings.extend(machine::all(look));
        return findings;
    }
    findings.extend(wire::all(look));
    findings.extend(media::all(look));
    findings.extend(machine::all(look));
    findings
}

/// `part` of `whole` in per cent.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// `1 frame`, `2 frames`.
pub(super) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
