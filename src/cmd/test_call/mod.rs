//! `callspan test-call`: proves that a call through the mirrored port is recorded, or names the step at which the call
//! is lost.
//!
//! The command sends the packets of a made-up call through a network card. The packets are SIP messages of both sides,
//! and RTP with a tone for each side. Then the command looks for the call in the journal of the running service. The
//! recorder recognizes a test call by a SIP header ([`crate::call::test_call`]), and registers such a call in Pyrus
//! only with `--deliver`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use self::numbers::TestCallNumbers;
use self::script::ScriptFacts;
use self::trace::{CallTrace, SentCall, StepResult, TestStep};
use self::wire::SendingCards;
use super::EXIT_FAILED;
use super::table::printable;
use crate::call::test_call::{TestCallKey, TestCallOrder};
use crate::cmd::language::CliLanguage;
use crate::ops::alarm_cause::AlarmCause;
use crate::ops::alerts::{AlarmKind, Alerts};
use crate::ops::config::{Config, ConfigPurpose};
use crate::ops::output;
use crate::ops::self_test::SelfTestResult;
use crate::ops::service_failure::ServiceFailure;
use crate::ops::status::ServiceReport;
use crate::service::clock::wall_clock;
use crate::service::test_key;

mod delivery_step;
mod numbers;
mod script;
mod tones;
mod trace;
mod wire;

/// Arguments of `callspan test-call`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct TestCallArgs {
    /// Configuration file of the running service.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/callspan/callspan.toml")]
    config: PathBuf,
    /// Network card that sends the packets; its switch port must be mirrored.
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// Second card that sends the callee's half. With two cards the call crosses the mirrored port in both directions.
    #[arg(long, value_name = "NAME")]
    answer_interface: Option<String>,
    /// Number of the caller [default: 198; with --deliver a number outside, +74950000000].
    #[arg(long, value_name = "N", value_parser = number)]
    from: Option<String>,
    /// Number of the callee [default: 199]. If only outbound calls are registered, --deliver exchanges both defaults.
    #[arg(long, value_name = "N", value_parser = number)]
    to: Option<String>,
    /// Length of the call in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=60))]
    seconds: u64,
    /// Maximum time to wait for the recording, then for the login at Pyrus, and then for the task, each in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    wait: u64,
    /// Let the recorder register the call in Pyrus like any other call. The caller is then outside, because internal
    /// calls are not registered by default.
    #[arg(long)]
    deliver: bool,
    /// Raise an alarm if the call is lost, and another alarm when a later test call is recorded correctly again. Use this
    /// in timers.
    #[arg(long)]
    alarm: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

impl TestCallArgs {
    /// Returns how the recorder is asked to treat the call: record only, or also deliver to Pyrus.
    const fn order(&self) -> TestCallOrder {
        if self.deliver { TestCallOrder::Deliver } else { TestCallOrder::RecordOnly }
    }
}

/// The result of a test call, as `--json` prints it.
#[derive(Debug, Serialize)]
struct TestCallView {
    ok: bool,
    /// First step that failed; `None` if all steps succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_at: Option<TestStep>,
    /// Id of the call in the journal; `None` if the journal does not have the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    steps: Vec<StepResult>,
}

/// Runs `callspan test-call`.
///
/// # Errors
/// Fails if the configuration is wrong.
pub(crate) fn run(args: &TestCallArgs) -> anyhow::Result<ExitCode> {
    let config = super::load_config(Some(&args.config), ConfigPurpose::Inspect)?;
    if config.capture.interfaces.contains(&args.interface) {
        output::note(&format!(
            "callspan: {} is the card that the recorder listens at: the call does not prove that the mirror works",
            args.interface
        ));
    }
    let view = call(args, &config);
    if args.alarm {
        report(&view, &config)?;
    }
    output::result(&if args.json { serde_json::to_string(&view)? + "\n" } else { text(&view) })?;
    Ok(if view.ok { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

/// Sends the call, and then checks its way through the recorder up to the first step that fails.
fn call(args: &TestCallArgs, config: &Config) -> TestCallView {
    let mut steps = Vec::new();
    let id = match prepare(config) {
        Ok((before, key)) => {
            steps.push(passed(TestStep::Recorder, format!("running, capturing on {}", before.source)));
            let numbers = TestCallNumbers::choose(args.from.as_deref(), args.to.as_deref(), args.order(), config);
            match send(args, &numbers, config, before, &key) {
                Ok(sent) => {
                    let TestCallNumbers { from, to } = &numbers;
                    let detail = format!("{} seconds from {from} to {to} through {}", args.seconds, args.interface);
                    steps.push(passed(TestStep::Send, detail));
                    let patience = Duration::from_secs(args.wait);
                    CallTrace { config, sent: &sent, patience, deliver: args.deliver }.follow(&mut steps)
                }
                Err(error) => {
                    steps.push(StepResult { step: TestStep::Send, ok: false, detail: format!("{error:#}") });
                    None
                }
            }
        }
        Err(detail) => {
            steps.push(StepResult { step: TestStep::Recorder, ok: false, detail });
            None
        }
    };
    let lost_at = steps.iter().find(|result| !result.ok).map(|result| result.step);
    TestCallView { ok: lost_at.is_none(), lost_at, call: id, steps }
}

fn passed(step: TestStep, detail: String) -> StepResult {
    StepResult { step, ok: true, detail }
}

/// Checks that the service runs and captures. Returns its status report and the key for test calls. The error is the
/// reason as text.
fn prepare(config: &Config) -> Result<(ServiceReport, TestCallKey), String> {
    let state = &config.journal.dir;
    let report = ServiceReport::read(state);
    check_failure(state, report.as_ref().ok())?;
    let report = report.map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            format!("{} cannot be read: run the command with sudo", state.display())
        }
        _ => String::from("the recorder has never run with this configuration: sudo systemctl start callspan"),
    })?;
    if !report.is_alive(wall_clock()) {
        return Err(String::from("the recorder is stopped: sudo systemctl start callspan"));
    }
    if !report.is_capturing {
        return Err(format!("the recorder waits for its interface {}: check the cable, `ip link`", report.source));
    }
    let key = test_key::load(state).map_err(|error| format!("the key of the test calls cannot be read: {error}"))?;
    Ok((newer_report(state)?, key))
}

/// Fails with the reason if the service has failed since its last report.
fn check_failure(state: &Path, report: Option<&ServiceReport>) -> Result<(), String> {
    match ServiceFailure::read_after(state, report) {
        Some(failure) => Err(format!("the recorder ended, or it cannot start: {}", failure.detail)),
        None => Ok(()),
    }
}

/// Waits for the next status report of the service. Its counters include every frame from before the call. So a
/// comparison with a later report counts only frames of the call. Fails if no report comes within [`REPORT_PATIENCE`].
#[expect(clippy::disallowed_methods, reason = "another process writes the report")]
fn newer_report(state: &Path) -> Result<ServiceReport, String> {
    let asked_at = wall_clock();
    // The monotonic clock is used, because setting the wall clock could make the wait endless.
    let started = std::time::Instant::now();
    loop {
        std::thread::sleep(REPORT_POLL);
        let report = ServiceReport::read(state).map_err(|error| format!("the report cannot be read: {error}"))?;
        check_failure(state, Some(&report))?;
        if !report.is_alive(wall_clock()) || started.elapsed() > REPORT_PATIENCE {
            return Err(String::from("the recorder gave no sign of life: look at `systemctl status callspan`"));
        }
        if report.at >= asked_at {
            return Ok(report);
        }
    }
}

/// Maximum time to wait until webhook, mail and Telegram accept an alarm.
const SEND_PATIENCE: Duration = Duration::from_secs(15);
const REPORT_POLL: Duration = Duration::from_millis(100);
/// Maximum time to wait for the next status report. After 30 s without a report, a service counts as stopped.
const REPORT_PATIENCE: Duration = Duration::from_secs(35);

fn send(
    args: &TestCallArgs,
    numbers: &TestCallNumbers,
    config: &Config,
    before: ServiceReport,
    key: &TestCallKey,
) -> anyhow::Result<SentCall> {
    let mut cards = SendingCards::open(&args.interface, args.answer_interface.as_deref())?;
    let talk = Duration::from_secs(args.seconds);
    let call_id = format!("{:032x}@callspan-test", fastrand::u128(..));
    let facts = ScriptFacts {
        numbers: [&numbers.from, &numbers.to],
        sip_port: config.call.sip_ports.first().copied().unwrap_or(SIP_PORT),
        talk,
        call_id: &call_id,
        proof: &key.header_value(args.order(), &call_id),
    };
    let (packets, at) = (script::packets(&facts), wall_clock());
    let rtp = u64::from(script::rtp_count(talk));
    cards.send(&packets)?;
    Ok(SentCall { call_id, at, rtp, talk, before })
}

/// Stores the result of the test call in the state folder. The running service reads it there and raises the alarm. If
/// no service runs and the call was lost, raises the alarm here.
fn report(view: &TestCallView, config: &Config) -> anyhow::Result<()> {
    let state = &config.journal.dir;
    let failed = view.steps.iter().find(|step| !step.ok);
    let detail = failed.map_or_else(
        || String::from("the test call was recorded correctly"),
        |step| format!("the test call was lost at the step {}: {}", step.step.name(), step.detail),
    );
    let is_served = ServiceReport::read(state).is_ok_and(|report| report.is_alive(wall_clock()));
    SelfTestResult { at: wall_clock(), ok: view.ok, detail: detail.clone() }.write(state)?;
    if !is_served && !view.ok {
        let (alerts, runner) = Alerts::start_with_history(&config.alerts, state)?;
        let sending = alerts.start_sending()?;
        alerts.raise(&AlarmCause::Described(AlarmKind::TestCallFailed, &detail));
        drop(alerts);
        runner.join();
        if let Some(sending) = sending {
            sending.stop_within(SEND_PATIENCE); // the next start of the service sends the rest
        }
    }
    Ok(())
}

fn text(view: &TestCallView) -> String {
    let language = CliLanguage::current();
    let mut text = String::new();
    for step in &view.steps {
        let mark = if step.ok { "ok  " } else { "LOST" };
        text.push_str(&format!("{mark} {:<9} {}\n", step.step.name(), printable(&language.alarm(&step.detail))));
    }
    if view.ok {
        text.push_str(match language {
            CliLanguage::En => "The test call was recorded correctly.\n",
            CliLanguage::Ru => "Проверочный звонок записан верно.\n",
        });
    }
    text
}

/// Parses a phone number from the command line. The error is a text for the user.
fn number(text: &str) -> Result<String, String> {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "+*#.-_".contains(c));
    match (1..=32).contains(&text.len()) && is_plain {
        true => Ok(text.to_owned()),
        false => Err(String::from("write digits, at most 32, e.g. 199 or +74950000000")),
    }
}

/// Default UDP port of SIP (RFC 3261 section 19.1.2).
const SIP_PORT: u16 = 5060;

const HELP: &str = "\
The packets go to addresses that no host has (192.0.2.11 and 192.0.2.12), so no telephone rings.
Sending needs CAP_NET_RAW. The steps are recorder, send, mirror, media, recording, sound, delivery.
With one card, all packets enter the switch at one port. So this test does not notice a mirror that
shows only one direction of a port; --answer-interface does.

Exit status: 0 the call was recorded correctly; 1 it was lost, and the step says where.

Examples:
  sudo callspan test-call --interface eth0
  sudo callspan test-call --interface eth0 --answer-interface eth2
  sudo callspan test-call --interface eth0 --deliver             # makes a task in Pyrus
  sudo systemctl enable --now callspan-test-call@eth0.timer      # every night, with an alarm";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{SipFraming, SipMessage};

    #[test]
    fn the_script_is_a_complete_call_with_all_packets_in_their_order() {
        let key = TestCallKey::new([3; 32]);
        let proof = key.header_value(TestCallOrder::RecordOnly, "id-1");
        let talk = Duration::from_secs(3);
        let facts =
            ScriptFacts { numbers: ["198", "+74950000000"], sip_port: 5060, talk, call_id: "id-1", proof: &proof };
        let packets = script::packets(&facts);
        let sip: Vec<SipMessage<'_>> =
            packets.iter().filter_map(|p| SipMessage::parse(&p.payload, SipFraming::Datagram).ok()).collect();
        let kinds: Vec<String> = sip
            .iter()
            .map(|m| m.status().map_or_else(|| format!("{:?}", m.method()), |status| status.to_string()))
            .collect();
        assert_eq!(kinds.len(), 7, "{kinds:?}");
        assert_eq!([&kinds[1], &kinds[2], &kinds[3], &kinds[6]], ["100", "180", "200", "200"]);
        assert_eq!(key.order_in(&sip[0]), Some(TestCallOrder::RecordOnly));
        assert!(sip.iter().all(|message| message.call_id() == "id-1"));
        assert_eq!(sip[0].to().and_then(|to| to.uri.user), Some(String::from("+74950000000")));
        assert!(sip[0].sdp().is_some() && sip[3].sdp().is_some() && sip[2].sdp().is_none());
        let rtp = packets.len() - sip.len();
        assert_eq!(rtp, 2 * script::rtp_count(talk) as usize, "144 packets in 2.92 s: {}", script::rtp_count(talk));
        assert!(packets.is_sorted_by_key(|packet| packet.at));
    }

    #[test]
    fn numbers_cannot_break_a_header() {
        assert!(number("199").is_ok() && number("+7495").is_ok());
        for wrong in ["", "1>", "1 2", "1\r\nX: y", "123456789012345678901234567890123"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
    }
}
