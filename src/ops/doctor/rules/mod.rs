//! The rules of the doctor. Each rule examines an observation and may return a finding.

use super::{DoctorFinding, FindingSeverity, Observation, ObservedSource, host};

mod machine;
mod media;
mod topology;
mod wire;

/// Applies every rule, in the order in which an administrator would check.
pub(super) fn all(look: &Observation) -> Vec<DoctorFinding> {
    let mut findings = Vec::new();
    if let Some(nothing) = wire::nothing(look) {
        findings.push(nothing);
        // If there is no frame at all, the other rules about the wire would only repeat this finding.
        findings.extend(machine::all(look));
        return findings;
    }
    findings.extend(wire::all(look));
    findings.extend(media::all(look));
    findings.extend(machine::all(look));
    findings.extend(topology::all(look));
    findings
}

/// Applies the rules about missing directions, and about media and signalling that do not match.
pub(super) fn mirror(look: &Observation) -> Vec<DoctorFinding> {
    let rules = [wire::one_direction, media::one_side, media::rtp_without_sip, media::sip_without_rtp];
    rules.iter().filter_map(|rule| rule(look)).collect()
}

/// Returns `part` of `whole` in per cent.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// Returns a number with its noun, e.g. `1 frame` or `2 frames`.
pub(super) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
