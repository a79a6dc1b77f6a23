//! HTML of the list of calls: search form, counts by class, rows.

use std::time::Duration;

use maud::{Markup, html};

use super::super::access::Viewer;
use super::super::accounts::AccountRight;
use super::super::calls::FoundPage;
use super::super::query::{CallsQuery, encoded};
use super::super::source::ConsolePlace;
use super::super::text::{Lang, clock_time, iso_day, length};
use super::{NavEntry, callee, caller, class_mark, mark, shell, verdict};
use crate::call::record::{CallDirection, CallRecord, DeliveryState, EventKind};
use crate::journal::HeardClass;
use crate::service::clock::wall_clock;
use crate::time::Timestamp;

/// Returns the HTML of the page with the list of calls.
pub(in super::super) fn page(viewer: &Viewer, query: &CallsQuery, found: &FoundPage) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let body = html! {
        h1.vh { (t("Calls", "Звонки")) }
        (super::filters::form(viewer.lang, viewer.place, query))
        div.stack.stack-4 id="results" role="status" { (results(viewer, query, found)) }
    };
    shell(viewer, t("Calls", "Звонки"), NavEntry::Calls, &["search.js"], &body)
}

/// Returns the HTML of the results, i.e. of the part of the page that changes while a user types.
pub(in super::super) fn results(viewer: &Viewer, query: &CallsQuery, found: &FoundPage) -> Markup {
    html! {
        (summary(viewer, query, found))
        @if found.calls.is_empty() { (nothing(viewer, query, found)) } @else { (table(viewer, query, found)) }
    }
}

fn summary(viewer: &Viewer, query: &CallsQuery, found: &FoundPage) -> Markup {
    let lang = viewer.lang;
    let t = |en, ru| lang.of_two(en, ru);
    let total = found.counts.total();
    let title = match (found.range.single_day(), query.q.is_empty()) {
        (Some(day), _) => day_title(lang, day),
        (None, false) => t("Found", "Найдено").to_owned(),
        (None, true) => t("Chosen time", "Выбранное время").to_owned(),
    };
    let of = |class: HeardClass| found.count(class);
    let answered = total - of(HeardClass::Unanswered);
    let not_whole = of(HeardClass::One) + of(HeardClass::Nothing) + of(HeardClass::Locked) + of(HeardClass::Lost);
    html! {
        section.card.day aria-labelledby="dh" {
            div.head {
                h2 id="dh" { (title) ": " @if found.counts.is_least { (t("at least", "не меньше")) " " }
                    (lang.count(total, ["call", "calls"], ["звонок", "звонка", "звонков"])) }
                p {
                    (lang.grouped(answered)) " " (t("answered", "отвечено")) ", "
                    b { (lang.grouped(of(HeardClass::Both))) " " (t("heard whole", "слышно целиком")) }
                    @if of(HeardClass::Excluded) > 0 { ", " (lang.grouped(of(HeardClass::Excluded))) " " (t("excluded by rule", "исключено правилом")) }
                    @if not_whole > 0 { ", " b { (lang.grouped(not_whole)) " " (t("not whole", "не целиком")) } }
                    @if found.counts.is_least { ". " (t("The counts are those of the newest calls", "Сосчитаны только последние звонки")) }
                    @if !found.read_as.is_empty() { ". " (t("Read as", "Прочитано как")) " " (found.read_as) }
                }
            }
            (super::filters::chips(lang, query))
            (bar(found))
            ul.count {
                @for class in HeardClass::ALL.into_iter().filter(|class| *class != HeardClass::Pending || of(*class) > 0) {
                    li { a href=(query.link("/calls", |q| q.heard = class.as_str().to_owned())) {
                        b class=(if of(class) > 0 { class_mark(class).1 } else { "" }) { (mark(class_mark(class).0)) (lang.grouped(of(class))) }
                        span { (lang.heard(class)) }
                    } }
                }
            }
        }
    }
}

/// Returns the name of a day, e.g. `Today, Friday 27 November 2026`.
fn day_title(lang: Lang, day: Timestamp) -> String {
    let now = wall_clock();
    let is_before = |days: u64| iso_day(day) == iso_day(now - Duration::from_secs(days * 86_400));
    match () {
        () if is_before(0) => format!("{}, {}", lang.of_two("Today", "Сегодня"), lang.day(day)),
        () if is_before(1) => format!("{}, {}", lang.of_two("Yesterday", "Вчера"), lang.day(day)),
        () => lang.day(day),
    }
}

fn bar(found: &FoundPage) -> Markup {
    let total = found.counts.total().max(1) as f64;
    let mut at = 0.0;
    let mut pieces = Vec::new();
    for class in HeardClass::ALL {
        let share = found.count(class) as f64 * 100.0 / total;
        if share > 0.0 {
            let colour = match class {
                HeardClass::Both => "s-ok",
                HeardClass::One | HeardClass::Nothing => "s-warn",
                HeardClass::Lost => "s-bad",
                HeardClass::Locked => "s-caller",
                _ => "s-quiet",
            };
            let width = (share - 0.15).max(0.1);
            pieces.push((colour, at, width));
            if class == HeardClass::Excluded {
                pieces.push((HATCHED, at, width));
            }
        }
        at += share;
    }
    html! {
        svg.daybar aria-hidden="true" {
            defs { pattern id="hx" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" { path.s-hatch d="M0 0v5" {} } }
            @for (colour, x, width) in pieces {
                rect class=[(colour != HATCHED).then_some(colour)] fill=[(colour == HATCHED).then_some(HATCHED)] x={ (format!("{x:.2}%")) } width={ (format!("{width:.2}%")) } y="0" height="12" {}
            }
        }
    }
}

fn table(viewer: &Viewer, query: &CallsQuery, found: &FoundPage) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let days: Vec<String> =
        found.calls.iter().map(|record| start(record).map_or_else(String::new, |at| viewer.lang.day(at))).collect();
    html! {
        section.card.table aria-label=(t("Calls", "Звонки")) {
            table.calls role="table" {
                caption.vh { (t("Calls, newest first", "Звонки, сначала новые")) }
                thead role="rowgroup" { tr role="row" {
                    th role="columnheader" scope="col" { span.vh { (t("Play", "Слушать")) } }
                    th.w-time role="columnheader" scope="col" { (t("Time", "Время")) }
                    th.w-from role="columnheader" scope="col" { (t("From", "От")) }
                    th.w-to role="columnheader" scope="col" { (t("To", "Кому")) }
                    th.num.w-len role="columnheader" scope="col" { (t("Length", "Длина")) }
                    th role="columnheader" scope="col" { (t("Recording", "Запись")) }
                    th.w-crm role="columnheader" scope="col" { "Pyrus" }
                } }
                tbody role="rowgroup" {
                    @for (index, record) in found.calls.iter().enumerate() {
                        @if index == 0 || days[index - 1] != days[index] {
                            tr.sep role="row" { th role="rowheader" scope="rowgroup" colspan="7" { (days[index]) } }
                        }
                        (row(viewer, found, record))
                    }
                }
            }
            div.pager {
                span.muted { (found.calls.len()) " " (t("of", "из")) " " (viewer.lang.grouped(found.counts.total())) }
                @if let Some((begin, id)) = &found.next {
                    a.btn href={ (query.link("/calls", |_| {})) (if query.link("", |_| {}).is_empty() { "?" } else { "&" })
                        "cursor=" (begin) "~" (id) } { (t("Older", "Раньше")) }
                }
                @if viewer.user.may(AccountRight::Download) {
                    a.btn href=(query.link("/calls.csv", |_| {})) { "CSV " (t("of", "из")) " " (viewer.lang.grouped(found.counts.total())) }
                }
            }
        }
    }
}

/// Returns the start time of a call, by which the list is sorted.
pub(in super::super) fn start(record: &CallRecord) -> Option<Timestamp> {
    record.invited_at.or(record.answered_at).or(record.ended_at)
}

fn row(viewer: &Viewer, found: &FoundPage, record: &CallRecord) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let time = start(record).map(clock_time).unwrap_or_default();
    let plain = record.recordings.first().filter(|file| file.plain_sha256.is_none());
    html! {
        tr role="row" {
            td role="cell" {
                @if let (Some(file), true) = (plain, viewer.user.may(AccountRight::Play)) {
                    button.icon type="button" data-play={ "/calls/" (viewer.call_key(record)) "/sound/" (file.part) }
                        aria-label={ (t("Play the call of", "Слушать звонок")) " " (time) ", " (caller(viewer, record)) } { (mark("play")) }
                } @else { span.vh { (t("no sound", "нет звука")) } }
            }
            td.c-time.nowrap role="cell" { a.go href={ "/calls/" (viewer.call_key(record)) } { (time) }
                @if viewer.place == ConsolePlace::Centre { " " span.sub { (record.appliance) } } }
            td.c-from role="cell" { span.nowrap { (caller(viewer, record)) }
                @if let Some(name) = &record.from_name { " " span.sub { (name) } } }
            td.c-to role="cell" { (callee(viewer, record)) @if let Some(name) = &record.to_name { " " span.sub { (name) } } }
            td.c-len.num role="cell" { @if let Some(seconds) = record.duration_s { (length(seconds)) } }
            td.c-heard role="cell" { (verdict(viewer, record)) (reason(viewer, record)) (flags(viewer, record)) }
            td.c-crm role="cell" { (task(viewer, found, record)) }
        }
    }
}

/// Returns the HTML with the reason why sound of the call is missing; empty if no sound is missing.
fn reason(viewer: &Viewer, record: &CallRecord) -> Markup {
    let class = HeardClass::of(record);
    let is_quiet = matches!(class, HeardClass::Both | HeardClass::Unanswered | HeardClass::Pending);
    let reason = record.verdict_reason.as_deref().filter(|_| !is_quiet).map(|reason| viewer.lang.reason(reason));
    html! {
        @if let Some((sentence, lang)) = reason { span.why { span lang=(lang) { (sentence) } (why_link(viewer, record)) } }
        @else if !is_quiet { span.why { (viewer.lang.verdict_sentence(record.verdict)) (why_link(viewer, record)) } }
        @else if class == HeardClass::Unanswered { span.why { (viewer.lang.outcome(record.outcome)) } }
    }
}

/// Returns a link to the page that explains why calls are missing. The link names the day of this call and its outside
/// number. If the outside number is unknown, it names the extension.
fn why_link(viewer: &Viewer, record: &CallRecord) -> Markup {
    let outside = if record.direction == CallDirection::Outbound { &record.to } else { &record.from };
    let number = outside.as_ref().or(record.internal.as_ref());
    html! {
        @if let (Some(number), Some(at)) = (number, start(record)) {
            " " a href={ "/why?number=" (encoded(number)) "&day=" (iso_day(at)) } { (viewer.lang.of_two("Why?", "Почему?")) }
        }
    }
}

fn flags(viewer: &Viewer, record: &CallRecord) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let has = |kind: EventKind| record.events.iter().any(|event| event.kind == kind);
    let parts = record.recordings.len() as u64;
    let encrypted = record.recordings.iter().any(|file| file.plain_sha256.is_some());
    html! {
        span.flags {
            @if has(EventKind::Transfer) { " " span.tag { (mark("transfer")) (t("transferred", "переведён")) } }
            @if let Some(hold) = &record.held { " " span.tag { (mark("hold")) (t("held", "удержан"))
                @if let Some(why) = &hold.why { ": " (why) } } }
            @if parts > 1 { " " span.tag { (viewer.lang.count(parts, ["part", "parts"], ["часть", "части", "частей"])) } }
            @if encrypted { " " span.tag { (mark("lock")) (t("encrypted", "зашифрован")) } }
        }
    }
}

fn task(viewer: &Viewer, found: &FoundPage, record: &CallRecord) -> Markup {
    let state = record.delivery.state;
    html! {
        @match (&found.task_url, record.delivery.task_id) {
            (Some(url), Some(id)) => { a href={ (url) (id) } rel="noreferrer" { (id) span.vh { " " (viewer.lang.of_two("task in Pyrus", "задача в Pyrus")) } } }
            (None, Some(id)) => { (id) }
            _ => {}
        }
        @if !matches!(state, DeliveryState::None | DeliveryState::Done) {
            @let (name, colour) = if state == DeliveryState::Owed { ("wait", "quiet") } else { ("warn", "warn") };
            " " span class={ "v " (colour) } { (mark(name)) span { (viewer.lang.delivery(state)) } }
        }
    }
}

fn nothing(viewer: &Viewer, query: &CallsQuery, found: &FoundPage) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let is_searched = !query.q.is_empty() || query.filters() > 0;
    let today = iso_day(wall_clock());
    html! {
        section.card.empty {
            @if is_searched {
                h2 { (t("No call found", "Звонок не найден")) }
                @if !found.read_as.is_empty() { p { (t("Looked for", "Искали")) " " (found.read_as) } }
                p.row {
                    a.btn href=(query.link("/calls", |q| *q = CallsQuery { q: q.q.clone(), day: "all".into(), ..CallsQuery::default() })) {
                        (t("Any time, no filters", "Любое время, без фильтров")) }
                    a.btn href={ "/why?number=" (encoded(&query.q)) "&day=" (today) } { (t("Why is it not there?", "Почему его нет?")) }
                }
            } @else {
                h2 { (t("No call in this time", "За это время звонков нет")) }
                p { (t("Calls appear here within seconds of their end.", "Звонки появляются через секунды после окончания.")) }
            }
            @if !viewer.user.visible().extensions.is_empty() {
                p.muted { (t("Your account sees extensions", "Ваша учётная запись видит номера")) " " (viewer.user.visible().extensions.join(", ")) }
            }
        }
    }
}

/// SVG pattern that hatches the colour of calls which a rule excludes.
const HATCHED: &str = "url(#hx)";
