//! The doctor, i.e. the diagnosis of a mirror port: finds problems by counting its traffic, and names the commands that
//! solve them.
//!
//! [`traffic`] and [`calls`] count the output of decoder and engine; [`host`] queries this machine. Together they form
//! an [`Observation`], which [`examine`] turns into [`DoctorFinding`]s.
//!
//! Invariants: the result of `examine` depends on the observation alone, so every finding can be reproduced from a
//! capture. A command of a finding names the observed interface.

use serde::Serialize;

use crate::call::engine;
use crate::call::topology::MachinePair;
use crate::capture::CaptureCounters;
use crate::decode;
use crate::time::Timestamp;

pub(crate) mod calls;
pub(crate) mod host;
pub(crate) mod report;
mod rules;
pub(crate) mod russian;
pub(crate) mod traffic;

/// Severity of a finding. The worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FindingSeverity {
    /// Calls are missing, truncated or inaudible.
    Problem,
    /// Calls may be lost or damaged.
    Warning,
    /// Information; nothing has to be done.
    Note,
}

/// A finding: a problem of the mirror port, or information about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DoctorFinding {
    /// Severity of the finding.
    pub(crate) severity: FindingSeverity,
    /// Name of the finding for scripts. It stays the same between versions.
    pub(crate) kind: &'static str,
    /// Description with the counts.
    pub(crate) what: String,
    /// Explanation what the finding means and how to solve the problem; empty if nothing has to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) remedy: String,
    /// Commands to run, in this order; may be empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) commands: Vec<String>,
}

/// What was observed: interfaces or files.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ObservedSource {
    /// Live network interfaces.
    Live {
        /// State of the interfaces, in the order of the configuration.
        interfaces: Vec<host::HostInterface>,
        /// The clock of this machine.
        clock: host::HostClock,
        /// Value of `capture.buffer_mib`, in MiB.
        buffer_mib: u32,
    },
    /// Capture files.
    Files,
}

/// Everything that was counted during an observation of a mirror port or of capture files.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observation {
    /// Whether interfaces or files were observed.
    pub(crate) subject: ObservedSource,
    /// Names of the interfaces or files.
    pub(crate) source: String,
    /// Capture time of the first event.
    pub(crate) first_at: Option<Timestamp>,
    /// Length of the observation: seconds from the first to the last event.
    pub(crate) seconds: f64,
    /// Counters of the source.
    pub(crate) capture: CaptureCounters,
    /// Counters of the decoder.
    pub(crate) decode: decode::DecodeCounters,
    /// Counters of the engine.
    pub(crate) engine: engine::EngineCounters,
    /// Counts of datagrams and RTP streams.
    pub(crate) traffic: traffic::TrafficSummary,
    /// Counts of calls.
    pub(crate) calls: calls::CallTally,
    /// Pairs of IP addresses that belong to one machine, as calls showed.
    pub(crate) machines: Vec<MachinePair>,
    /// Counters of each network interface; empty for files.
    pub(crate) taps: Vec<super::taps::TapReport>,
    /// Warnings of the capture source.
    pub(crate) warnings: Vec<String>,
}

impl Observation {
    /// Returns the name of the interface for suggested commands: the first observed interface, or an example name if
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

/// Returns the findings about missing directions and missing media. The service uses them to watch its mirror port.
pub(crate) fn mirror_findings(look: &Observation) -> Vec<DoctorFinding> {
    rules::mirror(look)
}

/// Returns all findings about an observation, the worst first.
pub(crate) fn examine(look: &Observation) -> Vec<DoctorFinding> {
    let mut findings = rules::all(look);
    if look.subject == ObservedSource::Files {
        for finding in findings.iter_mut().filter(|f| f.commands.iter().any(|c| c.contains(EXAMPLE_INTERFACE))) {
            finding.remedy.push_str(" (Replace eth1 by your mirror port.)");
        }
    }
    findings.sort_by_key(|f| f.severity);
    findings
}

impl DoctorFinding {
    fn new(severity: FindingSeverity, kind: &'static str, what: impl Into<String>) -> Self {
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

/// Interface name in suggested commands if a capture file was observed, because its interface is unknown.
const EXAMPLE_INTERFACE: &str = "eth1";

#[cfg(test)]
mod tests;
