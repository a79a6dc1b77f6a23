//! Output of the doctor's findings, as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::super::taps::TapReport;
use super::russian::FINDINGS;
use super::{DoctorFinding, FindingSeverity, Observation};
use crate::call::phrasebook::TextLanguage;
use crate::text::count;

/// The report of the doctor. `--json` prints it as one object.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DoctorReport<'a> {
    /// Names of the examined capture interfaces or capture files.
    pub(crate) source: &'a str,
    /// Duration of the observation in seconds; for a file, from its first to its last frame.
    pub(crate) seconds: f64,
    /// True if no problem and no warning was found.
    pub(crate) healthy: bool,
    /// The most important counters of the observation.
    pub(crate) counts: ReportCounts,
    /// Counters of each interface, if there are several.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) taps: &'a [TapReport],
    /// The findings, the worst first.
    pub(crate) findings: &'a [DoctorFinding],
}

/// The most important counters of an observation.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ReportCounts {
    /// Number of frames captured during the observation.
    pub(crate) frames: u64,
    /// Number of frames that the kernel or the network card of the recorder lost.
    pub(crate) frames_lost_here: u64,
    /// Number of SIP messages that were parsed.
    pub(crate) sip_messages: u64,
    /// Number of RTP streams, whether or not they belong to a known call.
    pub(crate) rtp_streams: u64,
    /// Number of packets in the RTP streams. The same packet delivered twice counts once.
    pub(crate) rtp_packets: u64,
    /// Number of packets missing in the RTP streams, according to the sequence numbers.
    pub(crate) rtp_lost: u64,
    /// Number of packets that the mirror port delivered more than once, of RTP and other protocols.
    pub(crate) duplicates: u64,
    /// Number of all calls, answered and unanswered.
    pub(crate) calls: u64,
    /// Number of answered calls that lasted long enough to expect audio.
    pub(crate) calls_answered: u64,
    /// Number of answered calls with audio on both sides.
    pub(crate) calls_both_sides: u64,
}

/// Builds the report about an observation and its findings.
pub(crate) fn report<'a>(observation: &'a Observation, findings: &'a [DoctorFinding]) -> DoctorReport<'a> {
    DoctorReport {
        source: &observation.source,
        seconds: (observation.seconds * 1000.0).round() / 1000.0,
        healthy: findings.iter().all(|f| f.severity == FindingSeverity::Note),
        counts: ReportCounts {
            frames: observation.decode.frames,
            frames_lost_here: observation.capture.dropped_by_kernel + observation.capture.dropped_by_interface,
            sip_messages: observation.engine.sip_messages,
            rtp_streams: observation.traffic.rtp_streams,
            rtp_packets: observation.traffic.rtp_packets,
            rtp_lost: observation.traffic.rtp_lost,
            duplicates: observation.decode.duplicates + observation.traffic.rtp_copies,
            calls: observation.calls.all,
            calls_answered: observation.calls.talked,
            calls_both_sides: observation.calls.both_sides,
        },
        taps: if observation.taps.len() > 1 { &observation.taps } else { &[] },
        findings,
    }
}

/// Formats the report as text: one line of counters, then some lines for each finding.
pub(crate) fn text(report: &DoctorReport<'_>, language: TextLanguage) -> String {
    let c = report.counts;
    let state = if report.healthy { "healthy" } else { "needs attention" };
    let counts = format!(
        "{state}: {} in {:.0} s, {}, {}, {} ({} answered, {} heard on both sides), {} lost on this machine",
        count(c.frames, "frame"),
        report.seconds,
        count(c.sip_messages, "SIP message"),
        count(c.rtp_streams, "RTP stream"),
        count(c.calls, "call"),
        c.calls_answered,
        c.calls_both_sides,
        count(c.frames_lost_here, "frame"),
    );
    let mut text = format!("{}: {}\n", report.source, FINDINGS.shown(language, &counts));
    for tap in report.taps {
        let counts = format!(
            "{}, {}, {}, {}, {} lost on this machine",
            count(tap.frames, "frame"),
            count(tap.sip, "SIP message"),
            count(tap.rtp, "RTP packet"),
            if tap.copies == 1 { String::from("1 copy") } else { format!("{} copies", tap.copies) },
            count(tap.lost(), "frame"),
        );
        // Writing to a String never fails, so the result is ignored.
        let _ = writeln!(text, "    {}: {}", tap.name, FINDINGS.shown(language, &counts));
    }
    for finding in report.findings {
        block(&mut text, finding, language);
    }
    text
}

fn block(text: &mut String, finding: &DoctorFinding, language: TextLanguage) {
    let severity = match finding.severity {
        FindingSeverity::Problem => "PROBLEM",
        FindingSeverity::Warning => "warning",
        FindingSeverity::Note => "note",
    };
    // Writing to a String never fails, so the result is ignored.
    let _ = writeln!(text, "{severity}: {} [{}]", FINDINGS.shown(language, &finding.what), finding.kind.name());
    if !finding.remedy.is_empty() {
        let _ = writeln!(text, "    {}", FINDINGS.shown(language, &finding.remedy));
    }
    for command in &finding.commands {
        let _ = writeln!(text, "        {command}");
    }
}
