//! What is wrong with a mirror, told from what was counted while looking at it, and the command that mends it.
//!
//! [`traffic`] and [`calls`] watch what decoding and the engine give, [`host`] asks this machine; all of it together is
//! a [`Observation`], and [`examine`] makes [`DoctorFinding`]s of it. Invariant: `examine` is a pure function of the look, so every
//! finding can be shown from a capture, and a finding that names a command has the right interface in it.

use serde::Serialize;

use crate::call::engine;
use crate::capture::CaptureCounters;
use crate::decode;
use crate::time::Timestamp;

pub mod calls;
pub mod host;
pub mod report;
mod rules;
pub mod traffic;

/// How bad a finding is. The first is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingSeverity {
    /// CallTally are missing, cut or cannot be heard.
    Problem,
    /// It may cost a call, or costs more than it should.
    Warning,
    /// Good to know; nothing has to be done.
    Note,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DoctorFinding {
    /// How bad.
    pub severity: FindingSeverity,
    /// For scripts: one word that stays the same between versions.
    pub kind: &'static str,
    /// What was seen, with its numbers.
    pub what: String,
    /// What it means and what to do, in plain words; empty when nothing has to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// What to type, in this order; empty where it is no matter of commands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

/// What was looked at.
#[derive(Clone, Debug, PartialEq)]
pub enum ObservedSource {
    /// Live interfaces, with what this machine says about them.
    Live {
        /// In the order of the configuration.
        interfaces: Vec<host::HostInterface>,
        /// The clock of this machine.
        clock: host::HostClock,
        /// The `capture.buffer_mib` in force.
        buffer_mib: u32,
    },
    /// Capture files.
    Files,
}

/// All that was counted while looking.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// What was looked at.
    pub subject: ObservedSource,
    /// Its names.
    pub source: String,
    /// The first moment seen.
    pub first_at: Option<Timestamp>,
    /// From the first to the last moment seen.
    pub seconds: f64,
    /// What the source counted.
    pub capture: CaptureCounters,
    /// What the decoder counted.
    pub decode: decode::DecodeCounters,
    /// What the engine counted.
    pub engine: engine::EngineCounters,
    /// What the datagrams showed.
    pub traffic: traffic::TrafficSummary,
    /// What the calls came to.
    pub calls: calls::CallTally,
    /// What the source wanted to tell a person.
    pub warnings: Vec<String>,
}

impl Observation {
    /// The interface for commands: the first that was looked at, or the name that the manuals use.
    fn interface(&self) -> &str {
        match &self.subject {
            ObservedSource::Live { interfaces, .. } => {
                interfaces.first().map_or(EXAMPLE_INTERFACE, |i| i.name.as_str())
            }
            ObservedSource::Files => EXAMPLE_INTERFACE,
        }
    }
}

/// What the look shows to be wrong or worth knowing, the worst first.
pub fn examine(look: &Observation) -> Vec<DoctorFinding> {
    let mut findings = rules::all(look);
    if look.subject == ObservedSource::Files {
        for finding in findings.iter_mut().filter(|f| f.commands.iter().any(|c| c.contains(EXAMPLE_INTERFACE))) {
            finding.remedy.push_str(" (eth1 stands for your mirror port.)");
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

/// Stands in commands when a file was looked at: what its interface was called is not known.
const EXAMPLE_INTERFACE: &str = "eth1";

#[cfg(test)]
mod tests;
