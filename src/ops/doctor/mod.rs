//! The doctor, i.e. the diagnosis of a mirror port. It counts the traffic, finds problems, and suggests commands that
//! solve them.
//!
//! [`traffic`] and [`calls`] count the output of decoder and engine, and [`host`] queries this machine. The results
//! form an [`Observation`]. [`examine`] derives the [`DoctorFinding`]s from it.
//!
//! Invariants: the result of `examine` depends only on the observation, so every finding can be reproduced from a
//! capture. The commands of a finding name the observed interface.

use serde::Serialize;

use crate::call::engine;
use crate::call::topology::MachinePair;
use crate::capture::CaptureCounters;
use crate::decode;
use crate::time::Timestamp;

pub(crate) mod calls;
mod finding_kind;
pub(crate) mod host;
pub(crate) mod report;
mod rules;
pub(crate) mod russian;
mod tallied_stream;
pub(crate) mod traffic;

pub(crate) use finding_kind::FindingKind;

/// Severity of a finding. The variants are sorted, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FindingSeverity {
    /// Calls are missing, truncated or inaudible.
    Problem,
    /// Calls may be lost or damaged.
    Warning,
    /// The finding is only information; nothing has to be done.
    Note,
}

/// A finding: a problem of the mirror port, or information about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DoctorFinding {
    /// Severity of the finding.
    pub(crate) severity: FindingSeverity,
    /// Kind of the finding, e.g. no VoIP.
    pub(crate) kind: FindingKind,
    /// Description of the problem, with the counts that show it.
    pub(crate) what: String,
    /// Explanation of what the finding means and how to solve the problem; empty if nothing has to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) remedy: String,
    /// Commands to run in this order; empty if no command solves the problem.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) commands: Vec<String>,
}

/// The observed traffic: that of network interfaces or of capture files.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ObservedSource {
    /// Traffic of network interfaces, captured live.
    Live {
        /// State of the interfaces, in the order of the configuration.
        interfaces: Vec<host::HostInterface>,
        /// Whether the clock of this machine is synchronised.
        clock: host::HostClock,
        /// Size of the capture buffer (`capture.buffer_mib`), MiB.
        buffer_mib: u32,
    },
    /// Traffic read from capture files.
    Files,
}

/// Everything that was counted during an observation of a mirror port or of capture files.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observation {
    /// Whether interfaces or files were observed.
    pub(crate) subject: ObservedSource,
    /// Names of the observed interfaces or files.
    pub(crate) source: String,
    /// Capture time at which the observation began: that of the first frame, or of the first tick of the clock while no
    /// frame arrives. `None` if nothing was observed.
    pub(crate) first_at: Option<Timestamp>,
    /// Duration of the observation: seconds from the first to the last event.
    pub(crate) seconds: f64,
    /// Counters of the capture source: frames read and lost.
    pub(crate) capture: CaptureCounters,
    /// Counters of the decoder: tunnels, fragments, copies and unreadable frames.
    pub(crate) decode: decode::DecodeCounters,
    /// Counters of the engine: calls, messages and packets.
    pub(crate) engine: engine::EngineCounters,
    /// Counts of datagrams and RTP streams, whether or not they belong to a call.
    pub(crate) traffic: traffic::TrafficSummary,
    /// Counts of calls, and of their sound.
    pub(crate) calls: calls::CallTally,
    /// Pairs of IP addresses that belong to one machine, e.g. one PBX, as the engine learnt from calls.
    pub(crate) machines: Vec<MachinePair>,
    /// Counters of each network interface. Empty if files were observed.
    pub(crate) taps: Vec<super::taps::TapReport>,
    /// Warnings of the capture source, as sentences.
    pub(crate) warnings: Vec<String>,
}

impl Observation {
    /// Returns an interface name for suggested commands: the first observed interface, or [`EXAMPLE_INTERFACE`] if
    /// files were observed.
    fn interface(&self) -> &str {
        match &self.subject {
            ObservedSource::Live { interfaces, .. } => {
                interfaces.first().map_or(EXAMPLE_INTERFACE, |i| i.name.as_str())
            }
            ObservedSource::Files => EXAMPLE_INTERFACE,
        }
    }
}

/// Returns only the findings about missing directions and missing media. The running service uses them to watch its
/// mirror port.
pub(crate) fn mirror_findings(observation: &Observation) -> Vec<DoctorFinding> {
    rules::mirror(observation)
}

/// Returns all findings about an observation, the worst first.
pub(crate) fn examine(observation: &Observation) -> Vec<DoctorFinding> {
    let mut findings = rules::all(observation);
    if observation.subject == ObservedSource::Files {
        for finding in findings.iter_mut().filter(|f| f.commands.iter().any(|c| c.contains(EXAMPLE_INTERFACE))) {
            finding.remedy.push_str(" (Replace eth1 by your mirror port.)");
        }
    }
    findings.sort_by_key(|f| f.severity);
    findings
}

impl DoctorFinding {
    fn new(severity: FindingSeverity, kind: FindingKind, what: impl Into<String>) -> Self {
        Self { severity, kind, what: what.into(), remedy: String::new(), commands: Vec::new() }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    fn command(mut self, command: impl Into<String>) -> Self {
        self.commands.push(command.into());
        self
    }
}

/// Interface name in the commands that the doctor suggests for a capture file. The file does not name its interface.
const EXAMPLE_INTERFACE: &str = "eth1";

#[cfg(test)]
mod tests;
