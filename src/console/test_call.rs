//! Makes a test call from the health page, by the command `callspan test-call`. The command sends the packets of a call
//! through a network card of this machine. Then it checks step by step whether the call was captured and recorded.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form};
use maud::{Markup, html};
use serde::Deserialize;

use super::access::{self, Viewer};
use super::accounts::AuditAction;
use super::control::refused;
use super::pages::{self, NavEntry};
use super::server::ConsoleState;
use super::text::date_time;
use crate::ops::alarm_ru::ALARMS;
use crate::ops::self_test::SelfTestResult;
use crate::service::sandbox;

/// Fields of the form for a test call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TestCallForm {
    /// Name of the network card that sends the test call.
    interface: String,
}

/// The result of a test call, as `callspan test-call --json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct TestCallAnswer {
    ok: bool,
    /// Id of the test call; `None` if the call did not reach the journal (database of calls).
    call: Option<String>,
    steps: Vec<AnsweredStep>,
}

/// A step of a test call, e.g. the capture of its packets, as the command prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct AnsweredStep {
    step: String,
    ok: bool,
    detail: String,
}

/// Makes a test call, and responds with a page of its steps.
pub(super) async fn make(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Form(form): Form<TestCallForm>,
) -> Response {
    if !viewer.user.is_admin() {
        return access::missing(Some(&viewer), false);
    }
    if !cards().contains(&form.interface) {
        return refused(StatusCode::UNPROCESSABLE_ENTITY, "this machine has no such network card");
    }
    let (Some(config), Ok(program)) = (state.site.config_file.clone(), std::env::current_exe()) else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "the program does not know its own path or configuration");
    };
    let Ok(_place) = state.doctor.try_acquire() else {
        return refused(StatusCode::CONFLICT, "the doctor or another test call is at work: wait half a minute");
    };
    if let Err(error) = state.record(&viewer, AuditAction::Changed, None, "test call").await {
        return access::failed(&error);
    }
    let card = form.interface.clone();
    let done = tokio::task::spawn_blocking(move || call(&program, &config, &card)).await;
    let answer = done.unwrap_or_else(|_| Err(String::from("a thread of the console panicked")));
    let is_own = state.site.interfaces.contains(&form.interface);
    page(&viewer, TestedCard { name: &form.interface, is_own }, &answer).into_response()
}

/// Runs the command `callspan test-call`. If the command fails, returns the end of its output as an error.
fn call(program: &Path, config: &Path, card: &str) -> Result<TestCallAnswer, String> {
    let mut command = Command::new(PathBuf::from(program));
    command.args(["test-call", "--json", "--interface", card, "--config"]).arg(config);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = sandbox::with_packet_sockets(|| command.spawn());
    let output = child.and_then(std::process::Child::wait_with_output).map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
    serde_json::from_slice(&output.stdout).map_err(|_| said)
}

/// Returns the part of the health page about test calls: the last result, and the form.
pub(super) fn section(state: &ConsoleState, viewer: &Viewer, last: Option<&SelfTestResult>) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let cards = cards();
    let best = cards.iter().find(|card| !state.site.interfaces.contains(card));
    html! {
        section.card.stack { h2 { (t("Test call", "Проверочный звонок")) }
            @match last {
                Some(last) => {
                    @let (mark, colour) = if last.ok { ("ok", "ok") } else { ("bad", "bad") };
                    p { span class={ "v " (colour) } { (pages::mark(mark)) span { (date_time(last.at)) ": " (viewer.lang.translated(&ALARMS, &last.detail)) } } }
                }
                None => p.muted { (t("No nightly test call has been made yet.", "Ночного проверочного звонка ещё не было.")) }
            }
            @if state.site.config_file.is_some() && !cards.is_empty() {
                form.row method="post" action="/health/test-call" { (pages::csrf(viewer))
                    label.vh for="tc" { (t("Network card that sends", "Сетевая карта, которая отправляет")) }
                    select id="tc" name="interface" { @for card in &cards { option value=(card) selected[Some(card) == best] { (card) } } }
                    button { (t("Make a test call", "Сделать проверочный звонок")) } }
                p.small.muted { (t("Sends a made-up call of 5 s through this card. Its switch port must be mirrored.",
                    "Отправляет выдуманный звонок в 5 с через эту карту. Её порт коммутатора должен быть в зеркале.")) }
            }
        }
    }
}

/// The network card through which a test call was sent.
#[derive(Clone, Copy)]
struct TestedCard<'a> {
    name: &'a str,
    /// Whether the recorder captures the traffic of this card.
    is_own: bool,
}

/// Returns the page with the result of a test call.
fn page(viewer: &Viewer, card: TestedCard<'_>, answer: &Result<TestCallAnswer, String>) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let is_ok = answer.as_ref().is_ok_and(|answer| answer.ok);
    let (mark, title) = match is_ok {
        true => ("ok", t("The test call was recorded correctly.", "Проверочный звонок записан верно.")),
        false => ("bad", t("The test call was lost.", "Проверочный звонок потерян.")),
    };
    let body = html! {
        p { a href="/health" { "← " (t("Health", "Состояние")) } }
        h1.answer { (pages::marked(mark, mark)) " " (title) }
        section.card.stack { h2 { (t("Through the card", "Через карту")) " " (card.name) }
            @if card.is_own { div.note.warn { (pages::mark("warn")) p { (t("The recorder listens at this card: the call does not prove that the mirror works.",
                "Регистратор слушает эту карту: звонок не доказывает, что зеркало работает.")) } } }
            @match answer {
                Ok(answer) => {
                    ol.list { @for step in &answer.steps { li { (step_note(viewer, step)) } } }
                    @if let Some(id) = &answer.call { p { a href={ "/calls/" (id) } { (t("Open the call", "Открыть звонок")) } } }
                }
                Err(why) => { div.note.bad { (pages::mark("bad")) p { (t("It could not be made: ", "Его не удалось сделать: ")) span lang="en" { (why) } } } }
            }
        }
    };
    pages::shell(viewer, t("Test call", "Проверочный звонок"), NavEntry::Health, &[], &body)
}

fn step_note(viewer: &Viewer, step: &AnsweredStep) -> Markup {
    let (mark, colour) = if step.ok { ("ok", "ok") } else { ("bad", "bad") };
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let name = match step.step.as_str() {
        "recorder" => t("recorder", "регистратор"),
        "send" => t("sending", "отправка"),
        "mirror" => t("mirror", "зеркало"),
        "media" => t("sound on the mirror", "звук в зеркале"),
        "recording" => t("recording", "запись"),
        "sound" => t("sides", "стороны"),
        "delivery" => "Pyrus",
        other => other,
    };
    html! { p { span class={ "v " (colour) } { (pages::mark(mark)) b { (name) } } " " (viewer.lang.translated(&ALARMS, &step.detail)) } }
}

/// Returns the names of the network cards of this machine, without loopback.
fn cards() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(CARDS) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut cards: Vec<String> = names.filter(|name| name != "lo").take(MAX_CARDS).collect();
    cards.sort_unstable();
    cards
}

/// Folder in which Linux lists network cards.
const CARDS: &str = "/sys/class/net";
/// Maximum number of network cards in the form. A host of containers has hundreds of virtual cards.
const MAX_CARDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_the_command_are_read_and_failures_have_its_last_words() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let program = dir.path().join("program.sh");
        let script = r#"#!/bin/sh
[ "$1 $2 $3 $5 $6" = "test-call --json --interface --config /etc/x.toml" ] || { echo "wrong" >&2; exit 2; }
[ "$4" = eth0 ] || { echo "first"; echo "no such card" >&2; exit 1; }
echo '{"ok":false,"lost_at":"mirror","steps":[{"step":"recorder","ok":true,"detail":"running, capturing on eth1"},{"step":"mirror","ok":false,"detail":"the mirror is silent"}]}'
exit 1
"#;
        std::fs::write(&program, script).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("set");
        // A child process of another test may have the script open for writing for a moment. Then starting the script
        // fails with ETXTBSY, so it is tried again.
        let run = |card: &str| loop {
            let answer = call(&program, Path::new("/etc/x.toml"), card);
            if !format!("{answer:?}").contains("Text file busy") {
                return answer;
            }
        };
        let answer = run("eth0").expect("an answer");
        assert_eq!((answer.ok, answer.steps.len(), answer.steps[1].step.as_str()), (false, 2, "mirror"));
        assert_eq!(run("eth9"), Err(String::from("no such card")));
    }
}
