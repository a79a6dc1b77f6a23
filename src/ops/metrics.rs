//! Metrics of the service in the text format of Prometheus (version 0.0.4), made from the [`ServiceReport`].
//!
//! Labels contain no telephone number, no name and no id of a call.

use std::fmt::{Display, Write as _};

use super::disk::FolderSpace;
use super::self_test::SelfTestResult;
use super::status::ServiceReport;
use super::taps::TapReport;

/// Content type of the metrics in HTTP.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The facts from which the metrics are computed.
#[derive(Clone, Debug, Default)]
pub(crate) struct MeasuredFacts {
    /// State of the service with its counters.
    pub(crate) report: ServiceReport,
    /// The folders of the service, each with the space of its file system.
    pub(crate) disks: Vec<FolderSpace>,
    /// Result of the last `callspan test-call --alarm`; `None` if there was none. Without `--alarm` no result is
    /// stored.
    pub(crate) test_call: Option<SelfTestResult>,
}

/// Returns the metrics in the text format of Prometheus.
pub(crate) fn text(facts: &MeasuredFacts) -> String {
    let mut out = MetricsText::default();
    info(&mut out, &facts.report);
    packets(&mut out, &facts.report);
    taps(&mut out, &facts.report.taps);
    calls(&mut out, &facts.report);
    disks(&mut out, &facts.disks);
    if let Some(test) = &facts.test_call {
        let at = test.at.as_micros() / MICROS;
        out.gauge("callspan_test_call_ok", "1 if the last test call was recorded correctly.", u8::from(test.ok));
        out.gauge("callspan_test_call_time_seconds", "End of the last test call, Unix time.", at);
    }
    out.0
}

fn disks(out: &mut MetricsText, disks: &[FolderSpace]) {
    let label = |disk: &FolderSpace| format!("{{folder=\"{}\"}}", disk.folder);
    let (free, size) = ("callspan_disk_free_bytes", "callspan_disk_size_bytes");
    out.family(free, "gauge", "Free space of the disk of each folder.");
    disks.iter().for_each(|disk| out.sample(free, &label(disk), disk.space.free));
    out.family(size, "gauge", "Size of the disk of each folder.");
    disks.iter().for_each(|disk| out.sample(size, &label(disk), disk.space.total));
}

fn info(out: &mut MetricsText, report: &ServiceReport) {
    out.family("callspan_build_info", "gauge", "Version of the program.");
    out.sample("callspan_build_info", &format!("{{version=\"{}\"}}", report.version), 1);
    let seconds = |at: crate::time::Timestamp| at.as_micros() / MICROS;
    out.gauge("callspan_start_time_seconds", "Start of the service, Unix time.", seconds(report.started_at));
    out.gauge("callspan_capturing", "1 while an interface is up.", u8::from(report.is_capturing));
    if let Some(at) = report.last_sip_at {
        out.gauge("callspan_last_sip_time_seconds", "Last SIP message, Unix time.", seconds(at));
    }
    if let Some(at) = report.last_rtp_at {
        out.gauge("callspan_last_rtp_time_seconds", "Last RTP packet of a call, Unix time.", seconds(at));
    }
    out.family("callspan_alarm", "gauge", "1 for each kind of alarm that is not over.");
    let mut kinds: Vec<&str> = report.alarms.iter().map(|alarm| alarm.kind.name()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.iter().for_each(|kind| out.sample("callspan_alarm", &format!("{{kind=\"{kind}\"}}"), 1));
}

fn packets(out: &mut MetricsText, report: &ServiceReport) {
    out.counter("callspan_frames_total", "Captured frames.", report.frames);
    let name = "callspan_frames_dropped_total";
    out.family(name, "counter", "Frames lost on this machine.");
    out.sample(name, "{by=\"kernel\"}", report.dropped_by_kernel);
    out.sample(name, "{by=\"interface\"}", report.dropped_by_interface);
    out.counter("callspan_spool_lost_packets_total", "Packets that the disk did not take.", report.spool_lost);
    out.counter("callspan_sip_messages_total", "SIP messages.", report.sip_messages);
    let name = "callspan_rtp_packets_total";
    out.family(name, "counter", "RTP packets of calls, and of no call when they arrived.");
    out.sample(name, "{call=\"known\"}", report.rtp_packets);
    out.sample(name, "{call=\"none\"}", report.rtp_unclaimed);
    let drops = &report.drops;
    let name = "callspan_left_aside_total";
    out.family(name, "counter", "Calls and packets dropped because a table was full or they could not be read.");
    for (what, count) in [
        ("calls_refused", drops.calls_refused),
        ("calls_evicted", drops.calls_evicted),
        ("rtp_refused", drops.rtp_refused),
        ("rtp_not_kept", drops.rtp_not_kept),
        ("tcp_refused", drops.tcp_refused),
        ("fragments_refused", drops.fragments_refused),
        ("fragments_incomplete", drops.fragments_incomplete),
        ("sip_unreadable", drops.sip_unreadable),
        ("frames_cut", drops.frames_cut),
        ("frames_unreadable", drops.frames_unreadable),
    ] {
        out.sample(name, &format!("{{what=\"{what}\"}}"), count);
    }
}

fn taps(out: &mut MetricsText, taps: &[TapReport]) {
    type TapMetric = (&'static str, &'static str, &'static str, fn(&TapReport) -> u64);
    let families: [TapMetric; 8] = [
        ("callspan_tap_up", "gauge", "1 while the interface is up.", |tap| u64::from(tap.is_up)),
        ("callspan_tap_frames_total", "counter", "Captured frames by interface.", |tap| tap.frames),
        ("callspan_tap_sip_messages_total", "counter", "SIP messages by the interface that showed them first.", |t| {
            t.sip
        }),
        ("callspan_tap_rtp_packets_total", "counter", "RTP packets by interface, copies included.", |tap| tap.rtp),
        ("callspan_tap_packets_to_pbx_total", "counter", "SIP and RTP packets to a PBX by interface.", |tap| {
            tap.flow.map_or(0, |flow| flow.to_pbx.packets)
        }),
        ("callspan_tap_packets_from_pbx_total", "counter", "SIP and RTP packets from a PBX by interface.", |tap| {
            tap.flow.map_or(0, |flow| flow.from_pbx.packets)
        }),
        ("callspan_tap_copies_total", "counter", "Removed copies of packets by interface, without RTP.", |t| t.copies),
        ("callspan_tap_frames_dropped_total", "counter", "Frames lost on this machine by interface.", TapReport::lost),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        for tap in taps {
            let label = tap.name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
            out.sample(name, &format!("{{tap=\"{label}\"}}"), value(tap));
        }
    }
}

fn calls(out: &mut MetricsText, report: &ServiceReport) {
    out.gauge("callspan_calls_live", "Calls under way.", report.calls_live);
    out.counter("callspan_calls_ended_total", "Calls that ended.", report.calls_ended);
    out.gauge("callspan_calls_owed", "Calls that are still to be delivered to Pyrus.", report.owed);
    out.gauge("callspan_extensions_registered", "Extensions that registered.", report.extensions);
}

/// The text of the metrics so far. Metrics are added one after the other, each with its help text and all its values.
#[derive(Debug, Default)]
struct MetricsText(String);

impl MetricsText {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String never fails, so the result is ignored.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}"); // writing to a String never fails
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, "", value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, "", value);
    }
}

const MICROS: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::disk::DiskSpace;
    use crate::ops::tap_flow::TapFlow;
    use crate::time::Timestamp;

    /// Returns facts for which every metric has a value, so that a test sees all metrics.
    fn all_facts(at: Option<Timestamp>) -> MeasuredFacts {
        MeasuredFacts {
            report: ServiceReport {
                frames: 7,
                taps: vec![TapReport {
                    name: "eth\"1".into(),
                    is_up: true,
                    rtp: 9,
                    flow: Some(TapFlow::of_packets(8, 1)),
                    ..TapReport::default()
                }],
                last_sip_at: at,
                last_rtp_at: at,
                ..ServiceReport::default()
            },
            disks: vec![FolderSpace { folder: "spool", space: DiskSpace { free: 1, total: 2, is_read_only: false } }],
            test_call: Some(SelfTestResult { at: Timestamp::from_secs(7), ok: true, detail: String::from("+7495") }),
        }
    }

    #[test]
    fn each_sample_has_a_family_with_help_and_type() {
        let at = Some(Timestamp::from_secs(1_795_424_400));
        let text = text(&all_facts(at));
        assert!(
            text.contains("\ncallspan_frames_total 7\n") && text.contains("callspan_last_sip_time_seconds 1795424400")
        );
        for (name, packets) in [("rtp_packets", 9), ("packets_to_pbx", 8), ("packets_from_pbx", 1)] {
            let sample = format!("callspan_tap_{name}_total{{tap=\"eth\\\"1\"}} {packets}\n");
            assert!(text.contains(&sample), "{sample}: {text}");
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split([' ', '{']).next().unwrap_or_default();
            assert!(text.contains(&format!("# HELP {name} ")) && text.contains(&format!("# TYPE {name} ")), "{line}");
            assert!(line.rsplit(' ').next().is_some_and(|value| value.parse::<f64>().is_ok()), "{line}");
        }
    }

    #[test]
    fn alert_rules_and_dashboard_use_only_metrics_that_exist() {
        let text = text(&all_facts(Some(Timestamp::EPOCH)));
        assert!(!text.contains("+7495"), "the text of an alarm is no metric");
        for file in [
            include_str!("../../deploy/prometheus/callspan.rules.yml"),
            include_str!("../../deploy/grafana/callspan.json"),
        ] {
            let used: Vec<&str> = file
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .filter(|word| word.starts_with("callspan_"))
                .collect();
            assert!(used.len() >= 5, "{used:?}");
            for name in used {
                assert!(text.contains(&format!("# TYPE {name} ")), "there is no metric {name}");
            }
        }
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../deploy/grafana/callspan.json")).unwrap();
        assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() >= 6));
    }
}
