//! The page that explains why a call is missing. It shows the calls of a number in a range of time, each with its
//! verdict. If there are no such calls, it shows the nearest calls of this number.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use maud::{Markup, html};
use serde::Deserialize;

use super::access::{self, Viewer};
use super::accounts::AccountRight;
use super::pages::{self, NavEntry};
use super::query::{midnight, parse_day, parse_time, read_text};
use super::server::{ConsoleState, StateError};
use super::text::{Lang, clock_time, date_time, iso_day, length};
use crate::call::record::{CallRecord, CallVerdict, DeliveryState};
use crate::journal::{CallSearch, ClassCounts, HeardClass};
use crate::service::clock::wall_clock;
use crate::time::Timestamp;

/// Query parameters of a request that asks why a call is missing: the number and the range of time.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WhyQuery {
    number: String,
    day: String,
    from: String,
    to: String,
}

/// The facts from which the page explains why a call is missing.
#[derive(Debug, Default)]
struct WhyAnswer {
    /// Start and end of the requested range of time.
    range: (Timestamp, Timestamp),
    /// Telephone numbers in the request, each without characters other than digits.
    digits: Vec<String>,
    /// Calls from or to the requested number in `range`, newest first.
    calls: Vec<CallRecord>,
    /// Calls from or to the requested number outside `range`, newest first: at most [`NEAREST`] after it, and at most
    /// [`NEAREST`] before it.
    nearest: Vec<CallRecord>,
    /// Number of all calls in the range, from and to any number, for each class (how much can be heard).
    others: ClassCounts,
}

/// State of the mirror port in a range of time, concluded from the calls of that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MirrorState {
    /// Every recorded call can be heard on both sides.
    Healthy,
    /// No call can be heard on both sides, and some can be heard on one side.
    OneSided,
    /// No call has any sound, although calls were answered.
    Silent,
    /// Some calls can be heard on both sides, others lack a side or all sound.
    Partial,
    /// No call in the range of time should have sound, e.g. because no call was answered.
    Unknown,
}

impl MirrorState {
    /// Returns the word for the state in the API.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::OneSided => "one_sided",
            Self::Silent => "silent",
            Self::Partial => "partial",
            Self::Unknown => "unknown",
        }
    }
}

impl WhyAnswer {
    /// Returns the state of the mirror port in the requested range of time.
    fn mirror(&self) -> MirrorState {
        let whole = self.others(&[HeardClass::Both]);
        let partial = self.others(&[HeardClass::One, HeardClass::Nothing]);
        match (whole, partial) {
            (0, 0) => MirrorState::Unknown,
            (_, 0) => MirrorState::Healthy,
            (0, _) if self.others(&[HeardClass::One]) > 0 => MirrorState::OneSided,
            (0, _) => MirrorState::Silent,
            _ => MirrorState::Partial,
        }
    }

    fn others(&self, classes: &[HeardClass]) -> u64 {
        self.others.by_class.iter().filter(|(class, _)| classes.contains(class)).map(|(_, count)| count).sum()
    }

    /// Returns the result of the search as a word for the API. The word says whether the period has calls of the
    /// number, only calls of other numbers, or no calls.
    fn code(&self) -> &'static str {
        match (self.calls.is_empty(), self.others.total()) {
            (false, _) => "seen",
            (true, 0) => "nothing_seen_of_any_number",
            (true, _) => "number_not_seen",
        }
    }
}

/// Responds with the page that answers why a call is missing.
pub(super) async fn page(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<WhyQuery>,
) -> Response {
    if !viewer.user.may(AccountRight::List) {
        return access::missing(Some(&viewer), false);
    }
    match answer(&state, &viewer, &query).await {
        Ok(answer) => show(&viewer, &query, answer.as_ref()).into_response(),
        Err(error) => access::failed(&error),
    }
}

/// Responds with the reason why a call is missing, as JSON.
pub(super) async fn api(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<WhyQuery>,
) -> Response {
    if !viewer.user.may(AccountRight::List) {
        return access::missing(None, true);
    }
    match answer(&state, &viewer, &query).await {
        Ok(Some(answer)) => {
            let others: serde_json::Map<String, serde_json::Value> = answer
                .others
                .by_class
                .iter()
                .map(|(class, count)| (class.as_str().to_owned(), (*count).into()))
                .collect();
            Json(serde_json::json!({
                "answer": answer.code(), "mirror": answer.mirror().as_str(), "from": answer.range.0, "to": answer.range.1, "read_as": answer.digits,
                "calls": answer.calls, "attempts": answer.nearest, "looked_at": others,
            }))
            .into_response()
        }
        Ok(None) => Json(serde_json::json!({ "answer": "not_asked" })).into_response(),
        Err(error) => access::failed(&error),
    }
}

async fn answer(state: &ConsoleState, viewer: &Viewer, query: &WhyQuery) -> Result<Option<WhyAnswer>, StateError> {
    let (numbers, words) = read_text(&query.number, &state.site.dialling);
    if numbers.is_empty() && words.is_empty() {
        return Ok(None);
    }
    let scope = viewer.user.visible();
    let range = range(query);
    let of_number = CallSearch { scope: scope.clone(), numbers, words, ..CallSearch::default() };
    let answer = state
        .read(viewer, move |journal| {
            let inside = CallSearch { since: Some(range.0), until: Some(range.1), ..of_number.clone() };
            let before = CallSearch { until: Some(range.0), ..of_number.clone() };
            let after = CallSearch { since: Some(range.1), ..of_number.clone() };
            let mut nearest = journal.first_calls(&after, NEAREST)?;
            nearest.reverse(); // newest first, as in all lists
            nearest.extend(journal.search(&before, None, NEAREST)?.calls);
            let all = CallSearch { scope, since: Some(range.0), until: Some(range.1), ..CallSearch::default() };
            Ok(WhyAnswer {
                range,
                digits: of_number.numbers.clone(),
                calls: journal.search(&inside, None, MAX_CALLS)?.calls.into_iter().map(|call| call.record).collect(),
                nearest: nearest.into_iter().map(|call| call.record).collect(),
                others: journal.count_by_class(&all)?,
            })
        })
        .await?;
    Ok(Some(answer))
}

/// Returns the requested range of time: the whole day, or the part between the times of day in `from` and `to`.
fn range(query: &WhyQuery) -> (Timestamp, Timestamp) {
    let today = super::text::local(wall_clock()).date();
    let day = parse_day(&query.day).unwrap_or(today);
    let (begin, end) = (midnight(day), day.tomorrow().map_or(Timestamp::MAX, midnight));
    let hour = |text: &str| parse_time(text).map(|s| begin + std::time::Duration::from_secs(u64::from(s)));
    (hour(&query.from).unwrap_or(begin), hour(&query.to).unwrap_or(end))
}

fn show(viewer: &Viewer, query: &WhyQuery, answer: Option<&WhyAnswer>) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let day = if query.day.is_empty() { iso_day(wall_clock()) } else { query.day.clone() };
    let body = html! {
        h1 { (t("Why is a call not there?", "Почему звонка нет?")) }
        form.card.search action="/why" { div.filters.whyf {
            div.field { label for="q" { (t("Number or extension, as you know it", "Номер или внутренний, как вы его знаете")) }
                input id="q" name="number" type="search" value=(query.number) required; }
            div.field { label for="wd" { (t("Day", "День")) } input id="wd" name="day" type="date" value=(day); }
            div.field { label for="w1" { (t("From", "С")) } input id="w1" name="from" type="text" inputmode="numeric" placeholder="00:00" value=(query.from); }
            div.field { label for="w2" { (t("To", "До")) } input id="w2" name="to" type="text" inputmode="numeric" placeholder="24:00" value=(query.to); }
            button.primary { (pages::mark("search")) (t("Ask", "Спросить")) }
        } }
        @if let Some(answer) = answer {
            section.card.stack.stack-4 role="status" {
                p.answer { (sentence(viewer, answer)) }
                @for record in &answer.calls { (found(viewer, record)) }
                div.cols.even { (nearest(viewer, answer)) (causes(viewer, query, answer)) }
                details.plain-d { summary { (t("What was looked through", "Что просмотрено")) }
                    p.muted { (t("Digits", "Цифры")) " " (answer.digits.join(", ")) ", "
                        @if answer.others.is_least { (t("at least", "не меньше")) " " }
                        (viewer.lang.count(answer.others(&HeardClass::ALL), ["call", "calls"], ["звонок", "звонка", "звонков"]))
                        " " (t("of all numbers in this time.", "всех номеров за это время."))
                        @if !viewer.user.visible().extensions.is_empty() {
                            " " (t("Your account sees extensions", "Ваша учётная запись видит номера")) " " (viewer.user.visible().extensions.join(", ")) "."
                        } } }
            }
        }
    };
    pages::shell(viewer, t("Why not there", "Почему нет"), NavEntry::Why, &[], &body)
}

fn sentence(viewer: &Viewer, answer: &WhyAnswer) -> String {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let (from, to) = (date_time(answer.range.0), date_time(answer.range.1));
    let time = format!("{} {from} {} {to}", t("between", "с"), t("and", "по"));
    match answer.code() {
        "seen" => {
            let count =
                viewer.lang.count(answer.calls.len() as u64, ["call", "calls"], ["звонок", "звонка", "звонков"]);
            format!("{}: {count} {time}.", t("It is there", "Есть"))
        }
        "nothing_seen_of_any_number" => format!(
            "{} {time}. {}",
            t("Nothing of any number was seen", "Не было видно ничего ни от одного номера"),
            t(
                "The recorder stood still, or the mirror showed nothing.",
                "Регистратор стоял, или зеркало ничего не показывало."
            )
        ),
        _ => format!(
            "{} {time}. {}",
            t("Nothing of this number was seen", "От этого номера ничего не было видно"),
            mirror_sentence(viewer.lang, answer)
        ),
    }
}

/// Returns the sentence about the mirror port in the time range in which a call is missing. It says whether the call
/// could have been captured.
fn mirror_sentence(lang: Lang, answer: &WhyAnswer) -> String {
    let t = |en, ru| lang.of_two(en, ru);
    let calls = |n, ru| lang.count(n, ["call", "calls"], ru);
    let whole = answer.others(&[HeardClass::Both]);
    let partial = answer.others(&[HeardClass::One, HeardClass::Nothing]);
    let forms = ["звонок", "звонка", "звонков"];
    match answer.mirror() {
        MirrorState::Healthy => format!(
            "{} {} {}",
            t("The mirror was healthy then:", "Зеркало было исправно:"),
            calls(whole, forms),
            t("of other numbers heard on both sides.", "других номеров, слышны обе стороны.")
        ),
        MirrorState::OneSided => format!(
            "{} {} {}",
            t("The mirror was one-sided then:", "Зеркало было односторонним:"),
            calls(partial, forms),
            t(
                "of other numbers without a side or all sound, none heard whole.",
                "других номеров без стороны или без звука, ни одного целого."
            )
        ),
        MirrorState::Silent => format!(
            "{} {} {}",
            t("The mirror showed no sound then:", "Зеркало не показывало звука:"),
            calls(partial, forms),
            t("of other numbers without sound.", "других номеров без звука.")
        ),
        MirrorState::Partial => format!(
            "{} {} {}, {partial} {}",
            t("The mirror showed only a part then:", "Зеркало показывало не всё:"),
            calls(whole, forms),
            t("of other numbers heard on both sides", "других номеров, слышны обе стороны"),
            t("without a side or all sound.", "без стороны или без звука.")
        ),
        MirrorState::Unknown => t(
            "No call with sound was seen then, so nothing is known about the mirror.",
            "Звонков со звуком тогда не было, поэтому о зеркале ничего не известно.",
        )
        .to_owned(),
    }
}

/// Returns the HTML for one call that was found: the reason of its verdict, and advice for the user.
fn found(viewer: &Viewer, record: &CallRecord) -> Markup {
    let (name, colour) = pages::class_mark(HeardClass::of(record));
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let todo = match record.verdict {
        Some(CallVerdict::CallerOnly | CallVerdict::CalleeOnly) => t(
            "Do: the switch must copy both directions. Look with callspan doctor.",
            "Сделать: коммутатор должен копировать оба направления. Проверка: callspan doctor.",
        ),
        Some(CallVerdict::NoMedia) => {
            t("Do: mirror the port where the sound passes as well.", "Сделать: зеркалировать и порт, где идёт звук.")
        }
        Some(CallVerdict::Excluded) => t(
            "Do: change the rule in [[rules]], if it is not meant.",
            "Сделать: изменить правило в [[rules]], если оно не задумано.",
        ),
        Some(CallVerdict::Encrypted) => t(
            "Do: switch SRTP off for the recorded telephones, or hand over its keys by SDES.",
            "Сделать: отключить SRTP у записываемых телефонов или передавать ключи по SDES.",
        ),
        _ => "",
    };
    let owed = matches!(record.delivery.state, DeliveryState::Owed | DeliveryState::Parked | DeliveryState::Dead);
    html! {
        div class={ "note " (colour) } { (pages::mark(name)) div {
            p { b { (viewer.lang.verdict_sentence(record.verdict)) } " " (pages::calls::start(record).map(date_time).unwrap_or_default()) ", "
                (pages::caller(viewer, record)) " → " (pages::callee(viewer, record))
                @if let Some(s) = record.duration_s { ", " (length(s)) } }
            @if let Some((reason, lang)) = record.verdict_reason.as_deref().map(|reason| viewer.lang.reason(reason)) { p.muted lang=(lang) { (reason) } }
            @if owed { p { (t("Pyrus does not have it yet", "В Pyrus его ещё нет")) ": " (viewer.lang.delivery(record.delivery.state)) } }
            @if !todo.is_empty() { p { (todo) } }
            p { a href={ "/calls/" (viewer.call_key(record)) } { (t("Open the call", "Открыть звонок")) } }
        } }
    }
}

fn nearest(viewer: &Viewer, answer: &WhyAnswer) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    html! { div {
        h2 { (t("Nearest attempts", "Ближайшие попытки")) }
        @if answer.nearest.is_empty() { p.muted { (t("None of this number, at any time.", "От этого номера не было ни одной.")) } } @else {
            table role="table" {
                caption.vh { (t("Nearest attempts", "Ближайшие попытки")) }
                thead role="rowgroup" { tr role="row" { @for head in [t("Time", "Время"), t("Seen", "Видно"), t("Call", "Звонок")] {
                    th role="columnheader" scope="col" { (head) } } } }
                tbody role="rowgroup" { @for record in &answer.nearest { tr role="row" {
                    th role="rowheader" scope="row" { (pages::calls::start(record).map(date_time).unwrap_or_default()) }
                    td role="cell" data-l=(t("Seen", "Видно")) { span { (pages::verdict(viewer, record)) } }
                    td role="cell" data-l=(t("Call", "Звонок")) { a href={ "/calls/" (viewer.call_key(record)) } { (t("Open", "Открыть")) } }
                } } }
            }
        }
    } }
}

fn causes(viewer: &Viewer, query: &WhyQuery, answer: &WhyAnswer) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let one_sided = answer.others(&[HeardClass::One, HeardClass::Nothing]);
    let lost = answer.others(&[HeardClass::Lost]);
    let number = super::query::encoded(&query.number);
    html! { div {
        h2 { (t("What can have happened", "Что могло случиться")) }
        ol.list {
            @if answer.calls.is_empty() {
                li { b { (t("The call was at another time or of another number.", "Звонок был в другое время или с другого номера.")) } " "
                    a href={ "/calls?day=all&q=" (number) } { (t("Ask for any time", "Спросить за всё время")) } }
            }
            @if one_sided > 0 { li { b { (viewer.lang.count(one_sided, ["call", "calls"], ["звонок", "звонка", "звонков"])) " "
                (t("of this time lack a side or all sound:", "этого времени без одной стороны или без звука:")) } " "
                (t("the mirror did not copy everything.", "зеркало копировало не всё.")) } }
            @if lost > 0 { li { b { (viewer.lang.count(lost, ["call", "calls"], ["звонок", "звонка", "звонков"])) " "
                (t("were lost by this recorder.", "потеряно этим регистратором.")) } } }
            li { b { (t("It took another way", "Он шёл другим путём")) } " "
                (t("(second trunk, mobile line): not on this mirror.", "(второй транк, мобильная линия): его нет в этом зеркале.")) }
        }
        p.muted.small { (t("Looked at", "Просмотрено в")) " " (clock_time(wall_clock())) }
    } }
}

/// Maximum number of shown calls from or to the requested number.
const MAX_CALLS: u32 = 20;
/// Maximum number of shown calls on each side of the requested range of time: the nearest calls before it, and the
/// nearest calls after it.
const NEAREST: u32 = 3;
