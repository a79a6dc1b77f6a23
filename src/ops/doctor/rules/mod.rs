//! The rules of the doctor. Each rule is a function that examines an observation and may return a finding.

use super::{DoctorFinding, FindingKind, FindingSeverity, Observation, ObservedSource, host};
use crate::text::count;

mod machine;
mod media;
mod topology;
mod wire;

/// Applies all rules in the order in which an administrator would check a mirror port.
pub(super) fn all(observation: &Observation) -> Vec<DoctorFinding> {
    let mut findings = Vec::new();
    if let Some(nothing) = wire::nothing(observation) {
        findings.push(nothing);
        // If no frame was captured, the rules about traffic are skipped: they would only report the same problem again.
        findings.extend(machine::all(observation));
        return findings;
    }
    findings.extend(wire::all(observation));
    findings.extend(media::all(observation));
    findings.extend(machine::all(observation));
    findings.extend(topology::all(observation));
    findings
}

/// Applies the rules about missing directions, about media without signalling, and about signalling without media.
pub(super) fn mirror(observation: &Observation) -> Vec<DoctorFinding> {
    let rules = [wire::one_direction, media::one_side, media::rtp_without_sip, media::sip_without_rtp];
    rules.iter().filter_map(|rule| rule(observation)).collect()
}

/// Returns the share of `part` in `whole` in per cent.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}
