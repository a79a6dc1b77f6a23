//! The part of a call's page about its delivery to Pyrus: the state, the list of requests, and the button for another
//! try.

use maud::{Markup, html};

use super::super::access::Viewer;
use super::super::call::{CallFacts, story_for};
use super::super::source::ConsolePlace;
use super::super::text::{Lang, clock_time, date_time, iso_day, size};
use super::{csrf, mark, marked};
use crate::call::record::{CallRecord, DeliveryState};
use crate::delivery::reason_ru::DELIVERY_REASONS;
use crate::delivery::story::{AttemptResult, AttemptedStep, DeliveryAttempt, DeliveryStory};
use crate::time::Timestamp;

/// Returns the part of a call's page about its delivery to Pyrus.
pub(super) fn delivery(viewer: &Viewer, facts: &CallFacts) -> Markup {
    let (record, lang) = (&facts.record, viewer.lang);
    let t = |en, ru| lang.of_two(en, ru);
    let state = record.delivery.state;
    let (name, colour) = match state {
        DeliveryState::Done => ("ok", "ok"),
        DeliveryState::Parked | DeliveryState::Dead => ("warn", "warn"),
        DeliveryState::Owed => ("wait", ""),
        DeliveryState::None => ("info", ""),
    };
    let may_retry = viewer.user.is_admin()
        && viewer.place == ConsolePlace::Recorder
        && matches!(state, DeliveryState::Parked | DeliveryState::Dead | DeliveryState::Owed);
    let story = story_for(viewer, facts.job.as_ref());
    let next_at = facts.job.as_ref().filter(|job| !job.is_settled()).and_then(|job| job.next_at);
    html! {
        section.card.stack {
            h2 { (t("Delivery to Pyrus", "Передача в Pyrus")) }
            p { span class={ "v " (colour) } { (mark(name)) span { (lang.delivery(state)) } }
                @if let Some(id) = record.delivery.task_id { ", " (t("task", "задача")) " "
                    @if let Some(url) = &facts.task_url { a href={ (url) (id) } rel="noreferrer" { (id) } } @else { (id) } } }
            @if let Some(detail) = &record.delivery.detail { p.muted { (lang.translated(&DELIVERY_REASONS, detail)) } }
            (steps(lang, record, &story))
            @if let Some(at) = next_at { p { (mark("wait")) " " (t("Next try", "Следующая попытка")) " " (moment(record, at)) } }
            @if let (Some(alarm), false) = (&facts.delivery_alarm, is_over(state)) {
                div.note.warn { (mark("warn")) p { (lang.translated(&DELIVERY_REASONS, alarm)) } }
            }
            @if may_retry { form method="post" action={ "/calls/" (viewer.call_key(record)) "/retry" } { (csrf(viewer)) button { (t("Try again now", "Повторить сейчас")) } } }
        }
    }
}

/// Returns whether nothing remains to be delivered: the delivery is complete, or the call is not delivered to Pyrus at
/// all. Then the page need not show why calls cannot be delivered at present.
const fn is_over(state: DeliveryState) -> bool {
    matches!(state, DeliveryState::Done | DeliveryState::None)
}

fn steps(lang: Lang, record: &CallRecord, story: &DeliveryStory) -> Markup {
    if story.is_empty() {
        return html! {};
    }
    let left_out = |n: usize| (n == 0 && story.left_out > 0).then_some(u64::from(story.left_out));
    html! {
        ol.steps { @for (n, attempt) in story.attempts.iter().enumerate() {
            li { time { @if let Some(day) = other_day(record, attempt.at) { span.nowrap { (day) } " " } (clock_time(attempt.at)) } (result_mark(attempt)) (step(lang, record, attempt)) }
            @if let Some(count) = left_out(n) {
                li { time { "…" } (mark("info")) span.muted { (lang.count(count, ["request is not shown", "requests are not shown"],
                    ["запрос не показан", "запроса не показаны", "запросов не показаны"])) } }
            }
        } }
    }
}

fn result_mark(attempt: &DeliveryAttempt) -> Markup {
    match (attempt.result, &attempt.reason) {
        (AttemptResult::Done, None) => marked("ok", "ok"),
        (AttemptResult::Done, Some(_)) => marked("warn", "warn"),
        (AttemptResult::Failed, _) => marked("bad", "bad"),
    }
}

fn step(lang: Lang, record: &CallRecord, attempt: &DeliveryAttempt) -> Markup {
    let t = |en, ru| lang.of_two(en, ru);
    let is_failed = attempt.result == AttemptResult::Failed;
    html! {
        span {
            (action(lang, record, attempt))
            @if is_failed { ": " (answer(lang, &attempt.answer)) }
            @if attempt.times > 1 { ", " (lang.count(attempt.times.into(), ["time", "times"], ["раз", "раза", "раз"]))
                " " (t("until", "до")) " " (moment(record, attempt.answered_at)) }
            @if let Some(next) = attempt.next_at {
                ", " (t("next try after", "следующая попытка через")) " " (pause(lang, next.since(attempt.answered_at).as_secs_f64())) }
            @if let Some(reason) = &attempt.reason { span.sub { (lang.translated(&DELIVERY_REASONS, reason)) } }
        }
    }
}

/// Returns a text with the purpose of a request to Pyrus, and whether the request succeeded.
fn action(lang: Lang, record: &CallRecord, attempt: &DeliveryAttempt) -> String {
    let is_done = attempt.result == AttemptResult::Done;
    let words = match (attempt.step, is_done) {
        (AttemptedStep::Register, true) if is_while_ringing(record, attempt.answered_at) => {
            lang.of_two("registered while it rang", "зарегистрирован, пока звонил")
        }
        (AttemptedStep::Register, true) => lang.of_two("registered", "зарегистрирован"),
        (AttemptedStep::Register, false) => lang.of_two("registration failed", "не зарегистрирован"),
        (AttemptedStep::Upload, true) => lang.of_two("uploaded", "запись загружена"),
        (AttemptedStep::Upload, false) => lang.of_two("upload failed", "запись не загружена"),
        (AttemptedStep::Attach, true) => lang.of_two("attached to the task", "прикреплена к задаче"),
        (AttemptedStep::Attach, false) => lang.of_two("not attached to the task", "не прикреплена к задаче"),
        (AttemptedStep::TellEnd, true) => {
            lang.of_two("end of the call added to the task", "конец звонка добавлен в задачу")
        }
        (AttemptedStep::TellEnd, false) => lang.of_two("end of the call not added", "конец звонка не добавлен"),
    };
    let part = attempt.part.filter(|_| record.recordings.len() > 1);
    let part = part.map(|part| format!(", {} {part}", lang.of_two("part", "часть"))).unwrap_or_default();
    format!("{words}{part}{}", measure(lang, record, attempt))
}

/// Returns a text with the delay from the INVITE to the registration in Pyrus, or with the size of an upload. The text
/// is empty for other requests to Pyrus.
fn measure(lang: Lang, record: &CallRecord, attempt: &DeliveryAttempt) -> String {
    match (attempt.step, attempt.result) {
        (AttemptedStep::Register, AttemptResult::Done) => {
            let delay =
                record.invited_at.filter(|at| *at <= attempt.answered_at).map(|at| attempt.answered_at.since(at));
            let near = delay.map(|delay| delay.as_secs_f64()).filter(|seconds| *seconds < NEAR_SECONDS);
            let words = |seconds: f64| {
                format!(", {} {} INVITE", lang.decimal(seconds, 2), lang.of_two("s after the", "с после"))
            };
            near.map(words).unwrap_or_default()
        }
        (AttemptedStep::Upload, AttemptResult::Done) => {
            let file = record.recordings.iter().find(|file| Some(file.part) == attempt.part);
            file.map(|file| format!(", {}", size(lang, file.bytes))).unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// Returns whether the call rang at the time `at` of a request to Pyrus. In a replay the result is false, because
/// capture times are older than delivery times.
fn is_while_ringing(record: &CallRecord, at: Timestamp) -> bool {
    let end = record.answered_at.or(record.ended_at);
    record.invited_at.is_some_and(|from| from <= at) && end.is_some_and(|to| at < to)
}

/// Returns the text for the answer of Pyrus to a request. Fixed words, e.g. `no response`, are in the language of the
/// page. HTTP status and error code stay unchanged.
fn answer(lang: Lang, answer: &str) -> &str {
    match answer {
        "no connection" => lang.of_two("no connection", "нет соединения"),
        "no response" => lang.of_two("no response", "нет ответа"),
        "file not readable" => lang.of_two("file not readable", "файл не читается"),
        "not sent for security" => lang.of_two("not sent for security", "не отправлено из осторожности"),
        other => other,
    }
}

/// Formats a pause: below two minutes in seconds, below two hours in minutes, otherwise in hours.
fn pause(lang: Lang, seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{} {}", s.ceil(), lang.of_two("s", "с")),
        s if s < 7_200.0 => format!("{} {}", (s / 60.0).round(), lang.of_two("min", "мин")),
        s => format!("{} {}", (s / 3_600.0).round(), lang.of_two("h", "ч")),
    }
}

/// Returns day and month of the time `at`; `None` if it is on the day on which the call began.
fn other_day(record: &CallRecord, at: Timestamp) -> Option<String> {
    let day = date_time(at).get(..DAY_AND_MONTH).map(str::to_owned);
    day.filter(|_| super::calls::start(record).is_none_or(|start| iso_day(start) != iso_day(at)))
}

/// Formats a time of day. If the call began on another day, the date stands before the time.
fn moment(record: &CallRecord, at: Timestamp) -> String {
    let is_same_day = super::calls::start(record).is_some_and(|start| iso_day(start) == iso_day(at));
    if is_same_day { clock_time(at) } else { date_time(at) }
}

/// Number of bytes of day and month at the beginning of a date, e.g. of `29.11`.
const DAY_AND_MONTH: usize = 5;
/// Maximum delay from the INVITE to the registration in Pyrus that the page shows, seconds. A longer delay is not
/// shown.
const NEAR_SECONDS: f64 = 100.0;
