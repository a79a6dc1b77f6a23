//! `callspan status`: shows the state of the service on one page.
//!
//! The command reads the status file of the service, the journal (SQLite) and the state of the disks. It needs neither
//! the console nor the network.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::EXIT_FAILED;
use super::language::CliLanguage;
use super::table::printable;
use super::terminal::paint::Paint;
use crate::call::topology::MachinePair;
use crate::journal::Journal;
use crate::journal::outbox::{Outbox, OutboxCounts};
use crate::ops::config::{Config, LoadedConfig};
use crate::ops::disk::disk_space;
use crate::ops::mirror_report::{DirectionCounts, MirrorDirections, MirrorReport};
use crate::ops::self_test::SelfTestResult;
use crate::ops::service_failure::ServiceFailure;
use crate::ops::status::{RefusedReload, ServiceReport};
use crate::ops::tap_flow::TapFlow;
use crate::ops::taps::TapReport;
use crate::ops::{output, totals};
use crate::service::clock::wall_clock;
use crate::service::topology_file;
use crate::text::count;
use crate::time::Timestamp;

/// Arguments of `callspan status`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct StatusArgs {
    /// Configuration file with the folders of the service.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/callspan/callspan.toml")]
    pub(crate) config: PathBuf,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The status of the service, as `callspan status --json` prints it.
#[derive(Debug, Serialize)]
struct StatusView {
    /// Whether the service is running, i.e. wrote its status file in the last half minute and has not failed since.
    running: bool,
    /// The failure because of which the service does not run; `None` if it runs or was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<ServiceFailure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<ServiceReport>,
    /// Totals of the calls of the last 24 hours, as one line of text.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_day: Option<String>,
    /// Reason why no call can be delivered; `None` if calls can be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_alarm: Option<String>,
    disks: Vec<DiskView>,
    /// Pairs of IP addresses that belong to one machine, e.g. one PBX, as the recorder learnt from calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    machines: Vec<MachinePair>,
    /// Numbers of messages for webhooks, mail and Telegram that are still to be sent or were given up; `None` without
    /// such receivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    outbox: Option<OutboxCounts>,
    /// Result of the last test call that was made with `--alarm`; `None` if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    test_call: Option<SelfTestResult>,
}

/// Free space on the disk of one folder of the service.
#[derive(Debug, Serialize)]
struct DiskView {
    folder: &'static str,
    path: PathBuf,
    free_bytes: u64,
    total_bytes: u64,
    /// Number of days until the disk of the recordings is full, if recordings grow as in the last week. `None` for
    /// other disks, and if there are no recordings.
    #[serde(skip_serializing_if = "Option::is_none")]
    days_left: Option<u64>,
}

/// Runs `callspan status`.
///
/// # Errors
/// Fails if the configuration cannot be read.
pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    // The status is shown even if the configuration file has a mistake. The status may say that the service refused to
    // reload this file.
    let LoadedConfig { config, warnings } = Config::load_despite_mistakes(&args.config)?;
    super::print_warnings(&args.config, &warnings);
    let now = wall_clock();
    let view = look(&config, now);
    let text =
        if args.json { serde_json::to_string(&view)? + "\n" } else { Paint::of_stdout().findings(&text(&view, now)) };
    output::result(&text)?;
    Ok(if view.running { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn look(config: &Config, now: Timestamp) -> StatusView {
    let service = ServiceReport::read(&config.journal.dir).ok();
    let journal = Journal::open_read_only(&config.journal).ok();
    let pace = journal.as_ref().and_then(|journal| journal.recorded_bytes_a_day(now).ok().flatten());
    let disk = |folder, path: &Path, pace: Option<u64>| {
        let space = disk_space(path).ok()?;
        let days_left = pace.filter(|bytes| *bytes > 0).map(|bytes| space.free / bytes);
        let (free_bytes, total_bytes) = (space.free, space.total);
        Some(DiskView { folder, path: path.to_owned(), free_bytes, total_bytes, days_left })
    };
    let disks = [
        disk("recording", &config.recording.dir, pace),
        disk("spool", &config.spool.dir, None),
        disk("state", &config.journal.dir, None),
    ];
    let failure = ServiceFailure::read_after(&config.journal.dir, service.as_ref());
    StatusView {
        running: failure.is_none() && service.as_ref().is_some_and(|report| report.is_alive(now)),
        failure,
        service,
        last_day: journal.as_ref().and_then(|j| j.totals(now - DAY, now).ok()).map(|t| totals::sentence(&t)),
        delivery_alarm: journal.as_ref().and_then(|j| j.alarm().ok()).flatten(),
        disks: disks.into_iter().flatten().collect(),
        machines: topology_file::load(&config.journal.dir),
        outbox: outbox(config),
        test_call: SelfTestResult::read(&config.journal.dir),
    }
}

/// Counts the messages in the outbox, i.e. those stored on disk until they are sent. Returns `None` if there is no
/// outbox, because no webhook, mail or Telegram is configured.
fn outbox(config: &Config) -> Option<OutboxCounts> {
    let counts = Outbox::open_existing(&config.journal.dir)?.counts().ok()?;
    (counts.owed + counts.dead > 0).then_some(counts)
}

fn text(view: &StatusView, now: Timestamp) -> String {
    let language = CliLanguage::current();
    let mut text = String::new();
    match &view.service {
        Some(report) => service(&mut text, report, view.running, now),
        None if view.failure.is_some() => text.push_str("service    not running\n"),
        None => text.push_str("service    not running, and it has never run with this configuration\n"),
    }
    // Writing to a String never fails, so the result is ignored.
    if let Some(failure) = &view.failure {
        let detail = printable(&language.alarm(&failure.detail));
        let _ = writeln!(text, "FAILED     {} ago, at its start or later: {detail}", ago(now, failure.at));
    }
    if let Some(line) = &view.last_day {
        let _ = writeln!(text, "last day   {line}");
    }
    if let Some(alarm) = &view.delivery_alarm {
        let _ = writeln!(text, "delivery   nothing can be delivered: {}", printable(&language.delivery(alarm)));
    }
    for pair in &view.machines {
        let seen = format!("seen {} times, contradicted {} times", pair.seen, pair.against);
        let _ = writeln!(text, "learnt     {} and {} are one machine ({seen})", pair.a, pair.b);
    }
    if let Some(OutboxCounts { owed, dead, last_error }) = &view.outbox {
        let why = last_error.as_deref().map(|error| format!(" ({}): callspan alerts retry", printable(error)));
        let _ = writeln!(text, "messages   {owed} wait to be sent, {dead} were refused{}", why.unwrap_or_default());
    }
    if let Some(test) = &view.test_call {
        let word = if test.ok { "ok" } else { "LOST" };
        let _ =
            writeln!(text, "test call  {word} {} ago: {}", ago(now, test.at), printable(&language.alarm(&test.detail)));
    }
    for disk in &view.disks {
        let left = disk.days_left.map(|days| match days {
            MANY_DAYS.. => String::from(", more than a year left at the pace of the last week"),
            _ => format!(", {days} days left at the pace of the last week"),
        });
        let percent = u128::from(disk.free_bytes) * 100 / u128::from(disk.total_bytes.max(1));
        let _ = writeln!(
            text,
            "disk       {}: {} GiB free ({percent} %){} in {}",
            disk.folder,
            disk.free_bytes >> 30,
            left.unwrap_or_default(),
            printable(&disk.path.display().to_string())
        );
    }
    text
}

fn service(text: &mut String, report: &ServiceReport, is_running: bool, now: Timestamp) {
    let state = match (is_running, report.is_capturing) {
        (false, _) if report.stopped_at.is_some() => {
            format!("not running (stopped {} ago)", ago(now, report.stopped_at.unwrap_or(report.at)))
        }
        (false, _) => format!("not running (last sign of life {} ago)", ago(now, report.at)),
        (true, true) => format!("running for {}, capturing on {}", ago(now, report.started_at), report.source),
        (true, false) => format!("running for {}, waiting for {}", ago(now, report.started_at), report.source),
    };
    let last =
        |at: Option<Timestamp>| at.map_or_else(|| String::from("none yet"), |at| format!("{} ago", ago(now, at)));
    let _ = writeln!(text, "service    {}, version {}", printable(&state), report.version);
    let _ = writeln!(
        text,
        "mirror     {} frames; last SIP {}, last RTP of a call {}; {} RTP packets of no call",
        report.frames,
        last(report.last_sip_at),
        last(report.last_rtp_at),
        report.rtp_unclaimed
    );
    let _ = writeln!(
        text,
        "lost       {} by the kernel, {} by the interface, {} by the disk; dropped or unreadable: {}",
        report.dropped_by_kernel, report.dropped_by_interface, report.spool_lost, report.drops
    );
    for tap in &report.taps {
        let _ = writeln!(text, "{}", tap_line(tap));
    }
    mirror(text, &report.mirror);
    let _ = writeln!(text, "calls      {} under way, {} ended since the start", report.calls_live, report.calls_ended);
    if let Some(RefusedReload { at, reason }) = &report.refused_reload {
        let _ = writeln!(
            text,
            "REFUSED    reload {} ago, the old settings are in use: {}",
            ago(now, *at),
            printable(reason)
        );
    }
    let login = if report.has_login_answer == Some(false) { "; the login has no answer yet" } else { "" };
    let _ = writeln!(text, "to send    {} to Pyrus{login}", count(report.owed, "call"));
    let hosts = if report.pbx_hosts.is_empty() { String::from("none yet") } else { report.pbx_hosts.join(", ") };
    let _ = writeln!(text, "learnt     PBX: {}; {} extensions registered", printable(&hosts), report.extensions);
    for alarm in &report.alarms {
        let call = alarm.call.as_deref().map(|id| format!(" (call {id})")).unwrap_or_default();
        let since = ago(now, alarm.at);
        let _ = writeln!(
            text,
            "ALARM      {} for {since}{call}: {}",
            alarm.kind.name(),
            printable(&CliLanguage::current().alarm(&alarm.detail))
        );
    }
    if report.alarms.is_empty() {
        text.push_str("alarms     none\n");
    }
}

/// Writes the directions that the mirror port shows, the repeated packets and the tunnels.
fn mirror(text: &mut String, report: &MirrorReport) {
    if let Some(MirrorDirections { sip, rtp }) = report.directions {
        let _ = writeln!(text, "directions SIP {}, RTP {}", directions(sip), directions(rtp));
    }
    let tunnels: Vec<String> = report.tunnels.iter().map(|(name, packets)| format!("{name} ({packets})")).collect();
    let tunnels = if tunnels.is_empty() { String::from("none") } else { tunnels.join(", ") };
    let _ = writeln!(text, "repeated   {} packets; tunnels and tags: {tunnels}", report.copies);
}

/// Formats the directions of one protocol, e.g. `both (12 pairs of hosts)`.
fn directions(counts: DirectionCounts) -> String {
    match counts {
        DirectionCounts { pairs: 0, .. } => String::from("not enough packets to judge"),
        DirectionCounts { pairs, one_way: 0 } => format!("both ({pairs} pairs of hosts)"),
        DirectionCounts { pairs, one_way } => format!("ONE only for {one_way} of {pairs} pairs of hosts"),
    }
}

/// Formats the counters of a tap (capture interface) as a line of text.
fn tap_line(tap: &TapReport) -> String {
    let state = if tap.is_up { "" } else { " DOWN," };
    format!(
        "tap        {}:{state} {} frames, {} SIP, {} RTP, {} copies, {} lost{}",
        printable(&tap.name),
        tap.frames,
        tap.sip,
        tap.rtp,
        tap.copies,
        tap.lost(),
        tap.flow.map(flow_text).unwrap_or_default()
    )
}

/// Returns the rates at a tap (capture interface) as a text: all frames a second, and the packets a second to and from
/// the PBX.
fn flow_text(flow: TapFlow) -> String {
    let TapFlow { frames_per_s, to_pbx, from_pbx } = flow;
    format!("; {frames_per_s} frames/s, {}/s to the PBX, {}/s from the PBX", to_pbx.per_s, from_pbx.per_s)
}

/// Formats the time since `at` in the largest suitable unit, e.g. `3 h`.
fn ago(now: Timestamp, at: Timestamp) -> String {
    let seconds = now.since(at).as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// If a disk will be full only after this number of days (a year) or more, the number is not shown.
const MANY_DAYS: u64 = 366;
const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

const HELP: &str = "\
Exit status: 0 the service runs; 1 it does not.

Examples:
  callspan status
  callspan status --json | jq '.service.alarms[].kind'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_shows_a_running_and_a_stopped_service() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.journal.dir = dir.path().to_owned();
        let now = Timestamp::from_secs(1_795_424_400);
        assert!(text(&look(&config, now), now).starts_with("service    not running, and it has never run"));
        let report = ServiceReport {
            at: now,
            started_at: now - DAY,
            source: String::from("eth1"),
            is_capturing: true,
            calls_live: 3,
            last_sip_at: Some(now - std::time::Duration::from_secs(7)),
            mirror: MirrorReport {
                directions: Some(MirrorDirections {
                    sip: DirectionCounts { pairs: 12, one_way: 0 },
                    rtp: DirectionCounts { pairs: 9, one_way: 4 },
                }),
                copies: 17,
                tunnels: [(String::from("ERSPAN type II"), 120)].into(),
            },
            ..ServiceReport::default()
        };
        let (path, contents) = report.file(dir.path()).unwrap();
        std::fs::write(path, contents).unwrap();
        let said = text(&look(&config, now), now);
        assert!(said.starts_with("service    running for 24 h, capturing on eth1"), "{said}");
        assert!(said.contains("last SIP 7 s ago") && said.contains("3 under way"), "{said}");
        let directions = "SIP both (12 pairs of hosts), RTP ONE only for 4 of 9 pairs of hosts\n";
        assert!(
            said.contains(directions) && said.contains("17 packets; tunnels and tags: ERSPAN type II (120)\n"),
            "{said}"
        );
        let pair = r#"{"fact":"one_machine","a":"10.1.0.1","b":"198.51.100.10","by":"same_moments","seen":14,"against":0,
            "first_at":"2026-11-23T07:00:00.000000Z","last_at":"2026-11-24T07:00:00.000000Z"}"#;
        std::fs::write(dir.path().join("topology.json"), pair.replace('\n', " ")).unwrap();
        let test = SelfTestResult { at: now - DAY, ok: false, detail: String::from("the mirror is one-way") };
        test.write(dir.path()).unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        outbox.add("webhook", "a", "{}", now).unwrap();
        outbox.note_failure(1, None, "the receiver answers HTTP 410").unwrap();
        let view = look(&config, now);
        let said = text(&view, now);
        assert!(said.contains("0 wait to be sent, 1 were refused (the receiver answers HTTP 410)"), "{said}");
        assert!(said.contains("10.1.0.1 and 198.51.100.10 are one machine (seen 14 times"), "{said}");
        assert!(said.contains("test call  LOST 24 h ago: the mirror is one-way"), "{said}");
        assert_eq!(serde_json::to_value(&view).unwrap()["machines"][0]["a"], "10.1.0.1");
        let later = now + DAY;
        assert!(text(&look(&config, later), later).contains("not running (last sign of life 24 h ago)"));
    }
}
