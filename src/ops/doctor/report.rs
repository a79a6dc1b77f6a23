//! The findings for people and for scripts.

use std::fmt::Write as _;

use serde::Serialize;

use super::rules::count;
use super::{DoctorFinding, FindingSeverity, Observation};

/// What `--json` prints: one object.
#[derive(Clone, Debug, Serialize)]
pub struct DoctorReport<'a> {
    /// HostInterface or file names.
    pub source: &'a str,
    /// How long was looked; for a file, from its first to its last frame.
    pub seconds: f64,
    /// Whether there is neither a problem nor a warning.
    pub healthy: bool,
    /// What was counted.
    pub counts: ReportCounts,
    /// What was found, the worst first.
    pub findings: &'a [DoctorFinding],
}

/// The counts that a person asks for first.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ReportCounts {
    /// Frames seen.
    pub frames: u64,
    /// Frames that this machine lost.
    pub frames_lost_here: u64,
    /// SIP messages that were read.
    pub sip_messages: u64,
    /// RTP streams, of known calls or not.
    pub rtp_streams: u64,
    /// Their packets, without copies.
    pub rtp_packets: u64,
    /// Their packets that never came.
    pub rtp_lost: u64,
    /// Copies of packets, RTP and other.
    pub duplicates: u64,
    /// CallTally.
    pub calls: u64,
    /// Of these, answered for long enough to be heard.
    pub calls_answered: u64,
    /// Of these, heard on both sides.
    pub calls_both_sides: u64,
}

/// The report of a look.
pub fn report<'a>(look: &'a Observation, findings: &'a [DoctorFinding]) -> DoctorReport<'a> {
    DoctorReport {
        source: &look.source,
        seconds: (look.seconds * 1000.0).round() / 1000.0,
        healthy: findings.iter().all(|f| f.severity == FindingSeverity::Note),
        counts: ReportCounts {
            frames: look.decode.frames,
            frames_lost_here: look.capture.dropped_by_kernel + look.capture.dropped_by_interface,
            sip_messages: look.engine.sip_messages,
            rtp_streams: look.traffic.rtp_streams,
            rtp_packets: look.traffic.rtp_packets,
            rtp_lost: look.traffic.rtp_lost,
            duplicates: look.decode.duplicates + look.traffic.rtp_copies,
            calls: look.calls.all,
            calls_answered: look.calls.talked,
            calls_both_sides: look.calls.both_sides,
        },
        findings,
    }
}

/// The same for people: one line when all is well, then a block for each finding.
pub fn text(report: &DoctorReport<'_>) -> String {
    let c = report.counts;
    let state = if report.healthy { "healthy" } else { "needs attention" };
    let mut text = format!(
        "{}: {state}: {} in {:.0} s, {}, {}, {} ({} answered, {} heard on both sides), {} lost on this machine\n",
        report.source,
        count(c.frames, "frame"),
        report.seconds,
        count(c.sip_messages, "SIP message"),
        count(c.rtp_streams, "RTP stream"),
        count(c.calls, "call"),
        c.calls_answered,
        c.calls_both_sides,
        count(c.frames_lost_here, "frame"),
    );
    for finding in report.findings {
        block(&mut text, finding);
    }
    text
}

fn block(text: &mut String, finding: &DoctorFinding) {
    let severity = match finding.severity {
        FindingSeverity::Problem => "PROBLEM",
        FindingSeverity::Warning => "warning",
        FindingSeverity::Note => "note",
    };
    // A String takes every write.
    let _ = writeln!(text, "{severity}: {} [{}]", finding.what, finding.kind);
    if !finding.remedy.is_empty() {
        let _ = writeln!(text, "    {}", finding.remedy);
    }
    for command in &finding.commands {
        let _ = writeln!(text, "        {command}");
    }
}
