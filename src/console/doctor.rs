//! Runs the doctor from the health page: the command `callspan doctor` watches each mirror port for half a minute and
//! reports its findings.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::access::{self, Viewer};
use super::accounts::AuditAction;
use super::control::refused;
use super::pages::{self, NavEntry};
use super::server::ConsoleState;
use super::text::Lang;
use crate::ops::doctor::russian::FINDINGS;
use crate::service::sandbox;

/// The parts of `callspan doctor`'s report about one port that the page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct DoctorAnswer {
    findings: Vec<AnsweredFinding>,
}

/// A finding, as `callspan doctor --json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct AnsweredFinding {
    severity: String,
    what: String,
    remedy: String,
    commands: Vec<String>,
}

/// Runs the command `callspan doctor` for [`SECONDS`] for each mirror port of the recorder, at most [`MAX_PORTS`].
/// Responds with a page of its findings.
pub(super) async fn examine(State(state): State<ConsoleState>, Extension(viewer): Extension<Viewer>) -> Response {
    if !viewer.user.is_admin() {
        return access::missing(Some(&viewer), false);
    }
    let Ok(_place) = state.doctor.try_acquire() else {
        return refused(StatusCode::CONFLICT, "the doctor is at work: wait half a minute");
    };
    if let Err(error) = state.record(&viewer, AuditAction::Changed, None, "doctor").await {
        return access::failed(&error);
    }
    let ports = state.site.interfaces.clone();
    let Ok(program) = std::env::current_exe() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "the program does not know its own path");
    };
    let done = tokio::task::spawn_blocking(move || ask(&program, &ports)).await;
    page(&viewer, &done.unwrap_or_default()).into_response()
}

/// Runs one command `callspan doctor` for each port, all at the same time. Returns each port with its report, or with
/// the reason why the command failed.
fn ask(program: &Path, ports: &[String]) -> Vec<(String, Result<DoctorAnswer, String>)> {
    let ports: Vec<&String> = ports.iter().take(MAX_PORTS).collect();
    let start = |port: &&String| {
        let mut command = Command::new(PathBuf::from(program));
        command.args(["doctor", "--json", "--seconds", SECONDS, "--interface", port.as_str()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        sandbox::with_packet_sockets(|| command.spawn())
    };
    let children: Vec<_> = ports.iter().map(start).collect(); // all doctors are started before the first is waited for
    let answer = |(port, child): (&String, std::io::Result<std::process::Child>)| {
        let output = child.and_then(std::process::Child::wait_with_output).map_err(|error| error.to_string());
        let answer = output.and_then(|output| {
            let said = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
            serde_json::from_slice(&output.stdout).map_err(|_| said)
        });
        (port.clone(), answer)
    };
    ports.into_iter().zip(children).map(answer).collect()
}

fn page(viewer: &Viewer, answers: &[(String, Result<DoctorAnswer, String>)]) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let body = html! {
        p { a href="/health" { "← " (t("Health", "Состояние")) } }
        h1 { (t("What the doctor saw in half a minute", "Что увидел доктор за полминуты")) }
        @if answers.is_empty() { div.note { (pages::mark("info")) p { (t("No port is captured here.", "Здесь ни один порт не захватывается.")) } } }
        @for (port, answer) in answers {
            section.card.stack { h2 { (t("Port", "Порт")) " " (port) }
                @match answer {
                    Ok(answer) => { (findings(viewer.lang, &answer.findings)) }
                    Err(why) => { div.note.bad { (pages::mark("bad")) p { (t("The doctor could not look: ", "Доктор не смог посмотреть: ")) span lang="en" { (why) } } } }
                }
            }
        }
    };
    pages::shell(viewer, t("Doctor", "Доктор"), NavEntry::Health, &[], &body)
}

fn findings(lang: Lang, findings: &[AnsweredFinding]) -> Markup {
    html! {
        @if findings.is_empty() { p.v.ok { (pages::mark("ok")) (lang.of_two("Nothing is wrong.", "Всё в порядке.")) } }
        ol.list { @for finding in findings { li {
            @let (mark, colour) = match finding.severity.as_str() { "problem" => ("bad", "bad"), "warning" => ("warn", "warn"), _ => ("info", "") };
            div class={ "note " (colour) } { (pages::mark(mark)) div.stack {
                p { b { (lang.translated(&FINDINGS, &finding.what)) } }
                @if !finding.remedy.is_empty() { p { (lang.translated(&FINDINGS, &finding.remedy)) } }
                @for command in &finding.commands { div.cmd { code { (command) } button.plain type="button" data-copy { (lang.of_two("Copy", "Копировать")) } } }
            } }
        } } }
    }
}

/// Time for which the command `callspan doctor` watches a port, seconds.
const SECONDS: &str = "30";
/// Maximum number of mirror ports that the command `callspan doctor` watches for the page.
const MAX_PORTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_of_each_port_are_read_and_a_failure_has_its_reason() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let program = dir.path().join("doctor.sh");
        let script = r#"#!/bin/sh
[ "$1 $2 $3 $4 $5" = "doctor --json --seconds 30 --interface" ] || exit 2
[ "$6" = eth1 ] || { echo "no such interface" >&2; exit 1; }
echo '{"healthy": false, "findings": [{"severity": "problem", "kind": "x", "what": "one direction", "remedy": "mirror both", "commands": ["monitor"]}], "counts": {}}'
"#;
        std::fs::write(&program, script).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("set");
        // A child process of another test may have the script open for writing for a moment. Then starting the script
        // fails with ETXTBSY, so it is tried again.
        let answers = loop {
            let answers = ask(&program, &[String::from("eth1"), String::from("eth2")]);
            if !format!("{answers:?}").contains("Text file busy") {
                break answers;
            }
        };
        let found = answers[0].1.as_ref().expect("an answer");
        assert_eq!(
            (found.findings[0].what.as_str(), found.findings[0].commands[0].as_str()),
            ("one direction", "monitor")
        );
        assert_eq!(answers[1].1, Err(String::from("no such interface")));
    }
}
